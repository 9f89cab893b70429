//! Reception statistics of one SSRC and the report block made of them (RFC 3550 sections 6.4.1,
//! A.1, A.3 and A.8).
//!
//! Loss is that of this SSRC alone, before repair: a packet that comes back as a retransmission
//! (RFC 4588, an SSRC of its own with a report block of its own, section 6.2 there) is counted as
//! repaired, not as received. The sender takes the block for what the network did to the stream,
//! and sizes its bitrate and protection by it.
//!
//! Worked trace, numbers on the wire 10, 11, 14, 13, 15, 15: after the first three, 5 are expected
//! and 3 received, so 2 are lost and the fraction is 2 · 256 / 5 = 102. Then 13 comes late, 15
//! twice: since the last block 1 more is expected and 3 received, the fraction is 0, and in all
//! 6 − 6 = 0 are lost: duplicates hide losses, as the RFC has it.
//!
//! A sender that begins anew under the same SSRC jumps to other numbers. That packet is judged
//! [`ArrivalKind::Restart`] and not counted: it belongs to the statistics that come after these.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::seq::{ExtendedSeq, SeqUnwrapper};
use opencall_wire::time::{NtpTime, Time};

use crate::ingress::source::MAX_DISAGREEMENT;
use crate::sender_clock::SenderClock;

/// How far back duplicates are told from late packets. At 500 packets per second it spans 4 s, far
/// beyond every retransmission; it costs 256 bytes per stream.
const WINDOW_PACKETS: u64 = 2048;
const WINDOW_WORDS: usize = (WINDOW_PACKETS / 64) as usize;

/// A step forward that is no longer loss but a new beginning: `MAX_DROPOUT` of RFC 3550 A.1.
/// Packets are authenticated, so it is believed at once.
const MAX_DROPOUT_PACKETS: u64 = 3000;

/// A step back that is no longer a late packet: `MAX_MISORDER` of RFC 3550 A.1.
const MAX_MISORDER_PACKETS: u64 = 100;

/// Numbers in a row that were all seen before, and nothing new between them, after which they are
/// those of a sender that began anew a little below where it was. Whatever is sent twice on a path
/// is far less, and comes among new packets.
const REPEATS_OF_A_RESTART: u16 = 64;

/// Transit times that differ by more than this are a jump of a clock, not jitter, as sender reports
/// have it too.
const MAX_TRANSIT_STEP: Duration = MAX_DISAGREEMENT;

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalKind {
    /// The highest number so far.
    New,
    /// Late, and not seen before.
    Reordered,
    /// Seen before, or too old to tell.
    Duplicate,
    /// The sender began anew with other numbers: this is the first packet of another source, which
    /// these statistics do not count.
    Restart,
}

/// What [`ReceiveStats`] says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, unwrapped.
    pub extended: ExtendedSeq,
    /// What it was.
    pub kind: ArrivalKind,
}

/// The fields of a report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Lost since the last block, units of 1/256.
    pub fraction_lost: u8,
    /// Lost in all, held to the 24 signed bits of the wire.
    pub cumulative_lost: i32,
    /// Highest number received, with 16 bits of cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter, timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 if there was none.
    pub last_sr: u32,
    /// Since that report, units of 1/65536 s; 0 if there was none.
    pub delay_since_last_sr: u32,
}

/// Reception statistics of one SSRC.
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    clock_rate_hz: u32,
    unwrapper: SeqUnwrapper,
    /// Bit n % 2048: whether number n arrived, for the 2048 numbers up to the highest.
    seen: [u64; WINDOW_WORDS],
    /// First number counted as expected.
    base: u64,
    /// The number that would go on with the last one that was implausible or seen before, and how
    /// many such there were in a row.
    probation: Option<(u16, u16)>,
    received: u64,
    repaired: u64,
    duplicates: u64,
    reordered: u64,
    expected_prior: u64,
    received_prior: u64,
    fraction_lost: u8,
    last_timestamp: Option<(u32, u32)>,
    /// Jitter times 16 (RFC 3550 A.8).
    jitter_q4: u32,
    sender: Option<(SenderClock, Time)>,
}

