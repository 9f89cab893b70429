//! The stage: cores, clients, what control has made, and a clock.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::core::{Core, CoreConfig};
use opencall_dataplane::fanout::links::{self, Links};
use opencall_dataplane::ice::agent::UNPROVEN_FACTOR;
use opencall_dataplane::message::*;
use opencall_io::memory::{MemoryIo, Network};
use opencall_io::{Io, RxBatch, TurnReport, TxBatch, Wait};
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{ReportBlock, SenderInfo, Writer};
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::rtp::red::{MAX_REPETITION_BYTES, RedPayload, write_repeating};
use opencall_wire::rtp::{ExtensionForm, HeaderWriter, OutgoingHeader, RtpHeader};
use opencall_wire::srtp::Profile;
use opencall_wire::time::{NtpTime, Time, WallClock};
use smallvec::SmallVec;

use super::client::{Client, DTLS_ANSWER, Promise, address, credentials, essence};
use crate::input::Input;

/// Clients in the room.
const CLIENTS: u8 = 3;

/// Producers and consumers one script makes at most, each.
const STREAMS: usize = 24;

/// Longest payload sent.
const PAYLOAD: usize = 1200;

/// Extension ids of the router.
const MID: u8 = 1;
/// Payload types: the client's own when sending, the router's when receiving.
const SENT_PT: u8 = 96;
const SENT_RTX_PT: u8 = 97;
/// RED (RFC 2198), sent and received.
pub const RED_PT: u8 = 63;
const ROUTER_PT: u8 = 101;
const ROUTER_RTX_PT: u8 = 102;

const CODECS: [Codec; 8] = [
    Codec::Vp8,
    Codec::Opus,
    Codec::Vp9,
    Codec::H264,
    Codec::Av1,
    Codec::Opaque,
    Codec::Vp8,
    Codec::Vp8,
];

thread_local! {
    // Their memory is large and survives a run; their content does not.
    static BATCHES: RefCell<(RxBatch, TxBatch)> = RefCell::new((RxBatch::new(), TxBatch::new()));
    static LINKS: Cell<Vec<Links>> = const { Cell::new(Vec::new()) };
}

struct Seat {
    core: Core,
    io: MemoryIo,
    pushed: u64,
}

pub struct World {
    now: Time,
    network: Network,
    seats: Vec<Seat>,
    clients: Vec<Client>,
    producers: Vec<(u8, ProducerConfig)>,
    consumers: Vec<(u8, ConsumerConfig)>,
    /// What any client has sent, less what forwarding may change.
    payloads: HashSet<Vec<u8>>,
    profile: Profile,
    setting: u8,
    next_id: u64,
    credits: Credits,
}

/// What may be sent to addresses from which nothing authentic has come.
#[derive(Default)]
struct Credits(HashMap<SocketAddr, Credit>);

#[derive(Default)]
struct Credit {
    received: usize,
    sent: usize,
    proven: bool,
}

impl Credits {
    fn received(&mut self, from: SocketAddr, len: usize) {
        self.0.entry(from).or_default().received += len;
    }

    fn proven(&mut self, at: SocketAddr) {
        self.0.entry(at).or_default().proven = true;
    }

    fn sent(&mut self, to: SocketAddr, len: usize) {
        let credit = self.0.entry(to).or_default();
        credit.sent += len;
        let most = UNPROVEN_FACTOR as usize * credit.received;
        assert!(credit.proven || credit.sent <= most, "too much for an address of a stranger");
    }
}

