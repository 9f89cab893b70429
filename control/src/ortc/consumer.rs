//! What a client receives: the part of a producer's stream that it can take.
#![forbid(unsafe_code)]

use opencall_dataplane::message::AcceptedPayloadType;
use opencall_wire::rtp::extension::Extension;

use super::matching::{apt, codecs_match, is_rtx, subtype};
use super::red::{ROUTER_RED, is_red, red_codec, remote_red};
use super::router::extension_uri;
use super::{OrtcError, ScalabilityMode};
use crate::api::ConsumerType;
use crate::rtp_parameters::{
    Kind, RtcpFeedback, RtcpParameters, RtpCapabilities, RtpCodecCapability, RtpCodecParameters,
    RtpEncodingParameters, RtpHeaderExtensionParameters, RtpParameters,
};

/// The payload type of bandwidth probes: nothing else may come by it, nor by what is none.
const PROBATOR: u8 = 127;

/// Whose payload types and header extension ids a client is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// The router's, which the client has taken for its own.
    Router,
    /// The client's, which has described itself first (WHEP).
    Client,
}

/// A producer's stream as every client with the same capabilities receives it; a consumer adds the
/// numbers that are its own.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerStream {
    /// The codecs both sides have, RTX among them.
    pub codecs: Vec<RtpCodecParameters>,
    /// What the router's payload types are called towards the client.
    pub accepted: Vec<AcceptedPayloadType>,
    /// The extensions both sides have, under the client's ids.
    pub header_extensions: Vec<RtpHeaderExtensionParameters>,
    /// The only encoding, without its SSRCs.
    pub encoding: RtpEncodingParameters,
    /// CNAME of the producing client.
    pub rtcp: RtcpParameters,
    /// Whether lost packets are repeated in a stream of their own (RFC 4588).
    pub has_rtx: bool,
    /// Bytes of it as JSON.
    pub size: usize,
}

impl ConsumerStream {
    /// The same without `audio/red`: what is encrypted end to end is not repeated, for what opens
    /// it looks at whole payloads.
    #[must_use]
    pub fn without_red(mut self) -> Self {
        self.codecs.retain(|codec| !is_red(&codec.mime_type));
        for of in &mut self.accepted {
            of.red = None;
        }
        self
    }
}

/// Whether a client can take at least one codec of a stream.
pub fn can_consume(consumable: &RtpParameters, remote: &RtpCapabilities) -> bool {
    consumable
        .codecs
        .iter()
        .any(|codec| !is_rtx(&codec.mime_type) && remote_codec(codec, remote).is_some())
}

fn remote_codec<'a>(
    codec: &RtpCodecParameters,
    remote: &'a RtpCapabilities,
) -> Option<&'a RtpCodecCapability> {
    remote.codecs.iter().find(|theirs| codecs_match(*theirs, codec))
}

/// The stream as clients with the capabilities `remote` get it.
pub fn consumer_stream(
    kind: Kind,
    consumable: &RtpParameters,
    (remote, numbers): (&RtpCapabilities, Numbers),
    cname: &str,
) -> Result<ConsumerStream, OrtcError> {
    let header_extensions = common_extensions(kind, consumable, remote, numbers);
    let (mut codecs, accepted) = common_codecs(consumable, remote, numbers);
    if codecs.is_empty() {
        return Err(OrtcError::NothingInCommon(kind));
    }
    choose_bandwidth_feedback(&mut codecs, &header_extensions);
    let has_rtx = codecs.iter().any(|codec| is_rtx(&codec.mime_type));
    let encoding = RtpEncodingParameters {
        scalability_mode: consumer_scalability_mode(consumable),
        max_bitrate: consumable.encodings.iter().filter_map(|e| e.max_bitrate).max(),
        ..RtpEncodingParameters::default()
    };
    let rtcp = RtcpParameters { cname: Some(cname.to_owned()), reduced_size: Some(true) };
    let json_bytes = serde_json::to_string(&(&codecs, &header_extensions, &encoding, &rtcp));
    let size = json_bytes.map_or(0, |json| json.len());
    Ok(ConsumerStream { codecs, accepted, header_extensions, encoding, rtcp, has_rtx, size })
}

