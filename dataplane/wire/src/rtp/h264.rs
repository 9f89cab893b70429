//! H.264 payloads (RFC 6184 sections 5.6–5.8): which packets begin a picture, and a key frame.
//!
//! A decoder can begin with an IDR picture, and only once it has its parameter sets. They precede
//! it in packets of their own or in the same one, so a key frame begins with a sequence parameter
//! set: IDR slices that come first have been separated from theirs. Whether an IDR picture follows,
//! the set does not say; some encoders repeat it before others.
//!
//! ```text
//! single NAL unit: |F|NRI| type 1–23 | …
//! STAP-A:          |F|NRI|    24     | (size (16), NAL unit) …
//! FU-A:            |F|NRI|    28     | |S|E|R| type | part of a NAL unit …
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc6184#section-5.2>
#![forbid(unsafe_code)]

/// NAL unit types (H.264 table 7-1, RFC 6184 table 1).
mod nal {
    pub(super) const SLICE: u8 = 1;
    pub(super) const PARTITION_A: u8 = 2;
    pub(super) const IDR_SLICE: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
    pub(super) const ACCESS_UNIT_DELIMITER: u8 = 9;
    pub(super) const STAP_A: u8 = 24;
    pub(super) const FU_A: u8 = 28;
}

/// What can be told of one packet by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct H264Payload {
    /// The packet carries a sequence parameter set, with which a key frame begins.
    pub key_frame: bool,
    /// A picture begins here that refers to others.
    pub starts_inter: bool,
    /// Nothing before the packet is of its picture. Parameter sets and the first slice of one
    /// picture may each have a packet of their own, and all of them say so.
    pub starts_picture: bool,
}

impl H264Payload {
    /// Looks at the NAL units of a packet. Aggregates are read up to the first that is truncated.
    pub fn parse(payload: &[u8]) -> Self {
        let Some((&header, rest)) = payload.split_first() else {
            return H264Payload::default();
        };
        match header & 0x1f {
            nal::STAP_A => units(rest).fold(H264Payload::default(), |all, unit| {
                unit.split_first().map_or(all, |(&header, rest)| all.or(Self::of(header, rest)))
            }),
            nal::FU_A => match rest.split_first() {
                Some((&fragment, rest)) if fragment & 0x80 != 0 => Self::of(fragment, rest),
                _ => H264Payload::default(),
            },
            _ => Self::of(header, rest),
        }
    }

    /// What one NAL unit says: its type is in the lower five bits of `header`.
    fn of(header: u8, rest: &[u8]) -> Self {
        // The slice header begins with first_mb_in_slice, whose code of 0 is a single set bit.
        let first_slice = rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let (key_frame, starts_inter, starts_picture) = match header & 0x1f {
            nal::SPS => (true, false, true),
            nal::IDR_SLICE => (false, false, first_slice),
            nal::SLICE | nal::PARTITION_A => (false, first_slice, first_slice),
            nal::SEI | nal::PPS | nal::ACCESS_UNIT_DELIMITER => (false, false, true),
            _ => (false, false, false),
        };
        H264Payload { key_frame, starts_inter, starts_picture }
    }

    fn or(self, other: Self) -> Self {
        H264Payload {
            key_frame: self.key_frame || other.key_frame,
            starts_inter: self.starts_inter || other.starts_inter,
            starts_picture: self.starts_picture || other.starts_picture,
        }
    }
}

/// The NAL units of an aggregate.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&size, bytes) = rest.split_first_chunk()?;
        let (unit, next) = bytes.split_at_checked(usize::from(u16::from_be_bytes(size)))?;
        rest = next;
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    #[test]
    fn packets() {
        // k: a key frame begins, i: an inter picture begins, s: a picture begins.
        for (name, dump, flags) in [
            ("nothing", "", ""),
            ("IDR slice", "65 b8 00", "s"),
            ("second slice of an IDR picture", "65 40 00", ""),
            ("IDR slice without a body", "65", ""),
            ("inter slice", "41 9a 00", "is"),
            ("second inter slice", "41 5a 00", ""),
            ("SPS", "67 42 c0 1f", "ks"),
            ("PPS", "68 ce 3c 80", "s"),
            ("SEI", "06 05", "s"),
            ("delimiter", "09 10", "s"),
            ("STAP-A of SPS and PPS", "78 0004 6742c01f 0004 68ce3c80", "ks"),
            ("STAP-A of PPS and IDR", "78 0002 68ce 0002 65b8", "s"),
            ("STAP-A of SPS, PPS and inter", "78 0002 6742 0002 68ce 0002 419a", "kis"),
            ("STAP-A of inter slices", "78 0002 419a 0002 415a", "is"),
            ("STAP-A, second unit truncated", "78 0002 415a 0009 65b8", ""),
            ("STAP-A of an empty unit", "78 0000 0002 65b8", "s"),
            ("STAP-A of nothing", "78", ""),
            ("FU-A, start of an IDR slice", "7c 85 b8", "s"),
            ("FU-A, start of a second IDR slice", "7c 85 40", ""),
            ("FU-A, middle of an IDR slice", "7c 05 b8", ""),
            ("FU-A, end of an IDR slice", "7c 45 b8", ""),
            ("FU-A, start of an SPS", "7c 87 42", "ks"),
            ("FU-A, start of an inter slice", "7c 81 9a", "is"),
            ("FU-A without a header", "7c", ""),
            ("FU-B", "7d 85 0000 b8", ""),
        ] {
            let want = H264Payload {
                key_frame: flags.contains('k'),
                starts_inter: flags.contains('i'),
                starts_picture: flags.contains('s'),
            };
            assert_eq!(H264Payload::parse(&hex(dump)), want, "{name}");
        }
    }

    #[test]
    fn garbage_never_panics_and_a_key_frame_always_starts_a_picture() {
        let mut random = Random(11);
        let seed = hex("78 0004 6742c01f 0004 68ce3c80 0002 65b8");
        for _ in 0..200_000 {
            let found = H264Payload::parse(&random.mutate(&seed));
            assert!(found.starts_picture || !found.key_frame);
        }
    }
}
