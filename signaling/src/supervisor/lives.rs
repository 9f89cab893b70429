//! When the next server is started, and whether at all.
#![forbid(unsafe_code)]

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Numbers of the signals that end a server which has not begun to listen to them.
const SIGTERM: i32 = 15;
const SIGINT: i32 = 2;

/// A server that lived for less may have died of what it found.
pub const SHORT_LIFE: Duration = Duration::from_secs(1);

/// How long nothing is started after the second short life in a row, and twice as long each time
/// that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest such pause: it bounds how soon a server is back once the cause is gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// After so many short lives in a row the next one begins without the calls.
const LIVES_WITH_CALLS: u32 = 3;

/// Exit status of a server whose configuration is wrong: another would read the same.
const WRONG_CONFIGURATION: i32 = 2;

/// What comes after a server's end.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the supervisor ends, with this status.
    End(u8),
    /// Another server.
    Start {
        /// After so long.
        pause: Duration,
        /// Without the calls.
        afresh: bool,
    },
}

/// The lives of servers so far.
#[derive(Debug, Default)]
pub struct Lives {
    is_first_over: bool,
    short: u32,
}

impl Lives {
    /// What comes next, after one that ended so and lived for so long; `stopping`: it was told to
    /// end.
    pub fn next(&mut self, status: &ExitStatus, lived: Duration, stopping: bool) -> Next {
        let is_short = lived < SHORT_LIFE;
        let is_first = !std::mem::replace(&mut self.is_first_over, true);
        if let Some(code) = status.code()
            // What the very first could not get is told as without a supervisor.
            && (stopping || code == 0 || code == WRONG_CONFIGURATION || (is_first && is_short))
        {
            return Next::End(u8::try_from(code).unwrap_or(1));
        }
        if stopping {
            // Told to end before it has begun to listen to that.
            let was_told = matches!(status.signal(), Some(SIGTERM | SIGINT));
            return Next::End(if was_told { 0 } else { 1 });
        }
        self.short = if is_short { self.short.saturating_add(1) } else { 0 };
        let pause = match self.short {
            0 | 1 => Duration::ZERO,
            lives => FIRST_PAUSE.saturating_mul(1 << (lives - 2).min(16)).min(LONGEST_PAUSE),
        };
        Next::Start { pause, afresh: self.short >= LIVES_WITH_CALLS }
    }

    /// Short lives in a row.
    pub fn short(&self) -> u32 {
        self.short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: i32 = 9;
    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(30);

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn one_that_was_killed_has_a_successor_at_once() {
        let mut lives = Lives::default();
        for _ in 0..5 {
            let next = lives.next(&ExitStatus::from_raw(KILLED), LONG, false);
            assert_eq!(next, Next::Start { pause: Duration::ZERO, afresh: false });
        }
        let next = lives.next(&exited(1), LONG, false);
        assert_eq!(next, Next::Start { pause: Duration::ZERO, afresh: false });
    }

    #[test]
    fn one_that_dies_at_once_again_and_again_waits_and_forgets_the_calls() {
        let mut lives = Lives::default();
        let mut next = || match lives.next(&ExitStatus::from_raw(KILLED), SHORT, false) {
            Next::Start { pause, afresh } => (pause.as_millis(), afresh),
            Next::End(code) => panic!("ended with {code}"),
        };
        let pauses: Vec<_> = (0..5).map(|_| next()).collect();
        assert_eq!(pauses, [(0, false), (100, false), (200, true), (400, true), (800, true)]);
        assert_eq!((0..9).map(|_| next()).last(), Some((5_000, true)));
        assert_eq!(
            lives.next(&ExitStatus::from_raw(KILLED), LONG, false),
            Next::Start { pause: Duration::ZERO, afresh: false }
        );
    }

    #[test]
    fn one_that_ends_has_none() {
        let mut lives = Lives::default();
        assert_eq!(lives.next(&exited(1), SHORT, false), Next::End(1), "it could not start");
        assert_eq!(lives.next(&exited(0), LONG, false), Next::End(0));
        assert_eq!(lives.next(&exited(2), SHORT, false), Next::End(2));
        assert_eq!(lives.next(&exited(130), LONG, true), Next::End(130));
        assert_eq!(lives.next(&ExitStatus::from_raw(KILLED), LONG, true), Next::End(1));
        assert_eq!(lives.next(&ExitStatus::from_raw(SIGTERM), SHORT, true), Next::End(0));
        let next = lives.next(&exited(1), SHORT, false);
        assert!(matches!(next, Next::Start { .. }), "it is not the first");
    }
}
