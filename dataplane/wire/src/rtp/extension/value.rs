//! The values inside the header extensions that are read or made here.
//!
//! The others (MID, RID, video orientation, playout delay, transmission offset) are compared or
//! copied as bytes.
#![forbid(unsafe_code)]

use crate::time::{NtpTime, Time};

/// Client-to-mixer audio level (RFC 6464 section 3).
///
/// <https://www.rfc-editor.org/rfc/rfc6464#section-3>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender believes that this is speech.
    pub voice: bool,
    /// Loudness in −dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

/// Reads an audio level; anything after its first byte is ignored.
#[inline]
pub fn parse_audio_level(value: &[u8]) -> Option<AudioLevel> {
    let &byte = value.first()?;
    Some(AudioLevel { voice: byte & 0x80 != 0, level: byte & 0x7f })
}

/// Absolute send time as it is on the wire: 24 bits of seconds, 18 of them after the point,
/// wrapping every 64 s. Only differences mean anything, so any clock will do.
///
/// <https://webrtc.googlesource.com/src/+/main/docs/native-code/rtp-hdrext/abs-send-time>
#[inline]
pub fn abs_send_time(now: Time) -> [u8; 3] {
    const NANOS: u64 = 1_000_000_000;
    const FRACTION_BITS: u32 = 18;
    let (seconds, nanos) = (now.as_nanos() / NANOS, now.as_nanos() % NANOS);
    let units = (seconds << FRACTION_BITS) | ((nanos << FRACTION_BITS) / NANOS);
    let [.., a, b, c] = units.to_be_bytes();
    [a, b, c]
}

/// Reads a transport-wide sequence number.
///
/// <https://datatracker.ietf.org/doc/html/draft-holmer-rmcat-transport-wide-cc-extensions-01>
#[inline]
pub fn transport_sequence(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|&bytes| u16::from_be_bytes(bytes))
}

/// Overwrites a transport-wide sequence number in place; does nothing where there is no space.
#[inline]
pub fn write_transport_sequence(value: &mut [u8], sequence: u16) {
    if let Some(bytes) = value.first_chunk_mut() {
        *bytes = sequence.to_be_bytes();
    }
}

/// Absolute capture time: when the sender captured the first sample of the packet.
///
/// <https://webrtc.googlesource.com/src/+/main/docs/native-code/rtp-hdrext/abs-capture-time>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsCaptureTime {
    /// By the capture system's clock.
    pub captured: NtpTime,
    /// What to add to reach the clock of the sender of this packet, 2^-32 s.
    pub clock_offset: Option<i64>,
}

impl AbsCaptureTime {
    /// Longest encoding, bytes.
    pub const MAX_LEN: usize = 16;

    /// Reads the 8 or 16 byte form.
    #[inline]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (captured, rest) = value.split_first_chunk()?;
        Some(AbsCaptureTime {
            captured: NtpTime(u64::from_be_bytes(*captured)),
            clock_offset: rest.first_chunk().map(|&bytes| i64::from_be_bytes(bytes)),
        })
    }

    /// Writes the value; how many of the bytes are used.
    #[inline]
    pub fn encode(self, out: &mut [u8; Self::MAX_LEN]) -> usize {
        let offset = self.clock_offset.unwrap_or(0);
        let value = u128::from(self.captured.0) << 64 | u128::from(offset.cast_unsigned());
        *out = value.to_be_bytes();
        if self.clock_offset.is_some() { Self::MAX_LEN } else { Self::MAX_LEN / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_level_bits() {
        assert_eq!(parse_audio_level(&[]), None);
        for (byte, voice, level) in [(0x00, false, 0), (0x7f, false, 127), (0x9e, true, 30)] {
            assert_eq!(parse_audio_level(&[byte]), Some(AudioLevel { voice, level }));
        }
    }

    #[test]
    fn abs_send_time_wraps_every_64_seconds() {
        for (nanos, bytes) in [
            (0, [0, 0, 0]),
            (3_814, [0, 0, 0]),
            (3_815, [0, 0, 1]),
            (250_000_000, [1, 0, 0]),
            (1_000_000_000, [4, 0, 0]),
            (63_999_999_999, [0xff; 3]),
            (64_000_000_000, [0, 0, 0]),
            (1_000_000_250_000_000, [1, 0, 0]),
        ] {
            assert_eq!(abs_send_time(Time::from_nanos(nanos)), bytes, "{nanos} ns");
        }
        abs_send_time(Time::NEVER);
    }

    #[test]
    fn transport_sequence_in_place() {
        let mut value = [0x12, 0x34];
        assert_eq!(transport_sequence(&value), Some(0x1234));
        write_transport_sequence(&mut value, 0xfffe);
        assert_eq!(value, [0xff, 0xfe]);
        write_transport_sequence(&mut value[..1], 0);
        assert_eq!(value, [0xff, 0xfe]);
        assert_eq!(transport_sequence(&value[..1]), None);
    }

    #[test]
    fn abs_capture_time_of_8_and_16_bytes() {
        let captured = NtpTime(0x0123_4567_89ab_cdef);
        for clock_offset in [None, Some(0), Some(-1), Some(i64::MIN)] {
            let value = AbsCaptureTime { captured, clock_offset };
            let mut out = [0; AbsCaptureTime::MAX_LEN];
            let len = value.encode(&mut out);
            assert_eq!(len, if clock_offset.is_some() { 16 } else { 8 });
            assert_eq!(out[..8], captured.0.to_be_bytes());
            assert_eq!(AbsCaptureTime::parse(&out[..len]), Some(value));
        }
        assert_eq!(AbsCaptureTime::parse(&[0; 7]), None);
        assert_eq!(AbsCaptureTime::parse(&[0; 15]).unwrap().clock_offset, None);
    }
}
