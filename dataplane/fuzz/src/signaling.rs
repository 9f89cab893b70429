//! What both envelopes have in common: connections to one control core, which speaks to real data
//! cores; a script says what clients do. From JSON to the command that a data core gets, nothing
//! is left out but the socket.
//!
//! A line is a text frame of the client that speaks; in it, `$t`, `$p` and `$c` are the newest
//! transport, producer and consumer that anyone was told of. Other lines:
//!
//! | line | what happens |
//! |---|---|
//! | `#peer N` | from here on, client N speaks |
//! | `#wait MS` | time passes |
//! | `#close` | the client goes; if it speaks again, it has a new connection |
//! | `#ice N connected`, `#ice N lost` | news of the Nth transport |
//! | `#dtls N HEX` | a datagram for the Nth transport's handshake |
//! | `#heard N DB`, `#score N S`, `#wanted N C`, `#layers N L` | other news of data cores |
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opencall_control::api::{Output, SessionConfig, SessionId, Token};
use opencall_control::{Control, ControlConfig, CoreAddresses, Counts};
use opencall_dataplane::core::{Core, CoreConfig};
use opencall_dataplane::fanout::links::Links;
use opencall_dataplane::message::{
    Command, ConsumerId, CoreId, Event, IceState, Layers, ProducerId, Stats, StatsQuery,
    TransportId,
};
use opencall_io::TxBatch;
use opencall_signaling::envelope::{Effect, Envelope};
use opencall_wire::time::{NtpTime, Time, WallClock};
use serde_json::Value;

/// Frames a script may have: the work of one input stays bounded.
const FRAMES: usize = 256;

/// Clients in a script.
const CLIENTS: usize = 4;

/// Data cores.
const CORES: u8 = 2;

/// Longer than control waits for anything: statistics, DTLS, a lost transport.
const LONG: Duration = Duration::from_secs(600);

thread_local! {
    // Making a control core tests a crypto library: longer than most scripts take. One in which
    // nothing is left is as good as new, but for its clock and its counters.
    static CONTROL: Cell<Option<(Control, Time)>> = const { Cell::new(None) };
}

/// What is particular to an envelope.
pub trait Dialect: Envelope + Sized {
    /// A new connection of client `number`, and the session that opens with it.
    fn connect(number: usize) -> (Self, Option<SessionConfig>);

    /// The id under which a frame wants an answer.
    fn asks(frame: &Value) -> Option<Value>;

    /// The id that a frame of ours answers.
    fn answers(frame: &Value) -> Option<Value>;
}

/// Plays a script to its end. Every request is answered once, and when all clients are gone,
/// nothing is left of them.
pub fn play<E: Dialect>(script: &str) {
    let mut house = House::<E>::new();
    for line in script.lines().take(FRAMES) {
        house.line(line);
        house.settle();
    }
    house.wait(LONG);
    for connection in house.connections.values() {
        connection.check_answers();
    }
    house.close();
}

struct Connection<E> {
    envelope: E,
    session: Option<SessionId>,
    asked: HashSet<Token>,
    /// Ids of the frames that want an answer, as JSON.
    wanted: Vec<String>,
    got: Vec<String>,
}

impl<E: Dialect> Connection<E> {
    fn check_answers(&self) {
        let (mut wanted, mut got) = (self.wanted.clone(), self.got.clone());
        wanted.sort_unstable();
        got.sort_unstable();
        assert_eq!(wanted, got, "each request is answered once");
    }
}

/// Datagrams of DTLS go nowhere.
fn command_core(core: &mut Core, now: Time, command: Command) {
    thread_local!(static TX: RefCell<TxBatch> = RefCell::new(TxBatch::new()));
    TX.with_borrow_mut(|tx| {
        core.command(now, command, tx);
        tx.clear();
    });
}

/// Control, its cores and its clients.
struct House<E> {
    control: Control,
    cores: Vec<Core>,
    now: Time,
    connections: BTreeMap<usize, Connection<E>>,
    speaker: usize,
    effects: VecDeque<(usize, Effect)>,
    transports: Vec<(CoreId, TransportId)>,
    producers: Vec<(CoreId, ProducerId)>,
    consumers: Vec<(CoreId, ConsumerId)>,
    /// Newest ids in frames: of a transport, a producer and a consumer.
    newest: [String; 3],
}

impl<E: Dialect> House<E> {
    fn new() -> Self {
        let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
        let core = |id| {
            let (id, links) = (CoreId(id), Links::default());
            Core::new(CoreConfig { id, clock, seed: 7, links })
        };
        let (control, now) = CONTROL.take().unwrap_or_else(|| (control(), Time::from_millis(1)));
        House {
            control,
            cores: (0..CORES).map(core).collect(),
            now,
            connections: BTreeMap::new(),
            speaker: 0,
            effects: VecDeque::new(),
            transports: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            newest: Default::default(),
        }
    }

