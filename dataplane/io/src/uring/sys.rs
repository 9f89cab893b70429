//! The two system calls that the `io-uring` crate does not make as we need them: entering through a
//! registered ring descriptor that outlives one borrow, with or without waiting.

use std::io;
use std::os::fd::RawFd;

/// `IORING_ENTER_GETEVENTS`: run deferred work, and wait if asked to.
const ENTER_GETEVENTS: u32 = 1 << 0;
/// `IORING_ENTER_REGISTERED_RING`: the descriptor is an index of a registered ring.
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// `IORING_REGISTER_RING_FDS`
const REGISTER_RING_FDS: u32 = 20;
/// `IORING_UNREGISTER_RING_FDS`
const UNREGISTER_RING_FDS: u32 = 21;

/// `struct io_uring_rsrc_update`
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    fd: u64,
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

    /// Submits `to_submit` entries, runs deferred work and waits for so many `completions`. Returns
    /// how many entries were taken.
    pub(super) fn enter(self, to_submit: u32, completions: u32) -> io::Result<u32> {
        let (fd, flag) = match self.registered {
            Some(index) => (index as RawFd, ENTER_REGISTERED_RING),
            None => (self.ring, 0),
        };
        // SAFETY: no argument is passed. What the submitted entries point to is the pusher's care.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                to_submit,
                completions,
                ENTER_GETEVENTS | flag,
                std::ptr::null::<libc::c_void>(),
                0_usize,
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
