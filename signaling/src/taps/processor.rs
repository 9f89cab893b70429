//! The program that hears a room: connected as long as the tap lasts, and again when it was lost.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use opencall_control::tap::message::{TapEvent, TapId, TapResult};
use opencall_dataplane::threads::Clock;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Teller;
use super::gauges::{Refusal, TapGauges};
use super::line::{Line, Piece, VoiceName};
use super::mediajson::{self, MAX_MESSAGE_BYTES, Said};
use crate::outgoing::url::HttpUrl;
use crate::outgoing::{self, dial};

/// Within so long a program must have taken the connection and shaken hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses before a program is tried again: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection that has lasted so long was a good one: the next pause is the first again.
const LASTING: Duration = Duration::from_secs(10);

/// Within so long what is written must be taken; else the program has stalled.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the program is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A program that said nothing for so long, not even that it is there, is not.
const SILENCE: Duration = Duration::from_secs(35);

/// How long the program may take to hear that a tap is over.
const FAREWELL: Duration = Duration::from_millis(500);

/// Pieces written in one go.
const MAX_PIECES: usize = 1_024;

/// Messages of a program that are read a second, and at once: more are left to TCP. Ten speakers
/// corrected ten times a second are half of that.
const MESSAGES_PER_SECOND: f64 = 200.0;
const MAX_MESSAGES: f64 = 400.0;

/// Bytes that the library may hold back of what is written, and the most when nothing is taken.
const WRITE_BYTES: usize = 64 * 1024;
const MAX_WRITE_BYTES: usize = 1 << 20;

/// Bytes that the kernel may hold back: what is in there cannot be forgotten any more. At 50 ms of
/// round trip this carries 250 voices.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// The program of one tap.
pub struct Processor {
    /// The tap.
    pub tap: TapId,
    /// Where it is.
    pub url: HttpUrl,
    /// What waits for it.
    pub line: Arc<Line>,
    /// Hears of results.
    pub teller: Arc<Teller>,
    /// Counts.
    pub gauges: Arc<TapGauges>,
    /// The server's.
    pub clock: Clock,
}

impl Processor {
    /// Speaks with it until the tap is over.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        while !self.line.is_over() {
            let began = Instant::now();
            let error = match self.connect().await {
                Ok(()) => return,
                Err(error) => error,
            };
            if self.line.is_over() {
                return;
            }
            self.line.failed(&error);
            let seconds = pause.as_secs_f32();
            tracing::warn!(tap = self.tap.0, url = %self.url, error, seconds, "a tap has nobody to hear it");
            self.rest(pause).await;
            let lasted = began.elapsed() >= LASTING;
            pause = if lasted { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
    }

