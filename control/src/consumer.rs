//! Consumers: producers as other clients receive them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use opencall_dataplane::checkpoint::{ConsumerCheckpoint, Lease};
use opencall_dataplane::message::{
    Command, ConsumerConfig, ConsumerId, CoreId, Layers, ProducerId, TransportId,
};

use crate::api::{
    ConsumerOptions, ConsumerRtpParameters, ConsumerScore, ConsumerType, Direction, Notification,
    Request, RequestError, Response, SessionId,
};
use crate::control::{After, Control};
use crate::limits::{malformed, not_allowed, too_many, unknown};
use crate::ortc::{self, Numbers};
use crate::producer::{Producer, SharedStream, short_id};
use crate::rtp_parameters::{Kind, RtpCapabilities};

/// The best score, and that of a stream of which nothing is known yet.
const BEST_SCORE: u8 = 10;

/// One media sink of one client.
pub(crate) struct Consumer {
    pub session: SessionId,
    pub transport: TransportId,
    pub producer: ProducerId,
    pub core: CoreId,
    ssrc: u32,
    rtx_ssrc: u32,
    /// Offered, and not accepted yet.
    waiting: bool,
    /// Paused by its client.
    paused: bool,
    /// Of the stage, while its client is on that slot itself.
    withheld: bool,
    /// What it gets now.
    layers: Option<Layers>,
    /// Whether there is no room for it, as last told.
    is_left_out: bool,
    /// Of its stream, once known.
    pub score: Option<u8>,
    /// As last told.
    told_score: Option<ConsumerScore>,
}

impl Consumer {
    /// Whether nothing is sent to its client: it paused it, has not accepted it yet, or is on that
    /// slot of the stage itself.
    pub fn is_paused(&self) -> bool {
        self.paused || self.waiting || self.withheld
    }

    /// What it gets now.
    pub fn layers(&self) -> Option<Layers> {
        self.layers
    }
}

/// What the client of a consumer can receive.
struct Receiver<'a> {
    capabilities: &'a Arc<RtpCapabilities>,
    /// Under which MID, where the client has described itself first.
    mid: Option<String>,
}

impl Receiver<'_> {
    fn numbers(&self) -> Numbers {
        if self.mid.is_some() { Numbers::Client } else { Numbers::Router }
    }
}

/// How a consumer begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// When its client has accepted it.
    WhenReady,
    Running,
    Paused,
}

impl Control {
    fn own_consumer(&self, session: SessionId, text: &str) -> Result<ConsumerId, RequestError> {
        let id = self.ids.number(text).map(ConsumerId);
        id.filter(|id| self.consumers.get(id).is_some_and(|c| c.session == session))
            .ok_or_else(|| unknown("consumer", text))
    }

    pub(crate) fn consumers_of(&self, session: SessionId, on: TransportId) -> Vec<ConsumerId> {
        let Some(peer) = self.peers.get(&session) else { return Vec::new() };
        let on_it = |id: &ConsumerId| self.consumers.get(id).is_some_and(|c| c.transport == on);
        peer.consumers.values().copied().filter(on_it).collect()
    }

    /// The newest transport on which a client receives: an older one may have died on the network
    /// without anyone having closed it.
    pub(crate) fn receiving_transport(&self, session: SessionId) -> Option<TransportId> {
        let receives = |id: &TransportId| {
            self.transports.get(id).is_some_and(|t| t.direction == Direction::Recv)
        };
        self.peers.get(&session)?.transports.iter().rev().copied().find(receives)
    }

    /// Automatic mode: makes a consumer and offers it, if the client can take it.
    pub(crate) fn offer_consumer(
        &mut self,
        session: SessionId,
        transport: TransportId,
        producer: ProducerId,
    ) {
        let capabilities = self.peers.get(&session).and_then(|peer| peer.capabilities.clone());
        let Some(capabilities) = capabilities else { return };
        let start = Start::WhenReady;
        let receiver = Receiver { capabilities: &capabilities, mid: None };
        match self.create_consumer(session, transport, producer, receiver, start) {
            Ok(options) => self.notify(session, Notification::NewConsumer(options)),
            Err(error) => tracing::debug!(session = session.0, "not offered: {error}"),
        }
    }

