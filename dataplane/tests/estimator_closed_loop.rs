//! The estimator in a closed loop: what it says is what is sent, over a link with one bottleneck.
//!
//! The first cases are those of libwebrtc's own scenario tests, with their bounds.
#![forbid(unsafe_code)]

mod estimator_support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use estimator_support::sender::{Shared, World};
use estimator_support::{Link, Phase, Random};
use opencall_dataplane::congestion::{Config, Demand};
use opencall_wire::time::Time;

fn phase(from_s: f64, kbps: f64, delay_ms: f64) -> Phase {
    Phase { from_s, rate_bps: kbps * 1e3, delay_ms, loss: 0.0 }
}

fn config(start_kbps: f64, max_kbps: f64) -> Config {
    Config { start_bps: start_kbps * 1e3, max_bps: max_kbps * 1e3, ..Config::default() }
}

#[track_caller]
fn assert_between(value: f64, low: f64, high: f64, what: &str) {
    println!("{what}: {value:.0} (from {low} to {high})");
    assert!((low..=high).contains(&value), "{what}: {value:.0} is not from {low} to {high}");
}

#[test]
fn follows_the_capacity_as_the_reference_s_scenario_does() {
    let phases = [phase(0.0, 500.0, 100.0), phase(25.0, 800.0, 100.0), phase(45.0, 100.0, 200.0)];
    let mut world = World::new(config(300.0, 1500.0), 1.5e6, &phases);
    world.run_to(25.0);
    assert_between(world.kbps(), 350.0, 550.0, "500 kbit/s after 25 s");
    world.run_to(45.0);
    assert_between(world.kbps(), 600.0, 900.0, "800 kbit/s after 20 s");
    world.run_to(95.0);
    assert_between(world.kbps(), 65.0, 115.0, "100 kbit/s after 50 s");
}

#[test]
fn a_tenth_lost_leaves_more_than_100_kbps() {
    let lossy = Phase { loss: 0.1, ..phase(0.0, 2000.0, 200.0) };
    let mut world = World::new(config(300.0, 1500.0), 1.5e6, &[lossy]);
    world.run_to(120.0);
    assert_between(world.kbps(), 100.0, 2000.0, "2 Mbit/s with 10 % loss after 120 s");
}

#[test]
fn a_fall_from_4_to_1_is_followed_within_a_second_and_a_half() {
    let phases = [phase(0.0, 4000.0, 25.0), phase(30.0, 1000.0, 25.0)];
    let mut world = World::new(Config::default(), 8e6, &phases);
    world.run_to(30.0);
    assert_between(world.kbps(), 3000.0, 4200.0, "4 Mbit/s after 30 s");
    world.run_to(31.5);
    assert_between(world.kbps(), 500.0, 1000.0, "1.5 s after the fall");
    let (mut queues, mut lowest) = (Vec::new(), f64::MAX);
    for step in 0..1_700 {
        let seconds = 33.0 + f64::from(step) / 100.0;
        let highest = world.run_to(seconds);
        assert!(highest < 1_100.0, "{highest:.0} at {seconds}");
        lowest = lowest.min(world.kbps());
        if seconds > 35.0 {
            queues.push(world.queued_ms());
        }
    }
    queues.sort_by(f64::total_cmp);
    assert_between(lowest, 700.0, 1000.0, "least from 3 s after the fall on");
    assert_between(queues[queues.len() * 95 / 100], 0.0, 60.0, "p95 of the queue from 5 s on, ms");
}

#[test]
fn a_cold_start_finds_most_of_4_mbps_within_a_second() {
    let mut world = World::new(Config::default(), 8e6, &[phase(0.0, 4000.0, 25.0)]);
    world.run_to(1.0);
    assert_between(world.kbps(), 2500.0, 4200.0, "after 1 s");
    assert!(world.queued_ms() < 100.0);
}

#[test]
fn a_cold_start_on_a_thin_link_backs_off() {
    let mut world = World::new(Config::default(), 8e6, &[phase(0.0, 400.0, 25.0)]);
    world.run_to(3.0);
    assert_between(world.kbps(), 100.0, 420.0, "after 3 s");
    world.run_to(20.0);
    assert_between(world.kbps(), 250.0, 420.0, "after 20 s");
}

