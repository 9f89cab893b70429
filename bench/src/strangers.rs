//! Strangers: what anybody on the network may send to a server's media port, and what comes back.
//!
//! Some know nothing; some have seen a participant's `ufrag`, as everyone has who sees its checks
//! pass; some can send in a participant's name, from its own address and port. None of them has a
//! key. Whatever they send is to be dropped, and answered by nothing.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::Checker;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::client::net::{Net, Received};

/// Addresses that they have.
const STRANGERS: u32 = 200;

/// What is due is sent so often.
const TICK: Duration = Duration::from_millis(1);

/// Answers are looked for after so many ticks.
const TICKS_PER_LOOK: u64 = 20;

/// The longest datagram of a browser.
const MAX_LEN: usize = 1200;

/// A participant's transport, as far as strangers know it.
#[derive(Debug, Clone)]
pub struct Aim {
    /// Where the server is.
    pub server: SocketAddrV4,
    /// The server's name for it, in ICE.
    pub ufrag: String,
    /// Its number, which is its address.
    pub transport: u32,
}

/// What went to and fro.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that strangers sent.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams that came back to the addresses of strangers.
    pub answers: u64,
    /// Their bytes.
    pub answer_bytes: u64,
}

/// What a datagram pretends to be, by turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Random bytes.
    Noise,
    /// A connectivity check of a transport that there is not.
    UnknownCheck,
    /// One of a transport that there is, without its password.
    ForgedCheck,
    /// The first flight of a DTLS handshake.
    ClientHello,
    /// A packet of RTP.
    Rtp,
    /// A report of RTCP.
    Rtcp,
}

const KINDS: [Kind; 6] =
    [Kind::Noise, Kind::UnknownCheck, Kind::ForgedCheck, Kind::ClientHello, Kind::Rtp, Kind::Rtcp];

/// Strangers at work.
pub struct Strangers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Traffic, String>>,
}

impl Strangers {
    /// Sends so many datagrams a second, aimed at these transports, until it is stopped. Every
    /// other one has an address of a stranger; the rest come from participants' own, through their
    /// socket.
    ///
    /// # Errors
    /// Nobody to aim at; what the kernel says.
    pub fn start(
        participants: Net,
        aims: Vec<Aim>,
        per_second: u32,
        seed: u64,
    ) -> Result<Self, String> {
        if aims.is_empty() {
            return Err("no participant is there whom strangers could know".into());
        }
        let own = Net::bind(participants.network).map_err(|error| format!("a socket: {error}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let mut work = Work {
            own,
            participants,
            aims,
            rng: StdRng::seed_from_u64(seed),
            received: Received::new(),
            traffic: Traffic::default(),
        };
        let thread = std::thread::Builder::new()
            .name("strangers".to_owned())
            .spawn(move || work.run(per_second, &ends).map_err(|error| format!("{error}")))
            .map_err(|error| format!("thread: {error}"))?;
        Ok(Strangers { stop, thread })
    }

    /// Ends it.
    ///
    /// # Errors
    /// What kept it from going on.
    pub fn stop(self) -> Result<Traffic, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the thread of strangers panicked".to_owned())?
    }
}

struct Work {
    /// The strangers' socket.
    own: Net,
    participants: Net,
    aims: Vec<Aim>,
    rng: StdRng,
    received: Received,
    traffic: Traffic,
}

impl Work {
    fn run(&mut self, per_second: u32, stop: &AtomicBool) -> io::Result<Traffic> {
        let begun = Instant::now();
        for tick in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
            // Whoever was off the CPU for long does not make up for all of it at once.
            let most = u64::from(per_second / 50).max(1);
            for _ in 0..due.saturating_sub(self.traffic.datagrams).min(most) {
                self.send()?;
            }
            if tick.is_multiple_of(TICKS_PER_LOOK) {
                self.look()?;
            }
            std::thread::sleep(TICK);
        }
        self.look()?;
        Ok(self.traffic)
    }

    fn send(&mut self) -> io::Result<()> {
        let turn = self.traffic.datagrams;
        let kind = KINDS[(turn / 2) as usize % KINDS.len()];
        let aim = self.aims[self.rng.random_range(0..self.aims.len())].clone();
        let bytes = datagram(kind, &aim.ufrag, &mut self.rng);
        let sent = match turn % 2 {
            0 => {
                let stranger = self.rng.random_range(0..STRANGERS);
                self.own.send(stranger, aim.server, &bytes, bytes.len())
            }
            _ => self.participants.send(aim.transport, aim.server, &bytes, bytes.len()),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => sent?,
        }
        self.traffic.datagrams += 1;
        self.traffic.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Counts what has come back.
    fn look(&mut self) -> io::Result<()> {
        while self.received.fill(&self.own)? > 0 {
            let traffic = &mut self.traffic;
            self.received.for_each(|_, _, answer| {
                traffic.answers += 1;
                traffic.answer_bytes += answer.len() as u64;
            });
        }
        Ok(())
    }
}

/// One datagram.
fn datagram(kind: Kind, ufrag: &str, rng: &mut StdRng) -> Vec<u8> {
    let id = TransactionId(rng.random());
    match kind {
        Kind::UnknownCheck => {
            let unknown = format!("{:016x}", rng.random::<u64>());
            Checker::new(&unknown, "guessed", "stranger", rng.random()).request(id)
        }
        Kind::ForgedCheck => Checker::new(ufrag, "guessed", "stranger", rng.random()).request(id),
        Kind::Noise => {
            let len = rng.random_range(1..=MAX_LEN);
            random(&[], len, rng)
        }
        // A record of the handshake in the clear, DTLS 1.2, with a ClientHello of one fragment
        // (RFC 6347 sections 4.1 and 4.2.2).
        Kind::ClientHello => {
            let head = [
                22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 187, 1, 0, 0, 175, 0, 0, 0, 0, 0, 0, 0,
                175,
            ];
            random(&head, 200, rng)
        }
        Kind::Rtp => {
            let len = rng.random_range(60..=MAX_LEN);
            random(&[0x80, 96], len, rng)
        }
        // A receiver report of one block, with 14 bytes for the index and the tag of SRTCP.
        Kind::Rtcp => random(&[0x81, 201, 0, 7], 46, rng),
    }
}

/// These bytes, and then random ones.
fn random(head: &[u8], len: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(len.max(head.len()), 0);
    rng.fill_bytes(&mut bytes[head.len()..]);
    bytes
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtp::header::RtpHeader;
    use opencall_wire::stun::parse_binding_request;

    use super::*;

    #[test]
    fn each_datagram_passes_for_what_it_pretends_to_be() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut of = |kind| datagram(kind, "known", &mut rng);
        let (unknown, forged) = (of(Kind::UnknownCheck), of(Kind::ForgedCheck));
        assert_eq!(parse_binding_request(&forged).expect("a check").ufrag(), "known");
        assert_ne!(parse_binding_request(&unknown).expect("a check").ufrag(), "known");
        let hello = of(Kind::ClientHello);
        // Of the record and of the message in it: what follows them.
        assert_eq!(usize::from(hello[12]), hello.len() - 13);
        assert_eq!(usize::from(hello[16]), hello.len() - 13 - 12);
        RtpHeader::parse(&of(Kind::Rtp)).expect("a header of RTP");
        assert_eq!(of(Kind::Rtcp)[1], 201, "a receiver report (RFC 3550 section 6.4.2)");
        assert!((1..=MAX_LEN).contains(&of(Kind::Noise).len()));
    }
}
