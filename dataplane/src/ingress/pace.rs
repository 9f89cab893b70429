//! Whether an encoding still arrives: judged by its own pace, while others of its producer go on.
//!
//! A sender stops its upper layers when its uplink gets worse, and who watches one stands still
//! until it gets another. A layer of few pictures, or a pause in a screen share that all layers
//! make, is no such stop: silence counts from the first picture of another encoding that this one
//! did not have as well.
//!
//! Worked trace at 30 pictures per second; the lower layer has the pictures of the upper one, 5 ms
//! later:
//!
//! ```text
//! upper      0   33   66                                          3 intervals, at least 150 ms
//! lower      5   38   71   104  138  171  204  238  271           upper has stopped
//!                          └── overtaken here ────────┘ 254 or later
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// Intervals between pictures for which an encoding may lack what others have. An encoder that has
/// to save drops a picture or two now and then.
const PATIENCE_INTERVALS: u32 = 3;

/// The least such time: pacing spreads a large picture over as much.
const MIN_PATIENCE: Duration = Duration::from_millis(150);

/// The longest interval that counts: 1.5 s of patience. An encoding of less than two pictures a
/// second beside one of more may be taken for stopped between two of them.
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// Taken for the interval at first.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);

/// A shorter interval lowers the one that is reckoned with by so much of the difference: a pause is
/// remembered for a dozen pictures.
const DECAY: u32 = 16;

/// A packet whose timestamp lies further back than this is not late: the clock was set back. A
/// second of video.
const LATE_TICKS: i32 = 90_000;

/// The pace of one source.
#[derive(Debug, Clone)]
pub struct Pace {
    /// RTP timestamp of the newest picture, and when it began to arrive.
    newest: Option<(u32, Time)>,
    /// Between two pictures; the longest of late.
    interval: Duration,
    /// When another encoding began a picture after this one's last packet.
    overtaken: Option<Time>,
    stopped: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { newest: None, interval: FIRST_INTERVAL, overtaken: None, stopped: false }
    }
}

impl Pace {
    /// Notes a packet; returns whether a picture begins with it.
    #[inline]
    pub fn on_packet(&mut self, now: Time, timestamp: u32) -> bool {
        self.on_late_packet();
        let step = self.newest.map_or(1, |(newest, _)| timestamp.wrapping_sub(newest) as i32);
        let begins = !(-LATE_TICKS..=0).contains(&step);
        if begins {
            self.on_picture(now, timestamp);
        }
        begins
    }

    /// Notes a packet that comes after later ones.
    #[inline]
    pub fn on_late_packet(&mut self) {
        self.overtaken = None;
        self.stopped = false;
    }

    fn on_picture(&mut self, now: Time, timestamp: u32) {
        if let Some((_, before)) = self.newest {
            let gap = now.since(before).min(MAX_INTERVAL);
            let fall = self.interval.saturating_sub(gap) / DECAY;
            self.interval = gap.max(self.interval - fall);
        }
        self.newest = Some((timestamp, now));
    }

    /// Notes that another encoding begins a picture; returns whether this one has stopped, just
    /// now.
    pub fn on_picture_of_another(&mut self, now: Time) -> bool {
        if self.stopped || self.newest.is_none() {
            return false;
        }
        let since = *self.overtaken.get_or_insert(now);
        let patience = (self.interval * PATIENCE_INTERVALS).max(MIN_PATIENCE);
        self.stopped = now.since(since) >= patience;
        self.stopped
    }

    /// Whether it has stopped while others go on.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// RTP timestamp of the newest picture, and when it began to arrive.
    pub fn newest(&self) -> Option<(u32, Time)> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// A pace that has seen `pictures` every `interval_ms`, and when the last of them came.
    fn running(interval_ms: u64, pictures: u64) -> (Pace, u64) {
        let mut pace = Pace::default();
        for n in 0..pictures {
            assert!(pace.on_packet(at(n * interval_ms), (n * interval_ms * 90) as u32));
            assert!(!pace.on_packet(at(n * interval_ms + 3), (n * interval_ms * 90) as u32));
        }
        (pace, (pictures - 1) * interval_ms)
    }

    /// How long after its last picture it is taken for stopped, beside another of `other_ms`.
    fn stops_after(interval_ms: u64, other_ms: u64) -> u64 {
        let (mut pace, last) = running(interval_ms, 100);
        (1..).map(|n| n * other_ms).find(|ms| pace.on_picture_of_another(at(last + ms))).unwrap()
    }

    #[test]
    fn follows_the_worked_trace() {
        let (mut pace, last) = running(33, 100);
        for ms in [5, 38, 71, 105, 138] {
            assert!(!pace.on_picture_of_another(at(last + ms)), "{ms}");
        }
        assert!(pace.on_picture_of_another(at(last + 171)));
        assert!(pace.has_stopped());
        assert!(!pace.on_picture_of_another(at(last + 204)), "said once");
        pace.on_packet(at(last + 300), 1 << 30);
        assert!(!pace.has_stopped());
    }

    #[test]
    fn patience_follows_the_pace() {
        assert_eq!(stops_after(33, 33), 33 + 165);
        assert_eq!(stops_after(16, 33), 33 + 165);
        assert!((250..=300).contains(&stops_after(66, 33)));
        assert!((600..=700).contains(&stops_after(200, 33)));
        assert!((1500..=1600).contains(&stops_after(1000, 33)));
    }

    #[test]
    fn a_picture_that_all_have_late_overtakes_nobody() {
        // A screen share at rest: the other encoding's picture comes 40 ms before this one's.
        let mut pace = Pace::default();
        for second in 0..10_u64 {
            for pause in [1000, 1700, 5000] {
                let now = second * 10_000 + pause;
                assert!(!pace.on_picture_of_another(at(now)));
                pace.on_packet(at(now + 40), (now * 90) as u32);
            }
        }
    }

    #[test]
    fn pictures_dropped_now_and_then_are_no_stop() {
        let (mut pace, last) = running(33, 100);
        let mut timestamp = 1 << 20;
        for frame in 0..2000_u64 {
            let now = last + frame * 33;
            assert!(!pace.on_picture_of_another(at(now)), "{frame}");
            // Up to three in a row are missing.
            if frame % 17 > 2 {
                timestamp += 3000;
                pace.on_packet(at(now + 2), timestamp);
            }
        }
    }

    #[test]
    fn what_never_came_has_not_stopped() {
        let mut pace = Pace::default();
        assert!(!pace.on_picture_of_another(at(0)));
        assert!(!pace.on_picture_of_another(at(9_000)));
    }
}
