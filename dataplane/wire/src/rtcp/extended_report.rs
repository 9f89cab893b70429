//! Extended reports: how one who only receives learns the round trip (RFC 3611).
//!
//! ```text
//! XR: ssrc | blocks …
//! block: type (8) | reserved (8) | length in words (16) | contents
//! receiver reference time (4): NTP time (64)
//! DLRR (5): for each receiver: ssrc | last RR | delay since last RR
//! ```
//!
//! A receiver says what time it is; whoever sends media to it says how long it held that. Browsers
//! answer without being asked to in SDP.
//!
//! <https://www.rfc-editor.org/rfc/rfc3611#section-4.4>
#![forbid(unsafe_code)]

use super::writer::{Full, Writer};
use super::{packet_type, split_u32};
use crate::time::NtpTime;

/// Block types (RFC 3611 section 8.2).
mod block_type {
    pub(super) const RECEIVER_REFERENCE_TIME: u8 = 4;
    pub(super) const DLRR: u8 = 5;
}

/// Words of a receiver reference time block, its header not counted.
const REFERENCE_TIME_WORDS: u8 = 2;
/// Bytes for each receiver in a DLRR block.
const DLRR_ITEM_LEN: usize = 12;

/// How long a sender held the reference time of one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelaySinceLastRr {
    /// The receiver.
    pub ssrc: u32,
    /// Middle 32 bits of the NTP time of its last reference time; 0 if there was none.
    pub last_rr: u32,
    /// How long ago that came, in 1/65536 s.
    pub delay_since_last_rr: u32,
}

/// An extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedReport<'a> {
    /// Who reports.
    pub ssrc: u32,
    blocks: &'a [u8],
}

/// A block of an extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtendedBlock<'a> {
    /// What time it is for a receiver (RFC 3611 section 4.4).
    ReceiverReferenceTime(NtpTime),
    /// How long a sender held such times (RFC 3611 section 4.5).
    Dlrr(Dlrr<'a>),
}

/// A DLRR block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dlrr<'a> {
    items: &'a [[u8; DLRR_ITEM_LEN]],
}

impl<'a> Dlrr<'a> {
    /// What it says of each receiver.
    pub fn items(&self) -> impl ExactSizeIterator<Item = DelaySinceLastRr> + use<'a> {
        self.items.iter().map(|item| {
            let words = item.as_chunks::<4>().0;
            let word = |index: usize| words.get(index).map_or(0, |&word| u32::from_be_bytes(word));
            DelaySinceLastRr { ssrc: word(0), last_rr: word(1), delay_since_last_rr: word(2) }
        })
    }
}

impl<'a> ExtendedReport<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (ssrc, blocks) = split_u32(body)?;
        Some(ExtendedReport { ssrc, blocks })
    }

    /// Its blocks of known types; those of others are passed over. Ends where a block claims more
    /// than there is.
    pub fn blocks(&self) -> impl Iterator<Item = ExtendedBlock<'a>> + use<'a> {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let (&[block_type, _, l0, l1], tail) = rest.split_first_chunk()?;
            let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            let (contents, tail) = tail.split_at_checked(len)?;
            rest = tail;
            Some(ExtendedBlock::parse(block_type, contents))
        })
        .flatten()
    }
}

impl<'a> ExtendedBlock<'a> {
    fn parse(block_type: u8, contents: &'a [u8]) -> Option<Self> {
        match block_type {
            block_type::RECEIVER_REFERENCE_TIME => {
                let &ntp = contents.first_chunk()?;
                Some(ExtendedBlock::ReceiverReferenceTime(NtpTime(u64::from_be_bytes(ntp))))
            }
            block_type::DLRR => Some(ExtendedBlock::Dlrr(Dlrr { items: contents.as_chunks().0 })),
            _ => None,
        }
    }
}

