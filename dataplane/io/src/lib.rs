//! The I/O seam: the one place that talks to the kernel, and all the `unsafe` of the product.
//!
//! A backend does one thing, a turn: send the trains of the last turn, wait, hand back what
//! arrived. When there is more to send than one arena should hold, it is flushed in between. The
//! sans-IO machine never sees a socket.
//!
//! * [`batch`] — what a turn takes and gives: fixed receive slots, the send arena.
//! * [`park`] — sleeping and being woken.
//! * [`ring`] — from one core to another, without locks.
//! * `alarm` — not oversleeping.
//! * `schedule` — who runs first where control shares a CPU.
//! * [`shared`] — memory and descriptors that outlive the process.
//! * [`socket`] — binding, with errors that say what to do.
//! * `uring` — io_uring for receiving, sleeping and waking; `sendmmsg` for sending.
//! * `mmsg` — `sendmmsg`/`recvmmsg`, for where io_uring is refused.
//! * [`memory`] — a network in memory, for tests and the simulator.

mod addr;
mod alarm;
pub mod batch;
#[cfg(test)]
mod conformance;
mod error;
pub mod memory;
mod mmsg;
pub mod park;
pub mod ring;
mod schedule;
mod send;
pub mod shared;
pub mod socket;
mod types;
mod uring;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub use batch::{RxBatch, TxBatch};
pub use error::{IoError, ProbeError};
pub use park::{Parker, Unparker};
pub use schedule::{give_way, run_promptly, step_back};
pub use socket::{MAX_SOCKETS, SocketOptions, SocketSet, bind};
pub use types::{
    MAX_RX_BATCH, MAX_TRAIN_BYTES, MAX_TRAIN_SEGMENTS, RxDatagram, SLOT_SIZE, SocketId,
    TX_ARENA_SIZE, TX_FLUSH_BYTES, Train,
};

pub use uring::probe_uring;

use mmsg::MmsgIo;
use uring::UringIo;

/// How long a turn may sleep when nothing has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Poll,
    /// About this long: some milliseconds longer, or shorter when an earlier turn was to end
    /// before.
    Until(Duration),
}

/// What a turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnReport {
    /// Datagrams now in the receive batch.
    pub received: u32,
    /// Datagrams the kernel took.
    pub sent_datagrams: u32,
    /// Messages they went in: trains and single datagrams.
    pub sent_trains: u32,
    /// Calls to the kernel that sent or tried to.
    pub send_calls: u32,
    /// Datagrams the kernel refused.
    pub send_failed: u32,
    /// Datagrams dropped because they were longer than [`batch::MAX_DATAGRAM`].
    pub truncated: u32,
    /// Errors of receiving, none of which stops it.
    pub receive_errors: u32,
    /// How often receiving stopped because every slot was taken (io_uring); datagrams then wait in
    /// the socket until the next turn.
    pub out_of_slots: u32,
    /// Someone woke the core.
    pub woken: bool,
}

impl TurnReport {
    /// Counts one message of `datagrams` segments.
    fn count_sent(&mut self, datagrams: u32) {
        self.sent_trains += 1;
        self.sent_datagrams += datagrams;
    }
}

/// A backend. It belongs to the thread that makes its first turn.
pub trait Io: Send {
    /// One turn: takes the slots of `rx` back, sends all of `tx` and clears it, waits if nothing
    /// has arrived, fills `rx`.
    ///
    /// Datagrams the kernel refuses are counted, never an error; an error means that this backend
    /// is of no more use.
    fn turn(&mut self, tx: &mut TxBatch, rx: &mut RxBatch, wait: Wait) -> io::Result<TurnReport>;

    /// Sends all of `tx` now and clears it: a core calls this in the middle of a turn when what it
    /// has to send outgrows what fits the processor's cache.
    fn flush(&mut self, tx: &mut TxBatch) -> TurnReport;

    /// Reads transport-wide feedback in the next turn, however long ago that was done last.
    fn hurry(&mut self) {}

    /// Wakes another core, at the latest with the next turn. To be called after the push it shall
    /// see.
    fn wake_peer(&mut self, peer: &Unparker);

    /// The backend's name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// Where it listens, in the order of [`SocketId`].
    fn local_addrs(&self) -> &[SocketAddr];
}

/// A backend that talks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// io_uring.
    Uring,
    /// `sendmmsg` and `recvmmsg`.
    Mmsg,
}

/// Which backend is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// io_uring or an error.
    Uring,
    /// `sendmmsg` and `recvmmsg`.
    Mmsg,
    /// io_uring where it works.
    #[default]
    Auto,
}

/// Opens a backend over bound sockets. Returns it with its kind and why it is that one, in words
/// for the log.
///
/// May be called on any thread; the backend belongs to the one that makes its first turn.
pub fn open(
    choice: BackendChoice,
    sockets: SocketSet,
    parker: &Parker,
) -> Result<(Box<dyn Io>, Backend, String), IoError> {
    let gso = send::probe_gso();
    let mut why = match choice {
        BackendChoice::Mmsg => "recvmmsg and sendmmsg were asked for".to_owned(),
        BackendChoice::Uring => "io_uring was asked for, and works".to_owned(),
        BackendChoice::Auto => "io_uring works here".to_owned(),
    };
    if !gso {
        why.push_str(
            "; this kernel has no UDP GSO (Linux 4.18): every datagram is sent on its own",
        );
    }
    if choice != BackendChoice::Mmsg {
        let ring =
            probe_uring().and_then(|()| UringIo::new(sockets.clone(), parker.for_backend(), gso));
        match ring {
            Ok(io) => return Ok((Box::new(io), Backend::Uring, why)),
            Err(error) if choice == BackendChoice::Uring => return Err(error.into()),
            Err(error) => why = error.to_string(),
        }
    }
    let io = MmsgIo::new(sockets, parker.for_backend(), gso).map_err(IoError::Timer)?;
    Ok((Box::new(io), Backend::Mmsg, why))
}
