//! What outlives a core: the numbers it may have used, and where its clients and their streams
//! stand. Control makes one of each per transport, producer and consumer and keeps it with its
//! records ([`crate::records`]); a new core is given the same ones and goes on from there.
//!
//! All of it is atomics without a lock on the forwarding path. What is written per packet is what a
//! core writes anyway, once per packet received; what counts packets sent is written ahead, once
//! per [`RESERVED_PACKETS`].
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use opencall_io::SocketId;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::srtp::checkpoint::{Generation, Reserve, SrtpCheckpoint};
use opencall_wire::time::Time;

use crate::ice::agent::Tuple;
use crate::ingress::source::SourceId;
use crate::message::TransportId;

/// Numbers reserved at a time: the gap that a receiver sees after a core's death, at most; fewer
/// would cost an exchange of atomics more often. Picture ids of seven bits and TL0PICIDX, of which
/// half the range is soon used up, jump by no more than has arrived meanwhile.
pub const RESERVED_PACKETS: u64 = 32;

/// The same for transport-wide sequence numbers, beyond what a turn is about to send.
pub const RESERVED_TRANSPORT_SEQUENCES: u16 = 64;

/// Encodings of a producer at most: consumers keep them as bits of a byte.
pub const MAX_ENCODINGS: usize = 8;

/// A point on two clocks, in one word: RTP timestamp, and milliseconds since the process's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// RTP timestamp.
    pub timestamp: u32,
    /// Milliseconds, wrapping.
    pub millis: u32,
}

impl Instant {
    /// When `timestamp` was sent or received.
    pub fn new(now: Time, timestamp: u32) -> Self {
        Instant { timestamp, millis: now.as_millis() as u32 }
    }

    /// The time that it stands for, at `now`, at most 24 days later. A core that has stalled may
    /// read what was noted after its `now`: that is not later for it.
    pub fn time(self, now: Time) -> Time {
        let age_ms = (now.as_millis() as u32).wrapping_sub(self.millis) as i32;
        now - std::time::Duration::from_millis(age_ms.max(0) as u64)
    }

    fn word(self) -> u64 {
        u64::from(self.millis) << 32 | u64::from(self.timestamp)
    }

    fn of_word(word: u64) -> Self {
        Instant { timestamp: word as u32, millis: (word >> 32) as u32 }
    }
}

/// A checkpoint as one core has it, of those that come one after the other. One that stalled may
/// wake up with another in its place: what counts then is what the later one leaves.
#[derive(Debug)]
pub struct Lease<T> {
    checkpoint: Arc<T>,
    generation: Generation,
}

impl<T> Lease<T> {
    /// Which of the cores has it.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Makes it the next core's.
    pub fn renew(&mut self) {
        self.generation = self.generation.next();
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.checkpoint
    }
}

impl<T> Clone for Lease<T> {
    fn clone(&self) -> Self {
        Lease { checkpoint: Arc::clone(&self.checkpoint), generation: self.generation }
    }
}

impl<T: Default> Default for Lease<T> {
    fn default() -> Self {
        Lease { checkpoint: Arc::default(), generation: Generation::default() }
    }
}

/// Of a transport.
#[derive(Debug, Default)]
pub struct TransportCheckpoint {
    /// SRTP indexes.
    pub srtp: Arc<SrtpCheckpoint>,
    /// Indexes of the stream of padding.
    pub padding: Reserve,
    /// The SSRC under which our RTCP speaks; 0 before it is drawn.
    local_ssrc: AtomicU64,
    /// Transport-wide sequence numbers below its lower 16 bits may have been used; which core says
    /// so is above them.
    transport_sequence: AtomicU64,
    /// What its path was last estimated to carry, bits per second; 0 before.
    estimate_bps: AtomicU64,
    /// Where its client is, and which core said so last. Written when ICE moves.
    place: Mutex<(Generation, Place)>,
}

/// Where a client is, as its ICE agent knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Where media goes: the address is proven.
    pub destination: Option<Tuple>,
    /// What the end of the DTLS handshake will prove.
    pub answered: Option<Tuple>,
    /// Where it says that it is, which nothing has proven.
    pub claimant: Option<Tuple>,
    /// The user fragment of ours that its checks carried last.
    pub ufrag: Option<String>,
}

