//! The front door: WebSocket in two envelopes, configuration, and the `opencall-sfu` binary.
//!
//! * [`config`] — flags and environment variables, parsed into a [`config::Config`].
//! * [`envelope`] — JSON to typed requests and back, in two dialects.
#![forbid(unsafe_code)]

pub mod config;
pub mod envelope;
