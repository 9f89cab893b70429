//! The protoo envelope: `{request|response|notification: true, id, method, data}`.
//!
//! Applications of two generations speak it, and one server serves both: answers are supersets of
//! what either expects, actions are taken as requests and as notifications, and where the kinds
//! differ (a list or an object) the generation decides, which shows in how the client asks for its
//! transports.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opencall_control::api::{
    ConsumerOptions, ConsumerRtpParameters, ConsumerScore, ConsumerType, DataConsumerOptions,
    Direction, Notification, PeerInfo, Request, RequestError, Response, StatsOf, StatsReport,
    Token,
};
use opencall_control::json_object::Member;
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::Layers;
use opencall_wire::time::Time;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::fields::{Fields, bad_request};
use super::{
    Closing, Effect, Envelope, MAX_MALFORMED_FRAMES, VERSION, host, mls, not_a_frame, participants,
    produce_data, sctp_mode, stage_places,
};

/// The sub-protocol's name.
pub const SUB_PROTOCOL: &str = "protoo";

/// Ids of requests lie in 0…10^7 on both sides.
const MAX_REQUEST_ID: u32 = 10_000_000;

/// How long a client may take for our request is 2000·(15 + 0.1·pending) ms.
const OFFER_TIMEOUT_BASE_MS: u64 = 2000 * 15;
const OFFER_TIMEOUT_PER_PENDING_MS: u64 = 200;

/// Of texts that clients wrote, this much goes into logs and errors.
const MAX_SHOWN_CHARS: usize = 200;

/// What participants are called in messages of the delivery service.
const MLS_WORDS: mls::Words = mls::Words { who: "peerId", everyone: "peerIds" };

/// How often the server pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// Which of the two applications is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// The JavaScript one: `producing`/`consuming`.
    Old,
    /// The TypeScript one: `appData.direction`.
    New,
}

/// What a method means.
#[derive(Debug)]
enum Action {
    /// It is for control.
    Ask(Request),
    /// It is answered right here.
    Answer(Value),
}

/// A request of control that waits for its answer.
struct Pending {
    /// The client's id; nothing for a notification.
    id: Option<u64>,
    /// Whether it was `join`.
    join: bool,
}

/// A `newConsumer` or `newDataConsumer` that waits for the client's answer.
struct Offer {
    consumer_id: String,
    is_data: bool,
    deadline: Time,
}

/// News of a consumer that its client has not made yet: told once it has, or it would mean nothing
/// to the client and be lost. Of each kind the newest counts.
#[derive(Default)]
struct HeldNews {
    pause: Option<Notification>,
    layers: Option<Notification>,
    score: Option<Notification>,
    closed: Option<Notification>,
}

impl HeldNews {
    fn hold(&mut self, news: Notification) {
        let place = match news {
            Notification::ConsumerClosed { .. } | Notification::DataConsumerClosed { .. } => {
                &mut self.closed
            }
            Notification::ConsumerLayersChanged { .. } => &mut self.layers,
            Notification::ConsumerScore { .. } => &mut self.score,
            _ => &mut self.pause,
        };
        *place = Some(news);
    }

    fn release(self) -> impl Iterator<Item = Notification> {
        // Of a consumer that is gone nothing else matters.
        let others = [self.pause, self.layers, self.score];
        let others = others.into_iter().flatten().filter(|_| self.closed.is_none());
        others.collect::<Vec<_>>().into_iter().chain(self.closed)
    }
}

/// The consumer that news are about.
fn consumer_of(news: &Notification) -> Option<&str> {
    match news {
        Notification::ConsumerClosed { consumer_id }
        | Notification::ConsumerPaused { consumer_id }
        | Notification::ConsumerResumed { consumer_id }
        | Notification::ConsumerLayersChanged { consumer_id, .. }
        | Notification::ConsumerScore { consumer_id, .. } => Some(consumer_id),
        Notification::DataConsumerClosed { data_consumer_id } => Some(data_consumer_id),
        _ => None,
    }
}

/// The translator of one connection.
pub struct Protoo {
    generation: Generation,
    next_token: u64,
    pending: HashMap<Token, Pending>,
    offers: HashMap<u32, Offer>,
    /// News of consumers whose offer waits.
    held: HashMap<String, HeldNews>,
    /// No offer is due before.
    next_deadline: Time,
    joined: bool,
    waiting: bool,
    malformed_frames: u32,
}

impl Default for Protoo {
    fn default() -> Self {
        Self::new()
    }
}

impl Protoo {
    /// A translator for a connection whose session is open.
    pub fn new() -> Self {
        Protoo {
            generation: Generation::Old,
            next_token: 0,
            pending: HashMap::new(),
            offers: HashMap::new(),
            held: HashMap::new(),
            next_deadline: Time::NEVER,
            joined: false,
            waiting: false,
            malformed_frames: 0,
        }
    }

    fn handle_frame(&mut self, mut frame: Fields<'_>, effects: &mut Vec<Effect>) {
        if frame.is_true("response") {
            return self.handle_answer(&frame, effects);
        }
        let id = match (frame.is_true("request"), frame.is_true("notification")) {
            (true, _) => match frame.whole_number("id") {
                Some(id) => Some(id),
                None => return self.malformed("id: expected a number from 0 to 10000000", effects),
            },
            (false, true) => None,
            (false, false) => {
                let text = "request, response or notification: one of them must be true";
                return self.malformed(text, effects);
            }
        };
        match self.action(&mut frame) {
            Ok(Action::Answer(data)) => self.succeed(id, data, effects),
            Ok(Action::Ask(request)) => {
                let token = self.token();
                let join = matches!(request, Request::Join { .. });
                self.pending.insert(token, Pending { id, join });
                effects.push(Effect::Ask { token, request });
            }
            Err(error) => self.fail(id, &error, effects),
        }
    }

    /// The client's answer to an offer.
    fn handle_answer(&mut self, frame: &Fields<'_>, effects: &mut Vec<Effect>) {
        let id = frame.whole_number("id").and_then(|id| u32::try_from(id).ok());
        // An answer that comes after its time-out is no fault.
        let Some(offer) = id.and_then(|id| self.offers.remove(&id)) else { return };
        let accepted = frame.is_true("ok");
        if !accepted {
            let reason = frame.raw("errorReason").map_or("", |reason| reason.get());
            let reason: String = reason.chars().take(MAX_SHOWN_CHARS).collect();
            tracing::debug!(consumer = offer.consumer_id, reason, "client refused a consumer");
        }
        self.settle_offer(offer, accepted, effects);
    }

