//! The io_uring backend: one system call a turn collects what arrived, sleeps when there was
//! nothing and wakes other cores; one more, `sendmmsg`, sends.
//!
//! * Receiving is armed once per socket (`recvmsg`, multishot) and draws slots from a ring of
//!   buffers. When slots run out the kernel ends it; datagrams then wait in the socket, and the
//!   next turn, which gives slots back, arms it again.
//! * What has patience is in sockets of its own, which every so often are read empty; nobody waits
//!   for them.
//! * A sleeping core is woken by a message from another core's ring, or through its event, on which
//!   a read is always pending, or by its alarm.
//! * Sending stays outside the ring, for that measured better. As ring entries (`SENDMSG` with
//!   `MSG_DONTWAIT`, registered files, no completions for successes, up to 256 to a call) trains
//!   cost 1.20 us each against 1.06 us by `sendmmsg` (one segment, loopback, Linux 6.18): an entry
//!   is a request to be set up and torn down. Whole turns of receiving and sending were 4-8 %
//!   dearer from 8 trains a turn on, and equal at one train; none was cheaper. It also leaves
//!   nothing in flight: when a turn returns the arena is free.
//!
//! Completions are made only within our own system calls (`DEFER_TASKRUN`): nothing interrupts the
//! core while it works.

mod buffers;
mod probe;
mod sys;

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Fixed, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::addr::{RAW_ADDR_SIZE, decode};
use super::alarm::Alarm;
use super::batch::{RX_SLOTS, RxBatch, SLOT_HEADER, TxBatch};
use super::error::ProbeError;
use super::park::{Parker, Unparker};
use super::send::Sender;
use super::socket::{MAX_SOCKETS, PATIENCE, SocketSet};
use super::types::{MAX_RX_BATCH, SLOT_SIZE, SocketId};
use super::{Io, TurnReport, Wait};

use buffers::BufferRing;
use sys::RingHandle;

pub use probe::probe_uring;

/// Entries of the submission queue: the most a turn submits.
const SUBMISSIONS: u32 = 256;

/// Entries of the completion queue: every slot, and wake-ups of as many peers as there may be. More
/// would be kept by the kernel, at a cost.
const COMPLETIONS: u32 = 1024;

/// Wake-ups of peers in one turn at most; beyond it they go through events.
const MAX_WAKES: usize = 128;

/// Entries that are always pending, besides the sockets': the event's and the alarm's.
const ALWAYS_PENDING: usize = 2;

const _: () = assert!(SUBMISSIONS as usize >= MAX_WAKES + 2 * MAX_SOCKETS + ALWAYS_PENDING);

/// Datagrams of one read of what has patience that say that there may be more: the kernel ends a
/// read after 33.
const PATIENT_READ_FULL: u32 = 32;

/// Calls to fill a batch at most, beyond the first. Eight would do for one busy socket.
const MAX_COLLECTS: u32 = 8;

/// Never seen: a turn pushes less than the queue holds, and each turn empties it.
const QUEUE_FULL: &str = "the submission queue is full";

/// How often an entry is tried while the kernel takes nothing (its memory is short).
const MAX_ENTER_ATTEMPTS: u32 = 100;

/// Size of `struct io_uring_recvmsg_out` at the head of each slot.
const RECVMSG_OUT_SIZE: usize = 16;
const _: () = assert!(RECVMSG_OUT_SIZE + RAW_ADDR_SIZE == SLOT_HEADER);

/// What a completion is of, in the top byte of its user data.
mod tag {
    /// Receiving; below: the socket.
    pub const RECEIVE: u64 = 1 << 56;
    /// The read of our event.
    pub const EVENT: u64 = 2 << 56;
    /// Another ring's message to this one.
    pub const WOKEN: u64 = 3 << 56;
    /// Our message to another ring that failed; below: which of the turn.
    pub const WAKE: u64 = 4 << 56;
    /// The alarm.
    pub const ALARM: u64 = 5 << 56;
    /// Reading what has patience; below: the socket.
    pub const PATIENT: u64 = 6 << 56;
    /// All of them.
    pub const MASK: u64 = 0xff << 56;
}

