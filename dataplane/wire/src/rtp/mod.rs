//! RTP packets: views of what arrived, writers of what leaves.
//!
//! * [`header`] — the fixed header (RFC 3550).
//! * [`extension`] — header extensions (RFC 8285): finding, reading and writing them.
//! * [`vp8`], [`vp9`], [`h264`], [`av1`] — what each payload format tells of a packet.
//! * [`picture_ids`] — the running numbers that VP8 and VP9 give pictures, and rewriting them.
//! * [`dependency_descriptor`] — the same, told outside the payload.
//! * [`layers`] — what frames of several spatial layers are to each other.
//! * [`red`] — repetitions of sound (RFC 2198), read and written.
//! * [`payload`] — what a packet is to its stream, whatever the codec.
//!
//! Nothing here allocates, and no input makes anything here panic.
#![forbid(unsafe_code)]

pub mod av1;
pub mod dependency_descriptor;
pub mod extension;
pub mod h264;
pub mod header;
pub mod layers;
pub mod payload;
pub mod picture_ids;
pub mod red;
pub mod vp8;
pub mod vp9;

#[cfg(test)]
mod oracles;
#[doc(hidden)]
pub mod test_support;

pub use extension::{ExtensionForm, ExtensionSpans, HeaderWriter};
pub use header::{OutgoingHeader, RtpHeader};
pub use payload::{PayloadInfo, inspect};
