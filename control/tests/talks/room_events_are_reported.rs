//! What programs outside are told of rooms: everything once, in order, and nothing unless asked.

use std::time::Duration;

use opencall_control::PlacementPolicy;
use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::*;
use opencall_control::room_events::{RoomEvent, RoomEventKind};
use opencall_control::rtp_parameters::Kind;

use crate::talk::{Talk, audio, config, join, simulcast};

fn reporting() -> Talk {
    let mut config = config(1, PlacementPolicy::default());
    config.room_events = true;
    Talk::with(config)
}

fn events(talk: &mut Talk) -> Vec<RoomEvent> {
    std::iter::from_fn(|| talk.control.poll_room_event()).collect()
}

/// What happened, to whom or what, and how many were there: `participants/publishers`.
fn text(event: &RoomEvent) -> String {
    let who = event.participant.as_ref().map_or("", |participant| &participant.identity);
    let what = event.track.as_ref().map_or("", |track| track.source.label());
    let (inside, sending) = (event.room.participants, event.room.publishers);
    format!("{:?} {who} {what} {inside}/{sending}", event.kind)
}

fn texts(talk: &mut Talk) -> Vec<String> {
    events(talk).iter().map(text).collect()
}

#[test]
fn a_meeting_from_its_first_participant_to_its_last() {
    let mut talk = reporting();
    let ann = talk.enter("ann", Automatic);
    talk.produce(&ann, Kind::Audio, audio("0"));
    let ben = talk.enter("ben", OnRequest);
    let picture = talk.produce(&ben, Kind::Video, simulcast("1"));
    talk.ok(ben.session, Request::CloseProducer { producer_id: picture });
    talk.leave(ben.session);
    talk.leave(ann.session);
    assert_eq!(
        texts(&mut talk),
        [
            "RoomStarted   1/0",
            "ParticipantJoined ann  1/0",
            "TrackPublished ann microphone 1/1",
            "ParticipantJoined ben  2/1",
            "TrackPublished ben camera 2/2",
            "TrackUnpublished ben camera 2/2",
            "ParticipantLeft(None) ben  1/1",
            "TrackUnpublished ann microphone 1/1",
            "ParticipantLeft(None) ann  0/0",
            "RoomFinished   0/0",
        ]
    );
}

#[test]
fn an_event_has_ids_names_and_times_of_what_it_is_about() {
    let mut talk = reporting();
    let begin_ms = 1_700_000_000_000 + talk.now.as_nanos() / 1_000_000;
    let grants = Grants { display_name: Some("Dr Ben".into()), ..Grants::default() };
    let ben = talk.enter_with("ben", Automatic, grants);
    talk.now = talk.now + Duration::from_secs(5);
    let id = talk.produce(&ben, Kind::Video, simulcast("1"));
    let all = events(&mut talk);
    let last = all.last().expect("a track is published");
    let (who, track) = (last.participant.as_ref().unwrap(), last.track.as_ref().unwrap());
    assert_eq!((last.at_ms, who.joined_ms), (begin_ms + 5_000, begin_ms));
    assert_eq!((&*last.room.name, last.room.started_ms), ("room", begin_ms));
    assert_eq!((&*who.identity, who.display_name.as_str()), ("ben", "Dr Ben"));
    assert!(who.is_publisher && who.grants.publish);
    assert_eq!((track.id.as_str(), track.kind, track.source), (&*id, Kind::Video, Source::Camera));
    assert_eq!((track.mime_type.as_str(), track.is_simulcast), ("video/VP8", true));
    let mut ids: Vec<&str> = all.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn who_takes_a_place_and_who_is_removed_is_told_apart_from_who_leaves() {
    let mut talk = reporting();
    let proven = || Grants { identity_proven: true, ..Grants::default() };
    let ann = talk.enter_with("ann", Automatic, proven());
    let again = talk.enter_with("ann", Automatic, proven());
    talk.leave(again.session);
    talk.enter_with("ann", Automatic, proven());
    talk.control.shutdown(talk.now);
    let all = events(&mut talk);
    let left = |event: &&RoomEvent| matches!(event.kind, RoomEventKind::ParticipantLeft(_));
    let left: Vec<RoomEventKind> = all.iter().filter(left).map(|event| event.kind).collect();
    let reasons = [Some(CloseReason::Replaced), None, Some(CloseReason::Shutdown)];
    assert_eq!(left, reasons.map(RoomEventKind::ParticipantLeft));
    assert_ne!(ann.session, again.session);
    // A room that starts anew is another one; one in which a place is taken over goes on.
    let rooms: std::collections::BTreeSet<&str> = all.iter().map(|e| e.room.id.as_str()).collect();
    assert_eq!(rooms.len(), 2);
}

#[test]
fn who_never_enters_is_nobody() {
    let mut talk = reporting();
    let session = talk.connect("ann", Automatic);
    talk.leave(session);
    assert_eq!(texts(&mut talk), [""; 0]);
}

#[test]
fn nothing_is_kept_where_nobody_asks() {
    let mut talk = Talk::new();
    let session = talk.connect("ann", Automatic);
    talk.ok(session, join("ann"));
    talk.leave(session);
    assert!(events(&mut talk).is_empty());
}
