//! From the listening socket to HTTP: room for a connection, the PROXY header, the address's place,
//! the TLS handshake; or to a data core, if it is ICE that comes.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::open::{Connection, Seat};
use super::proxy::{ProxyHeaderError, read_proxy_header};
use super::refusals::Refusal;
use super::stream::{LimitedStream, WRITE_PATIENCE};
use super::{Arrival, Door};
use crate::ice_tcp::{Lodge, framing};

/// TCP connections at most, WebSockets among them: a bound for the memory of those who connect and
/// say nothing, above what one host can serve.
const MAX_TCP_CONNECTIONS: usize = 20_000;

/// TCP connections whatever the limit of open files is; with fewer, nobody could be served.
const MIN_TCP_CONNECTIONS: usize = 16;

/// Descriptors kept free: connections that are being closed, certificate and page files, resolvers.
const SPARE_DESCRIPTORS: usize = 32;

/// Connections that the kernel accepts before we do.
const BACKLOG: i32 = 1024;

/// Send buffer of a connection, bytes; the kernel doubles it for its own bookkeeping. Left to
/// itself it gives 4 MiB to whoever does not read. This much per round trip is 10 Mbit/s at 100 ms.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Receive buffer of a connection, bytes. What is sent to us is small, and metered.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

/// How long accepting rests when the process is out of file descriptors all the same.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a newcomer waits for one that makes way.
const EVICTION_PATIENCE: Duration = Duration::from_secs(1);

/// How long the PROXY header and the TLS handshake may take together.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long request headers may take, and how long a kept-alive connection may stay idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Headers are parsed in a buffer of this size; browsers send under 2 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// What a new connection is charged, in bytes: 50 µs of system calls and set-up.
const CONNECTION_COST: f64 = 4096.0;

/// What a TLS handshake is charged, in bytes: a millisecond with an RSA key.
const HANDSHAKE_COST: f64 = 65_536.0;

/// A listening socket whose connections have bounded buffers.
pub fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit these. Set before listening, they bound the window as well.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections the limit of open files leaves room for.
pub fn max_connections() -> usize {
    let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // The data cores have their sockets by now.
    let used = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let room = limit.saturating_sub(used + SPARE_DESCRIPTORS);
    if room < MAX_TCP_CONNECTIONS {
        tracing::warn!(
            "room for {room} TCP connections within {limit} open files; raise ulimit -n to have \
             {MAX_TCP_CONNECTIONS}"
        );
    }
    room.clamp(MIN_TCP_CONNECTIONS, MAX_TCP_CONNECTIONS)
}

/// What may come by a port beside plain HTTP.
#[derive(Clone, Default)]
pub(super) struct Ways {
    /// TLS, and then nothing else.
    pub tls: Option<TlsAcceptor>,
    /// ICE over TCP.
    pub ice: Option<Lodge>,
}

/// Accepts connections; never ends.
pub(super) async fn accept(listener: TcpListener, door: Arc<Door>, router: Router, ways: Ways) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept; if too many files are open: ulimit -n");
                door.open.evict();
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(slot) = door.open.slot(EVICTION_PATIENCE).await else {
            let _ = stream.set_zero_linger();
            let detail = "every connection is in a meeting; raise ulimit -n or add a server";
            door.refuse(Refusal::Full, peer.ip().to_canonical(), &detail);
            continue;
        };
        let (door, router, ways) = (Arc::clone(&door), router.clone(), ways.clone());
        tokio::spawn(async move { door.open_connection(stream, peer, slot, router, ways).await });
    }
}

/// Why a connection ended before HTTP.
enum Failure {
    Refused(Refusal, IpAddr, String),
    /// By whom it was, it is of no interest.
    Ended,
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Failure::Ended
    }
}

