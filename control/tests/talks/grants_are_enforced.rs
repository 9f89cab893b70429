//! What a token does not grant is refused by control, whatever the client asks; the refusal names
//! the grant.

use opencall_control::api::ConsumeMode::{self, Automatic, OnRequest};
use opencall_control::api::{Grants, Request, Response, Source, Sources};
use opencall_control::rtp_parameters::{Kind, RtpParameters};
use serde_json::{Value, json};

use crate::talk::{Client, Talk, audio, consume, create, join, json_object, simulcast};

fn grants(change: impl FnOnce(&mut Grants)) -> Grants {
    let mut grants = Grants { identity_proven: true, ..Grants::default() };
    change(&mut grants);
    grants
}

/// Asks to produce with this appData; the refusal, if it is one.
fn produce(talk: &mut Talk, client: &Client, kind: Kind, app_data: Value) -> Option<(u16, String)> {
    let (mid, rtp_parameters): (_, fn(&str) -> RtpParameters) = match kind {
        Kind::Audio => ("0", audio),
        Kind::Video => ("1", simulcast),
    };
    let app_data = json_object(app_data);
    let request = Request::Produce {
        transport_id: client.send.id.clone(),
        kind,
        rtp_parameters: rtp_parameters(mid),
        app_data,
        paused: false,
    };
    match talk.ask(client.session, request) {
        Ok(Response::Produced { producer_id }) => {
            talk.ok(client.session, Request::CloseProducer { producer_id });
            None
        }
        Ok(_) => panic!("a producer was asked for"),
        Err(error) => Some((error.code, error.reason)),
    }
}

/// Which of the four sources a client gets to send, in the words of each dialect.
fn published(grants: &Grants) -> Vec<Source> {
    let words = [
        (Source::Camera, Kind::Video, [json!({"source": "webcam"}), json!({})]),
        (Source::Microphone, Kind::Audio, [json!({"source": "microphone"}), json!({})]),
        (Source::ScreenShare, Kind::Video, [json!({"source": "screen"}), json!({"share": true})]),
        (
            Source::ScreenShareAudio,
            Kind::Audio,
            [json!({"source": "screensharing"}), json!({"share": true})],
        ),
    ];
    let mut talk = Talk::new();
    let anna = talk.enter_with("anna", Automatic, grants.clone());
    let mut published = Vec::new();
    for (source, kind, dialects) in words {
        let refusals = dialects.map(|app_data| produce(&mut talk, &anna, kind, app_data));
        assert_eq!(refusals[0], refusals[1], "{source:?}");
        match &refusals[0] {
            None => published.push(source),
            Some((code, reason)) => {
                assert_eq!(*code, 403);
                let named = ["canPublish is", "without hidden", source.label()];
                assert!(named.iter().any(|name| reason.contains(name)), "{reason}");
            }
        }
    }
    published
}

#[test]
fn a_client_sends_the_sources_of_its_token_and_no_others() {
    assert_eq!(published(&Grants::default()), Source::ALL);
    assert_eq!(published(&grants(|grants| grants.publish = false)), []);
    assert_eq!(published(&grants(|grants| grants.hidden = true)), []);
    for subset in 0..16 {
        let sources: Vec<Source> =
            (0..4).filter(|bit| subset >> bit & 1 == 1).map(|bit| Source::ALL[bit]).collect();
        let granted: Sources = sources.iter().copied().collect();
        assert_eq!(published(&grants(|grants| grants.sources = granted)), sources);
        let nothing = grants(|grants| {
            grants.sources = granted;
            grants.publish = false;
        });
        assert_eq!(published(&nothing), []);
    }
}

#[test]
fn without_subscribe_nothing_is_offered_and_nothing_given() {
    for mode in [Automatic, OnRequest] {
        let mut talk = Talk::new();
        let anna = talk.enter("anna", Automatic);
        let early = talk.produce(&anna, Kind::Audio, audio("0"));
        let deaf = talk.enter_with("deaf", mode, grants(|grants| grants.subscribe = false));
        let late = talk.produce(&anna, Kind::Video, simulcast("1"));
        // The transport that comes last brings no offers either.
        talk.ok(deaf.session, create(opencall_control::api::Direction::Recv));
        assert!(talk.news(deaf.session).is_empty(), "{mode:?}");
        for producer in [early, late] {
            let (code, reason) = talk.refused(deaf.session, consume(&producer));
            assert_eq!(code, 403);
            assert!(reason.contains("canSubscribe"), "{reason}");
        }
        assert_eq!(talk.control.counts().consumers, 0);
        // It sends all the same.
        talk.produce(&deaf, Kind::Audio, audio("0"));
        assert_eq!(talk.offers(anna.session).len(), 1);
    }
}

