//! The plots of a result.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::axes::Axis;
use super::plot::{Bar, Line, Plot, Stroke, thin};
use super::story::LOSS_BAR;
use super::text;
use crate::result::{BenchResult, Second, Step};

/// Threads with a line of their own; the rest is drawn as one.
const THREADS_MAX: usize = 6;

/// Latencies that differ by more than this are drawn on a logarithmic scale: on a linear one the
/// lower would lie on the floor.
const LOG_SPAN: f64 = 8.0;

/// The finest scale of CPU: less would make the noise of an idle server look like work.
const CPU_MIN: f64 = 0.1;

/// Two edges of neighbouring buckets differ by no more than this; else there are empty ones
/// between.
const BUCKET_STEP: f64 = 1.2;

/// All plots that the result has the figures for.
pub fn html(result: &BenchResult) -> String {
    let mut out = String::new();
    if !result.steps.is_empty() {
        out.push_str(&ramp_latency(result));
        out.push_str(&ramp_cpu(result));
    }
    if !result.seconds.is_empty() {
        out.push_str(&latency_over_time(result));
        out.push_str(&packets_over_time(result));
    }
    if !buckets(result).is_empty() {
        out.push_str(&percentiles(result));
        out.push_str(&distribution(result));
    }
    if !result.seconds.is_empty() {
        out.push_str(&cpu_over_time(result));
        out.push_str(&loss_over_time(result));
        out.push_str(&people_over_time(result));
        out.push_str(&memory_over_time(result));
    }
    out
}

/// A plot over the time of the run, without lines and bars.
fn over_time<'a>(places: &'a [f64], shaded: &'a [(f64, f64)]) -> Plot<'a> {
    Plot {
        heading: "",
        caption: "",
        y_title: "",
        x_title: "time since the start of the run",
        x: Axis::between(0.0, places.last().copied().unwrap_or(1.0)),
        y: Axis::from_zero(1.0),
        x_text: text::seconds,
        y_text: text::short,
        places,
        lines: &[],
        bars: (&[], 0),
        shaded,
        marks: &[],
        empty: None,
    }
}

fn each(result: &BenchResult, of: impl Fn(&Second) -> f64) -> Vec<f64> {
    result.seconds.iter().map(of).collect()
}

fn places(result: &BenchResult) -> Vec<f64> {
    thin(&each(result, |second| second.t), true)
}

/// The stretches of time that do not count.
fn uncounted(result: &BenchResult) -> Vec<(f64, f64)> {
    let mut found: Vec<(f64, f64)> = Vec::new();
    let mut from = 0.0;
    for second in &result.seconds {
        if !second.measured {
            match found.last_mut() {
                Some(last) if last.1 >= from => last.1 = second.t,
                _ => found.push((from, second.t)),
            }
        }
        from = second.t;
    }
    found
}

/// The mean of the seconds that count, of all where none does.
fn mean(result: &BenchResult, values: &[f64]) -> f64 {
    let is_any = result.seconds.iter().any(|second| second.measured);
    let counted: Vec<f64> = result
        .seconds
        .iter()
        .zip(values)
        .filter(|(second, value)| (second.measured || !is_any) && value.is_finite())
        .map(|(_, value)| *value)
        .collect();
    if counted.is_empty() { 0.0 } else { counted.iter().sum::<f64>() / counted.len() as f64 }
}

pub(super) fn highest(lines: &[Line]) -> f64 {
    let values = lines.iter().flat_map(|line| &line.values).copied();
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

pub(super) fn lowest(lines: &[Line]) -> f64 {
    let values = lines.iter().flat_map(|line| &line.values).copied();
    values.filter(|value| value.is_finite()).fold(f64::INFINITY, f64::min)
}

pub(super) fn line(
    name: &str,
    told: String,
    values: Vec<f64>,
    colour: usize,
    stroke: Stroke,
) -> Line {
    Line { name: name.to_owned(), told, values, colour, stroke }
}

/// A plot over the steps of a ramp, without lines.
fn over_steps<'a>(places: &'a [f64], marks: &'a [(f64, &'a str)]) -> Plot<'a> {
    let (first, last) = (places.first().copied(), places.last().copied());
    Plot {
        x_title: "participants",
        x: Axis::between(first.unwrap_or(0.0), last.unwrap_or(1.0)),
        x_text: text::grouped,
        marks,
        ..over_time(places, &[])
    }
}

fn step_places(result: &BenchResult) -> Vec<f64> {
    result.steps.iter().map(|step| step.participants as f64).collect()
}

