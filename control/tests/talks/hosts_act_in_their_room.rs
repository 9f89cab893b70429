//! What hosts may do in their own room and nowhere else, and what those concerned are told.

use opencall_control::admin::{AdminRequest, MuteTarget};
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use opencall_control::{MAX_WAITING, PlacementPolicy, WAITING_TIMEOUT};

use crate::talk::{Client, Talk, audio, config, create, join};

fn host_grants() -> Grants {
    Grants { admin: true, identity_proven: true, ..Grants::default() }
}

fn remove(peer: &str) -> Request {
    Request::Host(HostAction::Remove { peer_id: peer.to_owned() })
}

fn mute(peer: &str, muted: bool) -> Request {
    let what = MuteTarget::Source(Source::Microphone);
    Request::Host(HostAction::Mute { peer_id: peer.to_owned(), what, muted })
}

fn lock(locked: bool, waiting_room: bool) -> Request {
    Request::Host(HostAction::Lock { locked, waiting_room })
}

fn admit(peer: &str) -> Request {
    Request::Host(HostAction::Admit { peer_id: peer.to_owned() })
}

fn deny(peer: &str) -> Request {
    Request::Host(HostAction::Deny { peer_id: peer.to_owned() })
}

/// Hanna, who is a host, and Bert, who sends a voice.
fn meeting() -> (Talk, Client, Client, String) {
    let mut talk = Talk::new();
    let hanna = talk.enter_with("hanna", Automatic, host_grants());
    let bert = talk.enter("bert", Automatic);
    let voice = talk.produce(&bert, Kind::Audio, audio("0"));
    for session in [hanna.session, bert.session] {
        talk.news(session);
    }
    talk.commands();
    (talk, hanna, bert, voice)
}

/// The same with a waiting room, in which Carl waits.
fn waiting() -> (Talk, Client, Client, SessionId) {
    let (mut talk, hanna, bert, _) = meeting();
    talk.ok(hanna.session, lock(true, true));
    let carl = talk.connect("carl", Automatic);
    assert_eq!(
        talk.news_texts(hanna.session),
        ["RoomLocked true true by hanna", "PeerWaiting carl carl"]
    );
    assert_eq!(talk.news_texts(bert.session), ["RoomLocked true true by hanna"]);
    assert_eq!(talk.news_texts(carl), ["Waiting"]);
    assert!(talk.opened.contains(&carl));
    (talk, hanna, bert, carl)
}

#[test]
fn what_one_may_do_is_told_at_the_entrance() {
    let mut talk = Talk::new();
    let cases = [
        (host_grants(), (true, 4, true, true)),
        (Grants::default(), (false, 4, true, true)),
        (Grants { publish: false, data: false, ..Grants::default() }, (false, 0, true, false)),
        (Grants { hidden: true, subscribe: false, ..host_grants() }, (true, 0, false, false)),
        (
            Grants { sources: Sources::NONE.with(Source::Camera, true), ..Grants::default() },
            (false, 1, true, true),
        ),
    ];
    for (number, (grants, expected)) in cases.into_iter().enumerate() {
        let session = talk.connect_with("room", &format!("peer{number}"), Automatic, grants);
        let Response::Joined { entrance, .. } = talk.ok(session, join("x")) else { panic!("no") };
        let Rights { host, sources, subscribe, data, publish } = &entrance.can;
        assert_eq!((*host, sources.len(), *subscribe, *data), expected);
        assert_eq!(*publish, !sources.is_empty());
        assert!(!entrance.locked && !entrance.waiting_room);
    }
}

#[test]
fn who_is_muted_or_removed_is_told_by_whom() {
    let (mut talk, hanna, bert, voice) = meeting();
    talk.ok(hanna.session, mute("bert", true));
    assert_eq!(talk.news_texts(bert.session), ["ProducerMuted true by hanna"]);
    assert_eq!(talk.commands(), ["PauseProducer"]);
    let resume = || Request::ResumeProducer { producer_id: voice.clone() };
    assert_eq!(talk.refused(bert.session, resume()).0, 403);
    talk.ok(hanna.session, mute("bert", false));
    assert_eq!(talk.news_texts(bert.session), ["ProducerMuted false by hanna"]);
    let what = MuteTarget::Producer(voice);
    let one = HostAction::Mute { peer_id: "bert".to_owned(), what, muted: true };
    talk.ok(hanna.session, Request::Host(one));
    assert_eq!(talk.news_texts(bert.session), ["ProducerMuted true by hanna"]);

    assert_eq!(talk.refused(hanna.session, remove("hanna")).0, 400);
    talk.ok(hanna.session, remove("bert"));
    assert_eq!(talk.closed[&bert.session], CloseReason::RemovedByHost);
    assert_eq!(talk.closed_by[&bert.session], "hanna");
    assert!(talk.news_texts(hanna.session).contains(&"PeerClosed bert".to_owned()));
    talk.leave(hanna.session);
    talk.assert_nothing_is_left();
}

