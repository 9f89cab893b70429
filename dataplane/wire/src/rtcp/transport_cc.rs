//! Transport-wide congestion control feedback: when each packet of a transport arrived.
//!
//! ```text
//! sender ssrc | media ssrc | base sequence (16) status count (16)
//! | reference time, 64 ms (24) feedback count (8) | chunks (16 each) … | deltas (8 or 16 each) …
//!
//! run length:  |0| S |      run length (13)      |     S: 0 lost, 1 small delta, 2 large delta
//! 1-bit vector:|1|0| 14 symbols: lost or small   |
//! 2-bit vector:|1|1| 7 symbols                   |
//! ```
//!
//! <https://datatracker.ietf.org/doc/html/draft-holmer-rmcat-transport-wide-cc-extensions-01#section-3.1>
#![forbid(unsafe_code)]

use super::writer::{Body, Full, Writer};
use super::{feedback, format, packet_type};

/// Symbols in a vector of one bit each.
const ONE_BIT_SYMBOLS: u16 = 14;
/// Symbols in a vector of two bits each.
const TWO_BIT_SYMBOLS: u16 = 7;
/// Longest run: 13 bits.
const RUN_MAX: u16 = 0x1fff;

/// Symbol of a packet that did not arrive.
const LOST: u16 = 0;
/// Symbol of a delta of one unsigned byte.
const SMALL: u16 = 1;
/// Symbol of a delta of two signed bytes.
const LARGE: u16 = 2;

/// Arrival times of consecutive packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportCc<'a> {
    /// Who received them.
    pub sender_ssrc: u32,
    /// Some stream of the transport; means nothing.
    pub media_ssrc: u32,
    /// Transport-wide sequence number of the first packet.
    pub base_sequence: u16,
    /// How many packets it tells about.
    pub status_count: u16,
    /// What the first delta is added to: 64 ms each, 24 bits signed.
    pub reference_time: i32,
    /// Number of this feedback, so that its own loss is seen.
    pub feedback_count: u8,
    /// Enough chunks for all packets.
    chunks: &'a [[u8; 2]],
    /// Enough deltas for all chunks.
    deltas: &'a [u8],
}

impl<'a> TransportCc<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender_ssrc, media_ssrc, rest) = feedback(body)?;
        let (&[b0, b1, s0, s1, r0, r1, r2, feedback_count], rest) = rest.split_first_chunk()?;
        let status_count = u16::from_be_bytes([s0, s1]);
        let (chunk_count, deltas_len) = measure(rest.as_chunks().0, status_count)?;
        let (chunks, deltas) = rest.split_at_checked(chunk_count * 2)?;
        Some(TransportCc {
            sender_ssrc,
            media_ssrc,
            base_sequence: u16::from_be_bytes([b0, b1]),
            status_count,
            // Shifting down carries the sign of 24 bits into 32.
            reference_time: i32::from_be_bytes([r0, r1, r2, 0]) >> 8,
            feedback_count,
            chunks: chunks.as_chunks().0,
            deltas: deltas.get(..deltas_len)?,
        })
    }

    /// Sequence number of each packet and, if it arrived, the time since the one that arrived
    /// before it (the first: since the reference time) in units of 250 µs.
    pub fn packets(&self) -> TransportCcPackets<'a> {
        TransportCcPackets {
            chunks: self.chunks.iter(),
            chunk: Chunk(0),
            index: 0,
            deltas: self.deltas,
            sequence: self.base_sequence,
            left: self.status_count,
        }
    }
}

/// How many chunks cover `status_count` packets, and how many bytes their deltas take. The work
/// follows the number of chunks and not that of packets, of which a few bytes can name 65535.
fn measure(chunks: &[[u8; 2]], status_count: u16) -> Option<(usize, usize)> {
    let (mut left, mut deltas_len) = (status_count, 0);
    let mut chunk_count = 0;
    while left > 0 {
        let chunk = Chunk(u16::from_be_bytes(*chunks.get(chunk_count)?));
        let covered = chunk.len().min(left);
        deltas_len += chunk.deltas_len(covered);
        left -= covered;
        chunk_count += 1;
    }
    Some((chunk_count, deltas_len))
}

