//! Leads a run through its phases: people gather, streams settle, and it is measured.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Moves};
use super::load::{Load, Orders};
use super::meter::Meter;
use super::minutes::Minutes;
use super::options::RunOptions;
use super::outcome;
use super::sums::Sums;
use super::{SETTLE_SECONDS, Shares};
use crate::client::tally::Tally;
use crate::ramp::Streak;
use crate::result::{BenchResult, Second};
use crate::scenario::{Fault, Scenario};

/// Everyone must have come within this time beyond what their rate needs.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// The engine reports every second; one that says nothing for so long has ended.
pub(super) const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the last ones have come: who waits for them must not take the CPU
/// that they need.
const GATHER_POLL: Duration = Duration::from_millis(10);

/// The engine's seconds are not exact: the one that ends nearest to the end is the last.
const HALF_SECOND_NS: u64 = 500_000_000;

/// See the module.
pub(super) struct Director<'a> {
    pub(super) options: &'a RunOptions,
    pub(super) shares: &'a Shares,
    pub(super) crowd: Crowd,
    /// How a ramp's load is borne.
    pub(super) streak: Streak,
    /// What is known so far.
    pub(super) result: BenchResult,
    on_second: &'a mut dyn FnMut(&Second),
    pub(super) load: Load,
    meter: Meter,
    /// The process that faults are done to.
    pub(super) server_pid: Option<u32>,
    minutes: Minutes,
    /// The measured seconds since the last measurement began.
    measured: Tally,
}

impl<'a> Director<'a> {
    /// Leads this load against the server of these processes.
    pub(super) fn new(
        options: &'a RunOptions,
        shares: &'a Shares,
        (load, orders): (Load, Orders),
        pids: Vec<u32>,
        on_second: &'a mut dyn FnMut(&Second),
    ) -> Self {
        Director {
            options,
            shares,
            crowd: Crowd::new(orders, options),
            streak: Streak::default(),
            result: BenchResult::default(),
            on_second,
            load,
            server_pid: pids.first().copied(),
            meter: Meter::new(pids),
            minutes: Minutes::default(),
            measured: Tally::default(),
        }
    }

    /// Leads through the scenario and sends everyone home; what was measured.
    pub(super) fn direct(mut self) -> Result<(BenchResult, Sums), String> {
        let RunOptions { scenario, duration, .. } = *self.options;
        self.result.rss_start_bytes = self.meter.rss_bytes();
        if scenario == Scenario::Ramp {
            self.climb()?;
        } else {
            self.gather(self.options.people())?;
            self.settle()?;
        }
        let sums = match scenario {
            Scenario::JoinStorm => self.storm()?,
            Scenario::Flood => self.flood()?,
            Scenario::Churn => self.measure(duration, Moves::Exchange)?,
            Scenario::KillCore => self.faults(Fault::Death)?,
            Scenario::StallCore => self.faults(Fault::Stall)?,
            _ => self.measure(duration, Moves::None)?,
        };
        if scenario == Scenario::Churn {
            self.result.joins_per_second = sums.joins_per_second();
        }
        Ok((self.finish()?, sums))
    }

    /// Lets people in until `wanted` have come, or until a ramp is in ruins.
    pub(super) fn gather(&mut self, wanted: u32) -> Result<(), String> {
        let interval = self.options.join_interval();
        let (begun, first) = (Instant::now(), self.crowd.entered());
        let deadline = begun + interval * wanted.saturating_sub(first) + JOIN_PATIENCE;
        while !self.is_ruined() {
            let now = Instant::now();
            let due = begun + interval * (self.crowd.entered() - first);
            let is_next_missing = self.crowd.entered() < wanted;
            if is_next_missing && now >= due {
                self.crowd.enter();
                continue;
            }
            let (joined, failed) = (self.joined(), self.failed());
            if joined + failed >= u64::from(wanted) {
                if joined == 0 && wanted > 0 {
                    return Err(format!("nobody could join{}", self.why_failed()));
                }
                let came = joined.saturating_sub(u64::from(first));
                self.result.joins_per_second =
                    came as f64 / begun.elapsed().as_secs_f64().max(0.001);
                return Ok(());
            }
            if now > deadline {
                let why = self.why_failed();
                return Err(format!("only {joined} of {wanted} have joined in time{why}"));
            }
            let soon = now + GATHER_POLL;
            self.second(if is_next_missing { due.min(soon) } else { soon }, false)?;
        }
        Ok(())
    }

