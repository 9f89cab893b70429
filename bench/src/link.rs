//! A UDP relay that stands between clients and a server and does to packets what a bad link does.
//!
//! To the server each client appears under a port of the relay's own, as behind a NAT.

mod release;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opencall_emulator::log::COLUMNS;
use opencall_emulator::{Cross, Impairment, LinkConfig, Rate};
use tokio::net::UdpSocket;

use release::{Exit, Release};

/// Clients one relay serves; beyond it new ones are ignored.
const MAX_CLIENTS: usize = 1000;

/// Largest datagram relayed.
const DATAGRAM_MAX: usize = 2048;

/// How often the log is written.
const LOG_WRITE_INTERVAL: Duration = Duration::from_millis(200);

/// One direction.
#[derive(Debug, Clone, Default)]
pub struct Direction {
    /// What it does to packets.
    pub link: LinkConfig,
    /// Its bottleneck, in place of a constant one; counts from the relay's beginning.
    pub rate: Option<Rate>,
    /// Others' traffic through its queue.
    pub cross: Vec<Cross>,
}

impl From<LinkConfig> for Direction {
    fn from(link: LinkConfig) -> Self {
        Direction { link, ..Direction::default() }
    }
}

/// Both directions of the link.
#[derive(Debug, Clone, Default)]
pub struct RelayConfig {
    /// Client to server.
    pub up: Direction,
    /// Server to client.
    pub down: Direction,
    /// Whether all clients are behind one link; otherwise each is behind its own.
    pub shared: bool,
    /// Seed; each link and direction gets its own from it.
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

/// One direction of a link, for one client or for all.
type Shared = Arc<Mutex<Impairment>>;

/// One direction for one client: packets in, the same packets out when the link lets them.
struct Pipe {
    link: Shared,
    origin: Instant,
    out: Exit,
}

impl Pipe {
    fn offer(&mut self, packet: &[u8]) {
        let arrivals = lock(&self.link).offer(self.origin.elapsed(), packet.len());
        for arrival in arrivals {
            self.out.send(self.origin + arrival, packet);
        }
    }
}

/// Nobody panics while he has it.
fn lock(link: &Shared) -> MutexGuard<'_, Impairment> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All links there are, and the file that tells what they were.
struct Ledger {
    origin: Instant,
    config: RelayConfig,
    /// Those of the way up and of the way down, by client; with a shared one there is no other.
    links: [Vec<Shared>; 2],
    log: Option<BufWriter<File>>,
}

impl Ledger {
    /// The way up and the way down for one more client.
    fn add(&mut self) -> [Shared; 2] {
        if !self.config.shared || self.links[0].is_empty() {
            let index = self.links[0].len() as u64;
            let seed = self.config.seed.wrapping_add(index.wrapping_mul(2));
            let up = self.impairment(&self.config.up, seed.wrapping_add(1));
            let down = self.impairment(&self.config.down, seed);
            self.links[0].push(up);
            self.links[1].push(down);
        }
        self.links.each_ref().map(|links| Arc::clone(&links[links.len() - 1]))
    }

    fn impairment(&self, direction: &Direction, seed: u64) -> Shared {
        let mut link = Impairment::new(direction.link, seed);
        if let Some(rate) = &direction.rate {
            link = link.with_rate(rate.clone());
        }
        link = link.with_cross(&direction.cross);
        if self.log.is_some() {
            let next = self.origin.elapsed().as_millis().next_multiple_of(10);
            link = link.with_log(Duration::from_millis(next as u64));
        }
        Arc::new(Mutex::new(link))
    }

    /// Writes what the links were since the last time.
    fn write(&mut self) -> std::io::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        for (way, links) in ["up", "down"].iter().zip(&self.links) {
            for (index, link) in links.iter().enumerate() {
                let mut link = lock(link);
                link.advance(self.origin.elapsed());
                for row in link.take_log() {
                    writeln!(log, "{way},{index},{}", row.csv())?;
                }
            }
        }
        log.flush()
    }
}

/// A bound relay.
pub struct Relay {
    listen: std::net::UdpSocket,
    server: SocketAddr,
    ledger: Ledger,
    release: Release,
    counters: Arc<RelayCounters>,
    down_rate: Arc<DownRate>,
}

