//! Channels opened in SCTP itself (RFC 8832): what plain peer connections do, and signaling clients
//! that ask for it.
//!
//! A client's OPEN makes a data producer, as a request would. On a transport made with
//! [`SctpMode::InBand`] the server opens the channels of its data consumers so; their streams have
//! the parity of its DTLS role.
#![forbid(unsafe_code)]

use opencall_dataplane::message::TransportId;
use opencall_wire::dcep::{ACK, Dcep, Effort, Open};

use super::producer::NewDataProducer;
use super::{DataConsumerId, DataDrop, Reliability};
use crate::api::{Direction, DtlsRole, JsonObject, RequestError, SctpMode};
use crate::control::Control;
use crate::limits::{malformed, not_allowed};

/// RFC 8831 section 6.4: all channels are served alike.
const NORMAL_PRIORITY: u16 = 256;

/// How far the opening of a data consumer's channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Its client knows of it.
    Done,
    /// OPEN is to be sent.
    Due,
    /// OPEN was sent. Until an answer comes messages are sent in order, or one might come before
    /// it (RFC 8832 section 6).
    Sent,
}

impl Control {
    /// A message of DCEP came.
    pub(super) fn dcep_message(&mut self, transport: TransportId, stream: u16, bytes: &[u8]) {
        let refused = match Dcep::parse(bytes) {
            Some(Dcep::Ack) => return self.channel_confirmed(transport, stream),
            Some(Dcep::Open(open)) => self.channel_opened(transport, stream, &open),
            None => Err(malformed("a message of DCEP that is none")),
        };
        let Err(error) = refused else { return };
        tracing::debug!(transport = transport.0, stream, "no data channel: {error}");
        self.data.drops.count(DataDrop::DcepRefused);
        self.refuse_channel(transport, stream);
    }

    /// RFC 8832 section 6: what is in error is closed. A channel that stands is nobody's error but
    /// its client's, and goes with it.
    fn refuse_channel(&mut self, transport: TransportId, stream: u16) {
        let Some(data) = self.transport_data(transport) else { return };
        match (data.producers.get(&stream).copied(), data.consumers.get(&stream).copied()) {
            (Some(producer), _) => self.remove_data_producer(producer),
            (None, Some(consumer)) => self.close_data_consumer(consumer),
            (None, None) => data.association.reset(stream),
        }
    }

    fn channel_opened(
        &mut self,
        id: TransportId,
        stream: u16,
        open: &Open<'_>,
    ) -> Result<(), RequestError> {
        let gone = || not_allowed("the transport was closed");
        let transport = self.transports.get(&id).ok_or_else(gone)?;
        let data = transport.data.as_ref().ok_or_else(gone)?;
        let session = transport.session;
        if transport.direction != Direction::Send && !data.in_band {
            return Err(not_allowed("this transport is for receiving"));
        }
        if stream % 2 == transport.own_parity() {
            return Err(malformed("a stream of the server's parity"));
        }
        if data.consumers.contains_key(&stream) {
            return Err(malformed("a stream in use"));
        }
        let producer = self.create_data_producer(NewDataProducer {
            session,
            transport: id,
            stream,
            how: Reliability::of_open(open),
            label: open.label.to_owned(),
            protocol: open.protocol.to_owned(),
            app_data: JsonObject::default(),
        })?;
        if let Some(data) = self.transport_data(id) {
            data.confirmations.insert(stream);
            self.mark_due(id);
        }
        self.offer_data_producer(producer);
        Ok(())
    }

    /// The client has taken a channel that we opened: by ACK, or by a message on it.
    pub(super) fn channel_confirmed(&mut self, transport: TransportId, stream: u16) {
        let consumer = self.transport_data(transport).and_then(|d| d.consumers.get(&stream));
        let Some(id) = consumer.copied() else { return };
        if let Some(consumer) = self.data.consumers.get_mut(&id)
            && consumer.opening == Opening::Sent
        {
            consumer.opening = Opening::Done;
        }
    }

    /// Sends the ACKs that are due, as many as there is room for.
    pub(super) fn confirm_channels(&mut self, id: TransportId) {
        let Some(data) = self.transport_data(id) else { return };
        while let Some(&stream) = data.confirmations.first()
            && data.association.send_dcep(stream, ACK.to_vec())
        {
            data.confirmations.remove(&stream);
        }
    }

    /// Sends a data consumer's OPEN; `false` if there is no room for it now.
    pub(super) fn open_channel(&mut self, transport: TransportId, id: DataConsumerId) -> bool {
        let Some(consumer) = self.data.consumers.get(&id) else { return false };
        let stream = consumer.stream;
        let open = Open {
            ordered: consumer.how.ordered,
            effort: consumer.how.effort(),
            priority: NORMAL_PRIORITY,
            label: &consumer.label,
            protocol: &consumer.protocol,
        };
        let Some(bytes) = open.to_bytes() else { return false };
        let Some(data) = self.transport_data(transport) else { return false };
        let is_sent = data.association.send_dcep(stream, bytes);
        if is_sent && let Some(consumer) = self.data.consumers.get_mut(&id) {
            consumer.opening = Opening::Sent;
        }
        is_sent
    }
}

impl crate::transport::Transport {
    /// RFC 8832 section 6: the DTLS client opens even streams, the server odd ones.
    pub(crate) fn own_parity(&self) -> u16 {
        match self.peer_role() {
            Some(DtlsRole::Server) => 0,
            _ => 1,
        }
    }

    /// Whether channels can be opened towards the client: where the server numbers them, it has to
    /// know its DTLS role.
    pub(crate) fn takes_data(&self) -> bool {
        let in_band = self.data.as_ref().map(|data| data.in_band);
        in_band == Some(false) || in_band == Some(true) && self.peer_role().is_some()
    }
}

impl Reliability {
    fn of_open(open: &Open<'_>) -> Self {
        // What 16 bits cannot hold is a minute of sending again and again.
        let bounded = |limit: u32| Some(u16::try_from(limit).unwrap_or(u16::MAX));
        let (max_retransmits, max_packet_life_time_ms) = match open.effort {
            Effort::Reliable => (None, None),
            Effort::Retransmits(times) => (bounded(times), None),
            Effort::LifetimeMs(ms) => (None, bounded(ms)),
        };
        Reliability { ordered: open.ordered, max_packet_life_time_ms, max_retransmits }
    }

    fn effort(self) -> Effort {
        match (self.max_retransmits, self.max_packet_life_time_ms) {
            (Some(times), _) => Effort::Retransmits(times.into()),
            (None, Some(ms)) => Effort::LifetimeMs(ms.into()),
            (None, None) => Effort::Reliable,
        }
    }
}

impl SctpMode {
    /// Whether there is an association at all.
    pub(crate) fn is_on(self) -> bool {
        self != SctpMode::Off
    }
}
