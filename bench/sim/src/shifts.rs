//! When data cores drain, end and come back. Like deaths it has dice of its own.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What is added to a meeting's seed (2^64 by the square root of 2): these dice are others.
const OTHER_DICE: u64 = 0x6a09_e667_f3bc_c909;

/// The share of the meetings on several cores in which they come and go.
const SHARE: f64 = 0.4;

/// Where the cores are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// All are there, until then.
    All(Time),
    /// One drains; who is left is closed then.
    Draining(usize, Time),
    /// One is gone, until then.
    Away(usize, Time),
}

/// See the module.
pub struct Shifts {
    dice: StdRng,
    cores: usize,
    /// Where they are.
    pub now: Shift,
    /// How many have gone.
    pub gone: u32,
}

impl Shifts {
    /// Of a meeting that begins then.
    pub fn of(seed: u64, cores: usize, begin: Time) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ OTHER_DICE);
        let comes_and_goes = cores > 1 && dice.random_bool(SHARE);
        let first = if comes_and_goes { begin + Self::span(&mut dice, 4_000) } else { Time::NEVER };
        Shifts { dice, cores, now: Shift::All(first), gone: 0 }
    }

    fn span(dice: &mut StdRng, most_ms: u64) -> Duration {
        Duration::from_millis(dice.random_range(0..most_ms))
    }

    /// When something is due.
    pub fn due(&self) -> Time {
        let (Shift::All(at) | Shift::Draining(_, at) | Shift::Away(_, at)) = self.now;
        at
    }

    /// Which core is to go.
    pub fn pick(&mut self) -> usize {
        self.dice.random_range(0..self.cores)
    }

    /// One drains from now on.
    pub fn drain(&mut self, now: Time, core: usize) {
        self.now = Shift::Draining(core, now + Self::span(&mut self.dice, 1_500));
    }

    /// One is gone.
    pub fn leave(&mut self, now: Time, core: usize) {
        self.gone += 1;
        self.now = Shift::Away(core, now + Self::span(&mut self.dice, 2_000));
    }

    /// All are there.
    pub fn complete(&mut self, now: Time) {
        self.now = Shift::All(now + Self::span(&mut self.dice, 3_000));
    }

    /// All stay from now on.
    pub fn rest(&mut self) {
        self.now = Shift::All(Time::NEVER);
    }
}
