//! Which layers of its producer a consumer gets.
//!
//! * [`allocation`] — shares a transport's budget out: which layers each consumer should have.
//! * [`demand`] — which encodings anyone would take, for the sender to hear.
//! * [`rise`] — when a consumer may have a better layer.
//! * [`selector`] — what of an encoding goes out to a consumer, packet by packet.
#![forbid(unsafe_code)]

pub mod allocation;
pub mod demand;
pub mod rise;
pub mod selector;

/// Place of an encoding in its producer's list, from the lowest. Not a spatial layer: those are
/// inside an encoding (SVC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EncodingIndex(pub u8);

impl EncodingIndex {
    /// The lowest.
    pub const LOWEST: EncodingIndex = EncodingIndex(0);

    /// As an index of the producer's list.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
