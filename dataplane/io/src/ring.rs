//! A bounded lock-free ring between two cores: one producer, one consumer, slots filled in place.
//!
//! Slots are made once and reused, so a slot that holds an array takes a packet with one copy and
//! no allocation. Each side keeps a copy of the other's index and looks at the shared one only when
//! the copy says full or empty: in the steady state a push touches no cache line that the other
//! side writes to.
//!
//! Indices count pushes and releases without ever being reduced; they wrap with `usize`, which is
//! harmless because the capacity is a power of two.

#[cfg(not(loom))]
use std::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

#[cfg(loom)]
use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// No slot was free: the other core is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Keeps what the two sides write on different cache lines: 128 bytes, as the adjacent-line
/// prefetcher of x86 pulls lines in pairs.
#[repr(align(128))]
struct CachePadded<T>(T);

struct Shared<T> {
    /// How many slots have been released. Written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// How many slots have been filled. Written by the producer.
    tail: CachePadded<AtomicUsize>,
    /// One side is gone.
    closed: CachePadded<AtomicBool>,
    slots: Box<[UnsafeCell<T>]>,
}

// SAFETY: a slot is touched by one side at a time: by the producer before `tail` covers it, by the
// consumer between that and `head` covering it. The indices hand it over with release and acquire.
// Values move between threads that way, hence `T: Send`; they are never shared.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: see `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The slot of a running index. Only the side that owns the slot may go through the pointer.
    fn slot(&self, index: usize) -> *mut T {
        let cell = &self.slots[index & (self.slots.len() - 1)];
        #[cfg(not(loom))]
        return cell.get();
        // The model checks at this point that the other side's accesses happened before.
        #[cfg(loom)]
        cell.with_mut(|slot| slot)
    }
}

/// Makes a ring of `capacity` slots, each made by `make`.
///
/// Panics if `capacity` is not a power of two: it is a constant of ours.
pub fn ring<T>(capacity: usize, mut make: impl FnMut() -> T) -> (RingProducer<T>, RingConsumer<T>) {
    assert!(capacity.is_power_of_two(), "the capacity of a ring is a power of two");
    let shared = Arc::new(Shared {
        head: CachePadded(AtomicUsize::new(0)),
        tail: CachePadded(AtomicUsize::new(0)),
        closed: CachePadded(AtomicBool::new(false)),
        slots: (0..capacity).map(|_| UnsafeCell::new(make())).collect(),
    });
    let producer = RingProducer { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    (producer, RingConsumer { shared, head: 0, tail_seen: 0 })
}

/// The filling side.
pub struct RingProducer<T> {
    shared: Arc<Shared<T>>,
    /// Our own index; the shared one is a copy of it for the other side.
    tail: usize,
    /// The other side's index when we last looked; never ahead of the truth.
    head_seen: usize,
}

impl<T> RingProducer<T> {
    /// Fills the next slot with `f`, which finds there what was left behind, and hands it over.
    /// If `f` panics, nothing is handed over.
    pub fn push_with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Result<R, Full> {
        if self.is_full() {
            return Err(Full);
        }
        let slot = self.shared.slot(self.tail);
        // SAFETY: fewer than `capacity` slots are filled, so this one is ours until the store
        // below; the acquire load of `head` ordered the consumer's accesses before it.
        let result = f(unsafe { &mut *slot });
        self.tail = self.tail.wrapping_add(1);
        // Release: whoever sees the new tail sees the slot filled.
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(result)
    }

    /// Whether no slot is free now.
    pub fn is_full(&mut self) -> bool {
        if self.tail.wrapping_sub(self.head_seen) < self.capacity() {
            return false;
        }
        // Acquire: the consumer is done with every slot below the head we see.
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head_seen) >= self.capacity()
    }

    /// How many slots are free now, at least.
    pub fn free(&mut self) -> usize {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.capacity() - self.tail.wrapping_sub(self.head_seen)
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the consumer has been dropped.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.0.load(Ordering::Acquire)
    }
}

