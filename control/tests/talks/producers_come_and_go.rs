//! A producer's life as the others see it: offered, paused, resumed, closed; in both modes.

use crate::talk::{Talk, audio, capabilities, consume, ready, simulcast};
use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::{ConsumerType, Direction, Notification, Request, Response, SessionId};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::{Event, IceState};

/// An OpenCall client that has entered.
fn enter_on_request(talk: &mut Talk, peer: &str) -> SessionId {
    let session = talk.connect(peer, OnRequest);
    let request = Request::SetRtpCapabilities {
        codec_hints: None,
        rtp_capabilities: capabilities(),
        display_name: Some(peer.to_uppercase()),
    };
    talk.ok(session, request);
    session
}

fn announced(news: &[Notification]) -> Vec<String> {
    news.iter()
        .filter_map(|news| match news {
            Notification::NewProducer { producer_id, .. } => Some(producer_id.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn pause_resume_and_close_reach_every_consumer() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let producer_id = talk.produce(&anna, Kind::Video, simulcast("0"));
    let offer = talk.offers(bert.session).remove(0);
    assert!(!offer.producer_paused);
    assert_eq!(offer.consumer_type, ConsumerType::Simulcast);
    talk.ok(bert.session, ready(&offer.id, true));
    talk.commands();

    talk.ok(anna.session, Request::PauseProducer { producer_id: producer_id.clone() });
    talk.ok(anna.session, Request::PauseProducer { producer_id: producer_id.clone() });
    assert_eq!(talk.news_texts(bert.session), ["ConsumerPaused"]);
    assert_eq!(talk.commands(), ["PauseProducer"]);

    let carl = talk.enter("carl", Automatic);
    assert!(talk.offers(carl.session)[0].producer_paused);

    talk.commands();
    talk.news(bert.session);
    talk.ok(anna.session, Request::ResumeProducer { producer_id: producer_id.clone() });
    assert_eq!(talk.news_texts(bert.session), ["ConsumerResumed"]);
    assert_eq!(talk.commands(), ["ResumeProducer"]);

    talk.ok(anna.session, Request::CloseProducer { producer_id: producer_id.clone() });
    assert_eq!(talk.news_texts(bert.session), ["ConsumerClosed"]);
    assert_eq!(talk.commands(), ["CloseConsumer", "CloseConsumer", "CloseProducer"]);
    assert_eq!(talk.refused(anna.session, Request::CloseProducer { producer_id }).0, 404);
}

#[test]
fn who_asks_is_told_of_what_exists_and_of_what_comes() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let camera = talk.produce(&anna, Kind::Video, simulcast("0"));
    let bert = enter_on_request(&mut talk, "bert");
    assert!(announced(&talk.news(bert)).is_empty(), "it has no transport to receive on yet");
    assert_eq!(talk.news_texts(anna.session), ["NewPeer bert"]);
    talk.transport(bert, Direction::Send);
    assert!(announced(&talk.news(bert)).is_empty(), "nor on this one");
    talk.transport(bert, Direction::Recv);
    assert_eq!(announced(&talk.news(bert)), [camera]);
    let microphone = talk.produce(&anna, Kind::Audio, audio("1"));
    assert_eq!(announced(&talk.news(bert)), std::slice::from_ref(&microphone));
    talk.transport(bert, Direction::Recv);
    assert!(announced(&talk.news(bert)).is_empty(), "nothing is told twice");

    talk.commands();
    let Response::Consumed(options) = talk.ok(bert, consume(&microphone)) else { panic!() };
    assert_eq!((&*options.peer_id, options.kind), ("anna", Kind::Audio));
    assert_eq!(talk.commands(), ["CreateConsumer"], "it runs at once");
    assert!(talk.news(bert).is_empty());

    talk.ok(anna.session, Request::CloseProducer { producer_id: microphone });
    assert_eq!(talk.news_texts(bert), ["ConsumerClosed", "ProducerClosed"]);
}

#[test]
fn capabilities_may_come_after_joining() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.connect("bert", OnRequest);
    let request = Request::Join {
        codec_hints: None,
        display_name: "Bert".into(),
        device: Default::default(),
        rtp_capabilities: None,
    };
    talk.ok(bert, request);
    talk.transport(bert, Direction::Recv);
    assert!(announced(&talk.news(bert)).is_empty());
    let set = || Request::SetRtpCapabilities {
        rtp_capabilities: capabilities(),
        display_name: None,
        codec_hints: None,
    };
    talk.ok(bert, set());
    assert_eq!(announced(&talk.news(bert)).len(), 1);
    assert_eq!(talk.refused(bert, set()).0, 403);
    assert_eq!(talk.news_texts(anna.session), ["NewPeer bert"], "told once");
}

#[test]
fn a_consumer_may_start_paused_and_be_tuned() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let camera = talk.produce(&anna, Kind::Video, simulcast("0"));
    let bert = enter_on_request(&mut talk, "bert");
    talk.transport(bert, Direction::Recv);
    talk.commands();
    let request = Request::Consume {
        producer_id: camera.clone(),
        rtp_capabilities: Some(capabilities()),
        transport_id: None,
        mid: None,
        paused: true,
    };
    let Response::Consumed(options) = talk.ok(bert, request) else { panic!() };
    let consumer_id = || options.id.clone();
    talk.ok(bert, Request::ResumeConsumer { consumer_id: consumer_id() });
    talk.ok(bert, Request::ResumeConsumer { consumer_id: consumer_id() });
    let layers = opencall_dataplane::message::Layers { spatial: 1, temporal: Some(2) };
    talk.ok(bert, Request::SetConsumerPreferredLayers { consumer_id: consumer_id(), layers });
    talk.ok(bert, Request::SetConsumerPriority { consumer_id: consumer_id(), priority: 9 });
    talk.ok(bert, Request::RequestConsumerKeyFrame { consumer_id: consumer_id() });
    talk.ok(bert, Request::PauseConsumer { consumer_id: consumer_id() });
    talk.ok(bert, Request::CloseConsumer { consumer_id: consumer_id() });
    let expected = [
        "CreateConsumer paused",
        "ResumeConsumer",
        "SetPreferredLayers 1 Some(2)",
        "SetPriority 9",
        "RequestKeyFrame",
        "PauseConsumer",
        "CloseConsumer",
    ];
    assert_eq!(talk.commands(), expected);
    let Response::Consumed(_) = talk.ok(bert, consume(&camera)) else { panic!("again") };
}

