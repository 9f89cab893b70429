//! Bitrates, kept in two ways: [`RateMeter`] slides a window over what it is told of each packet;
//! [`CounterRate`] looks once a second at a counter that is kept anyway, and costs a packet
//! nothing.
//!
//! Worked trace of a meter, window 1 s, so buckets of 50 ms: 1250 bytes every 10 ms is 1 Mbit/s.
//! After one second 20 buckets hold 6250 bytes each, 125 000 bytes in all, and `bps` says
//! 1 000 000. Half a second of silence empties ten of them: 500 000. After a full second of
//! silence: 0.
//!
//! Worked trace of a counter's rate: sampled at 10 s (0 bytes) and 11 s (125 000). At 11 s, and at
//! 11.5 s with 187 500 bytes, it looks back to 10 s: 1 000 000. Sampled at 12 s (250 000) it looks
//! back to 11 s.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// Buckets a window is cut into. More would follow the rate more smoothly and cost memory in every
/// stream; with 20 the window is at most 5 % too short.
const BUCKETS: usize = 20;

/// A young meter divides by the time it has run, but by no less than this part of the window, so
/// that the first packet does not look like a flood.
const YOUNGEST_PART: u64 = 4;

/// Counts bytes and says bits per second over the last window.
#[derive(Debug, Clone)]
pub struct RateMeter {
    bucket_nanos: u64,
    /// Nanoseconds at which the newest bucket ends: until then nothing is divided.
    ends_at_nanos: u64,
    /// Place of the newest bucket in `bytes`.
    slot: usize,
    /// Number of the newest bucket, counted from the origin of time.
    newest: u64,
    /// Number of the bucket with which the present activity began.
    began: u64,
    total_bytes: u64,
    bytes: [u32; BUCKETS],
}

impl RateMeter {
    /// A meter that looks back over `window`.
    pub fn new(window: Duration) -> Self {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        RateMeter {
            bucket_nanos: (nanos / BUCKETS as u64).max(1),
            ends_at_nanos: (nanos / BUCKETS as u64).max(1),
            slot: 0,
            newest: 0,
            began: 0,
            total_bytes: 0,
            bytes: [0; BUCKETS],
        }
    }

    /// Counts `bytes` at `now`.
    pub fn add(&mut self, now: Time, bytes: usize) {
        self.advance(now);
        if self.total_bytes == 0 {
            self.began = self.newest;
        }
        let slot = &mut self.bytes[self.slot];
        let room = u32::MAX - *slot;
        let added = u32::try_from(bytes).unwrap_or(u32::MAX).min(room);
        *slot += added;
        self.total_bytes += u64::from(added);
    }

    /// Whether the present activity has lasted a whole window, as of the last call with a time.
    pub fn is_full(&self) -> bool {
        self.newest - self.began >= BUCKETS as u64
    }

    /// Bits per second over the window that ends at `now`.
    pub fn bps(&mut self, now: Time) -> u32 {
        self.advance(now);
        let buckets = BUCKETS as u64;
        let covered = (self.newest - self.began + 1).clamp(buckets / YOUNGEST_PART, buckets);
        let nanos = u128::from(covered) * u128::from(self.bucket_nanos);
        let bits_per_second = u128::from(self.total_bytes) * 8 * 1_000_000_000 / nanos;
        u32::try_from(bits_per_second).unwrap_or(u32::MAX)
    }

    /// A clock that stands or goes back counts into the newest bucket.
    fn advance(&mut self, now: Time) {
        if now.as_nanos() >= self.ends_at_nanos {
            self.open_bucket(now.as_nanos() / self.bucket_nanos);
        }
    }

    /// Empties the buckets between the newest and number `current`, which becomes the newest.
    fn open_bucket(&mut self, current: u64) {
        let steps = current.saturating_sub(self.newest);
        if steps == 0 {
            return;
        }
        if steps >= BUCKETS as u64 {
            self.bytes = [0; BUCKETS];
            self.total_bytes = 0;
        } else {
            for number in self.newest + 1..=current {
                let slot = &mut self.bytes[(number % BUCKETS as u64) as usize];
                self.total_bytes -= u64::from(*slot);
                *slot = 0;
            }
        }
        self.newest = current;
        self.slot = (current % BUCKETS as u64) as usize;
        self.ends_at_nanos = current.saturating_add(1).saturating_mul(self.bucket_nanos);
        if self.total_bytes == 0 {
            self.began = current;
        }
    }
}

/// A young rate divides by no less than this, so that the first packet does not look like a flood.
const YOUNGEST_NANOS: u128 = 250_000_000;

/// Bits per second of a byte counter since the sample before the last one.
#[derive(Debug, Clone)]
pub struct CounterRate {
    /// Bytes counted, and when.
    older: (Time, u64),
    newer: (Time, u64),
}

impl CounterRate {
    /// Of a counter that stands at 0 at `now`.
    pub const fn new(now: Time) -> Self {
        CounterRate { older: (now, 0), newer: (now, 0) }
    }

    /// Notes where the counter stands. To be called once a second, or however long is to be looked
    /// back at least.
    pub const fn sample(&mut self, now: Time, bytes: u64) {
        self.older = self.newer;
        self.newer = (now, bytes);
    }

