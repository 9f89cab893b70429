//! Fuzz targets for everything that reads what others wrote.
//!
//! Each target is a module with a function `run` that takes any bytes and panics only when
//! something is wrong in the server. Two things call it: the fuzzing engine (`fuzz_targets/`,
//! `scripts/test --fuzz`), which searches for new paths for as long as it is let, and a test that
//! feeds seeds and seeded mutations of them to all targets (`tests/smoke.rs`), on any compiler.
#![forbid(unsafe_code)]

mod input;
mod signaling;
mod stun_message;

pub mod core;
pub mod demux;
pub mod ice;
pub mod rtcp;
pub mod rtp;
pub mod sctp;
pub mod signaling_opencall;
pub mod signaling_protoo;
pub mod srtp_open;
pub mod stun;

/// A target, as the smoke test knows it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its module, of its binary and of its folder of seeds.
    pub name: &'static str,
    /// What takes the input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "core", run: core::run },
    Target { name: "demux", run: demux::run },
    Target { name: "ice", run: ice::run },
    Target { name: "rtcp", run: rtcp::run },
    Target { name: "rtp", run: rtp::run },
    Target { name: "sctp", run: sctp::run },
    Target { name: "signaling_opencall", run: signaling_opencall::run },
    Target { name: "signaling_protoo", run: signaling_protoo::run },
    Target { name: "srtp_open", run: srtp_open::run },
    Target { name: "stun", run: stun::run },
];
