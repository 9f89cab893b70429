//! Clients that send what they should not. The server answers with an error or closes, and honest
//! clients beside them notice nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, dtls_parameters, microphone};
use crate::server::Server;

/// An honest client that is asked for a sign of life.
struct Witness(Client);

impl Witness {
    async fn new(server: &Server) -> Self {
        let mut client = Client::protoo(server, "witness", "w").await;
        client.ask("join", json!({"displayName": "W"})).await.unwrap();
        Witness(client)
    }

    async fn lives(&mut self) {
        self.0.ask("changeDisplayName", json!({"displayName": "W"})).await.unwrap();
    }
}

#[tokio::test]
async fn nonsense_is_answered_and_the_connection_lives_on() {
    let server = Server::start();
    let frames = [
        "",
        "{",
        "nonsense",
        "[]",
        "[{}]",
        "7",
        "null",
        "\"text\"",
        "{}",
        "{\"request\":true}",
        "{\"request\":\"true\",\"id\":1}",
        "{\"request\":true,\"id\":-1,\"method\":\"join\"}",
        "{\"request\":true,\"id\":1e99,\"method\":\"join\"}",
        "\u{0}",
        "{\"type\":7}",
    ];
    let deep = "[".repeat(10_000);
    let mut protoo = Client::protoo(&server, "r", "p").await;
    let mut opencall = Client::opencall(&server).await;
    for frame in frames.into_iter().chain([deep.as_str()]) {
        protoo.send_text(frame).await;
        assert!(protoo.notified("error").await["errorReason"].is_string(), "{frame}");
        opencall.send_text(frame).await;
        let error = opencall.frame(frame, |frame| frame["type"] == "error").await;
        assert_eq!(error.get("id"), None);
    }
    protoo.send_binary(b"\x00\xff").await;
    protoo.send(&json!({"response": true, "id": 12345, "ok": true})).await;
    assert!(protoo.ask("getRouterRtpCapabilities", json!(null)).await.is_ok());
    opencall.send_binary(b"\x00\xff").await;
    assert!(opencall.request("getRouterCapabilities", json!({"meetingId": "m"})).await.is_ok());
}

#[tokio::test]
async fn wrong_requests_get_an_error_that_says_what_is_wrong() {
    let server = Server::start();
    let mut client = Client::protoo(&server, "r", "p").await;
    let send = json!({"producing": true, "consuming": false});
    let transport = client.ask("createWebRtcTransport", send).await.unwrap()["id"].clone();
    let no_codecs = json!({"transportId": transport, "kind": "audio", "rtpParameters": {}});
    let table: Vec<(&str, Value, u64, &str)> = vec![
        ("fly", json!({}), 404, "fly"),
        ("join", json!([]), 400, "data"),
        ("join", json!({"displayName": 5}), 400, "displayName"),
        ("join", json!({"device": "phone"}), 400, "device"),
        ("join", json!({"device": {"x": "y".repeat(5000)}}), 400, "device"),
        (
            "join",
            json!({"rtpCapabilities": {"headerExtensions": [{"kind": "smell"}]}}),
            400,
            "rtpCapabilities.headerExtensions[0].kind",
        ),
        ("createWebRtcTransport", json!({}), 400, "producing"),
        ("connectWebRtcTransport", json!({"transportId": transport}), 400, "dtlsParameters"),
        (
            "connectWebRtcTransport",
            json!({"transportId": "?", "dtlsParameters": dtls_parameters()}),
            404,
            "",
        ),
        ("restartIce", json!({"transportId": {}}), 400, "transportId"),
        ("restartIce", json!({"transportId": "unknown"}), 404, ""),
        ("produce", no_codecs, 400, "codecs"),
        ("closeProducer", json!({"producerId": "unknown"}), 404, ""),
        ("pauseConsumer", json!({"consumerId": "unknown"}), 404, ""),
        ("requestConsumerKeyFrame", json!({"consumerId": "unknown"}), 404, ""),
        ("setConsumerPriority", json!({"consumerId": "c", "priority": 256}), 400, "priority"),
        ("getTransportStats", json!({"transportId": "unknown"}), 404, ""),
        ("produceData", json!({}), 400, "transportId"),
    ];
    for (method, data, code, word) in table {
        let error = client.ask(method, data.clone()).await.unwrap_err();
        assert_eq!(error.0, code, "{method} {data}: {}", error.1);
        assert!(error.1.contains(word), "{method}: {}", error.1);
    }
}

#[tokio::test]
async fn requests_out_of_order_are_refused() {
    let server = Server::start();
    let mut client = Client::protoo(&server, "r", "p").await;
    let send = json!({"producing": true, "consuming": false});
    let transport = client.ask("createWebRtcTransport", send).await.unwrap()["id"].clone();
    let produce = json!({"transportId": transport, "kind": "audio",
                         "rtpParameters": microphone(5), "appData": {}});
    assert!(client.ask("produce", produce).await.is_err(), "produce before join");
    client.ask("join", json!({"displayName": "P"})).await.unwrap();
    assert!(client.ask("join", json!({"displayName": "P"})).await.is_err(), "join twice");
    let connect = json!({"transportId": transport, "dtlsParameters": dtls_parameters()});
    client.ask("connectWebRtcTransport", connect.clone()).await.unwrap();
    assert!(client.ask("connectWebRtcTransport", connect).await.is_err(), "connect twice");
}

