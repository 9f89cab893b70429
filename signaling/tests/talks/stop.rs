//! The end: everyone is told, and the process is gone soon.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::server::{PATIENCE, Server};

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

/// SIGTERM as `systemctl stop` sends it: those inside end their meeting, nobody new gets in.
#[tokio::test]
async fn with_a_drain_timeout_those_inside_may_stay_and_nobody_else_comes_in() {
    let mut server = Server::start_with(&["--drain-timeout", "600"]);
    let mut ann = Client::protoo(&server, "r", "ann").await;
    ann.ask("join", json!({"displayName": "Ann"})).await.unwrap();
    server.signal("TERM");
    server.logged("draining: those inside may stay");
    let refused = Client::with_headers(&server, &[]).await.err().expect("nobody gets in");
    assert_eq!(refused.0, 503, "{}", refused.1);
    // Whoever is inside goes on.
    ann.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
    ann.close().await;
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log_to_end().contains("drained: stopping"));
}

#[tokio::test]
async fn a_second_signal_cuts_the_drain_short() {
    let mut server = Server::start_with(&["--drain-timeout", "600"]);
    let mut ann = Client::protoo(&server, "r", "ann").await;
    // Whoever is not let in yet is nobody to wait for.
    ann.ask("join", json!({"displayName": "Ann"})).await.unwrap();
    server.signal("TERM");
    server.logged("draining");
    server.signal("TERM");
    assert_eq!(ann.closed().await.map(|(code, _)| code), Some(1001));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_alive_and_stopping() {
    let place = std::env::temp_dir().join(format!("opencall-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&place);
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = |wanted: &str| loop {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap_or_else(|e| panic!("no {wanted}: {e}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.lines().any(|line| line == wanted) {
            return text;
        }
    };
    let socket = place.to_str().unwrap();
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "20000")];
    let mut server = Server::start_in(&[], &variables);
    told("READY=1");
    for _ in 0..3 {
        let text = told("WATCHDOG=1");
        assert!(text.contains("STATUS=0 participants in 0 rooms"), "{text}");
    }
    // As terminals and reload commands send it.
    server.signal("HUP");
    server.logged("SIGHUP");
    told("WATCHDOG=1");
    server.signal("TERM");
    told("STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
    std::fs::remove_file(&place).unwrap();
}
