//! What the door for DTLS reads of a datagram: whether it can be DTLS at all, and whether it is an
//! answer. The records themselves are control's.
//!
//! ```text
//! DTLSPlaintext, DTLS 1.2 (RFC 6347 section 4.1, RFC 9147 section 4):
//!   type (8) | version (16) | epoch (16) | sequence number (48) | length (16) | fragment
//! Unified header, DTLS 1.3 (RFC 9147 section 4):
//!   0 0 1 C S L E E | connection id if C | sequence number 8 or 16 (S) | length 16 if L | record
//! ```
#![forbid(unsafe_code)]

use crate::drop_reason::DropReason;

const RECORD_HEADER_LEN: usize = 13;

/// Content types (RFC 9147 section 4.1, IANA "TLS ContentType"): change_cipher_spec to ack.
const FIRST_CONTENT_TYPE: u8 = 20;
const LAST_CONTENT_TYPE: u8 = 26;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// First byte of every DTLS version: 1.0 is 254.255, 1.2 and the legacy version of 1.3 are 254.253.
const VERSION_MAJOR: u8 = 0xfe;

/// Handshake type (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;

/// The fixed bits of a unified header, and those that say what is in it.
const UNIFIED_MASK: u8 = 0xe0;
const UNIFIED: u8 = 0x20;
const HAS_CONNECTION_ID: u8 = 0x10;
const LONG_SEQUENCE: u8 = 0x08;
const HAS_LENGTH: u8 = 0x04;

/// Shortest encrypted record: the AEAD's tag and the content type (RFC 9147 section 4.2.3 needs 16).
const MIN_CIPHERTEXT_LEN: usize = 16;

/// What a datagram of DTLS may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flight {
    /// One that anyone can begin or end an association with: a ClientHello, an alert.
    First,
    /// One that answers a flight of the other side: only who has received that can make a good one.
    /// Whether it is good only the association knows.
    Later,
}

/// Reads the headers of a datagram's records.
///
/// # Errors
/// [`DropReason::DtlsMalformed`] when they are not those of DTLS, or say more bytes than there are.
pub fn inspect(datagram: &[u8]) -> Result<Flight, DropReason> {
    let mut rest = datagram;
    let mut flight = Flight::First;
    while let &[first, ..] = rest {
        let (record, is_later) = match first {
            FIRST_CONTENT_TYPE..=LAST_CONTENT_TYPE => plain_record(rest)?,
            _ if first & UNIFIED_MASK == UNIFIED => unified_record(rest)?,
            _ => return Err(DropReason::DtlsMalformed),
        };
        if is_later {
            flight = Flight::Later;
        }
        rest = &rest[record..];
    }
    Ok(flight)
}

/// Bytes of a record with a plain header, and whether it belongs to a later flight.
fn plain_record(bytes: &[u8]) -> Result<(usize, bool), DropReason> {
    let (header, body) =
        bytes.split_first_chunk::<RECORD_HEADER_LEN>().ok_or(DropReason::DtlsMalformed)?;
    let &[kind, major, _, e0, e1, .., l0, l1] = header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if major != VERSION_MAJOR || len > body.len() {
        return Err(DropReason::DtlsMalformed);
    }
    let is_later = match kind {
        CHANGE_CIPHER_SPEC => true,
        _ if [e0, e1] != [0, 0] => true,
        HANDSHAKE => len > 0 && body[0] != CLIENT_HELLO,
        _ => false,
    };
    Ok((RECORD_HEADER_LEN + len, is_later))
}

/// The same of an encrypted record of DTLS 1.3. Connection ids are never negotiated here.
fn unified_record(bytes: &[u8]) -> Result<(usize, bool), DropReason> {
    let flags = bytes[0];
    if flags & HAS_CONNECTION_ID != 0 {
        return Err(DropReason::DtlsMalformed);
    }
    let number_len = if flags & LONG_SEQUENCE == 0 { 1 } else { 2 };
    let (header_len, len) = if flags & HAS_LENGTH == 0 {
        // The last of its datagram.
        (1 + number_len, bytes.len().saturating_sub(1 + number_len))
    } else {
        let at = 1 + number_len;
        let length = bytes.get(at..at + 2).and_then(|length| length.first_chunk::<2>());
        let length = length.ok_or(DropReason::DtlsMalformed)?;
        (at + 2, usize::from(u16::from_be_bytes(*length)))
    };
    if len < MIN_CIPHERTEXT_LEN || header_len + len > bytes.len() {
        return Err(DropReason::DtlsMalformed);
    }
    Ok((header_len + len, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, 0, body.len() as u8];
        record.extend_from_slice(body);
        record
    }

    #[test]
    fn an_answer_is_told_from_what_anyone_can_send() {
        let cases = [
            (record(22, 0, &[1, 0, 0, 0]), Flight::First, "ClientHello"),
            (record(21, 0, &[2, 40]), Flight::First, "a plain alert"),
            (record(22, 0, &[]), Flight::First, "nothing"),
            (record(22, 0, &[11, 0, 0, 0]), Flight::Later, "Certificate"),
            (record(20, 0, &[1]), Flight::Later, "ChangeCipherSpec"),
            (record(22, 1, &[0; 40]), Flight::Later, "Finished"),
            (record(23, 1, &[0; 40]), Flight::Later, "data"),
            ([&[0x2c, 0, 1, 0, 16][..], &[0; 16]].concat(), Flight::Later, "DTLS 1.3"),
            ([&[0x22, 9][..], &[0; 16]].concat(), Flight::Later, "DTLS 1.3, the short form"),
        ];
        for (datagram, flight, name) in &cases {
            assert_eq!(inspect(datagram), Ok(*flight), "{name}");
        }
        let together = [&cases[0].0[..], &cases[3].0].concat();
        assert_eq!(inspect(&together), Ok(Flight::Later), "records one behind the other");
    }

    #[test]
    fn what_cannot_be_dtls_is_refused() {
        let malformed = Err(DropReason::DtlsMalformed);
        let good = record(22, 0, &[1, 0, 0, 0]);
        for len in 1..good.len() {
            assert_eq!(inspect(&good[..len]), malformed, "{len} bytes");
        }
        let mut version = good.clone();
        version[1] = 3;
        let behind = [&good[..], &[0x50; 20]].concat();
        let unified = |header: &[u8], len: usize| [header, &vec![0; len][..]].concat();
        let cases = [
            version,
            behind,
            unified(&[0x3c, 0, 1, 0, 16], 16), // with a connection id
            unified(&[0x2c, 0, 1, 0, 16], 15), // shorter than it says
            unified(&[0x2c, 0, 1, 0, 15], 15), // too short for a tag
            unified(&[0x22, 9], 15),
            unified(&[0x2c], 0),
        ];
        for datagram in cases {
            assert_eq!(inspect(&datagram), malformed, "{datagram:02x?}");
        }
    }
}
