//! Frames of each codec, and their RTP payloads by an independent packetizer.

use bytes::Bytes;
use opencall_wire::codec::Codec;
use rtp::packetizer::Payloader;

/// Bytes in a packet.
const MTU: usize = 1_100;

/// Makes payloads.
pub struct Film {
    codec: Codec,
    payloader: Option<Box<dyn Payloader + Send + Sync>>,
}

impl Film {
    pub fn new(codec: Codec) -> Self {
        let payloader: Option<Box<dyn Payloader + Send + Sync>> = match codec {
            Codec::Vp8 => {
                let mut payloader = rtp::codecs::vp8::Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Some(Box::new(payloader))
            }
            Codec::H264 => Some(Box::new(rtp::codecs::h264::H264Payloader::default())),
            Codec::Av1 => Some(Box::new(rtp::codecs::av1::Av1Payloader {})),
            _ => None,
        };
        Film { codec, payloader }
    }

    /// A frame as its packets' payloads, and as Matroska should have it.
    pub fn frame(&mut self, key: bool, fill: u8, len: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        match self.codec {
            Codec::Opus => (vec![vec![fill; len]], vec![fill; len]),
            Codec::Vp8 => {
                let mut frame = match key {
                    true => vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01],
                    false => vec![0x11, 0, 0],
                };
                frame.extend(std::iter::repeat_n(fill, len));
                (self.payloads(&frame), frame)
            }
            Codec::Vp9 => vp9(key, fill, len),
            Codec::H264 => {
                let slice =
                    [&[if key { 0x65 } else { 0x41 }][..], &vec![fill | 0x81; len]].concat();
                let units = if key { vec![&SPS[..], &PPS, &slice] } else { vec![&slice[..]] };
                let start = |unit: &&[u8]| [&[0, 0, 0, 1][..], unit].concat();
                let annex_b: Vec<u8> = units.iter().flat_map(start).collect();
                let sized = |unit: &&[u8]| [&(unit.len() as u32).to_be_bytes()[..], unit].concat();
                let stored = units.iter().flat_map(sized).collect();
                (self.payloads(&annex_b), stored)
            }
            Codec::Av1 => {
                let mut stored = Vec::new();
                if key {
                    stored.extend_from_slice(&[0x0a, AV1_SEQUENCE.len() as u8]);
                    stored.extend_from_slice(&AV1_SEQUENCE);
                }
                stored.push(0x32);
                let mut size = len;
                while size >= 0x80 {
                    stored.push(size as u8 | 0x80);
                    size >>= 7;
                }
                stored.push(size as u8);
                stored.extend(std::iter::repeat_n(fill, len));
                (self.payloads(&stored), stored)
            }
            _ => unreachable!("films are of codecs that are recorded"),
        }
    }

    fn payloads(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let payloader = self.payloader.as_mut().expect("a codec with a packetizer");
        let payloads = payloader.payload(MTU, &Bytes::copy_from_slice(frame)).unwrap();
        payloads.iter().map(|payload| payload.to_vec()).collect()
    }
}

/// Constrained baseline, 640×360, as an encoder of a browser made it.
const SPS: [u8; 15] =
    [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x61, 0x00, 0x00, 0x03, 0x00, 0x01];
const PPS: [u8; 4] = [0x68, 0xcb, 0x83, 0xcb];

/// 640×360, as libaom made it.
const AV1_SEQUENCE: [u8; 11] = [0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x36, 0xbe, 0x40, 0x10];

/// Two spatial layers, in the way of RFC 9628's flexible mode.
fn vp9(key: bool, fill: u8, len: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let head: &[u8] = match key {
        true => &[0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x70],
        false => &[0x86, 0x00],
    };
    let (mut payloads, mut stored, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for layer in 0..2_u8 {
        let frame = [head, &vec![fill ^ layer; len]].concat();
        let parts: Vec<&[u8]> = frame.chunks(MTU).collect();
        for (index, part) in parts.iter().enumerate() {
            let begins = if index == 0 { 0x08 } else { 0 };
            let ends = if index + 1 == parts.len() { 0x04 } else { 0 };
            let predicted = if key { 0 } else { 0x40 };
            let head = 0x30 | begins | ends | predicted;
            let mut payload = vec![head, layer << 1 | u8::from(layer > 0)];
            if !key {
                payload.push(1 << 1);
            }
            payload.extend_from_slice(part);
            payloads.push(payload);
        }
        sizes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        stored.extend_from_slice(&frame);
    }
    let marker = 0b1101_1001;
    stored.push(marker);
    stored.extend_from_slice(&sizes);
    stored.push(marker);
    (payloads, stored)
}
