//! Connectivity checks of the controlling side, and answers to those of a server that makes some
//! (RFC 8445 section 7, RFC 8489).
#![forbid(unsafe_code)]

use std::net::SocketAddrV4;

use aws_lc_rs::hmac;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

/// "STUN", with which the CRC is mixed.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Priority of a peer-reflexive candidate, as browsers compute it.
const PEER_REFLEXIVE_PRIORITY: u32 = 0x6e7f_1eff;

/// What one transport needs to ask for its pair again and again.
pub struct Checker {
    username: String,
    key: hmac::Key,
    tie_breaker: u64,
}

impl Checker {
    /// Checks towards a server with these credentials.
    pub fn new(server_ufrag: &str, server_pwd: &str, our_ufrag: &str, tie_breaker: u64) -> Self {
        Checker {
            username: format!("{server_ufrag}:{our_ufrag}"),
            key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, server_pwd.as_bytes()),
            tie_breaker,
        }
    }

    /// A check that nominates its pair.
    pub fn request(&self, transaction_id: [u8; 12]) -> Vec<u8> {
        let mut message = Vec::with_capacity(128);
        message.extend(BINDING_REQUEST.to_be_bytes());
        message.extend([0; 2]);
        message.extend(MAGIC_COOKIE.to_be_bytes());
        message.extend(transaction_id);
        attribute(&mut message, USERNAME, self.username.as_bytes());
        attribute(&mut message, ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        attribute(&mut message, USE_CANDIDATE, &[]);
        attribute(&mut message, PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
        close(&mut message, &self.key);
        message
    }

    /// Whether a datagram is the good answer to a check.
    pub fn is_success(datagram: &[u8], transaction_id: [u8; 12]) -> bool {
        datagram.len() >= HEADER_LEN
            && datagram.starts_with(&BINDING_SUCCESS.to_be_bytes())
            && datagram.get(8..HEADER_LEN) == Some(&transaction_id[..])
    }
}

/// What we answer a server's checks with.
pub struct Responder {
    key: hmac::Key,
}

impl Responder {
    /// Answers with our password.
    pub fn new(our_pwd: &str) -> Self {
        Responder { key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, our_pwd.as_bytes()) }
    }

    /// The answer to a check from a server, if it is one. Nobody but the server can reach us, so we
    /// take its word for being it.
    pub fn answer(&self, datagram: &[u8], from: SocketAddrV4) -> Option<Vec<u8>> {
        let id = datagram.get(8..HEADER_LEN)?;
        if !datagram.starts_with(&BINDING_REQUEST.to_be_bytes()) {
            return None;
        }
        let mut message = Vec::with_capacity(64);
        message.extend(BINDING_SUCCESS.to_be_bytes());
        message.extend([0; 2]);
        message.extend(MAGIC_COOKIE.to_be_bytes());
        message.extend(id);
        let [p0, p1] = (from.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes();
        let [a0, a1, a2, a3] = (from.ip().to_bits() ^ MAGIC_COOKIE).to_be_bytes();
        attribute(&mut message, XOR_MAPPED_ADDRESS, &[0, 1, p0, p1, a0, a1, a2, a3]);
        close(&mut message, &self.key);
        Some(message)
    }
}

/// Ends a message with its integrity and its fingerprint.
fn close(message: &mut Vec<u8>, key: &hmac::Key) {
    // Each tag is made as if the message ended with it.
    set_len(message, 24);
    let tag = hmac::sign(key, message);
    attribute(message, MESSAGE_INTEGRITY, tag.as_ref());
    set_len(message, 8);
    let sum = crc32(message) ^ FINGERPRINT_XOR;
    attribute(message, FINGERPRINT, &sum.to_be_bytes());
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

/// CRC-32 of ITU V.42, bit by bit: checks are few.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use opencall_wire::stun::{ClientRole, parse_binding_request};

    use super::*;

    #[test]
    fn a_check_is_what_a_server_reads() {
        let request = Checker::new("server", "password", "client", 7).request([3; 12]);
        let parsed = parse_binding_request(&request).expect("well formed");
        assert_eq!((parsed.ufrag(), parsed.remote_ufrag()), ("server", "client"));
        assert_eq!(parsed.role(), Some(ClientRole::Controlling(7)));
        assert!(parsed.use_candidate() && parsed.unknown_attributes().is_empty());
        assert_eq!(parsed.priority(), Some(PEER_REFLEXIVE_PRIORITY));
        assert_eq!(parsed.transaction_id().0, [3; 12]);
    }

    #[test]
    fn a_servers_check_is_answered_with_where_it_came_from() {
        let responder = Responder::new("ours");
        let check = Checker::new("we", "ours", "server", 7).request([9; 12]);
        let from = SocketAddrV4::new([198, 18, 0, 1].into(), 40_000);
        let answer = responder.answer(&check, from).expect("a check");
        assert!(Checker::is_success(&answer, [9; 12]));
        // RFC 8489 section 14.2: 40000 and 198.18.0.1 under the cookie.
        let mapped = [0, 0x20, 0, 8, 0, 1, 0x9c ^ 0x21, 0x40 ^ 0x12, 0xe7, 0, 0xa4, 0x43];
        assert_eq!(answer[20..32], mapped);
        assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len() - 20);
        assert_eq!(responder.answer(&answer, from), None);
        assert_eq!(responder.answer(&check[..19], from), None);
    }

    #[test]
    fn only_the_good_answer_to_this_check_is_taken() {
        let mut answer = vec![0x01, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        answer.extend([3; 12]);
        assert!(Checker::is_success(&answer, [3; 12]));
        assert!(!Checker::is_success(&answer, [4; 12]));
        assert!(!Checker::is_success(&answer[..19], [3; 12]));
        answer[1] = 0x11;
        assert!(!Checker::is_success(&answer, [3; 12]));
    }
}
