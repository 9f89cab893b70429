//! The same participants in a Janus VideoRoom, so that two servers can be compared under one load.
//!
//! * [`sdp`] — the few session descriptions that are needed, read and written.
//! * [`api`] — Janus's API over a WebSocket: a session, its handles, requests and events.
//! * [`session`] — one participant from its first request to its last.
#![forbid(unsafe_code)]

pub mod api;
pub mod sdp;
pub mod session;
