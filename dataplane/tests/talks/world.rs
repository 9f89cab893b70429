//! The stage: cores, clients, wires and a clock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::core::{Core, CoreConfig};
use opencall_dataplane::fanout::links::{Links, Mesh};
use opencall_dataplane::message::*;
use opencall_dataplane::records::Records;
use opencall_io::memory::{MemoryIo, Network};
use opencall_io::{Io, RxBatch, SocketId, TurnReport, TxBatch, Wait};
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp;
use opencall_wire::rtp::extension::{
    Extension, ExtensionForm, ExtensionIds, ExtensionSpans, HeaderWriter,
};
use opencall_wire::rtp::header::{OutgoingHeader, RtpHeader, csrcs, insert_csrcs, mark_padded};
use opencall_wire::srtp::{KeyingMaterial, OpenContext, Profile, SealContext};
use opencall_wire::time::{NtpTime, Time, WallClock};
use smallvec::{SmallVec, smallvec};
use stun_types::attribute::{RawAttribute, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageWrite, MessageWriteExt, MessageWriteVec,
    ShortTermCredentials,
};

/// Extension ids on both sides.
pub const MID: u8 = 1;
pub const RID: u8 = 2;
pub const REPAIRED_RID: u8 = 3;
pub const ABS_SEND_TIME: u8 = 4;
pub const TRANSPORT_CC: u8 = 5;
pub const DEPENDENCY_DESCRIPTOR: u8 = 6;

/// Payload types: the client's own when sending, the router's when receiving.
pub const SENT_PT: u8 = 96;
pub const SENT_RTX_PT: u8 = 97;
pub const ROUTER_PT: u8 = 101;
pub const ROUTER_RTX_PT: u8 = 102;

/// More than any talk sends to one client that is not about budgets.
const AMPLE_BITRATE_BPS: u32 = 1_000_000_000;

/// A DTLS record of the second epoch: what a Finished looks like to who has no keys.
pub const DTLS_ANSWER: [u8; 29] = {
    let mut record = [0x5a; 29];
    (record[0], record[1], record[2]) = (22, 0xfe, 0xfd);
    let mut index = 3;
    while index < 12 {
        record[index] = 0;
        index += 1;
    }
    (record[4], record[12]) = (1, 16);
    record
};

/// A DTLS record with a ClientHello, as far as its headers tell.
pub fn client_hello(len: usize) -> Vec<u8> {
    let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend(((len - 13) as u16).to_be_bytes());
    let body = ((len - 13 - 12) as u32).to_be_bytes();
    record.push(1);
    record.extend([&body[1..], &[0; 5], &body[1..]].concat());
    record.resize(len, 0x33);
    record
}

/// One turn of a core lasts so long here.
const STEP: Duration = Duration::from_millis(1);

struct Seat {
    core: Core,
    io: MemoryIo,
    rx: RxBatch,
    tx: TxBatch,
}

/// Cores, clients, wires and a clock.
pub struct World {
    pub now: Time,
    network: Network,
    seats: Vec<Seat>,
    mesh: Mesh,
    /// As control keeps them.
    pub records: Records,
    next_id: u64,
    pub events: Vec<Event>,
    /// Whether new clients carry data channels.
    pub data_channels: bool,
    /// How often the cores have taken something from the heap in their turns.
    pub allocations: u64,
    /// No core has room in its send arena.
    pub fill_arena: bool,
    /// What cores sent and no client has looked at yet.
    pub wire: Vec<(SocketAddr, Vec<u8>)>,
}

/// A packet as a client received and opened it.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub header: RtpHeader,
    pub csrcs: Vec<u32>,
    pub mid: Vec<u8>,
    pub transport_sequence: Option<u16>,
    /// Its dependency descriptor.
    pub descriptor: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// A client with one transport.
