//! The threads: one per data core, each driving its [`Core`] with its own I/O backend. The only
//! place besides the I/O seam that knows of clocks and threads.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::{Core, CoreConfig};
use crate::egress::scatter::Scattered;
use crate::fanout::links;
use crate::fanout::ring::{RingConsumer, RingProducer, ring};
use crate::io::{
    self, Backend, BackendChoice, Io, IoError, Parker, RxBatch, SocketOptions, TxBatch, Unparker,
    Wait,
};
use crate::message::{Command, CoreId, Event};
use crate::time::{NtpTime, Time, WallClock};

/// Commands that may wait for a core: a join of a 500-person room makes some thousands, and what
/// does not fit waits with control.
const COMMAND_SLOTS: usize = 4096;

/// Events that may wait for control; what does not fit waits with the core.
const EVENT_SLOTS: usize = 4096;

/// Commands done in one turn, so that media is not starved by them. Each costs some microseconds.
const MAX_COMMANDS_PER_TURN: usize = 256;

/// The longest a core sleeps: it bounds what a wake-up that got lost could cost.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// How long control may stay asleep over events that have time. Every voice has a level to tell ten
/// times a second: waking control for each cost 8 % of the CPU of a meeting of ten rooms.
const EVENT_PATIENCE: Duration = Duration::from_millis(50);

/// The one clock of the process, as every core and control read it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    wall: WallClock,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallClock { origin: NtpTime::from_unix(since_epoch) };
        Clock { origin: Instant::now(), wall }
    }

    /// Time since the start.
    pub fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// The instant of [`Time::ZERO`], for libraries that want one.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Relation to the wall clock.
    pub fn wall(&self) -> WallClock {
        self.wall
    }
}

/// What all data cores share.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// How many cores.
    pub cores: usize,
    /// Addresses each core listens on.
    pub listen: Vec<IpAddr>,
    /// Port of core 0; core *i* has the *i*-th after it.
    pub first_port: u16,
    /// Which backend.
    pub backend: BackendChoice,
    /// Whether each thread is bound to one CPU.
    pub pin: bool,
    /// Seed for numbers that need not be secret.
    pub seed: u64,
}

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Sockets or rings.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The thread could not be made.
    #[error(
        "cannot start a thread for data core {core}: {cause}; raise the limit of processes \
         (ulimit -u) or lower --workers"
    )]
    Thread {
        /// Which core.
        core: usize,
        /// The system's words.
        cause: std::io::Error,
    },
    /// An eventfd could not be made.
    #[error("cannot make an eventfd: {0}; raise the limit of open files (ulimit -n)")]
    Descriptors(std::io::Error),
    /// Zero cores were asked for.
    #[error("a data plane needs at least one core; set --workers to 1 or more")]
    NoCores,
}

/// Control's end of one data core.
pub struct DataCore {
    /// Its index.
    pub id: CoreId,
    /// Its port.
    pub port: u16,
    commands: RingProducer<Option<Command>>,
    events: RingConsumer<Option<Event>>,
    unparker: Unparker,
    thread: Option<JoinHandle<()>>,
}

impl DataCore {
    /// Hands a command down; gives it back when the ring is full. Call [`DataCore::wake`] after the
    /// last one.
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        let mut command = Some(command);
        match self.commands.push_with(|slot| *slot = command.take()) {
            Ok(()) => Ok(()),
            Err(_) => command.map_or(Ok(()), Err),
        }
    }

    /// Wakes the core if it sleeps.
    pub fn wake(&self) {
        self.unparker.wake();
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            return None;
        }
        let event = self.events.slot(0).take();
        self.events.release(1);
        event
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits for the thread to end, after [`Command::Shutdown`].
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(core = self.id.0, "data core panicked");
        }
    }
}

/// The running data plane.
pub struct DataPlane {
    /// One per core.
    pub cores: Vec<DataCore>,
    /// The backend in use.
    pub backend: Backend,
    /// Why that one: a line for the log.
    pub reason: String,
}

/// Starts all data cores. `notify` is called, from their threads, when events wait.
pub fn start(
    config: &DataPlaneConfig,
    clock: Clock,
    notify: &Arc<dyn Fn() + Send + Sync>,
) -> Result<DataPlane, StartError> {
    let mut seats = Vec::with_capacity(config.cores);
    let mut chosen = None;
    for index in 0..config.cores {
        let port = config.first_port.saturating_add(index as u16);
        let sockets = io::bind(&config.listen, port, SocketOptions::default())?;
        for warning in sockets.warnings() {
            tracing::warn!("{warning}");
        }
        let parker = Parker::new().map_err(StartError::Descriptors)?;
        let (io, backend, reason) = io::open(config.backend, sockets, &parker)?;
        chosen.get_or_insert((backend, reason));
        seats.push((port, io, parker));
    }
    let (backend, reason) = chosen.ok_or(StartError::NoCores)?;
    let peers: Vec<Unparker> = seats.iter().map(|(_, _, parker)| parker.unparker()).collect();
    let cpus = if config.pin { cpus_for(config.cores) } else { Vec::new() };

    let mut cores = Vec::with_capacity(config.cores);
    let links = links::connect(config.cores);
    for (index, ((port, io, parker), links)) in seats.into_iter().zip(links).enumerate() {
        let (command_tx, command_rx) = ring(COMMAND_SLOTS, || None);
        let (event_tx, event_rx) = ring(EVENT_SLOTS, || None);
        let id = CoreId(index as u8);
        let seed = config.seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let seat = Seat {
            core: Core::new(CoreConfig { id, clock: clock.wall(), seed, links }),
            clock,
            cpu: cpus.get(index).copied(),
            parker,
            peers: peers.clone(),
            commands: command_rx,
            events: event_tx,
            notify_due: Time::NEVER,
            notify: Arc::clone(notify),
        };
        let thread = std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || seat.run(io))
            .map_err(|cause| StartError::Thread { core: index, cause })?;
        cores.push(DataCore {
            id,
            port,
            commands: command_tx,
            events: event_rx,
            unparker: peers[index].clone(),
            thread: Some(thread),
        });
    }
    Ok(DataPlane { cores, backend, reason })
}

