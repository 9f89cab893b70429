//! One participant from its first request to its last.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use opencall_dataplane::srtp::Profile;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::connect::{DtlsIdentity, Remote};
use super::emulation::BadLinks;
use super::engine::EngineSender;
use super::link::{Link, Pending, next_transport};
use super::net::{Net, Network};
use super::publish::voice_ssrc;
use super::receive::ConsumerSetup;
use super::signaling::{MAX_SPATIAL_LAYER, NEW_PRODUCER, Signaling, camera, microphone};
use crate::media::codec::VideoCodec;

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
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenCall's signaling.
    OpenCall,
    /// Janus's API, with its VideoRoom.
    Janus,
}

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
    plan: Plan,
    leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    let room = format!("bench-{}-{}", world.run, plan.room);
    let name = format!("p{}", plan.participant);
    let mut signaling = Signaling::connect(&world.url, room, name).await?;
    let capabilities = signaling.request("getRouterCapabilities", json!({})).await?;
    let send = link(&world, plan, &mut signaling, "send").await?;
    let receive = link(&world, plan, &mut signaling, "recv").await?;
    let send = Transport { id: send.0, link: send.1.connected().await? };
    let receive = receive.1.connected().await?;
    world.progress.joined.fetch_add(1, Ordering::Relaxed);
    world.progress.present.fetch_add(1, Ordering::Relaxed);
    let links = (&send, &receive);
    let result = take_part(&world, plan, &mut signaling, &capabilities, links, leave).await;
    world.progress.present.fetch_sub(1, Ordering::Relaxed);
    signaling.close().await;
    result
}

/// Sends and receives until it is time to go.
async fn take_part(
    world: &World,
    plan: Plan,
    signaling: &mut Signaling,
    capabilities: &Value,
    (send, receive): (&Transport, &Link),
    leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    receive.start_receiver()?;
    let name = format!("p{}", plan.participant);
    let data = json!({"rtpCapabilities": capabilities, "displayName": name});
    signaling.request("setRtpCapabilities", data).await?;
    publish(world, send, plan, signaling).await?;
    stay(world, plan, signaling, capabilities, (&send.link, receive), leave).await
}

/// Consumes what is offered, and sends what is wanted, until it is time to go.
async fn stay(
    world: &World,
    plan: Plan,
    signaling: &mut Signaling,
    capabilities: &Value,
    (send, receive): (&Link, &Link),
    mut leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    loop {
        let (name, event) = tokio::select! {
            event = signaling.event() => event?,
            _ = &mut leave => return Ok(()),
        };
        match name.as_str() {
            // Of a camera: nothing else that a participant sends has layers.
            MAX_SPATIAL_LAYER if !world.sends_all_layers => {
                if let Some(layer) = event["spatialLayer"].as_u64() {
                    send.limit_layers(
                        usize::try_from(layer).unwrap_or(usize::MAX).saturating_add(1),
                    );
                }
                continue;
            }
            NEW_PRODUCER if plan.receives => {}
            _ => continue,
        }
        let data = json!({"producerId": event["producerId"], "rtpCapabilities": capabilities});
        match signaling.request("consume", data).await.and_then(|data| consumer_of(&data)) {
            Ok(setup) => receive.consume(setup),
            Err(_) => {
                // The producer may have left meanwhile; the count is shown at the end.
                world.progress.failed_consumes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Asks for a transport and begins to connect it; the keys come later.
async fn link(
    world: &Rc<World>,
    plan: Plan,
    signaling: &mut Signaling,
    direction: &str,
) -> Result<(Value, Pending), String> {
    let data = json!({"direction": direction});
    let mut options = signaling.request("createTransport", data).await?;
    let remote = remote_of(&options, world.net.network).ok_or_else(|| {
        format!("the server offers no UDP candidate that participants can reach: {options}")
    })?;
    let transport = next_transport(world)?;
    let fingerprints = json!([{"algorithm": "sha-256", "value": world.identity.fingerprint}]);
    let data = json!({"transportId": options["id"],
                      "dtlsParameters": {"role": "client", "fingerprints": fingerprints}});
    signaling.request("connectTransport", data).await?;
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
    let source = |source: &str| json!({"source": source, "benchSender": participant});
    if audio {
        let data = json!({"transportId": transport.id, "kind": "audio", "appData": source("microphone"),
                          "rtpParameters": microphone(voice_ssrc(participant))});
        signaling.request("produce", data).await?;
    }
    if video {
        let data = json!({"transportId": transport.id, "kind": "video", "appData": source("webcam"),
                          "rtpParameters": camera(participant, world.codec, &world.layers)});
        signaling.request("produce", data).await?;
    }
    transport.link.start_publisher(plan)
}

/// A stream as the server describes it.
fn consumer_of(data: &Value) -> Result<ConsumerSetup, String> {
    let parameters = &data["rtpParameters"];
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let encoding = &parameters["encodings"][0];
    let is_transport_cc = |extension: &&Value| {
        extension["uri"].as_str().is_some_and(|uri| uri.contains("transport-wide-cc"))
    };
    let extensions = parameters["headerExtensions"].as_array().map_or(&[][..], Vec::as_slice);
    let transport_cc = extensions.iter().find(is_transport_cc);
    Ok(ConsumerSetup {
        ssrc: number(&encoding["ssrc"]).ok_or("a consumer without SSRC")?,
        rtx_ssrc: number(&encoding["rtx"]["ssrc"]),
        is_video: data["kind"] == "video",
        sender: number(&data["appData"]["benchSender"]).ok_or("a producer of someone else")?,
        transport_cc_id: transport_cc.and_then(|e| u8::try_from(e["id"].as_u64()?).ok()),
    })
}
