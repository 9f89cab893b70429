//! OpenCall's own envelope: `{type: "mediasoup:<name>", id, data}`.
//!
//! The connection carries no ids; they are in the data of the requests. The session opens with the
//! first request that has both, and they cannot change later.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opencall_control::api::{
    ConsumeMode, ConsumerOptions, ConsumerRtpParameters, ConsumerType, DataConsumerOptions, Grants,
    JsonObject, Notification, PeerInfo, Request, RequestError, Response, SessionConfig, StatsOf,
    StatsReport, Token,
};
use opencall_control::json_object::Member;
use opencall_control::rtp_parameters::{Kind, RtpCapabilities};
use opencall_dataplane::message::Layers;
use opencall_wire::time::Time;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::fields::{Fields, bad_request};
use super::{
    Closing, Effect, Envelope, MAX_MALFORMED_FRAMES, host, mls, not_a_frame, participants,
    produce_data, sctp_mode, stage_places,
};
use crate::auth::claims::Admission;
use crate::resume::Claim;

/// What every message type begins with.
const PREFIX: &str = "mediasoup:";

/// OpenCall's client sends `{"type": "ping", "timestamp": …}` to keep proxies from closing the
/// connection, and expects no answer.
const PING: &str = "\"ping\"";

/// Asks whether the server is there, and is answered before anyone is looked for who could know
/// more.
const LIVENESS: &str = "mediasoup:ping";

/// Takes over a session whose connection was lost.
const RESUME: &str = "mediasoup:resume";

/// Ends such a session.
const FORGET: &str = "mediasoup:forget";

/// What participants are called in messages of the delivery service.
const MLS_WORDS: mls::Words = mls::Words { who: "participantId", everyone: "participantIds" };

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
    /// With whether the client will resume its session on another connection.
    SetRtpCapabilities {
        resume: bool,
    },
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
    /// What the client's token says.
    admission: Option<Admission>,
    identity: Option<Identity>,
    next_token: u64,
    pending: HashMap<Token, Pending>,
    joined: bool,
    waiting: bool,
    malformed_frames: u32,
    /// When `activeSpeakers` may go out again.
    speakers_after: Time,
    /// The newest list that had to wait.
    waiting_speakers: Option<Vec<Arc<str>>>,
    /// The list the client has.
    told_speakers: Vec<Arc<str>>,
}

impl OpenCall {
    /// A translator for a new connection, of this token's holder if there is one.
    pub fn new(admission: Option<Admission>) -> Self {
        OpenCall {
            admission,
            identity: None,
            next_token: 0,
            pending: HashMap::new(),
            joined: false,
            waiting: false,
            malformed_frames: 0,
            speakers_after: Time::ZERO,
            waiting_speakers: None,
            told_speakers: Vec::new(),
        }
    }

    fn handle_frame(&mut self, mut frame: Fields<'_>, effects: &mut Vec<Effect>) {
        if frame.raw("type").is_some_and(|kind| kind.get() == PING) {
            return;
        }
        let Ok(Some(id)) = frame.optional_string("id") else {
            return self.malformed("id: expected a short string", effects);
        };
        if let Err(error) = self.handle_request(&id, &mut frame, effects) {
            fail(Some(&id), &error, effects);
        }
    }

