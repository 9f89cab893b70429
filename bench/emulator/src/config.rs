//! One direction of a link, described.

use std::time::Duration;

use crate::loss::Bursts;

/// How much may wait at the bottleneck; more is dropped at the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// So many bytes.
    Bytes(u64),
    /// As much as leaves in this time.
    Time(Duration),
}

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkConfig {
    /// Probability that a packet is lost, 0–1, on its own.
    pub loss: f64,
    /// Mean length of a loss burst in packets; 1 makes losses independent.
    pub burst: f64,
    /// Times in which the link is worse, beside that.
    pub bursts: Option<Bursts>,
    /// Propagation delay.
    pub delay: Duration,
    /// Each packet is delayed by up to this much more, without overtaking.
    pub jitter: Duration,
    /// Bottleneck rate, bits per second; `None` is unlimited.
    pub rate_bps: Option<u64>,
    /// How much may wait at the bottleneck.
    pub queue: QueueLimit,
    /// Probability that a packet takes a way round that costs `reorder_by` more.
    pub reorder: f64,
    /// How much longer that way is.
    pub reorder_by: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        LinkConfig {
            loss: 0.0,
            burst: 1.0,
            bursts: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bps: None,
            queue: QueueLimit::Bytes(64 * 1024),
            reorder: 0.0,
            reorder_by: Duration::from_millis(20),
            duplicate: 0.0,
        }
    }
}
