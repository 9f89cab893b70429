//! Receiver estimated maximum bitrate: application layer feedback of the name `REMB`.
//!
//! ```text
//! sender ssrc | 0 | "REMB" | number of ssrcs (8) exponent (6) mantissa (18) | ssrc …
//! ```
//!
//! <https://datatracker.ietf.org/doc/html/draft-alvestrand-rmcat-remb-03#section-2.2>
#![forbid(unsafe_code)]

use super::writer::{Full, Writer};
use super::{feedback, format, packet_type, split_u32};

/// The name that tells it from other application layer feedback.
const NAME: &[u8; 4] = b"REMB";
/// Bits of the mantissa.
const MANTISSA_BITS: u32 = 18;

/// An estimate that a receiver makes for the sum of some streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender_ssrc: u32,
    /// The estimate, bits per second. What does not fit 64 bits reads as the greatest number.
    pub bitrate_bps: u64,
    ssrcs: &'a [[u8; 4]],
}

/// Whether application layer feedback is this kind of it.
pub(super) fn is_remb(body: &[u8]) -> bool {
    feedback(body).is_some_and(|(_, _, rest)| rest.starts_with(NAME))
}

impl<'a> Remb<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender_ssrc, _, rest) = feedback(body)?;
        let (rate, ssrcs) = split_u32(rest.strip_prefix(NAME)?)?;
        let count = (rate >> 24) as usize;
        let exponent = rate >> MANTISSA_BITS & 0x3f;
        let mantissa = u64::from(rate & ((1 << MANTISSA_BITS) - 1));
        // Exponents reach 63, so only the value of the shifted mantissa says whether it fits.
        let bitrate = u128::from(mantissa) << exponent;
        Some(Remb {
            sender_ssrc,
            bitrate_bps: u64::try_from(bitrate).unwrap_or(u64::MAX),
            ssrcs: ssrcs.as_chunks().0.get(..count)?,
        })
    }

    /// The streams it is for.
    pub fn ssrcs(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.ssrcs.iter().map(|&ssrc| u32::from_be_bytes(ssrc))
    }
}

impl Writer<'_> {
    /// An estimate for the sum of up to 255 streams, rounded down to 18 significant bits.
    pub fn remb(&mut self, sender_ssrc: u32, bitrate_bps: u64, ssrcs: &[u32]) -> Result<(), Full> {
        let count = u8::try_from(ssrcs.len()).map_err(|_| Full)?;
        let exponent = (u64::BITS - bitrate_bps.leading_zeros()).saturating_sub(MANTISSA_BITS);
        let mantissa = (bitrate_bps >> exponent) as u32;
        self.append(packet_type::PAYLOAD_FEEDBACK, format::APPLICATION, |body| {
            body.put_u32(sender_ssrc)?;
            body.put_u32(0)?;
            body.put(NAME)?;
            body.put_u32(u32::from(count) << 24 | exponent << MANTISSA_BITS | mantissa)?;
            ssrcs.iter().try_for_each(|&ssrc| body.put_u32(ssrc))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, RtcpError, packets};
    use crate::rtp::test_support::{Random, hex};

    fn read(bytes: &[u8]) -> (u64, Vec<u32>) {
        let Some(Ok(Packet::Remb(remb))) = packets(bytes).next() else { panic!() };
        assert_eq!(remb.sender_ssrc, 1);
        (remb.bitrate_bps, remb.ssrcs().collect())
    }

    #[test]
    fn known_bytes() {
        // 8 927 168 bit/s = 0x220e0 << 6, for two streams.
        let bytes = hex("8f ce 0006 00000001 00000000 52454d42 021a20df 72550070 0000002f");
        assert_eq!(read(&bytes), (8_927_168, vec![0x7255_0070, 47]));
        let mut out = [0; 28];
        Writer::new(&mut out).remb(1, 8_927_168, &[0x7255_0070, 47]).unwrap();
        assert_eq!(out[..], bytes);
    }

    #[test]
    fn rounding_table() {
        for (given, read_back) in [
            (0, 0),
            (1, 1),
            (0x3_ffff, 0x3_ffff),
            (0x4_0000, 0x4_0000),
            (0x4_0001, 0x4_0000),
            (u64::MAX, 0x3_ffff << 46),
        ] {
            let mut out = [0; 24];
            Writer::new(&mut out).remb(1, given, &[9]).unwrap();
            assert_eq!(read(&out), (read_back, vec![9]));
        }
        let huge = hex("8f ce 0004 00000001 00000000 52454d42 00ffffff");
        assert_eq!(read(&huge), (u64::MAX, vec![]), "more than 64 bits");
        let zero = hex("8f ce 0004 00000001 00000000 52454d42 00fc0000");
        assert_eq!(read(&zero), (0, vec![]));
    }

    #[test]
    fn never_more_than_asked_and_within_one_part_in_2_to_17() {
        let mut random = Random(8);
        for _ in 0..10_000 {
            let bitrate = random.bits() >> random.below(64);
            let mut out = [0; 20];
            Writer::new(&mut out).remb(1, bitrate, &[]).unwrap();
            let (back, _) = read(&out);
            assert!(back <= bitrate && bitrate - back <= bitrate >> 17);
        }
    }

    #[test]
    fn more_streams_than_there_are_bytes() {
        let bytes = hex("8f ce 0004 00000001 00000000 52454d42 01000001");
        assert_eq!(packets(&bytes).next(), Some(Err(RtcpError::Malformed(206))));
        let mut out = [0; 1500];
        assert_eq!(Writer::new(&mut out).remb(1, 1, &[0; 256]), Err(Full));
    }
}
