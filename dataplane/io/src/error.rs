//! What can go wrong before the first packet, each in one line that says what to do about it.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Sockets or a backend could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// Another socket has the port.
    #[error(
        "UDP {0} is taken: choose another RTC_MIN_PORT or stop the process that holds it \
         (ss -ulpn shows it)"
    )]
    PortTaken(SocketAddr),
    /// No interface has the address.
    #[error(
        "{0} is not an address of this host: set MEDIASOUP_LISTEN_IP to one that `ip address` \
         shows, and a public one that is translated to it as MEDIASOUP_ANNOUNCED_IP"
    )]
    NotLocal(IpAddr),
    /// The kernel does not do this kind of address.
    #[error("this host has no {family} (listen address {0}): leave the address out", family = family(.0))]
    NoFamily(IpAddr),
    /// Not allowed to listen there.
    #[error(
        "no permission to listen on UDP {0}: choose RTC_MIN_PORT above 1023 or grant \
         CAP_NET_BIND_SERVICE"
    )]
    Permission(SocketAddr),
    /// Listening failed for another reason.
    #[error("cannot listen on UDP {addr}: {source}")]
    Socket {
        /// Where.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// None, or more than a core has sockets for.
    #[error("{0} listen addresses: a core needs at least 1 and takes at most {max}", max = super::MAX_SOCKETS)]
    AddressCount(usize),
    /// The timer that ends sleeps could not be made.
    #[error("cannot make a timer: {0}; raise the limit of open files (ulimit -n)")]
    Timer(io::Error),
    /// io_uring was asked for and cannot be had.
    #[error("{0}; or run with --io auto")]
    Uring(#[from] ProbeError),
}

fn family(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl IoError {
    /// The error of a failed `socket` or `bind`.
    pub(super) fn of_bind(addr: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => IoError::PortTaken(addr),
            Some(libc::EADDRNOTAVAIL) => IoError::NotLocal(addr.ip()),
            Some(libc::EAFNOSUPPORT) => IoError::NoFamily(addr.ip()),
            Some(libc::EACCES | libc::EPERM) => IoError::Permission(addr),
            _ => IoError::Socket { addr, source },
        }
    }
}

/// Why io_uring cannot be used here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Forbidden by the administrator or the container.
    #[error(
        "io_uring is forbidden here: in a container allow it in the seccomp profile (for a trial: \
         --security-opt seccomp=unconfined), on the host set sysctl kernel.io_uring_disabled=0"
    )]
    Forbidden,
    /// The kernel was built without it.
    #[error(
        "there is no io_uring here: this wants Linux 6.1 or newer with CONFIG_IO_URING, and in a \
         container a seccomp profile that allows it"
    )]
    Missing,
    /// The kernel's io_uring lacks something.
    #[error("this kernel's io_uring is too old ({step}: {source}): use Linux 6.1 or newer")]
    TooOld {
        /// What was being tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Ring memory counts as locked memory on older kernels.
    #[error(
        "too little locked memory for io_uring ({0}): raise RLIMIT_MEMLOCK (ulimit -l, \
         LimitMEMLOCK= in a systemd unit)"
    )]
    LockedMemory(&'static str),
    /// Something else failed.
    #[error("io_uring does not work here ({step}: {source})")]
    Failed {
        /// What was being tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A ring could be made, but datagrams sent over loopback did not arrive as they should.
    #[error("io_uring does not work here: {0}")]
    Datagrams(String),
}

impl ProbeError {
    /// The error of a failed `step` of making a ring.
    pub(super) fn of_step(step: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => ProbeError::Forbidden,
            Some(libc::ENOSYS) => ProbeError::Missing,
            Some(libc::EINVAL | libc::EOPNOTSUPP) => ProbeError::TooOld { step, source },
            Some(libc::ENOMEM) => ProbeError::LockedMemory(step),
            _ => ProbeError::Failed { step, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_one_line_that_names_the_cure() {
        let addr: SocketAddr = "192.0.2.1:40000".parse().unwrap();
        let bind = |errno| IoError::of_bind(addr, io::Error::from_raw_os_error(errno)).to_string();
        let ring =
            |errno| ProbeError::of_step("setup", io::Error::from_raw_os_error(errno)).to_string();
        let cases = [
            (bind(libc::EADDRINUSE), "192.0.2.1:40000"),
            (bind(libc::EADDRINUSE), "RTC_MIN_PORT"),
            (bind(libc::EADDRNOTAVAIL), "MEDIASOUP_LISTEN_IP"),
            (bind(libc::EAFNOSUPPORT), "leave the address out"),
            (bind(libc::EACCES), "CAP_NET_BIND_SERVICE"),
            (bind(libc::EMFILE), "Too many open files"),
            (IoError::AddressCount(0).to_string(), "at least 1"),
            (ring(libc::EPERM), "kernel.io_uring_disabled"),
            (ring(libc::EPERM), "seccomp"),
            (ring(libc::ENOSYS), "CONFIG_IO_URING"),
            (ring(libc::EINVAL), "6.1"),
            (ring(libc::ENOMEM), "ulimit -l"),
            (IoError::Uring(ProbeError::Forbidden).to_string(), "--io auto"),
        ];
        for (text, cure) in cases {
            assert!(text.contains(cure), "{text:?} does not say {cure:?}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text:?}");
        }
    }
}
