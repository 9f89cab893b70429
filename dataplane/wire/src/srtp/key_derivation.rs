//! Session keys from master keys (RFC 3711 section 4.3, RFC 7714 section 11), with a key
//! derivation rate of zero: DTLS-SRTP derives once.
#![forbid(unsafe_code)]

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use super::{Profile, SrtpError};

/// What a session key is for; the numbers are the labels of RFC 3711 section 4.3.2.
#[derive(Clone, Copy)]
pub(super) enum Label {
    RtpCipher = 0x00,
    RtpAuth = 0x01,
    RtpSalt = 0x02,
    RtcpCipher = 0x03,
    RtcpAuth = 0x04,
    RtcpSalt = 0x05,
}

/// A salt of up to 14 bytes as the 112-bit number that all formulas of RFC 3711 work on. Shorter
/// ones are shifted to the left (RFC 7714 section 11).
pub(super) struct Salt(Zeroizing<u128>);

/// Bytes of the number in a [`Salt`].
const SALT_LEN: usize = 14;

impl Salt {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut number = Zeroizing::new(0);
        for i in 0..SALT_LEN {
            *number = *number << 8 | u128::from(bytes.get(i).copied().unwrap_or(0));
        }
        Salt(number)
    }

    /// The counter block of AES-CM: `salt·2^16 ⊕ id·2^64 ⊕ index·2^16` (RFC 3711 section 4.1.1).
    pub(super) fn counter_block(&self, id: u32, index: u64) -> [u8; 16] {
        ((*self.0 ^ u128::from(id) << 48 ^ u128::from(index)) << 16).to_be_bytes()
    }

    /// The nonce of AES-GCM: `salt ⊕ (SSRC·2^48 + index)` over 96 bits (RFC 7714 sections 8.1
    /// and 9.1).
    pub(super) fn nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let number = *self.0 >> 16 ^ u128::from(ssrc) << 48 ^ u128::from(index);
        let [_, _, _, _, nonce @ ..] = number.to_be_bytes();
        nonce
    }
}

/// The pseudorandom function under one master key and salt.
pub(super) struct KeyDerivation {
    prf: EncryptingKey,
    master_salt: Salt,
}

impl KeyDerivation {
    pub(super) fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        if key.len() != profile.key_len() {
            return Err(SrtpError::KeyLength { expected: profile.key_len(), actual: key.len() });
        }
        if salt.len() != profile.salt_len() {
            return Err(SrtpError::SaltLength { expected: profile.salt_len(), actual: salt.len() });
        }
        let aes = match profile {
            Profile::AeadAes256Gcm => &AES_256,
            Profile::AeadAes128Gcm | Profile::AesCm128HmacSha1_80 => &AES_128,
        };
        let prf = EncryptingKey::ctr(UnboundCipherKey::new(aes, key)?)?;
        Ok(KeyDerivation { prf, master_salt: Salt::new(salt) })
    }

    /// The session key of `N` bytes under `label`.
    pub(super) fn derive<const N: usize>(
        &self,
        label: Label,
    ) -> Result<Zeroizing<[u8; N]>, SrtpError> {
        let mut key = Zeroizing::new([0; N]);
        let iv = FixedLength::from(self.master_salt.counter_block(label as u32, 0));
        self.prf.less_safe_encrypt(key.as_mut_slice(), EncryptionContext::Iv128(iv))?;
        Ok(key)
    }

    /// The session salt of `N` bytes under `label`.
    pub(super) fn derive_salt<const N: usize>(&self, label: Label) -> Result<Salt, SrtpError> {
        Ok(Salt::new(self.derive::<N>(label)?.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    #[test]
    fn rfc3711_appendix_b3_key_derivation() {
        let kdf = KeyDerivation::new(
            Profile::AesCm128HmacSha1_80,
            &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        )
        .unwrap();
        let key: Zeroizing<[u8; 16]> = kdf.derive(Label::RtpCipher).unwrap();
        assert_eq!(key.as_slice(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let salt: Zeroizing<[u8; 14]> = kdf.derive(Label::RtpSalt).unwrap();
        assert_eq!(salt.as_slice(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        let auth: Zeroizing<[u8; 94]> = kdf.derive(Label::RtpAuth).unwrap();
        let expected = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE
                        E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
                        6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2";
        assert_eq!(auth.as_slice(), hex(expected));
    }

    /// RFC 6188 section 7.3, the key schedule of AEAD_AES_256_GCM. Its salt has 14 bytes, which
    /// is why this goes below the length check.
    #[test]
    fn rfc6188_key_derivation_with_256_bits() {
        let master_key = hex("f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6");
        let kdf = KeyDerivation {
            prf: EncryptingKey::ctr(UnboundCipherKey::new(&AES_256, &master_key).unwrap()).unwrap(),
            master_salt: Salt::new(&hex("3b04803de51ee7c96423ab5b78d2")),
        };
        let key: Zeroizing<[u8; 32]> = kdf.derive(Label::RtpCipher).unwrap();
        let expected = "5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4";
        assert_eq!(key.as_slice(), hex(expected));
        let salt: Zeroizing<[u8; 14]> = kdf.derive(Label::RtpSalt).unwrap();
        assert_eq!(salt.as_slice(), hex("fa31791685ca444a9e07c6c64e93"));
        let auth: Zeroizing<[u8; 20]> = kdf.derive(Label::RtpAuth).unwrap();
        assert_eq!(auth.as_slice(), hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    }

    #[test]
    fn wrong_lengths_are_named() {
        let short_key = KeyDerivation::new(Profile::AeadAes256Gcm, &[0; 16], &[0; 12]).err();
        assert_eq!(short_key, Some(SrtpError::KeyLength { expected: 32, actual: 16 }));
        let long_salt = KeyDerivation::new(Profile::AeadAes128Gcm, &[0; 16], &[0; 14]).err();
        assert_eq!(long_salt, Some(SrtpError::SaltLength { expected: 12, actual: 14 }));
    }
}
