//! Draining: nobody new is let in, and the server stops when everyone has gone or time is up.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::gauges::Gauges;

/// What a client that is not let in is told, and when it may ask again where there is no deadline.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The longest that a drain may take: a day.
pub const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// How often a draining server looks whether everyone has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How the server drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draining {
    /// What newcomers are told.
    pub reason: String,
    /// When the server stops at the latest; without one it goes on until it is told otherwise.
    pub deadline: Option<Instant>,
}

impl Draining {
    /// When someone who was not let in may ask again.
    pub fn retry_after(&self, now: Instant) -> Duration {
        self.deadline.map_or(RETRY_AFTER, |at| at.saturating_duration_since(now))
    }
}

/// Whether the server drains; the same for the web thread and the control thread.
#[derive(Clone)]
pub struct Drain(watch::Sender<Option<Draining>>);

impl Default for Drain {
    fn default() -> Self {
        Drain(watch::Sender::new(None))
    }
}

impl Drain {
    /// Drains, otherwise than before, or no more.
    pub fn set(&self, draining: Option<Draining>) {
        self.0.send_replace(draining);
    }

    /// How it drains, if it does.
    pub fn now(&self) -> Option<Draining> {
        self.0.borrow().clone()
    }

    /// Waits until the server is to stop: it drains with a deadline, and that has come, or nobody
    /// is left before, by WebSocket or otherwise.
    pub async fn over(&self, gauges: &Gauges) {
        let mut state = self.0.subscribe();
        loop {
            let deadline = state.borrow_and_update().as_ref().and_then(|state| state.deadline);
            match deadline {
                Some(at) if at <= Instant::now() => return,
                Some(_) if is_empty(gauges) => return,
                Some(_) => drop(tokio::time::timeout(LOOK_INTERVAL, state.changed()).await),
                None => drop(state.changed().await),
            }
        }
    }
}

fn is_empty(gauges: &Gauges) -> bool {
    gauges.connections.load(Ordering::Relaxed) == 0 && gauges.counts().peers == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draining(deadline: Option<Duration>) -> Option<Draining> {
        let deadline = deadline.map(|after| Instant::now() + after);
        Some(Draining { reason: "upgrade".to_owned(), deadline })
    }

    #[tokio::test]
    async fn it_is_over_at_the_deadline_or_when_all_have_gone_and_not_without_a_deadline() {
        let (drain, gauges) = (Drain::default(), Gauges::default());
        let is_over = async |wait: u64| {
            let over = drain.over(&gauges);
            tokio::time::timeout(Duration::from_millis(wait), over).await.is_ok()
        };
        assert!(!is_over(50).await, "it does not drain");
        drain.set(draining(None));
        assert!(!is_over(50).await && drain.now().is_some());
        drain.set(draining(Some(Duration::from_secs(60))));
        assert!(is_over(20_000).await, "nobody is there");
        gauges.connections.store(1, Ordering::Relaxed);
        assert!(!is_over(600).await, "someone is there");
        drain.set(draining(Some(Duration::from_millis(20))));
        assert!(is_over(20_000).await, "time is up");
        drain.set(None);
        assert!(!is_over(50).await, "it was called off");
    }
}