    fn settle_offer(&mut self, offer: Offer, accepted: bool, effects: &mut Vec<Effect>) {
        let held = self.held.remove(&offer.consumer_id).unwrap_or_default();
        let is_closed = held.closed.is_some();
        if accepted {
            for news in held.release() {
                self.tell(news, effects);
            }
        }
        if !is_closed {
            let id = offer.consumer_id;
            let request = match offer.is_data {
                true => Request::DataConsumerReady { data_consumer_id: id, accepted },
                false => Request::ConsumerReady { consumer_id: id, accepted },
            };
            effects.push(Effect::Ask { token: self.token(), request });
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// What a frame with `method` and `data` asks for.
    fn action(&mut self, frame: &mut Fields<'_>) -> Result<Action, RequestError> {
        let method: String =
            frame.typed("method").map_err(|_| bad_request("method: expected a string"))?;
        let mut data = frame.nested("data")?;
        let fields = &mut data;
        let request = match method.as_str() {
            "getRtcStatsUrl" => {
                self.generation = Generation::New;
                return Ok(Action::Answer(json!({})));
            }
            "getRouterRtpCapabilities" => Request::RouterRtpCapabilities,
            "createWebRtcTransport" => self.create_transport(fields)?,
            "connectWebRtcTransport" => Request::ConnectTransport {
                transport_id: fields.string("transportId")?,
                dtls_parameters: fields.typed("dtlsParameters")?,
            },
            "restartIce" => Request::RestartIce { transport_id: fields.string("transportId")? },
            "join" => Request::Join {
                display_name: fields.shown_name("displayName")?.unwrap_or_default(),
                device: fields.passed_on("device")?,
                rtp_capabilities: fields.optional_typed("rtpCapabilities")?,
                codec_hints: fields.optional_typed("codecHints")?,
            },
            "produce" => Request::Produce {
                transport_id: fields.string("transportId")?,
                kind: fields.typed("kind")?,
                rtp_parameters: fields.typed("rtpParameters")?,
                app_data: fields.passed_on("appData")?,
                paused: fields.boolean_or("paused", false)?,
            },
            "getPeers" => participants(fields, "peerIds")?,
            "consume" => Request::Consume {
                producer_id: fields.string("producerId")?,
                rtp_capabilities: fields.optional_typed("rtpCapabilities")?,
                transport_id: fields.optional_string("transportId")?,
                mid: None,
                paused: fields.boolean_or("paused", false)?,
            },
            "produceData" => produce_data(fields)?,
            "getDataProducerStats" => {
                Request::Stats(StatsOf::DataProducer(fields.string("dataProducerId")?))
            }
            "getDataConsumerStats" => {
                Request::Stats(StatsOf::DataConsumer(fields.string("dataConsumerId")?))
            }
            "getTransportStats" => {
                Request::Stats(StatsOf::Transport(fields.string("transportId")?))
            }
            "getProducerStats" => Request::Stats(StatsOf::Producer(fields.string("producerId")?)),
            "getConsumerStats" => Request::Stats(StatsOf::Consumer(fields.string("consumerId")?)),
            "changeDisplayName" => {
                let display_name = fields.shown_name("displayName")?;
                let missing = || bad_request("displayName: missing; expected a string");
                Request::ChangeDisplayName { display_name: display_name.ok_or_else(missing)? }
            }
            _ => match host::request(&method, fields)? {
                Some(request) => request,
                None => match mls::request(&method, fields)? {
                    Some(request) => request,
                    None => stream_action(&method, fields)?,
                },
            },
        };
        Ok(Action::Ask(request))
    }

    fn create_transport(&mut self, fields: &mut Fields<'_>) -> Result<Request, RequestError> {
        let force_tcp = fields.boolean_or("forceTcp", false)?;
        let named = fields.nested("appData")?.optional_string("direction")?;
        let direction = match named.as_deref() {
            Some("producer") => Direction::Send,
            Some("consumer") => Direction::Recv,
            Some(_) => {
                return Err(bad_request(
                    "appData.direction: expected \"producer\" or \"consumer\"",
                ));
            }
            None => {
                let producing = fields.boolean_or("producing", false)?;
                let consuming = fields.boolean_or("consuming", false)?;
                match (producing, consuming) {
                    (true, false) => Direction::Send,
                    (false, true) => Direction::Recv,
                    _ => {
                        let reason = "producing, consuming: exactly one must be true, \
                                      or appData.direction be given";
                        return Err(bad_request(reason));
                    }
                }
            }
        };
        self.generation = if named.is_some() { Generation::New } else { Generation::Old };
        // mediasoup-demo's server: SCTP for whoever says what it can do with it.
        let sctp = fields.take("sctpCapabilities").is_some();
        let sctp = sctp_mode(fields, sctp)?;
        Ok(Request::CreateTransport { direction, force_tcp, sctp })
    }

    /// Answers a request; a notification gets no answer.
    fn succeed(&self, id: Option<u64>, data: Value, effects: &mut Vec<Effect>) {
        let Some(id) = id else { return };
        send(effects, &json!({"response": true, "id": id, "ok": true, "data": data}));
    }

    fn fail(&self, id: Option<u64>, error: &RequestError, effects: &mut Vec<Effect>) {
        let Some(id) = id else {
            return self.notify_error(&error.reason, effects);
        };
        let frame = json!({
            "response": true, "id": id, "ok": false,
            "errorCode": error.code, "errorReason": error.reason,
        });
        send(effects, &frame);
    }

    /// What cannot be answered is told in a notification, which clients write to their log.
    fn notify_error(&self, reason: &str, effects: &mut Vec<Effect>) {
        notify(effects, "error", json!({"errorReason": reason}));
    }

    fn malformed(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        self.malformed_frames += 1;
        if self.malformed_frames > MAX_MALFORMED_FRAMES {
            return effects.push(Effect::Close(Closing::Flood));
        }
        self.notify_error(reason, effects);
    }

    /// The data of a positive answer.
    fn response_data(&self, response: Response) -> Value {
        match response {
            // No client of ours can ask for a plain transport.
            Response::Done | Response::PlainTransport(_) => json!({}),
            Response::Mls(answer) => mls::answer(&answer, MLS_WORDS),
            Response::RouterRtpCapabilities(capabilities) => {
                with_self(&*capabilities, "routerRtpCapabilities")
            }
            Response::Joined { peers, entrance } => {
                let peers = peers.iter().map(|peer| peer_info(peer)).collect::<Vec<_>>();
                let mut data = host::entrance(&entrance);
                data.insert("peers".to_owned(), json!(peers));
                Value::Object(data)
            }
            Response::Transport(options) => with_alias(&options, "id", "transportId"),
            Response::Ice(parameters) => with_self(&parameters, "iceParameters"),
            Response::Produced { producer_id } | Response::Viewed { producer_id, .. } => {
                json!({"id": producer_id, "producerId": producer_id})
            }
            Response::ProducedData { data_producer_id } => {
                json!({"id": data_producer_id, "dataProducerId": data_producer_id})
            }
            Response::ConsumedData(options) => new_data_consumer(&options),
            Response::Participants { participants, next, count } => {
                let peers = participants.iter().map(|of| {
                    let mut peer = peer_info(&of.peer);
                    insert(&mut peer, "producers", json!(of.producers));
                    peer
                });
                json!({"peers": peers.collect::<Vec<_>>(), "next": next.as_deref(), "count": count})
            }
            Response::Consumed(options) => json!(NewConsumer::new(&options)),
            Response::Stats(reports) => {
                let stats: Vec<_> = reports.iter().map(StatsReport::to_object).collect();
                match self.generation {
                    Generation::Old => json!(stats),
                    Generation::New => json!({"stats": stats}),
                }
            }
        }
    }

    /// Offers a consumer: a request of ours.
    fn offer(&mut self, now: Time, options: &ConsumerOptions, effects: &mut Vec<Effect>) {
        let id = self.new_offer(now, &options.id, false);
        let data = NewConsumer::new(options);
        send(effects, &OfferFrame { request: true, id, method: "newConsumer", data });
    }

    /// The same of a data consumer.
    fn offer_data(&mut self, now: Time, options: &DataConsumerOptions, effects: &mut Vec<Effect>) {
        let id = self.new_offer(now, &options.id, true);
        let data = new_data_consumer(options);
        send(effects, &OfferFrame { request: true, id, method: "newDataConsumer", data });
    }

    /// The id of a new request of ours, whose answer is waited for.
    fn new_offer(&mut self, now: Time, consumer_id: &str, is_data: bool) -> u32 {
        let id = loop {
            let id = rand::random_range(0..=MAX_REQUEST_ID);
            if !self.offers.contains_key(&id) {
                break id;
            }
        };
        let pending = u64::try_from(self.offers.len()).unwrap_or(u64::MAX);
        let timeout_ms =
            OFFER_TIMEOUT_BASE_MS + OFFER_TIMEOUT_PER_PENDING_MS.saturating_mul(pending);
        let deadline = now + Duration::from_millis(timeout_ms);
        self.next_deadline = self.next_deadline.min(deadline);
        self.offers.insert(id, Offer { consumer_id: consumer_id.to_owned(), is_data, deadline });
        self.held.insert(consumer_id.to_owned(), HeldNews::default());
        id
    }

    /// Tells the client, at once.
    fn tell(&self, notification: Notification, effects: &mut Vec<Effect>) {
        if let Some((method, data)) = host::news(&notification, "peerId") {
            return notify(effects, method, data);
        }
        let (method, data) = match notification {
            Notification::Speakers(speakers) => return self.speakers(&speakers, effects),
            Notification::Stage(places) => ("stageChanged", stage_places(&places, "peerId")),
            Notification::Mls(news) => mls::news(&news, MLS_WORDS),
            // Offers are requests; and clients of this envelope have no use for the others.
            Notification::NewConsumer(_)
            | Notification::NewDataConsumer(_)
            | Notification::NewProducer { .. }
            | Notification::ProducerClosed { .. }
            | Notification::NewDataProducer { .. }
            | Notification::DataProducerClosed { .. }
            | Notification::ConnectionQuality(_) => return,
            Notification::NewPeer(peer) => ("newPeer", new_peer(&peer)),
            Notification::PeerClosed { peer_id } => ("peerClosed", json!({"peerId": &*peer_id})),
            Notification::PeerDisplayNameChanged { peer_id, display_name, old_display_name } => (
                "peerDisplayNameChanged",
                json!({
                    "peerId": &*peer_id,
                    "displayName": display_name,
                    "oldDisplayName": old_display_name,
                }),
            ),
            Notification::DataConsumerClosed { data_consumer_id } => {
                ("dataConsumerClosed", json!({"dataConsumerId": data_consumer_id}))
            }
            Notification::ConsumerClosed { consumer_id } => {
                ("consumerClosed", json!({"consumerId": consumer_id}))
            }
            Notification::ConsumerPaused { consumer_id } => {
                ("consumerPaused", json!({"consumerId": consumer_id}))
            }
            Notification::ConsumerResumed { consumer_id } => {
                ("consumerResumed", json!({"consumerId": consumer_id}))
            }
            Notification::ConsumerLayersChanged { consumer_id, layers } => {
                ("consumerLayersChanged", layers_changed(&consumer_id, layers))
            }
            Notification::ConsumerScore { consumer_id, score } => {
                ("consumerScore", json!({"consumerId": consumer_id, "score": score}))
            }
            Notification::ProducerScore { producer_id, score } => {
                ("producerScore", json!({"producerId": producer_id, "score": score}))
            }
            Notification::DownlinkBandwidth(bandwidth) if self.generation == Generation::Old => {
                ("downlinkBwe", json!(bandwidth))
            }
            // Told above; or clients of this envelope know no such word, and log each as an error.
            Notification::ProducerMaxSpatialLayer { .. }
            | Notification::DownlinkBandwidth(_)
            | Notification::CodecAdvice(_)
            | Notification::ProducerMuted { .. }
            | Notification::RoomLocked { .. }
            | Notification::RecordingChanged { .. }
            | Notification::TapChanged { .. }
            | Notification::PushChanged { .. }
            | Notification::Caption(_)
            | Notification::PeerWaiting { .. }
            | Notification::PeerWaitingEnded { .. }
            | Notification::Waiting
            | Notification::Admitted { .. } => return,
        };
        notify(effects, method, data);
    }

    fn speakers(&self, speakers: &[(Arc<str>, i8)], effects: &mut Vec<Effect>) {
        if self.generation == Generation::New {
            let volumes: Vec<Value> = speakers
                .iter()
                .map(|(peer_id, volume)| json!({"peerId": &**peer_id, "volume": volume}))
                .collect();
            notify(effects, "speakingPeers", json!({"peerVolumes": volumes}));
        }
        let loudest = match speakers.first() {
            Some((peer_id, volume)) => json!({"peerId": &**peer_id, "volume": volume}),
            None => json!({"peerId": null}),
        };
        notify(effects, "activeSpeaker", loudest);
    }
}

impl Envelope for Protoo {
    fn handle_open(&mut self, effects: &mut Vec<Effect>) {
        // Each generation knows one of the two and logs the other.
        for method in ["mediasoup-version", "mediasoupVersion"] {
            notify(effects, method, json!({"version": VERSION}));
        }
    }

    fn handle_text(&mut self, _now: Time, text: &str, effects: &mut Vec<Effect>) {
        match Fields::parse(text) {
            Ok(frame) => self.handle_frame(frame, effects),
            Err(error) => self.malformed(&not_a_frame(&error), effects),
        }
    }

    fn handle_response(
        &mut self,
        token: Token,
        result: Result<Response, RequestError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Pending { id, join }) = self.pending.remove(&token) else { return };
        match result {
            Ok(response) => {
                self.joined |= join;
                self.succeed(id, self.response_data(response), effects);
            }
            Err(error) => self.fail(id, &error, effects),
        }
    }

    fn handle_notification(
        &mut self,
        now: Time,
        notification: Notification,
        effects: &mut Vec<Effect>,
    ) {
        match &notification {
            Notification::NewConsumer(options) => return self.offer(now, options, effects),
            Notification::NewDataConsumer(options) => {
                return self.offer_data(now, options, effects);
            }
            other => self.waiting = host::waits(other, self.waiting),
        }
        if let Some(held) = consumer_of(&notification).and_then(|id| self.held.get_mut(id)) {
            return held.hold(notification);
        }
        self.tell(notification, effects);
    }

    fn handle_closing(&mut self, closing: Closing, by: Option<&str>, effects: &mut Vec<Effect>) {
        if let Some((method, data)) = host::farewell(closing, by) {
            notify(effects, method, data);
        }
    }

    fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let late: Vec<u32> = self
            .offers
            .iter()
            .filter(|(_, offer)| offer.deadline <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            if let Some(offer) = self.offers.remove(&id) {
                self.settle_offer(offer, false, effects);
            }
        }
        let deadlines = self.offers.values().map(|offer| offer.deadline);
        self.next_deadline = deadlines.min().unwrap_or(Time::NEVER);
    }

