//! Payloads of the video codecs as browsers packetize them: descriptors in front, our stamped
//! content behind. What lies in between is enough for a server to tell key frames and frame edges.
#![forbid(unsafe_code)]

use super::stamp::{STAMP_LEN, Stamp};

/// Width and height of the pictures that descriptors speak of.
const WIDTH: u16 = 640;
const HEIGHT: u16 = 360;

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum VideoCodec {
    /// VP8 (RFC 7741) with 15-bit picture ids and temporal layer fields.
    #[default]
    Vp8,
    /// VP9 (RFC 9628), non-flexible mode, scalability structure on key frames.
    Vp9,
    /// H.264 (RFC 6184), packetization mode 1: parameter sets on key frames, FU-A.
    H264,
    /// AV1 (AOM RTP specification) with the dependency descriptor extension.
    Av1,
}

impl VideoCodec {
    /// As MIME types name it.
    pub fn mime_type(self) -> &'static str {
        match self {
            VideoCodec::Vp8 => "video/VP8",
            VideoCodec::Vp9 => "video/VP9",
            VideoCodec::H264 => "video/H264",
            VideoCodec::Av1 => "video/AV1",
        }
    }

    /// The codec that a MIME type names.
    pub fn of_mime_type(name: &str) -> Option<Self> {
        let all = [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1];
        all.into_iter().find(|codec| codec.mime_type().eq_ignore_ascii_case(name))
    }
}

/// Where a packet lies in its stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The picture it is of, counted from 1.
    pub picture: u16,
    /// The first packet of the picture.
    pub is_first: bool,
    /// The second one: where H.264 begins the slice of a key frame of several packets.
    pub is_second: bool,
    /// The last packet of the picture.
    pub is_last: bool,
    /// The picture is a key frame.
    pub is_key: bool,
}

/// Writes a payload of `len` bytes, or the shortest that holds a stamp; its length.
pub fn write(
    codec: VideoCodec,
    place: &Place,
    len: usize,
    stamp: &Stamp,
    out: &mut [u8],
) -> Option<usize> {
    let mut head = Head { out, len: 0 };
    match codec {
        VideoCodec::Vp8 => write_vp8(place, &mut head),
        VideoCodec::Vp9 => write_vp9(place, &mut head),
        VideoCodec::H264 => write_h264(place, len, &mut head),
        VideoCodec::Av1 => write_av1(place, &mut head),
    }?;
    let head_len = head.len;
    let end = len.max(head_len + STAMP_LEN);
    stamp.write(out.get_mut(head_len..end)?).then_some(end)
}

/// The content of a payload of ours, and whether it begins a key frame.
pub fn read(codec: VideoCodec, payload: &[u8]) -> Option<(&[u8], bool)> {
    let (head_len, is_key) = match codec {
        VideoCodec::Vp8 => read_vp8(payload)?,
        VideoCodec::Vp9 => read_vp9(payload)?,
        VideoCodec::H264 => read_h264(payload)?,
        VideoCodec::Av1 => read_av1(payload)?,
    };
    Some((payload.get(head_len..)?, is_key))
}

struct Head<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Head<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}

const VP8_DESCRIPTOR_LEN: usize = 6;
const VP8_KEY_TAG_LEN: usize = 10;
const VP8_TAG_LEN: usize = 3;

/// Descriptor (RFC 7741 section 4.2): X, then I (15 bits), L and T; frame tag (RFC 6386 section
/// 9.1).
fn write_vp8(place: &Place, head: &mut Head<'_>) -> Option<()> {
    let [p0, p1] = (place.picture | 0x8000).to_be_bytes();
    let first = 0x80 | u8::from(place.is_first) << 4;
    head.put(&[first, 0xe0, p0, p1, place.picture as u8, 0x20])?;
    // Shown, version 0; a key frame says its start code and its size.
    let [w1, w0] = WIDTH.to_be_bytes();
    let [h1, h0] = HEIGHT.to_be_bytes();
    let tag = [0x10 | u8::from(!place.is_key), 0x02, 0x00, 0x9d, 0x01, 0x2a, w0, w1, h0, h1];
    match (place.is_first, place.is_key) {
        (false, _) => Some(()),
        (true, true) => head.put(&tag),
        (true, false) => head.put(tag.get(..VP8_TAG_LEN)?),
    }
}

