//! The command line: each subcommand has a file, with what it takes and what it does.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod compare;
mod floor;
mod link;
mod link_flags;
mod page;
mod path_flags;
mod ramp_flags;
mod run;
mod versus;

/// Load and link tools for WebRTC media servers.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put a bad link between clients and a server: a UDP relay with loss, delay and a bottleneck.
    Link(link::Args),
    /// Put participants against a server and measure: without --target, one that is started here.
    Run(Box<run::Args>),
    /// Measure this server and another one under the same load, in turns.
    Versus(versus::Args),
    /// Measure what sealing and sending alone cost.
    Floor(floor::Args),
    /// Compare two results: a table of ratios, and which is better.
    Compare(compare::Args),
    /// Draw a result that was written before as a page.
    Page(page::Args),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// One line: what is wrong and what to do.
    pub fn execute(self) -> Result<(), String> {
        match self.command {
            Command::Link(args) => link::run(&args),
            Command::Run(args) => run::run(*args),
            Command::Versus(args) => versus::run(args),
            Command::Floor(args) => floor::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Page(args) => page::run(&args),
        }
    }
}

/// Writes a file.
fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A length of time as people write it: `20s`, `5m`, `500`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        "" => return Err("expected a number, as in 20s or 5m".into()),
        number => (number, &text[number.len()..]),
    };
    let unit = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit}: use s, m or h")),
    };
    let seconds: f64 = number.parse().map_err(|_| format!("{number} is no number"))?;
    if !(1.0..=1e6).contains(&(seconds * unit)) {
        return Err("a run takes at least a second and at most 11 days".into());
    }
    Ok(Duration::from_secs_f64(seconds * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        for (text, seconds) in [("20s", 20), ("5m", 300), ("500", 500), ("1.5h", 5400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "s", "20d", "0", "1e9", "NaN", "-5s", "20 s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
