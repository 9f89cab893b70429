//! Our certificate: from PEM files, or made at start. And the fingerprints by which the two sides
//! of a call know each other's (RFC 8122).
#![forbid(unsafe_code)]

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::api::DtlsFingerprint;
use crate::error::ControlError;

/// Fingerprints one client may list: browsers list one to three.
pub const MAX_FINGERPRINTS: usize = 8;

/// Where the certificate comes from.
#[derive(Clone)]
pub enum CertificateSource {
    /// A fresh self-signed ECDSA P-256 certificate.
    Generate,
    /// The contents of two PEM files; the first certificate and the first key in them count.
    Pem {
        /// The certificate.
        certificate: Vec<u8>,
        /// Its private key: ECDSA on P-256 or P-384 as PKCS#8 or SEC1, or RSA of 2048 to 8192 bits
        /// as PKCS#8 or PKCS#1.
        key: Vec<u8>,
    },
}

/// A certificate and its key, in DER.
#[derive(Clone)]
pub(super) struct Certificate {
    pub der: Vec<u8>,
    pub key_der: Vec<u8>,
}

impl Certificate {
    pub fn load(source: &CertificateSource) -> Result<Self, ControlError> {
        match source {
            CertificateSource::Generate => generate(),
            CertificateSource::Pem { certificate, key } => from_pem(certificate, key),
        }
    }

    pub fn fingerprint(&self) -> DtlsFingerprint {
        let digest = digest::digest(&SHA256, &self.der);
        DtlsFingerprint { algorithm: "sha-256".to_owned(), value: hex_pairs(digest.as_ref()) }
    }
}

fn generate() -> Result<Certificate, ControlError> {
    let failed =
        |error| ControlError::Certificate(format!("could not make a certificate: {error}"));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(failed)?;
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "opencall-sfu");
    params.distinguished_name = name;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Certificate { der: certificate.der().to_vec(), key_der: key.serialize_der() })
}

fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Certificate, ControlError> {
    let refused = |reason: &str| Err(ControlError::Certificate(reason.to_owned()));
    let Ok(certificate) = CertificateDer::from_pem_slice(certificate) else {
        return refused("DTLS_CERT_FILE holds no PEM certificate (-----BEGIN CERTIFICATE-----)");
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        return refused("DTLS_KEY_FILE holds no PEM private key (-----BEGIN PRIVATE KEY-----)");
    };
    let Some(public_key) = ecdsa_public_key(&key).or_else(|| rsa_public_key(&key)) else {
        return refused(
            "DTLS_KEY_FILE is neither an ECDSA key on P-256 or P-384 nor an RSA key of 2048 to 8192 \
             bits: make one with `openssl ecparam -genkey -name prime256v1 -noout`",
        );
    };
    // The uncompressed point or the RSAPublicKey appears verbatim in the certificate's
    // SubjectPublicKeyInfo.
    if !certificate.as_ref().windows(public_key.len()).any(|window| window == public_key) {
        return refused("DTLS_CERT_FILE and DTLS_KEY_FILE do not belong together");
    }
    Ok(Certificate { der: certificate.to_vec(), key_der: key.secret_der().to_vec() })
}

fn ecdsa_public_key(key: &PrivateKeyDer) -> Option<Vec<u8>> {
    let pair = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING]
        .into_iter()
        .find_map(|algorithm| match key {
            PrivateKeyDer::Pkcs8(der) => {
                EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).ok()
            }
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).ok()
            }
            _ => None,
        })?;
    Some(pair.public_key().as_ref().to_vec())
}

fn rsa_public_key(key: &PrivateKeyDer) -> Option<Vec<u8>> {
    let pair = match key {
        PrivateKeyDer::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?,
        PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()).ok()?,
        _ => return None,
    };
    Some(pair.public_key().as_ref().to_vec())
}

/// The fingerprints that a client announced, as digests.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerFingerprints(Vec<(&'static digest::Algorithm, Vec<u8>)>);

impl PeerFingerprints {
    /// Reads `AA:BB:…` texts. Unknown algorithms are passed over (RFC 8122 section 5); at least one
    /// known one must be there and readable.
    pub fn parse(fingerprints: &[DtlsFingerprint]) -> Result<Self, &'static str> {
        if fingerprints.len() > MAX_FINGERPRINTS {
            return Err("too many DTLS fingerprints: one sha-256 fingerprint is enough");
        }
        let mut known = Vec::with_capacity(fingerprints.len());
        for fingerprint in fingerprints {
            let algorithm = match fingerprint.algorithm.to_ascii_lowercase().as_str() {
                "sha-256" => &SHA256,
                "sha-384" => &SHA384,
                "sha-512" => &SHA512,
                _ => continue,
            };
            let digest = parse_hex_pairs(&fingerprint.value)
                .filter(|digest| digest.len() == algorithm.output_len())
                .ok_or(
                    "a DTLS fingerprint must be hex pairs joined by ':' of its digest's length",
                )?;
            known.push((algorithm, digest));
        }
        if known.is_empty() {
            return Err("send a DTLS fingerprint of algorithm sha-256, sha-384 or sha-512");
        }
        Ok(PeerFingerprints(known))
    }

    /// Whether one of the fingerprints is that of the certificate.
    pub(super) fn match_certificate(&self, der: &[u8]) -> bool {
        self.0.iter().any(|(algorithm, expected)| {
            digest::digest(algorithm, der).as_ref() == expected.as_slice()
        })
    }
}

