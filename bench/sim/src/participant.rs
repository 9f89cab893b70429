//! One participant: its connection, its transports, what it sends and what it receives. It does
//! what a well-behaved client does, over wires that are not.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opencall_control::api::*;
use opencall_control::dtls::{DtlsContext, Role};
use opencall_control::rtp_parameters::{Kind, RtpCapabilities};
use opencall_dataplane::egress::prober::PROBATOR_SSRC;
use opencall_testkit::camera::Track;
use opencall_testkit::feedback::Arrivals;
use opencall_testkit::leg::{Incoming, Leg, Refused};
use opencall_testkit::receiver::{Arrived, Receiver};
use opencall_testkit::wire::Wire;
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::extension::{Extension, ExtensionSpans};
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::{NtpTime, Time};
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::agenda::Agenda;
use crate::server::Call;

/// How often a participant looks at its clock.
pub const TICK: Duration = Duration::from_millis(20);

/// Ticks between two frames of its cameras and packets of its voice; between two of its feedback;
/// between two of its reports.
const FRAME_TICKS: u64 = 5;
const FEEDBACK_TICKS: u64 = 5;
const REPORT_TICKS: u64 = 50;

/// When a datagram was sent, and by which of the cores that come one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// Cores that died before in the place of the one that sent it.
    pub life: u32,
}

/// What is to happen in a meeting.
pub enum What {
    /// A call reaches control.
    Call(Call),
    /// A datagram reaches a core's socket.
    ToCore {
        /// From where.
        from: SocketAddr,
        /// To where.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// A datagram reaches a client's address.
    ToClient {
        /// Where.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
        /// When it was sent, and by which core.
        sent: Sent,
    },
    /// Something reaches a participant from control, over its connection of this number.
    Output(usize, u32, Box<Output>),
    /// A participant looks at its clock.
    Tick(usize),
    /// A participant connects.
    Connect(usize),
    /// Somebody does something.
    Action,
    /// A data core dies.
    Death,
}

/// What surrounds a participant.
pub struct Around<'a> {
    /// The time.
    pub now: Time,
    /// The same for DTLS.
    pub instant: Instant,
    /// All dice of the meeting.
    pub dice: &'a mut StdRng,
    /// What is to happen.
    pub agenda: &'a mut Agenda<What>,
    /// The certificate of the clients.
    pub dtls: &'a DtlsContext,
    /// What clients can receive.
    pub capabilities: &'a RtpCapabilities,
    /// The last number given to an address, a track or a request.
    pub numbers: &'a mut Numbers,
}

/// Numbers that are given once.
#[derive(Default)]
pub struct Numbers {
    addresses: u32,
    tracks: u32,
    tokens: u64,
}

impl Numbers {
    fn address(&mut self) -> SocketAddr {
        self.addresses += 1;
        let [_, b, c, d] = self.addresses.to_be_bytes();
        SocketAddr::from(([10, b, c, d], 5_000))
    }

    fn track(&mut self) -> u32 {
        self.tracks += 1;
        self.tracks
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }
}

/// What a request was about.
enum Asked {
    Other,
    Transport(Direction),
    Produce(usize),
    Consume(String),
    PauseProducer(usize, bool),
    PauseConsumer(String, bool),
    CloseConsumer(u32),
    RestartIce(usize),
}

/// A transport.
pub struct Path {
    /// Its direction.
    pub direction: Direction,
    /// The client's side.
    pub leg: Leg,
    arrivals: Arrivals,
}

/// A track that is sent.
pub struct Source {
    /// Its encoders.
    pub track: Track,
    /// The producer's id, once there is one.
    pub producer: Option<String>,
    asked: bool,
    /// Whether the client wants it paused.
    pub paused: bool,
    /// Since when the server knows that it is paused.
    pub paused_since: Option<Time>,
}

