//! What outlives a core: the numbers it may have used, and where its clients and their streams
//! stand. Control makes one of each per transport, producer and consumer and keeps it with its
//! records ([`crate::records`]); a new core is given the same ones and goes on from there.
//!
//! All of it is words without a lock on the forwarding path, on the heap or in memory that outlives
//! the process ([`crate::calls`]). What is written per packet is what a
//! core writes anyway, once per packet received; what counts packets sent is written ahead, once
//! per [`RESERVED_PACKETS`].
#![forbid(unsafe_code)]

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use opencall_io::SocketId;
use opencall_io::shared::Slot;
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
#[derive(Debug, Clone, Default)]
pub struct Lease<T> {
    checkpoint: T,
    generation: Generation,
}

/// A checkpoint that several cores have, one after the other.
pub trait Leased {
    /// The word that says which of them has it: the next process goes on from there.
    fn generation(&self) -> &AtomicU64;
}

impl<T: Leased> Lease<T> {
    /// As the words of `checkpoint` say.
    pub fn of(checkpoint: T) -> Self {
        let generation = checkpoint.generation().load(Ordering::Acquire);
        Lease { checkpoint, generation: Generation::of_number(generation as u16) }
    }

    /// Which of the cores has it.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Makes it the next core's.
    pub fn renew(&mut self) {
        self.generation = self.generation.next();
        let generation = u64::from(self.generation.number());
        self.checkpoint.generation().store(generation, Ordering::Release);
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.checkpoint
    }
}

/// Words of a [`TransportCheckpoint`].
pub const TRANSPORT_WORDS: usize = 48;

/// Which of them are what.
mod transport_word {
    /// Which core has it.
    pub const GENERATION: usize = 0;
    /// Indexes of the stream of padding.
    pub const PADDING: usize = 1;
    /// The SSRC under which our RTCP speaks; 0 before it is drawn.
    pub const LOCAL_SSRC: usize = 2;
    /// Transport-wide sequence numbers below its lower 16 bits may have been used; which core says
    /// so is above them.
    pub const SEQUENCE: usize = 3;
    /// What its path was last estimated to carry, bits per second; 0 before.
    pub const ESTIMATE: usize = 4;
    /// Which of the two places below was written last, 1 or 2; 0 before.
    pub const PLACE: usize = 5;
    /// The places.
    pub const PLACES: usize = 8;
}

/// Of a transport.
#[derive(Debug, Clone, Default)]
pub struct TransportCheckpoint {
    /// SRTP indexes.
    pub srtp: Arc<SrtpCheckpoint>,
    words: Slot<TRANSPORT_WORDS>,
    /// Where its client is, and which core said so last. Written when ICE moves; the same is in the
    /// words, for the next process.
    place: Arc<Mutex<(Generation, Place)>>,
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

impl Leased for TransportCheckpoint {
    fn generation(&self) -> &AtomicU64 {
        &self.words[transport_word::GENERATION]
    }
}

impl TransportCheckpoint {
    pub(crate) fn words(&self) -> &[AtomicU64; TRANSPORT_WORDS] {
        &self.words
    }

    /// In memory that outlives the process: goes on with what these words say.
    pub fn in_memory(words: Slot<TRANSPORT_WORDS>, srtp: SrtpCheckpoint) -> Self {
        let place = match words[transport_word::PLACE].load(Ordering::Acquire) {
            copy @ 1..=2 => read_place(place_words(&words, copy)).unwrap_or_default(),
            _ => Default::default(),
        };
        TransportCheckpoint { srtp: Arc::new(srtp), words, place: Arc::new(Mutex::new(place)) }
    }

    /// Indexes of the stream of padding.
    pub fn padding(&self) -> Reserve<'_> {
        Reserve(&self.words[transport_word::PADDING])
    }

    /// The SSRC of our RTCP: the one drawn before, or `drawn`.
    pub fn local_ssrc(&self, drawn: u32) -> u32 {
        let drawn = u64::from(drawn) | 1 << 32;
        let word = &self.words[transport_word::LOCAL_SSRC];
        let known = word.compare_exchange(0, drawn, Ordering::AcqRel, Ordering::Acquire);
        known.err().unwrap_or(drawn) as u32
    }

    /// The next transport-wide sequence number of a new core.
    pub fn next_transport_sequence(&self) -> u16 {
        self.words[transport_word::SEQUENCE].load(Ordering::Acquire) as u16
    }

    /// What its path was last estimated to carry, bits per second.
    pub fn estimate_bps(&self) -> Option<u64> {
        let estimate = self.words[transport_word::ESTIMATE].load(Ordering::Relaxed);
        Some(estimate).filter(|&bps| bps > 0)
    }