impl TransportCheckpoint {
    /// The SSRC of our RTCP: the one drawn before, or `drawn`.
    pub fn local_ssrc(&self, drawn: u32) -> u32 {
        let drawn = u64::from(drawn) | 1 << 32;
        let known = self.local_ssrc.compare_exchange(0, drawn, Ordering::AcqRel, Ordering::Acquire);
        known.err().unwrap_or(drawn) as u32
    }

    /// The next transport-wide sequence number of a new core.
    pub fn next_transport_sequence(&self) -> u16 {
        self.transport_sequence.load(Ordering::Acquire) as u16
    }

    /// What its path was last estimated to carry, bits per second.
    pub fn estimate_bps(&self) -> Option<u64> {
        Some(self.estimate_bps.load(Ordering::Relaxed)).filter(|&bps| bps > 0)
    }

    /// Notes what its path carries: a core that dies changes nothing about that.
    pub fn note_estimate(&self, bps: u64) {
        self.estimate_bps.store(bps, Ordering::Relaxed);
    }

    /// Where its client was last; nothing if a core stalled while it wrote that.
    pub fn place(&self) -> Place {
        self.with_place(|(_, place)| place.clone()).unwrap_or_default()
    }

    fn with_place<R>(&self, with: impl FnOnce(&mut (Generation, Place)) -> R) -> Option<R> {
        match self.place.try_lock() {
            Ok(mut place) => Some(with(&mut place)),
            Err(TryLockError::Poisoned(place)) => Some(with(&mut place.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Lease<TransportCheckpoint> {
    /// Says that transport-wide sequence numbers below `end` may be used, unless a later core has.
    pub fn reserve_transport_sequences(&self, end: u16) {
        let generation = self.generation;
        let reserved = u64::from(generation.number()) << 16 | u64::from(end);
        let is_ours = |word: u64| !Generation::of_number((word >> 16) as u16).is_after(generation);
        let reserve = |word| is_ours(word).then_some(reserved);
        // Refused by a later core's word, which is what counts.
        let _ = self.transport_sequence.fetch_update(Ordering::AcqRel, Ordering::Acquire, reserve);
    }

    /// Notes where its client is, unless that is a later core's to say.
    pub fn note_place(&self, place: Place) {
        let mut noted = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.0.is_after(self.generation) {
            *noted = (self.generation, place);
        }
    }

    /// Where its client was last, which is this core's to say from now on.
    pub fn take_place(&self) -> Place {
        let taken = self.with_place(|(generation, place)| {
            *generation = self.generation;
            place.clone()
        });
        taken.unwrap_or_default()
    }
}

/// Of a producer; written by its home core.
#[derive(Debug, Default)]
pub struct ProducerCheckpoint {
    encodings: [EncodingCheckpoint; MAX_ENCODINGS],
}

/// Of one encoding, in a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EncodingCheckpoint {
    /// SSRC of its present source and which source that is; 0 before the first packet.
    source: AtomicU64,
    /// The first number of the cycle in which the source's numbers began.
    origin: AtomicU64,
    /// Its highest number.
    highest: AtomicU64,
    /// Its newest packet by number.
    newest: AtomicU64,
    /// One more than the SSRC of its retransmissions.
    rtx_ssrc: AtomicU64,
    /// What the sources before it had come to, the last one first; 0 for none. Consumers that have
    /// sent nothing of a later one go on from there.
    left: [AtomicU64; 3],
}

/// The newest packet of a source that an encoding has left, in one word: which source, its RTP
/// timestamp, and when that came, in steps that last for 17 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    id: SourceId,
    newest: Instant,
}

impl Left {
    /// As a shift of milliseconds.
    const STEP: u32 = 4;

    fn word(self) -> u64 {
        let steps = u64::from((self.newest.millis >> Self::STEP) as u16);
        u64::from(self.id.number()) << 48 | steps << 32 | u64::from(self.newest.timestamp)
    }

    fn of_word(now: Time, word: u64) -> Option<Self> {
        let id = SourceId::of_number((word >> 48) as u16)?;
        let now_steps = (now.as_millis() as u32) >> Self::STEP;
        let ago = u32::from((now_steps as u16).wrapping_sub((word >> 32) as u16));
        let millis = now_steps.wrapping_sub(ago) << Self::STEP;
        Some(Left { id, newest: Instant { timestamp: word as u32, millis } })
    }
}

/// A source, as a new core goes on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCheckpoint {
    /// Its SSRC.
    pub ssrc: u32,
    /// Which source of its encoding it is.
    pub id: SourceId,
    /// The first number of the cycle in which its numbers began.
    pub origin: u64,
    /// Its highest number.
    pub highest: ExtendedSeq,
    /// Its newest packet by number.
    pub newest: Instant,
}

impl ProducerCheckpoint {
    /// Of one of its encodings.
    #[inline]
    pub fn encoding(&self, index: u8) -> Option<&EncodingCheckpoint> {
        self.encodings.get(usize::from(index))
    }
}

impl EncodingCheckpoint {
    /// Notes a packet that has the highest number so far.
    #[inline]
    pub fn note(&self, source: SourceCheckpoint) {
        let word = u64::from(source.ssrc) << 32 | u64::from(source.id.number());
        if self.source.load(Ordering::Relaxed) != word {
            self.leave_source();
            self.source.store(word, Ordering::Relaxed);
        }
        self.origin.store(source.origin, Ordering::Relaxed);
        self.highest.store(source.highest.0, Ordering::Relaxed);
        self.newest.store(source.newest.word(), Ordering::Release);
    }

    /// Notes what the present source has come to, before another one takes its place.
    #[cold]
    fn leave_source(&self) {
        let Some(SourceCheckpoint { id, newest, .. }) = self.source() else { return };
        let mut word = Left { id, newest }.word();
        for left in &self.left {
            word = left.swap(word, Ordering::Relaxed);
        }
    }

    /// The newest packet by number of one of its latest sources.
    pub fn newest_of(&self, now: Time, id: SourceId) -> Option<Instant> {
        if let Some(source) = self.source().filter(|source| source.id == id) {
            return Some(source.newest);
        }
        let left = self.left.iter().map(|left| Left::of_word(now, left.load(Ordering::Relaxed)));
        left.flatten().find_map(|left| (left.id == id).then_some(left.newest))
    }

    /// Notes the SSRC of its retransmissions.
    #[inline]
    pub fn note_rtx(&self, ssrc: u32) {
        self.rtx_ssrc.store(u64::from(ssrc) + 1, Ordering::Relaxed);
    }

    /// The source that a new core goes on with; `None` if nothing of it came.
    pub fn source(&self) -> Option<SourceCheckpoint> {
        let newest = Instant::of_word(self.newest.load(Ordering::Acquire));
        let word = self.source.load(Ordering::Relaxed);
        Some(SourceCheckpoint {
            ssrc: (word >> 32) as u32,
            id: SourceId::of_number(word as u16)?,
            origin: self.origin.load(Ordering::Relaxed),
            highest: ExtendedSeq(self.highest.load(Ordering::Relaxed)),
            newest,
        })
    }

    /// The SSRC of its retransmissions, if one was seen.
    pub fn rtx_ssrc(&self) -> Option<u32> {
        Some(self.rtx_ssrc.load(Ordering::Relaxed).checked_sub(1)? as u32)
    }
}

/// Of a consumer.
#[derive(Debug, Default)]
pub struct ConsumerCheckpoint {
    /// Sequence numbers of its media, which are its SRTP indexes.
    pub media: Reserve,
    /// Those of its retransmissions.
    pub rtx: Reserve,
    /// Which source its timestamps follow, and by how much they differ; 0 before the first packet.
    clock: AtomicU64,
    /// A packet sent, some packets ago.
    sent: AtomicU64,
    /// Its picture ids and TL0PICIDX, some packets ago.
    pictures: AtomicU64,
    /// With which packet that was; 0 before the first.
    packet: AtomicU64,
}

/// How a consumer's timestamps follow its source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockCheckpoint {
    /// Index of the encoding.
    pub encoding: u8,
    /// Which source of it.
    pub source: SourceId,
    /// What is added to its timestamps.
    pub offset: u32,
    /// A packet sent, some packets ago, as it went out.
    pub sent: Instant,
}

/// Picture ids and TL0PICIDX, where a stream has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PicturesCheckpoint {
    /// The next picture id.
    pub next_picture: Option<u16>,
    /// The last TL0PICIDX.
    pub last_tl0: Option<u8>,
}

