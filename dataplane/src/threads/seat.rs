//! The loop of a data core, sans-IO: commands in, turns, events out. A thread gives it the time and
//! the batches, and sleeps as long as it says.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_io::ring::{RingConsumer, RingProducer};
use opencall_io::{RxBatch, TurnReport, TxBatch};
use opencall_wire::time::Time;

use crate::core::Core;
use crate::message::{Command, CoreId, Event};
use crate::turn::{Host, Turned};

/// Commands taken in one turn at most, so that media is not starved by them: each costs some
/// microseconds.
const MAX_COMMANDS_PER_TURN: usize = 256;

/// How long control may stay asleep over events that can wait. Every voice has a level to report
/// ten times a second: waking control for each cost 8 % of the CPU of a meeting of ten rooms.
const EVENT_PATIENCE: Duration = Duration::from_millis(50);

/// A core and its rings from and to control.
pub struct Seat {
    core: Core,
    commands: RingConsumer<Option<Command>>,
    events: RingProducer<Option<Event>>,
    /// When control is notified of the events in the ring; [`Time::NEVER`] if it knows of all.
    notify_due: Time,
}

impl Seat {
    /// Seats a core at its rings.
    pub fn new(
        core: Core,
        commands: RingConsumer<Option<Command>>,
        events: RingProducer<Option<Event>>,
    ) -> Self {
        Seat { core, commands, events, notify_due: Time::NEVER }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The core, for what the I/O seam reports.
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// One [`Core::turn`] with what waits in the ring of commands; `flush` sends a full arena.
    pub fn turn(
        &mut self,
        now: Time,
        rx: &mut RxBatch,
        tx: &mut TxBatch,
        flush: impl FnMut(&mut TxBatch) -> TurnReport,
    ) -> Turned {
        let waiting = self.commands.len().min(MAX_COMMANDS_PER_TURN);
        let mut host = AtRings { commands: &mut self.commands, waiting, taken: 0, flush };
        let turned = self.core.turn(now, rx, tx, &mut host);
        self.commands.release(waiting);
        turned
    }

    /// Moves events to control's ring. True if control is to be woken: at once for an urgent event.
    pub fn pass_events(&mut self, now: Time) -> bool {
        while self.core.has_events() {
            let (core, mut is_urgent) = (&mut self.core, false);
            let passed = self.events.push_with(|slot| {
                *slot = core.poll_event();
                is_urgent = slot.as_ref().is_some_and(Event::is_urgent);
            });
            if passed.is_err() {
                break;
            }
            let due = if is_urgent { now } else { now + EVENT_PATIENCE };
            self.notify_due = self.notify_due.min(due);
        }
        let is_due = self.notify_due <= now;
        if is_due {
            self.notify_due = Time::NEVER;
        }
        is_due
    }

    /// The cores that were sent something in this turn.
    pub fn peers_to_wake(&mut self) -> impl Iterator<Item = CoreId> + use<> {
        self.core.links().take_wake()
    }

    /// When the next turn is due if nothing arrives; `None`: at once, for something waits in a
    /// ring.
    pub fn next_turn(&mut self) -> Option<Time> {
        let waits =
            !self.commands.is_empty() || self.core.links().has_work() || self.core.has_events();
        (!waits).then(|| self.core.next_timeout().min(self.notify_due))
    }
}

/// A turn's surroundings: control's ring, and whatever sends.
struct AtRings<'a, F> {
    commands: &'a mut RingConsumer<Option<Command>>,
    waiting: usize,
    taken: usize,
    flush: F,
}

impl<F: FnMut(&mut TxBatch) -> TurnReport> Host for AtRings<'_, F> {
    fn next_command(&mut self) -> Option<Command> {
        while self.taken < self.waiting {
            self.taken += 1;
            if let Some(command) = self.commands.slot(self.taken - 1).take() {
                return Some(command);
            }
        }
        None
    }

    fn flush(&mut self, tx: &mut TxBatch) -> TurnReport {
        (self.flush)(tx)
    }
}
