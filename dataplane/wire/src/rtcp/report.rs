//! Sender and receiver reports (RFC 3550 section 6.4).
//!
//! ```text
//! SR: ssrc | NTP time (64) | RTP time | packets | octets | report blocks …
//! RR: ssrc | report blocks …
//! block: ssrc | fraction lost (8) cumulative lost (24) | highest sequence | jitter | LSR | DLSR
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc3550#section-6.4>
#![forbid(unsafe_code)]

use super::writer::{Body, Full, Writer};
use super::{COUNT_MAX, packet_type, split_u32};
use crate::time::NtpTime;

/// Length of a report block on the wire.
const BLOCK_LEN: usize = 24;

/// What a receiver says about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative when duplicates arrived. 24 bits on the wire.
    pub cumulative_lost: i32,
    /// Highest sequence number received, its cycles in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter, in units of the media clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 if there was none.
    pub last_sr: u32,
    /// How long ago that report came, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    /// Greatest loss that 24 signed bits can say.
    const CUMULATIVE_LOST_MAX: i32 = 0x7f_ffff;

    fn parse(block: &[u8; BLOCK_LEN]) -> Self {
        let words = block.as_chunks::<4>().0;
        let word = |index: usize| words.get(index).map_or(0, |&word| u32::from_be_bytes(word));
        let loss = word(1);
        ReportBlock {
            ssrc: word(0),
            fraction_lost: (loss >> 24) as u8,
            // Shifting up and down again carries the sign of 24 bits into 32.
            cumulative_lost: (loss << 8).cast_signed() >> 8,
            highest_sequence: word(2),
            jitter: word(3),
            last_sr: word(4),
            delay_since_last_sr: word(5),
        }
    }

    fn write(&self, body: &mut Body<'_>) -> Result<(), Full> {
        let lost =
            self.cumulative_lost.clamp(-Self::CUMULATIVE_LOST_MAX - 1, Self::CUMULATIVE_LOST_MAX);
        let loss = u32::from(self.fraction_lost) << 24 | lost.cast_unsigned() & 0x00ff_ffff;
        body.put_u32(self.ssrc)?;
        body.put_u32(loss)?;
        body.put_u32(self.highest_sequence)?;
        body.put_u32(self.jitter)?;
        body.put_u32(self.last_sr)?;
        body.put_u32(self.delay_since_last_sr)
    }
}

/// What a sender says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// Wall-clock time of this report.
    pub ntp: NtpTime,
    /// The same instant on the media clock.
    pub rtp_timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
}

/// A sender report. Profile-specific extensions are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// Who sends.
    pub ssrc: u32,
    /// Wall-clock time of this report.
    pub ntp: NtpTime,
    /// The same instant on the media clock.
    pub rtp_timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
    blocks: &'a [[u8; BLOCK_LEN]],
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let (ssrc, rest) = split_u32(body)?;
        let (&ntp, rest) = rest.split_first_chunk()?;
        let (rtp_timestamp, rest) = split_u32(rest)?;
        let (packets, rest) = split_u32(rest)?;
        let (octets, rest) = split_u32(rest)?;
        Some(SenderReport {
            ssrc,
            ntp: NtpTime(u64::from_be_bytes(ntp)),
            rtp_timestamp,
            packets,
            octets,
            blocks: blocks(count, rest)?,
        })
    }

    /// What the sender says about the sources it receives.
    pub fn reports(&self) -> impl ExactSizeIterator<Item = ReportBlock> + use<'a> {
        self.blocks.iter().map(ReportBlock::parse)
    }
}

/// A receiver report. Profile-specific extensions are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// Who receives.
    pub ssrc: u32,
    blocks: &'a [[u8; BLOCK_LEN]],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let (ssrc, rest) = split_u32(body)?;
        Some(ReceiverReport { ssrc, blocks: blocks(count, rest)? })
    }

    /// What the receiver says about the sources it receives.
    pub fn reports(&self) -> impl ExactSizeIterator<Item = ReportBlock> + use<'a> {
        self.blocks.iter().map(ReportBlock::parse)
    }
}

fn blocks(count: u8, bytes: &[u8]) -> Option<&[[u8; BLOCK_LEN]]> {
    bytes.as_chunks().0.get(..usize::from(count))
}

impl Writer<'_> {
    /// A sender report with up to 31 blocks.
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), Full> {
        self.append(packet_type::SENDER_REPORT, block_count(blocks)?, |body| {
            body.put_u32(ssrc)?;
            body.put(&info.ntp.0.to_be_bytes())?;
            body.put_u32(info.rtp_timestamp)?;
            body.put_u32(info.packets)?;
            body.put_u32(info.octets)?;
            blocks.iter().try_for_each(|block| block.write(body))
        })
    }

    /// A receiver report with up to 31 blocks.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Result<(), Full> {
        self.append(packet_type::RECEIVER_REPORT, block_count(blocks)?, |body| {
            body.put_u32(ssrc)?;
            blocks.iter().try_for_each(|block| block.write(body))
        })
    }

    /// Receiver reports with any number of blocks: what is beyond 31 goes in further ones behind it
    /// (RFC 3550 section 6.1). Without blocks it is one that is empty.
    pub fn receiver_reports(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Result<(), Full> {
        let (first, further) = blocks.split_at(blocks.len().min(COUNT_MAX));
        self.receiver_report(ssrc, first)?;
        further.chunks(COUNT_MAX).try_for_each(|blocks| self.receiver_report(ssrc, blocks))
    }
}

