//! Producers: what clients send, and the cores it reaches.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use opencall_dataplane::layers::allocation::MAX_ENCODINGS;
use opencall_dataplane::message::{
    AcceptedPayloadType, Command, ConsumerId, CoreId, EncodingConfig, Feedback, IceState, Origin,
    PayloadTypeMapping, ProducerConfig, ProducerId, ShortId, TransportId,
};
use opencall_dataplane::planted::{self, Bug};
use opencall_wire::codec::MediaKind;
use opencall_wire::rtp::extension::ExtensionIds;
use rand::RngExt as _;
use smallvec::SmallVec;

use crate::api::{
    ConsumeMode, ConsumerType, Direction, EncodingScore, JsonObject, Notification, RequestError,
    Response, SessionId, Source,
};
use crate::control::{After, Control, Timer};
use crate::demand::Demand;
use crate::limits::{MAX_APP_DATA_BYTES, check_json, malformed, not_allowed, too_many, unknown};
use crate::ortc::{self, ConsumerStream, Numbers};
use crate::peer::Peer;
use crate::room::RoomId;
use crate::room_events::RoomEventKind;
use crate::rtp_parameters::{Kind, RtpCapabilities, RtpEncodingParameters, RtpParameters};
use crate::stage::Seat;
use crate::transport::Transport;

/// Whose a producer of the stage or of a view is.
const NOBODY: SessionId = SessionId(u64::MAX);

/// Kinds of receivers that a producer remembers the streams of. A room has as many as its members
/// have different browsers.
const MAX_STREAMS: usize = 8;

/// A producer's stream as all clients with the same capabilities get it.
pub(crate) struct SharedStream {
    pub stream: Arc<ConsumerStream>,
    pub payload_types: SmallVec<[AcceptedPayloadType; 2]>,
    pub extensions: ExtensionIds,
    pub feedback: Feedback,
}

impl SharedStream {
    fn new(stream: ConsumerStream) -> Self {
        let mut media = stream.codecs.iter().filter(|codec| !ortc::is_rtx(&codec.mime_type));
        SharedStream {
            payload_types: SmallVec::from_slice(&stream.accepted),
            extensions: ortc::extension_ids(&stream.header_extensions),
            feedback: ortc::feedback(media.next().map_or(&[][..], |codec| &codec.rtcp_feedback)),
            stream: Arc::new(stream),
        }
    }
}

/// One media source of one client.
pub(crate) struct Producer {
    pub session: SessionId,
    pub kind: Kind,
    pub app_data: JsonObject,
    /// Whether it is not forwarded: its client paused it, or it is muted.
    pub paused: bool,
    /// Whether its client paused it.
    paused_by_client: bool,
    /// Whether an administrator muted it.
    pub muted: bool,
    /// What consumers can get.
    pub consumable: Arc<RtpParameters>,
    pub consumer_type: ConsumerType,
    pub cname: String,
    pub consumers: BTreeSet<ConsumerId>,
    /// Per encoding: SSRC and score, as last told.
    pub scores: SmallVec<[(u32, u8); 3]>,
    /// Which encodings are wanted.
    pub demand: Demand,
    /// What makes it one of the stage; then nobody sends it.
    pub seat: Option<Seat>,
    /// Its stream as clients get it, by their capabilities; the newest last.
    streams: Vec<(Weak<RtpCapabilities>, Numbers, Arc<SharedStream>)>,
    /// Other cores that have consumers of it, and how many.
    far: BTreeMap<CoreId, usize>,
    config: ProducerConfig,
}

impl Producer {
    /// The core it arrives on.
    pub fn home(&self) -> CoreId {
        self.config.home
    }

    /// What it shows or lets be heard, as its client says.
    pub fn source(&self) -> Source {
        Source::of(self.kind, &self.app_data)
    }

    /// Whether its client says that it is encrypted end to end.
    pub fn is_encrypted(&self) -> bool {
        is_encrypted(&self.app_data)
    }

    /// The transport it arrives on; none of the stage does.
    pub fn transport(&self) -> Option<TransportId> {
        match self.config.origin {
            Origin::Transport(transport) => Some(transport),
            Origin::Stage => None,
        }
    }