    async fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.line.is_over() && Instant::now() < until {
            tokio::select! {
                () = self.line.news.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Connects and speaks; `Ok` when the tap is over.
    async fn connect(&self) -> Result<(), String> {
        match timeout(CONNECT_TIMEOUT, dial(&self.url)).await {
            Ok(Ok(outgoing::Line::Plain(stream))) => {
                prepare(&stream).map_err(|error| error.to_string())?;
                self.shake_hands(stream).await
            }
            Ok(Ok(outgoing::Line::Tls(stream))) => {
                prepare(stream.get_ref().0).map_err(|error| error.to_string())?;
                self.shake_hands(stream).await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .write_buffer_size(WRITE_BYTES)
            .max_write_buffer_size(MAX_WRITE_BYTES);
        let request = self.url.uri().clone();
        let shaken = client_async_with_config(request, stream, Some(config));
        match timeout(CONNECT_TIMEOUT, shaken).await {
            Ok(Ok((socket, _))) => self.speak(socket).await,
            Ok(Err(Error::Http(response))) => {
                Err(format!("it answered {}, no WebSocket", response.status()))
            }
            Ok(Err(error)) => Err(format!("no WebSocket: {error}")),
            Err(_) => Err(format!("no WebSocket within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    async fn speak<S>(&self, socket: WebSocketStream<S>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.line.connected();
        tracing::info!(tap = self.tap.0, url = %self.url, "a tap is heard");
        let (sink, stream) = socket.split();
        let mut speech = Speech { sink, number: 0, started: HashMap::new() };
        let ended = tokio::select! {
            ended = self.write(&mut speech) => ended,
            error = self.listen(stream) => Err(error),
        };
        if ended.is_ok() {
            // Whether the program has heard the end is its affair.
            let _ = timeout(FAREWELL, speech.farewell()).await;
        }
        ended
    }

    /// Writes what there is; `Ok` when the tap is over.
    async fn write<K>(&self, speech: &mut Speech<K>) -> Result<(), String>
    where
        K: Sink<Message, Error = Error> + Unpin,
    {
        let mut pieces = Vec::new();
        let (mut pings, mut next_ping) = (0, Instant::now() + PING_INTERVAL);
        loop {
            if self.line.is_over() {
                return Ok(());
            }
            self.line.take(self.clock.now(), MAX_PIECES, &mut pieces);
            let is_due = Instant::now() >= next_ping;
            if is_due {
                (pings, next_ping) = (pings + 1, Instant::now() + PING_INTERVAL);
            }
            if pieces.is_empty() && !is_due {
                tokio::select! {
                    () = self.line.news.notified() => {}
                    () = sleep_until(next_ping) => {}
                }
                continue;
            }
            let written = speech.write(pieces.drain(..), is_due.then_some(pings));
            match timeout(WRITE_TIMEOUT, self.unless_over(written)).await {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => return Err(format!("it hears nothing: {error}")),
                // What waits for it is not to be said any more.
                Ok(None) => return Ok(()),
                Err(_) => {
                    let seconds = WRITE_TIMEOUT.as_secs();
                    return Err(format!("it has read nothing for {seconds} s"));
                }
            }
        }
    }

    /// `None` if the tap was over before.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.line.news.notified() => {
                    if self.line.is_over() {
                        return None;
                    }
                }
            }
        }
    }

    /// Hears what it says, until it says nothing more.
    async fn listen(
        &self,
        mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    ) -> String {
        let (mut budget, mut counted) = (MAX_MESSAGES, Instant::now());
        loop {
            let message = match timeout(SILENCE, stream.next()).await {
                Err(_) => return format!("it has said nothing for {} s", SILENCE.as_secs()),
                Ok(None) => return "it has gone".to_owned(),
                Ok(Some(Err(error))) => {
                    if matches!(&error, Error::Capacity(CapacityError::MessageTooLong { .. })) {
                        self.gauges.count_refused(Refusal::TooLarge);
                    }
                    return error.to_string();
                }
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Text(text) => self.hear(&text),
                Message::Binary(_) => self.gauges.count_refused(Refusal::Malformed),
                Message::Close(_) => return "it has closed the connection".to_owned(),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            let earned = counted.elapsed().as_secs_f64() * MESSAGES_PER_SECOND;
            (budget, counted) = ((budget + earned).min(MAX_MESSAGES) - 1.0, Instant::now());
            if budget < 0.0 {
                sleep(Duration::from_secs_f64(-budget / MESSAGES_PER_SECOND)).await;
            }
        }
    }

    fn hear(&self, text: &str) {
        match mediajson::read(text) {
            Ok(Said::Result { participant, text, interim, language }) => {
                let participant = self.line.participant(participant);
                let result = TapResult { participant, text, interim, language };
                self.teller.tell(TapEvent::Result { tap: self.tap, result });
            }
            Ok(Said::Ping(answer)) => self.line.answer(answer),
            Ok(Said::Other) => {}
            Err(reason) => self.gauges.count_refused(reason),
        }
    }
}

/// What is written goes out at once, and little of it waits.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// What was said on one connection.
struct Speech<K> {
    sink: K,
    /// Messages with a number so far.
    number: u64,
    /// Voices that it was told of, by tag.
    started: HashMap<String, Arc<VoiceName>>,
}

impl<K: Sink<Message, Error = Error> + Unpin> Speech<K> {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    async fn say(&mut self, text: String) -> Result<(), Error> {
        self.sink.feed(Message::text(text)).await
    }

    async fn write(
        &mut self,
        pieces: impl Iterator<Item = Piece>,
        ping: Option<u64>,
    ) -> Result<(), Error> {
        for piece in pieces {
            match piece {
                Piece::Frame(frame) => {
                    let voice = frame.voice;
                    if !self.started.contains_key(&voice.tag) {
                        let number = self.next();
                        let start = mediajson::start(number, &voice.tag, &voice.participant);
                        self.say(start).await?;
                        self.started.insert(voice.tag.clone(), Arc::clone(&voice));
                    }
                    let (number, json) = (self.next(), &voice.json);
                    let (chunk, timestamp) = (frame.chunk, frame.timestamp);
                    let media = mediajson::media(number, json, chunk, timestamp, &frame.payload);
                    self.say(media).await?;
                }
                Piece::Stop(voice) => self.stop(&voice.tag).await?,
                Piece::Answer(text) => self.say(text).await?,
            }
        }
        if let Some(id) = ping {
            self.say(mediajson::ping(id)).await?;
            // Whoever knows no such word answers this.
            self.sink.feed(Message::Ping(Default::default())).await?;
        }
        self.sink.flush().await
    }

    async fn stop(&mut self, tag: &str) -> Result<(), Error> {
        if self.started.remove(tag).is_none() {
            return Ok(());
        }
        let number = self.next();
        self.say(mediajson::stop(number, tag)).await
    }

    /// Nothing more comes.
    async fn farewell(&mut self) -> Result<(), Error> {
        let tags: Vec<String> = self.started.keys().cloned().collect();
        for tag in tags {
            self.stop(&tag).await?;
        }
        let number = self.next();
        self.say(mediajson::session_end(number)).await?;
        self.sink.close().await
    }
}
