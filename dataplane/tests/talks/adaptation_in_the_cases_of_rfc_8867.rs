//! Test cases of RFC 8867 with a real core behind the emulator's link.
//!
//! What is not as there: a server cannot encode, so that the source is a camera of four encodings,
//! of which each client gets what fits. All clients of a case watch the same camera, so that their
//! pictures come at the same moments. Beside it is a voice of some 50 kbit/s with all headers. With
//! each seed the camera is a little slower.
//!
//! What does not hold is run by `scripts/prove rfc8867` only, which says all figures.

use std::time::Duration;

use crate::estimator_support::rfc8867::{self, Case, Run, SAMPLE};
use crate::paths::*;

/// Kilobits per second of the camera's encodings: from the least to the most that the RFC's source
/// sends, and a step below each capacity of the cases.
const LADDER: [f64; 4] = [150.0, 480.0, 800.0, 1500.0];

/// By how much. With the first seed there are exactly 150 pictures in 5 s, the time between probes
/// of a client that sends little: all of them fall on the same part of a picture.
const SLOWER: Duration = Duration::from_nanos(33_400);

fn run(case: &Case) -> Run {
    let mut room = Room::new(&LADDER, true);
    room.frame += SLOWER * (case.seed as u32 - 1);
    let link = room.add_link(|began| case.link(began));
    let (mut run, mut is_paused) = (Run::new(case), false);
    while room.seconds() < case.seconds as f64 {
        while let Some(&(from_s, detour_ms)) = case.clients.get(room.watchers.len())
            && from_s as f64 <= room.seconds()
        {
            let watcher = room.watch(link, 6_000_000);
            room.watchers[watcher].detour = Duration::from_millis(detour_ms);
        }
        if let Some((client, from_s, to_s)) = case.pause {
            let pauses = (from_s as f64..to_s as f64).contains(&room.seconds());
            if pauses != is_paused {
                room.pause(client, pauses);
                is_paused = pauses;
            }
        }
        room.run(SAMPLE);
        let now = room.world.now;
        let rows = room.links[link].emulator(now).take_log();
        run.note(room.watchers.iter().map(|watcher| watcher.taken_bytes), &rows);
    }
    run
}

#[test]
fn case_5_1_does_not_queue() {
    rfc8867::variable_does_not_queue(50, 0, run);
}

#[test]
#[ignore = "46 to 61 % are used: scripts/prove rfc8867"]
fn case_5_1_is_used() {
    rfc8867::variable_is_used(50, 0, run);
}

#[test]
#[ignore = "66 to 81 % are used: scripts/prove rfc8867"]
fn case_5_2_is_shared_by_two() {
    rfc8867::variable_for_two(run);
}

#[test]
#[ignore = "ratios are 1.5 to 8.8: scripts/prove rfc8867"]
fn case_5_4_is_shared_by_those_who_come() {
    rfc8867::one_after_the_other(run);
}

#[test]
#[ignore = "ratios are 6 to 31: scripts/prove rfc8867"]
fn case_5_5_is_shared_over_ways_of_different_lengths() {
    rfc8867::different_lengths(run);
}

#[test]
#[ignore = "mostly the voice is left: scripts/prove rfc8867"]
fn case_5_6_beside_tcp() {
    rfc8867::beside_tcp(300, run);
}

#[test]
#[ignore = "what comes back is another share: scripts/prove rfc8867"]
fn case_5_8_one_that_pauses() {
    rfc8867::one_that_pauses(run);
}
