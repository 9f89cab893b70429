//! Taps: a room's voices go to a program outside, whose results everyone in it is told.
//!
//! To a data core the thread that taps is one core more, as the sink of recordings is: a voice that
//! is tapped reaches it as it reaches any other. What is said to the program, and how, is
//! signaling's.
//!
//! ```text
//! start ─▶ everyone is told ─notice─▶ Start, AddVoice … ─▶ tapped ─stop─▶ Stop
//!                                                  └─ Result ─▶ Caption to everyone
//! ```
//!
//! Everyone in the room is told first, and nothing leaves the server before the notice is over; who
//! comes later is told in the answer that lets it in.
#![forbid(unsafe_code)]

mod captions;
pub mod message;

use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{CoreId, ProducerId, TAPS};
use opencall_wire::time::Time;
use serde::Serialize;

pub use self::captions::CaptionDrop;
use self::captions::Captions;
use self::message::{TapCommand, TapEvent, TapId, TapProgress, TapTarget, VoiceConfig};
use crate::admin::AdminResponse;
use crate::api::{Notification, RequestError, SessionId, Source};
use crate::control::{Control, Timer};
use crate::limits::{conflict, not_found, too_many};
use crate::recording::check_notice;
use crate::room::RoomId;

/// What an administrator wants with a room's tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapAction {
    /// Begin one; nothing, where there is one to the same program.
    Start {
        /// The program.
        target: TapTarget,
        /// How long after everyone was told.
        notice: Duration,
    },
    /// End it; nothing, where there is none.
    Stop,
    /// Only ask.
    Ask,
}

/// Why a tap has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TapEnding {
    /// It was told to.
    Stopped,
    /// The thread that taps has failed.
    Lost,
}

impl TapEnding {
    const fn label(self) -> &'static str {
        match self {
            TapEnding::Stopped => "stopped",
            TapEnding::Lost => "tap_lost",
        }
    }
}

/// The tap of a room, from when everyone was told on.
pub(crate) struct Tap {
    id: TapId,
    target: TapTarget,
    /// Whether the notice is over.
    is_open: bool,
    progress: TapProgress,
    captions: Captions,
    /// Voices that are encrypted end to end, and so not handed on.
    encrypted: u64,
}

/// A room's tap as administrators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TapReport {
    /// Whether the room's voices are handed on, or are about to be.
    pub active: bool,
    /// `announced` or `tapped`; nothing where there is none.
    pub state: Option<&'static str>,
    /// The program, without the query of its address.
    pub url: Option<String>,
    /// Captions that everyone was told.
    pub captions: u64,
    /// Voices that are not handed on, for they are encrypted end to end.
    pub voices_encrypted: u64,
    /// What has become of it.
    #[serde(flatten)]
    pub progress: TapProgress,
}

/// What became of taps, over all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapTotals {
    /// Rooms whose voices are handed on.
    pub active: u64,
    /// Captions that rooms were told.
    pub captions: u64,
    /// Results that rooms were not told, by [`CaptionDrop::ALL`].
    pub dropped: [u64; CaptionDrop::ALL.len()],
}

impl Control {
    /// Where taps are; `None` without any.
    fn taps(&self) -> Option<CoreId> {
        self.config.taps.map(|_| TAPS)
    }

    /// What the thread that taps has to do, in order. To be carried there before the commands of
    /// [`Control::poll_command`]: it then knows of a voice before its packets come.
    pub fn poll_tap_command(&mut self) -> Option<TapCommand> {
        self.tap_commands.pop_front()
    }

    /// What became of taps.
    pub fn tap_totals(&self) -> TapTotals {
        let taps = self.rooms.values().filter_map(|room| room.tap.as_ref());
        let active = taps.filter(|tap| tap.is_open).count() as u64;
        TapTotals { active, ..self.tap_totals }
    }

    pub(crate) fn administer_tap(
        &mut self,
        room: &str,
        action: TapAction,
    ) -> Result<AdminResponse, RequestError> {
        if self.taps().is_none() {
            let reason = "voices go nowhere from here: start the server with --tap-allow";
            return Err(not_found(reason));
        }
        let id = self.room_called(room)?;
        match action {
            TapAction::Start { target, notice } => self.announce_tap(id, target, notice)?,
            TapAction::Stop => self.stop_tap(id),
            TapAction::Ask => {}
        }
        Ok(AdminResponse::Tap(Box::new(self.describe_tap(id))))
    }

    fn describe_tap(&self, id: RoomId) -> TapReport {
        let Some(tap) = self.rooms.get(&id).and_then(|room| room.tap.as_ref()) else {
            return TapReport::default();
        };
        TapReport {
            active: true,
            state: Some(if tap.is_open { "tapped" } else { "announced" }),
            url: Some(tap.target.shown.to_string()),
            captions: tap.captions.told(),
            voices_encrypted: tap.encrypted,
            progress: tap.progress.clone(),
        }
    }

    fn announce_tap(
        &mut self,
        id: RoomId,
        target: TapTarget,
        notice: Duration,
    ) -> Result<(), RequestError> {
        check_notice(notice)?;
        if self.is_encrypted(id) {
            return Err(conflict(
                "the room is encrypted end to end: the server has no voices to hand on",
            ));
        }
        let limit = self.config.taps.unwrap_or(0);
        let count = self.rooms.values().filter(|room| room.tap.is_some()).count();
        let Some(room) = self.rooms.get_mut(&id) else { return Ok(()) };
        match &room.tap {
            Some(tap) if tap.target == target => return Ok(()),
            Some(_) => return Err(conflict("the room has a tap: end it first")),
            None if count >= limit => return Err(too_many("taps at a time", limit)),
            None => {}
        }
        room.tap = Some(Tap {
            id: TapId(self.ids.next()),
            target,
            is_open: false,
            progress: TapProgress::default(),
            captions: Captions::new(self.now),
            encrypted: 0,
        });
        let starts_in_ms = Some(notice.as_millis() as u32);
        self.tell_members(id, Notification::TapChanged { tap: true, starts_in_ms, reason: None });
        self.timers.set(Timer::Tap(id), self.now + notice);
        Ok(())
    }

