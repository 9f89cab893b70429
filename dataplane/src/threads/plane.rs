//! Starts the data cores, each on a thread with its own I/O backend; control's end of each; puts
//! another thread in the place of one that died or stalled; adds cores and ends them.
//!
//! The sockets are the plane's: they stay open while a core is replaced, and what arrives meanwhile
//! waits in them.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use opencall_io::ring::{RingConsumer, RingProducer, ring};
use opencall_io::{
    Backend, BackendChoice, Io, IoError, Parker, SocketOptions, SocketSet, Unparker,
};
use opencall_wire::time::Time;

use super::clock::Clock;
use super::load::{LoadMeter, ThreadId};
use super::nursery::Nursery;
use super::seat::Seat;
use super::vitals::{Death, Faults, Peers, Registry, Vitals, Wakers, Watch};
use super::worker::Worker;
use crate::checkpoint::Suspect;
use crate::core::{Core, CoreConfig};
use crate::fanout::links::Links;
use crate::message::{Command, CoreId, Event};

/// Commands that may wait for a core: a join of a 500-person room makes some thousands, and what
/// does not fit waits with control.
const COMMAND_SLOTS: usize = 4096;

/// Events that may wait for control; what does not fit waits with the core.
const EVENT_SLOTS: usize = 4096;

/// A core that lived for less is not replaced at once, but after [`FIRST_PAUSE`], and after twice
/// as long each time that follows: whatever kills it is there still.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// See [`SHORT_LIFE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause: it bounds how soon a core is back once the cause is gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A core that was told to end takes no longer than this, unless it has stalled.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Deaths of a core with a datagram of one address in hand, after which what comes from there is
/// dropped unseen.
const DEATHS_TO_QUARANTINE: u32 = 2;

/// Addresses remembered so of a core; the oldest is forgotten.
const MAX_SUSPECTS: usize = 64;

/// What all data cores share.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// How many cores at start.
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
    /// Sockets of the first cores, where another process has opened them.
    pub sockets: Vec<SocketSet>,
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
    /// Cores are bound to CPUs, and there are no more of these.
    #[error(
        "each of the {0} CPUs of this process has a data core: start the server with --pin=false \
         to have more"
    )]
    NoCpu(usize),
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
    sockets: SocketSet,
    cpu: Option<core_affinity::CoreId>,
    seed: u64,
    commands: RingProducer<Option<Command>>,
    events: RingConsumer<Option<Event>>,
    unparker: Unparker,
    thread: Option<JoinHandle<()>>,
    load: LoadMeter,
    vitals: Arc<Vitals>,
    watch: Watch,
    /// Since when it runs.
    since: Time,
    /// Short lives in a row.
    short_lives: u32,
    /// It has died, and is to be replaced then.
    due: Option<Time>,
    /// Where what it had in hand came from when it died, and how often.
    suspects: VecDeque<(SocketAddr, u32)>,
}

/// A core has died or stalled.
#[derive(Debug, Clone)]
pub struct Loss {
    /// Which.
    pub core: CoreId,
    /// How.
    pub death: Death,
    /// Its thread makes no more turns and cannot be ended; it is left to itself, and will send
    /// nothing if it wakes up.
    pub stalled: bool,
    /// An address from which nothing is taken any more, for this is not the first death by it.
    pub quarantined: Option<SocketAddr>,
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

    /// The share of time, 0–1, for which the thread has run since the last call.
    pub fn busy(&mut self, now: Time) -> Option<f32> {
        self.load.busy(now)
    }

    /// Where it listens.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.sockets.local_addrs()
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

    /// Whether it has died since the last call, or makes no turns any more.
    fn loss(&mut self, now: Time) -> Option<Loss> {
        if self.due.is_some() {
            return None;
        }
        let death = self.vitals.take_death();
        let stalled = death.is_none() && self.is_running() && self.watch.look(now, &self.vitals);
        if stalled {
            self.vitals.replace();
        }
        let without_words =
            |reason: &str| Death { reason: reason.to_owned(), at: now, suspect: None };
        let death = match death {
            Some(death) => death,
            None if stalled => without_words("it makes no turns"),
            None if !self.is_running() => without_words("its thread has ended"),
            None => return None,
        };
        let lived = death.at.since(self.since);
        self.short_lives = if lived < SHORT_LIFE { self.short_lives.saturating_add(1) } else { 0 };
        self.due = Some(now + pause(self.short_lives));
        let quarantined = death.suspect.as_ref().and_then(|suspect| self.suspect(suspect));
        Some(Loss { core: self.id, death, stalled, quarantined })
    }

