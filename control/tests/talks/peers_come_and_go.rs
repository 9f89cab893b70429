//! Rooms fill and empty; a peer that connects again replaces itself; nothing is left behind.

use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::{CloseReason, Request};
use opencall_control::rtp_parameters::Kind;

use crate::talk::{Talk, audio, join, simulcast};

#[test]
fn leaving_closes_everything_and_tells_the_others() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    talk.produce(&bert, Kind::Video, simulcast("0"));
    talk.news(bert.session);
    talk.commands();
    talk.leave(anna.session);
    assert_eq!(talk.news_texts(bert.session), ["ConsumerClosed", "PeerClosed anna"]);
    let counts = talk.control.counts();
    assert_eq!((counts.peers, counts.producers, counts.consumers), (1, 1, 0));
    talk.leave(bert.session);
    talk.assert_nothing_is_left();
}

#[test]
fn the_same_peer_again_replaces_the_old_session() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.enter("bert", Automatic);
    talk.news(bert.session);
    let again = talk.connect("anna", Automatic);
    assert_eq!(talk.closed[&anna.session], CloseReason::Replaced);
    assert_eq!(talk.news_texts(bert.session), ["ConsumerClosed", "PeerClosed anna"]);
    talk.ok(again, join("Anna"));
    assert_eq!(talk.news_texts(bert.session), ["NewPeer anna"]);
    assert_eq!(talk.control.counts().peers, 2);
    talk.leave(anna.session);
    assert_eq!(talk.control.counts().peers, 2, "the old session is long gone");
}

#[test]
fn the_same_peer_alone_in_its_room_keeps_a_room() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let again = talk.connect("anna", Automatic);
    assert_eq!(talk.closed[&anna.session], CloseReason::Replaced);
    talk.ok(again, join("Anna"));
    assert_eq!(
        talk.control.rooms().map(|room| (room.name, room.peers)).next(),
        Some(("room".to_owned(), 1))
    );
    talk.leave(again);
    talk.assert_nothing_is_left();
}

#[test]
fn one_name_in_two_rooms_is_two_peers() {
    let mut talk = Talk::new();
    let here = talk.connect_to("here", "anna", Automatic);
    talk.connect_to("there", "anna", Automatic);
    assert!(talk.closed.is_empty());
    assert_eq!(talk.control.counts().rooms, 2);
    talk.leave(here);
    assert_eq!(talk.control.counts().rooms, 1);
}

#[test]
fn who_never_entered_leaves_unnoticed() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.connect("bert", Automatic);
    talk.leave(bert);
    assert!(talk.news(anna.session).is_empty());
}

#[test]
fn a_new_name_is_told_to_the_others() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", OnRequest);
    talk.ok(bert.session, Request::ChangeDisplayName { display_name: "Bertha".into() });
    let news = talk.news_texts(anna.session);
    assert_eq!(news, ["NewPeer bert", "PeerDisplayNameChanged bert Bertha"]);
    assert!(talk.news(bert.session).is_empty());
}

#[test]
fn a_stopping_server_closes_all() {
    let mut talk = Talk::new();
    let sessions = ["anna", "bert"].map(|name| talk.enter(name, Automatic).session);
    talk.stop();
    for session in sessions {
        assert_eq!(talk.closed[&session], CloseReason::Shutdown);
    }
    talk.assert_nothing_is_left();
}
