//! The two ways in which clients write the same requests, as pure translators: JSON text and typed
//! outputs in, [`Effect`]s out. No socket, no clock, no hub.
//!
//! * [`protoo`] — sub-protocol `protoo`: applications built on mediasoup-client and protoo-client,
//!   in both generations of the dialect.
//! * [`opencall`] — no sub-protocol: OpenCall's own `mediasoup:*` messages.
#![forbid(unsafe_code)]

pub mod fields;
mod host;
mod mls;
pub mod opencall;
pub mod protoo;

use std::time::Duration;

use opencall_control::api::{
    CloseReason, Notification, Request, RequestError, Response, SctpMode, SessionConfig, Source,
    StagePlace, Token,
};
use opencall_control::limits::MAX_PEERS_PER_ANSWER;
use opencall_wire::time::Time;
use serde_json::{Value, json};

use self::fields::Fields;
use crate::resume::Claim;

/// Name and version as clients are told.
pub const VERSION: &str = concat!("opencall-sfu ", env!("CARGO_PKG_VERSION"));

/// What a translator wants done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send this text frame to the client.
    Send(String),
    /// Open the session; every later [`Effect::Ask`] belongs to it.
    Open(SessionConfig),
    /// Ask control.
    Ask {
        /// Comes back with the answer.
        token: Token,
        /// The request.
        request: Request,
    },
    /// Ask what a router can do, before there is a session.
    RouterCapabilities {
        /// Comes back with the answer.
        token: Token,
    },
    /// Answer a client that has entered and can resume: with a token.
    Resumable {
        /// Of the request.
        id: String,
        /// Its room.
        room: String,
        /// Its peer.
        peer: String,
        /// What else it is told.
        data: serde_json::Map<String, serde_json::Value>,
    },
    /// Take over a session, or end it.
    Resume {
        /// Of the request.
        id: String,
        /// Whose, and the proof.
        claim: Claim,
        /// Whether to end it.
        ends: bool,
    },
    /// The client has received so many text frames of the session.
    Acknowledge(u64),
    /// Close the connection.
    Close(Closing),
}

/// One envelope's translator, one per connection.
pub trait Envelope: Send {
    /// The connection stands.
    fn handle_open(&mut self, effects: &mut Vec<Effect>);

    /// A text frame of the client.
    fn handle_text(&mut self, now: Time, text: &str, effects: &mut Vec<Effect>);

    /// Control's answer to an [`Effect::Ask`].
    fn handle_response(
        &mut self,
        token: Token,
        result: Result<Response, RequestError>,
        effects: &mut Vec<Effect>,
    );

    /// Control's news.
    fn handle_notification(
        &mut self,
        now: Time,
        notification: Notification,
        effects: &mut Vec<Effect>,
    );

    /// The connection is about to be closed, maybe by a host: what the client is told before.
    fn handle_closing(&mut self, closing: Closing, by: Option<&str>, effects: &mut Vec<Effect>);

    /// [`Envelope::next_timeout`] has passed.
    fn handle_timeout(&mut self, now: Time, effects: &mut Vec<Effect>);

    /// When to call [`Envelope::handle_timeout`].
    fn next_timeout(&self) -> Time;

    /// Whether the client has entered a room; until then it is on a short time-out.
    fn has_joined(&self) -> bool;

    /// Whether it waits for a host to let it in, which may take long.
    fn is_waiting(&self) -> bool;

    /// How often the server pings.
    fn ping_interval(&self) -> Duration;
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Control says so.
    ByControl(CloseReason),
    /// The client reads slower than news comes, or not at all.
    SlowReader,
    /// A message above the limit.
    TooLarge,
    /// Requests far above the rate, or nothing but malformed frames.
    Flood,
    /// It entered no room in time.
    Idle,
    /// It answered no ping.
    Unresponsive,
    /// The control thread has failed.
    ControlLost,
}

impl Closing {
    /// All of them, in counter order.
    pub const ALL: [Closing; 15] = [
        Closing::ByControl(CloseReason::Replaced),
        Closing::ByControl(CloseReason::PeerIdInUse),
        Closing::ByControl(CloseReason::TransportLost),
        Closing::ByControl(CloseReason::Removed),
        Closing::ByControl(CloseReason::RemovedByHost),
        Closing::ByControl(CloseReason::RoomLocked),
        Closing::ByControl(CloseReason::NotAdmitted),
        Closing::ByControl(CloseReason::CoreRemoved),
        Closing::ByControl(CloseReason::Shutdown),
        Closing::SlowReader,
        Closing::TooLarge,
        Closing::Flood,
        Closing::Idle,
        Closing::Unresponsive,
        Closing::ControlLost,
    ];

