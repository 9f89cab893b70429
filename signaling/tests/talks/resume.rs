//! Sessions that outlive their connection.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, microphone};
use crate::server::Server;

/// `data` as `participant` of the meeting sends it.
fn of(participant: &str, mut data: Value) -> Value {
    data["meetingId"] = "meeting".into();
    data["participantId"] = participant.into();
    data
}

/// What a client holds that has entered.
struct Entered {
    client: Client,
    send: Value,
    token: Value,
    /// Frames that it was sent on the way in, if it is the first.
    frames: u64,
}

async fn enter(server: &Server, name: &str, resume: bool) -> Entered {
    let mut client = Client::opencall(server).await;
    let data = of(name, json!({}));
    let capabilities = client.request("getRouterCapabilities", data).await.unwrap();
    let mut transports = Vec::new();
    for direction in ["send", "recv"] {
        let data = of(name, json!({"direction": direction}));
        let options = client.request("createTransport", data).await.unwrap();
        transports.push(options["id"].clone());
    }
    let data = json!({"rtpCapabilities": capabilities, "displayName": name, "resume": resume});
    let entered = client.request("setRtpCapabilities", of(name, data)).await.unwrap();
    let token = entered["resumeToken"].clone();
    assert_eq!(token.is_string(), resume, "a token for who asks for it");
    Entered { client, send: transports.swap_remove(0), token, frames: 4 }
}

/// What Alice holds whose connection is lost, and Bob, who is there and has heard of her coming.
async fn parted(server: &Server) -> (Value, u64, Entered) {
    let alice = enter(server, "alice", true).await;
    let mut bob = enter(server, "bob", false).await;
    heard(&mut bob.client).await;
    drop(alice.client);
    (alice.token, alice.frames, bob)
}

async fn produce(who: &mut Entered, name: &str, ssrc: u32) -> Value {
    let data = json!({"transportId": who.send, "kind": "audio",
                      "rtpParameters": microphone(ssrc), "appData": {}});
    who.client.request("produce", of(name, data)).await.unwrap()["producerId"].clone()
}

/// Asks for the session on a new connection.
async fn resume(
    server: &Server,
    name: &str,
    token: &Value,
    received: u64,
) -> (Client, Result<Value, String>) {
    let mut client = Client::opencall(server).await;
    let data = of(name, json!({"resumeToken": token, "received": received}));
    let answer = client.request("resume", data).await;
    (client, answer)
}

/// All that has come to `client` before the answer to one more question.
async fn heard(client: &mut Client) -> Vec<String> {
    client.request("ping", json!({})).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(frame) = client.kept() {
        kinds.push(frame["type"].as_str().unwrap_or_default().to_owned());
    }
    kinds
}

#[tokio::test]
async fn whoever_comes_back_has_missed_nothing_and_nobody_saw_it_leave() {
    let server = Server::start();
    let mut alice = enter(&server, "alice", true).await;
    let mut bob = enter(&server, "bob", false).await;
    assert_eq!(alice.client.event("newParticipant").await["participantId"], "bob");
    heard(&mut bob.client).await;

    // A request is under way when the network goes: the server hears it, its answer is lost.
    let data = json!({"transportId": alice.send, "kind": "audio",
                      "rtpParameters": microphone(7), "appData": {}});
    alice.client.send_request("produce", "lost", of("alice", data)).await;
    assert_eq!(bob.client.event("newProducer").await["participantId"], "alice");
    drop(alice.client);
    let microphone = produce(&mut bob, "bob", 8).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (mut again, answer) = resume(&server, "alice", &alice.token, alice.frames + 1).await;
    let answer = answer.unwrap();
    assert_eq!(answer["received"], 5, "of the client's frames, the one under way too");
    assert_ne!(answer["resumeToken"], alice.token);
    let lost = again.frame("the lost answer", |frame| frame["id"] == "lost").await;
    assert!(lost["data"]["producerId"].is_string());
    assert_eq!(again.event("newProducer").await["producerId"], microphone);
    // It is the same session: what it had is there, and it goes on.
    let data = json!({"producerId": lost["data"]["producerId"]});
    again.request("pauseProducer", data).await.unwrap();
    assert_eq!(heard(&mut bob.client).await, Vec::<String>::new(), "bob hears of none of it");

    // Once more, and with the new token only.
    drop(again);
    let (_, refusal) = resume(&server, "alice", &alice.token, 0).await;
    assert!(refusal.unwrap_err().contains("join again"));
    let (again, answer) = resume(&server, "alice", &answer["resumeToken"], 8).await;
    answer.unwrap();
    again.close().await;
    assert_eq!(bob.client.event("participantLeft").await["participantId"], "alice");
}

