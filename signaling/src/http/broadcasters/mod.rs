//! Broadcasters: media pipelines (ffmpeg, GStreamer) that send into a room, and take out of it,
//! plain RTP or SRTP with keys of their own. The HTTP API is that of mediasoup-demo, so that its
//! scripts do; each request brings a key of administrators.
//!
//! * `words` — JSON, to and from control's types; `session` — the participant behind a resource.
#![forbid(unsafe_code)]

mod session;
mod words;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use opencall_control::admin::AdminRequest;
use opencall_control::api::{self, Grants, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::session::Sessions;
use self::words::{Broadcaster, Connect, Consume, NewTransport, Produce};
use super::admin::{self, Administrator, On};
use super::wish::problem::Problem;
use super::wish::session::{Entrant, Session};
use super::{Client, Door, now};
use crate::envelope::fields::MAX_NAME_BYTES;
use crate::hub::HubLink;

/// The largest request: RTP parameters of many encodings.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Participants that a new broadcaster is told of.
const MAX_PEERS: usize = 100;

/// All broadcasters.
pub struct Broadcasters {
    hub: HubLink,
    sessions: Sessions,
}

impl Broadcasters {
    /// Over this hub, without any.
    pub fn new(hub: HubLink) -> Self {
        Broadcasters { hub, sessions: Sessions::default() }
    }
}

/// The routes.
pub(super) fn routes(door: &Arc<Door>) -> Router<Arc<Door>> {
    const ONE: &str = "/rooms/{room}/broadcasters/{id}";
    let transport = |action: &str| format!("{ONE}/transports/{{transport}}/{action}");
    Router::new()
        .route("/rooms/{room}", get(room))
        .route("/rooms/{room}/broadcasters", post(begin))
        .route(ONE, delete(end))
        .route(&format!("{ONE}/transports"), post(create))
        .route(&transport("connect"), post(connect))
        .route(&transport("producers"), post(produce))
        .route(&transport("consume"), post(consume))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route_layer(middleware::from_fn_with_state(Arc::clone(door), admin::authorize))
}

type Outcome = Result<Value, Problem>;
type Body = Result<Bytes, BytesRejection>;
type Of = Path<(String, String)>;
type On3 = Path<(String, String, String)>;

fn answered(outcome: Outcome) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|_| Problem::too_large())?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::body(&format!("the body is not the expected JSON: {error}")))
}

