//! The client's side: connectivity checks of the controlling agent (RFC 8445 section 7.2.2), as
//! the load generator, the simulator and the benchmarks make them, and what comes back.
#![forbid(unsafe_code)]

use super::integrity::Algorithm;
use super::{
    BINDING_REQUEST, BINDING_SUCCESS, HEADER_LEN, IntegrityKeys, TransactionId, Writer, attribute,
};

/// Bytes of a check at most: one with two user fragments of 256 characters.
const MAX_CHECK_LEN: usize = 640;

/// Priority of a peer-reflexive candidate, as browsers compute it.
pub const PEER_REFLEXIVE_PRIORITY: u32 = 0x6e7f_1eff;

/// Writes the checks of one transport.
pub struct Checker {
    username: String,
    keys: IntegrityKeys,
    tie_breaker: u64,
}

impl Checker {
    /// Checks towards a server with these credentials.
    pub fn new(server_ufrag: &str, server_pwd: &str, our_ufrag: &str, tie_breaker: u64) -> Self {
        Checker {
            username: format!("{server_ufrag}:{our_ufrag}"),
            keys: IntegrityKeys::new(server_pwd),
            tie_breaker,
        }
    }

    /// A check that nominates its pair; empty if the user fragments are longer than they may be.
    pub fn request(&self, id: TransactionId) -> Vec<u8> {
        let mut bytes = vec![0; MAX_CHECK_LEN];
        let len = self.write(id, &mut bytes).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    fn write(&self, id: TransactionId, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out, BINDING_REQUEST, id)?;
        writer.attribute(attribute::USERNAME, self.username.as_bytes())?;
        writer.attribute(attribute::ICE_CONTROLLING, &self.tie_breaker.to_be_bytes())?;
        writer.attribute(attribute::USE_CANDIDATE, &[])?;
        writer.attribute(attribute::PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes())?;
        writer.finish(Algorithm::Sha1, &self.keys)
    }
}

/// The transaction of a success response, if a datagram is one. Whether it is authentic is not
/// looked at.
pub fn success(datagram: &[u8]) -> Option<TransactionId> {
    if !datagram.starts_with(&BINDING_SUCCESS.to_be_bytes()) {
        return None;
    }
    datagram.get(8..HEADER_LEN)?.try_into().ok().map(TransactionId)
}
