//! An OpenSSL endpoint whose datagrams go through our hands.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Builder, X509NameBuilder};

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Identity {
    /// ECDSA on P-256, as browsers make by default.
    pub fn ecdsa() -> Self {
        Self::named("opencall", Self::ecdsa_key())
    }

    /// RSA, as browsers make on demand and GStreamer always.
    pub fn rsa(bits: u32) -> Self {
        Self::named("opencall", PKey::from_rsa(Rsa::generate(bits).expect("a key")).expect("a key"))
    }

    /// ECDSA, with a certificate of so many bytes in DER.
    pub fn ecdsa_of_bytes(bytes: usize) -> Self {
        let key = Self::ecdsa_key();
        // The name stands there twice, and a signature takes 70 to 72 bytes.
        let with_name = |length| Self::named(&"x".repeat(length), key.clone());
        let der_len = |one: &Identity| one.certificate.to_der().expect("DER").len();
        let shortest = der_len(&with_name(1));
        let length = 1 + bytes.checked_sub(shortest).expect("long enough for a certificate") / 2;
        (0..1000)
            .map(|attempt| with_name((length + 1).saturating_sub(attempt % 3).max(1)))
            .find(|one| der_len(one) == bytes)
            .expect("one in a few has the length")
    }

    /// ECDSA, with names of so many bytes.
    pub fn ecdsa_with_names(bytes: usize) -> Self {
        let key = Self::ecdsa_key();
        Self::made("opencall", key, |builder| {
            let mut names = SubjectAlternativeName::new();
            (0..bytes / 50).for_each(|index| {
                names.dns(&format!("{index:040}.example"));
            });
            let context = builder.x509v3_context(None, None);
            let names = names.build(&context).expect("an extension");
            builder.append_extension(names).expect("set");
        })
    }

    fn ecdsa_key() -> PKey<Private> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
        PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
    }

    fn named(name: &str, key: PKey<Private>) -> Self {
        Self::made(name, key, |_| ())
    }

    fn made(name: &str, key: PKey<Private>, more: impl FnOnce(&mut X509Builder)) -> Self {
        let mut subject = X509NameBuilder::new().expect("a builder");
        subject.append_entry_by_nid(Nid::COMMONNAME, name).expect("a name");
        let subject = subject.build();
        let mut builder = X509::builder().expect("a builder");
        builder.set_version(2).expect("set");
        let serial = BigNum::from_u32(7).and_then(|number| number.to_asn1_integer());
        builder.set_serial_number(&serial.expect("a number")).expect("set");
        builder.set_subject_name(&subject).expect("set");
        builder.set_issuer_name(&subject).expect("set");
        builder.set_not_before(&Asn1Time::days_from_now(0).expect("a day")).expect("set");
        builder.set_not_after(&Asn1Time::days_from_now(30).expect("a day")).expect("set");
        builder.set_pubkey(&key).expect("set");
        more(&mut builder);
        builder.sign(&key, MessageDigest::sha256()).expect("signed");
        Identity { certificate: builder.build(), key }
    }

    pub fn sha256(&self) -> String {
        let digest = self.certificate.digest(MessageDigest::sha256()).expect("a digest");
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }
}

/// Bytes of keys that are exported: enough for any profile.
const EXPORTED_BYTES: usize = 2 * (32 + 14);

/// One endpoint of DTLS 1.2, the newest version that OpenSSL 3 has.
pub struct Peer {
    stream: SslStream<Wire>,
    wire: Wire,
    connected: bool,
}

impl Peer {
    /// `mtu`: largest datagram it sends.
    pub fn new(identity: &Identity, is_client: bool, mtu: u32) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls()).expect("a context");
        context.set_min_proto_version(Some(SslVersion::DTLS1_2)).expect("set");
        context.set_certificate(&identity.certificate).expect("set");
        context.set_private_key(&identity.key).expect("set");
        let profiles = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM";
        context.set_tlsext_use_srtp(profiles).expect("set");
        context.set_options(SslOptions::NO_QUERY_MTU);
        let both = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        context.set_verify_callback(both, |_, _| true);
        let mut ssl = Ssl::new(&context.build()).expect("a connection");
        ssl.set_mtu(mtu).expect("set");
        match is_client {
            true => ssl.set_connect_state(),
            false => ssl.set_accept_state(),
        }
        let wire = Wire::default();
        let stream = SslStream::new(ssl, wire.clone()).expect("a stream");
        Peer { stream, wire, connected: false }
    }

    pub fn receive(&mut self, datagram: &[u8]) {
        self.wire.0.borrow_mut().incoming.push_back(datagram.to_vec());
    }

    /// Goes on, repeating what has gone unanswered for long; what it wants to send.
    pub fn advance(&mut self) -> Vec<Vec<u8>> {
        if self.connected {
            // Nobody sends data, but a repeated flight of the other side is answered here.
            let _ = self.stream.read(&mut [0; 2048]);
        } else {
            match self.stream.do_handshake() {
                Ok(()) => self.connected = true,
                Err(error) if error.io_error().is_some_and(would_block) => {}
                Err(error) => panic!("OpenSSL gave up: {error}"),
            }
        }
        std::mem::take(&mut self.wire.0.borrow_mut().outgoing)
    }

    /// The agreed profile and the keys: client key, server key, client salt, server salt.
    pub fn keys(&self) -> Option<(String, Vec<u8>)> {
        if !self.connected {
            return None;
        }
        let profile = self.stream.ssl().selected_srtp_profile().expect("agreed on");
        let mut keys = vec![0; EXPORTED_BYTES];
        let label = "EXTRACTOR-dtls_srtp";
        self.stream.ssl().export_keying_material(&mut keys, label, None).expect("exported");
        Some((profile.name().to_owned(), keys))
    }

    /// Says goodbye.
    pub fn close(&mut self) -> Vec<Vec<u8>> {
        let _ = self.stream.shutdown();
        std::mem::take(&mut self.wire.0.borrow_mut().outgoing)
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// What lies between OpenSSL and the network: each read and write is one datagram.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Queues>>);

#[derive(Default)]
struct Queues {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(datagram) = self.0.borrow_mut().incoming.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().outgoing.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
