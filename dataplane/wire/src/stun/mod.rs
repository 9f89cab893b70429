//! The STUN of ICE: reading Binding requests and writing their answers (RFC 8489 sections 5 and 14,
//! RFC 8445 section 16.1).
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::str;

pub mod client;
mod integrity;

pub use integrity::IntegrityKeys;
use integrity::{ATTRIBUTE_HEADER_LEN, Algorithm, HEADER_LEN, fingerprint, length_with_attribute};

/// Bytes of the longest answer: a 420 that names eight attributes under a SHA-256 tag. The usual
/// answers have 64 bytes (IPv4) and 76 (IPv6), less than the request had.
pub const MAX_RESPONSE_LEN: usize =
    HEADER_LEN + 8 + (4 + 2 * MAX_UNKNOWN_ATTRIBUTES) + 36 + FINGERPRINT_LEN;

/// Unknown attributes named in a 420 at most. Such a request is wrong whatever the rest of it says,
/// and one name is enough to find out why.
const MAX_UNKNOWN_ATTRIBUTES: usize = 8;

/// Bytes of USERNAME at most: two user fragments of 256 characters and the colon (RFC 8445
/// section 5.3).
const MAX_USERNAME_LEN: usize = 513;

/// Why a message was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Against the format, or without USERNAME, an integrity attribute or a right FINGERPRINT.
    #[error("malformed, or without a needed attribute")]
    Malformed,
    /// STUN, but no Binding request.
    #[error("no Binding request")]
    Unexpected,
}

const MALFORMED: StunError = StunError::Malformed;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// Attribute types (IANA "STUN Attributes"). Below 0x8000 a request must not be served without
/// understanding them.
mod attribute {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(super) const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub(super) const USERHASH: u16 = 0x001e;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    /// draft-thatcher-ice-renomination; libwebrtc sends it when asked to renominate.
    pub(super) const NOMINATION: u16 = 0x0030;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802a;
}

/// Bytes of FINGERPRINT, which ends every message of ICE.
const FINGERPRINT_LEN: usize = ATTRIBUTE_HEADER_LEN + 4;

/// What ties an answer to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// The role a client claims, and its tie-breaker (RFC 8445 section 7.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRole {
    /// It nominates: what a lite agent's peer has to be.
    Controlling(u64),
    /// It waits for us to nominate: a role conflict.
    Controlled(u64),
}

/// A Binding request that is well formed, but not yet authenticated: anyone may have written it.
#[derive(Debug, Clone, Copy)]
pub struct BindingRequest<'a> {
    raw: &'a [u8],
    transaction_id: TransactionId,
    ufrag: &'a str,
    remote_ufrag: &'a str,
    integrity: Integrity<'a>,
    attributes: Attributes,
}

/// The integrity attribute that counts: what it covers, and its tag.
#[derive(Debug, Clone, Copy)]
struct Integrity<'a> {
    algorithm: Algorithm,
    covered: &'a [u8],
    tag: &'a [u8],
}

/// The attributes of ICE, and those we have to say we do not know.
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    priority: Option<u32>,
    use_candidate: bool,
    nomination: Option<u32>,
    role: Option<ClientRole>,
    unknown: UnknownAttributes,
}

#[derive(Debug, Clone, Copy, Default)]
struct UnknownAttributes {
    types: [u16; MAX_UNKNOWN_ATTRIBUTES],
    len: usize,
}

impl UnknownAttributes {
    fn push(&mut self, kind: u16) {
        if let Some(slot) = self.types.get_mut(self.len) {
            *slot = kind;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[u16] {
        self.types.get(..self.len).unwrap_or_default()
    }
}

impl<'a> BindingRequest<'a> {
    /// The local part of USERNAME: our user fragment, which names the transport.
    pub fn ufrag(&self) -> &'a str {
        self.ufrag
    }

    /// The remote part of USERNAME: the client's user fragment.
    pub fn remote_ufrag(&self) -> &'a str {
        self.remote_ufrag
    }

