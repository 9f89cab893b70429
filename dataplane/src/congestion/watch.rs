//! Whether feedback can be relied on. When it fails, the rate must fall: an estimate that nothing
//! contradicts would stay high while a queue, or our own uplink, overflows.
//!
//! It fails in two ways. It stays away: nothing for three intervals, and at least for half a second
//! and ten packets. Or it tells of packets that nobody knows (any more): more than a fifth of
//! those reported over half a second, which means that reports are later than the history is long.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// Intervals without feedback.
const MISSED_MAX: u32 = 3;
/// Shortest and longest interval that is expected.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
const INTERVAL_MAX: Duration = Duration::from_millis(250);
/// Feedback is late for many reasons: so long is always waited.
const SILENCE_MIN: Duration = Duration::from_millis(500);
/// Receivers tell of what arrives: so many packets are not all lost by chance.
const WAITING_MIN: u32 = 10;
/// Silence lowers the rate to this part, once and then each second: to half in four.
const SILENCE_DECREASE: f64 = 0.8;
const SILENCE_STEP: Duration = Duration::from_secs(1);

/// Reports are held against what was sent over so long, and so many of them.
const UNMATCHED_WINDOW: Duration = Duration::from_millis(500);
const REPORTED_MIN: u32 = 10;
/// Part of the reports that may be about unknown packets.
const UNMATCHED_MAX_PERCENT: u32 = 20;
/// Each window with more lowers the rate to this part: to an eighth in three seconds.
const UNMATCHED_DECREASE: f64 = 0.7;

/// Watches over feedback.
#[derive(Debug, Clone)]
pub struct FeedbackWatch {
    interval: Duration,
    told_at: Option<Time>,
    /// First packet that left since feedback last came.
    waiting_since: Option<Time>,
    waiting: u32,
    lowered_at: Option<Time>,
    /// The rate before it was lowered for silence.
    before_bps: Option<f64>,
    window_began: Time,
    reported: u32,
    unmatched: u32,
    unmatched_total: u64,
}

impl Default for FeedbackWatch {
    fn default() -> Self {
        FeedbackWatch {
            interval: INTERVAL_MAX,
            told_at: None,
            waiting_since: None,
            waiting: 0,
            lowered_at: None,
            before_bps: None,
            window_began: Time::ZERO,
            reported: 0,
            unmatched: 0,
            unmatched_total: 0,
        }
    }
}

impl FeedbackWatch {
    /// A packet leaves for which feedback is to come.
    pub fn on_sent(&mut self, now: Time) {
        self.waiting_since = self.waiting_since.or(Some(now));
        self.waiting = self.waiting.saturating_add(1);
    }

    /// Feedback came. Returns the rate that silence had lowered.
    pub fn on_feedback(&mut self, now: Time) -> Option<f64> {
        if let Some(before) = self.told_at.filter(|_| self.before_bps.is_none()) {
            let gap = now.since(before).clamp(INTERVAL_MIN, INTERVAL_MAX);
            self.interval = (self.interval * 7 + gap) / 8;
        }
        self.told_at = Some(now);
        self.waiting_since = None;
        self.waiting = 0;
        self.lowered_at = None;
        self.before_bps.take()
    }

    /// What feedback told of: how many packets arrived, and how many of them nobody knows. Returns
    /// what part of the rate is left, if that is too many.
    pub fn on_reports(&mut self, now: Time, reported: u32, unmatched: u32) -> Option<f64> {
        self.reported = self.reported.saturating_add(reported);
        self.unmatched = self.unmatched.saturating_add(unmatched);
        self.unmatched_total = self.unmatched_total.saturating_add(u64::from(unmatched));
        let over = now.since(self.window_began) >= UNMATCHED_WINDOW;
        if !over || self.reported < REPORTED_MIN {
            return None;
        }
        let most = u64::from(self.reported) * u64::from(UNMATCHED_MAX_PERCENT) / 100;
        let failed = u64::from(self.unmatched) > most;
        self.window_began = now;
        self.reported = 0;
        self.unmatched = 0;
        failed.then_some(UNMATCHED_DECREASE)
    }

    /// Time passes. Returns what part of the rate is left, if silence is to lower it now.
    pub fn on_tick(&mut self, now: Time, rtt: Duration, rate_bps: f64) -> Option<f64> {
        if self.next_timeout(rtt)? > now {
            return None;
        }
        self.lowered_at = Some(now);
        self.before_bps = self.before_bps.or(Some(rate_bps));
        Some(SILENCE_DECREASE)
    }

    /// When silence lowers the rate, if nothing comes. A client that never sent any feedback is
    /// waited for: nothing says that it will.
    pub fn next_timeout(&self, rtt: Duration) -> Option<Time> {
        self.told_at?;
        let silence = SILENCE_MIN.max(self.interval * MISSED_MAX) + rtt.min(SILENCE_STEP);
        let waiting = self.waiting_since.filter(|_| self.waiting >= WAITING_MIN)?;
        Some(self.lowered_at.map_or(waiting + silence, |at| at + SILENCE_STEP))
    }

    /// Whether silence has lowered the rate.
    pub fn has_failed(&self) -> bool {
        self.before_bps.is_some()
    }

    /// Reports about packets that nobody knows, ever.
    pub fn unmatched(&self) -> u64 {
        self.unmatched_total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// Feedback each 100 ms for a while, until 10 s.
    fn running() -> FeedbackWatch {
        let mut watch = FeedbackWatch::default();
        for ms in (5_000..=10_000).step_by(100) {
            watch.on_sent(at(ms));
            assert_eq!(watch.on_tick(at(ms), RTT, 1e6), None);
            assert_eq!(watch.on_feedback(at(ms)), None);
        }
        watch
    }

    #[test]
    fn silence_halves_the_rate_in_five_seconds() {
        let mut watch = running();
        let sent = (0..WAITING_MIN).find(|_| {
            watch.on_sent(at(10_000));
            watch.next_timeout(RTT).is_some()
        });
        assert_eq!(sent, Some(WAITING_MIN - 1), "few may be lost by chance");
        let mut rate_bps = 1e6;
        let mut lowered_ms = Vec::new();
        for ms in 10_000..15_000 {
            if let Some(part) = watch.on_tick(at(ms), RTT, rate_bps) {
                rate_bps *= part;
                lowered_ms.push(ms);
            }
        }
        assert_eq!(lowered_ms, [10_600, 11_600, 12_600, 13_600, 14_600]);
        assert!(rate_bps < 0.5e6);
        assert!(watch.has_failed());
        assert_eq!(watch.on_feedback(at(15_000)), Some(1e6));
        assert!(!watch.has_failed());
    }

    #[test]
    fn nothing_sent_or_never_told_is_no_silence() {
        let mut watch = running();
        assert_eq!(watch.on_tick(at(20_000), RTT, 1e6), None);
        let mut watch = FeedbackWatch::default();
        watch.on_sent(at(0));
        assert_eq!(watch.on_tick(at(60_000), RTT, 1e6), None);
    }

    #[test]
    fn more_than_a_fifth_unmatched() {
        let mut watch = running();
        assert_eq!(watch.on_reports(at(10_000), 100, 20), None);
        assert_eq!(watch.on_reports(at(10_499), 100, 100), None, "once in half a second");
        assert_eq!(watch.on_reports(at(10_500), 1, 0), Some(UNMATCHED_DECREASE));
        assert_eq!(watch.on_reports(at(11_000), 100, 20), None, "a fifth is borne");
        assert_eq!(watch.on_reports(at(11_600), 9, 9), None, "too few");
        assert_eq!(watch.unmatched(), 149);
    }
}
