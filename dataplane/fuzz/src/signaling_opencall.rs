//! Input: what clients say in OpenCall's envelope, a line each; see the module `signaling`.
#![forbid(unsafe_code)]

use opencall_control::api::SessionConfig;
use opencall_signaling::envelope::opencall::OpenCall;
use serde_json::Value;

use crate::signaling::{Dialect, play};

/// Longest id that is answered under.
const MAX_ID_BYTES: usize = 256;

/// Plays the script.
pub fn run(data: &[u8]) {
    play::<OpenCall>(&String::from_utf8_lossy(data));
}

impl Dialect for OpenCall {
    fn connect(_: usize) -> (Self, Option<SessionConfig>) {
        (OpenCall::new(None), None)
    }

    fn asks(frame: &Value) -> Option<Value> {
        let id = frame.get("id")?;
        (id.as_str()?.len() <= MAX_ID_BYTES).then(|| id.clone())
    }

    fn answers(frame: &Value) -> Option<Value> {
        frame.get("id").cloned()
    }
}
