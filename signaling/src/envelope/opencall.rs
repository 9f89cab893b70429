//! OpenCall's own envelope: `{type: "mediasoup:<name>", id, data}`.
//!
//! The connection carries no ids; they are in the data of the requests. The session opens with the
//! first request that has both, and they cannot change later.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use opencall_control::api::{
    ConsumeMode, ConsumerOptions, Notification, Request, RequestError, Response,
    SessionConfig, StatsOf, Token,
};
use opencall_control::rtp_parameters::RtpCapabilities;
use opencall_dataplane::message::Layers;
use opencall_dataplane::time::Time;
use serde_json::{Map, Value, json};

use super::fields::{Fields, MAX_NAME_BYTES, bad_request};
use super::{
    Closing, Effect, Envelope, MAX_MALFORMED_FRAMES, Permit, no_data_channels, over_rate,
};

/// What every message type begins with.
const PREFIX: &str = "mediasoup:";

/// How often the server pings.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// `activeSpeakers` goes out at most this often.
const SPEAKERS_INTERVAL: Duration = Duration::from_millis(200);

/// A request of control that waits for its answer.
struct Pending {
    /// The client's id.
    id: String,
    /// What it was, where that matters.
    kind: PendingKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PendingKind {
    SetRtpCapabilities,
    Other,
}

/// Who the client said it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    meeting_id: String,
    participant_id: String,
}

/// The translator of one connection.
pub struct OpenCall {
    remote_address: Option<IpAddr>,
    identity: Option<Identity>,
    next_token: u64,
    pending: HashMap<Token, Pending>,
    joined: bool,
    malformed_frames: u32,
    /// When `activeSpeakers` may go out again.
    speakers_after: Time,
    /// The newest list that had to wait.
    waiting_speakers: Option<Vec<String>>,
}

impl OpenCall {
    /// A translator for a new connection.
    pub fn new(remote_address: Option<IpAddr>) -> Self {
        OpenCall {
            remote_address,
            identity: None,
            next_token: 0,
            pending: HashMap::new(),
            joined: false,
            malformed_frames: 0,
            speakers_after: Time::ZERO,
            waiting_speakers: None,
        }
    }

    fn handle_object(
        &mut self,
        mut frame: Map<String, Value>,
        permit: Permit,
        effects: &mut Vec<Effect>,
    ) {
        let id = match frame.remove("id") {
            Some(Value::String(id)) if id.len() <= MAX_NAME_BYTES => id,
            _ => return self.malformed("id: expected a short string", effects),
        };
        if permit == Permit::Refused {
            return fail(Some(&id), &over_rate(), effects);
        }
        let (kind, data) = (frame.remove("type"), frame.remove("data"));
        if let Err(error) = self.handle_request(&id, kind, data, effects) {
            fail(Some(&id), &error, effects);
        }
    }

    fn handle_request(
        &mut self,
        id: &str,
        kind: Option<Value>,
        data: Option<Value>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        let Some(Value::String(kind)) = kind else {
            return Err(bad_request("type: expected a string"));
        };
        let mut fields = Fields::new(data)?;
        let identity = self.identify(&mut fields)?;
        let request = request(&kind, &mut fields)?;
        let token = self.token();
        match (identity, &request) {
            // What a router can do does not depend on who asks.
            (None, Request::RouterRtpCapabilities) => {
                effects.push(Effect::RouterCapabilities { token });
            }
            (None, _) => {
                return Err(bad_request("meetingId, participantId: missing in the first request"));
            }
            (Some(identity), _) => {
                if self.identity.is_none() {
                    effects.push(Effect::Open(SessionConfig {
                        room: identity.meeting_id.clone(),
                        peer: identity.participant_id.clone(),
                        consume_mode: ConsumeMode::OnRequest,
                        remote_address: self.remote_address,
                    }));
                    self.identity = Some(identity);
                }
                effects.push(Effect::Ask { token, request: request.clone() });
            }
        }
        let kind = match request {
            Request::SetRtpCapabilities { .. } => PendingKind::SetRtpCapabilities,
            _ => PendingKind::Other,
        };
        self.pending.insert(token, Pending { id: id.to_owned(), kind });
        Ok(())
    }

