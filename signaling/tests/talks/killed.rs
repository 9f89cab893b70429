//! The server is killed under its supervisor while two talk: media goes on with the keys and the
//! numbers that there were, and who comes back by signaling begins anew, without a ghost.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::media::Line;
use crate::server::{PATIENCE, Server};
use crate::web::health_when;

/// How long voices may be away: what a call stands without anyone asking whether it is still there.
const AWAY: Duration = Duration::from_secs(1);

/// How many servers are killed; `scripts/prove killed` kills more.
fn kills() -> u32 {
    std::env::var("OPENCALL_KILLS").map_or(3, |kills| kills.parse().expect("a number"))
}

/// How busy the machine may be: alone it has to hold what is said, beside other tests it need not.
fn away() -> Duration {
    if std::env::var_os("OPENCALL_KILLS").is_some() { AWAY } else { 10 * AWAY }
}

async fn enter(server: &Server, peer: &str) -> Client {
    let mut client = Client::protoo(server, "r", peer).await;
    let codecs = client.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
    let own = json!({"displayName": peer, "device": {}, "rtpCapabilities": codecs});
    client.ask("join", own).await.unwrap();
    client
}

/// A meeting of two, of whom one speaks.
async fn meeting(server: &Server, number: u32) -> ([Client; 2], [Line; 2]) {
    let mut speaker = enter(server, "speaker").await;
    let mut listener = enter(server, "listener").await;
    let ear = Line::listening(&mut listener).await;
    let voice = Line::speaking(&mut speaker, number).await;
    listener.asked("newConsumer", true).await;
    voice.talk(true);
    ear.heard(20).await;
    ([speaker, listener], [voice, ear])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_goes_on_when_the_server_is_killed_and_no_index_is_used_twice() {
    let server = Server::start_with(&["--supervised"]);
    let (_clients, [voice, ear]) = meeting(&server, 1).await;
    ear.longest_gap();
    let mut longest = Duration::ZERO;
    for _ in 0..kills() {
        // A server that dies right after its start may have died of the calls.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        server.kill_supervised();
        let heard = ear.count();
        ear.heard(heard + 25).await;
        let gap = ear.longest_gap();
        assert!(gap < away(), "nothing came for {gap:?}");
        longest = longest.max(gap);
    }
    voice.talk(false);
    ear.missing_of(&voice).await;
    assert_eq!(ear.refused() + voice.refused(), 0, "indexes used twice");
    println!("{} kills; the longest silence was {longest:?}", kills());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_begins_anew_and_nothing_is_left_of_before() {
    let server = Server::start_with(&["--supervised"]);
    let (clients, lines) = meeting(&server, 1).await;
    server.kill_supervised();
    drop(clients);
    let [_voice, ear] = &lines;
    ear.heard(ear.count() + 10).await;
    let (_again, [new_voice, new_ear]) = meeting(&server, 2).await;
    server.logged("of the process before nothing is left");
    // What is said on the old transports reaches nobody any more, and what is said on the new ones
    // comes once.
    let (old, new) = (ear.count(), new_ear.count());
    new_ear.heard(new + 25).await;
    assert!(ear.count() <= old + 5, "the one before hears on");
    new_voice.talk(false);
    assert_eq!(new_ear.missing_of(&new_voice).await, [0; 0]);
    let health = health_when(&server, |seen| seen["peers"] == 2).await;
    assert_eq!((&health["status"], &health["peers"]), (&json!("ok"), &json!(2)));
}

#[tokio::test]
async fn a_signal_ends_both_and_the_end_of_the_supervisor_that_of_the_server() {
    let mut server = Server::start_with(&["--supervised"]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let mut server = Server::start_with(&["--supervised"]);
    server.signal("KILL");
    server.wait();
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(server.address).is_ok() {
        assert!(Instant::now() < deadline, "the server has outlived its supervisor");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
