//! Pipelines of plain RTP by HTTP, as mediasoup-demo's scripts ask for them: in by one socket, out
//! by another, with and without SRTP.

use std::net::UdpSocket;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opencall_wire::srtp::{OpenContext, Profile, SealContext};
use serde_json::{Value, json};

use crate::administration::{KEY, admin, join};
use crate::server::Server;
use crate::web::get;

const SUITE: Profile = Profile::AesCm128HmacSha1_80;
const CAMERA: &str = "/rooms/r/broadcasters/camera";

async fn post(server: &Server, path: &str, body: Value) -> Value {
    let (status, answer) = admin(server, "POST", path, &body.to_string()).await;
    assert_eq!(status, 200, "{path} {body} {answer}");
    answer
}

async fn refused(server: &Server, path: &str, body: &str) -> u16 {
    let (status, answer) = admin(server, "POST", path, body).await;
    assert!(status >= 400, "{path} {body}");
    assert!(!answer["detail"].as_str().unwrap_or_default().is_empty(), "{path} {body} {answer}");
    status
}

/// As mediasoup-demo's script for ffmpeg has it.
fn opus() -> Value {
    json!({"kind": "audio", "rtpParameters": {
        "codecs": [{"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2,
            "parameters": {"sprop-stereo": 1}}],
        "encodings": [{"ssrc": 1111}]}})
}

fn capabilities() -> Value {
    json!({"codecs": [{"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2,
        "preferredPayloadType": 100}]})
}

/// What one side of SRTP seals and opens with.
struct Keys {
    seal: SealContext,
    open: OpenContext,
    parameters: Value,
}

impl Keys {
    fn new(theirs: &Value) -> Self {
        let ours: Vec<u8> = (0..30).collect();
        let theirs = STANDARD.decode(theirs["keyBase64"].as_str().unwrap()).unwrap();
        assert_eq!(theirs.len(), 30);
        Keys {
            seal: SealContext::new(SUITE, &ours[..16], &ours[16..]).unwrap(),
            open: OpenContext::new(SUITE, &theirs[..16], &theirs[16..]).unwrap(),
            parameters: json!({"cryptoSuite": SUITE.name(), "keyBase64": STANDARD.encode(ours)}),
        }
    }
}

/// A frame of Opus as it goes over the wire.
fn packet(sequence: u16, payload: &[u8], keys: Option<&mut Keys>) -> Vec<u8> {
    let mut packet = vec![0x80, 100];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 960).to_be_bytes());
    packet.extend(1111_u32.to_be_bytes());
    let mut out = packet.clone();
    out.resize(200, 0);
    let seal = keys.map(|keys| &mut keys.seal);
    let mut clear = SealContext::clear();
    let seal = seal.unwrap_or(&mut clear);
    let len = seal.seal_rtp(sequence.into(), 12, payload, &mut out).unwrap();
    out.truncate(len);
    out
}

