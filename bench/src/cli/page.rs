//! `opencall-bench page`: a page of a result that was written before.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use opencall_bench::report::{page, versus};
use opencall_bench::result::BenchResult;
use opencall_bench::versus::Comparison;

use super::write;

/// Which result, and where its page goes.
#[derive(clap::Args)]
pub struct Args {
    /// The result of a run, or of a comparison with another server.
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
    let page = match Comparison::read(&args.result)? {
        Some(comparison) => versus::html(&comparison),
        None => page::html(&BenchResult::read(&args.result)?),
    };
    write(&args.html, &page)
}
