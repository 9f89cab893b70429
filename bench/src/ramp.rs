//! The ramp: which loads hold, where the knee is, and what the limit was.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::result::{Knee, Second, Step};

/// Share of its CPUs at which a side counts as used up: the rest is what a scheduler leaves.
const FULL: f64 = 0.9;

/// How many times the limit a latency, and how large a loss is beyond mending: retransmissions of
/// what is lost then take what would have been needed to lose no more.
const RUIN_FACTOR: f64 = 20.0;
const RUIN_LOSS: f64 = 0.05;

/// A load that is in ruins for so many seconds in a row has broken: to let more in would only make
/// them larger.
const RUIN_SECONDS: u32 = 2;

/// A load that is borne for so many seconds in a row is borne: one second may be luck.
const CALM_SECONDS: u32 = 2;

/// What a second looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Within the limits.
    Calm,
    /// Beyond them.
    Strain,
    /// Far beyond them.
    Ruin,
}

/// What the last seconds in a row had in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streak {
    ruined: u32,
    calm: u32,
}

impl Streak {
    /// Adds a second.
    pub fn add(&mut self, pressure: Pressure) {
        self.ruined = if pressure == Pressure::Ruin { self.ruined + 1 } else { 0 };
        self.calm = if pressure == Pressure::Calm { self.calm + 1 } else { 0 };
    }

    /// Far too much, and not only for a moment.
    pub fn is_ruined(self) -> bool {
        self.ruined >= RUIN_SECONDS
    }

    /// Within the limits, and not only for a moment.
    pub fn is_calm(self) -> bool {
        self.calm >= CALM_SECONDS
    }
}

/// How the load is raised, and until when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RampOptions {
    /// Rooms that are added with each step.
    pub step_rooms: u32,
    /// How long a step is measured.
    pub step: Duration,
    /// 99th percentile of the latency above which a step does not hold.
    pub max_p99: Duration,
    /// Loss above which a step does not hold, 0 to 1.
    pub max_loss: f64,
    /// The part of the knee at which the run measures in the end.
    pub then: f64,
}

impl Default for RampOptions {
    fn default() -> Self {
        RampOptions {
            step_rooms: 5,
            step: Duration::from_secs(5),
            max_p99: Duration::from_millis(5),
            max_loss: 0.001,
            then: 0.7,
        }
    }
}

impl RampOptions {
    /// Whether a step's figures are within the limits. Of a stream that stands still nothing is
    /// late and nothing is known to be lost, so that what comes is compared with what came in the
    /// steps before that held.
    pub fn holds(&self, step: &Step, before: &[Step]) -> bool {
        step.latency_us.p99 <= self.max_p99.as_secs_f64() * 1e6
            && step.loss_ratio <= self.max_loss
            && step.failed_joins == 0
            && !stands_still(step, before)
    }

    /// What a second looks like.
    pub fn pressure(&self, second: &Second) -> Pressure {
        let p99 = second.latency_p99_us / (self.max_p99.as_secs_f64() * 1e6);
        let lost = second.lost as f64;
        let loss = lost / (second.packets_per_s + lost).max(1.0);
        match () {
            () if p99 > RUIN_FACTOR || loss > RUIN_LOSS.max(self.max_loss) => Pressure::Ruin,
            () if p99 > 1.0 || loss > self.max_loss => Pressure::Strain,
            () => Pressure::Calm,
        }
    }

    /// Rooms that are kept for the measurement after the ramp: at least one.
    pub fn rooms_after(&self, knee_rooms: u64) -> u64 {
        ((knee_rooms as f64 * self.then).floor() as u64).max(1)
    }

    /// The knee: the last step that held, and what the first that did not ran into.
    pub fn knee(&self, steps: &[Step], server_cpus: f64, load_cpus: f64) -> Knee {
        let held = steps.iter().rfind(|step| step.held);
        let broken = steps.iter().find(|step| !step.held);
        let limit = match broken {
            None => "none, every step held: raise --rooms".to_owned(),
            Some(step) => self.limit(step, server_cpus, load_cpus),
        };
        Knee {
            rooms: held.map_or(0, |step| step.rooms),
            participants: held.map_or(0, |step| step.participants),
            packets_per_s: held.map_or(0.0, |step| step.packets_per_s),
            sent_packets_per_s: held.map_or(0.0, |step| step.sent_packets_per_s),
            limit,
        }
    }

    /// What a step that does not hold ran into.
    fn limit(&self, step: &Step, server_cpus: f64, load_cpus: f64) -> String {
        let is_server = step.server_cpu.unwrap_or(0.0) >= FULL * server_cpus;
        let is_load = step.generator_cpu >= FULL * load_cpus || step.skipped > 0;
        let side = match (is_server, is_load) {
            (true, false) => "server CPU",
            (false, true) => "generator CPU",
            (true, true) => "server CPU and generator CPU",
            (false, false) => "neither CPU",
        };
        let what = if step.failed_joins > 0 {
            format!("{} failed joins", step.failed_joins)
        } else if step.loss_ratio > self.max_loss {
            format!("loss of {:.2} %", step.loss_ratio * 100.0)
        } else if step.latency_us.p99 > self.max_p99.as_secs_f64() * 1e6 {
            format!("p99 of {:.1} ms", step.latency_us.p99 / 1e3)
        } else {
            format!("{:.2} packets came of each that was sent", forwarded(step))
        };
        format!("{side}: {what} with {} participants", step.participants)
    }
}

