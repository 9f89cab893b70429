//! Our server against another one as a self-contained page: ratios, and both side by side.
#![forbid(unsafe_code)]

use super::axes::Axis;
use super::bars::{self, Row};
use super::page::{self, Tile};
use super::plot::Stroke;
use super::plots::{latency_by_percentile, line};
use super::story::{self, Check, Grade, check};
use super::text::{self, escape};
use crate::versus::{Comparison, Figures, OURS, SAME_LOAD, THEIRS};

/// Colours of the two, and their places in all lists.
const SIDES: [(&str, usize); 2] = [(OURS, 0), (THEIRS, 1)];

/// Of how many packets one is slower than a percentile says.
const RARITIES: [f64; 4] = [2.0, 10.0, 100.0, 1000.0];

/// The page of a comparison.
pub fn html(comparison: &Comparison) -> String {
    let body = format!(
        "{}{}<main>{}{}{}{}{}{}</main>",
        header(comparison),
        tiles(comparison),
        cost(comparison),
        latency(comparison),
        memory(comparison),
        load(comparison),
        turns(comparison),
        origin(comparison)
    );
    page::document(&format!("{OURS} against {THEIRS} · opencall-bench"), &body)
}

fn sides(comparison: &Comparison) -> [&Figures; 2] {
    [&comparison.ours, &comparison.theirs]
}

fn header(comparison: &Comparison) -> String {
    let cost = |figures: &Figures| text::micros(figures.cpu_us_per_forwarded_packet);
    let rooms = match comparison.rooms {
        0 | 1 => "in one room".to_owned(),
        n => format!("in {n} rooms"),
    };
    let checks = checks(comparison);
    let grade = checks.iter().map(|check| check.grade).max().unwrap_or(Grade::Good);
    let verdict = format!(
        "Forwarding a packet takes {OURS} {} of CPU and {THEIRS} {}.",
        cost(&comparison.ours),
        cost(&comparison.theirs)
    );
    format!(
        "<header><p class=\"eyebrow\">opencall-bench <b>versus {THEIRS}</b> <span>{}</span></p>\
         <h1>{OURS} <span>against</span> {THEIRS}: {} times the CPU for a packet</h1>\
         <p class=\"description\">{}, {} {rooms}, cameras of {} kbit/s. Medians of {} turns each; \
         ratios are {OURS} over {THEIRS}, below 1 is good for {OURS}.</p>\
         <p class=\"verdict {}\"><b>{}</b></p>{}</header>",
        text::utc(comparison.ended_unix_s),
        text::number(comparison.ratio.cpu),
        escape(&comparison.scenario),
        story::people(comparison.participants),
        text::grouped(comparison.video_bits_per_second as f64 / 1e3),
        of(comparison, OURS).count(),
        page::sign(grade).0,
        escape(&text::keep_units(&verdict)),
        page::checks(&checks)
    )
}

/// The turns of one server.
fn of<'a>(comparison: &'a Comparison, server: &'a str) -> impl Iterator<Item = &'a Figures> {
    let turns = comparison.turns.iter().filter(move |turn| turn.server == server);
    turns.map(|turn| &turn.figures)
}

/// Whether it was a fair comparison, and a clean one.
fn checks(comparison: &Comparison) -> Vec<Check> {
    let all = || comparison.turns.iter().map(|turn| &turn.figures);
    let packets = || all().map(Figures::packets_on_their_way);
    let (least, most) = (packets().fold(f64::INFINITY, f64::min), packets().fold(0.0, f64::max));
    let load = if most > least * (1.0 + SAME_LOAD) {
        let (least, most) = (text::grouped(least), text::grouped(most));
        check(Grade::Bad, format!("not the same load: {least} to {most} packets in a turn"))
    } else {
        check(Grade::Good, "the same load in every turn")
    };
    let lost = all().map(|figures| figures.loss_ratio).fold(0.0, f64::max);
    let loss = match lost {
        0.0 => check(Grade::Good, "no loss"),
        share if share < story::LOSS_BAR => {
            check(Grade::Fair, format!("up to {} lost", text::percent(share)))
        }
        share => check(Grade::Bad, format!("up to {} lost", text::percent(share))),
    };
    let mut checks = vec![load, loss];
    if all().any(|figures| figures.faults > 0.0) {
        checks.push(check(Grade::Bad, "packets came twice, or not as they were sent"));
    }
    if all().any(|figures| figures.silent_streams > 0.0) {
        checks.push(check(Grade::Bad, "streams stayed silent"));
    }
    let busiest = all().map(|figures| figures.generator_cpu).fold(0.0, f64::max);
    if busiest >= story::GENERATOR_BUSY {
        let busiest = text::percent(busiest);
        checks.push(check(Grade::Fair, format!("load generator at {busiest} of a CPU")));
    }
    let profile = format!("both encrypt with {}", comparison.srtp_profile);
    checks.push(check(Grade::Good, profile));
    checks
}

