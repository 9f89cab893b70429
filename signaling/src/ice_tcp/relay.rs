//! One client's connection: from its stream to its core's port, and back.
//!
//! The way back is where a slow client shows. What it does not take waits in three places, each
//! bounded: the connection's send buffer, one batch here, the receive buffer of the socket towards
//! the core. When all are full the kernel drops what comes, as a router would, and the client's own
//! feedback lowers what it is sent.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opencall_io::batch::MAX_DATAGRAM;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout};

use super::Ended;
use super::framing::{Deframer, PREFIX, is_check, is_success};

/// A core answers a check only if it is its client's: so long may that take.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients check their pairs every few seconds, and consent ends after 30 s (RFC 7675).
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a client may take nothing at all.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes written at once.
const BATCH_BYTES: usize = 32 << 10;

/// Of the socket towards the core: some 200 datagrams, a key frame or two of the best layer.
const CORE_BUFFER_BYTES: usize = 256 << 10;

/// Carries one connection until it ends, to the core that `core_of` names by its first check; tells
/// by `proven` that the core has answered.
pub async fn carry(
    stream: TcpStream,
    core_of: impl FnOnce(&[u8]) -> Result<SocketAddr, Ended>,
    proven: impl FnOnce(),
) -> Ended {
    let signs = Signs::default();
    let carrying = async {
        if let Err(error) = stream.set_nodelay(true) {
            return Ended::Failed(error.kind());
        }
        let (mut reader, writer) = stream.into_split();
        let mut deframer = Deframer::default();
        match begin(&mut reader, &mut deframer, core_of).await {
            Ok(udp) => tokio::select! {
                ended = to_core(reader, deframer, &udp, &signs) => ended,
                ended = from_core(writer, &udp, &signs, proven) => ended,
            },
            Err(ended) => ended,
        }
    };
    tokio::select! {
        ended = carrying => ended,
        ended = watch(&signs) => ended,
    }
}

/// Waits for the first check, and passes it on by a new socket.
async fn begin(
    reader: &mut OwnedReadHalf,
    deframer: &mut Deframer,
    core_of: impl FnOnce(&[u8]) -> Result<SocketAddr, Ended>,
) -> Result<UdpSocket, Ended> {
    loop {
        match deframer.take() {
            Ok(None) => {}
            Ok(Some(check)) if is_check(check) => {
                let failed = |error: io::Error| Ended::Failed(error.kind());
                let udp = open(core_of(check)?).await.map_err(failed)?;
                let _ = udp.send(check).await;
                return Ok(udp);
            }
            Ok(Some(_)) | Err(_) => return Err(Ended::NotIce),
        }
        read(reader, deframer).await?;
    }
}

async fn read(reader: &mut OwnedReadHalf, deframer: &mut Deframer) -> Result<(), Ended> {
    match reader.read(deframer.space()).await {
        Ok(0) => Err(Ended::ByClient),
        Ok(bytes) => {
            deframer.filled(bytes);
            Ok(())
        }
        Err(error) => Err(Ended::Failed(error.kind())),
    }
}

/// What was seen of a client, and of its core.
struct Signs {
    began: Instant,
    /// When the client last said something, milliseconds after it began.
    heard_ms: AtomicU64,
    /// When the core last answered a check of it; 0 before it did, as a core does only where it
    /// knows the password.
    answered_ms: AtomicU64,
}

impl Default for Signs {
    fn default() -> Self {
        let never = || AtomicU64::new(0);
        Signs { began: Instant::now(), heard_ms: never(), answered_ms: never() }
    }
}

impl Signs {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hear(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn answer(&self) {
        self.answered_ms.store(self.now_ms().max(1), Ordering::Relaxed);
    }

    fn is_proven(&self) -> bool {
        self.answered_ms.load(Ordering::Relaxed) > 0
    }

    /// Whoever is no longer answered has left, however much it still says.
    fn silent_at(&self) -> Instant {
        let [heard_ms, answered_ms] =
            [&self.heard_ms, &self.answered_ms].map(|at| at.load(Ordering::Relaxed));
        self.began + Duration::from_millis(heard_ms.min(answered_ms)) + SILENCE_MAX
    }
}

/// A socket of this client alone: its address is the client's, to the core.
async fn open(core: SocketAddr) -> io::Result<UdpSocket> {
    let own: SocketAddr = match core {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let udp = UdpSocket::bind(own).await?;
    SockRef::from(&udp).set_recv_buffer_size(CORE_BUFFER_BYTES)?;
    udp.connect(core).await?;
    Ok(udp)
}

async fn to_core(
    mut reader: OwnedReadHalf,
    mut deframer: Deframer,
    udp: &UdpSocket,
    signs: &Signs,
) -> Ended {
    loop {
        match deframer.take() {
            Ok(Some(datagram)) => {
                signs.hear();
                // What a core that is just being replaced cannot take is lost.
                let _ = udp.send(datagram).await;
            }
            Ok(None) => {
                if let Err(ended) = read(&mut reader, &mut deframer).await {
                    return ended;
                }
            }
            Err(_) => return Ended::TooLong,
        }
    }
}

async fn from_core(
    mut writer: OwnedWriteHalf,
    udp: &UdpSocket,
    signs: &Signs,
    proven: impl FnOnce(),
) -> Ended {
    let mut proven = Some(proven);
    let mut batch = vec![0; BATCH_BYTES].into_boxed_slice();
    loop {
        if let Err(error) = udp.readable().await {
            return Ended::Failed(error.kind());
        }
        let filled = match fill(&mut batch, udp, signs) {
            Ok(filled) => filled,
            Err(error) => return Ended::Failed(error.kind()),
        };
        if signs.is_proven()
            && let Some(proven) = proven.take()
        {
            proven();
        }
        let mut rest = &batch[..filled];
        while !rest.is_empty() {
            match timeout(WRITE_PATIENCE, writer.write(rest)).await {
                Ok(Ok(0)) => return Ended::Failed(ErrorKind::WriteZero),
                Ok(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                Ok(Err(error)) => return Ended::Failed(error.kind()),
                Err(_) => return Ended::Stuck,
            }
        }
    }
}

/// Takes what the core has sent, each datagram behind its length. Returns the bytes.
fn fill(batch: &mut [u8], udp: &UdpSocket, signs: &Signs) -> io::Result<usize> {
    let mut filled = 0;
    while batch.len() - filled >= PREFIX + MAX_DATAGRAM {
        let (prefix, space) = batch[filled..].split_at_mut(PREFIX);
        match udp.try_recv(space) {
            Ok(len) => {
                if is_success(&space[..len]) {
                    signs.answer();
                }
                prefix.copy_from_slice(&(len as u16).to_be_bytes());
                filled += PREFIX + len;
            }
            // A core that is just being replaced has no socket for a moment.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Ends who is not proven in time, and who falls silent.
async fn watch(signs: &Signs) -> Ended {
    sleep_until(signs.began + PROOF_TIMEOUT).await;
    if !signs.is_proven() {
        return Ended::NotProven;
    }
    while signs.silent_at() > Instant::now() {
        sleep_until(signs.silent_at()).await;
    }
    Ended::Silent
}
