//! The result of one run as JSON: what the generator writes, and what pages and comparisons read.
//!
//! Names end in their units; a field that a run cannot know is `null`. Readers take files with
//! fields missing, so that older results can still be compared.
#![forbid(unsafe_code)]

use std::path::Path;

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BenchResult {
    /// The scenario's name: `pair`, `meeting`, `webinar`, …
    pub scenario: String,
    /// Seed of the media and of the arrivals.
    pub seed: u64,
    /// How long was measured, seconds: the time after everyone had joined.
    pub duration_s: f64,
    /// The command as it was given.
    pub command_line: String,
    /// When the run began, seconds since 1970.
    pub started_unix_s: u64,

    /// Participants that took part.
    pub participants: u64,
    /// Rooms they were in.
    pub rooms: u64,
    /// Participants per second that joined, from the first request to keys on both transports.
    pub joins_per_second: f64,
    /// Participants that could not join.
    pub failed_joins: u64,

    /// Media packets that participants sent while it was measured.
    pub sent_packets: u64,
    /// Media packets that participants received, each checked.
    pub forwarded_packets: u64,
    /// Bytes of these on the wire (UDP payload).
    pub forwarded_bytes: u64,
    /// Packets that were missing in a stream and never came.
    pub lost: u64,
    /// `lost` of all that should have come, 0 to 1.
    pub loss_ratio: f64,
    /// Packets that came twice as media (not as RTX).
    pub duplicated: u64,
    /// Packets that failed authentication, or whose content was not what was sent.
    pub corrupted: u64,
    /// Packets that came after a later one of their stream.
    pub reordered: u64,
    /// Packets that came by retransmission.
    pub retransmitted: u64,

    /// CPU of the whole server, user and system, per forwarded packet, microseconds. `None` where
    /// no process was counted.
    pub cpu_us_per_forwarded_packet: Option<f64>,
    /// Of that in user space.
    pub user_us_per_forwarded_packet: Option<f64>,
    /// Of that in the kernel.
    pub system_us_per_forwarded_packet: Option<f64>,
    /// CPU of the server while it was measured, 1.0 = one CPU.
    pub server_cpu: Option<f64>,
    /// CPU of the generator while it was measured, 1.0 = one CPU: near 1, it is the limit.
    pub generator_cpu: f64,
    /// CPU of all other programs of the machine meanwhile, 1.0 = one CPU; `None` where the server's
    /// is not known. Figures beside much of it are worth little.
    pub other_cpu: Option<f64>,
    /// From the sender's clock reading before sealing to the kernel's timestamp of the arrival at
    /// the receiver's socket: the server and two passages of the loopback.
    pub latency_us: Latency,
    /// Packets per send call of the server, if it tells.
    pub send_packets_per_syscall: Option<f64>,
    /// Segments per GSO message of the server, if it tells.
    pub mean_gso_segments: Option<f64>,
    /// Packets forwarded each time that a thread of the server went to sleep.
    pub packets_per_sleep: Option<f64>,
    /// Resident memory of the server at the end, bytes.
    pub rss_bytes: Option<u64>,
    /// CPU per forwarded packet over what the same packets cost in a loop of seal and send.
    pub floor_ratio: Option<f64>,
    /// The same over what they cost in such a loop that sleeps as often as the server did.
    pub paced_floor_ratio: Option<f64>,
    /// That loop, if it was run.
    pub floor: Option<Floor>,

    /// How late the generator's own timers ran at most while it was measured, milliseconds: large
    /// values mean that the generator was the limit.
    pub generator_lag_ms: f64,
    /// The 99th percentile of that. What is sent late is stamped late: the latency is without it.
    pub generator_lag_p99_ms: f64,
    /// Frames, voice packets and reports that the generator left out because it was late for them.
    pub skipped: u64,
    /// What the connections were encrypted with.
    pub srtp_profile: Option<String>,
    /// Streams that participants were told of.
    pub streams: u64,
    /// Streams that were announced and of which nothing came.
    pub silent_streams: u64,

    /// The machine.
    pub machine: Machine,
    /// Kernel release.
    pub kernel: String,
    /// Commit of the generator, `unknown` outside a checkout.
    pub commit: String,
    /// What was measured: the server's name and flags, or its URL.
    pub server: String,
    /// Its data cores, where the generator started it.
    pub workers: Option<u64>,
    /// Its I/O backend, where the generator started it.
    pub io: Option<String>,

    /// Resident memory of the server before anyone came, bytes.
    pub rss_start_bytes: Option<u64>,
    /// What it grew by until the end for each participant present, bytes.
    pub rss_per_participant_bytes: Option<f64>,
    /// Whether memory grows while it is measured; `None` for short runs.
    pub memory: Option<MemoryTrend>,
    /// What participants behind emulated bad links saw; they are no part of the other figures.
    pub bad_links: Option<BadLinkFigures>,
    /// Messages over data channels.
    pub messages: Option<MessageFigures>,
    /// A storm of joins: before and during.
    pub storm: Option<Storm>,
    /// A flood of strangers' datagrams: before and during.
    pub flood: Option<Flood>,
    /// Data cores that died or stalled: how long pictures stood still.
    pub faults: Option<Faults>,
    /// A ramp's steps.
    pub steps: Vec<Step>,
    /// Where it broke.
    pub knee: Option<Knee>,
    /// One entry per minute, in runs of several.
    pub minutes: Vec<Minute>,
    /// What the run says of the server, in sentences.
    pub verdicts: Vec<String>,
    /// What else happened that may explain a figure, in a few words each.
    pub notes: Vec<String>,

    /// One entry per second.
    pub seconds: Vec<Second>,
    /// Latency distribution, ascending, empty buckets left out.
    pub latency_histogram: Vec<Bucket>,
}

