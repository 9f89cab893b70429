//! The rate that delays allow: additive increase, multiplicative decrease.
//!
//! Worked trace, 1 Mbit/s acknowledged: overuse sets the rate to 0.85 · 1000 − 5 = 845 kbit/s and
//! notes 1 Mbit/s as the link's. While delays fall the rate is held; after that it grows by about
//! one packet for each response time (RTT + 100 ms, doubled), and by 8 % per second when the
//! acknowledged rate has left that of the link.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use super::link_capacity::LinkCapacity;
use super::{MIN_BPS, Usage};

/// What remains of the acknowledged rate after overuse.
const BACKOFF: f64 = 0.85;
/// What is taken off beside, so that the queue drains at small rates too.
const BACKOFF_BESIDE_BPS: f64 = 5_000.0;
/// Growth per second while the capacity is unknown.
const GROWTH_PER_SECOND: f64 = 1.08;
const GROWTH_MIN_BPS: f64 = 1_000.0;
/// Slowest additive growth per second.
const ADDITIVE_MIN_BPS: f64 = 4_000.0;
/// The rate grows no further than this beyond what is acknowledged.
const AHEAD_OF_ACKNOWLEDGED: f64 = 1.5;
const AHEAD_OF_ACKNOWLEDGED_BPS: f64 = 10_000.0;
/// Packets are taken to be of this size at most, 30 pictures per second.
const PACKET_BITS: f64 = 1_200.0 * 8.0;
const FRAMES_PER_SECOND: f64 = 30.0;
/// How long the detector of overuse takes.
const DETECTION: Duration = Duration::from_millis(100);
/// Taken for the round trip until it is known.
const DEFAULT_RTT: Duration = Duration::from_millis(200);
/// Between two decreases passes a round trip, within these bounds.
const DECREASE_INTERVAL_MIN: Duration = Duration::from_millis(10);
const DECREASE_INTERVAL_MAX: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Hold,
    Increase,
}

/// Rate control by the state of the delay detector.
#[derive(Debug, Clone)]
pub struct Aimd {
    rate_bps: f64,
    acknowledged_bps: f64,
    link: LinkCapacity,
    phase: Phase,
    changed_at: Option<Time>,
    rtt: Duration,
}

impl Aimd {
    /// Begins at so many bits per second.
    pub fn new(start_bps: f64) -> Self {
        Aimd {
            rate_bps: start_bps,
            acknowledged_bps: start_bps,
            link: LinkCapacity::default(),
            phase: Phase::Hold,
            changed_at: None,
            rtt: DEFAULT_RTT,
        }
    }

    /// The rate now.
    pub fn rate_bps(&self) -> f64 {
        self.rate_bps
    }

    /// The round trip as it was last measured.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Sets the rate: a probe proved it, or feedback failed.
    pub fn set_rate(&mut self, now: Time, rate_bps: f64) {
        self.rate_bps = rate_bps.max(MIN_BPS);
        self.changed_at = Some(now);
    }

    /// Whether overuse may lower the rate again.
    pub fn may_decrease(&self, now: Time, acknowledged_bps: f64) -> bool {
        let interval = self.rtt.max(DECREASE_INTERVAL_MIN).min(DECREASE_INTERVAL_MAX);
        self.changed_at.is_none_or(|at| now.since(at) >= interval)
            || acknowledged_bps < 0.5 * self.rate_bps
    }

    /// The same before any rate was acknowledged: the rate is then halved.
    pub fn may_halve(&self, now: Time) -> bool {
        self.may_decrease(now, self.rate_bps / 2.0)
    }

    /// Takes the state of the path and returns the new rate.
    pub fn update(&mut self, now: Time, usage: Usage, acknowledged_bps: Option<f64>) -> f64 {
        self.acknowledged_bps = acknowledged_bps.unwrap_or(self.acknowledged_bps);
        match usage {
            Usage::Over => self.decrease(now),
            Usage::Under => self.phase = Phase::Hold,
            Usage::Normal => {
                if self.phase == Phase::Hold {
                    self.changed_at = Some(now);
                    self.phase = Phase::Increase;
                }
                self.increase(now);
            }
        }
        self.rate_bps = self.rate_bps.max(MIN_BPS);
        self.rate_bps
    }

    fn increase(&mut self, now: Time) {
        if self.acknowledged_bps > self.link.upper_bps() {
            self.link.reset();
        }
        let limit_bps = AHEAD_OF_ACKNOWLEDGED * self.acknowledged_bps + AHEAD_OF_ACKNOWLEDGED_BPS;
        if self.rate_bps < limit_bps {
            let seconds = self.changed_at.map_or(1.0, |at| now.since(at).as_secs_f64());
            let growth_bps = if self.link.estimate_bps().is_some() {
                self.additive_bps_per_second() * seconds
            } else {
                let factor = GROWTH_PER_SECOND.powf(seconds.min(1.0));
                (self.rate_bps * (factor - 1.0)).max(GROWTH_MIN_BPS)
            };
            self.rate_bps = (self.rate_bps + growth_bps).min(limit_bps);
        }
        self.changed_at = Some(now);
    }

