//! What a turn of I/O takes and gives: received datagrams in fixed slots, trains in an arena.
//!
//! Neither grows after it is made, so a turn allocates nothing.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::sync::Arc;

use super::types::{
    MAX_RX_BATCH, MAX_TRAIN_BYTES, MAX_TRAIN_SEGMENTS, RxDatagram, SLOT_SIZE, SocketId,
    TX_ARENA_SIZE, Train,
};

/// Receive slots of a core. Twice a batch: while the core works on one batch the kernel can fill
/// another. More would only spread the same packets over more cache; what does not fit waits in the
/// socket's own buffer.
pub const RX_SLOTS: usize = 2 * MAX_RX_BATCH;

/// Bytes at the head of each slot that are not payload: io_uring writes its `recvmsg` header (16
/// bytes) and the sender's address (28, rounded to 32 so that payloads are aligned) there.
pub const SLOT_HEADER: usize = 48;

/// The longest datagram that is received; a longer one is dropped and counted as truncated.
pub const MAX_DATAGRAM: usize = SLOT_SIZE - SLOT_HEADER;

/// Trains of one turn at most. The arena holds 13 000 datagrams of full size; the worst case is
/// that each goes to a destination of its own.
pub const MAX_TRAINS: usize = 16_384;

/// Page alignment of the slot memory: no slot straddles a page it need not touch.
const SLOT_ALIGN: usize = 4096;

/// The slots' bytes. Shared by the batch and (under io_uring) the ring that lends slots to the
/// kernel, so that it outlives both.
pub(super) struct SlotMemory {
    base: NonNull<u8>,
}

// SAFETY: plain bytes without thread affinity. Who may touch which slot when is settled by
// `RxBatch`: a slot is either the kernel's or the batch's.
unsafe impl Send for SlotMemory {}
// SAFETY: as for `Send`; a shared reference alone gives out nothing but addresses.
unsafe impl Sync for SlotMemory {}

impl SlotMemory {
    const LAYOUT: Layout = match Layout::from_size_align(RX_SLOTS * SLOT_SIZE, SLOT_ALIGN) {
        Ok(layout) => layout,
        Err(_) => panic!("the slot memory has a valid layout"),
    };

    fn new() -> Self {
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(Self::LAYOUT) };
        match NonNull::new(memory) {
            Some(base) => SlotMemory { base },
            None => handle_alloc_error(Self::LAYOUT),
        }
    }

    /// The address of a slot.
    pub(super) fn slot(&self, slot: usize) -> *mut u8 {
        assert!(slot < RX_SLOTS);
        // SAFETY: the offset lies inside the one allocation.
        unsafe { self.base.as_ptr().add(slot * SLOT_SIZE) }
    }
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; nobody else holds the `Arc`.
        unsafe { dealloc(self.base.as_ptr(), Self::LAYOUT) }
    }
}

/// The datagrams of one turn, in fixed slots.
///
/// A batch may be moved from one backend to another, except that io_uring keeps it: the kernel then
/// fills its slots on its own.
pub struct RxBatch {
    memory: Arc<SlotMemory>,
    datagrams: Vec<RxDatagram>,
    /// The kernel owns every slot that is not in `datagrams`.
    lent: bool,
}

impl Default for RxBatch {
    fn default() -> Self {
        RxBatch::new()
    }
}

