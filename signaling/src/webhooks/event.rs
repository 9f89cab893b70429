//! A webhook's body: LiveKit's `WebhookEvent` in the JSON form of its protocol buffers, in which
//! 64-bit numbers are texts, enumerations names, and defaults left out.
#![forbid(unsafe_code)]

use opencall_control::api::{CloseReason, Grants, Source};
use opencall_control::room_events::{
    EventParticipant, EventRoom, EventTrack, RoomEvent, RoomEventKind,
};
use opencall_control::rtp_parameters::Kind;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event: &'static str,
    room: Room<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<Participant<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<Track<'a>>,
    id: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "is_default")]
    num_dropped: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room<'a> {
    sid: &'a str,
    name: &'a str,
    creation_time: String,
    creation_time_ms: String,
    #[serde(skip_serializing_if = "is_default")]
    num_participants: usize,
    #[serde(skip_serializing_if = "is_default")]
    num_publishers: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Participant<'a> {
    sid: &'a str,
    identity: &'a str,
    state: &'static str,
    joined_at: String,
    joined_at_ms: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    permission: Permission,
    #[serde(skip_serializing_if = "is_default")]
    is_publisher: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    #[serde(skip_serializing_if = "is_default")]
    can_subscribe: bool,
    #[serde(skip_serializing_if = "is_default")]
    can_publish: bool,
    #[serde(skip_serializing_if = "is_default")]
    can_publish_data: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    can_publish_sources: Vec<&'static str>,
    #[serde(skip_serializing_if = "is_default")]
    hidden: bool,
    #[serde(skip_serializing_if = "is_default")]
    can_update_metadata: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Track<'a> {
    sid: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "is_default")]
    muted: bool,
    #[serde(skip_serializing_if = "is_default")]
    simulcast: bool,
    source: &'static str,
    mime_type: &'a str,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// LiveKit's name of an event.
pub fn name(kind: RoomEventKind) -> &'static str {
    match kind {
        RoomEventKind::RoomStarted => "room_started",
        RoomEventKind::RoomFinished => "room_finished",
        RoomEventKind::ParticipantJoined => "participant_joined",
        RoomEventKind::ParticipantLeft(_) => "participant_left",
        RoomEventKind::TrackPublished => "track_published",
        RoomEventKind::TrackUnpublished => "track_unpublished",
    }
}

/// The body for an event, before which so many were lost.
pub fn body(event: &RoomEvent, lost: u32) -> Vec<u8> {
    let participant = event.participant.as_ref().map(|who| participant(who, event.kind));
    let body = Body {
        event: name(event.kind),
        room: room(&event.room),
        participant,
        track: event.track.as_ref().map(track),
        id: &event.id,
        created_at: (event.at_ms / 1000).to_string(),
        num_dropped: lost,
    };
    // Texts and numbers only: there is nothing that JSON cannot say.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn room(room: &EventRoom) -> Room<'_> {
    Room {
        sid: &room.id,
        name: &room.name,
        creation_time: (room.started_ms / 1000).to_string(),
        creation_time_ms: room.started_ms.to_string(),
        num_participants: room.participants,
        num_publishers: room.publishers,
    }
}

fn participant(who: &EventParticipant, kind: RoomEventKind) -> Participant<'_> {
    let reason = match kind {
        RoomEventKind::ParticipantLeft(why) => Some(disconnect_reason(why)),
        _ => None,
    };
    Participant {
        sid: &who.id,
        identity: &who.identity,
        state: if reason.is_some() { "DISCONNECTED" } else { "ACTIVE" },
        joined_at: (who.joined_ms / 1000).to_string(),
        joined_at_ms: who.joined_ms.to_string(),
        name: &who.display_name,
        permission: permission(&who.grants),
        is_publisher: who.is_publisher,
        disconnect_reason: reason,
    }
}

/// LiveKit's reason for a participant's end; without one of ours, its client went.
fn disconnect_reason(why: Option<CloseReason>) -> &'static str {
    match why {
        None => "CLIENT_INITIATED",
        Some(CloseReason::Replaced | CloseReason::PeerIdInUse) => "DUPLICATE_IDENTITY",
        Some(CloseReason::TransportLost) => "MEDIA_FAILURE",
        Some(CloseReason::CoreRemoved) => "MIGRATION",
        Some(
            CloseReason::Removed
            | CloseReason::RemovedByHost
            | CloseReason::RoomLocked
            | CloseReason::NotAdmitted,
        ) => "PARTICIPANT_REMOVED",
        Some(CloseReason::Shutdown) => "SERVER_SHUTDOWN",
    }
}

