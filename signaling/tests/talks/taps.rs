//! Voices for a program outside: a real WebSocket server that hears them, and what it makes of
//! them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::administration::{KEY, SECRET, admin, join};
use crate::client::{Client, microphone};
use crate::media::Line;
use crate::server::{PATIENCE, Server};
use crate::web::get_with;

const PATH: &str = "/v1/rooms/room/tap";

/// Where a program listens, and a server that may hand voices there.
struct Place {
    listener: TcpListener,
    address: SocketAddr,
    server: Server,
}

impl Place {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start_with(&[KEY, &format!("--tap-allow=ws://{address}")]);
        Place { listener, address, server }
    }

    /// Has the room tapped, and waits until it is.
    async fn tap(&self) -> Program {
        let (status, report) = self.start(0).await;
        assert_eq!(status, 200, "{report}");
        self.connected().await
    }

    async fn start(&self, notice: u64) -> (u16, Value) {
        let url = format!("ws://{}/hear?key=secret", self.address);
        let body = json!({"url": url, "noticeSeconds": notice}).to_string();
        admin(&self.server, "POST", PATH, &body).await
    }

    async fn connected(&self) -> Program {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("it is connected").unwrap();
        Program(accept_async(stream).await.unwrap())
    }

    /// The report once it is so.
    async fn report(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let (status, report) = admin(&self.server, "GET", PATH, "").await;
                assert_eq!(status, 200, "{report}");
                if is_so(&report) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect(what)
    }

    /// Values of `/metrics` whose name begins so.
    async fn metrics(&self, start: &str) -> Vec<String> {
        let key = format!("Authorization: Bearer {SECRET}\r\n");
        let (_, _, text) = get_with(&self.server, "/metrics", &key).await;
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }
}

/// The program's side of a connection.
struct Program(WebSocketStream<TcpStream>);

impl Program {
    /// The next event, if any more comes.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("it says");
            match message {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn event(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await.expect(name);
            if event["event"] == name {
                return event[name].clone();
            }
        }
    }