    pub(crate) fn consume(
        &mut self,
        session: SessionId,
        producer_id: &str,
        capabilities: Option<RtpCapabilities>,
        transport_id: Option<String>,
        mid: Option<String>,
        paused: bool,
    ) -> Result<(Response, After), RequestError> {
        let peer = self.peer(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: then consume"));
        }
        peer.grants.check_subscribe()?;
        let producer = self.producer_in_room(session, producer_id)?;
        let older = peer.consumers.get(&producer).copied();
        let capabilities = match capabilities {
            Some(capabilities) => {
                ortc::validate_rtp_capabilities(&capabilities)
                    .map_err(|error| malformed(error.to_string()))?;
                self.known_capabilities.share(capabilities)
            }
            None => peer.capabilities.clone().ok_or_else(|| {
                not_allowed("rtpCapabilities are unknown: send them with the request")
            })?,
        };
        let transport = match transport_id {
            Some(text) => self.own_transport(session, &text)?,
            None => self.receiving_transport(session).ok_or_else(|| {
                not_allowed("there is no transport to receive on: create one of direction \"recv\"")
            })?,
        };
        self.check_plain_consumer(transport)?;
        if self.transports.get(&transport).is_some_and(|t| t.direction != Direction::Recv) {
            let reason = "this transport is for sending: create one of direction \"recv\"";
            return Err(not_allowed(reason));
        }
        // Who asks again has lost the first one, or moves it to another transport.
        if let Some(older) = older {
            self.close_consumer(older);
        }
        let start = if paused { Start::Paused } else { Start::Running };
        let receiver = Receiver { capabilities: &capabilities, mid };
        let options = self.create_consumer(session, transport, producer, receiver, start)?;
        Ok((Response::Consumed(Box::new(options)), After::Nothing))
    }

    /// A producer of another peer of the same room.
    fn producer_in_room(
        &self,
        session: SessionId,
        producer_id: &str,
    ) -> Result<ProducerId, RequestError> {
        let id = self.ids.number(producer_id).map(ProducerId);
        let room = self.peer(session)?.room;
        let found = id.and_then(|id| Some((id, self.producers.get(&id)?)));
        let found = found.filter(|(_, producer)| self.room_of(producer) == Some(room));
        match found {
            None => Err(unknown("producer", producer_id)),
            Some((_, producer)) if producer.session == session => {
                Err(not_allowed("this producer is your own: consume those of others"))
            }
            Some((id, _)) => Ok(id),
        }
    }

    fn create_consumer(
        &mut self,
        session: SessionId,
        transport_id: TransportId,
        producer_id: ProducerId,
        receiver: Receiver<'_>,
        start: Start,
    ) -> Result<ConsumerOptions, RequestError> {
        let withheld = self.is_own_slot(session, producer_id);
        let gone = || not_allowed("the producer or the transport was closed meanwhile");
        let limit = self.config.limits.consumers_per_peer;
        if self.peer(session)?.consumers.len() >= limit {
            return Err(too_many("consumers of a peer", limit));
        }
        let producer = self.producers.get_mut(&producer_id).ok_or_else(gone)?;
        let shared = producer
            .stream_for(receiver.capabilities, receiver.numbers())
            .map_err(|error| malformed(error.to_string()))?;
        let transport = self.transports.get_mut(&transport_id).ok_or_else(gone)?;
        let mid = match receiver.mid {
            None => transport.new_mid(),
            Some(mid) => transport.take_mid(mid)?,
        };
        let (ssrc, rtx_ssrc) = transport.new_ssrc_pair(&mut self.rng);
        let core = transport.core;
        let parameters = ConsumerRtpParameters {
            stream: Arc::clone(&shared.stream),
            mid,
            ssrc,
            rtx_ssrc: shared.stream.has_rtx.then_some(rtx_ssrc),
        };
        let id = ConsumerId(self.ids.next());
        let consumer = Consumer {
            session,
            transport: transport_id,
            producer: producer_id,
            core,
            ssrc,
            rtx_ssrc,
            waiting: start == Start::WhenReady,
            paused: start == Start::Paused,
            withheld,
            layers: None,
            is_left_out: false,
            score: None,
            told_score: None,
        };
        let config =
            consumer_config(id, &consumer, &shared, &parameters, self.call_memory().consumer());
        let options = self.consumer_options(id, &consumer, parameters).ok_or_else(gone)?;
        self.reach(producer_id, core);
        self.command(core, Command::CreateConsumer(Box::new(config)));
        self.consumers.insert(id, consumer);
        if let Some(producer) = self.producers.get_mut(&producer_id) {
            producer.consumers.insert(id);
        }
        self.peer_mut(session)?.consumers.insert(producer_id, id);
        Ok(options)
    }

    fn consumer_options(
        &self,
        id: ConsumerId,
        consumer: &Consumer,
        rtp_parameters: ConsumerRtpParameters,
    ) -> Option<ConsumerOptions> {
        let producer = self.producers.get(&consumer.producer)?;
        Some(ConsumerOptions {
            id: self.ids.text(id.0),
            transport_id: self.ids.text(consumer.transport.0),
            producer_id: self.ids.text(consumer.producer.0),
            peer_id: self.owner_of(producer)?,
            kind: producer.kind,
            rtp_parameters,
            consumer_type: producer.consumer_type,
            app_data: producer.app_data.clone(),
            producer_paused: producer.paused || consumer.withheld,
        })
    }

