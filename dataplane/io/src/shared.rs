//! Memory that outlives the process: a `memfd` that a supervisor holds, mapped by one server after
//! the other. All of it is words that are read and written as atomics, so that whoever uses it
//! needs no `unsafe` and cannot see half a word, wherever the process before was killed.
//!
//! * [`create`] — the supervisor's part: a file without a name, whose size is sealed.
//! * [`Region`] — the server's: all of it as words.
//! * [`Slot`] — a few words with an owner, in a region or on the heap: who uses it cannot tell.
//! * [`inherit`] — a descriptor that the supervisor has left open for us.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Bytes of a word.
pub const WORD: usize = size_of::<AtomicU64>();

/// What can be given back to the system is a multiple of this.
const PAGE: usize = 4096;

/// Makes memory of so many bytes that no file system knows of. It takes no more than what is
/// touched, its size cannot be changed, and the descriptor is closed in programs that are executed,
/// unless [`set_inherited`] says otherwise.
///
/// # Errors
/// The system's.
pub fn create(bytes: usize) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a string that ends with a zero.
    let fd = unsafe { libc::memfd_create(c"opencall-calls".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let memory = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: no memory is involved.
    succeed(unsafe { libc::ftruncate(fd, length) })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no memory is involved.
    succeed(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) })?;
    Ok(memory)
}

/// Whether programs that are executed get this descriptor.
///
/// # Errors
/// The system's.
pub fn set_inherited(fd: BorrowedFd<'_>, inherited: bool) -> io::Result<()> {
    let flags = if inherited { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: no memory is involved.
    succeed(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) })
}

/// Takes a descriptor that whoever executed us has left open. Asked once for each: the number says
/// nothing of who else uses it, so that anything but what was agreed on is refused here.
///
/// # Errors
/// It is not open, or was not left open for us: what the program opened itself is closed on
/// execution.
pub fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= libc::STDERR_FILENO {
        return Err(io::Error::other("this is a standard stream"));
    }
    // SAFETY: no memory is involved.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    succeed(flags)?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::other("this descriptor is the program's own"));
    }
    // SAFETY: it is open, and all that this program opens itself is marked otherwise; marking it
    // below makes a second call fail.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no memory is involved.
    succeed(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(owned)
}

/// Has the system end this process with SIGTERM when its parent's thread ends: a server without its
/// supervisor would hold the ports that the next one wants.
///
/// # Errors
/// The system's.
pub fn end_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved.
    succeed(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) })
}

fn succeed(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Memory that [`create`] made, as words. It stays mapped as long as the process lives.
#[derive(Clone, Copy)]
pub struct Region {
    words: &'static [AtomicU64],
}

impl Region {
    /// Maps it. It is in no core dump: keys are in it.
    ///
    /// # Errors
    /// It is shorter than `bytes`, could become so, or the system refuses.
    pub fn map(memory: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let fd = memory.as_raw_fd();
        // SAFETY: no memory is involved.
        let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
        succeed(seals)?;
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::other("memory that may shrink under us"));
        }
        // SAFETY: no memory is involved.
        let length = unsafe { libc::lseek(fd, 0, libc::SEEK_END) };
        if usize::try_from(length).ok().is_none_or(|length| length < bytes) {
            return Err(io::Error::other("memory of another size"));
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, where the system likes.
        let place = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is of that length.
        succeed(unsafe { libc::madvise(place, bytes, libc::MADV_DONTDUMP) })?;
        // SAFETY: the mapping is page-aligned, of that length for as long as the process lives (it
        // is never unmapped, and its file cannot shrink), and of a type that any bytes are a value
        // of.
        let words = unsafe { std::slice::from_raw_parts(place.cast(), bytes / WORD) };
        Ok(Region { words })
    }

    /// All of it.
    pub fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    /// Gives the memory of whole pages among these words back: they read as zero afterwards. What
    /// is not given back stays as it is.
    pub fn discard(&self, words: std::ops::Range<usize>) {
        let (start, end) = ((words.start * WORD).next_multiple_of(PAGE), words.end * WORD);
        let end = end.min(self.words.len() * WORD) / PAGE * PAGE;
        if start >= end {
            return;
        }
        let place = self.words.as_ptr().wrapping_byte_add(start).cast_mut().cast();
        // SAFETY: the range lies in the mapping, and zeroes are as good a value as any.
        let _ = unsafe { libc::madvise(place, end - start, libc::MADV_REMOVE) };
    }
}

/// Words in lines of the cache of their own.
#[repr(align(64))]
struct Aligned<const N: usize>([AtomicU64; N]);