#[tokio::test]
async fn one_peer_cannot_touch_what_another_owns() {
    let server = Server::start();
    let mut alice = Client::protoo(&server, "r", "alice").await;
    let send = json!({"producing": true, "consuming": false});
    let transport = alice.ask("createWebRtcTransport", send).await.unwrap()["id"].clone();
    alice.ask("join", json!({"displayName": "A"})).await.unwrap();
    let data = json!({"transportId": transport, "kind": "audio",
                      "rtpParameters": microphone(9), "appData": {}});
    let producer = alice.ask("produce", data).await.unwrap()["id"].clone();
    let mut mallory = Client::protoo(&server, "r", "mallory").await;
    mallory.ask("join", json!({"displayName": "M"})).await.unwrap();
    let connect = json!({"transportId": transport, "dtlsParameters": dtls_parameters()});
    let attempts = [
        ("closeProducer", json!({"producerId": producer})),
        ("pauseProducer", json!({"producerId": producer})),
        ("restartIce", json!({"transportId": transport})),
        ("connectWebRtcTransport", connect),
        ("getTransportStats", json!({"transportId": transport})),
    ];
    for (method, data) in attempts {
        assert!(mallory.ask(method, data).await.is_err(), "{method}");
    }
}

#[tokio::test]
async fn a_message_above_the_limit_closes_with_1009() {
    let server = Server::start();
    let mut witness = Witness::new(&server).await;
    for size in [70_000, 1_000_000] {
        let mut client = Client::protoo(&server, "r", "p").await;
        let _ = client.try_send_text("x".repeat(size)).await;
        // A reset may overtake the close frame while we are still sending.
        let closed = client.closed().await;
        assert!(closed.is_none_or(|(code, _)| code == 1009), "{size}");
    }
    witness.lives().await;
}

#[tokio::test]
async fn a_flood_is_read_later_and_hurts_nobody() {
    const RATE: usize = 20;
    const BURST: usize = 40;
    const REQUESTS: usize = 80;
    let server = Server::start_with(&["--request-rate", "20", "--request-burst", "40"]);
    let mut witness = Witness::new(&server).await;
    let started = Instant::now();
    let mut client = Client::protoo(&server, "r", "p").await;
    for id in 0..REQUESTS {
        let frame = json!({"request": true, "id": id, "method": "getRouterRtpCapabilities"});
        client.send(&frame).await;
    }
    witness.lives().await;
    for answered in 0..REQUESTS {
        let is_answer = |frame: &Value| frame["response"] == true && frame["id"] == answered;
        let answer = client.frame("an answer", is_answer).await;
        assert_eq!(answer["ok"], true, "nothing is refused");
        // Each is at least one unit of work: never faster than that.
        let allowed = BURST + (started.elapsed().as_secs_f64() * RATE as f64) as usize + 1;
        assert!(answered <= allowed, "{answered} answered where {allowed} were paid for");
    }
    let least = (REQUESTS - BURST) as f64 / RATE as f64 - 0.2;
    assert!(started.elapsed().as_secs_f64() >= least, "the flood was not slowed");
    witness.lives().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_memory() {
    let server = Server::start_with(&["--request-rate", "100000", "--request-burst", "100000"]);
    let mut witness = Witness::new(&server).await;
    let mut client = Client::protoo(&server, "r", "p").await;
    let before_kib = server.memory_kib();
    let ask = async {
        for id in 0..200_000 {
            let frame = json!({"request": true, "id": id, "method": "getRouterRtpCapabilities"});
            if client.try_send_text(frame.to_string()).await.is_err() {
                break;
            }
        }
    };
    // The server stops reading from who does not read: sending gets stuck, or fails.
    let _ = tokio::time::timeout(Duration::from_secs(3), ask).await;
    let grown_kib = server.memory_kib().saturating_sub(before_kib);
    assert!(grown_kib < 64 * 1024, "grown by {grown_kib} KiB");
    witness.lives().await;
}

#[tokio::test]
async fn comings_and_goings_leave_nothing_behind() {
    let server = Server::start();
    let mut witness = Witness::new(&server).await;
    for round in 0..20 {
        let mut clients = Vec::new();
        for peer in 0..10 {
            let mut client =
                Client::protoo(&server, &format!("room{round}"), &peer.to_string()).await;
            let send = json!({"producing": true, "consuming": false});
            client.ask("createWebRtcTransport", send).await.unwrap();
            client.ask("join", json!({"displayName": "x"})).await.unwrap();
            clients.push(client);
        }
    }
    witness.lives().await;
    let gone = |health: &Value| health["peers"] == 1 && health["connections"] == 1;
    let health = crate::web::health_when(&server, gone).await;
    assert_eq!((&health["peers"], &health["rooms"]), (&json!(1), &json!(1)));
    assert_eq!((&health["connections"], &health["transports"]), (&json!(1), &json!(0)));
}
