//! Input: what clients say in protoo, a line each; see the module `signaling`.
#![forbid(unsafe_code)]

use opencall_control::api::{ConsumeMode, Grants, SessionConfig};
use opencall_signaling::envelope::protoo::Protoo;
use serde_json::Value;

use crate::signaling::{Dialect, play};

/// Plays the script.
pub fn run(data: &[u8]) {
    play::<Protoo>(&String::from_utf8_lossy(data));
}

impl Dialect for Protoo {
    fn connect(number: usize) -> (Self, Option<SessionConfig>) {
        let config = SessionConfig {
            room: "room".into(),
            peer: format!("peer {number}"),
            consume_mode: ConsumeMode::Automatic,
            grants: Grants::default(),
            display_name: None,
            can_wait: true,
        };
        (Protoo::new(), Some(config))
    }

    fn asks(frame: &Value) -> Option<Value> {
        if frame["request"] != true || frame["response"] == true {
            return None;
        }
        // A whole number of JavaScript's, written in any way.
        let id = frame.get("id").and_then(Value::as_f64)?;
        let is_whole = id.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(&id);
        is_whole.then(|| Value::from(id as u64))
    }

    fn answers(frame: &Value) -> Option<Value> {
        if frame["response"] == true { frame.get("id").cloned() } else { None }
    }
}
