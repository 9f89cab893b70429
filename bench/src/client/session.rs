//! One participant from its first request to its last.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use opencall_wire::srtp::Profile;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::connect::{DtlsIdentity, Remote};
use super::emulation::BadLinks;
use super::engine::EngineSender;
use super::link::{Link, Pending, next_transport};
use super::messages::MessagePlan;
use super::net::{Net, Network};
use super::publish::voice_ssrc;
use super::receive::ANYONE;
use super::signaling::rtp_parameters::{camera, microphone};
use super::signaling::{Direction, Protocol, Signaling, Told};
use crate::media::codec::VideoCodec;
use crate::strangers::Aim;

/// Who a participant is and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Its number.
    pub participant: u32,
    /// Its room's number.
    pub room: u32,
    /// It has a voice.
    pub audio: bool,
    /// It has a camera.
    pub video: bool,
    /// It asks for what the others send.
    pub receives: bool,
    /// The first of its room, who sends messages where such are sent.
    pub is_first: bool,
}

/// How many have come how far.
#[derive(Default)]
pub struct Progress {
    /// With keys on both transports.
    pub joined: AtomicU64,
    /// Of these, still there.
    pub present: AtomicU64,
    /// What the first of them encrypts with.
    pub srtp_profile: OnceLock<Profile>,
    /// Not let in, or thrown out.
    pub failed: AtomicU64,
    /// Who was the first of these, and why.
    pub first_failure: OnceLock<String>,
    /// Streams that participants were told of.
    pub streams: AtomicU64,
    /// Requests to consume that failed.
    pub failed_consumes: AtomicU64,
    /// What strangers may know of transports, of the first ones.
    pub aims: Mutex<Vec<Aim>>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// mediasoup's transports, producers and consumers, in one of two envelopes.
    Mediasoup(Protocol),
    /// Janus's API, with its VideoRoom.
    Janus,
}

/// Transports that strangers know at most.
const MAX_AIMS: usize = 256;

/// What all participants share.
pub struct World {
    /// The server's WebSocket.
    pub url: String,
    /// What is spoken there.
    pub dialect: Dialect,
    /// Their socket.
    pub net: Net,
    /// Their certificate.
    pub identity: DtlsIdentity,
    /// The media thread.
    pub engine: EngineSender,
    /// The run.
    pub run: u32,
    /// The name of the one room, where it has one.
    pub room: Option<String>,
    /// When the run began.
    pub began: Instant,
    /// The seed of all media.
    pub seed: u64,
    /// Bits per second of a camera's layers.
    pub layers: Vec<u32>,
    /// Whether layers are sent though the server says that nobody takes them.
    pub sends_all_layers: bool,
    /// A camera's codec.
    pub codec: VideoCodec,
    /// What the first of each room sends to the others over data channels.
    pub messages: Option<MessagePlan>,
    /// Who has a bad link.
    pub bad_links: Option<BadLinks>,
    /// The next free transport.
    pub next_transport: AtomicU32,
    /// How far they are.
    pub progress: Arc<Progress>,
}

/// A transport with keys, and what the server calls it.
struct Transport {
    id: Value,
    link: Link,
}

/// Lives the life of a participant until `leave` says so.
///
/// # Errors
/// What went wrong, in words.
pub async fn live(
    world: Rc<World>,
    protocol: Protocol,
    plan: Plan,
    leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    let room = world.room.clone();
    let room = room.unwrap_or_else(|| format!("bench-{}-{}", world.run, plan.room));
    let name = peer_of(plan.participant);
    let has_messages = world.messages.is_some();
    let mut signaling = Signaling::connect(protocol, &world.url, room, name, has_messages).await?;
    // Some servers let anybody connect, and then close or ignore who speaks another envelope.
    let capabilities = signaling
        .router_capabilities()
        .await
        .map_err(|reason| format!("{reason}: check that --protocol is what the server speaks"))?;
    require_codecs(&capabilities, world.codec, plan)?;
    let send = link(&world, plan, &mut signaling, Direction::Send).await?;
    let receive = link(&world, plan, &mut signaling, Direction::Receive).await?;
    let mut send = Transport { id: send.0, link: send.1.connected().await? };
    let receive = receive.1.connected().await?;
    world.progress.joined.fetch_add(1, Ordering::Relaxed);
    world.progress.present.fetch_add(1, Ordering::Relaxed);
    let links = (&mut send, &receive);
    let result = take_part(&world, plan, &mut signaling, &capabilities, links, leave).await;
    world.progress.present.fetch_sub(1, Ordering::Relaxed);
    signaling.close().await;
    result
}