impl<T> Drop for RingProducer<T> {
    fn drop(&mut self) {
        // Release: a consumer that sees this sees every push before it.
        self.shared.closed.0.store(true, Ordering::Release);
    }
}

/// The emptying side.
pub struct RingConsumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

impl<T> RingConsumer<T> {
    /// How many slots are filled now, at least. They are read by [`slot`](Self::slot).
    pub fn len(&mut self) -> usize {
        // Acquire: the slots below the tail we see are filled.
        self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        self.tail_seen.wrapping_sub(self.head)
    }

    /// Whether no slot is filled now.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// The `i`th filled slot. Panics if `i` is not below what [`len`](Self::len) last returned,
    /// less what has been released since.
    pub fn slot(&mut self, i: usize) -> &mut T {
        assert!(i < self.tail_seen.wrapping_sub(self.head), "the slot is not filled");
        let slot = self.shared.slot(self.head.wrapping_add(i));
        // SAFETY: the slot lies below the tail and not below the head, so it is ours until
        // `release`; the acquire load of `tail` ordered the producer's writes before it, and
        // `&mut self` keeps a second reference away.
        unsafe { &mut *slot }
    }

    /// Gives the first `n` filled slots back. Panics if that many are not filled.
    pub fn release(&mut self, n: usize) {
        assert!(n <= self.tail_seen.wrapping_sub(self.head), "released more than was filled");
        self.head = self.head.wrapping_add(n);
        // Release: our accesses come before the producer's next ones to these slots.
        self.shared.head.0.store(self.head, Ordering::Release);
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether the producer has been dropped. Slots filled before are still to be read: once this
    /// has returned true, [`len`](Self::len) is final.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.0.load(Ordering::Acquire)
    }
}

