//! Our server against another one: the same participants, the same load and the same wire, in
//! turns.
//!
//! Both servers live through the whole comparison, on the same CPU, and idle while the other one is
//! measured. What is compared is the median of the turns.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::client::net::Network;
use crate::client::session::Dialect;
use crate::client::signaling::Protocol;
use crate::machine;
use crate::media::codec::VideoCodec;
use crate::ramp::RampOptions;
use crate::result::{BenchResult, Latency, Machine, Second};
use crate::run::{RunOptions, run};
use crate::scenario::Scenario;
use crate::server::{Server, ServerOptions, allowed_cpus, pin, pin_process};

/// A server on the other end of a wire answers within this time, or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two turns: the server that was measured sees all its connections go.
const PAUSE: Duration = Duration::from_secs(1);

/// How long after the last has entered a turn is measured: either server has everyone's streams on
/// their way by then. Janus needs some 5 s, and with only those its turns were not always the same.
const WARM_UP: Duration = Duration::from_secs(10);

/// Turns whose packets differ by more than this share were not under the same load.
pub(crate) const SAME_LOAD: f64 = 0.05;

/// More than any comparison sends to one receiver, so that nothing is held back.
const OUTGOING_BITRATE: &str = "100M";

/// What Janus prefers of what participants offer; ours is told to take the same.
const SRTP_PROFILES: &str = "aes256-gcm";

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct VersusOptions {
    /// Who meets whom.
    pub scenario: Scenario,
    /// Participants of one room.
    pub participants: u32,
    /// Rooms.
    pub rooms: u32,
    /// How long each turn is measured.
    pub duration: Duration,
    /// Turns of each server.
    pub turns: u32,
    /// Participants that enter per second.
    pub join_rate: f64,
    /// Bits per second of a camera.
    pub video_rate: u32,
    /// Seed of all media.
    pub seed: u64,
    /// Our program.
    pub program: PathBuf,
    /// Its I/O.
    pub io: String,
    /// Janus's WebSocket.
    pub url: String,
    /// Janus's process.
    pub pid: u32,
}

/// A whole comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// The command as it was given.
    pub command_line: String,
    /// When it ended, seconds since 1970.
    pub ended_unix_s: u64,
    /// The machine.
    pub machine: Machine,
    /// Kernel release.
    pub kernel: String,
    /// Commit of the generator, `unknown` outside a checkout.
    pub commit: String,
    /// The scenario's name.
    pub scenario: String,
    /// Participants.
    pub participants: u64,
    /// Rooms they were in.
    pub rooms: u64,
    /// Bits per second of a camera.
    pub video_bits_per_second: u64,
    /// SRTP profile of all connections.
    pub srtp_profile: String,
    /// Packets of a message of ours to the kernel, over all turns.
    pub our_mean_segments: Option<f64>,
    /// What ours took and gave: medians.
    pub ours: Figures,
    /// What the other one did.
    pub theirs: Figures,
    /// Ours over theirs: below one is good for us.
    pub ratio: Ratio,
    /// Every turn, in order: ours, theirs, ours, …
    pub turns: Vec<Turn>,
}

/// One turn of one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    /// `opencall` or `janus`.
    pub server: String,
    /// What it took and gave.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// CPU of the whole server per packet that participants received, microseconds.
    pub cpu_us_per_forwarded_packet: f64,
    /// Of that in user space.
    pub user_us_per_forwarded_packet: f64,
    /// Of that in the kernel.
    pub system_us_per_forwarded_packet: f64,
    /// CPU of the server, 1.0 = one CPU.
    pub server_cpu: f64,
    /// CPU of the participants, 1.0 = one CPU.
    pub generator_cpu: f64,
    /// From the sender to the receiver's socket.
    pub latency_us: Latency,
    /// Packets that participants received.
    pub forwarded_packets: f64,
    /// Of what should have come, 0 to 1.
    pub loss_ratio: f64,
    /// Packets that came twice, or not as they were sent.
    pub faults: f64,
    /// Resident memory at the end of the turn, bytes.
    pub rss_bytes: f64,
    /// Streams that were announced to participants.
    pub streams: f64,
    /// Of these, silent ones.
    pub silent_streams: f64,
}

