//! The admin API: who may, what each route answers, and what clients notice.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Client, camera, microphone};
use crate::server::{PATIENCE, Server};
use crate::web::get;

pub const SECRET: &str = "an admin secret for tests of 32 bytes";
pub const KEY: &str = "--admin-key=ops=an admin secret for tests of 32 bytes";
const TOKEN_SECRET: &str = "a secret for tests of 32 bytes or";
const TOKEN_KEY: &str = "--auth-key=key=a secret for tests of 32 bytes or";

const PRODUCE: &str = "{\"kind\": \"audio\", \"rtpParameters\": {\"codecs\": []}}";

/// Every route, with a body that would do.
const ROUTES: [(&str, &str, &str); 26] = [
    ("GET", "/v1/rooms", ""),
    ("GET", "/v1/rooms/room", ""),
    ("POST", "/v1/rooms/room/lock", ""),
    ("POST", "/v1/rooms/room/unlock", ""),
    ("POST", "/v1/rooms/room/data", "{\"text\": \"hello\"}"),
    ("GET", "/v1/rooms/room/recording", ""),
    ("POST", "/v1/rooms/room/recording", ""),
    ("DELETE", "/v1/rooms/room/recording", ""),
    ("GET", "/v1/rooms/room/push", ""),
    ("POST", "/v1/rooms/room/push", "{\"url\": \"rtmp://a/b/c\", \"participant\": \"ann\"}"),
    ("DELETE", "/v1/rooms/room/push", ""),
    ("GET", "/v1/rooms/room/participants/ann", ""),
    ("POST", "/v1/rooms/room/participants/ann/mute", "{\"source\": \"camera\"}"),
    ("DELETE", "/v1/rooms/room/participants/ann", ""),
    ("GET", "/v1/workers", ""),
    ("POST", "/v1/workers", ""),
    ("POST", "/v1/workers/0/drain", ""),
    ("DELETE", "/v1/workers/9/drain", ""),
    ("GET", "/rooms/room", ""),
    ("DELETE", "/rooms/room/broadcasters/x", ""),
    ("POST", "/rooms/room/broadcasters/x/transports", "{\"type\": \"plain\"}"),
    ("POST", "/rooms/room/broadcasters/x/transports/1/connect", "{}"),
    ("POST", "/rooms/room/broadcasters/x/transports/1/consume", "{\"producerId\": \"1\"}"),
    ("POST", "/rooms/room/broadcasters/x/transports/1/producers", PRODUCE),
    ("POST", "/v1/drain", ""),
    ("DELETE", "/v1/drain", ""),
];

/// Status, head in lower case, and the body's JSON.
async fn call(
    server: &Server,
    (method, path, body): (&str, &str, &str),
    authorization: &str,
) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

/// As the administrator.
pub async fn admin(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let header = format!("Authorization: Bearer {SECRET}\r\n");
    let (status, _, body) = call(server, (method, path, body), &header).await;
    (status, body)
}

/// A protoo client that has joined.
pub async fn join(server: &Server, room: &str, peer: &str) -> Client {
    let mut client = Client::protoo(server, room, peer).await;
    let capabilities = client.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
    let data = json!({"displayName": peer, "rtpCapabilities": capabilities});
    client.ask("join", data).await.unwrap();
    client
}

