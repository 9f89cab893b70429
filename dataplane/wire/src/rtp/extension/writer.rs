//! Writes a header with its extensions (RFC 3550 section 5.1, RFC 8285 section 4).
#![forbid(unsafe_code)]

use super::{ExtensionForm, ONE_BYTE_PROFILE, TWO_BYTE_PROFILE};
use crate::rtp::header::{FIXED_LEN, OutgoingHeader, VERSION, mark_padded};

/// Writes a header and its extensions in one pass.
///
/// An element that does not fit (the space, or the form) is remembered and makes
/// [`HeaderWriter::finish`] say `None`, so that the calls before it need no checks.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    out: &'a mut [u8],
    /// Bytes written so far.
    len: usize,
    form: ExtensionForm,
    fits: bool,
}

impl<'a> HeaderWriter<'a> {
    /// Begins with the fixed header; `None` if not even that fits. `form` is the greatest that the
    /// elements to come need, see [`ExtensionForm::needed`].
    #[inline]
    pub fn new(out: &'a mut [u8], fields: OutgoingHeader, form: ExtensionForm) -> Option<Self> {
        let header = out.first_chunk_mut::<FIXED_LEN>()?;
        header[0] = VERSION << 6;
        fields.fill_in(header);
        Some(HeaderWriter { out, len: FIXED_LEN, form, fits: true })
    }

    /// Goes on behind the elements of a header that ends at `end`, in the form it is written in.
    #[inline]
    pub fn resume(out: &'a mut [u8], end: usize, form: ExtensionForm) -> Self {
        HeaderWriter { out, len: end, form, fits: true }
    }

    /// Where the elements so far end.
    #[inline]
    pub fn end(&self) -> usize {
        self.len
    }

    /// Says that the payload will end in padding.
    #[inline]
    pub fn padded(self) -> Self {
        mark_padded(self.out);
        self
    }

    /// Appends one extension.
    #[inline]
    pub fn extension(mut self, id: u8, data: &[u8]) -> Self {
        if self.fits {
            self.fits = self.push(id, data).is_some();
        }
        self
    }

    /// Pads the block and fills in its length. The length of the header, which is where the
    /// payload goes; `None` if something did not fit.
    #[inline]
    pub fn finish(self) -> Option<usize> {
        if !self.fits {
            return None;
        }
        if self.len == FIXED_LEN {
            return Some(FIXED_LEN);
        }
        let end = self.len.next_multiple_of(4);
        self.out.get_mut(self.len..end)?.fill(0);
        let words = u16::try_from((end - BLOCK_OFFSET) / 4).ok()?.to_be_bytes();
        self.out.get_mut(FIXED_LEN + 2..BLOCK_OFFSET)?.copy_from_slice(&words);
        Some(end)
    }

    #[inline]
    fn push(&mut self, id: u8, data: &[u8]) -> Option<()> {
        if id == 0 || ExtensionForm::needed(id, data.len()) > self.form {
            return None;
        }
        if self.len == FIXED_LEN {
            self.open_block()?;
        }
        let len = u8::try_from(data.len()).ok()?;
        let head_len = match self.form {
            ExtensionForm::OneByte => {
                *self.out.get_mut(self.len)? = id << 4 | len.wrapping_sub(1) & 0x0f;
                1
            }
            ExtensionForm::TwoByte => {
                *self.out.get_mut(self.len..)?.first_chunk_mut()? = [id, len];
                2
            }
        };
        let start = self.len + head_len;
        let end = start + data.len();
        self.out.get_mut(start..end)?.copy_from_slice(data);
        self.len = end;
        Some(())
    }

    #[inline]
    fn open_block(&mut self) -> Option<()> {
        let profile = match self.form {
            ExtensionForm::OneByte => ONE_BYTE_PROFILE,
            ExtensionForm::TwoByte => TWO_BYTE_PROFILE,
        };
        let [p0, p1] = profile.to_be_bytes();
        *self.out.get_mut(FIXED_LEN..)?.first_chunk_mut()? = [p0, p1, 0, 0];
        *self.out.first_mut()? |= 0x10;
        self.len = BLOCK_OFFSET;
        Some(())
    }
}

