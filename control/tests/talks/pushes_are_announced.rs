//! Who is broadcast is told before; one participant's voice and picture are pushed, and no other's.

use std::time::Duration;

use opencall_control::admin::{AdminRequest, AdminResponse};
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::{Request, Response};
use opencall_control::push::message::{
    PushCommand, PushEnding, PushEvent, PushId, PushProgress, PushTarget,
};
use opencall_control::push::{PushAction, PushReport};
use opencall_control::rtp_parameters::Kind;
use opencall_control::{ControlConfig, NOTICE, PlacementPolicy};
use serde_json::json;

use crate::talk::{Client, Talk, audio, config, join, json_object, produce, simulcast};

fn target(name: &str) -> PushTarget {
    let shown = format!("rtmp://{name}/live/…");
    PushTarget { url: format!("rtmp://{name}/live/key").into(), shown: shown.into() }
}

fn start(participant: &str, screen: bool) -> PushAction {
    let participant = participant.to_owned();
    PushAction::Start { target: target("here"), participant, screen, notice: NOTICE }
}

fn push(talk: &mut Talk, action: PushAction) -> Result<PushReport, u16> {
    match talk.admin(AdminRequest::Push { room: "room".to_owned(), action }) {
        Ok(AdminResponse::Push(report)) => Ok(*report),
        Ok(_) => panic!("another answer"),
        Err(error) => Err(error.code),
    }
}

/// What the thread that broadcasts was told.
fn told(talk: &mut Talk) -> Vec<String> {
    let commands = std::iter::from_fn(|| talk.control.poll_push_command());
    commands
        .map(|command| match command {
            PushCommand::Start { target, .. } => format!("start {target:?}"),
            PushCommand::AddTrack(_, track) => {
                let muted = if track.muted { " muted" } else { "" };
                format!("add {} {} {}{muted}", track.participant, track.source, track.encodings)
            }
            PushCommand::Mute { muted, .. } => format!("mute {muted}"),
            PushCommand::RemoveTrack(_) => "remove".to_owned(),
            PushCommand::Stop(_) => "stop".to_owned(),
        })
        .collect()
}

fn with_pushes(cores: usize) -> Talk {
    let policy = if cores > 1 { PlacementPolicy::Spread } else { PlacementPolicy::default() };
    Talk::with(ControlConfig { pushes: Some(1), ..config(cores, policy) })
}

/// Anna and Bert, who both send a voice and a picture, and the ids of Anna's.
fn meeting(talk: &mut Talk) -> ([Client; 2], [String; 2]) {
    let [anna, bert] = ["anna", "bert"].map(|name| talk.enter(name, Automatic));
    let voice = talk.produce(&anna, Kind::Audio, audio("0"));
    let picture = talk.produce(&anna, Kind::Video, simulcast("1"));
    talk.produce(&bert, Kind::Audio, audio("0"));
    talk.produce(&bert, Kind::Video, simulcast("1"));
    talk.commands();
    for session in [anna.session, bert.session] {
        talk.news(session);
    }
    ([anna, bert], [voice, picture])
}

/// Begins a push of Anna, and drops what is told of it.
fn begin(talk: &mut Talk) -> PushId {
    push(talk, start("anna", false)).expect("it can be pushed");
    talk.pass(NOTICE);
    let mut commands = std::iter::from_fn(|| talk.control.poll_push_command());
    let started = commands.find_map(|command| match command {
        PushCommand::Start { push, .. } => Some(push),
        _ => None,
    });
    told(talk);
    started.expect("it is begun")
}

fn about(talk: &mut Talk, client: &Client) -> Vec<String> {
    let news = talk.news_texts(client.session);
    news.into_iter().filter(|text| text.starts_with("Push")).collect()
}

/// Bert sends something of this source.
fn send(talk: &mut Talk, client: &Client, kind: Kind, source: &str) {
    let parameters = if kind == Kind::Audio { audio("77") } else { simulcast("88") };
    let mut request = produce(&client.send.id, kind, parameters);
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"source": source}));
    }
    talk.ok(client.session, request);
}

#[test]
fn everyone_is_told_and_only_then_one_participant_is_pushed() {
    let mut talk = with_pushes(1);
    let ([anna, bert], _) = meeting(&mut talk);
    let report = push(&mut talk, start("anna", false)).unwrap();
    assert_eq!(
        (report.state, report.url.as_deref()),
        (Some("announced"), Some("rtmp://here/live/…"))
    );
    for client in [&anna, &bert] {
        assert_eq!(about(&mut talk, client), ["PushChanged true -"]);
    }
    talk.pass(NOTICE - Duration::from_millis(1));
    assert_eq!(told(&mut talk), [""; 0], "the notice is not over");
    talk.pass(Duration::from_millis(1));
    let expected = ["start rtmp://here/live/…", "add anna microphone 1", "add anna camera 3"];
    assert_eq!(told(&mut talk), expected);
    let pipes = talk.commands().iter().filter(|text| text.contains("OpenPipe")).count();
    assert_eq!(pipes, 2);
    assert_eq!(push(&mut talk, start("anna", false)).unwrap().state, Some("pushed"), "it goes on");
    assert_eq!(push(&mut talk, start("bert", false)), Err(409), "one push for a room");
    push(&mut talk, PushAction::Stop).unwrap();
    assert_eq!(told(&mut talk), ["stop", "remove", "remove"]);
    let pipes = talk.commands().iter().filter(|text| text.contains("ClosePipe")).count();
    assert_eq!(pipes, 2);
    assert_eq!(about(&mut talk, &bert), ["PushChanged false stopped"]);
}

