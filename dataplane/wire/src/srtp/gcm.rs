//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714).
#![forbid(unsafe_code)]

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;

use super::key_derivation::{KeyDerivation, Label, Salt};
use super::{Profile, RTCP_ENCRYPTED, RTCP_HEADER_LEN, RTCP_INDEX_LEN, SrtpError};

/// Length of the authentication tag, bytes.
pub(super) const TAG_LEN: usize = 16;

/// Session keys of one direction. The nonces that `LessSafeKey` asks for are unique because packet
/// indexes are. Media first: it is used a hundred times as often.
#[repr(C)]
pub(super) struct Gcm {
    rtp_key: LessSafeKey,
    rtp_salt: Salt,
    rtcp_key: LessSafeKey,
    rtcp_salt: Salt,
}

impl Gcm {
    pub(super) fn new(profile: Profile, kdf: &KeyDerivation) -> Result<Self, SrtpError> {
        Ok(Gcm {
            rtp_key: session_key(profile, kdf, Label::RtpCipher)?,
            rtp_salt: kdf.derive_salt::<12>(Label::RtpSalt)?,
            rtcp_key: session_key(profile, kdf, Label::RtcpCipher)?,
            rtcp_salt: kdf.derive_salt::<12>(Label::RtcpSalt)?,
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
        let (header, sealed) = out.split_at_mut_checked(header_len).ok_or(Unspecified)?;
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        let nonce = Nonce::assume_unique_for_key(self.rtp_salt.nonce(ssrc, index));
        let aad = Aad::from(&*header);
        self.rtp_key.seal_out_of_place_scatter(nonce, aad, payload, body, &[], tag)
    }

    #[inline]
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, Unspecified> {
        let (header, sealed) = packet.split_at_mut_checked(header_len).ok_or(Unspecified)?;
        let nonce = Nonce::assume_unique_for_key(self.rtp_salt.nonce(ssrc, index));
        let payload = self.rtp_key.open_in_place(nonce, Aad::from(&*header), sealed)?;
        Ok(header_len + payload.len())
    }

    /// `packet` is the plain packet with room for tag and index word behind it.
    pub(super) fn seal_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        packet: &mut [u8],
    ) -> Result<(), Unspecified> {
        let (rest, word) = packet.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(Unspecified)?;
        let (rest, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        let (header, body) = rest.split_first_chunk_mut::<RTCP_HEADER_LEN>().ok_or(Unspecified)?;
        *word = (RTCP_ENCRYPTED | index).to_be_bytes();
        let aad = rtcp_aad(header, word);
        let nonce = Nonce::assume_unique_for_key(self.rtcp_salt.nonce(ssrc, index.into()));
        self.rtcp_key.seal_in_place_scatter(nonce, Aad::from(aad), body, &[], tag)
    }

    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        encrypted: bool,
        packet: &mut [u8],
    ) -> Result<usize, Unspecified> {
        let nonce = Nonce::assume_unique_for_key(self.rtcp_salt.nonce(ssrc, index.into()));
        let (rest, word) = packet.split_last_chunk_mut::<RTCP_INDEX_LEN>().ok_or(Unspecified)?;
        if !encrypted {
            return self.verify_plain_rtcp(nonce, rest, *word);
        }
        let (header, sealed) =
            rest.split_first_chunk_mut::<RTCP_HEADER_LEN>().ok_or(Unspecified)?;
        let aad = rtcp_aad(header, word);
        let body = self.rtcp_key.open_in_place(nonce, Aad::from(aad), sealed)?;
        Ok(RTCP_HEADER_LEN + body.len())
    }

    /// Checks a packet whose E flag is clear: all of it and the index word are associated data
    /// (RFC 7714 section 9.3). The library takes those in one piece, so the word moves next to the
    /// packet, over the tag.
    fn verify_plain_rtcp(
        &self,
        nonce: Nonce,
        packet_and_tag: &mut [u8],
        word: [u8; RTCP_INDEX_LEN],
    ) -> Result<usize, Unspecified> {
        let (packet, tag) = packet_and_tag.split_last_chunk_mut::<TAG_LEN>().ok_or(Unspecified)?;
        let len = packet.len();
        let mut tag_alone = *tag;
        *tag.first_chunk_mut().ok_or(Unspecified)? = word;
        let aad = packet_and_tag.get(..len + RTCP_INDEX_LEN).ok_or(Unspecified)?;
        self.rtcp_key.open_in_place(nonce, Aad::from(aad), &mut tag_alone)?;
        Ok(len)
    }
}

/// Associated data of encrypted SRTCP: header, sender SSRC and index word (RFC 7714 section 9.2).
fn rtcp_aad(
    header: &[u8; RTCP_HEADER_LEN],
    word: &[u8; RTCP_INDEX_LEN],
) -> [u8; RTCP_HEADER_LEN + RTCP_INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_INDEX_LEN];
    let (front, back) = aad.split_at_mut(RTCP_HEADER_LEN);
    front.copy_from_slice(header);
    back.copy_from_slice(word);
    aad
}

