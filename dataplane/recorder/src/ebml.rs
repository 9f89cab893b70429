//! EBML elements (RFC 8794): an id, a size, and what is inside. As much as a writer needs.
#![forbid(unsafe_code)]

/// The id of an element, with its length marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub u32);

/// A size that says "until the end", as an eight byte number that can be replaced by a real one.
pub const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// The element that stands for nothing: it keeps room for what is written later.
pub const VOID: Id = Id(0xec);

/// Appends an id.
pub fn id(out: &mut Vec<u8>, Id(id): Id) {
    let bytes = id.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(3);
    out.extend_from_slice(&bytes[first..]);
}

/// Appends a size in as few bytes as it takes. All ones would mean "unknown".
pub fn size(out: &mut Vec<u8>, size: usize) {
    let size = size as u64;
    let mut len = 1;
    while len < 8 && size >= (1 << (7 * len)) - 1 {
        len += 1;
    }
    let bytes = (size | 1 << (7 * len)).to_be_bytes();
    out.extend_from_slice(&bytes[8 - len..]);
}

/// A size in eight bytes, whatever it is.
pub fn size_of_8(size: u64) -> [u8; 8] {
    (size | 1 << 56).to_be_bytes()
}

/// Appends an element of bytes or text.
pub fn bytes(out: &mut Vec<u8>, of: Id, bytes: &[u8]) {
    id(out, of);
    size(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends an unsigned integer.
pub fn uint(out: &mut Vec<u8>, of: Id, value: u64) {
    let all = value.to_be_bytes();
    let first = all.iter().position(|byte| *byte != 0).unwrap_or(7);
    bytes(out, of, &all[first..]);
}

/// Appends an unsigned integer in eight bytes: its place can be computed before its value.
pub fn uint_of_8(out: &mut Vec<u8>, of: Id, value: u64) {
    bytes(out, of, &value.to_be_bytes());
}

/// Appends a floating-point number in eight bytes.
pub fn float(out: &mut Vec<u8>, of: Id, value: f64) {
    bytes(out, of, &value.to_be_bytes());
}

/// Appends an element of elements.
pub fn master(out: &mut Vec<u8>, of: Id, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inside = Vec::new();
    fill(&mut inside);
    bytes(out, of, &inside);
}

/// Appends room of exactly `len` bytes, at least 2 and at most 128.
pub fn void(out: &mut Vec<u8>, len: usize) {
    id(out, VOID);
    let rest = len.saturating_sub(2).min(126);
    size(out, rest);
    out.resize(out.len() + rest, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        fill(&mut out);
        out
    }

    #[test]
    fn sizes_are_as_short_as_can_be_and_never_mean_unknown() {
        for (value, expected) in [
            (0, &[0x80][..]),
            (126, &[0xfe]),
            (127, &[0x40, 0x7f]),
            (16_382, &[0x7f, 0xfe]),
            (16_383, &[0x20, 0x3f, 0xff]),
            (2_097_151, &[0x10, 0x1f, 0xff, 0xff]),
        ] {
            assert_eq!(made(|out| size(out, value)), expected, "{value}");
        }
        assert_eq!(size_of_8(5), [1, 0, 0, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn elements() {
        assert_eq!(made(|out| uint(out, Id(0xd7), 0)), [0xd7, 0x81, 0]);
        assert_eq!(
            made(|out| uint(out, Id(0x2ad7b1), 1_000_000)),
            [0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]
        );
        assert_eq!(
            made(|out| master(out, Id(0xe0), |out| uint(out, Id(0xb0), 640))),
            [0xe0, 0x84, 0xb0, 0x82, 0x02, 0x80]
        );
        for len in [2, 3, 11, 128] {
            assert_eq!(made(|out| void(out, len)).len(), len);
        }
    }
}
