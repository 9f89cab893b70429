//! Pictures as RTP payloads, and back: VP8 (RFC 7741), VP9 in flexible mode (RFC 9628), H.264 (RFC
//! 6184) and AV1 (its RTP specification), one layer each.
//!
//! A picture is what an encoder writes: for H.264 NAL units behind start codes, for AV1 OBUs with
//! sizes, without a temporal delimiter.

use opencall_wire::codec::Codec;

/// Bytes of a picture in one payload.
const PART: usize = 900;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const SPS: u8 = 7;

/// What descriptors of VP8 and VP9 carry.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    pub picture_id: u16,
    /// Of VP8.
    pub tl0: u8,
    pub temporal: u8,
    /// Of VP8.
    pub sync: bool,
}

/// A payload as a receiver reads it.
pub struct Part<'a> {
    /// A picture may begin here (of H.264 and AV1: a key picture does).
    pub begins: bool,
    pub key: bool,
    pub numbers: Option<Numbers>,
    /// How far back by their ids lie the pictures referred to (VP9).
    pub distances: Vec<u16>,
    /// What comes after the descriptor.
    pub body: &'a [u8],
}

/// The payloads of a picture.
pub fn packetize(
    codec: Codec,
    picture: &[u8],
    key: bool,
    numbers: Numbers,
    distances: &[u16],
) -> Vec<Vec<u8>> {
    let [high, low] = (numbers.picture_id | 0x8000).to_be_bytes();
    match codec {
        Codec::Vp8 => cut(picture, |first, _| {
            let layer = numbers.temporal << 6 | u8::from(numbers.sync) << 5;
            vec![0x80 | u8::from(first) << 4, 0xe0, high, low, numbers.tl0, layer]
        }),
        Codec::Vp9 => cut(picture, |first, last| {
            let flags = u8::from(!key) << 6 | u8::from(first) << 3 | u8::from(last) << 2;
            let mut descriptor = vec![0xb0 | flags, high, low, numbers.temporal << 5];
            let distances = if key { &[] } else { distances };
            for (n, &distance) in distances.iter().enumerate() {
                descriptor.push((distance as u8) << 1 | u8::from(n + 1 < distances.len()));
            }
            descriptor
        }),
        Codec::H264 => packetize_h264(picture),
        _ => packetize_av1(picture, key),
    }
}

fn cut(picture: &[u8], head: impl Fn(bool, bool) -> Vec<u8>) -> Vec<Vec<u8>> {
    let count = picture.len().div_ceil(PART);
    let parts = picture.chunks(PART).enumerate();
    parts.map(|(n, part)| [&head(n == 0, n + 1 == count), part].concat()).collect()
}

fn packetize_h264(picture: &[u8]) -> Vec<Vec<u8>> {
    let units = nal_units(picture);
    let is_set = |unit: &&[u8]| matches!(unit[0] & 0x1f, 7 | 8);
    let sets: Vec<&[u8]> = units.iter().copied().filter(is_set).collect();
    let mut payloads = Vec::new();
    if !sets.is_empty() {
        let mut aggregate = vec![0x60 | STAP_A];
        for set in sets {
            aggregate.extend((set.len() as u16).to_be_bytes());
            aggregate.extend(set);
        }
        payloads.push(aggregate);
    }
    for unit in units.into_iter().filter(|unit| !is_set(unit)) {
        if unit.len() <= PART {
            payloads.push(unit.to_vec());
            continue;
        }
        let count = (unit.len() - 1).div_ceil(PART);
        for (n, part) in unit[1..].chunks(PART).enumerate() {
            let ends = u8::from(n == 0) << 7 | u8::from(n + 1 == count) << 6;
            payloads.push([&[unit[0] & 0xe0 | FU_A, ends | unit[0] & 0x1f], part].concat());
        }
    }
    payloads
}

/// NAL units between start codes of three or four bytes.
fn nal_units(picture: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..picture.len().saturating_sub(3))
        .filter(|&at| picture[at..at + 3] == [0, 0, 1])
        .collect();
    let ends = starts.iter().skip(1).copied().chain([picture.len()]);
    let units = starts.iter().zip(ends).map(|(start, end)| &picture[start + 3..end]);
    // The zero that ends a unit is the first byte of a longer start code.
    units.map(|unit| unit.strip_suffix(&[0]).unwrap_or(unit)).collect()
}

fn packetize_av1(picture: &[u8], key: bool) -> Vec<Vec<u8>> {
    let mut payloads = vec![vec![u8::from(key) << 3]];
    for obu in obus(picture) {
        let mut rest: &[u8] = &obu;
        loop {
            let payload = payloads.last_mut().unwrap();
            let room = PART.saturating_sub(payload.len()).max(1);
            let part = rest.split_off(..room.min(rest.len())).unwrap();
            payload.extend(leb128(part.len()));
            payload.extend(part);
            if rest.is_empty() {
                break;
            }
            payload[0] |= 0x40;
            payloads.push(vec![0x80]);
        }
    }
    payloads
}

