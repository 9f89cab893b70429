//! A labelled recording, of levels instead of sounds: how long speakers take to come first, and
//! whom noises bring there.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const SCENARIO: &str = include_str!("scenario.txt");

/// Milliseconds of a level.
const PIECE_MS: u64 = 20;

/// The slowest that a speaker may come first, ms.
const DELAY_MAX_MS: u64 = 500;

/// Who had the floor is no wrong answer for so long after: nobody else has spoken yet.
const AFTER_MS: u64 = 2_000;

#[derive(Debug, Clone, Copy)]
enum Sound {
    Speech { sends_pauses: bool },
    Cough,
    Keys,
    Music,
    Hum,
}

struct Line {
    who: ProducerId,
    from_ms: u64,
    to_ms: u64,
    what: What,
}

enum What {
    Sound(Sound, f64),
    /// Is expected to have the floor.
    Floor,
    /// May have it, too.
    Also,
}

fn who(name: &str) -> ProducerId {
    ProducerId(name.bytes().fold(0, |id, byte| id << 8 | u64::from(byte)))
}

fn lines() -> Vec<Line> {
    let wanted = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let number = |text: &str| text.parse().unwrap();
    let line = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["floor", name, from, to] => {
            Line { who: who(name), from_ms: number(from), to_ms: number(to), what: What::Floor }
        }
        ["also", name, from, to] => {
            Line { who: who(name), from_ms: number(from), to_ms: number(to), what: What::Also }
        }
        ["sound", name, sound, from, to, level] => {
            let sound = match sound {
                "speech" => Sound::Speech { sends_pauses: true },
                "dtx" => Sound::Speech { sends_pauses: false },
                "cough" => Sound::Cough,
                "keys" => Sound::Keys,
                "music" => Sound::Music,
                "hum" => Sound::Hum,
                _ => panic!("{sound}"),
            };
            let what = What::Sound(sound, level.parse().unwrap());
            Line { who: who(name), from_ms: number(from), to_ms: number(to), what }
        }
        _ => panic!("{line}"),
    };
    SCENARIO.lines().filter(wanted).map(line).collect()
}

/// A level for each piece of a sound; `None`: nothing is sent.
fn sounded(rng: &mut StdRng, sound: Sound, level: f64, pieces: usize) -> Vec<Option<f64>> {
    let mut levels = Vec::new();
    let noise = |rng: &mut StdRng| -72.0 + rng.random_range(-3.0..3.0);
    let mut phrase = 0;
    while levels.len() < pieces {
        match sound {
            Sound::Speech { sends_pauses } => {
                let syllable = rng.random_range(5..13);
                let loud = level + rng.random_range(-6.0..4.0);
                let bent = |piece: usize| if piece % syllable < 2 { 5.0 } else { 0.0 };
                levels.extend((0..syllable).map(|piece| Some(loud - bent(piece))));
                let dip = rng.random_range(1..4);
                levels.extend((0..dip).map(|_| Some(loud - rng.random_range(18.0..30.0))));
                phrase += syllable + dip;
                if phrase > rng.random_range(70..160) {
                    phrase = 0;
                    let pause = rng.random_range(10..26);
                    levels.extend((0..pause).map(|_| sends_pauses.then(|| noise(rng))));
                }
            }
            Sound::Cough => {
                levels.extend((0..16).map(|piece| Some(level - 2.5 * f64::from(piece))));
                levels.extend((0..6).map(|_| Some(noise(rng))));
            }
            Sound::Keys => {
                levels.extend((0..rng.random_range(1..3)).map(|_| Some(level)));
                levels.extend((0..rng.random_range(4..14)).map(|_| Some(noise(rng))));
            }
            Sound::Music => {
                let beat = |piece: u32| Some(level - 0.4 * f64::from(piece));
                levels.extend((0..24).map(beat));
            }
            Sound::Hum => levels.push(Some(level + rng.random_range(-1.5..1.5))),
        }
    }
    levels.truncate(pieces);
    levels
}

