//! Test cases of RFC 8867 section 5, and what is asked of them: whoever runs one says what everyone
//! got. Rates are of media that the link took; queues drop at the tail.

use std::time::Duration;

use opencall_emulator::rate::Step;
use opencall_emulator::{Cross, Impairment, LinkConfig, LogRow, QueueLimit, Rate};
use opencall_wire::time::Time;

use super::Link;

/// The most that a source sends.
pub const MOST_BPS: f64 = 1.5e6;

/// What everyone got is noted so often.
pub const SAMPLE: Duration = Duration::from_millis(100);

/// The worst of so many seeds counts.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

/// A case: a bottleneck, and who is behind it.
#[derive(Clone)]
pub struct Case {
    kbps: &'static [(u64, u64)],
    pub delay_ms: u64,
    jitter_ms: u64,
    queue_ms: u64,
    cross: Vec<Cross>,
    /// When each client comes, seconds, and how much longer its way is, milliseconds.
    pub clients: Vec<(u64, u64)>,
    /// Who pauses, from when to when.
    pub pause: Option<(usize, u64, u64)>,
    pub seconds: u64,
    pub seed: u64,
}

impl Case {
    /// One client, for 100 s.
    fn new(kbps: &'static [(u64, u64)]) -> Self {
        Case {
            kbps,
            delay_ms: 50,
            jitter_ms: 0,
            queue_ms: 300,
            cross: Vec::new(),
            clients: vec![(0, 0)],
            pause: None,
            seconds: 100,
            seed: 1,
        }
    }

    fn rate(&self) -> Rate {
        let step = |&(from_s, kbps): &(u64, u64)| Step {
            from: Duration::from_secs(from_s),
            bps: kbps * 1_000,
        };
        Rate::Steps(self.kbps.iter().map(step).collect())
    }

    /// The bottleneck, from `origin` on.
    pub fn link(&self, origin: Time) -> Link {
        let config = LinkConfig {
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            queue: QueueLimit::Time(Duration::from_millis(self.queue_ms)),
            ..LinkConfig::default()
        };
        let link = Impairment::new(config, self.seed).with_rate(self.rate());
        let link = link.with_cross(&self.cross).with_log(Duration::ZERO);
        Link::emulated(link, origin, self.delay_ms as f64)
    }
}

/// What was seen.
pub struct Run {
    /// Bytes of media that the link has taken for each client, after each [`SAMPLE`].
    taken: Vec<Vec<u64>>,
    /// The queue, each 10 ms.
    queues_ms: Vec<f64>,
}

impl Run {
    pub fn new(case: &Case) -> Self {
        Run { taken: vec![Vec::new(); case.clients.len()], queues_ms: Vec::new() }
    }

    /// What each client has got by now, those who have not come yet left out.
    pub fn note(&mut self, taken: impl Iterator<Item = u64>, rows: &[LogRow]) {
        let mut taken = taken.fuse();
        self.taken.iter_mut().for_each(|of_one| of_one.push(taken.next().unwrap_or(0)));
        self.queues_ms.extend(rows.iter().map(|row| row.queue.as_secs_f64() * 1e3));
    }

    /// Kilobits per second of a client between two moments.
    fn kbps(&self, client: usize, from_s: usize, to_s: usize) -> f64 {
        let at = |seconds: usize| match (seconds * 10).checked_sub(1) {
            Some(index) => self.taken[client][index],
            None => 0,
        };
        (at(to_s) - at(from_s)) as f64 * 8.0 / 1e3 / (to_s - from_s) as f64
    }

    /// The least that a client gets in any second between two moments.
    fn least_kbps(&self, client: usize, from_s: usize, to_s: usize) -> f64 {
        (from_s..to_s).map(|at| self.kbps(client, at, at + 1)).fold(f64::MAX, f64::min)
    }

    /// Ratio of the most and the least that clients get.
    fn ratio(&self, from_s: usize, to_s: usize) -> f64 {
        let rates: Vec<f64> =
            (0..self.taken.len()).map(|client| self.kbps(client, from_s, to_s)).collect();
        println!("kbit/s of each from {from_s} to {to_s} s: {rates:.0?}");
        let most = rates.iter().copied().fold(0.0, f64::max);
        most / rates.iter().copied().fold(f64::MAX, f64::min)
    }

    fn queue_p95_ms(&self) -> f64 {
        let mut queues = self.queues_ms.clone();
        queues.sort_by(f64::total_cmp);
        queues[queues.len() * 95 / 100]
    }

    /// What all clients get, in percent of the capacity or of what they want, whichever is less.
    fn utilisation(&self, case: &Case) -> f64 {
        let most_bps = MOST_BPS * self.taken.len() as f64;
        let rate = case.rate();
        let could_bps: f64 = (0..case.seconds)
            .map(|second| rate.bps(Duration::from_secs(second)).unwrap_or(0) as f64)
            .map(|bps| bps.min(most_bps))
            .sum();
        let got_bytes: u64 = self.taken.iter().filter_map(|taken| taken.last()).sum();
        got_bytes as f64 * 8.0 / could_bps * 100.0
    }
}

/// Figures that were asked for, and those that are not as they should be.
#[derive(Default)]
struct Verdict(Vec<String>);

impl Verdict {
    fn ask(&mut self, what: &str, value: f64, low: f64, high: f64) {
        let told = format!("{what}: {value:.1} (from {low} to {high})");
        println!("{told}");
        if !(low..=high).contains(&value) {
            self.0.push(told);
        }
    }