    fn next_timeout(&self) -> Time {
        self.next_deadline
    }

    fn has_joined(&self) -> bool {
        self.joined
    }

    fn is_waiting(&self) -> bool {
        self.waiting
    }

    fn ping_interval(&self) -> Duration {
        PING_INTERVAL
    }
}

/// Actions on producers and consumers, which are answered with nothing.
fn stream_action(method: &str, fields: &mut Fields<'_>) -> Result<Request, RequestError> {
    let request = match method {
        "closeProducer" => Request::CloseProducer { producer_id: fields.string("producerId")? },
        "pauseProducer" => Request::PauseProducer { producer_id: fields.string("producerId")? },
        "resumeProducer" => Request::ResumeProducer { producer_id: fields.string("producerId")? },
        "closeDataProducer" => {
            Request::CloseDataProducer { data_producer_id: fields.string("dataProducerId")? }
        }
        "closeDataConsumer" => {
            Request::CloseDataConsumer { data_consumer_id: fields.string("dataConsumerId")? }
        }
        "closeConsumer" => Request::CloseConsumer { consumer_id: fields.string("consumerId")? },
        "pauseConsumer" => Request::PauseConsumer { consumer_id: fields.string("consumerId")? },
        "resumeConsumer" => Request::ResumeConsumer { consumer_id: fields.string("consumerId")? },
        "requestConsumerKeyFrame" => {
            Request::RequestConsumerKeyFrame { consumer_id: fields.string("consumerId")? }
        }
        "setConsumerPreferredLayers" => Request::SetConsumerPreferredLayers {
            consumer_id: fields.string("consumerId")?,
            layers: Layers {
                spatial: fields.small_number("spatialLayer", 0)?,
                temporal: fields.optional_small_number("temporalLayer", 0)?,
            },
        },
        "setConsumerPriority" => Request::SetConsumerPriority {
            consumer_id: fields.string("consumerId")?,
            priority: fields.small_number("priority", 1)?,
        },
        unknown => {
            let shown: String = unknown.chars().take(MAX_SHOWN_CHARS).collect();
            return Err(RequestError { code: 404, reason: format!("unknown method \"{shown}\"") });
        }
    };
    Ok(request)
}

