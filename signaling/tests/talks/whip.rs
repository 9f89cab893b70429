//! WHIP by hand: what each request is answered, and what the room sees of a publisher. With media:
//! `client/tests/browser/whip.test.ts`.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::{PATIENCE, Server};
use crate::web::{get, health_when};

pub const KEY: &str = "--auth-key=key=a secret for tests of 32 bytes or";

/// A camera and a microphone.
pub fn offer() -> String {
    let print = vec!["AB"; 32].join(":");
    let transport = format!(
        "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
         a=fingerprint:sha-256 {print}\r\na=setup:actpass\r\na=rtcp-mux\r\na=sendonly\r\n"
    );
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{transport}\
         a=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:c\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n{transport}\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=ssrc:2 cname:c\r\n"
    )
}

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

pub async fn call(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub const SDP: &str = "Content-Type: application/sdp\r\n";
pub const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag\r\n";

#[tokio::test]
async fn a_publisher_is_a_participant_until_its_resource_is_deleted() {
    let server = Server::start();
    let mut ann = Client::opencall(&server).await;
    let of = |data: serde_json::Value| {
        let mut data = data;
        data["meetingId"] = "a room".into();
        data["participantId"] = "ann".into();
        data
    };
    let capabilities = ann.request("getRouterCapabilities", of(json!({}))).await.unwrap();
    let data = of(json!({"rtpCapabilities": capabilities}));
    ann.request("setRtpCapabilities", data).await.unwrap();
    ann.request("createTransport", of(json!({"direction": "recv"}))).await.unwrap();

    let answer = call(&server, "POST", "/whip/a%20room", SDP, &offer()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/sdp"));
    assert_eq!(answer.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    let etag = answer.header("etag").unwrap();
    assert!(
        etag.starts_with('"') && answer.body.contains(&format!("ufrag:{}", etag.trim_matches('"')))
    );
    assert!(answer.body.contains("a=ice-lite") && answer.body.contains("a=candidate:"));
    let place = answer.header("location").unwrap();
    assert!(place.starts_with("/whip/a%20room/"), "{place}");
    let kinds = [ann.event("newProducer").await, ann.event("newProducer").await];
    assert_eq!(kinds.map(|producer| producer["kind"].clone()), [json!("audio"), json!("video")]);

    // Another room's address is not this session's.
    let elsewhere = place.replace("a%20room", "b");
    assert_eq!(call(&server, "DELETE", &elsewhere, "", "").await.status, 404);
    assert_eq!(call(&server, "DELETE", place, "", "").await.status, 200);
    ann.event("participantLeft").await;
    let gone = async { while call(&server, "DELETE", place, "", "").await.status != 404 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is gone");
    health_when(&server, |health| health["peers"] == 1 && health["transports"] == 1).await;
}

#[tokio::test]
async fn ice_is_restarted_and_candidates_are_taken_as_long_as_they_are_of_now() {
    let server = Server::start();
    let answer = call(&server, "POST", "/whip/room", SDP, &offer()).await;
    let (place, etag) = (answer.header("location").unwrap(), answer.header("etag").unwrap());
    let condition = |etag: &str| format!("{FRAGMENT}If-Match: {etag}\r\n");
    let candidate = "a=ice-ufrag:abcd\r\nm=audio 9 RTP/AVP 0\r\na=mid:sound\r\n\
                     a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let patch = async |headers: &str| call(&server, "PATCH", place, headers, candidate).await;
    assert_eq!(patch(FRAGMENT).await.status, 428);
    assert_eq!(patch(&condition(etag)).await.status, 204);
    assert_eq!(patch("If-Match: \"x\"\r\n").await.status, 415);
    let restarted = patch(&condition("*")).await;
    assert_eq!(restarted.status, 200);
    assert_ne!(restarted.header("etag").unwrap(), etag);
    assert!(restarted.body.contains("a=ice-pwd:") && restarted.body.contains("a=candidate:"));
    assert!(restarted.body.contains("a=mid:sound\r\n"), "of the section that the client meant");
    assert_eq!(patch(&condition(etag)).await.status, 412);
    assert_eq!(patch(&condition(restarted.header("etag").unwrap())).await.status, 204);
}

#[tokio::test]
async fn each_refusal_has_its_status_and_says_why() {
    let server = Server::start();
    let post = async |headers: &str, body: &str| {
        let answer = call(&server, "POST", "/whip/room", headers, body).await;
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.body.contains("\"detail\":"), "{}", answer.body);
        answer.status
    };
    assert_eq!(post("Content-Type: text/plain\r\n", &offer()).await, 415);
    assert_eq!(post(SDP, "nonsense").await, 400);
    assert_eq!(post(SDP, &offer().replace("VP8", "VP7")).await, 422);
    assert_eq!(post(SDP, &offer().replace("ssrc:2", "ssrc:1")).await, 422);
    assert_eq!(post(SDP, &"v".repeat(70_000)).await, 413);
    let page = format!("{SDP}Origin: https://elsewhere.example\r\n");
    assert_eq!(post(&page, &offer()).await, 403);
    // Nobody who was refused is left behind.
    health_when(&server, |health| health["peers"] == 0 && health["connections"] == 0).await;

    let preflight = call(&server, "OPTIONS", "/whip/room", "Origin: http://x\r\n", "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("accept-post"), Some("application/sdp"));
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://x"));
    assert!(preflight.header("access-control-expose-headers").unwrap().contains("Location"));
}

#[tokio::test]
async fn who_publishes_needs_a_token_for_the_room() {
    let server = Server::start_with(&[KEY]);
    let mint = |flags: &[&str]| {
        let line = ["token", KEY, "--room", "room", "--identity", "cam"].iter().chain(flags);
        opencall_signaling::auth::mint::mint(line.copied()).unwrap_or_else(|e| panic!("{e}"))
    };
    let with = |token: &str| format!("{SDP}Authorization: Bearer {token}\r\n");
    let post =
        async |path: &str, headers: &str| call(&server, "POST", path, headers, &offer()).await;
    let refused = post("/whip/room", SDP).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    let good = mint(&[]);
    assert_eq!(post("/whip/other", &with(&good)).await.status, 403);
    assert_eq!(post("/whip/room", &with(&mint(&["--no-publish"]))).await.status, 403);
    let answer = post("/whip/room", &with(&good)).await;
    assert_eq!(answer.status, 201);
    let place = answer.header("location").unwrap();
    assert_eq!(call(&server, "DELETE", place, "", "").await.status, 401);
    let bearer = format!("Authorization: Bearer {good}\r\n");
    assert_eq!(call(&server, "DELETE", place, &bearer, "").await.status, 200);
    assert_eq!(get(&server, "/healthz").await.0, 200);
}
