//! What leaves at once and what waits: pictures that exceed the pace of their client leave in the
//! next slots, in order, out of the history. Voices, reports and retransmissions wait for nobody.
//!
//! A packet that waits has no number yet. It is translated when it leaves, as if it came only then,
//! so that a consumer that was paused, lowered or switched meanwhile gets no gap.
#![forbid(unsafe_code)]

use opencall_io::{TX_FLUSH_BYTES, TxBatch};
use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::egress::consumer::Switched;
use crate::egress::pace::slot_after;
use crate::egress::scatter::{OVERHEAD_BYTES, seal};
use crate::egress::waiting::{Entry, Offer, Offered, Waiting};
use crate::fanout::Pending;
use crate::ingress::history::{SPARE_BYTES, StoredPacket};
use crate::ingress::packet::MediaPacket;
use crate::ingress::producer::Producer;
use crate::layers::EncodingIndex;
use crate::store::{ConsumerKey, TransportKey};

/// When a packet leaves.
enum Leaves {
    Now,
    Later,
    /// There is no room for it, and nowhere to wait.
    Never,
}

impl Core {
    /// Leaves of a transport's packets those that may leave now. The others wait, or are dropped
    /// where they cannot: what is kept for nobody's NACKs is not there to leave later.
    #[cold]
    pub(super) fn pace(
        &mut self,
        now: Time,
        key: TransportKey,
        pending: &mut Vec<Pending>,
        tx: &mut TxBatch,
    ) {
        self.release(now, key, tx);
        let mut planned = 0;
        // Encodings that begin with a packet that leaves now: what follows it is wanted.
        let mut begun: SmallVec<[(ConsumerKey, u8); 8]> = SmallVec::new();
        pending.retain(|entry| {
            let len = self.payload_len(entry) + OVERHEAD_BYTES;
            let packet = &self.turn.gathered[usize::from(entry.packet)].packet;
            let (encoding, is_key) = (packet.encoding, packet.info.key_frame);
            let fits = match self.leaves_now(now, key, entry, planned + len) {
                Leaves::Now => true,
                Leaves::Later => {
                    let begun = begun.contains(&(entry.consumer, encoding));
                    self.wait(now, key, entry, (len, begun));
                    false
                }
                Leaves::Never => {
                    self.miss(now, entry);
                    self.stats.drops.count(DropReason::EgressRate);
                    false
                }
            };
            if fits {
                planned += len;
                if is_key {
                    begun.push((entry.consumer, encoding));
                }
            }
            fits
        });
        self.schedule_release(now, key, planned);
    }

    /// When a packet of this turn leaves, with which so many bytes would leave now.
    fn leaves_now(
        &mut self,
        now: Time,
        key: TransportKey,
        entry: &Pending,
        bytes: usize,
    ) -> Leaves {
        let kind = self.consumers[entry.consumer].kind;
        let transport = &self.transports[key];
        let is_picture = kind == MediaKind::Video;
        if is_picture && transport.waiting().is_none() && transport.admits_pictures(now, bytes) {
            return Leaves::Now;
        }
        if is_picture && self.is_kept(entry) {
            return Leaves::Later;
        }
        let is_admitted = self.transports[key].limit.admits(now, bytes, kind);
        if is_admitted { Leaves::Now } else { Leaves::Never }
    }

    /// Whether the history has a packet of this turn.
    fn is_kept(&mut self, entry: &Pending) -> bool {
        let packet = &self.turn.gathered[usize::from(entry.packet)].packet;
        let producer = self.consumers[entry.consumer].producer;
        let encoding = self.producers[producer].encodings.get_mut(usize::from(packet.encoding));
        encoding.is_some_and(|encoding| {
            encoding
                .history
                .as_mut()
                .is_some_and(|history| history.entry(packet.sequence).is_some())
        })
    }

    /// Puts a packet of this turn, of so many bytes, into its transport's queue; `begun` says that
    /// its encoding begins with one that leaves now.
    fn wait(&mut self, now: Time, key: TransportKey, entry: &Pending, (len, begun): (usize, bool)) {
        let packet = &self.turn.gathered[usize::from(entry.packet)].packet;
        let consumer = &self.consumers[entry.consumer];
        let offer = Offer {
            consumer: entry.consumer,
            sequence: packet.sequence,
            encoding: packet.encoding,
            len: len as u16,
            timestamp: packet.header.timestamp,
            begins: packet.info.key_frame || !consumer.needs_key_frames(),
            is_current: begun || consumer.layers.current() == Some(EncodingIndex(packet.encoding)),
        };
        match self.transports[key].offer(now, offer) {
            Offered::Waits | Offered::NotWanted => {}
            Offered::Dropped => self.stats.drops.count(DropReason::Paced),
            Offered::Cut => {
                self.stats.drops.count(DropReason::Paced);
                self.request_key_frame_for(now, entry.consumer);
            }
        }
    }

