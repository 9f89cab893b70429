//! The flow of messages: read from associations, fanned out into queues, fed into associations, so
//! much in a turn that requests and handshakes never wait long for it.
//!
//! A reliable channel is as fast as its slowest reader, for a while: when a consumer's queue is
//! full, its producer's transport is not read, SCTP's window closes and the sender waits. Who stays
//! full for [`LAGGARD_TIMEOUT`] is cut off. A lossy channel never waits: what is old is dropped.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::TransportId;
use opencall_wire::time::Time;

use super::dcep::Opening;
use super::{
    DataConsumerId, DataDrop, DataMessage, DataProducerId, Received, SctpOutput, TransportData,
};
use crate::control::{Control, Timer};

/// SCTP packets sent in a turn: at 10 µs each 2.5 ms, within which a request waits. More is faster
/// under load, less is fairer.
const MAX_PACKETS_PER_TURN: usize = 256;

/// Of them, for one transport before the next has its turn.
const MAX_PACKETS_PER_VISIT: usize = 32;

/// Messages put into queues in a turn: one to everyone in eight rooms of 500, or 40 to everyone in
/// a room of 100.
const MAX_DELIVERIES_PER_TURN: usize = 4_096;

/// Bytes of a stream within the association: more makes messages wait where they cannot be dropped.
const LOW_WATER_BYTES: usize = 64 * 1024;

/// What an entry of a queue counts for besides its bytes: a flood of empty messages is bounded too.
const ENTRY_BYTES: usize = 128;

/// Bytes in a reliable consumer's queue at which its producer is no longer read, and at which it is
/// again. One more receive window may still come in between.
const FULL_BYTES: usize = 256 * 1024;
const ROOM_BYTES: usize = 128 * 1024;

/// Bytes in a consumer's queue at most. A reliable one is held before it gets here: the last
/// message that was read fits.
const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// How long a reliable consumer may stay full: who reads a quarter of a megabyte in it stays. The
/// time for which it has taken nothing before it was full counts: it holds others up no longer.
pub(super) const LAGGARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a message of a lossy channel may wait: pointers and positions are worthless after that.
const LOSSY_PATIENCE: Duration = Duration::from_millis(100);

/// How soon an association's timer may come again: it must not keep a turn from ending.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// What a turn has left.
struct Budget {
    packets: usize,
    deliveries: usize,
}

impl Control {
    pub(crate) fn transport_data(&mut self, id: TransportId) -> Option<&mut TransportData> {
        self.transports.get_mut(&id)?.data.as_deref_mut()
    }

    /// A packet came out of a transport's DTLS. Its answers go into DTLS, whose outputs the caller
    /// drains; messages wait for the turn's end.
    pub(crate) fn sctp_packet(&mut self, id: TransportId, packet: &[u8]) {
        let now = self.now;
        let Some(data) = self.transport_data(id) else { return };
        data.association.handle_packet(now, packet);
        self.drain_association(id);
        self.mark_due(id);
    }

    pub(crate) fn sctp_timeout(&mut self, id: TransportId) {
        let now = self.now;
        let Some(data) = self.transport_data(id) else { return };
        data.association.handle_timeout(now);
        self.mark_due(id);
    }

    /// There is something to read or to send on a transport.
    pub(crate) fn mark_due(&mut self, id: TransportId) {
        let Some(data) = self.transport_data(id) else { return };
        if std::mem::replace(&mut data.is_due, true) {
            return;
        }
        self.data.due.push_back(id);
        if !self.data.in_turn {
            self.timers.set(Timer::Data, self.now);
        }
    }

    /// A transport is gone.
    fn forget_due(&mut self, id: TransportId) {
        self.data.due.retain(|due| *due != id);
        if self.data.due.is_empty() {
            self.timers.cancel(Timer::Data);
        }
    }

