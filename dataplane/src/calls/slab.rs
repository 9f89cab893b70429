//! Which places of an array in memory that outlives the process are in use. That is written nowhere
//! in the memory: the next process opens the places that its journal names.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, by their numbers.
#[derive(Debug)]
pub struct Slab {
    limit: u32,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// All from here on were never in use.
    next: u32,
    free: BTreeSet<u32>,
    /// How often each is open.
    open: BTreeMap<u32, u32>,
}

/// A place in use, until the last that opened it is dropped.
#[derive(Debug)]
pub struct Ticket {
    slab: Arc<Slab>,
    place: u32,
}

impl Slab {
    /// With so many places, none of which is in use.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Slab { limit, places: Mutex::default() })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place that is free; `None` if there is none.
    pub fn take(self: &Arc<Self>) -> Option<Ticket> {
        let mut places = self.places();
        let place = match places.free.pop_first() {
            Some(place) => place,
            None if places.next < self.limit => {
                places.next += 1;
                places.next - 1
            }
            None => return None,
        };
        places.open.insert(place, 1);
        Some(Ticket { slab: Arc::clone(self), place })
    }

    /// A place that the journal names; `None` if there is no such place.
    pub fn open(self: &Arc<Self>, place: u32) -> Option<Ticket> {
        if place >= self.limit {
            return None;
        }
        let mut places = self.places();
        let skipped = places.next..place;
        places.free.extend(skipped);
        places.next = places.next.max(place + 1);
        places.free.remove(&place);
        *places.open.entry(place).or_default() += 1;
        Some(Ticket { slab: Arc::clone(self), place })
    }
}

impl Ticket {
    /// Its number.
    pub fn place(&self) -> u32 {
        self.place
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut places = self.slab.places();
        let Some(count) = places.open.get_mut(&self.place) else { return };
        *count -= 1;
        if *count == 0 {
            places.open.remove(&self.place);
            places.free.insert(self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_to_one_at_a_time() {
        let slab = Slab::new(4);
        let named = [slab.open(2).unwrap(), slab.open(2).unwrap()];
        assert!(slab.open(4).is_none(), "there is no such place");
        let taken: Vec<Ticket> = std::iter::from_fn(|| slab.take()).collect();
        assert_eq!(taken.iter().map(Ticket::place).collect::<Vec<_>>(), [0, 1, 3]);
        let [one, other] = named;
        drop(one);
        assert!(slab.take().is_none(), "opened twice, and closed once");
        drop(other);
        assert_eq!(slab.take().unwrap().place(), 2);
        drop(taken);
        assert_eq!(slab.take().unwrap().place(), 0);
    }
}
