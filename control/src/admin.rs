//! What administrators may see and do. Answers come by [`Control::poll_administered`], those with
//! statistics once the data cores have told theirs.
//!
//! Whoever calls this has been let in as an administrator: signaling keeps its keys apart from
//! those of join tokens.
#![forbid(unsafe_code)]

use std::sync::Arc;

use opencall_dataplane::message::{ConsumerId, Layers, ProducerId, TransportId};
use opencall_wire::time::Time;
use serde::Serialize;

use crate::api::{
    CloseReason, ConnectionQuality, Direction, Notification, RequestError, SessionId, Source,
    StatsReport, Token,
};
use crate::control::{Control, Work};
use crate::host::nobody;
use crate::limits::{malformed, not_found, too_many};
use crate::peer::Peer;
use crate::push::{Push, PushAction, PushReport};
use crate::recording::{Recording, RecordingAction, RecordingReport};
use crate::room::{Room, RoomId};
use crate::rtp_parameters::Kind;
use crate::stats::Asker;
use crate::tap::{TapAction, TapReport};

/// Rooms in one answer: about as much work as one participant's entry into a large room.
pub const MAX_ROOMS_PER_ANSWER: usize = 200;

/// Questions about a participant's statistics that wait for data cores.
const MAX_QUESTIONS: usize = 8;

/// What an administrator asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminRequest {
    /// Some rooms, oldest first → [`AdminResponse::Rooms`].
    Rooms {
        /// Only those after the room with this id: the `next` of the answer before.
        after: Option<String>,
        /// At most so many, and at most [`MAX_ROOMS_PER_ANSWER`].
        limit: usize,
    },
    /// Who is in a room → [`AdminResponse::Room`].
    Room {
        /// Its name.
        room: String,
    },
    /// All about one participant, with statistics → [`AdminResponse::Participant`].
    Participant {
        /// The room's name.
        room: String,
        /// The participant's id.
        participant: String,
    },
    /// Close a participant's connection → [`AdminResponse::Done`].
    Remove {
        /// The room's name.
        room: String,
        /// The participant's id.
        participant: String,
    },
    /// Mute or unmute → [`AdminResponse::Muted`]. What is muted is not forwarded, and its client
    /// cannot resume it.
    Mute {
        /// The room's name.
        room: String,
        /// The participant's id.
        participant: String,
        /// What of it.
        what: MuteTarget,
        /// Mute, or unmute.
        muted: bool,
    },
    /// Let nobody else in, or again everyone → [`AdminResponse::Done`].
    Lock {
        /// The room's name.
        room: String,
        /// Lock, or unlock.
        locked: bool,
    },
    /// Begin or end a room's recording, or ask for it → [`AdminResponse::Recording`].
    Recording {
        /// The room's name.
        room: String,
        /// Which.
        action: RecordingAction,
    },
    /// Begin or end a room's tap, or ask for it → [`AdminResponse::Tap`].
    Tap {
        /// The room's name.
        room: String,
        /// Which.
        action: TapAction,
    },
    /// Begin or end a room's push, or ask for it → [`AdminResponse::Push`].
    Push {
        /// The room's name.
        room: String,
        /// Which.
        action: PushAction,
    },
    /// Say something by data channel → [`AdminResponse::Announced`].
    Announce {
        /// The room's name.
        room: String,
        /// What, and to whom.
        announcement: Announcement,
    },
}

/// What the server says in a room, on a reliable data channel of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The channel's label.
    pub label: String,
    /// Ids of the participants it is for, all of whom must be there; none: everyone.
    pub to: Vec<String>,
    /// Text, else bytes.
    pub is_text: bool,
    /// It.
    pub bytes: Vec<u8>,
}

/// What is muted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MuteTarget {
    /// One producer, as long as it exists.
    Producer(String),
    /// A source of the participant: its producers of now, and those that come, also after a
    /// reconnection, as long as the room exists.
    Source(Source),
}

