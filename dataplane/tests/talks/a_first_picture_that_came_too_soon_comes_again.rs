//! A client creates its receiver some time after the server began to send, and drops what arrives
//! before, the first key frame included. It need not wait for another: everything since is
//! retransmitted from the history. And no key frame is requested that could not arrive.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::srtp::Profile;

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// Packets of a key frame, of about 130 bytes.
const KEY_PACKETS: u16 = 8;

/// A viewer asks again so often while it has no picture, as libwebrtc does.
const PLI_INTERVAL_MS: u64 = 200;

/// A camera of 30 frames per second, 20 ms away, that takes 50 ms for a key frame.
struct Camera {
    client: Client,
    sequence: u16,
    frames: u16,
    key_frame_due: Option<u64>,
    /// When it was asked.
    asked: Vec<u64>,
}

impl Camera {
    const ANSWER_MS: u64 = 20 + 50 + 20;

    fn turn(&mut self, world: &mut World, ms: u64) {
        for compound in self.client.receive(world).1 {
            for packet in rtcp::packets(&compound) {
                if matches!(packet, Ok(Packet::Pli { .. })) {
                    self.asked.push(ms);
                    self.key_frame_due.get_or_insert(ms + Self::ANSWER_MS);
                }
            }
        }
        if !ms.is_multiple_of(33) {
            return;
        }
        let key = self.key_frame_due.take_if(|due| ms >= *due).is_some();
        let (picture_id, timestamp) = (self.frames, u32::from(self.frames) * 3000);
        for number in 0..if key { KEY_PACKETS } else { 1 } {
            let sequence = self.sequence;
            let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id, key };
            let mut payload = video.payload();
            if number > 0 {
                // Not the start of a partition.
                payload[0] &= !0x10;
            }
            self.client.send_payload(world, video, &payload);
            self.sequence += 1;
        }
        self.frames += 1;
    }
}

/// A viewer, 20 ms away.
struct Viewer {
    client: Client,
    consumer: ConsumerConfig,
    ready_at: u64,
    under_way: VecDeque<(u64, Vec<u8>)>,
    has: BTreeSet<u16>,
    key_frame: Option<u16>,
    /// When it asked.
    plis: Vec<u64>,
    /// When it had a picture and all after it.
    picture: Option<u64>,
}

impl Viewer {
    const WAY_MS: u64 = 20;

    fn turn(&mut self, world: &mut World, ms: u64) {
        let sent = self.client.raw(world).into_iter().map(|bytes| (ms + Self::WAY_MS, bytes));
        self.under_way.extend(sent);
        while let Some((_, bytes)) = self.under_way.pop_front_if(|(at, _)| *at <= ms) {
            // SRTP is one for all streams: it sees also what nobody takes.
            world.wire.push((self.client.address, bytes));
            let media = self.client.media(world);
            if ms >= self.ready_at {
                media.iter().for_each(|packet| self.take(packet));
            }
        }
        let newest = self.has.last().copied();
        let is_whole = |first: u16| (first..=newest.unwrap_or(0)).all(|n| self.has.contains(&n));
        if self
            .key_frame
            .is_some_and(|first| newest >= Some(first + KEY_PACKETS) && is_whole(first))
        {
            self.picture.get_or_insert(ms);
        }
        let last = self.plis.last().copied();
        let is_time = last.is_none_or(|last| ms >= last + PLI_INTERVAL_MS);
        if self.key_frame.is_none() && newest.is_some() && is_time {
            self.plis.push(ms);
        }
        if self.plis.contains(&(ms - Self::WAY_MS)) {
            let ssrc = self.consumer.ssrc;
            self.client.send_rtcp(world, |writer| writer.pli(9, ssrc).unwrap());
        }
    }

    fn take(&mut self, packet: &Received) {
        let (number, payload) = if packet.header.ssrc == self.consumer.ssrc {
            (packet.header.sequence, &packet.payload[..])
        } else {
            (u16::from_be_bytes([packet.payload[0], packet.payload[1]]), &packet.payload[2..])
        };
        self.has.insert(number);
        if payload[0] & 0x10 != 0 && payload[5] & 1 == 0 {
            self.key_frame = Some(number);
        }
    }
}