/// A packet of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketCheckpoint {
    /// Index of the encoding.
    pub encoding: u8,
    /// Which source of it.
    pub source: SourceId,
    /// Its number, of which the lower 40 bits count.
    pub sequence: ExtendedSeq,
}

impl PacketCheckpoint {
    const SEQUENCE_MASK: u64 = (1 << 40) - 1;

    /// Numbers of its source that have come after it; `None` where that has another source now.
    pub fn arrived_since(self, producer: &ProducerCheckpoint) -> Option<u64> {
        let arrived = producer.encoding(self.encoding)?.source()?;
        let since = arrived.highest.0.wrapping_sub(self.sequence.0) & Self::SEQUENCE_MASK;
        (arrived.id == self.source).then_some(since)
    }
}

impl ConsumerCheckpoint {
    /// Notes how its timestamps follow its source's.
    pub fn note_clock(&self, clock: ClockCheckpoint) {
        self.sent.store(clock.sent.word(), Ordering::Relaxed);
        let of = u64::from(clock.encoding) << 48 | u64::from(clock.source.number()) << 32;
        self.clock.store(of | u64::from(clock.offset), Ordering::Release);
    }

    /// How its timestamps followed its source's; `None` if nothing was sent.
    pub fn clock(&self) -> Option<ClockCheckpoint> {
        let word = self.clock.load(Ordering::Acquire);
        Some(ClockCheckpoint {
            encoding: (word >> 48) as u8,
            source: SourceId::of_number((word >> 32) as u16)?,
            offset: word as u32,
            sent: Instant::of_word(self.sent.load(Ordering::Relaxed)),
        })
    }

