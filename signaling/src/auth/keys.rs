//! API keys: names and their secrets, for HS256.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{DecodingKey, EncodingKey};
use zeroize::Zeroizing;

/// A secret has at least as many bytes as the hash (RFC 7518 §3.2): a shorter one can be guessed
/// from one token, without asking the server.
const MIN_SECRET_BYTES: usize = 32;

/// Longest name of a key: real ones have 15.
const MAX_NAME_BYTES: usize = 256;

/// Keys at most: a bound for a file that is not one of keys.
const MAX_KEYS: usize = 1000;

/// Names and secrets. No `Debug`: they are secrets.
#[derive(Clone, Default)]
pub struct ApiKeys(BTreeMap<String, Zeroizing<String>>);

impl ApiKeys {
    /// From `KEY=SECRET` texts.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut keys = ApiKeys::default();
        for pair in pairs {
            let Some((name, secret)) = pair.split_once('=') else {
                return Err("expected KEY=SECRET".into());
            };
            keys.add(name, secret)?;
        }
        Ok(keys)
    }

    /// From a file: one `KEY=SECRET` or, as LiveKit's key files have it, `KEY: SECRET` on a line;
    /// empty lines and those that begin with `#` are skipped.
    pub fn from_file(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not text in UTF-8")?;
        let mut keys = ApiKeys::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |reason: &str| format!("line {}: {reason}", index + 1);
            // The first of the two: a secret may have any of them, a name none.
            let Some((name, secret)) = line.split_once(['=', ':']) else {
                return Err(at("expected KEY=SECRET or KEY: SECRET"));
            };
            keys.add(name, secret).map_err(|reason| at(&reason))?;
        }
        if keys.0.is_empty() {
            return Err("it has no keys; expected lines KEY=SECRET".into());
        }
        Ok(keys)
    }

    /// The secret is never part of the error.
    fn add(&mut self, name: &str, secret: &str) -> Result<(), String> {
        let (name, secret) = (name.trim(), secret.trim());
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(format!("a key's name has 1 to {MAX_NAME_BYTES} bytes"));
        }
        if secret.len() < MIN_SECRET_BYTES {
            return Err(format!(
                "the secret of key \"{name}\" has {} bytes, {MIN_SECRET_BYTES} are the least: make \
                 one with openssl rand -base64 32",
                secret.len()
            ));
        }
        if self.0.len() >= MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        let secret = Zeroizing::new(secret.to_owned());
        if self.0.insert(name.to_owned(), secret).is_some() {
            return Err(format!("key \"{name}\" is there twice: remove one"));
        }
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The name of the key whose secret this is. All are compared, each by its hash and in constant
    /// time: how long it takes tells nothing of them.
    pub fn holder(&self, secret: &str) -> Option<&str> {
        let hash = |text: &str| digest(&SHA256, text.as_bytes());
        let given = hash(secret);
        self.0.iter().fold(None, |found, (name, known)| {
            match verify_slices_are_equal(hash(known).as_ref(), given.as_ref()) {
                Ok(()) => Some(name.as_str()),
                Err(_) => found,
            }
        })
    }

    /// A key whose secret one of `others` has as well.
    pub fn shared_with(&self, others: &ApiKeys) -> Option<&str> {
        let shares = |secret: &Zeroizing<String>| others.0.values().any(|other| other == secret);
        self.0.iter().find(|(_, secret)| shares(secret)).map(|(name, _)| name.as_str())
    }

    /// The key of that name, to verify with.
    pub fn decoding(&self, name: &str) -> Option<DecodingKey> {
        DecodingKey::from_secret(self.0.get(name)?.as_bytes()).ok()
    }

    /// The key of that name, to sign with.
    pub fn encoding(&self, name: &str) -> Option<EncodingKey> {
        EncodingKey::from_secret(self.0.get(name)?.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

    fn names(keys: &ApiKeys) -> Vec<&str> {
        keys.names().collect()
    }

    #[test]
    fn both_forms_of_files_are_read() {
        let text = format!("# keys\n\nalpha={SECRET}=\nbeta: {SECRET}:=\r\n");
        let keys = ApiKeys::from_file(text.as_bytes()).unwrap();
        assert_eq!(names(&keys), ["alpha", "beta"]);
        assert_eq!(keys.0["alpha"].as_str(), format!("{SECRET}="));
        assert_eq!(keys.0["beta"].as_str(), format!("{SECRET}:="));
        assert!(keys.decoding("alpha").is_some() && keys.decoding("gamma").is_none());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let short = &SECRET[1..];
        let table = [
            (String::new(), "no keys"),
            ("# only a comment".to_owned(), "no keys"),
            ("\u{0}".to_owned(), "expected KEY=SECRET"),
            (SECRET.to_owned(), "line 1: expected KEY=SECRET"),
            (format!("\nalpha={short}"), "line 2: the secret of key \"alpha\" has 31 bytes"),
            (format!("={SECRET}"), "a key's name"),
            (format!("alpha={SECRET}\nalpha={SECRET}"), "twice"),
        ];
        for (text, word) in table {
            let Err(error) = ApiKeys::from_file(text.as_bytes()) else { panic!("{word}: taken") };
            assert!(error.contains(word), "{error}");
            assert!(!error.contains(short), "{error}");
        }
        assert!(ApiKeys::from_file(b"\xff").is_err());
        let many: String = (0..=MAX_KEYS).map(|index| format!("k{index}={SECRET}\n")).collect();
        assert!(ApiKeys::from_file(many.as_bytes()).is_err_and(|error| error.contains("1000")));
    }

    #[test]
    fn the_holder_of_a_secret_is_found_by_the_whole_of_it() {
        let other = SECRET.replace('0', "1");
        let pairs = [format!("alpha={SECRET}"), format!("beta={other}")];
        let keys = ApiKeys::from_pairs(pairs.iter().map(String::as_str)).unwrap();
        assert_eq!(keys.holder(SECRET), Some("alpha"));
        assert_eq!(keys.holder(&other), Some("beta"));
        for wrong in ["", "alpha", &SECRET[1..], &format!("{SECRET} ")] {
            assert_eq!(keys.holder(wrong), None, "{wrong}");
        }
        let shared = ApiKeys::from_pairs([format!("gamma={other}").as_str()]).unwrap();
        assert_eq!(keys.shared_with(&shared), Some("beta"));
        assert_eq!(ApiKeys::default().shared_with(&keys), None);
    }

    #[test]
    fn pairs_of_the_command_line_are_read() {
        let keys = ApiKeys::from_pairs([format!("alpha={SECRET}").as_str()]).unwrap();
        assert_eq!(names(&keys), ["alpha"]);
        assert!(ApiKeys::from_pairs(["alpha"]).is_err_and(|error| error.contains("KEY=SECRET")));
    }
}