fn read_vp8(payload: &[u8]) -> Option<(usize, bool)> {
    if payload.first()? & 0x10 == 0 {
        return Some((VP8_DESCRIPTOR_LEN, false));
    }
    let is_key = payload.get(VP8_DESCRIPTOR_LEN)? & 1 == 0;
    let tag_len = if is_key { VP8_KEY_TAG_LEN } else { VP8_TAG_LEN };
    Some((VP8_DESCRIPTOR_LEN + tag_len, is_key))
}

/// I and a 15-bit picture id, which every packet of ours has.
const VP9_DESCRIPTOR_LEN: usize = 3;
const VP9_STRUCTURE_LEN: usize = 8;

/// Bits of the descriptor's first byte (RFC 9628 section 4.2).
const VP9_I: u8 = 0x80;
const VP9_P: u8 = 0x40;
const VP9_B: u8 = 0x08;
const VP9_E: u8 = 0x04;
const VP9_V: u8 = 0x02;

fn write_vp9(place: &Place, head: &mut Head<'_>) -> Option<()> {
    let tells_structure = place.is_first && place.is_key;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let first = VP9_I
        | bit(!place.is_key, VP9_P)
        | bit(place.is_first, VP9_B)
        | bit(place.is_last, VP9_E)
        | bit(tells_structure, VP9_V);
    let [p0, p1] = (place.picture | 0x8000).to_be_bytes();
    head.put(&[first, p0, p1])?;
    if !tells_structure {
        return Some(());
    }
    // One spatial layer with its size; a group of one picture that refers to the one before.
    let ([w1, w0], [h1, h0]) = (WIDTH.to_be_bytes(), HEIGHT.to_be_bytes());
    head.put(&[0x18, w1, w0, h1, h0, 0x01, 0x04, 0x01])
}

fn read_vp9(payload: &[u8]) -> Option<(usize, bool)> {
    let first = *payload.first()?;
    let structure_len = if first & VP9_V != 0 { VP9_STRUCTURE_LEN } else { 0 };
    let is_key = first & VP9_B != 0 && first & VP9_P == 0;
    Some((VP9_DESCRIPTOR_LEN + structure_len, is_key))
}

/// NAL unit headers: a slice, an IDR slice, SEI, STAP-A, FU-A, with the reference bits of encoders.
const H264_SLICE: u8 = 0x41;
const H264_IDR: u8 = 0x65;
const H264_SEI: u8 = 0x06;
const H264_STAP_A: u8 = 0x78;
const H264_FU_A: u8 = 0x5c;

/// Parameter sets of constrained baseline, level 3.1, 640 by 360.
const H264_SPS: [u8; 16] = [
    0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x17, 0xfc, 0xb0, 0x0f, 0x08, 0x84, 0x6a, 0x00,
];
const H264_PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

/// Bytes of a STAP-A in front of its third unit's header.
const H264_AGGREGATE_LEN: usize = 1 + 2 + H264_SPS.len() + 2 + H264_PPS.len() + 2;

/// A slice header begins with the number of its first macroblock: 0 is a set bit.
const H264_FIRST_MACROBLOCK: u8 = 0x88;

/// FU-A's start and end bits.
const H264_START: u8 = 0x80;
const H264_END: u8 = 0x40;

/// A key frame begins with a STAP-A of parameter sets and either its whole slice or a unit of
/// supplemental information; a slice of several packets is in FU-A.
fn write_h264(place: &Place, len: usize, head: &mut Head<'_>) -> Option<()> {
    let slice = if place.is_key { H264_IDR } else { H264_SLICE };
    if place.is_key && place.is_first {
        let unit: &[u8] =
            if place.is_last { &[H264_IDR, H264_FIRST_MACROBLOCK] } else { &[H264_SEI, 0x05] };
        head.put(&[H264_STAP_A])?;
        head.put(&(H264_SPS.len() as u16).to_be_bytes())?;
        head.put(&H264_SPS)?;
        head.put(&(H264_PPS.len() as u16).to_be_bytes())?;
        head.put(&H264_PPS)?;
        let rest = len.max(H264_AGGREGATE_LEN + 2 + STAMP_LEN) - H264_AGGREGATE_LEN;
        head.put(&u16::try_from(rest).ok()?.to_be_bytes())?;
        return head.put(unit);
    }
    let starts = if place.is_key { place.is_second } else { place.is_first };
    if starts && place.is_last {
        // A fragment that both begins and ends a unit is not allowed: it is the unit itself.
        return head.put(&[slice, H264_FIRST_MACROBLOCK]);
    }
    let edge = if starts { H264_START } else { 0 } | if place.is_last { H264_END } else { 0 };
    head.put(&[H264_FU_A, edge | slice & 0x1f, H264_FIRST_MACROBLOCK])
}