    /// Notes what picture ids have come to with a packet, which is the newest that is sent.
    pub fn note_pictures(&self, pictures: PicturesCheckpoint, packet: PacketCheckpoint) {
        let field = |value: Option<u64>| value.map_or(0, |value| value | 1 << 16);
        let picture = field(pictures.next_picture.map(Into::into));
        let tl0 = field(pictures.last_tl0.map(Into::into));
        self.pictures.store(picture << 32 | tl0, Ordering::Relaxed);
        // Comes second: with an older packet more seem to have been sent since, and not fewer.
        let of = u64::from(packet.encoding) << 56 | u64::from(packet.source.number()) << 40;
        let sequence = packet.sequence.0 & PacketCheckpoint::SEQUENCE_MASK;
        self.packet.store(of | sequence, Ordering::Release);
    }

    /// The packet with which picture ids were noted.
    pub fn packet(&self) -> Option<PacketCheckpoint> {
        let word = self.packet.load(Ordering::Acquire);
        Some(PacketCheckpoint {
            encoding: (word >> 56) as u8,
            source: SourceId::of_number((word >> 40) as u16)?,
            sequence: ExtendedSeq(word & PacketCheckpoint::SEQUENCE_MASK),
        })
    }

    /// What picture ids had come to with that packet.
    pub fn pictures(&self) -> PicturesCheckpoint {
        let word = self.pictures.load(Ordering::Relaxed);
        let field = |word: u32| (word >> 16 != 0).then_some(word as u16);
        PicturesCheckpoint {
            next_picture: field((word >> 32) as u32),
            last_tl0: field(word as u32).map(|tl0| tl0 as u8),
        }
    }
}

