//! One WebSocket connection: frames between the socket, its envelope and the hub, with its limits
//! and time-outs.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opencall_control::api::{ConsumeMode, Grants, SessionConfig, SessionId};
use opencall_dataplane::time::Time;
use tokio::time::Instant;

use crate::config::Limits;
use crate::envelope::opencall::OpenCall;
use crate::envelope::protoo::Protoo;
use crate::envelope::{Closing, Effect, Envelope, Permit};
use crate::gauges::Gauges;
use crate::hub::{Hub, Mail, Mailbox, MailboxId};

/// A connection that has entered no room by then is closed. Clients do so within seconds; a person
/// may sit in front of a permission prompt meanwhile.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Pings that may go unanswered.
const MAX_MISSED_PINGS: u32 = 2;

/// How long one batch of frames may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Frames above the rate that a connection may send in a burst before it is closed; they come back
/// at one per second. A client with a bug gets its errors; a flood ends.
const MAX_REFUSED_BURST: u32 = 200;

/// Mail taken before the socket is served.
const MAX_MAIL_PER_TURN: usize = 256;

/// Who connects, and in which envelope.
#[derive(Debug)]
pub enum Dialect {
    /// protoo: the ids are in the URL.
    Protoo {
        /// Room.
        room: String,
        /// Peer.
        peer: String,
    },
    /// OpenCall: the ids are in the requests.
    OpenCall,
}

/// Serves one connection to its end.
pub async fn serve(
    socket: WebSocket,
    dialect: Dialect,
    remote: IpAddr,
    hub: Rc<Hub>,
    limits: Limits,
    gauges: Arc<Gauges>,
) {
    gauges.connections.fetch_add(1, Ordering::Relaxed);
    let mut connection = Connection::new(socket, dialect, hub, limits);
    let end = connection.run().await;
    connection.hub.leave(connection.mailbox_id, connection.session);
    match end {
        End::Gone => {
            tracing::debug!(%remote, "client closed its connection");
            connection.finish().await;
        }
        End::Closing(closing) => {
            tracing::info!(%remote, reason = closing.label(), "closed a connection");
            gauges.count_closed(closing);
            connection.close(closing).await;
        }
    }
    gauges.connections.fetch_sub(1, Ordering::Relaxed);
}

/// How a connection ends.
enum End {
    /// The client closed it, or the network did.
    Gone,
    /// We close it.
    Closing(Closing),
}

struct Connection {
    socket: WebSocket,
    envelope: Box<dyn Envelope>,
    hub: Rc<Hub>,
    mailbox_id: MailboxId,
    mailbox: Rc<Mailbox>,
    session: Option<SessionId>,
    rate: DefaultDirectRateLimiter,
    /// Patience with what is above the rate.
    patience: DefaultDirectRateLimiter,
    join_by: Instant,
    ping_at: Instant,
    missed_pings: u32,
    effects: Vec<Effect>,
    frames: Vec<String>,
}

impl Connection {
    fn new(socket: WebSocket, dialect: Dialect, hub: Rc<Hub>, limits: Limits) -> Self {
        let (mailbox_id, mailbox) = hub.enter();
        let (envelope, session): (Box<dyn Envelope>, _) = match dialect {
            Dialect::OpenCall => (Box::new(OpenCall::new()), None),
            Dialect::Protoo { room, peer } => {
                let config = SessionConfig {
                    room,
                    peer,
                    consume_mode: ConsumeMode::Automatic,
                    grants: Grants::default(),
                };
                let session = hub.open_session(config, Rc::clone(&mailbox));
                (Box::new(Protoo::new()), Some(session))
            }
        };
        let rate = Quota::per_second(limits.request_rate).allow_burst(limits.request_burst);
        let refused = NonZeroU32::new(MAX_REFUSED_BURST).unwrap_or(NonZeroU32::MIN);
        let patience = Quota::per_second(NonZeroU32::MIN).allow_burst(refused);
        let now = Instant::now();
        Connection {
            socket,
            ping_at: now + envelope.ping_interval(),
            envelope,
            hub,
            mailbox_id,
            mailbox,
            session,
            rate: RateLimiter::direct(rate),
            patience: RateLimiter::direct(patience),
            join_by: now + JOIN_TIMEOUT,
            missed_pings: 0,
            effects: Vec::new(),
            frames: Vec::new(),
        }
    }

    async fn run(&mut self) -> End {
        self.envelope.handle_open(&mut self.effects);
        loop {
            if let Some(end) = self.apply_effects() {
                return end;
            }
            if let Some(end) = self.send_frames().await {
                return end;
            }
            opencall_dataplane::io::give_way();
            if let Some(closing) = self.mailbox.closing() {
                return End::Closing(closing);
            }
            let mailbox = Rc::clone(&self.mailbox);
            let deadline = self.deadline();
            tokio::select! {
                message = self.socket.recv() => {
                    if let Some(end) = self.take_message(message) {
                        return end;
                    }
                }
                () = mailbox.arrived.notified() => self.take_mail(),
                () = mailbox.closed.notified() => {}
                () = tokio::time::sleep_until(deadline) => {
                    if let Some(end) = self.take_timeout().await {
                        return end;
                    }
                }
            }
        }
    }

