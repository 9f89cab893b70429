//! What the network and strangers do to datagrams.

use crate::dtls::record::{Fragments, MAX_MESSAGE_BYTES, Message, Record, Records, plain_record};

/// The body of a record with one fragment.
pub fn fragment(message: &Message, from: usize, to: usize) -> Vec<u8> {
    let mut body = vec![message.kind];
    body.extend_from_slice(&(message.body.len() as u32).to_be_bytes()[1..]);
    body.extend_from_slice(&message.seq.to_be_bytes());
    body.extend_from_slice(&(from as u32).to_be_bytes()[1..]);
    body.extend_from_slice(&((to - from) as u32).to_be_bytes()[1..]);
    body.extend_from_slice(&message.body[from..to]);
    body
}

/// The messages in the clear of a datagram.
pub fn messages(datagram: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    for record in Records(datagram) {
        let Ok(Record::Plain(body)) = record else { continue };
        for fragment in Fragments(body).flatten().filter(|fragment| fragment.is_whole()) {
            let body = fragment.bytes.to_vec();
            messages.push(Message { kind: fragment.kind, seq: fragment.seq, body });
        }
    }
    messages
}

/// Cuts the whole messages in the clear of a datagram into fragments of at most `size` bytes, each
/// in a datagram of its own; the rest follows as it was.
pub fn cut(datagram: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest) = (Vec::new(), Vec::new());
    for record in Records(datagram) {
        match record.expect("our own") {
            Record::Plain(body) => {
                for part in Fragments(body).map(|part| part.expect("our own")) {
                    if !part.is_whole() || part.length == 0 {
                        pieces.push(plain_record(body));
                        continue;
                    }
                    let body = part.bytes.to_vec();
                    let message = Message { kind: part.kind, seq: part.seq, body };
                    for from in (0..part.length).step_by(size) {
                        let to = part.length.min(from + size);
                        pieces.push(plain_record(&fragment(&message, from, to)));
                    }
                }
            }
            Record::Protected12(bytes) | Record::Protected13(bytes) => rest.extend(bytes),
            Record::ChangeCipherSpec => rest.extend(crate::dtls::record::CHANGE_CIPHER_SPEC),
            Record::Alert(_) => panic!("we send no alert in the clear"),
        }
    }
    pieces.extend((!rest.is_empty()).then_some(rest));
    pieces
}

/// Lengthens the ClientHello of a datagram by a padding extension (RFC 7685).
pub fn pad_client_hello(datagram: &[u8], padding: usize) -> Vec<u8> {
    const EXTENSION_PADDING: u16 = 0x0015;
    let mut hello = messages(datagram).remove(0);
    let body = &mut hello.body;
    // Version, random and two empty vectors; then suites and compressions.
    let suites = usize::from(u16::from_be_bytes([body[36], body[37]]));
    let at = 38 + suites + 2;
    body.extend_from_slice(&EXTENSION_PADDING.to_be_bytes());
    body.extend_from_slice(&(padding as u16).to_be_bytes());
    body.resize(body.len() + padding, 0);
    let length = (body.len() - at - 2) as u16;
    body[at..at + 2].copy_from_slice(&length.to_be_bytes());
    assert!(hello.body.len() <= MAX_MESSAGE_BYTES);
    hello.record()
}

/// An alert in the clear.
pub fn alert(level: u8, description: u8) -> Vec<u8> {
    vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, level, description]
}

/// A handshake message in the clear, whatever it says.
pub fn forged(kind: u8, seq: u16, body: &[u8]) -> Vec<u8> {
    Message { kind, seq, body: body.to_vec() }.record()
}
