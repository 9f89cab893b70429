//! Bits of descriptors that a test writes by hand.

/// Writes bits, highest first.
#[derive(Default)]
pub struct Bits(Vec<bool>);

impl Bits {
    pub fn put(&mut self, number: u32, count: u32) -> &mut Self {
        self.0.extend((0..count).rev().map(|bit| number >> bit & 1 == 1));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (n, &bit)| byte | u8::from(bit) << (7 - n))
        };
        self.0.chunks(8).map(byte).collect()
    }
}
