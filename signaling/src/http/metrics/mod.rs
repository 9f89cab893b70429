//! `/metrics`: what an operator watches, in Prometheus's text format.
//!
//! The number of series depends on the number of data cores, and on nothing that clients do: labels
//! are core, direction, reason and what else is fixed when this is compiled, never a room or a
//! participant. All is read from what the hub and the connections left behind: a scrape costs the
//! control thread and the data cores nothing.
#![forbid(unsafe_code)]

mod process;
mod text;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use opencall_control::RecordingTotals;
use opencall_control::dtls::DtlsDrop;
use opencall_control::push::PushTotals;
use opencall_control::push::message::PushEnding;
use opencall_control::tap::{CaptionDrop, TapTotals};
use opencall_dataplane::drop_reason::DropReason;

use self::text::Text;
use super::Door;
use crate::gauges::{CoreState, CoreView};
use crate::taps::gauges::TapGauges;

/// Answers a scrape.
pub(super) async fn answer(State(door): State<Arc<Door>>) -> Response {
    ([(CONTENT_TYPE, text::CONTENT_TYPE)], write(&door)).into_response()
}

fn write(door: &Door) -> String {
    let mut text = Text::default();
    let front = &door.front;
    let (version, io) = (env!("CARGO_PKG_VERSION"), front.io);
    text.gauge("opencall_build_info", "Version and I/O backend.")
        .sample(&[("version", &version), ("io", &io)], 1);
    text.gauge("opencall_uptime_seconds", "Seconds since the start.")
        .sample(&[], front.started.elapsed().as_secs_f64());
    let draining = u8::from(front.admin.draining().is_some());
    text.gauge("opencall_draining", "1 while nobody new is let in.").sample(&[], draining);
    // A core that is gone has no series; what comes under its number counts on.
    let mut cores = front.gauges.cores();
    cores.retain(CoreView::is_there);
    write_cores(&mut text, &cores);
    write_drops(&mut text, &cores);
    write_control(&mut text, door);
    write_recordings(&mut text, &front.gauges.watched().recordings);
    write_taps(&mut text, &front.gauges.watched().taps, &front.gauges.taps);
    write_pushes(&mut text, &front.gauges.watched().pushes);
    write_door(&mut text, door);
    write_webhooks(&mut text, door);
    process::write(&mut text);
    text.finish()
}

/// With their labels.
fn numbered(views: &[CoreView]) -> impl Iterator<Item = (u8, &CoreView)> {
    views.iter().map(|view| (view.core.0, view))
}

