//! A consumer: which encoding it gets, and how that becomes one continuous stream.
#![forbid(unsafe_code)]

use std::mem::offset_of;
use std::num::NonZeroU32;

use opencall_wire::codec::MediaKind;
use opencall_wire::rtp::extension::ExtensionIds;
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::checkpoint::{
    ClockCheckpoint, ConsumerCheckpoint, Instant, Lease, PacketCheckpoint, RESERVED_PACKETS,
};
use crate::drop_reason::DropReason;
use crate::egress::header::HeaderTemplate;
use crate::egress::picture_id::PictureContinuity;
use crate::egress::redundancy::{Redundancy, Totals};
use crate::egress::send_stats::SendStats;
use crate::egress::sent::{Origin, Rewrite, SentLog};
use crate::egress::sequence::SequenceTranslator;
use crate::egress::timestamp::TimestampTranslator;
use crate::ingress::fir_log::FirLog;
use crate::ingress::packet::MediaPacket;
use crate::ingress::producer::Producer;
use crate::ingress::receive_stats::Report;
use crate::ingress::source::SourceId;
use crate::ingress::stream_table::needs_key_frame;
use crate::layers::EncodingIndex;
use crate::layers::rise::Rise;
use crate::layers::selector::Selector;
use crate::message::{AcceptedPayloadType, ConsumerConfig, ConsumerId, Feedback, ShortId};
use crate::planted::{self, Bug};
use crate::store::{ProducerKey, TransportKey};

/// Retransmission stream of a consumer (RFC 4588).
#[derive(Debug, Clone)]
pub struct Rtx {
    /// SSRC.
    pub ssrc: u32,
    /// Its own next sequence number, extended: the SRTP index.
    next: ExtendedSeq,
    /// One above the numbers that this core may use.
    held: u64,
    checkpoint: Lease<ConsumerCheckpoint>,
}

impl Rtx {
    /// A stream whose first number is `first`, unless a core before has sent some.
    fn new(ssrc: u32, first: ExtendedSeq, checkpoint: &Lease<ConsumerCheckpoint>) -> Self {
        let numbers = checkpoint.rtx().begin(checkpoint.generation(), first.0, RESERVED_PACKETS);
        let (next, held) = (ExtendedSeq(numbers.start), numbers.end);
        Rtx { ssrc, next, held, checkpoint: checkpoint.clone() }
    }

    /// The next packet's index and what its header says (RFC 4588 section 4), but for extensions.
    ///
    /// # Errors
    /// Another core sends the next packet.
    pub fn header_fields(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
    ) -> Result<(ExtendedSeq, OutgoingHeader), DropReason> {
        if planted::is(Bug::IndexTwice) && self.next.0.is_multiple_of(4) {
            self.next.0 -= 1;
        }
        let index = self.next;
        if index.0 >= self.held {
            let end = index.0.saturating_add(RESERVED_PACKETS);
            let Rtx { checkpoint, held, .. } = self;
            let extended = checkpoint.rtx().extend(checkpoint.generation(), *held, end);
            extended.map_err(|_| DropReason::CoreReplaced)?;
            self.held = end;
        }
        self.next.0 += 1;
        let (sequence, ssrc) = (index.wire(), self.ssrc);
        Ok((index, OutgoingHeader { marker, payload_type, sequence, timestamp, ssrc }))
    }
}

/// A set of RTP payload types, which have seven bits.
#[derive(Debug, Clone, Copy)]
struct PayloadTypes([u64; 2]);

impl PayloadTypes {
    fn of(types: &[AcceptedPayloadType]) -> Self {
        let mut set = PayloadTypes([0; 2]);
        for accepted in types {
            let (word, bit) = Self::position(accepted.router);
            set.0[word] |= bit;
        }
        set
    }

    fn contains(self, payload_type: u8) -> bool {
        let (word, bit) = Self::position(payload_type);
        self.0[word] & bit != 0
    }

