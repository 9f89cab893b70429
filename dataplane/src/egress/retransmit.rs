//! Answers to NACK: from the history that all consumers of a producer share.
#![forbid(unsafe_code)]

use opencall_io::TxBatch;
use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::time::Time;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::egress::consumer::{Consumer, Outgoing, Switched};
use crate::egress::header::write_header;
use crate::store::ConsumerKey;

impl Core {
    /// Sends one packet again that the client has asked for, within what it may be sent.
    pub(crate) fn retransmit(
        &mut self,
        now: Time,
        consumer: ConsumerKey,
        sequence: u16,
        tx: &mut TxBatch,
    ) {
        let Consumer { kind, transport: key, .. } = self.consumers[consumer];
        // Before anything is looked up: a storm of requests costs no more than counting them.
        if kind == MediaKind::Video && self.overload.is_behind(now) {
            return self.stats.drops.count(DropReason::Overload);
        }
        let limit = &self.transports[key].limit;
        if !limit.may_resend(OUTGOING_PACKET_MAX) {
            return self.stats.drops.count(DropReason::ResendBudget);
        }
        if !limit.has_room(now, 1) && !limit.admits(now, OUTGOING_PACKET_MAX, kind) {
            return self.stats.drops.count(DropReason::EgressRate);
        }
        let begin = tx.len_bytes();
        self.send_again(now, consumer, sequence, tx);
        self.transports[key].on_media_sent_again(now, tx.len_bytes() - begin);
    }

    /// Sends one packet again: as RTX (RFC 4588) where negotiated, else exactly as it was. Its
    /// bytes are for the caller to count.
    pub(crate) fn send_again(
        &mut self,
        now: Time,
        consumer: ConsumerKey,
        sequence: u16,
        tx: &mut TxBatch,
    ) {
        match self.try_retransmit(now, consumer, sequence, tx) {
            Ok(Some(len)) => self.consumers[consumer].stats.on_retransmitted(len),
            Ok(None) => {}
            Err(reason) => self.stats.drops.count(reason),
        }
    }

    /// The bytes sent; `None` if they are on their way already.
    fn try_retransmit(
        &mut self,
        now: Time,
        key: ConsumerKey,
        sequence: u16,
        tx: &mut TxBatch,
    ) -> Result<Option<usize>, DropReason> {
        let consumer = &mut self.consumers[key];
        if !self.transports[consumer.transport].can_send() {
            return Err(DropReason::TransportNotReady);
        }
        let sent = consumer.sent.lookup(sequence).ok_or(DropReason::HistoryMiss)?;
        // What tells when it is sent is not the same to the byte.
        if consumer.rtx.is_none() && !consumer.is_repeatable() {
            return Err(DropReason::HistoryMiss);
        }
        let is_red = consumer.rtx.is_none() && sent.rewrite.origin.is_repeating();
        let round_trip = consumer.stats.round_trip();
        if !consumer.sent.may_resend(sequence, now, round_trip) {
            return Ok(None);
        }
        match is_red {
            true => self.resend_repeating(now, key, sent, tx).map(Some),
            false => self.resend(now, key, sequence, None, tx).map(Some),
        }
    }

    /// Writes a packet again out of the history, for a client that misses it or as a part of a
    /// probe; its length.
    pub(crate) fn resend(
        &mut self,
        now: Time,
        key: ConsumerKey,
        sequence: u16,
        probe: Option<u8>,
        tx: &mut TxBatch,
    ) -> Result<usize, DropReason> {
        let consumer = &mut self.consumers[key];
        let transport = &mut self.transports[consumer.transport];
        transport.reserve_transport_sequences(1);
        let (Some((address, socket)), Some(srtp)) = (transport.destination, &mut transport.srtp)
        else {
            return Err(DropReason::TransportNotReady);
        };
        let Some(sent) = consumer.sent.lookup(sequence) else {
            return Err(DropReason::HistoryMiss);
        };
        let producer = &mut self.producers[consumer.producer];
        let stored = producer
            .encodings
            .get_mut(usize::from(sent.rewrite.origin.encoding()))
            .and_then(|encoding| encoding.history.as_mut()?.entry(sent.source))
            .ok_or(DropReason::HistoryMiss)?;
        let packet = stored.meta;
        if let Some(ids) = &packet.info.ids {
            sent.rewrite.patch(ids, &mut stored.rtx_payload[2..]);
        }
        let timestamp = packet.header.timestamp.wrapping_add(sent.rewrite.timestamp_offset);
        let buffer = tx.reserve(OUTGOING_PACKET_MAX).ok_or(DropReason::ArenaFull)?;
        let rtx_payload_type = consumer.rtx_payload_type(packet.header.payload_type);
        let (index, header_len, payload): (u64, Option<usize>, &[u8]) =
            match (consumer.rtx.as_mut(), rtx_payload_type) {
                (Some(rtx), Some(payload_type)) => {
                    let (index, fields) = rtx.header_fields(
                        sent.rewrite.origin.is_marked(&packet),
                        payload_type,
                        timestamp,
                    )?;
                    let sending = (now, transport.next_transport_sequence);
                    stored.rtx_payload[..2].copy_from_slice(&sequence.to_be_bytes());
                    let original = (&packet.extensions, stored.header);
                    let len = write_header(buffer, consumer, fields, original, sending);
                    (index.0, len, stored.rtx_payload)
                }
                (Some(_), None) => return Err(DropReason::HistoryMiss),
                (None, _) => {
                    let out = Outgoing {
                        sequence: sent.out,
                        timestamp,
                        rewrite: sent.rewrite,
                        switched: Switched::No,
                        targets: None,
                    };
                    let fields = consumer.header_fields(&packet, &out);
                    let original = (&packet.extensions, stored.header);
                    let len = write_header(buffer, consumer, fields, original, (now, 0));
                    (sent.out.0, len, &stored.rtx_payload[2..])
                }
            };
        let header_len = header_len.ok_or(DropReason::TooLarge)?;
        let len =
            srtp.seal.seal_rtp(index, header_len, payload, buffer).map_err(DropReason::from)?;
        tx.commit(len, address, socket);
        if consumer.rtx.is_some() && consumer.numbers_transport() {
            transport.number(now, len, probe);
        }
        transport.counters.rtp_packets_sent += 1;
        Ok(len)
    }
}