    /// Sends what waits for a transport, if its time has come, as far as its pace allows.
    pub(crate) fn release(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        if self.transports[key].waiting().is_none_or(|waiting| waiting.due > now) {
            return;
        }
        let begin = tx.len_bytes();
        while let Some(entry) = self.next_to_leave(now, key, begin, tx) {
            if let Err(reason) = self.send_waiting(now, &entry, begin, tx) {
                self.stats.drops.count(reason);
            }
        }
        self.transports[key].on_media_sent(now, tx.len_bytes() - begin);
        if self.transports[key].has_claimant {
            self.send_to_claimant(key, begin, tx);
        }
        self.schedule_release(now, key, 0);
    }

    /// Takes what may leave now out of a transport's queue.
    fn next_to_leave(
        &mut self,
        now: Time,
        key: TransportKey,
        begin: usize,
        tx: &mut TxBatch,
    ) -> Option<Entry> {
        let transport = &mut self.transports[key];
        let waiting = transport.waiting()?;
        let (spares, is_short) =
            (waiting.spares(&transport.pace), waiting.is_short(&transport.pace));
        let len = usize::from(waiting.front()?.len);
        let written = tx.len_bytes().saturating_sub(begin);
        let has_room = written < TX_FLUSH_BYTES && tx.reserve(OUTGOING_PACKET_MAX).is_some();
        if !has_room || transport.can_send() && !transport.admits_pictures(now, written + len) {
            return None;
        }
        let (entry, waited, was_last) = transport.waiting_mut()?.pop(now)?;
        self.stats.pacer_delays.note(waited, 1);
        let layers = &mut self.consumers[entry.consumer].layers;
        if spares || is_short || was_last {
            layers.spare(spares && !was_last);
        }
        Some(entry)
    }

    /// Says when a transport's queue is looked at next; `planned` bytes leave besides until then.
    fn schedule_release(&mut self, now: Time, key: TransportKey, planned: usize) {
        let transport = &mut self.transports[key];
        transport.close_queue_if_empty();
        transport.set_pace();
        let Some(front) = transport.waiting().and_then(Waiting::front) else { return };
        let due = slot_after(now, transport.ready_at(planned + usize::from(front.len)));
        if let Some(waiting) = transport.waiting_mut() {
            waiting.due = due;
        }
        self.schedule(key, due);
    }

    /// Sends a packet that has waited, if it is for its consumer still. What was written for its
    /// transport with it lies from `begin` on.
    fn send_waiting(
        &mut self,
        now: Time,
        entry: &Entry,
        begin: usize,
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let key = entry.consumer;
        let consumer = &mut self.consumers[key];
        if entry.is_cut {
            consumer.layers.break_off();
            // It was asked for when the queue was cut.
            consumer.layers.take_key_frame_due();
            return Ok(());
        }
        if consumer.wanted_encodings() & 1 << entry.encoding == 0 {
            return Ok(());
        }
        let transport = &mut self.transports[consumer.transport];
        transport.reserve_transport_sequences(1);
        let (Some((address, socket)), Some(srtp)) = (transport.destination, &mut transport.srtp)
        else {
            return Err(DropReason::TransportNotReady);
        };
        let producer = &mut self.producers[consumer.producer];
        let packet = kept(producer, entry).ok_or(DropReason::Paced)?.meta;
        let Some(out) = consumer.translate(now, &packet, producer) else {
            if consumer.layers.take_key_frame_due() {
                self.request_key_frame_for(now, key);
            }
            return Ok(());
        };
        let stored = kept(producer, entry).ok_or(DropReason::Internal)?;
        let buffer = tx.reserve(OUTGOING_PACKET_MAX).ok_or(DropReason::ArenaFull)?;
        let bytes = (stored.header, &mut stored.rtx_payload[SPARE_BYTES..], 0);
        let sending = (now, transport.next_transport_sequence);
        let sealed = seal(consumer, (&packet, &out), bytes, sending, &mut srtp.seal, buffer);
        let len = match sealed {
            Ok(len) => len,
            Err(reason) => {
                consumer.on_missed(&packet, &out);
                self.after_switch(key, out.switched);
                return Err(reason);
            }
        };
        tx.commit(len, address, socket);
        if consumer.numbers_transport() {
            transport.number(now, len, None);
        }
        transport.counters.rtp_packets_sent += 1;
        consumer.on_sent(&packet, &out, len);
        self.stats.packets_forwarded += 1;
        self.after_switch(key, out.switched);
        if out.switched == Switched::Source {
            self.send_from_history(now, key, &packet, begin, tx);
        }
        Ok(())
    }
}

/// The packet of an entry, where the history still has it.
fn kept<'a>(producer: &'a mut Producer, entry: &Entry) -> Option<StoredPacket<'a, MediaPacket>> {
    let encoding = producer.encodings.get_mut(usize::from(entry.encoding))?;
    encoding.history.as_mut()?.entry(entry.sequence)
}
