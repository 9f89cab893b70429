//! Once nothing goes wrong any more, everyone sees and hears everyone they subscribe to.
#![forbid(unsafe_code)]

use opencall_control::rtp_parameters::Kind;
use opencall_wire::time::Time;

use crate::participant::{Participant, Subscription};

/// How old the newest picture or sound may be, milliseconds: several frames and the way they go.
const FRESH_MS: u64 = 700;

/// Pictures or packets that must have been shown at all.
const SHOWN: u64 = 3;

/// What is still missing, if anything is; `is_staged`: rooms have a stage.
pub fn missing(participants: &[Participant], now: Time, is_staged: bool) -> Option<String> {
    if let Some(late) = participants.iter().find(|participant| !participant.is_settled()) {
        return Some(format!("{} is not connected: {}", late.name, late.describe()));
    }
    if is_staged {
        return participants.iter().find_map(|viewer| of_stage(participants, viewer, now));
    }
    pairs(participants).find_map(|(viewer, other)| of_pair(viewer, other, now))
}

/// The slots of the stage that somebody else is on.
pub fn carried(viewer: &Participant) -> impl Iterator<Item = &Subscription> {
    let subscriptions = viewer.subscriptions.values();
    subscriptions.filter(|of| of.peer.starts_with("stage:") && !of.producer_paused && !of.paused)
}

/// Everybody's slots of the stage bring what is new, and there are pictures and voices of others.
fn of_stage(participants: &[Participant], viewer: &Participant, now: Time) -> Option<String> {
    let is_other = |other: &Participant| {
        other.room == viewer.room && other.number != viewer.number && other.joined
    };
    if !participants.iter().any(is_other) {
        return None;
    }
    for subscription in carried(viewer) {
        let receiver = &subscription.receiver;
        let age_ms = now.as_millis().saturating_sub(receiver.newest_ms.into());
        if age_ms > FRESH_MS || receiver.shown < SHOWN || receiver.is_stuck(now) {
            return Some(format!(
                "{}'s {:?} of {}: {} shown, the newest packet is {age_ms} ms old",
                viewer.name, receiver.kind, subscription.peer, receiver.shown
            ));
        }
    }
    let kinds = [Kind::Audio, Kind::Video];
    let lacks = |kind: &Kind| carried(viewer).all(|of| of.receiver.kind != *kind);
    let lacking = kinds.into_iter().find(lacks).filter(|_| viewer.declined.is_empty())?;
    Some(format!("{} gets no {lacking:?} of the stage", viewer.name))
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
