//! Transports: ICE credentials and candidates, the DTLS association, consent and its loss.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::ice::CONSENT_TIMEOUT;
use opencall_dataplane::message::{
    Bandwidth, Command, CoreId, IceCredentials, IceState, TransportConfig, TransportId, Tuple,
};
use opencall_wire::time::Time;
use rand::RngExt as _;

use crate::api::{
    CloseReason, ConsumeMode, Direction, DownlinkBandwidth, DtlsParameters, DtlsRole, IceCandidate,
    IceParameters, Notification, RequestError, Response, SctpMode, SessionId, TransportOptions,
};
use crate::control::{After, Control, Timer};
use crate::data::TransportData;
use crate::dtls::{DtlsEndpoint, DtlsOutput, PeerFingerprints, Role};
use crate::limits::{malformed, not_allowed, too_many, unknown};
use crate::plain::PlainSide;

/// How long a transport without ICE consent is kept. Consent itself lapses after 30 s of silence
/// (RFC 7675); the same again lets a client change networks and restart ICE. Longer would show the
/// others a frozen face for longer, shorter would cost travellers their place.
pub const TRANSPORT_LOST_GRACE: Duration = Duration::from_secs(30);

/// Longest MID that a client may choose to receive under: what a header extension carries.
const MAX_MID_BYTES: usize = 16;

/// SSRC of the bandwidth probes that mediasoup-client always listens for.
const PROBATOR_SSRC: u32 = 1234;

/// One transport of one client.
pub(crate) struct Transport {
    pub session: SessionId,
    pub direction: Direction,
    pub core: CoreId,
    pub ice_state: Option<IceState>,
    pub remote: Option<SocketAddr>,
    /// The client's DTLS role, once it has said how to connect.
    peer_role: Option<DtlsRole>,
    fingerprints: Option<PeerFingerprints>,
    dtls: Option<Box<DtlsEndpoint>>,
    pub dtls_state: DtlsState,
    /// CNAME of everything it produces.
    pub cname: Option<String>,
    /// SSRCs in use on it.
    pub ssrcs: HashSet<u32>,
    /// The next even SSRC to hand out.
    next_ssrc: Option<u32>,
    /// MIDs its producers use, and those that a client has chosen to receive under.
    pub mids: HashSet<String>,
    /// RIDs of producers without a MID.
    pub rids: HashSet<String>,
    next_mid: u64,
    /// Its data channels, where the client asked for SCTP.
    pub data: Option<Box<TransportData>>,
    /// What makes it a transport without ICE and DTLS, if it is one.
    pub plain: Option<Box<PlainSide>>,
}

/// Where the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DtlsState {
    New,
    Connecting,
    Connected,
}

impl DtlsState {
    pub fn name(self) -> &'static str {
        match self {
            DtlsState::New => "new",
            DtlsState::Connecting => "connecting",
            DtlsState::Connected => "connected",
        }
    }
}

impl Transport {
    /// Whether the client answers on it.
    fn has_consent(&self) -> bool {
        matches!(self.ice_state, Some(IceState::Connected | IceState::Completed))
    }

    /// The client's DTLS role, once it has said how to connect.
    pub fn peer_role(&self) -> Option<DtlsRole> {
        self.peer_role
    }

    /// A MID that was never used on this transport.
    pub fn new_mid(&mut self) -> String {
        loop {
            let mid = self.next_mid.to_string();
            self.next_mid += 1;
            if !self.mids.contains(&mid) {
                return mid;
            }
        }
    }

    /// A MID that the client has chosen.
    pub fn take_mid(&mut self, mid: String) -> Result<String, RequestError> {
        let is_used = mid.parse().is_ok_and(|number: u64| number < self.next_mid);
        if mid.is_empty() || mid.len() > MAX_MID_BYTES {
            return Err(malformed(format!("a mid has 1 to {MAX_MID_BYTES} bytes")));
        }
        if is_used || !self.mids.insert(mid.clone()) {
            return Err(malformed(format!("mid \"{mid}\" is in use on this transport")));
        }
        Ok(mid)
    }

