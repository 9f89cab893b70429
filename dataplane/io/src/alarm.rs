//! Ends a core's sleep at a deadline: one timer that stays set from one sleep to the next.
//!
//! A timeout given with each sleep has the kernel program the processor's clock before it and after
//! it, which a virtual machine does in its hypervisor: measured 13–15 % of all CPU per forwarded
//! packet. A core that forwards sleeps some thousand times a second and has a deadline to sleep
//! until each time, nearly always the same one.
//!
//! Worked trace, [`GRAIN`] 4 ms: a sleep at 1.0 ms with the deadline 5.5 ms sets the timer for
//! 8 ms. Packets end that sleep and the next ones; at 5.6 ms one of those turns does what was due.
//! The next deadline is 7.1 ms: the timer, at 8 ms, is early enough. At 8 ms it goes off.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};

/// Deadlines are rounded up to multiples of this, so that those of many transports set the timer
/// 250 times a second at most. A turn does all that is due, so lateness shows only on a core that
/// has nothing to do; what is soonest there, asking for a lost packet again, waits 10 ms or more
/// anyway.
const GRAIN: Duration = Duration::from_millis(4);

/// A timer whose descriptor turns readable when it goes off.
pub(super) struct Alarm {
    timer: TimerFd,
    /// When it goes off, on the monotonic clock; `None` when it has or was never set.
    set_for: Option<Duration>,
}

impl Alarm {
    /// A timer that is not set. Fails when the process has no file descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        Ok(Alarm { timer, set_for: None })
    }

    /// What turns readable.
    pub(super) fn fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }

    /// Has it go off `timeout` from now or up to [`GRAIN`] later; or earlier, when it was set for
    /// an earlier time already.
    pub(super) fn set_within(&mut self, timeout: Duration) -> io::Result<()> {
        let now = Duration::from(clock_gettime(Clock::CLOCK_MONOTONIC)?);
        let at = round_up(now.saturating_add(timeout));
        if self.set_for.is_some_and(|set_for| set_for <= at) {
            return Ok(());
        }
        // Setting it also takes back that it has gone off before.
        let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
        self.timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.set_for = Some(at);
        Ok(())
    }

    /// Notes that it has gone off. Its descriptor stays readable until it is set again.
    pub(super) fn gone_off(&mut self) {
        self.set_for = None;
    }

    /// Whether it is set, and so not readable for a reason that was dealt with.
    pub(super) fn is_set(&self) -> bool {
        self.set_for.is_some()
    }
}

fn round_up(at: Duration) -> Duration {
    let grain = GRAIN.as_nanos();
    let nanos = at.as_nanos().div_ceil(grain) * grain;
    u64::try_from(nanos).map_or(Duration::from_nanos(i64::MAX as u64), Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_alarm_stays_and_a_later_one_is_brought_forward() {
        let mut alarm = Alarm::new().unwrap();
        assert!(!alarm.is_set());
        alarm.set_within(Duration::from_secs(60)).unwrap();
        let minute = alarm.set_for.unwrap();
        alarm.set_within(Duration::from_secs(90)).unwrap();
        assert_eq!(alarm.set_for, Some(minute));
        alarm.set_within(Duration::from_millis(1)).unwrap();
        assert!(alarm.set_for.unwrap() < minute);

        alarm.timer.wait().unwrap();
        alarm.gone_off();
        assert!(!alarm.is_set());
        alarm.set_within(Duration::MAX).unwrap();
        assert!(alarm.is_set(), "as good as never");
    }

    #[test]
    fn deadlines_are_rounded_up() {
        let millis = Duration::from_millis;
        assert_eq!(round_up(millis(8)), millis(8));
        assert_eq!(round_up(millis(8) + Duration::from_nanos(1)), millis(12));
    }
}
