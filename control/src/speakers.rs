//! Who speaks in a room, from the audio levels that the data cores report.
//!
//! Each producer's level is smoothed: it rises at once and decays by a fixed slope, so that a pause
//! for breath keeps a speaker on the list and a cough leaves it soon.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_dataplane::message::ProducerId;
use opencall_dataplane::time::Time;

/// News at most this often.
const INTERVAL: Duration = Duration::from_millis(200);

/// Quieter than this is not speech: a quiet voice is about -45 dBov, room noise below -60.
const THRESHOLD_DBOV: i32 = -55;

/// How fast a level fades, dB per second: from a loud voice (-25) to silence in one second.
const DECAY_DB_PER_S: u128 = 30;

/// A change of volume worth telling.
const VOLUME_STEP_DB: i32 = 5;

/// Speakers named at most: more at once is noise, and the list goes to everyone.
const MAX_SPEAKERS: usize = 10;

/// The speakers of one room.
#[derive(Default)]
pub(crate) struct Speakers {
    levels: BTreeMap<ProducerId, Level>,
    told: Vec<(ProducerId, i8)>,
    told_at: Option<Time>,
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
    pub fn heard(&mut self, now: Time, producer: ProducerId, level_dbov: i8) {
        let level = i32::from(level_dbov.min(0));
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
    }

    /// The speakers, loudest first, if there is news and its time has come.
    pub fn poll(&mut self, now: Time) -> Option<Vec<(ProducerId, i8)>> {
        if now < self.next_poll() {
            return None;
        }
        self.levels.retain(|_, level| level.now(now) >= THRESHOLD_DBOV);
        let mut loudest: Vec<(ProducerId, i8)> = self
            .levels
            .iter()
            .map(|(producer, level)| (*producer, level.now(now).clamp(-127, 0) as i8))
            .collect();
        loudest.sort_by_key(|(_, dbov)| -i32::from(*dbov));
        loudest.truncate(MAX_SPEAKERS);
        self.told_at = Some(now);
        if !is_news(&self.told, &loudest) {
            return None;
        }
        self.told = loudest.clone();
        Some(loudest)
    }

    /// When to poll; never while there is silence and everyone knows.
    pub fn next_poll(&self) -> Time {
        if self.levels.is_empty() && self.told.is_empty() {
            return Time::NEVER;
        }
        self.told_at.map_or(Time::ZERO, |at| at + INTERVAL)
    }
}

/// Whether order, membership or a volume has changed.
fn is_news(told: &[(ProducerId, i8)], new: &[(ProducerId, i8)]) -> bool {
    let same = |(a, b): (&(ProducerId, i8), &(ProducerId, i8))| {
        a.0 == b.0 && (i32::from(a.1) - i32::from(b.1)).abs() < VOLUME_STEP_DB
    };
    told.len() != new.len() || !told.iter().zip(new).all(same)
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
        speakers.heard(at(0), ANNA, -40);
        speakers.heard(at(0), BERT, -20);
        assert_eq!(speakers.poll(at(0)), Some(vec![(BERT, -20), (ANNA, -40)]));
        speakers.heard(at(100), ANNA, -10);
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
            speakers.heard(at(millis), ANNA, -30 - (millis / 100 % 3) as i8);
            told += usize::from(speakers.poll(at(millis)).is_some());
        }
        assert_eq!(told, 1);
    }

    #[test]
    fn silence_is_told_once_and_then_nothing_is_due() {
        let mut speakers = Speakers::default();
        speakers.heard(at(0), ANNA, -30);
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
        speakers.heard(at(0), ANNA, -70);
        assert_eq!(speakers.next_poll(), Time::NEVER);
        speakers.heard(at(0), ANNA, -30);
        speakers.forget(ANNA);
        assert_eq!(speakers.next_poll(), Time::NEVER);
        speakers.heard(at(0), ANNA, 127);
        assert_eq!(speakers.poll(at(0)), Some(vec![(ANNA, 0)]));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut speakers = Speakers::default();
        for id in 0..50 {
            speakers.heard(at(0), ProducerId(id), -30);
        }
        assert_eq!(speakers.poll(at(0)).expect("news").len(), MAX_SPEAKERS);
    }
}
