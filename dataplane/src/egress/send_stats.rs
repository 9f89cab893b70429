//! What went out to a consumer, and what its client reports of it (RFC 3550 section 6.4).
//!
//! Worked trace of a round trip: a sender report with NTP middle bits 0x0012_0000 left at 10.000 s.
//! A report block arrives at 10.150 s with LSR 0x0012_0000 and DLSR 0x1999 (0.1 s): the round trip
//! took 150 ms − 100 ms = 50 ms. When it left is looked up here rather than read off the LSR:
//! reports carry the producer's wall clock, not ours.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::ingress::receive_stats::Report;
use crate::message::RtpStreamStats;
use crate::rate::CounterRate;
use crate::time::{NtpTime, Time};

/// Sender reports whose departure is remembered. Clients answer the last they got, and reports go
/// out once a second: an answer to one older than this is no round trip.
const REPORTS_REMEMBERED: usize = 4;

/// Taken for the round trip until it is known.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// A round trip longer than this is a mistake of someone's clock.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);

/// The best score.
const MAX_SCORE: u8 = 10;

/// Statistics of one outgoing stream.
#[derive(Debug, Clone)]
pub struct SendStats {
    packets: u64,
    bytes: u64,
    /// Payload bytes, as sender reports count them.
    octets: u64,
    /// Apart, for it does not change with every packet.
    feedback: Box<ReceivedFeedback>,
}

/// What the client has said, what was done for it, and what follows from both.
#[derive(Debug, Clone)]
struct ReceivedFeedback {
    rate: CounterRate,
    retransmitted: u64,
    retransmitted_bytes: u64,
    nacks: u64,
    nack_packets: u64,
    plis: u64,
    firs: u64,
    /// Sender reports that left: middle bits of their NTP time, and when.
    reports: [Option<(u32, Time)>; REPORTS_REMEMBERED],
    next_report: usize,
    round_trip: Option<Duration>,
    /// What the client said last.
    report: Option<Report>,
    /// Packets and retransmissions when it said so.
    report_base: (u64, u64),
    score: u8,
    told_score: u8,
}

impl SendStats {
    /// Statistics of a stream that has not begun.
    pub fn new(now: Time) -> Self {
        let feedback = ReceivedFeedback {
            rate: CounterRate::new(now),
            retransmitted: 0,
            retransmitted_bytes: 0,
            nacks: 0,
            nack_packets: 0,
            plis: 0,
            firs: 0,
            reports: [None; REPORTS_REMEMBERED],
            next_report: 0,
            round_trip: None,
            report: None,
            report_base: (0, 0),
            score: MAX_SCORE,
            told_score: MAX_SCORE,
        };
        SendStats { packets: 0, bytes: 0, octets: 0, feedback: Box::new(feedback) }
    }

    /// Counts a packet that left for the first time: its payload, and its whole length.
    pub fn on_sent(&mut self, payload_len: usize, len: usize) {
        self.packets += 1;
        self.octets += payload_len as u64;
        self.bytes += len as u64;
    }

    /// Counts a retransmission of `len` bytes. Those sent as RTX are a stream of their own and do
    /// not count as packets of this one.
    pub fn on_retransmitted(&mut self, len: usize) {
        self.feedback.retransmitted += 1;
        self.feedback.retransmitted_bytes += len as u64;
    }

    /// Ends one interval of the bitrate: to be called once a second.
    pub fn sample_rate(&mut self, now: Time) {
        self.feedback.rate.sample(now, self.bytes_with_repeats());
    }

    /// Counts a NACK message.
    pub fn on_nack(&mut self) {
        self.feedback.nacks += 1;
    }

    /// Counts a packet that a NACK asked for.
    pub fn on_packet_requested(&mut self) {
        self.feedback.nack_packets += 1;
    }

    /// Counts a PLI message.
    pub fn on_pli(&mut self) {
        self.feedback.plis += 1;
    }

    /// Counts a FIR message.
    pub fn on_fir(&mut self) {
        self.feedback.firs += 1;
    }

    /// Notes that a sender report with this NTP time leaves now.
    pub fn on_report_sent(&mut self, now: Time, ntp: NtpTime) {
        self.feedback.reports[self.feedback.next_report] = Some((ntp.middle(), now));
        self.feedback.next_report = (self.feedback.next_report + 1) % REPORTS_REMEMBERED;
    }

