//! Records and handshake fragments as they stand on the wire (RFC 6347 section 4, RFC 9147 section
//! 4), before anything in them is believed. Whatever contradicts itself goes no further, by a name.
#![forbid(unsafe_code)]

macro_rules! dtls_drops {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// Why a DTLS record, or a message in it, went no further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DtlsDrop { $($(#[doc = $doc])+ $name,)+ }

        impl DtlsDrop {
            /// All of them, in counter order.
            pub const ALL: &'static [DtlsDrop] = &[$(DtlsDrop::$name,)+];

            /// The label in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(DtlsDrop::$name => $label,)+ }
            }
        }
    };
}

dtls_drops! {
    /// A record whose header lies about its length, or of an unknown version or content type.
    RecordMalformed => "record_malformed",
    /// A handshake fragment that reaches beyond its message or record, or belongs to a message
    /// longer than any that is accepted.
    FragmentMalformed => "fragment_malformed",
    /// An alert in the clear, which anyone may have sent.
    PlaintextAlert => "plaintext_alert",
    /// Application data or an acknowledgement in the clear.
    PlaintextData => "plaintext_data",
    /// A handshake message that the handshake has no use for where it stands.
    UnexpectedMessage => "unexpected_message",
    /// A handshake message that was received before.
    Repeated => "repeated",
    /// A ClientHello or ServerHello that cannot be read, or that nothing can come of.
    HelloRefused => "hello_refused",
    /// One more ClientHello or ServerHello than are followed at a time.
    TooManyHellos => "too_many_hellos",
    /// A certificate that is not the announced one, or a signature that does not verify.
    NotAuthentic => "not_authentic",
    /// A protected record for which there are no keys yet.
    NoKeys => "no_keys",
    /// More fragments of unfinished messages than are kept.
    TooManyFragments => "too_many_fragments",
}

/// One counter per [`DtlsDrop`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DtlsDropCounters([u64; DtlsDrop::ALL.len()]);

impl DtlsDropCounters {
    /// Counts one drop.
    pub fn count(&mut self, drop: DtlsDrop) {
        self.0[drop as usize] += 1;
    }

    /// How often this happened.
    pub fn of(&self, drop: DtlsDrop) -> u64 {
        self.0[drop as usize]
    }

    /// Adds the counts of another and sets those to zero.
    pub(crate) fn take(&mut self, other: &mut DtlsDropCounters) {
        for (ours, theirs) in self.0.iter_mut().zip(&mut other.0) {
            *ours += std::mem::take(theirs);
        }
    }

    /// Every drop that happened at least once.
    pub fn iter(&self) -> impl Iterator<Item = (DtlsDrop, u64)> + '_ {
        DtlsDrop::ALL.iter().map(|&drop| (drop, self.of(drop))).filter(|&(_, count)| count > 0)
    }
}

pub(super) const RECORD_HEADER: usize = 13;
pub(super) const HANDSHAKE_HEADER: usize = 12;

/// Longest handshake message that is put together: a certificate with an 8192-bit key and a few
/// extensions has 3 KiB, a ClientHello with post-quantum keys 2 KiB; below what one record holds.
pub(super) const MAX_MESSAGE_BYTES: usize = 12 * 1024;

const CONTENT_CHANGE_CIPHER_SPEC: u8 = 20;
const CONTENT_ALERT: u8 = 21;
const CONTENT_HANDSHAKE: u8 = 22;
const CONTENT_APPLICATION_DATA: u8 = 23;
const CONTENT_ACK: u8 = 26;

/// DTLS 1.0, which records of a first ClientHello may bear, and 1.2, which all others bear.
const VERSIONS: [[u8; 2]; 2] = [[0xfe, 0xff], [0xfe, 0xfd]];

