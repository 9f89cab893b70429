//! The end: everyone is told, and the process is gone soon.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::server::Server;

#[tokio::test]
async fn a_signal_stops_the_server_cleanly() {
    for signal in ["TERM", "INT"] {
        let begin = Instant::now();
        let mut server = Server::start();
        // What a start takes tells how fast the machine is.
        let start = begin.elapsed();
        let mut protoo = Client::protoo(&server, "r", "p").await;
        protoo.ask("join", json!({"displayName": "P"})).await.unwrap();
        let mut opencall = Client::opencall(&server).await;
        let data = json!({"meetingId": "r", "participantId": "o", "direction": "send"});
        opencall.request("createTransport", data).await.unwrap();
        // One that has said nothing yet.
        let mut silent = Client::opencall(&server).await;

        // One that never reads, and so never answers.
        let deaf = Client::opencall(&server).await;

        let begin = Instant::now();
        server.signal(signal);
        // 1001, not 4000: clients come back when the server does.
        for client in [&mut protoo, &mut opencall, &mut silent] {
            assert_eq!(client.closed().await.map(|(code, _)| code), Some(1001));
        }
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "SIG{signal}");
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(2) + 5 * start, "took {took:?}, starting {start:?}");
        drop(deaf);
        assert!(server.log_to_end().contains("stopped"));
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start();
    // It never reads, so that stopping has someone to wait for.
    let _deaf = Client::opencall(&server).await;
    server.signal("TERM");
    server.logged("a second signal ends at once");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(130));
}
