//! The round trip to a client, by reports that it answers (RFC 3550 section 6.4.1, RFC 3611
//! section 4.5).
//!
//! Worked trace: a report with NTP middle bits 0x0012_0000 left at 10.000 s. At 10.150 s an answer
//! to 0x0012_0000 arrives which says that the client held it for 0x1999 (0.1 s): the round trip
//! took 150 ms − 100 ms = 50 ms. When a report left is looked up here rather than read off the
//! answer: sender reports carry the producer's wall clock, not ours.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::{NtpTime, Time};

/// Reports whose departure is remembered. Clients answer the last they got, and reports go out once
/// a second: an answer to one older than this is no round trip.
const REPORTS_REMEMBERED: usize = 4;

/// Taken for the round trip until it is known.
pub const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// A round trip longer than this is a mistake of someone's clock.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);

/// Measures and smooths the round trip.
#[derive(Debug, Clone, Default)]
pub struct RoundTrip {
    /// Reports that left: middle bits of their NTP time, and when.
    reports: [Option<(u32, Time)>; REPORTS_REMEMBERED],
    next_report: usize,
    smoothed: Option<Duration>,
}

impl RoundTrip {
    /// Notes that a report with this NTP time leaves now.
    pub fn on_report_sent(&mut self, now: Time, ntp: NtpTime) {
        self.reports[self.next_report] = Some((ntp.middle(), now));
        self.next_report = (self.next_report + 1) % REPORTS_REMEMBERED;
    }

    /// Takes up an answer: which report it is for (0: none), and how long the client held that, in
    /// 1/65536 s.
    pub fn on_answer(&mut self, now: Time, report_middle: u32, held: u32) {
        let Some(sample) = self.sample(now, report_middle, held) else { return };
        // A quarter of each new sample: one report delayed by a burst moves it little.
        self.smoothed = Some(self.smoothed.map_or(sample, |smooth| (smooth * 3 + sample) / 4));
    }

    fn sample(&self, now: Time, report_middle: u32, held: u32) -> Option<Duration> {
        if report_middle == 0 {
            return None;
        }
        let is_meant = |(middle, _): &&(u32, Time)| *middle == report_middle;
        let (_, left) = self.reports.iter().flatten().rev().find(is_meant)?;
        let held = Duration::from_nanos((u64::from(held) * 1_000_000_000) >> 16);
        // A client whose clock runs a little fast may claim to have held it for longer than it was
        // away: then the round trip is short.
        let round_trip = now.since(*left).saturating_sub(held);
        (round_trip <= MAX_ROUND_TRIP).then_some(round_trip)
    }

    /// The round trip, once an answer came.
    pub fn measured(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The round trip, or a guess while it is unknown.
    pub fn measured_or_default(&self) -> Duration {
        self.smoothed.unwrap_or(DEFAULT_ROUND_TRIP)
    }

    /// The round trip in milliseconds, once an answer came.
    pub fn millis(&self) -> Option<f32> {
        self.smoothed.map(|round_trip| round_trip.as_secs_f32() * 1000.0)
    }
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

    #[test]
    fn follows_the_worked_trace() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.measured(), None);
        assert_eq!(round_trip.measured_or_default(), Duration::from_millis(100), "a guess");
        round_trip.on_report_sent(at(10_000), ntp(0x0012_0000));
        round_trip.on_answer(at(10_150), 0x0012_0000, 0x1999);
        let millis = round_trip.millis().unwrap();
        assert!((millis - 50.0).abs() < 0.1, "{millis}");
    }

    #[test]
    fn only_answers_to_recent_reports_measure() {
        let mut round_trip = RoundTrip::default();
        for (n, middle) in (1..=5).zip([10, 20, 30, 40, 50]) {
            round_trip.on_report_sent(at(n * 1000), ntp(middle));
        }
        // None yet; of the first report, forgotten by now; of one never sent.
        for middle in [0, 10, 60] {
            round_trip.on_answer(at(5_100), middle, 0);
            assert_eq!(round_trip.measured(), None);
        }
        let mut then = |ms, middle, held| {
            round_trip.on_answer(at(ms), middle, held);
            round_trip.measured_or_default()
        };
        assert_eq!(then(5_100, 20, 3 << 16), Duration::from_millis(100));
        assert_eq!(then(5_200, 50, 0), Duration::from_millis(125), "a quarter of 200");
        let short = Duration::from_micros(93_750);
        assert_eq!(then(5_200, 50, u32::MAX), short, "held for longer than away");
        assert_eq!(then(60_000, 50, 0), short, "a minute is no round trip");
    }
}
