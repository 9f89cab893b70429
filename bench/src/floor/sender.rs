//! Seals and sends, and nothing else.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use opencall_io::{
    self, BackendChoice, Io, Parker, RxBatch, SocketId, SocketOptions, TxBatch, Wait,
};
use opencall_wire::srtp::{Profile, SealContext};

use super::neighbour::drain;

/// Bytes in front of the payload: RTP header and the extensions of a video packet.
pub(super) const HEADER_LEN: usize = 28;

/// The tag of AES-GCM.
const TAG_LEN: usize = 16;

/// Packets sent between two clearings of the receivers' buffers.
const BATCH: usize = 1000;

/// How long each variant is measured.
const DURATION: Duration = Duration::from_secs(1);

/// How long one is measured that sleeps: it sends less in the same time.
const PACED_DURATION: Duration = Duration::from_secs(2);

/// A wake-up that does not come is waited for so long.
const PATIENCE: Duration = Duration::from_millis(100);

/// Buffer of each receiver, bytes: more than a batch.
const RECEIVE_BUFFER: usize = 8 << 20;

/// One who seals under the keys of many receivers and sends to them.
pub(super) struct Sender {
    io: Box<dyn Io>,
    tx: TxBatch,
    rx: RxBatch,
    receivers: Vec<Receiver>,
    payload: Vec<u8>,
    index: u64,
    trains: u64,
    /// Whether it empties the receivers' buffers itself.
    pub(super) drains: bool,
}

struct Receiver {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    seal: SealContext,
}

impl Receiver {
    /// One that takes whole trains, as the generator's participants do.
    fn new() -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).map_err(said)?;
        socket.set_nonblocking(true).map_err(said)?;
        setsockopt(&socket, sockopt::UdpGroSegment, &true).map_err(|error| error.to_string())?;
        // Without the privilege the limit of net.core counts, and some are dropped late.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let address = socket.local_addr().map_err(said)?;
        let key: [u8; 16] = rand::random();
        let seal = SealContext::new(Profile::AeadAes128Gcm, &key, &key[..12]);
        let seal = seal.map_err(|error| error.to_string())?;
        Ok(Receiver { socket: Arc::new(socket), address, seal })
    }
}

