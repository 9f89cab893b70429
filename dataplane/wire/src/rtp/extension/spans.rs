//! Where each extension lies in a packet (RFC 8285 section 4).
#![forbid(unsafe_code)]

use super::{ONE_BYTE_PROFILE, ONE_BYTE_STOP, TWO_BYTE_MASK, TWO_BYTE_PROFILE};
use crate::rtp::extension::{Extension, ExtensionIds};
use crate::rtp::header::RtpHeader;

/// Where each known extension lies in a packet.
///
/// The spans stay good for as long as the packet's header is not moved; they are no proof that
/// some other packet is long enough, which is why reading checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionSpans {
    /// Offset in the packet; 0, where no extension can be, says that it is absent.
    offsets: [u16; Extension::COUNT],
    lens: [u8; Extension::COUNT],
}

impl ExtensionSpans {
    /// Finds the extensions of `ids`. Elements with other ids are skipped; from a truncated
    /// element on, everything is ignored. Where an id comes twice, the last one counts.
    #[inline]
    pub fn parse(packet: &[u8], header: &RtpHeader, ids: &ExtensionIds) -> Self {
        let mut spans = ExtensionSpans::default();
        let Some(profile) = header.extension_profile else {
            return spans;
        };
        for element in elements(packet, header, profile) {
            if let Some(extension) = ids.extension(element.id) {
                spans.offsets[extension as usize] = element.offset;
                spans.lens[extension as usize] = element.len;
            }
        }
        spans
    }

    /// Whether the packet has an extension.
    #[inline]
    pub fn has(&self, extension: Extension) -> bool {
        self.offsets[extension as usize] != 0
    }

    /// The value of an extension, if the packet has it. An element of the two-byte form may be
    /// empty.
    #[inline]
    pub fn of<'a>(&self, extension: Extension, packet: &'a [u8]) -> Option<&'a [u8]> {
        let (start, len) = self.span(extension)?;
        packet.get(start..start + len)
    }

    /// The same, to be written in place.
    #[inline]
    pub fn of_mut<'a>(&self, extension: Extension, packet: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (start, len) = self.span(extension)?;
        packet.get_mut(start..start + len)
    }

    /// The same with one extension elsewhere: at this offset in the bytes that it is read from.
    #[must_use]
    pub fn with(mut self, extension: Extension, offset: u16, len: u8) -> Self {
        self.offsets[extension as usize] = offset;
        self.lens[extension as usize] = len;
        self
    }

    #[inline]
    fn span(&self, extension: Extension) -> Option<(usize, usize)> {
        match self.offsets[extension as usize] {
            0 => None,
            offset => Some((usize::from(offset), usize::from(self.lens[extension as usize]))),
        }
    }
}

/// One element of an extension block.
struct Element {
    id: u8,
    /// Offset of its data in the packet.
    offset: u16,
    len: u8,
}