    /// A transport is about to go: its data channels go first.
    pub(crate) fn remove_data_of(&mut self, id: TransportId) {
        let Some(data) = self.transport_data(id) else { return };
        let producers: Vec<DataProducerId> = data.producers.values().copied().collect();
        let consumers: Vec<DataConsumerId> = data.consumers.values().copied().collect();
        for producer in producers {
            self.remove_data_producer(producer);
        }
        for consumer in consumers {
            self.remove_data_consumer(consumer);
        }
        self.forget_due(id);
        self.timers.cancel(Timer::Sctp(id));
        if let Some(transport) = self.transports.get_mut(&id) {
            transport.data = None;
        }
    }

    /// One turn of all data channels.
    pub(crate) fn run_data(&mut self) {
        let mut budget =
            Budget { packets: MAX_PACKETS_PER_TURN, deliveries: MAX_DELIVERIES_PER_TURN };
        self.data.in_turn = true;
        while budget.packets > 0 && budget.deliveries > 0 {
            let Some(id) = self.data.due.pop_front() else { break };
            if let Some(data) = self.transport_data(id) {
                data.is_due = false;
                self.visit(id, &mut budget);
            }
        }
        self.data.in_turn = false;
        if !self.data.due.is_empty() {
            self.timers.set(Timer::Data, self.now + Duration::from_nanos(1));
        }
    }

    /// Reads from a transport and sends on it.
    fn visit(&mut self, id: TransportId, budget: &mut Budget) {
        let now = self.now;
        let Some(data) = self.transport_data(id) else { return };
        data.association.handle_timeout(now);
        let more_to_read = self.read_messages(id, budget);
        self.finish_streams(id);
        self.confirm_channels(id);
        let more_to_send = self.send_messages(id, budget);
        self.drive_dtls(id);
        if more_to_read || more_to_send {
            self.mark_due(id);
        }
        match self.transport_data(id).map_or(Time::NEVER, |data| data.association.next_timeout()) {
            Time::NEVER => self.timers.cancel(Timer::Sctp(id)),
            at => self.timers.set(Timer::Sctp(id), at.max(now + TIMER_GRAIN)),
        }
    }

    /// Returns whether more waits that may be read.
    fn read_messages(&mut self, id: TransportId, budget: &mut Budget) -> bool {
        while let Some(data) = self.transport_data(id) {
            if data.held_by > 0 || !data.association.has_message() {
                return false;
            }
            if budget.deliveries == 0 {
                return true;
            }
            let Some(received) = data.association.next_message() else { return false };
            budget.deliveries -= 1;
            match received {
                Received::TooLarge => self.data.drops.count(DataDrop::TooLarge),
                Received::UnknownProtocol => self.data.drops.count(DataDrop::UnknownProtocol),
                Received::Dcep { stream, bytes } => self.dcep_message(id, stream, &bytes),
                Received::Message { stream, message } => match data.producers.get(&stream) {
                    Some(&producer) => {
                        let count = self.fan_out(producer, message);
                        budget.deliveries = budget.deliveries.saturating_sub(count);
                    }
                    None => {
                        self.data.drops.count(DataDrop::UnknownStream);
                        self.channel_confirmed(id, stream);
                    }
                },
            }
        }
        false
    }

    /// Puts a message into the queues of a producer's consumers; how many.
    fn fan_out(&mut self, id: DataProducerId, message: DataMessage) -> usize {
        let Some(producer) = self.data.producers.get_mut(&id) else { return 0 };
        producer.messages += 1;
        producer.bytes += message.bytes.len() as u64;
        let consumers: Vec<DataConsumerId> = producer.consumers.iter().copied().collect();
        let message = Arc::new(message);
        for consumer in &consumers {
            self.enqueue(*consumer, &message);
        }
        consumers.len()
    }