pub struct Client {
    pub transport: TransportId,
    pub core: CoreId,
    pub address: SocketAddr,
    pub ice: IceCredentials,
    pub seal: SealContext,
    pub open: OpenContext,
    /// A second receiver, for what is sealed and does not arrive.
    pub witness: OpenContext,
    /// The contributing sources of its packets.
    pub csrcs: Vec<u32>,
    /// The MID of its packets.
    pub mid: &'static [u8],
    /// An extension that its packets carry besides: id and value.
    pub extension: Option<(u8, Vec<u8>)>,
    /// By which ids it reads what it receives.
    pub ids: ExtensionIds,
    /// Added to sequence numbers, its transport-wide ones.
    pub transport_offset: u16,
    /// Per SSRC, the newest packet index.
    sent: HashMap<u32, u64>,
}

impl World {
    /// A world of `cores` data cores.
    pub fn new(cores: usize) -> Self {
        let network = Network::new();
        let seats = (0..cores)
            .map(|index| {
                let id = CoreId(index as u8);
                Seat {
                    core: empty_core(id, 7 + index as u64),
                    io: network.endpoint(&[server_address(id)]),
                    rx: RxBatch::new(),
                    tx: TxBatch::new(),
                }
            })
            .collect();
        World {
            now: Time::from_millis(10_000),
            network,
            seats,
            mesh: Mesh::default(),
            records: Records::default(),
            next_id: 1,
            events: Vec::new(),
            data_channels: false,
            allocations: 0,
            fill_arena: false,
            wire: Vec::new(),
        }
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn core(&self, id: CoreId) -> &Core {
        &self.seats[usize::from(id.0)].core
    }

    pub fn command(&mut self, core: CoreId, command: Command) {
        self.records.note(core, &command);
        self.carry(core, command);
    }

    /// Takes a command to a core.
    fn carry(&mut self, core: CoreId, command: Command) {
        let link = self.mesh.link_for(core, &command);
        for (core, command) in link.into_iter().flatten().chain([(core, command)]) {
            let seat = &mut self.seats[usize::from(core.0)];
            seat.core.command(self.now, command, &mut seat.tx);
            deliver(&mut seat.tx, &mut self.wire);
        }
    }

    /// A core dies, with what it has received and not looked at, and another takes its place as
    /// control has it do. Returns the dead one and what it had sealed and not sent.
    pub fn kill(&mut self, id: CoreId, seed: u64) -> (Core, Vec<(SocketAddr, Vec<u8>)>) {
        let seat = &mut self.seats[usize::from(id.0)];
        let dead = std::mem::replace(&mut seat.core, empty_core(id, seed));
        let mut unsent = Vec::new();
        deliver(&mut seat.tx, &mut unsent);
        seat.rx = RxBatch::new();
        self.mesh.forget(id).into_iter().for_each(|(core, command)| self.carry(core, command));
        let commands = self.records.replay(id);
        commands.into_iter().for_each(|(core, command)| self.carry(core, command));
        (dead, unsent)
    }

    /// One turn of a core, of which nothing leaves: it dies before that.
    pub fn turn_unsent(&mut self, id: CoreId) {
        let seat = &mut self.seats[usize::from(id.0)];
        seat.io.turn(&mut seat.tx, &mut seat.rx, Wait::Poll).unwrap();
        let Seat { core, rx, tx, .. } = seat;
        let _ = core.turn(self.now, rx, tx, &mut |_: &mut TxBatch| TurnReport::default());
    }

    /// What is counted of a client's transport.
    pub fn transport_stats(&mut self, client: &Client) -> TransportStats {
        let of = StatsQuery::Transport(client.transport);
        match self.query(client.core, of) {
            Stats::Transport(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    fn query(&mut self, core: CoreId, of: StatsQuery) -> Stats {
        let seat = &mut self.seats[usize::from(core.0)];
        seat.core.command(self.now, Command::QueryStats { token: 0, of }, &mut seat.tx);
        let mut answer = None;
        while let Some(event) = seat.core.poll_event() {
            match event {
                Event::Stats { stats: Some(stats), .. } => answer = Some(stats),
                other => self.events.push(other),
            }
        }
        *answer.expect("what is asked for is there")
    }

    /// What a core counts, its transports, producers and consumers included.
    pub fn core_stats(&mut self, id: CoreId) -> CoreStats {
        match self.query(id, StatsQuery::Core) {
            Stats::Core(stats) => *stats,
            _ => panic!("a core knows itself"),
        }
    }

    /// Lets control send a datagram of DTLS to a client.
    pub fn send_dtls(&mut self, client: &Client, datagram: &[u8]) {
        let (transport, datagram) = (client.transport, datagram.into());
        self.command(client.core, Command::SendDtls { transport, datagram });
    }

    /// Lets all cores take one turn and the clock one step.
    pub fn turn(&mut self) {
        for core in 0..self.seats.len() {
            self.turn_only(CoreId(core as u8));
        }
        self.now = self.now + STEP;
    }

    /// Lets one core take a turn while the others stall.
    pub fn turn_only(&mut self, core: CoreId) {
        let now = self.now;
        let seat = &mut self.seats[usize::from(core.0)];
        seat.io.turn(&mut seat.tx, &mut seat.rx, Wait::Poll).unwrap();
        let Seat { core, rx, tx, .. } = seat;
        // Datagrams to two addresses in turn are a train each, and there are so many trains.
        for index in (0..).take_while(|_| self.fill_arena) {
            let Some(room) = tx.reserve(1) else { break };
            room[0] = 0;
            tx.commit(1, SocketAddr::from(([198, 51, 100, 1], 1 + index % 2)), SocketId(0));
        }
        let mut flush = |tx: &mut TxBatch| {
            allocation_counter::opt_out(|| deliver(tx, &mut self.wire));
            TurnReport::default()
        };
        let allocations = allocation_counter::measure(|| {
            let _ = core.turn(now, rx, tx, &mut flush);
        });
        let allocations = allocations.count_total;
        self.allocations += allocations;
        self.events.extend(std::iter::from_fn(|| seat.core.poll_event()));
        deliver(&mut seat.tx, &mut self.wire);
    }

    /// Turns until `duration` has gone by.
    pub fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.turn();
        }
    }

    pub fn push(&self, from: SocketAddr, to: CoreId, bytes: &[u8]) {
        assert!(self.network.push(from, server_address(to), bytes), "nobody listens");
    }

    /// A client that has passed ICE and DTLS.
    pub fn join(&mut self, core: CoreId) -> Client {
        self.join_with(core, Profile::AeadAes128Gcm)
    }

    pub fn join_with(&mut self, core: CoreId, profile: Profile) -> Client {
        let (client, keys) = self.invite(core, profile, AMPLE_BITRATE_BPS);
        self.enter(&client, keys);
        client
    }

    /// A client that has passed ICE and DTLS, and is sent so many bits per second.
    pub fn join_with_budget(&mut self, core: CoreId, outgoing_bitrate_bps: u32) -> Client {
        let (client, keys) = self.invite(core, Profile::AeadAes128Gcm, outgoing_bitrate_bps);
        self.enter(&client, keys);
        client
    }

    /// Lets a client pass ICE and DTLS.
    pub fn enter(&mut self, client: &Client, keys: Box<KeyingMaterial>) {
        client.check(self, true);
        client.answer_handshake(self);
        self.turn();
        assert_eq!(client.raw(self).len(), 1, "the check is answered");
        self.events.retain(|event| !matches!(event, Event::Dtls { .. }));
        let transport = client.transport;
        self.command(client.core, Command::InstallSrtp { transport, keys });
    }

    /// A client that has sent nothing yet, and the keys its handshake will give.
    pub fn invite(
        &mut self,
        core: CoreId,
        profile: Profile,
        outgoing_bitrate_bps: u32,
    ) -> (Client, Box<KeyingMaterial>) {
        let number = self.id();
        let transport = TransportId(number);
        let ice = IceCredentials::generate(Some(core));
        let config = TransportConfig {
            id: transport,
            ice: ice.clone(),
            outgoing_bitrate_bps,
            data_channels: self.data_channels,
            owner: 0,
            checkpoint: Default::default(),
        };
        self.command(core, Command::CreateTransport(Box::new(config)));
        let address = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 5000));
        let keys = |byte: u8| {
            let bytes = |len: usize| zeroize::Zeroizing::new(vec![byte ^ number as u8; len]);
            (bytes(profile.key_len()), bytes(profile.salt_len()))
        };
        let ((remote_key, remote_salt), (local_key, local_salt)) = (keys(0x11), keys(0x77));
        let material = KeyingMaterial { profile, remote_key, remote_salt, local_key, local_salt };
        let client = Client {
            transport,
            core,
            address,
            ice,
            seal: SealContext::new(profile, &material.remote_key, &material.remote_salt).unwrap(),
            open: OpenContext::new(profile, &material.local_key, &material.local_salt).unwrap(),
            witness: OpenContext::new(profile, &material.local_key, &material.local_salt).unwrap(),
            csrcs: Vec::new(),
            mid: b"0",
            extension: None,
            ids: received_ids(),
            transport_offset: 0,
            sent: HashMap::new(),
        };
        (client, Box::new(material))
    }