/// What servers call a participant.
fn peer_of(participant: u32) -> String {
    format!("p{participant}")
}

fn participant_of(peer: &str) -> Option<u32> {
    if peer.starts_with("stage:") {
        return Some(ANYONE);
    }
    peer.strip_prefix('p')?.parse().ok()
}

/// Sends and receives until it is time to go.
async fn take_part(
    world: &World,
    plan: Plan,
    signaling: &mut Signaling,
    capabilities: &Value,
    (send, receive): (&mut Transport, &Link),
    leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    receive.start_receiver()?;
    signaling.enter(&peer_of(plan.participant), capabilities, plan.receives).await?;
    publish(world, send, plan, signaling).await?;
    if let Some(messages) = world.messages.filter(|_| plan.is_first) {
        signaling.produce_messages(&send.id).await?;
        send.link.start_messages(messages);
    }
    stay(world, plan, signaling, capabilities, (&send.link, receive), leave).await
}

/// Takes what is offered, and sends what is wanted, until it is time to go.
async fn stay(
    world: &World,
    plan: Plan,
    signaling: &mut Signaling,
    capabilities: &Value,
    (send, receive): (&Link, &Link),
    mut leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    loop {
        let told = tokio::select! {
            told = signaling.told() => told?,
            _ = &mut leave => return Ok(()),
        };
        match told {
            Told::Layers(count) if !world.sends_all_layers => send.limit_layers(count),
            Told::Stream(stream) if plan.receives => {
                let begin = |setup| receive.consume(setup);
                let taken = signaling.receive(stream, capabilities, participant_of, begin).await;
                if taken.is_err() {
                    // The producer may have left meanwhile; the count is shown at the end.
                    world.progress.failed_consumes.fetch_add(1, Ordering::Relaxed);
                }
            }
            Told::Closed(consumer) => receive.stop_consuming(consumer),
            Told::Stream(stream) => signaling.decline(stream).await?,
            Told::Messages(offer) => {
                if signaling.receive_messages(offer).await.is_err() {
                    world.progress.failed_consumes.fetch_add(1, Ordering::Relaxed);
                }
            }
            Told::Layers(_) => {}
        }
    }
}

/// A server with other codecs would refuse what we send, in words that name no remedy.
fn require_codecs(capabilities: &Value, codec: VideoCodec, plan: Plan) -> Result<(), String> {
    let codecs = capabilities["codecs"].as_array().map_or(&[][..], Vec::as_slice);
    let has = |wanted: &str| {
        let is_wanted = |mime_type: &str| mime_type.eq_ignore_ascii_case(wanted);
        codecs.iter().any(|codec| codec["mimeType"].as_str().is_some_and(is_wanted))
    };
    if plan.audio && !has("audio/opus") {
        return Err("the server's rooms have no audio/opus: configure it there".into());
    }
    let camera = codec.mime_type();
    if plan.video && !has(camera) {
        return Err(format!("the server's rooms have no {camera}: choose another --codec"));
    }
    Ok(())
}

/// Asks for a transport and begins to connect it; the keys come later.
async fn link(
    world: &Rc<World>,
    plan: Plan,
    signaling: &mut Signaling,
    direction: Direction,
) -> Result<(Value, Pending), String> {
    let mut options = signaling.create_transport(direction).await?;
    let remote = remote_of(&options, world.net.network).ok_or_else(|| {
        format!("the server offers no UDP candidate that participants can reach: {options}")
    })?;
    let transport = next_transport(world)?;
    if let Ok(mut aims) = world.progress.aims.lock()
        && aims.len() < MAX_AIMS
    {
        let (server, ufrag) = (remote.address, remote.ufrag.clone());
        aims.push(Aim { server, ufrag, transport });
    }
    let fingerprints = json!([{"algorithm": "sha-256", "value": world.identity.fingerprint}]);
    let dtls = json!({"role": "client", "fingerprints": fingerprints});
    signaling.connect_transport(&options["id"], dtls).await?;
    Ok((options["id"].take(), Pending::begin(world, plan.participant, transport, remote)))
}

