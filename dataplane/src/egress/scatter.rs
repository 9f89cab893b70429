//! The scatter phase: for each transport with pending packets, rewrite the header and seal the
//! payload straight into its piece of the send arena, so that equal sizes become one GSO train.
#![forbid(unsafe_code)]

use opencall_io::{RxBatch, TX_FLUSH_BYTES, TxBatch};
use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::rtp::header::mark_padded;
use opencall_wire::srtp::SealContext;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::core::{Core, NOTHING};
use crate::drop_reason::DropReason;
use crate::egress::consumer::{Consumer, Outgoing, Switched};
use crate::egress::header::{write_header, write_header_with_targets};
use crate::fanout::links::Links;
use crate::fanout::{PacketRef, Pending};
use crate::ingress::packet::MediaPacket;
use crate::message::Event;
use crate::store::{ConsumerKey, TransportKey};

/// Bytes of a packet beside its payload, about: header, extensions, tag.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// Bytes a packet is padded with at most so that it joins a train: fewer than any SRTP tag, whose
/// place in the receive slot they take. A train saves more than so few bytes cost.
const PADDING_MAX: u8 = 8;

/// Datagrams of a turn that go to a second address, too. One is enough for feedback; some may be
/// lost.
const SAMPLES_MAX: usize = 2;

/// What a call of [`Core::scatter`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scattered {
    /// Everything that was pending.
    All,
    /// A part: what is in the arena is to be sent now, and the call repeated.
    More,
}

impl Core {
    /// Writes what the gather phase left pending into `tx`. [`Scattered::More`] asks for a flush
    /// and another call.
    #[must_use]
    pub(crate) fn scatter(&mut self, now: Time, rx: &mut RxBatch, tx: &mut TxBatch) -> Scattered {
        while let Some(&transport) = self.turn.touched.get(self.turn.scattered) {
            if tx.len_bytes() >= TX_FLUSH_BYTES {
                return Scattered::More;
            }
            self.turn.scattered += 1;
            let key = transport;
            let mut pending = std::mem::take(&mut self.transports[key].pending);
            self.transports[key].reserve_transport_sequences(pending.len());
            // Mostly there is room for all, however long each is.
            if !self.transports[key].has_room(now, pending.len()) {
                self.pace(now, key, &mut pending, tx);
            }
            let begin = tx.len_bytes();
            let mut burst = Burst::default();
            for (position, entry) in pending.iter().enumerate() {
                // A packet alone has nobody to be as long as.
                let mut padding = 0;
                if pending.len() > 1 {
                    if position >= burst.end {
                        burst = self.burst_at(&pending, position);
                    }
                    padding = burst.padding(position, self.payload_len(entry));
                }
                match self.send_pending(now, entry, padding, rx, tx) {
                    Ok(false) => {}
                    Ok(true) => self.catch_up(now, &pending, position, begin, rx, tx),
                    Err(reason) => self.stats.drops.count(reason),
                }
            }
            pending.clear();
            let transport = &mut self.transports[key];
            transport.pending = pending;
            transport.on_media_sent(now, tx.len_bytes() - begin);
            if transport.has_claimant {
                self.send_to_claimant(key, begin, tx);
            }
        }
        self.turn.touched.clear();
        self.turn.scattered = 0;
        self.turn.sending = NOTHING;
        self.turn.gathered.clear();
        self.links.release();
        self.flush_key_frame_requests(now, tx);
        Scattered::All
    }

    /// A packet does not leave, for there is no room for it: the client sees a gap, and may ask for
    /// it later. One that would begin an encoding is not missed: the encoding begins later.
    pub(super) fn miss(&mut self, now: Time, entry: &Pending) {
        let packet = &self.turn.gathered[usize::from(entry.packet)].packet;
        let consumer = &mut self.consumers[entry.consumer];
        if consumer.goes_on_with(packet)
            && let Some(out) = consumer.translate(now, packet, &self.producers[consumer.producer])
        {
            consumer.on_missed(packet, &out);
            self.after_switch(entry.consumer, out.switched);
        }
    }

