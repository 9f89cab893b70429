//! The floor: what sealing and sending the same packets costs with nothing else around it.
//!
//! A loop seals packets under the keys of many receivers and sends them in trains through the same
//! I/O backend as the server. What arrives is thrown away between the timed parts, so that the
//! receiving half that the loopback does within the sender's call is counted, as it is in a run.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use opencall_dataplane::io::{
    self, BackendChoice, Io, Parker, RxBatch, SocketId, SocketOptions, TxBatch, Wait,
};
use opencall_dataplane::srtp::{Profile, SealContext};

use crate::result::Floor;

/// Receivers, each with keys and a port of its own.
const RECEIVERS: usize = 50;

/// Bytes in front of the payload: RTP header and the extensions of a video packet.
const HEADER_LEN: usize = 28;

/// The tag of AES-GCM.
const TAG_LEN: usize = 16;

/// Packets sent between two clearings of the receivers' buffers.
const BATCH: usize = 1000;

/// How long each variant is measured.
const DURATION: Duration = Duration::from_secs(1);

/// Buffer of each receiver, bytes: more than a batch.
const RECEIVE_BUFFER: usize = 8 << 20;

struct Bench {
    io: Box<dyn Io>,
    tx: TxBatch,
    rx: RxBatch,
    receivers: Vec<(UdpSocket, SocketAddr, SealContext)>,
    payload: Vec<u8>,
    index: u64,
}

/// Measures with sealed packets of `packet_len` bytes, in trains of `train_segments` on average.
///
/// # Errors
/// What the kernel says against the sockets.
pub fn measure(packet_len: usize, train_segments: f64) -> Result<Floor, String> {
    let mut bench = Bench::new(packet_len).map_err(|error| format!("floor: {error}"))?;
    let train_segments = train_segments.max(1.0);
    let (short, long) = (train_segments.floor() as usize, train_segments.ceil() as usize);
    let share_of_long = train_segments - train_segments.floor();
    let mut owed = 0.0;
    let ns_per_packet = bench.time(|_| {
        owed += share_of_long;
        if owed >= 1.0 {
            owed -= 1.0;
            return long;
        }
        short
    })?;
    Ok(Floor {
        mean_packet_bytes: packet_len as f64,
        train_segments,
        ns_per_packet,
        single_ns_per_packet: bench.time(|_| 1)?,
        seal_ns_per_packet: bench.time_seal(),
    })
}

impl Bench {
    fn new(packet_len: usize) -> Result<Self, String> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let sockets = io::socket::bind(&[loopback], 0, SocketOptions::default());
        let sockets = sockets.map_err(|error| error.to_string())?;
        let parker = Parker::new().map_err(|error| error.to_string())?;
        let backend = io::open(BackendChoice::Mmsg, sockets, &parker);
        let (io, ..) = backend.map_err(|error| error.to_string())?;
        let receiver = |_| {
            let socket = UdpSocket::bind((loopback, 0)).map_err(|error| error.to_string())?;
            socket.set_nonblocking(true).map_err(|error| error.to_string())?;
            // Without the privilege the limit of net.core counts, and some are dropped late.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
            }
            let address = socket.local_addr().map_err(|error| error.to_string())?;
            let key: [u8; 16] = rand::random();
            let seal = SealContext::new(Profile::AeadAes128Gcm, &key, &key[..12]);
            Ok::<_, String>((socket, address, seal.map_err(|error| error.to_string())?))
        };
        Ok(Bench {
            io,
            tx: TxBatch::new(),
            rx: RxBatch::new(),
            receivers: (0..RECEIVERS).map(receiver).collect::<Result<_, _>>()?,
            payload: vec![0x5a; packet_len.saturating_sub(HEADER_LEN + TAG_LEN).clamp(1, 1400)],
            index: 0,
        })
    }

    /// Nanoseconds of CPU per packet; `train` says how long the next train is.
    fn time(&mut self, mut train: impl FnMut(u64) -> usize) -> Result<f64, String> {
        let (mut cpu, mut packets, mut trains) = (Duration::ZERO, 0_u64, 0_u64);
        let begun = Instant::now();
        while begun.elapsed() < DURATION {
            let before = cpu_time();
            let mut sent = 0;
            while sent < BATCH {
                let to = trains as usize % RECEIVERS;
                let segments = train(trains);
                (0..segments).for_each(|_| self.seal_to(to));
                (sent, trains) = (sent + segments, trains + 1);
            }
            let turn = self.io.turn(&mut self.tx, &mut self.rx, Wait::Poll);
            turn.map_err(|error| error.to_string())?;
            cpu += cpu_time().saturating_sub(before);
            packets += sent as u64;
            self.drain();
        }
        Ok(cpu.as_nanos() as f64 / packets.max(1) as f64)
    }

    /// Nanoseconds of CPU per packet of sealing alone.
    fn time_seal(&mut self) -> f64 {
        let (mut packets, before, begun) = (0_u64, cpu_time(), Instant::now());
        while begun.elapsed() < DURATION {
            (0..BATCH).for_each(|n| self.seal_to(n % RECEIVERS));
            packets += BATCH as u64;
            self.tx.clear();
        }
        cpu_time().saturating_sub(before).as_nanos() as f64 / packets.max(1) as f64
    }

    fn seal_to(&mut self, receiver: usize) {
        let Some((_, address, seal)) = self.receivers.get_mut(receiver) else { return };
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

    fn drain(&self) {
        let mut datagram = [0; 64];
        for (socket, ..) in &self.receivers {
            while socket.recv(&mut datagram).is_ok() {}
        }
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
        let mut bench = Bench::new(500).unwrap();
        (0..3).for_each(|_| bench.seal_to(1));
        bench.io.turn(&mut bench.tx, &mut bench.rx, Wait::Poll).unwrap();
        let (socket, ..) = &bench.receivers[1];
        let mut datagram = [0; 2000];
        for _ in 0..3 {
            assert_eq!(socket.recv(&mut datagram).unwrap(), 500);
        }
        assert!(socket.recv(&mut datagram).is_err());
    }
}