/// Latency percentiles, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The slowest packet.
    pub max: f64,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// CPU model as the kernel names it.
    pub cpu_model: String,
    /// CPUs online.
    pub cpus: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

/// The server's memory over the measured time, as a straight line after a warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryTrend {
    /// Measured seconds that do not count.
    pub warm_up_s: f64,
    /// Seconds that do.
    pub span_s: f64,
    /// The line's begin, bytes.
    pub first_bytes: u64,
    /// The line's end, bytes.
    pub last_bytes: u64,
    /// Its slope.
    pub bytes_per_minute: f64,
    /// Whether that is no growth.
    pub is_flat: bool,
}

/// Media from or to participants behind emulated bad links.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BadLinkFigures {
    /// Packets that came over bad links, or from senders behind one.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// `lost` of all that should have come, 0 to 1.
    pub loss_ratio: f64,
    /// Packets that came by retransmission.
    pub retransmitted: u64,
    /// Latency with the links' own delay in it.
    pub latency_us: Latency,
}

/// Messages over data channels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageFigures {
    /// Messages sent.
    pub sent: u64,
    /// Messages that were due and were not sent, because those before had not left yet.
    pub held_back: u64,
    /// Messages received, each checked.
    pub received: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that are not what was sent, or came twice or out of order.
    pub corrupted: u64,
    /// From the sender's clock reading to that of the receiver who has read it.
    pub latency_us: Latency,
}

/// What a storm of joins does to those who are in their meetings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storm {
    /// Joins per second that were begun.
    pub wanted_joins_per_second: f64,
    /// Joins per second that were completed.
    pub joins_per_second: f64,
    /// Latency before.
    pub before_us: Latency,
    /// Latency meanwhile, of the same participants.
    pub during_us: Latency,
    /// 99th percentile during over before.
    pub p99_ratio: f64,
}

/// What a flood of strangers' datagrams does to those who are in their meetings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flood {
    /// Datagrams per second that strangers sent.
    pub datagrams_per_second: f64,
    /// Their bits per second.
    pub bits_per_second: f64,
    /// Bytes that strangers were sent for each of theirs.
    pub answered_ratio: f64,
    /// Latency before.
    pub before_us: Latency,
    /// Latency meanwhile.
    pub during_us: Latency,
    /// What was lost of the media meanwhile, 0 to 1.
    pub loss_ratio: f64,
    /// CPU of the server before and meanwhile, 1.0 = one CPU, where it is known.
    pub server_cpu: [Option<f64>; 2],
}

