//! The connections' side of the hub: what they call it for, from another thread.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use opencall_control::admin::{AdminRequest, AdminResponse};
use opencall_control::api::{Request, RequestError, SessionConfig, SessionId, Token};
use opencall_control::rtp_parameters::RtpCapabilities;
use opencall_dataplane::threads::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use super::cores::{WorkerReport, WorkerRequest};
use super::mailbox::{AllMail, Mailbox};
use crate::resume::Resumptions;

/// Control's answer to an administrator.
pub type Administered = Result<AdminResponse, RequestError>;

/// Where such an answer goes, with how long it is to be held back.
pub(super) type AdminReply = oneshot::Sender<(Administered, Duration)>;

/// What became of a data core, or why nothing did.
pub type Managed = Result<WorkerReport, RequestError>;

/// A call of a connection.
pub(super) enum Call {
    /// Open a session; its mail goes to the mailbox.
    Open {
        config: Box<SessionConfig>,
        mailbox: Arc<Mailbox>,
        address: Option<IpAddr>,
        reply: oneshot::Sender<(SessionId, Duration)>,
    },
    /// Ask control; the answer comes by mail, the reply says when the client may ask again.
    Ask {
        session: SessionId,
        token: Token,
        request: Box<Request>,
        reply: oneshot::Sender<Duration>,
    },
    /// The client of a session was challenged, and is there.
    Alive { session: SessionId },
    /// An administrator asks; the reply comes when control has answered.
    Administer { request: Box<AdminRequest>, reply: AdminReply },
    /// An administrator wants more data cores, or fewer; the reply also says how long it is to be
    /// held back.
    Workers { request: WorkerRequest, reply: oneshot::Sender<(Managed, Duration)> },
    /// Another connection has taken the session over: so much was sent again.
    Resumed { session: SessionId, bytes: usize, reply: oneshot::Sender<Duration> },
    /// The connection is gone.
    Leave { session: SessionId },
}

/// The hub is gone: the server stops, or its control thread has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubGone;

/// How connections reach the hub. Each has one call under way at most, which bounds their number;
/// administrators have a few together.
#[derive(Clone)]
pub struct HubLink {
    calls: mpsc::UnboundedSender<Call>,
    clock: Clock,
    router: Arc<RtpCapabilities>,
    all_mail: Arc<AllMail>,
    resumptions: Arc<Resumptions>,
    stopping: watch::Receiver<bool>,
}

impl HubLink {
    pub(super) fn new(
        calls: mpsc::UnboundedSender<Call>,
        clock: Clock,
        router: Arc<RtpCapabilities>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        HubLink {
            calls,
            clock,
            router,
            all_mail: Arc::default(),
            resumptions: Arc::default(),
            stopping,
        }
    }

    /// The process's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What every room's router can do.
    pub fn router_rtp_capabilities(&self) -> &Arc<RtpCapabilities> {
        &self.router
    }

    /// Becomes true when the server stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// The sessions that can be resumed.
    pub fn resumptions(&self) -> &Arc<Resumptions> {
        &self.resumptions
    }

    /// A mailbox for a new connection.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Arc::clone(&self.all_mail)))
    }

    /// Opens a session; [`Mail::Opened`](super::mail_queue::Mail::Opened) says that it is. With how
    /// long the client must wait until it is read from again.
    pub async fn open(
        &self,
        config: SessionConfig,
        mailbox: Arc<Mailbox>,
        address: Option<IpAddr>,
    ) -> Result<(Presence, Duration), HubGone> {
        let (reply, answer) = oneshot::channel();
        let config = Box::new(config);
        self.call(Call::Open { config, mailbox, address, reply })?;
        let (session, wait) = answer.await.map_err(|_| HubGone)?;
        Ok((Presence { session, link: self.clone() }, wait))
    }

    /// Asks for an administrator. Returns the answer, and how long to hold it back: who asks for
    /// more than the share of administrators waits.
    pub async fn administer(
        &self,
        request: AdminRequest,
    ) -> Result<(Administered, Duration), HubGone> {
        let (reply, answer) = oneshot::channel();
        self.call(Call::Administer { request: Box::new(request), reply })?;
        answer.await.map_err(|_| HubGone)
    }

    /// Adds a data core or drains one. Returns what became of it, and how long to hold that back.
    pub async fn manage(&self, request: WorkerRequest) -> Result<(Managed, Duration), HubGone> {
        let (reply, answer) = oneshot::channel();
        self.call(Call::Workers { request, reply })?;
        answer.await.map_err(|_| HubGone)
    }

    fn call(&self, call: Call) -> Result<(), HubGone> {
        self.calls.send(call).map_err(|_| HubGone)
    }
}

/// A connection's session. It ends with this, also when the connection's task panics: no ghost
/// stays in the room.
pub struct Presence {
    session: SessionId,
    link: HubLink,
}

impl Presence {
    /// Asks control; the answer comes by mail. Returns how long the client must wait until it is
    /// read from again.
    pub async fn ask(&self, token: Token, request: Request) -> Result<Duration, HubGone> {
        let (reply, answer) = oneshot::channel();
        let (session, request) = (self.session, Box::new(request));
        self.link.call(Call::Ask { session, token, request, reply })?;
        answer.await.map_err(|_| HubGone)
    }

    /// The session goes on on another connection, to which so many bytes are sent again. Returns
    /// how long the client must wait until it is read from.
    pub async fn resumed(&self, bytes: usize) -> Result<Duration, HubGone> {
        let (reply, answer) = oneshot::channel();
        self.link.call(Call::Resumed { session: self.session, bytes, reply })?;
        answer.await.map_err(|_| HubGone)
    }

    /// The challenged client is there.
    pub fn answer_challenge(&self) {
        // Without a hub there is nobody who asks.
        let _ = self.link.call(Call::Alive { session: self.session });
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = self.link.call(Call::Leave { session: self.session });
    }
}

#[cfg(test)]
mod tests {
    use opencall_control::api::{ConsumeMode, Grants};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_panics_leaves_no_ghost() {
        let (sender, mut calls) = mpsc::unbounded_channel();
        let (_stopping, stops) = watch::channel(false);
        let link = HubLink::new(sender, Clock::start(), Arc::default(), stops);
        let connection = tokio::spawn(async move {
            let config = SessionConfig {
                room: "room".into(),
                peer: "anna".into(),
                consume_mode: ConsumeMode::Automatic,
                grants: Grants::default(),
                display_name: None,
                can_wait: false,
            };
            let mailbox = link.mailbox();
            let _presence = link.open(config, mailbox, None).await.expect("a hub");
            panic!("this panic is part of the test");
        });
        let Some(Call::Open { reply, .. }) = calls.recv().await else { panic!("an opening") };
        reply.send((SessionId(7), Duration::ZERO)).expect("the connection waits");
        assert!(connection.await.is_err());
        let left = calls.recv().await;
        assert!(matches!(left, Some(Call::Leave { session: SessionId(7) })));
    }
}