    fn line(&mut self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        match command {
            "#peer" => self.speaker = number(rest) % CLIENTS,
            "#wait" => self.wait(Duration::from_millis(number(rest) as u64 % 1_000_000)),
            "#close" => self.hang_up(self.speaker),
            "#ice" | "#dtls" | "#heard" | "#score" | "#wanted" | "#layers" => {
                let (of, what) = rest.split_once(' ').unwrap_or((rest, ""));
                self.news(command, number(of), what);
            }
            _ => self.frame(line),
        }
    }

    fn frame(&mut self, line: &str) {
        let [transport, producer, consumer] = &self.newest;
        let text = line.replace("$t", transport).replace("$p", producer).replace("$c", consumer);
        let number = self.speaker;
        if !self.connections.contains_key(&number) {
            self.connect(number);
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let Ok(frame) = serde_json::from_str(&text) {
            connection.wanted.extend(E::asks(&frame).map(|id| id.to_string()));
        }
        let mut effects = Vec::new();
        connection.envelope.handle_text(self.now, &text, &mut effects);
        self.effects.extend(effects.into_iter().map(|effect| (number, effect)));
    }

    fn connect(&mut self, number: usize) {
        let (mut envelope, config) = E::connect(number);
        let mut effects = Vec::new();
        envelope.handle_open(&mut effects);
        self.effects.extend(effects.into_iter().map(|effect| (number, effect)));
        let session = config.map(|config| self.control.open_session(self.now, config));
        let connection = Connection {
            envelope,
            session,
            asked: HashSet::new(),
            wanted: Vec::new(),
            got: Vec::new(),
        };
        self.connections.insert(number, connection);
    }

    /// The connection is gone, whoever has closed it.
    fn hang_up(&mut self, number: usize) {
        let Some(connection) = self.connections.remove(&number) else { return };
        if let Some(session) = connection.session {
            self.control.close_session(self.now, session);
        }
        self.effects.retain(|(of, _)| *of != number);
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for (&number, connection) in &mut self.connections {
            let mut effects = Vec::new();
            connection.envelope.handle_timeout(self.now, &mut effects);
            assert!(connection.envelope.next_timeout() > self.now, "what was due is done");
            self.effects.extend(effects.into_iter().map(|effect| (number, effect)));
        }
        self.control.handle_timeout(self.now);
        assert!(self.control.next_timeout() > self.now, "what was due is done");
        self.settle();
    }

    /// What a data core may tell at any time.
    fn news(&mut self, command: &str, of: usize, what: &str) {
        let small = what.parse::<u8>().unwrap_or(0);
        let pick = |len: usize| of % len.max(1);
        let transport = self.transports.get(pick(self.transports.len())).copied();
        let producer = self.producers.get(pick(self.producers.len())).copied();
        let consumer = self.consumers.get(pick(self.consumers.len())).copied();
        let event = match (command, transport, producer, consumer) {
            ("#ice", Some((core, transport)), ..) => {
                let lost = what == "lost";
                let state = if lost { IceState::Disconnected } else { IceState::Completed };
                let remote = SocketAddr::from(([198, 51, 100, 1], 5000));
                (core, Event::Ice { transport, state, remote })
            }
            ("#dtls", Some((core, transport)), ..) => {
                (core, Event::Dtls { transport, unproven: None, datagram: unhex(what).into() })
            }
            ("#heard", _, Some((core, producer)), _) => {
                let levels_dbov = [-((small & 0x7f) as i8); 5];
                (core, Event::AudioLevel { producer, levels_dbov })
            }
            ("#wanted", _, Some((core, producer)), _) => {
                (core, Event::EncodingsWanted { producer, count: small })
            }
            ("#score", _, Some((core, producer)), None) => {
                let scores = [(1, small % 11)].into_iter().collect();
                (core, Event::ProducerScore { producer, scores })
            }
            ("#score", _, _, Some((core, consumer))) => {
                (core, Event::ConsumerScore { consumer, score: small % 11 })
            }
            ("#layers", _, _, Some((core, consumer))) => {
                let layers = Layers { spatial: small % 3, temporal: None };
                let layers = (small < 3).then_some(layers);
                (core, Event::LayersChanged { consumer, layers })
            }
            _ => return,
        };
        self.control.handle_event(self.now, event.0, event.1);
    }

    /// Lets everyone hear what is for them, until there is no more.
    fn settle(&mut self) {
        loop {
            while let Some((core, command)) = self.control.poll_command() {
                self.command(core, command);
            }
            for core in &mut self.cores {
                while let Some(event) = core.poll_event() {
                    self.control.handle_event(self.now, core.id(), event);
                }
            }
            if let Some(output) = self.control.poll_output() {
                self.output(output);
            } else if let Some((number, effect)) = self.effects.pop_front() {
                self.effect(number, effect);
            } else if !self.control_has_more() {
                return;
            }
        }
    }

    /// Commands of an output that came last.
    fn control_has_more(&mut self) -> bool {
        let Some((core, command)) = self.control.poll_command() else { return false };
        self.command(core, command);
        true
    }

    fn command(&mut self, core: CoreId, command: Command) {
        match &command {
            Command::CreateTransport(config) => self.transports.push((core, config.id)),
            Command::CreateProducer(config) => self.producers.push((core, config.id)),
            Command::CreateConsumer(config) => self.consumers.push((core, config.id)),
            _ => {}
        }
        command_core(&mut self.cores[usize::from(core.0)], self.now, command);
    }

    fn output(&mut self, output: Output) {
        let of = match &output {
            Output::Response { session, .. }
            | Output::Notification { session, .. }
            | Output::Opened { session }
            | Output::Challenge { session }
            | Output::Close { session, .. } => *session,
        };
        let found = self.connections.iter_mut().find(|(_, c)| c.session == Some(of));
        let Some((&number, connection)) = found else { return };
        let mut effects = Vec::new();
        let envelope = &mut connection.envelope;
        match output {
            Output::Response { token, result, .. } => {
                assert!(connection.asked.remove(&token), "an answer to a question");
                envelope.handle_response(token, result, &mut effects);
            }
            Output::Notification { notification, .. } => {
                envelope.handle_notification(self.now, *notification, &mut effects);
            }
            // Requests of a session that is not open yet are refused, and answered all the same.
            Output::Opened { .. } => {}
            // Every second client is there.
            Output::Challenge { .. } if number % 2 == 0 => {
                self.control.challenge_answered(self.now, of);
            }
            Output::Challenge { .. } => {}
            Output::Close { .. } => {
                connection.session = None;
                return self.hang_up(number);
            }
        }
        self.effects.extend(effects.into_iter().map(|effect| (number, effect)));
    }

    fn effect(&mut self, number: usize, effect: Effect) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match effect {
            Effect::Send(text) => {
                let frame: Value = serde_json::from_str(&text).expect("we send JSON");
                assert!(frame.is_object());
                connection.got.extend(E::answers(&frame).map(|id| id.to_string()));
                self.remember(&frame);
            }
            Effect::Open(config) => {
                assert!(connection.session.is_none(), "a session opens once");
                connection.session = Some(self.control.open_session(self.now, config));
            }
            Effect::Ask { token, request } => {
                assert!(connection.asked.insert(token), "a token is used once");
                // Without a session there was a close on the way here.
                let Some(session) = connection.session else { return };
                self.control.handle_request(self.now, session, token, request);
            }
            Effect::RouterCapabilities { token } => {
                let capabilities = self.control.router_rtp_capabilities().clone();
                let response = opencall_control::api::Response::RouterRtpCapabilities(capabilities);
                let mut effects = Vec::new();
                connection.envelope.handle_response(token, Ok(response), &mut effects);
                self.effects.extend(effects.into_iter().map(|effect| (number, effect)));
            }
            // The connection has the tokens, and answers these itself.
            Effect::Resumable { id, .. } | Effect::Resume { id, .. } => {
                connection.got.extend([Value::from(id).to_string()]);
            }
            Effect::Acknowledge(_) => {}
            Effect::Close(closing) => {
                assert!(closing.code() >= 1000 && !closing.reason().is_empty());
                self.hang_up(number);
            }
        }
    }