    /// Remembers what was in hand; returns the address if that is to be quarantined now.
    fn suspect(&mut self, suspect: &Suspect) -> Option<SocketAddr> {
        let known = self.suspects.iter_mut().find(|(address, _)| *address == suspect.source);
        if let Some((address, deaths)) = known {
            *deaths += 1;
            return (*deaths == DEATHS_TO_QUARANTINE).then_some(*address);
        }
        if self.suspects.len() == MAX_SUSPECTS {
            self.suspects.pop_front();
        }
        self.suspects.push_back((suspect.source, 1));
        None
    }
}

/// How long a core stays dead after so many short lives in a row.
fn pause(short_lives: u32) -> Duration {
    match short_lives {
        0 => Duration::ZERO,
        lives => FIRST_PAUSE.saturating_mul(1 << (lives - 1).min(16)).min(LONGEST_PAUSE),
    }
}

/// The running data plane.
pub struct DataPlane {
    /// Those that run, in the order of their ids.
    pub cores: Vec<DataCore>,
    /// The backend in use.
    pub backend: Backend,
    /// Why that one: a line for the log.
    pub reason: String,
    starter: Starter,
    /// Those that were told to end and have not yet: their ports are still taken.
    leaving: Vec<DataCore>,
    /// Those of them that have stalled.
    stuck: Vec<DataCore>,
}

/// What it takes to start the thread of any core.
struct Starter {
    clock: Clock,
    notify: Arc<dyn Fn() + Send + Sync>,
    registry: Arc<Registry>,
    nursery: Nursery,
    config: DataPlaneConfig,
    /// In the order in which cores take them; empty if they are not bound to CPUs.
    cpus: Vec<core_affinity::CoreId>,
}

/// A thread that is about to run, and control's ends of it.
struct Started {
    commands: RingProducer<Option<Command>>,
    events: RingConsumer<Option<Event>>,
    thread: JoinHandle<()>,
    load: LoadMeter,
}

/// A core's place, before its thread runs.
struct Opened {
    id: CoreId,
    port: u16,
    sockets: SocketSet,
    io: Box<dyn Io>,
    parker: Parker,
    backend: Backend,
    reason: String,
}

impl Starter {
    /// Opens a core's sockets.
    fn open(&self, id: CoreId, choice: BackendChoice) -> Result<Opened, StartError> {
        let port = self.config.first_port.saturating_add(id.0.into());
        let sockets = match self.config.sockets.get(usize::from(id.0)) {
            Some(sockets) => sockets.clone(),
            None => opencall_io::bind(&self.config.listen, port, SocketOptions::default())?,
        };
        for warning in sockets.warnings() {
            tracing::warn!("{warning}");
        }
        let parker = Parker::new().map_err(StartError::Descriptors)?;
        let (io, backend, reason) = opencall_io::open(choice, sockets.clone(), &parker)?;
        Ok(Opened { id, port, sockets, io, parker, backend, reason })
    }

    /// Starts an empty core in its place.
    fn launch(
        &self,
        opened: Opened,
        cpu: Option<core_affinity::CoreId>,
    ) -> Result<DataCore, StartError> {
        let Opened { id, port, sockets, io, parker, .. } = opened;
        let now = self.clock.now();
        let seed = self.config.seed.wrapping_add(id.0.into()).wrapping_mul(SEED_STEP);
        let seed = seed.wrapping_add(now.as_nanos());
        let (unparker, vitals) = (parker.unparker(), Arc::new(Vitals::default()));
        let started = self.start(self.core(id, seed), cpu, (io, parker), Arc::clone(&vitals))?;
        self.registry.set(id, unparker.clone(), Arc::clone(&vitals));
        Ok(DataCore {
            id,
            port,
            sockets,
            cpu,
            seed,
            commands: started.commands,
            events: started.events,
            unparker,
            thread: Some(started.thread),
            load: started.load,
            vitals,
            watch: Watch::default(),
            since: now,
            short_lives: 0,
            due: None,
            suspects: VecDeque::new(),
        })
    }

