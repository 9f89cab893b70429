//! What a bad link does to packets: loss, delay, jitter, a bottleneck with a bounded queue,
//! reordering, duplication. Pure and seeded: the same packets at the same times fare the same.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkConfig {
    /// Probability that a packet is lost, 0–1, in the good state.
    pub loss: f64,
    /// Mean length of a loss burst in packets (Gilbert–Elliott); 1 makes losses independent.
    pub burst: f64,
    /// Propagation delay.
    pub delay: Duration,
    /// Each packet is delayed by up to this much more, without overtaking.
    pub jitter: Duration,
    /// Bottleneck rate, bits per second; `None` is unlimited.
    pub rate_bps: Option<u64>,
    /// Bytes that may wait at the bottleneck; more are dropped at the tail.
    pub queue_bytes: u64,
    /// Probability that a packet takes a way round that costs `reorder_by` more.
    pub reorder: f64,
    /// How much longer that way is.
    pub reorder_by: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        LinkConfig {
            loss: 0.0,
            burst: 1.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bps: None,
            queue_bytes: 64 * 1024,
            reorder: 0.0,
            reorder_by: Duration::from_millis(20),
            duplicate: 0.0,
        }
    }
}

/// What became of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Packets offered.
    pub offered: u64,
    /// Packets lost on the way.
    pub lost: u64,
    /// Packets dropped because the bottleneck's queue was full.
    pub queue_dropped: u64,
    /// Packets that arrived twice.
    pub duplicated: u64,
}

/// One direction of a link, with its state.
#[derive(Debug, Clone)]
pub struct Impairment {
    config: LinkConfig,
    random: SmallRng,
    in_burst: bool,
    /// When the bottleneck has sent all it holds.
    bottleneck_free: Duration,
    /// Arrival of the newest packet that went the normal way: jitter does not reorder.
    last_arrival: Duration,
    counters: LinkCounters,
}

impl Impairment {
    /// A link at rest.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Impairment {
            config,
            random: SmallRng::seed_from_u64(seed),
            in_burst: false,
            bottleneck_free: Duration::ZERO,
            last_arrival: Duration::ZERO,
            counters: LinkCounters::default(),
        }
    }

    /// From now on the bottleneck has this rate, bits per second. What waits at it leaves as it
    /// would have.
    pub fn set_rate(&mut self, rate_bps: u64) {
        self.config.rate_bps = Some(rate_bps);
    }

    /// What became of packets so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// A packet of `len` bytes enters at `now` (since any fixed origin): when it arrives, at most
    /// twice; not at all when it is lost.
    pub fn offer(&mut self, now: Duration, len: usize) -> impl Iterator<Item = Duration> + use<> {
        self.counters.offered += 1;
        let arrival = self.arrival(now, len);
        let twice = arrival.is_some() && self.chance(self.config.duplicate);
        if twice {
            self.counters.duplicated += 1;
        }
        arrival.into_iter().chain(arrival.filter(|_| twice))
    }

    fn arrival(&mut self, now: Duration, len: usize) -> Option<Duration> {
        if self.is_lost() {
            self.counters.lost += 1;
            return None;
        }
        let Some(sent) = self.through_bottleneck(now, len) else {
            self.counters.queue_dropped += 1;
            return None;
        };
        let jitter = self.config.jitter.mul_f64(self.random.random::<f64>());
        let arrival = sent + self.config.delay + jitter;
        if self.chance(self.config.reorder) {
            return Some(arrival + self.config.reorder_by);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        Some(self.last_arrival)
    }

    fn is_lost(&mut self) -> bool {
        // Two states (Gilbert): in a burst everything is lost; it ends with probability 1/burst.
        // Bursts begin so often that the mean loss is as configured.
        let leave = 1.0 / self.config.burst.max(1.0);
        let loss = self.config.loss.clamp(0.0, 1.0);
        if self.config.burst <= 1.0 {
            return self.chance(loss);
        }
        let enter = if loss >= 1.0 { 1.0 } else { (loss * leave / (1.0 - loss)).min(1.0) };
        self.in_burst = if self.in_burst { !self.chance(leave) } else { self.chance(enter) };
        self.in_burst
    }

    fn through_bottleneck(&mut self, now: Duration, len: usize) -> Option<Duration> {
        let Some(rate_bps) = self.config.rate_bps else { return Some(now) };
        let start = self.bottleneck_free.max(now);
        let waiting_bytes = (start - now).as_secs_f64() * rate_bps as f64 / 8.0;
        if waiting_bytes + len as f64 > self.config.queue_bytes as f64 {
            return None;
        }
        self.bottleneck_free = start + Duration::from_secs_f64(len as f64 * 8.0 / rate_bps as f64);
        Some(self.bottleneck_free)
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.random::<f64>() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: u32 = 100_000;

    fn run(config: LinkConfig) -> (LinkCounters, Vec<Duration>) {
        let mut link = Impairment::new(config, 7);
        let mut arrivals = Vec::new();
        for packet in 0..PACKETS {
            arrivals.extend(link.offer(Duration::from_millis(1) * packet, 1000));
        }
        (link.counters(), arrivals)
    }

    #[test]
    fn loss_has_the_configured_mean_alone_and_in_bursts() {
        for burst in [1.0, 5.0] {
            let (counters, _) = run(LinkConfig { loss: 0.02, burst, ..LinkConfig::default() });
            let loss = counters.lost as f64 / f64::from(PACKETS);
            assert!((0.015..0.025).contains(&loss), "burst {burst}: {loss}");
        }
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let config =
            LinkConfig { loss: 0.1, jitter: Duration::from_millis(9), ..Default::default() };
        assert_eq!(run(config), run(config));
    }

    #[test]
    fn jitter_keeps_order_and_reordering_does_not() {
        let jitter = LinkConfig { jitter: Duration::from_millis(30), ..Default::default() };
        assert!(run(jitter).1.is_sorted());
        let reorder = LinkConfig { reorder: 0.01, ..Default::default() };
        assert!(!run(reorder).1.is_sorted());
    }

    #[test]
    fn the_bottleneck_delays_then_drops() {
        // 1000 bytes a millisecond are offered to a link of half that: half must go.
        let config = LinkConfig { rate_bps: Some(4_000_000), ..Default::default() };
        let (counters, arrivals) = run(config);
        let dropped = counters.queue_dropped as f64 / f64::from(PACKETS);
        assert!((0.49..0.51).contains(&dropped), "{dropped}");
        let last = Duration::from_millis(1) * (PACKETS - 1);
        let queue = *arrivals.last().unwrap_or(&Duration::ZERO) - last;
        assert!(queue <= Duration::from_millis(132), "64 KiB at 4 Mbit/s are 131 ms: {queue:?}");
    }

    #[test]
    fn duplicates_arrive_twice() {
        let (counters, arrivals) = run(LinkConfig { duplicate: 0.5, ..Default::default() });
        assert_eq!(arrivals.len() as u64, counters.offered + counters.duplicated);
        assert!(counters.duplicated > 40_000);
    }
}
