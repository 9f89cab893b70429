//! AES_CM_128_HMAC_SHA1_80 (RFC 3711 sections 4.1.1 and 4.2.1): encrypt, then authenticate.
#![forbid(unsafe_code)]

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::key_derivation::{KeyDerivation, Label, Salt};
use super::{RTCP_ENCRYPTED, RTCP_HEADER_LEN, RTCP_INDEX_LEN, SrtpError};

/// Length of the authentication tag, bytes.
pub(super) const TAG_LEN: usize = 10;

/// Length of the session authentication keys, bytes (RFC 3711 section 5.2).
const AUTH_KEY_LEN: usize = 20;

/// Session keys of one direction.
pub(super) struct CmHmac {
    rtp: SessionKeys,
    rtcp: SessionKeys,
}

impl CmHmac {
    pub(super) fn new(kdf: &KeyDerivation) -> Result<Self, SrtpError> {
        Ok(CmHmac {
            rtp: SessionKeys::new(kdf, Label::RtpCipher, Label::RtpAuth, Label::RtpSalt)?,
            rtcp: SessionKeys::new(kdf, Label::RtcpCipher, Label::RtcpAuth, Label::RtcpSalt)?,
        })
    }

    /// `out` is the whole sealed packet, its header written.
    pub(super) fn seal_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<(), Unspecified> {
        let (packet, tag) = out.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        let body = packet.get_mut(header_len..).ok_or(Unspecified)?;
        if body.len() != payload.len() {
            return Err(Unspecified);
        }
        body.copy_from_slice(payload);
        self.rtp.apply_keystream(ssrc, index, body)?;
        *tag = self.rtp.tag(packet, &rollover(index))?;
        Ok(())
    }

    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, Unspecified> {
        let (packet, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        verify_slices_are_equal(&self.rtp.tag(packet, &rollover(index))?, tag)?;
        let body = packet.get_mut(header_len..).ok_or(Unspecified)?;
        self.rtp.apply_keystream(ssrc, index, body)?;
        Ok(packet.len())
    }

    /// `packet` is the plain packet with room for index word and tag behind it.
    pub(super) fn seal_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        packet: &mut [u8],
    ) -> Result<(), Unspecified> {
        let (rest, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        let (plain, word) = rest.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(Unspecified)?;
        *word = (RTCP_ENCRYPTED | index).to_be_bytes();
        let body = plain.get_mut(RTCP_HEADER_LEN..).ok_or(Unspecified)?;
        self.rtcp.apply_keystream(ssrc, index.into(), body)?;
        *tag = self.rtcp.tag(plain, word)?;
        Ok(())
    }

    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        encrypted: bool,
        packet: &mut [u8],
    ) -> Result<usize, Unspecified> {
        let (rest, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        let (plain, word) = rest.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(Unspecified)?;
        verify_slices_are_equal(&self.rtcp.tag(plain, word)?, tag)?;
        if encrypted {
            let body = plain.get_mut(RTCP_HEADER_LEN..).ok_or(Unspecified)?;
            self.rtcp.apply_keystream(ssrc, index.into(), body)?;
        }
        Ok(plain.len())
    }
}

/// The rollover counter, which an RTP tag covers although it does not travel.
fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// Cipher, salt and authentication key of either SRTP or SRTCP.
struct SessionKeys {
    cipher: EncryptingKey,
    salt: Salt,
    auth: hmac::Key,
}

impl SessionKeys {
    fn new(
        kdf: &KeyDerivation,
        cipher: Label,
        auth: Label,
        salt: Label,
    ) -> Result<Self, SrtpError> {
        let cipher = UnboundCipherKey::new(&AES_128, kdf.derive::<16>(cipher)?.as_slice())?;
        let auth = kdf.derive::<AUTH_KEY_LEN>(auth)?;
        Ok(SessionKeys {
            cipher: EncryptingKey::ctr(cipher)?,
            salt: kdf.derive_salt::<14>(salt)?,
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth.as_slice()),
        })
    }

    /// Encrypts or decrypts `data`.
    fn apply_keystream(&self, ssrc: u32, index: u64, data: &mut [u8]) -> Result<(), Unspecified> {
        let iv = FixedLength::from(self.salt.counter_block(ssrc, index));
        self.cipher.less_safe_encrypt(data, EncryptionContext::Iv128(iv))?;
        Ok(())
    }

    /// The shortened HMAC over `packet` and what follows it.
    fn tag(&self, packet: &[u8], suffix: &[u8; 4]) -> Result<[u8; TAG_LEN], Unspecified> {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(packet);
        context.update(suffix);
        context.sign().as_ref().first_chunk().copied().ok_or(Unspecified)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Profile, hex};
    use super::*;

    #[test]
    fn rfc3711_appendix_b2_keystream() {
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
        let keys = SessionKeys {
            cipher: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap(),
            salt: Salt::new(&hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD")),
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
        };
        let mut keystream = vec![0; 0xff02 * 16];
        keys.apply_keystream(0, 0, &mut keystream).unwrap();
        let blocks = [
            (0x0000, "E03EAD0935C95E80E166B16DD92B4EB4"),
            (0x0001, "D23513162B02D0F72A43A2FE4A5F97AB"),
            (0x0002, "41E95B3BB0A2E8DD477901E4FCA894C0"),
            (0xfeff, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
            (0xff00, "362B7C3C6773516318A077D7FC5073AE"),
            (0xff01, "6A2CC3787889374FBEB4C81B17BA6C44"),
        ];
        for (block, expected) in blocks {
            assert_eq!(keystream[block * 16..][..16], hex(expected), "block {block:#x}");
        }
    }

    #[test]
    fn rfc2202_hmac_sha1_shortened() {
        let keys = SessionKeys {
            cipher: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &[0; 16]).unwrap()).unwrap(),
            salt: Salt::new(&[]),
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[0x0b; 20]),
        };
        // Test case 1, "Hi There", cut into packet and suffix.
        let tag = keys.tag(b"Hi T", b"here").unwrap();
        assert_eq!(tag.as_slice(), hex("b617318655057264e28b"));
    }

    /// RFC 3711 section 3.4: the same packet, tagged but not encrypted.
    #[test]
    fn rtcp_in_the_clear_opens_if_authentic() {
        let kdf = KeyDerivation::new(Profile::AesCm128HmacSha1_80, &[1; 16], &[2; 14]).unwrap();
        let cm = CmHmac::new(&kdf).unwrap();
        let (plain, word) = (hex("80c80001 4d617273 deadbeef"), [0, 0, 0, 5]);
        let tag = cm.rtcp.tag(&plain, &word).unwrap();
        let packet = [plain.as_slice(), &word, &tag].concat();
        let mut opened = packet.clone();
        assert_eq!(cm.open_rtcp(0x4d61_7273, 5, false, &mut opened), Ok(plain.len()));
        assert_eq!(opened[..plain.len()], plain);
        for i in 0..packet.len() {
            let mut forged = packet.clone();
            forged[i] ^= 0x10;
            assert!(cm.open_rtcp(0x4d61_7273, 5, false, &mut forged).is_err(), "byte {i}");
        }
    }
}
