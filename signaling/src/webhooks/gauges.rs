//! What becomes of webhooks, for `/metrics`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a webhook went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookDrop {
    /// Too many of its room, or in all, wait for the receiver.
    Overflow,
    /// The receiver does not want it: it answered 4xx.
    Refused,
    /// It waited too long.
    Expired,
    /// The server stopped before it was delivered.
    Stopped,
}

impl WebhookDrop {
    /// All of them, in counter order.
    pub const ALL: [WebhookDrop; 4] =
        [WebhookDrop::Overflow, WebhookDrop::Refused, WebhookDrop::Expired, WebhookDrop::Stopped];

    /// The label in metrics and the log.
    pub const fn label(self) -> &'static str {
        match self {
            WebhookDrop::Overflow => "overflow",
            WebhookDrop::Refused => "refused",
            WebhookDrop::Expired => "expired",
            WebhookDrop::Stopped => "stopped",
        }
    }
}

/// Counters of all receivers together: written by their tasks, read by HTTP handlers.
#[derive(Debug, Default)]
pub struct WebhookGauges {
    sent: AtomicU64,
    failed: AtomicU64,
    queued: AtomicU64,
    dropped: [AtomicU64; WebhookDrop::ALL.len()],
}

impl WebhookGauges {
    /// One was taken by its receiver.
    pub fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt failed, after which another one is made.
    pub fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// One more waits.
    pub fn count_queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// So many less wait.
    pub fn count_gone(&self, count: u64) {
        self.queued.fetch_sub(count, Ordering::Relaxed);
    }

    /// So many go no further.
    pub fn count_dropped(&self, reason: WebhookDrop, count: u64) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many were taken, how many attempts failed, how many wait.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.sent), read(&self.failed), read(&self.queued))
    }

    /// How many went no further, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (WebhookDrop, u64)> + '_ {
        let counts = self.dropped.iter().map(|counter| counter.load(Ordering::Relaxed));
        WebhookDrop::ALL.into_iter().zip(counts)
    }
}
