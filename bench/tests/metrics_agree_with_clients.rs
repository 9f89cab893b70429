//! What the server counts of itself against what its clients counted, and what its data cores say
//! at their end.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use opencall_bench::client::emulation::{BadLinks, Share};
use opencall_bench::client::net::Network;
use opencall_bench::client::publish::LAYER_RATES;
use opencall_bench::client::session::Dialect;
use opencall_bench::client::signaling::Protocol;
use opencall_bench::media::codec::VideoCodec;
use opencall_bench::ramp::RampOptions;
use opencall_bench::run::{RunOptions, run};
use opencall_bench::scenario::Scenario;
use opencall_bench::server::{Server, ServerOptions};
use opencall_emulator::LinkConfig;

/// Ends only what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(address).expect("metrics are served");
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| line.rsplit_once(' '));
    series.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

/// The sum of all series of a metric whose labels have this text.
fn sum(series: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let is_it = |full: &str| full.split('{').next() == Some(name) && full.contains(label);
    series.iter().filter(|(full, _)| is_it(full)).map(|(_, value)| value).sum()
}

/// A scrape after everyone has gone and the cores were asked once more: two that are the same.
fn settled(address: SocketAddr) -> BTreeMap<String, f64> {
    let deadline = Instant::now() + PATIENCE;
    let traffic = |series: &BTreeMap<String, f64>| sum(series, "opencall_core_datagrams_total", "");
    let mut before = scrape(address);
    loop {
        // Cores are asked once a second.
        std::thread::sleep(Duration::from_millis(2_500));
        let now = scrape(address);
        if sum(&now, "opencall_sessions", "") == 0.0 && traffic(&now) == traffic(&before) {
            return now;
        }
        assert!(Instant::now() < deadline, "the server does not come to rest");
        before = now;
    }
}

#[test]
fn the_servers_counters_agree_with_its_clients() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = port.expect("a free port");
    let more = vec!["--metrics-listen".to_owned(), address.to_string()];
    let options =
        ServerOptions { outgoing_bitrate: "3M".to_owned(), more, ..ServerOptions::beside_us() };
    let server = Server::start(&options).expect("cargo build --bin opencall-sfu, first");
    let link = LinkConfig { loss: 0.05, ..LinkConfig::default() };
    let bad_links = BadLinks { up: link, down: link, share: Share::Count(1), seed: 3 };
    let result = run(
        &RunOptions {
            strangers: 0,
            scenario: Scenario::Meeting,
            participants: 3,
            rooms: 2,
            room: None,
            duration: Duration::from_secs(3),
            join_rate: 10.0,
            seed: 1,
            target: Some(server.url.clone()),
            pids: vec![server.pid()],
            server: options,
            pin: false,
            floor: false,
            network: Network::Loopback,
            dialect: Dialect::Mediasoup(Protocol::Opencall),
            warm_up: Duration::ZERO,
            layers: LAYER_RATES.to_vec(),
            sends_all_layers: false,
            codec: VideoCodec::Vp8,
            messages: None,
            bad_links: Some(bad_links),
            ramp: RampOptions::default(),
        },
        &mut |_| {},
    )
    .expect("it runs");
    let metrics = settled(address);
    let of = |name: &str, label: &str| sum(&metrics, name, label);

    assert_eq!(of("opencall_joins_total", ""), result.participants as f64);
    for gone in ["opencall_rooms", "opencall_core_transports", "opencall_core_consumers"] {
        assert_eq!(of(gone, ""), 0.0, "{gone}");
    }
    // What clients counted is of the time that was measured, which is a part of the whole.
    let forwarded = of("opencall_core_packets_forwarded_total", "");
    let measured = result.forwarded_packets as f64;
    assert!(measured > 300.0 && forwarded >= measured, "{forwarded} and {measured}");
    let received = of("opencall_core_datagrams_total", "received");
    assert!(received >= result.sent_packets as f64 * 0.94, "{received}");
    // One is behind a link that loses: both sides ask again.
    assert!(of("opencall_core_nacks_total", "received") > 0.0);
    assert!(of("opencall_core_nacks_total", "sent") > 0.0);
    assert!(of("opencall_core_key_frame_requests_total", "sent") > 0.0);
    // Every datagram is taken up, or a drop that a datagram can be.
    let taken = of("opencall_core_datagrams_taken_total", "");
    assert!(taken <= received && received <= taken + of("opencall_core_drops_total", ""));
    // Every forwarded packet took its time.
    let timed = of("opencall_core_forward_delay_seconds_count", "");
    assert_eq!(timed, forwarded);
    let bytes = of("opencall_core_bytes_total", "sent");
    assert!(bytes >= result.forwarded_bytes as f64, "{bytes}");

    let last_words = server.stop();
    assert_eq!(of("opencall_core_datagrams_total", "sent"), last_words.sent as f64);
}