impl<T> Drop for RingConsumer<T> {
    fn drop(&mut self) {
        self.shared.closed.0.store(true, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_come_out_in_order_and_are_reused() {
        let (mut producer, mut consumer) = ring(4, || [0_u8; 8]);
        assert_eq!((producer.capacity(), consumer.capacity()), (4, 4));
        assert!(consumer.is_empty());
        for round in 0..10 {
            for i in 0..4 {
                let left_behind = producer.push_with(|slot| {
                    let left_behind = slot[1];
                    *slot = [round; 8];
                    slot[0] = i;
                    left_behind
                });
                assert_eq!(left_behind, Ok(round.saturating_sub(1)));
            }
            assert!(producer.is_full());
            assert_eq!(producer.push_with(|_| ()), Err(Full));
            assert_eq!(consumer.len(), 4);
            for i in 0..4 {
                assert_eq!(consumer.slot(usize::from(i))[..2], [i, round]);
            }
            consumer.release(1);
            assert_eq!(consumer.slot(0)[0], 1);
            assert_eq!(producer.free(), 1);
            consumer.release(3);
            assert!(!producer.is_full());
        }
    }

    #[test]
    fn indices_wrap_around() {
        let (mut producer, mut consumer) = ring(2, || 0);
        let start = usize::MAX - 2;
        producer.tail = start;
        producer.head_seen = start;
        consumer.head = start;
        consumer.tail_seen = start;
        producer.shared.head.0.store(start, Ordering::Relaxed);
        producer.shared.tail.0.store(start, Ordering::Relaxed);
        for i in 0..8 {
            producer.push_with(|slot| *slot = i).unwrap();
            producer.push_with(|slot| *slot = i + 100).unwrap();
            assert_eq!(producer.push_with(|_| ()), Err(Full));
            assert_eq!(consumer.len(), 2);
            assert_eq!((*consumer.slot(0), *consumer.slot(1)), (i, i + 100));
            consumer.release(2);
        }
    }

    #[test]
    fn each_side_learns_that_the_other_is_gone() {
        let (mut producer, mut consumer) = ring(2, || 0);
        producer.push_with(|slot| *slot = 7).unwrap();
        assert!(!consumer.is_closed() && !producer.is_closed());
        drop(producer);
        assert!(consumer.is_closed());
        assert_eq!(consumer.len(), 1);
        assert_eq!(*consumer.slot(0), 7);

        let (producer, consumer) = ring(2, || 0);
        drop(consumer);
        assert!(producer.is_closed());
    }

    #[test]
    fn options_carry_owned_values_across() {
        let (mut producer, mut consumer) = ring(2, || None);
        for text in ["a", "b"] {
            producer.push_with(|slot| *slot = Some(Box::new(text))).unwrap();
        }
        assert_eq!(consumer.len(), 2);
        assert_eq!(consumer.slot(0).take().as_deref(), Some(&"a"));
        consumer.release(1);
        drop(consumer);
        drop(producer);
    }

    #[test]
    fn a_panic_while_filling_hands_nothing_over() {
        let (mut producer, mut consumer) = ring(2, || 0);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            producer.push_with(|_| panic!("on purpose"))
        }));
        assert!(outcome.is_err());
        assert!(consumer.is_empty());
        producer.push_with(|slot| *slot = 1).unwrap();
        assert_eq!(consumer.len(), 1);
    }

    #[test]
    #[should_panic(expected = "the slot is not filled")]
    fn an_unfilled_slot_cannot_be_read() {
        let (_producer, mut consumer) = ring(2, || 0);
        consumer.slot(0);
    }

    #[test]
    #[should_panic(expected = "released more than was filled")]
    fn an_unfilled_slot_cannot_be_released() {
        let (mut producer, mut consumer) = ring(2, || 0);
        producer.push_with(|_| ()).unwrap();
        assert_eq!(consumer.len(), 1);
        consumer.release(2);
    }

    #[test]
    fn two_threads_lose_and_tear_nothing() {
        const PUSHES: usize = if cfg!(miri) { 300 } else { 200_000 };
        let (mut producer, mut consumer) = ring(8, || [0_usize; 4]);
        let filler = std::thread::spawn(move || {
            for i in 0..PUSHES {
                while producer.push_with(|slot| slot.fill(i)).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < PUSHES {
            let filled = consumer.len();
            for i in 0..filled {
                assert_eq!(*consumer.slot(i), [expected; 4]);
                expected += 1;
            }
            consumer.release(filled);
            if filled == 0 {
                std::thread::yield_now();
            }
        }
        filler.join().unwrap();
        assert!(consumer.is_closed());
        assert_eq!(consumer.len(), 0);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;

    #[test]
    fn slots_pass_between_the_sides_without_a_race() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring(2, || 0);
            let filler = loom::thread::spawn(move || {
                let mut pushed = 0;
                for i in 1..=4 {
                    if producer.push_with(|slot| *slot = i).is_ok() {
                        pushed += 1;
                    }
                }
                pushed
            });
            let mut taken = 0;
            let mut last = 0;
            for _ in 0..2 {
                let filled = consumer.len();
                for i in 0..filled {
                    let value = *consumer.slot(i);
                    assert!(value > last, "in order");
                    last = value;
                }
                consumer.release(filled);
                taken += filled;
            }
            let pushed = filler.join().unwrap();
            assert!(consumer.is_closed());
            taken += consumer.len();
            assert_eq!(taken, pushed, "nothing lost, nothing made up");
        });
    }

    #[test]
    fn whoever_sees_the_ring_closed_sees_its_last_slot() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring(2, || 0);
            let filler = loom::thread::spawn(move || {
                producer.push_with(|slot| *slot = 7).unwrap();
            });
            if consumer.is_closed() {
                assert_eq!(consumer.len(), 1);
                assert_eq!(*consumer.slot(0), 7);
            }
            filler.join().unwrap();
        });
    }
}
