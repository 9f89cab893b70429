//! Faults on purpose: each checker must find its own, or it finds nothing.
#![forbid(unsafe_code)]

use opencall_dataplane::planted::{Bug, plant};

use crate::{Outcome, Violation, run};

/// Meetings in which a fault must be found: a minute of them, on a slow machine.
pub const MEETINGS: u64 = 300;

/// A fault that was found.
pub struct Found {
    /// In which meeting.
    pub seed: u64,
    /// By whom, and where.
    pub violation: Violation,
}

/// Runs meetings with a fault planted until one of its checkers finds it.
///
/// # Errors
/// None has, another has found something, or the meeting cannot be had again: what to say.
pub fn find(bug: Bug) -> Result<Found, String> {
    let planted = |seed| {
        plant(Some(bug));
        let outcome = run(seed);
        plant(None);
        outcome
    };
    for seed in 0..MEETINGS {
        let outcome = planted(seed);
        let Outcome { violation: Some(violation), .. } = &outcome else { continue };
        if violation.checker != checker_of(bug) {
            return Err(format!("{bug:?} was found by another in seed {seed}: {violation}"));
        }
        if planted(seed) != outcome {
            return Err(format!("seed {seed} with {bug:?} went otherwise the second time"));
        }
        return Ok(Found { seed, violation: violation.clone() });
    }
    Err(format!("{bug:?} was not found in {MEETINGS} meetings"))
}

/// Whose fault it is to find.
fn checker_of(bug: Bug) -> &'static str {
    match bug {
        Bug::IndexTwice | Bug::BlockTwice => "indexes",
        Bug::UncountedDrop => "accounts",
        Bug::GapAtSwitch => "continuity",
        Bug::OtherRoom => "rooms",
        Bug::PauseIgnored => "subscriptions",
        Bug::UfragKept => "memory",
        Bug::PipeKept => "pipes",
        Bug::ResumeLost => "liveness",
        Bug::RecordKept => "records",
        Bug::PlaceForgotten => "resumption",
        Bug::DeathTold => "silence",
    }
}