/// A ChangeCipherSpec. It authenticates nothing and says nothing that the order of the messages
/// does not, so the library gets ours when it is due, and those that arrive are passed over.
pub(super) const CHANGE_CIPHER_SPEC: [u8; RECORD_HEADER + 1] =
    [CONTENT_CHANGE_CIPHER_SPEC, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// In the clear: what it holds.
    Plain(&'a [u8]),
    /// A ChangeCipherSpec.
    ChangeCipherSpec,
    /// An alert in the clear: its description.
    Alert(u8),
    /// Protected as DTLS 1.2 does it: the whole record.
    Protected12(&'a [u8]),
    /// Protected as DTLS 1.3 does it: the whole record.
    Protected13(&'a [u8]),
}

/// The records of a datagram. After a malformed one there is nothing more to find.
pub(super) struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, DtlsDrop>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.0.first()?;
        // RFC 9147 section 4.1: 001 are the first bits of a DTLSCiphertext.
        let end = if first & 0xe0 == 0x20 { ciphertext_len(self.0) } else { record_len(self.0) };
        let split = end.and_then(|end| self.0.split_at_checked(end));
        let Some((record, rest)) = split else {
            self.0 = &[];
            return Some(Err(DtlsDrop::RecordMalformed));
        };
        self.0 = rest;
        if first & 0xe0 == 0x20 {
            return Some(Ok(Record::Protected13(record)));
        }
        Some(classify(record))
    }
}

/// The length of a record with the long header.
fn record_len(bytes: &[u8]) -> Option<usize> {
    Some(RECORD_HEADER + usize::from(u16_at(bytes, 11)?))
}

/// The length of a record with the unified header (RFC 9147 section 4), which we accept without a
/// connection id: we offered none.
fn ciphertext_len(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.first()?;
    let (has_connection_id, long_sequence, has_length) =
        (flags & 0x10 != 0, flags & 0x08 != 0, flags & 0x04 != 0);
    if has_connection_id {
        return None;
    }
    let header = if long_sequence { 3 } else { 2 };
    match has_length {
        true => Some(header + 2 + usize::from(u16_at(bytes, header)?)),
        false => Some(bytes.len()),
    }
}

fn classify(record: &[u8]) -> Result<Record<'_>, DtlsDrop> {
    let (content, version) = (record[0], [record[1], record[2]]);
    if !VERSIONS.contains(&version) {
        return Err(DtlsDrop::RecordMalformed);
    }
    let body = &record[RECORD_HEADER..];
    match (content, [record[3], record[4]]) {
        (CONTENT_HANDSHAKE, [0, 0]) => Ok(Record::Plain(body)),
        (CONTENT_CHANGE_CIPHER_SPEC, [0, 0]) if body == [1] => Ok(Record::ChangeCipherSpec),
        (CONTENT_ALERT, [0, 0]) if body.len() == 2 => Ok(Record::Alert(body[1])),
        (CONTENT_APPLICATION_DATA | CONTENT_ACK, [0, 0]) => Err(DtlsDrop::PlaintextData),
        // There is but one epoch with keys: renegotiation is not offered.
        (CONTENT_HANDSHAKE | CONTENT_ALERT | CONTENT_APPLICATION_DATA, [0, 1]) => {
            Ok(Record::Protected12(record))
        }
        _ => Err(DtlsDrop::RecordMalformed),
    }
}

/// One fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub kind: u8,
    /// The message's number in the handshake.
    pub seq: u16,
    /// Bytes of the whole message.
    pub length: usize,
    pub offset: usize,
    pub bytes: &'a [u8],
}

impl Fragment<'_> {
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.length
    }
}

/// The fragments in the body of a handshake record, of which there may be several.
pub(super) struct Fragments<'a>(pub &'a [u8]);

impl<'a> Iterator for Fragments<'a> {
    type Item = Result<Fragment<'a>, DtlsDrop>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (fragment, rest) = match split_fragment(self.0) {
            Some((fragment, rest)) => (Ok(fragment), rest),
            None => (Err(DtlsDrop::FragmentMalformed), &[][..]),
        };
        self.0 = rest;
        Some(fragment)
    }
}

fn split_fragment(bytes: &[u8]) -> Option<(Fragment<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HANDSHAKE_HEADER)?;
    let u24 =
        |at: usize| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]) as usize;
    let (length, offset, here) = (u24(1), u24(6), u24(9));
    let (bytes, rest) = rest.split_at_checked(here)?;
    let fits = length <= MAX_MESSAGE_BYTES && offset + here <= length;
    // An empty fragment of a message that is not empty adds nothing.
    let adds = here > 0 || length == 0;
    let seq = u16::from_be_bytes([header[4], header[5]]);
    let fragment = Fragment { kind: header[0], seq, length, offset, bytes };
    (fits && adds).then_some((fragment, rest))
}

/// A whole handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    pub seq: u16,
    pub body: Vec<u8>,
}

impl Message {
    /// Header and body as the DTLS 1.2 transcript has them: as if in one fragment (RFC 6347 section
    /// 4.2.6).
    pub fn write(&self, out: &mut Vec<u8>) {
        // It fits: a body has at most MAX_MESSAGE_BYTES.
        let length = (self.body.len() as u32).to_be_bytes();
        out.push(self.kind);
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0]);
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&self.body);
    }

    /// A record in the clear that holds the message.
    pub fn record(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HANDSHAKE_HEADER + self.body.len());
        self.write(&mut body);
        plain_record(&body)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A record in the clear with this body. Its own number is of no account: there is no replay window
/// in the clear.
pub(super) fn plain_record(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_HEADER + body.len());
    out.extend_from_slice(&[CONTENT_HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(body);
    out
}