    /// Ids that a later frame may name.
    fn remember(&mut self, frame: &Value) {
        let data = &frame["data"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if data.get("iceParameters").is_some() {
            self.newest[0] = text(&data["id"]).unwrap_or_default();
        }
        if let Some(producer) = text(&data["producerId"]) {
            self.newest[1] = producer;
            if data.get("rtpParameters").is_some() {
                self.newest[2] = text(&data["id"]).unwrap_or_default();
            }
        }
    }

    fn close(mut self) {
        for number in 0..CLIENTS {
            self.hang_up(number);
        }
        self.settle();
        assert_eq!(self.control.counts(), Counts::default(), "nothing is left in control");
        for core in &mut self.cores {
            let query = Command::QueryStats { token: 0, of: StatsQuery::Core };
            command_core(core, self.now, query);
            let answer = std::iter::from_fn(|| core.poll_event()).last();
            let Some(Event::Stats { stats: Some(stats), .. }) = answer else { panic!("no answer") };
            let Stats::Core(stats) = *stats else { panic!("another answer") };
            assert_eq!((stats.transports, stats.producers, stats.consumers), (0, 0, 0));
        }
        CONTROL.set(Some((self.control, self.now)));
    }
}

fn control() -> Control {
    let announced = |core| SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(core)));
    let cores = (0..CORES).map(|core| CoreAddresses { announced: vec![announced(core)] });
    let config = ControlConfig { seed: Some(1), ..ControlConfig::new(cores.collect()) };
    Control::new(config, Instant::now()).expect("a good configuration")
}

/// Bytes of a hex dump, up to the first that is none.
fn unhex(dump: &str) -> Vec<u8> {
    let digits = dump.chars().map_while(|digit| digit.to_digit(16));
    let digits: Vec<u8> = digits.map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
