//! Pushes: a participant's voice and picture go to a server of broadcasts.
//!
//! To a data core the thread that broadcasts is one core more, as the sink of recordings is. How
//! it sends, and to whom it may, is signaling's.
//!
//! ```text
//! start ─▶ everyone is told ─notice─▶ Start, AddTrack … ─▶ pushed ─stop, failure─▶ ended
//! ```
//!
//! Everyone in the room is told first, and nothing leaves the server before the notice is over; who
//! comes later is told in the answer that lets it in. A push is of whoever has that id in the room:
//! who leaves and comes back is pushed again.
#![forbid(unsafe_code)]

pub mod message;

use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{CoreId, PUSHES, ProducerId};
use opencall_recorder::message::TrackConfig;
use opencall_wire::codec::MediaKind;
use opencall_wire::time::Time;
use serde::Serialize;

use self::message::{PushCommand, PushEnding, PushEvent, PushId, PushProgress, PushTarget};
use crate::admin::AdminResponse;
use crate::api::{Notification, RequestError, Source};
use crate::control::{Control, Timer};
use crate::limits::{conflict, not_found, too_many};
use crate::producer::Producer;
use crate::recording::check_notice;
use crate::room::RoomId;

/// What an administrator wants with a room's push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushAction {
    /// Begin one; nothing, where there is the same.
    Start {
        /// To where.
        target: PushTarget,
        /// The id of the participant whose voice and picture it is.
        participant: String,
        /// Whether the picture is of the screen, not of the camera.
        screen: bool,
        /// How long after everyone was told.
        notice: Duration,
    },
    /// End it; nothing, where there is none.
    Stop,
    /// Only ask.
    Ask,
}

/// Where a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everyone was told.
    Announced,
    /// It is being sent.
    Pushed,
    /// It has ended.
    Ended(PushEnding),
}

/// The push of a room: the present one, or the last.
pub(crate) struct Push {
    id: PushId,
    target: PushTarget,
    participant: Arc<str>,
    screen: bool,
    phase: Phase,
    progress: PushProgress,
    voice: Option<ProducerId>,
    picture: Option<ProducerId>,
}

impl Push {
    /// Whether it was announced and goes on.
    pub fn is_on(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    /// Whether it is of this participant, and goes on.
    fn is_of(&self, participant: &str) -> bool {
        self.phase == Phase::Pushed && *self.participant == *participant
    }

    /// Whether it has a place for a source.
    fn wants(&self, source: Source) -> bool {
        match source {
            Source::Microphone => true,
            Source::Camera => !self.screen,
            Source::ScreenShare => self.screen,
            Source::ScreenShareAudio => false,
        }
    }

    /// Where the producer of a source has its place.
    fn place(&mut self, source: Source) -> Option<&mut Option<ProducerId>> {
        let of_sound = source == Source::Microphone;
        self.wants(source).then_some(if of_sound { &mut self.voice } else { &mut self.picture })
    }
}

/// A room's push as administrators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushReport {
    /// Whether something is pushed, or is about to be.
    pub active: bool,
    /// `announced`, `pushed`, `ended`; nothing where there was none.
    pub state: Option<&'static str>,
    /// To where, without the stream key.
    pub url: Option<String>,
    /// Whose voice and picture.
    pub participant: Option<String>,
    /// Whether the picture is of the screen.
    pub screen_share: bool,
    /// Why it ended.
    pub ending: Option<&'static str>,
    /// Whether there is a voice, and a picture.
    pub voice: bool,
    /// See `voice`.
    pub picture: bool,
    /// Voices and pictures that are not pushed, for they are encrypted end to end.
    pub tracks_encrypted: u64,
    /// What has become of it.
    #[serde(flatten)]
    pub progress: PushProgress,
}

/// What became of pushes, over all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushTotals {
    /// Rooms of which something is pushed.
    pub active: u64,
    /// How often one ended, by [`PushEnding::ALL`].
    pub ended: [u64; PushEnding::ALL.len()],
    /// Bytes sent by those that have ended.
    pub bytes: u64,
    /// Frames that those that have ended did not send.
    pub frames_dropped: u64,
}

impl Control {
    /// Where pushes are; `None` without any.
    fn pushes(&self) -> Option<CoreId> {
        self.config.pushes.map(|_| PUSHES)
    }

    /// What the thread that broadcasts has to do, in order. To be carried there before the commands
    /// of [`Control::poll_command`]: it then knows of a track before its packets come.
    pub fn poll_push_command(&mut self) -> Option<PushCommand> {
        self.push_commands.pop_front()
    }

    /// What became of pushes.
    pub fn push_totals(&self) -> PushTotals {
        let pushes = self.rooms.values().filter_map(|room| room.push.as_ref());
        let active = pushes.filter(|push| push.phase == Phase::Pushed).count() as u64;
        PushTotals { active, ..self.push_totals }
    }

