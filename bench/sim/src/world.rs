//! A meeting: steps through virtual time, from one thing that happens to the next.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use opencall_control::api::{Output, SessionId};
use opencall_control::dtls::DtlsContext;
use opencall_control::ortc;
use opencall_control::rtp_parameters::RtpCapabilities;
use opencall_dataplane::demux::{PacketClass, classify};
use opencall_io::memory::Datagram;
use opencall_testkit::seeded::{self, Side};
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::agenda::Agenda;
use crate::checkers::{Checkers, liveness, resumption};
use crate::fate::Blow;
use crate::participant::{Around, Numbers, Participant, Sent, TICK, What};
use crate::plan::{BEGIN, Plan};
use crate::server::{self, Call, Server, stage_of};

/// How long everyone may take, once nothing goes wrong any more, until they see and hear everyone:
/// the consent of a client that crashed lapses after 30 s, and it is kept for as long again.
const PATIENCE: Duration = Duration::from_secs(75);

/// How often that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The same while cores are being replaced.
const RESUMPTION_INTERVAL: Duration = Duration::from_millis(50);

/// How long the server may take to forget everything once all have left.
const FAREWELL: Duration = Duration::from_secs(5);

/// Steps of a meeting at most: a hundred times the usual number. More is a loop.
const MAX_STEPS: u64 = 2_000_000;

/// What must never be, and was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which checker found it.
    pub checker: &'static str,
    /// In which step.
    pub step: u64,
    /// When.
    pub now: Time,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { checker, step, now, what } = self;
        write!(f, "{checker}: step {step}, at {} ms: {what}", now.as_millis())
    }
}

/// How a meeting went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The first violation.
    pub violation: Option<Violation>,
    /// Steps taken.
    pub steps: u64,
    /// Everything that was sent and said, in a number: the same for the same seed.
    pub digest: u64,
    /// Packets that participants have opened.
    pub packets: u64,
    /// Packets that waited for the pace of a client, on cores that lived to the end.
    pub waited: u64,
    /// Data cores that died.
    pub deaths: u64,
    /// Data cores that were drained and went.
    pub gone: u64,
    /// The longest that media took to come back after one, while nothing else went wrong.
    pub slowest: Duration,
    /// Virtual time it took.
    pub lasted: Duration,
}

/// Runs the meeting of a seed.
pub fn run(seed: u64) -> Outcome {
    Meeting::new(seed).run()
}

/// The same, and prints what happens on the wires and between clients and control.
pub fn trace(seed: u64) -> Outcome {
    let mut meeting = Meeting::new(seed);
    meeting.traces = true;
    meeting.run()
}

/// See the module.
pub struct Meeting {
    /// The time.
    pub now: Time,
    origin: Instant,
    /// Steps taken.
    pub step: u64,
    dice: StdRng,
    plan: Plan,
    agenda: Agenda<What>,
    /// The server.
    pub server: Server,
    /// Everyone.
    pub participants: Vec<Participant>,
    sessions: HashMap<SessionId, (usize, u32)>,
    /// By whom an address was used, which is never used by another.
    addresses: HashMap<SocketAddr, usize>,
    numbers: Numbers,
    dtls: DtlsContext,
    checkers: Checkers,
    digest: DefaultHasher,
    packets: u64,
    deaths: u64,
    slowest: Duration,
    is_calm: bool,
    /// Everyone leaves, and nobody comes again.
    is_over: bool,
    /// Rooms have a stage.
    is_staged: bool,
    traces: bool,
}

