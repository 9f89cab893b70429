//! Janus's API over a WebSocket: a session, its plugin handles, requests and events.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The plugin that is an SFU.
const PLUGIN: &str = "janus.plugin.videoroom";

/// A Janus with many connections to set up takes its time; more than this is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A session without a request for 60 s is ended by Janus.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(25);

/// What the plugin says.
#[derive(Debug)]
pub struct Said {
    /// Its own words.
    pub data: Value,
    /// The session description with them.
    pub sdp: Option<String>,
}

impl Said {
    fn new(mut frame: Value) -> Self {
        let sdp = frame["jsep"]["sdp"].as_str().map(str::to_owned);
        Said { data: frame["plugindata"]["data"].take(), sdp }
    }
}

/// A session description of ours.
pub enum Jsep {
    /// The first word.
    Offer(String),
    /// The reply.
    Answer(String),
}

/// A participant's session.
pub struct Api {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<u64>,
    next_transaction: u64,
    next_keepalive: Instant,
    /// What was said while an answer was waited for.
    events: VecDeque<Said>,
}

impl Api {
    /// Opens a session.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(url: &str) -> Result<Self, String> {
        let mut request = url.into_client_request().map_err(|error| format!("{url}: {error}"))?;
        let protocol = HeaderValue::from_static("janus-protocol");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let connecting = timeout(ANSWER_TIMEOUT, connect_async(request)).await;
        let (socket, _) = connecting
            .map_err(|_| format!("{url} does not answer"))?
            .map_err(|error| format!("{url}: {error}"))?;
        let mut api = Api {
            socket,
            session: None,
            next_transaction: 0,
            next_keepalive: Instant::now() + KEEPALIVE_INTERVAL,
            events: VecDeque::new(),
        };
        let answer = api.request(json!({"janus": "create"})).await?;
        api.session = answer["data"]["id"].as_u64();
        Ok(api)
    }

    /// Takes hold of the plugin once more.
    ///
    /// # Errors
    /// What Janus says against it.
    pub async fn attach(&mut self) -> Result<u64, String> {
        let answer = self.request(json!({"janus": "attach", "plugin": PLUGIN})).await?;
        answer["data"]["id"].as_u64().ok_or_else(|| "Janus gives no handle".into())
    }

    /// Asks the plugin something and waits for what it says.
    ///
    /// # Errors
    /// What it says against it.
    pub async fn ask(
        &mut self,
        handle: u64,
        body: Value,
        jsep: Option<Jsep>,
    ) -> Result<Said, String> {
        let name = body["request"].as_str().unwrap_or_default().to_owned();
        let mut frame = json!({"janus": "message", "handle_id": handle, "body": body});
        let jsep = jsep.map(|jsep| match jsep {
            Jsep::Offer(sdp) => ("offer", sdp),
            Jsep::Answer(sdp) => ("answer", sdp),
        });
        if let Some((kind, sdp)) = jsep {
            // Without trickle Janus does not wait for candidates that never come.
            frame["jsep"] = json!({"type": kind, "sdp": sdp, "trickle": false});
        }
        let answer = self.request(frame).await.map_err(|error| format!("{name}: {error}"))?;
        let said = Said::new(answer);
        match said.data["error"].as_str() {
            Some(error) => Err(format!("{name}: {error}")),
            None => Ok(said),
        }
    }

    /// The next event; ends with the connection. Keeps the session alive meanwhile.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn event(&mut self) -> Result<Said, String> {
        loop {
            if let Some(said) = self.events.pop_front() {
                return Ok(said);
            }
            let at = self.next_keepalive;
            tokio::select! {
                frame = read(&mut self.socket) => self.keep(frame?),
                () = sleep_until(at) => {
                    self.next_keepalive += KEEPALIVE_INTERVAL;
                    let _ = self.send(json!({"janus": "keepalive"})).await?;
                }
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        // Janus notices the end of the connection even without these.
        let _ = self.send(json!({"janus": "destroy"})).await;
        let _ = self.socket.close(None).await;
    }

    async fn request(&mut self, frame: Value) -> Result<Value, String> {
        let transaction = self.send(frame).await?;
        let answer = timeout(ANSWER_TIMEOUT, self.answer(&transaction)).await;
        answer.unwrap_or_else(|_| Err("no answer".into()))
    }

    /// Sends a frame; its transaction.
    async fn send(&mut self, mut frame: Value) -> Result<String, String> {
        self.next_transaction += 1;
        let transaction = self.next_transaction.to_string();
        frame["transaction"] = transaction.as_str().into();
        if let Some(session) = self.session {
            frame["session_id"] = session.into();
        }
        let sent = self.socket.send(Message::text(frame.to_string())).await;
        sent.map_err(|error| error.to_string())?;
        Ok(transaction)
    }

    async fn answer(&mut self, transaction: &str) -> Result<Value, String> {
        loop {
            let frame = read(&mut self.socket).await?;
            let is_ours = frame["transaction"] == transaction;
            match frame["janus"].as_str() {
                Some("error") if is_ours => return Err(frame["error"]["reason"].to_string()),
                // The real answer follows as an event.
                Some("ack") => {}
                Some("success" | "event") if is_ours => return Ok(frame),
                _ => self.keep(frame),
            }
        }
    }

    /// Keeps what may tell of someone who sends; the rest would only pile up.
    fn keep(&mut self, frame: Value) {
        if frame["janus"] == "event" && frame["plugindata"]["data"]["publishers"].is_array() {
            self.events.push_back(Said::new(frame));
        }
    }
}

async fn read(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<Value, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map_err(|error| error.to_string());
            }
            Some(Ok(Message::Close(frame))) => {
                return Err(format!("Janus closed the connection: {frame:?}"));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the connection is gone".into()),
        }
    }
}
