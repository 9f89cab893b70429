//! Transports without ICE and DTLS: plain RTP, or SRTP with keys that were given.
//!
//! Such a client is known by its address, as everyone's is (`address_table.rs`). The address
//! was named when the transport was made, or it is learnt once: from the first packet of an SSRC
//! that a producer has announced, which must be authentic where there are keys. From then on that
//! SSRC is dropped from elsewhere (`plain_elsewhere`). RTCP with a port of its own is learnt in the
//! same way; after RTP, only from the same host.
//!
//! Without checks, what renews consent is whatever arrives; who is only sent to is sent to until
//! control closes the transport.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use opencall_wire::srtp::{KeyingMaterial, OpenContext, SealContext, SrtpError};
use opencall_wire::time::Time;

use crate::address_table::Owner;
use crate::core::Core;
use crate::demux::{PacketClass, classify};
use crate::drop_reason::DropReason;
use crate::ice::agent::Tuple;
use crate::message::{PlainLink, TransportId};
use crate::store::TransportKey;
use crate::transport::{REPORT_INTERVAL, Srtp, Transport};

/// What came from an address that is not proven yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// RTP.
    Rtp,
    /// RTCP.
    Rtcp,
    /// DTLS.
    Dtls,
}

/// How the client of such a transport is known.
#[derive(Debug)]
pub struct Plain {
    /// Where RTCP goes, if not where RTP does.
    rtcp: Option<Tuple>,
    /// Where RTP and RTCP come from is still to be learnt.
    awaits_rtp: bool,
    awaits_rtcp: bool,
    /// Bytes received when consent was renewed last.
    heard: u64,
}

impl Plain {
    /// Where RTCP goes, if that is known and not where RTP does.
    pub fn rtcp(&self) -> Option<Tuple> {
        self.rtcp
    }

    fn awaits(&self, flow: Flow) -> bool {
        match flow {
            Flow::Rtp => self.awaits_rtp,
            Flow::Rtcp => self.awaits_rtcp,
            Flow::Dtls => false,
        }
    }
}

impl Transport {
    /// Renews consent, where that was due, if anything has come since or nothing is to come.
    pub(crate) fn hear_plain(&mut self, now: Time) {
        let Some(plain) = &mut self.plain else { return };
        let received = self.received_counters.bytes_received;
        if now >= self.ice.next_timeout() && (received != plain.heard || self.producers.is_empty())
        {
            plain.heard = received;
            self.ice.renew_consent(now);
        }
    }
}

impl Core {
    /// The client of a transport speaks neither ICE nor DTLS.
    pub(crate) fn connect_plain(&mut self, now: Time, id: TransportId, link: &PlainLink) {
        let Some(&key) = self.index.transports.get(&id) else { return };
        let transport = &mut self.transports[key];
        if transport.srtp.is_some() {
            // Once, as with keys of DTLS.
            return;
        }
        let Ok((mut open, mut seal)) = contexts(link.keys.as_ref()) else {
            tracing::error!(?id, "SRTP keys of a wrong length: the transport stays without keys");
            return;
        };
        let checkpoint = &transport.checkpoint;
        if link.keys.is_some() {
            open.take_over(Arc::clone(&checkpoint.srtp));
        }
        seal.take_over(Arc::clone(&checkpoint.srtp), checkpoint.generation());
        transport.srtp = Some(Srtp { open, seal });
        transport.report_due = now + REPORT_INTERVAL;
        // A core before this one may have learnt where it is.
        let is_found = transport.ice.selected().is_some();
        let is_learnt = link.remote.is_none();
        let plain = Plain {
            rtcp: None,
            awaits_rtp: is_learnt && !is_found,
            awaits_rtcp: is_learnt && !link.rtcp_mux,
            heard: 0,
        };
        transport.plain = Some(Box::new(plain));
        if let Some(remote) = link.remote {
            self.settle_plain(now, key, remote.rtp);
            if let Some(rtcp) = remote.rtcp.filter(|rtcp| *rtcp != remote.rtp) {
                self.take_address(key, rtcp);
                self.set_rtcp(key, rtcp);
            }
        }
        self.await_ssrcs(key);
        self.request_key_frames_of(now, key);
        self.reschedule(now, key);
    }

    /// Takes note of the SSRCs by which a client without ICE is to be known: all that its producers
    /// have announced.
    pub(crate) fn await_ssrcs(&mut self, key: TransportKey) {
        let awaits = |transport: Option<&Transport>| {
            transport.and_then(|of| of.plain.as_ref()).is_some_and(|plain| plain.awaits_rtp)
        };
        let plain = self.transports[key].plain.as_ref();
        if !plain.is_some_and(|plain| plain.awaits_rtp || plain.awaits_rtcp) {
            return;
        }
        for ssrc in self.transports[key].streams.ssrcs() {
            // Who has been found needs it no more: SSRCs are often written down in scripts.
            let holder = self.index.awaited.get(&ssrc).and_then(|&key| self.transports.get(key));
            if !awaits(holder) {
                self.index.awaited.insert(ssrc, key);
            }
        }
    }

