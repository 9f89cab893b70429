//! The rate that arrived, over the packets of the last second or so.
//!
//! It is the lesser of what was sent and what arrived over the same packets; the largest gap
//! between arrivals counts as the second largest, so that a link which stops once does not look
//! slow.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use super::millis_between;
use crate::time::Time;

/// More packets are kept than this only while they span less than [`SPAN_MIN`].
const PACKETS_MIN: usize = 20;
/// Most that are kept: 5 Mbit/s for a second.
const PACKETS_MAX: usize = 500;
const SPAN_MIN: Duration = Duration::from_secs(1);
const SPAN_MAX: Duration = Duration::from_secs(5);
/// Fewer tell no rate.
const PACKETS_NEEDED: usize = 10;
/// What counts as recent.
const SPAN_RECENT: Duration = Duration::from_millis(300);
/// A packet that arrived so long before the newest tells of a clock that was set.
const REORDERING_MAX: Duration = Duration::from_secs(1);
/// Shortest time that a rate is taken over.
const SPAN_MEASURED_MIN_MS: f64 = 1.0;

#[derive(Debug, Clone, Copy)]
struct Packet {
    sent: Time,
    arrived: Time,
    bytes: u32,
}

/// Keeps the packets, ordered by arrival.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    packets: VecDeque<Packet>,
    /// Sending time of the newest that was dropped: what was sent before it came out of order.
    dropped_sent: Option<Time>,
}

impl Acknowledged {
    /// Takes one packet that arrived.
    pub fn on_packet(&mut self, sent: Time, arrived: Time, bytes: u32) {
        if self.packets.len() > PACKETS_MAX {
            self.drop_oldest();
        }
        let newest = self.packets.back().map_or(arrived, |packet| packet.arrived);
        if newest.since(arrived) > REORDERING_MAX {
            self.packets.clear();
            self.dropped_sent = None;
            return;
        }
        self.packets.push_back(Packet { sent, arrived, bytes });
        let mut at = self.packets.len() - 1;
        while at > 0 && self.packets[at].arrived < self.packets[at - 1].arrived {
            self.packets.swap(at, at - 1);
            at -= 1;
        }
    }

    /// Ends the feedback at hand: what is too old is dropped.
    pub fn finish(&mut self) {
        while self.oldest_is_beyond() {
            self.drop_oldest();
        }
    }

    /// Bits per second that arrived in the last 300 ms; `None` of too few packets. It follows a
    /// fall at once, and is too unsteady for anything else.
    pub fn recent_bps(&self) -> Option<f64> {
        let newest = self.packets.back()?.arrived;
        let is_recent = |packet: &&Packet| newest.since(packet.arrived) <= SPAN_RECENT;
        let (mut bytes, mut count, mut first) = (0, 0, None);
        for packet in self.packets.iter().rev().take_while(is_recent) {
            bytes += u64::from(packet.bytes);
            count += 1;
            first = Some(*packet);
        }
        let first = first.filter(|_| count >= PACKETS_NEEDED)?;
        let span_ms = millis_between(newest, first.arrived);
        Some(rate_bps(bytes - u64::from(first.bytes), span_ms))
    }

    /// Bits per second that arrived; `None` of too few packets.
    pub fn rate_bps(&self) -> Option<f64> {
        if self.packets.len() < PACKETS_NEEDED {
            return None;
        }
        let (first, last) = (self.packets.front()?, self.packets.back()?);
        let (mut gap_ms, mut second_gap_ms) = (0.0_f64, 0.0_f64);
        let mut previous = first.arrived;
        let mut bytes = 0;
        let mut sent = SentSpan::default();
        for packet in &self.packets {
            let gap = millis_between(packet.arrived, previous);
            previous = packet.arrived;
            if gap > gap_ms {
                (gap_ms, second_gap_ms) = (gap, gap_ms);
            } else {
                second_gap_ms = second_gap_ms.max(gap);
            }
            bytes += u64::from(packet.bytes);
            if self.dropped_sent.is_none_or(|dropped| packet.sent >= dropped) {
                sent.add(packet);
            }
        }
        // The first packet's bytes came in the time before it.
        let arrival_ms = millis_between(last.arrived, first.arrived) - gap_ms + second_gap_ms;
        let arrived_bps = rate_bps(bytes - u64::from(first.bytes), arrival_ms);
        Some(sent.rate_bps().map_or(arrived_bps, |sent_bps| arrived_bps.min(sent_bps)))
    }

