//! A result in the terminal: a few lines of figures, what a ramp climbed, and what is to be known.
#![forbid(unsafe_code)]

use super::story::{self, Grade};
use crate::result::{BenchResult, Latency, Step};

/// The lines, each with its end.
pub fn text(result: &BenchResult) -> String {
    let mut lines = steps(&result.steps);
    lines.push(forwarded(result));
    lines.extend(cost(result));
    lines.extend([latency(&result.latency_us), faults(result), people(result), load(result)]);
    lines.extend(sending(result));
    lines.extend(server(result));
    lines.extend(floor(result));
    lines.extend(bad_links(result));
    lines.extend(messages(result));
    lines.extend(result.verdicts.iter().map(|verdict| format!("verdict    {verdict}")));
    lines.extend(result.notes.iter().map(|note| format!("note       {note}")));
    lines.extend(story::checks(result).into_iter().filter_map(|check| match check.grade {
        Grade::Good => None,
        Grade::Fair => Some(format!("note       {}", check.words)),
        Grade::Bad => Some(format!("PROBLEM    {}", check.words)),
    }));
    lines.join("\n") + "\n"
}

fn forwarded(result: &BenchResult) -> String {
    format!("forwarded  {} packets in {:.1} s", result.forwarded_packets, result.duration_s)
}

fn cost(result: &BenchResult) -> Option<String> {
    Some(format!(
        "CPU        {:.2} µs per forwarded packet (user {:.2}, system {:.2})",
        result.cpu_us_per_forwarded_packet?,
        result.user_us_per_forwarded_packet?,
        result.system_us_per_forwarded_packet?
    ))
}

fn latency(latency: &Latency) -> String {
    format!(
        "latency    p50 {:.0}, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0} µs",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    )
}

fn faults(result: &BenchResult) -> String {
    format!(
        "faults     {} lost ({:.4} %), {} duplicated, {} corrupted, {} reordered, {} retransmitted",
        result.lost,
        result.loss_ratio * 100.0,
        result.duplicated,
        result.corrupted,
        result.reordered,
        result.retransmitted
    )
}

fn people(result: &BenchResult) -> String {
    format!(
        "people     {} present, {} failed, {} silent streams, {:.1} joins/s",
        result.participants, result.failed_joins, result.silent_streams, result.joins_per_second
    )
}

fn load(result: &BenchResult) -> String {
    format!(
        "load       {:.0} % of a CPU, timers late by {:.2} ms (p99), {:.1} ms at most, {} left out",
        result.generator_cpu * 100.0,
        result.generator_lag_p99_ms,
        result.generator_lag_ms,
        result.skipped
    )
}

fn sending(result: &BenchResult) -> Option<String> {
    let per_train = result.mean_gso_segments?;
    let per_call = result.send_packets_per_syscall;
    let per_call = per_call.map_or(String::new(), |count| format!(", {count:.2} per system call"));
    let per_sleep = result.packets_per_sleep;
    let per_sleep = per_sleep.map_or(String::new(), |count| format!(", {count:.2} per sleep"));
    Some(format!("sending    {per_train:.2} packets per train{per_call}{per_sleep}"))
}

fn server(result: &BenchResult) -> Option<String> {
    let mib = result.rss_bytes? as f64 / (1 << 20) as f64;
    Some(format!("server     {:.1} % of a CPU, {mib:.1} MiB", result.server_cpu? * 100.0))
}

fn floor(result: &BenchResult) -> Option<String> {
    let floor = result.floor.as_ref()?;
    let ratio = result.floor_ratio;
    let ratio =
        ratio.map_or(String::new(), |ratio| format!(", the server takes {ratio:.2} times that"));
    let paced = floor.paced_ns_per_packet.map_or(String::new(), |ns| {
        let ratio = result.paced_floor_ratio;
        let ratio = ratio.map_or(String::new(), |ratio| format!(", {ratio:.2} times"));
        format!("; at the server's pace {ns:.0} ns{ratio}")
    });
    Some(format!("floor      {:.0} ns per packet{ratio}{paced}", floor.ns_per_packet))
}

fn bad_links(result: &BenchResult) -> Option<String> {
    let bad = result.bad_links.as_ref()?;
    Some(format!(
        "bad links  {} packets, {} lost ({:.2} %), {} retransmitted, p50 {:.1}, p99 {:.1} ms",
        bad.received,
        bad.lost,
        bad.loss_ratio * 100.0,
        bad.retransmitted,
        bad.latency_us.p50 / 1e3,
        bad.latency_us.p99 / 1e3
    ))
}

