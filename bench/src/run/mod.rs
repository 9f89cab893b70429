//! One run: a server, participants that come, a measured time, a result.
//!
//! * `options` — what is asked for.
//! * `load` — the threads of the participants; `crowd` — who of them is there.
//! * `director` — the phases: gathering, settling, measuring; `climb`, `storm`, `flood` and
//!   `faults` — those that only a ramp, a storm of joins, strangers and dying data cores have.
//! * `meter` — every second what everyone takes; `sums`, `minutes` — what seconds add up to.
//! * `outcome` — the result that becomes of it.
#![forbid(unsafe_code)]

use self::director::Director;
use self::load::Load;
pub use self::options::RunOptions;
use crate::result::{BenchResult, Second};
use crate::server::{Server, ServerOptions, allowed_cpus, pin};

mod climb;
mod crowd;
mod director;
mod faults;
mod flood;
mod load;
mod meter;
mod minutes;
mod options;
mod outcome;
mod storm;
mod sums;

/// Seconds in which no stream comes, before the first measured one: key frames and layers settle.
/// The server looks at layers once a second, and has senders stop those that nobody has taken for
/// three.
pub const SETTLE_SECONDS: u32 = 6;

/// Runs, and tells `on_second` of every second.
///
/// # Errors
/// What kept the run from being one, in words.
pub fn run(
    options: &RunOptions,
    on_second: &mut dyn FnMut(&Second),
) -> Result<BenchResult, String> {
    let shares = Shares::of(options);
    let (mut server, url, pids) = match &options.target {
        Some(url) => (None, url.clone(), options.pids.clone()),
        None => {
            let server = start_server(options, &shares)?;
            let (url, pids) = (server.url.clone(), vec![server.pid()]);
            (Some(server), url, pids)
        }
    };
    if !shares.load.is_empty() {
        pin(&shares.load)?;
    }
    let load = Load::start(url.clone(), options)?;
    let director = Director::new(options, &shares, load, pids, on_second);
    let (mut result, sums) =
        director.direct().map_err(|reason| match server.as_mut().and_then(Server::obituary) {
            Some(how) => format!("{reason}: {how}"),
            None => reason,
        })?;
    let counters = server.map(Server::stop);
    outcome::complete(&mut result, &sums, counters.as_ref());
    outcome::describe(&mut result, options, &url);
    if options.floor {
        outcome::add_floor(&mut result, shares)?;
    }
    Ok(result)
}

fn start_server(options: &RunOptions, shares: &Shares) -> Result<Server, String> {
    let cpus = if options.pin { shares.server.clone() } else { options.server.cpus.clone() };
    let stage_from = options.scenario.stage_from();
    let mut server = ServerOptions { cpus, stage_from, ..options.server.clone() };
    if options.scenario.fault().is_some() {
        server.more.push("--debug-faults".to_owned());
    }
    Server::start(&server)
}

/// The CPUs of the server and those of the load; both empty where nobody is to have its own.
struct Shares {
    server: Vec<usize>,
    load: Vec<usize>,
}

impl Shares {
    fn of(options: &RunOptions) -> Self {
        if !options.pin || options.target.is_some() {
            return Shares { server: Vec::new(), load: Vec::new() };
        }
        Self::split(&allowed_cpus(), options.server.workers)
    }

    /// The load takes the first CPUs, the server as many as it has data cores, and one for control
    /// where the load has two besides: one for media, one for signaling. With one CPU they share
    /// it.
    fn split(all: &[usize], workers: usize) -> Self {
        if all.len() < 2 {
            return Shares { server: Vec::new(), load: Vec::new() };
        }
        let server = workers + usize::from(all.len() >= workers + 3);
        let (load, server) = all.split_at(all.len().saturating_sub(server).max(1));
        Shares { server: server.to_vec(), load: load.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_has_a_cpu_of_its_own_where_there_are_enough() {
        for (cpus, workers, load, server) in [
            (1, 1, 0, 0),
            (2, 1, 1, 1),
            (3, 1, 2, 1),
            (4, 1, 2, 2),
            (4, 2, 2, 2),
            (16, 4, 11, 5),
            (2, 4, 1, 1),
        ] {
            let all: Vec<usize> = (0..cpus).collect();
            let shares = Shares::split(&all, workers);
            let found = (shares.load.len(), shares.server.len());
            assert_eq!(found, (load, server), "{cpus} CPUs, {workers} data cores");
        }
    }
}