/// The codecs both sides have, media ones first kept with their RTX where the client has RTX for
/// that codec; with what the router calls each.
fn common_codecs(
    consumable: &RtpParameters,
    remote: &RtpCapabilities,
    numbers: Numbers,
) -> (Vec<RtpCodecParameters>, Vec<AcceptedPayloadType>) {
    let mut kept: Vec<RtpCodecParameters> = Vec::with_capacity(consumable.codecs.len());
    let mut accepted: Vec<AcceptedPayloadType> = Vec::new();
    let number = |ours: u8, theirs: &RtpCodecCapability| match numbers {
        Numbers::Router => Some(ours),
        Numbers::Client => theirs.preferred_payload_type.filter(|number| *number < PROBATOR),
    };
    for codec in &consumable.codecs {
        let router = codec.payload_type;
        let mut codec = codec.clone();
        if is_rtx(&codec.mime_type) {
            let of = accepted.iter_mut().find(|of| Some(of.router) == apt(&codec));
            let Some(of) = of else { continue };
            let repairs = |rtx: &&RtpCodecCapability| {
                is_rtx(&rtx.mime_type)
                    && rtx.clock_rate == codec.clock_rate
                    && apt(*rtx) == Some(of.sent)
            };
            let theirs = remote.codecs.iter().find(repairs);
            let Some(sent) = theirs.and_then(|theirs| number(router, theirs)) else { continue };
            of.rtx = Some(sent);
            codec.payload_type = sent;
            codec.parameters.insert("apt".to_owned(), of.sent.into());
            kept.push(codec);
            continue;
        }
        let Some(theirs) = remote_codec(&codec, remote) else { continue };
        let Some(sent) = number(router, theirs) else { continue };
        codec.payload_type = sent;
        codec.rtcp_feedback.retain(|entry| theirs.rtcp_feedback.contains(entry));
        accepted.push(AcceptedPayloadType { router, sent, rtx: None, red: None });
        kept.push(codec);
    }
    add_red(&mut kept, &mut accepted, remote, numbers);
    (kept, accepted)
}

/// Adds `audio/red` behind all other codecs, for a client that has it.
fn add_red(
    kept: &mut Vec<RtpCodecParameters>,
    accepted: &mut [AcceptedPayloadType],
    remote: &RtpCapabilities,
    numbers: Numbers,
) {
    let by_client = numbers == Numbers::Client;
    let found = accepted.iter_mut().find_map(|of| {
        let codec = kept.iter().find(|codec| codec.payload_type == of.sent)?;
        let theirs = remote_red(codec, of.sent, remote, by_client)?;
        let number = match numbers {
            Numbers::Router => ROUTER_RED,
            Numbers::Client => theirs.preferred_payload_type.filter(|of| *of < PROBATOR)?,
        };
        let is_free = kept.iter().all(|codec| codec.payload_type != number);
        is_free.then(|| {
            of.red = Some(number);
            red_codec(codec, number)
        })
    });
    kept.extend(found);
}

/// Extensions both sides have; by the router's ids only those that have the same at the client.
fn common_extensions(
    kind: Kind,
    consumable: &RtpParameters,
    remote: &RtpCapabilities,
    numbers: Numbers,
) -> Vec<RtpHeaderExtensionParameters> {
    let mut taken = [false; 256];
    let common = consumable.header_extensions.iter().filter_map(|ours| {
        let theirs = remote.header_extensions.iter().find(|theirs| {
            let is_same = numbers == Numbers::Client || theirs.preferred_id == ours.id;
            theirs.kind == kind && theirs.uri == ours.uri && is_same
        })?;
        let id = theirs.preferred_id;
        let is_twice = std::mem::replace(&mut taken[usize::from(id)], true);
        (id != 0 && !is_twice).then(|| RtpHeaderExtensionParameters { id, ..ours.clone() })
    });
    common.collect()
}

/// One bandwidth estimate is enough: transport-wide feedback where its extension is in, else REMB
/// where absolute send times are, else none.
fn choose_bandwidth_feedback(
    codecs: &mut [RtpCodecParameters],
    extensions: &[RtpHeaderExtensionParameters],
) {
    let has = |extension| extensions.iter().any(|e| e.uri == extension_uri(extension));
    let unwanted: &[&str] = if has(Extension::TransportCc) {
        &["goog-remb"]
    } else if has(Extension::AbsSendTime) {
        &["transport-cc"]
    } else {
        &["goog-remb", "transport-cc"]
    };
    for codec in codecs {
        codec.rtcp_feedback.retain(|entry: &RtcpFeedback| !unwanted.contains(&entry.kind.as_str()));
    }
}

