//! Once nothing goes wrong any more, everyone sees and hears everyone they subscribe to.
#![forbid(unsafe_code)]

use opencall_wire::time::Time;

use crate::participant::Participant;

/// How old the newest picture or sound may be, milliseconds: several frames and the way they go.
const FRESH_MS: u64 = 700;

/// Pictures or packets that must have been shown at all.
const SHOWN: u64 = 3;

/// What is still missing, if anything is.
pub fn missing(participants: &[Participant], now: Time) -> Option<String> {
    if let Some(late) = participants.iter().find(|participant| !participant.is_settled()) {
        return Some(format!("{} is not connected: {}", late.name, late.describe()));
    }
    pairs(participants).find_map(|(viewer, other)| of_pair(viewer, other, now))
}

/// Everyone, with everyone else in the same room.
pub fn pairs(participants: &[Participant]) -> impl Iterator<Item = (&Participant, &Participant)> {
    let pairs = participants.iter().flat_map(|viewer| {
        let others = participants.iter();
        others.map(move |other| (viewer, other))
    });
    pairs.filter(|(viewer, other)| viewer.room == other.room && viewer.number != other.number)
}

fn of_pair(viewer: &Participant, other: &Participant, now: Time) -> Option<String> {
    let (viewer_name, other_name) = (&viewer.name, &other.name);
    for source in &other.sources {
        let kind = source.track.kind;
        let Some(producer) = &source.producer else {
            return Some(format!("{other_name} does not produce {kind:?}"));
        };
        let mut subscriptions = viewer.subscriptions.values();
        let Some(subscription) = subscriptions.find(|s| s.producer == *producer) else {
            if viewer.declined.contains(producer) {
                continue;
            }
            return Some(format!("{viewer_name} has no {kind:?} of {other_name}"));
        };
        let receiver = &subscription.receiver;
        let age_ms = now.as_millis().saturating_sub(receiver.newest_ms.into());
        if age_ms > FRESH_MS || receiver.shown < SHOWN || receiver.is_stuck(now) {
            let shown = receiver.shown;
            return Some(format!(
                "{viewer_name}'s {kind:?} of {other_name}: {shown} shown, the newest packet is \
                 {age_ms} ms old"
            ));
        }
    }
    None
}
