//! What went out to a consumer, and what its client reports of it (RFC 3550 section 6.4).
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::{NtpTime, Time};

use crate::ingress::receive_stats::Report;
use crate::message::RtpStreamStats;
use crate::rate::CounterRate;
use crate::round_trip::RoundTrip;

/// No score.
const UNTOLD: u8 = u8::MAX;

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
    round_trip: RoundTrip,
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
            round_trip: RoundTrip::default(),
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

    /// Packets that left for the first time.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that were sent again.
    pub fn packets_retransmitted(&self) -> u64 {
        self.feedback.retransmitted
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
        self.feedback.round_trip.on_report_sent(now, ntp);
    }

    /// Takes up a report block of the client.
    pub fn on_report(&mut self, now: Time, report: &Report) {
        let (last_sr, held) = (report.last_sr, report.delay_since_last_sr);
        self.feedback.round_trip.on_answer(now, last_sr, held);
        let (packets, retransmitted) = self.feedback.report_base;
        let sent = self.packets.saturating_sub(packets);
        let repaired = self.feedback.retransmitted.saturating_sub(retransmitted);
        self.feedback.score = score(report.fraction_lost, sent, repaired);
        self.feedback.report_base = (self.packets, self.feedback.retransmitted);
        self.feedback.report = Some(*report);
    }

    /// The round trip to the client, or a guess while it is unknown.
    pub fn round_trip(&self) -> Duration {
        self.feedback.round_trip.measured_or_default()
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

    /// Of a stream that another core had before, whose last score nobody here knows: the next one
    /// that the client reports is told, whatever it is.
    pub fn resume(&mut self) {
        self.feedback.told_score = UNTOLD;
    }

    /// The score, 0–10, when it is another than at the last call.
    pub fn changed_score(&mut self) -> Option<u8> {
        let is_known = self.feedback.told_score != UNTOLD || self.feedback.report.is_some();
        if self.feedback.score == self.feedback.told_score || !is_known {
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
            round_trip_ms: self.feedback.round_trip.millis(),
            nack_count: self.feedback.nacks,
            nack_packet_count: self.feedback.nack_packets,
            packets_retransmitted: self.feedback.retransmitted,
            pli_count: self.feedback.plis,
            fir_count: self.feedback.firs,
            score: self.feedback.score,
            ..stats
        }
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

    #[test]
    fn report_blocks_measure_the_round_trip() {
        let mut stats = SendStats::new(Time::ZERO);
        stats.on_report_sent(at(10_000), NtpTime(0x0012_0000 << 16));
        let answer =
            Report { last_sr: 0x0012_0000, delay_since_last_sr: 0x8000, ..Report::default() };
        stats.on_report(at(10_550), &answer);
        assert_eq!(stats.round_trip(), Duration::from_millis(50));
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
        let report =
            Report { fraction_lost: 8, cumulative_lost: 3, jitter: 90, ..Report::default() };
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
    fn after_another_core_the_first_report_is_told() {
        let mut stats = SendStats::new(Time::ZERO);
        stats.resume();
        assert_eq!(stats.changed_score(), None);
        stats.on_report(at(0), &Report::default());
        assert_eq!([stats.changed_score(), stats.changed_score()], [Some(10), None]);
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
