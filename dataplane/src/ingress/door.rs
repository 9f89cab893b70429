//! The door for those who are not known yet: STUN checks, DTLS, and the proof that a client is
//! where its checks come from.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use opencall_io::{SocketId, TxBatch};
use opencall_wire::stun::parse_binding_request;
use opencall_wire::time::Time;

use crate::address_table::Owner;
use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::dtls::{self, Flight};
use crate::ice::agent::{Outcome, Tuple};
use crate::message::{Event, IceState, TransportId};
use crate::plain::Flow;
use crate::store::TransportKey;

/// Room for a STUN response: header, XOR-MAPPED-ADDRESS, integrity, fingerprint, error reason.
const STUN_RESPONSE_MAX: usize = 256;

/// DTLS datagrams are at most one MTU; a record layer that writes more is refused.
const DTLS_DATAGRAM_MAX: usize = 2048;

/// Datagrams of DTLS that wait until more may be sent to an address that is not proven: a flight
/// with certificates, and the next one.
const HELD_DTLS_MAX: usize = 6;

impl Core {
    pub(crate) fn on_stun(
        &mut self,
        now: Time,
        bytes: &[u8],
        source: SocketAddr,
        socket: SocketId,
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let request = parse_binding_request(bytes)?;
        let &key = self.index.ufrags.get(request.ufrag()).ok_or(DropReason::StunUnknownUfrag)?;
        let tuple = (source, socket);
        let owner = self.index.addresses.owner(tuple);
        if owner.is_some_and(|owner| owner.transport() != key && self.holds(now, owner, tuple)) {
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
            transport.find_way();
        }
        if handled.outcome == Outcome::Rejected {
            return Ok(());
        }
        let new_owner = Owner::new(key, handled.proven);
        if owner == Some(new_owner)
            && handled.outcome == Outcome::Unchanged
            && new_owner.proven
            && !self.transports[key].has_claimant
        {
            // Nothing but consent was renewed: mostly so.
            self.reschedule(now, key);
            return Ok(());
        }
        self.index.addresses.insert(tuple, new_owner);
        if let Some(before) = owner.filter(|owner| owner.transport() != key) {
            // The address moved to another transport: a client that began anew on the same port.
            if let Some(before) = self.transports.get_mut(before.transport()) {
                before.ice.forget(source, socket);
                before.find_way();
            }
        }
        self.after_ice_change(now, key);
        self.send_held_dtls(key, tx);
        self.ask_for_proof(now, key, tx);
        Ok(())
    }

    /// Whether another transport's client was heard at this address just now. A client may write
    /// any source address into its checks, and must not take another's place with that; an address
    /// that a NAT gave away, or a browser used again, is silent first.
    fn holds(&self, now: Time, owner: Owner, (source, socket): Tuple) -> bool {
        let owner = self.transports.get(owner.transport());
        owner.is_some_and(|owner| owner.plain.is_some() || owner.ice.holds(now, source, socket))
    }

    /// Writes down that a transport's client is proven to be at an address.
    fn note_proof(&mut self, key: TransportKey, tuple: Tuple) {
        let owner = Owner::new(key, true);
        if self.index.addresses.owner(tuple).is_some_and(|owner| owner.transport() == key) {
            self.index.addresses.insert(tuple, owner);
        }
    }

    /// Something came from an address that only the client can have sent.
    #[cold]
    pub(crate) fn on_proof(&mut self, now: Time, key: TransportKey, tuple: Tuple, flow: Flow) {
        if self.transports[key].plain.is_some() {
            return self.learn_plain(now, key, tuple, flow);
        }
        let (source, socket) = tuple;
        self.transports[key].ice.prove(source, socket);
        self.note_proof(key, (source, socket));
        self.after_ice_change(now, key);
        self.send_held_dtls_later(key);
    }

    /// Control has opened a DTLS record from there: a transport with nothing but data channels is
    /// followed by them.
    pub(crate) fn prove_tuple(&mut self, now: Time, id: TransportId, tuple: Tuple) {
        let Some(&key) = self.index.transports.get(&id) else { return };
        // Meanwhile the address may be another client's.
        if self.index.addresses.owner(tuple).is_some_and(|owner| owner.transport() == key) {
            self.on_proof(now, key, tuple, Flow::Dtls);
        }
    }

    /// The handshake is complete: whoever answered our flights was where we sent them.
    pub(crate) fn on_handshake_complete(&mut self, now: Time, key: TransportKey) {
        if let Some(tuple) = self.transports[key].ice.prove_by_handshake() {
            self.note_proof(key, tuple);
            self.after_ice_change(now, key);
            self.send_held_dtls_later(key);
        }
    }

    /// Sends in this turn what DTLS has to wait no longer.
    fn send_held_dtls_later(&mut self, key: TransportKey) {
        if !self.transports[key].held_dtls.is_empty() {
            self.turn.stale_dtls.push(key);
        }
    }

    /// Does what [`Core::send_held_dtls_later`] noted.
    #[cold]
    pub(crate) fn send_stale_dtls(&mut self, tx: &mut TxBatch) {
        while let Some(key) = self.turn.stale_dtls.pop() {
            if self.transports.contains(key) {
                self.send_held_dtls(key, tx);
            }
        }
    }

    /// Brings the transport's destination and control's knowledge in line with the ICE agent. Once
    /// media can be sent, the key frames that consumers need are requested.
    pub(crate) fn after_ice_change(&mut self, now: Time, key: TransportKey) {
        let transport = &mut self.transports[key];
        let could_send = transport.can_send();
        transport.find_way();
        if !could_send && transport.can_send() {
            self.request_key_frames_of(now, key);
        }
        let transport = &mut self.transports[key];
        if transport.has_ice_news() && transport.may_report_ice(now) {
            self.report_ice(key);
        }
        self.reschedule(now, key);
    }

