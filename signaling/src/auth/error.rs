//! Why a token lets nobody in: a code for programs, a sentence for people, an HTTP status.
#![forbid(unsafe_code)]

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use opencall_control::api::RequestError;
use serde_json::json;

use super::verifier::{LEEWAY_SECS, MAX_TOKEN_BYTES};

/// Why a token was refused. The text tells its holder what to do; no token is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is none.
    #[error(
        "this server wants a join token: pass it as ?access_token=… or in an Authorization: Bearer \
         header"
    )]
    Missing,
    /// It is longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes: shorten its name or metadata")]
    TooLarge,
    /// It is not a JWT, or its claims are not of their types.
    #[error("the token cannot be read ({0}): mint it anew")]
    Malformed(String),
    /// Signed in a way that is not accepted, or not with the key that it names.
    #[error("the token is signed with {0}: this server takes {1}")]
    WrongAlgorithm(String, &'static str),
    /// The key it names is not known here.
    #[error("the token's key is not known here: {0}")]
    UnknownKey(&'static str),
    /// The signature is not that of its key.
    #[error("the token's signature is wrong: was it minted with this server's secret?")]
    BadSignature,
    /// `exp` has passed.
    #[error("the token expired {0} s ago: ask for a new one")]
    Expired(u64),
    /// `nbf` is still to come.
    #[error(
        "the token is valid in {0} s only: look at the clocks of its maker and of this server \
         ({LEEWAY_SECS} s are forgiven)"
    )]
    NotYetValid(u64),
    /// `iss` is not `--auth-issuer`.
    #[error("the token is from another issuer than this server takes tokens from")]
    WrongIssuer,
    /// `aud` does not have `--auth-audience`.
    #[error("the token is meant for another service: its aud must name this server's audience")]
    WrongAudience,
    /// `video.roomJoin` is not true.
    #[error("the token does not let its holder join a room: the grant roomJoin is missing")]
    NoJoinGrant,
    /// `video.room` is missing.
    #[error("the token names no room: mint it with the grant room")]
    NoRoom,
    /// `sub` is missing.
    #[error("the token names nobody: mint it with an identity (sub)")]
    NoIdentity,
    /// The client asks for another room.
    #[error("the token is for room \"{granted}\", not for \"{asked}\"")]
    WrongRoom {
        /// The token's.
        granted: String,
        /// The client's.
        asked: String,
    },
    /// The client gives itself another name.
    #[error("the token is for \"{granted}\", not for \"{asked}\"")]
    WrongIdentity {
        /// The token's.
        granted: String,
        /// The client's.
        asked: String,
    },
}

impl TokenError {
    /// All codes, for metrics: their number must not depend on what happens.
    pub const CODES: [&str; 15] = [
        "missing_token",
        "token_too_large",
        "malformed_token",
        "wrong_algorithm",
        "unknown_key",
        "bad_signature",
        "expired",
        "not_yet_valid",
        "wrong_issuer",
        "wrong_audience",
        "no_join_grant",
        "no_room",
        "no_identity",
        "wrong_room",
        "wrong_identity",
    ];

    /// The same for programs; stays as it is from version to version.
    pub const fn code(&self) -> &'static str {
        match self {
            TokenError::Missing => "missing_token",
            TokenError::TooLarge => "token_too_large",
            TokenError::Malformed(_) => "malformed_token",
            TokenError::WrongAlgorithm(..) => "wrong_algorithm",
            TokenError::UnknownKey(_) => "unknown_key",
            TokenError::BadSignature => "bad_signature",
            TokenError::Expired(_) => "expired",
            TokenError::NotYetValid(_) => "not_yet_valid",
            TokenError::WrongIssuer => "wrong_issuer",
            TokenError::WrongAudience => "wrong_audience",
            TokenError::NoJoinGrant => "no_join_grant",
            TokenError::NoRoom => "no_room",
            TokenError::NoIdentity => "no_identity",
            TokenError::WrongRoom { .. } => "wrong_room",
            TokenError::WrongIdentity { .. } => "wrong_identity",
        }
    }

    /// 401 for a token that proves nothing, 403 for one that proves too little.
    pub const fn status(&self) -> StatusCode {
        match self {
            TokenError::NoJoinGrant
            | TokenError::NoRoom
            | TokenError::NoIdentity
            | TokenError::WrongRoom { .. }
            | TokenError::WrongIdentity { .. } => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

impl IntoResponse for TokenError {
    /// As RFC 6750 §3 has it, with the code and the sentence as JSON.
    fn into_response(self) -> Response {
        let body = json!({"code": self.code(), "reason": self.to_string()});
        let challenge = match self {
            TokenError::Missing => "Bearer",
            _ if self.status() == StatusCode::FORBIDDEN => "Bearer error=\"insufficient_scope\"",
            _ => "Bearer error=\"invalid_token\"",
        };
        let header = [(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))];
        (self.status(), header, Json(body)).into_response()
    }
}

impl From<TokenError> for RequestError {
    fn from(error: TokenError) -> Self {
        RequestError { code: error.status().as_u16(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once() {
        let ids = || (String::new(), String::new());
        let (granted, asked) = ids();
        let room = TokenError::WrongRoom { granted, asked };
        let (granted, asked) = ids();
        let all = [
            TokenError::Missing,
            TokenError::TooLarge,
            TokenError::Malformed(String::new()),
            TokenError::WrongAlgorithm(String::new(), ""),
            TokenError::UnknownKey(""),
            TokenError::BadSignature,
            TokenError::Expired(1),
            TokenError::NotYetValid(1),
            TokenError::WrongIssuer,
            TokenError::WrongAudience,
            TokenError::NoJoinGrant,
            TokenError::NoRoom,
            TokenError::NoIdentity,
            room,
            TokenError::WrongIdentity { granted, asked },
        ];
        assert_eq!(all.map(|error| error.code()), TokenError::CODES);
    }
}