/// The elements of a block whose form is known; none for other profiles.
#[inline]
fn elements<'a>(
    packet: &'a [u8],
    header: &RtpHeader,
    profile: u16,
) -> impl Iterator<Item = Element> + 'a {
    let two_byte = profile & TWO_BYTE_MASK == TWO_BYTE_PROFILE;
    let known = two_byte || profile == ONE_BYTE_PROFILE;
    let end = if known { usize::from(header.header_len).min(packet.len()) } else { 0 };
    let block = packet.get(..end).unwrap_or_default();
    let mut at = usize::from(header.extension_offset);
    std::iter::from_fn(move || {
        while block.get(at) == Some(&0) {
            at += 1;
        }
        let first = *block.get(at)?;
        let (id, len, offset) = if two_byte {
            (first, *block.get(at + 1)?, at + 2)
        } else {
            (first >> 4, (first & 0x0f) + 1, at + 1)
        };
        // Id 0 with a length is as forbidden in the one-byte form as 15 is.
        let stop = !two_byte && (id == 0 || id == ONE_BYTE_STOP);
        at = offset + usize::from(len);
        if stop || at > block.len() {
            at = block.len();
            return None;
        }
        Some(Element { id, offset: u16::try_from(offset).ok()?, len })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    fn ids(pairs: &[(Extension, u8)]) -> ExtensionIds {
        let mut ids = ExtensionIds::default();
        for &(extension, id) in pairs {
            ids.set(extension, id);
        }
        ids
    }

    fn packet(block: &str) -> Vec<u8> {
        hex(&format!("90 60 0001 00000002 00000003 {block}"))
    }

    fn spans(packet: &[u8], ids: &ExtensionIds) -> ExtensionSpans {
        ExtensionSpans::parse(packet, &RtpHeader::parse(packet).unwrap(), ids)
    }

    #[test]
    fn one_byte_example_of_rfc_8285() {
        // Section 4.2: elements of 1, 2 and 4 bytes, padded between and after.
        let packet = packet("bede 0003 10 aa 21 bbbb 00 00 33 cccccccc");
        let ids = ids(&[
            (Extension::AudioLevel, 1),
            (Extension::TransportCc, 2),
            (Extension::AbsSendTime, 3),
            (Extension::Mid, 4),
        ]);
        let spans = spans(&packet, &ids);
        assert_eq!(spans.of(Extension::AudioLevel, &packet), Some(&[0xaa][..]));
        assert_eq!(spans.of(Extension::TransportCc, &packet), Some(&[0xbb, 0xbb][..]));
        assert_eq!(spans.of(Extension::AbsSendTime, &packet), Some(&[0xcc; 4][..]));
        assert_eq!(spans.of(Extension::Mid, &packet), None);
        assert_eq!(spans.of(Extension::AbsSendTime, &packet[..20]), None, "a shorter packet");
    }

    #[test]
    fn two_byte_example_of_rfc_8285() {
        // Section 4.3: elements of 0, 1 and 4 bytes.
        let packet = packet("1005 0003 01 00 02 01 bb 00 03 04 cccccccc");
        let ids = ids(&[
            (Extension::AudioLevel, 1),
            (Extension::TransportCc, 2),
            (Extension::DependencyDescriptor, 3),
        ]);
        let spans = spans(&packet, &ids);
        assert_eq!(spans.of(Extension::AudioLevel, &packet), Some(&[][..]));
        assert_eq!(spans.of(Extension::TransportCc, &packet), Some(&[0xbb][..]));
        assert_eq!(spans.of(Extension::DependencyDescriptor, &packet), Some(&[0xcc; 4][..]));
    }

    #[test]
    fn where_reading_stops() {
        let ids = ids(&[(Extension::Mid, 1), (Extension::Rid, 2), (Extension::AbsSendTime, 15)]);
        for (name, block, mid, rid) in [
            ("id 15 ends the one-byte form", "bede 0002 10 6d f0 00 20 72 0000", true, false),
            ("id 0 with a length ends it", "bede 0002 10 6d 01 0000 20 72 00", true, false),
            ("truncated element", "bede 0001 10 6d 2f 72", true, false),
            ("truncated two-byte head", "1000 0001 01 01 6d 02", true, false),
            ("truncated two-byte element", "1000 0002 01 01 6d 02 05 72 7272", true, false),
            ("unknown ids are skipped", "bede 0002 92 010203 10 6d 20 72", true, true),
            ("unknown profile", "abcd 0002 10 6d 20 72 0000 0000", false, false),
            ("only padding", "bede 0001 00000000", false, false),
            ("empty block", "bede 0000", false, false),
        ] {
            let packet = packet(block);
            let spans = spans(&packet, &ids);
            assert_eq!(spans.of(Extension::Mid, &packet).is_some(), mid, "{name}");
            assert_eq!(spans.of(Extension::Rid, &packet).is_some(), rid, "{name}");
            assert_eq!(spans.of(Extension::AbsSendTime, &packet), None, "{name}");
        }
        assert_eq!(
            spans(&hex("80 60 0001 00000002 00000003"), &ids),
            ExtensionSpans::default(),
            "no block"
        );
    }

    #[test]
    fn the_last_of_two_counts_and_can_be_written_in_place() {
        let mut packet = packet("bede 0001 10 6d 10 6e");
        let ids = ids(&[(Extension::Mid, 1)]);
        let spans = spans(&packet, &ids);
        assert_eq!(spans.of(Extension::Mid, &packet), Some(&b"n"[..]));
        spans.of_mut(Extension::Mid, &mut packet).unwrap()[0] = b'z';
        assert_eq!(packet.last(), Some(&b'z'));
    }

    #[test]
    fn garbage_gives_spans_inside_the_block() {
        let mut random = Random(3);
        let mut all = ExtensionIds::default();
        for extension in Extension::ALL {
            all.set(extension, extension as u8 + 1);
        }
        let seeds = [
            packet("bede 0003 10 aa 21 bbbb 00 00 33 cccccccc 0011"),
            packet("1005 0003 01 00 02 01 bb 00 03 04 cccccccc 0011"),
        ];
        for round in 0..200_000 {
            let packet = random.mutate(&seeds[round % 2]);
            let Some(header) = RtpHeader::parse(&packet) else { continue };
            let spans = ExtensionSpans::parse(&packet, &header, &all);
            for extension in Extension::ALL {
                if let Some((start, len)) = spans.span(extension) {
                    assert!(start > usize::from(header.extension_offset));
                    assert!(start + len <= usize::from(header.header_len));
                }
            }
        }
    }
}