    fn oldest_is_beyond(&self) -> bool {
        let (Some(oldest), Some(newest)) = (self.packets.front(), self.packets.back()) else {
            return false;
        };
        let count = self.packets.len();
        let span = newest.arrived.since(oldest.arrived);
        count > PACKETS_MAX || span > SPAN_MAX || count > PACKETS_MIN && span > SPAN_MIN
    }

    fn drop_oldest(&mut self) {
        let dropped = self.packets.pop_front().map(|packet| packet.sent);
        self.dropped_sent = self.dropped_sent.max(dropped);
    }
}

/// First and last departure among some packets.
#[derive(Default)]
struct SentSpan {
    first: Option<Time>,
    last: Option<Packet>,
    bytes: u64,
    count: usize,
}

impl SentSpan {
    fn add(&mut self, packet: &Packet) {
        self.first = Some(self.first.map_or(packet.sent, |first| first.min(packet.sent)));
        if self.last.is_none_or(|last| packet.sent > last.sent) {
            self.last = Some(*packet);
        }
        self.bytes += u64::from(packet.bytes);
        self.count += 1;
    }

    /// The last packet's bytes would leave in the time after it.
    fn rate_bps(&self) -> Option<f64> {
        let (first, last) = (self.first?, self.last?);
        let enough = self.count >= PACKETS_NEEDED;
        let bytes = self.bytes - u64::from(last.bytes);
        enough.then(|| rate_bps(bytes, millis_between(last.sent, first)))
    }
}

