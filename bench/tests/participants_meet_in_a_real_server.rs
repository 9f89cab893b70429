//! The generator against the real server: everything that is sent arrives, once and unharmed.

use std::time::Duration;

use opencall_bench::client::net::Network;
use opencall_bench::client::publish::LAYER_RATES;
use opencall_bench::media::codec::VideoCodec;
use opencall_bench::run::{RunOptions, run};
use opencall_bench::scenario::Scenario;
use opencall_bench::server::ServerOptions;

#[test]
fn two_people_see_and_hear_each_other() {
    let options = RunOptions {
        scenario: Scenario::Pair,
        participants: 2,
        rooms: 1,
        duration: Duration::from_secs(3),
        join_rate: 10.0,
        seed: 1,
        target: None,
        pids: Vec::new(),
        server: ServerOptions { outgoing_bitrate: "3M".to_owned(), ..ServerOptions::beside_us() },
        pin: false,
        floor: false,
        network: Network::Loopback,
        layers: LAYER_RATES.to_vec(),
        codec: VideoCodec::Vp8,
        bad_links: None,
    };
    let result = run(&options, &mut |_| {}).expect("cargo build --bin opencall-sfu, first");
    assert_eq!((result.participants, result.failed_joins, result.silent_streams), (2, 0, 0));
    assert_eq!((result.corrupted, result.duplicated), (0, 0));
    // Two cameras of 30 frames a second for 3 s; a loaded machine may be late.
    assert!(result.forwarded_packets > 100, "{}", result.forwarded_packets);
    assert!(result.loss_ratio < 0.05, "{} lost", result.lost);
    assert!(result.latency_us.p50 > 0.0 && result.cpu_us_per_forwarded_packet.is_some());
    assert!(!result.seconds.is_empty() && !result.latency_histogram.is_empty());
}
