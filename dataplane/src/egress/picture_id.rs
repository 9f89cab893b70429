//! Picture ids and TL0PICIDX of VP8 and VP9, continuous over switches and drops (RFC 7741 section
//! 4.2, RFC 9628 section 4.2).
//!
//! Worked trace: of the low layer pictures 0x7ffe and 0x7fff go out as they are, TL0PICIDX 9 and
//! 10; then the high layer, whose key frame is picture 500, TL0PICIDX 70; 501 is dropped with its
//! temporal layer:
//!
//! ```text
//! source   0x7ffe/9  0x7fff/10  | switch  500/70    501      502/71
//! out      0x7ffe/9  0x7fff/10  |         0x0000/11 dropped  0x0001/12
//! ```
//!
//! VP9 pictures name those they refer to by the distance of their ids (P_DIFF, or the place in a
//! picture group that follows from the id). There a picture left out leaves its gap: 502 goes out
//! as 0x0002.
#![forbid(unsafe_code)]

use opencall_wire::rtp::picture_ids::{PictureId, PictureIds};

use super::numbering::Numbering;
use super::sent::Rewrite;
use crate::checkpoint::PicturesCheckpoint;

/// Words of 64 pictures over which drops are remembered: 128 are four seconds.
const WINDOW_WORDS: usize = 2;

/// Unwrapped picture ids begin here, so that older ones have a number.
const FIRST_CYCLE: u64 = 1 << 16;

/// Width of a picture id going out.
const PICTURE_ID_MASK: u16 = 0x7fff;

/// Offsets of one consumer's stream. The memory of drops comes last: most packets need none.
#[derive(Debug, Clone, Default)]
#[repr(C)]
pub struct PictureContinuity {
    /// Added to the source's TL0PICIDX.
    tl0_offset: u8,
    /// The highest TL0PICIDX that went out.
    tl0_last: Option<u8>,
    pictures: Option<Pictures>,
}

#[derive(Debug, Clone)]
#[repr(C)]
struct Pictures {
    /// The highest id of the present source, unwrapped; `None` until it shows one.
    highest: Option<u64>,
    numbering: Numbering<WINDOW_WORDS>,
}

impl PictureContinuity {
    /// One that goes on where that of a core before may have been, which has sent as many pictures
    /// since it left word, at most.
    pub fn restore(checkpoint: PicturesCheckpoint, sent_since: u64) -> Self {
        let first = |next: u16| u64::from(next).wrapping_add(sent_since) as u16 & PICTURE_ID_MASK;
        let pictures = checkpoint.next_picture.map(|next| Pictures {
            numbering: Numbering::new(FIRST_CYCLE | u64::from(first(next))),
            highest: None,
        });
        let tl0_last = checkpoint.last_tl0.map(|last| last.wrapping_add(sent_since as u8));
        PictureContinuity { tl0_offset: 0, tl0_last, pictures }
    }

    /// What a core that comes after this one needs.
    pub fn checkpoint(&self) -> PicturesCheckpoint {
        let next = |of: &Pictures| of.numbering.next_out() as u16 & PICTURE_ID_MASK;
        PicturesCheckpoint {
            next_picture: self.pictures.as_ref().map(next),
            last_tl0: self.tl0_last,
        }
    }

    /// Says in `rewrite` how the ids of a packet of the present source change.
    pub fn forward(&mut self, source: &PictureIds, rewrite: &mut Rewrite) {
        if let Some(id) = source.picture_id {
            rewrite.picture_id_offset = self.picture_offset(id);
        }
        if let Some(tl0) = source.tl0_pic_idx {
            rewrite.tl0_offset = self.tl0_offset;
            let out = tl0.wrapping_add(self.tl0_offset);
            if self.tl0_last.is_none_or(|last| out.wrapping_sub(last) as i8 > 0) {
                self.tl0_last = Some(out);
            }
        }
    }

    /// Leaves a picture out, none of whose packets has gone out; once for each of its packets does
    /// no harm. Only pictures above temporal layer 0 can be left out.
    pub fn skip(&mut self, source: &PictureIds) {
        if let (Some(pictures), Some(id)) = (&mut self.pictures, source.picture_id) {
            let number = pictures.unwrap(id);
            if !source.by_distance {
                pictures.numbering.skip(number);
            }
        }
    }

