//! Tokens of every make against keys of every kind.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use opencall_control::api::{Grants, Source, Sources};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::claims::Admission;
use super::error::TokenError;
use super::jwks::KeySet;
use super::keys::ApiKeys;
use super::verifier::{Demands, Keys, LEEWAY_SECS, MAX_TOKEN_BYTES, verify};

const NOW: u64 = 1_800_000_000;
const NAME: &str = "APIkey";
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

/// The smallest claims that let someone in, with changes: null removes a member.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": NAME, "sub": "ann", "exp": NOW + 600, "nbf": NOW - 5,
        "video": {"roomJoin": true, "room": "stand-up"},
    });
    merge(&mut claims, changes);
    claims
}

fn merge(into: &mut Value, changes: Value) {
    let (Value::Object(members), Value::Object(changes)) = (&mut *into, changes) else { return };
    for (name, value) in changes {
        match value {
            Value::Null => drop(members.remove(&name)),
            Value::Object(_) if members.contains_key(&name) => merge(&mut members[&name], value),
            value => drop(members.insert(name, value)),
        }
    }
}

fn signed(claims: &Value, algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    signed(claims, Algorithm::HS256, None, &EncodingKey::from_secret(SECRET.as_bytes()).unwrap())
}

/// A token whose parts are given.
fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    [part(header.as_bytes()), part(claims.as_bytes()), part(signature)].join(".")
}

/// A provider's keys: to sign with, and the set it publishes.
struct Provider {
    rsa: EncodingKey,
    ec: EncodingKey,
    ed: EncodingKey,
    jwks: Value,
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        // The RSAPrivateKey (RFC 8017) within the PrivateKeyInfo, whose head has this length.
        let rsa = EncodingKey::from_rsa_der(&rsa.as_ref()[26..]);
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EncodingKey::from_ec_der(ec.as_ref());
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let x = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(x.public_key().as_ref());
        let ed = EncodingKey::from_ed_der(ed.as_ref());
        let jwk = |kid: &str, key: &EncodingKey, algorithm| {
            let mut jwk = json!(Jwk::from_encoding_key(key, algorithm).unwrap());
            merge(&mut jwk, json!({"kid": kid, "use": "sig"}));
            jwk
        };
        let keys = [
            jwk("rsa", &rsa, Algorithm::RS256),
            jwk("ec", &ec, Algorithm::ES256),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "alg": "EdDSA", "x": x}),
        ];
        let jwks = json!({"keys": keys});
        Provider { rsa, ec, ed, jwks }
    }

    fn set(&self) -> KeySet {
        set(&self.jwks).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn set(jwks: &Value) -> Result<KeySet, String> {
    KeySet::parse(jwks.to_string().as_bytes())
}

fn api_keys() -> ApiKeys {
    ApiKeys::from_pairs([format!("{NAME}={SECRET}").as_str()]).unwrap()
}

/// Verifies with the API key alone.
fn admitted(token: &str) -> Result<Admission, TokenError> {
    let keys = api_keys();
    verify(token, &Keys { api: &[&keys], public: &[] }, &Demands::default(), NOW)
}

fn code(token: &str) -> &'static str {
    admitted(token).err().unwrap_or_else(|| panic!("admitted: {token}")).code()
}

#[test]
fn the_smallest_token_lets_someone_in_with_everything_but_power() {
    let admission = admitted(&hs256(&claims(json!({})))).unwrap();
    let grants = Grants { identity_proven: true, ..Grants::default() };
    let expected = Admission { room: "stand-up".into(), identity: "ann".into(), grants };
    assert_eq!(admission, expected);
    assert!(!expected.grants.admin && !expected.grants.hidden && !expected.grants.record);
}

