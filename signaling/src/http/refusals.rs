//! Who was refused at the door: counted by reason for `/healthz`, and logged at a bounded pace.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One line per reason in this time: a flood of refusals must not become a flood of lines.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connection or a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The address has too many TCP connections.
    Connections,
    /// The address has too many WebSockets.
    Sockets,
    /// The address makes too many requests.
    Requests,
    /// A page of another origin.
    Origin,
    /// No room: every connection is a WebSocket in a room.
    Full,
    /// A PROXY header is missing or malformed.
    ProxyHeader,
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// A wrong key for the admin API.
    AdminKey,
    /// The server drains.
    Draining,
}

impl Refusal {
    /// All of them, each at the index of its counter.
    pub const ALL: [Refusal; 9] = [
        Refusal::Connections,
        Refusal::Sockets,
        Refusal::Requests,
        Refusal::Origin,
        Refusal::Full,
        Refusal::ProxyHeader,
        Refusal::Handshake,
        Refusal::AdminKey,
        Refusal::Draining,
    ];

    /// Its name in `/healthz`.
    pub const fn label(self) -> &'static str {
        match self {
            Refusal::Connections => "connections",
            Refusal::Sockets => "sockets",
            Refusal::Requests => "requests",
            Refusal::Origin => "origin",
            Refusal::Full => "full",
            Refusal::ProxyHeader => "proxyHeader",
            Refusal::Handshake => "handshake",
            Refusal::AdminKey => "adminKey",
            Refusal::Draining => "draining",
        }
    }
}

/// Counts and when the last line was written, by [`Refusal::ALL`].
#[derive(Default)]
pub struct Refusals(Mutex<[Tally; Refusal::ALL.len()]>);

#[derive(Default)]
struct Tally {
    count: u64,
    logged: u64,
    logged_at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal and logs it, unless such a line has just been written.
    pub fn note(&self, refusal: Refusal, remote: IpAddr, detail: &dyn Display, now: Instant) {
        if let Some(count) = self.count(refusal, now) {
            let reason = refusal.label();
            tracing::warn!(%remote, reason, count, "refused: {detail}");
        }
    }

    /// How many there were since the last line, if a line is due.
    fn count(&self, refusal: Refusal, now: Instant) -> Option<u64> {
        let index = Refusal::ALL.iter().position(|&known| known == refusal)?;
        let mut tallies = self.tallies();
        let tally = tallies.get_mut(index)?;
        tally.count += 1;
        let due =
            tally.logged_at.is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL);
        due.then(|| {
            tally.logged_at = Some(now);
            tally.count - std::mem::replace(&mut tally.logged, tally.count)
        })
    }

    /// How many there were of each.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let labels = Refusal::ALL.iter().map(|refusal| refusal.label());
        labels.zip(self.tallies().iter().map(|tally| tally.count)).collect()
    }

    fn tallies(&self) -> MutexGuard<'_, [Tally; Refusal::ALL.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_and_few_are_logged() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.count(Refusal::Origin, start), Some(1));
        assert!((0..100).all(|_| refusals.count(Refusal::Origin, start).is_none()));
        assert_eq!(refusals.count(Refusal::Full, start), Some(1));
        let later = start + LOG_INTERVAL;
        assert_eq!(refusals.count(Refusal::Origin, later), Some(101));
        let counts = refusals.counts();
        assert!(counts.contains(&("origin", 102)) && counts.contains(&("full", 1)));
    }
}
