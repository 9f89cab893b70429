//! The path to one client that gives transport-wide feedback: what is estimated of it, and when
//! that calls for another allocation.
//!
//! An estimate moves with every feedback, layers seldom. So each allocation leaves two numbers
//! behind: below the one what is sent no longer fits, above the other something more would. A rise
//! counts only when it has lasted, or when a probe has proven it: an estimate that swings round the
//! rate of a layer would otherwise cost a key frame each time.
//!
//! Worked trace, a client that gets 500 kbit/s of a producer that also has 1500:
//!
//! ```text
//! allocation   down at 476 (500 / 1.05)      up at 1650 (1500 · 1.1)
//! 10.00 s      estimate 1700                 least of the last 2.5 s: 900, nothing happens
//! 12.50 s      estimate 1680                 least of the last 2.5 s: 1660, up
//! 14.00 s      estimate 1350                 below 1428 (1500 / 1.05), down in the same turn
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use crate::congestion::{Config, Demand, Estimator};
use crate::egress::prober::Prober;

/// The least estimate of the last 2.5 s counts for a rise: five whole slots and the one at hand.
const SLOT: Duration = Duration::from_millis(500);
const SLOTS: usize = 6;

/// Time between two allocations that raise: each looks at all of a transport's consumers.
const RISE_INTERVAL: Duration = Duration::from_millis(100);

/// The estimator is looked at no more often than this; its timeouts are of tenths of a second.
const TICK: Duration = Duration::from_millis(10);

/// While all that is wanted finds no room and nothing leaves, a packet so often: feedback on it is
/// what lets the estimate move again.
const TRICKLE: Duration = Duration::from_millis(200);

/// What a transport may be sent, bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// For what is sent already.
    pub now_bps: u64,
    /// For what would be sent beside it.
    pub lasting_bps: u64,
    /// Rate that must be free for a rise, in percent of what the layer takes.
    pub headroom_percent: u64,
}

/// How much more than its measured rate a layer above the current one must find free, in percent,
/// of a fixed budget: without it, a rate that hovers at the budget makes layers flap, each time at
/// the price of a key frame.
const FIXED_HEADROOM_PERCENT: u64 = 120;

/// The same of an estimated one, where time and probes guard against flapping too.
const ESTIMATED_HEADROOM_PERCENT: u64 = 110;

/// Of the most that a client is sent so much is given to pictures and voices, percent. All of it
/// would leave nothing for headers that are added, retransmissions and key frames: what does not
/// fit below that bound waits, and more and more would. An estimate is exceeded by a tenth
/// ([`crate::egress::pace`]), and grows where the path carries that.
const OF_MOST_PERCENT: u64 = 92;

impl Budget {
    /// Of a transport whose path nobody estimates.
    pub fn fixed(bps: u64) -> Self {
        Budget { now_bps: bps, lasting_bps: bps, headroom_percent: FIXED_HEADROOM_PERCENT }
    }

    /// What is left of it when so much is taken.
    pub fn without(self, bps: u64) -> Self {
        let left = |budget: u64| budget.saturating_sub(bps);
        Budget {
            now_bps: left(self.now_bps),
            lasting_bps: left(self.lasting_bps),
            headroom_percent: self.headroom_percent,
        }
    }

    /// No more of it than so much.
    pub fn capped(self, bps: u64) -> Self {
        Budget {
            now_bps: self.now_bps.min(bps),
            lasting_bps: self.lasting_bps.min(bps),
            headroom_percent: self.headroom_percent,
        }
    }
}

/// What an allocation came to, bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Below this estimate what is sent does not fit.
    pub down_at_bps: u64,
    /// Above this one more would be sent.
    pub up_at_bps: u64,
    /// All that is wanted.
    pub wanted_bps: u64,
    /// What the next better layer takes beyond what is sent.
    pub upgrade_bps: Option<u64>,
    /// Whether some picture arrives and none found room.
    pub is_starved: bool,
}

impl Outcome {
    /// The same where nothing more would be sent, however much the path carried.
    pub fn without_rise(self) -> Self {
        Outcome { up_at_bps: u64::MAX, upgrade_bps: None, is_starved: false, ..self }
    }
}

