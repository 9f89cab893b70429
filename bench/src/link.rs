//! A UDP relay that stands between clients and a server and does to packets what a bad link does.
//!
//! To the server each client appears under a port of the relay's own, as behind a NAT.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::impairment::{Impairment, LinkConfig};

/// Clients one relay serves; beyond it new ones are ignored.
const MAX_CLIENTS: usize = 1000;

/// Packets under way per direction and client; a link that holds more is broken anyway.
const MAX_IN_FLIGHT: usize = 4096;

/// Largest datagram relayed.
const DATAGRAM_MAX: usize = 2048;

/// Both directions of the link.
#[derive(Debug, Clone, Copy, Default)]
pub struct RelayConfig {
    /// Client to server.
    pub up: LinkConfig,
    /// Server to client.
    pub down: LinkConfig,
    /// Seed; each client and direction gets its own from it.
    pub seed: u64,
}

/// Packets of all clients so far.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Offered by clients.
    pub up_offered: AtomicU64,
    /// Of these, delivered to the server.
    pub up_delivered: AtomicU64,
    /// Offered by the server.
    pub down_offered: AtomicU64,
    /// Of these, delivered to clients.
    pub down_delivered: AtomicU64,
}

/// The bottleneck on the way to clients, bits per second, while the relay runs; 0: as configured.
#[derive(Debug, Default)]
pub struct DownRate(AtomicU64);

impl DownRate {
    /// From now on it has this rate.
    pub fn set(&self, rate_bps: u64) {
        self.0.store(rate_bps, Ordering::Relaxed);
    }

    fn apply(&self, link: &mut Impairment) {
        match self.0.load(Ordering::Relaxed) {
            0 => {}
            rate_bps => link.set_rate(rate_bps),
        }
    }
}

/// One direction for one client: packets in, the same packets out when the link lets them.
struct Pipe {
    link: Impairment,
    origin: Instant,
    out: mpsc::Sender<(Instant, Vec<u8>)>,
}

impl Pipe {
    fn new(
        config: LinkConfig,
        seed: u64,
        socket: Arc<UdpSocket>,
        to: SocketAddr,
        delivered: impl Fn() + Send + 'static,
    ) -> Self {
        let (out, mut packets) = mpsc::channel::<(Instant, Vec<u8>)>(MAX_IN_FLIGHT);
        tokio::spawn(async move {
            let mut waiting = std::collections::BTreeMap::new();
            let mut order = 0_u64;
            loop {
                let next = waiting.first_key_value().map(|(&(at, _), _)| at);
                let sleep = tokio::time::sleep_until(
                    next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600)),
                );
                tokio::select! {
                    biased;
                    () = sleep, if next.is_some() => {
                        if let Some((_, packet)) = waiting.pop_first() {
                            let packet: Vec<u8> = packet;
                            if socket.send_to(&packet, to).await.is_ok() {
                                delivered();
                            }
                        }
                    }
                    packet = packets.recv() => {
                        let Some((at, packet)) = packet else { return };
                        order += 1;
                        waiting.insert((at, order), packet);
                    }
                }
            }
        });
        Pipe { link: Impairment::new(config, seed), origin: Instant::now(), out }
    }

    fn offer(&mut self, packet: &[u8]) {
        let now = self.origin.elapsed();
        for arrival in self.link.offer(now, packet.len()) {
            // A full pipe is one more way to lose a packet.
            let _ = self.out.try_send((self.origin + arrival, packet.to_vec()));
        }
    }
}

/// A bound relay.
pub struct Relay {
    listen: Arc<UdpSocket>,
    server: SocketAddr,
    config: RelayConfig,
    counters: Arc<RelayCounters>,
    down_rate: Arc<DownRate>,
}

impl Relay {
    /// Binds the address that clients are told.
    pub async fn bind(
        listen: SocketAddr,
        server: SocketAddr,
        config: RelayConfig,
    ) -> std::io::Result<Self> {
        let listen = Arc::new(UdpSocket::bind(listen).await?);
        let (counters, down_rate) = Default::default();
        Ok(Relay { listen, server, config, counters, down_rate })
    }