    /// Tells control where ICE stands, if it does not know.
    pub(crate) fn report_ice(&mut self, key: TransportKey) {
        let transport = &mut self.transports[key];
        if !transport.has_ice_news() {
            return;
        }
        let (Some((remote, _)), Some(state)) = (transport.ice.selected(), transport.ice.state())
        else {
            return;
        };
        transport.reported_ice = Some((state, remote));
        self.events.push_back(Event::Ice { transport: transport.id, state, remote });
    }

    /// A check stayed away for too long.
    pub(crate) fn on_consent_lost(&mut self, key: TransportKey) {
        self.doubt_plain(key);
        let transport = &mut self.transports[key];
        // RFC 7675 section 5.1: without consent nothing more is sent.
        transport.find_way();
        let Some((_, remote)) = transport.reported_ice else { return };
        let state = IceState::Disconnected;
        transport.reported_ice = Some((state, remote));
        self.events.push_back(Event::Ice { transport: transport.id, state, remote });
    }

    pub(crate) fn on_dtls(
        &mut self,
        now: Time,
        bytes: &[u8],
        source: SocketAddr,
        socket: SocketId,
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let owner = self.validated(source, socket)?;
        let flight = dtls::inspect(bytes)?;
        let key = owner.transport();
        let transport = &mut self.transports[key];
        let needed = match flight {
            _ if transport.plain.is_some() => false,
            Flight::Useless => false,
            // Once there are keys nothing begins anew, and alerts are protected.
            Flight::First => transport.srtp.is_none(),
            Flight::Later | Flight::Protected => true,
        };
        if !needed {
            return Err(DropReason::DtlsUnneeded);
        }
        transport.count_received(bytes.len());
        let is_later = flight >= Flight::Later;
        if !owner.proven && transport.ice.on_dtls(source, socket, bytes.len(), is_later) {
            // Control may install the keys in another core's time.
            transport.find_way();
        }
        let from = (source, socket);
        let admitted = match transport.may_carry_data(from, flight) {
            true => transport.admit_data(now, &mut self.data_records),
            false => transport.admit_dtls(now, from, &mut self.spare_dtls),
        };
        if admitted {
            let unproven = (!owner.proven).then_some(from);
            let event = Event::Dtls { transport: transport.id, unproven, datagram: bytes.into() };
            self.events.push_back(event);
        }
        self.send_held_dtls(key, tx);
        if admitted { Ok(()) } else { Err(DropReason::DtlsFlood) }
    }

    /// Sends one datagram of DTLS records that control made.
    pub(crate) fn send_dtls(&mut self, id: TransportId, datagram: &[u8], tx: &mut TxBatch) {
        let Some(&key) = self.index.transports.get(&id) else { return };
        if let Err(reason) = self.send_or_hold_dtls(key, datagram, tx) {
            self.stats.drops.count(reason);
        }
    }

    /// A datagram waits while others do, or while the address may not be sent so much: each that
    /// comes from there lets more go.
    fn send_or_hold_dtls(
        &mut self,
        key: TransportKey,
        datagram: &[u8],
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        if datagram.len() > DTLS_DATAGRAM_MAX {
            return Err(DropReason::TooLarge);
        }
        let transport = &mut self.transports[key];
        let (way, allowance) = transport.way_for_dtls().ok_or(DropReason::TransportNotReady)?;
        if !transport.held_dtls.is_empty() || allowance < datagram.len() as u64 {
            if transport.held_dtls.len() >= HELD_DTLS_MAX {
                return Err(DropReason::AddressUnproven);
            }
            transport.held_dtls.push_back(datagram.into());
            return Ok(());
        }
        self.write_dtls(key, way, datagram, tx)
    }

    /// Sends of what waits as much as may be sent now.
    fn send_held_dtls(&mut self, key: TransportKey, tx: &mut TxBatch) {
        while let Some(datagram) = self.transports[key].held_dtls.pop_front() {
            let transport = &mut self.transports[key];
            match transport.way_for_dtls() {
                Some((way, allowance)) if allowance >= datagram.len() as u64 => {
                    if let Err(reason) = self.write_dtls(key, way, &datagram, tx) {
                        self.stats.drops.count(reason);
                    }
                }
                _ => return transport.held_dtls.push_front(datagram),
            }
        }
    }

    /// Sends a datagram of DTLS, and once more to where the client says that it is, if it has not
    /// proven that and may be sent so much: who moves before its handshake is complete has no keys
    /// to prove anything with, and gets no further without our last flight.
    fn write_dtls(
        &mut self,
        key: TransportKey,
        way: Tuple,
        datagram: &[u8],
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let transport = &mut self.transports[key];
        let (len, begin) = (datagram.len(), tx.len_bytes());
        let out = tx.reserve(len).ok_or(DropReason::ArenaFull)?;
        out[..len].copy_from_slice(datagram);
        tx.commit(len, way.0, way.1);
        transport.ice.count_sent(way, len);
        transport.count_sent(len);
        let claimant = transport.ice.claimant().filter(|claimant| *claimant != way);
        if let Some(claimant) = claimant
            && transport.ice.allowance(claimant) >= len as u64
            && tx.repeat(begin, len, claimant.0, claimant.1)
        {
            transport.ice.count_sent(claimant, len);
            transport.count_sent(len);
        }
        Ok(())
    }
}
