//! WHEP by hand: what each request is answered, and what comes of who publishes and leaves. With
//! media: `client/tests/browser/whep.test.ts`.

use serde_json::json;

use crate::client::Client;
use crate::server::{PATIENCE, Server};
use crate::web::health_when;
use crate::whip::{Answer, FRAGMENT, KEY, SDP, call, offer as whip_offer};

/// One who would hear and see, as browsers write it: with numbers of its own.
fn offer() -> String {
    let print = vec!["AB"; 32].join(":");
    let transport = format!(
        "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
         a=fingerprint:sha-256 {print}\r\na=setup:actpass\r\na=rtcp-mux\r\na=recvonly\r\n"
    );
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{transport}\
         a=extmap:14 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 35 36\r\na=mid:1\r\n{transport}\
         a=extmap:14 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=rtpmap:35 VP8/90000\r\n\
         a=rtcp-fb:35 nack pli\r\na=rtpmap:36 rtx/90000\r\na=fmtp:36 apt=35\r\n"
    )
}

async fn watch(server: &Server, path: &str, headers: &str) -> Answer {
    call(server, "POST", path, headers, &offer()).await
}

async fn publish(server: &Server, room: &str) -> String {
    let answer = call(server, "POST", &format!("/whip/{room}"), SDP, &whip_offer()).await;
    answer.header("location").expect("published").to_owned()
}

