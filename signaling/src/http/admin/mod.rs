//! The admin API under `/v1/`: see, remove, mute, lock, drain, data cores; and `/metrics`. Each
//! request brings a key of administrators in its `Authorization: Bearer` header; without one in the
//! configuration there is no admin API.
//!
//! * `answer` — the one shape of its errors; `workers` — the data cores; `taps` — voices for
//!   programs outside.
//!
//! Rooms are asked by way of the hub, where administrators take turns with the rooms and wait when
//! they have made more work than their share. What the data cores do is read once a second for
//! everyone, and costs control nothing here.
#![forbid(unsafe_code)]

mod answer;
mod pushes;
mod taps;
mod workers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opencall_control::admin::{
    AdminRequest, AdminResponse, Announcement, MAX_ROOMS_PER_ANSWER, MuteTarget,
};
use opencall_control::api::Source;
use opencall_control::{NOTICE, RecordingAction};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::answer::Problem;
use super::refusals::Refusal;
use super::{Client, Door, REFUSED_COST, now};
use crate::auth::admin::AdminKeys;
use crate::auth::presented::bearer;
use crate::drain::{Drain, Draining, MAX_DEADLINE};
use crate::hub::HubLink;
use crate::push;
use crate::taps::Allowed;

/// The largest request: a few short texts.
const MAX_BODY_BYTES: usize = 4096;

/// Questions to the hub under way at a time, of all administrators: each is answered within a turn,
/// or two seconds where data cores are asked.
const MAX_QUESTIONS: usize = 16;

/// The longest that an answer is held back.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The longest reason of a drain, bytes.
const MAX_REASON_BYTES: usize = 256;

/// What newcomers to a draining server are told, where nobody has said why.
const DRAINING: &str = "this server takes no new participants: try again later";

/// What administration needs.
pub struct Admin {
    keys: AdminKeys,
    hub: HubLink,
    drain: Drain,
    asking: Semaphore,
    taps: Allowed,
    pushes: push::Allowed,
}

impl Admin {
    /// With these keys, over this hub; voices may go only where that is allowed.
    pub fn new(
        keys: AdminKeys,
        hub: HubLink,
        drain: Drain,
        taps: Allowed,
        pushes: push::Allowed,
    ) -> Self {
        Admin { keys, hub, drain, asking: Semaphore::new(MAX_QUESTIONS), taps, pushes }
    }

    /// How the server drains, if it does.
    pub(super) fn draining(&self) -> Option<Draining> {
        self.drain.now()
    }
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Administrator {
    /// The name of its key.
    key: String,
    remote: IpAddr,
}

pub(super) type Outcome = Result<Value, Problem>;
type Body = Result<Bytes, BytesRejection>;

/// The routes.
pub(super) fn routes(door: &Arc<Door>) -> Router<Arc<Door>> {
    Router::new()
        .route("/v1/rooms", get(rooms))
        .route("/v1/rooms/{room}", get(room))
        .route("/v1/rooms/{room}/lock", post(lock))
        .route("/v1/rooms/{room}/unlock", post(unlock))
        .route("/v1/rooms/{room}/data", post(announce))
        .route(
            "/v1/rooms/{room}/recording",
            get(recording).post(start_recording).delete(stop_recording),
        )
        .route("/v1/rooms/{room}/push", get(pushes::see).post(pushes::start).delete(pushes::stop))
        .route("/v1/rooms/{room}/tap", get(taps::see).post(taps::start).delete(taps::stop))
        .route("/v1/rooms/{room}/participants/{id}", get(participant).delete(remove))
        .route("/v1/rooms/{room}/participants/{id}/mute", post(mute))
        .route("/v1/workers", get(workers::see).post(workers::add))
        .route("/v1/workers/{core}/drain", post(workers::drain).delete(workers::keep))
        .route("/metrics", get(super::metrics::answer))
        .route("/v1/drain", post(drain))
        .route("/v1/drain", delete(end_drain))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route_layer(middleware::from_fn_with_state(Arc::clone(door), authorize))
}

/// Lets only administrators through.
pub(super) async fn authorize(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    let keys = &door.front.admin.keys;
    if keys.is_empty() {
        return Problem::off().into_response();
    }
    let secret = bearer(request.headers());
    match secret.as_deref().map(|secret| keys.holder(secret)) {
        Some(Some(key)) => {
            request.extensions_mut().insert(Administrator { key, remote: client.ip });
            next.run(request).await
        }
        asked => {
            client.connection.charge_alone(REFUSED_COST, now());
            if asked.is_some() {
                door.refuse(Refusal::AdminKey, client.ip, &"a wrong key for the admin API");
            }
            Problem::unauthorized(asked.is_some()).into_response()
        }
    }
}

impl Administrator {
    /// Writes down what was done, or tried.
    fn audit(&self, action: &str, on: &On<'_>, outcome: &Outcome) {
        self.note(action, on, outcome.as_ref().map_or_else(Problem::code, |_| "done"));
    }