impl World {
    /// A room in which client 0 sends video and client 1 audio, and the others get both.
    pub fn new(shape: u8, setting: u8) -> Self {
        let network = Network::new();
        let cores = if shape & 1 == 1 { 2 } else { 1 };
        let links = if cores == 1 { vec![Links::default()] } else { rings(cores) };
        let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
        let seats = (0u8..)
            .zip(links)
            .map(|(index, links)| Seat {
                core: Core::new(CoreConfig { id: CoreId(index), clock, seed: 7, links }),
                io: network.endpoint(&[server(CoreId(index))]),
                pushed: 0,
            })
            .collect();
        let profile = match shape >> 1 & 3 {
            0 | 3 => Profile::AeadAes128Gcm,
            1 => Profile::AesCm128HmacSha1_80,
            _ => Profile::AeadAes256Gcm,
        };
        let mut world = World {
            now: Time::from_millis(10_000),
            network,
            seats,
            clients: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            payloads: HashSet::new(),
            profile,
            setting,
            next_id: 1,
            credits: Credits::default(),
        };
        (0..CLIENTS).for_each(|number| world.join(number));
        world.produce(0, shape >> 3);
        world.produce(1, 1);
        for consumer in 0..CLIENTS {
            world.consume(consumer, 0);
        }
        world.consume(2, 1);
        world.turn(Duration::from_millis(1));
        world
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Lets a client pass ICE and DTLS, in the place of the one with its number.
    fn join(&mut self, number: u8) {
        let core = CoreId(number % self.seats.len() as u8);
        let id = self.id();
        let (mut client, keys) = Client::new(number, id, core, self.profile);
        self.command(core, Command::CreateTransport(Box::new(client.config())));
        let (transport, address) = (client.transport, client.address);
        client.addresses.insert(address);
        let check = client.check(false, false, true);
        match self.clients.get_mut(usize::from(number)) {
            Some(place) => *place = client,
            None => self.clients.push(client),
        }
        self.push(core, address, &check);
        self.push(core, address, &DTLS_ANSWER);
        self.turn(Duration::ZERO);
        self.credits.proven(address);
        self.command(core, Command::InstallSrtp { transport, keys: Box::new(keys) });
    }

    fn command(&mut self, core: CoreId, command: Command) {
        let (now, core) = (self.now, &mut self.seats[usize::from(core.0)].core);
        BATCHES.with_borrow_mut(|(_, tx)| {
            core.command(now, command, tx);
            assert!(tx.is_empty(), "only DTLS is written at once");
        });
    }

    fn push(&mut self, core: CoreId, from: SocketAddr, bytes: &[u8]) {
        if self.network.push(from, server(core), bytes) {
            self.credits.received(from, bytes.len());
            self.seats[usize::from(core.0)].pushed += 1;
        }
    }

    fn client(&mut self, which: u8) -> &mut Client {
        &mut self.clients[usize::from(which % CLIENTS)]
    }

    fn push_from(&mut self, which: u8, bytes: &[u8]) {
        let (core, address) = (self.client(which).core, self.client(which).address);
        self.push(core, address, bytes);
    }

    /// Lets time pass, then lets each core take a turn.
    pub fn turn(&mut self, duration: Duration) {
        self.now = self.now + duration;
        let now = self.now;
        for index in 0..self.seats.len() {
            BATCHES.with_borrow_mut(|(rx, tx)| {
                let seat = &mut self.seats[index];
                seat.io.turn(tx, rx, Wait::Poll).expect("memory never fails");
                let mut flush = |tx: &mut TxBatch| {
                    deliver_all(&mut self.clients, &mut self.credits, &self.payloads, tx);
                    TurnReport::default()
                };
                let _ = seat.core.turn(now, rx, tx, &mut flush);
                assert!(seat.core.next_timeout() > now, "what was due is done");
                assert_eq!(seat.core.stats().datagrams_received, seat.pushed);
                while let Some(event) = seat.core.poll_event() {
                    check_event(&event, now);
                }
                deliver_all(&mut self.clients, &mut self.credits, &self.payloads, tx);
            });
        }
    }

    /// Forgets everything, and then nothing must be left.
    pub fn close(&mut self) {
        for (_, producer) in std::mem::take(&mut self.producers) {
            for core in 0..self.seats.len() {
                self.command(CoreId(core as u8), Command::CloseProducer(producer.id));
            }
        }
        for index in 0..self.clients.len() {
            let (core, transport) = (self.clients[index].core, self.clients[index].transport);
            self.command(core, Command::CloseTransport(transport));
        }
        self.now = self.now + Duration::from_secs(100);
        for seat in &mut self.seats {
            let query = Command::QueryStats { token: 0, of: StatsQuery::Core };
            BATCHES.with_borrow_mut(|(_, tx)| seat.core.command(self.now, query, tx));
            let last = std::iter::from_fn(|| seat.core.poll_event()).last();
            let Some(Event::Stats { stats: Some(stats), .. }) = last else { panic!("no answer") };
            let Stats::Core(stats) = *stats else { panic!("another answer") };
            assert_eq!((stats.transports, stats.producers, stats.consumers), (0, 0, 0));
            BATCHES.with_borrow_mut(|(rx, tx)| {
                seat.io.turn(tx, rx, Wait::Poll).expect("memory never fails");
                let _ = seat.core.turn(self.now, rx, tx, &mut |_: &mut TxBatch| panic!("full"));
                assert!(tx.is_empty(), "there is nobody to talk to");
            });
            assert_eq!(seat.core.next_timeout(), Time::NEVER);
        }
        if self.seats.len() > 1 {
            let links = self.seats.iter_mut().map(|seat| std::mem::take(seat.core.links()));
            LINKS.set(links.collect());
        }
    }

    /// Makes a client produce.
    pub fn produce(&mut self, which: u8, shape: u8) {
        if self.producers.len() >= STREAMS {
            return;
        }
        let number = which % CLIENTS;
        let (transport, home) = (self.client(which).transport, self.client(which).core);
        let id = self.id();
        let codec = CODECS[usize::from(shape & 7)];
        let kind = if codec == Codec::Opus { MediaKind::Audio } else { MediaKind::Video };
        let simulcast = shape & 8 != 0 && kind == MediaKind::Video;
        let encodings: SmallVec<[EncodingConfig; 3]> = (0..if simulcast { 3u32 } else { 1 })
            .map(|index| EncodingConfig {
                rid: simulcast.then(|| rid(index as u8)),
                ssrc: (!simulcast).then_some(media_ssrc(id, 0)),
                rtx_ssrc: (!simulcast).then_some(media_ssrc(id, 0) + 1),
                max_bitrate_bps: (shape & 16 != 0).then_some(100_000 << index),
            })
            .collect();
        let config = ProducerConfig {
            id: ProducerId(id),
            origin: Origin::Transport(transport),
            home,
            kind,
            mid: Some(ShortId::from_slice(&id.to_be_bytes()[6..])),
            payload_types: payload_types(codec, kind),
            encodings,
            extensions: self.extensions(),
            feedback: self.feedback_of(self.setting),
            paused: false,
            checkpoint: Default::default(),
        };
        self.command(home, Command::CreateProducer(Box::new(config.clone())));
        self.producers.push((number, config));
    }

    /// Makes a client consume, through a pipe if the producer lives on another core.
    pub fn consume(&mut self, which: u8, of: u8) {
        if self.consumers.len() >= STREAMS || self.producers.is_empty() {
            return;
        }
        let (_, source) = self.producers[usize::from(of) % self.producers.len()].clone();
        let core = self.client(which).core;
        if source.home != core {
            self.command(core, Command::CreateProducer(Box::new(source.clone())));
            let (producer, to) = (source.id, core);
            self.command(source.home, Command::OpenPipe { producer, to });
        }
        let id = self.id();
        let ssrc = 0x5000_0000 + id as u32 * 2;
        let rtx_ssrc = (self.setting & 1 == 0).then_some(ssrc + 1);
        let mid = id.to_string().into_bytes();
        let (sent, sent_rtx) = match self.setting & 4 {
            0 => (ROUTER_PT, ROUTER_RTX_PT),
            _ => (ROUTER_RTX_PT, ROUTER_PT),
        };
        let mid_id = MID + if self.setting & 2 == 0 { 0 } else { 20 };
        let config = ConsumerConfig {
            id: ConsumerId(id),
            transport: self.client(which).transport,
            producer: source.id,
            mid: ShortId::from_slice(&mid),
            ssrc,
            rtx_ssrc,
            payload_types: SmallVec::from_slice(&[AcceptedPayloadType {
                router: ROUTER_PT,
                sent,
                rtx: Some(sent_rtx),
                red: (self.setting & 8 == 0).then_some(RED_PT),
            }]),
            cname: "peer".into(),
            extensions: self.extensions(),
            feedback: self.feedback_of(self.setting.rotate_left(3)),
            paused: false,
            preferred_layers: None,
            checkpoint: Default::default(),
        };
        self.command(core, Command::CreateConsumer(Box::new(config.clone())));
        let promises = &mut self.client(which).promises;
        let promise = |payload_type, rtx| Promise {
            mid: mid.clone(),
            payload_types: vec![payload_type, RED_PT],
            rtx,
            mid_id,
        };
        promises.insert(ssrc, promise(sent, false));
        if rtx_ssrc.is_some() {
            promises.insert(ssrc + 1, promise(sent_rtx, true));
        }
        self.consumers.push((which % CLIENTS, config));
    }

    fn extensions(&self) -> ExtensionIds {
        let mut ids = ExtensionIds::default();
        let offset = if self.setting & 2 == 0 { 0 } else { 20 };
        for (id, extension) in (1u8..).zip(Extension::ALL) {
            ids.set(extension, id + offset);
        }
        ids
    }

    fn feedback_of(&self, bits: u8) -> Feedback {
        Feedback {
            nack: bits & 4 == 0,
            pli: bits & 8 == 0,
            fir: true,
            remb: bits & 16 == 0,
            transport_cc: bits & 32 == 0,
        }
    }

    /// An authentic packet of a producer.
    pub fn media(&mut self, input: &mut Input<'_>) {
        let (of, flags, delta) = (input.byte(), input.byte(), input.byte() as i8);
        let (elapsed, payload) = (input.u16(), input.bytes());
        if self.producers.is_empty() {
            return;
        }
        let (which, source) = self.producers[usize::from(of) % self.producers.len()].clone();
        let encoding = flags >> 6;
        let rtx = flags & 0x20 != 0;
        let mut bytes = payload[..payload.len().min(PAYLOAD)].to_vec();
        if flags & 0x10 == 0 {
            bytes = picture(source.payload_types[0].codec, flags & 1 == 0, &bytes);
        }
        self.payloads.insert(essence(&bytes).to_vec());
        let is_red = source.kind == MediaKind::Audio && elapsed & 1 != 0 && !rtx;
        if is_red {
            bytes = red(&bytes, elapsed);
        }
        if rtx {
            self.payloads.insert(essence(bytes.get(2..).unwrap_or_default()).to_vec());
        }
        let fields = OutgoingHeader {
            marker: flags & 2 == 0,
            payload_type: match (rtx, is_red) {
                (true, _) => SENT_RTX_PT,
                (false, true) => RED_PT,
                (false, false) => SENT_PT,
            },
            sequence: 1000,
            timestamp: (self.now.as_millis() as u32).wrapping_mul(90).wrapping_add(elapsed.into()),
            ssrc: media_ssrc(source.id.0, encoding) + u32::from(rtx),
        };
        let ids = source.extensions;
        let id = |extension| ids.id(extension).unwrap_or(1);
        let mut plain = vec![0; 100];
        let form =
            if self.setting & 2 == 0 { ExtensionForm::OneByte } else { ExtensionForm::TwoByte };
        let mut writer = HeaderWriter::new(&mut plain, fields, form).expect("room");
        if flags & 4 == 0 {
            let kind = if rtx { Extension::RepairedRid } else { Extension::Rid };
            writer = writer.extension(id(Extension::Mid), source.mid.as_deref().unwrap_or(b"?"));
            writer = writer.extension(id(kind), &rid(encoding));
        }
        writer = writer
            .extension(id(Extension::TransportCc), &elapsed.to_be_bytes())
            .extension(id(Extension::AudioLevel), &[flags]);
        if flags & 8 != 0 {
            writer = writer.padded();
        }
        let len = writer.finish().expect("room");
        plain.truncate(len);
        plain.extend(bytes);
        self.send_plain(which, plain, delta);
    }

    /// Any packet, authentic nevertheless.
    pub fn raw_media(&mut self, input: &mut Input<'_>) {
        let (which, delta, plain) = (input.byte(), input.byte() as i8, input.bytes());
        self.send_plain(which, plain[..plain.len().min(PAYLOAD)].to_vec(), delta);
    }

    fn send_plain(&mut self, which: u8, plain: Vec<u8>, delta: i8) {
        let Some(header) = RtpHeader::parse(&plain) else { return };
        if let Some(range) = header.payload_range(&plain) {
            let payload = &plain[range];
            self.payloads.insert(essence(payload).to_vec());
            self.payloads.insert(essence(payload.get(2..).unwrap_or_default()).to_vec());
            if let Some(red) = RedPayload::parse(payload) {
                let blocks = red.repetitions().iter().chain([&red.own]);
                self.payloads.extend(blocks.map(|block| essence(&payload[block.range()]).to_vec()));
            }
        }
        let Some(sealed) = self.client(which).seal_rtp(plain, delta) else { return };
        self.push_authentic(which, &sealed);
    }

    /// RTCP as a client means it.
    pub fn feedback(&mut self, input: &mut Input<'_>) {
        let (which, kind) = (input.byte(), input.below(8));
        let (back, number) = (input.byte(), input.u32());
        let received = &self.client(which).received;
        let newest = received.iter().rev().nth(usize::from(back)).copied();
        let (ssrc, sequence) = newest.unwrap_or((number, number as u16));
        let now = self.now;
        let of = self.producers.get(usize::from(back) % self.producers.len().max(1));
        let sends = of.map_or(number, |(_, config)| media_ssrc(config.id.0, back & 3));
        let block = ReportBlock {
            ssrc,
            fraction_lost: back,
            cumulative_lost: number.cast_signed(),
            highest_sequence: number.rotate_left(7),
            jitter: number,
            last_sr: number.rotate_left(16),
            delay_since_last_sr: number & 0xffff,
        };
        let info = SenderInfo {
            ntp: NtpTime(u64::from(number) << 20 | now.as_micros()),
            rtp_timestamp: number.rotate_left(8),
            packets: 1,
            octets: 2,
        };
        let mut out = vec![0; 1200];
        let mut writer = Writer::new(&mut out);
        let written = match kind {
            0 => writer.nack(1, ssrc, [sequence].into_iter()),
            1 => {
                let from = sequence.wrapping_sub(back.into());
                writer.nack(1, ssrc, (0..u16::from(back)).map(|n| from.wrapping_add(n)))
            }
            2 => writer.pli(1, ssrc),
            3 => writer.fir(1, ssrc, number as u8),
            4 => writer.receiver_report(1, &[block]),
            5 => writer.sender_report(sends, &info, &[block, block]),
            6 => writer.remb(1, number.into(), &[ssrc]),
            _ => {
                let delta = i32::from(number as i16);
                let arrivals = [Some(delta), None, Some(3), Some(i32::from(back))];
                writer.transport_cc(1, ssrc, back, sequence, delta, &arrivals)
            }
        };
        written.expect("room");
        let len = writer.finish();
        out.truncate(len);
        self.send_rtcp(which, out);
    }

    /// Any RTCP, authentic nevertheless.
    pub fn raw_feedback(&mut self, input: &mut Input<'_>) {
        let (which, plain) = (input.byte(), input.bytes());
        self.send_rtcp(which, plain[..plain.len().min(PAYLOAD)].to_vec());
    }

    fn send_rtcp(&mut self, which: u8, plain: Vec<u8>) {
        let Some(sealed) = self.client(which).seal_rtcp(plain) else { return };
        self.push_authentic(which, &sealed);
    }

    /// Sends what proves where a client is.
    fn push_authentic(&mut self, which: u8, bytes: &[u8]) {
        let address = self.client(which).address;
        self.credits.proven(address);
        self.push_from(which, bytes);
    }

    /// Anything, from a client's address.
    pub fn datagram(&mut self, which: u8, bytes: &[u8]) {
        self.push_from(which, bytes);
    }

    /// Anything, from where nobody has passed a check: nothing is ever sent there.
    pub fn stranger(&mut self, input: &mut Input<'_>) {
        let (which, bytes) = (input.byte(), input.bytes());
        let core = self.client(which).core;
        let from = SocketAddr::from(([203, 0, 113, which], 6000));
        self.push(core, from, bytes);
        let forged = self.client(which).check(false, true, true);
        self.push(core, from, &forged);
    }

    /// A check of a client, perhaps from another address.
    pub fn check(&mut self, input: &mut Input<'_>) {
        let (which, flags) = (input.byte(), input.byte());
        let client = self.client(which);
        let from = address(client.number, flags >> 4);
        let forged = flags & 0x08 != 0;
        let check = client.check(flags & 1 != 0, forged, flags & 2 != 0);
        if !forged {
            client.addresses.insert(from);
            client.address = if flags & 4 != 0 { from } else { client.address };
        }
        let core = client.core;
        self.push(core, from, &check);
    }

    pub fn tell_consumer(&mut self, which: u8, command: impl FnOnce(ConsumerId) -> Command) {
        let index = usize::from(which) % self.consumers.len().max(1);
        let Some((client, config)) = self.consumers.get(index) else { return };
        let (core, command) = (self.clients[usize::from(*client)].core, command(config.id));
        self.command(core, command);
    }

    pub fn tell_producer(&mut self, which: u8, command: impl Fn(ProducerId) -> Command) {
        let index = usize::from(which) % self.producers.len().max(1);
        let Some((_, config)) = self.producers.get(index) else { return };
        let (id, home) = (config.id, config.home);
        self.command(home, command(id));
        // Far ends are told of what concerns them; whether they are matters not to the home core.
        for core in 0..self.seats.len() as u8 {
            if CoreId(core) != home && which & 0x80 == 0 {
                self.command(CoreId(core), command(id));
            }
        }
    }

    pub fn tell_transport(&mut self, which: u8, command: impl FnOnce(TransportId) -> Command) {
        let (core, transport) = (self.client(which).core, self.client(which).transport);
        self.command(core, command(transport));
    }

    pub fn close_pipe(&mut self, which: u8) {
        let to = CoreId(which >> 7);
        let index = usize::from(which) % self.producers.len().max(1);
        let Some((_, config)) = self.producers.get(index) else { return };
        let (producer, home) = (config.id, config.home);
        self.command(home, Command::ClosePipe { producer, to });
    }

    pub fn restart_ice(&mut self, which: u8) {
        let generation = self.id() as u8;
        let client = self.client(which);
        let ice = credentials(client.transport.0, generation);
        client.old_ice = Some(std::mem::replace(&mut client.ice, ice.clone()));
        self.tell_transport(which, |transport| Command::RestartIce { transport, ice });
    }

    /// A client leaves and comes back, from the same address.
    pub fn rejoin(&mut self, which: u8) {
        // What is under way is for the old transport.
        self.turn(Duration::ZERO);
        self.tell_transport(which, Command::CloseTransport);
        let number = which % CLIENTS;
        self.join(number);
        self.consumers.retain(|(owner, _)| *owner != number);
    }

    pub fn send_dtls(&mut self, which: u8, datagram: &[u8]) {
        let mut bytes = vec![0x16, 0xfe, 0xfd];
        bytes.extend(&datagram[..datagram.len().min(PAYLOAD)]);
        bytes.resize(bytes.len().max(13), 0);
        let client = &mut self.clients[usize::from(which % CLIENTS)];
        let core = &mut self.seats[usize::from(client.core.0)].core;
        BATCHES.with_borrow_mut(|(_, tx)| {
            let datagram = bytes.as_slice().into();
            let command = Command::SendDtls { transport: client.transport, datagram };
            core.command(self.now, command, tx);
            client.dtls.insert(bytes);
            for train in tx.trains() {
                self.credits.sent(train.destination, train.len as usize);
                assert!(client.addresses.contains(&train.destination));
                assert!(client.dtls.contains(tx.bytes(train)));
            }
            tx.clear();
        });
    }
}

/// The rings of the last run, emptied, or new ones.
fn rings(cores: usize) -> Vec<Links> {
    let mut all = LINKS.take();
    if all.len() != cores {
        return links::connect(cores);
    }
    for links in &mut all {
        while links.has_work() {
            (0..cores).for_each(|core| _ = links.take(core));
            links.release();
        }
        links.take_wake().for_each(drop);
    }
    all
}

fn server(core: CoreId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(core.0)))
}

