//! Typed reading of the members of a JSON object, with errors that name the member.
//!
//! Members stay text until someone asks for them, and become the type that is asked for: no tree of
//! values is built, which would take many times the memory of its text.
//!
//! Numbers are JavaScript's: `2.0` is 2.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use opencall_control::api::{JsonObject, RequestError};
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Longest id taken, in bytes. Ids of real clients are UUIDs or short words.
pub const MAX_NAME_BYTES: usize = 256;

/// Longest name to show, in bytes: a longer one is shortened. It goes to everyone in the room. A
/// family of emoji has 25 bytes, so that this is some twenty of them.
pub const MAX_SHOWN_NAME_BYTES: usize = 512;

/// Largest `device` or `appData` taken, in bytes of JSON: both are passed on to everyone in the
/// room. Real ones have under 200.
pub const MAX_PASSED_ON_BYTES: usize = 4096;

/// Members of one object that is read: requests have under ten.
const MAX_MEMBERS: usize = 64;

/// A malformed request: the text goes to the client.
pub fn bad_request(reason: impl Into<String>) -> RequestError {
    RequestError { code: 400, reason: reason.into() }
}

/// The members of an object, taken out one by one.
#[derive(Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The members of one frame.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The members of an object within; absent and null are `{}`.
    pub fn nested(&mut self, name: &str) -> Result<Fields<'a>, RequestError> {
        match self.take(name) {
            None => Ok(Fields::default()),
            Some(value) => Fields::parse(value.get())
                .map_err(|error| not_as_wanted(name, "an object", value, &error)),
        }
    }

    /// Whether a member is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == name && value.get() == "true")
    }

    /// A member's text, left where it is.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// A string of at most [`MAX_NAME_BYTES`].
    pub fn string(&mut self, name: &str) -> Result<String, RequestError> {
        self.optional_string(name)?.ok_or_else(|| missing(name, "a string"))
    }

    /// The same, where absent and null are allowed.
    pub fn optional_string(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        let text = self.text(name)?;
        if text.as_ref().is_some_and(|text| text.len() > MAX_NAME_BYTES) {
            return Err(bad_request(format!("{name}: longer than {MAX_NAME_BYTES} bytes")));
        }
        Ok(text)
    }

    /// A string of any length: whoever takes it has a bound.
    pub fn long_string(&mut self, name: &str) -> Result<String, RequestError> {
        self.text(name)?.ok_or_else(|| missing(name, "a string"))
    }

    /// The same, where absent and null are allowed.
    pub fn optional_long_string(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        self.text(name)
    }

    /// A name that people are shown; a longer one than [`MAX_SHOWN_NAME_BYTES`] is shortened.
    pub fn shown_name(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        let mut text = self.text(name)?;
        if let Some(text) = &mut text {
            text.truncate(text.floor_char_boundary(MAX_SHOWN_NAME_BYTES));
        }
        Ok(text)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match serde_json::from_str(value.get()) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(not_as_wanted(name, "a string", value, &error)),
        }
    }

    /// A string of at most [`MAX_NAME_BYTES`] with something in it.
    pub fn optional_id(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        match self.optional_string(name)? {
            Some(id) if id.is_empty() => Err(bad_request(format!("{name}: empty"))),
            id => Ok(id),
        }
    }

    /// A boolean; absent and null are `default`.
    pub fn boolean_or(&mut self, name: &str, default: bool) -> Result<bool, RequestError> {
        let Some(value) = self.take(name) else { return Ok(default) };
        serde_json::from_str(value.get())
            .map_err(|error| not_as_wanted(name, "a boolean", value, &error))
    }

    /// A whole number from `min` to 255.
    pub fn small_number(&mut self, name: &str, min: u8) -> Result<u8, RequestError> {
        let expected = format!("a whole number from {min} to 255");
        self.optional_small_number(name, min)?.ok_or_else(|| missing(name, &expected))
    }

    /// The same, where absent and null are allowed.
    pub fn optional_small_number(
        &mut self,
        name: &str,
        min: u8,
    ) -> Result<Option<u8>, RequestError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = whole_number(value).and_then(|n| u8::try_from(n).ok());
        let expected = format!("a whole number from {min} to 255");
        let number = number.filter(|&n| n >= min);
        number.map(Some).ok_or_else(|| mismatch(name, &expected, value))
    }

    /// A whole number, as JavaScript has them.
    pub fn whole_number(&self, name: &str) -> Option<u64> {
        self.raw(name).and_then(whole_number)
    }

    /// An object of at most [`MAX_PASSED_ON_BYTES`] that is passed on as it is; absent and null
    /// are `{}`.
    pub fn passed_on(&mut self, name: &str) -> Result<JsonObject, RequestError> {
        let Some(value) = self.take(name) else { return Ok(JsonObject::default()) };
        if value.get().len() > MAX_PASSED_ON_BYTES {
            let reason = format!("{name}: more than {MAX_PASSED_ON_BYTES} bytes of JSON");
            return Err(bad_request(reason));
        }
        serde_json::from_str(value.get())
            .map_err(|error| not_as_wanted(name, "an object", value, &error))
    }

    /// A value with a type of its own.
    pub fn typed<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RequestError> {
        self.optional_typed(name)?.ok_or_else(|| missing(name, "an object"))
    }

    /// The same, where absent and null are allowed.
    pub fn optional_typed<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, RequestError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let mut json = serde_json::Deserializer::from_str(value.get());
        serde_path_to_error::deserialize(&mut json).map(Some).map_err(|error| {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') { "" } else { "." };
            let reason = reason(error.inner());
            match path.as_str() {
                "." => bad_request(format!("{name}: {reason}")),
                path => bad_request(format!("{name}{dot}{path}: {reason}")),
            }
        })
    }

    /// A member that is there and not null. Of equal names the last one counts.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let value = self.raw(name)?;
        self.0.retain(|(known, _)| known != name);
        Some(value).filter(|value| value.get() != "null")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom(format!("more than {MAX_MEMBERS} members")));
            }
            members.push((name, value));
        }
        Ok(Fields(members))
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn whole_number(value: &RawValue) -> Option<u64> {
    /// Above this, JavaScript's numbers leave whole ones out.
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    let number: f64 = serde_json::from_str(value.get()).ok()?;
    let is_whole = number.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&number);
    is_whole.then_some(number as u64)
}

