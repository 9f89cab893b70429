//! Header extensions (RFC 8285): finding the known ones, and writing a header with some.
//!
//! * [`ids`] — the known ones, and the numbers they go by in a session.
//! * [`spans`] — where each lies in a packet.
//! * [`writer`] — a header with extensions.
//! * [`value`] — what is inside the ones that are read or made here.
//!
//! ```text
//! one byte:  |  ID   | len-1 |  data …      profile 0xBEDE, ids 1–14, 1–16 bytes
//! two bytes: |      ID       |  length       |  data …   profile 0x100x, ids 1–255, 0–255 bytes
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc8285#section-4>
#![forbid(unsafe_code)]

pub mod ids;
pub mod spans;
pub mod value;
pub mod writer;

pub use ids::{Extension, ExtensionIds};
pub use spans::ExtensionSpans;
pub use value::{AbsCaptureTime, AudioLevel, abs_send_time, parse_audio_level};
pub use value::{transport_sequence, write_transport_sequence};
pub use writer::HeaderWriter;

/// Profile of the one-byte form.
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile of the two-byte form; the last four bits are for applications and mean nothing here.
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// The part of the two-byte profile that counts.
const TWO_BYTE_MASK: u16 = 0xfff0;
/// Id in the one-byte form at which reading stops (RFC 8285 section 4.2).
const ONE_BYTE_STOP: u8 = 15;
/// Longest element of the one-byte form, bytes.
const ONE_BYTE_MAX_LEN: usize = 16;

/// Which of the two forms of RFC 8285 a header uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ExtensionForm {
    /// Ids 1–14 with 1–16 bytes each.
    #[default]
    OneByte,
    /// Ids 1–255 with 0–255 bytes each.
    TwoByte,
}

impl ExtensionForm {
    /// The form that an element needs. The form of a packet is the greatest its elements need.
    #[inline]
    pub const fn needed(id: u8, len: usize) -> Self {
        if id < ONE_BYTE_STOP && len >= 1 && len <= ONE_BYTE_MAX_LEN {
            ExtensionForm::OneByte
        } else {
            ExtensionForm::TwoByte
        }
    }
}
