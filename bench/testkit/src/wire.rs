//! One direction of a link between a client and the server.

use std::time::Duration;

use opencall_wire::time::Time;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// What a wire does to what it carries.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// Share of datagrams that are lost, 0–1.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0–1.
    pub duplication: f64,
    /// How long a datagram takes at least.
    pub delay: Duration,
    /// How much longer it may take: more than the distance of two datagrams reorders them.
    pub jitter: Duration,
    /// Until when nothing gets through.
    pub cut_until: Time,
}

impl Wire {
    /// A wire that does no harm.
    pub const fn good() -> Self {
        Wire {
            loss: 0.0,
            duplication: 0.0,
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            cut_until: Time::ZERO,
        }
    }

    /// When a datagram sent now arrives: not at all, once or twice.
    pub fn carry(&self, now: Time, dice: &mut StdRng) -> [Option<Time>; 2] {
        if now < self.cut_until || dice.random_bool(self.loss) {
            return [None, None];
        }
        let mut arrival = || {
            let extra = self.jitter.mul_f64(dice.random());
            now + self.delay + extra
        };
        let first = arrival();
        let again = arrival();
        [Some(first), dice.random_bool(self.duplication).then_some(again)]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_wire_loses_repeats_and_delays_as_much_as_it_says() {
        let mut dice = StdRng::seed_from_u64(1);
        let (loss, duplication, jitter) = (0.2, 0.1, Duration::from_millis(40));
        let wire = Wire { loss, duplication, jitter, ..Wire::good() };
        let now = Time::from_millis(1_000);
        let all: Vec<_> = (0..10_000).map(|_| wire.carry(now, &mut dice)).collect();
        let once = all.iter().filter(|carried| carried[0].is_some()).count();
        let twice = all.iter().filter(|carried| carried[1].is_some()).count();
        assert!((7_800..8_200).contains(&once) && (700..900).contains(&twice), "{once} {twice}");
        let range = now + wire.delay..now + wire.delay + jitter;
        assert!(all.iter().flatten().flatten().all(|at| range.contains(at)));
        let cut = Wire { cut_until: now + jitter, ..wire };
        assert_eq!(cut.carry(now, &mut dice), [None, None]);
    }
}
