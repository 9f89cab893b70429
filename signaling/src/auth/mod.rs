//! Join tokens: who may enter which room, and what for. JWTs with LiveKit's claims, signed with an
//! API key (HS256) or by an identity provider (RS256, ES256, EdDSA by JWK Set).
//!
//! * [`admin`] — keys of administrators, which no token is made with.
//! * [`claims`] — what a token says, and whom it lets in.
//! * [`error`] — why it does not, with a code and a sentence.
//! * [`keys`], [`jwks`] — secrets and public keys; [`watched`] files and [`remote`] sets of them.
//! * [`verifier`] — token and keys in, admission out; no clock, no socket.
//! * [`presented`] — where a request carries its token.
//! * [`mint`] — `opencall-sfu token`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod claims;
pub mod error;
mod fetch;
pub mod jwks;
pub mod keys;
pub mod mint;
pub mod presented;
pub mod remote;
#[cfg(test)]
mod tests;
pub mod verifier;
pub mod watched;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use self::claims::Admission;
use self::error::TokenError;
use self::jwks::KeySet;
use self::keys::ApiKeys;
use self::presented::Presented;
use self::remote::RemoteKeys;
use self::verifier::{Demands, Keys, verify};
use self::watched::Watched;
use crate::outgoing::url::HttpUrl;

/// Where the keys are, and what tokens must have. No `Debug`: it holds secrets.
#[derive(Default)]
pub struct AuthConfig {
    /// Keys of the command line.
    pub keys: ApiKeys,
    /// A file of more.
    pub keys_file: Option<Watched<ApiKeys>>,
    /// A file with a JWK Set.
    pub set_file: Option<Watched<KeySet>>,
    /// A JWK Set elsewhere.
    pub set_url: Option<HttpUrl>,
    /// Audience and issuer.
    pub demands: Demands,
}

impl AuthConfig {
    /// Whether there is nothing to verify a token with: everyone may enter.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
            && self.keys_file.is_none()
            && self.set_file.is_none()
            && self.set_url.is_none()
    }
}

/// Lets holders of tokens in; everyone, if the server has no keys.
pub struct Auth {
    config: AuthConfig,
    remote: Option<RemoteKeys>,
}

impl Auth {
    /// With these keys.
    pub fn new(mut config: AuthConfig) -> Arc<Self> {
        let remote = config.set_url.take().map(RemoteKeys::new);
        Arc::new(Auth { config, remote })
    }

    /// Whether everyone may enter.
    pub fn is_open(&self) -> bool {
        self.remote.is_none() && self.config.is_open()
    }

    /// What anyone may know of it, for `GET /v1/server`.
    pub fn describe(&self) -> Value {
        let auth = if self.is_open() { "open" } else { "tokens" };
        json!({"auth": auth, "version": env!("CARGO_PKG_VERSION")})
    }

    /// Says at start what an operator should know of it.
    pub fn log_start(&self) {
        if self.is_open() {
            tracing::warn!(
                "no tokens are asked for: anyone who reaches this server may enter any meeting \
                 under any name; give --auth-key, --auth-keys-file or --auth-jwks-url to require \
                 join tokens"
            );
        }
        if let Some(remote) = self.remote.as_ref().filter(|remote| remote.url().is_exposed()) {
            tracing::warn!(
                url = %remote.url(),
                "--auth-jwks-url is not https: whoever is on the way can exchange the keys"
            );
        }
    }

    /// Keeps the keys of a URL fresh; never ends.
    pub async fn run(&self) {
        match &self.remote {
            Some(remote) => remote.run().await,
            None => std::future::pending().await,
        }
    }

    /// Whom the token of a request lets in; nobody in particular, if everyone may enter.
    pub async fn admit(&self, presented: &Presented) -> Result<Option<Admission>, TokenError> {
        if self.is_open() {
            return Ok(None);
        }
        let token = presented.token().ok_or(TokenError::Missing)?;
        let remote = self.remote.as_ref();
        let known = self.verify(token, remote.map(RemoteKeys::current));
        match (known, remote) {
            (Err(TokenError::UnknownKey(reason)), Some(remote)) => match remote.renewed().await {
                Some(keys) => self.verify(token, Some(keys)).map(Some),
                None => Err(TokenError::UnknownKey(reason)),
            },
            (known, _) => known.map(Some),
        }
    }

    /// The API key of that name, to sign with.
    pub fn signing_key(&self, name: &str) -> Option<EncodingKey> {
        let file = self.config.keys_file.as_ref().map(|file| file.current(Instant::now()));
        let sets = [Some(&self.config.keys), file.as_deref()];
        sets.into_iter().flatten().find_map(|keys| keys.encoding(name))
    }

    fn verify(&self, token: &str, remote: Option<Arc<KeySet>>) -> Result<Admission, TokenError> {
        let AuthConfig { keys, keys_file, set_file, demands, .. } = &self.config;
        let now = Instant::now();
        let keys_file = keys_file.as_ref().map(|file| file.current(now));
        let set_file = set_file.as_ref().map(|file| file.current(now));
        let api: Vec<&ApiKeys> = [Some(keys), keys_file.as_deref()].into_iter().flatten().collect();
        let public: Vec<&KeySet> =
            [set_file.as_deref(), remote.as_deref()].into_iter().flatten().collect();
        verify(token, &Keys { api: &api, public: &public }, demands, unix_now())
    }
}

/// Unix time, seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
