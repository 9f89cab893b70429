//! Handshakes of our endpoints among themselves. Those with OpenSSL, which shares no line with the
//! library, are in `control/tests`.

mod forgeries;
mod mutations;
mod wire;

use std::time::{Duration, Instant};

use opencall_wire::srtp::{KeyingMaterial, Profile};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

fn context(max_version: DtlsVersion, profiles: &[Profile]) -> DtlsContext {
    let config = DtlsConfig {
        max_version,
        srtp_profiles: profiles.to_vec(),
        certificate: CertificateSource::Generate,
        seed: None,
    };
    DtlsContext::new(&config).expect("a good configuration")
}

const ALL: [Profile; 3] =
    [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80];

/// What an endpoint has said so far.
#[derive(Default)]
struct Heard {
    keys: Option<Box<KeyingMaterial>>,
    closed: bool,
    failed: Option<String>,
}

/// Two endpoints and the time between them.
struct Call {
    now: Instant,
    server: DtlsEndpoint,
    client: DtlsEndpoint,
    at_server: Heard,
    at_client: Heard,
    /// Body bytes of a fragment in the clear; 0: as it was sent.
    cut: usize,
    /// Share of datagrams that are lost.
    loss: f64,
    rng: StdRng,
}

impl Call {
    fn new(server: &DtlsContext, client: &DtlsContext) -> Self {
        let now = Instant::now();
        let mut call = Call {
            now,
            server: DtlsEndpoint::new(server, Role::Server, now),
            client: DtlsEndpoint::new(client, Role::Client, now),
            at_server: Heard::default(),
            at_client: Heard::default(),
            cut: 0,
            loss: 0.0,
            rng: StdRng::seed_from_u64(1),
        };
        call.client.set_peer_fingerprints(fingerprints_of(server));
        call
    }

    fn drain(endpoint: &mut DtlsEndpoint, heard: &mut Heard) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Some(output) = endpoint.poll_output() {
            match output {
                DtlsOutput::Datagram(datagram) => datagrams.push(datagram.into_vec()),
                DtlsOutput::Data(_) => {}
                DtlsOutput::Connected(keys) => heard.keys = Some(keys),
                DtlsOutput::Closed => heard.closed = true,
                DtlsOutput::Failed(reason) => heard.failed = Some(reason),
            }
        }
        datagrams
    }

    fn lost(&mut self) -> bool {
        self.rng.random_bool(self.loss)
    }

    /// Carries datagrams until both are silent.
    fn exchange(&mut self) {
        loop {
            let to_server = Self::drain(&mut self.client, &mut self.at_client);
            let to_client = Self::drain(&mut self.server, &mut self.at_server);
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            for datagram in to_server {
                let pieces = match self.cut {
                    0 => vec![datagram],
                    cut => wire::cut(&datagram, cut),
                };
                for piece in pieces {
                    if !self.lost() {
                        self.server.handle_datagram(&piece, self.now);
                    }
                }
            }
            for datagram in to_client {
                if !self.lost() {
                    self.client.handle_datagram(&datagram, self.now);
                }
            }
        }
    }

    /// Lets time pass, with everything that it triggers.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.exchange();
        while self.now < end {
            self.now += Duration::from_millis(50);
            self.server.handle_timeout(self.now);
            self.client.handle_timeout(self.now);
            self.exchange();
        }
    }
}

/// An RSA certificate and its key, as OpenSSL makes them.
pub struct RsaPem {
    pub certificate: Vec<u8>,
    pub pkcs8: Vec<u8>,
    pub pkcs1: Vec<u8>,
}

pub fn rsa_pem() -> RsaPem {
    let rsa = openssl::rsa::Rsa::generate(2048).expect("a key");
    let pkcs1 = rsa.private_key_to_pem().expect("PEM");
    let key = openssl::pkey::PKey::from_rsa(rsa).expect("a key");
    let mut certificate = openssl::x509::X509::builder().expect("a builder");
    let day = |days| openssl::asn1::Asn1Time::days_from_now(days).expect("a day");
    certificate.set_version(2).expect("set");
    certificate.set_pubkey(&key).expect("set");
    certificate.set_not_before(&day(0)).expect("set");
    certificate.set_not_after(&day(30)).expect("set");
    certificate.sign(&key, openssl::hash::MessageDigest::sha256()).expect("signed");
    RsaPem {
        certificate: certificate.build().to_pem().expect("PEM"),
        pkcs8: key.private_key_to_pem_pkcs8().expect("PEM"),
        pkcs1,
    }
}