impl RxBatch {
    /// An empty batch with its memory (1 MiB).
    pub fn new() -> Self {
        RxBatch {
            memory: Arc::new(SlotMemory::new()),
            datagrams: Vec::with_capacity(MAX_RX_BATCH),
            lent: false,
        }
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether no datagram fits any more.
    pub fn is_full(&self) -> bool {
        self.datagrams.len() >= MAX_RX_BATCH
    }

    /// Where the `i`th came from and how long it is. Panics if `i` is not below [`len`](Self::len).
    pub fn datagram(&self, i: usize) -> &RxDatagram {
        &self.datagrams[i]
    }

    /// The bytes of the `i`th datagram.
    pub fn bytes(&self, i: usize) -> &[u8] {
        let (start, len) = self.place(i);
        // SAFETY: the slot is in `datagrams`, so it is initialised, ours and not the kernel's, and
        // shared borrows of the batch only read.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The bytes of the `i`th datagram, to be changed in place.
    pub fn bytes_mut(&mut self, i: usize) -> &mut [u8] {
        let (start, len) = self.place(i);
        // SAFETY: as in `bytes`, and the exclusive borrow of the batch keeps every other away.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    fn place(&self, i: usize) -> (*mut u8, usize) {
        let RxDatagram { offset, len, .. } = self.datagrams[i];
        let (offset, len) = (offset as usize, usize::from(len));
        assert!(offset % SLOT_SIZE + len <= SLOT_SIZE);
        // SAFETY: less than a slot's size beyond a slot's start.
        let start = unsafe { self.memory.slot(offset / SLOT_SIZE).add(offset % SLOT_SIZE) };
        (start, len)
    }

    /// Forgets the datagrams.
    pub(super) fn clear(&mut self) {
        self.datagrams.clear();
    }

    /// Hands all slots to a backend whose kernel side fills them; `None` if another already has
    /// them. From then on only that backend adds datagrams.
    pub(super) fn lend(&mut self) -> Option<Arc<SlotMemory>> {
        if self.lent {
            return None;
        }
        self.lent = true;
        self.datagrams.clear();
        Some(Arc::clone(&self.memory))
    }

    /// Whether this batch's slots are lent to the backend that holds `memory`.
    pub(super) fn is_lent_from(&self, memory: &Arc<SlotMemory>) -> bool {
        self.lent && Arc::ptr_eq(&self.memory, memory)
    }

    /// The memory, for a backend that has the kernel fill slots within one call; `None` when the
    /// slots are lent.
    pub(super) fn fillable(&self) -> Option<&SlotMemory> {
        (!self.lent).then_some(&*self.memory)
    }

    /// Adds a datagram whose bytes lie in `slot` behind [`SLOT_HEADER`].
    ///
    /// # Safety
    ///
    /// Until the next [`clear`](Self::clear) nobody else, the kernel included, touches the slot,
    /// and no other datagram of the batch has it.
    pub(super) unsafe fn push(
        &mut self,
        slot: usize,
        len: usize,
        socket: SocketId,
        source: SocketAddr,
    ) {
        assert!(slot < RX_SLOTS && len <= MAX_DATAGRAM && !self.is_full());
        let offset = (slot * SLOT_SIZE + SLOT_HEADER) as u32;
        self.datagrams.push(RxDatagram { offset, len: len as u16, socket, source });
    }

    /// Adds a copy of a datagram; false if the batch is full, the datagram too long or the slots
    /// lent.
    pub fn push_copy(&mut self, bytes: &[u8], socket: SocketId, source: SocketAddr) -> bool {
        if self.lent || self.is_full() || bytes.len() > MAX_DATAGRAM {
            return false;
        }
        let slot = self.datagrams.len();
        // SAFETY: the slots are not lent and each datagram takes the slot of its own index.
        unsafe { self.push(slot, bytes.len(), socket, source) };
        self.bytes_mut(slot).copy_from_slice(bytes);
        true
    }
}

/// What a turn sends: datagrams one after the other in an arena, joined to trains where they go to
/// the same place.
pub struct TxBatch {
    arena: Vec<u8>,
    used: usize,
    reserved: usize,
    trains: Vec<Train>,
    datagrams: u32,
}

impl Default for TxBatch {
    fn default() -> Self {
        TxBatch::new()
    }
}

impl TxBatch {
    /// An empty batch. Its arena is address space until it is written to.
    pub fn new() -> Self {
        TxBatch {
            arena: vec![0; TX_ARENA_SIZE],
            used: 0,
            reserved: 0,
            trains: Vec::with_capacity(MAX_TRAINS),
            datagrams: 0,
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// The trains, in the order of their commits.
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// The bytes of a train of this batch.
    pub fn bytes(&self, train: &Train) -> &[u8] {
        &self.arena[train.offset as usize..][..train.len as usize]
    }

    /// How many datagrams have been committed.
    pub fn datagrams(&self) -> u32 {
        self.datagrams
    }

    /// How many bytes have been committed.
    pub fn len_bytes(&self) -> usize {
        self.used
    }

    /// Room for one more datagram of at most `max` bytes: the next free bytes, contiguous with the
    /// previous commit. `None` if the arena or the list of trains is full, or no datagram can be
    /// that long.
    pub fn reserve(&mut self, max: usize) -> Option<&mut [u8]> {
        if max > MAX_TRAIN_BYTES || self.trains.len() >= MAX_TRAINS {
            self.reserved = 0;
            return None;
        }
        match self.arena.get_mut(self.used..self.used + max) {
            Some(room) => {
                self.reserved = max;
                Some(room)
            }
            None => {
                self.reserved = 0;
                None
            }
        }
    }

    /// Commits the first `len` bytes of the last reservation as one datagram. It joins the last
    /// train where it can: same way, no longer than the train's segments, no shorter segment before
    /// it, within the limits of a train. A length of zero commits nothing.
    ///
    /// Panics if `len` exceeds the reservation.
    pub fn commit(&mut self, len: usize, destination: SocketAddr, socket: SocketId) {
        assert!(len <= self.reserved, "committed more than was reserved");
        self.reserved = 0;
        if len == 0 {
            return;
        }
        match self.trains.last_mut() {
            Some(train) if joins(train, len, destination, socket) => {
                train.len += len as u32;
                train.segments += 1;
            }
            _ => self.trains.push(Train {
                destination,
                socket,
                offset: self.used as u32,
                len: len as u32,
                segment_size: len as u16,
                segments: 1,
            }),
        }
        self.used += len;
        self.datagrams += 1;
    }

    /// Commits a datagram that is committed already, the `len` bytes at `offset`, once more to
    /// another destination. False where there is no room.
    pub fn repeat(
        &mut self,
        offset: usize,
        len: usize,
        destination: SocketAddr,
        socket: SocketId,
    ) -> bool {
        if offset + len > self.used || self.reserve(len).is_none() {
            return false;
        }
        self.arena.copy_within(offset..offset + len, self.used);
        self.commit(len, destination, socket);
        true
    }

    /// Forgets everything committed.
    pub fn clear(&mut self) {
        self.used = 0;
        self.reserved = 0;
        self.datagrams = 0;
        self.trains.clear();
    }

    /// All committed bytes; the offsets of trains count from their start.
    pub(super) fn committed(&self) -> &[u8] {
        &self.arena[..self.used]
    }
}

/// Whether a datagram of `len` bytes can be the next segment of `train`.
fn joins(train: &Train, len: usize, destination: SocketAddr, socket: SocketId) -> bool {
    let is_closed = train.len != u32::from(train.segments) * u32::from(train.segment_size);
    !is_closed
        && len <= usize::from(train.segment_size)
        && usize::from(train.segments) < MAX_TRAIN_SEGMENTS
        && train.len as usize + len <= MAX_TRAIN_BYTES
        && train.socket == socket
        && train.destination == destination
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1:1000";
    const B: &str = "[2001:db8::1]:1000";

    /// Length, destination and socket of a datagram.
    type Commit = (usize, &'static str, u8);

    /// Length, segment size and segments of a train.
    type Shape = (u32, u16, u16);

    fn commit(tx: &mut TxBatch, len: usize, to: &str, socket: u8) {
        let room = tx.reserve(len).expect("there is room");
        room.fill(len as u8);
        tx.commit(len, to.parse().unwrap(), SocketId(socket));
    }

    fn shape(tx: &TxBatch) -> Vec<Shape> {
        tx.trains().iter().map(|t| (t.len, t.segment_size, t.segments)).collect()
    }

    #[test]
    fn datagrams_join_trains_only_where_gso_can_cut_them_apart_again() {
        let cases: &[(&str, &[Commit], &[Shape])] = &[
            ("equal sizes join", &[(100, A, 0), (100, A, 0), (100, A, 0)], &[(300, 100, 3)]),
            ("a shorter one closes", &[(100, A, 0), (60, A, 0)], &[(160, 100, 2)]),
            (
                "nothing joins a closed train",
                &[(100, A, 0), (60, A, 0), (60, A, 0)],
                &[(160, 100, 2), (60, 60, 1)],
            ),
            ("a longer one starts anew", &[(60, A, 0), (100, A, 0)], &[(60, 60, 1), (100, 100, 1)]),
            ("another address", &[(60, A, 0), (60, B, 0)], &[(60, 60, 1), (60, 60, 1)]),
            ("another socket", &[(60, A, 0), (60, A, 1)], &[(60, 60, 1), (60, 60, 1)]),
        ];
        for (name, commits, expected) in cases {
            let mut tx = TxBatch::new();
            for &(len, to, socket) in *commits {
                commit(&mut tx, len, to, socket);
            }
            assert_eq!(shape(&tx), *expected, "{name}");
            assert_eq!(tx.datagrams() as usize, commits.len(), "{name}");
        }
    }

    #[test]
    fn a_train_has_at_most_64_segments_and_65000_bytes() {
        let mut tx = TxBatch::new();
        for _ in 0..65 {
            commit(&mut tx, 10, A, 0);
        }
        assert_eq!(shape(&tx), [(640, 10, 64), (10, 10, 1)]);

        tx.clear();
        assert!(tx.is_empty());
        for _ in 0..55 {
            commit(&mut tx, 1200, A, 0);
        }
        assert_eq!(shape(&tx), [(54 * 1200, 1200, 54), (1200, 1200, 1)]);
    }

    #[test]
    fn bytes_of_trains_lie_where_they_were_written() {
        let mut tx = TxBatch::new();
        commit(&mut tx, 3, A, 0);
        commit(&mut tx, 2, A, 0);
        commit(&mut tx, 4, B, 0);
        assert_eq!(tx.bytes(&tx.trains()[0]), [3, 3, 3, 2, 2]);
        assert_eq!(tx.bytes(&tx.trains()[1]), [4, 4, 4, 4]);
        assert_eq!(tx.len_bytes(), 9);
    }

    #[test]
    fn a_datagram_of_a_train_goes_to_a_second_destination() {
        let mut tx = TxBatch::new();
        for len in [4, 4, 3] {
            commit(&mut tx, len, A, 0);
        }
        let datagrams: Vec<_> = tx.trains()[0].datagrams().collect();
        assert_eq!(datagrams, [(0, 4), (4, 4), (8, 3)]);
        let (offset, len) = datagrams[2];
        assert!(tx.repeat(offset, len, B.parse().unwrap(), SocketId(0)));
        assert_eq!(tx.trains()[1].destination, B.parse().unwrap());
        assert_eq!(tx.bytes(&tx.trains()[1]), [3, 3, 3]);
        assert!(!tx.repeat(13, 2, B.parse().unwrap(), SocketId(0)), "nothing is committed there");
        assert_eq!(tx.datagrams(), 4);
    }

    #[test]
    fn a_reservation_may_be_used_in_part_or_not_at_all() {
        let mut tx = TxBatch::new();
        tx.reserve(1500).unwrap()[..2].copy_from_slice(&[7, 8]);
        tx.commit(2, A.parse().unwrap(), SocketId(0));
        tx.reserve(1500).unwrap().fill(1);
        tx.reserve(1500).unwrap()[..2].copy_from_slice(&[9, 10]);
        tx.commit(2, A.parse().unwrap(), SocketId(0));
        tx.reserve(10).unwrap();
        tx.commit(0, A.parse().unwrap(), SocketId(0));
        assert_eq!(tx.bytes(&tx.trains()[0]), [7, 8, 9, 10]);
        assert_eq!(tx.datagrams(), 2);
    }

    #[test]
    #[should_panic(expected = "committed more than was reserved")]
    fn a_commit_beyond_its_reservation_is_our_bug() {
        let mut tx = TxBatch::new();
        tx.reserve(2).unwrap();
        tx.commit(3, A.parse().unwrap(), SocketId(0));
    }

    #[test]
    #[cfg(not(miri))] // fills 16 MiB: minutes there
    fn a_full_arena_or_train_list_refuses() {
        let mut tx = TxBatch::new();
        assert!(tx.reserve(MAX_TRAIN_BYTES + 1).is_none());
        let mut committed = 0;
        while tx.reserve(60_000).is_some() {
            tx.commit(60_000, A.parse().unwrap(), SocketId(0));
            committed += 1;
        }
        assert_eq!(committed, TX_ARENA_SIZE / 60_000);

        tx.clear();
        for i in 0..MAX_TRAINS {
            commit(&mut tx, 1 + i % 2, A, (i % 2) as u8);
        }
        assert!(tx.reserve(1).is_none());
        tx.clear();
        assert!(tx.reserve(1).is_some());
    }

    #[test]
    fn received_datagrams_are_read_and_changed_in_place() {
        let mut rx = RxBatch::new();
        assert!(rx.push_copy(b"first", SocketId(0), A.parse().unwrap()));
        assert!(rx.push_copy(b"second", SocketId(1), B.parse().unwrap()));
        rx.bytes_mut(0)[0] = b'F';
        assert_eq!((rx.bytes(0), rx.bytes(1)), (&b"First"[..], &b"second"[..]));
        assert_eq!(rx.datagram(1).socket, SocketId(1));
        assert_eq!(rx.datagram(1).source, B.parse().unwrap());
        rx.clear();
        assert!(rx.is_empty());
    }

    #[test]
    fn a_receive_batch_is_bounded() {
        let mut rx = RxBatch::new();
        let from = A.parse().unwrap();
        assert!(!rx.push_copy(&[0; MAX_DATAGRAM + 1], SocketId(0), from));
        assert!(rx.push_copy(&[1; MAX_DATAGRAM], SocketId(0), from));
        for _ in 1..MAX_RX_BATCH {
            assert!(rx.push_copy(b"x", SocketId(0), from));
        }
        assert!(!rx.push_copy(b"x", SocketId(0), from));
        assert_eq!(rx.bytes(0), [1; MAX_DATAGRAM]);
    }

    #[test]
    fn lent_slots_belong_to_one_backend() {
        let mut rx = RxBatch::new();
        let memory = rx.lend().expect("nobody has them yet");
        assert!(rx.lend().is_none());
        assert!(rx.fillable().is_none());
        assert!(!rx.push_copy(b"x", SocketId(0), A.parse().unwrap()));
        assert!(rx.is_lent_from(&memory));
        assert!(!RxBatch::new().is_lent_from(&memory));
        drop(rx);
        // SAFETY: the memory outlives the batch for as long as the backend holds it.
        unsafe { memory.slot(RX_SLOTS - 1).write(1) };
    }
}
