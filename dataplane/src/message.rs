//! What the control core says to a data core, and what it hears back.
//!
//! Ids are unique for the life of the server and are handed out by control. A command for an id
//! that no longer exists is ignored: the two sides are not in lockstep.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

pub use opencall_io::SocketId;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtp::extension::ExtensionIds;
use opencall_wire::srtp::KeyingMaterial;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::checkpoint::{ConsumerCheckpoint, Lease, ProducerCheckpoint, TransportCheckpoint};
use crate::drop_reason::DropCounters;
pub use crate::egress::path::Bandwidth;
use crate::fanout::links::Link;
use crate::histogram::Histogram;
pub use crate::ice::agent::Tuple;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    )+};
}

ids! {
    /// One WebRTC transport: an ICE, DTLS and SRTP association with one client.
    TransportId,
    /// One media source of a client: a track, with all its simulcast encodings.
    ProducerId,
    /// One media sink of a client: a producer as one other client receives it.
    ConsumerId,
}

/// Loudest levels of the last 100 ms, one for each 20 ms, oldest first: dBov, 0 (loudest) to -127
/// (silence, or nothing came; RFC 6464).
pub type AudioLevels = [i8; 5];

/// Nothing was heard.
pub const SILENCE: AudioLevels = [-127; 5];

/// Index of a data core, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u8);

/// Data cores at most, which have the ids below: who is to be woken is one bit for each
/// ([`Links`](crate::fanout::links::Links)).
pub const MAX_CORES: usize = 128;

/// The sink of recordings, to data cores one core more. Its id is none of theirs, however many come
/// and go, and it is not woken.
pub const SINK: CoreId = CoreId(MAX_CORES as u8);

/// The far end of what goes to programs outside, in the same way.
pub const TAPS: CoreId = CoreId(MAX_CORES as u8 + 1);

/// The far end of what is broadcast, in the same way.
pub const PUSHES: CoreId = CoreId(MAX_CORES as u8 + 2);

/// A short identifier carried in header extensions: MID, RID (RFC 8843, RFC 8852). At most 16
/// bytes.
pub type ShortId = SmallVec<[u8; 16]>;

/// ICE user fragment and password (RFC 8445 section 5.3). No `Debug`: the password is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// The user fragment.
    pub ufrag: String,
    /// The password, key of MESSAGE-INTEGRITY.
    pub pwd: String,
}

/// A new transport.
#[derive(Clone)]
pub struct TransportConfig {
    /// Its id.
    pub id: TransportId,
    /// Our ICE credentials; the ufrag is unique in the server.
    pub ice: IceCredentials,
    /// Budget for all that is sent to this client, in bits per second: voices first, then the video
    /// layers that fit; what exceeds it nevertheless is dropped.
    pub outgoing_bitrate_bps: u32,
    /// Whether it carries data channels: its protected records then have a budget of their own.
    pub data_channels: bool,
    /// Whose it is: how control knows its client again if the process dies. 0: not at all.
    pub owner: u64,
    /// What one core leaves to the next; new with the transport.
    pub checkpoint: Lease<TransportCheckpoint>,
}

/// How the client of a transport without ICE and DTLS is known.
#[derive(Clone)]
pub struct PlainLink {
    /// Where it is, if that is known beforehand; else where the first packet of an announced SSRC
    /// comes from, authentic if there are keys.
    pub remote: Option<PlainRemote>,
    /// Whether RTCP comes from, and goes to, where RTP does (RFC 5761).
    pub rtcp_mux: bool,
    /// SRTP keys; without, RTP is plain.
    pub keys: Option<KeyingMaterial>,
}

/// Where a client without ICE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainRemote {
    /// Where its RTP comes from, and ours goes to.
    pub rtp: Tuple,
    /// The same of RTCP, where that has a port of its own.
    pub rtcp: Option<Tuple>,
}

/// How one media payload type of a producer is understood and renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypeMapping {
    /// The producer's media payload type.
    pub incoming: u8,
    /// The producer's RTX payload type for it.
    pub incoming_rtx: Option<u8>,
    /// The router's payload type: what the server knows the codec by.
    pub router: u8,
    /// The codec.
    pub codec: Codec,
    /// RTP clock rate, Hz.
    pub clock_rate_hz: u32,
}

