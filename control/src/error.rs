//! Why a control core could not be made.
#![forbid(unsafe_code)]

/// Errors of configuration, found at start. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A setting is missing or out of range.
    #[error("{0}")]
    Config(String),
    /// The DTLS certificate or its key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The router's codecs cannot be used.
    #[error("router codecs: {0}")]
    Codecs(#[from] crate::ortc::OrtcError),
}
