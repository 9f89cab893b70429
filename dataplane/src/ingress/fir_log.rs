//! FIR commands received for one consumer (RFC 5104 section 4.3.1): a repeated number is the same
//! command, and a command that was answered is not answered twice.
//!
//! A client repeats a command until the key frame arrives (section 3.5.1.1). A repetition within
//! two round trips after the key frame was sent crossed it on the way; a later one means that it
//! was lost.
//!
//! Worked trace, the round trip 200 ms, the sender needing 150 ms for a key frame:
//!
//! ```text
//! t =   0 ms  number 7   asks
//! t = 100 ms  number 7   asks: it is the same key frame
//! t = 150 ms  key frame
//! t = 200 ms  number 7   ignored: answered
//! t = 400 ms  number 8   asks
//! t = 450 ms  number 7   late: the key frame that 8 asks for answers it
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use crate::ingress::key_frame::MIN_INTERVAL;

/// Command sources remembered per consumer. A client has one; one that uses more is still limited
/// by [`super::key_frame_ledger`].
const SENDERS: usize = 2;

/// A number this little behind the newest is a late repetition: a client has at most one command
/// outstanding.
const LATE_NUMBERS: u8 = 8;

/// The newest command of each source.
#[derive(Debug, Clone, Default)]
pub struct FirLog {
    requests: [Option<Request>; SENDERS],
    next: u8,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    sender_ssrc: u32,
    number: u8,
    /// When it arrived; a key frame sent later answers it.
    at: Time,
}

impl FirLog {
    /// Whether a command asks for a key frame. `key_frame` is when the newest one was sent.
    pub fn admit(
        &mut self,
        now: Time,
        (sender_ssrc, number): (u32, u8),
        key_frame: Option<Time>,
        round_trip: Duration,
    ) -> bool {
        let mut requests = self.requests.iter_mut().flatten();
        let Some(held) = requests.find(|held| held.sender_ssrc == sender_ssrc) else {
            let place = usize::from(self.next) % SENDERS;
            self.next = self.next.wrapping_add(1);
            self.requests[place] = Some(Request { sender_ssrc, number, at: now });
            return true;
        };
        if held.number.wrapping_sub(number) > LATE_NUMBERS {
            *held = Request { sender_ssrc, number, at: now };
            return true;
        }
        let Some(answered) = key_frame.filter(|&at| at >= held.at) else { return true };
        let is_lost = now.since(answered) > (round_trip * 2).max(MIN_INTERVAL);
        if is_lost {
            held.at = now;
        }
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(200);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn follows_the_worked_trace_and_asks_again_for_what_was_lost() {
        let mut log = FirLog::default();
        // (when, number, when the newest key frame came, passed on)
        let steps = [
            (0, 7, None, true),
            (100, 7, None, true),
            (200, 7, Some(150), false),
            (400, 8, Some(150), true),
            (450, 7, Some(150), true),
            (500, 8, Some(480), false),
            (880, 8, Some(480), false),
            (881, 8, Some(480), true), // it was lost
            (900, 8, Some(480), true), // and the next is on its way
            (950, 8, Some(940), false),
        ];
        for (ms, number, key_frame, admitted) in steps {
            let key_frame = key_frame.map(at);
            let given = log.admit(at(ms), (1, number), key_frame, ROUND_TRIP);
            assert_eq!(given, admitted, "{ms} {number}");
        }
    }

    #[test]
    fn numbers_are_of_their_sender_and_wrap() {
        let mut log = FirLog::default();
        for (sender, number) in [(1, 255), (1, 0), (2, 0), (1, 1), (2, 1)] {
            assert!(log.admit(at(10), (sender, number), Some(at(20)), ROUND_TRIP));
            assert!(!log.admit(at(20), (sender, number), Some(at(20)), ROUND_TRIP));
        }
        // A third takes the place of the first.
        assert!(log.admit(at(30), (3, 1), Some(at(30)), ROUND_TRIP));
        assert!(!log.admit(at(40), (2, 1), Some(at(30)), ROUND_TRIP));
        assert!(log.admit(at(40), (1, 1), Some(at(30)), ROUND_TRIP));
    }
}