/// What a client sends; voices also repeated.
fn payload_types(codec: Codec, kind: MediaKind) -> SmallVec<[PayloadTypeMapping; 2]> {
    let is_voice = kind == MediaKind::Audio;
    let media = PayloadTypeMapping {
        incoming: SENT_PT,
        incoming_rtx: Some(SENT_RTX_PT),
        router: ROUTER_PT,
        codec,
        clock_rate_hz: if is_voice { 48_000 } else { 90_000 },
    };
    let red =
        PayloadTypeMapping { incoming: RED_PT, incoming_rtx: None, codec: Codec::Red, ..media };
    [Some(media), is_voice.then_some(red)].into_iter().flatten().collect()
}

/// A payload of RED: one that a client writes, or whatever there is.
fn red(bytes: &[u8], elapsed: u16) -> Vec<u8> {
    let mut out = vec![0; 2 * PAYLOAD + 8];
    let before = (u32::from(elapsed), &bytes[..bytes.len().min(MAX_REPETITION_BYTES)]);
    match write_repeating(&mut out, SENT_PT, before, bytes) {
        Some(len) if elapsed & 2 == 0 => out[..len].to_vec(),
        _ => bytes.to_vec(),
    }
}

fn media_ssrc(producer: u64, encoding: u8) -> u32 {
    0x1000_0000 + producer as u32 * 16 + u32::from(encoding) * 2
}