/// A stream that is received.
pub struct Subscription {
    /// What its client makes of it.
    pub receiver: Receiver,
    /// The producer's id.
    pub producer: String,
    /// Who produces.
    pub peer: Arc<str>,
    /// Whether the client wants it paused.
    pub paused: bool,
    /// Since when the server knows that it is paused.
    pub paused_since: Option<Time>,
    /// Whether its producer is paused.
    pub producer_paused: bool,
    /// Of a stage: when its client was told last whether it is on that slot itself.
    pub told_at: Time,
    /// Whether the path has no room for it, as far as the client was told.
    pub is_left_out: bool,
}

/// What a participant is allowed to receive under an SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It subscribes.
    Subscribed,
    /// It asked the server to stop then, and was answered.
    EndedAt(Time),
    /// It has asked for something, and cannot know yet.
    Asked,
    /// It never asked.
    Never,
}

/// A packet that a participant has opened.
pub struct Media {
    /// The packet.
    pub arrived: Arrived,
    /// Whether its client may have it.
    pub standing: Standing,
}

/// See the module.
pub struct Participant {
    /// Its index, and its room.
    pub number: u32,
    /// Its room.
    pub room: u32,
    /// Its peer id.
    pub name: String,
    /// How its consumers come to be.
    pub mode: ConsumeMode,
    /// Counts its connections.
    pub connection: u32,
    /// Whether it wants no connection any more.
    has_left: bool,
    /// Its session, once open.
    pub session: Option<SessionId>,
    /// Whether it has entered the room.
    pub joined: bool,
    /// Its transports.
    pub paths: Vec<Path>,
    /// What it sends.
    pub sources: Vec<Source>,
    /// What it receives, by consumer id.
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Producers that it was told of (on request).
    pub known: BTreeSet<String>,
    /// Producers that it does not want.
    pub declined: BTreeSet<String>,
    ended: HashMap<u32, Time>,
    asked: HashMap<Token, Asked>,
    /// From it to the server.
    pub up: Wire,
    /// From the server to it.
    pub down: Wire,
    signaling_delay: Duration,
    call_at: Time,
    output_at: Time,
    ticks: u64,
    wall: NtpTime,
}

impl Participant {
    /// A participant that has not connected.
    pub fn new(number: u32, room: u32, wires: (Wire, Wire), dice: &mut StdRng) -> Self {
        let automatic = dice.random_bool(0.5);
        Participant {
            number,
            room,
            name: format!("peer{number}"),
            mode: if automatic { ConsumeMode::Automatic } else { ConsumeMode::OnRequest },
            connection: 0,
            has_left: false,
            session: None,
            joined: false,
            paths: Vec::new(),
            sources: Vec::new(),
            subscriptions: BTreeMap::new(),
            known: BTreeSet::new(),
            declined: BTreeSet::new(),
            ended: HashMap::new(),
            asked: HashMap::new(),
            up: wires.0,
            down: wires.1,
            signaling_delay: Duration::from_millis(dice.random_range(1..80)),
            call_at: Time::ZERO,
            output_at: Time::ZERO,
            ticks: 0,
            // Nobody's clock is right.
            wall: NtpTime(dice.random_range(0xe000_0000..0xe100_0000_u64) << 32),
        }
    }

    /// Begins a new connection; what was before is forgotten without a word.
    pub fn connect(&mut self, around: &mut Around<'_>) {
        self.forget();
        self.connection += 1;
        self.has_left = false;
        let config = SessionConfig {
            room: format!("room{}", self.room),
            peer: self.name.clone(),
            consume_mode: self.mode,
            grants: Grants::default(),
            display_name: None,
            can_wait: true,
        };
        let index = self.number as usize;
        self.call(around, Call::Open(index, self.connection, Box::new(config)));
    }

    /// Forgets all of its connection.
    pub fn forget(&mut self) {
        self.session = None;
        self.joined = false;
        self.paths.clear();
        self.sources.clear();
        self.subscriptions.clear();
        self.known.clear();
        self.declined.clear();
        self.ended.clear();
        self.asked.clear();
    }

