//! What an unmodified mediasoup-client application with protoo does, in both generations.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, camera, dtls_parameters, microphone};
use crate::server::Server;

/// Which generation an application is of.
#[derive(Clone, Copy, PartialEq)]
enum Generation {
    Old,
    New,
}

use Generation::{New, Old};

/// Makes a transport and connects it; returns its id.
async fn transport(client: &mut Client, generation: Generation, sends: bool) -> String {
    let data = match generation {
        Old => json!({"forceTcp": false, "producing": sends, "consuming": !sends}),
        New => {
            let direction = if sends { "producer" } else { "consumer" };
            json!({"forceTcp": false, "appData": {"direction": direction}})
        }
    };
    let options = client.ask("createWebRtcTransport", data).await.unwrap();
    assert_eq!(options["iceParameters"]["iceLite"], true);
    assert_eq!(options["iceCandidates"][0]["ip"], "127.0.0.1");
    assert_eq!(options["dtlsParameters"]["fingerprints"][0]["algorithm"], "sha-256");
    let name = if generation == Old { "id" } else { "transportId" };
    let id = options[name].as_str().unwrap().to_owned();
    let data = json!({"transportId": id, "dtlsParameters": dtls_parameters()});
    client.ask("connectWebRtcTransport", data).await.unwrap();
    id
}

/// Connects, makes both transports and joins; returns the client, its sending transport and the
/// peers it was told of.
async fn join(server: &Server, peer: &str, generation: Generation) -> (Client, String, Vec<Value>) {
    let mut client = Client::protoo(server, "room", peer).await;
    let version = if generation == Old { "mediasoup-version" } else { "mediasoupVersion" };
    assert!(client.notified(version).await["version"].is_string());
    let answer = client.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
    let capabilities =
        if generation == Old { answer } else { answer["routerRtpCapabilities"].clone() };
    assert_eq!(capabilities["codecs"][0]["mimeType"], "audio/opus");
    let send = transport(&mut client, generation, true).await;
    transport(&mut client, generation, false).await;
    let data = json!({"displayName": peer.to_uppercase(), "device": {"flag": "chrome"},
                      "rtpCapabilities": capabilities});
    let joined = client.ask("join", data).await.unwrap();
    let peers = joined["peers"].as_array().unwrap().clone();
    (client, send, peers)
}

#[tokio::test]
async fn two_meet_talk_and_leave() {
    for (first, second) in [(Old, Old), (New, New), (Old, New)] {
        let server = Server::start();
        let (mut alice, alice_send, peers) = join(&server, "alice", first).await;
        assert!(peers.is_empty());
        let data = json!({"transportId": alice_send, "kind": "audio",
                          "rtpParameters": microphone(1111), "appData": {}});
        let produced = alice.ask("produce", data).await.unwrap();
        assert_eq!(produced["id"], produced["producerId"]);

        // The late joiner hears of alice in the answer, and is offered what she sends.
        let (mut bob, bob_send, peers) = join(&server, "bob", second).await;
        assert_eq!((&peers[0]["id"], &peers[0]["peerId"]), (&json!("alice"), &json!("alice")));
        assert_eq!(peers[0]["displayName"], "ALICE");
        let offer = bob.asked("newConsumer", true).await;
        assert_eq!(offer["peerId"], "alice");
        assert_eq!(offer["producerId"], produced["id"]);
        assert_eq!((&offer["kind"], &offer["type"]), (&json!("audio"), &json!("simple")));
        assert!(offer["rtpParameters"]["encodings"][0]["ssrc"].is_u64());
        assert!(offer["appData"].is_object());

        let newcomer = alice.notified("newPeer").await;
        assert_eq!((&newcomer["id"], &newcomer["peer"]["peerId"]), (&json!("bob"), &json!("bob")));
        let data = json!({"transportId": bob_send, "kind": "video", "rtpParameters": camera(),
                          "appData": {"source": "video"}});
        let camera = bob.ask("produce", data).await.unwrap();
        let offer = alice.asked("newConsumer", true).await;
        assert_eq!(offer["type"], "simulcast");
        assert_eq!(offer["id"], offer["consumerId"]);

        // Control of the streams: as a request, and as a notification.
        let data = json!({"consumerId": offer["id"], "spatialLayer": 0, "temporalLayer": 0});
        assert_eq!(alice.ask("setConsumerPreferredLayers", data).await.unwrap(), json!({}));
        let pause = json!({"notification": true, "method": "pauseProducer",
                           "data": {"producerId": camera["id"]}});
        bob.send(&pause).await;
        assert_eq!(alice.notified("consumerPaused").await["consumerId"], offer["id"]);
        let data = json!({"producerId": camera["id"]});
        assert_eq!(bob.ask("resumeProducer", data).await.unwrap(), json!({}));
        assert_eq!(alice.notified("consumerResumed").await["consumerId"], offer["id"]);

        let data = json!({"displayName": "Robert"});
        bob.ask("changeDisplayName", data).await.unwrap();
        let renamed = alice.notified("peerDisplayNameChanged").await;
        assert_eq!(
            (&renamed["peerId"], &renamed["oldDisplayName"]),
            (&json!("bob"), &json!("BOB"))
        );

        let data = json!({"transportId": alice_send});
        let stats = alice.ask("getTransportStats", data.clone()).await.unwrap();
        let stats = if first == Old { &stats } else { &stats["stats"] };
        assert!(stats[0]["type"].is_string(), "{stats}");
        let ice = alice.ask("restartIce", data).await.unwrap();
        assert_eq!(ice["usernameFragment"], ice["iceParameters"]["usernameFragment"]);

        bob.ask("closeProducer", json!({"producerId": camera["id"]})).await.unwrap();
        assert_eq!(alice.notified("consumerClosed").await["consumerId"], offer["id"]);
        bob.close().await;
        assert_eq!(alice.notified("peerClosed").await, json!({"peerId": "bob"}));
    }
}

