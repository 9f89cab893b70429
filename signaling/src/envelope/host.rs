//! What hosts ask and what rooms tell of locks and waiting rooms, in the same words in both
//! envelopes. Requests name whom they are about `target`, for OpenCall's own say with
//! `participantId` who asks; news name it as their envelope does, `participantId` or `peerId`.
#![forbid(unsafe_code)]

use opencall_control::admin::MuteTarget;
use opencall_control::api::{
    Caption, CloseReason, Entrance, HostAction, Notification, Request, RequestError, Source,
};
use serde_json::{Map, Value, json};

use super::Closing;
use super::fields::{Fields, bad_request};

/// The request of that name; `None` if it is none of a host.
pub(super) fn request(
    name: &str,
    fields: &mut Fields<'_>,
) -> Result<Option<Request>, RequestError> {
    let action = match name {
        "muteParticipant" => HostAction::Mute {
            peer_id: fields.string("target")?,
            what: mute_target(fields)?,
            muted: fields.boolean_or("muted", true)?,
        },
        "removeParticipant" => HostAction::Remove { peer_id: fields.string("target")? },
        "lockRoom" => HostAction::Lock {
            locked: fields.boolean_or("locked", true)?,
            waiting_room: fields.boolean_or("waitingRoom", false)?,
        },
        "admitParticipant" => HostAction::Admit { peer_id: fields.string("target")? },
        "denyParticipant" => HostAction::Deny { peer_id: fields.string("target")? },
        _ => return Ok(None),
    };
    Ok(Some(Request::Host(action)))
}

fn mute_target(fields: &mut Fields<'_>) -> Result<MuteTarget, RequestError> {
    let producer = fields.optional_string("producerId")?;
    let source = fields.optional_string("source")?;
    match (producer, source.as_deref().map(Source::from_label)) {
        (Some(producer), None) => Ok(MuteTarget::Producer(producer)),
        (None, Some(Some(source))) => Ok(MuteTarget::Source(source)),
        _ => Err(bad_request(
            "give producerId, or source: \"camera\", \"microphone\", \"screen_share\" or \
             \"screen_share_audio\"",
        )),
    }
}