    /// Who asks: as the request says, or as an earlier one has said.
    fn identify(&self, fields: &mut Fields) -> Result<Option<Identity>, RequestError> {
        let meeting_id = fields.optional_id("meetingId")?;
        let participant_id = fields.optional_id("participantId")?;
        let Some(known) = &self.identity else {
            return Ok(match (meeting_id, participant_id) {
                (Some(meeting_id), Some(participant_id)) => {
                    Some(Identity { meeting_id, participant_id })
                }
                _ => None,
            });
        };
        if meeting_id.is_some_and(|id| id != known.meeting_id) {
            return Err(bad_request("meetingId: cannot change; open another connection"));
        }
        if participant_id.is_some_and(|id| id != known.participant_id) {
            return Err(bad_request("participantId: cannot change; open another connection"));
        }
        Ok(Some(known.clone()))
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn malformed(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        self.malformed_frames += 1;
        if self.malformed_frames > MAX_MALFORMED_FRAMES {
            return effects.push(Effect::Close(Closing::Flood));
        }
        fail(None, &bad_request(reason), effects);
    }

    fn speakers(&mut self, now: Time, speakers: Vec<String>, effects: &mut Vec<Effect>) {
        if now < self.speakers_after {
            self.waiting_speakers = Some(speakers);
            return;
        }
        self.speakers_after = now + SPEAKERS_INTERVAL;
        self.waiting_speakers = None;
        event(effects, "activeSpeakers", json!(speakers));
    }
}

impl Envelope for OpenCall {
    fn handle_open(&mut self, _effects: &mut Vec<Effect>) {}

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
        let Some(Pending { id, kind }) = self.pending.remove(&token) else { return };
        let response = match result {
            Ok(response) => response,
            Err(error) => return fail(Some(&id), &error, effects),
        };
        self.joined |= kind == PendingKind::SetRtpCapabilities;
        let event_too = match &response {
            Response::Consumed(options) => Some(new_consumer(options)),
            _ => None,
        };
        send(effects, &json!({"type": "response", "id": id, "data": response_data(response)}));
        if let Some(data) = event_too {
            event(effects, "newConsumer", data);
        }
    }

    fn handle_notification(
        &mut self,
        now: Time,
        notification: Notification,
        effects: &mut Vec<Effect>,
    ) {
        let (name, data) = match notification {
            Notification::NewConsumer(options) => ("newConsumer", new_consumer(&options)),
            Notification::NewProducer { peer_id, producer_id, kind, app_data } => (
                "newProducer",
                json!({
                    "participantId": peer_id,
                    "producerId": producer_id,
                    "kind": kind,
                    "appData": app_data_of(app_data),
                }),
            ),
            Notification::Speakers(speakers) => {
                let ids = speakers.into_iter().map(|(peer_id, _)| peer_id).collect();
                return self.speakers(now, ids, effects);
            }
            Notification::ConnectionQuality(quality) => ("connectionQuality", json!(quality)),
            Notification::ConsumerClosed { consumer_id } => {
                ("consumerClosed", json!({"consumerId": consumer_id}))
            }
            Notification::ProducerClosed { producer_id } => {
                ("producerClosed", json!({"producerId": producer_id}))
            }
            Notification::PeerClosed { peer_id } => {
                ("participantLeft", json!({"participantId": peer_id}))
            }
            // Clients of this envelope have no use for these.
            Notification::NewPeer(_)
            | Notification::PeerDisplayNameChanged { .. }
            | Notification::ConsumerPaused { .. }
            | Notification::ConsumerResumed { .. }
            | Notification::ConsumerLayersChanged { .. }
            | Notification::ConsumerScore { .. }
            | Notification::ProducerScore { .. } => return,
        };
        event(effects, name, data);
    }

    fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if now >= self.speakers_after
            && let Some(speakers) = self.waiting_speakers.take()
        {
            self.speakers(now, speakers, effects);
        }
    }

    fn next_timeout(&self) -> Time {
        if self.waiting_speakers.is_some() { self.speakers_after } else { Time::NEVER }
    }

    fn has_joined(&self) -> bool {
        self.joined
    }

    fn ping_interval(&self) -> Duration {
        PING_INTERVAL
    }
}

/// What a message of type `kind` asks for.
fn request(kind: &str, fields: &mut Fields) -> Result<Request, RequestError> {
    let request = match kind.strip_prefix(PREFIX).unwrap_or_default() {
        "getRouterCapabilities" => Request::RouterRtpCapabilities,
        "setRtpCapabilities" => {
            Request::SetRtpCapabilities { rtp_capabilities: fields.typed("rtpCapabilities")? }
        }
        "createTransport" => {
            Request::CreateTransport { direction: fields.typed("direction")?, force_tcp: false }
        }
        "connectTransport" => Request::ConnectTransport {
            transport_id: fields.string("transportId")?,
            dtls_parameters: fields.typed("dtlsParameters")?,
        },
        "restartIce" => Request::RestartIce { transport_id: fields.string("transportId")? },
        "produce" => Request::Produce {
            transport_id: fields.string("transportId")?,
            kind: fields.typed("kind")?,
            rtp_parameters: fields.typed("rtpParameters")?,
            app_data: fields.passed_on("appData")?,
            paused: fields.boolean_or("paused", false)?,
        },
        "consume" => Request::Consume {
            producer_id: fields.string("producerId")?,
            rtp_capabilities: fields.optional_typed::<RtpCapabilities>("rtpCapabilities")?,
            transport_id: fields.optional_string("transportId")?,
            paused: fields.boolean_or("paused", false)?,
        },
        "produceData" | "consumeData" => return Err(no_data_channels()),
        "getStats" => Request::Stats(StatsOf::Peer),
        name => stream_request(name, kind, fields)?,
    };
    Ok(request)
}

