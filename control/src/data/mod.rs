//! Data channels: what clients send each other over SCTP inside their transports' DTLS.
//!
//! ```text
//! DTLS ──packet──▶ association ──message──▶ data producer ──Arc──▶ data consumers' queues
//!                                                                        │ flow, a turn at a time
//! DTLS ◀─packet─── association ◀───────────────one copy──────────────────┘
//! ```
//!
//! * `association` — SCTP itself, sans-IO.
//! * `dcep` — channels that are opened in SCTP itself.
//! * `flow` — reads messages, fans them out, and feeds the associations, so much in a turn.
//! * `producer`, `consumer` — what clients ask for, and whom it is offered to.
//! * `server` — what the server itself says, for administrators.
//! * `drops` — messages that went no further, by reason.
#![forbid(unsafe_code)]

pub(crate) mod association;
mod consumer;
mod dcep;
mod drops;
mod flow;
#[cfg(test)]
mod loss_tests;
mod producer;
mod server;

use std::collections::{BTreeSet, HashMap, VecDeque};

use opencall_dataplane::message::TransportId;
use opencall_wire::time::Time;

use crate::api::{RequestError, SctpParameters, SctpStreamParameters};
use crate::limits::malformed;

pub use association::MAX_MESSAGE_BYTES;
pub(crate) use association::Reliability;
pub(crate) use consumer::DataConsumer;
pub use drops::{DataDrop, DataDropCounters};
pub(crate) use producer::{DataProducer, DataProducerRequest};
pub(crate) use server::Recent;

use association::{Association, DataMessage, MAX_STREAMS, Received, SCTP_PORT, SctpOutput};

/// Bytes of a channel's label and protocol at most.
pub const MAX_LABEL_BYTES: usize = 256;

/// Number of a data producer, unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DataProducerId(pub u64);

/// Number of a data consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DataConsumerId(pub u64);

/// All data channels of the server.
#[derive(Default)]
pub(crate) struct DataChannels {
    pub producers: HashMap<DataProducerId, DataProducer>,
    pub consumers: HashMap<DataConsumerId, DataConsumer>,
    pub drops: DataDropCounters,
    /// Transports with messages to read or to send, each once.
    due: VecDeque<TransportId>,
    /// Within a turn what becomes due needs no timer.
    in_turn: bool,
}

/// The data channels of one transport.
pub(crate) struct TransportData {
    association: Association,
    /// Channels towards the client are opened by DCEP.
    pub in_band: bool,
    /// Streams whose OPEN waits for its ACK.
    confirmations: BTreeSet<u16>,
    /// Streams that the client has closed, after all that it had sent on them.
    finished: BTreeSet<u16>,
    /// Those that arrive on it, by stream.
    pub producers: HashMap<u16, DataProducerId>,
    /// Those that leave on it, by stream.
    pub consumers: HashMap<u16, DataConsumerId>,
    /// Consumers with something to send, in turns, each once.
    backlog: VecDeque<DataConsumerId>,
    is_due: bool,
    /// Reliable consumers of what arrives here whose queue is full: nothing is read meanwhile.
    held_by: usize,
    next_stream: u16,
}

impl TransportData {
    pub fn new(now: Time, in_band: bool) -> Self {
        TransportData {
            association: Association::new(now),
            in_band,
            confirmations: BTreeSet::new(),
            finished: BTreeSet::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            backlog: VecDeque::new(),
            is_due: false,
            held_by: 0,
            next_stream: 0,
        }
    }

    /// What the client must know of our side.
    pub fn parameters() -> SctpParameters {
        SctpParameters {
            port: SCTP_PORT,
            os: MAX_STREAMS,
            mis: MAX_STREAMS,
            max_message_size: MAX_MESSAGE_BYTES,
            max_send_message_size: MAX_MESSAGE_BYTES,
            max_receive_message_size: MAX_MESSAGE_BYTES,
            send_buffer_size: MAX_MESSAGE_BYTES,
            sctp_buffered_amount: 0,
            is_data_channel: true,
        }
    }

    /// A free stream towards the client, of our parity where it is opened by DCEP. A number comes
    /// again only after all others: the last messages under it are long gone then.
    fn new_stream(&mut self, parity: u16) -> Option<u16> {
        for _ in 0..MAX_STREAMS {
            let stream = self.next_stream;
            self.next_stream = (stream + 1) % MAX_STREAMS;
            let is_ours = !self.in_band || stream % 2 == parity;
            if is_ours && !self.consumers.contains_key(&stream) {
                return Some(stream);
            }
        }
        None
    }
}

impl Reliability {
    /// As a client asks for it, in mediasoup's words: what is falsy is absent, but for
    /// `maxRetransmits: 0`, the most common of lossy channels.
    fn of(parameters: &SctpStreamParameters) -> Result<Self, RequestError> {
        let max_packet_life_time_ms = parameters.max_packet_life_time.filter(|&ms| ms > 0);
        let max_retransmits = parameters.max_retransmits;
        if max_packet_life_time_ms.is_some() && max_retransmits.is_some_and(|times| times > 0) {
            let reason = "sctpStreamParameters: give maxPacketLifeTime or maxRetransmits, not both";
            return Err(malformed(reason));
        }
        let limited =
            max_packet_life_time_ms.is_some() || max_retransmits.is_some_and(|times| times > 0);
        if parameters.ordered == Some(true) && limited {
            let reason = "sctpStreamParameters: ordered excludes maxPacketLifeTime and \
                          maxRetransmits: leave it out";
            return Err(malformed(reason));
        }
        Ok(Reliability {
            ordered: parameters.ordered.unwrap_or(!limited),
            max_packet_life_time_ms,
            max_retransmits: max_retransmits.filter(|_| max_packet_life_time_ms.is_none()),
        })
    }

    /// The same for a client that receives. mediasoup-client has no channels that are ordered and
    /// lossy, as DCEP does; what it makes of it is only how it would send.
    fn parameters(self, stream_id: u16) -> SctpStreamParameters {
        SctpStreamParameters {
            stream_id,
            ordered: Some(self.ordered && self.is_reliable()),
            max_packet_life_time: self.max_packet_life_time_ms,
            max_retransmits: self.max_retransmits,
        }
    }
}

fn check_label(name: &str, text: &str) -> Result<(), RequestError> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(malformed(format!(
            "{name} is longer than {MAX_LABEL_BYTES} bytes: shorten it"
        )));
    }
    Ok(())
}