/// `L{encodings}T{temporal}` for simulcast, the encoding's own mode else.
fn consumer_scalability_mode(consumable: &RtpParameters) -> Option<String> {
    let first = consumable.encodings.first()?;
    if consumable.encodings.len() == 1 {
        return first.scalability_mode.clone();
    }
    let modes = consumable.encodings.iter().filter_map(|e| e.scalability_mode.as_deref());
    let temporal = modes.map(|mode| ScalabilityMode::parse(mode).temporal).max().unwrap_or(1);
    Some(format!("L{}T{temporal}", consumable.encodings.len()))
}

/// How the layers of a stream come.
pub fn consumer_type(consumable: &RtpParameters) -> ConsumerType {
    if consumable.encodings.len() > 1 {
        return ConsumerType::Simulcast;
    }
    let mode = consumable.encodings.first().and_then(|e| e.scalability_mode.as_deref());
    if !ScalabilityMode::parse(mode.unwrap_or_default()).is_layered() {
        return ConsumerType::Simple;
    }
    let name = consumable.codecs.first().map_or("", |codec| subtype(&codec.mime_type));
    let has_layers_inside = ["vp9", "av1"].iter().any(|svc| name.eq_ignore_ascii_case(svc));
    if has_layers_inside { ConsumerType::Svc } else { ConsumerType::Simulcast }
}

#[cfg(test)]
mod tests {
    use super::super::{consumable_rtp_parameters, default_codecs, router_rtp_capabilities};
    use super::*;
    use serde_json::json;

    fn router() -> RtpCapabilities {
        router_rtp_capabilities(&default_codecs()).expect("default codecs")
    }

