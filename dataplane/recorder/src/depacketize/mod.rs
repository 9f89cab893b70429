//! RTP payloads to frames, as Matroska stores them. Packets come in order and without holes; after
//! a hole, [`Depacketizer::reset`].
//!
//! * `bits` — reading bit by bit, for sequence headers; one module for each codec.
//!
//! Whatever is in a payload was sent by a client: what cannot be read makes no frame, and a frame
//! is bounded ([`MAX_FRAME_BYTES`]).
#![forbid(unsafe_code)]

mod av1;
mod bits;
mod h264;
mod vp8;
mod vp9;

use opencall_wire::codec::Codec;

/// The largest frame: a key frame of a screen in 4K has one or two megabytes.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes, as Matroska stores them.
    pub data: Vec<u8>,
    /// Whether decoding can begin with it.
    pub key: bool,
    /// Width and height, where a key frame tells.
    pub size: Option<(u32, u32)>,
    /// What a decoder must know first, where the codec has such a thing and the frame tells it.
    pub private: Option<Vec<u8>>,
}

/// What makes frames of one codec's payloads.
#[derive(Debug)]
pub struct Depacketizer {
    of: Of,
    timestamp: Option<u32>,
    bytes: usize,
}

#[derive(Debug)]
enum Of {
    Opus,
    Vp8(vp8::Vp8),
    Vp9(vp9::Vp9),
    H264(h264::H264),
    Av1(av1::Av1),
}

/// A payload that is not what its codec says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Depacketizer {
    /// For a codec; `None` for one that Matroska cannot carry as it is.
    pub fn new(codec: Codec) -> Option<Self> {
        let of = match codec {
            Codec::Opus => Of::Opus,
            Codec::Vp8 => Of::Vp8(vp8::Vp8::default()),
            Codec::Vp9 => Of::Vp9(vp9::Vp9::default()),
            Codec::H264 => Of::H264(h264::H264::default()),
            Codec::Av1 => Of::Av1(av1::Av1::default()),
            _ => return None,
        };
        Some(Depacketizer { of, timestamp: None, bytes: 0 })
    }

    /// Forgets the frame that is being put together.
    pub fn reset(&mut self) {
        (self.timestamp, self.bytes) = (None, 0);
        match &mut self.of {
            Of::Opus => {}
            Of::Vp8(vp8) => *vp8 = vp8::Vp8::default(),
            Of::Vp9(vp9) => *vp9 = vp9::Vp9::default(),
            Of::H264(h264) => h264.reset(),
            Of::Av1(av1) => av1.reset(),
        }
    }

    /// The next packet; the frame that it ends, if it does.
    ///
    /// # Errors
    /// The payload cannot be read: the frame is lost.
    pub fn push(
        &mut self,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
    ) -> Result<Option<Frame>, Malformed> {
        if payload.is_empty() {
            return Ok(None);
        }
        if matches!(self.of, Of::Opus) {
            let data = payload.to_vec();
            return Ok(Some(Frame { data, key: true, size: None, private: None }));
        }
        if self.timestamp.is_some_and(|open| open != timestamp) {
            // The packet with the marker never came, or is yet to come: half a frame is none.
            self.reset();
            return Err(Malformed);
        }
        self.timestamp = Some(timestamp);
        self.bytes += payload.len();
        if self.bytes > MAX_FRAME_BYTES {
            self.reset();
            return Err(Malformed);
        }
        let taken = match &mut self.of {
            Of::Opus => Ok(()),
            Of::Vp8(vp8) => vp8.push(payload),
            Of::Vp9(vp9) => vp9.push(payload),
            Of::H264(h264) => h264.push(payload),
            Of::Av1(av1) => av1.push(payload),
        };
        if let Err(malformed) = taken {
            self.reset();
            return Err(malformed);
        }
        if !marker {
            return Ok(None);
        }
        (self.timestamp, self.bytes) = (None, 0);
        let frame = match &mut self.of {
            Of::Opus => None,
            Of::Vp8(vp8) => vp8.finish(),
            Of::Vp9(vp9) => vp9.finish(),
            Of::H264(h264) => h264.finish(),
            Of::Av1(av1) => av1.finish(),
        };
        frame.map(Some).ok_or(Malformed)
    }
}
