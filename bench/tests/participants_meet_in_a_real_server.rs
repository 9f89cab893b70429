//! The generator against the real server: everything that is sent arrives, once and unharmed, in
//! each scenario.

use std::time::Duration;

use opencall_bench::client::emulation::{BadLinks, Share};
use opencall_bench::client::messages::MessagePlan;
use opencall_bench::client::net::Network;
use opencall_bench::client::publish::LAYER_RATES;
use opencall_bench::client::session::Dialect;
use opencall_bench::client::signaling::Protocol;
use opencall_bench::media::codec::VideoCodec;
use opencall_bench::ramp::RampOptions;
use opencall_bench::result::BenchResult;
use opencall_bench::run::{RunOptions, run};
use opencall_bench::scenario::Scenario;
use opencall_bench::server::ServerOptions;
use opencall_emulator::LinkConfig;

fn options(scenario: Scenario, participants: u32, seconds: u64) -> RunOptions {
    RunOptions {
        strangers: 5_000,
        scenario,
        participants,
        rooms: 1,
        room: None,
        duration: Duration::from_secs(seconds),
        join_rate: 10.0,
        seed: 1,
        target: None,
        pids: Vec::new(),
        server: ServerOptions { outgoing_bitrate: "3M".to_owned(), ..ServerOptions::beside_us() },
        pin: false,
        floor: false,
        network: Network::Loopback,
        dialect: Dialect::Mediasoup(Protocol::Opencall),
        warm_up: Duration::ZERO,
        layers: LAYER_RATES.to_vec(),
        sends_all_layers: false,
        codec: VideoCodec::Vp8,
        messages: None,
        bad_links: None,
        ramp: RampOptions::default(),
    }
}

/// Runs; whatever the scenario, nobody is kept out and nothing is damaged.
fn sound(options: &RunOptions) -> BenchResult {
    let result = run(options, &mut |_| {}).expect("cargo build --bin opencall-sfu, first");
    assert_eq!((result.failed_joins, result.silent_streams), (0, 0));
    assert_eq!((result.corrupted, result.duplicated), (0, 0));
    result
}

#[test]
fn two_people_see_and_hear_each_other() {
    let result = sound(&options(Scenario::Pair, 2, 3));
    assert_eq!(result.participants, 2);
    // Two cameras of 30 frames a second for 3 s; a loaded machine may be late.
    assert!(result.forwarded_packets > 100, "{}", result.forwarded_packets);
    assert!(result.loss_ratio < 0.05, "{} lost", result.lost);
    assert!(result.latency_us.p50 > 0.0 && result.cpu_us_per_forwarded_packet.is_some());
    assert!(!result.seconds.is_empty() && !result.latency_histogram.is_empty());
}

#[test]
fn people_who_speak_protoo_see_and_hear_each_other() {
    let dialect = Dialect::Mediasoup(Protocol::Protoo);
    let result = sound(&RunOptions { dialect, ..options(Scenario::Meeting, 3, 2) });
    assert_eq!(result.participants, 3);
    // A voice and a camera of each of the two others, each.
    assert_eq!(result.streams, 3 * 2 * 2);
    // Three cameras of 30 frames a second, each to two others for 2 s.
    assert!(result.forwarded_packets > 200, "{}", result.forwarded_packets);
    assert_eq!(result.lost, 0);
    let notes = result.notes.join("; ");
    assert!(notes.contains("all layers") && !notes.contains("refused"), "{notes}");
}

#[test]
fn who_only_speaks_in_a_webinar_is_offered_nothing_over_protoo() {
    let dialect = Dialect::Mediasoup(Protocol::Protoo);
    let result = sound(&RunOptions { dialect, ..options(Scenario::Webinar, 3, 1) });
    assert_eq!((result.participants, result.streams), (3, 2 * 2));
}

#[test]
fn messages_of_one_reach_all_others_in_either_envelope() {
    for protocol in [Protocol::Opencall, Protocol::Protoo] {
        let options = RunOptions {
            dialect: Dialect::Mediasoup(protocol),
            messages: Some(MessagePlan { per_second: 30.0, bytes: 5_000 }),
            ..options(Scenario::Meeting, 3, 2)
        };
        let messages = sound(&options).messages.expect("some were sent");
        assert!(messages.sent > 20 && messages.received > 40, "{protocol:?}: {messages:?}");
        assert_eq!((messages.lost, messages.corrupted), (0, 0), "{protocol:?}");
        assert!(messages.latency_us.p50 > 0.0, "{protocol:?}");
    }
}

#[test]
fn cameras_of_every_codec_are_forwarded() {
    for codec in [VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
        let result = sound(&RunOptions { codec, ..options(Scenario::Pair, 2, 1) });
        assert!(result.forwarded_packets > 40, "{codec:?}: {}", result.forwarded_packets);
        assert!(result.loss_ratio < 0.05, "{codec:?}: {} lost", result.lost);
    }
}

