//! Starts the data cores, each on a thread with its own I/O backend; control's end of each.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::clock::Clock;
use super::load::{LoadMeter, ThreadId};
use super::seat::Seat;
use super::worker::Worker;
use crate::core::{Core, CoreConfig};
use crate::fanout::links::{Links, Mesh};
use crate::fanout::ring::{RingConsumer, RingProducer, ring};
use crate::io::{self, Backend, BackendChoice, IoError, Parker, SocketOptions, Unparker};
use crate::message::{Command, CoreId, Event};
use crate::time::Time;

/// Commands that may wait for a core: a join of a 500-person room makes some thousands, and what
/// does not fit waits with control.
const COMMAND_SLOTS: usize = 4096;

/// Events that may wait for control; what does not fit waits with the core.
const EVENT_SLOTS: usize = 4096;

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
    load: LoadMeter,
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
    /// Links them.
    pub mesh: Mesh,
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
    for (index, (port, io, parker)) in seats.into_iter().enumerate() {
        let (command_tx, command_rx) = ring(COMMAND_SLOTS, || None);
        let (event_tx, event_rx) = ring(EVENT_SLOTS, || None);
        let id = CoreId(index as u8);
        let seed = config.seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let core = Core::new(CoreConfig { id, clock: clock.wall(), seed, links: Links::default() });
        let thread_id = ThreadId::default();
        let worker = Worker {
            seat: Seat::new(core, command_rx, event_tx),
            clock,
            cpu: cpus.get(index).copied(),
            parker,
            thread: Arc::clone(&thread_id),
            peers: peers.clone(),
            notify: Arc::clone(notify),
        };
        let thread = std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || worker.run(io))
            .map_err(|cause| StartError::Thread { core: index, cause })?;
        cores.push(DataCore {
            id,
            port,
            commands: command_tx,
            events: event_rx,
            unparker: peers[index].clone(),
            thread: Some(thread),
            load: LoadMeter::of(thread_id),
        });
    }
    Ok(DataPlane { cores, mesh: Mesh::default(), backend, reason })
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
