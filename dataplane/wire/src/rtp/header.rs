//! The RTP header (RFC 3550 section 5.1) and where its extension block lies (section 5.3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |           synchronization source (SSRC) identifier            |
//! |            contributing source (CSRC) identifiers             |
//! |      defined by profile       |       length in words         |
//! |                        header extension                       |
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc3550#section-5.1>
#![forbid(unsafe_code)]

use std::ops::Range;

/// Length of the fixed header, bytes.
pub const FIXED_LEN: usize = 12;

/// The only version there is.
pub const VERSION: u8 = 2;

/// Bits of the first byte that count contributing sources.
const CSRC_COUNT: u8 = 0x0f;

/// Length of one contributing source, bytes.
const CSRC_LEN: usize = 4;

/// Length of the head of an extension block: profile and length.
const EXTENSION_HEAD_LEN: usize = 4;

/// The header of one packet, read without looking at the payload: the packet may still be
/// protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker: for video, the last packet of a picture.
    pub marker: bool,
    /// The payload ends in padding.
    pub padding: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in units of the codec's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
    /// Offset of the payload: fixed header, CSRCs and extension block.
    pub header_len: u16,
    /// The "defined by profile" half-word of the extension block, if there is one.
    pub extension_profile: Option<u16>,
    /// Offset of the extension data, after the 4 byte head of its block; `header_len` without one.
    pub extension_offset: u16,
    /// Length of the extension data, bytes.
    pub extension_len: u16,
}

impl RtpHeader {
    /// Reads the header; `None` if it is not version 2 or longer than the packet.
    #[inline]
    pub fn parse(packet: &[u8]) -> Option<RtpHeader> {
        let &[b0, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] =
            packet.first_chunk::<FIXED_LEN>()?;
        if b0 >> 6 != VERSION {
            return None;
        }
        let mut header_len = FIXED_LEN + usize::from(b0 & CSRC_COUNT) * CSRC_LEN;
        let mut extension_profile = None;
        let mut extension_len = 0;
        if b0 & 0x10 != 0 {
            let &[p0, p1, l0, l1] = packet.get(header_len..)?.first_chunk()?;
            extension_profile = Some(u16::from_be_bytes([p0, p1]));
            extension_len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            header_len += EXTENSION_HEAD_LEN + extension_len;
        }
        if header_len > packet.len() {
            return None;
        }
        Some(RtpHeader {
            marker: b1 & 0x80 != 0,
            padding: b0 & 0x20 != 0,
            payload_type: b1 & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            header_len: u16::try_from(header_len).ok()?,
            extension_profile,
            extension_offset: u16::try_from(header_len - extension_len).ok()?,
            extension_len: u16::try_from(extension_len).ok()?,
        })
    }

    /// Where the payload lies in a *plain* packet, without its padding; empty if there is nothing
    /// but padding. `None` if the padding is longer than the payload, or claims to be 0 bytes.
    #[inline]
    pub fn payload_range(&self, packet: &[u8]) -> Option<Range<usize>> {
        let start = usize::from(self.header_len);
        if !self.padding {
            return (start <= packet.len()).then_some(start..packet.len());
        }
        let padding_len = usize::from(*packet.get(start..)?.last()?);
        let end = packet.len().checked_sub(padding_len)?;
        (padding_len > 0 && end >= start).then_some(start..end)
    }
}

/// What the header of a packet to be sent says; the rest follows from what is appended to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutgoingHeader {
    /// Marker.
    pub marker: bool,
    /// Payload type; its lower 7 bits are written.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

