//! Answers to the checks of a server that makes some (RFC 8445 section 7.3).
#![forbid(unsafe_code)]

use std::net::SocketAddrV4;

use opencall_wire::stun::{IntegrityKeys, MAX_RESPONSE_LEN, parse_binding_request, write_success};

/// What we answer a server's checks with.
pub struct Responder {
    keys: IntegrityKeys,
}

impl Responder {
    /// Answers with our password.
    pub fn new(our_pwd: &str) -> Self {
        Responder { keys: IntegrityKeys::new(our_pwd) }
    }

    /// The answer to a check from a server, if it is one. Nobody but the server can reach us, so we
    /// take its word for being it.
    pub fn answer(&self, datagram: &[u8], from: SocketAddrV4) -> Option<Vec<u8>> {
        let request = parse_binding_request(datagram).ok()?;
        let mut answer = vec![0; MAX_RESPONSE_LEN];
        let len = write_success(&request, from.into(), &self.keys, &mut answer)?;
        answer.truncate(len);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use opencall_wire::stun::TransactionId;
    use opencall_wire::stun::client::{Checker, success};

    use super::*;

    #[test]
    fn a_servers_check_is_answered_with_where_it_came_from() {
        let responder = Responder::new("ours");
        let check = Checker::new("we", "ours", "server", 7).request(TransactionId([9; 12]));
        let from = SocketAddrV4::new([198, 18, 0, 1].into(), 40_000);
        let answer = responder.answer(&check, from).expect("a check");
        assert_eq!(success(&answer), Some(TransactionId([9; 12])));
        // RFC 8489 section 14.2: 40000 and 198.18.0.1 under the cookie.
        let mapped = [0, 0x20, 0, 8, 0, 1, 0x9c ^ 0x21, 0x40 ^ 0x12, 0xe7, 0, 0xa4, 0x43];
        assert_eq!(answer[20..32], mapped);
        assert_eq!(responder.answer(&answer, from), None);
        assert_eq!(responder.answer(&check[..19], from), None);
    }
}
