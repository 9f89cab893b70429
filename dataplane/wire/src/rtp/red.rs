//! RED (RFC 2198): a packet of sound that repeats what packets before it carried.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |1|   block PT  |      timestamp offset     |   block length    |  each repetition, oldest first
//! |0|   block PT  |                                                  the packet's own
//! |  repetitions, one behind the other …  |  the packet's own …   |
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc2198#section-3>
#![forbid(unsafe_code)]

use std::ops::Range;

/// Repetitions of a packet at most: 14 bits of timestamp hold 17 frames of 20 ms.
pub const MAX_REPETITIONS: usize = 17;

/// By how much a repetition is older than its packet at most, ticks: 341 ms at 48 kHz.
pub const MAX_TIMESTAMP_OFFSET: u32 = (1 << 14) - 1;

/// Bytes of a repetition at most.
pub const MAX_REPETITION_BYTES: usize = (1 << 10) - 1;

/// What the headers of one repetition and of the packet's own block add to a payload, bytes.
pub const ONE_REPETITION_OVERHEAD: usize = REPETITION_HEAD_LEN + OWN_HEAD_LEN;

const REPETITION_HEAD_LEN: usize = 4;
const OWN_HEAD_LEN: usize = 1;

/// The bit that says that another header follows.
const FOLLOWED: u8 = 0x80;

/// A block of a RED payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// Its payload type, 7 bits.
    pub payload_type: u8,
    /// By how many ticks it is older than the packet.
    pub timestamp_offset: u16,
    start: u16,
    len: u16,
}

impl Block {
    /// Where its bytes lie in the payload.
    pub fn range(&self) -> Range<usize> {
        let start = usize::from(self.start);
        start..start + usize::from(self.len)
    }
}

/// A RED payload, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedPayload {
    repetitions: [Block; MAX_REPETITIONS],
    count: u8,
    /// The packet's own block.
    pub own: Block,
}

impl RedPayload {
    /// Takes a payload apart; `None` where a header or block exceeds it, or there are more than
    /// [`MAX_REPETITIONS`].
    pub fn parse(payload: &[u8]) -> Option<RedPayload> {
        let mut repetitions = [Block::default(); MAX_REPETITIONS];
        let mut rest = payload;
        let mut count = 0;
        let own_type = loop {
            let first = *rest.first()?;
            if first & FOLLOWED == 0 {
                rest = rest.get(OWN_HEAD_LEN..)?;
                break first;
            }
            let &[_, high, middle, low] = rest.first_chunk::<REPETITION_HEAD_LEN>()?;
            *repetitions.get_mut(count)? = Block {
                payload_type: first & !FOLLOWED,
                timestamp_offset: u16::from_be_bytes([high, middle]) >> 2,
                start: 0,
                len: u16::from_be_bytes([middle & 0x03, low]),
            };
            count += 1;
            rest = rest.get(REPETITION_HEAD_LEN..)?;
        };
        let mut at = payload.len() - rest.len();
        for block in repetitions.iter_mut().take(count) {
            block.start = u16::try_from(at).ok()?;
            at += usize::from(block.len);
        }
        let own_len = payload.len().checked_sub(at)?;
        let own = Block {
            payload_type: own_type,
            timestamp_offset: 0,
            start: u16::try_from(at).ok()?,
            len: u16::try_from(own_len).ok()?,
        };
        Some(RedPayload { repetitions, count: count as u8, own })
    }

    /// What it repeats, as it came: by rule the oldest first.
    pub fn repetitions(&self) -> &[Block] {
        self.repetitions.get(..usize::from(self.count)).unwrap_or_default()
    }
}

