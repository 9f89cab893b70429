//! The thread of a data core: gives its [`Seat`] the time and the sockets, and sleeps.
#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use opencall_io::{Io, Parker, RxBatch, TurnReport, TxBatch, Wait};
use opencall_wire::time::Time;

use super::clock::Clock;
use super::load::{self, ThreadId};
use super::seat::Seat;
use super::vitals::{Death, Peers, Vitals};
use crate::checkpoint::Suspect;
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
    pub peers: Peers,
    pub vitals: Arc<Vitals>,
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
        opencall_io::run_promptly();
        let mut rx = RxBatch::new();
        // What a panic leaves half done is looked at for what was in hand, and dropped: the core
        // that comes after this one is made of control's records and of checkpoints.
        let ended = catch_unwind(AssertUnwindSafe(|| self.turn_until_shutdown(io, &mut rx)));
        match ended {
            Ok(Ok(())) => self.log_counters(),
            Ok(Err(cause)) => self.die(format!("its I/O failed: {cause}"), None),
            Err(panic) => {
                let look = AssertUnwindSafe(|| self.seat.core().suspect(&rx));
                let suspect = catch_unwind(look).ok().flatten();
                self.die(format!("it panicked: {}", words_of(&*panic)), suspect);
            }
        }
    }

    fn turn_until_shutdown(
        &mut self,
        mut io: Box<dyn Io>,
        rx: &mut RxBatch,
    ) -> std::io::Result<()> {
        let mut tx = TxBatch::new();
        let vitals = Arc::clone(&self.vitals);
        while vitals.begin_turn() {
            let now = self.clock.now();
            let flush = |tx: &mut TxBatch| match vitals.is_replaced() {
                true => discard(tx),
                false => io.flush(tx),
            };
            if self.seat.turn(now, rx, &mut tx, flush) == Turned::Stop {
                return Ok(());
            }
            vitals.suffer();
            if vitals.is_replaced() {
                break;
            }
            if self.seat.pass_events(now) {
                (self.notify)();
            }
            for peer in self.seat.peers_to_wake() {
                if let Some(peer) = self.peers.get(peer) {
                    io.wake_peer(peer);
                }
            }
            if self.seat.core().awaits_feedback(now) {
                io.hurry();
            }
            self.parker.prepare();
            let before_io = self.clock.now();
            self.seat.core_mut().count_delays(before_io.since(now));
            let wait = self.wait(before_io);
            vitals.begin_io();
            let report = io.turn(&mut tx, rx, wait)?;
            self.parker.done();
            self.seat.core_mut().count_turn(&report);
        }
        let core = self.seat.core().id().0;
        tracing::warn!(core, "a stalled data core woke up in whose place another runs: it ends");
        Ok(())
    }

    /// Tells control that the thread ends.
    fn die(&self, reason: String, suspect: Option<Suspect>) {
        self.vitals.die(Death { reason, at: self.clock.now(), suspect });
        (self.notify)();
    }

    /// How long the core may sleep.
    fn wait(&mut self, now: Time) -> Wait {
        let Some(due) = self.seat.next_turn() else { return Wait::Poll };
        let until = due.since(now).min(MAX_SLEEP);
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
            reports_unmatched = stats.reports_unmatched,
            dropped = drops.join(", "),
            "data core stopped"
        );
    }
}

/// Sends nothing: another core sends in this one's place.
fn discard(tx: &mut TxBatch) -> TurnReport {
    tx.clear();
    TurnReport::default()
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}
