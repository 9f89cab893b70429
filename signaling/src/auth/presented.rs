//! Where a request carries its token.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::Deserialize;
use zeroize::Zeroizing;

/// What authorization headers begin with (RFC 6750 §2.1), in any case.
const SCHEME: &str = "Bearer ";

/// The token of a request, if it has one: from its `Authorization: Bearer` header, else from
/// `access_token` or `token` in the query, for browsers cannot set headers of a WebSocket. No
/// `Debug`: whoever has it is its holder.
pub struct Presented(Option<Zeroizing<String>>);

impl Presented {
    /// The token.
    pub fn token(&self) -> Option<&str> {
        self.0.as_ref().map(|token| token.as_str())
    }
}

#[derive(Deserialize)]
struct TokenQuery {
    access_token: Option<String>,
    token: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Presented {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let token = bearer(&parts.headers).or_else(|| {
            let query = Query::<TokenQuery>::try_from_uri(&parts.uri).ok()?.0;
            query.access_token.or(query.token).map(Zeroizing::new)
        });
        Ok(Presented(token.filter(|token| !token.is_empty())))
    }
}

/// What the `Authorization: Bearer` header of a request has.
pub fn bearer(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| Zeroizing::new(token.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn presented(uri: &str, authorization: Option<&str>) -> Option<String> {
        let mut request = Request::get(uri);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let Ok(found) = Presented::from_request_parts(&mut parts, &()).await;
        found.token().map(str::to_owned)
    }

    #[tokio::test]
    async fn a_token_is_found_wherever_clients_put_it() {
        let table = [
            ("/ws", None, None),
            ("/ws?roomId=r&peerId=p", None, None),
            ("/ws?access_token=a.b-c_d", None, Some("a.b-c_d")),
            ("/ws?token=t", None, Some("t")),
            ("/?roomId=r&access_token=a&peerId=p&token=t", None, Some("a")),
            ("/ws?access_token=", None, None),
            ("/ws?access_token=a&access_token=b", None, None),
            ("/ws?access_token=a", Some("Bearer h"), Some("h")),
            ("/ws", Some("bearer  h "), Some("h")),
            ("/ws", Some("Bearer "), None),
            ("/ws", Some("Basic dTpw"), None),
            ("/ws?token=t", Some("Basic dTpw"), Some("t")),
            ("/ws", Some("é"), None),
        ];
        for (uri, authorization, expected) in table {
            let found = presented(uri, authorization).await;
            assert_eq!(found.as_deref(), expected, "{uri} {authorization:?}");
        }
    }
}