/// Where the ramp broke.
fn knee(result: &BenchResult) -> Vec<(f64, &'static str)> {
    let knee = result.knee.iter().filter(|knee| knee.participants > 0);
    knee.map(|knee| (knee.participants as f64, "knee")).collect()
}

fn ramp_latency(result: &BenchResult) -> String {
    let latency = |name: &str, of: fn(&Step) -> f64, colour, stroke| {
        let values: Vec<f64> = result.steps.iter().map(of).collect();
        line(name, String::new(), values, colour, stroke)
    };
    let lines = [
        latency("p50", |step| step.latency_us.p50, 0, Stroke::Solid),
        latency("p99", |step| step.latency_us.p99, 1, Stroke::Solid),
        latency("p99.9", |step| step.latency_us.p999, 3, Stroke::Dashed),
    ];
    let (places, marks) = (step_places(result), knee(result));
    Plot {
        heading: "Latency as the load grows",
        caption: "Each step of the ramp added rooms. At the knee is the largest load that held.",
        y_title: "latency, logarithmic",
        y: Axis::log_round(lowest(&lines), highest(&lines)),
        y_text: text::micros,
        lines: &lines,
        ..over_steps(&places, &marks)
    }
    .html()
}

fn ramp_cpu(result: &BenchResult) -> String {
    let share = |name: &str, of: fn(&Step) -> f64, colour, stroke| {
        let values: Vec<f64> = result.steps.iter().map(of).collect();
        line(name, String::new(), values, colour, stroke)
    };
    let lines = [
        share("server", |step| step.server_cpu.unwrap_or(f64::NAN), 0, Stroke::Filled),
        share("load generator", |step| step.generator_cpu, 7, Stroke::Dashed),
        share("packets lost", |step| step.loss_ratio, 3, Stroke::Solid),
    ];
    let (places, marks) = (step_places(result), knee(result));
    Plot {
        heading: "CPU and loss as the load grows",
        caption: "Who is at 100 % of its CPUs first is the limit.",
        y_title: "share of one CPU, of packets",
        y: Axis::from_zero(highest(&lines).max(CPU_MIN)),
        y_text: text::percent,
        lines: &lines,
        ..over_steps(&places, &marks)
    }
    .html()
}

fn latency_over_time(result: &BenchResult) -> String {
    // A second in which nothing came has no latency.
    let known = |us: f64| if us > 0.0 { us } else { f64::NAN };
    let p50 = each(result, |second| known(second.latency_p50_us));
    let p99 = each(result, |second| known(second.latency_p99_us));
    let latency = &result.latency_us;
    let lines = [
        line("p50", text::micros(latency.p50), thin(&p50, false), 0, Stroke::Filled),
        line("p99", text::micros(latency.p99), thin(&p99, true), 1, Stroke::Solid),
    ];
    let (low, high) = (lowest(&lines), highest(&lines));
    let is_log = high > low * LOG_SPAN;
    let (places, shaded) = (places(result), uncounted(result));
    Plot {
        heading: "Latency over time",
        caption: "From the sender's clock before sealing to the arrival at the receiver's socket: \
                  half of each second's packets were faster than p50, one in 100 slower than p99.",
        y_title: if is_log { "latency, logarithmic" } else { "latency" },
        y: if is_log { Axis::log_round(low, high) } else { Axis::from_zero(high) },
        y_text: text::micros,
        lines: &lines,
        empty: (high == 0.0).then_some("nothing came"),
        ..over_time(&places, &shaded)
    }
    .html()
}

fn packets_over_time(result: &BenchResult) -> String {
    let forwarded = each(result, |second| second.packets_per_s);
    let sent = each(result, |second| second.sent_packets_per_s);
    let told = |values: &[f64]| format!("{}/s", text::short(mean(result, values)));
    let lines = [
        line("forwarded", told(&forwarded), thin(&forwarded, false), 2, Stroke::Filled),
        line("sent to the server", told(&sent), thin(&sent, false), 4, Stroke::Dashed),
    ];
    let (places, shaded) = (places(result), uncounted(result));
    Plot {
        heading: "Packets per second",
        caption: "What participants received from the server, and what they sent to it. A packet \
                  is forwarded to each who listens.",
        y_title: "packets per second",
        y: Axis::from_zero(highest(&lines)),
        lines: &lines,
        ..over_time(&places, &shaded)
    }
    .html()
}

/// CPU of one thread of the server, second by second, and where it ran.
struct Thread<'a> {
    name: &'a str,
    cpus: BTreeSet<u64>,
    share: Vec<f64>,
}

