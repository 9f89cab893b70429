//! Why connections of ICE over TCP end, counted.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its client closed it.
    ByClient,
    /// It began with something other than a connectivity check.
    NotIce,
    /// A datagram longer than any a core takes.
    TooLong,
    /// No core answered its checks: nobody there knows a password.
    NotProven,
    /// It made way for newer ones, before it was proven.
    MadeWay,
    /// There was no room for it.
    Full,
    /// It came by the port of all cores, and its check names none of them.
    NoCore,
    /// Its client said nothing for long.
    Silent,
    /// Its client took nothing for long.
    Stuck,
    /// The system's error.
    Failed(ErrorKind),
}

impl Ended {
    /// All of them, as they are counted.
    pub const LABELS: [&'static str; 10] = [
        "by_client",
        "not_ice",
        "too_long",
        "not_proven",
        "made_way",
        "full",
        "no_core",
        "silent",
        "stuck",
        "failed",
    ];

    /// Its name in metrics.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    const fn index(self) -> usize {
        match self {
            Ended::ByClient => 0,
            Ended::NotIce => 1,
            Ended::TooLong => 2,
            Ended::NotProven => 3,
            Ended::MadeWay => 4,
            Ended::Full => 5,
            Ended::NoCore => 6,
            Ended::Silent => 7,
            Ended::Stuck => 8,
            Ended::Failed(_) => 9,
        }
    }
}

/// Connections, counted.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) open: AtomicU64,
    ended: [AtomicU64; Ended::LABELS.len()],
}

impl Counters {
    /// How many there are now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many ended, by reason.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ended.iter().map(|counter| counter.load(Ordering::Relaxed));
        Ended::LABELS.into_iter().zip(counts)
    }

    pub(super) fn count(&self, ended: Ended) {
        self.ended[ended.index()].fetch_add(1, Ordering::Relaxed);
    }
}
