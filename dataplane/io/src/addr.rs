//! Socket addresses as the kernel has them: `sockaddr_in` and `sockaddr_in6`, byte by byte.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either kind: 28 bytes, rounded up to keep what follows aligned.
pub(super) const RAW_ADDR_SIZE: usize = 32;

/// `sizeof(struct sockaddr_in)`.
const V4_SIZE: usize = 16;

/// `sizeof(struct sockaddr_in6)`.
const V6_SIZE: usize = 28;

/// An address in the kernel's layout.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct RawAddr {
    pub(super) bytes: [u8; RAW_ADDR_SIZE],
    pub(super) len: u32,
}

impl RawAddr {
    pub(super) const EMPTY: RawAddr = RawAddr { bytes: [0; RAW_ADDR_SIZE], len: 0 };

    pub(super) fn new(addr: SocketAddr) -> Self {
        let mut raw = RawAddr::EMPTY;
        raw.bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        match addr {
            SocketAddr::V4(v4) => {
                raw.bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                raw.len = V4_SIZE as u32;
            }
            SocketAddr::V6(v6) => {
                raw.bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                raw.bytes[8..24].copy_from_slice(&v6.ip().octets());
                raw.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                raw.len = V6_SIZE as u32;
            }
        }
        raw
    }
}

/// Reads an address as the kernel wrote it. The flow label is left out: it says nothing about who
/// the sender is, and addresses are compared.
pub(super) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.7:65535", "[2001:db8::1]:1", "[fe80::1%3]:40000", "0.0.0.0:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            let raw = RawAddr::new(addr);
            assert_eq!(decode(&raw.bytes[..raw.len as usize]), Some(addr), "{text}");
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let raw = RawAddr::new("1.2.3.4:258".parse().unwrap());
        assert_eq!(raw.len as usize, size_of::<libc::sockaddr_in>());
        assert_eq!(raw.bytes[..8], [2, 0, 1, 2, 1, 2, 3, 4]);
        let raw = RawAddr::new("[::1]:258".parse().unwrap());
        assert_eq!(raw.len as usize, size_of::<libc::sockaddr_in6>());
        assert_eq!(raw.bytes[..4], [10, 0, 1, 2]);
        assert_eq!(raw.bytes[23], 1);
    }

    #[test]
    fn cut_or_foreign_addresses_are_refused() {
        let raw = RawAddr::new("[2001:db8::1]:1".parse().unwrap());
        for len in 0..V6_SIZE {
            assert_eq!(decode(&raw.bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0, 0, 0]), None, "AF_UNIX");
    }
}