fn read_h264(payload: &[u8]) -> Option<(usize, bool)> {
    match *payload.first()? {
        H264_STAP_A => Some((H264_AGGREGATE_LEN + 2, true)),
        H264_FU_A => Some((3, false)),
        H264_SLICE | H264_IDR => Some((2, false)),
        _ => None,
    }
}

/// A sequence header OBU with its length in front: main profile, level 2.0; its fields behind are
/// of no meaning to a server.
const AV1_SEQUENCE: [u8; 12] =
    [0x0b, 0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0x27, 0xfe, 0xcf, 0xe1, 0x7c];

/// The header of a frame OBU without a size.
const AV1_FRAME: u8 = 0x30;

/// Bits of the aggregation header: continues, goes on, two elements or one, a new sequence.
const AV1_Z: u8 = 0x80;
const AV1_Y: u8 = 0x40;
const AV1_W2: u8 = 0x20;
const AV1_W1: u8 = 0x10;
const AV1_N: u8 = 0x08;

fn write_av1(place: &Place, head: &mut Head<'_>) -> Option<()> {
    let begins = place.is_first && place.is_key;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let aggregation = bit(!place.is_first, AV1_Z)
        | bit(!place.is_last, AV1_Y)
        | if begins { AV1_W2 | AV1_N } else { AV1_W1 };
    head.put(&[aggregation])?;
    if begins {
        head.put(&AV1_SEQUENCE)?;
    }
    if place.is_first { head.put(&[AV1_FRAME]) } else { Some(()) }
}

fn read_av1(payload: &[u8]) -> Option<(usize, bool)> {
    let first = *payload.first()?;
    let is_key = first & AV1_N != 0;
    let sequence_len = if is_key { AV1_SEQUENCE.len() } else { 0 };
    Some((1 + sequence_len + usize::from(first & AV1_Z == 0), is_key))
}

/// Bytes of the dependency descriptor of a key frame's first packet, our longest.
pub const MAX_DEPENDENCY_LEN: usize = 13;

/// Bytes of the descriptor that every packet has.
const DEPENDENCY_LEN: usize = 3;

/// What a key frame tells behind these, 41 bits: a structure follows (1), no active targets and no
/// fields of its own (0000); templates from 0 (6), one decode target (5); the next template is of
/// the same layer (00), there is none (11); both are a switch (10 10); the first refers to nothing
/// (0), the second to the frame before (1 0000 0); one chain (1), 0 and 1 frames back (0000 0001);
/// resolutions follow (1).
const DEPENDENCY_STRUCTURE: u128 = 0b1_0000_0000_0000_0000_0111_0100_1000_0010_0000_0011;

/// Unused bits behind the structure and the two 16-bit numbers of a resolution: 73 are used of 80.
const DEPENDENCY_UNUSED_BITS: u32 = 7;

/// The dependency descriptor of one packet of a stream without layers, as encoders of AV1 tell it:
/// a key frame brings two templates, for itself and for all others. The length used of `out`.
pub fn write_dependency(place: &Place, out: &mut [u8; MAX_DEPENDENCY_LEN]) -> usize {
    let [n0, n1] = place.picture.to_be_bytes();
    let template = u8::from(!place.is_key);
    let first = u8::from(place.is_first) << 7 | u8::from(place.is_last) << 6 | template;
    let resolution = u128::from(WIDTH - 1) << 16 | u128::from(HEIGHT - 1);
    let bits = (DEPENDENCY_STRUCTURE << 32 | resolution) << DEPENDENCY_UNUSED_BITS;
    let [.., b0, b1, b2, b3, b4, b5, b6, b7, b8, b9] = bits.to_be_bytes();
    *out = [first, n0, n1, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9];
    if place.is_first && place.is_key { MAX_DEPENDENCY_LEN } else { DEPENDENCY_LEN }
}

#[cfg(test)]
mod tests {
    use opencall_wire::codec::Codec;
    use opencall_wire::rtp::dependency_descriptor::DependencyTracker;
    use opencall_wire::rtp::payload::inspect;
    use opencall_wire::rtp::vp8::Vp8Descriptor;

    use super::*;

