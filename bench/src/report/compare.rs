//! Two results side by side: `opencall-bench compare`.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::figures::{Better, Figure, figures};
use super::story;
use super::text::{self, escape};
use crate::result::BenchResult;

/// Values nearer to one another than this are called the same: runs differ by so much on their own.
const SAME: f64 = 0.03;

/// Counts of participants that differ by more than this are another load. Where people come and
/// go, how many are there at the end is chance.
const SAME_SIZE: f64 = 0.1;

/// The figures that the verdict names, where they differ.
const DECISIVE: [&str; 5] =
    ["CPU per forwarded packet", "latency p50", "latency p99", "loss", "memory"];

/// Which of the two is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    /// The first.
    A,
    /// The second.
    B,
    /// Neither: they differ by less than runs do.
    Same,
    /// Neither: not known to both, or not to be judged.
    Neither,
}

impl Winner {
    fn name(self) -> &'static str {
        match self {
            Winner::A => "A",
            Winner::B => "B",
            Winner::Same => "same",
            Winner::Neither => "",
        }
    }
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is compared.
    pub name: &'static str,
    /// The first result's figure.
    pub a: String,
    /// The second result's figure.
    pub b: String,
    /// The second over the first, where both are known and the first is not 0.
    pub ratio: Option<f64>,
    /// Which is better.
    pub winner: Winner,
}

/// Why the two cannot be compared, if so: loads that differ make every ratio meaningless.
pub fn unlike(a: &BenchResult, b: &BenchResult) -> Option<String> {
    let load = |result: &BenchResult| {
        let all = result.participants + result.failed_joins;
        format!("{} of {} in {} rooms", result.scenario, all, result.rooms)
    };
    let people = |result: &BenchResult| (result.participants + result.failed_joins) as f64;
    let is_as_many = (people(a) - people(b)).abs() <= SAME_SIZE * people(a).max(people(b));
    // How far a ramp comes is what is compared.
    let is_as_large = (a.rooms == b.rooms && is_as_many) || a.scenario == "ramp";
    let is_like = a.scenario == b.scenario && is_as_large;
    (!is_like).then(|| {
        let (a, b) = (printable(&load(a)), printable(&load(b)));
        format!("these are different loads, {a} and {b}: compare runs of one load, or say --anyway")
    })
}

/// All lines of which at least one result knows the figure.
pub fn rows(a: &BenchResult, b: &BenchResult) -> Vec<Row> {
    figures(a)
        .into_iter()
        .zip(figures(b))
        .filter(|(a, b)| a.value.is_some() || b.value.is_some())
        .map(|(a, b)| Row {
            name: a.name,
            a: a.shown(),
            b: b.shown(),
            ratio: ratio(a.value, b.value),
            winner: winner(&a, &b),
        })
        .collect()
}

/// What must be known before the figures are believed.
pub fn notes(a: &BenchResult, b: &BenchResult) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differs = |what: &str, a: String, b: String| {
        if a != b {
            notes.push(format!("not the same {what}: {a} / {b}"));
        }
    };
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    differs("scenario", a.scenario.clone(), b.scenario.clone());
    differs("number of participants", a.participants.to_string(), b.participants.to_string());
    differs("number of rooms", a.rooms.to_string(), b.rooms.to_string());
    differs("seed", a.seed.to_string(), b.seed.to_string());
    differs("machine", machine(a), machine(b));
    differs("kernel", a.kernel.clone(), b.kernel.clone());
    differs("commit", a.commit.clone(), b.commit.clone());
    differs("I/O", or_unknown(a.io.clone()), or_unknown(b.io.clone()));
    let cores = |result: &BenchResult| or_unknown(result.workers.map(|n| n.to_string()));
    differs("number of data cores", cores(a), cores(b));
    for (name, result) in [("A", a), ("B", b)] {
        for check in story::checks(result) {
            if check.grade != story::Grade::Good {
                notes.push(format!("{name}: {}", check.words));
            }
        }
    }
    notes
}

