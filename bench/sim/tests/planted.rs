//! Each planted fault is found by its checker, within a minute, and again in the same step.
#![cfg(feature = "planted")]

use opencall_dataplane::planted::Bug;
use opencall_sim::canary;

#[test]
fn every_checker_finds_its_fault() {
    for bug in Bug::ALL {
        let found = canary::find(bug).unwrap_or_else(|what| panic!("{what}"));
        println!("{bug:?}: seed {}, {}", found.seed, found.violation);
    }
}
