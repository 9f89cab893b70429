//! What we send under one set of keys.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::checkpoint::{Generation, RtcpIndexes, SrtpCheckpoint, TakenOver};
use super::transform::Transform;
use super::{
    MAX_PACKET_LEN, MAX_RTCP_INDEX, MAX_RTP_INDEX, Profile, RTCP_HEADER_LEN, RTP_HEADER_LEN,
    SrtpError,
};

/// Seals the packets of one transport. The caller keeps RTP indexes per SSRC; the SRTCP index is
/// kept here, one for all SSRCs, which leaves gaps in each but never repeats.
pub struct SealContext {
    profile: Option<Profile>,
    transform: Transform,
    /// What the transform adds to an RTP packet, bytes.
    rtp_overhead: usize,
    /// What the next SRTCP packet takes; past [`MAX_RTCP_INDEX`] when they are used up.
    rtcp_index: u32,
    /// What of them may be used, where a core that comes after this one is to go on.
    rtcp_held: Option<RtcpIndexes>,
}

impl SealContext {
    /// A context for sending under a master key and salt.
    ///
    /// # Errors
    /// A key or salt whose length is not the profile's.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let transform = Transform::new(profile, key, salt)?;
        Ok(Self::with(Some(profile), transform))
    }

    /// A context for sending plain RTP and RTCP, which nothing protects.
    pub fn clear() -> Self {
        Self::with(None, Transform::Clear)
    }

    fn with(profile: Option<Profile>, transform: Transform) -> Self {
        let rtp_overhead = transform.rtp_overhead();
        SealContext { profile, transform, rtp_overhead, rtcp_index: 0, rtcp_held: None }
    }

    /// The protection profile; none where packets are plain.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// What sealing adds to an RTP packet, bytes: the tag.
    pub fn rtp_overhead(&self) -> usize {
        self.rtp_overhead
    }

    /// What sealing adds to a compound RTCP packet, bytes: the tag and the index word.
    pub fn rtcp_overhead(&self) -> usize {
        self.transform.rtcp_overhead()
    }

    /// Seals `payload` into `out[header_len..]`, behind the finished RTP header (with CSRCs and
    /// extensions) in `out[..header_len]`. Returns the length of the packet.
    ///
    /// `index` is the 48-bit packet index `ROC << 16 | SEQ`. It must never be used twice for an
    /// SSRC unless header and payload are the same to the bit: with GCM a second message under
    /// one nonce reveals both and the authentication key.
    ///
    /// # Errors
    /// Nothing is written when the header does not carry the index's low half, when `out` is too
    /// small or when the index has more than 48 bits.
    #[inline]
    pub fn seal_rtp(
        &mut self,
        index: u64,
        header_len: usize,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        if index > MAX_RTP_INDEX {
            return Err(SrtpError::IndexExhausted);
        }
        let needed = header_len
            .checked_add(payload.len())
            .and_then(|len| len.checked_add(self.rtp_overhead()))
            .filter(|&len| len <= MAX_PACKET_LEN)
            .ok_or(SrtpError::TooLong)?;
        let out = out.get_mut(..needed).ok_or(SrtpError::BufferTooSmall { needed })?;
        let header = out.get(..header_len).and_then(|h| h.first_chunk::<RTP_HEADER_LEN>());
        let Some(&[_, _, s0, s1, _, _, _, _, ssrc @ ..]) = header else {
            return Err(SrtpError::HeaderMismatch);
        };
        if u16::from_be_bytes([s0, s1]) != index as u16 {
            return Err(SrtpError::HeaderMismatch);
        }
        self.transform.seal_rtp(u32::from_be_bytes(ssrc), index, header_len, payload, out)?;
        Ok(needed)
    }

    /// Seals the compound RTCP packet in `buf[..len]` in place and returns its new length.
    ///
    /// # Errors
    /// A buffer without [`rtcp_overhead`](Self::rtcp_overhead) bytes of room, a packet without a
    /// header, all 2^31 indexes used, or another core in this one's place.
    pub fn seal_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        if self.rtcp_index > MAX_RTCP_INDEX {
            return Err(SrtpError::IndexExhausted);
        }
        if let Some(held) = &mut self.rtcp_held {
            held.admit(self.rtcp_index.into()).map_err(|TakenOver| SrtpError::TakenOver)?;
        }
        let needed = len
            .checked_add(self.rtcp_overhead())
            .filter(|&len| len <= MAX_PACKET_LEN)
            .ok_or(SrtpError::TooLong)?;
        let packet = buf.get_mut(..needed).ok_or(SrtpError::BufferTooSmall { needed })?;
        let header = packet.get(..len).and_then(|h| h.first_chunk::<RTCP_HEADER_LEN>());
        let Some(&[_, _, _, _, ssrc @ ..]) = header else {
            return Err(SrtpError::HeaderMismatch);
        };
        self.transform.seal_rtcp(u32::from_be_bytes(ssrc), self.rtcp_index, packet)?;
        self.rtcp_index += 1;
        Ok(needed)
    }

    /// The index that the next SRTCP packet will carry.
    pub fn rtcp_index(&self) -> u32 {
        self.rtcp_index
    }

    /// Goes on above all indexes that a core before this one may have used, and leaves word of
    /// those that this one does.
    pub fn take_over(&mut self, checkpoint: Arc<SrtpCheckpoint>, generation: Generation) {
        let (held, first) = RtcpIndexes::begin(checkpoint, generation);
        self.rtcp_held = Some(held);
        self.set_rtcp_index(u32::try_from(first).unwrap_or(u32::MAX));
    }

    /// Continues at `index`. It only ever moves forward, for an index used twice would break GCM.
    pub fn set_rtcp_index(&mut self, index: u32) {
        self.rtcp_index = self.rtcp_index.max(index).min(MAX_RTCP_INDEX + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [(Profile, usize); 3] = [
        (Profile::AeadAes128Gcm, 16),
        (Profile::AeadAes256Gcm, 16),
        (Profile::AesCm128HmacSha1_80, 10),
    ];

    fn context(profile: Profile) -> SealContext {
        let (key, salt) = ([7; 32], [9; 14]);
        SealContext::new(profile, &key[..profile.key_len()], &salt[..profile.salt_len()]).unwrap()
    }

    #[test]
    fn overheads_are_what_sealing_adds() {
        for (profile, tag) in PROFILES {
            let mut seal = context(profile);
            assert_eq!(seal.profile(), Some(profile));
            assert_eq!((seal.rtp_overhead(), seal.rtcp_overhead()), (tag, tag + 4));
            let mut buf = [0; 200];
            assert_eq!(seal.seal_rtp(0, 12, &[1; 50], &mut buf), Ok(62 + tag));
            assert_eq!(seal.seal_rtcp(&mut buf, 28), Ok(28 + tag + 4));
        }
    }

    #[test]
    fn a_refused_packet_is_not_written() {
        let mut header = [0; 64];
        header[2..4].copy_from_slice(&[0x12, 0x34]);
        let table = [
            (0x1_0000_0000_1234, 12, 10, 64, SrtpError::IndexExhausted),
            (0x1235, 12, 10, 64, SrtpError::HeaderMismatch),
            (0x1234, 11, 10, 64, SrtpError::HeaderMismatch),
            (0x1234, usize::MAX, 10, 64, SrtpError::TooLong),
            (0x1234, 12, 0xffff, 64, SrtpError::TooLong),
            (0x1234, 12, 26, 53, SrtpError::BufferTooSmall { needed: 54 }),
        ];
        for (index, header_len, payload_len, out_len, error) in table {
            let mut out = header;
            let payload = vec![1; payload_len];
            let sealed = context(Profile::AeadAes128Gcm).seal_rtp(
                index,
                header_len,
                &payload,
                &mut out[..out_len],
            );
            assert_eq!(sealed, Err(error));
            assert_eq!(out, header);
        }
        let mut seal = context(Profile::AeadAes128Gcm);
        assert_eq!(seal.seal_rtcp(&mut [0; 64], 7), Err(SrtpError::HeaderMismatch));
        assert_eq!(seal.seal_rtcp(&mut [0; 64], usize::MAX), Err(SrtpError::TooLong));
        let small = seal.seal_rtcp(&mut [0; 64], 45);
        assert_eq!(small, Err(SrtpError::BufferTooSmall { needed: 65 }));
        assert_eq!(seal.rtcp_index(), 0);
    }

    #[test]
    fn the_rtcp_index_only_moves_forward_and_ends() {
        let mut seal = context(Profile::AeadAes128Gcm);
        seal.set_rtcp_index(1000);
        seal.set_rtcp_index(10);
        assert_eq!(seal.rtcp_index(), 1000);
        seal.set_rtcp_index(MAX_RTCP_INDEX);
        let mut buf = [0; 64];
        assert_eq!(seal.seal_rtcp(&mut buf, 8), Ok(28));
        assert_eq!(buf[24..28], [0xff; 4]);
        assert_eq!(seal.seal_rtcp(&mut buf, 8), Err(SrtpError::IndexExhausted));
        seal.set_rtcp_index(u32::MAX);
        assert_eq!(seal.seal_rtcp(&mut buf, 8), Err(SrtpError::IndexExhausted));
    }

    #[test]
    fn plain_packets_are_what_they_were() {
        let mut seal = SealContext::clear();
        assert_eq!((seal.profile(), seal.rtp_overhead(), seal.rtcp_overhead()), (None, 0, 0));
        let mut out = [0; 64];
        out[2..4].copy_from_slice(&[0, 7]);
        assert_eq!(seal.seal_rtp(0x1_0007, 12, &[9; 20], &mut out), Ok(32));
        assert_eq!((&out[12..32], out[32]), (&[9; 20][..], 0));
        let mut report = [5; 28];
        assert_eq!(seal.seal_rtcp(&mut report, 28), Ok(28));
        assert_eq!(report, [5; 28]);
    }

    #[test]
    fn the_last_rtp_index_can_be_sealed() {
        let mut out = [0xff; 64];
        assert_eq!(
            context(Profile::AesCm128HmacSha1_80).seal_rtp(MAX_RTP_INDEX, 12, &[], &mut out),
            Ok(22)
        );
    }
}