fn remote_of(options: &Value, network: Network) -> Option<Remote> {
    let ice = &options["iceParameters"];
    let fingerprints = options["dtlsParameters"]["fingerprints"].as_array()?;
    let fingerprint = fingerprints.iter().find(|f| f["algorithm"] == "sha-256")?;
    let reachable = |candidate: &Value| {
        let address = candidate["address"].as_str().or(candidate["ip"].as_str())?;
        let address: Ipv4Addr = address.parse().ok()?;
        let port = u16::try_from(candidate["port"].as_u64()?).ok()?;
        let is_fit = candidate["protocol"] == "udp" && network.reaches(address);
        is_fit.then_some(SocketAddrV4::new(address, port))
    };
    Some(Remote {
        address: options["iceCandidates"].as_array()?.iter().find_map(reachable)?,
        ufrag: ice["usernameFragment"].as_str()?.to_owned(),
        pwd: ice["password"].as_str()?.to_owned(),
        fingerprint: fingerprint["value"].as_str()?.to_owned(),
    })
}

async fn publish(
    world: &World,
    transport: &Transport,
    plan: Plan,
    signaling: &mut Signaling,
) -> Result<(), String> {
    let Plan { participant, audio, video, .. } = plan;
    if audio {
        let voice = microphone(voice_ssrc(participant));
        signaling.produce(&transport.id, "audio", voice).await?;
    }
    if video {
        let camera = camera(participant, world.codec, &world.layers);
        signaling.produce(&transport.id, "video", camera).await?;
    }
    transport.link.start_publisher(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_codec_is_told_what_to_do() {
        let (audio, video, receives, is_first) = (true, true, true, false);
        let plan = Plan { participant: 1, room: 1, audio, video, receives, is_first };
        let codecs = |names: &[&str]| {
            let codecs: Vec<Value> = names.iter().map(|name| json!({"mimeType": name})).collect();
            require_codecs(&json!({"codecs": codecs}), VideoCodec::Av1, plan)
        };
        assert_eq!(codecs(&["audio/Opus", "video/av1"]), Ok(()));
        let error = codecs(&["audio/opus", "video/VP8"]).unwrap_err();
        assert!(error.ends_with("no video/AV1: choose another --codec"), "{error}");
        assert!(codecs(&["video/AV1"]).unwrap_err().contains("audio/opus"));
    }

    #[test]
    fn the_first_udp_candidate_on_loopback_is_taken() {
        let candidate = |protocol: &str, address: Value| {
            let mut candidate = json!({"protocol": protocol, "port": 40_000, "type": "host"});
            candidate.as_object_mut().unwrap().extend(address.as_object().unwrap().clone());
            candidate
        };
        let options = json!({
            "iceParameters": {"usernameFragment": "u", "password": "p", "iceLite": true},
            "iceCandidates": [
                candidate("tcp", json!({"address": "127.0.0.1"})),
                candidate("udp", json!({"address": "192.0.2.1", "ip": "192.0.2.1"})),
                candidate("udp", json!({"ip": "127.0.0.1"})),
                candidate("udp", json!({"address": "127.0.0.2"})),
            ],
            "dtlsParameters": {"role": "auto", "fingerprints": [
                {"algorithm": "sha-1", "value": "AA"}, {"algorithm": "sha-256", "value": "BB"}]},
        });
        let remote = remote_of(&options, Network::Loopback).expect("one is on loopback");
        assert_eq!(remote.address.to_string(), "127.0.0.1:40000");
        assert_eq!((remote.ufrag.as_str(), remote.fingerprint.as_str()), ("u", "BB"));
    }
}
