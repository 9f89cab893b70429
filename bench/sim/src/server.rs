//! The whole server on one thread: control, its rings, the seats of the data cores. It is driven as
//! the real threads drive it (`signaling/src/hub`, `dataplane/src/threads/worker.rs`).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opencall_control::api::{Output, Request, SessionConfig, SessionId, Token};
use opencall_control::dispatch::{Dispatch, Vacancy};
use opencall_control::{Control, ControlConfig, CoreAddresses, StageConfig};
use opencall_dataplane::core::{Core, CoreConfig};
use opencall_dataplane::fanout::links::{Links, Mesh};
use opencall_dataplane::message::{Command, CoreId, Event};
use opencall_dataplane::threads::seat::Seat;
use opencall_io::memory::{Datagram, MemoryIo, Network};
use opencall_io::ring::{RingConsumer, RingProducer, ring};
use opencall_io::{Io as _, RxBatch, TxBatch, Wait};
use opencall_testkit::seeded::{self, Side};
use opencall_wire::time::{NtpTime, Time, WallClock};
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::agenda::tick;
use crate::fate::{Blow, Death, Fate};
use crate::plan::{BEGIN, Plan};
use crate::shifts::{Shift, Shifts};

/// How long the shortest turn takes, and the shortest way between two threads.
const TURN: Duration = Duration::from_millis(1);

/// An odd number with bits all over (2^64 by the golden ratio): seeds of cores differ everywhere.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The longest a core sleeps, as in its thread.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// What a client's connection asks of control.
pub enum Call {
    /// A connection of a participant, with a number of its own.
    Open(usize, u32, Box<SessionConfig>),
    /// A request.
    Ask(SessionId, Token, Box<Request>),
    /// The connection is gone.
    Leave(SessionId),
    /// The client of a challenged session is there.
    Alive(SessionId),
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Open(participant, connection, _) => write!(f, "open {participant} {connection}"),
            Call::Ask(session, token, request) => {
                let mut text = format!("{request:?}");
                text.truncate(100);
                write!(f, "{session:?} {token:?} {text}")
            }
            Call::Leave(session) => write!(f, "{session:?} leaves"),
            Call::Alive(session) => write!(f, "{session:?} is alive"),
        }
    }
}

/// A core that stalled in its turn, and wakes up with another in its place.
struct Sleeper {
    seat: Seat,
    stalled_at: Time,
    /// Has what the core had received; what it sends there goes no further.
    network: Network,
    io: MemoryIo,
    wakes_at: Time,
}

/// A data core at its rings.
pub struct Station {
    /// The core.
    pub seat: Seat,
    commands: RingProducer<Option<Command>>,
    events: RingConsumer<Option<Event>>,
    io: MemoryIo,
    id: CoreId,
    seed: u64,
    ring_slots: (usize, usize),
    /// Counts the cores that were here.
    pub life: u32,
    /// The core is dead, and another takes its place then.
    vacant_until: Option<Time>,
    /// The core has stalled: since when, with what in hand, and for how long it will sleep on.
    stalled: Option<(Time, Vec<Datagram>, Duration)>,
    /// Stalled cores in whose place another is.
    sleepers: Vec<Sleeper>,
    /// When its next turn is.
    pub wake: Time,
    /// Until when its thread gets no CPU.
    pub stalled_until: Time,
    /// Datagrams that the turns of this life were given.
    pub delivered: u64,
    /// Datagrams that they gave.
    pub sent: u64,
}

/// See the module.
pub struct Server {
    /// Control.
    pub control: Control,
    /// The data cores.
    pub stations: Vec<Station>,
    dispatch: Dispatch,
    fate: Fate,
    /// Cores that come and go.
    pub shifts: Shifts,
    /// Cores that die with a command that they were just told.
    pub struck: Vec<Blow>,
    network: Network,
    calls: VecDeque<Call>,
    /// When control looks at what came.
    pub control_wake: Time,
    /// Until when its thread gets no CPU.
    pub control_stalled_until: Time,
    control_latency: Duration,
    rx: RxBatch,
    tx: TxBatch,
    is_calm: bool,
    /// Rooms have a stage.
    pub is_staged: bool,
    /// Sessions that were opened, of which connection.
    pub opened: Vec<(SessionId, usize, u32)>,
}

