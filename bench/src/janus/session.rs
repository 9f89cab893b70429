//! One participant of a VideoRoom: a connection that sends, if it sends, and one that receives all
//! others, each with as many streams as there are.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::api::{Api, Jsep, Said};
use super::sdp::{self, Description, Local};
use crate::client::connect::{Remote, ufrag_of};
use crate::client::link::{Link, Pending, next_transport};
use crate::client::receive::ConsumerSetup;
use crate::client::session::{Plan, World};

/// Janus refuses more senders in a room than it was told of; a load has far fewer.
const MAX_PUBLISHERS: u32 = 1000;

/// Lives the life of a participant until `leave` says so.
///
/// # Errors
/// What went wrong, in words.
pub async fn live(
    world: Rc<World>,
    plan: Plan,
    leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    let mut api = Api::connect(&world.url).await?;
    let handle = api.attach().await?;
    let room = u64::from(world.run) << 16 | u64::from(plan.room);
    make_room(&mut api, handle, room).await?;
    let (said, sending) = enter(&world, plan, &mut api, handle, room).await?;
    world.progress.joined.fetch_add(1, Ordering::Relaxed);
    world.progress.present.fetch_add(1, Ordering::Relaxed);
    let listener = Listener {
        world: Rc::clone(&world),
        participant: plan.participant,
        room,
        private_id: said.data["private_id"].clone(),
        receiving: None,
        known_mids: HashSet::new(),
    };
    let result = stay(listener, plan, &mut api, &said.data, leave).await;
    world.progress.present.fetch_sub(1, Ordering::Relaxed);
    drop(sending);
    api.close().await;
    result
}

/// Whoever comes first makes the room; the others hear that it is there.
async fn make_room(api: &mut Api, handle: u64, room: u64) -> Result<(), String> {
    let body = json!({
        "request": "create", "room": room, "publishers": MAX_PUBLISHERS,
        "audiocodec": "opus", "videocodec": "vp8", "opus_fec": true, "opus_dtx": true,
        // No bound on the rate, and key frames only when somebody asks.
        "bitrate": 0, "fir_freq": 0,
    });
    match api.ask(handle, body, None).await {
        Err(error) if !error.contains("already exists") => Err(error),
        _ => Ok(()),
    }
}

/// Enters, and sends if there is something to send; what Janus said, and the sending connection.
async fn enter(
    world: &Rc<World>,
    plan: Plan,
    api: &mut Api,
    handle: u64,
    room: u64,
) -> Result<(Said, Option<Link>), String> {
    let Plan { participant, audio, video, .. } = plan;
    let mut body =
        json!({"request": "join", "ptype": "publisher", "room": room, "id": feed_of(participant)});
    if !audio && !video {
        return Ok((api.ask(handle, body, None).await?, None));
    }
    body["request"] = "joinandconfigure".into();
    let transport = next_transport(world)?;
    let ufrag = ufrag_of(transport);
    let offer = sdp::offer(local(world, transport, &ufrag), participant, audio, video);
    let said = api.ask(handle, body, Some(Jsep::Offer(offer))).await?;
    let answer = Description::parse(said.sdp.as_deref().unwrap_or_default())?;
    let link = Pending::begin(world, participant, transport, remote(&answer)).connected().await?;
    link.start_publisher(plan)?;
    Ok((said, Some(link)))
}

/// Listens to all who send until it is time to go.
async fn stay(
    mut listener: Listener,
    plan: Plan,
    api: &mut Api,
    first: &Value,
    mut leave: oneshot::Receiver<()>,
) -> Result<(), String> {
    let mut feeds = feeds_in(first);
    loop {
        if plan.receives && !feeds.is_empty() {
            listener.subscribe(api, &feeds).await?;
        }
        let said = tokio::select! {
            said = api.event() => said?,
            _ = &mut leave => return Ok(()),
        };
        feeds = feeds_in(&said.data);
    }
}

/// The receiving side of a participant.
struct Listener {
    world: Rc<World>,
    participant: u32,
    room: u64,
    private_id: Value,
    /// The handle and the connection, from the first stream on.
    receiving: Option<(u64, Link)>,
    known_mids: HashSet<String>,
}