    fn handle_request(
        &mut self,
        id: &str,
        frame: &mut Fields<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        let kind: String =
            frame.typed("type").map_err(|_| bad_request("type: expected a string"))?;
        let mut fields = frame.nested("data")?;
        if kind == LIVENESS {
            effects.extend(fields.whole_number("received").map(Effect::Acknowledge));
            respond(effects, id, json!({}));
            return Ok(());
        }
        let identity = self.identify(&mut fields)?;
        if kind == RESUME || kind == FORGET {
            return self.resume(id, identity, &mut fields, kind == FORGET, effects);
        }
        let enters = kind == "mediasoup:setRtpCapabilities";
        let resume = enters && fields.boolean_or("resume", false)?;
        let display_name = shown_while_waiting(&kind, &mut fields)?;
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
                        grants: self.grants(),
                        display_name,
                        can_wait: true,
                    }));
                    self.identity = Some(identity);
                }
                effects.push(Effect::Ask { token, request: request.clone() });
            }
        }
        let kind = match request {
            Request::SetRtpCapabilities { .. } => PendingKind::SetRtpCapabilities { resume },
            _ => PendingKind::Other,
        };
        self.pending.insert(token, Pending { id: id.to_owned(), kind });
        Ok(())
    }

    fn resume(
        &self,
        id: &str,
        identity: Option<Identity>,
        fields: &mut Fields<'_>,
        ends: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        let Some(Identity { meeting_id, participant_id }) = identity else {
            return Err(bad_request("meetingId, participantId: missing in the first request"));
        };
        if self.identity.is_some() {
            return Err(bad_request("this connection has a session of its own"));
        }
        let claim = Claim {
            room: meeting_id,
            peer: participant_id,
            token: fields.string("resumeToken")?,
            received: fields.whole_number("received").unwrap_or(0),
        };
        effects.push(Effect::Resume { id: id.to_owned(), claim, ends });
        Ok(())
    }

    /// What the client may do.
    fn grants(&self) -> Grants {
        self.admission.as_ref().map(|admission| admission.grants.clone()).unwrap_or_default()
    }

    /// Who asks: as the token says, as the request says, or as an earlier one has said.
    fn identify(&self, fields: &mut Fields<'_>) -> Result<Option<Identity>, RequestError> {
        let meeting_id = fields.optional_id("meetingId")?;
        let participant_id = fields.optional_id("participantId")?;
        if let Some(admission) = &self.admission {
            admission.check(meeting_id.as_deref(), participant_id.as_deref())?;
            let (meeting_id, participant_id) = (admission.room.clone(), admission.identity.clone());
            return Ok(Some(Identity { meeting_id, participant_id }));
        }
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

    fn speakers(&mut self, now: Time, speakers: Vec<Arc<str>>, effects: &mut Vec<Effect>) {
        // Control has news of each change of volume, which this envelope does not tell.
        if speakers == self.told_speakers {
            self.waiting_speakers = None;
            return;
        }
        if now < self.speakers_after {
            self.waiting_speakers = Some(speakers);
            return;
        }
        self.speakers_after = now + SPEAKERS_INTERVAL;
        self.waiting_speakers = None;
        let ids: Vec<&str> = speakers.iter().map(|id| &**id).collect();
        event(effects, "activeSpeakers", ids);
        self.told_speakers = speakers;
    }
}

