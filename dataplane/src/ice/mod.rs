//! ICE-lite (RFC 8445, RFC 8489, RFC 7675): clients check, we answer.
//!
//! A check is handled in three steps, cheapest first:
//!
//! 1. [`parse_binding_request`](opencall_wire::stun::parse_binding_request) reads the datagram and
//!    checks FINGERPRINT: what fails here costs no key. The user fragment it finds names the
//!    transport.
//! 2. [`IceAgent::handle_binding_request`] checks MESSAGE-INTEGRITY and writes the answer.
//! 3. The agent's tuples say which addresses may speak to the transport, the selected one where to
//!    send once it is proven that the client is there, and the time of the last check whether the
//!    client still consents to be sent to.
//!
//! STUN is read and written here, in about 400 lines, not by the `stun-types` crate. Both cost
//! the same (1.6 µs for a check and its answer, 0.4 of that for reading), but that crate logs a
//! warning for each malformed datagram, so that a flood of them is a flood of log lines; its key
//! type shows the password in `Debug`; and it brings a second set of hash functions into the
//! server. In the tests it is the other side of every talk.
#![forbid(unsafe_code)]

use std::time::Duration;

pub mod agent;
pub mod credentials;
#[cfg(test)]
#[path = "../../wire/src/stun/test_client.rs"]
mod test_client;
mod transactions;
mod tuple;

pub use agent::IceAgent;

/// How long a transport may go without a valid check before it counts as disconnected: the 30 s
/// after which consent to send expires (RFC 7675 section 5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