/// What keeps a slot's words.
enum Owner<const N: usize> {
    Heap(Aligned<N>),
    /// Words of a region, and what says that they are free again, when it is dropped.
    Region(&'static [AtomicU64; N], #[expect(dead_code)] Box<dyn Send + Sync>),
}

/// So many words, shared by all clones.
pub struct Slot<const N: usize> {
    /// Those of `owner`: one step instead of two on the way of each packet.
    words: NonNull<[AtomicU64; N]>,
    owner: Arc<Owner<N>>,
}

// SAFETY: the pointer is to what the owner keeps, which can be sent and shared.
unsafe impl<const N: usize> Send for Slot<N> {}
// SAFETY: the same.
unsafe impl<const N: usize> Sync for Slot<N> {}

impl<const N: usize> Slot<N> {
    fn of(owner: Owner<N>) -> Self {
        let owner = Arc::new(owner);
        let words = match &*owner {
            Owner::Heap(words) => NonNull::from(&words.0),
            Owner::Region(words, _) => NonNull::from(*words),
        };
        Slot { words, owner }
    }

    /// Words of a region, as they are; `lease` is dropped with the last clone.
    pub fn in_region(words: &'static [AtomicU64; N], lease: Box<dyn Send + Sync>) -> Self {
        Self::of(Owner::Region(words, lease))
    }
}

impl<const N: usize> Default for Slot<N> {
    /// Zeroes on the heap.
    fn default() -> Self {
        Self::of(Owner::Heap(Aligned([const { AtomicU64::new(0) }; N])))
    }
}

impl<const N: usize> Clone for Slot<N> {
    fn clone(&self) -> Self {
        Slot { words: self.words, owner: Arc::clone(&self.owner) }
    }
}

impl<const N: usize> Deref for Slot<N> {
    type Target = [AtomicU64; N];

    #[inline]
    fn deref(&self) -> &[AtomicU64; N] {
        // SAFETY: `owner` keeps the words where they are for as long as there is a clone.
        unsafe { self.words.as_ref() }
    }
}

impl<const N: usize> fmt::Debug for Slot<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn two_mappings_are_one_memory_that_nobody_can_resize() {
        let memory = create(16 * PAGE).unwrap();
        let one = Region::map(memory.as_fd(), 16 * PAGE).unwrap();
        let other = Region::map(memory.as_fd(), 16 * PAGE).unwrap();
        assert_eq!(one.words().len(), 16 * PAGE / WORD);
        one.words()[700].store(7, Relaxed);
        assert_eq!(other.words()[700].load(Relaxed), 7);
        // SAFETY: no memory is involved.
        let shrunk = unsafe { libc::ftruncate(memory.as_raw_fd(), 0) };
        assert_eq!(shrunk, -1, "sealed");
        assert!(Region::map(memory.as_fd(), 17 * PAGE).is_err());
    }

    #[test]
    fn whole_pages_can_be_given_back() {
        let memory = create(4 * PAGE).unwrap();
        let region = Region::map(memory.as_fd(), 4 * PAGE).unwrap();
        region.words().iter().for_each(|word| word.store(1, Relaxed));
        let page = PAGE / WORD;
        region.discard(page - 1..3 * page + 1);
        let ones =
            |words: &[AtomicU64]| words.iter().filter(|word| word.load(Relaxed) == 1).count();
        assert_eq!(ones(&region.words()[..page]), page);
        assert_eq!(ones(&region.words()[page..3 * page]), 0);
        assert_eq!(ones(&region.words()[3 * page..]), page);
    }

    #[test]
    fn a_slot_is_free_with_its_last_clone() {
        let memory = create(PAGE).unwrap();
        let words = Region::map(memory.as_fd(), PAGE).unwrap().words();
        let lease = Arc::new(());
        let place = words.first_chunk::<8>().unwrap();
        let slot = Slot::in_region(place, Box::new(Arc::clone(&lease)));
        let clone = slot.clone();
        slot[3].store(9, Relaxed);
        drop(slot);
        assert_eq!((clone[3].load(Relaxed), Arc::strong_count(&lease)), (9, 2));
        drop(clone);
        assert_eq!((words[3].load(Relaxed), Arc::strong_count(&lease)), (9, 1));
    }

    #[test]
    fn a_slot_of_the_heap_is_shared_by_its_clones() {
        let slot = Slot::<8>::default();
        let clone = slot.clone();
        slot[7].store(5, Relaxed);
        assert_eq!(clone[7].load(Relaxed), 5);
        assert_eq!(slot.as_ptr() as usize % 64, 0);
    }

    #[test]
    fn what_was_not_left_open_for_us_is_not_taken() {
        let memory = create(PAGE).unwrap();
        let fd = memory.as_raw_fd();
        assert!(inherit(2).is_err(), "everyone's");
        assert!(inherit(fd).is_err(), "our own");
        set_inherited(memory.as_fd(), true).unwrap();
        std::mem::forget(memory);
        let taken = inherit(fd).unwrap();
        assert!(inherit(fd).is_err(), "taken already");
        drop(taken);
        assert!(inherit(fd).is_err(), "closed");
    }
}
