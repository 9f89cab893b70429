//! Plain HTTP: health, the page, and what browsers are told about it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::{PATIENCE, Server};

/// Status, headers in lower case, body.
pub async fn get(server: &Server, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

pub async fn health(server: &Server) -> Value {
    let (status, _, body) = get(server, "/healthz").await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

/// Health once it is as expected, or the last one seen: counts are refreshed now and then.
pub async fn health_when(server: &Server, expected: impl Fn(&Value) -> bool) -> Value {
    let mut seen = health(server).await;
    let deadline = Instant::now() + PATIENCE;
    while !expected(&seen) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = health(server).await;
    }
    seen
}

#[tokio::test]
async fn health_is_one_line_of_json() {
    let server = Server::start();
    let mut client = Client::protoo(&server, "r", "p").await;
    client.ask("join", json!({})).await.unwrap();
    let (_, _, body) = get(&server, "/healthz").await;
    assert_eq!(body.lines().count(), 1);
    let health = health_when(&server, |health| health["peers"] == 1).await;
    assert_eq!((&health["status"], &health["cores"]), (&json!("ok"), &json!(1)));
    assert!(["uring", "mmsg"].contains(&health["io"].as_str().unwrap()));
    assert_eq!((&health["rooms"], &health["peers"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn the_page_is_served_with_headers_that_keep_it_safe() {
    let folder = std::env::temp_dir().join(format!("opencall-page-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    std::fs::write(folder.join("index.html"), "<title>page</title>").unwrap();
    std::fs::write(folder.join("assets/app-1a2b.js"), "1").unwrap();
    let server = Server::start_with(&["--page-dir", folder.to_str().unwrap()]);

    let (status, head, body) = get(&server, "/").await;
    assert_eq!((status, body.as_str()), (200, "<title>page</title>"));
    assert!(head.contains("content-type: text/html"));
    assert!(head.contains("cache-control: no-cache"));
    assert!(head.contains("content-security-policy: default-src 'self'"));
    assert!(head.contains("x-content-type-options: nosniff"));
    let (status, head, _) = get(&server, "/assets/app-1a2b.js").await;
    assert_eq!(status, 200);
    assert!(head.contains("immutable"));
    // A link into the page is the page; a file that is not there is not.
    assert_eq!(get(&server, "/meeting/42").await.0, 200);
    assert_eq!(get(&server, "/assets/gone.js").await.0, 404);
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/assets/..%2f..%2fetc/passwd"] {
        let (_, _, body) = get(&server, path).await;
        assert!(!body.contains("[package]") && !body.contains("root:"), "{path}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn without_a_built_page_it_says_how_to_build_one() {
    let server = Server::start_with(&["--page-dir", "/nowhere"]);
    let (status, _, body) = get(&server, "/").await;
    assert_eq!(status, 200);
    assert!(body.contains("npm run build"));
    // WebSockets are served all the same, on either path.
    for path in ["/", "/ws"] {
        let mut client = Client::connect(&server, path, None).await.unwrap();
        let data = json!({"meetingId": "m"});
        client.request("getRouterCapabilities", data).await.unwrap();
    }
    assert_eq!(get(&server, "/ws").await.0, 426);
}

#[tokio::test]
async fn an_unknown_sub_protocol_is_refused() {
    let server = Server::start();
    assert!(Client::connect(&server, "/ws", Some("mqtt")).await.is_err());
    let client = Client::connect(&server, "/ws?roomId=r&peerId=p", Some("mqtt, protoo")).await;
    assert!(client.is_ok());
}
