//! RTP capabilities and parameters as they travel in JSON (the ORTC dictionaries of
//! mediasoup-client). Unknown members are ignored, optional ones take the field's defaults.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::js;

/// `"audio"` or `"video"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// One feedback mechanism, as in SDP's `a=rtcp-fb`: `{type:"nack", parameter:"pli"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcpFeedback {
    /// `nack`, `ccm`, `goog-remb`, `transport-cc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pli`, `fir` or nothing.
    #[serde(default, deserialize_with = "js::or_default")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parameter: String,
}

/// A codec an endpoint can handle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecCapability {
    /// Audio or video.
    pub kind: Kind,
    /// `audio/opus`, `video/VP8`, `video/rtx`; compared without regard to case.
    pub mime_type: String,
    /// Payload type this endpoint prefers.
    #[serde(default, deserialize_with = "js::optional_whole")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_payload_type: Option<u8>,
    /// RTP clock rate, Hz.
    #[serde(deserialize_with = "js::whole")]
    pub clock_rate: u32,
    /// Audio channels; absent means 1.
    #[serde(default, deserialize_with = "js::optional_whole")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters (`a=fmtp`), values are numbers or strings.
    #[serde(default, deserialize_with = "js::or_default")]
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
    /// Id this endpoint prefers.
    #[serde(deserialize_with = "js::whole")]
    pub preferred_id: u8,
    /// Whether it would like it encrypted; never used.
    #[serde(default, deserialize_with = "js::or_default_type")]
    pub preferred_encrypt: bool,
    /// Direction, seen from this endpoint.
    #[serde(default, deserialize_with = "js::or_default")]
    pub direction: ExtensionDirection,
}

/// What an endpoint can handle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCapabilities {
    /// Codecs, RTX among them.
    #[serde(default, deserialize_with = "js::or_default")]
    pub codecs: Vec<RtpCodecCapability>,
    /// Header extensions.
    #[serde(default, deserialize_with = "js::or_default")]
    pub header_extensions: Vec<RtpHeaderExtension>,
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
    #[serde(default, deserialize_with = "js::optional_whole")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters; RTX has `apt`.
    #[serde(default, deserialize_with = "js::or_default")]
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
    #[serde(default, deserialize_with = "js::or_default")]
    pub parameters: Map<String, Value>,
}

/// The retransmission stream of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtxParameters {
    /// SSRC.
    #[serde(deserialize_with = "js::whole")]
    pub ssrc: u32,
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
    #[serde(default, deserialize_with = "js::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Payload type of the codec of this encoding, if not the first one.
    #[serde(default, deserialize_with = "js::optional_whole")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec_payload_type: Option<u8>,
    /// Retransmission stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx: Option<RtxParameters>,
    /// Discontinuous transmission.
    #[serde(default, deserialize_with = "js::or_default_type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtx: Option<bool>,
    /// `L1T3`, `S3T3`, `L3T3_KEY`…
    #[serde(default, deserialize_with = "js::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scalability_mode: Option<String>,
    /// Resolution divisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_resolution_down_by: Option<f64>,
    /// Top bitrate, bits per second.
    #[serde(default, deserialize_with = "js::optional_rate")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u32>,
    /// Top frame rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
            ("/codecs/0/parameters", json!(null)),
            ("/codecs/0/rtcpFeedback", json!(null)),
            ("/codecs/0/rtcpFeedback", json!({})),
            ("/codecs/0/rtcpFeedback", json!([{"type": "nack", "parameter": null}])),
            ("/headerExtensions", json!(null)),
            ("/headerExtensions/0/id", json!(4.0)),
            ("/headerExtensions/0/encrypt", json!(null)),
            ("/headerExtensions/0/parameters", json!(null)),
            ("/encodings", json!(null)),
            ("/encodings/0/ssrc", json!(7.0)),
            ("/encodings/0/rtx", json!(null)),
            ("/encodings/0/rtx/ssrc", json!(8.0)),
            ("/encodings/0/dtx", json!("enabled")),
            ("/encodings/0/scalabilityMode", json!("")),
            ("/encodings/0/maxBitrate", json!(333_333.333_333_333_3)),
            ("/encodings/0/maxBitrate", json!(1e12)),
            ("/rtcp", json!(null)),
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
            ("/encodings/0/maxBitrate", json!(-1)),
            ("/encodings/0/maxBitrate", json!("fast")),
            ("/encodings", json!({})),
        ];
        for (path, value) in table {
            assert!(parameters(path, value.clone()).is_err(), "{path} = {value}");
        }
    }
}