    /// WebSocket close code. 4000 tells clients not to come back: for the loser of two clients with
    /// one peer id, else they would throw each other out forever, and for who was removed. Every
    /// other code lets them reconnect and join anew, which is what helps after a lost transport, a
    /// restart of the server or a stalled network.
    pub const fn code(self) -> u16 {
        match self {
            Closing::ByControl(
                CloseReason::Replaced | CloseReason::Removed | CloseReason::RemovedByHost,
            ) => 4000,
            Closing::ByControl(CloseReason::TransportLost | CloseReason::CoreRemoved) => 4001,
            Closing::ByControl(CloseReason::PeerIdInUse) => 4003,
            Closing::ByControl(CloseReason::RoomLocked) => 4004,
            Closing::ByControl(CloseReason::NotAdmitted) => 4005,
            Closing::ControlLost => 1011,
            Closing::ByControl(CloseReason::Shutdown) => 1001,
            Closing::Flood | Closing::Idle => 1008,
            Closing::TooLarge => 1009,
            Closing::SlowReader | Closing::Unresponsive => 1013,
        }
    }

    /// Close reason, as the client reads it.
    pub const fn reason(self) -> &'static str {
        match self {
            Closing::ByControl(CloseReason::Replaced) => "this peer connected again",
            Closing::ByControl(CloseReason::TransportLost) => "media transport lost; join again",
            Closing::ByControl(CloseReason::Removed) => "removed by an administrator",
            Closing::ByControl(CloseReason::RemovedByHost) => "removed by a host",
            Closing::ByControl(CloseReason::RoomLocked) => "this room is locked",
            Closing::ByControl(CloseReason::NotAdmitted) => "not let in by a host",
            Closing::ByControl(CloseReason::CoreRemoved) => "media core removed; join again",
            Closing::ByControl(CloseReason::Shutdown) => "server is stopping",
            Closing::SlowReader => "client reads too slowly",
            Closing::TooLarge => "message too large",
            Closing::Flood => "too many or malformed requests",
            Closing::Idle => "no room entered in time",
            Closing::ByControl(CloseReason::PeerIdInUse) => {
                "someone who is connected has this peer id; choose another"
            }
            Closing::ControlLost => "the server has failed; connect again",
            Closing::Unresponsive => "ping not answered",
        }
    }

    /// The label of this reason in `/healthz` and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Closing::ByControl(CloseReason::Replaced) => "replaced",
            Closing::ByControl(CloseReason::TransportLost) => "transport_lost",
            Closing::ByControl(CloseReason::Removed) => "removed",
            Closing::ByControl(CloseReason::RemovedByHost) => "removed_by_host",
            Closing::ByControl(CloseReason::RoomLocked) => "room_locked",
            Closing::ByControl(CloseReason::NotAdmitted) => "not_admitted",
            Closing::ByControl(CloseReason::CoreRemoved) => "core_removed",
            Closing::ByControl(CloseReason::Shutdown) => "shutdown",
            Closing::SlowReader => "slow_reader",
            Closing::TooLarge => "too_large",
            Closing::Flood => "flood",
            Closing::Idle => "idle",
            Closing::ByControl(CloseReason::PeerIdInUse) => "peer_id_in_use",
            Closing::ControlLost => "control_lost",
            Closing::Unresponsive => "unresponsive",
        }
    }
}

/// What is wrong with a frame that is no object.
pub(crate) fn not_a_frame(error: &serde_json::Error) -> String {
    match error.is_data() {
        true => "expected one JSON object per message".to_owned(),
        false => format!("not JSON: {error}"),
    }
}

/// A `produceData` of either envelope: both are mediasoup-client's.
/// Whether a transport is to have data channels, which dialects say in ways of their own, and
/// whether `dcep` asks the server to open them.
pub(crate) fn sctp_mode(fields: &mut Fields<'_>, wanted: bool) -> Result<SctpMode, RequestError> {
    let wanted = fields.boolean_or("enableSctp", wanted)?;
    Ok(match (fields.boolean_or("dcep", false)?, wanted) {
        (true, _) => SctpMode::InBand,
        (false, true) => SctpMode::Negotiated,
        (false, false) => SctpMode::Off,
    })
}

pub(crate) fn produce_data(fields: &mut Fields<'_>) -> Result<Request, RequestError> {
    Ok(Request::ProduceData {
        transport_id: fields.string("transportId")?,
        sctp_stream_parameters: fields.typed("sctpStreamParameters")?,
        label: fields.optional_string("label")?.unwrap_or_default(),
        protocol: fields.optional_string("protocol")?.unwrap_or_default(),
        app_data: fields.passed_on("appData")?,
    })
}

