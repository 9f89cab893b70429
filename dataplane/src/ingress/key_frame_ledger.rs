//! Who has asked for an encoding's key frames: everyone pays for each with picture quality, so no
//! viewer may have many of them.
//!
//! A viewer's requests until the next key frame are one, however often it repeats them. Of those
//! that led to a key frame of their own it has [`KEY_FRAMES_PER_VIEWER`] in [`WINDOW`]; what it
//! asks for beyond is answered by the key frames that others get.
//!
//! Worked trace of a viewer that asks every 100 ms, of a source that needs 150 ms for a key frame:
//!
//! ```text
//! t =   0 ms  asks           1st
//! t = 100 ms  asks           the same
//! t = 150 ms  key frame
//! t = 200 ms  asks           2nd
//!   …                        3rd, 4th
//! t = 800 ms  asks           refused
//! t =  10 s   asks           the 1st is forgotten
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use crate::message::TransportId;

/// Key frames that one viewer may cause in [`WINDOW`]: an entry, a switch, and two losses that
/// retransmission could not repair. More would leave everyone with blurred pictures for the sake of
/// one bad link.
pub const KEY_FRAMES_PER_VIEWER: usize = 4;

/// How long a request counts.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Requests remembered. Where more viewers than this ask at a time, none of them is the one that
/// makes the source send key frames.
const PLACES: usize = 8;

/// The newest requests for one encoding.
#[derive(Debug, Clone, Default)]
pub struct KeyFrameLedger {
    requests: [Option<Request>; PLACES],
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    viewer: TransportId,
    at: Time,
    /// Key frames that had come when it was made.
    key_frames: u64,
}

impl KeyFrameLedger {
    /// Whether a viewer may ask now, `key_frames` having come so far; if it may, that counts.
    pub fn admit(&mut self, now: Time, viewer: TransportId, key_frames: u64) -> bool {
        let own = self.requests.iter().flatten();
        let own = own.filter(|request| request.viewer == viewer && now.since(request.at) < WINDOW);
        let mut count = 0;
        for request in own {
            if request.key_frames == key_frames {
                return true;
            }
            count += 1;
        }
        if count >= KEY_FRAMES_PER_VIEWER {
            return false;
        }
        self.requests[self.next] = Some(Request { viewer, at: now, key_frames });
        self.next = (self.next + 1) % PLACES;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_worked_trace() {
        let mut ledger = KeyFrameLedger::default();
        let (mut key_frames, mut due) = (0, None);
        let mut admitted = Vec::new();
        for ms in (0..=10_000).step_by(100) {
            if due.take_if(|due| ms > *due).is_some() {
                key_frames += 1;
            }
            if ledger.admit(Time::from_millis(ms), TransportId(1), key_frames) {
                admitted.push(ms);
                due.get_or_insert(ms + 150);
            }
        }
        assert_eq!(admitted, [0, 100, 200, 300, 400, 500, 600, 700, 10_000]);
    }

    #[test]
    fn viewers_do_not_pay_for_each_other() {
        let mut ledger = KeyFrameLedger::default();
        for key_frames in 0..4 {
            assert!(ledger.admit(Time::ZERO, TransportId(1), key_frames));
        }
        assert!(!ledger.admit(Time::ZERO, TransportId(1), 4));
        for viewer in 2..4 {
            assert!(ledger.admit(Time::ZERO, TransportId(viewer), 4));
        }
        assert!(!ledger.admit(Time::ZERO, TransportId(1), 5));
    }
}