impl Listener {
    /// Asks for all streams of more feeds.
    async fn subscribe(&mut self, api: &mut Api, feeds: &[u64]) -> Result<(), String> {
        let streams: Vec<Value> = feeds.iter().map(|feed| json!({"feed": feed})).collect();
        let Some((handle, link)) = &self.receiving else {
            return self.subscribe_first(api, streams).await;
        };
        let handle = *handle;
        let body = json!({"request": "subscribe", "streams": streams});
        let said = api.ask(handle, body, None).await?;
        // Without an offer there is nothing new.
        let Some(offer) = &said.sdp else { return Ok(()) };
        let offer = Description::parse(offer)?;
        let ufrag = ufrag_of(link.transport());
        let answer = sdp::answer(local(&self.world, link.transport(), &ufrag), &offer);
        // Announced before the answer: media may be faster than what Janus says to it.
        announce(link, &mut self.known_mids, &offer, &said.data)?;
        self.start(api, handle, answer).await
    }

    async fn subscribe_first(&mut self, api: &mut Api, streams: Vec<Value>) -> Result<(), String> {
        let handle = api.attach().await?;
        let body = json!({"request": "join", "ptype": "subscriber", "room": self.room,
                          "private_id": self.private_id, "streams": streams});
        let said = api.ask(handle, body, None).await?;
        let offer = Description::parse(said.sdp.as_deref().unwrap_or_default())?;
        let transport = next_transport(&self.world)?;
        let ufrag = ufrag_of(transport);
        let answer = sdp::answer(local(&self.world, transport, &ufrag), &offer);
        self.start(api, handle, answer).await?;
        let link = Pending::begin(&self.world, self.participant, transport, remote(&offer))
            .connected()
            .await?;
        link.start_receiver()?;
        announce(&link, &mut self.known_mids, &offer, &said.data)?;
        self.receiving = Some((handle, link));
        Ok(())
    }

    async fn start(&self, api: &mut Api, handle: u64, answer: String) -> Result<(), String> {
        let body = json!({"request": "start", "room": self.room});
        api.ask(handle, body, Some(Jsep::Answer(answer))).await.map(drop)
    }
}

/// Tells the receiver of the streams that are new in an offer; what Janus says with it names the
/// sender of each.
fn announce(
    link: &Link,
    known_mids: &mut HashSet<String>,
    offer: &Description,
    data: &Value,
) -> Result<(), String> {
    let streams = data["streams"].as_array().map_or(&[][..], Vec::as_slice);
    for media in offer.media.iter().filter(|media| media.is_sent) {
        if !known_mids.insert(media.mid.clone()) {
            continue;
        }
        let feed = streams.iter().find(|stream| stream["mid"] == media.mid.as_str());
        let feed = feed.and_then(|stream| stream["feed_id"].as_u64());
        let sender = feed.and_then(participant_of).ok_or("a stream of nobody")?;
        link.consume(ConsumerSetup {
            id: media.mid.clone(),
            ssrc: media.ssrc.ok_or("a stream without SSRC")?,
            rtx_ssrc: media.rtx_ssrc,
            is_video: media.kind == "video",
            sender,
            transport_cc_id: media.transport_cc_id,
        });
    }
    Ok(())
}

/// What Janus knows a participant by; 0 is not allowed there.
fn feed_of(participant: u32) -> u64 {
    u64::from(participant) + 1
}

fn participant_of(feed: u64) -> Option<u32> {
    u32::try_from(feed.checked_sub(1)?).ok()
}

/// Those who send, as Janus lists them.
fn feeds_in(data: &Value) -> Vec<u64> {
    let publishers = data["publishers"].as_array().map_or(&[][..], Vec::as_slice);
    publishers.iter().filter_map(|publisher| publisher["id"].as_u64()).collect()
}

fn remote(description: &Description) -> Remote {
    Remote {
        address: description.address,
        ufrag: description.ufrag.clone(),
        pwd: description.pwd.clone(),
        fingerprint: description.fingerprint.clone(),
    }
}

fn local<'a>(world: &'a World, transport: u32, ufrag: &'a str) -> Local<'a> {
    let address = world.net.address_of(transport);
    Local { address, ufrag, fingerprint: &world.identity.fingerprint }
}
