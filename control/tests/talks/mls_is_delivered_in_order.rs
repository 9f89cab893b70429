//! The delivery service of MLS: one group a room, one commit an epoch, to whom each thing goes, and
//! what is refused.

use opencall_control::api::ConsumeMode::OnRequest;
use opencall_control::api::*;

use crate::talk::{Talk, join};

fn mls(request: MlsRequest) -> Request {
    Request::Mls(request)
}

fn take_part(known: Option<(&str, u64)>) -> Request {
    let known = known.map(|(id, epoch)| (id.to_owned(), epoch));
    mls(MlsRequest::Join { key_package: "package".to_owned(), known })
}

fn begin(group_id: &str, replaces: Option<&str>) -> Request {
    let (group_id, group_info) = (group_id.to_owned(), "info-0".to_owned());
    mls(MlsRequest::Create { group_id, group_info, replaces: replaces.map(str::to_owned) })
}

fn commit(epoch: u64, welcomed: &[&str]) -> Request {
    commit_of("group", epoch, &format!("commit-{epoch}"), welcomed)
}

fn commit_of(group_id: &str, epoch: u64, text: &str, welcomed: &[&str]) -> Request {
    mls(MlsRequest::Commit {
        group_id: group_id.to_owned(),
        epoch,
        commit: text.to_owned(),
        group_info: format!("info-{}", epoch + 1),
        welcome: (!welcomed.is_empty()).then(|| "welcome".to_owned()),
        welcomed: welcomed.iter().map(|name| (*name).to_owned()).collect(),
    })
}

fn state(response: Response) -> MlsState {
    let Response::Mls(MlsAnswer::State(state)) = response else { panic!("a state") };
    *state
}

fn names(state: &MlsState) -> Vec<&str> {
    state.present.iter().map(|name| &**name).collect()
}

/// Someone in the room.
fn inside(talk: &mut Talk, room: &str, name: &str) -> SessionId {
    let session = talk.connect_to(room, name, OnRequest);
    talk.ok(session, join(name));
    session
}

/// What of the delivery service a client was told.
fn told(talk: &mut Talk, session: SessionId) -> Vec<String> {
    let words = ["Offered", "Left", "Commit", "Welcome", "Ended"];
    let of_mls = |text: &String| words.iter().any(|word| text.starts_with(word));
    talk.news_texts(session).into_iter().filter(of_mls).collect()
}

/// Ann, who has begun a group, and Ben, whom she has added to it.
fn pair(talk: &mut Talk, room: &str) -> (SessionId, SessionId) {
    let ann = inside(talk, room, "ann");
    let ben = inside(talk, room, "ben");
    assert_eq!(state(talk.ok(ann, take_part(None))).group, None);
    state(talk.ok(ann, begin("group", None)));
    talk.ok(ben, take_part(None));
    talk.ok(ann, commit(0, &["ben"]));
    assert_eq!(told(talk, ann), ["Offered ben package"]);
    assert_eq!(told(talk, ben), ["Welcome group 1 welcome info-1"]);
    (ann, ben)
}

#[test]
fn a_group_is_begun_once_and_newcomers_are_welcomed() {
    let mut talk = Talk::new();
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| inside(&mut talk, "room", name));
    for session in [ann, ben] {
        let found = state(talk.ok(session, take_part(None)));
        assert_eq!((found.group, found.is_member), (None, false));
    }
    let begun = state(talk.ok(ann, begin("group", None)));
    assert_eq!(begun.group, Some(("group".into(), 0)));
    assert_eq!(names(&begun), ["ann", "ben"]);
    assert_eq!(begun.waiting, [("ben".into(), "package".into())], "he came before it began");
    let (code, reason) = talk.refused(ben, begin("other", None));
    assert!(code == 409 && reason.starts_with("mls-group-exists"), "{code} {reason}");

    talk.ok(eve, take_part(None));
    assert_eq!(told(&mut talk, ann), ["Offered eve package"]);
    assert!(told(&mut talk, ben).is_empty(), "he is no member yet");
    talk.ok(ann, commit(0, &["ben", "nobody"]));
    assert_eq!(told(&mut talk, ben), ["Welcome group 1 welcome info-1"]);
    assert!(told(&mut talk, eve).is_empty());
    talk.ok(ben, commit(1, &["eve"]));
    assert_eq!(told(&mut talk, ann), ["Commit ben group 1 commit-1"]);
    assert_eq!(told(&mut talk, eve), ["Welcome group 2 welcome info-2"]);
    for session in [ann, ben, eve] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn the_first_commit_of_an_epoch_wins_and_the_loser_hears_it_before_its_refusal() {
    let mut talk = Talk::new();
    let (ann, ben) = pair(&mut talk, "room");
    talk.ok(ben, commit(1, &[]));
    assert_eq!(told(&mut talk, ann), ["Commit ben group 1 commit-1"]);
    for late in [0, 1, 3] {
        let (code, reason) = talk.refused(ann, commit(late, &[]));
        assert!(
            code == 409 && reason.starts_with("mls-epoch: the group is in epoch 2"),
            "{reason}"
        );
    }
    assert!(told(&mut talk, ben).is_empty(), "of what is refused nobody hears");
    talk.ok(ann, commit(2, &[]));
    assert_eq!(told(&mut talk, ben), ["Commit ann group 2 commit-2"]);
}