    pub(crate) fn administer_push(
        &mut self,
        room: &str,
        action: PushAction,
    ) -> Result<AdminResponse, RequestError> {
        if self.pushes().is_none() {
            let reason = "nothing is broadcast from here: start the server with --push-allow";
            return Err(not_found(reason));
        }
        let id = self.room_called(room)?;
        match action {
            PushAction::Start { target, participant, screen, notice } => {
                self.announce_push(id, target, &participant, screen, notice)?;
            }
            PushAction::Stop => self.stop_push(id),
            PushAction::Ask => {}
        }
        Ok(AdminResponse::Push(Box::new(self.describe_push(id))))
    }

    fn describe_push(&self, id: RoomId) -> PushReport {
        let Some(push) = self.rooms.get(&id).and_then(|room| room.push.as_ref()) else {
            return PushReport::default();
        };
        let (state, ending) = match push.phase {
            Phase::Announced => ("announced", None),
            Phase::Pushed => ("pushed", None),
            Phase::Ended(ending) => ("ended", Some(ending.label())),
        };
        PushReport {
            active: push.is_on(),
            state: Some(state),
            url: Some(push.target.shown.to_string()),
            participant: Some(push.participant.to_string()),
            screen_share: push.screen,
            ending,
            voice: push.voice.is_some(),
            picture: push.picture.is_some(),
            tracks_encrypted: self.encrypted_of_push(id, push),
            progress: push.progress.clone(),
        }
    }

    /// What its participant sends that would be pushed, were it not encrypted end to end.
    fn encrypted_of_push(&self, id: RoomId, push: &Push) -> u64 {
        let producers = self.producers_in(id).into_iter().filter_map(|id| self.producers.get(&id));
        let is_left_out = |producer: &&Producer| {
            let peer = self.peers.get(&producer.session);
            let is_its = peer.is_some_and(|peer| push.is_of(&peer.name));
            is_its && producer.is_encrypted() && push.wants(producer.source())
        };
        producers.filter(is_left_out).count() as u64
    }

    fn announce_push(
        &mut self,
        id: RoomId,
        target: PushTarget,
        participant: &str,
        screen: bool,
        notice: Duration,
    ) -> Result<(), RequestError> {
        check_notice(notice)?;
        if self.is_encrypted(id) {
            return Err(conflict(
                "the room is encrypted end to end: the server has nothing to broadcast",
            ));
        }
        let limit = self.config.pushes.unwrap_or(0);
        let pushes = self.rooms.values().filter_map(|room| room.push.as_ref());
        let count = pushes.filter(|push| push.is_on()).count();
        let Some(room) = self.rooms.get_mut(&id) else { return Ok(()) };
        let here = room.by_peer.get_key_value(participant);
        let here = here.filter(|(_, session)| room.members.contains(session));
        let Some(participant) = here.map(|(name, _)| Arc::from(&**name)) else {
            return Err(not_found("nobody of that id is in the room"));
        };
        let is_same = |push: &Push| {
            push.target == target && *push.participant == *participant && push.screen == screen
        };
        match room.push.as_ref().filter(|push| push.is_on()) {
            Some(push) if is_same(push) => return Ok(()),
            Some(_) => return Err(conflict("the room has a push: end it first")),
            None if count >= limit => return Err(too_many("pushes at a time", limit)),
            None => {}
        }
        room.push = Some(Push {
            id: PushId(self.ids.next()),
            target,
            participant,
            screen,
            phase: Phase::Announced,
            progress: PushProgress::default(),
            voice: None,
            picture: None,
        });
        let starts_in_ms = Some(notice.as_millis() as u32);
        let news = Notification::PushChanged { push: true, starts_in_ms, reason: None };
        self.tell_members(id, news);
        self.timers.set(Timer::Push(id), self.now + notice);
        Ok(())
    }

    /// The notice is over.
    pub(crate) fn open_push(&mut self, id: RoomId) {
        let push = self.rooms.get_mut(&id).and_then(|room| room.push.as_mut());
        let Some(push) = push.filter(|push| push.phase == Phase::Announced) else { return };
        push.phase = Phase::Pushed;
        let start = PushCommand::Start { push: push.id, target: push.target.clone() };
        self.push_commands.push_back(start);
        self.producers_in(id).into_iter().for_each(|producer| self.push_producer(producer));
    }

