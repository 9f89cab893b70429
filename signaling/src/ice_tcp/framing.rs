//! Datagrams in a stream (RFC 4571 section 2): two bytes of length before each.
#![forbid(unsafe_code)]

use opencall_io::batch::MAX_DATAGRAM;

/// Bytes of the length before each datagram.
pub const PREFIX: usize = 2;

/// Room for the longest datagram and what came with it.
const CAPACITY: usize = 8 * (PREFIX + MAX_DATAGRAM);

/// Whether a stream that begins with this byte may carry datagrams: it is the high one of a length
/// that a core takes. No request of HTTP begins so low (RFC 9110 section 9.1), no record of TLS (20
/// to 23, RFC 8446 section 5.1), no PROXY header (`P`, or a line end).
pub const fn may_begin_with(byte: u8) -> bool {
    byte as usize <= MAX_DATAGRAM >> 8
}

/// A datagram that is longer than any that a data core takes: whoever sends it speaks something
/// else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Finds datagrams in what a stream brings, without a copy of any.
pub struct Deframer {
    buffer: Box<[u8]>,
    /// What lies between is not looked at yet.
    begin: usize,
    end: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Deframer { buffer: vec![0; CAPACITY].into_boxed_slice(), begin: 0, end: 0 }
    }
}

impl Deframer {
    /// Where to read to; never empty once [`Self::take`] has said that nothing is left.
    pub fn space(&mut self) -> &mut [u8] {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were read there.
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
    }

    /// The next whole datagram; empty ones, which keep paths open, are passed over.
    pub fn take(&mut self) -> Result<Option<&[u8]>, TooLong> {
        loop {
            let Some(&[high, low]) = self.buffer[self.begin..self.end].first_chunk() else {
                return Ok(None);
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > MAX_DATAGRAM {
                return Err(TooLong);
            }
            let from = self.begin + PREFIX;
            if self.end < from + len {
                return Ok(None);
            }
            self.begin = from + len;
            if len > 0 {
                return Ok(Some(&self.buffer[from..from + len]));
            }
        }
    }
}

/// Whether a datagram looks like a connectivity check: a STUN binding request (RFC 8489 section 5).
pub fn is_check(datagram: &[u8]) -> bool {
    datagram.len() >= 20
        && datagram.starts_with(&[0x00, 0x01])
        && datagram[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

/// Whether a datagram is the answer to a check that was its client's: a Binding success response.
pub fn is_success(datagram: &[u8]) -> bool {
    datagram.len() >= 20
        && datagram.starts_with(&[0x01, 0x01])
        && datagram[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datagrams out of a stream that comes in pieces of some length.
    fn read(stream: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut deframer = Deframer::default();
        let mut found = Vec::new();
        let mut left = stream;
        while !left.is_empty() {
            let space = deframer.space();
            let taken = piece.min(space.len()).min(left.len());
            assert!(taken > 0, "it stands still");
            space[..taken].copy_from_slice(&left[..taken]);
            deframer.filled(taken);
            left = &left[taken..];
            while let Some(datagram) = deframer.take()? {
                found.push(datagram.to_vec());
            }
        }
        Ok(found)
    }

    fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
        let frame = |datagram: &Vec<u8>| {
            let len = (datagram.len() as u16).to_be_bytes();
            [&len[..], datagram].concat()
        };
        datagrams.iter().flat_map(frame).collect()
    }

    #[test]
    fn datagrams_are_found_however_the_stream_is_cut() {
        let sizes = [1, 20, 1200, MAX_DATAGRAM, 3, MAX_DATAGRAM, MAX_DATAGRAM, 77];
        let datagrams: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(index, size)| vec![index as u8; *size]).collect();
        let stream = framed(&datagrams);
        for piece in [1, 2, 3, 7, 999, 1 << 20] {
            assert_eq!(read(&stream, piece).as_ref(), Ok(&datagrams), "in pieces of {piece}");
        }
    }

    #[test]
    fn empty_ones_are_passed_over_and_cut_ones_wait() {
        assert_eq!(read(&[0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 2, 1], 5), Ok(vec![vec![9]]));
        assert_eq!(read(&[], 1), Ok(vec![]));
        assert_eq!(read(&[0], 1), Ok(vec![]));
    }

    #[test]
    fn what_is_longer_than_a_datagram_is_refused_by_its_length_alone() {
        let [high, low] = (MAX_DATAGRAM as u16 + 1).to_be_bytes();
        assert_eq!(read(&[0, 1, 5, high, low], 3), Err(TooLong));
        // "GET / HTTP/1.1" and a TLS hello are refused so.
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n", 4), Err(TooLong));
        assert_eq!(read(&[0x16, 0x03, 0x01, 0x02, 0x00], 5), Err(TooLong));
    }

    #[test]
    fn the_first_byte_tells_datagrams_from_all_else_of_a_web_port() {
        for len in [0, 1, 20, 1200, MAX_DATAGRAM] {
            assert!(may_begin_with((len as u16).to_be_bytes()[0]), "{len}");
        }
        // A line of HTTP may follow empty ones. The preface of HTTP/2 is a line, too.
        let others: [&[u8]; 7] = [
            b"GET / HTTP/1.1",
            b"\r\nGET /",
            b"\n",
            b"PRI * HTTP/2.0",
            b"PROXY TCP4",
            &[0x16, 3, 1],
            &[0x80, 0x2e],
        ];
        for other in others {
            assert!(!may_begin_with(other[0]), "{other:x?}");
        }
    }

    #[test]
    fn a_check_has_a_kind_and_the_cookie() {
        let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        check.resize(20, 0);
        assert!(is_check(&check));
        assert!(!is_check(&check[..19]));
        assert!(!is_success(&check));
        check[1] = 3;
        assert!(!is_check(&check));
        check[..2].copy_from_slice(&[1, 1]);
        assert!(is_success(&check) && !is_success(&check[..19]));
    }
}