fn session_key(
    profile: Profile,
    kdf: &KeyDerivation,
    label: Label,
) -> Result<LessSafeKey, SrtpError> {
    let key = match profile {
        Profile::AeadAes256Gcm => {
            UnboundKey::new(&AES_256_GCM, kdf.derive::<32>(label)?.as_slice())
        }
        _ => UnboundKey::new(&AES_128_GCM, kdf.derive::<16>(label)?.as_slice()),
    };
    Ok(LessSafeKey::new(key?))
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f";
    const SALT: &str = "517569642070726f2071756f";

    /// The vectors give session keys, not master keys.
    fn gcm(profile: Profile) -> Gcm {
        let bytes = hex(KEY);
        let key = || {
            let (algorithm, bytes) = match profile {
                Profile::AeadAes256Gcm => (&AES_256_GCM, bytes.as_slice()),
                _ => (&AES_128_GCM, &bytes[..16]),
            };
            LessSafeKey::new(UnboundKey::new(algorithm, bytes).unwrap())
        };
        let salt = || Salt::new(&hex(SALT));
        Gcm { rtp_key: key(), rtp_salt: salt(), rtcp_key: key(), rtcp_salt: salt() }
    }

    const RTP_PLAIN: &str = "8040f17b 8041f8d3 5501a0b2
        47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";

    #[test]
    fn rfc7714_section_16_srtp() {
        let table = [
            (
                Profile::AeadAes128Gcm,
                "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
                 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
            ),
            (
                Profile::AeadAes256Gcm,
                "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
                 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
            ),
        ];
        let plain = hex(RTP_PLAIN);
        for (profile, sealed) in table {
            let (gcm, sealed) = (gcm(profile), hex(sealed));
            let mut packet = plain[..12].to_vec();
            packet.resize(plain.len() + TAG_LEN, 0);
            gcm.seal_rtp(0x5501_a0b2, 0xf17b, 12, &plain[12..], &mut packet).unwrap();
            assert_eq!(packet, sealed);
            assert_eq!(gcm.open_rtp(0x5501_a0b2, 0xf17b, 12, &mut packet), Ok(plain.len()));
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    const RTCP_PLAIN: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930
        4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef";

    #[test]
    fn rfc7714_section_17_srtcp_encrypted() {
        let table = [
            (
                Profile::AeadAes128Gcm,
                "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
                 c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
                 45d9eade 800005d4",
            ),
            (
                Profile::AeadAes256Gcm,
                "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
                 a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c
                 b26ac3be 800005d4",
            ),
        ];
        let plain = hex(RTCP_PLAIN);
        for (profile, sealed) in table {
            let (gcm, sealed) = (gcm(profile), hex(sealed));
            let mut packet = plain.clone();
            packet.resize(plain.len() + TAG_LEN + RTCP_INDEX_LEN, 0);
            gcm.seal_rtcp(0x4d61_7273, 0x5d4, &mut packet).unwrap();
            assert_eq!(packet, sealed);
            let len = gcm.open_rtcp(0x4d61_7273, 0x5d4, true, &mut packet);
            assert_eq!(len, Ok(plain.len()));
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    #[test]
    fn rfc7714_section_17_srtcp_tagged_only() {
        let table = [
            (Profile::AeadAes128Gcm, "841dd968 3dd78ec9 2ae58790 125f62b3 000005d4"),
            (Profile::AeadAes256Gcm, "91db4afb feee5a97 8fab4393 ed2615fe 000005d4"),
        ];
        let plain = hex(RTCP_PLAIN);
        for (profile, trailer) in table {
            let gcm = gcm(profile);
            let sealed = [plain.clone(), hex(trailer)].concat();
            let mut packet = sealed.clone();
            let len = gcm.open_rtcp(0x4d61_7273, 0x5d4, false, &mut packet);
            assert_eq!(len, Ok(plain.len()));
            assert_eq!(packet[..plain.len()], plain);
            for i in 0..plain.len() {
                let mut packet = sealed.clone();
                packet[i] ^= 0x40;
                assert!(gcm.open_rtcp(0x4d61_7273, 0x5d4, false, &mut packet).is_err());
            }
        }
    }
}
