//! What becomes of frames on their way to programs outside and of what comes back, for `/metrics`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a frame went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameDrop {
    /// The program takes them more slowly than they come.
    Slow,
    /// The program is not connected.
    NotConnected,
    /// It is no Opus.
    NotOpus,
    /// There are more voices than may be tapped.
    TooManyVoices,
}

impl FrameDrop {
    /// All of them, in counter order.
    pub const ALL: [FrameDrop; 4] =
        [FrameDrop::Slow, FrameDrop::NotConnected, FrameDrop::NotOpus, FrameDrop::TooManyVoices];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            FrameDrop::Slow => "slow",
            FrameDrop::NotConnected => "not_connected",
            FrameDrop::NotOpus => "not_opus",
            FrameDrop::TooManyVoices => "too_many_voices",
        }
    }
}

/// Why what a program said was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is longer than a message may be. The connection ends with it.
    TooLarge,
    /// It is no JSON of the kind that is spoken here.
    Malformed,
    /// It is a result without words.
    Empty,
    /// It is a result of more words than a caption may have.
    TooLong,
}

impl Refusal {
    /// All of them, in counter order.
    pub const ALL: [Refusal; 4] =
        [Refusal::TooLarge, Refusal::Malformed, Refusal::Empty, Refusal::TooLong];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Refusal::TooLarge => "too_large",
            Refusal::Malformed => "malformed",
            Refusal::Empty => "empty",
            Refusal::TooLong => "too_long",
        }
    }
}

/// Counters of all taps together: written by their thread, read by HTTP handlers.
#[derive(Debug, Default)]
pub struct TapGauges {
    frames: AtomicU64,
    connections: AtomicU64,
    failures: AtomicU64,
    dropped: [AtomicU64; FrameDrop::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl TapGauges {
    /// So many frames were handed on.
    pub fn count_frames(&self, count: u64) {
        self.frames.fetch_add(count, Ordering::Relaxed);
    }

    /// A program was connected.
    pub fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// There was no connection, or it has ended before its tap.
    pub fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// So many frames went nowhere.
    pub fn count_dropped(&self, reason: FrameDrop, count: u64) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// A program said what cannot be understood.
    pub fn count_refused(&self, reason: Refusal) {
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frames handed on, connections, failures.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.frames), read(&self.connections), read(&self.failures))
    }

    /// Frames that went nowhere, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (FrameDrop, u64)> + '_ {
        let counts = self.dropped.iter().map(|counter| counter.load(Ordering::Relaxed));
        FrameDrop::ALL.into_iter().zip(counts)
    }

    /// What was not understood, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        let counts = self.refused.iter().map(|counter| counter.load(Ordering::Relaxed));
        Refusal::ALL.into_iter().zip(counts)
    }
}
