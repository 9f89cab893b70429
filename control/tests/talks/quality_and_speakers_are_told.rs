//! What data cores observe reaches the clients it concerns, once and only when it changes.

use std::time::Duration;

use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::{Request, Response, StatsOf, StatsReport};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::{
    Bandwidth, Event, Layers, RtpStreamStats, Stats, StatsQuery, TransportStats,
};
use smallvec::SmallVec;

use crate::talk::{Talk, audio, simulcast};

#[test]
fn scores_and_layers_are_told_on_change() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Video, simulcast("0"));
    let (producer, consumer) = (talk.newest_producer(), talk.newest_consumer());
    talk.news(anna.session);
    talk.news(bert.session);

    let scores = || SmallVec::from_slice(&[(11, 10), (22, 9), (33, 4)]);
    talk.event(0, Event::ProducerScore { producer, scores: scores() });
    talk.event(0, Event::ProducerScore { producer, scores: scores() });
    assert_eq!(talk.news_texts(anna.session), ["ProducerScore [10, 9, 4]", "Excellent"]);
    assert_eq!(talk.news_texts(bert.session), ["ConsumerScore 10 0"]);

    let layers = Some(Layers { spatial: 2, temporal: Some(1) });
    talk.event(0, Event::LayersChanged { consumer, layers });
    talk.event(0, Event::LayersChanged { consumer, layers });
    let expected = ["ConsumerLayersChanged Some(2)", "ConsumerScore 10 4"];
    assert_eq!(talk.news_texts(bert.session), expected);

    talk.event(0, Event::ConsumerScore { consumer, score: 3 });
    talk.event(0, Event::ConsumerScore { consumer, score: 3 });
    assert_eq!(talk.news_texts(bert.session), ["ConsumerScore 3 4", "Poor"]);
    talk.event(0, Event::ConsumerScore { consumer, score: 200 });
    assert_eq!(talk.news_texts(bert.session), ["ConsumerScore 10 4", "Excellent"]);
}

/// Of a stream without layers there is nothing else to tell.
#[test]
fn who_finds_no_room_is_told_so_whatever_it_consumes() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let mut camera = simulcast("0");
    camera.encodings.truncate(1);
    talk.produce(&anna, Kind::Video, camera);
    let consumer = talk.newest_consumer();
    talk.news(bert.session);
    let whole = Some(Layers { spatial: 0, temporal: None });
    for (layers, told) in [
        (whole, None),
        (None, Some("ConsumerLayersChanged None")),
        (None, None),
        (whole, Some("ConsumerLayersChanged Some(0)")),
        (whole, None),
        (Some(Layers { spatial: 0, temporal: Some(1) }), Some("ConsumerLayersChanged Some(0)")),
    ] {
        talk.event(0, Event::LayersChanged { consumer, layers });
        let news = talk.news_texts(bert.session);
        let mut news = news.iter().filter(|text| text.starts_with("ConsumerLayers"));
        assert_eq!(news.next().map(String::as_str), told, "{layers:?}");
    }
}

#[test]
fn bandwidth_is_told_to_the_client_whose_it_is() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let (core, transport) = talk.newest_transport();
    talk.news(anna.session);
    talk.news(bert.session);
    let bandwidth = Bandwidth { available_bps: 900_000, desired_bps: 7_000_000 };
    talk.event(core, Event::Bandwidth { transport, bandwidth });
    // What the server sends a client at most is 6 Mbit/s.
    let expected = ["DownlinkBandwidth 7000000 6000000 900000"];
    assert_eq!(talk.news_texts(bert.session), expected);
    assert!(talk.news(anna.session).is_empty());
}

#[test]
fn a_paused_producer_says_nothing_of_the_link() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let producer_id = talk.produce(&anna, Kind::Video, simulcast("0"));
    let producer = talk.newest_producer();
    let scores = |score| SmallVec::from_slice(&[(11, score)]);
    talk.event(0, Event::ProducerScore { producer, scores: scores(10) });
    assert_eq!(talk.news_texts(anna.session), ["ProducerScore [10]", "Excellent"]);
    talk.ok(anna.session, Request::PauseProducer { producer_id: producer_id.clone() });
    talk.event(0, Event::ProducerScore { producer, scores: scores(0) });
    let news = talk.news_texts(anna.session);
    assert!(!news.contains(&"Poor".to_owned()), "{news:?}");
    talk.ok(anna.session, Request::ResumeProducer { producer_id });
    talk.event(0, Event::ProducerScore { producer, scores: scores(1) });
    assert_eq!(talk.news_texts(anna.session), ["ProducerScore [1]", "Poor"]);
}

#[test]
fn the_far_end_of_a_pipe_does_not_judge_or_hear() {
    let mut talk = Talk::on_two_cores();
    let anna = talk.enter("anna", Automatic);
    talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let producer = talk.newest_producer();
    talk.news(anna.session);
    let scores = SmallVec::from_slice(&[(1, 1)]);
    talk.event(1, Event::ProducerScore { producer, scores });
    talk.event(1, Event::AudioLevel { producer, levels_dbov: [-20; 5] });
    assert!(talk.news(anna.session).is_empty());
}

