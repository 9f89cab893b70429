//! The running numbers of pictures in VP8 and VP9 payload descriptors: picture id and TL0PICIDX.
//!
//! Both codecs have them in the same form at different places, and both are rewritten on the way
//! out, so that the encodings of a simulcast are one stream to who receives them.
#![forbid(unsafe_code)]

/// A picture id, and how many bits the sender gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// The id: 15 bits if `wide`, else 7.
    pub value: u16,
    /// It has 15 bits and wraps at 32768, not at 128.
    pub wide: bool,
}

impl PictureId {
    /// The id as one of 16 bits that wraps as they do, and a distance of ids beside it.
    pub const fn widened(self, distance: u8) -> (u16, u16) {
        let unused_bits = if self.wide { 1 } else { 9 };
        (self.value << unused_bits, (distance as u16) << unused_bits)
    }
}

/// The numbers of one packet's picture, and where its descriptor has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PictureIds {
    /// Picture id.
    pub picture_id: Option<PictureId>,
    /// Running index of the pictures of temporal layer 0.
    pub tl0_pic_idx: Option<u8>,
    /// Pictures name those they refer to by the distance of their ids (VP9): one left out must
    /// leave a gap.
    pub by_distance: bool,
    /// Offset of the picture id in the payload; only looked at where there is one.
    pub(super) picture_id_at: u8,
    /// Offset of TL0PICIDX in the payload; only looked at where there is one.
    pub(super) tl0_pic_idx_at: u8,
}

impl PictureIds {
    /// Rewrites picture id and TL0PICIDX in place, each where the descriptor has it and in the
    /// width it has there. `payload` is the one that was parsed, or a copy of it.
    #[inline]
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0_pic_idx: u8) {
        let [high, low] = picture_id.to_be_bytes();
        let picture_id_at = payload.get_mut(usize::from(self.picture_id_at)..);
        match (self.picture_id, picture_id_at) {
            (Some(PictureId { wide: true, .. }), Some([first, second, ..])) => {
                (*first, *second) = (0x80 | high, low);
            }
            (Some(PictureId { wide: false, .. }), Some([byte, ..])) => *byte = low & 0x7f,
            _ => {}
        }
        if self.tl0_pic_idx.is_some()
            && let Some(byte) = payload.get_mut(usize::from(self.tl0_pic_idx_at))
        {
            *byte = tl0_pic_idx;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};
    use crate::rtp::vp8::Vp8Descriptor;
    use crate::rtp::vp9::Vp9Descriptor;

    fn of_vp8(payload: &[u8]) -> Option<(usize, PictureIds)> {
        Vp8Descriptor::parse(payload).map(|found| (usize::from(found.len), found.ids))
    }

    fn of_vp9(payload: &[u8]) -> Option<(usize, PictureIds)> {
        Vp9Descriptor::parse(payload).map(|found| (usize::from(found.len), found.ids))
    }

    type Parse = fn(&[u8]) -> Option<(usize, PictureIds)>;

    #[test]
    fn patch_keeps_width_and_everything_else() {
        for (parse, before, after) in [
            (of_vp8 as Parse, "90 e0 8001 05 60 00aa", "90 e0 d234 99 60 00aa"),
            (of_vp8, "90 e0 01 05 60 00aa", "90 e0 34 99 60 00aa"),
            (of_vp8, "90 80 01 00aa", "90 80 34 00aa"),
            (of_vp8, "90 40 01 00aa", "90 40 99 00aa"),
            (of_vp8, "90 20 60 00aa", "90 20 60 00aa"),
            (of_vp8, "10 00aa", "10 00aa"),
            (of_vp9, "a8 8001 10 05 00aa", "a8 d234 10 99 00aa"),
            (of_vp9, "a8 01 10 05 00aa", "a8 34 10 99 00aa"),
            (of_vp9, "88 8001 00aa", "88 d234 00aa"),
            (of_vp9, "88 01 00aa", "88 34 00aa"),
            (of_vp9, "28 10 05 00aa", "28 10 99 00aa"),
            // Flexible mode: no TL0PICIDX, references by distance.
            (of_vp9, "f8 8001 10 0302 00aa", "f8 d234 10 0302 00aa"),
            (of_vp9, "08 00aa", "08 00aa"),
        ] {
            let mut payload = hex(before);
            let (_, ids) = parse(&payload).unwrap();
            ids.patch(&mut payload, 0xd234, 0x99);
            assert_eq!(payload, hex(after), "{before}");
            ids.patch(&mut payload[..1], 0, 0);
        }
    }

    #[test]
    fn garbage_patches_to_what_was_asked() {
        let mut random = Random(4);
        for round in 0..400_000 {
            let parse: Parse = if round % 2 == 0 { of_vp8 } else { of_vp9 };
            let len = random.below(9);
            let mut payload = random.bytes(len);
            let Some((len, before)) = parse(&payload) else { continue };
            assert!(len <= payload.len());
            let (picture_id, tl0_pic_idx) = (random.bits() as u16, random.bits() as u8);
            before.patch(&mut payload, picture_id, tl0_pic_idx);
            let want = PictureIds {
                picture_id: before.picture_id.map(|id| PictureId {
                    value: picture_id & if id.wide { 0x7fff } else { 0x7f },
                    ..id
                }),
                tl0_pic_idx: before.tl0_pic_idx.map(|_| tl0_pic_idx),
                ..before
            };
            assert_eq!(parse(&payload), Some((len, want)));
        }
    }
}
