//! The other side of every talk in the tests of this folder: checks written and answers read by the
//! `stun-types` crate, which has never seen our code. The agent's tests use it as well.
#![forbid(unsafe_code)]
// Each of its two users needs a part.
#![allow(dead_code)]

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeStaticType, ErrorCode, Fingerprint, MessageIntegrity, MessageIntegritySha256,
    RawAttribute, UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteVec, ShortTermCredentials,
};

const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const NOMINATION: u16 = 0x0030;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// A connectivity check in the making.
#[derive(Clone)]
pub(super) struct Check {
    username: String,
    pwd: String,
    transaction_id: u128,
    attributes: Vec<(u16, Vec<u8>)>,
    algorithms: Vec<IntegrityAlgorithm>,
}

impl Check {
    /// A check by the controlling side, without PRIORITY or nomination.
    pub(super) fn new(ufrag: &str, pwd: &str) -> Self {
        Check {
            username: format!("{ufrag}:client"),
            pwd: pwd.to_owned(),
            transaction_id: 0xb7e7_a701_bc34_d686_fa87_dfae,
            attributes: vec![(ICE_CONTROLLING, 7u64.to_be_bytes().to_vec())],
            algorithms: vec![IntegrityAlgorithm::Sha1],
        }
    }

    pub(super) fn transaction(mut self, id: u128) -> Self {
        self.transaction_id = id;
        self
    }

    pub(super) fn username(mut self, username: &str) -> Self {
        self.username = username.to_owned();
        self
    }

    pub(super) fn pwd(mut self, pwd: &str) -> Self {
        self.pwd = pwd.to_owned();
        self
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.attributes.push((kind, value.to_vec()));
        self
    }

    pub(super) fn priority(self, priority: u32) -> Self {
        self.attribute(PRIORITY, &priority.to_be_bytes())
    }

    pub(super) fn use_candidate(self) -> Self {
        self.attribute(USE_CANDIDATE, &[])
    }

    pub(super) fn nomination(self, nomination: u32) -> Self {
        self.attribute(NOMINATION, &nomination.to_be_bytes())
    }

    pub(super) fn controlled(mut self, tie_breaker: u64) -> Self {
        self.attributes.retain(|&(kind, _)| kind != ICE_CONTROLLING);
        self.attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes())
    }

    pub(super) fn without_role(mut self) -> Self {
        self.attributes.retain(|&(kind, _)| kind != ICE_CONTROLLING);
        self
    }

    pub(super) fn integrity(mut self, algorithms: &[IntegrityAlgorithm]) -> Self {
        self.algorithms = algorithms.to_vec();
        self
    }

    /// The datagram.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let request = MessageType::from_class_method(MessageClass::Request, BINDING);
        let mut message =
            Message::builder(request, self.transaction_id.into(), MessageWriteVec::new());
        message.add_attribute(&Username::new(&self.username).unwrap()).unwrap();
        for (kind, value) in &self.attributes {
            message.add_attribute(&RawAttribute::new((*kind).into(), value)).unwrap();
        }
        for &algorithm in &self.algorithms {
            message.add_message_integrity(&credentials(&self.pwd), algorithm).unwrap();
        }
        message.add_fingerprint().unwrap();
        message.finish()
    }

    /// What the client makes of the answer: `Ok` the address it was seen under, `Err` the error and
    /// the attributes that were said to be unknown, out of `asked`. Everything that must be right
    /// about any answer is asserted here.
    pub(super) fn read_reply(
        &self,
        bytes: &[u8],
        asked: &[u16],
    ) -> Result<SocketAddr, (u16, Vec<u16>)> {
        let reply = Message::from_bytes(bytes).expect("the answer is STUN, its FINGERPRINT right");
        assert_eq!(reply.transaction_id(), self.transaction_id.into());
        assert_eq!(reply.method(), BINDING);
        let (last, _) = reply.iter_attributes().last().expect("there are attributes");
        assert_eq!(last + 8, bytes.len(), "the last attribute is of FINGERPRINT's size");
        assert!(reply.has_attribute(Fingerprint::TYPE));
        assert!(!reply.has_attribute(Username::TYPE));

        let sha256 = self.algorithms.contains(&IntegrityAlgorithm::Sha256);
        assert_eq!(reply.has_attribute(MessageIntegritySha256::TYPE), sha256);
        assert_eq!(reply.has_attribute(MessageIntegrity::TYPE), !sha256);
        reply.validate_integrity(&credentials(&self.pwd)).expect("the answer is authentic");

        if reply.has_class(MessageClass::Success) {
            let mapped = reply.attribute::<XorMappedAddress>().expect("a mapped address");
            return Ok(mapped.addr(reply.transaction_id()));
        }
        assert!(reply.has_class(MessageClass::Error));
        let code = reply.attribute::<ErrorCode>().expect("an error code").code();
        let unknown = reply.attribute::<UnknownAttributes>().ok();
        let named = |&&kind: &&u16| {
            unknown.as_ref().is_some_and(|unknown| unknown.has_attribute(kind.into()))
        };
        Err((code, asked.iter().filter(named).copied().collect()))
    }
}

/// Short-term credentials for `stun-types`.
pub(super) fn credentials(pwd: &str) -> MessageIntegrityCredentials {
    ShortTermCredentials::new(pwd.to_owned()).into()
}

/// A small generator of pseudo-random numbers (splitmix64), so that a failure can be had again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