    /// Lets an unknown address in for one packet, if its SSRC is awaited: the packet has to prove
    /// that it is whose it says. Whoever was let in before and has proven nothing has to go.
    #[cold]
    #[inline(never)]
    pub(crate) fn meet(&mut self, bytes: &[u8], tuple: Tuple) -> Result<(), DropReason> {
        let unknown = DropReason::AddressNotValidated;
        let (flow, ssrc_at) = match classify(bytes) {
            _ if self.index.awaited.is_empty() => return Err(unknown),
            Ok(PacketClass::Rtp) => (Flow::Rtp, 8),
            Ok(PacketClass::Rtcp) => (Flow::Rtcp, 4),
            _ => return Err(unknown),
        };
        let ssrc = bytes.get(ssrc_at..).and_then(|bytes| bytes.first_chunk()).ok_or(unknown)?;
        let owner = self.awaits(u32::from_be_bytes(*ssrc), flow, tuple.0)?;
        self.dismiss_guest();
        self.index.addresses.insert(tuple, owner);
        self.index.guest = Some((tuple, owner));
        Ok(())
    }

    /// Forgets who was let in for one packet, unless it has proven to be awaited.
    pub(crate) fn dismiss_guest(&mut self) {
        if let Some((tuple, owner)) = self.index.guest.take()
            && self.index.addresses.owner(tuple) == Some(owner)
        {
            self.index.addresses.remove(tuple);
        }
    }

    /// Whose a packet from an unknown address would be, by its SSRC.
    fn awaits(&self, ssrc: u32, flow: Flow, source: SocketAddr) -> Result<Owner, DropReason> {
        let unknown = DropReason::AddressNotValidated;
        let &key = self.index.awaited.get(&ssrc).ok_or(unknown)?;
        let transport = self.transports.get(key).ok_or(unknown)?;
        // RTCP comes from the host that RTP comes from, where that is known.
        let selected = transport.ice.selected().filter(|_| flow == Flow::Rtcp);
        let is_near = selected.is_none_or(|(rtp, _)| rtp.ip() == source.ip());
        match transport.plain.as_ref().is_some_and(|plain| plain.awaits(flow)) && is_near {
            true => Ok(Owner::new(key, false)),
            false => Err(DropReason::PlainElsewhere),
        }
    }

    /// A packet of the client of a plain transport came from an address that was not proven: where
    /// it is was to be learnt, or it was silent for so long that consent had lapsed.
    pub(crate) fn learn_plain(&mut self, now: Time, key: TransportKey, tuple: Tuple, flow: Flow) {
        let transport = &mut self.transports[key];
        let selected = transport.ice.selected();
        let Some(plain) = &mut transport.plain else { return };
        match flow {
            _ if selected == Some(tuple) => self.settle_plain(now, key, tuple),
            Flow::Rtp if plain.awaits_rtp => {
                plain.awaits_rtp = false;
                self.settle_plain(now, key, tuple);
            }
            Flow::Rtcp if plain.awaits_rtcp => {
                plain.awaits_rtcp = false;
                self.take_address(key, tuple);
                self.set_rtcp(key, tuple);
            }
            _ => {}
        }
    }

    /// A client without ICE is silent: its next packet renews consent.
    pub(crate) fn doubt_plain(&mut self, key: TransportKey) {
        let transport = &self.transports[key];
        if transport.plain.is_some()
            && let Some(tuple) = transport.ice.selected()
        {
            // No guest any more, if it came as one: it has been found.
            self.index.guest = self.index.guest.filter(|(guest, _)| *guest != tuple);
            self.index.addresses.insert(tuple, Owner::new(key, false));
        }
    }

    fn settle_plain(&mut self, now: Time, key: TransportKey, tuple: Tuple) {
        self.take_address(key, tuple);
        self.transports[key].ice.settle(now, tuple);
        self.after_ice_change(now, key);
    }

    fn set_rtcp(&mut self, key: TransportKey, tuple: Tuple) {
        if let Some(plain) = &mut self.transports[key].plain {
            plain.rtcp = Some(tuple);
        }
    }

    /// Gives an address to a transport: who makes plain transports is trusted more than a check.
    fn take_address(&mut self, key: TransportKey, tuple: Tuple) {
        let before = self.index.addresses.insert(tuple, Owner::new(key, true));
        let before = before.filter(|before| *before != key);
        if let Some(before) = before.and_then(|before| self.transports.get_mut(before)) {
            before.ice.forget(tuple.0, tuple.1);
            before.find_way();
        }
    }
}

/// What opens and seals its packets.
fn contexts(keys: Option<&KeyingMaterial>) -> Result<(OpenContext, SealContext), SrtpError> {
    match keys {
        Some(keys) => Ok((keys.open_context()?, keys.seal_context()?)),
        None => Ok((OpenContext::clear(), SealContext::clear())),
    }
}
