//! A client: what it sends, and what it must be able to say of everything it receives.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use opencall_dataplane::demux::{PacketClass, classify};
use opencall_dataplane::egress::prober::{PROBATOR_MID, PROBATOR_PAYLOAD_TYPE, PROBATOR_SSRC};
use opencall_dataplane::message::{CoreId, IceCredentials, TransportConfig, TransportId};
use opencall_wire::rtcp;
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::rtp::red::RedPayload;
use opencall_wire::rtp::vp8::Vp8Descriptor;
use opencall_wire::rtp::{ExtensionSpans, RtpHeader};
use opencall_wire::srtp::{KeyingMaterial, OpenContext, OpenError, Profile, SealContext};

use super::world::RED_PT;
use crate::stun_message::{BINDING_REQUEST, Message, attribute};

/// Addresses a client may come from.
const ADDRESSES: u8 = 12;

/// A DTLS record of the second epoch: what a Finished looks like to who has no keys.
pub const DTLS_ANSWER: [u8; 29] = [
    22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16,
];

/// Bytes that SRTP and SRTCP add at most.
const OVERHEAD: usize = 20;

/// What a consumer was promised.
pub struct Promise {
    pub mid: Vec<u8>,
    pub payload_types: Vec<u8>,
    /// It is the retransmission stream.
    pub rtx: bool,
    pub mid_id: u8,
}

/// One client with one transport.
pub struct Client {
    pub number: u8,
    pub core: CoreId,
    pub transport: TransportId,
    pub ice: IceCredentials,
    /// Credentials before the last restart, which it may still use.
    pub old_ice: Option<IceCredentials>,
    pub address: SocketAddr,
    /// From where a good check has come.
    pub addresses: HashSet<SocketAddr>,
    /// By media and retransmission SSRC.
    pub promises: HashMap<u32, Promise>,
    /// Datagrams control has had sent.
    pub dtls: HashSet<Vec<u8>>,
    /// Sequence numbers of the last packets received: what a NACK names.
    pub received: Vec<(u32, u16)>,
    /// Checks made.
    checks: u8,
    seal: SealContext,
    open: OpenContext,
    /// Per SSRC, the newest packet index sent.
    sent: HashMap<u32, u64>,
    /// Datagrams received.
    seen: HashSet<Vec<u8>>,
}

impl Client {
    pub fn new(number: u8, id: u64, core: CoreId, profile: Profile) -> (Self, KeyingMaterial) {
        let key = |byte: u8, len: usize| vec![byte ^ id as u8; len].into();
        let keys = KeyingMaterial {
            profile,
            remote_key: key(0x11, profile.key_len()),
            remote_salt: key(0x22, profile.salt_len()),
            local_key: key(0x77, profile.key_len()),
            local_salt: key(0x88, profile.salt_len()),
        };
        let client = Client {
            number,
            core,
            transport: TransportId(id),
            ice: credentials(id, 0),
            old_ice: None,
            address: address(number, 0),
            addresses: HashSet::new(),
            promises: HashMap::new(),
            dtls: HashSet::new(),
            received: Vec::new(),
            checks: 0,
            seal: SealContext::new(profile, &keys.remote_key, &keys.remote_salt)
                .expect("a key of the right length"),
            open: OpenContext::new(profile, &keys.local_key, &keys.local_salt)
                .expect("a key of the right length"),
            sent: HashMap::new(),
            seen: HashSet::new(),
        };
        (client, keys)
    }

    pub fn config(&self) -> TransportConfig {
        TransportConfig {
            id: self.transport,
            ice: self.ice.clone(),
            outgoing_bitrate_bps: 5_000_000,
            data_channels: self.transport.0.is_multiple_of(2),
            owner: 0,
            checkpoint: Default::default(),
        }
    }

    /// A check; one that is signed with the right password is good.
    pub fn check(&mut self, old: bool, forged: bool, nominate: bool) -> Vec<u8> {
        let ice = self.old_ice.as_ref().filter(|_| old).unwrap_or(&self.ice);
        // Most checks are new; some come again, perhaps from elsewhere.
        self.checks = self.checks.wrapping_add(1);
        let transaction = [self.checks - u8::from(self.checks % 5 == 4); 12];
        let mut message = Message::new(BINDING_REQUEST, transaction)
            .attribute(attribute::USERNAME, format!("{}:client", ice.ufrag).as_bytes())
            .attribute(attribute::PRIORITY, &[0x6e, 0x7f, 0x1e, 0xff])
            .attribute(attribute::ICE_CONTROLLING, &[7; 8]);
        if nominate {
            message = message.attribute(attribute::USE_CANDIDATE, &[]);
        }
        message.integrity(false, if forged { "a guess" } else { &ice.pwd }).finish()
    }

