//! The way in: from a datagram to a packet that is ready to be fanned out.
#![forbid(unsafe_code)]

mod door;
pub mod feedback;
pub mod fir_log;
pub mod history;
pub mod key_frame;
pub mod key_frame_ledger;
pub mod layer_rates;
pub mod limit;
pub mod nack;
pub mod pace;
pub mod packet;
pub mod producer;
pub mod receive_stats;
pub mod red;
pub mod remb;
pub mod rtp;
pub mod source;
pub mod stream_table;
pub mod timeliness;
pub mod transport_cc;

use std::net::SocketAddr;

use opencall_io::{RxBatch, SocketId, TxBatch};
use opencall_wire::mtu::SRTP_DATAGRAM_MAX;
use opencall_wire::time::Time;

use crate::address_table::Owner;
use crate::core::{Core, NOTHING};
use crate::demux::{PacketClass, classify};
use crate::drop_reason::DropReason;
use crate::fanout::PacketRef;
use crate::fanout::links::PipeMessage;
use crate::planted::{self, Bug};

impl Core {
    /// Takes the whole receive batch up. What must be answered at once (STUN, retransmissions) is
    /// written to `tx`; media waits in pending lists for [`Core::scatter`].
    pub(crate) fn gather(&mut self, now: Time, rx: &mut RxBatch, tx: &mut TxBatch) {
        self.stats.turns += 1;
        self.watch_load(now, rx.is_full());
        self.backlog.on_turn(now, rx.is_empty(), rx.is_full());
        self.share_out_stale(now);
        self.stats.datagrams_received += rx.len() as u64;
        let mut received = 0;
        for index in 0..rx.len() {
            let (source, socket) = {
                let datagram = rx.datagram(index);
                (datagram.source, datagram.socket)
            };
            self.turn.taking = index as u16;
            let bytes = rx.bytes_mut(index);
            received += bytes.len() as u64;
            let taken = loop {
                let taken = match classify(bytes) {
                    _ if !self.quarantine.is_empty() && self.quarantine.contains(&source) => {
                        Err(DropReason::Quarantined)
                    }
                    Ok(PacketClass::Rtp) if bytes.len() > SRTP_DATAGRAM_MAX => {
                        Err(DropReason::TooLarge)
                    }
                    Ok(PacketClass::Rtp) => {
                        self.on_rtp(now, PacketRef::Received(index as u16), bytes, source, socket)
                    }
                    Ok(PacketClass::Rtcp) => self.on_rtcp(now, bytes, source, socket, tx),
                    Ok(PacketClass::Stun) => self.on_stun(now, bytes, source, socket, tx),
                    Ok(PacketClass::Dtls) => self.on_dtls(now, bytes, source, socket, tx),
                    Err(reason) => Err(reason),
                };
                // A stranger who is awaited is let in and heard once more.
                match taken {
                    Err(DropReason::AddressNotValidated) => {
                        match self.meet(bytes, (source, socket)) {
                            Ok(()) => {}
                            refused => break refused,
                        }
                    }
                    taken => break taken,
                }
            };
            match taken {
                Ok(()) => self.stats.datagrams_taken += 1,
                Err(DropReason::Duplicate) if planted::is(Bug::UncountedDrop) => {}
                Err(reason) => self.stats.drops.count(reason),
            }
        }
        self.stats.bytes_received += received;
        self.turn.taking = NOTHING;
    }

    /// Takes up what other cores sent.
    pub(crate) fn gather_piped(&mut self, now: Time) {
        for place in 0.. {
            let Some(core) = self.links.linked(place) else { return };
            for slot in 0..self.links.take(core) {
                let Some(entry) = self.links.slot(core, slot) else { break };
                let message = entry.message;
                match message {
                    PipeMessage::Empty => {}
                    PipeMessage::Packet { producer, packet } => {
                        let Some(&key) = self.index.producers.get(&producer) else { continue };
                        let len = usize::from(entry.len);
                        let at = PacketRef::Piped { core: core as u8, slot: slot as u16 };
                        if self.spread(now, key, at, &packet)
                            && let Some(entry) = self.links.slot(core, slot)
                        {
                            self.producers[key].remember(now, &packet, &entry.bytes[..len]);
                        }
                        if !self.producers[key].stages.is_empty() {
                            self.spread_piped_on_stage(now, key, (core, slot), &packet);
                        }
                    }
                    PipeMessage::Source { producer, encoding, source, news } => {
                        let Some(&key) = self.index.producers.get(&producer) else { continue };
                        let producer = &mut self.producers[key];
                        producer.sent_encodings = usize::from(news.sent_encodings);
                        let index = usize::from(encoding);
                        if let Some(encoding) = producer.encodings.get_mut(index) {
                            encoding.on_source_news(source, &news);
                        }
                        self.report_to_stages(key, index);
                    }
                    PipeMessage::KeyFrameRequest { producer, encoding } => {
                        let Some(&key) = self.index.producers.get(&producer) else { continue };
                        self.request_key_frame(key, encoding);
                    }
                }
            }
        }
    }

    /// The transport that a validated address belongs to.
    #[inline(always)]
    pub(crate) fn validated(
        &mut self,
        source: SocketAddr,
        socket: SocketId,
    ) -> Result<Owner, DropReason> {
        let owner = self.index.addresses.owner_of_sender((source, socket));
        owner.ok_or(DropReason::AddressNotValidated)
    }
}
