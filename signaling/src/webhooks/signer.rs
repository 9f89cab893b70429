//! The signature of a webhook: a JWT of its receiver's key over the hash of its body, as LiveKit's
//! server SDKs check it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::WebhookKey;
use crate::auth::Auth;

/// How long a signature is good, seconds: a webhook is signed anew for each attempt.
const VALIDITY_S: u64 = 300;

/// What clocks may differ by, seconds.
const LEEWAY_S: u64 = 60;

/// LiveKit's claims. Without a subject and a grant it is no join token.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    nbf: u64,
    exp: u64,
    sha256: String,
}

/// Signs with a key of its own, or with one of join tokens. No `Debug`: it holds secrets.
pub struct Signer {
    key: WebhookKey,
    auth: Arc<Auth>,
}

impl Signer {
    /// With that key, which may be one of `auth`.
    pub fn new(key: WebhookKey, auth: Arc<Auth>) -> Self {
        Signer { key, auth }
    }

    /// The value of the `Authorization` header for a body; the error is one sentence.
    pub fn sign(&self, body: &[u8], now_s: u64) -> Result<String, String> {
        let (name, key) = self.key()?;
        let claims = Claims {
            iss: name,
            nbf: now_s.saturating_sub(LEEWAY_S),
            exp: now_s + VALIDITY_S,
            sha256: BASE64_STANDARD.encode(digest(&SHA256, body)),
        };
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &claims, &key).map_err(|error| error.to_string())
    }

    /// Files of keys may have changed.
    fn key(&self) -> Result<(&str, EncodingKey), String> {
        let (name, key) = match &self.key {
            WebhookKey::Own { name, keys } => (name, keys.encoding(name)),
            WebhookKey::OfTokens(name) => (name, self.auth.signing_key(name)),
        };
        let key = key.ok_or_else(|| format!("the key \"{name}\" of --webhook-key is gone"))?;
        Ok((name, key))
    }
}
