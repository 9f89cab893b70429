//! Strangers at the server's media ports: what they do to those who are in their meetings, and what
//! they get for it.
#![forbid(unsafe_code)]

use super::crowd::Moves;
use super::director::Director;
use super::sums::Sums;
use crate::result::Flood;
use crate::strangers::Traffic;

impl Director<'_> {
    /// Half of the time as it is, half of the time with strangers.
    pub(super) fn flood(&mut self) -> Result<Sums, String> {
        let half = self.options.duration / 2;
        let mut sums = self.measure(half, Moves::None)?;
        let strangers = self.load.strangers(self.options.strangers, self.options.seed)?;
        let during = self.measure(half, Moves::None)?;
        let flood = compare(&sums, &during, strangers.stop()?);
        self.result.verdicts.push(verdict(&flood));
        self.result.flood = Some(flood);
        sums.merge(&during);
        Ok(sums)
    }
}

fn compare(before: &Sums, during: &Sums, traffic: Traffic) -> Flood {
    let per_second = |count: u64| count as f64 / during.usage.elapsed_s.max(0.001);
    Flood {
        datagrams_per_second: per_second(traffic.datagrams),
        bits_per_second: per_second(traffic.bytes * 8),
        answered_ratio: traffic.answer_bytes as f64 / traffic.bytes.max(1) as f64,
        before_us: before.tally.latency.percentiles_us(),
        during_us: during.tally.latency.percentiles_us(),
        loss_ratio: during.tally.loss_ratio(),
        server_cpu: [before, during].map(|sums| sums.usage.server_cpu()),
    }
}

fn verdict(flood: &Flood) -> String {
    let [before, during] = flood.server_cpu.map(|cpu| cpu.unwrap_or_default() * 100.0);
    format!(
        "strangers sent {:.0} datagrams a second ({:.0} Mbit/s), and were answered with {:.3} % of \
         their bytes; meanwhile {:.4} % of the media were lost, the p99 was {:.0} us instead of {:.0}, \
         the server took {during:.0} % of a CPU instead of {before:.0}",
        flood.datagrams_per_second,
        flood.bits_per_second / 1e6,
        flood.answered_ratio * 100.0,
        flood.loss_ratio * 100.0,
        flood.during_us.p99,
        flood.before_us.p99
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_by_what_it_costs_and_what_it_gets() {
        let sums = |latency_us: u64, lost| {
            let mut sums = Sums::default();
            sums.usage.elapsed_s = 2.0;
            sums.tally.latency.record(latency_us * 1000);
            (sums.tally.received, sums.tally.lost) = (990, lost);
            sums
        };
        let traffic = Traffic { datagrams: 1_000, bytes: 100_000, answers: 1, answer_bytes: 100 };
        let flood = compare(&sums(100, 0), &sums(150, 10), traffic);
        assert_eq!((flood.datagrams_per_second, flood.answered_ratio), (500.0, 0.001));
        assert!((flood.loss_ratio - 0.01).abs() < 1e-9);
        let verdict = verdict(&flood);
        assert!(
            verdict.starts_with("strangers sent 500 datagrams a second (0 Mbit/s)"),
            "{verdict}"
        );
        assert!(verdict.contains("0.100 % of their bytes; meanwhile 1.0000 %"), "{verdict}");
    }
}