fn hex_pairs(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// Longest text worth reading: a SHA-512 digest in pairs.
const MAX_HEX_PAIRS_BYTES: usize = 64 * 3;

fn parse_hex_pairs(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_HEX_PAIRS_BYTES {
        return None;
    }
    let pair = |pair: &str| {
        let hex = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { u8::from_str_radix(pair, 16).ok() } else { None }
    };
    text.split(':').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, der: &[u8]) -> Vec<u8> {
        use std::fmt::Write;
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = format!("-----BEGIN {label}-----\n");
        for chunk in der.chunks(3) {
            let mut group = [0u8; 3];
            group[..chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            for index in 0..4 {
                let c = ALPHABET[(bits >> (18 - 6 * index)) as usize & 0x3f] as char;
                text.push(if index <= chunk.len() { c } else { '=' });
            }
        }
        write!(text, "\n-----END {label}-----\n").expect("to a String");
        text.into_bytes()
    }

    fn load(certificate: &[u8], key: &[u8]) -> Result<Certificate, String> {
        let source =
            CertificateSource::Pem { certificate: certificate.to_vec(), key: key.to_vec() };
        Certificate::load(&source).map_err(|error| error.to_string())
    }

    #[test]
    fn a_generated_pair_survives_the_way_through_pem() {
        let made = Certificate::load(&CertificateSource::Generate).expect("made");
        let certificate = pem("CERTIFICATE", &made.der);
        let loaded = load(&certificate, &pem("PRIVATE KEY", &made.key_der)).expect("loads");
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(loaded.key_der, made.key_der);
    }

    #[test]
    fn p384_is_taken() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("key");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("params");
        let certificate = params.self_signed(&key).expect("certificate");
        assert!(load(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).is_ok());
    }

    /// As OpenSSL writes it, with a certificate that our own key would not fit.
    #[test]
    fn rsa_is_taken_as_pkcs8_and_as_pkcs1() {
        let rsa = crate::dtls::tests::rsa_pem();
        let loaded = load(&rsa.certificate, &rsa.pkcs8).expect("PKCS#8");
        let older = load(&rsa.certificate, &rsa.pkcs1).expect("PKCS#1");
        assert_eq!(loaded.der, older.der);
        let other = Certificate::load(&CertificateSource::Generate).expect("made");
        let error = load(&rsa.certificate, &pem("PRIVATE KEY", &other.key_der)).err();
        assert!(error.expect("refused").contains("do not belong together"));
    }

    #[test]
    fn unusable_files_are_refused_with_the_cure() {
        let one = Certificate::load(&CertificateSource::Generate).expect("made");
        let other = Certificate::load(&CertificateSource::Generate).expect("made");
        let certificate = pem("CERTIFICATE", &one.der);
        let key = pem("PRIVATE KEY", &one.key_der);
        let other_key = pem("PRIVATE KEY", &other.key_der);
        let rsa = pem("RSA PRIVATE KEY", &[0x30, 0x00]);
        let table: [(&[u8], &[u8], &str); 5] = [
            (b"", &key, "DTLS_CERT_FILE holds no PEM certificate"),
            (&certificate, b"", "DTLS_KEY_FILE holds no PEM private key"),
            (&certificate, &certificate, "DTLS_KEY_FILE holds no PEM private key"),
            (&certificate, &rsa, "neither an ECDSA key on P-256"),
            (&certificate, &other_key, "do not belong together"),
        ];
        for (certificate, key, expected) in table {
            let error = load(certificate, key).err().expect(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    fn fingerprint(algorithm: &str, value: &str) -> DtlsFingerprint {
        DtlsFingerprint { algorithm: algorithm.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn fingerprints_match_in_any_case_and_any_known_algorithm() {
        let certificate = Certificate::load(&CertificateSource::Generate).expect("made");
        let ours = certificate.fingerprint();
        let lower = fingerprint("SHA-256", &ours.value.to_lowercase());
        let sha512 = digest::digest(&SHA512, &certificate.der);
        let long = fingerprint("sha-512", &hex_pairs(sha512.as_ref()));
        let wrong = fingerprint("sha-256", &vec!["00"; 32].join(":"));
        let table = [
            (vec![ours.clone()], true),
            (vec![lower], true),
            (vec![long], true),
            (vec![wrong.clone(), ours.clone()], true),
            (vec![fingerprint("sha-1", "00:11"), ours], true),
            (vec![wrong], false),
        ];
        for (fingerprints, expected) in table {
            let parsed = PeerFingerprints::parse(&fingerprints).expect("readable");
            assert_eq!(parsed.match_certificate(&certificate.der), expected, "{fingerprints:?}");
        }
    }

    #[test]
    fn unreadable_fingerprints_are_refused() {
        let table = [
            vec![],
            vec![fingerprint("sha-1", &vec!["00"; 20].join(":"))],
            vec![fingerprint("sha-256", "")],
            vec![fingerprint("sha-256", &vec!["00"; 31].join(":"))],
            vec![fingerprint("sha-256", &vec!["+0"; 32].join(":"))],
            vec![fingerprint("sha-256", &"é".repeat(32))],
            vec![fingerprint("sha-512", &"00:".repeat(100_000))],
            vec![fingerprint("sha-256", &vec!["00"; 32].join(":")); 9],
        ];
        for fingerprints in table {
            assert!(PeerFingerprints::parse(&fingerprints).is_err(), "{}", fingerprints.len());
        }
    }
}
