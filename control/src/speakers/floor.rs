//! Who has the floor: dominant-speaker identification after Volfin & Cohen, "Dominant speaker
//! identification for multipoint videoconferencing" (2012), over levels instead of sound.
//!
//! A piece of 20 ms is active when it is loud, and clearly louder than the quietest of the last
//! second: what never pauses (music, a fan) is soon not active at all. Speech is told from noises
//! on three time scales, each a count out of a few blocks of 100 ms:
//!
//! | scale | counts | so that |
//! |---|---|---|
//! | immediate | active pieces of the newest block | nobody takes the floor when done |
//! | medium | full blocks of the last 500 ms | keys and clicks, which fill none, do not |
//! | long | lively blocks of the last 800 ms | short words and coughs do not |
//!
//! Whoever is heard is compared with the holder only, so that a report costs the same in a room of
//! five hundred. The floor is taken by who leads on the medium scale and is not behind on the long
//! one; from nobody, or from one who has been silent for a while, by speech of 300 ms.
//!
//! Worked trace, each digit a block of 100 ms and its active pieces; A has the floor and stops:
//!
//! ```text
//! A   5554 0000 0000        medium 5 5 5 5  4 3 2 1     long 8 … 8  7 6 5 4
//! B   0000 5455 4555        medium 0 0 0 0  1 2 3 4     long 0 … 0  1 2 3 4 ← B has it, 400 ms
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_dataplane::message::{AudioLevels, ProducerId};
use opencall_wire::time::Time;

/// Of one level.
const PIECE: Duration = Duration::from_millis(20);

/// Pieces of a block.
const BLOCK: u32 = 5;

/// Quieter than this is no speech, whatever else there is.
const QUIET_DBOV: i8 = -55;

/// By how much speech is louder than the quietest of the last second. Its dips between syllables
/// are 15 dB and more below it, those of music some 10.
const ABOVE_NOISE_DB: i32 = 12;

/// For so long the quietest level counts, once or twice: dips of speech come more often.
const NOISE_WINDOW: Duration = Duration::from_millis(600);

/// A window of noise with fewer levels says nothing: what is heard may all be speech.
const NOISE_LEVELS_MIN: u32 = 20;

/// What was the quietest so long ago says nothing of now: whoever was silent meanwhile, and sent
/// nothing, may begin as loudly as they ended.
const NOISE_LASTS: Duration = Duration::from_secs(5);

/// Active pieces of a full block, and of a lively one.
const FULL: u32 = 4;
const LIVELY: u32 = 2;

/// Blocks of the medium and of the long scale.
const MEDIUM: u32 = 5;
const LONG: u32 = 8;

/// Full blocks that take the floor from nobody.
const ENOUGH: u32 = 3;

/// Full blocks by which a newcomer leads: who pauses within a sentence keeps the floor.
const LEAD: u32 = 2;

/// Who was not active for so long holds the floor no longer against anyone.
const HOLD: Duration = Duration::from_secs(2);

/// A report is so late at most: a gap beyond is silence.
const LATE: Duration = Duration::from_millis(60);

/// The floor of one room.
#[derive(Default)]
pub(super) struct Floor {
    voices: BTreeMap<ProducerId, Voice>,
    holder: Option<ProducerId>,
}

/// What is known of one producer.
#[derive(Default)]
struct Voice {
    /// Bit per piece that was active, the newest the lowest.
    active: u64,
    at: Time,
    active_at: Time,
    noise: Noise,
}

/// The quietest level of the last second, about.
#[derive(Default)]
struct Noise {
    since: Time,
    levels: u32,
    quietest_dbov: i8,
    /// Of the window before.
    before_dbov: Option<i8>,
}

impl Noise {
    fn note(&mut self, now: Time, level_dbov: i8) {
        if now.since(self.since) >= NOISE_WINDOW {
            let says = self.levels >= NOISE_LEVELS_MIN && now.since(self.since) < NOISE_LASTS;
            self.before_dbov = says.then_some(self.quietest_dbov);
            (self.since, self.levels, self.quietest_dbov) = (now, 0, 0);
        }
        self.levels += 1;
        self.quietest_dbov = self.quietest_dbov.min(level_dbov);
    }

    fn is_below(&self, level_dbov: i8) -> bool {
        let quietest = self.before_dbov.map_or(i8::MIN, |before| before.min(self.quietest_dbov));
        i32::from(level_dbov) >= i32::from(quietest) + ABOVE_NOISE_DB
    }
}

impl Voice {
    fn heard(&mut self, now: Time, levels_dbov: AudioLevels) {
        let pieces = now.since(self.at).saturating_sub(LATE).as_millis() / PIECE.as_millis();
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX).max(BLOCK);
        self.active = self.active.checked_shl(pieces).unwrap_or(0);
        self.at = now;
        for (age, level_dbov) in (0..BLOCK).rev().zip(levels_dbov) {
            if level_dbov == -127 {
                // Nothing came; or digital silence, which tells as little of noise.
                continue;
            }
            self.noise.note(now, level_dbov);
            if level_dbov >= QUIET_DBOV && self.noise.is_below(level_dbov) {
                self.active |= 1 << age;
                self.active_at = now;
            }
        }
    }

    /// The pieces as of now: since the last report there was silence.
    fn active_at(&self, now: Time) -> u64 {
        let silence = now.since(self.at).saturating_sub(BLOCK * PIECE + LATE).as_millis();
        let pieces = u32::try_from(silence / PIECE.as_millis()).unwrap_or(u32::MAX);
        self.active.checked_shl(pieces).unwrap_or(0)
    }

    fn scores(&self, now: Time) -> Scores {
        let pieces = self.active_at(now);
        let blocks = |count: u32, at_least: u32| {
            let ones = |block: u32| (pieces >> (block * BLOCK) & 0x1f).count_ones();
            (0..count).filter(|&block| ones(block) >= at_least).count() as u32
        };
        Scores {
            immediate: (pieces & 0x1f).count_ones(),
            medium: blocks(MEDIUM, FULL),
            long: blocks(LONG, LIVELY),
        }
    }

    fn is_silent(&self, now: Time) -> bool {
        now.since(self.active_at) >= HOLD
    }
}

