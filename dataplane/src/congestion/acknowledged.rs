//! The rate that arrived, over the packets of the last second or so.
//!
//! It is the lesser of what was sent and what arrived over the same packets; the largest gap
//! between arrivals counts as the second largest, so that a link which stops once does not look
//! slow.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use opencall_wire::time::Time;

use super::millis_between;

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

/// Keeps the packets, ordered by arrival. Mostly they were sent in that order too, and then a rate
/// takes no look at all of them.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    packets: VecDeque<Packet>,
    /// Number of the oldest packet; each has the one after that of the one before.
    first: u64,
    /// Sending time of the newest that was dropped: what was sent before it came out of order.
    dropped_sent: Option<Time>,
    bytes: u64,
    /// Neighbours that were sent in the other order.
    inversions: usize,
    gaps: Gaps,
    /// A packet was put between others, and sums are to be made anew.
    stale: bool,
    rate_bps: Option<f64>,
}

/// The two largest gaps between arrivals within the window. One that two later ones are as large as
/// can never be among them again, so few are kept.
#[derive(Debug, Clone, Default)]
struct Gaps(VecDeque<Gap>);

#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Number of the packet behind it.
    number: u64,
    ms: f64,
    /// Later gaps that are as large.
    beaten: u8,
}

impl Gaps {
    fn push(&mut self, number: u64, ms: f64) {
        self.0.retain_mut(|gap| {
            gap.beaten += u8::from(gap.ms <= ms);
            gap.beaten < 2
        });
        self.0.push_back(Gap { number, ms, beaten: 0 });
    }

    /// Drops what lies before this packet.
    fn begin_at(&mut self, first: u64) {
        while self.0.front().is_some_and(|gap| gap.number <= first) {
            self.0.pop_front();
        }
    }

    fn largest_ms(&self) -> (f64, f64) {
        self.0.iter().fold((0.0, 0.0), |(first, second), gap| {
            if gap.ms > first { (gap.ms, first) } else { (first, gap.ms.max(second)) }
        })
    }
}

impl Acknowledged {
    /// Takes one packet that arrived.
    pub fn on_packet(&mut self, sent: Time, arrived: Time, bytes: u32) {
        if self.packets.len() > PACKETS_MAX {
            self.drop_oldest();
        }
        let newest = self.packets.back().map_or(arrived, |packet| packet.arrived);
        if newest.since(arrived) > REORDERING_MAX {
            *self = Acknowledged::default();
            return;
        }
        self.packets.push_back(Packet { sent, arrived, bytes });
        if arrived >= newest {
            self.count(self.packets.len() - 1);
            return;
        }
        self.stale = true;
        let mut at = self.packets.len() - 1;
        while at > 0 && self.packets[at].arrived < self.packets[at - 1].arrived {
            self.packets.swap(at, at - 1);
            at -= 1;
        }
    }

    /// Ends the feedback at hand: what is too old is dropped, and the rate follows.
    pub fn finish(&mut self) {
        while self.oldest_is_beyond() {
            self.drop_oldest();
        }
        if std::mem::take(&mut self.stale) {
            (self.bytes, self.inversions, self.gaps) = (0, 0, Gaps::default());
            (0..self.packets.len()).for_each(|at| self.count(at));
        }
        self.rate_bps = self.measure();
    }

