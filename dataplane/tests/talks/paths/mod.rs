//! Watchers behind links with a bottleneck: a world in which layers follow what a link carries.

use std::collections::VecDeque;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{Packet, packets};
use opencall_wire::time::Time;

use crate::estimator_support::{Link, Phase, Random, Receiver};
use crate::world::*;

pub const RIDS: [&[u8]; 4] = [b"r0", b"r1", b"r2", b"r3"];

/// SSRC of the lowest encoding of the camera.
const CAMERA_SSRC: u32 = 1000;

/// The camera's pictures.
const FRAME: Duration = Duration::from_nanos(33_333_333);

/// How often clients consent.
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// Longest payload the camera sends, and what its packets have beside.
const PAYLOAD_MAX: usize = 1_100;
const PACKET_OVERHEAD: usize = 40;

/// A link at rest from the beginning of a meeting on.
pub fn phase(from_s: f64, kbps: f64) -> Phase {
    Phase { from_s, rate_bps: kbps * 1e3, delay_ms: 25.0, loss: 0.0 }
}

/// A camera with all its encodings, and the voice beside it.
struct Camera {
    client: Client,
    rates_bps: Vec<f64>,
    sequences: Vec<u16>,
    picture: u32,
    next_picture: Time,
    key: Vec<bool>,
    voice: Option<Voice>,
    /// Share of its packets that are lost before they come to the core.
    loss: f64,
    random: Random,
}

/// A picture that the camera has sent of its lowest encoding.
pub struct Filmed {
    pub at: Time,
    pub is_key: bool,
    /// Bytes of its packets.
    pub packets: Vec<usize>,
}

struct Voice {
    sequence: u16,
    next: Time,
}

/// One who watches, behind a link of a room.
pub struct Watcher {
    pub client: Client,
    pub video: ConsumerConfig,
    receiver: Receiver,
    feedback: VecDeque<(Time, Vec<u8>)>,
    link: usize,
    flow: usize,
    arrived: VecDeque<(u16, Time)>,
    /// Share of its feedback that is lost.
    pub feedback_loss: f64,
    /// Packets of media and of padding that left for it, and bytes.
    pub media_bytes: u64,
    pub padding_bytes: u64,
    /// The layer that it gets, and how often that has changed.
    pub layer: Option<u8>,
    pub changes: u32,
    /// Packets of media that left for it: of which picture, and when.
    pub left: Vec<(u32, Time)>,
    /// Bytes of media that its link has taken.
    pub taken_bytes: u64,
    /// How much longer its way is than the link, each way.
    pub detour: Duration,
}

/// A meeting of one camera and some watchers.
pub struct Room {
    pub world: World,
    camera: Camera,
    source: ProducerConfig,
    voice_source: Option<ProducerConfig>,
    pub links: Vec<Link>,
    flows: Vec<usize>,
    pub watchers: Vec<Watcher>,
    random: Random,
    began: Time,
    checked: Time,
    /// What control was told last of any path.
    pub told: Option<Bandwidth>,
    /// Time between two pictures.
    pub frame: Duration,
    /// Every so many pictures the camera sends a key frame of so many bytes unasked.
    pub key_frames: Option<(u32, usize)>,
    /// The pictures of its lowest encoding.
    pub filmed: Vec<Filmed>,
}

impl Room {
    /// One whose camera sends encodings of so many kbit/s, low to high.
    pub fn new(rates_kbps: &[f64], with_voice: bool) -> Self {
        let mut world = World::new(1);
        let client = world.join(CoreId(0));
        let count = rates_kbps.len();
        let ssrcs: Vec<u32> = (0..count as u32).map(|index| CAMERA_SSRC + index).collect();
        let source = world.produce(&client, MediaKind::Video, &ssrcs);
        let voice_source =
            with_voice.then(|| world.produce_as(b"1", &client, MediaKind::Audio, &[2_000]));
        let now = world.now;
        let camera = Camera {
            client,
            rates_bps: rates_kbps.iter().map(|kbps| kbps * 1e3).collect(),
            sequences: vec![0; count],
            picture: 0,
            next_picture: now,
            key: vec![true; count],
            voice: with_voice.then_some(Voice { sequence: 0, next: now }),
            loss: 0.0,
            random: Random(11),
        };
        let mut room = Room {
            world,
            camera,
            source,
            voice_source,
            links: Vec::new(),
            flows: Vec::new(),
            watchers: Vec::new(),
            random: Random(3),
            began: now,
            checked: now,
            told: None,
            frame: FRAME,
            key_frames: None,
            filmed: Vec::new(),
        };
        // The camera's rates are known before anyone watches.
        room.run(Duration::from_secs(2));
        room.began = room.world.now;
        room
    }

