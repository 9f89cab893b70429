//! A result in sentences: who met whom, was it clean, what did a packet cost, how late was it.
#![forbid(unsafe_code)]

use super::text;
use crate::result::{BenchResult, MessageFigures, Second};

/// Loss above this share is a fault: what the server is to keep in a full meeting.
pub const LOSS_BAR: f64 = 0.001;

/// A generator that takes more than this of a CPU may itself be what makes packets late.
pub(super) const GENERATOR_BUSY: f64 = 0.85;

/// Timers later than this, milliseconds, make the load another than was asked for: it is the time
/// between two packets of a voice.
const GENERATOR_LATE_MS: f64 = 20.0;

/// Other programs that take more than this of a CPU make figures worse than the server is;
/// interrupts on nobody's account are a few percent.
const OTHERS_BUSY: f64 = 0.15;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// To be known when the figures are read.
    Fair,
    /// A fault.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How it came out.
    pub grade: Grade,
    /// In a few words.
    pub words: String,
}

/// Who met, in a few words: `24 people in 4 rooms`.
pub fn title(result: &BenchResult) -> String {
    let (all, rooms) = (result.participants, result.rooms.max(1));
    let each = if all.is_multiple_of(rooms) {
        format!(" of {}", text::grouped((all / rooms) as f64))
    } else {
        String::new()
    };
    let people = people(all);
    match result.scenario.as_str() {
        "pair" if rooms == 1 => format!("A call of {people}"),
        "pair" => format!("{people} in {rooms} calls"),
        "webinar" if rooms == 1 => format!("A webinar for {}", viewers(all.saturating_sub(1))),
        "webinar" => format!("{rooms} webinars for {}", viewers(all.saturating_sub(rooms))),
        // Its rooms are what it might have had.
        "ramp" => match &result.knee {
            Some(knee) => format!("{} at the knee", self::people(knee.participants)),
            None => format!("A ramp that ended with {people}"),
        },
        _ if rooms == 1 => format!("{people} in a room"),
        _ => format!("{people} in {rooms} rooms{each}"),
    }
}

pub(super) fn people(count: u64) -> String {
    match count {
        1 => "1 person".to_owned(),
        n => format!("{} people", text::grouped(n as f64)),
    }
}

fn viewers(count: u64) -> String {
    match count {
        1 => "1 viewer".to_owned(),
        n => format!("{} viewers", text::grouped(n as f64)),
    }
}

/// What they did, in a sentence.
pub fn description(result: &BenchResult) -> String {
    let what = match result.scenario.as_str() {
        "pair" => "Both have voice and camera on",
        "meeting" => "Everyone has voice and camera on and receives everyone else in the room",
        "webinar" => "One speaks with voice and camera, the others watch",
        "audio" => {
            "Everyone has the voice on, nobody a camera, and hears everyone else in the room"
        }
        "join-storm" => {
            "Meetings go on, and in the second half others enter and leave rooms at a high rate"
        }
        "flood" => {
            "Meetings go on, and in the second half strangers send to the server's media ports"
        }
        "churn" => "A meeting that people leave and others enter all the time",
        "soak" => "Meetings that go on and on: does memory or latency grow",
        "ramp" => "More and more meetings until latency or loss break, then a part of that load",
        "idle" => "Everyone is connected, nobody sends or receives",
        _ => "Participants send to one another",
    };
    format!("{what}; measured for {}.", text::seconds(result.duration_s))
}

/// Whether it was clean, in a sentence that ends with what was wrong.
pub fn verdict(result: &BenchResult) -> (Grade, String) {
    let all = text::grouped(result.forwarded_packets as f64);
    if result.sent_packets + result.forwarded_packets == 0 {
        return (Grade::Good, "Nobody sent anything.".to_owned());
    }
    if result.forwarded_packets == 0 {
        return (Grade::Bad, "Not one packet was forwarded.".to_owned());
    }
    let mut wrong = Vec::new();
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            wrong.push(format!("{} {what}", text::grouped(count as f64)));
        }
    };
    add(result.corrupted, "came corrupted");
    add(result.duplicated, "came twice");
    if result.lost > 0 {
        let (lost, share) = (text::grouped(result.lost as f64), text::percent(result.loss_ratio));
        wrong.push(format!("{lost} ({share}) never came"));
    }
    let grade = match result.corrupted + result.duplicated {
        0 if result.lost == 0 => Grade::Good,
        0 if result.loss_ratio < LOSS_BAR => Grade::Fair,
        _ => Grade::Bad,
    };
    let sentence = match wrong.as_slice() {
        [] => format!("Clean: all {all} packets came exactly once, each as it was sent."),
        [only] => format!("Of the packets of this run {only}; {all} were received."),
        [first @ .., last] => {
            format!(
                "Of the packets of this run {} and {last}; {all} were received.",
                first.join(", ")
            )
        }
    };
    (grade, sentence)
}

