//! One direction of a link with its state: loss, a bottleneck with a bounded queue, delay, jitter,
//! reordering, duplication. The same packets at the same times fare the same.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bottleneck::Bottleneck;
use crate::config::LinkConfig;
use crate::cross::{CROSS_PACKET_BYTES, Cross, Flow};
use crate::log::{LOG_INTERVAL, LogRow};
use crate::loss::{Bursts, Weather, chance};
use crate::rate::Rate;

/// Rows of the log that are kept until someone takes them: ten minutes.
const LOG_ROWS_MAX: usize = 60_000;

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

/// What becomes of a packet.
enum Fate {
    Lost,
    Dropped,
    Arrives(Duration),
}

/// What the link was, as far as nobody has taken it.
#[derive(Debug, Clone, Default)]
struct Log {
    rows: Vec<LogRow>,
    next: Duration,
    /// Since the newest row, cross traffic included.
    dropped: u64,
    lost: u64,
}

/// One direction of a link, with its state.
#[derive(Debug, Clone)]
pub struct Impairment {
    config: LinkConfig,
    random: SmallRng,
    /// Of the loss that comes in bursts, and of the times in which the link is worse.
    weathers: Vec<Weather>,
    bottleneck: Bottleneck,
    /// Arrival of the newest packet that went the normal way: jitter does not reorder.
    last_arrival: Duration,
    counters: LinkCounters,
    cross: Vec<Flow>,
    log: Option<Log>,
    now: Duration,
}