    fn call(&mut self, around: &mut Around<'_>, call: Call) {
        // A connection keeps the order.
        self.call_at = self.call_at.max(around.now + self.signaling_delay);
        around.agenda.note(self.call_at, What::Call(call));
    }

    /// When what control says now reaches it.
    pub fn output_at(&mut self, now: Time) -> Time {
        self.output_at = self.output_at.max(now + self.signaling_delay);
        self.output_at
    }

    fn ask(&mut self, around: &mut Around<'_>, asked: Asked, request: Request) {
        let Some(session) = self.session else { return };
        let token = around.numbers.token();
        self.asked.insert(token, asked);
        self.call(around, Call::Ask(session, token, Box::new(request)));
    }

    /// Leaves, with or without a word.
    pub fn leave(&mut self, around: &mut Around<'_>) {
        if let Some(session) = self.session {
            self.call(around, Call::Leave(session));
        }
        self.forget();
        // Nor does it come in by a connection that is being opened.
        self.connection += 1;
        self.has_left = true;
    }

    /// Whether it is connected, sends all it has, and was given all it asked for.
    pub fn is_settled(&self) -> bool {
        self.joined
            && self.asked.is_empty()
            && self.sources.iter().all(|source| source.producer.is_some())
            && self.paths.len() == 2
            && self.paths.iter().all(|path| path.leg.is_connected())
    }

    /// Where it stands, for messages.
    pub fn describe(&self) -> String {
        let paths: Vec<(bool, Option<&str>)> = self
            .paths
            .iter()
            .map(|path| (path.leg.is_connected(), path.leg.over.as_deref()))
            .collect();
        let (session, joined, asked) = (self.session, self.joined, self.asked.len());
        format!("{session:?}, joined {joined}, {asked} answers are due, transports {paths:?}")
    }

    /// What control says.
    ///
    /// # Errors
    /// Something that a well-behaved client is never told.
    pub fn take_output(&mut self, around: &mut Around<'_>, output: Output) -> Result<(), String> {
        match output {
            Output::Opened { session } => self.opened(around, session),
            Output::Challenge { session } => self.call(around, Call::Alive(session)),
            Output::Response { token, result, .. } => {
                let Some(asked) = self.asked.remove(&token) else { return Ok(()) };
                match result {
                    Ok(response) => self.answered(around, asked, response),
                    Err(error) if [403, 404].contains(&error.code) => self.refused(around, asked),
                    Err(error) => return Err(format!("{}: {}", error.code, error.reason)),
                }
            }
            Output::Notification { notification, .. } => self.notified(around, *notification),
            Output::Close { reason, .. } => {
                self.forget();
                let again = Duration::from_millis(around.dice.random_range(50..400));
                let _ = reason;
                around.agenda.note(around.now + again, What::Connect(self.number as usize));
            }
        }
        Ok(())
    }

    fn opened(&mut self, around: &mut Around<'_>, session: SessionId) {
        if self.has_left {
            return self.call(around, Call::Leave(session));
        }
        self.session = Some(session);
        let rtp_capabilities = around.capabilities.clone();
        let enter = match self.mode {
            ConsumeMode::Automatic => Request::Join {
                codec_hints: None,
                display_name: self.name.clone(),
                device: JsonObject::default(),
                rtp_capabilities: Some(rtp_capabilities),
            },
            ConsumeMode::OnRequest => Request::SetRtpCapabilities {
                rtp_capabilities,
                display_name: None,
                codec_hints: None,
            },
        };
        let first = around.dice.random_bool(0.5);
        if first {
            self.ask(around, Asked::Other, enter.clone());
        }
        for direction in [Direction::Send, Direction::Recv] {
            let request =
                Request::CreateTransport { direction, force_tcp: false, sctp: SctpMode::Off };
            self.ask(around, Asked::Transport(direction), request);
        }
        if !first {
            self.ask(around, Asked::Other, enter);
        }
    }

