//! The front door: WebSocket in two envelopes, configuration, and the `opencall-sfu` binary.
//!
//! * [`auth`] — join tokens: who may enter which room.
//! * [`config`] — flags and environment variables, parsed into a [`config::Config`].
//! * [`envelope`] — JSON to typed requests and back, in two dialects.
//! * [`http`] — the WebSocket upgrade, the meeting page, `/healthz`, the admin
//!   API, WHIP.
//! * [`connection`] — one WebSocket: its limits, time-outs and closing.
//! * [`drain`] — nobody new is let in.
//! * [`ice_tcp`] — media over TCP, for those whose network lets no UDP through.
//! * [`hub`] — control between the connections and the data cores.
//! * [`outgoing`] — requests to other servers.
//! * [`sdp`] — offers of WHIP, and the answers.
//! * [`server`] — start and stop.
//! * [`signals`] — when to stop.
//! * [`service_manager`] — systemd is told how it goes.
//! * [`supervisor`] — the server as a child that may be killed.
//! * [`webhooks`] — programs outside are told what happens in rooms.
//! * [`log`] — lines that peers cannot forge.
//!
//! The hub runs on the control thread, `ice_tcp` on one of its own, all else on the web thread,
//! beside the data cores' threads.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod auth;
pub mod config;
pub mod connection;
pub mod drain;
pub mod envelope;
pub mod gauges;
pub mod http;
pub mod hub;
pub mod ice_tcp;
pub mod log;
pub mod outgoing;
pub mod push;
pub mod resume;
pub mod sdp;
pub mod server;
pub mod service_manager;
pub mod side_thread;
pub mod signals;
pub mod supervisor;
pub mod taps;
pub mod webhooks;