/// The threads, the busiest first.
fn threads(result: &BenchResult) -> Vec<Thread<'_>> {
    let mut threads: BTreeMap<&str, Thread<'_>> = BTreeMap::new();
    for (index, second) in result.seconds.iter().enumerate() {
        for thread in &second.threads {
            let entry = threads.entry(&thread.name).or_insert_with(|| Thread {
                name: &thread.name,
                cpus: BTreeSet::new(),
                share: vec![0.0; result.seconds.len()],
            });
            entry.cpus.insert(thread.cpu);
            entry.share[index] += thread.user + thread.system;
        }
    }
    let mut threads: Vec<Thread<'_>> = threads.into_values().collect();
    let sum = |thread: &Thread<'_>| thread.share.iter().sum::<f64>();
    threads.sort_by(|a, b| sum(b).total_cmp(&sum(a)));
    threads
}

/// One line per thread of the server, the busiest first, and the generator's.
fn cpu_over_time(result: &BenchResult) -> String {
    let mut threads = threads(result);
    let rest = threads.split_off(threads.len().min(THREADS_MAX));
    let mut lines = Vec::new();
    for (colour, thread) in threads.iter().enumerate() {
        let cpus: Vec<String> = thread.cpus.iter().map(u64::to_string).collect();
        let cores = match cpus.as_slice() {
            [one] => format!(" on CPU {one}"),
            [first, .., last] => format!(" on CPUs {first}–{last}"),
            [] => String::new(),
        };
        let told = format!("{}{cores}", text::percent(mean(result, &thread.share)));
        let stroke = if colour == 0 { Stroke::Filled } else { Stroke::Solid };
        lines.push(line(thread.name, told, thin(&thread.share, false), colour, stroke));
    }
    if !rest.is_empty() {
        let sum: Vec<f64> = (0..result.seconds.len())
            .map(|second| rest.iter().map(|thread| thread.share[second]).sum())
            .collect();
        let told = text::percent(mean(result, &sum));
        lines.push(line("other threads", told, thin(&sum, false), THREADS_MAX, Stroke::Solid));
    }
    let own = each(result, |second| second.generator_cpu);
    let told = text::percent(mean(result, &own));
    lines.push(line("load generator", told, thin(&own, false), 7, Stroke::Dashed));
    let (places, shaded) = (places(result), uncounted(result));
    Plot {
        heading: "CPU by core and thread",
        caption: "Each thread of the server, user and kernel together; a data core is one thread. \
                  At 100 % a thread has a CPU for itself and can do no more.",
        y_title: "share of one CPU",
        y: Axis::from_zero(highest(&lines).max(CPU_MIN)),
        y_text: text::percent,
        lines: &lines,
        ..over_time(&places, &shaded)
    }
    .html()
}

fn loss_over_time(result: &BenchResult) -> String {
    let share = |second: &Second| {
        let due = second.packets_per_s + second.lost as f64;
        if due > 0.0 { second.lost as f64 / due } else { 0.0 }
    };
    let values = thin(&each(result, share), true);
    let (places, shaded) = (places(result), uncounted(result));
    let starts = std::iter::once(0.0).chain(places.iter().copied());
    let bars: Vec<Bar> = starts
        .zip(places.iter().zip(&values))
        .map(|(from, (to, value))| Bar { from, to: *to, value: *value })
        .collect();
    let told = format!(
        "{}, {} packets",
        text::percent(result.loss_ratio),
        text::grouped(result.lost as f64)
    );
    let is_none = bars.iter().all(|bar| bar.value.is_nan() || bar.value <= 0.0);
    let values: Vec<Line> = vec![line("lost", told, values, 3, Stroke::Solid)];
    let top = highest(&values).max(LOSS_BAR);
    // The legend's line, without points to draw.
    let lines = values.into_iter().map(|line| Line { values: Vec::new(), ..line });
    let lines: Vec<Line> = lines.collect();
    Plot {
        heading: "Loss over time",
        caption: "Packets that never came, not even when asked for again, of those due in each \
                  second. Up to 0.1 % is tolerable.",
        y_title: "share of packets lost",
        // Never finer than what is tolerable, lest a single packet look like a disaster.
        y: Axis::from_zero(top),
        y_text: text::percent,
        places: &[],
        lines: &lines,
        bars: (&bars, 3),
        empty: is_none.then_some("nothing was lost"),
        ..over_time(&places, &shaded)
    }
    .html()
}