impl Sender {
    /// One with packets of `packet_len` bytes and so many receivers.
    ///
    /// # Errors
    /// What the kernel says against the sockets.
    pub(super) fn new(packet_len: usize, receivers: usize) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("floor: {error}");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let sockets = opencall_io::socket::bind(&[loopback], 0, SocketOptions::default());
        let sockets = sockets.map_err(|error| said(&error))?;
        let parker = Parker::new().map_err(|error| said(&error))?;
        let backend = opencall_io::open(BackendChoice::default(), sockets, &parker);
        let (io, ..) = backend.map_err(|error| said(&error))?;
        let receivers = (0..receivers).map(|_| Receiver::new()).collect::<Result<_, _>>();
        Ok(Sender {
            io,
            tx: TxBatch::new(),
            rx: RxBatch::new(),
            receivers: receivers.map_err(|error| said(&error))?,
            payload: vec![0x5a; packet_len.saturating_sub(HEADER_LEN + TAG_LEN).clamp(1, 1400)],
            index: 0,
            trains: 0,
            drains: true,
        })
    }

    /// Where it is woken.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.io.local_addrs().first().copied()
    }

    /// The sockets of its receivers.
    pub(super) fn receivers(&self) -> Vec<Arc<UdpSocket>> {
        self.receivers.iter().map(|receiver| Arc::clone(&receiver.socket)).collect()
    }

    /// Nanoseconds of CPU per packet in a loop without a pause.
    pub(super) fn time(&mut self, train_segments: f64) -> Result<f64, String> {
        let mut lengths = train_lengths(train_segments);
        let (mut cpu, mut packets) = (Duration::ZERO, 0);
        let begun = Instant::now();
        while begun.elapsed() < DURATION {
            let before = cpu_time();
            let mut sent = 0;
            while sent < BATCH {
                sent += self.seal_train(&mut lengths);
            }
            self.io.flush(&mut self.tx);
            cpu += cpu_time().saturating_sub(before);
            packets += sent;
            if self.drains {
                self.receivers.iter().for_each(|receiver| drain(&receiver.socket));
            }
        }
        Ok(cpu.as_nanos() as f64 / packets.max(1) as f64)
    }

    /// Nanoseconds of CPU per packet when each datagram that comes ends a sleep, and so many
    /// packets are sent for it, on average.
    pub(super) fn time_paced(&mut self, train_segments: f64, burst: f64) -> Result<f64, String> {
        let mut lengths = train_lengths(train_segments);
        let (mut packets, mut owed) = (0, 0.0);
        let (before, begun) = (cpu_time(), Instant::now());
        while begun.elapsed() < PACED_DURATION {
            let turn = self.io.turn(&mut self.tx, &mut self.rx, Wait::Until(PATIENCE));
            let woken = turn.map_err(|error| format!("floor: {error}"))?.received;
            owed += f64::from(woken) * burst;
            while owed >= 1.0 {
                let sent = self.seal_train(&mut lengths);
                owed -= sent as f64;
                packets += sent;
            }
            self.io.flush(&mut self.tx);
        }
        let cpu = cpu_time().saturating_sub(before);
        Ok(cpu.as_nanos() as f64 / packets.max(1) as f64)
    }

    /// Nanoseconds of CPU per packet of sealing alone.
    pub(super) fn time_seal(&mut self) -> f64 {
        let mut lengths = train_lengths(1.0);
        let (mut packets, before, begun) = (0, cpu_time(), Instant::now());
        while begun.elapsed() < DURATION {
            packets += (0..BATCH).map(|_| self.seal_train(&mut lengths)).sum::<usize>();
            self.tx.clear();
        }
        cpu_time().saturating_sub(before).as_nanos() as f64 / packets.max(1) as f64
    }

    /// Seals a train to the next receiver; how many packets it has.
    fn seal_train(&mut self, lengths: &mut impl FnMut() -> usize) -> usize {
        let to = self.trains as usize % self.receivers.len().max(1);
        let segments = lengths();
        (0..segments).for_each(|_| self.seal_to(to));
        self.trains += 1;
        segments
    }

    fn seal_to(&mut self, receiver: usize) {
        let Some(Receiver { address, seal, .. }) = self.receivers.get_mut(receiver) else { return };
        let Some(out) = self.tx.reserve(HEADER_LEN + self.payload.len() + TAG_LEN) else { return };
        let mut header = [0; HEADER_LEN];
        header[0] = 0x80;
        header[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        out[..HEADER_LEN].copy_from_slice(&header);
        if let Ok(len) = seal.seal_rtp(self.index, HEADER_LEN, &self.payload, out) {
            self.tx.commit(len, *address, SocketId(0));
        }
        self.index += 1;
    }
}

/// Lengths of trains that have this mean.
fn train_lengths(mean: f64) -> impl FnMut() -> usize {
    let (short, long) = (mean.floor() as usize, mean.ceil() as usize);
    let share_of_long = mean - mean.floor();
    let mut owed = 0.0;
    move || {
        owed += share_of_long;
        if owed >= 1.0 {
            owed -= 1.0;
            return long;
        }
        short
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_sealed() {
        let mut sender = Sender::new(500, 2).unwrap();
        (0..3).for_each(|_| sender.seal_to(1));
        sender.io.flush(&mut sender.tx);
        let socket = &sender.receivers[1].socket;
        let mut datagram = [0; 2000];
        assert_eq!(socket.recv(&mut datagram).unwrap(), 1500, "one train, taken as one");
        assert!(socket.recv(&mut datagram).is_err());
    }

    #[test]
    fn trains_have_their_mean_length() {
        for mean in [1.0, 1.04, 2.5, 6.0] {
            let mut lengths = train_lengths(mean);
            let sum: usize = (0..1000).map(|_| lengths()).sum();
            assert!((sum as f64 / 1000.0 - mean).abs() < 0.01, "{mean}: {sum}");
        }
    }
}
