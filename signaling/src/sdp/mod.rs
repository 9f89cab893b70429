//! Session descriptions (RFC 8866) as far as WHIP and WHEP need them: an offer of someone who sends
//! or watches, as the rooms' own requests, and the answer to it. Pure functions over text of
//! strangers.
//!
//! * [`offer`] — text to an [`offer::Offer`], within bounds.
//! * [`publication`] — an offer to what is produced.
//! * [`subscription`] — an offer to what is watched.
//! * [`answer`] — the text that goes back.
#![forbid(unsafe_code)]

pub mod answer;
pub mod offer;
pub mod publication;
pub mod subscription;
#[cfg(test)]
mod tests;

/// Why an offer is not taken: a sentence for whoever wrote the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// It is no session description.
    #[error("the offer cannot be read: {0}")]
    Malformed(String),
    /// It is one, but not one that is served.
    #[error("the offer is not served: {0}")]
    Unsupported(String),
}

pub(crate) fn malformed<T>(reason: impl Into<String>) -> Result<T, SdpError> {
    Err(SdpError::Malformed(reason.into()))
}

pub(crate) fn unsupported<T>(reason: impl Into<String>) -> Result<T, SdpError> {
    Err(SdpError::Unsupported(reason.into()))
}
