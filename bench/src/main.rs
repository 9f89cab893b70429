//! `opencall-bench`: what stands between or against a server to measure it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use opencall_bench::client::net::Network;
use opencall_bench::client::publish::LAYER_RATES;
use opencall_bench::floor;
use opencall_bench::impairment::LinkConfig;
use opencall_bench::link::{Relay, RelayConfig};
use opencall_bench::result::{BenchResult, Second};
use opencall_bench::run::{RunOptions, run};
use opencall_bench::scenario::Scenario;
use opencall_bench::server::{ServerOptions, beside_us};

/// Load and link tools for WebRTC media servers.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put a bad link between clients and a server: a UDP relay with loss, delay and a bottleneck.
    Link(LinkArgs),
    /// Put participants against a server and measure: without --target, one that is started here.
    Run(RunArgs),
    /// Measure what sealing and sending alone cost.
    Floor(FloorArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Who meets whom.
    scenario: Scenario,
    /// Participants of a room; the default depends on the scenario.
    #[arg(long)]
    participants: Option<u32>,
    /// Rooms.
    #[arg(long, default_value_t = 1)]
    rooms: u32,
    /// How long is measured, after everyone has joined: 20s, 5m, 500 (seconds).
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    duration: Duration,
    /// Participants that enter per second.
    #[arg(long, default_value_t = 50.0, value_name = "PER_SECOND")]
    join_rate: f64,
    /// Data cores of the server that is started.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Its I/O: uring, mmsg or auto.
    #[arg(long, default_value = "auto", value_parser = ["uring", "mmsg", "auto"])]
    io: String,
    /// Its budget for the video sent to one participant.
    #[arg(long, default_value = "1500k", value_name = "RATE")]
    outgoing_bitrate: String,
    /// Its program; the default is opencall-sfu beside this one.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// A server that runs already, which offers media on loopback: ws://127.0.0.1:8080/ws
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// Its processes, whose CPU and memory are counted.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Whether server and participants get CPUs of their own.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pin: bool,
    /// Measure the floor of the same packets afterwards.
    #[arg(long)]
    floor: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of all media.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct FloorArgs {
    /// Bytes of a sealed packet.
    #[arg(long, default_value_t = 1100)]
    packet_bytes: usize,
    /// Packets of a train.
    #[arg(long, default_value_t = 6.0)]
    train: f64,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        "" => return Err("expected a number, as in 20s or 5m".into()),
        number => (number, &text[number.len()..]),
    };
    let unit = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit}: use s, m or h")),
    };
    let seconds: f64 = number.parse().map_err(|_| format!("{number} is no number"))?;
    if !(1.0..=1e6).contains(&(seconds * unit)) {
        return Err("a run takes at least a second and at most 11 days".into());
    }
    Ok(Duration::from_secs_f64(seconds * unit))
}

