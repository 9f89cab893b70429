//! What control sees of a core's thread, and how it tells it that another is in its place.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opencall_io::Unparker;
use opencall_wire::time::Time;

use crate::checkpoint::Suspect;
use crate::message::CoreId;

/// A thread's turns are looked at so often. What counts are looks, not time: when the whole machine
/// or process stood still, nobody looked.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Looks in a row at the same turn, after which a core has stalled: a turn takes a millisecond, and
/// a thread that waits for its CPU some tens. Fewer would replace cores of a machine that is merely
/// crowded, which costs every video on them a key frame.
const STALLED_LOOKS: u32 = 9;

/// The same while a core is with the kernel, where it sleeps for a second at most.
const ASLEEP_LOOKS: u32 = 20;

/// How a core's thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// What it said.
    pub reason: String,
    /// When.
    pub at: Time,
    /// What it had in hand.
    pub suspect: Option<Suspect>,
}

/// What a core can be made to suffer, for tests of its replacement.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It panics, with a turn's datagrams sealed and not sent.
    Panic,
    /// It makes no turns, from the same moment until it has been replaced for a while.
    Stall,
}

/// Shared between one thread of a core and control.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// Counts turns, by two; odd while the thread is with the kernel.
    progress: AtomicU64,
    /// Another thread is in this one's place: it must not send any more.
    replaced: AtomicBool,
    /// Whether `death` was written.
    dead: AtomicBool,
    death: Mutex<Option<Death>>,
    /// One of [`PANIC`] and [`STALL`]; 0 for nothing.
    fault: AtomicU8,
}

const PANIC: u8 = 1;
const STALL: u8 = 2;

/// How long a stalled thread sleeps on after it was replaced: the new one is at work by then.
const OVERSLEEP: Duration = Duration::from_millis(300);

impl Vitals {
    /// A turn begins. Returns whether the thread still has its place.
    pub fn begin_turn(&self) -> bool {
        let turns = self.progress.load(Ordering::Relaxed) & !1;
        self.progress.store(turns.wrapping_add(2), Ordering::Relaxed);
        !self.is_replaced()
    }

    /// The thread goes to the kernel.
    pub fn begin_io(&self) {
        let turns = self.progress.load(Ordering::Relaxed);
        self.progress.store(turns | 1, Ordering::Relaxed);
    }

    /// Whether another thread is in this one's place.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Puts another thread in this one's place.
    pub fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// Says how the thread ended.
    pub fn die(&self, death: Death) {
        *self.death.lock().unwrap_or_else(PoisonError::into_inner) = Some(death);
        self.dead.store(true, Ordering::Release);
    }

    /// How it ended, once.
    pub fn take_death(&self) -> Option<Death> {
        if !self.dead.load(Ordering::Acquire) {
            return None;
        }
        self.death.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Suffers what was injected, if anything was.
    pub fn suffer(&self) {
        if self.fault.load(Ordering::Relaxed) == 0 {
            return;
        }
        match self.fault.swap(0, Ordering::Relaxed) {
            0 => {}
            PANIC => panic!("a fault was injected"),
            _ => {
                while !self.is_replaced() {
                    std::thread::sleep(WATCH_INTERVAL / 10);
                }
                std::thread::sleep(OVERSLEEP);
            }
        }
    }

    fn inject(&self, fault: Fault) {
        let word = match fault {
            Fault::Panic => PANIC,
            Fault::Stall => STALL,
        };
        self.fault.store(word, Ordering::Relaxed);
    }
}

/// Watches whether a thread makes turns.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looked_at: Time,
    seen: u64,
    looks: u32,
}

impl Watch {
    /// Looks, unless it was looked just now; whether the core has stalled.
    pub fn look(&mut self, now: Time, vitals: &Vitals) -> bool {
        if now.since(self.looked_at) < WATCH_INTERVAL {
            return false;
        }
        self.looked_at = now;
        let progress = vitals.progress.load(Ordering::Relaxed);
        if progress != self.seen {
            (self.seen, self.looks) = (progress, 0);
            return false;
        }
        self.looks += 1;
        self.looks >= if progress & 1 == 1 { ASLEEP_LOOKS } else { STALLED_LOOKS }
    }
}

/// How a thread is reached.
type Reached = (Unparker, Arc<Vitals>);