/// Where the extension data begins in the headers written here, which have no CSRCs.
const BLOCK_OFFSET: usize = FIXED_LEN + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::extension::ExtensionSpans;
    use crate::rtp::extension::{Extension, ExtensionIds};
    use crate::rtp::header::RtpHeader;
    use crate::rtp::test_support::{Random, hex};

    const FIELDS: OutgoingHeader = OutgoingHeader {
        marker: true,
        payload_type: 96,
        sequence: 0x1234,
        timestamp: 0x89ab_cdef,
        ssrc: 0xdead_beef,
    };

    fn writer(out: &mut [u8], form: ExtensionForm) -> HeaderWriter<'_> {
        HeaderWriter::new(out, FIELDS, form).unwrap()
    }

    #[test]
    fn written_bytes() {
        let mut out = [0xff; 64];
        let len = writer(&mut out, ExtensionForm::OneByte).finish().unwrap();
        assert_eq!(out[..len], hex("80 e0 1234 89abcdef deadbeef"));

        let len = writer(&mut out, ExtensionForm::OneByte)
            .extension(1, b"0")
            .extension(5, &[0xab, 0xcd])
            .finish()
            .unwrap();
        assert_eq!(out[..len], hex("90 e0 1234 89abcdef deadbeef bede 0002 10 30 51 abcd 000000"));

        let len = writer(&mut out, ExtensionForm::TwoByte)
            .padded()
            .extension(15, b"")
            .extension(200, &[7])
            .finish()
            .unwrap();
        assert_eq!(out[..len], hex("b0 e0 1234 89abcdef deadbeef 1000 0002 0f 00 c8 01 07 000000"));
    }

    #[test]
    fn what_does_not_fit() {
        let mut out = [0; 20];
        assert!(HeaderWriter::new(&mut out[..11], FIELDS, ExtensionForm::OneByte).is_none());
        for (name, space, form, id, len) in [
            ("no space for the block", 15, ExtensionForm::OneByte, 1, 1),
            ("no space for the element", 18, ExtensionForm::OneByte, 1, 3),
            ("no space for the padding", 19, ExtensionForm::OneByte, 1, 2),
            ("id 0", 20, ExtensionForm::TwoByte, 0, 1),
            ("id 15 needs two bytes", 20, ExtensionForm::OneByte, 15, 1),
            ("so does an empty element", 20, ExtensionForm::OneByte, 1, 0),
            ("and one of 17 bytes", 20, ExtensionForm::OneByte, 1, 17),
            ("no form holds 256 bytes", 20, ExtensionForm::TwoByte, 1, 256),
        ] {
            let writer = writer(&mut out[..space], form);
            assert_eq!(writer.extension(id, &vec![1; len]).finish(), None, "{name}");
        }
        let fitting = writer(&mut out, ExtensionForm::OneByte).extension(1, &[1; 3]);
        assert_eq!(fitting.finish(), Some(20));
    }

    #[test]
    fn random_headers_read_back_as_written() {
        let mut random = Random(2);
        for _ in 0..20_000 {
            let mut ids = ExtensionIds::default();
            let mut values: Vec<(Extension, u8, Vec<u8>)> = Vec::new();
            let mut form = ExtensionForm::OneByte;
            for extension in Extension::ALL {
                let id = (extension as u8 + 1) * if random.one_in(8) { 20 } else { 1 };
                if random.one_in(2) || ids.extension(id).is_some() {
                    continue;
                }
                let len = if random.one_in(10) { random.below(40) } else { 1 + random.below(8) };
                ids.set(extension, id);
                form = form.max(ExtensionForm::needed(id, len));
                values.push((extension, id, random.bytes(len)));
            }
            let mut out = [0xa5; 1500];
            let fields = OutgoingHeader {
                marker: random.one_in(2),
                payload_type: random.below(128) as u8,
                sequence: random.bits() as u16,
                timestamp: random.bits() as u32,
                ssrc: random.bits() as u32,
            };
            let writer = HeaderWriter::new(&mut out, fields, form).unwrap();
            let writer = values.iter().fold(writer, |w, (_, id, value)| w.extension(*id, value));
            let len = writer.finish().unwrap();
            let header = RtpHeader::parse(&out).unwrap();
            assert_eq!(usize::from(header.header_len), len);
            assert_eq!(
                fields,
                OutgoingHeader {
                    marker: header.marker,
                    payload_type: header.payload_type,
                    sequence: header.sequence,
                    timestamp: header.timestamp,
                    ssrc: header.ssrc,
                }
            );
            let spans = ExtensionSpans::parse(&out, &header, &ids);
            for extension in Extension::ALL {
                let want = values.iter().find(|v| v.0 == extension).map(|v| v.2.as_slice());
                assert_eq!(spans.of(extension, &out), want);
            }
        }
    }
}