impl Writer<'_> {
    /// An extended report with what time it is for us.
    pub fn receiver_reference_time(&mut self, ssrc: u32, ntp: NtpTime) -> Result<(), Full> {
        self.append(packet_type::EXTENDED_REPORT, 0, |body| {
            body.put_u32(ssrc)?;
            body.put(&[block_type::RECEIVER_REFERENCE_TIME, 0, 0, REFERENCE_TIME_WORDS])?;
            body.put(&ntp.0.to_be_bytes())
        })
    }

    /// An extended report with how long we held the reference times of some receivers.
    pub fn dlrr(&mut self, ssrc: u32, items: &[DelaySinceLastRr]) -> Result<(), Full> {
        let words = u16::try_from(items.len() * DLRR_ITEM_LEN / 4).map_err(|_| Full)?;
        self.append(packet_type::EXTENDED_REPORT, 0, |body| {
            body.put_u32(ssrc)?;
            body.put(&[block_type::DLRR, 0])?;
            body.put(&words.to_be_bytes())?;
            items.iter().try_for_each(|item| {
                body.put_u32(item.ssrc)?;
                body.put_u32(item.last_rr)?;
                body.put_u32(item.delay_since_last_rr)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, packets};
    use crate::rtp::test_support::hex;

    fn blocks(bytes: &[u8]) -> Vec<ExtendedBlock<'_>> {
        let Some(Ok(Packet::ExtendedReport(report))) = packets(bytes).next() else { panic!() };
        assert_eq!(report.ssrc, 1);
        report.blocks().collect()
    }

    #[test]
    fn known_bytes() {
        let bytes = hex("80 cf 0004 00000001 04 00 0002 0123456789abcdef");
        let ntp = NtpTime(0x0123_4567_89ab_cdef);
        assert_eq!(blocks(&bytes), [ExtendedBlock::ReceiverReferenceTime(ntp)]);
        let mut out = [0; 20];
        Writer::new(&mut out).receiver_reference_time(1, ntp).unwrap();
        assert_eq!(out[..], bytes);

        let bytes = hex("80 cf 0005 00000001 05 00 0003 00000009 456789ab 00010000");
        let item =
            DelaySinceLastRr { ssrc: 9, last_rr: ntp.middle(), delay_since_last_rr: 1 << 16 };
        let [ExtendedBlock::Dlrr(dlrr)] = blocks(&bytes)[..] else { panic!() };
        assert_eq!(dlrr.items().collect::<Vec<_>>(), [item]);
        let mut out = [0; 24];
        Writer::new(&mut out).dlrr(1, &[item]).unwrap();
        assert_eq!(out[..], bytes);
    }

    #[test]
    fn other_blocks_are_passed_over_and_damaged_ones_end_the_list() {
        let dlrr = "05 00 0003 00000009 00000001 00000002";
        for (dump, items) in [
            ("80 cf 0001 00000001".to_owned(), 0),
            // A block of bitrates by libwebrtc (type 42) comes first.
            (format!("80 cf 0008 00000001 2a 00 0002 00000000 00000000 {dlrr}"), 1),
            (format!("80 cf 0009 00000001 {dlrr} {dlrr}"), 2),
            (format!("80 cf 0005 00000001 {}", dlrr.replace("0003", "0004")), 0),
            // Half an item does not count.
            (format!("80 cf 0005 00000001 {}", dlrr.replace("0003", "0002")), 0),
            // Half a reference time.
            (format!("80 cf 0007 00000001 04 00 0001 00000000 {dlrr}"), 1),
        ] {
            let bytes = hex(&dump);
            let items_of = |block: &ExtendedBlock<'_>| match block {
                ExtendedBlock::Dlrr(dlrr) => dlrr.items().len(),
                ExtendedBlock::ReceiverReferenceTime(_) => panic!(),
            };
            let found: usize = blocks(&bytes).iter().map(items_of).sum();
            assert_eq!(found, items, "{dump}");
        }
    }
}
