//! Reads what processes take, and makes of each tally of the media thread a second of the result.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::sums::Usage;
use crate::client::tally::Tally;
use crate::result::Second;
use crate::server::{CpuTime, Watch, machine_busy_s};

/// Reads the server, the generator and the machine.
pub(super) struct Meter {
    server: Watch,
    has_server: bool,
    generator: Watch,
    started: Instant,
    /// When the last second ended, on the media thread's clock; 0 before the first.
    at_ns: u64,
    last_generator: CpuTime,
}

/// What everyone had taken at a moment.
pub(super) struct Reading {
    at: Instant,
    server: CpuTime,
    server_sleeps: u64,
    generator: CpuTime,
    machine_s: f64,
}

impl Meter {
    /// Reads these processes of the server, and our own.
    pub(super) fn new(pids: Vec<u32>) -> Self {
        let generator = Watch::new(vec![std::process::id()]);
        Meter {
            has_server: !pids.is_empty(),
            server: Watch::new(pids),
            last_generator: generator.cpu(),
            generator,
            started: Instant::now(),
            at_ns: 0,
        }
    }

    /// When the last second ended, on the media thread's clock.
    pub(super) fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// When the run began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Resident memory of the server, if its processes are known.
    pub(super) fn rss_bytes(&self) -> Option<u64> {
        self.has_server.then(|| self.server.rss_bytes())
    }

    /// A process of the server that is no more.
    pub(super) fn ended_process(&self) -> Option<u32> {
        self.server.ended()
    }

    /// What everyone has taken by now.
    pub(super) fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            server: self.server.cpu(),
            server_sleeps: self.server.sleeps(),
            generator: self.generator.cpu(),
            machine_s: machine_busy_s(),
        }
    }

    /// What everyone took since `before`, in which the media thread counted `elapsed_s` seconds.
    pub(super) fn since(&self, before: &Reading, elapsed_s: f64) -> Usage {
        let now = self.read();
        let server = now.server.since(before.server);
        let generator_s = now.generator.since(before.generator).total_s();
        let wall_s = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let others_s = now.machine_s - before.machine_s - generator_s - server.total_s();
        Usage {
            elapsed_s,
            server: self.has_server.then_some(server),
            sleeps: now.server_sleeps.saturating_sub(before.server_sleeps),
            generator_s: generator_s / wall_s * elapsed_s,
            other_cpu: self.has_server.then_some((others_s / wall_s).max(0.0)),
        }
    }

    /// The second that a tally ends.
    pub(super) fn second(&mut self, tally: &Tally, participants: u64, measured: bool) -> Second {
        let seconds = match self.at_ns {
            0 => 1.0,
            last => (tally.at_ns.saturating_sub(last) as f64 / 1e9).max(0.001),
        };
        let generator = self.generator.cpu();
        let taken = generator.since(self.last_generator);
        (self.at_ns, self.last_generator) = (tally.at_ns, generator);
        let latency_us = tally.latency.percentiles_us();
        Second {
            t: self.started.elapsed().as_secs_f64(),
            measured,
            participants,
            packets_per_s: tally.received as f64 / seconds,
            sent_packets_per_s: tally.sent as f64 / seconds,
            bits_per_s: tally.bytes as f64 * 8.0 / seconds,
            lost: tally.lost(),
            latency_p50_us: latency_us.p50,
            latency_p99_us: latency_us.p99,
            threads: self.server.threads(seconds),
            generator_cpu: taken.total_s() / seconds,
            rss_bytes: self.server.rss_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_tallies() {
        let mut meter = Meter::new(Vec::new());
        let tally = |at_ns, received| Tally { at_ns, received, bytes: 100, ..Tally::default() };
        assert_eq!(meter.second(&tally(5_000_000_000, 300), 2, false).packets_per_s, 300.0);
        let late = meter.second(&tally(7_000_000_000, 300), 3, true);
        assert_eq!((late.packets_per_s, late.bits_per_s), (150.0, 400.0));
        assert_eq!((late.participants, late.measured), (3, true));
        assert_eq!(meter.at_ns(), 7_000_000_000);
    }

    #[test]
    fn a_server_whose_processes_are_not_known_takes_nothing_that_is_known() {
        let (blind, seeing) = (Meter::new(Vec::new()), Meter::new(vec![std::process::id()]));
        let usage = blind.since(&blind.read(), 1.0);
        assert_eq!((usage.server, usage.other_cpu, blind.rss_bytes()), (None, None, None));
        let usage = seeing.since(&seeing.read(), 1.0);
        assert!(usage.server.is_some() && usage.other_cpu.is_some_and(|cpu| cpu >= 0.0));
        assert!(seeing.rss_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