/// Requests about one producer or consumer.
fn stream_request(name: &str, kind: &str, fields: &mut Fields) -> Result<Request, RequestError> {
    let request = match name {
        "closeProducer" => Request::CloseProducer { producer_id: fields.string("producerId")? },
        "pauseProducer" => Request::PauseProducer { producer_id: fields.string("producerId")? },
        "resumeProducer" => Request::ResumeProducer { producer_id: fields.string("producerId")? },
        "closeConsumer" => Request::CloseConsumer { consumer_id: fields.string("consumerId")? },
        "pauseConsumer" => Request::PauseConsumer { consumer_id: fields.string("consumerId")? },
        "resumeConsumer" => Request::ResumeConsumer { consumer_id: fields.string("consumerId")? },
        "requestConsumerKeyFrame" => {
            Request::RequestConsumerKeyFrame { consumer_id: fields.string("consumerId")? }
        }
        "setConsumerPreferredLayers" => {
            let consumer_id = fields.string("consumerId")?;
            let mut layers = fields.nested("layers")?;
            let layers = Layers {
                spatial: layers.small_number("spatialLayer", 0)?,
                temporal: layers.optional_small_number("temporalLayer", 0)?,
            };
            Request::SetConsumerPreferredLayers { consumer_id, layers }
        }
        "setConsumerPriority" => Request::SetConsumerPriority {
            consumer_id: fields.string("consumerId")?,
            priority: fields.small_number("priority", 1)?,
        },
        _ => {
            let shown: String = kind.chars().take(64).collect();
            let reason = format!("unknown message type \"{shown}\"");
            return Err(RequestError { code: 404, reason });
        }
    };
    Ok(request)
}

/// The data of a positive answer.
fn response_data(response: Response) -> Value {
    match response {
        Response::Done => json!({}),
        Response::RouterRtpCapabilities(capabilities) => json!(capabilities),
        Response::Joined { peers } => {
            json!({"participantIds": peers.into_iter().map(|peer| peer.id).collect::<Vec<_>>()})
        }
        Response::Transport(options) => json!(options),
        Response::Ice(parameters) => json!(parameters),
        Response::Produced { producer_id } => json!({"producerId": producer_id}),
        Response::Consumed(options) => consumer_data(&options),
        Response::Stats(stats) => json!({"stats": stats}),
    }
}

fn new_consumer(options: &ConsumerOptions) -> Value {
    json!({"participantId": options.peer_id, "consumerData": consumer_data(options)})
}

fn consumer_data(options: &ConsumerOptions) -> Value {
    json!({
        "id": options.id,
        "producerId": options.producer_id,
        "kind": options.kind,
        "rtpParameters": options.rtp_parameters,
        "appData": app_data_of(options.app_data.clone()),
        "type": options.consumer_type,
        "producerPaused": options.producer_paused,
    })
}

/// The producer's appData with a screen called as OpenCall's client calls it.
fn app_data_of(mut app_data: Map<String, Value>) -> Map<String, Value> {
    let shares = app_data.get("share") == Some(&Value::Bool(true));
    let source = app_data.get("source").and_then(Value::as_str);
    if source == Some("screensharing") || (source.is_none() && shares) {
        app_data.insert("source".into(), "screen".into());
    }
    app_data
}

/// An error; outside a request it has no id.
fn fail(id: Option<&str>, error: &RequestError, effects: &mut Vec<Effect>) {
    let mut frame = json!({"type": "error", "error": error.reason});
    if let (Some(id), Value::Object(members)) = (id, &mut frame) {
        members.insert("id".into(), id.into());
    }
    send(effects, &frame);
}

fn event(effects: &mut Vec<Effect>, name: &str, data: Value) {
    send(effects, &json!({"type": format!("{PREFIX}{name}"), "data": data}));
}

fn send(effects: &mut Vec<Effect>, frame: &Value) {
    effects.push(Effect::Send(frame.to_string()));
}