fn missing(name: &str, expected: &str) -> RequestError {
    bad_request(format!("{name}: missing; expected {expected}"))
}

/// A value of the wrong kind, or of the right one with something wrong in it.
fn not_as_wanted(
    name: &str,
    expected: &str,
    value: &RawValue,
    error: &serde_json::Error,
) -> RequestError {
    match kind_of(value) == expected {
        true => bad_request(format!("{name}: {}", reason(error))),
        false => mismatch(name, expected, value),
    }
}

fn mismatch(name: &str, expected: &str, found: &RawValue) -> RequestError {
    bad_request(format!("{name}: expected {expected}, found {}", kind_of(found)))
}

/// What a value is, by its first byte.
fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "another number",
    }
}

/// An error without its place: lines and columns of a part say nothing to whoever sent the whole.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use opencall_control::api::DtlsParameters;
    use serde_json::{Value, json};

    use super::*;

    /// The members of an object that lives as long as the test.
    fn fields(data: Value) -> Fields<'static> {
        let text: &'static str = data.to_string().leak();
        Fields::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn missing_and_null_data_read_as_an_empty_object() {
        for frame in [json!({}), json!({"data": null}), json!({"data": {}})] {
            let mut fields = fields(frame).nested("data").unwrap();
            assert_eq!(fields.optional_string("x").unwrap(), None);
            assert!(fields.boolean_or("x", true).unwrap());
        }
    }

    #[test]
    fn errors_name_the_member() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        let table: [(RequestError, &str); 10] = [
            (
                fields(json!({"data": [1]})).nested("data").err().unwrap(),
                "data: expected an object, found an array",
            ),
            (fields(json!({})).string("a").unwrap_err(), "a: missing; expected a string"),
            (
                fields(json!({"a": 1})).string("a").unwrap_err(),
                "a: expected a string, found another number",
            ),
            (fields(json!({"a": long})).string("a").unwrap_err(), "a: longer than 256 bytes"),
            (fields(json!({"a": ""})).optional_id("a").unwrap_err(), "a: empty"),
            (
                fields(json!({"a": "1"})).boolean_or("a", false).unwrap_err(),
                "a: expected a boolean, found a string",
            ),
            (
                fields(json!({"a": 0})).small_number("a", 1).unwrap_err(),
                "a: expected a whole number from 1 to 255, found another number",
            ),
            (
                fields(json!({"a": 1.5})).small_number("a", 0).unwrap_err(),
                "a: expected a whole number from 0 to 255, found another number",
            ),
            (
                fields(json!({"a": {"b": "x".repeat(MAX_PASSED_ON_BYTES)}}))
                    .passed_on("a")
                    .unwrap_err(),
                "a: more than 4096 bytes of JSON",
            ),
            (
                fields(json!({"a": []})).passed_on("a").unwrap_err(),
                "a: expected an object, found an array",
            ),
        ];
        for (error, text) in table {
            assert_eq!((error.code, error.reason.as_str()), (400, text));
        }
    }

    #[test]
    fn errors_of_typed_members_carry_the_path() {
        let table = [
            (json!({}), "dtls: missing; expected an object"),
            (json!({"dtls": {}}), "dtls: missing field `fingerprints`"),
            (
                json!({"dtls": {"fingerprints": [{"algorithm": "sha-256", "value": 7}]}}),
                "dtls.fingerprints[0].value: invalid type: integer `7`, expected a string",
            ),
            (
                json!({"dtls": {"role": "boss", "fingerprints": []}}),
                "dtls.role: unknown variant `boss`, expected one of `auto`, `client`, `server`",
            ),
        ];
        for (data, text) in table {
            let error = fields(data).typed::<DtlsParameters>("dtls").unwrap_err();
            assert_eq!(error.reason, text);
        }
    }

    #[test]
    fn numbers_are_those_of_javascript() {
        for (text, number) in [("2", Some(2)), ("2.0", Some(2)), ("2e1", Some(20)), ("-0", Some(0))]
        {
            let frame = format!("{{\"n\":{text}}}");
            assert_eq!(Fields::parse(&frame).unwrap().whole_number("n"), number, "{text}");
            let layer = Fields::parse(&frame).unwrap().small_number("n", 0).unwrap();
            assert_eq!(Some(u64::from(layer)), number, "{text}");
        }
        for text in ["2.5", "-1", "1e300", "\"2\"", "true", "null", "[2]"] {
            let frame = format!("{{\"n\":{text}}}");
            assert_eq!(Fields::parse(&frame).unwrap().whole_number("n"), None, "{text}");
        }
    }

    #[test]
    fn long_names_are_shortened_between_characters() {
        let family = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}\u{200D}\u{1F466}";
        let name = family.repeat(11);
        assert_eq!(name.len(), 275);
        let shown = fields(json!({"name": name})).shown_name("name").unwrap();
        assert_eq!(shown, Some(name), "eleven families fit");
        let shown = fields(json!({"name": "é".repeat(1_000)})).shown_name("name").unwrap();
        assert_eq!(shown, Some("é".repeat(MAX_SHOWN_NAME_BYTES / 2)));
    }

    #[test]
    fn of_equal_members_the_last_one_counts_and_their_number_is_bounded() {
        let mut fields = Fields::parse(r#"{"a":"1","\u0061":"2","b":null}"#).unwrap();
        assert_eq!(fields.string("a").unwrap(), "2");
        assert_eq!(fields.optional_string("a").unwrap(), None);
        assert_eq!(fields.optional_string("b").unwrap(), None);
        let many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("\"{n}\":0")).collect();
        assert!(Fields::parse(&format!("{{{}}}", many.join(","))).is_err());
    }
}