#[test]
fn each_grant_is_read() {
    type Change = fn(&mut Grants);
    let table: [(Value, Change); 14] = [
        (json!({"canPublish": false}), |grants| grants.publish = false),
        (json!({"canPublish": true}), |_| {}),
        (json!({"canSubscribe": false}), |grants| grants.subscribe = false),
        (json!({"canPublishData": false}), |grants| grants.data = false),
        (json!({"canPublishSources": []}), |_| {}),
        (json!({"canPublishSources": ["camera", "SCREEN_SHARE"]}), |grants| {
            grants.sources = [Source::Camera, Source::ScreenShare].into_iter().collect();
        }),
        (json!({"canPublishSources": ["unknown"]}), |grants| {
            grants.sources = [].into_iter().collect();
        }),
        (json!({"roomAdmin": true}), |grants| grants.admin = true),
        (json!({"roomRecord": true}), |grants| grants.record = true),
        (json!({"hidden": true}), |grants| grants.hidden = true),
        (json!({"recorder": true}), |grants| grants.hidden = true),
        (json!({"hidden": false, "recorder": false, "roomAdmin": false}), |_| {}),
        (json!({"canUpdateOwnMetadata": true}), |grants| grants.rename = true),
        // LiveKit's others mean nothing here.
        (json!({"roomCreate": true, "roomList": true, "agent": true}), |_| {}),
    ];
    for (video, change) in table {
        let token = hs256(&claims(json!({"video": video, "metadata": "{}", "attributes": {}})));
        let mut expected = Grants { identity_proven: true, ..Grants::default() };
        change(&mut expected);
        assert_eq!(admitted(&token).unwrap().grants, expected, "{video}");
    }
    let named = admitted(&hs256(&claims(json!({"name": "Ann Ælfgar"})))).unwrap();
    assert_eq!(named.grants.display_name.as_deref(), Some("Ann Ælfgar"));
    assert_eq!(named.grants.sources, Sources::ALL);
}

#[test]
fn what_is_wrong_with_the_claims_has_a_code() {
    let (exp, nbf) = (NOW - LEEWAY_SECS, NOW + LEEWAY_SECS);
    let long = "x".repeat(257);
    let table = [
        (json!({"exp": exp + 1}), None),
        (json!({"exp": exp}), Some("expired")),
        (json!({"exp": 0}), Some("expired")),
        (json!({"exp": -1e300}), Some("expired")),
        (json!({"exp": 1e300}), None),
        (json!({"exp": NOW as f64 + 0.5}), None),
        (json!({"exp": null}), Some("malformed_token")),
        (json!({"exp": "tomorrow"}), Some("malformed_token")),
        (json!({"nbf": null}), None),
        (json!({"nbf": nbf}), None),
        (json!({"nbf": nbf + 1}), Some("not_yet_valid")),
        (json!({"nbf": 1e300}), Some("not_yet_valid")),
        (json!({"sub": null}), Some("no_identity")),
        (json!({"sub": ""}), Some("no_identity")),
        (json!({"sub": 7}), Some("malformed_token")),
        (json!({"sub": long}), Some("malformed_token")),
        (json!({"name": long}), Some("malformed_token")),
        (json!({"video": null}), Some("no_join_grant")),
        (json!({"video": {"roomJoin": null}}), Some("no_join_grant")),
        (json!({"video": {"roomJoin": false}}), Some("no_join_grant")),
        (json!({"video": {"roomJoin": "true"}}), Some("malformed_token")),
        (json!({"video": {"room": null}}), Some("no_room")),
        (json!({"video": {"room": ""}}), Some("no_room")),
        (json!({"video": {"room": long}}), Some("malformed_token")),
        (json!({"video": {"canPublishSources": "camera"}}), Some("malformed_token")),
        (json!({"aud": "another service"}), Some("wrong_audience")),
        (json!({"iss": null}), Some("unknown_key")),
        (json!({"iss": "another key"}), Some("unknown_key")),
        (json!({"iss": ["APIkey"]}), Some("malformed_token")),
    ];
    for (changes, expected) in table {
        let found = admitted(&hs256(&claims(changes.clone())));
        assert_eq!(found.err().map(|error| error.code()), expected, "{changes}");
    }
}

