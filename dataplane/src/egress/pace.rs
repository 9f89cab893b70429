//! The pace at which pictures leave for one client.
//!
//! A bucket as [`crate::egress::limit`] has one, of less depth and at the rate that the path is
//! thought to carry. What does not fit waits ([`crate::egress::waiting`]): a picture of usual size
//! leaves whole and at once, in one train, and of a key frame the beginning does. What the path
//! cannot carry would wait in its queues anyway, or be lost in them.
//!
//! Worked trace of 2 Mbit/s, so 4000 ns for a byte, and 40 ms ahead: after a pause 10 000 bytes may
//! leave at once. Of a key frame of 20 000 bytes the rest leaves within the next 40 ms, 1250 bytes
//! each 5 ms. A picture that comes then is sent behind it.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::time::Time;

use crate::egress::limit::{ABOVE_BUDGET_PERCENT, BURST_BYTES, BURST_NANOS, FRACTIONS};

/// Of an estimate so much is sent when what waits is late, percent: else a source that fills the
/// estimate would never be caught up with. Before that, all of it and no more: with a tenth more a
/// queue of 50 ms overflows behind a key frame.
const OF_ESTIMATE_LATE_PERCENT: u64 = 115;

/// The same of an estimate that no feedback has confirmed yet.
const OF_FIRST_ESTIMATE_PERCENT: u64 = 250;

/// How far ahead of the estimated rate pictures may be: a picture at 30 a second that takes all of
/// the estimate leaves whole. More would be more than the shortest queues hold.
const ESTIMATED_BURST_NANOS: u64 = 40_000_000;

/// The same in bytes at least: a packet, whatever the rate.
const ESTIMATED_BURST_BYTES: u64 = 3_000;

/// The least pace, that of the least estimate: a budget may be nothing.
const LEAST_BPS: u64 = 5_000;

/// Voices leave at any time and take of the pace; so long they may hold pictures up at most.
const DEBT_MAX: Duration = Duration::from_millis(500);

/// What waits leaves in steps of this, the same ones for all clients of a core: one wake-up serves
/// many, and each gets trains.
pub const SLOT: Duration = Duration::from_millis(5);

/// What a pace follows from, bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The most that the client may be sent.
    pub budget_bps: u64,
    /// What its path is estimated to carry, if anybody estimates that.
    pub estimate_bps: Option<u64>,
    /// Whether the client has confirmed that estimate.
    pub is_confirmed: bool,
    /// Whether what waits is late.
    pub is_late: bool,
}

/// How far pictures are ahead of their rate.
#[derive(Debug, Clone)]
pub struct Pace {
    /// When all that left has passed at the rate.
    ahead_until: Time,
    /// In 1/[`FRACTIONS`] of a nanosecond.
    time_per_byte: u32,
    burst_nanos: u32,
}

impl Pace {
    /// Of a client to which nothing was sent yet.
    pub fn new(rate: Rate) -> Self {
        let mut pace = Pace { ahead_until: Time::ZERO, time_per_byte: 0, burst_nanos: 0 };
        pace.set(rate);
        pace
    }

    /// From now on at this rate. What has left already counts as it did.
    pub fn set(&mut self, rate: Rate) {
        let most_bps = rate.budget_bps * ABOVE_BUDGET_PERCENT / 100;
        let percent = match (rate.is_confirmed, rate.is_late) {
            (false, _) => OF_FIRST_ESTIMATE_PERCENT,
            (true, false) => 100,
            (true, true) => OF_ESTIMATE_LATE_PERCENT,
        };
        let paced_bps = rate.estimate_bps.map(|bps| bps.saturating_mul(percent) / 100);
        let bps = paced_bps.map_or(most_bps, |paced| paced.min(most_bps)).max(LEAST_BPS);
        let time = (1_000_000_000 * FRACTIONS).div_ceil(bps / 8);
        self.time_per_byte = u32::try_from(time).unwrap_or(u32::MAX).max(1);
        let (nanos, bytes) = match rate.estimate_bps {
            Some(_) => (ESTIMATED_BURST_NANOS, ESTIMATED_BURST_BYTES),
            None => (BURST_NANOS, BURST_BYTES),
        };
        let burst = nanos.max(self.nanos(bytes));
        self.burst_nanos = u32::try_from(burst).unwrap_or(u32::MAX);
    }

    /// Whether so many packets of whatever length may leave now.
    #[inline]
    pub fn has_room(&self, now: Time, packets: usize) -> bool {
        self.admits(now, packets * OUTGOING_PACKET_MAX)
    }

    /// Whether so many bytes may leave now.
    #[inline]
    pub fn admits(&self, now: Time, bytes: usize) -> bool {
        let ahead = self.ahead_until.as_nanos().saturating_sub(now.as_nanos());
        ahead.saturating_add(self.nanos(bytes as u64)) <= u64::from(self.burst_nanos)
    }