    pub(super) fn enqueue(&mut self, id: DataConsumerId, message: &Arc<DataMessage>) {
        let now = self.now;
        let Some(consumer) = self.data.consumers.get_mut(&id) else { return };
        let size = cost(message);
        if !consumer.how.is_reliable() {
            consumer.drop_stale(now, &mut self.data.drops);
        }
        if consumer.queued + size > MAX_QUEUED_BYTES {
            if consumer.how.is_reliable() {
                return self.cut_laggard(id);
            }
            return self.data.drops.count(DataDrop::QueueFull);
        }
        if consumer.queue.is_empty() {
            consumer.progress = now;
        }
        consumer.queue.push_back((now, Arc::clone(message)));
        consumer.queued += size;
        let (transport, waiting) = (consumer.transport, consumer.waiting);
        let fills = consumer.how.is_reliable() && consumer.queued >= FULL_BYTES;
        if fills && !std::mem::replace(&mut consumer.is_full, true) {
            let producer = consumer.producer;
            let patience_ends = consumer.progress + LAGGARD_TIMEOUT;
            self.timers.set(Timer::Laggard(id), patience_ends.max(now));
            let on = self.data.producers.get(&producer).and_then(|p| p.origin.transport());
            if let Some(data) = on.and_then(|on| self.transport_data(on)) {
                data.held_by += 1;
            }
        }
        if !waiting {
            self.note_backlog(transport, id);
        }
    }

    pub(super) fn note_backlog(&mut self, transport: TransportId, id: DataConsumerId) {
        let Some(data) = self.transport_data(transport) else { return };
        if !data.backlog.contains(&id) {
            data.backlog.push_back(id);
        }
        if data.association.is_connected() {
            self.mark_due(transport);
        }
    }

    /// An offered data consumer was accepted.
    pub(crate) fn start_data_consumer(&mut self, id: DataConsumerId) {
        let Some(consumer) = self.data.consumers.get_mut(&id) else { return };
        if std::mem::replace(&mut consumer.waiting, false) && !consumer.queue.is_empty() {
            let transport = consumer.transport;
            self.note_backlog(transport, id);
        }
    }

    /// Feeds the association from its consumers' queues, in turns. Returns whether more could go.
    fn send_messages(&mut self, id: TransportId, budget: &mut Budget) -> bool {
        let mut sent = 0;
        let mut idle = 0;
        while sent < MAX_PACKETS_PER_VISIT.min(budget.packets) {
            sent += self.drain_association(id);
            let Some(data) = self.transport_data(id) else { return false };
            // Everyone in the backlog had a turn and could not send.
            if !data.association.is_connected() || idle >= data.backlog.len() {
                budget.packets = budget.packets.saturating_sub(sent);
                return false;
            }
            let Some(consumer) = data.backlog.pop_front() else { continue };
            // A message that waits inside costs a visit too, or they would be endless.
            match self.send_one(id, consumer) {
                Sent::One => (sent, idle) = (sent + 1, 0),
                Sent::Blocked => idle += 1,
                Sent::Empty => continue,
                Sent::Last => {
                    self.close_data_consumer(consumer);
                    continue;
                }
            }
            if let Some(data) = self.transport_data(id) {
                data.backlog.push_back(consumer);
            }
        }
        budget.packets = budget.packets.saturating_sub(sent + self.drain_association(id));
        true
    }

    fn send_one(&mut self, transport: TransportId, id: DataConsumerId) -> Sent {
        let now = self.now;
        let Some(consumer) = self.data.consumers.get_mut(&id) else { return Sent::Empty };
        if !consumer.how.is_reliable() {
            consumer.drop_stale(now, &mut self.data.drops);
        }
        if consumer.opening == Opening::Due {
            return if self.open_channel(transport, id) { Sent::One } else { Sent::Blocked };
        }
        let Some((_, message)) = consumer.queue.front() else {
            let (ending, stream) = (consumer.ending, consumer.stream);
            let data = self.transport_data(transport).filter(|_| ending);
            return match data.map(|data| data.association.buffered(stream)) {
                None => Sent::Empty,
                Some(0) => Sent::Last,
                Some(_) => Sent::Blocked,
            };
        };
        let mut how = consumer.how;
        how.ordered |= consumer.opening == Opening::Sent;
        let message = &*Arc::clone(message);
        let Some(transport) = self.transports.get_mut(&transport) else { return Sent::Empty };
        let Some(data) = &mut transport.data else { return Sent::Empty };
        if data.association.buffered(consumer.stream) >= LOW_WATER_BYTES
            || !data.association.send(consumer.stream, message, how)
        {
            return Sent::Blocked;
        }
        consumer.messages += 1;
        consumer.bytes += message.bytes.len() as u64;
        consumer.progress = now;
        consumer.queued = consumer.queued.saturating_sub(cost(message));
        consumer.queue.pop_front();
        if consumer.is_full && consumer.queued < ROOM_BYTES {
            self.release_producer_of(id);
        }
        Sent::One
    }

