//! Wrong, early, late and foreign requests: each is refused with a code and a sentence that says
//! what to do, and changes nothing.

use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::{
    Direction, DtlsFingerprint, DtlsParameters, DtlsRole, JsonObject, Request, Response, SctpMode,
    SessionId, StatsOf,
};
use opencall_control::rtp_parameters::{Kind, RtpCapabilities};
use opencall_dataplane::message::Layers;
use serde_json::json;

use crate::talk::{
    Talk, audio, capabilities, config, consume, create, join, json_object, produce, ready,
    simulcast,
};

fn connect(transport_id: &str) -> Request {
    let value = vec!["00"; 32].join(":");
    let fingerprints = vec![DtlsFingerprint { algorithm: "sha-256".into(), value }];
    let dtls_parameters = DtlsParameters { role: DtlsRole::Client, fingerprints };
    Request::ConnectTransport { transport_id: transport_id.into(), dtls_parameters }
}

fn assert_refused(talk: &mut Talk, session: SessionId, table: Vec<(Request, u16, &str)>) {
    for (request, code, text) in table {
        let before = talk.control.counts();
        let (found, reason) = talk.refused(session, request);
        assert!(found == code && reason.contains(text), "{found} {reason} instead of {text}");
        assert_eq!(talk.control.counts(), before);
    }
}

#[test]
fn before_joining() {
    let mut talk = Talk::new();
    let session = talk.connect("anna", Automatic);
    let send = talk.transport(session, Direction::Send);
    let rename = Request::ChangeDisplayName { display_name: "Anna".into() };
    let table = vec![
        (produce(&send.id, Kind::Audio, audio("0")), 403, "join first"),
        (consume("0123456789abcdef"), 403, "join first"),
        (rename, 403, "join first"),
    ];
    assert_refused(&mut talk, session, table);
}

#[test]
fn twice() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.ok(anna.session, connect(&anna.send.id));
    let table = vec![
        (join("Anna"), 403, "already joined"),
        (connect(&anna.send.id), 403, "connect it once"),
    ];
    assert_refused(&mut talk, anna.session, table);
}

#[test]
fn in_the_wrong_direction() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let bert = talk.enter("bert", OnRequest);
    let camera = talk.produce(&bert, Kind::Video, simulcast("0"));
    let on = |transport: &str| Request::Consume {
        producer_id: camera.clone(),
        rtp_capabilities: None,
        transport_id: Some(transport.to_owned()),
        mid: None,
        paused: false,
    };
    let table = vec![
        (produce(&anna.recv.id, Kind::Audio, audio("0")), 403, "direction \"send\""),
        (on(&anna.send.id), 403, "direction \"recv\""),
        (on(&bert.recv.id), 404, "belongs to someone else"),
    ];
    assert_refused(&mut talk, anna.session, table);
    let own = vec![(consume(&camera), 403, "your own")];
    assert_refused(&mut talk, bert.session, own);
    let carl = talk.connect("carl", OnRequest);
    talk.ok(carl, join("Carl"));
    assert_refused(&mut talk, carl, vec![(consume(&camera), 403, "no transport to receive on")]);
}

#[test]
fn about_what_is_not_there_or_someone_elses() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let camera = talk.produce(&bert, Kind::Video, simulcast("0"));
    let consumer = talk.offers(anna.session).remove(0).id;
    let layers = Layers { spatial: 0, temporal: None };
    for id in ["", "x", "0123456789abcdef", camera.as_str(), consumer.as_str(), &bert.send.id] {
        let (transport_id, producer_id, consumer_id) =
            (|| id.to_owned(), || id.to_owned(), || id.to_owned());
        let mut requests = vec![
            connect(id),
            Request::RestartIce { transport_id: transport_id() },
            produce(id, Kind::Audio, audio("0")),
            Request::CloseProducer { producer_id: producer_id() },
            Request::PauseProducer { producer_id: producer_id() },
            Request::ResumeProducer { producer_id: producer_id() },
            Request::Stats(StatsOf::Transport(transport_id())),
            Request::Stats(StatsOf::Producer(producer_id())),
        ];
        if id != consumer {
            requests.extend([
                ready(id, true),
                Request::CloseConsumer { consumer_id: consumer_id() },
                Request::PauseConsumer { consumer_id: consumer_id() },
                Request::ResumeConsumer { consumer_id: consumer_id() },
                Request::SetConsumerPreferredLayers { consumer_id: consumer_id(), layers },
                Request::SetConsumerPriority { consumer_id: consumer_id(), priority: 1 },
                Request::RequestConsumerKeyFrame { consumer_id: consumer_id() },
                Request::Stats(StatsOf::Consumer(consumer_id())),
            ]);
        }
        let table = requests.into_iter().map(|request| (request, 404, "it was closed, or belongs"));
        assert_refused(&mut talk, anna.session, table.collect());
    }
}

#[test]
fn across_rooms() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let camera = talk.produce(&anna, Kind::Video, simulcast("0"));
    let bert = talk.connect_to("another room", "bert", OnRequest);
    talk.transport(bert, Direction::Recv);
    talk.ok(bert, join("Bert"));
    assert!(talk.news(bert).is_empty());
    assert_refused(&mut talk, bert, vec![(consume(&camera), 404, "no producer")]);
}

