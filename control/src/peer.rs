//! Peers: one per signaling session, from its opening over its entry into the room to its end.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::advice::{self, Advised};
use crate::api::{
    CloseReason, ConnectionQuality, ConsumeMode, Device, Entrance, Grants, JsonObject,
    Notification, Offered, Output, PeerInfo, RequestError, Response, Sender, SessionConfig,
    SessionId,
};
use crate::control::{After, Control, Timer};
use crate::data::{DataConsumerId, DataProducerId};
use crate::limits::{
    MAX_DEVICE_BYTES, MAX_DISPLAY_NAME_BYTES, MAX_PEERS_PER_ANSWER, check_json, malformed,
    not_allowed, overloaded, too_many, unknown,
};
use crate::ortc;
use crate::push::Push;
use crate::recording::Recording;
use crate::room::{Room, RoomId};
use crate::rtp_parameters::RtpCapabilities;
use opencall_dataplane::message::{ConsumerId, CoreId, IceState, ProducerId, TransportId};
use opencall_wire::time::Time;

/// One client of one room.
pub(crate) struct Peer {
    pub room: RoomId,
    /// Peer (participant) id.
    pub name: Arc<str>,
    pub mode: ConsumeMode,
    pub grants: Grants,
    /// Whether its place stays its own when the room is locked before it has entered: a host let it
    /// in, or it has come back on another connection.
    pub let_in: bool,
    /// Whether it has entered the room: others know it.
    pub joined: bool,
    /// Since when.
    pub joined_at: Time,
    /// It as others see it, once it has entered.
    pub info: Arc<PeerInfo>,
    /// What it can receive, once it has said so.
    pub capabilities: Option<Arc<RtpCapabilities>>,
    /// Which video codecs it decodes, once it has said so: one bit for each.
    pub decodes: Option<u8>,
    /// What it is told of codecs, if it asked.
    pub advised: Option<Box<Advised>>,
    /// Where its transports live, once it has one.
    pub core: Option<CoreId>,
    pub transports: Vec<TransportId>,
    pub producers: Vec<ProducerId>,
    /// At most one per producer.
    pub consumers: BTreeMap<ProducerId, ConsumerId>,
    /// On-request mode: producers it was notified of, each once.
    pub notified_producers: BTreeSet<ProducerId>,
    pub data_producers: Vec<DataProducerId>,
    /// At most one per data producer.
    pub data_consumers: BTreeMap<DataProducerId, DataConsumerId>,
    /// On-request mode: data producers it was notified of, each once.
    pub notified_data_producers: BTreeSet<DataProducerId>,
    /// Of its consumers whose score is known: how many, and their sum.
    pub received_scores: (u32, u32),
    /// As last told.
    pub quality: Option<ConnectionQuality>,
    /// Questions about statistics that wait for answers.
    pub stats_jobs: usize,
}

impl Peer {
    /// Keeps the sum of scores: each report of one of many consumers would add them all up anew.
    pub fn replace_received_score(&mut self, old: Option<u8>, new: Option<u8>) {
        let (count, sum) = &mut self.received_scores;
        if let Some(old) = old {
            (*count, *sum) = (count.saturating_sub(1), sum.saturating_sub(u32::from(old)));
        }
        if let Some(new) = new {
            (*count, *sum) = (*count + 1, *sum + u32::from(new));
        }
    }

    /// Whether others know of it.
    pub fn is_seen(&self) -> bool {
        self.joined && !self.grants.hidden
    }

    fn introduce(&mut self, display_name: String, device: JsonObject) {
        let id = Arc::clone(&self.name);
        self.info = Arc::new(PeerInfo { id, display_name, device });
    }
}

impl Control {
    /// Opens a session with a place in its room.
    pub(crate) fn admit(&mut self, session: SessionId, config: SessionConfig) {
        self.give_place(session, config);
        self.output(Output::Opened { session });
    }

    /// Opens a session in the place of an older one of the same peer, which was there rightly.
    pub(crate) fn admit_again(&mut self, session: SessionId, config: SessionConfig) {
        self.admit(session, config);
        self.let_in(session);
    }

