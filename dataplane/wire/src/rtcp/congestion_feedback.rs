//! Congestion control feedback (RFC 8888): which packets of each stream arrived, when, and with
//! what congestion mark.
//!
//! ```text
//! sender ssrc | per stream: ssrc | begin sequence (16) reports (16) | reports (16 each, padded) …
//! | report time, 1/65536 s (32)
//!
//! report: |R|ECN| arrival offset (13), 1/1024 s before the report time |
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc8888.html#section-3.1>
#![forbid(unsafe_code)]

use super::split_u32;

/// Most reports of one stream in one packet (section 3.1).
const REPORTS_MAX: usize = 16_384;
/// Offset of a packet that arrived longer ago than can be said.
const LONG_AGO: u16 = 0x1ffe;
/// Offset of a packet that arrived after the report time.
const AFTER_REPORT: u16 = 0x1fff;

/// Arrival of packets of some streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CongestionFeedback<'a> {
    /// Who received them.
    pub sender_ssrc: u32,
    /// The receiver's clock at the time of the report: 1/65536 s, the middle bits of an NTP time.
    pub report_time: u32,
    /// Blocks that add up.
    blocks: &'a [u8],
}

/// What is reported of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketReport {
    /// Stream of the packet.
    pub ssrc: u32,
    /// Its RTP sequence number.
    pub sequence: u16,
    /// Units of 1/1024 s before the report time at which it arrived; `None` if it did not.
    pub before_report: Option<u16>,
    /// The two ECN bits of its IP header.
    pub ecn: u8,
}

impl<'a> CongestionFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender_ssrc, rest) = split_u32(body)?;
        let (blocks, &report_time) = rest.split_last_chunk()?;
        let mut left = blocks;
        while !left.is_empty() {
            (_, left) = Block::split(left)?;
        }
        Some(CongestionFeedback {
            sender_ssrc,
            report_time: u32::from_be_bytes(report_time),
            blocks,
        })
    }

    /// What is reported of each packet.
    pub fn packets(&self) -> impl Iterator<Item = PacketReport> + use<'a> {
        let mut left = self.blocks;
        let blocks = std::iter::from_fn(move || {
            let (block, rest) = Block::split(left)?;
            left = rest;
            Some(block)
        });
        blocks.flat_map(|block| {
            block.reports.iter().zip(0_u16..).map(move |(&report, index)| {
                let word = u16::from_be_bytes(report);
                let offset = match word & AFTER_REPORT {
                    AFTER_REPORT => 0,
                    offset => offset,
                };
                PacketReport {
                    ssrc: block.ssrc,
                    sequence: block.begin.wrapping_add(index),
                    before_report: (word & 0x8000 != 0).then_some(offset.min(LONG_AGO)),
                    ecn: (word >> 13 & 0b11) as u8,
                }
            })
        })
    }
}

struct Block<'a> {
    ssrc: u32,
    begin: u16,
    reports: &'a [[u8; 2]],
}

impl<'a> Block<'a> {
    /// Takes a block off the front, with the padding to whole words behind it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (ssrc, rest) = split_u32(bytes)?;
        let (&[b0, b1, c0, c1], rest) = rest.split_first_chunk()?;
        let count = usize::from(u16::from_be_bytes([c0, c1]));
        if count > REPORTS_MAX {
            return None;
        }
        let (reports, rest) = rest.split_at_checked(count * 2)?;
        let (_, rest) = rest.split_at_checked(count % 2 * 2)?;
        let begin = u16::from_be_bytes([b0, b1]);
        Some((Block { ssrc, begin, reports: reports.as_chunks().0 }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, RtcpError, packets};
    use crate::rtp::test_support::{Random, hex};

    /// SSRC, sequence number, offset, ECN.
    type Fields = (u32, u16, Option<u16>, u8);

    fn read(dump: &str) -> Option<Vec<Fields>> {
        let body = hex(dump);
        let mut bytes = vec![0x8b, 0xcd, 0, (body.len() / 4) as u8];
        bytes.extend(body);
        match packets(&bytes).next()? {
            Ok(Packet::CongestionFeedback(feedback)) => {
                assert_eq!((feedback.sender_ssrc, feedback.report_time), (1, 0x0001_8000));
                let fields = |p: PacketReport| (p.ssrc, p.sequence, p.before_report, p.ecn);
                Some(feedback.packets().map(fields).collect())
            }
            Err(error) => {
                assert_eq!(error, RtcpError::Malformed(205));
                None
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_streams_with_padding_and_marks() {
        let reports = read(
            "00000001 \
             00000007 ffff 0003 8005 0000 e010 0000 \
             00000008 0001 0002 9fff bffe \
             00018000",
        );
        assert_eq!(
            reports.unwrap(),
            [
                (7, 0xffff, Some(5), 0),
                (7, 0, None, 0),
                (7, 1, Some(16), 3),
                (8, 1, Some(0), 0),
                (8, 2, Some(LONG_AGO), 1),
            ]
        );
        assert_eq!(read("00000001 00018000").unwrap(), []);
        assert_eq!(read("00000001 00000007 0001 0000 00018000").unwrap(), []);
    }

    #[test]
    fn feedback_that_does_not_add_up() {
        for (name, dump) in [
            ("no report time", "00000001"),
            ("half a block", "00000001 00000007 00018000"),
            ("fewer reports than it says", "00000001 00000007 0001 0004 8005 0000 00018000"),
            ("more than there may be", "00000001 00000007 0001 4001 8005 0000 00018000"),
        ] {
            assert_eq!(read(dump), None, "{name}");
        }
    }

    #[test]
    fn garbage_yields_no_more_than_it_holds() {
        let mut random = Random(11);
        let whole = hex("00000001 00000007 ffff 0003 8005 0000 e010 0000 00018000");
        for round in 0..100_000 {
            let mutant =
                if round % 2 == 0 { random.mutate(&whole) } else { random.bytes(round % 60) };
            let count = CongestionFeedback::parse(&mutant).map_or(0, |f| f.packets().count());
            assert!(count <= mutant.len() / 2);
        }
    }
}