#[test]
fn audience_and_issuer_are_as_demanded() {
    let (provider, keys) = (Provider::new(), api_keys());
    let (set, demands) = (provider.set(), |audience: Option<&str>, issuer: Option<&str>| Demands {
        audience: audience.map(str::to_owned),
        issuer: issuer.map(str::to_owned),
    });
    let wanted = demands(Some("sfu"), Some("https://id.example"));
    let from_provider =
        |changes| signed(&claims(changes), Algorithm::ES256, Some("ec"), &provider.ec);
    let table = [
        (hs256(&claims(json!({"aud": "sfu"}))), Ok(())),
        (hs256(&claims(json!({"aud": ["other", "sfu"]}))), Ok(())),
        (hs256(&claims(json!({"aud": ["other"]}))), Err("wrong_audience")),
        (hs256(&claims(json!({}))), Err("wrong_audience")),
        (from_provider(json!({"iss": "https://id.example", "aud": "sfu"})), Ok(())),
        (from_provider(json!({"iss": "https://evil.example", "aud": "sfu"})), Err("wrong_issuer")),
        (from_provider(json!({"iss": null, "aud": "sfu"})), Err("wrong_issuer")),
        (from_provider(json!({"iss": "https://id.example"})), Err("wrong_audience")),
    ];
    for (token, expected) in table {
        let found = verify(&token, &Keys { api: &[&keys], public: &[&set] }, &wanted, NOW);
        assert_eq!(found.map(drop).map_err(|error| error.code()), expected, "{token}");
    }
}

#[test]
fn each_kind_of_public_key_verifies_its_own_tokens() {
    let provider = Provider::new();
    let stranger = Provider::new();
    let set = provider.set();
    let table = [
        (Algorithm::RS256, "rsa", &provider.rsa, &stranger.rsa),
        (Algorithm::ES256, "ec", &provider.ec, &stranger.ec),
        (Algorithm::EdDSA, "ed", &provider.ed, &stranger.ed),
    ];
    let check = |token: &str| {
        let keys = Keys { api: &[], public: &[&set] };
        verify(token, &keys, &Demands::default(), NOW).map(drop).map_err(|error| error.code())
    };
    for (algorithm, kid, key, other) in table {
        let claims = claims(json!({"iss": "https://id.example"}));
        assert_eq!(check(&signed(&claims, algorithm, Some(kid), key)), Ok(()), "{algorithm:?}");
        // There is one key of each kind, so that its name is not needed.
        assert_eq!(check(&signed(&claims, algorithm, None, key)), Ok(()), "{algorithm:?}");
        let strange = signed(&claims, algorithm, Some(kid), other);
        assert_eq!(check(&strange), Err("bad_signature"), "{algorithm:?}");
        let unknown = signed(&claims, algorithm, Some("new"), key);
        assert_eq!(check(&unknown), Err("unknown_key"), "{algorithm:?}");
        // Another key's name.
        let wrong = if kid == "rsa" { "ec" } else { "rsa" };
        let misnamed = signed(&claims, algorithm, Some(wrong), key);
        assert_eq!(check(&misnamed), Err("wrong_algorithm"), "{algorithm:?}");
        let mut cut = signed(&claims, algorithm, Some(kid), key);
        cut.truncate(cut.rfind('.').unwrap() + 1);
        assert_eq!(check(&cut), Err("bad_signature"), "{algorithm:?}");
    }
}