    /// Pushes a producer, if it is what its room pushes and has none of its kind yet.
    pub(crate) fn push_producer(&mut self, id: ProducerId) {
        let (Some(core), Some(producer)) = (self.pushes(), self.producers.get(&id)) else { return };
        let Some(peer) = self.peers.get(&producer.session) else { return };
        let push = self.rooms.get_mut(&peer.room).and_then(|room| room.push.as_mut());
        let Some(push) = push.filter(|push| push.is_of(&peer.name)) else { return };
        let push_id = push.id;
        let place = push.place(producer.source()).filter(|place| place.is_none());
        let Some(place) = place.filter(|_| !producer.is_encrypted()) else { return };
        *place = Some(id);
        let config = TrackConfig {
            producer: id,
            home: producer.home(),
            participant: Arc::clone(&peer.name),
            display_name: peer.info.display_name.clone(),
            source: producer.source().label(),
            kind: crate::producer::media_kind(producer.kind),
            payload_types: producer.payload_types(),
            encodings: producer.encoding_count() as u8,
            muted: producer.paused,
        };
        let (kind, encodings) = (config.kind, config.encodings);
        self.push_commands.push_back(PushCommand::AddTrack(push_id, Box::new(config)));
        self.reach(id, core);
        if kind == MediaKind::Video {
            self.encodings_wanted(core, id, encodings);
        }
    }

    /// Pushes a producer no more, for it is gone; another of its kind has its place.
    pub(crate) fn leave_push(&mut self, id: ProducerId) {
        if !self.is_pushed(id) {
            return;
        }
        self.end_track(id);
        let session = self.producers.get(&id).map(|producer| producer.session);
        let Some(peer) = session.and_then(|session| self.peers.get(&session)) else { return };
        let others: Vec<ProducerId> =
            peer.producers.iter().copied().filter(|&of| of != id).collect();
        others.into_iter().for_each(|other| self.push_producer(other));
    }

    fn end_track(&mut self, id: ProducerId) {
        if !self.is_pushed(id) {
            return;
        }
        let session = self.producers.get(&id).map(|producer| producer.session);
        let room = session.and_then(|session| self.peers.get(&session)).map(|peer| peer.room);
        let push = room.and_then(|room| self.rooms.get_mut(&room)?.push.as_mut());
        if let Some(push) = push {
            push.voice = push.voice.filter(|&voice| voice != id);
            push.picture = push.picture.filter(|&picture| picture != id);
        }
        self.push_commands.push_back(PushCommand::RemoveTrack(id));
        self.unreach(id, PUSHES);
    }

    fn is_pushed(&self, id: ProducerId) -> bool {
        let Some(core) = self.pushes() else { return false };
        self.producers.get(&id).is_some_and(|producer| producer.reaches(core))
    }

    /// A producer was paused or resumed.
    pub(crate) fn tell_push_of_pause(&mut self, id: ProducerId, muted: bool) {
        if self.is_pushed(id) {
            self.push_commands.push_back(PushCommand::Mute { producer: id, muted });
        }
    }

    /// Ends a room's push, if it has one.
    pub(crate) fn stop_push(&mut self, id: RoomId) {
        self.end_push(id, PushEnding::Stopped);
    }

    fn end_push(&mut self, id: RoomId, ending: PushEnding) {
        let push = self.rooms.get_mut(&id).and_then(|room| room.push.as_mut());
        let Some(push) = push.filter(|push| push.is_on()) else { return };
        let was = std::mem::replace(&mut push.phase, Phase::Ended(ending));
        push.progress.connected = false;
        if was == Phase::Announced {
            self.timers.cancel(Timer::Push(id));
        } else {
            self.push_commands.push_back(PushCommand::Stop(push.id));
            let (bytes, dropped) = (push.progress.bytes, push.progress.frames_dropped);
            self.push_totals.bytes += bytes;
            self.push_totals.frames_dropped += dropped;
            self.producers_in(id).into_iter().for_each(|producer| self.end_track(producer));
        }
        if let Some(index) = PushEnding::ALL.iter().position(|known| *known == ending) {
            self.push_totals.ended[index] += 1;
        }
        let reason = Some(ending.label());
        let news = Notification::PushChanged { push: false, starts_in_ms: None, reason };
        self.tell_members(id, news);
    }

    /// What the thread that broadcasts says.
    pub fn handle_push_event(&mut self, now: Time, event: PushEvent) {
        self.begin(now);
        let (PushEvent::Progress { push: id, .. } | PushEvent::Ended { push: id, .. }) = event;
        let found = self.rooms.iter_mut().find_map(|(room, of)| {
            let is_it = |push: &&mut Push| push.phase == Phase::Pushed && push.id == id;
            Some((*room, of.push.as_mut().filter(is_it)?))
        });
        let Some((room, push)) = found else { return };
        match event {
            PushEvent::Progress { progress, .. } => push.progress = progress,
            PushEvent::Ended { ending, progress, .. } => {
                push.progress = progress;
                self.end_push(room, ending);
            }
        }
    }

    /// The thread that broadcasts has failed: nothing is pushed any more.
    pub fn pushes_lost(&mut self, now: Time) {
        self.begin(now);
        let pushed: Vec<RoomId> =
            self.rooms.iter().filter(|(_, room)| room.push.is_some()).map(|(id, _)| *id).collect();
        pushed.into_iter().for_each(|id| self.end_push(id, PushEnding::Lost));
        self.push_commands.clear();
        self.config.pushes = None;
    }
}