/// The answer to an [`AdminRequest`].
pub enum AdminResponse {
    /// It is done.
    Done,
    /// Rooms.
    Rooms {
        /// Oldest first.
        rooms: Vec<RoomSummary>,
        /// What to ask for the rest after, if there is one.
        next: Option<String>,
    },
    /// A room.
    Room(RoomReport),
    /// A participant.
    Participant(Box<ParticipantReport>),
    /// The producers that are muted or unmuted now.
    Muted(Vec<String>),
    /// A room's recording.
    Recording(Box<RecordingReport>),
    /// A room's tap.
    Tap(Box<TapReport>),
    /// A room's push.
    Push(Box<PushReport>),
    /// How many participants it was said to.
    Announced(usize),
}

/// A room in few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomSummary {
    /// Its name, which is its id for clients.
    #[serde(rename = "room")]
    pub name: String,
    /// Whether nobody else is let in.
    pub locked: bool,
    /// Who waits to be let in.
    pub waiting: usize,
    /// Whether it is being recorded.
    pub recording: bool,
    /// Whether its voices go to a program outside.
    pub tapped: bool,
    /// Whether someone in it is broadcast.
    pub pushed: bool,
    /// Participants that have entered.
    pub participants: usize,
    /// Producers.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
}

/// A room and who is in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomReport {
    /// Its numbers.
    #[serde(flatten)]
    pub summary: RoomSummary,
    /// Data cores with participants of it.
    pub cores: Vec<u8>,
    /// In the order of their connections.
    pub members: Vec<ParticipantSummary>,
}

/// A participant in few numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantSummary {
    /// Its id.
    #[serde(rename = "participant")]
    pub id: String,
    /// The name that it shows.
    pub display_name: String,
    /// Whether it has entered the room; before, it is connected only.
    pub joined: bool,
    /// Whether others are told nothing of it.
    pub hidden: bool,
    /// Its connection's quality, once known.
    pub quality: Option<ConnectionQuality>,
    /// Its data core, once it has a transport.
    pub core: Option<u8>,
    /// Sources that are muted.
    pub muted: Vec<&'static str>,
    /// How many transports it has.
    pub transports: usize,
    /// What it sends.
    pub producers: Vec<ProducerSummary>,
    /// How many producers of others it receives.
    pub consumers: usize,
}

/// A producer without numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerSummary {
    /// Its id.
    #[serde(rename = "producer")]
    pub id: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows, in LiveKit's words.
    pub source: &'static str,
    /// Whether it is not forwarded: its client paused it, or it is muted.
    pub paused: bool,
    /// Whether an administrator muted it.
    pub muted: bool,
    /// How many receive it.
    pub consumers: usize,
}

/// A participant with all that it has, and its statistics.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantReport {
    /// The participant.
    #[serde(flatten)]
    pub summary: ParticipantSummary,
    /// Its transports.
    pub transport_list: Vec<TransportReport>,
    /// What it receives.
    pub consumer_list: Vec<ConsumerReport>,
    /// One object for each transport and stream, as clients get them from `getStats`; which it is
    /// says `transportId`, `producerId` or `consumerId`.
    pub stats: Vec<StatsReport>,
}

/// A transport of a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransportReport {
    /// Its id.
    #[serde(rename = "transport")]
    pub id: String,
    /// Whether the client sends or receives on it.
    pub direction: Direction,
}

/// A consumer of a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerReport {
    /// Its id.
    #[serde(rename = "consumer")]
    pub id: String,
    /// Its producer.
    pub producer: String,
    /// Whose.
    pub of: String,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows.
    pub source: &'static str,
    /// Whether its client paused it, or has not accepted it yet.
    pub paused: bool,
    /// The layers that are sent: spatial and, where known, temporal.
    pub layers: Option<(u8, Option<u8>)>,
}