    fn answered(&mut self, around: &mut Around<'_>, asked: Asked, response: Response) {
        match (asked, response) {
            (_, Response::Joined { .. }) => self.joined = true,
            (Asked::Transport(direction), Response::Transport(options)) => {
                self.begin_path(around, direction, &options);
            }
            (Asked::Produce(source), Response::Produced { producer_id }) => {
                self.sources[source].producer = Some(producer_id);
            }
            (Asked::Consume(_), Response::Consumed(options)) => {
                self.subscribe(around.now, *options);
            }
            (Asked::PauseProducer(source, paused), _) => {
                let source = &mut self.sources[source];
                source.paused_since = (paused && source.paused).then_some(around.now);
            }
            (Asked::PauseConsumer(consumer, paused), _) => {
                if let Some(subscription) = self.subscriptions.get_mut(&consumer) {
                    let is_paused = paused && subscription.paused;
                    subscription.paused_since = is_paused.then_some(around.now);
                }
            }
            (Asked::CloseConsumer(ssrc), _) => {
                self.ended.insert(ssrc, around.now);
            }
            (Asked::RestartIce(path), Response::Ice(parameters)) => {
                if let Some(path) = self.paths.get_mut(path) {
                    path.leg.restart_ice(&parameters);
                }
            }
            _ => {}
        }
    }

    /// What it asked about was gone already.
    fn refused(&mut self, around: &mut Around<'_>, asked: Asked) {
        match asked {
            Asked::Consume(producer) => {
                self.known.remove(&producer);
            }
            Asked::CloseConsumer(ssrc) => {
                self.ended.insert(ssrc, around.now);
            }
            _ => {}
        }
    }

    fn begin_path(
        &mut self,
        around: &mut Around<'_>,
        direction: Direction,
        options: &TransportOptions,
    ) {
        let local = around.numbers.address();
        let role = if around.dice.random_bool(0.7) { Role::Client } else { Role::Server };
        let (leg, dtls_parameters) =
            Leg::new(options, local, role, around.dtls, around.instant, around.dice);
        let transport_id = leg.id.clone();
        self.paths.push(Path { direction, leg, arrivals: Arrivals::default() });
        let request = Request::ConnectTransport { transport_id, dtls_parameters };
        self.ask(around, Asked::Other, request);
        if direction == Direction::Send {
            self.sources = vec![self.source(around, Kind::Audio), self.source(around, Kind::Video)];
        }
    }

    fn source(&self, around: &mut Around<'_>, kind: Kind) -> Source {
        let ids = (self.room, self.number, around.numbers.track());
        let mid = self.sources.len().to_string() + if kind == Kind::Audio { "a" } else { "v" };
        let track = match kind {
            Kind::Audio => Track::voice(ids, mid, around.dice),
            Kind::Video => {
                let encodings = around.dice.random_range(1..=3);
                Track::camera(ids, mid, encodings, around.dice)
            }
        };
        Source { track, producer: None, asked: false, paused: false, paused_since: None }
    }

    fn notified(&mut self, around: &mut Around<'_>, notification: Notification) {
        match notification {
            Notification::NewConsumer(options) => {
                let accepted = around.dice.random_bool(0.97);
                let (consumer_id, producer) = (options.id.clone(), options.producer_id.clone());
                if accepted {
                    self.subscribe(around.now, options);
                } else {
                    self.declined.insert(producer);
                }
                let request = Request::ConsumerReady { consumer_id, accepted };
                self.ask(around, Asked::Other, request);
            }
            Notification::NewProducer { producer_id, .. } => {
                self.known.insert(producer_id.clone());
                self.consume(around, producer_id);
            }
            Notification::ProducerClosed { producer_id } => {
                self.known.remove(&producer_id);
            }
            Notification::ConsumerClosed { consumer_id } => {
                if let Some(subscription) = self.subscriptions.remove(&consumer_id) {
                    self.ended.insert(subscription.receiver.ssrc, around.now);
                }
            }
            Notification::ConsumerPaused { consumer_id } => {
                self.producer_paused(around.now, &consumer_id, true);
            }
            Notification::ConsumerResumed { consumer_id } => {
                self.producer_paused(around.now, &consumer_id, false);
            }
            Notification::ConsumerLayersChanged { consumer_id, layers } => {
                if let Some(subscription) = self.subscriptions.get_mut(&consumer_id) {
                    subscription.is_left_out = layers.is_none();
                }
            }
            Notification::ProducerMaxSpatialLayer { producer_id, spatial_layer } => {
                let producer = Some(producer_id);
                let mut sources = self.sources.iter_mut();
                if let Some(source) = sources.find(|source| source.producer == producer) {
                    source.track.sent_encodings = usize::from(spatial_layer) + 1;
                }
            }
            _ => {}
        }
    }