    /// The same, with how it ended.
    pub(super) fn note(&self, action: &str, on: &On<'_>, result: &str) {
        let On { room, participant, what } = *on;
        tracing::info!(
            target: "opencall_audit",
            key = self.key,
            remote = %self.remote,
            action,
            room,
            participant,
            what,
            result,
            "administration"
        );
    }
}

/// What an action is on.
#[derive(Clone, Copy, Default)]
pub(super) struct On<'a> {
    pub room: &'a str,
    pub participant: &'a str,
    pub what: &'a str,
}

fn answered(outcome: Outcome) -> Response {
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Asks control, in the administrators' turn.
pub(super) async fn ask(door: &Door, request: AdminRequest) -> Outcome {
    let admin = &door.front.admin;
    let Ok(_permit) = admin.asking.acquire().await else { return Err(Problem::no_control()) };
    let (answer, wait) = admin.hub.administer(request).await.map_err(|_| Problem::no_control())?;
    if !wait.is_zero() {
        tokio::time::sleep(wait.min(MAX_WAIT)).await;
    }
    match answer? {
        AdminResponse::Done => Ok(json!({})),
        AdminResponse::Rooms { rooms, next } => Ok(json!({"rooms": rooms, "next": next})),
        AdminResponse::Room(room) => Ok(json!(room)),
        AdminResponse::Participant(participant) => Ok(json!(participant)),
        AdminResponse::Muted(producers) => Ok(json!({"producers": producers})),
        AdminResponse::Recording(recording) => Ok(json!(recording)),
        AdminResponse::Tap(tap) => Ok(json!(tap)),
        AdminResponse::Push(push) => Ok(json!(push)),
        AdminResponse::Announced(told) => Ok(json!({"participants": told})),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

async fn rooms(
    State(door): State<Arc<Door>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    let Ok(Query(Page { after, limit })) = page else {
        return Problem::malformed("the query is ?after=…&limit=…, both optional").into_response();
    };
    let limit = limit.unwrap_or(MAX_ROOMS_PER_ANSWER);
    answered(ask(&door, AdminRequest::Rooms { after, limit }).await)
}

async fn room(State(door): State<Arc<Door>>, Path(room): Path<String>) -> Response {
    answered(ask(&door, AdminRequest::Room { room }).await)
}

async fn participant(
    State(door): State<Arc<Door>>,
    Path((room, participant)): Path<(String, String)>,
) -> Response {
    answered(ask(&door, AdminRequest::Participant { room, participant }).await)
}

async fn remove(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path((room, participant)): Path<(String, String)>,
) -> Response {
    let request = AdminRequest::Remove { room: room.clone(), participant: participant.clone() };
    let outcome = ask(&door, request).await;
    who.audit("remove", &On { room: &room, participant: &participant, what: "" }, &outcome);
    answered(outcome)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteBody {
    producer: Option<String>,
    source: Option<String>,
    #[serde(default = "yes")]
    muted: bool,
}

fn yes() -> bool {
    true
}

async fn mute(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path((room, participant)): Path<(String, String)>,
    body: Body,
) -> Response {
    let MuteBody { producer, source, muted } = match parse(body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let (what, word) = match (producer, source.as_deref().map(Source::from_label)) {
        (Some(producer), None) => (MuteTarget::Producer(producer.clone()), producer),
        (None, Some(Some(source))) => (MuteTarget::Source(source), source.label().to_owned()),
        _ => return Problem::malformed(MUTE_BODY).into_response(),
    };
    let (in_room, of) = (room.clone(), participant.clone());
    let request = AdminRequest::Mute { room: in_room, participant: of, what, muted };
    let outcome = ask(&door, request).await;
    let action = if muted { "mute" } else { "unmute" };
    who.audit(action, &On { room: &room, participant: &participant, what: &word }, &outcome);
    answered(outcome)
}

/// What is to be muted has two forms.
const MUTE_BODY: &str = "give {\"producer\": id} or {\"source\": \"camera\", \"microphone\", \
    \"screen_share\" or \"screen_share_audio\"}, and \"muted\": true or false";

async fn lock(
    door: State<Arc<Door>>,
    who: Extension<Administrator>,
    Path(room): Path<String>,
) -> Response {
    set_lock(&door, &who, room, true).await
}

async fn unlock(
    door: State<Arc<Door>>,
    who: Extension<Administrator>,
    Path(room): Path<String>,
) -> Response {
    set_lock(&door, &who, room, false).await
}

async fn set_lock(door: &Door, who: &Administrator, room: String, locked: bool) -> Response {
    let outcome = ask(door, AdminRequest::Lock { room: room.clone(), locked }).await;
    let action = if locked { "lock" } else { "unlock" };
    who.audit(action, &On { room: &room, ..On::default() }, &outcome);
    answered(outcome)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnnouncementBody {
    #[serde(default = "announcements")]
    label: String,
    #[serde(default)]
    to: Vec<String>,
    text: Option<String>,
    base64: Option<String>,
}

fn announcements() -> String {
    "announcements".to_owned()
}

async fn announce(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
    body: Body,
) -> Response {
    let AnnouncementBody { label, to, text, base64 } = match parse(body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let (is_text, bytes) = match (text, base64.map(|text| STANDARD.decode(text))) {
        (Some(text), None) => (true, text.into_bytes()),
        (None, Some(Ok(bytes))) => (false, bytes),
        _ => return Problem::malformed(ANNOUNCEMENT_BODY).into_response(),
    };
    let (what, participant) = (label.clone(), to.join(" "));
    let announcement = Announcement { label, to, is_text, bytes };
    let outcome = ask(&door, AdminRequest::Announce { room: room.clone(), announcement }).await;
    who.audit("announce", &On { room: &room, participant: &participant, what: &what }, &outcome);
    answered(outcome)
}

/// What is said has two forms.
const ANNOUNCEMENT_BODY: &str = "give {\"text\": …} or {\"base64\": …}, and \"label\" and \"to\", a \
    list of participants, if you like";

async fn recording(State(door): State<Arc<Door>>, Path(room): Path<String>) -> Response {
    let action = RecordingAction::Ask;
    answered(ask(&door, AdminRequest::Recording { room, action }).await)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RecordingBody {
    notice_seconds: Option<u64>,
}

async fn start_recording(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
    body: Body,
) -> Response {
    let RecordingBody { notice_seconds } = match parse_or_default(body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let action =
        RecordingAction::Start { notice: notice_seconds.map_or(NOTICE, Duration::from_secs) };
    let outcome = ask(&door, AdminRequest::Recording { room: room.clone(), action }).await;
    who.audit("start recording", &On { room: &room, ..On::default() }, &outcome);
    answered(outcome)
}

async fn stop_recording(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
) -> Response {
    let action = RecordingAction::Stop;
    let outcome = ask(&door, AdminRequest::Recording { room: room.clone(), action }).await;
    who.audit("stop recording", &On { room: &room, ..On::default() }, &outcome);
    answered(outcome)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DrainBody {
    reason: Option<String>,
    deadline_seconds: Option<u64>,
}

async fn drain(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    body: Body,
) -> Response {
    let DrainBody { reason, deadline_seconds } = match parse_or_default(body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let after = match deadline(deadline_seconds) {
        Ok(after) => after,
        Err(problem) => return problem.into_response(),
    };
    let reason = reason.unwrap_or_else(|| DRAINING.to_owned());
    if reason.len() > MAX_REASON_BYTES {
        let words = format!("reason has {MAX_REASON_BYTES} bytes at most");
        return Problem::malformed(words).into_response();
    }
    let deadline = after.map(|after| Instant::now() + after);
    door.front.admin.drain.set(Some(Draining { reason: reason.clone(), deadline }));
    let outcome = Ok(json!({"reason": reason, "deadlineSeconds": deadline_seconds}));
    who.audit("drain", &On { what: &reason, ..On::default() }, &outcome);
    answered(outcome)
}

/// What a drain may take at most, as it was asked for.
fn deadline(seconds: Option<u64>) -> Result<Option<Duration>, Problem> {
    let after = seconds.map(Duration::from_secs);
    if after.is_some_and(|after| after > MAX_DEADLINE) {
        let words = format!("deadlineSeconds is {} at most", MAX_DEADLINE.as_secs());
        return Err(Problem::malformed(words));
    }
    Ok(after)
}

async fn end_drain(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
) -> Response {
    door.front.admin.drain.set(None);
    let outcome = Ok(json!({}));
    who.audit("end drain", &On::default(), &outcome);
    answered(outcome)
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|_| Problem::malformed("the body is longer than 4096 bytes"))?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::malformed(format!("the body is not the expected JSON: {error}")))
}

/// The same, where nothing is as good as an empty object.
fn parse_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, Problem> {
    match &body {
        Ok(bytes) if bytes.is_empty() => Ok(T::default()),
        _ => parse(body),
    }
}
