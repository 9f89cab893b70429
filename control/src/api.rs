//! The one typed set of requests behind both signaling envelopes.
//!
//! Signaling opens a [`SessionId`] per connection, feeds [`Request`]s with a token of its own, and
//! drains [`Output`]s: answers (with that token) and notifications, in the order in which they must
//! reach the client.

use std::sync::Arc;

use opencall_dataplane::message::Layers;
use serde::{Deserialize, Serialize, Serializer};

pub use crate::codec_choice::{CodecAdvice, Device};
pub use crate::grants::{Grants, Rights, Source, Sources};
pub use crate::host::HostAction;
pub use crate::json_object::JsonObject;
pub use crate::mls::{MlsAnswer, MlsCommit, MlsNews, MlsRequest, MlsState};
use crate::ortc::ConsumerStream;
pub use crate::plain::{PlainConnection, PlainKeys, PlainOptions, PlainTransport};
use crate::rtp_parameters::{
    Kind, RtcpParameters, RtpCapabilities, RtpCodecParameters, RtpEncodingParameters,
    RtpHeaderExtensionParameters, RtpParameters, RtxParameters,
};
pub use crate::stats::StatsReport;

/// One signaling connection of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Signaling's own number for a request; comes back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// How consumers come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeMode {
    /// The server makes a consumer for every producer the client can take, and offers it
    /// ([`Notification::NewConsumer`]); it starts when the client accepts. (protoo)
    Automatic,
    /// The client is told of producers and asks for what it wants. (OpenCall)
    OnRequest,
}

/// Who connects, and to which room.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Room (meeting) id; the room is made if it does not exist.
    pub room: String,
    /// Peer (participant) id. A client whose identity is [proven](Grants::identity_proven) replaces
    /// an older session of the peer at once, another only one that does not answer
    /// ([`Output::Challenge`]): ids are known to everyone in the room.
    pub peer: String,
    /// How consumers come to be.
    pub consume_mode: ConsumeMode,
    /// What the client may do, and what of it is proven.
    pub grants: Grants,
    /// The name to show, as far as the client has said it yet: for those who let it in.
    pub display_name: Option<String>,
    /// Whether the client can wait to be let into a locked room; else it is refused.
    pub can_wait: bool,
}

/// What a client will do with a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It sends media to us.
    Send,
    /// It receives media from us.
    Recv,
}

/// `{role, fingerprints}` (RFC 8122, RFC 5763).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsParameters {
    /// Role of the side that wrote this.
    #[serde(default)]
    pub role: DtlsRole,
    /// Certificate fingerprints; one of a known algorithm must match.
    pub fingerprints: Vec<DtlsFingerprint>,
}

/// DTLS role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtlsRole {
    /// Either.
    #[default]
    Auto,
    /// Sends the ClientHello.
    Client,
    /// Waits for it.
    Server,
}

/// A certificate fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsFingerprint {
    /// `sha-256`, `sha-384`, `sha-512`; `sha-1` is not accepted.
    pub algorithm: String,
    /// `AA:BB:…`
    pub value: String,
}

/// Our ICE parameters.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceParameters {
    /// User fragment.
    pub username_fragment: String,
    /// Password.
    pub password: String,
    /// Always true.
    pub ice_lite: bool,
}

/// One of our ICE candidates (RFC 8445).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceCandidate {
    /// Foundation.
    pub foundation: String,
    /// Priority.
    pub priority: u32,
    /// Address, as text.
    pub address: String,
    /// The same, under the name older clients read.
    pub ip: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// `passive` where it is TCP (RFC 6544): the client connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_type: Option<&'static str>,
    /// Port.
    pub port: u16,
    /// `host`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// All a client needs to make its side of a transport.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportOptions {
    /// Transport id.
    pub id: String,
    /// Our ICE parameters.
    pub ice_parameters: IceParameters,
    /// Our candidates.
    pub ice_candidates: Vec<IceCandidate>,
    /// Our DTLS parameters.
    pub dtls_parameters: DtlsParameters,
    /// Our SCTP parameters, where the client asked for SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp_parameters: Option<SctpParameters>,
}

/// Whether a transport has data channels, and how those towards the client come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SctpMode {
    /// It has none.
    Off,
    /// Both sides make them as signaling says: mediasoup-client.
    Negotiated,
    /// The server opens them by DCEP (RFC 8832), once the transport is connected: what a plain peer
    /// connection takes.
    InBand,
}