fn block_count(blocks: &[ReportBlock]) -> Result<u8, Full> {
    u8::try_from(blocks.len()).ok().filter(|&n| usize::from(n) <= COUNT_MAX).ok_or(Full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, packets};
    use crate::rtp::test_support::{Random, hex};

    const SENDER_REPORT: &str = "81 c8 000c 12345678 \
         dac0a1b2 80000000 00010000 000003e8 0001e240 \
         9abcdef0 40fffffe 0001ffff 00000011 a1b28000 00018000";

    fn sample() -> (SenderInfo, ReportBlock) {
        let info = SenderInfo {
            ntp: NtpTime(0xdac0_a1b2_8000_0000),
            rtp_timestamp: 0x1_0000,
            packets: 1000,
            octets: 123_456,
        };
        let block = ReportBlock {
            ssrc: 0x9abc_def0,
            fraction_lost: 64,
            cumulative_lost: -2,
            highest_sequence: 0x0001_ffff,
            jitter: 17,
            last_sr: 0xa1b2_8000,
            delay_since_last_sr: 0x0001_8000,
        };
        (info, block)
    }

    #[test]
    fn sender_report_both_ways() {
        let bytes = hex(SENDER_REPORT);
        let (info, block) = sample();
        let Some(Ok(Packet::SenderReport(report))) = packets(&bytes).next() else { panic!() };
        assert_eq!(report.ssrc, 0x1234_5678);
        assert_eq!((report.ntp, report.rtp_timestamp), (info.ntp, info.rtp_timestamp));
        assert_eq!((report.packets, report.octets), (info.packets, info.octets));
        assert_eq!(report.reports().collect::<Vec<_>>(), [block]);

        let mut out = [0xff; 128];
        let mut writer = Writer::new(&mut out);
        writer.sender_report(0x1234_5678, &info, &[block]).unwrap();
        let len = writer.finish();
        assert_eq!(out[..len], bytes);
    }

    #[test]
    fn receiver_report_with_an_extension_nobody_knows() {
        let bytes = hex("81 c9 0008 00000001 \
             9abcdef0 40fffffe 0001ffff 00000011 a1b28000 00018000 0badcafe");
        let Some(Ok(Packet::ReceiverReport(report))) = packets(&bytes).next() else { panic!() };
        assert_eq!(report.ssrc, 1);
        assert_eq!(report.reports().collect::<Vec<_>>(), [sample().1]);
    }

    #[test]
    fn loss_beyond_24_bits_is_clamped() {
        for (given, read) in [
            (i32::MAX, 0x7f_ffff),
            (i32::MIN, -0x80_0000),
            (0x7f_ffff, 0x7f_ffff),
            (-0x80_0000, -0x80_0000),
            (-1, -1),
            (0, 0),
        ] {
            let mut out = [0; 32];
            let block = ReportBlock { cumulative_lost: given, fraction_lost: 9, ..sample().1 };
            Writer::new(&mut out).receiver_report(1, &[block]).unwrap();
            let Some(Ok(Packet::ReceiverReport(report))) = packets(&out).next() else { panic!() };
            let back = report.reports().next().unwrap();
            assert_eq!(back, ReportBlock { cumulative_lost: read, ..block });
        }
    }

    #[test]
    fn thirty_one_blocks_and_no_more() {
        let mut random = Random(6);
        let mut out = [0; 1500];
        let blocks: Vec<ReportBlock> = (0..32)
            .map(|_| ReportBlock {
                ssrc: random.bits() as u32,
                fraction_lost: random.bits() as u8,
                cumulative_lost: (random.bits() as i32) >> 8,
                highest_sequence: random.bits() as u32,
                jitter: random.bits() as u32,
                last_sr: random.bits() as u32,
                delay_since_last_sr: random.bits() as u32,
            })
            .collect();
        let mut writer = Writer::new(&mut out);
        assert_eq!(writer.receiver_report(1, &blocks), Err(Full));
        assert_eq!(writer.sender_report(1, &sample().0, &blocks), Err(Full));
        writer.receiver_report(1, &blocks[..31]).unwrap();
        let len = writer.finish();
        let Some(Ok(Packet::ReceiverReport(report))) = packets(&out[..len]).next() else {
            panic!()
        };
        assert_eq!(report.reports().collect::<Vec<_>>(), blocks[..31]);
    }

    #[test]
    fn more_blocks_go_in_further_reports() {
        for (given, lengths) in [
            (0, vec![0]),
            (1, vec![1]),
            (31, vec![31]),
            (32, vec![31, 1]),
            (49, vec![31, 18]),
            (80, vec![31, 31, 18]),
        ] {
            let blocks: Vec<ReportBlock> =
                (0..given).map(|ssrc| ReportBlock { ssrc, ..sample().1 }).collect();
            let mut out = [0; 3000];
            let mut writer = Writer::new(&mut out);
            writer.receiver_reports(7, &blocks).unwrap();
            let len = writer.finish();
            let reports: Vec<ReceiverReport<'_>> = packets(&out[..len])
                .map(|packet| match packet {
                    Ok(Packet::ReceiverReport(report)) => report,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!(reports.iter().all(|report| report.ssrc == 7));
            assert_eq!(reports.iter().map(|r| r.reports().len()).collect::<Vec<_>>(), lengths);
            assert!(reports.iter().flat_map(ReceiverReport::reports).eq(blocks));
        }
    }
}
