//! The choice of the SRTP profile (RFC 5764 section 4.1), by our order of preference.
//!
//! The DTLS library answers a DTLS 1.3 ClientHello with the *client's* first profile. Browsers list
//! AES_CM_128_HMAC_SHA1_80 first, which costs five to ten times as much per packet as AES-128-GCM.
//! So the library is shown only the profile that we choose: in each ClientHello the ids of the
//! others are marked, by their top bit, as ones that it does not know and skips. The handshake is
//! bound to the ClientHello as it was sent, through the transcript's hash and (DTLS 1.2) the
//! client's signature over it; the library takes both from a provider that can be given, and ours
//! removes the marks first. No length changes, no state is shared, and a client that itself uses
//! the marked ids (none is assigned) spoils only its own handshake.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::VecDeque;

use dimpl::crypto::{Buf, CryptoProvider, HashContext, HashProvider, SignatureVerifier, aws_lc_rs};
use dimpl::{CryptoError, HashAlgorithm, SignatureAlgorithm};
use opencall_dataplane::srtp::Profile;

/// Marks a profile id as one not to be chosen. IANA has assigned none with this bit.
const MARK: u16 = 0x8000;

/// A ClientHello longer than this is left to the library, which will refuse what it must. Chromium's
/// with post-quantum keys has about 1600 bytes.
const MAX_CLIENT_HELLO_BYTES: usize = 8192;

/// Fragments of a ClientHello that are kept while it is incomplete. A client with a 256-byte MTU
/// sends 8 of them.
const MAX_FRAGMENTS: usize = 32;

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const CONTENT_HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 0x01;
const EXTENSION_USE_SRTP: u16 = 0x000e;

/// The IANA id of a profile.
fn id_of(profile: Profile) -> u16 {
    match profile {
        Profile::AesCm128HmacSha1_80 => 0x0001,
        Profile::AeadAes128Gcm => 0x0007,
        Profile::AeadAes256Gcm => 0x0008,
    }
}

/// Rewrites the ClientHellos of one client on their way to the library.
pub(super) struct ProfileChoice {
    preference: Vec<Profile>,
    partial: Option<PartialHello>,
}

/// A ClientHello of which some bytes are still missing.
struct PartialHello {
    message_seq: u16,
    body: Vec<u8>,
    received: Vec<bool>,
    fragments: usize,
}

impl ProfileChoice {
    pub fn new(preference: &[Profile]) -> Self {
        ProfileChoice { preference: preference.to_vec(), partial: None }
    }

    /// Takes one datagram; what is to be fed to the library is appended to `out`. Fragments of an
    /// incomplete ClientHello wait, everything else passes.
    pub fn rewrite(&mut self, datagram: &[u8], out: &mut VecDeque<Vec<u8>>) {
        if datagram.first() != Some(&CONTENT_HANDSHAKE) {
            out.push_back(datagram.to_vec());
            return;
        }
        let mut rest = datagram;
        let mut passed = Vec::with_capacity(datagram.len());
        while let Some((record, tail)) = split_record(rest) {
            match self.record(record) {
                Rewritten::Pass => passed.extend_from_slice(record),
                Rewritten::Instead(bytes) => passed.extend_from_slice(&bytes),
                Rewritten::Wait => {}
            }
            rest = tail;
        }
        // What is no record of this kind (encrypted, cut short) is the library's to judge.
        passed.extend_from_slice(rest);
        if !passed.is_empty() {
            out.push_back(passed);
        }
    }

    fn record(&mut self, record: &[u8]) -> Rewritten {
        let Some(fragment) = Fragment::parse(record) else { return Rewritten::Pass };
        if fragment.length > MAX_CLIENT_HELLO_BYTES {
            return Rewritten::Pass;
        }
        if fragment.bytes.len() == fragment.length {
            let mut body = fragment.bytes.to_vec();
            self.mark(&mut body);
            return Rewritten::Instead(whole_message(record, fragment.message_seq, &body));
        }
        let Some(mut body) = self.assemble(&fragment) else { return Rewritten::Wait };
        self.mark(&mut body);
        Rewritten::Instead(whole_message(record, fragment.message_seq, &body))
    }