fn people_over_time(result: &BenchResult) -> String {
    let people = each(result, |second| second.participants as f64);
    let told = text::grouped(result.participants as f64);
    let lines = [line("connected", told, thin(&people, false), 5, Stroke::Filled)];
    let (places, shaded) = (places(result), uncounted(result));
    Plot {
        heading: "Participants",
        caption: "Those whose ICE and DTLS had succeeded in both directions.",
        y_title: "people",
        y: Axis::from_zero(highest(&lines).max(5.0)),
        lines: &lines,
        ..over_time(&places, &shaded)
    }
    .html()
}

fn memory_over_time(result: &BenchResult) -> String {
    let mebibytes = |second: &Second| second.rss_bytes as f64 / f64::from(1 << 20);
    let values = each(result, mebibytes);
    if values.iter().all(|value| *value == 0.0) {
        return String::new();
    }
    let told = result.rss_bytes.map_or(String::new(), |bytes| text::bytes(bytes as f64));
    let lines = [line("resident", told, thin(&values, true), 6, Stroke::Filled)];
    let (places, shaded) = (places(result), uncounted(result));
    Plot {
        heading: "Memory of the server",
        caption: "Resident set of the server's processes. It should be flat while nobody joins.",
        y_title: "memory",
        y: Axis::from_zero(highest(&lines)),
        y_text: |mebibytes| text::bytes(mebibytes * f64::from(1 << 20)),
        lines: &lines,
        ..over_time(&places, &shaded)
    }
    .html()
}

/// The buckets with packets, ascending.
fn buckets(result: &BenchResult) -> Vec<(f64, f64)> {
    let mut found: Vec<(f64, f64)> = result
        .latency_histogram
        .iter()
        .filter(|bucket| bucket.count > 0 && bucket.up_to_us > 0.0 && bucket.up_to_us.is_finite())
        .map(|bucket| (bucket.up_to_us, bucket.count as f64))
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found
}

/// How many packets took how long.
fn distribution(result: &BenchResult) -> String {
    let buckets = buckets(result);
    let total: f64 = buckets.iter().map(|bucket| bucket.1).sum();
    let mut before = 0.0;
    let bars: Vec<Bar> = buckets
        .iter()
        .map(|(to, count)| {
            let from = f64::max(before, to / BUCKET_STEP);
            before = *to;
            Bar { from, to: *to, value: count / total }
        })
        .collect();
    let (low, high) = bars.first().zip(bars.last()).map_or((1.0, 2.0), |(a, b)| (a.from, b.to));
    let latency = &result.latency_us;
    let marks =
        [(latency.p50, "p50"), (latency.p90, "p90"), (latency.p99, "p99"), (latency.p999, "p99.9")];
    let marks = marks.map(|(us, name)| (us, format!("{name} {}", text::micros(us))));
    let marks: Vec<(f64, &str)> =
        marks.iter().filter(|mark| mark.0 > 0.0).map(|(us, name)| (*us, name.as_str())).collect();
    let told = text::grouped(total);
    let lines = [line("packets", told, Vec::new(), 0, Stroke::Solid)];
    Plot {
        heading: "Latency distribution",
        caption: "How many packets took how long. Most should stand in one hill to the left; a \
                  second hill is something that some packets wait for.",
        y_title: "share of packets",
        x_title: "latency, logarithmic",
        x: Axis::log(low, high),
        y: Axis::from_zero(bars.iter().map(|bar| bar.value).fold(0.0, f64::max)),
        x_text: text::micros,
        y_text: text::percent,
        places: &[],
        lines: &lines,
        bars: (&bars, 0),
        shaded: &[],
        marks: &marks,
        empty: None,
    }
    .html()
}

/// Latency against rarity: to the right are the slowest packets, each decade a nine more.
fn percentiles(result: &BenchResult) -> String {
    let buckets = buckets(result);
    let total: f64 = buckets.iter().map(|bucket| bucket.1).sum();
    let mut places = Vec::new();
    let mut values = Vec::new();
    let mut below = 0.0;
    for (up_to, count) in &buckets {
        // One packet in this many is slower than the bucket's lower edge.
        places.push(total / (total - below));
        values.push(*up_to);
        below += count;
    }
    // Only one was as slow as the slowest.
    places.push(total);
    values.push(result.latency_us.max.max(values.last().copied().unwrap_or(0.0)));
    let (places, values) = (thin(&places, true), thin(&values, true));
    let told = format!("max {}", text::micros(result.latency_us.max));
    let lines = [line("latency", told, values, 1, Stroke::Filled)];
    latency_by_percentile(&places, Axis::log(1.0, total.max(10.0)), &lines)
}

