//! The client's side of one transport: ICE checks, the DTLS handshake, SRTP both ways.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opencall_control::api::{DtlsParameters, DtlsRole, IceParameters, TransportOptions};
use opencall_control::dtls::{DtlsContext, DtlsEndpoint, DtlsOutput, PeerFingerprints, Role};
use opencall_dataplane::demux::{PacketClass, classify};
use opencall_wire::rtcp;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::srtp::{KeyingMaterial, OpenContext, OpenError, SealContext};
use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::{Checker, success};
use opencall_wire::time::Time;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::camera::Packet;

/// Time between two checks before one was answered, and after: browsers check twice a second or
/// so, and consent is asked for every five seconds at least (RFC 7675).
const CHECK_INTERVAL: Duration = Duration::from_millis(150);
const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);

/// The client's name for its transports, in ICE.
const OUR_UFRAG: &str = "client";

/// Bytes of a packet before it is sealed, and of one RTCP datagram.
const BUFFER_BYTES: usize = 2_000;

/// What came from the server.
pub enum Incoming {
    /// A packet, opened.
    Rtp {
        /// Its header.
        header: RtpHeader,
        /// Header and payload.
        bytes: Vec<u8>,
    },
    /// A compound packet, opened.
    Rtcp(Vec<u8>),
}

/// Why a datagram of the server's was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It came before, or is too old: wires repeat and reorder.
    Replay,
    /// It belongs to no key that the client has, or is no packet.
    Foreign,
    /// It came before the client had keys.
    TooSoon,
}

struct Srtp {
    seal: SealContext,
    open: OpenContext,
}

/// One transport of one client.
pub struct Leg {
    /// The transport's id, as the server says it.
    pub id: String,
    /// Where the client is.
    pub local: SocketAddr,
    /// Where the server is.
    pub server: SocketAddr,
    /// How often the client has moved.
    pub moves: u32,
    checker: Checker,
    tie_breaker: u64,
    next_check: Time,
    /// Transactions of the newest checks.
    asked: VecDeque<TransactionId>,
    is_checked: bool,
    dtls: DtlsEndpoint,
    srtp: Option<Srtp>,
    next_transport_sequence: u16,
    outgoing: VecDeque<Vec<u8>>,
    /// The handshake failed, or the server said goodbye.
    pub over: Option<String>,
}

impl Leg {
    /// The client's side of what the server offers; also what the server is to be told.
    pub fn new(
        options: &TransportOptions,
        local: SocketAddr,
        role: Role,
        context: &DtlsContext,
        now: Instant,
        dice: &mut StdRng,
    ) -> (Leg, DtlsParameters) {
        let candidate = options.ice_candidates.first().expect("a candidate");
        let server = SocketAddr::new(candidate.ip.parse().expect("an address"), candidate.port);
        let ice = &options.ice_parameters;
        let mut dtls = DtlsEndpoint::new(context, role, now);
        let fingerprints = PeerFingerprints::parse(&options.dtls_parameters.fingerprints);
        dtls.set_peer_fingerprints(fingerprints.expect("readable fingerprints"));
        let tie_breaker = dice.random();
        let leg = Leg {
            id: options.id.clone(),
            local,
            server,
            moves: 0,
            checker: Checker::new(&ice.username_fragment, &ice.password, OUR_UFRAG, tie_breaker),
            tie_breaker,
            next_check: Time::ZERO,
            asked: VecDeque::new(),
            is_checked: false,
            dtls,
            srtp: None,
            next_transport_sequence: dice.random(),
            outgoing: VecDeque::new(),
            over: None,
        };
        let role = match role {
            Role::Client => DtlsRole::Client,
            Role::Server => DtlsRole::Server,
        };
        (leg, DtlsParameters { role, fingerprints: vec![context.fingerprint()] })
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some() && self.is_checked
    }

    /// The server has new credentials: checks use them from now on.
    pub fn restart_ice(&mut self, ice: &IceParameters) {
        self.checker =
            Checker::new(&ice.username_fragment, &ice.password, OUR_UFRAG, self.tie_breaker);
        self.next_check = Time::ZERO;
    }

