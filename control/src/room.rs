//! Rooms: who is there, and who speaks.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{AudioLevels, CoreId, ProducerId};
use opencall_dataplane::planted::{self, Bug};
use opencall_wire::time::Time;

use crate::api::{Notification, RequestError, SessionId, Source, Sources};
use crate::codec_choice::Audience;
use crate::control::{Control, Timer};
use crate::data::{DataProducerId, Recent};
use crate::limits::too_many;
use crate::mls::Delivery;
use crate::placement::RoomCores;
use crate::push::Push;
use crate::recording::Recording;
use crate::rtp_parameters::Kind;
use crate::speakers::Speakers;
use crate::stage::{Slot, Stage};
use crate::tap::Tap;
use crate::view::View;

/// How long nobody has been heard when a room's speakers are looked at without it: levels of a
/// voice come every 100 ms, and wait up to 50 ms for others on their way up. Waking for each room's
/// news besides was half of the wake-ups of a server with rooms of five.
const SILENCE: Duration = Duration::from_millis(150);

/// Number of a room, unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoomId(pub u64);

/// One meeting. It exists while a session does, inside or waiting outside.
pub(crate) struct Room {
    pub name: String,
    /// Its sessions by peer id, entered or not.
    pub by_peer: HashMap<String, SessionId>,
    /// Those that have entered, oldest first.
    pub members: BTreeSet<SessionId>,
    pub cores: RoomCores,
    pub speakers: Speakers,
    /// What it has instead of everyone for everyone, once it is large.
    pub stage: Option<Stage>,
    /// What is shown to those who watch it from outside.
    pub views: Vec<View>,
    /// What its members can decode, as advice was last reviewed by it.
    pub audience: Audience,
    /// When someone first entered it.
    pub started: Option<Time>,
    /// How many of its members send something.
    pub publishers: usize,
    /// Nobody else is let in.
    pub locked: bool,
    /// Newcomers wait for a host then.
    pub waiting_room: bool,
    /// Those who do, oldest first.
    pub waiting: BTreeSet<SessionId>,
    /// The peer that came first.
    pub first: String,
    /// Data producers of the server's own, by label.
    pub announcers: BTreeMap<String, DataProducerId>,
    /// What they said last, oldest first.
    pub announced: VecDeque<Recent>,
    /// The present recording, or the last.
    pub recording: Option<Recording>,
    /// Its tap.
    pub tap: Option<Tap>,
    /// Its push.
    pub push: Option<Push>,
    /// Sources that a host or an administrator muted, by peer id.
    pub muted: HashMap<Arc<str>, Sources>,
    /// Of the MLS group that its members may have.
    pub delivery: Delivery,
}

impl Room {
    /// The slots of its stage and of its views.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        let of_stage = self.stage.iter().flat_map(Stage::slots);
        of_stage.chain(self.views.iter().map(|view| &view.slot))
    }

    /// The same, to be filled.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        let of_stage = self.stage.iter_mut().flat_map(Stage::slots_mut);
        of_stage.chain(self.views.iter_mut().map(|view| &mut view.slot))
    }

    /// Mutes or unmutes a source of whoever has that name, for at most `limit` names.
    pub fn mute(
        &mut self,
        peer: &str,
        source: Source,
        muted: bool,
        limit: usize,
    ) -> Result<(), RequestError> {
        let of_peer = self.muted.get(peer).copied().unwrap_or(Sources::NONE);
        let sources = of_peer.with(source, muted);
        if sources == Sources::NONE {
            self.muted.remove(peer);
        } else if !self.muted.contains_key(peer) && self.muted.len() >= limit {
            return Err(too_many("muted participants of a room", limit));
        } else {
            self.muted.insert(Arc::from(peer), sources);
        }
        Ok(())
    }
}

