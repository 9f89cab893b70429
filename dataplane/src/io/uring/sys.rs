//! The two system calls that the `io-uring` crate does not make as we need them: entering through a
//! registered ring descriptor that outlives one borrow, with a timeout, with or without waiting.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// `IORING_ENTER_GETEVENTS`: run deferred work, and wait if asked to.
const ENTER_GETEVENTS: u32 = 1 << 0;
/// `IORING_ENTER_EXT_ARG`: the argument is a [`GetEventsArg`].
const ENTER_EXT_ARG: u32 = 1 << 3;
/// `IORING_ENTER_REGISTERED_RING`: the descriptor is an index of a registered ring.
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// `IORING_REGISTER_RING_FDS`
const REGISTER_RING_FDS: u32 = 20;
/// `IORING_UNREGISTER_RING_FDS`
const UNREGISTER_RING_FDS: u32 = 21;

/// `struct __kernel_timespec`
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanos: i64,
}

/// `struct io_uring_getevents_arg`
#[repr(C)]
struct GetEventsArg {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct io_uring_rsrc_update`
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    fd: u64,
}

/// How long a call waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    /// Completions that end it; 0 for no pause.
    pub(super) completions: u32,
    /// After this time, one completion ends it (Linux 6.12).
    pub(super) at_least: Duration,
    /// After this time it ends whatever there is.
    pub(super) timeout: Option<Duration>,
}

impl Pause {
    /// None.
    pub(super) const NONE: Pause =
        Pause { completions: 0, at_least: Duration::ZERO, timeout: None };

    /// Until there is a completion, or the time is up.
    pub(super) fn until(timeout: Option<Duration>) -> Self {
        Pause { completions: 1, at_least: Duration::ZERO, timeout }
    }
}

/// A ring as this thread names it to the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingHandle {
    ring: RawFd,
    /// Index in the thread's table of registered rings.
    registered: Option<u32>,
}

impl RingHandle {
    /// Registers the ring with this thread, which saves a descriptor look-up on each call. Without
    /// it (the table has 16 places) everything works as well.
    pub(super) fn register(ring: RawFd) -> Self {
        // An offset of -1 asks for any place; the kernel writes back which.
        let mut update = RingFdUpdate { offset: u32::MAX, reserved: 0, fd: ring as u64 };
        let registered = register_ring_fds(ring, REGISTER_RING_FDS, &mut update);
        RingHandle { ring, registered: registered.ok().map(|()| update.offset) }
    }

    /// Takes the registration back. It holds the ring open until then, so this must be done on the
    /// same thread before the ring is dropped.
    pub(super) fn unregister(self) {
        let Some(offset) = self.registered else { return };
        let mut update = RingFdUpdate { offset, reserved: 0, fd: 0 };
        if let Err(error) = register_ring_fds(self.ring, UNREGISTER_RING_FDS, &mut update) {
            tracing::warn!(%error, "an io_uring stays open until its thread ends");
        }
    }

    /// Submits `to_submit` entries, runs deferred work and pauses. Returns how many entries were
    /// taken.
    pub(super) fn enter(self, to_submit: u32, pause: Pause) -> io::Result<u32> {
        let (fd, flag) = match self.registered {
            Some(index) => (index as RawFd, ENTER_REGISTERED_RING),
            None => (self.ring, 0),
        };
        let time = pause.timeout.map(|timeout| KernelTimespec {
            seconds: i64::from(i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX)),
            nanos: i64::from(timeout.subsec_nanos()),
        });
        let timeout = time.as_ref().map_or(0, |time| &raw const *time as u64);
        // Rounded up: none at all would have the kernel wait for all completions that were named.
        let min_wait_us =
            u32::try_from(pause.at_least.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX);
        let arg = GetEventsArg { sigmask: 0, sigmask_size: 0, min_wait_us, timeout };
        // SAFETY: the argument and the time it points to outlive the call. What the submitted
        // entries point to is the pusher's care.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                to_submit,
                pause.completions,
                ENTER_GETEVENTS | ENTER_EXT_ARG | flag,
                &raw const arg,
                size_of::<GetEventsArg>(),
            )
        };
        u32::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

fn register_ring_fds(ring: RawFd, operation: u32, update: &mut RingFdUpdate) -> io::Result<()> {
    // SAFETY: the argument is one valid update, which the kernel may write to.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, operation, &raw mut *update, 1) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
