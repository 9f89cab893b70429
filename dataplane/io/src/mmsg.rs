//! The backend for where io_uring is refused: `sendmmsg` and `recvmmsg`, three system calls a turn
//! at most when all goes well, two under load.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Instant;

use super::addr::{RAW_ADDR_SIZE, decode};
use super::alarm::Alarm;
use super::batch::{MAX_DATAGRAM, RxBatch, SLOT_HEADER, SlotMemory, TxBatch};
use super::park::{Parker, Unparker};
use super::send::Sender;
use super::socket::{MAX_SOCKETS, PATIENCE, SocketSet};
use super::types::{MAX_RX_BATCH, SocketId};
use super::{Io, TurnReport, Wait};

/// A descriptor that `poll` passes over.
const NO_FD: RawFd = -1;

/// An entry of a poll before it has a descriptor.
const NOT_POLLED: libc::pollfd = libc::pollfd { fd: NO_FD, events: libc::POLLIN, revents: 0 };

/// The alarm ends sleeps.
const NO_TIMEOUT: libc::c_int = -1;

/// `recvmmsg`, `sendmmsg` with GSO, and `poll` over the sockets, the wake-up event and the alarm.
pub(super) struct MmsgIo {
    sockets: SocketSet,
    parker: Parker,
    alarm: Alarm,
    sender: Sender,
    receive: ReceiveVector,
    /// The socket that is read first, in turns: a busy one must not starve the others.
    first_socket: usize,
    /// When what has patience is read next.
    patient_due: Instant,
}

impl MmsgIo {
    pub(super) fn new(sockets: SocketSet, parker: Parker, gso: bool) -> io::Result<Self> {
        Ok(MmsgIo {
            sockets,
            parker,
            alarm: Alarm::new()?,
            sender: Sender::new(gso),
            receive: ReceiveVector::new(),
            first_socket: 0,
            patient_due: Instant::now(),
        })
    }

    /// Waits until a socket, the wake-up event or the alarm is readable. Whether a socket is.
    fn wait(&mut self, report: &mut TurnReport) -> io::Result<bool> {
        let mut polls = [NOT_POLLED; MAX_SOCKETS + 2];
        let ours = [Some(self.parker.event_fd()), self.alarm.is_set().then(|| self.alarm.fd())];
        let fds = ours.into_iter().map(|fd| fd.unwrap_or(NO_FD)).chain(self.sockets.fds());
        for (poll, fd) in polls.iter_mut().zip(fds) {
            poll.fd = fd;
        }
        let count = (2 + self.sockets.len()) as libc::nfds_t;
        // SAFETY: so many entries are initialised.
        let ready = unsafe { libc::poll(polls.as_mut_ptr(), count, NO_TIMEOUT) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        let [event, alarm, sockets @ ..] = &polls;
        if event.revents & libc::POLLIN != 0 {
            self.parker.consume();
            report.woken = true;
        }
        if alarm.revents & libc::POLLIN != 0 {
            self.alarm.gone_off();
        }
        Ok(sockets.iter().any(|poll| poll.revents != 0))
    }

    fn receive_all(&mut self, rx: &mut RxBatch, report: &mut TurnReport) -> io::Result<()> {
        let count = self.sockets.len();
        let first = self.first_socket;
        self.first_socket = (first + 1) % count;
        let mut next_slot = 0;
        let now = Instant::now();
        let is_patience_over = now >= self.patient_due;
        if is_patience_over {
            self.patient_due = now + PATIENCE;
        }
        let MmsgIo { sockets, receive, .. } = self;
        let usual = (0..count).map(|i| (first + i) % count);
        let usual = usual.filter_map(|socket| Some((socket, sockets.fd(socket)?)));
        let patient = sockets.patient_fds().take_while(|_| is_patience_over);
        for (socket, fd) in patient.chain(usual) {
            let memory = rx.fillable().ok_or(io::ErrorKind::InvalidInput)?;
            let filled = match receive.receive(fd, next_slot, memory) {
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
                match receive.take(slot) {
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
        match wait {
            Wait::Poll => return Ok(report),
            Wait::Until(timeout) => self.alarm.set_within(timeout)?,
        }
        if self.wait(&mut report)? {
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

    fn hurry(&mut self) {
        self.patient_due = Instant::now();
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
