//! The one clock of the process.
#![forbid(unsafe_code)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opencall_wire::time::{NtpTime, Time, WallClock};

/// The one clock of the process, as every core and control read it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    wall: WallClock,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallClock { origin: NtpTime::from_unix(since_epoch) };
        Clock { origin: Instant::now(), wall }
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
