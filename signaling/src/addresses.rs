//! What one address may do: connections at the same time, requests and bytes per second.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::bucket::{Bucket, Rate};

/// Addresses remembered at the same time, about 8 MiB. What comes from others while the table is
/// full shares one entry.
const MAX_ADDRESSES: usize = 65_536;

/// How often a growing table is searched for entries that are of no more use: a search of a full
/// one takes a millisecond.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A table below this size is not searched.
const SWEEP_ABOVE: usize = 1024;

/// Limits of one address.
#[derive(Debug, Clone, Copy)]
pub struct AddressLimits {
    /// TCP connections at the same time, WebSockets among them.
    pub connections: u32,
    /// WebSockets at the same time.
    pub sockets: u32,
    /// HTTP requests.
    pub requests: Rate,
    /// Bytes read, and what else is charged as if it were bytes.
    pub bytes: Rate,
}

/// Counts by address; IPv6 addresses by their /64, which is what one host gets.
pub struct Addresses {
    limits: AddressLimits,
    count_loopback: bool,
    table: Mutex<Table>,
}

struct Table {
    entries: HashMap<IpAddr, Entry>,
    sweep_above: usize,
    swept_at: Instant,
}

struct Entry {
    connections: u32,
    sockets: u32,
    requests: Bucket,
    bytes: Bucket,
}

/// One address, by which it is counted.
#[derive(Clone)]
pub struct Address {
    addresses: Arc<Addresses>,
    key: Option<IpAddr>,
}

/// A counted connection or WebSocket; dropping it gives the place back.
pub struct Place {
    address: Address,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Connection,
    Socket,
}

impl Addresses {
    /// Loopback is not counted unless `count_loopback`: load generators live there, or the proxy
    /// that everyone comes through.
    pub fn new(limits: AddressLimits, count_loopback: bool) -> Arc<Self> {
        let table =
            Table { entries: HashMap::new(), sweep_above: SWEEP_ABOVE, swept_at: Instant::now() };
        Arc::new(Addresses { limits, count_loopback, table: Mutex::new(table) })
    }