/// A public key is known to everyone: whoever could pass it off as a secret could mint tokens.
#[test]
fn algorithms_cannot_be_confused() {
    let provider = Provider::new();
    let (set, api) = (provider.set(), api_keys());
    let rsa = &provider.jwks["keys"][0];
    let n = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    let secrets = [
        n.clone(),
        rsa["n"].as_str().unwrap().as_bytes().to_vec(),
        STANDARD.encode(&n).into_bytes(),
        rsa.to_string().into_bytes(),
    ];
    let table = [
        // What there is to verify with; what must come out for a token signed with a public key.
        (Keys { api: &[], public: &[&set] }, "wrong_algorithm"),
        (Keys { api: &[&api], public: &[&set] }, "bad_signature"),
    ];
    for (keys, expected) in &table {
        let check = |token: &str| {
            verify(token, keys, &Demands::default(), NOW).map(drop).map_err(|error| error.code())
        };
        for secret in &secrets {
            let key = EncodingKey::from_secret(secret).unwrap();
            for kid in [None, Some("rsa")] {
                let token = signed(&claims(json!({})), Algorithm::HS256, kid, &key);
                assert_eq!(check(&token), Err(*expected));
            }
        }
        // The secret's signature under the name of another algorithm.
        let token = hs256(&claims(json!({})));
        let signature = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            let header = json!({"alg": algorithm, "typ": "JWT"});
            let forged = raw(&header, &claims(json!({})), &signature);
            assert_eq!(check(&forged), Err("bad_signature"), "{algorithm}");
        }
        let others = ["none", "None", "NONE", "", "hs256", "HS384", "HS512", "RS384", "RS512"];
        for algorithm in others.into_iter().chain(["PS256", "ES384", "ES256K", "ES512"]) {
            for signature in [&b""[..], &signature] {
                let forged = raw(&json!({"alg": algorithm}), &claims(json!({})), signature);
                assert_eq!(check(&forged), Err("wrong_algorithm"), "{algorithm}");
            }
        }
        // A key that the token brings along is nobody's.
        let stranger = Provider::new();
        let mut header = Header::new(Algorithm::RS256);
        header.jwk = Some(Jwk::from_encoding_key(&stranger.rsa, Algorithm::RS256).unwrap());
        header.jku = Some("http://127.0.0.1/keys".into());
        let token = jsonwebtoken::encode(&header, &claims(json!({})), &stranger.rsa).unwrap();
        assert_eq!(check(&token), Err("bad_signature"));
    }
    let api_only = Keys { api: &[&api], public: &[] };
    let token = signed(&claims(json!({})), Algorithm::RS256, Some("rsa"), &provider.rsa);
    let found = verify(&token, &api_only, &Demands::default(), NOW);
    assert_eq!(found.map_err(|error| error.code()), Err("wrong_algorithm"));
}

#[test]
fn headers_that_must_be_understood_are_refused() {
    let key = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    let sign = |header: Value| {
        let unsigned = raw(&header, &claims(json!({})), b"");
        let message = unsigned.trim_end_matches('.');
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    assert!(admitted(&sign(json!({"alg": "HS256"}))).is_ok());
    assert!(admitted(&sign(json!({"alg": "HS256", "typ": "at+jwt", "x": 1}))).is_ok());
    for header in [
        json!({"alg": "HS256", "crit": ["exp"], "exp": 1}),
        json!({"alg": "HS256", "crit": []}),
        json!({"alg": "HS256", "b64": false}),
    ] {
        assert_eq!(code(&sign(header.clone())), "malformed_token", "{header}");
    }
}

#[test]
fn nonsense_is_no_token() {
    for text in ["", ".", "..", "a", "a.b", "a.b.c", "a.b.c.d", "\u{0}.\u{0}.\u{0}", "é.é.é"] {
        assert_eq!(code(text), "malformed_token", "{text}");
    }
    assert_eq!(code(&"x".repeat(MAX_TOKEN_BYTES + 1)), "token_too_large");
    assert_eq!(code(&raw(&json!({}), &json!({}), b"")), "malformed_token");
    assert_eq!(code(&raw(&json!({"alg": "HS256"}), &json!([]), b"")), "malformed_token");
    let deep = "[".repeat(5000);
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"x\":{deep}"));
    assert_eq!(code(&format!("{header}.e30.")), "malformed_token");
}

/// No change of a good token, of whatever byte, lets anyone else in.
#[test]
fn changed_tokens_are_refused() {
    let token = hs256(&claims(json!({})));
    let mut rng = StdRng::seed_from_u64(0x7063_0a11);
    let good = admitted(&token).unwrap();
    let last = token.len() - 1;
    for _ in 0..20_000 {
        let mut bytes = token.clone().into_bytes();
        let place = rng.random_range(0..bytes.len());
        let before = bytes[place];
        bytes[place] = if rng.random() { rng.random() } else { rng.random_range(b'-'..=b'z') };
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        if bytes[place] == before {
            continue;
        }
        match admitted(&changed) {
            Err(_) => {}
            // The last character has bits that mean nothing.
            Ok(admission) => assert!(place == last && admission == good, "{changed}"),
        }
    }
}

