//! From a token to the one whom it lets in. No clock, no socket: time and keys are arguments.
#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::claims::{Admission, Claims};
use super::error::TokenError;
use super::jwks::KeySet;
use super::keys::ApiKeys;

/// The largest token that is looked at: real ones have under 1 KiB, and twice this must fit the
/// buffer of an HTTP request's headers.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far the clocks of the token's maker and of this server may be apart, seconds; as in LiveKit.
pub const LEEWAY_SECS: u64 = 60;

/// What tokens may be signed with.
pub const ACCEPTED: &str = "HS256, RS256, ES256 and EdDSA";

/// What this server demands beside a good signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands {
    /// `aud` must have it.
    pub audience: Option<String>,
    /// `iss` must be it, in tokens signed by a key of a JWK Set.
    pub issuer: Option<String>,
}

/// The keys that are valid now.
pub struct Keys<'a> {
    /// For HS256, by `iss`; the first set that has the name is right.
    pub api: &'a [&'a ApiKeys],
    /// For all else, by `kid`; each set is asked in turn.
    pub public: &'a [&'a KeySet],
}

/// The header of a JWS (RFC 7515 §4), as far as it chooses the key. `jsonwebtoken` reads it again
/// and checks the rest.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// Whom `token` lets in at `now` (Unix time, seconds).
pub fn verify(
    token: &str,
    keys: &Keys<'_>,
    demands: &Demands,
    now: u64,
) -> Result<Admission, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLarge);
    }
    let header = header(token)?;
    let claims = match algorithm(&header.alg) {
        // Each algorithm has keys of its own: a public key is never taken for a secret (nor the
        // other way), whatever the header says.
        Some(Algorithm::HS256) => by_api_key(token, keys.api)?,
        Some(algorithm) => {
            let claims = by_public_key(token, &header, algorithm, keys.public)?;
            if demands.issuer.is_some() && claims.iss != demands.issuer {
                return Err(TokenError::WrongIssuer);
            }
            claims
        }
        None => {
            let shown = header.alg.chars().take(16).collect();
            return Err(TokenError::WrongAlgorithm(shown, ACCEPTED));
        }
    };
    claims.check_time(now)?;
    claims.check_audience(demands.audience.as_deref())?;
    claims.admission()
}

fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

fn header(token: &str) -> Result<Header, TokenError> {
    let malformed = |reason: &str| TokenError::Malformed(reason.to_owned());
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("expected three parts between dots"));
    };
    let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("header: not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| malformed("header: expected {\"alg\": …}"))
}

fn by_api_key(token: &str, sets: &[&ApiKeys]) -> Result<Claims, TokenError> {
    /// The only claim that is looked at before the signature: it names the key.
    #[derive(Deserialize)]
    struct Issuer {
        iss: Option<String>,
    }
    if sets.iter().all(|keys| keys.is_empty()) {
        let reason = "the algorithms of its JWK Set only: RS256, ES256 and EdDSA";
        return Err(TokenError::WrongAlgorithm("HS256".into(), reason));
    }
    let issuer: Issuer = jsonwebtoken::dangerous::insecure_decode_claims(token)
        .map_err(|_| TokenError::Malformed("claims: expected a JSON object".into()))?;
    let key = issuer.iss.and_then(|name| sets.iter().find_map(|keys| keys.decoding(&name)));
    let key = key.ok_or(TokenError::UnknownKey(
        "iss must name an API key of this server (--auth-key, --auth-keys-file)",
    ))?;
    signed(token, &key, Algorithm::HS256)
}

fn by_public_key(
    token: &str,
    header: &Header,
    algorithm: Algorithm,
    sets: &[&KeySet],
) -> Result<Claims, TokenError> {
    let mut error = TokenError::WrongAlgorithm(
        format!("{algorithm:?}"),
        "HS256 only: it has no JWK Set (--auth-jwks-url, --auth-jwks-file)",
    );
    for set in sets {
        match set.find(header.kid.as_deref(), algorithm) {
            Ok(key) => return signed(token, key, algorithm),
            Err(why) => error = why,
        }
    }
    Err(error)
}

/// The claims of a token that is signed with this key and in this way, and in no other.
fn signed(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(algorithm);
    // These are checked after it, against the caller's clock and with errors of their own.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode::<Claims>(token, key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::Base64(_) => TokenError::BadSignature,
            ErrorKind::Json(error) => TokenError::Malformed(format!("claims: {error}")),
            _ => TokenError::Malformed("header: not one of a JWT".into()),
        }),
    }
}