/// Where clients reach a core.
pub fn address(core: CoreId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(core.0)))
}

/// In every third meeting rooms have a stage, as soon as two send.
pub fn stage_of(seed: u64) -> StageConfig {
    let from = if seed.is_multiple_of(3) { 2 } else { 0 };
    StageConfig { from, voices: 2, videos: 2 }
}

impl Server {
    /// A server as the plan has it.
    pub fn new(plan: &Plan, seed: u64, origin: Instant) -> Self {
        let core = |index| CoreAddresses { announced: vec![address(CoreId(index as u8))] };
        let config = ControlConfig {
            placement: plan.placement,
            stage: stage_of(seed),
            dtls: seeded::config(Side::Server, seed, plan.dtls, plan.profile),
            seed: Some(seed),
            unix_origin_ms: 1_700_000_000_000,
            ..ControlConfig::new((0..plan.cores).map(core).collect())
        };
        let (down, up, across) = plan.ring_slots;
        let network = Network::new();
        let station = |index: usize| {
            let seed = seed.wrapping_add(index as u64).wrapping_mul(SEED_STEP);
            Station::new(&network, CoreId(index as u8), seed, (down, up))
        };
        let stations: Vec<Station> = (0..plan.cores).map(station).collect();
        Server {
            control: Control::new(config, origin).expect("a good configuration"),
            network,
            dispatch: Dispatch::new(stations.iter().map(|of| of.id), Mesh::with_slots(across)),
            fate: Fate::of(seed, plan.cores),
            shifts: Shifts::of(seed, plan.cores, BEGIN),
            struck: Vec::new(),
            calls: VecDeque::new(),
            control_wake: Time::NEVER,
            control_stalled_until: Time::ZERO,
            control_latency: plan.control_latency,
            rx: RxBatch::new(),
            tx: TxBatch::new(),
            is_calm: false,
            is_staged: stage_of(seed).from > 0,
            opened: Vec::new(),
            stations,
        }
    }

    /// When something is due.
    pub fn next(&self) -> Time {
        let control = self.control_wake.max(self.control_stalled_until);
        self.stations.iter().map(Station::next).fold(control, Time::min)
    }

    /// A client's connection brings something.
    pub fn call(&mut self, now: Time, call: Call, dice: &mut StdRng) {
        self.calls.push_back(call);
        self.wake_control(now, dice);
    }

    fn wake_control(&mut self, now: Time, dice: &mut StdRng) {
        let latency = self.control_latency.mul_f64(dice.random());
        self.control_wake = self.control_wake.min(tick(now + latency));
    }

    /// A datagram arrives at a core's socket.
    pub fn deliver(&mut self, now: Time, core: usize, from: SocketAddr, bytes: &[u8]) {
        let station = &mut self.stations[core];
        self.network.push(from, address(CoreId(core as u8)), bytes);
        station.wake = station.wake.min(now);
    }

    /// Control's turn, if it is due: calls, events, time. What it has to say.
    pub fn control_turn(&mut self, now: Time) -> Vec<Output> {
        if self.control_wake.max(self.control_stalled_until) > now {
            return Vec::new();
        }
        while let Some(call) = self.calls.pop_front() {
            self.serve(now, call);
        }
        for index in 0..self.stations.len() {
            let core = CoreId(index as u8);
            while let Some(event) = self.stations[index].poll_event() {
                self.control.handle_event(now, core, event);
            }
        }
        if self.control.next_timeout() <= now {
            self.control.handle_timeout(now);
        }
        self.pass_commands(now);
        self.replace_dead(now);
        self.change_shifts(now);
        let outputs = std::iter::from_fn(|| self.control.poll_output()).collect();
        let retry = if self.dispatch.is_empty() { Time::NEVER } else { now + TURN };
        let vacancies = self.stations.iter().filter_map(|station| station.vacant_until);
        let due = vacancies.fold(tick(self.control.next_timeout()), Time::min);
        let due = due.min(self.shifts.due());
        self.control_wake = due.max(now + TURN).min(retry);
        outputs
    }

