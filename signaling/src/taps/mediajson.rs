//! What is said to a program that hears voices, and what it says back: JSON as Jitsi's exporter
//! speaks it, one message each, most numbers as strings.
//!
//! ```text
//! ─▶ {"event":"start","sequenceNumber":"1","start":{"tag":"ann-7","mediaFormat":{"encoding":"opus",
//!     "sampleRate":48000,"channels":2},"customParameters":{"endpointId":"ann"}}}
//! ─▶ {"event":"media","sequenceNumber":"2","media":{"tag":"ann-7","chunk":"0","timestamp":"960",
//!     "payload":"…"}}
//! ◀─ {"type":"transcription-result","event":"transcription-result","is_interim":false,
//!     "transcript":[{"text":"good morning","confidence":0.9}],"participant":{"id":"ann"},
//!     "timestamp":1768341932000,"language":"en"}
//! ─▶ {"event":"stop","sequenceNumber":"3","stop":{"tag":"ann-7"}}
//! ─▶ {"event":"session-end","sequenceNumber":"4"}
//! ```
//!
//! Either side may say `{"event":"ping","id":1}`, which the other answers with `pong`.
#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::gauges::Refusal;

/// The longest message that is read. A result is some hundred bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The longest caption: half a minute of fast speech.
pub const MAX_TEXT_BYTES: usize = 2_000;

/// The longest name of a language: BCP 47 knows of 35.
const MAX_LANGUAGE_BYTES: usize = 35;

/// The longest id of a ping that is answered.
const MAX_ID_BYTES: usize = 64;

/// A voice begins. Both names are anyone's.
pub fn start(number: u64, tag: &str, endpoint: &str) -> String {
    let start = json!({
        "tag": tag,
        "mediaFormat": {"encoding": "opus", "sampleRate": 48_000, "channels": 2},
        "customParameters": {"endpointId": endpoint},
    });
    json!({"event": "start", "sequenceNumber": number.to_string(), "start": start}).to_string()
}

