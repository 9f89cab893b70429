//! Sleeping when there is nothing to do, and being woken without paying for it when there is.
//!
//! A core parks only in its I/O turn. Whoever gives it work pushes to a ring first and then calls
//! [`Unparker::wake`], which costs a fence and a load while the core runs, and one system call when
//! it sleeps.
//!
//! # Why no wake-up is lost
//!
//! ```text
//! core                                   peer
//! parker.prepare():                      push to the ring
//!   parked = true                        unparker.wake():
//!   fence                                  fence
//! look at the rings                        if parked: parked = false, signal the event
//! sleep in io.turn() unless they hold
//!   something
//! parker.done():
//!   parked = false
//! ```
//!
//! Both fences are sequentially consistent, so one comes first (Dekker). If the core's does, the
//! peer sees `parked` and signals. If the peer's does, the core sees the push and does not sleep. A
//! signal that comes late is kept by the event and makes one later sleep end early: harmless.
//!
//! A peer that finds `parked` taken back by another peer does nothing: that one's signal is on its
//! way.

#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, Ordering, fence},
};

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, Ordering, fence},
};

use std::io;
use std::os::fd::RawFd;

use event::Event;

/// No ring to send a message to: woken by the event.
const NO_RING: RawFd = -1;

struct Shared {
    /// The core sleeps or is about to.
    parked: AtomicBool,
    /// The io_uring a peer core can wake this one by, or [`NO_RING`].
    ring: AtomicI32,
    event: Event,
}

/// A core's side: says when it sleeps.
pub struct Parker {
    shared: Arc<Shared>,
}

impl Parker {
    /// A parker, awake. Fails when the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            parked: AtomicBool::new(false),
            ring: AtomicI32::new(NO_RING),
            event: Event::new()?,
        });
        Ok(Parker { shared })
    }

    /// A handle for whoever gives this core work.
    pub fn unparker(&self) -> Unparker {
        Unparker { shared: Arc::clone(&self.shared) }
    }

    /// Announces sleep. The rings must be looked at after this and before sleeping.
    pub fn prepare(&self) {
        self.shared.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Awake again, or not asleep at all.
    pub fn done(&self) {
        self.shared.parked.store(false, Ordering::Relaxed);
    }

    /// The event that a wake-up signals; for backends to wait on.
    #[cfg(not(loom))]
    pub(super) fn event_fd(&self) -> RawFd {
        self.shared.event.fd()
    }

    /// Takes a signal back after the event has turned readable.
    #[cfg(not(loom))]
    pub(super) fn consume(&self) {
        self.shared.event.consume();
    }

    /// A second handle to the same core, for its backend.
    #[cfg(not(loom))]
    pub(super) fn for_backend(&self) -> Parker {
        Parker { shared: Arc::clone(&self.shared) }
    }

    /// From now on peer cores may wake this one through its io_uring.
    #[cfg(not(loom))]
    pub(super) fn publish_ring(&self, ring: RawFd) {
        self.shared.ring.store(ring, Ordering::Relaxed);
    }

    /// No longer: the ring is about to be closed. A message that is still under way fails, or finds
    /// another ring under the same number and wakes that for nothing.
    #[cfg(not(loom))]
    pub(super) fn withdraw_ring(&self) {
        self.shared.ring.store(NO_RING, Ordering::Relaxed);
    }
}

/// The side of everyone who gives the core work.
#[derive(Clone)]
pub struct Unparker {
    shared: Arc<Shared>,
}

impl Unparker {
    /// Wakes the core if it sleeps. To be called after the push it shall see.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.shared.parked.load(Ordering::Relaxed)
            && self.shared.parked.swap(false, Ordering::Relaxed)
        {
            self.shared.event.signal();
        }
    }

    /// The ring to send a message to, if the core sleeps and has one. Unlike [`wake`](Self::wake)
    /// this does not take `parked` back, for the message leaves only with the caller's next turn;
    /// another peer must not rely on it.
    #[cfg(not(loom))]
    pub(super) fn ring_if_parked(&self) -> Option<RawFd> {
        fence(Ordering::SeqCst);
        if !self.shared.parked.load(Ordering::Relaxed) {
            return None;
        }
        match self.shared.ring.load(Ordering::Relaxed) {
            NO_RING => None,
            ring => Some(ring),
        }
    }

    /// Signals the event whether the core sleeps or not: for a message that could not be delivered.
    #[cfg(not(loom))]
    pub(super) fn signal(&self) {
        self.shared.event.signal();
    }

    /// Whether two handles are of the same core.
    #[cfg(not(loom))]
    pub(super) fn is_same(&self, other: &Unparker) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

#[cfg(not(loom))]
mod event {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};

    /// An eventfd. It blocks, as io_uring fails reads of non-blocking files at once instead of
    /// waiting; nobody reads it before it is readable, and writes block only at 2^64 signals.
    pub struct Event(File);

    impl Event {
        pub fn new() -> io::Result<Self> {
            // SAFETY: no memory is involved.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the descriptor is new and nobody else's.
            Ok(Event(unsafe { File::from_raw_fd(fd) }))
        }

        pub fn fd(&self) -> RawFd {
            self.0.as_raw_fd()
        }

        pub fn signal(&self) {
            // Cannot fail: the file is an eventfd and eight bytes are what it takes.
            let _ = (&self.0).write(&1_u64.to_ne_bytes());
        }

        pub fn consume(&self) {
            let mut signals = [0; 8];
            let _ = (&self.0).read(&mut signals);
        }
    }
}