    /// Waits until no more streams come, and until the run is as old as it is to be.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + JOIN_PATIENCE;
        let (mut calm, mut known) = (0, 0);
        while (calm < SETTLE_SECONDS && Instant::now() < deadline)
            || self.meter.started().elapsed() < self.options.warm_up
        {
            while !self.second(Instant::now() + ENGINE_PATIENCE, false)? {}
            let streams = self.load.progress.streams.load(Ordering::Relaxed);
            calm = if streams == known { calm + 1 } else { 0 };
            known = streams;
        }
        Ok(())
    }

    /// Measures whole seconds of the engine, while people come and go.
    pub(super) fn measure(&mut self, duration: Duration, moves: Moves) -> Result<Sums, String> {
        let (joined, first_ns) = (self.joined(), self.meter.at_ns());
        let (begun, before) = (Instant::now(), self.meter.read());
        let end_ns = first_ns + duration.as_nanos() as u64 - HALF_SECOND_NS;
        let deadline = begun + duration + ENGINE_PATIENCE;
        let interval = self.options.join_interval();
        let mut next_move = if moves == Moves::None { deadline } else { begun };
        while self.meter.at_ns() < end_ns {
            let now = Instant::now();
            if now > deadline {
                return Err("the generator cannot keep up: give it fewer participants".into());
            }
            if now >= next_move {
                next_move += interval;
                self.crowd.make(moves, now);
                continue;
            }
            self.second(next_move, true)?;
        }
        let elapsed_s = (self.meter.at_ns() - first_ns) as f64 / 1e9;
        Ok(Sums {
            tally: std::mem::take(&mut self.measured),
            usage: self.meter.since(&before, elapsed_s),
            joined: self.joined() - joined,
        })
    }

    /// Waits for the engine's next second, but not beyond `until`; whether it came.
    pub(super) fn second(&mut self, until: Instant, measured: bool) -> Result<bool, String> {
        let Some(tally) = self.load.next_tally(until)? else { return Ok(false) };
        let second = self.meter.second(&tally, self.present(), measured);
        if measured {
            self.measured.merge(&tally);
            self.minutes.add(&tally, &second);
        }
        self.streak.add(self.options.ramp.pressure(&second));
        (self.on_second)(&second);
        self.result.seconds.push(second);
        match self.meter.ended_process() {
            Some(pid) => Err(format!("the server's process {pid} has ended during the run")),
            None => Ok(true),
        }
    }

    /// Whether this is a ramp, and it is of no use to let more in.
    pub(super) fn is_ruined(&self) -> bool {
        self.options.scenario == Scenario::Ramp && self.streak.is_ruined()
    }

    /// How many have ever come.
    fn joined(&self) -> u64 {
        load(&self.load.progress.joined)
    }

    /// How many are there.
    pub(super) fn present(&self) -> u64 {
        load(&self.load.progress.present)
    }

    /// How many could not come, or were thrown out.
    pub(super) fn failed(&self) -> u64 {
        load(&self.load.progress.failed)
    }

    /// The first reason, to be put behind what it explains.
    fn why_failed(&self) -> String {
        let reason = self.load.progress.first_failure.get();
        reason.map_or(String::new(), |reason| format!(": {reason}"))
    }

    /// Sends everyone home.
    fn finish(mut self) -> Result<BenchResult, String> {
        let (participants, failed_joins) = (self.present(), self.failed());
        let why_failed = self.why_failed();
        let (progress, result) = (&self.load.progress, &mut self.result);
        (result.participants, result.failed_joins) = (participants, failed_joins);
        result.srtp_profile = progress.srtp_profile.get().map(|profile| format!("{profile:?}"));
        result.streams = load(&progress.streams);
        result.minutes = self.minutes.finish();
        if let Some(rss_bytes) = self.meter.rss_bytes() {
            outcome::judge_memory(result, self.options.scenario, rss_bytes);
        }
        let refused = load(&progress.failed_consumes);
        if refused > 0 {
            result.notes.push(format!("{refused} requests to consume were refused"));
        }
        if failed_joins > 0 {
            result.verdicts.push(format!("the first who could not join or stay{why_failed}"));
        }
        self.load.stop()?;
        Ok(self.result)
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
