//! Who asks is advised on codecs when it enters, and again when someone comes who cannot decode
//! them, or its path changes.

use std::time::Duration;

use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::*;
use opencall_control::rtp_parameters::{Kind, RtpCapabilities};
use opencall_dataplane::message::{Bandwidth, Event};

use crate::talk::{Client, Talk, audio, capabilities, join};

/// Capabilities without this codec.
fn without(codec: &str) -> RtpCapabilities {
    let mut capabilities = capabilities();
    capabilities.codecs.retain(|own| !own.mime_type.eq_ignore_ascii_case(codec));
    capabilities
}

fn joining(codec_hints: Option<Device>, capabilities: RtpCapabilities) -> Request {
    let Request::Join { display_name, device, .. } = join("x") else { panic!("a joining") };
    Request::Join { display_name, device, rtp_capabilities: Some(capabilities), codec_hints }
}

fn advice(answer: Response) -> Option<(String, String)> {
    let Response::Joined { entrance, .. } = answer else { panic!("joined") };
    let advice = entrance.advice?;
    let codec = advice.video.as_ref().map(|video| video.codec.mime_type().to_owned());
    Some((codec.unwrap_or_default(), advice.reason.clone()))
}

/// Anna, who asks for advice.
fn anna() -> (Talk, Client) {
    let mut talk = Talk::new();
    let session = talk.connect("anna", Automatic);
    let send = talk.transport(session, Direction::Send);
    let recv = talk.transport(session, Direction::Recv);
    let answer = talk.ok(session, joining(Some(Device::default()), capabilities()));
    assert_eq!(advice(answer).map(|(codec, _)| codec), Some("video/VP8".to_owned()));
    (talk, Client { session, send, recv })
}

#[test]
fn who_does_not_ask_is_not_advised() {
    let mut talk = Talk::new();
    let session = talk.connect("bert", Automatic);
    assert_eq!(advice(talk.ok(session, joining(None, capabilities()))), None);
    let phone = Device { mobile: true, ios: true, ..Device::default() };
    let carl = talk.connect("carl", Automatic);
    let (codec, reason) = advice(talk.ok(carl, joining(Some(phone), capabilities()))).expect("it");
    assert!(codec == "video/H264" && reason.contains("battery"), "{codec} {reason}");
    assert!(talk.news_texts(session).iter().all(|news| !news.contains("CodecAdvice")));
}

#[test]
fn a_member_who_cannot_decode_changes_the_advice_until_it_leaves() {
    let (mut talk, anna) = anna();
    let of = |talk: &mut Talk| {
        let news = talk.news_texts(anna.session);
        news.into_iter().filter(|news| news.starts_with("CodecAdvice")).collect::<Vec<_>>()
    };
    let able = talk.connect("able", Automatic);
    talk.ok(able, joining(None, capabilities()));
    assert!(of(&mut talk).is_empty(), "nothing changes");
    let bert = talk.connect("bert", Automatic);
    talk.ok(bert, joining(None, without("video/VP8")));
    assert_eq!(of(&mut talk).len(), 1);
    let carl = talk.connect("carl", Automatic);
    let late = talk.ok(carl, joining(Some(Device::default()), capabilities()));
    let (codec, reason) = advice(late).expect("advice");
    assert!(codec == "video/VP9" && reason.contains("not everyone can decode VP8"), "{reason}");
    talk.leave(bert);
    let news = of(&mut talk);
    assert!(news.len() == 1 && news[0].contains("VP8: everyone"), "{news:?}");
    for session in [able, carl, anna.session] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn a_path_that_changes_is_told_of_and_one_that_swings_is_not() {
    let (mut talk, anna) = anna();
    talk.produce(&anna, Kind::Audio, audio("0"));
    talk.news(anna.session);
    let (core, transport) = talk.newest_transport();
    let mut told = Vec::new();
    let path = [400_000, 390_000, 510_000, 480_000, 520_000, 2_000_000, 1_900_000];
    for available_bps in path {
        let bandwidth = Bandwidth { available_bps, desired_bps: 1 };
        talk.event(core, Event::Bandwidth { transport, bandwidth });
        // Nothing more is heard of a path that stays.
        talk.pass(Duration::from_secs(11));
        let news = talk.news_texts(anna.session);
        told.push(news.iter().any(|news| news.starts_with("CodecAdvice")));
    }
    assert_eq!(told, [true, false, false, false, false, true, false]);
    let advised = |talk: &mut Talk, available_bps, seconds| {
        let bandwidth = Bandwidth { available_bps, desired_bps: 1 };
        talk.event(core, Event::Bandwidth { transport, bandwidth });
        talk.pass(Duration::from_secs(seconds));
        let news = talk.news_texts(anna.session);
        news.iter().filter(|news| news.starts_with("CodecAdvice")).count()
    };
    // A dip is over before it counts; what lasts is told once, and not again within seconds.
    let table = [
        (100_000, 4, 0),
        (2_000_000, 20, 0),
        (100_000, 4, 0),
        (90_000, 2, 1),
        (2_000_000, 6, 0),
        (2_000_000, 6, 1),
    ];
    for (at, (available_bps, seconds, count)) in table.into_iter().enumerate() {
        assert_eq!(advised(&mut talk, available_bps, seconds), count, "step {at}");
    }
    talk.event(
        core,
        Event::Bandwidth { transport, bandwidth: Bandwidth { available_bps: 1, desired_bps: 1 } },
    );
    talk.leave(anna.session);
    talk.assert_nothing_is_left();
}
