//! The way of commands from control to the data cores, and what becomes of it when a core is
//! replaced. Threads (`signaling/src/hub`) and the simulator (`bench/sim`) both go it.
//!
//! ```text
//! Control ──poll_command──▶ link, if a first pipe opens ──▶ backlog of each core ──▶ its ring
//! ```
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use opencall_dataplane::fanout::links::Mesh;
use opencall_dataplane::message::{Command, CoreId, Event};
use opencall_wire::time::Time;

use crate::control::Control;

/// Commands that wait for a place in the rings of their cores, and which cores are linked.
pub struct Dispatch {
    mesh: Mesh,
    /// Of those that are there.
    backlog: BTreeMap<CoreId, VecDeque<Command>>,
}

/// Where a data core has died: its rings, and whatever makes another.
pub trait Vacancy {
    /// Why there is no other.
    type Error;

    /// The next of the events that the dead core has left in its ring.
    fn poll_event(&mut self) -> Option<Event>;

    /// Puts an empty core there, with empty rings, on the same sockets.
    ///
    /// # Errors
    /// There is none to be had now; the old one stays dead.
    fn fill(&mut self, now: Time) -> Result<(), Self::Error>;
}

impl Dispatch {
    /// For these cores, which `mesh` links.
    pub fn new(cores: impl IntoIterator<Item = CoreId>, mesh: Mesh) -> Self {
        let backlog = cores.into_iter().map(|core| (core, VecDeque::new())).collect();
        Dispatch { mesh, backlog }
    }

    /// A core has come.
    pub fn add(&mut self, core: CoreId) {
        self.backlog.entry(core).or_default();
    }

    /// A core ends, of which nothing is left: the others' links to it are detached, and what waits
    /// for it is forgotten.
    pub fn remove(&mut self, core: CoreId) {
        for (other, command) in self.mesh.forget(core) {
            self.push(other, command);
        }
        self.backlog.remove(&core);
    }

    /// Takes what control has to say to the cores.
    pub fn take(&mut self, control: &mut Control) {
        while let Some((core, command)) = control.poll_command() {
            let link = self.mesh.link_for(core, &command);
            for (core, command) in link.into_iter().flatten().chain([(core, command)]) {
                self.push(core, command);
            }
        }
    }

    /// Adds a command for a core that is not control's, and so in no records.
    pub fn push(&mut self, core: CoreId, command: Command) {
        if let Some(queue) = self.backlog.get_mut(&core) {
            queue.push_back(command);
        }
    }

    /// Hands a core what waits for it, until `send` gives a command back because its ring is full.
    /// Returns whether it was given anything.
    pub fn send(
        &mut self,
        core: CoreId,
        mut send: impl FnMut(Command) -> Result<(), Command>,
    ) -> bool {
        let Some(queue) = self.backlog.get_mut(&core) else { return false };
        let mut sent = false;
        while let Some(command) = queue.pop_front() {
            if let Err(command) = send(command) {
                queue.push_front(command);
                break;
            }
            sent = true;
        }
        sent
    }

    /// Whether nothing waits for a core.
    pub fn is_empty_for(&self, core: CoreId) -> bool {
        self.backlog.get(&core).is_none_or(VecDeque::is_empty)
    }

    /// Whether nothing waits for any core.
    pub fn is_empty(&self) -> bool {
        self.backlog.values().all(VecDeque::is_empty)
    }

    /// Puts an empty core in the place of one that died, and has it told all that the dead one
    /// knew. The commands wait here afterwards, as any others.
    ///
    /// # Errors
    /// There is no other core to be had; nothing has changed.
    pub fn replace<V: Vacancy>(
        &mut self,
        now: Time,
        core: CoreId,
        vacancy: &mut V,
        control: &mut Control,
    ) -> Result<(), V::Error> {
        // What it said while it lived is true of the new one.
        while let Some(event) = vacancy.poll_event() {
            control.handle_event(now, core, event);
        }
        vacancy.fill(now)?;
        // Control's records have what the dead one did not take.
        if let Some(queue) = self.backlog.get_mut(&core) {
            queue.clear();
        }
        for (other, command) in self.mesh.forget(core) {
            self.push(other, command);
        }
        control.core_replaced(now, core);
        self.take(control);
        Ok(())
    }
}
