//! The first picture again, for a client that was not ready for it.
//!
//! A client that is told of a consumer and makes its receiver for it is sent media meanwhile, which it
//! drops. What it asks for then is in the history still: sent again, it is there within half a round
//! trip, and nobody else pays for a key frame of the sender's.
//!
//! Worked trace of a client that takes 200 ms, its round trip 40 ms:
//!
//! ```text
//! t =   0 ms  key frame, and pictures after it     dropped: no receiver
//! t = 200 ms  a picture                            PLI: it refers to others
//! t = 220 ms  PLI          all since t = 0 again, as retransmissions; the sender is not asked
//! t = 240 ms  the client has all of it
//! t = 250 ms  PLI          made before that: ignored
//! t = 300 ms  PLI          it did not help: the sender is asked
//! ```
//!
//! Once for each consumer: a client that had a picture asks for what is missing of it by NACK, and
//! repeating a second of media to a link that loses packets would make it lose more.
#![forbid(unsafe_code)]

use crate::core::Core;
use crate::egress::consumer::{Consumer, Opening};
use crate::egress::scatter::OVERHEAD_BYTES;
use crate::ingress::history::KEEP;
use crate::io::TxBatch;
use crate::seq::ExtendedSeq;
use crate::time::Time;

/// Packets sent again at most. What a client's budget lets through at once is a tenth of a second, which
/// has fewer up to 30 Mbit/s.
const MAX_PACKETS: u64 = 256;

impl Core {
    /// A client has no picture to go on from: sends its first one again, or asks for another.
    pub(crate) fn on_picture_missing(&mut self, now: Time, key: usize, tx: &mut TxBatch) {
        let consumer = &mut self.consumers[key];
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

    /// Sends all again that went out from `first` on, if all of it is here and there is room for it.
    /// Without RTX that cannot help: the packets would be the same to the byte, and the client's SRTP
    /// has seen them.
    #[cold]
    fn replay(&mut self, now: Time, key: usize, first: ExtendedSeq, tx: &mut TxBatch) -> bool {
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

    /// Payload bytes of what a consumer sent under a number, if that is still worth having.
    fn sent_lately(&mut self, now: Time, key: usize, number: ExtendedSeq) -> Option<usize> {
        let consumer = &self.consumers[key];
        let sent = consumer.sent.lookup(number.wire()).filter(|sent| sent.out == number)?;
        let encodings = &mut self.producers[consumer.producer].encodings;
        let encoding = encodings.get_mut(usize::from(sent.rewrite.encoding))?;
        let stored = encoding.history.as_mut()?.entry(sent.source)?;
        (now.since(stored.at) < KEEP).then_some(stored.payload().len())
    }
}
