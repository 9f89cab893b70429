//! Flags of a link that changes, is shared, and tells what it was.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use opencall_bench::link::{Direction, RelayConfig};
use opencall_emulator::{Cross, Rate};

use super::link_flags::LinkFlags;

/// What a relay's link is, each way.
#[derive(clap::Args)]
pub struct PathFlags {
    /// Bottleneck on the way to the server, in place of --rate-kbps: a file with a line of seconds
    /// and kbit/s for each change, from second 0 on.
    #[arg(long, value_name = "FILE")]
    schedule_up: Option<PathBuf>,
    /// The same on the way to clients.
    #[arg(long, value_name = "FILE")]
    schedule_down: Option<PathBuf>,
    /// Bottleneck on the way to the server as a Mahimahi trace: a file with the millisecond of an
    /// opportunity to send 1500 bytes on each line; after the last one it begins anew.
    #[arg(long, value_name = "FILE", conflicts_with = "schedule_up")]
    trace_up: Option<PathBuf>,
    /// The same on the way to clients.
    #[arg(long, value_name = "FILE", conflicts_with = "schedule_down")]
    trace_down: Option<PathBuf>,
    /// Others' traffic through the queue on the way to the server, as often as there are flows:
    /// udp:KBPS, tcp, or tcp-short (transfers of 100 kB to 1 MB with pauses).
    #[arg(long, value_name = "FLOW", value_parser = Cross::parse)]
    cross_up: Vec<Cross>,
    /// The same on the way to clients.
    #[arg(long, value_name = "FLOW", value_parser = Cross::parse)]
    cross_down: Vec<Cross>,
    /// All clients are behind one link instead of each behind its own.
    #[arg(long)]
    shared: bool,
}

impl PathFlags {
    /// The whole link.
    ///
    /// # Errors
    /// Which file cannot be read, or what is wrong with it.
    pub fn relay(&self, link: &LinkFlags, seed: u64) -> Result<RelayConfig, String> {
        let rate = |schedule: &Option<PathBuf>, trace: &Option<PathBuf>| match (schedule, trace) {
            (Some(path), _) => read(path, Rate::parse_steps).map(Some),
            (_, Some(path)) => read(path, Rate::parse_trace).map(Some),
            (None, None) => Ok(None),
        };
        let up_rate = rate(&self.schedule_up, &self.trace_up)?;
        let down_rate = rate(&self.schedule_down, &self.trace_down)?;
        let up = Direction { link: link.up(), rate: up_rate, cross: self.cross_up.clone() };
        let down = Direction { link: link.down(), rate: down_rate, cross: self.cross_down.clone() };
        for (way, direction) in [("up", &up), ("down", &down)] {
            let has_rate = direction.rate.is_some() || direction.link.rate_bps.is_some();
            if !direction.cross.is_empty() && !has_rate {
                return Err(format!(
                    "--cross-{way} needs a bottleneck: give --rate-kbps, --schedule-{way} or \
                     --trace-{way}"
                ));
            }
        }
        Ok(RelayConfig { up, down, shared: self.shared, seed })
    }
}

fn read(path: &Path, parse: impl Fn(&str) -> Result<Rate, String>) -> Result<Rate, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| parse(&text)).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        link: LinkFlags,
        #[command(flatten)]
        path: PathFlags,
    }

    fn relay(flags: &[&str]) -> Result<RelayConfig, String> {
        let flags = Flags::try_parse_from([&["link"], flags].concat()).expect("they can be read");
        flags.path.relay(&flags.link, 1)
    }

    #[test]
    fn files_are_read_and_errors_name_them() {
        let path = std::env::temp_dir().join(format!("schedule-{}", std::process::id()));
        let name = path.to_str().expect("a name");
        std::fs::write(&path, "0 1000\n5 400\n").expect("it can be written");
        let config = relay(&["--schedule-down", name, "--cross-down", "tcp"]).expect("it is right");
        assert_eq!(config.down.rate, Rate::parse_steps("0 1000\n5 400").ok());
        assert_eq!((config.up.rate, config.down.cross), (None, vec![Cross::Tcp]));
        let said = relay(&["--trace-up", name]).unwrap_err();
        assert!(said.contains(name) && said.contains("line 1"), "{said}");
        std::fs::remove_file(&path).expect("it is there");
        let said = relay(&["--trace-up", name]).unwrap_err();
        assert!(said.contains(name) && !said.contains('\n'), "{said}");
    }

    #[test]
    fn cross_traffic_needs_a_bottleneck() {
        let said = relay(&["--cross-up", "tcp"]).unwrap_err();
        assert!(said.contains("--cross-up needs a bottleneck"), "{said}");
        assert!(relay(&["--cross-up", "tcp", "--rate-kbps", "500"]).is_ok());
    }
}