    /// Takes up a report block of the client.
    pub fn on_report(&mut self, now: Time, report: &Report) {
        if let Some(sample) = self.round_trip_of(now, report) {
            // A quarter of each new sample: one report delayed by a burst moves it little.
            self.feedback.round_trip =
                Some(self.feedback.round_trip.map_or(sample, |smooth| (smooth * 3 + sample) / 4));
        }
        let (packets, retransmitted) = self.feedback.report_base;
        let sent = self.packets.saturating_sub(packets);
        let repaired = self.feedback.retransmitted.saturating_sub(retransmitted);
        self.feedback.score = score(report.fraction_lost, sent, repaired);
        self.feedback.report_base = (self.packets, self.feedback.retransmitted);
        self.feedback.report = Some(*report);
    }

    /// The round trip to the client, or a guess while it is unknown.
    pub fn round_trip(&self) -> Duration {
        self.feedback.round_trip.unwrap_or(DEFAULT_ROUND_TRIP)
    }

    /// Packets and payload bytes as sender reports carry them, wrapping; `None` before the first.
    pub fn sent(&self) -> Option<(u32, u32)> {
        (self.packets > 0).then_some((self.packets as u32, self.octets as u32))
    }

    /// Recent bits per second, retransmissions included.
    pub fn bps(&self, now: Time) -> u32 {
        self.feedback.rate.bps(now, self.bytes_with_repeats())
    }

    fn bytes_with_repeats(&self) -> u64 {
        self.bytes + self.feedback.retransmitted_bytes
    }

    /// Fraction lost as the client reported last, units of 1/256.
    pub fn fraction_lost(&self) -> u8 {
        self.feedback.report.map_or(0, |report| report.fraction_lost)
    }

    /// The score, 0–10, when it is another than at the last call.
    pub fn changed_score(&mut self) -> Option<u8> {
        if self.feedback.score == self.feedback.told_score {
            return None;
        }
        self.feedback.told_score = self.feedback.score;
        Some(self.feedback.score)
    }

    /// Puts the numbers into `stats`, leaving what only the owner knows.
    pub fn fill(&mut self, now: Time, stats: RtpStreamStats) -> RtpStreamStats {
        let report = self.feedback.report.unwrap_or_default();
        RtpStreamStats {
            packets: self.packets,
            bytes: self.bytes,
            bitrate_bps: self.bps(now),
            packets_lost: i64::from(report.cumulative_lost),
            fraction_lost: report.fraction_lost,
            jitter: report.jitter,
            round_trip_ms: self.feedback.round_trip.map(|rtt| rtt.as_secs_f32() * 1000.0),
            nack_count: self.feedback.nacks,
            nack_packet_count: self.feedback.nack_packets,
            packets_retransmitted: self.feedback.retransmitted,
            pli_count: self.feedback.plis,
            fir_count: self.feedback.firs,
            score: self.feedback.score,
            ..stats
        }
    }

    fn round_trip_of(&self, now: Time, report: &Report) -> Option<Duration> {
        if report.last_sr == 0 {
            return None;
        }
        let (_, left) = self
            .feedback
            .reports
            .iter()
            .flatten()
            .rev()
            .find(|(middle, _)| *middle == report.last_sr)?;
        let held =
            Duration::from_nanos((u64::from(report.delay_since_last_sr) * 1_000_000_000) >> 16);
        // A client whose clock runs a little fast may claim to have held it for longer than it was
        // away: then the round trip is short.
        let round_trip = now.since(*left).saturating_sub(held);
        (round_trip <= MAX_ROUND_TRIP).then_some(round_trip)
    }
}

