//! The pace at which pictures leave for one client.
//!
//! A bucket as [`crate::egress::limit`] has one, of less depth and at the rate that the path is
//! thought to carry. What does not fit waits ([`crate::egress::waiting`]): a picture of usual size
//! leaves whole and at once, in one train, and of a key frame the beginning does. What the path
//! cannot carry would wait in its queues anyway, or be lost in them.
//!
//! Worked trace of 2 Mbit/s, so 2.2 Mbit/s or 3636 ns for a byte, and 30 ms ahead: after a pause
//! 8250 bytes may leave at once. Of a key frame of 20 000 bytes the rest leaves within the next
//! 43 ms, 1375 bytes each 5 ms. A picture that comes then is sent behind it.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::time::Time;

use crate::egress::limit::{ABOVE_BUDGET_PERCENT, BURST_BYTES, BURST_NANOS, FRACTIONS};

/// Of an estimate so much is sent, percent: the allocation lets what is sent exceed it by a
/// twentieth, and at less a queue would stand here.
const OF_ESTIMATE_PERCENT: u64 = 110;

/// The same when what waits is late: it is to be made good.
const OF_ESTIMATE_LATE_PERCENT: u64 = 125;

/// An estimate of so much of the budget, percent, says that the path carries all of it: only the
/// budget bounds the pace then.
const UNBOUNDED_PERCENT: u64 = 95;

/// The same of an estimate that no feedback has confirmed yet.
const OF_FIRST_ESTIMATE_PERCENT: u64 = 250;

/// How far ahead of the estimated rate pictures may be: a picture at 30 a second that takes all of
/// the estimate leaves whole. More would be more than the shortest queues hold.
const ESTIMATED_BURST_NANOS: u64 = 30_000_000;

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
            (true, false) => OF_ESTIMATE_PERCENT,
            (true, true) => OF_ESTIMATE_LATE_PERCENT,
        };
        let least_bps = rate.budget_bps * UNBOUNDED_PERCENT / 100;
        let estimate_bps = rate.estimate_bps.filter(|&bps| bps < least_bps);
        let paced_bps = estimate_bps.map(|bps| bps.saturating_mul(percent) / 100);
        let bps = paced_bps.map_or(most_bps, |paced| paced.min(most_bps)).max(LEAST_BPS);
        let time = (1_000_000_000 * FRACTIONS).div_ceil(bps / 8);
        self.time_per_byte = u32::try_from(time).unwrap_or(u32::MAX).max(1);
        let (nanos, bytes) = match estimate_bps {
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
        assert!(pace.admits(at(1_000), 8_249) && !pace.admits(at(1_000), 8_251));
        pace.spend(at(1_000), 8_249);
        assert!(!pace.admits(at(1_000), 2));
        assert!(pace.admits(at(1_005), 1_374) && !pace.admits(at(1_005), 1_377));
        assert!(pace.ready_at(1_374) <= at(1_005));
        assert_eq!(slot_after(at(1_000), pace.ready_at(1_374)), at(1_005));
        assert_eq!(pace.time_of(10_000).as_millis(), 36);
        pace.spend(at(1_043), 11_750);
        assert!(pace.admits(at(1_086), 8_249), "and 43 ms later all is as before");
    }

    #[test]
    fn the_rate_is_the_least_of_what_bounds_it() {
        // Budget and estimate in kbit/s, how it stands with that, and bytes that leave at once.
        let cases = [
            (6_000, Some(2_000), "confirmed", 8_250),
            (6_000, Some(2_000), "late", 9_375),
            (6_000, Some(600), "first", 5_625),
            (6_000, Some(5_690), "late", 23_625),
            // The path carries all of the budget.
            (6_000, Some(5_700), "confirmed", 74_812),
            (1_000, Some(2_000), "first", 32_768),
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
        assert!(!pace.admits(at(1_460), 1_200));
        assert!(pace.admits(at(1_475), 1_200));
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
