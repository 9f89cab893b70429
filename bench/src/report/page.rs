//! A result as one self-contained HTML page: no script, no font, nothing fetched.
#![forbid(unsafe_code)]

use super::figures::{Figure, figures, packets_per_s};
use super::story::{self, Check, Grade};
use super::text::{self, escape};
use super::{compare, plots};
use crate::result::BenchResult;

const STYLE: &str = include_str!("page.css");

/// The page of a result.
pub fn html(result: &BenchResult) -> String {
    let body = format!(
        "{}{}<main>{}{}</main>",
        header(result),
        tiles(result),
        plots::html(result),
        details(result)
    );
    document(&format!("{} · opencall-bench", story::title(result)), &body)
}

/// A page round a body.
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>\
         <style>{STYLE}</style></head><body>{body}</body></html>\n",
        escape(title)
    )
}

/// Who met whom, was it clean, what did a packet cost, how late was it.
fn header(result: &BenchResult) -> String {
    let (grade, verdict) = story::verdict(result);
    let more: Vec<String> =
        [story::cost(result), story::lateness(result)].into_iter().flatten().collect();
    let checks = checks(&story::checks(result));
    let said: String = result
        .verdicts
        .iter()
        .map(|said| format!("<p class=\"said\">{}</p>", escape(&text::keep_units(said))))
        .collect();
    format!(
        "<header><p class=\"eyebrow\">opencall-bench <b>{}</b> <span>{}</span></p><h1>{}</h1>\
         <p class=\"description\">{}</p><p class=\"verdict {}\"><b>{}</b> {}</p>\
         {checks}{said}</header>",
        escape(&result.scenario),
        text::utc(result.started_unix_s),
        escape(&story::title(result)),
        escape(&text::keep_units(&story::description(result))),
        sign(grade).0,
        escape(&text::keep_units(&verdict)),
        escape(&text::keep_units(&more.join(" "))),
    )
}

/// What was looked at, as a list.
pub(super) fn checks(checks: &[Check]) -> String {
    let item = |check: &Check| {
        let (class, sign) = sign(check.grade);
        format!("<li class=\"{class}\"><i>{sign}</i> {}</li>", escape(&check.words))
    };
    format!("<ul class=\"checks\">{}</ul>", checks.iter().map(item).collect::<String>())
}

pub(super) fn sign(grade: Grade) -> (&'static str, &'static str) {
    match grade {
        Grade::Good => ("good", "✓"),
        Grade::Fair => ("fair", "!"),
        Grade::Bad => ("bad", "✗"),
    }
}

/// One large figure.
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) more: String,
}

fn tiles(result: &BenchResult) -> String {
    let known = |value: Option<f64>, text: fn(f64) -> String| value.map_or("–".to_owned(), text);
    let split = match (result.user_us_per_forwarded_packet, result.system_us_per_forwarded_packet) {
        (Some(user), Some(system)) => {
            format!("{} user + {} kernel", text::micros(user), text::micros(system))
        }
        _ => "no process was counted".to_owned(),
    };
    let latency = &result.latency_us;
    let megabits = result.forwarded_bytes as f64 * 8.0 / result.duration_s.max(0.001) / 1e6;
    let late = |us: f64| if result.forwarded_packets > 0 { text::micros(us) } else { "–".into() };
    let tiles = [
        Tile {
            name: "CPU per forwarded packet",
            value: known(result.cpu_us_per_forwarded_packet, text::micros),
            more: split,
        },
        Tile {
            name: "Latency, median",
            value: late(latency.p50),
            more: format!("p99 {} · p99.9 {}", late(latency.p99), late(latency.p999)),
        },
        Tile {
            name: "Packets lost",
            value: text::percent(result.loss_ratio),
            more: format!(
                "{} lost · {} sent again",
                text::grouped(result.lost as f64),
                text::grouped(result.retransmitted as f64)
            ),
        },
        Tile {
            name: "Packets per second",
            value: known(packets_per_s(result), text::short),
            more: format!("forwarded, {} Mbit/s", text::number(megabits)),
        },
        Tile {
            name: "CPU of the server",
            value: known(result.server_cpu, text::percent),
            more: match result.workers {
                Some(1) => "of one CPU, with 1 data core".to_owned(),
                Some(n) => format!("of one CPU, with {n} data cores"),
                None => "of one CPU".to_owned(),
            },
        },
        Tile {
            name: "Memory of the server",
            value: known(result.rss_bytes.map(|bytes| bytes as f64), text::bytes),
            more: "resident, at the end".to_owned(),
        },
    ];
    Tile::row(&tiles)
}

impl Tile {
    /// Tiles beside one another.
    pub(super) fn row(tiles: &[Tile]) -> String {
        let tiles: String = tiles.iter().map(Tile::html).collect();
        format!("<section class=\"tiles\">{tiles}</section>")
    }

    fn html(&self) -> String {
        format!(
            "<div class=\"tile\"><p class=\"name\">{}</p><p class=\"value\">{}</p>\
             <p class=\"more\">{}</p></div>",
            escape(self.name),
            escape(&text::keep_units(&self.value)),
            escape(&text::keep_units(&self.more))
        )
    }
}

