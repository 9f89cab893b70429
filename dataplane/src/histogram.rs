//! How long things take, in fixed steps: for metrics, whose number of series must not depend on
//! what happens.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Upper bounds of the steps, microseconds. What takes longer than the last has a step of its own.
pub const STEPS_US: [u32; 14] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000];

/// Counts by step, and the sum of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; STEPS_US.len() + 1],
    sum_ns: u64,
}

impl Histogram {
    /// `count` things took so long.
    pub fn note(&mut self, took: Duration, count: u64) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let step = STEPS_US.iter().position(|&step| took_ns <= u64::from(step) * 1_000);
        self.counts[step.unwrap_or(STEPS_US.len())] += count;
        self.sum_ns = self.sum_ns.saturating_add(took_ns.saturating_mul(count));
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Histogram) {
        for (ours, theirs) in self.counts.iter_mut().zip(other.counts) {
            *ours += theirs;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// How many took as long as each step or less, from the shortest on; the last is all.
    pub fn cumulative(&self) -> [u64; STEPS_US.len() + 1] {
        let mut all = 0;
        self.counts.map(|count| {
            all += count;
            all
        })
    }

    /// How long all took together, seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_in_the_first_step_that_holds_it() {
        let mut histogram = Histogram::default();
        let micros = Duration::from_micros;
        histogram.note(Duration::ZERO, 1);
        histogram.note(micros(10), 2);
        histogram.note(micros(11), 4);
        histogram.note(Duration::from_secs(5), 8);
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative[..3], [3, 7, 7]);
        assert_eq!(cumulative[STEPS_US.len() - 1..], [7, 15]);
        assert!((histogram.sum_seconds() - 40.000_064).abs() < 1e-9);
        let mut twice = histogram.clone();
        twice.add(&histogram);
        assert_eq!(twice.cumulative()[STEPS_US.len()], 30);
        // Absurd times do not overflow.
        twice.note(Duration::MAX, u64::MAX / 2);
    }
}
