//! The load side of opencall-sfu: speaks to a server over its public protocols only.
//!
//! * [`media`] — what participants send, and how each packet is checked.
//! * [`client`] — participants that speak ICE, DTLS, SRTP and signaling.
//! * [`janus`] — the same participants in a Janus VideoRoom.
//! * [`link`] — a UDP relay that puts a bad link (`opencall_emulator`) between clients and server.
//! * [`scenario`], [`server`], [`run`] — who meets whom, the server under load, a whole run.
//! * [`ramp`], [`trend`] — how far a load can go, and what grows over time.
//! * [`versus`] — our server and another one in turns.
//! * [`floor`] — what the same packets cost with nothing but sealing and sending.
//! * [`result`] — a run's figures as JSON.
//! * [`report`] — what people look at: pages, comparisons, the line of progress.
#![forbid(unsafe_code)]

pub mod client;
pub mod floor;
pub mod janus;
pub mod link;
mod machine;
pub mod media;
pub mod ramp;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod server;
pub mod strangers;
pub mod trend;
pub mod versus;