    fn consumable(mime_type: &str, encodings: serde_json::Value) -> RtpParameters {
        let parameters = serde_json::from_value(json!({"mid": "0", "codecs": [
            {"mimeType": mime_type, "payloadType": 96, "clockRate": 90000},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000,
             "parameters": {"apt": 96}}], "encodings": encodings}))
        .expect("parameters");
        consumable_rtp_parameters(Kind::Video, &parameters, &router()).expect("supported")
    }

    /// What mediasoup-client reports: the router's numbers, less what the browser lacks.
    fn browser_without(lacks: &[&str]) -> RtpCapabilities {
        let mut capabilities = router();
        let lacked = |text: &str| lacks.iter().any(|lacks| text.contains(lacks));
        capabilities.codecs.retain(|codec: &RtpCodecCapability| !lacked(&codec.mime_type));
        capabilities.header_extensions.retain(|extension| !lacked(&extension.uri));
        capabilities
    }

    fn stream(
        consumable: &RtpParameters,
        remote: &RtpCapabilities,
    ) -> Result<ConsumerStream, OrtcError> {
        consumer_stream(Kind::Video, consumable, (remote, Numbers::Router), "c")
    }

    /// A client that has described itself has numbers of its own: those of its codecs, of their
    /// retransmissions and of its header extensions.
    #[test]
    fn a_client_that_described_itself_keeps_its_numbers() {
        let consumable = consumable("video/VP8", json!([]));
        let mut remote = router();
        for codec in &mut remote.codecs {
            codec.preferred_payload_type = codec.preferred_payload_type.map(|number| number - 65);
            if let Some(apt) = codec.parameters.get_mut("apt") {
                *apt = (apt.as_u64().unwrap_or_default() - 65).into();
            }
        }
        for extension in &mut remote.header_extensions {
            extension.preferred_id = 15 - extension.preferred_id;
        }
        let of = |numbers| {
            let stream = consumer_stream(Kind::Video, &consumable, (&remote, numbers), "c");
            stream.expect("a codec in common")
        };
        let stream = of(Numbers::Client);
        let types: Vec<u8> = stream.codecs.iter().map(|codec| codec.payload_type).collect();
        assert_eq!((types, apt(&stream.codecs[1])), (vec![36, 37], Some(36)));
        assert_eq!(
            stream.accepted,
            [AcceptedPayloadType { router: 101, sent: 36, rtx: Some(37), red: None }]
        );
        let id = |wanted| {
            let of = stream.header_extensions.iter().find(|of| of.uri == extension_uri(wanted));
            of.map(|of| of.id)
        };
        assert_eq!((id(Extension::Mid), id(Extension::TransportCc)), (Some(14), Some(10)));
        assert!(of(Numbers::Router).header_extensions.is_empty(), "no id is the same");
        for extension in &mut remote.header_extensions {
            extension.preferred_id = 3;
        }
        let stream = consumer_stream(Kind::Video, &consumable, (&remote, Numbers::Client), "c");
        assert_eq!(stream.expect("a codec").header_extensions.len(), 1, "an id names one");
    }

    fn feedback_of(parameters: &ConsumerStream) -> Vec<String> {
        let entries = parameters.codecs[0].rtcp_feedback.iter();
        entries.map(|entry| format!("{} {}", entry.kind, entry.parameter)).collect()
    }

    #[test]
    fn simulcast_becomes_one_stream_with_its_layers_named() {
        let encodings = json!([{"rid": "r0", "scalabilityMode": "L1T3", "maxBitrate": 100_000},
            {"rid": "r1", "scalabilityMode": "L1T3", "maxBitrate": 900_000}]);
        let consumable = consumable("video/VP8", encodings);
        assert_eq!(consumer_type(&consumable), ConsumerType::Simulcast);
        let parameters = stream(&consumable, &router()).expect("ok");
        let expected = RtpEncodingParameters {
            scalability_mode: Some("L2T3".into()),
            max_bitrate: Some(900_000),
            ..Default::default()
        };
        assert_eq!(parameters.encoding, expected);
        assert!(parameters.has_rtx);
        assert_eq!(parameters.rtcp.cname.as_deref(), Some("c"));
        let types: Vec<u8> = parameters.codecs.iter().map(|c| c.payload_type).collect();
        assert_eq!(types, [101, 102]);
    }

    #[test]
    fn one_bandwidth_feedback_is_left() {
        let consumable = consumable("video/VP8", json!([]));
        let table: [(&[&str], &[&str]); 3] = [
            (&[], &["nack ", "nack pli", "ccm fir", "transport-cc "]),
            (&["transport-wide-cc"], &["nack ", "nack pli", "ccm fir", "goog-remb "]),
            (&["transport-wide-cc", "abs-send-time"], &["nack ", "nack pli", "ccm fir"]),
        ];
        for (lacks, expected) in table {
            let remote = browser_without(lacks);
            let parameters = stream(&consumable, &remote).expect("ok");
            assert_eq!(feedback_of(&parameters), expected, "without {lacks:?}");
        }
    }

    #[test]
    fn rtx_stays_only_where_the_client_has_it() {
        let consumable = consumable("video/VP9", json!([]));
        let remote = browser_without(&["rtx"]);
        let parameters = stream(&consumable, &remote).expect("ok");
        assert_eq!(parameters.codecs.len(), 1);
        assert!(!parameters.has_rtx);
    }

    #[test]
    fn extensions_must_agree_in_kind_uri_and_id() {
        let consumable = consumable("video/VP8", json!([]));
        let mut remote = router();
        for extension in &mut remote.header_extensions {
            match extension.preferred_id {
                4 => extension.preferred_id = 14,
                8 => extension.kind = Kind::Audio,
                _ => {}
            }
        }
        let parameters = stream(&consumable, &remote).expect("ok");
        let mut found: Vec<u8> = parameters.header_extensions.iter().map(|e| e.id).collect();
        found.sort_unstable();
        assert_eq!(found, [1, 5, 7, 9, 10, 11]);
    }

    #[test]
    fn a_client_without_the_codec_cannot_consume() {
        let consumable = consumable("video/AV1", json!([]));
        assert!(can_consume(&consumable, &router()));
        let firefox = browser_without(&["AV1"]);
        assert!(!can_consume(&consumable, &firefox));
        let result = stream(&consumable, &firefox);
        assert_eq!(result, Err(OrtcError::NothingInCommon(Kind::Video)));
        assert!(!can_consume(&consumable, &RtpCapabilities::default()));
    }

    #[test]
    fn the_type_says_how_layers_come() {
        let table = [
            ("video/VP8", json!([]), ConsumerType::Simple),
            ("video/VP8", json!([{"ssrc": 1, "scalabilityMode": "L1T1"}]), ConsumerType::Simple),
            ("video/VP8", json!([{"ssrc": 1, "scalabilityMode": "L1T3"}]), ConsumerType::Simulcast),
            ("video/VP9", json!([{"ssrc": 1, "scalabilityMode": "L3T3_KEY"}]), ConsumerType::Svc),
            ("video/AV1", json!([{"ssrc": 1, "scalabilityMode": "L1T3"}]), ConsumerType::Svc),
            ("video/VP9", json!([{"rid": "a"}, {"rid": "b"}]), ConsumerType::Simulcast),
        ];
        for (mime_type, encodings, expected) in table {
            let consumable = consumable(mime_type, encodings.clone());
            assert_eq!(consumer_type(&consumable), expected, "{mime_type} {encodings}");
        }
    }
}
