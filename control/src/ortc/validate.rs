//! Bounds on what a client may write into its capabilities and parameters. What has passed here
//! can be stored, matched and handed to others without another look.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::OrtcError;
use super::matching::{apt, is_rtx};
use crate::rtp_parameters::{
    Kind, RtcpFeedback, RtpCapabilities, RtpEncodingParameters, RtpParameters,
};

/// Codecs in one list. Chromium lists about 50 with RTX and all H.264 profiles.
pub const MAX_CODECS: usize = 128;

/// Header extensions in one list. Browsers list about 30 for both kinds.
pub const MAX_HEADER_EXTENSIONS: usize = 64;

/// Feedback mechanisms of one codec. Browsers list 5.
pub const MAX_FEEDBACK: usize = 16;

/// Format parameters of one codec. Browsers write at most 6.
pub const MAX_PARAMETERS: usize = 32;

/// Encodings of one producer: three are usual, a fourth is room for thumbnails.
pub const MAX_ENCODINGS: usize = 4;

/// Bytes of a name, URI or parameter value. The longest real one is a URI of 86.
pub const MAX_TEXT_BYTES: usize = 256;

/// Bytes of a CNAME: the length field of an SDES item is one byte (RFC 3550 section 6.5).
pub const MAX_CNAME_BYTES: usize = 255;

/// Bytes of a MID or RID: what a one-byte header extension can carry (RFC 8285).
const MAX_SHORT_ID_BYTES: usize = 16;

type Checked = Result<(), OrtcError>;

fn invalid(reason: impl Into<String>) -> OrtcError {
    OrtcError::Invalid(reason.into())
}

fn at_most(what: &str, count: usize, most: usize) -> Checked {
    if count > most {
        return Err(invalid(format!("{count} {what} are too many: send at most {most}")));
    }
    Ok(())
}

fn text(what: &str, text: &str) -> Checked {
    if text.is_empty() || text.len() > MAX_TEXT_BYTES {
        return Err(invalid(format!("{what} must have 1 to {MAX_TEXT_BYTES} bytes")));
    }
    Ok(())
}

/// Checks what a client says that it can receive.
pub fn validate_rtp_capabilities(capabilities: &RtpCapabilities) -> Checked {
    at_most("codecs", capabilities.codecs.len(), MAX_CODECS)?;
    for codec in &capabilities.codecs {
        mime_type(&codec.mime_type, codec.kind)?;
        codec_body(&codec.mime_type, &codec.parameters, &codec.rtcp_feedback)?;
    }
    at_most("header extensions", capabilities.header_extensions.len(), MAX_HEADER_EXTENSIONS)?;
    for extension in &capabilities.header_extensions {
        text("the URI of a header extension", &extension.uri)?;
    }
    Ok(())
}

/// Checks what a client says that it will send. An absent list of encodings is one plain encoding.
pub fn validate_rtp_parameters(kind: Kind, parameters: &RtpParameters) -> Checked {
    if let Some(mid) = &parameters.mid {
        short_id("mid", mid)?;
    }
    codecs(kind, parameters)?;
    header_extensions(parameters)?;
    encodings(parameters)?;
    if let Some(cname) = &parameters.rtcp.cname
        && cname.len() > MAX_CNAME_BYTES
    {
        return Err(invalid(format!("rtcp.cname is longer than {MAX_CNAME_BYTES} bytes")));
    }
    Ok(())
}

fn codecs(kind: Kind, parameters: &RtpParameters) -> Checked {
    at_most("codecs", parameters.codecs.len(), MAX_CODECS)?;
    let mut seen = [false; 128];
    for codec in &parameters.codecs {
        mime_type(&codec.mime_type, kind)?;
        payload_type(codec.payload_type)?;
        if std::mem::replace(&mut seen[usize::from(codec.payload_type)], true) {
            return Err(OrtcError::DuplicatePayloadType(codec.payload_type));
        }
        if codec.clock_rate == 0 {
            return Err(invalid(format!("the clockRate of {} must not be 0", codec.mime_type)));
        }
        codec_body(&codec.mime_type, &codec.parameters, &codec.rtcp_feedback)?;
    }
    if parameters.codecs.first().is_none_or(|codec| is_rtx(&codec.mime_type)) {
        return Err(invalid("codecs must begin with a media codec: put RTX after it"));
    }
    for rtx in parameters.codecs.iter().filter(|codec| is_rtx(&codec.mime_type)) {
        let of = |payload_type| {
            parameters
                .codecs
                .iter()
                .any(|codec| codec.payload_type == payload_type && !is_rtx(&codec.mime_type))
        };
        if !apt(rtx).is_some_and(of) {
            let reason = "the apt of an RTX codec must be the payload type of a media codec";
            return Err(invalid(reason));
        }
    }
    Ok(())
}