    fn producer_paused(&mut self, now: Time, consumer: &str, paused: bool) {
        if let Some(subscription) = self.subscriptions.get_mut(consumer) {
            (subscription.producer_paused, subscription.told_at) = (paused, now);
        }
    }

    fn subscribe(&mut self, now: Time, options: ConsumerOptions) {
        let subscription = Subscription {
            receiver: Receiver::new(&options, now),
            producer: options.producer_id,
            peer: options.peer_id,
            paused: false,
            paused_since: None,
            producer_paused: options.producer_paused,
            told_at: now,
            is_left_out: false,
        };
        self.subscriptions.insert(options.id, subscription);
    }

    fn consume(&mut self, around: &mut Around<'_>, producer_id: String) {
        let request = Request::Consume {
            producer_id: producer_id.clone(),
            rtp_capabilities: None,
            transport_id: None,
            mid: None,
            paused: false,
        };
        self.ask(around, Asked::Consume(producer_id), request);
    }

    /// Time has passed.
    pub fn tick(&mut self, around: &mut Around<'_>) {
        self.ticks += 1;
        let (now, instant) = (around.now, around.instant);
        for path in &mut self.paths {
            path.leg.handle_timeout(now, instant, around.dice);
        }
        self.produce_due(around);
        if self.ticks.is_multiple_of(FRAME_TICKS) {
            self.capture(around);
        }
        self.ask_for_missing(now);
        self.transmit(around);
        if self.paths.iter().any(|path| path.leg.over.is_some()) {
            self.begin_anew(around);
        }
    }

    /// A transport of its has failed for good, and it has to connect once more.
    fn begin_anew(&mut self, around: &mut Around<'_>) {
        self.leave(around);
        let again = Duration::from_millis(around.dice.random_range(50..400));
        around.agenda.note(around.now + again, What::Connect(self.number as usize));
    }

    /// Produces what it can send and has not offered yet.
    fn produce_due(&mut self, around: &mut Around<'_>) {
        let is_send = |path: &&Path| path.direction == Direction::Send && path.leg.is_connected();
        let Some(path) = self.paths.iter().find(is_send) else { return };
        let transport_id = path.leg.id.clone();
        if !self.joined {
            return;
        }
        for index in 0..self.sources.len() {
            let source = &mut self.sources[index];
            if std::mem::replace(&mut source.asked, true) {
                continue;
            }
            let request = Request::Produce {
                transport_id: transport_id.clone(),
                kind: source.track.kind,
                rtp_parameters: source.track.rtp_parameters(),
                app_data: JsonObject::default(),
                paused: false,
            };
            self.ask(around, Asked::Produce(index), request);
        }
    }

    /// A frame of each track. What is paused is sent all the same: nobody may get it.
    fn capture(&mut self, around: &mut Around<'_>) {
        let Some(path) = self.paths.iter_mut().find(|path| path.direction == Direction::Send)
        else {
            return;
        };
        for source in self.sources.iter_mut().filter(|source| source.producer.is_some()) {
            for packet in source.track.capture(around.now, around.dice) {
                path.leg.send(&source.track.mid, &packet);
            }
        }
        if self.ticks.is_multiple_of(REPORT_TICKS) {
            let wall = self.wall + Duration::from_nanos(around.now.as_nanos());
            path.leg.send_rtcp(|writer| {
                for source in &self.sources {
                    source.track.write_reports(around.now, wall, writer);
                }
            });
        }
    }

