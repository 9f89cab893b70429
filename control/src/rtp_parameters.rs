//! RTP capabilities and parameters as they travel in JSON (the ORTC dictionaries of
//! mediasoup-client). Unknown members are ignored, optional ones take the field's defaults.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::js;

/// `"audio"` or `"video"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Audio.
    #[default]
    Audio,
    /// Video.
    Video,
}

impl Kind {
    /// What comes before the slash.
    pub(crate) fn of_mime_type(mime_type: &str) -> Option<Self> {
        let (prefix, _) = mime_type.split_once('/')?;
        let is = |kind: &str| prefix.eq_ignore_ascii_case(kind);
        if is("audio") { Some(Kind::Audio) } else { is("video").then_some(Kind::Video) }
    }
}

/// One feedback mechanism, as in SDP's `a=rtcp-fb`: `{type:"nack", parameter:"pli"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcpFeedback {
    /// `nack`, `ccm`, `goog-remb`, `transport-cc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pli`, `fir` or nothing.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parameter: String,
}

/// A codec an endpoint can handle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecCapability {
    /// Audio or video. In a list of capabilities the MIME type says it, whatever is written here.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub kind: Kind,
    /// `audio/opus`, `video/VP8`, `video/rtx`; compared without regard to case.
    pub mime_type: String,
    /// Payload type this endpoint prefers.
    #[serde(default, deserialize_with = "js::whole_or_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_payload_type: Option<u8>,
    /// RTP clock rate, Hz; 0 matches none.
    #[serde(deserialize_with = "js::whole_or_zero")]
    pub clock_rate: u32,
    /// Audio channels; absent means 1.
    #[serde(default, deserialize_with = "js::whole_or_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters (`a=fmtp`), values are numbers or strings.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub parameters: Map<String, Value>,
    /// Feedback mechanisms.
    #[serde(default, deserialize_with = "js::array_or_empty")]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// `sendrecv`, `sendonly`, `recvonly` or `inactive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtensionDirection {
    /// Both ways.
    #[default]
    Sendrecv,
    /// From the endpoint.
    Sendonly,
    /// To the endpoint.
    Recvonly,
    /// Not at all.
    Inactive,
}

/// A header extension an endpoint can handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpHeaderExtension {
    /// Audio or video.
    pub kind: Kind,
    /// URI.
    pub uri: String,
    /// Id this endpoint prefers; 0 is of no use.
    #[serde(deserialize_with = "js::whole_or_zero")]
    pub preferred_id: u8,
    /// Whether it would like it encrypted; never used.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub preferred_encrypt: bool,
    /// Direction, seen from this endpoint.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub direction: ExtensionDirection,
}

/// What an endpoint can handle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCapabilities {
    /// Codecs, RTX among them.
    #[serde(default, deserialize_with = "codecs_of_their_kind")]
    pub codecs: Vec<RtpCodecCapability>,
    /// Header extensions.
    #[serde(default, deserialize_with = "js::or_default")]
    pub header_extensions: Vec<RtpHeaderExtension>,
}

/// A list of codecs, each of the kind that its MIME type says, as mediasoup has it.
fn codecs_of_their_kind<'de, D: serde::Deserializer<'de>>(
    json: D,
) -> Result<Vec<RtpCodecCapability>, D::Error> {
    let mut codecs: Vec<RtpCodecCapability> = js::or_default(json)?;
    for codec in &mut codecs {
        codec.kind = Kind::of_mime_type(&codec.mime_type).unwrap_or(codec.kind);
    }
    Ok(codecs)
}

/// A codec in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecParameters {
    /// `audio/opus`, `video/VP8`, `video/rtx`.
    pub mime_type: String,
    /// Payload type.
    #[serde(deserialize_with = "js::whole")]
    pub payload_type: u8,
    /// RTP clock rate, Hz.
    #[serde(deserialize_with = "js::whole")]
    pub clock_rate: u32,
    /// Audio channels; absent means 1.
    #[serde(default, deserialize_with = "js::whole_or_none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters; RTX has `apt`.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub parameters: Map<String, Value>,
    /// Feedback mechanisms.
    #[serde(default, deserialize_with = "js::array_or_empty")]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// A header extension in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RtpHeaderExtensionParameters {
    /// URI.
    pub uri: String,
    /// Id.
    #[serde(deserialize_with = "js::whole")]
    pub id: u8,
    /// Encrypted; never so.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub encrypt: bool,
    /// Parameters; none known.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub parameters: Map<String, Value>,
}