    /// Makes `client` produce; SSRCs are announced for a single encoding, RIDs are used for more.
    pub fn produce(&mut self, client: &Client, kind: MediaKind, ssrcs: &[u32]) -> ProducerConfig {
        self.produce_as(b"0", client, kind, ssrcs)
    }

    /// The same under a MID.
    pub fn produce_as(
        &mut self,
        mid: &[u8],
        client: &Client,
        kind: MediaKind,
        ssrcs: &[u32],
    ) -> ProducerConfig {
        let codec = if kind == MediaKind::Audio { Codec::Opus } else { Codec::Vp8 };
        let simulcast = ssrcs.len() > 1;
        let encodings: SmallVec<[EncodingConfig; 3]> = ssrcs
            .iter()
            .enumerate()
            .map(|(index, &ssrc)| EncodingConfig {
                rid: simulcast.then(|| ShortId::from_slice(format!("r{index}").as_bytes())),
                ssrc: (!simulcast).then_some(ssrc),
                rtx_ssrc: (!simulcast).then_some(ssrc + 1),
                max_bitrate_bps: None,
            })
            .collect();
        let mut extensions = ExtensionIds::default();
        extensions.set(Extension::Mid, MID);
        extensions.set(Extension::Rid, RID);
        extensions.set(Extension::RepairedRid, REPAIRED_RID);
        extensions.set(Extension::TransportCc, TRANSPORT_CC);
        extensions.set(Extension::DependencyDescriptor, DEPENDENCY_DESCRIPTOR);
        let config = ProducerConfig {
            id: ProducerId(self.id()),
            origin: Origin::Transport(client.transport),
            home: client.core,
            kind,
            mid: Some(ShortId::from_slice(mid)),
            payload_types: smallvec![PayloadTypeMapping {
                incoming: SENT_PT,
                incoming_rtx: Some(SENT_RTX_PT),
                router: ROUTER_PT,
                codec,
                clock_rate_hz: if kind == MediaKind::Audio { 48_000 } else { 90_000 },
            }],
            encodings,
            extensions,
            feedback: Feedback { nack: true, pli: true, transport_cc: true, ..Feedback::default() },
            paused: false,
            checkpoint: Default::default(),
        };
        self.command(client.core, Command::CreateProducer(Box::new(config.clone())));
        config
    }

