//! Sound sent as RED (RFC 2198) to clients that lose packets: each packet repeats the one before,
//! out of the history, so that a single loss is repaired 20 ms later and without a request.
//!
//! It doubles what a voice takes, so it begins with losses and ends with them. Without RTX a packet
//! is sent again under the index that it had, and must be the same to the byte: the log says of
//! each number whether it repeated the one before, and the history gives both or neither.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_io::{RxBatch, TxBatch};
use opencall_wire::mtu::{OUTGOING_PACKET_MAX, RTP_PACKET_MAX};
use opencall_wire::rtp::red::write_repeating;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::egress::consumer::{Consumer, Outgoing, Switched};
use crate::egress::header::write_header;
use crate::egress::scatter::packet_bytes;
use crate::egress::sent::Sent;
use crate::fanout::Pending;
use crate::ingress::packet::MediaPacket;
use crate::ingress::producer::Producer;
use crate::store::ConsumerKey;

/// Beyond so many lost of a hundred, packets repeat those before them: libwebrtc's concealment of
/// single losses is hardly heard below.
const BEGIN_PERCENT: u64 = 3;

/// Below so many they no longer do.
const END_PERCENT: u64 = 1;

/// How long losses are counted for. Chromium reports of a voice each five seconds.
const WINDOW: Duration = Duration::from_secs(5);

/// Losses are a share of so many packets at least, two seconds of voice: one of the few packets of
/// a pause is no lossy path.
const MIN_PACKETS: u64 = 100;

/// Bytes of a payload at most, so that its packet passes the smallest path of IPv6: a longer one
/// repeats nothing.
const MAX_PAYLOAD_BYTES: usize = 1200;

/// Opus sends nothing for silence but now and then a packet so short (RFC 7587 section 3.1.3): not
/// worth a repetition.
const SILENCE_BYTES: usize = 2;

/// What was sent to a client since its consumer began.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// Packets sent for the first time.
    pub packets: u64,
    /// Packets sent again.
    pub repaired: u64,
    /// The next number.
    pub next: ExtendedSeq,
}

/// Whether a consumer's packets repeat those before them.
#[derive(Debug, Default)]
pub struct Redundancy {
    is_on: bool,
    /// At the report before.
    before: Option<Totals>,
    window: Window,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    began: Time,
    sent: u64,
    lost: u64,
}

impl Redundancy {
    /// Takes up a client's report; whether packets are to repeat those before them from now on.
    pub fn on_report(&mut self, now: Time, fraction_lost: u8, totals: Totals) -> bool {
        let Some(before) = self.before.replace(totals) else {
            self.window = Window { began: now, ..Window::default() };
            return self.is_on;
        };
        let sent = totals.packets.saturating_sub(before.packets);
        let numbers = totals.next.0.saturating_sub(before.next.0);
        // What did not reach the server is reported as lost, too, and what was asked for again is
        // not.
        let reported = (numbers * u64::from(fraction_lost) + 128) / 256;
        let repaired = totals.repaired.saturating_sub(before.repaired);
        let never_sent = numbers.saturating_sub(sent);
        let window = &mut self.window;
        window.sent += sent;
        window.lost += (reported + repaired).saturating_sub(never_sent).min(sent);
        if window.lost * 100 >= window.sent.max(MIN_PACKETS) * BEGIN_PERCENT {
            self.is_on = true;
        } else if now.since(window.began) < WINDOW {
            return self.is_on;
        } else if window.sent >= MIN_PACKETS && window.lost * 100 < window.sent * END_PERCENT {
            self.is_on = false;
        }
        self.window = Window { began: now, ..Window::default() };
        self.is_on
    }
}

