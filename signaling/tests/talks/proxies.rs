//! Behind a reverse proxy: limits count the clients, and not the proxy.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::client::Client;
use crate::server::Server;
use crate::web::{get_on, get_with};

async fn from(server: &Server, forwarded: &str) -> Result<Client, u16> {
    let headers = [("x-forwarded-for", forwarded)];
    Client::with_headers(server, &headers[..usize::from(!forwarded.is_empty())])
        .await
        .map_err(|(status, _)| status)
}

#[tokio::test]
async fn connections_are_counted_by_the_address_behind_the_proxy() {
    let flags = ["--trusted-proxy", "127.0.0.1,10.0.0.0/8", "--sessions-per-address", "1"];
    let server = Server::start_with(&flags);
    let first = from(&server, "203.0.113.1").await;
    assert!(first.is_ok());
    assert_eq!(from(&server, "203.0.113.1").await.err(), Some(429));
    // What the client itself wrote there changes nothing, nor does a second proxy.
    assert_eq!(from(&server, "198.51.100.1, 203.0.113.1").await.err(), Some(429));
    assert_eq!(from(&server, "203.0.113.1, 10.9.9.9").await.err(), Some(429));
    let _second = from(&server, "203.0.113.2").await.unwrap();
    // One that forgets the header is counted itself, although it is on loopback.
    let _proxy = from(&server, "").await.unwrap();
    assert_eq!(from(&server, "").await.err(), Some(429));
    first.unwrap().close().await;
    let again = async {
        while from(&server, "203.0.113.1").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, again).await.expect("the place is not free");
}

#[tokio::test]
async fn nobody_else_is_believed_and_loopback_is_free() {
    let server = Server::start_with(&["--sessions-per-address", "1"]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(from(&server, "203.0.113.1").await.unwrap());
    }
}

#[tokio::test]
async fn requests_are_limited_by_the_address_behind_the_proxy() {
    let flags = ["--trusted-proxy", "127.0.0.1", "--http-request-burst", "3"];
    let rate = ["--http-request-rate", "1"];
    let server = Server::start_with(&[&flags[..], &rate].concat());
    let mut refused = None;
    for _ in 0..10 {
        let (status, head, _) =
            get_with(&server, "/health", "X-Forwarded-For: 203.0.113.1\r\n").await;
        if status == 429 {
            refused = Some(head);
            break;
        }
    }
    assert!(refused.expect("no request was refused").contains("retry-after: "));
    let other = get_with(&server, "/health", "X-Forwarded-For: 203.0.113.2\r\n").await;
    assert_eq!(other.0, 200);
}

async fn with_header(server: &Server, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

fn proxy_v2(ip: [u8; 4]) -> Vec<u8> {
    let addresses = [&ip[..], &[127, 0, 0, 1, 1, 2, 3, 4]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".as_slice(), &addresses].concat()
}

#[tokio::test]
async fn proxy_protocol_headers_tell_the_address() {
    let flags = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol"];
    let server = Server::start_with(&[&flags[..], &["--sessions-per-address", "1"]].concat());
    let connect = async |header: &[u8]| {
        let request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
        client_async(request, with_header(&server, header).await).await
    };
    let text = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 8080\r\n";
    let _first = connect(text).await.unwrap();
    for header in [text.as_slice(), &proxy_v2([203, 0, 113, 1])] {
        let Err(Error::Http(refused)) = connect(header).await else { panic!("accepted") };
        assert_eq!(refused.status(), 429);
    }
    let _second = connect(&proxy_v2([203, 0, 113, 2])).await.unwrap();
    // It says what it is, and then what it likes: a stranger all the same.
    let forwarded = "X-Forwarded-For: 127.0.0.1\r\n";
    let stream = with_header(&server, text).await;
    assert_eq!(get_on(stream, "/healthz", forwarded).await.2, "{\"status\":\"ok\"}");
    // The proxy's own health check.
    let local = with_header(&server, b"PROXY UNKNOWN\r\n").await;
    assert_eq!(get_on(local, "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn a_trusted_proxy_without_its_header_is_refused_and_others_need_none() {
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.1", "--proxy-protocol"]);
    let mut stream = with_header(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
    assert!(server.logged("reason=\"proxyHeader\"").contains("--proxy-protocol"));
    // From elsewhere one is neither needed nor believed.
    let direct = async |header: &[u8]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 3], 0))).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        stream.write_all(header).await.unwrap();
        get_on(stream, "/health", "").await.0
    };
    assert_eq!(direct(b"").await, 200);
    assert_eq!(direct(b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 8080\r\n").await, 400);
}