#[test]
fn the_first_cname_rules_a_transport() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let mut other = simulcast("1");
    other.rtcp.cname = Some("other".into());
    talk.produce(&anna, Kind::Video, other);
    for offer in talk.offers(bert.session) {
        assert_eq!(offer.rtp_parameters.stream.rtcp.cname.as_deref(), Some("browser"));
    }
}

#[test]
fn mids_count_up_per_transport() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    for mid in ["0", "11", "222"] {
        talk.produce(&anna, Kind::Audio, audio(mid));
    }
    let offers = talk.offers(bert.session);
    let mids: Vec<_> = offers.iter().map(|offer| offer.rtp_parameters.mid.as_str()).collect();
    assert_eq!(mids, ["0", "1", "2"]);
}

#[test]
fn consuming_again_moves_the_consumer_to_the_newest_transport() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let camera = talk.produce(&anna, Kind::Video, simulcast("0"));
    let bert = enter_on_request(&mut talk, "bert");
    let first = talk.transport(bert, Direction::Recv);
    let Response::Consumed(old) = talk.ok(bert, consume(&camera)) else { panic!() };
    assert_eq!(old.transport_id, first.id);
    // The network took the first one, and nobody closed it.
    let second = talk.transport(bert, Direction::Recv);
    talk.news(bert);
    let Response::Consumed(new) = talk.ok(bert, consume(&camera)) else { panic!() };
    assert_eq!(new.transport_id, second.id);
    assert_eq!(talk.news_texts(bert), ["ConsumerClosed"], "the old one");
    assert_eq!(talk.refused(bert, Request::CloseConsumer { consumer_id: old.id }).0, 404);
    assert_eq!(talk.control.counts().consumers, 1);
}

#[test]
fn what_was_received_on_a_transport_that_died_is_offered_on_the_next() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.connect("bert", Automatic);
    let first = talk.transport(bert, Direction::Recv);
    let (core, transport) = talk.newest_transport();
    talk.ok(bert, crate::talk::join("Bert"));
    assert_eq!(talk.offers(bert)[0].transport_id, first.id);
    let remote = ([192, 0, 2, 7], 9).into();
    for state in [IceState::Connected, IceState::Disconnected] {
        talk.event(core, Event::Ice { transport, state, remote });
    }
    talk.news(bert);
    let second = talk.transport(bert, Direction::Recv);
    let news = talk.news(bert);
    let offers: Vec<&str> = news
        .iter()
        .filter_map(|news| match news {
            Notification::NewConsumer(options) => Some(options.transport_id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(offers, [second.id.as_str()]);
    assert_eq!(talk.control.counts().consumers, 1);
}
