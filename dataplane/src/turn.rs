//! One turn of a data core: the only order in which its phases run, whoever drives it.
//!
//! `take` does what control commands, `gather` reads what clients and other cores sent and lists
//! who gets it, `scatter` seals that into the send arena, `report` does what time asks for.
#![forbid(unsafe_code)]

use opencall_io::{RxBatch, TurnReport, TxBatch};
use opencall_wire::time::Time;

use crate::core::Core;
use crate::egress::scatter::Scattered;
use crate::message::Command;

/// What a turn needs beside its batches.
pub trait Host {
    /// The next command from control, of those that are taken in this turn.
    fn next_command(&mut self) -> Option<Command>;

    /// Sends all that is in the arena, which is full, and empties it.
    fn flush(&mut self, tx: &mut TxBatch) -> TurnReport;
}

/// Without a control: what sends a full arena is enough.
impl<F: FnMut(&mut TxBatch) -> TurnReport> Host for F {
    fn next_command(&mut self) -> Option<Command> {
        None
    }

    fn flush(&mut self, tx: &mut TxBatch) -> TurnReport {
        self(tx)
    }
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turned {
    /// The next turn may come.
    Done,
    /// Control stops the core: [`Command::Shutdown`].
    Stop,
}

impl Core {
    /// One turn. `rx` holds what arrived since the last one; what is left in `tx` is to be sent,
    /// and [`Core::poll_event`] to be drained, before the next.
    pub fn turn(
        &mut self,
        now: Time,
        rx: &mut RxBatch,
        tx: &mut TxBatch,
        host: &mut impl Host,
    ) -> Turned {
        let begin = tx.len_bytes();
        if self.take(now, tx, host) == Turned::Stop {
            return Turned::Stop;
        }
        self.gather(now, rx, tx);
        self.gather_piped(now);
        while self.scatter(now, rx, tx) == Scattered::More {
            self.stats.bytes_sent += tx.len_bytes() as u64;
            let report = host.flush(tx);
            self.count_turn(&report);
        }
        self.report(now, tx);
        self.stats.bytes_sent += tx.len_bytes().saturating_sub(begin) as u64;
        Turned::Done
    }

    /// Does what control commands.
    fn take(&mut self, now: Time, tx: &mut TxBatch, host: &mut impl Host) -> Turned {
        let mut turned = Turned::Done;
        while let Some(command) = host.next_command() {
            if matches!(command, Command::Shutdown) {
                turned = Turned::Stop;
            }
            self.command(now, command, tx);
        }
        turned
    }
}
