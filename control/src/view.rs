//! Views: what whoever watches a room from outside is shown (WHEP). Such a client describes itself
//! once and takes so many voices and pictures; whom it hears and sees changes, and it is told
//! nothing. So each view is a producer of its own, as a slot of the stage is, and carries one
//! source at a time: that of who has the floor, or of one participant, whenever it is there.
//!
//! ```text
//! who has the floor ──▶ view (speaker, 0) ─┐
//! who is left       ──▶ view (speaker, 1) ─┼─▶ all who watch that
//! "anna", camera    ──▶ view (anna)       ─┘
//! ```
//!
//! A view is made for the first who watches it and ends with the last.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::sync::Arc;

use opencall_dataplane::message::ProducerId;

use crate::api::{JsonObject, RequestError, Response, SessionId, Source, ViewOf};
use crate::control::Control;
use crate::limits::{not_found, too_many};
use crate::room::{Room, RoomId};
use crate::rtp_parameters::Kind;
use crate::stage::{Seat, Slot};

/// Views of one room at most: each copies a stream, and who watches from outside chooses which.
const MAX_VIEWS: usize = 32;

/// A view of a room.
pub(crate) struct View {
    of: ViewOf,
    pub slot: Slot,
    watchers: BTreeSet<SessionId>,
}

impl View {
    fn is(&self, of: &ViewOf, kind: Kind) -> bool {
        self.of == *of && self.slot.kind() == kind
    }
}

impl Control {
    /// The producer by which a client watches the room it is about to enter.
    pub(crate) fn view(
        &mut self,
        session: SessionId,
        of: ViewOf,
        kind: Kind,
    ) -> Result<Response, RequestError> {
        let peer = self.peer(session)?;
        peer.grants.check_subscribe()?;
        let id = peer.room;
        let room = self.rooms.get(&id).filter(|room| room.members.iter().any(|m| *m != session));
        let Some(room) = room else { return Err(not_found("nobody is in this room".to_owned())) };
        if let ViewOf::Participant { peer_id, .. } = &of
            && !room.by_peer.contains_key(peer_id)
        {
            return Err(not_found(format!("no participant \"{peer_id}\" is in this room")));
        }
        let known = room.views.iter().position(|view| view.is(&of, kind));
        let index = match known {
            Some(index) => index,
            None => self.make_view(id, of, kind)?,
        };
        let view = self.rooms.get_mut(&id).and_then(|room| room.views.get_mut(index));
        let Some(view) = view else { return Err(not_found("the room was closed".to_owned())) };
        view.watchers.insert(session);
        let producer = view.slot.producer();
        self.review_views(id);
        Ok(Response::Viewed {
            producer_id: self.ids.text(producer.0),
            sources: self.sending_in(id),
        })
    }

    fn make_view(&mut self, id: RoomId, of: ViewOf, kind: Kind) -> Result<usize, RequestError> {
        let count = self.rooms.get(&id).map_or(0, |room| room.views.len());
        if count >= MAX_VIEWS {
            return Err(too_many("views of a room", MAX_VIEWS));
        }
        let seat = Seat { room: id, peer: Arc::from("view") };
        // All of a room are of one clock.
        let cname = format!("view-{}", self.ids.text(id.0));
        let producer = self.make_stage_producer(kind, seat, JsonObject::default(), &cname);
        let Some(producer) = producer else {
            return Err(not_found("this server has no codec for it".to_owned()));
        };
        let slot = Slot::new(kind, producer, self.now);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.views.push(View { of, slot, watchers: BTreeSet::new() });
        }
        Ok(count)
    }

    /// How many producers of a room's members are sending.
    fn sending_in(&self, id: RoomId) -> usize {
        let Some(room) = self.rooms.get(&id) else { return 0 };
        let peers = room.members.iter().filter_map(|session| self.peers.get(session));
        peers.flat_map(|peer| &peer.producers).filter(|id| self.is_sending(**id)).count()
    }

    /// Who watched is gone, and views that nobody watches any more with it.
    pub(crate) fn leave_views(&mut self, id: RoomId, session: SessionId) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        for view in &mut room.views {
            view.watchers.remove(&session);
        }
        for view in room.views.extract_if(.., |view| view.watchers.is_empty()).collect::<Vec<_>>() {
            self.end_slot(&view.slot, &[]);
        }
    }

    /// Decides anew what each view shows.
    pub(crate) fn review_views(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id).filter(|room| !room.views.is_empty()) else { return };
        let mut order: Vec<&View> = room.views.iter().collect();
        order.sort_by_key(|view| view.of.rank());
        let (mut taken, mut changes) = (Vec::new(), Vec::new());
        for view in order {
            let wanted = self.wanted_of(room, view, &taken);
            let is_speaker = matches!(view.of, ViewOf::Speaker { .. });
            taken.extend(wanted.filter(|_| is_speaker));
            if wanted != view.slot.source() {
                changes.push((view.slot.producer(), wanted));
            }
        }
        for (producer, source) in changes {
            self.put(producer, source);
        }
    }

    /// What a view should show, of what those before it do not.
    fn wanted_of(&self, room: &Room, view: &View, taken: &[ProducerId]) -> Option<ProducerId> {
        let (slot, kind) = (&view.slot, view.slot.kind());
        let is_free = |id: &ProducerId| {
            !taken.contains(id) && self.is_sending(*id) && !slot.has_refused(self.now, *id)
        };
        let rank = match &view.of {
            ViewOf::Participant { peer_id, source } => {
                let session = room.by_peer.get(peer_id)?;
                return self.sent_by(session, *source).filter(is_free);
            }
            ViewOf::Speaker { rank } => *rank,
        };
        let (screen, face) = match kind {
            Kind::Audio => (Source::ScreenShareAudio, Source::Microphone),
            Kind::Video => (Source::ScreenShare, Source::Camera),
        };
        let of = |source: Source| {
            room.members.iter().filter_map(move |session| self.sent_by(session, source))
        };
        let holder = room.speakers.dominant().filter(|_| rank == 0);
        let held = holder.and_then(|id| self.producers.get(&id)).map(|of| of.session);
        let shared = held.and_then(|session| self.sent_by(&session, screen));
        let shared = shared.filter(|_| kind == Kind::Video);
        let spoken = match kind {
            Kind::Audio => holder,
            Kind::Video => held.and_then(|session| self.sent_by(&session, face)),
        };
        let present = slot.source();
        let first = shared.into_iter().chain(spoken).chain(present);
        match kind {
            Kind::Audio => first.chain(of(face)).chain(of(screen)).find(is_free),
            Kind::Video => first.chain(of(screen)).chain(of(face)).find(is_free),
        }
    }

    /// What someone sends of that source now, unless it is encrypted end to end.
    pub(crate) fn sent_by(&self, session: &SessionId, source: Source) -> Option<ProducerId> {
        let producers = self.peers.get(session).map_or(&[][..], |peer| &peer.producers);
        let shows = |id: &ProducerId| {
            let of = self.producers.get(id);
            let is_it = of.is_some_and(|of| of.source() == source && !of.is_encrypted());
            self.is_sending(*id) && is_it
        };
        producers.iter().copied().find(shows)
    }
}
