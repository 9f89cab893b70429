//! Loss of single packets and in bursts.

use rand::RngExt;
use rand::rngs::SmallRng;

/// A link that is good or bad by turns (Gilbert–Elliott); probabilities of a packet, 0–1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// That a good link turns bad.
    pub begin: f64,
    /// That a bad link turns good.
    pub end: f64,
    /// That a packet is lost while it is bad.
    pub loss: f64,
}

impl Bursts {
    /// Bursts in which everything is lost, of a mean length in packets, and so many of them that
    /// this part of all packets is lost.
    pub fn of_mean(loss: f64, length: f64) -> Self {
        let loss = loss.clamp(0.0, 1.0);
        let end = 1.0 / length.max(1.0);
        let begin = if loss >= 1.0 { 1.0 } else { (loss * end / (1.0 - loss)).min(1.0) };
        Bursts { begin, end, loss: 1.0 }
    }
}

/// A link that turns good and bad.
#[derive(Debug, Clone)]
pub struct Weather {
    bursts: Bursts,
    is_bad: bool,
}

impl Weather {
    /// Good at first.
    pub fn new(bursts: Bursts) -> Self {
        Weather { bursts, is_bad: false }
    }

    /// Whether the next packet is lost.
    pub fn loses(&mut self, random: &mut SmallRng) -> bool {
        let turn = if self.is_bad { self.bursts.end } else { self.bursts.begin };
        self.is_bad ^= chance(random, turn);
        self.is_bad && chance(random, self.bursts.loss)
    }
}

/// Something that happens with this probability.
pub fn chance(random: &mut SmallRng, probability: f64) -> bool {
    probability > 0.0 && random.random::<f64>() < probability
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Share of packets lost, and mean length of what is lost in a row.
    fn measure(bursts: Bursts) -> (f64, f64) {
        let (mut weather, mut random) = (Weather::new(bursts), SmallRng::seed_from_u64(4));
        let lost: Vec<bool> = (0..200_000).map(|_| weather.loses(&mut random)).collect();
        let count = lost.iter().filter(|lost| **lost).count() as f64;
        let begun = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        (count / lost.len() as f64, count / begun)
    }

    #[test]
    fn bursts_are_as_long_and_as_many_as_is_said() {
        let (loss, length) = measure(Bursts::of_mean(0.05, 8.0));
        assert!((0.045..0.055).contains(&loss) && (7.5..8.5).contains(&length), "{loss} {length}");
    }

    #[test]
    fn a_bad_link_may_lose_a_part() {
        // A third of the time it is bad, and half is lost then.
        let (loss, _) = measure(Bursts { begin: 0.01, end: 0.02, loss: 0.5 });
        assert!((0.15..0.18).contains(&loss), "{loss}");
    }
}