    /// Whether a core gets it.
    pub fn reaches(&self, core: CoreId) -> bool {
        core == self.config.home || self.far.contains_key(&core)
    }

    /// How its packets' payload types are understood.
    pub fn payload_types(&self) -> SmallVec<[PayloadTypeMapping; 2]> {
        self.config.payload_types.clone()
    }

    /// How many encodings it has.
    pub fn encoding_count(&self) -> usize {
        self.config.encodings.len()
    }

    /// The stream as clients with these capabilities get it: made once for all of them.
    pub fn stream_for(
        &mut self,
        capabilities: &Arc<RtpCapabilities>,
        numbers: Numbers,
    ) -> Result<Arc<SharedStream>, ortc::OrtcError> {
        let known = |(of, by, _): &&(Weak<RtpCapabilities>, Numbers, _)| {
            of.as_ptr() == Arc::as_ptr(capabilities) && *by == numbers
        };
        if let Some((_, _, stream)) = self.streams.iter().find(known) {
            return Ok(Arc::clone(stream));
        }
        let remote = (&**capabilities, numbers);
        let mut stream = ortc::consumer_stream(self.kind, &self.consumable, remote, &self.cname)?;
        if self.is_encrypted() {
            stream = stream.without_red();
        }
        let stream = Arc::new(SharedStream::new(stream));
        self.streams.retain(|(of, ..)| of.strong_count() > 0);
        if self.streams.len() == MAX_STREAMS {
            self.streams.remove(0);
        }
        self.streams.push((Arc::downgrade(capabilities), numbers, Arc::clone(&stream)));
        Ok(stream)
    }

    /// Other cores it reaches.
    pub fn pipe_count(&self) -> usize {
        self.far.len()
    }

    /// The cores that it reaches by pipes.
    pub fn far_cores(&self) -> Vec<CoreId> {
        self.far.keys().copied().collect()
    }

    /// What data cores are told of it.
    pub fn config(&self) -> &ProducerConfig {
        &self.config
    }

    /// Gives it another home; whether it reaches that already.
    pub fn move_to(&mut self, home: CoreId) -> bool {
        self.config.home = home;
        self.far.remove(&home).is_some()
    }
}

/// What is encrypted end to end comes in whole payloads, which cannot be taken apart here.
fn check_app_data(parameters: &RtpParameters, app_data: &JsonObject) -> Result<(), RequestError> {
    check_json("appData", app_data, MAX_APP_DATA_BYTES)?;
    let has_red = parameters.codecs.iter().any(|codec| ortc::is_red(&codec.mime_type));
    if has_red && is_encrypted(app_data) {
        return Err(malformed("audio/red cannot be encrypted end to end: send audio/opus alone"));
    }
    Ok(())
}

fn is_encrypted(app_data: &JsonObject) -> bool {
    app_data.get("e2ee").is_some_and(|value| value.get() != "null")
}

impl Control {
    pub(crate) fn own_producer(
        &self,
        session: SessionId,
        text: &str,
    ) -> Result<ProducerId, RequestError> {
        let id = self.ids.number(text).map(ProducerId);
        id.filter(|id| self.producers.get(id).is_some_and(|p| p.session == session))
            .ok_or_else(|| unknown("producer", text))
    }

    pub(crate) fn producers_of(&self, session: SessionId, on: TransportId) -> Vec<ProducerId> {
        let Some(peer) = self.peers.get(&session) else { return Vec::new() };
        let on_it =
            |id: &ProducerId| self.producers.get(id).is_some_and(|p| p.transport() == Some(on));
        peer.producers.iter().copied().filter(on_it).collect()
    }

