//! The protoo envelope: `{request|response|notification: true, id, method, data}`.
//!
//! Applications of two generations speak it, and one server serves both: answers are supersets of
//! what either expects, actions are taken as requests and as notifications, and where the kinds
//! differ (a list or an object) the generation decides, which shows in how the client asks for its
//! transports.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Duration;

use opencall_control::api::{
    ConsumerOptions, Direction, Notification, PeerInfo, Request, RequestError, Response, StatsOf,
    Token,
};
use opencall_dataplane::message::Layers;
use opencall_dataplane::time::Time;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::fields::{Fields, bad_request};
use super::{
    Closing, Effect, Envelope, MAX_MALFORMED_FRAMES, Permit, VERSION, no_data_channels, over_rate,
};

/// The sub-protocol's name.
pub const SUB_PROTOCOL: &str = "protoo";

/// Ids of requests lie in 0…10^7 on both sides.
const MAX_REQUEST_ID: u32 = 10_000_000;

/// How long a client may take for our request is 2000·(15 + 0.1·pending) ms.
const OFFER_TIMEOUT_BASE_MS: u64 = 2000 * 15;
const OFFER_TIMEOUT_PER_PENDING_MS: u64 = 200;

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

/// A `newConsumer` that waits for the client's answer.
struct Offer {
    consumer_id: String,
    deadline: Time,
}