    /// A consumer's queue has room again, or the consumer is gone: its producer is read on.
    pub(crate) fn release_producer_of(&mut self, id: DataConsumerId) {
        let Some(consumer) = self.data.consumers.get_mut(&id) else { return };
        if !std::mem::replace(&mut consumer.is_full, false) {
            return;
        }
        let producer = consumer.producer;
        if !consumer.ending {
            self.timers.cancel(Timer::Laggard(id));
        }
        let on = self.data.producers.get(&producer).and_then(|p| p.origin.transport());
        let Some(on) = on else { return };
        if let Some(data) = self.transport_data(on) {
            data.held_by = data.held_by.saturating_sub(1);
            self.mark_due(on);
        }
    }

    /// A reliable consumer has been full for too long, or is fuller than any may be.
    pub(crate) fn cut_laggard(&mut self, id: DataConsumerId) {
        self.data.drops.count(DataDrop::Laggard);
        self.close_data_consumer(id);
    }

    /// Carries packets into DTLS, and acts on what else the association says; how many packets.
    fn drain_association(&mut self, id: TransportId) -> usize {
        let mut packets = 0;
        while let Some(transport) = self.transports.get_mut(&id) {
            let Some(data) = &mut transport.data else { break };
            match data.association.poll_output() {
                None => break,
                Some(SctpOutput::Packet(packet)) => {
                    packets += 1;
                    transport.send_inside(&packet);
                }
                Some(SctpOutput::Reset(streams)) => self.streams_reset(id, streams),
                Some(SctpOutput::Over(reason)) => {
                    tracing::debug!(transport = id.0, "SCTP is over: {reason}");
                    self.data.drops.count(DataDrop::AssociationOver);
                    self.streams_reset(id, Vec::new());
                }
            }
        }
        packets
    }

    /// The client has closed channels, all if none is named. Those it sent on end once what it had
    /// sent has been read.
    fn streams_reset(&mut self, id: TransportId, streams: Vec<u16>) {
        let Some(data) = self.transport_data(id) else { return };
        let named = |stream: &u16| streams.is_empty() || streams.contains(stream);
        data.finished.extend(data.producers.keys().filter(|stream| named(stream)));
        let consumers = data.consumers.iter().filter(|(stream, _)| named(stream));
        let consumers: Vec<DataConsumerId> = consumers.map(|(_, id)| *id).collect();
        for consumer in consumers {
            self.close_data_consumer(consumer);
        }
        self.mark_due(id);
    }

    /// Ends the producers whose streams are closed, once all is read.
    fn finish_streams(&mut self, id: TransportId) {
        let Some(data) = self.transport_data(id) else { return };
        if data.finished.is_empty() || data.association.has_message() {
            return;
        }
        let finished = std::mem::take(&mut data.finished);
        let producers: Vec<DataProducerId> =
            finished.iter().filter_map(|stream| data.producers.get(stream).copied()).collect();
        for producer in producers {
            self.remove_data_producer(producer);
        }
    }
}

/// What has become of one attempt to send.
enum Sent {
    One,
    /// There is no room inside the association.
    Blocked,
    /// There is nothing to send.
    Empty,
    /// There is nothing to send, and will not be.
    Last,
}

/// What a message counts for in a queue.
pub(super) fn cost(message: &DataMessage) -> usize {
    message.bytes.len() + ENTRY_BYTES
}

impl super::DataConsumer {
    /// A lossy channel's messages are dropped when they have waited too long.
    fn drop_stale(&mut self, now: Time, drops: &mut super::DataDropCounters) {
        while let Some((at, message)) = self.queue.front()
            && now.since(*at) > LOSSY_PATIENCE
        {
            self.queued = self.queued.saturating_sub(cost(message));
            self.queue.pop_front();
            drops.count(DataDrop::Stale);
        }
    }
}
