//! How what was measured becomes a result: its figures, what they say, and what they are of.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use super::Shares;
use super::options::RunOptions;
use super::sums::{Sums, Usage};
use crate::client::session::Dialect;
use crate::client::signaling::Protocol;
use crate::client::tally::{BadTally, MessageTally, Tally};
use crate::floor::{self, FloorOptions, Pace};
use crate::machine;
use crate::result::{BadLinkFigures, BenchResult, MessageFigures};
use crate::scenario::Scenario;
use crate::server::CoreCounters;
use crate::trend;

/// Sets the figures of what was measured, and of what the server said in the end.
pub(super) fn complete(result: &mut BenchResult, sums: &Sums, counters: Option<&CoreCounters>) {
    add_packets(result, &sums.tally);
    add_usage(result, &sums.usage);
    result.bad_links = bad_links(&sums.tally.bad);
    result.messages = messages(&sums.tally.messages);
    result.mean_gso_segments = counters.and_then(CoreCounters::mean_segments);
    result.send_packets_per_syscall = counters.and_then(CoreCounters::packets_per_call);
    result.notes.extend(notes(&sums.tally));
    let dropped = counters.into_iter().flat_map(|counters| &counters.dropped);
    result.notes.extend(dropped.map(|names| format!("the server dropped in its life: {names}")));
}

/// What the participants ran into on their own side.
fn notes(tally: &Tally) -> impl Iterator<Item = String> {
    let counts = [
        (tally.send_errors, "sends of participants failed"),
        (tally.bad.overflowed, "packets found no room on the emulated links"),
    ];
    counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
}

fn add_packets(result: &mut BenchResult, tally: &Tally) {
    result.sent_packets = tally.sent;
    result.forwarded_packets = tally.received;
    result.forwarded_bytes = tally.bytes;
    result.lost = tally.lost();
    result.loss_ratio = tally.loss_ratio();
    result.duplicated = tally.duplicated;
    result.corrupted = tally.corrupted;
    result.reordered = tally.reordered;
    result.retransmitted = tally.retransmitted;
    result.silent_streams = tally.silent;
    result.skipped = tally.skipped;
    result.latency_us = tally.latency.percentiles_us();
    result.latency_histogram = tally.latency.buckets();
    let lag_us = tally.lag.percentiles_us();
    result.generator_lag_ms = lag_us.max / 1e3;
    result.generator_lag_p99_ms = lag_us.p99 / 1e3;
}

/// Expects the packets to be there already.
fn add_usage(result: &mut BenchResult, usage: &Usage) {
    result.duration_s = usage.elapsed_s;
    result.generator_cpu = usage.generator_cpu();
    result.server_cpu = usage.server_cpu();
    result.other_cpu = usage.other_cpu;
    if let Some(cpu) = usage.server
        && result.forwarded_packets > 0
    {
        let per_packet = |seconds: f64| Some(seconds * 1e6 / result.forwarded_packets as f64);
        result.cpu_us_per_forwarded_packet = per_packet(cpu.total_s());
        result.user_us_per_forwarded_packet = per_packet(cpu.user_s);
        result.system_us_per_forwarded_packet = per_packet(cpu.system_s);
        let sleeps = usage.sleeps.max(1);
        result.packets_per_sleep = Some(result.forwarded_packets as f64 / sleeps as f64);
    }
}

fn bad_links(bad: &BadTally) -> Option<BadLinkFigures> {
    (bad.received + bad.lost() > 0).then(|| BadLinkFigures {
        received: bad.received,
        lost: bad.lost(),
        loss_ratio: bad.loss_ratio(),
        retransmitted: bad.retransmitted,
        latency_us: bad.latency.percentiles_us(),
    })
}

fn messages(messages: &MessageTally) -> Option<MessageFigures> {
    let MessageTally { sent, held_back, received, bytes, lost, corrupted, ref latency } = *messages;
    let latency_us = latency.percentiles_us();
    let figures = MessageFigures { sent, held_back, received, bytes, lost, corrupted, latency_us };
    (sent + held_back + received > 0).then_some(figures)
}

/// What the server's memory says, and over a long time its latency.
pub(super) fn judge_memory(result: &mut BenchResult, scenario: Scenario, rss_bytes: u64) {
    result.rss_bytes = Some(rss_bytes);
    let grown = rss_bytes.saturating_sub(result.rss_start_bytes.unwrap_or(0));
    if result.participants > 0 {
        let each = grown as f64 / result.participants as f64;
        result.rss_per_participant_bytes = Some(each);
        if scenario == Scenario::Idle {
            result.verdicts.push(format!(
                "an idle participant takes {:.1} KiB of the server's memory",
                each / 1024.0
            ));
        }
    }
    result.memory = trend::memory(&result.seconds);
    if matches!(scenario, Scenario::Soak | Scenario::Churn) {
        let memory = result.memory.as_ref().map(trend::memory_verdict);
        result.verdicts.extend(memory);
        result.verdicts.extend(trend::latency_verdict(&result.minutes));
    }
}