/// Our side of SCTP, in the words of both generations of mediasoup-client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpParameters {
    /// SCTP port.
    pub port: u16,
    /// Outgoing streams.
    #[serde(rename = "OS")]
    pub os: u16,
    /// Incoming streams.
    #[serde(rename = "MIS")]
    pub mis: u16,
    /// Bytes of a message at most, older clients.
    pub max_message_size: usize,
    /// The same, newer clients: of one that we send.
    pub max_send_message_size: usize,
    /// Of one that we take.
    pub max_receive_message_size: usize,
    /// Bytes that may wait to be sent, as mediasoup announces them.
    pub send_buffer_size: usize,
    /// Bytes that wait to be sent.
    pub sctp_buffered_amount: usize,
    /// Always true.
    pub is_data_channel: bool,
}

/// A channel's stream and how its messages are sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpStreamParameters {
    /// SCTP stream id.
    pub stream_id: u16,
    /// Whether messages come in order; as mediasoup, yes if neither limit is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// Milliseconds after which a message is sent no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_packet_life_time: Option<u16>,
    /// How often a packet is sent again at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retransmits: Option<u16>,
}

/// A data consumer as its client must make it.
#[derive(Debug, Clone)]
pub struct DataConsumerOptions {
    /// Data consumer id.
    pub id: String,
    /// Transport it arrives on.
    pub transport_id: String,
    /// Data producer it carries.
    pub data_producer_id: String,
    /// Who produces; nobody where the server does.
    pub peer_id: Option<Arc<str>>,
    /// Its stream.
    pub sctp_stream_parameters: SctpStreamParameters,
    /// The producer's label.
    pub label: String,
    /// The producer's sub-protocol.
    pub protocol: String,
    /// The producer's appData.
    pub app_data: JsonObject,
}

impl DataConsumerOptions {
    fn size(&self) -> usize {
        NOTIFICATION_BYTES + self.label.len() + self.protocol.len() + self.app_data.size()
    }
}

/// A consumer as its client must make it.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Consumer id.
    pub id: String,
    /// Transport it arrives on.
    pub transport_id: String,
    /// Producer it carries.
    pub producer_id: String,
    /// Who produces.
    pub peer_id: Arc<str>,
    /// Audio or video.
    pub kind: Kind,
    /// What will arrive.
    pub rtp_parameters: ConsumerRtpParameters,
    /// `simple`, `simulcast` or `svc`.
    pub consumer_type: ConsumerType,
    /// The producer's appData.
    pub app_data: JsonObject,
    /// Whether the producer is paused now.
    pub producer_paused: bool,
}

/// What one consumer receives, as its client must be told: written as [`RtpParameters`] with one
/// encoding. What all clients with the same capabilities have in common is shared.
#[derive(Debug, Clone)]
pub struct ConsumerRtpParameters {
    /// The stream.
    pub stream: Arc<ConsumerStream>,
    /// MID, unique on the transport.
    pub mid: String,
    /// Media SSRC.
    pub ssrc: u32,
    /// SSRC of retransmissions, where they are negotiated.
    pub rtx_ssrc: Option<u32>,
}

impl ConsumerRtpParameters {
    /// The only encoding.
    pub fn encoding(&self) -> RtpEncodingParameters {
        RtpEncodingParameters {
            ssrc: Some(self.ssrc),
            rtx: self.rtx_ssrc.map(|ssrc| RtxParameters { ssrc }),
            ..self.stream.encoding.clone()
        }
    }
}

impl Serialize for ConsumerRtpParameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            mid: &'a str,
            codecs: &'a [RtpCodecParameters],
            header_extensions: &'a [RtpHeaderExtensionParameters],
            encodings: [RtpEncodingParameters; 1],
            rtcp: &'a RtcpParameters,
        }
        let stream = &*self.stream;
        Written {
            mid: &self.mid,
            codecs: &stream.codecs,
            header_extensions: &stream.header_extensions,
            encodings: [self.encoding()],
            rtcp: &stream.rtcp,
        }
        .serialize(serializer)
    }
}

/// How a consumer's layers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsumerType {
    /// One stream.
    Simple,
    /// Several streams, one at a time is forwarded.
    Simulcast,
    /// One stream with layers inside.
    Svc,
}

/// Which object's statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsOf {
    /// A transport.
    Transport(String),
    /// A producer.
    Producer(String),
    /// A consumer.
    Consumer(String),
    /// A data producer.
    DataProducer(String),
    /// A data consumer.
    DataConsumer(String),
    /// All of the asking client's.
    Peer,
}

