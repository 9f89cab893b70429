//! The connections that are open: what each is doing, what it may read, and which one makes way
//! when there is no room for another.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bucket::{Bucket, Rate};
use crate::addresses::{Address, Place};

/// What one connection may send in the long run, bytes per second, and at once. The largest honest
/// need is to enter a room of 500 by OpenCall's messages: a thousand `consume` requests of up to
/// 20 KB, as fast as a browser makes them. A flood of the smallest frames costs 15 ns per byte.
const CONNECTION_BYTES: Rate = Rate { per_second: MIB, burst: 16.0 * MIB };

const MIB: f64 = 1_048_576.0;

/// Candidates that are compared before one makes way: enough that it is an old one.
const SAMPLE: usize = 64;

/// A connection between requests for so long is closed before any other: browsers open another.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Handshakes, and the first request.
    Opening,
    /// A request is being answered.
    Busy,
    /// Between requests.
    Idle,
    /// A WebSocket whose client has entered no room yet.
    Socket,
    /// A WebSocket in a room. It never makes way.
    Settled,
}

/// One open connection, shared by its stream, the handlers and [`OpenConnections`].
pub struct Connection {
    /// The other end of the TCP connection, which may be a proxy.
    pub peer: SocketAddr,
    all: Arc<OpenConnections>,
    key: usize,
    state: Mutex<State>,
    is_socket: AtomicBool,
    /// Whether it has to end now, without ceremony.
    doomed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

struct State {
    stage: Stage,
    /// When this stage began.
    since: Instant,
    /// `None` for a trusted proxy's connection, which carries requests of many.
    bytes: Option<Bucket>,
    address: Option<Address>,
    /// Given back when the connection is gone.
    place: Option<Place>,
    slot: Option<OwnedSemaphorePermit>,
}

/// A connection's place among those that are open, given back when this is dropped: with its
/// descriptor, or after it.
pub struct Seat(Arc<Connection>);

/// All of them.
pub struct OpenConnections {
    slots: Arc<Semaphore>,
    yielding: Mutex<Yielding>,
    evicted: AtomicU64,
}

/// Those that may have to make way.
#[derive(Default)]
struct Yielding {
    connections: Slab<Arc<Connection>>,
    hand: usize,
}

impl OpenConnections {
    /// At most `max` at the same time.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(OpenConnections {
            slots: Arc::new(Semaphore::new(max)),
            yielding: Mutex::default(),
            evicted: AtomicU64::new(0),
        })
    }

    /// Room for one more connection; one that is open makes way if need be. `None` when all are
    /// WebSockets in rooms.
    pub async fn slot(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        if !self.evict() {
            return None;
        }
        let slot = Arc::clone(&self.slots).acquire_owned();
        tokio::time::timeout(patience, slot).await.ok()?.ok()
    }

    /// A connection that has just been accepted.
    pub fn enter(
        self: &Arc<Self>,
        peer: SocketAddr,
        slot: OwnedSemaphorePermit,
        now: Instant,
    ) -> Arc<Connection> {
        let mut yielding = self.yielding();
        let entry = yielding.connections.vacant_entry();
        let connection = Arc::new(Connection {
            peer,
            all: Arc::clone(self),
            key: entry.key(),
            state: Mutex::new(State {
                stage: Stage::Opening,
                since: now,
                bytes: None,
                address: None,
                place: None,
                slot: Some(slot),
            }),
            is_socket: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        entry.insert(Arc::clone(&connection));
        connection
    }

    /// Ends the connection that is least missed. `false` when there is none.
    pub fn evict(&self) -> bool {
        let now = tokio::time::Instant::now().into_std();
        let Some(connection) = self.yielding().least_missed(now) else { return false };
        self.evicted.fetch_add(1, Ordering::Relaxed);
        connection.doom();
        true
    }

    /// How many have had to make way.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn yielding(&self) -> MutexGuard<'_, Yielding> {
        self.yielding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Yielding {
    /// Of the next few in turn: one between requests, else one of the address that has the most,
    /// else the oldest.
    fn least_missed(&mut self, now: Instant) -> Option<Arc<Connection>> {
        let capacity = self.connections.capacity();
        let turn = (0..capacity).map(|step| (self.hand + step) % capacity);
        let candidates = turn.filter_map(|key| Some((key, self.connections.get(key)?)));
        let living = candidates.filter(|(_, connection)| !connection.is_doomed());
        let mut last = self.hand;
        let worst = living
            .take(SAMPLE)
            .inspect(|&(key, _)| last = key)
            .max_by_key(|(_, connection)| connection.dispensability(now))
            .map(|(_, connection)| Arc::clone(connection));
        self.hand = last + 1;
        worst
    }
}

impl Seat {
    /// Of `connection`; there is one for each.
    pub fn new(connection: Arc<Connection>) -> Self {
        Seat(connection)
    }

    /// Waits until the connection has to end.
    pub async fn doomed(&self) {
        std::future::poll_fn(|context| match self.0.doomed_while_reading(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl std::ops::Deref for Seat {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl Connection {
    /// Whose connection it is: what it reads is charged from now on. `place` is given back with the
    /// connection.
    pub fn belongs_to(&self, address: Address, place: Option<Place>, now: Instant) {
        let mut state = self.state();
        state.bytes = Some(Bucket::full(CONNECTION_BYTES, now));
        state.address = Some(address);
        state.place = place;
    }

    /// Charges bytes that were read, or work as if it were so many bytes.
    pub fn charge(&self, bytes: f64, now: Instant) {
        let mut state = self.state();
        if let Some(bucket) = &mut state.bytes {
            bucket.charge(bytes, CONNECTION_BYTES, now);
        }
        if let Some(address) = &state.address {
            address.charge(bytes, now);
        }
    }

    /// Charges this connection alone, and not its address.
    pub fn charge_alone(&self, bytes: f64, now: Instant) {
        if let Some(bucket) = &mut self.state().bytes {
            bucket.charge(bytes, CONNECTION_BYTES, now);
        }
    }

    /// How long nothing more is read.
    pub fn wait(&self, now: Instant) -> Duration {
        let mut state = self.state();
        let own = state.bytes.as_mut().map(|bucket| bucket.wait(CONNECTION_BYTES, now));
        let address = state.address.as_ref().map(|address| address.wait(now));
        own.max(address).unwrap_or_default()
    }

    /// A request is being answered.
    pub fn busy(&self, now: Instant) {
        self.enter(Stage::Busy, now);
    }

    /// The answer has been handed over.
    pub fn idle(&self, now: Instant) {
        self.enter(Stage::Idle, now);
    }

    /// It has become a WebSocket of `address`.
    pub fn socket(&self, address: Address, now: Instant) {
        self.enter(Stage::Socket, now);
        self.is_socket.store(true, Ordering::Relaxed);
        let mut state = self.state();
        // One that came through a proxy is charged to its client from here on.
        state.bytes.get_or_insert_with(|| Bucket::full(CONNECTION_BYTES, now));
        state.address = Some(address);
    }

    /// Its client is in a room: it no longer makes way for others.
    pub fn settle(&self, now: Instant) {
        let is_new = self.state().stage != Stage::Settled;
        if is_new {
            self.enter(Stage::Settled, now);
            self.stop_yielding();
        }
    }

    fn enter(&self, stage: Stage, now: Instant) {
        let mut state = self.state();
        // The end of the answer that made it a WebSocket comes late.
        let is_socket = matches!(state.stage, Stage::Socket | Stage::Settled);
        if !is_socket || stage == Stage::Settled {
            (state.stage, state.since) = (stage, now);
        }
    }

    /// Whether it is a WebSocket, whose time-outs are not ours.
    pub fn is_socket(&self) -> bool {
        self.is_socket.load(Ordering::Relaxed)
    }

    /// Ends it: its stream fails at once.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// Whether it has to end.
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    /// Wakes the reader when the connection has to end; `true` when it has to already.
    pub fn doomed_while_reading(&self, context: &Context<'_>) -> bool {
        self.register(&self.reader, context.waker())
    }

    /// Wakes the writer when the connection has to end; `true` when it has to already.
    pub fn doomed_while_writing(&self, context: &Context<'_>) -> bool {
        self.register(&self.writer, context.waker())
    }

    fn register(&self, slot: &AtomicWaker, waker: &Waker) -> bool {
        slot.register(waker);
        self.is_doomed()
    }

    /// The stream is gone, and its descriptor with it.
    fn closed(&self) {
        self.stop_yielding();
        let mut state = self.state();
        (state.place, state.slot, state.address) = (None, None, None);
    }

    fn stop_yielding(&self) {
        // Not under the lock of the table: the last reference may be in it.
        let entry = {
            let mut yielding = self.all.yielding();
            let entry = yielding.connections.get(self.key);
            let ours = entry.is_some_and(|entry| std::ptr::eq(Arc::as_ptr(entry), self));
            ours.then(|| yielding.connections.remove(self.key))
        };
        drop(entry);
    }

    /// Whether it is between requests, how many its address has, and its age in this stage.
    fn dispensability(&self, now: Instant) -> (bool, u32, Duration) {
        let state = self.state();
        let age = now.saturating_duration_since(state.since);
        let idle = state.stage == Stage::Idle && age >= IDLE_GRACE;
        (idle, state.address.as_ref().map_or(0, Address::connections), age)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::{AddressLimits, Addresses};

    const LIMITS: AddressLimits = AddressLimits {
        connections: 100,
        sockets: 100,
        requests: Rate { per_second: 1.0, burst: 1.0 },
        bytes: Rate { per_second: 1.0, burst: 1.0 },
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    struct World {
        all: Arc<OpenConnections>,
        addresses: Arc<Addresses>,
    }

    impl World {
        fn new(max: usize) -> Self {
            World { all: OpenConnections::new(max), addresses: Addresses::new(LIMITS, true) }
        }

        /// A connection of 192.0.2.`host`.
        async fn open(&self, host: u8) -> Option<Arc<Connection>> {
            let slot = self.all.slot(Duration::ZERO).await?;
            let peer = SocketAddr::from(([192, 0, 2, host], 1));
            let connection = self.all.enter(peer, slot, now());
            let address = self.addresses.address(peer.ip(), now());
            let place = address.connection(now());
            connection.belongs_to(address, place, now());
            tokio::time::advance(SECOND).await;
            Some(connection)
        }
    }

    fn doomed(connections: &[Arc<Connection>]) -> Vec<usize> {
        (0..connections.len()).filter(|&index| connections[index].is_doomed()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_make_way_first_then_those_of_many_then_the_oldest() {
        let world = World::new(10);
        let mut connections = Vec::new();
        for host in [1, 2, 2, 3, 4] {
            connections.push(world.open(host).await.unwrap());
        }
        connections[3].busy(now());
        connections[4].idle(now());
        tokio::time::advance(SECOND).await;
        for expected in [vec![4], vec![1, 4], vec![0, 1, 4], vec![0, 1, 2, 4]] {
            assert!(world.all.evict());
            assert_eq!(doomed(&connections), expected);
            for index in doomed(&connections) {
                connections[index].closed();
            }
        }
        assert_eq!(world.all.evicted(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_one_that_makes_way() {
        let world = World::new(1);
        let first = world.open(1).await.unwrap();
        let closing = tokio::spawn({
            let first = Arc::clone(&first);
            async move {
                while !first.is_doomed() {
                    tokio::task::yield_now().await;
                }
                first.closed();
            }
        });
        assert!(world.all.slot(SECOND).await.is_some());
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_a_room_never_makes_way() {
        let world = World::new(2);
        let mut connections = Vec::new();
        for host in [1, 2] {
            let connection = world.open(host).await.unwrap();
            connection.socket(world.addresses.address([192, 0, 2, host].into(), now()), now());
            connections.push(connection);
        }
        connections[0].settle(now());
        // The end of the answer that made it a WebSocket comes late.
        connections[0].idle(now());
        connections[0].settle(now());
        assert!(world.all.evict());
        assert_eq!(doomed(&connections), [1]);
        assert!(!world.all.evict());
        assert!(world.open(3).await.is_none());
        // Closing the one that has left the table leaves others in it alone.
        connections[1].closed();
        let third = world.open(3).await.unwrap();
        connections[0].closed();
        assert!(world.all.evict() && third.is_doomed());
    }
}
