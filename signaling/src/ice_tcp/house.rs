//! Who is connected, how many may be, and which core each is carried to.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use opencall_dataplane::ice::credentials::core_of;
use opencall_dataplane::message::CoreId;
use opencall_wire::stun::parse_binding_request;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::relay;
use super::{Counters, Ended};
use crate::http::open::Seat;

/// Connections at most: more transports than 500 participants have. Each may hold some 800 KiB in
/// the kernel if its client takes nothing.
const MAX_CONNECTIONS: usize = 2_048;

/// Of them not proven yet.
const MAX_UNPROVEN: usize = 256;

/// By which port a connection came.
#[derive(Debug, Clone, Copy)]
pub enum Port {
    /// That of the core that is reached there.
    OfCore(SocketAddr),
    /// One of all cores: its first check names its own.
    OfAll,
}

/// Who is connected.
#[derive(Debug, Default)]
struct Guests {
    /// In order of arrival; proven ones are not among them.
    unproven: BTreeMap<u64, AbortHandle>,
    connections: usize,
    next: u64,
    /// Where the cores are that there are now.
    cores: BTreeMap<CoreId, SocketAddr>,
}

/// Shared by the doors and the connections.
#[derive(Debug, Default)]
pub struct House {
    guests: Mutex<Guests>,
    pub counters: Arc<Counters>,
}

impl House {
    pub fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(House { guests: Mutex::default(), counters })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Guests) -> T) -> T {
        act(&mut self.guests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// There is a core, which is reached so.
    pub fn add_core(&self, core: CoreId, at: SocketAddr) {
        self.with(|guests| guests.cores.insert(core, at));
    }

    /// There is no longer such a core.
    pub fn remove_core(&self, core: CoreId) {
        self.with(|guests| guests.cores.remove(&core));
    }

    /// Takes a connection in, if there is room; the oldest that is not proven makes way. Its seat,
    /// if it has one, it keeps as long as it is there. To be called on the thread that carries.
    pub fn admit(self: &Arc<Self>, stream: TcpStream, port: Port, seat: Option<Seat>) {
        let room = self.with(|guests| {
            if guests.unproven.len() >= MAX_UNPROVEN
                && let Some((_, oldest)) = guests.unproven.pop_first()
            {
                oldest.abort();
                guests.connections -= 1;
                self.left(Ended::MadeWay);
            }
            let has_room = guests.connections < MAX_CONNECTIONS;
            has_room.then(|| {
                guests.connections += 1;
                guests.next += 1;
                guests.next
            })
        });
        let Some(number) = room else { return self.counters.count(Ended::Full) };
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        let house = Arc::clone(self);
        let task = tokio::spawn(async move {
            let ended = house.carry(stream, port, seat.as_ref(), number).await;
            // One that made way was counted by who came in its place.
            house.with(|guests| {
                guests.unproven.remove(&number);
                guests.connections -= 1;
            });
            house.left(ended);
        });
        // The task has not run yet: all of this is one thread.
        self.with(|guests| guests.unproven.insert(number, task.abort_handle()));
    }

    async fn carry(
        &self,
        stream: TcpStream,
        port: Port,
        seat: Option<&Seat>,
        number: u64,
    ) -> Ended {
        let core_of = |check: &[u8]| self.core_of(port, check);
        let proven = || {
            self.with(|guests| guests.unproven.remove(&number));
            // It has a password of someone in a room.
            if let Some(seat) = seat {
                seat.settle(tokio::time::Instant::now().into_std());
            }
        };
        let doomed = async {
            match seat {
                Some(seat) => seat.doomed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = relay::carry(stream, core_of, proven) => ended,
            () = doomed => Ended::MadeWay,
        }
    }

    /// Where a connection is carried that begins with `check`.
    fn core_of(&self, port: Port, check: &[u8]) -> Result<SocketAddr, Ended> {
        match port {
            Port::OfCore(core) => Ok(core),
            Port::OfAll => {
                let check = parse_binding_request(check).map_err(|_| Ended::NotIce)?;
                let core = core_of(check.ufrag()).ok_or(Ended::NoCore)?;
                self.with(|guests| guests.cores.get(&core).copied()).ok_or(Ended::NoCore)
            }
        }
    }

    fn left(&self, ended: Ended) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.counters.count(ended);
    }
}