/// What of a room is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewOf {
    /// Whoever has the floor, or what those of lower ranks leave.
    Speaker {
        /// From 0.
        rank: u8,
    },
    /// One participant, whenever it is there.
    Participant {
        /// Its id.
        peer_id: String,
        /// What of it.
        source: Source,
    },
}

impl ViewOf {
    /// Which of several views of one room chooses first.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            ViewOf::Speaker { rank } => *rank,
            ViewOf::Participant { .. } => 0,
        }
    }
}

/// What a client can ask. Ids are the strings handed out in answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The room's RTP capabilities → [`Response::RouterRtpCapabilities`].
    RouterRtpCapabilities,
    /// Enter the room → [`Response::Joined`].
    Join {
        /// Name to show.
        display_name: String,
        /// `{flag, name, version}`, passed on as it is.
        device: JsonObject,
        /// What the client can receive; without it, it receives nothing.
        rtp_capabilities: Option<RtpCapabilities>,
        /// It wants to be advised on codecs, and says what it runs on.
        codec_hints: Option<Device>,
    },
    /// OpenCall: set what the client can receive, and enter the room → [`Response::Joined`],
    /// followed by one [`Notification::NewProducer`] for each existing producer.
    SetRtpCapabilities {
        /// The capabilities.
        rtp_capabilities: RtpCapabilities,
        /// Name to show; else none.
        display_name: Option<String>,
        /// It wants to be advised on codecs, and says what it runs on.
        codec_hints: Option<Device>,
    },
    /// Make a transport (allowed before joining) → [`Response::Transport`].
    CreateTransport {
        /// What the client will do with it.
        direction: Direction,
        /// ICE over TCP only; not offered yet: an error.
        force_tcp: bool,
        /// With SCTP, for data channels.
        sctp: SctpMode,
    },
    /// The client's DTLS parameters, once per transport → [`Response::Done`].
    ConnectTransport {
        /// Which.
        transport_id: String,
        /// The client's.
        dtls_parameters: DtlsParameters,
    },
    /// Make a transport without ICE and DTLS; only by [`Grants::plain_rtp`] →
    /// [`Response::PlainTransport`].
    CreatePlainTransport(PlainOptions),
    /// Where its pipeline is, and its keys, once per transport; of `comedia` without SRTP there is
    /// nothing to say → [`Response::Done`].
    ConnectPlainTransport {
        /// Which.
        transport_id: String,
        /// What is to be said.
        connection: PlainConnection,
    },
    /// New ICE credentials → [`Response::Ice`].
    RestartIce {
        /// Which.
        transport_id: String,
    },
    /// Send a track → [`Response::Produced`].
    Produce {
        /// On which transport.
        transport_id: String,
        /// Audio or video.
        kind: Kind,
        /// What will be sent.
        rtp_parameters: RtpParameters,
        /// Passed on to consumers.
        app_data: JsonObject,
        /// Starts paused.
        paused: bool,
    },
    /// Stop sending a track → [`Response::Done`].
    CloseProducer {
        /// Which.
        producer_id: String,
    },
    /// → [`Response::Done`].
    PauseProducer {
        /// Which.
        producer_id: String,
    },
    /// → [`Response::Done`].
    ResumeProducer {
        /// Which.
        producer_id: String,
    },
    /// Receive a track → [`Response::Consumed`].
    Consume {
        /// Which.
        producer_id: String,
        /// What the client can receive; else what it said before.
        rtp_capabilities: Option<RtpCapabilities>,
        /// On which transport; else the client's first receiving one.
        transport_id: Option<String>,
        /// Under which MID, of a client whose own description came first: it is sent payload types
        /// and header extensions by the numbers in `rtp_capabilities`, instead of the router's.
        mid: Option<String>,
        /// Starts paused.
        paused: bool,
    },
    /// Send data → [`Response::ProducedData`].
    ProduceData {
        /// On which transport.
        transport_id: String,
        /// On which stream, and how.
        sctp_stream_parameters: SctpStreamParameters,
        /// The channel's label.
        label: String,
        /// Its sub-protocol.
        protocol: String,
        /// Passed on to consumers.
        app_data: JsonObject,
    },
    /// Stop sending data → [`Response::Done`].
    CloseDataProducer {
        /// Which.
        data_producer_id: String,
    },
    /// Receive data → [`Response::ConsumedData`].
    ConsumeData {
        /// Which.
        data_producer_id: String,
        /// On which transport; else the client's newest receiving one with SCTP.
        transport_id: Option<String>,
    },
    /// The client has made its side of an offered data consumer (or refused to).
    DataConsumerReady {
        /// Which.
        data_consumer_id: String,
        /// Refused: the data consumer is closed.
        accepted: bool,
    },
    /// → [`Response::Done`].
    CloseDataConsumer {
        /// Which.
        data_consumer_id: String,
    },
    /// The client has made its side of an offered consumer (or refused to).
    ConsumerReady {
        /// Which.
        consumer_id: String,
        /// Refused: the consumer is closed.
        accepted: bool,
    },
    /// → [`Response::Done`].
    CloseConsumer {
        /// Which.
        consumer_id: String,
    },
    /// → [`Response::Done`].
    PauseConsumer {
        /// Which.
        consumer_id: String,
    },
    /// → [`Response::Done`].
    ResumeConsumer {
        /// Which.
        consumer_id: String,
    },
    /// → [`Response::Done`].
    SetConsumerPreferredLayers {
        /// Which.
        consumer_id: String,
        /// The layers.
        layers: Layers,
    },
    /// → [`Response::Done`].
    SetConsumerPriority {
        /// Which.
        consumer_id: String,
        /// 1–255.
        priority: u8,
    },
    /// → [`Response::Done`].
    RequestConsumerKeyFrame {
        /// Which.
        consumer_id: String,
    },
    /// Watch the room from outside: a producer that carries what is to be heard or seen of it now,
    /// and that is there whoever comes and goes → [`Response::Viewed`].
    View {
        /// What of the room.
        of: ViewOf,
        /// Audio or video.
        kind: Kind,
    },
    /// Some of those who are in the room, with what they send → [`Response::Participants`].
    Participants {
        /// Only those after this one, by its id.
        after: Option<String>,
        /// At most so many.
        limit: usize,
        /// Only these, by their ids; who is not in the room is left out.
        only: Option<Vec<String>>,
    },
    /// → [`Response::Done`].
    ChangeDisplayName {
        /// The new one.
        display_name: String,
    },
    /// → [`Response::Stats`].
    Stats(StatsOf),
    /// A host's, in its room → [`Response::Done`].
    Host(HostAction),
    /// Of the delivery service of the room's MLS group → [`Response::Mls`].
    Mls(MlsRequest),
}