/// See [`TransportCc::packets`].
#[derive(Debug, Clone)]
pub struct TransportCcPackets<'a> {
    chunks: std::slice::Iter<'a, [u8; 2]>,
    chunk: Chunk,
    /// Symbols of `chunk` that are behind us.
    index: u16,
    deltas: &'a [u8],
    sequence: u16,
    left: u16,
}

impl Iterator for TransportCcPackets<'_> {
    type Item = (u16, Option<i32>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        while self.index == self.chunk.len() {
            self.chunk = Chunk(u16::from_be_bytes(*self.chunks.next()?));
            self.index = 0;
        }
        let symbol = self.chunk.symbol(self.index);
        self.index += 1;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let delta = match symbol {
            SMALL => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i32::from(delta))
            }
            LARGE => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i32::from(i16::from_be_bytes(delta)))
            }
            // The fourth symbol is reserved and has no delta: as good as lost.
            _ => None,
        };
        Some((sequence, delta))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

/// A status chunk as it is on the wire.
#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn run(symbol: u16, len: u16) -> Self {
        Chunk(symbol << 13 | len)
    }

    /// How many packets it covers.
    fn len(self) -> u16 {
        match self.0 >> 14 {
            0b10 => ONE_BIT_SYMBOLS,
            0b11 => TWO_BIT_SYMBOLS,
            _ => self.0 & RUN_MAX,
        }
    }

    /// The symbol of one of them; `index` is below `len`.
    fn symbol(self, index: u16) -> u16 {
        match self.0 >> 14 {
            0b10 => self.0 >> (ONE_BIT_SYMBOLS - 1).saturating_sub(index) & 0b1,
            0b11 => self.0 >> (2 * (TWO_BIT_SYMBOLS - 1).saturating_sub(index)) & 0b11,
            _ => self.0 >> 13,
        }
    }

    /// Bytes of deltas for its first `count` packets.
    fn deltas_len(self, count: u16) -> usize {
        if self.0 >> 15 == 0 {
            return delta_len(self.0 >> 13) * usize::from(count);
        }
        (0..count).map(|index| delta_len(self.symbol(index))).sum()
    }

    /// The best next chunk and how many of the packets it covers; `None` if a delta is too large
    /// or there are no packets.
    fn choose(arrivals: &[Option<i32>]) -> Option<(Self, usize)> {
        let first = symbol_of(*arrivals.first()?)?;
        let head = arrivals.get(..usize::from(RUN_MAX)).unwrap_or(arrivals);
        let run = head.iter().take_while(|&&arrival| symbol_of(arrival) == Some(first)).count();
        if run == arrivals.len() || run >= usize::from(ONE_BIT_SYMBOLS) {
            return Some((Chunk::run(first, run as u16), run));
        }
        let mut one_bit = Chunk(0b10 << 14);
        let mut two_bit = Chunk(0b11 << 14);
        let mut only_small = true;
        let mut count = 0;
        for (index, &arrival) in (0..ONE_BIT_SYMBOLS).zip(arrivals) {
            let symbol = symbol_of(arrival)?;
            only_small &= symbol <= SMALL;
            one_bit.0 |= (symbol & 1) << (ONE_BIT_SYMBOLS - 1 - index);
            if index < TWO_BIT_SYMBOLS {
                two_bit.0 |= symbol << (2 * (TWO_BIT_SYMBOLS - 1 - index));
            }
            count += 1;
        }
        if only_small {
            Some((one_bit, count))
        } else if run >= usize::from(TWO_BIT_SYMBOLS) {
            Some((Chunk::run(first, run as u16), run))
        } else {
            Some((two_bit, count.min(usize::from(TWO_BIT_SYMBOLS))))
        }
    }
}

/// Bytes of the delta of a packet with this symbol.
fn delta_len(symbol: u16) -> usize {
    match symbol {
        SMALL => 1,
        LARGE => 2,
        _ => 0,
    }
}

/// The symbol of a packet; `None` if its delta does not fit two bytes.
fn symbol_of(arrival: Option<i32>) -> Option<u16> {
    match arrival {
        None => Some(LOST),
        Some(0..=0xff) => Some(SMALL),
        Some(-0x8000..=0x7fff) => Some(LARGE),
        Some(_) => None,
    }
}

