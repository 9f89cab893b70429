//! What happens in rooms, for programs outside: the source of webhooks.
//!
//! Off unless [`ControlConfig::room_events`](crate::ControlConfig::room_events) is set; then ask
//! [`Control::poll_room_event`] until there is nothing. Events of one room come in the order in
//! which they happened: it starts, people join, publish, unpublish and leave, it finishes.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::ProducerId;
use opencall_wire::time::Time;

use crate::api::{CloseReason, Grants, SessionId, Source};
use crate::control::Control;
use crate::peer::Peer;
use crate::room::{Room, RoomId};
use crate::rtp_parameters::Kind;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomEventKind {
    /// The first participant of a room is about to be reported.
    RoomStarted,
    /// Nobody is in a room any more, nor waits for it.
    RoomFinished,
    /// Someone has entered.
    ParticipantJoined,
    /// Someone has left, and why the server closed the connection, if it did.
    ParticipantLeft(Option<CloseReason>),
    /// Someone sends a track.
    TrackPublished,
    /// And sends it no more.
    TrackUnpublished,
}

/// Something that happened in a room, with the room, the participant and the track as they were
/// then. Ids are those of requests and of the admin API.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// Unique, also across restarts.
    pub id: String,
    /// What.
    pub kind: RoomEventKind,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Where.
    pub room: EventRoom,
    /// Who, unless it is about the room.
    pub participant: Option<EventParticipant>,
    /// Which track, where it is about one.
    pub track: Option<EventTrack>,
}

/// A room at the time of an event.
#[derive(Debug, Clone)]
pub struct EventRoom {
    /// Another one each time that a room of this name starts.
    pub id: String,
    /// Its name.
    pub name: Arc<str>,
    /// When it started, in Unix milliseconds.
    pub started_ms: u64,
    /// How many have entered it.
    pub participants: usize,
    /// How many of them send something.
    pub publishers: usize,
}

/// A participant at the time of an event.
#[derive(Debug, Clone)]
pub struct EventParticipant {
    /// Another one each time that it joins.
    pub id: String,
    /// Peer (participant) id.
    pub identity: Arc<str>,
    /// Name to show.
    pub display_name: String,
    /// When it entered, in Unix milliseconds.
    pub joined_ms: u64,
    /// What it may do.
    pub grants: Grants,
    /// Whether it sends something.
    pub is_publisher: bool,
}

/// A track at the time of an event.
#[derive(Debug, Clone)]
pub struct EventTrack {
    /// Producer id.
    pub id: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows or lets be heard.
    pub source: Source,
    /// Of its first codec.
    pub mime_type: String,
    /// Whether it is not forwarded: paused or muted.
    pub is_paused: bool,
    /// Whether it has more than one encoding.
    pub is_simulcast: bool,
}

impl Control {
    /// What happened in rooms, in order; ask until there is nothing.
    pub fn poll_room_event(&mut self) -> Option<RoomEvent> {
        self.room_events.as_mut()?.pop_front()
    }

    /// Someone has entered its room.
    pub(crate) fn note_joined(&mut self, session: SessionId) {
        let Some(id) = self.peers.get(&session).map(|peer| peer.room) else { return };
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.started.is_none() {
            room.started = Some(self.now);
            self.note(id, RoomEventKind::RoomStarted, None, None);
        }
        let participant = self.event_participant(session);
        self.note(id, RoomEventKind::ParticipantJoined, participant, None);
    }

    /// Someone who had entered has left.
    pub(crate) fn note_left(&mut self, session: SessionId, peer: &Peer, why: Option<CloseReason>) {
        if self.room_events.is_some() {
            let participant = self.participant_of(session, peer);
            self.note(peer.room, RoomEventKind::ParticipantLeft(why), Some(participant), None);
        }
    }

    /// A room is no more.
    pub(crate) fn note_finished(&mut self, id: RoomId, room: &Room) {
        if self.room_events.is_some() && room.started.is_some() {
            let room = self.room_at_event(id, room);
            self.push_event(RoomEventKind::RoomFinished, room, None, None);
        }
    }

    /// A track is sent, or no more.
    pub(crate) fn note_track(&mut self, id: ProducerId, kind: RoomEventKind) {
        if self.room_events.is_none() {
            return;
        }
        let Some(producer) = self.producers.get(&id) else { return };
        let session = producer.session;
        let codec = producer.consumable.codecs.first();
        let track = EventTrack {
            id: self.ids.text(id.0),
            kind: producer.kind,
            source: producer.source(),
            mime_type: codec.map(|codec| codec.mime_type.clone()).unwrap_or_default(),
            is_paused: producer.paused,
            is_simulcast: producer.encoding_count() > 1,
        };
        let Some(room) = self.peers.get(&session).map(|peer| peer.room) else { return };
        self.note(room, kind, self.event_participant(session), Some(track));
    }

    fn note(
        &mut self,
        id: RoomId,
        kind: RoomEventKind,
        participant: Option<EventParticipant>,
        track: Option<EventTrack>,
    ) {
        if let (Some(room), Some(_)) = (self.rooms.get(&id), &self.room_events) {
            let room = self.room_at_event(id, room);
            self.push_event(kind, room, participant, track);
        }
    }

    fn push_event(
        &mut self,
        kind: RoomEventKind,
        room: EventRoom,
        participant: Option<EventParticipant>,
        track: Option<EventTrack>,
    ) {
        let Some(events) = &mut self.room_events else { return };
        let number = self.ids.next();
        let id = format!("EV_{}", self.ids.text(number));
        let at_ms = unix_ms(self.config.unix_origin_ms, self.now);
        events.push_back(RoomEvent { id, kind, at_ms, room, participant, track });
    }

    fn room_at_event(&self, id: RoomId, room: &Room) -> EventRoom {
        EventRoom {
            id: self.ids.text(id.0),
            name: Arc::from(room.name.as_str()),
            started_ms: unix_ms(self.config.unix_origin_ms, room.started.unwrap_or(self.now)),
            participants: room.members.len(),
            publishers: room.publishers,
        }
    }

    fn event_participant(&self, session: SessionId) -> Option<EventParticipant> {
        self.room_events.as_ref()?;
        self.peers.get(&session).map(|peer| self.participant_of(session, peer))
    }

    fn participant_of(&self, session: SessionId, peer: &Peer) -> EventParticipant {
        EventParticipant {
            id: self.ids.text(session.0),
            identity: Arc::clone(&peer.name),
            display_name: peer.info.display_name.clone(),
            joined_ms: unix_ms(self.config.unix_origin_ms, peer.joined_at),
            grants: peer.grants.clone(),
            is_publisher: !peer.producers.is_empty(),
        }
    }
}

fn unix_ms(origin_ms: u64, at: Time) -> u64 {
    let since = Duration::from_nanos(at.as_nanos()).as_millis();
    origin_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
}
