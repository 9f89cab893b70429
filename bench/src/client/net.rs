//! One UDP socket for all participants.
//!
//! All of 127.0.0.0/8 is this machine, and in a laboratory all of 198.19.0.0/16 is, so each transport gets
//! an address of its own there, and the kernel says for each datagram which one it came to
//! (`IP_PKTINFO`), and when. One call then receives for hundreds of participants, which a socket for
//! each could not.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

/// Datagrams taken in one call.
pub const BATCH: usize = 128;

/// Room for one datagram.
pub const SLOT: usize = 2048;

/// The kernel's buffers: all participants share them, and a generator that is off its CPU for some
/// 50 ms at 200 000 packets/s must not lose any.
const BUFFER_BYTES: usize = 64 << 20;

/// Where participants and server meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// On 127.0.0.0/8.
    Loopback,
    /// Over a wire between two network namespaces, as `scripts/janus-lab` lays it: 198.19.0.0/16 is ours.
    Lab,
}

impl Network {
    /// Transports at most: one address each.
    pub fn max_transports(self) -> u32 {
        match self {
            Network::Loopback => 250 * 250 * 60,
            Network::Lab => 250 * 250,
        }
    }

    /// The first two bytes of the addresses.
    fn base(self) -> (u8, u8) {
        match self {
            Network::Loopback => (127, 64),
            Network::Lab => (198, 19),
        }
    }

    /// The address of a transport.
    pub fn address_of(self, transport: u32) -> Ipv4Addr {
        let [low, middle, high] = [transport % 250, transport / 250 % 250, transport / 62_500];
        let (first, second) = self.base();
        Ipv4Addr::new(first, second + high as u8, middle as u8, low as u8 + 1)
    }

    /// The transport that has an address.
    pub fn transport_of(self, address: Ipv4Addr) -> Option<u32> {
        let [first, second, middle, low] = address.octets();
        let (high, low) = (second.checked_sub(self.base().1)?, low.checked_sub(1)?);
        if first != self.base().0 || middle >= 250 || low >= 250 {
            return None;
        }
        let transport = u32::from(high) * 62_500 + u32::from(middle) * 250 + u32::from(low);
        (transport < self.max_transports()).then_some(transport)
    }

    /// Whether a server's address can be reached from there.
    pub fn reaches(self, server: Ipv4Addr) -> bool {
        server.is_loopback() == (self == Network::Loopback)
    }
}

/// The socket; clones are the same one.
#[derive(Clone)]
pub struct Net {
    socket: Arc<UdpSocket>,
    /// Where it is.
    pub network: Network,
}

impl Net {
    /// Binds to a free port.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bind(network: Network) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // Without the privilege the limit of net.core counts.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &BUFFER_BYTES)?;
        }
        Ok(Net { socket: Arc::new(socket), network })
    }

    /// Sends what lies in `bytes`, cut into datagrams of `segment` bytes, from a transport.
    ///
    /// # Errors
    /// What the kernel says; then none of it was sent.
    pub fn send(
        &self,
        transport: u32,
        to: SocketAddrV4,
        bytes: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        // The field keeps network order.
        let source = u32::from_ne_bytes(self.network.address_of(transport).octets());
        let info = nix::libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: nix::libc::in_addr { s_addr: source },
            ipi_addr: nix::libc::in_addr { s_addr: 0 },
        };
        let segment = segment as u16;
        let controls =
            [ControlMessage::Ipv4PacketInfo(&info), ControlMessage::UdpGsoSegments(&segment)];
        let controls =
            if bytes.len() > usize::from(segment) { &controls[..] } else { &controls[..1] };
        let to = SockaddrIn::from(to);
        let parts = [IoSlice::new(bytes)];
        sendmsg(self.socket.as_raw_fd(), &parts, controls, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// Waits until something can be received, or for so long.
    pub fn wait(&self, timeout: Duration) {
        let mut polls = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // A signal ends the wait early, and nothing else can go wrong with one good descriptor.
        let _ = ppoll(&mut polls, Some(TimeSpec::from_duration(timeout)), None);
    }
}

