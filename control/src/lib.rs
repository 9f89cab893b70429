//! The control core: one thread that knows rooms, clients and capabilities, and tells the data
//! cores what to forward. It never touches a media packet.
//!
//! * [`api`] — the typed requests, answers and notifications that signaling speaks to it.
//! * [`ortc`] — the capability rules, as pure functions.
//! * [`rtp_parameters`] — RTP capabilities and parameters as mediasoup-client writes them in JSON.
#![forbid(unsafe_code)]

pub mod api;
pub mod ortc;
pub mod rtp_parameters;