type Checked = Result<(), (&'static str, String)>;

impl Meeting {
    /// The meeting of a seed, before it begins.
    pub fn new(seed: u64) -> Self {
        seeded::install();
        seeded::reseed(seed);
        let mut dice = StdRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut dice);
        let origin = process_origin();
        let config = seeded::config(Side::Client, !seed, plan.dtls, plan.profile);
        let mut meeting = Meeting {
            now: BEGIN,
            origin,
            step: 0,
            agenda: Agenda::default(),
            server: Server::new(&plan, seed, origin),
            participants: Vec::new(),
            sessions: HashMap::new(),
            addresses: HashMap::new(),
            numbers: Numbers::default(),
            dtls: DtlsContext::new(&config).expect("a good configuration"),
            checkers: Checkers::new(plan.profile),
            digest: DefaultHasher::new(),
            packets: 0,
            deaths: 0,
            slowest: Duration::ZERO,
            is_calm: false,
            is_over: false,
            is_staged: stage_of(seed).from > 0,
            traces: false,
            dice,
            plan,
        };
        meeting.invite();
        meeting
    }

    fn invite(&mut self) {
        let Meeting { plan, dice, agenda, .. } = self;
        for number in 0..plan.participants {
            let room = number % plan.rooms;
            let wires = (plan.wire(dice), plan.wire(dice));
            self.participants.push(Participant::new(number, room, wires, dice));
            let at = BEGIN + Duration::from_millis(dice.random_range(1..2_000));
            agenda.note(at, What::Connect(number as usize));
            let tick = BEGIN + Duration::from_millis(dice.random_range(1..20));
            agenda.note(tick, What::Tick(number as usize));
        }
        agenda.note(BEGIN + plan.action_interval, What::Action);
        if !self.server.fate().is_mild() {
            let pause = self.server.fate().pause();
            self.agenda.note(BEGIN + pause, What::Death);
        }
    }

    /// Runs it to its end, or to the first violation.
    pub fn run(mut self) -> Outcome {
        let violation = self.through().err().map(|(checker, what)| {
            let (step, now) = (self.step, self.now);
            Violation { checker, step, now, what }
        });
        Outcome {
            violation,
            steps: self.step,
            digest: self.digest.finish(),
            packets: self.packets,
            waited: self.waited(),
            deaths: self.deaths,
            gone: self.server.shifts.gone.into(),
            slowest: self.slowest,
            lasted: self.now.since(BEGIN),
        }
    }

    fn waited(&self) -> u64 {
        let stations = self.server.stations.iter();
        let delays = stations.map(|station| &station.seat.core().stats().pacer_delays);
        delays.map(|delays| delays.cumulative().last().copied().unwrap_or(0)).sum()
    }

    fn through(&mut self) -> Checked {
        self.until(self.plan.calm_at)?;
        self.calm_down();
        let deadline = self.now + PATIENCE;
        loop {
            self.until(self.now + LOOK_INTERVAL)?;
            match liveness::missing(&self.participants, self.now, self.is_staged) {
                None => break,
                Some(what) if self.now >= deadline => return Err(("liveness", what)),
                Some(_) => {}
            }
        }
        self.checkers.settled(&mut self.server)?;
        for _ in 0..self.server.fate().trials() {
            self.stand_trial()?;
        }
        self.is_over = true;
        for index in 0..self.participants.len() {
            self.with(index, |participant, around| participant.leave(around));
        }
        self.until(self.now + FAREWELL)?;
        self.checkers.empty(&mut self.server)
    }

    /// Cores die while nothing else goes wrong: all media comes back soon, and no client hears a
    /// word of it.
    fn stand_trial(&mut self) -> Checked {
        let (since, mut latest) = (self.now, self.now);
        for blow in self.server.fate().trial() {
            latest = latest.max(since + blow.vacancy);
            self.strike(blow)?;
        }
        let noticed = latest + self.plan.control_latency;
        self.checkers.silence.begin(self.is_staged);
        while resumption::missing(&self.participants, since, self.now, |_| true).is_some() {
            self.until(self.now + RESUMPTION_INTERVAL)?;
            let passed = self.now.since(noticed);
            let must = |kind| resumption::must_be_back(kind, passed);
            if let Some(what) = resumption::missing(&self.participants, since, self.now, must) {
                return Err(("resumption", what));
            }
        }
        self.say(|| format!("all is back after {:?}", self.now.since(latest)));
        self.slowest = self.slowest.max(self.now.since(latest));
        self.until(self.now.max(noticed + resumption::WITHIN))?;
        self.checkers.silence.end();
        Ok(())
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.traces {
            println!("{:>6} {:>6} ms  {}", self.step, self.now.as_millis(), what());
        }
    }

    fn calm_down(&mut self) {
        self.is_calm = true;
        self.say(|| "calm".to_owned());
        self.server.calm_down();
        for index in 0..self.participants.len() {
            self.with(index, |participant, around| participant.calm_down(around));
        }
    }

    /// Lets happen all that happens until a time.
    fn until(&mut self, end: Time) -> Checked {
        loop {
            let next = self.agenda.next().min(self.server.next());
            if next > end {
                self.now = end;
                return Ok(());
            }
            self.now = next.max(self.now);
            self.take_step()?;
            if self.step > MAX_STEPS {
                return Err(("progress", "the meeting does not end".to_owned()));
            }
        }
    }

    fn take_step(&mut self) -> Checked {
        self.step += 1;
        while let Some(what) = self.agenda.pop_due(self.now) {
            self.happen(what)?;
        }
        let outputs = self.server.control_turn(self.now);
        for blow in std::mem::take(&mut self.server.struck) {
            self.strike(blow)?;
        }
        for (session, participant, connection) in std::mem::take(&mut self.server.opened) {
            self.sessions.insert(session, (participant, connection));
        }
        for output in outputs {
            self.pass_output(output)?;
        }
        for core in 0..self.server.stations.len() {
            for datagram in self.server.wake_sleepers(self.now, core) {
                self.checkers.sealed(0, &datagram)?;
            }
            let Some(sent) = self.server.core_turn(self.now, core, &mut self.dice) else {
                continue;
            };
            for datagram in sent {
                self.carry(core, datagram)?;
            }
            self.checkers.after_turn(&mut self.server, core)?;
        }
        self.checkers.after_step(&mut self.server)
    }

    fn happen(&mut self, what: What) -> Checked {
        match what {
            What::Call(call) => {
                let is_late = match &call {
                    Call::Open(index, connection, _) => {
                        self.participants[*index].connection != *connection
                    }
                    _ => false,
                };
                if !is_late {
                    self.say(|| format!("call {call:?}"));
                    self.server.call(self.now, call, &mut self.dice);
                }
            }
            What::ToCore { from, to, bytes } => {
                let cores = 0..self.server.stations.len();
                let mut cores = cores.filter(|&core| address_of(core) == to);
                if let Some(core) = cores.next() {
                    self.say(|| format!("{from} -> core {core}: {}", kind_of(&bytes)));
                    self.server.deliver(self.now, core, from, &bytes);
                }
            }
            What::ToClient { to, bytes, sent } => self.arrive(to, bytes, sent)?,
            What::Output(index, connection, output) => {
                if self.participants[index].connection == connection {
                    self.say(|| format!("peer{index} is told {}", text_of(&output)));
                    let taken = self.with(index, |p, around| p.take_output(around, *output));
                    taken.map_err(|what| ("requests", format!("peer{index}: {what}")))?;
                }
            }
            What::Tick(index) => {
                self.with(index, |participant, around| participant.tick(around));
                self.agenda.note(self.now + TICK, What::Tick(index));
                self.note_addresses(index);
            }
            What::Connect(index) => {
                if self.participants[index].session.is_none() && !self.is_over {
                    self.with(index, |participant, around| participant.connect(around));
                }
            }
            What::Action => self.action(),
            What::Death => {
                if !self.is_calm {
                    let blow = self.server.fate().strike();
                    self.strike(blow)?;
                    let pause = self.server.fate().pause();
                    self.agenda.note(self.now + pause, What::Death);
                }
            }
        }
        Ok(())
    }

    /// A core dies.
    fn strike(&mut self, blow: Blow) -> Checked {
        self.say(|| format!("core {} dies: {:?}", blow.core, blow.death));
        self.deaths += u64::from(self.server.stations[blow.core].is_alive());
        let life = self.server.stations[blow.core].life;
        for datagram in self.server.kill(self.now, blow, &mut self.dice) {
            self.checkers.sealed(life, &datagram)?;
        }
        Ok(())
    }

    fn action(&mut self) {
        if self.is_calm {
            return;
        }
        let pause = self.plan.action_interval.mul_f64(self.dice.random_range(0.2..1.8));
        self.agenda.note(self.now + pause, What::Action);
        match self.dice.random_range(0..20) {
            0 => {
                self.say(|| "a core stalls".to_owned());
                let core = self.dice.random_range(0..self.server.stations.len());
                let stall = Duration::from_millis(self.dice.random_range(20..600));
                self.server.stations[core].stalled_until = self.now + stall;
            }
            1 => {
                self.say(|| "control stalls".to_owned());
                let stall = Duration::from_millis(self.dice.random_range(20..1_500));
                self.server.control_stalled_until = self.now + stall;
            }
            _ => {
                let index = self.dice.random_range(0..self.participants.len());
                if self.participants[index].session.is_some() {
                    self.with(index, |participant, around| participant.act(around));
                    self.note_addresses(index);
                }
            }
        }
    }

    fn note_addresses(&mut self, index: usize) {
        for path in &self.participants[index].paths {
            self.addresses.insert(path.leg.local, index);
        }
    }

    fn pass_output(&mut self, output: Output) -> Checked {
        let (session, kind) = match &output {
            Output::Opened { session } => (*session, 0),
            Output::Challenge { session } => (*session, 1),
            Output::Response { session, .. } => (*session, 2),
            Output::Notification { session, .. } => (*session, 3),
            Output::Close { session, .. } => (*session, 4),
        };
        (self.now.as_nanos(), session, kind, output.size()).hash(&mut self.digest);
        let Some(&(index, connection)) = self.sessions.get(&session) else { return Ok(()) };
        if self.participants[index].connection == connection {
            self.checkers.output(&self.participants[index], &output)?;
        }
        let at = self.participants[index].output_at(self.now);
        self.agenda.note(at, What::Output(index, connection, Box::new(output)));
        Ok(())
    }

    /// Takes what a core sent to where it arrives.
    fn carry(&mut self, core: usize, datagram: Datagram) -> Checked {
        let Datagram { destination: to, bytes, .. } = datagram;
        // Sealed payloads differ: a signature of the handshake is in their keys.
        let head = if bytes[0] >> 6 == 2 { &bytes[..8] } else { &bytes[..1] };
        (self.now.as_nanos(), core, to, bytes.len(), head).hash(&mut self.digest);
        self.say(|| format!("core {core} -> {to}: {}", kind_of(&bytes)));
        let Some(&index) = self.addresses.get(&to) else { return Ok(()) };
        let sent = Sent { at: self.now, life: self.server.stations[core].life };
        self.checkers.sent(sent, to, &bytes)?;
        let wire = self.participants[index].down;
        for at in wire.carry(self.now, &mut self.dice).into_iter().flatten() {
            let bytes = bytes.clone();
            self.agenda.note(at, What::ToClient { to, bytes, sent });
        }
        Ok(())
    }

    fn arrive(&mut self, to: SocketAddr, bytes: Vec<u8>, sent: Sent) -> Checked {
        let Some(&index) = self.addresses.get(&to) else { return Ok(()) };
        self.say(|| format!("peer{index} at {to}: {}", kind_of(&bytes)));
        let media = self.with(index, |participant, around| participant.receive(around, to, bytes));
        let media = media.map_err(|what| ("media", format!("peer{index}: {what}")))?;
        let Some(media) = media else { return Ok(()) };
        self.packets += 1;
        (media.arrived.ssrc, media.arrived.sequence).hash(&mut self.digest);
        self.checkers.media(&self.participants[index], &media, sent)
    }

    fn with<R>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Participant, &mut Around<'_>) -> R,
    ) -> R {
        let mut around = Around {
            now: self.now,
            instant: self.origin + Duration::from_nanos(self.now.as_nanos()),
            dice: &mut self.dice,
            agenda: &mut self.agenda,
            dtls: &self.dtls,
            capabilities: capabilities(),
            numbers: &mut self.numbers,
        };
        act(&mut self.participants[index], &mut around)
    }
}