    /// What ties the answer to this request.
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// Priority of the candidate pair as the client ranks it; consent checks may lack it.
    pub fn priority(&self) -> Option<u32> {
        self.attributes.priority
    }

    /// Whether USE-CANDIDATE is there.
    pub fn use_candidate(&self) -> bool {
        self.attributes.use_candidate
    }

    /// The renomination counter; of two nominations the one with the higher counter holds.
    pub fn nomination(&self) -> Option<u32> {
        self.attributes.nomination
    }

    /// The role the client claims; a client older than RFC 5245 claims none.
    pub fn role(&self) -> Option<ClientRole> {
        self.attributes.role
    }

    /// Attributes one has to understand and we do not: at most the first eight of them.
    pub fn unknown_attributes(&self) -> &[u16] {
        self.attributes.unknown.as_slice()
    }

    /// The whole message.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the client knows the password.
    pub fn is_authentic(&self, keys: &IntegrityKeys) -> bool {
        let Integrity { algorithm, covered, tag } = self.integrity;
        keys.verify(algorithm, covered, tag)
    }
}

/// Reads a Binding request as ICE sends them: short-term credentials and FINGERPRINT.
///
/// Attributes that come after the integrity attribute are skipped, as RFC 8489 section 14.5 says,
/// for anyone could have put them there. Of repeated attributes the first counts (section 14).
///
/// # Errors
/// [`StunError::Unexpected`] for STUN that is no Binding request: a lite agent asks nothing,
/// so answers are not for it, and it has no use for indications. [`StunError::Malformed`] for
/// what breaks the format or lacks USERNAME, an integrity attribute or a right FINGERPRINT.
pub fn parse_binding_request(datagram: &[u8]) -> Result<BindingRequest<'_>, StunError> {
    let (header, body) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(MALFORMED)?;
    let &[t0, t1, l0, l1, c0, c1, c2, c3, transaction_id @ ..] = header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if [c0, c1, c2, c3] != MAGIC_COOKIE || length != body.len() {
        return Err(MALFORMED);
    }
    if u16::from_be_bytes([t0, t1]) != BINDING_REQUEST {
        return Err(StunError::Unexpected);
    }

    let fingerprint_start = datagram.len().checked_sub(FINGERPRINT_LEN).ok_or(MALFORMED)?;
    let (before, last) = datagram.split_at_checked(fingerprint_start).ok_or(MALFORMED)?;
    let claimed = match AttributeReader::new(last).next() {
        Some(Ok((attribute::FINGERPRINT, value))) => read_u32(value)?,
        _ => return Err(MALFORMED),
    };

    let mut reader = AttributeReader::new(before.get(HEADER_LEN..).ok_or(MALFORMED)?);
    let mut attributes = Attributes::default();
    let mut username = None;
    let mut integrity: Option<Integrity<'_>> = None;
    loop {
        let covered = before.len() - reader.rest.len();
        let Some(next) = reader.next() else { break };
        let (kind, value) = next?;
        let algorithm = match kind {
            attribute::MESSAGE_INTEGRITY => Algorithm::Sha1,
            attribute::MESSAGE_INTEGRITY_SHA256 => Algorithm::Sha256,
            attribute::USERNAME if integrity.is_none() => {
                username.get_or_insert(value);
                continue;
            }
            // FINGERPRINT is the last attribute, and that one is cut off already.
            attribute::FINGERPRINT => return Err(MALFORMED),
            _ if integrity.is_none() => {
                attributes.read(kind, value)?;
                continue;
            }
            _ => continue,
        };
        if value.len() != algorithm.tag_len() {
            return Err(MALFORMED);
        }
        // With both attributes there, SHA-256 counts, and it comes second (RFC 8489 section 9.1.3).
        let supersedes = |found: &Integrity<'_>| {
            found.algorithm == Algorithm::Sha1 && algorithm == Algorithm::Sha256
        };
        if integrity.as_ref().is_none_or(supersedes) {
            let covered = before.get(..covered).unwrap_or_default();
            integrity = Some(Integrity { algorithm, covered, tag: value });
        }
    }

    let (ufrag, remote_ufrag) = split_username(username.ok_or(MALFORMED)?)?;
    let integrity = integrity.ok_or(MALFORMED)?;
    if fingerprint(before) != claimed {
        return Err(MALFORMED);
    }
    Ok(BindingRequest {
        raw: datagram,
        transaction_id: TransactionId(transaction_id),
        ufrag,
        remote_ufrag,
        integrity,
        attributes,
    })
}

