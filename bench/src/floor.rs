//! The floor: what sealing and sending the same packets costs with nothing else around it.
//!
//! A loop seals packets under the keys of many receivers and sends them in trains through the same
//! I/O backend as the server, to sockets that take whole trains, as the generator's does. What arrives
//! is thrown away, so that the receiving half that the loopback does within the sender's call is
//! counted, as it is in a run.
//!
//! In a run the generator works on the CPU beside the server's, and two CPUs may be one core's two
//! threads. So the floor is measured twice: with nobody else at work, and with a neighbour that is as
//! busy as the generator was and takes what arrives. The ratio is to the second.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use opencall_dataplane::io::{
    self, BackendChoice, Io, Parker, RxBatch, SocketId, SocketOptions, TxBatch, Wait,
};
use opencall_dataplane::srtp::{Profile, SealContext};

use crate::result::Floor;
use crate::server::pin;

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

/// The length of the neighbour's cycles: long against its work, short against what it disturbs.
const CYCLE: Duration = Duration::from_millis(1);

/// Which packets, and on which CPUs.
#[derive(Debug, Clone, Default)]
pub struct FloorOptions {
    /// Bytes of a sealed packet.
    pub packet_len: usize,
    /// Packets of a train, on average.
    pub train_segments: f64,
    /// The CPUs to measure on; empty: any.
    pub cpus: Vec<usize>,
    /// The CPUs of the neighbour; empty: any.
    pub neighbour_cpus: Vec<usize>,
    /// How busy the neighbour is, 0 to 1.
    pub neighbour_share: f64,
}

struct Bench {
    io: Box<dyn Io>,
    tx: TxBatch,
    rx: RxBatch,
    receivers: Vec<(Arc<UdpSocket>, SocketAddr, SealContext)>,
    payload: Vec<u8>,
    index: u64,
    has_neighbour: bool,
}

/// Measures, on a thread of its own.
///
/// # Errors
/// What the kernel says against the sockets or the CPUs.
pub fn measure(options: &FloorOptions) -> Result<Floor, String> {
    let options = options.clone();
    let measuring = std::thread::spawn(move || measure_here(&options));
    measuring.join().map_err(|_| "the floor's thread panicked".to_owned())?
}

fn measure_here(options: &FloorOptions) -> Result<Floor, String> {
    if !options.cpus.is_empty() {
        pin(&options.cpus)?;
    }
    let mut bench = Bench::new(options.packet_len).map_err(|error| format!("floor: {error}"))?;
    let train_segments = options.train_segments.max(1.0);
    let quiet_ns_per_packet = bench.time_trains(train_segments)?;
    let single_ns_per_packet = bench.time(|_| 1)?;
    let seal_ns_per_packet = bench.time_seal();
    let neighbour = Neighbour::start(&bench, options);
    bench.has_neighbour = true;
    let ns_per_packet = bench.time_trains(train_segments)?;
    neighbour.stop()?;
    Ok(Floor {
        mean_packet_bytes: options.packet_len as f64,
        train_segments,
        ns_per_packet,
        quiet_ns_per_packet,
        neighbour_share: options.neighbour_share,
        single_ns_per_packet,
        seal_ns_per_packet,
    })
}

/// Who takes what arrives, and is busy for a share of the time.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Neighbour {
    fn start(bench: &Bench, options: &FloorOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sockets: Vec<_> = bench.receivers.iter().map(|(socket, ..)| socket.clone()).collect();
        let (stopped, options) = (Arc::clone(&stop), options.clone());
        let thread = std::thread::spawn(move || {
            if !options.neighbour_cpus.is_empty() {
                pin(&options.neighbour_cpus)?;
            }
            let key = [7; 16];
            let seal = SealContext::new(Profile::AeadAes128Gcm, &key, &key[..12]);
            let mut seal = seal.map_err(|error| error.to_string())?;
            let (mut out, mut index) = ([0; 1200], 0_u64);
            out[0] = 0x80;
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                sockets.iter().for_each(|socket| drain(socket));
                // Sealing uses the core as the generator does: its vector units and its caches.
                while begun.elapsed() < CYCLE.mul_f64(options.neighbour_share.clamp(0.0, 1.0)) {
                    out[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                    let _ = seal.seal_rtp(index, HEADER_LEN, &[0x5a; 1100], &mut out);
                    index += 1;
                }
                std::thread::sleep(CYCLE.saturating_sub(begun.elapsed()));
            }
            Ok(())
        });
        Neighbour { stop, thread }
    }

    fn stop(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the floor's neighbour panicked".to_owned())?
    }
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
            setsockopt(&socket, sockopt::UdpGroSegment, &true)
                .map_err(|error| error.to_string())?;
            // Without the privilege the limit of net.core counts, and some are dropped late.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
            }
            let address = socket.local_addr().map_err(|error| error.to_string())?;
            let key: [u8; 16] = rand::random();
            let seal = SealContext::new(Profile::AeadAes128Gcm, &key, &key[..12]);
            Ok::<_, String>((Arc::new(socket), address, seal.map_err(|error| error.to_string())?))
        };
        Ok(Bench {
            io,
            tx: TxBatch::new(),
            rx: RxBatch::new(),
            receivers: (0..RECEIVERS).map(receiver).collect::<Result<_, _>>()?,
            payload: vec![0x5a; packet_len.saturating_sub(HEADER_LEN + TAG_LEN).clamp(1, 1400)],
            index: 0,
            has_neighbour: false,
        })
    }

    /// Nanoseconds of CPU per packet in trains of a mean length.
    fn time_trains(&mut self, train_segments: f64) -> Result<f64, String> {
        let (short, long) = (train_segments.floor() as usize, train_segments.ceil() as usize);
        let share_of_long = train_segments - train_segments.floor();
        let mut owed = 0.0;
        self.time(|_| {
            owed += share_of_long;
            if owed >= 1.0 {
                owed -= 1.0;
                return long;
            }
            short
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
            if !self.has_neighbour {
                self.receivers.iter().for_each(|(socket, ..)| drain(socket));
            }
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
}

fn drain(socket: &UdpSocket) {
    let mut datagram = [0; 64];
    while socket.recv(&mut datagram).is_ok() {}
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
        assert_eq!(socket.recv(&mut datagram).unwrap(), 1500, "one train, taken as one");
        assert!(socket.recv(&mut datagram).is_err());
    }

    #[test]
    fn a_floor_with_a_neighbour_is_measured_too() {
        let options = FloorOptions {
            packet_len: 300,
            train_segments: 2.5,
            neighbour_share: 0.3,
            ..FloorOptions::default()
        };
        let floor = measure(&options).unwrap();
        assert!(floor.seal_ns_per_packet > 0.0);
        assert!(floor.quiet_ns_per_packet > floor.seal_ns_per_packet);
        assert!(floor.single_ns_per_packet > 0.0 && floor.ns_per_packet > 0.0);
    }
}
