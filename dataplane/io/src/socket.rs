//! The UDP sockets of a core: one per local listen address, and beside it one on the same port for
//! what has patience.
//!
//! A receiver tells ten to twenty times a second when packets came (transport-wide feedback), and
//! each time would wake a core that sleeps: in a webinar of 200, 2000 times a second, for something
//! that can wait. The kernel sorts such datagrams out by their first two bytes into a socket that
//! nobody waits for; backends read it every 20 ms.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::addr::RawAddr;
use super::error::IoError;

/// Sockets of a core at most; listen addresses are few, and each turn may have to look at all.
pub const MAX_SOCKETS: usize = 8;

/// Default of [`SocketOptions`]: the kernel counts about 2.3 KiB per packet and doubles what is
/// asked for, so this holds 7 000 packets, some 20 ms of a core's full load. Less loses packets
/// while the core is off its CPU; more delays them until they are useless.
pub const SOCKET_BUFFER_SIZE: usize = 8 << 20;

/// How often backends look into the sockets of what has patience, while the core is awake. Feedback
/// steers bitrates over hundreds of milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// Receive buffer of what has patience: feedback of 500 clients for [`PATIENCE`] is 100 datagrams.
const PATIENT_BUFFER_SIZE: i32 = 1 << 20;

/// First byte of an RTCP packet: version 2, any padding, and 15 for transport-wide feedback
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
const FEEDBACK_HEAD: u32 = 0x8f;

/// All of the first byte but the padding bit.
const HEAD_MASK: u32 = 0xdf;

/// Second byte: the packet type of transport-layer feedback (RFC 4585 section 6.1).
const TRANSPORT_FEEDBACK: u32 = 205;

/// Sizes of the kernel's buffers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Of received datagrams that wait for the core.
    pub receive_buffer_size: usize,
    /// Of datagrams that wait for the network device.
    pub send_buffer_size: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions {
            receive_buffer_size: SOCKET_BUFFER_SIZE,
            send_buffer_size: SOCKET_BUFFER_SIZE,
        }
    }
}

/// Bound sockets. Clones share them, so that a core's port stays held while its thread is replaced.
#[derive(Clone, Debug)]
pub struct SocketSet {
    sockets: Arc<[UdpSocket]>,
    /// For what has patience, in the same order; `None` where the kernel does not sort it out.
    patient: Arc<[Option<UdpSocket>]>,
    addrs: Arc<[SocketAddr]>,
    warnings: Arc<[String]>,
}

