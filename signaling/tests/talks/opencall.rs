//! What OpenCall's own client does.

use serde_json::{Value, json};

use crate::client::{Client, camera, dtls_parameters, microphone};
use crate::server::Server;

/// `data` as `participant` of the meeting sends it.
fn of(participant: &str, mut data: Value) -> Value {
    data["meetingId"] = "meeting".into();
    data["participantId"] = participant.into();
    data
}

/// Connects and enters the meeting; returns the client, its sending transport and its
/// capabilities.
async fn enter(server: &Server, name: &str) -> (Client, Value, Value) {
    let mut client = Client::opencall(server).await;
    let data = json!({"meetingId": "meeting"});
    let capabilities = client.request("getRouterCapabilities", data).await.unwrap();
    assert_eq!(capabilities["codecs"][0]["mimeType"], "audio/opus");
    let mut transports = Vec::new();
    for direction in ["send", "recv"] {
        let data = of(name, json!({"direction": direction}));
        let options = client.request("createTransport", data).await.unwrap();
        let data = json!({"transportId": options["id"], "dtlsParameters": dtls_parameters()});
        client.request("connectTransport", of(name, data)).await.unwrap();
        transports.push(options["id"].clone());
    }
    let data = json!({"rtpCapabilities": capabilities, "displayName": name.to_uppercase()});
    client.request("setRtpCapabilities", of(name, data)).await.unwrap();
    (client, transports.swap_remove(0), capabilities)
}

#[tokio::test]
async fn two_meet_talk_and_leave() {
    let server = Server::start();
    let (mut alice, send, _) = enter(&server, "alice").await;
    let data = json!({"transportId": send, "kind": "audio", "rtpParameters": microphone(7),
                      "appData": {"source": "microphone"}});
    let microphone = alice.request("produce", of("alice", data)).await.unwrap();

    // The late joiner is told who is there and what there is.
    let (mut bob, bob_send, capabilities) = enter(&server, "bob").await;
    let alice_is_there = bob.event("newParticipant").await;
    assert_eq!(alice_is_there, json!({"participantId": "alice", "displayName": "ALICE"}));
    let offered = bob.event("newProducer").await;
    assert_eq!(offered["participantId"], "alice");
    assert_eq!(offered["producerId"], microphone["producerId"]);
    assert_eq!(offered["appData"], json!({"source": "microphone"}));
    assert_eq!(alice.event("newParticipant").await["participantId"], "bob");

    let data = json!({"producerId": offered["producerId"], "rtpCapabilities": capabilities});
    let consumer = bob.request("consume", of("bob", data)).await.unwrap();
    assert_eq!(
        (&consumer["kind"], &consumer["producerId"]),
        (&json!("audio"), &offered["producerId"])
    );
    let again = bob.event("newConsumer").await;
    assert_eq!(again, json!({"participantId": "alice", "consumerData": consumer}));
    for name in ["pauseConsumer", "resumeConsumer"] {
        let data = of("bob", json!({"consumerId": consumer["id"]}));
        assert_eq!(bob.request(name, data).await, Ok(json!({})));
    }

    let data = json!({"transportId": bob_send, "kind": "video", "rtpParameters": camera(),
                      "appData": {"source": "screen"}});
    let screen = bob.request("produce", of("bob", data)).await.unwrap();
    assert_eq!(alice.event("newProducer").await["appData"]["source"], "screen");
    let data = of("alice", json!({"producerId": screen["producerId"]}));
    let consumer = alice.request("consume", data).await.unwrap();
    let layers = json!({"spatialLayer": 1, "temporalLayer": 2});
    let data = json!({"consumerId": consumer["id"], "layers": layers});
    alice.request("setConsumerPreferredLayers", of("alice", data)).await.unwrap();
    let data = json!({"consumerId": consumer["id"], "priority": 100});
    alice.request("setConsumerPriority", of("alice", data)).await.unwrap();
    alice.request("getStats", of("alice", json!({}))).await.unwrap();

    let data = of("bob", json!({"producerId": screen["producerId"]}));
    bob.request("pauseProducer", data.clone()).await.unwrap();
    bob.request("resumeProducer", data.clone()).await.unwrap();
    bob.request("closeProducer", data).await.unwrap();
    assert_eq!(alice.event("producerClosed").await, json!({"producerId": screen["producerId"]}));
    bob.close().await;
    assert_eq!(alice.event("participantLeft").await, json!({"participantId": "bob"}));
}

#[tokio::test]
async fn both_dialects_meet_in_one_room() {
    let server = Server::start();
    let (mut alice, send, capabilities) = enter(&server, "alice").await;
    let mut bob = Client::protoo(&server, "meeting", "bob").await;
    let recv = json!({"forceTcp": false, "producing": false, "consuming": true});
    bob.ask("createWebRtcTransport", recv).await.unwrap();
    let data = json!({"displayName": "Bob", "rtpCapabilities": capabilities});
    let joined = bob.ask("join", data).await.unwrap();
    assert_eq!(joined["peers"][0]["displayName"], "ALICE");
    let data = json!({"transportId": send, "kind": "video", "rtpParameters": camera(),
                      "appData": {"source": "screen"}});
    alice.request("produce", of("alice", data)).await.unwrap();
    let offer = bob.asked("newConsumer", true).await;
    let app_data = json!({"peerId": "alice", "source": "screensharing", "share": true});
    assert_eq!(offer["appData"], app_data);
    assert_eq!(alice.event("newParticipant").await["displayName"], "Bob");
}

#[tokio::test]
async fn the_same_participant_again_replaces_the_one_that_does_not_answer() {
    let server = Server::start();
    let (mut old, _, _) = enter(&server, "alice").await;
    let (_new, _, _) = enter(&server, "alice").await;
    assert_eq!(old.closed().await.map(|(code, _)| code), Some(4000));
}
