//! ICE over TCP by hand: who is let in, who is not, and what becomes of those who take nothing.
//! With browsers: `client/tests/browser/ice_tcp.test.ts`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::{Checker, success};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::{PATIENCE, Server};
use crate::web::get_on;

/// A server, where it takes ICE over TCP, and how its one transport is asked.
async fn begin(flags: &[&str]) -> (Server, SocketAddr, Checker) {
    let server = Server::start_with(&[&["--ice-tcp"], flags].concat());
    let mut ann = Client::opencall(&server).await;
    let asked = json!({"meetingId": "r", "participantId": "ann", "direction": "recv"});
    ann.request("getRouterCapabilities", asked.clone()).await.unwrap();
    let transport = ann.request("createTransport", asked).await.unwrap();
    let candidates = transport["iceCandidates"].as_array().unwrap();
    let protocols: Vec<&Value> = candidates.iter().map(|one| &one["protocol"]).collect();
    assert_eq!(protocols, ["udp", "tcp"]);
    assert!(candidates[0].get("tcpType").is_none());
    assert_eq!(candidates[1]["tcpType"], "passive");
    let port = candidates[1]["port"].as_u64().unwrap() as u16;
    let checker = checker_of(&transport);
    // Whoever has no connection has no transport either.
    std::mem::forget(ann);
    (server, ([127, 0, 0, 1], port).into(), checker)
}

/// Asks a transport that was offered.
pub fn checker_of(transport: &Value) -> Checker {
    let ice = &transport["iceParameters"];
    let [ufrag, password] =
        ["usernameFragment", "password"].map(|name| ice[name].as_str().unwrap());
    Checker::new(ufrag, password, "client", 7)
}

pub fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
}

/// The next datagram; `None` once the connection is closed.
pub async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let read = async {
        let len = stream.read_u16().await.ok()?;
        let mut datagram = vec![0; usize::from(len)];
        stream.read_exact(&mut datagram).await.ok()?;
        Some(datagram)
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer, or the end")
}

/// Waits until so many connections have ended for a reason.
pub async fn ended(server: &Server, metrics: SocketAddr, reason: &str, times: u32) {
    let line = format!("opencall_ice_tcp_ended_total{{reason=\"{reason}\"}} {times}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stream = TcpStream::connect(metrics).await.unwrap();
        let (_, _, text) = get_on(stream, "/metrics", "").await;
        if text.contains(&line) {
            return;
        }
        assert!(Instant::now() < deadline, "{line}, of {}", server.address);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn metrics_of(server: &Server) -> SocketAddr {
    let said = server.start_log.iter().find_map(|line| line.split_once("metrics: http://"));
    said.expect("where metrics are").1.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_check_is_answered_however_it_is_cut() {
    let (_server, door, checker) = begin(&[]).await;
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for (number, piece) in [(1, 1), (2, 3), (3, 1000)] {
        for bytes in framed(&checker.request(TransactionId([number; 12]))).chunks(piece) {
            stream.write_all(bytes).await.unwrap();
        }
        let answer = receive(&mut stream).await.expect("an answer");
        assert_eq!(success(&answer), Some(TransactionId([number; 12])));
    }
    // Two at once, and an empty one between them.
    let two = [
        framed(&checker.request(TransactionId([8; 12]))),
        vec![0, 0],
        framed(&checker.request(TransactionId([9; 12]))),
    ];
    stream.write_all(&two.concat()).await.unwrap();
    for number in [8, 9] {
        let answer = receive(&mut stream).await.expect("an answer");
        assert_eq!(success(&answer), Some(TransactionId([number; 12])));
    }
}

#[tokio::test]
async fn what_is_no_client_is_shown_out() {
    let (server, door, checker) = begin(&["--metrics-listen", "127.0.0.1:0"]).await;
    let metrics = metrics_of(&server);
    let long = [&framed(&checker.request(TransactionId([1; 12])))[..], &[0xff, 0xff]].concat();
    let table: [(&str, &[u8]); 4] = [
        ("not_ice", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("not_ice", &framed(&[0x16, 0xfe, 0xfd, 0, 0])),
        ("not_ice", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]),
        ("too_long", &long),
    ];
    for (reason, bytes) in table {
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        while receive(&mut stream).await.is_some() {}
        println!("{reason}: {bytes:x?}");
    }
    ended(&server, metrics, "not_ice", 3).await;
    ended(&server, metrics, "too_long", 1).await;
    // Who knows no password of the server's is not answered, and not kept.
    let stranger = Checker::new("AAAAAAAAAAAA", "no password of ours", "client", 7);
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(&framed(&stranger.request(TransactionId([1; 12])))).await.unwrap();
    assert_eq!(receive(&mut stream).await, None);
    ended(&server, metrics, "not_proven", 1).await;
}

#[tokio::test]
async fn those_who_say_nothing_make_way_for_those_who_have_a_password() {
    let (server, door, checker) = begin(&["--metrics-listen", "127.0.0.1:0"]).await;
    let metrics = metrics_of(&server);
    let mut client = TcpStream::connect(door).await.unwrap();
    client.write_all(&framed(&checker.request(TransactionId([1; 12])))).await.unwrap();
    assert!(receive(&mut client).await.is_some());
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(door).await.unwrap());
    }
    // The first of them are gone, long before their time is over.
    assert_eq!(receive(&mut silent[0]).await, None);
    let mut late = TcpStream::connect(door).await.unwrap();
    late.write_all(&framed(&checker.request(TransactionId([2; 12])))).await.unwrap();
    assert!(receive(&mut late).await.is_some(), "there is room for who comes late");
    client.write_all(&framed(&checker.request(TransactionId([3; 12])))).await.unwrap();
    assert!(receive(&mut client).await.is_some(), "who was there stays");
    drop(client);
    ended(&server, metrics, "by_client", 1).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = crate::server::command()
        .args(["--http-listen", "127.0.0.1:0", "--workers", "1", "--pin", "false", "--ice-tcp"])
        .args(["--rtc-min-port", &port, "--rtc-max-port", "65535"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("for ICE over TCP") && said.contains("--rtc-min-port"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
