//! Calls that wait for control, served in turns: each room's first, then each room's next. However
//! many calls one room has made, another room's call waits for one of them at most.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items by the group that they belong to.
pub struct FairQueue<K, T> {
    groups: HashMap<K, VecDeque<T>>,
    /// Groups with items, in the order of their turns.
    turns: VecDeque<K>,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        FairQueue { groups: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// Adds an item behind those of its group.
    pub fn push(&mut self, group: K, item: T) {
        let items = self.groups.entry(group.clone()).or_default();
        if items.is_empty() {
            self.turns.push_back(group);
        }
        items.push_back(item);
    }

    /// The next item.
    pub fn pop(&mut self) -> Option<T> {
        let group = self.turns.pop_front()?;
        let items = self.groups.get_mut(&group)?;
        let item = items.pop_front();
        match items.is_empty() {
            true => drop(self.groups.remove(&group)),
            false => self.turns.push_back(group),
        }
        item
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_turns_and_keep_their_own_order() {
        let mut queue = FairQueue::default();
        for item in 0..5 {
            queue.push("flood", item);
        }
        queue.push("quiet", 10);
        queue.push("quiet", 11);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 3, 4]);
        assert!(queue.is_empty() && queue.groups.is_empty());
        queue.push("flood", 5);
        assert_eq!(queue.pop(), Some(5));
        assert_eq!(queue.pop(), None);
    }
}
