//! Rooms fill and empty; nobody takes the place of a peer that is there; nothing is left behind.

use std::time::Duration;

use opencall_control::CHALLENGE_TIMEOUT;
use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::{CloseReason, Grants, Request, SessionId};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::Event;
use opencall_dataplane::overload::FLOOR_BPS;

use crate::talk::{Talk, audio, join, simulcast};

/// What a token grants.
fn proven() -> Grants {
    Grants { identity_proven: true, ..Grants::default() }
}

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
fn a_peer_that_proves_who_it_is_replaces_its_old_session_at_once() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let bert = talk.enter("bert", Automatic);
    talk.news(bert.session);
    let again = talk.connect_with("room", "anna", Automatic, proven());
    assert_eq!(talk.closed[&anna.session], CloseReason::Replaced);
    assert_eq!(talk.news_texts(bert.session), ["ConsumerClosed", "PeerClosed anna"]);
    talk.ok(again, join("Anna"));
    assert_eq!(talk.news_texts(bert.session), ["NewPeer anna"]);
    assert_eq!(talk.control.counts().peers, 2);
    talk.leave(anna.session);
    assert_eq!(talk.control.counts().peers, 2, "the old session is long gone");
    assert!(talk.challenged.is_empty());
}

#[test]
fn a_stranger_does_not_replace_someone_who_is_there() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.news(bert.session);
    let stranger = talk.connect("anna", Automatic);
    assert_eq!(talk.challenged, [anna.session]);
    assert!(!talk.opened.contains(&stranger), "it waits");
    talk.pass(CHALLENGE_TIMEOUT / 2);
    talk.answer_challenge(anna.session);
    assert_eq!(talk.closed[&stranger], CloseReason::PeerIdInUse);
    talk.pass(CHALLENGE_TIMEOUT * 2);
    assert!(!talk.closed.contains_key(&anna.session));
    assert!(talk.news(bert.session).is_empty(), "nobody notices");

    // An answer that nobody asked for means nothing to the next stranger.
    talk.answer_challenge(anna.session);
    let stranger = talk.connect("anna", Automatic);
    assert_eq!(talk.challenged, [anna.session; 2]);
    talk.pass(CHALLENGE_TIMEOUT);
    assert_eq!(talk.closed[&anna.session], CloseReason::Replaced);
    assert!(talk.opened.contains(&stranger));
}

#[test]
fn a_client_that_does_not_answer_gives_way() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let again = talk.connect("anna", Automatic);
    talk.pass(CHALLENGE_TIMEOUT - Duration::from_millis(1));
    assert!(talk.closed.is_empty());
    talk.pass(Duration::from_millis(1));
    assert_eq!(talk.closed[&anna.session], CloseReason::Replaced);
    talk.ok(again, join("Anna"));
    let room = talk.rooms().into_iter().next().map(|room| (room.name, room.participants));
    assert_eq!(room, Some(("room".to_owned(), 1)));
    talk.leave(again);
    talk.assert_nothing_is_left();
}

#[test]
fn a_reloaded_page_waits_for_nothing() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let again = talk.connect("anna", Automatic);
    assert!(!talk.opened.contains(&again));
    talk.leave(anna.session);
    assert!(talk.opened.contains(&again), "as soon as the old connection is gone");
    talk.pass(CHALLENGE_TIMEOUT * 2);
    assert!(talk.closed.is_empty());
    talk.leave(again);
    talk.assert_nothing_is_left();
}

#[test]
fn of_many_who_wait_the_last_one_gets_the_place_and_their_number_is_bounded() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let waiting: Vec<SessionId> = (0..20).map(|_| talk.connect("anna", Automatic)).collect();
    assert_eq!(talk.challenged, [anna.session], "asked once");
    let refused = |talk: &Talk| waiting.iter().filter(|id| talk.closed.contains_key(id)).count();
    assert_eq!(refused(&talk), 12);
    talk.leave(waiting[7]);
    talk.pass(CHALLENGE_TIMEOUT);
    assert!(talk.opened.contains(&waiting[6]));
    assert_eq!(refused(&talk), 18, "all but the one who left and the one who is in");
    talk.leave(waiting[6]);
    talk.assert_nothing_is_left();
}

#[test]
fn who_waits_when_the_server_stops_is_sent_away() {
    let mut talk = Talk::new();
    talk.enter("anna", Automatic);
    let again = talk.connect("anna", Automatic);
    talk.stop();
    assert_eq!(talk.closed[&again], CloseReason::Shutdown);
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

#[test]
fn who_could_be_given_nothing_is_refused_and_those_inside_stay() {
    let mut talk = Talk::on_two_cores();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.connect("bert", Automatic);
    talk.event(0, Event::Overload { ceiling_bps: Some(FLOOR_BPS) });
    talk.event(1, Event::Overload { ceiling_bps: Some(1_000_000) });
    talk.ok(bert, join("bert"));
    talk.event(1, Event::Overload { ceiling_bps: Some(FLOOR_BPS) });
    let cleo = talk.connect("cleo", Automatic);
    let (code, reason) = talk.refused(cleo, join("cleo"));
    assert_eq!((code, &*reason), (503, "the server is overloaded: try again in a minute"));
    talk.produce(&anna, Kind::Audio, audio("0"));
    assert_eq!(talk.control.counts().overloaded_cores, 2);
    talk.event(0, Event::Overload { ceiling_bps: None });
    talk.ok(cleo, join("cleo"));
}