    /// An SSRC such that neither it nor the next number was ever handed out here: two consumers
    /// under one SSRC, even one after the other, would seal two packets under one nonce. So they
    /// are counted, from a random number on.
    pub fn new_ssrc_pair(&mut self, rng: &mut impl rand::Rng) -> (u32, u32) {
        loop {
            let ssrc = *self.next_ssrc.get_or_insert_with(|| rng.random::<u32>() & !1);
            self.next_ssrc = Some(ssrc.wrapping_add(2));
            if ssrc == 0 {
                continue;
            }
            let pair = [ssrc, ssrc + 1];
            if pair.iter().any(|ssrc| *ssrc == PROBATOR_SSRC || self.ssrcs.contains(ssrc)) {
                continue;
            }
            self.ssrcs.extend(pair);
            return (ssrc, ssrc + 1);
        }
    }
}

impl Control {
    pub(crate) fn own_transport(
        &self,
        session: SessionId,
        text: &str,
    ) -> Result<TransportId, RequestError> {
        let id = self.ids.number(text).map(TransportId);
        id.filter(|id| self.transports.get(id).is_some_and(|t| t.session == session))
            .ok_or_else(|| unknown("transport", text))
    }

    pub(crate) fn create_transport(
        &mut self,
        session: SessionId,
        direction: Direction,
        force_tcp: bool,
        sctp: SctpMode,
    ) -> Result<(Response, After), RequestError> {
        self.check_tcp(force_tcp)?;
        let (id, core, ice_parameters) = self.add_transport(session, direction, sctp)?;
        // Clients ask for their transports before or after they enter: what there is to receive
        // waits for the transport that can take it.
        let offers = self.peer(session)?.joined && direction == Direction::Recv;
        let options = TransportOptions {
            id: self.ids.text(id.0),
            ice_parameters,
            ice_candidates: self.candidates(core, force_tcp),
            dtls_parameters: DtlsParameters {
                role: DtlsRole::Auto,
                fingerprints: vec![self.dtls.fingerprint()],
            },
            sctp_parameters: sctp.is_on().then(TransportData::parameters),
        };
        let after = if offers { After::Offer } else { After::Nothing };
        Ok((Response::Transport(options), after))
    }

    /// A new transport, on the core where its client lives.
    pub(crate) fn add_transport(
        &mut self,
        session: SessionId,
        direction: Direction,
        sctp: SctpMode,
    ) -> Result<(TransportId, CoreId, IceParameters), RequestError> {
        let limit = self.config.limits.transports_per_peer;
        let peer = self.peer(session)?;
        if peer.transports.len() >= limit {
            return Err(too_many("transports of a peer", limit));
        }
        let core = self.core_of(session)?;
        let id = TransportId(self.ids.next());
        let ice = self.new_ice(core);
        let ice_parameters = ice_parameters(&ice);
        let transport = Transport {
            session,
            direction,
            core,
            ice_state: None,
            remote: None,
            peer_role: None,
            fingerprints: None,
            dtls: None,
            dtls_state: DtlsState::New,
            cname: None,
            ssrcs: HashSet::new(),
            next_ssrc: None,
            mids: HashSet::new(),
            rids: HashSet::new(),
            next_mid: 0,
            data: sctp
                .is_on()
                .then(|| Box::new(TransportData::new(self.now, sctp == SctpMode::InBand))),
            plain: None,
        };
        self.transports.insert(id, transport);
        self.placement.add_transport(core);
        let outgoing_bitrate_bps = self.config.outgoing_bitrate_bps;
        let config = TransportConfig {
            id,
            ice,
            outgoing_bitrate_bps,
            data_channels: sctp.is_on(),
            owner: self.client_mark(session),
            checkpoint: self.call_memory().transport(),
        };
        self.command(core, Command::CreateTransport(Box::new(config)));
        self.peer_mut(session)?.transports.push(id);
        Ok((id, core, ice_parameters))
    }

