//! The climb of a ramp: room after room until it breaks, and back to a part of what held.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::crowd::Moves;
use super::director::{Director, ENGINE_PATIENCE};
use crate::result::Step;

/// A step that does not hold has a second chance, for one bad moment of the machine is no knee.
const CHANCES: u32 = 2;

/// What piled up while it was too much must have gone within this time.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(30);

impl Director<'_> {
    /// Raises the load until it breaks, then lowers it to a part of what held.
    pub(super) fn climb(&mut self) -> Result<(), String> {
        let (ramp, most_rooms) = (self.options.ramp, self.options.rooms);
        let mut rooms = 0;
        while rooms < most_rooms {
            rooms = (rooms + ramp.step_rooms).min(most_rooms);
            let step = self.take_step(rooms)?;
            let held = step.held;
            self.result.steps.push(step);
            if !held {
                break;
            }
        }
        let cpus = |cpus: &[usize]| cpus.len().max(1) as f64;
        let knee =
            ramp.knee(&self.result.steps, cpus(&self.shares.server), cpus(&self.shares.load));
        let people = ramp.rooms_after(knee.rooms) as usize * self.options.participants as usize;
        self.result.verdicts.push(format!(
            "knee: {} participants, {:.0} packets/s received, {:.0} sent; limit: {}",
            knee.participants, knee.packets_per_s, knee.sent_packets_per_s, knee.limit
        ));
        self.result.verdicts.push(format!(
            "the figures are those of {people} participants, {:.0} % of the knee",
            ramp.then * 100.0
        ));
        self.result.knee = Some(knee);
        self.crowd.shrink_to(people);
        self.recover()
    }

    /// Fills so many rooms and measures.
    fn take_step(&mut self, rooms: u32) -> Result<Step, String> {
        let ramp = self.options.ramp;
        let failed_before = self.failed();
        self.gather(rooms * self.options.participants)?;
        self.settle()?;
        let mut step = Step::default();
        for _ in 0..CHANCES {
            let sums = self.measure(ramp.step, Moves::None)?;
            step = Step {
                rooms: u64::from(rooms),
                participants: self.present(),
                failed_joins: self.failed() - failed_before,
                ..sums.step()
            };
            step.held = ramp.holds(&step);
            if step.held || self.is_ruined() {
                break;
            }
        }
        Ok(step)
    }

    /// Waits until the server bears what was left of the load.
    fn recover(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        self.settle()?;
        while !self.streak.is_calm() {
            if begun.elapsed() > RECOVERY_PATIENCE {
                let words = "the server has NOT recovered from the overload: see its latency";
                self.result.verdicts.push(words.to_owned());
                break;
            }
            self.second(Instant::now() + ENGINE_PATIENCE, false)?;
        }
        Ok(())
    }
}
