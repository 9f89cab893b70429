//! The one clock of the process.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use opencall_wire::time::{NtpTime, Time, WallClock};

/// The one clock of the process, as every core and control read it; under a supervisor that of the
/// processes before and after, too.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    wall: WallClock,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self::started(Duration::ZERO)
    }

    /// A clock that started when `CLOCK_MONOTONIC` was at `origin`, in a process before.
    pub fn started_at(origin: Duration) -> Self {
        Self::started(Self::monotonic().saturating_sub(origin))
    }

    fn started(ago: Duration) -> Self {
        let now = Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallClock { origin: NtpTime::from_unix(since_epoch.saturating_sub(ago)) };
        Clock { origin: now.checked_sub(ago).unwrap_or(now), wall }
    }

    /// The system's `CLOCK_MONOTONIC`, which all processes share.
    pub fn monotonic() -> Duration {
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
    }

    /// Time since the start.
    pub fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// The instant of [`Time::ZERO`], for libraries that want one.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Relation to the wall clock.
    pub fn wall(&self) -> WallClock {
        self.wall
    }
}
