//! Making of ICE credentials (RFC 8445 section 5.3).
#![forbid(unsafe_code)]

use aws_lc_rs::rand;

use crate::message::{CoreId, IceCredentials};

/// `ice-char` (RFC 8839 section 5.4). Exactly 64 of them, so that six random bits pick one and none
/// is likelier than another.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Random characters of a user fragment. The RFC asks for 24 bits; the ufrag also keys the table of
/// transports, and with 60 bits two of the server's transports never get the same one.
const UFRAG_RANDOM_LEN: usize = 10;

/// Characters of a password: 144 bits, where the RFC asks for 128. 22 would do as well.
const PWD_LEN: usize = 24;

impl IceCredentials {
    /// New credentials. With a core, the ufrag starts with two characters that name it: whoever
    /// sees a check sees where its transport lives ([`core_of`]).
    ///
    /// # Panics
    /// When the system has no randomness to give: nothing safe could be done without.
    pub fn generate(core: Option<CoreId>) -> Self {
        Self::draw(core, |random| rand::fill(random).expect("the system's random source works"))
    }

    /// The same from another source: for simulations, whose credentials are no secrets.
    pub fn draw(core: Option<CoreId>, mut fill: impl FnMut(&mut [u8])) -> Self {
        let mut ufrag = String::with_capacity(UFRAG_RANDOM_LEN + 2);
        if let Some(CoreId(core)) = core {
            ufrag.extend([core >> 4, core & 0x0f].map(ice_char));
        }
        push_random::<UFRAG_RANDOM_LEN>(&mut ufrag, &mut fill);
        let mut pwd = String::with_capacity(PWD_LEN);
        push_random::<PWD_LEN>(&mut pwd, &mut fill);
        IceCredentials { ufrag, pwd }
    }
}

/// The core that a ufrag of ours names. Anyone may have made it up: there may be no such core.
pub fn core_of(ufrag: &str) -> Option<CoreId> {
    let four_bits = |char: &u8| {
        let value = ICE_CHARS.iter().position(|of| of == char)?;
        u8::try_from(value).ok().filter(|value| *value < 16)
    };
    let [high, low] = ufrag.as_bytes().first_chunk()?;
    Some(CoreId(four_bits(high)? << 4 | four_bits(low)?))
}

fn push_random<const N: usize>(text: &mut String, fill: &mut impl FnMut(&mut [u8])) {
    let mut random = [0; N];
    fill(&mut random);
    text.extend(random.map(ice_char));
}

fn ice_char(bits: u8) -> char {
    char::from(ICE_CHARS[usize::from(bits & 0x3f)])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all_ice_chars(text: &str) -> bool {
        text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
    }

    #[test]
    fn long_enough_and_of_the_right_alphabet() {
        let credentials = IceCredentials::generate(None);
        assert_eq!(credentials.ufrag.len(), UFRAG_RANDOM_LEN);
        assert_eq!(credentials.pwd.len(), PWD_LEN);
        // RFC 8445 section 5.3: 4 to 256, and 22 to 256 characters.
        assert!(credentials.ufrag.len() >= 4 && credentials.pwd.len() >= 22);
        assert!(all_ice_chars(&credentials.ufrag) && all_ice_chars(&credentials.pwd));
    }

    #[test]
    fn the_core_can_be_read_from_the_ufrag() {
        assert!(IceCredentials::generate(Some(CoreId(0))).ufrag.starts_with("AA"));
        assert!(IceCredentials::generate(Some(CoreId(0x2f))).ufrag.starts_with("CP"));
        for core in (0..=u8::MAX).map(CoreId) {
            assert_eq!(core_of(&IceCredentials::generate(Some(core)).ufrag), Some(core));
        }
        for not_ours in ["", "A", "QA", "AQ", "A-", "\u{e4}A"] {
            assert_eq!(core_of(not_ours), None, "{not_ours}");
        }
    }

    #[test]
    fn the_same_draws_make_the_same_credentials() {
        let drawn = |byte: u8| IceCredentials::draw(None, |random| random.fill(byte));
        assert_eq!(drawn(0x41).pwd, "B".repeat(PWD_LEN));
        assert!(drawn(1) == drawn(1) && drawn(1) != drawn(2));
    }

    #[test]
    fn never_twice_the_same_and_every_character_in_use() {
        let all: Vec<_> = (0..1_000).map(|_| IceCredentials::generate(Some(CoreId(1)))).collect();
        let distinct: HashSet<_> = all.iter().map(|c| (&c.ufrag, &c.pwd)).collect();
        assert_eq!(distinct.len(), all.len());
        let seen: HashSet<_> = all.iter().flat_map(|c| c.pwd.bytes()).collect();
        assert_eq!(seen.len(), ICE_CHARS.len());
    }
}