    /// Requests about one consumer.
    pub(crate) fn perform_on_consumer(
        &mut self,
        session: SessionId,
        request: Request,
    ) -> Result<(), RequestError> {
        match request {
            Request::ConsumerReady { consumer_id, accepted } => {
                let id = self.own_consumer(session, &consumer_id)?;
                match accepted {
                    true => self.start_consumer(id),
                    false => self.remove_consumer(id),
                }
                Ok(())
            }
            Request::CloseConsumer { consumer_id } => {
                let id = self.own_consumer(session, &consumer_id)?;
                self.remove_consumer(id);
                Ok(())
            }
            Request::PauseConsumer { consumer_id } => {
                self.pause_consumer(session, &consumer_id, true)
            }
            Request::ResumeConsumer { consumer_id } => {
                self.pause_consumer(session, &consumer_id, false)
            }
            Request::SetConsumerPreferredLayers { consumer_id, layers } => {
                let consumer = self.own_consumer(session, &consumer_id)?;
                self.command_consumer(consumer, Command::SetPreferredLayers { consumer, layers });
                Ok(())
            }
            Request::SetConsumerPriority { consumer_id, priority } => {
                let consumer = self.own_consumer(session, &consumer_id)?;
                if priority == 0 {
                    return Err(malformed("priority must be 1 to 255"));
                }
                self.command_consumer(consumer, Command::SetPriority { consumer, priority });
                Ok(())
            }
            Request::RequestConsumerKeyFrame { consumer_id } => {
                let consumer = self.own_consumer(session, &consumer_id)?;
                self.request_key_frame(consumer);
                Ok(())
            }
            _ => Err(malformed("this request is not about a consumer")),
        }
    }

    fn command_consumer(&mut self, id: ConsumerId, command: Command) {
        if let Some(core) = self.consumers.get(&id).map(|consumer| consumer.core) {
            self.command(core, command);
        }
    }

    /// Audio has no key frames.
    fn request_key_frame(&mut self, id: ConsumerId) {
        let producer = self.consumers.get(&id).and_then(|c| self.producers.get(&c.producer));
        if producer.is_some_and(|producer| producer.kind == Kind::Video) {
            self.command_consumer(id, Command::RequestKeyFrame(id));
        }
    }

