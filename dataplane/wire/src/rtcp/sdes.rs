//! Source descriptions (RFC 3550 section 6.5).
//!
//! ```text
//! chunk: ssrc | type (8) length (8) text … | … | 0, to the next word
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc3550#section-6.5>
#![forbid(unsafe_code)]

use super::writer::{Full, Writer};
use super::{packet_type, split_u32};

/// Type of the canonical name.
const CNAME: u8 = 1;
/// Type that ends a chunk.
const END: u8 = 0;

/// A source description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdes<'a> {
    count: u8,
    /// Chunks that add up.
    body: &'a [u8],
}

impl<'a> Sdes<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        for _ in 0..count {
            (_, rest) = SdesChunk::split(rest)?;
        }
        Some(Sdes { count, body })
    }

    /// One chunk for each source.
    pub fn chunks(&self) -> impl Iterator<Item = SdesChunk<'a>> + use<'a> {
        let mut rest = self.body;
        (0..self.count).map_while(move |_| {
            let (chunk, next) = SdesChunk::split(rest)?;
            rest = next;
            Some(chunk)
        })
    }
}

/// What is said about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SdesChunk<'a> {
    /// The source.
    pub ssrc: u32,
    /// Items that add up, without the end.
    items: &'a [u8],
}

impl<'a> SdesChunk<'a> {
    /// Takes a chunk off the front of whole words.
    fn split(words: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (ssrc, bytes) = split_u32(words)?;
        let mut at = 0;
        while *bytes.get(at)? != END {
            at += 2 + usize::from(*bytes.get(at + 1)?);
        }
        let items = bytes.get(..at)?;
        let rest = bytes.get((at + 1).next_multiple_of(4)..)?;
        Some((SdesChunk { ssrc, items }, rest))
    }

    /// Type and text of each item. The text should be UTF-8; nobody checked.
    pub fn items(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.items;
        std::iter::from_fn(move || {
            let (&[kind, len], text) = rest.split_first_chunk()?;
            let (text, next) = text.split_at_checked(usize::from(len))?;
            rest = next;
            Some((kind, text))
        })
    }

    /// The canonical name.
    pub fn cname(&self) -> Option<&'a [u8]> {
        self.items().find_map(|(kind, text)| (kind == CNAME).then_some(text))
    }
}

impl Writer<'_> {
    /// A source description of nothing but the canonical name, at most 255 bytes.
    pub fn sdes_cname(&mut self, ssrc: u32, cname: &str) -> Result<(), Full> {
        let len = u8::try_from(cname.len()).map_err(|_| Full)?;
        self.append(packet_type::SDES, 1, |body| {
            body.put_u32(ssrc)?;
            body.put(&[CNAME, len])?;
            body.put(cname.as_bytes())?;
            body.put(&[END])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Packet, RtcpError, packets};
    use crate::rtp::test_support::hex;

    #[test]
    fn two_chunks_with_several_items() {
        let bytes = hex("82 ca 0007 \
             00000001 01 03 612f62 02 01 63 00000000 \
             00000002 08 00 01 01 7a 000000");
        let Some(Ok(Packet::Sdes(sdes))) = packets(&bytes).next() else { panic!() };
        let chunks: Vec<_> = sdes.chunks().collect();
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[0].ssrc, 1);
        assert_eq!(chunks[0].items().collect::<Vec<_>>(), [(1, &b"a/b"[..]), (2, &b"c"[..])]);
        assert_eq!(chunks[0].cname(), Some(&b"a/b"[..]));
        assert_eq!(chunks[1].ssrc, 2);
        assert_eq!(chunks[1].items().collect::<Vec<_>>(), [(8, &b""[..]), (1, &b"z"[..])]);
    }

    #[test]
    fn chunks_that_do_not_add_up() {
        for dump in [
            "81 ca 0000",
            "81 ca 0001 00000001",
            "81 ca 0002 00000001 01020304",
            "81 ca 0002 00000001 01ff0000",
            "81 ca 0002 00000001 01026161",
            "82 ca 0002 00000001 00000000",
        ] {
            let error = Err(RtcpError::Malformed(202));
            assert_eq!(packets(&hex(dump)).next(), Some(error), "{dump}");
        }
        assert!(packets(&hex("80 ca 0000")).all(|packet| packet.is_ok()));
    }

    #[test]
    fn cname_of_every_length_reads_back() {
        for len in 0..=255 {
            let cname = "x".repeat(len);
            let mut out = [0xff; 300];
            let mut writer = Writer::new(&mut out);
            writer.sdes_cname(7, &cname).unwrap();
            let end = writer.finish();
            assert_eq!(end, 4 + (4 + 2 + len + 1).next_multiple_of(4));
            let Some(Ok(Packet::Sdes(sdes))) = packets(&out[..end]).next() else { panic!() };
            let chunk = sdes.chunks().next().unwrap();
            assert_eq!((chunk.ssrc, chunk.cname()), (7, Some(cname.as_bytes())));
        }
        let mut out = [0; 300];
        assert_eq!(Writer::new(&mut out).sdes_cname(7, &"x".repeat(256)), Err(Full));
    }
}
