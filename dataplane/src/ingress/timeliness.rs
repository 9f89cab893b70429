//! Which sender reports come in time. One that a link held back says, when it arrives, what was
//! true seconds ago: since then the stream's clock may have jumped, and the sender's wall clock
//! looks as if it had been set back by as much.
//!
//! A sender has one wall clock, so its reports are compared with the timeliest of all its streams.
//! Worked trace, seconds; the third report is three seconds late, and with the fifth the clock was
//! set back by 40:
//!
//! ```text
//! arrives       10.0  11.0  12.0  12.1   13.0   14.0  15.0
//! says          70.0  71.0  69.0  72.1   33.0   34.0  35.0
//! late by       -     0     3.0   0      40     40    0
//! taken up      yes   yes   no    yes    no     yes   yes
//! ```
//!
//! A clock that was set is believed with the second report that says so, half a second later or
//! more: of what a link held back, all comes at once.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::ingress::source::{SenderReport, fractions};

/// By how much a report may be later than the timeliest. Together with [`MAX_DISAGREEMENT`] it
/// bounds the jumps of a stream's clock that are not noticed until the next report: a higher value
/// takes up more reports over bad links, and believes more of those that are no longer true.
///
/// [`MAX_DISAGREEMENT`]: crate::ingress::source::MAX_DISAGREEMENT
pub const MAX_LATENESS: Duration = Duration::from_millis(500);

/// The sender's clock may be slower than ours by one part of so many, ten times what quartz is off:
/// the timeliest report is outdated by the next one in the end.
const DRIFT_PARTS: u32 = 1000;

/// Judges the reports of one sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeliness {
    timeliest: Option<SenderReport>,
    /// A late one, which may be the first of a clock that was set back.
    suspect: Option<SenderReport>,
}

impl Timeliness {
    /// Whether a report came in time.
    pub fn admits(&mut self, report: SenderReport) -> bool {
        let late_by = self.timeliest.map_or(i64::MIN, |timeliest| {
            let elapsed = report.received.since(timeliest.received);
            report.later_than(timeliest).saturating_sub(fractions(elapsed / DRIFT_PARTS))
        });
        if late_by > max_lateness() && !self.confirms_suspect(report) {
            return false;
        }
        if late_by < 0 || late_by > max_lateness() {
            self.timeliest = Some(report);
        }
        self.suspect = None;
        true
    }

    /// By how much an admitted report is later than the timeliest, 2^-32 s.
    pub fn late_by(&self, report: SenderReport) -> i64 {
        self.timeliest.map_or(0, |timeliest| report.later_than(timeliest).max(0))
    }

    /// Whether a late report speaks of the same clock as the late one before; else it takes its
    /// place.
    fn confirms_suspect(&mut self, report: SenderReport) -> bool {
        if let Some(suspect) = self.suspect
            && report.later_than(suspect).abs() <= max_lateness()
        {
            return report.received.since(suspect.received) >= MAX_LATENESS;
        }
        self.suspect = Some(report);
        false
    }
}

fn max_lateness() -> i64 {
    fractions(MAX_LATENESS)
}

#[cfg(test)]
mod tests {
    use opencall_wire::time::{NtpTime, Time};

    use super::*;
    use crate::sender_clock::SenderClock;

    /// A report that arrives at one time and says another, both in milliseconds.
    fn report((arrives, says): (u64, u64)) -> SenderReport {
        let ntp = NtpTime(7 << 32) + Duration::from_millis(says);
        let (clock, received) = (SenderClock { ntp, rtp: 0 }, Time::from_millis(arrives));
        SenderReport { clock, received, late_by: 0 }
    }

    fn taken_up(reports: &[(u64, u64)]) -> Vec<bool> {
        let mut timeliness = Timeliness::default();
        reports.iter().map(|&times| timeliness.admits(report(times))).collect()
    }

    #[test]
    fn follows_the_worked_trace() {
        let reports = [
            (10_000, 70_000),
            (11_000, 71_000),
            (12_000, 69_000),
            (12_100, 72_100),
            (13_000, 33_000),
            (14_000, 34_000),
            (15_000, 35_000),
        ];
        assert_eq!(taken_up(&reports), [true, true, false, true, false, true, true]);
    }

    #[test]
    fn the_timeliest_counts_and_not_the_newest() {
        // Each is later than the one before by 400 ms; a link that stays as slow is got used to.
        let reports = [(10_000, 70_000), (11_000, 70_600), (12_000, 71_200), (13_000, 71_800)];
        assert_eq!(taken_up(&reports), [true, true, false, true]);
        // The first was late; those after it are not.
        assert_eq!(taken_up(&[(10_000, 67_000), (11_000, 71_000), (12_000, 72_000)]), [true; 3]);
    }

    #[test]
    fn what_a_link_held_back_is_no_clock_that_was_set() {
        let held_back = [(13_000, 70_000), (13_001, 70_200), (13_002, 70_100)];
        let reports = [&[(10_000, 70_000)], &held_back[..], &[(13_500, 73_500)]].concat();
        assert_eq!(taken_up(&reports), [true, false, false, false, true]);
    }

    #[test]
    fn a_slow_clock_is_followed() {
        // 100 ppm slow, over six hours: 2.2 s.
        let reports: Vec<_> = (0..21_600).map(|s| (s * 1000, s * 1000 - s / 10)).collect();
        assert!(taken_up(&reports).into_iter().all(|taken| taken));
    }
}
