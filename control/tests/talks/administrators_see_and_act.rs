//! What an administrator sees of rooms, and what clients notice of what it does.

use opencall_control::admin::{
    AdminRequest, AdminResponse, MAX_ROOMS_PER_ANSWER, MuteTarget, ParticipantReport, RoomReport,
};
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::{CloseReason, Grants, Request, SessionId, Source};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::{Event, RtpStreamStats, Stats, StatsQuery, TransportStats};
use serde_json::{Value, json};

use crate::talk::{Client, Talk, audio, join, ready, simulcast};

fn room(talk: &mut Talk, name: &str) -> RoomReport {
    match talk.admin(AdminRequest::Room { room: name.to_owned() }) {
        Ok(AdminResponse::Room(report)) => report,
        _ => panic!("no report of {name}"),
    }
}

fn mute(talk: &mut Talk, who: &str, what: &MuteTarget, muted: bool) -> usize {
    let (room, participant) = ("room".to_owned(), who.to_owned());
    match talk.admin(AdminRequest::Mute { room, participant, what: what.clone(), muted }) {
        Ok(AdminResponse::Muted(producers)) => producers.len(),
        _ => panic!("{who} is not muted"),
    }
}

fn lock(talk: &mut Talk, locked: bool) {
    let done = talk.admin(AdminRequest::Lock { room: "room".to_owned(), locked });
    assert!(matches!(done, Ok(AdminResponse::Done)));
}

/// The data cores answer all that they were asked.
fn answer_statistics(talk: &mut Talk) {
    for (core, token, of) in std::mem::take(&mut talk.queries) {
        let stats = match of {
            StatsQuery::Transport(_) => Stats::Transport(TransportStats {
                available_outgoing_bps: Some(777_000),
                ..TransportStats::default()
            }),
            StatsQuery::Producer(_) => {
                Stats::Producer(vec![RtpStreamStats { ssrc: 5, ..RtpStreamStats::default() }])
            }
            _ => Stats::Consumer(RtpStreamStats { bitrate_bps: 9, ..RtpStreamStats::default() }),
        };
        talk.event(core.0, Event::Stats { token, stats: Some(Box::new(stats)) });
    }
}

fn ask(talk: &mut Talk, room: &str, participant: &str) -> Result<Box<ParticipantReport>, u16> {
    let (room, participant) = (room.to_owned(), participant.to_owned());
    let token = talk.administer(AdminRequest::Participant { room, participant });
    answer_statistics(talk);
    match talk.administered(token).expect("it is answered") {
        Ok(AdminResponse::Participant(report)) => Ok(report),
        Ok(_) => panic!("another answer"),
        Err(error) => Err(error.code),
    }
}

/// Anna, who sends a voice and a picture, and Bert, who takes both.
fn meeting() -> (Talk, Client, Client, Vec<String>) {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let voice = talk.produce(&anna, Kind::Audio, audio("0"));
    let picture = talk.produce(&anna, Kind::Video, simulcast("1"));
    for offer in talk.offers(bert.session) {
        talk.ok(bert.session, ready(&offer.id, true));
    }
    talk.commands();
    for session in [anna.session, bert.session] {
        talk.news(session);
    }
    (talk, anna, bert, vec![voice, picture])
}

#[test]
fn a_room_is_seen_with_who_is_in_it_and_nothing_of_others() {
    let (mut talk, ..) = meeting();
    talk.connect_to("other", "carl", Automatic);
    let seen = room(&mut talk, "room");
    assert_eq!((seen.summary.participants, seen.summary.producers), (2, 2));
    assert_eq!((seen.summary.consumers, seen.summary.locked), (2, false));
    let members: Vec<&str> = seen.members.iter().map(|member| member.id.as_str()).collect();
    assert_eq!(members, ["anna", "bert"]);
    let sources: Vec<&str> = seen.members[0].producers.iter().map(|p| p.source).collect();
    assert_eq!(sources, ["microphone", "camera"]);
    assert_eq!(seen.members[0].producers[1].consumers, 1);
    // Carl has connected, and not entered.
    let other = room(&mut talk, "other");
    assert_eq!((other.members.len(), other.summary.participants), (1, 0));
    assert!(!other.members[0].joined);
    assert_eq!(ask(&mut talk, "other", "anna").err(), Some(404));
    assert_eq!(ask(&mut talk, "nowhere", "anna").err(), Some(404));
}