    fn decrease(&mut self, now: Time) {
        let mut lowered_bps = self.acknowledged_bps * BACKOFF;
        if lowered_bps > BACKOFF_BESIDE_BPS {
            lowered_bps -= BACKOFF_BESIDE_BPS;
        }
        if lowered_bps > self.rate_bps {
            lowered_bps = self.link.estimate_bps().map_or(lowered_bps, |bps| bps * BACKOFF);
        }
        self.rate_bps = self.rate_bps.min(lowered_bps);
        if self.acknowledged_bps < self.link.lower_bps() {
            self.link.reset();
        }
        self.link.on_overuse(self.acknowledged_bps);
        self.phase = Phase::Hold;
        self.changed_at = Some(now);
    }

    /// Growth near the link's capacity: one average packet per response time, twice over.
    fn additive_bps_per_second(&self) -> f64 {
        let frame_bits = self.rate_bps / FRAMES_PER_SECOND;
        let packets = (frame_bits / PACKET_BITS).ceil().max(1.0);
        let response_seconds = 2.0 * (self.rtt + DETECTION).as_secs_f64();
        (frame_bits / packets / response_seconds).max(ADDITIVE_MIN_BPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(123_456);

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1.0, "{value} instead of {expected}");
    }

    #[test]
    fn near_the_link_growth_follows_packet_and_round_trip() {
        for (rate_bps, rtt_ms, growth_bps) in
            [(30_000.0, None, 4_000.0), (90_000.0, None, 5_000.0), (60_000.0, Some(100), 5_000.0)]
        {
            let mut aimd = Aimd::new(rate_bps);
            if let Some(rtt) = rtt_ms {
                aimd.set_rtt(Duration::from_millis(rtt));
            }
            near(aimd.additive_bps_per_second(), growth_bps);
        }
        let mut aimd = Aimd::new(300_000.0);
        aimd.update(START, Usage::Over, Some(300_000.0));
        assert!((aimd.additive_bps_per_second() - 14_000.0).abs() < 1_000.0);
    }

    #[test]
    fn growth_ends_at_half_above_the_acknowledged_rate() {
        let mut aimd = Aimd::new(10_000.0);
        let mut now = START;
        for _ in 0..200 {
            aimd.update(now, Usage::Normal, Some(10_000.0));
            now = now + Duration::from_millis(100);
        }
        near(aimd.rate_bps(), 25_000.0);
        // A falling acknowledged rate neither lowers nor raises it.
        near(aimd.update(now, Usage::Normal, Some(5_000.0)), 25_000.0);
    }

    #[test]
    fn a_typical_drop() {
        let mut aimd = Aimd::new(264_000.0);
        let acknowledged_bps = (216_000.0 + 5_000.0) / 0.85;
        let now = START + Duration::from_millis(100);
        near(aimd.update(now, Usage::Over, Some(acknowledged_bps)), 216_000.0);
        near(aimd.additive_bps_per_second(), 12_000.0);
    }

    #[test]
    fn overuse_never_raises_the_rate() {
        let mut aimd = Aimd::new(100_000.0);
        near(aimd.update(START, Usage::Over, Some(1e6)), 100_000.0);
        // Held by what the link carried before.
        aimd.set_rate(START, 500_000.0);
        near(aimd.update(START, Usage::Over, Some(1e6)), 500_000.0);
    }

    #[test]
    fn decreases_are_a_round_trip_apart_or_urgent() {
        let mut aimd = Aimd::new(100_000.0);
        aimd.set_rtt(Duration::from_millis(50));
        aimd.update(START, Usage::Over, Some(100_000.0));
        let soon = START + Duration::from_millis(49);
        assert!(!aimd.may_decrease(soon, 60_000.0));
        assert!(aimd.may_decrease(soon, 39_000.0), "less than half of 80 000 arrives");
        assert!(aimd.may_decrease(START + Duration::from_millis(50), 60_000.0));
        aimd.set_rtt(Duration::from_secs(3));
        assert!(aimd.may_decrease(START + Duration::from_millis(200), 60_000.0));
    }

    #[test]
    fn underuse_holds_and_growth_is_8_percent_a_second() {
        let mut aimd = Aimd::new(1e6);
        let second = Duration::from_secs(1);
        near(aimd.update(START, Usage::Under, Some(1e6)), 1e6);
        // The first normal sample starts the clock; 1 kbit/s is the least growth.
        near(aimd.update(START + second, Usage::Normal, Some(1e6)), 1_001_000.0);
        near(aimd.update(START + 2 * second, Usage::Normal, Some(1e6)), 1_081_080.0);
        near(aimd.update(START + 9 * second, Usage::Normal, Some(1e6)), 1_167_566.4);
    }
}
