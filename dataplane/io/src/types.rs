//! The vocabulary of the I/O seam: sizes, datagrams and trains.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

/// Size of one receive slot in bytes, and so the largest datagram taken: above any MTU that matters
/// to WebRTC (1200–1500), below two pages with room for the kernel's `recvmsg` header.
pub const SLOT_SIZE: usize = 2048;

/// Datagrams taken in one turn at most. More would lengthen the time before the first of them is
/// forwarded and before timers run; fewer would shorten GSO trains under load.
pub const MAX_RX_BATCH: usize = 256;

/// Bytes of the send arena. The scatter phase pauses for a flush long before it is full, after
/// [`TX_FLUSH_BYTES`] and between two transports; the rest is room for what one transport gets in a
/// turn (at most a receive batch and what other cores sent), for answers and for reports. What
/// finds no room all the same is dropped as `arena_full`.
pub const TX_ARENA_SIZE: usize = 4 << 20;

/// Bytes after which the scatter phase asks for a flush: what was sealed should still be in the
/// core's second-level cache when the kernel copies it, and the first destination should not wait
/// for the last to be sealed.
pub const TX_FLUSH_BYTES: usize = 256 << 10;

/// Segments of one GSO train at most: `UDP_MAX_SEGMENTS` of Linux before 6.9.
pub const MAX_TRAIN_SEGMENTS: usize = 64;

/// Bytes of one GSO train at most: what fits one IPv6 UDP datagram's 16-bit length.
pub const MAX_TRAIN_BYTES: usize = 65_000;

/// Which of a core's sockets (one per local listen address).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId(pub u8);

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct RxDatagram {
    /// Where it lies in the batch's memory.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u16,
    /// The socket it came in on.
    pub socket: SocketId,
    /// Who sent it. IPv4 senders are always `SocketAddr::V4`.
    pub source: SocketAddr,
}

/// One GSO train, or a single datagram: contiguous segments of equal size to one destination; only
/// the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Train {
    /// Where it goes.
    pub destination: SocketAddr,
    /// The socket it leaves by.
    pub socket: SocketId,
    /// Where it lies in the arena.
    pub offset: u32,
    /// Its length in bytes, all segments.
    pub len: u32,
    /// The size of a segment; `len` itself for a single datagram.
    pub segment_size: u16,
    /// How many segments.
    pub segments: u16,
}

impl Train {
    /// Where it ends in the arena.
    pub fn end(&self) -> usize {
        self.offset as usize + self.len as usize
    }

    /// Its segments: where each lies in the arena, and how long it is.
    pub fn datagrams(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (end, size) = (self.end(), usize::from(self.segment_size).max(1));
        (self.offset as usize..end).step_by(size).map(move |at| (at, size.min(end - at)))
    }
}
