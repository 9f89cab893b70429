//! Who speaks in a room, from the audio levels that the data cores report.
//!
//! The first is who has the floor ([`Floor`]). Of the others each level is smoothed: it rises at
//! once and decays by a fixed slope, so that a pause for breath keeps a speaker on the list and a
//! cough leaves it soon. Two who are about as loud keep their places: whoever overtakes another
//! must be clearly louder, or tiles would jump with each word.
#![forbid(unsafe_code)]

mod floor;
#[cfg(test)]
mod scenario;

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_dataplane::message::{AudioLevels, ProducerId};
use opencall_wire::time::Time;

use self::floor::Floor;

/// News at most this often.
const INTERVAL: Duration = Duration::from_millis(200);

/// Quieter than this is not speech: a quiet voice is about -45 dBov, room noise below -60.
const THRESHOLD_DBOV: i32 = -55;

/// How fast a level fades, dB per second: from a loud voice (-25) to silence in one second.
const DECAY_DB_PER_S: u128 = 30;

/// A change of volume worth telling, and what one must be louder to overtake another.
const VOLUME_STEP_DB: i32 = 5;

/// News of volumes alone at most this often: they change with every word, and who speaks is what
/// matters at once.
const VOLUME_INTERVAL: Duration = Duration::from_millis(800);

/// Speakers named at most: more at once is noise, and the list goes to everyone.
const MAX_SPEAKERS: usize = 10;

/// The speakers of one room.
#[derive(Default)]
pub(crate) struct Speakers {
    levels: BTreeMap<ProducerId, Level>,
    floor: Floor,
    /// The floor was taken since they were looked at last.
    is_taken: bool,
    told: Vec<(ProducerId, i8)>,
    /// When they were looked at last.
    polled_at: Option<Time>,
    /// When there was news last.
    told_at: Time,
}

#[derive(Clone, Copy)]
struct Level {
    dbov: i32,
    at: Time,
}

impl Level {
    fn now(self, now: Time) -> i32 {
        let faded = now.since(self.at).as_millis() * DECAY_DB_PER_S / 1_000;
        self.dbov.saturating_sub(i32::try_from(faded).unwrap_or(i32::MAX))
    }
}

impl Speakers {
    /// A producer was heard.
    pub fn heard(&mut self, now: Time, producer: ProducerId, levels_dbov: AudioLevels) {
        self.is_taken |= self.floor.heard(now, producer, levels_dbov);
        let level = levels_dbov.into_iter().max().map_or(i32::MIN, |dbov| i32::from(dbov.min(0)));
        let faded = self.levels.get(&producer).map_or(i32::MIN, |known| known.now(now));
        if level.max(faded) < THRESHOLD_DBOV {
            self.levels.remove(&producer);
            return;
        }
        self.levels.insert(producer, Level { dbov: level.max(faded), at: now });
    }

    /// A producer is gone or paused.
    pub fn forget(&mut self, producer: ProducerId) {
        self.levels.remove(&producer);
        self.floor.forget(producer);
    }

    /// Who had the floor last: whose picture matters most.
    pub fn dominant(&self) -> Option<ProducerId> {
        self.floor.holder()
    }

    /// How loud a producer is now, dBov; `None` if it is not heard.
    pub fn level(&self, now: Time, producer: ProducerId) -> Option<i32> {
        let level = self.levels.get(&producer)?.now(now);
        (level >= THRESHOLD_DBOV).then_some(level)
    }

    /// The speakers, if there is news and its time has come: first who has the floor, then the
    /// loudest, but for [`VOLUME_STEP_DB`].
    pub fn poll(&mut self, now: Time) -> Option<Vec<(ProducerId, i8)>> {
        // Who has the floor is news at once, unless there was some just now.
        if now < self.next_poll() && !(self.is_taken && now.since(self.told_at) >= INTERVAL) {
            return None;
        }
        self.is_taken = false;
        self.levels.retain(|_, level| level.now(now) >= THRESHOLD_DBOV);
        let loudest = self.ranked(now);
        self.polled_at = Some(now);
        let is_same_people =
            self.told.iter().map(|(id, _)| id).eq(loudest.iter().map(|(id, _)| id));
        if is_same_people
            && (now.since(self.told_at) < VOLUME_INTERVAL || !self.has_other_volume(&loudest))
        {
            return None;
        }
        self.told_at = now;
        self.told = loudest.clone();
        Some(loudest)
    }

    /// When to poll; never while there is silence and everyone knows.
    pub fn next_poll(&self) -> Time {
        if self.levels.is_empty() && self.told.is_empty() {
            return Time::NEVER;
        }
        self.polled_at.map_or(Time::ZERO, |at| at + INTERVAL)
    }

    /// Those who are heard, in the order told last as far as that is still about right.
    fn ranked(&self, now: Time) -> Vec<(ProducerId, i8)> {
        let volume = |level: &Level| level.now(now).clamp(-127, 0) as i8;
        let mut newcomers: Vec<(ProducerId, i8)> =
            self.levels.iter().map(|(producer, level)| (*producer, volume(level))).collect();
        newcomers.sort_by_key(|(_, dbov)| -i32::from(*dbov));
        let mut ranked = Vec::with_capacity(newcomers.len());
        for &(producer, _) in &self.told {
            if let Some(at) = newcomers.iter().position(|(known, _)| *known == producer) {
                ranked.push(newcomers.remove(at));
            }
        }
        ranked.append(&mut newcomers);
        for index in 1..ranked.len() {
            let dbov = i32::from(ranked[index].1);
            let is_overtaken = |(_, ahead): &(_, i8)| dbov - i32::from(*ahead) >= VOLUME_STEP_DB;
            let ahead = ranked[..index].iter().rev().take_while(|one| is_overtaken(one)).count();
            ranked[index - ahead..=index].rotate_right(1);
        }
        if let Some(holder) = self.floor.held_at(now) {
            let at = ranked.iter().position(|(known, _)| *known == holder);
            // In a pause it stays, while others make noises.
            let held = at.map_or((holder, THRESHOLD_DBOV as i8), |at| ranked.remove(at));
            if at.is_some() || !ranked.is_empty() {
                ranked.insert(0, held);
            }
        }
        ranked.truncate(MAX_SPEAKERS);
        ranked
    }

