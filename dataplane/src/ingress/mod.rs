//! The way in: from a datagram to a packet that is ready to be fanned out.
#![forbid(unsafe_code)]

pub mod feedback;
pub mod history;
pub mod key_frame;
pub mod nack;
pub mod pace;
pub mod packet;
pub mod producer;
pub mod receive_stats;
pub mod remb;
pub mod rtp;
pub mod source;
pub mod stream_table;
pub mod transport_cc;

use std::net::SocketAddr;

use crate::core::Core;
use crate::demux::{PacketClass, classify};
use crate::drop_reason::DropReason;
use crate::fanout::PacketRef;
use crate::fanout::links::PipeMessage;
use crate::ice::agent::{Outcome, SELECTED_SILENCE};
use crate::ice::stun::parse_binding_request;
use crate::io::{RxBatch, SocketId, TxBatch};
use crate::message::{Event, IceState, TransportId};
use crate::time::Time;

/// Room for a STUN response: header, XOR-MAPPED-ADDRESS, integrity, fingerprint, error reason.
const STUN_RESPONSE_MAX: usize = 256;

/// DTLS datagrams are at most one MTU; a record layer that writes more is refused.
const DTLS_DATAGRAM_MAX: usize = 2048;

impl Core {
    /// Takes the whole receive batch up. What must be answered at once (STUN, retransmissions) is
    /// written to `tx`; media waits in pending lists for [`Core::scatter`].
    pub fn gather(&mut self, now: Time, rx: &mut RxBatch, tx: &mut TxBatch) {
        self.stats.turns += 1;
        self.share_out_stale(now);
        self.stats.datagrams_received += rx.len() as u64;
        for index in 0..rx.len() {
            let (source, socket) = {
                let datagram = rx.datagram(index);
                (datagram.source, datagram.socket)
            };
            let bytes = rx.bytes_mut(index);
            let taken = match classify(bytes) {
                Ok(PacketClass::Rtp) => {
                    self.on_rtp(now, PacketRef::Received(index as u16), bytes, source, socket)
                }
                Ok(PacketClass::Rtcp) => self.on_rtcp(now, bytes, source, socket, tx),
                Ok(PacketClass::Stun) => self.on_stun(now, bytes, source, socket, tx),
                Ok(PacketClass::Dtls) => self.on_dtls(now, bytes, source, socket),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = taken {
                self.stats.drops.count(reason);
            }
        }
    }

    /// Takes up what other cores sent.
    pub fn gather_piped(&mut self, now: Time) {
        for core in 0..self.links.cores() {
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
                    }
                    PipeMessage::SenderReport { producer, encoding, source, report } => {
                        let Some(&key) = self.index.producers.get(&producer) else { continue };
                        let encodings = &mut self.producers[key].encodings;
                        if let Some(encoding) = encodings.get_mut(usize::from(encoding)) {
                            encoding.on_sender_report(source, report);
                        }
                    }
                    PipeMessage::KeyFrameRequest { producer, encoding } => {
                        let Some(&key) = self.index.producers.get(&producer) else { continue };
                        self.request_key_frame(key, encoding);
                    }
                }
            }
        }
    }

    fn on_stun(
        &mut self,
        now: Time,
        bytes: &[u8],
        source: SocketAddr,
        socket: SocketId,
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let request = parse_binding_request(bytes)?;
        let &key = self.index.ufrags.get(request.ufrag()).ok_or(DropReason::StunUnknownUfrag)?;
        if self.is_taken(now, key, source, socket) {
            return Err(DropReason::AddressTaken);
        }
        let transport = &mut self.transports[key];
        let out = tx.reserve(STUN_RESPONSE_MAX).ok_or(DropReason::ArenaFull)?;
        let handled = transport.ice.handle_binding_request(now, &request, source, socket, out)?;
        tx.commit(handled.response_len, source, socket);
        transport.count_received(bytes.len());
        transport.count_sent(handled.response_len);
        if let Some(tuple) = handled.evicted {
            self.index.addresses.remove(tuple);
        }
        if let Some(ufrag) = handled.retired_ufrag {
            self.index.ufrags.remove(&ufrag);
        }
        if handled.outcome == Outcome::Rejected {
            return Ok(());
        }
        let before = self.index.addresses.insert((source, socket), key);
        if let Some(owner) = before.filter(|&owner| owner != key) {
            // The address moved to another transport: a client that began anew on the same port.
            if let Some(owner) = self.transports.get_mut(owner) {
                owner.ice.forget(source, socket);
                owner.destination = owner.ice.selected().filter(|_| owner.ice.has_consent());
            }
        }
        self.after_ice_check(now, key);
        Ok(())
    }

    /// Whether another transport's client was heard at this address just now. A client may write any
    /// source address into its checks, and must not take another's place with that; an address that
    /// a NAT gave away, or a browser used again, is silent first.
    fn is_taken(&self, now: Time, key: usize, source: SocketAddr, socket: SocketId) -> bool {
        let owner = self.index.addresses.owner((source, socket)).filter(|&owner| owner != key);
        let owner = owner.and_then(|owner| self.transports.get(owner));
        let heard = owner.and_then(|owner| owner.ice.last_check_from(source, socket));
        heard.is_some_and(|at| now.since(at) < SELECTED_SILENCE)
    }

    /// Brings the transport's destination and control's knowledge in line with the ICE agent.
    fn after_ice_check(&mut self, now: Time, key: usize) {
        let transport = &mut self.transports[key];
        let selected = transport.ice.selected();
        let state = transport.ice.state();
        if let (Some((remote, _)), Some(state)) = (selected, state)
            && (selected != transport.destination || Some(state) != transport.reported_ice)
        {
            transport.destination = selected;
            transport.reported_ice = Some(state);
            transport.reported_remote = Some(remote);
            self.events.push_back(Event::Ice { transport: transport.id, state, remote });
        }
        self.reschedule(now, key);
    }

    /// A check stayed away for too long.
    pub(crate) fn on_consent_lost(&mut self, key: usize) {
        let transport = &mut self.transports[key];
        // RFC 7675 section 5.1: without consent nothing more is sent.
        transport.destination = None;
        let Some(remote) = transport.reported_remote else { return };
        transport.reported_ice = Some(IceState::Disconnected);
        self.events.push_back(Event::Ice {
            transport: transport.id,
            state: IceState::Disconnected,
            remote,
        });
    }

    fn on_dtls(
        &mut self,
        now: Time,
        bytes: &[u8],
        source: SocketAddr,
        socket: SocketId,
    ) -> Result<(), DropReason> {
        let key = self.validated(source, socket)?;
        let transport = &mut self.transports[key];
        transport.count_received(bytes.len());
        if !transport.admit_dtls(now) {
            return Err(DropReason::DtlsFlood);
        }
        self.events.push_back(Event::Dtls { transport: transport.id, datagram: bytes.into() });
        Ok(())
    }

    /// Sends one datagram of DTLS records that control made.
    pub fn send_dtls(&mut self, id: TransportId, datagram: &[u8], tx: &mut TxBatch) {
        let Some(&key) = self.index.transports.get(&id) else { return };
        if let Err(reason) = self.write_dtls(key, datagram, tx) {
            self.stats.drops.count(reason);
        }
    }

    fn write_dtls(
        &mut self,
        key: usize,
        datagram: &[u8],
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let transport = &mut self.transports[key];
        let (address, socket) = transport.destination.ok_or(DropReason::TransportNotReady)?;
        if datagram.len() > DTLS_DATAGRAM_MAX {
            return Err(DropReason::TooLarge);
        }
        let out = tx.reserve(datagram.len()).ok_or(DropReason::ArenaFull)?;
        out[..datagram.len()].copy_from_slice(datagram);
        tx.commit(datagram.len(), address, socket);
        transport.count_sent(datagram.len());
        Ok(())
    }

    /// The transport that a validated address belongs to.
    pub(crate) fn validated(
        &mut self,
        source: SocketAddr,
        socket: SocketId,
    ) -> Result<usize, DropReason> {
        let owner = self.index.addresses.owner_of_sender((source, socket));
        owner.ok_or(DropReason::AddressNotValidated)
    }
}
