//! Time as the sans-IO machine sees it: a number that the caller brings.
#![forbid(unsafe_code)]

use std::ops::{Add, Sub};
use std::time::Duration;

/// Monotonic time in nanoseconds since an origin shared by every core of the process.
///
/// Unlike [`std::time::Instant`] it can be made from nothing, so that tests and the simulator own
/// the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);
    /// Later than every deadline.
    pub const NEVER: Time = Time(u64::MAX);

    /// Time from nanoseconds since the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Time from milliseconds since the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Time(millis * 1_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time in the 64-bit format of RTCP sender reports (RFC 3550 section 4): seconds since
/// 1900 in the upper half, fractions of 2^-32 s in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Seconds between the NTP era (1900) and the Unix epoch (1970).
    const UNIX_OFFSET_S: u64 = 2_208_988_800;

    /// From a duration since the Unix epoch.
    pub fn from_unix(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs() + Self::UNIX_OFFSET_S;
        let fraction = (u64::from(since_epoch.subsec_nanos()) << 32) / 1_000_000_000;
        NtpTime((seconds << 32) | fraction)
    }

    /// The middle 32 bits, as LSR and DLSR carry them: units of 1/65536 s.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

impl Add<Duration> for NtpTime {
    type Output = NtpTime;

    fn add(self, duration: Duration) -> NtpTime {
        let fraction = (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000;
        NtpTime(self.0.wrapping_add(duration.as_secs() << 32).wrapping_add(fraction))
    }
}

/// Ties the monotonic clock to the wall clock, once, so that sender reports of all cores agree.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// Wall-clock time at [`Time::ZERO`].
    pub origin: NtpTime,
}

impl WallClock {
    /// The wall-clock time at `now`.
    pub fn ntp(&self, now: Time) -> NtpTime {
        self.origin + Duration::from_nanos(now.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_of_the_unix_epoch_and_of_half_a_second() {
        assert_eq!(NtpTime::from_unix(Duration::ZERO).0, 2_208_988_800 << 32);
        let half = NtpTime::from_unix(Duration::from_millis(500));
        assert_eq!(half.0 & 0xffff_ffff, 0x8000_0000);
        assert_eq!((half + Duration::from_millis(500)).0, 2_208_988_801 << 32);
    }

    #[test]
    fn time_never_runs_backwards_past_zero() {
        assert_eq!(Time::from_millis(1) - Duration::from_secs(1), Time::ZERO);
        assert_eq!(Time::from_millis(1).since(Time::from_millis(5)), Duration::ZERO);
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
    }
}