/// What the deaths or stalls of data cores do to pictures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// How many there were.
    pub count: u64,
    /// The longest time without a packet, per second and picture, in seconds without a fault.
    pub calm_us: Latency,
    /// The same in the two seconds after each fault.
    pub after_us: Latency,
}

/// One step of a ramp.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Rooms.
    pub rooms: u64,
    /// Participants.
    pub participants: u64,
    /// Packets received per second.
    pub packets_per_s: f64,
    /// Packets sent per second.
    pub sent_packets_per_s: f64,
    /// Latency.
    pub latency_us: Latency,
    /// Lost packets of all that should have come, 0 to 1.
    pub loss_ratio: f64,
    /// Participants that could not join in this step.
    pub failed_joins: u64,
    /// CPU of the server, 1.0 = one CPU.
    pub server_cpu: Option<f64>,
    /// CPU of the generator, 1.0 = one CPU.
    pub generator_cpu: f64,
    /// What the generator left out because it was late.
    pub skipped: u64,
    /// Whether latency and loss were within the limits.
    pub held: bool,
}

/// The largest load that held.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Knee {
    /// Rooms.
    pub rooms: u64,
    /// Participants.
    pub participants: u64,
    /// Packets received per second.
    pub packets_per_s: f64,
    /// Packets sent per second.
    pub sent_packets_per_s: f64,
    /// What the next step ran into.
    pub limit: String,
}

/// One minute of a long run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Minute {
    /// Its end, minutes since the measuring began.
    pub minute: u64,
    /// Resident memory of the server, bytes.
    pub rss_bytes: u64,
    /// Latency.
    pub latency_us: Latency,
    /// Packets received per second.
    pub packets_per_s: f64,
    /// Packets lost.
    pub lost: u64,
}

/// One second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// End of the second, counted from the start of the run (joining included).
    pub t: f64,
    /// Whether it counts for the totals: false while people join or leave.
    pub measured: bool,
    /// Participants with keys on both transports.
    pub participants: u64,
    /// Packets received per second.
    pub packets_per_s: f64,
    /// Packets sent per second.
    pub sent_packets_per_s: f64,
    /// Bits received per second.
    pub bits_per_s: f64,
    /// Packets found lost in this second.
    pub lost: u64,
    /// Median latency of this second, microseconds.
    pub latency_p50_us: f64,
    /// 99th percentile of this second, microseconds.
    pub latency_p99_us: f64,
    /// CPU of the server by thread, 1.0 = one CPU.
    pub threads: Vec<ThreadCpu>,
    /// CPU of the generator, 1.0 = one CPU.
    pub generator_cpu: f64,
    /// Resident memory of the server, bytes.
    pub rss_bytes: u64,
}

/// What one thread took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadCpu {
    /// Its name, with its thread id where names repeat.
    pub name: String,
    /// The CPU it last ran on.
    pub cpu: u64,
    /// Time in user space, 1.0 = one CPU.
    pub user: f64,
    /// Time in the kernel, 1.0 = one CPU.
    pub system: f64,
}

/// One bucket of the latency distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// Its upper edge, microseconds.
    pub up_to_us: f64,
    /// Packets in it.
    pub count: u64,
}

/// What sealing and sending cost in a tight loop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Floor {
    /// Bytes of a sealed packet, mean.
    pub mean_packet_bytes: f64,
    /// Segments of a train, mean.
    pub train_segments: f64,
    /// Nanoseconds of CPU per packet in trains of that length, while the generator's CPU is as busy
    /// as it was in the run: the two may share a physical core.
    pub ns_per_packet: f64,
    /// The same while that CPU has nothing to do.
    pub quiet_ns_per_packet: f64,
    /// How busy it was, 0 to 1.
    pub neighbour_share: f64,
    /// Nanoseconds of CPU per packet, each sent on its own.
    pub single_ns_per_packet: f64,
    /// Nanoseconds per packet of sealing alone.
    pub seal_ns_per_packet: f64,
    /// Nanoseconds of CPU per packet, in the same trains, at the pace of the run.
    pub paced_ns_per_packet: Option<f64>,
}

