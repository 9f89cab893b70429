//! SRTP and SRTCP (RFC 3711, RFC 7714).
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

/// Protection profile (RFC 5764, RFC 7714 section 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// 128-bit AES-GCM: preferred, cheapest on every CPU with AES instructions.
    AeadAes128Gcm,
    /// 256-bit AES-GCM.
    AeadAes256Gcm,
    /// 128-bit AES counter mode with an 80-bit HMAC-SHA1 tag.
    AesCm128HmacSha1_80,
}

impl Profile {
    /// The IANA name.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Profile::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    /// Master key length, bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AesCm128HmacSha1_80 => 16,
            Profile::AeadAes256Gcm => 32,
        }
    }

    /// Master salt length, bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 12,
            Profile::AesCm128HmacSha1_80 => 14,
        }
    }
}

/// Master keys and salts of both directions, as DTLS exports them (RFC 5764 section 4.2). Wiped on
/// drop; no `Debug`.
#[derive(Clone)]
pub struct KeyingMaterial {
    /// The profile.
    pub profile: Profile,
    /// Master key of what we receive.
    pub remote_key: Zeroizing<Vec<u8>>,
    /// Master salt of what we receive.
    pub remote_salt: Zeroizing<Vec<u8>>,
    /// Master key of what we send.
    pub local_key: Zeroizing<Vec<u8>>,
    /// Master salt of what we send.
    pub local_salt: Zeroizing<Vec<u8>>,
}
