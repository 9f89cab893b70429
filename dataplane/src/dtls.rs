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
const HANDSHAKE_HEADER_LEN: usize = 12;

/// Content types (RFC 9147 section 4.1, IANA "TLS ContentType"): change_cipher_spec to ack.
const FIRST_CONTENT_TYPE: u8 = 20;
const LAST_CONTENT_TYPE: u8 = 26;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// An alert is a level and a description (RFC 5246 section 7.2).
const ALERT_LEN: usize = 2;

/// Shortest record that DTLS 1.2 protects here: the tag of its AEAD.
const MIN_PROTECTED_LEN: usize = 16;

/// First byte of every DTLS version: 1.0 is 254.255, 1.2 and the legacy version of 1.3 are 254.253.
const VERSION_MAJOR: u8 = 0xfe;

/// Handshake types that come in the clear (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const CERTIFICATE: u8 = 11;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// The fixed bits of a unified header, and those that say what is in it.
const UNIFIED_MASK: u8 = 0xe0;
const UNIFIED: u8 = 0x20;
const HAS_CONNECTION_ID: u8 = 0x10;
const LONG_SEQUENCE: u8 = 0x08;
const HAS_LENGTH: u8 = 0x04;

/// Shortest encrypted record: the AEAD's tag and the content type (RFC 9147 section 4.2.3 needs
/// 16).
const MIN_CIPHERTEXT_LEN: usize = 16;

/// What a datagram of DTLS may be: what the most telling of its records is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flight {
    /// Nothing that any association waits for, whatever its state.
    Useless,
    /// One that anyone can begin or end an association with: a ClientHello, an alert.
    First,
    /// One that answers a flight of the other side: only who has received that can make a good one.
    /// Whether it is good only the association knows.
    Later,
    /// One with a protected record. It ends a handshake; once there are keys it carries what runs
    /// inside: data channels.
    Protected,
}

/// Reads the headers of a datagram's records.
///
/// # Errors
/// [`DropReason::DtlsMalformed`] when they are not those of DTLS, or say more bytes than there are.
pub fn inspect(datagram: &[u8]) -> Result<Flight, DropReason> {
    let mut rest = datagram;
    let mut flight = Flight::Useless;
    while let &[first, ..] = rest {
        let (record, of_record) = match first {
            FIRST_CONTENT_TYPE..=LAST_CONTENT_TYPE => plain_record(rest)?,
            _ if first & UNIFIED_MASK == UNIFIED => unified_record(rest)?,
            _ => return Err(DropReason::DtlsMalformed),
        };
        flight = flight.max(of_record);
        rest = &rest[record..];
    }
    Ok(flight)
}

/// Bytes of a record with a plain header, and what it may be.
fn plain_record(bytes: &[u8]) -> Result<(usize, Flight), DropReason> {
    let (header, body) =
        bytes.split_first_chunk::<RECORD_HEADER_LEN>().ok_or(DropReason::DtlsMalformed)?;
    let &[kind, major, _, e0, e1, .., l0, l1] = header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if major != VERSION_MAJOR || len > body.len() {
        return Err(DropReason::DtlsMalformed);
    }
    let flight = match (kind, [e0, e1]) {
        (HANDSHAKE, [0, 0]) => handshake(&body[..len]),
        (CHANGE_CIPHER_SPEC, [0, 0]) if body[..len] == [1] => Flight::Later,
        (ALERT, [0, 0]) if len == ALERT_LEN => Flight::First,
        // DTLS 1.2 protects one epoch; 1.3 has a header of its own for that.
        (ALERT..=APPLICATION_DATA, [0, 1]) if len >= MIN_PROTECTED_LEN => Flight::Protected,
        _ => Flight::Useless,
    };
    Ok((RECORD_HEADER_LEN + len, flight))
}

/// What a handshake record in the clear may be, by the header of its first fragment.
fn handshake(body: &[u8]) -> Flight {
    let Some((header, bytes)) = body.split_first_chunk::<HANDSHAKE_HEADER_LEN>() else {
        return Flight::Useless;
    };
    let u24 = |at: usize| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]);
    let (length, offset, here) = (u24(1), u24(6), u24(9));
    if here as usize > bytes.len() || offset + here > length {
        return Flight::Useless;
    }
    match header[0] {
        CLIENT_HELLO => Flight::First,
        SERVER_HELLO | HELLO_VERIFY_REQUEST | CERTIFICATE..=CLIENT_KEY_EXCHANGE => Flight::Later,
        _ => Flight::Useless,
    }
}

/// The same of an encrypted record of DTLS 1.3. Connection ids are never negotiated here.
fn unified_record(bytes: &[u8]) -> Result<(usize, Flight), DropReason> {
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
    Ok((header_len + len, Flight::Protected))
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
        let message = |kind: u8| record(22, 0, &[kind, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 7, 7]);
        let cases = [
            (message(1), Flight::First, "ClientHello"),
            (record(21, 0, &[2, 40]), Flight::First, "a plain alert"),
            (message(11), Flight::Later, "Certificate"),
            (message(2), Flight::Later, "ServerHello"),
            (record(20, 0, &[1]), Flight::Later, "ChangeCipherSpec"),
            (record(22, 1, &[0; 40]), Flight::Protected, "Finished"),
            (record(23, 1, &[0; 40]), Flight::Protected, "data"),
            ([&[0x2c, 0, 1, 0, 16][..], &[0; 16]].concat(), Flight::Protected, "DTLS 1.3"),
            ([&[0x22, 9][..], &[0; 16]].concat(), Flight::Protected, "DTLS 1.3, the short form"),
            (record(22, 0, &[]), Flight::Useless, "nothing"),
            (record(22, 0, &[1, 0, 0, 0]), Flight::Useless, "a piece of a header"),
            (message(0), Flight::Useless, "HelloRequest"),
            (message(20), Flight::Useless, "Finished in the clear"),
            (record(23, 0, &[0; 40]), Flight::Useless, "data in the clear"),
            (record(26, 0, &[0; 40]), Flight::Useless, "an acknowledgement in the clear"),
            (record(23, 1, &[0; 15]), Flight::Useless, "too short for a tag"),
            (record(23, 2, &[0; 40]), Flight::Useless, "an epoch without keys"),
            (record(20, 0, &[2]), Flight::Useless, "no ChangeCipherSpec"),
        ];
        for (datagram, flight, name) in &cases {
            assert_eq!(inspect(datagram), Ok(*flight), "{name}");
        }
        let together = [&cases[0].0[..], &cases[2].0, &cases[9].0].concat();
        assert_eq!(inspect(&together), Ok(Flight::Later), "records one behind the other");
    }

    #[test]
    fn a_fragment_that_reaches_out_of_its_message_or_record_is_useless() {
        let good = [11, 0, 0, 9, 0, 0, 0, 0, 7, 0, 0, 2, 7, 7];
        assert_eq!(inspect(&record(22, 0, &good)), Ok(Flight::Later));
        for (at, value) in [(3, 8), (8, 8), (11, 3), (9, 1), (6, 0xff)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(inspect(&record(22, 0, &bad)), Ok(Flight::Useless), "{bad:?}");
        }
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