/// Writes a payload that repeats one before it, both of `payload_type`; its length. `None` where a
/// header does not hold the offset or the length, or the buffer the payload.
pub fn write_repeating(
    buffer: &mut [u8],
    payload_type: u8,
    (timestamp_offset, before): (u32, &[u8]),
    own: &[u8],
) -> Option<usize> {
    if timestamp_offset > MAX_TIMESTAMP_OFFSET || before.len() > MAX_REPETITION_BYTES {
        return None;
    }
    let bits = timestamp_offset << 10 | before.len() as u32;
    let [_, high, middle, low] = bits.to_be_bytes();
    let head = [payload_type | FOLLOWED, high, middle, low, payload_type & !FOLLOWED];
    let mut len = 0;
    for piece in [&head[..], before, own] {
        buffer.get_mut(len..len + piece.len())?.copy_from_slice(piece);
        len += piece.len();
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{Random, hex};
    use super::*;

    /// Payload types, offsets and bytes of all blocks, the packet's own last.
    fn blocks(payload: &[u8]) -> Option<Vec<(u8, u16, Vec<u8>)>> {
        let red = RedPayload::parse(payload)?;
        let all = red.repetitions().iter().chain([&red.own]);
        Some(
            all.map(|b| (b.payload_type, b.timestamp_offset, payload[b.range()].to_vec()))
                .collect(),
        )
    }

    #[test]
    fn payloads_come_apart() {
        let table = [
            // Chromium's first packet: nothing to repeat.
            ("6f aabb", Some(vec![(111, 0, "aabb")])),
            // 960 ticks are 0b1111000000; shifted by ten bits, and a length of 3.
            ("ef 0f0003 6f 010203 aabb", Some(vec![(111, 960, "010203"), (111, 0, "aabb")])),
            (
                "ef 1e0001 ef 0f0002 6f 01 0203 aa",
                Some(vec![(111, 1920, "01"), (111, 960, "0203"), (111, 0, "aa")]),
            ),
            ("ef fffc00 6f aa", Some(vec![(111, 16_383, ""), (111, 0, "aa")])),
            ("6f", Some(vec![(111, 0, "")])),
            ("", None),
            ("ef", None),
            ("ef 0f00", None),
            // No header of the packet's own.
            ("ef 0f0000", None),
            ("ef 0f0003 6f 0102", None),
            ("ef 0003ff 6f 01", None),
        ];
        for (payload, wanted) in table {
            let wanted: Option<Vec<_>> = wanted.map(|blocks: Vec<(u8, u16, &str)>| {
                blocks.into_iter().map(|(pt, at, bytes)| (pt, at, hex(bytes))).collect()
            });
            assert_eq!(blocks(&hex(payload)), wanted, "{payload}");
        }
    }

    #[test]
    fn repetitions_are_bounded() {
        let of = |count: usize| [hex("ef 0f0000").repeat(count), hex("6f aa")].concat();
        assert_eq!(blocks(&of(MAX_REPETITIONS)).unwrap().len(), MAX_REPETITIONS + 1);
        assert_eq!(blocks(&of(MAX_REPETITIONS + 1)), None);
    }

    #[test]
    fn what_is_written_comes_apart_again() {
        let mut random = Random(2198);
        for _ in 0..5_000 {
            let offset = random.below(1 << 14) as u32;
            let (before, own) = (random.below(1 << 10), random.below(500));
            let (before, own) = (random.bytes(before), random.bytes(own));
            let mut buffer = [0xa5; 1600];
            let len = write_repeating(&mut buffer, 111, (offset, &before), &own).unwrap();
            assert_eq!(len, before.len() + own.len() + ONE_REPETITION_OVERHEAD);
            let wanted = vec![(111, offset as u16, before.clone()), (111, 0, own.clone())];
            assert_eq!(blocks(&buffer[..len]), Some(wanted));
            assert_eq!(write_repeating(&mut buffer[..len - 1], 111, (offset, &before), &own), None);
        }
        let mut buffer = [0; 2048];
        assert_eq!(write_repeating(&mut buffer, 111, (1 << 14, &[1]), &[2]), None);
        assert_eq!(write_repeating(&mut buffer, 111, (960, &[1; 1024]), &[2]), None);
    }

    #[test]
    fn any_bytes_give_blocks_within_them_or_nothing() {
        let mut random = Random(1997);
        let mut taken = 0;
        for _ in 0..50_000 {
            let len = random.below(120);
            let mut bytes = random.bytes(len);
            // Most first bytes end the headers at once, or name lengths far beyond the payload.
            for at in (0..random.below(4)).map(|n| n * REPETITION_HEAD_LEN) {
                if let Some([head, _, length, low]) =
                    bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut())
                {
                    (*head, *length, *low) = (*head | FOLLOWED, *length & 0xfc, *low & 0x1f);
                }
            }
            let Some(red) = RedPayload::parse(&bytes) else { continue };
            taken += usize::from(!red.repetitions().is_empty());
            let mut at = red.repetitions().len() * REPETITION_HEAD_LEN + OWN_HEAD_LEN;
            for block in red.repetitions().iter().chain([&red.own]) {
                assert_eq!(block.range().start, at);
                at = block.range().end;
            }
            assert_eq!(at, bytes.len());
        }
        assert!(taken > 1_000, "{taken}");
    }
}