/// Who is better, in a line.
pub fn verdict(a: &BenchResult, b: &BenchResult) -> String {
    let rows = rows(a, b);
    let won = |winner: Winner| rows.iter().filter(|row| row.winner == winner).count();
    let (a_wins, b_wins) = (won(Winner::A), won(Winner::B));
    let decisive: Vec<String> = rows
        .iter()
        .filter(|row| DECISIVE.contains(&row.name))
        .filter(|row| matches!(row.winner, Winner::A | Winner::B))
        .map(|row| match row.ratio {
            Some(ratio) => format!("{} {}× ({})", row.name, text::number(ratio), row.winner.name()),
            None => format!("{} {} / {} ({})", row.name, row.a, row.b, row.winner.name()),
        })
        .collect();
    let count = match (a_wins, b_wins) {
        (0, 0) => return "A and B are the same within what runs differ by".to_owned(),
        (0, b) => format!("B is better in {b} figures, A in none"),
        (a, 0) => format!("A is better in {a} figures, B in none"),
        (a, b) => format!("A is better in {a} figures, B in {b}"),
    };
    match decisive.is_empty() {
        true => format!("{count}; cost, latency and loss are the same"),
        false => format!("{count}; B over A: {}", decisive.join(", ")),
    }
}

/// The comparison for a terminal.
pub fn table(names: (&str, &str), a: &BenchResult, b: &BenchResult) -> String {
    let rows = rows(a, b);
    let width = |of: fn(&Row) -> &str, least: usize| {
        rows.iter().map(|row| of(row).chars().count()).fold(least, usize::max)
    };
    let (name, first, second) = (width(|r| r.name, 0), width(|r| &r.a, 1), width(|r| &r.b, 1));
    let mut out = String::new();
    for (letter, file, result) in [("A", names.0, a), ("B", names.1, b)] {
        let (title, when) = (story::title(result), text::utc(result.started_unix_s));
        let line = format!("{letter}  {file}: {}, {title}, {when}", result.scenario);
        push(&mut out, format_args!("{}\n", printable(&line)));
    }
    push(
        &mut out,
        format_args!("\n{:name$}  {:>first$}  {:>second$}  {:>6}  better\n", "", "A", "B", "B/A"),
    );
    for row in &rows {
        let ratio = row.ratio.map_or_else(|| "–".to_owned(), text::number);
        let (a, b, winner) = (&row.a, &row.b, row.winner.name());
        let line = format!("{:name$}  {a:>first$}  {b:>second$}  {ratio:>6}  {winner}", row.name);
        push(&mut out, format_args!("{}\n", line.trim_end()));
    }
    out.push('\n');
    for note in notes(a, b) {
        push(&mut out, format_args!("note: {}\n", printable(&note)));
    }
    push(&mut out, format_args!("verdict: {}\n", verdict(a, b)));
    out
}

/// The comparison as a self-contained page.
pub fn html(names: (&str, &str), a: &BenchResult, b: &BenchResult) -> String {
    let mut body = format!(
        "<header><p class=\"eyebrow\">opencall-bench <b>compare</b></p><h1>{} <span>against</span> \
         {}</h1><p class=\"description\">A is {}: {}, {}.<br/>B is {}: {}, {}.</p>\
         <p class=\"verdict\"><b>{}.</b> Ratios are B over \
         A; what differs by less than {} is called the same.</p><ul class=\"checks\">",
        escape(names.0),
        escape(names.1),
        escape(names.0),
        escape(&a.scenario),
        escape(&story::title(a)),
        escape(names.1),
        escape(&b.scenario),
        escape(&story::title(b)),
        escape(&verdict(a, b)),
        text::percent(SAME)
    );
    for note in notes(a, b) {
        push(&mut body, format_args!("<li class=\"fair\"><i>!</i> {}</li>", escape(&note)));
    }
    body.push_str(
        "</ul></header><section class=\"card scroll\"><table class=\"figures sides\"><thead><tr>\
         <th>figure</th><td>A</td><td>B</td><td>B/A</td><td>better</td></tr></thead><tbody>",
    );
    for row in rows(a, b) {
        let class = if matches!(row.winner, Winner::A | Winner::B) { "won" } else { "same" };
        push(
            &mut body,
            format_args!(
                "<tr><th{}>{}</th><td>{}</td><td>{}</td><td class=\"{class}\">{}</td>\
                 <td class=\"{class}\">{}</td></tr>",
                if row.name.starts_with(' ') { " class=\"part\"" } else { "" },
                escape(row.name.trim_start()),
                escape(&row.a),
                escape(&row.b),
                row.ratio.map_or_else(|| "–".to_owned(), text::number),
                row.winner.name()
            ),
        );
    }
    body.push_str("</tbody></table></section><div class=\"details\">");
    for (letter, name, result) in [("A", names.0, a), ("B", names.1, b)] {
        push(
            &mut body,
            format_args!(
                "<section class=\"card\"><h2>{letter}: {}</h2><pre>{}</pre><p class=\"caption\">{}; \
                 kernel {}; commit {}; {}</p></section>",
                escape(name),
                escape(&result.command_line),
                escape(&machine(result)),
                escape(&result.kernel),
                escape(&result.commit),
                text::utc(result.started_unix_s)
            ),
        );
    }
    body.push_str("</div>");
    super::page::document(&format!("{} against {}", names.0, names.1), &body)
}

