//! A deterministic simulator of the whole SFU: control, data cores, rings and clients on one
//! thread, in virtual time, from one seed.
//!
//! A seed decides how a meeting is ([`plan`]), what its participants do ([`participant`]) and what
//! goes wrong on their wires and in the server's threads ([`world`]). What holds in every meeting
//! is looked at after each step by [`checkers`], which know nothing of each other.
#![forbid(unsafe_code)]

pub mod agenda;
#[cfg(feature = "planted")]
pub mod canary;
pub mod checkers;
pub mod fate;
pub mod participant;
pub mod plan;
pub mod server;
pub mod shifts;
pub mod world;

pub use world::{Meeting, Outcome, Violation, run, trace};
