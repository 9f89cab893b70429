//! Webhooks over HTTPS. That LiveKit's SDK verifies them, and how they fare with receivers that are
//! not well, is tested with it: `client/tests/server/webhooks.test.ts`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::server::{PATIENCE, Server};
use crate::tokens::acceptor;
use crate::web::{Folder, get};

const KEY: &str = "--webhook-key=hooks=a webhook secret for tests, 32 bytes";

/// A receiver behind TLS that keeps its connections.
struct Receiver {
    url: String,
    certificate: String,
    bodies: mpsc::UnboundedReceiver<Value>,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start(folder: &Folder) -> Self {
        let (acceptor, certificate) = acceptor();
        let certificate = folder.write("ca.pem", certificate);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let (sender, bodies) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                counted.fetch_add(1, Ordering::Relaxed);
                let (mut stream, sender) = (BufReader::new(stream), sender.clone());
                tokio::spawn(async move {
                    while let Some(body) = request(&mut stream).await {
                        let _ = sender.send(body);
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                        let _ = stream.flush().await;
                    }
                });
            }
        });
        Receiver { url, certificate, bodies, connections }
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.bodies.recv()).await.expect("a webhook").unwrap()
    }
}

/// The body of the next request on a connection.
async fn request(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    serde_json::from_slice(&body).ok()
}

#[tokio::test]
async fn they_go_over_one_connection_to_whom_the_host_trusts() {
    let folder = Folder::new("webhooks");
    let mut receiver = Receiver::start(&folder).await;
    let flags = ["--webhook-url", receiver.url.as_str(), KEY];
    let server = Server::start_in(&flags, &[("SSL_CERT_FILE", receiver.certificate.as_str())]);
    let mut ann = Client::protoo(&server, "r", "ann").await;
    ann.ask("join", json!({"displayName": "Ann"})).await.unwrap();
    ann.close().await;
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(receiver.next().await);
    }
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["room_started", "participant_joined", "participant_left", "room_finished"]);
    assert_eq!(events[1]["participant"]["name"], "Ann");
    assert_eq!(receiver.connections.load(Ordering::Relaxed), 1);
}

// The log is waited for on one thread, and the receiver is on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_not_trusted_is_told_nothing() {
    let folder = Folder::new("webhooks-untrusted");
    let mut receiver = Receiver::start(&folder).await;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = folder.write("other.pem", other.cert.pem());
    let flags = ["--webhook-url", receiver.url.as_str(), KEY];
    let server = Server::start_in(&flags, &[("SSL_CERT_FILE", other.as_str())]);
    let mut ann = Client::protoo(&server, "r", "ann").await;
    ann.ask("join", json!({"displayName": "Ann"})).await.unwrap();
    let line = server.logged("webhooks wait for their receiver");
    assert!(line.contains("no TLS"), "{line}");
    assert!(receiver.bodies.try_recv().is_err());
    // Everyone else goes on.
    assert_eq!(get(&server, "/healthz").await.0, 200);
    ann.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
}
