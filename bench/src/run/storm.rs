//! A storm of joins: what it does to the latency of those who are in their meetings.
#![forbid(unsafe_code)]

use super::crowd::Moves;
use super::director::Director;
use super::sums::Sums;
use crate::result::Storm;

impl Director<'_> {
    /// Half of the time as it is, half of the time with a storm of joins.
    pub(super) fn storm(&mut self) -> Result<Sums, String> {
        let half = self.options.duration / 2;
        let mut sums = self.measure(half, Moves::None)?;
        let during = self.measure(half, Moves::Visit)?;
        let storm = compare(&sums, &during, self.options.join_rate);
        self.result.joins_per_second = storm.joins_per_second;
        self.result.verdicts.push(verdict(&storm));
        self.result.storm = Some(storm);
        sums.merge(&during);
        Ok(sums)
    }
}

fn compare(before: &Sums, during: &Sums, wanted_joins_per_second: f64) -> Storm {
    let before_us = before.tally.latency.percentiles_us();
    let during_us = during.tally.latency.percentiles_us();
    Storm {
        wanted_joins_per_second,
        joins_per_second: during.joins_per_second(),
        p99_ratio: during_us.p99 / before_us.p99.max(1.0),
        before_us,
        during_us,
    }
}

fn verdict(storm: &Storm) -> String {
    format!(
        "joining at {:.0}/s ({:.0}/s wanted) makes the p99 of those who are there {:.2} times what it \
         was: {:.0} us before, {:.0} us during",
        storm.joins_per_second,
        storm.wanted_joins_per_second,
        storm.p99_ratio,
        storm.before_us.p99,
        storm.during_us.p99
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_told_by_what_it_does_to_the_slowest_hundredth() {
        let sums = |latency_us: u64, joined| {
            let mut sums = Sums { joined, ..Sums::default() };
            sums.usage.elapsed_s = 2.0;
            sums.tally.latency.record(latency_us * 1000);
            sums
        };
        let storm = compare(&sums(100, 0), &sums(150, 180), 100.0);
        assert_eq!(storm.joins_per_second, 90.0);
        assert!((storm.p99_ratio - 1.5).abs() < 0.02, "{storm:?}");
        let verdict = verdict(&storm);
        assert!(verdict.starts_with("joining at 90/s (100/s wanted) makes the p99"), "{verdict}");
    }
}