    /// Adds a fragment; the whole body once nothing is missing.
    fn assemble(&mut self, fragment: &Fragment) -> Option<Vec<u8>> {
        let fits = |partial: &PartialHello| {
            partial.message_seq == fragment.message_seq
                && partial.body.len() == fragment.length
                && partial.fragments < MAX_FRAGMENTS
        };
        if !self.partial.as_ref().is_some_and(fits) {
            self.partial = Some(PartialHello {
                message_seq: fragment.message_seq,
                body: vec![0; fragment.length],
                received: vec![false; fragment.length],
                fragments: 0,
            });
        }
        let partial = self.partial.as_mut()?;
        let range = fragment.offset..fragment.offset.checked_add(fragment.bytes.len())?;
        partial.body.get_mut(range.clone())?.copy_from_slice(fragment.bytes);
        partial.received.get_mut(range)?.fill(true);
        partial.fragments += 1;
        if !partial.received.iter().all(|&received| received) {
            return None;
        }
        self.partial.take().map(|partial| partial.body)
    }

    /// Leaves only our choice unmarked.
    fn mark(&self, body: &mut [u8]) {
        let Some(range) = profile_ids(body, HELLO_BODY) else { return };
        let Some(ids) = body.get_mut(range) else { return };
        let offered = |profile: &&Profile| {
            ids.as_chunks::<2>().0.iter().any(|id| u16::from_be_bytes(*id) == id_of(**profile))
        };
        let chosen = self.preference.iter().find(offered).map(|profile| id_of(*profile));
        for id in ids.as_chunks_mut::<2>().0 {
            let value = u16::from_be_bytes(*id);
            if Some(value) != chosen {
                *id = (value | MARK).to_be_bytes();
            }
        }
    }
}

enum Rewritten {
    Pass,
    Instead(Vec<u8>),
    Wait,
}

/// Splits off one unencrypted handshake record.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.first() != Some(&CONTENT_HANDSHAKE) {
        return None;
    }
    let length = u16::from_be_bytes(bytes.get(11..13)?.try_into().ok()?);
    bytes.split_at_checked(RECORD_HEADER + usize::from(length))
}

/// One fragment of a ClientHello.
struct Fragment<'a> {
    message_seq: u16,
    /// Of the whole message.
    length: usize,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads a record that holds exactly one fragment of a ClientHello in the clear (epoch 0).
    fn parse(record: &'a [u8]) -> Option<Self> {
        let epoch = record.get(3..5)?;
        let header = record.get(RECORD_HEADER..RECORD_HEADER + HANDSHAKE_HEADER)?;
        let bytes = record.get(RECORD_HEADER + HANDSHAKE_HEADER..)?;
        let u24 = |at: usize| {
            let b = header.get(at..at + 3)?;
            Some(u32::from_be_bytes([0, b[0], b[1], b[2]]) as usize)
        };
        let fragment = Fragment {
            message_seq: u16::from_be_bytes(header.get(4..6)?.try_into().ok()?),
            length: u24(1)?,
            offset: u24(6)?,
            bytes,
        };
        let whole = u24(9)? == bytes.len() && fragment.offset + bytes.len() <= fragment.length;
        (header[0] == CLIENT_HELLO && epoch == [0, 0] && whole).then_some(fragment)
    }
}

/// A record with the message in one piece; the record header of the last fragment serves, as its
/// sequence number has not been seen by the library.
fn whole_message(record: &[u8], message_seq: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_HEADER + HANDSHAKE_HEADER + body.len());
    out.extend_from_slice(&record[..11]);
    // Both fit: a body has at most MAX_CLIENT_HELLO_BYTES.
    out.extend_from_slice(&((HANDSHAKE_HEADER + body.len()) as u16).to_be_bytes());
    let length = (body.len() as u32).to_be_bytes();
    out.push(CLIENT_HELLO);
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&message_seq.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0]);
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(body);
    out
}