    /// Goes on with another source, whose first packet is `first`: it begins a key frame.
    pub fn switch(&mut self, first: &PictureIds) {
        if let Some(pictures) = &mut self.pictures {
            pictures.highest = None;
            if let Some(id) = first.picture_id {
                pictures.unwrap(id);
            }
        }
        if let (Some(last), Some(tl0)) = (self.tl0_last, first.tl0_pic_idx) {
            self.tl0_offset = last.wrapping_add(1).wrapping_sub(tl0);
        }
    }

    fn picture_offset(&mut self, id: PictureId) -> u16 {
        let start = || Pictures {
            numbering: Numbering::new(FIRST_CYCLE | u64::from(id.value)),
            highest: None,
        };
        let pictures = self.pictures.get_or_insert_with(start);
        let number = pictures.unwrap(id);
        let out = pictures.numbering.forward(number);
        // Sequence numbers already decided that the packet goes out; a picture too old for its own
        // number keeps its distance to the newest.
        let out = out.unwrap_or_else(|| pictures.numbering.plain(number));
        (out as u16).wrapping_sub(id.value) & PICTURE_ID_MASK
    }
}

impl Pictures {
    /// Unwraps an id of 15 or 7 bits. The first of a source makes the switch to it.
    fn unwrap(&mut self, id: PictureId) -> u64 {
        let Some(highest) = self.highest else {
            let first = FIRST_CYCLE | u64::from(id.value);
            self.highest = Some(first);
            self.numbering.switch(first);
            return first;
        };
        let unused_bits = if id.wide { 1 } else { 9 };
        // The distance as a signed number of 15 or 7 bits: shifted up and down again.
        let distance = id.value.wrapping_sub(highest as u16) << unused_bits;
        let step = (distance as i16) >> unused_bits;
        let number = highest.saturating_add_signed(i64::from(step));
        self.highest = Some(highest.max(number));
        number
    }
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtp::vp8::Vp8Descriptor;
    use opencall_wire::rtp::vp9::Vp9Descriptor;

    use super::*;

    /// A descriptor as it comes from the wire: `wide` for a 15-bit id.
    fn descriptor(picture_id: Option<(u16, bool)>, tl0: Option<u8>) -> PictureIds {
        let flags = u8::from(picture_id.is_some()) << 7 | u8::from(tl0.is_some()) << 6;
        let mut bytes = vec![0x90, flags];
        match picture_id {
            Some((value, true)) => bytes.extend((0x8000 | value).to_be_bytes()),
            Some((value, false)) => bytes.push(value as u8),
            None => {}
        }
        bytes.extend(tl0);
        // A payload header that begins a key frame.
        bytes.extend([0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a]);
        Vp8Descriptor::parse(&bytes).unwrap().ids
    }

    fn wide(picture_id: u16, tl0: u8) -> PictureIds {
        descriptor(Some((picture_id, true)), Some(tl0))
    }

    /// The ids under which a packet goes out.
    fn forward(continuity: &mut PictureContinuity, source: PictureIds) -> (u16, u8) {
        let mut rewrite = Rewrite::default();
        continuity.forward(&source, &mut rewrite);
        let width = if source.picture_id.is_some_and(|id| id.wide) { 0x7fff } else { 0x7f };
        let id = source.picture_id.map_or(0, |id| id.value);
        (
            id.wrapping_add(rewrite.picture_id_offset) & width,
            source.tl0_pic_idx.unwrap_or(0).wrapping_add(rewrite.tl0_offset),
        )
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut continuity = PictureContinuity::default();
        assert_eq!(forward(&mut continuity, wide(0x7ffe, 9)), (0x7ffe, 9));
        assert_eq!(forward(&mut continuity, wide(0x7fff, 10)), (0x7fff, 10));
        continuity.switch(&wide(500, 70));
        assert_eq!(forward(&mut continuity, wide(500, 70)), (0x0000, 11));
        continuity.skip(&wide(501, 70));
        continuity.skip(&wide(501, 70));
        assert_eq!(forward(&mut continuity, wide(502, 71)), (0x0001, 12));
        assert_eq!(forward(&mut continuity, wide(502, 71)), (0x0001, 12), "its second packet");
        assert_eq!(forward(&mut continuity, wide(500, 70)), (0x0000, 11), "a late packet");
    }

