//! Test cases of RFC 8867 with the estimator alone: as there, the source sends as much as it may,
//! up to 1.5 Mbit/s. What does not hold is run by `scripts/prove rfc8867` only, which says all
//! figures.
#![forbid(unsafe_code)]

mod estimator_support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use estimator_support::Random;
use estimator_support::rfc8867::{self, Case, MOST_BPS, Run, SAMPLE};
use estimator_support::sender::{Shared, World};
use opencall_dataplane::congestion::{Config, Demand};
use opencall_wire::time::Time;

/// What is left of a source while it pauses: its voice.
const PAUSED_BPS: f64 = 2e4;

fn run(case: &Case) -> Run {
    let arrived = case.clients.iter().map(|_| VecDeque::new()).collect();
    let link = Rc::new(RefCell::new(Shared { link: case.link(Time::ZERO), arrived }));
    let mut worlds: Vec<World> = Vec::new();
    let (mut run, mut now) = (Run::new(case), Time::ZERO);
    while now < Time::from_millis(case.seconds * 1_000) {
        while let Some(&(from_s, detour_ms)) = case.clients.get(worlds.len())
            && Time::from_millis(from_s * 1_000) <= now
        {
            let (flow, config) = (worlds.len(), Config::default());
            let mut world = World::behind(Rc::clone(&link), flow, now, config, MOST_BPS);
            world.random = Random(case.seed * 1_000 + flow as u64);
            (world.spread, world.detour) = (0.5, Duration::from_millis(detour_ms));
            worlds.push(world);
        }
        if let Some((client, from_s, to_s)) = case.pause {
            let is_paused = (from_s * 1_000..to_s * 1_000).contains(&now.as_millis());
            let wanted_bps = if is_paused { PAUSED_BPS } else { MOST_BPS };
            let world = &mut worlds[client];
            if world.demand_bps != wanted_bps {
                world.demand_bps = wanted_bps;
                world.estimator.set_demand(now, Demand { wanted_bps, upgrade_bps: None });
            }
        }
        now = now + SAMPLE;
        while worlds.iter().any(|world| world.now < now) {
            worlds.iter_mut().for_each(World::step);
        }
        let rows = link.borrow_mut().link.emulator(now).take_log();
        run.note(worlds.iter().map(|world| world.taken_bytes), &rows);
    }
    run
}

#[test]
fn case_5_1_is_used_and_does_not_queue() {
    for delay_ms in [50, 100] {
        rfc8867::variable_is_used(delay_ms, 0, run);
        rfc8867::variable_does_not_queue(delay_ms, 0, run);
    }
}

#[test]
#[ignore = "75 to 84 % are used: scripts/prove rfc8867"]
fn case_5_1_with_jitter_is_used() {
    rfc8867::variable_is_used(50, 30, run);
}

#[test]
#[ignore = "76 to 84 % are used: scripts/prove rfc8867"]
fn case_5_1_with_jitter_and_a_long_way_is_used() {
    rfc8867::variable_is_used(100, 30, run);
}

#[test]
fn case_5_1_with_jitter_does_not_queue() {
    rfc8867::variable_does_not_queue(50, 30, run);
}

#[test]
#[ignore = "up to 171 ms wait: scripts/prove rfc8867"]
fn case_5_1_with_jitter_and_a_long_way_does_not_queue() {
    rfc8867::variable_does_not_queue(100, 30, run);
}

#[test]
fn case_5_2_is_shared_by_two() {
    rfc8867::variable_for_two(run);
}

#[test]
fn case_5_4_is_shared_by_those_who_come() {
    rfc8867::one_after_the_other(run);
}

#[test]
#[ignore = "ratios are 1.4 to 2.5: scripts/prove rfc8867"]
fn case_5_5_is_shared_over_ways_of_different_lengths() {
    rfc8867::different_lengths(run);
}

#[test]
#[ignore = "a tenth of the link is left: scripts/prove rfc8867"]
fn case_5_6_beside_tcp() {
    rfc8867::beside_tcp(300, run);
}

#[test]
#[ignore = "the least in a second is 125 to 221 kbit/s: scripts/prove rfc8867"]
fn case_5_6_beside_tcp_with_a_long_queue() {
    rfc8867::beside_tcp(1_000, run);
}

#[test]
fn case_5_7_beside_short_transfers() {
    rfc8867::beside_short_transfers(run);
}

#[test]
#[ignore = "75 to 165 % of the share come back: scripts/prove rfc8867"]
fn case_5_8_one_that_pauses() {
    rfc8867::one_that_pauses(run);
}
