//! Who is tapped is told before; voices alone are handed on, and what comes back goes to the room
//! of whoever spoke.

use std::sync::Arc;
use std::time::Duration;

use opencall_control::admin::{AdminRequest, AdminResponse};
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::{Request, Response};
use opencall_control::rtp_parameters::Kind;
use opencall_control::tap::message::{TapCommand, TapEvent, TapId, TapResult, TapTarget};
use opencall_control::tap::{TapAction, TapReport};
use opencall_control::{ControlConfig, NOTICE, PlacementPolicy};
use serde_json::json;

use crate::talk::{Client, Talk, audio, config, join, json_object, produce, simulcast};

fn target(name: &str) -> TapTarget {
    TapTarget { url: format!("wss://{name}?key=1").into(), shown: format!("wss://{name}").into() }
}

fn start() -> TapAction {
    TapAction::Start { target: target("here"), notice: NOTICE }
}

fn tap(talk: &mut Talk, action: TapAction) -> Result<TapReport, u16> {
    match talk.admin(AdminRequest::Tap { room: "room".to_owned(), action }) {
        Ok(AdminResponse::Tap(report)) => Ok(*report),
        Ok(_) => panic!("another answer"),
        Err(error) => Err(error.code),
    }
}

/// What the thread that taps was told.
fn told(talk: &mut Talk) -> Vec<String> {
    let commands = std::iter::from_fn(|| talk.control.poll_tap_command());
    commands
        .map(|command| match command {
            TapCommand::Start { target, .. } => format!("start {target:?}"),
            TapCommand::AddVoice(voice) => format!("add {}", voice.participant),
            TapCommand::Resume(_) => "resume".to_owned(),
            TapCommand::RemoveVoice(_) => "remove".to_owned(),
            TapCommand::Stop(_) => "stop".to_owned(),
        })
        .collect()
}

fn with_taps(cores: usize) -> Talk {
    let policy = if cores > 1 { PlacementPolicy::Spread } else { PlacementPolicy::default() };
    Talk::with(ControlConfig { taps: Some(1), ..config(cores, policy) })
}

/// Anna, who sends a voice and a picture, and Bert, who only listens.
fn meeting(talk: &mut Talk) -> ([Client; 2], String) {
    let [anna, bert] = ["anna", "bert"].map(|name| talk.enter(name, Automatic));
    let voice = talk.produce(&anna, Kind::Audio, audio("0"));
    talk.produce(&anna, Kind::Video, simulcast("1"));
    talk.commands();
    for session in [anna.session, bert.session] {
        talk.news(session);
    }
    ([anna, bert], voice)
}

/// Begins a tap, and drops what is told of it.
fn begin(talk: &mut Talk) -> TapId {
    tap(talk, start()).expect("it can be tapped");
    talk.pass(NOTICE);
    let mut commands = std::iter::from_fn(|| talk.control.poll_tap_command());
    let started = commands.find_map(|command| match command {
        TapCommand::Start { tap, .. } => Some(tap),
        _ => None,
    });
    told(talk);
    started.expect("it is begun")
}

fn about(talk: &mut Talk, client: &Client, what: &str) -> Vec<String> {
    let news = talk.news_texts(client.session);
    news.into_iter().filter(|text| text.starts_with(what)).collect()
}

fn understood(talk: &mut Talk, tap: TapId, who: &str, text: &str, interim: bool) {
    let (participant, text) = (Arc::from(who), text.to_owned());
    let result = TapResult { participant, text, interim, language: None };
    talk.tap_event(TapEvent::Result { tap, result });
}

#[test]
fn everyone_is_told_and_only_then_voices_are_handed_on() {
    let mut talk = with_taps(1);
    let ([anna, bert], _) = meeting(&mut talk);
    assert_eq!(tap(&mut talk, start()).unwrap().state, Some("announced"));
    for client in [&anna, &bert] {
        assert_eq!(about(&mut talk, client, "Tap"), ["TapChanged true -"]);
    }
    talk.pass(NOTICE - Duration::from_millis(1));
    assert_eq!(told(&mut talk), [""; 0], "the notice is not over");
    assert!(!talk.commands().iter().any(|command| command.contains("OpenPipe")));
    talk.pass(Duration::from_millis(1));
    assert_eq!(told(&mut talk), ["start wss://here", "add anna"], "no picture");
    assert!(talk.commands().iter().any(|command| command.contains("OpenPipe")));
    assert_eq!(tap(&mut talk, start()).unwrap().state, Some("tapped"), "it goes on");
    let other = TapAction::Start { target: target("there"), notice: NOTICE };
    assert_eq!(tap(&mut talk, other), Err(409), "one program for a room");
}

#[test]
fn who_comes_later_is_told_as_it_comes_in_and_is_heard() {
    let mut talk = with_taps(2);
    meeting(&mut talk);
    begin(&mut talk);
    let carl = talk.connect("carl", Automatic);
    let Response::Joined { entrance, .. } = talk.ok(carl, join("carl")) else { panic!("joined") };
    assert!(entrance.tapped);
    let dora = talk.enter("dora", Automatic);
    talk.produce(&dora, Kind::Audio, audio("0"));
    assert_eq!(told(&mut talk), ["add dora"]);
}