/// The translator of one connection.
pub struct Protoo {
    generation: Generation,
    next_token: u64,
    pending: HashMap<Token, Pending>,
    offers: HashMap<u32, Offer>,
    joined: bool,
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
            joined: false,
            malformed_frames: 0,
        }
    }

    fn handle_object(
        &mut self,
        mut frame: Map<String, Value>,
        permit: Permit,
        effects: &mut Vec<Effect>,
    ) {
        let is = |frame: &Map<String, Value>, kind| frame.get(kind) == Some(&Value::Bool(true));
        if is(&frame, "response") {
            return self.handle_answer(&frame, effects);
        }
        let id = match (is(&frame, "request"), is(&frame, "notification")) {
            (true, _) => match frame.get("id").and_then(Value::as_u64) {
                Some(id) => Some(id),
                None => return self.malformed("id: expected a number from 0 to 10000000", effects),
            },
            (false, true) => None,
            (false, false) => {
                let text = "request, response or notification: one of them must be true";
                return self.malformed(text, effects);
            }
        };
        if permit == Permit::Refused {
            return self.fail(id, &over_rate(), effects);
        }
        let Some(Value::String(method)) = frame.remove("method") else {
            return self.fail(id, &bad_request("method: expected a string"), effects);
        };
        let data = frame.remove("data");
        match self.action(&method, data) {
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
    fn handle_answer(&mut self, frame: &Map<String, Value>, effects: &mut Vec<Effect>) {
        let id = frame.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        // An answer that comes after its time-out is no fault.
        let Some(offer) = id.and_then(|id| self.offers.remove(&id)) else { return };
        let accepted = frame.get("ok") == Some(&Value::Bool(true));
        self.settle_offer(offer, accepted, effects);
    }

    fn settle_offer(&mut self, offer: Offer, accepted: bool, effects: &mut Vec<Effect>) {
        let request = Request::ConsumerReady { consumer_id: offer.consumer_id, accepted };
        effects.push(Effect::Ask { token: self.token(), request });
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// What `method` with `data` asks for.
    fn action(&mut self, method: &str, data: Option<Value>) -> Result<Action, RequestError> {
        let mut data = Fields::new(data)?;
        let fields = &mut data;
        let request = match method {
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
                display_name: fields.optional_string("displayName")?.unwrap_or_default(),
                device: fields.passed_on("device")?,
                rtp_capabilities: fields.optional_typed("rtpCapabilities")?,
            },
            "produce" => Request::Produce {
                transport_id: fields.string("transportId")?,
                kind: fields.typed("kind")?,
                rtp_parameters: fields.typed("rtpParameters")?,
                app_data: fields.passed_on("appData")?,
                paused: fields.boolean_or("paused", false)?,
            },
            "produceData" | "getDataProducerStats" | "getDataConsumerStats" => {
                return Err(no_data_channels());
            }
            "getTransportStats" => {
                Request::Stats(StatsOf::Transport(fields.string("transportId")?))
            }
            "getProducerStats" => Request::Stats(StatsOf::Producer(fields.string("producerId")?)),
            "getConsumerStats" => Request::Stats(StatsOf::Consumer(fields.string("consumerId")?)),
            "changeDisplayName" => {
                Request::ChangeDisplayName { display_name: fields.string("displayName")? }
            }
            _ => stream_action(method, fields)?,
        };
        Ok(Action::Ask(request))
    }

    fn create_transport(&mut self, fields: &mut Fields) -> Result<Request, RequestError> {
        let force_tcp = fields.boolean_or("forceTcp", false)?;
        let named = fields.nested("appData")?.optional_string("direction")?;
        let direction = match named.as_deref() {
            Some("producer") => Direction::Send,
            Some("consumer") => Direction::Recv,
            Some(_) => {
                return Err(bad_request("appData.direction: expected \"producer\" or \"consumer\""));
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
        Ok(Request::CreateTransport { direction, force_tcp })
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
            Response::Done => json!({}),
            Response::RouterRtpCapabilities(capabilities) => {
                with_self(&capabilities, "routerRtpCapabilities")
            }
            Response::Joined { peers } => {
                json!({"peers": peers.iter().map(peer_info).collect::<Vec<_>>()})
            }
            Response::Transport(options) => with_alias(&options, "id", "transportId"),
            Response::Ice(parameters) => with_self(&parameters, "iceParameters"),
            Response::Produced { producer_id } => {
                json!({"id": producer_id, "producerId": producer_id})
            }
            Response::Consumed(options) => new_consumer(&options),
            Response::Stats(stats) => match self.generation {
                Generation::Old => json!(stats),
                Generation::New => json!({"stats": stats}),
            },
        }
    }

    /// Offers a consumer: a request of ours.
    fn offer(&mut self, now: Time, options: &ConsumerOptions, effects: &mut Vec<Effect>) {
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
        self.offers.insert(id, Offer { consumer_id: options.id.clone(), deadline });
        let frame = json!({
            "request": true, "id": id, "method": "newConsumer", "data": new_consumer(options),
        });
        send(effects, &frame);
    }

    fn speakers(&self, speakers: &[(String, i8)], effects: &mut Vec<Effect>) {
        if self.generation == Generation::New {
            let volumes: Vec<Value> = speakers
                .iter()
                .map(|(peer_id, volume)| json!({"peerId": peer_id, "volume": volume}))
                .collect();
            notify(effects, "speakingPeers", json!({"peerVolumes": volumes}));
        }
        let loudest = match speakers.first() {
            Some((peer_id, volume)) => json!({"peerId": peer_id, "volume": volume}),
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

    fn handle_text(&mut self, _now: Time, text: &str, permit: Permit, effects: &mut Vec<Effect>) {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(frame)) => self.handle_object(frame, permit, effects),
            Ok(_) => self.malformed("expected one JSON object per message", effects),
            Err(error) => self.malformed(&format!("not JSON: {error}"), effects),
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
        let (method, data) = match notification {
            Notification::NewConsumer(options) => return self.offer(now, &options, effects),
            Notification::Speakers(speakers) => return self.speakers(&speakers, effects),
            // Clients of this envelope have no use for these.
            Notification::NewProducer { .. }
            | Notification::ProducerClosed { .. }
            | Notification::ConnectionQuality(_) => return,
            Notification::NewPeer(peer) => {
                let mut data = peer_info(&peer);
                let nested = data.clone();
                insert(&mut data, "peer", nested);
                ("newPeer", data)
            }
            Notification::PeerClosed { peer_id } => ("peerClosed", json!({"peerId": peer_id})),
            Notification::PeerDisplayNameChanged { peer_id, display_name, old_display_name } => (
                "peerDisplayNameChanged",
                json!({
                    "peerId": peer_id,
                    "displayName": display_name,
                    "oldDisplayName": old_display_name,
                }),
            ),
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
        };
        notify(effects, method, data);
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
    }

    fn next_timeout(&self) -> Time {
        self.offers.values().map(|offer| offer.deadline).min().unwrap_or(Time::NEVER)
    }

    fn has_joined(&self) -> bool {
        self.joined
    }

    fn ping_interval(&self) -> Duration {
        PING_INTERVAL
    }
}

/// Actions on producers and consumers, which are answered with nothing.
fn stream_action(method: &str, fields: &mut Fields) -> Result<Request, RequestError> {
    let request = match method {
        "closeProducer" => Request::CloseProducer { producer_id: fields.string("producerId")? },
        "pauseProducer" => Request::PauseProducer { producer_id: fields.string("producerId")? },
        "resumeProducer" => Request::ResumeProducer { producer_id: fields.string("producerId")? },
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
            let shown: String = unknown.chars().take(64).collect();
            return Err(RequestError { code: 404, reason: format!("unknown method \"{shown}\"") });
        }
    };
    Ok(request)
}

/// `newConsumer` for both generations.
fn new_consumer(options: &ConsumerOptions) -> Value {
    let mut data = with_alias(options, "id", "consumerId");
    insert(&mut data, "appData", Value::Object(consumer_app_data(options)));
    // No report has come yet; clients expect the field.
    let score = json!({"score": 10, "producerScore": 10, "producerScores": []});
    insert(&mut data, "consumerScore", score);
    data
}

/// The producer's appData in both generations' words: `share` and `source`, and whose it is.
fn consumer_app_data(options: &ConsumerOptions) -> Map<String, Value> {
    let mut app_data = options.app_data.clone();
    let shares = app_data.get("share") == Some(&Value::Bool(true));
    let source = match app_data.get("source").and_then(Value::as_str) {
        Some("screen" | "screensharing") => "screensharing".into(),
        Some(other) => other.to_owned(),
        None if shares => "screensharing".into(),
        None => match options.kind {
            opencall_control::rtp_parameters::Kind::Audio => "audio".into(),
            opencall_control::rtp_parameters::Kind::Video => "video".into(),
        },
    };
    app_data.insert("share".into(), Value::Bool(source == "screensharing"));
    app_data.insert("source".into(), Value::String(source));
    app_data.insert("peerId".into(), Value::String(options.peer_id.clone()));
    app_data
}

fn peer_info(peer: &PeerInfo) -> Value {
    json!({
        "id": peer.id,
        "peerId": peer.id,
        "displayName": peer.display_name,
        "device": peer.device,
        "remoteAddress": peer.remote_address,
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

fn send(effects: &mut Vec<Effect>, frame: &Value) {
    effects.push(Effect::Send(frame.to_string()));
}
