//! Automatic mode: who comes late is offered all there is, and everyone hears of the newcomer last.

use crate::talk::{Talk, audio, join, ready, simulcast};
use opencall_control::api::{ConsumeMode::Automatic, Direction, Request, Response};
use opencall_control::rtp_parameters::{Kind, RtpParameters};
use opencall_dataplane::message::AcceptedPayloadType;
use serde_json::json;

#[test]
fn peers_first_then_consumers_then_the_others_hear() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    talk.produce(&anna, Kind::Video, simulcast("1"));
    let bert = talk.connect("bert", Automatic);
    talk.transport(bert, Direction::Recv);
    talk.commands();
    let Response::Joined { peers, .. } = talk.ok(bert, join("Bert")) else { panic!("joined") };
    assert_eq!(peers.iter().map(|peer| &*peer.id).collect::<Vec<_>>(), ["anna"]);
    assert_eq!(talk.news_texts(bert), ["NewConsumer anna Audio", "NewConsumer anna Video"]);
    assert_eq!(talk.news_texts(anna.session), ["NewPeer bert"]);
    assert_eq!(talk.commands(), ["CreateConsumer paused", "CreateConsumer paused"]);
}

#[test]
fn an_accepted_consumer_starts_with_a_key_frame_and_a_refused_one_is_forgotten() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    talk.produce(&anna, Kind::Video, simulcast("1"));
    let bert = talk.enter("bert", Automatic);
    let offers = talk.offers(bert.session);
    let (microphone, camera) = (&offers[0], &offers[1]);
    talk.commands();

    talk.ok(bert.session, ready(&camera.id, true));
    assert_eq!(talk.commands(), ["ResumeConsumer", "RequestKeyFrame"]);
    talk.ok(bert.session, ready(&camera.id, true));
    assert!(talk.commands().is_empty(), "accepting twice changes nothing");

    talk.ok(bert.session, ready(&microphone.id, false));
    assert_eq!(talk.commands(), ["CloseConsumer"]);
    assert!(talk.news(bert.session).is_empty());
    assert_eq!(talk.refused(bert.session, ready(&microphone.id, true)).0, 404);
}

#[test]
fn a_consumer_paused_while_it_waits_stays_paused() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.enter("bert", Automatic);
    let id = talk.offers(bert.session).remove(0).id;
    talk.commands();
    talk.ok(bert.session, Request::PauseConsumer { consumer_id: id.clone() });
    talk.ok(bert.session, ready(&id, true));
    assert!(talk.commands().is_empty());
    talk.ok(bert.session, Request::ResumeConsumer { consumer_id: id });
    assert_eq!(talk.commands(), ["ResumeConsumer"]);
}

#[test]
fn what_is_offered_can_be_made() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let producer = talk.produce(&anna, Kind::Video, simulcast("1"));
    let bert = talk.enter("bert", Automatic);
    let camera = talk.offers(bert.session).remove(0);
    assert_eq!((&camera.producer_id, &camera.transport_id), (&producer, &bert.recv.id));
    assert_eq!(camera.app_data.string("source").as_deref(), Some("camera"));
    let parameters = &camera.rtp_parameters;
    let config = &talk.consumers[&talk.newest_consumer()];
    let written: RtpParameters = serde_json::from_value(json!(parameters)).expect("parameters");
    let encoding = &written.encodings[0];
    assert_eq!(encoding.ssrc, Some(config.ssrc));
    assert_eq!(encoding.rtx.map(|rtx| rtx.ssrc), config.rtx_ssrc);
    assert_eq!(encoding.scalability_mode.as_deref(), Some("L3T3"));
    assert_eq!(written.mid.as_deref().map(str::as_bytes), Some(config.mid.as_slice()));
    assert_eq!(written.rtcp.cname.as_deref(), Some("browser"));
    let router = written.codecs[0].payload_type;
    let accepted = AcceptedPayloadType { router, sent: router, rtx: Some(router + 1), red: None };
    assert_eq!(config.payload_types.as_slice(), [accepted]);
    assert!(config.feedback.nack && config.feedback.pli && config.feedback.transport_cc);
    assert!(!config.feedback.remb, "one bandwidth estimate is enough");
}

#[test]
fn a_receiving_transport_made_after_joining_is_filled_as_well() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.connect("bert", Automatic);
    talk.ok(bert, join("Bert"));
    assert!(talk.offers(bert).is_empty());
    talk.transport(bert, Direction::Send);
    assert!(talk.offers(bert).is_empty());
    talk.transport(bert, Direction::Recv);
    assert_eq!(talk.offers(bert).len(), 1);
    talk.transport(bert, Direction::Recv);
    assert!(talk.offers(bert).is_empty(), "nothing is offered twice");
}

#[test]
fn who_says_not_what_it_can_receive_receives_nothing() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.connect("bert", Automatic);
    talk.transport(bert, Direction::Recv);
    let request = Request::Join {
        codec_hints: None,
        display_name: "Bert".into(),
        device: Default::default(),
        rtp_capabilities: None,
    };
    talk.ok(bert, request);
    talk.produce(&anna, Kind::Video, simulcast("1"));
    assert!(talk.offers(bert).is_empty());
}