impl Writer<'_> {
    /// Arrivals of the packets from `base_sequence` on. Each delta is the time since the packet
    /// that arrived before it (the first: since the reference time) in units of 250 µs; one that
    /// does not fit 16 bits is [`Full`], and a new feedback must begin there.
    pub fn transport_cc(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        feedback_count: u8,
        base_sequence: u16,
        reference_time_64ms: i32,
        arrivals: &[Option<i32>],
    ) -> Result<(), Full> {
        let status_count = u16::try_from(arrivals.len()).map_err(|_| Full)?;
        let [_, r0, r1, r2] = reference_time_64ms.to_be_bytes();
        self.append(packet_type::TRANSPORT_FEEDBACK, format::TRANSPORT_CC, |body| {
            body.put_u32(sender_ssrc)?;
            body.put_u32(media_ssrc)?;
            body.put_u32(u32::from(base_sequence) << 16 | u32::from(status_count))?;
            body.put(&[r0, r1, r2, feedback_count])?;
            write_chunks(body, arrivals)?;
            write_deltas(body, arrivals)
        })
    }
}

fn write_chunks(body: &mut Body<'_>, mut arrivals: &[Option<i32>]) -> Result<(), Full> {
    while !arrivals.is_empty() {
        let (chunk, covered) = Chunk::choose(arrivals).ok_or(Full)?;
        body.put(&chunk.0.to_be_bytes())?;
        arrivals = arrivals.get(covered..).unwrap_or_default();
    }
    Ok(())
}

