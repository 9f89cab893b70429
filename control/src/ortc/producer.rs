//! What a client sends, in the router's terms.
#![forbid(unsafe_code)]

use opencall_dataplane::message::{Feedback, PayloadTypeMapping};
use opencall_wire::codec::Codec;
use opencall_wire::rtp::extension::ExtensionIds;
use smallvec::SmallVec;

use super::OrtcError;
use super::matching::{apt, codecs_match, is_rtx, subtype};
use super::red::{is_red, is_red_of};
use super::router::extension_from_uri;
use crate::rtp_parameters::{
    ExtensionDirection, Kind, RtcpFeedback, RtcpParameters, RtpCapabilities, RtpCodecCapability,
    RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionParameters, RtpParameters,
};

/// How a producer's numbers translate into the router's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpMapping {
    /// Per media codec, in the producer's order; the first is the main codec.
    pub payload_types: SmallVec<[PayloadTypeMapping; 2]>,
    /// Header extension ids as the producer uses them.
    pub extensions: ExtensionIds,
    /// Feedback the producer understands.
    pub feedback: Feedback,
}

/// Finds the router codec of every codec the client sends. The parameters must have passed
/// [`super::validate_rtp_parameters`].
pub fn producer_rtp_mapping(
    parameters: &RtpParameters,
    router: &RtpCapabilities,
) -> Result<RtpMapping, OrtcError> {
    let mut payload_types = SmallVec::new();
    let rtx_of = |codec: &RtpCodecParameters| {
        let mut all = parameters.codecs.iter();
        let rtx = all.find(|rtx| is_rtx(&rtx.mime_type) && apt(*rtx) == Some(codec.payload_type));
        rtx.map(|rtx| rtx.payload_type)
    };
    for codec in media(parameters) {
        let (ours, payload_type) = router_codec(codec, router)?;
        payload_types.push(PayloadTypeMapping {
            incoming: codec.payload_type,
            incoming_rtx: rtx_of(codec),
            router: payload_type,
            codec: data_plane_codec(&ours.mime_type),
            clock_rate_hz: codec.clock_rate,
        });
    }
    // Last: what a producer sends is the first of them.
    for red in parameters.codecs.iter().filter(|codec| is_red(&codec.mime_type)) {
        let of = media(parameters).find(|of| is_red_of(red, *of, of.payload_type));
        let (_, payload_type) = router_codec(of.unwrap_or(red), router)?;
        payload_types.push(PayloadTypeMapping {
            incoming: red.payload_type,
            incoming_rtx: rtx_of(red),
            router: payload_type,
            codec: Codec::Red,
            clock_rate_hz: red.clock_rate,
        });
    }
    let main = media(parameters).next().map_or(&[][..], |codec| &codec.rtcp_feedback);
    Ok(RtpMapping {
        payload_types,
        extensions: extension_ids(&parameters.header_extensions),
        feedback: feedback(main),
    })
}

/// The codecs of a producer, without those that repeat others.
fn media(parameters: &RtpParameters) -> impl Iterator<Item = &RtpCodecParameters> {
    let is_media =
        |codec: &&RtpCodecParameters| !is_rtx(&codec.mime_type) && !is_red(&codec.mime_type);
    parameters.codecs.iter().filter(is_media)
}

fn router_codec<'a>(
    codec: &RtpCodecParameters,
    router: &'a RtpCapabilities,
) -> Result<(&'a RtpCodecCapability, u8), OrtcError> {
    let ours = router.codecs.iter().find(|ours| codecs_match(*ours, codec));
    ours.and_then(|ours| Some((ours, ours.preferred_payload_type?))).ok_or_else(|| {
        OrtcError::UnsupportedCodec {
            mime_type: codec.mime_type.clone(),
            payload_type: codec.payload_type,
        }
    })
}

fn router_rtx(payload_type: u8, router: &RtpCapabilities) -> Option<&RtpCodecCapability> {
    router.codecs.iter().find(|rtx| is_rtx(&rtx.mime_type) && apt(*rtx) == Some(payload_type))
}

fn data_plane_codec(mime_type: &str) -> Codec {
    match subtype(mime_type).to_ascii_lowercase().as_str() {
        "opus" => Codec::Opus,
        "vp8" => Codec::Vp8,
        "vp9" => Codec::Vp9,
        "h264" => Codec::H264,
        "av1" => Codec::Av1,
        _ => Codec::Opaque,
    }
}

