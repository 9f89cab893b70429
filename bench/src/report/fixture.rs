//! A small result for tests.
#![forbid(unsafe_code)]

use crate::result::{BenchResult, Bucket, Floor, Latency, Machine, Second, ThreadCpu};

/// A meeting with two seconds of joining, three that count, and one lost packet.
pub fn meeting() -> BenchResult {
    let thread = |name: &str| ThreadCpu { name: name.to_owned(), cpu: 1, user: 0.2, system: 0.1 };
    let second = |t: f64| Second {
        t,
        measured: t > 2.0,
        participants: 100,
        packets_per_s: 1000.0,
        sent_packets_per_s: 100.0,
        bits_per_s: 1e6,
        lost: u64::from(t == 4.0),
        latency_p50_us: 50.0,
        latency_p99_us: 300.0,
        threads: vec![thread("data-0"), thread("opencall-sfu")],
        generator_cpu: 0.4,
        rss_bytes: 40 << 20,
    };
    BenchResult {
        scenario: "meeting".to_owned(),
        seed: 1,
        duration_s: 3.0,
        command_line: "opencall-bench run meeting --rooms 10".to_owned(),
        started_unix_s: 951_782_400,
        participants: 100,
        rooms: 10,
        joins_per_second: 50.0,
        sent_packets: 300,
        forwarded_packets: 3000,
        forwarded_bytes: 1_800_000,
        lost: 1,
        loss_ratio: 1.0 / 3001.0,
        cpu_us_per_forwarded_packet: Some(2.5),
        user_us_per_forwarded_packet: Some(1.0),
        system_us_per_forwarded_packet: Some(1.5),
        server_cpu: Some(0.6),
        generator_cpu: 0.4,
        latency_us: Latency { p50: 50.0, p90: 80.0, p99: 400.0, p999: 900.0, max: 1200.0 },
        send_packets_per_syscall: Some(12.0),
        mean_gso_segments: Some(1.5),
        packets_per_sleep: Some(30.0),
        rss_bytes: Some(40 << 20),
        floor_ratio: Some(1.4),
        paced_floor_ratio: Some(1.1),
        floor: Some(Floor {
            train_segments: 1.5,
            ns_per_packet: 1800.0,
            paced_ns_per_packet: Some(2300.0),
            ..Floor::default()
        }),
        machine: Machine { cpu_model: "A CPU".to_owned(), cpus: 2, memory_bytes: 8 << 30 },
        kernel: "6.1.0".to_owned(),
        commit: "abc1234".to_owned(),
        server: "target/release/opencall-sfu".to_owned(),
        workers: Some(1),
        io: Some("uring".to_owned()),
        seconds: (1..=5).map(|t| second(f64::from(t))).collect(),
        latency_histogram: vec![
            Bucket { up_to_us: 50.0, count: 1500 },
            Bucket { up_to_us: 100.0, count: 1400 },
            Bucket { up_to_us: 1200.0, count: 100 },
        ],
        ..BenchResult::default()
    }
}

/// Fails unless every element of a page is closed in its turn and every attribute is quoted.
#[track_caller]
pub fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>\n").expect("a document type");
    while let Some((text, tail)) = rest.split_once('<') {
        let is_css = open.last() == Some(&"style");
        assert!(is_css || !text.contains('>'), "a stray > in {text:?}");
        let (tag, tail) = tail.split_once('>').expect("the end of a tag");
        rest = tail;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed out of turn");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        let parts: Vec<&str> = tag.split('"').collect();
        let unquoted: String = parts.iter().copied().step_by(2).collect();
        assert_eq!(parts.len() % 2, 1, "an open quote in {tag:?}");
        assert_eq!(unquoted.matches('=').count(), parts.len() / 2, "a bare value in {tag:?}");
        if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest == "\n", "left open: {open:?}, after it {rest:?}");
}