impl ReceiveStats {
    /// Statistics of a stream whose RTP clock runs at `clock_rate_hz`.
    pub fn new(clock_rate_hz: u32) -> Self {
        ReceiveStats {
            clock_rate_hz,
            unwrapper: SeqUnwrapper::new(),
            seen: [0; WINDOW_WORDS],
            base: 0,
            probation: None,
            received: 0,
            repaired: 0,
            duplicates: 0,
            reordered: 0,
            expected_prior: 0,
            received_prior: 0,
            fraction_lost: 0,
            last_timestamp: None,
            jitter_q4: 0,
            sender: None,
        }
    }

    /// Statistics of the source that comes after: nothing of this one is in them, and its numbers
    /// will lie above all of this one's.
    #[must_use]
    pub fn successor(&self) -> Self {
        let unwrapper = self.unwrapper.successor();
        ReceiveStats { unwrapper, ..ReceiveStats::new(self.clock_rate_hz) }
    }

    /// Statistics of a source that goes on after its core was replaced: all up to `highest` counts
    /// as received, and what was lost before is forgotten.
    #[must_use]
    pub fn resume(clock_rate_hz: u32, origin: u64, highest: ExtendedSeq) -> Self {
        ReceiveStats {
            unwrapper: SeqUnwrapper::resume(origin, highest),
            seen: [u64::MAX; WINDOW_WORDS],
            base: highest.0.wrapping_add(1),
            ..ReceiveStats::new(clock_rate_hz)
        }
    }

    /// The first number of the cycle in which the numbers began.
    pub fn origin(&self) -> u64 {
        self.unwrapper.origin()
    }

    /// Counts a packet of this SSRC, unless it is the first of another source.
    pub fn on_packet(&mut self, now: Time, sequence: u16, timestamp: u32) -> Arrival {
        let arrival = self.place(sequence, timestamp);
        match arrival.kind {
            ArrivalKind::New => self.update_jitter(now, timestamp),
            ArrivalKind::Restart => return arrival,
            ArrivalKind::Reordered => self.reordered += 1,
            ArrivalKind::Duplicate => self.duplicates += 1,
        }
        self.received += 1;
        arrival
    }

    /// Notes a packet of this SSRC that came as a retransmission on another (RFC 4588): `sequence`
    /// is the original number. [`ArrivalKind::Duplicate`] says that it repairs nothing.
    pub fn on_repaired(&mut self, sequence: u16) -> Arrival {
        let extended = self.unwrapper.peek(sequence);
        let Some(highest) = self.unwrapper.highest() else {
            return Arrival { extended, kind: ArrivalKind::Duplicate };
        };
        // Nothing beyond the highest or before the first was ever asked for: such a number is
        // padding, a lie, or of the source before this one.
        if extended > highest || extended.0 < self.base || !self.mark_late(extended, highest) {
            return Arrival { extended, kind: ArrivalKind::Duplicate };
        }
        self.repaired += 1;
        Arrival { extended, kind: ArrivalKind::Reordered }
    }

    /// Notes a sender report of this SSRC.
    pub fn on_sender_report(&mut self, now: Time, ntp: NtpTime, rtp_timestamp: u32) {
        self.sender = Some((SenderClock { ntp, rtp: rtp_timestamp }, now));
    }

    /// The report block of the interval that ends at `now`; the next one begins here.
    pub fn report_block(&mut self, now: Time) -> Report {
        let expected = self.expected();
        let expected_interval = expected.saturating_sub(self.expected_prior);
        let received_interval = self.received.saturating_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        self.fraction_lost = match expected_interval {
            0 => 0,
            n => (lost_interval * 256 / n).min(255) as u8,
        };
        let (last_sr, delay_since_last_sr) = match self.sender {
            Some((clock, at)) => (clock.ntp.middle(), q16_seconds(now.since(at))),
            None => (0, 0),
        };
        Report {
            fraction_lost: self.fraction_lost,
            cumulative_lost: self.packets_lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            // Cycles count from 0 on the wire.
            highest_sequence: self
                .highest()
                .map_or(0, |highest| highest.0.wrapping_sub(self.unwrapper.origin()) as u32),
            jitter: self.jitter(),
            last_sr,
            delay_since_last_sr,
        }
    }