/// As LiveKit has it: no sources are all sources.
fn permission(grants: &Grants) -> Permission {
    let rights = grants.rights();
    let limited = rights.publish && rights.sources.len() < Source::ALL.len();
    let named = |label: &&'static str| Source::from_label(label).map(source);
    Permission {
        can_subscribe: rights.subscribe,
        can_publish: rights.publish,
        can_publish_data: rights.data,
        can_publish_sources: match limited {
            true => rights.sources.iter().filter_map(named).collect(),
            false => Vec::new(),
        },
        hidden: grants.hidden,
        can_update_metadata: grants.display_name.is_none() || grants.rename,
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Camera => "CAMERA",
        Source::Microphone => "MICROPHONE",
        Source::ScreenShare => "SCREEN_SHARE",
        Source::ScreenShareAudio => "SCREEN_SHARE_AUDIO",
    }
}

fn track(track: &EventTrack) -> Track<'_> {
    Track {
        sid: &track.id,
        // AUDIO is the default.
        kind: (track.kind == Kind::Video).then_some("VIDEO"),
        muted: track.is_paused,
        simulcast: track.is_simulcast,
        source: source(track.source),
        mime_type: &track.mime_type,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    pub fn event(room: &str, kind: RoomEventKind) -> RoomEvent {
        let room = EventRoom {
            id: "00r".into(),
            name: room.into(),
            started_ms: 1_700_000_000_123,
            participants: 2,
            publishers: 0,
        };
        let id = "EV_1".into();
        RoomEvent { id, kind, at_ms: 1_700_000_005_999, room, participant: None, track: None }
    }

    fn ann() -> EventParticipant {
        EventParticipant {
            id: "00p".into(),
            identity: Arc::from("ann"),
            display_name: "Ann \"A\" Ö\u{0}".into(),
            joined_ms: 1_700_000_001_001,
            grants: Grants::default(),
            is_publisher: true,
        }
    }

    fn json_of(event: &RoomEvent, lost: u32) -> Value {
        serde_json::from_slice(&body(event, lost)).expect("JSON")
    }

    #[test]
    fn a_track_is_written_as_livekit_does() {
        let track = EventTrack {
            id: "00t".into(),
            kind: Kind::Video,
            source: Source::ScreenShare,
            mime_type: "video/VP8".into(),
            is_paused: true,
            is_simulcast: false,
        };
        let mut event = event("stand-up", RoomEventKind::TrackPublished);
        (event.participant, event.track) = (Some(ann()), Some(track));
        assert_eq!(
            json_of(&event, 3),
            json!({
                "event": "track_published",
                "id": "EV_1",
                "createdAt": "1700000005",
                "numDropped": 3,
                "room": {"sid": "00r", "name": "stand-up", "creationTime": "1700000000",
                    "creationTimeMs": "1700000000123", "numParticipants": 2},
                "participant": {"sid": "00p", "identity": "ann", "state": "ACTIVE",
                    "joinedAt": "1700000001", "joinedAtMs": "1700000001001",
                    "name": "Ann \"A\" Ö\u{0}", "isPublisher": true,
                    "permission": {"canSubscribe": true, "canPublish": true,
                        "canPublishData": true, "canUpdateMetadata": true}},
                "track": {"sid": "00t", "type": "VIDEO", "muted": true, "source": "SCREEN_SHARE",
                    "mimeType": "video/VP8"},
            })
        );
    }

    #[test]
    fn why_someone_left_is_said_in_livekits_words() {
        let table = [
            (None, "CLIENT_INITIATED"),
            (Some(CloseReason::Replaced), "DUPLICATE_IDENTITY"),
            (Some(CloseReason::TransportLost), "MEDIA_FAILURE"),
            (Some(CloseReason::CoreRemoved), "MIGRATION"),
            (Some(CloseReason::RemovedByHost), "PARTICIPANT_REMOVED"),
            (Some(CloseReason::Shutdown), "SERVER_SHUTDOWN"),
        ];
        for (why, word) in table {
            let mut event = event("r", RoomEventKind::ParticipantLeft(why));
            event.participant = Some(ann());
            let who = &json_of(&event, 0)["participant"];
            assert_eq!(
                (&who["state"], &who["disconnectReason"]),
                (&json!("DISCONNECTED"), &json!(word))
            );
        }
        let event = json_of(&event("r", RoomEventKind::RoomFinished), 0);
        assert!(event.get("participant").is_none() && event.get("numDropped").is_none());
    }

    #[test]
    fn what_a_token_forbids_is_no_permission() {
        let sources = [Source::Microphone, Source::ScreenShare].into_iter().collect();
        let table = [
            (
                Grants { sources, data: false, ..Grants::default() },
                json!({"canSubscribe": true, "canPublish": true, "canUpdateMetadata": true,
                    "canPublishSources": ["MICROPHONE", "SCREEN_SHARE"]}),
            ),
            (
                Grants { hidden: true, display_name: Some("x".into()), ..Grants::default() },
                json!({"canSubscribe": true, "hidden": true}),
            ),
        ];
        for (grants, expected) in table {
            assert_eq!(serde_json::to_value(permission(&grants)).unwrap(), expected);
        }
    }
}
