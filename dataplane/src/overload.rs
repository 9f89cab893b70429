//! Overload: more arrives than a core can forward, and pictures give way so that voices need not.
//!
//! A core that keeps up finds its sockets empty between bursts. One that does not fills its receive
//! batch in every turn, and what it does not read the kernel drops, whatever it is. So when all
//! batches of a fifth of a second were full, each client's pictures get a ceiling: at first a part
//! of what the clients of this core are sent on average, which spares small rooms; less of it as
//! long as the core stays behind. Layers follow at once, and senders stop what nobody takes. While
//! the core is behind it does not answer NACKs of pictures either: lost packets are what overload
//! makes, and sending them again makes more of it.
//!
//! Worked trace; clients are sent 4 Mbit/s on average, and 2.4 is what the core can do:
//!
//! ```text
//! 10.0 s   the batch is full, and so are those that follow
//! 10.2 s   behind: ceiling 2.8 Mbit/s
//! 10.8 s   still behind: ceiling 1.96; the next batch is not full
//! 12.8 s   caught up for 2 s: ceiling 2.25, and 15 % more each second
//! 13.8 s   2.59: behind again, so 1.81 and the next rise only after 4 s
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use crate::core::Core;
use crate::message::Event;
use crate::store::TransportKey;

/// Behind is a core all of whose batches were full for so long: a burst is over sooner.
const BEHIND: Duration = Duration::from_millis(200);

/// And for so many turns at least: one turn may take long for other reasons.
const BEHIND_TURNS: u32 = 4;

/// Time between two steps down: key frames and senders that stop layers take a while to show.
const STEP: Duration = Duration::from_millis(600);

/// What a step down leaves, percent.
const LOWER_PERCENT: u64 = 70;

/// A step up, percent.
const RAISE_PERCENT: u64 = 115;

/// Time between two steps up.
const RAISE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a core keeps up before its ceiling rises; twice as long each time the rise was too
/// much.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(32);

/// A rise was too much if the core falls behind so soon after it.
const RISE_IS_BLAMED_FOR: Duration = Duration::from_secs(5);

/// The lowest ceiling: below it is no picture worth sending.
pub const FLOOR_BPS: u64 = 64_000;

/// A ceiling so many times what clients were sent when it came is none.
const RELEASE_FACTOR: u64 = 4;

/// Bits per second that each client's pictures may take.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    bps: u64,
    release_bps: u64,
    lowered_at: Time,
    raised_at: Time,
    patience: Duration,
}

impl Ceiling {
    fn lower(&mut self, now: Time) {
        if self.raised_at > self.lowered_at && now.since(self.raised_at) < RISE_IS_BLAMED_FOR {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        self.bps = (self.bps * LOWER_PERCENT / 100).max(FLOOR_BPS);
        self.lowered_at = now;
    }

    fn raise_due(&self) -> Time {
        match self.raised_at > self.lowered_at {
            true => self.raised_at + RAISE_INTERVAL,
            false => self.lowered_at + self.patience,
        }
    }
}

/// Whether a core keeps up, and what its pictures may take while it does not.
#[derive(Debug, Clone, Default)]
pub struct Overload {
    /// Since when every batch was full, and how many.
    behind: Option<(Time, u32)>,
    ceiling: Option<Ceiling>,
}

impl Overload {
    /// Whether [`on_turn`](Self::on_turn) need not be called for a batch that is not full.
    #[inline]
    pub fn is_calm(&self) -> bool {
        self.behind.is_none() && self.ceiling.is_none()
    }

    /// Whether the core is behind now.
    pub fn is_behind(&self, now: Time) -> bool {
        self.behind
            .is_some_and(|(since, turns)| turns >= BEHIND_TURNS && now.since(since) >= BEHIND)
    }

    /// What each client's pictures may take, bits per second.
    #[inline]
    pub fn ceiling_bps(&self) -> Option<u64> {
        self.ceiling.map(|ceiling| ceiling.bps)
    }

