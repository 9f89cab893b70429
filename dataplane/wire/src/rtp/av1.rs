//! AV1 payloads: the aggregation header and the headers of the OBUs behind it.
//!
//! ```text
//! |Z|Y| W |N|-|-|-|     Z: the first element continues an OBU; N: a coded video sequence begins
//! element: size (leb128; the W-th has none), OBU header, …
//! OBU header: |0| type (4) |X|S|-|   X: | temporal (3) | spatial (2) | - |
//! ```
//!
//! N alone tells a key frame: sequence headers are repeated before other frames too.
//!
//! <https://aomediacodec.github.io/av1-rtp-spec/#44-av1-aggregation-header>
#![forbid(unsafe_code)]

/// OBU types (AV1 specification section 6.2.2) with which a frame can begin.
mod obu {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const FRAME_HEADER: u8 = 3;
    pub(super) const FRAME: u8 = 6;
}

/// Bytes of a size: enough for more than any packet.
const SIZE_BYTES_MAX: u32 = 4;

/// What can be told of one packet by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Av1Payload {
    /// A coded video sequence begins here.
    pub key_frame: bool,
    /// A frame begins here.
    pub starts_frame: bool,
    /// Temporal layer, of the first OBU that tells.
    pub temporal: u8,
    /// Spatial layer, of the first OBU that tells.
    pub spatial: u8,
}

impl Av1Payload {
    /// Looks at the OBU headers of a packet, up to the first that is truncated; `None` if it is
    /// empty.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (&aggregation, rest) = payload.split_first()?;
        let continues = aggregation & 0x80 != 0;
        let new_sequence = aggregation & 0x08 != 0;
        let mut found = Av1Payload {
            key_frame: new_sequence && !continues,
            starts_frame: new_sequence && !continues,
            ..Av1Payload::default()
        };
        let mut layers = None;
        for element in elements(aggregation >> 4 & 0x03, rest).skip(usize::from(continues)) {
            let Some(&header) = element.first() else { continue };
            match header >> 3 & 0x0f {
                obu::SEQUENCE_HEADER | obu::FRAME_HEADER | obu::FRAME => found.starts_frame = true,
                _ => {}
            }
            if header & 0x04 != 0 {
                layers = layers.or(element.get(1).copied());
            }
        }
        if let Some(layers) = layers {
            found.temporal = layers >> 5;
            found.spatial = layers >> 3 & 0x03;
        }
        Some(found)
    }
}

/// The elements of a packet. `count` is W: 0 if every element has a size, else their number, the
/// last of them without a size.
fn elements(count: u8, mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut index = 0u8;
    std::iter::from_fn(move || {
        if rest.is_empty() || (count > 0 && index == count) {
            return None;
        }
        index = index.saturating_add(1);
        if index == count {
            return Some(std::mem::take(&mut rest));
        }
        let (size, bytes) = split_size(rest)?;
        let (element, next) = bytes.split_at_checked(size)?;
        rest = next;
        Some(element)
    })
}

/// Takes a size in leb128 (AV1 section 4.10.5) off the front: the size, and what stands behind it.
/// `None` if it does not end within four bytes.
pub fn split_size(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut size = 0;
    for index in 0..SIZE_BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        bytes = rest;
        size |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((size, bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    #[test]
    fn packets() {
        let none = Av1Payload::default();
        let frame = Av1Payload { starts_frame: true, ..none };
        let key = Av1Payload { key_frame: true, ..frame };
        for (name, dump, want) in [
            ("new sequence, one OBU", "18 0a", key),
            ("new sequence whose payload cannot be read", "18 ff", key),
            ("new sequence: sequence header and frame, W = 2", "28 02 0aaa 30bb", key),
            ("the same without W", "08 02 0aaa 02 30bb", key),
            ("a sequence header repeated before a frame", "20 02 0aaa 30bb", frame),
            (
                "the same, as libaom repeats it",
                "20 0c 08 0000002cd59f3fddaf9901 30 30 555555",
                frame,
            ),
            ("a frame", "10 30aa", frame),
            ("a frame header", "10 18aa", frame),
            ("a tile group", "10 20aa", none),
            ("the rest of an OBU", "90 0aaa", none),
            ("the rest of an OBU, then a frame", "a0 02 0aaa 30bb", frame),
            ("N on a continuation is nonsense", "98 30", none),
            ("layers", "10 34 50", Av1Payload { temporal: 2, spatial: 2, ..frame }),
            (
                "layers of the second OBU",
                "20 01 30 34 28",
                Av1Payload { temporal: 1, spatial: 1, ..frame },
            ),
            ("no element", "00", none),
            ("an empty element", "00 00 01 30", frame),
            ("truncated element", "00 05 30", none),
            ("endless size", "00 ff ff ff ff 01 30", none),
            ("more than W elements", "10 30", frame),
        ] {
            assert_eq!(Av1Payload::parse(&hex(dump)), Some(want), "{name}");
        }
        assert_eq!(Av1Payload::parse(&[]), None);
    }

    #[test]
    fn sizes() {
        for (dump, size) in [
            ("00", Some(0)),
            ("7f", Some(127)),
            ("8001", Some(128)),
            ("ffffff7f", Some((1 << 28) - 1)),
            ("80", None),
            ("8080808001", None),
        ] {
            assert_eq!(split_size(&hex(dump)).map(|found| found.0), size, "{dump}");
        }
    }

    #[test]
    fn garbage_never_panics_and_a_key_frame_always_starts_a_frame() {
        let mut random = Random(12);
        for _ in 0..200_000 {
            let len = random.below(20);
            let found = Av1Payload::parse(&random.bytes(len)).unwrap_or_default();
            assert!(found.starts_frame || !found.key_frame);
        }
    }
}