/// What is told of a path to control, bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// The estimate.
    pub available_bps: u32,
    /// All that the client could be sent.
    pub desired_bps: u32,
}

/// What is known of the path to one client.
#[derive(Debug, Clone)]
pub struct Path {
    pub(crate) estimator: Estimator,
    pub(crate) prober: Prober,
    lasting: Lasting,
    outcome: Outcome,
    allocated_at: Time,
    ticked_at: Time,
    reported: Bandwidth,
}

impl Path {
    /// Of a transport that is sent `max_bps` at most. Of a path that a core before has estimated,
    /// `known_bps` is what it came to.
    pub fn new(now: Time, max_bps: u32, known_bps: Option<u64>, prober: Prober) -> Self {
        let mut config = Config { max_bps: f64::from(max_bps), ..Config::default() };
        if let Some(bps) = known_bps {
            config.start_bps = bps as f64;
        }
        let estimator = Estimator::new(config);
        Path {
            lasting: Lasting::new(now, estimator.target_bps()),
            prober,
            outcome: Outcome {
                down_at_bps: 0,
                up_at_bps: u64::MAX,
                wanted_bps: 0,
                upgrade_bps: None,
                is_starved: false,
            },
            allocated_at: Time::ZERO,
            ticked_at: Time::ZERO,
            reported: Bandwidth::default(),
            estimator,
        }
    }

    /// What may be sent now.
    pub fn budget(&mut self, now: Time) -> Budget {
        let now_bps = self.estimator.target_bps();
        let lasting_bps = self.lasting.least(now, now_bps).max(self.estimator.probed_bps());
        let most_bps = self.estimator.max_bps() * OF_MOST_PERCENT / 100;
        let headroom_percent = ESTIMATED_HEADROOM_PERCENT;
        Budget { now_bps, lasting_bps, headroom_percent }.capped(most_bps)
    }

    /// Takes what an allocation came to.
    pub fn on_allocated(&mut self, now: Time, outcome: Outcome) {
        self.allocated_at = now;
        self.outcome = outcome;
        let wanted_bps = outcome.wanted_bps as f64;
        let upgrade_bps = outcome.upgrade_bps.map(|bps| bps as f64);
        self.estimator.set_starved(outcome.is_starved);
        self.estimator.set_demand(now, Demand { wanted_bps, upgrade_bps });
    }

    /// Whether the estimate has crossed what the last allocation was made for.
    pub fn calls_for_allocation(&mut self, now: Time) -> bool {
        let Budget { now_bps, lasting_bps, .. } = self.budget(now);
        let rises = lasting_bps >= self.outcome.up_at_bps;
        now_bps < self.outcome.down_at_bps || rises && now.since(self.allocated_at) >= RISE_INTERVAL
    }

    /// Lets the estimator look at the time, if it is time for that; whether the estimate changes.
    pub fn tick(&mut self, now: Time) -> bool {
        if now.since(self.ticked_at) < TICK {
            return false;
        }
        self.ticked_at = now;
        self.estimator.on_tick(now).is_some()
    }

    /// Whether a packet is to leave for nothing but the feedback on it.
    pub fn is_starved(&self, now: Time) -> bool {
        self.wants_more() && now.since(self.estimator.last_sent()) >= TRICKLE
    }

    /// When there is something to do, if nothing arrives.
    pub fn next_due(&self, now: Time) -> Time {
        if let Some(due) = self.prober.next_due(now) {
            return due;
        }
        let due = self.estimator.next_wakeup().unwrap_or(Time::NEVER).max(self.ticked_at + TICK);
        let trickle = self.estimator.last_sent().max(self.ticked_at) + TRICKLE;
        if self.wants_more() { due.min(trickle) } else { due }
    }

    /// What is to be told of the path, if it is another than before by a twentieth.
    pub fn changed_bandwidth(&mut self) -> Option<Bandwidth> {
        let clamped = |bps: u64| u32::try_from(bps).unwrap_or(u32::MAX);
        let fresh = Bandwidth {
            available_bps: clamped(self.estimator.target_bps()),
            desired_bps: clamped(self.outcome.wanted_bps),
        };
        let old = self.reported;
        let differs = |new: u32, old: u32| new.abs_diff(old) > old / 20;
        let changed = differs(fresh.available_bps, old.available_bps)
            || differs(fresh.desired_bps, old.desired_bps);
        changed.then(|| {
            self.reported = fresh;
            fresh
        })
    }

