//! `opencall-bench versus`: our server and another one under the same load, in turns.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use opencall_bench::report::progress::Progress;
use opencall_bench::report::versus;
use opencall_bench::result::Second;
use opencall_bench::scenario::Scenario;
use opencall_bench::server::beside_us;
use opencall_bench::versus::{Turn, VersusOptions, versus_janus};

use super::{parse_duration, write};

/// With whom.
#[derive(Clone, Copy, ValueEnum)]
enum Other {
    /// Debian's package, in its VideoRoom: run this by scripts/janus-lab.
    Janus,
}

/// With whom, under which load, and where the result goes.
#[derive(clap::Args)]
pub struct Args {
    /// The other server.
    #[arg(value_enum)]
    other: Other,
    /// Who meets whom.
    #[arg(default_value = "meeting")]
    scenario: Scenario,
    /// Participants of a room.
    #[arg(long, default_value_t = 5)]
    participants: u32,
    /// Rooms.
    #[arg(long, default_value_t = 1)]
    rooms: u32,
    /// How long each turn is measured, after everyone hears everyone: 10s, 1m.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Turns of each server.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..100))]
    turns: u32,
    /// Participants that enter per second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..1000))]
    join_rate: u32,
    /// Bits per second of a camera: one layer, without simulcast.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(30_000..))]
    video_rate: u32,
    /// Our server's I/O: uring, mmsg or auto.
    #[arg(long, default_value = "auto", value_parser = ["uring", "mmsg", "auto"])]
    io: String,
    /// Our server's program; the default is opencall-sfu beside this one.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Janus's WebSocket.
    #[arg(long, env = "JANUS_URL", default_value = "ws://198.18.0.1:8188")]
    janus: String,
    /// Janus's process, in whose network namespace our server is started as well.
    #[arg(long, env = "JANUS_PID", default_value_t = 0, hide_default_value = true)]
    janus_pid: u32,
    /// Print every second.
    #[arg(long)]
    verbose: bool,
    /// Write the comparison as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the comparison as a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Seed of all media.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Compares, prints and writes the comparison.
///
/// # Errors
/// Why there is none, or why it cannot be written.
pub fn run(args: Args) -> Result<(), String> {
    let Other::Janus = args.other;
    let options = VersusOptions {
        scenario: args.scenario,
        participants: args.participants,
        rooms: args.rooms.max(1),
        duration: args.duration,
        turns: args.turns,
        join_rate: f64::from(args.join_rate),
        video_rate: args.video_rate,
        seed: args.seed,
        program: args.server.unwrap_or_else(beside_us),
        io: args.io,
        url: args.janus,
        pid: args.janus_pid,
    };
    let mut progress = args.verbose.then(|| Progress::new(std::io::stdout(), false, None));
    let mut on_second = |second: &Second| {
        // Who no longer reads what we say still wants the comparison.
        let _ = progress.as_mut().map(|progress| progress.show(second));
    };
    let comparison = versus_janus(&options, &mut on_second, &mut show_turn)?;
    print!("\n{}", comparison.table());
    println!("encryption {} on both sides", comparison.srtp_profile);
    if let Some(path) = &args.json {
        comparison.write(path)?;
    }
    args.html.map_or(Ok(()), |path| write(&path, &versus::html(&comparison)))
}

fn show_turn(turn: &Turn) {
    let figures = &turn.figures;
    println!(
        "{:9} {:6.2} us per packet  {:7.0} packets  {:.4} % lost  p50 {:6.0} p99 {:6.0} us  \
         CPU server {:3.0} % load {:3.0} %  {:3.0} streams, {:.0} silent  {:4.0} MiB",
        turn.server,
        figures.cpu_us_per_forwarded_packet,
        figures.forwarded_packets,
        figures.loss_ratio * 100.0,
        figures.latency_us.p50,
        figures.latency_us.p99,
        figures.server_cpu * 100.0,
        figures.generator_cpu * 100.0,
        figures.streams,
        figures.silent_streams,
        figures.rss_bytes / f64::from(1 << 20),
    );
}