/// The machine in a few words.
pub fn machine(result: &BenchResult) -> String {
    let machine = &result.machine;
    format!(
        "{}, {} CPUs, {}",
        machine.cpu_model,
        machine.cpus,
        text::bytes(machine.memory_bytes as f64)
    )
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a?, b?);
    (a != 0.0 && (b / a).is_finite()).then(|| b / a)
}

fn winner(a: &Figure, b: &Figure) -> Winner {
    let (Some(x), Some(y)) = (a.value, b.value) else { return Winner::Neither };
    let is_same = (y - x).abs() <= SAME * x.abs().max(y.abs());
    match a.better {
        Better::Neither => Winner::Neither,
        _ if x.is_nan() || y.is_nan() => Winner::Neither,
        _ if is_same => Winner::Same,
        Better::Lower if y < x => Winner::B,
        Better::Higher if y > x => Winner::B,
        Better::Lower | Better::Higher => Winner::A,
    }
}

/// Text from a file, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Writing into a `String` cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{self, assert_well_formed};
    use crate::result::Latency;

    fn result(cpu: f64, p99: f64, lost: u64) -> BenchResult {
        BenchResult {
            scenario: "meeting".to_owned(),
            participants: 10,
            rooms: 1,
            forwarded_packets: 1000,
            cpu_us_per_forwarded_packet: Some(cpu),
            latency_us: Latency { p99, ..Latency::default() },
            lost,
            ..BenchResult::default()
        }
    }

    fn row(rows: &[Row], name: &str) -> Row {
        rows.iter().find(|row| row.name == name).expect(name).clone()
    }

    #[test]
    fn ratios_are_the_second_over_the_first() {
        let rows = rows(&result(2.0, 100.0, 0), &result(1.0, 150.0, 3));
        let cpu = row(&rows, "CPU per forwarded packet");
        assert_eq!((cpu.ratio, cpu.winner), (Some(0.5), Winner::B));
        let p99 = row(&rows, "latency p99");
        assert_eq!((p99.ratio, p99.winner), (Some(1.5), Winner::A));
        // No ratio to nothing, yet worse.
        let lost = row(&rows, "lost packets");
        assert_eq!((lost.ratio, lost.winner), (None, Winner::A));
        assert!(!rows.iter().any(|row| row.name == "memory"), "known to neither");
    }

    #[test]
    fn each_kind_of_figure_is_judged_its_own_way() {
        let base = fixture::meeting();
        let table: [(&str, BenchResult, Winner); 6] = [
            (
                "packets per send call",
                BenchResult { send_packets_per_syscall: Some(20.0), ..base.clone() },
                Winner::B,
            ),
            (
                "segments per GSO train",
                BenchResult { mean_gso_segments: Some(1.0), ..base.clone() },
                Winner::A,
            ),
            ("memory", BenchResult { rss_bytes: Some(10 << 20), ..base.clone() }, Winner::B),
            (
                "packets forwarded",
                BenchResult { forwarded_packets: 9, ..base.clone() },
                Winner::Neither,
            ),
            (
                "  times the floor",
                BenchResult { floor_ratio: None, ..base.clone() },
                Winner::Neither,
            ),
            (
                "CPU per forwarded packet",
                BenchResult { cpu_us_per_forwarded_packet: Some(f64::NAN), ..base.clone() },
                Winner::Neither,
            ),
        ];
        for (name, other, expected) in table {
            assert_eq!(row(&rows(&base, &other), name).winner, expected, "{name}");
        }
    }

    #[test]
    fn noise_is_neither_better_nor_worse() {
        let (a, b) = (result(2.0, 100.0, 0), result(2.02, 99.0, 0));
        let rows = rows(&a, &b);
        assert_eq!(row(&rows, "CPU per forwarded packet").winner, Winner::Same);
        assert!(rows.iter().all(|row| matches!(row.winner, Winner::Same | Winner::Neither)));
        assert_eq!(verdict(&a, &b), "A and B are the same within what runs differ by");
    }

    #[test]
    fn other_loads_are_not_compared() {
        let a = result(1.0, 1.0, 0);
        let table = [
            (a.clone(), true),
            (BenchResult { participants: 9, failed_joins: 1, ..a.clone() }, true),
            (BenchResult { participants: 20, ..a.clone() }, false),
            (BenchResult { rooms: 2, ..a.clone() }, false),
            (BenchResult { scenario: "webinar\u{1b}[2J".to_owned(), ..a.clone() }, false),
        ];
        for (b, is_like) in table {
            let reason = unlike(&a, &b);
            assert_eq!(reason.is_none(), is_like, "{reason:?}");
            let ramp = |result: &BenchResult| BenchResult {
                scenario: "ramp".to_owned(),
                ..result.clone()
            };
            assert_eq!(unlike(&ramp(&a), &ramp(&b)), None);
            assert!(reason.is_none_or(|reason| reason.lines().count() == 1
                && reason.contains("--anyway")
                && !reason.contains('\u{1b}')));
        }
    }

    #[test]
    fn what_differs_and_what_went_wrong_is_noted() {
        let mut other = result(1.0, 1.0, 0);
        other.scenario = "webinar\u{1b}[2J".to_owned();
        other.corrupted = 2;
        other.io = Some("mmsg".to_owned());
        let text = table(("a.json", "b.json"), &result(1.0, 1.0, 0), &other);
        assert!(text.contains("note: not the same scenario: meeting / webinar"), "{text}");
        assert!(text.contains("note: not the same I/O: unknown / mmsg"), "{text}");
        assert!(text.contains("note: B: 2 corrupted"), "{text}");
        assert!(!text.contains('\u{1b}'), "a file cannot move the cursor");
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_verdict() {
        let text = table(("a", "b"), &result(2.0, 100.0, 0), &result(1.0, 1500.0, 0));
        let cpu = text.lines().find(|line| line.starts_with("CPU per")).unwrap();
        let p99 = text.lines().find(|line| line.starts_with("latency p99 ")).unwrap();
        assert!(cpu.ends_with("0.500  B"), "{text}");
        assert!(p99.ends_with("15.0  A"), "{text}");
        assert_eq!(cpu.chars().count(), p99.chars().count(), "{text}");
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "verdict: A is better in 1 figures, B in 1; B over A: \
             CPU per forwarded packet 0.500× (B), latency p99 15.0× (A)"
        );
    }

    #[test]
    fn the_page_is_well_formed_and_holds_no_foreign_html() {
        let mut a = fixture::meeting();
        a.command_line = "<script>alert(1)</script>".to_owned();
        a.machine.cpu_model = "\"><img src=x>".to_owned();
        let page = html(("<i>a", "b"), &a, &fixture::meeting());
        assert_well_formed(&page);
        assert!(!page.contains("<script>") && !page.contains("<img") && !page.contains("<i>a"));
        assert!(page.contains("&lt;script&gt;"));
    }
}