#[test]
fn feedback_lost_and_stopped_is_no_rise_above_the_link() {
    let mut world = World::new(Config::default(), 8e6, &[phase(0.0, 2000.0, 25.0)]);
    world.run_to(20.0);
    world.feedback_loss = 0.3;
    world.run_to(22.0);
    let highest = world.run_to(50.0);
    assert_between(highest, 1000.0, 2200.0, "highest with 30 % of the feedback lost");
    let before = world.kbps();
    world.feedback_loss = 1.0;
    let highest = world.run_to(55.0);
    assert_between(highest, 500.0, 2100.0, "highest without feedback");
    assert_between(world.kbps() / before * 100.0, 5.0, 50.0, "percent after 5 s without");
    world.feedback_loss = 0.0;
    world.run_to(58.0);
    assert_between(world.kbps(), 0.75 * before, 2100.0, "3 s after it is back");
}

#[test]
fn a_steady_use_of_most_of_the_estimate_still_finds_more() {
    let phases = [phase(0.0, 1000.0, 25.0), phase(60.0, 4000.0, 25.0)];
    let mut world = World::new(Config::default(), 8e6, &phases);
    world.used = 0.85;
    world.run_to(60.0);
    assert_between(world.kbps(), 600.0, 1250.0, "1 Mbit/s for a minute");
    let media = world.media_bytes;
    let part = world.probe_bytes as f64 / media as f64 * 100.0;
    assert_between(part, 0.0, 3.0, "percent of probes");
    world.run_to(66.0);
    assert_between(world.kbps(), 2000.0, 4200.0, "6 s after the rise to 4 Mbit/s");
}

#[test]
fn an_idle_client_is_not_probed_for_what_nobody_wants() {
    let mut world = World::new(Config::default(), 2e5, &[phase(0.0, 4000.0, 25.0)]);
    world.run_to(10.0);
    let probed = world.probe_bytes;
    world.run_to(70.0);
    assert_eq!(world.probe_bytes, probed);
    assert_between(world.kbps(), 400.0, 5000.0, "while a part of it is used");
    // More is wanted: found at once.
    world.demand_bps = 3e6;
    let demand = Demand { wanted_bps: 3e6, upgrade_bps: None };
    world.estimator.set_demand(world.now, demand);
    world.run_to(72.0);
    assert_between(world.kbps(), 2500.0, 5000.0, "2 s after more is wanted");
}

#[test]
fn jitter_of_30_ms_costs_little() {
    let mut world = World::new(Config::default(), 8e6, &[phase(0.0, 1000.0, 100.0)]);
    world.link.borrow_mut().link.jitter_ms = 30.0;
    world.run_to(30.0);
    let mut sum = 0.0;
    for second in 30..60 {
        world.run_to(f64::from(second));
        sum += world.kbps();
    }
    assert_between(sum / 30.0, 600.0, 1100.0, "mean with jitter");
}

/// Mean estimate of some seconds, kbit/s.
fn mean(world: &mut World, from_s: u32, to_s: u32) -> f64 {
    world.run_to(f64::from(from_s));
    let mut sum = 0.0;
    for tenth in from_s * 10..to_s * 10 {
        world.run_to(f64::from(tenth) / 10.0);
        sum += world.kbps();
    }
    sum / f64::from((to_s - from_s) * 10)
}

/// Kbit/s sent from 20 to 60 s, but for probes.
fn sent_kbps(loss: f64) -> f64 {
    let lossy = Phase { loss, ..phase(0.0, 4000.0, 25.0) };
    let mut world = World::new(Config::default(), 3.5e6, &[lossy]);
    world.run_to(20.0);
    let before = world.media_bytes;
    world.run_to(60.0);
    (world.media_bytes - before) as f64 * 8.0 / 40.0 / 1e3
}

#[test]
fn random_loss_costs_no_more_than_it_must() {
    let clean = sent_kbps(0.0);
    for (loss, least_percent) in [(0.02, 95.0), (0.05, 85.0), (0.1, 40.0)] {
        let percent = sent_kbps(loss) / clean * 100.0;
        assert_between(percent, least_percent, 101.0, &format!("percent at {loss} loss"));
    }
    assert_between(sent_kbps(0.2), 350.0, 4000.0, "20 % lost");
}

