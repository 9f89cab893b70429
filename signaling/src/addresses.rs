//! How many connections one address may have at the same time.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections by address; IPv6 addresses by their /64, which is what one host gets.
pub struct Addresses {
    max: u32,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// One counted connection; dropping it gives the place back.
pub struct Place {
    addresses: Arc<Addresses>,
    key: Option<IpAddr>,
}

impl Addresses {
    /// At most `max` connections from one address.
    pub fn new(max: u32) -> Arc<Self> {
        Arc::new(Addresses { max, counts: Mutex::new(HashMap::new()) })
    }

    /// A place for a connection from `ip`, if one is left. Loopback is not counted: reverse
    /// proxies and load generators live there.
    pub fn place(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let key = key(ip);
        if let Some(key) = key {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(key).or_default();
            if *count >= self.max {
                return None;
            }
            *count += 1;
        }
        Some(Place { addresses: Arc::clone(self), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self.addresses.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

fn key(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(IpAddr::V4(ip)),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Some(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Addresses::new(2);
        let first = addresses.place(ip("192.0.2.1"));
        let second = addresses.place(ip("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(addresses.place(ip("192.0.2.1")).is_none());
        assert!(addresses.place(ip("192.0.2.2")).is_some());
        drop(first);
        assert!(addresses.place(ip("192.0.2.1")).is_some());
        drop(second);
        assert!(addresses.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_host_cannot_multiply_itself_and_loopback_is_free() {
        let addresses = Addresses::new(1);
        let _host = addresses.place(ip("2001:db8::1"));
        assert!(addresses.place(ip("2001:db8::2")).is_none());
        assert!(addresses.place(ip("2001:db8:0:1::1")).is_some());
        let _proxy = addresses.place(ip("127.0.0.1"));
        assert!(addresses.place(ip("127.0.0.1")).is_some());
    }
}