/// A `newConsumer` request. Written without a tree of JSON values between: in a large room there
/// are two for every pair of peers.
#[derive(Serialize)]
struct OfferFrame<T> {
    request: bool,
    id: u32,
    method: &'static str,
    data: T,
}

/// Its data, for both generations.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewConsumer<'a> {
    id: &'a str,
    consumer_id: &'a str,
    transport_id: &'a str,
    producer_id: &'a str,
    peer_id: &'a str,
    kind: Kind,
    rtp_parameters: &'a ConsumerRtpParameters,
    #[serde(rename = "type")]
    consumer_type: ConsumerType,
    app_data: AppData<'a>,
    producer_paused: bool,
    consumer_score: ConsumerScore,
}

impl<'a> NewConsumer<'a> {
    fn new(options: &'a ConsumerOptions) -> Self {
        // No report has come yet; clients expect the field.
        let consumer_score =
            ConsumerScore { score: 10, producer_score: 10, producer_scores: Vec::new() };
        NewConsumer {
            id: &options.id,
            consumer_id: &options.id,
            transport_id: &options.transport_id,
            producer_id: &options.producer_id,
            peer_id: &options.peer_id,
            kind: options.kind,
            rtp_parameters: &options.rtp_parameters,
            consumer_type: options.consumer_type,
            app_data: AppData(options),
            producer_paused: options.producer_paused,
            consumer_score,
        }
    }
}

/// The producer's appData in both generations' words: `share` and `source`, and whose it is.
struct AppData<'a>(&'a ConsumerOptions);

impl Serialize for AppData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AppData(options) = self;
        let source = options.app_data.string("source");
        let source = match source.as_deref() {
            Some("screen" | "screensharing") => "screensharing",
            Some(other) => other,
            None if options.app_data.is_true("share") => "screensharing",
            None => match options.kind {
                Kind::Audio => "audio",
                Kind::Video => "video",
            },
        };
        let share = source == "screensharing";
        let members = [
            ("share", Member::Flag(share)),
            ("source", Member::Text(source)),
            ("peerId", Member::Text(&options.peer_id)),
        ];
        options.app_data.with(&members).serialize(serializer)
    }
}