    /// Whether the volume of one of the same people has changed, in either direction.
    fn has_other_volume(&self, new: &[(ProducerId, i8)]) -> bool {
        let mut pairs = self.told.iter().zip(new);
        pairs.any(|(old, new)| (i32::from(old.1) - i32::from(new.1)).abs() >= VOLUME_STEP_DB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: ProducerId = ProducerId(1);
    const BERT: ProducerId = ProducerId(2);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn the_loudest_comes_first_and_news_is_rare() {
        let mut speakers = Speakers::default();
        assert_eq!(speakers.next_poll(), Time::NEVER);
        speakers.heard(at(0), ANNA, [-40; 5]);
        speakers.heard(at(0), BERT, [-20; 5]);
        assert_eq!(speakers.poll(at(0)), Some(vec![(BERT, -20), (ANNA, -40)]));
        speakers.heard(at(100), ANNA, [-10; 5]);
        assert_eq!(speakers.poll(at(100)), None);
        assert_eq!(speakers.next_poll(), at(200));
        let news = speakers.poll(at(200)).expect("another order");
        assert_eq!(news[0].0, ANNA);
    }

    #[test]
    fn a_steady_voice_is_told_once() {
        let mut speakers = Speakers::default();
        let mut told = 0;
        for millis in (0..2_000).step_by(100) {
            speakers.heard(at(millis), ANNA, [-30 - (millis / 100 % 3) as i8; 5]);
            told += usize::from(speakers.poll(at(millis)).is_some());
        }
        assert_eq!(told, 1);
    }

    #[test]
    fn whoever_overtakes_is_clearly_louder() {
        let table = [
            ((-30, -26), [ANNA, BERT], "a little louder"),
            ((-30, -25), [BERT, ANNA], "clearly louder"),
            ((-27, -25), [BERT, ANNA], "once ahead, a little is enough to stay"),
            ((-29, -27), [BERT, ANNA], "either way"),
        ];
        let mut speakers = Speakers::default();
        let mut now = at(0);
        speakers.heard(now, ANNA, [-20; 5]);
        speakers.poll(now);
        for ((anna, bert), order, why) in table {
            // Long enough for what was louder before to fade.
            now = now + Duration::from_millis(600);
            speakers.heard(now, ANNA, [anna; 5]);
            speakers.heard(now, BERT, [bert; 5]);
            speakers.poll(now);
            let told: Vec<_> = speakers.told.iter().map(|(id, _)| *id).collect();
            assert_eq!(told, order, "{why}");
        }
    }

    #[test]
    fn a_newcomer_takes_the_place_of_its_volume() {
        let mut speakers = Speakers::default();
        let (carl, dora) = (ProducerId(3), ProducerId(4));
        for (producer, dbov) in [(ANNA, -20), (BERT, -30), (carl, -40)] {
            speakers.heard(at(0), producer, [dbov; 5]);
        }
        speakers.poll(at(0));
        for (producer, dbov) in [(ANNA, -20), (BERT, -30), (carl, -40), (dora, -25)] {
            speakers.heard(at(200), producer, [dbov; 5]);
        }
        let news = speakers.poll(at(200)).expect("Dora");
        let order: Vec<_> = news.iter().map(|(id, _)| *id).collect();
        assert_eq!(order, [ANNA, dora, BERT, carl]);
    }

    #[test]
    fn volumes_are_news_less_often_than_people() {
        let mut speakers = Speakers::default();
        let mut told = Vec::new();
        for millis in (0..1_400).step_by(100) {
            let level = if millis / 200 % 2 == 0 { -20 } else { -10 };
            speakers.heard(at(millis), ANNA, [level; 5]);
            if millis == 1_100 {
                speakers.heard(at(millis), BERT, [-5; 5]);
            }
            told.extend(speakers.poll(at(millis)).map(|_| millis));
        }
        assert_eq!(told, [0, 800, 1_200], "Anna, a volume of hers, and Bert");
    }

    #[test]
    fn silence_is_told_once_and_then_nothing_is_due() {
        let mut speakers = Speakers::default();
        speakers.heard(at(0), ANNA, [-30; 5]);
        assert!(speakers.poll(at(0)).is_some());
        let mut last = None;
        for millis in (200..3_000).step_by(200) {
            last = speakers.poll(at(millis)).or(last);
        }
        assert_eq!(last, Some(vec![]));
        assert_eq!(speakers.next_poll(), Time::NEVER);
    }

    #[test]
    fn noise_is_no_speech_and_the_forgotten_do_not_speak() {
        let mut speakers = Speakers::default();
        speakers.heard(at(0), ANNA, [-70; 5]);
        assert_eq!(speakers.next_poll(), Time::NEVER);
        speakers.heard(at(0), ANNA, [-30; 5]);
        speakers.forget(ANNA);
        assert_eq!(speakers.next_poll(), Time::NEVER);
        speakers.heard(at(0), ANNA, [127; 5]);
        assert_eq!(speakers.poll(at(0)), Some(vec![(ANNA, 0)]));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut speakers = Speakers::default();
        for id in 0..50 {
            speakers.heard(at(0), ProducerId(id), [-30; 5]);
        }
        assert_eq!(speakers.poll(at(0)).expect("news").len(), MAX_SPEAKERS);
    }
}