/// The retransmission stream of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtxParameters {
    /// SSRC.
    #[serde(deserialize_with = "js::whole")]
    pub ssrc: u32,
}

/// A retransmission stream; SSRC 0 is none.
fn rtx_with_ssrc<'de, D: serde::Deserializer<'de>>(
    json: D,
) -> Result<Option<RtxParameters>, D::Error> {
    Ok(js::optional::<_, RtxParameters>(json)?.filter(|rtx| rtx.ssrc != 0))
}

/// One encoding: one simulcast layer, or the only stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpEncodingParameters {
    /// SSRC.
    #[serde(default, deserialize_with = "js::optional_whole")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// RID.
    #[serde(default, deserialize_with = "js::optional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Payload type of the codec of this encoding, if not the first one.
    #[serde(default, deserialize_with = "js::optional_whole")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec_payload_type: Option<u8>,
    /// Retransmission stream.
    #[serde(default, deserialize_with = "rtx_with_ssrc")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtx: Option<RtxParameters>,
    /// Discontinuous transmission.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtx: Option<bool>,
    /// `L1T3`, `S3T3`, `L3T3_KEY`…
    #[serde(default, deserialize_with = "js::optional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scalability_mode: Option<String>,
    /// Resolution divisor.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_resolution_down_by: Option<f64>,
    /// Top bitrate, bits per second.
    #[serde(default, deserialize_with = "js::optional_rate")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u32>,
    /// Top frame rate.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_framerate: Option<f64>,
    /// Whether the encoding is being sent; absent means yes.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// RTCP settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcpParameters {
    /// CNAME of SDES.
    #[serde(default, deserialize_with = "js::optional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    /// Reduced-size RTCP (RFC 5506); absent means yes.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced_size: Option<bool>,
}