/// CPUs for the data cores: from the last one down, since CPU 0 serves interrupts and control.
fn cpus_for(cores: usize) -> Vec<core_affinity::CoreId> {
    let mut cpus = core_affinity::get_core_ids().unwrap_or_default();
    cpus.reverse();
    if cpus.len() < cores {
        tracing::warn!(
            cpus = cpus.len(),
            cores,
            "fewer CPUs than data cores: not pinning; lower --workers to the number of CPUs"
        );
        return Vec::new();
    }
    cpus
}

/// All that moves into a core's thread.
struct Seat {
    core: Core,
    clock: Clock,
    cpu: Option<core_affinity::CoreId>,
    parker: Parker,
    peers: Vec<Unparker>,
    commands: RingConsumer<Option<Command>>,
    events: RingProducer<Option<Event>>,
    /// When control is to be told of the events in the ring; [`Time::NEVER`] if it knows of all.
    notify_due: Time,
    notify: Arc<dyn Fn() + Send + Sync>,
}

impl Seat {
    fn run(mut self, io: Box<dyn Io>) {
        let core = self.core.id().0;
        if let Some(cpu) = self.cpu
            && !core_affinity::set_for_current(cpu)
        {
            tracing::warn!(core, cpu = cpu.id, "cannot pin the thread to its CPU");
        }
        io::run_promptly();
        if let Err(cause) = self.turn_until_shutdown(io) {
            tracing::error!(core, %cause, "data core's I/O failed");
        }
    }

    fn turn_until_shutdown(&mut self, mut io: Box<dyn Io>) -> std::io::Result<()> {
        let mut rx = RxBatch::new();
        let mut tx = TxBatch::new();
        loop {
            let now = self.clock.now();
            if self.run_commands(now, &mut tx) {
                self.log_counters();
                return Ok(());
            }
            self.core.gather(now, &mut rx, &mut tx);
            self.core.gather_piped(now);
            while self.core.scatter(now, &mut rx, &mut tx) == Scattered::More {
                let report = io.flush(&mut tx);
                self.core.count_turn(&report);
            }
            self.core.handle_timeouts(now, &mut tx);
            self.pass_events(now);
            for peer in self.core.links().take_wake() {
                io.wake_peer(&self.peers[usize::from(peer.0)]);
            }
            self.parker.prepare();
            let wait = if self.has_work() { Wait::Poll } else { self.sleep() };
            let report = io.turn(&mut tx, &mut rx, wait)?;
            self.parker.done();
            self.core.count_turn(&report);
        }
    }

    /// The last word of a core: what it did and what it dropped.
    fn log_counters(&self) {
        let stats = self.core.stats();
        let drops: Vec<String> =
            stats.drops.iter().map(|(reason, n)| format!("{} {n}", reason.label())).collect();
        tracing::info!(
            core = self.core.id().0,
            received = stats.datagrams_received,
            forwarded = stats.packets_forwarded,
            piped = stats.packets_piped,
            sent = stats.datagrams_sent,
            trains = stats.trains_sent,
            send_calls = stats.send_calls,
            dropped = drops.join(", "),
            "data core stopped"
        );
    }

    fn has_work(&mut self) -> bool {
        !self.commands.is_empty() || self.core.links().has_work() || self.core.has_events()
    }

    /// How long the core may sleep.
    fn sleep(&self) -> Wait {
        let due = self.core.next_timeout().min(self.notify_due);
        let until = due.since(self.clock.now()).min(MAX_SLEEP);
        if until.is_zero() { Wait::Poll } else { Wait::Until(until) }
    }

    /// Returns whether the core is to stop.
    fn run_commands(&mut self, now: Time, tx: &mut TxBatch) -> bool {
        let waiting = self.commands.len().min(MAX_COMMANDS_PER_TURN);
        let mut stop = false;
        for index in 0..waiting {
            match self.commands.slot(index).take() {
                Some(Command::Shutdown) => stop = true,
                Some(Command::SendDtls { transport, datagram }) => {
                    self.core.send_dtls(transport, &datagram, tx);
                }
                Some(command) => self.core.command(now, command),
                None => {}
            }
        }
        self.commands.release(waiting);
        stop
    }

    /// Hands events to control, and wakes it: at once when one of them is urgent.
    fn pass_events(&mut self, now: Time) {
        while self.core.has_events() {
            let (core, mut is_urgent) = (&mut self.core, false);
            let passed = self.events.push_with(|slot| {
                *slot = core.poll_event();
                is_urgent = slot.as_ref().is_some_and(Event::is_urgent);
            });
            if passed.is_err() {
                break;
            }
            let due = if is_urgent { now } else { now + EVENT_PATIENCE };
            self.notify_due = self.notify_due.min(due);
        }
        if self.notify_due <= now {
            self.notify_due = Time::NEVER;
            (self.notify)();
        }
    }
}