fn write_deltas(body: &mut Body<'_>, arrivals: &[Option<i32>]) -> Result<(), Full> {
    arrivals.iter().flatten().try_for_each(|&delta| match u8::try_from(delta) {
        Ok(small) => body.put(&[small]),
        Err(_) => body.put(&i16::try_from(delta).map_err(|_| Full)?.to_be_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, RtcpError, packets};
    use crate::rtp::test_support::{Random, hex};

    const HEAD: &str = "00000001 00000002";

    fn written(base: u16, arrivals: &[Option<i32>]) -> Vec<u8> {
        let mut out = vec![0xff; 200_000];
        let mut writer = Writer::new(&mut out);
        writer.transport_cc(1, 2, 9, base, -3, arrivals).unwrap();
        let len = writer.finish();
        out.truncate(len);
        out
    }

    fn view(bytes: &[u8]) -> TransportCc<'_> {
        let Some(Ok(Packet::TransportCc(feedback))) = packets(bytes).next() else { panic!() };
        assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (1, 2));
        feedback
    }

    fn read(bytes: &[u8]) -> Vec<Option<i32>> {
        view(bytes).packets().map(|(_, delta)| delta).collect()
    }

    #[test]
    fn the_chunks_drawn_in_the_draft() {
        // Section 3.1.3: a run of 221 lost packets, and of 24 received ones; section 3.1.4: one
        // bit each (lost 5, received 3, lost 2, …) and two bits each.
        let symbols = |word: u16| -> Vec<u16> {
            (0..Chunk(word).len()).map(|index| Chunk(word).symbol(index)).collect()
        };
        assert_eq!(symbols(0b0000_0000_1101_1101), [0; 221]);
        assert_eq!(symbols(0b0110_0000_0001_1000), [3; 24]);
        assert_eq!(symbols(0b1001_1111_0001_1100), [0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0]);
        assert_eq!(symbols(0b1100_1101_0101_0000), [0, 3, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn known_bytes() {
        let bytes = hex(&format!(
            "8f cd 0006 {HEAD} 0153 0005 fffffd 09 \
             d64a \
             18 0a ffec 05 0000 00"
        ));
        // 2-bit vector 01 01 10 01 00 10 10: five of its seven symbols count.
        let feedback = view(&bytes);
        assert_eq!((feedback.base_sequence, feedback.status_count), (0x0153, 5));
        assert_eq!((feedback.reference_time, feedback.feedback_count), (-3, 9));
        assert_eq!(
            feedback.packets().collect::<Vec<_>>(),
            [
                (0x0153, Some(24)),
                (0x0154, Some(10)),
                (0x0155, Some(-20)),
                (0x0156, Some(5)),
                (0x0157, None),
            ]
        );
    }

    #[test]
    fn which_chunks_are_chosen() {
        let arrivals = |symbols: &str| -> Vec<Option<i32>> {
            let delta = |symbol| match symbol {
                '.' => None,
                's' => Some(4),
                _ => Some(-4),
            };
            symbols.chars().map(delta).collect()
        };
        let repeat = |symbol: &str, times: usize| arrivals(&symbol.repeat(times));
        for (given, words) in [
            (arrivals("s"), &[0x2001][..]),
            (repeat("s", 20), &[0x2014]),
            (repeat("l", 8191), &[0x5fff]),
            (repeat("s", 8192), &[0x3fff, 0x2001]),
            (arrivals("s.s"), &[0b1010_1000_0000_0000]),
            (arrivals("s.s.s.s.s.s.s.s"), &[0b1010_1010_1010_1010, 0x2001]),
            (arrivals("sl"), &[0b1101_1000_0000_0000]),
            (arrivals("sssssssl"), &[0x2007, 0x4001]),
            (arrivals("ssssssssl.l"), &[0x2008, 0b1110_0010_0000_0000]),
            (arrivals("s.lssss."), &[0b1101_0010_0101_0101, 0x0001]),
        ] {
            let bytes = written(0, &given);
            let chunks: Vec<u16> =
                view(&bytes).chunks.iter().map(|&chunk| u16::from_be_bytes(chunk)).collect();
            assert_eq!(chunks, words);
            assert_eq!(read(&bytes), given);
        }
        assert_eq!(read(&written(0, &[])), []);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let bytes = written(65_534, &[Some(1), None, Some(2)]);
        let sequences: Vec<u16> = view(&bytes).packets().map(|(sequence, _)| sequence).collect();
        assert_eq!(sequences, [65_534, 65_535, 0]);
    }

    #[test]
    fn deltas_at_their_limits() {
        let limits = [Some(0), Some(255), Some(256), Some(32_767), Some(-1), Some(-32_768)];
        assert_eq!(read(&written(0, &limits)), limits);
        for too_large in [32_768, -32_769, i32::MAX, i32::MIN] {
            for before in [0, 3, 20] {
                let mut arrivals = vec![Some(1); before];
                arrivals.push(Some(too_large));
                let mut out = [0; 200];
                let mut writer = Writer::new(&mut out);
                assert_eq!(writer.transport_cc(1, 2, 3, 4, 5, &arrivals), Err(Full));
            }
        }
        let mut out = vec![0; 200_000];
        let mut writer = Writer::new(&mut out);
        assert_eq!(writer.transport_cc(1, 2, 3, 4, 5, &vec![None; 65_536]), Err(Full));
        writer.transport_cc(1, 2, 3, 4, 5, &vec![None; 65_535]).unwrap();
    }

    #[test]
    fn feedback_that_does_not_add_up() {
        for (name, tail) in [
            ("no chunk for the packets", "0000 0001 000000 00"),
            ("a run shorter than the packets", "0000 0003 000000 00 0002 0000"),
            ("runs of nothing", "0000 0003 000000 00 0000 0000"),
            ("no delta", "0000 0004 000000 00 2004 0101"),
            ("half a large delta", "0000 0003 000000 00 e400 0101"),
        ] {
            let body = hex(&format!("{HEAD} {tail}"));
            let mut bytes = vec![0x8f, 0xcd, 0, (body.len() / 4) as u8];
            bytes.extend(body);
            let first = packets(&bytes).next();
            assert_eq!(first, Some(Err(RtcpError::Malformed(205))), "{name}");
        }
    }

    #[test]
    fn random_arrivals_read_back() {
        let mut random = Random(9);
        for _ in 0..3_000 {
            let mut arrivals = Vec::new();
            while arrivals.len() < random.below(400) {
                let arrival = match random.below(8) {
                    0 => None,
                    1 => Some(i32::from(random.bits() as i16)),
                    _ => Some(random.below(256) as i32),
                };
                let times = if random.one_in(4) { random.below(40) } else { 1 };
                arrivals.extend(std::iter::repeat_n(arrival, times));
            }
            let base = random.bits() as u16;
            let bytes = written(base, &arrivals);
            assert_eq!(view(&bytes).base_sequence, base);
            assert_eq!(read(&bytes), arrivals);
        }
    }
}
