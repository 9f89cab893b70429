//! The load side of opencall-sfu: speaks to a server over its public protocols only.
//!
//! * [`impairment`] — what a bad link does to packets, as a pure, seeded function of time.
//! * [`link`] — a UDP relay that puts such a link between clients and a server.
//! * [`result`] — a run's figures as JSON.
#![forbid(unsafe_code)]

pub mod impairment;
pub mod link;
pub mod result;