impl Relay {
    /// Binds the address that clients are told.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn bind(
        listen: SocketAddr,
        server: SocketAddr,
        config: RelayConfig,
    ) -> std::io::Result<Self> {
        let listen = bound(listen)?;
        let ledger =
            Ledger { origin: Instant::now(), config, links: Default::default(), log: None };
        let (counters, down_rate) = Default::default();
        Ok(Relay { listen, server, ledger, release: Release::start()?, counters, down_rate })
    }

    /// Writes what the links were each 10 ms into a file.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn log_to(&mut self, file: File) -> std::io::Result<()> {
        let mut log = BufWriter::new(file);
        writeln!(log, "way,link,{COLUMNS}")?;
        self.ledger.log = Some(log);
        Ok(())
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
    ///
    /// # Errors
    /// There is no socket for one more client, or the log cannot be written.
    pub async fn run(mut self) -> std::io::Result<()> {
        let listen = UdpSocket::from_std(self.listen.try_clone()?)?;
        let mut clients: HashMap<SocketAddr, Pipe> = HashMap::new();
        let mut buffer = [0; DATAGRAM_MAX];
        let mut write = tokio::time::interval(LOG_WRITE_INTERVAL);
        loop {
            let received = tokio::select! {
                received = listen.recv_from(&mut buffer) => received,
                _ = write.tick() => {
                    self.ledger.write()?;
                    continue;
                }
            };
            let Ok((len, client)) = received else { continue };
            self.counters.up_offered.fetch_add(1, Ordering::Relaxed);
            let known = clients.len();
            let pipe = match clients.entry(client) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) if known < MAX_CLIENTS => entry.insert(self.connect(client)?),
                Entry::Vacant(_) => continue,
            };
            pipe.offer(&buffer[..len]);
        }
    }

    /// Opens a client's own port towards the server, and the way back from it.
    fn connect(&mut self, client: SocketAddr) -> std::io::Result<Pipe> {
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => ([127, 0, 0, 1], 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, 0).into(),
        };
        let upstream = bound(any)?;
        let back = UdpSocket::from_std(upstream.try_clone()?)?;
        let [up, down] = self.ledger.add();
        let origin = self.ledger.origin;
        let counters = self.counters();
        let count = move || _ = counters.down_delivered.fetch_add(1, Ordering::Relaxed);
        let out = self.release.exit(self.listen.try_clone()?, client, count);
        let mut down = Pipe { link: down, origin, out };
        let (counters, server, down_rate) = (self.counters(), self.server, self.down_rate());
        tokio::spawn(async move {
            let mut buffer = [0; DATAGRAM_MAX];
            loop {
                // An ICMP error says that the server is gone; the next packet tries again.
                let Ok((len, from)) = back.recv_from(&mut buffer).await else { continue };
                if from == server {
                    counters.down_offered.fetch_add(1, Ordering::Relaxed);
                    down_rate.apply(&mut lock(&down.link));
                    down.offer(&buffer[..len]);
                }
            }
        });
        let counters = self.counters();
        let count = move || _ = counters.up_delivered.fetch_add(1, Ordering::Relaxed);
        let out = self.release.exit(upstream, self.server, count);
        Ok(Pipe { link: up, origin, out })
    }
}

fn bound(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use opencall_emulator::QueueLimit;

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
        let relay = Relay::bind(local(), server_address, config).unwrap();
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
        let (up, down) = (half.into(), half.into());
        let back = echoes(RelayConfig { up, down, seed: 3, ..Default::default() }, 100).await;
        assert!((10..40).contains(&back), "{back}");
    }

    /// How many of 100 datagrams of 1000 bytes that the server sends to each of two clients at
    /// once come through a bottleneck whose queue holds 20 of them.
    async fn burst_to_two(shared: bool) -> [u32; 2] {
        let server = UdpSocket::bind(local()).await.unwrap();
        let link = LinkConfig {
            rate_bps: Some(1_000_000),
            queue: QueueLimit::Bytes(20_500),
            ..LinkConfig::default()
        };
        let config = RelayConfig { down: link.into(), shared, ..RelayConfig::default() };
        let relay = Relay::bind(local(), server.local_addr().unwrap(), config).unwrap();
        let address = relay.local_addr().unwrap();
        tokio::spawn(relay.run());
        let mut clients = Vec::new();
        for _ in 0..2 {
            let client = UdpSocket::bind(local()).await.unwrap();
            client.send_to(b"here", address).await.unwrap();
            let (_, port) = server.recv_from(&mut [0; 64]).await.unwrap();
            clients.push((client, port));
        }
        for _ in 0..100 {
            for (_, port) in &clients {
                server.send_to(&[0; 1_000], *port).await.unwrap();
            }
        }
        let mut came = [0; 2];
        for (count, (client, _)) in came.iter_mut().zip(&clients) {
            let mut buffer = [0; 2_000];
            // 8 ms each; a queue of 20 has left after 160.
            let wait = Duration::from_millis(400);
            while let Ok(Ok(_)) = tokio::time::timeout(wait, client.recv(&mut buffer)).await {
                *count += 1;
            }
        }
        came
    }

    #[tokio::test]
    async fn clients_share_a_bottleneck_or_have_their_own() {
        let [first, second] = burst_to_two(true).await;
        assert!((20..30).contains(&(first + second)), "{first} and {second}");
        let [first, second] = burst_to_two(false).await;
        assert!((20..30).contains(&first) && (20..30).contains(&second), "{first} and {second}");
    }

    #[tokio::test]
    async fn the_log_tells_what_the_link_was() {
        let path = std::env::temp_dir().join(format!("link-log-{}.csv", std::process::id()));
        let link = LinkConfig { rate_bps: Some(1_000_000), ..LinkConfig::default() };
        let down = Direction { link, cross: vec![Cross::Udp { bps: 2_000_000 }], rate: None };
        let config = RelayConfig { down, ..RelayConfig::default() };
        let server = UdpSocket::bind(local()).await.unwrap();
        let mut relay = Relay::bind(local(), server.local_addr().unwrap(), config).unwrap();
        relay.log_to(File::create(&path).unwrap()).unwrap();
        let address = relay.local_addr().unwrap();
        let running = tokio::spawn(relay.run());
        let client = UdpSocket::bind(local()).await.unwrap();
        client.send_to(b"here", address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        running.abort();
        let log = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let rows: Vec<Vec<&str>> = log.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows[0].join(","), format!("way,link,{COLUMNS}"));
        let down: Vec<_> = rows.iter().filter(|row| row[0] == "down").collect();
        assert!(down.len() >= 100 && down.iter().all(|row| row[1] == "0" && row[3] == "1000.000"));
        let at: Vec<u64> = down.iter().map(|row| row[2].parse().unwrap()).collect();
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] == 10), "{at:?}");
        // 64 KiB are full after half a second of 1 Mbit/s too much.
        let dropped: u64 = down.iter().map(|row| row[6].parse::<u64>().unwrap()).sum();
        assert!(dropped > 20, "{dropped}");
        assert!(rows.iter().any(|row| row[0] == "up" && row[3].is_empty()));
    }
}
