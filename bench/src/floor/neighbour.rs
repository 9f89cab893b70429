//! The generator's part in a floor: takes what arrives, and is as busy as it was.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opencall_wire::srtp::{Profile, SealContext};

use super::sender::{HEADER_LEN, Sender};
use crate::server::pin;

/// The least often that it takes what arrived: long against that work, short against what it
/// disturbs.
const CYCLE: Duration = Duration::from_millis(1);

/// How it lives.
pub(super) struct Habits {
    /// Its CPUs; empty: any.
    pub(super) cpus: Vec<usize>,
    /// How busy it is, 0 to 1.
    pub(super) share: f64,
    /// Whom it wakes with a datagram, and how often.
    pub(super) wakes: Option<(SocketAddr, Duration)>,
}

/// A thread beside the one that is measured.
pub(super) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Neighbour {
    /// Starts it as the one that takes what this sender sends.
    pub(super) fn start(sender: &Sender, habits: Habits) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sockets, stopped) = (sender.receivers(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || live(&sockets, &habits, &stopped));
        Neighbour { stop, thread }
    }

    /// Ends it.
    ///
    /// # Errors
    /// What the kernel said against it.
    pub(super) fn stop(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the floor's neighbour panicked".to_owned())?
    }
}

fn live(sockets: &[Arc<UdpSocket>], habits: &Habits, stopped: &AtomicBool) -> Result<(), String> {
    if !habits.cpus.is_empty() {
        pin(&habits.cpus)?;
    }
    let said = |error: std::io::Error| format!("floor: {error}");
    let waker = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).map_err(said)?;
    let mut work = Work::new()?;
    let interval = habits.wakes.map_or(CYCLE, |(_, interval)| interval.min(CYCLE));
    // Between two looks at the same socket a cycle goes by at most.
    let looks = (sockets.len() as f64 * interval.as_secs_f64() / CYCLE.as_secs_f64()).ceil();
    let mut next_socket = sockets.iter().cycle();
    let (mut next, mut next_wake) = (Instant::now(), Instant::now());
    while !stopped.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if let Some((to, every)) = habits.wakes
            && begun >= next_wake
        {
            waker.send_to(&[0], to).map_err(said)?;
            // What was missed is not made up for: two wake-ups at once would be one.
            next_wake = (next_wake + every).max(begun);
        }
        next_socket.by_ref().take(looks as usize).for_each(|socket| drain(socket));
        let busy = interval.mul_f64(habits.share.clamp(0.0, 1.0));
        while begun.elapsed() < busy {
            work.a_bit();
        }
        next = (next + interval).max(begun);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Sealing uses the core as the generator does: its vector units and its caches.
struct Work {
    seal: SealContext,
    out: [u8; 1200],
    index: u64,
}

impl Work {
    fn new() -> Result<Self, String> {
        let key = [7; 16];
        let seal = SealContext::new(Profile::AeadAes128Gcm, &key, &key[..12]);
        let mut out = [0; 1200];
        out[0] = 0x80;
        Ok(Work { seal: seal.map_err(|error| error.to_string())?, out, index: 0 })
    }

    fn a_bit(&mut self) {
        self.out[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        let _ = self.seal.seal_rtp(self.index, HEADER_LEN, &[0x5a; 1100], &mut self.out);
        self.index += 1;
    }
}

/// Throws away what waits in a socket.
pub(super) fn drain(socket: &UdpSocket) {
    let mut datagram = [0; 64];
    while socket.recv(&mut datagram).is_ok() {}
}