/// Ours over theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ratio {
    /// CPU per forwarded packet.
    pub cpu: f64,
    /// Median latency.
    pub latency_p50: f64,
    /// 99th percentile of latency.
    pub latency_p99: f64,
    /// Resident memory.
    pub rss: f64,
}

impl Figures {
    /// Packets that were on their way to participants, lost ones included: the load.
    pub fn packets_on_their_way(&self) -> f64 {
        self.forwarded_packets / (1.0 - self.loss_ratio)
    }

    fn of(result: &BenchResult) -> Self {
        Figures {
            cpu_us_per_forwarded_packet: result.cpu_us_per_forwarded_packet.unwrap_or(0.0),
            user_us_per_forwarded_packet: result.user_us_per_forwarded_packet.unwrap_or(0.0),
            system_us_per_forwarded_packet: result.system_us_per_forwarded_packet.unwrap_or(0.0),
            server_cpu: result.server_cpu.unwrap_or(0.0),
            generator_cpu: result.generator_cpu,
            latency_us: result.latency_us,
            forwarded_packets: result.forwarded_packets as f64,
            loss_ratio: result.loss_ratio,
            faults: (result.duplicated + result.corrupted) as f64,
            rss_bytes: result.rss_bytes.unwrap_or(0) as f64,
            streams: result.streams as f64,
            silent_streams: result.silent_streams as f64,
        }
    }

    /// The median of each figure by itself.
    fn median(turns: &[Figures]) -> Self {
        let of = |figure: fn(&Figures) -> f64| median(turns.iter().map(figure).collect());
        Figures {
            cpu_us_per_forwarded_packet: of(|f| f.cpu_us_per_forwarded_packet),
            user_us_per_forwarded_packet: of(|f| f.user_us_per_forwarded_packet),
            system_us_per_forwarded_packet: of(|f| f.system_us_per_forwarded_packet),
            server_cpu: of(|f| f.server_cpu),
            generator_cpu: of(|f| f.generator_cpu),
            latency_us: Latency {
                p50: of(|f| f.latency_us.p50),
                p90: of(|f| f.latency_us.p90),
                p99: of(|f| f.latency_us.p99),
                p999: of(|f| f.latency_us.p999),
                max: of(|f| f.latency_us.max),
            },
            forwarded_packets: of(|f| f.forwarded_packets),
            loss_ratio: of(|f| f.loss_ratio),
            faults: of(|f| f.faults),
            rss_bytes: of(|f| f.rss_bytes),
            streams: of(|f| f.streams),
            silent_streams: of(|f| f.silent_streams),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(high), 0) => (values[middle - 1] + high) / 2.0,
        (Some(value), _) => *value,
        (None, _) => 0.0,
    }
}

impl Ratio {
    fn of(ours: &Figures, theirs: &Figures) -> Self {
        Ratio {
            cpu: ours.cpu_us_per_forwarded_packet / theirs.cpu_us_per_forwarded_packet,
            latency_p50: ours.latency_us.p50 / theirs.latency_us.p50,
            latency_p99: ours.latency_us.p99 / theirs.latency_us.p99,
            rss: ours.rss_bytes / theirs.rss_bytes,
        }
    }
}

impl Comparison {
    /// Sums up turns.
    fn sum_up(&mut self) {
        let of = |server: &str| -> Vec<Figures> {
            let turns = self.turns.iter().filter(|turn| turn.server == server);
            turns.map(|turn| turn.figures).collect()
        };
        let (ours, theirs) = (Figures::median(&of(OURS)), Figures::median(&of(THEIRS)));
        self.ratio = Ratio::of(&ours, &theirs);
        (self.ours, self.theirs) = (ours, theirs);
    }

