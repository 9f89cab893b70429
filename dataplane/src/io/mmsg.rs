//! The backend for where io_uring is refused: `sendmmsg` and `recvmmsg`, three system calls a turn
//! at most when all goes well, two under load.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use super::addr::{RAW_ADDR_SIZE, decode};
use super::batch::{MAX_DATAGRAM, RxBatch, SLOT_HEADER, SlotMemory, TxBatch};
use super::park::{Parker, Unparker};
use super::send::Sender;
use super::socket::{MAX_SOCKETS, SocketSet};
use super::types::{MAX_RX_BATCH, SocketId};
use super::{Io, TurnReport, Wait};

/// An entry of a poll before it has a descriptor.
const NOT_POLLED: libc::pollfd = libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 };

/// `recvmmsg`, `sendmmsg` with GSO, and `ppoll` over the sockets and the wake-up event.
pub(super) struct MmsgIo {
    sockets: SocketSet,
    parker: Parker,
    sender: Sender,
    receive: ReceiveVector,
    /// The socket that is read first, in turns: a busy one must not starve the others.
    first_socket: usize,
}

impl MmsgIo {
    pub(super) fn new(sockets: SocketSet, parker: Parker, gso: bool) -> Self {
        MmsgIo {
            sockets,
            parker,
            sender: Sender::new(gso),
            receive: ReceiveVector::new(),
            first_socket: 0,
        }
    }

    /// Waits until a socket or the wake-up event is readable. False when the time is up.
    fn wait(&mut self, timeout: Option<Duration>, report: &mut TurnReport) -> io::Result<bool> {
        let mut polls = [NOT_POLLED; MAX_SOCKETS + 1];
        for (poll, fd) in polls[1..].iter_mut().zip(self.sockets.fds()) {
            poll.fd = fd;
        }
        let polls = &mut polls[..1 + self.sockets.len()];
        self.poll(polls, timeout, report)?;
        Ok(polls[1..].iter().any(|poll| poll.revents != 0))
    }

    /// Waits for the wake-up event alone. False when the time is up.
    fn wait_for_event(&mut self, time: Duration, report: &mut TurnReport) -> io::Result<bool> {
        self.poll(&mut [NOT_POLLED], Some(time), report)?;
        Ok(report.woken)
    }

    /// Polls; the first entry is the wake-up event's.
    fn poll(
        &mut self,
        polls: &mut [libc::pollfd],
        timeout: Option<Duration>,
        report: &mut TurnReport,
    ) -> io::Result<()> {
        polls[0].fd = self.parker.event_fd();
        let timeout = timeout.map(timespec);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| &raw const *timeout);
        let count = polls.len() as libc::nfds_t;
        // SAFETY: `count` entries are initialised, the timeout is null or lives on the stack.
        let ready = unsafe { libc::ppoll(polls.as_mut_ptr(), count, timeout, std::ptr::null()) };
        if ready < 0 {
            for poll in &mut *polls {
                poll.revents = 0;
            }
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        if polls[0].revents & libc::POLLIN != 0 {
            self.parker.consume();
            report.woken = true;
        }
        Ok(())
    }

    fn receive_all(&mut self, rx: &mut RxBatch, report: &mut TurnReport) -> io::Result<()> {
        let count = self.sockets.len();
        let first = self.first_socket;
        self.first_socket = (first + 1) % count;
        let mut next_slot = 0;
        for socket in (0..count).map(|i| (first + i) % count) {
            let Some(fd) = self.sockets.fd(socket) else { continue };
            let memory = rx.fillable().ok_or(io::ErrorKind::InvalidInput)?;
            let filled = match self.receive.receive(fd, next_slot, memory) {
                Ok(filled) => filled,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR) => continue,
                    Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT) => return Err(error),
                    // An ICMP error of something sent earlier, or memory is short: not this
                    // datagram's fault.
                    _ => {
                        report.receive_errors += 1;
                        continue;
                    }
                },
            };
            for slot in next_slot..next_slot + filled {
                match self.receive.take(slot) {
                    // SAFETY: `receive` had the kernel fill this slot for this batch, and each slot
                    // is filled once per turn.
                    Some((len, source)) => unsafe {
                        rx.push(slot, len, SocketId(socket as u8), source);
                    },
                    None => report.truncated += 1,
                }
            }
            next_slot += filled;
            if next_slot == MAX_RX_BATCH {
                break;
            }
        }
        report.received = rx.len() as u32;
        Ok(())
    }
}

