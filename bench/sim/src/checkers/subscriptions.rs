//! Nothing reaches who did not subscribe, or has stopped.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use crate::participant::{Media, Standing};

/// How long a core may go on after control has answered that it is over: as long as either may be
/// stalled, and the command may wait in between.
pub const GRACE: Duration = Duration::from_millis(2_500);

/// Looks at a packet that was sent then.
///
/// # Errors
/// Its receiver has never asked for it, or asked that it end.
pub fn check(media: &Media, sent: Time) -> Result<(), String> {
    let stamp = media.arrived.stamp;
    match media.standing {
        Standing::Subscribed | Standing::Asked => Ok(()),
        Standing::EndedAt(at) if sent < at + GRACE => Ok(()),
        Standing::EndedAt(at) => {
            let since = sent.since(at);
            Err(format!("sent {since:?} after the end was answered: {stamp:?}"))
        }
        Standing::Never => Err(format!("received without having asked: {stamp:?}")),
    }
}

#[cfg(test)]
mod tests {
    use opencall_testkit::receiver::Arrived;
    use opencall_testkit::stamp::Stamp;

    use super::*;

    #[test]
    fn what_comes_unasked_or_after_the_end_is_found() {
        let key = false;
        let (room, peer, track, frame, packet, captured_ms, layer) = (0, 1, 1, 0, 0, 0, 0);
        let stamp =
            Stamp { room, peer, track, frame, packet, captured_ms, layer, key, part: 0, parts: 1 };
        let (ssrc, sequence, timestamp, picture, tl0) = (1, 1, 1, None, None);
        let arrived =
            Arrived { ssrc, sequence, timestamp, picture, tl0, stamp, is_repeated: false };
        let (end, late) = (Time::from_millis(1_000), Time::from_millis(1_000) + GRACE);
        let check = |standing, sent| check(&Media { arrived, standing }, sent).is_ok();
        assert!(check(Standing::Subscribed, late) && check(Standing::Asked, late));
        assert!(check(Standing::EndedAt(end), end) && !check(Standing::EndedAt(end), late));
        assert!(!check(Standing::Never, end));
    }
}
