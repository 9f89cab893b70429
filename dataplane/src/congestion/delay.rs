//! The estimate from delays: groups, their trend, and the rate that follows from it.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use super::aimd::Aimd;
use super::inter_arrival::InterArrival;
use super::standing::StandingQueue;
use super::trendline::Trendline;
use super::{Usage, millis};

/// After so long without feedback the delays of before say nothing any more.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

/// What one feedback changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DelayUpdate {
    /// The rate, where it was looked at.
    pub rate_bps: Option<f64>,
    /// Whether it is the result of a probe.
    pub from_probe: bool,
    /// Whether the queue of the path has just drained.
    pub recovered: bool,
}

/// Delay-based estimator.
#[derive(Debug, Clone)]
pub struct DelayBased {
    groups: InterArrival,
    trendline: Trendline,
    aimd: Aimd,
    standing: StandingQueue,
    rtt: Duration,
    told_at: Option<Time>,
    recovered: bool,
}

impl DelayBased {
    /// Begins at so many bits per second.
    pub fn new(start_bps: f64) -> Self {
        DelayBased {
            groups: InterArrival::default(),
            trendline: Trendline::default(),
            aimd: Aimd::new(start_bps),
            standing: StandingQueue::default(),
            rtt: Duration::ZERO,
            told_at: None,
            recovered: false,
        }
    }

    /// The rate that delays allow now.
    pub fn rate_bps(&self) -> f64 {
        self.aimd.rate_bps()
    }

    /// What the path is judged to be.
    pub fn usage(&self) -> Usage {
        self.trendline.usage()
    }

    /// Whether the queue of the path grows, or stands.
    pub fn is_queued(&self) -> bool {
        self.usage() == Usage::Over || self.standing.is_there()
    }

    /// The round trip as it was last measured.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
        self.aimd.set_rtt(rtt);
    }

    /// Sets the rate, when something other than delays tells it.
    pub fn set_rate(&mut self, now: Time, rate_bps: f64) {
        self.aimd.set_rate(now, rate_bps);
    }

    /// Forgets delays that nothing was added to for long: a queue that nothing is sent into drains.
    pub fn forget_old(&mut self, now: Time) {
        if self.told_at.is_none_or(|at| now.since(at) > STREAM_TIMEOUT) {
            self.groups = InterArrival::default();
            self.trendline = Trendline::default();
            self.standing = StandingQueue::default();
        }
    }

    /// Takes one packet of the feedback at hand, in the order of arrival.
    pub fn on_packet(&mut self, now: Time, sent: Time, arrived: Time) {
        self.forget_old(now);
        self.told_at = Some(now);
        self.standing.on_packet(now, sent, arrived);
        let Some(deltas) = self.groups.on_packet(sent, arrived, now) else { return };
        let before = self.trendline.usage();
        // The reference keeps arrivals in whole milliseconds.
        let arrival_ms = millis(arrived).round();
        self.trendline.on_deltas(deltas.arrival_ms, deltas.send_ms, arrival_ms);
        let after = self.trendline.usage();
        self.recovered |= before == Usage::Under && after == Usage::Normal;
    }

    /// After [`Self::finish`]: lowers the rate if a queue stands, to less than what arrives of
    /// late, if that is known.
    pub fn drain(&mut self, now: Time, arriving_bps: Option<f64>) -> Option<f64> {
        if !self.standing.is_there() {
            self.standing.on_drained();
            return None;
        }
        let arriving_bps = arriving_bps.filter(|_| self.trendline.usage() == Usage::Normal)?;
        let lower = self.standing.is_to_be_lowered(now, self.rtt);
        lower.then(|| self.aimd.update(now, Usage::Over, Some(arriving_bps)))
    }

    /// Ends the feedback at hand: the rate follows.
    pub fn finish(
        &mut self,
        now: Time,
        acknowledged_bps: Option<f64>,
        probe_bps: Option<f64>,
    ) -> DelayUpdate {
        let recovered = std::mem::take(&mut self.recovered);
        let mut update = DelayUpdate { rate_bps: None, from_probe: false, recovered: false };
        match (self.trendline.usage(), acknowledged_bps, probe_bps) {
            (Usage::Over, Some(bps), _) => {
                if self.aimd.may_decrease(now, bps) {
                    update.rate_bps = Some(self.aimd.update(now, Usage::Over, Some(bps)));
                }
            }
            (Usage::Over, None, _) => {
                if self.aimd.may_halve(now) {
                    self.aimd.set_rate(now, self.aimd.rate_bps() / 2.0);
                    update.rate_bps = Some(self.aimd.rate_bps());
                }
            }
            (_, _, Some(probe_bps)) => {
                self.aimd.set_rate(now, probe_bps);
                update.rate_bps = Some(self.aimd.rate_bps());
                update.from_probe = true;
            }
            (usage, acknowledged_bps, None) => {
                update.rate_bps = Some(self.aimd.update(now, usage, acknowledged_bps));
                update.recovered = recovered;
            }
        }
        update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// Sends a packet each 20 ms that arrives later and later; the rate after each.
    fn slower(delay: &mut DelayBased, acknowledged_bps: Option<f64>, packets: u64) -> f64 {
        for index in 0..packets {
            let (sent, arrived) = (at(1_000 + 20 * index), at(1_100 + 24 * index));
            delay.on_packet(arrived, sent, arrived);
            delay.finish(arrived, acknowledged_bps, None);
        }
        delay.rate_bps()
    }

    #[test]
    fn a_growing_queue_lowers_the_rate() {
        let mut delay = DelayBased::new(1e6);
        assert_eq!(slower(&mut delay, Some(8e5), 40).round(), 675_000.0);
        assert_eq!(delay.usage(), Usage::Over);
    }

    #[test]
    fn without_an_acknowledged_rate_it_halves() {
        let mut delay = DelayBased::new(1e6);
        let rate_bps = slower(&mut delay, None, 40);
        assert!((200_000.0..600_000.0).contains(&rate_bps), "{rate_bps}");
    }

    #[test]
    fn a_probe_sets_the_rate_unless_the_queue_grows() {
        let mut delay = DelayBased::new(1e6);
        delay.on_packet(at(1), at(0), at(1));
        let update = delay.finish(at(1), Some(1e6), Some(3e6));
        assert_eq!((update.rate_bps, update.from_probe), (Some(3e6), true));
        let mut delay = DelayBased::new(1e6);
        slower(&mut delay, Some(1e6), 40);
        assert!(!delay.finish(at(3_000), Some(1e6), Some(3e6)).from_probe);
    }

    #[test]
    fn after_a_silence_the_delays_of_before_count_no_more() {
        let mut delay = DelayBased::new(1e6);
        slower(&mut delay, Some(8e5), 40);
        delay.on_packet(at(5_000), at(4_900), at(5_000));
        assert_eq!(delay.usage(), Usage::Normal);
    }
}