    fn position(payload_type: u8) -> (usize, u64) {
        (usize::from(payload_type >> 6 & 1), 1 << (payload_type & 63))
    }
}

/// Its client calls some payload type by another number than the router.
const RENUMBERED: u8 = 1;

/// Its packets repeat those before them, for its client loses many.
const REPEATING: u8 = 2;

/// One consumer on this core.
///
/// A core has thousands, and between two packets of one the cache has seen all others: what a
/// packet touches lies together, in four cache lines and a fifth for VP8 and VP9, and the rest
/// behind it.
#[repr(C, align(64))]
pub struct Consumer {
    /// Its producer.
    pub producer: ProducerKey,
    /// Its transport.
    pub transport: TransportKey,
    /// Router payload types it accepts.
    payload_types: PayloadTypes,
    /// SSRC it is sent with.
    pub ssrc: u32,
    /// Audio or video.
    pub kind: MediaKind,
    /// Paused by its client.
    pub paused: bool,
    /// Whether its producer's pictures depend on each other.
    key_frame_needed: bool,
    /// Whether its packets are sent again as they were.
    repeatable: bool,
    /// Which layers it gets.
    pub layers: Selector,
    /// In what its packets differ from the router's: [`RENUMBERED`], [`REPEATING`].
    differs: u8,
    /// Whether what goes out is noted, for its client asks for what it misses.
    is_logged: bool,
    /// What the headers of its packets have in common; `None` if they fit no packet.
    pub header: Option<HeaderTemplate>,
    /// Continuity of timestamps.
    pub timestamp: TimestampTranslator,
    /// Counters and the client's reports.
    pub stats: SendStats,
    /// What was sent under which sequence number.
    pub sent: SentLog,
    /// RTP timestamp, at the source, of the picture with which the present source began.
    began_at: Option<u32>,
    /// One above the sequence numbers that this core may use.
    held: u64,
    /// Continuity of sequence numbers.
    pub sequence: SequenceTranslator,
    /// Continuity of picture ids (VP8, VP9).
    pub picture_id: PictureContinuity,
    /// Retransmission stream, if negotiated.
    pub rtx: Option<Rtx>,
    /// The router's payload types and its client's.
    accepted: SmallVec<[AcceptedPayloadType; 2]>,
    /// When its packets repeat those before them, where its client takes such packets.
    redundancy: Option<Box<Redundancy>>,
    /// Feedback it gives.
    pub feedback: Feedback,
    /// Extension ids it negotiated.
    pub extensions: ExtensionIds,
    /// MID it is sent with.
    pub mid: ShortId,
    /// CNAME.
    pub cname: String,
    /// Its place in its producer's list of subscriptions.
    pub subscription: u32,
    /// Weight in its transport's budget.
    pub priority: u8,
    /// When it may have a better layer.
    pub rise: Rise,
    /// Since when it gets nothing because its transport's budget has no room for it.
    pub left_out_since: Option<Time>,
    /// The encoding and source whose clock its timestamps follow, also while nothing is forwarded.
    clock_of: Option<(u8, SourceId)>,
    /// State of the start of its stream.
    pub opening: Opening,
    /// FIR commands received from its client.
    pub firs: FirLog,
    /// Its id.
    pub id: ConsumerId,
    /// What a core that comes after this one goes on from.
    checkpoint: Lease<ConsumerCheckpoint>,
}

// Four lines up to the memory of drops, which is a line of its own, and then picture ids.
const _: () = assert!(offset_of!(Consumer, sequence) + SequenceTranslator::HEAD_LEN == 4 * 64);
const _: () = assert!(offset_of!(Consumer, picture_id) == 5 * 64);

/// Whether the start of a consumer's stream may be retransmitted (`egress/replay.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Nothing was sent yet.
    Awaited,
    /// The latest start was sent from this number on; no PLI or FIR since.
    Sent(ExtendedSeq),
    /// It was retransmitted at this time.
    SentAgain(Time),
    /// It is not retransmitted any more.
    Over,
}

