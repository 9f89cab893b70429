//! RTP packets: views of what arrived, writers of what leaves.
//!
//! * [`header`] — the fixed header (RFC 3550).
//! * [`extension`] — header extensions (RFC 8285): finding, reading and writing them.
//! * [`vp8`] — the VP8 payload descriptor (RFC 7741).
//!
//! Nothing here allocates, and no input makes anything here panic.
#![forbid(unsafe_code)]

pub mod extension;
pub mod header;
pub mod vp8;

#[cfg(test)]
pub(crate) mod test_support;

pub use extension::{ExtensionForm, ExtensionSpans, HeaderWriter};
pub use header::{OutgoingHeader, RtpHeader};