fn rsa_context(max_version: DtlsVersion) -> DtlsContext {
    let RsaPem { certificate, pkcs8: key, .. } = rsa_pem();
    let certificate = CertificateSource::Pem { certificate, key };
    let config = DtlsConfig { max_version, srtp_profiles: ALL.to_vec(), certificate, seed: None };
    DtlsContext::new(&config).expect("a good configuration")
}

#[test]
fn either_side_may_have_an_rsa_certificate() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for (server_rsa, client_rsa) in [(true, false), (false, true), (true, true)] {
            let made = |rsa: bool| if rsa { rsa_context(version) } else { context(version, &ALL) };
            let (server, client) = (made(server_rsa), made(client_rsa));
            let mut call = Call::new(&server, &client);
            call.server.set_peer_fingerprints(fingerprints_of(&client));
            call.exchange();
            assert_keys_agree(&call, Profile::AeadAes128Gcm);
        }
    }
}

fn fingerprints_of(context: &DtlsContext) -> PeerFingerprints {
    PeerFingerprints::parse(&[context.fingerprint()]).expect("our own fingerprint")
}

fn assert_keys_agree(call: &Call, profile: Profile) {
    let server = call.at_server.keys.as_ref().expect("the server has keys");
    let client = call.at_client.keys.as_ref().expect("the client has keys");
    assert_eq!((server.profile, client.profile), (profile, profile));
    assert_eq!(server.local_key.len(), profile.key_len());
    assert_eq!(server.local_salt.len(), profile.salt_len());
    assert!(server.local_key == client.remote_key && server.local_salt == client.remote_salt);
    assert!(server.remote_key == client.local_key && server.remote_salt == client.local_salt);
    assert!(server.local_key != server.remote_key);
}

#[test]
fn the_servers_preference_decides_in_both_versions() {
    let cm = Profile::AesCm128HmacSha1_80;
    let table: [(&[Profile], Profile); 4] = [
        (&ALL, Profile::AeadAes128Gcm),
        (&[Profile::AeadAes256Gcm], Profile::AeadAes256Gcm),
        (&[cm], cm),
        (&[cm, Profile::AeadAes128Gcm], cm),
    ];
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for (preference, expected) in table {
            let (server, client) = (context(version, preference), context(version, &ALL));
            let mut call = Call::new(&server, &client);
            call.server.set_peer_fingerprints(fingerprints_of(&client));
            call.exchange();
            assert_keys_agree(&call, expected);
        }
    }
}

#[test]
fn versions_meet_at_the_older_one() {
    use DtlsVersion::{Dtls12, Dtls13};
    for (server, client) in [(Dtls12, Dtls13), (Dtls13, Dtls12)] {
        let (server, client) = (context(server, &ALL), context(client, &ALL));
        let mut call = Call::new(&server, &client);
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        call.exchange();
        assert_keys_agree(&call, Profile::AeadAes128Gcm);
    }
}

#[test]
fn our_client_hello_fits_what_two_ice_checks_allow() {
    /// A check of libnice and our answer to it, in bytes; three times what came may go.
    const CHECK_LEN: usize = 124;
    const ANSWER_LEN: usize = 64;
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let context = context(version, &ALL);
        let mut client = DtlsEndpoint::new(&context, Role::Client, Instant::now());
        let hello = Call::drain(&mut client, &mut Heard::default()).remove(0);
        let allowance = 2 * (3 * CHECK_LEN - ANSWER_LEN);
        assert!(hello.len() <= allowance, "{version:?}: {} bytes", hello.len());
    }
}

#[test]
fn a_client_hello_in_fragments_is_understood() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for cut in [40, 100, 150] {
            let (server, client) = (context(version, &ALL), context(version, &ALL));
            let mut call = Call::new(&server, &client);
            call.cut = cut;
            call.server.set_peer_fingerprints(fingerprints_of(&client));
            call.exchange();
            assert_keys_agree(&call, Profile::AeadAes128Gcm);
        }
    }
}

