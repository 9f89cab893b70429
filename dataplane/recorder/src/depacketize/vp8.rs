//! VP8 (RFC 7741): what stands behind the descriptors, one after the other.
#![forbid(unsafe_code)]

use opencall_wire::rtp::vp8::Vp8Descriptor;

use super::{Frame, Malformed};

/// The code with which a key frame's header begins (RFC 6386 section 9.1).
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

#[derive(Debug, Default)]
pub struct Vp8 {
    data: Vec<u8>,
}

impl Vp8 {
    pub fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let descriptor = Vp8Descriptor::parse(payload).ok_or(Malformed)?;
        if self.data.is_empty() != descriptor.starts_picture() {
            return Err(Malformed);
        }
        let rest = payload.get(usize::from(descriptor.len)..).ok_or(Malformed)?;
        self.data.extend_from_slice(rest);
        Ok(())
    }

    pub fn finish(&mut self) -> Option<Frame> {
        let data = std::mem::take(&mut self.data);
        let key = data.first()? & 0x01 == 0;
        let size = if key { size(&data) } else { None };
        // A key frame whose header cannot be read is of no use to a decoder.
        if key && size.is_none() {
            return None;
        }
        Some(Frame { data, key, size, private: None })
    }
}

fn size(data: &[u8]) -> Option<(u32, u32)> {
    let header = data.get(3..10)?;
    let &[_, _, _, w0, w1, h0, h1] = header else { return None };
    let of = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let size = (of(w0, w1), of(h0, h1));
    (header.starts_with(&START_CODE) && size.0 > 0 && size.1 > 0).then_some(size)
}