    fn check_tcp(&self, force_tcp: bool) -> Result<(), RequestError> {
        if force_tcp && !self.config.ice_tcp && self.config.shared_tcp.is_empty() {
            return Err(malformed(
                "ICE over TCP is not offered: ask without forceTcp, or start the server with \
                 --ice-tcp or --ice-tcp-on-http",
            ));
        }
        Ok(())
    }

    fn new_ice(&mut self, core: CoreId) -> IceCredentials {
        match self.config.seed {
            Some(_) => IceCredentials::draw(Some(core), |random| self.rng.fill(random)),
            None => IceCredentials::generate(Some(core)),
        }
    }

    /// Where a peer lives; decided with its first transport, and anew where it has none left on a
    /// core that is to go.
    fn core_of(&mut self, session: SessionId) -> Result<CoreId, RequestError> {
        let peer = self.peer(session)?;
        let (room, before) = (peer.room, peer.core);
        if let Some(core) = before
            && (self.placement.is_open(core) || !peer.transports.is_empty())
        {
            return Ok(core);
        }
        let Some(room) = self.rooms.get_mut(&room) else {
            return Err(not_allowed("the room was closed: connect again"));
        };
        let core = self.placement.choose(&room.cores);
        if let Some(before) = before {
            room.cores.leave(before);
        }
        room.cores.enter(core);
        self.peer_mut(session)?.core = Some(core);
        Ok(core)
    }

    /// Where a core is reached: by UDP, and for those whose network lets none through by TCP.
    fn candidates(&self, core: CoreId, force_tcp: bool) -> Vec<IceCandidate> {
        let addresses = self.addresses.get(&core);
        let addresses = addresses.map_or(&[][..], |core| &core.announced);
        let udp = if force_tcp { &[] } else { addresses };
        let tcp = if self.config.ice_tcp { addresses } else { &[] };
        let ways = [(Way::Udp, udp), (Way::Tcp, tcp), (Way::SharedTcp, &self.config.shared_tcp)];
        let all = |(way, addresses): (Way, &[SocketAddr])| {
            let numbered = addresses.iter().enumerate();
            numbered.map(|(index, address)| way.candidate(index, address)).collect::<Vec<_>>()
        };
        ways.into_iter().flat_map(all).collect()
    }

    pub(crate) fn connect_transport(
        &mut self,
        session: SessionId,
        transport_id: &str,
        parameters: &DtlsParameters,
    ) -> Result<After, RequestError> {
        let id = self.own_transport(session, transport_id)?;
        let fingerprints = PeerFingerprints::parse(&parameters.fingerprints).map_err(malformed)?;
        let Some(transport) = self.transports.get_mut(&id) else {
            return Err(unknown("transport", transport_id));
        };
        if transport.plain.is_some() {
            return Err(not_allowed("a plain transport has no DTLS: connect it with ip and port"));
        }
        if transport.peer_role.is_some() {
            return Err(not_allowed("this transport is connected already: connect it once"));
        }
        transport.peer_role = Some(parameters.role);
        transport.fingerprints = Some(fingerprints.clone());
        if parameters.role == DtlsRole::Server {
            // Whatever came before was not the handshake of a server.
            transport.dtls = None;
            transport.dtls_state = DtlsState::New;
            self.start_as_client(id);
        } else if let Some(dtls) = &mut transport.dtls {
            dtls.set_peer_fingerprints(fingerprints);
        }
        self.drive_dtls(id);
        // Where the server opens the channels, it can from now on.
        let transport = self.transports.get(&id).filter(|t| t.direction == Direction::Recv);
        let opens = transport.is_some_and(|t| t.data.as_ref().is_some_and(|data| data.in_band));
        let joined = self.peer(session).is_ok_and(|peer| peer.joined);
        Ok(if opens && joined { After::Offer } else { After::Nothing })
    }

