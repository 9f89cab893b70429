//! Sound that repeats itself (RFC 2198), which is not a codec but a way of sending one: `audio/red`
//! beside `audio/opus`, for clients that list it. Nobody else sees it, and the router's
//! capabilities are without it: clients that take all they are shown would receive what they cannot
//! announce.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::matching::{CodecLike, subtype};
use crate::rtp_parameters::{RtpCapabilities, RtpCodecCapability, RtpCodecParameters};

/// The payload type of it towards clients that use the router's: Chromium's own, and none of those
/// that codecs are given.
pub(super) const ROUTER_RED: u8 = 63;

/// Whether a MIME type is `audio/red`.
pub fn is_red(mime_type: &str) -> bool {
    mime_type.eq_ignore_ascii_case("audio/red")
}

/// Whether a codec is `audio/red` as browsers have it, of this codec: of its clock and channels,
/// and, where it names payload types (`111/111`), of its payload type alone.
pub fn is_red_of(red: &impl CodecLike, codec: &impl CodecLike, payload_type: u8) -> bool {
    // `a=fmtp:63 111/111` is a name without a value.
    let mut named = red.parameters().keys().flat_map(|name| name.split('/'));
    is_red_of_kind(red, codec) && named.all(|word| word.parse() == Ok(payload_type))
}

fn is_red_of_kind(red: &impl CodecLike, codec: &impl CodecLike) -> bool {
    is_red(red.mime_type())
        && subtype(codec.mime_type()).eq_ignore_ascii_case("opus")
        && (red.clock_rate(), red.channels()) == (codec.clock_rate(), codec.channels())
}

/// The client's `audio/red` of a codec that it calls `sent`.
pub(super) fn remote_red<'a>(
    codec: &RtpCodecParameters,
    sent: u8,
    remote: &'a RtpCapabilities,
    by_client: bool,
) -> Option<&'a RtpCodecCapability> {
    // By the router's numbers a client knows its own names of them no longer.
    let is_it = |red: &&RtpCodecCapability| match by_client {
        true => is_red_of(*red, codec, sent),
        false => is_red_of_kind(*red, codec),
    };
    remote.codecs.iter().find(is_it)
}

