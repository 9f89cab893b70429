//! Goodbye (RFC 3550 section 6.6).
//!
//! ```text
//! ssrc … | length (8) reason for leaving …
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc3550#section-6.6>
#![forbid(unsafe_code)]

use super::packet_type;
use super::writer::{Full, Writer};

/// Sources that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bye<'a> {
    ssrcs: &'a [[u8; 4]],
    /// Why. Should be UTF-8; nobody checked.
    pub reason: Option<&'a [u8]>,
}

impl<'a> Bye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let (ssrcs, rest) = body.split_at_checked(usize::from(count) * 4)?;
        let reason = match rest.split_first() {
            Some((&len, text)) => Some(text.get(..usize::from(len))?),
            None => None,
        };
        Some(Bye { ssrcs: ssrcs.as_chunks().0, reason })
    }

    /// The sources.
    pub fn ssrcs(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.ssrcs.iter().map(|&ssrc| u32::from_be_bytes(ssrc))
    }
}

impl Writer<'_> {
    /// One source leaves, without a reason.
    pub fn bye(&mut self, ssrc: u32) -> Result<(), Full> {
        self.append(packet_type::BYE, 1, |body| body.put_u32(ssrc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, RtcpError, packets};
    use crate::rtp::test_support::hex;

    #[test]
    fn with_and_without_a_reason() {
        for (dump, ssrcs, reason) in [
            ("82 cb 0004 00000001 00000002 03 627965 00000000", &[1, 2][..], Some(&b"bye"[..])),
            ("81 cb 0001 00000003", &[3], None),
            ("80 cb 0000", &[], None),
            ("80 cb 0001 00000000", &[], Some(&b""[..])),
        ] {
            let bytes = hex(dump);
            let Some(Ok(Packet::Bye(bye))) = packets(&bytes).next() else { panic!("{dump}") };
            assert_eq!(bye.ssrcs().collect::<Vec<_>>(), ssrcs, "{dump}");
            assert_eq!(bye.reason, reason, "{dump}");
        }
        for dump in ["82 cb 0001 00000001", "81 cb 0002 00000001 04616263"] {
            let error = Err(RtcpError::Malformed(203));
            assert_eq!(packets(&hex(dump)).next(), Some(error), "{dump}");
        }
    }

    #[test]
    fn written_bytes() {
        let mut out = [0; 8];
        Writer::new(&mut out).bye(0xdead_beef).unwrap();
        assert_eq!(out[..], hex("81 cb 0001 deadbeef"));
    }
}