/// OBUs without their sizes.
fn obus(mut picture: &[u8]) -> Vec<Vec<u8>> {
    let mut obus = Vec::new();
    while let Some((&header, rest)) = picture.split_first() {
        assert_eq!(header & 0x06, 0x02, "a size and no extension");
        let (size, rest) = read_leb128(rest);
        let (body, next) = rest.split_at(size);
        obus.push([&[header & !0x02], body].concat());
        picture = next;
    }
    obus
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn read_leb128(bytes: &[u8]) -> (usize, &[u8]) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let value =
        bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    (value, &bytes[len..])
}

/// What a receiver learns from one payload.
pub fn read(codec: Codec, payload: &[u8]) -> Part<'_> {
    let plain =
        |key: bool| Part { begins: key, key, numbers: None, distances: Vec::new(), body: payload };
    match codec {
        Codec::Vp8 => {
            let picture_id = u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff;
            let begins = payload[0] & 0x17 == 0x10;
            let (temporal, sync) = (payload[5] >> 6, payload[5] & 0x20 != 0);
            let numbers = Some(Numbers { picture_id, tl0: payload[4], temporal, sync });
            let key = begins && payload[6] & 1 == 0;
            Part { begins, key, numbers, body: &payload[6..], ..plain(key) }
        }
        Codec::Vp9 => read_vp9(payload),
        Codec::Opus => plain(true),
        Codec::H264 => plain(payload[0] & 0x1f == STAP_A && payload[3] & 0x1f == SPS),
        _ => plain(payload[0] & 0x88 == 0x08),
    }
}

fn read_vp9(payload: &[u8]) -> Part<'_> {
    let picture_id = u16::from_be_bytes([payload[1], payload[2]]) & 0x7fff;
    let (begins, inter) = (payload[0] & 0x08 != 0, payload[0] & 0x40 != 0);
    let mut body = &payload[4..];
    let mut distances = Vec::new();
    let mut more = inter;
    while more {
        distances.push(u16::from(body[0] >> 1));
        more = body[0] & 1 != 0;
        body = &body[1..];
    }
    let numbers = Some(Numbers { picture_id, tl0: 0, temporal: payload[3] >> 5, sync: false });
    Part { begins, key: begins && !inter, numbers, distances, body }
}

/// The picture whose payloads these are.
pub fn assemble<'a>(codec: Codec, payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    match codec {
        Codec::Vp8 | Codec::Vp9 => {
            payloads.flat_map(|payload| read(codec, payload).body).copied().collect()
        }
        Codec::H264 => payloads.fold(Vec::new(), assemble_h264),
        _ => assemble_av1(payloads),
    }
}

fn assemble_h264(mut picture: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    match payload[0] & 0x1f {
        STAP_A => {
            let mut rest = &payload[1..];
            while let Some((&size, next)) = rest.split_first_chunk() {
                let (unit, next) = next.split_at(u16::from_be_bytes(size).into());
                picture.extend([&START_CODE, unit].concat());
                rest = next;
            }
        }
        FU_A => {
            if payload[1] & 0x80 != 0 {
                picture.extend(START_CODE);
                picture.push(payload[0] & 0xe0 | payload[1] & 0x1f);
            }
            picture.extend(&payload[2..]);
        }
        _ => picture.extend([&START_CODE, payload].concat()),
    }
    picture
}

fn assemble_av1<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut obus: Vec<Vec<u8>> = Vec::new();
    for payload in payloads {
        let mut continues = payload[0] & 0x80 != 0;
        let mut rest = &payload[1..];
        while !rest.is_empty() {
            let (size, next) = read_leb128(rest);
            let (element, next) = next.split_at(size);
            match obus.last_mut().filter(|_| continues) {
                Some(obu) => obu.extend(element),
                None => obus.push(element.to_vec()),
            }
            continues = false;
            rest = next;
        }
    }
    let sized =
        obus.iter().map(|obu| [&[obu[0] | 0x02], &leb128(obu.len() - 1)[..], &obu[1..]].concat());
    sized.collect::<Vec<_>>().concat()
}

#[test]
fn pictures_come_back_as_they_were() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        for (number, len) in [(0, 100), (1, 2_500), (12, 895), (13, 899), (14, 901), (24, 1800)] {
            let picture = super::film::drawn(codec, 1, number, len);
            let key = super::film::is_key(number);
            let numbers = Numbers { picture_id: 9, tl0: 3, temporal: 0, sync: false };
            let payloads = packetize(codec, &picture, key, numbers, &[1, 3]);
            assert_eq!(read(codec, &payloads[0]).key, key, "{codec:?}");
            assert!(payloads.iter().all(|payload| payload.len() <= PART + 6));
            let again = assemble(codec, payloads.iter().map(Vec::as_slice));
            assert_eq!(again, picture, "{codec:?} {number} {len}");
        }
    }
}
