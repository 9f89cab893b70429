//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): who publishes or watches posts its offer and is
//! a participant of the room like any other, without a WebSocket. Its resource is the session:
//! DELETE ends it, PATCH restarts ICE.
//!
//! * `whip`, `whep` — from an offer to a session.
//! * `session` — the session behind a resource; `problem` — refusals, as problem+json.
//!
//! We are ICE-lite and announce all our addresses in the answer, so that candidates of clients are
//! taken and not needed.
#![forbid(unsafe_code)]

pub(super) mod problem;
pub(super) mod session;
mod whep;
mod whip;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Extension, Router};
use opencall_control::api::{IceParameters, TransportOptions};

use self::problem::Problem;
use self::session::Handle;
use super::refusals::Refusal;
use super::{Client, Door, now};
use crate::addresses::Place;
use crate::auth::claims::Admission;
use crate::auth::presented::Presented;
use crate::envelope::fields::MAX_NAME_BYTES;
use crate::hub::HubLink;
use crate::sdp::answer::{write_candidate, write_ice};
use crate::sdp::offer::{MAX_OFFER_BYTES, Offer};

const SDP: &str = "application/sdp";
const JSON: &str = "application/json";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The sessions of all who publish or watch so.
pub struct Wish {
    hub: HubLink,
    sessions: Arc<Mutex<HashMap<String, Handle>>>,
}

impl Wish {
    /// Over this hub, without any.
    pub fn new(hub: HubLink) -> Self {
        Wish { hub, sessions: Arc::default() }
    }

    fn session(&self, id: &str) -> Result<Handle, Problem> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).cloned().ok_or_else(Problem::gone)
    }
}

/// The routes.
pub(super) fn routes() -> Router<Arc<Door>> {
    let resource = || delete(end).patch(patch).options(preflight);
    let layers = post(whep::choose).delete(whep::choose_no_more).options(preflight);
    Router::new()
        .route("/whip/{room}", post(whip::publish).options(preflight))
        .route("/whip/{room}/{id}", resource())
        .route("/whep/{room}", post(whep::watch).options(preflight))
        .route("/whep/{room}/{id}", resource())
        .route("/whep/{room}/{id}/layers", layers)
        .layer(DefaultBodyLimit::max(MAX_OFFER_BYTES))
}

/// What a page of another origin may do, which is asked without a token (RFC 9725 section 4.5).
async fn preflight(State(door): State<Arc<Door>>, headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let fields = response.headers_mut();
    fields.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    fields.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    let methods = HeaderValue::from_static("POST, PATCH, DELETE, OPTIONS");
    fields.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    // ETag as a field of requests is a habit of @eyevinn/whip-web-client. We do not read it.
    let allowed = HeaderValue::from_static("Authorization, Content-Type, If-Match, ETag");
    fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    share(&door, &headers, false, response)
}

