//! A network in memory, for tests and the simulator: datagrams are pushed in and taken out, and
//! nothing moves by itself.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::{MAX_DATAGRAM, RxBatch, TxBatch};
use super::park::Unparker;
use super::types::SocketId;
use super::{Io, TurnReport, Wait};

/// Datagrams that wait for an endpoint at most, as a socket's buffer has a limit. The simulator
/// sees the loss as it would on a real host.
pub const MAX_INBOX: usize = 8192;

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// Who shall get it.
    pub destination: SocketAddr,
    /// What it says.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Endpoint {
    addrs: Vec<SocketAddr>,
    inbox: VecDeque<(SocketId, Datagram)>,
    is_open: bool,
}

#[derive(Default)]
struct State {
    endpoints: Vec<Endpoint>,
    sent: VecDeque<Datagram>,
}

/// The network. Clones are handles to the same one.
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

impl Network {
    /// A network without endpoints.
    pub fn new() -> Self {
        Network::default()
    }

    /// An endpoint that listens on `addrs`, one socket each. A later endpoint takes an address over
    /// from an earlier one.
    pub fn endpoint(&self, addrs: &[SocketAddr]) -> MemoryIo {
        let mut state = self.state();
        let index = state.endpoints.len();
        let addrs = addrs.to_vec();
        state.endpoints.push(Endpoint {
            addrs: addrs.clone(),
            inbox: VecDeque::new(),
            is_open: true,
        });
        MemoryIo { network: self.clone(), index, addrs }
    }

    /// Lets a datagram arrive. False if nobody listens there, the inbox is full or the datagram is
    /// longer than any backend takes.
    pub fn push(&self, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) -> bool {
        if bytes.len() > MAX_DATAGRAM {
            return false;
        }
        let mut state = self.state();
        for endpoint in state.endpoints.iter_mut().rev().filter(|endpoint| endpoint.is_open) {
            let Some(socket) = endpoint.addrs.iter().position(|&addr| addr == destination) else {
                continue;
            };
            if endpoint.inbox.len() >= MAX_INBOX {
                return false;
            }
            let datagram = Datagram { source, destination, bytes: bytes.to_vec() };
            endpoint.inbox.push_back((SocketId(socket as u8), datagram));
            return true;
        }
        false
    }

    /// Takes the oldest datagram that an endpoint has sent.
    pub fn pop(&self) -> Option<Datagram> {
        self.state().sent.pop_front()
    }

    /// Lets everything sent so far arrive where it was sent to, at once and in order. Returns what
    /// nobody listens for.
    pub fn deliver_all(&self) -> Vec<Datagram> {
        let sent = std::mem::take(&mut self.state().sent);
        sent.into_iter()
            .filter(|datagram| !self.push(datagram.source, datagram.destination, &datagram.bytes))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panicking test thread leaves the queues as whole as they were.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint of a [`Network`]. It never sleeps: time is the caller's.
pub struct MemoryIo {
    network: Network,
    index: usize,
    addrs: Vec<SocketAddr>,
}

impl Io for MemoryIo {
    fn turn(&mut self, tx: &mut TxBatch, rx: &mut RxBatch, _: Wait) -> io::Result<TurnReport> {
        let mut report = self.flush(tx);
        rx.clear();
        if rx.fillable().is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut state = self.network.state();
        let inbox = &mut state.endpoints[self.index].inbox;
        while !rx.is_full() {
            let Some((socket, datagram)) = inbox.pop_front() else { break };
            rx.push_copy(&datagram.bytes, socket, datagram.source);
        }
        report.received = rx.len() as u32;
        Ok(report)
    }

    fn flush(&mut self, tx: &mut TxBatch) -> TurnReport {
        let mut report = TurnReport::default();
        let mut state = self.network.state();
        for train in tx.trains() {
            let Some(&source) = self.addrs.get(usize::from(train.socket.0)) else {
                report.send_failed += u32::from(train.segments);
                continue;
            };
            for segment in tx.bytes(train).chunks(usize::from(train.segment_size)) {
                let destination = train.destination;
                state.sent.push_back(Datagram { source, destination, bytes: segment.to_vec() });
            }
            report.count_sent(u32::from(train.segments));
        }
        drop(state);
        tx.clear();
        report
    }

    fn wake_peer(&mut self, peer: &Unparker) {
        peer.wake();
    }

    fn name(&self) -> &'static str {
        "memory"
    }

    fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

impl Drop for MemoryIo {
    fn drop(&mut self) {
        let mut state = self.network.state();
        let endpoint = &mut state.endpoints[self.index];
        endpoint.is_open = false;
        endpoint.inbox.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn datagrams_go_in_and_out_as_the_test_says() {
        let network = Network::new();
        let (here, client) = (addr("192.0.2.1:1"), addr("192.0.2.9:9"));
        let mut io = network.endpoint(&[here, addr("[2001:db8::1]:1")]);
        let (mut tx, mut rx) = (TxBatch::new(), RxBatch::new());
        assert!(network.push(client, addr("[2001:db8::1]:1"), b"hello"));
        assert!(!network.push(client, client, b"nobody"));
        for byte in [b'a', b'b'] {
            tx.reserve(3).unwrap().fill(byte);
            tx.commit(3, client, SocketId(0));
        }
        let report = io.turn(&mut tx, &mut rx, Wait::Poll).unwrap();
        assert_eq!((report.received, report.sent_datagrams, report.sent_trains), (1, 2, 1));
        assert_eq!((rx.bytes(0), rx.datagram(0).socket), (&b"hello"[..], SocketId(1)));
        assert_eq!(rx.datagram(0).source, client);
        assert!(tx.is_empty());
        let sent = network.pop().unwrap();
        assert_eq!((sent.source, sent.destination, &sent.bytes[..]), (here, client, &b"aaa"[..]));
        let undelivered = network.deliver_all();
        assert_eq!(undelivered.len(), 1);
        assert_eq!(undelivered[0].bytes, b"bbb");
    }

    #[test]
    fn a_closed_endpoint_hears_nothing_and_its_address_can_be_taken_over() {
        let network = Network::new();
        let here = addr("192.0.2.1:1");
        let io = network.endpoint(&[here]);
        drop(io);
        assert!(!network.push(here, here, b"x"));
        let mut io = network.endpoint(&[here]);
        assert!(network.push(here, here, b"x"));
        let (mut tx, mut rx) = (TxBatch::new(), RxBatch::new());
        assert_eq!(io.turn(&mut tx, &mut rx, Wait::Poll).unwrap().received, 1);
    }

    #[test]
    fn an_inbox_is_bounded_and_read_in_batches() {
        let network = Network::new();
        let here = addr("192.0.2.1:1");
        let mut io = network.endpoint(&[here]);
        let pushed = (0..MAX_INBOX + 1).filter(|_| network.push(here, here, b"x")).count();
        assert_eq!(pushed, MAX_INBOX);
        assert!(!network.push(here, here, &[0; MAX_DATAGRAM + 1]));
        let (mut tx, mut rx) = (TxBatch::new(), RxBatch::new());
        let mut received = 0;
        while received < pushed {
            let report = io.turn(&mut tx, &mut rx, Wait::Poll).unwrap();
            assert_ne!(report.received, 0);
            received += rx.len();
        }
        assert_eq!(received, pushed);
    }
}
