//! When and how data cores die. It has dice of its own, so that a meeting in which none dies does
//! not depend on it.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_dataplane::message::Command;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Of the meetings, one in so many has deaths.
const MEETINGS_WITH_DEATHS: u64 = 4;

/// What is added to a meeting's seed (2^64 by the golden ratio): these dice are others.
const OTHER_DICE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The longest that a core stays dead, beside what control takes to notice.
const LONGEST_VACANCY_MS: u64 = 300;

/// The longest that a thread which stalled sleeps on once another is in its place.
const LONGEST_SLEEP_MS: u64 = 400;

/// In what a core's thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Between two turns: what arrives waits in its socket, what control says in its ring.
    Idle,
    /// With what it has received in hand.
    InHand,
    /// After a turn of which nothing leaves.
    Unsent {
        /// Whether control and the other cores have what it told them.
        told: bool,
    },
    /// It makes no turns any more, with what it has received in hand, until another has been in its
    /// place for so long.
    Stalled(Duration),
}

/// A death, and for how long the place is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blow {
    /// Which core.
    pub core: usize,
    /// How.
    pub death: Death,
    /// For how long.
    pub vacancy: Duration,
}

/// See the module.
pub struct Fate {
    dice: StdRng,
    cores: usize,
    is_mild: bool,
    /// Mean time between two deaths at any moment.
    interval: Duration,
    /// The share of telling commands whose core dies with them, 0–1.
    with_command: f64,
}

impl Fate {
    /// Of a meeting.
    pub fn of(seed: u64, cores: usize) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ OTHER_DICE);
        Fate {
            cores,
            is_mild: dice.random_range(0..MEETINGS_WITH_DEATHS) != 0,
            interval: Duration::from_millis(dice.random_range(300..4_000)),
            with_command: if dice.random_bool(0.5) { 0.0 } else { 0.03 * dice.random::<f64>() },
            dice,
        }
    }

    /// Whether no core dies in this meeting.
    pub fn is_mild(&self) -> bool {
        self.is_mild
    }

    /// How long until the next death at any moment: often right after the one before.
    pub fn pause(&mut self) -> Duration {
        match self.dice.random_range(0..4) {
            0 => Duration::from_millis(self.dice.random_range(0..50)),
            _ => self.interval.mul_f64(self.dice.random_range(0.2..1.8)),
        }
    }

    /// How a core dies now.
    pub fn strike(&mut self) -> Blow {
        let core = self.dice.random_range(0..self.cores);
        self.strike_core(core)
    }

    /// Whether the core to which this command goes dies with it, and how.
    pub fn strike_with(&mut self, core: usize, command: &Command) -> Option<Blow> {
        let tells = matches!(
            command,
            Command::CreateTransport(_)
                | Command::CloseTransport(_)
                | Command::RestartIce { .. }
                | Command::InstallSrtp { .. }
                | Command::CreateProducer(_)
                | Command::CloseProducer(_)
                | Command::CreateConsumer(_)
                | Command::CloseConsumer(_)
                | Command::OpenPipe { .. }
                | Command::ClosePipe { .. }
        );
        let strikes = tells && self.with_command > 0.0 && self.dice.random_bool(self.with_command);
        strikes.then(|| self.strike_core(core))
    }

    fn strike_core(&mut self, core: usize) -> Blow {
        let vacancy_ms = match self.dice.random_range(0..3) {
            0 => self.dice.random_range(0..LONGEST_VACANCY_MS),
            _ => 0,
        };
        let death = match self.dice.random_range(0..6) {
            0 => Death::Idle,
            1 => Death::InHand,
            2 | 3 => Death::Unsent { told: self.dice.random() },
            _ => {
                let sleep = self.dice.random_range(0..LONGEST_SLEEP_MS);
                Death::Stalled(Duration::from_millis(sleep))
            }
        };
        Blow { core, death, vacancy: Duration::from_millis(vacancy_ms) }
    }

    /// How many deaths come at the end, one after the other, once all is well.
    pub fn trials(&mut self) -> usize {
        if self.is_mild { 0 } else { self.dice.random_range(1..=3) }
    }

    /// The cores that die at once in such a trial.
    pub fn trial(&mut self) -> Vec<Blow> {
        let first = self.strike();
        let mut blows = vec![first];
        if self.cores > 1 && self.dice.random_bool(0.3) {
            let other = (first.core + self.dice.random_range(1..self.cores)) % self.cores;
            blows.push(self.strike_core(other));
        }
        blows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_a_quarter_of_the_meetings_has_deaths() {
        let rough = (0..1_000).filter(|&seed| !Fate::of(seed, 2).is_mild()).count();
        assert!((200..300).contains(&rough), "{rough}");
    }

    #[test]
    fn a_seed_has_one_fate() {
        let blows = |seed| {
            let mut fate = Fate::of(seed, 3);
            (0..20).map(|_| (fate.pause(), fate.strike())).collect::<Vec<_>>()
        };
        assert!(blows(5) == blows(5) && blows(5) != blows(6));
    }
}