/// How a packet leaves: everything of it that differs between consumers.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Sequence number, extended: the SRTP index.
    pub sequence: ExtendedSeq,
    /// RTP timestamp.
    pub timestamp: u32,
    /// How it differs from its source.
    pub rewrite: Rewrite,
    /// What begins with it.
    pub switched: Switched,
    /// The mask of decode targets that its dependency descriptor tells the client instead of the
    /// sender's.
    pub targets: Option<NonZeroU32>,
}

/// What begins with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// Nothing.
    No,
    /// Other layers inside the current encoding.
    Inside,
    /// Another encoding, another source, or the same anew.
    Source,
}

impl Consumer {
    /// A consumer that has sent nothing.
    pub fn new(
        now: Time,
        config: &ConsumerConfig,
        source: &Producer,
        producer: ProducerKey,
        transport: TransportKey,
        (first_sequence, first_timestamp): (u16, u32),
    ) -> Self {
        let first = ExtendedSeq(u64::from(first_sequence));
        let checkpoint = &config.checkpoint;
        let numbers = checkpoint.media().begin(checkpoint.generation(), first.0, RESERVED_PACKETS);
        let clock = checkpoint.clock();
        let reused =
            if planted::is(Bug::BlockTwice) && clock.is_some() { RESERVED_PACKETS } else { 0 };
        let mut stats = SendStats::new(now);
        if clock.is_some() {
            stats.resume();
        }
        let repeatable = config.feedback.nack && config.rtx_ssrc.is_none();
        let takes_red = takes_red(config, source.kind);
        Consumer {
            id: config.id,
            producer,
            transport,
            kind: source.kind,
            mid: config.mid.clone(),
            ssrc: config.ssrc,
            rtx: config.rtx_ssrc.map(|ssrc| Rtx::new(ssrc, first, checkpoint)),
            payload_types: PayloadTypes::of(&config.payload_types),
            differs: differences(config),
            accepted: config.payload_types.clone(),
            cname: config.cname.clone(),
            extensions: config.extensions,
            feedback: config.feedback,
            repeatable,
            subscription: 0,
            header: HeaderTemplate::new(&config.extensions, &config.mid, !repeatable),
            paused: config.paused,
            priority: 1,
            // What it had before its core was replaced is the first guess at what it can have.
            layers: Selector::new(
                config.preferred_layers,
                clock.map_or(EncodingIndex::LOWEST, |clock| EncodingIndex(clock.encoding)),
            ),
            rise: Rise::default(),
            left_out_since: None,
            began_at: None,
            clock_of: clock.map(|clock| (clock.encoding, clock.source)),
            // Who had pictures before needs a new one, and not the first again.
            opening: if clock.is_some() { Opening::Over } else { Opening::Awaited },
            firs: FirLog::default(),
            key_frame_needed: needs_key_frame(source.codec),
            is_logged: config.feedback.nack || takes_red,
            redundancy: takes_red.then(Default::default),
            held: numbers.end,
            sequence: SequenceTranslator::new(ExtendedSeq(numbers.start.saturating_sub(reused))),
            timestamp: match clock {
                Some(clock) => restored_timestamps(now, clock, source),
                None => TimestampTranslator::new(source.clock_rate_hz, first_timestamp),
            },
            picture_id: restored_pictures(checkpoint, source),
            checkpoint: checkpoint.clone(),
            sent: match source.kind {
                MediaKind::Audio if takes_red => SentLog::for_repeating_audio(),
                MediaKind::Audio => SentLog::for_audio(),
                MediaKind::Video => SentLog::for_video(),
            },
            stats,
        }
    }

    /// Bit per encoding that the gather phase should bring.
    pub fn wanted_encodings(&self) -> u8 {
        if self.paused { 0 } else { self.layers.wanted_encodings() }
    }

    /// How many encodings, from the lowest, its producer should send for it.
    pub fn wanted_count(&self) -> u8 {
        if self.paused { 0 } else { self.layers.wanted_count() }
    }