/// A batch of received datagrams.
pub struct Received {
    memory: Box<[u8]>,
    headers: MultiHeaders<SockaddrIn>,
    /// Transport, time of arrival and length of each.
    datagrams: Vec<(u32, u64, usize)>,
}

impl Default for Received {
    fn default() -> Self {
        Self::new()
    }
}

impl Received {
    /// An empty batch.
    pub fn new() -> Self {
        Received {
            memory: vec![0; BATCH * SLOT].into(),
            headers: MultiHeaders::preallocate(
                BATCH,
                Some(nix::cmsg_space!(nix::libc::in_pktinfo, TimeSpec)),
            ),
            datagrams: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what has arrived, without waiting; how many.
    ///
    /// # Errors
    /// What the kernel says, but for there being nothing.
    pub fn fill(&mut self, net: &Net) -> io::Result<usize> {
        self.datagrams.clear();
        let mut slots = self.memory.chunks_exact_mut(SLOT);
        let mut parts: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let fd = net.socket.as_raw_fd();
        let results =
            match recvmmsg(fd, &mut self.headers, &mut parts, MsgFlags::MSG_DONTWAIT, None) {
                Ok(results) => results,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
        for message in results {
            let (mut transport, mut at_ns) = (u32::MAX, 0);
            for control in message.cmsgs().ok().into_iter().flatten() {
                match control {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        let address = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                        transport = net.network.transport_of(address).unwrap_or(u32::MAX);
                    }
                    ControlMessageOwned::ScmTimestampns(at) => {
                        at_ns = at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64;
                    }
                    _ => {}
                }
            }
            self.datagrams.push((transport, at_ns, message.bytes));
        }
        Ok(self.datagrams.len())
    }

    /// The `i`th datagram, the transport it came to and when, nanoseconds since 1970; `None` past the
    /// last.
    pub fn datagram(&mut self, i: usize) -> Option<(u32, u64, &mut [u8])> {
        let &(transport, at_ns, len) = self.datagrams.get(i)?;
        let bytes = self.memory.get_mut(i * SLOT..i * SLOT + len)?;
        Some((transport, at_ns, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transport_has_an_address() {
        for network in [Network::Loopback, Network::Lab] {
            for transport in [0, 1, 249, 250, 62_499, 62_500, network.max_transports() - 1] {
                let known = (transport < network.max_transports()).then_some(transport);
                assert_eq!(network.transport_of(network.address_of(transport)), known);
            }
            let foreign = [
                [127, 0, 0, 1],
                [10, 64, 0, 1],
                [127, 64, 250, 1],
                [127, 64, 0, 0],
                [198, 18, 0, 1],
            ];
            for foreign in foreign {
                assert_eq!(network.transport_of(foreign.into()), None, "{foreign:?}");
            }
        }
        assert_eq!(Network::Lab.address_of(250), Ipv4Addr::new(198, 19, 1, 1));
    }

    #[test]
    fn a_train_arrives_in_pieces_at_the_transport_it_was_sent_to() {
        let bind = || Net::bind(Network::Loopback).unwrap();
        let (here, there) = (bind(), bind());
        let port = there.socket.local_addr().unwrap().port();
        let to = SocketAddrV4::new(Network::Loopback.address_of(70_000), port);
        here.send(5, to, b"aaabbbcc", 3).unwrap();
        here.send(5, to, b"alone", 5).unwrap();
        let mut received = Received::new();
        let mut heard = Vec::new();
        while heard.len() < 4 {
            there.wait(Duration::from_secs(5));
            for i in 0..received.fill(&there).unwrap() {
                let (transport, at_ns, bytes) = received.datagram(i).unwrap();
                assert!(at_ns > 0);
                heard.push((transport, String::from_utf8(bytes.to_vec()).unwrap()));
            }
        }
        let expected = ["aaa", "bbb", "cc", "alone"].map(|text| (70_000, text.to_owned()));
        assert_eq!(heard, expected);
    }
}
