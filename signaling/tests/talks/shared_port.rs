//! The port of the web side shared by HTTP and ICE over TCP: who comes is told by its first byte,
//! its core by its first check. In Chromium: `client/tests/browser/ice_tcp.test.ts`.

use std::net::{IpAddr, SocketAddr};

use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::{Checker, success};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::administration::{KEY, admin, join};
use crate::client::Client;
use crate::ice_tcp::{checker_of, ended, framed, metrics_of, receive};
use crate::server::Server;
use crate::web::get_on;

const FLAGS: [&str; 3] = ["--ice-tcp-on-http", "--metrics-listen", "127.0.0.1:0"];

/// The transport that someone gets in a room; it goes with the connection.
async fn transport(server: &Server, room: &str) -> (Client, Value) {
    let mut ann = Client::opencall(server).await;
    let asked = json!({"meetingId": room, "participantId": "ann", "direction": "recv"});
    ann.request("getRouterCapabilities", asked.clone()).await.unwrap();
    let transport = ann.request("createTransport", asked).await.unwrap();
    (ann, transport)
}

/// Protocol and port of each candidate, by their priority.
fn candidates(transport: &Value) -> Vec<(String, u64)> {
    let candidates = transport["iceCandidates"].as_array().unwrap();
    let of = |one: &Value| {
        let protocol = one["protocol"].as_str().unwrap().to_owned();
        (one["priority"].as_u64().unwrap(), (protocol, one["port"].as_u64().unwrap()))
    };
    let mut all: Vec<_> = candidates.iter().map(of).collect();
    all.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    all.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Sends a check, and waits for the answer.
async fn is_answered(stream: &mut TcpStream, checker: &Checker, number: u8) -> bool {
    stream.write_all(&framed(&checker.request(TransactionId([number; 12])))).await.unwrap();
    let answer = receive(stream).await;
    answer.is_some_and(|answer| success(&answer) == Some(TransactionId([number; 12])))
}

/// A connection that a proxy opens for someone, and what comes first on it.
async fn proxied(server: &Server, client: IpAddr, begin: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let header = format!("PROXY TCP4 {client} 127.0.0.1 4711 443\r\n");
    stream.write_all(&[header.as_bytes(), begin].concat()).await.unwrap();
    stream
}

#[tokio::test]
async fn ice_and_http_come_by_one_port_for_every_core_there_is() {
    let spread = [KEY, "--placement", "spread", "--ice-tcp"];
    let server = Server::start_with_ports(2, &[&FLAGS[..], &spread].concat());
    let (_, added) = admin(&server, "POST", "/v1/workers", "").await;
    let shared = u64::from(server.address.port());
    let mut cores = Vec::new();
    for room in ["a", "b"] {
        let (ann, transport) = transport(&server, room).await;
        let [udp, tcp, web] = candidates(&transport).try_into().unwrap();
        assert_eq!((udp.0.as_str(), tcp.0.as_str(), web), ("udp", "tcp", ("tcp".into(), shared)));
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // However it is cut.
        for bytes in framed(&checker_of(&transport).request(TransactionId([1; 12]))).chunks(1) {
            stream.write_all(bytes).await.unwrap();
        }
        let answer = receive(&mut stream).await.expect("an answer");
        assert_eq!(success(&answer), Some(TransactionId([1; 12])));
        assert!(is_answered(&mut stream, &checker_of(&transport), 2).await);
        cores.push((ann, udp.1, transport));
    }
    assert_ne!(cores[0].1, cores[1].1, "each is on a core of its own");
    let plain = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(get_on(plain, "/healthz", "").await.0, 200);
    // Whoever else has the port of a core that is gone hears nothing of this.
    let path = format!("/v1/workers/{}/drain", added["core"]);
    assert_eq!(admin(&server, "POST", &path, r#"{"deadlineSeconds": 0}"#).await.0, 200);
    server.logged("data core removed");
    let (.., transport) = cores.into_iter().find(|core| core.1 == added["port"]).unwrap();
    let mut late = TcpStream::connect(server.address).await.unwrap();
    assert!(!is_answered(&mut late, &checker_of(&transport), 3).await);
    ended(&server, metrics_of(&server), "no_core", 1).await;
}

#[tokio::test]
async fn without_ports_of_cores_the_shared_one_is_offered_as_it_is_announced() {
    let announced = ["--ice-tcp-on-http", "--ice-tcp-http-port", "443"];
    let server = Server::start_with(&announced);
    let mut ann = Client::protoo(&server, "r", "ann").await;
    let tcp_alone = json!({"forceTcp": true, "consuming": true});
    let transport = ann.ask("createWebRtcTransport", tcp_alone).await.unwrap();
    assert_eq!(candidates(&transport), [("tcp".to_owned(), 443)]);
    assert_eq!(transport["iceCandidates"][0]["tcpType"], "passive");
}

#[tokio::test]
async fn what_begins_like_ice_and_is_none_is_shown_out() {
    let server = Server::start_with(&FLAGS);
    let metrics = metrics_of(&server);
    let long = framed(&[0; 1400]);
    let not_ours =
        Checker::new("-no-core-of-ours", "a password", "client", 7).request(TransactionId([1; 12]));
    let no_core =
        Checker::new("ABAAAAAAAAAA", "a password", "client", 7).request(TransactionId([1; 12]));
    let mut unsigned =
        Checker::new("AAAAAAAAAAAA", "a password", "client", 7).request(TransactionId([1; 12]));
    unsigned[24] ^= 1;
    let table: [(&str, &[u8]); 5] = [
        ("not_ice", &long),
        ("not_ice", &[0, 0, 0, 0, 7, 0xff]),
        ("not_ice", &framed(&unsigned)),
        ("no_core", &framed(&not_ours)),
        ("no_core", &framed(&no_core)),
    ];
    for (reason, bytes) in table {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(receive(&mut stream).await, None, "{reason}: {bytes:x?}");
    }
    ended(&server, metrics, "not_ice", 3).await;
    ended(&server, metrics, "no_core", 2).await;
    // One byte and no more; and a check of who has no password.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[0]).await.unwrap();
    let mut stranger = TcpStream::connect(server.address).await.unwrap();
    let check = Checker::new("AAAAAAAAAAAA", "no password of ours", "client", 7)
        .request(TransactionId([1; 12]));
    stranger.write_all(&framed(&check)).await.unwrap();
    for stream in [&mut slow, &mut stranger] {
        assert_eq!(receive(stream).await, None);
    }
    ended(&server, metrics, "not_proven", 2).await;
    // Where it is not wanted, no such thing is looked for.
    let other = Server::start_with(&["--metrics-listen", "127.0.0.1:0"]);
    let mut stream = TcpStream::connect(other.address).await.unwrap();
    stream.write_all(&framed(&check)).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:x?}");
}

#[tokio::test]
async fn they_count_among_the_connections_of_their_address() {
    let proxy = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol"];
    let one = ["--sessions-per-address", "1"];
    let server = Server::start_with(&[&FLAGS[..], &proxy, &one].concat());
    let [office, other] = [[203, 0, 113, 1], [203, 0, 113, 2]].map(IpAddr::from);
    // A WebSocket, and 64 connections beside.
    let mut silent = Vec::new();
    for _ in 0..65 {
        silent.push(proxied(&server, office, &[0]).await);
    }
    let answer = async |client| {
        let mut bytes = Vec::new();
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let _ = proxied(&server, client, request).await.read_to_end(&mut bytes).await;
        String::from_utf8(bytes).unwrap()
    };
    let mut refused = proxied(&server, office, &[0]).await;
    assert_eq!(receive(&mut refused).await, None);
    server.logged("reason=\"connections\"");
    assert!(answer(other).await.starts_with("HTTP/1.1 200"));
    // They prove nothing, and are gone after a while.
    for stream in &mut silent {
        assert_eq!(receive(stream).await, None);
    }
    assert!(answer(office).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn who_has_proven_to_be_a_client_makes_way_for_nobody() {
    // Room for a few connections beside what the server itself needs.
    let server = Server::start_with_open_files(128, &FLAGS);
    let mut ann = join(&server, "r", "ann").await;
    let transport = ann.ask("createWebRtcTransport", json!({"consuming": true})).await.unwrap();
    let checker = checker_of(&transport);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    assert!(is_answered(&mut client, &checker, 1).await);
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&[0]).await.unwrap();
    let flood = async |address: SocketAddr| {
        let mut held = Vec::new();
        for _ in 0..200 {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        held
    };
    let _held = flood(server.address).await;
    ended(&server, metrics_of(&server), "made_way", 1).await;
    assert_eq!(receive(&mut slow).await, None);
    assert!(is_answered(&mut client, &checker, 2).await, "who was there stays");
}
