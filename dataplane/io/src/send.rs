//! Describing trains to the kernel: `msghdr`s with a `UDP_SEGMENT` control message.
//!
//! Shared by the backends that talk to the kernel, with what they do when it refuses.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::TurnReport;
use super::addr::RawAddr;
use super::batch::TxBatch;
use super::socket::SocketSet;
use super::types::{SocketId, Train};

/// Messages handed to the kernel at once at most. A larger number saves no more system calls worth
/// speaking of, and its descriptions (170 bytes each) leave the cache.
pub(super) const SEND_VECTOR: usize = 256;

/// How long a probe waits for its own datagrams. They arrive within the call that sends them; this
/// is for machines that are very busy.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// One message: a train, or one of its segments where segmentation is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SendUnit {
    destination: SocketAddr,
    socket: SocketId,
    offset: usize,
    len: usize,
    segment_size: u16,
    datagrams: u16,
}

impl SendUnit {
    fn whole(train: &Train) -> Self {
        SendUnit {
            destination: train.destination,
            socket: train.socket,
            offset: train.offset as usize,
            len: train.len as usize,
            segment_size: train.segment_size,
            datagrams: train.segments,
        }
    }

    /// The `segment`th datagram of a train.
    fn segment(train: &Train, segment: u16) -> Self {
        let start = usize::from(segment) * usize::from(train.segment_size);
        SendUnit {
            offset: train.offset as usize + start,
            len: usize::from(train.segment_size).min(train.len as usize - start),
            datagrams: 1,
            ..SendUnit::whole(train)
        }
    }
}

/// Walks over what is to be sent.
#[derive(Debug, Clone, Copy, Default)]
struct UnitCursor {
    train: usize,
    segment: u16,
}

impl UnitCursor {
    /// The next message with the index of its train: whole trains with `gso`, segments without.
    fn next(&mut self, trains: &[Train], gso: bool) -> Option<(usize, SendUnit)> {
        let index = self.train;
        let train = trains.get(index)?;
        if self.segment == 0 && (gso || train.segments == 1) {
            self.train += 1;
            return Some((index, SendUnit::whole(train)));
        }
        let unit = SendUnit::segment(train, self.segment);
        self.segment += 1;
        if self.segment == train.segments {
            self.train += 1;
            self.segment = 0;
        }
        Some((index, unit))
    }
}

/// The `UDP_SEGMENT` control message, laid out as `cmsg(3)` asks.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct SegmentControl {
    header: libc::cmsghdr,
    segment_size: u16,
}

/// What a `msghdr` points to.
struct Aside {
    name: RawAddr,
    iovec: libc::iovec,
    control: SegmentControl,
    /// How many datagrams the message is, for the accounts.
    datagrams: u16,
}

/// Descriptions of messages, in the layout that `sendmmsg` takes and whose parts `sendmsg` takes.
struct SendVector {
    headers: Box<[libc::mmsghdr]>,
    asides: Box<[Aside]>,
}

// SAFETY: the pointers inside lead into `asides` or into an arena; both are followed only by the
// kernel within a call made with exclusive access.
unsafe impl Send for SendVector {}

impl SendVector {
    fn new() -> Self {
        // SAFETY: all-zero is a valid `mmsghdr`: null pointers and zero lengths.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        // SAFETY: all-zero is a valid `cmsghdr`.
        let mut control: libc::cmsghdr = unsafe { std::mem::zeroed() };
        // SAFETY: computes a length.
        control.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<u16>() as u32) } as _;
        control.cmsg_level = libc::SOL_UDP;
        control.cmsg_type = libc::UDP_SEGMENT;
        let aside = || Aside {
            name: RawAddr::EMPTY,
            iovec: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            control: SegmentControl { header: control, segment_size: 0 },
            datagrams: 0,
        };
        SendVector {
            headers: vec![header; SEND_VECTOR].into(),
            asides: (0..SEND_VECTOR).map(|_| aside()).collect(),
        }
    }

    /// Describes `unit` in entry `i`. The description is good until the entry is set anew or `tx`
    /// is changed.
    fn set(&mut self, i: usize, unit: &SendUnit, tx: &TxBatch) {
        let bytes = &tx.committed()[unit.offset..][..unit.len];
        let aside = &mut self.asides[i];
        aside.name = RawAddr::new(unit.destination);
        aside.iovec.iov_base = bytes.as_ptr().cast_mut().cast();
        aside.iovec.iov_len = bytes.len();
        aside.datagrams = unit.datagrams;
        aside.control.segment_size = unit.segment_size;
        let header = &mut self.headers[i].msg_hdr;
        header.msg_name = (&raw mut aside.name.bytes).cast();
        header.msg_namelen = aside.name.len;
        header.msg_iov = &raw mut aside.iovec;
        header.msg_iovlen = 1;
        if unit.datagrams > 1 {
            header.msg_control = (&raw mut aside.control).cast();
            // SAFETY: computes a length.
            header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as _;
        } else {
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
        }
    }

    /// How many datagrams entry `i` is.
    fn datagrams(&self, i: usize) -> u32 {
        u32::from(self.asides[i].datagrams)
    }
}