    /// A turn begins with a batch that is `full` or not; `sent_bps` says what a client is sent now
    /// on average. True if the ceiling has changed.
    pub fn on_turn(&mut self, now: Time, full: bool, sent_bps: impl FnOnce() -> u64) -> bool {
        if !full {
            self.behind = None;
            return self.raise(now);
        }
        let (_, turns) = self.behind.get_or_insert((now, 0));
        *turns = turns.saturating_add(1);
        if !self.is_behind(now) {
            return false;
        }
        match &mut self.ceiling {
            Some(ceiling) if now.since(ceiling.lowered_at) < STEP => return false,
            Some(ceiling) if ceiling.bps == FLOOR_BPS => return false,
            Some(ceiling) => ceiling.lower(now),
            none => {
                let sent_bps = sent_bps();
                *none = Some(Ceiling {
                    bps: (sent_bps * LOWER_PERCENT / 100).max(FLOOR_BPS),
                    release_bps: (sent_bps * RELEASE_FACTOR).max(2 * FLOOR_BPS),
                    lowered_at: now,
                    raised_at: Time::ZERO,
                    patience: PATIENCE,
                });
            }
        }
        true
    }

    fn raise(&mut self, now: Time) -> bool {
        let Some(ceiling) = &mut self.ceiling else { return false };
        if now < ceiling.raise_due() {
            return false;
        }
        ceiling.bps = ceiling.bps * RAISE_PERCENT / 100;
        ceiling.raised_at = now;
        if ceiling.bps >= ceiling.release_bps {
            self.ceiling = None;
        }
        true
    }
}

impl Core {
    /// Looks whether the core keeps up: to be called as a turn begins.
    #[inline]
    pub(crate) fn watch_load(&mut self, now: Time, batch_is_full: bool) {
        if batch_is_full || !self.overload.is_calm() {
            self.follow_load(now, batch_is_full);
        }
    }

    #[cold]
    fn follow_load(&mut self, now: Time, batch_is_full: bool) {
        let transports = &self.transports;
        let sent_bps = || {
            let sent = transports.iter().filter(|(_, transport)| !transport.consumers.is_empty());
            let (count, sum) = sent.fold((0, 0), |(count, sum), (_, transport)| {
                (count + 1, sum + u64::from(transport.send_bps(now)))
            });
            sum / u64::max(count, 1)
        };
        if !self.overload.on_turn(now, batch_is_full, sent_bps) {
            return;
        }
        let ceiling_bps = self.overload.ceiling_bps();
        self.events.push_back(Event::Overload { ceiling_bps });
        let receiving = self.transports.iter().filter(|(_, of)| !of.consumers.is_empty());
        let keys: Vec<TransportKey> = receiving.map(|(key, _)| key).collect();
        for key in keys {
            self.share_out_later(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT_BPS: u64 = 4_000_000;

    /// Turns every 20 ms from `from` until `until`, full or not: when the ceiling changed, to what.
    fn turns(load: &mut Overload, from: u64, until: u64, full: bool) -> Vec<(u64, Option<u64>)> {
        let mut changes = Vec::new();
        for ms in (from..until).step_by(20) {
            if load.on_turn(Time::from_millis(ms), full, || SENT_BPS) {
                changes.push((ms, load.ceiling_bps()));
            }
        }
        changes
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut load = Overload::default();
        let behind = turns(&mut load, 10_000, 10_820, true);
        assert_eq!(behind, [(10_200, Some(2_800_000)), (10_800, Some(1_960_000))]);
        assert!(load.is_behind(Time::from_millis(10_800)));
        let rises = turns(&mut load, 10_820, 13_820, false);
        assert_eq!(rises, [(12_800, Some(2_254_000)), (13_800, Some(2_592_100))]);
        let again = turns(&mut load, 13_820, 14_200, true);
        assert_eq!(again, [(14_020, Some(1_814_470))]);
        assert_eq!(turns(&mut load, 14_200, 18_040, false), [(18_020, Some(2_086_640))]);
    }

    #[test]
    fn bursts_are_no_overload() {
        let mut load = Overload::default();
        for burst in 0..50 {
            let from = burst * 200;
            assert_eq!(turns(&mut load, from, from + 180, true), []);
            assert_eq!(turns(&mut load, from + 180, from + 200, false), []);
        }
        assert!(load.is_calm());
        // Three turns that took long.
        for ms in [20_000, 20_150, 20_300] {
            assert!(!load.on_turn(Time::from_millis(ms), true, || SENT_BPS));
        }
    }

    #[test]
    fn a_ceiling_has_a_floor_and_an_end() {
        let mut load = Overload::default();
        let down = turns(&mut load, 0, 60_000, true);
        assert_eq!(down.last().map(|&(_, bps)| bps), Some(Some(FLOOR_BPS)));
        assert!(down.len() < 20, "nothing changes at the floor");
        let up = turns(&mut load, 60_000, 160_000, false);
        assert_eq!(up.last().map(|&(_, bps)| bps), Some(None));
        assert!(load.is_calm());
    }
}
