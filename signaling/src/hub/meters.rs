//! What the data cores have done, read once a second: each core is asked for its counters like for
//! any other statistics, and what a dead core had counted stays counted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use opencall_dataplane::message::{Command, CoreId, CoreStats, Stats, StatsQuery};
use opencall_dataplane::threads::Loss;

use crate::gauges::{CoreState, CoreView};

/// Tokens of questions about cores, which control never hands out: it counts from 1.
const TOKENS: u64 = 1 << 63;

/// The meters of all cores, those that are gone among them: one that comes under the number of one
/// that is gone counts on from there.
#[derive(Default)]
pub struct Meters {
    cores: BTreeMap<CoreId, Meter>,
}

#[derive(Default)]
struct Meter {
    view: CoreView,
    /// What the cores before this one had counted.
    earlier: CoreStats,
    last: CoreStats,
}

impl Meters {
    /// Of cores with these ports.
    pub fn new(cores: impl Iterator<Item = (CoreId, u16)>) -> Self {
        let mut meters = Meters::default();
        cores.for_each(|(core, port)| meters.add(core, port));
        meters
    }

    /// A core has come.
    pub fn add(&mut self, core: CoreId, port: u16) {
        let meter = self.cores.entry(core).or_default();
        (meter.view.core, meter.view.port) = (core, port);
        (meter.view.state, meter.view.is_lost) = (CoreState::Running, false);
    }

    /// A core drains, does not any more, or is gone.
    pub fn set_state(&mut self, core: CoreId, state: CoreState) {
        let Some(meter) = self.cores.get_mut(&core) else { return };
        meter.view.state = state;
        if state == CoreState::Removed {
            meter.start_anew();
            meter.view.rest();
        }
    }

    /// The question for a core.
    pub fn question(core: CoreId) -> Command {
        Command::QueryStats { token: TOKENS | u64::from(core.0), of: StatsQuery::Core }
    }

    /// Takes the answer, if it is one to such a question.
    pub fn take(&mut self, token: u64, stats: &Option<Box<Stats>>) -> bool {
        if token & TOKENS == 0 {
            return false;
        }
        let core = u8::try_from(token & !TOKENS).map(CoreId).ok();
        let meter = core.and_then(|core| self.cores.get_mut(&core));
        if let (Some(meter), Some(stats)) = (meter, stats)
            && let Stats::Core(stats) = &**stats
        {
            meter.take_rates(stats);
            meter.last = (**stats).clone();
            meter.view.totals = meter.last.clone();
            meter.view.totals.add_counters(&meter.earlier);
        }
        true
    }

    /// The share of time that a core was busy in the last second.
    pub fn set_busy(&mut self, core: CoreId, busy: f32) {
        if let Some(meter) = self.cores.get_mut(&core) {
            meter.view.busy = busy;
        }
    }

    /// A core is lost.
    pub fn lost(&mut self, loss: &Loss) {
        let Some(meter) = self.cores.get_mut(&loss.core) else { return };
        meter.view.is_lost = true;
        match loss.stalled {
            true => meter.view.stalled += 1,
            false => meter.view.died += 1,
        }
    }

    /// An empty core is in the place of one that was lost.
    pub fn replaced(&mut self, core: CoreId) {
        let Some(meter) = self.cores.get_mut(&core) else { return };
        meter.view.is_lost = false;
        meter.view.recovered += 1;
        meter.start_anew();
    }

    /// What they say now.
    pub fn views(&self) -> Vec<CoreView> {
        self.cores.values().map(|meter| meter.view.clone()).collect()
    }
}

impl Meter {
    /// What was counted stays counted.
    fn start_anew(&mut self) {
        self.earlier.add_counters(&std::mem::take(&mut self.last));
    }

    fn take_rates(&mut self, now: &CoreStats) {
        let seconds = now.at.since(self.last.at).as_secs_f64();
        // After a replacement there is nothing to compare with.
        if seconds <= 0.0 || now.datagrams_received < self.last.datagrams_received {
            return;
        }
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds) as u64;
        let view = &mut self.view;
        view.received_per_second = rate(now.datagrams_received, self.last.datagrams_received);
        view.sent_per_second = rate(now.datagrams_sent, self.last.datagrams_sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_core_had_counted_stays_counted() {
        let mut meters = Meters::new([(CoreId(0), 40_000), (CoreId(1), 40_001)].into_iter());
        let answer = |packets_forwarded, transports| {
            let stats = CoreStats { packets_forwarded, transports, ..CoreStats::default() };
            Some(Box::new(Stats::Core(Box::new(stats))))
        };
        let Command::QueryStats { token, .. } = Meters::question(CoreId(1)) else {
            panic!("a question")
        };
        assert!(!meters.take(1, &answer(9, 9)), "the answer to someone else");
        assert!(meters.take(token, &answer(100, 7)));
        meters.replaced(CoreId(1));
        assert!(meters.take(token, &answer(20, 3)));
        assert!(meters.take(token, &answer(25, 4)));
        let view = meters.views().remove(1);
        assert_eq!((view.totals.packets_forwarded, view.totals.transports), (125, 4));
        assert_eq!((view.port, view.recovered), (40_001, 1));
        meters.set_state(CoreId(1), CoreState::Removed);
        let view = meters.views().remove(1);
        let now = (view.state, view.totals.packets_forwarded, view.totals.transports);
        assert_eq!(now, (CoreState::Removed, 125, 0));
        meters.add(CoreId(1), 40_001);
        assert!(meters.take(token, &answer(10, 1)));
        let view = meters.views().remove(1);
        let now = (view.state, view.totals.packets_forwarded, view.totals.transports);
        assert_eq!(now, (CoreState::Running, 135, 1), "who comes under its number counts on");
    }
}
