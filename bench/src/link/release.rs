//! Lets datagrams go at their time, not with the next millisecond: tokio's timers are that coarse,
//! and what measures rates by gaps between packets would measure them. A thread of its own sleeps
//! until the next one is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

/// Packets under way per direction and client; a link that holds more is broken anyway.
const MAX_UNDER_WAY: usize = 4096;

/// Where the packets of one direction and client go.
struct Door {
    socket: UdpSocket,
    to: SocketAddr,
    under_way: AtomicUsize,
    delivered: Box<dyn Fn() + Send + Sync>,
}

/// A datagram that waits for its time.
struct Due {
    at: Instant,
    /// Keeps those of one moment in their order.
    order: u64,
    bytes: Vec<u8>,
    door: Arc<Door>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The thread; it ends with the last exit.
pub struct Release {
    due: Sender<Due>,
    orders: Arc<AtomicU64>,
}

/// One direction for one client.
pub struct Exit {
    door: Arc<Door>,
    due: Sender<Due>,
    orders: Arc<AtomicU64>,
}

impl Release {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        let (due, received) = channel();
        std::thread::Builder::new().name("release".to_owned()).spawn(move || run(&received))?;
        Ok(Release { due, orders: Arc::default() })
    }

    /// An exit by this socket; `delivered` is called for each datagram that has left.
    pub fn exit(
        &self,
        socket: UdpSocket,
        to: SocketAddr,
        delivered: impl Fn() + Send + Sync + 'static,
    ) -> Exit {
        let (under_way, delivered) = (AtomicUsize::new(0), Box::new(delivered));
        let door = Arc::new(Door { socket, to, under_way, delivered });
        Exit { door, due: self.due.clone(), orders: Arc::clone(&self.orders) }
    }
}

impl Exit {
    /// A datagram leaves at this time.
    pub fn send(&self, at: Instant, packet: &[u8]) {
        // One that is full is one more way to lose a packet.
        if self.door.under_way.load(Ordering::Relaxed) >= MAX_UNDER_WAY {
            return;
        }
        self.door.under_way.fetch_add(1, Ordering::Relaxed);
        let order = self.orders.fetch_add(1, Ordering::Relaxed);
        let (bytes, door) = (packet.to_vec(), Arc::clone(&self.door));
        // The thread is there as long as anyone can send.
        let _ = self.due.send(Due { at, order, bytes, door });
    }
}

fn run(received: &Receiver<Due>) {
    let mut waiting: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    loop {
        waiting.extend(received.try_iter().map(Reverse));
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse(next)| next.at <= now) {
            let Some(Reverse(Due { bytes, door, .. })) = waiting.pop() else { break };
            door.under_way.fetch_sub(1, Ordering::Relaxed);
            if door.socket.send_to(&bytes, door.to).is_ok() {
                (door.delivered)();
            }
        }
        let next = match waiting.peek() {
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse(next)) => received.recv_timeout(next.at.saturating_duration_since(now)),
        };
        match next {
            Ok(due) => waiting.push(Reverse(due)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How late the half of 200 datagrams is that is least late.
    fn lateness() -> Duration {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let release = Release::start().unwrap();
        let exit = release.exit(socket, here.local_addr().unwrap(), || {});
        let began = Instant::now();
        let at = |number: u32| began + Duration::from_micros(500) * number;
        for number in (1..=200).rev() {
            exit.send(at(number), &number.to_be_bytes());
        }
        let mut late = Vec::new();
        for number in 1..=200 {
            let mut bytes = [0; 4];
            here.recv(&mut bytes).unwrap();
            assert_eq!(u32::from_be_bytes(bytes), number);
            late.push(Instant::now().checked_duration_since(at(number)).expect("not too soon"));
        }
        late.sort();
        late[100]
    }

    #[test]
    fn datagrams_leave_at_their_time_and_in_its_order() {
        // Where the machine does nothing else for a moment: not with the next millisecond.
        let late: Vec<Duration> = (0..10).map(|_| lateness()).collect();
        assert!(late.iter().any(|late| *late < Duration::from_micros(400)), "{late:?}");
    }
}