/// Latencies against rarity: `places` tells of how many packets one is slower.
pub(super) fn latency_by_percentile(places: &[f64], x: Axis, lines: &[Line]) -> String {
    Plot {
        heading: "Latency by percentile",
        caption: "Each step to the right looks at ten times rarer packets: at p99.9 one in 1000 \
                  was slower than this. The lower and the flatter, the better.",
        y_title: "latency, logarithmic",
        x_title: "percentile of packets, the slowest to the right",
        x,
        y: Axis::log_round(lowest(lines), highest(lines)),
        x_text: percentile_name,
        y_text: text::micros,
        places,
        lines,
        bars: (&[], 0),
        shaded: &[],
        marks: &[],
        empty: None,
    }
    .html()
}

/// `10` is p90, `1000` is p99.9.
fn percentile_name(rarity: f64) -> String {
    if rarity.is_nan() || rarity <= 1.0 {
        return "p0".to_owned();
    }
    let share = 100.0 * (1.0 - 1.0 / rarity);
    let digits = (rarity.log10().ceil() as usize).saturating_sub(2).min(6);
    format!("p{share:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::result::{Knee, Latency, ThreadCpu};

    #[test]
    fn time_that_does_not_count_is_one_stretch() {
        let mut result = fixture::meeting();
        assert_eq!(uncounted(&result), [(0.0, 2.0)]);
        result.seconds[3].measured = false;
        assert_eq!(uncounted(&result), [(0.0, 2.0), (3.0, 4.0)]);
    }

    #[test]
    fn rarities_are_named_as_percentiles() {
        for (rarity, name) in
            [(1.0, "p0"), (10.0, "p90"), (100.0, "p99"), (1000.0, "p99.9"), (100_000.0, "p99.999")]
        {
            assert_eq!(percentile_name(rarity), name);
        }
    }

    #[test]
    fn threads_beyond_a_handful_become_one_line() {
        let mut result = fixture::meeting();
        for second in &mut result.seconds {
            let thread =
                |i| ThreadCpu { name: format!("data-{i}"), user: 0.5, cpu: i, system: 0.0 };
            second.threads = (0..20).map(thread).collect();
        }
        let plot = cpu_over_time(&result);
        assert_eq!(plot.matches("class=\"line").count(), THREADS_MAX + 2);
        assert!(plot.contains("other threads <b>700 %</b>"), "{plot}");
        assert!(plot.contains("data-1 <b>50 % on CPU 1</b>"), "{plot}");
    }

    #[test]
    fn bars_of_the_distribution_do_not_reach_over_empty_buckets() {
        let plot = distribution(&fixture::meeting());
        assert!(plot.contains("83.3 µs – 100 µs\n46.7 %"), "{plot}");
        assert!(plot.contains("p99 400 µs"), "{plot}");
    }

    #[test]
    fn a_run_without_loss_says_so() {
        let mut result = fixture::meeting();
        assert!(!loss_over_time(&result).contains("nothing was lost"));
        for second in &mut result.seconds {
            second.lost = 0;
        }
        assert!(loss_over_time(&result).contains("nothing was lost"));
    }

    #[test]
    fn latencies_far_apart_are_drawn_logarithmically() {
        let mut result = fixture::meeting();
        assert!(!latency_over_time(&result).contains("logarithmic"));
        result.seconds[4].latency_p99_us = 1e6;
        assert!(latency_over_time(&result).contains("logarithmic"));
    }

    #[test]
    fn a_ramp_has_plots_of_its_steps_with_the_knee() {
        let mut result = fixture::meeting();
        let step = |participants, p99| Step {
            participants,
            latency_us: Latency { p50: 50.0, p99, p999: 2.0 * p99, max: 3.0 * p99, p90: p99 },
            ..Step::default()
        };
        result.steps = vec![step(50, 300.0), step(100, 900.0), step(150, 40_000.0)];
        result.knee = Some(Knee { participants: 100, ..Knee::default() });
        let plots = html(&result);
        assert_eq!(plots.matches("as the load grows</h2>").count(), 2, "{plots}");
        assert_eq!(plots.matches("top:2%\">knee</span>").count(), 2, "{plots}");
        assert!(plots.contains("150\np50: 50 µs\np99: 40 ms\np99.9: 80 ms"), "{plots}");
    }

    #[test]
    fn memory_of_a_server_that_is_not_watched_is_not_drawn() {
        let mut result = fixture::meeting();
        assert!(html(&result).contains("Memory of the server"));
        for second in &mut result.seconds {
            second.rss_bytes = 0;
        }
        assert!(!html(&result).contains("Memory of the server"));
    }
}
