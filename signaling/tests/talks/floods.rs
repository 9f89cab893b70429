//! Floods: what a stranger may make the server do is bounded by rates, not by how fast the stranger
//! or the machine is.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::client::Client;
use crate::server::Server;
use crate::web::get_on;

/// How long a flood lasts; longer than the bursts that are allowed.
const FLOOD: Duration = Duration::from_secs(3);

/// What a connection may send at once and per second (`CONNECTION_BYTES`).
const BURST_BYTES: f64 = 16.0 * 1_048_576.0;
const BYTES_PER_SECOND: f64 = 1_048_576.0;

/// Requests that fit into the server's read buffer, and are answered before the next read.
const REQUESTS_PER_READ: f64 = 16.0 * 1024.0 / 40.0;

/// Listens to what a trusted proxy on loopback says, so that clients have addresses.
const PROXIED: [&str; 3] = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol"];

/// A stream of a client with this address.
async fn stream_of(server: &Server, ip: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What was only buffered was not taken by the server.
    socket.set_send_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let header = format!("PROXY TCP4 {ip} 192.0.2.1 4711 8080\r\n");
    stream.write_all(header.as_bytes()).await.unwrap();
    stream
}

/// Writes `chunk` again and again; how many bytes the server took, in how many seconds.
async fn flood(stream: &mut (impl AsyncWriteExt + Unpin), chunk: &[u8]) -> (f64, f64) {
    let (begin, mut written) = (Instant::now(), 0_usize);
    let writing = async {
        // From where the last write ended, so that frames stay whole.
        while let Ok(bytes) = stream.write(&chunk[written % chunk.len()..]).await {
            written += bytes;
        }
    };
    let _ = tokio::time::timeout(FLOOD, writing).await;
    (written as f64, begin.elapsed().as_secs_f64())
}

#[tokio::test]
async fn a_flood_of_requests_is_answered_at_a_bounded_pace() {
    let rates = ["--http-request-rate", "10", "--http-request-burst", "20"];
    let server = Server::start_with(&[&PROXIED[..], &rates].concat());
    let stream = stream_of(&server, "203.0.113.1").await;
    let (mut reader, mut writer) = stream.into_split();
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunk = request.repeat(1000);
    let answers = tokio::spawn(async move {
        let (mut served, mut refused, mut buffer) = (0, 0, String::new());
        let mut bytes = [0; 65_536];
        while let Ok(count) = reader.read(&mut bytes).await {
            if count == 0 {
                break;
            }
            buffer.push_str(&String::from_utf8_lossy(&bytes[..count]));
            // The last line may not be whole yet.
            let whole = buffer.rfind('\n').map_or(0, |end| end + 1);
            for line in buffer.drain(..whole).collect::<String>().lines() {
                served += u32::from(line.starts_with("HTTP/1.1 200 "));
                refused += u32::from(line.starts_with("HTTP/1.1 429 "));
            }
        }
        (f64::from(served), f64::from(refused))
    });
    let (_, seconds) = flood(&mut writer, chunk.as_bytes()).await;
    // Someone else is served meanwhile.
    assert_eq!(get_on(stream_of(&server, "203.0.113.2").await, "/healthz", "").await.0, 200);
    drop(server);
    let (served, refused) = answers.await.unwrap();
    // It took a while until the server was gone.
    let seconds = seconds + 2.0;
    assert!(served <= 20.0 + 10.0 * seconds, "{served} served in {seconds} s");
    assert!(refused >= 1.0);
    // Each refused request costs the connection a quarter of a second, once its burst is used up.
    let most = 16.0 * 4.0 + 4.0 * seconds + REQUESTS_PER_READ;
    assert!(refused <= most, "{refused} refused in {seconds} s");
}

#[tokio::test]
async fn a_flood_of_empty_frames_is_read_at_a_bounded_pace() {
    let server = Server::start();
    let mut witness = Client::protoo(&server, "r", "w").await;
    witness.ask("join", json!({"displayName": "W"})).await.unwrap();
    // Continuations of a message that never ends, and pings.
    for (begin, frame) in [(&[0x01, 0x80, 1, 2, 3, 4][..], 0x00), (&[], 0x89)] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        let stream = socket.connect(server.address).await.unwrap();
        let request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
        let (socket, _) = client_async(request, stream).await.unwrap();
        let mut stream = socket.into_inner();
        stream.write_all(begin).await.unwrap();
        let chunk = [frame, 0x80, 1, 2, 3, 4].repeat(10_000);
        let (written, seconds) = flood(&mut stream, &chunk).await;
        // Kernel buffers of both sides, at twice what was asked for.
        let most = BURST_BYTES + BYTES_PER_SECOND * seconds + 4.0 * 128.0 * 1024.0;
        assert!(written <= most, "{written} bytes taken in {seconds} s");
        witness.ask("changeDisplayName", json!({"displayName": "W"})).await.unwrap();
    }
}

#[tokio::test]
async fn one_address_has_so_many_tcp_connections() {
    let limit = ["--sessions-per-address", "2"];
    let server = Server::start_with(&[&PROXIED[..], &limit].concat());
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(stream_of(&server, "203.0.113.1").await);
    }
    let mut served = 0;
    for mut stream in streams.drain(..).rev().collect::<Vec<_>>() {
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        let answered = stream.write_all(request).await.is_ok()
            && matches!(stream.read(&mut [0; 16]).await, Ok(count) if count > 0);
        served += usize::from(answered);
        streams.push(stream);
    }
    assert_eq!(served, 2 + 64);
    assert_eq!(get_on(stream_of(&server, "203.0.113.2").await, "/healthz", "").await.0, 200);
    server.logged("reason=\"connections\"");
}
