//! Why a request is refused: RFC 9457.
#![forbid(unsafe_code)]

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use opencall_control::api::RequestError;
use serde_json::json;

use crate::auth::error::TokenError;
use crate::hub::HubGone;
use crate::sdp::SdpError;

/// When to look again for someone who sends: players that poll cost a request each.
const NOTHING_YET: Duration = Duration::from_secs(4);

/// A refusal.
pub struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, detail: detail.into(), retry_after: None }
    }

    /// The session has ended, or never was.
    pub fn gone() -> Self {
        Problem::new(StatusCode::NOT_FOUND, "no such session: it has ended")
    }

    /// The body is of another type.
    pub fn wrong_type(expected: &str) -> Self {
        let detail = format!("expected a body of type {expected}");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// The body is no text.
    pub fn not_text() -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "the body is not text in UTF-8")
    }

    /// The body is longer than any offer.
    pub fn too_large() -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the offer is too long")
    }

    /// An address has too many sessions.
    pub fn too_many() -> Self {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many sessions from your address")
    }

    /// The page, or the room, is not allowed.
    pub fn forbidden(detail: String) -> Self {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    /// A change without a condition (RFC 9725 section 4.3.1).
    pub fn no_condition() -> Self {
        let detail = "If-Match is needed: the session's ETag, or * to restart ICE";
        Problem::new(StatusCode::PRECONDITION_REQUIRED, detail)
    }

    /// A change to an ICE session that is over.
    pub fn stale() -> Self {
        Problem::new(StatusCode::PRECONDITION_FAILED, "ICE was restarted meanwhile")
    }

    /// Nobody new is let in.
    pub fn draining(reason: &str, wait: Duration) -> Self {
        let retry_after = Some(wait);
        Problem { retry_after, ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason) }
    }

    /// The token lets nobody in.
    pub fn token(error: &TokenError) -> Self {
        Problem::new(error.status(), error.to_string())
    }

    /// The query says what is not served.
    pub fn query(detail: &str) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The body is not what is expected.
    pub fn body(detail: &str) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is a room, and nothing in it to be watched yet.
    pub fn nothing_published() -> Self {
        let retry_after = Some(NOTHING_YET);
        let detail = "nobody in this room sends anything yet";
        Problem { retry_after, ..Problem::new(StatusCode::CONFLICT, detail) }
    }

    /// The session ended while it began.
    pub fn closed(reason: &str) -> Self {
        Problem::new(StatusCode::CONFLICT, reason)
    }
}

impl From<SdpError> for Problem {
    fn from(error: SdpError) -> Self {
        let status = match error {
            SdpError::Malformed(_) => StatusCode::BAD_REQUEST,
            SdpError::Unsupported(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        // What control finds wrong with parameters is wrong with the offer.
        let status = match error.code {
            400 => StatusCode::UNPROCESSABLE_ENTITY,
            code => StatusCode::from_u16(code).unwrap_or(StatusCode::FORBIDDEN),
        };
        Problem::new(status, error.reason)
    }
}

impl From<HubGone> for Problem {
    fn from(_: HubGone) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Refused");
        let status = self.status.as_u16();
        let body = json!({"title": title, "status": status, "detail": self.detail}).to_string();
        let mut response = (self.status, body).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            fields.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}