/// The ids of the extensions that the data plane knows.
pub(crate) fn extension_ids(extensions: &[RtpHeaderExtensionParameters]) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for extension in extensions {
        if let Some(known) = extension_from_uri(&extension.uri) {
            ids.set(known, extension.id);
        }
    }
    ids
}

/// The feedback mechanisms that the data plane knows.
pub(crate) fn feedback(entries: &[RtcpFeedback]) -> Feedback {
    let has = |kind: &str, parameter: &str| {
        entries.iter().any(|entry| entry.kind == kind && entry.parameter == parameter)
    };
    Feedback {
        nack: has("nack", ""),
        pli: has("nack", "pli"),
        fir: has("ccm", "fir"),
        remb: has("goog-remb", ""),
        transport_cc: has("transport-cc", ""),
    }
}

/// A producer's stream as consumers may get it: the router's names and numbers, the producer's
/// codec parameters, no SSRC yet.
pub fn consumable_rtp_parameters(
    kind: Kind,
    parameters: &RtpParameters,
    router: &RtpCapabilities,
) -> Result<RtpParameters, OrtcError> {
    let mut codecs: Vec<RtpCodecParameters> = Vec::with_capacity(parameters.codecs.len());
    for codec in media(parameters) {
        let (ours, payload_type) = router_codec(codec, router)?;
        if codecs.iter().any(|known| known.payload_type == payload_type) {
            continue;
        }
        let mut renamed = in_use(ours, payload_type);
        renamed.parameters = codec.parameters.clone();
        codecs.push(renamed);
        if let Some(rtx) = router_rtx(payload_type, router)
            && let Some(rtx_payload_type) = rtx.preferred_payload_type
        {
            codecs.push(in_use(rtx, rtx_payload_type));
        }
    }
    Ok(RtpParameters {
        mid: None,
        codecs,
        header_extensions: sent_extensions(kind, router),
        encodings: consumable_encodings(&parameters.encodings),
        rtcp: RtcpParameters { cname: parameters.rtcp.cname.clone(), reduced_size: Some(true) },
    })
}

fn in_use(codec: &RtpCodecCapability, payload_type: u8) -> RtpCodecParameters {
    RtpCodecParameters {
        mime_type: codec.mime_type.clone(),
        payload_type,
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        parameters: codec.parameters.clone(),
        rtcp_feedback: codec.rtcp_feedback.clone(),
    }
}

fn sent_extensions(kind: Kind, router: &RtpCapabilities) -> Vec<RtpHeaderExtensionParameters> {
    use ExtensionDirection::{Sendonly, Sendrecv};
    let sent = router.header_extensions.iter().filter(|extension| {
        extension.kind == kind && matches!(extension.direction, Sendrecv | Sendonly)
    });
    sent.map(|extension| RtpHeaderExtensionParameters {
        uri: extension.uri.clone(),
        id: extension.preferred_id,
        encrypt: false,
        parameters: serde_json::Map::new(),
    })
    .collect()
}