    /// The highest number so far.
    pub fn highest(&self) -> Option<ExtendedSeq> {
        self.unwrapper.highest()
    }

    /// The number nearest to the highest with this wire form.
    pub fn peek(&self, sequence: u16) -> ExtendedSeq {
        self.unwrapper.peek(sequence)
    }

    /// The clocks of the last sender report, and when it arrived.
    pub fn sender_clock(&self) -> Option<(SenderClock, Time)> {
        self.sender
    }

    /// Packets received, duplicates included, repaired ones not.
    pub fn packets(&self) -> u64 {
        self.received
    }

    /// Packets lost before repair; negative when duplicates outnumber losses.
    pub fn packets_lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// Packets that came back as retransmissions on another SSRC.
    pub fn packets_repaired(&self) -> u64 {
        self.repaired
    }

    /// Packets seen before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came late.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Fraction lost in the last report block, units of 1/256.
    pub fn fraction_lost(&self) -> u8 {
        self.fraction_lost
    }

    /// Interarrival jitter, timestamp units.
    pub fn jitter(&self) -> u32 {
        self.jitter_q4 >> 4
    }

    /// Packets expected so far.
    fn expected(&self) -> u64 {
        self.highest().map_or(0, |highest| highest.0 + 1 - self.base)
    }

    /// Unwraps and judges a number (RFC 3550 A.1, without its probation of new sources: packets are
    /// authenticated before they come here).
    fn place(&mut self, sequence: u16, timestamp: u32) -> Arrival {
        let Some(highest) = self.unwrapper.highest() else {
            let extended = self.unwrapper.unwrap(sequence);
            self.base = extended.0;
            self.set(extended);
            return Arrival { extended, kind: ArrivalKind::New };
        };
        let extended = self.unwrapper.peek(sequence);
        if extended > highest {
            if extended.ahead_of(highest) >= MAX_DROPOUT_PACKETS {
                return Arrival { extended, kind: ArrivalKind::Restart };
            }
            self.advance(highest, extended);
            self.probation = None;
            return Arrival { extended, kind: ArrivalKind::New };
        }
        let kind = self.judge_late(sequence, timestamp, extended, highest);
        Arrival { extended, kind }
    }

    /// Tells late packets from repeated ones, and both from a sender that began anew with lower
    /// numbers.
    fn judge_late(
        &mut self,
        sequence: u16,
        timestamp: u32,
        extended: ExtendedSeq,
        highest: ExtendedSeq,
    ) -> ArrivalKind {
        if self.mark_late(extended, highest) {
            return ArrivalKind::Reordered;
        }
        let behind = highest.ahead_of(extended);
        let is_later = self
            .last_timestamp
            .is_some_and(|(newest, _)| timestamp.wrapping_sub(newest) as i32 > 0);
        // What is older by its number and newer by its clock is of another source. Otherwise one
        // may be a stray; several in a row are not.
        let needed = match (behind < WINDOW_PACKETS, behind >= MAX_MISORDER_PACKETS && is_later) {
            (false, true) => 1,
            (false, false) | (true, true) => 2,
            (true, false) => REPEATS_OF_A_RESTART,
        };
        let run = match self.probation {
            Some((next, run)) if next == sequence => run.saturating_add(1),
            _ => 1,
        };
        if run >= needed {
            return ArrivalKind::Restart;
        }
        self.probation = Some((sequence.wrapping_add(1), run));
        ArrivalKind::Duplicate
    }

    /// Moves the window up to `extended`, clearing what it newly covers.
    fn advance(&mut self, highest: ExtendedSeq, extended: ExtendedSeq) {
        if extended.ahead_of(highest) >= WINDOW_PACKETS {
            self.seen = [0; WINDOW_WORDS];
        } else {
            for number in highest.0 + 1..extended.0 {
                let (word, bit) = position(ExtendedSeq(number));
                self.seen[word] &= !bit;
            }
        }
        self.unwrapper.unwrap(extended.wire());
        self.set(extended);
    }