    /// The entry by which `ip` is counted.
    pub fn address(self: &Arc<Self>, ip: IpAddr, now: Instant) -> Address {
        let ip = prefix(ip);
        let key = (self.count_loopback || !ip.is_loopback())
            .then(|| self.table().key_of(ip, &self.limits, now));
        Address { addresses: Arc::clone(self), key }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The address itself while there is room for it.
    fn key_of(&mut self, ip: IpAddr, limits: &AddressLimits, now: Instant) -> IpAddr {
        if self.entries.contains_key(&ip) {
            return ip;
        }
        let due = now.saturating_duration_since(self.swept_at) >= SWEEP_INTERVAL;
        if self.entries.len() >= self.sweep_above && due {
            self.entries.retain(|_, entry| !entry.is_as_new(limits, now));
            self.sweep_above = (self.entries.len() * 2).clamp(SWEEP_ABOVE, MAX_ADDRESSES);
            self.swept_at = now;
        }
        match self.entries.len() < MAX_ADDRESSES {
            true => ip,
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    fn entry(&mut self, key: IpAddr, limits: &AddressLimits, now: Instant) -> &mut Entry {
        self.entries.entry(key).or_insert_with(|| Entry {
            connections: 0,
            sockets: 0,
            requests: Bucket::full(limits.requests, now),
            bytes: Bucket::full(limits.bytes, now),
        })
    }
}

impl Entry {
    fn is_as_new(&mut self, limits: &AddressLimits, now: Instant) -> bool {
        self.connections == 0
            && self.sockets == 0
            && self.requests.is_full(limits.requests, now)
            && self.bytes.is_full(limits.bytes, now)
    }

    fn count(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Connection => &mut self.connections,
            Kind::Socket => &mut self.sockets,
        }
    }
}

impl Address {
    /// A place for a TCP connection, if one is left.
    pub fn connection(&self, now: Instant) -> Option<Place> {
        self.place(Kind::Connection, self.addresses.limits.connections, now)
    }

    /// A place for a WebSocket, if one is left.
    pub fn socket(&self, now: Instant) -> Option<Place> {
        self.place(Kind::Socket, self.addresses.limits.sockets, now)
    }

    fn place(&self, kind: Kind, max: u32, now: Instant) -> Option<Place> {
        let within = self.with(now, |entry, _| {
            let count = entry.count(kind);
            let within = *count < max;
            *count += u32::from(within);
            within
        });
        within.unwrap_or(true).then(|| Place { address: self.clone(), kind })
    }

    /// Whether one more HTTP request is within the rate, or when it will be.
    pub fn request(&self, now: Instant) -> Result<(), Duration> {
        self.with(now, |entry, limits| entry.requests.take(limits.requests, now)).unwrap_or(Ok(()))
    }

    /// Charges `bytes`, whether or not they are within the rate.
    pub fn charge(&self, bytes: f64, now: Instant) {
        self.with(now, |entry, limits| entry.bytes.charge(bytes, limits.bytes, now));
    }

    /// How long nothing more is read from this address.
    pub fn wait(&self, now: Instant) -> Duration {
        self.with(now, |entry, limits| entry.bytes.wait(limits.bytes, now)).unwrap_or_default()
    }

    /// TCP connections that it has now; 0 where it is not counted.
    pub fn connections(&self) -> u32 {
        let Some(key) = self.key else { return 0 };
        self.addresses.table().entries.get(&key).map_or(0, |entry| entry.connections)
    }

    /// `None` where the address is not counted.
    fn with<T>(
        &self,
        now: Instant,
        act: impl FnOnce(&mut Entry, &AddressLimits) -> T,
    ) -> Option<T> {
        let (key, limits) = (self.key?, &self.addresses.limits);
        Some(act(self.addresses.table().entry(key, limits, now), limits))
    }
}

impl Place {
    /// The address, or the network, by which it is counted; `None` where nobody is.
    pub fn account(&self) -> Option<IpAddr> {
        self.address.key
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.address.key else { return };
        // The entry stays until a sweep: what it has used up is not forgotten by reconnecting.
        if let Some(entry) = self.address.addresses.table().entries.get_mut(&key) {
            let count = entry.count(self.kind);
            *count = count.saturating_sub(1);
        }
    }
}

fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AddressLimits = AddressLimits {
        connections: 3,
        sockets: 2,
        requests: Rate { per_second: 1.0, burst: 5.0 },
        bytes: Rate { per_second: 100.0, burst: 1000.0 },
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let now = Instant::now();
        let addresses = Addresses::new(LIMITS, false);
        let socket = |text| addresses.address(ip(text), now).socket(now);
        let first = socket("192.0.2.1");
        let second = socket("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(socket("192.0.2.1").is_none());
        assert!(socket("192.0.2.2").is_some());
        // Plain connections are counted apart.
        let connection = addresses.address(ip("192.0.2.1"), now).connection(now);
        assert_eq!(addresses.address(ip("192.0.2.1"), now).connections(), 1);
        drop(first);
        assert!(socket("192.0.2.1").is_some());
        drop((second, connection));
        assert_eq!(addresses.address(ip("192.0.2.1"), now).connections(), 0);
    }

    #[test]
    fn an_ipv6_host_cannot_multiply_itself() {
        let now = Instant::now();
        let addresses = Addresses::new(AddressLimits { sockets: 1, ..LIMITS }, false);
        let _host = addresses.address(ip("2001:db8::1"), now).socket(now);
        assert!(addresses.address(ip("2001:db8::2"), now).socket(now).is_none());
        assert!(addresses.address(ip("2001:db8:0:1::1"), now).socket(now).is_some());
    }

    #[test]
    fn loopback_is_free_unless_it_is_to_be_counted() {
        let now = Instant::now();
        for (count_loopback, text) in
            [(false, "127.0.0.1"), (false, "::1"), (true, "127.0.0.1"), (true, "::1")]
        {
            let addresses = Addresses::new(AddressLimits { sockets: 1, ..LIMITS }, count_loopback);
            let address = addresses.address(ip(text), now);
            let _first = address.socket(now);
            assert_eq!(address.socket(now).is_none(), count_loopback, "{text}");
            let requests = (0..9).filter(|_| address.request(now).is_ok()).count();
            assert_eq!(requests, if count_loopback { 5 } else { 9 }, "{text}");
        }
    }

    #[test]
    fn leaving_pays_no_debt() {
        let now = Instant::now();
        let addresses = Addresses::new(LIMITS, false);
        let place = addresses.address(ip("192.0.2.1"), now).connection(now);
        addresses.address(ip("192.0.2.1"), now).charge(1100.0, now);
        drop(place);
        let again = addresses.address(ip("192.0.2.1"), now);
        assert_eq!(again.wait(now), Duration::from_secs(1));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_gone() {
        let start = Instant::now();
        let addresses = Addresses::new(LIMITS, false);
        let visit = |number: u32, now| {
            let address = addresses.address(IpAddr::V4((0x0b00_0000 + number).into()), now);
            let _ = address.request(now);
        };
        (0..100_000).for_each(|number| visit(number, start));
        assert_eq!(addresses.table().entries.len(), MAX_ADDRESSES + 1);
        let later = start + Duration::from_secs(10);
        visit(200_000, later);
        assert_eq!(addresses.table().entries.len(), 1);
    }
}
