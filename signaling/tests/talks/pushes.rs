//! Broadcasts: a real ffmpeg sends into a room by plain RTP, the server pushes it, and another
//! ffmpeg takes it as a server of broadcasts would.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::administration::{KEY, admin, join};
use crate::server::{PATIENCE, Server, free_udp_port};
use crate::tokens::acceptor;
use crate::web::{Folder, get_with};

const PATH: &str = "/v1/rooms/room/push";
const STREAM_KEY: &str = "s3cretKey";

/// How long a picture may take from one end to the other: three encoders start, and a builder may
/// be busy.
const LONG: Duration = Duration::from_secs(40);

/// A program that is ended with its test.
struct Program(Child);

impl Program {
    fn ffmpeg(arguments: &str) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-y"]);
        command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
        Program(command.spawn().expect("ffmpeg is here"))
    }

    fn signal(&self, name: &str) {
        signal(name, self.0.id());
    }

    /// Ends it as a person would, so that its file is whole.
    fn end(mut self) {
        self.signal("INT");
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.unwrap().success());
}

/// A camera that sends this codec into the room, as the participant `camera`.
async fn camera(server: &Server, codec: &str) -> Program {
    let post = async |path: &str, body: Value| {
        let path = format!("/rooms/room/broadcasters{path}");
        let (status, answer) = admin(server, "POST", &path, &body.to_string()).await;
        assert_eq!(status, 200, "{path} {answer}");
        answer
    };
    let transport = async || {
        let plain = json!({"type": "plain", "comedia": true, "rtcpMux": false});
        let transport = post("/camera/transports", plain).await;
        let id = transport["id"].as_str().unwrap().to_owned();
        (transport["port"].as_u64().unwrap(), format!("/camera/transports/{id}/producers"))
    };
    post("", json!({"id": "camera", "displayName": "Camera"})).await;
    let (picture, pictures) = transport().await;
    let (sound, sounds) = transport().await;
    let (parameters, encoder) = match codec {
        "H264" => (
            json!({"packetization-mode": 1, "profile-level-id": "42e01f",
                   "level-asymmetry-allowed": 1}),
            "libx264 -profile:v baseline -preset ultrafast -tune zerolatency",
        ),
        _ => (json!({}), "libvpx -deadline realtime -cpu-used 8"),
    };
    let codec = json!({"mimeType": format!("video/{codec}"), "payloadType": 101,
                       "clockRate": 90_000, "parameters": parameters});
    let made = json!({"codecs": [codec], "encodings": [{"ssrc": 2222}]});
    post(&pictures, json!({"kind": "video", "rtpParameters": made})).await;
    let codec = json!({"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48_000,
                       "channels": 2});
    let made = json!({"codecs": [codec], "encodings": [{"ssrc": 1111}]});
    post(&sounds, json!({"kind": "audio", "rtpParameters": made})).await;
    Program::ffmpeg(&format!(
        "-re -f lavfi -i testsrc=s=320x180:r=25 -re -f lavfi -i sine=frequency=440 \
         -map 0:v -pix_fmt yuv420p -c:v {encoder} -g 25 -b:v 300k -f rtp -ssrc 2222 -payload_type 101 \
         rtp://127.0.0.1:{picture}?rtcpport={picture}&pkt_size=1200 \
         -map 1:a -c:a libopus -f rtp -ssrc 1111 -payload_type 100 \
         rtp://127.0.0.1:{sound}?rtcpport={sound}"
    ))
}

/// A server that may broadcast there.
fn start(origin: &str, flags: &[String]) -> Server {
    let allow = format!("--push-allow={origin}");
    let flags = flags.iter().map(String::as_str).chain([KEY, &allow]);
    let path = std::env::var("PATH").unwrap();
    Server::start_in(&flags.collect::<Vec<_>>(), &[("PATH", &path)])
}

/// Where broadcasts go, and the server that may send them there.
struct Place {
    folder: Folder,
    scheme: &'static str,
    port: u16,
    /// Where the server is to send.
    url: String,
    server: Server,
}

impl Place {
    fn new(name: &str, scheme: &'static str) -> Self {
        let port = match scheme {
            "srt" => free_udp_port(),
            _ => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
        };
        let origin = format!("{scheme}://127.0.0.1:{port}");
        let url = match scheme {
            "srt" => format!("{origin}?streamid={STREAM_KEY}"),
            _ => format!("{origin}/live/{STREAM_KEY}"),
        };
        let server = start(&origin, &[]);
        Place { folder: Folder::new(name), scheme, port, url, server }
    }

