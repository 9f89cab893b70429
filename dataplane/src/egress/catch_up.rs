//! What a consumer lacks of the picture it begins with, because the packet that begins it came
//! late.
//!
//! Worked trace of an H.264 key frame whose parameter sets are overtaken, to a consumer that waits:
//!
//! ```text
//! arrives   2 IDR, start     1 SPS, PPS                       3 IDR, end
//! goes out  nothing          1, then 2 out of the history     3
//! ```
//!
//! 2 goes out as a retransmission would: on the consumer's RTX stream, where it has one.
#![forbid(unsafe_code)]

use opencall_io::{RxBatch, TxBatch};
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::egress::waiting::Ahead;
use crate::fanout::Pending;
use crate::ingress::packet::MediaPacket;
use crate::store::ConsumerKey;

/// Missing packets in a row after which nothing more is looked for.
const MAX_HOLE: usize = 16;

impl Core {
    /// Sends what came, before the packet at `position` of the pending list with which its consumer
    /// began, of the same picture and after: out of the history, and out of this turn. What was
    /// written for the same transport in this turn lies from `begin` on.
    #[cold]
    #[allow(clippy::too_many_arguments, reason = "the place of one packet among a turn's")]
    pub(crate) fn catch_up(
        &mut self,
        now: Time,
        pending: &[Pending],
        position: usize,
        begin: usize,
        rx: &mut RxBatch,
        tx: &mut TxBatch,
    ) {
        let Some(begun) = pending.get(position) else { return };
        let first = self.turn.gathered[usize::from(begun.packet)].packet;
        self.send_from_history(now, begun.consumer, &first, begin, tx);
        for earlier in &pending[..position] {
            let packet = &self.turn.gathered[usize::from(earlier.packet)].packet;
            if earlier.consumer != begun.consumer || !follows(packet, &first) {
                continue;
            }
            if let Err(reason) = self.send_pending(now, earlier, 0, rx, tx) {
                self.stats.drops.count(reason);
            }
        }
    }

    /// Sends what came in earlier turns.
    pub(super) fn send_from_history(
        &mut self,
        now: Time,
        key: ConsumerKey,
        first: &MediaPacket,
        begin: usize,
        tx: &mut TxBatch,
    ) {
        let mut hole = 0;
        let waiting = self.transports[self.consumers[key].transport].waiting();
        let ahead = waiting.map_or_else(Ahead::default, |waiting| {
            waiting.ahead(key, first.encoding, first.sequence)
        });
        for step in ahead.steps() {
            let number = ExtendedSeq(first.sequence.0 + step as u64);
            // What waits leaves when its turn comes, and once.
            if ahead.has(step) {
                hole = 0;
                continue;
            }
            let Some((packet, len)) = self.stored(now, key, first, number) else {
                hole += 1;
                // In the usual case nothing has come after the first packet of a picture yet.
                if step == 1 || hole == MAX_HOLE {
                    return;
                }
                continue;
            };
            hole = 0;
            let consumer = &mut self.consumers[key];
            let producer = &self.producers[consumer.producer];
            let Some(out) = consumer.translate(now, &packet, producer) else { continue };
            consumer.on_missed(&packet, &out);
            let (transport, kind) = (consumer.transport, consumer.kind);
            self.after_switch(key, out.switched);
            // It goes out for the first time, on the way of what goes out again.
            let written = tx.len_bytes() - begin;
            if self.transports[transport].limit.admits(now, written + len, kind) {
                self.send_again(now, key, out.sequence.wire(), tx);
            } else {
                self.stats.drops.count(DropReason::EgressRate);
            }
        }
    }

    /// A packet of the source of `first` that was taken up before this turn, and its length.
    fn stored(
        &mut self,
        now: Time,
        consumer: ConsumerKey,
        first: &MediaPacket,
        number: ExtendedSeq,
    ) -> Option<(MediaPacket, usize)> {
        let producer = &mut self.producers[self.consumers[consumer].producer];
        let encoding = producer.encodings.get_mut(usize::from(first.encoding))?;
        let stored = encoding.history.as_mut()?.entry(number)?;
        let (packet, len) = (stored.meta, stored.header.len() + stored.rtx_payload.len());
        (stored.at < now && follows(&packet, first)).then_some((packet, len))
    }
}

/// Whether a packet comes after another of the same source.
fn follows(packet: &MediaPacket, first: &MediaPacket) -> bool {
    packet.encoding == first.encoding
        && packet.source == first.source
        && packet.sequence > first.sequence
}
