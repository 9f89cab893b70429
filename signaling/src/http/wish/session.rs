//! The session of one who publishes or watches: a participant whose news nobody reads, and whose
//! resource answers for it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opencall_control::api::{
    ConsumeMode, ConsumerRtpParameters, Direction, DtlsParameters, DtlsRole, Grants, JsonObject,
    Request, RequestError, Response, SctpMode, SessionConfig, StatsOf, Token, TransportOptions,
};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::Layers;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::problem::Problem;
use crate::addresses::Place;
use crate::gauges::Gauges;
use crate::hub::mail_queue::Mail;
use crate::hub::{HubLink, Mailbox, Presence};
use crate::sdp::offer::Offer;
use crate::sdp::publication::Publication;
use crate::sdp::subscription::Subscription;

/// How long a client may take from its offer until it is connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Questions to a session that may wait.
const MAX_QUESTIONS: usize = 4;

/// What the resource of a session is asked.
enum Ask {
    /// Its transport.
    Transport(oneshot::Sender<TransportOptions>),
    /// New ICE credentials.
    Restart(oneshot::Sender<Result<TransportOptions, RequestError>>),
    /// Which layers its client wants of a section at most, or of all of them.
    Layers { mid: Option<String>, layers: Layers, reply: oneshot::Sender<Result<(), Problem>> },
    /// To end.
    End,
}

/// The way to a session.
#[derive(Clone)]
pub struct Handle {
    room: Arc<str>,
    asks: mpsc::Sender<Ask>,
}

impl Handle {
    /// Ends the session, if it is of that room.
    pub async fn end(&self, room: &str) -> Result<(), Problem> {
        self.ask(room, Ask::End).await
    }

    /// The session's transport.
    pub async fn transport(&self, room: &str) -> Result<TransportOptions, Problem> {
        let (reply, answer) = oneshot::channel();
        self.ask(room, Ask::Transport(reply)).await?;
        answer.await.map_err(|_| Problem::gone())
    }

    /// Restarts ICE.
    pub async fn restart(&self, room: &str) -> Result<TransportOptions, Problem> {
        let (reply, answer) = oneshot::channel();
        self.ask(room, Ask::Restart(reply)).await?;
        Ok(answer.await.map_err(|_| Problem::gone())??)
    }

    /// Asks for these layers of the section with that MID at most, or of all sections.
    pub async fn choose(
        &self,
        room: &str,
        mid: Option<String>,
        layers: Layers,
    ) -> Result<(), Problem> {
        let (reply, answer) = oneshot::channel();
        self.ask(room, Ask::Layers { mid, layers, reply }).await?;
        answer.await.map_err(|_| Problem::gone())?
    }

    async fn ask(&self, room: &str, ask: Ask) -> Result<(), Problem> {
        if *self.room != *room {
            return Err(Problem::gone());
        }
        self.asks.send(ask).await.map_err(|_| Problem::gone())
    }
}

/// Who comes, and where to.
pub struct Entrant {
    /// The room.
    pub room: String,
    /// Its name there.
    pub peer: String,
    /// What it may do.
    pub grants: Grants,
}

/// A session that begins.
pub struct Session {
    pub(in crate::http) presence: Presence,
    pub(in crate::http) mailbox: Arc<Mailbox>,
    pub(in crate::http) hub: HubLink,
    gauges: Arc<Gauges>,
    /// The name to show.
    display_name: String,
    /// What it is sent, by MID.
    consumers: HashMap<String, String>,
    _place: Place,
    last_token: u64,
}

impl Session {
    /// Opens it, outside the room.
    pub async fn open(
        hub: &HubLink,
        Entrant { room, peer, grants }: Entrant,
        place: Place,
        gauges: Arc<Gauges>,
    ) -> Result<Self, Problem> {
        let display_name = grants.display_name.clone().unwrap_or_else(|| peer.clone());
        let mailbox = hub.mailbox();
        let config = SessionConfig {
            room,
            peer,
            consume_mode: ConsumeMode::OnRequest,
            grants,
            display_name: None,
            // An HTTP request cannot wait for a person.
            can_wait: false,
        };
        let (presence, _) = hub.open(config, Arc::clone(&mailbox), place.account()).await?;
        gauges.connections.fetch_add(1, Ordering::Relaxed);
        let hub = hub.clone();
        let session = Session {
            presence,
            mailbox,
            hub,
            gauges,
            display_name,
            consumers: HashMap::new(),
            _place: place,
            last_token: 0,
        };
        session.next_mail(|mail| matches!(mail, Mail::Opened).then_some(())).await?;
        Ok(session)
    }

