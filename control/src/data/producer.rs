//! Data producers: channels that clients send on.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::sync::Arc;

use opencall_dataplane::message::TransportId;

use super::{DataConsumerId, DataProducerId, MAX_STREAMS, Reliability, check_label};
use crate::api::{
    ConsumeMode, JsonObject, Notification, RequestError, Response, SctpStreamParameters, SessionId,
};
use crate::control::{After, Control};
use crate::limits::{
    MAX_APP_DATA_BYTES, MAX_DATA_PRODUCERS_PER_PEER, check_json, malformed, not_allowed, too_many,
    unknown,
};
use crate::room::RoomId;

/// Where a data producer's messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataOrigin {
    /// A channel of a client, towards us.
    Client { session: SessionId, transport: TransportId, stream: u16 },
    /// The server itself, to this room.
    Server(RoomId),
}

impl DataOrigin {
    pub fn session(self) -> Option<SessionId> {
        match self {
            DataOrigin::Client { session, .. } => Some(session),
            DataOrigin::Server(_) => None,
        }
    }

    pub fn transport(self) -> Option<TransportId> {
        match self {
            DataOrigin::Client { transport, .. } => Some(transport),
            DataOrigin::Server(_) => None,
        }
    }
}

/// One channel towards the others of a room.
pub(crate) struct DataProducer {
    pub origin: DataOrigin,
    pub how: Reliability,
    pub label: String,
    pub protocol: String,
    pub app_data: JsonObject,
    pub consumers: BTreeSet<DataConsumerId>,
    pub messages: u64,
    pub bytes: u64,
}

/// A data producer that is to be.
pub(crate) struct NewDataProducer {
    pub session: SessionId,
    pub transport: TransportId,
    pub stream: u16,
    pub how: Reliability,
    pub label: String,
    pub protocol: String,
    pub app_data: JsonObject,
}

/// A channel as its client asks for it.
pub(crate) struct DataProducerRequest {
    pub transport_id: String,
    pub parameters: SctpStreamParameters,
    pub label: String,
    pub protocol: String,
    pub app_data: JsonObject,
}

impl Control {
    pub(crate) fn own_data_producer(
        &self,
        session: SessionId,
        text: &str,
    ) -> Result<DataProducerId, RequestError> {
        let id = self.ids.number(text).map(DataProducerId);
        id.filter(|id| {
            self.data.producers.get(id).is_some_and(|p| p.origin.session() == Some(session))
        })
        .ok_or_else(|| unknown("data producer", text))
    }

    pub(crate) fn produce_data(
        &mut self,
        session: SessionId,
        request: DataProducerRequest,
    ) -> Result<(Response, After), RequestError> {
        let transport = self.sending_transport(session, &request.transport_id)?;
        let id = self.create_data_producer(NewDataProducer {
            session,
            transport,
            stream: request.parameters.stream_id,
            how: Reliability::of(&request.parameters)?,
            label: request.label,
            protocol: request.protocol,
            app_data: request.app_data,
        })?;
        let data_producer_id = self.ids.text(id.0);
        Ok((Response::ProducedData { data_producer_id }, After::ProducedData(id)))
    }

    /// Makes a data producer, if its client may have it.
    pub(super) fn create_data_producer(
        &mut self,
        new: NewDataProducer,
    ) -> Result<DataProducerId, RequestError> {
        let peer = self.peer(new.session)?;
        if !peer.joined {
            return Err(not_allowed("join first: then produce"));
        }
        peer.grants.check_data()?;
        if peer.data_producers.len() >= MAX_DATA_PRODUCERS_PER_PEER {
            return Err(too_many("data producers of a peer", MAX_DATA_PRODUCERS_PER_PEER));
        }
        check_label("label", &new.label)?;
        check_label("protocol", &new.protocol)?;
        check_json("appData", &new.app_data, MAX_APP_DATA_BYTES)?;
        if new.stream >= MAX_STREAMS {
            return Err(malformed(format!("streamId must be below {MAX_STREAMS}")));
        }
        let Some(transport) = self.transports.get_mut(&new.transport) else {
            return Err(not_allowed("the transport was closed: create another"));
        };
        let Some(data) = transport.data.as_mut() else {
            let reason = "this transport has no SCTP: create one with sctpCapabilities";
            return Err(not_allowed(reason));
        };
        if data.producers.contains_key(&new.stream) {
            let reason = format!(
                "stream {} is in use on this transport: close the data producer that has it",
                new.stream
            );
            return Err(malformed(reason));
        }
        let id = DataProducerId(self.ids.next());
        data.producers.insert(new.stream, id);
        self.peer_mut(new.session)?.data_producers.push(id);
        let NewDataProducer { session, transport, stream, how, label, protocol, app_data } = new;
        let (consumers, messages, bytes) = (BTreeSet::new(), 0, 0);
        let origin = DataOrigin::Client { session, transport, stream };
        #[rustfmt::skip]
        let producer = DataProducer {
            origin, how, label, protocol, app_data, consumers, messages, bytes,
        };
        self.data.producers.insert(id, producer);
        Ok(id)
    }

