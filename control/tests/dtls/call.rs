//! Our endpoint and OpenSSL's, and what lies between them.

use std::time::{Duration, Instant};

use opencall_control::api::DtlsFingerprint;
use opencall_control::dtls::{
    CertificateSource, DtlsConfig, DtlsContext, DtlsEndpoint, DtlsOutput, DtlsVersion,
    PeerFingerprints, Role,
};
use opencall_wire::srtp::{KeyingMaterial, Profile};

use crate::openssl_peer::{Identity, Peer};

/// Longer than OpenSSL's third repeat of a flight: after 1, 2 and 4 s.
const DEADLINE: Duration = Duration::from_secs(20);

/// What OpenSSL sends, and what arrives of it: the number of the datagram, and its bytes.
pub type Network<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Vec<Vec<u8>>;

pub struct Call {
    pub ours: DtlsEndpoint,
    pub peer: Peer,
    pub keys: Option<Box<KeyingMaterial>>,
    pub closed: bool,
    /// Datagrams that OpenSSL has sent.
    sent: usize,
}

impl Call {
    /// Our role is the other one's.
    pub fn new(ours: CertificateSource, peer: &Identity, peer_is_client: bool, mtu: u32) -> Self {
        let config = DtlsConfig {
            certificate: ours,
            max_version: DtlsVersion::Dtls13,
            srtp_profiles: DtlsConfig::default().srtp_profiles,
            seed: None,
        };
        let context = DtlsContext::new(&config).expect("a good configuration");
        let role = if peer_is_client { Role::Server } else { Role::Client };
        let mut ours = DtlsEndpoint::new(&context, role, Instant::now());
        let fingerprint = DtlsFingerprint { algorithm: "sha-256".to_owned(), value: peer.sha256() };
        ours.set_peer_fingerprints(PeerFingerprints::parse(&[fingerprint]).expect("readable"));
        let peer = Peer::new(peer, peer_is_client, mtu);
        Call { ours, peer, keys: None, closed: false, sent: 0 }
    }

    /// Carries datagrams both ways until both sides have keys.
    pub fn shake_hands(&mut self, network: Network) {
        let deadline = Instant::now() + DEADLINE;
        while self.keys.is_none() || self.peer.keys().is_none() {
            assert!(Instant::now() < deadline, "no handshake within {DEADLINE:?}");
            if !self.exchange(network) {
                // Nothing but time brings this on: OpenSSL repeats a flight by the clock alone.
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        self.assert_same_keys();
    }

    /// Whether anything was carried.
    pub fn exchange(&mut self, network: Network) -> bool {
        let sent = self.peer.advance();
        let mut busy = !sent.is_empty();
        for datagram in sent {
            for arriving in network(self.sent, &datagram) {
                self.ours.handle_datagram(&arriving, Instant::now());
                self.drain();
            }
            self.sent += 1;
        }
        self.ours.handle_timeout(Instant::now());
        busy |= self.drain();
        busy
    }

    /// Whether we had something to say.
    pub fn drain(&mut self) -> bool {
        let mut busy = false;
        while let Some(output) = self.ours.poll_output() {
            busy = true;
            match output {
                DtlsOutput::Datagram(datagram) => self.peer.receive(&datagram),
                DtlsOutput::Connected(keys) => self.keys = Some(keys),
                DtlsOutput::Data(_) => {}
                DtlsOutput::Closed => self.closed = true,
                DtlsOutput::Failed(reason) => panic!("we gave up: {reason}"),
            }
        }
        busy
    }

    fn assert_same_keys(&self) {
        let ours = self.keys.as_ref().expect("keys");
        let (profile, exported) = self.peer.keys().expect("keys");
        // The server chooses: we by what is cheapest, OpenSSL by its own list.
        let chosen = match self.ours.role() {
            Role::Server => (Profile::AeadAes128Gcm, "SRTP_AEAD_AES_128_GCM"),
            Role::Client => (Profile::AesCm128HmacSha1_80, "SRTP_AES128_CM_SHA1_80"),
        };
        assert_eq!((ours.profile, &*profile), chosen);
        let (client, server) = match self.ours.role() {
            Role::Server => {
                ((&ours.remote_key, &ours.remote_salt), (&ours.local_key, &ours.local_salt))
            }
            Role::Client => {
                ((&ours.local_key, &ours.local_salt), (&ours.remote_key, &ours.remote_salt))
            }
        };
        let expected = [client.0, server.0, client.1, server.1];
        let expected: Vec<u8> =
            expected.into_iter().flat_map(|part| part.iter().copied()).collect();
        assert!(exported.starts_with(&expected), "the keys differ");
    }
}

/// A network that does nothing to a datagram.
pub fn calm(_: usize, datagram: &[u8]) -> Vec<Vec<u8>> {
    vec![datagram.to_vec()]
}