/// A viewer that takes `late_ms` to be ready, in a room of its own; `change` is made to its
/// consumer.
fn watch(
    late_ms: u64,
    budget_bps: u32,
    change: impl FnOnce(&mut ConsumerConfig),
) -> (Camera, Viewer) {
    let mut world = World::new(1);
    let client = world.join(CORE);
    let source = world.produce(&client, MediaKind::Video, &[1000]);
    let mut camera =
        Camera { client, sequence: 0, frames: 0, key_frame_due: Some(0), asked: Vec::new() };
    let client = world.join_with_budget(CORE, budget_bps);
    let mut viewer = None;
    for ms in 990..3_000 {
        if ms == 1_500 {
            let mut consumer = world.consume(&client, &source);
            world.command(CORE, Command::CloseConsumer(consumer.id));
            change(&mut consumer);
            world.command(CORE, Command::CreateConsumer(Box::new(consumer.clone())));
            viewer = Some(consumer);
            break;
        }
        camera.turn(&mut world, ms);
        world.turn();
    }
    let mut viewer = Viewer {
        client,
        consumer: viewer.unwrap(),
        ready_at: 1_500 + late_ms,
        under_way: VecDeque::new(),
        has: BTreeSet::new(),
        key_frame: None,
        plis: Vec::new(),
        picture: None,
    };
    camera.asked.clear();
    for ms in 1_500..4_000 {
        camera.turn(&mut world, ms);
        world.turn();
        viewer.turn(&mut world, ms);
    }
    (camera, viewer)
}

#[test]
fn what_a_client_was_not_ready_for_comes_again_without_the_sender() {
    for late_ms in [150, 200, 400, 800] {
        let (camera, viewer) = watch(late_ms, 6_000_000, |_| {});
        let picture = viewer.picture.unwrap();
        assert_eq!(camera.asked.len(), 1, "{late_ms}: as it joined");
        assert_eq!(viewer.plis.len(), 1, "{late_ms}: {:?}", viewer.plis);
        assert!(picture - viewer.plis[0] <= 2 * Viewer::WAY_MS + 2, "{late_ms}: {picture}");
    }
}

#[test]
fn a_client_in_time_asks_for_nothing() {
    let (camera, viewer) = watch(0, 6_000_000, |_| {});
    assert_eq!((camera.asked.len(), viewer.plis.len()), (1, 0));
}

#[test]
fn where_it_cannot_come_again_the_sender_is_asked_at_once() {
    let without_rtx = |consumer: &mut ConsumerConfig| consumer.rtx_ssrc = None;
    let without_nack = |consumer: &mut ConsumerConfig| consumer.feedback.nack = false;
    for (camera, viewer) in [
        watch(500, 6_000_000, without_rtx),
        watch(500, 6_000_000, without_nack),
        // Longer ago than the history keeps.
        watch(1_500, 6_000_000, |_| {}),
    ] {
        assert_eq!(camera.asked.len(), 2);
        let asked = viewer.plis[0] + Viewer::WAY_MS;
        assert!(camera.asked[1] - asked <= 2, "{:?} {asked}", camera.asked);
        assert!(viewer.picture.is_some());
    }
}

/// How often a camera is asked for a key frame now.
fn asked(camera: &mut Client, world: &mut World) -> usize {
    let control = camera.receive(world).1;
    let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
    packets.filter(|packet| matches!(packet, Ok(Packet::Pli { .. }))).count()
}

#[test]
fn no_key_frame_is_asked_for_before_it_can_arrive_and_then_at_once() {
    let mut world = World::new(1);
    let mut camera = world.join(CORE);
    let source = world.produce(&camera, MediaKind::Video, &[1000]);
    let (mut viewer, keys) = world.invite(CORE, Profile::AeadAes128Gcm, 6_000_000);
    world.consume(&viewer, &source);
    world.run(Duration::from_millis(1_500));
    assert_eq!(asked(&mut camera, &mut world), 0, "neither a way nor keys");
    world.enter(&viewer, keys);
    world.turn();
    assert_eq!(asked(&mut camera, &mut world), 1);

    // The network is gone until nothing may be sent any more, and comes back.
    let mut video =
        Video { ssrc: 1000, rid: None, sequence: 0, timestamp: 0, picture_id: 0, key: true };
    for _ in 0..40 {
        camera.send_video(&world, video);
        camera.check(&world, true);
        world.run(Duration::from_secs(1));
        (video.sequence, video.picture_id) = (video.sequence + 1, video.picture_id + 1);
        (video.timestamp, video.key) = (video.timestamp + 90_000, false);
    }
    assert_eq!(asked(&mut camera, &mut world), 0);
    viewer.check(&world, true);
    world.turn();
    assert_eq!(asked(&mut camera, &mut world), 0, "it is not proven to be there");
    viewer.send_rtcp(&world, |writer| writer.pli(9, 1).unwrap());
    world.turn();
}
