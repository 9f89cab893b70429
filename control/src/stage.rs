//! The stage of a large room: a few producers for everyone, instead of everyone's.
//!
//! Above [`StageConfig::from`] participants who send, a room has `voices` and `videos` producers of
//! its own, each a slot. Data cores fill it from one participant at a time
//! (`dataplane/src/fanout/stage.rs`); who that is, is decided here. Clients that know nothing of it
//! see participants called `stage:1`, `stage:2` …, each with a voice, a picture or both, and with
//! the name of whose picture it is; those that do are told by [`Notification::Stage`]. Nobody gets
//! the slot that it is on. Whoever wants someone else asks for that one's producers. What is
//! encrypted end to end is not on stage but offered to everyone, as in small rooms: receivers have
//! keys by sender, and a slot has none.
//!
//! ```text
//! heard        ──▶ voices: the loudest; a slot that is silent is taken first
//! the floor    ──▶ recent ─┐
//! screens      ────────────┴─▶ videos: screens, who spoke last, who is there already
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{Command, CoreId, ProducerId};
use opencall_wire::time::Time;
use rand::RngExt as _;

use crate::api::{ConsumeMode, JsonObject, Notification, PeerInfo, SessionId, Source, StagePlace};
use crate::control::Control;
use crate::limits::MAX_STAGE_SLOTS;
use crate::peer::Peer;
use crate::producer::Producer;
use crate::room::RoomId;
use crate::rtp_parameters::Kind;

/// A voice takes another's place when it is so much louder, dB: words differ by less.
const LOUDER_DB: i32 = 6;

/// For so long a voice keeps its place against a louder one.
const VOICE_STAYS: Duration = Duration::from_secs(1);

/// For so long whose key frame did not come is not tried again, if there is anybody else.
const REFUSED: Duration = Duration::from_secs(10);

/// When rooms have a stage, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageConfig {
    /// Participants who send from which on a room has one; 0: none has.
    pub from: usize,
    /// Voices.
    pub voices: usize,
    /// Pictures.
    pub videos: usize,
}

impl Default for StageConfig {
    fn default() -> Self {
        StageConfig { from: 0, voices: 3, videos: 9 }
    }
}

/// The stage of one room.
pub(crate) struct Stage {
    /// Voices first.
    slots: Vec<Slot>,
    /// Those who had the floor, the last first; no more than there are pictures.
    recent: Vec<SessionId>,
}

/// A place on the stage, or a view of a room.
pub(crate) struct Slot {
    kind: Kind,
    /// Its producer.
    producer: ProducerId,
    /// Whom it carries, and since when.
    shown: Option<ProducerId>,
    since: Time,
    /// Whom it carries next, once a packet has come that it may begin with.
    next: Option<ProducerId>,
    /// Whose key frame did not come, and when that was.
    refused: Option<(ProducerId, Time)>,
}

impl Slot {
    /// An empty one.
    pub fn new(kind: Kind, producer: ProducerId, since: Time) -> Self {
        Slot { kind, producer, shown: None, since, next: None, refused: None }
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its producer.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Whom it carries, or is about to.
    pub fn source(&self) -> Option<ProducerId> {
        self.next.or(self.shown)
    }

    /// Whether nothing came of a source a short while ago.
    pub fn has_refused(&self, now: Time, source: ProducerId) -> bool {
        self.refused.is_some_and(|(refused, at)| refused == source && now.since(at) < REFUSED)
    }

    fn is_for(&self, source: ProducerId) -> bool {
        self.next.or(self.shown) == Some(source)
    }
}

/// What makes a producer one of the stage.
pub(crate) struct Seat {
    pub room: RoomId,
    /// Who it is for clients that know nothing of the stage.
    pub peer: Arc<str>,
}

impl Stage {
    /// Its slots.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Its slots, to be filled.
    pub fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    /// The ids of the slots' producers.
    pub fn producers(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.slots.iter().map(|slot| slot.producer)
    }

    fn slot_of(&self, producer: ProducerId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.producer == producer)
    }

    /// Whether a slot is for this source.
    fn has(&self, source: ProducerId) -> bool {
        self.slots.iter().any(|slot| slot.is_for(source))
    }
}