fn rid(index: u8) -> ShortId {
    ShortId::from_slice(&[b'r', b'0' + index])
}

/// A payload that begins a picture of its codec, with `bytes` behind.
fn picture(codec: Codec, key: bool, bytes: &[u8]) -> Vec<u8> {
    let head: &[u8] = match (codec, key) {
        (Codec::Vp8, true) => &[0x90, 0xe0, 0x80, 0x01, 0x02, 0x00, 0x00, 0x9d, 0x01, 0x2a],
        (Codec::Vp8, false) => &[0x90, 0xe0, 0x80, 0x02, 0x03, 0x20, 0x01],
        (Codec::Vp9, true) => &[0x8c, 0x80, 0x01],
        (Codec::Vp9, false) => &[0xcc, 0x80, 0x02],
        (Codec::H264, true) => &[0x65, 0x88],
        (Codec::H264, false) => &[0x41, 0x9a],
        (Codec::Av1, true) => &[0x18, 0x0a, 0x01],
        (Codec::Av1, false) => &[0x10, 0x32],
        _ => &[],
    };
    [head, bytes].concat()
}

fn deliver_all(
    clients: &mut [Client],
    credits: &mut Credits,
    payloads: &HashSet<Vec<u8>>,
    tx: &mut TxBatch,
) {
    for train in tx.trains() {
        for segment in tx.bytes(train).chunks(train.segment_size.into()) {
            credits.sent(train.destination, segment.len());
            deliver(clients, payloads, train.destination, segment);
        }
    }
    tx.clear();
}