    /// Notes bytes that leave.
    #[inline]
    pub fn spend(&mut self, now: Time, bytes: usize) {
        let until = self.ahead_until.max(now).as_nanos() + self.nanos(bytes as u64);
        let most = now.as_nanos() + DEBT_MAX.as_nanos() as u64;
        self.ahead_until = Time::from_nanos(until.min(most));
    }

    /// When so many bytes may leave, at the rate of now.
    pub fn ready_at(&self, bytes: usize) -> Time {
        let until = self.ahead_until.as_nanos().saturating_add(self.nanos(bytes as u64));
        Time::from_nanos(until.saturating_sub(self.burst_nanos.into()))
    }

    /// How long so many bytes take at the rate of now.
    pub fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_nanos(self.nanos(bytes as u64))
    }

    #[inline]
    fn nanos(&self, bytes: u64) -> u64 {
        bytes * u64::from(self.time_per_byte) / FRACTIONS
    }
}

/// The beginning of the first slot after `now` that is not before `ready`.
pub fn slot_after(now: Time, ready: Time) -> Time {
    let slot = SLOT.as_nanos() as u64;
    let earliest = ready.as_nanos().max(now.as_nanos().saturating_add(1));
    Time::from_nanos(earliest.div_ceil(slot).saturating_mul(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP_BPS: u64 = 6_000_000;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn estimated(bps: u64) -> Rate {
        let estimate_bps = Some(bps);
        Rate { budget_bps: CAP_BPS, estimate_bps, is_confirmed: true, is_late: false }
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut pace = Pace::new(estimated(2_000_000));
        assert!(pace.admits(at(1_000), 10_000) && !pace.admits(at(1_000), 10_001));
        pace.spend(at(1_000), 10_000);
        assert!(!pace.admits(at(1_000), 1));
        assert!(pace.admits(at(1_005), 1_250) && !pace.admits(at(1_005), 1_251));
        assert_eq!(pace.ready_at(1_250), at(1_005));
        assert_eq!(slot_after(at(1_000), pace.ready_at(1_250)), at(1_005));
        assert_eq!(pace.time_of(10_000).as_millis(), 40);
        pace.spend(at(1_040), 10_000);
        assert!(pace.admits(at(1_080), 10_000), "and 40 ms later all is as before");
    }

    #[test]
    fn the_rate_is_the_least_of_what_bounds_it() {
        // Budget and estimate in kbit/s, how it stands with that, and bytes that leave in 40 ms.
        let cases = [
            (6_000, Some(2_000), "confirmed", 10_000),
            (6_000, Some(2_000), "late", 11_500),
            (6_000, Some(600), "first", 7_500),
            (6_000, Some(6_000), "late", 31_500),
            (1_000, Some(2_000), "first", 5_250),
        ];
        for (budget, estimate, stands, bytes) in cases {
            let rate = Rate {
                budget_bps: budget * 1_000,
                estimate_bps: estimate.map(|kbps: u64| kbps * 1_000),
                is_confirmed: stands != "first",
                is_late: stands == "late",
            };
            let pace = Pace::new(rate);
            assert!(pace.admits(at(0), bytes - 10) && !pace.admits(at(0), bytes + 10), "{rate:?}");
        }
        // Without an estimate as the budget has it.
        let pace = Pace::new(Rate { estimate_bps: None, ..estimated(0) });
        assert!(pace.admits(at(0), 74_800) && !pace.admits(at(0), 74_820));
    }

    #[test]
    fn whatever_the_rate_a_packet_leaves_at_last() {
        for bps in [0, 1, 5_000, 100_000, u64::MAX / 1_000] {
            let mut pace = Pace::new(estimated(bps));
            assert!(pace.admits(at(0), 1_500), "{bps}");
            pace.spend(at(0), usize::MAX >> 32);
            assert!(pace.admits(at(4_800), 1_500), "{bps}");
            assert!(slot_after(at(0), pace.ready_at(usize::MAX >> 32)) > at(0));
        }
    }

    #[test]
    fn voices_hold_pictures_up_for_a_while_only() {
        let mut pace = Pace::new(estimated(5_000));
        for _ in 0..100 {
            pace.spend(at(1_000), 160);
        }
        pace.set(estimated(2_000_000));
        assert!(!pace.admits(at(1_450), 1_200));
        assert!(pace.admits(at(1_470), 1_200));
    }

    #[test]
    fn slots_are_the_same_for_everyone() {
        assert_eq!(slot_after(at(10), at(0)), at(15), "never at once");
        assert_eq!(slot_after(at(10), at(12)), at(15));
        assert_eq!(slot_after(at(10), at(15)), at(15));
        assert_eq!(slot_after(at(11), at(16)), at(20));
        assert!(slot_after(Time::ZERO, Time::NEVER) > at(1));
    }
}