#[test]
fn sets_keep_what_can_be_used() {
    let provider = Provider::new();
    let [rsa, ec, ed] = [0, 1, 2].map(|index| provider.jwks["keys"][index].clone());
    let with = |key: &Value, changes: Value| {
        let mut key = key.clone();
        merge(&mut key, changes);
        key
    };
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    // Zeros in front make no key longer.
    let padded = URL_SAFE_NO_PAD.encode([[0; 128], [0xff; 128]].concat());
    let useless = [
        (json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}), "is none of RSA"),
        (json!({"kty": "EC", "crv": "P-384", "x": "", "y": ""}), "is none of RSA"),
        (json!({"kty": "OKP", "crv": "X25519", "x": ""}), "is none of RSA"),
        (json!({}), "is none of RSA"),
        (json!(7), "invalid type"),
        (with(&rsa, json!({"use": "enc"})), "use"),
        (with(&rsa, json!({"key_ops": ["sign"]})), "use"),
        (with(&rsa, json!({"alg": "RS512"})), "alg"),
        (with(&rsa, json!({"alg": "HS256"})), "alg"),
        (with(&rsa, json!({"n": short})), "1024 bits"),
        (with(&rsa, json!({"n": padded})), "1024 bits"),
        (with(&rsa, json!({"n": ""})), "0 bits"),
        (with(&rsa, json!({"n": URL_SAFE_NO_PAD.encode(vec![0xff; 2048])})), "16384 bits"),
        (with(&rsa, json!({"n": "?"})), "base64url"),
        (with(&ec, json!({"x": "AAAA"})), "3 bytes"),
        (with(&ec, json!({"alg": "ES384"})), "alg"),
        (with(&ed, json!({"x": "AAAA"})), "3 bytes"),
    ];
    for (key, word) in &useless {
        let Err(error) = set(&json!({"keys": [key]})) else { panic!("{key}: taken") };
        assert!(error.contains(word), "{key}: {error}");
        let kept = set(&json!({"keys": [key, ec, key]})).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(kept.len(), 1);
    }
    // What is allowed to be absent.
    for name in ["alg", "use", "kid"] {
        let kept = set(&json!({"keys": [with(&rsa, json!({name: null}))]}));
        assert!(kept.is_ok(), "{name}");
    }
    for (text, word) in [
        ("", "not a JWK Set"),
        ("[]", "not a JWK Set"),
        ("{\"keys\": 1}", "not a JWK Set"),
        ("{\"keys\": []}", "no keys"),
    ] {
        assert!(KeySet::parse(text.as_bytes()).is_err_and(|error| error.contains(word)), "{text}");
    }
    assert!(KeySet::parse(&[b' '; 300_000]).is_err_and(|error| error.contains("longer")));
}

#[test]
fn two_keys_without_names_are_not_guessed_at() {
    let [one, other] = [Provider::new(), Provider::new()];
    let keys = [&one, &other].map(|provider| {
        let mut key = provider.jwks["keys"][1].clone();
        merge(&mut key, json!({"kid": null}));
        key
    });
    let both = set(&json!({"keys": keys})).unwrap_or_else(|error| panic!("{error}"));
    let token = signed(&claims(json!({})), Algorithm::ES256, None, &one.ec);
    let check = |public: &[&KeySet]| {
        let found = verify(&token, &Keys { api: &[], public }, &Demands::default(), NOW);
        found.map(drop).map_err(|error| error.code())
    };
    assert_eq!(check(&[&both]), Err("unknown_key"));
    // Set by set, each is asked in turn.
    let [own, strange] = [one.set(), other.set()];
    assert_eq!(check(&[&own, &strange]), Ok(()));
    assert_eq!(check(&[&KeySet::default(), &own]), Ok(()));
}

#[test]
fn ids_of_the_client_must_be_those_of_the_token() {
    let admission = admitted(&hs256(&claims(json!({})))).unwrap();
    let table = [
        (None, None, Ok(())),
        (Some("stand-up"), None, Ok(())),
        (None, Some("ann"), Ok(())),
        (Some("stand-up"), Some("ann"), Ok(())),
        (Some("board"), Some("ann"), Err("wrong_room")),
        (Some("Stand-up"), None, Err("wrong_room")),
        (Some("stand-up"), Some("ben"), Err("wrong_identity")),
    ];
    for (room, identity, expected) in table {
        let found = admission.check(room, identity).map_err(|error| error.code());
        assert_eq!(found, expected, "{room:?} {identity:?}");
    }
}
