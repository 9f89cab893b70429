//! Hex dumps and seeded randomness for tests, of the data plane as well.
#![forbid(unsafe_code)]

/// Bytes of a hex dump; white space is ignored.
pub fn hex(dump: &str) -> Vec<u8> {
    let digits: Vec<u8> = dump.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0, "odd number of hex digits");
    let digit = |d: u8| char::from(d).to_digit(16).expect("a hex digit") as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// SplitMix64: one seed replays a test.
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }

    /// A damaged copy: a few bytes changed, sometimes cut short or grown.
    pub fn mutate(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut mutant = packet.to_vec();
        for _ in 0..self.below(4) {
            if mutant.is_empty() {
                break;
            }
            let at = self.below(mutant.len());
            mutant[at] = if self.one_in(2) { self.bits() as u8 } else { mutant[at] ^ 1 };
        }
        if self.one_in(3) {
            mutant.truncate(self.below(mutant.len() + 1));
        }
        if self.one_in(8) {
            let len = self.below(12);
            mutant.extend(self.bytes(len));
        }
        mutant
    }
}
