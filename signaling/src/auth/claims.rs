//! What a token says, in LiveKit's claims, and whom it lets in.
#![forbid(unsafe_code)]

use opencall_control::api::{Grants, Source, Sources};
use serde::{Deserialize, Serialize};

use super::error::TokenError;
use super::verifier::LEEWAY_SECS;
use crate::envelope::fields::MAX_NAME_BYTES;

/// The claims that matter here (RFC 7519 §4.1, and LiveKit's `video` and `name`); others are
/// ignored, among them `metadata`, which nothing passes on yet.
#[derive(Default, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it: the name of the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The services it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Unix time from which on it is not valid any more, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<f64>,
    /// Unix time from which on it is valid, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
    /// Name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Audience::One(name) => name == wanted,
            Audience::Several(names) => names.iter().any(|name| name == wanted),
        }
    }
}

/// LiveKit's `video` claim. What is absent is refused, but for `canX`, which is allowed then.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May join `room`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_join: Option<bool>,
    /// The room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// May administer it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_admin: Option<bool>,
    /// May have it recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_record: Option<bool>,
    /// May send media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// May receive media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// May send data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// May send these sources only; an empty list is every source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_sources: Option<Vec<String>>,
    /// May change its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Others are told nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<bool>,
    /// Records the room: nobody is told of it either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorder: Option<bool>,
}

/// Whom a token lets in, where, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The room.
    pub room: String,
    /// The peer (participant) id.
    pub identity: String,
    /// What it may do.
    pub grants: Grants,
}

impl Admission {
    /// Whether what the client calls its room and itself, if it does, is what its token says.
    pub fn check(&self, room: Option<&str>, identity: Option<&str>) -> Result<(), TokenError> {
        if let Some(asked) = room.filter(|asked| *asked != self.room) {
            let (granted, asked) = (self.room.clone(), asked.to_owned());
            return Err(TokenError::WrongRoom { granted, asked });
        }
        if let Some(asked) = identity.filter(|asked| *asked != self.identity) {
            let (granted, asked) = (self.identity.clone(), asked.to_owned());
            return Err(TokenError::WrongIdentity { granted, asked });
        }
        Ok(())
    }
}

impl Claims {
    /// Whether the token is valid at `now` (Unix time, seconds).
    pub(super) fn check_time(&self, now: u64) -> Result<(), TokenError> {
        let Some(expires) = self.exp.filter(|exp| exp.is_finite()) else {
            return Err(TokenError::Malformed("exp is missing: every token must expire".into()));
        };
        // Casts from f64 saturate.
        let expires = expires.max(0.0) as u64;
        if expires.saturating_add(LEEWAY_SECS) <= now {
            return Err(TokenError::Expired(now - expires));
        }
        let begins = self.nbf.unwrap_or_default().max(0.0) as u64;
        if begins > now.saturating_add(LEEWAY_SECS) {
            return Err(TokenError::NotYetValid(begins - now));
        }
        Ok(())
    }

    /// Whether the token is meant for this service. One that names its audience is refused by all
    /// that do not find themselves in it (RFC 7519 §4.1.3).
    pub(super) fn check_audience(&self, wanted: Option<&str>) -> Result<(), TokenError> {
        match (&self.aud, wanted) {
            (None, None) => Ok(()),
            (Some(audience), Some(wanted)) if audience.has(wanted) => Ok(()),
            _ => Err(TokenError::WrongAudience),
        }
    }

    /// Whom the token lets in.
    pub(super) fn admission(self) -> Result<Admission, TokenError> {
        let video = self.video.unwrap_or_default();
        if video.room_join != Some(true) {
            return Err(TokenError::NoJoinGrant);
        }
        let room = text("room", video.room.clone())?.ok_or(TokenError::NoRoom)?;
        let identity = text("sub", self.sub)?.ok_or(TokenError::NoIdentity)?;
        let display_name = text("name", self.name)?;
        Ok(Admission { room, identity, grants: video.grants(display_name) })
    }
}

impl VideoGrant {
    fn grants(&self, display_name: Option<String>) -> Grants {
        let allowed = |grant: Option<bool>| grant.unwrap_or(true);
        let given = |grant: Option<bool>| grant.unwrap_or(false);
        let sources = match self.can_publish_sources.as_deref() {
            None | Some([]) => Sources::ALL,
            // A source that is not known here is not granted.
            Some(names) => names.iter().filter_map(|name| Source::from_label(name)).collect(),
        };
        Grants {
            identity_proven: true,
            display_name,
            rename: given(self.can_update_own_metadata),
            publish: allowed(self.can_publish),
            sources,
            subscribe: allowed(self.can_subscribe),
            data: allowed(self.can_publish_data),
            admin: given(self.room_admin),
            record: given(self.room_record),
            hidden: given(self.hidden) || given(self.recorder),
            plain_rtp: false,
        }
    }
}

/// A text that is shown or used as an id: not empty, and as short as those of clients must be.
fn text(claim: &str, value: Option<String>) -> Result<Option<String>, TokenError> {
    match value {
        Some(value) if value.len() > MAX_NAME_BYTES => {
            Err(TokenError::Malformed(format!("{claim} is longer than {MAX_NAME_BYTES} bytes")))
        }
        value => Ok(value.filter(|value| !value.is_empty())),
    }
}