    /// With TLS before the server of broadcasts, whose certificate is trusted or not.
    async fn behind_tls(name: &str, trusted: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = Folder::new(name);
        let (acceptor, certificate) = acceptor();
        let certificate = folder.write("ca.pem", certificate);
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("rtmps://localhost:{}", door.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = door.accept().await {
                // Who does not trust us hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let Ok(mut sink) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut sink).await;
            }
        });
        let ca = format!("--push-ca={certificate}");
        let server = start(&origin, if trusted { std::slice::from_ref(&ca) } else { &[] });
        let url = format!("{origin}/live/{STREAM_KEY}");
        Place { folder, scheme: "rtmp", port, url, server }
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}.mkv", self.folder.path())
    }

    /// A server of broadcasts, which writes what comes into a file.
    fn sink(&self, name: &str) -> Program {
        let from = match self.scheme {
            "srt" => format!("-i srt://127.0.0.1:{}?mode=listener", self.port),
            _ => format!("-listen 1 -i rtmp://127.0.0.1:{}/live/{STREAM_KEY}", self.port),
        };
        Program::ffmpeg(&format!(
            "-analyzeduration 1000000 {from} -c copy -flush_packets 1 {}",
            self.file(name)
        ))
    }

    async fn start(&self) {
        let body = json!({"url": self.url, "participant": "camera", "noticeSeconds": 0});
        let (status, report) = admin(&self.server, "POST", PATH, &body.to_string()).await;
        assert_eq!(status, 200, "{report}");
        assert!(!report.to_string().contains(STREAM_KEY), "{report}");
    }

    /// The report once it is so.
    async fn report(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let asked = Instant::now();
        loop {
            let (status, report) = admin(&self.server, "GET", PATH, "").await;
            assert_eq!(status, 200, "{report}");
            if is_so(&report) {
                return report;
            }
            assert!(asked.elapsed() < LONG, "{what}: {report}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until so many seconds' worth of bytes more have been sent.
    async fn sent(&self, seconds: u64) {
        self.report("it is connected", |report| report["connected"] == true).await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// The program that sends; and that none is left of those that have ended.
    fn child(&self) -> Option<u32> {
        let children = self.server.children();
        assert!(children.iter().all(|(_, state)| *state != 'Z'), "{children:?}");
        children.first().map(|(id, _)| *id)
    }
}

/// Codec, packets and size of what is in a file; there is no fault in it.
fn streams(file: &str) -> Vec<(String, u64, u64)> {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i", file, "-f", "null", "-"])
        .output()
        .unwrap();
    assert!(decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let entries = "stream=codec_name,nb_read_packets,height";
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-show_entries", entries, "-of", "json", file])
        .output()
        .unwrap();
    let probed: Value = serde_json::from_slice(&probed.stdout).unwrap();
    let streams = probed["streams"].as_array().expect("it has streams");
    let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    let mut found: Vec<_> = streams
        .iter()
        .map(|stream| {
            let codec = stream["codec_name"].as_str().unwrap_or_default().to_owned();
            let packets = number(&stream["nb_read_packets"]).unwrap_or(0);
            (codec, packets, stream["height"].as_u64().unwrap_or(0))
        })
        .collect();
    found.sort();
    found
}

fn assert_is_whole(file: &str, height: u64) {
    let found = streams(file);
    let [(sound, sounds, _), (picture, pictures, of)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&**sound, &**picture, *of), ("aac", "h264", height), "{found:?}");
    assert!(*sounds > 100 && *pictures > 50, "over two seconds of each: {found:?}");
}

/// A camera of this codec comes out as a picture of so many lines, with its sound.
async fn assert_is_broadcast(place: &Place, codec: &str, height: u64) {
    let _camera = camera(&place.server, codec).await;
    let sink = place.sink("out");
    place.start().await;
    place.sent(5).await;
    sink.end();
    assert_is_whole(&place.file("out"), height);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_is_broadcast_by_rtmp_once_everyone_was_told() {
    let place = Place::new("push-rtmp", "rtmp");
    let mut ann = join(&place.server, "room", "ann").await;
    let _camera = camera(&place.server, "H264").await;
    let sink = place.sink("out");
    place.start().await;
    let told = ann.notified("pushChanged").await;
    assert_eq!(told, json!({"pushed": true, "startsInMs": 0}));
    place.sent(4).await;
    let report = place.report("it is sent", |report| report["bytes"] != 0).await;
    let shown = format!("rtmp://127.0.0.1:{}/live/…", place.port);
    assert_eq!((&report["url"], &report["state"]), (&json!(shown), &json!("pushed")), "{report}");
    let key = format!("Authorization: Bearer {}\r\n", crate::administration::SECRET);
    let (_, _, metrics) = get_with(&place.server, "/metrics", &key).await;
    assert!(metrics.contains("\nopencall_pushes 1\n"));
    let (status, report) = admin(&place.server, "DELETE", PATH, "").await;
    assert_eq!((status, &report["active"]), (200, &json!(false)));
    let told = ann.notified("pushChanged").await;
    assert_eq!(told, json!({"pushed": false, "reason": "stopped"}));
    sink.end();
    assert_is_whole(&place.file("out"), 180);
    let ended = Instant::now();
    while place.child().is_some() {
        assert!(ended.elapsed() < PATIENCE, "its program ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut server = place.server;
    server.signal("TERM");
    assert!(server.wait().success());
    assert!(!server.log_to_end().contains(STREAM_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_h264_is_encoded_anew() {
    let place = Place::new("push-vp8", "rtmp");
    assert_is_broadcast(&place, "VP8", 720).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_is_broadcast_by_srt() {
    let place = Place::new("push-srt", "srt");
    assert_is_broadcast(&place, "H264", 180).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_is_broadcast_by_rtmps_to_who_is_trusted_alone() {
    let place = Place::behind_tls("push-rtmps", true).await;
    assert_is_broadcast(&place, "H264", 180).await;

    let place = Place::behind_tls("push-rtmps-stranger", false).await;
    let _camera = camera(&place.server, "H264").await;
    let _sink = place.sink("out");
    place.start().await;
    let report = place.report("it is not trusted", |report| report["state"] == "ended").await;
    assert_eq!((&report["ending"], &report["bytes"]), (&json!("failed"), &json!(0)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_or_a_program_that_dies_is_replaced() {
    let place = Place::new("push-again", "rtmp");
    let _camera = camera(&place.server, "H264").await;
    let sink = place.sink("first");
    place.start().await;
    place.sent(2).await;
    let child = place.child().expect("it sends");
    sink.signal("KILL");
    drop(sink);
    let again = place.sink("second");
    let killed = Instant::now();
    let back = |report: &Value| report["connections"] == 2 && report["connected"] == true;
    let report = place.report("it is connected again", back).await;
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    assert!(report["error"].is_string(), "{report}");
    place.sent(5).await;
    let next = place.child().expect("it sends");
    assert_ne!(next, child);
    again.end();
    assert_is_whole(&place.file("second"), 180);

    let _third = place.sink("third");
    place.report("again", |report| report["connections"] == 3).await;
    place.sent(1).await;
    let next = place.child().expect("it sends");
    let _fourth = {
        signal("KILL", next);
        place.report("it is seen", |report| report["connected"] == false).await;
        place.sink("fourth")
    };
    place.report("and again", |report| report["connections"] == 4).await;
    assert_ne!(place.child(), Some(next));
    let mut server = place.server;
    let last = server.children();
    server.signal("KILL");
    server.wait();
    let killed = Instant::now();
    for (id, _) in last {
        while std::path::Path::new(&format!("/proc/{id}/exe")).exists() {
            assert!(killed.elapsed() < PATIENCE, "it ends with the server");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_is_fails_in_seconds_and_says_why() {
    let place = Place::new("push-nowhere", "rtmp");
    let mut ann = join(&place.server, "room", "ann").await;
    let _camera = camera(&place.server, "H264").await;
    let begun = Instant::now();
    place.start().await;
    ann.notified("pushChanged").await;
    let told = ann.notified("pushChanged").await;
    assert_eq!(told, json!({"pushed": false, "reason": "failed"}));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let report = place.report("it has ended", |report| report["state"] == "ended").await;
    assert_eq!((&report["active"], &report["ending"]), (&json!(false), &json!("failed")));
    assert_eq!(report["error"], "Connection refused", "{report}");
    let line = place.server.logged("a push has ended");
    assert!(line.contains("Connection refused") && !line.contains(STREAM_KEY), "{line}");
    assert_eq!(place.child(), None);
}

#[tokio::test]
async fn nothing_goes_where_it_may_not() {
    let server = Server::start_with(&[KEY]);
    let _ann = join(&server, "room", "ann").await;
    for url in ["rtmp://127.0.0.1:1/live/key", "nonsense"] {
        let body = json!({"url": url, "participant": "ann"}).to_string();
        let (status, answer) = admin(&server, "POST", PATH, &body).await;
        assert_eq!(status, 404, "nothing is allowed");
        assert!(answer["reason"].as_str().unwrap().contains("--push-allow"), "{answer}");
    }
    let place = Place::new("push-refused", "rtmp");
    let _ann = join(&place.server, "room", "ann").await;
    for url in [
        format!("rtmp://127.0.0.2:{}/live/{STREAM_KEY}", place.port),
        format!("rtmps://127.0.0.1:{}/live/{STREAM_KEY}", place.port),
        format!("rtmp://127.0.0.1:{}@evil.example/live/{STREAM_KEY}", place.port),
        format!("tcp://127.0.0.1:{}/{STREAM_KEY}", place.port),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let body = json!({"url": url, "participant": "ann"}).to_string();
        let (status, answer) = admin(&place.server, "POST", PATH, &body).await;
        assert_eq!((status, &answer["code"]), (403, &json!("refused")), "{url}: {answer}");
        assert!(!answer.to_string().contains(STREAM_KEY), "{answer}");
    }
    let absent = json!({"url": place.url, "participant": "nobody"}).to_string();
    assert_eq!(admin(&place.server, "POST", PATH, &absent).await.0, 404);
    assert_eq!(admin(&place.server, "POST", PATH, "{}").await.0, 400);
}