    /// Feedback, lost packets, key frames, reports.
    fn ask_for_missing(&mut self, now: Time) {
        let feeds_back = self.ticks.is_multiple_of(FEEDBACK_TICKS);
        let reports = self.ticks.is_multiple_of(REPORT_TICKS);
        let Some(path) = self.paths.iter_mut().find(|path| path.direction == Direction::Recv)
        else {
            return;
        };
        let (subscriptions, arrivals) = (&mut self.subscriptions, &mut path.arrivals);
        path.leg.send_rtcp(|writer| {
            for subscription in subscriptions.values_mut() {
                subscription.receiver.write_requests(now, writer);
                if reports && let Some(block) = subscription.receiver.report() {
                    let _ = writer.receiver_report(1, &[block]);
                }
            }
            if feeds_back {
                arrivals.write(writer);
            }
        });
    }

    /// Gives the wire what there is to send.
    fn transmit(&mut self, around: &mut Around<'_>) {
        for path in &mut self.paths {
            let (from, to) = (path.leg.local, path.leg.server);
            while let Some(bytes) = path.leg.poll_transmit() {
                for at in self.up.carry(around.now, around.dice).into_iter().flatten() {
                    let bytes = bytes.clone();
                    around.agenda.note(at, What::ToCore { from, to, bytes });
                }
            }
        }
    }

    /// A datagram from the server, and what media it brings.
    ///
    /// # Errors
    /// Something that no client may ever be sent.
    pub fn receive(
        &mut self,
        around: &mut Around<'_>,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<Option<Media>, String> {
        let found = self.paths.iter_mut().position(|path| path.leg.local == to);
        let Some(index) = found else { return Ok(None) };
        let incoming = self.paths[index].leg.handle(bytes, around.instant);
        let media = match incoming {
            None | Some(Err(Refused::Replay | Refused::TooSoon)) => None,
            Some(Err(Refused::Foreign)) => return Err("what no key opens".to_owned()),
            Some(Ok(Incoming::Rtcp(compound))) => {
                self.take_rtcp(index, &compound);
                None
            }
            Some(Ok(Incoming::Rtp { header, bytes })) => {
                self.take_media(around, index, &header, &bytes)?
            }
        };
        self.transmit(around);
        Ok(media)
    }