impl Control {
    /// The room of that name, made for `peer` if there is none.
    pub(crate) fn room_named(&mut self, name: &str, peer: &str) -> RoomId {
        if let Some(room) = self.room_names.get(name) {
            return *room;
        }
        let id = RoomId(self.ids.next());
        let room = Room {
            name: name.to_owned(),
            by_peer: HashMap::new(),
            members: BTreeSet::new(),
            cores: RoomCores::default(),
            speakers: Speakers::default(),
            stage: None,
            views: Vec::new(),
            audience: Audience::default(),
            started: None,
            publishers: 0,
            locked: false,
            waiting_room: false,
            waiting: BTreeSet::new(),
            first: peer.to_owned(),
            announcers: BTreeMap::new(),
            announced: VecDeque::new(),
            recording: None,
            tap: None,
            push: None,
            muted: HashMap::new(),
            delivery: Delivery::default(),
        };
        self.rooms.insert(id, room);
        self.room_names.insert(name.to_owned(), id);
        id
    }

    /// Forgets a room that nobody is in, nor waits for.
    pub(crate) fn remove_room_if_empty(&mut self, id: RoomId) {
        let is_empty = |room: &Room| room.by_peer.is_empty() && room.waiting.is_empty();
        if self.handed_over == Some(id) || !self.rooms.get(&id).is_some_and(is_empty) {
            return;
        }
        self.end_stage(id);
        self.stop_recording(id);
        self.stop_tap(id);
        self.stop_push(id);
        if let Some(room) = self.rooms.remove(&id) {
            self.note_finished(id, &room);
            self.room_names.remove(&room.name);
            self.timers.cancel(Timer::Speakers(id));
            for producer in room.announcers.into_values() {
                self.remove_data_producer(producer);
            }
        }
    }

    /// Those who have entered a room, oldest first, without one of them.
    pub(crate) fn members_but(&self, room: RoomId, but: SessionId) -> Vec<SessionId> {
        if planted::is(Bug::OtherRoom) {
            return self.peers.keys().copied().filter(|session| *session != but).collect();
        }
        let Some(room) = self.rooms.get(&room) else { return Vec::new() };
        room.members.iter().copied().filter(|session| *session != but).collect()
    }

    /// A data core heard someone.
    pub(crate) fn heard(&mut self, core: CoreId, id: ProducerId, levels_dbov: AudioLevels) {
        let Some(producer) = self.producers.get(&id) else { return };
        // Each core that forwards a producer hears it; one is enough.
        if producer.home() != core || producer.paused || producer.kind != Kind::Audio {
            return;
        }
        let Some(peer) = self.peers.get(&producer.session) else { return };
        let room_id = peer.room;
        let Some(room) = self.rooms.get_mut(&room_id) else { return };
        let before = room.speakers.dominant();
        room.speakers.heard(self.now, id, levels_dbov);
        let is_taken = room.speakers.dominant() != before;
        if room.stage.is_some() {
            self.voice_on_stage(room_id, id);
        }
        if is_taken {
            self.review_stage(room_id);
        }
        self.tell_speakers(room_id);
    }

    /// Tells a room who speaks, if that is news, and sets its timer.
    pub(crate) fn tell_speakers(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let news = room.speakers.poll(self.now);
        match room.speakers.next_poll() {
            Time::NEVER => self.timers.cancel(Timer::Speakers(id)),
            // While anyone is heard the next level comes first and needs no timer.
            at => self.timers.set(Timer::Speakers(id), at + SILENCE),
        }
        let Some(news) = news else { return };
        let mut speakers: Vec<(Arc<str>, i8)> = Vec::with_capacity(news.len());
        for (producer, dbov) in news {
            let Some(producer) = self.producers.get(&producer) else { continue };
            let Some(peer) = self.peers.get(&producer.session) else { continue };
            // Someone with two microphones is as loud as the louder one.
            if !speakers.iter().any(|(name, _)| *name == peer.name) {
                speakers.push((peer.name.clone(), dbov));
            }
        }
        let speakers: Arc<[(Arc<str>, i8)]> = speakers.into();
        for session in room.members.iter().copied().collect::<Vec<_>>() {
            self.notify(session, Notification::Speakers(Arc::clone(&speakers)));
        }
    }
}
