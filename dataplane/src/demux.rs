//! What a datagram is, by its first two bytes (RFC 7983 section 7, RFC 5761 section 4).
#![forbid(unsafe_code)]

use crate::drop_reason::DropReason;

/// Shortest STUN message: its header (RFC 8489 section 5).
const MIN_STUN_LEN: usize = 20;

/// Shortest DTLS datagram: the header of a plain record (RFC 9147 section 4). A DTLS 1.3 ciphertext
/// record has a shorter header, but with its 16-byte tag it is never below this either.
const MIN_DTLS_LEN: usize = 13;

/// Shortest RTP packet: its fixed header (RFC 3550 section 5.1).
const MIN_RTP_LEN: usize = 12;

/// Shortest RTCP packet: header and sender SSRC (RFC 3550 section 6.4).
const MIN_RTCP_LEN: usize = 8;

/// The protocols that share a transport's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketClass {
    /// STUN (RFC 8489).
    Stun,
    /// DTLS (RFC 6347, RFC 9147).
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
}

/// Tells the class of a datagram. It promises the least length of its class, nothing more.
///
/// RTP is tested first, for nearly everything is RTP. ZRTP (16–19) and TURN channels (64–79) have
/// ranges of their own in RFC 7983; nobody speaks either to an SFU, so both are unknown here.
///
/// # Errors
/// [`DropReason::TooShort`], [`DropReason::UnknownClass`].
#[inline]
pub fn classify(datagram: &[u8]) -> Result<PacketClass, DropReason> {
    let &[first, second, ..] = datagram else {
        return Err(DropReason::TooShort);
    };
    let (class, min_len) = match first {
        0x80..=0xbf if is_rtcp(second) => (PacketClass::Rtcp, MIN_RTCP_LEN),
        0x80..=0xbf => (PacketClass::Rtp, MIN_RTP_LEN),
        0x14..=0x3f => (PacketClass::Dtls, MIN_DTLS_LEN),
        0x00..=0x03 => (PacketClass::Stun, MIN_STUN_LEN),
        _ => return Err(DropReason::UnknownClass),
    };
    if datagram.len() < min_len {
        return Err(DropReason::TooShort);
    }
    Ok(class)
}

/// RTCP packet types 192–223 look like RTP payload types 64–95 with the marker set, which is why
/// RTP must not use those (RFC 5761 section 4).
const fn is_rtcp(second: u8) -> bool {
    matches!(second, 192..=223)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(first: u8, second: u8) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0] = first;
        bytes[1] = second;
        bytes
    }

    #[test]
    fn every_first_byte_is_of_the_class_rfc_7983_gives_it() {
        for first in 0..=255 {
            let expected = match first {
                0..=3 => Ok(PacketClass::Stun),
                20..=63 => Ok(PacketClass::Dtls),
                128..=191 => Ok(PacketClass::Rtp),
                _ => Err(DropReason::UnknownClass),
            };
            assert_eq!(classify(&datagram(first, 0)), expected, "first byte {first}");
        }
    }

    #[test]
    fn rtp_and_rtcp_part_at_payload_types_64_to_95() {
        for second in 0..=255u8 {
            // With the marker bit clear these are unused payload types, and no RTCP type at all.
            let rtcp = second >= 0x80 && (64..=95).contains(&(second & 0x7f));
            let expected = if rtcp { PacketClass::Rtcp } else { PacketClass::Rtp };
            assert_eq!(classify(&datagram(0x80, second)), Ok(expected), "second byte {second}");
        }
    }

    #[test]
    fn what_is_shorter_than_its_class_is_refused() {
        for (first, second, min_len) in
            [(0, 1, MIN_STUN_LEN), (22, 254, MIN_DTLS_LEN), (0x80, 96, MIN_RTP_LEN), (0x81, 200, 8)]
        {
            let bytes = datagram(first, second);
            assert!(classify(&bytes[..min_len]).is_ok());
            for len in 0..min_len {
                assert_eq!(classify(&bytes[..len]), Err(DropReason::TooShort), "{first} {len}");
            }
        }
    }
}