    pub(crate) fn produce(
        &mut self,
        session: SessionId,
        transport_id: &str,
        kind: Kind,
        parameters: &RtpParameters,
        app_data: JsonObject,
        paused: bool,
    ) -> Result<(Response, After), RequestError> {
        let refused = |error: ortc::OrtcError| malformed(error.to_string());
        let transport_id = self.producing_transport(session, transport_id, parameters)?;
        let source = Source::of(kind, &app_data);
        self.peer(session)?.grants.check_publish(source)?;
        check_app_data(parameters, &app_data)?;
        ortc::validate_rtp_parameters(kind, parameters).map_err(refused)?;
        let mapping = ortc::producer_rtp_mapping(parameters, &self.router).map_err(refused)?;
        let consumable =
            ortc::consumable_rtp_parameters(kind, parameters, &self.router).map_err(refused)?;
        let muted = self.is_muted(session, source);
        let Some(transport) = self.transports.get_mut(&transport_id) else {
            return Err(not_allowed("the transport was closed: create another"));
        };
        transport.claim(parameters)?;
        let wanted_cname = parameters.rtcp.cname.clone().filter(|cname| !cname.is_empty());
        let rng = &mut self.rng;
        let cname = transport
            .cname
            .get_or_insert_with(|| {
                wanted_cname.unwrap_or_else(|| format!("{:016x}", rng.random::<u64>()))
            })
            .clone();
        let home = transport.core;
        let id = ProducerId(self.ids.next());
        let config = ProducerConfig {
            id,
            origin: Origin::Transport(transport_id),
            home,
            kind: media_kind(kind),
            mid: parameters.mid.as_deref().map(short_id),
            payload_types: mapping.payload_types,
            encodings: encodings(&parameters.encodings),
            extensions: mapping.extensions,
            feedback: mapping.feedback,
            paused: paused || muted,
            checkpoint: self.call_memory().producer(),
        };
        self.command(home, Command::CreateProducer(Box::new(config.clone())));
        let producer = Producer {
            session,
            kind,
            app_data,
            paused: paused || muted,
            paused_by_client: paused,
            muted,
            consumer_type: ortc::consumer_type(&consumable),
            consumable: Arc::new(consumable),
            cname,
            consumers: BTreeSet::new(),
            scores: SmallVec::new(),
            demand: Demand::new(config.encodings.len()),
            seat: None,
            streams: Vec::new(),
            far: BTreeMap::new(),
            config,
        };
        self.producers.insert(id, producer);
        self.review_demand(id);
        self.list_producer(session, id);
        Ok((Response::Produced { producer_id: self.ids.text(id.0) }, After::Produced(id)))
    }