/// What a packet cost, if the server's processes were watched.
pub fn cost(result: &BenchResult) -> Option<String> {
    let cost = text::micros(result.cpu_us_per_forwarded_packet?);
    let floor = result.floor_ratio.map_or(String::new(), |ratio| {
        format!(", {} times what sealing and sending alone takes", text::number(ratio))
    });
    let paced = result.paced_floor_ratio.map_or(String::new(), |ratio| {
        format!(", {} times where that sleeps as often", text::number(ratio))
    });
    Some(format!("Forwarding a packet took {cost} of the server's CPU{floor}{paced}."))
}

/// How late packets were.
pub fn lateness(result: &BenchResult) -> Option<String> {
    let latency = &result.latency_us;
    (result.forwarded_packets > 0).then(|| {
        format!(
            "Half of them arrived within {}, 99 of 100 within {}.",
            text::micros(latency.p50),
            text::micros(latency.p99)
        )
    })
}

/// What was looked at, one after the other.
pub fn checks(result: &BenchResult) -> Vec<Check> {
    let mut checks = vec![packets(result), loss(result), joins(result), generator(result)];
    checks.extend(standstill(result));
    checks.extend(neighbours(result));
    checks.extend(messages(result));
    checks
}

/// A check.
pub(super) fn check(grade: Grade, words: impl Into<String>) -> Check {
    Check { grade, words: words.into() }
}

fn packets(result: &BenchResult) -> Check {
    match (result.corrupted, result.duplicated) {
        (0, 0) => check(Grade::Good, "every packet as it was sent"),
        (0, twice) => check(Grade::Bad, format!("{} came twice", text::grouped(twice as f64))),
        (bad, _) => check(Grade::Bad, format!("{} corrupted", text::grouped(bad as f64))),
    }
}

fn loss(result: &BenchResult) -> Check {
    match result.loss_ratio {
        _ if result.lost == 0 => check(Grade::Good, "no loss"),
        share if share < LOSS_BAR => check(Grade::Fair, format!("{} lost", text::percent(share))),
        share => check(Grade::Bad, format!("{} lost", text::percent(share))),
    }
}

fn joins(result: &BenchResult) -> Check {
    match (result.failed_joins, result.silent_streams) {
        (0, 0) => check(Grade::Good, "all joined, all heard"),
        (0, silent) => {
            check(Grade::Bad, format!("{} streams stayed silent", text::grouped(silent as f64)))
        }
        (failed, _) => {
            check(Grade::Bad, format!("{} could not join or stay", text::grouped(failed as f64)))
        }
    }
}

/// A server that hangs loses nothing that anybody could tell: the next packet never comes.
fn standstill(result: &BenchResult) -> Option<Check> {
    let is_still = |second: &&Second| {
        second.measured && second.sent_packets_per_s > 0.0 && second.packets_per_s == 0.0
    };
    let seconds = result.seconds.iter().filter(is_still).count();
    let words = format!("nothing came for {seconds} s although something was sent");
    (seconds > 0 && result.forwarded_packets > 0).then(|| check(Grade::Bad, words))
}

/// Messages are reliable and in order.
fn messages(result: &BenchResult) -> Option<Check> {
    let messages = result.messages.as_ref()?;
    let count = |count: u64, what: &str| {
        check(Grade::Bad, format!("{} {what}", text::grouped(count as f64)))
    };
    Some(match *messages {
        MessageFigures { received: 0, .. } => check(Grade::Bad, "no message came"),
        MessageFigures { corrupted: 1.., .. } => count(messages.corrupted, "messages corrupted"),
        MessageFigures { lost: 1.., .. } => count(messages.lost, "messages lost"),
        _ => check(Grade::Good, "every message as it was sent"),
    })
}

/// Not a fault of the server, but its latencies are then not its own.
fn generator(result: &BenchResult) -> Check {
    if result.generator_cpu >= GENERATOR_BUSY {
        let words = format!("load generator at {} of a CPU", text::percent(result.generator_cpu));
        return check(Grade::Fair, words);
    }
    if result.generator_lag_ms >= GENERATOR_LATE_MS {
        let late = text::micros(result.generator_lag_ms * 1e3);
        return check(Grade::Fair, format!("load generator late by up to {late}"));
    }
    if result.skipped > 0 {
        let skipped = text::grouped(result.skipped as f64);
        return check(Grade::Fair, format!("load generator left out {skipped} packets and frames"));
    }
    check(Grade::Good, "load generator kept up")
}