/// A datagram in a slot that the batch has not taken yet.
struct Arrival {
    slot: u16,
    len: usize,
    socket: SocketId,
}

/// Memory that pending operations refer to, at a fixed place.
struct Pinned {
    /// The template of all receives: how much room the sender's address gets.
    template: libc::msghdr,
    /// What the read of the event writes to.
    event: UnsafeCell<u64>,
}

/// The io_uring backend.
pub(super) struct UringIo {
    ring: IoUring,
    sockets: SocketSet,
    parker: Parker,
    sender: Sender,
    pinned: Box<Pinned>,
    /// With the first turn.
    running: Option<Running>,
    /// Receiving is armed, per socket.
    is_receiving: [bool; MAX_SOCKETS],
    is_reading_event: bool,
    /// When what has patience is read next.
    patient_due: Instant,
    /// Datagrams of the reads since then.
    patient_read: u32,
    alarm: Alarm,
    is_watching_alarm: bool,
    /// Peers woken through their rings in this turn.
    wakes: Vec<(Unparker, RawFd)>,
    can_message_rings: bool,
    /// In order of arrival. Each holds a slot, so it never outgrows its capacity.
    arrivals: VecDeque<Arrival>,
    /// Entries may be left in the submission queue that refer to memory which is gone.
    is_broken: bool,
}

/// What exists once the ring is bound to its thread.
struct Running {
    handle: RingHandle,
    buffers: BufferRing,
}

// SAFETY: the pointers (in `pinned`) lead to null or to nothing but data; the ring binds itself to
// a thread only with the first turn, and then refuses others by itself.
unsafe impl Send for UringIo {}

