//! The front door: WebSocket in two envelopes, configuration, and the `opencall-sfu` binary.
#![forbid(unsafe_code)]