    /// Bits per second that arrived; `None` of too few packets.
    pub fn rate_bps(&self) -> Option<f64> {
        self.rate_bps
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

    fn measure(&self) -> Option<f64> {
        if self.packets.len() < PACKETS_NEEDED {
            return None;
        }
        let (first, last) = (self.packets.front()?, self.packets.back()?);
        let (gap_ms, second_gap_ms) = self.gaps.largest_ms();
        // The first packet's bytes came in the time before it.
        let arrival_ms = millis_between(last.arrived, first.arrived) - gap_ms + second_gap_ms;
        let arrived_bps = rate_bps(self.bytes - u64::from(first.bytes), arrival_ms);
        let sent_bps = self.sent_span().rate_bps();
        Some(sent_bps.map_or(arrived_bps, |sent_bps| arrived_bps.min(sent_bps)))
    }

    fn sent_span(&self) -> SentSpan {
        let counts =
            |packet: &&Packet| self.dropped_sent.is_none_or(|dropped| packet.sent >= dropped);
        let (Some(first), Some(last)) = (self.packets.front(), self.packets.back()) else {
            return SentSpan::default();
        };
        if self.inversions > 0 || !counts(&first) {
            let mut span = SentSpan::default();
            self.packets.iter().filter(counts).for_each(|packet| span.add(packet));
            return span;
        }
        // Of several that left at once the first counts as the last.
        let together = self.packets.iter().rev().take_while(|packet| packet.sent == last.sent);
        SentSpan {
            first: Some(first.sent),
            last: together.last().copied(),
            bytes: self.bytes,
            count: self.packets.len(),
        }
    }

    /// Adds the packet at this place, which arrived after those before it, to the sums.
    fn count(&mut self, at: usize) {
        let packet = self.packets[at];
        self.bytes += u64::from(packet.bytes);
        let Some(before) = at.checked_sub(1).map(|before| self.packets[before]) else { return };
        self.inversions += usize::from(packet.sent < before.sent);
        let gap_ms = millis_between(packet.arrived, before.arrived);
        self.gaps.push(self.first + at as u64, gap_ms);
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
        let Some(dropped) = self.packets.pop_front() else { return };
        self.dropped_sent = self.dropped_sent.max(Some(dropped.sent));
        self.first += 1;
        if self.stale {
            return;
        }
        self.bytes -= u64::from(dropped.bytes);
        self.gaps.begin_at(self.first);
        if self.packets.front().is_some_and(|next| next.sent < dropped.sent) {
            self.inversions -= 1;
        }
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
    use opencall_wire::rtp::test_support::Random;

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

    /// What the sums must say, by a look at every packet.
    fn by_all(window: &Acknowledged) -> Option<f64> {
        let packets = &window.packets;
        if packets.len() < PACKETS_NEEDED {
            return None;
        }
        let gaps = packets.iter().zip(packets.iter().skip(1));
        let mut gaps: Vec<_> = gaps.map(|(a, b)| millis_between(b.arrived, a.arrived)).collect();
        gaps.sort_by(f64::total_cmp);
        let span_ms = millis_between(packets.back()?.arrived, packets.front()?.arrived);
        let [.., second, largest] = gaps[..] else { return None };
        let bytes: u64 = packets.iter().skip(1).map(|packet| u64::from(packet.bytes)).sum();
        let arrived_bps = rate_bps(bytes, span_ms - largest + second);
        let mut span = SentSpan::default();
        let counts = |p: &&Packet| window.dropped_sent.is_none_or(|dropped| p.sent >= dropped);
        packets.iter().filter(counts).for_each(|packet| span.add(packet));
        Some(span.rate_bps().map_or(arrived_bps, |sent_bps| sent_bps.min(arrived_bps)))
    }

    #[test]
    fn the_sums_are_those_of_all_packets() {
        let mut random = Random(5);
        for _ in 0..200 {
            let (_, mut window) = Link::new();
            let disorder = [0, 0, 3_000, 60_000, 1_500_000][random.below(5)];
            let (mut sent_us, mut arrived_us) = (1_000_000_u64, 2_000_000_u64);
            for _ in 0..200 {
                for _ in 0..random.below(40) {
                    sent_us += random.below(20_000) as u64 / 250 * 250;
                    arrived_us += random.below(20_000) as u64 / 250 * 250;
                    let off = random.below(disorder + 1) as u64;
                    let late = if random.one_in(2) { off } else { 0 };
                    window.on_packet(
                        Time::from_nanos((sent_us - off.min(sent_us)) * 1000),
                        Time::from_nanos((arrived_us - late.min(arrived_us)) * 1000),
                        random.below(1_500) as u32,
                    );
                }
                window.finish();
                let (ours, all) = (window.rate_bps(), by_all(&window));
                assert_eq!(ours.map(f64::round), all.map(f64::round));
            }
        }
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
