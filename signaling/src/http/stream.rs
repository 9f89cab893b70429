//! An accepted stream with its limits: it reads at a metered pace, and it does not wait for ever
//! for a peer that takes nothing.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::open::Seat;

/// How long a peer may take nothing of an answer. A socket buffer becomes writable again when a
/// third of it is free: a peer at 64 kbit/s needs 11 s for that.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that buy a second of patience: slower peers lose the connection before the answer is
/// whole.
const WRITE_BYTES_PER_SECOND: f64 = 4096.0;

/// The shortest wait for a bucket to fill: a thousand connections of one address may wait for it.
const MIN_READ_DELAY: Duration = Duration::from_millis(20);

/// Bytes read in a row before others have their turn: a flood of the smallest frames takes 15 ns
/// per byte.
const MAX_TURN_BYTES: usize = 16 * 1024;

/// What can be cut off without the kernel keeping what it has not sent.
pub trait CutOff {
    /// Discards what was not sent when this is closed.
    fn discard_unsent(&self);
    /// From now on the peer may take its time: WebSockets have time-outs of their own.
    fn has_time(&self);
}

impl CutOff for TcpStream {
    fn discard_unsent(&self) {
        let _ = self.set_zero_linger();
    }

    fn has_time(&self) {
        let _ = SockRef::from(self).set_tcp_user_timeout(None);
    }
}

/// A stream with its limits. It fails when its connection has to end.
pub struct LimitedStream<S: CutOff> {
    inner: S,
    /// Given up after the stream.
    connection: Seat,
    read_delay: Option<Pin<Box<Sleep>>>,
    /// Read since the peer had nothing, or since others had their turn.
    turn_bytes: usize,
    patience: Duration,
    stalled: Option<Stall>,
    is_socket: bool,
}

/// A write that waits for the peer.
struct Stall {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl<S: CutOff> LimitedStream<S> {
    /// `inner` within the limits of `connection`.
    pub fn new(inner: S, connection: Seat) -> Self {
        LimitedStream {
            inner,
            connection,
            read_delay: None,
            turn_bytes: 0,
            patience: WRITE_PATIENCE,
            stalled: None,
            is_socket: false,
        }
    }

    /// Whether the buckets allow another read.
    fn poll_allowance(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(delay) = &mut self.read_delay {
                ready!(delay.as_mut().poll(context));
                self.read_delay = None;
            }
            let now = Instant::now();
            let wait = self.connection.wait(now.into_std());
            if wait.is_zero() {
                return Poll::Ready(());
            }
            // A wait too long for the clock is a long one.
            let end = now.checked_add(wait.max(MIN_READ_DELAY)).unwrap_or(now + WRITE_PATIENCE);
            self.read_delay = Some(Box::pin(sleep_until(end)));
        }
    }

