//! OpenCall's messages over a WebSocket: requests with answers, and events in between.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::publish::{MIDS, camera_ssrcs, numbers};
use crate::media::codec::VideoCodec;

/// The events that participants of ours look at: someone sends something.
pub const NEW_PRODUCER: &str = "newProducer";

/// Nobody takes more than these layers.
pub const MAX_SPATIAL_LAYER: &str = "producerMaxSpatialLayer";

/// OpenCall's own client waits so long for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Room for what one read brings: it is cleared each time, and most messages are short.
const READ_BUFFER_LEN: usize = 4096;

/// A participant's connection.
pub struct Signaling {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    meeting: String,
    participant: String,
    next_id: u64,
    /// Events that came while an answer was waited for.
    events: VecDeque<(String, Value)>,
}

impl Signaling {
    /// Connects to `url`.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(url: &str, meeting: String, participant: String) -> Result<Self, String> {
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_LEN);
        let connecting = connect_async_with_config(url, Some(config), true);
        let connecting = timeout(ANSWER_TIMEOUT, connecting).await;
        let (socket, _) = connecting
            .map_err(|_| format!("{url} does not answer"))?
            .map_err(|error| format!("{url}: {error}"))?;
        Ok(Signaling { socket, meeting, participant, next_id: 0, events: VecDeque::new() })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the server says against it, or that it says nothing.
    pub async fn request(&mut self, name: &str, mut data: Value) -> Result<Value, String> {
        self.next_id += 1;
        let id = self.next_id.to_string();
        data["meetingId"] = self.meeting.as_str().into();
        data["participantId"] = self.participant.as_str().into();
        let frame = json!({"type": format!("mediasoup:{name}"), "id": id, "data": data});
        let sent = self.socket.send(Message::text(frame.to_string())).await;
        sent.map_err(|error| format!("{name}: {error}"))?;
        let answer = timeout(ANSWER_TIMEOUT, self.answer(&id)).await;
        answer.unwrap_or_else(|_| Err("no answer".into())).map_err(|e| format!("{name}: {e}"))
    }

    async fn answer(&mut self, id: &str) -> Result<Value, String> {
        loop {
            let mut frame = self.frame().await?;
            if frame["id"] == id {
                return match frame["type"].as_str() {
                    Some("response") => Ok(frame["data"].take()),
                    _ => Err(frame["error"].to_string()),
                };
            }
            self.keep(frame);
        }
    }

    fn keep(&mut self, mut frame: Value) {
        let Some(name) = frame["type"].as_str().and_then(|kind| kind.strip_prefix("mediasoup:"))
        else {
            return;
        };
        // What nobody waits for would only pile up.
        if matches!(name, NEW_PRODUCER | MAX_SPATIAL_LAYER) {
            let name = name.to_owned();
            self.events.push_back((name, frame["data"].take()));
        }
    }

    /// The next event; ends with the connection.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn event(&mut self) -> Result<(String, Value), String> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = self.frame().await?;
            self.keep(frame);
        }
    }

    async fn frame(&mut self) -> Result<Value, String> {
        loop {
            match self.socket.next().await {
                // Speakers change several times a second in each room: not worth reading.
                Some(Ok(Message::Text(text))) if is_ignored(&text) => {}
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|error| error.to_string());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(format!("the server closed the connection: {frame:?}"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection is gone".into()),
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        // The server notices the end of the connection even without a close frame.
        let _ = self.socket.close(None).await;
    }
}

/// Whether a frame is one of the frequent events that no participant of ours looks at.
fn is_ignored(frame: &str) -> bool {
    ["\"mediasoup:activeSpeakers\"", "\"mediasoup:connectionQuality\""]
        .iter()
        .any(|name| frame.contains(name) && !frame.contains("\"id\":"))
}

/// A microphone as a browser describes it.
pub fn microphone(ssrc: u32) -> Value {
    json!({
        "mid": MIDS[0],
        "codecs": [{"mimeType": "audio/opus", "payloadType": numbers::OPUS, "clockRate": 48000,
                    "channels": 2,
                    "parameters": {"minptime": 10, "useinbandfec": 1, "usedtx": 1},
                    "rtcpFeedback": [{"type": "nack", "parameter": ""}]}],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": numbers::LEVEL_ID},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": numbers::MID_ID},
        ],
        "encodings": [{"ssrc": ssrc, "dtx": true}],
        "rtcp": {"cname": format!("voice{ssrc}"), "reducedSize": true},
    })
}

/// A camera with layers of so many bits per second; a single one is known by its SSRCs.
pub fn camera(participant: u32, codec: VideoCodec, layers: &[u32]) -> Value {
    let encoding = |(at, rate): (usize, &u32)| {
        json!({"rid": format!("r{at}"), "maxBitrate": rate, "scalabilityMode": "L1T1",
               "scaleResolutionDownBy": 4 >> at})
    };
    let encodings = match *layers {
        [rate] => {
            let [ssrc, rtx] = camera_ssrcs(participant);
            vec![json!({"ssrc": ssrc, "rtx": {"ssrc": rtx}, "maxBitrate": rate})]
        }
        _ => layers.iter().enumerate().map(encoding).collect::<Vec<Value>>(),
    };
    let cc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let mut extensions = vec![
        json!({"uri": cc, "id": numbers::TRANSPORT_CC_ID}),
        json!({"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": numbers::MID_ID}),
        json!({"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": numbers::RID_ID}),
        json!({"uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
               "id": numbers::REPAIRED_RID_ID}),
    ];
    if codec == VideoCodec::Av1 {
        let uri = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
        extensions.push(json!({"uri": uri, "id": numbers::DEPENDENCY_ID}));
    }
    json!({
        "mid": MIDS[1],
        "codecs": [
            {"mimeType": codec.mime_type(), "payloadType": numbers::VIDEO, "clockRate": 90000,
             "parameters": parameters_of(codec),
             "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"},
                              {"type": "ccm", "parameter": "fir"}, {"type": "transport-cc"}]},
            {"mimeType": "video/rtx", "payloadType": numbers::RTX, "clockRate": 90000,
             "parameters": {"apt": numbers::VIDEO}, "rtcpFeedback": []},
        ],
        "headerExtensions": extensions,
        "encodings": encodings,
        "rtcp": {"cname": "camera", "reducedSize": true},
    })
}

/// What distinguishes a codec from others of its name.
fn parameters_of(codec: VideoCodec) -> Value {
    match codec {
        VideoCodec::Vp8 => json!({}),
        VideoCodec::Vp9 => json!({"profile-id": 0}),
        VideoCodec::H264 => json!({"packetization-mode": 1, "profile-level-id": "42e01f",
                                   "level-asymmetry-allowed": 1}),
        VideoCodec::Av1 => json!({"profile": 0, "level-idx": 5, "tier": 0}),
    }
}