impl Control {
    /// What an administrator asks; the answer comes by [`Control::poll_administered`] with the
    /// token. Returns the work it made.
    pub fn administer(&mut self, now: Time, token: Token, request: AdminRequest) -> Work {
        self.begin(now);
        let before = self.waiting();
        let (result, seen) = match request {
            AdminRequest::Rooms { after, limit } => self.list_rooms(after.as_deref(), limit),
            AdminRequest::Room { room } => self.report_room(&room),
            AdminRequest::Participant { room, participant } => {
                match self.ask_participant(token, &room, &participant) {
                    Ok(()) => return self.work_since(before, 0),
                    Err(error) => (Err(error), 1),
                }
            }
            AdminRequest::Remove { room, participant } => (self.remove(&room, &participant), 1),
            AdminRequest::Mute { room, participant, what, muted } => {
                (self.mute(&room, &participant, &what, muted), 1)
            }
            AdminRequest::Lock { room, locked } => (self.lock(&room, locked), 1),
            AdminRequest::Recording { room, action } => {
                (self.administer_recording(&room, action), 1)
            }
            AdminRequest::Tap { room, action } => (self.administer_tap(&room, action), 1),
            AdminRequest::Push { room, action } => (self.administer_push(&room, action), 1),
            AdminRequest::Announce { room, announcement } => {
                let result = self.announce(&room, announcement);
                let told = match &result {
                    Ok(AdminResponse::Announced(told)) => *told,
                    _ => 0,
                };
                (result, 1 + told)
            }
        };
        self.administered.push_back((token, result));
        self.work_since(before, seen)
    }

    /// The next answer to an administrator.
    pub fn poll_administered(&mut self) -> Option<(Token, Result<AdminResponse, RequestError>)> {
        self.administered.pop_front()
    }