    /// Seconds since the first watcher could come.
    pub fn seconds(&self) -> f64 {
        self.world.now.since(self.began).as_secs_f64()
    }

    /// A link whose phases count from the room's beginning.
    pub fn link(&mut self, phases: &[Phase]) -> usize {
        let offset_s = self.began.as_nanos() as f64 / 1e9;
        let shifted: Vec<Phase> =
            phases.iter().map(|p| Phase { from_s: p.from_s + offset_s, ..*p }).collect();
        self.links.push(Link::new(5, &shifted));
        self.flows.push(0);
        self.links.len() - 1
    }

    /// A link that is made for the moment when the room began.
    pub fn add_link(&mut self, link: impl FnOnce(Time) -> Link) -> usize {
        self.links.push(link(self.began));
        self.flows.push(0);
        self.links.len() - 1
    }

    /// Whether a watcher takes the camera's pictures.
    pub fn pause(&mut self, watcher: usize, paused: bool) {
        let (core, consumer) =
            (self.watchers[watcher].client.core, self.watchers[watcher].video.id);
        let command = match paused {
            true => Command::PauseConsumer(consumer),
            false => Command::ResumeConsumer(consumer),
        };
        self.world.command(core, command);
    }

    /// What the camera sends.
    pub fn source(&self) -> ProducerConfig {
        self.source.clone()
    }

    /// One more watcher behind a link; which one.
    pub fn watch(&mut self, link: usize, max_bps: u32) -> usize {
        let client = self.world.join_with_budget(CoreId(0), max_bps);
        let feedback =
            Feedback { nack: true, pli: true, transport_cc: true, ..Feedback::default() };
        if let Some(source) = self.voice_source.clone() {
            self.world.consume_with(&client, &source, feedback);
        }
        let video = self.world.consume_with(&client, &self.source.clone(), feedback);
        let flow = self.flows[link];
        self.flows[link] += 1;
        self.watchers.push(Watcher {
            client,
            video,
            receiver: Receiver::new(60),
            feedback: VecDeque::new(),
            link,
            flow,
            arrived: VecDeque::new(),
            feedback_loss: 0.0,
            media_bytes: 0,
            padding_bytes: 0,
            layer: None,
            changes: 0,
            left: Vec::new(),
            taken_bytes: 0,
            detour: Duration::ZERO,
        });
        self.watchers.len() - 1
    }

    /// A room of one watcher behind a link of its own, with a voice.
    pub fn of_one(rates_kbps: &[f64], phases: &[Phase]) -> Self {
        let mut room = Room::new(rates_kbps, true);
        let link = room.link(phases);
        room.watch(link, 6_000_000);
        room
    }

    /// From now on such a share of what the camera sends is lost on its way to the core.
    pub fn lose_of_camera(&mut self, share: f64) {
        self.camera.loss = share;
    }

    /// The estimate of a watcher's path, kbit/s.
    pub fn kbps(&mut self, watcher: usize) -> f64 {
        let stats = self.world.transport_stats(&self.watchers[watcher].client);
        f64::from(stats.available_outgoing_bps.expect("it is estimated")) / 1e3
    }

    pub fn run_to(&mut self, seconds: f64) {
        while self.seconds() < seconds {
            self.step();
        }
    }

    pub fn run(&mut self, duration: Duration) {
        let until = self.world.now + duration;
        while self.world.now < until {
            self.step();
        }
    }