/// What is sent of each in each piece.
fn sent(seed: u64, lines: &[Line]) -> BTreeMap<ProducerId, Vec<Option<f64>>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end_ms = lines.iter().map(|line| line.to_ms).max().unwrap() + 3_000;
    let pieces = |ms: u64| (ms / PIECE_MS) as usize;
    let mut sent = BTreeMap::new();
    for line in lines {
        let What::Sound(sound, level) = line.what else { continue };
        let of_one = sent.entry(line.who).or_insert_with(|| vec![Some(-72.0); pieces(end_ms)]);
        let range = pieces(line.from_ms)..pieces(line.to_ms);
        let levels = sounded(&mut rng, sound, level, range.len());
        of_one[range].copy_from_slice(&levels);
    }
    sent
}

/// Who came first, from when on.
fn played(seed: u64, lines: &[Line]) -> Vec<(u64, Option<ProducerId>)> {
    let sent = sent(seed, lines);
    let pieces = sent.values().map(Vec::len).max().unwrap();
    let (mut speakers, mut told) = (Speakers::default(), vec![(0, None)]);
    for block in 1..pieces / 5 {
        let now_ms = block as u64 * 100;
        let now = Time::from_millis(now_ms);
        for (&producer, levels) in &sent {
            let heard = &levels[(block - 1) * 5..block * 5];
            if heard.iter().any(Option::is_some) {
                let dbov = |piece: usize| heard[piece].map_or(-127, |dbov| dbov as i8);
                speakers.heard(now, producer, std::array::from_fn(dbov));
            }
        }
        if let Some(list) = speakers.poll(now) {
            let first = list.first().map(|(producer, _)| *producer);
            if told.last().is_none_or(|(_, last)| *last != first) {
                told.push((now_ms, first));
            }
        }
    }
    told
}

fn name(id: Option<ProducerId>) -> String {
    id.map_or("nobody".to_owned(), |id| {
        String::from_utf8_lossy(&id.0.to_be_bytes()).trim_matches('\0').to_owned()
    })
}

/// The delays of all turns, and the errors.
fn judged(seed: u64) -> (Vec<u64>, Vec<String>) {
    let lines = lines();
    let told = played(seed, &lines);
    let turns = || lines.iter().filter(|line| !matches!(line.what, What::Sound(..)));
    let first_at = |ms: u64| told.iter().rev().find(|(at, _)| *at <= ms).unwrap().1;
    let (mut delays, mut errors) = (Vec::new(), Vec::new());
    for turn in turns().filter(|turn| matches!(turn.what, What::Floor)) {
        let is_first = |ms: &u64| first_at(*ms) == Some(turn.who);
        match (turn.from_ms..turn.to_ms).step_by(PIECE_MS as usize).find(is_first) {
            Some(ms) => delays.push(ms - turn.from_ms),
            None => errors.push(format!("{} missed at {}", name(Some(turn.who)), turn.from_ms)),
        }
    }
    for (at, first) in told {
        let speaks = |turn: &&Line| (turn.from_ms..turn.to_ms + AFTER_MS).contains(&at);
        let mut right = turns().filter(speaks).map(|turn| turn.who).peekable();
        if let Some(first) = first
            && right.peek().is_some()
            && !right.any(|who| who == first)
        {
            errors.push(format!("{} first at {at}", name(Some(first))));
        }
    }
    (delays, errors)
}

#[test]
fn speakers_come_first_within_half_a_second_and_noises_do_not() {
    let minutes = 1.5;
    let (mut slow, mut wrong, mut all) = (0, 0, Vec::new());
    const SEEDS: u64 = 20;
    for seed in 0..SEEDS {
        let (delays, errors) = judged(seed);
        println!("{seed}: {delays:?} {errors:?}");
        slow += delays.iter().filter(|&&delay| delay >= DELAY_MAX_MS).count();
        wrong += errors.len();
        all.extend(delays);
    }
    all.sort_unstable();
    let median = all[all.len() / 2];
    println!("median {median} ms, {slow} of {} slow, {wrong} wrong", all.len());
    assert!(median < DELAY_MAX_MS && slow * 10 <= all.len(), "{slow} of {} slow", all.len());
    assert!((wrong as f64) < SEEDS as f64 * minutes, "{wrong} wrong");
}
