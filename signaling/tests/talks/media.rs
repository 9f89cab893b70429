//! A client's media on a real socket: ICE, DTLS and SRTP of the test kit, and a voice.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opencall_control::api::{DtlsParameters, IceCandidate, IceParameters, TransportOptions};
use opencall_control::dtls::{DtlsConfig, DtlsContext, Role};
use opencall_testkit::camera::Track;
use opencall_testkit::leg::{Incoming, Leg, Refused};
use opencall_testkit::receiver::Arrived;
use opencall_testkit::stamp::Stamp;
use opencall_wire::time::Time;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::PATIENCE;

/// A voice has so many packets a second.
const FRAME: Duration = Duration::from_millis(20);

/// One transport of a client, on a thread of its own.
pub struct Line {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The server's port.
    pub port: u16,
}

#[derive(Default)]
struct Shared {
    is_connected: AtomicBool,
    talks: AtomicBool,
    /// Ten frames in the time of one.
    hurries: AtomicBool,
    is_over: AtomicBool,
    /// Numbers of the packets that were sent, and of those that came.
    sent: Mutex<Vec<u32>>,
    /// What was in those that were sent.
    payloads: Mutex<Vec<Vec<u8>>>,
    received: Mutex<Vec<u32>>,
    /// Packets whose SRTP or SRTCP index was used before, or that no key opens.
    refused: AtomicUsize,
    /// When the last packet came, and the longest wait for one since that was last asked.
    gaps: Mutex<(Option<Instant>, Duration)>,
}

impl Shared {
    fn note(&self, packet: u32) {
        self.received.lock().unwrap().push(packet);
        let mut gaps = self.gaps.lock().unwrap();
        let now = Instant::now();
        let gap = gaps.0.map_or(Duration::ZERO, |last| now - last);
        *gaps = (Some(now), gaps.1.max(gap));
    }
}

/// What the server says of a transport.
fn options_of(answer: &Value) -> TransportOptions {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (ice, candidate) = (&answer["iceParameters"], &answer["iceCandidates"][0]);
    let dtls: DtlsParameters = serde_json::from_value(answer["dtlsParameters"].clone()).unwrap();
    TransportOptions {
        id: text(&answer["id"]),
        ice_parameters: IceParameters {
            username_fragment: text(&ice["usernameFragment"]),
            password: text(&ice["password"]),
            ice_lite: true,
        },
        ice_candidates: vec![IceCandidate {
            foundation: text(&candidate["foundation"]),
            priority: 1,
            address: text(&candidate["ip"]),
            ip: text(&candidate["ip"]),
            protocol: "udp".to_owned(),
            tcp_type: None,
            port: candidate["port"].as_u64().unwrap() as u16,
            kind: "host".to_owned(),
        }],
        dtls_parameters: dtls,
        sctp_parameters: None,
    }
}

impl Line {
    /// Makes a transport of a protoo client, and connects it; with what it is called.
    async fn open(client: &mut Client, wanted: Value, voice: Option<Track>) -> (Self, String) {
        let answer = client.ask("createWebRtcTransport", wanted).await.unwrap();
        let options = options_of(&answer);
        let mut dice = StdRng::seed_from_u64(options.ice_candidates[0].port.into());
        let context = DtlsContext::new(&DtlsConfig::default()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (local, now) = (socket.local_addr().unwrap(), Instant::now());
        let (leg, parameters) = Leg::new(&options, local, Role::Client, &context, now, &mut dice);
        socket.connect(leg.server).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let data = json!({"transportId": options.id, "dtlsParameters": parameters});
        client.ask("connectWebRtcTransport", data).await.unwrap();
        let shared = Arc::new(Shared::default());
        let port = leg.server.port();
        let run = {
            let shared = Arc::clone(&shared);
            move || carry(leg, &socket, voice, &shared, dice)
        };
        let thread = Some(std::thread::spawn(run));
        let line = Line { shared, thread, port };
        line.until("it connects", |shared| shared.is_connected.load(Ordering::Relaxed)).await;
        (line, options.id)
    }

    /// A client's voice, which is silent at first.
    pub async fn speaking(client: &mut Client, number: u32) -> Self {
        let mut dice = StdRng::seed_from_u64(number.into());
        let track = Track::voice((1, number, number), "0".to_owned(), &mut dice);
        let parameters = track.rtp_parameters();
        let (line, id) = Self::open(client, json!({"producing": true}), Some(track)).await;
        let data = json!({"transportId": id, "kind": "audio", "rtpParameters": parameters,
                          "appData": {}});
        client.ask("produce", data).await.unwrap();
        line
    }

    /// A client's ear.
    pub async fn listening(client: &mut Client) -> Self {
        Self::open(client, json!({"consuming": true}), None).await.0
    }

    /// Speaks from now on, or is silent.
    pub fn talk(&self, talks: bool) {
        self.shared.talks.store(talks, Ordering::Relaxed);
    }

    /// Speaks ten times as fast as anyone.
    pub fn hurry(&self) {
        self.shared.hurries.store(true, Ordering::Relaxed);
    }

    /// What was in the packets that were sent, in their order.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        self.shared.payloads.lock().unwrap().clone()
    }