    /// As DTLS client we speak first, as soon as there is an address to speak to.
    fn start_as_client(&mut self, id: TransportId) {
        let now = self.instant();
        let Some(transport) = self.transports.get_mut(&id) else { return };
        let can_send =
            matches!(transport.ice_state, Some(IceState::Connected | IceState::Completed));
        if transport.peer_role != Some(DtlsRole::Server) || transport.dtls.is_some() || !can_send {
            return;
        }
        transport.start_dtls(&self.dtls, Role::Client, now);
        self.drive_dtls(id);
    }

    pub(crate) fn dtls_datagram(
        &mut self,
        id: TransportId,
        unproven: Option<Tuple>,
        datagram: &[u8],
    ) {
        let now = self.instant();
        let Some(transport) = self.transports.get_mut(&id) else { return };
        if transport.dtls.is_none() {
            // A client may shake hands before signaling has brought its fingerprint; the endpoint
            // keeps the keys until then.
            let role = match transport.peer_role {
                Some(DtlsRole::Server) => Role::Client,
                _ => Role::Server,
            };
            transport.start_dtls(&self.dtls, role, now);
        }
        if let Some(dtls) = &mut transport.dtls {
            dtls.handle_datagram(datagram, now);
            dtls.take_drops(&mut self.dtls_drops);
        }
        // What is opened at once came in this datagram, and records are opened once only: it is the
        // client that sent it, and from there.
        let had_keys = transport.dtls_state == DtlsState::Connected;
        let opened = self.drive_dtls(id);
        if let Some(tuple) = unproven.filter(|_| had_keys && opened)
            && let Some(transport) = self.transports.get(&id)
        {
            self.command(transport.core, Command::ProveTuple { transport: id, tuple });
        }
    }

    /// The path to a client carries more or less than before, or more or less is wanted of it.
    pub(crate) fn bandwidth_changed(&mut self, id: TransportId, bandwidth: Bandwidth) {
        let Some(transport) = self.transports.get(&id) else { return };
        let session = transport.session;
        let desired_bitrate = bandwidth.desired_bps;
        let told = DownlinkBandwidth {
            desired_bitrate,
            effective_desired_bitrate: desired_bitrate.min(self.config.outgoing_bitrate_bps),
            available_bitrate: bandwidth.available_bps,
        };
        self.notify(session, Notification::DownlinkBandwidth(told));
        self.review_path(session, Some(bandwidth.available_bps));
    }

    pub(crate) fn dtls_timeout(&mut self, id: TransportId) {
        let now = self.instant();
        let Some(transport) = self.transports.get_mut(&id) else { return };
        if let Some(dtls) = &mut transport.dtls {
            dtls.handle_timeout(now);
        }
        self.drive_dtls(id);
    }

    /// Passes on what an endpoint has to say, and sets its timer. Returns whether data of the
    /// client was among it.
    pub(crate) fn drive_dtls(&mut self, id: TransportId) -> bool {
        let mut opened = false;
        while let Some(transport) = self.transports.get_mut(&id) {
            let core = transport.core;
            match transport.dtls.as_mut().and_then(|dtls| dtls.poll_output()) {
                None => break,
                Some(DtlsOutput::Datagram(datagram)) => {
                    self.command(core, Command::SendDtls { transport: id, datagram });
                }
                Some(DtlsOutput::Connected(keys)) => {
                    transport.dtls_state = DtlsState::Connected;
                    self.command(core, Command::InstallSrtp { transport: id, keys });
                }
                Some(DtlsOutput::Data(packet)) => {
                    opened = true;
                    self.sctp_packet(id, &packet);
                }
                Some(DtlsOutput::Closed) => {
                    self.dtls_lost(id, "closed by the client");
                    return opened;
                }
                Some(DtlsOutput::Failed(reason)) => {
                    self.dtls_lost(id, &reason);
                    return opened;
                }
            }
        }
        let Some(transport) = self.transports.get(&id) else { return opened };
        match transport.dtls.as_ref().and_then(|dtls| dtls.next_timeout()) {
            Some(at) => {
                let since_origin = at.saturating_duration_since(self.origin);
                self.timers.set(Timer::Dtls(id), Time::ZERO + since_origin);
            }
            None => self.timers.cancel(Timer::Dtls(id)),
        }
        opened
    }

