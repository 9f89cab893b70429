//! Who is recorded is told before; the sink is told whom to record, in an order that it can follow.

use std::time::Duration;

use opencall_control::admin::{AdminRequest, AdminResponse};
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::{Request, Response};
use opencall_control::rtp_parameters::Kind;
use opencall_control::{ControlConfig, NOTICE, PlacementPolicy, RecordingAction, RecordingReport};
use opencall_recorder::message::{Ending, Progress, RecordCommand, RecordEvent, RecordingId};
use serde_json::json;

use crate::talk::{Client, Talk, audio, config, join, json_object, produce, simulcast};

const START: RecordingAction = RecordingAction::Start { notice: NOTICE };

fn recording(talk: &mut Talk, action: RecordingAction) -> Result<RecordingReport, u16> {
    let room = "room".to_owned();
    match talk.admin(AdminRequest::Recording { room, action }) {
        Ok(AdminResponse::Recording(report)) => Ok(*report),
        Ok(_) => panic!("another answer"),
        Err(error) => Err(error.code),
    }
}

/// What the sink was told.
fn told(talk: &mut Talk) -> Vec<String> {
    let commands = std::iter::from_fn(|| talk.control.poll_record_command());
    commands
        .map(|command| match command {
            RecordCommand::Start(config) => format!("start {}", config.room),
            RecordCommand::AddTrack(_, track) => {
                let muted = if track.muted { " muted" } else { "" };
                format!("add {} {} {}{muted}", track.participant, track.source, track.encodings)
            }
            RecordCommand::Mute { muted, .. } => format!("mute {muted}"),
            RecordCommand::RemoveTrack(_) => "remove".to_owned(),
            RecordCommand::Stop(_) => "stop".to_owned(),
        })
        .collect()
}

fn with_sink(cores: usize) -> Talk {
    let policy = if cores > 1 { PlacementPolicy::Spread } else { PlacementPolicy::default() };
    Talk::with(ControlConfig { recordings: Some(1), ..config(cores, policy) })
}

/// Begins a recording, and drops what the sink is told of it.
fn begin(talk: &mut Talk) -> RecordingId {
    recording(talk, START).expect("it can be recorded");
    talk.pass(NOTICE);
    let mut commands = std::iter::from_fn(|| talk.control.poll_record_command());
    let started = commands.find_map(|command| match command {
        RecordCommand::Start(config) => Some(config.id),
        _ => None,
    });
    told(talk);
    started.expect("it is begun")
}

/// Anna, who sends a voice and a picture, and Bert, who only looks.
fn meeting(talk: &mut Talk) -> [Client; 2] {
    meeting_and_picture(talk).0
}

fn meeting_and_picture(talk: &mut Talk) -> ([Client; 2], String) {
    let [anna, bert] = ["anna", "bert"].map(|name| talk.enter(name, Automatic));
    talk.produce(&anna, Kind::Audio, audio("0"));
    let picture = talk.produce(&anna, Kind::Video, simulcast("1"));
    talk.commands();
    for session in [anna.session, bert.session] {
        talk.news(session);
    }
    ([anna, bert], picture)
}

fn about_recording(talk: &mut Talk, client: &Client) -> Vec<String> {
    let news = talk.news_texts(client.session);
    news.into_iter().filter(|text| text.starts_with("RecordingChanged")).collect()
}

/// The sink says that it has ended.
fn end(talk: &mut Talk, id: RecordingId, ending: Ending) {
    let progress = Progress { bytes: 9, ..Progress::default() };
    let event = RecordEvent::Ended { recording: id, ending, progress };
    talk.control.handle_record_event(talk.now, event);
    recording(talk, RecordingAction::Ask).expect("it is known");
}

#[test]
fn everyone_is_told_and_only_then_the_sink_is() {
    let mut talk = with_sink(1);
    let [anna, bert] = meeting(&mut talk);
    let report = recording(&mut talk, START).unwrap();
    assert!(report.active);
    for client in [&anna, &bert] {
        assert_eq!(about_recording(&mut talk, client), ["RecordingChanged true -"]);
    }
    talk.pass(NOTICE - Duration::from_millis(1));
    assert_eq!(told(&mut talk), [""; 0], "the notice is not over");
    talk.pass(Duration::from_millis(1));
    assert_eq!(told(&mut talk), ["start room", "add anna microphone 1", "add anna camera 3"]);
    assert!(talk.commands().iter().any(|command| command.contains("OpenPipe")));
    assert_eq!(recording(&mut talk, START).unwrap().recording, report.recording, "it goes on");
}

#[test]
fn who_comes_later_is_told_as_it_comes_in_and_is_recorded() {
    let mut talk = with_sink(2);
    meeting(&mut talk);
    begin(&mut talk);
    let carl = talk.connect("carl", Automatic);
    let Response::Joined { entrance, .. } = talk.ok(carl, join("carl")) else { panic!("joined") };
    assert!(entrance.recording);
    let dora = talk.enter("dora", Automatic);
    talk.produce(&dora, Kind::Audio, audio("0"));
    assert_eq!(told(&mut talk), ["add dora microphone 1"]);
}