/// Lets pages of allowed origins read an answer.
fn share(door: &Door, headers: &HeaderMap, proxied: bool, mut response: Response) -> Response {
    let fields = response.headers_mut();
    fields.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = headers.get(ORIGIN)
        && door.front.web.origins.check(headers, proxied).is_ok()
    {
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let exposed = HeaderValue::from_static("Location, ETag, Link, Accept-Patch, Retry-After");
        fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// A request with an offer, up to its session.
struct Arrived {
    offer: Offer,
    /// The session's name in its address: whoever knows it, and the room, may end it.
    id: String,
    place: Place,
    admission: Option<Admission>,
}

/// Whether a request may begin a session, and with what.
async fn arrive(
    door: &Door,
    client: &Client,
    room: &str,
    presented: &Presented,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Arrived, Problem> {
    let admission = admit(door, client, room, presented, headers).await?;
    if let Some(draining) = door.front.admin.draining() {
        door.refuse(Refusal::Draining, client.ip, &"the server drains");
        let wait = draining.retry_after(Instant::now());
        return Err(Problem::draining(&draining.reason, wait));
    }
    if !is_of_type(headers, SDP) {
        return Err(Problem::wrong_type(SDP));
    }
    let body = body.map_err(|_| Problem::too_large())?;
    let offer = Offer::parse(std::str::from_utf8(&body).map_err(|_| Problem::not_text())?)?;
    let place = client.address.socket(now()).ok_or_else(|| {
        door.refuse(Refusal::Sockets, client.ip, &"too many sessions from this address");
        Problem::too_many()
    })?;
    let id = format!("{:032x}", rand::random::<u128>());
    Ok(Arrived { offer, id, place, admission })
}

/// A session's name where nobody says who it is: another each time.
fn passing_name(protocol: &str, id: &str) -> String {
    format!("{protocol}-{}", id.get(..8).unwrap_or_default())
}

/// A session has begun.
fn created(
    protocol: &str,
    (room, id): (&str, &str),
    answer: String,
    transport: &TransportOptions,
) -> Result<Response, Problem> {
    let room = percent_encoding::utf8_percent_encode(room, percent_encoding::NON_ALPHANUMERIC);
    let location = HeaderValue::from_str(&format!("/{protocol}/{room}/{id}"));
    let mut response = (StatusCode::CREATED, answer).into_response();
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    fields.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    fields.insert(LOCATION, location.map_err(|_| Problem::not_text())?);
    fields.insert(ETAG, etag_of(&transport.ice_parameters));
    Ok(response)
}

/// Who publishes or watches: the holder of a join token for this room, or anyone where none is
/// asked for.
async fn admit(
    door: &Door,
    client: &Client,
    room: &str,
    presented: &Presented,
    headers: &HeaderMap,
) -> Result<Option<Admission>, Problem> {
    if let Err(reason) = door.front.web.origins.check(headers, client.proxied) {
        door.refuse(Refusal::Origin, client.ip, &reason);
        return Err(Problem::forbidden(reason.to_string()));
    }
    if room.len() > MAX_NAME_BYTES {
        return Err(Problem::forbidden(format!(
            "a room's name has {MAX_NAME_BYTES} bytes at most"
        )));
    }
    let admission = door.front.auth.admit(presented).await.and_then(|admission| {
        if let Some(admission) = &admission {
            admission.check(Some(room), None)?;
        }
        Ok(admission)
    });
    admission.map_err(|error| {
        door.front.gauges.count_token_refused(&error);
        Problem::token(&error)
    })
}

fn is_of_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected)
}

/// One for each set of ICE credentials (RFC 9725 section 4.3.1).
fn etag_of(ice: &IceParameters) -> HeaderValue {
    // User fragments are letters and digits.
    HeaderValue::from_str(&format!("\"{}\"", ice.username_fragment))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

async fn end(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Path((room, id)): Path<(String, String)>,
    presented: Presented,
    headers: HeaderMap,
) -> Response {
    let outcome = async {
        admit(&door, &client, &room, &presented, &headers).await?;
        door.front.wish.session(&id)?.end(&room).await
    };
    let response = match outcome.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    };
    share(&door, &headers, client.proxied, response)
}

async fn patch(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Path((room, id)): Path<(String, String)>,
    presented: Presented,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let outcome = change(&door, &client, (room, id), (&presented, &headers), body).await;
    share(&door, &headers, client.proxied, outcome.unwrap_or_else(IntoResponse::into_response))
}

async fn change(
    door: &Door,
    client: &Client,
    (room, id): (String, String),
    (presented, headers): (&Presented, &HeaderMap),
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    admit(door, client, &room, presented, headers).await?;
    if !is_of_type(headers, FRAGMENT) {
        return Err(Problem::wrong_type(FRAGMENT));
    }
    let body = body.map_err(|_| Problem::too_large())?;
    let session = door.front.wish.session(&id)?;
    let Some(wanted) = headers.get(IF_MATCH) else { return Err(Problem::no_condition()) };
    if wanted == "*" {
        let transport = session.restart(&room).await?;
        let mut response = (StatusCode::OK, fragment(&transport, mid_of(&body))).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
        response.headers_mut().insert(ETAG, etag_of(&transport.ice_parameters));
        return Ok(response);
    }
    match *wanted == etag_of(&session.transport(&room).await?.ice_parameters) {
        // Its candidates: whoever is ICE-lite waits for their checks.
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::stale()),
    }
}

/// The section that a client's fragment is about (RFC 8840 section 4.4): it may begin with another
/// than we would.
fn mid_of(fragment: &[u8]) -> &str {
    let mids = fragment.split(|byte| *byte == b'\n').filter_map(|line| {
        let mid = std::str::from_utf8(line.strip_prefix(b"a=mid:")?).ok()?.trim_end();
        let is_token =
            mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        (is_token && (1..=32).contains(&mid.len())).then_some(mid)
    });
    mids.into_iter().next().unwrap_or("0")
}

/// Our side of a restart (RFC 8840).
fn fragment(transport: &TransportOptions, mid: &str) -> String {
    let mut text = String::from("a=ice-lite\r\n");
    write_ice(&mut text, &transport.ice_parameters);
    let _ = write!(text, "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n");
    for candidate in &transport.ice_candidates {
        write_candidate(&mut text, candidate);
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}
