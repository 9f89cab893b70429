//! `/healthz` and `/health`: ok or degraded for everyone, numbers for the operator.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Map, Value, json};

use super::{Client, Door};

/// Answers 200, or 503 while a data core is dead, control makes no turns, or the server drains.
pub(super) fn answer(door: &Door, client: &Client) -> Response {
    let degraded = door.front.gauges.is_degraded();
    let draining = door.front.admin.draining().is_some();
    let (code, status) = match (degraded, draining) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false) => (StatusCode::OK, "ok"),
    };
    let mut health = json!({ "status": status });
    if let (true, Value::Object(health)) = (may_see_details(client), &mut health) {
        health.extend(details(door));
    }
    (code, Json(health)).into_response()
}

/// Whether a client may see how many meetings there are, and who is refused: one on this machine
/// that came straight to us, and not through a proxy, even one that we do not know of.
fn may_see_details(client: &Client) -> bool {
    client.peer.is_loopback() && !client.proxied && !client.forwarded
}

fn details(door: &Door) -> Map<String, Value> {
    let front = &door.front;
    let gauges = &front.gauges;
    let counts = gauges.counts();
    let closed: Map<String, Value> =
        gauges.closed().map(|(label, count)| (label.to_owned(), json!(count))).collect();
    let refused: Map<String, Value> = door
        .refusals
        .counts()
        .into_iter()
        .map(|(label, count)| (label.to_owned(), json!(count)))
        .collect();
    let dropped: Map<String, Value> =
        gauges.data_drops().map(|(label, count)| (label.to_owned(), json!(count))).collect();
    let (workers, last_recovery_ms) = gauges.workers.counts();
    let mut workers: Map<String, Value> =
        workers.into_iter().map(|(label, count)| (label.to_owned(), json!(count))).collect();
    workers.insert("lastRecoveryMs".to_owned(), json!(last_recovery_ms));
    workers.insert("overloaded".to_owned(), json!(counts.overloaded_cores));
    let details = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": front.started.elapsed().as_secs(),
        "cores": gauges.cores().iter().filter(|core| core.is_there()).count(),
        "io": front.io,
        "workers": workers,
        "rooms": counts.rooms,
        "peers": counts.peers,
        "transports": counts.transports,
        "producers": counts.producers,
        "consumers": counts.consumers,
        "dataProducers": counts.data_producers,
        "dataConsumers": counts.data_consumers,
        "dataDropped": dropped,
        "connections": gauges.connections.load(Ordering::Relaxed),
        "closed": closed,
        "refused": refused,
        "evicted": door.open.evicted(),
    });
    match details {
        Value::Object(details) => details,
        _ => Map::new(),
    }
}
