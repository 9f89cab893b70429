//! A core with clients round it, in memory: one publishes, the others watch.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::core::{Core, CoreConfig};
use opencall_dataplane::fanout::links;
use opencall_dataplane::message::{
    AcceptedPayloadType, Command, ConsumerConfig, ConsumerId, CoreId, EncodingConfig, Feedback,
    IceCredentials, Origin, PayloadTypeMapping, ProducerConfig, ProducerId, ShortId,
    TransportConfig, TransportId,
};
use opencall_io::memory::{MemoryIo, Network};
use opencall_io::{Io, RxBatch, TurnReport, TxBatch, Wait};
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::Writer;
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::rtp::{ExtensionForm, HeaderWriter, OutgoingHeader};
use opencall_wire::srtp::{KeyingMaterial, Profile, SealContext};
use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::Checker;
use opencall_wire::time::{NtpTime, Time, WallClock};
use smallvec::smallvec;
use zeroize::Zeroizing;

use crate::{AUDIO_PACKET_LEN, VIDEO_PACKET_LEN};

/// Extension ids, on both sides.
pub(crate) const MID: u8 = 1;
pub(crate) const ABS_SEND_TIME: u8 = 4;
pub(crate) const TRANSPORT_CC: u8 = 5;
const AUDIO_LEVEL: u8 = 6;

pub(crate) const CORE: CoreId = CoreId(0);
pub(crate) const PRODUCER: ProducerId = ProducerId(1);
pub(crate) const SOURCE_SSRC: u32 = 0x1111_0000;
const SENT_PT: u8 = 96;
const ROUTER_PT: u8 = 101;

/// Media SSRCs of consumers count from here, by two: RTX has the odd ones.
const CONSUMER_SSRCS: u32 = 0x5000_0000;

/// Time between two turns with media: 25 of them are a second, so that what is done once a second
/// is done once in so many runs.
const FRAME_INTERVAL: Duration = Duration::from_millis(40);

/// Time between two checks of each client, well within the 30 s after which nothing more is sent.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A client with ICE and keys in place.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) check: Vec<u8>,
    pub(crate) seal: SealContext,
}

/// One core, its clients and a clock.
pub(crate) struct Stage {
    pub(crate) core: Core,
    pub(crate) now: Time,
    pub(crate) tx: TxBatch,
    rx: RxBatch,
    io: MemoryIo,
    network: Network,
    publisher: Client,
    source: Source,
    watchers: Vec<Client>,
    /// When the clients last said that they may be sent to.
    checked: Time,
}

/// One encoding of a client, and how far it has come.
pub(crate) struct Source {
    kind: MediaKind,
    ssrc: u32,
    /// Packets sent.
    sent: u64,
    frames: u64,
}

impl Stage {
    /// A publisher of `kind` and so many that watch it, all under `profile`; fewer than a receive
    /// batch has places.
    pub(crate) fn new(profile: Profile, kind: MediaKind, watchers: usize) -> Self {
        let feedback = Feedback { nack: true, pli: true, ..Feedback::default() };
        Stage::with_feedback(profile, kind, watchers, feedback)
    }

    /// The same whose watchers give this feedback.
    pub(crate) fn with_feedback(
        profile: Profile,
        kind: MediaKind,
        watchers: usize,
        feedback: Feedback,
    ) -> Self {
        let network = Network::new();
        let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
        let links = links::connect(1).pop().expect("one core");
        let core = Core::new(CoreConfig { id: CORE, clock, seed: 7, links });
        let io = network.endpoint(&[server_address()]);
        let mut stage = Stage {
            core,
            now: Time::from_millis(10_000),
            tx: TxBatch::new(),
            rx: RxBatch::new(),
            io,
            network,
            publisher: client(profile, 0),
            source: Source::new(kind, SOURCE_SSRC),
            watchers: (1..=watchers).map(|number| client(profile, number)).collect(),
            checked: Time::ZERO,
        };
        for number in 0..=watchers {
            stage.join(profile, number);
        }
        stage.check();
        stage.prove();
        let producer = producer(kind);
        stage.command(Command::CreateProducer(Box::new(producer)));
        for number in 1..=watchers {
            let config = ConsumerConfig { feedback, ..consumer(number) };
            stage.command(Command::CreateConsumer(Box::new(config)));
        }
        // A key frame first: consumers wait for it.
        stage.receive_frame(1);
        stage.turn();
        stage
    }

    /// Begins a turn with nothing received.
    pub(crate) fn clear(&mut self) {
        self.now = self.now + FRAME_INTERVAL;
        if self.now.since(self.checked) >= CHECK_INTERVAL {
            self.check();
        }
        while self.core.poll_event().is_some() {}
        self.tx.clear();
    }

