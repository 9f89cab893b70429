//! Application-limited regions: too little is sent to learn what the path could carry.
//!
//! A budget of 65 % of the estimate fills over half a second and everything sent is taken from it.
//! When it is more than 80 % full the sender is limited by itself, until it is below half full.
#![forbid(unsafe_code)]

use opencall_wire::time::Time;

/// Part of the estimate below which a sender is limited by itself.
const USAGE: f64 = 0.65;
/// How full the budget is at the start of a region, and how full it may be at its end.
const START_LEVEL: f64 = 0.80;
const STOP_LEVEL: f64 = 0.50;
/// Time over which the budget fills.
const WINDOW_SECONDS: f64 = 0.5;

/// Keeps the budget.
#[derive(Debug, Clone, Default)]
pub struct AlrDetector {
    budget_bits: f64,
    budget_max_bits: f64,
    last_sent: Option<Time>,
    started: Option<Time>,
}

impl AlrDetector {
    /// When the present region began; `None` outside of one.
    pub fn started(&self) -> Option<Time> {
        self.started
    }

    /// What the path is estimated to carry.
    pub fn set_estimate(&mut self, estimate_bps: f64) {
        self.budget_max_bits = estimate_bps * USAGE * WINDOW_SECONDS;
        self.budget_bits = self.bounded(self.budget_bits);
    }

    /// Takes what was sent.
    pub fn on_sent(&mut self, now: Time, bytes: usize) {
        let Some(last) = self.last_sent.replace(now) else { return };
        let earned = now.since(last).as_secs_f64() / WINDOW_SECONDS * self.budget_max_bits;
        self.budget_bits = self.bounded(self.budget_bits - bytes as f64 * 8.0);
        self.budget_bits = self.bounded(self.budget_bits + earned);
        if self.budget_bits > START_LEVEL * self.budget_max_bits {
            self.started = self.started.or(Some(now));
        } else if self.budget_bits < STOP_LEVEL * self.budget_max_bits {
            self.started = None;
        }
    }

    fn bounded(&self, bits: f64) -> f64 {
        bits.max(-self.budget_max_bits).min(self.budget_max_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ESTIMATE_BPS: f64 = 300_000.0;

    struct Traffic {
        detector: AlrDetector,
        now: Time,
    }

    impl Traffic {
        fn new() -> Self {
            let mut detector = AlrDetector::default();
            detector.set_estimate(ESTIMATE_BPS);
            Traffic { detector, now: Time::from_millis(1_000) }
        }

        /// Sends every 10 ms at so many percent of the estimate; whether a region is open then.
        fn send(&mut self, ms: u64, percent: f64) -> bool {
            for _ in 0..ms / 10 {
                self.now = self.now + Duration::from_millis(10);
                let bytes = ESTIMATE_BPS * percent / 100.0 * 0.01 / 8.0;
                self.detector.on_sent(self.now, bytes as usize);
            }
            self.detector.started().is_some()
        }
    }

    #[test]
    fn begins_and_ends_with_use() {
        let mut traffic = Traffic::new();
        assert!(!traffic.send(1_000, 90.0));
        assert!(traffic.send(1_500, 20.0));
        assert!(!traffic.send(4_000, 100.0));
    }

    #[test]
    fn a_short_spike_does_not_end_it() {
        let mut traffic = Traffic::new();
        assert!(traffic.send(1_000, 20.0));
        assert!(traffic.send(100, 150.0));
        assert!(!traffic.send(3_000, 100.0));
    }

    #[test]
    fn outlasts_a_fall_of_the_estimate_for_a_while() {
        let mut traffic = Traffic::new();
        assert!(traffic.send(1_000, 20.0));
        traffic.detector.set_estimate(ESTIMATE_BPS / 5.0);
        assert!(traffic.detector.started().is_some());
        assert!(!traffic.send(1_000, 50.0));
    }
}