#[test]
fn who_joins_from_outside_is_a_member_then() {
    let mut talk = Talk::new();
    let (ann, ben) = pair(&mut talk, "room");
    let eve = inside(&mut talk, "room", "eve");
    talk.ok(eve, take_part(None));
    let Response::Mls(MlsAnswer::Group { group_id, epoch, group_info }) =
        talk.ok(eve, mls(MlsRequest::Group))
    else {
        panic!("a group")
    };
    assert_eq!((&*group_id, epoch, &*group_info), ("group", 1, "info-1"));
    talk.ok(eve, commit(1, &[]));
    for member in [ann, ben] {
        let news = told(&mut talk, member);
        assert_eq!(news, ["Offered eve package", "Commit eve group 1 commit-1"]);
    }
    talk.ok(ann, commit(2, &[]));
    assert_eq!(told(&mut talk, eve), ["Commit ann group 2 commit-2"]);
}

#[test]
fn who_was_away_gets_what_it_missed_or_comes_as_a_newcomer() {
    let mut talk = Talk::new();
    let (ann, ben) = pair(&mut talk, "room");
    talk.leave(ben);
    assert_eq!(told(&mut talk, ann), ["Left ben"]);
    talk.ok(ann, commit(1, &[]));
    talk.ok(ann, commit(2, &[]));
    let ben = inside(&mut talk, "room", "ben");
    let found = state(talk.ok(ben, take_part(Some(("group", 1)))));
    let missed: Vec<&str> = found.commits.iter().map(|commit| &*commit.commit).collect();
    assert!(found.is_member);
    assert_eq!(missed, ["commit-1", "commit-2"]);
    assert_eq!(names(&found), ["ann", "ben"]);
    assert_eq!(told(&mut talk, ann), ["Offered ben -"]);
    // Another group, an epoch that is to come, or one that nobody knows any more.
    for epoch in 3..80 {
        talk.ok(ann, commit(epoch, &[]));
    }
    for known in [("other", 70), ("group", 81), ("group", 3)] {
        let found = state(talk.ok(ben, take_part(Some(known))));
        assert!(!found.is_member && found.commits.is_empty(), "{known:?}");
        assert_eq!(told(&mut talk, ann), ["Offered ben package"]);
    }
    assert!(state(talk.ok(ben, take_part(Some(("group", 16))))).is_member, "64 are kept");
}

#[test]
fn a_group_without_members_ends_and_a_broken_one_is_replaced() {
    let mut talk = Talk::new();
    let (ann, ben) = pair(&mut talk, "room");
    let eve = inside(&mut talk, "room", "eve");
    talk.ok(eve, take_part(None));
    told(&mut talk, ann);
    talk.leave(ann);
    talk.leave(ben);
    assert_eq!(told(&mut talk, eve), ["Left ann", "Left ben", "Ended group"]);
    assert_eq!(state(talk.ok(eve, take_part(None))).group, None);
    state(talk.ok(eve, begin("second", None)));
    // Its only member has lost it.
    assert_eq!(state(talk.ok(eve, take_part(None))).group, None);
    state(talk.ok(eve, begin("third", None)));

    let fay = inside(&mut talk, "room", "fay");
    talk.ok(fay, take_part(None));
    let other = talk.refused(fay, begin("fourth", Some("second")));
    assert!(other.1.starts_with("mls-group-exists"), "{other:?}");
    told(&mut talk, eve);
    state(talk.ok(fay, begin("fourth", Some("third"))));
    assert_eq!(told(&mut talk, eve), ["Ended third"]);
    let gone = talk.refused(eve, commit_of("third", 0, "commit", &[]));
    assert!(gone.0 == 404 && gone.1.starts_with("mls-no-group"), "{gone:?}");
}

