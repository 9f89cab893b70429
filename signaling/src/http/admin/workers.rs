//! What the data cores do, for `GET /v1/workers`.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Door;
use crate::gauges::CoreView;

/// The server's numbers and those of each data core, of a second ago at most.
pub fn describe(door: &Door) -> Value {
    let front = &door.front;
    let counts = front.gauges.counts();
    let (_, last_recovery_ms) = front.gauges.workers.counts();
    let draining = front.admin.draining().map(|draining| {
        let left = draining.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        json!({"reason": draining.reason, "secondsLeft": left.map(|left| left.as_secs())})
    });
    let views = front.gauges.cores();
    let workers = views.iter().enumerate().map(|(core, view)| describe_core(core, view));
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

fn describe_core(core: usize, view: &CoreView) -> Value {
    let totals = &view.totals;
    let drops: Map<String, Value> = totals
        .drops
        .iter()
        .map(|(reason, count)| (reason.label().to_owned(), count.into()))
        .collect();
    json!({
        "core": core,
        "port": view.port,
        "alive": !view.is_lost,
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