#[tokio::test]
async fn what_a_pipeline_sends_another_gets() {
    for srtp in [false, true] {
        let server = Server::start_with(&[KEY]);
        // Without `enableSrtp`, what the script says.
        let mut wanted = json!({"type": "plain", "comedia": true, "rtcpMux": false});
        if srtp {
            wanted["enableSrtp"] = true.into();
        }
        let begin = json!({"id": "camera", "displayName": "Broadcaster", "device": {"name": "x"}});
        post(&server, "/rooms/r/broadcasters", begin).await;
        let transports = format!("{CAMERA}/transports");
        let way_in = post(&server, &transports, wanted.clone()).await;
        assert_eq!(way_in["port"], way_in["rtcpPort"]);
        let of = |path: &str, transport: &Value, action: &str| {
            format!("{path}/{}/{action}", transport["id"].as_str().unwrap())
        };
        let mut source = srtp.then(|| Keys::new(&way_in["srtpParameters"]));
        if let Some(keys) = &source {
            let connect = json!({"srtpParameters": keys.parameters});
            post(&server, &of(&transports, &way_in, "connect"), connect).await;
        }
        let producer = post(&server, &of(&transports, &way_in, "producers"), opus()).await;

        // Another room's pipeline does not find it; one of this room's is told of it.
        let sink = json!({"id": "sink", "rtpCapabilities": capabilities()});
        let told = post(&server, "/rooms/r/broadcasters", sink).await;
        assert_eq!(told["peers"][0]["producers"][0]["id"], producer["id"]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let transports = "/rooms/r/broadcasters/sink/transports";
        (wanted["comedia"], wanted["rtcpMux"]) = (false.into(), true.into());
        let way_out = post(&server, transports, wanted).await;
        assert_eq!(way_out.get("rtcpPort"), None);
        let mut sunk = srtp.then(|| Keys::new(&way_out["srtpParameters"]));
        let port = socket.local_addr().unwrap().port();
        let mut connect = json!({"ip": "127.0.0.1", "port": port});
        if let Some(keys) = &sunk {
            connect["srtpParameters"] = keys.parameters.clone();
        }
        post(&server, &of(transports, &way_out, "connect"), connect).await;
        let consume = of(transports, &way_out, "consume");
        let consume = format!("{consume}?producerId={}", producer["id"].as_str().unwrap());
        let (status, consumer) = admin(&server, "POST", &consume, "").await;
        assert_eq!((status, &consumer["type"]), (200, &json!("simple")), "{consumer}");

        let camera = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = ("127.0.0.1", way_in["port"].as_u64().unwrap() as u16);
        let mut bytes = [0; 2000];
        let mut sequence = 0;
        let len = loop {
            camera.send_to(&packet(sequence, b"a frame of sound", source.as_mut()), to).unwrap();
            sequence += 1;
            // Reports come, too.
            match socket.recv(&mut bytes) {
                Ok(len) if bytes[1] & 0x7f == 100 => break len,
                _ => assert!(sequence < 2_000, "nothing comes"),
            }
        };
        let number = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ssrc = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
        assert_eq!(
            ssrc,
            consumer["rtpParameters"]["encodings"][0]["ssrc"].as_u64().unwrap() as u32
        );
        let opened = sunk.as_mut().map(|keys| {
            let packet = &mut bytes[..len];
            keys.open.open_rtp(packet, ssrc, number, 12).expect("it is sealed for us").len
        });
        assert_eq!(&bytes[12..opened.unwrap_or(len)], b"a frame of sound");

        assert_eq!(admin(&server, "DELETE", CAMERA, "").await.0, 200);
        assert_eq!(admin(&server, "DELETE", CAMERA, "").await.0, 404);
    }
}

#[tokio::test]
async fn a_pipeline_is_seen_by_others_and_watches_who_has_the_floor() {
    let server = Server::start_with(&[KEY]);
    assert_eq!(admin(&server, "GET", "/rooms/r", "").await.0, 404, "there is no such room");
    let mut ann = join(&server, "r", "ann").await;
    let (status, body) = admin(&server, "GET", "/rooms/r", "").await;
    assert_eq!((status, body["codecs"].is_array()), (200, true));

    let begin = json!({"id": "camera", "displayName": "Broadcaster", "rtpCapabilities":
        capabilities()});
    let told = post(&server, "/rooms/r/broadcasters", begin.clone()).await;
    assert_eq!((&told["peers"][0]["id"], &told["peers"][1]), (&json!("ann"), &json!(null)));
    let peer = ann.notified("newPeer").await;
    assert_eq!(peer["displayName"], "Broadcaster");
    assert_eq!(refused(&server, "/rooms/r/broadcasters", &begin.to_string()).await, 409);

    let transports = format!("{CAMERA}/transports");
    let plain = json!({"type": "plain", "comedia": false, "rtcpMux": true});
    let transport = post(&server, &transports, plain).await;
    let of = format!("{transports}/{}", transport["id"].as_str().unwrap());
    let consumer = post(&server, &format!("{of}/consume"), json!({"kind": "audio"})).await;
    assert_eq!(consumer["kind"], "audio");
    let watched = json!({"kind": "audio", "participant": "ann"});
    post(&server, &format!("{of}/consume"), watched).await;
    let nobody = json!({"kind": "audio", "participant": "bob"}).to_string();
    assert_eq!(refused(&server, &format!("{of}/consume"), &nobody).await, 404);
    assert_eq!(admin(&server, "DELETE", CAMERA, "").await.0, 200);
    assert_eq!(ann.notified("peerClosed").await["peerId"], "camera");
}

#[tokio::test]
async fn what_does_not_make_sense_is_refused() {
    let server = Server::start_with(&[KEY]);
    let all = "/rooms/r/broadcasters";
    for body in ["", "[]", "{", "{\"id\": 7}", "{\"id\": \"\"}", "{\"displayName\": \"x\"}"] {
        assert_eq!(refused(&server, all, body).await, 400, "{body}");
    }
    let long = json!({"id": "x".repeat(257)}).to_string();
    assert_eq!(refused(&server, all, &long).await, 400);
    let huge = json!({"id": "x", "displayName": "x".repeat(70_000)}).to_string();
    assert_eq!(refused(&server, all, &huge).await, 413);
    assert_eq!(
        refused(&server, &format!("{CAMERA}/transports"), "{\"type\": \"plain\"}").await,
        404
    );

    post(&server, all, json!({"id": "camera"})).await;
    let transports = format!("{CAMERA}/transports");
    let wrong = [
        json!({}),
        json!({"type": "webrtc"}),
        json!({"type": "plain", "comedia": 1}),
        json!({"type": "plain", "srtpCryptoSuite": "AES_CM_128_HMAC_SHA1_80"}),
        json!({"type": "plain", "enableSrtp": true, "srtpCryptoSuite": "AES_CM_128_HMAC_SHA1_32"}),
    ];
    for body in wrong {
        assert_eq!(refused(&server, &transports, &body.to_string()).await, 400, "{body}");
    }
    let srtp = json!({"type": "plain", "comedia": false, "enableSrtp": true});
    let transport = post(&server, &transports, srtp).await;
    let of = format!("{transports}/{}", transport["id"].as_str().unwrap());
    let keys = |suite: &str, key: &str| json!({"cryptoSuite": suite, "keyBase64": key});
    let good = STANDARD.encode([1; 30]);
    let to = |keys: Value| json!({"ip": "127.0.0.1", "port": 9, "srtpParameters": keys});
    let wrong = [
        (json!({"ip": "127.0.0.1"}), 400),
        (json!({"ip": "localhost", "port": 9}), 400),
        (json!({"ip": "127.0.0.1", "port": 65_536}), 400),
        (json!({"ip": "127.0.0.1", "port": 9}), 422),
        (to(keys("NULL", &good)), 400),
        (to(keys(SUITE.name(), "no base64")), 400),
        (to(keys(SUITE.name(), &good[..20])), 422),
        (json!({"ip": "239.0.0.1", "port": 9, "srtpParameters": keys(SUITE.name(), &good)}), 422),
    ];
    for (body, status) in wrong {
        let text = body.to_string();
        assert_eq!(refused(&server, &format!("{of}/connect"), &text).await, status, "{text}");
    }
    let consume = format!("{of}/consume");
    for (body, status) in [("{}", 400), ("{\"producerId\": \"x\"}", 404), ("7", 400)] {
        assert_eq!(refused(&server, &consume, body).await, status, "{body}");
    }
    assert_eq!(refused(&server, &format!("{of}/producers"), "{\"kind\": \"smell\"}").await, 400);
    assert_eq!(get(&server, "/healthz").await.0, 200);
}