    /// Runs on, and returns the lowest and the highest estimate meanwhile, looked at 50 times a
    /// second.
    pub fn extremes_to(&mut self, watcher: usize, seconds: f64) -> (f64, f64) {
        let (mut lowest, mut highest) = (f64::MAX, 0.0_f64);
        while self.seconds() < seconds {
            self.run(Duration::from_millis(20));
            let kbps = self.kbps(watcher);
            (lowest, highest) = (lowest.min(kbps), highest.max(kbps));
        }
        (lowest, highest)
    }

    /// Runs on until a watcher gets a layer; when that is.
    pub fn run_until_layer(&mut self, watcher: usize, layer: Option<u8>, seconds: f64) -> f64 {
        while self.watchers[watcher].layer != layer {
            let (now, kbps) = (self.seconds(), self.kbps(watcher));
            let is = self.watchers[watcher].layer;
            assert!(now < seconds, "{is:?} at {now:.1} s, {kbps:.0} kbit/s: not {layer:?}");
            self.step();
        }
        self.seconds()
    }

    fn step(&mut self) {
        self.check();
        self.film();
        self.world.turn();
        self.listen_to_requests();
        self.note_layers();
        self.carry();
        for index in 0..self.watchers.len() {
            self.answer(index);
        }
    }

    /// All consent to be sent to, as browsers do every few seconds (RFC 7675 section 5.1).
    fn check(&mut self) {
        if self.world.now < self.checked + CONSENT_INTERVAL {
            return;
        }
        self.checked = self.world.now;
        let watchers = self.watchers.iter().map(|watcher| &watcher.client);
        for client in watchers.chain([&self.camera.client]) {
            client.check(&self.world, true);
        }
    }

    /// The camera sends what it has by now.
    fn film(&mut self) {
        let now = self.world.now;
        let camera = &mut self.camera;
        if let Some(voice) = &mut camera.voice
            && voice.next <= now
        {
            voice.next = voice.next + Duration::from_millis(20);
            let sequence = voice.sequence;
            voice.sequence = sequence.wrapping_add(1);
            let timestamp = u32::from(sequence).wrapping_mul(960);
            let fields = opencall_wire::rtp::header::OutgoingHeader {
                marker: false,
                payload_type: SENT_PT,
                sequence,
                timestamp,
                ssrc: 2_000,
            };
            camera.client.mid = b"1";
            let packet = camera.client.sealed(fields, None, &[0x78; 80]);
            camera.client.mid = b"0";
            if !camera.loses() {
                self.world.push(camera.client.address, camera.client.core, &packet);
            }
        }
        if camera.next_picture > now {
            return;
        }
        camera.next_picture = camera.next_picture + self.frame;
        camera.picture += 1;
        let due = self.key_frames.filter(|(every, _)| camera.picture.is_multiple_of(*every));
        for index in 0..camera.rates_bps.len() {
            camera.key[index] |= due.is_some();
            let is_key = camera.key[index];
            let bytes = due.map(|(_, bytes)| bytes);
            let packets = camera.send_picture(&self.world, index, bytes);
            if index == 0 {
                self.filmed.push(Filmed { at: now, is_key, packets });
            }
        }
    }

    /// Key frames that the camera is asked for.
    fn listen_to_requests(&mut self) {
        let (_, control) = self.camera.client.receive(&mut self.world);
        for compound in control {
            for packet in packets(&compound).flatten() {
                // A voice is asked as well, if it says that it understands that.
                if let Packet::Pli { media_ssrc, .. } = packet
                    && let Some(index) = media_ssrc.checked_sub(CAMERA_SSRC)
                    && let Some(key) = self.camera.key.get_mut(index as usize)
                {
                    *key = true;
                }
            }
        }
    }

    fn note_layers(&mut self) {
        for event in std::mem::take(&mut self.world.events) {
            if let Event::Bandwidth { bandwidth, .. } = event {
                self.told = Some(bandwidth);
            }
            let Event::LayersChanged { consumer, layers } = event else { continue };
            for watcher in self.watchers.iter_mut().filter(|w| w.video.id == consumer) {
                watcher.layer = layers.map(|layers| layers.spatial);
                watcher.changes += 1;
            }
        }
    }

