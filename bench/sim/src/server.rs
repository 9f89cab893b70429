//! The whole server on one thread: control, its rings, the seats of the data cores. It is driven as
//! the real threads drive it (`signaling/src/hub`, `dataplane/src/threads/worker.rs`).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opencall_control::api::{Output, Request, SessionConfig, SessionId, Token};
use opencall_control::{Control, ControlConfig, CoreAddresses};
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
use crate::plan::Plan;

/// How long the shortest turn takes, and the shortest way between two threads.
const TURN: Duration = Duration::from_millis(1);

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

/// A data core at its rings.
pub struct Station {
    /// The core.
    pub seat: Seat,
    commands: RingProducer<Option<Command>>,
    events: RingConsumer<Option<Event>>,
    backlog: VecDeque<Command>,
    io: MemoryIo,
    /// When its next turn is.
    pub wake: Time,
    /// Until when its thread gets no CPU.
    pub stalled_until: Time,
    /// Datagrams that its turns were given.
    pub delivered: u64,
    /// Datagrams that its turns gave.
    pub sent: u64,
}

/// See the module.
pub struct Server {
    /// Control.
    pub control: Control,
    /// The data cores.
    pub stations: Vec<Station>,
    mesh: Mesh,
    network: Network,
    calls: VecDeque<Call>,
    /// When control looks at what came.
    pub control_wake: Time,
    /// Until when its thread gets no CPU.
    pub control_stalled_until: Time,
    control_latency: Duration,
    rx: RxBatch,
    tx: TxBatch,
    /// Sessions that were opened, of which connection.
    pub opened: Vec<(SessionId, usize, u32)>,
}

/// Where clients reach a core.
pub fn address(core: CoreId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(core.0)))
}

impl Server {
    /// A server as the plan has it.
    pub fn new(plan: &Plan, seed: u64, origin: Instant) -> Self {
        let core = |index| CoreAddresses { announced: vec![address(CoreId(index as u8))] };
        let config = ControlConfig {
            placement: plan.placement,
            dtls: seeded::config(Side::Server, seed, plan.dtls, plan.profile),
            seed: Some(seed),
            unix_origin_ms: 1_700_000_000_000,
            ..ControlConfig::new((0..plan.cores).map(core).collect())
        };
        let (down, up, across) = plan.ring_slots;
        let network = Network::new();
        let stations = (0..plan.cores).map(|index| {
            let (commands, taken) = ring(down, || None);
            let (given, events) = ring(up, || None);
            let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
            let (id, links) = (CoreId(index as u8), Links::default());
            let seed = seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let core = Core::new(CoreConfig { id, clock, seed, links });
            Station {
                seat: Seat::new(core, taken, given),
                commands,
                events,
                backlog: VecDeque::new(),
                io: network.endpoint(&[address(id)]),
                wake: Time::NEVER,
                stalled_until: Time::ZERO,
                delivered: 0,
                sent: 0,
            }
        });
        let stations = stations.collect();
        Server {
            control: Control::new(config, origin).expect("a good configuration"),
            stations,
            network,
            mesh: Mesh::with_slots(across),
            calls: VecDeque::new(),
            control_wake: Time::NEVER,
            control_stalled_until: Time::ZERO,
            control_latency: plan.control_latency,
            rx: RxBatch::new(),
            tx: TxBatch::new(),
            opened: Vec::new(),
        }
    }

    /// When something is due.
    pub fn next(&self) -> Time {
        let control = self.control_wake.max(self.control_stalled_until);
        let cores = self.stations.iter().map(|station| station.wake.max(station.stalled_until));
        cores.fold(control, Time::min)
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
        let outputs = std::iter::from_fn(|| self.control.poll_output()).collect();
        let is_sent = self.pass_commands(now);
        let retry = if is_sent { Time::NEVER } else { now + TURN };
        self.control_wake = tick(self.control.next_timeout()).max(now + TURN).min(retry);
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

    /// Moves commands to the rings. Returns whether none is left.
    fn pass_commands(&mut self, now: Time) -> bool {
        while let Some((core, command)) = self.control.poll_command() {
            let link = self.mesh.link_for(core, &command);
            for (core, command) in link.into_iter().flatten().chain([(core, command)]) {
                self.stations[usize::from(core.0)].backlog.push_back(command);
            }
        }
        for station in &mut self.stations {
            while let Some(command) = station.backlog.pop_front() {
                let mut command = Some(command);
                let pushed = station.commands.push_with(|slot| *slot = command.take());
                if pushed.is_err() {
                    station.backlog.extend(command);
                    station.backlog.rotate_right(1);
                    break;
                }
                station.wake = station.wake.min(now);
            }
        }
        self.stations.iter().all(|station| station.backlog.is_empty())
    }

    /// A core's turn, if it is due. What it sends.
    pub fn core_turn(
        &mut self,
        now: Time,
        core: usize,
        dice: &mut StdRng,
    ) -> Option<Vec<Datagram>> {
        let station = &mut self.stations[core];
        if station.wake.max(station.stalled_until) > now {
            return None;
        }
        let io = &mut station.io;
        let received = io.turn(&mut self.tx, &mut self.rx, Wait::Poll);
        received.expect("memory has no errors");
        station.delivered += self.rx.len() as u64;
        let is_full = self.rx.is_full();
        let _ = station.seat.turn(now, &mut self.rx, &mut self.tx, |tx| io.flush(tx));
        let report = io.flush(&mut self.tx);
        station.seat.core_mut().count_turn(&report);
        let sent: Vec<Datagram> = std::iter::from_fn(|| self.network.pop()).collect();
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

    /// Whether the cores have done all that control told them, and control has heard all that they
    /// told it.
    pub fn is_settled(&mut self) -> bool {
        let settled = |station: &mut Station| {
            station.backlog.is_empty()
                && station.commands.free() == station.commands.capacity()
                && station.events.is_empty()
                && !station.seat.core().has_events()
        };
        self.calls.is_empty() && self.stations.iter_mut().all(settled)
    }
}

impl Station {
    fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            return None;
        }
        let event = self.events.slot(0).take();
        self.events.release(1);
        event
    }
}