#[test]
fn nothing_crosses_rooms_and_the_entrance_says_that_there_is_a_group() {
    let mut talk = Talk::new();
    let here = pair(&mut talk, "room");
    let there = pair(&mut talk, "other");
    for session in [here.0, here.1, there.0, there.1] {
        assert!(told(&mut talk, session).is_empty());
    }
    talk.ok(here.0, commit(1, &[]));
    assert!(told(&mut talk, there.0).is_empty() && told(&mut talk, there.1).is_empty());
    for (room, expected) in [("room", true), ("third", false)] {
        let session = talk.connect_to(room, "eve", OnRequest);
        let Response::Joined { entrance, .. } = talk.ok(session, join("eve")) else { panic!() };
        assert_eq!(entrance.has_mls, expected, "{room}");
    }
}

#[test]
fn who_takes_no_part_is_hidden_or_outside_is_refused() {
    let mut talk = Talk::new();
    pair(&mut talk, "room");
    let eve = inside(&mut talk, "room", "eve");
    for request in [commit(1, &[]), begin("mine", Some("group")), mls(MlsRequest::Group)] {
        let (code, reason) = talk.refused(eve, request);
        assert!(code == 403 && reason.starts_with("mls-not-joined"), "{reason}");
    }
    let outside = talk.connect_to("room", "fay", OnRequest);
    assert_eq!(talk.refused(outside, take_part(None)).0, 403);
    let hidden = Grants { hidden: true, ..Grants::default() };
    let ghost = talk.connect_with("room", "ghost", OnRequest, hidden);
    talk.ok(ghost, join("ghost"));
    let (code, reason) = talk.refused(ghost, take_part(None));
    assert!(code == 403 && reason.starts_with("mls-hidden"), "{reason}");
}

#[test]
fn what_is_too_large_or_no_base64url_is_refused_by_name() {
    let mut talk = Talk::new();
    let (ann, _) = pair(&mut talk, "room");
    let long = |bytes: usize| "x".repeat(bytes + 1);
    let with_package = |key_package| mls(MlsRequest::Join { key_package, known: None });
    let of = |commit: String, group_info: String, welcome: String, welcomed: usize| {
        mls(MlsRequest::Commit {
            group_id: "group".to_owned(),
            epoch: 1,
            commit,
            group_info,
            welcome: Some(welcome),
            welcomed: vec!["ben".to_owned(); welcomed],
        })
    };
    let x = || "x".to_owned();
    let table = [
        (with_package(long(2_048)), "mls-too-large: keyPackage"),
        (with_package(String::new()), "mls-malformed: keyPackage"),
        (with_package("a\u{e4}".to_owned()), "mls-malformed: keyPackage"),
        (begin(&long(64), None), "mls-too-large: groupId"),
        (of(long(64 << 10), x(), x(), 1), "mls-too-large: commit"),
        (of(x(), long(256 << 10), x(), 1), "mls-too-large: groupInfo"),
        (of(x(), x(), long(64 << 10), 1), "mls-too-large: welcome"),
        (of(x(), x(), x(), 65), "mls-too-large: welcomed"),
        (of("a+b=".to_owned(), x(), x(), 1), "mls-malformed: commit"),
    ];
    for (request, expected) in table {
        let (code, reason) = talk.refused(ann, request);
        assert!(code == 400 && reason.starts_with(expected), "{expected}: {reason}");
    }
}

#[test]
fn what_is_kept_for_those_away_is_bounded() {
    let mut talk = Talk::new();
    let (ann, ben) = pair(&mut talk, "room");
    talk.leave(ben);
    let large = "x".repeat(60 << 10);
    for epoch in 1..40 {
        talk.ok(ann, commit_of("group", epoch, &large, &[]));
    }
    let ben = inside(&mut talk, "room", "ben");
    let found = state(talk.ok(ben, take_part(Some(("group", 36)))));
    assert_eq!(found.commits.len(), 4, "a quarter of a megabyte");
    assert!(!state(talk.ok(ben, take_part(Some(("group", 35))))).is_member);
}
