//! Join tokens at the door: who is let in, who is not and why, and that no token is ever logged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use opencall_signaling::auth::mint::mint;
use opencall_signaling::auth::unix_now;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Client, microphone};
use crate::server::{PATIENCE, Server, run_to_end};
use crate::web::get;

pub const SECRET: &str = "a secret for tests of 32 bytes or";
pub const KEY: &str = "--auth-key=key=a secret for tests of 32 bytes or";

/// A token for ann in room "room", minted by hand.
fn token(flags: &[&str]) -> String {
    let line = ["token", KEY, "--room", "room", "--identity", "ann"].iter().chain(flags);
    mint(line.copied()).unwrap_or_else(|error| panic!("{error}"))
}

/// A token with these claims.
pub fn signed(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn claims() -> Value {
    json!({"iss": "key", "sub": "ann", "exp": unix_now() + 600,
           "video": {"roomJoin": true, "room": "room"}})
}

/// The status with which a WebSocket is refused.
async fn refused(server: &Server, path: &str, protocol: Option<&'static str>) -> u16 {
    match Client::connect(server, path, protocol).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{path}: {error}"),
        Ok(_) => panic!("{path}: connected"),
    }
}

/// What is said to who asks without an upgrade: status, head and JSON.
async fn explained(server: &Server, path: &str) -> (u16, String, Value) {
    let (status, head, body) = get(server, path).await;
    (status, head, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}")))
}