/// One encoding of a producer: one simulcast layer, or the only stream. Low to high quality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingConfig {
    /// RID, if the encoding is identified so (RFC 8852).
    pub rid: Option<ShortId>,
    /// SSRC, if announced.
    pub ssrc: Option<u32>,
    /// SSRC of the retransmission stream, if announced.
    pub rtx_ssrc: Option<u32>,
    /// Announced top bitrate of this encoding, bits per second.
    pub max_bitrate_bps: Option<u32>,
}

/// RTCP feedback in use on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Feedback {
    /// Generic NACK (RFC 4585).
    pub nack: bool,
    /// Picture loss indication (RFC 4585).
    pub pli: bool,
    /// Full intra request (RFC 5104).
    pub fir: bool,
    /// Receiver estimated maximum bitrate.
    pub remb: bool,
    /// Transport-wide congestion control feedback.
    pub transport_cc: bool,
}

/// Where a producer's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From a client, on this transport.
    Transport(TransportId),
    /// From the producer that [`Command::SetStage`] names.
    Stage,
}

/// A new producer, on its own core or (as the far end of a pipe) on another.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Its id.
    pub id: ProducerId,
    /// Where it comes from. On a core that gets it through a pipe, this is not looked at.
    pub origin: Origin,
    /// The core where it comes from there.
    pub home: CoreId,
    /// Audio or video.
    pub kind: MediaKind,
    /// MID, if the client uses it.
    pub mid: Option<ShortId>,
    /// Payload types; the first is the main codec.
    pub payload_types: SmallVec<[PayloadTypeMapping; 2]>,
    /// Encodings, low to high quality. Never empty.
    pub encodings: SmallVec<[EncodingConfig; 3]>,
    /// Extension ids as the producer uses them.
    pub extensions: ExtensionIds,
    /// Feedback the producer understands.
    pub feedback: Feedback,
    /// Starts paused.
    pub paused: bool,
    /// What one home core leaves to the next; new with the producer, the same on all cores.
    pub checkpoint: ProducerCheckpoint,
}

/// A payload type that a consumer accepts, and what it is called towards its client: the router's
/// number, or that of a client whose own description came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedPayloadType {
    /// The router's payload type.
    pub router: u8,
    /// The client's.
    pub sent: u8,
    /// The client's for retransmissions (RFC 4588).
    pub rtx: Option<u8>,
    /// The client's for packets of it that repeat those before them (RFC 2198).
    pub red: Option<u8>,
}

/// A new consumer.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Its id.
    pub id: ConsumerId,
    /// The transport it leaves on.
    pub transport: TransportId,
    /// The producer it gets; local to this core, at home or through a pipe.
    pub producer: ProducerId,
    /// MID written into the header extension.
    pub mid: ShortId,
    /// Media SSRC.
    pub ssrc: u32,
    /// RTX SSRC, where retransmission as RFC 4588 is negotiated.
    pub rtx_ssrc: Option<u32>,
    /// Payload types this consumer accepts; packets of others are not sent.
    pub payload_types: SmallVec<[AcceptedPayloadType; 2]>,
    /// CNAME for SDES.
    pub cname: String,
    /// Extension ids this consumer negotiated.
    pub extensions: ExtensionIds,
    /// Feedback this consumer gives.
    pub feedback: Feedback,
    /// Starts paused.
    pub paused: bool,
    /// Layers it would like at most; `None` is the highest.
    pub preferred_layers: Option<Layers>,
    /// What one core leaves to the next; new with the consumer.
    pub checkpoint: Lease<ConsumerCheckpoint>,
}

/// A spatial layer (for simulcast: the encoding's index) and a temporal layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// From 0, the lowest resolution.
    pub spatial: u8,
    /// From 0, the lowest frame rate; `None` leaves it alone.
    pub temporal: Option<u8>,
}

/// Whose statistics are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsQuery {
    /// Of a transport.
    Transport(TransportId),
    /// Of a producer, on its home core.
    Producer(ProducerId),
    /// Of a consumer (and of its producer, as this core sees it).
    Consumer(ConsumerId),
    /// Of the core.
    Core,
}

