//! What a camera sees: pictures with numbers, each a key picture or referring to the one before.

use opencall_wire::codec::Codec;

use super::random::Random;

/// Pictures from one key picture to the next. A sender that is asked for one goes on with the next
/// that begins with it.
pub const CLIP: u32 = 12;

/// Whether a picture refers to none before it.
pub fn is_key(number: u32) -> bool {
    number.is_multiple_of(CLIP)
}

/// A place in the pattern of temporal layers: the layer, whether the picture refers to the lowest
/// layer alone, and how far back lie the pictures it refers to.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub temporal: u8,
    pub sync: bool,
    pub distances: &'static [u16],
}

const fn place(temporal: u8, sync: bool, distances: &'static [u16]) -> Place {
    Place { temporal, sync, distances }
}

/// Patterns: one layer, and three as libvpx has them in its third mode.
pub const L1T1: &[Place] = &[place(0, false, &[1])];
pub const L1T3: &[Place] =
    &[place(0, false, &[4]), place(2, true, &[1]), place(1, true, &[2]), place(2, false, &[1, 3])];

/// Encoded pictures.
pub trait Film {
    fn codec(&self) -> Codec;

    /// Its temporal layers.
    fn pattern(&self) -> &'static [Place];

    /// A picture of an encoding, as [`super::packets`] has it; `None` at the film's end.
    fn picture(&self, layer: usize, number: u32) -> Option<Vec<u8>>;

    /// A picture's place in the pattern.
    fn place(&self, number: u32) -> Place {
        let pattern = self.pattern();
        pattern[number as usize % pattern.len()]
    }
}

/// Pictures that look like the codec's from outside and that no decoder could read.
pub struct Drawn(pub Codec, pub &'static [Place]);

impl Film for Drawn {
    fn codec(&self) -> Codec {
        self.0
    }

    fn pattern(&self) -> &'static [Place] {
        self.1
    }

    fn picture(&self, layer: usize, number: u32) -> Option<Vec<u8>> {
        let most = if is_key(number) { 2200 } else { 700 } * (layer as u64 % 3 + 1);
        let len = Random::new(u64::from(number) << 8 | layer as u64).within(100..most);
        Some(drawn(self.0, layer, number, len as usize))
    }
}

/// One of `len` bytes or a few more.
pub fn drawn(codec: Codec, layer: usize, number: u32, len: usize) -> Vec<u8> {
    let mut random = Random::new(u64::from(number) << 8 | layer as u64);
    // No zeros, which could be a start code.
    let body: Vec<u8> = (0..len).map(|_| random.within(0x20..0x100) as u8).collect();
    let key = is_key(number);
    let obu = |header: u8| {
        assert!((128..1 << 14).contains(&len) || len < 128);
        let size =
            if len < 128 { vec![len as u8] } else { vec![len as u8 | 0x80, (len >> 7) as u8] };
        [&[header], &size[..], &body].concat()
    };
    match (codec, key) {
        (Codec::Vp8, true) => {
            [&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1], &body[..]].concat()
        }
        (Codec::Vp8, false) => [&[0x11, 0, 0], &body[..]].concat(),
        (Codec::H264, true) => {
            let sets = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
            [&sets[..], &[0, 0, 0, 1, 0x65, 0x88], &body].concat()
        }
        (Codec::H264, false) => [&[0, 0, 0, 1, 0x41, 0x9a], &body[..]].concat(),
        (Codec::Av1, true) => [vec![0x0a, 2, 0x21, 0x22], obu(0x32)].concat(),
        (Codec::Av1, false) => obu(0x32),
        _ => body,
    }
}
