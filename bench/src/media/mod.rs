//! Media that looks like media, and can be checked packet by packet.
#![forbid(unsafe_code)]

pub mod codec;
pub mod cut;
pub mod model;
pub mod stamp;
pub mod window;
