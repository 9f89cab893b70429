//! When a consumer may have a better layer: not right after one turned out to be too much, and
//! later each time that happens.
//!
//! Worked trace:
//!
//! ```text
//!  0 s  up                           16 s  up again
//!  3 s  down, within 10 s: failed    18 s  down: failed; not before 21 s (2 s · 1.5)
//!       not before 5 s (2 s)         22 s  up, and stays: from 32 s on the next wait is 2 s again
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// A layer that goes within this was too much.
const TRIED: Duration = Duration::from_secs(10);

/// How long is waited after a first failure, how much longer after each further, and at most.
const WAIT_FIRST: Duration = Duration::from_secs(2);
const WAIT_FACTOR: f64 = 1.5;
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Rises of one consumer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rise {
    /// What it had at the last allocation, and when it last rose.
    had: Option<u8>,
    rose_at: Option<Time>,
    /// How long the last failure made it wait, and until when.
    wait: Duration,
    not_before: Time,
}

impl Rise {
    /// Whether it may have a better layer now.
    pub fn may_rise(&self, now: Time) -> bool {
        now >= self.not_before
    }

    /// Takes what it has at an allocation, and whether that takes some of it away.
    pub fn on_allocated(&mut self, now: Time, current: Option<u8>, is_lowered: bool) {
        if let (Some(had), Some(current)) = (self.had, current)
            && current > had
        {
            self.rose_at = Some(now);
        }
        self.had = current.or(self.had);
        let Some(rose_at) = self.rose_at else { return };
        if now.since(rose_at) >= TRIED {
            *self = Rise { had: self.had, ..Rise::default() };
        } else if is_lowered {
            self.wait = self.wait.mul_f64(WAIT_FACTOR).clamp(WAIT_FIRST, WAIT_MAX);
            self.not_before = now + self.wait;
            self.rose_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut rise = Rise::default();
        rise.on_allocated(at(100), Some(0), false);
        rise.on_allocated(at(101), Some(1), false);
        assert!(rise.may_rise(at(103)));
        rise.on_allocated(at(103), Some(1), true);
        assert!(!rise.may_rise(at(104)) && rise.may_rise(at(105)));
        rise.on_allocated(at(104), Some(0), false);
        rise.on_allocated(at(116), Some(1), false);
        rise.on_allocated(at(118), Some(1), true);
        assert!(!rise.may_rise(at(120)) && rise.may_rise(at(121)));
        rise.on_allocated(at(119), Some(0), false);
        rise.on_allocated(at(122), Some(1), false);
        rise.on_allocated(at(132), Some(1), true);
        assert!(rise.may_rise(at(132)), "it was there for long");
        rise.on_allocated(at(133), Some(0), false);
        rise.on_allocated(at(135), Some(1), false);
        rise.on_allocated(at(136), Some(1), true);
        assert!(rise.may_rise(at(138)), "a first failure again");
    }

    #[test]
    fn waits_no_longer_than_half_a_minute() {
        let mut rise = Rise::default();
        let mut now = 100;
        for _ in 0..20 {
            rise.on_allocated(at(now), Some(0), false);
            rise.on_allocated(at(now + 1), Some(1), false);
            rise.on_allocated(at(now + 2), Some(1), true);
            assert!(rise.may_rise(at(now + 32)));
            now += 40;
        }
        assert!(!rise.may_rise(at(now - 40 + 31)));
    }
}
