//! A room of many, as clients of both dialects see it.

use serde_json::{Value, json};

use crate::client::{Client, microphone};
use crate::crowd::enter;
use crate::server::Server;

const STAGE: [&str; 6] = ["--stage-from", "2", "--stage-voices", "1", "--stage-videos", "2"];

/// Enters by protoo and sends a voice; its producer's id.
async fn speaker(server: &Server, name: &str, ssrc: u32) -> (Client, Value) {
    let mut client = enter(server, "meeting", name).await;
    let send = json!({"producing": true, "consuming": false});
    let transport = client.ask("createWebRtcTransport", send).await.unwrap()["id"].clone();
    let data = json!({"transportId": transport, "kind": "audio",
                      "rtpParameters": microphone(ssrc)});
    let producer = client.ask("produce", data).await.unwrap()["producerId"].clone();
    (client, producer)
}

#[tokio::test]
async fn both_dialects_get_the_stage_and_whom_they_ask_for() {
    let server = Server::start_with(&STAGE);
    let (mut anna, annas) = speaker(&server, "anna", 7).await;
    let (mut bert, _) = speaker(&server, "bert", 8).await;

    // protoo: the stage is participants like any others.
    assert_eq!(anna.notified("newPeer").await["id"], "bert");
    let slot = anna.notified("newPeer").await;
    assert_eq!((&slot["id"], &slot["device"]["flag"]), (&json!("stage:1"), &json!("stage")));
    let mut offered = Vec::new();
    for _ in 0..3 {
        let offer = anna.asked("newConsumer", true).await;
        offered.push((offer["peerId"].clone(), offer["kind"].clone()));
        assert_eq!(offer["appData"]["stage"], true);
        assert_eq!(offer["producerPaused"], true, "nobody is on it");
    }
    let pair = |peer: &str, kind: &str| (json!(peer), json!(kind));
    let expected = [pair("stage:1", "audio"), pair("stage:1", "video"), pair("stage:2", "video")];
    assert_eq!(offered, expected);
    let places = anna.notified("stageChanged").await["slots"].clone();
    let kinds: Vec<&Value> = places.as_array().unwrap().iter().map(|slot| &slot["kind"]).collect();
    assert_eq!(kinds, ["audio", "video", "video"]);
    assert!(places[0]["peerId"].is_null() && places[0]["producerId"].is_string());
    let page = bert.ask("getPeers", json!({"limit": 1})).await.unwrap();
    assert_eq!((&page["peers"][0]["id"], &page["count"]), (&json!("anna"), &json!(2)));
    assert_eq!(page["peers"][0]["producers"][0]["producerId"], annas);
    let named = bert.ask("getPeers", json!({"peerIds": ["anna"]})).await.unwrap();
    assert_eq!(named["peers"][0]["id"], "anna");
    let consumer = bert.ask("consume", json!({"producerId": annas})).await.unwrap();
    assert_eq!(consumer["peerId"], "anna");
    bert.ask("closeConsumer", json!({"consumerId": consumer["id"]})).await.unwrap();

    // OpenCall's messages.
    let mut carl = Client::opencall(&server).await;
    let of_carl = |mut data: Value| {
        data["meetingId"] = "meeting".into();
        data["participantId"] = "carl".into();
        data
    };
    let capabilities =
        carl.request("getRouterCapabilities", json!({"meetingId": "meeting"})).await.unwrap();
    carl.request("createTransport", of_carl(json!({"direction": "recv"}))).await.unwrap();
    let data = of_carl(json!({"rtpCapabilities": capabilities}));
    carl.request("setRtpCapabilities", data).await.unwrap();
    for number in 0..3 {
        let offer = carl.event("newProducer").await;
        assert!(offer["participantId"].as_str().unwrap().starts_with("stage:"), "{number}");
    }
    assert_eq!(carl.event("stageChanged").await["slots"].as_array().unwrap().len(), 3);
    let page = carl.request("getParticipants", of_carl(json!({}))).await.unwrap();
    let names: Vec<&Value> =
        page["participants"].as_array().unwrap().iter().map(|of| &of["participantId"]).collect();
    assert_eq!(names, ["anna", "bert"]);
    assert!(page["next"].is_null());
    let named = of_carl(json!({"participantIds": ["bert", "nobody"]}));
    let named = carl.request("getParticipants", named).await.unwrap();
    let shown = &named["participants"][0];
    assert_eq!(named["participants"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&shown["participantId"], &shown["producers"][0]["encrypted"]),
        (&json!("bert"), &json!(false))
    );
    let wrong = of_carl(json!({"participantIds": "bert"}));
    assert!(carl.request("getParticipants", wrong).await.is_err());
    let data = of_carl(json!({"producerId": annas}));
    let consumer = carl.request("consume", data).await.unwrap();
    let data = of_carl(json!({"consumerId": consumer["id"]}));
    carl.request("closeConsumer", data).await.unwrap();

    // It ends when one is left who sends.
    bert.close().await;
    assert!(anna.notified("consumerClosed").await["consumerId"].is_string());
}