/// A ClientHello as long as Chromium's with post-quantum keys: far above one datagram. The client
/// would not take the answer, as it sent another; that there is one shows that it was understood.
#[test]
fn a_client_hello_of_many_datagrams_is_answered() {
    let client = context(DtlsVersion::Dtls13, &ALL);
    for (padding, cut) in [(1_500, 1_100), (1_500, 300), (4_000, 1_100), (0, 100)] {
        let server = context(DtlsVersion::Dtls13, &ALL);
        let mut call = Call::new(&server, &client);
        let hello = Call::drain(&mut call.client, &mut call.at_client).remove(0);
        let hello = wire::pad_client_hello(&hello, padding);
        let pieces = wire::cut(&hello, cut);
        let (last, first) = pieces.split_last().expect("several");
        assert!(first.len() >= padding / cut);
        for piece in first {
            call.server.handle_datagram(piece, call.now);
            assert!(Call::drain(&mut call.server, &mut call.at_server).is_empty());
        }
        call.server.handle_datagram(last, call.now);
        let answer = Call::drain(&mut call.server, &mut call.at_server);
        assert!(!answer.is_empty() && call.at_server.failed.is_none(), "{padding} in {cut}");
        assert!(answer.iter().all(|datagram| datagram.len() <= DTLS_MTU_BYTES));
    }
}

#[test]
fn lost_datagrams_are_sent_again() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for seed in 0..10 {
            let (server, client) = (context(version, &ALL), context(version, &ALL));
            let mut call = Call::new(&server, &client);
            call.loss = 0.25;
            call.rng = StdRng::seed_from_u64(seed);
            call.server.set_peer_fingerprints(fingerprints_of(&client));
            call.run(Duration::from_secs(20));
            assert_keys_agree(&call, Profile::AeadAes128Gcm);
        }
    }
}

#[test]
fn keys_wait_for_the_fingerprint() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let (server, client) = (context(version, &ALL), context(version, &ALL));
        let mut call = Call::new(&server, &client);
        call.exchange();
        assert!(call.at_server.keys.is_none());
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        call.exchange();
        assert_keys_agree(&call, Profile::AeadAes128Gcm);
    }
}

/// It may be a stranger on the path: the client's own handshake is still waited for.
#[test]
fn another_certificate_than_announced_gets_no_keys() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for early in [true, false] {
            let (server, client) = (context(version, &ALL), context(version, &ALL));
            let stranger = fingerprints_of(&context(version, &ALL));
            let mut call = Call::new(&server, &client);
            if early {
                call.server.set_peer_fingerprints(stranger.clone());
            }
            call.exchange();
            call.server.set_peer_fingerprints(stranger);
            call.exchange();
            assert!(call.at_server.keys.is_none() && call.at_server.failed.is_none());
            call.run(2 * HANDSHAKE_TIMEOUT);
            assert!(call.at_server.keys.is_none());
            let reason = call.at_server.failed.expect("given up");
            assert!(reason.contains("fingerprint"), "{reason}");
        }
    }
}

#[test]
fn a_client_comes_through_after_a_stranger_with_another_certificate() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let [server, client, stranger] = [(); 3].map(|()| context(version, &ALL));
        let mut call = Call::new(&server, &client);
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        let now = call.now;
        let client =
            std::mem::replace(&mut call.client, DtlsEndpoint::new(&stranger, Role::Client, now));
        call.client.set_peer_fingerprints(fingerprints_of(&server));
        call.exchange();
        assert!(call.at_server.keys.is_none());
        (call.client, call.at_client) = (client, Heard::default());
        call.run(Duration::from_secs(2));
        assert_keys_agree(&call, Profile::AeadAes128Gcm);
    }
}

#[test]
fn a_client_with_none_of_our_profiles_is_refused() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let server = context(version, &[Profile::AeadAes128Gcm]);
        let client = context(version, &[Profile::AesCm128HmacSha1_80]);
        let mut call = Call::new(&server, &client);
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        call.exchange();
        assert!(call.at_server.keys.is_none() && call.at_client.keys.is_none());
        let reason = call.at_server.failed.expect("refused");
        assert!(reason.contains("no SRTP profile"), "{reason}");
    }
}