fn messages(result: &BenchResult) -> Option<String> {
    let messages = result.messages.as_ref()?;
    let megabits = messages.bytes as f64 * 8.0 / result.duration_s.max(0.001) / 1e6;
    Some(format!(
        "messages   {} sent, {} held back, {} received, {megabits:.2} Mbit/s, {} lost, p50 {:.2}, \
         p99 {:.2} ms",
        messages.sent,
        messages.held_back,
        messages.received,
        messages.lost,
        messages.latency_us.p50 / 1e3,
        messages.latency_us.p99 / 1e3
    ))
}

/// A ramp's steps as a table, which comes first: what follows is measured after it.
fn steps(steps: &[Step]) -> Vec<String> {
    if steps.is_empty() {
        return Vec::new();
    }
    let names =
        ["people", "packets/s", "p50 µs", "p99 µs", "p99.9 µs", "lost %", "server %", "load %"];
    let row = |head: &str, cells: &[String], end: &str| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        format!("{head:10}{cells}  {end}").trim_end().to_owned()
    };
    let mut lines = vec![row("steps", &names.map(str::to_owned), "")];
    lines.extend(steps.iter().map(|step| {
        let latency = &step.latency_us;
        let cells = [
            step.participants.to_string(),
            format!("{:.0}", step.packets_per_s),
            format!("{:.0}", latency.p50),
            format!("{:.0}", latency.p99),
            format!("{:.0}", latency.p999),
            format!("{:.3}", step.loss_ratio * 100.0),
            step.server_cpu.map_or("-".to_owned(), |cpu| format!("{:.0}", cpu * 100.0)),
            format!("{:.0}", step.generator_cpu * 100.0),
        ];
        row("", &cells, if step.held { "held" } else { "BROKE" })
    }));
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::super::fixture::meeting;
    use super::*;

    #[test]
    fn a_result_is_a_few_lines_that_begin_in_one_column() {
        let text = text(&meeting());
        assert!(text.starts_with("forwarded  3000 packets in 3.0 s\nCPU        2.50 µs per"));
        assert!(text.contains("\nlatency    p50 50, p90 80, p99 400, p99.9 900, max 1200 µs\n"));
        assert!(
            text.contains("\nCPU        2.50 µs per forwarded packet (user 1.00, system 1.50)\n")
        );
        let sending = "1.50 packets per train, 12.00 per system call, 30.00 per sleep";
        assert!(text.contains(&format!("\nsending    {sending}\n")));
        let floor = "1800 ns per packet, the server takes 1.40 times that; at the server's pace 2300 ns, \
                     1.10 times";
        assert!(text.contains(&format!("\nfloor      {floor}\n")));
        for line in text.lines() {
            let (head, rest) = line.split_at(11);
            assert!(head.ends_with(' ') && !rest.starts_with(' '), "{line}");
        }
    }

    #[test]
    fn what_is_not_known_has_no_line() {
        let text = text(&BenchResult::default());
        for name in ["CPU ", "sending", "server", "floor", "bad links", "steps", "-"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn what_was_wrong_comes_last() {
        let mut result = meeting();
        (result.failed_joins, result.generator_cpu) = (3, 0.95);
        result.verdicts.push("memory is flat".to_owned());
        result.notes.push("2 sends failed".to_owned());
        let text = text(&result);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        assert_eq!(
            last,
            [
                "note       load generator at 95 % of a CPU",
                "PROBLEM    3 could not join or stay",
                "note       0.033 % lost",
                "note       2 sends failed",
                "verdict    memory is flat",
            ]
        );
    }

    #[test]
    fn the_steps_of_a_ramp_are_a_table() {
        let step = |participants, held| Step {
            participants,
            packets_per_s: 45_000.0,
            server_cpu: Some(0.5),
            held,
            ..Step::default()
        };
        let steps = steps(&[step(50, true), step(100, false)]);
        assert_eq!(
            steps,
            [
                "steps         people packets/s    p50 µs    p99 µs  p99.9 µs    lost %  server %    load %",
                "                  50     45000         0         0         0     0.000        50         0  held",
                "                 100     45000         0         0         0     0.000        50         0  BROKE",
                "",
            ]
        );
    }
}
