//! Probes for a server whose layers come in steps.
//!
//! A sender that uses 65–100 % of the estimate is neither limited by itself nor does its estimate
//! grow: growth ends at 1.5 times what is acknowledged, and the next layer may cost twice that. So
//! when more is wanted than there is for three seconds, the path is probed for just the next step
//! and a fifth more. What does not help is tried again after 1.5 times as long, up to five seconds,
//! or for as long as makes a probe cost a fortieth of the rate, where that is longer.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// How long more must be wanted than there is.
const STAGNATION: Duration = Duration::from_secs(3);
/// How much longer is waited after a probe that did not help.
const BACKOFF: f64 = 1.5;
/// Bounds of that.
const INTERVAL_MAX_LEAST: Duration = Duration::from_secs(5);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Bits of the least probe: five packets.
const PROBE_BITS: f64 = 5.0 * 1_200.0 * 8.0;
/// Part of the rate that probes may cost.
const COST: f64 = 0.025;
/// A probe that raised the estimate by so much has helped.
const HELPED: f64 = 1.05;
/// A fall to less than this begins the wait anew: the path was just found full.
const FELL: f64 = 0.95;
/// Results of a probe show within this.
const RESULT: Duration = Duration::from_secs(1);

/// The next step is probed with so much to spare, and no less than this above the estimate.
const SPARE: f64 = 1.2;
const STEP_MIN_BPS: f64 = 200_000.0;
/// A step that costs less than this part more or less is the same: rates are measured.
const SAME_STEP: f64 = 0.25;

/// What the allocation could use.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Demand {
    /// Bits per second of all that is wanted.
    pub wanted_bps: f64,
    /// Bits per second that the next better layer costs beyond what is sent; `None` if there is
    /// none or the allocation does not know.
    pub upgrade_bps: Option<f64>,
}

/// Waits for stagnation.
#[derive(Debug, Clone)]
pub struct Upgrades {
    demand: Option<Demand>,
    since: Option<Time>,
    interval: Duration,
    /// When a probe was sent and at what estimate, until it is known whether it helped.
    probed: Option<(Time, f64)>,
    /// The highest estimate since the wait began.
    peak_bps: f64,
}

impl Default for Upgrades {
    fn default() -> Self {
        Upgrades { demand: None, since: None, interval: STAGNATION, probed: None, peak_bps: 0.0 }
    }
}

impl Upgrades {
    /// What is wanted from now on. Returns whether probes for an upgrade have lost their purpose.
    pub fn set_demand(&mut self, demand: Demand, estimate_bps: f64) -> bool {
        let step_bps = |demand: Demand| demand.upgrade_bps.unwrap_or(demand.wanted_bps);
        let changed = self.demand.is_some_and(|before| {
            let (old_bps, new_bps) = (step_bps(before), step_bps(demand));
            (new_bps - old_bps).abs() > SAME_STEP * old_bps
        });
        self.demand = Some(demand);
        changed || demand.wanted_bps <= estimate_bps
    }

    /// The rate that would carry the next step: what is worth probing.
    pub fn goal_bps(&self, estimate_bps: f64) -> Option<f64> {
        let demand = self.demand.filter(|demand| demand.wanted_bps > estimate_bps)?;
        // Where the step is not known, no more than twice the rate: a good result is followed
        // anyway.
        let missing_bps = (demand.wanted_bps - estimate_bps).min(estimate_bps);
        let step_bps = demand.upgrade_bps.unwrap_or(missing_bps);
        Some(estimate_bps + (SPARE * step_bps).max(STEP_MIN_BPS))
    }

    /// Time passes. Returns the rate to probe now; [`Self::on_probed`] says that it was.
    pub fn on_tick(&mut self, now: Time, estimate_bps: f64, congested: bool) -> Option<f64> {
        self.judge_last(now, estimate_bps);
        let Some(goal_bps) = self.goal_bps(estimate_bps).filter(|_| !congested) else {
            self.since = None;
            return None;
        };
        if estimate_bps < FELL * self.peak_bps || self.since.is_none() {
            self.since = Some(now);
            self.peak_bps = estimate_bps;
        }
        self.peak_bps = self.peak_bps.max(estimate_bps);
        let due = self.since.is_some_and(|since| now.since(since) >= self.interval);
        due.then_some(goal_bps)
    }