fn rate_bps(bytes: u64, span_ms: f64) -> f64 {
    bytes as f64 * 8.0 * 1e3 / span_ms.max(SPAN_MEASURED_MIN_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes packets of 1000 bytes, sent and received at steady rates.
    struct Link {
        sent_us: u64,
        arrived_us: u64,
    }

    impl Link {
        fn new() -> (Self, Acknowledged) {
            (Link { sent_us: 100_000_000, arrived_us: 10_000_000 }, Acknowledged::default())
        }

        fn packets(&mut self, count: usize, sent_kbps: u64, arrived_kbps: u64) -> Vec<Packet> {
            let packet = |_| {
                let packet = Packet {
                    sent: Time::from_nanos(self.sent_us * 1000),
                    arrived: Time::from_nanos(self.arrived_us * 1000),
                    bytes: 1000,
                };
                self.sent_us += 8_000_000 / sent_kbps;
                self.arrived_us += 8_000_000 / arrived_kbps;
                packet
            };
            (0..count).map(packet).collect()
        }
    }

    fn feed(window: &mut Acknowledged, packets: &[Packet]) -> Option<f64> {
        for packet in packets {
            window.on_packet(packet.sent, packet.arrived, packet.bytes);
        }
        window.finish();
        window.rate_bps().map(|bps| (bps / 1e3).round())
    }

    #[test]
    fn ten_packets_make_a_rate() {
        let (mut link, mut window) = Link::new();
        assert_eq!(feed(&mut window, &link.packets(9, 800, 800)), None);
        assert_eq!(feed(&mut window, &link.packets(1, 800, 800)), Some(800.0));
        assert_eq!(feed(&mut window, &link.packets(15, 800, 800)), Some(800.0));
    }

    #[test]
    fn it_adapts_within_a_second() {
        let (mut link, mut window) = Link::new();
        for (kbps, rounds) in [(800, 10), (1600, 20), (1600, 20), (400, 5), (400, 5)] {
            for _ in 0..rounds {
                let rate = feed(&mut window, &link.packets(10, kbps, kbps)).unwrap();
                assert!((400.0..=1600.0).contains(&rate));
            }
            let rate = feed(&mut window, &link.packets(10, kbps, kbps)).unwrap();
            assert!(rate == kbps as f64, "{rate} of {kbps}");
        }
    }

    #[test]
    fn the_recent_rate_follows_a_fall_at_once() {
        let (mut link, mut window) = Link::new();
        feed(&mut window, &link.packets(200, 1600, 1600));
        feed(&mut window, &link.packets(16, 1600, 400));
        assert!(window.rate_bps().unwrap() > 1e6);
        assert!((window.recent_bps().unwrap() - 4e5).abs() < 1e4);
        feed(&mut window, &link.packets(9, 1600, 100));
        assert_eq!(window.recent_bps(), None, "few packets in so long");
    }

    #[test]
    fn the_lesser_of_both_rates_counts() {
        for (sent, arrived) in [(800, 200), (400, 800)] {
            let (mut link, mut window) = Link::new();
            let rate = feed(&mut window, &link.packets(20, sent, arrived)).unwrap();
            let lesser = sent.min(arrived) as f64;
            assert!((rate - lesser).abs() <= 0.05 * lesser, "{rate}");
        }
    }

    #[test]
    fn one_gap_is_not_a_slow_link() {
        let (mut link, mut window) = Link::new();
        feed(&mut window, &link.packets(20, 800, 800));
        link.arrived_us += 250_000;
        for _ in 0..30 {
            let rate = feed(&mut window, &link.packets(1, 800, 4800)).unwrap();
            assert!((rate - 800.0).abs() <= 40.0, "{rate}");
        }
    }

    #[test]
    fn half_lost_is_half_the_rate() {
        let (mut link, mut window) = Link::new();
        let packets: Vec<_> = link.packets(20, 800, 800).into_iter().step_by(2).collect();
        let rate = feed(&mut window, &packets).unwrap();
        assert!((rate - 400.0).abs() <= 20.0, "{rate}");
    }

    #[test]
    fn feedback_out_of_order_is_put_in_order() {
        let (mut link, mut window) = Link::new();
        assert_eq!(feed(&mut window, &link.packets(20, 800, 800)), Some(800.0));
        let late = link.packets(10, 800, 800);
        assert!(feed(&mut window, &link.packets(10, 800, 800)).unwrap() < 800.0);
        assert_eq!(feed(&mut window, &late), Some(800.0));
    }

    #[test]
    fn a_packet_that_comes_very_late_is_no_low_rate() {
        let (mut link, mut window) = Link::new();
        let mut late = link.packets(1, 800, 800);
        for _ in 0..20 {
            feed(&mut window, &link.packets(10, 800, 800));
        }
        late[0].arrived = Time::from_nanos(link.arrived_us * 1000);
        let rate = feed(&mut window, &late).unwrap();
        assert!((rate - 800.0).abs() <= 40.0, "{rate}");
    }

    #[test]
    fn a_clock_that_was_set_begins_anew() {
        let (mut link, mut window) = Link::new();
        feed(&mut window, &link.packets(20, 800, 800));
        link.arrived_us -= 2_000_000;
        assert!(feed(&mut window, &link.packets(5, 1600, 1600)).is_none());
        assert_eq!(feed(&mut window, &link.packets(30, 1600, 1600)), Some(1600.0));
    }

    #[test]
    fn it_keeps_no_more_than_it_may() {
        let (mut link, mut window) = Link::new();
        for packet in link.packets(5_000, 100_000, 100_000) {
            window.on_packet(packet.sent, packet.arrived, packet.bytes);
            assert!(window.packets.len() <= PACKETS_MAX + 1);
        }
        assert!(window.packets.capacity() <= 1024);
    }
}
