//! Data cores that come and go while the server runs.
//!
//! ```text
//! add_core ──▶ takes newcomers ──drain_core──▶ takes nobody, those on it stay
//!                     ▲                            │ they leave, or are cut ([`Control::cut_core`])
//!                     └─────────keep_core──────────┤
//!                                                  ▼ nobody is left (`is_core_empty`): it ends
//!                                             remove_core
//! ```
//!
//! Who has a transport on a core has all further ones there as well: a participant is on one core,
//! and on another once it has none left or connects again.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use opencall_dataplane::message::{Command, CoreId, MAX_CORES, ProducerId};
use opencall_wire::time::Time;

use crate::api::{CloseReason, RequestError, SessionId};
use crate::control::{Control, CoreAddresses};
use crate::limits::{conflict, not_found};
use crate::room::RoomId;

impl Control {
    /// A data core has come: newcomers are placed on it. One that is there stays as it is.
    pub fn add_core(&mut self, core: CoreId, addresses: CoreAddresses) {
        if usize::from(core.0) < MAX_CORES && !self.placement.has(core) {
            self.placement.add(core);
            self.addresses.insert(core, addresses);
        }
    }

    /// Places nobody on a data core any more.
    ///
    /// # Errors
    /// There is no such core, or no other that takes newcomers.
    pub fn drain_core(&mut self, core: CoreId) -> Result<(), RequestError> {
        if !self.placement.has(core) {
            return Err(not_found(format!("there is no core {}", core.0)));
        }
        if self.placement.is_open(core) && self.placement.open_count() == 1 {
            return Err(conflict(format!(
                "core {} is the only one that takes newcomers: add another first, by POST \
                 /v1/workers",
                core.0
            )));
        }
        self.placement.set_draining(core, true);
        Ok(())
    }

    /// Places newcomers on a data core again.
    ///
    /// # Errors
    /// There is no such core.
    pub fn keep_core(&mut self, core: CoreId) -> Result<(), RequestError> {
        if !self.placement.has(core) {
            return Err(not_found(format!("there is no core {}", core.0)));
        }
        self.placement.set_draining(core, false);
        Ok(())
    }

    /// Whether a data core takes newcomers.
    pub fn is_core_open(&self, core: CoreId) -> bool {
        self.placement.is_open(core)
    }

    /// Whether nobody is on a data core any more. Producers of a stage may be: they have other
    /// homes once it has ended ([`Control::remove_core`]).
    pub fn is_core_empty(&self, core: CoreId) -> bool {
        self.recorded(core).transports == 0
    }

    /// Closes the sessions of all who are on a data core, with [`CloseReason::CoreRemoved`]: they
    /// connect again, and are placed elsewhere. Returns how many.
    pub fn cut_core(&mut self, now: Time, core: CoreId) -> usize {
        self.begin(now);
        let on_core = self.transports.values().filter(|transport| transport.core == core);
        let sessions: BTreeSet<SessionId> = on_core.map(|transport| transport.session).collect();
        for &session in &sessions {
            self.close_with(session, CloseReason::CoreRemoved);
        }
        sessions.len()
    }

    /// A data core has ended on which nobody was left. What lived there of stages goes on
    /// elsewhere, from where it left its numbers: pictures from a key frame on.
    pub fn remove_core(&mut self, now: Time, core: CoreId) {
        self.begin(now);
        self.placement.remove(core);
        self.forget_demands_of(core);
        let homeless = self.producers.iter().filter(|(_, of)| of.home() == core);
        let mut homeless: Vec<ProducerId> = homeless.map(|(&id, _)| id).collect();
        homeless.sort_unstable();
        for stage in homeless {
            self.move_stage(stage, core);
        }
        self.addresses.remove(&core);
        self.forget_records(core);
    }

    /// Gives a producer of a stage another home than `from`.
    fn move_stage(&mut self, stage: ProducerId, from: CoreId) {
        let room = self.producers.get(&stage).and_then(|of| of.seat.as_ref()).map(|of| of.room);
        let Some(room) = room else { return };
        let home = self.stage_home(room, stage.0);
        let [shown, next] = self.sources_on(stage);
        for source in shown.into_iter().chain(next) {
            self.reach(source, home);
            self.unreach(source, from);
        }
        let Some(producer) = self.producers.get_mut(&stage) else { return };
        let is_there = producer.move_to(home);
        let (config, far) = (producer.config().clone(), producer.far_cores());
        match is_there {
            true => self.command(home, Command::MoveStage { stage, home }),
            false => self.command(home, Command::CreateProducer(Box::new(config))),
        }
        for to in far {
            self.command(to, Command::MoveStage { stage, home });
            self.command(home, Command::OpenPipe { producer: stage, to });
        }
        if let Some(source) = next.or(shown) {
            self.command(home, Command::SetStage { stage, source: Some(source), shown });
        }
    }

    /// Where a producer of a room's stage lives: on one of the room's cores, in turn.
    pub(crate) fn stage_home(&mut self, room: RoomId, turn: u64) -> CoreId {
        let cores = self.rooms.get(&room).map(|room| &room.cores);
        let home = cores.and_then(|cores| cores.nth(turn as usize, &self.placement));
        home.unwrap_or_else(|| self.placement.least_loaded())
    }
}