    /// The encoding whose key frame this consumer waits for, or can use at any time.
    pub fn needs_key_frame_of(&self) -> Option<EncodingIndex> {
        if self.paused || !self.key_frame_needed {
            return None;
        }
        self.layers.target().or(self.layers.current())
    }

    /// Whether its producer's pictures depend on each other.
    pub fn needs_key_frames(&self) -> bool {
        self.key_frame_needed
    }

    /// Whether it waits for a key frame.
    pub fn waits_for_key_frame(&self) -> bool {
        !self.paused && self.key_frame_needed && self.layers.waits()
    }

    /// Decides on one packet: `None` when it is not for this consumer now.
    pub fn translate(
        &mut self,
        now: Time,
        packet: &MediaPacket,
        source: &Producer,
    ) -> Option<Outgoing> {
        if !self.payload_types.contains(packet.header.payload_type) {
            return None;
        }
        if packet.payload().is_empty() {
            // Padding probed the producer's link; it leaves no gap here.
            if self.goes_on_with(packet) {
                self.sequence.skip(packet.sequence);
            }
            return None;
        }
        if packet.info.false_start {
            self.on_false_start(packet);
        }
        let begins = !self.goes_on_with(packet);
        if begins && !self.begin_with(now, packet, source) {
            return None;
        }
        if !self.layers.takes(packet) {
            self.sequence.skip(packet.sequence);
            if let Some(ids) = &packet.info.ids {
                self.picture_id.skip(ids);
            }
            return None;
        }
        let sequence = self.sequence.forward(packet.sequence)?;
        let timestamp = self.timestamp.forward(now, packet.header.timestamp);
        let mut rewrite = Rewrite {
            timestamp_offset: timestamp.wrapping_sub(packet.header.timestamp),
            origin: Origin::new(packet.encoding, self.layers.top()),
            ..Rewrite::default()
        };
        if let Some(ids) = &packet.info.ids {
            self.picture_id.forward(ids, &mut rewrite);
        }
        if sequence.0 >= self.held || begins {
            self.leave_word(sequence, packet)?;
        }
        let mut out =
            Outgoing { sequence, timestamp, rewrite, switched: Switched::No, targets: None };
        if begins {
            out.switched = Switched::Source;
        } else if self.layers.take_inner_changed(now) {
            out.switched = Switched::Inside;
        }
        if self.layers.top().is_some() && !self.repeatable {
            // One that is sent again as it was stays as it came.
            out.targets = self.layers.active_targets(packet).and_then(NonZeroU32::new);
        }
        Some(out)
    }

    /// Leaves word for a core that comes after this one, before a packet, the newest of its source,
    /// is sent under this number; `None` if there is such a core already, and the number is not
    /// this one's.
    #[cold]
    fn leave_word(&mut self, sequence: ExtendedSeq, packet: &MediaPacket) -> Option<()> {
        let generation = self.checkpoint.generation();
        if sequence.0 >= self.held {
            let end = sequence.0.saturating_add(RESERVED_PACKETS);
            self.checkpoint.media().extend(generation, self.held, end).ok()?;
            self.held = end;
        } else if !self.checkpoint.media().is_held(generation, self.held) {
            return None;
        }
        if let (Some((encoding, source)), Some((timestamp, at))) =
            (self.clock_of, self.timestamp.last())
        {
            let (offset, sent) = (self.timestamp.offset(), Instant::new(at, timestamp));
            self.checkpoint.note_clock(ClockCheckpoint { encoding, source, offset, sent });
        }
        let (encoding, source) = (packet.encoding, packet.source);
        let packet = PacketCheckpoint { encoding, source, sequence: packet.sequence };
        self.checkpoint.note_pictures(self.picture_id.checkpoint(), packet);
        Some(())
    }

    /// Whether a packet is of the source that is forwarded, and no more was lost before it than its
    /// number tells the client.
    #[inline]
    pub(crate) fn goes_on_with(&self, packet: &MediaPacket) -> bool {
        self.layers.forwards(packet.encoding, packet.source)
            && self.sequence.reaches(packet.sequence)
    }

