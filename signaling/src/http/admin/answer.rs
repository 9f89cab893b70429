//! The one shape of what the admin API refuses: `{"code", "reason"}`, as tokens are refused.
#![forbid(unsafe_code)]

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use opencall_control::api::RequestError;
use serde_json::json;

/// Why nothing was done.
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    reason: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, reason: impl Into<String>) -> Self {
        Problem { status, code, reason: reason.into() }
    }

    /// For programs; stays as it is from version to version.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The server has no admin keys.
    pub fn off() -> Self {
        let reason = "the admin API is off: start the server with --admin-key";
        Problem::new(StatusCode::NOT_FOUND, "admin_off", reason)
    }

    /// There is no key in the request, or none of ours.
    pub fn unauthorized(given: bool) -> Self {
        match given {
            true => Problem::new(StatusCode::UNAUTHORIZED, "wrong_key", "no key of this server"),
            false => {
                let reason = "pass the secret of an admin key in an Authorization: Bearer header";
                Problem::new(StatusCode::UNAUTHORIZED, "missing_key", reason)
            }
        }
    }

    /// The request is wrong in itself.
    pub fn malformed(reason: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "malformed", reason)
    }

    /// It is about something that is not there.
    pub fn not_found(reason: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// The configuration does not allow it.
    pub fn not_allowed(reason: impl Into<String>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, "refused", reason)
    }

    /// Control does not answer.
    pub fn no_control() -> Self {
        let reason = "the server is stopping, or its control thread has failed";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "control_lost", reason)
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let code = match error.code {
            400 => "malformed",
            404 => "not_found",
            409 => "conflict",
            429 => "too_many",
            _ => "refused",
        };
        let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::FORBIDDEN);
        Problem::new(status, code, error.reason)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(json!({"code": self.code, "reason": self.reason}));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