    /// Does what the envelope wants; frames are collected for [`Connection::send_frames`].
    fn apply_effects(&mut self) -> Option<End> {
        // Control answers while being asked, so that there may be more effects after these.
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Send(frame) => self.frames.push(frame),
                    Effect::Open(config) => {
                        let mailbox = Rc::clone(&self.mailbox);
                        self.session = Some(self.hub.open_session(config, mailbox));
                    }
                    Effect::Ask { token, request } => {
                        if let Some(session) = self.session {
                            self.hub.request(session, token, request);
                        }
                    }
                    Effect::RouterCapabilities { token } => {
                        let capabilities = Ok(self.hub.router_rtp_capabilities());
                        self.envelope.handle_response(token, capabilities, &mut self.effects);
                    }
                    Effect::Close(closing) => return Some(End::Closing(closing)),
                }
            }
        }
        None
    }

    async fn send_frames(&mut self) -> Option<End> {
        if self.frames.is_empty() {
            return None;
        }
        let frames = std::mem::take(&mut self.frames);
        let socket = &mut self.socket;
        let send = async move {
            for frame in frames {
                socket.feed(Message::Text(frame.into())).await?;
            }
            socket.flush().await
        };
        tokio::select! {
            result = send => result.err().map(|_| End::Gone),
            () = self.mailbox.closed.notified() => {
                Some(End::Closing(self.mailbox.closing().unwrap_or(Closing::SlowReader)))
            }
            () = tokio::time::sleep(SEND_TIMEOUT) => Some(End::Closing(Closing::SlowReader)),
        }
    }

    fn take_message(&mut self, message: Option<Result<Message, axum::Error>>) -> Option<End> {
        self.missed_pings = 0;
        match message {
            Some(Ok(Message::Text(text))) => {
                let permit = self.permit();
                if permit == Permit::Refused && self.patience.check().is_err() {
                    return Some(End::Closing(Closing::Flood));
                }
                let now = self.hub.clock().now();
                self.envelope.handle_text(now, text.as_str(), permit, &mut self.effects);
                None
            }
            // Neither dialect has binary frames; they count all the same.
            Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {
                let flood = self.permit() == Permit::Refused && self.patience.check().is_err();
                flood.then_some(End::Closing(Closing::Flood))
            }
            Some(Ok(Message::Close(_))) | None => Some(End::Gone),
            Some(Err(error)) => {
                let too_large = error.to_string().contains("too long");
                Some(if too_large { End::Closing(Closing::TooLarge) } else { End::Gone })
            }
        }
    }

    fn permit(&self) -> Permit {
        if self.rate.check().is_ok() { Permit::Granted } else { Permit::Refused }
    }

    fn take_mail(&mut self) {
        let now = self.hub.clock().now();
        for _ in 0..MAX_MAIL_PER_TURN {
            match self.mailbox.take() {
                Some(Mail::Response(token, result)) => {
                    self.envelope.handle_response(token, result, &mut self.effects);
                }
                Some(Mail::Notification(notification)) => {
                    self.envelope.handle_notification(now, notification, &mut self.effects);
                }
                None => return,
            }
        }
        // More may wait.
        self.mailbox.arrived.notify_one();
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.ping_at;
        if !self.envelope.has_joined() {
            deadline = deadline.min(self.join_by);
        }
        let timeout = self.envelope.next_timeout();
        if timeout == Time::NEVER {
            return deadline;
        }
        let origin = Instant::from_std(self.hub.clock().origin());
        deadline.min(origin + timeout.since(Time::ZERO))
    }

    async fn take_timeout(&mut self) -> Option<End> {
        let now = Instant::now();
        if !self.envelope.has_joined() && now >= self.join_by {
            return Some(End::Closing(Closing::Idle));
        }
        if now >= self.ping_at {
            self.ping_at = now + self.envelope.ping_interval();
            self.missed_pings += 1;
            if self.missed_pings > MAX_MISSED_PINGS {
                return Some(End::Closing(Closing::Unresponsive));
            }
            let ping = self.socket.send(Message::Ping(Vec::new().into()));
            match tokio::time::timeout(SEND_TIMEOUT, ping).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Some(End::Gone),
                Err(_) => return Some(End::Closing(Closing::SlowReader)),
            }
        }
        self.envelope.handle_timeout(self.hub.clock().now(), &mut self.effects);
        None
    }

    /// Says why, and waits a little for the client to have heard it.
    async fn close(&mut self, closing: Closing) {
        let frame = CloseFrame { code: closing.code(), reason: closing.reason().into() };
        let send = self.socket.send(Message::Close(Some(frame)));
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