/// Its producer of this kind.
pub async fn produce(client: &mut Client, kind: &str) -> String {
    let transport = client.ask("createWebRtcTransport", json!({"producing": true})).await.unwrap();
    let parameters = if kind == "audio" { microphone(7) } else { camera() };
    let data = json!({"transportId": transport["id"], "kind": kind, "rtpParameters": parameters,
                      "appData": {}});
    client.ask("produce", data).await.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_a_key_in_the_configuration_there_is_no_admin_api() {
    let server = Server::start_with(&[TOKEN_KEY]);
    for secret in ["", TOKEN_SECRET] {
        for route in ROUTES {
            let header = format!("Authorization: Bearer {secret}\r\n");
            let (status, _, body) = call(&server, route, &header).await;
            assert_eq!((status, &body["code"]), (404, &json!("admin_off")), "{route:?}");
            assert!(body["reason"].as_str().unwrap().contains("--admin-key"));
        }
    }
}

#[tokio::test]
async fn each_route_wants_a_key_of_administrators() {
    let server = Server::start_with(&[KEY, TOKEN_KEY]);
    let wrong = [
        (String::new(), "missing_key"),
        ("Authorization: Basic b3BzOg==\r\n".to_owned(), "missing_key"),
        (format!("Authorization: Bearer {TOKEN_SECRET}\r\n"), "wrong_key"),
        (format!("Authorization: Bearer {}\r\n", &SECRET[1..]), "wrong_key"),
        ("Authorization: Bearer ops\r\n".to_owned(), "wrong_key"),
    ];
    for route in ROUTES {
        for (header, code) in &wrong {
            let (status, head, body) = call(&server, route, header).await;
            assert_eq!((status, &body["code"]), (401, &json!(code)), "{route:?}");
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert!(!body.to_string().contains("secret for"), "{body}");
        }
        // Not where others see it: in addresses.
        let path = format!("{}?access_token={}", route.1, SECRET.replace(' ', "%20"));
        let (status, ..) = call(&server, (route.0, &path, route.2), "").await;
        assert_eq!(status, 401, "{route:?}");
    }
    assert_eq!(get(&server, "/healthz").await.0, 200, "nothing was drained");
    // With the key, each route does what it does; nobody is there yet.
    for route in ROUTES {
        let (status, body) = admin(&server, route.0, route.1, route.2).await;
        let is_there = !route.1.contains("/rooms/") && !route.1.contains("/9/");
        let expected = if is_there { 200 } else { 404 };
        assert_eq!(status, expected, "{route:?} {body}");
        let (status, _) = admin(&server, "PUT", route.1, "").await;
        assert_eq!(status, 405, "{route:?}");
    }
}

#[tokio::test]
async fn keys_in_a_file_can_be_exchanged_without_a_restart() {
    let folder = crate::web::Folder::new("admin");
    let file = folder.write("keys", "old=the old secret of administrators\n");
    let server = Server::start_with(&["--admin-keys-file", &file]);
    let with = async |secret: &str| {
        let header = format!("Authorization: Bearer {secret}\r\n");
        call(&server, ("GET", "/v1/workers", ""), &header).await.0
    };
    assert_eq!(with("the old secret of administrators").await, 200);
    folder.write("keys", "new: the new secret of administrators\n");
    let taken = async {
        while with("the new secret of administrators").await != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the file is not looked at");
    assert_eq!(with("the old secret of administrators").await, 401);
}

#[tokio::test]
async fn rooms_and_participants_are_seen_and_nothing_leaks_between_rooms() {
    let server = Server::start_with(&[KEY]);
    let mut ann = join(&server, "one", "ann").await;
    let mut ben = join(&server, "two/a", "ben").await;
    produce(&mut ann, "video").await;
    produce(&mut ben, "audio").await;

    let (status, body) = admin(&server, "GET", "/v1/rooms", "").await;
    let names: Vec<&Value> =
        body["rooms"].as_array().unwrap().iter().map(|room| &room["room"]).collect();
    assert_eq!((status, names), (200, vec![&json!("one"), &json!("two/a")]));
    let (_, page) = admin(&server, "GET", "/v1/rooms?limit=1", "").await;
    let path = format!("/v1/rooms?limit=1&after={}", page["next"].as_str().unwrap());
    let (_, rest) = admin(&server, "GET", &path, "").await;
    assert_eq!((&rest["rooms"][0]["room"], &rest["next"]), (&json!("two/a"), &Value::Null));

    let (_, room) = admin(&server, "GET", "/v1/rooms/two%2Fa", "").await;
    assert_eq!(room["members"][0]["participant"], "ben");
    assert_eq!(room["members"][0]["producers"][0]["source"], "microphone");
    let (_, seen) = admin(&server, "GET", "/v1/rooms/one/participants/ann", "").await;
    assert_eq!((&seen["participant"], &seen["joined"]), (&json!("ann"), &json!(true)));
    assert_eq!(seen["transportList"].as_array().map(Vec::len), Some(1));
    assert_eq!(seen["stats"][0]["type"], "webrtc-transport");
    let all = format!("{room} {seen}");
    assert!(room.to_string().contains("ben") && !room.to_string().contains("ann"), "{all}");

    for path in
        ["/v1/rooms/one/participants/ben", "/v1/rooms/two/participants/ben", "/v1/rooms/nowhere"]
    {
        let (status, body) = admin(&server, "GET", path, "").await;
        assert_eq!((status, &body["code"]), (404, &json!("not_found")), "{path}");
    }
    let (status, _) = admin(&server, "DELETE", "/v1/rooms/one/participants/ben", "").await;
    assert_eq!(status, 404);
    let (status, body) = admin(&server, "GET", "/v1/rooms?limit=many", "").await;
    assert_eq!((status, &body["code"]), (400, &json!("malformed")));
}

#[tokio::test]
async fn who_is_removed_hears_it_in_each_dialect_and_it_is_written_down() {
    let server = Server::start_with(&[KEY]);
    let mut ann = join(&server, "room", "ann").await;
    let mut ben = Client::opencall(&server).await;
    let ids = json!({"meetingId": "room", "participantId": "ben"});
    let capabilities = ben.request("getRouterCapabilities", ids.clone()).await.unwrap();
    let mut data = ids.clone();
    data["rtpCapabilities"] = capabilities;
    ben.request("setRtpCapabilities", data).await.unwrap();

    let path = "/v1/rooms/room/participants/ben";
    assert_eq!(admin(&server, "DELETE", path, "").await, (200, json!({})));
    let reason = json!({"reason": "removed by an administrator"});
    assert_eq!(ben.event("removed").await, reason);
    let (code, words) = ben.closed().await.unwrap();
    assert_eq!((code, words.as_str()), (4000, "removed by an administrator"));
    assert_eq!(ann.notified("peerClosed").await["peerId"], "ben");

    let path = "/v1/rooms/room/participants/ann";
    assert_eq!(admin(&server, "DELETE", path, "").await.0, 200);
    assert_eq!(ann.notified("removed").await, reason);
    assert_eq!(ann.closed().await.map(|(code, _)| code), Some(4000));
    let line = server.logged("participant=\"ann\"");
    for word in ["key=\"ops\"", "remote=127.0.0.1", "remove", "room=\"room\"", "result=\"done\""] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert_eq!(admin(&server, "DELETE", path, "").await.0, 404);
    assert!(server.logged("not_found").contains("remove"));
}

#[tokio::test]
async fn who_is_muted_cannot_resume_until_an_administrator_lets_it() {
    let server = Server::start_with(&[KEY]);
    let mut ann = join(&server, "room", "ann").await;
    let mut ben = join(&server, "room", "ben").await;
    ben.ask("createWebRtcTransport", json!({"consuming": true})).await.unwrap();
    let producer = produce(&mut ann, "audio").await;
    let consumer = ben.asked("newConsumer", true).await["id"].clone();

    let path = "/v1/rooms/room/participants/ann/mute";
    let body = json!({"producer": producer}).to_string();
    let (status, answer) = admin(&server, "POST", path, &body).await;
    assert_eq!((status, answer), (200, json!({"producers": [producer]})));
    let told = ann.notified("producerMuted").await;
    assert_eq!(told, json!({"producerId": producer, "muted": true}));
    assert_eq!(ben.notified("consumerPaused").await["consumerId"], consumer);
    let resume = json!({"producerId": producer});
    let (code, reason) = ann.ask("resumeProducer", resume.clone()).await.unwrap_err();
    assert!(code == 403 && reason.contains("administrator"), "{reason}");

    let body = json!({"producer": producer, "muted": false}).to_string();
    assert_eq!(admin(&server, "POST", path, &body).await.0, 200);
    assert_eq!(ben.notified("consumerResumed").await["consumerId"], consumer);
    ann.ask("resumeProducer", resume).await.unwrap();

    for body in [
        "",
        "[]",
        "{}",
        "{\"source\": \"hdmi\"}",
        "{\"producer\": 1}",
        "{\"producer\": \"x\", \"source\": \"camera\"}",
        "{\"source\": \"camera\", \"x\": 1}",
    ] {
        let (status, answer) = admin(&server, "POST", path, body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("malformed")), "{body}");
    }
    let long = format!("{{\"producer\": \"{}\"}}", "x".repeat(5_000));
    assert_eq!(admin(&server, "POST", path, &long).await.0, 400);
}

#[tokio::test]
async fn a_locked_room_lets_nobody_else_in() {
    let server = Server::start_with(&[KEY]);
    let _ann = join(&server, "room", "ann").await;
    assert_eq!(admin(&server, "POST", "/v1/rooms/room/lock", "").await.0, 200);
    assert_eq!(admin(&server, "GET", "/v1/rooms/room", "").await.1["locked"], true);
    let mut ben = Client::protoo(&server, "room", "ben").await;
    let closed = ben.closed().await.unwrap();
    assert_eq!(closed, (4004, "this room is locked".to_owned()));
    assert_eq!(admin(&server, "POST", "/v1/rooms/room/unlock", "").await.0, 200);
    join(&server, "room", "ben").await;
}

#[tokio::test]
async fn a_draining_server_lets_nobody_in_and_stops_when_all_have_gone() {
    let mut server = Server::start_with(&[KEY]);
    let ann = join(&server, "room", "ann").await;
    assert_eq!(admin(&server, "POST", "/v1/drain", "").await.0, 200);
    let refused = Client::connect(&server, "/ws?roomId=r&peerId=p", Some("protoo")).await;
    let Err(Error::Http(response)) = refused else { panic!("let in") };
    assert_eq!(response.status().as_u16(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let (status, _, body) = get(&server, "/healthz").await;
    assert!(status == 503 && body.contains("draining"), "{body}");
    assert!(get(&server, "/v1/server").await.2.contains("\"draining\":true"));
    assert_eq!(admin(&server, "DELETE", "/v1/drain", "").await.0, 200);
    join(&server, "room", "ben").await.close().await;

    for body in ["{\"deadlineSeconds\": 100000}", "{\"deadlineSeconds\": -1}", "{\"x\": 1}"] {
        assert_eq!(admin(&server, "POST", "/v1/drain", body).await.0, 400, "{body}");
    }
    let body = json!({"reason": "upgrade", "deadlineSeconds": 600}).to_string();
    assert_eq!(admin(&server, "POST", "/v1/drain", &body).await.0, 200);
    let (_, workers) = admin(&server, "GET", "/v1/workers", "").await;
    assert_eq!(workers["draining"]["reason"], "upgrade");
    ann.close().await;
    assert!(server.wait().success());
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_whoever_is_there() {
    let mut server = Server::start_with(&[KEY]);
    let mut ann = join(&server, "room", "ann").await;
    let body = json!({"deadlineSeconds": 1}).to_string();
    assert_eq!(admin(&server, "POST", "/v1/drain", &body).await.0, 200);
    assert_eq!(ann.closed().await.map(|(code, _)| code), Some(1001));
    assert!(server.wait().success());
}

#[tokio::test]
async fn workers_tell_what_they_do() {
    let server = Server::start_with(&[KEY]);
    let _ann = join(&server, "room", "ann").await;
    let seen = async {
        loop {
            let (status, body) = admin(&server, "GET", "/v1/workers", "").await;
            assert_eq!(status, 200);
            if body["participants"] == 1 && body["workers"].as_array().map(Vec::len) == Some(1) {
                return body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let body = tokio::time::timeout(PATIENCE, seen).await.expect("a worker");
    let worker = &body["workers"][0];
    assert_eq!((&worker["core"], &worker["alive"]), (&json!(0), &json!(true)));
    assert!(worker["busy"].as_f64().is_some() && worker["drops"].is_object(), "{worker}");
}