    /// A DTLS association cannot be repaired. A client that is offered consumers (protoo) joins
    /// anew; one that asks for what it wants may have closed just this transport, and keeps its
    /// session as long as it has another.
    fn dtls_lost(&mut self, id: TransportId, reason: &str) {
        let Some(transport) = self.transports.get(&id) else { return };
        let session = transport.session;
        let Some(peer) = self.peers.get(&session) else { return };
        tracing::info!(transport = id.0, peer = %peer.name, "DTLS is over: {reason}");
        if peer.mode == ConsumeMode::Automatic || peer.transports.len() <= 1 {
            return self.close_with(session, CloseReason::TransportLost);
        }
        self.remove_transport(id);
        self.review_quality(session);
    }

    pub(crate) fn ice_moved(&mut self, id: TransportId, state: IceState, remote: SocketAddr) {
        let Some(transport) = self.transports.get_mut(&id) else {
            return self.left_moved(id, state);
        };
        transport.ice_state = Some(state);
        transport.remote = Some(remote);
        let session = transport.session;
        match state {
            IceState::Connected | IceState::Completed => {
                self.timers.cancel(Timer::Grace(id));
                self.start_as_client(id);
            }
            IceState::Disconnected => {
                self.timers.set(Timer::Grace(id), self.now + TRANSPORT_LOST_GRACE);
            }
        }
        self.review_quality(session);
    }

    /// A core was replaced, and may have died with the news that a client is silent. The new one
    /// says of each client that it is there, as soon as it knows; who is not heard of is as one
    /// whose consent lapses now or later.
    pub(crate) fn await_clients_of(&mut self, core: CoreId) {
        let until = self.now + CONSENT_TIMEOUT + TRANSPORT_LOST_GRACE;
        let on_core = self.transports.iter().filter(|(_, transport)| transport.core == core);
        for (&id, _) in on_core.filter(|(_, transport)| transport.has_consent()) {
            self.timers.set(Timer::Grace(id), until);
        }
    }

    /// Consent has not come back. Whoever lives on by a newer transport in its place has left this
    /// one behind: a client on a dead path cannot say so.
    pub(crate) fn grace_is_over(&mut self, id: TransportId) {
        let Some(transport) = self.transports.get(&id) else { return };
        let (session, direction) = (transport.session, transport.direction);
        let Some(peer) = self.peers.get(&session) else { return };
        let mut newer = peer.transports.iter().skip_while(|&&of| of != id).skip(1);
        let is_replaced = newer.any(|other| {
            self.transports
                .get(other)
                .is_some_and(|other| other.direction == direction && other.has_consent())
        });
        if !is_replaced {
            return self.close_with(session, CloseReason::TransportLost);
        }
        let stranded = self.consumers_of(session, id);
        stranded.into_iter().for_each(|consumer| self.close_consumer(consumer));
        self.remove_transport(id);
        // What was received on it comes on the newer one, where the server is to offer it.
        self.offer_existing(session);
        self.review_quality(session);
    }

    pub(crate) fn restart_ice(
        &mut self,
        session: SessionId,
        transport_id: &str,
    ) -> Result<IceParameters, RequestError> {
        let id = self.own_transport(session, transport_id)?;
        let Some(transport) = self.transports.get(&id) else {
            return Err(unknown("transport", transport_id));
        };
        let core = transport.core;
        let ice = self.new_ice(core);
        let parameters = ice_parameters(&ice);
        self.command(core, Command::RestartIce { transport: id, ice });
        Ok(parameters)
    }