    /// Waits until so many packets have come.
    pub async fn heard(&self, count: usize) {
        self.until("it hears", |shared| shared.received.lock().unwrap().len() >= count).await;
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Shared) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.shared) {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Packets whose SRTP or SRTCP index was used before, or that no key opens.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The longest wait for a packet since this was last asked.
    pub fn longest_gap(&self) -> Duration {
        std::mem::take(&mut self.shared.gaps.lock().unwrap().1)
    }

    /// How many packets have come.
    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// Waits until the last packet has come that another has sent, which is silent, and says which
    /// of those after the first that came have not.
    pub async fn missing_of(&self, speaker: &Line) -> Vec<u32> {
        let sent = speaker.shared.sent.lock().unwrap().clone();
        let last = *sent.last().expect("it has spoken");
        let has_last = |shared: &Shared| shared.received.lock().unwrap().contains(&last);
        self.until("the last word is heard", has_last).await;
        let received = self.shared.received.lock().unwrap().clone();
        let first = received.iter().min().copied().unwrap_or_default();
        sent.into_iter().filter(|one| *one >= first && !received.contains(one)).collect()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(
    mut leg: Leg,
    socket: &UdpSocket,
    mut voice: Option<Track>,
    shared: &Shared,
    mut dice: StdRng,
) {
    let began = Instant::now();
    let mut next_frame = Time::ZERO;
    let mut buffer = [0; 2_000];
    while !shared.is_over.load(Ordering::Relaxed) {
        let now = Time::from_millis(1_000) + began.elapsed();
        leg.handle_timeout(now, Instant::now(), &mut dice);
        shared.is_connected.store(leg.is_connected(), Ordering::Relaxed);
        let talks = leg.is_connected() && shared.talks.load(Ordering::Relaxed);
        if let Some(track) = voice.as_mut().filter(|_| talks && next_frame <= now) {
            let hurries = shared.hurries.load(Ordering::Relaxed);
            next_frame = now + if hurries { FRAME / 10 } else { FRAME };
            for packet in track.capture(now, &mut dice) {
                leg.send(&track.mid, &packet);
                let stamp = Stamp::read(&packet.payload).expect("a voice is a stamp first");
                shared.sent.lock().unwrap().push(stamp.packet);
                shared.payloads.lock().unwrap().push(packet.payload.clone());
            }
        }
        while let Some(datagram) = leg.poll_transmit() {
            // The server may be gone.
            let _ = socket.send(&datagram);
        }
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        match leg.handle(buffer[..len].to_vec(), Instant::now()) {
            Some(Ok(Incoming::Rtp { header, bytes })) => {
                let payload = &bytes[usize::from(header.header_len)..];
                if let Some(arrived) = Arrived::unread(&header, payload) {
                    shared.note(arrived.stamp.packet);
                }
            }
            Some(Err(Refused::Replay | Refused::Foreign)) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