#[test]
fn one_on_a_bad_link_suffers_and_the_others_do_not() {
    let delay = Duration::from_millis(30);
    let link = LinkConfig { delay, loss: 0.05, ..LinkConfig::default() };
    let bad_links = BadLinks { up: link, down: link, share: Share::Count(1), seed: 3 };
    let bad_links = Some(bad_links);
    let result = sound(&RunOptions { bad_links, ..options(Scenario::Meeting, 3, 4) });
    let bad = result.bad_links.expect("one is behind a bad link");
    assert!(bad.received > 100 && bad.retransmitted > 0, "{bad:?}");
    assert!(bad.latency_us.p50 > 30_000.0, "{bad:?}");
    assert!(result.latency_us.p50 < 30_000.0, "{:?}", result.latency_us);
    assert!(result.forwarded_packets > 100 && result.loss_ratio < 0.05, "{}", result.lost);
}

#[test]
fn a_ramp_climbs_and_then_measures_at_a_part_of_it() {
    let ramp = RampOptions {
        step_rooms: 1,
        step: Duration::from_secs(1),
        max_p99: Duration::from_secs(5),
        max_loss: 1.0,
        then: 0.5,
    };
    let result = sound(&RunOptions { ramp, rooms: 2, ..options(Scenario::Ramp, 2, 1) });
    let held: Vec<(u64, bool)> = result.steps.iter().map(|s| (s.participants, s.held)).collect();
    assert_eq!(held, [(2, true), (4, true)]);
    let knee = result.knee.expect("a ramp has a knee");
    assert_eq!((knee.rooms, knee.participants), (2, 4));
    assert!(knee.packets_per_s > 50.0 && knee.limit.starts_with("none"), "{knee:?}");
    // Half of the two rooms stays.
    assert_eq!(result.participants, 2);
    assert!(result.forwarded_packets > 20);
}

#[test]
fn a_storm_of_joins_is_compared_with_the_time_before() {
    let result = sound(&options(Scenario::JoinStorm, 2, 4));
    let storm = result.storm.expect("a storm was measured");
    // How many of those wanted come in time is the machine's.
    assert!(storm.joins_per_second > 0.5 && storm.wanted_joins_per_second == 10.0, "{storm:?}");
    assert!(storm.before_us.p99 > 0.0 && storm.during_us.p99 > 0.0 && storm.p99_ratio > 0.0);
    assert!(result.loss_ratio < 0.05, "{} lost", result.lost);
    assert!(!result.verdicts.is_empty());
}

#[test]
fn people_come_and_go_and_memory_is_judged() {
    let join_rate = 4.0;
    let result = sound(&RunOptions { join_rate, ..options(Scenario::Churn, 3, 9) });
    assert!(result.joins_per_second > 0.3, "{}", result.joins_per_second);
    assert_eq!(result.participants, 3);
    let memory = result.memory.expect("nine seconds have a trend");
    assert!(memory.first_bytes > 1 << 20 && memory.span_s > 3.0, "{memory:?}");
    assert!(result.verdicts.iter().any(|verdict| verdict.starts_with("memory")));
}

#[test]
fn the_idle_cost_memory_only() {
    let result = sound(&options(Scenario::Idle, 6, 1));
    assert_eq!((result.participants, result.forwarded_packets), (6, 0));
    assert!(result.rss_per_participant_bytes.is_some_and(|bytes| bytes > 0.0));
    assert!(result.server_cpu.is_some());
    let nobody = sound(&options(Scenario::Idle, 0, 1));
    assert_eq!((nobody.participants, nobody.rss_per_participant_bytes), (0, None));
}

/// Each core is killed in turn: nobody has to come again, and what comes is whole. How long
/// pictures stand still is for the release build to tell (`run kill-core`).
#[test]
fn a_core_that_dies_interrupts_nobody_for_long() {
    let mut options = options(Scenario::KillCore, 4, 8);
    options.server.workers = 2;
    options.rooms = 2;
    let result = sound(&options);
    assert_eq!(result.participants, 8);
    let faults = result.faults.expect("two deaths");
    assert_eq!(faults.count, 2);
    assert!(faults.after_us.p50 > 0.0 && faults.after_us.max < 2e6, "{faults:?}");
}

/// Strangers send noise, forged checks, handshakes and media, also in participants' names: none of
/// it is heard, and next to nothing answered.
#[test]
fn strangers_disturb_nobody() {
    let result = sound(&options(Scenario::Flood, 4, 4));
    assert_eq!(result.participants, 4);
    let flood = result.flood.expect("a flood");
    assert!(flood.datagrams_per_second > 500.0, "{flood:?}");
    assert!(flood.answered_ratio < 0.01 && flood.loss_ratio < 0.005, "{flood:?}");
    let told = result.notes.iter().find(|note| note.contains("dropped in its life"));
    let told = told.expect("what is dropped is counted by its reason");
    for reason in ["stun", "srtp"] {
        assert!(told.contains(reason), "{told}");
    }
}