    const STAMP: Stamp = Stamp { sender: 1, stream: 2, index: 3, run: 4, sent_ns: 5 };

    const CODECS: [(VideoCodec, Codec); 4] = [
        (VideoCodec::Vp8, Codec::Vp8),
        (VideoCodec::Vp9, Codec::Vp9),
        (VideoCodec::H264, Codec::H264),
        (VideoCodec::Av1, Codec::Av1),
    ];

    /// The places of a picture of `count` packets.
    fn places(count: usize, is_key: bool) -> impl Iterator<Item = Place> {
        (0..count).map(move |n| Place {
            picture: 300,
            is_first: n == 0,
            is_second: n == 1,
            is_last: n + 1 == count,
            is_key,
        })
    }

    #[test]
    fn what_is_written_is_what_others_read_and_holds_the_stamp() {
        for (codec, theirs) in CODECS {
            for (count, is_key) in [1, 2, 5].into_iter().flat_map(|n| [(n, true), (n, false)]) {
                for (n, place) in places(count, is_key).enumerate() {
                    let name = format!("{codec:?}, packet {n} of {count}, key: {is_key}");
                    let mut out = [0; 400];
                    let len = write(codec, &place, 200, &STAMP, &mut out).expect(&name);
                    assert_eq!(len, 200, "{name}");
                    let (content, key) = read(codec, &out[..len]).expect(&name);
                    assert_eq!(Stamp::read(content), Some(STAMP), "{name}");
                    assert_eq!(key, place.is_first && is_key, "{name}");
                    let found = inspect(theirs, &out[..len], place.is_last, None);
                    // The parameter sets of H.264 and the slice behind them both begin the picture.
                    let is_idr = codec == VideoCodec::H264 && is_key && place.is_second;
                    assert_eq!(found.key_frame, key, "{name}");
                    assert_eq!(found.starts_picture, place.is_first || is_idr, "{name}");
                    assert_eq!(found.ends_picture, place.is_last, "{name}");
                }
            }
        }
    }

    #[test]
    fn a_payload_holds_a_stamp_however_short_it_was_to_be() {
        for (codec, _) in CODECS {
            for place in places(1, true).chain(places(2, false)) {
                let mut out = [0; 400];
                let len = write(codec, &place, 1, &STAMP, &mut out).unwrap();
                let (content, _) = read(codec, &out[..len]).unwrap();
                assert_eq!((Stamp::read(content), content.len()), (Some(STAMP), STAMP_LEN));
            }
        }
    }

    #[test]
    fn a_server_may_number_the_pictures_of_vp8_anew() {
        let place = Place { picture: 300, is_first: true, is_key: true, ..Place::default() };
        let mut out = [0; 400];
        let len = write(VideoCodec::Vp8, &place, 200, &STAMP, &mut out).unwrap();
        let payload = &mut out[..len];
        Vp8Descriptor::parse(payload).expect("VP8").ids.patch(payload, 77, 78);
        let (content, key) = read(VideoCodec::Vp8, payload).unwrap();
        assert_eq!((Stamp::read(content), key), (Some(STAMP), true));
    }

    #[test]
    fn a_dependency_descriptor_tells_of_one_layer_and_its_key_frames() {
        let mut tracker = DependencyTracker::default();
        for (count, is_key) in [(3, true), (1, false), (2, false), (1, true)] {
            for place in places(count, is_key) {
                let mut out = [0; MAX_DEPENDENCY_LEN];
                let len = write_dependency(&place, &mut out);
                let found = tracker.read(&out[..len]).expect("readable");
                assert_eq!(found.starts_frame, place.is_first);
                assert_eq!(found.ends_frame, place.is_last);
                assert_eq!(found.frame_number, 300);
                assert_eq!(found.has_structure, place.is_first && is_key);
                let frame = found.frame.expect("a known template");
                assert_eq!((frame.spatial, frame.temporal), (0, 0));
                assert!(frame.indications.any_switch());
            }
        }
        let structure = tracker.structure().expect("brought by the key frame");
        assert_eq!(structure.decode_targets(), 1);
        assert_eq!(structure.resolution(0), Some((640, 360)));
    }

    #[test]
    fn codecs_are_known_by_their_mime_types() {
        for (codec, _) in CODECS {
            let name = codec.mime_type().to_ascii_lowercase();
            assert_eq!(VideoCodec::of_mime_type(&name), Some(codec));
        }
        assert_eq!(VideoCodec::of_mime_type("video/rtx"), None);
    }
}
