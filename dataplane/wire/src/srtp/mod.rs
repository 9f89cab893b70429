//! SRTP and SRTCP (RFC 3711, RFC 7714) under keys that DTLS exported (RFC 5764).
//!
//! ```text
//! SealContext ─┐                 ┌─ gcm      AEAD_AES_128_GCM, AEAD_AES_256_GCM
//!              ├─▶ transform ────┤                                             ├─▶ key_derivation
//! OpenContext ─┘                 └─ cm_hmac  AES_CM_128_HMAC_SHA1_80
//!     └─▶ packet_index, replay_window: per SSRC, touched only by authenticated packets
//! ```
//!
//! All cryptography is `aws-lc-rs`. For a packet of 1200 bytes its GCM takes 0.15 µs, its counter
//! mode and HMAC-SHA1 together 1.15 µs, or 1.8 µs on a CPU without SHA extensions, and nothing is
//! allocated in Rust or in C (counted with a preloaded `malloc`). RustCrypto's `ctr` and `hmac`
//! take 1.15 µs and 2.25 µs on the same machine.
#![forbid(unsafe_code)]

pub mod checkpoint;
mod cm_hmac;
mod gcm;
mod key_derivation;
mod open_context;
mod packet_index;
mod replay_window;
mod seal_context;
mod transform;

pub use open_context::{MAX_SSRCS, OpenContext, Opened, StreamCheckpoint};
pub use seal_context::SealContext;

use zeroize::Zeroizing;

/// Fixed part of an RTP header, bytes (RFC 3550 section 5.1).
const RTP_HEADER_LEN: usize = 12;

/// What SRTCP leaves in the clear at the front, bytes: header and sender SSRC (RFC 3711 3.4).
const RTCP_HEADER_LEN: usize = 8;

/// The word of E flag and SRTCP index, bytes.
const RTCP_INDEX_LEN: usize = 4;

/// The E flag in that word: the packet is encrypted.
const RTCP_ENCRYPTED: u32 = 0x8000_0000;

/// Highest SRTP packet index (48 bits). Past it a new key is due (RFC 3711 section 9.2).
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// Highest SRTCP packet index (31 bits).
const MAX_RTCP_INDEX: u32 = 0x7fff_ffff;

/// Longest packet in either direction, bytes: what a UDP datagram can carry. It also keeps counter
/// mode far from the 2^16 blocks after which its keystream would run into the next packet's.
const MAX_PACKET_LEN: usize = 0xffff;

/// What is wrong with keys, or with what a caller wants sealed. Never the fault of a received
/// packet: that is an [`OpenError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// The master key does not fit the profile.
    #[error("the SRTP master key has {actual} bytes: pass the {expected} that the profile takes")]
    KeyLength {
        /// What the profile takes, bytes.
        expected: usize,
        /// What was given, bytes.
        actual: usize,
    },
    /// The master salt does not fit the profile.
    #[error("the SRTP master salt has {actual} bytes: pass the {expected} that the profile takes")]
    SaltLength {
        /// What the profile takes, bytes.
        expected: usize,
        /// What was given, bytes.
        actual: usize,
    },
    /// The output does not fit into the buffer.
    #[error("the sealed packet needs {needed} bytes: pass a buffer of at least that size")]
    BufferTooSmall {
        /// Length of the sealed packet, bytes.
        needed: usize,
    },
    /// The packet is longer than any datagram.
    #[error("the sealed packet would exceed a datagram: split the payload")]
    TooLong,
    /// The header is shorter than RTP's or RTCP's, or its sequence number is not the low half of
    /// the packet index.
    #[error("the header does not fit the packet: write header and index from one sequence number")]
    HeaderMismatch,
    /// All packet indexes of this key are used.
    #[error("all packet indexes of this key are used: negotiate new keys")]
    IndexExhausted,
    /// Another core has taken over the keys: this one seals no more.
    #[error("another core has taken over these keys: this one must end")]
    TakenOver,
    /// The cryptographic library refused.
    #[error("the cryptographic library refused the operation: check that its self-test passes")]
    Library,
}

/// Why a received packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Less than a header, an index and a tag.
    #[error("shorter than its header and tag")]
    TooShort,
    /// Longer than any datagram.
    #[error("longer than a datagram")]
    TooLong,
    /// The index was there before, or is older than the replay window (RFC 3711 section 3.3.2).
    #[error("replayed, or older than the replay window")]
    Replay,
    /// The tag does not fit the packet.
    #[error("the tag does not fit the packet")]
    AuthFailed,
    /// More SSRCs than a context follows.
    #[error("more SSRCs than a context follows")]
    TooManySsrcs,
}

impl From<aws_lc_rs::error::Unspecified> for SrtpError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        SrtpError::Library
    }
}

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

impl KeyingMaterial {
    /// A context for what we send.
    ///
    /// # Errors
    /// A key or salt whose length is not the profile's.
    pub fn seal_context(&self) -> Result<SealContext, SrtpError> {
        SealContext::new(self.profile, &self.local_key, &self.local_salt)
    }

    /// A context for what we receive.
    ///
    /// # Errors
    /// A key or salt whose length is not the profile's.
    pub fn open_context(&self) -> Result<OpenContext, SrtpError> {
        OpenContext::new(self.profile, &self.remote_key, &self.remote_salt)
    }
}

/// Bytes of a hexadecimal test vector; white space is free.
#[cfg(test)]
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