    /// Notes what its path carries: a core that dies changes nothing about that.
    pub fn note_estimate(&self, bps: u64) {
        self.words[transport_word::ESTIMATE].store(bps, Ordering::Relaxed);
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

    /// Leaves a place in the words: in the copy that is not read, which then becomes the one that
    /// is. Wherever the process is killed, there is one that is whole.
    fn leave_place(&self, generation: Generation, place: &Place) {
        let chosen = &self.words[transport_word::PLACE];
        let copy = if chosen.load(Ordering::Relaxed) == 1 { 2 } else { 1 };
        write_place(place_words(&self.words, copy), generation, place);
        chosen.store(copy, Ordering::Release);
    }
}

impl Lease<TransportCheckpoint> {
    /// Says that transport-wide sequence numbers below `end` may be used, unless a later core has.
    pub fn reserve_transport_sequences(&self, end: u16) {
        let generation = self.generation;
        let reserved = u64::from(generation.number()) << 16 | u64::from(end);
        let is_ours = |word: u64| !Generation::of_number((word >> 16) as u16).is_after(generation);
        let reserve = |word| is_ours(word).then_some(reserved);
        let word = &self.words[transport_word::SEQUENCE];
        // Refused by a later core's word, which is what counts.
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, reserve);
    }

    /// Notes where its client is, unless that is a later core's to say.
    pub fn note_place(&self, place: Place) {
        let mut noted = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.0.is_after(self.generation) {
            self.leave_place(self.generation, &place);
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

/// Words of a place: what there is of it and who said so, three addresses, a user fragment.
const PLACE_WORDS: usize = 16;

/// Words of an address: its 16 bytes; which family, socket, scope and port.
const TUPLE_WORDS: usize = 3;

/// Bytes of a user fragment at most; ours have 12.
const MAX_UFRAG: usize = 32;

fn place_words(words: &[AtomicU64; TRANSPORT_WORDS], copy: u64) -> &[AtomicU64] {
    let begin = transport_word::PLACES + (copy as usize - 1) * PLACE_WORDS;
    words.get(begin..begin + PLACE_WORDS).unwrap_or(&[])
}

fn write_place(words: &[AtomicU64], generation: Generation, place: &Place) {
    let [head, rest @ ..] = words else { return };
    let ufrag = place.ufrag.as_deref().map(str::as_bytes).filter(|of| of.len() <= MAX_UFRAG);
    let length = ufrag.map_or(0, |of| of.len() as u64 + 1);
    head.store(u64::from(generation.number()) << 8 | length, Ordering::Relaxed);
    let tuples = [place.destination, place.answered, place.claimant];
    for (words, tuple) in rest.chunks(TUPLE_WORDS).zip(tuples) {
        let encoded = tuple.map_or([0; TUPLE_WORDS], tuple_words);
        words.iter().zip(encoded).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }
    let rest = rest.get(3 * TUPLE_WORDS..).unwrap_or(&[]);
    for (word, chunk) in rest.iter().zip(ufrag.unwrap_or_default().chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

fn read_place(words: &[AtomicU64]) -> Option<(Generation, Place)> {
    let [head, rest @ ..] = words else { return None };
    let head = head.load(Ordering::Relaxed);
    let mut tuples = rest.chunks_exact(TUPLE_WORDS).map(|words| {
        let [high, low, kind] = words else { return None };
        tuple_of([high, low, kind].map(|word| word.load(Ordering::Relaxed)))
    });
    let mut next = || tuples.next().flatten();
    let (destination, answered, claimant) = (next(), next(), next());
    let bytes = rest.get(3 * TUPLE_WORDS..)?;
    let bytes = bytes.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
    let length = (head & 0xff).checked_sub(1).map(|length| length as usize);
    let ufrag = length.and_then(|length| String::from_utf8(bytes.take(length).collect()).ok());
    let place = Place { destination, answered, claimant, ufrag };
    Some((Generation::of_number((head >> 8) as u16), place))
}

fn tuple_words((address, SocketId(socket)): Tuple) -> [u64; TUPLE_WORDS] {
    let (family, bytes, scope) = match address {
        SocketAddr::V4(v4) => (4, v4.ip().to_ipv6_mapped().to_bits(), 0),
        SocketAddr::V6(v6) => (6, v6.ip().to_bits(), v6.scope_id()),
    };
    let kind = u64::from(scope) << 32 | u64::from(address.port()) << 16 | u64::from(socket) << 8;
    [(bytes >> 64) as u64, bytes as u64, kind | family]
}

fn tuple_of([high, low, kind]: [u64; TUPLE_WORDS]) -> Option<Tuple> {
    let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
    let port = (kind >> 16) as u16;
    let address = match kind as u8 {
        4 => SocketAddr::from((ip.to_ipv4_mapped()?, port)),
        6 => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, (kind >> 32) as u32)),
        _ => return None,
    };
    Some((address, SocketId((kind >> 8) as u8)))
}

/// Words of a [`ProducerCheckpoint`]: a cache line for each encoding.
pub const PRODUCER_WORDS: usize = MAX_ENCODINGS * ENCODING_WORDS;

const ENCODING_WORDS: usize = 8;

/// Of a producer; written by its home core, and shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct ProducerCheckpoint {
    words: Slot<PRODUCER_WORDS>,
}

/// Of one encoding.
#[derive(Debug, Clone, Copy)]
pub struct EncodingCheckpoint<'a>(&'a [AtomicU64; ENCODING_WORDS]);

/// Which of its words are what.
mod encoding_word {
    /// SSRC of its present source and which source that is; 0 before the first packet.
    pub const SOURCE: usize = 0;
    /// The first number of the cycle in which the source's numbers began.
    pub const ORIGIN: usize = 1;
    /// Its highest number.
    pub const HIGHEST: usize = 2;
    /// Its newest packet by number.
    pub const NEWEST: usize = 3;
    /// One more than the SSRC of its retransmissions.
    pub const RTX_SSRC: usize = 4;
    /// What the sources before it had come to, the last one first; 0 for none. Consumers that have
    /// sent nothing of a later one go on from there.
    pub const LEFT: std::ops::Range<usize> = 5..8;
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
    pub(crate) fn words(&self) -> &[AtomicU64; PRODUCER_WORDS] {
        &self.words
    }