/// The data of `newDataConsumer`, for both generations: the newer one looks for the channel's name
/// in appData.
fn new_data_consumer(options: &DataConsumerOptions) -> Value {
    let peer_id = options.peer_id.as_deref();
    let mut members: Vec<_> =
        peer_id.iter().map(|&peer_id| ("peerId", Member::Text(peer_id))).collect();
    if options.app_data.get("channel").is_none() {
        members.push(("channel", Member::Text(&options.label)));
    }
    json!({
        "id": options.id,
        "dataConsumerId": options.id,
        "transportId": options.transport_id,
        "dataProducerId": options.data_producer_id,
        "peerId": peer_id,
        "sctpStreamParameters": options.sctp_stream_parameters,
        "label": options.label,
        "protocol": options.protocol,
        "appData": options.app_data.with(&members),
    })
}

/// A peer in both generations' words. Clients of the newer one look for the address; nobody is told
/// from where others connect.
fn new_peer(peer: &PeerInfo) -> Value {
    let mut data = peer_info(peer);
    let nested = data.clone();
    insert(&mut data, "peer", nested);
    data
}

fn peer_info(peer: &PeerInfo) -> Value {
    json!({
        "id": &*peer.id,
        "peerId": &*peer.id,
        "displayName": peer.display_name,
        "device": peer.device,
        "remoteAddress": null,
    })
}

fn layers_changed(consumer_id: &str, layers: Option<Layers>) -> Value {
    let spatial = layers.map(|layers| layers.spatial);
    let temporal = layers.and_then(|layers| layers.temporal);
    let mut data = json!({
        "consumerId": consumer_id, "spatialLayer": spatial, "temporalLayer": temporal,
    });
    if layers.is_some() {
        let nested = json!({"spatialLayer": spatial, "temporalLayer": temporal});
        insert(&mut data, "layers", nested);
    }
    data
}

/// `{...value, name: value}`.
fn with_self(value: &impl Serialize, name: &str) -> Value {
    let mut data = json!(value);
    let nested = data.clone();
    insert(&mut data, name, nested);
    data
}

/// `{...value, alias: value[name]}`.
fn with_alias(value: &impl Serialize, name: &str, alias: &str) -> Value {
    let mut data = json!(value);
    let aliased = data.get(name).cloned().unwrap_or_default();
    insert(&mut data, alias, aliased);
    data
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.into(), value);
    }
}

fn notify(effects: &mut Vec<Effect>, method: &str, data: Value) {
    send(effects, &json!({"notification": true, "method": method, "data": data}));
}