impl BenchResult {
    /// Reads a result.
    ///
    /// # Errors
    /// What the file system or the JSON reader says, with the file's name.
    pub fn read(path: &Path) -> Result<Self, String> {
        let path_name = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path_name}: {e}"))?;
        let result: BenchResult = serde_json::from_str(&text)
            .map_err(|e| format!("{path_name} is no result of opencall-bench run --json: {e}"))?;
        // Fields may be missing, but a run without a scenario is some other JSON.
        if result.scenario.is_empty() {
            return Err(format!(
                "{path_name} is no result of opencall-bench run --json: it names no scenario"
            ));
        }
        Ok(result)
    }

    /// Writes a result, indented.
    ///
    /// # Errors
    /// What the file system says, with the file's name.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        std::fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Whether the server forwarded nothing any more of what was sent at the end. Loss does not
    /// show that: a packet is missing when a later one comes.
    pub fn fell_silent(&self) -> bool {
        let has_receivers = self.participants > self.rooms.max(1);
        let last = self.seconds.iter().rev().find(|second| second.measured);
        has_receivers && last.is_some_and(|s| s.sent_packets_per_s > 0.0 && s.packets_per_s == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_in_a_file_is_a_default_and_nothing_is_lost_on_the_way() {
        let old: BenchResult = serde_json::from_str(r#"{"scenario": "pair", "lost": 3}"#).unwrap();
        assert_eq!((old.scenario.as_str(), old.lost, old.floor_ratio), ("pair", 3, None));
        let second = Second { t: 1.0, threads: vec![ThreadCpu::default()], ..Second::default() };
        let result = BenchResult { seconds: vec![second], floor_ratio: Some(1.5), ..old };
        let text = serde_json::to_string(&result).unwrap();
        assert_eq!(serde_json::from_str::<BenchResult>(&text).unwrap(), result);
    }

    #[test]
    fn a_server_that_forwards_nothing_at_the_end_fell_silent() {
        let second = |sent, received, measured| Second {
            sent_packets_per_s: sent,
            packets_per_s: received,
            measured,
            ..Second::default()
        };
        let run = |participants, seconds| {
            BenchResult { participants, rooms: 1, seconds, ..Default::default() }.fell_silent()
        };
        let (alive, dead) = (second(9.0, 8.0, true), second(9.0, 0.0, true));
        assert!(run(2, vec![alive.clone(), dead.clone()]));
        assert!(run(2, vec![dead.clone(), second(9.0, 9.0, false)]), "what is not measured");
        assert!(!run(2, vec![dead.clone(), alive]), "it came back");
        assert!(!run(1, vec![dead]), "nobody is there to receive");
        assert!(!run(2, vec![second(0.0, 0.0, true)]), "nobody sends");
        assert!(!run(2, Vec::new()));
    }

    #[test]
    fn a_result_survives_its_file_and_other_files_are_refused_in_a_line() {
        let path = std::env::temp_dir().join(format!("opencall-result-{}", std::process::id()));
        let result = BenchResult { scenario: "pair".to_owned(), lost: 3, ..Default::default() };
        result.write(&path).unwrap();
        assert_eq!(BenchResult::read(&path).unwrap(), result);
        let others = ["", "{}", "[1, 2]", "{\"scenario\": 7}", "{\"lost\": 3}", "no JSON\nat all"];
        for other in others {
            std::fs::write(&path, other).unwrap();
            let error = BenchResult::read(&path).unwrap_err();
            assert!(error.contains("is no result of opencall-bench run"), "{other}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(BenchResult::read(&path).unwrap_err().contains("No such file"));
    }

    #[test]
    fn the_names_that_readers_rely_on_are_there() {
        let json = serde_json::to_value(BenchResult::default()).unwrap();
        for name in [
            "forwarded_packets",
            "cpu_us_per_forwarded_packet",
            "user_us_per_forwarded_packet",
            "system_us_per_forwarded_packet",
            "lost",
            "duplicated",
            "corrupted",
            "send_packets_per_syscall",
            "mean_gso_segments",
            "rss_bytes",
            "participants",
            "joins_per_second",
            "floor_ratio",
            "paced_floor_ratio",
            "packets_per_sleep",
            "machine",
            "kernel",
            "commit",
            "command_line",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
        for name in ["p50", "p90", "p99", "p999", "max"] {
            assert!(json["latency_us"].get(name).is_some(), "{name}");
        }
    }
}
