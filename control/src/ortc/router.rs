//! The router's own capabilities: its codecs with payload types, feedback, and header extensions.
#![forbid(unsafe_code)]

use opencall_wire::rtp::extension::Extension;
use serde_json::{Map, Value, json};

use super::OrtcError;
use super::matching::subtype;
use crate::rtp_parameters::{
    ExtensionDirection, Kind, RtcpFeedback, RtpCapabilities, RtpCodecCapability,
    RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtension, RtpParameters,
};

/// Payload types handed out, in this order. 127 is left out: clients receive bandwidth probes on
/// it (the `probator` stream of mediasoup-client).
const DYNAMIC_PAYLOAD_TYPES: [std::ops::RangeInclusive<u8>; 2] = [100..=126, 96..=99];

/// A video clock (RFC 3551 section 5).
const VIDEO_CLOCK_HZ: u32 = 90_000;

/// Where each header extension goes, in the order of its id (1, 2, …): audio direction, video
/// direction. Absent means the kind does not have it. All ids fit one-byte headers (RFC 8285), so
/// that no value may be longer than 16 bytes.
const EXTENSIONS: [(Extension, Option<ExtensionDirection>, Option<ExtensionDirection>); 11] = {
    use ExtensionDirection::{Recvonly, Sendrecv};
    [
        (Extension::Mid, Some(Sendrecv), Some(Sendrecv)),
        (Extension::Rid, None, Some(Recvonly)),
        (Extension::RepairedRid, None, Some(Recvonly)),
        (Extension::AbsSendTime, Some(Sendrecv), Some(Sendrecv)),
        (Extension::TransportCc, Some(Recvonly), Some(Sendrecv)),
        (Extension::AudioLevel, Some(Sendrecv), None),
        (Extension::DependencyDescriptor, None, Some(Sendrecv)),
        (Extension::VideoOrientation, None, Some(Sendrecv)),
        (Extension::TransmissionOffset, None, Some(Sendrecv)),
        (Extension::AbsCaptureTime, Some(Sendrecv), Some(Sendrecv)),
        (Extension::PlayoutDelay, None, Some(Sendrecv)),
    ]
};

/// The URI under which an extension is negotiated.
pub const fn extension_uri(extension: Extension) -> &'static str {
    match extension {
        Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
        Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        Extension::TransportCc => {
            "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
        }
        Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        Extension::DependencyDescriptor => {
            "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
        }
        Extension::VideoOrientation => "urn:3gpp:video-orientation",
        Extension::TransmissionOffset => "urn:ietf:params:rtp-hdrext:toffset",
        Extension::AbsCaptureTime => {
            "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
        }
        Extension::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    }
}

/// The extension a URI names, if the data plane knows it.
pub fn extension_from_uri(uri: &str) -> Option<Extension> {
    Extension::ALL.into_iter().find(|extension| extension_uri(*extension) == uri)
}

/// One codec by the name an operator writes. H.264 is several: one per profile that browsers send.
pub fn codecs_by_name(name: &str) -> Result<Vec<RtpCodecCapability>, OrtcError> {
    let audio = |mime_type: &str, clock_rate, channels, parameters| {
        codec(Kind::Audio, mime_type, clock_rate, channels, parameters)
    };
    let video = |mime_type: &str, parameters| {
        codec(Kind::Video, mime_type, VIDEO_CLOCK_HZ, None, parameters)
    };
    let h264 = |profile_level_id: &str| {
        video(
            "video/H264",
            json!({"packetization-mode": 1, "profile-level-id": profile_level_id,
                "level-asymmetry-allowed": 1}),
        )
    };
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        "opus" => {
            vec![audio("audio/opus", 48_000, Some(2), json!({"minptime": 10, "useinbandfec": 1}))]
        }
        "pcmu" => vec![audio("audio/PCMU", 8_000, None, json!({}))],
        "pcma" => vec![audio("audio/PCMA", 8_000, None, json!({}))],
        "g722" => vec![audio("audio/G722", 8_000, None, json!({}))],
        "vp8" => vec![video("video/VP8", json!({}))],
        "vp9" => vec![video("video/VP9", json!({"profile-id": 0}))],
        "h264" => vec![h264("42e01f"), h264("42001f"), h264("4d001f"), h264("64001f")],
        "av1" => vec![video("video/AV1", json!({}))],
        _ => return Err(OrtcError::UnknownCodec(name.to_owned())),
    })
}

/// Codecs by a comma-separated list of names; the order is the order of preference.
pub fn codec_list(names: &str) -> Result<Vec<RtpCodecCapability>, OrtcError> {
    let mut codecs = Vec::new();
    for name in names.split(',').filter(|name| !name.trim().is_empty()) {
        codecs.extend(codecs_by_name(name)?);
    }
    Ok(codecs)
}

/// What a router offers unless told otherwise. VP8 comes first: a client's default codec is the
/// router's first, and VP8 simulcast is what every browser encodes and decodes.
pub fn default_codecs() -> Vec<RtpCodecCapability> {
    codec_list("opus,vp8,vp9,h264,av1").expect("the names are those of codecs_by_name")
}

