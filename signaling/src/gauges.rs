//! Numbers of the front door, for `/healthz`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use opencall_control::dtls::DtlsDropCounters;
use opencall_control::push::PushTotals;
use opencall_control::tap::TapTotals;
use opencall_control::{Counts, DataDrop, DataDropCounters, RecordingTotals};
use opencall_dataplane::histogram::Histogram;
use opencall_dataplane::message::{CoreId, CoreStats};
use opencall_dataplane::threads::Loss;

use crate::auth::error::TokenError;
use crate::envelope::Closing;
use crate::ice_tcp;
use crate::taps::gauges::TapGauges;
use crate::webhooks::gauges::WebhookGauges;

/// The control thread makes a turn every half second at least; one that makes none for so long is
/// stuck.
const MAX_SILENCE_MS: u64 = 10_000;

/// What became of data cores, for `/healthz`.
#[derive(Debug, Default)]
pub struct Workers {
    died: AtomicU64,
    stalled: AtomicU64,
    recovered: AtomicU64,
    quarantined: AtomicU64,
    /// From the last death until the core was back, microseconds.
    last_recovery_us: AtomicU64,
    any_lost: AtomicBool,
}

impl Workers {
    /// A core was lost.
    pub fn count_loss(&self, loss: &Loss) {
        let counter = if loss.stalled { &self.stalled } else { &self.died };
        counter.fetch_add(1, Ordering::Relaxed);
        if loss.quarantined.is_some() {
            self.quarantined.fetch_add(1, Ordering::Relaxed);
        }
        self.any_lost.store(true, Ordering::Relaxed);
    }

    /// A core is back after so many milliseconds; `all` of them are.
    pub fn count_recovery(&self, milliseconds: f64, all: bool) {
        self.recovered.fetch_add(1, Ordering::Relaxed);
        self.last_recovery_us.store((milliseconds * 1e3) as u64, Ordering::Relaxed);
        if all {
            self.any_lost.store(false, Ordering::Relaxed);
        }
    }

    /// A core that was dead is not missed any more.
    pub fn set_any_lost(&self, any_lost: bool) {
        self.any_lost.store(any_lost, Ordering::Relaxed);
    }

    /// Whether a core is dead now.
    pub fn is_any_lost(&self) -> bool {
        self.any_lost.load(Ordering::Relaxed)
    }

    /// How often each thing happened, and how long the last recovery took in milliseconds.
    pub fn counts(&self) -> ([(&'static str, u64); 4], f64) {
        let counts = [
            ("died", &self.died),
            ("stalled", &self.stalled),
            ("recovered", &self.recovered),
            ("quarantined", &self.quarantined),
        ];
        let last_us = self.last_recovery_us.load(Ordering::Relaxed);
        (counts.map(|(name, count)| (name, count.load(Ordering::Relaxed))), last_us as f64 / 1e3)
    }
}

/// What a data core does for newcomers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CoreState {
    /// It takes them.
    #[default]
    Running,
    /// It takes none, and ends when nobody is left.
    Draining,
    /// It has ended.
    Removed,
}

impl CoreState {
    /// Its name in answers.
    pub const fn label(self) -> &'static str {
        match self {
            CoreState::Running => "running",
            CoreState::Draining => "draining",
            CoreState::Removed => "removed",
        }
    }
}

/// A data core as it was a moment ago.
#[derive(Debug, Clone)]
pub struct CoreView {
    /// Which.
    pub core: CoreId,
    /// What it does for newcomers.
    pub state: CoreState,
    /// Its UDP port.
    pub port: u16,
    /// What it and those before it have counted, and what it has now.
    pub totals: CoreStats,
    /// The share of time, 0–1, that its thread ran in the last second.
    pub busy: f32,
    /// Datagrams received in a second, lately.
    pub received_per_second: u64,
    /// Datagrams sent in a second, lately.
    pub sent_per_second: u64,
    /// Whether it is dead now.
    pub is_lost: bool,
    /// How often it died.
    pub died: u64,
    /// How often it was taken for dead.
    pub stalled: u64,
    /// How often it was replaced.
    pub recovered: u64,
}

impl Default for CoreView {
    fn default() -> Self {
        CoreView {
            core: CoreId(0),
            state: CoreState::default(),
            port: 0,
            totals: CoreStats::default(),
            busy: 0.0,
            received_per_second: 0,
            sent_per_second: 0,
            is_lost: false,
            died: 0,
            stalled: 0,
            recovered: 0,
        }
    }
}

impl CoreView {
    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.state != CoreState::Removed
    }

    /// It has ended: it does and has nothing, and what it counted stays.
    pub fn rest(&mut self) {
        (self.busy, self.received_per_second, self.sent_per_second) = (0.0, 0, 0);
        let totals = &mut self.totals;
        (totals.transports, totals.producers, totals.consumers) = (0, 0, 0);
    }
}

/// What the control thread counts, as it was a moment ago.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Participants who entered a room.
    pub joins: u64,
    /// DTLS records and messages that went no further.
    pub dtls_drops: DtlsDropCounters,
    /// How much later than it meant to the control thread woke up.
    pub lateness: Histogram,
    /// What became of recordings.
    pub recordings: RecordingTotals,
    /// What became of taps.
    pub taps: TapTotals,
    /// What became of pushes.
    pub pushes: PushTotals,
}

