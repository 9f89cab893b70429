//! After a core's death everyone sees and hears everyone they subscribe to soon again.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_control::rtp_parameters::Kind;
use opencall_wire::time::Time;

use super::liveness;
use crate::participant::Participant;

/// How long the voices may take from when another core can be in the dead one's place, beside what
/// control takes to notice. They come ten times a second; the rest is for what was on its way.
const VOICES_WITHIN: Duration = Duration::from_millis(1_500);

/// How long pictures may take. What comes first has to be a key frame: an encoder that was just
/// asked for one is not asked again for 300 ms, and one that did not answer is after 500 ms. An
/// estimate of a path that is still being found may leave a picture out for a second at any time;
/// what the client was told to be left out is not waited for.
pub const WITHIN: Duration = Duration::from_millis(3_000);

/// What is still missing of what was captured after `since`, if anything is: of everything that is
/// consumed or, as long as it is early, of what must be back by now.
pub fn missing(
    participants: &[Participant],
    since: Time,
    now: Time,
    is_missed: impl Fn(Kind) -> bool,
) -> Option<String> {
    let on_stage = participants.iter().find_map(|viewer| {
        liveness::carried(viewer).find_map(|subscription| {
            let receiver = &subscription.receiver;
            let shown_ms = u64::from(receiver.shown_ms());
            let is_late = shown_ms <= since.as_millis() && !subscription.is_left_out;
            (is_late && is_missed(receiver.kind)).then(|| {
                let age_ms = now.as_millis().saturating_sub(shown_ms);
                let (viewer, kind, slot) = (&viewer.name, receiver.kind, &subscription.peer);
                format!("{viewer}'s {kind:?} of {slot} is {age_ms} ms old")
            })
        })
    });
    if on_stage.is_some() {
        return on_stage;
    }
    liveness::pairs(participants).find_map(|(viewer, other)| {
        let sources = other.sources.iter().filter(|source| is_missed(source.track.kind));
        sources.into_iter().find_map(|source| {
            let producer = source.producer.as_ref()?;
            let mut subscriptions = viewer.subscriptions.values();
            let subscription = subscriptions.find(|s| s.producer == *producer)?;
            if subscription.is_left_out {
                return None;
            }
            let shown_ms = u64::from(subscription.receiver.shown_ms());
            let (kind, age_ms) = (source.track.kind, now.as_millis().saturating_sub(shown_ms));
            (shown_ms <= since.as_millis()).then(|| {
                let (viewer, other) = (&viewer.name, &other.name);
                format!("{viewer}'s {kind:?} of {other} is {age_ms} ms old")
            })
        })
    })
}

/// Whether what is of this kind must be back when so much time has passed.
pub fn must_be_back(kind: Kind, passed: Duration) -> bool {
    passed >= if kind == Kind::Audio { VOICES_WITHIN } else { WITHIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_are_back_before_pictures() {
        let must = |ms| {
            [Kind::Audio, Kind::Video].map(|kind| must_be_back(kind, Duration::from_millis(ms)))
        };
        assert_eq!([must(1_499), must(1_500), must(3_000)], [[false; 2], [true, false], [true; 2]]);
    }
}