impl SocketSet {
    /// Where the sockets listen, in the order of [`SocketId`](super::SocketId).
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// What is less than was asked for, in words for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Their descriptors, each with that of what has patience, for a process that goes on with
    /// them.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Option<BorrowedFd<'_>>)> {
        let patient = self.patient.iter().map(|socket| socket.as_ref().map(AsFd::as_fd));
        self.sockets.iter().map(AsFd::as_fd).zip(patient)
    }

    /// Goes on with the sockets of another process: [`SocketSet::descriptors`].
    ///
    /// # Errors
    /// One of them is no socket.
    pub fn inherited(descriptors: Vec<(OwnedFd, Option<OwnedFd>)>) -> io::Result<Self> {
        let (mut sockets, mut patient) = (Vec::new(), Vec::new());
        for (socket, beside) in descriptors {
            sockets.push(UdpSocket::from(socket));
            patient.push(beside.map(UdpSocket::from));
        }
        let addrs = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<_>>>()?;
        Ok(SocketSet {
            sockets: sockets.into(),
            patient: patient.into(),
            addrs: addrs.into(),
            warnings: Arc::default(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn fd(&self, socket: usize) -> Option<RawFd> {
        self.sockets.get(socket).map(AsRawFd::as_raw_fd)
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.sockets.iter().map(AsRawFd::as_raw_fd)
    }

    /// Sockets of what has patience, each with the place of the one that it is beside.
    pub(super) fn patient_fds(&self) -> impl Iterator<Item = (usize, RawFd)> + '_ {
        let of_place = |(place, socket): (usize, &Option<UdpSocket>)| {
            socket.as_ref().map(|socket| (place, socket.as_raw_fd()))
        };
        self.patient.iter().enumerate().filter_map(of_place)
    }
}

/// Binds one socket per address, all on `port` (0: the kernel chooses one for each).
///
/// Ports are not shared: a port that is taken is an error, not half of someone's packets.
pub fn bind(addrs: &[IpAddr], port: u16, options: SocketOptions) -> Result<SocketSet, IoError> {
    if addrs.is_empty() || addrs.len() > MAX_SOCKETS {
        return Err(IoError::AddressCount(addrs.len()));
    }
    let mut warnings = Vec::new();
    let mut sockets = Vec::with_capacity(addrs.len());
    let mut patient = Vec::with_capacity(addrs.len());
    let mut bound = Vec::with_capacity(addrs.len());
    for &ip in addrs {
        let addr = SocketAddr::new(ip, port);
        let socket = bind_one(addr).map_err(|source| IoError::of_bind(addr, source))?;
        set_buffers(&socket, options, &mut warnings)
            .map_err(|source| IoError::Socket { addr, source })?;
        let addr = socket.local_addr().map_err(|source| IoError::Socket { addr, source })?;
        let beside = bind_beside(&socket, addr);
        if let Err(error) = &beside {
            tracing::debug!(%error, %addr, "feedback wakes the core like everything else");
        }
        bound.push(addr);
        sockets.push(socket);
        patient.push(beside.ok());
    }
    warnings.dedup();
    Ok(SocketSet {
        sockets: sockets.into(),
        patient: patient.into(),
        addrs: bound.into(),
        warnings: warnings.into(),
    })
}

/// A second socket on the port of `first`, which gets what has patience.
///
/// The first was bound without sharing its port and the second asks for it, so another process that
/// wants the port is still refused, unless it is of the same user and asks to share it.
fn bind_beside(first: &UdpSocket, addr: SocketAddr) -> io::Result<UdpSocket> {
    set_option(first, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let second = open_socket(addr)?;
    set_option(&second, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    bind_to(&second, addr)?;
    sort_out_feedback(&second)?;
    // A smaller buffer loses feedback on a busy core, which the next feedback makes good.
    let force = libc::SO_RCVBUFFORCE;
    if set_option(&second, libc::SOL_SOCKET, force, PATIENT_BUFFER_SIZE).is_err() {
        let _ = set_option(&second, libc::SOL_SOCKET, libc::SO_RCVBUF, PATIENT_BUFFER_SIZE);
    }
    Ok(second)
}

/// Has the kernel give transport-wide feedback to the second socket of a port and the rest to the
/// first. Feedback travels alone where reduced-size RTCP is negotiated; a compound begins with a
/// report, may ask for packets, and goes to the first.
fn sort_out_feedback(socket: &UdpSocket) -> io::Result<()> {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, and) = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, libc::BPF_ALU | libc::BPF_AND);
    let (equal, answer) = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET);
    // The program begins at the UDP payload. A load beyond its end ends it with 0.
    let mut filter = [
        statement(load, 0, 0, 0),
        statement(and, 0, 0, HEAD_MASK),
        statement(equal, 0, 3, FEEDBACK_HEAD),
        statement(load, 0, 0, 1),
        statement(equal, 0, 1, TRANSPORT_FEEDBACK),
        statement(answer, 0, 0, 1),
        statement(answer, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let size = size_of_val(&program) as libc::socklen_t;
    let name = libc::SO_ATTACH_REUSEPORT_CBPF;
    let place = (&raw const program).cast();
    // SAFETY: the pointers describe the program, which the kernel copies.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, place, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The sockets block: io_uring fails operations on non-blocking files instead of waiting, and the
/// plain backend says `MSG_DONTWAIT` where it means it.
fn bind_one(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open_socket(addr)?;
    bind_to(&socket, addr)?;
    Ok(socket)
}

fn open_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { UdpSocket::from_raw_fd(fd) };
    if addr.is_ipv6() {
        // Otherwise IPv4 senders would appear as mapped IPv6 addresses.
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    } else {
        // Don't Fragment on all: fragments are dropped by many networks and half a packet is none,
        // and the kernel need not find an identification for each datagram (2 % of all the CPU time
        // of a core). PROBE keeps forged ICMP messages from making the path look narrow.
        set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    }
    Ok(socket)
}

fn bind_to(socket: &UdpSocket, addr: SocketAddr) -> io::Result<()> {
    let raw = RawAddr::new(addr);
    let fd = socket.as_raw_fd();
    // SAFETY: the pointer and the length describe `raw`.
    let result = unsafe { libc::bind(fd, raw.bytes.as_ptr().cast(), raw.len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_buffers(
    socket: &UdpSocket,
    options: SocketOptions,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    let buffers = [
        (options.receive_buffer_size, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, "receive", "rmem"),
        (options.send_buffer_size, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, "send", "wmem"),
    ];
    for (wanted, plain, force, name, limit) in buffers {
        // The kernel doubles the number, which must still fit.
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX).min(i32::MAX / 2);
        // With CAP_NET_ADMIN the limit does not count.
        if set_option(socket, libc::SOL_SOCKET, force, wanted).is_err() {
            set_option(socket, libc::SOL_SOCKET, plain, wanted)?;
        }
        let granted = option(socket, libc::SOL_SOCKET, plain)? / 2;
        if granted < wanted {
            warnings.push(format!(
                "UDP {name} buffers have {} KiB instead of {} KiB, bursts may be lost: set sysctl \
                 net.core.{limit}_max={wanted}",
                granted / 1024,
                wanted / 1024,
            ));
        }
    }
    Ok(())
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the size describe `value`.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn option(socket: &UdpSocket, level: i32, name: i32) -> io::Result<i32> {
    let fd = socket.as_raw_fd();
    let mut value = 0_i32;
    let mut size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointers are of `value` and of its size.
    let result =
        unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn a_taken_port_is_named_with_the_cure() {
        let first = bind(&[V4], 0, SocketOptions::default()).unwrap();
        let taken = first.local_addrs()[0];
        let error = bind(&[V4], taken.port(), SocketOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "UDP {taken} is taken: choose another RTC_MIN_PORT or stop the process that holds \
                 it (ss -ulpn shows it)"
            )
        );
        let kept = first.clone();
        drop(first);
        assert!(bind(&[V4], taken.port(), SocketOptions::default()).is_err());
        drop(kept);
        assert!(bind(&[V4], taken.port(), SocketOptions::default()).is_ok());
    }

    #[test]
    fn both_families_share_a_port() {
        let v4 = bind(&[V4], 0, SocketOptions::default()).unwrap();
        let port = v4.local_addrs()[0].port();
        drop(v4);
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let both = bind(&any, port, SocketOptions::default()).expect("IPv6 keeps to itself");
        assert_eq!(both.local_addrs().len(), 2);
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn a_foreign_address_and_a_wrong_number_of_addresses_are_refused() {
        let foreign = "192.0.2.1".parse().unwrap();
        assert!(matches!(
            bind(&[V6, foreign], 0, SocketOptions::default()),
            Err(IoError::NotLocal(ip)) if ip == foreign
        ));
        let options = SocketOptions::default();
        assert!(matches!(bind(&[], 0, options), Err(IoError::AddressCount(0))));
        assert!(matches!(bind(&[V4; 9], 0, options), Err(IoError::AddressCount(9))));
    }

    #[test]
    fn buffers_below_what_was_asked_for_are_a_warning() {
        let huge = SocketOptions { receive_buffer_size: usize::MAX, send_buffer_size: 4096 };
        let set = bind(&[V4], 0, huge).expect("a warning is no error");
        let granted = option(&set.sockets[0], libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap() / 2;
        let is_short = granted < i32::MAX / 2;
        assert_eq!(set.warnings().len(), usize::from(is_short), "{:?}", set.warnings());
        assert!(set.warnings().iter().all(|w| w.contains("net.core.rmem_max")));
    }
}
