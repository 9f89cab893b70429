//! Generic NACK (RFC 4585 section 6.2.1).
//!
//! ```text
//! sender ssrc | media ssrc | (packet id (16), the 16 after it as bits, next one lowest (16)) …
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc4585#section-6.2.1>
#![forbid(unsafe_code)]

use super::writer::{Body, Full, Writer};
use super::{feedback, format, packet_type};

/// How many packets after the named one an entry can name as well.
const BITMASK_LEN: u16 = 16;

/// Packets that a receiver misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who misses them.
    pub sender_ssrc: u32,
    /// Whose packets.
    pub media_ssrc: u32,
    entries: &'a [[u8; 4]],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender_ssrc, media_ssrc, rest) = feedback(body)?;
        Some(Nack { sender_ssrc, media_ssrc, entries: rest.as_chunks().0 })
    }

    /// Sequence numbers of the missing packets, in the order they were written.
    pub fn sequences(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.entries.iter().flat_map(|&[p0, p1, b0, b1]| {
            let first = u16::from_be_bytes([p0, p1]);
            let mask = u16::from_be_bytes([b0, b1]);
            let after = (0..BITMASK_LEN)
                .filter(move |bit| mask >> bit & 1 == 1)
                .map(move |bit| first.wrapping_add(bit + 1));
            std::iter::once(first).chain(after)
        })
    }
}

impl Writer<'_> {
    /// Names missing packets; `sequences` rises (modulo 2^16). Writes nothing if there are none.
    pub fn nack(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        sequences: impl Iterator<Item = u16>,
    ) -> Result<(), Full> {
        let mut sequences = sequences.peekable();
        if sequences.peek().is_none() {
            return Ok(());
        }
        self.append(packet_type::TRANSPORT_FEEDBACK, format::NACK, |body| {
            body.put_u32(sender_ssrc)?;
            body.put_u32(media_ssrc)?;
            write_entries(body, sequences)
        })
    }
}

fn write_entries(
    body: &mut Body<'_>,
    mut sequences: impl Iterator<Item = u16>,
) -> Result<(), Full> {
    let Some(mut first) = sequences.next() else { return Ok(()) };
    let mut mask = 0u16;
    for sequence in sequences {
        match sequence.wrapping_sub(first) {
            0 => {}
            distance @ 1..=BITMASK_LEN => mask |= 1 << (distance - 1),
            _ => {
                write_entry(body, first, mask)?;
                (first, mask) = (sequence, 0);
            }
        }
    }
    write_entry(body, first, mask)
}

fn write_entry(body: &mut Body<'_>, first: u16, mask: u16) -> Result<(), Full> {
    body.put_u32(u32::from(first) << 16 | u32::from(mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, packets};
    use crate::rtp::test_support::{Random, hex};

    fn written(sequences: &[u16]) -> Vec<u8> {
        let mut out = [0; 1500];
        let mut writer = Writer::new(&mut out);
        writer.nack(1, 2, sequences.iter().copied()).unwrap();
        let len = writer.finish();
        out[..len].to_vec()
    }

    fn read(bytes: &[u8]) -> Vec<u16> {
        let Some(Ok(Packet::Nack(nack))) = packets(bytes).next() else { panic!() };
        assert_eq!((nack.sender_ssrc, nack.media_ssrc), (1, 2));
        nack.sequences().collect()
    }

    #[test]
    fn merging() {
        for (sequences, entries) in [
            (&[100][..], "0064 0000"),
            (&[100, 101], "0064 0001"),
            (&[100, 116], "0064 8000"),
            (&[100, 117], "0064 0000 0075 0000"),
            (&[65535, 0, 15], "ffff 8001"),
            (&[65530, 65531, 20, 21, 22], "fffa 0001 0014 0003"),
        ] {
            let bytes = written(sequences);
            assert_eq!(bytes[12..], hex(entries), "{sequences:?}");
            assert_eq!(bytes[..2], [0x81, 0xcd]);
            assert_eq!(read(&bytes), sequences);
        }
        assert_eq!(read(&written(&[5, 5, 6, 6])), [5, 6], "told twice");
        assert_eq!(written(&[]), [], "nothing missing");
    }

    #[test]
    fn all_bits_are_read_in_order() {
        let bytes = hex("81 cd 0003 00000001 00000002 fff0 ffff");
        let want: Vec<u16> = (0..17u16).map(|n| n.wrapping_add(0xfff0)).collect();
        assert_eq!(read(&bytes), want);
    }

    #[test]
    fn random_losses_read_back() {
        let mut random = Random(7);
        for _ in 0..5_000 {
            let mut sequence = random.bits() as u16;
            let sequences: Vec<u16> = (0..1 + random.below(100))
                .map(|_| {
                    let step = if random.one_in(4) { 1 + random.below(60) } else { 1 };
                    sequence = sequence.wrapping_add(step as u16);
                    sequence
                })
                .collect();
            assert_eq!(read(&written(&sequences)), sequences);
        }
    }
}
