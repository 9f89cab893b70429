//! Data cores that die or stall while people meet: how long pictures stand still.
#![forbid(unsafe_code)]

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::crowd::Moves;
use super::director::Director;
use super::sums::Sums;
use crate::result::Faults;
use crate::scenario::Fault;

/// What is measured from a fault on: a core that stalls is given up after a second.
const AFTER: Duration = Duration::from_secs(2);

/// And before the next one. A core that lives for less than a second is replaced more slowly.
const CALM: Duration = Duration::from_secs(2);

impl Director<'_> {
    /// Faults in turns with calm, as often as the time allows, once at least.
    pub(super) fn faults(&mut self, fault: Fault) -> Result<Sums, String> {
        let Some(pid) = self.server_pid else {
            return Err("say which process is to suffer: --pid".into());
        };
        let signal = match fault {
            Fault::Death => Signal::SIGUSR1,
            Fault::Stall => Signal::SIGUSR2,
        };
        let wanted = (self.options.duration.as_secs() / (AFTER + CALM).as_secs()).max(1);
        let (mut calm, mut after) = (Sums::default(), Sums::default());
        for _ in 0..wanted {
            calm.merge(&self.measure(CALM, Moves::None)?);
            kill(Pid::from_raw(pid as i32), signal)
                .map_err(|error| format!("process {pid} takes no signal: {error}"))?;
            after.merge(&self.measure(AFTER, Moves::None)?);
        }
        let faults = Faults {
            count: wanted,
            calm_us: calm.tally.standstill.percentiles_us(),
            after_us: after.tally.standstill.percentiles_us(),
        };
        self.result.verdicts.push(verdict(&faults, fault));
        self.result.faults = Some(faults);
        calm.merge(&after);
        Ok(calm)
    }
}

fn verdict(faults: &Faults, fault: Fault) -> String {
    let what = match fault {
        Fault::Death => "deaths",
        Fault::Stall => "stalls",
    };
    let ms = |us: f64| us / 1e3;
    format!(
        "{} {what} of a data core: in the two seconds after one, pictures stood still for {:.0} ms \
         (p50), {:.0} ms (p99), {:.0} ms at most; in calm seconds for {:.0} ms (p99)",
        faults.count,
        ms(faults.after_us.p50),
        ms(faults.after_us.p99),
        ms(faults.after_us.max),
        ms(faults.calm_us.p99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_what_was_done_and_what_it_did() {
        let mut faults = Faults { count: 50, ..Faults::default() };
        (faults.after_us.p50, faults.after_us.p99, faults.after_us.max) = (4e4, 1.2e5, 1.5e5);
        faults.calm_us.p99 = 4.1e4;
        let verdict = verdict(&faults, Fault::Death);
        assert!(verdict.starts_with("50 deaths of a data core"), "{verdict}");
        assert!(verdict.contains("40 ms (p50), 120 ms (p99), 150 ms at most"), "{verdict}");
        assert!(verdict.ends_with("in calm seconds for 41 ms (p99)"), "{verdict}");
    }
}
