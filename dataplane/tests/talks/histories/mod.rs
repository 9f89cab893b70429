//! Random histories of a call, each told by a seed: a sender with voice, a simulcast camera and a
//! screen to whom everything happens that sources do (other SSRCs, jumps of numbers and clocks,
//! encodings that pause, losses, reports that come late), and hearers on two cores that join, pause
//! and change layers.

pub mod encoded;
pub mod film;
pub mod hearer;
pub mod packets;
pub mod random;
pub mod received;
pub mod receiver;
pub mod sender;
pub mod track;

use std::ops::Range;
use std::time::Duration;

use film::Film;
use hearer::Hearer;
use opencall_dataplane::message::*;
use opencall_wire::codec::Codec;
use random::Random;
use sender::{CALM, JITTER_MS_MOST, Sender, Weather};
use track::{LAYERS, SCREEN, VOICE};

use crate::world::*;

/// How long it is eventful, and then calm.
const EVENTFUL: Duration = Duration::from_millis(5_000);
const CALM_AFTER: Duration = Duration::from_millis(3_500);

/// In the last part of the calm, everything must have come back.
const SETTLED: Duration = Duration::from_millis(2_000);

/// What came of a history.
pub struct Outcome {
    pub faults: Vec<String>,
    pub hearers: Vec<Hearer>,
    /// Report blocks to the sender that were judged.
    pub blocks: usize,
}

/// The seeds to try: a few, or what `OPENCALL_HISTORIES` says, as `200` or `37..38`.
pub fn seeds(few: u64) -> Range<u64> {
    let Ok(told) = std::env::var("OPENCALL_HISTORIES") else { return 0..few };
    let (first, end) = told.split_once("..").unwrap_or(("0", &told));
    let number =
        |text: &str| text.parse().expect("OPENCALL_HISTORIES: a number, or two and .. between");
    number(first)..number(end)
}

/// Plays the history of a seed. `skew` is a lie of the sender about its voice.
pub fn play(seed: u64, film: Box<dyn Film>, skew: Duration) -> Outcome {
    let mut random = Random::new(seed);
    let mut world = World::new(2);
    let codec = film.codec();
    let mut sender = Sender::new(&mut world, film, seed);
    sender.skew = skew;
    sender.weather = Weather {
        loss_percent: random.within(0..6),
        jitter_ms: random.within(1..JITTER_MS_MOST),
        repairs: random.percent(50),
        late_reports_percent: random.within(0..40),
        lost_reports_percent: random.within(0..40),
    };
    let mut hearers = Vec::new();
    let mut faults = Vec::new();
    let begun = world.now;
    let (mut next_event, mut is_settled) = (begun, false);
    let end = begun + EVENTFUL + CALM_AFTER;
    while world.now < end {
        let is_calm = world.now.since(begun) >= EVENTFUL;
        if is_calm && !is_settled {
            is_settled = true;
            sender.weather = CALM;
            settle(&mut world, &mut hearers, &sender, codec);
        } else if !is_calm && world.now >= next_event {
            next_event = world.now + random.millis(50..500);
            happen(&mut world, &mut sender, &mut hearers, &mut random, codec);
        }
        // Who joins lets time go by: what the server said then is of then.
        faults.extend(sender.listen(&mut world));
        sender.turn(&mut world);
        world.turn();
        faults.extend(sender.listen(&mut world));
        for hearer in &mut hearers {
            hearer.listen(&mut world, &sender, end - SETTLED);
        }
    }
    for (number, hearer) in hearers.iter_mut().enumerate() {
        faults.extend(hearer.faults().map(|fault| format!("hearer {number}: {fault}")));
    }
    Outcome { faults, hearers, blocks: sender.sources.judged }
}

/// Lets everyone be there and get everything.
fn settle(world: &mut World, hearers: &mut Vec<Hearer>, sender: &Sender, codec: Codec) {
    while hearers.len() < 2 {
        hearers.push(Hearer::join(world, sender, hearers.len(), codec));
    }
    for hearer in hearers {
        hearer.resume_all(world);
    }
}

fn happen(
    world: &mut World,
    sender: &mut Sender,
    hearers: &mut Vec<Hearer>,
    random: &mut Random,
    codec: Codec,
) {
    let track = random.within(0..VOICE as u64 + 1) as usize;
    let now = world.now;
    let source = &mut sender.tracks[track];
    match random.within(0..12) {
        0 | 1 if hearers.len() < 2 => {
            hearers.push(Hearer::join(world, sender, hearers.len(), codec));
        }
        2 | 3 => {
            source.change_ssrc(random);
            // Often what comes first is lost, the key frame with it.
            source.lost_until = now + random.millis(0..400);
        }
        4 => {
            source.jump_sequence(random);
            if random.percent(50) {
                source.jump_clock(random);
            }
            if random.percent(70) {
                source.skip_to_key();
            }
            source.lost_until = now + random.millis(0..300);
        }
        5 => source.jump_clock(random),
        6 if track < LAYERS => source.silent_until = now + random.millis(300..2_000),
        7 => source.lost_until = now + random.millis(30..300),
        8 | 9 => {
            let temporal = Some(random.within(0..4) as u8).filter(|&layer| layer < 3);
            let layers = Layers { spatial: random.within(0..LAYERS as u64) as u8, temporal };
            each(hearers, random).for_each(|hearer| hearer.prefer(world, layers));
        }
        10 => {
            let paused = random.percent(40);
            each(hearers, random).for_each(|hearer| hearer.pause(world, track, paused));
        }
        11 => sender.tracks[SCREEN].skip_to_key(),
        _ => {}
    }
}

/// One of the hearers, if there is any.
fn each<'a>(
    hearers: &'a mut [Hearer],
    random: &mut Random,
) -> impl Iterator<Item = &'a mut Hearer> {
    let count = hearers.len().max(1) as u64;
    hearers.iter_mut().skip(random.within(0..count) as usize).take(1)
}