/// From control to a data core.
pub enum Command {
    /// Make a transport.
    CreateTransport(Box<TransportConfig>),
    /// New ICE credentials; the old ones stay good until the first check with the new ones.
    RestartIce {
        /// Which transport.
        transport: TransportId,
        /// The new credentials.
        ice: IceCredentials,
    },
    /// Forget a transport with its producers and consumers.
    CloseTransport(TransportId),
    /// Send one datagram of DTLS records to the transport's selected address.
    SendDtls {
        /// Which transport.
        transport: TransportId,
        /// One datagram.
        datagram: Box<[u8]>,
    },
    /// A DTLS record that only the client can have made came from this address, which was not
    /// proven before: it is there, as if SRTP had come from there.
    ProveTuple {
        /// Which transport.
        transport: TransportId,
        /// What [`Event::Dtls`] said.
        tuple: Tuple,
    },
    /// The DTLS handshake is done.
    InstallSrtp {
        /// Which transport.
        transport: TransportId,
        /// Profile and keys, both directions.
        keys: Box<KeyingMaterial>,
    },
    /// The client of this transport speaks neither ICE nor DTLS; once per transport.
    ConnectPlain {
        /// Which transport.
        transport: TransportId,
        /// Where it is, and its keys.
        link: Box<PlainLink>,
    },
    /// Change the budget for what is sent to a client, bits per second.
    SetOutgoingBitrate {
        /// Which transport.
        transport: TransportId,
        /// Bits per second.
        bitrate_bps: u32,
    },
    /// Make a producer. On a core other than `home` it is the far end of a pipe.
    CreateProducer(Box<ProducerConfig>),
    /// Forget a producer; its consumers on this core stop.
    CloseProducer(ProducerId),
    /// Stop forwarding a producer's packets.
    PauseProducer(ProducerId),
    /// Forward them again, from a key frame.
    ResumeProducer(ProducerId),
    /// On the home core of a producer of the stage: whose packets it carries next. Of pictures it
    /// does from a key frame on, of sound from the next packet. [`Event::StageTaken`]
    /// or [`Event::StageRefused`] answers.
    SetStage {
        /// Which producer.
        stage: ProducerId,
        /// Whose packets; it reaches this core. `None`: nobody's, at once.
        source: Option<ProducerId>,
        /// Whose packets it carries already, as far as is known. A core that has just got it takes
        /// these at once, until those of `source` come.
        shown: Option<ProducerId>,
    },
    /// A producer of the stage has another home, for its core has ended. The new home is told so as
    /// well, or makes it where it has none of it; pipes and sources are told anew there.
    MoveStage {
        /// Which producer.
        stage: ProducerId,
        /// Where it lives from now on.
        home: CoreId,
    },
    /// Two cores are linked from now on; comes before the first pipe between them.
    AttachLink {
        /// The other core.
        to: CoreId,
        /// This core's ends of the rings.
        link: Box<Link>,
    },
    /// The other core has ended.
    DetachLink(CoreId),
    /// On the home core: send the producer's packets to `to` as well.
    OpenPipe {
        /// Which producer.
        producer: ProducerId,
        /// The core that has consumers of it.
        to: CoreId,
    },
    /// On the home core: stop that.
    ClosePipe {
        /// Which producer.
        producer: ProducerId,
        /// The core that no longer has any.
        to: CoreId,
    },
    /// Make a consumer.
    CreateConsumer(Box<ConsumerConfig>),
    /// Forget a consumer.
    CloseConsumer(ConsumerId),
    /// Stop sending to a consumer.
    PauseConsumer(ConsumerId),
    /// Send again, from a key frame.
    ResumeConsumer(ConsumerId),
    /// Choose the layers a consumer gets at most.
    SetPreferredLayers {
        /// Which consumer.
        consumer: ConsumerId,
        /// The layers.
        layers: Layers,
    },
    /// Weight of a consumer when its transport's budget is shared out, 1–255.
    SetPriority {
        /// Which consumer.
        consumer: ConsumerId,
        /// The weight.
        priority: u8,
    },
    /// Ask the producer of this consumer for a key frame.
    RequestKeyFrame(ConsumerId),
    /// Answer with [`Event::Stats`].
    QueryStats {
        /// Returned with the answer.
        token: u64,
        /// Whose.
        of: StatsQuery,
    },
    /// Leave the loop.
    Shutdown,
}