fn header_extensions(parameters: &RtpParameters) -> Checked {
    at_most("header extensions", parameters.header_extensions.len(), MAX_HEADER_EXTENSIONS)?;
    let mut seen = [false; 256];
    for extension in &parameters.header_extensions {
        text("the URI of a header extension", &extension.uri)?;
        extension_id(&extension.uri, extension.id)?;
        if std::mem::replace(&mut seen[usize::from(extension.id)], true) {
            return Err(invalid(format!("header extension id {} is used twice", extension.id)));
        }
    }
    Ok(())
}

fn encodings(parameters: &RtpParameters) -> Checked {
    let encodings = &parameters.encodings;
    at_most("encodings", encodings.len(), MAX_ENCODINGS)?;
    for (index, encoding) in encodings.iter().enumerate() {
        one_encoding(parameters, encoding)?;
        let earlier = encodings.get(..index).unwrap_or_default();
        if earlier.iter().any(|other| clashes(encoding, other)) {
            return Err(invalid("two encodings share an SSRC or a rid: make each unique"));
        }
    }
    let identified =
        |encoding: &RtpEncodingParameters| encoding.ssrc.is_some() || encoding.rid.is_some();
    if encodings.len() > 1 && !encodings.iter().all(identified) {
        return Err(invalid("each of several encodings needs a rid or an ssrc"));
    }
    if !encodings.iter().any(identified) && parameters.mid.is_none() {
        return Err(invalid("packets cannot be told apart: give a mid, a rid or an ssrc"));
    }
    Ok(())
}

fn one_encoding(parameters: &RtpParameters, encoding: &RtpEncodingParameters) -> Checked {
    if let Some(rid) = &encoding.rid {
        short_id("rid", rid)?;
    }
    if encoding.rtx.is_some_and(|rtx| Some(rtx.ssrc) == encoding.ssrc) {
        return Err(invalid("rtx.ssrc must differ from ssrc"));
    }
    if let Some(mode) = &encoding.scalability_mode {
        text("scalabilityMode", mode)?;
    }
    let known = |payload_type| {
        parameters
            .codecs
            .iter()
            .any(|codec| codec.payload_type == payload_type && !is_rtx(&codec.mime_type))
    };
    if !encoding.codec_payload_type.is_none_or(known) {
        return Err(invalid("codecPayloadType must be the payload type of a media codec"));
    }
    Ok(())
}

/// Whether two encodings of one producer could not be told apart.
fn clashes(a: &RtpEncodingParameters, b: &RtpEncodingParameters) -> bool {
    let ssrcs = |encoding: &RtpEncodingParameters| [encoding.ssrc, encoding.rtx.map(|r| r.ssrc)];
    let shared = |ssrc: Option<u32>| ssrc.is_some() && ssrcs(b).contains(&ssrc);
    ssrcs(a).into_iter().any(shared) || (a.rid.is_some() && a.rid == b.rid)
}

fn short_id(what: &str, id: &str) -> Checked {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+!#$%&'*^`|".contains(&byte);
    if id.is_empty() || id.len() > MAX_SHORT_ID_BYTES || !id.bytes().all(allowed) {
        return Err(invalid(format!(
            "{what} must have 1 to {MAX_SHORT_ID_BYTES} letters, digits, '-' or '_'"
        )));
    }
    Ok(())
}

fn mime_type(mime: &str, kind: Kind) -> Checked {
    text("mimeType", mime)?;
    let rest = mime.split_once('/').map_or("", |(_, rest)| rest);
    if Kind::of_mime_type(mime) != Some(kind) || rest.is_empty() {
        return Err(invalid("mimeType must be audio/… or video/…, as its kind says"));
    }
    Ok(())
}

fn payload_type(payload_type: u8) -> Checked {
    if payload_type > 127 {
        return Err(invalid(format!("payload type {payload_type} is above 127: use 0 to 127")));
    }
    Ok(())
}

fn extension_id(uri: &str, id: u8) -> Checked {
    if id == 0 {
        return Err(invalid(format!("header extension {uri} has id 0: use 1 to 255")));
    }
    Ok(())
}