/// A peer as others see it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerInfo {
    /// Peer (participant) id.
    pub id: Arc<str>,
    /// Name to show.
    pub display_name: String,
    /// `{flag, name, version}`.
    pub device: JsonObject,
}

/// A room as whoever enters it finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// What one may do in it.
    pub can: Rights,
    /// Whether nobody else is let in.
    pub locked: bool,
    /// Whether newcomers wait for a host then.
    pub waiting_room: bool,
    /// Whether it is being recorded, or is about to be.
    pub recording: bool,
    /// Whether its voices go to a program outside, or are about to.
    pub tapped: bool,
    /// Whether someone in it is broadcast, or is about to be.
    pub pushed: bool,
    /// Whether those inside have an MLS group, whose keys encrypt what they send.
    pub has_mls: bool,
    /// What one had best send, for who asked.
    pub advice: Option<Arc<CodecAdvice>>,
}

/// The answer to a [`Request`].
pub enum Response {
    /// Nothing to say.
    Done,
    /// The room's capabilities.
    RouterRtpCapabilities(Arc<RtpCapabilities>),
    /// The peers that were there before.
    Joined {
        /// Without oneself.
        peers: Vec<Arc<PeerInfo>>,
        /// The room.
        entrance: Box<Entrance>,
    },
    /// A transport was made.
    Transport(TransportOptions),
    /// A transport without ICE and DTLS was made.
    PlainTransport(PlainTransport),
    /// New ICE credentials.
    Ice(IceParameters),
    /// A producer was made.
    Produced {
        /// Its id.
        producer_id: String,
    },
    /// A data producer was made.
    ProducedData {
        /// Its id.
        data_producer_id: String,
    },
    /// A data consumer was made.
    ConsumedData(Box<DataConsumerOptions>),
    /// A consumer was made.
    Consumed(Box<ConsumerOptions>),
    /// A view can be consumed.
    Viewed {
        /// By this producer.
        producer_id: String,
        /// How many producers of the room send anything now.
        sources: usize,
    },
    /// Statistics, one report for each transport and stream.
    Stats(Vec<StatsReport>),
    /// A page of a room.
    Participants {
        /// Without oneself, oldest first.
        participants: Vec<Sender>,
        /// What to ask for the rest after, if there is any.
        next: Option<Arc<str>>,
        /// How many are in the room.
        count: usize,
    },
    /// Of the delivery service.
    Mls(MlsAnswer),
}