    fn wants_more(&self) -> bool {
        self.outcome.wanted_bps > self.estimator.target_bps()
    }
}

/// The least estimate of the last seconds.
#[derive(Debug, Clone)]
struct Lasting {
    /// The least in each slot, oldest first.
    slots: [u64; SLOTS],
    /// When the newest slot began, and the newest estimate.
    began: Time,
    newest_bps: u64,
}

impl Lasting {
    fn new(now: Time, bps: u64) -> Self {
        Lasting { slots: [bps; SLOTS], began: now, newest_bps: bps }
    }

    /// Takes the estimate of now and returns the least.
    fn least(&mut self, now: Time, bps: u64) -> u64 {
        let passed = now.since(self.began).as_nanos() / SLOT.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        for _ in 0..passed.min(SLOTS as u32) {
            self.slots.rotate_left(1);
            self.slots[SLOTS - 1] = self.newest_bps;
        }
        self.began = self.began + SLOT * passed;
        self.newest_bps = bps;
        self.slots[SLOTS - 1] = self.slots[SLOTS - 1].min(bps);
        self.slots.iter().copied().min().unwrap_or(bps)
    }
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtp::extension::ExtensionIds;

    use super::*;
    use crate::checkpoint::Lease;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn path() -> Path {
        let checkpoint = Lease::default();
        Path::new(at(1_000), 6_000_000, None, Prober::new(&ExtensionIds::default(), 7, &checkpoint))
    }

    #[test]
    fn a_rise_counts_when_it_has_lasted_and_a_fall_at_once() {
        let mut lasting = Lasting::new(at(10_000), 600);
        for ms in (10_000..12_900).step_by(60) {
            assert_eq!(lasting.least(at(ms), 900), 600, "at {ms}");
        }
        assert_eq!(lasting.least(at(13_000), 900), 900);
        assert_eq!(lasting.least(at(13_010), 400), 400);
        assert_eq!(lasting.least(at(13_020), 900), 400);
        assert_eq!(lasting.least(at(15_900), 900), 400);
        assert_eq!(lasting.least(at(16_000), 900), 900);
        // Silence: what was estimated last still holds.
        assert_eq!(lasting.least(at(99_000), 1_000), 900);
    }

    #[test]
    fn the_estimate_calls_for_an_allocation_when_it_crosses_a_threshold() {
        let mut path = path();
        assert_eq!(path.budget(at(1_000)).now_bps, 600_000);
        let outcome = |down_at_bps, up_at_bps| Outcome {
            down_at_bps,
            up_at_bps,
            wanted_bps: 2_000_000,
            upgrade_bps: Some(100_000),
            is_starved: false,
        };
        path.on_allocated(at(1_000), outcome(500_000, 700_000));
        assert!(!path.calls_for_allocation(at(5_000)));
        path.on_allocated(at(5_000), outcome(600_001, 700_000));
        assert!(path.calls_for_allocation(at(5_000)), "what is sent no longer fits");
        path.on_allocated(at(5_000), outcome(0, 600_000));
        assert!(!path.calls_for_allocation(at(5_099)), "ten times a second at most");
        assert!(path.calls_for_allocation(at(5_100)));
    }

    #[test]
    fn what_is_told_has_changed_by_a_twentieth() {
        let mut path = path();
        let told = Bandwidth { available_bps: 600_000, desired_bps: 0 };
        assert_eq!(path.changed_bandwidth(), Some(told));
        assert_eq!(path.changed_bandwidth(), None);
        path.estimator.set_max(at(1_000), 580_000.0);
        assert_eq!(path.changed_bandwidth(), None);
        path.estimator.set_max(at(1_000), 560_000.0);
        assert_eq!(path.changed_bandwidth().map(|told| told.available_bps), Some(560_000));
    }

    #[test]
    fn a_path_is_small() {
        assert!(size_of::<Path>() <= 3584, "{}", size_of::<Path>());
    }
}
