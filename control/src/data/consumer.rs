//! Data consumers: channels as other clients receive them.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use opencall_dataplane::message::{IceState, TransportId};
use opencall_wire::time::Time;

use super::association::DataMessage;
use super::dcep::Opening;
use super::flow::{LAGGARD_TIMEOUT, cost};
use super::producer::DataOrigin;
use super::{DataConsumerId, DataProducerId, MAX_STREAMS, Reliability};
use crate::api::{
    ConsumeMode, DataConsumerOptions, Direction, Notification, RequestError, Response, SessionId,
};
use crate::control::{After, Control, Timer};
use crate::limits::{MAX_DATA_CONSUMERS_PER_PEER, not_allowed, too_many, unknown};

/// One channel towards one client.
pub(crate) struct DataConsumer {
    pub session: SessionId,
    pub transport: TransportId,
    pub producer: DataProducerId,
    pub stream: u16,
    pub how: Reliability,
    pub label: String,
    pub protocol: String,
    pub opening: Opening,
    /// Its producer is gone: it goes when what waits has been sent.
    pub ending: bool,
    /// Offered, and not accepted yet: what comes meanwhile waits.
    pub waiting: bool,
    /// What waits, and since when.
    pub queue: VecDeque<(Time, Arc<DataMessage>)>,
    /// Bytes of it, as [`super::flow`] counts them.
    pub queued: usize,
    /// When something of it was last sent, or the first of what waits came.
    pub progress: Time,
    /// Whether its producer is not read because of it.
    pub is_full: bool,
    pub messages: u64,
    pub bytes: u64,
}

impl Control {
    pub(crate) fn own_data_consumer(
        &self,
        session: SessionId,
        text: &str,
    ) -> Result<DataConsumerId, RequestError> {
        let id = self.ids.number(text).map(DataConsumerId);
        id.filter(|id| self.data.consumers.get(id).is_some_and(|c| c.session == session))
            .ok_or_else(|| unknown("data consumer", text))
    }

    /// The newest transport with SCTP on which a client receives.
    pub(crate) fn receiving_data_transport(&self, session: SessionId) -> Option<TransportId> {
        let receives = |id: &TransportId| {
            let transport = self.transports.get(id);
            transport.is_some_and(|t| t.direction == Direction::Recv && t.takes_data())
        };
        self.peers.get(&session)?.transports.iter().rev().copied().find(receives)
    }

    /// Automatic mode: makes a data consumer and offers it.
    pub(crate) fn offer_data_consumer(
        &mut self,
        session: SessionId,
        transport: TransportId,
        producer: DataProducerId,
    ) {
        match self.create_data_consumer(session, transport, producer, true) {
            Ok(options) => self.notify(session, Notification::NewDataConsumer(Box::new(options))),
            Err(error) => tracing::debug!(session = session.0, "data not offered: {error}"),
        }
    }

    pub(crate) fn consume_data(
        &mut self,
        session: SessionId,
        data_producer_id: &str,
        transport_id: Option<String>,
    ) -> Result<(Response, After), RequestError> {
        let peer = self.peer(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: then consume"));
        }
        peer.grants.check_subscribe()?;
        let producer = self.data_producer_in_room(session, data_producer_id)?;
        let older = peer.data_consumers.get(&producer).copied();
        let transport = match transport_id {
            Some(text) => self.own_transport(session, &text)?,
            None => self.receiving_data_transport(session).ok_or_else(|| {
                not_allowed(
                    "there is no transport with SCTP to receive on: create one, and connect it if \
                     the server is to open its channels",
                )
            })?,
        };
        // Who asks again has lost the first one, or moves it to another transport.
        if let Some(older) = older {
            self.close_data_consumer(older);
        }
        let options = self.create_data_consumer(session, transport, producer, false)?;
        Ok((Response::ConsumedData(Box::new(options)), After::Nothing))
    }

    /// A data producer of another peer of the same room.
    fn data_producer_in_room(
        &self,
        session: SessionId,
        text: &str,
    ) -> Result<DataProducerId, RequestError> {
        let id = self.ids.number(text).map(DataProducerId);
        let room = self.peer(session)?.room;
        let origin = id.and_then(|id| self.data.producers.get(&id)).map(|p| p.origin);
        let in_room = |origin: DataOrigin| match origin {
            DataOrigin::Client { session, .. } => {
                self.peers.get(&session).is_some_and(|owner| owner.room == room)
            }
            DataOrigin::Server(of) => of == room,
        };
        match (id, origin) {
            (_, Some(origin)) if origin.session() == Some(session) => {
                Err(not_allowed("this data producer is your own: consume those of others"))
            }
            (Some(id), Some(origin)) if in_room(origin) => Ok(id),
            _ => Err(unknown("data producer", text)),
        }
    }