    /// Enters the room, by this protocol.
    pub async fn join(&mut self, protocol: &str) -> Result<(), Problem> {
        let device = object(json!({"flag": protocol, "name": protocol.to_uppercase()}));
        let (display_name, rtp_capabilities) = (self.display_name.clone(), None);
        let join = Request::Join { display_name, device, rtp_capabilities, codec_hints: None };
        self.ask(join).await??;
        Ok(())
    }

    /// Makes the transport and all producers.
    pub async fn publish(
        &mut self,
        offer: &Offer,
        publications: &[Publication],
    ) -> Result<TransportOptions, Problem> {
        let transport = self.connect(offer, Direction::Send).await?;
        let mut kinds = (0, 0);
        for Publication { kind, parameters } in publications {
            // The second picture is a screen, and so is the second sound its own.
            let (seen, first, second) = match kind {
                Kind::Audio => (&mut kinds.0, "microphone", "screenAudio"),
                Kind::Video => (&mut kinds.1, "webcam", "screen"),
            };
            let source = if *seen == 0 { first } else { second };
            *seen += 1;
            let produce = Request::Produce {
                transport_id: transport.id.clone(),
                kind: *kind,
                rtp_parameters: parameters.clone(),
                app_data: object(json!({"source": source})),
                paused: false,
            };
            self.ask(produce).await??;
        }
        Ok(transport)
    }

    /// Makes the transport, to which the client connects with its first check.
    async fn connect(
        &mut self,
        offer: &Offer,
        direction: Direction,
    ) -> Result<TransportOptions, Problem> {
        let create = Request::CreateTransport { direction, force_tcp: false, sctp: SctpMode::Off };
        let Response::Transport(transport) = self.ask(create).await?? else {
            return Err(Problem::gone());
        };
        // Who leaves the role to us is the DTLS client: the answer says "passive".
        let role = match offer.role {
            DtlsRole::Server => DtlsRole::Server,
            DtlsRole::Auto | DtlsRole::Client => DtlsRole::Client,
        };
        let dtls_parameters = DtlsParameters { role, fingerprints: offer.fingerprints.clone() };
        let transport_id = transport.id.clone();
        self.ask(Request::ConnectTransport { transport_id, dtls_parameters }).await??;
        Ok(transport)
    }

    /// The producers by which it watches the room, one for each section that gets anything.
    pub async fn views(
        &mut self,
        subscriptions: &[Option<Subscription>],
    ) -> Result<Vec<String>, Problem> {
        let (mut views, mut most) = (Vec::new(), 0);
        for Subscription { kind, of, .. } in subscriptions.iter().flatten() {
            let view = Request::View { of: of.clone(), kind: *kind };
            let Response::Viewed { producer_id, sources } = self.ask(view).await?? else {
                return Err(Problem::gone());
            };
            views.push(producer_id);
            most = most.max(sources);
        }
        if most == 0 {
            return Err(Problem::nothing_published());
        }
        Ok(views)
    }

    /// Makes the transport and all consumers.
    pub async fn watch(
        &mut self,
        offer: &Offer,
        subscriptions: &[Option<Subscription>],
        views: Vec<String>,
    ) -> Result<(TransportOptions, Vec<Option<ConsumerRtpParameters>>), Problem> {
        let transport = self.connect(offer, Direction::Recv).await?;
        let (mut views, mut sent) = (views.into_iter(), Vec::new());
        for subscription in subscriptions {
            let Some(of) = subscription else {
                sent.push(None);
                continue;
            };
            let Some(producer_id) = views.next() else { return Err(Problem::gone()) };
            let consume = Request::Consume {
                producer_id,
                rtp_capabilities: Some(of.capabilities.clone()),
                transport_id: Some(transport.id.clone()),
                mid: Some(of.mid.clone()),
                paused: false,
            };
            let Response::Consumed(options) = self.ask(consume).await?? else {
                return Err(Problem::gone());
            };
            self.consumers.insert(of.mid.clone(), options.id);
            sent.push(Some(options.rtp_parameters));
        }
        Ok((transport, sent))
    }

    /// Asks control.
    pub async fn ask(
        &mut self,
        request: Request,
    ) -> Result<Result<Response, RequestError>, Problem> {
        self.last_token += 1;
        let token = Token(self.last_token);
        let wait = self.presence.ask(token, request).await?;
        tokio::time::sleep(wait).await;
        self.next_mail(|mail| match mail {
            Mail::Response(of, result) if of == token => Some(result),
            _ => None,
        })
        .await
    }

