//! What a core holds many of, by keys that know what they are keys of.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::egress::consumer::Consumer;
use crate::ingress::producer::Producer;
use crate::transport::Transport;

/// Where a transport is.
pub type TransportKey = Key<Transport>;

/// Where a producer is, or the far end of a pipe.
pub type ProducerKey = Key<Producer>;

/// Where a consumer is.
pub type ConsumerKey = Key<Consumer>;

/// Of a key, those that say where; the others say which of those that were there.
const INDEX_BITS: u32 = 20;

/// So many there may be at once.
pub const CAPACITY: usize = 1 << INDEX_BITS;

/// Where a `T` is in its [`Store`], and which: when it is gone its key finds nothing, until 4,096
/// others have been put in, and one of them in its place. Four bytes, for lists of all subscribers
/// are walked for every packet.
pub struct Key<T> {
    bits: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    fn new(index: usize, generation: u32) -> Self {
        debug_assert!(index < CAPACITY);
        Key { bits: generation << INDEX_BITS | index as u32, of: PhantomData }
    }

    #[inline(always)]
    fn index(self) -> usize {
        (self.bits & (CAPACITY as u32 - 1)) as usize
    }

    #[cfg(test)]
    pub fn of_test(bits: u32) -> Self {
        Key { bits, of: PhantomData }
    }
}

impl<T> Clone for Key<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits.cmp(&other.bits)
    }
}

impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}v{}", self.index(), self.bits >> INDEX_BITS)
    }
}

struct Slot<T> {
    /// The key's bits, so that one comparison says whether it is still there.
    bits: u32,
    value: T,
}

/// Many of one kind, each under a key of its own.
pub struct Store<T> {
    slots: Slab<Slot<T>>,
    inserted: u32,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Store { slots: Slab::new(), inserted: 0 }
    }
}

impl<T> Store<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Puts one in.
    ///
    /// # Panics
    /// If there are [`CAPACITY`] already.
    pub fn insert(&mut self, value: T) -> Key<T> {
        let entry = self.slots.vacant_entry();
        assert!(entry.key() < CAPACITY, "no room for another");
        let key = Key::new(entry.key(), self.inserted);
        self.inserted = self.inserted.wrapping_add(1);
        entry.insert(Slot { bits: key.bits, value });
        key
    }

    /// Takes one out.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn remove(&mut self, key: Key<T>) -> T {
        assert!(self.contains(key), "{key:?} is gone");
        self.slots.remove(key.index()).value
    }

    /// Whether it is still there.
    pub fn contains(&self, key: Key<T>) -> bool {
        self.get(key).is_some()
    }

    /// The one of this key, if it is still there.
    #[inline]
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let slot = self.slots.get(key.index())?;
        (slot.bits == key.bits).then_some(&slot.value)
    }

    /// The one of this key, if it is still there.
    #[inline]
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index())?;
        (slot.bits == key.bits).then_some(&mut slot.value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slots.iter().map(|(_, slot)| (Key { bits: slot.bits, of: PhantomData }, &slot.value))
    }
}

impl<T> Index<Key<T>> for Store<T> {
    type Output = T;

    /// # Panics
    /// If it is gone.
    #[inline]
    #[track_caller]
    fn index(&self, key: Key<T>) -> &T {
        match self.get(key) {
            Some(value) => value,
            None => gone(key),
        }
    }
}

impl<T> IndexMut<Key<T>> for Store<T> {
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, key: Key<T>) -> &mut T {
        match self.get_mut(key) {
            Some(value) => value,
            None => gone(key),
        }
    }
}

#[cold]
#[track_caller]
fn gone<T>(key: Key<T>) -> ! {
    panic!("{key:?} is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_what_it_was_given_for_and_nothing_else() {
        let mut store = Store::default();
        let [first, second] = ["first", "second"].map(|value| store.insert(value));
        assert_eq!((store[first], store[second], store.len()), ("first", "second", 2));
        assert_eq!(store.remove(first), "first");
        let third = store.insert("third");
        assert_eq!(third.index(), first.index(), "in its place");
        assert_ne!(third, first);
        assert_eq!((store.get(first), store.get(third)), (None, Some(&"third")));
        assert_eq!(store.get_mut(first), None);
        let all: Vec<_> = store.iter().collect();
        assert_eq!(all, [(third, &"third"), (second, &"second")]);
    }

    #[test]
    #[should_panic(expected = "0v0 is gone")]
    fn what_is_gone_is_not_taken_for_what_has_its_place() {
        let mut store = Store::default();
        let first = store.insert(1);
        store.remove(first);
        store.insert(2);
        let _ = store[first];
    }

    #[test]
    fn a_key_is_as_small_as_an_index() {
        assert_eq!(size_of::<TransportKey>(), 4);
    }
}