impl Attributes {
    fn read(&mut self, kind: u16, value: &[u8]) -> Result<(), StunError> {
        match kind {
            attribute::PRIORITY => {
                let priority = read_u32(value)?;
                self.priority.get_or_insert(priority);
            }
            attribute::USE_CANDIDATE => {
                if !value.is_empty() {
                    return Err(MALFORMED);
                }
                self.use_candidate = true;
            }
            attribute::NOMINATION => {
                let nomination = read_u32(value)?;
                self.nomination.get_or_insert(nomination);
            }
            attribute::ICE_CONTROLLING => {
                let role = ClientRole::Controlling(read_u64(value)?);
                self.role.get_or_insert(role);
            }
            attribute::ICE_CONTROLLED => {
                let role = ClientRole::Controlled(read_u64(value)?);
                self.role.get_or_insert(role);
            }
            // Understood, but without meaning in a request with short-term credentials.
            attribute::MAPPED_ADDRESS
            | attribute::ERROR_CODE
            | attribute::UNKNOWN_ATTRIBUTES
            | attribute::REALM
            | attribute::NONCE
            | attribute::PASSWORD_ALGORITHM
            | attribute::USERHASH
            | attribute::XOR_MAPPED_ADDRESS => {}
            0x0000..=0x7fff => self.unknown.push(kind),
            0x8000..=0xffff => {}
        }
        Ok(())
    }
}

/// Walks attributes: type, length, value, padding to four bytes.
struct AttributeReader<'a> {
    rest: &'a [u8],
}

impl<'a> AttributeReader<'a> {
    fn new(rest: &'a [u8]) -> Self {
        AttributeReader { rest }
    }

    fn next(&mut self) -> Option<Result<(u16, &'a [u8]), StunError>> {
        if self.rest.is_empty() {
            return None;
        }
        let attribute = self.split_attribute().ok_or(MALFORMED);
        if attribute.is_err() {
            self.rest = &[];
        }
        Some(attribute)
    }

    fn split_attribute(&mut self) -> Option<(u16, &'a [u8])> {
        let (&[t0, t1, l0, l1], rest) = self.rest.split_first_chunk::<ATTRIBUTE_HEADER_LEN>()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let (padded, rest) = rest.split_at_checked(len.next_multiple_of(4))?;
        self.rest = rest;
        Some((u16::from_be_bytes([t0, t1]), padded.get(..len)?))
    }
}

fn read_u32(value: &[u8]) -> Result<u32, StunError> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| MALFORMED)
}

fn read_u64(value: &[u8]) -> Result<u64, StunError> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| MALFORMED)
}

/// `ours:theirs` (RFC 8445 section 7.2.2).
fn split_username(username: &[u8]) -> Result<(&str, &str), StunError> {
    if username.len() > MAX_USERNAME_LEN {
        return Err(MALFORMED);
    }
    str::from_utf8(username).ok().and_then(|name| name.split_once(':')).ok_or(MALFORMED)
}

/// Why a request was turned down (RFC 8489 section 14.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 420: it has attributes we do not know and must not ignore.
    UnknownAttribute,
    /// 487: the client must take the controlling role.
    RoleConflict,
}

impl ErrorCode {
    /// Hundreds and rest, as ERROR-CODE carries them.
    const fn class_and_number(self) -> [u8; 2] {
        match self {
            ErrorCode::UnknownAttribute => [4, 20],
            ErrorCode::RoleConflict => [4, 87],
        }
    }
}

