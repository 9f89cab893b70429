//! The queue of a bottleneck: first in, first out, and dropped at the tail.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::QueueLimit;
use crate::rate::{Rate, Sender};

/// Packets that wait at most, whatever the limit says: a second of 800 Mbit/s.
const PACKETS_MAX: usize = 1 << 16;

/// A bottleneck with what waits at it.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    sender: Sender,
    limit: QueueLimit,
    /// When each packet that waits will have left, and its bytes.
    waiting: VecDeque<(Duration, u64)>,
    bytes: u64,
}

impl Bottleneck {
    /// One at which nothing waits.
    pub fn new(rate: Rate, limit: QueueLimit) -> Self {
        Bottleneck { sender: Sender::new(rate), limit, waiting: VecDeque::new(), bytes: 0 }
    }

    /// How fast it sends.
    pub fn rate(&self) -> &Rate {
        self.sender.rate()
    }

    /// From now on it sends so fast; what waits leaves as it would have.
    pub fn set_rate(&mut self, rate: Rate) {
        self.sender.set_rate(rate);
    }

    /// A packet comes: when its last bit has left, or `None` when there is no room for it.
    pub fn offer(&mut self, now: Duration, len: usize) -> Option<Duration> {
        if *self.rate() == Rate::Unlimited {
            return Some(now);
        }
        self.forget_sent(now);
        let len = len as u64;
        let has_room = match self.limit {
            QueueLimit::Bytes(bytes) => self.bytes + len <= bytes,
            QueueLimit::Time(time) => self.queued(now) <= time,
        };
        if !has_room || self.waiting.len() >= PACKETS_MAX {
            return None;
        }
        let sent_at = self.sender.send(now, len);
        self.waiting.push_back((sent_at, len));
        self.bytes += len;
        Some(sent_at)
    }

    /// Bytes that wait at a moment, which is not before the last one asked about.
    pub fn queued_bytes(&mut self, now: Duration) -> u64 {
        self.forget_sent(now);
        self.bytes
    }

    /// How long until all that waits has left.
    pub fn queued(&self, now: Duration) -> Duration {
        self.sender.free_at().saturating_sub(now)
    }

    fn forget_sent(&mut self, now: Duration) {
        while let Some(&(_, bytes)) = self.waiting.front().filter(|(at, _)| *at <= now) {
            self.bytes -= bytes;
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How many packets of 1000 bytes, all at once, find room.
    fn taken(bps: u64, limit: QueueLimit) -> usize {
        let mut bottleneck = Bottleneck::new(Rate::constant(bps), limit);
        (0..1_000).filter(|_| bottleneck.offer(Duration::ZERO, 1_000).is_some()).count()
    }

    #[test]
    fn a_queue_of_bytes_holds_bytes_and_one_of_time_holds_time() {
        assert_eq!(taken(8_000_000, QueueLimit::Bytes(10_500)), 10);
        assert_eq!(taken(80_000, QueueLimit::Bytes(10_500)), 10);
        // A millisecond each; who comes when as much waits as may is the last.
        assert_eq!(taken(8_000_000, QueueLimit::Time(10 * MS)), 11);
        assert_eq!(taken(80_000_000, QueueLimit::Time(10 * MS)), 101);
    }

    #[test]
    fn what_has_left_waits_no_more() {
        let limit = QueueLimit::Bytes(3_000);
        let mut bottleneck = Bottleneck::new(Rate::constant(8_000_000), limit);
        let at: Vec<_> = (0..4).map(|_| bottleneck.offer(Duration::ZERO, 1_000)).collect();
        assert_eq!(at, [Some(MS), Some(2 * MS), Some(3 * MS), None]);
        assert_eq!((bottleneck.queued_bytes(MS), bottleneck.queued(MS)), (2_000, 2 * MS));
        assert_eq!(bottleneck.offer(MS, 1_000), Some(4 * MS));
        assert_eq!(bottleneck.queued_bytes(4 * MS), 0);
    }
}