    /// Marks a number at or below the highest; whether it is in the window and was not yet marked.
    fn mark_late(&mut self, extended: ExtendedSeq, highest: ExtendedSeq) -> bool {
        if highest.ahead_of(extended) >= WINDOW_PACKETS {
            return false;
        }
        let (word, bit) = position(extended);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    fn set(&mut self, extended: ExtendedSeq) {
        let (word, bit) = position(extended);
        self.seen[word] |= bit;
    }

    /// RFC 3550 A.8, once per timestamp: packets of one frame leave one after the other, and their
    /// spacing is the sender's pacing and no jitter.
    fn update_jitter(&mut self, now: Time, timestamp: u32) {
        let arrival = self.clock_units(now);
        let transit = arrival.wrapping_sub(timestamp);
        let Some((last_timestamp, last_transit)) = self.last_timestamp else {
            self.last_timestamp = Some((timestamp, transit));
            return;
        };
        if last_timestamp == timestamp {
            return;
        }
        self.last_timestamp = Some((timestamp, transit));
        let step = (transit.wrapping_sub(last_transit) as i32).unsigned_abs();
        let limit = u64::from(self.clock_rate_hz) * MAX_TRANSIT_STEP.as_secs();
        if u64::from(step) > limit {
            return;
        }
        let decay = (self.jitter_q4 + 8) >> 4;
        self.jitter_q4 = self.jitter_q4.saturating_add(step) - decay;
    }

    /// `now` on a clock of the stream's rate, wrapping like its timestamps.
    fn clock_units(&self, now: Time) -> u32 {
        // Seconds and the rest apart: 128-bit division costs more than all else done per packet
        // here.
        let (seconds, nanos) = (now.as_nanos() / 1_000_000_000, now.as_nanos() % 1_000_000_000);
        let whole = (seconds as u32).wrapping_mul(self.clock_rate_hz);
        whole.wrapping_add((nanos * u64::from(self.clock_rate_hz) / 1_000_000_000) as u32)
    }
}

/// Where the bit of a number is.
fn position(extended: ExtendedSeq) -> (usize, u64) {
    let index = extended.0 % WINDOW_PACKETS;
    ((index / 64) as usize, 1 << (index % 64))
}

/// A duration in units of 1/65536 s, saturating after 18 hours.
fn q16_seconds(duration: Duration) -> u32 {
    let units = (duration.as_nanos() << 16) / 1_000_000_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90 kHz video at one packet per `tick` of 10 ms.
    fn feed(stats: &mut ReceiveStats, numbers: impl IntoIterator<Item = u16>) -> Vec<ArrivalKind> {
        let mut tick = 0_u32;
        numbers
            .into_iter()
            .map(|sequence| {
                tick += 1;
                stats.on_packet(Time::from_millis(u64::from(tick) * 10), sequence, tick * 900).kind
            })
            .collect()
    }

    #[test]
    fn follows_the_worked_trace() {
        use ArrivalKind::{Duplicate, New, Reordered};
        let mut stats = ReceiveStats::new(90_000);
        assert_eq!(feed(&mut stats, [10, 11, 14]), [New, New, New]);
        let report = stats.report_block(Time::from_millis(50));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (102, 2));
        assert_eq!(report.highest_sequence, 14);

        assert_eq!(feed(&mut stats, [13, 15, 15]), [Reordered, New, Duplicate]);
        let report = stats.report_block(Time::from_millis(100));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
        assert_eq!((stats.reordered(), stats.duplicates(), stats.packets()), (1, 1, 6));
    }