    /// Reads one; `None` if the file is JSON of something else.
    ///
    /// # Errors
    /// What the file system says, with the file's name.
    pub fn read(path: &Path) -> Result<Option<Self>, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let comparison = serde_json::from_str::<Comparison>(&text).ok();
        // Fields may be missing, but without turns it is no comparison.
        Ok(comparison.filter(|comparison| !comparison.turns.is_empty()))
    }

    /// Writes it, indented.
    ///
    /// # Errors
    /// What the file system says, with the file's name.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        std::fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
    }

    /// A table to read.
    pub fn table(&self) -> String {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let (ours, theirs, ratio) = (&self.ours, &self.theirs, &self.ratio);
        let mut table =
            format!("{:28}{:>12}{:>12}{:>12}\n", "median of the turns", OURS, THEIRS, "ratio");
        let mut row = |name: &str, ours: f64, theirs: f64, ratio: Option<f64>| {
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
            table += &format!("{name:28}{ours:>12.2}{theirs:>12.2}{ratio:>12}\n");
        };
        let cpu = |f: &Figures| f.cpu_us_per_forwarded_packet;
        row("CPU us / forwarded packet", cpu(ours), cpu(theirs), Some(ratio.cpu));
        let user = |f: &Figures| f.user_us_per_forwarded_packet;
        row("  in user space", user(ours), user(theirs), None);
        let system = |f: &Figures| f.system_us_per_forwarded_packet;
        row("  in the kernel", system(ours), system(theirs), None);
        let p50 = |f: &Figures| f.latency_us.p50;
        row("latency p50 us", p50(ours), p50(theirs), Some(ratio.latency_p50));
        let p99 = |f: &Figures| f.latency_us.p99;
        row("latency p99 us", p99(ours), p99(theirs), Some(ratio.latency_p99));
        row("lost %", ours.loss_ratio * 100.0, theirs.loss_ratio * 100.0, None);
        row("resident memory MiB", mib(ours.rss_bytes), mib(theirs.rss_bytes), Some(ratio.rss));
        row("CPU of the server %", ours.server_cpu * 100.0, theirs.server_cpu * 100.0, None);
        row("CPU of the load %", ours.generator_cpu * 100.0, theirs.generator_cpu * 100.0, None);
        table
    }
}

/// The servers' names.
pub(crate) const OURS: &str = "opencall";
pub(crate) const THEIRS: &str = "janus";

/// Compares, and tells of every turn.
///
/// # Errors
/// What kept it from being a fair comparison, in words.
pub fn versus_janus(
    options: &VersusOptions,
    on_second: &mut dyn FnMut(&Second),
    on_turn: &mut dyn FnMut(&Turn),
) -> Result<Comparison, String> {
    let listen = reach(&options.url)?;
    let (server_cpus, load_cpus) = share_cpus();
    pin_process(options.pid, &server_cpus)?;
    let server = Server::start(&ServerOptions {
        program: options.program.clone(),
        io: options.io.clone(),
        outgoing_bitrate: OUTGOING_BITRATE.to_owned(),
        cpus: server_cpus,
        listen,
        namespace: Some(PathBuf::from(format!("/proc/{}/ns/net", options.pid))),
        more: ["--srtp-profiles", SRTP_PROFILES].map(str::to_owned).to_vec(),
        ..ServerOptions::beside_us()
    })?;
    pin(&load_cpus)?;
    let mut comparison = Comparison::default();
    for turn in 0..options.turns * 2 {
        let (name, dialect, url, pid) = match turn % 2 {
            0 => (OURS, Dialect::Mediasoup(Protocol::Opencall), &server.url, server.pid()),
            _ => (THEIRS, Dialect::Janus, &options.url, options.pid),
        };
        let result = run(&run_options(options, dialect, url, pid), on_second)?;
        let turn = Turn { server: name.to_owned(), figures: Figures::of(&result) };
        on_turn(&turn);
        comparison.turns.push(turn);
        check_same(&mut comparison, &result)?;
        std::thread::sleep(PAUSE);
    }
    comparison.our_mean_segments = server.stop().mean_segments();
    comparison.sum_up();
    describe(&mut comparison, options);
    Ok(comparison)
}

