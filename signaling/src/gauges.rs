//! Numbers of the front door, for `/healthz`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use opencall_control::Counts;

use crate::envelope::Closing;

/// Counters written by the hub and the connections, read by HTTP handlers.
#[derive(Default)]
pub struct Gauges {
    /// WebSocket connections now.
    pub connections: AtomicU64,
    counts: Mutex<Counts>,
    /// Whether a data core has ended that should run.
    pub core_lost: AtomicBool,
    /// Connections that the server closed, by [`Closing::ALL`].
    closed: [AtomicU64; Closing::ALL.len()],
}

impl Gauges {
    /// What control has.
    pub fn set_counts(&self, counts: Counts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// What control had when it was last looked at.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(counts, [0, 1, 2, 3, 4, 5, 6, 7]);
        let mut labels: Vec<&str> = gauges.closed().map(|(label, _)| label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Closing::ALL.len());
    }

    /// A protoo client stays away after 4000 and comes back after any other code.
    #[test]
    fn only_a_replaced_peer_is_told_to_stay_away() {
        for closing in Closing::ALL {
            let stays_away = closing == Closing::ByControl(CloseReason::Replaced);
            assert_eq!(closing.code() == 4000, stays_away, "{closing:?}");
        }
    }
}
