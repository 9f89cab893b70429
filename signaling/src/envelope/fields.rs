//! Typed reading of the members of a JSON object, with errors that name the member.
#![forbid(unsafe_code)]

use opencall_control::api::RequestError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Longest id or name taken, in bytes. Ids of real clients are UUIDs or short words; what is shown
/// to people is passed on to everyone in the room, so a longer one would be a lever.
pub const MAX_NAME_BYTES: usize = 256;

/// Largest `device` or `appData` taken, in bytes of JSON: both are passed on to everyone in the
/// room. Real ones have under 200.
pub const MAX_PASSED_ON_BYTES: usize = 4096;

/// A malformed request: the text goes to the client.
pub fn bad_request(reason: impl Into<String>) -> RequestError {
    RequestError { code: 400, reason: reason.into() }
}

/// The members of a request's `data`, taken out one by one.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// From `data`; missing or null reads as `{}`.
    pub fn new(data: Option<Value>) -> Result<Self, RequestError> {
        match data {
            None | Some(Value::Null) => Ok(Fields(Map::new())),
            Some(Value::Object(members)) => Ok(Fields(members)),
            Some(other) => Err(mismatch("data", "an object", &other)),
        }
    }

    /// A string of at most [`MAX_NAME_BYTES`].
    pub fn string(&mut self, name: &str) -> Result<String, RequestError> {
        self.optional_string(name)?.ok_or_else(|| missing(name, "a string"))
    }

    /// The same, where absent and null are allowed.
    pub fn optional_string(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() > MAX_NAME_BYTES => {
                Err(bad_request(format!("{name}: longer than {MAX_NAME_BYTES} bytes")))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mismatch(name, "a string", &other)),
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
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(value),
            Some(other) => Err(mismatch(name, "a boolean", &other)),
        }
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
        let number = value.as_u64().and_then(|n| u8::try_from(n).ok()).filter(|&n| n >= min);
        let expected = format!("a whole number from {min} to 255");
        number.map(Some).ok_or_else(|| mismatch(name, &expected, &value))
    }

    /// An object of at most [`MAX_PASSED_ON_BYTES`] that is passed on as it is; absent and null
    /// are `{}`.
    pub fn passed_on(&mut self, name: &str) -> Result<Map<String, Value>, RequestError> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(members)) => {
                let bytes = serde_json::to_string(&members).map_or(usize::MAX, |text| text.len());
                if bytes > MAX_PASSED_ON_BYTES {
                    let reason = format!("{name}: more than {MAX_PASSED_ON_BYTES} bytes of JSON");
                    return Err(bad_request(reason));
                }
                Ok(members)
            }
            Some(other) => Err(mismatch(name, "an object", &other)),
        }
    }

    /// The members of an object within; absent and null are `{}`.
    pub fn nested(&mut self, name: &str) -> Result<Fields, RequestError> {
        match self.take(name) {
            None => Ok(Fields(Map::new())),
            Some(Value::Object(members)) => Ok(Fields(members)),
            Some(other) => Err(mismatch(name, "an object", &other)),
        }
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
        serde_path_to_error::deserialize(value).map(Some).map_err(|error| {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') { "" } else { "." };
            match path.as_str() {
                "." => bad_request(format!("{name}: {}", error.inner())),
                path => bad_request(format!("{name}{dot}{path}: {}", error.inner())),
            }
        })
    }

    /// A member that is there and not null.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }
}

fn missing(name: &str, expected: &str) -> RequestError {
    bad_request(format!("{name}: missing; expected {expected}"))
}

fn mismatch(name: &str, expected: &str, found: &Value) -> RequestError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    bad_request(format!("{name}: expected {expected}, found {found}"))
}

#[cfg(test)]
mod tests {
    use opencall_control::api::DtlsParameters;
    use serde_json::json;

    use super::*;

    fn fields(data: Value) -> Fields {
        Fields::new(Some(data)).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn missing_and_null_data_read_as_an_empty_object() {
        for data in [None, Some(Value::Null), Some(json!({}))] {
            let mut fields = Fields::new(data).unwrap();
            assert_eq!(fields.optional_string("x").unwrap(), None);
            assert!(fields.boolean_or("x", true).unwrap());
        }
    }

    #[test]
    fn errors_name_the_member() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        let table: [(RequestError, &str); 10] = [
            (
                Fields::new(Some(json!([1]))).err().unwrap(),
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
}
