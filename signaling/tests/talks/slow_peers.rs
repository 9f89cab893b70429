//! Peers that take their time, more of them than the server may have files open. Nobody is locked
//! out.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::Server;
use crate::web::{Folder, get, health};

/// Open files of the server.
const OPEN_FILES: u32 = 300;

/// More than that, and than the 138 that once were enough.
const PEERS: usize = 400;

/// Someone honest gets the page and into a room, while these connections are held.
async fn is_served<T>(server: &Server, held: &[T], name: &str) {
    assert_eq!(get(server, "/").await.0, 200, "with {} held", held.len());
    let mut client = Client::protoo(server, "room", name).await;
    client.ask("join", json!({"displayName": name})).await.unwrap();
    client.close().await;
}

#[tokio::test]
async fn nobody_is_locked_out_by_those_who_are_slow() {
    let folder = Folder::new("slow");
    folder.write("index.html", "<title>page</title>");
    let large: Vec<u8> =
        (0..3_000_000_u32).map(|byte| byte.wrapping_mul(2_654_435_761) as u8).collect();
    folder.write("large.png", large);
    let server = Server::start_with_open_files(OPEN_FILES, &["--page-dir", folder.path()]);
    let mut witness = Client::protoo(&server, "room", "witness").await;
    witness.ask("join", json!({"displayName": "W"})).await.unwrap();

    let waves = [
        ("reads-nothing", "GET /large.png HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("says-nothing", ""),
        ("stops-in-the-headers", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        ("stops-in-the-body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"),
    ];
    for (name, begin) in waves {
        let mut held = Vec::new();
        for _ in 0..PEERS {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let _ = stream.write_all(begin.as_bytes()).await;
            held.push(stream);
        }
        is_served(&server, &held, name).await;
        // And while they are still there, also the next one.
        is_served(&server, &held, name).await;
    }
    // WebSockets that never enter a room are no better.
    let mut held = Vec::new();
    for _ in 0..PEERS {
        held.push(Client::opencall(&server).await);
    }
    is_served(&server, &held, "sockets").await;
    // Who is in a room never makes way.
    witness.ask("changeDisplayName", json!({"displayName": "W"})).await.unwrap();
    drop(held);
    let health = health(&server).await;
    assert!(health["evicted"].as_u64().unwrap() > PEERS as u64, "{health}");
}