/// Told only where there were any.
fn neighbours(result: &BenchResult) -> Option<Check> {
    let share = result.other_cpu.filter(|share| *share >= OTHERS_BUSY)?;
    let words = format!(
        "other programs took {} of a CPU: measure again on a quiet machine",
        text::percent(share)
    );
    Some(check(Grade::Fair, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Knee, Latency};

    fn result(scenario: &str, participants: u64, rooms: u64) -> BenchResult {
        BenchResult {
            scenario: scenario.to_owned(),
            participants,
            rooms,
            duration_s: 20.0,
            forwarded_packets: 3000,
            latency_us: Latency { p50: 50.0, p99: 1_250.0, ..Latency::default() },
            ..BenchResult::default()
        }
    }

    #[test]
    fn who_met_whom_reads_well() {
        for (scenario, participants, rooms, expected) in [
            ("pair", 2, 1, "A call of 2 people"),
            ("pair", 40, 20, "40 people in 20 calls"),
            ("meeting", 10, 1, "10 people in a room"),
            ("meeting", 24, 4, "24 people in 4 rooms of 6"),
            ("churn", 23, 4, "23 people in 4 rooms"),
            ("webinar", 201, 1, "A webinar for 200 viewers"),
            ("webinar", 4, 2, "2 webinars for 2 viewers"),
            ("ramp", 160, 1000, "A ramp that ended with 160 people"),
            ("", 0, 0, "0 people in a room"),
        ] {
            assert_eq!(title(&result(scenario, participants, rooms)), expected);
        }
    }

    #[test]
    fn a_ramp_is_told_by_its_knee() {
        let knee = Some(Knee { participants: 240, ..Knee::default() });
        let ramp = BenchResult { knee, ..result("ramp", 160, 1000) };
        assert_eq!(title(&ramp), "240 people at the knee");
    }

    #[test]
    fn a_verdict_says_all_that_was_wrong() {
        let clean = result("meeting", 10, 1);
        let (grade, sentence) = verdict(&clean);
        assert_eq!(grade, Grade::Good);
        assert_eq!(
            sentence,
            "Clean: all 3\u{202f}000 packets came exactly once, each as it was sent."
        );
        let lossy = BenchResult { lost: 1, loss_ratio: 0.0003, ..clean.clone() };
        assert_eq!(verdict(&lossy).0, Grade::Fair);
        let broken = BenchResult { lost: 300, loss_ratio: 0.1, corrupted: 7, ..clean.clone() };
        let (grade, sentence) = verdict(&broken);
        assert_eq!(grade, Grade::Bad);
        assert!(sentence.contains("7 came corrupted and 300 (10 %) never came"), "{sentence}");
        let idle = BenchResult { forwarded_packets: 0, ..clean.clone() };
        assert_eq!(verdict(&idle), (Grade::Good, "Nobody sent anything.".to_owned()));
        let nothing = BenchResult { forwarded_packets: 0, sent_packets: 9, ..clean };
        assert_eq!(verdict(&nothing).0, Grade::Bad);
        assert_eq!(lateness(&nothing), None);
    }

    #[test]
    fn a_generator_that_was_the_limit_is_told() {
        let fine = result("meeting", 10, 1);
        assert!(checks(&fine).iter().all(|check| check.grade == Grade::Good));
        let busy = BenchResult { generator_cpu: 0.97, ..fine.clone() };
        let late = BenchResult { generator_lag_ms: 361.5, ..fine.clone() };
        let lazy = BenchResult { skipped: 7, ..fine.clone() };
        let beside = BenchResult { other_cpu: Some(0.4), ..fine };
        for (result, words) in [
            (busy, "load generator at 97 % of a CPU"),
            (late, "load generator late by up to 362 ms"),
            (beside, "other programs took 40 % of a CPU: measure again on a quiet machine"),
            (lazy, "load generator left out 7 packets and frames"),
        ] {
            let checks = checks(&result);
            let told = checks.iter().find(|check| check.grade == Grade::Fair).unwrap();
            assert_eq!(told.words, words);
        }
    }

    #[test]
    fn a_server_that_hangs_is_told_of() {
        let second = |measured, packets_per_s| Second {
            measured,
            packets_per_s,
            sent_packets_per_s: 9.0,
            ..Second::default()
        };
        let mut result = result("meeting", 10, 1);
        result.seconds = vec![second(false, 0.0), second(true, 9.0)];
        assert_eq!(standstill(&result), None);
        result.seconds.push(second(true, 0.0));
        let words = "nothing came for 1 s although something was sent";
        assert!(checks(&result).contains(&check(Grade::Bad, words)));
    }

    #[test]
    fn costs_are_told_where_they_are_known() {
        let mut result = result("meeting", 10, 1);
        assert_eq!(cost(&result), None);
        result.cpu_us_per_forwarded_packet = Some(2.5);
        result.floor_ratio = Some(1.4);
        let told = cost(&result).unwrap();
        assert!(told.starts_with("Forwarding a packet took 2.5 µs"), "{told}");
        assert!(told.contains("1.40 times"), "{told}");
        assert!(!told.contains("sleeps"), "{told}");
        result.paced_floor_ratio = Some(1.1);
        let told = cost(&result).unwrap();
        assert!(told.ends_with(", 1.10 times where that sleeps as often."), "{told}");
    }
}