fn codec_body(mime: &str, parameters: &Map<String, Value>, feedback: &[RtcpFeedback]) -> Checked {
    at_most("parameters of a codec", parameters.len(), MAX_PARAMETERS)?;
    for (name, value) in parameters {
        text("the name of a codec parameter", name)?;
        let fits = match value {
            Value::String(value) => value.len() <= MAX_TEXT_BYTES,
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
            Value::Array(_) | Value::Object(_) => false,
        };
        if !fits {
            return Err(invalid(format!(
                "parameter {name} of {mime} must be a number or short text"
            )));
        }
    }
    at_most("rtcpFeedback entries of a codec", feedback.len(), MAX_FEEDBACK)?;
    for entry in feedback {
        text("the type of an rtcpFeedback entry", &entry.kind)?;
        if entry.parameter.len() > MAX_TEXT_BYTES {
            return Err(invalid("the parameter of an rtcpFeedback entry is too long"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vp8() -> Value {
        json!({"mid": "1", "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000,
             "parameters": {"apt": 96}}],
            "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4}],
            "encodings": [{"ssrc": 1, "rtx": {"ssrc": 2}}], "rtcp": {"cname": "a"}})
    }

    #[test]
    fn what_a_browser_sends_passes() {
        let parameters = serde_json::from_value(vp8()).expect("parameters");
        assert_eq!(validate_rtp_parameters(Kind::Video, &parameters), Ok(()));
    }

    #[test]
    fn every_contradiction_is_refused_with_a_reason() {
        let long = "x".repeat(300);
        let table = [
            ("/codecs", json!([]), "begin with a media codec"),
            ("/codecs/0/mimeType", json!("video/rtx"), "begin with a media codec"),
            ("/codecs/0/mimeType", json!("audio/opus"), "as its kind says"),
            ("/codecs/0/mimeType", json!("video/"), "as its kind says"),
            ("/codecs/0/mimeType", json!(""), "1 to 256 bytes"),
            ("/codecs/0/payloadType", json!(200), "above 127"),
            ("/codecs/0/payloadType", json!(97), "given to two codecs"),
            ("/codecs/0/clockRate", json!(0), "must not be 0"),
            ("/codecs/1/parameters", json!({}), "apt of an RTX codec"),
            ("/codecs/1/parameters", json!({"apt": 97}), "apt of an RTX codec"),
            ("/codecs/1/parameters", json!({"apt": 1000}), "apt of an RTX codec"),
            ("/codecs/1/parameters", json!({"apt": 96, "x": {"y": 1}}), "number or short text"),
            ("/codecs/1/parameters", json!({"apt": 96, "x": long}), "number or short text"),
            ("/headerExtensions/0/id", json!(0), "has id 0"),
            ("/headerExtensions/0/uri", json!(""), "1 to 256 bytes"),
            ("/mid", json!("seventeen-letters"), "mid must have 1 to 16"),
            ("/mid", json!("a b"), "mid must have 1 to 16"),
            ("/encodings/0/rtx/ssrc", json!(1), "must differ"),
            ("/encodings/0", json!({"rid": "ü"}), "rid must have"),
            ("/encodings", json!([{"ssrc": 1}, {}]), "needs a rid or an ssrc"),
            ("/encodings", json!([{"ssrc": 1}, {"ssrc": 1}]), "share an SSRC"),
            ("/encodings", json!([{"ssrc": 1}, {"ssrc": 2, "rtx": {"ssrc": 1}}]), "share an SSRC"),
            ("/encodings", json!([{"rid": "a"}, {"rid": "a"}]), "share an SSRC"),
            (
                "/encodings",
                json!([{"rid": "a"}, {"rid": "b"}, {"rid": "c"}, {"rid": "d"},
                {"rid": "e"}]),
                "at most 4",
            ),
            ("/encodings/0/codecPayloadType", json!(97), "codecPayloadType"),
            ("/rtcp/cname", json!("x".repeat(256)), "longer than 255"),
        ];
        for (pointer, value, expected) in table {
            let mut json = vp8();
            let slot = json.pointer_mut(pointer);
            match slot {
                Some(slot) => *slot = value.clone(),
                None => json["encodings"][0]["codecPayloadType"] = value.clone(),
            }
            let parameters = serde_json::from_value(json).expect("well-formed JSON");
            let error = validate_rtp_parameters(Kind::Video, &parameters)
                .expect_err(&format!("{pointer} = {value}"));
            assert!(error.to_string().contains(expected), "{pointer} = {value}: {error}");
        }
    }

    #[test]
    fn a_stream_without_any_identifier_is_refused() {
        let mut json = vp8();
        json["encodings"] = json!([]);
        let parameters = serde_json::from_value(json.clone()).expect("parameters");
        assert_eq!(validate_rtp_parameters(Kind::Video, &parameters), Ok(()));
        json.as_object_mut().expect("object").remove("mid");
        let parameters = serde_json::from_value(json).expect("parameters");
        assert!(validate_rtp_parameters(Kind::Video, &parameters).is_err());
    }

    #[test]
    fn capabilities_are_bounded() {
        let codec = json!({"kind": "video", "mimeType": "video/VP8", "clockRate": 90000});
        let table = [
            (json!({"codecs": vec![codec.clone(); 129]}), "at most 128"),
            (json!({"codecs": [{"mimeType": "text/t140", "clockRate": 9}]}), "as its kind says"),
            (
                json!({"headerExtensions":
                vec![json!({"kind": "video", "uri": "u", "preferredId": 1}); 65]}),
                "at most 64",
            ),
        ];
        for (json, expected) in table {
            let capabilities = serde_json::from_value(json).expect("capabilities");
            let error = validate_rtp_capabilities(&capabilities).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let fine = serde_json::from_value(json!({"codecs": [codec]})).expect("capabilities");
        assert_eq!(validate_rtp_capabilities(&fine), Ok(()));
    }
}
