//! Whether a queue stands: full, and so neither growing nor shrinking, which a trend cannot see.
//!
//! After a deep fall of the capacity the queue of the path is full before anything can be done, and
//! every picture is late by all of it. The delay of each packet is held against the least of the
//! last ten to twenty seconds; when even the quickest of the last 400 ms is more than 50 ms above
//! that, the rate is lowered once. If that does not shrink the queue it is none of ours: the path
//! has become longer, or others fill it. What there is then becomes the new measure.
//!
//! Worked trace, delays in milliseconds, 25 when nothing waits:
//!
//! ```text
//! 0 s   25    the least: 25
//! 1 s   325   300 above: lowered
//! 2 s   200   175 above, and less than 0.9 · 300: it shrinks, lowered again if need be
//! 4 s   25    gone
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use super::millis_between;

/// More than this above the least delay is a queue.
const QUEUE_MS: f64 = 50.0;
/// Half of the time over which it must be there.
const HALF: Duration = Duration::from_millis(200);
/// Fewer packets in a half say nothing.
const PACKETS_MIN: u32 = 4;
/// The least delay is of this and the period before.
const PERIOD: Duration = Duration::from_secs(10);
/// A queue shrinks when less than this part of it is left after the time below.
const SHRUNK: f64 = 0.9;
const REACTION: Duration = Duration::from_millis(600);

/// The least delay of some packets, and how many they were.
#[derive(Debug, Clone, Copy)]
struct Least {
    delay_ms: f64,
    packets: u32,
    began: Time,
}

impl Least {
    const fn new(began: Time) -> Self {
        Least { delay_ms: f64::INFINITY, packets: 0, began }
    }

    fn add(&mut self, delay_ms: f64) {
        self.delay_ms = self.delay_ms.min(delay_ms);
        self.packets = self.packets.saturating_add(1);
    }
}

/// Looks for a queue that stands.
#[derive(Debug, Clone)]
pub struct StandingQueue {
    /// Of the halves before, and of the one at hand.
    halves: [Least; 3],
    /// Of the period before, and of the one at hand.
    periods: [Least; 2],
    /// When the rate was last lowered for a queue, and how long that was.
    lowered: Option<(Time, f64)>,
}

impl Default for StandingQueue {
    fn default() -> Self {
        StandingQueue {
            halves: [Least::new(Time::ZERO); 3],
            periods: [Least::new(Time::ZERO); 2],
            lowered: None,
        }
    }
}

impl StandingQueue {
    /// Takes a packet of feedback that came at `now`. Clocks need not agree.
    pub fn on_packet(&mut self, now: Time, sent: Time, arrived: Time) {
        let delay_ms = millis_between(arrived, sent);
        if now.since(self.halves[2].began) >= HALF {
            self.halves.rotate_left(1);
            self.halves[2] = Least::new(now);
        }
        if now.since(self.periods[1].began) >= PERIOD {
            self.periods.rotate_left(1);
            self.periods[1] = Least::new(now);
        }
        self.halves[2].add(delay_ms);
        self.periods[1].add(delay_ms);
    }

    /// Whether there is a queue.
    pub fn is_there(&self) -> bool {
        self.queue_ms() > QUEUE_MS
    }

    /// There is none (any more).
    pub fn on_drained(&mut self) {
        self.lowered = None;
    }

    /// Whether the rate is to be lowered for the queue now.
    pub fn is_to_be_lowered(&mut self, now: Time, rtt: Duration) -> bool {
        let queue_ms = self.queue_ms();
        if let Some((at, before_ms)) = self.lowered {
            if now.since(at) < REACTION + rtt {
                return false;
            }
            if queue_ms > SHRUNK * before_ms {
                *self = StandingQueue::default();
                return false;
            }
        }
        self.lowered = Some((now, queue_ms));
        true
    }

    /// How long even the quickest packet of late waited; 0 when nothing is known.
    fn queue_ms(&self) -> f64 {
        let [first, second, _] = self.halves;
        let least_ms = self.periods[0].delay_ms.min(self.periods[1].delay_ms);
        if first.packets.min(second.packets) < PACKETS_MIN {
            return 0.0;
        }
        first.delay_ms.min(second.delay_ms) - least_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    /// Feeds a packet each 10 ms whose delay is a function of time; when it was to be lowered.
    fn run(until_ms: u64, delay_ms: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut queue = StandingQueue::default();
        let mut lowered = Vec::new();
        for ms in (1_000..until_ms).step_by(10) {
            let now = Time::from_millis(ms);
            queue.on_packet(now, now - Duration::from_millis(delay_ms(ms)), now);
            if !queue.is_there() {
                queue.on_drained();
            } else if queue.is_to_be_lowered(now, RTT) {
                lowered.push(ms);
            }
        }
        lowered
    }

    #[test]
    fn a_queue_that_stands_is_seen_and_followed_while_it_shrinks() {
        let delay = |ms: u64| if ms < 3_000 { 25 } else { 325 - (ms - 3_000).min(3_000) / 10 };
        let lowered = run(8_000, delay);
        assert!((3_400..3_700).contains(&lowered[0]), "{lowered:?}");
        assert!(lowered.len() > 1 && *lowered.last().unwrap() < 6_000, "{lowered:?}");
    }

    #[test]
    fn a_longer_path_lowers_it_once() {
        assert_eq!(run(60_000, |ms| if ms < 3_000 { 25 } else { 200 }).len(), 1);
    }

    #[test]
    fn jitter_and_short_spikes_are_no_queue() {
        assert_eq!(run(60_000, |ms| 25 + ms * 7 % 90), []);
        assert_eq!(run(60_000, |ms| if ms % 5_000 < 300 { 300 } else { 25 }), []);
    }
}