/// A frame of a voice. The tag is in JSON already, with its quotes.
pub fn media(number: u64, tag: &str, chunk: u64, timestamp: u64, payload: &[u8]) -> String {
    let mut text = String::with_capacity(160 + tag.len() + payload.len() * 4 / 3);
    text.push_str(r#"{"event":"media","sequenceNumber":""#);
    push_number(&mut text, number);
    text.push_str(r#"","media":{"tag":"#);
    text.push_str(tag);
    text.push_str(r#","chunk":""#);
    push_number(&mut text, chunk);
    text.push_str(r#"","timestamp":""#);
    push_number(&mut text, timestamp);
    text.push_str(r#"","payload":""#);
    STANDARD.encode_string(payload, &mut text);
    text.push_str(r#""}}"#);
    text
}

/// A voice ends.
pub fn stop(number: u64, tag: &str) -> String {
    let number = number.to_string();
    json!({"event": "stop", "sequenceNumber": number, "stop": {"tag": tag}}).to_string()
}

/// Nothing more comes.
pub fn session_end(number: u64) -> String {
    json!({"event": "session-end", "sequenceNumber": number.to_string()}).to_string()
}

/// Whether the program is there.
pub fn ping(id: u64) -> String {
    json!({"event": "ping", "id": id}).to_string()
}

/// This tap is: the id is JSON already.
fn pong(id: &str) -> String {
    format!(r#"{{"event":"pong","id":{id}}}"#)
}

fn push_number(text: &mut String, number: u64) {
    let mut digits = [0_u8; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// What a program says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// What it understood.
    Result {
        /// Who has spoken: a participant, or the tag of its voice.
        participant: String,
        /// What, without control characters.
        text: String,
        /// Whether it may still change.
        interim: bool,
        /// In which language, if it says so.
        language: Option<String>,
    },
    /// It wants this answer.
    Ping(String),
    /// It is of no interest here.
    Other,
}

/// All that is read of a message; the rest may be anything.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    event: Option<String>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    is_interim: Option<bool>,
    transcript: Option<Vec<Piece>>,
    participant: Option<Participant>,
    language: Option<String>,
}

#[derive(Deserialize)]
struct Piece {
    text: String,
}

#[derive(Deserialize)]
struct Participant {
    id: String,
}

/// Reads a message.
pub fn read(text: &str) -> Result<Said, Refusal> {
    let message: Message<'_> = serde_json::from_str(text).map_err(|_| Refusal::Malformed)?;
    let name = message.event.as_deref().or(message.kind.as_deref());
    match name {
        Some("transcription-result") => read_result(message),
        Some("ping") => {
            let id = message.id.map_or("null", RawValue::get);
            let is_plain = id.len() <= MAX_ID_BYTES && !id.starts_with(['{', '[']);
            if is_plain { Ok(Said::Ping(pong(id))) } else { Err(Refusal::Malformed) }
        }
        Some(_) => Ok(Said::Other),
        None => Err(Refusal::Malformed),
    }
}

fn read_result(message: Message<'_>) -> Result<Said, Refusal> {
    let (Some(pieces), Some(participant)) = (message.transcript, message.participant) else {
        return Err(Refusal::Malformed);
    };
    let mut text = String::new();
    for word in pieces.iter().flat_map(|piece| piece.text.split_whitespace()) {
        let separator = if text.is_empty() { "" } else { " " };
        text.push_str(separator);
        text.extend(word.chars().filter(|letter| !letter.is_control()));
    }
    if text.is_empty() {
        return Err(Refusal::Empty);
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(Refusal::TooLong);
    }
    let is_language = |language: &String| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=MAX_LANGUAGE_BYTES).contains(&language.len()) && language.bytes().all(is_part)
    };
    Ok(Said::Result {
        participant: participant.id,
        text,
        interim: message.is_interim.unwrap_or(false),
        language: message.language.filter(is_language),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_said_is_mediajson() {
        let table = [
            (
                start(1, "ann\"-7", "ann\""),
                json!({"event": "start", "sequenceNumber": "1", "start": {
                    "tag": "ann\"-7",
                    "mediaFormat": {"encoding": "opus", "sampleRate": 48_000, "channels": 2},
                    "customParameters": {"endpointId": "ann\""},
                }}),
            ),
            (
                media(20, "\"a\\\"-7\"", 0, 18_446_744_073_709_551_615, &[0xf8, 0xff, 0xfe]),
                json!({"event": "media", "sequenceNumber": "20", "media": {"tag": "a\"-7",
                    "chunk": "0", "timestamp": "18446744073709551615", "payload": "+P/+"}}),
            ),
            (stop(3, "a"), json!({"event": "stop", "sequenceNumber": "3", "stop": {"tag": "a"}})),
            (session_end(4), json!({"event": "session-end", "sequenceNumber": "4"})),
            (ping(5), json!({"event": "ping", "id": 5})),
        ];
        for (text, expected) in table {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        }
    }

    fn result(text: &str, interim: bool, language: Option<&str>) -> Said {
        let (participant, text) = ("ann".to_owned(), text.to_owned());
        Said::Result { participant, text, interim, language: language.map(str::to_owned) }
    }

    #[test]
    fn results_and_pings_are_read() {
        let full = r#"{"type":"transcription-result","event":"transcription-result",
            "is_interim":true,"transcript":[{"text":" good","confidence":0.5},{"text":"morning\n"}],
            "participant":{"id":"ann","name":7},"timestamp":"x","language":"de-CH","more":[[[]]]}"#;
        let short = r#"{"type":"transcription-result","transcript":[{"text":"a\u0007b\u0000"}],
            "participant":{"id":"ann"},"language":"no language"}"#;
        let table = [
            (full, result("good morning", true, Some("de-CH"))),
            (short, result("ab", false, None)),
            (r#"{"event":"ping","id":7}"#, Said::Ping(r#"{"event":"pong","id":7}"#.into())),
            (r#"{"event":"ping","id":"x"}"#, Said::Ping(r#"{"event":"pong","id":"x"}"#.into())),
            (r#"{"event":"ping"}"#, Said::Ping(r#"{"event":"pong","id":null}"#.into())),
            (r#"{"event":"pong","id":3}"#, Said::Other),
            (r#"{"event":"info","transcript":null}"#, Said::Other),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn hostile_messages_are_refused_by_name() {
        use Refusal::{Empty, Malformed, TooLong};
        let result = |transcript: &str| {
            format!(
                r#"{{"type":"transcription-result","transcript":{transcript},"participant":{{"id":"a"}}}}"#
            )
        };
        let long = format!(r#"[{{"text":"{}"}}]"#, "ab ".repeat(MAX_TEXT_BYTES / 3 + 2));
        let many = format!("[{}]", vec![r#"{"text":"abcdefg"}"#; 3_000].join(","));
        let table = [
            (String::new(), Malformed),
            ("null".into(), Malformed),
            ("[]".into(), Malformed),
            ("7e999".into(), Malformed),
            ("\"transcription-result\"".into(), Malformed),
            ("{}".into(), Malformed),
            ("{\"event\":7}".into(), Malformed),
            ("{\"event\":\"ping\",\"event\":\"ping\"}".into(), Malformed),
            ("[".repeat(60_000), Malformed),
            (format!("{{\"event\":{}", "{\"event\":".repeat(6_000)), Malformed),
            (format!("{{\"event\":\"ping\",\"id\":\"{}\"}}", "x".repeat(64)), Malformed),
            ("{\"event\":\"ping\",\"id\":{\"a\":1}}".into(), Malformed),
            ("{\"event\":\"ping\",\"id\":[1]}".into(), Malformed),
            ("{\"type\":\"transcription-result\"}".into(), Malformed),
            (result("null"), Malformed),
            (result("{}"), Malformed),
            (result("[7]"), Malformed),
            (result("[{\"text\":7}]"), Malformed),
            (result("[{\"text\":\"\\ud800\"}]"), Malformed),
            (result("[]"), Empty),
            (result("[{\"text\":\" \\n\\u0000 \"}]"), Empty),
            (result(&long), TooLong),
            (result(&many), TooLong),
        ];
        for (text, expected) in table {
            let start: String = text.chars().take(60).collect();
            assert_eq!(read(&text), Err(expected), "{start}");
        }
    }
}