    fn list_rooms(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> (Result<AdminResponse, RequestError>, usize) {
        let after = match after.map(|text| self.ids.number(text)) {
            Some(None) => {
                let reason = "after: give the \"next\" of an answer, as it was";
                return (Err(malformed(reason)), 1);
            }
            Some(Some(number)) => RoomId(number),
            None => RoomId(0),
        };
        let limit = limit.clamp(1, MAX_ROOMS_PER_ANSWER);
        let found =
            self.rooms.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let mut found = found.peekable();
        let (mut rooms, mut seen, mut last) = (Vec::new(), 1, None);
        while rooms.len() < limit
            && let Some((id, room)) = found.next()
        {
            rooms.push(self.summary_of_room(room));
            seen += 1 + room.members.len() / 8;
            last = Some(*id);
        }
        let next = found.peek().and(last).map(|id| self.ids.text(id.0));
        (Ok(AdminResponse::Rooms { rooms, next }), seen)
    }

    fn report_room(&self, name: &str) -> (Result<AdminResponse, RequestError>, usize) {
        let room = match self.room_called(name) {
            Ok(id) => self.rooms.get(&id),
            Err(error) => return (Err(error), 1),
        };
        let Some(room) = room else { return (Err(no_room(name)), 1) };
        let mut sessions: Vec<SessionId> = room.by_peer.values().copied().collect();
        sessions.sort_unstable();
        let peers = sessions.iter().filter_map(|session| self.peers.get(session));
        let members: Vec<_> = peers.map(|peer| self.summary_of_peer(room, peer)).collect();
        let mut cores: Vec<u8> = members.iter().filter_map(|member| member.core).collect();
        cores.sort_unstable();
        cores.dedup();
        let seen = members.iter().map(|member| 1 + member.producers.len()).sum();
        let summary = self.summary_of_room(room);
        (Ok(AdminResponse::Room(RoomReport { summary, cores, members })), seen)
    }

    fn summary_of_room(&self, room: &Room) -> RoomSummary {
        let members = || room.members.iter().filter_map(|session| self.peers.get(session));
        RoomSummary {
            name: room.name.clone(),
            locked: room.locked,
            waiting: room.waiting.len(),
            recording: room.recording.as_ref().is_some_and(Recording::is_on),
            tapped: room.tap.is_some(),
            pushed: room.push.as_ref().is_some_and(Push::is_on),
            participants: room.members.len(),
            producers: members().map(|peer| peer.producers.len()).sum(),
            consumers: members().map(|peer| peer.consumers.len()).sum(),
        }
    }

    fn summary_of_peer(&self, room: &Room, peer: &Peer) -> ParticipantSummary {
        let muted = room.muted.get(&peer.name);
        let is_muted = |source: &Source| muted.is_some_and(|muted| muted.contains(*source));
        ParticipantSummary {
            id: peer.name.to_string(),
            display_name: peer.info.display_name.clone(),
            joined: peer.joined,
            hidden: peer.grants.hidden,
            quality: peer.quality,
            core: peer.core.map(|core| core.0),
            muted: Source::ALL.into_iter().filter(is_muted).map(Source::label).collect(),
            transports: peer.transports.len(),
            producers: peer.producers.iter().filter_map(|id| self.summary_of(*id)).collect(),
            consumers: peer.consumers.len(),
        }
    }

    fn summary_of(&self, id: ProducerId) -> Option<ProducerSummary> {
        let producer = self.producers.get(&id)?;
        Some(ProducerSummary {
            id: self.ids.text(id.0),
            kind: producer.kind,
            source: producer.source().label(),
            paused: producer.paused,
            muted: producer.muted,
            consumers: producer.consumers.len(),
        })
    }

    fn ask_participant(
        &mut self,
        token: Token,
        room: &str,
        participant: &str,
    ) -> Result<(), RequestError> {
        let (_, session) = self.member_called(room, participant)?;
        let asked = self.stats_jobs.values().filter(|job| job.is_administrators()).count();
        if asked >= MAX_QUESTIONS {
            return Err(too_many("questions about participants at a time", MAX_QUESTIONS));
        }
        let queries = self.queries_of_peer(session)?;
        self.start_stats(Asker::Administrator { token, session }, queries);
        Ok(())
    }

    /// The answer to [`AdminRequest::Participant`], now that the data cores have answered.
    pub(crate) fn describe_participant(
        &mut self,
        token: Token,
        session: SessionId,
        stats: Vec<StatsReport>,
    ) {
        let found = self.peers.get(&session).and_then(|peer| {
            let room = self.rooms.get(&peer.room)?;
            Some(ParticipantReport {
                summary: self.summary_of_peer(room, peer),
                transport_list: peer
                    .transports
                    .iter()
                    .filter_map(|id| self.describe_transport(*id))
                    .collect(),
                consumer_list: peer
                    .consumers
                    .values()
                    .filter_map(|id| self.describe_consumer(*id))
                    .collect(),
                stats,
            })
        });
        let result = found.ok_or_else(|| not_found("the participant has left the room"));
        let result = result.map(|report| AdminResponse::Participant(Box::new(report)));
        self.administered.push_back((token, result));
    }

    fn describe_transport(&self, id: TransportId) -> Option<TransportReport> {
        let direction = self.transports.get(&id)?.direction;
        Some(TransportReport { id: self.ids.text(id.0), direction })
    }

    fn describe_consumer(&self, id: ConsumerId) -> Option<ConsumerReport> {
        let consumer = self.consumers.get(&id)?;
        let producer = self.producers.get(&consumer.producer)?;
        Some(ConsumerReport {
            id: self.ids.text(id.0),
            producer: self.ids.text(consumer.producer.0),
            of: self.owner_of(producer)?.to_string(),
            kind: producer.kind,
            source: producer.source().label(),
            paused: consumer.is_paused(),
            layers: consumer.layers().map(|Layers { spatial, temporal }| (spatial, temporal)),
        })
    }

    fn remove(&mut self, room: &str, participant: &str) -> Result<AdminResponse, RequestError> {
        let (_, session) = self.member_called(room, participant)?;
        self.expel(session, CloseReason::Removed, None);
        Ok(AdminResponse::Done)
    }

    /// Closes a participant's connection.
    pub(crate) fn expel(&mut self, session: SessionId, reason: CloseReason, by: Option<Arc<str>>) {
        // Whoever waits for the place of the one who is sent away does not get it.
        self.challenge_held(session);
        self.close_by(session, reason, by);
    }

    fn lock(&mut self, name: &str, locked: bool) -> Result<AdminResponse, RequestError> {
        let id = self.room_called(name)?;
        self.lock_room(id, locked, false, None);
        Ok(AdminResponse::Done)
    }

    /// Locks or unlocks a room, with a waiting room or without, and tells everyone in it. Those who
    /// wait are let in when it is unlocked, and sent away when there is no waiting room any more.
    /// Who is on the way when it is locked has not got in, and comes again as any newcomer.
    pub(crate) fn lock_room(
        &mut self,
        id: RoomId,
        locked: bool,
        waiting_room: bool,
        by: Option<Arc<str>>,
    ) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let waiting_room = locked && waiting_room;
        let is_news = (room.locked, room.waiting_room) != (locked, waiting_room);
        (room.locked, room.waiting_room) = (locked, waiting_room);
        if !is_news {
            return;
        }
        for session in room.members.iter().copied().collect::<Vec<_>>() {
            let news = Notification::RoomLocked { locked, waiting_room, by: by.clone() };
            self.notify(session, news);
        }
        if !waiting_room {
            self.empty_waiting_room(id, !locked, by.as_ref());
        }
        if locked {
            self.send_away_unentered(id);
        }
    }

