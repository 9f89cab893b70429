//! What peers say cannot forge lines of the log.

use serde_json::json;

use crate::client::Client;
use crate::server::Server;
use crate::web::get_with;

#[tokio::test]
async fn ids_and_headers_stay_on_their_line() {
    let mut server = Server::start_with(&["--log", "debug"]);
    let forged = "2026-01-01T00:00:00.000000Z  INFO all is well";
    // A line break, a terminal sequence that clears the line, and a C1 control.
    let encoded = "r%0A2026-01-01T00:00:00.000000Z%20%20INFO%20all%20is%20well%1B%5B2K%C2%9B";
    let path = format!("/ws?roomId={encoded}&peerId={encoded}");
    if let Ok(mut client) = Client::connect(&server, &path, Some("protoo")).await {
        let _ = client.ask("join", json!({"displayName": format!("x\n{forged}\u{1b}")})).await;
        // Which of these names are refused is for others to say.
        let _ = client.ask("restartIce", json!({"transportId": format!("t\n{forged}")})).await;
        client.close().await;
    }
    let mut client = Client::opencall(&server).await;
    let data = json!({"meetingId": format!("m\n{forged}\u{1b}[31m"), "participantId": "p\r\u{9b}",
                      "direction": "send"});
    let _ = client.request("createTransport", data).await;
    client.close().await;
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://e\u{1b}[2K\u{9b}{}\r\n",
        "x".repeat(5000)
    );
    // hyper refuses ESC in a header; UTF-8 of a C1 control it lets through.
    get_with(&server, "/ws", &upgrade).await;
    get_with(&server, "/ws", &upgrade.replace('\u{1b}', "")).await;

    server.signal("TERM");
    server.wait();
    let log = server.log_to_end();
    assert!(log.contains("stopped"), "{log}");
    for line in log.lines() {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        assert!(!line.starts_with(forged), "{line:?}");
        assert!(line.len() < 3000, "{} bytes: {line:?}", line.len());
    }
}