/// Everything about a stream in use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpParameters {
    /// MID.
    #[serde(default, deserialize_with = "js::optional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// Codecs, RTX among them.
    pub codecs: Vec<RtpCodecParameters>,
    /// Header extensions.
    #[serde(default, deserialize_with = "js::or_default")]
    pub header_extensions: Vec<RtpHeaderExtensionParameters>,
    /// Encodings.
    #[serde(default, deserialize_with = "js::or_default")]
    pub encodings: Vec<RtpEncodingParameters>,
    /// RTCP.
    #[serde(default, deserialize_with = "js::or_default")]
    pub rtcp: RtcpParameters,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(path: &str, value: Value) -> Result<RtpParameters, String> {
        let mut json = json!({"mid": "1", "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "channels": 1,
             "parameters": {}, "rtcpFeedback": []}],
            "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4}],
            "encodings": [{"ssrc": 1, "rtx": {"ssrc": 2}}], "rtcp": {"cname": "a"}});
        let (parent, name) = path.rsplit_once('/').expect("a path");
        json.pointer_mut(parent).expect("a parent")[name] = value;
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    /// What mediasoup's validator takes: numbers in any notation, null or another type where
    /// something is optional.
    #[test]
    fn what_javascript_writes_is_read() {
        let table = [
            ("/codecs/0/payloadType", json!(96.0)),
            ("/codecs/0/clockRate", json!(9e4)),
            ("/codecs/0/channels", json!(1.0)),
            ("/codecs/0/channels", json!(null)),
            ("/codecs/0/channels", json!("2")),
            ("/codecs/0/parameters", json!(null)),
            ("/codecs/0/parameters", json!("none")),
            ("/codecs/0/rtcpFeedback", json!(null)),
            ("/codecs/0/rtcpFeedback", json!({})),
            ("/codecs/0/rtcpFeedback", json!([{"type": "nack", "parameter": null}])),
            ("/codecs/0/rtcpFeedback", json!([{"type": "nack", "parameter": 7}])),
            ("/mid", json!("")),
            ("/mid", json!(false)),
            ("/headerExtensions", json!(null)),
            ("/headerExtensions", json!(false)),
            ("/headerExtensions/0/id", json!(4.0)),
            ("/headerExtensions/0/encrypt", json!(null)),
            ("/headerExtensions/0/parameters", json!(null)),
            ("/headerExtensions/0/parameters", json!(5)),
            ("/encodings", json!(null)),
            ("/encodings", json!("")),
            ("/encodings", json!(0)),
            ("/encodings/0/ssrc", json!(7.0)),
            ("/encodings/0/ssrc", json!(0)),
            ("/encodings/0/ssrc", json!(false)),
            ("/encodings/0/rid", json!(0.0)),
            ("/encodings/0/rtx", json!(null)),
            ("/encodings/0/rtx", json!({"ssrc": 0})),
            ("/encodings/0/scaleResolutionDownBy", json!("2")),
            ("/encodings/0/maxFramerate", json!(true)),
            ("/encodings/0/maxBitrate", json!(-1)),
            ("/encodings/0/maxBitrate", json!("fast")),
            ("/encodings/0/rtx/ssrc", json!(8.0)),
            ("/encodings/0/dtx", json!("enabled")),
            ("/encodings/0/scalabilityMode", json!("")),
            ("/encodings/0/maxBitrate", json!(333_333.333_333_333_3)),
            ("/encodings/0/maxBitrate", json!(1e12)),
            ("/rtcp", json!(null)),
            ("/rtcp", json!(false)),
            ("/rtcp/cname", json!(0)),
            ("/rtcp/reducedSize", json!("yes")),
        ];
        for (path, value) in table {
            let parameters = parameters(path, value.clone());
            assert!(parameters.is_ok(), "{path} = {value}: {parameters:?}");
        }
        let rate =
            |value| parameters("/encodings/0/maxBitrate", value).unwrap().encodings[0].max_bitrate;
        assert_eq!(rate(json!(1e6 / 3.0)), Some(333_333));
        assert_eq!(rate(json!(1e12)), Some(u32::MAX));
        let mode = parameters("/encodings/0/scalabilityMode", json!("")).unwrap();
        assert_eq!(mode.encodings[0].scalability_mode, None);
        assert_eq!(rate(json!("fast")), None);
        let none = parameters("/encodings/0/ssrc", json!(0)).unwrap();
        assert_eq!(none.encodings[0].ssrc, None);
        assert_eq!(parameters("/mid", json!("")).unwrap().mid, None);
    }

    #[test]
    fn capabilities_with_what_matches_nothing_are_read() {
        let capabilities: RtpCapabilities = serde_json::from_value(json!({"codecs": [
            {"kind": "audio", "mimeType": "video/VP8", "clockRate": 90000, "channels": "x"},
            {"mimeType": "audio/opus", "clockRate": 29.97, "preferredPayloadType": 1e12}],
            "headerExtensions": [{"kind": "video", "uri": "u", "preferredId": 1e6,
            "preferredEncrypt": 0, "direction": "stopped"}]}))
        .expect("capabilities");
        let kinds: Vec<Kind> = capabilities.codecs.iter().map(|codec| codec.kind).collect();
        assert_eq!(kinds, [Kind::Video, Kind::Audio]);
        assert_eq!(capabilities.codecs[1].clock_rate, 0);
        assert_eq!(capabilities.codecs[1].preferred_payload_type, None);
        assert_eq!(capabilities.header_extensions[0].preferred_id, 0);
    }

    #[test]
    fn what_is_no_such_number_is_refused() {
        let table = [
            ("/codecs/0/payloadType", json!(96.5)),
            ("/codecs/0/payloadType", json!(256)),
            ("/codecs/0/payloadType", json!(-1)),
            ("/codecs/0/payloadType", json!("96")),
            ("/codecs/0/payloadType", json!(null)),
            ("/codecs/0/clockRate", json!(1e10)),
            ("/codecs/0/rtcpFeedback", json!([{"type": 5}])),
            ("/encodings/0/ssrc", json!(4_294_967_296_u64)),
            ("/encodings", json!({})),
            ("/encodings/0/rid", json!(true)),
            ("/mid", json!(7)),
            ("/rtcp", json!("yes")),
        ];
        for (path, value) in table {
            assert!(parameters(path, value.clone()).is_err(), "{path} = {value}");
        }
    }
}
