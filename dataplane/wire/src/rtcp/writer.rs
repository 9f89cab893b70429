//! Puts RTCP packets behind one another (RFC 3550 section 6.1).
//!
//! Each kind of packet adds its own method to [`Writer`], in its own file.
#![forbid(unsafe_code)]

use thiserror::Error;

use super::{HEADER_LEN, VERSION};

/// The packet was not written: there is not enough space, or a value is too large for its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the RTCP packet does not fit: flush what is written and begin a new datagram")]
pub struct Full;

/// Writes packets into a buffer. A packet that does not fit leaves what is there as it was.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    /// Bytes of whole packets, a multiple of 4.
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Writer { out, len: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long the datagram is.
    pub fn finish(self) -> usize {
        self.len
    }

    /// Appends one packet; `write` makes its body, which is padded with zeros to whole words.
    pub(super) fn append(
        &mut self,
        packet_type: u8,
        count: u8,
        write: impl FnOnce(&mut Body<'_>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let packet = self.out.get_mut(self.len..).ok_or(Full)?;
        let (header, out) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(Full)?;
        let mut body = Body { out, len: 0 };
        write(&mut body)?;
        body.pad()?;
        let body_len = body.len;
        let [l0, l1] = u16::try_from(body_len / 4).map_err(|_| Full)?.to_be_bytes();
        *header = [VERSION << 6 | count & 0x1f, packet_type, l0, l1];
        self.len += HEADER_LEN + body_len;
        Ok(())
    }
}

/// What follows the header of a packet being written.
pub(super) struct Body<'w> {
    out: &'w mut [u8],
    len: usize,
}

impl Body<'_> {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(bytes.len()).ok_or(Full)?;
        self.out.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    pub(super) fn put_u32(&mut self, number: u32) -> Result<(), Full> {
        self.put(&number.to_be_bytes())
    }

    fn pad(&mut self) -> Result<(), Full> {
        let missing = self.len.next_multiple_of(4) - self.len;
        self.put([0; 4].get(..missing).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{DelaySinceLastRr, packets};
    use crate::time::NtpTime;

    #[test]
    fn a_packet_that_does_not_fit_changes_nothing() {
        let mut out = [0; 31];
        let mut writer = Writer::new(&mut out);
        assert!(writer.is_empty());
        writer.receiver_report(1, &[]).unwrap();
        writer.pli(1, 2).unwrap();
        assert_eq!(writer.len(), 20);
        assert_eq!(writer.pli(1, 3), Err(Full));
        assert_eq!(writer.nack(1, 3, [1u16].into_iter()), Err(Full));
        writer.receiver_report(4, &[]).unwrap();
        let len = writer.finish();
        assert_eq!(len, 28);
        assert_eq!(packets(&out[..len]).filter(Result::is_ok).count(), 3);
    }

    const ITEM: DelaySinceLastRr = DelaySinceLastRr { ssrc: 1, last_rr: 2, delay_since_last_rr: 3 };

    #[test]
    fn every_packet_says_when_the_buffer_is_one_byte_short() {
        type Write = fn(&mut Writer<'_>) -> Result<(), Full>;
        let all: [Write; 11] = [
            |w| w.sender_report(1, &Default::default(), &[Default::default(); 3]),
            |w| w.receiver_report(1, &[Default::default(); 31]),
            |w| w.sdes_cname(1, "abc"),
            |w| w.bye(1),
            |w| w.nack(1, 2, [1u16, 100, 200].into_iter()),
            |w| w.pli(1, 2),
            |w| w.fir(1, 2, 3),
            |w| w.remb(1, 2, &[3, 4]),
            |w| w.transport_cc(1, 2, 3, 4, 5, &[Some(1), None, Some(1000)]),
            |w| w.receiver_reference_time(1, NtpTime(2)),
            |w| w.dlrr(1, &[ITEM; 3]),
        ];
        for write in all {
            let mut out = [0; 1500];
            let mut writer = Writer::new(&mut out);
            write(&mut writer).unwrap();
            let len = writer.finish();
            for short in 0..len {
                let mut writer = Writer::new(&mut out[..short]);
                assert_eq!(write(&mut writer), Err(Full));
                assert_eq!(writer.finish(), 0);
            }
        }
    }
}