    /// Lets the publisher's next frame arrive, in so many packets.
    pub(crate) fn receive_frame(&mut self, packets: usize) {
        self.clear();
        for index in 0..packets {
            let (first, last) = (index == 0, index + 1 == packets);
            let packet = self.source.packet(&mut self.publisher.seal, first, last);
            self.network.push(self.publisher.address, server_address(), &packet);
        }
        self.arrive();
    }

    /// Lets these datagrams of a watcher arrive.
    pub(crate) fn receive_from_watcher(&mut self, watcher: usize, datagrams: &[Vec<u8>]) {
        self.clear();
        for datagram in datagrams {
            self.network.push(self.watchers[watcher].address, server_address(), datagram);
        }
        self.arrive();
    }

    /// What a core's thread does in a turn, but for the system calls.
    pub(crate) fn turn(&mut self) {
        let mut forget = |tx: &mut TxBatch| {
            tx.clear();
            TurnReport::default()
        };
        let _ = self.core.turn(self.now, &mut self.rx, &mut self.tx, &mut forget);
    }

    /// A watcher.
    pub(crate) fn watcher(&mut self, watcher: usize) -> &mut Client {
        &mut self.watchers[watcher]
    }

    /// The media SSRC that a watcher receives.
    pub(crate) fn watched_ssrc(watcher: usize) -> u32 {
        CONSUMER_SSRCS + 2 * (watcher as u32 + 1)
    }

    /// Packets that the publisher has sent and the core has taken.
    pub(crate) fn received(&self) -> u64 {
        let dropped: u64 = self.core.stats().drops.iter().map(|(_, count)| count).sum();
        self.source.sent - dropped
    }

    fn arrive(&mut self) {
        let report = self.io.turn(&mut self.tx, &mut self.rx, Wait::Poll);
        report.expect("memory is always there");
    }

    fn command(&mut self, command: Command) {
        self.core.command(self.now, command, &mut self.tx);
    }

    fn join(&mut self, profile: Profile, number: usize) {
        let id = TransportId(number as u64);
        let ice = credentials(number);
        let config = TransportConfig {
            id,
            ice,
            outgoing_bitrate_bps: 10_000_000,
            data_channels: false,
            owner: 0,
            checkpoint: Default::default(),
        };
        self.command(Command::CreateTransport(Box::new(config)));
        let keys = Box::new(keys(profile, number));
        self.command(Command::InstallSrtp { transport: id, keys });
    }

    /// Lets all clients check their connection, as they do every few seconds.
    fn check(&mut self) {
        self.checked = self.now;
        for client in std::iter::once(&self.publisher).chain(&self.watchers) {
            self.network.push(client.address, server_address(), &client.check);
        }
        self.tx.clear();
        self.arrive();
        self.turn();
    }
}

impl Stage {
    /// Lets all clients report, which proves that they are where they check from.
    fn prove(&mut self) {
        for client in std::iter::once(&mut self.publisher).chain(&mut self.watchers) {
            self.network.push(client.address, server_address(), &client.report());
        }
        self.tx.clear();
        self.arrive();
        self.turn();
    }
}

impl Client {
    /// A receiver report on nothing, sealed.
    pub(crate) fn report(&mut self) -> Vec<u8> {
        let mut out = vec![0; 64];
        let mut writer = Writer::new(&mut out);
        writer.receiver_report(1, &[]).expect("there is room");
        let len = writer.finish();
        let len = self.seal.seal_rtcp(&mut out, len).expect("there is room");
        out.truncate(len);
        out
    }
}

impl Source {
    /// One that has sent nothing.
    pub(crate) fn new(kind: MediaKind, ssrc: u32) -> Self {
        Source { kind, ssrc, sent: 0, frames: 0 }
    }

    /// The SSRC it sends with.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The next packet, sealed: the `first` or the `last` of its frame, or both.
    pub(crate) fn packet(&mut self, seal: &mut SealContext, first: bool, last: bool) -> Vec<u8> {
        self.sent += 1;
        let sequence = self.sent as u16;
        let fields = OutgoingHeader {
            marker: last,
            payload_type: SENT_PT,
            sequence,
            timestamp: self.frames as u32 * 3000,
            ssrc: self.ssrc,
        };
        let mut out = vec![0; 1500];
        let writer = HeaderWriter::new(&mut out, fields, ExtensionForm::OneByte);
        let mut writer = writer.expect("there is room").extension(MID, b"0");
        writer = writer.extension(TRANSPORT_CC, &sequence.to_be_bytes());
        if self.kind == MediaKind::Audio {
            writer = writer.extension(AUDIO_LEVEL, &[0x9e]);
        }
        let header_len = writer.finish().expect("there is room");
        let payload = match self.kind {
            MediaKind::Audio => vec![0x78; AUDIO_PACKET_LEN - header_len],
            MediaKind::Video => self.vp8(first, VIDEO_PACKET_LEN - header_len),
        };
        let len = seal.seal_rtp(self.sent, header_len, &payload, &mut out);
        out.truncate(len.expect("header and index agree and there is room"));
        self.frames += u64::from(last);
        out
    }

