//! VP9 (RFC 9628): what stands behind the descriptors, one after the other. A picture of several
//! spatial layers becomes a superframe: its frames, and an index of their sizes.
#![forbid(unsafe_code)]

use opencall_wire::rtp::vp9::Vp9Descriptor;

use super::bits::Bits;
use super::{Frame, Malformed};

/// Frames of one superframe at most (VP9 bitstream specification, annex B).
const MAX_FRAMES: usize = 8;

#[derive(Debug, Default)]
pub struct Vp9 {
    data: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
    is_key: bool,
}

impl Vp9 {
    pub fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let descriptor = Vp9Descriptor::parse(payload).ok_or(Malformed)?;
        let is_between = self.ends.last().copied().unwrap_or(0) == self.data.len();
        if is_between != descriptor.starts_frame || self.ends.len() == MAX_FRAMES {
            return Err(Malformed);
        }
        if self.data.is_empty() {
            self.is_key = descriptor.key_frame();
        }
        let rest = payload.get(usize::from(descriptor.len)..).ok_or(Malformed)?;
        self.data.extend_from_slice(rest);
        if descriptor.ends_frame {
            self.ends.push(self.data.len());
        }
        Ok(())
    }

    pub fn finish(&mut self) -> Option<Frame> {
        let Vp9 { mut data, ends, is_key } = std::mem::take(self);
        if data.is_empty() || ends.last() != Some(&data.len()) {
            return None;
        }
        let (mut size, mut begin) = (None, 0);
        for &end in &ends {
            // The highest layer is what is shown.
            size = key_size(&data[begin..end]).or(size);
            begin = end;
        }
        if ends.len() > 1 {
            append_index(&mut data, &ends);
        }
        let key = is_key && size.is_some();
        Some(Frame { data, key, size: size.filter(|_| key), private: None })
    }
}

/// The index of a superframe.
fn append_index(data: &mut Vec<u8>, ends: &[usize]) {
    let marker = 0b1101_1000 | (ends.len() - 1) as u8;
    data.push(marker);
    let mut begin = 0;
    for &end in ends {
        data.extend_from_slice(&((end - begin) as u32).to_le_bytes());
        begin = end;
    }
    data.push(marker);
}

/// Width and height of an intra frame (VP9 bitstream specification, section 6.2).
fn key_size(frame: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(frame);
    if bits.take(2)? != 2 {
        return None;
    }
    let profile = bits.take(1)? | bits.take(1)? << 1;
    if profile == 3 {
        bits.take(1)?;
    }
    let show_existing = bits.flag()?;
    let is_inter = bits.flag()?;
    bits.take(2)?;
    if show_existing || is_inter || bits.take(24)? != 0x0049_8342 {
        return None;
    }
    if profile >= 2 {
        bits.take(1)?;
    }
    const RGB: u32 = 7;
    if bits.take(3)? != RGB {
        bits.take(1)?;
        if profile % 2 == 1 {
            bits.take(3)?;
        }
    } else if profile % 2 == 1 {
        bits.take(1)?;
    } else {
        return None;
    }
    Some((bits.take(16)? + 1, bits.take(16)? + 1))
}