    /// What began as a key frame was none: who began with it waits for the next.
    #[cold]
    fn on_false_start(&mut self, packet: &MediaPacket) {
        let is_ours = self.layers.forwards(packet.encoding, packet.source);
        if is_ours && self.began_at == Some(packet.header.timestamp) {
            self.layers.break_off();
        }
    }

    /// Begins another encoding or source, or the same one anew, with a packet that does not go on
    /// with what went out; returns whether it may.
    ///
    /// Its numbers will follow those that went out as if nothing was missing. Where pictures refer
    /// to each other, what follows must then refer to nothing before it, or the client decodes it
    /// on top of other pictures, wrongly and without an error.
    #[cold]
    fn begin_with(&mut self, now: Time, packet: &MediaPacket, source: &Producer) -> bool {
        let encoding = EncodingIndex(packet.encoding);
        if !self.layers.may_begin(encoding) {
            return false;
        }
        if self.key_frame_needed && !packet.info.key_frame {
            if Some(encoding) == self.layers.current() {
                self.layers.break_off();
            }
            return false;
        }
        let clock = |(encoding, id): (u8, SourceId)| {
            let of = &source.encodings.get(usize::from(encoding))?.source;
            let report = of.report(source.clock_rate_hz).filter(|_| of.id == id)?;
            Some(report.clock)
        };
        let (from, to) = (self.clock_of, (packet.encoding, packet.source));
        // A late repetition: all that followed has been shown, or was given up.
        let goes_back = from == Some(to) && self.sequence.has_passed(packet.sequence);
        let of = source.encodings.get(usize::from(packet.encoding));
        let is_late = goes_back || of.is_some_and(|of| of.came_too_late(packet));
        if self.key_frame_needed && is_late {
            self.layers.await_another();
            return false;
        }
        self.sequence.switch(packet.sequence);
        if matches!(self.opening, Opening::Awaited | Opening::Sent(_)) {
            self.opening = Opening::Sent(self.sequence.next_out());
        }
        if from == Some(to) {
            self.timestamp.resume(now, packet.header.timestamp);
        } else {
            let from = from.and_then(clock);
            self.timestamp.switch(now, packet.header.timestamp, from, clock(to));
        }
        self.clock_of = Some(to);
        if let Some(ids) = &packet.info.ids {
            self.picture_id.switch(ids);
        }
        self.layers.begin(encoding, packet.source);
        self.began_at = Some(packet.header.timestamp);
        true
    }

    /// Whether its packets are sent again as they were. Without RTX that happens under the same
    /// SRTP index, so they must be the same to the byte (a nonce must never protect two different
    /// packets): they carry nothing that tells send time.
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// Whether its packets take transport-wide sequence numbers, which must leave no gap.
    pub fn numbers_transport(&self) -> bool {
        self.header.as_ref().is_some_and(HeaderTemplate::numbers_transport)
    }

    /// What its client calls one of the router's payload types.
    #[inline]
    fn sent_payload_type(&self, router: u8) -> u8 {
        if self.differs & RENUMBERED != 0 { self.renumbered(router) } else { router }
    }

    #[cold]
    fn renumbered(&self, router: u8) -> u8 {
        let accepted = self.accepted.iter().find(|of| of.router == router);
        // Nothing else has passed `translate`.
        accepted.map_or(router, |of| of.sent)
    }

    /// What its client calls retransmissions of one of the router's payload types.
    pub fn rtx_payload_type(&self, router: u8) -> Option<u8> {
        self.accepted.iter().find(|of| of.router == router)?.rtx
    }

    /// Whether its packets repeat those before them now.
    #[inline]
    pub fn repeats(&self) -> bool {
        self.differs & REPEATING != 0
    }

    /// What its client calls one of the router's payload types, plain and repeating (RFC 2198).
    pub fn red_payload_types(&self, router: u8) -> Option<(u8, u8)> {
        let accepted = self.accepted.iter().find(|of| of.router == router)?;
        Some((accepted.sent, accepted.red?))
    }