    #[track_caller]
    fn give(self) {
        assert!(self.0.is_empty(), "does not hold:\n{}", self.0.join("\n"));
    }
}

/// Runs a case with each seed.
#[track_caller]
fn ask(case: &Case, run: impl Fn(&Case) -> Run, ask: impl Fn(&mut Verdict, &Run)) {
    let mut verdict = Verdict::default();
    for seed in SEEDS {
        ask(&mut verdict, &run(&Case { seed, ..case.clone() }));
    }
    verdict.give();
}

fn variable(delay_ms: u64, jitter_ms: u64) -> Case {
    let kbps = &[(0, 1_000), (40, 2_500), (60, 600), (80, 1_000)];
    Case { delay_ms, jitter_ms, ..Case::new(kbps) }
}

/// 5.1, a capacity that varies: how much of it is used.
pub fn variable_is_used(delay_ms: u64, jitter_ms: u64, run: impl Fn(&Case) -> Run) {
    let case = variable(delay_ms, jitter_ms);
    ask(&case, run, |verdict, run| {
        let what = format!("5.1, {delay_ms} ms, {jitter_ms} ms of jitter: utilisation, percent");
        verdict.ask(&what, run.utilisation(&case), 80.0, 101.0);
    });
}

/// 5.1: how much waits.
pub fn variable_does_not_queue(delay_ms: u64, jitter_ms: u64, run: impl Fn(&Case) -> Run) {
    ask(&variable(delay_ms, jitter_ms), run, |verdict, run| {
        let what = format!("5.1, {delay_ms} ms, {jitter_ms} ms of jitter: p95 of the queue, ms");
        verdict.ask(&what, run.queue_p95_ms(), 0.0, 100.0);
    });
}

/// 5.2, a capacity that varies for two.
pub fn variable_for_two(run: impl Fn(&Case) -> Run) {
    let kbps = &[(0, 4_000), (25, 2_000), (50, 3_500), (75, 1_000), (100, 2_000)];
    let case = Case { clients: vec![(0, 0); 2], seconds: 125, ..Case::new(kbps) };
    ask(&case, run, |verdict, run| {
        verdict.ask("5.2: utilisation, percent", run.utilisation(&case), 80.0, 101.0);
        verdict.ask("5.2: p95 of the queue, ms", run.queue_p95_ms(), 0.0, 100.0);
        verdict.ask("5.2: ratio", run.ratio(0, 125), 1.0, 2.0);
    });
}

/// 5.4, clients that come one after the other.
pub fn one_after_the_other(run: impl Fn(&Case) -> Run) {
    let clients = vec![(0, 0), (20, 0), (40, 0)];
    let case = Case { clients, seconds: 120, ..Case::new(&[(0, 3_500)]) };
    ask(&case, run, |verdict, run| {
        verdict.ask("5.4: ratio from 60 s on", run.ratio(60, 120), 1.0, 2.0);
    });
}

/// 5.5, ways of different lengths.
pub fn different_lengths(run: impl Fn(&Case) -> Run) {
    let clients = [(0, 0), (10, 15), (20, 40), (30, 90), (40, 140)].to_vec();
    let case = Case { clients, delay_ms: 10, seconds: 300, ..Case::new(&[(0, 4_000)]) };
    ask(&case, run, |verdict, run| {
        verdict.ask("5.5: ratio from 60 s on", run.ratio(60, 300), 1.0, 2.0);
    });
}

/// 5.6, beside a TCP without end.
pub fn beside_tcp(queue_ms: u64, run: impl Fn(&Case) -> Run) {
    let (cross, clients) = (vec![Cross::Tcp], vec![(5, 0)]);
    let case = Case { cross, clients, queue_ms, seconds: 120, ..Case::new(&[(0, 2_000)]) };
    ask(&case, run, |verdict, run| {
        let percent = run.kbps(0, 5, 119) / 20.0;
        let least = if queue_ms == 300 { 20.0 } else { 0.0 };
        verdict.ask(&format!("5.6, {queue_ms} ms: percent of the link"), percent, least, 101.0);
        let what = format!("5.6, {queue_ms} ms: least in a second, kbit/s");
        verdict.ask(&what, run.least_kbps(0, 6, 119), 150.0, 2_000.0);
    });
}

/// 5.7, two beside ten TCPs that come and go: what each gets stands beside, and is not asked for.
pub fn beside_short_transfers(run: impl Fn(&Case) -> Run) {
    let (cross, clients) = (vec![Cross::TcpShort; 10], vec![(0, 0); 2]);
    let case = Case { cross, clients, seconds: 300, ..Case::new(&[(0, 2_000)]) };
    ask(&case, run, |verdict, run| {
        verdict.ask("5.7: ratio", run.ratio(5, 300), 1.0, 2.0);
    });
}

/// 5.8, one of three that pauses.
pub fn one_that_pauses(run: impl Fn(&Case) -> Run) {
    let (clients, pause) = (vec![(0, 0); 3], Some((1, 40, 60)));
    let case = Case { clients, pause, seconds: 120, ..Case::new(&[(0, 3_500)]) };
    ask(&case, run, |verdict, run| {
        let (before, after) = (run.kbps(1, 20, 40), run.kbps(1, 75, 95));
        verdict.ask("5.8: meanwhile, kbit/s", run.kbps(1, 42, 60), 0.0, 60.0);
        let what = "5.8: percent of its share before";
        verdict.ask(what, after / before * 100.0, 80.0, 120.0);
    });
}
