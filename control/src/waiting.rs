//! The waiting room of a locked room: who comes waits outside until a host lets it in.
//!
//! ```text
//! newcomer ─open─▶ control ─Waiting─▶ newcomer           host ─admit─▶ newcomer: Admitted, inside
//!                          └─PeerWaiting─▶ hosts              └─deny──▶ newcomer: NotAdmitted
//! ```
//!
//! Whoever waits has a session and nothing else: no transport, no place in the room. Of what it
//! asks the few requests that clients begin with are kept and served once it is inside. The room
//! stays while someone waits, and with it its lock: when its last host has lost the connection,
//! those who wait do not find an open door.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    CloseReason, Notification, Output, Request, Response, SessionConfig, SessionId, Token,
};
use crate::control::{Control, Timer};
use crate::limits::{MAX_DISPLAY_NAME_BYTES, not_allowed};
use crate::room::RoomId;

/// How long anyone waits: as long as people wait for someone who is late. The connection of one
/// that nobody looks after is not kept for ever.
pub const WAITING_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Who may wait for one room; others are refused as by a room without a waiting room. Hosts could
/// not look through more.
pub const MAX_WAITING: usize = 100;

/// Requests that are kept for one who waits: clients ask for two transports and to enter.
const MAX_HELD: usize = 8;

/// Someone outside.
pub(crate) struct Waiting {
    pub room: RoomId,
    pub name: Arc<str>,
    config: SessionConfig,
    /// What it has asked, in order.
    held: Vec<(Token, Request)>,
}

impl Waiting {
    /// The name that hosts see: the token's, else what the client says, else its id.
    fn display_name(&self) -> String {
        let Waiting { config, .. } = self;
        let said = config.grants.display_name.as_ref().or(config.display_name.as_ref());
        said.filter(|name| !name.is_empty()).unwrap_or(&config.peer).clone()
    }
}

impl Control {
    /// Gives a session its place in its room, or lets it wait outside, or refuses it.
    pub(crate) fn let_in_or_wait(&mut self, session: SessionId, config: SessionConfig) {
        let found = self.room_names.get(&config.room).copied();
        let room = found.and_then(|id| Some((id, self.rooms.get(&id)?)));
        match room {
            Some((id, room)) if room.locked && !self.is_host(room, &config) => {
                let has_place = room.waiting_room && room.waiting.len() < MAX_WAITING;
                match config.can_wait && has_place {
                    true => self.wait_outside(session, id, config),
                    false => self.send_away(session, CloseReason::RoomLocked),
                }
            }
            _ => self.admit(session, config),
        }
    }

    fn wait_outside(&mut self, session: SessionId, room: RoomId, config: SessionConfig) {
        if let Some(older) = self.waiting_called(room, &config.peer) {
            if !config.grants.identity_proven {
                return self.contest(older, session, config);
            }
            self.close_with(older, CloseReason::Replaced);
        }
        let name = Arc::from(config.peer.as_str());
        self.waiting.insert(session, Waiting { room, name, config, held: Vec::new() });
        if let Some(room) = self.rooms.get_mut(&room) {
            room.waiting.insert(session);
        }
        self.timers.set(Timer::Waiting(session), self.now + WAITING_TIMEOUT);
        self.output(Output::Opened { session });
        self.notify(session, Notification::Waiting);
        self.tell_hosts_who_waits(session);
    }

    /// Who waits for a room under that name.
    pub(crate) fn waiting_called(&self, room: RoomId, name: &str) -> Option<SessionId> {
        let called =
            |id: &&SessionId| self.waiting.get(id).is_some_and(|waiting| *waiting.name == *name);
        self.rooms.get(&room)?.waiting.iter().find(called).copied()
    }