    /// Bits per second up to `now`, when the counter stands at `bytes`.
    pub fn bps(&self, now: Time, bytes: u64) -> u32 {
        let (began, before) = self.older;
        let nanos = now.since(began).as_nanos().max(YOUNGEST_NANOS);
        let bits_per_second = u128::from(bytes.saturating_sub(before)) * 8 * 1_000_000_000 / nanos;
        u32::try_from(bits_per_second).unwrap_or(u32::MAX)
    }
}

/// Lets a number of things pass in each second, which begins with the first of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerSecond {
    began: Time,
    passed: u32,
}

impl PerSecond {
    /// Whether one more may pass now, of so many in a second.
    pub fn admit(&mut self, now: Time, most: u32) -> bool {
        if now.since(self.began) >= Duration::from_secs(1) {
            *self = PerSecond { began: now, passed: 0 };
        }
        let admitted = self.passed < most;
        self.passed += u32::from(admitted);
        admitted
    }
}

/// Lets so many pass in a second, evenly: after a burst as many as the time since has earned. A
/// sender that adapts loses some of what is too much, and not all of the rest of a second.
#[derive(Debug, Clone, Default)]
pub struct Evenly {
    /// When all that have passed would have, one after the other (GCRA, ITU-T I.371).
    due: Time,
}

impl Evenly {
    /// Whether one more may pass now, of so many a second and so many at once.
    pub fn admit(&mut self, now: Time, most: u32, at_once: u32) -> bool {
        let interval = Duration::from_secs(1) / most.max(1);
        let due = self.due.max(now);
        let admitted = due.since(now) < interval * at_once;
        if admitted {
            self.due = due + interval;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_as_many_pass_as_the_time_since_has_earned() {
        let mut bound = Evenly::default();
        let mut pass = |ms, count: usize| {
            let now = Time::from_millis(ms);
            (0..count).filter(|_| bound.admit(now, 1000, 100)).count()
        };
        let table = [(5_000, 500, 100), (5_001, 500, 1), (5_051, 20, 20), (5_051, 500, 30)];
        for (ms, offered, passed) in table {
            assert_eq!(pass(ms, offered), passed, "{offered} at {ms} ms");
        }
        assert_eq!(pass(60_000, 500), 100, "a long silence earns no more");
    }

    #[test]
    fn so_many_pass_in_each_second() {
        let mut bound = PerSecond::default();
        for start in [5, 6, 9] {
            let now = Time::ZERO + Duration::from_secs(start);
            assert_eq!((0..10).filter(|_| bound.admit(now, 4)).count(), 4);
            assert!(!bound.admit(now + Duration::from_millis(999), 4));
        }
    }

    #[test]
    fn a_counters_rate_follows_the_worked_trace() {
        let at = Time::from_millis;
        let mut rate = CounterRate::new(at(10_000));
        assert_eq!(rate.bps(at(10_000), 1250), 40_000, "one packet over a quarter of a second");
        rate.sample(at(11_000), 125_000);
        assert_eq!(rate.bps(at(11_000), 125_000), 1_000_000);
        assert_eq!(rate.bps(at(11_500), 187_500), 1_000_000);
        rate.sample(at(12_000), 250_000);
        rate.sample(at(13_000), 250_000);
        assert_eq!(rate.bps(at(13_000), 250_000), 0);
        assert_eq!(rate.bps(at(0), u64::MAX), u32::MAX);
    }

    const WINDOW: Duration = Duration::from_secs(1);

    /// Feeds 1250 bytes every 10 ms over `[from, to)` milliseconds.
    fn feed(meter: &mut RateMeter, from_ms: u64, to_ms: u64) {
        for ms in (from_ms..to_ms).step_by(10) {
            meter.add(Time::from_millis(ms), 1250);
        }
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut meter = RateMeter::new(WINDOW);
        feed(&mut meter, 10_000, 11_000);
        assert_eq!(meter.bps(Time::from_millis(10_999)), 1_000_000);
        assert_eq!(meter.bps(Time::from_millis(11_499)), 500_000);
        assert_eq!(meter.bps(Time::from_millis(11_999)), 0);
    }

    #[test]
    fn a_young_meter_neither_shouts_nor_whispers() {
        let mut meter = RateMeter::new(WINDOW);
        meter.add(Time::from_millis(5_000), 1250);
        assert_eq!(meter.bps(Time::from_millis(5_000)), 40_000, "one packet over a quarter window");
        feed(&mut meter, 5_010, 5_500);
        assert_eq!(meter.bps(Time::from_millis(5_499)), 1_000_000, "half a window is enough");
    }

    #[test]
    fn starts_afresh_after_silence() {
        let mut meter = RateMeter::new(WINDOW);
        feed(&mut meter, 0, 1_000);
        feed(&mut meter, 60_000, 60_500);
        assert_eq!(meter.bps(Time::from_millis(60_499)), 1_000_000);
    }

    #[test]
    fn survives_extremes() {
        let mut meter = RateMeter::new(Duration::ZERO);
        meter.add(Time::NEVER, usize::MAX);
        meter.add(Time::ZERO, usize::MAX);
        assert_eq!(meter.bps(Time::NEVER), u32::MAX);

        let mut meter = RateMeter::new(Duration::MAX);
        meter.add(Time::from_millis(1), 10);
        assert_eq!(meter.bps(Time::NEVER), 0);
    }
}