/// Of what each sent packet became in the best step that held, less than this is a core that does
/// not forward, and more may be lower layers.
const FORWARDED_AT_LEAST: f64 = 0.5;

/// How many packets came of each that was sent.
fn forwarded(step: &Step) -> f64 {
    step.packets_per_s / step.sent_packets_per_s.max(1.0)
}

fn stands_still(step: &Step, before: &[Step]) -> bool {
    let held = before.iter().filter(|step| step.held).map(forwarded).fold(0.0, f64::max);
    let is_sent = step.sent_packets_per_s > 0.0;
    is_sent && (step.packets_per_s == 0.0 || forwarded(step) < FORWARDED_AT_LEAST * held)
}

#[cfg(test)]
mod tests {
    use crate::result::Latency;

    use super::*;

    fn step(participants: u64, p99_us: f64, server_cpu: f64) -> Step {
        let ramp = RampOptions::default();
        let mut step = Step {
            rooms: participants / 10,
            participants,
            packets_per_s: participants as f64 * 450.0,
            sent_packets_per_s: participants as f64 * 50.0,
            latency_us: Latency { p99: p99_us, ..Latency::default() },
            server_cpu: Some(server_cpu),
            generator_cpu: 0.5,
            ..Step::default()
        };
        step.held = ramp.holds(&step, &[]);
        step
    }

    #[test]
    fn the_knee_is_the_last_step_that_held_and_the_limit_is_named() {
        let ramp = RampOptions::default();
        let steps = [step(50, 300.0, 0.2), step(100, 900.0, 0.6), step(150, 40_000.0, 0.99)];
        let knee = ramp.knee(&steps, 1.0, 1.0);
        assert_eq!((knee.participants, knee.rooms, knee.packets_per_s), (100, 10, 45_000.0));
        assert_eq!(knee.limit, "server CPU: p99 of 40.0 ms with 150 participants");
        assert_eq!(ramp.rooms_after(knee.rooms), 7);
        let all_held = ramp.knee(&steps[..2], 1.0, 1.0);
        assert!(all_held.limit.starts_with("none"));
    }

    #[test]
    fn each_way_to_break_is_told() {
        let ramp = RampOptions::default();
        let fine = step(100, 900.0, 0.5);
        assert!(fine.held);
        let table = [
            (Step { loss_ratio: 0.02, ..fine.clone() }, "neither CPU: loss of 2.00 %"),
            (Step { failed_joins: 3, ..fine.clone() }, "neither CPU: 3 failed joins"),
            (Step { packets_per_s: 0.0, ..fine.clone() }, "neither CPU: 0.00 packets came"),
            (Step { packets_per_s: 20_000.0, ..fine.clone() }, "neither CPU: 4.00 packets came"),
            (
                Step { loss_ratio: 0.02, skipped: 7, ..fine.clone() },
                "generator CPU: loss of 2.00 %",
            ),
            (
                Step { loss_ratio: 0.02, skipped: 7, server_cpu: Some(0.95), ..fine.clone() },
                "server CPU and generator CPU: loss of 2.00 %",
            ),
        ];
        for (mut step, words) in table {
            step.held = ramp.holds(&step, std::slice::from_ref(&fine));
            assert!(!step.held, "{words}");
            let knee = ramp.knee(&[fine.clone(), step], 1.0, 1.0);
            assert!(knee.limit.starts_with(words), "{}", knee.limit);
        }
    }

    #[test]
    fn a_second_is_calm_strained_or_in_ruins() {
        let table = [
            (0.0, 0, Pressure::Calm),
            (4_900.0, 9, Pressure::Calm),
            (5_100.0, 0, Pressure::Strain),
            (100.0, 20, Pressure::Strain),
            (101_000.0, 0, Pressure::Ruin),
            (100.0, 600, Pressure::Ruin),
        ];
        for (latency_p99_us, lost, expected) in table {
            let second =
                Second { latency_p99_us, lost, packets_per_s: 10_000.0, ..Second::default() };
            let found = RampOptions::default().pressure(&second);
            assert_eq!(found, expected, "{latency_p99_us} us, {lost} lost");
        }
    }

    #[test]
    fn one_second_makes_neither_ruins_nor_calm() {
        let mut streak = Streak::default();
        for (pressure, is_ruined, is_calm) in [
            (Pressure::Ruin, false, false),
            (Pressure::Ruin, true, false),
            (Pressure::Strain, false, false),
            (Pressure::Calm, false, false),
            (Pressure::Calm, false, true),
            (Pressure::Ruin, false, false),
        ] {
            streak.add(pressure);
            assert_eq!((streak.is_ruined(), streak.is_calm()), (is_ruined, is_calm));
        }
    }

    #[test]
    fn a_ramp_whose_first_step_breaks_has_no_knee() {
        let ramp = RampOptions::default();
        let knee = ramp.knee(&[step(50, 90_000.0, 0.2)], 1.0, 1.0);
        assert_eq!((knee.participants, ramp.rooms_after(0)), (0, 1));
    }
}