    /// Whether a room's voices, or some of them, are encrypted end to end.
    pub(crate) fn is_encrypted(&self, id: RoomId) -> bool {
        let Some(room) = self.rooms.get(&id) else { return false };
        let is_encrypted = |producer: &ProducerId| {
            let producer = self.producers.get(producer);
            producer.is_some_and(|producer| producer.is_encrypted())
        };
        room.delivery.has_group() || self.producers_in(id).iter().any(is_encrypted)
    }

    /// What those in a room send.
    pub(crate) fn producers_in(&self, id: RoomId) -> Vec<ProducerId> {
        let Some(room) = self.rooms.get(&id) else { return Vec::new() };
        let peers = room.members.iter().filter_map(|session| self.peers.get(session));
        peers.flat_map(|peer| peer.producers.iter().copied()).collect()
    }

    pub(crate) fn tell_members(&mut self, id: RoomId, news: Notification) {
        let Some(room) = self.rooms.get(&id) else { return };
        for session in room.members.iter().copied().collect::<Vec<SessionId>>() {
            self.notify(session, news.clone());
        }
    }

    /// The notice is over.
    pub(crate) fn open_tap(&mut self, id: RoomId) {
        let tap = self.rooms.get_mut(&id).and_then(|room| room.tap.as_mut());
        let Some(tap) = tap.filter(|tap| !tap.is_open) else { return };
        tap.is_open = true;
        let start = TapCommand::Start { tap: tap.id, target: tap.target.clone() };
        self.tap_commands.push_back(start);
        self.producers_in(id).into_iter().for_each(|producer| self.tap_voice(producer));
    }

    /// Hands a producer on, if it is a voice of a room that is tapped.
    pub(crate) fn tap_voice(&mut self, id: ProducerId) {
        let (Some(core), Some(producer)) = (self.taps(), self.producers.get(&id)) else { return };
        let Some(peer) = self.peers.get(&producer.session) else { return };
        let tap = self.rooms.get_mut(&peer.room).and_then(|room| room.tap.as_mut());
        let Some(tap) = tap.filter(|tap| tap.is_open) else { return };
        if producer.source() != Source::Microphone || producer.reaches(core) {
            return;
        }
        if producer.is_encrypted() {
            tap.encrypted += 1;
            return;
        }
        let config = VoiceConfig {
            tap: tap.id,
            producer: id,
            participant: Arc::clone(&peer.name),
            payload_types: producer.payload_types(),
        };
        self.tap_commands.push_back(TapCommand::AddVoice(Box::new(config)));
        self.reach(id, core);
    }

    /// Hands a producer on no more.
    pub(crate) fn leave_tap(&mut self, id: ProducerId) {
        if self.is_tapped(id) {
            self.tap_commands.push_back(TapCommand::RemoveVoice(id));
            self.unreach(id, TAPS);
        }
    }

    fn is_tapped(&self, id: ProducerId) -> bool {
        let Some(core) = self.taps() else { return false };
        self.producers.get(&id).is_some_and(|producer| producer.reaches(core))
    }

    /// A producer was paused or resumed.
    pub(crate) fn tell_tap_of_pause(&mut self, id: ProducerId, paused: bool) {
        if !paused && self.is_tapped(id) {
            self.tap_commands.push_back(TapCommand::Resume(id));
        }
    }

    /// Ends a room's tap, if it has one.
    pub(crate) fn stop_tap(&mut self, id: RoomId) {
        self.end_tap(id, TapEnding::Stopped);
    }

    fn end_tap(&mut self, id: RoomId, ending: TapEnding) {
        let Some(tap) = self.rooms.get_mut(&id).and_then(|room| room.tap.take()) else { return };
        if tap.is_open {
            // First of all: what waits for the program is forgotten.
            self.tap_commands.push_back(TapCommand::Stop(tap.id));
            self.producers_in(id).into_iter().for_each(|producer| self.leave_tap(producer));
        } else {
            self.timers.cancel(Timer::Tap(id));
        }
        let reason = Some(ending.label());
        self.tell_members(id, Notification::TapChanged { tap: false, starts_in_ms: None, reason });
    }

    /// What the thread that taps says.
    pub fn handle_tap_event(&mut self, now: Time, event: TapEvent) {
        self.begin(now);
        let (TapEvent::Progress { tap: id, .. } | TapEvent::Result { tap: id, .. }) = event;
        let found = self.rooms.iter_mut().find_map(|(room, of)| {
            Some((*room, of.tap.as_mut().filter(|tap| tap.is_open && tap.id == id)?))
        });
        match (event, found) {
            (TapEvent::Progress { progress, .. }, Some((_, tap))) => tap.progress = progress,
            (TapEvent::Progress { .. }, None) => {}
            (TapEvent::Result { .. }, None) => self.count_caption_drop(CaptionDrop::Ended),
            (TapEvent::Result { result, .. }, Some((room, _))) => self.caption(room, result),
        }
    }

    /// The thread that taps has failed: nothing is tapped any more.
    pub fn taps_lost(&mut self, now: Time) {
        self.begin(now);
        let tapped: Vec<RoomId> =
            self.rooms.iter().filter(|(_, room)| room.tap.is_some()).map(|(id, _)| *id).collect();
        tapped.into_iter().for_each(|id| self.end_tap(id, TapEnding::Lost));
        self.tap_commands.clear();
        self.config.taps = None;
    }
}