    /// Forgets a transport with all that runs over it.
    pub(crate) fn remove_transport(&mut self, id: TransportId) {
        let Some(transport) = self.transports.get_mut(&id) else { return };
        let (session, core) = (transport.session, transport.core);
        if let Some(mut dtls) = transport.dtls.take() {
            dtls.close();
            while let Some(output) = dtls.poll_output() {
                if let DtlsOutput::Datagram(datagram) = output {
                    self.command(core, Command::SendDtls { transport: id, datagram });
                }
            }
        }
        for producer in self.producers_of(session, id) {
            self.remove_producer(producer);
        }
        for consumer in self.consumers_of(session, id) {
            self.remove_consumer(consumer);
        }
        self.remove_data_of(id);
        self.transports.remove(&id);
        self.timers.cancel(Timer::Dtls(id));
        self.timers.cancel(Timer::Grace(id));
        self.placement.remove_transport(core);
        self.command(core, Command::CloseTransport(id));
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.transports.retain(|transport| *transport != id);
        }
    }
}

impl Transport {
    /// Sends an SCTP packet inside DTLS; the caller drives what comes of it.
    pub fn send_inside(&mut self, packet: &[u8]) {
        if let Some(dtls) = &mut self.dtls {
            dtls.send(packet);
        }
    }

    fn start_dtls(
        &mut self,
        context: &crate::dtls::DtlsContext,
        role: Role,
        now: std::time::Instant,
    ) {
        let mut endpoint = DtlsEndpoint::new(context, role, now);
        if let Some(fingerprints) = &self.fingerprints {
            endpoint.set_peer_fingerprints(fingerprints.clone());
        }
        self.dtls = Some(Box::new(endpoint));
        self.dtls_state = DtlsState::Connecting;
    }
}

fn ice_parameters(ice: &IceCredentials) -> IceParameters {
    IceParameters {
        username_fragment: ice.ufrag.clone(),
        password: ice.pwd.clone(),
        ice_lite: true,
    }
}

/// How an address is reached, the preferred way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp,
    /// At the port of its core.
    Tcp,
    /// At a port of all cores, which is that of the web side.
    SharedTcp,
}

impl Way {
    fn candidate(self, index: usize, address: &SocketAddr) -> IceCandidate {
        let (protocol, foundation) = match self {
            Way::Udp => ("udp", "udp"),
            Way::Tcp => ("tcp", "tcp"),
            Way::SharedTcp => ("tcp", "web"),
        };
        IceCandidate {
            foundation: format!("{foundation}{index}"),
            priority: self.priority(index),
            address: address.ip().to_string(),
            ip: address.ip().to_string(),
            protocol: protocol.to_owned(),
            tcp_type: (self != Way::Udp).then_some("passive"),
            port: address.port(),
            kind: "host".to_owned(),
        }
    }

    /// RFC 8445 section 5.1.2.1: host candidates of component 1, earlier addresses preferred; those
    /// of TCP after all of UDP, with the preference of passive ones (RFC 6544 section 4.2), the
    /// shared port after those of cores.
    fn priority(self, index: usize) -> u32 {
        const COMPONENT: u32 = 1;
        const PASSIVE: u32 = 4 << 13;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let (kind, local) = match self {
            Way::Udp => (126, 65_535 - index.min(65_535)),
            Way::Tcp => (90, PASSIVE + 8_191 - index.min(4_095)),
            Way::SharedTcp => (90, PASSIVE + 4_095 - index.min(4_095)),
        };
        (kind << 24) + (local << 8) + (256 - COMPONENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_follow_the_formula_and_fall_with_the_index() {
        assert_eq!(Way::Udp.priority(0), 2_130_706_431);
        assert_eq!(Way::Udp.priority(usize::MAX), (126 << 24) + 255);
        assert_eq!(Way::Tcp.priority(0), (90 << 24) + (40_959 << 8) + 255);
        let falling = [Way::Udp, Way::Tcp, Way::SharedTcp]
            .map(|way| [0, 1, usize::MAX].map(|index| way.priority(index)));
        assert!(falling.as_flattened().is_sorted_by(|above, below| above > below));
    }
}