#[derive(Args)]
struct LinkArgs {
    /// Address that clients use in place of the server's (port 0: any; it is printed).
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server's media address.
    #[arg(long)]
    server: SocketAddr,
    /// Loss on the way to the server, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss_up: f64,
    /// Loss on the way to the client, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss_down: f64,
    /// Mean length of a loss burst, packets.
    #[arg(long, default_value_t = 1.0)]
    burst: f64,
    /// Delay each way, milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Jitter each way, milliseconds.
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// Bottleneck each way, kilobits per second; unlimited when absent.
    #[arg(long)]
    rate_kbps: Option<u64>,
    /// Queue at the bottleneck, kilobytes.
    #[arg(long, default_value_t = 64)]
    queue_kb: u64,
    /// Packets that take a longer way, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    reorder: f64,
    /// Packets that arrive twice, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    duplicate: f64,
    /// Seed: the same seed treats the same packets the same way.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl LinkArgs {
    fn direction(&self, loss_percent: f64) -> LinkConfig {
        LinkConfig {
            loss: loss_percent / 100.0,
            burst: self.burst,
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            rate_bps: self.rate_kbps.map(|kbps| kbps * 1000),
            queue_bytes: self.queue_kb * 1024,
            reorder: self.reorder / 100.0,
            duplicate: self.duplicate / 100.0,
            ..LinkConfig::default()
        }
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Link(args) => relay(&args),
        Command::Run(args) => load(args),
        Command::Floor(args) => measure_floor(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opencall-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn relay(args: &LinkArgs) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(link(args)).map_err(|error| {
        format!("cannot relay from {}: {error}; choose another --listen address", args.listen)
    })
}

fn load(args: RunArgs) -> Result<(), String> {
    if args.join_rate.is_nan() || args.join_rate <= 0.0 || args.workers == 0 || args.rooms == 0 {
        return Err("--join-rate, --workers and --rooms are at least one".into());
    }
    let options = RunOptions {
        scenario: args.scenario,
        participants: args.participants.unwrap_or(args.scenario.default_participants()),
        rooms: args.rooms,
        duration: args.duration,
        join_rate: args.join_rate,
        seed: args.seed,
        target: args.target,
        pids: args.pid,
        server: ServerOptions {
            program: args.server.unwrap_or_else(beside_us),
            workers: args.workers,
            io: args.io,
            outgoing_bitrate: args.outgoing_bitrate,
            ..ServerOptions::beside_us()
        },
        pin: args.pin,
        floor: args.floor,
        network: Network::Loopback,
        layers: LAYER_RATES.to_vec(),
    };
    let result = run(&options, &mut show_second)?;
    show_result(&result);
    args.json.map_or(Ok(()), |path| result.write(&path))
}

fn show_second(second: &Second) {
    let server: f64 = second.threads.iter().map(|thread| thread.user + thread.system).sum();
    println!(
        "{:6.1} s {} {:5} participants {:9.0} packets/s {:4} lost  p50 {:6.0} p99 {:6.0} us  \
         CPU server {:3.0} % load {:3.0} %",
        second.t,
        if second.measured { ' ' } else { '-' },
        second.participants,
        second.packets_per_s,
        second.lost,
        second.latency_p50_us,
        second.latency_p99_us,
        server * 100.0,
        second.generator_cpu * 100.0,
    );
}

fn show_result(result: &BenchResult) {
    let us = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    println!("forwarded  {} packets in {:.1} s", result.forwarded_packets, result.duration_s);
    println!(
        "CPU        {} us per forwarded packet (user {}, system {})",
        us(result.cpu_us_per_forwarded_packet),
        us(result.user_us_per_forwarded_packet),
        us(result.system_us_per_forwarded_packet),
    );
    let latency = &result.latency_us;
    println!(
        "latency    p50 {:.0} p90 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    );
    println!(
        "faults     {} lost ({:.4} %), {} duplicated, {} corrupted, {} reordered, {} retransmitted",
        result.lost,
        result.loss_ratio * 100.0,
        result.duplicated,
        result.corrupted,
        result.reordered,
        result.retransmitted,
    );
    println!(
        "people     {} present, {} failed, {} silent streams, {:.1} joins/s",
        result.participants, result.failed_joins, result.silent_streams, result.joins_per_second
    );
    println!(
        "load       {:.0} % of a CPU, timers late by {:.1} ms at most",
        result.generator_cpu * 100.0,
        result.generator_lag_ms
    );
    println!("trains     {} packets per message", us(result.mean_gso_segments));
    if let Some(floor) = &result.floor {
        println!(
            "floor      {:.0} ns per packet, ratio {}",
            floor.ns_per_packet,
            us(result.floor_ratio)
        );
    }
}

fn measure_floor(args: &FloorArgs) -> Result<(), String> {
    let floor = floor::measure(args.packet_bytes, args.train)?;
    println!("seal               {:6.0} ns per packet", floor.seal_ns_per_packet);
    println!("seal and send, {:4.1} {:6.0} ns per packet", args.train, floor.ns_per_packet);
    println!("seal and send,  1   {:6.0} ns per packet", floor.single_ns_per_packet);
    Ok(())
}

async fn link(args: &LinkArgs) -> std::io::Result<()> {
    let config = RelayConfig {
        up: args.direction(args.loss_up),
        down: args.direction(args.loss_down),
        seed: args.seed,
    };
    let relay = Relay::bind(args.listen, args.server, config).await?;
    println!("relaying {} to {}", relay.local_addr()?, args.server);
    let counters = relay.counters();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            println!(
                "up {}/{} down {}/{} packets delivered/offered",
                read(&counters.up_delivered),
                read(&counters.up_offered),
                read(&counters.down_delivered),
                read(&counters.down_offered),
            );
        }
    });
    relay.run().await
}