fn consumable_encodings(encodings: &[RtpEncodingParameters]) -> Vec<RtpEncodingParameters> {
    if encodings.is_empty() {
        return vec![RtpEncodingParameters::default()];
    }
    let unnamed = |encoding: &RtpEncodingParameters| RtpEncodingParameters {
        ssrc: None,
        rid: None,
        rtx: None,
        codec_payload_type: None,
        ..encoding.clone()
    };
    encodings.iter().map(unnamed).collect()
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtp::extension::Extension;
    use serde_json::{Value, json};

    use super::super::{default_codecs, router_rtp_capabilities, validate_rtp_parameters};
    use super::*;

    fn router() -> RtpCapabilities {
        router_rtp_capabilities(&default_codecs()).expect("default codecs")
    }

    fn chromium_simulcast() -> RtpParameters {
        serde_json::from_value(json!({
            "mid": "0",
            "codecs": [
                {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "parameters": {},
                 "rtcpFeedback": [{"type": "goog-remb", "parameter": ""},
                    {"type": "transport-cc", "parameter": ""}, {"type": "ccm", "parameter": "fir"},
                    {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}]},
                {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000,
                 "parameters": {"apt": 96}, "rtcpFeedback": []}],
            "headerExtensions": [
                {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false},
                {"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": 10},
                {"uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", "id": 11},
                {"uri": "urn:unknown", "id": 12}],
            "encodings": [
                {"active": true, "scaleResolutionDownBy": 4, "maxBitrate": 100_000, "rid": "r0",
                 "scalabilityMode": "L1T3", "dtx": false},
                {"active": true, "scaleResolutionDownBy": 2, "maxBitrate": 300_000, "rid": "r1",
                 "scalabilityMode": "L1T3", "dtx": false},
                {"active": true, "scaleResolutionDownBy": 1, "maxBitrate": 900_000, "rid": "r2",
                 "scalabilityMode": "L1T3", "dtx": false}],
            "rtcp": {"cname": "4XLq", "reducedSize": true}
        }))
        .expect("parameters")
    }

    #[test]
    fn a_browsers_payload_types_and_ids_map_to_the_routers() {
        let parameters = chromium_simulcast();
        validate_rtp_parameters(Kind::Video, &parameters).expect("valid");
        let mapping = producer_rtp_mapping(&parameters, &router()).expect("supported");
        let expected = PayloadTypeMapping {
            incoming: 96,
            incoming_rtx: Some(97),
            router: 101,
            codec: Codec::Vp8,
            clock_rate_hz: 90_000,
        };
        assert_eq!(mapping.payload_types.as_slice(), [expected]);
        assert_eq!(mapping.extensions.id(Extension::Mid), Some(4));
        assert_eq!(mapping.extensions.id(Extension::RepairedRid), Some(11));
        assert_eq!(mapping.extensions.extension(12), None);
        let all = Feedback { nack: true, pli: true, fir: true, remb: true, transport_cc: true };
        assert_eq!(mapping.feedback, all);
    }

    #[test]
    fn consumers_see_the_routers_numbers_and_the_producers_parameters() {
        let mut parameters = chromium_simulcast();
        parameters.codecs[0] = serde_json::from_value(json!({"mimeType": "video/h264",
            "payloadType": 96, "clockRate": 90000, "parameters": {"packetization-mode": 1,
            "profile-level-id": "42e028", "level-asymmetry-allowed": 1}}))
        .expect("codec");
        let consumable =
            consumable_rtp_parameters(Kind::Video, &parameters, &router()).expect("supported");
        let codec = &consumable.codecs[0];
        assert_eq!(codec.mime_type, "video/H264");
        assert_eq!(codec.parameters["profile-level-id"], "42e028");
        assert_eq!(codec.rtcp_feedback.len(), 5);
        let rtx = &consumable.codecs[1];
        assert_eq!(rtx.parameters["apt"], Value::from(codec.payload_type));
        assert_eq!(consumable.encodings.len(), 3);
        assert!(consumable.encodings.iter().all(|e| e.rid.is_none() && e.ssrc.is_none()));
        assert_eq!(consumable.encodings[2].max_bitrate, Some(900_000));
        assert_eq!(consumable.rtcp.cname.as_deref(), Some("4XLq"));
        let uris: Vec<&str> = consumable.header_extensions.iter().map(|e| e.uri.as_str()).collect();
        assert!(!uris.contains(&"urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
        assert!(uris.contains(&"urn:3gpp:video-orientation"));
    }

    #[test]
    fn audio_is_not_sent_transport_wide_numbers() {
        let opus: RtpParameters = serde_json::from_value(json!({"mid": "1", "codecs": [
            {"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
             "parameters": {"usedtx": 1, "sprop-stereo": 1}}]}))
        .expect("parameters");
        let consumable =
            consumable_rtp_parameters(Kind::Audio, &opus, &router()).expect("supported");
        let cc = super::super::extension_uri(Extension::TransportCc);
        assert!(consumable.header_extensions.iter().all(|e| e.uri != cc));
        assert_eq!(consumable.codecs[0].parameters["usedtx"], 1);
        assert_eq!(consumable.encodings, [RtpEncodingParameters::default()]);
    }

    #[test]
    fn unknown_codecs_and_profiles_are_refused() {
        let table = [
            json!({"mimeType": "video/H265", "payloadType": 96, "clockRate": 90000}),
            json!({"mimeType": "video/VP9", "payloadType": 96, "clockRate": 90000,
                "parameters": {"profile-id": 2}}),
            json!({"mimeType": "video/H264", "payloadType": 96, "clockRate": 90000,
                "parameters": {"packetization-mode": 0, "profile-level-id": "42e01f"}}),
            json!({"mimeType": "video/red", "payloadType": 96, "clockRate": 90000}),
        ];
        for codec in table {
            let parameters: RtpParameters =
                serde_json::from_value(json!({"mid": "0", "codecs": [codec]})).expect("ok");
            let error = producer_rtp_mapping(&parameters, &router()).expect_err("unsupported");
            assert!(matches!(error, OrtcError::UnsupportedCodec { payload_type: 96, .. }));
            assert!(consumable_rtp_parameters(Kind::Video, &parameters, &router()).is_err());
        }
    }
}
