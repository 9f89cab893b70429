//! Messages of data channels that went no further, by reason.
#![forbid(unsafe_code)]

macro_rules! data_drops {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// Why a message of a data channel, or a channel, went no further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DataDrop { $($(#[doc = $doc])+ $name,)+ }

        impl DataDrop {
            /// All of them, in counter order.
            pub const ALL: &'static [DataDrop] = &[$(DataDrop::$name,)+];

            /// The label in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(DataDrop::$name => $label,)+ }
            }
        }
    };
}

data_drops! {
    /// A message on a stream without a data producer.
    UnknownStream => "unknown_stream",
    /// A message under a payload protocol identifier other than text and binary.
    UnknownProtocol => "unknown_protocol",
    /// A message of DCEP that is none, or opens a channel that may not be: the stream is reset.
    DcepRefused => "dcep_refused",
    /// A message longer than [`MAX_MESSAGE_BYTES`](super::MAX_MESSAGE_BYTES).
    TooLarge => "too_large",
    /// A message of a lossy channel that had waited too long.
    Stale => "stale",
    /// A message of a lossy channel that did not fit its consumer's queue.
    QueueFull => "queue_full",
    /// A consumer of a reliable channel that was closed, for it read too slowly.
    Laggard => "laggard",
    /// An association that ended while its transport stands.
    AssociationOver => "association_over",
}

/// One counter per [`DataDrop`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DataDropCounters([u64; DataDrop::ALL.len()]);

impl DataDropCounters {
    pub(crate) fn count(&mut self, drop: DataDrop) {
        self.0[drop as usize] += 1;
    }

    /// How often this happened.
    pub fn of(&self, drop: DataDrop) -> u64 {
        self.0[drop as usize]
    }
}