/// Where a transport's ICE stands, as a lite agent can know it (RFC 8445).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceState {
    /// A check succeeded; packets may flow.
    Connected,
    /// The controlling side has nominated an address.
    Completed,
    /// No check for [`crate::ice::CONSENT_TIMEOUT`] (RFC 7675).
    Disconnected,
}

/// From a data core to control.
pub enum Event {
    /// ICE moved, or the selected address changed.
    Ice {
        /// Which transport.
        transport: TransportId,
        /// The new state.
        state: IceState,
        /// The selected remote address.
        remote: SocketAddr,
    },
    /// One DTLS datagram from an ICE-validated address.
    Dtls {
        /// Which transport.
        transport: TransportId,
        /// Where it came from, while it is not proven that the client is there:
        /// [`Command::ProveTuple`].
        unproven: Option<Tuple>,
        /// One datagram.
        datagram: Box<[u8]>,
    },
    /// The quality of a producer's encodings as received here, 0–10 each, low to high; sent on
    /// change.
    ProducerScore {
        /// Which producer.
        producer: ProducerId,
        /// Per encoding: SSRC once known, score.
        scores: SmallVec<[(u32, u8); 3]>,
    },
    /// The quality of a consumer as its client reports it, 0–10; sent on change.
    ConsumerScore {
        /// Which consumer.
        consumer: ConsumerId,
        /// 0–10.
        score: u8,
    },
    /// A consumer now gets other layers (none: nothing fits or nothing arrives).
    LayersChanged {
        /// Which consumer.
        consumer: ConsumerId,
        /// What it gets.
        layers: Option<Layers>,
    },
    /// How many encodings of a simulcast, from the lowest, its consumers on this core would take if
    /// all arrived; sent on change. 0: nobody wants it, as before the first event.
    EncodingsWanted {
        /// Which producer.
        producer: ProducerId,
        /// 0 to the number of its encodings.
        count: u8,
    },
    /// A producer of the stage carries this source from now on.
    StageTaken {
        /// Which producer.
        stage: ProducerId,
        /// Whose packets.
        source: ProducerId,
    },
    /// A producer of the stage does not carry this source, of which no key frame came in time: the
    /// one before goes on.
    StageRefused {
        /// Which producer.
        stage: ProducerId,
        /// Whose packets.
        source: ProducerId,
    },
    /// What can be sent to a client, and what could be used; sent on change, once a second at most.
    Bandwidth {
        /// Which transport.
        transport: TransportId,
        /// The numbers.
        bandwidth: Bandwidth,
    },
    /// What each client's pictures may take has changed, for the core has fallen behind or has
    /// caught up ([`crate::overload`]).
    Overload {
        /// Bits per second; `None`: no such limit any more.
        ceiling_bps: Option<u64>,
    },
    /// The levels of a producer since the last such event, at most every 100 ms while heard.
    AudioLevel {
        /// Which producer.
        producer: ProducerId,
        /// The levels.
        levels_dbov: AudioLevels,
    },
    /// The answer to [`Command::QueryStats`]; `None` when the id is gone.
    Stats {
        /// From the query.
        token: u64,
        /// The numbers.
        stats: Option<Box<Stats>>,
    },
}

impl Event {
    /// Whether control should hear of it at once. Levels are looked at a few times a second.
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Event::AudioLevel { .. } | Event::Bandwidth { .. })
    }
}

/// The answer to a [`StatsQuery`].
#[derive(Debug, Clone)]
pub enum Stats {
    /// Of a transport.
    Transport(TransportStats),
    /// Of a producer: one per encoding that has been seen.
    Producer(Vec<RtpStreamStats>),
    /// Of a consumer: its stream.
    Consumer(RtpStreamStats),
    /// Of the core.
    Core(Box<CoreStats>),
}

/// Counters of a transport. Byte counts are of UDP payload.
#[derive(Debug, Clone, Default)]
pub struct TransportStats {
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Media bytes received, headers included.
    pub rtp_bytes_received: u64,
    /// Media bytes sent, headers included.
    pub rtp_bytes_sent: u64,
    /// RTP packets received.
    pub rtp_packets_received: u64,
    /// RTP packets sent.
    pub rtp_packets_sent: u64,
    /// Recent bits per second received.
    pub recv_bitrate_bps: u32,
    /// Recent bits per second sent.
    pub send_bitrate_bps: u32,
    /// Bits per second that can be sent: the estimate, or the client's own; `None` where nobody
    /// estimates.
    pub available_outgoing_bps: Option<u32>,
    /// Milliseconds that what waits for its pace takes to leave.
    pub pacer_queue_ms: u32,
    /// Reports of the client about packets that were never sent, or too long ago.
    pub unmatched_reports: u64,
    /// The selected remote address.
    pub remote: Option<SocketAddr>,
    /// The SRTP profile's IANA name, once installed.
    pub srtp_profile: Option<&'static str>,
}

