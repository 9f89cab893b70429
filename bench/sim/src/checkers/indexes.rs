//! No index of SRTP or SRTCP protects two different packets under one key: whoever saw both could
//! read both, and forge more (RFC 7714 section 9.1).
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use opencall_dataplane::demux::{PacketClass, classify};
use opencall_dataplane::egress::prober::PROBATOR_SSRC;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::srtp::Profile;

/// The bit of the SRTCP trailer that says that the packet is encrypted; the index is the rest.
const ENCRYPTED: u32 = 1 << 31;

/// What a key is used for: an SSRC, and of padding, whose SSRC all transports share, the address,
/// which no two transports have.
type Use = (u32, Option<SocketAddr>);

/// What was sent under which key. A key is told by what it is used for: SSRCs are random, and each
/// transport has its own.
pub struct Indexes {
    profile: Profile,
    highest: HashMap<Use, u64>,
    sealed: HashMap<(Use, u64), u64>,
    rtcp: HashMap<(u32, u32), u64>,
}

impl Indexes {
    /// Of a meeting whose transports have this profile.
    pub fn new(profile: Profile) -> Self {
        let (highest, sealed, rtcp) = (HashMap::new(), HashMap::new(), HashMap::new());
        Indexes { profile, highest, sealed, rtcp }
    }

    /// A core has sent a datagram, in the order in which it sealed them.
    ///
    /// # Errors
    /// Its index was used before.
    pub fn sent(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        match classify(bytes) {
            Ok(PacketClass::Rtp) => self.sent_rtp(to, bytes),
            Ok(PacketClass::Rtcp) => self.sent_rtcp(to, bytes),
            _ => Ok(()),
        }
    }

    fn sent_rtp(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let header = RtpHeader::parse(bytes).ok_or("an RTP header that does not parse")?;
        let ssrc = header.ssrc;
        let used = (ssrc, (ssrc == PROBATOR_SSRC).then_some(to));
        let highest = self.highest.entry(used).or_insert(0x10000 | u64::from(header.sequence));
        let step = header.sequence.wrapping_sub(*highest as u16) as i16;
        let index = highest.wrapping_add_signed(step.into());
        *highest = (*highest).max(index);
        let before = self.sealed.insert((used, index), digest(bytes));
        match before.is_some_and(|before| before != digest(bytes)) {
            true => Err(format!("SSRC {ssrc:08x} sealed {} twice, to {to}", header.sequence)),
            false => Ok(()),
        }
    }

    fn sent_rtcp(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        // The tag of AES-CM with HMAC comes behind the index, GCM's before it.
        let tag = if self.profile == Profile::AesCm128HmacSha1_80 { 10 } else { 0 };
        let trailer = bytes.len().checked_sub(tag).and_then(|end| bytes[..end].last_chunk());
        let ssrc = bytes.get(4..).and_then(|bytes| bytes.first_chunk());
        let (Some(&trailer), Some(&ssrc)) = (trailer, ssrc) else {
            return Err("an SRTCP packet without a trailer".to_owned());
        };
        let (trailer, ssrc) = (u32::from_be_bytes(trailer), u32::from_be_bytes(ssrc));
        if trailer & ENCRYPTED == 0 {
            return Err(format!("an SRTCP packet in the clear, to {to}"));
        }
        let before = self.rtcp.insert((ssrc, trailer), digest(bytes));
        match before.is_some_and(|before| before != digest(bytes)) {
            true => {
                let index = trailer & !ENCRYPTED;
                Err(format!("SSRC {ssrc:08x} sealed SRTCP {index} twice, to {to}"))
            }
            false => Ok(()),
        }
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(sequence: u16, payload: u8) -> Vec<u8> {
        let [high, low] = sequence.to_be_bytes();
        vec![0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 7, payload, 0, 0, 0]
    }

    fn rtcp(index: u8, payload: u8, tag: usize) -> Vec<u8> {
        let mut bytes = vec![0x80, 200, 0, 1, 0, 0, 0, 7, payload, 0x80, 0, 0, index];
        bytes.extend(vec![9; tag]);
        bytes
    }

    #[test]
    fn an_index_used_for_two_packets_is_found() {
        let to = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut indexes = Indexes::new(Profile::AeadAes128Gcm);
        for (sequence, payload) in [(0xffff, 1), (0, 2), (0xfffe, 3), (0, 2)] {
            assert_eq!(indexes.sent(to, &rtp(sequence, payload)), Ok(()), "{sequence}");
        }
        // 2^16 later the number comes again, and is another index.
        for step in 1..=0x10000_u32 {
            assert_eq!(indexes.sent(to, &rtp(step as u16, 5)), Ok(()));
        }
        assert!(indexes.sent(to, &rtp(0xfffe, 6)).is_err());
    }

    #[test]
    fn an_srtcp_index_used_twice_is_found_in_each_profile() {
        let to = SocketAddr::from(([10, 0, 0, 1], 1));
        for (profile, tag) in [(Profile::AeadAes256Gcm, 0), (Profile::AesCm128HmacSha1_80, 10)] {
            let mut indexes = Indexes::new(profile);
            assert_eq!(indexes.sent(to, &rtcp(1, 1, tag)), Ok(()));
            assert_eq!(indexes.sent(to, &rtcp(2, 2, tag)), Ok(()));
            assert!(indexes.sent(to, &rtcp(2, 3, tag)).is_err());
        }
    }
}
