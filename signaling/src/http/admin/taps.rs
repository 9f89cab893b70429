//! Taps, under `/v1/rooms/{room}/tap`: a room's voices, for a program outside.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use opencall_control::NOTICE;
use opencall_control::admin::AdminRequest;
use opencall_control::tap::TapAction;
use serde::Deserialize;

use super::answer::Problem;
use super::{Administrator, Body, Door, On, answered, ask, parse};

pub(super) async fn see(State(door): State<Arc<Door>>, Path(room): Path<String>) -> Response {
    answered(ask(&door, AdminRequest::Tap { room, action: TapAction::Ask }).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TapBody {
    url: String,
    notice_seconds: Option<u64>,
}

pub(super) async fn start(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
    body: Body,
) -> Response {
    let TapBody { url, notice_seconds } = match parse(body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let allowed = &door.front.admin.taps;
    let (shown, outcome) = match allowed.target(&url) {
        // Without any the server says that there are none.
        Err(reason) if !allowed.origins.is_empty() => {
            (String::new(), Err(Problem::not_allowed(reason)))
        }
        Err(_) => {
            let request = AdminRequest::Tap { room: room.clone(), action: TapAction::Ask };
            (String::new(), ask(&door, request).await)
        }
        Ok(target) => {
            let shown = target.shown.to_string();
            let notice = notice_seconds.map_or(NOTICE, Duration::from_secs);
            let action = TapAction::Start { target, notice };
            (shown, ask(&door, AdminRequest::Tap { room: room.clone(), action }).await)
        }
    };
    who.audit("start tap", &On { room: &room, participant: "", what: &shown }, &outcome);
    answered(outcome)
}

pub(super) async fn stop(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(room): Path<String>,
) -> Response {
    let request = AdminRequest::Tap { room: room.clone(), action: TapAction::Stop };
    let outcome = ask(&door, request).await;
    who.audit("stop tap", &On { room: &room, ..On::default() }, &outcome);
    answered(outcome)
}
