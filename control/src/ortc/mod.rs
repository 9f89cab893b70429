//! Capability rules: which codecs, payload types, header extensions and feedback two endpoints
//! share, and how a producer's stream is named on its way to a consumer. Pure functions.
//!
//! ```text
//! router capabilities ──┬─▶ producer_rtp_mapping ─▶ consumable_rtp_parameters   (once per producer)
//!                       └─▶ can_consume ─▶ consumer_stream           (once per producer and capabilities)
//! ```
//!
//! The rules are those of the ORTC model that mediasoup-client follows: a client sends with its own
//! browser's payload types and extension ids, and receives with the router's.
#![forbid(unsafe_code)]

mod consumer;
mod matching;
mod producer;
mod red;
mod router;
mod scalability;
mod validate;

pub use consumer::{ConsumerStream, Numbers, can_consume, consumer_stream, consumer_type};
pub use matching::{H264Profile, codecs_match, is_rtx};
pub use producer::{RtpMapping, consumable_rtp_parameters, producer_rtp_mapping};
pub(crate) use producer::{extension_ids, feedback};
pub use red::{is_red, is_red_of};
pub(crate) use router::stage_parameters;
pub use router::{
    codec_list, codecs_by_name, default_codecs, extension_from_uri, extension_uri,
    router_rtp_capabilities,
};
pub use scalability::ScalabilityMode;
pub use validate::{
    MAX_CNAME_BYTES, MAX_CODECS, MAX_ENCODINGS, MAX_FEEDBACK, MAX_HEADER_EXTENSIONS,
    MAX_PARAMETERS, MAX_TEXT_BYTES, validate_rtp_capabilities, validate_rtp_parameters,
};

use crate::rtp_parameters::Kind;

/// Why capabilities or parameters were refused. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrtcError {
    /// A member is missing, too long, out of range or contradicts another.
    #[error("{0}")]
    Invalid(String),
    /// The codec is not one of the router's.
    #[error(
        "{mime_type} (payload type {payload_type}) is not a codec of this router: send one of its \
         RTP capabilities, with the same clock rate, channels and profile"
    )]
    UnsupportedCodec {
        /// The codec.
        mime_type: String,
        /// Its payload type.
        payload_type: u8,
    },
    /// A wanted router codec is unknown.
    #[error("unknown codec \"{0}\": use opus, pcmu, pcma, g722, vp8, vp9, h264 or av1")]
    UnknownCodec(String),
    /// Two router codecs ask for one payload type.
    #[error("payload type {0} is given to two codecs: give each its own, or none at all")]
    DuplicatePayloadType(u8),
    /// More codecs than payload types.
    #[error("no payload type is left: ask for fewer router codecs")]
    NoPayloadTypeLeft,
    /// Nothing in common.
    #[error(
        "the client can receive none of the codecs of this {}: it cannot consume it",
        kind_name(*.0)
    )]
    NothingInCommon(Kind),
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}
