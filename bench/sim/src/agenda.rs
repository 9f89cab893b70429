//! What is to happen, by time; what is due at the same time happens in the order it was noted.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use opencall_wire::time::Time;

/// Everything happens at whole milliseconds: who waits for one finds company, as on a real host.
const TICK: Duration = Duration::from_millis(1);

/// See the module.
pub struct Agenda<T> {
    order: BinaryHeap<Reverse<(Time, u64)>>,
    items: BTreeMap<u64, T>,
    noted: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Agenda { order: BinaryHeap::new(), items: BTreeMap::new(), noted: 0 }
    }
}

impl<T> Agenda<T> {
    /// Notes something for a time.
    pub fn note(&mut self, at: Time, item: T) {
        self.noted += 1;
        self.order.push(Reverse((tick(at), self.noted)));
        self.items.insert(self.noted, item);
    }

    /// When the next item is due.
    pub fn next(&self) -> Time {
        self.order.peek().map_or(Time::NEVER, |Reverse((at, _))| *at)
    }

    /// Takes the next item that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<T> {
        if self.next() > now {
            return None;
        }
        let Reverse((_, number)) = self.order.pop()?;
        self.items.remove(&number)
    }
}

/// The first tick at or after a time.
pub fn tick(at: Time) -> Time {
    if at == Time::NEVER {
        return at;
    }
    let tick = TICK.as_nanos() as u64;
    Time::from_nanos(at.as_nanos().next_multiple_of(tick))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_by_time_and_then_in_order() {
        let mut agenda = Agenda::default();
        agenda.note(Time::from_nanos(2_000_001), 'c');
        agenda.note(Time::from_millis(2), 'a');
        agenda.note(Time::from_nanos(1_999_999), 'b');
        assert_eq!(agenda.next(), Time::from_millis(2));
        let now = Time::from_millis(2);
        assert_eq!([agenda.pop_due(now), agenda.pop_due(now)], [Some('a'), Some('b')]);
        assert_eq!((agenda.pop_due(now), agenda.next()), (None, Time::from_millis(3)));
        assert_eq!(tick(Time::NEVER), Time::NEVER);
    }
}
