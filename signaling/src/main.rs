//! The `opencall-sfu` server.
//!
//! Exit status: 0 after SIGTERM or SIGINT, 1 when something it needs is not to be had, 2 when the
//! configuration is wrong.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use opencall_signaling::auth::mint;
use opencall_signaling::config::{Config, ConfigError};
use opencall_signaling::log;
use opencall_signaling::server::{self, ServerError};
use opencall_signaling::supervisor;
use opencall_signaling::supervisor::inheritance::Inherited;

const NOT_TO_BE_HAD: u8 = 1;
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == mint::COMMAND) {
        return match mint::mint(std::env::args_os().skip(1)) {
            Ok(token) => {
                println!("{token}");
                ExitCode::SUCCESS
            }
            Err(error) => refuse(&error),
        };
    }
    let mut config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let filter = std::mem::take(&mut config.log);
    let subscriber = log::subscriber(filter, std::io::stderr, std::io::stderr().is_terminal());
    if let Err(error) = tracing::subscriber::set_global_default(subscriber) {
        eprintln!("opencall-sfu: {error}");
    }
    let inherited = match Inherited::find() {
        Ok(None) if config.supervised => return supervise(&config),
        Ok(inherited) => inherited,
        Err(error) => {
            eprintln!("opencall-sfu: {error}");
            return ExitCode::from(NOT_TO_BE_HAD);
        }
    };
    match server::run(config, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opencall-sfu: {error}");
            ExitCode::from(match error {
                ServerError::Control(_) => WRONG_CONFIGURATION,
                _ => NOT_TO_BE_HAD,
            })
        }
    }
}

/// Runs the server as a child.
fn supervise(config: &Config) -> ExitCode {
    match supervisor::run(config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("opencall-sfu: {error}");
            ExitCode::from(NOT_TO_BE_HAD)
        }
    }
}

/// Prints the help that was asked for, or one line that says what is wrong.
fn refuse(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Display(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        error => {
            eprintln!("opencall-sfu: {error}");
            ExitCode::from(WRONG_CONFIGURATION)
        }
    }
}