fn codec(
    kind: Kind,
    mime_type: &str,
    clock_rate: u32,
    channels: Option<u8>,
    parameters: Value,
) -> RtpCodecCapability {
    let Value::Object(parameters) = parameters else { unreachable!("parameters are objects") };
    RtpCodecCapability {
        kind,
        mime_type: mime_type.to_owned(),
        preferred_payload_type: None,
        clock_rate,
        channels,
        parameters,
        rtcp_feedback: Vec::new(),
    }
}

/// What a producer of the stage may carry: everything of a kind that the router can do, as if one
/// client sent it, in so many encodings.
pub(crate) fn stage_parameters(
    kind: Kind,
    router: &RtpCapabilities,
    encodings: usize,
) -> RtpParameters {
    let of_kind = router.codecs.iter().filter(|codec| codec.kind == kind);
    let codec = |codec: &RtpCodecCapability| {
        Some(RtpCodecParameters {
            mime_type: codec.mime_type.clone(),
            payload_type: codec.preferred_payload_type?,
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: codec.parameters.clone(),
            rtcp_feedback: codec.rtcp_feedback.clone(),
        })
    };
    RtpParameters {
        codecs: of_kind.filter_map(codec).collect(),
        encodings: vec![RtpEncodingParameters::default(); encodings],
        ..RtpParameters::default()
    }
}

/// The router's capabilities: each wanted codec with a payload type and feedback, RTX beside each
/// video codec, and all header extensions.
pub fn router_rtp_capabilities(
    wanted: &[RtpCodecCapability],
) -> Result<RtpCapabilities, OrtcError> {
    let mut taken = [false; 128];
    let mut codecs = Vec::with_capacity(wanted.len() * 2);
    for codec in wanted {
        if let Some(payload_type) = codec.preferred_payload_type {
            take(&mut taken, payload_type)?;
        }
    }
    for codec in wanted {
        let payload_type = match codec.preferred_payload_type {
            Some(payload_type) => payload_type,
            None => match static_payload_type(codec) {
                Some(payload_type) => {
                    take(&mut taken, payload_type)?;
                    payload_type
                }
                None => next_free(&mut taken)?,
            },
        };
        let mut codec = codec.clone();
        codec.preferred_payload_type = Some(payload_type);
        codec.rtcp_feedback = router_feedback(&codec);
        let kind = codec.kind;
        codecs.push(codec);
        if kind == Kind::Video {
            codecs.push(rtx(payload_type, next_free(&mut taken)?));
        }
    }
    Ok(RtpCapabilities { codecs, header_extensions: header_extensions() })
}

/// Payload types fixed by RFC 3551.
fn static_payload_type(codec: &RtpCodecCapability) -> Option<u8> {
    match (codec.mime_type.to_ascii_lowercase().as_str(), codec.clock_rate) {
        ("audio/pcmu", 8_000) => Some(0),
        ("audio/pcma", 8_000) => Some(8),
        ("audio/g722", 8_000) => Some(9),
        ("audio/cn", 8_000) => Some(13),
        _ => None,
    }
}

fn take(taken: &mut [bool; 128], payload_type: u8) -> Result<(), OrtcError> {
    let slot = taken.get_mut(usize::from(payload_type)).ok_or_else(|| {
        OrtcError::Invalid(format!("payload type {payload_type} is above 127: use 0 to 127"))
    })?;
    if std::mem::replace(slot, true) {
        return Err(OrtcError::DuplicatePayloadType(payload_type));
    }
    Ok(())
}

fn next_free(taken: &mut [bool; 128]) -> Result<u8, OrtcError> {
    let free = DYNAMIC_PAYLOAD_TYPES
        .into_iter()
        .flatten()
        .find(|&payload_type| !taken[usize::from(payload_type)])
        .ok_or(OrtcError::NoPayloadTypeLeft)?;
    taken[usize::from(free)] = true;
    Ok(free)
}

fn rtx(apt: u8, payload_type: u8) -> RtpCodecCapability {
    let mut parameters = Map::new();
    parameters.insert("apt".to_owned(), apt.into());
    RtpCodecCapability {
        kind: Kind::Video,
        mime_type: "video/rtx".to_owned(),
        preferred_payload_type: Some(payload_type),
        clock_rate: VIDEO_CLOCK_HZ,
        channels: None,
        parameters,
        rtcp_feedback: Vec::new(),
    }
}

fn router_feedback(codec: &RtpCodecCapability) -> Vec<RtcpFeedback> {
    let pairs: &[(&str, &str)] = match codec.kind {
        Kind::Video => &[
            ("nack", ""),
            ("nack", "pli"),
            ("ccm", "fir"),
            ("goog-remb", ""),
            ("transport-cc", ""),
        ],
        Kind::Audio if subtype(&codec.mime_type).eq_ignore_ascii_case("opus") => {
            &[("nack", ""), ("transport-cc", "")]
        }
        Kind::Audio => &[("transport-cc", "")],
    };
    let feedback = |&(kind, parameter): &(&str, &str)| RtcpFeedback {
        kind: kind.to_owned(),
        parameter: parameter.to_owned(),
    };
    pairs.iter().map(feedback).collect()
}