    /// Sends some of a transport's datagrams, those that were written from `begin` on, also to
    /// where its client says that it is and has not proven it: as much as that address may be sent.
    /// Who only receives proves it with feedback, and gives that soonest on what arrives.
    #[cold]
    pub(super) fn send_to_claimant(&mut self, key: TransportKey, begin: usize, tx: &mut TxBatch) {
        let transport = &mut self.transports[key];
        let Some(claimant) = transport.ice.claimant() else { return };
        let mut samples: SmallVec<[(usize, usize); SAMPLES_MAX]> = SmallVec::new();
        let mut allowance = transport.ice.allowance(claimant);
        for train in tx.trains().iter().rev().take_while(|train| train.end() > begin) {
            for (offset, len) in train.datagrams().filter(|&(offset, _)| offset >= begin) {
                if samples.len() < SAMPLES_MAX && len as u64 <= allowance {
                    allowance -= len as u64;
                    samples.push((offset, len));
                }
            }
        }
        for (offset, len) in samples {
            if tx.repeat(offset, len, claimant.0, claimant.1) {
                transport.ice.count_sent(claimant, len);
                transport.count_sent(len);
            }
        }
    }

    /// The packets of one frame for one consumer that begin at `first`.
    fn burst_at(&self, pending: &[Pending], first: usize) -> Burst {
        let head = &pending[first];
        let timestamp = self.timestamp(head);
        let mut burst =
            Burst { end: first + 1, longest: self.payload_len(head), last_longest: first };
        for entry in &pending[first + 1..] {
            if entry.consumer != head.consumer || self.timestamp(entry) != timestamp {
                break;
            }
            let len = self.payload_len(entry);
            if len >= burst.longest {
                (burst.longest, burst.last_longest) = (len, burst.end);
            }
            burst.end += 1;
        }
        // Without RTX a packet may have to leave again, and then the same to the byte.
        if self.consumers[head.consumer].is_repeatable() {
            burst.last_longest = first;
        }
        burst
    }

    pub(super) fn payload_len(&self, entry: &Pending) -> usize {
        self.turn.gathered[usize::from(entry.packet)].packet.payload().len()
    }

    fn timestamp(&self, entry: &Pending) -> u32 {
        self.turn.gathered[usize::from(entry.packet)].packet.header.timestamp
    }

    /// Sends a packet that waits for a consumer, if it is for it; returns whether the consumer
    /// begins an encoding or source with it.
    // Not called but laid out within the loop: 1 % of a forwarded packet's instructions.
    #[inline(always)]
    pub(crate) fn send_pending(
        &mut self,
        now: Time,
        entry: &Pending,
        padding: u8,
        rx: &mut RxBatch,
        tx: &mut TxBatch,
    ) -> Result<bool, DropReason> {
        let consumer_key = entry.consumer;
        // First of all: a consumer that begins an encoding or takes a number with a packet sends
        // it.
        let Some(buffer) = tx.reserve(OUTGOING_PACKET_MAX) else {
            self.miss(now, entry);
            return Err(DropReason::ArenaFull);
        };
        self.turn.sending = entry.packet;
        let gathered = &self.turn.gathered[usize::from(entry.packet)];
        let packet = &gathered.packet;
        let consumer = &mut self.consumers[consumer_key];
        let transport = &mut self.transports[consumer.transport];
        let (Some((address, socket)), Some(srtp)) = (&transport.destination, &mut transport.srtp)
        else {
            return Err(DropReason::TransportNotReady);
        };
        let producer = &self.producers[consumer.producer];
        let Some(out) = consumer.translate(now, packet, producer) else {
            if consumer.layers.take_key_frame_due() {
                self.request_key_frame_for(now, consumer_key);
            }
            return Ok(false);
        };
        if consumer.repeats() {
            return self.send_repeating(now, entry, out, rx, tx);
        }
        let sequence = transport.next_transport_sequence;
        let padding = padding * u8::from(has_room(rx, gathered.bytes, packet, padding));
        let end = packet.payload().end + usize::from(padding);
        let sending = (now, sequence);
        // No closure, which would be called.
        let sealed = match packet_bytes(rx, &mut self.links, gathered.bytes, end) {
            Some(bytes) => {
                let (header, payload) = bytes.split_at_mut(packet.payload().start.min(bytes.len()));
                let bytes = (&*header, payload, padding);
                seal(consumer, (packet, &out), bytes, sending, &mut srtp.seal, buffer)
            }
            None => Err(DropReason::Internal),
        };
        let len = match sealed {
            Ok(len) => len,
            Err(reason) => {
                // Its number is taken: the client will ask for it.
                consumer.on_missed(packet, &out);
                self.after_switch(consumer_key, out.switched);
                return Err(reason);
            }
        };
        tx.commit(len, *address, *socket);

        if consumer.numbers_transport() {
            transport.number(now, len, None);
        }
        transport.counters.rtp_packets_sent += 1;
        consumer.on_sent(packet, &out, len);
        self.stats.packets_forwarded += 1;
        if out.switched == Switched::No {
            return Ok(false);
        }
        self.after_switch(consumer_key, out.switched);
        Ok(out.switched == Switched::Source)
    }