fn send(effects: &mut Vec<Effect>, frame: &impl Serialize) {
    // Nothing here has keys that are not strings, the one thing that JSON cannot say.
    effects.push(Effect::Send(serde_json::to_string(frame).unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use opencall_control::api::{DownlinkBandwidth, DtlsParameters, SctpMode};
    use opencall_control::rtp_parameters::RtpParameters;

    use super::super::samples;
    use super::*;

    fn text(envelope: &mut Protoo, frame: &Value) -> Vec<Effect> {
        let mut effects = Vec::new();
        envelope.handle_text(Time::ZERO, &frame.to_string(), &mut effects);
        effects
    }

    fn request(method: &str, data: Value) -> Value {
        json!({"request": true, "id": 7, "method": method, "data": data})
    }

    /// The only frame sent.
    fn sent(effects: &[Effect]) -> Value {
        match effects {
            [Effect::Send(text)] => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The only request made of control.
    fn asked(effects: Vec<Effect>) -> (Token, Request) {
        match <[Effect; 1]>::try_from(effects) {
            Ok([Effect::Ask { token, request }]) => (token, request),
            other => panic!("{other:?}"),
        }
    }

    /// The data of the answer that `response` becomes for a client that asked `method`.
    fn answer(envelope: &mut Protoo, method: &str, data: Value, response: Response) -> Value {
        let (token, _) = asked(text(envelope, &request(method, data)));
        let mut effects = Vec::new();
        envelope.handle_response(token, Ok(response), &mut effects);
        let frame = sent(&effects);
        assert_eq!(frame["response"], true);
        assert_eq!((&frame["id"], &frame["ok"]), (&json!(7), &json!(true)));
        frame["data"].clone()
    }

    fn notified(notification: Notification) -> Value {
        let mut effects = Vec::new();
        Protoo::new().handle_notification(Time::ZERO, notification, &mut effects);
        let frame = sent(&effects);
        assert_eq!(frame["notification"], true);
        json!([frame["method"], frame["data"]])
    }

    #[test]
    fn the_version_comes_first_under_both_names() {
        let mut effects = Vec::new();
        Protoo::new().handle_open(&mut effects);
        let methods: Vec<Value> = effects
            .iter()
            .map(|effect| sent(std::slice::from_ref(effect))["method"].clone())
            .collect();
        assert_eq!(methods, ["mediasoup-version", "mediasoupVersion"]);
    }

    #[test]
    fn both_generations_ask_the_same_things() {
        let dtls = json!({"role": "client", "fingerprints": []});
        let dtls_parameters: DtlsParameters = serde_json::from_value(dtls.clone()).unwrap();
        let consumer_id = || "c".to_owned();
        let producer_id = || "p".to_owned();
        let create =
            |direction, force_tcp, sctp| Request::CreateTransport { direction, force_tcp, sctp };
        let send = create(Direction::Send, false, SctpMode::Off);
        let recv = create(Direction::Recv, true, SctpMode::Off);
        let with_sctp = create(Direction::Send, false, SctpMode::Negotiated);
        let in_band = create(Direction::Recv, false, SctpMode::InBand);
        let layers = |spatial, temporal| Request::SetConsumerPreferredLayers {
            consumer_id: consumer_id(),
            layers: Layers { spatial, temporal },
        };
        let table = [
            ("getRouterRtpCapabilities", json!(null), Request::RouterRtpCapabilities),
            ("createWebRtcTransport", json!({"producing": true, "consuming": false}), send.clone()),
            ("createWebRtcTransport", json!({"appData": {"direction": "producer"}}), send),
            ("createWebRtcTransport", json!({"consuming": true, "dcep": true}), in_band),
            (
                "createWebRtcTransport",
                json!({"producing": true,
                       "sctpCapabilities": {"numStreams": {"OS": 1024, "MIS": 1024}}}),
                with_sctp,
            ),
            ("createWebRtcTransport", json!({"forceTcp": true, "consuming": true}), recv.clone()),
            (
                "createWebRtcTransport",
                json!({"forceTcp": true, "appData": {"direction": "consumer"}}),
                recv,
            ),
            (
                "connectWebRtcTransport",
                json!({"transportId": "t", "dtlsParameters": dtls}),
                Request::ConnectTransport { transport_id: "t".into(), dtls_parameters },
            ),
            (
                "restartIce",
                json!({"transportId": "t"}),
                Request::RestartIce { transport_id: "t".into() },
            ),
            (
                "join",
                json!({"displayName": "Bob", "device": {"flag": "x"}, "rtpCapabilities": null}),
                Request::Join {
                    codec_hints: None,
                    display_name: "Bob".into(),
                    device: samples::object(json!({"flag": "x"})),
                    rtp_capabilities: None,
                },
            ),
            (
                "produce",
                json!({
                    "transportId": "t", "kind": "video", "rtpParameters": {"codecs": []},
                    "appData": {"share": true},
                }),
                Request::Produce {
                    transport_id: "t".into(),
                    kind: Kind::Video,
                    rtp_parameters: RtpParameters::default(),
                    app_data: samples::object(json!({"share": true})),
                    paused: false,
                },
            ),
            (
                "closeProducer",
                json!({"producerId": "p"}),
                Request::CloseProducer { producer_id: producer_id() },
            ),
            (
                "pauseProducer",
                json!({"producerId": "p"}),
                Request::PauseProducer { producer_id: producer_id() },
            ),
            (
                "resumeProducer",
                json!({"producerId": "p"}),
                Request::ResumeProducer { producer_id: producer_id() },
            ),
            (
                "pauseConsumer",
                json!({"consumerId": "c"}),
                Request::PauseConsumer { consumer_id: consumer_id() },
            ),
            (
                "resumeConsumer",
                json!({"consumerId": "c"}),
                Request::ResumeConsumer { consumer_id: consumer_id() },
            ),
            (
                "closeConsumer",
                json!({"consumerId": "c"}),
                Request::CloseConsumer { consumer_id: consumer_id() },
            ),
            (
                "requestConsumerKeyFrame",
                json!({"consumerId": "c"}),
                Request::RequestConsumerKeyFrame { consumer_id: consumer_id() },
            ),
            (
                "setConsumerPreferredLayers",
                json!({"consumerId": "c", "spatialLayer": 2, "temporalLayer": 1}),
                layers(2, Some(1)),
            ),
            (
                "setConsumerPreferredLayers",
                json!({"consumerId": "c", "spatialLayer": 0}),
                layers(0, None),
            ),
            (
                "setConsumerPriority",
                json!({"consumerId": "c", "priority": 255}),
                Request::SetConsumerPriority { consumer_id: consumer_id(), priority: 255 },
            ),
            (
                "changeDisplayName",
                json!({"displayName": "B"}),
                Request::ChangeDisplayName { display_name: "B".into() },
            ),
            (
                "getTransportStats",
                json!({"transportId": "t"}),
                Request::Stats(StatsOf::Transport("t".into())),
            ),
            (
                "getProducerStats",
                json!({"producerId": "p"}),
                Request::Stats(StatsOf::Producer("p".into())),
            ),
            (
                "getConsumerStats",
                json!({"consumerId": "c"}),
                Request::Stats(StatsOf::Consumer("c".into())),
            ),
        ];
        for (method, data, expected) in table {
            let mut envelope = Protoo::new();
            let (token, asked_for) = asked(text(&mut envelope, &request(method, data.clone())));
            assert_eq!(asked_for, expected, "{method}");
            let mut effects = Vec::new();
            envelope.handle_response(token, Ok(Response::Done), &mut effects);
            let done = json!({"response": true, "id": 7, "ok": true, "data": {}});
            assert_eq!(sent(&effects), done, "{method}");

            // As a notification it means the same and gets no answer.
            let frame = json!({"notification": true, "method": method, "data": data});
            let (token, asked_for) = asked(text(&mut envelope, &frame));
            assert_eq!(asked_for, expected, "{method}");
            let mut effects = Vec::new();
            envelope.handle_response(token, Ok(Response::Done), &mut effects);
            assert!(effects.is_empty(), "{method}");
        }
    }

    #[test]
    fn answers_are_supersets_of_both_generations() {
        let mut envelope = Protoo::new();
        let mut ask = |method: &str, response| {
            let data = json!({"transportId": "t", "producing": true, "kind": "audio",
                              "rtpParameters": {"codecs": []}});
            answer(&mut envelope, method, data, response)
        };
        let capabilities = json!(samples::capabilities());
        let data = ask(
            "getRouterRtpCapabilities",
            Response::RouterRtpCapabilities(Arc::new(samples::capabilities())),
        );
        assert_eq!(data["codecs"], capabilities["codecs"]);
        assert_eq!(data["routerRtpCapabilities"], capabilities);

        let data = ask("createWebRtcTransport", Response::Transport(samples::transport()));
        assert_eq!((&data["id"], &data["transportId"]), (&json!("t1"), &json!("t1")));
        assert_eq!(data["iceParameters"]["iceLite"], true);
        assert_eq!(data["iceCandidates"][0]["type"], "host");

        let data = ask("restartIce", Response::Ice(samples::ice()));
        assert_eq!(data["usernameFragment"], "uf");
        assert_eq!(data["iceParameters"]["usernameFragment"], "uf");

        let data = ask("produce", Response::Produced { producer_id: "p1".into() });
        assert_eq!(data, json!({"id": "p1", "producerId": "p1"}));

        let data = ask(
            "join",
            Response::Joined { peers: vec![samples::peer()], entrance: samples::entrance() },
        );
        let alice = json!({"id": "alice", "peerId": "alice", "displayName": "Alice",
                           "device": {"flag": "chrome", "name": "Chrome"},
                           "remoteAddress": null});
        assert_eq!(data["peers"], json!([alice]));
        assert_eq!((&data["can"]["host"], &data["roomLocked"]), (&json!(true), &json!(true)));
        assert!(envelope.has_joined());
    }

    #[test]
    fn where_kinds_differ_the_generation_decides() {
        let mut envelope = Protoo::new();
        let mut ask = |direction| {
            let transport = Response::Transport(samples::transport());
            answer(&mut envelope, "createWebRtcTransport", direction, transport);
            let data = json!({"transportId": "t"});
            answer(&mut envelope, "getTransportStats", data, Response::Stats(Vec::new()))
        };
        assert_eq!(ask(json!({"producing": true})), json!([]));
        let new = json!({"appData": {"direction": "producer"}});
        assert_eq!(ask(new), json!({"stats": []}));

        let effects = text(&mut envelope, &request("getRtcStatsUrl", json!({})));
        assert_eq!(sent(&effects)["data"], json!({}));
    }

    #[test]
    fn a_consumer_is_offered_and_the_answer_starts_or_ends_it() {
        let mut envelope = Protoo::new();
        for (ok, accepted) in [(json!(true), true), (json!(false), false), (json!(null), false)] {
            let mut effects = Vec::new();
            let offer = Notification::NewConsumer(samples::consumer(json!({})));
            envelope.handle_notification(Time::ZERO, offer, &mut effects);
            let frame = sent(&effects);
            assert_eq!(
                (&frame["request"], &frame["method"]),
                (&json!(true), &json!("newConsumer"))
            );
            let data = &frame["data"];
            assert_eq!((&data["id"], &data["consumerId"]), (&json!("c1"), &json!("c1")));
            assert_eq!(data["type"], "simulcast");
            assert_eq!(data["consumerScore"]["score"], 10);

            let reply = json!({"response": true, "id": frame["id"], "ok": ok});
            let (_, request) = asked(text(&mut envelope, &reply));
            assert_eq!(request, Request::ConsumerReady { consumer_id: "c1".into(), accepted });
            // The same answer again means nothing.
            assert!(text(&mut envelope, &reply).is_empty());
        }
    }

    #[test]
    fn a_data_consumer_is_offered_in_both_generations_words() {
        for (app_data, channel) in [(json!({}), "chat"), (json!({"channel": "bot"}), "bot")] {
            let mut envelope = Protoo::new();
            let mut effects = Vec::new();
            let options = Box::new(samples::data_consumer(app_data));
            let offer = Notification::NewDataConsumer(options);
            envelope.handle_notification(Time::ZERO, offer, &mut effects);
            let frame = sent(&effects);
            assert_eq!(frame["method"], "newDataConsumer");
            let expected = json!({
                "id": "dc1", "dataConsumerId": "dc1", "transportId": "t2", "dataProducerId": "dp1",
                "peerId": "alice", "label": "chat", "protocol": "p",
                "sctpStreamParameters": {"streamId": 3, "ordered": false, "maxRetransmits": 0},
                "appData": {"peerId": "alice", "channel": channel},
            });
            assert_eq!(frame["data"], expected);

            // What ends meanwhile is told once the client has made it.
            let closed = Notification::DataConsumerClosed { data_consumer_id: "dc1".into() };
            let mut effects = Vec::new();
            envelope.handle_notification(Time::ZERO, closed, &mut effects);
            assert!(effects.is_empty());
            let reply = json!({"response": true, "id": frame["id"], "ok": true});
            assert_eq!(sent(&text(&mut envelope, &reply))["method"], "dataConsumerClosed");
        }
    }

    #[test]
    fn an_accepted_data_consumer_is_told_to_control() {
        let mut envelope = Protoo::new();
        let mut effects = Vec::new();
        let offer = Notification::NewDataConsumer(Box::new(samples::data_consumer(json!({}))));
        envelope.handle_notification(Time::ZERO, offer, &mut effects);
        let reply = json!({"response": true, "id": sent(&effects)["id"], "ok": true});
        let (_, request) = asked(text(&mut envelope, &reply));
        let data_consumer_id = "dc1".to_owned();
        assert_eq!(request, Request::DataConsumerReady { data_consumer_id, accepted: true });

        let response = Response::ProducedData { data_producer_id: "dp1".into() };
        let data = json!({"transportId": "t", "sctpStreamParameters": {"streamId": 0}});
        let data = answer(&mut envelope, "produceData", data, response);
        assert_eq!(data, json!({"id": "dp1", "dataProducerId": "dp1"}));
    }

    #[test]
    fn an_offer_without_an_answer_is_taken_back() {
        let mut envelope = Protoo::new();
        let mut effects = Vec::new();
        for _ in 0..2 {
            let offer = Notification::NewConsumer(samples::consumer(json!({})));
            envelope.handle_notification(Time::ZERO, offer, &mut effects);
        }
        // 2000·15 ms for the first, 2000·(15 + 0.1) for the second.
        assert_eq!(envelope.next_timeout(), Time::from_millis(30_000));
        effects.clear();
        envelope.handle_timeout(Time::from_millis(30_000), &mut effects);
        let (_, request) = asked(effects);
        let refused = Request::ConsumerReady { consumer_id: "c1".into(), accepted: false };
        assert_eq!(request, refused);
        assert_eq!(envelope.next_timeout(), Time::from_millis(30_200));
    }

    #[test]
    fn app_data_speaks_both_generations() {
        let table = [
            (json!({}), "video", false),
            (json!({"share": true}), "screensharing", true),
            (json!({"source": "screensharing"}), "screensharing", true),
            (json!({"source": "screen"}), "screensharing", true),
            (json!({"source": "webcam", "x": 1}), "webcam", false),
            (json!({"source": 5}), "video", false),
        ];
        for (app_data, source, share) in table {
            let data = json!(NewConsumer::new(&samples::consumer(app_data.clone())));
            let seen = &data["appData"];
            assert_eq!(seen["source"], source, "{app_data}");
            assert_eq!(seen["share"], share, "{app_data}");
            assert_eq!(seen["peerId"], "alice");
            assert_eq!(seen["x"], app_data["x"]);
        }
    }

    #[test]
    fn notifications_carry_the_fields_of_both_generations() {
        let id = || "c1".to_owned();
        let layers = Layers { spatial: 1, temporal: None };
        let score = ConsumerScore { score: 9, producer_score: 8, producer_scores: vec![8, 0] };
        let scores = json!({"score": 9, "producerScore": 8, "producerScores": [8, 0]});
        let table = [
            (
                Notification::PeerClosed { peer_id: "alice".into() },
                json!(["peerClosed", {"peerId": "alice"}]),
            ),
            (
                Notification::PeerDisplayNameChanged {
                    peer_id: "a".into(),
                    display_name: "B".into(),
                    old_display_name: "A".into(),
                },
                json!(["peerDisplayNameChanged",
                       {"peerId": "a", "displayName": "B", "oldDisplayName": "A"}]),
            ),
            (
                Notification::ConsumerClosed { consumer_id: id() },
                json!(["consumerClosed", {"consumerId": "c1"}]),
            ),
            (
                Notification::ConsumerPaused { consumer_id: id() },
                json!(["consumerPaused", {"consumerId": "c1"}]),
            ),
            (
                Notification::ConsumerResumed { consumer_id: id() },
                json!(["consumerResumed", {"consumerId": "c1"}]),
            ),
            (
                Notification::ConsumerLayersChanged { consumer_id: id(), layers: Some(layers) },
                json!(["consumerLayersChanged",
                       {"consumerId": "c1", "spatialLayer": 1, "temporalLayer": null,
                        "layers": {"spatialLayer": 1, "temporalLayer": null}}]),
            ),
            (
                Notification::ConsumerLayersChanged { consumer_id: id(), layers: None },
                json!(["consumerLayersChanged",
                       {"consumerId": "c1", "spatialLayer": null, "temporalLayer": null}]),
            ),
            (
                Notification::ConsumerScore { consumer_id: id(), score },
                json!(["consumerScore", {"consumerId": "c1", "score": scores}]),
            ),
            (
                Notification::DownlinkBandwidth(DownlinkBandwidth {
                    desired_bitrate: 3,
                    effective_desired_bitrate: 2,
                    available_bitrate: 1,
                }),
                json!(["downlinkBwe", {"desiredBitrate": 3, "effectiveDesiredBitrate": 2,
                                       "availableBitrate": 1}]),
            ),
            (
                Notification::Speakers([("a".into(), -20), ("b".into(), -30)].into()),
                json!(["activeSpeaker", {"peerId": "a", "volume": -20}]),
            ),
            (Notification::Speakers([].into()), json!(["activeSpeaker", {"peerId": null}])),
        ];
        for (notification, expected) in table {
            assert_eq!(notified(notification), expected);
        }
        let new_peer = notified(Notification::NewPeer(samples::peer()));
        assert_eq!(new_peer[1]["id"], "alice");
        assert_eq!(new_peer[1]["peer"]["peerId"], "alice");
    }

    #[test]
    fn errors_carry_code_and_reason() {
        let table = [
            ("fly", json!({}), 404, "unknown method \"fly\""),
            ("join", json!([]), 400, "data: expected an object, found an array"),
            ("restartIce", json!({}), 400, "transportId: missing; expected a string"),
            (
                "createWebRtcTransport",
                json!({"producing": true, "consuming": true}),
                400,
                "producing, consuming: exactly one must be true, or appData.direction be given",
            ),
            (
                "createWebRtcTransport",
                json!({"appData": {"direction": "up"}}),
                400,
                "appData.direction: expected \"producer\" or \"consumer\"",
            ),
            (
                "setConsumerPriority",
                json!({"consumerId": "c", "priority": 0}),
                400,
                "priority: expected a whole number from 1 to 255, found another number",
            ),
            ("produceData", json!({}), 400, "transportId: missing; expected a string"),
        ];
        for (method, data, code, reason) in table {
            let frame = sent(&text(&mut Protoo::new(), &request(method, data)));
            let expected = json!({"response": true, "id": 7, "ok": false,
                                  "errorCode": code, "errorReason": reason});
            assert_eq!(frame, expected, "{method}");
        }
    }

    #[test]
    fn control_s_refusal_reaches_the_client() {
        let mut envelope = Protoo::new();
        let (token, _) = asked(text(&mut envelope, &request("join", json!({}))));
        let mut effects = Vec::new();
        let error = RequestError { code: 403, reason: "joined already".into() };
        envelope.handle_response(token, Err(error), &mut effects);
        assert_eq!(sent(&effects)["errorCode"], 403);
        assert!(!envelope.has_joined());
    }

    #[test]
    fn malformed_frames_are_told_and_too_many_end_the_connection() {
        let frames = [
            "",
            "nonsense",
            "[]",
            "7",
            "null",
            "{}",
            "{\"request\":1}",
            "{\"request\":true}",
            "{\"request\":true,\"id\":-1}",
            "{\"request\":true,\"id\":1.5}",
            "{\"request\":true",
        ];
        for frame in frames {
            let mut effects = Vec::new();
            Protoo::new().handle_text(Time::ZERO, frame, &mut effects);
            assert_eq!(sent(&effects)["method"], "error", "{frame}");
        }
        let mut envelope = Protoo::new();
        let mut effects = Vec::new();
        for _ in 0..=MAX_MALFORMED_FRAMES {
            effects.clear();
            envelope.handle_text(Time::ZERO, "[]", &mut effects);
        }
        assert!(matches!(effects[..], [Effect::Close(Closing::Flood)]));
    }

    /// The methods of the frames, in order.
    fn methods(effects: &[Effect]) -> Vec<String> {
        let method = |effect: &Effect| match effect {
            Effect::Send(text) => {
                let frame: Value = serde_json::from_str(text).unwrap();
                Some(frame["method"].as_str().unwrap_or("answer").to_owned())
            }
            _ => None,
        };
        effects.iter().filter_map(method).collect()
    }

    #[test]
    fn news_of_a_consumer_wait_until_its_client_has_made_it() {
        let id = || "c1".to_owned();
        let paused = || Notification::ConsumerPaused { consumer_id: id() };
        let resumed = || Notification::ConsumerResumed { consumer_id: id() };
        let closed = || Notification::ConsumerClosed { consumer_id: id() };
        let other = || Notification::ConsumerPaused { consumer_id: "c2".into() };
        let table: [(Vec<Notification>, bool, Vec<&str>, bool); 5] = [
            (vec![paused(), resumed(), paused()], true, vec!["consumerPaused"], true),
            (vec![paused(), closed()], true, vec!["consumerClosed"], false),
            (vec![closed()], false, vec![], false),
            (vec![paused()], false, vec![], true),
            (vec![], true, vec![], true),
        ];
        for (news, accepted, told, asks) in table {
            let mut envelope = Protoo::new();
            let mut effects = Vec::new();
            let offer = Notification::NewConsumer(samples::consumer(json!({})));
            envelope.handle_notification(Time::ZERO, offer, &mut effects);
            let offer_id = sent(&effects)["id"].clone();
            effects.clear();
            for notification in news.clone() {
                envelope.handle_notification(Time::ZERO, notification, &mut effects);
            }
            assert!(effects.is_empty(), "{news:?} overtook the offer");
            envelope.handle_notification(Time::ZERO, other(), &mut effects);
            assert_eq!(methods(&effects), ["consumerPaused"], "of another consumer");

            let answer = json!({"response": true, "id": offer_id, "ok": accepted});
            let effects = text(&mut envelope, &answer);
            assert_eq!(methods(&effects), told, "{news:?} {accepted}");
            let asked = effects.iter().any(|effect| matches!(effect, Effect::Ask { .. }));
            assert_eq!(asked, asks, "{news:?} {accepted}");
            // From now on news go out at once.
            let mut effects = Vec::new();
            envelope.handle_notification(Time::ZERO, resumed(), &mut effects);
            assert_eq!(methods(&effects), ["consumerResumed"]);
        }
    }
}