#[tokio::test]
async fn a_refused_consumer_is_not_offered_again() {
    let server = Server::start();
    let (mut alice, send, _) = join(&server, "alice", Old).await;
    let data = json!({"transportId": send, "kind": "audio", "rtpParameters": microphone(1),
                      "appData": {}});
    alice.ask("produce", data).await.unwrap();
    let (mut bob, _, _) = join(&server, "bob", Old).await;
    let offer = bob.asked("newConsumer", false).await;
    let data = json!({"consumerId": offer["id"]});
    let mut error = bob.ask("pauseConsumer", data.clone()).await;
    // The refusal is on its way when the next request is sent on the same socket: it is first.
    assert_eq!(error.take_code(), 404);
    let rest = bob.rest().await;
    assert!(rest.iter().all(|frame| frame["method"] != "newConsumer"), "{rest:?}");
}

trait TakeCode {
    fn take_code(&mut self) -> u64;
}

impl TakeCode for Result<Value, (u64, String)> {
    fn take_code(&mut self) -> u64 {
        self.as_ref().expect_err("an error").0
    }
}

#[tokio::test]
async fn who_cannot_receive_is_offered_nothing() {
    let server = Server::start();
    let (mut alice, send, _) = join(&server, "alice", New).await;
    let data = json!({"transportId": send, "kind": "audio", "rtpParameters": microphone(1),
                      "appData": {"source": "audio"}});
    alice.ask("produce", data).await.unwrap();
    let mut bob = Client::protoo(&server, "room", "bob").await;
    let joined = bob.ask("join", json!({"displayName": "Bob"})).await.unwrap();
    assert_eq!(joined["peers"][0]["peerId"], "alice");
    let rest = bob.rest().await;
    assert!(rest.iter().all(|frame| frame["method"] != "newConsumer"), "{rest:?}");
}

#[tokio::test]
async fn the_same_peer_again_replaces_the_one_that_does_not_answer() {
    let server = Server::start();
    let (mut alice, _, _) = join(&server, "alice", Old).await;
    let (mut old, _, _) = join(&server, "bob", Old).await;
    alice.notified("newPeer").await;
    let (mut new, _, peers) = join(&server, "bob", Old).await;
    assert_eq!(peers.len(), 1, "bob must not meet himself: {peers:?}");
    // 4000: the old one must not come back.
    assert_eq!(old.closed().await.map(|(code, _)| code), Some(4000));
    assert_eq!(alice.notified("peerClosed").await["peerId"], "bob");
    assert_eq!(alice.notified("newPeer").await["id"], "bob");
    assert!(new.ask("changeDisplayName", json!({"displayName": "still here"})).await.is_ok());
}

#[tokio::test]
async fn a_stranger_does_not_replace_a_peer_that_answers() {
    let server = Server::start();
    let (bob, _, _) = join(&server, "bob", Old).await;
    // A client that reads answers pings by itself.
    let bob = tokio::spawn(async move {
        let mut bob = bob;
        bob.accept_everything().await;
    });
    let mut stranger = Client::protoo(&server, "room", "bob").await;
    let (code, reason) = stranger.closed().await.expect("a close frame");
    assert_eq!(code, 4003, "{reason}");
    assert!(!bob.is_finished(), "bob was closed");
    // A page that is reloaded has closed its old connection, and waits for nothing.
    bob.abort();
    let _ = bob.await;
    let begin = Instant::now();
    join(&server, "bob", Old).await;
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn rooms_do_not_hear_of_each_other() {
    let server = Server::start();
    let (mut alice, _, _) = join(&server, "alice", Old).await;
    let mut carol = Client::protoo(&server, "elsewhere", "carol").await;
    let joined = carol.ask("join", json!({"displayName": "Carol"})).await.unwrap();
    assert_eq!(joined["peers"], json!([]));
    let rest = alice.rest().await;
    assert!(rest.iter().all(|frame| frame["method"] != "newPeer"), "{rest:?}");
}

#[tokio::test]
async fn without_ids_in_the_url_there_is_no_connection() {
    let server = Server::start();
    for path in ["/ws", "/ws?roomId=r", "/ws?peerId=p", "/ws?roomId=&peerId=p", "/"] {
        let Err(tokio_tungstenite::tungstenite::Error::Http(response)) =
            Client::connect(&server, path, Some("protoo")).await
        else {
            panic!("{path}: connected");
        };
        assert_eq!(response.status(), 400, "{path}");
    }
    let path = "/?roomId=r&peerId=p";
    let mut client = Client::connect(&server, path, Some("protoo")).await.unwrap();
    client.notified("mediasoup-version").await;
}