impl Door {
    async fn open_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        slot: OwnedSemaphorePermit,
        router: Router,
        ways: Ways,
    ) {
        // Signaling is small messages that someone waits for.
        let _ = stream.set_nodelay(true);
        // A peer that takes nothing, not even the end: the kernel gives up as we do.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_PATIENCE));
        let connection = self.open.enter(peer, slot, Instant::now().into_std());
        let ip = peer.ip().to_canonical();
        let seat = Seat::new(Arc::clone(&connection));
        let opening = self.open_stream(stream, seat, ip, &ways);
        let opened = tokio::time::timeout(OPENING_TIMEOUT, opening).await.unwrap_or_else(|_| {
            // Browsers connect in advance, and may say nothing yet.
            if ways.tls.is_none() && !self.front.web.proxies.proxy_protocol {
                return Err(Failure::Ended);
            }
            let detail = "the handshake took too long".to_owned();
            Err(Failure::Refused(Refusal::Handshake, ip, detail))
        });
        let arrival = |client, tls| {
            let proxied = self.front.web.proxies.trust(ip);
            Extension(Arrival {
                connection: Arc::clone(&connection),
                peer: ip,
                client,
                proxied,
                tls,
            })
        };
        match opened {
            Ok(Opened::Plain(stream, client)) => {
                serve_http(stream, router.layer(arrival(client, false))).await;
            }
            Ok(Opened::Tls(stream, client)) => {
                serve_http(stream, router.layer(arrival(client, true))).await;
            }
            Ok(Opened::ForIce) => {}
            Err(Failure::Refused(refusal, ip, detail)) => {
                connection.doom();
                self.refuse(refusal, ip, &detail);
            }
            Err(Failure::Ended) => {}
        }
    }

    /// Everything before HTTP.
    async fn open_stream(
        &self,
        mut stream: TcpStream,
        seat: Seat,
        peer: IpAddr,
        ways: &Ways,
    ) -> Result<Opened, Failure> {
        let looking = async {
            let client = self.identify(&mut stream, peer, &seat).await?;
            let ice = match &ways.ice {
                Some(lodge) if begins_with_ice(&stream).await? => Some(lodge),
                _ => None,
            };
            Ok::<_, Failure>((client, ice))
        };
        let (client, ice) = tokio::select! {
            looked = looking => looked?,
            () = seat.doomed() => return Err(Failure::Ended),
        };
        if let Some(lodge) = ice {
            lodge.take_in(stream.into_std()?, seat);
            return Ok(Opened::ForIce);
        }
        let Some(acceptor) = &ways.tls else {
            return Ok(Opened::Plain(LimitedStream::new(stream, seat), client));
        };
        seat.charge(HANDSHAKE_COST, Instant::now().into_std());
        let stream = acceptor.accept(LimitedStream::new(stream, seat)).await.map_err(|error| {
            Failure::Refused(Refusal::Handshake, client, format!("TLS handshake: {error}"))
        })?;
        Ok(Opened::Tls(Box::new(stream), client))
    }

    /// Whose connection it is, by its PROXY header if there is to be one; takes a place for it.
    async fn identify(
        &self,
        stream: &mut TcpStream,
        peer: IpAddr,
        connection: &Connection,
    ) -> Result<IpAddr, Failure> {
        let proxies = &self.front.web.proxies;
        let mut client = peer;
        if proxies.proxy_protocol && proxies.trust(peer) {
            match read_proxy_header(stream).await {
                Ok(source) => client = source.unwrap_or(peer),
                Err(ProxyHeaderError::Read(_)) => return Err(Failure::Ended),
                Err(error) => {
                    return Err(Failure::Refused(Refusal::ProxyHeader, peer, error.to_string()));
                }
            }
        }
        // A proxy's connections carry requests of many, who are counted one by one.
        if !proxies.trust(client) {
            let now = Instant::now().into_std();
            let address = self.addresses.address(client, now);
            let Some(place) = address.connection(now) else {
                let detail = "too many connections from this address".to_owned();
                return Err(Failure::Refused(Refusal::Connections, client, detail));
            };
            connection.belongs_to(address, Some(place), now);
            connection.charge(CONNECTION_COST, now);
        }
        Ok(client)
    }
}

/// Whether a stream is one of datagrams. Its first byte tells, and stays unread; one that ends
/// without any is none.
async fn begins_with_ice(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    let is_there = stream.peek(&mut first).await? == 1;
    Ok(is_there && framing::may_begin_with(first[0]))
}

type TlsStream = tokio_rustls::server::TlsStream<LimitedStream<TcpStream>>;

/// What came, and from whom.
enum Opened {
    Plain(LimitedStream<TcpStream>, IpAddr),
    Tls(Box<TlsStream>, IpAddr),
    /// It is carried to a data core.
    ForIce,
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_have_small_buffers() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        let socket = SockRef::from(&stream);
        // The kernel doubles what it is asked for.
        assert!(socket.send_buffer_size().unwrap() <= 2 * SEND_BUFFER_BYTES);
        assert!(socket.recv_buffer_size().unwrap() <= 2 * RECEIVE_BUFFER_BYTES);
    }
}