/// A counter of each core.
fn per_core(
    text: &mut Text,
    (name, help): (&'static str, &str),
    views: &[CoreView],
    value: impl Fn(&CoreView) -> u64,
) {
    let mut family = text.counter(name, help);
    for (core, view) in numbered(views) {
        family.sample(&[("core", &core)], value(view));
    }
}

/// A counter of each core and direction.
fn both_ways(
    text: &mut Text,
    (name, help): (&'static str, &str),
    views: &[CoreView],
    values: impl Fn(&CoreView) -> (u64, u64),
) {
    let mut family = text.counter(name, help);
    for (core, view) in numbered(views) {
        let (received, sent) = values(view);
        for (direction, value) in [("received", received), ("sent", sent)] {
            family.sample(&[("core", &core), ("direction", &direction)], value);
        }
    }
}

/// Name, help, and value of a gauge of each core.
type Gauge = (&'static str, &'static str, fn(&CoreView) -> f64);

fn write_cores(text: &mut Text, views: &[CoreView]) {
    let name = ("opencall_core_datagrams_total", "Datagrams, by direction.");
    both_ways(text, name, views, |v| (v.totals.datagrams_received, v.totals.datagrams_sent));
    let name = ("opencall_core_bytes_total", "Bytes of UDP payload, by direction.");
    both_ways(text, name, views, |v| (v.totals.bytes_received, v.totals.bytes_sent));
    let name = ("opencall_core_nacks_total", "NACKs from viewers and to senders.");
    both_ways(text, name, views, |v| (v.totals.nacks_received, v.totals.nacks_sent));
    let name = ("opencall_core_key_frame_requests_total", "PLIs and FIRs, from and to clients.");
    both_ways(text, name, views, |v| {
        (v.totals.key_frame_requests_received, v.totals.key_frame_requests_sent)
    });
    let name = ("opencall_core_datagrams_taken_total", "Datagrams received that are no drops.");
    per_core(text, name, views, |v| v.totals.datagrams_taken);
    let name = ("opencall_core_packets_forwarded_total", "RTP packets sealed for viewers.");
    per_core(text, name, views, |v| v.totals.packets_forwarded);
    let name = ("opencall_core_packets_piped_total", "RTP packets passed to other cores.");
    per_core(text, name, views, |v| v.totals.packets_piped);
    let name = ("opencall_core_send_calls_total", "System calls that sent.");
    per_core(text, name, views, |v| v.totals.send_calls);
    let name = ("opencall_core_turns_total", "Turns of the loop.");
    per_core(text, name, views, |v| v.totals.turns);
    let name = ("opencall_core_recovered_total", "Times that the core was replaced.");
    per_core(text, name, views, |v| v.recovered);
    let mut lost = text.counter("opencall_core_lost_total", "Times that the core was lost.");
    for (core, view) in numbered(views) {
        for (how, value) in [("died", view.died), ("stalled", view.stalled)] {
            lost.sample(&[("core", &core), ("how", &how)], value);
        }
    }
    let gauges: [Gauge; 6] = [
        ("opencall_core_draining", "1 while nobody is placed on the core.", |v| {
            f64::from(u8::from(v.state == CoreState::Draining))
        }),
        ("opencall_core_up", "0 while the core is dead.", |v| if v.is_lost { 0.0 } else { 1.0 }),
        ("opencall_core_busy_ratio", "Share of time its thread ran lately.", |v| v.busy.into()),
        ("opencall_core_transports", "Transports now.", |v| v.totals.transports as f64),
        ("opencall_core_producers", "Producers now, piped ones too.", |v| {
            v.totals.producers as f64
        }),
        ("opencall_core_consumers", "Consumers now.", |v| v.totals.consumers as f64),
    ];
    for (name, help, value) in gauges {
        let mut family = text.gauge(name, help);
        for (core, view) in numbered(views) {
            family.sample(&[("core", &core)], value(view));
        }
    }
    let help = "From when a packet's batch was read until it was handed to the kernel.";
    let mut delays = text.histogram("opencall_core_forward_delay_seconds", help);
    for (core, view) in numbered(views) {
        delays.buckets(&[("core", &core)], &view.totals.forward_delays);
    }
    let help = "How long packets waited for the pace of their client, of those that had to.";
    let mut delays = text.histogram("opencall_core_pacer_delay_seconds", help);
    for (core, view) in numbered(views) {
        delays.buckets(&[("core", &core)], &view.totals.pacer_delays);
    }
}

fn write_drops(text: &mut Text, views: &[CoreView]) {
    let mut family = text.counter("opencall_core_drops_total", "Packets that went no further.");
    for (core, view) in numbered(views) {
        for &reason in DropReason::ALL {
            let labels: [(&'static str, &dyn Display); 2] =
                [("core", &core), ("reason", &reason.label())];
            family.sample(&labels, view.totals.drops.of(reason));
        }
    }
}

fn write_control(text: &mut Text, door: &Door) {
    let gauges = &door.front.gauges;
    let counts = gauges.counts();
    let now: [(&'static str, &str, usize); 9] = [
        ("opencall_rooms", "Rooms.", counts.rooms),
        ("opencall_participants", "Participants who have entered a room.", counts.peers),
        ("opencall_sessions", "Signaling sessions.", counts.sessions),
        ("opencall_transports", "Transports.", counts.transports),
        ("opencall_producers", "Producers.", counts.producers),
        ("opencall_consumers", "Consumers.", counts.consumers),
        ("opencall_data_producers", "Data producers.", counts.data_producers),
        ("opencall_data_consumers", "Data consumers.", counts.data_consumers),
        ("opencall_pipes", "Producers that reach another core, for each.", counts.pipes),
    ];
    for (name, help, value) in now {
        text.gauge(name, help).sample(&[], value);
    }
    let watched = gauges.watched();
    text.counter("opencall_joins_total", "Participants who entered a room.")
        .sample(&[], watched.joins);
    let mut data = text.counter("opencall_data_drops_total", "Messages of data channels lost.");
    for (reason, value) in gauges.data_drops() {
        data.sample(&[("reason", &reason)], value);
    }
    let help = "DTLS records and messages that went no further.";
    let mut dtls = text.counter("opencall_dtls_drops_total", help);
    for &drop in DtlsDrop::ALL {
        dtls.sample(&[("reason", &drop.label())], watched.dtls_drops.of(drop));
    }
    let help = "How much later than it meant to the control thread woke up.";
    text.histogram("opencall_control_lateness_seconds", help).buckets(&[], &watched.lateness);
    let help = "1 while the control thread makes no turns or has failed, or a core is dead.";
    text.gauge("opencall_degraded", help).sample(&[], u8::from(gauges.is_degraded()));
    let (workers, last_recovery_ms) = gauges.workers.counts();
    let help = "Addresses from which nothing is taken any more.";
    let quarantined = workers.iter().find(|(name, _)| *name == "quarantined");
    text.counter("opencall_quarantined_total", help)
        .sample(&[], quarantined.map_or(0, |(_, count)| *count));
    text.gauge("opencall_last_recovery_seconds", "How long the last recovery of a core took.")
        .sample(&[], last_recovery_ms / 1e3);
}

fn write_recordings(text: &mut Text, totals: &RecordingTotals) {
    text.gauge("opencall_recordings", "Recordings that are being written.")
        .sample(&[], totals.active);
    let mut ended = text.counter("opencall_recordings_ended_total", "Recordings that have ended.");
    for (ending, value) in RecordingTotals::ENDINGS.iter().zip(totals.ended) {
        ended.sample(&[("reason", &ending.label())], value);
    }
    let help = "Bytes of recordings that have ended.";
    text.counter("opencall_recorded_bytes_total", help).sample(&[], totals.bytes);
    let help = "Packets that recordings that have ended lack.";
    text.counter("opencall_recording_packets_lost_total", help).sample(&[], totals.packets_lost);
    let help = "Clusters that the disk was too slow for, of recordings that have ended.";
    text.counter("opencall_recording_clusters_dropped_total", help)
        .sample(&[], totals.clusters_dropped);
}

fn write_taps(text: &mut Text, totals: &TapTotals, gauges: &TapGauges) {
    text.gauge("opencall_taps", "Rooms whose voices go to a program outside.")
        .sample(&[], totals.active);
    let (frames, connections, failures) = gauges.counts();
    let help = "Frames of voices that programs outside were handed.";
    text.counter("opencall_tap_frames_total", help).sample(&[], frames);
    let help = "Frames of voices that programs outside were not handed.";
    let mut dropped = text.counter("opencall_tap_frames_dropped_total", help);
    for (reason, value) in gauges.dropped() {
        dropped.sample(&[("reason", &reason.label())], value);
    }
    let help = "Connections to programs outside.";
    text.counter("opencall_tap_connections_total", help).sample(&[], connections);
    let help = "Connections to programs outside that were not made, or ended before their tap.";
    text.counter("opencall_tap_failures_total", help).sample(&[], failures);
    text.counter("opencall_captions_total", "Captions that rooms were told.")
        .sample(&[], totals.captions);
    let help = "What programs outside said that became no caption.";
    let mut refused = text.counter("opencall_captions_refused_total", help);
    for (reason, value) in gauges.refused() {
        refused.sample(&[("reason", &reason.label())], value);
    }
    for (reason, value) in CaptionDrop::ALL.iter().zip(totals.dropped) {
        refused.sample(&[("reason", &reason.label())], value);
    }
}

fn write_pushes(text: &mut Text, totals: &PushTotals) {
    text.gauge("opencall_pushes", "Rooms of which somebody is broadcast.")
        .sample(&[], totals.active);
    let help = "Pushes that have ended.";
    let mut ended = text.counter("opencall_pushes_ended_total", help);
    for (ending, value) in PushEnding::ALL.iter().zip(totals.ended) {
        ended.sample(&[("ending", &ending.label())], value);
    }
    let help = "Bytes that pushes that have ended have sent.";
    text.counter("opencall_pushed_bytes_total", help).sample(&[], totals.bytes);
    let help = "Frames that pushes that have ended have not sent.";
    text.counter("opencall_push_frames_dropped_total", help).sample(&[], totals.frames_dropped);
}

fn write_door(text: &mut Text, door: &Door) {
    let gauges = &door.front.gauges;
    text.gauge("opencall_connections", "WebSockets.")
        .sample(&[], gauges.connections.load(Ordering::Relaxed));
    let mut closed = text.counter("opencall_closed_total", "WebSockets that the server closed.");
    for (reason, value) in gauges.closed() {
        closed.sample(&[("reason", &reason)], value);
    }
    let mut refused =
        text.counter("opencall_refused_total", "Connections and requests refused at the door.");
    for (reason, value) in door.refusals.counts() {
        refused.sample(&[("reason", &reason)], value);
    }
    let mut tokens = text.counter("opencall_tokens_refused_total", "Join tokens refused.");
    for (reason, value) in gauges.tokens_refused() {
        tokens.sample(&[("reason", &reason)], value);
    }
    let ice_tcp = &gauges.ice_tcp;
    text.gauge("opencall_ice_tcp_connections", "Connections of ICE over TCP.")
        .sample(&[], ice_tcp.open());
    let mut ended =
        text.counter("opencall_ice_tcp_ended_total", "Connections of ICE over TCP that ended.");
    for (reason, value) in ice_tcp.ended() {
        ended.sample(&[("reason", &reason)], value);
    }
    text.counter("opencall_evicted_total", "Connections that made way for others.")
        .sample(&[], door.open.evicted());
}

fn write_webhooks(text: &mut Text, door: &Door) {
    let gauges = &door.front.gauges.webhooks;
    let (sent, failed, queued) = gauges.counts();
    text.counter("opencall_webhooks_sent_total", "Webhooks that their receiver has taken.")
        .sample(&[], sent);
    text.counter("opencall_webhook_attempts_failed_total", "Attempts after which others follow.")
        .sample(&[], failed);
    text.gauge("opencall_webhooks_queued", "Webhooks that wait.").sample(&[], queued);
    let mut dropped =
        text.counter("opencall_webhooks_dropped_total", "Webhooks that were not delivered.");
    for (reason, value) in gauges.dropped() {
        dropped.sample(&[("reason", &reason.label())], value);
    }
}
