//! What measured seconds add up to: what was counted, and what it took.
#![forbid(unsafe_code)]

use crate::client::tally::Tally;
use crate::result::Step;
use crate::server::CpuTime;

/// A measured time.
#[derive(Default)]
pub(super) struct Sums {
    /// What the media thread counted.
    pub(super) tally: Tally,
    /// What it took.
    pub(super) usage: Usage,
    /// Who came meanwhile.
    pub(super) joined: u64,
}

impl Sums {
    /// Adds what was measured after this.
    pub(super) fn merge(&mut self, later: &Sums) {
        self.tally.merge(&later.tally);
        self.usage.merge(&later.usage);
        self.joined += later.joined;
    }

    pub(super) fn joins_per_second(&self) -> f64 {
        self.joined as f64 / self.usage.seconds()
    }

    /// As a step of a ramp, without its people and without a judgement.
    pub(super) fn step(&self) -> Step {
        Step {
            packets_per_s: self.tally.received as f64 / self.usage.seconds(),
            sent_packets_per_s: self.tally.sent as f64 / self.usage.seconds(),
            latency_us: self.tally.latency.percentiles_us(),
            loss_ratio: self.tally.loss_ratio(),
            server_cpu: self.usage.server_cpu(),
            generator_cpu: self.usage.generator_cpu(),
            skipped: self.tally.skipped,
            ..Step::default()
        }
    }
}

/// CPU time over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// How long it was.
    pub(super) elapsed_s: f64,
    /// What the server took; `None` where no process is known.
    pub(super) server: Option<CpuTime>,
    /// How often the server's threads went to sleep.
    pub(super) sleeps: u64,
    /// What the participants took.
    pub(super) generator_s: f64,
    /// What all other programs took, 1.0 = one CPU: of what was merged, the most disturbed part,
    /// for that is disturbed enough. `None` where the server's share of the rest is not known.
    pub(super) other_cpu: Option<f64>,
}

impl Usage {
    fn merge(&mut self, later: &Usage) {
        self.elapsed_s += later.elapsed_s;
        self.server = self.server.zip(later.server).map(|(before, after)| before.plus(after));
        self.sleeps += later.sleeps;
        self.generator_s += later.generator_s;
        self.other_cpu = self.other_cpu.zip(later.other_cpu).map(|(a, b)| a.max(b));
    }

    /// How long it was, never nothing.
    fn seconds(&self) -> f64 {
        self.elapsed_s.max(0.001)
    }

    /// The server's share of a CPU.
    pub(super) fn server_cpu(&self) -> Option<f64> {
        self.server.map(|cpu| cpu.total_s() / self.seconds())
    }

    /// The participants' share of a CPU.
    pub(super) fn generator_cpu(&self) -> f64 {
        self.generator_s / self.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(elapsed_s: f64, received: u64, user_s: f64, other_cpu: f64) -> Sums {
        Sums {
            tally: Tally { received, sent: received / 2, ..Tally::default() },
            usage: Usage {
                elapsed_s,
                server: Some(CpuTime { user_s, system_s: user_s }),
                sleeps: received / 10,
                generator_s: user_s,
                other_cpu: Some(other_cpu),
            },
            joined: 3,
        }
    }

    #[test]
    fn shares_of_two_times_weigh_as_much_as_these_were_long() {
        let mut whole = sums(1.0, 100, 0.1, 0.3);
        whole.merge(&sums(3.0, 900, 0.9, 0.1));
        let step = whole.step();
        assert_eq!((step.packets_per_s, step.sent_packets_per_s), (250.0, 125.0));
        assert_eq!((step.server_cpu, step.generator_cpu), (Some(0.5), 0.25));
        assert_eq!((whole.usage.other_cpu, whole.joins_per_second()), (Some(0.3), 1.5));
        assert_eq!(whole.usage.sleeps, 100);
    }

    #[test]
    fn what_is_not_known_of_a_part_is_not_known_of_the_whole_and_no_time_is_no_share() {
        let mut whole = sums(1.0, 100, 0.1, 0.0);
        whole.merge(&Sums::default());
        assert_eq!((whole.usage.server_cpu(), whole.usage.other_cpu), (None, None));
        assert_eq!(Sums::default().step(), Step::default());
    }
}
