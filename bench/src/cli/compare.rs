//! `opencall-bench compare`: two results side by side.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use opencall_bench::report::compare;
use opencall_bench::result::BenchResult;

use super::write;

/// Which results.
#[derive(clap::Args)]
pub struct Args {
    /// The first result: what is compared with.
    a: PathBuf,
    /// The second result.
    b: PathBuf,
    /// Write the comparison as a page, too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Compare even if scenario or size differ.
    #[arg(long)]
    anyway: bool,
}

/// Prints the comparison.
///
/// # Errors
/// Why there is none.
pub fn run(args: &Args) -> Result<(), String> {
    let (a, b) = (BenchResult::read(&args.a)?, BenchResult::read(&args.b)?);
    if let Some(reason) = compare::unlike(&a, &b).filter(|_| !args.anyway) {
        return Err(reason);
    }
    let (first, second) = (args.a.display().to_string(), args.b.display().to_string());
    let names = (first.as_str(), second.as_str());
    print!("{}", compare::table(names, &a, &b));
    match &args.html {
        Some(path) => write(path, &compare::html(names, &a, &b)),
        None => Ok(()),
    }
}
