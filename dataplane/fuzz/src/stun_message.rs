//! STUN as a client writes and reads it: enough to get past FINGERPRINT and MESSAGE-INTEGRITY,
//! which no fuzzer finds by itself. Shares nothing with the server's own code but the hash.
#![forbid(unsafe_code)]

use aws_lc_rs::hmac;

/// Attribute types.
pub mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const NOMINATION: u16 = 0x0030;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;
}

pub const BINDING_REQUEST: u16 = 0x0001;
pub const BINDING_SUCCESS: u16 = 0x0101;
pub const BINDING_ERROR: u16 = 0x0111;

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A message in the making.
pub struct Message(Vec<u8>);

impl Message {
    pub fn new(kind: u16, transaction_id: [u8; 12]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(transaction_id);
        Message(bytes)
    }

    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(kind.to_be_bytes());
        self.0.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Attributes as they are, whether or not they are any.
    pub fn raw(mut self, attributes: &[u8]) -> Self {
        self.0.extend(attributes);
        self
    }

    /// MESSAGE-INTEGRITY, of either kind.
    pub fn integrity(self, sha256: bool, pwd: &str) -> Self {
        let covered = with_length(&self.0, if sha256 { 36 } else { 24 });
        let tag = tag(sha256, pwd, &covered);
        let kind = match sha256 {
            false => attribute::MESSAGE_INTEGRITY,
            true => attribute::MESSAGE_INTEGRITY_SHA256,
        };
        self.attribute(kind, tag.as_ref())
    }

    /// The datagram, with FINGERPRINT at its end.
    pub fn finish(self) -> Vec<u8> {
        let covered = with_length(&self.0, 8);
        let fingerprint = crc32(&covered) ^ 0x5354_554e;
        Message(covered).attribute(attribute::FINGERPRINT, &fingerprint.to_be_bytes()).0
    }
}

/// What a client checks of an answer: transaction, attributes that add up, FINGERPRINT and
/// MESSAGE-INTEGRITY. Its type.
///
/// # Panics
/// Where a client would drop it.
pub fn check_answer(answer: &[u8], transaction_id: [u8; 12], sha256: bool, pwd: &str) -> u16 {
    assert!(answer.len() >= HEADER_LEN && answer.len().is_multiple_of(4));
    let length = u16::from_be_bytes([answer[2], answer[3]]);
    assert_eq!(usize::from(length), answer.len() - HEADER_LEN);
    assert_eq!(answer[4..8], MAGIC_COOKIE);
    assert_eq!(answer[8..20], transaction_id);
    let (before, fingerprint) = answer.split_at(answer.len() - 8);
    let crc = crc32(before) ^ 0x5354_554e;
    assert_eq!(fingerprint[..4], [0x80, 0x28, 0, 4]);
    assert_eq!(fingerprint[4..], crc.to_be_bytes());
    let tag_len = if sha256 { 32 } else { 20 };
    let (before, integrity) = before.split_at(before.len() - tag_len - 4);
    let kind = if sha256 { 0x1c } else { 0x08 };
    assert_eq!(integrity[..4], [0, kind, 0, tag_len as u8]);
    let covered = with_length(before, tag_len + 4);
    assert_eq!(integrity[4..], *tag(sha256, pwd, &covered).as_ref());
    let mut at = HEADER_LEN;
    while at < before.len() {
        let len = usize::from(u16::from_be_bytes([before[at + 2], before[at + 3]]));
        at += 4 + len.next_multiple_of(4);
    }
    assert_eq!(at, before.len());
    u16::from_be_bytes([answer[0], answer[1]])
}

fn tag(sha256: bool, pwd: &str, covered: &[u8]) -> hmac::Tag {
    let algorithm = if sha256 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY };
    hmac::sign(&hmac::Key::new(algorithm, pwd.as_bytes()), covered)
}

/// The message with its length field as if `more` bytes followed.
fn with_length(message: &[u8], more: usize) -> Vec<u8> {
    let mut message = message.to_vec();
    let length = u16::try_from(message.len() + more - HEADER_LEN).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}