    /// Fails when the peer has taken too little for too long.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.is_socket {
            return Poll::Pending;
        }
        let patience = self.patience;
        let stall = self.stalled.get_or_insert_with(|| {
            let since = Instant::now();
            Stall { since, end: Box::pin(sleep_until(since + patience)) }
        });
        ready!(stall.end.as_mut().poll(context));
        self.connection.doom();
        Poll::Ready(io::Error::new(ErrorKind::TimedOut, "the peer does not take the answer"))
    }

    fn progress(&mut self, written: usize) {
        if let Some(stall) = self.stalled.take() {
            self.patience = self.patience.saturating_sub(stall.since.elapsed());
        }
        let bought = Duration::from_secs_f64(written as f64 / WRITE_BYTES_PER_SECOND);
        self.patience = self.patience.saturating_add(bought).min(WRITE_PATIENCE);
    }

    fn look_for_upgrade(&mut self) {
        if !self.is_socket && self.connection.is_socket() {
            self.is_socket = true;
            self.stalled = None;
            self.inner.has_time();
        }
    }

    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.look_for_upgrade();
        if self.connection.doomed_while_writing(context) {
            return Poll::Ready(Err(ended()));
        }
        match write(&mut self.inner, context) {
            Poll::Ready(Ok(written)) => {
                self.progress(written);
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stalled(context).map(Err),
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the connection makes way for others")
}

impl<S: AsyncRead + CutOff + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.look_for_upgrade();
        if stream.connection.doomed_while_reading(context) {
            return Poll::Ready(Err(ended()));
        }
        ready!(stream.poll_allowance(context));
        if stream.turn_bytes >= MAX_TURN_BYTES {
            stream.turn_bytes = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(result) = Pin::new(&mut stream.inner).poll_read(context, buffer) else {
            stream.turn_bytes = 0;
            return Poll::Pending;
        };
        result?;
        let read = buffer.filled().len() - before;
        stream.turn_bytes += read;
        stream.connection.charge(read as f64, Instant::now().into_std());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + CutOff + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_write_with(context, |inner, context| Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(context, |inner, context| {
            Pin::new(inner).poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

impl<S: CutOff> Drop for LimitedStream<S> {
    fn drop(&mut self) {
        if self.connection.is_doomed() {
            self.inner.discard_unsent();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::addresses::{AddressLimits, Addresses};
    use crate::http::bucket::Rate;
    use crate::http::open::{Connection, OpenConnections};

    impl CutOff for DuplexStream {
        fn discard_unsent(&self) {}
        fn has_time(&self) {}
    }

    const MIB: f64 = 1_048_576.0;

    const LIMITS: AddressLimits = AddressLimits {
        connections: 10,
        sockets: 10,
        requests: Rate { per_second: 1.0, burst: 1.0 },
        bytes: Rate { per_second: 2.0 * MIB, burst: 64.0 * MIB },
    };

    fn now() -> std::time::Instant {
        Instant::now().into_std()
    }

    /// A connection of 192.0.2.1.
    async fn connection(addresses: &Arc<Addresses>) -> Arc<Connection> {
        let all = OpenConnections::new(10);
        let slot = all.slot(Duration::ZERO).await.unwrap();
        let connection = all.enter(([192, 0, 2, 1], 1).into(), slot, now());
        let address = addresses.address([192, 0, 2, 1].into(), now());
        connection.belongs_to(address, None, now());
        connection
    }

    async fn pair(buffer: usize) -> (LimitedStream<DuplexStream>, DuplexStream, Arc<Connection>) {
        let connection = connection(&Addresses::new(LIMITS, false)).await;
        let (ours, theirs) = duplex(buffer);
        let seat = Seat::new(Arc::clone(&connection));
        (LimitedStream::new(ours, seat), theirs, connection)
    }

    /// How long it takes to read `bytes` from a peer that sends as fast as it can.
    async fn time_to_read(bytes: usize, connections: usize) -> f64 {
        let addresses = Addresses::new(LIMITS, false);
        let begin = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let (ours, mut theirs) = duplex(65_536);
            let seat = Seat::new(connection(&addresses).await);
            let mut stream = LimitedStream::new(ours, seat);
            tokio::spawn(async move { while theirs.write_all(&[0; 4096]).await.is_ok() {} });
            tasks.push(tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                for _ in 0..bytes / buffer.len() {
                    stream.read_exact(&mut buffer).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        begin.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_read_at_its_pace_after_a_burst() {
        assert!(time_to_read(15 << 20, 1).await < 0.1);
        let seconds = time_to_read(20 << 20, 1).await;
        assert!((3.9..4.2).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_connections_of_an_address_share_its_pace() {
        // 5 times 16 MiB at once would be 80, of which 64 are the burst; then 2 MiB/s.
        let seconds = time_to_read(16 << 20, 5).await;
        assert!((7.9..8.3).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_loses_the_connection() {
        let (mut stream, theirs, _) = pair(1024).await;
        let begin = Instant::now();
        let error = stream.write_all(&[0; 10_000]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), WRITE_PATIENCE.as_secs());
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_gets_it_all_and_a_slower_one_does_not() {
        for (bytes_per_second, gets_it) in [(5_000, true), (3_000, false)] {
            let (mut stream, mut theirs, _) = pair(1024).await;
            tokio::spawn(async move {
                let mut buffer = vec![0; bytes_per_second];
                while theirs.read_exact(&mut buffer).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            let written = stream.write_all(&[0; 1_000_000]).await;
            assert_eq!(written.is_ok(), gets_it, "{bytes_per_second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_web_socket_may_take_its_time() {
        let (mut stream, _theirs, connection) = pair(1024).await;
        let address = Addresses::new(LIMITS, false).address([192, 0, 2, 1].into(), now());
        connection.socket(address, now());
        let write = stream.write_all(&[0; 10_000]);
        assert!(tokio::time::timeout(WRITE_PATIENCE * 10, write).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_makes_way_ends_at_once_whatever_it_waits_for() {
        let (mut stream, _theirs, connection) = pair(1024).await;
        let reading = tokio::spawn(async move { stream.read_u8().await });
        tokio::task::yield_now().await;
        connection.doom();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);

        let (mut stream, _theirs, connection) = pair(1024).await;
        let writing = tokio::spawn(async move { stream.write_all(&[0; 10_000]).await });
        tokio::task::yield_now().await;
        connection.doom();
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);

        // In debt, it is not reading at all.
        let (mut stream, _theirs, connection) = pair(1024).await;
        connection.charge(1e12, now());
        let reading = tokio::spawn(async move { stream.read_u8().await });
        tokio::task::yield_now().await;
        connection.doom();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
}