#[test]
fn without_the_grant_elsewhere_or_on_the_unseen_nothing_is_done() {
    let (mut talk, hanna, bert, _) = meeting();
    let other = talk.connect_with("other", "carl", Automatic, host_grants());
    talk.ok(other, join("Carl"));
    let hidden = Grants { hidden: true, ..Grants::default() };
    let ghost = talk.connect_with("room", "ghost", Automatic, hidden);
    talk.ok(ghost, join("Ghost"));
    // A host that has not entered acts as little as anyone.
    let outside = talk.connect_with("room", "ida", Automatic, host_grants());
    talk.news(hanna.session);
    let on = |peer: &'static str| {
        [mute(peer, true), mute(peer, false), remove(peer), admit(peer), deny(peer)]
    };
    for request in on("hanna").into_iter().chain([lock(true, true), lock(true, false)]) {
        let (code, reason) = talk.refused(bert.session, request.clone());
        assert!(code == 403 && reason.contains("roomAdmin"), "{reason}");
        assert_eq!(talk.refused(outside, request).0, 403);
    }
    for request in ["bert", "nobody"].into_iter().flat_map(on) {
        assert_eq!(talk.refused(other, request).0, 404);
    }
    for request in on("ghost") {
        let (code, reason) = talk.refused(hanna.session, request);
        assert!(code == 404 && reason.contains("ghost"), "{reason}");
    }
    assert!(talk.closed.is_empty() && talk.news(bert.session).is_empty());
    assert!(talk.commands().is_empty());
}

#[test]
fn a_hidden_host_acts_and_is_not_named() {
    let (mut talk, _, bert, _) = meeting();
    let grants = Grants { hidden: true, ..host_grants() };
    let ghost = talk.connect_with("room", "ghost", Automatic, grants);
    talk.ok(ghost, join("Ghost"));
    talk.ok(ghost, mute("bert", true));
    talk.ok(ghost, lock(true, false));
    assert_eq!(talk.news_texts(bert.session), ["ProducerMuted true", "RoomLocked true false"]);
    talk.ok(ghost, remove("bert"));
    assert!(talk.closed_by.is_empty());
}

#[test]
fn into_a_locked_room_hosts_come_and_no_others() {
    let (mut talk, hanna, _, _) = meeting();
    talk.ok(hanna.session, lock(true, false));
    let carl = talk.connect("carl", Automatic);
    assert_eq!(talk.closed[&carl], CloseReason::RoomLocked);
    let ida = talk.connect_with("room", "ida", Automatic, host_grants());
    let Response::Joined { entrance, .. } = talk.ok(ida, join("Ida")) else { panic!("no") };
    assert!(entrance.locked && !entrance.waiting_room);
    talk.news(hanna.session);
    talk.ok(ida, lock(true, false));
    assert!(talk.news(hanna.session).is_empty(), "it was locked already");
    talk.ok(ida, lock(false, true));
    assert_eq!(talk.news_texts(hanna.session), ["RoomLocked false false by ida"]);
    let carl = talk.connect("carl", Automatic);
    talk.ok(carl, join("Carl"));
}

#[test]
fn who_is_on_the_way_when_a_room_is_locked_has_not_got_in() {
    for waiting_room in [false, true] {
        let (mut talk, hanna, bert, _) = meeting();
        let carl = talk.connect("carl", Automatic);
        talk.ok(carl, create(Direction::Send));
        talk.ok(hanna.session, lock(true, waiting_room));
        assert_eq!(talk.closed[&carl], CloseReason::RoomLocked);
        let again = talk.connect("carl", Automatic);
        match waiting_room {
            false => assert_eq!(talk.closed[&again], CloseReason::RoomLocked),
            true => assert_eq!(talk.news_texts(again), ["Waiting"]),
        }
        // Who is inside keeps its place on another connection, and while that has not entered.
        let proven = Grants { identity_proven: true, ..Grants::default() };
        for _ in 0..2 {
            let bert = talk.connect_with("room", "bert", Automatic, proven.clone());
            assert!(!talk.closed.contains_key(&bert));
            talk.ok(hanna.session, lock(true, !waiting_room));
            talk.ok(hanna.session, lock(true, waiting_room));
            assert!(!talk.closed.contains_key(&bert), "its place is its own");
        }
        assert!(talk.closed.contains_key(&bert.session));
    }
}

