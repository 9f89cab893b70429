//! Bounds on what one client can make the control core keep, each with its reason.
#![forbid(unsafe_code)]

use crate::api::{JsonObject, RequestError};

/// Peers in one room. The design goal is 500; twice that leaves room for observers. More would make
/// each entry a thousand notifications.
pub const MAX_PEERS_PER_ROOM: usize = 1_000;

/// Transports of one peer. Clients have one per direction; the rest is for reconnecting without
/// closing, and for screens sent on a transport of their own.
pub const MAX_TRANSPORTS_PER_PEER: usize = 8;

/// Producers of one peer: microphone, camera, screen with sound, and many spare ones.
pub const MAX_PRODUCERS_PER_PEER: usize = 32;

/// Consumers of one peer: everyone's microphone, camera and screen in a room of 500, and a third
/// more.
pub const MAX_CONSUMERS_PER_PEER: usize = 2_000;

/// Data producers of one peer: chat, files, pointers, games, and many spare ones.
pub const MAX_DATA_PRODUCERS_PER_PEER: usize = 32;

/// Data consumers of one peer: one transport has 1,024 streams.
pub const MAX_DATA_CONSUMERS_PER_PEER: usize = 1_000;

/// Questions about statistics of one peer that wait for an answer. Each may be a message per
/// consumer to the data cores.
pub const MAX_STATS_JOBS_PER_PEER: usize = 4;

/// Bytes of a name to show: some twenty families of emoji.
pub const MAX_DISPLAY_NAME_BYTES: usize = 512;

/// Voices and pictures of a stage at most, each: more than a screen shows.
pub const MAX_STAGE_SLOTS: usize = 49;

/// Peers that are named in the answer to who enters a room with a stage, or asks for some: a page
/// of them, some ten kilobytes.
pub const MAX_PEERS_PER_ANSWER: usize = 100;

/// How deep what is passed on may nest. Real objects are flat; clients' parsers stop somewhere.
const MAX_DEPTH: usize = 16;

/// Values in what is passed on. Each costs those who read it many times its text.
const MAX_VALUES: usize = 512;

/// Bytes of a device description, as JSON. It goes to everyone in the room.
pub const MAX_DEVICE_BYTES: usize = 1_024;

/// Bytes of a producer's appData, as JSON. It goes to everyone in the room.
pub const MAX_APP_DATA_BYTES: usize = 4_096;

/// Limits that a deployment may change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// See [`MAX_PEERS_PER_ROOM`].
    pub peers_per_room: usize,
    /// See [`MAX_TRANSPORTS_PER_PEER`].
    pub transports_per_peer: usize,
    /// See [`MAX_PRODUCERS_PER_PEER`].
    pub producers_per_peer: usize,
    /// See [`MAX_CONSUMERS_PER_PEER`].
    pub consumers_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            peers_per_room: MAX_PEERS_PER_ROOM,
            transports_per_peer: MAX_TRANSPORTS_PER_PEER,
            producers_per_peer: MAX_PRODUCERS_PER_PEER,
            consumers_per_peer: MAX_CONSUMERS_PER_PEER,
        }
    }
}

/// Refuses a request that is wrong in itself.
pub(crate) fn malformed(reason: impl Into<String>) -> RequestError {
    RequestError { code: 400, reason: reason.into() }
}

/// Refuses a request that comes at the wrong time or place.
pub(crate) fn not_allowed(reason: impl Into<String>) -> RequestError {
    RequestError { code: 403, reason: reason.into() }
}

/// Refuses a request about something that this client does not have.
pub(crate) fn unknown(what: &str, id: &str) -> RequestError {
    let id: String = id.chars().take(64).collect();
    let reason = format!("no {what} \"{id}\": it was closed, or belongs to someone else");
    RequestError { code: 404, reason }
}

/// Refuses a request about what is not there.
pub(crate) fn not_found(reason: impl Into<String>) -> RequestError {
    RequestError { code: 404, reason: reason.into() }
}

/// Refuses what cannot be while things are as they are.
pub(crate) fn conflict(reason: impl Into<String>) -> RequestError {
    RequestError { code: 409, reason: reason.into() }
}

/// Refuses a request for one more than there may be.
pub(crate) fn too_many(what: &str, limit: usize) -> RequestError {
    RequestError { code: 429, reason: format!("{limit} {what} are the limit: close one first") }
}

/// Refuses a participant whom the server could give nothing: those inside have no pictures as it
/// is.
pub(crate) fn overloaded() -> RequestError {
    let reason = "the server is overloaded: try again in a minute".to_owned();
    RequestError { code: 503, reason }
}

/// Refuses an object that is longer than `limit` bytes as JSON.
pub(crate) fn check_json(
    what: &str,
    object: &JsonObject,
    limit: usize,
) -> Result<(), RequestError> {
    if object.size() > limit {
        return Err(malformed(format!("{what} is longer than {limit} bytes of JSON: shorten it")));
    }
    let shape = object.shape();
    if shape.depth > MAX_DEPTH {
        return Err(malformed(format!("{what} nests deeper than {MAX_DEPTH}: flatten it")));
    }
    if shape.values > MAX_VALUES {
        return Err(malformed(format!("{what} has more than {MAX_VALUES} values: shorten it")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn long_json_is_refused_wherever_its_length_hides() {
        let table = [
            (json!({}), true),
            (json!({"source": "webcam", "share": true, "n": 1, "none": null}), true),
            (json!({"x": "y".repeat(200)}), false),
            (json!({"x".repeat(200): 1}), false),
            (json!({"x": vec![0; 200]}), false),
            (json!({"x": {"y": {"z": "y".repeat(200)}}}), false),
        ];
        for (value, expected) in table {
            let object = serde_json::from_value(value.clone()).expect("an object");
            assert_eq!(check_json("appData", &object, 200).is_ok(), expected, "{value}");
        }
    }
}
