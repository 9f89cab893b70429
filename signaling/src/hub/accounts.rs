//! Who pays for control's work: each connection, each address and each room has an account, and
//! whoever has used more than its share is read from again only when the account has recovered.
//!
//! Nothing is refused: TCP slows the author of a flood down, and nobody else notices.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use opencall_control::Work;
use opencall_wire::time::Time;

/// How much work may be had, at once and in the long run.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Units per second.
    pub per_second: u32,
    /// Units at once.
    pub burst: u32,
}

/// Work for all connections of one address. An office behind one address that enters a meeting of
/// 100 at once makes some 150,000 units; in the long run a tenth of what control can do.
pub const ADDRESS_RATE: Rate = Rate { per_second: 20_000, burst: 400_000 };

/// Work for all members of one room: 100 people entering a room of 100 within a second make some
/// 100,000 units.
pub const ROOM_RATE: Rate = Rate { per_second: 50_000, burst: 1_000_000 };

/// Work for all administrators together: a page of them that looks at a room of 500 each second
/// makes some 1,000 units a second. A tenth of what control can do at most.
pub const ADMINISTRATORS_RATE: Rate = Rate { per_second: 20_000, burst: 100_000 };

/// One account: when everything charged to it is paid off (the generic cell rate algorithm of
/// ITU-T I.371).
#[derive(Debug, Clone, Copy, Default)]
pub struct Account {
    paid_off: Time,
}

impl Account {
    /// Charges work; how long to wait until there is credit again.
    pub fn charge(&mut self, now: Time, rate: Rate, work: Work) -> Duration {
        let unit = Duration::from_nanos(1_000_000_000 / u64::from(rate.per_second.max(1)));
        self.paid_off = self.paid_off.max(now) + unit.saturating_mul(work.0);
        self.paid_off.since(now).saturating_sub(unit.saturating_mul(rate.burst))
    }

    fn is_paid_off(&self, now: Time) -> bool {
        self.paid_off <= now
    }
}

/// The accounts of all addresses or rooms. One that is paid off is as good as none.
pub struct Accounts<K> {
    rate: Rate,
    accounts: HashMap<K, Account>,
}

impl<K: Eq + Hash> Accounts<K> {
    /// Without any.
    pub fn new(rate: Rate) -> Self {
        Accounts { rate, accounts: HashMap::new() }
    }

    /// Charges work to one of them; how long to wait.
    pub fn charge(&mut self, now: Time, whose: K, work: Work) -> Duration {
        self.accounts.entry(whose).or_default().charge(now, self.rate, work)
    }

    /// Forgets those that are paid off.
    pub fn prune(&mut self, now: Time) {
        self.accounts.retain(|_, account| !account.is_paid_off(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 100, burst: 1_000 };

    #[test]
    fn a_burst_is_free_and_the_rest_takes_its_time() {
        let mut account = Account::default();
        let now = Time::from_millis(5_000);
        assert_eq!(account.charge(now, RATE, Work(1_000)), Duration::ZERO);
        assert_eq!(account.charge(now, RATE, Work(50)), Duration::from_millis(500));
        let later = now + Duration::from_millis(500);
        assert_eq!(account.charge(later, RATE, Work(0)), Duration::ZERO);
        assert_eq!(account.charge(later, RATE, Work(1)), Duration::from_millis(10));
        // It recovers, but saves nothing beyond the burst.
        let much_later = now + Duration::from_secs(3_600);
        assert_eq!(account.charge(much_later, RATE, Work(1_000)), Duration::ZERO);
        assert_eq!(account.charge(much_later, RATE, Work(100)), Duration::from_secs(1));
    }

    #[test]
    fn absurd_work_does_not_overflow() {
        let mut account = Account::default();
        let rate = Rate { per_second: 1, burst: 0 };
        for _ in 0..3 {
            account.charge(Time::from_millis(1), rate, Work(u32::MAX));
        }
        let rate = Rate { per_second: 0, burst: u32::MAX };
        assert_eq!(Account::default().charge(Time::ZERO, rate, Work(1)), Duration::ZERO);
    }

    #[test]
    fn accounts_do_not_touch_each_other_and_are_forgotten_when_paid_off() {
        let mut accounts = Accounts::new(RATE);
        let now = Time::from_millis(1);
        assert!(accounts.charge(now, "a", Work(2_000)) > Duration::ZERO);
        assert_eq!(accounts.charge(now, "b", Work(10)), Duration::ZERO);
        accounts.prune(now + Duration::from_secs(1));
        assert_eq!(accounts.accounts.len(), 1);
        accounts.prune(now + Duration::from_secs(20));
        assert!(accounts.accounts.is_empty());
    }
}