    /// The client is somewhere else from now on.
    pub fn move_to(&mut self, local: SocketAddr) {
        self.local = local;
        self.moves += 1;
        self.is_checked = false;
        self.next_check = Time::ZERO;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time, instant: Instant, dice: &mut StdRng) {
        if self.next_check <= now {
            let transaction = TransactionId(dice.random());
            self.outgoing.push_back(self.checker.request(transaction));
            self.asked.push_back(transaction);
            if self.asked.len() > 16 {
                self.asked.pop_front();
            }
            let interval = if self.is_checked { CONSENT_INTERVAL } else { CHECK_INTERVAL };
            self.next_check = now + interval;
        }
        if self.dtls.next_timeout().is_some_and(|at| at <= instant) {
            self.dtls.handle_timeout(instant);
        }
        self.drive_dtls();
    }

    /// Something came from the server. `None`: nothing that is media.
    pub fn handle(
        &mut self,
        bytes: Vec<u8>,
        instant: Instant,
    ) -> Option<Result<Incoming, Refused>> {
        match classify(&bytes) {
            Ok(PacketClass::Stun) => {
                let answered = success(&bytes).is_some_and(|id| self.asked.contains(&id));
                self.is_checked |= answered;
                None
            }
            Ok(PacketClass::Dtls) => {
                self.dtls.handle_datagram(&bytes, instant);
                self.drive_dtls();
                None
            }
            Ok(PacketClass::Rtp) => Some(self.open_rtp(bytes)),
            Ok(PacketClass::Rtcp) => Some(self.open_rtcp(bytes)),
            Err(_) => Some(Err(Refused::Foreign)),
        }
    }

    fn open_rtp(&mut self, mut bytes: Vec<u8>) -> Result<Incoming, Refused> {
        let srtp = self.srtp.as_mut().ok_or(Refused::TooSoon)?;
        let header = RtpHeader::parse(&bytes).ok_or(Refused::Foreign)?;
        let header_len = usize::from(header.header_len);
        let opened = srtp.open.open_rtp(&mut bytes, header.ssrc, header.sequence, header_len);
        bytes.truncate(opened.map_err(refused)?.len);
        Ok(Incoming::Rtp { header, bytes })
    }

    fn open_rtcp(&mut self, mut bytes: Vec<u8>) -> Result<Incoming, Refused> {
        let srtp = self.srtp.as_mut().ok_or(Refused::TooSoon)?;
        let len = srtp.open.open_rtcp(&mut bytes).map_err(refused)?;
        bytes.truncate(len);
        Ok(Incoming::Rtcp(bytes))
    }

    fn drive_dtls(&mut self) {
        while let Some(output) = self.dtls.poll_output() {
            match output {
                DtlsOutput::Datagram(datagram) => self.outgoing.push_back(datagram.into_vec()),
                DtlsOutput::Connected(keys) => self.srtp = Some(contexts(&keys)),
                DtlsOutput::Data(_) => {}
                DtlsOutput::Closed => self.over = Some("closed by the server".to_owned()),
                DtlsOutput::Failed(reason) => self.over = Some(reason),
            }
        }
    }

    /// Sends a packet of a track.
    pub fn send(&mut self, mid: &str, packet: &Packet) {
        let Some(srtp) = &mut self.srtp else { return };
        let mut out = vec![0; BUFFER_BYTES];
        let header_len = packet.write_header(mid, self.next_transport_sequence, &mut out);
        self.next_transport_sequence = self.next_transport_sequence.wrapping_add(1);
        let sealed = srtp.seal.seal_rtp(packet.index, header_len, &packet.payload, &mut out);
        out.truncate(sealed.expect("a packet can be sealed"));
        self.outgoing.push_back(out);
    }

    /// Sends what `write` writes, if anything.
    pub fn send_rtcp(&mut self, write: impl FnOnce(&mut rtcp::Writer<'_>)) {
        let Some(srtp) = &mut self.srtp else { return };
        let mut out = vec![0; BUFFER_BYTES];
        let mut writer = rtcp::Writer::new(&mut out);
        write(&mut writer);
        let len = writer.finish();
        if len > 0 {
            let sealed = srtp.seal.seal_rtcp(&mut out, len);
            out.truncate(sealed.expect("a compound can be sealed"));
            self.outgoing.push_back(out);
        }
    }

    /// The next datagram to the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }
}

fn contexts(keys: &KeyingMaterial) -> Srtp {
    let seal = keys.seal_context().expect("keys of the right length");
    Srtp { seal, open: keys.open_context().expect("keys of the right length") }
}

fn refused(reason: OpenError) -> Refused {
    match reason {
        OpenError::Replay => Refused::Replay,
        _ => Refused::Foreign,
    }
}
