//! What hosts do in their own room: mute, remove, lock, let in.
//!
//! A host is a participant whose token grants `roomAdmin`. It acts by the same functions as an
//! administrator, within its room, and on nobody who is hidden: of those it is told nothing.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::admin::MuteTarget;
use crate::api::{CloseReason, RequestError, SessionConfig, SessionId};
use crate::control::Control;
use crate::limits::{malformed, not_allowed, not_found};
use crate::room::{Room, RoomId};

/// What a host asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAction {
    /// Mute or unmute. What is muted is not forwarded, and its client cannot resume it.
    Mute {
        /// Whom.
        peer_id: String,
        /// What of it.
        what: MuteTarget,
        /// Mute, or unmute.
        muted: bool,
    },
    /// Close a participant's connection.
    Remove {
        /// Whose.
        peer_id: String,
    },
    /// Let nobody else in but hosts, or again everyone.
    Lock {
        /// Lock, or unlock.
        locked: bool,
        /// Whether newcomers wait for a host instead of being refused.
        waiting_room: bool,
    },
    /// Let someone in who waits.
    Admit {
        /// Whom.
        peer_id: String,
    },
    /// Send someone away who waits.
    Deny {
        /// Whom.
        peer_id: String,
    },
}

impl HostAction {
    /// For the audit: the action, on whom, and what of it.
    fn describe(&self) -> (&'static str, &str, &str) {
        match self {
            HostAction::Mute { peer_id, what, muted } => {
                let what = match what {
                    MuteTarget::Producer(id) => id.as_str(),
                    MuteTarget::Source(source) => source.label(),
                };
                (if *muted { "mute" } else { "unmute" }, peer_id, what)
            }
            HostAction::Remove { peer_id } => ("remove", peer_id, ""),
            HostAction::Lock { locked: false, .. } => ("unlock", "", ""),
            HostAction::Lock { waiting_room: true, .. } => ("lock", "", "waiting room"),
            HostAction::Lock { .. } => ("lock", "", ""),
            HostAction::Admit { peer_id } => ("admit", peer_id, ""),
            HostAction::Deny { peer_id } => ("deny", peer_id, ""),
        }
    }
}

/// Who acts.
struct Host {
    room: RoomId,
    name: Arc<str>,
    /// What those concerned are told of it: nothing of who is hidden.
    by: Option<Arc<str>>,
}

impl Control {
    /// Whether whoever comes with this is a host of a room.
    pub(crate) fn is_host(&self, room: &Room, config: &SessionConfig) -> bool {
        let is_first = !config.grants.identity_proven && *room.first == *config.peer;
        config.grants.admin || self.config.dev_hosts && is_first
    }

    pub(crate) fn act_as_host(
        &mut self,
        session: SessionId,
        action: &HostAction,
    ) -> Result<(), RequestError> {
        let peer = self.peer(session)?;
        peer.grants.check_host()?;
        if !peer.joined {
            return Err(not_allowed("join first: hosts act in the room that they are in"));
        }
        let name = Arc::clone(&peer.name);
        let by = (!peer.grants.hidden).then(|| Arc::clone(&name));
        let host = Host { room: peer.room, name, by };
        let result = self.act(&host, action);
        self.audit(&host, action, &result);
        result
    }

    fn act(&mut self, host: &Host, action: &HostAction) -> Result<(), RequestError> {
        let by = host.by.clone();
        match action {
            HostAction::Mute { peer_id, what, muted } => {
                let target = self.visible(host, peer_id)?;
                self.mute_member(host.room, target, what, *muted, by).map(|_| ())
            }
            HostAction::Remove { peer_id } => {
                if **peer_id == *host.name {
                    return Err(malformed("peer: this is you; leave the room instead"));
                }
                let target = self.visible(host, peer_id)?;
                self.expel(target, CloseReason::RemovedByHost, by);
                Ok(())
            }
            HostAction::Lock { locked, waiting_room } => {
                self.lock_room(host.room, *locked, *waiting_room, by);
                Ok(())
            }
            HostAction::Admit { peer_id } => {
                let waiting = self.who_waits(host, peer_id)?;
                self.admit_waiting(waiting, by);
                Ok(())
            }
            HostAction::Deny { peer_id } => {
                let waiting = self.who_waits(host, peer_id)?;
                self.deny_waiting(waiting, by);
                Ok(())
            }
        }
    }

    /// A participant of the host's room that it knows of.
    fn visible(&self, host: &Host, name: &str) -> Result<SessionId, RequestError> {
        let session = self.rooms.get(&host.room).and_then(|room| room.by_peer.get(name));
        let is_visible = |id: &&SessionId| {
            let peer = self.peers.get(id);
            peer.is_some_and(|peer| !peer.grants.hidden || *peer.name == *host.name)
        };
        session.filter(is_visible).copied().ok_or_else(|| nobody("is in this room", name))
    }

    fn who_waits(&self, host: &Host, name: &str) -> Result<SessionId, RequestError> {
        self.waiting_called(host.room, name).ok_or_else(|| nobody("waits for this room", name))
    }

    /// Writes down what was done, or tried.
    fn audit(&self, host: &Host, action: &HostAction, result: &Result<(), RequestError>) {
        let (action, participant, what) = action.describe();
        let room = self.rooms.get(&host.room).map_or("", |room| room.name.as_str());
        let result = result.as_ref().map_or_else(|error| error.reason.as_str(), |()| "done");
        tracing::info!(
            target: "opencall_audit",
            host = &*host.name,
            action,
            room,
            participant,
            what,
            result,
            "a host acts"
        );
    }
}

/// Refuses an action on someone who is not there.
pub(crate) fn nobody(where_: &str, name: &str) -> RequestError {
    let name: String = name.chars().take(64).collect();
    not_found(format!("nobody called \"{name}\" {where_}"))
}