/// Says what was run, on what, and against whom.
pub(super) fn describe(result: &mut BenchResult, options: &RunOptions, url: &str) {
    result.scenario = options.scenario.name().to_owned();
    result.seed = options.seed;
    result.rooms = u64::from(options.rooms);
    result.command_line = std::env::args().collect::<Vec<_>>().join(" ");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let length = result.seconds.last().map_or(0.0, |second| second.t);
    result.started_unix_s = now.as_secs().saturating_sub(length as u64);
    result.machine = machine::machine();
    result.kernel = machine::kernel();
    result.commit = machine::commit();
    result.server = url.to_owned();
    let has_cameras = options.scenario.plan(0, options.rooms, options.participants).video;
    let is_simulcast = has_cameras && options.layers.len() > 1;
    if is_simulcast && options.dialect == Dialect::Mediasoup(Protocol::Protoo) {
        let note = "participants spoke protoo, which has no word for layers that nobody takes: all \
                    layers of cameras were sent";
        result.notes.push(note.to_owned());
    }
    if options.target.is_none() {
        result.server = options.server.program.display().to_string();
        result.workers = Some(options.server.workers as u64);
        result.io = Some(options.server.io.clone());
    }
}

/// Measures the floor of the same packets on the same CPUs.
pub(super) fn add_floor(result: &mut BenchResult, shares: Shares) -> Result<(), String> {
    let floor = floor::measure(&FloorOptions {
        packet_len: (result.forwarded_bytes / result.forwarded_packets.max(1)) as usize,
        train_segments: result.mean_gso_segments.unwrap_or(1.0),
        cpus: shares.server,
        neighbour_cpus: shares.load,
        neighbour_share: result.generator_cpu,
        pace: pace(result),
    })?;
    let cost_ns = result.cpu_us_per_forwarded_packet.map(|us| us * 1000.0);
    result.floor_ratio = cost_ns.map(|ns| ns / floor.ns_per_packet);
    result.paced_floor_ratio = cost_ns.zip(floor.paced_ns_per_packet).map(|(ns, floor)| ns / floor);
    result.floor = Some(floor);
    Ok(())
}

/// How one data core of the server came to send.
fn pace(result: &BenchResult) -> Option<Pace> {
    let cores = result.workers.unwrap_or(1).max(1);
    let packets_per_s = result.forwarded_packets as f64 / result.duration_s.max(0.001);
    Some(Pace {
        packets_per_s: packets_per_s / cores as f64,
        burst_packets: result.packets_per_sleep?,
        receivers: (result.participants / cores) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::CpuTime;

    fn sums(other_cpu: Option<f64>) -> Sums {
        let cpu = CpuTime { user_s: 0.01, system_s: 0.03 };
        Sums {
            tally: Tally { received: 10_000, lost: 10, ..Tally::default() },
            usage: Usage {
                elapsed_s: 2.0,
                server: other_cpu.map(|_| cpu),
                sleeps: 400,
                generator_s: 1.0,
                other_cpu,
            },
            joined: 0,
        }
    }

    #[test]
    fn a_packet_costs_its_share_of_the_cpu_if_anybody_looked() {
        let mut result = BenchResult::default();
        complete(&mut result, &sums(Some(0.1)), None);
        let us = |value: Option<f64>| value.map(|us| us.round());
        assert_eq!(us(result.cpu_us_per_forwarded_packet), Some(4.0));
        assert_eq!(us(result.user_us_per_forwarded_packet), Some(1.0));
        assert_eq!((result.server_cpu, result.generator_cpu), (Some(0.02), 0.5));
        assert_eq!((result.lost, result.other_cpu), (10, Some(0.1)));
        assert_eq!(result.packets_per_sleep, Some(25.0));
        assert!(result.notes.is_empty(), "{:?}", result.notes);
        let mut unseen = BenchResult::default();
        complete(&mut unseen, &sums(None), None);
        assert_eq!((unseen.cpu_us_per_forwarded_packet, unseen.server_cpu), (None, None));
        assert_eq!(unseen.bad_links, None);
    }

    #[test]
    fn what_explains_figures_is_noted() {
        let mut sums = sums(None);
        (sums.tally.send_errors, sums.tally.bad.overflowed) = (7, 9);
        let counters = CoreCounters { dropped: vec!["srtp_replay 2".into()], ..Default::default() };
        let mut result = BenchResult::default();
        complete(&mut result, &sums, Some(&counters));
        assert_eq!(
            result.notes,
            [
                "7 sends of participants failed",
                "9 packets found no room on the emulated links",
                "the server dropped in its life: srtp_replay 2",
            ]
        );
    }

    #[test]
    fn memory_is_judged_by_those_who_are_there() {
        let idle = |participants| {
            let rss_start_bytes = Some(10 << 20);
            let mut result =
                BenchResult { participants, rss_start_bytes, ..BenchResult::default() };
            judge_memory(&mut result, Scenario::Idle, 11 << 20);
            result
        };
        let sixteen = idle(16);
        assert_eq!(sixteen.rss_per_participant_bytes, Some(65_536.0));
        assert!(sixteen.verdicts[0].contains("64.0 KiB"), "{:?}", sixteen.verdicts);
        let nobody = idle(0);
        assert_eq!((nobody.rss_per_participant_bytes, nobody.verdicts.len()), (None, 0));
    }
}