/// A peer and what of it can be consumed.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The peer.
    pub peer: Arc<PeerInfo>,
    /// Its producers.
    pub producers: Vec<Offered>,
}

/// A producer that can be consumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// Which.
    pub producer_id: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows, in LiveKit's words.
    pub source: &'static str,
    /// Whether it is paused now.
    pub paused: bool,
    /// Whether it is encrypted end to end.
    pub encrypted: bool,
}

/// Who is on a slot of the stage.
#[derive(Debug, Clone)]
pub struct StagePlace {
    /// The slot's number, from 0; voices and pictures are numbered apart.
    pub slot: usize,
    /// Audio or video.
    pub kind: Kind,
    /// The producer of the stage, which stays the same.
    pub producer_id: String,
    /// Whose voice or picture it carries; nobody's.
    pub peer_id: Option<Arc<str>>,
    /// The name that one shows.
    pub display_name: Option<String>,
    /// Which producer of that one.
    pub source_producer_id: Option<String>,
    /// What that shows.
    pub source: Option<Source>,
}

/// Why a request failed. The text goes to the client and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RequestError {
    /// HTTP-like: 400 malformed, 403 not allowed now, 404 unknown id, 409 not as things are, or
    /// another came first, 429 limit, 500 ours, 503 no room on this server now.
    pub code: u16,
    /// One sentence.
    pub reason: String,
}

/// One consumer's quality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerScore {
    /// 0–10, of the stream to the client.
    pub score: u8,
    /// 0–10, of the encoding forwarded now.
    pub producer_score: u8,
    /// 0–10 of every encoding.
    pub producer_scores: Vec<u8>,
}

/// The quality of one encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncodingScore {
    /// Index, low to high.
    pub encoding_idx: usize,
    /// SSRC.
    pub ssrc: u32,
    /// RID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// 0–10.
    pub score: u8,
}

