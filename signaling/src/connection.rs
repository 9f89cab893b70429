//! One WebSocket connection: frames between the socket, its envelope and the hub, with its limits
//! and time-outs. It runs on the web thread.
//!
//! A client that makes more work than its share is not refused: the connection reads on later, and
//! TCP slows the client down.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use opencall_control::api::{CloseReason, ConsumeMode, Grants, Response, SessionConfig};
use opencall_wire::time::Time;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::claims::Admission;
use crate::envelope::opencall::OpenCall;
use crate::envelope::protoo::Protoo;
use crate::envelope::{Closing, Effect, Envelope};
use crate::gauges::Gauges;
use crate::http::SocketPlace;
use crate::hub::mail_queue::Mail;
use crate::hub::{HubGone, HubLink, Mailbox, Presence};
use crate::resume::{self, Claim, HandOver, Held, RESUME_GRACE, Record, Ticket};

/// A connection that has entered no room by then is closed. Clients do so within seconds; a person
/// may sit in front of a permission prompt meanwhile.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Pings that may go unanswered.
const MAX_MISSED_PINGS: u32 = 2;

/// How long one batch of frames may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes of frames written before the socket is read again: what a slow reader holds besides its
/// mailbox.
const MAX_BATCH_BYTES: usize = 64 << 10;

/// Close codes of a client that leaves, beside none: it has finished, or its page goes away.
const GOODBYES: [u16; 2] = [1000, 1001];

/// What a challenge's ping carries; its answer must carry it too, so that what was on its way
/// before does not count.
const CHALLENGE: &[u8] = b"are you there?";

/// Who connects, and in which envelope.
#[derive(Debug)]
pub enum Dialect {
    /// protoo: the ids are in the URL.
    Protoo {
        /// Room.
        room: String,
        /// Peer.
        peer: String,
        /// What it may do.
        grants: Grants,
    },
    /// OpenCall: the ids are in the requests, and must be those of the token if there is one.
    OpenCall(Option<Admission>),
}

