//! Deadlines of transports: a heap with at most one live entry each.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use opencall_wire::time::Time;

use crate::store::TransportKey;

/// Deadlines, earliest first. Entries are not removed when a deadline moves; the owner compares an
/// expired entry with the deadline it holds now.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Time, TransportKey)>>);

impl Timers {
    /// Adds a deadline for a transport.
    pub fn add(&mut self, at: Time, transport: TransportKey) {
        self.0.push(Reverse((at, transport)));
    }

    /// The earliest deadline, or [`Time::NEVER`].
    pub fn next(&self) -> Time {
        self.0.peek().map_or(Time::NEVER, |Reverse((at, _))| *at)
    }

    /// Takes an entry that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<(Time, TransportKey)> {
        if self.next() > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bits: u32) -> TransportKey {
        TransportKey::of_test(bits)
    }

    #[test]
    fn the_earliest_is_due_first() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), Time::NEVER);
        timers.add(Time::from_millis(20), key(1));
        timers.add(Time::from_millis(10), key(2));
        assert_eq!(timers.pop_due(Time::from_millis(9)), None);
        assert_eq!(timers.pop_due(Time::from_millis(15)), Some((Time::from_millis(10), key(2))));
        assert_eq!(timers.pop_due(Time::from_millis(15)), None);
        assert_eq!(timers.next(), Time::from_millis(20));
    }
}