/// Where Janus is, if it is there.
fn reach(url: &str) -> Result<Ipv4Addr, String> {
    let host = url.strip_prefix("ws://").map(|rest| rest.trim_end_matches('/'));
    let address = host.and_then(|host| host.parse::<SocketAddr>().ok());
    let reached = address
        .is_some_and(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok());
    match address {
        Some(SocketAddr::V4(address)) if reached => Ok(*address.ip()),
        _ => Err(format!(
            "no Janus answers at {url}: run this by scripts/janus-lab, which installs and starts one"
        )),
    }
}

/// The server's CPUs and the load's: the last one, and the others.
fn share_cpus() -> (Vec<usize>, Vec<usize>) {
    let all = allowed_cpus();
    match all.split_last() {
        Some((last, load)) if !load.is_empty() => (vec![*last], load.to_vec()),
        _ => (all.clone(), all),
    }
}

fn run_options(options: &VersusOptions, dialect: Dialect, url: &str, pid: u32) -> RunOptions {
    RunOptions {
        strangers: 0,
        scenario: options.scenario,
        participants: options.participants,
        rooms: options.rooms,
        room: None,
        duration: options.duration,
        join_rate: options.join_rate,
        seed: options.seed,
        target: Some(url.to_owned()),
        pids: vec![pid],
        server: ServerOptions::beside_us(),
        pin: false,
        floor: false,
        network: Network::Lab,
        dialect,
        warm_up: warm_up(options),
        codec: VideoCodec::Vp8,
        messages: None,
        bad_links: None,
        ramp: RampOptions::default(),
        layers: vec![options.video_rate],
        sends_all_layers: false,
    }
}

/// Both servers are measured at the same time of the talk.
fn warm_up(options: &VersusOptions) -> Duration {
    let people = f64::from(options.participants) * f64::from(options.rooms);
    WARM_UP + Duration::from_secs_f64(people / options.join_rate)
}

/// A turn that others were not in, or that was encrypted otherwise, says nothing.
fn check_same(comparison: &mut Comparison, result: &BenchResult) -> Result<(), String> {
    let Some(first) = comparison.turns.first() else { return Ok(()) };
    let profile = result.srtp_profile.clone().unwrap_or_default();
    if comparison.srtp_profile.is_empty() {
        comparison.srtp_profile = profile;
    } else if comparison.srtp_profile != profile {
        return Err(format!(
            "the servers encrypt with {} and {profile}, which cannot be compared",
            comparison.srtp_profile
        ));
    }
    if result.failed_joins > 0 || result.streams as f64 != first.figures.streams {
        return Err(format!(
            "{} streams in this turn, {} in the first, {} participants failed: not the same load",
            result.streams, first.figures.streams, result.failed_joins
        ));
    }
    let packets = (result.forwarded_packets + result.lost) as f64;
    let expected = first.figures.packets_on_their_way();
    if result.silent_streams > 0 || (packets / expected - 1.0).abs() > SAME_LOAD {
        return Err(format!(
            "{packets} packets on their way in this turn, {expected} in the first, {} silent streams: \
             not the same load; was the machine busy?",
            result.silent_streams
        ));
    }
    if result.corrupted > 0 {
        return Err(format!("{} packets are not what was sent", result.corrupted));
    }
    Ok(())
}

