//! Bytes on the wire and the types they stand for. Nothing here knows of an SFU, a clock or a
//! socket, allocates on the packet's way, or panics, whatever the input.
//!
//! * [`rtp`], [`rtcp`] — views and writers of packets.
//! * [`srtp`] — SRTP and SRTCP, opening in place and sealing out of place.
//! * [`stun`] — what ICE checks are made of.
//! * [`dcep`] — how data channels are opened.
//! * [`codec`] — kinds of media and codecs.
//! * [`seq`], [`time`] — numbers beyond their width on the wire, monotonic and wall-clock time.
//! * [`mtu`] — how long packets may be.
#![forbid(unsafe_code)]

pub mod codec;
pub mod dcep;
pub mod mtu;
pub mod rtcp;
pub mod rtp;
pub mod seq;
pub mod srtp;
pub mod stun;
pub mod time;