    fn create_data_consumer(
        &mut self,
        session: SessionId,
        transport_id: TransportId,
        producer_id: DataProducerId,
        waiting: bool,
    ) -> Result<DataConsumerOptions, RequestError> {
        let gone = || not_allowed("the data producer or the transport was closed meanwhile");
        if self.peer(session)?.data_consumers.len() >= MAX_DATA_CONSUMERS_PER_PEER {
            return Err(too_many("data consumers of a peer", MAX_DATA_CONSUMERS_PER_PEER));
        }
        let origin = self.data.producers.get(&producer_id).ok_or_else(gone)?.origin;
        let peer_id = self.data_owner(origin);
        let queue = self.recent_announcements(session, producer_id);
        let transport = self.transports.get_mut(&transport_id).ok_or_else(gone)?;
        if transport.direction != Direction::Recv {
            let reason = "this transport is for sending: create one of direction \"recv\"";
            return Err(not_allowed(reason));
        }
        let (takes_data, parity) = (transport.takes_data(), transport.own_parity());
        let Some(data) = transport.data.as_mut().filter(|_| takes_data) else {
            return Err(not_allowed(
                "this transport has no SCTP, or is not connected and the server is to open its \
                 channels: create one with sctpCapabilities, and connect it",
            ));
        };
        let streams = || too_many("channels of a transport", usize::from(MAX_STREAMS));
        let producer = self.data.producers.get_mut(&producer_id).ok_or_else(gone)?;
        let stream = data.new_stream(parity).ok_or_else(streams)?;
        let id = DataConsumerId(self.ids.next());
        let options = DataConsumerOptions {
            id: self.ids.text(id.0),
            transport_id: self.ids.text(transport_id.0),
            data_producer_id: self.ids.text(producer_id.0),
            peer_id,
            sctp_stream_parameters: producer.how.parameters(stream),
            label: producer.label.clone(),
            protocol: producer.protocol.clone(),
            app_data: producer.app_data.clone(),
        };
        data.consumers.insert(stream, id);
        let in_band = data.in_band;
        producer.consumers.insert(id);
        let consumer = DataConsumer {
            session,
            transport: transport_id,
            producer: producer_id,
            stream,
            how: producer.how,
            label: producer.label.clone(),
            protocol: producer.protocol.clone(),
            opening: if in_band { Opening::Due } else { Opening::Done },
            ending: false,
            // The client hears of it on its stream, before what is sent there.
            waiting: waiting && !in_band,
            queued: queue.iter().map(|(_, message)| cost(message)).sum(),
            queue,
            progress: self.now,
            is_full: false,
            messages: 0,
            bytes: 0,
        };
        self.data.consumers.insert(id, consumer);
        self.peer_mut(session)?.data_consumers.insert(producer_id, id);
        if in_band || !waiting {
            self.note_backlog(transport_id, id);
        }
        Ok(options)
    }

    /// The client has made its side of an offered data consumer, or refused to.
    pub(crate) fn data_consumer_ready(
        &mut self,
        session: SessionId,
        text: &str,
        accepted: bool,
    ) -> Result<(), RequestError> {
        let id = self.own_data_consumer(session, text)?;
        match accepted {
            true => self.start_data_consumer(id),
            false => self.remove_data_consumer(id),
        }
        Ok(())
    }

    /// Automatic mode: closes data consumers on transports that are without ICE consent, where the
    /// client has a newer one.
    pub(crate) fn close_stranded_data(&mut self, session: SessionId) {
        let Some(peer) = self.peers.get(&session) else { return };
        if peer.mode != ConsumeMode::Automatic {
            return;
        }
        let newest = self.receiving_data_transport(session);
        let is_dead = |id: &&DataConsumerId| {
            let on = self.data.consumers.get(id).map(|consumer| consumer.transport);
            let transport = on.and_then(|on| self.transports.get(&on));
            on != newest && transport.is_some_and(|t| t.ice_state == Some(IceState::Disconnected))
        };
        let dead: Vec<_> = peer.data_consumers.values().filter(is_dead).copied().collect();
        for consumer in dead {
            self.close_data_consumer(consumer);
        }
    }

    /// A data consumer's producer is gone: what waits is sent, if the client takes it in time, and
    /// then it closes.
    pub(super) fn end_data_consumer(&mut self, id: DataConsumerId) {
        // What else its client sends is held up by nobody who is full of this.
        self.release_producer_of(id);
        let Some(consumer) = self.data.consumers.get_mut(&id) else { return };
        let (transport, stream) = (consumer.transport, consumer.stream);
        let is_empty = consumer.queue.is_empty();
        consumer.ending = true;
        let data = self.transport_data(transport);
        let is_silent = data.is_none_or(|data| data.association.buffered(stream) == 0);
        if is_empty && is_silent {
            return self.close_data_consumer(id);
        }
        self.timers.set(Timer::Laggard(id), self.now + LAGGARD_TIMEOUT);
        if self.data.consumers.get(&id).is_some_and(|consumer| !consumer.waiting) {
            self.note_backlog(transport, id);
        }
    }

    /// Forgets a data consumer, and tells its client.
    pub(crate) fn close_data_consumer(&mut self, id: DataConsumerId) {
        let Some(session) = self.data.consumers.get(&id).map(|consumer| consumer.session) else {
            return;
        };
        self.remove_data_consumer(id);
        let data_consumer_id = self.ids.text(id.0);
        self.notify(session, Notification::DataConsumerClosed { data_consumer_id });
    }

    /// Forgets a data consumer, without a word to its client.
    pub(crate) fn remove_data_consumer(&mut self, id: DataConsumerId) {
        self.release_producer_of(id);
        let Some(consumer) = self.data.consumers.remove(&id) else { return };
        self.timers.cancel(Timer::Laggard(id));
        if let Some(data) = self.transport_data(consumer.transport) {
            data.consumers.remove(&consumer.stream);
            data.backlog.retain(|waiting| *waiting != id);
            data.association.reset(consumer.stream);
            self.mark_due(consumer.transport);
        }
        if let Some(producer) = self.data.producers.get_mut(&consumer.producer) {
            producer.consumers.remove(&id);
        }
        if let Some(peer) = self.peers.get_mut(&consumer.session) {
            peer.data_consumers.remove(&consumer.producer);
        }
    }
}
