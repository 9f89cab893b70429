//! When to ask an encoding for a key frame (PLI, FIR): requests of all consumers merged and
//! limited.
//!
//! Worked trace; the sender needs 150 ms for a key frame, and the second request is lost:
//!
//! ```text
//! t =    0 ms  request  → ask          waiting
//! t =   40 ms  request  → merged       the key frame on its way serves both
//! t =  150 ms  key frame               idle
//! t =  200 ms  request  → deferred     less than 300 ms since the last was asked for
//! t =  300 ms  poll     → ask          waiting
//! t =  800 ms  poll     → ask again    nothing came for 500 ms
//! t =  950 ms  key frame               idle
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// Time between two requests at least. A key frame is five to ten times an ordinary frame: more
/// often, and it costs everyone's picture quality; more seldom, and late joiners wait in the dark.
pub const MIN_INTERVAL: Duration = Duration::from_millis(300);

/// A request that no key frame answers is repeated after this: a round trip, an encoding, and the
/// pacing of a large frame, together rarely more than 300 ms.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Requests in a row without an answer. Then the encoding is taken for suspended, and only a new
/// request begins again.
pub const MAX_REQUESTS: u8 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// To be asked for at this time.
    Deferred(Time),
    /// Asked for `requests` times, to be repeated at `retry`.
    Waiting {
        retry: Time,
        requests: u8,
    },
}

/// Limits key-frame requests to one encoding.
#[derive(Debug, Clone)]
pub struct KeyFrameLimiter {
    state: State,
    last_request: Option<Time>,
}

impl Default for KeyFrameLimiter {
    fn default() -> Self {
        KeyFrameLimiter::new()
    }
}

impl KeyFrameLimiter {
    /// One that waits for nothing.
    pub const fn new() -> Self {
        KeyFrameLimiter { state: State::Idle, last_request: None }
    }

    /// A limiter for the source that comes after: it has been asked for nothing, and who waits for
    /// a key frame of this one waits for its.
    pub fn take_over(&self, now: Time) -> Self {
        let state = if self.is_waiting() { State::Deferred(now) } else { State::Idle };
        KeyFrameLimiter { state, last_request: None }
    }

    /// Someone needs a key frame. Whether to ask the sender now; if not, it has been asked, or
    /// [`KeyFrameLimiter::poll`] will say when.
    pub fn request(&mut self, now: Time) -> bool {
        if self.state != State::Idle {
            return false;
        }
        match self.last_request.map(|last| last + MIN_INTERVAL) {
            Some(earliest) if now < earliest => {
                self.state = State::Deferred(earliest);
                false
            }
            _ => self.ask(now, 1),
        }
    }

    /// A key frame began to arrive: everyone who asked is served.
    pub fn on_key_frame(&mut self, _now: Time) {
        self.state = State::Idle;
    }

    /// Whether to ask the sender now. Call it when [`KeyFrameLimiter::next_timeout`] has come.
    pub fn poll(&mut self, now: Time) -> bool {
        match self.state {
            State::Deferred(at) if now >= at => self.ask(now, 1),
            State::Waiting { retry, requests } if now >= retry => {
                if requests == MAX_REQUESTS {
                    self.state = State::Idle;
                    return false;
                }
                self.ask(now, requests + 1)
            }
            _ => false,
        }
    }

    /// When to poll next.
    pub fn next_timeout(&self) -> Time {
        match self.state {
            State::Idle => Time::NEVER,
            State::Deferred(at) | State::Waiting { retry: at, .. } => at,
        }
    }

    /// Whether a key frame has been or will be asked for.
    pub fn is_waiting(&self) -> bool {
        self.state != State::Idle
    }

    /// Whether the last request repeated one that was not answered.
    pub fn is_repeated(&self) -> bool {
        matches!(self.state, State::Waiting { requests, .. } if requests > 1)
    }

    fn ask(&mut self, now: Time, requests: u8) -> bool {
        self.last_request = Some(now);
        self.state = State::Waiting { retry: now + RETRY_AFTER, requests };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut limiter = KeyFrameLimiter::new();
        assert!(limiter.request(at(0)));
        assert!(!limiter.request(at(40)));
        assert_eq!(limiter.next_timeout(), at(500));
        limiter.on_key_frame(at(150));
        assert_eq!(limiter.next_timeout(), Time::NEVER);
        assert!(!limiter.request(at(200)));
        assert_eq!(limiter.next_timeout(), at(300));
        assert!(!limiter.poll(at(299)));
        assert!(limiter.poll(at(300)));
        assert!(!limiter.poll(at(799)));
        assert!(!limiter.is_repeated());
        assert!(limiter.poll(at(800)));
        assert!(limiter.is_repeated());
        limiter.on_key_frame(at(950));
        assert!(!limiter.is_waiting());
    }

    #[test]
    fn a_key_frame_that_comes_by_itself_serves_a_deferred_request() {
        let mut limiter = KeyFrameLimiter::new();
        limiter.request(at(0));
        limiter.on_key_frame(at(100));
        limiter.request(at(150));
        limiter.on_key_frame(at(200));
        assert!(!limiter.poll(at(400)));
        assert!(limiter.request(at(400)), "long enough after the last");
    }

    #[test]
    fn gives_up_after_a_bounded_number_and_begins_again_on_request() {
        let mut limiter = KeyFrameLimiter::new();
        let mut asked = u8::from(limiter.request(at(0)));
        for ms in 0..20_000 {
            asked += u8::from(limiter.poll(at(ms)));
        }
        assert_eq!(asked, MAX_REQUESTS);
        assert_eq!(limiter.next_timeout(), Time::NEVER);
        assert!(limiter.request(at(20_000)));
    }

    #[test]
    fn another_source_is_asked_at_once_for_what_the_one_before_owed() {
        let mut limiter = KeyFrameLimiter::new();
        assert_eq!(limiter.take_over(at(5)).next_timeout(), Time::NEVER);
        limiter.request(at(10));
        let mut next = limiter.take_over(at(20));
        assert!(next.poll(at(20)));
        let mut next = limiter.take_over(at(20));
        next.on_key_frame(at(20));
        assert!(!next.poll(at(20)), "it began with one");
        assert!(next.request(at(21)), "the pause between requests is the other's");
    }

    #[test]
    fn a_crowd_that_joins_costs_one_request_per_interval() {
        let mut limiter = KeyFrameLimiter::new();
        let mut asked = 0;
        for ms in 0..3_000 {
            asked += usize::from(limiter.request(at(ms)));
            asked += usize::from(limiter.poll(at(ms)));
            if ms % 100 == 99 {
                limiter.on_key_frame(at(ms));
            }
        }
        assert_eq!(asked, 10);
    }
}