#[tokio::test]
async fn who_watches_is_answered_in_its_own_numbers_and_stays_while_others_come_and_go() {
    let server = Server::start();
    let camera = publish(&server, "a%20room").await;
    let answer = watch(&server, "/whep/a%20room", SDP).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/sdp"));
    assert_eq!(answer.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    let (etag, place) = (answer.header("etag").unwrap(), answer.header("location").unwrap());
    assert!(place.starts_with("/whep/a%20room/"), "{place}");
    assert!(answer.body.contains(&format!("ufrag:{}", etag.trim_matches('"'))));
    for line in [
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=video 9 UDP/TLS/RTP/SAVPF 35 36",
        "a=sendonly",
        "a=extmap:14 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=rtpmap:35 VP8/90000",
        "a=rtcp-fb:35 nack pli",
        "a=fmtp:36 apt=35",
        "a=setup:passive",
        "a=end-of-candidates",
    ] {
        assert!(answer.body.contains(&format!("{line}\r\n")), "{line} in {}", answer.body);
    }
    assert!(answer.body.contains("a=ssrc-group:FID ") && answer.body.contains("a=msid:view-"));
    assert!(!answer.body.contains("a=recvonly"));

    // The camera goes, and the session stays for whoever comes next.
    assert_eq!(call(&server, "DELETE", &camera, "", "").await.status, 200);
    health_when(&server, |health| health["peers"] == 1 && health["consumers"] == 2).await;
    publish(&server, "a%20room").await;
    health_when(&server, |health| health["peers"] == 2 && health["consumers"] == 2).await;
    assert_eq!(call(&server, "DELETE", place, "", "").await.status, 200);
    let gone = async { while call(&server, "DELETE", place, "", "").await.status != 404 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is gone");
    health_when(&server, |health| health["peers"] == 1 && health["producers"] == 2).await;
}

#[tokio::test]
async fn each_refusal_has_its_status_and_says_why() {
    let server = Server::start();
    let post = async |path: &str, headers: &str, body: &str| {
        let answer = call(&server, "POST", path, headers, body).await;
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.body.contains("\"detail\":"), "{}", answer.body);
        (answer.status, answer.header("retry-after").is_some())
    };
    let table = [
        ("/whep/room", "Content-Type: text/plain\r\n", offer(), 415),
        ("/whep/room", SDP, "nonsense".to_owned(), 400),
        ("/whep/room?source=moon", SDP, offer(), 400),
        ("/whep/room?source=screen", SDP, offer(), 400),
        ("/whep/room", SDP, offer().replace("recvonly", "sendonly"), 422),
        ("/whep/room", SDP, offer().replace("recvonly", "inactive"), 422),
        ("/whep/room", SDP, offer().replace("VP8", "VP7").replace("opus", "speex"), 422),
        ("/whep/room", SDP, "v".repeat(70_000), 413),
        // Nobody is there.
        ("/whep/room", SDP, offer(), 404),
    ];
    for (path, headers, body, status) in table {
        assert_eq!(post(path, headers, &body).await, (status, false), "{path} {headers} {body}");
    }
    let page = format!("{SDP}Origin: https://elsewhere.example\r\n");
    assert_eq!(post("/whep/room", &page, &offer()).await.0, 403);
    // Nobody who was refused is left behind.
    health_when(&server, |health| health["rooms"] == 0 && health["connections"] == 0).await;

    // Somebody is there, and sends nothing.
    let mut ann = Client::opencall(&server).await;
    let ids = json!({"meetingId": "room", "participantId": "ann"});
    let mut data = ids.clone();
    data["rtpCapabilities"] = ann.request("getRouterCapabilities", ids).await.unwrap();
    ann.request("setRtpCapabilities", data).await.unwrap();
    assert_eq!(post("/whep/room", SDP, &offer()).await, (409, true));
    publish(&server, "room").await;
    assert_eq!(post("/whep/room?participant=nobody", SDP, &offer()).await.0, 404);
    assert_eq!(watch(&server, "/whep/room?participant=ann", SDP).await.status, 201);
    let same = offer().replace("a=mid:1", "a=mid:0");
    assert_eq!(post("/whep/room", SDP, &same).await.0, 422);

    let preflight = call(&server, "OPTIONS", "/whep/room", "Origin: http://x\r\n", "").await;
    assert_eq!((preflight.status, preflight.header("accept-post")), (204, Some("application/sdp")));
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://x"));
    assert!(preflight.header("access-control-expose-headers").unwrap().contains("Location"));
    assert_eq!(call(&server, "GET", "/whep/room", "", "").await.status, 405);
}

#[tokio::test]
async fn sections_that_get_nothing_are_rejected_and_the_others_served() {
    let server = Server::start();
    publish(&server, "room").await;
    let offer = offer().replace("VP8", "VP7");
    let answer = call(&server, "POST", "/whep/room", SDP, &offer).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(answer.body.contains("m=video 0 UDP/TLS/RTP/SAVPF 35\r\n"), "{}", answer.body);
    assert!(answer.body.contains("a=group:BUNDLE 0\r\n") && answer.body.contains("m=audio 9 "));
}

#[tokio::test]
async fn layers_are_chosen_where_the_answer_says() {
    let server = Server::start();
    publish(&server, "room").await;
    let answer = watch(&server, "/whep/room", SDP).await;
    let link = answer.header("link").unwrap();
    let (place, rel) = link.strip_prefix('<').and_then(|link| link.split_once('>')).unwrap();
    assert_eq!(rel, "; rel=\"urn:ietf:params:whep:ext:core:layer\"");
    let json = "Content-Type: application/json\r\n";
    let table = [
        (place.to_owned(), json, r#"{"mediaId":"1","spatialLayerId":0,"temporalLayerId":1}"#, 200),
        (place.to_owned(), json, r#"{"mediaId":"1"}"#, 200),
        (place.to_owned(), json, r#"{"mediaId":"7"}"#, 400),
        (place.to_owned(), json, r#"{"mediaId":"1","spatialLayerId":-1}"#, 400),
        (place.to_owned(), json, "[", 400),
        (place.to_owned(), SDP, "{}", 415),
        (place.replace("/room/", "/other/"), json, r#"{"mediaId":"1"}"#, 404),
    ];
    for (place, headers, body, status) in table {
        let answer = call(&server, "POST", &place, headers, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    // None any more, of no section.
    assert_eq!(call(&server, "DELETE", place, "", "").await.status, 200);
    let elsewhere = place.replace("/room/", "/other/");
    assert_eq!(call(&server, "DELETE", &elsewhere, "", "").await.status, 404);
}

#[tokio::test]
async fn ice_is_restarted_as_with_whip() {
    let server = Server::start();
    publish(&server, "room").await;
    let answer = watch(&server, "/whep/room", SDP).await;
    let (place, etag) = (answer.header("location").unwrap(), answer.header("etag").unwrap());
    let candidate = "a=ice-ufrag:abcd\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let patch = async |headers: &str| call(&server, "PATCH", place, headers, candidate).await;
    let condition = |etag: &str| format!("{FRAGMENT}If-Match: {etag}\r\n");
    assert_eq!(patch(FRAGMENT).await.status, 428);
    assert_eq!(patch(&condition(etag)).await.status, 204);
    let restarted = patch(&condition("*")).await;
    assert_eq!(restarted.status, 200);
    assert_ne!(restarted.header("etag").unwrap(), etag);
    assert_eq!(patch(&condition(etag)).await.status, 412);
}

#[tokio::test]
async fn who_watches_needs_a_token_that_lets_it_receive() {
    let server = Server::start_with(&[KEY]);
    let mint = |flags: &[&str]| {
        let line = ["token", KEY, "--room", "room", "--identity", "eye"].iter().chain(flags);
        opencall_signaling::auth::mint::mint(line.copied()).unwrap_or_else(|e| panic!("{e}"))
    };
    let with = |token: &str| format!("{SDP}Authorization: Bearer {token}\r\n");
    let good = mint(&[]);
    let published = call(&server, "POST", "/whip/room", &with(&good), &whip_offer()).await;
    assert_eq!(published.status, 201);
    let refused = watch(&server, "/whep/room", SDP).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(watch(&server, "/whep/other", &with(&good)).await.status, 403);
    let deaf = with(&mint(&["--no-subscribe"]));
    assert_eq!(watch(&server, "/whep/room", &deaf).await.status, 403);
    // Two may watch with the token of the one who sends, and none takes another's place.
    let mute = with(&mint(&["--no-publish"]));
    assert_eq!(watch(&server, "/whep/room", &mute).await.status, 201);
    assert_eq!(watch(&server, "/whep/room", &with(&good)).await.status, 201);
    health_when(&server, |health| health["peers"] == 3 && health["producers"] == 4).await;
}