fn header_extensions() -> Vec<RtpHeaderExtension> {
    let of_kind = |kind: Kind| {
        (1..).zip(EXTENSIONS).filter_map(move |(preferred_id, (extension, audio, video))| {
            let direction = match kind {
                Kind::Audio => audio,
                Kind::Video => video,
            }?;
            Some(RtpHeaderExtension {
                kind,
                uri: extension_uri(extension).to_owned(),
                preferred_id,
                preferred_encrypt: false,
                direction,
            })
        })
    };
    of_kind(Kind::Audio).chain(of_kind(Kind::Video)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(capabilities: &RtpCapabilities) -> Vec<(String, u8, Option<u64>)> {
        let one = |codec: &RtpCodecCapability| {
            (
                codec.mime_type.clone(),
                codec.preferred_payload_type.expect("every router codec has one"),
                codec.parameters.get("apt").and_then(Value::as_u64),
            )
        };
        capabilities.codecs.iter().map(one).collect()
    }

    #[test]
    fn payload_types_count_up_and_each_video_codec_has_its_rtx() {
        let capabilities =
            router_rtp_capabilities(&codec_list("opus,vp8,pcmu,vp9").expect("known")).expect("ok");
        let expected = [
            ("audio/opus", 100, None),
            ("video/VP8", 101, None),
            ("video/rtx", 102, Some(101)),
            ("audio/PCMU", 0, None),
            ("video/VP9", 103, None),
            ("video/rtx", 104, Some(103)),
        ];
        let expected: Vec<_> = expected.map(|(m, p, a)| (m.to_owned(), p, a)).into();
        assert_eq!(summary(&capabilities), expected);
    }

    #[test]
    fn a_given_payload_type_is_kept_and_never_handed_out_twice() {
        let mut codecs = codec_list("vp8,vp9").expect("known");
        codecs[1].preferred_payload_type = Some(100);
        let capabilities = router_rtp_capabilities(&codecs).expect("ok");
        let types: Vec<u8> = summary(&capabilities).iter().map(|(_, p, _)| *p).collect();
        assert_eq!(types, [101, 102, 100, 103]);
        codecs[0].preferred_payload_type = Some(100);
        let error = router_rtp_capabilities(&codecs).expect_err("twice");
        assert_eq!(error, OrtcError::DuplicatePayloadType(100));
        codecs[0].preferred_payload_type = Some(128);
        assert!(matches!(router_rtp_capabilities(&codecs), Err(OrtcError::Invalid(_))));
    }

    #[test]
    fn payload_types_end_and_127_stays_free() {
        let many: Vec<_> = (0..15).flat_map(|_| codecs_by_name("vp8").expect("known")).collect();
        let capabilities = router_rtp_capabilities(&many).expect("30 of 31 types");
        assert!(summary(&capabilities).iter().all(|(_, p, _)| (96..=126).contains(p)));
        let many: Vec<_> = (0..16).flat_map(|_| codecs_by_name("vp8").expect("known")).collect();
        assert_eq!(router_rtp_capabilities(&many), Err(OrtcError::NoPayloadTypeLeft));
    }

    #[test]
    fn extension_ids_and_directions_are_fixed() {
        let capabilities = router_rtp_capabilities(&default_codecs()).expect("ok");
        let find = |kind, extension| {
            capabilities
                .header_extensions
                .iter()
                .find(|e| e.kind == kind && e.uri == extension_uri(extension))
                .map(|e| (e.preferred_id, e.direction))
        };
        use ExtensionDirection::*;
        assert_eq!(find(Kind::Audio, Extension::Mid), Some((1, Sendrecv)));
        assert_eq!(find(Kind::Video, Extension::Rid), Some((2, Recvonly)));
        assert_eq!(find(Kind::Audio, Extension::Rid), None);
        assert_eq!(find(Kind::Audio, Extension::TransportCc), Some((5, Recvonly)));
        assert_eq!(find(Kind::Video, Extension::TransportCc), Some((5, Sendrecv)));
        assert_eq!(find(Kind::Audio, Extension::AudioLevel), Some((6, Sendrecv)));
        assert_eq!(find(Kind::Video, Extension::PlayoutDelay), Some((11, Sendrecv)));
        assert!(capabilities.header_extensions.iter().all(|e| (1..=14).contains(&e.preferred_id)));
    }

    #[test]
    fn the_first_video_codec_by_default_is_vp8_and_unknown_names_are_refused() {
        let codecs = default_codecs();
        let first = codecs.iter().find(|codec| codec.kind == Kind::Video).expect("video");
        assert_eq!(first.mime_type, "video/VP8");
        assert_eq!(codec_list("vp8, h265"), Err(OrtcError::UnknownCodec(" h265".to_owned())));
        assert_eq!(codec_list("AV1 ,").expect("known").len(), 1);
    }

    #[test]
    fn every_extension_is_found_by_its_uri() {
        for extension in Extension::ALL {
            assert_eq!(extension_from_uri(extension_uri(extension)), Some(extension));
        }
        assert_eq!(extension_from_uri("urn:unknown"), None);
    }
}
