//! `opencall-bench run`: participants against a server.
#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use opencall_bench::client::emulation::{BadLinks, Share};
use opencall_bench::client::messages::{MESSAGE_MAX_BYTES, MESSAGE_MIN_BYTES, MessagePlan};
use opencall_bench::client::net::Network;
use opencall_bench::client::publish::LAYER_RATES;
use opencall_bench::client::session::Dialect;
use opencall_bench::client::signaling::Protocol;
use opencall_bench::media::codec::VideoCodec;
use opencall_bench::report::progress::Progress;
use opencall_bench::report::{page, summary};
use opencall_bench::run::{self, RunOptions, SETTLE_SECONDS};
use opencall_bench::scenario::Scenario;
use opencall_bench::server::{ServerOptions, beside_us};

use super::link_flags::LinkFlags;
use super::ramp_flags::RampFlags;
use super::{parse_duration, write};

/// Who meets whom, on which server, and where the result goes.
#[derive(clap::Args)]
pub struct Args {
    /// Who meets whom.
    scenario: Scenario,
    /// Participants of a room; the default depends on the scenario.
    #[arg(long)]
    participants: Option<u32>,
    /// Rooms, for a ramp at most; the default depends on the scenario.
    #[arg(long)]
    rooms: Option<u32>,
    /// The name of the room, where there is one: others may be in it, whose media are not checked.
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// How long is measured, after everyone has joined: 20s, 5m, 500 (seconds).
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    duration: Duration,
    /// Participants that enter per second: 50, in a storm of joins 100, in churn 10.
    #[arg(long, value_name = "PER_SECOND")]
    join_rate: Option<f64>,
    /// Data cores of the server that is started.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Its I/O: uring, mmsg or auto.
    #[arg(long, default_value = "auto", value_parser = ["uring", "mmsg", "auto"])]
    io: String,
    /// Its budget for what is sent to one participant; videos that do not fit are left out.
    #[arg(long, default_value = "1700k", value_name = "RATE")]
    outgoing_bitrate: String,
    /// Its program; the default is opencall-sfu beside this one.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// A server that runs already, which offers media on loopback: ws://127.0.0.1:8080/ws
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// The envelope in which it is spoken to; mediasoup applications speak protoo.
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
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
    /// Write the result as a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Seed of all media, of who has a bad link, and of what that does.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Codec of the cameras.
    #[arg(long, value_enum, default_value_t)]
    codec: VideoCodec,
    /// One layer of so many bits per second for each camera, without simulcast.
    #[arg(long, value_parser = clap::value_parser!(u32).range(30_000..))]
    video_rate: Option<u32>,
    /// Send all layers of a camera, even those of which the server says that nobody takes them.
    #[arg(long)]
    all_layers: bool,
    /// Messages per second that the first of each room sends to all others over data channels.
    #[arg(long, value_name = "PER_SECOND")]
    messages: Option<f64>,
    /// Bytes of each message.
    #[arg(long, value_name = "BYTES", default_value_t = 200, requires = "messages")]
    message_bytes: usize,
    /// Flood: datagrams per second that strangers send.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    strangers: u32,
    /// Participants behind a bad link, which the flags below describe: a number, or a share as in
    /// 20%.
    #[arg(long, value_parser = Share::parse, default_value = "0", value_name = "N|PERCENT")]
    impaired: Share,
    #[command(flatten)]
    link: LinkFlags,
    #[command(flatten)]
    ramp: RampFlags,
}

/// Measures, prints and writes the result.
///
/// # Errors
/// Why there is no result, or why it cannot be written.
pub fn run(args: Args) -> Result<(), String> {
    let join_rate = args.join_rate.unwrap_or(args.scenario.default_join_rate());
    let rooms = args.rooms.unwrap_or(args.scenario.default_rooms());
    if join_rate.is_nan() || join_rate <= 0.0 || args.workers == 0 || rooms == 0 {
        return Err("--join-rate, --workers and --rooms are at least one".into());
    }
    if args.room.is_some() && (rooms > 1 || args.scenario == Scenario::JoinStorm) {
        return Err("--room names one room: give --rooms 1, and no storm of joins".into());
    }
    let messages = messages(&args)?;
    let options = RunOptions {
        scenario: args.scenario,
        participants: args.participants.unwrap_or(args.scenario.default_participants()),
        rooms,
        room: args.room,
        duration: args.duration,
        join_rate,
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
        strangers: args.strangers,
        dialect: Dialect::Mediasoup(args.protocol),
        warm_up: Duration::ZERO,
        layers: args.video_rate.map_or_else(|| LAYER_RATES.to_vec(), |rate| vec![rate]),
        sends_all_layers: args.all_layers,
        codec: args.codec,
        messages,
        bad_links: (args.impaired != Share::Count(0)).then(|| BadLinks {
            up: args.link.up(),
            down: args.link.down(),
            share: args.impaired,
            seed: args.seed,
        }),
        ramp: args.ramp.options(),
    };
    let out = std::io::stdout();
    let is_terminal = out.is_terminal();
    let mut progress = Progress::new(out, is_terminal, expected_s(&options));
    // Who no longer reads what we say still wants the files.
    let done = run::run(&options, &mut |second| drop(progress.show(second)));
    let _ = progress.finish();
    let result = done?;
    print!("{}", summary::text(&result));
    if let Some(path) = &args.json {
        result.write(path)?;
    }
    if let Some(path) = &args.html {
        write(path, &page::html(&result))?;
    }
    if result.fell_silent() {
        return Err(
            "the server forwarded nothing in the last second of what participants sent: it has \
                    stopped or hangs, and the figures are no measurement"
                .into(),
        );
    }
    Ok(())
}

/// What is sent over data channels.
fn messages(args: &Args) -> Result<Option<MessagePlan>, String> {
    let Some(per_second) = args.messages else { return Ok(None) };
    if !(0.01..=100_000.0).contains(&per_second) {
        return Err("--messages is a rate: 0.01 to 100000 per second".into());
    }
    let bytes = args.message_bytes;
    if !(MESSAGE_MIN_BYTES..=MESSAGE_MAX_BYTES).contains(&bytes) {
        return Err(format!("--message-bytes is {MESSAGE_MIN_BYTES} to {MESSAGE_MAX_BYTES}"));
    }
    if args.scenario == Scenario::Idle {
        return Err("--messages: people of the idle scenario neither send nor receive".into());
    }
    Ok(Some(MessagePlan { per_second, bytes }))
}

/// Seconds of a run with its joining and settling, for the bar. How far a ramp goes nobody knows.
fn expected_s(options: &RunOptions) -> Option<f64> {
    let all = options.people();
    let joining = (f64::from(all) / options.join_rate).ceil();
    let whole = joining + f64::from(SETTLE_SECONDS) + options.duration.as_secs_f64();
    (options.scenario != Scenario::Ramp).then_some(whole)
}
