//! Asking for a key frame: picture loss indication (RFC 4585 section 6.3.1) and full intra request
//! (RFC 5104 section 4.3.1).
//!
//! ```text
//! PLI: sender ssrc | media ssrc
//! FIR: sender ssrc | 0 | (media ssrc | request number (8) 0 (24)) …
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc4585#section-6.3.1>,
//! <https://www.rfc-editor.org/rfc/rfc5104#section-4.3.1>
#![forbid(unsafe_code)]

use super::writer::{Full, Writer};
use super::{feedback, format, packet_type};

/// A full intra request to one or more sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    entries: &'a [[u8; 8]],
}

/// A full intra request to one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntry {
    /// Who is asked.
    pub ssrc: u32,
    /// Number of the request; the same number again is the same request again.
    pub request_number: u8,
}

impl<'a> Fir<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender_ssrc, _, rest) = feedback(body)?;
        Some(Fir { sender_ssrc, entries: rest.as_chunks().0 })
    }

    /// Who is asked.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = FirEntry> + use<'a> {
        self.entries.iter().map(|&[s0, s1, s2, s3, request_number, ..]| FirEntry {
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            request_number,
        })
    }
}

impl Writer<'_> {
    /// A picture is lost.
    pub fn pli(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Result<(), Full> {
        self.append(packet_type::PAYLOAD_FEEDBACK, format::PLI, |body| {
            body.put_u32(sender_ssrc)?;
            body.put_u32(media_ssrc)
        })
    }

    /// Asks one source for a key frame; each new request has a new number.
    pub fn fir(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        request_number: u8,
    ) -> Result<(), Full> {
        self.append(packet_type::PAYLOAD_FEEDBACK, format::FIR, |body| {
            body.put_u32(sender_ssrc)?;
            body.put_u32(0)?;
            body.put_u32(media_ssrc)?;
            body.put(&[request_number, 0, 0, 0])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, packets};
    use crate::rtp::test_support::hex;

    #[test]
    fn pli_both_ways() {
        let mut out = [0; 12];
        Writer::new(&mut out).pli(0x1111_1111, 0x2222_2222).unwrap();
        assert_eq!(out[..], hex("81 ce 0002 11111111 22222222"));
        let pli = Packet::Pli { sender_ssrc: 0x1111_1111, media_ssrc: 0x2222_2222 };
        assert_eq!(packets(&out).collect::<Vec<_>>(), [Ok(pli)]);
    }

    #[test]
    fn fir_both_ways() {
        let mut out = [0xff; 20];
        Writer::new(&mut out).fir(1, 2, 3).unwrap();
        assert_eq!(out[..], hex("84 ce 0004 00000001 00000000 00000002 03000000"));

        let bytes = hex("84 ce 0006 00000001 00000000 00000002 03000000 00000004 ffabcdef");
        let Some(Ok(Packet::Fir(fir))) = packets(&bytes).next() else { panic!() };
        assert_eq!(fir.sender_ssrc, 1);
        let want =
            [(2, 3), (4, 255)].map(|(ssrc, request_number)| FirEntry { ssrc, request_number });
        assert_eq!(fir.entries().collect::<Vec<_>>(), want);
    }
}
