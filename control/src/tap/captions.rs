//! What a program has understood, as everyone in the room is told it.
//!
//! The program is the operator's, but what it says may be anything: who has spoken must be in the
//! room, and what everyone is told costs the server a message for each of them.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use opencall_wire::time::Time;

use super::message::TapResult;
use crate::api::{Caption, Notification, SessionId};
use crate::control::Control;
use crate::room::RoomId;

/// Messages of captions that a room may cause in a second. Two hundred read 25 captions a second,
/// which is five people at a time, each corrected five times a second.
const MESSAGES_PER_SECOND: f64 = 5_000.0;

/// The same at once. Below half of it only what is final goes out.
const MAX_MESSAGES: f64 = 10_000.0;

/// Why a result became no caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptionDrop {
    /// The tap has ended.
    Ended,
    /// Nobody of that name is in the room.
    UnknownParticipant,
    /// There are too many for a room of this size.
    TooMany,
}

impl CaptionDrop {
    /// All of them.
    pub const ALL: [CaptionDrop; 3] =
        [CaptionDrop::Ended, CaptionDrop::UnknownParticipant, CaptionDrop::TooMany];

    /// As metrics say it.
    pub const fn label(self) -> &'static str {
        match self {
            CaptionDrop::Ended => "ended",
            CaptionDrop::UnknownParticipant => "unknown_participant",
            CaptionDrop::TooMany => "too_many",
        }
    }
}

/// The captions of a tap.
pub(super) struct Captions {
    /// Number of the utterance that each speaker is in: those that are not final yet.
    open: HashMap<SessionId, u64>,
    utterances: u64,
    told: u64,
    budget: f64,
    counted: Time,
}

impl Captions {
    pub fn new(now: Time) -> Self {
        Captions {
            open: HashMap::new(),
            utterances: 0,
            told: 0,
            budget: MAX_MESSAGES,
            counted: now,
        }
    }

    /// How many there were.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Whether so many messages may go out now; then they count.
    fn pay(&mut self, now: Time, messages: usize, interim: bool) -> bool {
        let earned = now.since(self.counted).as_secs_f64() * MESSAGES_PER_SECOND;
        (self.budget, self.counted) = ((self.budget + earned).min(MAX_MESSAGES), now);
        let left = self.budget - messages as f64;
        let floor = if interim { MAX_MESSAGES / 2.0 } else { 0.0 };
        if left < floor {
            return false;
        }
        self.budget = left;
        true
    }

    /// The number of the utterance that this is of.
    fn number(&mut self, session: SessionId, interim: bool) -> u64 {
        let next = &mut self.utterances;
        let number = *self.open.entry(session).or_insert_with(|| {
            *next += 1;
            *next
        });
        if !interim {
            self.open.remove(&session);
        }
        number
    }
}

impl Control {
    pub(super) fn count_caption_drop(&mut self, reason: CaptionDrop) {
        if let Some(index) = CaptionDrop::ALL.iter().position(|known| *known == reason) {
            self.tap_totals.dropped[index] += 1;
        }
    }

    /// Tells everyone in the room what was said.
    pub(super) fn caption(&mut self, id: RoomId, result: TapResult) {
        let now = self.now;
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let speaker = room.by_peer.get(&*result.participant).copied();
        let speaker = speaker.filter(|session| room.members.contains(session));
        let Some(session) = speaker else {
            return self.count_caption_drop(CaptionDrop::UnknownParticipant);
        };
        let (members, Some(tap)) = (&room.members, room.tap.as_mut()) else { return };
        if !tap.captions.pay(now, members.len(), result.interim) {
            return self.count_caption_drop(CaptionDrop::TooMany);
        }
        // Those who left in the middle of an utterance.
        if tap.captions.open.len() > members.len() {
            tap.captions.open.retain(|session, _| members.contains(session));
        }
        tap.captions.told += 1;
        let caption = Arc::new(Caption {
            peer_id: result.participant,
            utterance: tap.captions.number(session, result.interim),
            text: result.text,
            interim: result.interim,
            language: result.language,
        });
        self.tap_totals.captions += 1;
        self.tell_members(id, Notification::Caption(caption));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_final_goes_out_when_corrections_do_not() {
        let mut captions = Captions::new(Time::ZERO);
        let now = Time::from_millis(10);
        let interim = (0..100).filter(|_| captions.pay(now, 500, true)).count();
        let last = (0..100).filter(|_| captions.pay(now, 500, false)).count();
        assert_eq!((interim, last), (10, 10));
        assert!(captions.pay(Time::from_millis(1_010), 500, false), "a second has passed");
    }

    #[test]
    fn an_utterance_keeps_its_number_until_it_is_final() {
        let mut captions = Captions::new(Time::ZERO);
        let said = [(1, true), (2, true), (1, true), (1, false), (1, false), (2, false), (1, true)];
        let numbers = said.map(|(who, interim)| captions.number(SessionId(who), interim));
        assert_eq!(numbers, [1, 2, 1, 1, 3, 2, 4]);
    }
}
