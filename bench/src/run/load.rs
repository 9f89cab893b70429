//! The threads of the participants: one for all media, one for all signaling and handshakes.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc as channel, oneshot};

use super::options::RunOptions;
use crate::client::connect::DtlsIdentity;
use crate::client::engine::{Command, Engine, EngineSender, EngineSetup};
use crate::client::net::Net;
use crate::client::session::{Dialect, Plan, Progress, World, live};
use crate::client::tally::Tally;
use crate::janus;
use crate::strangers::Strangers;

/// What participants are told to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Enter(Plan),
    Leave(u32),
}

/// The way to the participants; they end with it.
pub(super) struct Orders(pub(super) channel::UnboundedSender<Order>);

impl Orders {
    pub(super) fn enter(&self, plan: Plan) {
        // The sessions end after us.
        let _ = self.0.send(Order::Enter(plan));
    }

    pub(super) fn leave(&self, participant: u32) {
        let _ = self.0.send(Order::Leave(participant));
    }
}

/// The running threads.
pub(super) struct Load {
    pub(super) progress: Arc<Progress>,
    net: Net,
    tallies: mpsc::Receiver<Tally>,
    stop: Arc<AtomicBool>,
    engine: JoinHandle<Result<(), String>>,
}

impl Load {
    /// Starts the threads, without participants.
    pub(super) fn start(url: String, options: &RunOptions) -> Result<(Load, Orders), String> {
        let net = Net::bind(options.network).map_err(|error| format!("UDP socket: {error}"))?;
        let identity = DtlsIdentity::new()?;
        let progress = Arc::new(Progress::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (commands, inlet) = mpsc::channel::<Command>();
        let (tally_sender, tallies) = mpsc::channel();
        let (orders, order_inlet) = channel::unbounded_channel();
        let engine = Engine::new(EngineSetup {
            net: net.clone(),
            commands: inlet,
            tallies: tally_sender,
            stop: Arc::clone(&stop),
            bad_links: options.bad_links,
        });
        let engine = spawn("media", move || {
            engine.run().map_err(|error| format!("the participants cannot receive: {error}"))
        })?;
        let shared = net.clone();
        let world = World {
            url,
            dialect: options.dialect,
            began: Instant::now(),
            net,
            identity,
            engine: EngineSender(commands),
            run: rand::random(),
            room: options.room.clone(),
            seed: options.seed,
            layers: options.layers.clone(),
            sends_all_layers: options.sends_all_layers,
            codec: options.codec,
            messages: options.messages,
            bad_links: options.bad_links,
            next_transport: AtomicU32::new(0),
            progress: Arc::clone(&progress),
        };
        spawn("sessions", move || run_sessions(world, order_inlet))?;
        Ok((Load { progress, net: shared, tallies, stop, engine }, Orders(orders)))
    }

    /// Waits for what the media thread counts every second, but not beyond `until`.
    pub(super) fn next_tally(&self, until: Instant) -> Result<Option<Tally>, String> {
        match self.tallies.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(tally) => Ok(Some(tally)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err("the media thread has ended before the run".into())
            }
        }
    }

    /// Strangers begin to send so much, who know what can be known of these participants.
    pub(super) fn strangers(&self, per_second: u32, seed: u64) -> Result<Strangers, String> {
        let aims = self.progress.aims.lock().map(|aims| aims.clone()).unwrap_or_default();
        Strangers::start(self.net.clone(), aims, per_second, seed)
    }

    /// Ends the media thread.
    pub(super) fn stop(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.engine.join().map_err(|_| "the media thread panicked".to_owned())?
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, String> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(|error| format!("thread: {error}"))
}

/// The thread of all signaling and handshakes; ends with the orders.
fn run_sessions(world: World, mut orders: channel::UnboundedReceiver<Order>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        eprintln!("no runtime for the participants: are there file descriptors left?");
        return;
    };
    let world = Rc::new(world);
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let mut leavers = HashMap::new();
        while let Some(order) = orders.recv().await {
            match order {
                Order::Leave(participant) => drop(leavers.remove(&participant)),
                Order::Enter(plan) => {
                    let (leave, left) = oneshot::channel();
                    leavers.insert(plan.participant, leave);
                    tokio::task::spawn_local(participate(Rc::clone(&world), plan, left));
                }
            }
        }
    });
}

/// One participant; of those who fail the first is told of, for the others most often have its
/// reason.
async fn participate(world: Rc<World>, plan: Plan, left: oneshot::Receiver<()>) {
    let progress = Arc::clone(&world.progress);
    let life = match world.dialect {
        Dialect::Mediasoup(protocol) => live(world, protocol, plan, left).await,
        Dialect::Janus => janus::session::live(world, plan, left).await,
    };
    if let Err(reason) = life {
        let participant = plan.participant;
        progress.first_failure.get_or_init(|| format!("participant {participant}: {reason}"));
        progress.failed.fetch_add(1, Ordering::Relaxed);
    }
}