    /// What left for the watchers enters their links, and what came through is theirs.
    fn carry(&mut self) {
        let now = self.world.now;
        for watcher in &mut self.watchers {
            for bytes in watcher.client.raw(&mut self.world) {
                let len = bytes.len();
                let (Some(packet), _) = watcher.client.opened(bytes) else { continue };
                let is_padding = packet.header.ssrc == 1234;
                let is_rtx = Some(packet.header.ssrc) == watcher.video.rtx_ssrc;
                let is_media = !is_padding && !is_rtx;
                match is_media {
                    false => watcher.padding_bytes += len as u64,
                    true => watcher.media_bytes += len as u64,
                }
                if packet.header.ssrc == watcher.video.ssrc
                    && let Some(number) = packet.payload.last_chunk()
                {
                    watcher.left.push((u32::from_be_bytes(*number), now));
                }
                let sequence = packet.transport_sequence.expect("all are numbered");
                if self.links[watcher.link].send_of(watcher.flow, now, sequence, len) && is_media {
                    watcher.taken_bytes += len as u64;
                }
            }
        }
        for (index, link) in self.links.iter_mut().enumerate() {
            let mut arrived = Vec::new();
            link.poll_all(now, &mut arrived);
            for (flow, sequence, at) in arrived {
                let is_its = |w: &&mut Watcher| w.link == index && w.flow == flow;
                if let Some(watcher) = self.watchers.iter_mut().find(is_its) {
                    watcher.arrived.push_back((sequence, at + watcher.detour));
                }
            }
        }
    }

    /// A watcher's feedback.
    fn answer(&mut self, index: usize) {
        let now = self.world.now;
        let watcher = &mut self.watchers[index];
        watcher.receiver.on_arrivals(watcher.arrived.drain(..));
        let delay_ms = self.links[watcher.link].phase(now).delay_ms;
        if let Some(bytes) = watcher.receiver.poll(now)
            && self.random.unit() >= watcher.feedback_loss
        {
            let delay = Duration::from_secs_f64(delay_ms / 1e3) + watcher.detour;
            watcher.feedback.push_back((now + delay, bytes));
        }
        while watcher.feedback.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = watcher.feedback.pop_front().unwrap();
            watcher.client.send_compound(&self.world, &bytes);
        }
    }
}

impl Camera {
    /// Whether its next packet is lost.
    fn loses(&mut self) -> bool {
        self.random.unit() < self.loss
    }

    /// Sends a picture of an encoding, of so many bytes, or of as many as its rate says. Returns
    /// the bytes of its packets.
    fn send_picture(&mut self, world: &World, index: usize, bytes: Option<usize>) -> Vec<usize> {
        let usual = (self.rates_bps[index] * FRAME.as_secs_f64() / 8.0) as usize;
        let mut left = bytes.unwrap_or(usual);
        let mut sent = Vec::new();
        let key = std::mem::take(&mut self.key[index]);
        let packets = left.div_ceil(PAYLOAD_MAX + PACKET_OVERHEAD).max(1);
        let each = left / packets;
        for number in 0..packets {
            let len = if number + 1 == packets { left } else { each };
            left -= len;
            let video = Video {
                ssrc: CAMERA_SSRC + index as u32,
                rid: Some(RIDS[index]),
                sequence: self.sequences[index],
                timestamp: self.picture.wrapping_mul(3_000),
                picture_id: self.picture as u16 & 0x7fff,
                key,
            };
            self.sequences[index] = self.sequences[index].wrapping_add(1);
            let mut payload = video.payload();
            if number > 0 {
                // Not the beginning of the picture (RFC 7741 section 4.2: no S).
                payload[0] &= !0x10;
            }
            payload.resize(len.saturating_sub(PACKET_OVERHEAD).max(payload.len()), 0x5a);
            if let Some(number) = payload.last_chunk_mut() {
                *number = self.picture.to_be_bytes();
            }
            sent.push(payload.len() + PACKET_OVERHEAD);
            if !self.loses() {
                self.client.send_payload(world, video, &payload);
            }
        }
        sent
    }
}