impl Envelope for OpenCall {
    fn handle_open(&mut self, _effects: &mut Vec<Effect>) {}

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
        let Some(Pending { id, kind }) = self.pending.remove(&token) else { return };
        let response = match result {
            Ok(response) => response,
            Err(error) => return fail(Some(&id), &error, effects),
        };
        self.joined |= matches!(kind, PendingKind::SetRtpCapabilities { .. });
        match response {
            Response::Consumed(options) => {
                respond(effects, &id, ConsumerData::new(&options));
                event(effects, "newConsumer", NewConsumer::new(&options));
            }
            Response::ConsumedData(options) => {
                respond(effects, &id, data_consumer(&options));
                event(effects, "newDataConsumer", new_data_consumer(&options));
            }
            Response::ProducedData { data_producer_id } => {
                respond(effects, &id, json!({"dataProducerId": data_producer_id}));
            }
            Response::Joined { peers, entrance } => {
                let data = host::entrance(&entrance);
                match (&self.identity, kind) {
                    (Some(identity), PendingKind::SetRtpCapabilities { resume: true }) => {
                        effects.push(Effect::Resumable {
                            id,
                            room: identity.meeting_id.clone(),
                            peer: identity.participant_id.clone(),
                            data,
                        });
                    }
                    _ => respond(effects, &id, data),
                }
                for peer in &peers {
                    event(effects, "newParticipant", new_participant(peer));
                }
            }
            // No client of ours can ask for a plain transport.
            Response::Done | Response::PlainTransport(_) => respond(effects, &id, json!({})),
            Response::Mls(answer) => respond(effects, &id, mls::answer(&answer, MLS_WORDS)),
            Response::RouterRtpCapabilities(capabilities) => respond(effects, &id, &*capabilities),
            Response::Transport(options) => respond(effects, &id, options),
            Response::Ice(parameters) => respond(effects, &id, parameters),
            Response::Produced { producer_id } | Response::Viewed { producer_id, .. } => {
                respond(effects, &id, json!({"producerId": producer_id}));
            }
            Response::Participants { participants, next, count } => {
                let participants = participants.iter().map(|of| {
                    let mut data = new_participant(&of.peer);
                    if let Value::Object(members) = &mut data {
                        members.insert("producers".to_owned(), json!(of.producers));
                    }
                    data
                });
                let participants: Vec<Value> = participants.collect();
                let next = next.as_deref();
                let data = json!({"participants": participants, "next": next, "count": count});
                respond(effects, &id, data);
            }
            Response::Stats(reports) => {
                let stats: Vec<_> = reports.iter().map(StatsReport::to_object).collect();
                respond(effects, &id, json!({"stats": stats}));
            }
        }
    }

    fn handle_notification(
        &mut self,
        now: Time,
        notification: Notification,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((name, data)) = host::news(&notification, "participantId") {
            self.waiting = host::waits(&notification, self.waiting);
            return event(effects, name, data);
        }
        let (name, data) = match notification {
            Notification::Mls(news) => mls::news(&news, MLS_WORDS),
            Notification::NewConsumer(options) => {
                return event(effects, "newConsumer", NewConsumer::new(&options));
            }
            Notification::NewProducer { peer_id, producer_id, kind, app_data } => {
                return new_producer(&peer_id, &producer_id, kind, &app_data, effects);
            }
            Notification::Speakers(speakers) => {
                let ids = speakers.iter().map(|(peer_id, _)| Arc::clone(peer_id)).collect();
                return self.speakers(now, ids, effects);
            }
            Notification::Stage(places) => ("stageChanged", stage_places(&places, "participantId")),
            Notification::ConnectionQuality(quality) => ("connectionQuality", json!(quality)),
            Notification::DownlinkBandwidth(bandwidth) => ("downlinkBwe", json!(bandwidth)),
            Notification::ConsumerClosed { consumer_id } => {
                ("consumerClosed", json!({"consumerId": consumer_id}))
            }
            Notification::ProducerClosed { producer_id } => {
                ("producerClosed", json!({"producerId": producer_id}))
            }
            Notification::PeerClosed { peer_id } => {
                ("participantLeft", json!({"participantId": &*peer_id}))
            }
            Notification::NewDataConsumer(_)
            | Notification::NewDataProducer { .. }
            | Notification::DataConsumerClosed { .. }
            | Notification::DataProducerClosed { .. } => return data_news(&notification, effects),
            Notification::NewPeer(peer) => ("newParticipant", new_participant(&peer)),
            Notification::PeerDisplayNameChanged { peer_id, display_name, .. } => {
                ("newParticipant", json!({"participantId": &*peer_id, "displayName": display_name}))
            }
            Notification::ConsumerPaused { consumer_id } => {
                ("consumerPaused", json!({"consumerId": consumer_id}))
            }
            Notification::ConsumerResumed { consumer_id } => {
                ("consumerResumed", json!({"consumerId": consumer_id}))
            }
            Notification::ProducerMaxSpatialLayer { producer_id, spatial_layer } => (
                "producerMaxSpatialLayer",
                json!({"producerId": producer_id, "spatialLayer": spatial_layer}),
            ),
            // Told above, or of no use to clients of this envelope.
            Notification::CodecAdvice(_)
            | Notification::ProducerMuted { .. }
            | Notification::RoomLocked { .. }
            | Notification::RecordingChanged { .. }
            | Notification::TapChanged { .. }
            | Notification::PushChanged { .. }
            | Notification::Caption(_)
            | Notification::PeerWaiting { .. }
            | Notification::PeerWaitingEnded { .. }
            | Notification::Waiting
            | Notification::Admitted { .. }
            | Notification::ConsumerLayersChanged { .. }
            | Notification::ConsumerScore { .. }
            | Notification::ProducerScore { .. } => return,
        };
        event(effects, name, data);
    }

    fn handle_closing(&mut self, closing: Closing, by: Option<&str>, effects: &mut Vec<Effect>) {
        if let Some((name, data)) = host::farewell(closing, by) {
            event(effects, name, data);
        }
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

    fn is_waiting(&self) -> bool {
        self.waiting
    }

    fn ping_interval(&self) -> Duration {
        PING_INTERVAL
    }
}

/// The name of one who may have to wait, from its first request.
fn shown_while_waiting(
    kind: &str,
    fields: &mut Fields<'_>,
) -> Result<Option<String>, RequestError> {
    match kind {
        "mediasoup:getRouterCapabilities" => fields.shown_name("displayName"),
        _ => Ok(None),
    }
}

/// What a message of type `kind` asks for.
fn request(kind: &str, fields: &mut Fields<'_>) -> Result<Request, RequestError> {
    let request = match kind.strip_prefix(PREFIX).unwrap_or_default() {
        "getRouterCapabilities" => Request::RouterRtpCapabilities,
        "setRtpCapabilities" => {
            let display_name = fields.shown_name("displayName")?;
            Request::SetRtpCapabilities {
                rtp_capabilities: fields.typed("rtpCapabilities")?,
                display_name,
                codec_hints: fields.optional_typed("codecHints")?,
            }
        }
        "createTransport" => {
            // Its client says nothing of SCTP, and takes what it is given.
            let sctp = sctp_mode(fields, true)?;
            Request::CreateTransport {
                direction: fields.typed("direction")?,
                force_tcp: false,
                sctp,
            }
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
            mid: None,
            paused: fields.boolean_or("paused", false)?,
        },
        "getParticipants" => participants(fields, "participantIds")?,
        "produceData" => produce_data(fields)?,
        "consumeData" => Request::ConsumeData {
            data_producer_id: fields.string("dataProducerId")?,
            transport_id: fields.optional_string("transportId")?,
        },
        "getStats" => Request::Stats(StatsOf::Peer),
        name => match host::request(name, fields)? {
            Some(request) => request,
            None => match mls::request(name, fields)? {
                Some(request) => request,
                None => stream_request(name, kind, fields)?,
            },
        },
    };
    Ok(request)
}