impl UringIo {
    /// Makes a ring over the sockets, not yet bound to a thread.
    pub(super) fn new(sockets: SocketSet, parker: Parker, gso: bool) -> Result<Self, ProbeError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_r_disabled()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(|source| ProbeError::of_step("setting up a ring", source))?;
        let alarm = Alarm::new().map_err(|source| ProbeError::of_step("making a timer", source))?;
        // Event, alarm and the sockets of what has patience come after the sockets, whose places
        // are their ids.
        let ours = [parker.event_fd(), alarm.fd()];
        let patient = sockets.patient_fds().map(|(_, fd)| fd);
        let files: Vec<RawFd> = sockets.fds().chain(ours).chain(patient).collect();
        ring.submitter()
            .register_files(&files)
            .map_err(|source| ProbeError::of_step("registering files", source))?;
        // SAFETY: all-zero is a valid `msghdr`: null pointers and zero lengths.
        let mut template: libc::msghdr = unsafe { std::mem::zeroed() };
        template.msg_namelen = RAW_ADDR_SIZE as u32;
        Ok(UringIo {
            ring,
            sockets,
            parker,
            sender: Sender::new(gso),
            pinned: Box::new(Pinned { template, event: UnsafeCell::new(0) }),
            running: None,
            is_receiving: [false; MAX_SOCKETS],
            is_reading_event: false,
            patient_due: Instant::now(),
            patient_read: 0,
            alarm,
            is_watching_alarm: false,
            wakes: Vec::with_capacity(MAX_WAKES),
            can_message_rings: true,
            arrivals: VecDeque::with_capacity(RX_SLOTS),
            is_broken: false,
        })
    }

    /// Binds the ring to this thread and lends it the slots of `rx`.
    fn start(&mut self, rx: &mut RxBatch) -> Result<(), ProbeError> {
        let slots = rx.lend().ok_or_else(|| {
            let source = io::ErrorKind::InvalidInput.into();
            ProbeError::Failed { step: "a batch lent to another ring", source }
        })?;
        let submitter = self.ring.submitter();
        submitter
            .register_enable_rings()
            .map_err(|source| ProbeError::of_step("enabling the ring", source))?;
        let buffers = BufferRing::register(&submitter, slots)
            .map_err(|source| ProbeError::of_step("registering buffers", source))?;
        let handle = RingHandle::register(self.ring.as_raw_fd());
        self.running = Some(Running { handle, buffers });
        self.parker.publish_ring(self.ring.as_raw_fd());
        Ok(())
    }

    /// Gives the slots of the last batch back to the kernel.
    fn recycle(&mut self, rx: &mut RxBatch) -> io::Result<()> {
        let Some(running) = &mut self.running else {
            return self.start(rx).map_err(io::Error::other);
        };
        if !rx.is_lent_from(running.buffers.slots()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if rx.is_empty() {
            return Ok(());
        }
        for i in 0..rx.len() {
            running.buffers.add(rx.datagram(i).offset as usize / SLOT_SIZE);
        }
        rx.clear();
        running.buffers.publish();
        Ok(())
    }

    /// Submits what is always pending and has ended.
    fn arm(&mut self) -> io::Result<()> {
        for socket in 0..self.sockets.len() {
            if self.is_receiving[socket] {
                continue;
            }
            let receive = opcode::RecvMsgMulti::new(
                Fixed(socket as u32),
                &raw const self.pinned.template,
                buffers::GROUP,
            );
            let entry = receive.build().user_data(tag::RECEIVE | socket as u64);
            // SAFETY: the template is pinned and never changed; the slots belong to the kernel
            // until their completions, and their memory lives until receiving has been cancelled.
            unsafe { self.push(&entry)? };
            self.is_receiving[socket] = true;
        }
        if !self.is_reading_event {
            let place = Fixed(self.sockets.len() as u32);
            let size = size_of::<u64>() as u32;
            let read = opcode::Read::new(place, self.pinned.event.get().cast(), size);
            let entry = read.build().user_data(tag::EVENT);
            // SAFETY: the memory is pinned, nobody reads it, and it lives until the read has been
            // cancelled.
            unsafe { self.push(&entry)? };
            self.is_reading_event = true;
        }
        Ok(())
    }

    /// Has a completion end the sleep that follows.
    fn set_alarm(&mut self, timeout: Duration) -> io::Result<()> {
        self.alarm.set_within(timeout)?;
        if self.is_watching_alarm {
            return Ok(());
        }
        let place = Fixed(self.sockets.len() as u32 + 1);
        let watch = opcode::PollAdd::new(place, libc::POLLIN as u32).build().user_data(tag::ALARM);
        // SAFETY: the entry refers to no memory.
        unsafe { self.push(&watch)? };
        self.is_watching_alarm = true;
        Ok(())
    }

    /// Has what has patience read if its time has come. Returns how many completions that ends
    /// with, all of them made by the call that submits.
    fn read_patient(&mut self) -> io::Result<u32> {
        let now = Instant::now();
        let may_have_more = std::mem::take(&mut self.patient_read) >= PATIENT_READ_FULL;
        if now < self.patient_due && !may_have_more {
            return Ok(0);
        }
        self.patient_due = now + PATIENCE;
        let first = self.sockets.len() + ALWAYS_PENDING;
        let mut reads = 0;
        for (index, (socket, _)) in self.sockets.clone().patient_fds().enumerate() {
            let place = Fixed((first + index) as u32);
            let receive =
                opcode::RecvMsgMulti::new(place, &raw const self.pinned.template, buffers::GROUP);
            let receive = receive.flags(libc::MSG_DONTWAIT as u32);
            let entry = receive.build().user_data(tag::PATIENT | socket as u64);
            // SAFETY: as in `arm`.
            unsafe { self.push(&entry)? };
            reads += 1;
        }
        Ok(reads)
    }

    fn push_wakes(&mut self) -> io::Result<()> {
        for i in 0..self.wakes.len() {
            let message = opcode::MsgRingData::new(Fd(self.wakes[i].1), 0, tag::WOKEN, None);
            let entry =
                message.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(tag::WAKE | i as u64);
            // SAFETY: the entry refers to no memory. If the descriptor has become another file's,
            // the operation fails on all but rings, and those take the message for a wake-up.
            unsafe { self.push(&entry)? };
        }
        Ok(())
    }

    /// Puts an entry in the submission queue.
    ///
    /// # Safety
    ///
    /// What the entry points to is valid until the operation has completed.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: promised by the caller.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| io::Error::other(QUEUE_FULL))
    }

    /// Submits everything in the queue, waits for so many `completions`, and sorts those that there
    /// are.
    fn enter(&mut self, completions: u32, report: &mut TurnReport) -> io::Result<()> {
        let Some(Running { handle, .. }) = self.running else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut attempts = 0;
        loop {
            let to_submit = self.ring.submission().len() as u32;
            let result = handle.enter(to_submit, completions);
            self.sort_completions(report)?;
            match result {
                Ok(taken) if taken == to_submit => return Ok(()),
                Ok(taken) if taken > 0 => continue,
                Ok(_) => {}
                // A signal came, with nothing to submit.
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) if to_submit == 0 => return Ok(()),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {}
                    _ => return Err(error),
                },
            }
            attempts += 1;
            if attempts == MAX_ENTER_ATTEMPTS {
                return Err(io::Error::other("the kernel takes no more submissions"));
            }
        }
    }

    /// Empties the completion queue: arrivals wait in order, everything else is dealt with.
    fn sort_completions(&mut self, report: &mut TurnReport) -> io::Result<()> {
        const CHUNK: usize = 64;
        loop {
            let mut space = [const { MaybeUninit::uninit() }; CHUNK];
            let completions = self.ring.completion().fill(&mut space);
            let is_last = completions.len() < CHUNK;
            for completion in &*completions {
                self.sort(completion, report)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn sort(&mut self, completion: &cqueue::Entry, report: &mut TurnReport) -> io::Result<()> {
        let data = completion.user_data() & !tag::MASK;
        match completion.user_data() & tag::MASK {
            tag::RECEIVE => self.sort_receive(completion, data as usize, report)?,
            tag::EVENT => {
                self.is_reading_event = false;
                report.woken |= completion.result() > 0;
            }
            tag::WOKEN => report.woken = true,
            tag::PATIENT => self.sort_patient(completion, data as usize, report),
            tag::ALARM => {
                self.is_watching_alarm = false;
                self.alarm.gone_off();
            }
            tag::WAKE => {
                if let Some((peer, _)) = self.wakes.get(data as usize) {
                    peer.signal();
                }
                if matches!(-completion.result(), libc::EINVAL | libc::EOPNOTSUPP) {
                    self.can_message_rings = false;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn sort_receive(
        &mut self,
        completion: &cqueue::Entry,
        socket: usize,
        report: &mut TurnReport,
    ) -> io::Result<()> {
        if !cqueue::more(completion.flags()) {
            self.is_receiving[socket] = false;
        }
        let Ok(len) = usize::try_from(completion.result()) else {
            return match -completion.result() {
                // All slots are taken; the next turn arms again.
                libc::ENOBUFS => {
                    report.out_of_slots += 1;
                    Ok(())
                }
                // Arming again would fail the same way, for ever.
                errno @ (libc::EBADF | libc::EFAULT | libc::EINVAL | libc::EOPNOTSUPP) => {
                    Err(io::Error::from_raw_os_error(errno))
                }
                _ => {
                    report.receive_errors += 1;
                    Ok(())
                }
            };
        };
        if let Some(slot) = cqueue::buffer_select(completion.flags()) {
            self.arrivals.push_back(Arrival { slot, len, socket: SocketId(socket as u8) });
        }
        Ok(())
    }

    fn sort_patient(&mut self, completion: &cqueue::Entry, socket: usize, report: &mut TurnReport) {
        let slot = cqueue::buffer_select(completion.flags());
        match (usize::try_from(completion.result()), slot) {
            (Ok(len), Some(slot)) => {
                self.patient_read += 1;
                self.arrivals.push_back(Arrival { slot, len, socket: SocketId(socket as u8) });
            }
            _ => match -completion.result() {
                // Nothing is left.
                libc::EAGAIN => {}
                libc::ENOBUFS => report.out_of_slots += 1,
                _ => report.receive_errors += 1,
            },
        }
    }

    /// Moves arrivals into the batch while there is room.
    fn deliver(&mut self, rx: &mut RxBatch, report: &mut TurnReport) {
        let Some(running) = &mut self.running else { return };
        let mut is_any_dropped = false;
        while !rx.is_full() {
            let Some(Arrival { slot, len, socket }) = self.arrivals.pop_front() else { break };
            let slot = usize::from(slot);
            let head = running.buffers.slots().slot(slot).cast::<[u8; SLOT_HEADER]>();
            // SAFETY: the kernel has filled this slot and handed it to us with its completion.
            let head = unsafe { head.read() };
            match (parse_head(&head), len.checked_sub(SLOT_HEADER)) {
                (Some(source), Some(len)) => {
                    // SAFETY: the slot is ours until the batch is recycled, and the kernel hands
                    // out no slot twice.
                    unsafe { rx.push(slot, len, socket, source) };
                }
                _ => {
                    report.truncated += 1;
                    running.buffers.add(slot);
                    is_any_dropped = true;
                }
            }
        }
        if is_any_dropped {
            running.buffers.publish();
        }
        report.received = rx.len() as u32;
    }

    fn run_turn(
        &mut self,
        tx: &TxBatch,
        rx: &mut RxBatch,
        wait: Wait,
        report: &mut TurnReport,
    ) -> io::Result<()> {
        self.recycle(rx)?;
        self.arm()?;
        self.push_wakes()?;
        let reads = self.read_patient()?;
        self.sender.send_all(tx, &self.sockets, report);
        self.deliver(rx, report);
        let is_sleeping = match wait {
            Wait::Until(timeout) if rx.is_empty() && !report.woken => {
                self.set_alarm(timeout)?;
                true
            }
            _ => false,
        };
        if is_sleeping || self.has_work_for_the_kernel(rx) {
            // The last completion of each read comes at once and must not end a sleep.
            self.enter(if is_sleeping { 1 + reads } else { 0 }, report)?;
            self.collect(report)?;
            self.deliver(rx, report);
        }
        Ok(())
    }

    /// Collects what else has arrived, up to a batch. The kernel takes 33 datagrams of a socket and
    /// then leaves the rest to the next call; but long batches make long trains.
    fn collect(&mut self, report: &mut TurnReport) -> io::Result<()> {
        for _ in 0..MAX_COLLECTS {
            let is_enough = self.arrivals.is_empty() || self.arrivals.len() >= MAX_RX_BATCH;
            if is_enough || !self.ring.submission().taskrun() {
                break;
            }
            self.enter(0, report)?;
        }
        Ok(())
    }

    /// Whether a system call that does not wait would do anything that is wanted now.
    fn has_work_for_the_kernel(&mut self, rx: &RxBatch) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || (!rx.is_full() && (queue.taskrun() || queue.cq_overflow()))
    }
}

/// The sender from what the kernel wrote before the payload: `struct io_uring_recvmsg_out`, then
/// the address. `None` if the datagram did not fit the slot.
fn parse_head(head: &[u8; SLOT_HEADER]) -> Option<SocketAddr> {
    let (out, name) = head.split_at(RECVMSG_OUT_SIZE);
    // Fields: name length, control length, payload length, flags.
    let flags = u32::from_ne_bytes(*out.last_chunk()?);
    if flags & libc::MSG_TRUNC as u32 != 0 {
        return None;
    }
    decode(name)
}

impl Io for UringIo {
    fn turn(&mut self, tx: &mut TxBatch, rx: &mut RxBatch, wait: Wait) -> io::Result<TurnReport> {
        if self.is_broken {
            return Err(io::Error::other("the ring has failed before"));
        }
        let mut report = TurnReport::default();
        let result = self.run_turn(tx, rx, wait, &mut report);
        self.is_broken = result.is_err();
        self.wakes.clear();
        tx.clear();
        result.map(|()| report)
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
        let ring = if self.can_message_rings { peer.ring_if_parked() } else { None };
        match ring {
            Some(ring) if self.wakes.len() < MAX_WAKES => {
                if !self.wakes.iter().any(|(other, _)| other.is_same(peer)) {
                    self.wakes.push((peer.clone(), ring));
                }
            }
            _ => peer.wake(),
        }
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn local_addrs(&self) -> &[SocketAddr] {
        self.sockets.local_addrs()
    }
}

impl Drop for UringIo {
    fn drop(&mut self) {
        self.parker.withdraw_ring();
        let Some(Running { handle, buffers }) = self.running.take() else { return };
        // A receive that is still armed could write to slots after they are freed.
        let submitter = self.ring.submitter();
        let patience = Timespec::new().sec(1);
        let cancelled = submitter.register_sync_cancel(Some(patience), CancelBuilder::any());
        let is_idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        handle.unregister();
        if is_idle && submitter.unregister_buf_ring(buffers::GROUP).is_ok() {
            return;
        }
        // On another thread than the ring's, for instance while that one's values are torn down.
        tracing::warn!("an io_uring could not be wound up: its buffers stay allocated");
        std::mem::forget(buffers);
        let nothing = Pinned { template: self.pinned.template, event: UnsafeCell::new(0) };
        std::mem::forget(std::mem::replace(&mut self.pinned, Box::new(nothing)));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    use super::super::socket::{SocketOptions, bind};
    use super::super::{Backend, BackendChoice, IoError, open};
    use super::*;

    const PATIENCE: Wait = Wait::Until(Duration::from_secs(10));

    fn ring() -> (UringIo, Parker, TxBatch, RxBatch) {
        let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let sockets = bind(&localhost, 0, SocketOptions::default()).unwrap();
        let parker = Parker::new().unwrap();
        let io = UringIo::new(sockets, parker.for_backend(), true).unwrap();
        (io, parker, TxBatch::new(), RxBatch::new())
    }

    fn signals_of(parker: &Parker) -> i32 {
        let mut poll = libc::pollfd { fd: parker.event_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&raw mut poll, 1, 0) }
    }

    #[test]
    fn running_out_of_slots_loses_nothing() {
        let (mut io, _parker, mut tx, mut rx) = ring();
        io.turn(&mut tx, &mut rx, Wait::Poll).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let flood = 3 * RX_SLOTS as u32;
        for i in 0..flood {
            client.send_to(&i.to_be_bytes(), io.local_addrs()[0]).unwrap();
        }
        // More calls than a turn makes.
        let mut report = TurnReport::default();
        for _ in 0..RX_SLOTS {
            io.enter(0, &mut report).unwrap();
        }
        assert_eq!((report.out_of_slots, io.arrivals.len()), (1, RX_SLOTS));
        let mut received = 0_u32;
        while received < flood {
            let report = io.turn(&mut tx, &mut rx, PATIENCE).unwrap();
            assert_ne!(report, TurnReport::default(), "time is up");
            for i in 0..rx.len() {
                assert_eq!(rx.bytes(i), received.to_be_bytes());
                received += 1;
            }
        }
        assert!(io.arrivals.is_empty());
    }

    #[test]
    fn cores_wake_each_other_by_message_and_by_event_where_that_fails() {
        let (mut io, _parker, mut tx, mut rx) = ring();
        let (mut peer_io, peer, mut peer_tx, mut peer_rx) = ring();
        for io_turn in [
            io.turn(&mut tx, &mut rx, Wait::Poll),
            peer_io.turn(&mut peer_tx, &mut peer_rx, Wait::Poll),
        ] {
            assert!(!io_turn.unwrap().woken);
        }
        peer.prepare();
        io.wake_peer(&peer.unparker());
        io.wake_peer(&peer.unparker());
        assert_eq!(io.wakes.len(), 1, "once a turn is enough");
        io.turn(&mut tx, &mut rx, Wait::Poll).unwrap();
        assert!(peer_io.turn(&mut peer_tx, &mut peer_rx, PATIENCE).unwrap().woken);
        assert!(io.can_message_rings && peer_io.is_reading_event, "the event was not used");
        peer.done();
        io.wake_peer(&peer.unparker());
        assert!(io.wakes.is_empty(), "awake");

        // Something that is no ring under the number: the message fails, the event is signalled.
        let file = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = Parker::new().unwrap();
        other.publish_ring(file.as_raw_fd());
        other.prepare();
        io.wake_peer(&other.unparker());
        io.turn(&mut tx, &mut rx, Wait::Poll).unwrap();
        assert_eq!(signals_of(&other), 1);
    }

    #[test]
    fn a_batch_belongs_to_one_ring() {
        let (mut io, _parker, mut tx, mut rx) = ring();
        let (mut other_io, _other_parker, _, mut other_rx) = ring();
        io.turn(&mut tx, &mut rx, Wait::Poll).unwrap();
        assert!(other_io.turn(&mut tx, &mut rx, Wait::Poll).is_err());
        assert!(io.turn(&mut tx, &mut other_rx, Wait::Poll).is_err());
        assert!(io.turn(&mut tx, &mut rx, Wait::Poll).is_err(), "broken rings stay broken");
    }

    #[test]
    fn a_ring_dropped_on_a_foreign_thread_leaves_its_slots_alone() {
        let (mut io, _parker, mut tx, mut rx) = ring();
        let addr = io.local_addrs()[0];
        std::thread::scope(|scope| {
            scope.spawn(|| io.turn(&mut tx, &mut rx, Wait::Poll).unwrap());
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        drop(io);
        client.send_to(b"late", addr).unwrap();
        drop(rx);
    }

    #[test]
    fn the_sender_is_read_from_the_kernels_header() {
        let mut head = [0; SLOT_HEADER];
        let raw = super::super::addr::RawAddr::new("[2001:db8::7]:5004".parse().unwrap());
        head[RECVMSG_OUT_SIZE..].copy_from_slice(&raw.bytes);
        assert_eq!(parse_head(&head), Some("[2001:db8::7]:5004".parse().unwrap()));
        head[12..16].copy_from_slice(&(libc::MSG_TRUNC as u32).to_ne_bytes());
        assert_eq!(parse_head(&head), None);
        assert_eq!(parse_head(&[0; SLOT_HEADER]), None);
    }

    /// Has the kernel refuse io_uring to this thread, as container runtimes do.
    fn forbid_io_uring(errno: i32) {
        let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let (load, equal, answer) = (
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::BPF_RET | libc::BPF_K,
        );
        let mut filter = [
            // The first word of `seccomp_data` is the number of the system call.
            statement(load, 0, 0, 0),
            statement(equal, 0, 1, libc::SYS_io_uring_setup as u32),
            statement(answer, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: the program and its filter outlive the call, which copies them.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, 0);
    }

    #[test]
    fn where_io_uring_is_refused_auto_falls_back_and_says_why() {
        for (errno, cure) in [(libc::EPERM, "seccomp"), (libc::ENOSYS, "CONFIG_IO_URING")] {
            // The filter lasts as long as its thread.
            let thread = std::thread::spawn(move || {
                let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
                let sockets = bind(&localhost, 0, SocketOptions::default()).unwrap();
                let parker = Parker::new().unwrap();
                forbid_io_uring(errno);
                let (io, backend, why) =
                    open(BackendChoice::Auto, sockets.clone(), &parker).unwrap();
                assert_eq!((io.name(), backend), ("mmsg", Backend::Mmsg));
                assert!(why.contains(cure), "{why}");
                let Err(error) = open(BackendChoice::Uring, sockets, &parker) else {
                    panic!("io_uring was forbidden");
                };
                assert!(matches!(error, IoError::Uring(_)));
                assert!(error.to_string().contains("--io auto"), "{error}");
            });
            thread.join().unwrap();
        }
    }

    #[test]
    fn where_io_uring_works_auto_takes_it() {
        probe_uring().unwrap();
        let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let sockets = bind(&localhost, 0, SocketOptions::default()).unwrap();
        let parker = Parker::new().unwrap();
        let (io, backend, _) = open(BackendChoice::Auto, sockets, &parker).unwrap();
        assert_eq!((io.name(), backend), ("io_uring", Backend::Uring));
    }
}
