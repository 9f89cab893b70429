//! Connectivity checks of the controlling side (RFC 8445 section 7, RFC 8489).

use aws_lc_rs::hmac;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

/// "STUN", with which the CRC is mixed.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Priority of a peer-reflexive candidate, as browsers compute it.
const PEER_REFLEXIVE_PRIORITY: u32 = 0x6e7f_1eff;

/// Writes the checks of one transport.
pub struct Checker {
    username: String,
    key: hmac::Key,
    tie_breaker: u64,
}

impl Checker {
    /// Checks towards a server with these credentials.
    pub fn new(server_ufrag: &str, server_pwd: &str, tie_breaker: u64) -> Self {
        Checker {
            username: format!("{server_ufrag}:client"),
            key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, server_pwd.as_bytes()),
            tie_breaker,
        }
    }

    /// A check that nominates its pair.
    pub fn request(&self, transaction: [u8; 12]) -> Vec<u8> {
        let mut message = Vec::with_capacity(128);
        message.extend(BINDING_REQUEST.to_be_bytes());
        message.extend([0; 2]);
        message.extend(MAGIC_COOKIE.to_be_bytes());
        message.extend(transaction);
        attribute(&mut message, USERNAME, self.username.as_bytes());
        attribute(&mut message, ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        attribute(&mut message, USE_CANDIDATE, &[]);
        attribute(&mut message, PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
        // Each tag is made as if the message ended with it.
        set_len(&mut message, 24);
        let tag = hmac::sign(&self.key, &message);
        attribute(&mut message, MESSAGE_INTEGRITY, tag.as_ref());
        set_len(&mut message, 8);
        let sum = crc32(&message) ^ FINGERPRINT_XOR;
        attribute(&mut message, FINGERPRINT, &sum.to_be_bytes());
        message
    }
}

/// The transaction of a success response, if a datagram is one.
pub fn success(datagram: &[u8]) -> Option<[u8; 12]> {
    if !datagram.starts_with(&BINDING_SUCCESS.to_be_bytes()) {
        return None;
    }
    datagram.get(8..HEADER_LEN)?.try_into().ok()
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_len(message, 0);
}

/// Writes the length field for a message that has `more` bytes to come.
fn set_len(message: &mut [u8], more: usize) {
    let len = (message.len() - HEADER_LEN + more) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
}

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8)
}

#[cfg(test)]
mod tests {
    use opencall_wire::stun::parse_binding_request;

    use super::*;

    #[test]
    fn a_lite_agent_can_read_a_check() {
        let bytes = Checker::new("abcd", "secret", 7).request([9; 12]);
        let request = parse_binding_request(&bytes).unwrap();
        assert_eq!((request.ufrag(), request.use_candidate()), ("abcd", true));
        assert_eq!(success(&bytes), None);
    }
}
