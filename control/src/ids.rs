//! Ids of transports, producers and consumers, as numbers inside and as texts outside.
#![forbid(unsafe_code)]

/// Any large odd number will do: multiplication by it is a bijection of 64-bit numbers.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number that undoes [`FACTOR`].
const INVERSE: u64 = inverse(FACTOR);

/// Newton's iteration doubles the correct low bits: 3, 6, 12, 24, 48, 96.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut round = 0;
    while round < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    x
}

/// Hands out numbers, and turns them into texts and back without keeping any: 16 hex digits, other
/// ones in each run of the server, so that an id of an earlier run is not taken for a new one. They
/// are no secrets: every request is checked against the client's own objects.
pub(crate) struct Ids {
    key: u64,
    last: u64,
}

impl Ids {
    pub fn new(key: u64) -> Self {
        Ids { key, last: 0 }
    }

    /// A number never handed out before.
    pub fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Numbers up to this one have been handed out, by a process before.
    pub fn skip(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    pub fn text(&self, id: u64) -> String {
        format!("{:016x}", id.wrapping_mul(FACTOR) ^ self.key)
    }

    pub fn number(&self, text: &str) -> Option<u64> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return None;
        }
        let mixed = u64::from_str_radix(text, 16).ok()?;
        Some((mixed ^ self.key).wrapping_mul(INVERSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lead_back_to_their_numbers() {
        let ids = Ids::new(0x1234_5678_9abc_def0);
        for id in [0, 1, 2, 1_000_000, u64::MAX] {
            assert_eq!(ids.number(&ids.text(id)), Some(id));
        }
        assert_ne!(ids.text(1), Ids::new(7).text(1));
    }

    #[test]
    fn other_texts_are_no_ids() {
        let ids = Ids::new(0);
        for text in ["", "1", "+000000000000001", "000000000000000G", "00000000000000000", "ééééé"]
        {
            assert_eq!(ids.number(text), None, "{text}");
        }
        assert_eq!(ids.number("ABCDEF0123456789"), None);
    }
}