    /// Seals a plain packet, `delta` sequence numbers behind the newest of its SSRC.
    pub fn seal_rtp(&mut self, mut plain: Vec<u8>, delta: i8) -> Option<Vec<u8>> {
        let header = RtpHeader::parse(&plain)?;
        let newest = self.sent.entry(header.ssrc).or_insert_with(|| header.sequence.into());
        let index = newest.saturating_add_signed(delta.into());
        *newest = index.max(*newest);
        plain[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        let header_len = usize::from(header.header_len);
        let mut out = plain[..header_len].to_vec();
        out.resize(plain.len() + OVERHEAD, 0);
        let len = self.seal.seal_rtp(index, header_len, &plain[header_len..], &mut out).ok()?;
        out.truncate(len);
        Some(out)
    }

    pub fn seal_rtcp(&mut self, mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let len = plain.len();
        plain.resize(len + OVERHEAD, 0);
        let len = self.seal.seal_rtcp(&mut plain, len).ok()?;
        plain.truncate(len);
        Some(plain)
    }

    /// Takes a datagram that was sent to one of its addresses.
    pub fn receive(&mut self, datagram: &[u8], payloads: &HashSet<Vec<u8>>) {
        match classify(datagram).expect("we send nothing unknown") {
            PacketClass::Stun => assert_eq!(datagram[..2], [0x01, 0x01], "the check was good"),
            PacketClass::Dtls => assert!(self.dtls.contains(datagram), "control sent no such"),
            PacketClass::Rtp => self.receive_rtp(datagram, payloads),
            PacketClass::Rtcp => {
                let mut packet = datagram.to_vec();
                let len = self.open.open_rtcp(&mut packet).expect("authentic, and new");
                assert!(len > 0);
                for packet in rtcp::packets(&packet[..len]) {
                    packet.expect("what we write can be read");
                }
            }
        }
        assert!(datagram.len() <= 1700);
    }

    fn receive_rtp(&mut self, datagram: &[u8], payloads: &HashSet<Vec<u8>>) {
        let mut packet = datagram.to_vec();
        let header = RtpHeader::parse(&packet).expect("what we write can be read");
        let header_len = usize::from(header.header_len);
        match self.open.open_rtp(&mut packet, header.ssrc, header.sequence, header_len) {
            Ok(opened) => packet.truncate(opened.len),
            // The same packet again is the same to the byte: a nonce protects one packet only.
            Err(OpenError::Replay) if self.seen.contains(datagram) => return,
            Err(reason) => panic!("a client cannot open {header:?}: {reason:?}"),
        }
        self.seen.insert(datagram.to_vec());
        if header.ssrc == PROBATOR_SSRC {
            return self.receive_padding(&packet, &header);
        }
        // None for packets of a consumer that is closed since: nothing may come of those.
        let promise = self.promises.get(&header.ssrc).expect("an SSRC that was announced");
        assert!(promise.payload_types.contains(&header.payload_type));
        let mut ids = ExtensionIds::default();
        ids.set(Extension::Mid, promise.mid_id);
        let spans = ExtensionSpans::parse(&packet, &header, &ids);
        assert_eq!(spans.of(Extension::Mid, &packet), Some(&*promise.mid));
        let range = header.payload_range(&packet).expect("padding that adds up");
        let payload = &packet[range];
        let payload = if promise.rtx { payload.get(2..).unwrap_or_default() } else { payload };
        if header.payload_type == RED_PT {
            let red = RedPayload::parse(payload).expect("what we write comes apart");
            for block in red.repetitions().iter().chain([&red.own]) {
                assert!(payloads.contains(essence(&payload[block.range()])), "somebody's frame");
            }
        } else {
            assert!(payloads.contains(essence(payload)), "somebody has sent this");
        }
        if !promise.rtx {
            self.received.push((header.ssrc, header.sequence));
        }
    }

    /// Takes a packet that measures the path: the stream that mediasoup's clients know, and
    /// nothing that anybody has said.
    fn receive_padding(&self, packet: &[u8], header: &RtpHeader) {
        assert_eq!(header.payload_type, PROBATOR_PAYLOAD_TYPE);
        let named = self.promises.values().any(|promise| {
            let mut ids = ExtensionIds::default();
            ids.set(Extension::Mid, promise.mid_id);
            let spans = ExtensionSpans::parse(packet, header, &ids);
            spans.of(Extension::Mid, packet) == Some(PROBATOR_MID)
        });
        assert!(named, "padding before there is a consumer, or without its name");
        let payload = &packet[header.payload_range(packet).expect("padding that adds up")];
        assert!(payload.iter().all(|&byte| byte == 0), "padding that says something");
    }
}

/// What forwarding leaves of a payload as it was: all but the ids in a VP8 descriptor, which may
/// stand there whatever the codec.
pub fn essence(payload: &[u8]) -> &[u8] {
    let descriptor = Vp8Descriptor::parse(payload).map_or(0, |vp8| usize::from(vp8.len));
    &payload[descriptor..]
}

pub fn credentials(id: u64, generation: u8) -> IceCredentials {
    IceCredentials {
        ufrag: format!("u{id}g{generation}"),
        pwd: format!("password {id} {generation}"),
    }
}

/// An address of a client; those of strangers are none of these.
pub fn address(client: u8, number: u8) -> SocketAddr {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, client));
    SocketAddr::new(ip, 5000 + u16::from(number % ADDRESSES))
}