/// Requests about one producer or consumer.
fn stream_request(
    name: &str,
    kind: &str,
    fields: &mut Fields<'_>,
) -> Result<Request, RequestError> {
    let request = match name {
        "changeDisplayName" => {
            let display_name = fields.shown_name("displayName")?.unwrap_or_default();
            Request::ChangeDisplayName { display_name }
        }
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

/// A data consumer, as its client makes it.
fn data_consumer(options: &DataConsumerOptions) -> Value {
    json!({
        "id": options.id,
        "dataProducerId": options.data_producer_id,
        "sctpStreamParameters": options.sctp_stream_parameters,
        "label": options.label,
        "protocol": options.protocol,
        "appData": options.app_data,
    })
}

/// The data of `newDataConsumer`.
fn new_data_consumer(options: &DataConsumerOptions) -> Value {
    json!({"participantId": options.peer_id.as_deref(), "dataConsumerData": data_consumer(options)})
}

fn new_producer(
    participant_id: &str,
    producer_id: &str,
    kind: Kind,
    app_data: &JsonObject,
    effects: &mut Vec<Effect>,
) {
    let data = NewProducer { participant_id, producer_id, kind, app_data: AppData(app_data) };
    event(effects, "newProducer", data);
}

/// News of data channels.
fn data_news(notification: &Notification, effects: &mut Vec<Effect>) {
    let (name, data) = match notification {
        Notification::NewDataConsumer(options) => ("newDataConsumer", new_data_consumer(options)),
        Notification::NewDataProducer { peer_id, data_producer_id, label, protocol, app_data } => (
            "newDataProducer",
            json!({"participantId": peer_id.as_deref(), "dataProducerId": data_producer_id,
                   "label": label, "protocol": protocol, "appData": app_data}),
        ),
        Notification::DataConsumerClosed { data_consumer_id } => {
            ("dataConsumerClosed", json!({"dataConsumerId": data_consumer_id}))
        }
        Notification::DataProducerClosed { data_producer_id } => {
            ("dataProducerClosed", json!({"dataProducerId": data_producer_id}))
        }
        _ => return,
    };
    event(effects, name, data);
}

fn new_participant(peer: &PeerInfo) -> Value {
    json!({"participantId": &*peer.id, "displayName": peer.display_name})
}

/// A consumer, as its client makes it. Written without a tree of JSON values between: in a large
/// room there are many.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsumerData<'a> {
    id: &'a str,
    producer_id: &'a str,
    kind: Kind,
    rtp_parameters: &'a ConsumerRtpParameters,
    app_data: AppData<'a>,
    #[serde(rename = "type")]
    consumer_type: ConsumerType,
    producer_paused: bool,
}

impl<'a> ConsumerData<'a> {
    fn new(options: &'a ConsumerOptions) -> Self {
        ConsumerData {
            id: &options.id,
            producer_id: &options.producer_id,
            kind: options.kind,
            rtp_parameters: &options.rtp_parameters,
            app_data: AppData(&options.app_data),
            consumer_type: options.consumer_type,
            producer_paused: options.producer_paused,
        }
    }
}

/// The data of `newConsumer`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewConsumer<'a> {
    participant_id: &'a str,
    consumer_data: ConsumerData<'a>,
}

impl<'a> NewConsumer<'a> {
    fn new(options: &'a ConsumerOptions) -> Self {
        let consumer_data = ConsumerData::new(options);
        NewConsumer { participant_id: &options.peer_id, consumer_data }
    }
}

/// An answer.
#[derive(Serialize)]
struct ResponseFrame<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    data: T,
}

/// An event.
#[derive(Serialize)]
struct EventFrame<T> {
    #[serde(rename = "type")]
    kind: String,
    data: T,
}

fn respond(effects: &mut Vec<Effect>, id: &str, data: impl Serialize) {
    send(effects, &ResponseFrame { kind: "response", id, data });
}

/// The data of `newProducer`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewProducer<'a> {
    participant_id: &'a str,
    producer_id: &'a str,
    kind: Kind,
    app_data: AppData<'a>,
}

/// The producer's appData in this envelope's words: a screen is `source: "screen"`.
struct AppData<'a>(&'a JsonObject);