    /// Takes up a report of its client: losses decide whether packets repeat those before them.
    pub fn on_report(&mut self, now: Time, report: &Report) {
        self.stats.on_report(now, report);
        let Some(redundancy) = &mut self.redundancy else { return };
        let sent = Totals {
            packets: self.stats.packets(),
            repaired: self.stats.packets_retransmitted(),
            next: self.sequence.next_out(),
        };
        match redundancy.on_report(now, report.fraction_lost, sent) {
            true => self.differs |= REPEATING,
            false => self.differs &= !REPEATING,
        }
    }

    /// What its header says of a packet.
    pub fn header_fields(&self, packet: &MediaPacket, out: &Outgoing) -> OutgoingHeader {
        OutgoingHeader {
            marker: out.rewrite.origin.is_marked(packet),
            payload_type: self.sent_payload_type(packet.header.payload_type),
            sequence: out.sequence.wire(),
            timestamp: out.timestamp,
            ssrc: self.ssrc,
        }
    }

    /// Notes a packet that should have left and for which there was no room.
    pub fn on_missed(&mut self, packet: &MediaPacket, out: &Outgoing) {
        if self.is_logged {
            self.sent.record(out.sequence, packet.sequence, out.rewrite);
        }
    }

    /// Notes a packet that left.
    #[inline]
    pub fn on_sent(&mut self, packet: &MediaPacket, out: &Outgoing, len: usize) {
        self.on_sent_as(packet, out, (packet.payload().len(), len));
    }

    /// The same of a packet whose payload, of so many bytes, is not as it came.
    #[inline]
    pub fn on_sent_as(
        &mut self,
        packet: &MediaPacket,
        out: &Outgoing,
        (payload_len, len): (usize, usize),
    ) {
        self.stats.on_sent(payload_len, len);
        if self.is_logged {
            self.sent.record(out.sequence, packet.sequence, out.rewrite);
        }
    }
}

/// The picture ids of a consumer whose core was replaced. It has sent nothing that had not arrived,
/// and no more than it had numbers for: where cores die in a row, TL0PICIDX comes no further than
/// the source does, and a client that hears of none of them takes it for no step back.
fn restored_pictures(checkpoint: &ConsumerCheckpoint, source: &Producer) -> PictureContinuity {
    // Read before the pictures, as it is written after them.
    let packet = checkpoint.packet();
    let sent_since = packet.and_then(|packet| packet.arrived_since(&source.checkpoint));
    let sent_since = sent_since.map_or(RESERVED_PACKETS, |sent| sent.min(RESERVED_PACKETS));
    PictureContinuity::restore(checkpoint.pictures(), sent_since)
}

fn differences(config: &ConsumerConfig) -> u8 {
    let is_renumbered = config.payload_types.iter().any(|of| of.sent != of.router);
    if is_renumbered { RENUMBERED } else { 0 }
}

/// Whether a consumer's client takes packets of sound that repeat others.
pub fn takes_red(config: &ConsumerConfig, kind: MediaKind) -> bool {
    kind == MediaKind::Audio && config.payload_types.iter().any(|of| of.red.is_some())
}

/// The timestamps of a consumer whose core was replaced. Nothing went out that had not arrived: the
/// newest packet of its source bounds them, even if the encoding has another source by now.
fn restored_timestamps(
    now: Time,
    clock: ClockCheckpoint,
    source: &Producer,
) -> TimestampTranslator {
    let encoding = source.checkpoint.encoding(clock.encoding);
    let newest = encoding.and_then(|encoding| encoding.newest_of(now, clock.source));
    let last = newest.map_or(clock.sent, |newest| Instant {
        timestamp: newest.timestamp.wrapping_add(clock.offset),
        ..newest
    });
    let rate = source.clock_rate_hz;
    TimestampTranslator::restore(rate, clock.offset, last.timestamp, last.time(now))
}