    /// In memory that outlives the process: goes on with what these words say.
    pub fn in_memory(words: Slot<PRODUCER_WORDS>) -> Self {
        ProducerCheckpoint { words }
    }

    /// Of one of its encodings.
    #[inline]
    pub fn encoding(&self, index: u8) -> Option<EncodingCheckpoint<'_>> {
        self.words.as_chunks().0.get(usize::from(index)).map(EncodingCheckpoint)
    }
}

impl EncodingCheckpoint<'_> {
    /// Notes a packet that has the highest number so far.
    #[inline]
    pub fn note(self, source: SourceCheckpoint) {
        use encoding_word::{HIGHEST, NEWEST, ORIGIN, SOURCE};
        let word = u64::from(source.ssrc) << 32 | u64::from(source.id.number());
        if self.0[SOURCE].load(Ordering::Relaxed) != word {
            self.leave_source();
        }
        self.0[ORIGIN].store(source.origin, Ordering::Relaxed);
        self.0[HIGHEST].store(source.highest.0, Ordering::Relaxed);
        self.0[NEWEST].store(source.newest.word(), Ordering::Relaxed);
        self.0[SOURCE].store(word, Ordering::Release);
    }

    /// Notes what the present source has come to, before another one takes its place. Should the
    /// process be killed amidst the first packet of that, there is none, rather than one with the
    /// numbers of another.
    #[cold]
    fn leave_source(self) {
        if let Some(SourceCheckpoint { id, newest, .. }) = self.source() {
            let mut word = Left { id, newest }.word();
            for left in &self.0[encoding_word::LEFT] {
                word = left.swap(word, Ordering::Relaxed);
            }
        }
        self.0[encoding_word::SOURCE].store(0, Ordering::Release);
    }

    /// The newest packet by number of one of its latest sources.
    pub fn newest_of(self, now: Time, id: SourceId) -> Option<Instant> {
        if let Some(source) = self.source().filter(|source| source.id == id) {
            return Some(source.newest);
        }
        let left = self.0[encoding_word::LEFT].iter();
        let left = left.map(|left| Left::of_word(now, left.load(Ordering::Relaxed)));
        left.flatten().find_map(|left| (left.id == id).then_some(left.newest))
    }

    /// Notes the SSRC of its retransmissions.
    #[inline]
    pub fn note_rtx(self, ssrc: u32) {
        self.0[encoding_word::RTX_SSRC].store(u64::from(ssrc) + 1, Ordering::Relaxed);
    }

    /// The source that a new core goes on with; `None` if nothing of it came.
    pub fn source(self) -> Option<SourceCheckpoint> {
        use encoding_word::{HIGHEST, NEWEST, ORIGIN, SOURCE};
        let word = self.0[SOURCE].load(Ordering::Acquire);
        Some(SourceCheckpoint {
            ssrc: (word >> 32) as u32,
            id: SourceId::of_number(word as u16)?,
            origin: self.0[ORIGIN].load(Ordering::Relaxed),
            highest: ExtendedSeq(self.0[HIGHEST].load(Ordering::Relaxed)),
            newest: Instant::of_word(self.0[NEWEST].load(Ordering::Relaxed)),
        })
    }

    /// The SSRC of its retransmissions, if one was seen.
    pub fn rtx_ssrc(self) -> Option<u32> {
        Some(self.0[encoding_word::RTX_SSRC].load(Ordering::Relaxed).checked_sub(1)? as u32)
    }
}

