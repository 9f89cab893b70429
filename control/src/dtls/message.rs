//! What has to be read in handshake messages before they are believed: no more than tells which
//! handshake a message belongs to, and whether it was signed by whom signaling announced.
#![forbid(unsafe_code)]

use dimpl::{HashAlgorithm, SignatureAlgorithm};

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const CERTIFICATE_REQUEST: u8 = 13;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;

const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];
const DTLS_1_3: [u8; 2] = [0xfe, 0xfc];

/// The random of a ServerHello that is a HelloRetryRequest: the SHA-256 of that word (RFC 8446
/// section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The random of a ClientHello, if it is one in all its lengths.
pub(super) fn client_random(body: &[u8]) -> Option<[u8; 32]> {
    let mut reader = Reader(body);
    let version = reader.array()?;
    let random = reader.array()?;
    let session_id = reader.vector8()?;
    let _cookie = reader.vector8()?;
    let suites = reader.vector16()?;
    let compressions = reader.vector8()?;
    reader.extensions(|_, _| ())?;
    let fits = version == DTLS_1_2
        && session_id.len() <= 32
        && suites.len() >= 2
        && suites.len().is_multiple_of(2)
        && compressions.contains(&0);
    fits.then_some(random)
}

/// What a ServerHello says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub random: [u8; 32],
    pub is_13: bool,
}

impl ServerHello {
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version: [u8; 2] = reader.array()?;
        let random = reader.array()?;
        reader.vector8()?;
        let _cipher_suite: [u8; 2] = reader.array()?;
        let _compression: [u8; 1] = reader.array()?;
        let mut is_13 = false;
        reader.extensions(|kind, data| {
            is_13 |= kind == EXTENSION_SUPPORTED_VERSIONS && data == DTLS_1_3;
        })?;
        (version == DTLS_1_2).then_some(ServerHello { random, is_13 })
    }

    pub fn is_retry(&self) -> bool {
        self.random == RETRY_RANDOM
    }
}

/// The first certificate of a DTLS 1.2 Certificate message, in DER.
pub(super) fn leaf_certificate(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.vector24()?);
    list.vector24().filter(|certificate| !certificate.is_empty() && reader.0.is_empty())
}

/// A signature and what it was made with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    pub hash: HashAlgorithm,
    pub algorithm: SignatureAlgorithm,
    pub signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// The body of a DTLS 1.2 CertificateVerify (RFC 5246 section 7.4.8), or the end of a
    /// ServerKeyExchange.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let [hash, algorithm] = reader.array()?;
        let signature = reader.vector16()?;
        let hash = HashAlgorithm::from_u8(hash);
        let algorithm = SignatureAlgorithm::from_u8(algorithm);
        reader.0.is_empty().then_some(Signed { hash, algorithm, signature })
    }
}

/// The parameters of an ECDHE ServerKeyExchange (RFC 8422 section 5.4), and their signature.
pub(super) fn key_exchange(body: &[u8]) -> Option<(&[u8], Signed<'_>)> {
    let mut reader = Reader(body);
    let [curve_type, _, _] = reader.array()?;
    let _public_key = reader.vector8()?;
    const NAMED_CURVE: u8 = 3;
    let parameters = &body[..body.len() - reader.0.len()];
    let signed = Signed::parse(reader.0)?;
    (curve_type == NAMED_CURVE).then_some((parameters, signed))
}

