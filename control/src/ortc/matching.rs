//! When two codecs are the same one.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use crate::js::is_falsy;
use crate::rtp_parameters::{Kind, RtpCodecCapability, RtpCodecParameters};

/// What matching looks at; capabilities and parameters both have it.
pub trait CodecLike {
    /// `video/VP8`.
    fn mime_type(&self) -> &str;
    /// RTP clock rate, Hz.
    fn clock_rate(&self) -> u32;
    /// Audio channels; 1 when absent, and for video whatever is written.
    fn channels(&self) -> u8;
    /// Format parameters.
    fn parameters(&self) -> &Map<String, Value>;
}

impl CodecLike for RtpCodecCapability {
    fn mime_type(&self) -> &str {
        &self.mime_type
    }
    fn clock_rate(&self) -> u32 {
        self.clock_rate
    }
    fn channels(&self) -> u8 {
        channels(&self.mime_type, self.channels)
    }
    fn parameters(&self) -> &Map<String, Value> {
        &self.parameters
    }
}

impl CodecLike for RtpCodecParameters {
    fn mime_type(&self) -> &str {
        &self.mime_type
    }
    fn clock_rate(&self) -> u32 {
        self.clock_rate
    }
    fn channels(&self) -> u8 {
        channels(&self.mime_type, self.channels)
    }
    fn parameters(&self) -> &Map<String, Value> {
        &self.parameters
    }
}

fn channels(mime_type: &str, written: Option<u8>) -> u8 {
    match Kind::of_mime_type(mime_type) {
        Some(Kind::Audio) => written.unwrap_or(1),
        _ => 1,
    }
}

/// Whether a MIME type is `audio/rtx` or `video/rtx`.
pub fn is_rtx(mime_type: &str) -> bool {
    subtype(mime_type).eq_ignore_ascii_case("rtx")
}

/// The part after the slash.
pub(super) fn subtype(mime_type: &str) -> &str {
    mime_type.split_once('/').map_or("", |(_, subtype)| subtype)
}

/// The payload type an RTX codec repairs.
pub(super) fn apt(codec: &impl CodecLike) -> Option<u8> {
    let apt = integer(codec.parameters(), "apt")?;
    u8::try_from(apt).ok()
}

/// Whether two media codecs are the same: name, clock rate, channels, and the parameters that make
/// streams of one name incompatible.
pub fn codecs_match(a: &impl CodecLike, b: &impl CodecLike) -> bool {
    if !a.mime_type().eq_ignore_ascii_case(b.mime_type())
        || a.clock_rate() != b.clock_rate()
        || a.channels() != b.channels()
    {
        return false;
    }
    let (left, right) = (a.parameters(), b.parameters());
    let same = |name: &str| {
        integer(left, name).unwrap_or_default() == integer(right, name).unwrap_or_default()
    };
    match subtype(a.mime_type()).to_ascii_lowercase().as_str() {
        "h264" => same("packetization-mode") && h264_profile(left) == h264_profile(right),
        "vp9" => same("profile-id"),
        "av1" => same("profile"),
        _ => true,
    }
}