/// Serves one connection to its end.
pub async fn serve(
    socket: WebSocket,
    dialect: Dialect,
    remote: IpAddr,
    place: SocketPlace,
    hub: HubLink,
    gauges: Arc<Gauges>,
) {
    let _counted = Counted::new(Arc::clone(&gauges));
    let mut connection = Connection::new(socket, &dialect, place, hub);
    let end = match connection.enter(dialect).await {
        Ok(()) => connection.run().await,
        Err(end) => end,
    };
    let end = match end.of(&connection.mailbox) {
        End::Gone | End::Closing(Closing::Unresponsive) if connection.record.ticket.is_some() => {
            tracing::debug!(%remote, "a session waits for its client");
            return connection.park().await;
        }
        End::Claimed(to) => return connection.hand_over(to),
        end => end,
    };
    // The room hears of it before the closing handshake has ended.
    connection.presence = None;
    match end {
        End::Claimed(_) => {}
        End::Left | End::Gone => {
            tracing::debug!(%remote, "client closed its connection");
            connection.finish().await;
        }
        End::Closing(closing) => {
            tracing::info!(%remote, reason = closing.label(), "closed a connection");
            gauges.count_closed(closing);
            connection.close(closing).await;
        }
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(Arc<Gauges>);

impl Counted {
    fn new(gauges: Arc<Gauges>) -> Self {
        gauges.connections.fetch_add(1, Ordering::Relaxed);
        Counted(gauges)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a connection ends.
enum End {
    /// The client says goodbye.
    Left,
    /// The network closed it, or the client without a word.
    Gone,
    /// The client has come back on another connection.
    Claimed(HandOver),
    /// We close it.
    Closing(Closing),
}

impl From<HubGone> for End {
    fn from(_: HubGone) -> Self {
        End::Closing(Closing::ControlLost)
    }
}

impl End {
    /// What it is when control does not answer because it has closed the session before: its
    /// mailbox says why.
    fn of(self, mailbox: &Mailbox) -> Self {
        match (self, mailbox.closing()) {
            (End::Closing(Closing::ControlLost), Some(closing)) => End::Closing(closing),
            (end, _) => end,
        }
    }
}

struct Connection {
    socket: WebSocket,
    envelope: Box<dyn Envelope>,
    hub: HubLink,
    mailbox: Arc<Mailbox>,
    presence: Option<Presence>,
    place: SocketPlace,
    /// What was said, here and on the connections before.
    record: Record,
    /// Until then the client has made more work than its share.
    read_after: Instant,
    join_by: Instant,
    ping_at: Instant,
    missed_pings: u32,
    challenged: bool,
    effects: Vec<Effect>,
    frames: Vec<String>,
}

impl Connection {
    fn new(socket: WebSocket, dialect: &Dialect, place: SocketPlace, hub: HubLink) -> Self {
        let envelope: Box<dyn Envelope> = match dialect {
            Dialect::OpenCall(admission) => Box::new(OpenCall::new(admission.clone())),
            Dialect::Protoo { .. } => Box::new(Protoo::new()),
        };
        let now = Instant::now();
        Connection {
            socket,
            ping_at: now + envelope.ping_interval(),
            envelope,
            mailbox: hub.mailbox(),
            hub,
            presence: None,
            place,
            record: Record::default(),
            read_after: now,
            join_by: now + JOIN_TIMEOUT,
            missed_pings: 0,
            challenged: false,
            effects: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// A protoo client has said who it is: its session opens with the connection.
    async fn enter(&mut self, dialect: Dialect) -> Result<(), End> {
        let Dialect::Protoo { room, peer, grants } = dialect else { return Ok(()) };
        let config = SessionConfig {
            room,
            peer,
            consume_mode: ConsumeMode::Automatic,
            grants,
            display_name: None,
            can_wait: true,
        };
        self.open(config).await
    }

    async fn open(&mut self, config: SessionConfig) -> Result<(), End> {
        let address = self.place.account();
        let (presence, wait) = self.hub.open(config, Arc::clone(&self.mailbox), address).await?;
        self.presence = Some(presence);
        self.wait(wait);
        self.opened().await
    }

    /// Waits until control lets the session in, or does not: an older session of the same peer may
    /// have to show first that its client is gone.
    async fn opened(&mut self) -> Result<(), End> {
        let mut stop = std::pin::pin!(stop_of(self.hub.stopping()));
        loop {
            if let Some(closing) = self.mailbox.closing() {
                return Err(End::Closing(closing));
            }
            if let Some(Mail::Opened) = self.mailbox.take() {
                return Ok(());
            }
            tokio::select! {
                () = self.mailbox.arrived.notified() => {}
                () = self.mailbox.closed.notified() => {}
                closing = &mut stop => return Err(End::Closing(closing)),
            }
        }
    }

    async fn run(&mut self) -> End {
        self.envelope.handle_open(&mut self.effects);
        match self.serve().await {
            Ok(()) => End::Gone,
            Err(end) => end,
        }
    }

    async fn serve(&mut self) -> Result<(), End> {
        let mut stop = std::pin::pin!(stop_of(self.hub.stopping()));
        loop {
            self.apply_effects().await?;
            self.send_frames().await?;
            if self.envelope.has_joined() {
                self.place.settle();
            }
            if self.envelope.is_waiting() {
                // Its time to enter begins when it is let in.
                self.join_by = Instant::now() + JOIN_TIMEOUT;
            }
            opencall_io::give_way();
            if let Some(closing) = self.mailbox.closing() {
                return Err(End::Closing(closing));
            }
            let mailbox = Arc::clone(&self.mailbox);
            let deadline = self.deadline();
            let may_read = Instant::now() >= self.read_after;
            tokio::select! {
                message = self.socket.recv(), if may_read => {
                    self.take_message(message)?;
                    // One message in turn: who sends many large ones holds up nobody.
                    tokio::task::yield_now().await;
                }
                () = mailbox.arrived.notified() => self.take_mail(),
                () = mailbox.closed.notified() => {}
                () = mailbox.challenged.notified() => self.show_presence().await?,
                () = tokio::time::sleep_until(deadline) => self.take_timeout().await?,
                to = claimed(&mut self.record.ticket) => return Err(End::Claimed(to)),
                closing = &mut stop => return Err(End::Closing(closing)),
            }
        }
    }

    /// Does what the envelope wants; frames are collected for [`Connection::send_frames`].
    async fn apply_effects(&mut self) -> Result<(), End> {
        // Control may have answered by the time an effect is done, so that more follow.
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Send(frame) => self.frames.push(frame),
                    Effect::Open(config) => self.open(config).await?,
                    Effect::Ask { token, request } => {
                        if let Some(presence) = &self.presence {
                            let wait = presence.ask(token, request).await?;
                            self.wait(wait);
                        }
                    }
                    Effect::RouterCapabilities { token } => {
                        let router = Arc::clone(self.hub.router_rtp_capabilities());
                        let answer = Ok(Response::RouterRtpCapabilities(router));
                        self.envelope.handle_response(token, answer, &mut self.effects);
                    }
                    Effect::Resumable { id, room, peer, mut data } => {
                        let ticket = self.hub.resumptions().issue(&room, &peer);
                        data.insert("resumeToken".to_owned(), json!(ticket.token()));
                        let frame = json!({"type": "response", "id": id, "data": data});
                        self.record.ticket = Some(ticket);
                        self.frames.push(frame.to_string());
                    }
                    Effect::Resume { id, claim, ends } => self.resume(&id, &claim, ends).await?,
                    Effect::Acknowledge(received) => self.record.acknowledge(received),
                    Effect::Close(closing) => return Err(End::Closing(closing)),
                }
            }
        }
        Ok(())
    }

    /// Takes over the session of a connection that was lost, or ends it.
    async fn resume(&mut self, id: &str, claim: &Claim, ends: bool) -> Result<(), End> {
        let resumptions = Arc::clone(self.hub.resumptions());
        let Some(held) = resumptions.claim(claim).await else {
            return self.send_uncounted(vec![resume::refused(id)]).await;
        };
        if ends {
            return self.send_uncounted(vec![resume::ended(id)]).await;
        }
        let Some(missed) = held.record.after(claim.received) else {
            return self.send_uncounted(vec![resume::refused(id)]).await;
        };
        let bytes = missed.iter().map(String::len).sum();
        let wait = held.presence.resumed(bytes).await?;
        let Held { envelope, mailbox, presence, mut record } = held;
        let ticket = resumptions.issue_after(claim);
        let answer = resume::resumed(id, &ticket, &record);
        record.ticket = Some(ticket);
        (self.envelope, self.mailbox, self.presence) = (envelope, mailbox, Some(presence));
        self.record = record;
        self.wait(wait);
        let frames = std::iter::once(answer).chain(missed).collect();
        let sent = self.send_uncounted(frames).await;
        // What came meanwhile waits in the mailbox.
        self.mailbox.arrived.notify_one();
        sent
    }

    /// The socket is gone and the session waits: for its client, or its end. Media go on meanwhile.
    async fn park(self) {
        let Connection { socket, envelope, mailbox, presence, mut record, hub, place, .. } = self;
        drop(socket);
        let Some(presence) = presence else { return };
        let until = Instant::now() + RESUME_GRACE;
        let mut stop = std::pin::pin!(stop_of(hub.stopping()));
        let to = loop {
            if mailbox.closing().is_some() {
                return;
            }
            tokio::select! {
                to = claimed(&mut record.ticket) => break to,
                () = mailbox.closed.notified() => {}
                // Only who has the token takes its place.
                () = mailbox.challenged.notified() => presence.answer_challenge(),
                () = tokio::time::sleep_until(until) => return,
                _ = &mut stop => return,
            }
        };
        // An address has no more parked sessions than it may have connections.
        drop(place);
        // A newcomer that has gone meanwhile has the session end here.
        let _ = to.send(Held { envelope, mailbox, presence, record });
    }

    fn hand_over(self, to: HandOver) {
        let Connection { envelope, mailbox, presence, record, .. } = self;
        if let Some(presence) = presence {
            let _ = to.send(Held { envelope, mailbox, presence, record });
        }
    }

    fn wait(&mut self, wait: Duration) {
        if !wait.is_zero() {
            self.read_after = self.read_after.max(Instant::now() + wait);
        }
    }

    async fn send_frames(&mut self) -> Result<(), End> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let frames = std::mem::take(&mut self.frames);
        for frame in &frames {
            self.record.note_sent(frame);
        }
        self.send_uncounted(frames).await
    }

    async fn send_uncounted(&mut self, frames: Vec<String>) -> Result<(), End> {
        let socket = &mut self.socket;
        let send = async move {
            for frame in frames {
                socket.feed(Message::Text(frame.into())).await?;
            }
            socket.flush().await
        };
        tokio::select! {
            result = send => result.map_err(|_| End::Gone),
            () = self.mailbox.closed.notified() => {
                Err(End::Closing(self.mailbox.closing().unwrap_or(Closing::SlowReader)))
            }
            // A network that takes nothing any more is why clients come back.
            to = claimed(&mut self.record.ticket) => Err(End::Claimed(to)),
            () = tokio::time::sleep(SEND_TIMEOUT) => Err(End::Closing(Closing::SlowReader)),
        }
    }

    fn take_message(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.missed_pings = 0;
        match message {
            Some(Ok(Message::Text(text))) => {
                let now = self.hub.clock().now();
                self.record.note_received();
                self.envelope.handle_text(now, text.as_str(), &mut self.effects);
                Ok(())
            }
            Some(Ok(Message::Pong(payload))) => {
                if self.challenged && &payload[..] == CHALLENGE {
                    self.challenged = false;
                    if let Some(presence) = &self.presence {
                        presence.answer_challenge();
                    }
                }
                Ok(())
            }
            // Neither dialect has binary frames.
            Some(Ok(Message::Binary(_) | Message::Ping(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => {
                let left = frame.is_none_or(|frame| GOODBYES.contains(&frame.code));
                Err(if left { End::Left } else { End::Gone })
            }
            None => Err(End::Gone),
            Some(Err(error)) => {
                let too_large = error.to_string().contains("too long");
                Err(if too_large { End::Closing(Closing::TooLarge) } else { End::Gone })
            }
        }
    }

    /// Another client claims to be this one: asks whether it is there, and reads the answer even if
    /// it has made more work than its share.
    async fn show_presence(&mut self) -> Result<(), End> {
        self.challenged = true;
        self.read_after = Instant::now();
        self.ping(CHALLENGE).await
    }

    async fn ping(&mut self, payload: &'static [u8]) -> Result<(), End> {
        let ping = self.socket.send(Message::Ping(payload.into()));
        match tokio::time::timeout(SEND_TIMEOUT, ping).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Closing(Closing::SlowReader)),
        }
    }

    fn take_mail(&mut self) {
        let now = self.hub.clock().now();
        let mut bytes = 0;
        while bytes < MAX_BATCH_BYTES {
            let Some(mail) = self.mailbox.take() else { return };
            let before = self.effects.len();
            match mail {
                Mail::Response(token, result) => {
                    self.envelope.handle_response(token, result, &mut self.effects);
                }
                Mail::Notification(notification) => {
                    self.envelope.handle_notification(now, notification, &mut self.effects);
                }
                Mail::Opened => {}
            }
            bytes += self.effects.iter().skip(before).map(effect_size).sum::<usize>() + 1;
        }
        // More may wait.
        self.mailbox.arrived.notify_one();
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let mut deadline = self.ping_at;
        if self.read_after > now {
            deadline = deadline.min(self.read_after);
        }
        if !self.envelope.has_joined() && !self.envelope.is_waiting() {
            deadline = deadline.min(self.join_by);
        }
        let timeout = self.envelope.next_timeout();
        if timeout == Time::NEVER {
            return deadline;
        }
        let origin = Instant::from_std(self.hub.clock().origin());
        deadline.min(origin + timeout.since(Time::ZERO))
    }

    async fn take_timeout(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let may_idle = self.envelope.has_joined() || self.envelope.is_waiting();
        if !may_idle && now >= self.join_by {
            return Err(End::Closing(Closing::Idle));
        }
        if now >= self.ping_at {
            self.ping_at = now + self.envelope.ping_interval();
            // A client that is not read from cannot answer.
            if now >= self.read_after {
                self.missed_pings += 1;
            }
            if self.missed_pings > MAX_MISSED_PINGS {
                return Err(End::Closing(Closing::Unresponsive));
            }
            self.ping(b"").await?;
        }
        self.envelope.handle_timeout(self.hub.clock().now(), &mut self.effects);
        Ok(())
    }

    /// Says why, and waits a little for the client to have heard it.
    async fn close(&mut self, closing: Closing) {
        let by = self.mailbox.closed_by();
        self.envelope.handle_closing(closing, by.as_deref(), &mut self.effects);
        let farewell = self.effects.drain(..).filter_map(|effect| match effect {
            Effect::Send(frame) => Some(Message::Text(frame.into())),
            _ => None,
        });
        let farewell: Vec<Message> = farewell.collect();
        let frame = CloseFrame { code: closing.code(), reason: closing.reason().into() };
        let socket = &mut self.socket;
        let send = async move {
            for message in farewell {
                socket.feed(message).await?;
            }
            socket.send(Message::Close(Some(frame))).await
        };
        if let Ok(Ok(())) = tokio::time::timeout(CLOSE_TIMEOUT, send).await {
            self.finish().await;
        }
    }

    /// The rest of the closing handshake; a client that takes no part in it is cut off.
    async fn finish(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
    }
}

/// Why every connection closes, once it must. When the hub is gone without a word, its channel is
/// closed.
async fn stop_of(mut stopping: watch::Receiver<bool>) -> Closing {
    match stopping.wait_for(|stopping| *stopping).await {
        Ok(_) => Closing::ByControl(CloseReason::Shutdown),
        Err(_) => Closing::ControlLost,
    }
}

/// Waits until someone comes with the token; for ever where there is none.
async fn claimed(ticket: &mut Option<Ticket>) -> HandOver {
    if let Some(own) = ticket {
        let to = (&mut own.claimed).await;
        // It is used up, or nobody can come with it any more.
        *ticket = None;
        if let Ok(to) = to {
            return to;
        }
    }
    std::future::pending().await
}

fn effect_size(effect: &Effect) -> usize {
    match effect {
        Effect::Send(frame) => frame.len(),
        _ => 0,
    }
}