/// What a client is told without asking.
#[derive(Debug, Clone)]
pub enum Notification {
    /// Automatic mode: make this consumer and answer with [`Request::ConsumerReady`].
    NewConsumer(ConsumerOptions),
    /// On-request mode: this can be consumed.
    NewProducer {
        /// Who.
        peer_id: Arc<str>,
        /// Which.
        producer_id: String,
        /// Audio or video.
        kind: Kind,
        /// The producer's.
        app_data: JsonObject,
    },
    /// Automatic mode: make this data consumer and answer with [`Request::DataConsumerReady`].
    NewDataConsumer(Box<DataConsumerOptions>),
    /// On-request mode: this can be consumed.
    NewDataProducer {
        /// Who; nobody where the server does.
        peer_id: Option<Arc<str>>,
        /// Which.
        data_producer_id: String,
        /// The channel's label.
        label: String,
        /// Its sub-protocol.
        protocol: String,
        /// The producer's.
        app_data: JsonObject,
    },
    /// A data producer of another peer is gone.
    DataProducerClosed {
        /// Which.
        data_producer_id: String,
    },
    /// A data consumer of this client is gone: its producer is, or it read too slowly.
    DataConsumerClosed {
        /// Which.
        data_consumer_id: String,
    },
    /// Someone entered.
    NewPeer(Arc<PeerInfo>),
    /// Someone left.
    PeerClosed {
        /// Who.
        peer_id: Arc<str>,
    },
    /// Someone has another name.
    PeerDisplayNameChanged {
        /// Who.
        peer_id: Arc<str>,
        /// New.
        display_name: String,
        /// Old.
        old_display_name: String,
    },
    /// A producer of another peer is gone.
    ProducerClosed {
        /// Which.
        producer_id: String,
    },
    /// A consumer of this client is gone.
    ConsumerClosed {
        /// Which.
        consumer_id: String,
    },
    /// Its producer was paused.
    ConsumerPaused {
        /// Which.
        consumer_id: String,
    },
    /// Its producer was resumed.
    ConsumerResumed {
        /// Which.
        consumer_id: String,
    },
    /// What is being forwarded changed.
    ConsumerLayersChanged {
        /// Which.
        consumer_id: String,
        /// Nothing when none.
        layers: Option<Layers>,
    },
    /// Quality of a consumer of this client.
    ConsumerScore {
        /// Which.
        consumer_id: String,
        /// The scores.
        score: ConsumerScore,
    },
    /// Quality of a producer of this client.
    ProducerScore {
        /// Which.
        producer_id: String,
        /// Per encoding.
        score: Vec<EncodingScore>,
    },
    /// Nobody takes more than these encodings of a producer of this client: it may stop the others
    /// until it is told more. A client that goes on sending them does no harm.
    ProducerMaxSpatialLayer {
        /// Which.
        producer_id: String,
        /// Index of the highest encoding anyone would take, from 0. The lowest is always wanted.
        spatial_layer: u8,
    },
    /// Who speaks, loudest first, with the volume in dBov (-127–0). Empty: silence.
    Speakers(Arc<[(Arc<str>, i8)]>),
    /// The room has a stage, and this is who is on these slots of it; the others are as they were.
    Stage(Arc<[StagePlace]>),
    /// Quality of this client's connection as a whole.
    ConnectionQuality(ConnectionQuality),
    /// A producer of this client was muted or unmuted: while it is muted it is not forwarded, and
    /// cannot be resumed.
    ProducerMuted {
        /// Which.
        producer_id: String,
        /// Whether it is now.
        muted: bool,
        /// The host who did it; nothing for an administrator.
        by: Option<Arc<str>>,
    },
    /// The room was locked or unlocked.
    RoomLocked {
        /// Whether nobody else is let in now.
        locked: bool,
        /// Whether newcomers wait for a host then.
        waiting_room: bool,
        /// The host who did it; nothing for an administrator.
        by: Option<Arc<str>>,
    },
    /// The room is going to be recorded, or is no more.
    RecordingChanged {
        /// Which.
        recording: bool,
        /// When it begins, milliseconds from now.
        starts_in_ms: Option<u32>,
        /// Why it ended.
        reason: Option<&'static str>,
    },
    /// The room's voices are going to be handed to a program outside, or are no more.
    TapChanged {
        /// Which.
        tap: bool,
        /// When it begins, milliseconds from now.
        starts_in_ms: Option<u32>,
        /// Why it ended.
        reason: Option<&'static str>,
    },
    /// Someone in the room is going to be broadcast, or is no more.
    PushChanged {
        /// Which.
        push: bool,
        /// When it begins, milliseconds from now.
        starts_in_ms: Option<u32>,
        /// Why it ended.
        reason: Option<&'static str>,
    },
    /// What someone said, as a program outside understood it.
    Caption(Arc<Caption>),
    /// To hosts: someone waits to be let in, or shows another name now.
    PeerWaiting {
        /// Who.
        peer_id: Arc<str>,
        /// Name to show.
        display_name: String,
    },
    /// To hosts: someone waits no more: let in, sent away or gone.
    PeerWaitingEnded {
        /// Who.
        peer_id: Arc<str>,
    },
    /// This client has to wait until a host lets it in. What it asks to enter is served then.
    Waiting,
    /// It is let in.
    Admitted {
        /// The host who did it; nothing for an administrator.
        by: Option<Arc<str>>,
    },
    /// What can be sent to this client, all media together.
    DownlinkBandwidth(DownlinkBandwidth),
    /// What this client had best send has changed; only for who asked.
    CodecAdvice(Arc<CodecAdvice>),
    /// Of the delivery service.
    Mls(MlsNews),
}

/// What someone said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Who.
    pub peer_id: Arc<str>,
    /// Which of all that was said in this room: a later caption of the same number replaces this.
    pub utterance: u64,
    /// What.
    pub text: String,
    /// Whether it may still change.
    pub interim: bool,
    /// In which language (BCP 47), if that is known.
    pub language: Option<String>,
}

/// Bits per second of the way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownlinkBandwidth {
    /// What all that it consumes takes at its best.
    pub desired_bitrate: u32,
    /// The same within what the server sends a client at most.
    pub effective_desired_bitrate: u32,
    /// What the path is estimated to carry, within the same bound.
    pub available_bitrate: u32,
}

/// Bytes of a notification as JSON, but for what clients wrote into it.
const NOTIFICATION_BYTES: usize = 192;