    fn start(
        &self,
        core: Core,
        cpu: Option<core_affinity::CoreId>,
        (io, parker): (Box<dyn Io>, Parker),
        vitals: Arc<Vitals>,
    ) -> Result<Started, StartError> {
        let (command_tx, command_rx) = ring(COMMAND_SLOTS, || None);
        let (event_tx, event_rx) = ring(EVENT_SLOTS, || None);
        let index = usize::from(core.id().0);
        let thread_id = ThreadId::default();
        let worker = Worker {
            seat: Seat::new(core, command_rx, event_tx),
            clock: self.clock,
            cpu,
            parker,
            thread: Arc::clone(&thread_id),
            peers: Peers::new(Arc::clone(&self.registry)),
            vitals,
            notify: Arc::clone(&self.notify),
        };
        let thread = self.nursery.start(format!("data-{index}"), move || worker.run(io));
        let thread = thread.map_err(|cause| StartError::Thread { core: index, cause })?;
        let load = LoadMeter::of(thread_id);
        Ok(Started { commands: command_tx, events: event_rx, thread, load })
    }

    fn core(&self, id: CoreId, seed: u64) -> Core {
        Core::new(CoreConfig { id, clock: self.clock.wall(), seed, links: Links::default() })
    }
}

impl DataPlane {
    /// A core that runs.
    pub fn core_mut(&mut self, id: CoreId) -> Option<&mut DataCore> {
        self.cores.iter_mut().find(|core| core.id == id)
    }

    /// Those that run, and those that have yet to end.
    fn all(&self) -> impl Iterator<Item = &DataCore> {
        self.cores.iter().chain(&self.leaving).chain(&self.stuck)
    }

    /// Whether no core has this id, nor one that has yet to end.
    pub fn is_free(&self, id: CoreId) -> bool {
        self.all().all(|core| core.id != id)
    }

    /// Adds an empty core, where [`DataPlane::is_free`] says that there is none. Returns its port.
    ///
    /// # Errors
    /// Its port is taken, every CPU has a core, or the system has no thread or descriptors left.
    pub fn add(&mut self, id: CoreId) -> Result<u16, StartError> {
        let cpu = self.free_cpu()?;
        let opened = self.starter.open(id, self.choice())?;
        let core = self.starter.launch(opened, cpu)?;
        let port = core.port;
        let place = self.cores.partition_point(|other| other.id < id);
        self.cores.insert(place, core);
        Ok(port)
    }

    /// The CPU for one more core, if cores are bound to CPUs.
    fn free_cpu(&self) -> Result<Option<core_affinity::CoreId>, StartError> {
        let cpus = &self.starter.cpus;
        if cpus.is_empty() {
            return Ok(None);
        }
        let free = cpus.iter().find(|&&cpu| !self.all().any(|core| core.cpu == Some(cpu)));
        free.copied().map(Some).ok_or(StartError::NoCpu(cpus.len()))
    }

    /// Tells a core to end, of which nothing is wanted any more. `false` if it takes no commands
    /// now: ask again.
    pub fn end(&mut self, id: CoreId, now: Time) -> bool {
        let Some(index) = self.cores.iter().position(|core| core.id == id) else { return true };
        let core = &mut self.cores[index];
        if core.is_running() && core.send(Command::Shutdown).is_err() {
            return false;
        }
        core.wake();
        core.since = now;
        self.starter.registry.remove(id);
        self.leaving.push(self.cores.remove(index));
        true
    }

    /// The next of the cores that were told to end and have, or that will never: a thread that has
    /// stalled cannot be ended. It sends nothing more if it wakes up, and keeps its port till then.
    pub fn poll_ended(&mut self, now: Time) -> Option<CoreId> {
        self.stuck.retain(DataCore::is_running);
        let is_over = |core: &DataCore| !core.is_running() || now.since(core.since) > END_PATIENCE;
        let index = self.leaving.iter().position(is_over)?;
        let mut core = self.leaving.remove(index);
        let id = core.id;
        match core.is_running() {
            true => {
                core.vitals.replace();
                self.stuck.push(core);
            }
            false => core.join(),
        }
        Some(id)
    }

    /// Whether [`DataPlane::poll_ended`] is to be asked soon.
    pub fn is_any_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// The cores that have died or stalled since the last call, which should not be longer ago than
    /// [`WATCH_INTERVAL`](super::WATCH_INTERVAL).
    pub fn losses(&mut self, now: Time) -> impl Iterator<Item = Loss> {
        self.cores.iter_mut().filter_map(move |core| core.loss(now))
    }