/// Whether the body is that of a DTLS 1.2 CertificateRequest (RFC 5246 section 7.4.4).
pub(super) fn is_certificate_request(body: &[u8]) -> bool {
    fn parse(body: &[u8]) -> Option<bool> {
        let mut reader = Reader(body);
        let kinds = reader.vector8()?;
        let algorithms = reader.vector16()?;
        let mut names = Reader(reader.vector16()?);
        while !names.0.is_empty() {
            names.vector16()?;
        }
        let in_pairs = !algorithms.is_empty() && algorithms.len().is_multiple_of(2);
        Some(!kinds.is_empty() && in_pairs && reader.0.is_empty())
    }
    parse(body) == Some(true)
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(usize::from(length))
    }

    fn vector24(&mut self) -> Option<&'a [u8]> {
        let [a, b, c] = self.array()?;
        self.take(u32::from_be_bytes([0, a, b, c]) as usize)
    }

    /// Visits the extensions that end a hello; there may be none.
    fn extensions(&mut self, mut visit: impl FnMut(u16, &[u8])) -> Option<()> {
        if self.0.is_empty() {
            return Some(());
        }
        let mut list = Reader(self.vector16()?);
        while !list.0.is_empty() {
            let kind = u16::from_be_bytes(list.array()?);
            visit(kind, list.vector16()?);
        }
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello() -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 7, 0, 14, 0, 3, 0, 1, 7]);
        body
    }

    #[test]
    fn a_client_hello_must_fit_in_all_its_lengths() {
        let hello = client_hello();
        assert_eq!(client_random(&hello), Some([7; 32]));
        // Without extensions it is one as well.
        assert_eq!(client_random(&hello[..42]), Some([7; 32]));
        for length in (0..hello.len()).filter(|&length| length != 42) {
            assert_eq!(client_random(&hello[..length]), None, "{length}");
        }
        let mut longer = hello.clone();
        longer.push(0);
        assert_eq!(client_random(&longer), None);
    }

    #[test]
    fn a_server_hello_tells_its_version() {
        let mut body = vec![0xfe, 0xfd];
        body.extend([9; 32]);
        body.extend([0, 0xc0, 0x2b, 0]);
        let parsed = ServerHello::parse(&body).expect("readable");
        assert_eq!(parsed, ServerHello { random: [9; 32], is_13: false });
        body.extend([0, 6, 0, 43, 0, 2, 0xfe, 0xfc]);
        assert!(ServerHello::parse(&body).expect("readable").is_13);
        body[2..34].copy_from_slice(&RETRY_RANDOM);
        assert!(ServerHello::parse(&body).expect("readable").is_retry());
        assert_eq!(ServerHello::parse(&body[..body.len() - 1]), None);
    }

    #[test]
    fn the_first_certificate_is_found() {
        assert_eq!(leaf_certificate(&[0, 0, 5, 0, 0, 2, 8, 9]), Some(&[8, 9][..]));
        assert_eq!(leaf_certificate(&[0, 0, 9, 0, 0, 2, 8, 9, 0, 0, 1, 7]), Some(&[8, 9][..]));
        for bad in [&[][..], &[0, 0, 0], &[0, 0, 3, 0, 0, 0], &[0, 0, 9, 0, 0, 2, 8, 9]] {
            assert_eq!(leaf_certificate(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_request_must_fit_in_all_its_lengths() {
        let body = [2, 1, 64, 0, 2, 4, 3, 0, 5, 0, 3, 7, 7, 7];
        assert!(is_certificate_request(&body));
        assert!(is_certificate_request(&[1, 64, 0, 2, 4, 3, 0, 0]));
        for length in 0..body.len() {
            assert!(!is_certificate_request(&body[..length]), "{length}");
        }
        assert!(!is_certificate_request(&[0, 0, 2, 4, 3, 0, 0]));
        assert!(!is_certificate_request(&[1, 64, 0, 1, 4, 0, 0]));
    }

    #[test]
    fn the_parameters_of_a_key_exchange_end_before_the_signature() {
        let body = [3, 0, 29, 2, 1, 1, 4, 3, 0, 3, 5, 6, 7];
        let (parameters, signed) = key_exchange(&body).expect("readable");
        assert_eq!(parameters, &[3, 0, 29, 2, 1, 1]);
        assert_eq!(signed.signature, &[5, 6, 7]);
        for length in 0..body.len() {
            assert!(key_exchange(&body[..length]).is_none(), "{length}");
        }
        assert!(key_exchange(&[1, 0, 29, 2, 1, 1, 4, 3, 0, 3, 5, 6, 7]).is_none());
    }
}
