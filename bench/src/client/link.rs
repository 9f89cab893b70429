//! Transports of participants, whatever signaling told of the server: connected, then sending or
//! receiving, until they are dropped.
#![forbid(unsafe_code)]

use std::net::SocketAddrV4;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use opencall_wire::srtp::KeyingMaterial;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_local};

use super::connect::{Connection, OUR_PWD, Remote};
use super::engine::{Beginning, Command};
use super::messages::{MessagePlan, Messages};
use super::outlet::Path;
use super::publish::{Publisher, PublisherSetup};
use super::receive::{ConsumerSetup, Receiver};
use super::session::{Plan, World};
use super::stun::Responder;

/// A transport of ours. Dropped, it stops.
struct Guard {
    transport: u32,
    task: AbortHandle,
    world: Rc<World>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
        self.world.engine.send(Command::Remove(self.transport));
    }
}

/// A number for a new transport.
///
/// # Errors
/// When no addresses are left.
pub fn next_transport(world: &World) -> Result<u32, String> {
    let transport = world.next_transport.fetch_add(1, Ordering::Relaxed);
    if transport >= world.net.network.max_transports() {
        return Err("no addresses are left for participants: make the run shorter".into());
    }
    Ok(transport)
}

/// A transport that is being connected.
pub struct Pending {
    guard: Guard,
    remote: SocketAddrV4,
    keys: oneshot::Receiver<Result<KeyingMaterial, String>>,
    messages: Option<oneshot::Sender<MessagePlan>>,
}

impl Pending {
    /// Begins to connect; the keys come later.
    pub fn begin(world: &Rc<World>, participant: u32, transport: u32, remote: Remote) -> Self {
        let (inbox_sender, inbox) = mpsc::unbounded_channel();
        let address = remote.address;
        let beginning = Beginning { transport, participant, remote: address, inbox: inbox_sender };
        world.engine.send(Command::Begin(beginning));
        let is_bad = world.bad_links.is_some_and(|links| links.has(participant));
        let detour = is_bad.then(|| world.engine.clone());
        let (net, responder) = (world.net.clone(), Responder::new(OUR_PWD));
        let (messages, start) = world.messages.map(|_| oneshot::channel()).unzip();
        let side = || Messages::connecting(world.began, world.run, world.engine.clone());
        let start = start.map(|start| (side(), start));
        let connection =
            Connection { transport, remote, net, detour, inbox, responder, messages: start };
        let (keys_sender, keys) = oneshot::channel();
        let task = spawn_local(connection.run(world.identity.clone(), keys_sender)).abort_handle();
        let guard = Guard { transport, task, world: Rc::clone(world) };
        Pending { guard, remote: address, keys, messages }
    }

    /// Waits for the keys.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn connected(self) -> Result<Link, String> {
        let keys = self.keys.await.map_err(|_| "the transport's task ended".to_owned())??;
        let _ = self.guard.world.progress.srtp_profile.set(keys.profile);
        Ok(Link { guard: self.guard, remote: self.remote, keys, messages: self.messages })
    }
}

/// A transport with keys.
pub struct Link {
    guard: Guard,
    remote: SocketAddrV4,
    keys: KeyingMaterial,
    messages: Option<oneshot::Sender<MessagePlan>>,
}

impl Link {
    /// Which transport it is.
    pub fn transport(&self) -> u32 {
        self.guard.transport
    }

    /// Receives from now on.
    ///
    /// # Errors
    /// What is wrong with the keys.
    pub fn start_receiver(&self) -> Result<(), String> {
        let Guard { transport, world, .. } = &self.guard;
        let seal = self.keys.seal_context().map_err(|error| error.to_string())?;
        let open = self.keys.open_context().map_err(|error| error.to_string())?;
        let receiver = Receiver::new(self.path(), world.run, world.codec, seal, open);
        world.engine.send(Command::Receive(*transport, Box::new(receiver)));
        Ok(())
    }

    /// The engine knows better whether a bad link lies between.
    fn path(&self) -> Path {
        Path { transport: self.guard.transport, remote: self.remote, is_bad: false }
    }

    /// A stream will come.
    pub fn consume(&self, setup: ConsumerSetup) {
        self.guard.world.progress.streams.fetch_add(1, Ordering::Relaxed);
        self.guard.world.engine.send(Command::Consume(self.guard.transport, setup));
    }

    /// Sends messages from now on.
    pub fn start_messages(&mut self, plan: MessagePlan) {
        if let Some(start) = self.messages.take() {
            // A connection that has ended is seen by what does not come.
            let _ = start.send(plan);
        }
    }

    /// A stream is over.
    pub fn stop_consuming(&self, consumer: String) {
        self.guard.world.engine.send(Command::StopConsuming(self.guard.transport, consumer));
    }

    /// Sends no more than so many layers from now on.
    pub fn limit_layers(&self, count: usize) {
        self.guard.world.engine.send(Command::LimitLayers(self.guard.transport, count));
    }

    /// Sends what a participant sends.
    ///
    /// # Errors
    /// What is wrong with the keys.
    pub fn start_publisher(&self, plan: Plan) -> Result<(), String> {
        let Guard { transport, world, .. } = &self.guard;
        let publisher = Publisher::new(PublisherSetup {
            path: self.path(),
            codec: world.codec,
            participant: plan.participant,
            run: world.run,
            seal: self.keys.seal_context().map_err(|error| error.to_string())?,
            open: self.keys.open_context().map_err(|error| error.to_string())?,
            audio: plan.audio,
            layers: if plan.video { world.layers.clone() } else { Vec::new() },
            age: world.began.elapsed(),
            seed: mix(world.seed, plan.participant),
        });
        world.engine.send(Command::Publish(*transport, Box::new(publisher)));
        Ok(())
    }
}

/// A seed for each participant (splitmix64).
fn mix(seed: u64, participant: u32) -> u64 {
    let mut z = seed.wrapping_add((u64::from(participant) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
