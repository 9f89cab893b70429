//! Kinds of media, and the codecs that the server can tell pictures of apart.
#![forbid(unsafe_code)]

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// What the data plane knows of a codec: how to find key frames and keep streams continuous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// Opus in packets that repeat those before them (RFC 2198): only as it comes in, it is
    /// forwarded as Opus.
    Red,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264 (RFC 6184).
    H264,
    /// AV1 (AOM RTP specification).
    Av1,
    /// Anything else: forwarded as it is; every packet may start a picture.
    Opaque,
}