impl Serialize for AppData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let source = self.0.string("source");
        let shares = source.is_none() && self.0.is_true("share");
        if shares || source.as_deref() == Some("screensharing") {
            return self.0.with(&[("source", Member::Text("screen"))]).serialize(serializer);
        }
        self.0.serialize(serializer)
    }
}

/// An error; outside a request it has no id.
fn fail(id: Option<&str>, error: &RequestError, effects: &mut Vec<Effect>) {
    let mut frame = json!({"type": "error", "error": error.reason});
    if let (Some(id), Value::Object(members)) = (id, &mut frame) {
        members.insert("id".into(), id.into());
    }
    send(effects, &frame);
}

fn event(effects: &mut Vec<Effect>, name: &str, data: impl Serialize) {
    send(effects, &EventFrame { kind: format!("{PREFIX}{name}"), data });
}

fn send(effects: &mut Vec<Effect>, frame: &impl Serialize) {
    // Nothing here has keys that are not strings, the one thing that JSON cannot say.
    effects.push(Effect::Send(serde_json::to_string(frame).unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use opencall_control::api::{
        ConnectionQuality, Direction, DownlinkBandwidth, DtlsParameters, SctpMode,
    };

    use super::super::samples;
    use super::*;

    fn text(envelope: &mut OpenCall, frame: &Value) -> Vec<Effect> {
        let mut effects = Vec::new();
        envelope.handle_text(Time::ZERO, &frame.to_string(), &mut effects);
        effects
    }

    /// A request of alice in meeting m.
    fn request(name: &str, mut data: Value) -> Value {
        data["meetingId"] = "m".into();
        data["participantId"] = "alice".into();
        json!({"type": format!("mediasoup:{name}"), "id": "r1", "data": data})
    }

    fn sent(effects: &[Effect]) -> Vec<Value> {
        let frame = |effect: &Effect| match effect {
            Effect::Send(text) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        };
        effects.iter().map(frame).collect()
    }

    /// A translator whose session is open.
    fn open() -> OpenCall {
        let mut envelope = OpenCall::new(None);
        let effects = text(&mut envelope, &request("getStats", json!({})));
        assert!(matches!(effects[..], [Effect::Open(_), Effect::Ask { .. }]));
        envelope
    }

    fn asked(effects: Vec<Effect>) -> (Token, Request) {
        match <[Effect; 1]>::try_from(effects) {
            Ok([Effect::Ask { token, request }]) => (token, request),
            other => panic!("{other:?}"),
        }
    }

    /// All frames that follow `response` to `name`.
    fn answer(name: &str, data: Value, response: Response) -> Vec<Value> {
        let mut envelope = open();
        let (token, _) = asked(text(&mut envelope, &request(name, data)));
        let mut effects = Vec::new();
        envelope.handle_response(token, Ok(response), &mut effects);
        sent(&effects)
    }

    #[test]
    fn a_data_consumer_is_answered_and_told() {
        let mut envelope = open();
        let data = json!({"dataProducerId": "dp1"});
        let (token, asked_for) = asked(text(&mut envelope, &request("consumeData", data)));
        let data_producer_id = "dp1".to_owned();
        assert_eq!(asked_for, Request::ConsumeData { data_producer_id, transport_id: None });
        let mut effects = Vec::new();
        let options = Box::new(samples::data_consumer(json!({"x": 1})));
        envelope.handle_response(token, Ok(Response::ConsumedData(options)), &mut effects);
        let data = json!({"id": "dc1", "dataProducerId": "dp1", "label": "chat", "protocol": "p",
            "sctpStreamParameters": {"streamId": 3, "ordered": false, "maxRetransmits": 0},
            "appData": {"x": 1}});
        let frames = sent(&effects);
        assert_eq!(frames[0]["data"], data);
        assert_eq!(frames[1]["type"], "mediasoup:newDataConsumer");
        let expected = json!({"participantId": "alice", "dataConsumerData": data});
        assert_eq!(frames[1]["data"], expected);
    }

    #[test]
    fn the_first_request_with_both_ids_opens_the_session() {
        let mut envelope = OpenCall::new(None);
        let frame = json!({"type": "mediasoup:getRouterCapabilities", "id": "1",
                           "data": {"meetingId": "m"}});
        let effects = text(&mut envelope, &frame);
        assert!(matches!(effects[..], [Effect::RouterCapabilities { .. }]));

        let frame = json!({"type": "mediasoup:createTransport", "id": "2",
                           "data": {"direction": "send"}});
        let error = "meetingId, participantId: missing in the first request";
        let expected = json!({"type": "error", "id": "2", "error": error});
        assert_eq!(sent(&text(&mut envelope, &frame)), [expected]);

        let frame = request("createTransport", json!({"direction": "send"}));
        match &text(&mut envelope, &frame)[..] {
            [Effect::Open(session), Effect::Ask { .. }] => {
                assert_eq!((session.room.as_str(), session.peer.as_str()), ("m", "alice"));
                assert_eq!(session.consume_mode, ConsumeMode::OnRequest);
            }
            other => panic!("{other:?}"),
        }
        // Later requests may leave the ids out, but not change them.
        let frame = json!({"type": "mediasoup:getStats", "id": "3"});
        assert_eq!(asked(text(&mut envelope, &frame)).1, Request::Stats(StatsOf::Peer));
        for (name, value) in [("meetingId", "n"), ("participantId", "bob")] {
            let frame = json!({"type": "mediasoup:getStats", "id": "4", "data": {name: value}});
            let error = format!("{name}: cannot change; open another connection");
            let expected = json!({"type": "error", "id": "4", "error": error});
            assert_eq!(sent(&text(&mut envelope, &frame)), [expected]);
        }
    }

    #[test]
    fn a_token_says_who_asks() {
        let grants = Grants { publish: false, identity_proven: true, ..Grants::default() };
        let (room, identity) = ("m".to_owned(), "alice".to_owned());
        let admission = Admission { room, identity, grants: grants.clone() };
        let mut envelope = OpenCall::new(Some(admission));
        for (name, value) in [("meetingId", "n"), ("participantId", "bob")] {
            let frame = json!({"type": "mediasoup:getStats", "id": "1", "data": {name: value}});
            let refusal = &sent(&text(&mut envelope, &frame))[0];
            let error = refusal["error"].as_str().unwrap();
            assert!(error.starts_with("the token is for"), "{error}");
        }
        // It need not say it again.
        let frame = json!({"type": "mediasoup:getRouterCapabilities", "id": "2"});
        match &text(&mut envelope, &frame)[..] {
            [Effect::Open(session), Effect::Ask { .. }] => {
                assert_eq!((session.room.as_str(), session.peer.as_str()), ("m", "alice"));
                assert_eq!(session.grants, grants);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_become_typed_ones() {
        let dtls = json!({"fingerprints": []});
        let dtls_parameters: DtlsParameters = serde_json::from_value(dtls.clone()).unwrap();
        let capabilities = json!(samples::capabilities());
        let table = [
            ("getRouterCapabilities", json!({}), Request::RouterRtpCapabilities),
            (
                "setRtpCapabilities",
                json!({"rtpCapabilities": capabilities, "displayName": "Alice"}),
                Request::SetRtpCapabilities {
                    codec_hints: None,
                    rtp_capabilities: samples::capabilities(),
                    display_name: Some("Alice".into()),
                },
            ),
            (
                "createTransport",
                json!({"direction": "recv"}),
                Request::CreateTransport {
                    direction: Direction::Recv,
                    force_tcp: false,
                    sctp: SctpMode::Negotiated,
                },
            ),
            (
                "connectTransport",
                json!({"transportId": "t", "dtlsParameters": dtls}),
                Request::ConnectTransport { transport_id: "t".into(), dtls_parameters },
            ),
            (
                "produce",
                json!({"transportId": "t", "kind": "audio", "rtpParameters": {"codecs": []}}),
                Request::Produce {
                    transport_id: "t".into(),
                    kind: Kind::Audio,
                    rtp_parameters: Default::default(),
                    app_data: JsonObject::default(),
                    paused: false,
                },
            ),
            (
                "consume",
                json!({"producerId": "p", "rtpCapabilities": capabilities}),
                Request::Consume {
                    producer_id: "p".into(),
                    rtp_capabilities: Some(samples::capabilities()),
                    transport_id: None,
                    mid: None,
                    paused: false,
                },
            ),
            (
                "pauseProducer",
                json!({"producerId": "p"}),
                Request::PauseProducer { producer_id: "p".into() },
            ),
            (
                "resumeProducer",
                json!({"producerId": "p"}),
                Request::ResumeProducer { producer_id: "p".into() },
            ),
            (
                "closeProducer",
                json!({"producerId": "p"}),
                Request::CloseProducer { producer_id: "p".into() },
            ),
            (
                "pauseConsumer",
                json!({"consumerId": "c"}),
                Request::PauseConsumer { consumer_id: "c".into() },
            ),
            (
                "resumeConsumer",
                json!({"consumerId": "c"}),
                Request::ResumeConsumer { consumer_id: "c".into() },
            ),
            (
                "setConsumerPreferredLayers",
                json!({"consumerId": "c", "layers": {"spatialLayer": 2, "temporalLayer": 0}}),
                Request::SetConsumerPreferredLayers {
                    consumer_id: "c".into(),
                    layers: Layers { spatial: 2, temporal: Some(0) },
                },
            ),
            (
                "setConsumerPriority",
                json!({"consumerId": "c", "priority": 1}),
                Request::SetConsumerPriority { consumer_id: "c".into(), priority: 1 },
            ),
            (
                "restartIce",
                json!({"transportId": "t"}),
                Request::RestartIce { transport_id: "t".into() },
            ),
            ("getStats", json!({}), Request::Stats(StatsOf::Peer)),
        ];
        for (name, data, expected) in table {
            let mut envelope = open();
            let (token, asked_for) = asked(text(&mut envelope, &request(name, data)));
            assert_eq!(asked_for, expected, "{name}");
            let mut effects = Vec::new();
            envelope.handle_response(token, Ok(Response::Done), &mut effects);
            assert_eq!(sent(&effects), [json!({"type": "response", "id": "r1", "data": {}})]);
        }
    }

    #[test]
    fn answers_are_as_the_client_expects() {
        let capabilities = Response::RouterRtpCapabilities(Arc::new(samples::capabilities()));
        let frames = answer("getRouterCapabilities", json!({}), capabilities);
        assert_eq!(frames[0]["data"], json!(samples::capabilities()));

        let transport = Response::Transport(samples::transport());
        let frames = answer("createTransport", json!({"direction": "send"}), transport);
        assert_eq!(frames[0]["data"]["id"], "t1");

        let frames =
            answer("restartIce", json!({"transportId": "t"}), Response::Ice(samples::ice()));
        let ice = json!({"usernameFragment": "uf", "password": "pw", "iceLite": true});
        assert_eq!(frames[0]["data"], ice);

        let data = json!({"transportId": "t", "kind": "audio", "rtpParameters": {"codecs": []}});
        let frames = answer("produce", data, Response::Produced { producer_id: "p1".into() });
        assert_eq!(frames[0]["data"], json!({"producerId": "p1"}));

        let consumer = Response::Consumed(Box::new(samples::consumer(json!({"share": true}))));
        let frames = answer("consume", json!({"producerId": "p1"}), consumer);
        assert_eq!(frames[0]["data"]["id"], "c1");
        assert_eq!(frames[0]["data"]["appData"]["source"], "screen");
        let event = json!({"type": "mediasoup:newConsumer", "data": {
            "participantId": "alice", "consumerData": frames[0]["data"]}});
        assert_eq!(frames[1], event);

        let joined =
            Response::Joined { peers: vec![samples::peer()], entrance: samples::entrance() };
        let frames = answer("setRtpCapabilities", json!({"rtpCapabilities": {}}), joined);
        let event = json!({"type": "mediasoup:newParticipant", "data": {
            "participantId": "alice", "displayName": "Alice"}});
        assert_eq!(frames[1], event);
    }

    #[test]
    fn events_are_as_the_client_expects() {
        let table = [
            (
                Notification::NewProducer {
                    peer_id: "bob".into(),
                    producer_id: "p".into(),
                    kind: Kind::Video,
                    app_data: samples::object(json!({"source": "screensharing"})),
                },
                json!(["newProducer", {"participantId": "bob", "producerId": "p", "kind": "video",
                                       "appData": {"source": "screen"}}]),
            ),
            (
                Notification::ConnectionQuality(ConnectionQuality::Poor),
                json!(["connectionQuality", "poor"]),
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
                Notification::ConsumerClosed { consumer_id: "c".into() },
                json!(["consumerClosed", {"consumerId": "c"}]),
            ),
            (
                Notification::ProducerClosed { producer_id: "p".into() },
                json!(["producerClosed", {"producerId": "p"}]),
            ),
            (
                Notification::PeerClosed { peer_id: "bob".into() },
                json!(["participantLeft", {"participantId": "bob"}]),
            ),
            (
                Notification::ProducerMaxSpatialLayer { producer_id: "p".into(), spatial_layer: 1 },
                json!(["producerMaxSpatialLayer", {"producerId": "p", "spatialLayer": 1}]),
            ),
            (
                Notification::ProducerMuted { producer_id: "p".into(), muted: true, by: None },
                json!(["producerMuted", {"producerId": "p", "muted": true}]),
            ),
            (
                Notification::NewPeer(samples::peer()),
                json!(["newParticipant", {"participantId": "alice", "displayName": "Alice"}]),
            ),
        ];
        for (notification, expected) in table {
            let mut effects = Vec::new();
            open().handle_notification(Time::ZERO, notification, &mut effects);
            let frame = json!({"type": format!("mediasoup:{}", expected[0].as_str().unwrap()),
                               "data": expected[1]});
            assert_eq!(sent(&effects), [frame]);
        }
    }

    #[test]
    fn speakers_go_out_at_most_every_200_ms_and_the_newest_wins() {
        let mut envelope = open();
        let mut effects = Vec::new();
        for (millis, speaker) in [(1000, "a"), (1050, "b"), (1100, "c")] {
            let speakers = Notification::Speakers([(speaker.into(), -20)].into());
            envelope.handle_notification(Time::from_millis(millis), speakers, &mut effects);
        }
        let frame = |speaker| json!({"type": "mediasoup:activeSpeakers", "data": [speaker]});
        assert_eq!(sent(&effects), [frame("a")]);
        assert_eq!(envelope.next_timeout(), Time::from_millis(1200));
        envelope.handle_timeout(Time::from_millis(1199), &mut effects);
        envelope.handle_timeout(Time::from_millis(1200), &mut effects);
        assert_eq!(sent(&effects), [frame("a"), frame("c")]);
        assert_eq!(envelope.next_timeout(), Time::NEVER);
    }

    #[test]
    fn speakers_who_only_change_their_volume_are_not_told_again() {
        let mut envelope = open();
        let mut effects = Vec::new();
        let talk = [(1000, "a", -20), (1300, "a", -30), (1600, "b", -20), (1650, "a", -20)];
        for (millis, speaker, volume) in talk.into_iter().chain([(1700, "b", -25)]) {
            let speakers = Notification::Speakers([(speaker.into(), volume)].into());
            envelope.handle_notification(Time::from_millis(millis), speakers, &mut effects);
        }
        let frame = |speaker| json!({"type": "mediasoup:activeSpeakers", "data": [speaker]});
        assert_eq!(sent(&effects), [frame("a"), frame("b")]);
        assert_eq!(envelope.next_timeout(), Time::NEVER, "what waited is no longer so");
    }

    #[test]
    fn errors_name_the_field() {
        let table = [
            ("fly", json!({}), "unknown message type \"mediasoup:fly\""),
            (
                "restartIce",
                json!({"transportId": 1}),
                "transportId: expected a string, found another number",
            ),
            (
                "createTransport",
                json!({"direction": "up"}),
                "direction: unknown variant `up`, expected `send` or `recv`",
            ),
            ("consumeData", json!({}), "dataProducerId: missing; expected a string"),
            (
                "setConsumerPreferredLayers",
                json!({"consumerId": "c", "layers": {"spatialLayer": -1}}),
                "spatialLayer: expected a whole number from 0 to 255, found another number",
            ),
        ];
        for (name, data, reason) in table {
            let frames = sent(&text(&mut open(), &request(name, data)));
            assert_eq!(frames, [json!({"type": "error", "id": "r1", "error": reason})], "{name}");
        }
    }

    #[test]
    fn pings_of_the_client_are_harmless() {
        let mut envelope = open();
        for timestamp in 0..=MAX_MALFORMED_FRAMES {
            let ping = json!({"type": "ping", "timestamp": timestamp});
            assert!(text(&mut envelope, &ping).is_empty());
        }
        asked(text(&mut envelope, &request("getStats", json!({}))));
    }

    #[test]
    fn whoever_asks_whether_the_server_is_there_is_answered_at_once() {
        // Before it has said who it is, too.
        let mut envelope = OpenCall::new(None);
        let frame = json!({"type": "mediasoup:ping", "id": "7"});
        let expected = json!({"type": "response", "id": "7", "data": {}});
        assert_eq!(sent(&text(&mut envelope, &frame)), [expected]);
    }

    #[test]
    fn a_name_can_be_changed() {
        let data = json!({"displayName": "Alice B"});
        let (_, asked_for) = asked(text(&mut open(), &request("changeDisplayName", data)));
        assert_eq!(asked_for, Request::ChangeDisplayName { display_name: "Alice B".into() });
    }

    #[test]
    fn malformed_frames_get_an_error_without_id_and_too_many_end_the_connection() {
        for frame in
            ["", "x", "[]", "null", "{}", "{\"id\":1}", "{\"type\":\"mediasoup:getStats\"}"]
        {
            let mut effects = Vec::new();
            open().handle_text(Time::ZERO, frame, &mut effects);
            let frames = sent(&effects);
            assert_eq!((&frames[0]["type"], frames[0].get("id")), (&json!("error"), None));
        }
        let mut envelope = open();
        let mut effects = Vec::new();
        for _ in 0..=MAX_MALFORMED_FRAMES {
            effects.clear();
            envelope.handle_text(Time::ZERO, "[]", &mut effects);
        }
        assert!(matches!(effects[..], [Effect::Close(Closing::Flood)]));
    }
}