#[test]
fn the_loudest_comes_first_and_silence_is_told() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let annas = talk.newest_producer();
    talk.produce(&bert, Kind::Audio, audio("0"));
    let berts = talk.newest_producer();
    talk.news(anna.session);
    talk.event(0, Event::AudioLevel { producer: annas, levels_dbov: [-40; 5] });
    assert_eq!(talk.news_texts(anna.session), ["Speakers [(\"anna\", -40)]"]);
    talk.event(0, Event::AudioLevel { producer: berts, levels_dbov: [-20; 5] });
    assert!(talk.news(anna.session).is_empty(), "not more often than every 200 ms");
    // The next level brings the news; without one it comes a little later.
    talk.pass(Duration::from_millis(200));
    assert!(talk.news(anna.session).is_empty());
    talk.pass(Duration::from_millis(150));
    let news = talk.news_texts(anna.session);
    assert!(news[0].starts_with("Speakers [(\"bert\""), "{news:?}");
    talk.pass(Duration::from_secs(5));
    assert_eq!(talk.news_texts(anna.session).last().expect("silence"), "Speakers []");
    talk.pass(Duration::from_secs(5));
    assert!(talk.news(anna.session).is_empty());
}

#[test]
fn the_muted_and_the_gone_do_not_speak() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let producer_id = talk.produce(&anna, Kind::Audio, audio("0"));
    let producer = talk.newest_producer();
    talk.news(bert.session);
    talk.event(0, Event::AudioLevel { producer, levels_dbov: [-20; 5] });
    assert_eq!(talk.news_texts(bert.session), ["Speakers [(\"anna\", -20)]"]);
    talk.ok(anna.session, Request::PauseProducer { producer_id });
    talk.event(0, Event::AudioLevel { producer, levels_dbov: [-20; 5] });
    talk.pass(Duration::from_millis(350));
    assert_eq!(talk.news_texts(bert.session), ["ConsumerPaused", "Speakers []"]);
    talk.leave(anna.session);
    talk.event(0, Event::AudioLevel { producer, levels_dbov: [-20; 5] });
    assert_eq!(talk.news_texts(bert.session), ["ConsumerClosed", "PeerClosed anna"]);
}

#[test]
fn statistics_come_from_the_cores_as_objects() {
    let mut talk = Talk::on_two_cores();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let camera = talk.produce(&anna, Kind::Video, simulcast("0"));
    let token = talk.send(bert.session, Request::Stats(StatsOf::Peer));
    let queries = std::mem::take(&mut talk.queries);
    assert_eq!(queries.len(), 3, "two transports and a consumer");
    for (core, token, of) in queries.into_iter().rev() {
        let stats = match of {
            StatsQuery::Transport(_) => Stats::Transport(TransportStats {
                bytes_sent: 5,
                available_outgoing_bps: Some(900_000),
                ..Default::default()
            }),
            StatsQuery::Consumer(_) => {
                Stats::Consumer(RtpStreamStats { jitter: 900, packets: 7, ..Default::default() })
            }
            _ => panic!("{of:?} was not asked for"),
        };
        talk.event(core.0, Event::Stats { token, stats: Some(Box::new(stats)) });
    }
    let Some(Ok(Response::Stats(reports))) = talk.answer(bert.session, token) else { panic!() };
    let objects: Vec<_> = reports.iter().map(StatsReport::to_object).collect();
    let types: Vec<&str> = objects.iter().filter_map(|object| object["type"].as_str()).collect();
    assert_eq!(types, ["webrtc-transport", "webrtc-transport", "outbound-rtp"]);
    assert_eq!(objects[0]["transportId"], bert.send.id.as_str());
    assert_eq!(objects[0]["availableOutgoingBitrate"], 900_000);
    assert_eq!(objects[0]["bytesSent"], 5);
    assert_eq!(objects[0]["dtlsState"], "new");
    assert_eq!(objects[0]["timestamp"], 1_700_000_001_000_u64);
    assert_eq!(objects[2]["jitter"], 0.01);
    assert_eq!(
        (&objects[2]["kind"], &objects[2]["mimeType"]),
        (&"video".into(), &"video/VP8".into())
    );

    let of = StatsOf::Producer(camera.clone());
    let token = talk.send(anna.session, Request::Stats(of));
    let (core, query, _) = talk.queries.remove(0);
    let stream = RtpStreamStats { rid: Some(SmallVec::from_slice(b"r1")), ..Default::default() };
    let stats = Some(Box::new(Stats::Producer(vec![RtpStreamStats::default(), stream])));
    talk.event(core.0, Event::Stats { token: query, stats });
    let Some(Ok(Response::Stats(reports))) = talk.answer(anna.session, token) else { panic!() };
    let objects: Vec<_> = reports.iter().map(StatsReport::to_object).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[1]["type"], &objects[1]["rid"]), (&"inbound-rtp".into(), &"r1".into()));
    assert_eq!(objects[1]["producerId"], camera.as_str());
}

#[test]
fn a_silent_core_delays_statistics_but_does_not_withhold_them() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let token = talk.send(anna.session, Request::Stats(StatsOf::Peer));
    let (core, query, _) = talk.queries.remove(0);
    let stats = Some(Box::new(Stats::Transport(TransportStats::default())));
    talk.event(core.0, Event::Stats { token: query, stats });
    talk.pass(Duration::from_millis(1_900));
    assert!(talk.answer(anna.session, token).is_none());
    talk.pass(Duration::from_millis(200));
    let Some(Ok(Response::Stats(reports))) = talk.answer(anna.session, token) else { panic!() };
    let objects: Vec<_> = reports.iter().map(StatsReport::to_object).collect();
    assert_eq!(objects.len(), 1);
    let (core, query, _) = talk.queries.remove(0);
    talk.event(core.0, Event::Stats { token: query, stats: None });
    talk.leave(anna.session);
    talk.assert_nothing_is_left();
}

#[test]
fn who_has_nothing_has_no_statistics() {
    let mut talk = Talk::new();
    let session = talk.connect("anna", Automatic);
    let Response::Stats(objects) = talk.ok(session, Request::Stats(StatsOf::Peer)) else {
        panic!()
    };
    assert!(objects.is_empty());
}