/// The room as whoever enters it is told.
pub(super) fn entrance(entrance: &Entrance) -> Map<String, Value> {
    let Entrance { can, locked, waiting_room, recording, tapped, pushed, has_mls, advice } =
        entrance;
    let members = [
        ("can", json!(can)),
        ("roomLocked", json!(locked)),
        ("waitingRoom", json!(waiting_room)),
        ("recording", json!(recording)),
        ("tapped", json!(tapped)),
        ("pushed", json!(pushed)),
    ];
    let advice = advice.as_deref().map(|advice| ("codecAdvice", json!(advice)));
    let e2ee = has_mls.then(|| ("e2ee", json!("mls")));
    members
        .into_iter()
        .chain(advice)
        .chain(e2ee)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Name and data of what is told of mutes, locks, recordings, taps, pushes, waiting rooms and
/// codecs; `None` for all else.
pub(super) fn news(notification: &Notification, who: &str) -> Option<(&'static str, Value)> {
    let (name, mut data, by) = match notification {
        Notification::ProducerMuted { producer_id, muted, by } => {
            ("producerMuted", json!({"producerId": producer_id, "muted": muted}), by.as_deref())
        }
        Notification::RoomLocked { locked, waiting_room, by } => {
            ("roomLocked", json!({"locked": locked, "waitingRoom": waiting_room}), by.as_deref())
        }
        Notification::RecordingChanged { recording, starts_in_ms, reason } => {
            let data = json!({"recording": recording});
            ("recordingChanged", with_beginning_or_end(data, *starts_in_ms, *reason), None)
        }
        Notification::TapChanged { tap, starts_in_ms, reason } => {
            let data = json!({"tapped": tap});
            ("tapChanged", with_beginning_or_end(data, *starts_in_ms, *reason), None)
        }
        Notification::PushChanged { push, starts_in_ms, reason } => {
            let data = json!({"pushed": push});
            ("pushChanged", with_beginning_or_end(data, *starts_in_ms, *reason), None)
        }
        Notification::Caption(caption) => ("caption", caption_data(caption, who), None),
        Notification::PeerWaiting { peer_id, display_name } => {
            ("participantWaiting", json!({who: &**peer_id, "displayName": display_name}), None)
        }
        Notification::PeerWaitingEnded { peer_id } => {
            ("participantWaitingEnded", json!({who: &**peer_id}), None)
        }
        Notification::CodecAdvice(advice) => ("codecAdvice", json!(**advice), None),
        Notification::Waiting => ("waiting", json!({}), None),
        Notification::Admitted { by } => ("admitted", json!({}), by.as_deref()),
        _ => return None,
    };
    add_by(&mut data, by);
    Some((name, data))
}

fn with_beginning_or_end(
    mut data: Value,
    starts_in_ms: Option<u32>,
    reason: Option<&'static str>,
) -> Value {
    if let Some(starts_in_ms) = starts_in_ms {
        data["startsInMs"] = json!(starts_in_ms);
    }
    if let Some(reason) = reason {
        data["reason"] = json!(reason);
    }
    data
}

fn caption_data(caption: &Caption, who: &str) -> Value {
    let Caption { peer_id, utterance, text, interim, language } = caption;
    let mut data =
        json!({who: &**peer_id, "utterance": utterance, "text": text, "interim": interim});
    if let Some(language) = language {
        data["language"] = json!(language);
    }
    data
}

/// Whether a client waits to be let in, after this news.
pub(super) fn waits(notification: &Notification, waited: bool) -> bool {
    match notification {
        Notification::Waiting => true,
        Notification::Admitted { .. } => false,
        _ => waited,
    }
}

/// What a client that is sent away is told before its connection closes: protoo's clients do not
/// see the reason in the closing.
pub(super) fn farewell(closing: Closing, by: Option<&str>) -> Option<(&'static str, Value)> {
    let name = match closing {
        Closing::ByControl(CloseReason::Removed | CloseReason::RemovedByHost) => "removed",
        Closing::ByControl(CloseReason::NotAdmitted) => "denied",
        _ => return None,
    };
    let mut data = json!({"reason": closing.reason()});
    add_by(&mut data, by);
    Some((name, data))
}

fn add_by(data: &mut Value, by: Option<&str>) {
    if let (Some(by), Some(data)) = (by, data.as_object_mut()) {
        data.insert("by".to_owned(), json!(by));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn read(name: &str, data: Value) -> Result<Option<Request>, RequestError> {
        let text = data.to_string();
        let mut fields = Fields::parse(&text).unwrap();
        request(name, &mut fields)
    }

    #[test]
    fn requests_become_actions() {
        let peer_id = || "bert".to_owned();
        let mute = |what, muted| HostAction::Mute { peer_id: peer_id(), what, muted };
        let table = [
            (
                "muteParticipant",
                json!({"target": "bert", "source": "screen_share"}),
                mute(MuteTarget::Source(Source::ScreenShare), true),
            ),
            (
                "muteParticipant",
                json!({"target": "bert", "producerId": "p", "muted": false}),
                mute(MuteTarget::Producer("p".to_owned()), false),
            ),
            (
                "removeParticipant",
                json!({"target": "bert"}),
                HostAction::Remove { peer_id: peer_id() },
            ),
            ("lockRoom", json!({}), HostAction::Lock { locked: true, waiting_room: false }),
            (
                "lockRoom",
                json!({"locked": false, "waitingRoom": true}),
                HostAction::Lock { locked: false, waiting_room: true },
            ),
            (
                "admitParticipant",
                json!({"target": "bert"}),
                HostAction::Admit { peer_id: peer_id() },
            ),
            ("denyParticipant", json!({"target": "bert"}), HostAction::Deny { peer_id: peer_id() }),
        ];
        for (name, data, expected) in table {
            assert_eq!(read(name, data), Ok(Some(Request::Host(expected))), "{name}");
        }
        assert_eq!(read("join", json!({})), Ok(None));
    }

    #[test]
    fn what_is_missing_or_doubled_is_named() {
        let both = json!({"target": "x", "producerId": "p", "source": "camera"});
        let table = [
            ("removeParticipant", json!({"peerId": "x"}), "target: missing"),
            ("muteParticipant", json!({"target": "x"}), "give producerId, or source"),
            ("muteParticipant", json!({"target": "x", "source": "nose"}), "give producerId"),
            ("muteParticipant", both, "give producerId, or source"),
            ("lockRoom", json!({"locked": "yes"}), "locked: expected a boolean"),
        ];
        for (name, data, reason) in table {
            let error = read(name, data).unwrap_err();
            assert!(error.code == 400 && error.reason.contains(reason), "{}", error.reason);
        }
    }

    #[test]
    fn news_say_who_did_it_where_it_is_known() {
        let by = || Some("hanna".into());
        let table = [
            (
                Notification::ProducerMuted { producer_id: "p".into(), muted: true, by: by() },
                json!(["producerMuted", {"producerId": "p", "muted": true, "by": "hanna"}]),
            ),
            (
                Notification::RoomLocked { locked: true, waiting_room: true, by: None },
                json!(["roomLocked", {"locked": true, "waitingRoom": true}]),
            ),
            (
                Notification::PeerWaiting { peer_id: "carl".into(), display_name: "Carl".into() },
                json!(["participantWaiting", {"peerId": "carl", "displayName": "Carl"}]),
            ),
            (
                Notification::PeerWaitingEnded { peer_id: "carl".into() },
                json!(["participantWaitingEnded", {"peerId": "carl"}]),
            ),
            (
                Notification::RecordingChanged {
                    recording: true,
                    starts_in_ms: Some(500),
                    reason: None,
                },
                json!(["recordingChanged", {"recording": true, "startsInMs": 500}]),
            ),
            (
                Notification::RecordingChanged {
                    recording: false,
                    starts_in_ms: None,
                    reason: Some("disk_full"),
                },
                json!(["recordingChanged", {"recording": false, "reason": "disk_full"}]),
            ),
            (
                Notification::TapChanged { tap: true, starts_in_ms: Some(1_000), reason: None },
                json!(["tapChanged", {"tapped": true, "startsInMs": 1_000}]),
            ),
            (
                Notification::Caption(Arc::new(Caption {
                    peer_id: "carl".into(),
                    utterance: 7,
                    text: "hello".into(),
                    interim: false,
                    language: Some("en".into()),
                })),
                json!(["caption", {"peerId": "carl", "utterance": 7, "text": "hello",
                                   "interim": false, "language": "en"}]),
            ),
            (Notification::Waiting, json!(["waiting", {}])),
            (Notification::Admitted { by: by() }, json!(["admitted", {"by": "hanna"}])),
        ];
        for (notification, expected) in table {
            let (name, data) = news(&notification, "peerId").unwrap();
            assert_eq!(json!([name, data]), expected);
        }
    }
}
