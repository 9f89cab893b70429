//! The ring of receive buffers that is shared with the kernel (`io_uring_register_buf_ring(3)`):
//! we add slots at the tail, the kernel takes them from the head and says in each completion which
//! one it took.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::super::batch::{RX_SLOTS, SlotMemory};
use super::super::types::SLOT_SIZE;

/// The only buffer group of a core's ring: all its sockets draw from the same slots.
pub(super) const GROUP: u16 = 0;

/// The kernel's limit for such a ring is 2^15 entries, and the count must be a power of two.
const ENTRIES: u16 = RX_SLOTS as u16;
const _: () = assert!(RX_SLOTS.is_power_of_two() && RX_SLOTS <= 1 << 15);

/// The shared ring, and a hold on the slots it lends.
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    tail: u16,
    slots: Arc<SlotMemory>,
}

// SAFETY: the memory has no thread affinity; the kernel's side of it follows its own protocol.
unsafe impl Send for BufferRing {}

impl BufferRing {
    /// The interface wants page alignment.
    const LAYOUT: Layout = match Layout::from_size_align(RX_SLOTS * size_of::<BufRingEntry>(), 4096)
    {
        Ok(layout) => layout,
        Err(_) => panic!("the buffer ring has a valid layout"),
    };

    /// Registers the ring and lends all slots to the kernel.
    pub(super) fn register(submitter: &Submitter<'_>, slots: Arc<SlotMemory>) -> io::Result<Self> {
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(Self::LAYOUT) };
        let Some(entries) = NonNull::new(memory.cast()) else { handle_alloc_error(Self::LAYOUT) };
        let mut ring = BufferRing { entries, tail: 0, slots };
        let addr = entries.as_ptr() as u64;
        // SAFETY: the memory holds `ENTRIES` entries. It stays until the ring is dropped, which its
        // owner does after unregistering it, or never.
        unsafe { submitter.register_buf_ring_with_flags(addr, ENTRIES, GROUP, 0)? };
        for slot in 0..RX_SLOTS {
            ring.add(slot);
        }
        ring.publish();
        Ok(ring)
    }

    /// Gives a slot to the kernel, from the next [`publish`](Self::publish) on. The caller holds
    /// it: no datagram of the batch lies in it.
    pub(super) fn add(&mut self, slot: usize) {
        let index = usize::from(self.tail) & (RX_SLOTS - 1);
        let addr = self.slots.slot(slot) as u64;
        // SAFETY: the index is below the number of entries.
        let entry = unsafe { self.entries.as_ptr().add(index) };
        // SAFETY: entries from the tail on are ours, and there are as many entries as slots, so
        // that the tail never meets the kernel's head. The kernel reads no entry before `publish`.
        let entry = unsafe { &mut *entry };
        // Field by field: the first entry's spare field is the tail.
        entry.set_addr(addr);
        entry.set_len(SLOT_SIZE as u32);
        entry.set_bid(slot as u16);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was added.
    pub(super) fn publish(&mut self) {
        // SAFETY: the pointer is to the first entry of the ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: aligned, valid for the life of the ring, and read by the kernel atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: whoever sees the tail sees the entries.
        tail.store(self.tail, Ordering::Release);
    }

    /// The slots' memory.
    pub(super) fn slots(&self) -> &Arc<SlotMemory> {
        &self.slots
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout, and no longer registered.
        unsafe { dealloc(self.entries.as_ptr().cast(), Self::LAYOUT) }
    }
}