impl Core {
    /// Sends a packet that waits for a consumer whose packets repeat those before them; returns
    /// whether the consumer begins a source with it.
    #[cold]
    #[inline(never)]
    pub(super) fn send_repeating(
        &mut self,
        now: Time,
        entry: &Pending,
        mut out: Outgoing,
        rx: &mut RxBatch,
        tx: &mut TxBatch,
    ) -> Result<bool, DropReason> {
        let key = entry.consumer;
        let gathered = self.turn.gathered[usize::from(entry.packet)];
        let packet = gathered.packet;
        let mut copy = [0; RTP_PACKET_MAX];
        let bytes = packet_bytes(rx, &mut self.links, gathered.bytes, packet.payload().end);
        let (header, own) = match bytes.zip(copy.split_at_mut_checked(packet.payload().end)) {
            Some((bytes, (copy, _))) => {
                copy.copy_from_slice(bytes);
                copy.split_at(packet.payload().start)
            }
            None => (&[][..], &[][..]),
        };
        let consumer = &self.consumers[key];
        let producer = &mut self.producers[consumer.producer];
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        let repeated = repeats_before(consumer, &packet, &out).and_then(|types| {
            let len = repeat(producer, &packet, types.plain, own, &mut payload)?;
            Some((payload.get(..len)?, Some(types.red)))
        });
        if repeated.is_some() {
            out.rewrite.origin = out.rewrite.origin.repeating();
        }
        let (payload, red_type) = repeated.unwrap_or((own, None));
        let sealed = match own.is_empty() {
            true => Err(DropReason::Internal),
            false => self.seal_repeating(now, key, ((packet, header), payload, red_type), &out, tx),
        };
        let sealed = sealed.map(|len| (payload.len(), len));
        let consumer = &mut self.consumers[key];
        let result = match sealed {
            Ok(lengths) => {
                consumer.on_sent_as(&packet, &out, lengths);
                self.stats.packets_forwarded += 1;
                Ok(out.switched == Switched::Source)
            }
            Err(reason) => {
                consumer.on_missed(&packet, &out);
                Err(reason)
            }
        };
        self.after_switch(key, out.switched);
        result
    }

    /// Writes a packet under the number that it has, and sends it; its length. `red_type` is its
    /// payload type if it repeats another.
    fn seal_repeating(
        &mut self,
        now: Time,
        key: ConsumerKey,
        ((packet, header), payload, red_type): ((MediaPacket, &[u8]), &[u8], Option<u8>),
        out: &Outgoing,
        tx: &mut TxBatch,
    ) -> Result<usize, DropReason> {
        let consumer = &self.consumers[key];
        let transport = &mut self.transports[consumer.transport];
        let (Some((address, socket)), Some(srtp)) = (transport.destination, &mut transport.srtp)
        else {
            return Err(DropReason::TransportNotReady);
        };
        let buffer = tx.reserve(OUTGOING_PACKET_MAX).ok_or(DropReason::ArenaFull)?;
        let mut fields = consumer.header_fields(&packet, out);
        fields.payload_type = red_type.unwrap_or(fields.payload_type);
        let sending = (now, transport.next_transport_sequence);
        let header = write_header(buffer, consumer, fields, (&packet.extensions, header), sending);
        let header_len = header.ok_or(DropReason::TooLarge)?;
        let len = srtp.seal.seal_rtp(out.sequence.0, header_len, payload, buffer)?;
        tx.commit(len, address, socket);
        if consumer.numbers_transport() {
            transport.number(now, len, None);
        }
        transport.counters.rtp_packets_sent += 1;
        Ok(len)
    }

    /// Sends a packet that repeated the one before again, as it was; its length.
    #[cold]
    pub(super) fn resend_repeating(
        &mut self,
        now: Time,
        key: ConsumerKey,
        sent: Sent,
        tx: &mut TxBatch,
    ) -> Result<usize, DropReason> {
        let consumer = &self.consumers[key];
        let producer = &mut self.producers[consumer.producer];
        let encoding = producer.encodings.get_mut(usize::from(sent.rewrite.origin.encoding()));
        let stored = encoding.and_then(|encoding| encoding.history.as_mut()?.entry(sent.source));
        let stored = stored.ok_or(DropReason::HistoryMiss)?;
        let packet = stored.meta;
        let mut copy = [0; RTP_PACKET_MAX];
        let (header, rest) =
            copy.split_at_mut_checked(stored.header.len()).ok_or(DropReason::Internal)?;
        header.copy_from_slice(stored.header);
        let own = rest.get_mut(..stored.payload().len()).ok_or(DropReason::Internal)?;
        own.copy_from_slice(stored.payload());
        let (header, own) = (&*header, &*own);
        let types = consumer.red_payload_types(packet.header.payload_type);
        let (plain, red) = types.ok_or(DropReason::HistoryMiss)?;
        let mut payload = [0; MAX_PAYLOAD_BYTES];
        let len = repeat(producer, &packet, plain, own, &mut payload);
        let payload = &payload[..len.ok_or(DropReason::HistoryMiss)?];
        let out = Outgoing {
            sequence: sent.out,
            timestamp: packet.header.timestamp.wrapping_add(sent.rewrite.timestamp_offset),
            rewrite: sent.rewrite,
            switched: Switched::No,
            targets: None,
        };
        self.seal_repeating(now, key, ((packet, header), payload, Some(red)), &out, tx)
    }
}

/// What a client calls Opus, alone and in RED.
struct Types {
    plain: u8,
    red: u8,
}