    fn serve(&mut self, now: Time, call: Call) {
        match call {
            Call::Open(participant, connection, config) => {
                let session = self.control.open_session(now, *config);
                self.opened.push((session, participant, connection));
            }
            Call::Ask(session, token, request) => {
                self.control.handle_request(now, session, token, *request);
            }
            Call::Leave(session) => {
                self.control.close_session(now, session);
            }
            Call::Alive(session) => self.control.challenge_answered(now, session),
        }
    }

    /// Moves commands to the rings.
    fn pass_commands(&mut self, now: Time) {
        self.dispatch.take(&mut self.control);
        for (index, station) in self.stations.iter_mut().enumerate() {
            let (fate, struck, is_calm) = (&mut self.fate, &mut self.struck, self.is_calm);
            let Station { id, commands, .. } = station;
            let sent = self.dispatch.send(*id, |command| {
                if !is_calm && !fate.is_mild() {
                    struck.extend(fate.strike_with(index, &command));
                }
                let mut command = Some(command);
                let pushed = commands.push_with(|slot| *slot = command.take());
                pushed.or_else(|_| command.map_or(Ok(()), Err))
            });
            if sent {
                station.wake = station.wake.min(now);
            }
        }
    }

    /// Puts other cores in the place of those that are dead for long enough.
    fn replace_dead(&mut self, now: Time) {
        for station in &mut self.stations {
            if station.vacant_until.is_some_and(|until| until <= now) {
                let core = station.id;
                let Ok(()) = self.dispatch.replace(now, core, station, &mut self.control);
            }
        }
        self.pass_commands(now);
    }

    /// Cores drain, end and come back, as `signaling/src/hub/cores.rs` has it.
    fn change_shifts(&mut self, now: Time) {
        let is_due = self.shifts.due() <= now;
        match self.shifts.now {
            Shift::All(_) if is_due => {
                let core = self.shifts.pick();
                match self.control.drain_core(CoreId(core as u8)) {
                    Ok(()) => self.shifts.drain(now, core),
                    Err(_) => self.shifts.complete(now),
                }
            }
            Shift::Draining(core, _) => {
                if is_due {
                    self.control.cut_core(now, CoreId(core as u8));
                    self.pass_commands(now);
                }
                self.end_core(now, core);
            }
            Shift::Away(core, _) if is_due => {
                let id = CoreId(core as u8);
                self.dispatch.add(id);
                self.control.add_core(id, CoreAddresses { announced: vec![address(id)] });
                self.shifts.complete(now);
            }
            _ => {}
        }
    }

    /// Ends a core that drains, if nobody is on it and it has done all that it was told.
    fn end_core(&mut self, now: Time, core: usize) {
        let (id, station) = (CoreId(core as u8), &mut self.stations[core]);
        let has_done_all = station.commands.free() == station.commands.capacity();
        let is_empty = self.control.is_core_empty(id) && self.dispatch.is_empty_for(id);
        if !is_empty || !has_done_all || !station.is_alive() {
            return;
        }
        while let Some(event) = station.poll_event() {
            self.control.handle_event(now, id, event);
        }
        let Ok(()) = station.fill(now);
        self.dispatch.remove(id);
        self.control.remove_core(now, id);
        self.shifts.leave(now, core);
        self.pass_commands(now);
    }