    /// Offers a new data producer to everyone else in the room.
    pub(crate) fn offer_data_producer(&mut self, id: DataProducerId) {
        let Some(origin) = self.data.producers.get(&id).map(|producer| producer.origin) else {
            return;
        };
        for other in self.listeners_to(origin) {
            self.offer_data(other, id);
        }
    }

    /// The members of the room that may hear a data producer: all but its owner.
    pub(super) fn listeners_to(&self, origin: DataOrigin) -> Vec<SessionId> {
        match origin {
            DataOrigin::Client { session, .. } => match self.peers.get(&session) {
                Some(peer) => self.members_but(peer.room, session),
                None => Vec::new(),
            },
            DataOrigin::Server(room) => {
                let room = self.rooms.get(&room);
                room.map(|room| room.members.iter().copied().collect()).unwrap_or_default()
            }
        }
    }

    /// Offers every data producer of the room to a client.
    pub(crate) fn offer_existing_data(&mut self, session: SessionId) {
        let Some(room) = self.peers.get(&session).map(|peer| peer.room) else { return };
        let of_server = self.rooms.get(&room).map(|room| room.announcers.clone());
        for producer in of_server.unwrap_or_default().into_values() {
            self.offer_data(session, producer);
        }
        for other in self.members_but(room, session) {
            let producers = self.peers.get(&other).map(|peer| peer.data_producers.clone());
            for producer in producers.unwrap_or_default() {
                self.offer_data(session, producer);
            }
        }
    }

    /// Offers one data producer to one client, in the client's way, once it has a transport with
    /// SCTP to receive it on.
    pub(super) fn offer_data(&mut self, session: SessionId, id: DataProducerId) {
        let Some(transport) = self.receiving_data_transport(session) else { return };
        let Some(peer) = self.peers.get(&session).filter(|peer| peer.grants.subscribe) else {
            return;
        };
        if !peer.joined || peer.data_consumers.contains_key(&id) {
            return;
        }
        match peer.mode {
            ConsumeMode::Automatic => self.offer_data_consumer(session, transport, id),
            ConsumeMode::OnRequest => self.notify_data_producer(session, id),
        }
    }

    /// The name of whoever a data producer belongs to.
    pub(super) fn data_owner(&self, origin: DataOrigin) -> Option<Arc<str>> {
        let owner = origin.session().and_then(|session| self.peers.get(&session));
        owner.map(|owner| Arc::clone(&owner.name))
    }

    /// On-request mode: notifies a client of a data producer, once.
    fn notify_data_producer(&mut self, session: SessionId, id: DataProducerId) {
        let Some(producer) = self.data.producers.get(&id) else { return };
        let peer_id = self.data_owner(producer.origin);
        let news = Notification::NewDataProducer {
            peer_id,
            data_producer_id: self.ids.text(id.0),
            label: producer.label.clone(),
            protocol: producer.protocol.clone(),
            app_data: producer.app_data.clone(),
        };
        let Some(peer) = self.peers.get_mut(&session) else { return };
        if peer.notified_data_producers.insert(id) {
            self.notify(session, news);
        }
    }

    /// Forgets a data producer and its consumers, and says so.
    pub(crate) fn remove_data_producer(&mut self, id: DataProducerId) {
        let consumers = self.data.producers.get(&id).map(|producer| producer.consumers.clone());
        for consumer in consumers.into_iter().flatten() {
            self.end_data_consumer(consumer);
        }
        let Some(producer) = self.data.producers.remove(&id) else { return };
        let DataOrigin::Client { session, transport, stream } = producer.origin else { return };
        if let Some(data) = self.transport_data(transport) {
            data.producers.remove(&stream);
            data.confirmations.remove(&stream);
            data.finished.remove(&stream);
            // RFC 8831 section 6.7: a channel is closed when both directions are.
            data.association.reset(stream);
            self.mark_due(transport);
        }
        let Some(peer) = self.peers.get_mut(&session) else { return };
        peer.data_producers.retain(|producer| *producer != id);
        let room = peer.room;
        for other in self.members_but(room, session) {
            let knows =
                self.peers.get_mut(&other).map(|peer| peer.notified_data_producers.remove(&id));
            if knows == Some(true) {
                let data_producer_id = self.ids.text(id.0);
                self.notify(other, Notification::DataProducerClosed { data_producer_id });
            }
        }
    }
}
