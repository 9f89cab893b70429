//! A client's address with the socket of ours it reached: what is known of it, and what it may be
//! sent.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use opencall_io::SocketId;
use opencall_wire::time::Time;

use super::CONSENT_TIMEOUT;
use super::transactions::TupleNumber;

/// Bytes that may be sent to an address for each that came from there, until it is proven that the
/// client is there. Three is what QUIC allows (RFC 9000 section 8.1): enough for the first flight
/// of a handshake, too little to be worth a forged address.
pub const UNPROVEN_FACTOR: u64 = 3;

/// A client's address, and our socket that it reached.
pub type Tuple = (SocketAddr, SocketId);

/// A tuple from which a valid check has come.
#[derive(Clone, Copy)]
pub(super) struct ValidatedTuple {
    pub(super) tuple: Tuple,
    pub(super) number: TupleNumber,
    /// When the first check came, or the first one after a silence.
    pub(super) since: Time,
    pub(super) last_check: Time,
    /// Of the client's pair, as its last check said.
    pub(super) priority: u32,
    /// Highest NOMINATION seen from here; 0 where the client counts none.
    pub(super) nomination: u32,
    /// The last check nominated.
    pub(super) nominating: bool,
    /// It is or was selected by nomination.
    pub(super) nominated: bool,
    /// Something came from here that only the client can have sent.
    pub(super) proven: bool,
    /// It would be selected if it were proven.
    pub(super) claims: bool,
    /// A later flight of a DTLS handshake came from here.
    pub(super) answered: bool,
    /// Bytes that came from here and went there, while it is not proven.
    received: u64,
    sent: u64,
}

impl ValidatedTuple {
    pub(super) fn new(now: Time, tuple: Tuple, number: TupleNumber) -> Self {
        ValidatedTuple {
            tuple,
            number,
            since: now,
            last_check: now,
            priority: 0,
            nomination: 0,
            nominating: false,
            nominated: false,
            proven: false,
            claims: false,
            answered: false,
            received: 0,
            sent: 0,
        }
    }

    /// How long no check has come.
    pub(super) fn silence(&self, now: Time) -> Duration {
        now.since(self.last_check)
    }

    /// A check has come. After a silence as long as consent lasts, whoever is here now has to prove
    /// who they are: a NAT may have given the address away.
    pub(super) fn on_check(&mut self, now: Time) {
        if self.silence(now) >= CONSENT_TIMEOUT {
            let fresh = ValidatedTuple::new(now, self.tuple, self.number);
            *self = ValidatedTuple { nominated: self.nominated, ..fresh };
        }
        self.last_check = now;
    }

    /// Bytes that may be sent there now.
    pub(super) fn allowance(&self) -> u64 {
        if self.proven {
            return u64::MAX;
        }
        (UNPROVEN_FACTOR * self.received).saturating_sub(self.sent)
    }

    pub(super) fn count_received(&mut self, len: usize) {
        self.received += len as u64;
    }

    pub(super) fn count_sent(&mut self, len: usize) {
        self.sent += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple() -> ValidatedTuple {
        let tuple = (SocketAddr::from(([192, 0, 2, 1], 5000)), SocketId(0));
        ValidatedTuple::new(Time::ZERO, tuple, 1)
    }

    #[test]
    fn what_may_be_sent_grows_with_what_came() {
        let mut tuple = tuple();
        assert_eq!(tuple.allowance(), 0);
        tuple.count_received(100);
        tuple.count_sent(64);
        assert_eq!(tuple.allowance(), 236);
        tuple.count_sent(300);
        assert_eq!(tuple.allowance(), 0);
        tuple.proven = true;
        assert_eq!(tuple.allowance(), u64::MAX);
    }

    #[test]
    fn proof_ends_with_consent() {
        let mut tuple = tuple();
        tuple.count_received(1_000);
        (tuple.proven, tuple.nominated) = (true, true);
        let at = Time::ZERO + CONSENT_TIMEOUT;
        tuple.on_check(at - Duration::from_millis(1));
        assert!(tuple.proven);
        tuple.on_check(at + CONSENT_TIMEOUT);
        assert!(!tuple.proven && tuple.nominated);
        assert_eq!((tuple.allowance(), tuple.since), (0, at + CONSENT_TIMEOUT));
    }
}