    /// The next mail that is wanted; news are of no use to its client.
    async fn next_mail<T>(&self, wanted: impl Fn(Mail) -> Option<T>) -> Result<T, Problem> {
        loop {
            while let Some(mail) = self.mailbox.take() {
                if let Some(found) = wanted(mail) {
                    return Ok(found);
                }
            }
            if let Some(closing) = self.mailbox.closing() {
                return Err(Problem::closed(closing.reason()));
            }
            tokio::select! {
                () = self.mailbox.arrived.notified() => {}
                () = self.mailbox.closed.notified() => {}
            }
        }
    }

    /// Goes on by itself, until it is ended, closed by control, or not connected in time.
    pub fn serve(
        self,
        id: String,
        (room, transport): (String, TransportOptions),
        sessions: Arc<Mutex<HashMap<String, Handle>>>,
    ) {
        let (asks, asked) = mpsc::channel(MAX_QUESTIONS);
        // However it ends, its resource is gone.
        let resource = Resource { id, sessions };
        resource.add(Handle { room: room.into(), asks });
        tokio::spawn(async move {
            let _resource = resource;
            self.run(asked, transport).await;
        });
    }

    async fn run(mut self, mut asked: mpsc::Receiver<Ask>, mut transport: TransportOptions) {
        let mut stopping = self.hub.stopping();
        let mailbox = Arc::clone(&self.mailbox);
        let connected_by = tokio::time::sleep(CONNECT_TIMEOUT);
        let mut connected_by = std::pin::pin!(connected_by);
        let mut is_connected = false;
        loop {
            while mailbox.take().is_some() {}
            if mailbox.closing().is_some() {
                return;
            }
            tokio::select! {
                ask = asked.recv() => match ask {
                    None | Some(Ask::End) => return,
                    Some(Ask::Transport(reply)) => drop(reply.send(transport.clone())),
                    Some(Ask::Layers { mid, layers, reply }) => {
                        drop(reply.send(self.choose(mid.as_deref(), layers).await));
                    }
                    Some(Ask::Restart(reply)) => {
                        let Ok(result) = self.restart(&mut transport).await else { return };
                        drop(reply.send(result));
                    }
                },
                () = mailbox.arrived.notified() => {}
                () = mailbox.closed.notified() => {}
                () = mailbox.challenged.notified() => self.presence.answer_challenge(),
                () = &mut connected_by, if !is_connected => {
                    is_connected = self.is_connected(&transport).await;
                    if !is_connected {
                        tracing::info!("a client of WHIP or WHEP did not connect");
                        return;
                    }
                }
                _ = stopping.changed() => return,
            }
        }
    }

    async fn choose(&mut self, mid: Option<&str>, layers: Layers) -> Result<(), Problem> {
        let is_meant = |of: &&String| mid.is_none_or(|mid| mid == *of);
        let meant = self.consumers.keys().filter(is_meant).cloned().collect::<Vec<_>>();
        if mid.is_some() && meant.is_empty() {
            return Err(Problem::body("mediaId names no section that is sent"));
        }
        for mid in meant {
            let Some(consumer_id) = self.consumers.get(&mid).cloned() else { continue };
            self.ask(Request::SetConsumerPreferredLayers { consumer_id, layers }).await??;
        }
        Ok(())
    }

    async fn restart(
        &mut self,
        transport: &mut TransportOptions,
    ) -> Result<Result<TransportOptions, RequestError>, Problem> {
        let transport_id = transport.id.clone();
        let answer = self.ask(Request::RestartIce { transport_id }).await?;
        Ok(answer.map(|response| {
            if let Response::Ice(ice) = response {
                transport.ice_parameters = ice;
            }
            transport.clone()
        }))
    }

    async fn is_connected(&mut self, transport: &TransportOptions) -> bool {
        let of = StatsOf::Transport(transport.id.clone());
        let answer = self.ask(Request::Stats(of)).await;
        let Ok(Ok(Response::Stats(reports))) = answer else { return false };
        let state = |report: &opencall_control::api::StatsReport| {
            report.to_object().get("dtlsState").cloned().unwrap_or(Value::Null)
        };
        reports.iter().any(|report| state(report) == "connected")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gauges.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the resources, given back at the end.
struct Resource {
    id: String,
    sessions: Arc<Mutex<HashMap<String, Handle>>>,
}

impl Resource {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, handle: Handle) {
        self.sessions().insert(self.id.clone(), handle);
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        self.sessions().remove(&self.id);
    }
}

/// What we say of it to others.
fn object(value: Value) -> JsonObject {
    serde_json::from_value(value).unwrap_or_default()
}