impl Io for MmsgIo {
    fn turn(&mut self, tx: &mut TxBatch, rx: &mut RxBatch, wait: Wait) -> io::Result<TurnReport> {
        let mut report = TurnReport::default();
        rx.clear();
        self.sender.send_all(tx, &self.sockets, &mut report);
        tx.clear();
        self.receive_all(rx, &mut report)?;
        if report.received > 0 {
            return Ok(report);
        }
        let timeout = match wait {
            Wait::Poll => return Ok(report),
            Wait::Until(timeout) => Some(timeout),
            Wait::Gather { at_least, until } => {
                // Packets do not end this sleep. Whoever wakes the core does.
                let woken = self.wait_for_event(at_least.min(until), &mut report)?;
                self.receive_all(rx, &mut report)?;
                if woken || report.received > 0 {
                    return Ok(report);
                }
                Some(until.saturating_sub(at_least))
            }
            Wait::Forever => None,
        };
        if self.wait(timeout, &mut report)? {
            self.receive_all(rx, &mut report)?;
        }
        Ok(report)
    }

    fn flush(&mut self, tx: &mut TxBatch) -> TurnReport {
        let mut report = TurnReport::default();
        self.sender.send_all(tx, &self.sockets, &mut report);
        tx.clear();
        report
    }

    fn wake_peer(&mut self, peer: &Unparker) {
        peer.wake();
    }

    fn name(&self) -> &'static str {
        "mmsg"
    }

    fn local_addrs(&self) -> &[SocketAddr] {
        self.sockets.local_addrs()
    }
}

/// A duration as the kernel takes it; beyond 68 years is as good as never.
pub(super) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::from(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Descriptions of the slots that `recvmmsg` fills; entry `i` is slot `i`.
struct ReceiveVector {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[[u8; RAW_ADDR_SIZE]]>,
}

// SAFETY: the pointers lead into the vector's own boxes and into a batch's slots; they are followed
// only by the kernel within a call made with exclusive access to both.
unsafe impl Send for ReceiveVector {}

impl ReceiveVector {
    fn new() -> Self {
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and zero lengths.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: MAX_DATAGRAM };
        let mut vector = ReceiveVector {
            headers: vec![header; MAX_RX_BATCH].into(),
            iovecs: vec![iovec; MAX_RX_BATCH].into(),
            names: vec![[0; RAW_ADDR_SIZE]; MAX_RX_BATCH].into(),
        };
        let parts = vector.iovecs.iter_mut().zip(&mut vector.names);
        for (header, (iovec, name)) in vector.headers.iter_mut().zip(parts) {
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = RAW_ADDR_SIZE as u32;
        }
        vector
    }

    /// Fills slots of `memory` from `first` on; how many.
    fn receive(&mut self, fd: RawFd, first: usize, memory: &SlotMemory) -> io::Result<usize> {
        self.point_to(memory);
        let headers = &mut self.headers[first..];
        // SAFETY: every header describes its own name and its own slot of `memory`, which is not
        // lent to another kernel side, and all of them outlive the call.
        let result = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn point_to(&mut self, memory: &SlotMemory) {
        if std::ptr::eq(self.iovecs[0].iov_base.cast(), payload(memory, 0)) {
            return;
        }
        for (slot, iovec) in self.iovecs.iter_mut().enumerate() {
            iovec.iov_base = payload(memory, slot).cast();
        }
    }

    /// Length and sender of what was received into a slot, once; `None` if it did not fit.
    fn take(&mut self, slot: usize) -> Option<(usize, SocketAddr)> {
        let header = &mut self.headers[slot];
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        header.msg_hdr.msg_flags = 0;
        header.msg_hdr.msg_namelen = RAW_ADDR_SIZE as u32;
        let source = decode(&self.names[slot])?;
        (!is_cut).then_some((header.msg_len as usize, source))
    }
}

/// Where the payload of a slot begins.
fn payload(memory: &SlotMemory, slot: usize) -> *mut u8 {
    // SAFETY: the header is smaller than a slot.
    unsafe { memory.slot(slot).add(SLOT_HEADER) }
}