/// Quality of an interval, 0–10: the share of packets that came; a repaired one counts half, since
/// it came late.
fn score(fraction_lost: u8, sent: u64, repaired: u64) -> u8 {
    let lost = u64::from(fraction_lost);
    let repaired = (repaired * 256).checked_div(sent).unwrap_or(0).min(lost);
    let good = 2 * (256 - lost) + repaired;
    (u64::from(MAX_SCORE) * good).div_ceil(512) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn ntp(middle: u32) -> NtpTime {
        NtpTime(u64::from(middle) << 16)
    }

    fn answer(last_sr: u32, delay_since_last_sr: u32) -> Report {
        Report { last_sr, delay_since_last_sr, ..Report::default() }
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut stats = SendStats::new(Time::ZERO);
        assert_eq!(stats.round_trip(), Duration::from_millis(100), "a guess");
        stats.on_report_sent(at(10_000), ntp(0x0012_0000));
        stats.on_report(at(10_150), &answer(0x0012_0000, 0x1999));
        let millis = stats.round_trip().as_micros() as f64 / 1000.0;
        assert!((millis - 50.0).abs() < 0.1, "{millis}");
    }

    #[test]
    fn only_answers_to_recent_reports_measure() {
        let mut stats = SendStats::new(Time::ZERO);
        for (n, middle) in (1..=5).zip([10, 20, 30, 40, 50]) {
            stats.on_report_sent(at(n * 1000), ntp(middle));
        }
        // None yet; of the first report, forgotten by now; of one never sent.
        for last_sr in [0, 10, 60] {
            stats.on_report(at(5_100), &answer(last_sr, 0));
            assert_eq!(stats.round_trip(), DEFAULT_ROUND_TRIP);
        }
        stats.on_report(at(5_100), &answer(20, 3 << 16));
        assert_eq!(stats.round_trip(), Duration::from_millis(100));
        stats.on_report(at(5_200), &answer(50, 0));
        assert_eq!(stats.round_trip(), Duration::from_millis(125), "a quarter of 200");
        stats.on_report(at(5_200), &answer(50, u32::MAX));
        assert_eq!(stats.round_trip(), Duration::from_micros(93_750), "held for longer than away");
        stats.on_report(at(60_000), &answer(50, 0));
        assert_eq!(stats.round_trip(), Duration::from_micros(93_750), "a minute is no round trip");
    }

    #[test]
    fn counts_what_sender_reports_and_statistics_need() {
        let mut stats = SendStats::new(Time::ZERO);
        assert_eq!(stats.sent(), None);
        for _ in 0..100 {
            stats.on_sent(1200, 1250);
        }
        stats.on_retransmitted(1250);
        stats.on_nack();
        stats.on_packet_requested();
        stats.on_pli();
        stats.on_fir();
        assert_eq!(stats.sent(), Some((100, 120_000)));
        let report = Report { fraction_lost: 8, cumulative_lost: 3, jitter: 90, ..answer(0, 0) };
        stats.on_report(at(999), &report);
        let filled = stats.fill(at(1000), RtpStreamStats { ssrc: 7, ..RtpStreamStats::default() });
        assert_eq!((filled.ssrc, filled.packets, filled.bytes), (7, 100, 125_000));
        assert_eq!(filled.bitrate_bps, 1_010_000);
        assert_eq!((filled.packets_lost, filled.fraction_lost, filled.jitter), (3, 8, 90));
        assert_eq!((filled.nack_count, filled.nack_packet_count), (1, 1));
        assert_eq!((filled.packets_retransmitted, filled.pli_count, filled.fir_count), (1, 1, 1));
        assert_eq!(filled.round_trip_ms, None);
    }

    #[test]
    fn the_score_is_told_when_it_changes() {
        let mut stats = SendStats::new(Time::ZERO);
        assert_eq!(stats.changed_score(), None);
        stats.on_report(at(0), &Report { fraction_lost: 128, ..Report::default() });
        assert_eq!(stats.changed_score(), Some(5));
        assert_eq!(stats.changed_score(), None);
        stats.on_report(at(0), &Report::default());
        assert_eq!(stats.changed_score(), Some(10));
    }

    #[test]
    fn scores_fall_with_loss_and_repair_takes_half_of_it_back() {
        let cases = [
            (0, 100, 0, 10),
            (0, 0, 0, 10),
            (25, 0, 0, 10),
            (26, 100, 0, 9),
            (128, 100, 0, 5),
            (128, 100, 50, 8),
            (128, 100, 9_999, 8),
            (255, 100, 0, 1),
        ];
        for (lost, sent, repaired, wanted) in cases {
            assert_eq!(score(lost, sent, repaired), wanted, "{lost} {sent} {repaired}");
        }
    }
}
