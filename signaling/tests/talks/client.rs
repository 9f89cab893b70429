//! A WebSocket client that speaks JSON, and the two dialects over it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::{PATIENCE, Server};

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Frames that came while another was waited for.
    inbox: VecDeque<Value>,
    next_id: u64,
}

impl Client {
    /// Connects to `path` with a sub-protocol, if any.
    pub async fn connect(
        server: &Server,
        path: &str,
        protocol: Option<&'static str>,
    ) -> Result<Self, Error> {
        Self::connect_to(server.address, path, protocol).await
    }

    /// The same, where the server is another thread's.
    pub async fn connect_to(
        address: SocketAddr,
        path: &str,
        protocol: Option<&'static str>,
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if let Some(protocol) = protocol {
            let value = HeaderValue::from_static(protocol);
            request.headers_mut().insert("Sec-WebSocket-Protocol", value);
        }
        let (socket, _) = connect_async(request).await?;
        Ok(Client { socket, inbox: VecDeque::new(), next_id: 1 })
    }

    /// Connects to `/ws` with headers of its own; otherwise the status and text of the refusal.
    pub async fn with_headers(
        server: &Server,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (u16, String)> {
        let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Client { socket, inbox: VecDeque::new(), next_id: 1 }),
            Err(Error::Http(response)) => {
                let text = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8(text).unwrap()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn protoo(server: &Server, room: &str, peer: &str) -> Self {
        let path = format!("/ws?roomId={room}&peerId={peer}");
        Self::connect(server, &path, Some("protoo")).await.unwrap()
    }

    pub async fn opencall(server: &Server) -> Self {
        Self::connect(server, "/ws", None).await.unwrap()
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn send(&mut self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// Sends without waiting for room; for those who expect to be cut off.
    pub async fn try_send_text(&mut self, text: String) -> Result<(), Error> {
        self.socket.send(Message::text(text)).await
    }

    /// The next frame that fits, in the order of arrival; others are kept.
    pub async fn frame(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.inbox.iter().position(&fits) {
            return self.inbox.remove(index).unwrap();
        }
        let search = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let frame: Value = serde_json::from_str(&text).unwrap();
                        if fits(&frame) {
                            return frame;
                        }
                        self.inbox.push_back(frame);
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("waiting for {what}: {other:?}"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(frame) => frame,
            Err(_) => panic!("waiting for {what}; came: {:#?}", self.inbox),
        }
    }

    /// protoo: everything that the server has sent by now: what comes before the answer to one more
    /// question.
    pub async fn rest(&mut self) -> Vec<Value> {
        self.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
        self.inbox.drain(..).collect()
    }

    /// Waits until the server closes, and says how.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        let end = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => {
                        return frame
                            .map(|CloseFrame { code, reason }| (code.into(), reason.to_string()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, end).await.expect("the server does not close")
    }

    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// protoo: asks, and returns the data or the error's code and reason.
    pub async fn ask(&mut self, method: &str, data: Value) -> Result<Value, (u64, String)> {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({"request": true, "id": id, "method": method, "data": data})).await;
        let answer =
            self.frame(method, |frame| frame["response"] == true && frame["id"] == id).await;
        if answer["ok"] == true {
            return Ok(answer["data"].clone());
        }
        let code = answer["errorCode"].as_u64().expect("errorCode");
        Err((code, answer["errorReason"].as_str().expect("errorReason").to_owned()))
    }

    /// protoo: the data of the next such notification.
    pub async fn notified(&mut self, method: &str) -> Value {
        let fits = |frame: &Value| frame["notification"] == true && frame["method"] == method;
        self.frame(method, fits).await["data"].clone()
    }

    /// protoo: the data of the next such request of the server, accepted or refused.
    pub async fn asked(&mut self, method: &str, accept: bool) -> Value {
        let fits = |frame: &Value| frame["request"] == true && frame["method"] == method;
        let frame = self.frame(method, fits).await;
        let id = &frame["id"];
        let answer = if accept {
            json!({"response": true, "id": id, "ok": true, "data": {}})
        } else {
            json!({"response": true, "id": id, "ok": false, "errorCode": 403, "errorReason": "no"})
        };
        self.send(&answer).await;
        frame["data"].clone()
    }

    /// protoo: accepts every consumer and reads on, until the connection ends.
    pub async fn accept_everything(&mut self) {
        for frame in std::mem::take(&mut self.inbox) {
            self.accept(&frame).await;
        }
        while let Some(Ok(message)) = self.socket.next().await {
            if let Message::Text(text) = message {
                let frame = serde_json::from_str(&text).unwrap();
                self.accept(&frame).await;
            }
        }
    }

    async fn accept(&mut self, frame: &Value) {
        if frame["request"] == true {
            let answer = json!({"response": true, "id": frame["id"], "ok": true, "data": {}});
            let _ = self.socket.send(Message::text(answer.to_string())).await;
        }
    }

    /// OpenCall: asks, and returns the data or the error.
    pub async fn request(&mut self, name: &str, data: Value) -> Result<Value, String> {
        self.next_id += 1;
        let id = format!("r{}", self.next_id);
        self.send(&json!({"type": format!("mediasoup:{name}"), "id": id, "data": data})).await;
        let answer = self.frame(name, |frame| frame["id"] == id.as_str()).await;
        match answer["type"].as_str() {
            Some("response") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].as_str().expect("error").to_owned()),
        }
    }

    /// OpenCall: asks, without waiting for the answer.
    pub async fn send_request(&mut self, name: &str, id: &str, data: Value) {
        self.send(&json!({"type": format!("mediasoup:{name}"), "id": id, "data": data})).await;
    }

    /// The oldest frame that came while another was waited for.
    pub fn kept(&mut self) -> Option<Value> {
        self.inbox.pop_front()
    }

    /// OpenCall: the data of the next such event.
    pub async fn event(&mut self, name: &str) -> Value {
        let kind = format!("mediasoup:{name}");
        self.frame(name, |frame| frame["type"] == kind.as_str()).await["data"].clone()
    }
}

/// A fingerprint that is well formed.
pub fn dtls_parameters() -> Value {
    let value = vec!["AB"; 32].join(":");
    json!({"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": value}]})
}

/// A microphone as a browser describes it.
pub fn microphone(ssrc: u32) -> Value {
    json!({
        "mid": "0",
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000,
                    "channels": 2, "parameters": {"minptime": 10, "useinbandfec": 1},
                    "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}]}],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false,
             "parameters": {}}
        ],
        "encodings": [{"ssrc": ssrc, "dtx": false}],
        "rtcp": {"cname": format!("cname{ssrc}"), "reducedSize": true}
    })
}

/// A camera with three simulcast layers.
pub fn camera() -> Value {
    json!({
        "mid": "1",
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "parameters": {},
             "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"},
                              {"type": "ccm", "parameter": "fir"}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000,
             "parameters": {"apt": 96}, "rtcpFeedback": []}
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": 10},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", "id": 11}
        ],
        "encodings": [
            {"rid": "r0", "maxBitrate": 100000, "scaleResolutionDownBy": 4, "scalabilityMode": "L1T3"},
            {"rid": "r1", "maxBitrate": 300000, "scaleResolutionDownBy": 2, "scalabilityMode": "L1T3"},
            {"rid": "r2", "maxBitrate": 900000, "scaleResolutionDownBy": 1, "scalabilityMode": "L1T3"}
        ],
        "rtcp": {"cname": "camera"}
    })
}
