//! `opencall-bench page`: a page of a result that was written before.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use opencall_bench::report::page;
use opencall_bench::result::BenchResult;

use super::write;

/// Which result, and where its page goes.
#[derive(clap::Args)]
pub struct Args {
    /// The result.
    result: PathBuf,
    /// Its page.
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

/// Writes the page.
///
/// # Errors
/// Why it cannot.
pub fn run(args: &Args) -> Result<(), String> {
    write(&args.html, &page::html(&BenchResult::read(&args.result)?))
}
