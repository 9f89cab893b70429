//! The climb of a ramp: room after room until it breaks, and back to a part of what held.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::crowd::Moves;
use super::director::{Director, ENGINE_PATIENCE};
use crate::result::{Knee, Step};

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
        self.result.verdicts.extend(verdicts(&knee, people));
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
            step.held = ramp.holds(&step, &self.result.steps);
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

/// Where it broke, and how much of that is left for the figures of the run.
fn verdicts(knee: &Knee, people: usize) -> [String; 2] {
    if knee.participants == 0 {
        return [
            format!("no knee, for the first step broke: {}", knee.limit),
            format!("the figures are those of {people} participants, one room"),
        ];
    }
    let share = people as f64 / knee.participants as f64 * 100.0;
    [
        format!(
            "the knee is at {} participants, {:.0} packets/s received, {:.0} sent; limit: {}",
            knee.participants, knee.packets_per_s, knee.sent_packets_per_s, knee.limit
        ),
        format!("the figures are those of {people} participants, {share:.0} % of the knee"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_rooms_stay_and_the_share_that_is_told_is_theirs() {
        let limit = "none, every step held: raise --rooms".to_owned();
        let knee = Knee { participants: 12, packets_per_s: 1961.0, limit, ..Knee::default() };
        let [knee, figures] = verdicts(&knee, 6);
        assert!(knee.starts_with("the knee is at 12 participants, 1961 packets/s"), "{knee}");
        assert!(knee.ends_with("limit: none, every step held: raise --rooms"), "{knee}");
        assert_eq!(figures, "the figures are those of 6 participants, 50 % of the knee");
        let [none, _] = verdicts(&Knee::default(), 10);
        assert!(none.starts_with("no knee"), "{none}");
    }
}