    /// The next core that is to be replaced now.
    pub fn due_for_replacement(&self, now: Time) -> Option<CoreId> {
        let due = self.cores.iter().find(|core| core.due.is_some_and(|due| due <= now))?;
        Some(due.id)
    }

    /// When a core is to be replaced next; [`Time::NEVER`] if all live.
    pub fn next_replacement(&self) -> Time {
        self.cores.iter().filter_map(|core| core.due).min().unwrap_or(Time::NEVER)
    }

    /// Puts an empty core on a new thread in the place of one that died, on the same sockets. What
    /// the dead one had to say must have been taken ([`DataCore::poll_event`]).
    ///
    /// # Errors
    /// The system has no thread or descriptors left; it is tried again a while later.
    pub fn replace(&mut self, core: CoreId, now: Time) -> Result<(), StartError> {
        let choice = self.choice();
        let Some(seat) = self.cores.iter_mut().find(|seat| seat.id == core) else { return Ok(()) };
        seat.vitals.replace();
        // If that fails, it is tried again then.
        seat.due = Some(now + LONGEST_PAUSE);
        let parker = Parker::new().map_err(StartError::Descriptors)?;
        let unparker = parker.unparker();
        let (io, _, _) = opencall_io::open(choice, seat.sockets.clone(), &parker)?;
        seat.seed = seat.seed.wrapping_mul(SEED_STEP).wrapping_add(now.as_nanos());
        let mut empty = self.starter.core(core, seat.seed);
        let killers = seat.suspects.iter().filter(|(_, deaths)| *deaths >= DEATHS_TO_QUARANTINE);
        killers.for_each(|(address, _)| empty.quarantine(*address));
        let vitals = Arc::new(Vitals::default());
        let started = self.starter.start(empty, seat.cpu, (io, parker), Arc::clone(&vitals))?;
        self.starter.registry.set(core, unparker.clone(), Arc::clone(&vitals));
        (seat.commands, seat.events) = (started.commands, started.events);
        // A thread that has stalled cannot be waited for.
        seat.thread = Some(started.thread);
        (seat.load, seat.unparker) = (started.load, unparker);
        (seat.vitals, seat.watch, seat.since, seat.due) = (vitals, Watch::default(), now, None);
        Ok(())
    }

    /// The backend for a core that comes later.
    fn choice(&self) -> BackendChoice {
        match self.backend {
            Backend::Uring => BackendChoice::Auto,
            Backend::Mmsg => BackendChoice::Mmsg,
        }
    }

    /// Wakes any of the cores, whatever thread it has.
    pub fn wakers(&self) -> Wakers {
        Wakers { registry: Arc::clone(&self.starter.registry) }
    }

    /// Makes cores suffer, for tests of their replacement.
    #[doc(hidden)]
    pub fn faults(&self) -> Faults {
        Faults { registry: Arc::clone(&self.starter.registry) }
    }
}

/// An odd number with bits all over (2^64 by the golden ratio): seeds of cores differ everywhere.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Starts all data cores. `notify` is called, from their threads, when events wait or one has died.
///
/// # Errors
/// A port is taken, or the system has no thread or descriptors left: then none runs.
pub fn start(
    config: &DataPlaneConfig,
    clock: Clock,
    notify: &Arc<dyn Fn() + Send + Sync>,
) -> Result<DataPlane, StartError> {
    let nursery = Nursery::open().map_err(|cause| StartError::Thread { core: 0, cause })?;
    let starter = Starter {
        clock,
        notify: Arc::clone(notify),
        registry: Arc::default(),
        nursery,
        config: config.clone(),
        cpus: if config.pin { cpus_for(config.cores) } else { Vec::new() },
    };
    let ids = (0..config.cores).map(|index| CoreId(index as u8));
    let opened = ids.map(|id| starter.open(id, config.backend));
    let opened = opened.collect::<Result<Vec<Opened>, StartError>>()?;
    let Some(first) = opened.first() else { return Err(StartError::NoCores) };
    let (backend, reason) = (first.backend, first.reason.clone());
    let mut cpus = starter.cpus.iter().copied();
    let cores = opened.into_iter().map(|opened| starter.launch(opened, cpus.next()));
    let cores = cores.collect::<Result<Vec<DataCore>, StartError>>()?;
    drop(cpus);
    Ok(DataPlane { cores, backend, reason, starter, leaving: Vec::new(), stuck: Vec::new() })
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