    /// Makes `client` consume, through a pipe if the producer lives on another core.
    pub fn consume(&mut self, client: &Client, source: &ProducerConfig) -> ConsumerConfig {
        let feedback = Feedback { nack: true, pli: true, ..Feedback::default() };
        self.consume_with(client, source, feedback)
    }

    /// The same by a client that gives other feedback.
    pub fn consume_with(
        &mut self,
        client: &Client,
        source: &ProducerConfig,
        feedback: Feedback,
    ) -> ConsumerConfig {
        if source.home != client.core {
            self.command(client.core, Command::CreateProducer(Box::new(source.clone())));
            let (producer, to) = (source.id, client.core);
            self.command(source.home, Command::OpenPipe { producer, to });
        }
        self.consume_here_with(client, source, feedback)
    }

    /// Makes `client` consume what has reached its core.
    pub fn consume_here(&mut self, client: &Client, source: &ProducerConfig) -> ConsumerConfig {
        let feedback = Feedback { nack: true, pli: true, ..Feedback::default() };
        self.consume_here_with(client, source, feedback)
    }

    fn consume_here_with(
        &mut self,
        client: &Client,
        source: &ProducerConfig,
        feedback: Feedback,
    ) -> ConsumerConfig {
        let mut extensions = ExtensionIds::default();
        extensions.set(Extension::Mid, MID);
        extensions.set(Extension::AbsSendTime, ABS_SEND_TIME);
        extensions.set(Extension::TransportCc, TRANSPORT_CC);
        extensions.set(Extension::DependencyDescriptor, DEPENDENCY_DESCRIPTOR);
        let number = self.id();
        let config = ConsumerConfig {
            id: ConsumerId(number),
            transport: client.transport,
            producer: source.id,
            mid: ShortId::from_slice(number.to_string().as_bytes()),
            ssrc: 0x5000_0000 + number as u32 * 2,
            rtx_ssrc: Some(0x5000_0001 + number as u32 * 2),
            payload_types: smallvec![AcceptedPayloadType {
                router: ROUTER_PT,
                sent: ROUTER_PT,
                rtx: Some(ROUTER_RTX_PT),
                red: None,
            }],
            cname: "peer".into(),
            extensions,
            feedback,
            paused: false,
            preferred_layers: None,
            checkpoint: Default::default(),
        };
        self.command(client.core, Command::CreateConsumer(Box::new(config.clone())));
        config
    }
}