    /// Closes the sessions that have a place in a room and have not entered it, but for hosts and
    /// those whom a host let in.
    fn send_away_unentered(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let is_on_the_way = |session: &&SessionId| {
            let peer = self.peers.get(session);
            peer.is_some_and(|peer| !peer.joined && !peer.let_in && !peer.grants.admin)
        };
        for session in room.by_peer.values().filter(is_on_the_way).copied().collect::<Vec<_>>() {
            self.expel(session, CloseReason::RoomLocked, None);
        }
    }

    fn mute(
        &mut self,
        room: &str,
        participant: &str,
        what: &MuteTarget,
        muted: bool,
    ) -> Result<AdminResponse, RequestError> {
        let (room, session) = self.member_called(room, participant)?;
        let producers = self.mute_member(room, session, what, muted, None)?;
        Ok(AdminResponse::Muted(producers.iter().map(|id| self.ids.text(id.0)).collect()))
    }

    /// Mutes or unmutes what a participant sends: the producers that are concerned now.
    pub(crate) fn mute_member(
        &mut self,
        room: RoomId,
        session: SessionId,
        what: &MuteTarget,
        muted: bool,
        by: Option<Arc<str>>,
    ) -> Result<Vec<ProducerId>, RequestError> {
        let producers = match what {
            MuteTarget::Producer(text) => vec![self.own_producer(session, text)?],
            MuteTarget::Source(source) => {
                let limit = self.config.limits.peers_per_room;
                let name = Arc::clone(&self.peer(session)?.name);
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.mute(&name, *source, muted, limit)?;
                }
                self.producers_of_source(session, *source)
            }
        };
        for producer in &producers {
            self.mute_producer(*producer, muted, by.clone());
        }
        Ok(producers)
    }

    fn producers_of_source(&self, session: SessionId, source: Source) -> Vec<ProducerId> {
        let Some(peer) = self.peers.get(&session) else { return Vec::new() };
        let shows = |id: &ProducerId| self.producers.get(id).is_some_and(|p| p.source() == source);
        peer.producers.iter().copied().filter(shows).collect()
    }

    fn mute_producer(&mut self, id: ProducerId, muted: bool, by: Option<Arc<str>>) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        if std::mem::replace(&mut producer.muted, muted) == muted {
            return;
        }
        let session = producer.session;
        self.settle_pause(id);
        let producer_id = self.ids.text(id.0);
        self.notify(session, Notification::ProducerMuted { producer_id, muted, by });
    }

    pub(crate) fn room_called(&self, name: &str) -> Result<RoomId, RequestError> {
        self.room_names.get(name).copied().ok_or_else(|| no_room(name))
    }

    fn member_called(
        &self,
        room: &str,
        participant: &str,
    ) -> Result<(RoomId, SessionId), RequestError> {
        let id = self.room_called(room)?;
        let session = self.rooms.get(&id).and_then(|room| room.by_peer.get(participant));
        let session = session.copied().ok_or_else(|| nobody("is in this room", participant))?;
        Ok((id, session))
    }
}

fn no_room(name: &str) -> RequestError {
    let name: String = name.chars().take(64).collect();
    not_found(format!("there is no room \"{name}\": it exists while someone is in it"))
}
