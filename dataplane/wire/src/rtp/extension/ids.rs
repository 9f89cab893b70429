//! Which header extensions are known here, and the ids that they were negotiated under.
#![forbid(unsafe_code)]

/// Header extensions the data plane reads, rewrites or copies. The discriminant is the index in
/// [`ExtensionIds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    RepairedRid,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    TransportCc,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`
    AudioLevel,
    /// AV1 dependency descriptor
    DependencyDescriptor,
    /// `urn:3gpp:video-orientation`
    VideoOrientation,
    /// `urn:ietf:params:rtp-hdrext:toffset`
    TransmissionOffset,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    AbsCaptureTime,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    PlayoutDelay,
}

impl Extension {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// All extensions, in discriminant order.
    pub const ALL: [Extension; Self::COUNT] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::AbsSendTime,
        Extension::TransportCc,
        Extension::AudioLevel,
        Extension::DependencyDescriptor,
        Extension::VideoOrientation,
        Extension::TransmissionOffset,
        Extension::AbsCaptureTime,
        Extension::PlayoutDelay,
    ];
}

/// The negotiated id of each extension; 0 where it is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds([u8; Extension::COUNT]);

impl ExtensionIds {
    /// Sets the id (1–14 fit one-byte headers, 15–255 need two-byte headers; RFC 8285).
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension as usize] = id;
    }

    /// The id, if the extension is in use.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        match self.0[extension as usize] {
            0 => None,
            id => Some(id),
        }
    }

    /// Adds the ids of another set; where both name an extension, the newer wins.
    pub fn merge(&mut self, newer: &ExtensionIds) {
        for (mine, theirs) in self.0.iter_mut().zip(newer.0) {
            if theirs != 0 {
                *mine = theirs;
            }
        }
    }

    /// Whether an id does not fit the one-byte form (RFC 8285 section 4.2).
    pub fn needs_two_byte(&self) -> bool {
        self.0.iter().any(|&id| id > 14)
    }

    /// Which extension has this id.
    #[inline]
    pub fn extension(&self, id: u8) -> Option<Extension> {
        let index = self.0.iter().position(|&x| x == id && x != 0)?;
        Some(Extension::ALL[index])
    }
}
