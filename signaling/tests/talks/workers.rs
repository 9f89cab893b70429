//! Data cores are added and taken away while meetings go on, by real threads on real sockets.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::administration::{KEY, admin, join};
use crate::client::Client;
use crate::media::Line;
use crate::server::{PATIENCE, Server};
use crate::web::health;

/// What `GET /v1/workers` says of each core, once `fits` says that it is so.
async fn workers(server: &Server, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let asked = async {
        loop {
            let (_, answer) = admin(server, "GET", "/v1/workers", "").await;
            let workers = answer["workers"].as_array().unwrap();
            if fits(workers) {
                return workers.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the cores are as they should be")
}

fn states(workers: &[Value]) -> Vec<&str> {
    workers.iter().map(|worker| worker["state"].as_str().unwrap()).collect()
}

/// The port that a new participant of a room is given.
async fn port_of(server: &Server, room: &str, peer: &str) -> (Client, u16) {
    let mut client = join(server, room, peer).await;
    let data = json!({"producing": true});
    let transport = client.ask("createWebRtcTransport", data).await.unwrap();
    let port = transport["iceCandidates"][0]["port"].as_u64().unwrap();
    (client, port as u16)
}

/// A thread is told of before it gives itself its name, and after it is done it is there for a
/// moment: how nice it is, once that is `wanted`; `None` for no such thread.
async fn until_nice(server: &Server, thread: &str, wanted: Option<i32>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = server.nice_of(thread);
        if seen == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{thread}: {seen:?}, wanted {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A socket on a port that its core has left: with io_uring the kernel closes it a moment later.
async fn bound(port: u16) -> UdpSocket {
    let freed = async {
        loop {
            match UdpSocket::bind(("127.0.0.1", port)) {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("its port is free")
}

async fn listener(server: &Server, room: &str, peer: &str) -> (Client, Line) {
    let mut client = join(server, room, peer).await;
    let line = Line::listening(&mut client).await;
    (client, line)
}

async fn speaker(server: &Server, room: &str, peer: &str, number: u32) -> (Client, Line) {
    let mut client = join(server, room, peer).await;
    let line = Line::speaking(&mut client, number).await;
    (client, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_is_added_and_another_is_taken_away_while_people_talk() {
    let server = Server::start_with(&[KEY]);
    let (mut ann, ear) = listener(&server, "old", "ann").await;
    let (ben, mouth) = speaker(&server, "old", "ben", 1).await;
    ann.asked("newConsumer", true).await;
    mouth.talk(true);
    ear.heard(10).await;

    let (status, added) = admin(&server, "POST", "/v1/workers", "").await;
    assert_eq!((status, &added["state"]), (200, &json!("running")), "{added}");
    let core = added["core"].as_u64().unwrap();
    let port = added["port"].as_u64().unwrap() as u16;
    assert_eq!(u64::from(port - ear.port), core, "the port names the core");
    assert!(server.logged("add worker").contains("result=\"done\""));
    let nice = server.nice_of("data-0").expect("its thread");
    until_nice(&server, &format!("data-{core}"), Some(nice)).await;
    let (mut cat, new_ear) = listener(&server, "new", "cat").await;
    let (_dan, new_mouth) = speaker(&server, "new", "dan", 2).await;
    assert_eq!(
        [new_ear.port, new_mouth.port],
        [port; 2],
        "a new room is where there is least to do"
    );
    cat.asked("newConsumer", true).await;
    new_mouth.talk(true);
    new_ear.heard(10).await;

    let path = "/v1/workers/0/drain";
    let (status, drained) = admin(&server, "POST", path, "").await;
    let expected = json!({"core": 0, "port": ear.port, "state": "draining", "transports": 2});
    assert_eq!((status, drained), (200, expected));
    assert!(server.logged("drain worker").contains("what=\"0\""));
    let last = format!("/v1/workers/{core}/drain");
    let (status, refused) = admin(&server, "POST", &last, "").await;
    assert_eq!((status, &refused["code"]), (409, &json!("conflict")), "{refused}");
    assert_eq!(port_of(&server, "old", "eve").await.1, port, "nobody comes to it any more");
    let heard = ear.count();
    ear.heard(heard + 10).await;
    mouth.talk(false);
    assert_eq!(ear.missing_of(&mouth).await, [0; 0], "who is there goes on");
    let old_port = ear.port;
    drop((ear, mouth));
    ann.close().await;
    ben.close().await;
    let is_removed = |workers: &[Value]| states(workers).contains(&"removed");
    let seen = workers(&server, is_removed).await;
    assert_eq!(states(&seen)[0], "removed", "{seen:?}");
    assert_eq!(seen[0]["alive"], false);
    assert_eq!(health(&server).await["cores"], 1);
    until_nice(&server, "data-0", None).await;
    let socket = bound(old_port).await;
    let (status, answer) = admin(&server, "POST", path, "").await;
    assert_eq!((status, &answer["code"]), (404, &json!("not_found")));

    // Its number is taken again, once its port can be had.
    drop(socket);
    let (_, again) = admin(&server, "POST", "/v1/workers", "").await;
    assert_eq!((&again["core"], &again["port"]), (&json!(0), &json!(old_port)));
    assert_eq!(port_of(&server, "third", "fay").await.1, old_port);
    let heard = new_ear.count();
    new_ear.heard(heard + 10).await;
    new_mouth.talk(false);
    assert_eq!(new_ear.missing_of(&new_mouth).await, [0; 0], "elsewhere nothing was lost");
}

#[tokio::test]
async fn at_its_deadline_a_core_closes_who_is_left() {
    let server = Server::start_with(&[KEY]);
    let (mut ann, port) = port_of(&server, "room", "ann").await;
    assert_eq!(admin(&server, "POST", "/v1/workers", "{}").await.0, 200);
    let path = "/v1/workers/0/drain";
    let body = json!({"deadlineSeconds": 3600}).to_string();
    assert_eq!(admin(&server, "POST", path, &body).await.1["state"], "draining");
    assert_eq!(admin(&server, "DELETE", path, "").await.1["state"], "running");
    let (_bea, again) = port_of(&server, "room", "bea").await;
    assert_eq!(again, port, "it takes newcomers again");
    let body = json!({"deadlineSeconds": 0}).to_string();
    assert_eq!(admin(&server, "POST", path, &body).await.0, 200);
    let closed = ann.closed().await.unwrap();
    assert_eq!(closed, (4001, "media core removed; join again".to_owned()));
    assert_ne!(port_of(&server, "room", "ann").await.1, port);
    workers(&server, |workers| states(workers) == ["removed", "running"]).await;
    assert_eq!(health(&server).await["closed"]["core_removed"], 2);
}

#[tokio::test]
async fn a_core_that_drains_is_replaced_and_one_that_is_gone_is_not() {
    let server = Server::start_with(&[KEY, "--debug-faults"]);
    let (ann, _) = port_of(&server, "room", "ann").await;
    let (_, added) = admin(&server, "POST", "/v1/workers", "").await;
    assert_eq!(admin(&server, "POST", "/v1/workers/0/drain", "").await.0, 200);
    server.signal("USR1");
    let recovered = server.logged("worker recovered");
    assert!(recovered.contains("core=0") && recovered.contains("transports=1"), "{recovered}");
    let seen = workers(&server, |workers| workers[0]["recovered"] == 1).await;
    assert_eq!(states(&seen)[0], "draining");
    ann.close().await;
    server.logged("data core removed");
    // Of those that are there the next one suffers.
    server.signal("USR1");
    let recovered = server.logged("worker recovered");
    assert!(recovered.contains(&format!("core={}", added["core"])), "{recovered}");
    let seen = workers(&server, |workers| workers[1]["recovered"] == 1).await;
    assert_eq!((states(&seen)[0], &seen[0]["recovered"]), ("removed", &json!(1)));
    assert_eq!(health(&server).await["status"], "ok");
}

#[tokio::test]
async fn there_are_as_many_as_there_are_ports_and_at_least_one() {
    let server = Server::start_with_ports(2, &[KEY, "--ice-tcp"]);
    let port = port_of(&server, "room", "ann").await.1;
    let last = (port + 1).to_string();
    let blocker = UdpSocket::bind(("127.0.0.1", port + 1));
    let (status, answer) = admin(&server, "POST", "/v1/workers", "").await;
    let reason = answer["reason"].as_str().unwrap();
    assert!(status == 409 && reason.contains(&last), "another program has it: {reason}");
    drop(blocker);
    let (status, answer) = admin(&server, "POST", "/v1/workers", "").await;
    assert_eq!((status, &answer["core"]), (200, &json!(1)), "{answer}");
    let knock = async |port: u16| tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    assert!(knock(port).await && knock(port + 1).await, "both are reached by TCP");
    let (status, answer) = admin(&server, "POST", "/v1/workers", "").await;
    let reason = answer["reason"].as_str().unwrap();
    assert!(status == 409 && reason.contains("--rtc-max-port"), "{reason}");

    assert_eq!(admin(&server, "POST", "/v1/workers/0/drain", "").await.0, 200);
    workers(&server, |workers| states(workers) == ["removed", "running"]).await;
    assert!(!knock(port).await && knock(port + 1).await, "its door is closed");
    for (method, path, body, status) in [
        ("POST", "/v1/workers/1/drain", "", 409),
        ("POST", "/v1/workers/0/drain", "", 404),
        ("DELETE", "/v1/workers/0/drain", "", 404),
        ("DELETE", "/v1/workers/1/drain", "", 200),
        ("POST", "/v1/workers/127/drain", "", 404),
        ("POST", "/v1/workers/128/drain", "", 404),
        ("POST", "/v1/workers/256/drain", "", 404),
        ("POST", "/v1/workers/-1/drain", "", 404),
        ("POST", "/v1/workers/+1/drain", "", 404),
        ("POST", "/v1/workers/x/drain", "", 404),
        ("POST", "/v1/workers/1/drain", "{\"deadlineSeconds\": 100000}", 400),
        ("POST", "/v1/workers/1/drain", "{\"deadlineSeconds\": -1}", 400),
        ("POST", "/v1/workers/1/drain", "{\"x\": 1}", 400),
        ("POST", "/v1/workers", "{\"x\": 1}", 400),
        ("DELETE", "/v1/workers", "", 405),
    ] {
        let answer = admin(&server, method, path, body).await;
        assert_eq!(answer.0, status, "{method} {path} {body}: {}", answer.1);
    }
}