/// Who is sent a datagram has passed a check from there.
fn deliver(
    clients: &mut [Client],
    payloads: &HashSet<Vec<u8>>,
    destination: SocketAddr,
    datagram: &[u8],
) {
    let client = clients.iter_mut().find(|client| client.addresses.contains(&destination));
    let client = client.unwrap_or_else(|| panic!("{destination} has passed no check"));
    client.receive(datagram, payloads);
}

fn check_event(event: &Event, now: Time) {
    match event {
        Event::Dtls { datagram, .. } => assert!(datagram.len() >= 13),
        Event::ProducerScore { scores, .. } => {
            assert!(!scores.is_empty() && scores.iter().all(|&(_, score)| score <= 10));
        }
        Event::ConsumerScore { score, .. } => assert!(*score <= 10),
        Event::EncodingsWanted { count, .. } => assert!(*count <= 3),
        Event::LayersChanged { layers, .. } => assert!(layers.is_none_or(|l| l.spatial < 3)),
        Event::Bandwidth { bandwidth, .. } => {
            assert!(bandwidth.available_bps > 0);
        }
        Event::Overload { ceiling_bps } => assert!(ceiling_bps.is_none_or(|bps| bps > 0)),
        Event::AudioLevel { levels_dbov, .. } => {
            assert!(levels_dbov.iter().all(|dbov| (-127..=0).contains(dbov)));
        }
        Event::Stats { stats: Some(stats), .. } => match &**stats {
            Stats::Core(stats) => assert_eq!(stats.at, now),
            Stats::Producer(streams) => assert!(streams.iter().all(|s| s.score <= 10)),
            Stats::Consumer(stream) => assert!(stream.score <= 10),
            Stats::Transport(_) => {}
        },
        Event::Stats { stats: None, .. }
        | Event::Ice { .. }
        | Event::StageTaken { .. }
        | Event::StageRefused { .. } => {}
    }
}