#[test]
fn malformed() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let bert = talk.enter("bert", OnRequest);
    let camera = talk.produce(&bert, Kind::Video, simulcast("0"));
    let with_app_data = |app_data: serde_json::Value| Request::Produce {
        transport_id: anna.send.id.clone(),
        kind: Kind::Audio,
        rtp_parameters: audio("0"),
        app_data: json_object(app_data),
        paused: false,
    };
    let deep = (0..20).fold(json!(1), |inner, _| json!({"a": inner}));
    let mut h265 = simulcast("0");
    h265.codecs[0].mime_type = "video/H265".into();
    let without_codecs = Request::Consume {
        producer_id: camera.clone(),
        rtp_capabilities: Some(RtpCapabilities::default()),
        transport_id: None,
        mid: None,
        paused: false,
    };
    let no_fingerprint = Request::ConnectTransport {
        transport_id: anna.send.id.clone(),
        dtls_parameters: DtlsParameters { role: DtlsRole::Auto, fingerprints: Vec::new() },
    };
    let tcp = Request::CreateTransport {
        direction: Direction::Send,
        force_tcp: true,
        sctp: SctpMode::Off,
    };
    let table = vec![
        (tcp, 400, "without forceTcp"),
        (no_fingerprint, 400, "send a DTLS fingerprint"),
        (with_app_data(json!({"x": "y".repeat(5_000)})), 400, "appData is longer"),
        (with_app_data(json!({"a": vec![json!({"": []}); 450]})), 400, "more than 512 values"),
        (with_app_data(deep), 400, "nests deeper than 16"),
        (produce(&anna.send.id, Kind::Video, audio("0")), 400, "as its kind says"),
        (produce(&anna.send.id, Kind::Video, h265), 400, "not a codec of this router"),
        (without_codecs, 400, "can receive none"),
        (Request::ChangeDisplayName { display_name: "x".repeat(513) }, 400, "shorten it"),
    ];
    assert_refused(&mut talk, anna.session, table);

    let Response::Consumed(options) = talk.ok(anna.session, consume(&camera)) else { panic!() };
    let zero = Request::SetConsumerPriority { consumer_id: options.id, priority: 0 };
    assert_refused(&mut talk, anna.session, vec![(zero, 400, "1 to 255")]);

    let carl = talk.connect("carl", OnRequest);
    let mut too_long = capabilities();
    too_long.codecs = vec![too_long.codecs[0].clone(); 200];
    let device = json_object(json!({"name": "x".repeat(2_000)}));
    let join = |display_name: String, device, rtp_capabilities| Request::Join {
        codec_hints: None,
        display_name,
        device,
        rtp_capabilities,
    };
    let table = vec![
        (join(String::new(), device, None), 400, "device is longer"),
        (join("x".repeat(600), JsonObject::default(), None), 400, "displayName is longer"),
        (join(String::new(), JsonObject::default(), Some(too_long)), 400, "at most 128"),
    ];
    assert_refused(&mut talk, carl, table);
}

#[test]
fn streams_that_could_not_be_told_apart() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let mut same_ssrc = audio("1");
    same_ssrc.encodings = audio("0").encodings;
    let mut nameless = simulcast("5");
    nameless.mid = None;
    talk.produce(&anna, Kind::Video, nameless.clone());
    let table = vec![
        (produce(&anna.send.id, Kind::Audio, audio("0")), 400, "is in use on this transport"),
        (produce(&anna.send.id, Kind::Video, simulcast("0")), 400, "mid \"0\" is in use"),
        (produce(&anna.send.id, Kind::Audio, same_ssrc.clone()), 400, "SSRC 1001 is in use"),
        (produce(&anna.send.id, Kind::Video, nameless.clone()), 400, "rid \"r0\" is in use"),
    ];
    assert_refused(&mut talk, anna.session, table);
    // On another transport, or once the other is closed, they can.
    let second = talk.transport(anna.session, Direction::Send);
    let Response::Produced { producer_id } =
        talk.ok(anna.session, produce(&second.id, Kind::Audio, audio("0")))
    else {
        panic!()
    };
    talk.ok(anna.session, Request::CloseProducer { producer_id });
    talk.ok(anna.session, produce(&second.id, Kind::Audio, same_ssrc));
    talk.ok(anna.session, produce(&second.id, Kind::Video, nameless));
}

#[test]
fn one_too_many() {
    let mut config = config(1, Default::default());
    config.limits.peers_per_room = 2;
    config.limits.transports_per_peer = 3;
    config.limits.producers_per_peer = 2;
    config.limits.consumers_per_peer = 1;
    let mut talk = Talk::with(config);
    let anna = talk.enter("anna", OnRequest);
    let bert = talk.enter("bert", OnRequest);
    talk.transport(anna.session, Direction::Send);
    let camera = talk.produce(&anna, Kind::Video, simulcast("0"));
    let microphone = talk.produce(&anna, Kind::Audio, audio("1"));
    let table = vec![
        (create(Direction::Send), 429, "3 transports"),
        (produce(&anna.send.id, Kind::Audio, audio("22")), 429, "2 producers"),
    ];
    assert_refused(&mut talk, anna.session, table);
    talk.ok(bert.session, consume(&camera));
    assert_refused(&mut talk, bert.session, vec![(consume(&microphone), 429, "1 consumers")]);
    let carl = talk.connect("carl", OnRequest);
    assert_refused(&mut talk, carl, vec![(join("Carl"), 429, "2 peers")]);
    for _ in 0..4 {
        talk.send(anna.session, Request::Stats(StatsOf::Peer));
    }
    assert_refused(&mut talk, anna.session, vec![(Request::Stats(StatsOf::Peer), 429, "4 ques")]);
}

#[test]
fn after_the_session_has_ended() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.leave(anna.session);
    assert_eq!(talk.refused(anna.session, join("Anna")).0, 403);
    assert_eq!(talk.refused(SessionId(u64::MAX), Request::Stats(StatsOf::Peer)).0, 403);
    talk.leave(anna.session);
    talk.assert_nothing_is_left();
}