#[test]
fn a_hidden_client_receives_and_nobody_is_told_of_it() {
    for mode in [Automatic, OnRequest] {
        let mut talk = Talk::new();
        let anna = talk.enter("anna", OnRequest);
        let camera = talk.produce(&anna, Kind::Video, simulcast("1"));
        let hidden = || grants(|grants| grants.hidden = true);
        let ghost = talk.enter_with("ghost", mode, hidden());
        let other = talk.enter_with("other ghost", mode, hidden());
        receives(&mut talk, &ghost, mode, &camera);
        let rename = Request::ChangeDisplayName { display_name: "Boo".into() };
        talk.ok(ghost.session, rename);
        let bert = talk.connect("bert", Automatic);
        let Response::Joined { peers, .. } = talk.ok(bert, join("Bert")) else { panic!("joined") };
        assert_eq!(peers.iter().map(|peer| &*peer.id).collect::<Vec<_>>(), ["anna"]);
        // It meets the others, and not another one of its kind.
        let news = talk.news_texts(ghost.session);
        assert!(news.contains(&"NewPeer bert".to_owned()), "{news:?}");
        assert!(!news.iter().any(|text| text.contains("ghost")), "{news:?}");
        talk.leave(ghost.session);
        talk.leave(other.session);
        let told = talk.news_texts(anna.session);
        let told: Vec<&String> = told.iter().filter(|text| text.contains("Peer")).collect();
        assert_eq!(told, ["NewPeer bert"]);
        assert!(talk.news_texts(bert).iter().all(|text| !text.contains("Peer")));
    }
}

#[test]
fn a_hidden_client_is_neither_counted_nor_known_by_its_name() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.enter_with("ghost", Automatic, grants(|grants| grants.hidden = true));
    talk.connect("on the way", Automatic);
    let page = |after: Option<&str>, only: Option<&str>| Request::Participants {
        after: after.map(str::to_owned),
        limit: 10,
        only: only.map(|only| vec![only.to_owned()]),
    };
    for request in [page(None, None), page(None, Some("ghost"))] {
        let answer = talk.ok(anna.session, request);
        let Response::Participants { participants, count, .. } = answer else { panic!("a page") };
        assert_eq!((participants.len(), count), (0, 1));
    }
    let refused = |talk: &mut Talk, name: &str| {
        let (code, reason) = talk.refused(anna.session, page(Some(name), None));
        (code, reason.replace(name, "?"))
    };
    let of_nobody = refused(&mut talk, "nobody");
    for name in ["ghost", "on the way"] {
        assert_eq!(refused(&mut talk, name), of_nobody);
    }
}

fn receives(talk: &mut Talk, client: &Client, mode: ConsumeMode, producer: &str) {
    match mode {
        Automatic => assert_eq!(talk.offers(client.session).len(), 1),
        OnRequest => drop(talk.ok(client.session, consume(producer))),
    }
}

#[test]
fn a_name_in_the_token_is_the_name_that_others_see() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let named = |rename| {
        grants(|grants| {
            grants.display_name = Some("Dr Bert".into());
            grants.rename = rename;
        })
    };
    let fixed = talk.enter_with("bert", Automatic, named(false));
    let rename = || Request::ChangeDisplayName { display_name: "The Boss".into() };
    let (code, reason) = talk.refused(fixed.session, rename());
    assert!(code == 403 && reason.contains("canUpdateOwnMetadata"), "{code} {reason}");
    let carl = talk.connect("carl", Automatic);
    let Response::Joined { peers, .. } = talk.ok(carl, join("Carl")) else { panic!("joined") };
    let names: Vec<&str> = peers.iter().map(|peer| peer.display_name.as_str()).collect();
    assert_eq!(names, ["anna", "Dr Bert"]);
    let free = talk.enter_with("dora", Automatic, named(true));
    talk.ok(free.session, rename());
    let told = talk.news_texts(anna.session);
    assert_eq!(told.last().map(String::as_str), Some("PeerDisplayNameChanged Dr Bert The Boss"));
}