fn describe(comparison: &mut Comparison, options: &VersusOptions) {
    comparison.command_line = std::env::args().collect::<Vec<_>>().join(" ");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    comparison.ended_unix_s = now.as_secs();
    comparison.machine = machine::machine();
    comparison.kernel = machine::kernel();
    comparison.commit = machine::commit();
    comparison.scenario = options.scenario.name().to_owned();
    comparison.participants = u64::from(options.participants) * u64::from(options.rooms);
    comparison.rooms = u64::from(options.rooms);
    comparison.video_bits_per_second = u64::from(options.video_rate);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(server: &str, cpu: f64, p99: f64) -> Turn {
        let latency_us = Latency { p99, p50: p99 / 4.0, ..Latency::default() };
        let figures = Figures {
            cpu_us_per_forwarded_packet: cpu,
            latency_us,
            rss_bytes: cpu * 1e6,
            ..Figures::default()
        };
        Turn { server: server.to_owned(), figures }
    }

    #[test]
    fn ratios_are_of_medians_of_turns() {
        let turns =
            [(OURS, 5.0), (THEIRS, 22.0), (OURS, 4.0), (THEIRS, 20.0), (OURS, 30.0), (THEIRS, 1.0)];
        let turns = turns.map(|(server, cpu)| turn(server, cpu, cpu * 10.0)).to_vec();
        let mut comparison = Comparison { turns, ..Comparison::default() };
        comparison.sum_up();
        assert_eq!(comparison.ours.cpu_us_per_forwarded_packet, 5.0);
        assert_eq!(comparison.theirs.latency_us.p99, 200.0);
        assert_eq!(
            comparison.ratio,
            Ratio { cpu: 0.25, latency_p50: 0.25, latency_p99: 0.25, rss: 0.25 }
        );
        let table = comparison.table();
        assert!(
            table.lines().any(|line| line.starts_with("CPU us") && line.ends_with("0.250")),
            "{table}"
        );
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn turns_of_another_load_or_encryption_are_refused() {
        let result = |profile: &str, streams| BenchResult {
            srtp_profile: Some(profile.to_owned()),
            streams,
            forwarded_packets: 1000,
            ..BenchResult::default()
        };
        let mut comparison =
            Comparison { turns: vec![turn(OURS, 1.0, 1.0)], ..Comparison::default() };
        let first = &mut comparison.turns[0].figures;
        (first.streams, first.forwarded_packets, first.loss_ratio) = (12.0, 950.0, 0.05);
        assert_eq!(check_same(&mut comparison, &result("gcm", 12)), Ok(()));
        assert!(check_same(&mut comparison, &result("sha1", 12)).is_err());
        assert!(check_same(&mut comparison, &result("gcm", 11)).is_err());
        let failed = BenchResult { failed_joins: 1, ..result("gcm", 12) };
        assert!(check_same(&mut comparison, &failed).is_err());
        let silent = BenchResult { silent_streams: 1, ..result("gcm", 12) };
        assert!(check_same(&mut comparison, &silent).is_err());
        let damaged = BenchResult { corrupted: 1, ..result("gcm", 12) };
        assert!(check_same(&mut comparison, &damaged).is_err());
        let more = BenchResult { forwarded_packets: 1100, ..result("gcm", 12) };
        assert!(check_same(&mut comparison, &more).is_err());
        let lossy = BenchResult { forwarded_packets: 800, lost: 200, ..result("gcm", 12) };
        assert_eq!(check_same(&mut comparison, &lossy), Ok(()));
    }

    #[test]
    fn published_comparisons_can_be_read_and_results_of_runs_are_none() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/results");
        let is_ours = |path: &PathBuf| path.to_string_lossy().contains("versus-janus-");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<PathBuf> = files.filter(is_ours).collect();
        assert!(!files.is_empty());
        for file in files {
            let comparison = Comparison::read(&file).unwrap().expect("a comparison");
            assert!(comparison.ratio.cpu > 0.0 && comparison.turns.len() >= 2, "{file:?}");
        }
        let run = std::env::temp_dir().join(format!("opencall-no-versus-{}", std::process::id()));
        BenchResult { scenario: "pair".to_owned(), ..Default::default() }.write(&run).unwrap();
        assert_eq!(Comparison::read(&run), Ok(None));
        std::fs::remove_file(&run).unwrap();
        assert!(Comparison::read(&run).unwrap_err().contains("No such file"));
    }

    #[test]
    fn without_a_janus_the_way_to_one_is_told() {
        for url in ["ws://127.0.0.1:1/", "ws://nowhere", "http://127.0.0.1:1"] {
            let error = reach(url).unwrap_err();
            assert!(error.contains("scripts/janus-lab") && !error.contains('\n'), "{error}");
        }
    }
}
