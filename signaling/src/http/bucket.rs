//! Token buckets: a rate with a burst.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// A sustained rate and what may come at once above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens per second; above 0.
    pub per_second: f64,
    /// Tokens of a full bucket.
    pub burst: f64,
}

/// Tokens that are left. They may be below 0: what was read cannot be unread, so it is paid later.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Bucket { tokens: rate.burst, at: now }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * rate.per_second).min(rate.burst);
        self.at = self.at.max(now);
    }

    /// Takes tokens, whether or not they are there.
    pub fn charge(&mut self, tokens: f64, rate: Rate, now: Instant) {
        self.refill(rate, now);
        self.tokens -= tokens;
    }

    /// Takes one token if it is there, or says how long until it is.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.refill(rate, now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(time_for(1.0 - self.tokens, rate))
    }

    /// How long until the debt is paid; zero without one.
    pub fn wait(&mut self, rate: Rate, now: Instant) -> Duration {
        self.refill(rate, now);
        time_for(-self.tokens, rate)
    }

    /// Whether nothing is owed or missing, so that a new bucket would be the same.
    pub fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.tokens >= rate.burst
    }
}

fn time_for(tokens: f64, rate: Rate) -> Duration {
    Duration::try_from_secs_f64(tokens.max(0.0) / rate.per_second).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 3.0 };

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(RATE, start);
        assert!((0..3).all(|_| bucket.take(RATE, start).is_ok()));
        let wait = bucket.take(RATE, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(bucket.take(RATE, start + wait).is_ok());
        assert!(!bucket.is_full(RATE, start + wait));
        assert!(bucket.is_full(RATE, start + Duration::from_secs(1)));
    }

    #[test]
    fn debts_are_paid_in_time_and_time_does_not_go_back() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::full(RATE, start);
        bucket.charge(23.0, RATE, start);
        assert_eq!(bucket.wait(RATE, start), Duration::from_secs(2));
        assert_eq!(bucket.wait(RATE, start - Duration::from_secs(5)), Duration::from_secs(2));
        assert_eq!(bucket.wait(RATE, start + Duration::from_secs(2)), Duration::ZERO);
    }
}
