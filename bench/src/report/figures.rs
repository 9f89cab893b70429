//! The figures of a result as a list: what the page's table and comparisons show.
#![forbid(unsafe_code)]

use super::text;
use crate::result::{BadLinkFigures, BenchResult, Faults, Flood, MessageFigures, Storm};

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The lower the better.
    Lower,
    /// The higher the better.
    Higher,
    /// Neither: it says what the load was.
    Neither,
}

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What a packet cost.
    Cost,
    /// How late it was.
    Latency,
    /// What went wrong with packets.
    Faults,
    /// What participants behind emulated bad links saw.
    BadLinks,
    /// Messages over data channels.
    Messages,
    /// How much there was to do.
    Load,
    /// The process that did it.
    Server,
    /// The process that asked for it.
    Generator,
}

impl Group {
    /// Its heading.
    pub fn name(self) -> &'static str {
        match self {
            Group::Cost => "Cost",
            Group::Latency => "Latency",
            Group::Faults => "Faults",
            Group::BadLinks => "Behind bad links",
            Group::Messages => "Messages over data channels",
            Group::Load => "Load",
            Group::Server => "Server",
            Group::Generator => "Load generator",
        }
    }
}

/// One figure of a result.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// What it is about.
    pub group: Group,
    /// Its name, as people read it.
    pub name: &'static str,
    /// The figure, where the run knew it.
    pub value: Option<f64>,
    /// How it is written.
    pub text: fn(f64) -> String,
    /// Which direction is better.
    pub better: Better,
}

impl Figure {
    /// The figure as text; a dash where it is not known.
    pub fn shown(&self) -> String {
        self.value.map_or_else(|| "–".to_owned(), self.text)
    }
}

/// Packets received per second over the time that counts.
pub fn packets_per_s(result: &BenchResult) -> Option<f64> {
    (result.duration_s > 0.0).then(|| result.forwarded_packets as f64 / result.duration_s)
}

/// All figures worth a line, those people ask for first at the top.
pub fn figures(result: &BenchResult) -> Vec<Figure> {
    let mut all = cost(result);
    all.extend(latency(result));
    all.extend(faults(result));
    all.extend(bad_links(result));
    all.extend(messages(result));
    all.extend(load(result));
    all.extend(processes(result));
    all
}