    fn take_rtcp(&mut self, index: usize, compound: &[u8]) {
        for packet in rtcp::packets(compound).flatten() {
            match packet {
                Packet::Pli { media_ssrc, .. } => self.key_frame_wanted(media_ssrc),
                Packet::Fir(fir) => fir.entries().for_each(|e| self.key_frame_wanted(e.ssrc)),
                Packet::Nack(nack) => {
                    for source in &mut self.sources {
                        let again = source.track.on_nack(nack.media_ssrc, nack.sequences());
                        for packet in again {
                            self.paths[index].leg.send(&source.track.mid, &packet);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn key_frame_wanted(&mut self, ssrc: u32) {
        for source in &mut self.sources {
            source.track.on_key_frame_request(ssrc);
        }
    }

    fn take_media(
        &mut self,
        around: &mut Around<'_>,
        index: usize,
        header: &RtpHeader,
        bytes: &[u8],
    ) -> Result<Option<Media>, String> {
        // Browsers tell of every packet that is numbered, whatever it is.
        let mut ids = self.subscriptions.values().map(|s| s.receiver.extensions);
        let ids = ids.find(|ids| ids.id(Extension::TransportCc).is_some());
        let extensions = ids.map(|ids| ExtensionSpans::parse(bytes, header, &ids));
        let number = extensions.as_ref().and_then(|e| e.of(Extension::TransportCc, bytes));
        if let Some(&[high, low]) = number {
            self.paths[index].arrivals.note(around.now, u16::from_be_bytes([high, low]));
        }
        if header.ssrc == PROBATOR_SSRC {
            return Ok(None);
        }
        let mut all = self.subscriptions.values_mut();
        let found = all.find(|subscription| subscription.receiver.takes(header.ssrc));
        let payload = header.payload_range(bytes).ok_or("no payload")?;
        let payload = &bytes[payload];
        let Some(subscription) = found else {
            return self.stray(header, payload);
        };
        let standing = match subscription.paused_since {
            Some(since) => Standing::EndedAt(since),
            None => Standing::Subscribed,
        };
        let arrived = subscription.receiver.receive(around.now, header, payload)?;
        Ok(arrived.map(|arrived| Media { arrived, standing }))
    }

    /// Media under an SSRC that is not, not yet or no longer known.
    fn stray(&self, header: &RtpHeader, payload: &[u8]) -> Result<Option<Media>, String> {
        let ended = [header.ssrc, header.ssrc.wrapping_sub(1)].map(|ssrc| self.ended.get(&ssrc));
        let asks = self.asked.values().any(|asked| match asked {
            Asked::Consume(_) => true,
            Asked::CloseConsumer(ssrc) => [*ssrc, ssrc + 1].contains(&header.ssrc),
            _ => false,
        });
        let standing = match ended.into_iter().flatten().next() {
            Some(at) => Standing::EndedAt(*at),
            None if asks => Standing::Asked,
            None => Standing::Never,
        };
        let arrived = Arrived::unread(header, payload);
        Ok(arrived.map(|arrived| Media { arrived, standing }))
    }
}

/// What participants do of themselves.
impl Participant {
    /// Does one thing.
    pub fn act(&mut self, around: &mut Around<'_>) {
        let consumers: Vec<String> = self.subscriptions.keys().cloned().collect();
        let consumer = match consumers.len() {
            0 => None,
            len => Some(consumers[around.dice.random_range(0..len)].clone()),
        };
        match (around.dice.random_range(0..100), consumer) {
            (0..20, Some(consumer)) => self.toggle_consumer(around, consumer),
            (20..30, _) => self.toggle_producer(around),
            (30..42, Some(consumer_id)) => {
                let (spatial, temporal) = (around.dice.random_range(0..3), None);
                let layers = opencall_dataplane::message::Layers { spatial, temporal };
                let request = Request::SetConsumerPreferredLayers { consumer_id, layers };
                self.ask(around, Asked::Other, request);
            }
            (42..47, Some(consumer_id)) => {
                let priority = around.dice.random_range(1..=255);
                let request = Request::SetConsumerPriority { consumer_id, priority };
                self.ask(around, Asked::Other, request);
            }
            (47..55, Some(consumer_id)) => {
                self.ask(around, Asked::Other, Request::RequestConsumerKeyFrame { consumer_id });
            }
            (55..63, Some(consumer)) => self.close_consumer(around, &consumer),
            (63..71, _) => self.consume_again(around),
            (71..77, _) => self.replace_producer(around),
            (77..85, _) => self.restart_ice(around),
            (85..93, _) => self.change_network(around),
            (93..95, _) => self.leave(around),
            // It crashes.
            (95, _) => self.forget(),
            (96..100, _) => self.ask(around, Asked::Other, Request::Stats(StatsOf::Peer)),
            _ => {}
        }
        if self.session.is_none() {
            let again = Duration::from_millis(around.dice.random_range(10..2_000));
            around.agenda.note(around.now + again, What::Connect(self.number as usize));
        }
    }

    fn toggle_consumer(&mut self, around: &mut Around<'_>, consumer_id: String) {
        let Some(subscription) = self.subscriptions.get_mut(&consumer_id) else { return };
        subscription.paused = !subscription.paused;
        let paused = subscription.paused;
        if !paused {
            subscription.paused_since = None;
        }
        let asked = Asked::PauseConsumer(consumer_id.clone(), paused);
        let request = match paused {
            true => Request::PauseConsumer { consumer_id },
            false => Request::ResumeConsumer { consumer_id },
        };
        self.ask(around, asked, request);
    }

    fn toggle_producer(&mut self, around: &mut Around<'_>) {
        if self.sources.is_empty() {
            return;
        }
        let index = around.dice.random_range(0..self.sources.len());
        let source = &mut self.sources[index];
        let Some(producer_id) = source.producer.clone() else { return };
        source.paused = !source.paused;
        let paused = source.paused;
        if !paused {
            source.paused_since = None;
        }
        let request = match paused {
            true => Request::PauseProducer { producer_id },
            false => Request::ResumeProducer { producer_id },
        };
        self.ask(around, Asked::PauseProducer(index, paused), request);
    }

    fn close_consumer(&mut self, around: &mut Around<'_>, consumer: &str) {
        let Some(subscription) = self.subscriptions.remove(consumer) else { return };
        self.declined.insert(subscription.producer);
        let request = Request::CloseConsumer { consumer_id: consumer.to_owned() };
        self.ask(around, Asked::CloseConsumer(subscription.receiver.ssrc), request);
    }

    /// Consumes what it has closed, where it can.
    pub fn consume_again(&mut self, around: &mut Around<'_>) {
        if self.mode == ConsumeMode::Automatic {
            return;
        }
        for producer in std::mem::take(&mut self.declined) {
            if self.known.contains(&producer) {
                self.consume(around, producer);
            }
        }
    }

    /// Stops a track, and sends another in its place.
    fn replace_producer(&mut self, around: &mut Around<'_>) {
        let produced = |source: &Source| source.producer.is_some();
        let Some(index) = self.sources.iter().rposition(produced) else { return };
        let kind = self.sources[index].track.kind;
        let mut new = self.source(around, kind);
        new.track.mid = new.track.number.to_string();
        let old = std::mem::replace(&mut self.sources[index], new);
        if let Some(producer_id) = old.producer {
            self.ask(around, Asked::Other, Request::CloseProducer { producer_id });
        }
    }

    fn restart_ice(&mut self, around: &mut Around<'_>) {
        if self.paths.is_empty() {
            return;
        }
        let index = around.dice.random_range(0..self.paths.len());
        let transport_id = self.paths[index].leg.id.clone();
        self.ask(around, Asked::RestartIce(index), Request::RestartIce { transport_id });
    }

    /// Another address, or no network for a while.
    fn change_network(&mut self, around: &mut Around<'_>) {
        if around.dice.random_bool(0.5) {
            for path in &mut self.paths {
                path.leg.move_to(around.numbers.address());
            }
            return;
        }
        let millis = around.dice.random_range(50..2_500);
        let until = around.now + Duration::from_millis(millis);
        match around.dice.random_range(0..3) {
            0 => self.up.cut_until = until,
            1 => self.down.cut_until = until,
            _ => (self.up.cut_until, self.down.cut_until) = (until, until),
        }
    }

    /// Nothing goes wrong any more, and it wants all there is.
    pub fn calm_down(&mut self, around: &mut Around<'_>) {
        (self.up, self.down) = (Wire::good(), Wire::good());
        let paused: Vec<String> = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.paused)
            .map(|(id, _)| id.clone())
            .collect();
        for consumer in paused {
            self.toggle_consumer(around, consumer);
        }
        for index in 0..self.sources.len() {
            let Source { paused: true, producer: Some(producer_id), .. } = &self.sources[index]
            else {
                continue;
            };
            let producer_id = producer_id.clone();
            let source = &mut self.sources[index];
            (source.paused, source.paused_since) = (false, None);
            let asked = Asked::PauseProducer(index, false);
            self.ask(around, asked, Request::ResumeProducer { producer_id });
        }
        self.consume_again(around);
    }
}