/// How much of the last time was speech, on three scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scores {
    immediate: u32,
    medium: u32,
    long: u32,
}

impl Scores {
    /// Whether it takes the floor from another.
    fn takes_from(self, holder: Scores) -> bool {
        self.speaks() && self.medium >= holder.medium + LEAD && self.long >= holder.long
    }

    /// Whether it takes the floor from nobody.
    fn speaks(self) -> bool {
        self.immediate >= LIVELY && self.medium >= ENOUGH
    }
}

impl Floor {
    /// Levels of a producer have come; returns whether it takes the floor.
    pub fn heard(&mut self, now: Time, producer: ProducerId, levels_dbov: AudioLevels) -> bool {
        let voice = self.voices.entry(producer).or_default();
        voice.heard(now, levels_dbov);
        let scores = voice.scores(now);
        let holder = self.holder.filter(|&holder| holder != producer);
        let holder = holder.and_then(|holder| self.voices.get(&holder));
        let takes = match holder.filter(|holder| !holder.is_silent(now)) {
            Some(holder) => scores.takes_from(holder.scores(now)),
            None => scores.speaks(),
        };
        if takes { self.holder.replace(producer) != Some(producer) } else { false }
    }

    /// A producer is gone or paused.
    pub fn forget(&mut self, producer: ProducerId) {
        self.voices.remove(&producer);
        self.holder = self.holder.filter(|holder| *holder != producer);
    }

    /// Who had the floor last.
    pub fn holder(&self) -> Option<ProducerId> {
        self.holder
    }

    /// Who has it now: silence gives it up.
    pub fn held_at(&self, now: Time) -> Option<ProducerId> {
        let voice = |holder: &ProducerId| self.voices.get(holder);
        self.holder.filter(|holder| voice(holder).is_some_and(|voice| !voice.is_silent(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: ProducerId = ProducerId(1);
    const BERT: ProducerId = ProducerId(2);

    /// Blocks of 100 ms by their active pieces; returns who has the floor after each.
    fn played(floor: &mut Floor, from: u64, anna: &str, bert: &str) -> String {
        let mut holders = String::new();
        for (block, digits) in (0..).zip(anna.bytes().zip(bert.bytes())) {
            let now = Time::from_millis(from + block * 100);
            for (producer, digit) in [(ANNA, digits.0), (BERT, digits.1)] {
                let active = usize::from(digit - b'0');
                let levels = std::array::from_fn(|piece| if piece < active { -25 } else { -60 });
                floor.heard(now, producer, levels);
            }
            holders.push(match floor.held_at(now) {
                Some(ANNA) => 'a',
                Some(_) => 'b',
                None => '-',
            });
        }
        holders
    }

    #[test]
    fn the_floor_is_taken_by_speech_only() {
        for (why, anna, bert, holders) in [
            ("speech of 300 ms", "5550000", "0000000", "--aaaaa"),
            ("keys", "2020202020", "0000000000", "----------"),
            ("a cough", "5500000", "0000000", "-------"),
            ("A stops, B begins", "55550000000", "00000545545", "--aaaaaabbb"),
            ("B says yes", "445444454544", "000055500000", "--aaaaaaaaaa"),
            ("B coughs in a pause", "555540005555", "000005520000", "--aaaaaaaaaa"),
            ("two at once", "45445444544", "00045444544", "--aaaaaaaaa"),
        ] {
            let mut floor = Floor::default();
            assert_eq!(played(&mut floor, 1_000, anna, bert), holders, "{why}");
        }
    }

    #[test]
    fn who_sent_nothing_for_long_begins_as_loudly_as_they_ended() {
        for (pause, takes, why) in [
            (12_000, true, "what was the quietest then says nothing of now"),
            (2_000, false, "a tone that comes again is no speech"),
        ] {
            let mut floor = Floor::default();
            for millis in (0..1_000).step_by(100) {
                floor.heard(Time::from_millis(1_000 + millis), ANNA, [-25; 5]);
            }
            floor.holder = None;
            for millis in (0..500).step_by(100) {
                floor.heard(Time::from_millis(2_000 + pause + millis), ANNA, [-25; 5]);
            }
            assert_eq!(floor.holder() == Some(ANNA), takes, "{why}");
        }
    }

    #[test]
    fn silence_gives_the_floor_up_and_is_forgotten_with_its_holder() {
        let mut floor = Floor::default();
        played(&mut floor, 1_000, "5555", "0000");
        assert_eq!(floor.held_at(Time::from_millis(3_200)), Some(ANNA));
        assert_eq!(floor.held_at(Time::from_millis(3_400)), None);
        assert_eq!(floor.holder(), Some(ANNA));
        floor.forget(ANNA);
        assert_eq!(floor.holder(), None);
    }

    #[test]
    fn what_never_pauses_is_no_speech_after_a_while() {
        let mut floor = Floor::default();
        for block in 0..60_u64 {
            let level = |piece: u64| -30 - ((block * 5 + piece) % 8) as i8;
            let levels = std::array::from_fn(|piece| level(piece as u64));
            floor.heard(Time::from_millis(1_000 + block * 100), ANNA, levels);
        }
        assert_eq!(floor.held_at(Time::from_millis(7_000)), None);
        assert_eq!(played(&mut floor, 7_000, "0000", "5555"), "--bb");
    }
}