/// The codec under which it is announced.
pub(super) fn red_codec(codec: &RtpCodecParameters, payload_type: u8) -> RtpCodecParameters {
    let sent = codec.payload_type;
    // As `a=fmtp:63 111/111`: mediasoup-client writes `=111/111`, which Chromium takes for the
    // same.
    let format = (String::new(), Value::from(format!("{sent}/{sent}")));
    RtpCodecParameters {
        mime_type: "audio/red".to_owned(),
        payload_type,
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        parameters: Map::from_iter([format]),
        rtcp_feedback: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{
        ConsumerStream, Numbers, consumable_rtp_parameters, consumer_stream, default_codecs,
        producer_rtp_mapping, router_rtp_capabilities, validate_rtp_parameters,
    };
    use super::*;
    use crate::rtp_parameters::{Kind, RtpParameters};
    use opencall_wire::codec::Codec;

    fn router() -> RtpCapabilities {
        router_rtp_capabilities(&default_codecs()).expect("default codecs")
    }

    /// What a client sends that offers these besides, before or after Opus as 111.
    fn sent(before: Option<Value>, after: Option<Value>) -> RtpParameters {
        let opus = json!({"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000,
            "channels": 2, "rtcpFeedback": [{"type": "nack"}]});
        let codecs: Vec<Value> = [before, Some(opus), after].into_iter().flatten().collect();
        serde_json::from_value(json!({"mid": "0", "codecs": codecs})).expect("parameters")
    }

    fn red(parameters: Value) -> Value {
        json!({"mimeType": "audio/red", "payloadType": 63, "clockRate": 48000, "channels": 2,
            "parameters": parameters})
    }

    #[test]
    fn the_router_shows_none() {
        assert!(router().codecs.iter().all(|codec| !is_red(&codec.mime_type)));
    }

    #[test]
    fn what_is_sent_as_red_is_the_routers_opus() {
        let names =
            [json!({}), json!({"111/111": ""}), json!({"111/111/111": ""}), json!({"111": 1})];
        for parameters in names {
            for parameters in [
                sent(Some(red(parameters.clone())), None),
                sent(None, Some(red(parameters.clone()))),
            ] {
                validate_rtp_parameters(Kind::Audio, &parameters).expect("valid");
                let mapping = producer_rtp_mapping(&parameters, &router()).expect("supported");
                let [opus, red] = mapping.payload_types.as_slice() else { panic!("two ways") };
                assert_eq!((opus.incoming, opus.codec), (111, Codec::Opus));
                assert_eq!((red.incoming, red.codec), (63, Codec::Red));
                assert_eq!(red.router, opus.router);
                assert!(mapping.feedback.nack, "the feedback of Opus");
                let stream = consumable_rtp_parameters(Kind::Audio, &parameters, &router());
                let stream = stream.expect("supported");
                let types: Vec<&str> = stream.codecs.iter().map(|c| &*c.mime_type).collect();
                assert_eq!(types, ["audio/opus"]);
            }
        }
    }

    #[test]
    fn red_of_nothing_that_is_sent_is_refused() {
        let mut mono = red(json!({}));
        mono["channels"] = 1.into();
        for red in
            [red(json!({"112/112": ""})), red(json!({"111/9": ""})), red(json!({"x": 1})), mono]
        {
            assert!(producer_rtp_mapping(&sent(None, Some(red)), &router()).is_err());
        }
        let alone = serde_json::from_value(json!({"mid": "0", "codecs": [red(json!({}))]}));
        let alone: RtpParameters = alone.expect("parameters");
        assert!(producer_rtp_mapping(&alone, &router()).is_err());
    }

    fn received(with: Option<Value>, numbers: Numbers) -> ConsumerStream {
        let consumable = consumable_rtp_parameters(Kind::Audio, &sent(None, None), &router());
        let mut remote = router();
        if numbers == Numbers::Client {
            for codec in &mut remote.codecs {
                codec.preferred_payload_type = codec.preferred_payload_type.map(|of| of - 10);
            }
        }
        let with = with.map(|capability| serde_json::from_value(capability).expect("a codec"));
        remote.codecs.extend(with);
        let consumable = consumable.expect("supported");
        consumer_stream(Kind::Audio, &consumable, (&remote, numbers), "c").expect("Opus")
    }

    fn capability(payload_type: u8, parameters: Value) -> Option<Value> {
        Some(json!({"kind": "audio", "mimeType": "audio/red", "clockRate": 48000, "channels": 2,
            "preferredPayloadType": payload_type, "parameters": parameters}))
    }

    #[test]
    fn who_lists_it_is_sent_it_beside_opus_and_nobody_else_sees_it() {
        let plain = received(None, Numbers::Router);
        assert_eq!((plain.codecs.len(), plain.accepted[0].red), (1, None));

        let both = received(capability(99, json!({})), Numbers::Router);
        assert_eq!((both.accepted[0].sent, both.accepted[0].red), (100, Some(ROUTER_RED)));
        let [opus, red] = &both.codecs[..] else { panic!("two codecs") };
        assert_eq!((&*opus.mime_type, &*red.mime_type), ("audio/opus", "audio/red"));
        assert_eq!((red.payload_type, &red.parameters[""]), (ROUTER_RED, &json!("100/100")));
        assert_eq!((red.clock_rate, red.channels), (48_000, Some(2)));
        assert_eq!(both.clone().without_red(), ConsumerStream { size: both.size, ..plain });
    }

    #[test]
    fn who_described_itself_first_names_its_own() {
        let own = received(capability(63, json!({"90/90": ""})), Numbers::Client);
        assert_eq!((own.accepted[0].sent, own.accepted[0].red), (90, Some(63)));
        assert_eq!(own.codecs[1].parameters[""], "90/90");
        for (payload_type, of) in [(63, "91/91"), (90, "90/90"), (127, "90/90")] {
            let other = received(capability(payload_type, json!({of: ""})), Numbers::Client);
            assert_eq!((other.codecs.len(), other.accepted[0].red), (1, None), "{payload_type}");
        }
    }
}