/// By which ids clients read what they receive, unless a test says otherwise.
fn received_ids() -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    ids.set(Extension::Mid, MID);
    ids.set(Extension::TransportCc, TRANSPORT_CC);
    ids.set(Extension::DependencyDescriptor, DEPENDENCY_DESCRIPTOR);
    ids
}

fn empty_core(id: CoreId, seed: u64) -> Core {
    let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
    Core::new(CoreConfig { id, clock, seed, links: Links::default() })
}

pub fn server_address(core: CoreId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(core.0)))
}

/// A video packet to send: VP8 with picture id and TL0PICIDX.
#[derive(Debug, Clone, Copy)]
pub struct Video {
    pub ssrc: u32,
    pub rid: Option<&'static [u8]>,
    pub sequence: u16,
    pub timestamp: u32,
    pub picture_id: u16,
    pub key: bool,
}

impl Video {
    /// The first bytes are a VP8 descriptor with X, I (15 bits), L, S; then a payload header whose
    /// lowest bit says inter frame (RFC 7741 section 4.2 and 4.3).
    pub fn payload(&self) -> Vec<u8> {
        let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
        let mut payload = vec![0x90, 0xc0, high, low, self.picture_id as u8];
        payload.push(u8::from(!self.key));
        payload.extend_from_slice(&[0x5a; 3]);
        if self.key {
            payload.extend_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
        payload.extend((0..100).map(|i| i as u8 ^ self.sequence as u8));
        payload
    }
}

impl Client {
    /// Sends a binding check, nominating or not.
    pub fn check(&self, world: &World, nominate: bool) {
        world.push(self.address, self.core, &self.check_bytes(nominate));
    }

    /// Sends what answers a DTLS flight of ours.
    pub fn answer_handshake(&self, world: &World) {
        world.push(self.address, self.core, &DTLS_ANSWER);
    }

    /// A binding check, with a transaction of its own.
    pub fn check_bytes(&self, nominate: bool) -> Vec<u8> {
        let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
        let username = Username::new(&format!("{}:client", self.ice.ufrag)).unwrap();
        message.add_attribute(&username).unwrap();
        let mut attributes = vec![(0x0024, vec![0x6e, 0x7f, 0x1e, 0xff]), (0x802a, vec![7; 8])];
        if nominate {
            attributes.push((0x0025, Vec::new()));
        }
        for (kind, value) in &attributes {
            message.add_attribute(&RawAttribute::new((*kind).into(), value)).unwrap();
        }
        let credentials = ShortTermCredentials::new(self.ice.pwd.clone()).into();
        message.add_message_integrity(&credentials, IntegrityAlgorithm::Sha1).unwrap();
        message.add_fingerprint().unwrap();
        message.finish()
    }