    /// A request of one who waits: kept, or answered, or refused.
    pub(crate) fn hold(&mut self, session: SessionId, token: Token, request: Request) {
        if request == Request::RouterRtpCapabilities {
            let capabilities = Arc::clone(&self.router);
            let answer = Response::RouterRtpCapabilities(capabilities);
            return self.answer(session, token, Ok(answer));
        }
        let Some(waiting) = self.waiting.get_mut(&session) else { return };
        let said = match &request {
            Request::Join { display_name, .. } => Some(Some(display_name)),
            Request::SetRtpCapabilities { display_name, .. } => Some(display_name.as_ref()),
            Request::CreateTransport { .. } => None,
            _ => {
                let reason = "not in the room yet: wait until a host lets you in";
                return self.answer(session, token, Err(not_allowed(reason)));
            }
        };
        if waiting.held.len() >= MAX_HELD {
            let reason = "too much is asked before a host has let you in: wait for the answers";
            return self.answer(session, token, Err(not_allowed(reason)));
        }
        let before = waiting.display_name();
        let said = said.flatten().filter(|name| name.len() <= MAX_DISPLAY_NAME_BYTES);
        if let Some(name) = said {
            waiting.config.display_name = Some(name.clone());
        }
        let is_news = waiting.display_name() != before;
        waiting.held.push((token, request));
        if is_news {
            self.tell_hosts_who_waits(session);
        }
    }

    /// Lets one in: it has its place now, and what it has asked is served.
    pub(crate) fn admit_waiting(&mut self, session: SessionId, by: Option<Arc<str>>) {
        let Some(Waiting { room, name, config, held }) = self.stop_waiting(session) else { return };
        if self.rooms.get(&room).is_some_and(|room| room.by_peer.contains_key(&*name)) {
            // A host under the same name has come meanwhile.
            self.send_away(session, CloseReason::PeerIdInUse);
            return self.settle_contest(session);
        }
        self.give_place(session, config);
        self.let_in(session);
        self.notify(session, Notification::Admitted { by });
        for (token, request) in held {
            self.serve(session, token, request);
        }
    }

    /// Sends one away.
    pub(crate) fn deny_waiting(&mut self, session: SessionId, by: Option<Arc<str>>) {
        self.close_by(session, CloseReason::NotAdmitted, by);
    }

    /// Lets everyone in, or sends everyone away.
    pub(crate) fn empty_waiting_room(
        &mut self,
        room: RoomId,
        admitted: bool,
        by: Option<&Arc<str>>,
    ) {
        let Some(found) = self.rooms.get(&room) else { return };
        for session in found.waiting.iter().copied().collect::<Vec<_>>() {
            match admitted {
                true => self.admit_waiting(session, by.cloned()),
                false => self.close_with(session, CloseReason::RoomLocked),
            }
        }
    }

    /// One waits no more; nothing if it did not.
    pub(crate) fn stop_waiting(&mut self, session: SessionId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&session)?;
        self.timers.cancel(Timer::Waiting(session));
        if let Some(room) = self.rooms.get_mut(&waiting.room) {
            room.waiting.remove(&session);
        }
        for host in self.hosts_of(waiting.room) {
            let peer_id = Arc::clone(&waiting.name);
            self.notify(host, Notification::PeerWaitingEnded { peer_id });
        }
        Some(waiting)
    }

    /// Tells a host that has just entered who waits.
    pub(crate) fn tell_of_waiting(&mut self, host: SessionId) {
        let Some(peer) = self.peers.get(&host).filter(|peer| peer.grants.admin) else { return };
        let Some(room) = self.rooms.get(&peer.room) else { return };
        let waiting = room.waiting.iter().filter_map(|session| self.waiting.get(session));
        let news: Vec<Notification> = waiting.map(peer_waiting).collect();
        for news in news {
            self.notify(host, news);
        }
    }

    fn tell_hosts_who_waits(&mut self, session: SessionId) {
        let Some(waiting) = self.waiting.get(&session) else { return };
        let (room, news) = (waiting.room, peer_waiting(waiting));
        for host in self.hosts_of(room) {
            self.notify(host, news.clone());
        }
    }

    fn hosts_of(&self, room: RoomId) -> Vec<SessionId> {
        let Some(room) = self.rooms.get(&room) else { return Vec::new() };
        let is_host = |id: &SessionId| self.peers.get(id).is_some_and(|peer| peer.grants.admin);
        room.members.iter().copied().filter(is_host).collect()
    }
}

fn peer_waiting(waiting: &Waiting) -> Notification {
    let display_name = waiting.display_name();
    Notification::PeerWaiting { peer_id: Arc::clone(&waiting.name), display_name }
}