#[cfg(loom)]
mod event {
    use std::io;

    use loom::sync::{Condvar, Mutex};

    /// The kernel's eventfd, as far as the protocol needs it.
    pub struct Event {
        signals: Mutex<u64>,
        readable: Condvar,
    }

    impl Event {
        pub fn new() -> io::Result<Self> {
            Ok(Event { signals: Mutex::new(0), readable: Condvar::new() })
        }

        pub fn signal(&self) {
            *self.signals.lock().unwrap() += 1;
            self.readable.notify_one();
        }

        pub fn wait(&self) {
            let mut signals = self.signals.lock().unwrap();
            while *signals == 0 {
                signals = self.readable.wait(signals).unwrap();
            }
            *signals = 0;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;

    #[cfg(not(miri))] // Miri has no poll.
    fn is_signalled(parker: &Parker) -> bool {
        let mut poll = libc::pollfd { fd: parker.event_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    #[test]
    #[cfg(not(miri))]
    fn only_a_parked_core_is_signalled_and_only_once() {
        let parker = Parker::new().unwrap();
        let unparker = parker.unparker();
        unparker.wake();
        assert!(!is_signalled(&parker), "awake");
        parker.prepare();
        unparker.wake();
        unparker.clone().wake();
        assert!(is_signalled(&parker));
        parker.consume();
        assert!(!is_signalled(&parker));
        parker.prepare();
        parker.done();
        unparker.wake();
        assert!(!is_signalled(&parker), "awake again");
    }

    #[test]
    #[cfg(not(miri))]
    fn a_ring_is_offered_only_while_its_core_sleeps() {
        let parker = Parker::new().unwrap();
        let unparker = parker.unparker();
        parker.publish_ring(5);
        assert_eq!(unparker.ring_if_parked(), None);
        parker.prepare();
        assert_eq!(unparker.ring_if_parked(), Some(5));
        assert_eq!(unparker.ring_if_parked(), Some(5), "a message not yet sent wakes nobody");
        parker.withdraw_ring();
        assert_eq!(unparker.ring_if_parked(), None);
        unparker.wake();
        assert!(is_signalled(&parker));
    }

    #[test]
    fn a_ping_pong_of_sleepers_never_hangs() {
        const ROUNDS: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let (left, right) = (Parker::new().unwrap(), Parker::new().unwrap());
        let (to_left, to_right) = (left.unparker(), right.unparker());
        let ball = Arc::new(AtomicU64::new(0));
        let other_ball = Arc::clone(&ball);
        let sleep_until = |parker: &Parker, ball: &AtomicU64, value: u64| {
            while ball.load(Ordering::Acquire) != value {
                parker.prepare();
                if ball.load(Ordering::Acquire) != value {
                    parker.consume();
                }
                parker.done();
            }
        };
        let (finished, is_finished) = std::sync::mpsc::channel();
        let other = finished.clone();
        let threads = [
            std::thread::spawn(move || {
                for i in 0..ROUNDS {
                    ball.store(2 * i + 1, Ordering::Release);
                    to_right.wake();
                    sleep_until(&left, &ball, 2 * i + 2);
                }
                finished.send(()).unwrap();
            }),
            std::thread::spawn(move || {
                for i in 0..ROUNDS {
                    sleep_until(&right, &other_ball, 2 * i + 1);
                    other_ball.store(2 * i + 2, Ordering::Release);
                    to_left.wake();
                }
                other.send(()).unwrap();
            }),
        ];
        for _ in &threads {
            // Tens of thousands of wake-ups take a slow machine a while; a lost one takes for ever.
            is_finished.recv_timeout(Duration::from_secs(300)).expect("a wake-up was lost");
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::atomic::AtomicU32;

    use super::*;

    /// Loom finds a lost wake-up as a deadlock: the core waits and nobody is left to signal.
    fn core_sleeps_until(parker: &Parker, work: &AtomicU32, expected: u32) {
        while work.load(Ordering::Acquire) != expected {
            parker.prepare();
            if work.load(Ordering::Acquire) != expected {
                parker.shared.event.wait();
            }
            parker.done();
        }
    }

    #[test]
    fn work_of_one_peer_always_wakes_the_core() {
        loom::model(|| {
            let parker = Parker::new().unwrap();
            let unparker = parker.unparker();
            let work = Arc::new(AtomicU32::new(0));
            let peers_work = Arc::clone(&work);
            let peer = loom::thread::spawn(move || {
                for _ in 0..2 {
                    peers_work.fetch_add(1, Ordering::Release);
                    unparker.wake();
                }
            });
            core_sleeps_until(&parker, &work, 2);
            peer.join().unwrap();
        });
    }

    #[test]
    fn work_of_two_peers_always_wakes_the_core() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parker = Parker::new().unwrap();
            let work = Arc::new(AtomicU32::new(0));
            let peers: Vec<_> = (0..2)
                .map(|_| {
                    let (unparker, work) = (parker.unparker(), Arc::clone(&work));
                    loom::thread::spawn(move || {
                        work.fetch_add(1, Ordering::Release);
                        unparker.wake();
                    })
                })
                .collect();
            core_sleeps_until(&parker, &work, 2);
            for peer in peers {
                peer.join().unwrap();
            }
        });
    }
}