/// Words of a [`ConsumerCheckpoint`].
pub const CONSUMER_WORDS: usize = 8;

/// Which of them are what.
mod consumer_word {
    /// Which core has it.
    pub const GENERATION: usize = 0;
    /// Sequence numbers of its media, which are its SRTP indexes.
    pub const MEDIA: usize = 1;
    /// Those of its retransmissions.
    pub const RTX: usize = 2;
    /// Which source its timestamps follow, and by how much they differ; 0 before the first packet.
    pub const CLOCK: usize = 3;
    /// A packet sent, some packets ago.
    pub const SENT: usize = 4;
    /// Its picture ids and TL0PICIDX, some packets ago.
    pub const PICTURES: usize = 5;
    /// With which packet that was; 0 before the first.
    pub const PACKET: usize = 6;
}

/// Of a consumer.
#[derive(Debug, Clone, Default)]
pub struct ConsumerCheckpoint {
    words: Slot<CONSUMER_WORDS>,
}

impl Leased for ConsumerCheckpoint {
    fn generation(&self) -> &AtomicU64 {
        &self.words[consumer_word::GENERATION]
    }
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
    pub(crate) fn words(&self) -> &[AtomicU64; CONSUMER_WORDS] {
        &self.words
    }

    /// In memory that outlives the process: goes on with what these words say.
    pub fn in_memory(words: Slot<CONSUMER_WORDS>) -> Self {
        ConsumerCheckpoint { words }
    }

    /// Sequence numbers of its media, which are its SRTP indexes.
    pub fn media(&self) -> Reserve<'_> {
        Reserve(&self.words[consumer_word::MEDIA])
    }

    /// Those of its retransmissions.
    pub fn rtx(&self) -> Reserve<'_> {
        Reserve(&self.words[consumer_word::RTX])
    }

    /// Notes how its timestamps follow its source's.
    pub fn note_clock(&self, clock: ClockCheckpoint) {
        self.words[consumer_word::SENT].store(clock.sent.word(), Ordering::Relaxed);
        let of = u64::from(clock.encoding) << 48 | u64::from(clock.source.number()) << 32;
        self.words[consumer_word::CLOCK].store(of | u64::from(clock.offset), Ordering::Release);
    }

    /// How its timestamps followed its source's; `None` if nothing was sent.
    pub fn clock(&self) -> Option<ClockCheckpoint> {
        let word = self.words[consumer_word::CLOCK].load(Ordering::Acquire);
        Some(ClockCheckpoint {
            encoding: (word >> 48) as u8,
            source: SourceId::of_number((word >> 32) as u16)?,
            offset: word as u32,
            sent: Instant::of_word(self.words[consumer_word::SENT].load(Ordering::Relaxed)),
        })
    }

    /// Notes what picture ids have come to with a packet, which is the newest that is sent.
    pub fn note_pictures(&self, pictures: PicturesCheckpoint, packet: PacketCheckpoint) {
        let field = |value: Option<u64>| value.map_or(0, |value| value | 1 << 16);
        let picture = field(pictures.next_picture.map(Into::into));
        let tl0 = field(pictures.last_tl0.map(Into::into));
        self.words[consumer_word::PICTURES].store(picture << 32 | tl0, Ordering::Relaxed);
        // Comes second: with an older packet more seem to have been sent since, and not fewer.
        let of = u64::from(packet.encoding) << 56 | u64::from(packet.source.number()) << 40;
        let sequence = packet.sequence.0 & PacketCheckpoint::SEQUENCE_MASK;
        self.words[consumer_word::PACKET].store(of | sequence, Ordering::Release);
    }

    /// The packet with which picture ids were noted.
    pub fn packet(&self) -> Option<PacketCheckpoint> {
        let word = self.words[consumer_word::PACKET].load(Ordering::Acquire);
        Some(PacketCheckpoint {
            encoding: (word >> 56) as u8,
            source: SourceId::of_number((word >> 40) as u16)?,
            sequence: ExtendedSeq(word & PacketCheckpoint::SEQUENCE_MASK),
        })
    }

    /// What picture ids had come to with that packet.
    pub fn pictures(&self) -> PicturesCheckpoint {
        let word = self.words[consumer_word::PICTURES].load(Ordering::Relaxed);
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
        let producer = ProducerCheckpoint::default();
        let encoding = producer.encoding(0).unwrap();
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
