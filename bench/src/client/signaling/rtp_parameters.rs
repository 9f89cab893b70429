//! What participants send, in the words of signaling.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use crate::client::publish::{MIDS, camera_ssrcs, numbers};
use crate::media::codec::VideoCodec;

/// A microphone as a browser describes it: without NACK, for browsers do not send a voice again
/// unless told to, and neither do participants of ours.
pub fn microphone(ssrc: u32) -> Value {
    json!({
        "mid": MIDS[0],
        "codecs": [{"mimeType": "audio/opus", "payloadType": numbers::OPUS, "clockRate": 48000,
                    "channels": 2,
                    "parameters": {"minptime": 10, "useinbandfec": 1, "usedtx": 1},
                    "rtcpFeedback": []}],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": numbers::LEVEL_ID},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": numbers::MID_ID},
        ],
        "encodings": [{"ssrc": ssrc, "dtx": true}],
        "rtcp": {"cname": format!("voice{ssrc}"), "reducedSize": true},
    })
}

/// A camera with layers of so many bits per second; a single one is known by its SSRCs.
pub fn camera(participant: u32, codec: VideoCodec, layers: &[u32]) -> Value {
    let encoding = |(at, rate): (usize, &u32)| {
        json!({"rid": format!("r{at}"), "maxBitrate": rate, "scalabilityMode": "L1T1",
               "scaleResolutionDownBy": 4 >> at})
    };
    let encodings = match *layers {
        [rate] => {
            let [ssrc, rtx] = camera_ssrcs(participant);
            vec![json!({"ssrc": ssrc, "rtx": {"ssrc": rtx}, "maxBitrate": rate})]
        }
        _ => layers.iter().enumerate().map(encoding).collect::<Vec<Value>>(),
    };
    let cc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let mut extensions = vec![
        json!({"uri": cc, "id": numbers::TRANSPORT_CC_ID}),
        json!({"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": numbers::MID_ID}),
        json!({"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": numbers::RID_ID}),
        json!({"uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
               "id": numbers::REPAIRED_RID_ID}),
    ];
    if codec == VideoCodec::Av1 {
        let uri = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
        extensions.push(json!({"uri": uri, "id": numbers::DEPENDENCY_ID}));
    }
    json!({
        "mid": MIDS[1],
        "codecs": [
            {"mimeType": codec.mime_type(), "payloadType": numbers::VIDEO, "clockRate": 90000,
             "parameters": parameters_of(codec),
             "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"},
                              {"type": "ccm", "parameter": "fir"}, {"type": "transport-cc"}]},
            {"mimeType": "video/rtx", "payloadType": numbers::RTX, "clockRate": 90000,
             "parameters": {"apt": numbers::VIDEO}, "rtcpFeedback": []},
        ],
        "headerExtensions": extensions,
        "encodings": encodings,
        "rtcp": {"cname": "camera", "reducedSize": true},
    })
}

/// What distinguishes a codec from others of its name.
fn parameters_of(codec: VideoCodec) -> Value {
    match codec {
        VideoCodec::Vp8 => json!({}),
        VideoCodec::Vp9 => json!({"profile-id": 0}),
        VideoCodec::H264 => json!({"packetization-mode": 1, "profile-level-id": "42e01f",
                                   "level-asymmetry-allowed": 1}),
        VideoCodec::Av1 => json!({"profile": 0, "level-idx": 5, "tier": 0}),
    }
}
