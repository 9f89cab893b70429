//! A timer wheel: what is due again and again, of thousands of transports, at the cost of one
//! write.
#![forbid(unsafe_code)]

/// Nanoseconds of a bucket as a power of two: 65 µs, so that what falls into one bucket is no
/// burst.
const BUCKET_SHIFT: u32 = 16;

/// Buckets of the wheel: it reaches 1.07 s ahead, beyond the longest interval.
const BUCKETS: usize = 1 << 14;

/// How far ahead a timer may be set, nanoseconds.
pub const REACH_NS: u64 = ((BUCKETS - 2) as u64) << BUCKET_SHIFT;

/// Timers of any kind.
pub struct Wheel<T> {
    buckets: Box<[Vec<(u64, T)>]>,
    /// The bucket that is run next.
    next: u64,
    /// What is being run, so that it may set itself again.
    running: Vec<(u64, T)>,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that begins to turn at `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        Wheel {
            buckets: std::iter::repeat_with(Vec::new).take(BUCKETS).collect(),
            next: now_ns >> BUCKET_SHIFT,
            running: Vec::new(),
            len: 0,
        }
    }

    /// Sets a timer. What is due already runs with the next bucket, what is too far ahead at the
    /// wheel's reach.
    pub fn set(&mut self, due_ns: u64, timer: T) {
        let wanted = due_ns >> BUCKET_SHIFT;
        let bucket = wanted.clamp(self.next, self.next + BUCKETS as u64 - 1);
        if let Some(timers) = self.buckets.get_mut(bucket as usize % BUCKETS) {
            timers.push((due_ns, timer));
            self.len += 1;
        }
    }

    /// The next bucket's timers if it is over at `now_ns`: a timer runs up to a bucket late, never
    /// early. Give them back with [`done`](Self::done).
    pub fn take_due(&mut self, now_ns: u64) -> Option<Vec<(u64, T)>> {
        let over = now_ns >> BUCKET_SHIFT;
        while self.len > 0 && self.next < over {
            let bucket = self.buckets.get_mut(self.next as usize % BUCKETS)?;
            self.next += 1;
            if !bucket.is_empty() {
                self.len -= bucket.len();
                let spare = std::mem::take(&mut self.running);
                return Some(std::mem::replace(bucket, spare));
            }
        }
        self.next = self.next.max(over);
        None
    }

    /// Takes back what [`take_due`](Self::take_due) gave, so that its memory is used again.
    pub fn done(&mut self, mut timers: Vec<(u64, T)>) {
        timers.clear();
        self.running = timers;
    }

    /// When to look again: the end of the first bucket with timers, but at most `limit_ns` ahead.
    pub fn next_due(&self, now_ns: u64, limit_ns: u64) -> u64 {
        let limit = now_ns + limit_ns;
        let mut bucket = self.next;
        while bucket << BUCKET_SHIFT < limit {
            if self.buckets.get(bucket as usize % BUCKETS).is_some_and(|timers| !timers.is_empty())
            {
                return limit.min((bucket + 1) << BUCKET_SHIFT);
            }
            bucket += 1;
        }
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Turns the wheel to `now_ns`; what ran, with how late.
    fn turn(wheel: &mut Wheel<u32>, now_ns: u64) -> Vec<(u32, u64)> {
        let mut ran = Vec::new();
        while let Some(timers) = wheel.take_due(now_ns) {
            ran.extend(timers.iter().map(|&(due, timer)| (timer, now_ns - due)));
            wheel.done(timers);
        }
        ran
    }

    #[test]
    fn a_timer_runs_once_never_early_and_a_bucket_late_at_most() {
        let mut wheel = Wheel::new(1000 * MS);
        for n in 0..500 {
            wheel.set(1000 * MS + u64::from(n) * 1_999_999, n);
        }
        let mut seen = [0; 500];
        for step in 0..20_000 {
            let now = 1000 * MS + step * 50_000;
            for (timer, late) in turn(&mut wheel, now) {
                seen[timer as usize] += 1;
                assert!(late <= (1 << BUCKET_SHIFT) + 50_000, "{timer} is {late} ns late");
            }
        }
        assert!(seen.iter().all(|&count| count == 1));
    }

    #[test]
    fn a_timer_that_sets_itself_again_keeps_its_rate() {
        let mut wheel = Wheel::new(0);
        wheel.set(5 * MS, 7);
        let mut ran = 0;
        for now in (0..1000).map(|ms| ms * MS) {
            while let Some(timers) = wheel.take_due(now) {
                for &(due, timer) in &timers {
                    ran += 1;
                    wheel.set(due + 20 * MS, timer);
                }
                wheel.done(timers);
            }
        }
        assert_eq!(ran, 50);
    }

    #[test]
    fn after_a_long_stall_everything_is_made_up_for() {
        let mut wheel = Wheel::new(0);
        wheel.set(MS, 1);
        wheel.set(900 * MS, 2);
        assert_eq!(turn(&mut wheel, 60_000 * MS).len(), 2);
        wheel.set(60_001 * MS, 3);
        assert!(turn(&mut wheel, 60_000 * MS).is_empty());
        assert_eq!(turn(&mut wheel, 60_002 * MS).len(), 1);
    }

    #[test]
    fn what_is_due_already_and_what_is_too_far_ahead_run_nevertheless() {
        let mut wheel = Wheel::new(100 * MS);
        wheel.set(MS, 1);
        wheel.set(100_000 * MS, 2);
        let ran = turn(&mut wheel, 101 * MS);
        assert_eq!(ran.len(), 1);
        let mut now = 101 * MS;
        while turn_len(&mut wheel, now) == 0 {
            now += MS;
        }
        assert!(now - 100 * MS >= REACH_NS - MS, "{now}");
    }

    fn turn_len(wheel: &mut Wheel<u32>, now_ns: u64) -> usize {
        let mut count = 0;
        while let Some(timers) = wheel.take_due(now_ns) {
            count += timers.len();
            wheel.done(timers);
        }
        count
    }

    #[test]
    fn the_next_look_is_at_the_first_timer_or_the_limit() {
        let mut wheel = Wheel::new(0);
        assert_eq!(wheel.next_due(0, 5 * MS), 5 * MS);
        wheel.set(2 * MS, 1);
        let due = wheel.next_due(0, 5 * MS);
        assert!((2 * MS..2 * MS + (1 << BUCKET_SHIFT) + 1).contains(&due), "{due}");
        assert_eq!(wheel.next_due(0, MS), MS);
    }
}