impl OutgoingHeader {
    /// Writes them into a fixed header, all but its first byte.
    #[inline]
    pub fn fill_in(&self, header: &mut [u8; FIXED_LEN]) {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let b1 = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        *header = [header[0], b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
    }
}

/// Whether a header has a CSRC list.
#[inline]
pub fn has_csrcs(header: &[u8]) -> bool {
    header.first().is_some_and(|first| first & CSRC_COUNT != 0)
}

/// The CSRC list of a header (RFC 3550 section 5.1): the sources mixed into the payload.
pub fn csrcs(header: &[u8]) -> &[u8] {
    let count = header.first().map_or(0, |first| first & CSRC_COUNT);
    let end = FIXED_LEN + usize::from(count) * CSRC_LEN;
    header.get(FIXED_LEN..end).unwrap_or_default()
}

/// Inserts a CSRC list, at most 15 entries, into a header of `len` bytes that has none. Returns the
/// new length; `None` if it does not fit.
#[cold]
pub fn insert_csrcs(header: &mut [u8], len: usize, csrcs: &[u8]) -> Option<usize> {
    let end = len + csrcs.len();
    header.get_mut(..end)?.copy_within(FIXED_LEN..len, FIXED_LEN + csrcs.len());
    header.get_mut(FIXED_LEN..FIXED_LEN + csrcs.len())?.copy_from_slice(csrcs);
    let first = header.first_mut()?;
    *first = *first & !CSRC_COUNT | (csrcs.len() / CSRC_LEN) as u8 & CSRC_COUNT;
    Some(end)
}

/// Says in a written header that the payload ends with padding (RFC 3550 section 5.1).
#[inline]
pub fn mark_padded(packet: &mut [u8]) {
    const PADDING: u8 = 0x20;
    if let Some(first) = packet.first_mut() {
        *first |= PADDING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    #[test]
    fn plain_header() {
        let packet = hex("80 ef 1234 89abcdef deadbeef 0102");
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(
            header,
            RtpHeader {
                marker: true,
                padding: false,
                payload_type: 111,
                sequence: 0x1234,
                timestamp: 0x89ab_cdef,
                ssrc: 0xdead_beef,
                header_len: 12,
                extension_profile: None,
                extension_offset: 12,
                extension_len: 0,
            }
        );
        assert_eq!(header.payload_range(&packet), Some(12..14));
    }

    #[test]
    fn csrcs_extension_and_padding() {
        let packet = hex("b2 60 0001 00000002 00000003 \
             00000004 00000005 \
             bede 0002 10aa0000 00000000 \
             c0ffee 000003");
        let header = RtpHeader::parse(&packet).unwrap();
        assert!(header.padding && !header.marker);
        assert_eq!(header.extension_profile, Some(0xbede));
        assert_eq!(header.extension_offset, 24);
        assert_eq!(header.extension_len, 8);
        assert_eq!(header.header_len, 32);
        assert_eq!(header.payload_range(&packet), Some(32..35));
    }

    #[test]
    fn contributing_sources_are_read_and_written() {
        let extension = "bede 0001 10aa0000";
        let plain = format!("90 60 0001 00000002 00000003 {extension}");
        let mixed = format!("92 60 0001 00000002 00000003 00000004 00000005 {extension}");
        assert_eq!(csrcs(&hex(&plain)), []);
        assert_eq!(csrcs(&hex(&mixed)), hex("00000004 00000005"));
        assert_eq!(csrcs(&hex("82 60 0001 00000002 00000003 00000004 000000")), [], "cut off");
        assert_eq!(csrcs(&[]), []);
        let mut out = hex(&plain);
        assert_eq!(insert_csrcs(&mut out, 20, &hex("00000004")), None, "no room");
        out.resize(40, 0xff);
        let len = insert_csrcs(&mut out, 20, &hex("00000004 00000005")).unwrap();
        assert_eq!(out[..len], hex(&mixed));
        let most = [7; 60];
        let mut out = hex("a0 60 0001 00000002 00000003");
        out.resize(80, 0);
        assert_eq!(insert_csrcs(&mut out, 12, &most), Some(72));
        assert_eq!((out[0], csrcs(&out)), (0xaf, &most[..]));
    }

    #[test]
    fn nonsense_is_refused() {
        for (name, dump) in [
            ("empty", ""),
            ("eleven bytes", "80 00 0001 00000002 000000"),
            ("version 1", "40 00 0001 00000002 00000003"),
            ("version 3", "c0 00 0001 00000002 00000003"),
            ("CSRC missing", "81 00 0001 00000002 00000003 000000"),
            ("extension head missing", "90 00 0001 00000002 00000003 bede00"),
            ("extension data missing", "90 00 0001 00000002 00000003 bede0001 000000"),
            ("header beyond 64 KiB", "90 00 0001 00000002 00000003 bedeffff"),
        ] {
            assert_eq!(RtpHeader::parse(&hex(dump)), None, "{name}");
        }
        let mut huge = hex("90 00 0001 00000002 00000003 bedeffff");
        huge.resize(300_000, 0);
        assert_eq!(RtpHeader::parse(&huge), None);
    }

    #[test]
    fn padding_table() {
        for (name, tail, want) in [
            ("all of it", "0002".to_owned(), Some(12..12)),
            ("more than all of it", "0003".to_owned(), None),
            ("none at all", String::new(), None),
            ("zero", "000000".to_owned(), None),
            ("one", "aabb01".to_owned(), Some(12..14)),
        ] {
            let packet = hex(&format!("a0 00 0001 00000002 00000003 {tail}"));
            let header = RtpHeader::parse(&packet).unwrap();
            assert_eq!(header.payload_range(&packet), want, "{name}");
        }
        let header = RtpHeader::parse(&hex("80 00 0001 00000002 00000003")).unwrap();
        assert_eq!(header.payload_range(&[]), None, "another, shorter packet");
    }

    #[test]
    fn garbage_gives_offsets_inside_the_packet() {
        let mut random = Random(1);
        let seed = hex("b2 60 0001 00000002 00000003 00000004 00000005 bede 0001 10aa0000 c003");
        for _ in 0..200_000 {
            let packet = random.mutate(&seed);
            let Some(header) = RtpHeader::parse(&packet) else { continue };
            assert!(usize::from(header.header_len) <= packet.len());
            assert_eq!(header.extension_offset + header.extension_len, header.header_len);
            if let Some(range) = header.payload_range(&packet) {
                assert!(packet.get(range).is_some());
            }
        }
    }
}
