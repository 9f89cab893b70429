//! `audio/red` (RFC 2198): for who lists it, beside Opus, and never where voices are encrypted end
//! to end.

use crate::talk::{Talk, audio, capabilities, join, json_object, produce};
use opencall_control::api::{ConsumeMode::Automatic, Direction, Request};
use opencall_control::rtp_parameters::{Kind, RtpCodecParameters, RtpParameters};
use opencall_wire::codec::Codec;
use serde_json::{Value, json};

/// Sent beside Opus.
fn with_red() -> RtpParameters {
    let mut parameters = audio("0");
    let red: RtpCodecParameters = serde_json::from_value(json!({"mimeType": "audio/red",
        "payloadType": 63, "clockRate": 48000, "channels": 2}))
    .expect("a codec");
    parameters.codecs.push(red);
    parameters
}

/// A client that receives RED joins.
fn enter_with_red(talk: &mut Talk, peer: &str) -> opencall_control::api::SessionId {
    let session = talk.connect(peer, Automatic);
    talk.transport(session, Direction::Recv);
    let mut request = join(peer);
    if let Request::Join { rtp_capabilities, .. } = &mut request {
        let mut own = capabilities();
        own.codecs.push(
            serde_json::from_value(json!({"kind": "audio", "mimeType": "audio/red",
                "preferredPayloadType": 63, "clockRate": 48000, "channels": 2}))
            .expect("a capability"),
        );
        *rtp_capabilities = Some(own);
    }
    talk.ok(session, request);
    session
}

fn sent_as(e2ee: Value, transport: &str, parameters: RtpParameters) -> Request {
    let mut request = produce(transport, Kind::Audio, parameters);
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"source": "microphone", "e2ee": e2ee}));
    }
    request
}

#[test]
fn who_lists_it_is_offered_it_and_who_sends_it_sends_opus() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, with_red());
    let producer = &talk.producers[&talk.newest_producer()];
    let ways: Vec<_> = producer.payload_types.iter().map(|of| (of.incoming, of.codec)).collect();
    assert_eq!(ways, [(111, Codec::Opus), (63, Codec::Red)]);
    let bert = enter_with_red(&mut talk, "bert");
    let carl = talk.enter("carl", Automatic).session;
    for (session, names, red) in
        [(bert, vec!["audio/opus", "audio/red"], Some(63)), (carl, vec!["audio/opus"], None)]
    {
        let offer = talk.offers(session).remove(0);
        let written: RtpParameters =
            serde_json::from_value(json!(offer.rtp_parameters)).expect("parameters");
        let found: Vec<&str> = written.codecs.iter().map(|codec| &*codec.mime_type).collect();
        assert_eq!(found, names);
        let told = talk.consumers.values().map(|consumer| consumer.payload_types[0].red);
        assert!(told.into_iter().any(|of| of == red));
    }
}

#[test]
fn what_is_encrypted_end_to_end_is_neither_taken_apart_nor_put_together() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let sealed = sent_as(json!({"v": 1}), &anna.send.id, with_red());
    let (status, reason) = talk.refused(anna.session, sealed);
    assert!(status == 400 && reason.contains("audio/opus alone"), "{status} {reason}");
    talk.ok(anna.session, sent_as(json!({"v": 1}), &anna.send.id, audio("1")));
    let bert = enter_with_red(&mut talk, "bert");
    let offer = talk.offers(bert).remove(0);
    let written: RtpParameters =
        serde_json::from_value(json!(offer.rtp_parameters)).expect("parameters");
    assert_eq!(written.codecs.len(), 1);
    let consumer = &talk.consumers[&talk.newest_consumer()];
    assert_eq!(consumer.payload_types[0].red, None);
}