    /// Puts a new producer on its client's list.
    fn list_producer(&mut self, session: SessionId, id: ProducerId) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        peer.producers.push(id);
        let (room, is_first) = (peer.room, peer.producers.len() == 1);
        if let Some(room) = self.rooms.get_mut(&room).filter(|_| is_first) {
            room.publishers += 1;
        }
    }

    /// Makes a producer of the stage.
    pub(crate) fn make_stage_producer(
        &mut self,
        kind: Kind,
        seat: Seat,
        app_data: JsonObject,
        cname: &str,
    ) -> Option<ProducerId> {
        let count = if kind == Kind::Video { MAX_ENCODINGS } else { 1 };
        let parameters = ortc::stage_parameters(kind, &self.router, count);
        let mapping = ortc::producer_rtp_mapping(&parameters, &self.router).ok()?;
        let consumable = ortc::consumable_rtp_parameters(kind, &parameters, &self.router).ok()?;
        if mapping.payload_types.is_empty() {
            return None;
        }
        let id = ProducerId(self.ids.next());
        self.rooms.get(&seat.room)?;
        let config = ProducerConfig {
            id,
            origin: Origin::Stage,
            home: self.stage_home(seat.room, id.0),
            kind: media_kind(kind),
            mid: None,
            payload_types: mapping.payload_types,
            encodings: encodings(&parameters.encodings),
            extensions: mapping.extensions,
            feedback: Feedback::default(),
            paused: false,
            checkpoint: self.call_memory().producer(),
        };
        self.command(config.home, Command::CreateProducer(Box::new(config.clone())));
        let producer = Producer {
            session: NOBODY,
            kind,
            app_data,
            paused: true,
            paused_by_client: false,
            muted: false,
            consumer_type: ortc::consumer_type(&consumable),
            consumable: Arc::new(consumable),
            cname: cname.to_owned(),
            consumers: BTreeSet::new(),
            scores: SmallVec::new(),
            demand: Demand::new(config.encodings.len()),
            seat: Some(seat),
            streams: Vec::new(),
            far: BTreeMap::new(),
            config,
        };
        self.producers.insert(id, producer);
        Some(id)
    }

    /// Forgets a producer of the stage and its consumers, and tells a room so.
    pub(crate) fn remove_stage_producer(&mut self, id: ProducerId, members: &[SessionId]) {
        let Some(producer) = self.producers.get(&id) else { return };
        let home = producer.home();
        for consumer in producer.consumers.clone() {
            self.close_consumer(consumer);
        }
        self.producers.remove(&id);
        self.command(home, Command::CloseProducer(id));
        self.tell_closed(id, members);
    }

    /// Tells those clients of a room that were notified of a producer that it is gone.
    fn tell_closed(&mut self, id: ProducerId, members: &[SessionId]) {
        for &other in members {
            let knows = self.peers.get_mut(&other).map(|peer| peer.notified_producers.remove(&id));
            if knows == Some(true) {
                let producer_id = self.ids.text(id.0);
                self.notify(other, Notification::ProducerClosed { producer_id });
            }
        }
    }

    /// Whose a producer is, as others see it.
    pub(crate) fn owner_of(&self, producer: &Producer) -> Option<Arc<str>> {
        match &producer.seat {
            Some(seat) => Some(Arc::clone(&seat.peer)),
            None => self.peers.get(&producer.session).map(|peer| Arc::clone(&peer.name)),
        }
    }

    /// The room that a producer is in.
    pub(crate) fn room_of(&self, producer: &Producer) -> Option<RoomId> {
        match &producer.seat {
            Some(seat) => Some(seat.room),
            None => self.peers.get(&producer.session).map(|peer| peer.room),
        }
    }

    /// The transport to produce on, if the client may produce at all.
    fn producing_transport(
        &self,
        session: SessionId,
        transport_id: &str,
        parameters: &RtpParameters,
    ) -> Result<TransportId, RequestError> {
        let id = self.sending_transport(session, transport_id)?;
        self.check_plain_producer(id, parameters)?;
        let limit = self.config.limits.producers_per_peer;
        if self.peer(session)?.producers.len() >= limit {
            return Err(too_many("producers of a peer", limit));
        }
        Ok(id)
    }

    /// A transport for sending, of a client that has joined.
    pub(crate) fn sending_transport(
        &self,
        session: SessionId,
        transport_id: &str,
    ) -> Result<TransportId, RequestError> {
        let peer = self.peer(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: then produce"));
        }
        let id = self.own_transport(session, transport_id)?;
        if self.transports.get(&id).is_some_and(|t| t.direction != Direction::Send) {
            let reason = "this transport is for receiving: create one of direction \"send\"";
            return Err(not_allowed(reason));
        }
        Ok(id)
    }

    /// Offers a new producer to everyone else in the room, or to its stage.
    pub(crate) fn offer_producer(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        let (owner, is_encrypted) = (producer.session, producer.is_encrypted());
        let Some(room) = self.peers.get(&owner).map(|peer| peer.room) else { return };
        self.review_size(room);
        self.review_stage(room);
        if self.has_stage(room) && !is_encrypted {
            return;
        }
        for other in self.members_but(room, owner) {
            self.offer(other, id);
        }
    }

    /// Offers everything in the room to a client. What it receives on a transport that has died is
    /// offered anew.
    pub(crate) fn offer_existing(&mut self, session: SessionId) {
        self.close_stranded(session);
        self.close_stranded_data(session);
        self.offer_existing_data(session);
        let Some(peer) = self.peers.get(&session) else { return };
        let has_stage = self.has_stage(peer.room);
        for other in self.members_but(peer.room, session) {
            let producers = self.peers.get(&other).map(|peer| peer.producers.clone());
            for id in producers.unwrap_or_default() {
                let is_encrypted = self.producers.get(&id).is_some_and(Producer::is_encrypted);
                if is_encrypted || !has_stage {
                    self.offer(session, id);
                }
            }
        }
        if has_stage {
            self.offer_stage(session);
        }
    }

    /// Automatic mode: closes consumers on transports that are without ICE consent, where the
    /// client has a newer one.
    fn close_stranded(&mut self, session: SessionId) {
        let Some(peer) = self.peers.get(&session) else { return };
        if peer.mode != ConsumeMode::Automatic {
            return;
        }
        let newest = self.receiving_transport(session);
        let is_dead = |id: &TransportId| {
            let transport = self.transports.get(id);
            transport.is_some_and(|transport| transport.ice_state == Some(IceState::Disconnected))
        };
        let dead = |id: &&ConsumerId| {
            let transport = self.consumers.get(id).map(|consumer| consumer.transport);
            transport.is_some_and(|transport| Some(transport) != newest && is_dead(&transport))
        };
        let stranded: Vec<ConsumerId> = peer.consumers.values().filter(dead).copied().collect();
        for consumer in stranded {
            self.close_consumer(consumer);
        }
    }

    /// Offers one producer to one client, in the client's way, once it has a transport to receive
    /// it on: a client that is told of a producer asks for it at once, and only once.
    pub(crate) fn offer(&mut self, session: SessionId, id: ProducerId) {
        let Some(transport) = self.receiving_transport(session) else { return };
        let Some(peer) = self.peers.get(&session).filter(|peer| peer.grants.subscribe) else {
            return;
        };
        if peer.capabilities.is_none() {
            return;
        }
        if peer.consumers.contains_key(&id) {
            // It asked for it by itself, and is told when it ends, like everyone.
            let asks = |peer: &&mut Peer| peer.mode == ConsumeMode::OnRequest;
            if let Some(peer) = self.peers.get_mut(&session).filter(asks) {
                peer.notified_producers.insert(id);
            }
            return;
        }
        match peer.mode {
            ConsumeMode::Automatic => self.offer_consumer(session, transport, id),
            ConsumeMode::OnRequest => self.notify_producer(session, id),
        }
    }

    /// On-request mode: notifies a client of a producer, once.
    pub(crate) fn notify_producer(&mut self, session: SessionId, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        let Some(peer_id) = self.owner_of(producer) else { return };
        let news = Notification::NewProducer {
            peer_id,
            producer_id: self.ids.text(id.0),
            kind: producer.kind,
            app_data: producer.app_data.clone(),
        };
        let Some(peer) = self.peers.get_mut(&session) else { return };
        if peer.notified_producers.insert(id) {
            self.notify(session, news);
        }
    }

    pub(crate) fn pause_producer(
        &mut self,
        session: SessionId,
        producer_id: &str,
        paused: bool,
    ) -> Result<(), RequestError> {
        let id = self.own_producer(session, producer_id)?;
        let Some(producer) = self.producers.get_mut(&id) else {
            return Err(unknown("producer", producer_id));
        };
        if !paused && producer.muted {
            let reason =
                "this producer was muted by a host or an administrator, who alone can unmute it";
            return Err(not_allowed(reason));
        }
        producer.paused_by_client = paused;
        self.settle_pause(id);
        Ok(())
    }

    /// A source of a client was muted before it was produced.
    fn is_muted(&self, session: SessionId, source: Source) -> bool {
        let Some(peer) = self.peers.get(&session) else { return false };
        let muted = self.rooms.get(&peer.room).and_then(|room| room.muted.get(&peer.name));
        muted.is_some_and(|muted| muted.contains(source))
    }

    /// Tells the client of a new producer that it is muted.
    pub(crate) fn tell_if_muted(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id).filter(|producer| producer.muted) else {
            return;
        };
        let (session, producer_id) = (producer.session, self.ids.text(id.0));
        let news = Notification::ProducerMuted { producer_id, muted: true, by: None };
        self.notify(session, news);
    }

    /// Pauses or resumes a producer, after its client or an administrator has said so.
    pub(crate) fn settle_pause(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let (session, paused) = (producer.session, producer.paused_by_client || producer.muted);
        if producer.paused == paused {
            return;
        }
        producer.paused = paused;
        producer.config.paused = paused;
        let cores: Vec<CoreId> =
            producer.far.keys().copied().chain([producer.config.home]).collect();
        let consumers: Vec<ConsumerId> = producer.consumers.iter().copied().collect();
        for core in cores {
            let command = match paused {
                true => Command::PauseProducer(id),
                false => Command::ResumeProducer(id),
            };
            self.command(core, command);
        }
        for consumer in consumers {
            let Some(receiver) = self.consumers.get(&consumer).map(|c| c.session) else { continue };
            let consumer_id = self.ids.text(consumer.0);
            let news = match paused {
                true => Notification::ConsumerPaused { consumer_id },
                false => Notification::ConsumerResumed { consumer_id },
            };
            self.notify(receiver, news);
        }
        self.tell_sink_of_pause(id, paused);
        self.tell_tap_of_pause(id, paused);
        self.tell_push_of_pause(id, paused);
        if paused {
            self.hush(session, id);
        }
        let Some(room) = self.peers.get(&session).map(|peer| peer.room) else { return };
        if paused {
            self.leave_stage(room, id);
        }
        self.review_stage(room);
    }

    /// A producer is heard no more.
    fn hush(&mut self, session: SessionId, id: ProducerId) {
        let Some(room) = self.peers.get(&session).map(|peer| peer.room) else { return };
        if let Some(room) = self.rooms.get_mut(&room) {
            room.speakers.forget(id);
        }
        self.tell_speakers(room);
    }

    /// Forgets a producer and its consumers, and says so.
    pub(crate) fn remove_producer(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        let (session, home) = (producer.session, producer.home());
        let room = self.room_of(producer);
        self.note_track(id, RoomEventKind::TrackUnpublished);
        if let Some(room) = room {
            self.leave_stage(room, id);
        }
        let Some(producer) = self.producers.get(&id) else { return };
        for consumer in producer.consumers.clone() {
            self.close_consumer(consumer);
        }
        self.hush(session, id);
        self.leave_recording(id);
        self.leave_tap(id);
        self.leave_push(id);
        let Some(producer) = self.producers.remove(&id) else { return };
        self.timers.cancel(Timer::Demand(id));
        self.command(home, Command::CloseProducer(id));
        let transport = producer.transport().and_then(|id| self.transports.get_mut(&id));
        if let Some(transport) = transport {
            transport.release(&producer.config);
        }
        let Some(peer) = self.peers.get_mut(&session) else { return };
        peer.producers.retain(|producer| *producer != id);
        let (room, is_last) = (peer.room, peer.producers.is_empty());
        if let Some(room) = self.rooms.get_mut(&room).filter(|_| is_last) {
            room.publishers = room.publishers.saturating_sub(1);
        }
        let others = self.members_but(room, session);
        self.tell_closed(id, &others);
        if is_last {
            self.review_size(room);
        }
        self.review_stage(room);
    }

    /// Makes a producer reach a core, once for all of its consumers there.
    pub(crate) fn reach(&mut self, id: ProducerId, core: CoreId) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let home = producer.config.home;
        if core == home {
            return;
        }
        let consumers = producer.far.entry(core).or_default();
        *consumers += 1;
        if *consumers == 1 {
            let config = Box::new(producer.config.clone());
            self.command(core, Command::CreateProducer(config));
            self.command(home, Command::OpenPipe { producer: id, to: core });
        }
    }

    /// A consumer on a core is gone; with the last one, the pipe is closed.
    pub(crate) fn unreach(&mut self, id: ProducerId, core: CoreId) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let home = producer.config.home;
        let Some(consumers) = producer.far.get_mut(&core) else { return };
        *consumers = consumers.saturating_sub(1);
        if *consumers == 0 {
            producer.far.remove(&core);
            if !planted::is(Bug::PipeKept) {
                self.command(home, Command::ClosePipe { producer: id, to: core });
            }
            self.command(core, Command::CloseProducer(id));
            self.forget_demand(core, id);
        }
    }

    /// A data core has judged a producer's encodings.
    pub(crate) fn producer_scored(&mut self, core: CoreId, id: ProducerId, scores: &[(u32, u8)]) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let scores = scores.get(..producer.config.encodings.len()).unwrap_or(scores);
        if producer.home() != core || producer.scores.as_slice() == scores {
            return;
        }
        producer.scores = SmallVec::from_slice(scores);
        let encoding_score = |(encoding_idx, (ssrc, score)): (usize, &(u32, u8))| {
            let rid = producer.config.encodings.get(encoding_idx).and_then(|e| e.rid.as_ref());
            EncodingScore {
                encoding_idx,
                ssrc: *ssrc,
                rid: rid.map(|rid| String::from_utf8_lossy(rid).into_owned()),
                score: *score,
            }
        };
        let score = scores.iter().enumerate().map(encoding_score).collect();
        let (session, consumers) = (producer.session, producer.consumers.clone());
        let producer_id = self.ids.text(id.0);
        self.notify(session, Notification::ProducerScore { producer_id, score });
        for consumer in consumers {
            self.tell_consumer_score(consumer);
        }
        self.review_quality(session);
        self.review_path(session, None);
    }
}

