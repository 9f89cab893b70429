//! The data cores, under `/v1/workers`: what they do, one more, one less.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::Problem;
use super::{
    Administrator, Body, Door, MAX_WAIT, On, Outcome, answered, deadline, parse_or_default,
};
use crate::gauges::CoreView;
use crate::hub::WorkerRequest;

pub(super) async fn see(State(door): State<Arc<Door>>) -> Response {
    Json(describe(&door)).into_response()
}

pub(super) async fn add(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    body: Body,
) -> Response {
    if let Err(problem) = parse_or_default::<Nothing>(body) {
        return problem.into_response();
    }
    let outcome = manage(&door, WorkerRequest::Add).await;
    let core = outcome.as_ref().ok().map_or_else(String::new, |worker| worker["core"].to_string());
    who.audit("add worker", &On { what: &core, ..On::default() }, &outcome);
    answered(outcome)
}

/// Nothing is to be said yet of a core that is to come.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DrainBody {
    deadline_seconds: Option<u64>,
}

pub(super) async fn drain(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(core): Path<String>,
    body: Body,
) -> Response {
    let asked = parse_or_default(body)
        .and_then(|DrainBody { deadline_seconds }| deadline(deadline_seconds))
        .and_then(|deadline| Ok(WorkerRequest::Drain { core: number(&core)?, deadline }));
    let outcome = match asked {
        Ok(request) => manage(&door, request).await,
        Err(problem) => return problem.into_response(),
    };
    who.audit("drain worker", &On { what: &core, ..On::default() }, &outcome);
    answered(outcome)
}

pub(super) async fn keep(
    State(door): State<Arc<Door>>,
    Extension(who): Extension<Administrator>,
    Path(core): Path<String>,
) -> Response {
    let outcome = match number(&core) {
        Ok(core) => manage(&door, WorkerRequest::Keep { core }).await,
        Err(problem) => return problem.into_response(),
    };
    who.audit("keep worker", &On { what: &core, ..On::default() }, &outcome);
    answered(outcome)
}

/// A core as paths name it.
fn number(text: &str) -> Result<u8, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let core = text.parse().ok().filter(|_| digits);
    core.ok_or_else(|| Problem::not_found("there is no such core: GET /v1/workers lists them"))
}

/// Asks the hub, in the administrators' turn.
async fn manage(door: &Door, request: WorkerRequest) -> Outcome {
    let admin = &door.front.admin;
    let Ok(_permit) = admin.asking.acquire().await else { return Err(Problem::no_control()) };
    let (answer, wait) = admin.hub.manage(request).await.map_err(|_| Problem::no_control())?;
    if !wait.is_zero() {
        tokio::time::sleep(wait.min(MAX_WAIT)).await;
    }
    let worker = answer?;
    Ok(json!({
        "core": worker.core,
        "port": worker.port,
        "state": worker.state.label(),
        "transports": worker.transports,
    }))
}

/// The server's numbers and those of each data core, of a second ago at most.
fn describe(door: &Door) -> Value {
    let front = &door.front;
    let counts = front.gauges.counts();
    let (_, last_recovery_ms) = front.gauges.workers.counts();
    let draining = front.admin.draining().map(|draining| {
        let left = draining.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        json!({"reason": draining.reason, "secondsLeft": left.map(|left| left.as_secs())})
    });
    let views = front.gauges.cores();
    let workers = views.iter().map(describe_core);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "io": front.io,
        "uptimeSeconds": front.started.elapsed().as_secs(),
        "draining": draining,
        "rooms": counts.rooms,
        "participants": counts.peers,
        "connections": front.gauges.connections.load(Ordering::Relaxed),
        "lastRecoveryMs": last_recovery_ms,
        "workers": workers.collect::<Vec<_>>(),
    })
}

fn describe_core(view: &CoreView) -> Value {
    let totals = &view.totals;
    let drops: Map<String, Value> = totals
        .drops
        .iter()
        .map(|(reason, count)| (reason.label().to_owned(), count.into()))
        .collect();
    json!({
        "core": view.core.0,
        "port": view.port,
        "state": view.state.label(),
        "alive": view.is_there() && !view.is_lost,
        "busy": view.busy,
        "receivedPerSecond": view.received_per_second,
        "sentPerSecond": view.sent_per_second,
        "datagramsReceived": totals.datagrams_received,
        "datagramsSent": totals.datagrams_sent,
        "packetsForwarded": totals.packets_forwarded,
        "packetsPiped": totals.packets_piped,
        "transports": totals.transports,
        "producers": totals.producers,
        "consumers": totals.consumers,
        "drops": drops,
        "died": view.died,
        "stalled": view.stalled,
        "recovered": view.recovered,
    })
}