/// Writes the answer to a good request; `None` when it does not fit into `out`.
pub fn write_success(
    request: &BindingRequest<'_>,
    source: SocketAddr,
    keys: &IntegrityKeys,
    out: &mut [u8],
) -> Option<usize> {
    let mut writer = Writer::new(out, BINDING_SUCCESS, request.transaction_id)?;
    writer.xor_mapped_address(source, request.transaction_id)?;
    writer.finish(request.integrity.algorithm, keys)
}

/// Writes the answer to a request that is authentic, but not acceptable; `None` when it does not
/// fit into `out`. The reason phrase is for people and left empty.
pub fn write_error(
    request: &BindingRequest<'_>,
    code: ErrorCode,
    keys: &IntegrityKeys,
    out: &mut [u8],
) -> Option<usize> {
    let mut writer = Writer::new(out, BINDING_ERROR, request.transaction_id)?;
    let [class, number] = code.class_and_number();
    writer.attribute(attribute::ERROR_CODE, &[0, 0, class, number])?;
    if code == ErrorCode::UnknownAttribute {
        let mut types = [0; 2 * MAX_UNKNOWN_ATTRIBUTES];
        let unknown = request.unknown_attributes();
        for (slot, kind) in types.chunks_exact_mut(2).zip(unknown) {
            slot.copy_from_slice(&kind.to_be_bytes());
        }
        writer.attribute(attribute::UNKNOWN_ATTRIBUTES, types.get(..2 * unknown.len())?)?;
    }
    writer.finish(request.integrity.algorithm, keys)
}

/// Writes a message from front to back. `None` from any method: out of room.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8], kind: u16, TransactionId(id): TransactionId) -> Option<Self> {
        let mut writer = Writer { out, len: 0 };
        writer.bytes(&kind.to_be_bytes())?;
        writer.bytes(&[0, 0])?;
        writer.bytes(&MAGIC_COOKIE)?;
        writer.bytes(&id)?;
        Some(writer)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        self.bytes(&kind.to_be_bytes())?;
        self.bytes(&u16::try_from(value.len()).ok()?.to_be_bytes())?;
        self.bytes(value)?;
        let padding = value.len().next_multiple_of(4) - value.len();
        self.bytes([0; 3].get(..padding)?)
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2): the address hidden from NATs that would mend it.
    fn xor_mapped_address(&mut self, addr: SocketAddr, id: TransactionId) -> Option<()> {
        let mut mask = [0; 16];
        let (cookie_mask, id_mask) = mask.split_at_mut(MAGIC_COOKIE.len());
        cookie_mask.copy_from_slice(&MAGIC_COOKIE);
        id_mask.copy_from_slice(&id.0);

        let mut value = [0; 20];
        let (head, address) = value.split_at_mut(4);
        let [p0, p1] = addr.port().to_be_bytes();
        let address_len = match addr.ip() {
            IpAddr::V4(ip) => {
                head[1] = 0x01;
                address[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                head[1] = 0x02;
                address.copy_from_slice(&ip.octets());
                16
            }
        };
        head[2] = p0 ^ mask[0];
        head[3] = p1 ^ mask[1];
        for (byte, mask) in address.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        self.attribute(attribute::XOR_MAPPED_ADDRESS, value.get(..4 + address_len)?)
    }

    /// Ends the message with the integrity attribute the request used and with FINGERPRINT.
    fn finish(mut self, algorithm: Algorithm, keys: &IntegrityKeys) -> Option<usize> {
        let tag = keys.sign(algorithm, self.out.get(..self.len)?);
        let kind = match algorithm {
            Algorithm::Sha1 => attribute::MESSAGE_INTEGRITY,
            Algorithm::Sha256 => attribute::MESSAGE_INTEGRITY_SHA256,
        };
        self.attribute(kind, tag.as_ref())?;
        let length = length_with_attribute(self.out.get(..self.len)?, FINGERPRINT_LEN - 4);
        self.out.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
        let fingerprint = fingerprint(self.out.get(..self.len)?);
        self.attribute(attribute::FINGERPRINT, &fingerprint.to_be_bytes())?;
        Some(self.len)
    }
}

#[cfg(test)]
mod test_client;
#[cfg(test)]
mod tests;
