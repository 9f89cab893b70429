//! What the process before has left, when it was killed: transports of clients that talk on, and
//! what belongs to them. The data cores go on with all of it. Nothing else is known of the rooms:
//! whoever was in one has lost its signaling, comes again, and gets new transports. So what is left
//! belongs to nobody, is steered by nobody, and ends:
//!
//! * of a client, when one of its name has entered the room again;
//! * of one that is silent, when its consent lapses;
//! * all of it, [`LEFT_GRACE`] after the start.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use opencall_dataplane::calls::{CallMemory, Told};
use opencall_dataplane::message::{IceState, TransportId};
use opencall_dataplane::records::Records;
use opencall_wire::time::Time;

use crate::api::SessionId;
use crate::control::{Control, Timer};

/// How long what is left goes on: as long as a session waits for its client. Longer would forward
/// for longer what no host and no administrator can end; shorter would cut off those whose way back
/// takes a while.
pub const LEFT_GRACE: Duration = Duration::from_secs(30);

/// What is left.
#[derive(Default)]
pub(crate) struct Left {
    /// And whose each is.
    transports: BTreeMap<TransportId, u64>,
    /// All ids up to this one are of processes before.
    last_id: u64,
}

impl Control {
    /// Takes up what the process before has left in the memory, and keeps there what the cores are
    /// told from now on. To be called once, before anything else. Returns how many transports there
    /// are.
    pub fn take_up(&mut self, now: Time, memory: CallMemory, told: Told) -> usize {
        self.begin(now);
        let mut records = Records::kept(memory, told);
        records.retain(|core| self.addresses.contains_key(&core));
        let transports = records.transports().map(|(_, id, owner)| (id, owner));
        let transports: BTreeMap<_, _> = transports.collect();
        let count = transports.len();
        self.left = Left { transports, last_id: records.highest_id() };
        self.ids.skip(self.left.last_id);
        let commands = records.replay_all();
        self.keep_records(records, commands);
        match count {
            0 => self.close_left(&BTreeSet::new(), true),
            _ => self.timers.set(Timer::Left, now + LEFT_GRACE),
        }
        count
    }

    /// By what a client is known again in the next process, if there may be one.
    pub(crate) fn client_mark(&self, session: SessionId) -> u64 {
        let peer = self.peers.get(&session).filter(|_| self.outlives_the_process());
        let room = peer.and_then(|peer| self.rooms.get(&peer.room));
        room.zip(peer).map_or(0, |(room, peer)| owner_named(&room.name, &peer.name))
    }

    /// A client is there again.
    pub(crate) fn end_left_of(&mut self, session: SessionId) {
        if self.left.transports.is_empty() {
            return;
        }
        let owner = self.client_mark(session);
        let own = self.left.transports.iter().filter(|(_, of)| **of == owner);
        let own = own.map(|(&id, _)| id).collect();
        self.end_left(&own);
    }

    /// ICE of a transport that is none of ours has moved.
    pub(crate) fn left_moved(&mut self, id: TransportId, state: IceState) {
        if state == IceState::Disconnected {
            self.end_left(&BTreeSet::from([id]));
        }
    }

    /// Nobody else comes back.
    pub(crate) fn left_is_over(&mut self) {
        let all = self.left.transports.keys().copied().collect();
        self.end_left(&all);
    }

    fn end_left(&mut self, ended: &BTreeSet<TransportId>) {
        let before = self.left.transports.len();
        self.left.transports.retain(|id, _| !ended.contains(id));
        let left = self.left.transports.len();
        if left < before {
            self.close_left(ended, left == 0);
        }
        if left == 0 && before > 0 {
            self.timers.cancel(Timer::Left);
            tracing::info!("of the process before nothing is left");
        }
    }
}

fn owner_named(room: &str, peer: &str) -> u64 {
    let named = format!("{}:{room}{peer}", room.len());
    let hash = digest::digest(&SHA256, named.as_bytes());
    let hash = hash.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    hash | 1
}

impl Left {
    /// All ids up to this one are of processes before.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// How many transports.
    pub(crate) fn count(&self) -> usize {
        self.transports.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_apart() {
        let owners = [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", ""), ("a", "b")];
        let hashes: BTreeSet<u64> =
            owners.into_iter().map(|(room, peer)| owner_named(room, peer)).collect();
        assert_eq!(hashes.len(), owners.len());
        assert!(!hashes.contains(&0));
    }
}
