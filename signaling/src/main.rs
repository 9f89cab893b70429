//! The `opencall-sfu` server.
#![forbid(unsafe_code)]
fn main() {}