/// A page of a room, or those that `names` lists, in either envelope.
pub(crate) fn participants(fields: &mut Fields<'_>, names: &str) -> Result<Request, RequestError> {
    let limit = fields.whole_number("limit").and_then(|limit| usize::try_from(limit).ok());
    Ok(Request::Participants {
        after: fields.optional_string("after")?,
        limit: limit.unwrap_or(MAX_PEERS_PER_ANSWER),
        only: fields.optional_typed(names)?,
    })
}

/// Who is where on the stage; `whose` is what the envelope calls a participant's id.
pub(crate) fn stage_places(places: &[StagePlace], whose: &str) -> Value {
    let place = |place: &StagePlace| {
        json!({
            "slot": place.slot,
            "kind": place.kind,
            "producerId": place.producer_id,
            whose: place.peer_id.as_deref(),
            "displayName": place.display_name,
            "source": place.source.map(Source::label),
            "sourceProducerId": place.source_producer_id,
        })
    };
    json!({"slots": places.iter().map(place).collect::<Vec<_>>()})
}

/// Malformed frames a connection may send before it is closed. One would do for honest clients,
/// who send none; some patience helps whoever is writing a client.
pub(crate) const MAX_MALFORMED_FRAMES: u32 = 50;

#[cfg(test)]
pub(crate) mod samples {
    //! Outputs of control for the tables of both envelopes.

    use std::sync::Arc;

    use opencall_control::api::*;
    use opencall_control::ortc::{ConsumerStream, Numbers, consumer_stream};
    use opencall_control::rtp_parameters::*;
    use serde_json::{Value, json};

    pub fn object(value: Value) -> JsonObject {
        serde_json::from_value(value).expect("an object")
    }

    pub fn capabilities() -> RtpCapabilities {
        serde_json::from_value(json!({
            "codecs": [{"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2,
                        "preferredPayloadType": 100}],
            "headerExtensions": []
        }))
        .unwrap()
    }

    pub fn ice() -> IceParameters {
        IceParameters { username_fragment: "uf".into(), password: "pw".into(), ice_lite: true }
    }

    pub fn transport() -> TransportOptions {
        TransportOptions {
            id: "t1".into(),
            ice_parameters: ice(),
            ice_candidates: vec![IceCandidate {
                foundation: "udp".into(),
                priority: 1,
                address: "127.0.0.1".into(),
                ip: "127.0.0.1".into(),
                protocol: "udp".into(),
                tcp_type: None,
                port: 40000,
                kind: "host".into(),
            }],
            dtls_parameters: DtlsParameters { role: DtlsRole::Auto, fingerprints: Vec::new() },
            sctp_parameters: None,
        }
    }

    fn stream() -> Arc<ConsumerStream> {
        let consumable = RtpParameters {
            codecs: serde_json::from_value(json!([{"mimeType": "audio/opus", "payloadType": 100,
                "clockRate": 48000, "channels": 2}]))
            .unwrap(),
            ..Default::default()
        };
        let remote = (&capabilities(), Numbers::Router);
        Arc::new(consumer_stream(Kind::Audio, &consumable, remote, "cname").unwrap())
    }

    pub fn consumer(app_data: Value) -> ConsumerOptions {
        ConsumerOptions {
            id: "c1".into(),
            transport_id: "t2".into(),
            producer_id: "p1".into(),
            peer_id: "alice".into(),
            kind: Kind::Video,
            rtp_parameters: ConsumerRtpParameters {
                stream: stream(),
                mid: "0".into(),
                ssrc: 7,
                rtx_ssrc: None,
            },
            consumer_type: ConsumerType::Simulcast,
            app_data: object(app_data),
            producer_paused: false,
        }
    }

    pub fn data_consumer(app_data: Value) -> DataConsumerOptions {
        DataConsumerOptions {
            id: "dc1".into(),
            transport_id: "t2".into(),
            data_producer_id: "dp1".into(),
            peer_id: Some("alice".into()),
            sctp_stream_parameters: SctpStreamParameters {
                stream_id: 3,
                ordered: Some(false),
                max_packet_life_time: None,
                max_retransmits: Some(0),
            },
            label: "chat".into(),
            protocol: "p".into(),
            app_data: object(app_data),
        }
    }

    pub fn entrance() -> Box<Entrance> {
        let can = Grants { admin: true, ..Grants::default() }.rights();
        let (locked, waiting_room, recording) = (true, false, true);
        {
            Box::new(Entrance {
                can,
                locked,
                waiting_room,
                recording,
                tapped: true,
                pushed: false,
                has_mls: false,
                advice: None,
            })
        }
    }