/// Where the body of a ClientHello begins: at once, when it stands alone.
const HELLO_BODY: usize = 0;

/// Where the list of SRTP profile ids lies in a ClientHello whose body begins at `start` (RFC 9147
/// section 5.3: version, random, session id, cookie, cipher suites, compression, extensions).
fn profile_ids(bytes: &[u8], start: usize) -> Option<std::ops::Range<usize>> {
    let u8_at = |at: usize| bytes.get(at).map(|&byte| usize::from(byte));
    let u16_at = |at: usize| {
        let pair = bytes.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_be_bytes([pair[0], pair[1]])))
    };
    let mut at = start + 2 + 32;
    at += 1 + u8_at(at)?;
    at += 1 + u8_at(at)?;
    at += 2 + u16_at(at)?;
    at += 1 + u8_at(at)?;
    let end = at + 2 + u16_at(at)?;
    at += 2;
    while at + 4 <= end {
        let (kind, length) = (u16_at(at)?, u16_at(at + 2)?);
        at += 4;
        if kind == usize::from(EXTENSION_USE_SRTP) {
            let ids = u16_at(at)?;
            return (2 + ids <= length && at + length <= end).then_some(at + 2..at + 2 + ids);
        }
        at += length;
    }
    None
}

/// Removes the marks from every ClientHello of a transcript, as DTLS 1.3 (4-byte message headers)
/// or DTLS 1.2 (12-byte ones) keep it.
fn without_marks(transcript: &[u8]) -> Cow<'_, [u8]> {
    /// `message_hash`, which stands for the first ClientHello after a HelloRetryRequest.
    const MESSAGE_HASH: u8 = 0xfe;
    /// A transcript begins with the hello, or its hash and the retry request before the second.
    const MESSAGES_LOOKED_AT: usize = 3;

    if !matches!(transcript.first(), Some(&CLIENT_HELLO | &MESSAGE_HASH)) {
        return Cow::Borrowed(transcript);
    }
    // A ClientHello body begins with version FE FD, which in the longer header is a number no
    // message gets to.
    let is_13 = transcript[0] == MESSAGE_HASH || transcript.get(4..6) == Some(&[0xfe, 0xfd]);
    let header = if is_13 { 4 } else { HANDSHAKE_HEADER };
    let mut out = Cow::Borrowed(transcript);
    let mut at = 0;
    for _ in 0..MESSAGES_LOOKED_AT {
        let Some(&[kind, a, b, c]) = transcript.get(at..at + 4) else { break };
        let end = at + header + u32::from_be_bytes([0, a, b, c]) as usize;
        if kind == CLIENT_HELLO
            && let Some(message) = transcript.get(..end)
            && let Some(range) = profile_ids(message, at + header)
            && let Some(ids) = out.to_mut().get_mut(range)
        {
            for id in ids.as_chunks_mut::<2>().0 {
                *id = (u16::from_be_bytes(*id) & !MARK).to_be_bytes();
            }
        }
        at = end;
    }
    out
}

/// The library's own provider, seeing ClientHellos as they were sent.
pub(super) fn crypto_provider() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &UnmarkedHash,
        signature_verification: &UnmarkedSignature,
        ..aws_lc_rs::default_provider()
    }
}

#[derive(Debug)]
struct UnmarkedHash;

impl HashProvider for UnmarkedHash {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let inner = aws_lc_rs::default_provider().hash_provider.create_hash(algorithm);
        Box::new(UnmarkedContext { inner })
    }
}

#[derive(Debug)]
struct UnmarkedContext {
    inner: Box<dyn HashContext>,
}