#[test]
fn a_fall_from_1_to_0_4_and_a_rise_to_2() {
    let phases = [phase(0.0, 1000.0, 25.0), phase(30.0, 400.0, 25.0), phase(60.0, 2000.0, 25.0)];
    let mut world = World::new(Config::default(), 8e6, &phases);
    world.run_to(31.5);
    assert_between(world.kbps(), 200.0, 400.0, "1.5 s after the fall to 0.4");
    assert_between(mean(&mut world, 33, 60), 300.0, 410.0, "mean from 3 s on");
    world.run_to(68.0);
    assert_between(world.kbps(), 1500.0, 2200.0, "8 s after the rise to 2");
}

#[test]
fn a_minute_of_nothing_is_forgotten_in_a_second() {
    let mut world = World::new(Config::default(), 1.8e6, &[phase(0.0, 2000.0, 25.0)]);
    world.run_to(20.0);
    let before = world.kbps();
    world.demand_bps = 3e4;
    let none = Demand { wanted_bps: 3e4, upgrade_bps: None };
    world.estimator.set_demand(world.now, none);
    let (media, probes) = (world.media_bytes, world.probe_bytes);
    world.run_to(80.0);
    let part = (world.probe_bytes - probes) as f64 / (world.media_bytes - media) as f64;
    assert_between(part * 100.0, 0.0, 3.0, "percent of padding while paused");
    world.demand_bps = 1.8e6;
    let again = Demand { wanted_bps: 1.8e6, upgrade_bps: None };
    world.estimator.set_demand(world.now, again);
    world.run_to(81.0);
    assert_between(world.kbps(), 0.9 * before.min(1800.0), 2800.0, "a second after it goes on");
}

#[test]
fn a_long_way_with_jitter() {
    let mut world = World::new(Config::default(), 8e6, &[phase(0.0, 2000.0, 100.0)]);
    world.link.borrow_mut().link.jitter_ms = 30.0;
    assert_between(mean(&mut world, 20, 80), 1300.0, 2100.0, "mean at 200 ms with jitter");
}

#[test]
fn a_link_that_drops_and_does_not_queue_is_not_flooded() {
    for kbps in [300.0, 1000.0, 3000.0] {
        let mut world = World::new(Config::default(), 8e6, &[phase(0.0, kbps, 25.0)]);
        world.link.borrow_mut().link.queue_ms = 25.0_f64.max(2.5 * 9_600.0 / kbps);
        let estimate = mean(&mut world, 20, 60);
        assert_between(estimate, 0.8 * kbps, 1.12 * kbps, &format!("mean of {kbps:.0}"));
        let loss = world.estimator.loss() * 100.0;
        assert_between(loss, 0.0, 10.0, "percent lost");
    }
}

/// Roughly: as with the reference, who has more changes over a minute or so.
#[test]
fn two_behind_one_link_share_it() {
    for (second_from_s, rate_kbps) in [(0.0, 3000.0), (10.0, 3000.0), (5.0, 1500.0)] {
        let link = Link::new(1, &[phase(0.0, rate_kbps, 25.0)]);
        let arrived = vec![VecDeque::new(), VecDeque::new()];
        let link = Rc::new(RefCell::new(Shared { link, arrived }));
        let config = Config::default();
        let mut first = World::behind(Rc::clone(&link), 0, Time::ZERO, config, 8e6);
        first.run_to(second_from_s);
        let mut second = World::behind(link, 1, first.now, config, 8e6);
        second.random = Random(77);
        (first.spread, second.spread) = (0.5, 0.5);
        let mut begun = [0, 0];
        while first.now < Time::from_millis(120_000) {
            first.step();
            second.step();
            if first.now < Time::from_millis(30_000) {
                begun = [first.media_bytes, second.media_bytes];
            }
        }
        let [first, second] = [first.media_bytes - begun[0], second.media_bytes - begun[1]];
        let used = (first + second) as f64 * 8.0 / 90.0 / 1e3;
        assert_between(first as f64 / second as f64 * 100.0, 33.0, 300.0, "percent of the second");
        assert_between(used / rate_kbps * 100.0, 70.0, 102.0, "percent of the link used");
    }
}