#[test]
fn a_profile_that_we_do_not_allow_is_refused() {
    let (server, mut client) =
        (context(DtlsVersion::Dtls13, &ALL), context(DtlsVersion::Dtls13, &ALL));
    let settings = Arc::get_mut(&mut client.settings).expect("nobody else has them");
    settings.srtp_profiles = vec![Profile::AesCm128HmacSha1_80];
    let mut call = Call::new(&server, &client);
    call.server.set_peer_fingerprints(fingerprints_of(&client));
    call.exchange();
    let reason = call.at_client.failed.expect("refused");
    assert!(reason.contains("AEAD_AES_128_GCM"), "{reason}");
}

#[test]
fn goodbyes_are_heard_in_both_directions() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for client_closes in [true, false] {
            let (server, client) = (context(version, &ALL), context(version, &ALL));
            let mut call = Call::new(&server, &client);
            call.server.set_peer_fingerprints(fingerprints_of(&client));
            call.exchange();
            match client_closes {
                true => call.client.close(),
                false => call.server.close(),
            }
            call.exchange();
            assert_eq!(call.at_server.closed, client_closes, "{version:?}");
            assert_eq!(call.at_client.closed, !client_closes, "{version:?}");
            assert_eq!(call.server.next_timeout(), None);
        }
    }
}

#[test]
fn silence_ends_a_handshake_within_its_timeout() {
    let (server, client) = (context(DtlsVersion::Dtls13, &ALL), context(DtlsVersion::Dtls13, &ALL));
    let mut call = Call::new(&server, &client);
    call.loss = 1.0;
    call.run(HANDSHAKE_TIMEOUT + Duration::from_secs(5));
    assert!(call.at_client.failed.is_some());
    assert_eq!(call.client.next_timeout(), None);
}

#[test]
fn garbage_never_panics_and_never_yields_keys() {
    let mut rng = StdRng::seed_from_u64(7);
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let (server, client) = (context(version, &ALL), context(version, &ALL));
        for round in 0..300 {
            let mut call = Call::new(&server, &client);
            call.server.set_peer_fingerprints(fingerprints_of(&client));
            let mut hurt = 0;
            for _ in 0..6 {
                let to_server = Call::drain(&mut call.client, &mut call.at_client);
                for mut datagram in to_server {
                    if rng.random_range(0..3) == 0 {
                        let at = rng.random_range(0..datagram.len());
                        datagram[at] ^= 1 << rng.random_range(0..8);
                        datagram.truncate(rng.random_range(at..=datagram.len()));
                        hurt += 1;
                    }
                    call.server.handle_datagram(&datagram, call.now);
                }
                for datagram in Call::drain(&mut call.server, &mut call.at_server) {
                    call.client.handle_datagram(&datagram, call.now);
                }
            }
            if let (Some(server), Some(client)) = (&call.at_server.keys, &call.at_client.keys) {
                assert!(server.local_key == client.remote_key, "round {round}, {hurt} hurt");
            }
        }
    }
}

/// Who begins anew must not hear the flight that answered its first hello: it would not verify.
#[test]
fn while_a_fresh_hello_waits_the_flight_before_it_is_not_repeated() {
    // Many times, for the flight's timer has a jitter of a quarter.
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13].repeat(20) {
        let (server, client) = (context(version, &ALL), context(version, &ALL));
        let mut call = Call::new(&server, &client);
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        let mut hello =
            |endpoint: &mut DtlsEndpoint| Call::drain(endpoint, &mut call.at_client).remove(0);
        let first = hello(&mut call.client);
        let second = hello(&mut DtlsEndpoint::new(&client, Role::Client, call.now));
        call.server.handle_datagram(&first, call.now);
        let before = Call::drain(&mut call.server, &mut call.at_server).concat();
        // Just before the flight's own timer, whatever its jitter.
        call.now += Duration::from_millis(220);
        call.server.handle_datagram(&second, call.now);
        let end = call.now + Duration::from_millis(200);
        let mut answer = Vec::new();
        while call.now < end && answer.is_empty() {
            call.now = call.server.next_timeout().expect("it waits").max(call.now);
            call.server.handle_timeout(call.now);
            answer = Call::drain(&mut call.server, &mut call.at_server);
        }
        // A ServerHello of its own, with another random than that of the first flight.
        let [before, after] = [before, answer.concat()].map(|all| wire::messages(&all).remove(0));
        assert_eq!((before.kind, after.kind), (2, 2));
        assert_ne!(before.body[..34], after.body[..34]);
    }
}