/// Whether trains are cut by the kernel, and what to do when it does not want to.
#[derive(Debug)]
pub(super) struct Segmentation {
    pub(super) is_on: bool,
}

impl Segmentation {
    /// Handles the failure of a whole train: its segments are sent one by one where that can help.
    /// Segments above the path's limit make only their train fail (`EINVAL`, `EMSGSIZE`); a device
    /// without checksum offload fails every train (`EIO`), so segmentation is given up for good.
    pub(super) fn recover(
        &mut self,
        errno: i32,
        train: &Train,
        tx: &TxBatch,
        sockets: &SocketSet,
        report: &mut TurnReport,
    ) {
        match errno {
            libc::EINVAL | libc::EMSGSIZE => {}
            libc::EIO => {
                if self.is_on {
                    tracing::warn!(
                        destination = %train.destination,
                        "the network device cannot checksum for UDP GSO: from now on every \
                         datagram is sent on its own, which costs several times the CPU \
                         (ethtool -K DEVICE tx on)"
                    );
                }
                self.is_on = false;
            }
            _ => {
                report.send_failed += u32::from(train.segments);
                return;
            }
        }
        for segment in 0..train.segments {
            let unit = SendUnit::segment(train, segment);
            report.send_calls += 1;
            match send_one(&unit, tx, sockets) {
                Ok(()) => report.count_sent(1),
                Err(_) => report.send_failed += 1,
            }
        }
    }
}

/// Sends batches with `sendmmsg`.
pub(super) struct Sender {
    vector: SendVector,
    segmentation: Segmentation,
}

impl Sender {
    /// With `gso` trains are left to the kernel to cut.
    pub(super) fn new(gso: bool) -> Self {
        Sender { vector: SendVector::new(), segmentation: Segmentation { is_on: gso } }
    }

    /// Sends every train of the batch that the kernel takes without waiting. Socket by socket, as a
    /// call is for one; order matters only within a destination, which stays with its socket.
    pub(super) fn send_all(&mut self, tx: &TxBatch, sockets: &SocketSet, report: &mut TurnReport) {
        for (socket, fd) in sockets.fds().enumerate() {
            self.send_through(socket, fd, tx, sockets, report);
        }
        let unknown = |train: &&Train| usize::from(train.socket.0) >= sockets.len();
        let unsent = tx.trains().iter().filter(unknown);
        report.send_failed += unsent.map(|train| u32::from(train.segments)).sum::<u32>();
    }

    fn send_through(
        &mut self,
        socket: usize,
        fd: RawFd,
        tx: &TxBatch,
        sockets: &SocketSet,
        report: &mut TurnReport,
    ) {
        let mut cursor = UnitCursor::default();
        let mut trains = [0_u32; SEND_VECTOR];
        loop {
            let mut count = 0;
            while count < SEND_VECTOR {
                let Some((train, unit)) = cursor.next(tx.trains(), self.segmentation.is_on) else {
                    break;
                };
                if usize::from(unit.socket.0) != socket {
                    continue;
                }
                self.vector.set(count, &unit, tx);
                trains[count] = train as u32;
                count += 1;
            }
            if count == 0 {
                return;
            }
            self.send_vector(fd, &trains[..count], tx, sockets, report);
        }
    }

    /// Sends the first messages of the vector, which belong to `trains`.
    fn send_vector(
        &mut self,
        fd: RawFd,
        trains: &[u32],
        tx: &TxBatch,
        sockets: &SocketSet,
        report: &mut TurnReport,
    ) {
        let mut sent = 0;
        while sent < trains.len() {
            let rest = &mut self.vector.headers[sent..trains.len()];
            report.send_calls += 1;
            // SAFETY: every header describes live memory: the vector's own and the arena, which
            // `tx` keeps. Nothing of it is in use once the call has returned.
            let result = unsafe {
                libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT as _)
            };
            if let Ok(accepted @ 1..) = usize::try_from(result) {
                for i in sent..sent + accepted {
                    report.count_sent(self.vector.datagrams(i));
                }
                sent += accepted;
                continue;
            }
            match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
                libc::EINTR => {}
                // The send buffer is full: the rest of the vector would be refused as well.
                libc::EAGAIN => {
                    let rest = sent..trains.len();
                    report.send_failed += rest.map(|i| self.vector.datagrams(i)).sum::<u32>();
                    return;
                }
                errno => {
                    self.refused(sent, trains[sent], errno, tx, sockets, report);
                    sent += 1;
                }
            }
        }
    }

    fn refused(
        &mut self,
        entry: usize,
        train: u32,
        errno: i32,
        tx: &TxBatch,
        sockets: &SocketSet,
        report: &mut TurnReport,
    ) {
        if self.vector.datagrams(entry) == 1 {
            report.send_failed += 1;
            return;
        }
        let train = &tx.trains()[train as usize];
        self.segmentation.recover(errno, train, tx, sockets, report);
    }
}

