//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 sections 14.5 to 14.7).
#![forbid(unsafe_code)]

use aws_lc_rs::{constant_time, hmac};

/// Bytes of a STUN header; the length field counts what follows it.
pub(super) const HEADER_LEN: usize = 20;

/// Bytes of an attribute's type and length.
pub(super) const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Which integrity attribute a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// MESSAGE-INTEGRITY: what every browser sends today.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256, untruncated, as RFC 8489 section 14.6 wants of ICE.
    Sha256,
}

impl Algorithm {
    /// Bytes of the attribute's value.
    pub(super) const fn tag_len(self) -> usize {
        match self {
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }
}

/// A password's key schedules: HMAC states with both pads already absorbed. Made once per set of
/// credentials, so that a check costs two blocks less in each direction.
pub struct IntegrityKeys {
    sha1: hmac::Key,
    sha256: hmac::Key,
}

impl IntegrityKeys {
    /// Keys of short-term credentials: the password itself (RFC 8489 section 9.1.1).
    pub fn new(pwd: &str) -> Self {
        IntegrityKeys {
            sha1: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes()),
            sha256: hmac::Key::new(hmac::HMAC_SHA256, pwd.as_bytes()),
        }
    }

    /// The tag over `message`, which ends where the integrity attribute starts. Whatever the length
    /// field says, the tag is made as if it ended with that attribute.
    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> hmac::Tag {
        let key = match algorithm {
            Algorithm::Sha1 => &self.sha1,
            Algorithm::Sha256 => &self.sha256,
        };
        let length = length_with_attribute(message, algorithm.tag_len());
        let mut context = hmac::Context::with_key(key);
        context.update(message.get(..2).unwrap_or_default());
        context.update(&length.to_be_bytes());
        context.update(message.get(4..).unwrap_or_default());
        context.sign()
    }

    /// Whether `tag` is the one over `message`; in constant time.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], tag: &[u8]) -> bool {
        let expected = self.sign(algorithm, message);
        constant_time::verify_slices_are_equal(expected.as_ref(), tag).is_ok()
    }
}

/// The length field of `message` once it ends with one more attribute of `value_len` bytes. No
/// datagram is long enough to saturate it.
pub(super) fn length_with_attribute(message: &[u8], value_len: usize) -> u16 {
    let total = message.len() + ATTRIBUTE_HEADER_LEN + value_len;
    u16::try_from(total.saturating_sub(HEADER_LEN)).unwrap_or(u16::MAX)
}

/// The value of FINGERPRINT over `message`, which ends where that attribute starts and whose length
/// field already counts it.
pub(super) fn fingerprint(message: &[u8]) -> u32 {
    /// "STUN", so that the CRC of a packet that itself carries CRCs cannot match by accident.
    const XOR: u32 = 0x5354_554e;
    crc32(message) ^ XOR
}

/// CRC-32 as of ITU V.42, a byte a step. A check has about 100 bytes: larger tables would cost more
/// in cache misses than they save.
fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        CRC_TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
    });
    !crc
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    /// The polynomial, bits reversed.
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_of_the_usual_test_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_tag_fits_one_key_one_message_and_its_whole_length() {
        let keys = IntegrityKeys::new("a password of 26 characters");
        let message = [7; 44];
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
            let tag = keys.sign(algorithm, &message);
            assert_eq!(tag.as_ref().len(), algorithm.tag_len());
            assert!(keys.verify(algorithm, &message, tag.as_ref()));
            assert!(!keys.verify(algorithm, &message[..40], tag.as_ref()));
            assert!(!keys.verify(algorithm, &message, &tag.as_ref()[..16]));
            assert!(!keys.verify(algorithm, &message, &[]));
            let other = IntegrityKeys::new("a password of 26 character5");
            assert!(!other.verify(algorithm, &message, tag.as_ref()));
        }
    }

    #[test]
    fn the_length_field_of_the_message_is_not_looked_at_but_the_rest_is() {
        let keys = IntegrityKeys::new("password");
        let mut message = [7; 44];
        let tag = keys.sign(Algorithm::Sha1, &message);
        message[2] = 0;
        message[3] = 99;
        assert!(keys.verify(Algorithm::Sha1, &message, tag.as_ref()));
        message[1] = 0;
        assert!(!keys.verify(Algorithm::Sha1, &message, tag.as_ref()));
    }
}