    /// A probe was sent.
    pub fn on_probed(&mut self, now: Time, estimate_bps: f64) {
        self.since = Some(now);
        self.probed = Some((now, estimate_bps));
    }

    /// When [`Self::on_tick`] has something to do.
    pub fn next_timeout(&self) -> Option<Time> {
        self.since.map(|since| since + self.interval)
    }

    fn judge_last(&mut self, now: Time, estimate_bps: f64) {
        let Some((at, before_bps)) = self.probed else { return };
        if estimate_bps >= HELPED * before_bps {
            self.probed = None;
            self.interval = STAGNATION;
        } else if now.since(at) > RESULT {
            self.probed = None;
            let affordable = Duration::from_secs_f64(
                (PROBE_BITS / (COST * estimate_bps.max(1.0))).min(INTERVAL_MAX.as_secs_f64()),
            );
            let most = affordable.max(INTERVAL_MAX_LEAST);
            self.interval = self.interval.mul_f64(BACKOFF).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn wanting(wanted_bps: f64, upgrade_bps: Option<f64>) -> Upgrades {
        let mut upgrades = Upgrades::default();
        upgrades.set_demand(Demand { wanted_bps, upgrade_bps }, 0.0);
        upgrades
    }

    /// Seconds at which it probes within `seconds` at one estimate.
    fn probed_at(upgrades: &mut Upgrades, seconds: u64, estimate_bps: f64) -> Vec<f64> {
        let mut probed = Vec::new();
        for ms in (0..seconds * 1_000).step_by(10) {
            if upgrades.on_tick(at(ms), estimate_bps, false).is_some() {
                upgrades.on_probed(at(ms), estimate_bps);
                probed.push((ms as f64 / 100.0).round() / 10.0);
            }
        }
        probed
    }

    #[test]
    fn the_next_step_with_a_fifth_to_spare() {
        assert_eq!(wanting(4e6, Some(1e6)).goal_bps(1e6), Some(2.2e6));
        assert_eq!(wanting(4e6, Some(5e4)).goal_bps(1e6), Some(1.2e6));
        assert_eq!(wanting(2e6, None).goal_bps(1e6), Some(2.2e6));
        assert_eq!(wanting(9e6, None).goal_bps(1e6), Some(2.2e6));
        assert_eq!(wanting(1e6, Some(1e6)).goal_bps(1e6), None);
        assert_eq!(Upgrades::default().goal_bps(1e6), None);
    }

    #[test]
    fn what_does_not_help_is_tried_less_often() {
        let mut upgrades = wanting(4e6, Some(1e6));
        assert_eq!(probed_at(&mut upgrades, 24, 1e6), [3.0, 7.5, 12.5, 17.5, 22.5]);
        let mut upgrades = wanting(4e6, Some(1e6));
        let slow = probed_at(&mut upgrades, 300, 1e5);
        assert!((14..22).contains(&slow.len()), "{slow:?}");
    }

    #[test]
    fn what_helps_is_followed_by_the_next() {
        let mut upgrades = wanting(4e6, Some(1e6));
        upgrades.interval = Duration::from_secs(5);
        upgrades.on_probed(at(0), 1e6);
        upgrades.on_tick(at(500), 2e6, false);
        assert_eq!(upgrades.interval, STAGNATION);
    }

    #[test]
    fn congestion_and_falls_begin_the_wait_anew() {
        let mut upgrades = wanting(4e6, Some(1e6));
        upgrades.on_tick(at(0), 1e6, false);
        upgrades.on_tick(at(2_000), 1e6, true);
        assert_eq!(upgrades.on_tick(at(3_000), 1e6, false), None);
        assert_eq!(upgrades.on_tick(at(5_000), 0.9e6, false), None);
        assert_eq!(upgrades.on_tick(at(7_999), 0.9e6, false), None);
        assert!(upgrades.on_tick(at(8_000), 0.9e6, false).is_some());
    }

    #[test]
    fn another_demand_takes_the_purpose_from_probes() {
        let mut upgrades = wanting(4e6, Some(1e6));
        let same = Demand { wanted_bps: 4e6, upgrade_bps: Some(1e6) };
        assert!(!upgrades.set_demand(same, 1e6));
        assert!(upgrades.set_demand(same, 4e6), "all fits");
        assert!(upgrades.set_demand(Demand { upgrade_bps: Some(2e6), ..same }, 1e6));
    }
}
