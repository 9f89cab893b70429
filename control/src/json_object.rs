//! Objects of JSON that clients write and others receive as they are: `appData`, `device`.
//!
//! They are kept as text, read no further than their members' names, and shared by everyone they
//! go to: a tree of values takes up to a hundred times the memory of its text, and a copy for each
//! recipient would make a small request dear.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Members of one object. Real ones have under ten; each costs two small allocations.
pub const MAX_MEMBERS: usize = 64;

/// One member: its name and its value's text.
type Written = (Box<str>, Box<RawValue>);

/// An object that is passed on; cheap to clone.
#[derive(Clone, Default)]
pub struct JsonObject(Option<Arc<[Written]>>);

impl JsonObject {
    /// The members, in the order in which they were written.
    pub fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        let members = self.0.as_deref().unwrap_or_default();
        members.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The text of one member's value.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.members().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A member that is a string.
    pub fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Whether a member is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.get() == "true")
    }

    /// Bytes of it as JSON, give or take escapes in names.
    pub fn size(&self) -> usize {
        2 + self.members().map(|(name, value)| name.len() + value.get().len() + 4).sum::<usize>()
    }

    /// How deep it nests, and how many values are in it.
    pub fn shape(&self) -> Shape {
        let mut shape = Shape { depth: 1, values: 1 };
        for (_, value) in self.members() {
            shape.add(value.get());
        }
        shape
    }

    /// The same object with other or further members, which replace those of their names.
    pub fn with<'a>(&'a self, members: &'a [(&'a str, Member<'a>)]) -> With<'a> {
        With { object: self, members }
    }
}

/// What an object would be as a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Levels of objects and arrays, itself included.
    pub depth: usize,
    /// Values, itself and names included.
    pub values: usize,
}

impl Shape {
    /// Adds a member, which is valid JSON.
    fn add(&mut self, json: &str) {
        let (mut depth, mut in_string, mut escaped) = (1, false, false);
        self.values += 1;
        for byte in json.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => {
                    depth += 1;
                    self.depth = self.depth.max(depth);
                    self.values += 1;
                }
                b'}' | b']' => depth -= 1,
                b',' | b':' => self.values += 1,
                _ => {}
            }
        }
    }
}

/// The value of a member that is put into an object.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Member<'a> {
    /// A string.
    Text(&'a str),
    /// A boolean.
    Flag(bool),
}

/// [`JsonObject::with`]: other values instead of what the object has under these names.
pub struct With<'a> {
    object: &'a JsonObject,
    members: &'a [(&'a str, Member<'a>)],
}

impl Serialize for With<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.object.members() {
            if !self.members.iter().any(|(replaced, _)| *replaced == name) {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in self.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.members())
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = JsonObject;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
        let mut members: Vec<Written> = Vec::new();
        while let Some((name, value)) = map.next_entry::<Box<str>, Box<RawValue>>()? {
            // The last of equal names wins, as in JavaScript.
            if let Some(member) = members.iter_mut().find(|(known, _)| *known == name) {
                member.1 = value;
                continue;
            }
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom(format!("more than {MAX_MEMBERS} members")));
            }
            members.push((name, value));
        }
        Ok(JsonObject((!members.is_empty()).then(|| members.into())))
    }
}

impl PartialEq for JsonObject {
    fn eq(&self, other: &Self) -> bool {
        let texts = |(name, value): (_, &RawValue)| (name, value.get().to_owned());
        self.members().map(texts).eq(other.members().map(texts))
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.members().map(|(name, value)| (name, value.get()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(text: &str) -> JsonObject {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_passed_on_is_what_was_written() {
        for text in ["{}", r#"{"a":1}"#, r#"{"source":"webcam","deep":{"x":[1,2.50,"\u00e9"]}}"#] {
            let object = object(text);
            assert_eq!(serde_json::to_string(&object).unwrap(), text);
            assert_eq!(serde_json::to_string(&object.clone()).unwrap(), text);
            assert!(object.size() >= text.len(), "{text}");
        }
    }

    #[test]
    fn members_are_read_and_replaced() {
        let object = object(r#"{"source":"webcam","share":true,"n":1,"source":"screen"}"#);
        assert_eq!(object.string("source").as_deref(), Some("screen"), "the last one wins");
        assert!(object.is_true("share") && !object.is_true("n"));
        assert_eq!(object.string("n"), None);
        let with =
            object.with(&[("source", Member::Text("video")), ("peerId", Member::Text("anna\""))]);
        let expected = json!({"source": "video", "share": true, "n": 1, "peerId": "anna\""});
        assert_eq!(json!(with), expected);
    }

    #[test]
    fn what_is_no_object_or_has_too_many_members_is_refused() {
        for text in ["[]", "1", "null", "\"{}\""] {
            assert!(serde_json::from_str::<JsonObject>(text).is_err(), "{text}");
        }
        let members = |count: usize| {
            let all: Vec<String> = (0..count).map(|n| format!("\"{n}\":{n}")).collect();
            format!("{{{}}}", all.join(","))
        };
        assert!(serde_json::from_str::<JsonObject>(&members(MAX_MEMBERS)).is_ok());
        assert!(serde_json::from_str::<JsonObject>(&members(MAX_MEMBERS + 1)).is_err());
    }

    #[test]
    fn the_shape_is_that_of_the_tree() {
        let table = [
            ("{}", 1, 1),
            (r#"{"a":1}"#, 1, 2),
            (r#"{"a":"[[[{\"},:"}"#, 1, 2),
            (r#"{"a":[[1]]}"#, 3, 4),
            (r#"{"a":[{"":[]},{"":[]}]}"#, 4, 10),
        ];
        for (text, depth, values) in table {
            assert_eq!(object(text).shape(), Shape { depth, values }, "{text}");
        }
    }

    #[test]
    fn a_clone_shares_the_text() {
        let object = object(r#"{"a":"b"}"#);
        let (one, other) = (object.clone(), object.clone());
        assert!(std::ptr::eq(one.get("a").unwrap(), other.get("a").unwrap()));
    }
}
