//! Pushes, under `/v1/rooms/{room}/push`: a participant's voice and picture, for a server of
//! broadcasts.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use opencall_control::NOTICE;
use opencall_control::admin::AdminRequest;
use opencall_control::push::PushAction;
use serde::Deserialize;

use super::answer::Problem;
use super::{Administrator, Body, Door, On, answered, ask, parse};

pub(super) async fn see(State(door): State<Arc<Door>>, Path(room): Path<String>) -> Response {
    answered(ask(&door, AdminRequest::Push { room, action: PushAction::Ask }).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PushBody {
    url: String,
    participant: String,
    #[serde(default)]
    screen_share: bool,
    notice_seconds: Option<u64>,
}

pub(super) async fn start(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
    body: Body,
) -> Response {
    let PushBody { url, participant, screen_share: screen, notice_seconds } = match parse(body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let allowed = &door.front.admin.pushes;
    let (shown, outcome) = match allowed.target(&url) {
        // Without any the server says that there are none.
        Err(reason) if !allowed.origins.is_empty() => {
            (String::new(), Err(Problem::not_allowed(reason)))
        }
        Err(_) => {
            let request = AdminRequest::Push { room: room.clone(), action: PushAction::Ask };
            (String::new(), ask(&door, request).await)
        }
        Ok(target) => {
            let shown = target.shown.to_string();
            let notice = notice_seconds.map_or(NOTICE, Duration::from_secs);
            let participant = participant.clone();
            let action = PushAction::Start { target, participant, screen, notice };
            (shown, ask(&door, AdminRequest::Push { room: room.clone(), action }).await)
        }
    };
    let on = On { room: &room, participant: &participant, what: &shown };
    who.audit("start push", &on, &outcome);
    answered(outcome)
}

pub(super) async fn stop(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
) -> Response {
    let request = AdminRequest::Push { room: room.clone(), action: PushAction::Stop };
    let outcome = ask(&door, request).await;
    who.audit("stop push", &On { room: &room, ..On::default() }, &outcome);
    answered(outcome)
}