impl HashContext for UnmarkedContext {
    fn update(&mut self, data: &[u8]) {
        self.inner.update(&without_marks(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.inner.clone_and_finalize(out);
    }
}

#[derive(Debug)]
struct UnmarkedSignature;

impl SignatureVerifier for UnmarkedSignature {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let verifier = aws_lc_rs::default_provider().signature_verification;
        verifier.verify_signature(cert_der, &without_marks(data), signature, hash_alg, sig_alg)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The body of a ClientHello with these profiles.
    fn hello(ids: &[u16]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&[0, 2, 0x13, 0x01, 1, 0]);
        let mut extensions = vec![0x00, 0x2b, 0, 3, 2, 0xfe, 0xfc];
        extensions.extend_from_slice(&[0x00, 0x0e]);
        extensions.extend_from_slice(&(ids.len() as u16 * 2 + 3).to_be_bytes());
        extensions.extend_from_slice(&(ids.len() as u16 * 2).to_be_bytes());
        extensions.extend(ids.iter().flat_map(|id| id.to_be_bytes()));
        extensions.push(0);
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(&extensions);
        body
    }

    /// One record with bytes `range` of a message.
    fn fragment(seq: u8, body: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
        let piece = &body[range.clone()];
        let mut out = vec![CONTENT_HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, seq];
        out.extend_from_slice(&((HANDSHAKE_HEADER + piece.len()) as u16).to_be_bytes());
        out.push(CLIENT_HELLO);
        out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(range.start as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(piece);
        out
    }

    /// Cuts the ClientHello of a datagram into records of at most `size` body bytes, each in a
    /// datagram of its own: what a client with a large hello does.
    pub fn cut_client_hello(datagram: &[u8], size: usize) -> Vec<Vec<u8>> {
        let Some(whole) = Fragment::parse(datagram) else { return vec![datagram.to_vec()] };
        assert_eq!(whole.bytes.len(), whole.length);
        let mut cut = Vec::new();
        for (seq, start) in (0u8..).zip((0..whole.length).step_by(size)) {
            let end = whole.length.min(start + size);
            let mut piece = fragment(seq, whole.bytes, start..end);
            let at = RECORD_HEADER + 4;
            piece[at..at + 2].copy_from_slice(&whole.message_seq.to_be_bytes());
            cut.push(piece);
        }
        cut
    }

    /// Lengthens the ClientHello of a datagram by a padding extension (RFC 7685).
    pub fn pad_client_hello(datagram: &[u8], padding: usize) -> Vec<u8> {
        const EXTENSION_PADDING: u16 = 0x0015;
        let whole = Fragment::parse(datagram).expect("a ClientHello");
        let mut body = whole.bytes.to_vec();
        let ids = profile_ids(&body, 0).expect("a use_srtp extension");
        // The list of extensions ends with the body, so its length stands where both fit.
        let at = (0..ids.start)
            .find(|&at| {
                let length = u16::from_be_bytes([body[at], body[at + 1]]);
                at > 34 && at + 2 + usize::from(length) == body.len()
            })
            .expect("the length of the extensions");
        body.extend_from_slice(&EXTENSION_PADDING.to_be_bytes());
        body.extend_from_slice(&(padding as u16).to_be_bytes());
        body.resize(body.len() + padding, 0);
        let length = (body.len() - at - 2) as u16;
        body[at..at + 2].copy_from_slice(&length.to_be_bytes());
        whole_message(datagram, whole.message_seq, &body)
    }

    fn rewritten(choice: &mut ProfileChoice, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut out = VecDeque::new();
        choice.rewrite(datagram, &mut out);
        out.into()
    }

    const PREFERENCE: [Profile; 3] =
        [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80];

    #[test]
    fn our_first_profile_that_the_client_has_stays_and_the_rest_is_marked() {
        let table: [(&[Profile], &[u16], &[u16]); 6] = [
            (&PREFERENCE, &[1, 8, 7], &[0x8001, 0x8008, 7]),
            (&PREFERENCE, &[1, 8], &[0x8001, 8]),
            (&PREFERENCE, &[2, 1], &[0x8002, 1]),
            (&[Profile::AesCm128HmacSha1_80], &[7, 8, 1], &[0x8007, 0x8008, 1]),
            (&[Profile::AeadAes256Gcm], &[1, 2], &[0x8001, 0x8002]),
            (&PREFERENCE, &[], &[]),
        ];
        for (preference, offered, expected) in table {
            let body = hello(offered);
            let record = fragment(0, &body, 0..body.len());
            let out = rewritten(&mut ProfileChoice::new(preference), &record);
            let expected = hello(expected);
            assert_eq!(out, [fragment(0, &expected, 0..expected.len())], "{offered:?}");
        }
    }

    #[test]
    fn fragments_in_any_order_become_one_message() {
        let body = hello(&[1, 8, 7]);
        let cuts = [0..10, 10..body.len() - 6, body.len() - 6..body.len()];
        let [a, b, c] = cuts.map(|range| fragment(range.start as u8, &body, range));
        let mut choice = ProfileChoice::new(&PREFERENCE);
        assert!(rewritten(&mut choice, &c).is_empty());
        assert!(rewritten(&mut choice, &a).is_empty());
        assert!(rewritten(&mut choice, &a).is_empty());
        let out = rewritten(&mut choice, &b);
        let expected = hello(&[0x8001, 0x8008, 7]);
        assert_eq!(out, [fragment(10, &expected, 0..expected.len())]);
    }

    #[test]
    fn several_fragments_in_one_datagram_are_one_too() {
        let body = hello(&[1, 7]);
        let mut datagram = fragment(0, &body, 0..20);
        datagram.extend(fragment(1, &body, 20..body.len()));
        let out = rewritten(&mut ProfileChoice::new(&PREFERENCE), &datagram);
        let expected = hello(&[0x8001, 7]);
        assert_eq!(out, [fragment(1, &expected, 0..expected.len())]);
    }

    #[test]
    fn other_records_pass_as_they_are() {
        let mut choice = ProfileChoice::new(&PREFERENCE);
        let body = hello(&[1, 7]);
        let mut encrypted = fragment(0, &body, 0..body.len());
        encrypted[4] = 1;
        let mut server_hello = fragment(0, &body, 0..body.len());
        server_hello[RECORD_HEADER] = 2;
        let cut_short = &fragment(0, &body, 0..body.len())[..40];
        let table: [&[u8]; 5] = [&encrypted, &server_hello, cut_short, &[0x2e; 30], &[]];
        for datagram in table {
            assert_eq!(rewritten(&mut choice, datagram).concat(), datagram);
        }
    }

    #[test]
    fn lying_lengths_neither_panic_nor_pile_up() {
        let mut choice = ProfileChoice::new(&PREFERENCE);
        let body = hello(&[1, 7]);
        for position in 0..RECORD_HEADER + HANDSHAKE_HEADER + body.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut record = fragment(0, &body, 0..body.len());
                record[position] = value;
                rewritten(&mut choice, &record);
            }
        }
        for offset in 0..100 {
            rewritten(&mut choice, &fragment(0, &body, offset % 20..offset % 20 + 1));
        }
        assert!(choice.partial.is_some_and(|partial| partial.fragments <= MAX_FRAGMENTS));
    }

    fn transcript(header: usize, messages: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, body) in messages {
            let start = out.len();
            out.push(*kind);
            out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
            out.resize(start + header, 0);
            out.extend_from_slice(body);
        }
        out
    }

    #[test]
    fn transcripts_lose_their_marks_and_nothing_else() {
        let (marked, sent) = (hello(&[0x8001, 0x8008, 7]), hello(&[1, 8, 7]));
        let other = [0x80; 40];
        for header in [4, HANDSHAKE_HEADER] {
            let with = |hello: &[u8]| transcript(header, &[(1, hello), (2, &other)]);
            assert_eq!(without_marks(&with(&marked)), with(&sent));
        }
        let retried = |hello: &[u8]| transcript(4, &[(0xfe, &other), (2, &other), (1, hello)]);
        assert_eq!(without_marks(&retried(&marked)), retried(&sent));
        for plain in [&b""[..], &[0x30; 100], &[1, 0xff, 0xff, 0xff, 0xfe, 0xfd], &[1]] {
            assert_eq!(without_marks(plain), plain);
        }
    }
}