#[test]
fn a_room_stays_locked_when_the_only_one_in_it_comes_by_another_connection() {
    let mut talk = Talk::new();
    let hanna = talk.enter_with("hanna", Automatic, host_grants());
    talk.ok(hanna.session, lock(true, false));
    let again = talk.connect_with("room", "hanna", Automatic, host_grants());
    assert_eq!(talk.closed[&hanna.session], CloseReason::Replaced);
    let carl = talk.connect("carl", Automatic);
    assert_eq!(talk.closed[&carl], CloseReason::RoomLocked);
    let Response::Joined { entrance, .. } = talk.ok(again, join("Hanna")) else { panic!("no") };
    assert!(entrance.locked, "it is the same room");
    talk.leave(again);
    let carl = talk.connect("carl", Automatic);
    talk.ok(carl, join("Carl"));
}

#[test]
fn who_was_let_in_may_come_back_before_it_has_entered() {
    let (mut talk, hanna, _, carl) = waiting();
    talk.ok(hanna.session, admit("carl"));
    talk.ok(hanna.session, lock(true, false));
    assert!(!talk.closed.contains_key(&carl));
    let again = talk.connect("carl", Automatic);
    talk.leave(carl);
    talk.ok(again, join("Carl"));
}

#[test]
fn who_is_let_in_is_answered_what_it_asked_while_it_waited() {
    let (mut talk, hanna, bert, carl) = waiting();
    // What the router can do does not depend on the room.
    let answer = talk.ok(carl, Request::RouterRtpCapabilities);
    assert!(matches!(answer, Response::RouterRtpCapabilities(_)));
    let asked = [create(Direction::Send), create(Direction::Recv), join("Carl")];
    let tokens = asked.map(|request| talk.send(carl, request));
    assert!(tokens.iter().all(|token| talk.answer(carl, *token).is_none()));
    assert_eq!(talk.news_texts(hanna.session), ["PeerWaiting carl Carl"], "now with its name");
    assert_eq!(talk.refused(carl, Request::Stats(StatsOf::Peer)).0, 403);
    assert_eq!(talk.control.counts().transports, 4, "none of one who waits");
    assert!(talk.news(bert.session).is_empty(), "only hosts are told");

    talk.ok(hanna.session, admit("carl"));
    let answers = tokens.map(|token| talk.answer(carl, token).expect("answered").is_ok());
    assert_eq!(answers, [true; 3]);
    assert_eq!(talk.news_texts(carl)[0], "Admitted by hanna");
    assert_eq!(talk.news_texts(hanna.session), ["PeerWaitingEnded carl", "NewPeer carl"]);
    assert_eq!(talk.news_texts(bert.session), ["NewPeer carl"]);
    assert_eq!(talk.refused(hanna.session, admit("carl")).0, 404);
    for session in [carl, bert.session, hanna.session] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn who_is_not_let_in_is_told_so_and_its_requests_are_bounded() {
    let (mut talk, hanna, bert, carl) = waiting();
    let tokens: Vec<Token> = (0..8).map(|_| talk.send(carl, create(Direction::Send))).collect();
    assert_eq!(talk.refused(carl, create(Direction::Send)).0, 403);
    talk.ok(hanna.session, deny("carl"));
    assert_eq!(talk.closed[&carl], CloseReason::NotAdmitted);
    assert_eq!(talk.closed_by[&carl], "hanna");
    assert_eq!(talk.news_texts(hanna.session), ["PeerWaitingEnded carl"]);
    assert!(tokens.iter().all(|token| talk.answer(carl, *token).is_none()));

    // Whom nobody looks after is sent away, too.
    let dora = talk.connect("dora", Automatic);
    talk.pass(WAITING_TIMEOUT);
    assert_eq!(talk.closed[&dora], CloseReason::NotAdmitted);
    // One who cannot wait is refused at once; the server stops for all who do.
    let eve = talk.connect("eve", Automatic);
    talk.stop();
    assert_eq!(talk.closed[&eve], CloseReason::Shutdown);
    assert_eq!(talk.closed[&bert.session], CloseReason::Shutdown);
    talk.assert_nothing_is_left();
}

#[test]
fn an_unlocked_room_lets_everyone_in_and_a_shut_one_sends_everyone_away() {
    let (mut talk, hanna, _, carl) = waiting();
    let dora = talk.connect("dora", Automatic);
    talk.ok(hanna.session, lock(false, false));
    talk.ok(carl, join("Carl"));
    talk.ok(dora, join("Dora"));
    talk.ok(hanna.session, lock(true, true));
    let eve = talk.connect("eve", Automatic);
    talk.ok(hanna.session, lock(true, false));
    assert_eq!(talk.closed[&eve], CloseReason::RoomLocked);

    talk.ok(hanna.session, lock(true, true));
    let full: Vec<SessionId> =
        (0..=MAX_WAITING).map(|n| talk.connect(&format!("p{n}"), Automatic)).collect();
    let refused: Vec<_> = full.iter().filter(|id| talk.closed.contains_key(id)).collect();
    assert_eq!(refused, [&full[MAX_WAITING]]);
    // An administrator unlocks for all.
    let unlock = AdminRequest::Lock { room: "room".to_owned(), locked: false };
    assert_eq!(talk.rooms()[0].waiting, MAX_WAITING);
    assert!(talk.admin(unlock).is_ok());
    assert_eq!(talk.rooms()[0].waiting, 0);
    assert_eq!(talk.news_texts(full[0]), ["Waiting", "Admitted"]);
}

#[test]
fn the_lock_outlives_the_last_host_while_someone_waits() {
    let (mut talk, hanna, bert, carl) = waiting();
    talk.leave(bert.session);
    talk.leave(hanna.session);
    assert_eq!(talk.control.counts().sessions, 1);
    let dora = talk.connect("dora", Automatic);
    assert_eq!(talk.news_texts(dora), ["Waiting"]);
    // The host comes back, and is told who waits.
    let again = talk.connect_with("room", "hanna", Automatic, host_grants());
    talk.ok(again, join("Hanna"));
    assert_eq!(talk.news_texts(again), ["PeerWaiting carl carl", "PeerWaiting dora dora"]);
    talk.leave(carl);
    assert_eq!(talk.news_texts(again), ["PeerWaitingEnded carl"]);
    talk.leave(again);
    talk.leave(dora);
    talk.assert_nothing_is_left();
    // The room was forgotten, and its lock with it.
    let eve = talk.connect("eve", Automatic);
    talk.ok(eve, join("Eve"));
}

#[test]
fn of_two_who_wait_under_one_name_the_older_stays_unless_it_is_gone() {
    let (mut talk, hanna, _, carl) = waiting();
    let stranger = talk.connect("carl", Automatic);
    assert_eq!(talk.challenged, [carl]);
    talk.answer_challenge(carl);
    assert_eq!(talk.closed[&stranger], CloseReason::PeerIdInUse);
    // A page that was reloaded waits in its own place, and is not let in by that.
    let again = talk.connect("carl", Automatic);
    talk.leave(carl);
    assert_eq!(talk.news_texts(again), ["Waiting"]);
    // Who proves its name takes the place at once.
    let proven = Grants { identity_proven: true, ..Grants::default() };
    let third = talk.connect_with("room", "carl", Automatic, proven);
    assert_eq!(talk.closed[&again], CloseReason::Replaced);
    assert_eq!(talk.news_texts(third), ["Waiting"]);
    talk.ok(hanna.session, admit("carl"));
    talk.ok(third, join("Carl"));
}

#[test]
fn for_development_who_came_first_is_host() {
    let mut config = config(1, PlacementPolicy::default());
    config.dev_hosts = true;
    let mut talk = Talk::with(config.clone());
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    assert_eq!(talk.refused(bert.session, mute("anna", true)).0, 403);
    talk.ok(anna.session, lock(true, false));
    talk.leave(anna.session);
    talk.enter("anna", Automatic);
    // With a token it is the token that says so.
    let mut talk = Talk::with(config);
    let proven = Grants { identity_proven: true, ..Grants::default() };
    let carl = talk.enter_with("carl", Automatic, proven);
    assert_eq!(talk.refused(carl.session, lock(true, false)).0, 403);
}
