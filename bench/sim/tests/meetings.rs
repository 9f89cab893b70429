//! Meetings go well whatever happens, and can be had again.

use opencall_sim::run;

/// Meetings of a test run; `OPENCALL_SIM_SEEDS` says how many more, `scripts/sim` runs any number.
const MEETINGS: u64 = 240;

/// Tests that share them, for as many CPUs.
const SHARES: u64 = 4;

fn meetings() -> u64 {
    let more = std::env::var("OPENCALL_SIM_SEEDS");
    more.map_or(MEETINGS, |more| more.parse().expect("OPENCALL_SIM_SEEDS is a number"))
}

fn share(index: u64) {
    let (mut packets, mut deaths, mut gone) = (0, 0, 0);
    for seed in (index..meetings()).step_by(SHARES as usize) {
        let outcome = run(seed);
        packets += outcome.packets;
        deaths += outcome.deaths;
        gone += outcome.gone;
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}: {violation}\nagain: scripts/sim --seed {seed} --seeds 1");
        }
    }
    assert!(packets > 200 * meetings() / SHARES, "too tame: {packets} packets");
    assert!(deaths > meetings() / SHARES, "too mild: {deaths} data cores died");
    assert!(gone > meetings() / SHARES / 4, "too steady: {gone} data cores went");
}

#[test]
fn a_first_share_of_meetings_goes_well() {
    share(0);
}

#[test]
fn a_second_share_of_meetings_goes_well() {
    share(1);
}

#[test]
fn a_third_share_of_meetings_goes_well() {
    share(2);
}

#[test]
fn a_fourth_share_of_meetings_goes_well() {
    share(3);
}

#[test]
fn a_meeting_can_be_had_again() {
    for seed in [2, 8, 15, 68] {
        let (once, again) = (run(seed), run(seed));
        assert!(once.packets > 0 && once == again, "seed {seed}: {once:?}, then {again:?}");
    }
    assert_ne!(run(2).digest, run(8).digest);
}