    /// The same with the padding bit set: `payload` ends with padding.
    pub fn sealed_padded(
        &mut self,
        fields: OutgoingHeader,
        rid: Option<&[u8]>,
        payload: &[u8],
    ) -> Vec<u8> {
        self.seal(fields, rid, payload, true)
    }

    /// An RTP packet as it goes over the wire.
    pub fn sealed(
        &mut self,
        fields: OutgoingHeader,
        rid: Option<&[u8]>,
        payload: &[u8],
    ) -> Vec<u8> {
        self.seal(fields, rid, payload, false)
    }

    /// Values of more than 16 bytes need the longer form (RFC 8285 section 4.2).
    fn form(&self) -> ExtensionForm {
        match &self.extension {
            Some((_, value)) if value.len() > 16 => ExtensionForm::TwoByte,
            _ => ExtensionForm::OneByte,
        }
    }

    fn seal(
        &mut self,
        fields: OutgoingHeader,
        rid: Option<&[u8]>,
        payload: &[u8],
        padded: bool,
    ) -> Vec<u8> {
        let mut out = vec![0; 2000];
        let mut writer = HeaderWriter::new(&mut out, fields, self.form()).unwrap();
        writer = writer.extension(MID, self.mid);
        if let Some(rid) = rid {
            writer = writer.extension(RID, rid);
        }
        let transport = fields.sequence.wrapping_add(self.transport_offset);
        writer = writer.extension(TRANSPORT_CC, &transport.to_be_bytes());
        if let Some((id, value)) = &self.extension {
            writer = writer.extension(*id, value);
        }
        let mut header_len = writer.finish().unwrap();
        if !self.csrcs.is_empty() {
            let csrcs: Vec<u8> = self.csrcs.iter().flat_map(|csrc| csrc.to_be_bytes()).collect();
            header_len = insert_csrcs(&mut out, header_len, &csrcs).unwrap();
        }
        if padded {
            mark_padded(&mut out);
        }
        // Tests that wrap around wrap once at most per 32768 packets, as RFC 3711 wants it.
        let index = self.sent.entry(fields.ssrc).or_insert(u64::from(fields.sequence));
        let step = fields.sequence.wrapping_sub(*index as u16) as i16;
        *index = index.wrapping_add_signed(step.into());
        let len = self.seal.seal_rtp(*index, header_len, payload, &mut out).unwrap();
        out.truncate(len);
        out
    }

    pub fn send_video(&mut self, world: &World, video: Video) {
        let payload = video.payload();
        self.send_payload(world, video, &payload);
    }

    /// Sends a packet of a frame with a payload of its own.
    pub fn send_payload(&mut self, world: &World, video: Video, payload: &[u8]) {
        let packet = self.sealed_payload(video, payload);
        world.push(self.address, self.core, &packet);
    }

    /// A packet of a frame as it goes over the wire.
    pub fn sealed_video(&mut self, video: Video) -> Vec<u8> {
        self.sealed_payload(video, &video.payload())
    }

    fn sealed_payload(&mut self, video: Video, payload: &[u8]) -> Vec<u8> {
        let fields = OutgoingHeader {
            marker: true,
            payload_type: SENT_PT,
            sequence: video.sequence,
            timestamp: video.timestamp,
            ssrc: video.ssrc,
        };
        self.sealed(fields, video.rid, payload)
    }