/// A datagram in a core's hand when it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Where it came from.
    pub source: SocketAddr,
    /// Our socket that it reached.
    pub socket: SocketId,
    /// Whose address that was.
    pub transport: Option<TransportId>,
    /// How long it was.
    pub len: usize,
    /// Its first bytes; of media they are headers, opened.
    pub head: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_written_is_read_as_it_was() {
        let now = Time::from_millis(5_000_000_000);
        let sent = Instant::new(now, 0xffff_0001);
        assert_eq!(sent.time(now + std::time::Duration::from_millis(7)), now);
        let stalled = now - std::time::Duration::from_millis(7);
        assert_eq!(sent.time(stalled), stalled);
        let consumer = ConsumerCheckpoint::default();
        assert_eq!((consumer.clock(), consumer.pictures()), (None, PicturesCheckpoint::default()));
        let source = SourceId::FIRST.next();
        let clock = ClockCheckpoint { encoding: 2, source, offset: 0x8000_0007, sent };
        consumer.note_clock(clock);
        assert_eq!(consumer.clock(), Some(clock));
        let packet =
            PacketCheckpoint { encoding: 7, source, sequence: ExtendedSeq(0xff_ffff_fffe) };
        for (next_picture, last_tl0) in [(Some(0), None), (None, Some(0)), (Some(0x7fff), Some(9))]
        {
            let pictures = PicturesCheckpoint { next_picture, last_tl0 };
            consumer.note_pictures(pictures, packet);
            assert_eq!((consumer.pictures(), consumer.packet()), (pictures, Some(packet)));
        }
        let producer = ProducerCheckpoint::default();
        assert!(producer.encoding(8).is_none());
        let encoding = producer.encoding(7).unwrap();
        assert_eq!((encoding.source(), encoding.rtx_ssrc()), (None, None));
        let highest = ExtendedSeq(0x1_0007);
        let source = SourceCheckpoint { ssrc: 0, id: source, origin: 9, highest, newest: sent };
        encoding.note(source);
        assert_eq!(packet.arrived_since(&producer), Some(0x1_0009));
        let another = PacketCheckpoint { source: SourceId::FIRST, ..packet };
        assert_eq!(another.arrived_since(&producer), None);
        encoding.note_rtx(u32::MAX);
        assert_eq!((encoding.source(), encoding.rtx_ssrc()), (Some(source), Some(u32::MAX)));
    }

    #[test]
    fn what_the_latest_sources_have_come_to_is_known() {
        let encoding = EncodingCheckpoint::default();
        let start = Time::from_millis(u64::from(u32::MAX) - 100);
        let mut id = SourceId::FIRST;
        let mut noted = Vec::new();
        for index in 0..5 {
            // The second packet of each is what it has come to.
            for at in [0, 20] {
                let now = start + std::time::Duration::from_millis(100 * index + at);
                let newest = Instant::new(now, 960 * (5 * index + at) as u32);
                let highest = ExtendedSeq(at);
                encoding.note(SourceCheckpoint { ssrc: 7, id, origin: 0, highest, newest });
                noted.retain(|(other, _, _)| *other != id);
                noted.push((id, newest, now));
            }
            id = id.next();
        }
        let now = start + std::time::Duration::from_secs(1000);
        for (index, (id, newest, at)) in noted.into_iter().enumerate() {
            let known = encoding.newest_of(now, id);
            assert_eq!(known.map(|known| known.timestamp), (index > 0).then_some(newest.timestamp));
            let is_when = |known: Instant| at.since(known.time(now)).as_millis() < 16;
            assert!(known.is_none_or(is_when), "{known:?} of {at:?}");
        }
        assert_eq!(encoding.newest_of(now, id), None);
    }

    #[test]
    fn where_a_client_is_says_the_latest_core() {
        let place = |port: u16| Place {
            destination: Some((SocketAddr::from(([10, 0, 0, 1], port)), SocketId(0))),
            answered: None,
            claimant: None,
            ufrag: None,
        };
        let first = Lease::<TransportCheckpoint>::default();
        first.note_place(place(1));
        let mut second = first.clone();
        second.renew();
        assert_eq!(second.take_place(), place(1));
        first.note_place(place(2));
        assert_eq!(second.place(), place(1), "the first one has woken up");
        second.note_place(place(3));
        assert_eq!(first.place(), place(3));
    }

    #[test]
    fn which_transport_wide_numbers_were_used_says_the_latest_core() {
        let first = Lease::<TransportCheckpoint>::default();
        first.reserve_transport_sequences(0xffff);
        let mut second = first.clone();
        second.renew();
        assert_eq!(second.next_transport_sequence(), 0xffff);
        second.reserve_transport_sequences(63);
        first.reserve_transport_sequences(40);
        assert_eq!(second.next_transport_sequence(), 63, "the first one has woken up");
    }

    #[test]
    fn an_ssrc_is_drawn_once() {
        let checkpoint = TransportCheckpoint::default();
        assert_eq!([checkpoint.local_ssrc(0), checkpoint.local_ssrc(7)], [0, 0]);
    }
}