    #[test]
    fn every_picture_has_its_own_id_over_several_wraps() {
        let mut continuity = PictureContinuity::default();
        forward(&mut continuity, wide(100, 0));
        continuity.switch(&wide(0x7f00, 200));
        for n in 0..100_000_u32 {
            let source = wide((0x7f00 + n) as u16 & 0x7fff, 200_u8.wrapping_add(n as u8));
            let out = ((101 + n) as u16 & 0x7fff, 1_u8.wrapping_add(n as u8));
            assert_eq!(forward(&mut continuity, source), out, "{n}");
        }
    }

    #[test]
    fn another_core_goes_on_after_all_that_may_have_been_sent() {
        let mut continuity = PictureContinuity::default();
        forward(&mut continuity, wide(0x7ff0, 250));
        for (sent_since, wanted) in [(0, (0x7ff1, 251)), (20, (5, 15))] {
            let mut restored = PictureContinuity::restore(continuity.checkpoint(), sent_since);
            restored.switch(&wide(700, 9));
            assert_eq!(forward(&mut restored, wide(700, 9)), wanted);
        }
    }

    #[test]
    fn ids_of_seven_bits_wrap_at_their_width() {
        let mut continuity = PictureContinuity::default();
        let narrow = |id| descriptor(Some((id, false)), None);
        for n in 0..1000_u16 {
            assert_eq!(forward(&mut continuity, narrow(n & 0x7f)), (n & 0x7f, 0));
        }
        continuity.switch(&narrow(50));
        assert_eq!(forward(&mut continuity, narrow(50)).0, 1000 & 0x7f);
        assert_eq!(forward(&mut continuity, narrow(51)).0, 1001 & 0x7f);
    }

    #[test]
    fn a_source_without_ids_leaves_the_count_where_it_is() {
        let mut continuity = PictureContinuity::default();
        forward(&mut continuity, wide(10, 20));
        let bare = descriptor(None, None);
        continuity.switch(&bare);
        let mut rewrite = Rewrite::default();
        continuity.forward(&bare, &mut rewrite);
        assert_eq!(rewrite, Rewrite::default());
        continuity.switch(&wide(3000, 5));
        assert_eq!(forward(&mut continuity, wide(3000, 5)), (11, 21));
    }

    #[test]
    fn late_pictures_of_a_source_keep_their_distance() {
        let mut continuity = PictureContinuity::default();
        forward(&mut continuity, wide(10, 0));
        continuity.switch(&wide(1000, 0));
        assert_eq!(forward(&mut continuity, wide(1300, 0)).0, 311);
        assert_eq!(forward(&mut continuity, wide(1001, 0)).0, 12, "299 behind, beyond the window");
    }

    /// VP9 in non-flexible mode: I, L, B, one temporal layer.
    fn vp9(picture_id: u16, tl0: u8) -> PictureIds {
        let [high, low] = (0x8000 | picture_id).to_be_bytes();
        Vp9Descriptor::parse(&[0xa8, high, low, 0x10, tl0, 0]).unwrap().ids
    }

    #[test]
    fn vp9_goes_on_over_switches_and_keeps_the_gaps_that_references_count() {
        let mut continuity = PictureContinuity::default();
        assert_eq!(forward(&mut continuity, vp9(0x7ffe, 254)), (0x7ffe, 254));
        assert_eq!(forward(&mut continuity, vp9(0x7fff, 255)), (0x7fff, 255));
        continuity.switch(&vp9(500, 70));
        assert_eq!(forward(&mut continuity, vp9(500, 70)), (0, 0));
        continuity.skip(&vp9(501, 70));
        assert_eq!(forward(&mut continuity, vp9(502, 71)), (2, 1), "a distance of two, as before");
        continuity.skip(&vp9(503, 71));
        continuity.switch(&vp9(9, 9));
        assert_eq!(forward(&mut continuity, vp9(9, 9)), (3, 2), "one that nobody saw needs no gap");
        assert_eq!(forward(&mut continuity, vp9(9, 9)), (3, 2), "its upper spatial layer");
    }

    #[test]
    fn vp9_in_flexible_mode_has_no_tl0_pic_idx() {
        let flexible = |id: u8| Vp9Descriptor::parse(&[0xb8, id, 0x10, 0]).unwrap().ids;
        let mut continuity = PictureContinuity::default();
        assert_eq!(forward(&mut continuity, flexible(126)), (126, 0));
        continuity.switch(&flexible(3));
        assert_eq!(forward(&mut continuity, flexible(3)), (127, 0));
        assert_eq!(forward(&mut continuity, flexible(4)), (0, 0), "seven bits");
    }
}
