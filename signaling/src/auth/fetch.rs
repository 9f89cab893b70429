//! One GET over HTTP or HTTPS, bounded in time and size: enough to fetch a JWK Set.
#![forbid(unsafe_code)]

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::ACCEPT;
use axum::http::{Request, StatusCode};

use super::jwks::MAX_SET_BYTES;
use crate::outgoing::Connection;
use crate::outgoing::url::HttpUrl;

/// From the look-up of the name to the last byte. Providers answer within a second.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches what is at `url`. The error is one sentence. Redirects are not followed: the address of
/// keys is a matter of configuration.
pub async fn fetch(url: &HttpUrl) -> Result<Bytes, String> {
    match tokio::time::timeout(TIMEOUT, fetch_in_time(url)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn fetch_in_time(url: &HttpUrl) -> Result<Bytes, String> {
    let request = Request::get(url.target())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Default::default())
        .map_err(|error| error.to_string())?;
    let mut connection = Connection::open(url).await?;
    let (status, body) = connection.exchange(url, request, MAX_SET_BYTES).await?;
    if status != StatusCode::OK {
        return Err(format!("it answered {status}"));
    }
    body
}