    /// Its place stays its own, whether the room is locked or not.
    pub(crate) fn let_in(&mut self, session: SessionId) {
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.let_in = true;
        }
    }

    /// Gives a session its place in its room.
    pub(crate) fn give_place(&mut self, session: SessionId, mut config: SessionConfig) {
        let room = self.room_named(&config.room, &config.peer);
        let is_host = self.rooms.get(&room).is_some_and(|room| self.is_host(room, &config));
        config.grants.admin = is_host;
        if let Some(room) = self.rooms.get_mut(&room) {
            room.by_peer.insert(config.peer.clone(), session);
        }
        let name: Arc<str> = config.peer.into();
        let info = PeerInfo {
            id: Arc::clone(&name),
            display_name: String::new(),
            device: JsonObject::default(),
        };
        let peer = Peer {
            room,
            name,
            mode: config.consume_mode,
            grants: config.grants,
            let_in: false,
            joined: false,
            joined_at: self.now,
            info: Arc::new(info),
            capabilities: None,
            decodes: None,
            advised: None,
            core: None,
            transports: Vec::new(),
            producers: Vec::new(),
            consumers: BTreeMap::new(),
            notified_producers: BTreeSet::new(),
            data_producers: Vec::new(),
            data_consumers: BTreeMap::new(),
            notified_data_producers: BTreeSet::new(),
            received_scores: (0, 0),
            quality: None,
            stats_jobs: 0,
        };
        self.peers.insert(session, peer);
    }

    pub(crate) fn peer(&self, session: SessionId) -> Result<&Peer, RequestError> {
        self.peers.get(&session).ok_or_else(session_is_gone)
    }

    pub(crate) fn peer_mut(&mut self, session: SessionId) -> Result<&mut Peer, RequestError> {
        self.peers.get_mut(&session).ok_or_else(session_is_gone)
    }

    pub(crate) fn join(
        &mut self,
        session: SessionId,
        display_name: String,
        device: JsonObject,
        capabilities: Option<RtpCapabilities>,
        codec_hints: Option<Device>,
    ) -> Result<(Response, After), RequestError> {
        check_display_name(&display_name)?;
        check_json("device", &device, MAX_DEVICE_BYTES)?;
        if self.peer(session)?.joined {
            return Err(not_allowed("already joined: join once per connection"));
        }
        self.ask_for_advice(session, codec_hints);
        self.enter(session, display_name, device, capabilities)
    }

    pub(crate) fn set_rtp_capabilities(
        &mut self,
        session: SessionId,
        capabilities: RtpCapabilities,
        display_name: Option<String>,
        codec_hints: Option<Device>,
    ) -> Result<(Response, After), RequestError> {
        let display_name = display_name.unwrap_or_default();
        check_display_name(&display_name)?;
        self.ask_for_advice(session, codec_hints);
        let peer = self.peer(session)?;
        if !peer.joined {
            return self.enter(session, display_name, JsonObject::default(), Some(capabilities));
        }
        if peer.capabilities.is_some() {
            return Err(not_allowed("rtpCapabilities are known already: set them once"));
        }
        ortc::validate_rtp_capabilities(&capabilities).map_err(|e| malformed(e.to_string()))?;
        let decodes = advice::decoded(&self.router, &capabilities);
        let capabilities = self.known_capabilities.share(capabilities);
        let peer = self.peer_mut(session)?;
        (peer.capabilities, peer.decodes) = (Some(capabilities), Some(decodes));
        Ok((self.joined(session)?, After::Offer))
    }

    fn enter(
        &mut self,
        session: SessionId,
        display_name: String,
        device: JsonObject,
        capabilities: Option<RtpCapabilities>,
    ) -> Result<(Response, After), RequestError> {
        if let Some(capabilities) = &capabilities {
            ortc::validate_rtp_capabilities(capabilities).map_err(|e| malformed(e.to_string()))?;
        }
        if self.placement.is_exhausted() {
            return Err(overloaded());
        }
        let room = self.peer(session)?.room;
        let limit = self.config.limits.peers_per_room;
        let Some(room) = self.rooms.get_mut(&room) else { return Err(session_is_gone()) };
        if room.members.len() >= limit {
            return Err(too_many("peers in a room", limit));
        }
        room.members.insert(session);
        self.joins += 1;
        let now = self.now;
        let decodes = capabilities.as_ref().map(|own| advice::decoded(&self.router, own));
        let capabilities = capabilities.map(|own| self.known_capabilities.share(own));
        let peer = self.peer_mut(session)?;
        peer.decodes = decodes;
        (peer.joined, peer.joined_at) = (true, now);
        let display_name = peer.grants.display_name.clone().unwrap_or(display_name);
        peer.introduce(display_name, device);
        peer.capabilities = capabilities;
        self.end_left_of(session);
        Ok((self.joined(session)?, After::Entered))
    }

    fn ask_for_advice(&mut self, session: SessionId, hints: Option<Device>) {
        if let (Some(peer), Some(hints)) = (self.peers.get_mut(&session), hints) {
            peer.advised.get_or_insert_with(|| Box::new(Advised::new(hints)));
        }
    }

    /// The answer to one who enters.
    fn joined(&mut self, session: SessionId) -> Result<Response, RequestError> {
        let advice = self.first_advice(session);
        let peer = self.peer(session)?;
        let room = self.rooms.get(&peer.room);
        let entrance = Entrance {
            can: peer.grants.rights(),
            locked: room.is_some_and(|room| room.locked),
            waiting_room: room.is_some_and(|room| room.waiting_room),
            recording: room.and_then(|of| of.recording.as_ref()).is_some_and(Recording::is_on),
            tapped: room.is_some_and(|room| room.tap.is_some()),
            pushed: room.and_then(|of| of.push.as_ref()).is_some_and(Push::is_on),
            has_mls: room.is_some_and(|room| room.delivery.has_group()),
            advice,
        };
        let peers = self.other_peers(session)?;
        Ok(Response::Joined { peers, entrance: Box::new(entrance) })
    }

    fn other_peers(&self, session: SessionId) -> Result<Vec<Arc<PeerInfo>>, RequestError> {
        let others = self.members_but(self.peer(session)?.room, session);
        let others = others.iter().filter_map(|other| self.peers.get(other));
        let visible = others.filter(|peer| !peer.grants.hidden);
        let visible = visible.map(|peer| Arc::clone(&peer.info));
        let room = self.peer(session)?.room;
        if !self.has_stage(room) {
            return Ok(visible.collect());
        }
        let stage = self.stage_peers(room).into_iter();
        Ok(stage.chain(visible.take(MAX_PEERS_PER_ANSWER)).collect())
    }

    /// A page of those who are in the room.
    pub(crate) fn participants(
        &self,
        session: SessionId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Response, RequestError> {
        let peer = self.peer(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: then ask who is there"));
        }
        peer.grants.check_subscribe()?;
        let Some(room) = self.rooms.get(&peer.room) else { return Err(session_is_gone()) };
        let after = match after {
            None => SessionId(0),
            Some(name) => self.seen_in(room, name).ok_or_else(|| unknown("participant", name))?,
        };
        let limit = limit.clamp(1, MAX_PEERS_PER_ANSWER);
        let rest = room.members.range((Bound::Excluded(after), Bound::Unbounded));
        let rest = rest.filter(|other| **other != session).filter_map(|id| self.peers.get(id));
        let mut rest = rest.filter(|peer| !peer.grants.hidden).peekable();
        let participants: Vec<Sender> =
            rest.by_ref().take(limit).map(|peer| self.sender(peer)).collect();
        let last = participants.last().map(|last| Arc::clone(&last.peer.id));
        let next = rest.peek().and(last);
        Ok(Response::Participants { participants, next, count: self.count_seen(room) })
    }

    /// Those of these who are in the room: a client that shows a page of others keeps it true.
    pub(crate) fn named_participants(
        &self,
        session: SessionId,
        names: &[String],
    ) -> Result<Response, RequestError> {
        let peer = self.peer(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: then ask who is there"));
        }
        peer.grants.check_subscribe()?;
        if names.len() > MAX_PEERS_PER_ANSWER {
            return Err(too_many("participants in one request", MAX_PEERS_PER_ANSWER));
        }
        let Some(room) = self.rooms.get(&peer.room) else { return Err(session_is_gone()) };
        let named = names.iter().filter_map(|name| room.by_peer.get(name));
        let named = named.filter(|other| **other != session).filter_map(|id| self.peers.get(id));
        let named = named.filter(|peer| peer.joined && !peer.grants.hidden);
        let participants = named.map(|peer| self.sender(peer)).collect();
        Ok(Response::Participants { participants, next: None, count: self.count_seen(room) })
    }

    /// Who has entered a room under a name, for others to see.
    fn seen_in(&self, room: &Room, name: &str) -> Option<SessionId> {
        let session = *room.by_peer.get(name)?;
        self.peers.get(&session).is_some_and(Peer::is_seen).then_some(session)
    }

    /// How many have entered a room for others to see.
    fn count_seen(&self, room: &Room) -> usize {
        let members = room.members.iter().filter_map(|id| self.peers.get(id));
        members.filter(|peer| peer.is_seen()).count()
    }

    fn sender(&self, peer: &Peer) -> Sender {
        let offered = |id: &ProducerId| {
            let producer = self.producers.get(id)?;
            Some(Offered {
                producer_id: self.ids.text(id.0),
                kind: producer.kind,
                source: producer.source().label(),
                paused: producer.paused,
                encrypted: producer.is_encrypted(),
            })
        };
        let producers = peer.producers.iter().filter_map(offered).collect();
        Sender { peer: Arc::clone(&peer.info), producers }
    }

    /// Tells the others that someone has entered.
    pub(crate) fn announce_peer(&mut self, session: SessionId) {
        let Some(peer) = self.peers.get(&session) else { return };
        if peer.grants.hidden {
            return;
        }
        let info = Arc::clone(&peer.info);
        for other in self.members_but(peer.room, session) {
            self.notify(other, Notification::NewPeer(Arc::clone(&info)));
        }
    }

    pub(crate) fn change_display_name(
        &mut self,
        session: SessionId,
        display_name: String,
    ) -> Result<(), RequestError> {
        check_display_name(&display_name)?;
        let peer = self.peer_mut(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: until then nobody sees the name"));
        }
        peer.grants.check_rename()?;
        let old = Arc::clone(&peer.info);
        peer.introduce(display_name, old.device.clone());
        if peer.grants.hidden {
            return Ok(());
        }
        let (room, info) = (peer.room, Arc::clone(&peer.info));
        for other in self.members_but(room, session) {
            let news = Notification::PeerDisplayNameChanged {
                peer_id: Arc::clone(&info.id),
                display_name: info.display_name.clone(),
                old_display_name: old.display_name.clone(),
            };
            self.notify(other, news);
        }
        Ok(())
    }

    /// Forgets a session with all that it has, which we close for that reason if there is one;
    /// `false` if there is none.
    pub(crate) fn remove_peer(&mut self, session: SessionId, why: Option<CloseReason>) -> bool {
        let Some(peer) = self.peers.get(&session) else { return false };
        for transport in peer.transports.clone() {
            self.remove_transport(transport);
        }
        self.drop_stats_jobs(session);
        self.timers.cancel(Timer::Advice(session));
        let Some(peer) = self.peers.remove(&session) else { return false };
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.members.remove(&session);
            room.by_peer.remove(&*peer.name);
            if let Some(core) = peer.core {
                room.cores.leave(core);
            }
        }
        if peer.joined && !peer.grants.hidden {
            for other in self.members_but(peer.room, session) {
                self.notify(other, Notification::PeerClosed { peer_id: Arc::clone(&peer.name) });
            }
        }
        self.leave_delivery(peer.room, session);
        if peer.joined {
            self.note_left(session, &peer, why);
            self.review_audience(peer.room, session);
        }
        self.leave_views(peer.room, session);
        self.review_size(peer.room);
        self.remove_room_if_empty(peer.room);
        true
    }

    /// Tells a client how its connection is, if that has changed.
    pub(crate) fn review_quality(&mut self, session: SessionId) {
        let Some(peer) = self.peers.get(&session) else { return };
        let lost = |id| {
            let transport = self.transports.get(id);
            transport.is_some_and(|transport| transport.ice_state == Some(IceState::Disconnected))
        };
        let quality = if peer.transports.iter().any(lost) {
            Some(ConnectionQuality::Disconnected)
        } else {
            self.mean_score(peer).map(quality_of).or_else(|| {
                // Nothing is known again after a loss: say so, or it would stay "disconnected".
                peer.quality.map(|_| ConnectionQuality::Good)
            })
        };
        let Some(quality) = quality.filter(|_| quality != peer.quality) else { return };
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.quality = Some(quality);
        }
        self.notify(session, Notification::ConnectionQuality(quality));
    }

    /// The mean of all scores that are known of a client's streams, in tenths. A paused producer
    /// sends nothing, which says nothing of the link.
    fn mean_score(&self, peer: &Peer) -> Option<u32> {
        let sent = peer.producers.iter().filter_map(|id| self.producers.get(id));
        let sent = sent.filter(|producer| !producer.paused);
        let sent = sent.filter_map(|producer| producer.scores.iter().map(|s| s.1).max());
        let (mut count, mut sum) = peer.received_scores;
        for score in sent {
            sum += u32::from(score.min(10));
            count += 1;
        }
        (sum * 10).checked_div(count)
    }
}

/// From a mean score in tenths (0–100).
fn quality_of(tenths: u32) -> ConnectionQuality {
    match tenths {
        90.. => ConnectionQuality::Excellent,
        60..90 => ConnectionQuality::Good,
        _ => ConnectionQuality::Poor,
    }
}

fn session_is_gone() -> RequestError {
    not_allowed("this session was closed: connect again")
}

fn check_display_name(name: &str) -> Result<(), RequestError> {
    if name.len() > MAX_DISPLAY_NAME_BYTES {
        let reason =
            format!("displayName is longer than {MAX_DISPLAY_NAME_BYTES} bytes: shorten it");
        return Err(malformed(reason));
    }
    Ok(())
}