#[tokio::test]
async fn an_answer_that_is_lost_does_not_cost_the_session() {
    let server = Server::start();
    let (token, frames, mut bob) = parted(&server).await;
    for _ in 0..2 {
        // The connection is cut again before the client has read what it is answered.
        let (unread, answer) = resume(&server, "alice", &token, frames).await;
        answer.unwrap();
        drop(unread);
    }
    let (mut again, answer) = resume(&server, "alice", &token, frames).await;
    assert!(answer.unwrap()["resumeToken"].is_string());
    assert_eq!(again.event("newParticipant").await["participantId"], "bob");
    assert_eq!(heard(&mut again).await, Vec::<String>::new());
    assert_eq!(heard(&mut bob.client).await, Vec::<String>::new(), "bob has seen nobody leave");
    // It has the new one now.
    let (_, refusal) = resume(&server, "alice", &token, frames).await;
    assert!(refusal.unwrap_err().contains("join again"));
    // Whoever gives up a session whose token it never got says so by the old one.
    let carol = enter(&server, "carol", true).await;
    drop((carol.client, resume(&server, "carol", &carol.token, carol.frames).await));
    let mut gone = Client::opencall(&server).await;
    let data = of("carol", json!({"resumeToken": carol.token}));
    gone.request("forget", data).await.unwrap();
    assert_eq!(bob.client.event("participantLeft").await["participantId"], "carol");
}

#[tokio::test]
async fn who_did_not_ask_for_it_leaves_with_the_connection() {
    let server = Server::start();
    let alice = enter(&server, "alice", false).await;
    let mut bob = enter(&server, "bob", false).await;
    drop(alice.client);
    assert_eq!(bob.client.event("participantLeft").await["participantId"], "alice");
}

#[tokio::test]
async fn strangers_neither_resume_a_session_nor_take_its_place() {
    let server = Server::start();
    let (token, frames, mut bob) = parted(&server).await;
    for (name, token) in
        [("alice", json!("0".repeat(32))), ("alice", json!("")), ("bob", token.clone())]
    {
        let (_, refusal) = resume(&server, name, &token, frames).await;
        assert!(refusal.unwrap_err().contains("join again"));
    }
    // Who knows only the id is told that it is taken.
    let mut stranger = Client::opencall(&server).await;
    let data = of("alice", json!({"direction": "send"}));
    stranger.send_request("createTransport", "1", data).await;
    assert_eq!(stranger.closed().await.map(|(code, _)| code), Some(4003));
    assert_eq!(heard(&mut bob.client).await, Vec::<String>::new());
    let (_, answer) = resume(&server, "alice", &token, frames + 1).await;
    answer.unwrap();
}

#[tokio::test]
async fn a_session_moves_from_a_connection_that_still_stands() {
    let server = Server::start();
    let mut alice = enter(&server, "alice", true).await;
    let (mut again, answer) = resume(&server, "alice", &alice.token, alice.frames).await;
    answer.unwrap();
    assert_eq!(alice.client.closed().await, None, "the old connection just ends");
    again.request("getStats", of("alice", json!({}))).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_not_kept_and_what_was_never_sent_is_refused() {
    let server = Server::start();
    for (acknowledged, received, may_resume) in [(4, 4, true), (4, 3, false), (0, 99, false)] {
        let mut alice = enter(&server, "alice", true).await;
        alice.client.request("ping", json!({"received": acknowledged})).await.unwrap();
        drop(alice.client);
        let (client, answer) = resume(&server, "alice", &alice.token, received).await;
        assert_eq!(answer.is_ok(), may_resume, "{acknowledged} {received}");
        // Refused or not, the session is over now.
        client.close().await;
    }
}

#[tokio::test]
async fn whoever_gives_a_session_up_has_it_end_and_enters_anew() {
    let server = Server::start();
    let alice = enter(&server, "alice", true).await;
    let mut bob = enter(&server, "bob", false).await;
    drop(alice.client);
    let mut again = Client::opencall(&server).await;
    let data = of("alice", json!({"resumeToken": alice.token}));
    again.request("forget", data).await.unwrap();
    assert_eq!(bob.client.event("participantLeft").await["participantId"], "alice");
    // Its place is free at once.
    again.request("createTransport", of("alice", json!({"direction": "send"}))).await.unwrap();
}