    pub fn send_rtcp(&mut self, world: &World, write: impl FnOnce(&mut rtcp::Writer<'_>)) {
        let packet = self.sealed_rtcp(write);
        world.push(self.address, self.core, &packet);
    }

    /// An RTCP packet as it goes over the wire.
    pub fn sealed_rtcp(&mut self, write: impl FnOnce(&mut rtcp::Writer<'_>)) -> Vec<u8> {
        let mut out = vec![0; 2000];
        let mut writer = rtcp::Writer::new(&mut out);
        write(&mut writer);
        let len = writer.finish();
        let len = self.seal.seal_rtcp(&mut out, len).unwrap();
        out.truncate(len);
        out
    }

    /// Sends a compound that is written already.
    pub fn send_compound(&mut self, world: &World, compound: &[u8]) {
        let mut out = compound.to_vec();
        out.resize(compound.len() + 32, 0);
        let len = self.seal.seal_rtcp(&mut out, compound.len()).unwrap();
        world.push(self.address, self.core, &out[..len]);
    }

    /// Takes what was sent to this client, as it is.
    pub fn raw(&self, world: &mut World) -> Vec<Vec<u8>> {
        let address = self.address;
        world.wire.extract_if(.., |(to, _)| *to == address).map(|(_, bytes)| bytes).collect()
    }

    /// What was sent to this client, as it is, left where it is.
    pub fn peek(&self, world: &World) -> Vec<Vec<u8>> {
        let to_us = world.wire.iter().filter(|(to, _)| *to == self.address);
        to_us.map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Takes what was sent to this client: RTP opened and parsed, RTCP compounds in plain text.
    pub fn receive(&mut self, world: &mut World) -> (Vec<Received>, Vec<Vec<u8>>) {
        let (mut media, mut control) = (Vec::new(), Vec::new());
        for bytes in self.raw(world) {
            let (packet, compound) = self.opened(bytes);
            media.extend(packet);
            control.extend(compound);
        }
        (media, control)
    }

    /// A datagram opened: RTP, an RTCP compound, or neither.
    pub fn opened(&mut self, mut bytes: Vec<u8>) -> (Option<Received>, Option<Vec<u8>>) {
        match opencall_dataplane::demux::classify(&bytes).unwrap() {
            opencall_dataplane::demux::PacketClass::Rtp => (Some(self.open_rtp(&mut bytes)), None),
            opencall_dataplane::demux::PacketClass::Rtcp => {
                let len = self.open.open_rtcp(&mut bytes).expect("authentic RTCP");
                bytes.truncate(len);
                (None, Some(bytes))
            }
            // The answer to a check.
            opencall_dataplane::demux::PacketClass::Stun => (None, None),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn open_rtp(&mut self, bytes: &mut [u8]) -> Received {
        let header = RtpHeader::parse(bytes).unwrap();
        let header_len = usize::from(header.header_len);
        let opened = self
            .open
            .open_rtp(bytes, header.ssrc, header.sequence, header_len)
            .expect("authentic RTP");
        let bytes = &bytes[..opened.len];
        let spans = ExtensionSpans::parse(bytes, &header, &self.ids);
        Received {
            descriptor: spans.of(Extension::DependencyDescriptor, bytes).map(<[u8]>::to_vec),
            csrcs: csrcs(bytes)
                .as_chunks()
                .0
                .iter()
                .map(|csrc| u32::from_be_bytes(*csrc))
                .collect(),
            mid: spans.of(Extension::Mid, bytes).unwrap_or_default().to_vec(),
            transport_sequence: spans
                .of(Extension::TransportCc, bytes)
                .and_then(|value| Some(u16::from_be_bytes(*value.first_chunk()?))),
            payload: bytes[header.payload_range(bytes).unwrap()].to_vec(),
            header,
        }
    }

    /// Media only.
    pub fn media(&mut self, world: &mut World) -> Vec<Received> {
        self.receive(world).0
    }
}

/// Takes the datagrams of a batch to the wire.
fn deliver(tx: &mut TxBatch, wire: &mut Vec<(SocketAddr, Vec<u8>)>) {
    for train in tx.trains() {
        for segment in tx.bytes(train).chunks(usize::from(train.segment_size)) {
            wire.push((train.destination, segment.to_vec()));
        }
    }
    tx.clear();
}