#[test]
fn what_is_encrypted_end_to_end_is_left_out_and_counted() {
    let mut talk = with_sink(1);
    let [_, bert] = meeting(&mut talk);
    begin(&mut talk);
    let sealed = (Kind::Audio, audio("7"), json!({"v": 1}), None);
    let open = (Kind::Video, simulcast("8"), json!(null), Some("add bert camera 3"));
    for (kind, parameters, e2ee, expected) in [sealed, open] {
        let mut request = produce(&bert.send.id, kind, parameters);
        if let Request::Produce { app_data, .. } = &mut request {
            *app_data = json_object(json!({"e2ee": e2ee}));
        }
        talk.ok(bert.session, request);
        assert_eq!(told(&mut talk), expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(recording(&mut talk, RecordingAction::Ask).unwrap().tracks_encrypted, 1);
}

#[test]
fn pauses_ends_and_the_end_are_told_and_nothing_is_left() {
    let mut talk = with_sink(1);
    let ([anna, bert], picture) = meeting_and_picture(&mut talk);
    let id = begin(&mut talk);
    talk.ok(anna.session, Request::PauseProducer { producer_id: picture.clone() });
    talk.ok(anna.session, Request::ResumeProducer { producer_id: picture.clone() });
    talk.ok(anna.session, Request::CloseProducer { producer_id: picture });
    assert_eq!(told(&mut talk), ["mute true", "mute false", "remove"]);
    talk.news(bert.session);
    let report = recording(&mut talk, RecordingAction::Stop).unwrap();
    assert!(!report.active);
    assert_eq!(told(&mut talk), ["stop", "remove"]);
    assert_eq!(about_recording(&mut talk, &bert), ["RecordingChanged false stopped"]);
    assert_eq!(recording(&mut talk, START), Err(403), "its files are being closed");
    end(&mut talk, id, Ending::Stopped);
    let report = recording(&mut talk, RecordingAction::Ask).unwrap();
    assert_eq!((report.ending, report.bytes), (Some("stopped"), 9));
    assert!(recording(&mut talk, START).unwrap().active);
    for client in [anna, bert] {
        talk.leave(client.session);
    }
    talk.pass(Duration::from_secs(60));
    assert_eq!(told(&mut talk), [""; 0], "the room was gone before the notice was over");
    assert_eq!(talk.control.recording_totals().active, 0);
    talk.assert_nothing_is_left();
}

#[test]
fn everyone_hears_of_a_full_disk_and_the_meeting_goes_on() {
    let mut talk = with_sink(1);
    let [anna, bert] = meeting(&mut talk);
    let id = begin(&mut talk);
    for client in [&anna, &bert] {
        talk.news(client.session);
    }
    end(&mut talk, id, Ending::DiskFull);
    for client in [&anna, &bert] {
        assert_eq!(about_recording(&mut talk, client), ["RecordingChanged false disk_full"]);
    }
    assert_eq!(talk.control.recording_totals().ended, [0, 1, 0, 0, 0]);
    assert!(talk.commands().iter().any(|command| command.contains("ClosePipe")));
    talk.produce(&bert, Kind::Audio, audio("0"));
    assert!(!told(&mut talk).iter().any(|command| command.starts_with("add")));
}

#[test]
fn a_sink_that_fails_ends_what_it_recorded_and_nothing_else() {
    let mut talk = with_sink(1);
    let [anna, bert] = meeting(&mut talk);
    begin(&mut talk);
    talk.news(bert.session);
    let now = talk.now;
    talk.control.sink_lost(now);
    assert_eq!(recording(&mut talk, START), Err(404));
    assert_eq!(about_recording(&mut talk, &bert), ["RecordingChanged false sink_lost"]);
    talk.produce(&anna, Kind::Video, simulcast("7"));
    assert_eq!(told(&mut talk), [""; 0]);
}

#[test]
fn a_recording_that_was_announced_ends_with_its_sink() {
    let mut talk = with_sink(1);
    let [_, bert] = meeting(&mut talk);
    recording(&mut talk, START).unwrap();
    talk.news(bert.session);
    let now = talk.now;
    talk.control.sink_lost(now);
    assert_eq!(recording(&mut talk, START), Err(404));
    assert_eq!(about_recording(&mut talk, &bert), ["RecordingChanged false sink_lost"]);
    talk.pass(NOTICE);
    assert_eq!(about_recording(&mut talk, &bert), [""; 0]);
    assert_eq!(told(&mut talk), [""; 0]);
    let carl = talk.connect("carl", Automatic);
    let Response::Joined { entrance, .. } = talk.ok(carl, join("carl")) else { panic!("joined") };
    assert!(!entrance.recording, "nobody is told that it goes on");
}

#[test]
fn a_server_without_a_sink_and_one_that_is_busy_refuse() {
    let mut talk = Talk::new();
    meeting(&mut talk);
    assert_eq!(recording(&mut talk, START), Err(404));
    let mut talk = with_sink(1);
    let [anna, _] = meeting(&mut talk);
    let notice = Duration::from_secs(61);
    assert_eq!(recording(&mut talk, RecordingAction::Start { notice }), Err(400));
    talk.connect_to("other", "otto", Automatic);
    let (room, action) = ("other".to_owned(), START);
    assert!(talk.admin(AdminRequest::Recording { room, action }).is_ok());
    assert_eq!(recording(&mut talk, START), Err(429), "one at a time");
    assert_eq!(about_recording(&mut talk, &anna), [""; 0]);
}
