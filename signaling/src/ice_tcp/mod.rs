//! ICE over TCP (RFC 6544, passive candidates): for those whose network lets no UDP through.
//!
//! Data cores speak UDP and nothing else. Each TCP connection is carried to its core by a socket of
//! its own, over loopback; to the core its client is one at that socket's address. So TCP costs
//! those who use it, some microseconds a packet, and the way of all other packets knows nothing of
//! it.
//!
//! * [`framing`] — datagrams in a stream (RFC 4571).
//! * `relay` — one connection.
//!
//! Whoever connects has to prove within seconds that it is a client: a core answers only checks
//! that know a password. Until then it counts among few, of which the oldest makes way.
#![forbid(unsafe_code)]

pub mod framing;
mod relay;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::http::listener;

/// Connections at most: more transports than 500 participants have. Each may hold some 800 KiB in
/// the kernel if its client takes nothing.
const MAX_CONNECTIONS: usize = 2_048;

/// Of them not proven yet.
const MAX_UNPROVEN: usize = 256;

/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its client closed it.
    ByClient,
    /// It began with something other than a connectivity check.
    NotIce,
    /// A datagram longer than any a core takes.
    TooLong,
    /// No core answered its checks: nobody there knows a password.
    NotProven,
    /// It made way for newer ones, before it was proven.
    MadeWay,
    /// There was no room for it.
    Full,
    /// Its client said nothing for long.
    Silent,
    /// Its client took nothing for long.
    Stuck,
    /// The system's error.
    Failed(ErrorKind),
}

impl Ended {
    /// All of them, as they are counted.
    pub const LABELS: [&'static str; 9] = [
        "by_client",
        "not_ice",
        "too_long",
        "not_proven",
        "made_way",
        "full",
        "silent",
        "stuck",
        "failed",
    ];

    /// Its name in metrics.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    const fn index(self) -> usize {
        match self {
            Ended::ByClient => 0,
            Ended::NotIce => 1,
            Ended::TooLong => 2,
            Ended::NotProven => 3,
            Ended::MadeWay => 4,
            Ended::Full => 5,
            Ended::Silent => 6,
            Ended::Stuck => 7,
            Ended::Failed(_) => 8,
        }
    }
}

/// Connections, counted.
#[derive(Debug, Default)]
pub struct Counters {
    open: AtomicU64,
    ended: [AtomicU64; Ended::LABELS.len()],
}

impl Counters {
    /// How many there are now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many ended, by reason.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ended.iter().map(|counter| counter.load(Ordering::Relaxed));
        Ended::LABELS.into_iter().zip(counts)
    }

    fn count(&self, ended: Ended) {
        self.ended[ended.index()].fetch_add(1, Ordering::Relaxed);
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Guests {
    /// In order of arrival; proven ones are not among them.
    unproven: BTreeMap<u64, AbortHandle>,
    connections: usize,
    next: u64,
}

/// Shared by the doors and the connections.
#[derive(Debug, Default)]
struct House {
    guests: Mutex<Guests>,
    counters: Arc<Counters>,
}

impl House {
    fn with<T>(&self, act: impl FnOnce(&mut Guests) -> T) -> T {
        act(&mut self.guests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a connection in, if there is room; the oldest that is not proven makes way.
    fn admit(self: &Arc<Self>, stream: TcpStream, core: SocketAddr) {
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
            let proven = || drop(house.with(|guests| guests.unproven.remove(&number)));
            let ended = relay::carry(stream, core, proven).await;
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

    fn left(&self, ended: Ended) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.counters.count(ended);
    }
}

/// Listening sockets, each with the core's address that its connections are carried to.
#[derive(Debug)]
pub struct Doors(Vec<(TcpListener, SocketAddr)>);

impl Doors {
    /// Listens at the same addresses and ports as the cores do.
    pub fn open(cores: &[SocketAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let open = |&address: &SocketAddr| {
            let listener = listener::listen(address).map_err(|error| (address, error))?;
            Ok((listener, reached_at(address)))
        };
        cores.iter().map(open).collect::<Result<_, _>>().map(Doors)
    }

    /// Serves them, on a thread of its own; with what opens and closes further ones there.
    pub fn serve(self, runtime: Runtime, counters: Arc<Counters>) -> io::Result<(Serving, Gates)> {
        let (stop, stopped) = oneshot::channel::<()>();
        let house = Arc::new(House { guests: Mutex::default(), counters });
        let mut gates = Gates { runtime: runtime.handle().clone(), house, open: Vec::new() };
        gates.open(self)?;
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("ice-tcp".into()).spawn(run)?;
        Ok((Serving { thread, stop }, gates))
    }
}

/// Opens doors where cores come, and closes those of cores that have gone.
#[derive(Debug)]
pub struct Gates {
    runtime: Handle,
    house: Arc<House>,
    /// By the ports of their cores.
    open: Vec<(u16, AbortHandle)>,
}

impl Gates {
    /// Serves more doors.
    ///
    /// # Errors
    /// The system's; those that are served stay so.
    pub fn open(&mut self, doors: Doors) -> io::Result<()> {
        let _context = self.runtime.enter();
        for (listener, core) in doors.0 {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let door = self.runtime.spawn(accept(listener, core, Arc::clone(&self.house)));
            self.open.push((core.port(), door.abort_handle()));
        }
        Ok(())
    }

    /// Closes the doors at a port. Who came in by them is no concern of this: it has no core any
    /// more, and ends as whoever is not answered.
    pub fn close(&mut self, port: u16) {
        for (_, door) in self.open.extract_if(.., |(of, _)| *of == port) {
            door.abort();
        }
    }
}

/// The thread that carries connections.
#[derive(Debug)]
pub struct Serving {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Serving {
    /// Ends all connections, and the thread.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn accept(listener: tokio::net::TcpListener, core: SocketAddr, house: Arc<House>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => house.admit(stream, core),
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Where a core that listens at an address is reached from this machine.
fn reached_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