fn address_of(core: usize) -> SocketAddr {
    server::address(opencall_dataplane::message::CoreId(core as u8))
}

fn text_of(output: &Output) -> String {
    match output {
        Output::Response { result: Ok(_), token, .. } => format!("{token:?}: yes"),
        Output::Response { result: Err(error), token, .. } => format!("{token:?}: {error:?}"),
        Output::Notification { notification, .. } => {
            let mut text = format!("{notification:?}");
            text.truncate(2_000);
            text
        }
        Output::Opened { session } => format!("{session:?} is open"),
        Output::Challenge { session } => format!("{session:?} is challenged"),
        Output::Close { session, reason, .. } => format!("{session:?} is closed: {reason:?}"),
    }
}

/// What a datagram is.
fn kind_of(bytes: &[u8]) -> String {
    let len = bytes.len();
    match classify(bytes) {
        Ok(PacketClass::Rtp) => match RtpHeader::parse(bytes) {
            Some(header) => format!("RTP {:08x} {}, {len} bytes", header.ssrc, header.sequence),
            None => "RTP?".to_owned(),
        },
        Ok(PacketClass::Dtls) => {
            format!("DTLS {} of epoch {}, {len} bytes", bytes[0], bytes.get(4).unwrap_or(&0))
        }
        Ok(class) => format!("{class:?}, {len} bytes"),
        Err(_) => format!("{len} bytes of nothing"),
    }
}

/// What a browser that can do all that the router can would say.
fn capabilities() -> &'static RtpCapabilities {
    static ONCE: OnceLock<RtpCapabilities> = OnceLock::new();
    ONCE.get_or_init(|| {
        ortc::router_rtp_capabilities(&ortc::default_codecs()).expect("default codecs")
    })
}

/// The instant that virtual time counts from: the DTLS library wants instants, and nothing but
/// their distances matters.
fn process_origin() -> Instant {
    static ONCE: OnceLock<Instant> = OnceLock::new();
    *ONCE.get_or_init(Instant::now)
}