fn tiles(comparison: &Comparison) -> String {
    let ratio = &comparison.ratio;
    let tile = |name, ratio: f64, value: fn(&Figures) -> f64, text: fn(f64) -> String| {
        let [ours, theirs] = sides(comparison).map(|figures| text(value(figures)));
        Tile {
            name,
            value: format!("{} ×", text::number(ratio)),
            more: format!("{ours} against {theirs}"),
        }
    };
    let plain = |name, value: fn(&Figures) -> f64| {
        let [ours, theirs] = sides(comparison).map(|figures| text::percent(value(figures)));
        Tile { name, value: ours, more: format!("against {theirs}") }
    };
    let p50 = |f: &Figures| f.latency_us.p50;
    let p99 = |f: &Figures| f.latency_us.p99;
    Tile::row(&[
        tile("CPU per packet", ratio.cpu, |f| f.cpu_us_per_forwarded_packet, text::micros),
        tile("Latency, median", ratio.latency_p50, p50, text::micros),
        tile("Latency, p99", ratio.latency_p99, p99, text::micros),
        tile("Memory", ratio.rss, |f| f.rss_bytes, text::bytes),
        plain("Packets lost", |f| f.loss_ratio),
        plain("CPU of the server, of one", |f| f.server_cpu),
    ])
}

/// A bar for the median of each server, and thin ones for its turns.
fn rows(
    comparison: &Comparison,
    parts: fn(&Figures) -> [f64; 2],
    told: fn(&Figures) -> String,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for ((server, colour), median) in SIDES.into_iter().zip(sides(comparison)) {
        let row = |name: String, figures: &Figures, is_minor| Row {
            name,
            parts: parts(figures),
            told: told(figures),
            colour,
            is_minor,
        };
        rows.push(row(server.to_owned(), median, false));
        let turns = of(comparison, server).enumerate();
        rows.extend(turns.map(|(n, figures)| row(format!("turn {}", n + 1), figures, true)));
    }
    rows
}

fn cost(comparison: &Comparison) -> String {
    let rows = rows(
        comparison,
        |f| [f.user_us_per_forwarded_packet, f.system_us_per_forwarded_packet],
        |f| text::micros(f.cpu_us_per_forwarded_packet),
    );
    let caption = "User and system time of the whole server per packet that participants received. \
                   The lighter part is spent in the kernel.";
    bars::card("CPU per forwarded packet", caption, &rows)
}

fn memory(comparison: &Comparison) -> String {
    let rows = rows(comparison, |f| [f.rss_bytes, 0.0], |f| text::bytes(f.rss_bytes));
    bars::card("Memory", "Resident at the end of a turn.", &rows)
}

fn load(comparison: &Comparison) -> String {
    let rows = rows(
        comparison,
        |f| [f.packets_on_their_way(), 0.0],
        |f| text::grouped(f.packets_on_their_way()),
    );
    let caption = "Packets on their way to participants. Bars of different lengths are different \
                   loads: the ratios are then not worth much.";
    bars::card("Load", caption, &rows)
}

fn latency(comparison: &Comparison) -> String {
    let lines = SIDES.map(|(server, colour)| {
        let figures = if server == OURS { &comparison.ours } else { &comparison.theirs };
        let us = &figures.latency_us;
        let told = format!("max {}", text::micros(us.max));
        line(server, told, vec![us.p50, us.p90, us.p99, us.p999], colour, Stroke::Solid)
    });
    let last = RARITIES[RARITIES.len() - 1];
    latency_by_percentile(&RARITIES, Axis::log(RARITIES[0], last), &lines)
}