#[test]
fn a_participant_is_seen_with_the_statistics_of_all_that_it_has() {
    let (mut talk, ..) = meeting();
    let bert = ask(&mut talk, "room", "bert").expect("a report");
    let bert = serde_json::to_value(&bert).expect("JSON");
    assert_eq!((&bert["participant"], &bert["consumers"]), (&json!("bert"), &json!(2)));
    let kinds: Vec<&Value> = bert["consumer_list"].as_array().into_iter().flatten().collect();
    assert!(kinds.is_empty(), "names are written as JavaScript has them");
    assert_eq!(bert["consumerList"][0]["of"], "anna");
    let stats = bert["stats"].as_array().expect("statistics");
    let of = |kind: &str| stats.iter().filter(|one| one["type"] == kind).count();
    assert_eq!((of("webrtc-transport"), of("outbound-rtp"), of("inbound-rtp")), (2, 2, 0));
    assert_eq!(stats[0]["availableOutgoingBitrate"], 777_000);
    let anna = ask(&mut talk, "room", "anna").expect("a report");
    assert_eq!(anna.stats.len(), 4, "two transports, and a stream of each producer");
}

#[test]
fn whoever_leaves_while_it_is_asked_about_is_not_found() {
    let (mut talk, anna, ..) = meeting();
    let (room, participant) = ("room".to_owned(), "anna".to_owned());
    let token = talk.administer(AdminRequest::Participant { room, participant });
    assert!(talk.administered(token).is_none(), "the data cores are asked");
    talk.leave(anna.session);
    answer_statistics(&mut talk);
    let answer = talk.administered(token).expect("an answer");
    assert_eq!(answer.err().map(|error| error.code), Some(404));
}

#[test]
fn questions_about_participants_are_bounded() {
    let (mut talk, ..) = meeting();
    let ask = || AdminRequest::Participant { room: "room".into(), participant: "bert".into() };
    let tokens: Vec<_> = (0..9).map(|_| talk.administer(ask())).collect();
    let refused = talk.administered(tokens[8]).expect("refused at once");
    assert_eq!(refused.err().map(|error| error.code), Some(429));
    answer_statistics(&mut talk);
    assert!(tokens[..8].iter().all(|token| talk.administered(*token).is_some()));
}

#[test]
fn the_removed_are_closed_and_the_others_told() {
    let (mut talk, anna, bert, _) = meeting();
    // Someone waits for Anna's place.
    let waiting = talk.connect("anna", Automatic);
    let remove = || AdminRequest::Remove { room: "room".into(), participant: "anna".into() };
    assert!(matches!(talk.admin(remove()), Ok(AdminResponse::Done)));
    assert_eq!(talk.closed[&anna.session], CloseReason::Removed);
    assert_eq!(talk.closed[&waiting], CloseReason::PeerIdInUse);
    let news = talk.news_texts(bert.session);
    assert!(news.contains(&"PeerClosed anna".to_owned()), "{news:?}");
    assert_eq!(talk.admin(remove()).err().map(|error| error.code), Some(404));
    talk.leave(bert.session);
    talk.assert_nothing_is_left();
}