    /// An offered consumer was accepted.
    fn start_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        if !std::mem::replace(&mut consumer.waiting, false) || consumer.is_paused() {
            return;
        }
        self.command_consumer(id, Command::ResumeConsumer(id));
        self.request_key_frame(id);
    }

    fn pause_consumer(
        &mut self,
        session: SessionId,
        consumer_id: &str,
        paused: bool,
    ) -> Result<(), RequestError> {
        let id = self.own_consumer(session, consumer_id)?;
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return Err(unknown("consumer", consumer_id));
        };
        let changes = std::mem::replace(&mut consumer.paused, paused) != paused;
        if !changes || consumer.waiting || consumer.withheld {
            return Ok(());
        }
        match paused {
            true => self.command_consumer(id, Command::PauseConsumer(id)),
            false => self.command_consumer(id, Command::ResumeConsumer(id)),
        }
        Ok(())
    }

    /// The client of a consumer is on that slot of the stage itself, or no longer.
    pub(crate) fn withhold_consumer(&mut self, id: ConsumerId, withheld: bool) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        if std::mem::replace(&mut consumer.withheld, withheld) == withheld {
            return;
        }
        let (session, is_running) = (consumer.session, !consumer.paused && !consumer.waiting);
        if is_running {
            match withheld {
                true => self.command_consumer(id, Command::PauseConsumer(id)),
                false => self.command_consumer(id, Command::ResumeConsumer(id)),
            }
        }
        let consumer_id = self.ids.text(id.0);
        let news = match withheld {
            true => Notification::ConsumerPaused { consumer_id },
            false => Notification::ConsumerResumed { consumer_id },
        };
        self.notify(session, news);
    }

    /// A slot of the stage has become empty, or is no longer.
    pub(crate) fn set_stage_empty(&mut self, stage: ProducerId, empty: bool) {
        let Some(producer) = self.producers.get_mut(&stage) else { return };
        if std::mem::replace(&mut producer.paused, empty) == empty {
            return;
        }
        for id in producer.consumers.clone() {
            let Some(consumer) = self.consumers.get(&id).filter(|of| !of.withheld) else {
                continue;
            };
            let (session, consumer_id) = (consumer.session, self.ids.text(id.0));
            let news = match empty {
                true => Notification::ConsumerPaused { consumer_id },
                false => Notification::ConsumerResumed { consumer_id },
            };
            self.notify(session, news);
        }
    }

    /// Forgets a consumer, and tells its client.
    pub(crate) fn close_consumer(&mut self, id: ConsumerId) {
        let Some(receiver) = self.consumers.get(&id).map(|consumer| consumer.session) else {
            return;
        };
        self.remove_consumer(id);
        let consumer_id = self.ids.text(id.0);
        self.notify(receiver, Notification::ConsumerClosed { consumer_id });
    }

    /// Forgets a consumer, without a word to its client.
    pub(crate) fn remove_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else { return };
        self.command(consumer.core, Command::CloseConsumer(id));
        self.unreach(consumer.producer, consumer.core);
        if let Some(producer) = self.producers.get_mut(&consumer.producer) {
            producer.consumers.remove(&id);
        }
        if let Some(peer) = self.peers.get_mut(&consumer.session) {
            peer.consumers.remove(&consumer.producer);
            peer.replace_received_score(consumer.score, None);
        }
        if let Some(transport) = self.transports.get_mut(&consumer.transport) {
            transport.ssrcs.remove(&consumer.ssrc);
            transport.ssrcs.remove(&consumer.rtx_ssrc);
        }
    }

    pub(crate) fn consumer_scored(&mut self, id: ConsumerId, score: u8) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let score = Some(score.min(BEST_SCORE));
        let (old, session) = (std::mem::replace(&mut consumer.score, score), consumer.session);
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.replace_received_score(old, score);
        }
        self.tell_consumer_score(id);
        self.review_quality(session);
    }

    pub(crate) fn layers_changed(&mut self, id: ConsumerId, layers: Option<Layers>) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let is_left_out = layers.is_none();
        let (old, was_left_out) = (consumer.layers, consumer.is_left_out);
        (consumer.layers, consumer.is_left_out) = (layers, is_left_out);
        // Of a stream without layers there is nothing to tell but whether it finds room.
        let producer = self.producers.get(&consumer.producer);
        let is_whole = layers.is_some_and(|layers| layers.temporal.is_none())
            && producer.is_some_and(|of| of.consumable.encodings.len() < 2);
        if was_left_out == is_left_out && (is_whole || old == layers) {
            return;
        }
        let session = consumer.session;
        let consumer_id = self.ids.text(id.0);
        self.notify(session, Notification::ConsumerLayersChanged { consumer_id, layers });
        self.tell_consumer_score(id);
    }

    /// Tells a client the quality of a consumer, if that has changed.
    pub(crate) fn tell_consumer_score(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        let Some(producer) = self.producers.get(&consumer.producer) else { return };
        // The stage is as good as what it carries.
        let [carried, _] = self.sources_on(consumer.producer);
        let judged = carried.and_then(|id| self.producers.get(&id)).unwrap_or(producer);
        let score = consumer_score(consumer, judged);
        if consumer.told_score.as_ref() == Some(&score) {
            return;
        }
        let session = consumer.session;
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.told_score = Some(score.clone());
        }
        let consumer_id = self.ids.text(id.0);
        self.notify(session, Notification::ConsumerScore { consumer_id, score });
    }
}

fn consumer_score(consumer: &Consumer, producer: &Producer) -> ConsumerScore {
    let producer_scores: Vec<u8> = producer.scores.iter().map(|(_, score)| *score).collect();
    let spatial = match producer.consumer_type {
        ConsumerType::Simulcast => consumer.layers.map(|layers| usize::from(layers.spatial)),
        ConsumerType::Simple | ConsumerType::Svc => Some(0),
    };
    let current = spatial.and_then(|index| producer_scores.get(index)).copied();
    ConsumerScore {
        score: consumer.score.unwrap_or(BEST_SCORE),
        producer_score: current.unwrap_or(0),
        producer_scores,
    }
}

fn consumer_config(
    id: ConsumerId,
    consumer: &Consumer,
    shared: &SharedStream,
    parameters: &ConsumerRtpParameters,
    checkpoint: Lease<ConsumerCheckpoint>,
) -> ConsumerConfig {
    ConsumerConfig {
        id,
        transport: consumer.transport,
        producer: consumer.producer,
        mid: short_id(&parameters.mid),
        ssrc: consumer.ssrc,
        rtx_ssrc: parameters.rtx_ssrc,
        payload_types: shared.payload_types.clone(),
        cname: shared.stream.rtcp.cname.clone().unwrap_or_default(),
        extensions: shared.extensions,
        feedback: shared.feedback,
        paused: consumer.is_paused(),
        preferred_layers: None,
        checkpoint,
    }
}