    /// A core's turn, if it is due. What it sends.
    pub fn core_turn(
        &mut self,
        now: Time,
        core: usize,
        dice: &mut StdRng,
    ) -> Option<Vec<Datagram>> {
        let station = &mut self.stations[core];
        if !station.is_alive() || station.wake.max(station.stalled_until) > now {
            return None;
        }
        let is_full = self.turn_of(now, core);
        let sent: Vec<Datagram> = std::iter::from_fn(|| self.network.pop()).collect();
        let station = &mut self.stations[core];
        station.sent += sent.len() as u64;
        let notifies = station.seat.pass_events(now);
        let peers: Vec<CoreId> = station.seat.peers_to_wake().collect();
        let next = station.seat.next_turn().unwrap_or(now).min(now + MAX_SLEEP);
        station.wake = if is_full { now + TURN } else { tick(next).max(now + TURN) };
        for peer in peers {
            let peer = &mut self.stations[usize::from(peer.0)];
            peer.wake = peer.wake.min(now + TURN);
        }
        if notifies {
            self.wake_control(now, dice);
        }
        Some(sent)
    }

    /// What a core does in a turn, up to where its datagrams leave. Returns whether it received as
    /// much as it could.
    fn turn_of(&mut self, now: Time, core: usize) -> bool {
        let station = &mut self.stations[core];
        let io = &mut station.io;
        let received = io.turn(&mut self.tx, &mut self.rx, Wait::Poll);
        received.expect("memory has no errors");
        station.delivered += self.rx.len() as u64;
        let is_full = self.rx.is_full();
        let _ = station.seat.turn(now, &mut self.rx, &mut self.tx, |tx| io.flush(tx));
        let report = io.flush(&mut self.tx);
        station.seat.core_mut().count_turn(&report);
        is_full
    }

    /// A core dies, if one lives there. What it has sealed and not sent.
    pub fn kill(&mut self, now: Time, blow: Blow, dice: &mut StdRng) -> Vec<Datagram> {
        if !self.stations[blow.core].is_alive() {
            return Vec::new();
        }
        let mut unsent = Vec::new();
        match blow.death {
            Death::Idle => {}
            Death::InHand => drop(self.receive(blow.core)),
            Death::Unsent { told } => {
                self.turn_of(now, blow.core);
                unsent.extend(std::iter::from_fn(|| self.network.pop()));
                if told {
                    self.stations[blow.core].seat.pass_events(now);
                }
            }
            Death::Stalled(sleep) => {
                let in_hand = self.receive(blow.core);
                self.stations[blow.core].stalled = Some((now, in_hand, sleep));
            }
        }
        self.stations[blow.core].vacant_until = Some(tick(now + blow.vacancy));
        self.wake_control(now + blow.vacancy, dice);
        unsent
    }

    /// What waits in a core's socket.
    fn receive(&mut self, core: usize) -> Vec<Datagram> {
        let received = self.stations[core].io.turn(&mut self.tx, &mut self.rx, Wait::Poll);
        received.expect("memory has no errors");
        let destination = address(CoreId(core as u8));
        let all = 0..self.rx.len();
        let received = all.map(|index| {
            let (source, bytes) = (self.rx.datagram(index).source, self.rx.bytes(index).to_vec());
            Datagram { source, destination, bytes }
        });
        received.collect()
    }

    /// Stalled cores wake up, go on with their turn, and find that others are in their place. What
    /// they have sealed, none of which leaves.
    pub fn wake_sleepers(&mut self, now: Time, core: usize) -> Vec<Datagram> {
        let mut sealed = Vec::new();
        let due = |sleeper: &mut Sleeper| sleeper.wakes_at <= now;
        for mut sleeper in self.stations[core].sleepers.extract_if(.., due) {
            let Sleeper { seat, stalled_at, network, io, .. } = &mut sleeper;
            let received = io.turn(&mut self.tx, &mut self.rx, Wait::Poll);
            received.expect("memory has no errors");
            let _ = seat.turn(*stalled_at, &mut self.rx, &mut self.tx, |tx| io.flush(tx));
            io.flush(&mut self.tx);
            sealed.extend(std::iter::from_fn(|| network.pop()));
        }
        sealed
    }