type Row = (&'static str, Option<f64>, fn(f64) -> String, Better);

fn grouped<const N: usize>(group: Group, rows: [Row; N]) -> Vec<Figure> {
    let figure = |(name, value, text, better): Row| Figure { group, name, value, text, better };
    rows.into_iter().map(figure).collect()
}

fn cost(result: &BenchResult) -> Vec<Figure> {
    use Better::{Higher, Lower, Neither};
    let floor = result.floor.as_ref();
    grouped(
        Group::Cost,
        [
            ("CPU per forwarded packet", result.cpu_us_per_forwarded_packet, text::micros, Lower),
            ("  in user space", result.user_us_per_forwarded_packet, text::micros, Lower),
            ("  in the kernel", result.system_us_per_forwarded_packet, text::micros, Lower),
            ("  times the floor", result.floor_ratio, text::number, Lower),
            ("  times the floor at its pace", result.paced_floor_ratio, text::number, Lower),
            (
                "floor: seal and send in trains",
                floor.map(|floor| floor.ns_per_packet / 1e3),
                text::micros,
                Neither,
            ),
            (
                "floor: the same at the server's pace",
                floor.and_then(|floor| Some(floor.paced_ns_per_packet? / 1e3)),
                text::micros,
                Neither,
            ),
            (
                "floor: seal and send one by one",
                floor.map(|floor| floor.single_ns_per_packet / 1e3),
                text::micros,
                Neither,
            ),
            (
                "floor: sealing alone",
                floor.map(|floor| floor.seal_ns_per_packet / 1e3),
                text::micros,
                Neither,
            ),
            ("packets per send call", result.send_packets_per_syscall, text::number, Higher),
            ("packets per sleep", result.packets_per_sleep, text::number, Higher),
            ("segments per GSO train", result.mean_gso_segments, text::number, Higher),
        ],
    )
}

fn latency(result: &BenchResult) -> Vec<Figure> {
    let latency = &result.latency_us;
    // Nothing was late where nothing came.
    let known = |us: f64| (result.forwarded_packets > 0).then_some(us);
    let row = |name, us| -> Row { (name, known(us), text::micros, Better::Lower) };
    let storm = |name, of: fn(&Storm) -> f64, text: fn(f64) -> String| -> Row {
        (name, result.storm.as_ref().map(of), text, Better::Lower)
    };
    let flood = |name, of: fn(&Flood) -> f64| -> Row {
        (name, result.flood.as_ref().map(of), text::micros, Better::Lower)
    };
    let fault = |name, of: fn(&Faults) -> f64| -> Row {
        (name, result.faults.as_ref().map(of), text::micros, Better::Lower)
    };
    grouped(
        Group::Latency,
        [
            row("latency p50", latency.p50),
            row("latency p90", latency.p90),
            row("latency p99", latency.p99),
            row("latency p99.9", latency.p999),
            row("latency max", latency.max),
            storm("p99 before the storm", |storm| storm.before_us.p99, text::micros),
            storm("p99 in the storm", |storm| storm.during_us.p99, text::micros),
            storm("p99 in it over before", |storm| storm.p99_ratio, text::number),
            flood("p99 before the flood", |flood| flood.before_us.p99),
            flood("p99 in the flood", |flood| flood.during_us.p99),
            fault("standstill p99 in calm", |faults| faults.calm_us.p99),
            fault("standstill p50 after faults", |faults| faults.after_us.p50),
            fault("standstill p99 after faults", |faults| faults.after_us.p99),
            fault("standstill max after faults", |faults| faults.after_us.max),
        ],
    )
}

fn faults(result: &BenchResult) -> Vec<Figure> {
    let count =
        |name, count: u64, better| -> Row { (name, Some(count as f64), text::grouped, better) };
    grouped(
        Group::Faults,
        [
            ("loss", Some(result.loss_ratio), text::percent, Better::Lower),
            count("lost packets", result.lost, Better::Lower),
            count("duplicated packets", result.duplicated, Better::Lower),
            count("corrupted packets", result.corrupted, Better::Lower),
            count("reordered packets", result.reordered, Better::Lower),
            count("retransmitted packets", result.retransmitted, Better::Neither),
            count("failed joins", result.failed_joins, Better::Lower),
            count("silent streams", result.silent_streams, Better::Lower),
        ],
    )
}

fn bad_links(result: &BenchResult) -> Vec<Figure> {
    let of = |value: fn(&BadLinkFigures) -> f64| result.bad_links.as_ref().map(value);
    let row = |name, value, text: fn(f64) -> String| -> Row { (name, value, text, Better::Lower) };
    grouped(
        Group::BadLinks,
        [
            row("loss behind bad links", of(|bad| bad.loss_ratio), text::percent),
            row("latency p50 behind bad links", of(|bad| bad.latency_us.p50), text::micros),
            row("latency p99 behind bad links", of(|bad| bad.latency_us.p99), text::micros),
            (
                "retransmitted over bad links",
                of(|bad| bad.retransmitted as f64),
                text::grouped,
                Better::Neither,
            ),
        ],
    )
}

fn messages(result: &BenchResult) -> Vec<Figure> {
    let of = |value: fn(&MessageFigures) -> f64| result.messages.as_ref().map(value);
    let seconds = result.duration_s.max(0.001);
    let megabits =
        of(|messages| messages.bytes as f64 * 8.0 / 1e6).map(|megabits| megabits / seconds);
    grouped(
        Group::Messages,
        [
            ("messages received", of(|it| it.received as f64), text::grouped, Better::Higher),
            ("Mbit/s of messages", megabits, text::number, Better::Higher),
            ("messages lost", of(|it| it.lost as f64), text::grouped, Better::Lower),
            ("message latency p50", of(|it| it.latency_us.p50), text::micros, Better::Lower),
            ("message latency p99", of(|it| it.latency_us.p99), text::micros, Better::Lower),
        ],
    )
}

fn load(result: &BenchResult) -> Vec<Figure> {
    use Better::{Higher, Neither};
    let seconds = (result.duration_s > 0.0).then_some(result.duration_s);
    let knee = result.knee.as_ref().map(|knee| knee.participants as f64);
    let megabits = seconds.map(|s| result.forwarded_bytes as f64 * 8.0 / s / 1e6);
    grouped(
        Group::Load,
        [
            ("participants", Some(result.participants as f64), text::grouped, Neither),
            ("rooms", Some(result.rooms as f64), text::grouped, Neither),
            ("largest load that held, participants", knee, text::grouped, Higher),
            ("joins per second", Some(result.joins_per_second), text::number, Higher),
            ("measured, s", seconds, text::number, Neither),
            ("packets sent", Some(result.sent_packets as f64), text::grouped, Neither),
            ("packets forwarded", Some(result.forwarded_packets as f64), text::grouped, Neither),
            ("packets forwarded per second", packets_per_s(result), text::grouped, Neither),
            ("Mbit/s forwarded", megabits, text::number, Neither),
        ],
    )
}

fn processes(result: &BenchResult) -> Vec<Figure> {
    use Better::{Lower, Neither};
    let lag_us = result.generator_lag_ms * 1e3;
    let growth = result.memory.as_ref().map(|memory| memory.bytes_per_minute);
    let rss = result.rss_bytes.map(|bytes| bytes as f64);
    let mut all = grouped(
        Group::Server,
        [
            ("CPU, share of one", result.server_cpu, text::percent, Lower),
            ("memory", rss, text::bytes, Lower),
            ("memory per participant", result.rss_per_participant_bytes, text::bytes, Lower),
            ("memory growth per minute", growth, text::bytes, Lower),
        ],
    );
    all.extend(grouped(
        Group::Generator,
        [
            ("generator CPU, share of one", Some(result.generator_cpu), text::percent, Neither),
            ("latest timer", Some(lag_us), text::micros, Neither),
            ("latest timer, p99", Some(result.generator_lag_p99_ms * 1e3), text::micros, Neither),
            ("CPU of other programs", result.other_cpu, text::percent, Neither),
            ("left out because late", Some(result.skipped as f64), text::grouped, Neither),
        ],
    ));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_what_is_not_known_is_a_dash() {
        let figures = figures(&BenchResult::default());
        let mut names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), figures.len());
        let shown = |name| figures.iter().find(|figure| figure.name == name).unwrap().shown();
        assert_eq!((shown("latency p50"), shown("memory")), ("–".into(), "–".into()));
        assert_eq!(shown("lost packets"), "0");
    }

    #[test]
    fn figures_of_a_group_stand_together() {
        let figures = figures(&BenchResult::default());
        let mut groups: Vec<&str> = figures.iter().map(|figure| figure.group.name()).collect();
        groups.dedup();
        assert_eq!(
            groups,
            [
                "Cost",
                "Latency",
                "Faults",
                "Behind bad links",
                "Messages over data channels",
                "Load",
                "Server",
                "Load generator",
            ]
        );
    }
}