    #[test]
    fn an_interval_without_packets_reports_no_loss() {
        let mut stats = ReceiveStats::new(90_000);
        assert_eq!(stats.report_block(Time::ZERO), Report::default());
        feed(&mut stats, [1, 3]);
        assert_eq!(stats.report_block(Time::from_millis(50)).fraction_lost, 85);
        let report = stats.report_block(Time::from_millis(60));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 1));
    }

    #[test]
    fn cycles_are_counted_from_zero_on_the_wire() {
        let mut stats = ReceiveStats::new(90_000);
        feed(&mut stats, [0xfffe, 0xffff, 0, 1]);
        let report = stats.report_block(Time::from_millis(50));
        assert_eq!(report.highest_sequence, 0x1_0001);
        assert_eq!(report.cumulative_lost, 0);
    }

    #[test]
    fn retransmissions_repair_but_do_not_hide_loss() {
        let mut stats = ReceiveStats::new(90_000);
        assert_eq!(stats.on_repaired(7).kind, ArrivalKind::Duplicate, "nothing received yet");
        feed(&mut stats, [1, 2, 5]);
        let repaired = stats.on_repaired(3);
        assert_eq!(repaired.kind, ArrivalKind::Reordered);
        assert_eq!(repaired.extended, ExtendedSeq(0x1_0003));
        assert_eq!(stats.on_repaired(3).kind, ArrivalKind::Duplicate);
        assert_eq!(stats.on_repaired(6).kind, ArrivalKind::Duplicate, "not yet sent");
        assert_eq!(feed(&mut stats, [3]), [ArrivalKind::Duplicate], "the original, late");
        assert_eq!(stats.packets_repaired(), 1);
        assert_eq!(stats.packets_lost(), 5 - 4);
    }

    #[test]
    fn a_long_outage_and_a_new_beginning() {
        use ArrivalKind::{Duplicate, New, Restart};
        let mut stats = ReceiveStats::new(90_000);
        // 2900 packets missing are loss; 3000 are a restart, and no loss.
        assert_eq!(feed(&mut stats, [100, 3000, 6000]), [New, New, Restart]);
        assert_eq!((stats.packets(), stats.packets_lost()), (2, 2899));
        // Backwards beyond the window, one packet is a stray, two in a row are a restart.
        let mut stats = ReceiveStats::new(90_000);
        let mut take = |sequence, timestamp| stats.on_packet(Time::ZERO, sequence, timestamp).kind;
        assert_eq!([take(6000, 9000), take(1000, 0), take(6001, 9900)], [New, Duplicate, New]);
        assert_eq!([take(1001, 0), take(1002, 0)], [Duplicate, Restart]);
    }

    #[test]
    fn numbers_that_go_back_while_the_clock_goes_on_are_a_new_beginning() {
        use ArrivalKind::{Duplicate, New, Reordered, Restart};
        let begun = || {
            let mut stats = ReceiveStats::new(90_000);
            for n in 0..400_u32 {
                let at = Time::from_millis(u64::from(n) * 10);
                stats.on_packet(at, 5000 + n as u16, n * 900);
            }
            stats
        };
        let feed = |stats: &mut ReceiveStats, packets: &[(u16, u32)]| {
            let at = Time::from_millis(4000);
            packets.iter().map(|&(n, ts)| stats.on_packet(at, n, ts).kind).collect::<Vec<_>>()
        };
        let (newer, older) = (500 * 900, 10 * 900);
        assert_eq!(feed(&mut begun(), &[(1000, newer)]), [Restart], "beyond the window");
        assert_eq!(feed(&mut begun(), &[(1000, older), (1001, older)]), [Duplicate, Restart]);
        assert_eq!(feed(&mut begun(), &[(5100, newer), (5101, newer)]), [Duplicate, Restart]);
        assert_eq!(feed(&mut begun(), &[(5100, newer), (5400, newer)]), [Duplicate, New]);
        assert_eq!(feed(&mut begun(), &[(4999, older)]), [Reordered], "before the first");
        // Repeated one by one, and as a sender that goes on from there.
        let mut stats = begun();
        let repeated: Vec<_> = (0..63).map(|n| (5100 + n, older)).collect();
        assert_eq!(feed(&mut stats, &repeated), [Duplicate; 63]);
        assert_eq!(feed(&mut stats, &[(5163, older)]), [Restart]);
    }

    #[test]
    fn a_successor_knows_nothing_and_its_numbers_lie_above() {
        let mut stats = ReceiveStats::new(90_000);
        feed(&mut stats, [0xfffe, 0, 5, 9]);
        stats.on_sender_report(Time::from_millis(5), NtpTime(1 << 40), 77);
        for first in [0_u16, 9, 10, 40_000, 0xffff] {
            let mut next = stats.successor();
            assert_eq!(next.report_block(Time::from_millis(50)), Report::default());
            let arrival = next.on_packet(Time::from_millis(100), first, 5);
            assert_eq!((arrival.kind, arrival.extended.wire()), (ArrivalKind::New, first));
            let before = next.on_packet(Time::from_millis(100), first.wrapping_sub(1), 5);
            assert_eq!(before.kind, ArrivalKind::Reordered);
            assert!(before.extended > stats.highest().unwrap(), "{first}");
            let report = next.report_block(Time::from_millis(150));
            assert_eq!(report.highest_sequence, u32::from(first));
            assert_eq!((report.fraction_lost, report.last_sr, report.jitter), (0, 0, 0));
            let repair = next.on_repaired(first.wrapping_sub(30));
            assert_eq!(repair.kind, ArrivalKind::Duplicate, "of the source before");
        }
    }

    #[test]
    fn every_number_of_the_window_is_told_apart() {
        let mut stats = ReceiveStats::new(90_000);
        feed(&mut stats, (0..5000_u16).filter(|n| n % 2 == 0));
        for sequence in 5000 - WINDOW_PACKETS as u16..4998 {
            let kind = feed(&mut stats, [sequence])[0];
            let odd = sequence % 2 == 1;
            let wanted = if odd { ArrivalKind::Reordered } else { ArrivalKind::Duplicate };
            assert_eq!(kind, wanted, "{sequence}");
        }
        assert_eq!(feed(&mut stats, [2901]), [ArrivalKind::Duplicate], "too old to tell");
    }

    #[test]
    fn jitter_of_an_even_stream_is_zero_and_of_a_shaky_one_converges() {
        let mut stats = ReceiveStats::new(90_000);
        for i in 0..1000_u32 {
            stats.on_packet(Time::from_millis(u64::from(i) * 20), i as u16, i * 1800);
        }
        assert_eq!(stats.jitter(), 0);

        // Every other packet 10 ms late: |D| is always 900, and so is the jitter in the end.
        let mut stats = ReceiveStats::new(90_000);
        for i in 0..1000_u32 {
            let late = u64::from(i % 2) * 10;
            stats.on_packet(Time::from_millis(u64::from(i) * 20 + late), i as u16, i * 1800);
        }
        assert!((890..=900).contains(&stats.jitter()), "{}", stats.jitter());
    }

    #[test]
    fn jitter_ignores_frames_spread_by_pacing_and_clock_jumps() {
        let mut stats = ReceiveStats::new(90_000);
        for i in 0..100_u32 {
            let frame = i / 10;
            let at = Time::from_millis(u64::from(frame) * 40 + u64::from(i % 10));
            stats.on_packet(at, i as u16, frame * 3600);
        }
        for (number, timestamp) in
            [0x8000_0000, 0x8000_0000 + 2 * 90_000, 0x8000_0000].into_iter().enumerate()
        {
            stats.on_packet(Time::from_millis(400), 100 + number as u16, timestamp);
            assert_eq!(stats.jitter(), 0);
        }
    }

    #[test]
    fn sender_reports_come_back_as_lsr_and_dlsr() {
        let mut stats = ReceiveStats::new(48_000);
        stats.on_sender_report(Time::from_millis(1000), NtpTime(0x1122_3344_5566_7788), 77);
        let report = stats.report_block(Time::from_millis(1500));
        assert_eq!((report.last_sr, report.delay_since_last_sr), (0x3344_5566, 0x8000));
        let (clock, at) = stats.sender_clock().unwrap();
        assert_eq!((clock.rtp, at), (77, Time::from_millis(1000)));
    }
}