fn details(result: &BenchResult) -> String {
    // What this run does not know is no line of its page.
    let mut figures = figures(result);
    figures.retain(|figure| figure.value.is_some());
    let groups: String = figures
        .chunk_by(|a, b| a.group == b.group)
        .map(|group| {
            let rows: String = group.iter().map(row).collect();
            let name = group.first().map_or("", |figure| figure.group.name());
            format!(
                "<table class=\"figures\"><caption>{name}</caption><tbody>{rows}</tbody></table>"
            )
        })
        .collect();
    format!(
        "<section class=\"card wide\"><h2>All figures</h2><div class=\"groups\">{groups}</div>\
         </section>{}",
        origin(result)
    )
}

fn row(figure: &Figure) -> String {
    let (class, name) = match figure.name.strip_prefix("  ") {
        Some(name) => (" class=\"part\"", name),
        None => ("", figure.name),
    };
    let shown = escape(&figure.shown());
    format!("<tr><th{class}>{}</th><td>{shown}</td></tr>", escape(name))
}

/// The command, the machine, and how the figures came about.
fn origin(result: &BenchResult) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let facts = [
        ("server", result.server.clone()),
        ("data cores", or_dash(result.workers.map(|n| n.to_string()))),
        ("I/O", or_dash(result.io.clone())),
        ("machine", compare::machine(result)),
        ("kernel", result.kernel.clone()),
        ("commit", result.commit.clone()),
        ("seed", result.seed.to_string()),
        ("begun", text::utc(result.started_unix_s)),
    ];
    let how = "Each participant is a real client with its own ICE, DTLS, SRTP and RTCP. Each packet \
               carries its sender, number and sending time under the encryption, so that every one \
               received is checked: authentic, complete, once, in order, how late. Latency is from \
               the sender's clock before sealing to the kernel's timestamp of the arrival, on one \
               clock: the server and two passages of the network stack. CPU is what the kernel counts \
               for the whole server process. Shaded time, while people join, counts for no total.";
    origin_card(&result.command_line, &facts, how)
}

/// The card that ends a page: the command, facts in a table, and how the figures came about.
pub(super) fn origin_card(command_line: &str, facts: &[(&str, String)], how: &str) -> String {
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>", escape(value)))
        .collect();
    format!(
        "<section class=\"card wide\"><h2>How it was measured</h2><p class=\"caption\">The command that \
         made this page:</p><pre>{}</pre><table class=\"figures\"><tbody>{facts}</tbody></table>\
         <p class=\"caption\">{how}</p></section>",
        escape(command_line)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{self, assert_well_formed};
    use crate::result::Bucket;

    #[test]
    fn a_page_is_well_formed_has_its_plots_and_fetches_nothing() {
        let page = html(&fixture::meeting());
        assert_well_formed(&page);
        let headings = [
            "Latency over time",
            "Packets per second",
            "Latency by percentile",
            "Latency distribution",
            "CPU by core and thread",
            "Loss over time",
            "Participants",
            "Memory of the server",
        ];
        for heading in headings {
            assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
        }
        assert_eq!(page.matches("<svg").count(), headings.len());
        for foreign in ["http://", "https://", "src=", "url(", "@import", "<script"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("<h1>100 people in 10 rooms of 10</h1>"));
        assert!(page.contains("opencall-bench run meeting --rooms 10"));
    }

    #[test]
    fn every_figure_is_on_the_page() {
        let result = fixture::meeting();
        let page = html(&result);
        for figure in figures(&result) {
            let is_there = page.contains(&row(&figure));
            assert_eq!(is_there, figure.value.is_some(), "{}", figure.name);
        }
    }

    #[test]
    fn what_a_file_says_stays_text() {
        let evil = "\"'><script>alert(1)</script>".to_owned();
        let mut found = fixture::meeting();
        found.scenario.clone_from(&evil);
        found.server.clone_from(&evil);
        found.command_line.clone_from(&evil);
        found.kernel.clone_from(&evil);
        found.commit.clone_from(&evil);
        found.machine.cpu_model.clone_from(&evil);
        found.io = Some(evil.clone());
        found.verdicts.push(evil.clone());
        for second in &mut found.seconds {
            for thread in &mut second.threads {
                thread.name.clone_from(&evil);
            }
        }
        let page = html(&found);
        assert!(!page.contains("<script") && !page.contains("\"'>"));
        assert_well_formed(&page);
    }

    #[test]
    fn an_empty_result_and_an_absurd_one_still_make_a_page() {
        assert_well_formed(&html(&BenchResult::default()));
        let mut absurd = fixture::meeting();
        absurd.duration_s = f64::INFINITY;
        absurd.latency_us.p99 = f64::NAN;
        for second in &mut absurd.seconds {
            second.packets_per_s = f64::NAN;
            second.latency_p99_us = f64::INFINITY;
        }
        absurd.latency_histogram.push(Bucket { up_to_us: f64::INFINITY, count: 1 });
        absurd.latency_histogram.push(Bucket { up_to_us: 0.0, count: u64::MAX });
        let page = html(&absurd);
        assert_well_formed(&page);
        assert!(!page.contains("NaN") && !page.contains("\"inf") && !page.contains(":inf"));
    }
}