    pub fn peer() -> Arc<PeerInfo> {
        Arc::new(PeerInfo {
            id: "alice".into(),
            display_name: "Alice".into(),
            device: object(json!({"flag": "chrome", "name": "Chrome"})),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use serde_json::{Value, json};

    use super::opencall::OpenCall;
    use super::protoo::Protoo;
    use super::*;

    /// One frame of every kind, whole.
    fn frames() -> Vec<String> {
        let rtp = json!({"codecs": [{"mimeType": "audio/opus", "payloadType": 111,
                                     "clockRate": 48000, "channels": 2}],
                         "encodings": [{"ssrc": 1, "rtx": {"ssrc": 2}}], "rtcp": {"cname": "c"}});
        let dtls =
            json!({"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": "AB"}]});
        let calls = [
            (
                "join",
                json!({"displayName": "n", "device": {"flag": "f"},
                            "rtpCapabilities": {"codecs": [], "headerExtensions": []}}),
            ),
            ("createWebRtcTransport", json!({"producing": true, "consuming": false})),
            ("createWebRtcTransport", json!({"appData": {"direction": "consumer"}})),
            ("connectWebRtcTransport", json!({"transportId": "t", "dtlsParameters": dtls})),
            ("produce", json!({"transportId": "t", "kind": "audio", "rtpParameters": rtp})),
            ("setConsumerPreferredLayers", json!({"consumerId": "c", "spatialLayer": 1})),
            ("setConsumerPriority", json!({"consumerId": "c", "priority": 9})),
            (
                "produceData",
                json!({"transportId": "t", "sctpStreamParameters": {"streamId": 1,
                       "ordered": false, "maxRetransmits": 0}, "label": "chat"}),
            ),
            ("consumeData", json!({"dataProducerId": "d"})),
            ("mlsJoin", json!({"keyPackage": "k", "groupId": "g", "epoch": 3})),
            ("mlsCreate", json!({"groupId": "g", "groupInfo": "i", "replaces": "f"})),
            (
                "mlsCommit",
                json!({"groupId": "g", "epoch": 3, "commit": "c", "groupInfo": "i",
                       "welcome": "w", "welcomed": ["bob"]}),
            ),
            ("mlsGroup", json!({})),
        ];
        let mut frames = vec![json!({"response": true, "id": 5, "ok": true}).to_string()];
        for (method, data) in calls {
            let request = json!({"request": true, "id": 1, "method": method, "data": data});
            frames.push(request.to_string());
            let mut data = data;
            data["meetingId"] = "m".into();
            data["participantId"] = "p".into();
            let kind = format!("mediasoup:{}", method.replace("WebRtcTransport", "Transport"));
            frames.push(json!({"type": kind, "id": "1", "data": data}).to_string());
        }
        frames
    }

    /// Puts something else in the place of a random part of `value`.
    fn replace_a_part(value: &mut Value, rng: &mut StdRng) {
        let children: Vec<&mut Value> = match value {
            Value::Array(items) => items.iter_mut().collect(),
            Value::Object(members) => members.values_mut().collect(),
            _ => Vec::new(),
        };
        let count = children.len();
        if count > 0 && rng.random_range(0..5) > 0 {
            let chosen = rng.random_range(0..count);
            if let Some(child) = children.into_iter().nth(chosen) {
                return replace_a_part(child, rng);
            }
        }
        let others = [
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(""),
            json!("\u{0}\u{fffd}"),
            json!("x".repeat(300)),
            json!([]),
            json!([[]]),
            json!({}),
            json!({"": {}}),
        ];
        *value = others[rng.random_range(0..others.len())].clone();
    }

    /// Whatever a client sends, each frame has at most a few effects and none of them is a panic.
    #[test]
    fn mutated_frames_are_survived() {
        let mut rng = StdRng::seed_from_u64(0x0c0f_fee5);
        let frames = frames();
        let (mut asked, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut text = frames[rng.random_range(0..frames.len())].clone();
            if round % 2 == 0 {
                let mut value = serde_json::from_str(&text).unwrap();
                replace_a_part(&mut value, &mut rng);
                text = value.to_string();
            } else {
                let mut bytes = text.into_bytes();
                let place = rng.random_range(0..bytes.len());
                bytes[place] = rng.random();
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            let envelopes: [Box<dyn Envelope>; 2] =
                [Box::new(Protoo::new()), Box::new(OpenCall::new(None))];
            for mut envelope in envelopes {
                let mut effects = Vec::new();
                envelope.handle_text(Time::ZERO, &text, &mut effects);
                assert!(effects.len() <= 2, "{text}");
                match effects.last() {
                    Some(Effect::Ask { .. }) => asked += 1,
                    Some(Effect::Send(_)) => refused += 1,
                    _ => {}
                }
            }
        }
        // The mutations are neither all harmless nor all fatal.
        assert!(asked > 500 && refused > 500, "{asked} asked, {refused} refused");
    }
}