#[tokio::test]
async fn who_has_no_good_token_is_refused_before_the_upgrade_with_a_reason() {
    let server = Server::start_with(&[KEY]);
    let (good, other) = (token(&[]), "another secret for tests, 32 bytes");
    let with = |change: Value| {
        let mut claims = claims();
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        format!("&access_token={}", signed(&claims, SECRET))
    };
    let forged = format!("&access_token={}", signed(&claims(), other));
    let table = [
        (String::new(), 401, "missing_token"),
        ("&access_token=nonsense".to_owned(), 401, "malformed_token"),
        (format!("&access_token={}", "x".repeat(9000)), 401, "token_too_large"),
        (forged, 401, "bad_signature"),
        (with(json!({"iss": "nobody"})), 401, "unknown_key"),
        (with(json!({"exp": unix_now() - 61})), 401, "expired"),
        (with(json!({"nbf": unix_now() + 100})), 401, "not_yet_valid"),
        (with(json!({"video": {"room": "room"}})), 403, "no_join_grant"),
        (with(json!({"video": {"roomJoin": true}})), 403, "no_room"),
        (with(json!({"sub": ""})), 403, "no_identity"),
    ];
    for (query, status, code) in table {
        let path = format!("/ws?roomId=room&peerId=ann{query}");
        for protocol in [None, Some("protoo")] {
            assert_eq!(refused(&server, &path, protocol).await, status, "{code} {protocol:?}");
        }
        let (found, head, body) = explained(&server, &path).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{body}");
        assert!(body["reason"].as_str().is_some_and(|reason| reason.len() > 20), "{body}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
    // With protoo the ids are in the URL, and refused there.
    for (ids, status) in [("roomId=other&peerId=ann", 403), ("roomId=room&peerId=ben", 403)] {
        let path = format!("/ws?{ids}&token={good}");
        assert_eq!(refused(&server, &path, Some("protoo")).await, status, "{ids}");
    }
    // A good one without an upgrade is told to upgrade, as ever.
    assert_eq!(get(&server, &format!("/ws?access_token={good}")).await.0, 426);
}

#[tokio::test]
async fn ids_that_the_client_leaves_out_are_those_of_the_token() {
    let server = Server::start_with(&[KEY]);
    let good = token(&["--name", "Ann"]);
    let paths = [
        format!("/ws?roomId=room&peerId=ann&access_token={good}"),
        format!("/ws?access_token={good}"),
        format!("/?token={good}&roomId=room"),
    ];
    for path in paths {
        let mut ann = Client::connect(&server, &path, Some("protoo")).await.unwrap();
        ann.ask("join", json!({"displayName": "Someone else"})).await.unwrap();
        let ben = mint(["token", KEY, "--room", "room", "--identity", "ben"]).unwrap();
        let path = format!("/ws?access_token={ben}");
        let mut ben = Client::connect(&server, &path, Some("protoo")).await.unwrap();
        let joined = ben.ask("join", json!({})).await.unwrap();
        let peer = &joined["peers"][0];
        assert_eq!((&peer["id"], &peer["displayName"]), (&json!("ann"), &json!("Ann")), "{path}");
        ann.close().await;
        ben.notified("peerClosed").await;
    }
    let path = format!("/ws?access_token={good}");
    let mut ann = Client::connect(&server, &path, None).await.unwrap();
    for (name, value) in [("meetingId", "other"), ("participantId", "ben")] {
        let data = json!({"direction": "send", name: value});
        let error = ann.request("createTransport", data).await.unwrap_err();
        assert!(error.contains("the token is for") && error.contains(value), "{error}");
    }
    ann.request("getRouterCapabilities", json!({"meetingId": "room"})).await.unwrap();
    ann.request("createTransport", json!({"direction": "send"})).await.unwrap();
}

#[tokio::test]
async fn the_same_identity_again_takes_the_place_of_the_older_session() {
    let server = Server::start_with(&[KEY]);
    let path = format!("/ws?access_token={}", token(&[]));
    let mut old = Client::connect(&server, &path, Some("protoo")).await.unwrap();
    old.ask("join", json!({})).await.unwrap();
    let mut new = Client::connect(&server, &path, Some("protoo")).await.unwrap();
    assert_eq!(old.closed().await.map(|(code, _)| code), Some(4000));
    new.ask("join", json!({})).await.unwrap();
}

#[tokio::test]
async fn tokens_and_secrets_are_never_logged() {
    let flags = [KEY, "--log", "trace"];
    let mut server = Server::start_with(&flags);
    let good = token(&["--no-publish"]);
    let bad = signed(&claims(), "another secret for tests, 32 bytes");
    for path in ["/ws", "/", "/healthz", "/v1/server", "/nowhere"] {
        for token in [&good, &bad] {
            for name in ["access_token", "token"] {
                get(&server, &format!("{path}?{name}={token}")).await;
            }
        }
    }
    for token in [&good, &bad] {
        for path in [format!("/ws?access_token={token}"), format!("/ws?peerId=x&token={token}")] {
            for protocol in [None, Some("protoo")] {
                let Ok(mut client) = Client::connect(&server, &path, protocol).await else {
                    continue;
                };
                client.send_text("nonsense").await;
                client.frame("an error", |_| true).await;
                client.close().await;
            }
        }
    }
    server.signal("TERM");
    server.wait();
    let log = format!("{}\n{}", server.start_log.join("\n"), server.log_to_end());
    assert!(log.contains("stopped"), "{log}");
    for secret in [SECRET, good.as_str(), bad.as_str()] {
        assert!(!log.contains(secret), "{secret} in {log}");
        let signature = secret.rsplit('.').next().unwrap();
        assert!(!log.contains(signature), "{signature} in {log}");
    }
}

#[tokio::test]
async fn without_keys_everyone_is_let_in_and_the_operator_is_told() {
    let server = Server::start();
    let warned = server.start_log.iter().filter(|line| line.contains("--auth-key")).count();
    assert_eq!(warned, 1, "{:?}", server.start_log);
    let (status, _, body) = explained(&server, "/v1/server").await;
    assert_eq!((status, &body["auth"]), (200, &json!("open")));
    assert!(body["version"].is_string());
    // A token is not looked at.
    let path = "/ws?roomId=r&peerId=p&access_token=nonsense";
    let mut client = Client::connect(&server, path, Some("protoo")).await.unwrap();
    client.ask("join", json!({})).await.unwrap();

    let server = Server::start_with(&[KEY]);
    assert!(server.start_log.iter().all(|line| !line.contains("--auth-key")));
    assert_eq!(explained(&server, "/v1/server").await.2["auth"], "tokens");
}

#[tokio::test]
async fn a_grant_that_is_missing_is_named() {
    let server = Server::start_with(&[KEY]);
    let path = format!("/ws?access_token={}", token(&["--source", "camera"]));
    let mut ann = Client::connect(&server, &path, Some("protoo")).await.unwrap();
    ann.ask("join", json!({})).await.unwrap();
    let transport = ann.ask("createWebRtcTransport", json!({"producing": true})).await.unwrap();
    let data = json!({"transportId": transport["id"], "kind": "audio",
                      "rtpParameters": microphone(1), "appData": {}});
    let (code, reason) = ann.ask("produce", data).await.unwrap_err();
    assert!(code == 403 && reason.contains("canPublishSources with microphone"), "{reason}");
}

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("opencall-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        // As a whole, for the server may be reading.
        let new = self.0.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks until the server says so; it looks at files once a second.
async fn until_explained(server: &Server, path: &str, code: &str) {
    let asked = async {
        loop {
            let (_, _, body) = get(server, path).await;
            let found: Value = serde_json::from_str(&body).unwrap_or_default();
            if found["code"].as_str().unwrap_or("none") == code {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let late = tokio::time::timeout(PATIENCE, asked).await.is_err();
    assert!(!late, "{path}: never {code}");
}

/// An EC key and the set that has its public half, as a provider publishes it.
fn provider_key(kid: &str) -> (EncodingKey, String) {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let der = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let key = EncodingKey::from_ec_der(der.as_ref());
    let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    (key, json!({"keys": [jwk]}).to_string())
}

fn provided(kid: &str, key: &EncodingKey) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, &claims(), key).unwrap()
}

#[tokio::test]
async fn keys_in_files_can_be_exchanged_without_a_restart() {
    let folder = Folder::new("keys");
    let secrets = folder.write("keys", &format!("key={SECRET}\n"));
    let (old, set) = provider_key("old");
    let set = folder.write("set", &set);
    let server = Server::start_with(&["--auth-keys-file", &secrets, "--auth-jwks-file", &set]);
    let paths = [token(&[]), provided("old", &old)].map(|token| format!("/ws?token={token}"));
    for path in &paths {
        assert_eq!(get(&server, path).await.0, 426);
    }
    folder.write("keys", "other: another secret for tests, 32 bytes\n");
    let (new, text) = provider_key("new");
    folder.write("set", &text);
    for path in &paths {
        until_explained(&server, path, "unknown_key").await;
    }
    let mut claims = claims();
    claims["iss"] = "other".into();
    let renewed = signed(&claims, "another secret for tests, 32 bytes");
    for token in [renewed, provided("new", &new)] {
        assert_eq!(get(&server, &format!("/ws?token={token}")).await.0, 426);
    }
    // Nonsense leaves the keys as they are.
    folder.write("set", "nonsense");
    let path = format!("/ws?token={}", provided("new", &new));
    let seen = async {
        while !server.has_logged("not taken") {
            assert_eq!(get(&server, &path).await.0, 426);
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the file is not looked at");
    assert_eq!(get(&server, &path).await.0, 426);
}

/// TLS for `localhost`, and its certificate, PEM.
pub fn acceptor() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// A provider behind TLS; answers every request with this set.
async fn provider(set: String, folder: &Folder) -> (String, String) {
    let (acceptor, certificate) = acceptor();
    let certificate = folder.write("ca.pem", &certificate);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust us hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", set.len());
            let _ = stream.write_all((head + &set).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (format!("https://localhost:{port}/keys"), certificate)
}

#[tokio::test]
async fn keys_come_over_https_from_those_whom_the_host_trusts() {
    let folder = Folder::new("https");
    let (key, set) = provider_key("k");
    let (url, certificate) = provider(set, &folder).await;
    let path = format!("/ws?token={}", provided("k", &key));
    let flags = ["--auth-jwks-url", url.as_str()];
    let server = Server::start_in(&flags, &[("SSL_CERT_FILE", certificate.as_str())]);
    // The first fetch is waited for.
    assert_eq!(get(&server, &path).await.0, 426);
    let stranger = provided("k", &provider_key("k").0);
    assert_eq!(
        explained(&server, &format!("/ws?token={stranger}")).await.2["code"],
        "bad_signature"
    );

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = folder.write("other.pem", &other.cert.pem());
    let server = Server::start_in(&flags, &[("SSL_CERT_FILE", other.as_str())]);
    assert_eq!(explained(&server, &path).await.2["code"], "unknown_key");
}

#[test]
fn tokens_are_minted_by_hand() {
    let mint = |flags: &[&str], variables: &[(&str, &str)]| {
        let line: Vec<&str> = ["token"].iter().chain(flags).copied().collect();
        run_to_end(&line, variables)
    };
    let who = ["--room", "r", "--identity", "ann"];
    let variables = [("OPENCALL_AUTH_KEYS", "key=a secret for tests of 32 bytes or")];
    let (status, stdout, stderr) = mint(&who, &variables);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout.trim().split('.').count(), 3);
    let (status, stdout, _) = mint(&["--help"], &[]);
    assert!(status == Some(0) && stdout.contains("--no-publish"), "{stdout}");
    let table: [(&[&str], &str); 7] = [
        (&[], "--room"),
        (&who, "--auth-key"),
        (&[&who[..], &["--auth-key", "short=secret"]].concat(), "6 bytes"),
        (&[&who[..], &[KEY, "--key", "other"]].concat(), "no such key"),
        (&[&who[..], &[KEY, "--ttl", "long"]].concat(), "such as 90s"),
        (&[&who[..], &[KEY, "--ttl", "0s"]].concat(), "such as 90s"),
        (&[&who[..], &[KEY, "--source", "hdmi"]].concat(), "choose from camera"),
    ];
    for (flags, word) in table {
        let (status, stdout, stderr) = mint(flags, &[]);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{flags:?}");
        assert!(stderr.contains(word) && stderr.lines().count() == 1, "{flags:?}: {stderr}");
    }
}

#[test]
fn wrong_keys_are_said_at_start_in_one_line_without_the_secret() {
    let folder = Folder::new("wrong");
    let empty = folder.write("empty", "");
    let nowhere = Path::new("/nowhere/keys").to_str().unwrap();
    let table: [(&[&str], &str); 9] = [
        (&["--auth-key", "hush-hush"], "expected KEY=SECRET"),
        (&["--auth-key", "key=hush-hush"], "32 are the least"),
        (&["--auth-keys-file", nowhere], "--auth-keys-file /nowhere/keys"),
        (&["--auth-keys-file", &empty], "no keys"),
        (&["--auth-jwks-file", &empty], "JWK Set"),
        (&["--auth-jwks-url", "id.example"], "https://"),
        (&["--auth-jwks-url", "https://u:hush-hush@id.example"], "password"),
        (&["--auth-audience", "sfu"], "add --auth-key"),
        (&[KEY, KEY], "twice"),
    ];
    for (flags, word) in table {
        let (status, stdout, stderr) = run_to_end(flags, &[]);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{flags:?}: {stderr}");
        assert!(stderr.contains(word) && stderr.lines().count() == 1, "{flags:?}: {stderr}");
        assert!(!stderr.contains("hush-hush") && !stderr.contains(SECRET), "{stderr}");
    }
}