#[test]
fn what_is_muted_is_not_forwarded_and_its_client_cannot_resume_it() {
    let (mut talk, anna, bert, producers) = meeting();
    let producer_id = producers[1].clone();
    let target = MuteTarget::Producer(producer_id.clone());
    assert_eq!(mute(&mut talk, "anna", &target, true), 1);
    assert_eq!(talk.commands(), ["PauseProducer"]);
    assert_eq!(talk.news_texts(anna.session), ["ProducerMuted true"]);
    assert_eq!(talk.news_texts(bert.session), ["ConsumerPaused"]);
    assert_eq!(mute(&mut talk, "anna", &target, true), 1);
    assert!(talk.commands().is_empty() && talk.news(anna.session).is_empty());

    let resume = || Request::ResumeProducer { producer_id: producer_id.clone() };
    let (code, reason) = talk.refused(anna.session, resume());
    assert!(code == 403 && reason.contains("muted"), "{reason}");
    // Its own pause is remembered.
    talk.ok(anna.session, Request::PauseProducer { producer_id: producer_id.clone() });
    assert_eq!(mute(&mut talk, "anna", &target, false), 1);
    assert!(talk.commands().is_empty());
    talk.ok(anna.session, resume());
    assert_eq!(talk.commands(), ["ResumeProducer"]);
    // A producer of someone else is not muted by this way.
    let (room, participant) = ("room".to_owned(), "bert".to_owned());
    let request = AdminRequest::Mute { room, participant, what: target, muted: true };
    assert_eq!(talk.admin(request).err().map(|error| error.code), Some(404));
}

#[test]
fn a_muted_source_stays_muted_when_it_is_produced_anew_or_its_client_comes_back() {
    let (mut talk, anna, bert, producers) = meeting();
    let target = MuteTarget::Source(Source::Microphone);
    assert_eq!(mute(&mut talk, "anna", &target, true), 1);
    talk.ok(anna.session, Request::CloseProducer { producer_id: producers[0].clone() });
    talk.news(anna.session);
    let again = talk.produce(&anna, Kind::Audio, audio("7"));
    assert_eq!(talk.news_texts(anna.session), ["ProducerMuted true"]);
    let resume = Request::ResumeProducer { producer_id: again };
    assert_eq!(talk.refused(anna.session, resume).0, 403);

    talk.leave(anna.session);
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let seen = room(&mut talk, "room");
    let anna_seen = seen.members.iter().find(|member| member.id == "anna").expect("anna");
    assert_eq!(anna_seen.muted, ["microphone"]);
    assert!(anna_seen.producers[0].muted && anna_seen.producers[0].paused);
    talk.news(bert.session);
    assert_eq!(mute(&mut talk, "anna", &target, false), 1);
    assert!(talk.news_texts(bert.session).contains(&"ConsumerResumed".to_owned()));
}

#[test]
fn into_a_locked_room_nobody_comes_but_who_is_there() {
    let (mut talk, anna, _, _) = meeting();
    lock(&mut talk, true);
    let carl = talk.connect("carl", Automatic);
    assert_eq!(talk.closed[&carl], CloseReason::RoomLocked);
    let elsewhere = talk.connect_to("other", "carl", Automatic);
    assert!(talk.opened.contains(&elsewhere));
    let grants = Grants { identity_proven: true, ..Grants::default() };
    let again = talk.connect_with("room", "anna", Automatic, grants);
    assert_eq!(talk.closed[&anna.session], CloseReason::Replaced);
    talk.ok(again, join("Anna"));
    lock(&mut talk, false);
    let carl = talk.connect("carl", Automatic);
    assert!(talk.opened.contains(&carl));
}

#[test]
fn rooms_come_in_pages() {
    let mut talk = Talk::new();
    let count = MAX_ROOMS_PER_ANSWER + 50;
    let sessions: Vec<SessionId> =
        (0..count).map(|n| talk.connect_to(&format!("r{n}"), "p", Automatic)).collect();
    let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let request = AdminRequest::Rooms { after, limit: usize::MAX };
        let Ok(AdminResponse::Rooms { rooms, next }) = talk.admin(request) else { panic!("none") };
        assert!(rooms.len() <= MAX_ROOMS_PER_ANSWER);
        names.extend(rooms.into_iter().map(|room| room.name));
        (after, pages) = (next, pages + 1);
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..count).map(|n| format!("r{n}")).collect();
    assert_eq!((names, pages), (expected, 2));
    let request = AdminRequest::Rooms { after: Some("x".to_owned()), limit: 1 };
    assert_eq!(talk.admin(request).err().map(|error| error.code), Some(400));
    sessions.into_iter().for_each(|session| talk.leave(session));
    talk.assert_nothing_is_left();
}