/// Counters of one RTP stream.
#[derive(Debug, Clone, Default)]
pub struct RtpStreamStats {
    /// SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// RID.
    pub rid: Option<ShortId>,
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
    /// Recent bits per second.
    pub bitrate_bps: u32,
    /// Lost packets in total (as received here, or as the client reports).
    pub packets_lost: i64,
    /// Fraction lost in the last report interval, units of 1/256.
    pub fraction_lost: u8,
    /// Interarrival jitter, RTP timestamp units.
    pub jitter: u32,
    /// Round trip time, milliseconds, where known.
    pub round_trip_ms: Option<f32>,
    /// NACK messages.
    pub nack_count: u64,
    /// Packets asked for by NACK.
    pub nack_packet_count: u64,
    /// Packets repaired by retransmission.
    pub packets_retransmitted: u64,
    /// PLI messages.
    pub pli_count: u64,
    /// FIR messages.
    pub fir_count: u64,
    /// Key frames.
    pub key_frames: u64,
    /// 0–10.
    pub score: u8,
}

/// Counters of a core.
#[derive(Debug, Clone, Default)]
pub struct CoreStats {
    /// When this was taken.
    pub at: Time,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Of these, those that were taken up: the others are drops.
    pub datagrams_taken: u64,
    /// Their bytes of UDP payload.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload handed to the kernel.
    pub bytes_sent: u64,
    /// Send operations: GSO trains and single datagrams.
    pub trains_sent: u64,
    /// System calls these took.
    pub send_calls: u64,
    /// RTP packets sealed for consumers.
    pub packets_forwarded: u64,
    /// Packets passed to other cores.
    pub packets_piped: u64,
    /// Reports of clients about packets that were never sent, or too long ago.
    pub reports_unmatched: u64,
    /// NACK messages of viewers.
    pub nacks_received: u64,
    /// NACK messages to senders.
    pub nacks_sent: u64,
    /// PLIs and FIRs of viewers.
    pub key_frame_requests_received: u64,
    /// PLIs and FIRs to senders.
    pub key_frame_requests_sent: u64,
    /// From when the batch of a forwarded packet was read until the packet was handed to the
    /// kernel, for each packet.
    pub forward_delays: Histogram,
    /// How long packets have waited for the pace of their client, for each that had to.
    pub pacer_delays: Histogram,
    /// Turns of the loop.
    pub turns: u64,
    /// Transports now.
    pub transports: u64,
    /// Producers now.
    pub producers: u64,
    /// Consumers now.
    pub consumers: u64,
    /// Drops by reason.
    pub drops: DropCounters,
}

impl CoreStats {
    /// Adds what another core had counted, in whose place this one is. What there is now stays.
    pub fn add_counters(&mut self, other: &CoreStats) {
        let counters = [
            (&mut self.datagrams_received, other.datagrams_received),
            (&mut self.datagrams_taken, other.datagrams_taken),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.datagrams_sent, other.datagrams_sent),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.trains_sent, other.trains_sent),
            (&mut self.send_calls, other.send_calls),
            (&mut self.packets_forwarded, other.packets_forwarded),
            (&mut self.packets_piped, other.packets_piped),
            (&mut self.reports_unmatched, other.reports_unmatched),
            (&mut self.nacks_received, other.nacks_received),
            (&mut self.nacks_sent, other.nacks_sent),
            (&mut self.key_frame_requests_received, other.key_frame_requests_received),
            (&mut self.key_frame_requests_sent, other.key_frame_requests_sent),
            (&mut self.turns, other.turns),
        ];
        for (counter, more) in counters {
            *counter += more;
        }
        self.forward_delays.add(&other.forward_delays);
        self.pacer_delays.add(&other.pacer_delays);
        for (reason, more) in other.drops.iter() {
            self.drops.count_n(reason, more);
        }
    }
}
