//! When a frame was, on the server's clock: from its RTP timestamp, by every sender report.
//!
//! A report ties the stream's clock to its sender's wall clock, the same one for all streams of a
//! sender: that is what keeps lips and voice together. Before the first report time is counted from
//! when the first packet came; the difference is then made up for slowly, a twentieth of what
//! passes, so that no frame is shown twice as long as the others.
//!
//! Worked trace at 90 kHz: a report that came at 10.000 s, 0.020 s later than the timeliest of its
//! sender, says that the clock stood at 900,000. Then 909,000 was at 10.000 − 0.020 + 0.100 s.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_dataplane::ingress::source::SenderReport;
use opencall_wire::time::Time;

/// A frame is not further from when it came than this, whatever reports or timestamps say; both can
/// be forged.
const MAX_DISTANCE: Duration = Duration::from_secs(2);

/// A difference above this is a jump of clocks and made up for at once.
const MAX_SLEW_NANOS: i64 = 250_000_000;

/// The part of the time that passes by which differences are made up for.
const SLEW_PART: i64 = 20;

/// The time of one source.
#[derive(Debug, Clone)]
pub struct Timeline {
    rate_hz: u32,
    report: Option<SenderReport>,
    last: Option<(u32, i64)>,
}

impl Timeline {
    /// Of a stream whose clock runs at this rate.
    pub fn new(rate_hz: u32) -> Self {
        Timeline { rate_hz: rate_hz.max(1), report: None, last: None }
    }

    /// The newest report, if one counts.
    pub fn set_report(&mut self, report: Option<SenderReport>) {
        self.report = report;
    }

    /// When the frame of this timestamp was, whose first packet has come then.
    pub fn at(&mut self, timestamp: u32, arrived: Time) -> Time {
        let arrived = arrived.as_nanos() as i64;
        let is_near = |at: &i64| at.abs_diff(arrived) <= MAX_DISTANCE.as_nanos() as u64;
        let told = self.report.map(|report| self.by_report(report, timestamp)).filter(is_near);
        let counted = self.last.map(|(last, at)| (at, self.nanos(timestamp, last)));
        let counted = counted.filter(|(at, passed)| is_near(&(at + passed)));
        let at = match (told, counted) {
            (None, None) => arrived,
            (Some(told), None) => told,
            (None, Some((at, passed))) => at + passed,
            (Some(told), Some((at, passed))) => {
                let difference = told - (at + passed);
                let step = passed.abs() / SLEW_PART;
                match difference.abs() > MAX_SLEW_NANOS {
                    true => told,
                    false => at + passed + difference.clamp(-step, step),
                }
            }
        };
        self.last = Some((timestamp, at));
        Time::from_nanos(at.max(0) as u64)
    }

    fn by_report(&self, report: SenderReport, timestamp: u32) -> i64 {
        let late = (i128::from(report.late_by) * 1_000_000_000) >> 32;
        let timely = (report.received.as_nanos() as i64).saturating_sub(late as i64);
        timely.saturating_add(self.nanos(timestamp, report.clock.rtp))
    }

    /// From one timestamp to another, nanoseconds.
    fn nanos(&self, to: u32, from: u32) -> i64 {
        let ticks = i64::from(to.wrapping_sub(from) as i32);
        ticks * 1_000_000_000 / i64::from(self.rate_hz)
    }
}

#[cfg(test)]
mod tests {
    use opencall_dataplane::sender_clock::SenderClock;
    use opencall_wire::time::NtpTime;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn report(ms: u64, late_ms: i64, rtp: u32) -> Option<SenderReport> {
        let clock = SenderClock { ntp: NtpTime(0), rtp };
        Some(SenderReport { clock, received: at(ms), late_by: (late_ms << 32) / 1_000 })
    }

    /// The fractions of a second that 2^-32 cannot say.
    fn is_about(time: Time, ms: u64) -> bool {
        time.as_micros().abs_diff(ms * 1_000) <= 2
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut timeline = Timeline::new(90_000);
        timeline.set_report(report(10_000, 20, 900_000));
        assert!(is_about(timeline.at(909_000, at(10_200)), 10_080));
    }

    #[test]
    fn without_reports_time_is_counted_from_the_first_packet() {
        let mut timeline = Timeline::new(48_000);
        assert_eq!(timeline.at(u32::MAX - 479, at(5_000)), at(5_000));
        assert_eq!(timeline.at(480, at(5_090)), at(5_020), "across the wrap");
    }

    #[test]
    fn a_report_that_differs_is_approached_and_a_jump_is_followed() {
        let mut timeline = Timeline::new(1_000);
        assert_eq!(timeline.at(0, at(1_000)), at(1_000));
        timeline.set_report(report(1_000, 0, 40));
        let mut last = at(1_000);
        for ms in (100..1_500).step_by(100) {
            let time = timeline.at(ms, at(1_000 + u64::from(ms)));
            let step = time.since(last).as_millis();
            assert!((95..=100).contains(&step), "{step}");
            last = time;
        }
        assert!(is_about(last, 1_000 + 1_400 - 40));
        timeline.set_report(report(1_000, 0, 540));
        assert!(is_about(timeline.at(1_500, at(2_500)), 2_500 - 540));
    }

    #[test]
    fn forged_timestamps_and_reports_stay_near_the_arrival() {
        let mut timeline = Timeline::new(90_000);
        for (index, forged) in [0, 1 << 31, 5, u32::MAX, 77_000_000].into_iter().enumerate() {
            timeline.set_report(report(0, i64::from(forged as i32), forged / 3));
            let came = at(60_000 + index as u64);
            let time = timeline.at(forged, came);
            assert!(time.as_nanos().abs_diff(came.as_nanos()) <= MAX_DISTANCE.as_nanos() as u64);
        }
    }
}