/// Every turn of ours beside the one of the other server that followed.
fn turns(comparison: &Comparison) -> String {
    let row = |name: &str, [ours, theirs]: [&Figures; 2]| {
        let cell = |value: fn(&Figures) -> f64, text: fn(f64) -> String| {
            let ratio = value(ours) / value(theirs);
            let class = if ratio < 1.0 { "won" } else { "same" };
            let (ours, theirs) = (text(value(ours)), text(value(theirs)));
            let ratio = text::number(ratio);
            format!("<td>{ours}</td><td>{theirs}</td><td class=\"{class}\">{ratio}</td>")
        };
        format!(
            "<tr><th>{name}</th>{}{}{}{}</tr>",
            cell(|f| f.cpu_us_per_forwarded_packet, text::micros),
            cell(|f| f.latency_us.p50, text::micros),
            cell(|f| f.latency_us.p99, text::micros),
            cell(|f| f.rss_bytes, text::bytes)
        )
    };
    let pairs = of(comparison, OURS).zip(of(comparison, THEIRS)).enumerate();
    let turns: String =
        pairs.map(|(n, (ours, theirs))| row(&format!("turn {}", n + 1), [ours, theirs])).collect();
    let names = ["CPU per packet", "latency p50", "latency p99", "memory"];
    let above: String = names.map(|name| format!("<td colspan=\"3\">{name}</td>")).concat();
    let below = format!("<td>{OURS}</td><td>{THEIRS}</td><td>ratio</td>").repeat(names.len());
    format!(
        "<section class=\"card wide scroll\"><h2>Turn by turn</h2><table class=\"figures sides\">\
         <thead><tr><th></th>{above}</tr><tr><th></th>{below}</tr></thead><tbody>{turns}{}</tbody>\
         </table></section>",
        row("median", sides(comparison))
    )
}

fn origin(comparison: &Comparison) -> String {
    let machine = &comparison.machine;
    let segments = comparison.our_mean_segments.map_or("–".to_owned(), text::number);
    let facts = [
        ("machine", format!("{}, {} CPUs", machine.cpu_model, machine.cpus)),
        ("kernel", comparison.kernel.clone()),
        ("commit", comparison.commit.clone()),
        ("segments of a train of ours", segments),
    ];
    let how = "Both servers live through the whole comparison on the same CPU, and one idles while \
               the other is measured. The same participants with the same seed meet in either, over \
               one wire, and check every packet they receive.";
    page::origin_card(&comparison.command_line, &facts, how)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_well_formed;
    use super::*;
    use crate::versus::Turn;

    fn comparison(theirs_packets: f64) -> Comparison {
        let figures = |cpu: f64, forwarded_packets| Figures {
            cpu_us_per_forwarded_packet: cpu,
            user_us_per_forwarded_packet: cpu / 4.0,
            system_us_per_forwarded_packet: cpu * 0.75,
            forwarded_packets,
            rss_bytes: 30e6,
            ..Figures::default()
        };
        let turn = |server: &str, figures| Turn { server: server.to_owned(), figures };
        let (ours, theirs) = (figures(4.0, 1000.0), figures(16.0, theirs_packets));
        Comparison {
            turns: [OURS, THEIRS, OURS, THEIRS]
                .map(|server| turn(server, if server == OURS { ours } else { theirs }))
                .to_vec(),
            ours,
            theirs,
            ratio: crate::versus::Ratio { cpu: 0.25, ..Default::default() },
            participants: 5,
            rooms: 1,
            scenario: "meeting".to_owned(),
            ..Comparison::default()
        }
    }

    #[test]
    fn a_page_is_well_formed_and_tells_each_turn_and_the_ratio() {
        let page = html(&comparison(1010.0));
        assert_well_formed(&page);
        assert!(page.contains("0.250 times the CPU for a packet"), "{page}");
        assert!(page.contains("takes opencall 4\u{a0}µs of CPU and janus 16\u{a0}µs."), "{page}");
        assert_eq!(page.matches("<th>turn ").count(), 2);
        assert!(page.contains("the same load in every turn"));
        for foreign in ["http://", "https://", "src=", "url(", "@import", "<script"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn loads_that_differ_are_told_before_any_ratio_is_believed() {
        let page = html(&comparison(700.0));
        assert!(
            page.contains("not the same load: 700 to 1\u{202f}000 packets in a turn"),
            "{page}"
        );
    }

    #[test]
    fn what_a_file_says_stays_text_and_an_empty_one_makes_a_page() {
        assert_well_formed(&html(&Comparison::default()));
        let evil = "\"'><script>alert(1)</script>".to_owned();
        let mut found = comparison(1000.0);
        found.scenario.clone_from(&evil);
        found.command_line.clone_from(&evil);
        found.srtp_profile.clone_from(&evil);
        found.machine.cpu_model.clone_from(&evil);
        (found.kernel, found.commit) = (evil.clone(), evil);
        found.turns[0].figures.latency_us.p50 = f64::NAN;
        let page = html(&found);
        assert!(!page.contains("<script") && !page.contains("\"'>"));
        assert_well_formed(&page);
    }
}