    /// The meeting's deaths.
    pub fn fate(&mut self) -> &mut Fate {
        &mut self.fate
    }

    /// From now on no core dies but as [`Server::kill`] says.
    pub fn calm_down(&mut self) {
        self.is_calm = true;
        self.control_stalled_until = Time::ZERO;
        // All are there from now on.
        match self.shifts.now {
            Shift::All(_) => {}
            Shift::Draining(core, _) => {
                let kept = self.control.keep_core(CoreId(core as u8));
                kept.expect("it is there");
            }
            Shift::Away(core, _) => {
                let id = CoreId(core as u8);
                self.dispatch.add(id);
                self.control.add_core(id, CoreAddresses { announced: vec![address(id)] });
            }
        }
        self.shifts.rest();
        for station in &mut self.stations {
            station.stalled_until = Time::ZERO;
        }
    }

    /// Whether the cores have done all that control told them, and control has heard all that they
    /// told it.
    pub fn is_settled(&mut self) -> bool {
        let settled = |station: &mut Station| {
            station.is_alive()
                && station.commands.free() == station.commands.capacity()
                && station.events.is_empty()
                && !station.seat.core().has_events()
        };
        self.calls.is_empty() && self.dispatch.is_empty() && self.stations.iter_mut().all(settled)
    }
}

impl Station {
    fn new(network: &Network, id: CoreId, seed: u64, ring_slots: (usize, usize)) -> Self {
        let (seat, commands, events) = empty_seat(id, seed, ring_slots);
        Station {
            seat,
            commands,
            events,
            io: network.endpoint(&[address(id)]),
            id,
            seed,
            ring_slots,
            life: 0,
            vacant_until: None,
            stalled: None,
            sleepers: Vec::new(),
            wake: Time::NEVER,
            stalled_until: Time::ZERO,
            delivered: 0,
            sent: 0,
        }
    }

    /// Whether a core lives here.
    pub fn is_alive(&self) -> bool {
        self.vacant_until.is_none()
    }

    /// When something is due.
    fn next(&self) -> Time {
        let turn = match self.is_alive() {
            true => self.wake.max(self.stalled_until),
            false => Time::NEVER,
        };
        self.sleepers.iter().map(|sleeper| sleeper.wakes_at).fold(turn, Time::min)
    }
}

/// An empty core at new rings, and control's ends of them.
fn empty_seat(
    id: CoreId,
    seed: u64,
    (down, up): (usize, usize),
) -> (Seat, RingProducer<Option<Command>>, RingConsumer<Option<Event>>) {
    let (commands, taken) = ring(down, || None);
    let (given, events) = ring(up, || None);
    let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
    let core = Core::new(CoreConfig { id, clock, seed, links: Links::default() });
    (Seat::new(core, taken, given), commands, events)
}

impl Vacancy for Station {
    type Error = Infallible;

    fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            return None;
        }
        let event = self.events.slot(0).take();
        self.events.release(1);
        event
    }

    fn fill(&mut self, now: Time) -> Result<(), Infallible> {
        self.seed = self.seed.wrapping_mul(SEED_STEP).wrapping_add(now.as_nanos());
        let (seat, commands, events) = empty_seat(self.id, self.seed, self.ring_slots);
        let dead = std::mem::replace(&mut self.seat, seat);
        (self.commands, self.events) = (commands, events);
        if let Some((stalled_at, in_hand, sleep)) = self.stalled.take() {
            let (network, wakes_at) = (Network::new(), tick(now + sleep));
            let io = network.endpoint(&[address(self.id)]);
            for Datagram { source, destination, bytes } in in_hand {
                network.push(source, destination, &bytes);
            }
            self.sleepers.push(Sleeper { seat: dead, stalled_at, network, io, wakes_at });
        }
        (self.life, self.vacant_until) = (self.life + 1, None);
        (self.delivered, self.sent, self.wake) = (0, 0, now);
        Ok(())
    }
}