    /// A consumer has begun other layers: of another encoding, the gather phase need not bring the
    /// old one.
    #[cold]
    pub(super) fn after_switch(&mut self, key: ConsumerKey, switched: Switched) {
        if switched == Switched::Source {
            self.refresh_subscription(key);
        }
        if switched != Switched::No {
            self.report_layers(key);
        }
    }

    /// Tells control what a consumer gets, when that has changed. There is always room for voices,
    /// which have no layers.
    pub(crate) fn report_layers(&mut self, key: ConsumerKey) {
        let consumer = &mut self.consumers[key];
        if consumer.kind == MediaKind::Audio {
            return;
        }
        let Some(layers) = consumer.layers.take_report() else { return };
        self.events.push_back(Event::LayersChanged { consumer: consumer.id, layers });
    }
}

/// Writes a packet for a consumer into `buffer`, header and sealed payload; its length. `header`
/// and `payload` are those of the packet as it came, the latter with room for the padding.
#[inline(always)]
pub(super) fn seal(
    consumer: &mut Consumer,
    (packet, out): (&MediaPacket, &Outgoing),
    (header, payload, padding): (&[u8], &mut [u8], u8),
    sending: (Time, u16),
    context: &mut SealContext,
    buffer: &mut [u8],
) -> Result<usize, DropReason> {
    let fields = consumer.header_fields(packet, out);
    let header_len = match out.targets {
        None => write_header(buffer, consumer, fields, (&packet.extensions, header), sending),
        Some(targets) => {
            write_header_with_targets(buffer, consumer, fields, (packet, header), targets, sending)
        }
    };
    let header_len = header_len.ok_or(DropReason::TooLarge)?;
    if padding > 0 {
        // RFC 3550 section 5.1: the last byte counts them, itself included.
        let tail = payload.get_mut(packet.payload().len()..).ok_or(DropReason::Internal)?;
        tail.fill(0);
        *tail.last_mut().ok_or(DropReason::Internal)? = padding;
        mark_padded(buffer);
    }
    if let Some(ids) = &packet.info.ids {
        out.rewrite.patch(ids, payload);
    }
    context.seal_rtp(out.sequence.0, header_len, payload, buffer).map_err(DropReason::from)
}

/// Whether there is room for so much padding behind the payload of a packet of this turn. There is
/// none behind one that came without an SRTP tag.
fn has_room(rx: &RxBatch, at: PacketRef, packet: &MediaPacket, padding: u8) -> bool {
    let PacketRef::Received(index) = at else { return true };
    let end = packet.payload().end + usize::from(padding);
    padding == 0 || end <= usize::from(rx.datagram(usize::from(index)).len)
}

/// The first `len` bytes of a packet taken up in this turn, or as many as there are. Behind the
/// packet of a slot is room: what was its SRTP tag, or the rest of the slot.
pub(super) fn packet_bytes<'a>(
    rx: &'a mut RxBatch,
    links: &'a mut Links,
    at: PacketRef,
    len: usize,
) -> Option<&'a mut [u8]> {
    match at {
        PacketRef::Received(index) => rx.bytes_mut(usize::from(index)).get_mut(..len),
        PacketRef::Piped { core, slot } => {
            links.slot(usize::from(core), usize::from(slot))?.bytes.get_mut(..len)
        }
    }
}

/// Packets of one frame that leave for one consumer in one turn.
///
/// Encoders cut a frame into packets of about equal length: libwebrtc's last ones are one byte
/// longer than the first. A GSO train ends with a shorter segment and cannot hold a longer one, so
/// most frames would leave as two trains. Padding of a byte makes them one.
#[derive(Debug, Default)]
struct Burst {
    /// Where the next burst begins in the pending list.
    end: usize,
    /// Bytes of its longest payload.
    longest: usize,
    /// The last packet that is so long: those before it must not be shorter.
    last_longest: usize,
}

impl Burst {
    /// Bytes of padding for the packet at `position` with a payload of `len` bytes.
    fn padding(&self, position: usize, len: usize) -> u8 {
        let missing = self.longest.saturating_sub(len);
        match u8::try_from(missing) {
            Ok(padding) if position < self.last_longest && padding <= PADDING_MAX => padding,
            _ => 0,
        }
    }
}
