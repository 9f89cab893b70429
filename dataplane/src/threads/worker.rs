//! The thread of a data core: gives its [`Seat`] the time and the sockets, and sleeps.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::load::{self, ThreadId};
use super::seat::Seat;
use crate::io::{self, Io, Parker, RxBatch, TxBatch, Unparker, Wait};
use crate::turn::Turned;

/// The longest a core sleeps: it bounds what a lost wake-up costs.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// All that moves into a core's thread.
pub(super) struct Worker {
    pub seat: Seat,
    pub clock: Clock,
    pub cpu: Option<core_affinity::CoreId>,
    pub parker: Parker,
    pub thread: ThreadId,
    pub peers: Vec<Unparker>,
    /// Wakes control.
    pub notify: Arc<dyn Fn() + Send + Sync>,
}

impl Worker {
    pub fn run(mut self, io: Box<dyn Io>) {
        load::enter(&self.thread);
        let core = self.seat.core().id().0;
        if let Some(cpu) = self.cpu
            && !core_affinity::set_for_current(cpu)
        {
            tracing::warn!(core, cpu = cpu.id, "cannot pin the thread to its CPU");
        }
        io::run_promptly();
        match self.turn_until_shutdown(io) {
            Ok(()) => self.log_counters(),
            Err(cause) => tracing::error!(core, %cause, "data core's I/O failed"),
        }
    }

    fn turn_until_shutdown(&mut self, mut io: Box<dyn Io>) -> std::io::Result<()> {
        let mut rx = RxBatch::new();
        let mut tx = TxBatch::new();
        loop {
            let now = self.clock.now();
            if self.seat.turn(now, &mut rx, &mut tx, |tx| io.flush(tx)) == Turned::Stop {
                return Ok(());
            }
            if self.seat.pass_events(now) {
                (self.notify)();
            }
            for peer in self.seat.peers_to_wake() {
                io.wake_peer(&self.peers[usize::from(peer.0)]);
            }
            self.parker.prepare();
            let wait = self.wait();
            let report = io.turn(&mut tx, &mut rx, wait)?;
            self.parker.done();
            self.seat.core_mut().count_turn(&report);
        }
    }

    /// How long the core may sleep.
    fn wait(&mut self) -> Wait {
        let Some(due) = self.seat.next_turn() else { return Wait::Poll };
        let until = due.since(self.clock.now()).min(MAX_SLEEP);
        if until.is_zero() { Wait::Poll } else { Wait::Until(until) }
    }

    /// The last word of a core: what it did and what it dropped.
    fn log_counters(&self) {
        let stats = self.seat.core().stats();
        let drops: Vec<String> =
            stats.drops.iter().map(|(reason, n)| format!("{} {n}", reason.label())).collect();
        tracing::info!(
            core = self.seat.core().id().0,
            received = stats.datagrams_received,
            forwarded = stats.packets_forwarded,
            piped = stats.packets_piped,
            sent = stats.datagrams_sent,
            trains = stats.trains_sent,
            send_calls = stats.send_calls,
            dropped = drops.join(", "),
            "data core stopped"
        );
    }
}
