//! Runs meetings from seeds; see `scripts/sim`.
#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use opencall_sim::{Outcome, run, trace};

/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Simulates meetings of the whole SFU, one for each seed.
#[derive(Parser)]
struct Options {
    /// How many meetings.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Seed of the first one.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Meetings at a time; without, one for each CPU.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints what happens on the wires and between clients and control.
    #[arg(long)]
    trace: bool,
    /// Writes a line for each meeting.
    #[arg(long)]
    each: bool,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Plants a fault for each checker, and ends well if all are found.
    #[cfg(feature = "planted")]
    #[arg(long)]
    planted: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    #[cfg(feature = "planted")]
    if options.planted {
        return find_planted();
    }
    let jobs = match options.jobs {
        _ if options.trace => 1,
        Some(jobs) => jobs.max(1),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (outcomes, received) = channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let outcomes = outcomes.clone();
            let (options, next, stop) = (&options, &next, &stop);
            scope.spawn(move || work(options, next, stop, &outcomes));
        }
        drop(outcomes);
        report(&options, &received, &stop)
    })
}

/// Takes seeds as long as there are any.
fn work(options: &Options, next: &AtomicU64, stop: &AtomicBool, outcomes: &Sender<(u64, Outcome)>) {
    let run = if options.trace { trace } else { run };
    while !stop.load(Ordering::Relaxed) {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= options.seeds {
            return;
        }
        let seed = options.seed.wrapping_add(index);
        if outcomes.send((seed, run(seed))).is_err() {
            return;
        }
    }
}

/// What all meetings came to.
#[derive(Default)]
struct Sums {
    done: u64,
    failed: u64,
    packets: u64,
    waited: u64,
    lasted: Duration,
    /// Cores that died, and meetings in which some did.
    deaths: u64,
    rough: u64,
    slowest: Duration,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.done += 1;
        self.failed += u64::from(outcome.violation.is_some());
        self.packets += outcome.packets;
        self.waited += outcome.waited;
        self.lasted += outcome.lasted;
        self.deaths += outcome.deaths;
        self.rough += u64::from(outcome.deaths > 0);
        self.slowest = self.slowest.max(outcome.slowest);
    }

    fn print(&self, took: Duration) {
        let Sums { done, failed, packets, waited, deaths, rough, slowest, .. } = self;
        let (hours, minutes) = (self.lasted.as_secs_f64() / 3_600.0, took.as_secs_f64() / 60.0);
        println!(
            "{done} meetings, {failed} failed: {packets} packets opened, {waited} had waited for \
             their pace; {deaths} data cores died in {rough} meetings, all media was back within \
             {slowest:?}\n\
             {hours:.1} hours of virtual time in {minutes:.1} minutes: {:.2} hours per minute",
            hours / minutes
        );
    }
}

fn report(options: &Options, outcomes: &Receiver<(u64, Outcome)>, stop: &AtomicBool) -> ExitCode {
    let began = Instant::now();
    let (mut sums, mut told) = (Sums::default(), began);
    for (seed, outcome) in outcomes {
        sums.add(&outcome);
        if options.each {
            let Outcome { steps, digest, packets, deaths, slowest, lasted, .. } = &outcome;
            println!(
                "seed {seed}: {steps} steps, {packets} packets, {deaths} deaths ({slowest:?}), \
                 {lasted:?}, {digest:016x}"
            );
        }
        if let Some(violation) = &outcome.violation {
            println!("seed {seed}: {violation}\n  again: scripts/sim --seed {seed} --seeds 1");
            stop.store(!options.keep_going, Ordering::Relaxed);
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let end = if std::io::stderr().is_terminal() { "\r" } else { "\n" };
            let (of, Sums { done, failed, .. }) = (options.seeds, &sums);
            let rate = *done as f64 / began.elapsed().as_secs_f64();
            eprint!("{done} of {of} meetings, {rate:.1}/s, {failed} failed{end}");
            let _ = std::io::stderr().flush();
        }
    }
    sums.print(began.elapsed());
    if sums.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "planted")]
fn find_planted() -> ExitCode {
    use opencall_sim::{Violation, canary};
    let mut missed = 0;
    for bug in opencall_dataplane::planted::Bug::ALL {
        let began = Instant::now();
        match canary::find(bug) {
            Ok(found) => {
                let canary::Found { seed, violation } = found;
                let what = violation.what.lines().next().unwrap_or_default();
                let Violation { checker, step, .. } = violation;
                let took = began.elapsed().as_secs_f64();
                println!(
                    "{bug:?}: {checker}, seed {seed}, step {step}, twice; {took:.1} s: {what}"
                );
            }
            Err(what) => {
                missed += 1;
                println!("{what}");
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