/// A number that may be written as a number or as text.
fn integer(parameters: &Map<String, Value>, name: &str) -> Option<i64> {
    match parameters.get(name)? {
        // JavaScript may have written 101 as 101.0.
        Value::Number(number) => {
            let whole = |number: f64| (number.fract() == 0.0).then_some(number as i64);
            number.as_i64().or_else(|| number.as_f64().and_then(whole))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// What H.264 decoders must agree on (RFC 6184 section 8.1, table 5). The level is not part of it:
/// `level-asymmetry-allowed` lets both sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum H264Profile {
    /// Constrained Baseline.
    ConstrainedBaseline,
    /// Baseline.
    Baseline,
    /// Main.
    Main,
    /// Constrained High.
    ConstrainedHigh,
    /// High.
    High,
    /// Predictive High 4:4:4.
    PredictiveHigh444,
}

impl H264Profile {
    /// Reads six hex digits: `profile_idc`, `profile-iop`, `level_idc`.
    pub fn from_profile_level_id(text: &str) -> Option<Self> {
        if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let id = u32::from_str_radix(text, 16).ok()?;
        let (idc, iop) = ((id >> 16) as u8, (id >> 8) as u8);
        /// `profile_idc`, the bits of `profile-iop` that count, and their value.
        const TABLE: [(u8, u8, u8, H264Profile); 9] = [
            (0x42, 0x4f, 0x40, H264Profile::ConstrainedBaseline),
            (0x4d, 0x8f, 0x80, H264Profile::ConstrainedBaseline),
            (0x58, 0xcf, 0xc0, H264Profile::ConstrainedBaseline),
            (0x42, 0x4f, 0x00, H264Profile::Baseline),
            (0x58, 0xcf, 0x80, H264Profile::Baseline),
            (0x4d, 0xaf, 0x00, H264Profile::Main),
            (0x64, 0xff, 0x00, H264Profile::High),
            (0x64, 0xff, 0x0c, H264Profile::ConstrainedHigh),
            (0xf4, 0xff, 0x00, H264Profile::PredictiveHigh444),
        ];
        let row = TABLE.iter().find(|(i, mask, value, _)| *i == idc && iop & mask == *value)?;
        Some(row.3)
    }
}

/// The profile of a codec. Without `profile-level-id`, or with a falsy one, browsers mean
/// Constrained Baseline; one that cannot be read matches only its like (`None`).
fn h264_profile(parameters: &Map<String, Value>) -> Option<H264Profile> {
    match parameters.get("profile-level-id").filter(|id| !is_falsy(id)) {
        None => Some(H264Profile::ConstrainedBaseline),
        Some(Value::String(text)) => H264Profile::from_profile_level_id(text),
        // `420029` without letters may have been read as a number on its way through SDP.
        Some(Value::Number(number)) => {
            H264Profile::from_profile_level_id(&format!("{:0>6}", number.to_string()))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn codec(text: Value) -> RtpCodecCapability {
        serde_json::from_value(text).expect("a codec")
    }

    fn h264(parameters: Value) -> RtpCodecCapability {
        codec(json!({"kind": "video", "mimeType": "video/H264", "clockRate": 90000,
            "parameters": parameters}))
    }

    #[test]
    fn profiles_follow_the_table_of_rfc_6184() {
        use H264Profile::*;
        let table = [
            ("42e01f", Some(ConstrainedBaseline)),
            ("42E034", Some(ConstrainedBaseline)),
            ("42c01f", Some(ConstrainedBaseline)),
            ("4d801f", Some(ConstrainedBaseline)),
            ("58c01f", Some(ConstrainedBaseline)),
            ("42001f", Some(Baseline)),
            ("42a01f", Some(Baseline)),
            ("58801f", Some(Baseline)),
            ("4d001f", Some(Main)),
            ("4d401f", Some(Main)),
            ("64001f", Some(High)),
            ("640c1f", Some(ConstrainedHigh)),
            ("f4001f", Some(PredictiveHigh444)),
            ("42e1", None),
            ("zz001f", None),
            ("+2e01f", None),
            ("55001f", None),
            ("éé1f", None),
        ];
        for (text, expected) in table {
            assert_eq!(H264Profile::from_profile_level_id(text), expected, "{text}");
        }
    }

    #[test]
    fn h264_matches_by_profile_and_packetization_mode_whatever_the_level() {
        let ours = h264(json!({"packetization-mode": 1, "profile-level-id": "42e01f",
            "level-asymmetry-allowed": 1}));
        let table = [
            (json!({"packetization-mode": 1, "profile-level-id": "42e034"}), true),
            (json!({"packetization-mode": "1", "profile-level-id": "42c01f"}), true),
            (json!({"packetization-mode": 1}), true),
            (json!({"packetization-mode": 0, "profile-level-id": "42e01f"}), false),
            (json!({"profile-level-id": "42e01f"}), false),
            (json!({"packetization-mode": 1, "profile-level-id": "42001f"}), false),
            (json!({"packetization-mode": 1, "profile-level-id": 420_029}), false),
            (json!({"packetization-mode": 1, "profile-level-id": "4d001f"}), false),
            (json!({"packetization-mode": 1, "profile-level-id": true}), false),
            (json!({"packetization-mode": 1, "profile-level-id": null}), true),
            (json!({"packetization-mode": 1, "profile-level-id": 0}), true),
            (json!({"packetization-mode": 1, "profile-level-id": ""}), true),
        ];
        for (theirs, expected) in table {
            assert_eq!(codecs_match(&ours, &h264(theirs.clone())), expected, "{theirs}");
        }
    }

    #[test]
    fn names_ignore_case_and_absent_channels_are_one() {
        let opus = codec(json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000,
            "channels": 2}));
        let shouted = codec(json!({"kind": "audio", "mimeType": "audio/OPUS", "clockRate": 48000,
            "channels": 2}));
        let mono = codec(json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000}));
        assert!(codecs_match(&opus, &shouted));
        assert!(!codecs_match(&opus, &mono));
        let one = codec(json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000,
            "channels": 1}));
        assert!(codecs_match(&mono, &one));
        let vp8 = |channels: u8| {
            codec(json!({"kind": "video", "mimeType": "video/VP8", "clockRate": 90000,
                "channels": channels}))
        };
        assert!(codecs_match(&vp8(1), &vp8(2)));
    }

    #[test]
    fn vp9_and_av1_profiles_must_agree_and_default_to_zero() {
        let vp9 = |p: Value| {
            codec(json!({"kind": "video", "mimeType": "video/VP9", "clockRate": 90000,
                "parameters": p}))
        };
        assert!(codecs_match(&vp9(json!({})), &vp9(json!({"profile-id": 0}))));
        assert!(!codecs_match(&vp9(json!({"profile-id": 2})), &vp9(json!({}))));
        let av1 = |p: Value| {
            codec(json!({"kind": "video", "mimeType": "video/AV1", "clockRate": 90000,
                "parameters": p}))
        };
        let chromium = json!({"level-idx": 5, "profile": 0, "tier": 0});
        assert!(codecs_match(&av1(chromium), &av1(json!({}))));
        assert!(!codecs_match(&av1(json!({"profile": 1})), &av1(json!({}))));
    }
}