    /// A VP8 payload with picture id and TL0PICIDX (RFC 7741): the first frame is a key frame.
    fn vp8(&self, first: bool, len: usize) -> Vec<u8> {
        let [high, low] = (self.frames as u16 | 0x8000).to_be_bytes();
        let begins = if first { 0x90 } else { 0x80 };
        let is_key = self.frames == 0;
        let mut payload = vec![begins, 0xc0, high, low, self.frames as u8, u8::from(!is_key)];
        payload.extend_from_slice(&[0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        payload.resize(len, 0x5a);
        payload
    }
}

pub(crate) fn server_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

pub(crate) fn credentials(number: usize) -> IceCredentials {
    IceCredentials { ufrag: format!("{number:010}"), pwd: format!("{number:024}") }
}

/// A nominating check of a client, as browsers write it.
fn check_of(number: usize) -> Vec<u8> {
    let IceCredentials { ufrag, pwd } = credentials(number);
    Checker::new(&ufrag, &pwd, "client", u64::from_be_bytes([7; 8]))
        .request(TransactionId(*b"transaction!"))
}

pub(crate) fn client(profile: Profile, number: usize) -> Client {
    let keys = keys(profile, number);
    let seal = SealContext::new(profile, &keys.remote_key, &keys.remote_salt);
    Client {
        address: SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 5000)),
        check: check_of(number),
        seal: seal.expect("lengths are the profile's"),
    }
}

/// A client's keys: any, but others for each client and direction.
pub(crate) fn keys(profile: Profile, number: usize) -> KeyingMaterial {
    let bytes = |byte: u8, len| Zeroizing::new(vec![byte ^ number as u8; len]);
    KeyingMaterial {
        profile,
        remote_key: bytes(0x11, profile.key_len()),
        remote_salt: bytes(0x22, profile.salt_len()),
        local_key: bytes(0x33, profile.key_len()),
        local_salt: bytes(0x44, profile.salt_len()),
    }
}

pub(crate) fn producer(kind: MediaKind) -> ProducerConfig {
    let mut extensions = ExtensionIds::default();
    extensions.set(Extension::Mid, MID);
    extensions.set(Extension::TransportCc, TRANSPORT_CC);
    extensions.set(Extension::AudioLevel, AUDIO_LEVEL);
    let (codec, clock_rate_hz) = match kind {
        MediaKind::Audio => (Codec::Opus, 48_000),
        MediaKind::Video => (Codec::Vp8, 90_000),
    };
    ProducerConfig {
        id: PRODUCER,
        origin: Origin::Transport(TransportId(0)),
        home: CORE,
        kind,
        mid: Some(ShortId::from_slice(b"0")),
        payload_types: smallvec![PayloadTypeMapping {
            incoming: SENT_PT,
            incoming_rtx: Some(SENT_PT + 1),
            router: ROUTER_PT,
            codec,
            clock_rate_hz,
        }],
        encodings: smallvec![EncodingConfig {
            rid: None,
            ssrc: Some(SOURCE_SSRC),
            rtx_ssrc: Some(SOURCE_SSRC + 1),
            max_bitrate_bps: None,
        }],
        extensions,
        feedback: Feedback { nack: true, pli: true, transport_cc: true, ..Feedback::default() },
        paused: false,
        checkpoint: Default::default(),
    }
}

/// A consumer with all that browsers ask for.
pub(crate) fn consumer(number: usize) -> ConsumerConfig {
    let mut extensions = ExtensionIds::default();
    extensions.set(Extension::Mid, MID);
    extensions.set(Extension::AbsSendTime, ABS_SEND_TIME);
    extensions.set(Extension::TransportCc, TRANSPORT_CC);
    extensions.set(Extension::AudioLevel, AUDIO_LEVEL);
    let ssrc = CONSUMER_SSRCS + 2 * number as u32;
    ConsumerConfig {
        id: ConsumerId(number as u64),
        transport: TransportId(number as u64),
        producer: PRODUCER,
        mid: ShortId::from_slice(b"1"),
        ssrc,
        rtx_ssrc: Some(ssrc + 1),
        payload_types: smallvec![AcceptedPayloadType {
            router: ROUTER_PT,
            sent: ROUTER_PT,
            rtx: Some(ROUTER_PT + 1),
            red: None,
        }],
        cname: "publisher".into(),
        extensions,
        feedback: Feedback { nack: true, pli: true, ..Feedback::default() },
        paused: false,
        preferred_layers: None,
        checkpoint: Default::default(),
    }
}
