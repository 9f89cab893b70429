//! One UDP socket for all participants.
//!
//! All of 127.0.0.0/8 is this machine, and in a laboratory all of 198.19.0.0/16 is, so each
//! transport gets an address of its own there, and the kernel says for each datagram which one it
//! came to (`IP_PKTINFO`), and when. One call then receives for hundreds of participants, which a
//! socket for each could not. What the server sends as one train arrives as one (`UDP_GRO`): over
//! the loopback nobody cuts it up, as between two machines the network cards would.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

/// Trains taken in one call at most, and at least room for so many.
const MAX_BATCH: usize = 64;
const MIN_BATCH: usize = 8;

/// Longest train: what fits into one UDP datagram's length field.
const TRAIN_LEN: usize = 1 << 16;

/// Distance between the places of two trains: were it a power of two, all their beginnings would
/// compete for the same few lines of the CPU's cache.
const SLOT: usize = TRAIN_LEN + 33 * 64;

/// The kernel's buffers: all participants share them, and a generator that is off its CPU for some
/// 50 ms at 200 000 packets/s must not lose any.
const BUFFER_BYTES: usize = 64 << 20;

/// Where participants and server meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// On 127.0.0.0/8.
    Loopback,
    /// Over a wire between two network namespaces, as `scripts/janus-lab` lays it: 198.19.0.0/16 is
    /// ours.
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
    port: u16,
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
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // Without the privilege the limit of net.core counts.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &BUFFER_BYTES)?;
        }
        let port = socket.local_addr()?.port();
        Ok(Net { socket: Arc::new(socket), port, network })
    }

    /// The address of a transport.
    pub fn address_of(&self, transport: u32) -> SocketAddrV4 {
        SocketAddrV4::new(self.network.address_of(transport), self.port)
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
}

/// What one call received.
pub struct Received {
    memory: Box<[u8]>,
    trains: Vec<Train>,
    /// Trains that the next call has room for: few while few come, for room costs, too.
    room: usize,
}

/// Datagrams of one sender to one transport, of equal length but for the last.
#[derive(Clone, Copy)]
struct Train {
    transport: u32,
    at_ns: u64,
    len: usize,
    segment: usize,
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
            memory: vec![0; MAX_BATCH * SLOT].into(),
            trains: Vec::with_capacity(MAX_BATCH),
            room: MIN_BATCH,
        }
    }

    /// Takes what has arrived, without waiting; how many trains.
    ///
    /// # Errors
    /// What the kernel says, but for there being nothing.
    pub fn fill(&mut self, net: &Net) -> io::Result<usize> {
        self.trains.clear();
        let mut slots = self.memory.chunks_exact_mut(SLOT);
        let mut parts: [[IoSliceMut<'_>; 1]; MAX_BATCH] = std::array::from_fn(|_| {
            let slot = slots.next().unwrap_or_default();
            [IoSliceMut::new(slot.get_mut(..TRAIN_LEN).unwrap_or_default())]
        });
        // The kernel writes how much room a message's control data took over how much it has, and
        // the library does not put it back: headers that are used twice would lose what is longer
        // the second time.
        let space = nix::cmsg_space!(nix::libc::in_pktinfo, TimeSpec, nix::libc::c_int);
        let mut headers = MultiHeaders::<()>::preallocate(self.room, Some(space));
        let fd = net.socket.as_raw_fd();
        let results = match recvmmsg(fd, &mut headers, &mut parts, MsgFlags::MSG_DONTWAIT, None) {
            Ok(results) => results,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {
                self.room = MIN_BATCH;
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        };
        for message in results {
            let len = message.bytes;
            let mut train = Train { transport: u32::MAX, at_ns: 0, len, segment: len.max(1) };
            for control in message.cmsgs().ok().into_iter().flatten() {
                train.add(net.network, &control);
            }
            self.trains.push(train);
        }
        let is_full = self.trains.len() == self.room;
        self.room = if is_full { MAX_BATCH } else { self.trains.len().max(MIN_BATCH) };
        Ok(self.trains.len())
    }

    /// Hands over each datagram, with the transport it came to and when, nanoseconds since 1970.
    pub fn for_each(&mut self, mut take: impl FnMut(u32, u64, &mut [u8])) {
        for (train, slot) in self.trains.iter().zip(self.memory.chunks_exact_mut(SLOT)) {
            let bytes = slot.get_mut(..train.len).unwrap_or_default();
            for datagram in bytes.chunks_mut(train.segment) {
                take(train.transport, train.at_ns, datagram);
            }
        }
    }
}

impl Train {
    fn add(&mut self, network: Network, control: &ControlMessageOwned) {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let address = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                self.transport = network.transport_of(address).unwrap_or(u32::MAX);
            }
            ControlMessageOwned::ScmTimestampns(at) => {
                self.at_ns = at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64;
            }
            ControlMessageOwned::UdpGroSegments(segment) => {
                self.segment = usize::try_from(*segment).unwrap_or(self.len).max(1);
            }
            _ => {}
        }
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
        let to = there.address_of(70_000);
        here.send(5, to, b"aaabbbcc", 3).unwrap();
        here.send(5, to, b"alone", 5).unwrap();
        let mut received = Received::new();
        let mut heard = Vec::new();
        while heard.len() < 4 {
            received.fill(&there).unwrap();
            received.for_each(|transport, at_ns, bytes| {
                assert!(at_ns > 0);
                heard.push((transport, String::from_utf8(bytes.to_vec()).unwrap()));
            });
        }
        let expected = ["aaa", "bbb", "cc", "alone"].map(|text| (70_000, text.to_owned()));
        assert_eq!(heard, expected);
    }

    #[test]
    fn trains_and_single_datagrams_in_turns_lose_nothing() {
        let bind = || Net::bind(Network::Loopback).unwrap();
        let (here, there) = (bind(), bind());
        let port = there.socket.local_addr().unwrap().port();
        let mut received = Received::new();
        for round in 0..50_u32 {
            let to = SocketAddrV4::new(Network::Loopback.address_of(round), port);
            here.send(1, to, b"alone", 5).unwrap();
            here.send(1, to, b"aabbccd", 2).unwrap();
            let mut heard = Vec::new();
            while heard.len() < 5 {
                received.fill(&there).unwrap();
                received.for_each(|transport, _, bytes| {
                    heard.push((transport, bytes.to_vec()));
                });
            }
            let texts: Vec<&[u8]> = heard.iter().map(|(_, bytes)| &bytes[..]).collect();
            let expected: [&[u8]; 5] = [b"alone", b"aa", b"bb", b"cc", b"d"];
            assert_eq!(texts, expected, "round {round}");
            assert!(heard.iter().all(|(transport, _)| *transport == round));
        }
    }
}
