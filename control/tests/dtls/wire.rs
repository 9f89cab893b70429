//! Records and fragments, written and read here anew, so that the endpoint's own reading is tested.

/// A whole handshake message in the clear.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: u8,
    pub seq: u16,
    pub body: Vec<u8>,
}

pub const CERTIFICATE: u8 = 11;

/// A record with any header.
pub fn record(content: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![content, 0xfe, 0xfd];
    out.extend(epoch.to_be_bytes());
    out.extend([0, 0, 0, 0, 0, 77]);
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

pub fn alert(level: u8, description: u8) -> Vec<u8> {
    record(21, 0, &[level, description])
}

/// A fragment that says of itself what it is told to say.
pub fn fragment(kind: u8, seq: u16, length: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(&length.to_be_bytes()[1..]);
    body.extend(seq.to_be_bytes());
    body.extend(&offset.to_be_bytes()[1..]);
    body.extend(&(bytes.len() as u32).to_be_bytes()[1..]);
    body.extend(bytes);
    record(22, 0, &body)
}

pub fn whole(kind: u8, seq: u16, body: &[u8]) -> Vec<u8> {
    fragment(kind, seq, body.len() as u32, 0, body)
}

impl Message {
    /// The bytes from one place to another, as a datagram.
    pub fn piece(&self, from: usize, to: usize) -> Vec<u8> {
        let (length, offset) = (self.body.len() as u32, from as u32);
        fragment(self.kind, self.seq, length, offset, &self.body[from..to])
    }
}

/// Takes a datagram apart: its messages in the clear, all of them whole, and its other records.
pub fn take_apart(datagram: &[u8]) -> (Vec<Message>, Vec<u8>) {
    let (mut messages, mut others) = (Vec::new(), Vec::new());
    for record in records(datagram) {
        match message(record) {
            Some(message) => messages.push(message),
            None if is_plain(record) => panic!("OpenSSL cut it: give it a larger MTU"),
            None => others.extend(record),
        }
    }
    (messages, others)
}

/// The whole messages in the clear of a datagram.
pub fn whole_messages(datagram: &[u8]) -> Vec<Message> {
    records(datagram).into_iter().filter_map(message).collect()
}

fn records(datagram: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = datagram;
    while rest.len() >= 13 {
        let end = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        let (record, after) = rest.split_at(end);
        records.push(record);
        rest = after;
    }
    records
}

fn is_plain(record: &[u8]) -> bool {
    record[0] == 22 && record[3..5] == [0, 0]
}

fn message(record: &[u8]) -> Option<Message> {
    let header = record.get(13..25).filter(|_| is_plain(record))?;
    let is_whole = header[1..4] == header[9..12];
    let seq = u16::from_be_bytes([header[4], header[5]]);
    is_whole.then(|| Message { kind: header[0], seq, body: record[25..].to_vec() })
}