/// What the names of a stage's participants begin with; a number follows.
const SLOT_PREFIX: &str = "stage:";

/// Who a slot's producer is for clients that know nothing of the stage.
fn peer_name(number: usize) -> Arc<str> {
    format!("{SLOT_PREFIX}{}", number + 1).into()
}

/// Whether somebody of that name would be taken for a slot.
pub(crate) fn is_slot_name(name: &str) -> bool {
    let number = name.strip_prefix(SLOT_PREFIX);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `{"stage": true, "slot": 0}` as appData; the device of a slot's participant.
fn marked(members: serde_json::Value) -> JsonObject {
    serde_json::from_value(members).unwrap_or_default()
}

impl Control {
    /// Whether a room has a stage.
    pub(crate) fn has_stage(&self, id: RoomId) -> bool {
        self.rooms.get(&id).is_some_and(|room| room.stage.is_some())
    }

    /// Makes a room's stage, or ends it, by how many send.
    pub(crate) fn review_size(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let from = self.config.stage.from;
        if from == 0 {
            return;
        }
        // What is encrypted end to end has no place on a stage.
        let is_for_stage =
            |id: &ProducerId| self.producers.get(id).is_some_and(|of| !of.is_encrypted());
        let sends = |session: &&SessionId| {
            self.peers.get(session).is_some_and(|peer| peer.producers.iter().any(is_for_stage))
        };
        let senders = room.members.iter().filter(sends).count();
        match &room.stage {
            None if senders >= from => self.make_stage(id),
            // A few who come and go do not turn everything over each time.
            Some(_) if senders < from - from / 3 => self.end_stage(id),
            _ => {}
        }
    }

    fn make_stage(&mut self, id: RoomId) {
        let StageConfig { voices, videos, .. } = self.config.stage;
        let cname = format!("stage-{:016x}", self.rng.random::<u64>());
        let kinds = [(Kind::Audio, voices), (Kind::Video, videos)];
        let mut slots = Vec::new();
        for (kind, count) in kinds {
            for number in 0..count.min(MAX_STAGE_SLOTS) {
                let seat = Seat { room: id, peer: peer_name(number) };
                let app_data = marked(serde_json::json!({"stage": true, "slot": number}));
                let Some(producer) = self.make_stage_producer(kind, seat, app_data, &cname) else {
                    continue;
                };
                slots.push(Slot::new(kind, producer, self.now));
            }
        }
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.stage = Some(Stage { slots, recent: Vec::new() });
        let members: Vec<SessionId> = room.members.iter().copied().collect();
        self.hush_offers(&members);
        for peer in self.stage_peers(id) {
            for &session in &members {
                self.notify(session, Notification::NewPeer(Arc::clone(&peer)));
            }
        }
        for &session in &members {
            self.offer_stage(session);
        }
        self.review_stage(id);
    }

    /// What was offered of participants to each other is taken back, but what is encrypted.
    fn hush_offers(&mut self, members: &[SessionId]) {
        for session in members {
            let Some(peer) = self.peers.get_mut(session) else { continue };
            let producers = &self.producers;
            let stays = |id: &ProducerId| producers.get(id).is_some_and(Producer::is_encrypted);
            let consumers = peer.consumers.iter().filter(|(of, _)| !stays(of));
            let consumers: Vec<_> = consumers.map(|(_, consumer)| *consumer).collect();
            let notified = std::mem::take(&mut peer.notified_producers);
            let (kept, notified) = notified.into_iter().partition::<BTreeSet<_>, _>(stays);
            peer.notified_producers = kept;
            for consumer in consumers {
                self.close_consumer(consumer);
            }
            for producer in notified {
                let producer_id = self.ids.text(producer.0);
                self.notify(*session, Notification::ProducerClosed { producer_id });
            }
        }
    }

    /// A room is small again, or nobody is in it.
    pub(crate) fn end_stage(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let members: Vec<SessionId> = room.members.iter().copied().collect();
        let peers = self.stage_peers(id);
        let Some(stage) = self.rooms.get_mut(&id).and_then(|room| room.stage.take()) else {
            return;
        };
        for slot in &stage.slots {
            self.end_slot(slot, &members);
        }
        for peer in peers {
            for &session in &members {
                let peer_id = Arc::clone(&peer.id);
                self.notify(session, Notification::PeerClosed { peer_id });
            }
        }
        for session in members {
            self.name_received(session);
            self.offer_existing(session);
        }
    }

    /// A client that asks for itself is told what it received beside the stage like all the rest:
    /// what it gives up just now would else be offered to it by nobody.
    fn name_received(&mut self, session: SessionId) {
        let asks = |peer: &&Peer| peer.mode == ConsumeMode::OnRequest;
        let Some(peer) = self.peers.get(&session).filter(asks) else { return };
        for producer in peer.consumers.keys().copied().collect::<Vec<_>>() {
            self.notify_producer(session, producer);
        }
    }

    /// A slot is no longer there, of which these members were told.
    pub(crate) fn end_slot(&mut self, slot: &Slot, members: &[SessionId]) {
        for source in slot.shown.into_iter().chain(slot.next) {
            self.release(slot.producer, source);
        }
        self.remove_stage_producer(slot.producer, members);
    }

    /// The participants as which a room's slots are seen.
    pub(crate) fn stage_peers(&self, id: RoomId) -> Vec<Arc<PeerInfo>> {
        let Some(stage) = self.rooms.get(&id).and_then(|room| room.stage.as_ref()) else {
            return Vec::new();
        };
        let count = |kind| stage.slots.iter().filter(|slot| slot.kind == kind).count();
        let pictures = stage.slots.iter().filter(|slot| slot.kind == Kind::Video);
        let mut shown = pictures.map(|slot| slot.shown);
        let peers = 0..count(Kind::Audio).max(count(Kind::Video));
        let peer = |number| {
            let source = shown.next().flatten();
            let display_name = source.map_or_else(String::new, |source| self.name_of(source));
            let device = marked(serde_json::json!({"flag": "stage", "name": "stage"}));
            Arc::new(PeerInfo { id: peer_name(number), display_name, device })
        };
        peers.map(peer).collect()
    }

    /// The name that whoever sends a producer shows.
    fn name_of(&self, source: ProducerId) -> String {
        let producer = self.producers.get(&source);
        let peer = producer.and_then(|producer| self.peers.get(&producer.session));
        peer.map_or_else(String::new, |peer| peer.info.display_name.clone())
    }

    /// Offers a client all slots, and tells it who is on which.
    pub(crate) fn offer_stage(&mut self, session: SessionId) {
        let Some(room) = self.peers.get(&session).map(|peer| peer.room) else { return };
        let Some(stage) = self.rooms.get(&room).and_then(|room| room.stage.as_ref()) else {
            return;
        };
        let producers: Vec<ProducerId> = stage.producers().collect();
        for &producer in &producers {
            self.offer(session, producer);
        }
        let places = self.places_of(room, |_| true);
        self.notify(session, Notification::Stage(places));
    }

    /// Who is where.
    fn places_of(&self, room: RoomId, told: impl Fn(ProducerId) -> bool) -> Arc<[StagePlace]> {
        let Some(stage) = self.rooms.get(&room).and_then(|room| room.stage.as_ref()) else {
            return Arc::from([]);
        };
        let mut numbers = [0, 0];
        let mut places = Vec::new();
        for slot in &stage.slots {
            let number = &mut numbers[usize::from(slot.kind == Kind::Video)];
            let place = StagePlace {
                slot: *number,
                kind: slot.kind,
                producer_id: self.ids.text(slot.producer.0),
                peer_id: None,
                display_name: None,
                source_producer_id: None,
                source: None,
            };
            *number += 1;
            if !told(slot.producer) {
                continue;
            }
            let shown = slot.shown.and_then(|id| Some((id, self.producers.get(&id)?)));
            let place = shown.map_or(place.clone(), |(id, producer)| StagePlace {
                peer_id: self.peers.get(&producer.session).map(|peer| Arc::clone(&peer.name)),
                display_name: Some(self.name_of(id)),
                source_producer_id: Some(self.ids.text(id.0)),
                source: Some(producer.source()),
                ..place
            });
            places.push(place);
        }
        places.into()
    }

    /// Whom a producer of the stage carries or is about to.
    pub(crate) fn sources_on(&self, stage: ProducerId) -> [Option<ProducerId>; 2] {
        let seat = self.producers.get(&stage).and_then(|producer| producer.seat.as_ref());
        let room = seat.and_then(|seat| self.rooms.get(&seat.room));
        let slot = room.and_then(|room| room.slots().find(|slot| slot.producer == stage));
        slot.map_or([None; 2], |slot| [slot.shown, slot.next])
    }

    /// Whether a client is on that slot, and is not sent it.
    pub(crate) fn is_own_slot(&self, session: SessionId, stage: ProducerId) -> bool {
        let is_own = |source: ProducerId| {
            self.producers.get(&source).is_some_and(|producer| producer.session == session)
        };
        self.sources_on(stage).into_iter().flatten().any(is_own)
    }

    /// A producer has come, is gone, was paused or resumed, or somebody has the floor: decides anew
    /// who is on stage.
    pub(crate) fn review_stage(&mut self, id: RoomId) {
        self.review_views(id);
        let Some(room) = self.rooms.get(&id).filter(|room| room.stage.is_some()) else { return };
        let dominant = room.speakers.dominant();
        let holder = dominant.and_then(|id| self.producers.get(&id)).map(|of| of.session);
        let Some(stage) = self.rooms.get_mut(&id).and_then(|room| room.stage.as_mut()) else {
            return;
        };
        if let Some(holder) = holder {
            let pictures = stage.slots.iter().filter(|slot| slot.kind == Kind::Video).count();
            stage.recent.retain(|session| *session != holder);
            stage.recent.insert(0, holder);
            stage.recent.truncate(pictures.max(1));
        }
        self.review_pictures(id);
    }

    /// Puts those pictures on stage that should be there.
    fn review_pictures(&mut self, id: RoomId) {
        let wanted = self.wanted_pictures(id);
        let Some(stage) = self.rooms.get(&id).and_then(|room| room.stage.as_ref()) else { return };
        let (mut free, mut changes) = (Vec::new(), Vec::new());
        for slot in stage.slots.iter().filter(|slot| slot.kind == Kind::Video) {
            if !slot.source().is_some_and(|source| wanted.contains(&source)) {
                free.push(slot);
            }
        }
        for &source in wanted.iter().filter(|source| !stage.has(**source)) {
            if let Some(slot) = free.pop() {
                changes.push((slot.producer, Some(source)));
            }
        }
        let is_gone = |slot: &&Slot| slot.source().is_some_and(|source| !self.is_sending(source));
        changes.extend(free.into_iter().filter(is_gone).map(|slot| (slot.producer, None)));
        for (slot, source) in changes {
            self.put(slot, source);
        }
    }

    /// The pictures for the slots: screens, who spoke last, who is there already, the others.
    fn wanted_pictures(&self, id: RoomId) -> Vec<ProducerId> {
        let Some(room) = self.rooms.get(&id) else { return Vec::new() };
        let Some(stage) = &room.stage else { return Vec::new() };
        let slots = || stage.slots.iter().filter(|slot| slot.kind == Kind::Video);
        let count = slots().count();
        let is_refused = |id: ProducerId| slots().any(|slot| slot.has_refused(self.now, id));
        let of = |session: &SessionId, source: Source| self.sent_by(session, source);
        let screens = room.members.iter().rev().filter_map(|peer| of(peer, Source::ScreenShare));
        let recent = stage.recent.iter().filter_map(|peer| of(peer, Source::Camera));
        let present = slots().filter_map(Slot::source);
        let present = present.filter(|id| self.is_sending(*id));
        let others = room.members.iter().filter_map(|peer| of(peer, Source::Camera));
        let mut wanted = Vec::with_capacity(count);
        // Who was refused stays where it is, and is put nowhere for a while.
        let newcomers = |id: &ProducerId| stage.has(*id) || !is_refused(*id);
        let first = screens.chain(recent).filter(newcomers);
        for id in first.chain(present).chain(others.filter(newcomers)) {
            if wanted.len() == count {
                break;
            }
            if !wanted.contains(&id) {
                wanted.push(id);
            }
        }
        wanted
    }

    /// Whether something of a producer is to be had.
    pub(crate) fn is_sending(&self, id: ProducerId) -> bool {
        self.producers.get(&id).is_some_and(|producer| !producer.paused)
    }

    /// A voice of a room with a stage is heard.
    pub(crate) fn voice_on_stage(&mut self, id: RoomId, voice: ProducerId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let Some(stage) = &room.stage else { return };
        let is_encrypted = self.producers.get(&voice).is_some_and(Producer::is_encrypted);
        if stage.has(voice) || is_encrypted {
            return;
        }
        let Some(level) = room.speakers.level(self.now, voice) else { return };
        let dominant = room.speakers.dominant();
        // Which slot gives way first: an empty one, a silent one, the quietest.
        let rank = |slot: &Slot| match slot.source() {
            Some(shown) if self.is_sending(shown) => room.speakers.level(self.now, shown),
            _ => Some(i32::MIN),
        };
        let mut places: Vec<(i32, ProducerId)> = Vec::new();
        for slot in &stage.slots {
            let stays = slot.shown == dominant && dominant.is_some()
                || self.now.since(slot.since) < VOICE_STAYS && slot.source().is_some();
            if slot.kind == Kind::Audio {
                match rank(slot) {
                    None => places.push((i32::MIN + 1, slot.producer)),
                    Some(i32::MIN) => places.push((i32::MIN, slot.producer)),
                    Some(other) if !stays && level >= other + LOUDER_DB => {
                        places.push((other, slot.producer));
                    }
                    Some(_) => {}
                }
            }
        }
        if let Some(&(_, slot)) = places.iter().min() {
            self.put(slot, Some(voice));
        }
    }

    /// Puts a source on a slot, or takes the one that is there away.
    pub(crate) fn put(&mut self, stage: ProducerId, source: Option<ProducerId>) {
        let now = self.now;
        let Some(slot) = self.slot_mut(stage) else { return };
        let (shown, next) = (slot.shown, slot.next);
        slot.since = now;
        slot.next = source.filter(|source| shown != Some(*source));
        if let Some(next) = next.filter(|next| Some(*next) != source) {
            self.release(stage, next);
        }
        let Some(home) = self.producers.get(&stage).map(|producer| producer.home()) else { return };
        let Some(source) = source else {
            if let Some(slot) = self.slot_mut(stage) {
                slot.shown = None;
            }
            self.command(home, Command::SetStage { stage, source: None, shown: None });
            if let Some(shown) = shown {
                self.release(stage, shown);
            }
            return self.tell_stage(stage);
        };
        if shown != Some(source) && next != Some(source) {
            self.reach(source, home);
            self.withhold(stage, source);
        }
        self.command(home, Command::SetStage { stage, source: Some(source), shown });
        self.share_demand(stage);
    }

    fn slot_mut(&mut self, stage: ProducerId) -> Option<&mut Slot> {
        let room = self.producers.get(&stage)?.seat.as_ref()?.room;
        self.rooms.get_mut(&room)?.slots_mut().find(|slot| slot.producer == stage)
    }

    /// A data core has put a source on stage. A core that took another's place says it also of who
    /// was there: what is to come after that is still to come.
    pub(crate) fn stage_taken(&mut self, core: CoreId, stage: ProducerId, source: ProducerId) {
        let is_home = self.producers.get(&stage).is_some_and(|of| of.home() == core);
        if is_home && self.slot_mut(stage).is_some_and(|slot| slot.next == Some(source)) {
            self.take_stage(stage, source);
        }
    }

    /// Nothing came of a source: the one that is on stage stays.
    pub(crate) fn stage_refused(&mut self, core: CoreId, stage: ProducerId, source: ProducerId) {
        let Some(producer) = self.producers.get(&stage).filter(|of| of.home() == core) else {
            return;
        };
        let Some(room) = producer.seat.as_ref().map(|seat| seat.room) else { return };
        let now = self.now;
        let Some(slot) = self.slot_mut(stage).filter(|slot| slot.next == Some(source)) else {
            return;
        };
        slot.next = None;
        slot.refused = Some((source, now));
        let shown = slot.shown;
        self.release(stage, source);
        self.settle_stage(stage, shown);
        self.review_pictures(room);
        self.review_views(room);
    }

    /// A slot carries its next source from now on.
    fn take_stage(&mut self, stage: ProducerId, source: ProducerId) {
        let now = self.now;
        let Some(slot) = self.slot_mut(stage) else { return };
        (slot.next, slot.since) = (None, now);
        let before = slot.shown.replace(source);
        if let Some(before) = before.filter(|before| *before != source) {
            self.release(stage, before);
        }
        self.settle_stage(stage, Some(source));
        self.tell_stage(stage);
    }

    /// Tells the home of a slot whom it carries and goes on to, as it knows: a core that takes its
    /// place is told the same.
    fn settle_stage(&mut self, stage: ProducerId, shown: Option<ProducerId>) {
        let Some(home) = self.producers.get(&stage).map(|producer| producer.home()) else { return };
        self.command(home, Command::SetStage { stage, source: shown, shown });
    }

    /// A slot no longer needs a source.
    fn release(&mut self, stage: ProducerId, source: ProducerId) {
        let Some(home) = self.producers.get(&stage).map(|producer| producer.home()) else { return };
        self.withhold(stage, source);
        if let Some(producer) = self.producers.get_mut(&source) {
            producer.demand.set_on_stage(stage, 0);
        }
        self.review_demand(source);
        self.unreach(source, home);
    }

    /// Whoever is on a slot is not sent it.
    fn withhold(&mut self, stage: ProducerId, source: ProducerId) {
        let Some(owner) = self.producers.get(&source).map(|producer| producer.session) else {
            return;
        };
        let withheld = self.is_own_slot(owner, stage);
        let consumer = self.peers.get(&owner).and_then(|peer| peer.consumers.get(&stage));
        if let Some(&consumer) = consumer {
            self.withhold_consumer(consumer, withheld);
        }
    }

    /// What is wanted of a slot's producer is wanted of its sources.
    pub(crate) fn share_demand(&mut self, stage: ProducerId) {
        let Some(count) = self.producers.get(&stage).map(|of| of.demand.wanted_most()) else {
            return;
        };
        for source in self.sources_on(stage).into_iter().flatten() {
            if let Some(producer) = self.producers.get_mut(&source) {
                let most = u8::try_from(producer.encoding_count()).unwrap_or(u8::MAX);
                producer.demand.set_on_stage(stage, count.min(most));
            }
            self.review_demand(source);
        }
    }

    /// Tells a room who is on a slot now.
    fn tell_stage(&mut self, stage: ProducerId) {
        let seat = self.producers.get(&stage).and_then(|of| of.seat.as_ref());
        let Some(id) = seat.map(|seat| seat.room) else { return };
        let Some(room) = self.rooms.get(&id) else { return };
        let slot = room.stage.as_ref().and_then(|of| of.slots.get(of.slot_of(stage)?));
        let Some(slot) = slot else {
            // Of a view only those are told who watch it.
            let shown = self.sources_on(stage)[0];
            return self.set_stage_empty(stage, shown.is_none());
        };
        let (shown, kind) = (slot.shown, slot.kind);
        let members: Vec<SessionId> = room.members.iter().copied().collect();
        let display_name = shown.map_or_else(String::new, |source| self.name_of(source));
        let peer_id = self.producers.get(&stage).and_then(|of| of.seat.as_ref());
        let Some(peer_id) = peer_id.map(|seat| Arc::clone(&seat.peer)) else { return };
        let places = self.places_of(id, |producer| producer == stage);
        for &session in &members {
            self.notify(session, Notification::Stage(Arc::clone(&places)));
            if kind == Kind::Video {
                let news = Notification::PeerDisplayNameChanged {
                    peer_id: Arc::clone(&peer_id),
                    display_name: display_name.clone(),
                    old_display_name: String::new(),
                };
                self.notify(session, news);
            }
        }
        self.set_stage_empty(stage, shown.is_none());
    }

    /// A producer is gone or paused: the stage goes on without it.
    pub(crate) fn leave_stage(&mut self, id: RoomId, source: ProducerId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let held = |slot: &&Slot| slot.shown == Some(source) || slot.next == Some(source);
        let held = room.slots().filter(held).map(|slot| (slot.producer, slot.shown, slot.next));
        for (stage, shown, next) in held.collect::<Vec<_>>() {
            if shown != Some(source) {
                self.put(stage, shown);
                continue;
            }
            self.put(stage, None);
            if let Some(next) = next.filter(|next| *next != source) {
                self.put(stage, Some(next));
            }
        }
    }
}
