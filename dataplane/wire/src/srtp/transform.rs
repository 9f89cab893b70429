//! Either transform behind one face.
#![forbid(unsafe_code)]

use aws_lc_rs::error::Unspecified;

use super::cm_hmac::{self, CmHmac};
use super::gcm::{self, Gcm};
use super::key_derivation::KeyDerivation;
use super::{Profile, RTCP_INDEX_LEN, SrtpError};

/// The session keys of one direction and what is done with them. Holds no packet state.
pub(super) enum Transform {
    Gcm(Gcm),
    /// Boxed for its size: two prepared HMAC keys take 2.4 KB.
    CmHmac(Box<CmHmac>),
    /// Plain RTP and RTCP: nothing is added and nothing is checked.
    Clear,
}

impl Transform {
    pub(super) fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let kdf = KeyDerivation::new(profile, key, salt)?;
        Ok(match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                Transform::Gcm(Gcm::new(profile, &kdf)?)
            }
            Profile::AesCm128HmacSha1_80 => Transform::CmHmac(Box::new(CmHmac::new(&kdf)?)),
        })
    }

    /// What sealing adds to an RTP packet, bytes.
    pub(super) fn rtp_overhead(&self) -> usize {
        match self {
            Transform::Gcm(_) => gcm::TAG_LEN,
            Transform::CmHmac(_) => cm_hmac::TAG_LEN,
            Transform::Clear => 0,
        }
    }

    /// Whether there are no keys.
    pub(super) fn is_clear(&self) -> bool {
        matches!(self, Transform::Clear)
    }

    /// What sealing adds to a compound RTCP packet, bytes.
    pub(super) fn rtcp_overhead(&self) -> usize {
        if self.is_clear() { 0 } else { self.rtp_overhead() + RTCP_INDEX_LEN }
    }

    /// The word of E flag and index of a sealed RTCP packet: GCM has it behind the tag, counter
    /// mode before it.
    pub(super) fn rtcp_index_word(&self, packet: &[u8]) -> Option<u32> {
        let behind = match self {
            Transform::Gcm(_) | Transform::Clear => 0,
            Transform::CmHmac(_) => cm_hmac::TAG_LEN,
        };
        let front = packet.get(..packet.len().checked_sub(behind)?)?;
        front.last_chunk().copied().map(u32::from_be_bytes)
    }

    pub(super) fn seal_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<(), Unspecified> {
        match self {
            Transform::Gcm(gcm) => gcm.seal_rtp(ssrc, index, header_len, payload, out),
            Transform::CmHmac(cm) => cm.seal_rtp(ssrc, index, header_len, payload, out),
            Transform::Clear => copy_behind(header_len, payload, out),
        }
    }

    #[inline]
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, Unspecified> {
        match self {
            Transform::Gcm(gcm) => gcm.open_rtp(ssrc, index, header_len, packet),
            Transform::CmHmac(cm) => cm.open_rtp(ssrc, index, header_len, packet),
            Transform::Clear => Ok(packet.len()),
        }
    }

    pub(super) fn seal_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        packet: &mut [u8],
    ) -> Result<(), Unspecified> {
        match self {
            Transform::Gcm(gcm) => gcm.seal_rtcp(ssrc, index, packet),
            Transform::CmHmac(cm) => cm.seal_rtcp(ssrc, index, packet),
            Transform::Clear => Ok(()),
        }
    }

    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        index: u32,
        encrypted: bool,
        packet: &mut [u8],
    ) -> Result<usize, Unspecified> {
        match self {
            Transform::Gcm(gcm) => gcm.open_rtcp(ssrc, index, encrypted, packet),
            Transform::CmHmac(cm) => cm.open_rtcp(ssrc, index, encrypted, packet),
            Transform::Clear => Ok(packet.len()),
        }
    }
}

/// Out of the way of those that encrypt.
#[cold]
#[inline(never)]
fn copy_behind(header_len: usize, payload: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
    let room = out.get_mut(header_len..).filter(|room| room.len() == payload.len());
    room.ok_or(Unspecified)?.copy_from_slice(payload);
    Ok(())
}
