//! Participants: real clients, made light.
//!
//! * [`signaling`] — requests and events over a WebSocket, in OpenCall's words or in protoo.
//! * [`stun`], [`connect`] — ICE as the controlling side, DTLS as the client, consent.
//! * [`net`] — one socket, in which each transport has a loopback address of its own.
//! * [`link`] — a transport of either kind, from its first check to its end.
//! * [`session`] — one participant from its first request to its last.
//! * [`publish`], [`receive`] — what is sent, and what is made of what comes.
//! * [`messages`] — what goes over data channels.
//! * [`engine`] — the thread on which all media runs; [`wheel`] — its timers.
//! * [`tally`] — what it counts, second by second.
//! * [`outlet`] — its way out; [`emulation`] — bad links of single participants.
#![forbid(unsafe_code)]

pub mod connect;
pub mod emulation;
pub mod engine;
pub mod link;
pub mod messages;
pub mod net;
pub mod outlet;
pub mod publish;
pub mod receive;
pub mod session;
pub mod signaling;
pub mod stun;
pub mod tally;
pub mod wheel;