impl Impairment {
    /// A link at rest.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        let rate = config.rate_bps.map_or(Rate::Unlimited, Rate::constant);
        let in_bursts = config.burst > 1.0 && config.loss > 0.0;
        let bursts = in_bursts.then(|| Bursts::of_mean(config.loss, config.burst));
        Impairment {
            config,
            random: SmallRng::seed_from_u64(seed),
            weathers: bursts.into_iter().chain(config.bursts).map(Weather::new).collect(),
            bottleneck: Bottleneck::new(rate, config.queue),
            last_arrival: Duration::ZERO,
            counters: LinkCounters::default(),
            cross: Vec::new(),
            log: None,
            now: Duration::ZERO,
        }
    }

    /// The same with another bottleneck than a constant one.
    pub fn with_rate(mut self, rate: Rate) -> Self {
        self.bottleneck.set_rate(rate);
        self
    }

    /// The same with others' traffic through its queue. Without a bottleneck TCP knows no bound.
    pub fn with_cross(mut self, cross: &[Cross]) -> Self {
        let delay = self.config.delay;
        let flows = cross.iter().map(|cross| Flow::new(*cross, delay, self.random.random()));
        self.cross = flows.collect();
        self
    }

    /// The same with a log of what it is from some moment on.
    pub fn with_log(mut self, from: Duration) -> Self {
        self.log = Some(Log { next: from, ..Log::default() });
        self
    }

    /// From now on the bottleneck has this rate, bits per second. What waits at it leaves as it
    /// would have.
    pub fn set_rate(&mut self, rate_bps: u64) {
        let rate = Rate::constant(rate_bps);
        if *self.bottleneck.rate() != rate {
            self.bottleneck.set_rate(rate);
        }
    }

    /// What became of packets so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Packets of cross traffic that came through so far, by flow.
    pub fn cross_arrived(&self) -> impl Iterator<Item = u64> + '_ {
        self.cross.iter().map(Flow::arrived)
    }

    /// How long until all that waits has left.
    pub fn queued(&self, now: Duration) -> Duration {
        self.bottleneck.queued(now)
    }

    /// Bits per second of the bottleneck.
    pub fn rate_bps(&self, now: Duration) -> Option<u64> {
        self.bottleneck.rate().bps(now)
    }

    /// Takes the rows of the log so far; [`Impairment::advance`] first.
    pub fn take_log(&mut self) -> Vec<LogRow> {
        self.log.as_mut().map(|log| std::mem::take(&mut log.rows)).unwrap_or_default()
    }

    /// A packet of `len` bytes enters at `now` (since any fixed origin): when it arrives, at most
    /// twice; not at all when it is lost.
    pub fn offer(&mut self, now: Duration, len: usize) -> impl Iterator<Item = Duration> + use<> {
        self.advance(now);
        self.counters.offered += 1;
        let arrival = match self.carry(self.now, len) {
            Fate::Arrives(at) => Some(at),
            Fate::Lost => {
                self.counters.lost += 1;
                None
            }
            Fate::Dropped => {
                self.counters.queue_dropped += 1;
                None
            }
        };
        let twice = arrival.is_some() && chance(&mut self.random, self.config.duplicate);
        if twice {
            self.counters.duplicated += 1;
        }
        arrival.into_iter().chain(arrival.filter(|_| twice))
    }

    /// Cross traffic and the log go on until now.
    pub fn advance(&mut self, now: Duration) {
        while let Some((at, index)) = self.next_cross().filter(|(at, _)| *at <= now) {
            let at = at.max(self.now);
            self.write_log(at);
            self.now = at;
            for _ in 0..self.cross[index].poll(at) {
                let arrival = match self.carry(at, CROSS_PACKET_BYTES) {
                    Fate::Arrives(arrival) => Some(arrival),
                    Fate::Lost | Fate::Dropped => None,
                };
                self.cross[index].on_sent(at, arrival);
            }
        }
        self.write_log(now);
        self.now = self.now.max(now);
    }

    fn next_cross(&self) -> Option<(Duration, usize)> {
        (0..).zip(&self.cross).filter_map(|(index, flow)| Some((flow.next_due()?, index))).min()
    }

    fn write_log(&mut self, now: Duration) {
        let Some(log) = &mut self.log else { return };
        while log.next <= now {
            let at = log.next;
            log.next += LOG_INTERVAL;
            let (dropped, lost) = (std::mem::take(&mut log.dropped), std::mem::take(&mut log.lost));
            if log.rows.len() < LOG_ROWS_MAX {
                log.rows.push(LogRow {
                    at,
                    rate_bps: self.bottleneck.rate().bps(at),
                    queue_bytes: self.bottleneck.queued_bytes(at),
                    queue: self.bottleneck.queued(at),
                    dropped,
                    lost,
                });
            }
        }
    }

    fn carry(&mut self, now: Duration, len: usize) -> Fate {
        let fate = self.fate(now, len);
        if let Some(log) = &mut self.log {
            log.dropped += u64::from(matches!(fate, Fate::Dropped));
            log.lost += u64::from(matches!(fate, Fate::Lost));
        }
        fate
    }

    fn fate(&mut self, now: Duration, len: usize) -> Fate {
        let alone = if self.config.burst > 1.0 { 0.0 } else { self.config.loss };
        let mut is_lost = chance(&mut self.random, alone);
        for weather in &mut self.weathers {
            is_lost |= weather.loses(&mut self.random);
        }
        if is_lost {
            return Fate::Lost;
        }
        let Some(sent) = self.bottleneck.offer(now, len) else { return Fate::Dropped };
        let jitter = self.config.jitter.mul_f64(self.random.random::<f64>());
        let arrival = sent + self.config.delay + jitter;
        if chance(&mut self.random, self.config.reorder) {
            return Fate::Arrives(arrival + self.config.reorder_by);
        }
        self.last_arrival = self.last_arrival.max(arrival);
        Fate::Arrives(self.last_arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QueueLimit;

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

    #[test]
    fn a_queue_in_time_is_as_long_at_any_rate() {
        for kbps in [400, 4_000] {
            let limit = QueueLimit::Time(Duration::from_millis(50));
            let config =
                LinkConfig { rate_bps: Some(kbps * 1_000), queue: limit, ..Default::default() };
            let (_, arrivals) = run(config);
            let last = *arrivals.last().unwrap_or(&Duration::ZERO);
            let queue = last.saturating_sub(Duration::from_millis(1) * (PACKETS - 1));
            assert!(queue < Duration::from_millis(75), "{kbps} kbit/s: {queue:?}");
        }
    }

    #[test]
    fn what_enters_after_a_fall_of_the_rate_waits_longer() {
        let rate = Rate::parse_steps("0 4000\n1 400").unwrap_or(Rate::Unlimited);
        let mut link = Impairment::new(LinkConfig::default(), 1).with_rate(rate);
        let mut took = |at_ms| {
            let at = Duration::from_millis(at_ms);
            link.offer(at, 1_000).next().map(|arrival| (arrival - at).as_millis())
        };
        assert_eq!([took(500), took(1_500)], [Some(2), Some(20)]);
        // At once with another: it waits for it.
        assert_eq!([took(1_500), took(1_500)], [Some(40), Some(60)]);
    }

    /// A link of 2 Mbit/s with a log, through which nobody sends but cross traffic, for a minute.
    fn log_of(cross: &[Cross], seed: u64) -> (Impairment, Vec<LogRow>) {
        let limit = QueueLimit::Time(Duration::from_millis(300));
        let delay = Duration::from_millis(25);
        let config =
            LinkConfig { rate_bps: Some(2_000_000), queue: limit, delay, ..Default::default() };
        let mut link = Impairment::new(config, seed).with_cross(cross).with_log(Duration::ZERO);
        let mut rows = Vec::new();
        for second in 0..60 {
            link.advance(Duration::from_secs(second));
            rows.extend(link.take_log());
        }
        (link, rows)
    }

    #[test]
    fn the_log_has_a_row_each_ten_milliseconds_and_is_the_same_for_the_same_seed() {
        let (_, rows) = log_of(&[Cross::Tcp, Cross::TcpShort], 3);
        assert_eq!(rows.len(), 5_901);
        assert!(rows.iter().all(|row| row.rate_bps == Some(2_000_000)));
        assert!(rows.windows(2).all(|pair| pair[1].at - pair[0].at == LOG_INTERVAL));
        assert!(rows == log_of(&[Cross::Tcp, Cross::TcpShort], 3).1);
        assert!(rows != log_of(&[Cross::Tcp, Cross::TcpShort], 4).1);
    }

    #[test]
    fn the_log_counts_the_drops_of_a_full_queue() {
        // A half too much: a third of it is dropped, and the queue stays full.
        let (link, rows) = log_of(&[Cross::Udp { bps: 3_000_000 }], 1);
        let dropped: u64 = rows.iter().map(|row| row.dropped).sum();
        let offered = 3_000_000 * 59 / 8 / CROSS_PACKET_BYTES as u64;
        let part = dropped as f64 / offered as f64;
        assert!((0.32..0.34).contains(&part), "{part}");
        let full = rows.iter().skip(200).all(|row| row.queue > Duration::from_millis(290));
        assert!(full, "the queue is full");
        let arrived: u64 = link.cross_arrived().sum();
        assert!((offered - dropped).abs_diff(arrived) < 60, "{arrived}");
    }

    #[test]
    fn tcp_fills_a_link_and_gives_way_when_it_drops() {
        let (link, rows) = log_of(&[Cross::Tcp, Cross::Tcp], 2);
        let arrived: Vec<u64> = link.cross_arrived().collect();
        let used = arrived.iter().sum::<u64>() * CROSS_PACKET_BYTES as u64 * 8 / 59;
        assert!((1_900_000..2_010_000).contains(&used), "{used} bit/s");
        let ratio = arrived[0] as f64 / arrived[1] as f64;
        assert!((0.5..2.0).contains(&ratio), "{arrived:?}");
        let dropped: u64 = rows.iter().skip(500).map(|row| row.dropped).sum();
        let sent: u64 = arrived.iter().sum();
        assert!(dropped > 0 && dropped * 50 < sent, "{dropped} of {sent} dropped");
    }

    #[test]
    fn tcp_gives_way_to_what_does_not() {
        let (link, _) = log_of(&[Cross::Tcp, Cross::Udp { bps: 1_500_000 }], 2);
        let arrived: Vec<u64> = link.cross_arrived().collect();
        let bps = |index: usize| arrived[index] * CROSS_PACKET_BYTES as u64 * 8 / 59;
        assert!((1_350_000..1_510_000).contains(&bps(1)), "{} bit/s of UDP", bps(1));
        assert!((200_000..600_000).contains(&bps(0)), "{} bit/s of TCP", bps(0));
    }

    #[test]
    fn short_flows_come_and_go() {
        let (link, rows) = log_of(&[Cross::TcpShort; 10], 2);
        assert!(link.cross_arrived().filter(|arrived| *arrived > 60).count() >= 8);
        let idle = rows.iter().filter(|row| row.queue_bytes == 0).count();
        let busy = rows.iter().filter(|row| row.queue > Duration::from_millis(100)).count();
        assert!(idle > 100 && busy > 100, "{idle} idle, {busy} busy");
    }
}
