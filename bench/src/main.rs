//! `opencall-bench`: what stands between or against a server to measure it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    match cli::Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opencall-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