#[test]
fn who_comes_later_is_told_and_who_comes_back_is_pushed_again() {
    let mut talk = with_pushes(2);
    let ([anna, _], [voice, _]) = meeting(&mut talk);
    begin(&mut talk);
    let carl = talk.connect("carl", Automatic);
    let Response::Joined { entrance, .. } = talk.ok(carl, join("carl")) else { panic!("joined") };
    assert!(entrance.pushed);
    talk.ok(anna.session, Request::CloseProducer { producer_id: voice });
    assert_eq!(told(&mut talk), ["remove"]);
    send(&mut talk, &anna, Kind::Audio, "microphone");
    assert_eq!(told(&mut talk), ["add anna microphone 1"]);
    talk.leave(anna.session);
    assert_eq!(told(&mut talk), ["remove", "remove"]);
    let report = push(&mut talk, PushAction::Ask).unwrap();
    assert_eq!((report.active, report.voice, report.picture), (true, false, false));
    let anna = talk.enter("anna", Automatic);
    send(&mut talk, &anna, Kind::Video, "camera");
    assert_eq!(told(&mut talk), ["add anna camera 3"]);
}

#[test]
fn a_screen_is_pushed_where_it_is_asked_for_and_another_takes_its_place() {
    let mut talk = with_pushes(1);
    let ([anna, _], _) = meeting(&mut talk);
    push(&mut talk, start("anna", true)).unwrap();
    talk.pass(NOTICE);
    assert_eq!(told(&mut talk)[1..], ["add anna microphone 1"], "no camera");
    send(&mut talk, &anna, Kind::Video, "screen_share");
    send(&mut talk, &anna, Kind::Audio, "screen_share_audio");
    assert_eq!(told(&mut talk), ["add anna screen_share 3"]);
}

#[test]
fn nobody_who_is_not_here_nor_an_encrypted_room_is_pushed() {
    let mut talk = with_pushes(1);
    let ([_, bert], _) = meeting(&mut talk);
    assert_eq!(push(&mut talk, start("carl", false)), Err(404));
    begin(&mut talk);
    push(&mut talk, PushAction::Stop).unwrap();
    let mut request = produce(&bert.send.id, Kind::Audio, audio("77"));
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"e2ee": {"v": 1}}));
    }
    talk.ok(bert.session, request);
    assert_eq!(push(&mut talk, start("anna", false)), Err(409));
    let mut without = Talk::on_two_cores();
    meeting(&mut without);
    assert_eq!(push(&mut without, start("anna", false)), Err(404), "--push-allow was not given");
}

#[test]
fn a_push_that_fails_ends_and_says_why_until_the_next() {
    let mut talk = with_pushes(1);
    let ([anna, _], _) = meeting(&mut talk);
    let id = begin(&mut talk);
    about(&mut talk, &anna);
    let error = Some("Connection refused".to_owned());
    let progress = PushProgress { error, ..PushProgress::default() };
    talk.push_event(PushEvent::Ended { push: id, ending: PushEnding::Failed, progress });
    assert_eq!(about(&mut talk, &anna), ["PushChanged false failed"]);
    assert_eq!(told(&mut talk), ["stop", "remove", "remove"]);
    let report = push(&mut talk, PushAction::Ask).unwrap();
    assert_eq!((report.active, report.ending), (false, Some("failed")));
    assert_eq!(report.progress.error.as_deref(), Some("Connection refused"));
    assert_eq!(talk.control.push_totals().ended[1], 1);
    let next = begin(&mut talk);
    assert_ne!(next, id);
    talk.push_event(PushEvent::Ended {
        push: id,
        ending: PushEnding::GivenUp,
        progress: PushProgress::default(),
    });
    assert!(push(&mut talk, PushAction::Ask).unwrap().active, "that was the one before");
    let now = talk.now;
    talk.control.pushes_lost(now);
    assert_eq!(push(&mut talk, PushAction::Ask), Err(404));
}

#[test]
fn what_is_encrypted_end_to_end_is_counted_once_however_often_it_is_looked_at() {
    let mut talk = with_pushes(1);
    let [anna, bert] = ["anna", "bert"].map(|name| talk.enter(name, Automatic));
    begin(&mut talk);
    for client in [&anna, &bert] {
        let mut request = produce(&client.send.id, Kind::Audio, audio("0"));
        if let Request::Produce { app_data, .. } = &mut request {
            *app_data = json_object(json!({"e2ee": {"v": 1}}));
        }
        talk.ok(client.session, request);
    }
    for mid in ["1", "2", "3"] {
        let camera = talk.produce(&anna, Kind::Video, simulcast(mid));
        assert_eq!(told(&mut talk), ["add anna camera 3"]);
        talk.ok(anna.session, Request::CloseProducer { producer_id: camera });
        assert_eq!(told(&mut talk), ["remove"]);
    }
    let report = push(&mut talk, PushAction::Ask).unwrap();
    assert_eq!((report.tracks_encrypted, report.voice), (1, false), "hers, and not Bert's");
}