impl Notification {
    /// About how many bytes it has as JSON: what it costs to keep and to send.
    pub fn size(&self) -> usize {
        let passed_on = match self {
            Notification::NewConsumer(options) => {
                options.app_data.size() + options.rtp_parameters.stream.size
            }
            Notification::NewProducer { app_data, .. } => app_data.size(),
            Notification::NewDataConsumer(options) => options.size(),
            Notification::NewDataProducer { label, protocol, app_data, .. } => {
                label.len() + protocol.len() + app_data.size()
            }
            Notification::NewPeer(peer) => peer.size(),
            Notification::PeerDisplayNameChanged { display_name, old_display_name, .. } => {
                display_name.len() + old_display_name.len()
            }
            Notification::Speakers(speakers) => speakers.len() * 48,
            Notification::CodecAdvice(_) => 512,
            Notification::Mls(news) => news.size(),
            Notification::PeerWaiting { peer_id, display_name } => {
                peer_id.len() + display_name.len()
            }
            Notification::Stage(places) => places.len() * 200,
            Notification::Caption(caption) => caption.peer_id.len() + caption.text.len(),
            _ => 0,
        };
        NOTIFICATION_BYTES + passed_on
    }
}

impl PeerInfo {
    /// About how many bytes it has as JSON.
    pub fn size(&self) -> usize {
        NOTIFICATION_BYTES + self.id.len() + self.display_name.len() + self.device.size()
    }
}

impl Response {
    /// About how many bytes it has as JSON.
    pub fn size(&self) -> usize {
        match self {
            Response::Joined { peers, .. } => {
                peers.iter().map(|peer| peer.size()).sum::<usize>() + NOTIFICATION_BYTES
            }
            Response::RouterRtpCapabilities(_) => 8_192,
            Response::Consumed(options) => {
                options.app_data.size() + options.rtp_parameters.stream.size
            }
            Response::Stats(reports) => reports.len() * 512,
            Response::Participants { participants, .. } => {
                participants.iter().map(|of| of.peer.size() + of.producers.len() * 96).sum()
            }
            Response::Transport(_) => 1_024,
            Response::Mls(answer) => answer.size(),
            Response::ConsumedData(options) => options.size(),
            Response::Done
            | Response::Ice(_)
            | Response::PlainTransport(_)
            | Response::Produced { .. }
            | Response::Viewed { .. }
            | Response::ProducedData { .. } => NOTIFICATION_BYTES,
        }
    }
}

/// Quality of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionQuality {
    /// No loss to speak of.
    Excellent,
    /// Some.
    Good,
    /// Much.
    Poor,
    /// Nothing arrives.
    Disconnected,
}

/// Why signaling must close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The same peer connected again.
    Replaced,
    /// Another session has this peer id, and is alive.
    PeerIdInUse,
    /// ICE consent was lost, or DTLS failed or was closed.
    TransportLost,
    /// An administrator removed the participant.
    Removed,
    /// A host did.
    RemovedByHost,
    /// The room is locked, and the participant is not in it.
    RoomLocked,
    /// No host has let it in.
    NotAdmitted,
    /// The data core that it was on is to go.
    CoreRemoved,
    /// The server stops.
    Shutdown,
}

/// What control says to signaling.
pub enum Output {
    /// A session is open: its requests are served from now on.
    Opened {
        /// Which.
        session: SessionId,
    },
    /// Another client claims to be the peer of this session: find out whether its client is still
    /// there, and say so with [`Control::challenge_answered`](crate::Control::challenge_answered).
    Challenge {
        /// Whose client.
        session: SessionId,
    },
    /// The answer to a request.
    Response {
        /// Whose.
        session: SessionId,
        /// Which request.
        token: Token,
        /// The answer.
        result: Result<Response, RequestError>,
    },
    /// News.
    Notification {
        /// For whom.
        session: SessionId,
        /// What.
        notification: Box<Notification>,
    },
    /// Close the connection; control has already forgotten the session.
    Close {
        /// Whose.
        session: SessionId,
        /// Why.
        reason: CloseReason,
        /// The host who did it, if one did.
        by: Option<Arc<str>>,
    },
}

impl Output {
    /// About how many bytes go to the client.
    pub fn size(&self) -> usize {
        match self {
            Output::Response { result: Ok(response), .. } => response.size(),
            Output::Notification { notification, .. } => notification.size(),
            _ => NOTIFICATION_BYTES,
        }
    }
}
