//! Nothing crosses rooms, and nobody hears himself.
#![forbid(unsafe_code)]

use opencall_wire::time::Time;

use super::subscriptions::GRACE;
use crate::participant::{Media, Participant};

/// Looks at a packet that a participant has opened.
///
/// # Errors
/// It is of another room, or the participant's own.
pub fn check(participant: &Participant, media: &Media, now: Time) -> Result<(), String> {
    let stamp = media.arrived.stamp;
    if stamp.room != participant.room {
        return Err(format!("in room {}, received {stamp:?}", participant.room));
    }
    if stamp.peer == participant.number && !was_just_on_stage(participant, media, now) {
        return Err(format!("received itself: {stamp:?}"));
    }
    Ok(())
}

/// Whether the slot of a stage that a packet came by has just changed: its home and the core of its
/// client are told by rings of their own, which may be full, and either may be stalled.
fn was_just_on_stage(participant: &Participant, media: &Media, now: Time) -> bool {
    let of_stage = participant.subscriptions.values().filter(|of| of.peer.starts_with("stage:"));
    let mut changed = of_stage.filter(|of| now < of.told_at + GRACE);
    changed.any(|of| of.receiver.ssrc == media.arrived.ssrc)
}

#[cfg(test)]
mod tests {
    use opencall_testkit::receiver::Arrived;
    use opencall_testkit::stamp::Stamp;
    use opencall_testkit::wire::Wire;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::participant::Standing;

    #[test]
    fn another_room_and_oneself_are_found() {
        let mut dice = StdRng::seed_from_u64(1);
        let participant = Participant::new(3, 1, (Wire::good(), Wire::good()), &mut dice);
        let heard = |room, peer| {
            let (track, frame, packet, captured_ms, layer, key) = (0, 0, 0, 0, 0, false);
            let stamp = Stamp {
                room,
                peer,
                track,
                frame,
                packet,
                captured_ms,
                layer,
                key,
                part: 0,
                parts: 1,
            };
            let (ssrc, sequence, timestamp, picture, tl0) = (1, 1, 1, None, None);
            let arrived =
                Arrived { ssrc, sequence, timestamp, picture, tl0, stamp, is_repeated: false };
            let media = Media { arrived, standing: Standing::Subscribed };
            check(&participant, &media, Time::from_millis(1)).is_ok()
        };
        assert!(heard(1, 5) && !heard(0, 5) && !heard(1, 3));
    }
}