/// Counters written by the hub and the connections, read by HTTP handlers.
pub struct Gauges {
    /// WebSocket connections now.
    pub connections: AtomicU64,
    counts: Mutex<Counts>,
    cores: Mutex<Vec<CoreView>>,
    watched: Mutex<Watched>,
    /// Refused join tokens, by [`TokenError::CODES`].
    tokens_refused: [AtomicU64; TokenError::CODES.len()],
    data_drops: Mutex<DataDropCounters>,
    /// What becomes of webhooks.
    pub webhooks: Arc<WebhookGauges>,
    /// What becomes of tapped voices.
    pub taps: Arc<TapGauges>,
    started: Instant,
    /// When the control thread made its last turn, milliseconds after the start.
    beat: AtomicU64,
    /// Whether the control thread has failed.
    pub control_lost: AtomicBool,
    /// Data cores that died and came back.
    pub workers: Workers,
    /// Connections of ICE over TCP.
    pub ice_tcp: Arc<ice_tcp::Counters>,
    /// Connections that the server closed, by [`Closing::ALL`].
    closed: [AtomicU64; Closing::ALL.len()],
}

impl Default for Gauges {
    fn default() -> Self {
        Gauges {
            connections: AtomicU64::new(0),
            counts: Mutex::default(),
            cores: Mutex::default(),
            watched: Mutex::default(),
            tokens_refused: Default::default(),
            data_drops: Mutex::default(),
            webhooks: Arc::default(),
            taps: Arc::default(),
            started: Instant::now(),
            beat: AtomicU64::new(0),
            control_lost: AtomicBool::new(false),
            workers: Workers::default(),
            ice_tcp: Arc::default(),
            closed: Default::default(),
        }
    }
}

impl Gauges {
    /// The control thread has made a turn.
    pub fn beat(&self) {
        self.beat.store(self.uptime_ms(), Ordering::Relaxed);
    }

    /// Whether something of the server does not work: a data core is dead now, or the control
    /// thread has failed or makes no turns.
    pub fn is_degraded(&self) -> bool {
        let silence_ms = self.uptime_ms().saturating_sub(self.beat.load(Ordering::Relaxed));
        self.workers.is_any_lost()
            || self.control_lost.load(Ordering::Relaxed)
            || silence_ms > MAX_SILENCE_MS
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What control has.
    pub fn set_counts(&self, counts: Counts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// What control had when it was last looked at.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the data cores do.
    pub fn set_cores(&self, cores: Vec<CoreView>) {
        *self.cores.lock().unwrap_or_else(PoisonError::into_inner) = cores;
    }

    /// What the data cores did when they were last looked at, those that are gone among them.
    pub fn cores(&self) -> Vec<CoreView> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the control thread counts.
    pub fn set_watched(&self, watched: Watched) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }

    /// What the control thread counted when it was last looked at.
    pub fn watched(&self) -> Watched {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a join token that was refused.
    pub fn count_token_refused(&self, error: &TokenError) {
        let index = TokenError::CODES.iter().position(|code| *code == error.code());
        if let Some(counter) = index.and_then(|index| self.tokens_refused.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often join tokens were refused, by code.
    pub fn tokens_refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.tokens_refused.iter().map(|counter| counter.load(Ordering::Relaxed));
        TokenError::CODES.into_iter().zip(counts)
    }

    /// What of data channels went no further.
    pub fn set_data_drops(&self, drops: DataDropCounters) {
        *self.data_drops.lock().unwrap_or_else(PoisonError::into_inner) = drops;
    }

    /// How often a message or channel of data went no further, by reason.
    pub fn data_drops(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let drops = *self.data_drops.lock().unwrap_or_else(PoisonError::into_inner);
        DataDrop::ALL.iter().map(move |drop| (drop.label(), drops.of(*drop)))
    }

    /// Counts a connection that the server closes.
    pub fn count_closed(&self, closing: Closing) {
        let index = Closing::ALL.iter().position(|&known| known == closing);
        if let Some(counter) = index.and_then(|index| self.closed.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the server closed a connection, by reason.
    pub fn closed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.closed.iter().map(|counter| counter.load(Ordering::Relaxed));
        Closing::ALL.iter().map(|closing| closing.label()).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use opencall_control::api::CloseReason;

    use super::*;

    #[test]
    fn every_closing_has_a_counter_and_a_label_of_its_own() {
        let gauges = Gauges::default();
        for (times, &closing) in Closing::ALL.iter().enumerate() {
            (0..times).for_each(|_| gauges.count_closed(closing));
        }
        let counts: Vec<u64> = gauges.closed().map(|(_, count)| count).collect();
        let expected: Vec<u64> = (0..Closing::ALL.len() as u64).collect();
        assert_eq!(counts, expected);
        let mut labels: Vec<&str> = gauges.closed().map(|(label, _)| label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Closing::ALL.len());
    }

    /// A protoo client stays away after 4000 and comes back after any other code.
    #[test]
    fn only_the_replaced_and_the_removed_are_told_to_stay_away() {
        for closing in Closing::ALL {
            let away = [CloseReason::Replaced, CloseReason::Removed, CloseReason::RemovedByHost];
            let away = away.map(Closing::ByControl);
            let stays_away = away.contains(&closing);
            assert_eq!(closing.code() == 4000, stays_away, "{closing:?}");
        }
    }
}