/// Sends one datagram, without waiting.
fn send_one(unit: &SendUnit, tx: &TxBatch, sockets: &SocketSet) -> io::Result<()> {
    let fd: RawFd = sockets.fd(usize::from(unit.socket.0)).ok_or(io::ErrorKind::InvalidInput)?;
    let bytes = &tx.committed()[unit.offset..][..unit.len];
    let name = RawAddr::new(unit.destination);
    // SAFETY: the pointers and lengths describe `bytes` and `name`.
    let result = unsafe {
        libc::sendto(
            fd,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            name.bytes.as_ptr().cast(),
            name.len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the kernel cuts trains into datagrams; tried over loopback.
pub(super) fn probe_gso() -> bool {
    try_gso().unwrap_or(false)
}

fn try_gso() -> io::Result<bool> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (from, to) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
    to.set_read_timeout(Some(PROBE_PATIENCE))?;
    let destination = to.local_addr()?;
    let mut tx = TxBatch::new();
    for len in [3, 3, 2] {
        let Some(room) = tx.reserve(len) else { return Ok(false) };
        room.fill(len as u8);
        tx.commit(len, destination, SocketId(0));
    }
    let mut vector = SendVector::new();
    let Some((_, unit)) = UnitCursor::default().next(tx.trains(), true) else { return Ok(false) };
    vector.set(0, &unit, &tx);
    let header = &raw const vector.headers[0].msg_hdr;
    // SAFETY: the header was just set; the vector and the batch live on.
    let result = unsafe { libc::sendmsg(from.as_raw_fd(), header, libc::MSG_DONTWAIT) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    for len in [3, 3, 2] {
        if to.recv(&mut [0; 16])? != len {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::socket::{SocketOptions, bind};
    use super::*;

    fn batch() -> TxBatch {
        let mut tx = TxBatch::new();
        for (len, port) in [(10, 1), (10, 1), (4, 1), (9, 2)] {
            tx.reserve(len).unwrap();
            tx.commit(len, SocketAddr::from(([127, 0, 0, 1], port)), SocketId(0));
        }
        tx
    }

    fn places(gso: bool) -> Vec<(usize, usize, usize, u16)> {
        let tx = batch();
        let mut cursor = UnitCursor::default();
        std::iter::from_fn(|| cursor.next(tx.trains(), gso))
            .map(|(train, unit)| (train, unit.offset, unit.len, unit.datagrams))
            .collect()
    }

    #[test]
    fn trains_are_sent_whole_or_segment_by_segment() {
        assert_eq!(places(true), [(0, 0, 24, 3), (1, 24, 9, 1)]);
        assert_eq!(places(false), [(0, 0, 10, 1), (0, 10, 10, 1), (0, 20, 4, 1), (1, 24, 9, 1)]);
    }

    #[test]
    fn only_trains_carry_a_control_message() {
        let tx = batch();
        let mut vector = SendVector::new();
        let mut cursor = UnitCursor::default();
        for expected in [24, 0] {
            let (_, unit) = cursor.next(tx.trains(), true).unwrap();
            vector.set(3, &unit, &tx);
            assert_eq!(vector.headers[3].msg_hdr.msg_controllen, expected);
        }
        assert_eq!(std::mem::offset_of!(SegmentControl, segment_size), 16);
    }

    #[test]
    fn what_the_kernel_says_decides_what_becomes_of_a_train() {
        let localhost = [std::net::Ipv4Addr::LOCALHOST.into()];
        let sockets = bind(&localhost, 0, SocketOptions::default()).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(PROBE_PATIENCE)).unwrap();
        let mut tx = TxBatch::new();
        for byte in 0..3 {
            tx.reserve(5).unwrap().fill(byte);
            tx.commit(5, receiver.local_addr().unwrap(), SocketId(0));
        }
        // Error, datagrams sent, datagrams failed, whether segmentation stays on.
        let cases = [
            (libc::EINVAL, 3, 0, true),
            (libc::EMSGSIZE, 3, 0, true),
            (libc::ENETUNREACH, 0, 3, true),
            (libc::EPERM, 0, 3, true),
            (libc::EIO, 3, 0, false),
        ];
        let mut segmentation = Segmentation { is_on: true };
        for (errno, sent, failed, is_on) in cases {
            let mut report = TurnReport::default();
            segmentation.recover(errno, &tx.trains()[0], &tx, &sockets, &mut report);
            assert_eq!((report.sent_datagrams, report.send_failed), (sent, failed), "{errno}");
            assert_eq!(segmentation.is_on, is_on, "{errno}");
            for byte in 0..sent {
                let mut bytes = [0xff; 16];
                assert_eq!(receiver.recv(&mut bytes).unwrap(), 5);
                assert_eq!(bytes[..5], [byte as u8; 5]);
            }
        }
    }
}
