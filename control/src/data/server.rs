//! What the server itself says in rooms, for administrators: a data producer of its own for each
//! label, to everyone or to some.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use opencall_wire::time::Time;

use super::producer::{DataOrigin, DataProducer};
use super::{DataMessage, DataProducerId, Reliability, check_label};
use crate::admin::{AdminResponse, Announcement};
use crate::api::{JsonObject, RequestError, SessionId};
use crate::control::Control;
use crate::limits::{not_found, too_many};
use crate::room::RoomId;

/// How long an announcement waits for those who do not listen yet: some clients ask for a channel
/// only once they are told of it, and who enters meanwhile hears it as well.
const ANNOUNCEMENT_LIFETIME: Duration = Duration::from_secs(10);

/// Announcements of a room that wait so: the oldest goes first. Each is as long as a request of an
/// administrator at most.
const MAX_WAITING: usize = 16;

/// Labels that the server speaks under in one room.
const MAX_LABELS: usize = 8;

/// An announcement, kept for those who do not listen yet.
pub(crate) struct Recent {
    at: Time,
    producer: DataProducerId,
    message: Arc<DataMessage>,
    /// Peer ids; nobody named: everyone.
    to: BTreeSet<String>,
}

impl Control {
    /// Says something in a room; how many participants it is for.
    pub(crate) fn announce(
        &mut self,
        room_name: &str,
        announcement: Announcement,
    ) -> Result<AdminResponse, RequestError> {
        let Announcement { label, to, is_text, bytes } = announcement;
        check_label("label", &label)?;
        let room = self.room_called(room_name)?;
        let to: BTreeSet<String> = to.into_iter().collect();
        let members = self.listeners_to(DataOrigin::Server(room));
        let is_meant = |session: &SessionId| {
            self.peers.get(session).is_some_and(|peer| to.is_empty() || to.contains(&*peer.name))
        };
        let hearers: Vec<SessionId> = members.into_iter().filter(is_meant).collect();
        if !to.is_empty() && hearers.len() < to.len() {
            let there = |name: &&String| {
                hearers.iter().any(|id| self.peers.get(id).is_some_and(|p| *p.name == ***name))
            };
            let missing = to.iter().find(|name| !there(name)).cloned().unwrap_or_default();
            let reason = format!("no participant \"{missing}\" in this room: nobody was told");
            return Err(not_found(reason));
        }
        let producer = self.announcer(room, &label)?;
        let message = Arc::new(DataMessage { is_text, bytes });
        for session in &hearers {
            self.offer_data(*session, producer);
            let consumer = self.peers.get(session).and_then(|p| p.data_consumers.get(&producer));
            if let Some(&consumer) = consumer {
                self.enqueue(consumer, &message);
            }
        }
        if let Some(producer) = self.data.producers.get_mut(&producer) {
            producer.messages += 1;
            producer.bytes += message.bytes.len() as u64;
        }
        let recent = Recent { at: self.now, producer, message, to };
        if let Some(room) = self.rooms.get_mut(&room) {
            room.announced.push_back(recent);
            if room.announced.len() > MAX_WAITING {
                room.announced.pop_front();
            }
        }
        Ok(AdminResponse::Announced(hearers.len()))
    }

    /// The server's data producer of this label.
    fn announcer(&mut self, id: RoomId, label: &str) -> Result<DataProducerId, RequestError> {
        let gone = || not_found("the room was closed");
        let room = self.rooms.get_mut(&id).ok_or_else(gone)?;
        if let Some(producer) = room.announcers.get(label) {
            return Ok(*producer);
        }
        if room.announcers.len() >= MAX_LABELS {
            return Err(too_many("labels of the server in a room", MAX_LABELS));
        }
        let producer = DataProducerId(self.ids.next());
        room.announcers.insert(label.to_owned(), producer);
        let made = DataProducer {
            origin: DataOrigin::Server(id),
            how: Reliability::RELIABLE,
            label: label.to_owned(),
            protocol: String::new(),
            app_data: JsonObject::default(),
            consumers: BTreeSet::new(),
            messages: 0,
            bytes: 0,
        };
        self.data.producers.insert(producer, made);
        Ok(producer)
    }

    /// What was announced lately to a client that begins to listen.
    pub(super) fn recent_announcements(
        &self,
        session: SessionId,
        producer: DataProducerId,
    ) -> VecDeque<(Time, Arc<DataMessage>)> {
        let peer = self.peers.get(&session);
        let room = peer.and_then(|peer| self.rooms.get(&peer.room));
        let (Some(peer), Some(room)) = (peer, room) else { return VecDeque::new() };
        let is_for = |recent: &&Recent| {
            recent.producer == producer
                && self.now.since(recent.at) <= ANNOUNCEMENT_LIFETIME
                && (recent.to.is_empty() || recent.to.contains(&*peer.name))
        };
        let recent = room.announced.iter().filter(is_for);
        recent.map(|recent| (self.now, Arc::clone(&recent.message))).collect()
    }
}
