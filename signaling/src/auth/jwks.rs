//! Public keys of an identity provider: a JWK Set (RFC 7517 §5), for RS256, ES256 and EdDSA.
#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::error::TokenError;
use super::verifier::ACCEPTED;

/// The largest set that is read, bytes: a set of ten RSA keys with certificates has 20 KiB.
pub const MAX_SET_BYTES: usize = 256 * 1024;

/// Keys at most; the rest is left out. Providers have two to ten.
const MAX_KEYS: usize = 100;

/// RSA keys from 2048 bits on (RFC 7518 §3.3), up to what the cryptographic library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Coordinates of P-256 (RFC 7518 §6.2.1.2) and points of Ed25519 (RFC 8037 §2) have this length.
const COORDINATE_BYTES: usize = 32;

/// One public key, bound to its one algorithm.
struct PublicKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The usable keys of a set.
#[derive(Default)]
pub struct KeySet(Vec<PublicKey>);

/// The members of a JWK that matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set. Keys that cannot be used for signatures of tokens are left out, as RFC 7517 §5
    /// wants; a set without any other is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_SET_BYTES {
            return Err(format!("longer than {MAX_SET_BYTES} bytes"));
        }
        let set: JwkSet = serde_json::from_slice(bytes)
            .map_err(|error| format!("not a JWK Set {{\"keys\": […]}}: {error}"))?;
        let mut keys = Vec::new();
        let mut left_out = String::new();
        for value in set.keys.into_iter().take(MAX_KEYS) {
            let key = serde_json::from_value::<Jwk>(value).map_err(|error| error.to_string());
            match key.and_then(public_key) {
                Ok(key) => keys.push(key),
                Err(reason) => left_out = reason,
            }
        }
        match (keys.is_empty(), left_out.as_str()) {
            (true, "") => Err("it has no keys".into()),
            (true, reason) => Err(format!("it has no key that can be used: {reason}")),
            (false, _) => Ok(KeySet(keys)),
        }
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that a token names, if it is one for the token's algorithm. Without a name it is the
    /// only one for that algorithm.
    pub fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&DecodingKey, TokenError> {
        let named = || self.0.iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid);
        let mut fitting = named().filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.key),
            (Some(_), Some(_)) => Err(TokenError::UnknownKey(
                "several keys could have signed it: mint it with a kid that only one has",
            )),
            (None, _) if kid.is_some() && named().next().is_some() => {
                Err(TokenError::WrongAlgorithm(format!("{algorithm:?}"), ACCEPTED_BY_KEY))
            }
            (None, _) => Err(TokenError::UnknownKey(
                "no key of the JWK Set has its kid: does it come from another issuer?",
            )),
        }
    }
}

const ACCEPTED_BY_KEY: &str = "the algorithm of the key that the token names";

fn public_key(jwk: Jwk) -> Result<PublicKey, String> {
    let usable = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !usable {
        return Err("its use is not to verify signatures".into());
    }
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("RSA", _) => (Algorithm::RS256, rsa(&jwk)?),
        ("EC", "P-256") => {
            coordinate(&jwk.x)?;
            coordinate(&jwk.y)?;
            (Algorithm::ES256, DecodingKey::from_ec_components(&jwk.x, &jwk.y))
        }
        ("OKP", "Ed25519") => {
            coordinate(&jwk.x)?;
            (Algorithm::EdDSA, DecodingKey::from_ed_components(&jwk.x))
        }
        // Among them symmetric keys: who publishes one lets everyone sign.
        (kty, crv) => {
            return Err(format!("kty {kty:?} {crv:?} is none of RSA, EC P-256, OKP Ed25519"));
        }
    };
    if jwk.alg.as_deref().is_some_and(|alg| alg != format!("{algorithm:?}")) {
        return Err(format!("its alg is none of {ACCEPTED}"));
    }
    let key = key.map_err(|error| error.to_string())?;
    Ok(PublicKey { kid: jwk.kid, algorithm, key })
}

fn rsa(jwk: &Jwk) -> Result<jsonwebtoken::errors::Result<DecodingKey>, String> {
    let modulus = decode(&jwk.n)?;
    let leading = modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = modulus.get(leading..).unwrap_or_default();
    let bits = significant.first().map_or(0, |byte| {
        significant.len() * 8 - usize::try_from(byte.leading_zeros()).unwrap_or_default()
    });
    if !RSA_BITS.contains(&bits) {
        return Err(format!("an RSA key of {bits} bits; {RSA_BITS:?} are taken"));
    }
    decode(&jwk.e)?;
    Ok(DecodingKey::from_rsa_components(&jwk.n, &jwk.e))
}

fn coordinate(text: &str) -> Result<(), String> {
    match decode(text)?.len() {
        COORDINATE_BYTES => Ok(()),
        bytes => Err(format!("a coordinate of {bytes} bytes instead of {COORDINATE_BYTES}")),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| format!("not base64url: {error}"))
}