#[test]
fn an_encrypted_room_is_refused_and_an_encrypted_voice_left_out() {
    let mut talk = with_taps(1);
    let ([_, bert], _) = meeting(&mut talk);
    begin(&mut talk);
    let mut request = produce(&bert.send.id, Kind::Audio, audio("7"));
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"e2ee": {"v": 1}}));
    }
    talk.ok(bert.session, request);
    assert_eq!(told(&mut talk), [""; 0]);
    assert_eq!(tap(&mut talk, TapAction::Ask).unwrap().voices_encrypted, 1);
    tap(&mut talk, TapAction::Stop).unwrap();
    assert_eq!(tap(&mut talk, start()), Err(409));
    assert_eq!(about(&mut talk, &bert, "Tap").len(), 2, "nobody was told of what is not");
}

#[test]
fn the_sound_of_a_screen_is_no_voice() {
    let mut talk = with_taps(1);
    let ([_, bert], _) = meeting(&mut talk);
    begin(&mut talk);
    let mut request = produce(&bert.send.id, Kind::Audio, audio("7"));
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"source": "screen_share_audio"}));
    }
    talk.ok(bert.session, request);
    assert_eq!(told(&mut talk), [""; 0]);
}

#[test]
fn what_is_understood_is_told_in_the_room_and_nowhere_else() {
    let mut talk = with_taps(1);
    let ([anna, bert], _) = meeting(&mut talk);
    let other = talk.connect_to("other", "otto", Automatic);
    let id = begin(&mut talk);
    talk.news(bert.session);
    understood(&mut talk, id, "anna", "good", true);
    understood(&mut talk, id, "anna", "good morning", false);
    understood(&mut talk, id, "bert", "hello", false);
    for (who, reason) in [("otto", 1), ("nobody", 2), ("", 3)] {
        understood(&mut talk, id, who, "boo", false);
        assert_eq!(talk.control.tap_totals().dropped, [0, reason, 0], "{who}");
    }
    let expected = ["Caption 1 anna good…", "Caption 1 anna good morning", "Caption 2 bert hello"];
    for client in [&anna, &bert] {
        assert_eq!(about(&mut talk, client, "Caption"), expected);
    }
    assert_eq!(talk.news_texts(other), [""; 0]);
    assert_eq!(tap(&mut talk, TapAction::Ask).unwrap().captions, 3);
    tap(&mut talk, TapAction::Stop).unwrap();
    understood(&mut talk, id, "anna", "too late", false);
    assert_eq!(talk.control.tap_totals().dropped, [1, 3, 0]);
    assert_eq!(about(&mut talk, &bert, "Caption"), [""; 0]);
}

#[test]
fn pauses_ends_and_the_end_are_told_and_nothing_is_left() {
    let mut talk = with_taps(1);
    let ([anna, bert], voice) = meeting(&mut talk);
    begin(&mut talk);
    talk.ok(anna.session, Request::PauseProducer { producer_id: voice.clone() });
    talk.ok(anna.session, Request::ResumeProducer { producer_id: voice.clone() });
    talk.ok(anna.session, Request::CloseProducer { producer_id: voice });
    assert_eq!(told(&mut talk), ["resume", "remove"]);
    talk.produce(&anna, Kind::Audio, audio("5"));
    talk.news(bert.session);
    assert_eq!(told(&mut talk), ["add anna"]);
    assert!(!tap(&mut talk, TapAction::Stop).unwrap().active);
    assert_eq!(told(&mut talk), ["stop", "remove"]);
    assert!(talk.commands().iter().any(|command| command.contains("ClosePipe")));
    assert_eq!(about(&mut talk, &bert, "Tap"), ["TapChanged false stopped"]);
    assert!(tap(&mut talk, start()).unwrap().active);
    for client in [anna, bert] {
        talk.leave(client.session);
    }
    talk.pass(Duration::from_secs(60));
    assert_eq!(told(&mut talk), [""; 0], "the room was gone before the notice was over");
    assert_eq!(talk.control.tap_totals().active, 0);
    talk.assert_nothing_is_left();
}

#[test]
fn taps_that_fail_are_told_and_nothing_else_ends() {
    let mut talk = with_taps(1);
    let ([_, bert], _) = meeting(&mut talk);
    begin(&mut talk);
    talk.news(bert.session);
    let now = talk.now;
    talk.control.taps_lost(now);
    assert_eq!(tap(&mut talk, start()), Err(404));
    assert_eq!(about(&mut talk, &bert, "Tap"), ["TapChanged false tap_lost"]);
    talk.produce(&bert, Kind::Audio, audio("7"));
    assert_eq!(told(&mut talk), [""; 0]);
}

#[test]
fn a_server_without_taps_and_one_that_has_enough_refuse() {
    let mut talk = Talk::new();
    meeting(&mut talk);
    assert_eq!(tap(&mut talk, start()), Err(404));
    let mut talk = with_taps(1);
    let ([anna, _], _) = meeting(&mut talk);
    let notice = Duration::from_secs(61);
    assert_eq!(tap(&mut talk, TapAction::Start { target: target("here"), notice }), Err(400));
    talk.connect_to("other", "otto", Automatic);
    let (room, action) = ("other".to_owned(), start());
    assert!(talk.admin(AdminRequest::Tap { room, action }).is_ok());
    assert_eq!(tap(&mut talk, start()), Err(429), "one at a time");
    assert_eq!(about(&mut talk, &anna, "Tap"), [""; 0]);
}