    async fn say(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    async fn understand(&mut self, who: &str, text: &str, interim: bool) {
        let result = json!({"type": "transcription-result", "event": "transcription-result",
            "is_interim": interim, "transcript": [{"text": text, "confidence": 0.9}],
            "participant": {"id": who}, "timestamp": 1, "language": "en"});
        self.say(Message::text(result.to_string())).await;
    }
}

fn number(value: &Value) -> u64 {
    value.as_str().expect("numbers are strings").parse().unwrap()
}

fn payload(media: &Value) -> Vec<u8> {
    STANDARD.decode(media["payload"].as_str().unwrap()).unwrap()
}

/// Ann, whose voice goes out, and Ben, who only reads.
async fn meeting(place: &Place) -> (Client, Line, Client) {
    let mut ann = join(&place.server, "room", "ann").await;
    let voice = Line::speaking(&mut ann, 7).await;
    voice.talk(true);
    (ann, voice, join(&place.server, "room", "ben").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn voices_go_out_as_they_came_and_captions_come_back() {
    let place = Place::new().await;
    let (mut ann, voice, mut ben) = meeting(&place).await;
    let asked = Instant::now();
    let (status, report) = place.start(1).await;
    assert_eq!((status, &report["state"]), (200, &json!("announced")), "{report}");
    assert_eq!(report["url"], format!("ws://{}/hear", place.address), "without its secret");
    for client in [&mut ann, &mut ben] {
        let told = client.notified("tapChanged").await;
        assert_eq!(told, json!({"tapped": true, "startsInMs": 1_000}));
    }
    let mut program = place.connected().await;
    assert!(
        asked.elapsed() >= Duration::from_secs(1),
        "nobody is reached before the notice is over"
    );

    let start = program.event("start").await;
    assert_eq!(start["customParameters"], json!({"endpointId": "ann"}));
    let format = json!({"encoding": "opus", "sampleRate": 48_000, "channels": 2});
    assert_eq!(start["mediaFormat"], format);
    // What comes before the program is there is left out, and its numbers with it.
    let mut heard = vec![program.event("media").await];
    let first = number(&heard[0]["chunk"]);
    for chunk in first + 1..first + 40 {
        let media = program.event("media").await;
        assert_eq!((&media["tag"], number(&media["chunk"])), (&start["tag"], chunk));
        heard.push(media);
    }
    let payloads: Vec<Vec<u8>> = heard.iter().map(payload).collect();
    let sent = voice.payloads();
    assert!(sent.windows(40).any(|sent| sent == payloads), "byte for byte, in their order");
    let times: Vec<u64> = heard.iter().map(|media| number(&media["timestamp"])).collect();
    assert!(times.is_sorted(), "{times:?}");
    let passed = times[39] - times[0];
    assert!((39 * 940..39 * 2_000).contains(&passed), "{passed} ticks for 39 frames of 20 ms");

    let tag = start["tag"].as_str().unwrap();
    for (who, text, interim) in [("ann", "good", true), (tag, "good morning", false)] {
        program.understand(who, text, interim).await;
        for client in [&mut ann, &mut ben] {
            let told = client.notified("caption").await;
            let expected = json!({"peerId": "ann", "utterance": 1, "text": text,
                                  "interim": interim, "language": "en"});
            assert_eq!(told, expected);
        }
    }
    place.report("it is told", |report| report["captions"] == 2 && report["voices"] == 1).await;
    place.server.logged("action=\"start tap\" room=\"room\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_that_is_ended_hands_nothing_on_any_more() {
    let place = Place::new().await;
    let (mut ann, voice, _ben) = meeting(&place).await;
    let mut program = place.tap().await;
    program.event("media").await;
    let (status, report) = admin(&place.server, "DELETE", PATH, "").await;
    assert_eq!((status, &report["active"]), (200, &json!(false)));
    let sent = voice.payloads().len();
    ann.notified("tapChanged").await;
    let told = ann.notified("tapChanged").await;
    assert_eq!(told, json!({"tapped": false, "reason": "stopped"}));
    let (mut last, mut events) = (None, Vec::new());
    while let Some(event) = program.next().await {
        if event["event"] == "media" {
            last = Some(payload(&event["media"]));
        } else {
            events.push(event["event"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(events, ["stop", "session-end"]);
    if let Some(last) = last {
        let place = voice.payloads().iter().position(|sent| *sent == last).expect("it was sent");
        // What left while the answer was on its way.
        assert!(place <= sent + 5, "the frame {place} of {sent}");
    }
}

#[tokio::test]
async fn where_voices_may_not_go_they_do_not() {
    let server = Server::start_with(&[KEY]);
    let _ann = join(&server, "room", "ann").await;
    for url in ["ws://127.0.0.1:1/", "nonsense"] {
        let body = json!({"url": url}).to_string();
        assert_eq!(admin(&server, "POST", PATH, &body).await.0, 404, "no program is allowed");
    }
    let place = Place::new().await;
    assert_eq!(place.start(0).await.0, 404, "there is no such room");
    let mut ann = join(&place.server, "room", "ann").await;
    let port = place.address.port();
    for (url, expected) in [
        (format!("ws://127.0.0.2:{port}/"), 403),
        (format!("wss://127.0.0.1:{port}/"), 403),
        (format!("ws://localhost:{port}/"), 403),
        (format!("ws://127.0.0.1:{port}@evil.example/"), 403),
        ("ws://169.254.169.254/latest/meta-data".to_owned(), 403),
        ("http://127.0.0.1/".to_owned(), 403),
        ("file:///etc/passwd".to_owned(), 403),
        (String::new(), 403),
    ] {
        let (status, answer) =
            admin(&place.server, "POST", PATH, &json!({"url": url}).to_string()).await;
        assert_eq!((status, &answer["code"]), (expected, &json!("refused")), "{url}: {answer}");
    }
    assert_eq!(admin(&place.server, "POST", PATH, "{}").await.0, 400);
    let data = json!({"producing": true, "consuming": false});
    let transport = ann.ask("createWebRtcTransport", data).await.unwrap();
    let data = json!({"transportId": transport["id"], "kind": "audio",
        "rtpParameters": microphone(9), "appData": {"e2ee": {"v": 1}}});
    ann.ask("produce", data).await.unwrap();
    let (status, answer) = place.start(0).await;
    assert_eq!((status, &answer["code"]), (409, &json!("conflict")));
    assert!(answer["reason"].as_str().unwrap().contains("encrypted end to end"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_reads_nothing_misses_frames_and_nobody_else_does() {
    let place = Place::new().await;
    SockRef::from(&place.listener).set_recv_buffer_size(4_096).unwrap();
    let (_ann, voice, mut ben) = meeting(&place).await;
    let ear = Line::listening(&mut ben).await;
    let program = place.tap().await;
    let mut others = Vec::new();
    for name in ["carl", "dora", "emil"] {
        let mut client = join(&place.server, "room", name).await;
        let line = Line::speaking(&mut client, 20 + others.len() as u32).await;
        line.hurry();
        line.talk(true);
        others.push((client, line));
    }
    tokio::spawn(async move { ben.accept_everything().await });
    let dropped = |report: &Value| report["framesDropped"].as_u64().unwrap() > 0;
    let report = place.report("frames are dropped", dropped).await;
    assert_eq!(report["connected"], true, "{report}");
    let slow = place.metrics("opencall_tap_frames_dropped_total{reason=\"slow\"}").await;
    assert!(!slow[0].ends_with(" 0"), "{slow:?}");
    let before = ear.count();
    ear.heard(before + 50).await;
    voice.talk(false);
    let missing = ear.missing_of(&voice).await;
    assert_eq!(missing, [0; 0], "those in the room hear all");
    drop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_dies_is_connected_again() {
    let place = Place::new().await;
    let (_ann, _voice, mut ben) = meeting(&place).await;
    let mut program = place.tap().await;
    program.event("media").await;
    drop(program);
    let mut program = place.connected().await;
    let start = program.event("start").await;
    assert_eq!(start["customParameters"]["endpointId"], "ann");
    let media = program.event("media").await;
    assert!(number(&media["chunk"]) > 0, "its numbers go on: what was missed is seen");
    let report = place.report("it is counted", |report| report["connections"] == 2).await;
    assert_eq!(report["connected"], true);
    assert!(report["error"].is_string(), "{report}");
    program.understand("ann", "again", false).await;
    assert_eq!(ben.notified("caption").await["text"], "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_program_is_counted_and_harms_nothing() {
    let place = Place::new().await;
    let (_ann, _voice, mut ben) = meeting(&place).await;
    let mut program = place.tap().await;
    let nested = format!("{{\"event\":{}", "[".repeat(30_000));
    for text in ["", "null", "{}", &nested, "{\"event\":\"transcription-result\"}"] {
        program.say(Message::text(text)).await;
    }
    program.say(Message::binary(vec![0xff; 1_000])).await;
    program.understand("ann", " \u{0} ", false).await;
    program.understand("ann", &"long ".repeat(1_000), false).await;
    program.understand("nobody", "boo", false).await;
    program.say(Message::text("{\"event\":\"ping\",\"id\":7}")).await;
    loop {
        let event = program.next().await.expect("it is heard");
        if event["event"] == "pong" {
            assert_eq!(event["id"], 7);
            break;
        }
    }
    program.understand("ann", "still here", false).await;
    assert_eq!(ben.notified("caption").await["text"], "still here");
    program.say(Message::text("x".repeat(300_000))).await;
    let mut program = place.connected().await;
    program.understand("ann", "and again", false).await;
    assert_eq!(ben.notified("caption").await["text"], "and again");
    let expected = [
        "too_large 1",
        "malformed 6",
        "empty 1",
        "too_long 1",
        "ended 0",
        "unknown_participant 1",
        "too_many 0",
    ];
    let counted = place.metrics("opencall_captions_refused_total").await;
    let counted: Vec<String> = counted
        .iter()
        .map(|line| line.split('"').skip(1).map(|part| part.replace('}', "")).collect())
        .collect();
    assert_eq!(counted, expected);
}