impl Transport {
    /// Reserves the numbers by which a producer's packets are told from others on its transport.
    fn claim(&mut self, parameters: &RtpParameters) -> Result<(), RequestError> {
        let ssrcs = parameters.encodings.iter().flat_map(ssrcs_of);
        if let Some(ssrc) = ssrcs.clone().find(|ssrc| self.ssrcs.contains(ssrc)) {
            let reason =
                format!("SSRC {ssrc} is in use on this transport: close the producer that has it");
            return Err(malformed(reason));
        }
        if let Some(mid) = &parameters.mid {
            if !self.mids.insert(mid.clone()) {
                let reason = format!(
                    "mid \"{mid}\" is in use on this transport: close the producer that has it"
                );
                return Err(malformed(reason));
            }
        } else {
            let rids = || parameters.encodings.iter().filter_map(|encoding| encoding.rid.as_ref());
            if let Some(rid) = rids().find(|rid| self.rids.contains(*rid)) {
                let reason =
                    format!("rid \"{rid}\" is in use on this transport: send a mid as well");
                return Err(malformed(reason));
            }
            self.rids.extend(rids().cloned());
        }
        self.ssrcs.extend(ssrcs);
        Ok(())
    }

    /// Frees them.
    fn release(&mut self, config: &ProducerConfig) {
        for encoding in &config.encodings {
            for ssrc in [encoding.ssrc, encoding.rtx_ssrc].into_iter().flatten() {
                self.ssrcs.remove(&ssrc);
            }
            if let (None, Some(rid)) = (&config.mid, &encoding.rid) {
                self.rids.remove(&*String::from_utf8_lossy(rid));
            }
        }
        if let Some(mid) = &config.mid {
            self.mids.remove(&*String::from_utf8_lossy(mid));
        }
    }
}

fn ssrcs_of(encoding: &RtpEncodingParameters) -> impl Iterator<Item = u32> + Clone + use<> {
    [encoding.ssrc, encoding.rtx.map(|rtx| rtx.ssrc)].into_iter().flatten()
}

fn encodings(parameters: &[RtpEncodingParameters]) -> SmallVec<[EncodingConfig; 3]> {
    let config = |encoding: &RtpEncodingParameters| EncodingConfig {
        rid: encoding.rid.as_deref().map(short_id),
        ssrc: encoding.ssrc,
        rtx_ssrc: encoding.rtx.map(|rtx| rtx.ssrc),
        max_bitrate_bps: encoding.max_bitrate,
    };
    if parameters.is_empty() {
        return SmallVec::from_iter([config(&RtpEncodingParameters::default())]);
    }
    parameters.iter().map(config).collect()
}

pub(crate) fn short_id(text: &str) -> ShortId {
    ShortId::from_slice(text.as_bytes())
}

pub(crate) fn media_kind(kind: Kind) -> MediaKind {
    match kind {
        Kind::Audio => MediaKind::Audio,
        Kind::Video => MediaKind::Video,
    }
}
