//! Retransmits the start of a consumer's stream when its client was not ready for it.
//!
//! A client creates its receiver after the server has begun to send, and drops what arrives before
//! that. When its first PLI or FIR arrives, the key frame and everything after it are usually still
//! in the history: retransmitting them gives a picture half a round trip later, without a new key
//! frame from the sender, which costs every viewer picture quality.
//!
//! Worked trace of a client that takes 200 ms, its round trip 40 ms:
//!
//! ```text
//! t =   0 ms  key frame, and frames after it       dropped: no receiver
//! t = 200 ms  a frame                              PLI: its references are missing
//! t = 220 ms  PLI          all since t = 0 retransmitted; the sender is not asked
//! t = 240 ms  the client has all of it
//! t = 250 ms  PLI          sent before that: ignored
//! t = 300 ms  PLI          the retransmission did not help: the sender is asked
//! ```
//!
//! Once per consumer: a client that has had a picture repairs losses by NACK, and repeating a
//! second of media on a lossy link would cause more loss.
#![forbid(unsafe_code)]

use opencall_io::TxBatch;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::core::Core;
use crate::egress::consumer::{Consumer, Opening};
use crate::egress::scatter::OVERHEAD_BYTES;
use crate::ingress::history::KEEP;
use crate::store::ConsumerKey;

/// Packets retransmitted at most. The budget admits a tenth of a second at once, which has fewer
/// packets up to 30 Mbit/s; a higher value would only lengthen one turn.
const MAX_PACKETS: u64 = 256;

impl Core {
    /// Answers a PLI or FIR: retransmits the start of the stream, or asks the sender for a key
    /// frame.
    pub(crate) fn on_picture_missing(&mut self, now: Time, key: ConsumerKey, tx: &mut TxBatch) {
        let consumer = &mut self.consumers[key];
        if consumer.needs_key_frame_of().is_none() {
            return;
        }
        match consumer.opening {
            Opening::Awaited | Opening::Over => {}
            Opening::Sent(_) if consumer.waits_for_key_frame() => {}
            Opening::Sent(first) => {
                consumer.opening = Opening::Over;
                if self.replay(now, key, first, tx) {
                    self.consumers[key].opening = Opening::SentAgain(now);
                    return;
                }
            }
            Opening::SentAgain(at) if now.since(at) < consumer.stats.round_trip() => return,
            Opening::SentAgain(_) => consumer.opening = Opening::Over,
        }
        self.request_key_frame_for(now, key);
    }

    /// Retransmits everything sent from `first` on, if the history has all of it and the budget
    /// admits it. Returns whether it did. Without RTX the packets would be identical to the first
    /// ones, which the client's SRTP replay window refuses.
    #[cold]
    fn replay(
        &mut self,
        now: Time,
        key: ConsumerKey,
        first: ExtendedSeq,
        tx: &mut TxBatch,
    ) -> bool {
        let Consumer { transport, kind, .. } = self.consumers[key];
        let Some(last) = self.consumers[key].sent.highest() else { return false };
        if last < first || last.0 - first.0 >= MAX_PACKETS || self.consumers[key].rtx.is_none() {
            return false;
        }
        let mut bytes = 0;
        for number in first.0..=last.0 {
            match self.sent_lately(now, key, ExtendedSeq(number)) {
                Some(len) => bytes += len + OVERHEAD_BYTES,
                None => return false,
            }
        }
        let limit = &self.transports[transport].limit;
        if !limit.may_resend(bytes) || !limit.admits(now, bytes, kind) {
            return false;
        }
        let begin = tx.len_bytes();
        for number in first.0..=last.0 {
            self.send_again(now, key, ExtendedSeq(number).wire(), tx);
        }
        let written = tx.len_bytes() - begin;
        self.transports[transport].on_media_sent_again(now, written);
        written > 0
    }

    /// Payload bytes of the packet sent under a number, if the history has it and it is recent.
    pub(crate) fn sent_lately(
        &mut self,
        now: Time,
        key: ConsumerKey,
        number: ExtendedSeq,
    ) -> Option<usize> {
        let consumer = &self.consumers[key];
        let sent = consumer.sent.lookup(number.wire()).filter(|sent| sent.out == number)?;
        let encodings = &mut self.producers[consumer.producer].encodings;
        let encoding = encodings.get_mut(usize::from(sent.rewrite.origin.encoding()))?;
        let stored = encoding.history.as_mut()?.entry(sent.source)?;
        (now.since(stored.at) < KEEP).then_some(stored.payload().len())
    }
}
