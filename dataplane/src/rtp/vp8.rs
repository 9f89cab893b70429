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

/// A picture id, and how many bits the sender gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// The id: 15 bits if `wide`, else 7.
    pub value: u16,
    /// It has 15 bits and wraps at 32768, not at 128.
    pub wide: bool,
}

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
    /// Picture id.
    pub picture_id: Option<PictureId>,
    /// Running index of the pictures of temporal layer 0.
    pub tl0_pic_idx: Option<u8>,
    /// Temporal layer; 0 where none is given.
    pub temporal: u8,
    /// The picture depends on temporal layer 0 only: a receiver may switch up here.
    pub layer_sync: bool,
    /// Index of the last key frame, 5 bits.
    pub key_idx: Option<u8>,
    /// Offset of the picture id; only looked at where there is one.
    picture_id_offset: u8,
    /// Offset of TL0PICIDX; only looked at where there is one.
    tl0_pic_idx_offset: u8,
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

    /// Rewrites picture id and TL0PICIDX in place, each where the descriptor has it and in the
    /// width it has there. `payload` is the one that was parsed, or a copy of it.
    #[inline]
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) {
        let [high, low] = picture_id.to_be_bytes();
        let picture_id_at = payload.get_mut(usize::from(self.picture_id_offset)..);
        match (self.picture_id, picture_id_at) {
            (Some(PictureId { wide: true, .. }), Some([first, second, ..])) => {
                (*first, *second) = (0x80 | high, low);
            }
            (Some(PictureId { wide: false, .. }), Some([byte, ..])) => *byte = low & 0x7f,
            _ => {}
        }
        if self.tl0_pic_idx.is_some()
            && let Some(byte) = payload.get_mut(usize::from(self.tl0_pic_idx_offset))
        {
            *byte = tl0_pic_idx;
        }
    }

    #[inline]
    fn parse_extended(&mut self, payload: &[u8]) -> Option<()> {
        let flags = self.next(payload)?;
        if flags & 0x80 != 0 {
            self.picture_id_offset = self.len;
            let first = self.next(payload)?;
            let wide = first & 0x80 != 0;
            let high = u16::from(first & 0x7f);
            let value = if wide { high << 8 | u16::from(self.next(payload)?) } else { high };
            self.picture_id = Some(PictureId { value, wide });
        }
        if flags & 0x40 != 0 {
            self.tl0_pic_idx_offset = self.len;
            self.tl0_pic_idx = Some(self.next(payload)?);
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
    use crate::rtp::test_support::{Random, hex};

    #[test]
    fn examples_of_rfc_7741() {
        // Section 4.5.1: the simplest descriptor there is, on the first packet of a key frame.
        let simple = Vp8Descriptor::parse(&hex("10 00 9d012a")).unwrap();
        assert_eq!((simple.len, simple.key_frame, simple.starts_picture()), (1, true, true));
        assert_eq!((simple.picture_id, simple.tl0_pic_idx, simple.key_idx), (None, None, None));

        // Section 4.5.2: non-reference, 7-bit picture id 17, an inter frame.
        let narrow = Vp8Descriptor::parse(&hex("b0 80 11 01")).unwrap();
        assert_eq!(narrow.picture_id, Some(PictureId { value: 17, wide: false }));
        assert!(narrow.non_reference && narrow.starts_picture() && !narrow.key_frame);

        // Section 4.5.6: 15-bit picture id 4711.
        let wide = Vp8Descriptor::parse(&hex("90 80 9267 01")).unwrap();
        assert_eq!(wide.picture_id, Some(PictureId { value: 4711, wide: true }));
        assert_eq!(wide.len, 4);
    }

    #[test]
    fn everything_at_once() {
        let descriptor = Vp8Descriptor::parse(&hex("90 f0 ffff 2a b1 00")).unwrap();
        assert_eq!(descriptor.picture_id, Some(PictureId { value: 0x7fff, wide: true }));
        assert_eq!(descriptor.tl0_pic_idx, Some(0x2a));
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

    #[test]
    fn patch_keeps_width_and_everything_else() {
        for (before, after) in [
            ("90 e0 8001 05 60 00aa", "90 e0 d234 99 60 00aa"),
            ("90 e0 01 05 60 00aa", "90 e0 34 99 60 00aa"),
            ("90 80 01 00aa", "90 80 34 00aa"),
            ("90 40 01 00aa", "90 40 99 00aa"),
            ("90 20 60 00aa", "90 20 60 00aa"),
            ("10 00aa", "10 00aa"),
        ] {
            let mut payload = hex(before);
            let descriptor = Vp8Descriptor::parse(&payload).unwrap();
            descriptor.patch(&mut payload, 0xd234, 0x99);
            assert_eq!(payload, hex(after), "{before}");
            descriptor.patch(&mut payload[..1], 0, 0);
        }
    }

    #[test]
    fn garbage_patches_to_what_was_asked() {
        let mut random = Random(4);
        for _ in 0..200_000 {
            let len = random.below(9);
            let mut payload = random.bytes(len);
            let Some(before) = Vp8Descriptor::parse(&payload) else { continue };
            assert!(usize::from(before.len) <= payload.len());
            let (picture_id, tl0_pic_idx) = (random.bits() as u16, random.bits() as u8);
            before.patch(&mut payload, picture_id, tl0_pic_idx);
            let want = Vp8Descriptor {
                picture_id: before.picture_id.map(|id| PictureId {
                    value: picture_id & if id.wide { 0x7fff } else { 0x7f },
                    ..id
                }),
                tl0_pic_idx: before.tl0_pic_idx.map(|_| tl0_pic_idx),
                ..before
            };
            assert_eq!(Vp8Descriptor::parse(&payload), Some(want));
        }
    }
}