/// What a room can do, if there is one.
async fn room(State(door): State<Arc<Door>>, Path(room): Path<String>) -> Response {
    match admin::ask(&door, AdminRequest::Room { room }).await {
        Ok(_) => Json(&**door.front.broadcasters.hub.router_rtp_capabilities()).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Someone enters a room.
async fn begin(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
    body: Body,
) -> Response {
    answered(enter(&door, &client, &who, room, body).await)
}

async fn enter(
    door: &Door,
    client: &Client,
    who: &Administrator,
    room: String,
    body: Body,
) -> Outcome {
    let Broadcaster { id, display_name, device, rtp_capabilities } = parse(body)?;
    if room.len() > MAX_NAME_BYTES || id.len() > MAX_NAME_BYTES || id.is_empty() {
        return Err(Problem::body("room and id have 1 to 256 bytes"));
    }
    if let Some(draining) = door.front.admin.draining() {
        return Err(Problem::draining(&draining.reason, draining.retry_after(Instant::now())));
    }
    let all = &door.front.broadcasters;
    let key = (room.clone(), id.clone());
    if all.sessions.has(&key) {
        return Err(Problem::closed("this broadcaster exists: delete it, or use another id"));
    }
    let place = client.address.socket(now()).ok_or_else(Problem::too_many)?;
    let grants =
        Grants { display_name: display_name.clone(), plain_rtp: true, ..Grants::default() };
    let entrant = Entrant { room: room.clone(), peer: id.clone(), grants };
    let gauges = Arc::clone(&door.front.gauges);
    let mut session = Session::open(&all.hub, entrant, place, gauges).await?;
    let join = Request::Join {
        display_name: display_name.unwrap_or_else(|| id.clone()),
        device: device.unwrap_or_default(),
        rtp_capabilities,
        codec_hints: None,
    };
    session.ask(join).await??;
    let peers = Request::Participants { after: None, limit: MAX_PEERS, only: None };
    let api::Response::Participants { participants, .. } = session.ask(peers).await?? else {
        return Err(Problem::gone());
    };
    let peers: Vec<Value> = participants.iter().map(peer).collect();
    all.sessions.serve(key, session);
    who.note("begin broadcaster", &On { room: &room, participant: &id, what: "" }, "done");
    Ok(json!({"peers": peers}))
}

/// One who is there, as mediasoup-demo tells broadcasters.
fn peer(of: &api::Sender) -> Value {
    let producers = of.producers.iter().map(|producer| {
        json!({"id": producer.producer_id, "kind": producer.kind, "source": producer.source})
    });
    json!({
        "id": *of.peer.id,
        "displayName": of.peer.display_name,
        "device": of.peer.device,
        "producers": producers.collect::<Vec<_>>(),
    })
}

async fn end(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path((room, id)): Of,
) -> Response {
    let outcome = async { door.front.broadcasters.sessions.of(&room, &id)?.end().await };
    match outcome.await {
        Ok(()) => {
            who.note("end broadcaster", &On { room: &room, participant: &id, what: "" }, "done");
            StatusCode::OK.into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Asks control in a broadcaster's name.
async fn ask(
    door: &Door,
    (room, id): (&str, &str),
    request: Request,
) -> Result<api::Response, Problem> {
    door.front.broadcasters.sessions.of(room, id)?.ask(request).await
}

async fn create(State(door): State<Arc<Door>>, Path((room, id)): Of, body: Body) -> Response {
    let outcome = async {
        let options = parse::<NewTransport>(body)?.options()?;
        let request = Request::CreatePlainTransport(options);
        match ask(&door, (&room, &id), request).await? {
            api::Response::PlainTransport(made) => Ok(words::transport(&made, options.rtcp_mux)),
            _ => Err(Problem::gone()),
        }
    };
    answered(outcome.await)
}

async fn connect(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path((room, id, transport_id)): On3,
    body: Body,
) -> Response {
    let outcome = async {
        let connection = parse::<Connect>(body)?.connection()?;
        let address = connection.address.map(|(ip, port)| format!("{ip} port {port}"));
        let request = Request::ConnectPlainTransport { transport_id, connection };
        ask(&door, (&room, &id), request).await?;
        let what = address.as_deref().unwrap_or("learnt");
        who.note("connect broadcaster", &On { room: &room, participant: &id, what }, "done");
        Ok(json!({}))
    };
    answered(outcome.await)
}

async fn produce(
    State(door): State<Arc<Door>>,
    Path((room, id, transport_id)): On3,
    body: Body,
) -> Response {
    let outcome = async {
        let Produce { kind, rtp_parameters, app_data, paused } = parse(body)?;
        let app_data = app_data.unwrap_or_default();
        let request = Request::Produce { transport_id, kind, rtp_parameters, app_data, paused };
        match ask(&door, (&room, &id), request).await? {
            api::Response::Produced { producer_id } => Ok(json!({"id": producer_id})),
            _ => Err(Problem::gone()),
        }
    };
    answered(outcome.await)
}

/// mediasoup-demo names the producer in the query.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    producer_id: Option<String>,
}

async fn consume(
    State(door): State<Arc<Door>>,
    Path((room, id, transport_id)): On3,
    query: Result<Query<Named>, QueryRejection>,
    body: Body,
) -> Response {
    let outcome = async {
        let query = query.map_err(|_| Problem::query("expected ?producerId=…"))?.0;
        let wanted: Consume = match &body {
            Ok(bytes) if bytes.is_empty() => Consume::default(),
            _ => parse(body)?,
        };
        let of = (&*room, &*id);
        let producer_id = match query.producer_id.or_else(|| wanted.producer_id.clone()) {
            Some(producer_id) => producer_id,
            None => {
                let (of_room, kind) = wanted.view()?;
                match ask(&door, of, Request::View { of: of_room, kind }).await? {
                    api::Response::Viewed { producer_id, .. } => producer_id,
                    _ => return Err(Problem::gone()),
                }
            }
        };
        let request = Request::Consume {
            producer_id,
            rtp_capabilities: wanted.rtp_capabilities,
            transport_id: Some(transport_id),
            mid: None,
            paused: wanted.paused,
        };
        match ask(&door, of, request).await? {
            api::Response::Consumed(options) => Ok(words::consumer(&options)),
            _ => Err(Problem::gone()),
        }
    };
    answered(outcome.await)
}
