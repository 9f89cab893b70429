//! ICE over TCP (RFC 6544, passive candidates): for those whose network lets no UDP through.
//!
//! Data cores speak UDP and nothing else. Each TCP connection is carried to its core by a socket of
//! its own, over loopback; to the core its client is one at that socket's address. So TCP costs
//! those who use it, some microseconds a packet, and the way of all other packets knows nothing of
//! it.
//!
//! * [`framing`] — datagrams in a stream (RFC 4571).
//! * `house` — who is connected, and how many may be; `relay` — one connection; [`ended`] — why
//!   they end.
//!
//! Each core may have a port of its own ([`Doors`]), and all of them that of the web side
//! ([`Lodge`]): there the first check says which core it is for, by its ufrag.
//!
//! Whoever connects has to prove within seconds that it is a client: a core answers only checks
//! that know a password. Until then it counts among few, of which the oldest makes way.
#![forbid(unsafe_code)]

pub mod ended;
pub mod framing;
mod house;
mod relay;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use opencall_dataplane::message::CoreId;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

pub use self::ended::{Counters, Ended};
use self::house::{House, Port};
use crate::http::listener;
use crate::http::open::Seat;

/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Listening sockets, each with the core's address that its connections are carried to.
#[derive(Debug, Default)]
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
        let lodge = Lodge { runtime: runtime.handle().clone(), house: House::new(counters) };
        let mut gates = Gates { lodge, open: Vec::new() };
        gates.open(self)?;
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("ice-tcp".into()).spawn(run)?;
        Ok((Serving { thread, stop }, gates))
    }
}

/// Where those are taken in who came by the port of the web side.
#[derive(Debug, Clone)]
pub struct Lodge {
    runtime: Handle,
    house: Arc<House>,
}

impl Lodge {
    /// Carries a connection, of which nothing was read, to the core that its first check names. It
    /// gives its seat back when it ends.
    pub fn take_in(&self, stream: TcpStream, seat: Seat) {
        let house = Arc::clone(&self.house);
        self.runtime.spawn(async move {
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => house.admit(stream, Port::OfAll, Some(seat)),
                Err(error) => house.counters.count(Ended::Failed(error.kind())),
            }
        });
    }
}

/// Opens doors where cores come, and closes those of cores that have gone.
#[derive(Debug)]
pub struct Gates {
    lodge: Lodge,
    /// By the ports of their cores.
    open: Vec<(u16, AbortHandle)>,
}

impl Gates {
    /// For who comes by the port of the web side.
    pub fn lodge(&self) -> Lodge {
        self.lodge.clone()
    }

    /// Serves more doors.
    ///
    /// # Errors
    /// The system's; those that are served stay so.
    pub fn open(&mut self, doors: Doors) -> io::Result<()> {
        let _context = self.lodge.runtime.enter();
        for (listener, core) in doors.0 {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let house = Arc::clone(&self.lodge.house);
            let door = self.lodge.runtime.spawn(accept(listener, core, house));
            self.open.push((core.port(), door.abort_handle()));
        }
        Ok(())
    }

    /// There is a core that takes UDP at `address`: who comes by the port of the web side is
    /// carried there.
    pub fn add_core(&self, core: CoreId, address: SocketAddr) {
        self.lodge.house.add_core(core, reached_at(address));
    }

    /// Closes the doors of a core. Who came in by them is no concern of this: it has no core any
    /// more, and ends as whoever is not answered.
    pub fn close(&mut self, core: CoreId, port: u16) {
        self.lodge.house.remove_core(core);
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
            Ok((stream, _)) => house.admit(stream, Port::OfCore(core), None),
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