    /// The address that clients are told.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listen.local_addr()
    }

    /// The counters, alive while the relay runs.
    pub fn counters(&self) -> Arc<RelayCounters> {
        Arc::clone(&self.counters)
    }

    /// The bottleneck on the way to clients, which may be changed while the relay runs.
    pub fn down_rate(&self) -> Arc<DownRate> {
        Arc::clone(&self.down_rate)
    }

    /// Relays until the future is dropped.
    pub async fn run(self) -> std::io::Result<()> {
        let mut clients: HashMap<SocketAddr, Pipe> = HashMap::new();
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            let Ok((len, client)) = self.listen.recv_from(&mut buffer).await else { continue };
            self.counters.up_offered.fetch_add(1, Ordering::Relaxed);
            let known = clients.len() as u64;
            let pipe = match clients.entry(client) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) if known < MAX_CLIENTS as u64 => {
                    entry.insert(self.connect(client, known).await?)
                }
                Entry::Vacant(_) => continue,
            };
            pipe.offer(&buffer[..len]);
        }
    }

    /// Opens a client's own port towards the server, and the way back from it.
    async fn connect(&self, client: SocketAddr, index: u64) -> std::io::Result<Pipe> {
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => ([127, 0, 0, 1], 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, 0).into(),
        };
        let upstream = Arc::new(UdpSocket::bind(any).await?);
        let seed = self.config.seed.wrapping_add(index.wrapping_mul(2));
        let counters = self.counters();
        let mut down =
            Pipe::new(self.config.down, seed, Arc::clone(&self.listen), client, move || {
                counters.down_delivered.fetch_add(1, Ordering::Relaxed);
            });
        let (counters, back, server) = (self.counters(), Arc::clone(&upstream), self.server);
        let down_rate = self.down_rate();
        tokio::spawn(async move {
            let mut buffer = [0; DATAGRAM_MAX];
            loop {
                // An ICMP error says that the server is gone; the next packet tries again.
                let Ok((len, from)) = back.recv_from(&mut buffer).await else { continue };
                if from == server {
                    counters.down_offered.fetch_add(1, Ordering::Relaxed);
                    down_rate.apply(&mut down.link);
                    down.offer(&buffer[..len]);
                }
            }
        });
        let counters = self.counters();
        let count = move || {
            counters.up_delivered.fetch_add(1, Ordering::Relaxed);
        };
        Ok(Pipe::new(self.config.up, seed.wrapping_add(1), upstream, self.server, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    /// Until whatever may come has come, before it is asked for again.
    const MOMENT: Duration = Duration::from_millis(20);

    /// Sends `count` datagrams to an echo behind a relay; how many came back. Order is kept here,
    /// so that nothing is on its way any more once one that was sent later is back.
    async fn echoes(config: RelayConfig, count: u32) -> u32 {
        let server = UdpSocket::bind(local()).await.unwrap();
        let server_address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((len, from)) = server.recv_from(&mut buffer).await {
                server.send_to(&buffer[..len], from).await.unwrap();
            }
        });
        let relay = Relay::bind(local(), server_address, config).await.unwrap();
        let address = relay.local_addr().unwrap();
        tokio::spawn(relay.run());
        let client = UdpSocket::bind(local()).await.unwrap();
        for number in 0..count {
            client.send_to(&number.to_be_bytes(), address).await.unwrap();
        }
        let mut back = 0;
        for later in count.. {
            client.send_to(&later.to_be_bytes(), address).await.unwrap();
            let mut buffer = [0; 64];
            while let Ok(received) =
                tokio::time::timeout(MOMENT, client.recv_from(&mut buffer)).await
            {
                let (len, from) = received.unwrap();
                assert_eq!((len, from), (4, address));
                if u32::from_be_bytes(buffer[..4].try_into().unwrap()) >= count {
                    return back;
                }
                back += 1;
            }
        }
        back
    }

    #[tokio::test]
    async fn a_perfect_link_echoes_everything() {
        assert_eq!(echoes(RelayConfig::default(), 200).await, 200);
    }

    #[tokio::test]
    async fn a_link_that_loses_half_each_way_echoes_a_quarter() {
        let half = LinkConfig { loss: 0.5, ..LinkConfig::default() };
        let back = echoes(RelayConfig { up: half, down: half, seed: 3 }, 100).await;
        assert!((10..40).contains(&back), "{back}");
    }
}
