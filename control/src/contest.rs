//! Two clients that claim to be the same peer.
//!
//! Peer ids are told to everyone in a room, so that knowing one proves nothing: without a proof of
//! identity a newcomer takes the place of an older session only if the older client no longer
//! answers. A page that was reloaded has closed its old connection and waits for nothing; one whose
//! network changed waits for [`CHALLENGE_TIMEOUT`].
//!
//! ```text
//! newcomer ─open─▶ control ─Challenge─▶ older client ─answers──▶ newcomer: PeerIdInUse
//!                                                    └─silent──▶ older: Replaced, newcomer: Opened
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::api::{CloseReason, Output, SessionConfig, SessionId};
use crate::control::{Control, Timer};
use crate::stage;

/// How long an older client may take to show that it is there: several round trips on a bad mobile
/// network. Longer would keep those out who come back from a lost one.
pub const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Newcomers that wait for one older session; further ones are refused at once. A client that comes
/// back retries once or twice within the time-out.
const MAX_NEWCOMERS: usize = 8;

/// Who waits for the place of one session.
pub(crate) struct Contest {
    newcomers: Vec<(SessionId, SessionConfig)>,
    /// Whether that session was in the room when the first of them came.
    is_inside: bool,
}

impl Control {
    /// Opens a session, or lets it wait for an older one of the same peer. Into a locked room only
    /// those come who are in it, on another connection, and hosts.
    pub(crate) fn open(&mut self, config: SessionConfig) -> SessionId {
        let session = SessionId(self.ids.next());
        // Clients take these for slots of the stage, and would show nobody of that name.
        if stage::is_slot_name(&config.peer) {
            self.send_away(session, CloseReason::PeerIdInUse);
            return session;
        }
        let room = self.room_names.get(&config.room).and_then(|room| self.rooms.get(room));
        match room.and_then(|room| room.by_peer.get(&config.peer)).copied() {
            None => self.let_in_or_wait(session, config),
            Some(older) if config.grants.identity_proven => {
                let is_inside = self.is_inside(older);
                self.hand_over(older, |control| {
                    control.close_with(older, CloseReason::Replaced);
                    control.take_place(session, config, is_inside);
                });
            }
            Some(older) => self.contest(older, session, config),
        }
        session
    }

    /// Does what makes one session give way to another. Its room is not empty meanwhile: a lock,
    /// mutes, a recording do not end because the only one there comes by another connection.
    pub(crate) fn hand_over(&mut self, older: SessionId, change: impl FnOnce(&mut Self)) {
        let of_peer = self.peers.get(&older).map(|peer| peer.room);
        let room = of_peer.or_else(|| self.waiting.get(&older).map(|waiting| waiting.room));
        let outer = self.handed_over;
        self.handed_over = room.or(outer);
        change(self);
        self.handed_over = outer;
        if let Some(room) = room {
            self.remove_room_if_empty(room);
        }
    }

    /// Whether a session has its place in the room for good, and whoever takes it over does too.
    /// Who has not entered yet was only on the way.
    fn is_inside(&self, session: SessionId) -> bool {
        self.peers.get(&session).is_some_and(|peer| peer.joined || peer.let_in)
    }

    /// A newcomer takes the place of an older session, which was in the room or on the way.
    fn take_place(&mut self, session: SessionId, config: SessionConfig, is_inside: bool) {
        match is_inside {
            true => self.admit_again(session, config),
            false => self.let_in_or_wait(session, config),
        }
    }

    /// A newcomer waits for the place of an older session, in the room or in front of it.
    pub(crate) fn contest(&mut self, older: SessionId, newcomer: SessionId, config: SessionConfig) {
        let now = self.now;
        let is_inside = self.is_inside(older);
        let contest = self.contests.entry(older).or_insert_with(|| {
            self.timers.set(Timer::Contest(older), now + CHALLENGE_TIMEOUT);
            Contest { newcomers: Vec::new(), is_inside }
        });
        if contest.newcomers.len() >= MAX_NEWCOMERS {
            return self.send_away(newcomer, CloseReason::PeerIdInUse);
        }
        contest.newcomers.push((newcomer, config));
        if contest.newcomers.len() == 1 {
            self.output(Output::Challenge { session: older });
        }
    }

    /// The client of a challenged session is there: whoever claims its name is not let in.
    pub(crate) fn challenge_held(&mut self, older: SessionId) {
        let Some(contest) = self.contests.remove(&older) else { return };
        self.timers.cancel(Timer::Contest(older));
        for (session, _) in contest.newcomers {
            self.send_away(session, CloseReason::PeerIdInUse);
        }
    }

    /// The client of a challenged session has not answered.
    pub(crate) fn challenge_lost(&mut self, older: SessionId) {
        self.close_with(older, CloseReason::Replaced);
    }

    /// A session is gone: of those who waited for its place the last one gets it.
    pub(crate) fn settle_contest(&mut self, older: SessionId) {
        let Some(mut contest) = self.contests.remove(&older) else { return };
        self.timers.cancel(Timer::Contest(older));
        let Some((session, config)) = contest.newcomers.pop() else { return };
        for (session, _) in contest.newcomers {
            self.send_away(session, CloseReason::PeerIdInUse);
        }
        self.take_place(session, config, contest.is_inside);
    }

    /// A newcomer that waits has gone away.
    pub(crate) fn leave_contest(&mut self, newcomer: SessionId) {
        let waits = |contest: &Contest| contest.newcomers.iter().any(|(id, _)| *id == newcomer);
        let found = self.contests.iter_mut().find(|(_, contest)| waits(contest));
        let Some((&older, contest)) = found else { return };
        contest.newcomers.retain(|(id, _)| *id != newcomer);
        if contest.newcomers.is_empty() {
            self.contests.remove(&older);
            self.timers.cancel(Timer::Contest(older));
        }
    }

    /// Closes a session that never was opened.
    pub(crate) fn send_away(&mut self, session: SessionId, reason: CloseReason) {
        self.output(Output::Close { session, reason, by: None });
    }

    /// Everyone who waits is sent away: the server stops.
    pub(crate) fn close_contests(&mut self) {
        for older in self.contests.keys().copied().collect::<Vec<_>>() {
            self.timers.cancel(Timer::Contest(older));
            let newcomers = self.contests.remove(&older).map(|contest| contest.newcomers);
            for (session, _) in newcomers.unwrap_or_default() {
                self.send_away(session, CloseReason::Shutdown);
            }
        }
    }
}
