//! Flags of the scenario `ramp`.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_bench::ramp::RampOptions;

use super::parse_duration;

/// How the load is raised, and when it has broken.
#[derive(clap::Args)]
pub struct RampFlags {
    /// Ramp: rooms added with each step.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    step_rooms: u32,
    /// Ramp: how long a step is measured.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    step: Duration,
    /// Ramp: latency above which a step does not hold, 99th percentile, milliseconds.
    #[arg(long, default_value_t = 5.0, value_name = "MS")]
    max_p99_ms: f64,
    /// Ramp: loss above which a step does not hold, percent.
    #[arg(long, default_value_t = 0.1, value_name = "PERCENT")]
    max_loss: f64,
    /// Ramp: the part of the knee that the figures of the run are measured at.
    #[arg(long, default_value_t = 0.7)]
    then: f64,
}

impl RampFlags {
    /// As the run takes them.
    pub fn options(&self) -> RampOptions {
        RampOptions {
            step_rooms: self.step_rooms,
            step: self.step,
            max_p99: Duration::from_secs_f64(self.max_p99_ms.clamp(0.0, 1e6) / 1e3),
            max_loss: self.max_loss / 100.0,
            then: self.then.clamp(0.0, 1.0),
        }
    }
}