/// How each core's present thread is reached.
#[derive(Default)]
pub(super) struct Registry {
    version: AtomicU64,
    threads: Mutex<BTreeMap<CoreId, Reached>>,
}

impl Registry {
    /// A core has come, or has another thread.
    pub fn set(&self, core: CoreId, unparker: Unparker, vitals: Arc<Vitals>) {
        self.with(|threads| drop(threads.insert(core, (unparker, vitals))));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A core is gone.
    pub fn remove(&self, core: CoreId) {
        self.with(|threads| drop(threads.remove(&core)));
        self.version.fetch_add(1, Ordering::Release);
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<CoreId, Reached>) -> T) -> T {
        act(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The other cores as one of them wakes them.
pub(super) struct Peers {
    registry: Arc<Registry>,
    version: u64,
    unparkers: Vec<Option<Unparker>>,
}

impl Peers {
    pub fn new(registry: Arc<Registry>) -> Self {
        Peers { registry, version: 0, unparkers: Vec::new() }
    }

    /// How a core is woken.
    pub fn get(&mut self, core: CoreId) -> Option<&Unparker> {
        let version = self.registry.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.registry.with(|threads| {
                let count = threads.keys().next_back().map_or(0, |last| usize::from(last.0) + 1);
                self.unparkers = vec![None; count];
                for (core, (unparker, _)) in threads {
                    self.unparkers[usize::from(core.0)] = Some(unparker.clone());
                }
            });
        }
        self.unparkers.get(usize::from(core.0))?.as_ref()
    }
}

/// Wakes data cores, for whoever is at the far end of a pipe without being one.
#[derive(Clone)]
pub struct Wakers {
    pub(super) registry: Arc<Registry>,
}

impl Wakers {
    /// Wakes a core if it sleeps. To be called after the push that it shall see.
    pub fn wake(&self, core: CoreId) {
        self.registry.with(|threads| {
            if let Some((unparker, _)) = threads.get(&core) {
                unparker.wake();
            }
        });
    }
}

/// Makes cores suffer, for tests of their replacement.
#[doc(hidden)]
#[derive(Clone)]
pub struct Faults {
    pub(super) registry: Arc<Registry>,
}

impl Faults {
    /// Makes a core suffer at the end of its next turn.
    pub fn inject(&self, core: CoreId, fault: Fault) {
        self.registry.with(|threads| {
            if let Some((unparker, vitals)) = threads.get(&core) {
                vitals.inject(fault);
                unparker.wake();
            }
        });
    }

    /// The core after this one, or the first.
    pub fn next_after(&self, core: Option<CoreId>) -> Option<CoreId> {
        self.registry.with(|threads| {
            let later = threads.keys().find(|&&other| core.is_none_or(|core| other > core));
            later.or_else(|| threads.keys().next()).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_has_stalled_after_many_looks_at_one_turn() {
        let (vitals, mut watch) = (Vitals::default(), Watch::default());
        let mut now = Time::from_millis(1_000);
        let mut look = |vitals: &Vitals| {
            now = now + WATCH_INTERVAL;
            watch.look(now, vitals)
        };
        vitals.begin_turn();
        for _ in 0..STALLED_LOOKS {
            assert!(!look(&vitals));
        }
        assert!(look(&vitals));
        vitals.begin_io();
        for _ in 0..ASLEEP_LOOKS {
            assert!(!look(&vitals), "it may sleep for longer");
        }
        assert!(look(&vitals));
        vitals.begin_turn();
        assert!(!look(&vitals), "it has come back");
    }

    #[test]
    fn a_machine_that_stood_still_has_not_stalled() {
        let (vitals, mut watch) = (Vitals::default(), Watch::default());
        vitals.begin_turn();
        assert!(!watch.look(Time::from_millis(1_000), &vitals));
        assert!(!watch.look(Time::from_millis(3_600_000), &vitals));
        assert!(!watch.look(Time::from_millis(3_600_001), &vitals), "looked just now");
    }

    #[test]
    fn a_death_is_told_once_and_a_replaced_thread_ends() {
        let vitals = Vitals::default();
        assert!(vitals.begin_turn() && vitals.take_death().is_none());
        let death = Death { reason: "x".into(), at: Time::ZERO, suspect: None };
        vitals.die(death.clone());
        assert_eq!([vitals.take_death(), vitals.take_death()], [Some(death), None]);
        vitals.replace();
        assert!(!vitals.begin_turn());
    }
}
