//! Deadlines by name: each name has one deadline at most, setting it again moves it.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use opencall_wire::time::Time;

pub(crate) struct Timers<K> {
    deadlines: HashMap<K, Time>,
    order: BTreeSet<(Time, K)>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    pub fn new() -> Self {
        Timers { deadlines: HashMap::new(), order: BTreeSet::new() }
    }

    pub fn set(&mut self, name: K, at: Time) {
        self.cancel(name);
        self.deadlines.insert(name, at);
        self.order.insert((at, name));
    }

    pub fn cancel(&mut self, name: K) {
        if let Some(at) = self.deadlines.remove(&name) {
            self.order.remove(&(at, name));
        }
    }

    pub fn is_set(&self, name: K) -> bool {
        self.deadlines.contains_key(&name)
    }

    pub fn next(&self) -> Time {
        self.order.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// Takes the earliest one that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let (at, name) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.cancel(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_names_come_in_order_and_once() {
        let at = Time::from_millis;
        let mut timers = Timers::new();
        timers.set('a', at(30));
        timers.set('b', at(10));
        timers.set('c', at(20));
        timers.set('b', at(25));
        timers.cancel('c');
        timers.cancel('x');
        assert_eq!(timers.next(), at(25));
        assert_eq!(timers.pop_due(at(24)), None);
        assert_eq!(timers.pop_due(at(40)), Some('b'));
        assert_eq!(timers.pop_due(at(40)), Some('a'));
        assert_eq!(timers.pop_due(at(40)), None);
        assert_eq!(timers.next(), Time::NEVER);
        assert!(timers.deadlines.is_empty());
    }
}
