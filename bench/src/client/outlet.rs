//! The way out of the engine: straight to the socket, or into a bad link.
#![forbid(unsafe_code)]

use std::net::SocketAddrV4;

use super::emulation::{Links, Way};
use super::engine::Clock;
use super::net::Net;
use super::tally::Tally;

/// From where to where a transport sends.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// The transport.
    pub transport: u32,
    /// The server.
    pub remote: SocketAddrV4,
    /// Whether a bad link lies between.
    pub is_bad: bool,
}

/// See the module.
pub struct Outlet {
    /// All transports' socket.
    pub net: Net,
    /// The bad links.
    pub links: Links,
    /// The engine's clock.
    pub clock: Clock,
}

impl Outlet {
    /// Sends what lies in `bytes`, cut into datagrams of `segment` bytes.
    pub fn send(&mut self, path: &Path, bytes: &[u8], segment: usize, tally: &mut Tally) {
        if path.is_bad {
            let now_ns = self.clock.now_ns();
            for datagram in bytes.chunks(segment.max(1)) {
                self.links.offer(Way::Up, path.transport, now_ns, datagram);
            }
            return;
        }
        let sent = self.net.send(path.transport, path.remote, bytes, segment);
        tally.send_errors += u64::from(sent.is_err());
    }
}
