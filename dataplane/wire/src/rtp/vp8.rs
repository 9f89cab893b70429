//! The VP8 payload descriptor (RFC 7741 section 4.2) and as much of the payload header as says
//! whether a key frame begins (section 4.3).
//!
//! ```text
//!      0 1 2 3 4 5 6 7
//!     |X|R|N|S|R| PID |      S: start of a partition; PID: its number
//! X:  |I|L|T|K| RSV   |
//! I:  |M| PictureID   |      15 bits if M
//! M:  |   PictureID   |
//! L:  |   TL0PICIDX   |
//! T/K:|TID|Y| KEYIDX  |
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc7741#section-4.2>
#![forbid(unsafe_code)]

use super::picture_ids::{PictureId, PictureIds};

/// The descriptor at the head of a VP8 payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vp8Descriptor {
    /// Length of the descriptor, bytes.
    pub len: u8,
    /// The picture can be dropped without harm to any other.
    pub non_reference: bool,
    /// The packet begins a partition.
    pub starts_partition: bool,
    /// Which partition; 0 is the first of the picture.
    pub partition: u8,
    /// The packet begins a key frame (the inverse of the payload header's P bit).
    pub key_frame: bool,
    /// Picture id and TL0PICIDX.
    pub ids: PictureIds,
    /// Temporal layer; 0 where none is given.
    pub temporal: u8,
    /// The picture depends on temporal layer 0 only: a receiver may switch up here.
    pub layer_sync: bool,
    /// Index of the last key frame, 5 bits.
    pub key_idx: Option<u8>,
}

impl Vp8Descriptor {
    /// Reads the descriptor; `None` if it is longer than the payload.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &first = payload.first()?;
        let mut descriptor = Vp8Descriptor {
            len: 1,
            non_reference: first & 0x20 != 0,
            starts_partition: first & 0x10 != 0,
            partition: first & 0x07,
            ..Vp8Descriptor::default()
        };
        if first & 0x80 != 0 {
            descriptor.parse_extended(payload)?;
        }
        if descriptor.starts_picture() {
            let header = payload.get(usize::from(descriptor.len));
            descriptor.key_frame = header.is_some_and(|byte| byte & 0x01 == 0);
        }
        Some(descriptor)
    }

    /// The packet is the first of its picture.
    #[inline]
    pub const fn starts_picture(&self) -> bool {
        self.starts_partition && self.partition == 0
    }

    #[inline]
    fn parse_extended(&mut self, payload: &[u8]) -> Option<()> {
        let flags = self.next(payload)?;
        if flags & 0x80 != 0 {
            self.ids.picture_id_at = self.len;
            let first = self.next(payload)?;
            let wide = first & 0x80 != 0;
            let high = u16::from(first & 0x7f);
            let value = if wide { high << 8 | u16::from(self.next(payload)?) } else { high };
            self.ids.picture_id = Some(PictureId { value, wide });
        }
        if flags & 0x40 != 0 {
            self.ids.tl0_pic_idx_at = self.len;
            self.ids.tl0_pic_idx = Some(self.next(payload)?);
        }
        if flags & 0x30 != 0 {
            let byte = self.next(payload)?;
            if flags & 0x20 != 0 {
                self.temporal = byte >> 6;
                self.layer_sync = byte & 0x20 != 0;
            }
            if flags & 0x10 != 0 {
                self.key_idx = Some(byte & 0x1f);
            }
        }
        Some(())
    }

    #[inline]
    fn next(&mut self, payload: &[u8]) -> Option<u8> {
        let &byte = payload.get(usize::from(self.len))?;
        self.len += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::hex;

    #[test]
    fn examples_of_rfc_7741() {
        // Section 4.5.1: the simplest descriptor there is, on the first packet of a key frame.
        let simple = Vp8Descriptor::parse(&hex("10 00 9d012a")).unwrap();
        assert_eq!((simple.len, simple.key_frame, simple.starts_picture()), (1, true, true));
        assert_eq!(
            (simple.ids.picture_id, simple.ids.tl0_pic_idx, simple.key_idx),
            (None, None, None)
        );

        // Section 4.5.2: non-reference, 7-bit picture id 17, an inter frame.
        let narrow = Vp8Descriptor::parse(&hex("b0 80 11 01")).unwrap();
        assert_eq!(narrow.ids.picture_id, Some(PictureId { value: 17, wide: false }));
        assert!(narrow.non_reference && narrow.starts_picture() && !narrow.key_frame);

        // Section 4.5.6: 15-bit picture id 4711.
        let wide = Vp8Descriptor::parse(&hex("90 80 9267 01")).unwrap();
        assert_eq!(wide.ids.picture_id, Some(PictureId { value: 4711, wide: true }));
        assert_eq!(wide.len, 4);
    }

    #[test]
    fn everything_at_once() {
        let descriptor = Vp8Descriptor::parse(&hex("90 f0 ffff 2a b1 00")).unwrap();
        assert_eq!(descriptor.ids.picture_id, Some(PictureId { value: 0x7fff, wide: true }));
        assert_eq!(descriptor.ids.tl0_pic_idx, Some(0x2a));
        assert_eq!((descriptor.temporal, descriptor.layer_sync), (2, true));
        assert_eq!(descriptor.key_idx, Some(0x11));
        assert!(descriptor.key_frame);
        assert_eq!(descriptor.len, 6);

        let only_key_idx = Vp8Descriptor::parse(&hex("90 10 b1 01")).unwrap();
        assert_eq!((only_key_idx.temporal, only_key_idx.layer_sync), (0, false), "no T bit");
        assert_eq!(only_key_idx.key_idx, Some(0x11));
    }

    #[test]
    fn only_the_first_packet_of_the_first_partition_starts_a_picture() {
        for (dump, starts, key) in [
            ("10 00", true, true),
            ("10 01", true, false),
            ("00 00", false, false),
            ("11 00", false, false),
            ("10", true, false),
        ] {
            let descriptor = Vp8Descriptor::parse(&hex(dump)).unwrap();
            assert_eq!(descriptor.starts_picture(), starts, "{dump}");
            assert_eq!(descriptor.key_frame, key, "{dump}");
        }
    }

    #[test]
    fn truncated_descriptors_are_refused() {
        for dump in ["", "80", "80 80", "80 80 80", "80 c0 01", "80 60 01", "80 10", "80 40"] {
            assert_eq!(Vp8Descriptor::parse(&hex(dump)), None, "{dump}");
        }
    }
}