/// Whether the packet before this one went out right before it, too: then this one may repeat it.
/// What comes late goes out alone, as what it stands between did.
fn repeats_before(consumer: &Consumer, packet: &MediaPacket, out: &Outgoing) -> Option<Types> {
    let (plain, red) = consumer.red_payload_types(packet.header.payload_type)?;
    let number = ExtendedSeq(out.sequence.0.checked_sub(1)?);
    if consumer.sent.highest() != Some(number) {
        return None;
    }
    let before = consumer.sent.lookup(number.wire())?;
    let goes_on = before.out == number
        && before.source.0.checked_add(1) == Some(packet.sequence.0)
        && before.rewrite.timestamp_offset == out.rewrite.timestamp_offset
        && before.rewrite.origin.encoding() == packet.encoding;
    goes_on.then_some(Types { plain, red })
}

/// Writes a payload that repeats the packet before; its length. `None` where there is nothing to
/// repeat, or it does not fit.
fn repeat(
    producer: &mut Producer,
    packet: &MediaPacket,
    payload_type: u8,
    own: &[u8],
    payload: &mut [u8],
) -> Option<usize> {
    let before = ExtendedSeq(packet.sequence.0.checked_sub(1)?);
    let encoding = producer.encodings.get_mut(usize::from(packet.encoding))?;
    let stored = encoding.history.as_mut()?.entry(before)?;
    let meta = stored.meta;
    let offset = packet.header.timestamp.wrapping_sub(meta.header.timestamp);
    let is_worth_it = meta.source == packet.source
        && meta.header.payload_type == packet.header.payload_type
        && stored.payload().len() > SILENCE_BYTES
        && offset > 0;
    if !is_worth_it {
        return None;
    }
    write_repeating(payload, payload_type, (offset, stored.payload()), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of five seconds each: packets that came to the server, of 250, what the client says
    /// is lost of a hundred, packets sent again; and whether packets repeat others after each.
    fn follow(reports: &[(u64, u64, u64, bool)]) {
        let mut redundancy = Redundancy::default();
        let mut totals = Totals { packets: 0, repaired: 0, next: ExtendedSeq(30_000) };
        let mut now = Time::from_millis(7);
        assert!(!redundancy.on_report(now, 255, totals), "what was before is not known");
        for (index, &(sent, lost_percent, repaired, wanted)) in reports.iter().enumerate() {
            now = now + WINDOW;
            totals.packets += sent;
            totals.repaired += repaired;
            totals.next.0 += sent.max(250);
            let fraction = (lost_percent * 256).div_ceil(100).min(255) as u8;
            let is_on = redundancy.on_report(now, fraction, totals);
            assert_eq!(is_on, wanted, "report {index} of {reports:?}");
        }
    }

    #[test]
    fn losses_begin_it_and_their_end_ends_it() {
        follow(&[(250, 0, 0, false), (250, 2, 0, false), (250, 3, 0, true), (250, 2, 0, true)]);
        follow(&[(250, 10, 0, true), (250, 1, 0, true), (250, 0, 0, false), (250, 2, 0, false)]);
    }

    #[test]
    fn what_was_sent_again_was_lost_and_what_never_came_was_not() {
        follow(&[(250, 0, 25, true), (250, 0, 3, true), (250, 0, 2, false)]);
        follow(&[(225, 10, 0, false), (225, 20, 0, true)]);
    }

    #[test]
    fn one_lost_of_the_few_packets_of_a_pause_is_no_lossy_path() {
        let mut redundancy = Redundancy::default();
        let mut totals = Totals { packets: 0, repaired: 0, next: ExtendedSeq(0) };
        redundancy.on_report(Time::from_millis(0), 0, totals);
        for second in 1..60 {
            let fraction = if second % 5 == 0 { 85 } else { 0 };
            (totals.packets, totals.next.0) = (second * 3, second * 3);
            let now = Time::from_millis(second * 1000);
            assert!(!redundancy.on_report(now, fraction, totals), "{second}");
        }
    }

    #[test]
    fn reports_each_second_add_up() {
        let mut redundancy = Redundancy::default();
        let mut totals = Totals { packets: 0, repaired: 0, next: ExtendedSeq(0) };
        let mut states = Vec::new();
        for second in 0..=12_u64 {
            (totals.packets, totals.next.0) = (second * 50, second * 50);
            // One of ten for three seconds, then none.
            let fraction = if second <= 3 { 26 } else { 0 };
            states.push(redundancy.on_report(Time::from_millis(second * 1000), fraction, totals));
        }
        let wanted = [false, true, true, true, true, true, true, true];
        assert_eq!(states[..8], wanted);
        assert!(!states[12], "{states:?}");
    }
}
