//! What exceeds the pace of a client waits and leaves in steps: voices go before it, whatever
//! happens meanwhile leaves no gap, and what would wait too long is left out up to a key frame.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{Packet, packets};
use opencall_wire::rtp::header::OutgoingHeader;

use crate::world::*;

const CORE: CoreId = CoreId(0);
const PAYLOAD: usize = 1_150;

/// A camera of some encodings.
struct Camera {
    client: Client,
    source: ProducerConfig,
    sequences: Vec<u16>,
    picture: u32,
}

impl Camera {
    fn new(world: &mut World, ssrcs: &[u32]) -> Self {
        let client = world.join(CORE);
        let source = world.produce(&client, MediaKind::Video, ssrcs);
        let mut camera = Camera { client, source, sequences: vec![0; ssrcs.len()], picture: 0 };
        // Its rate is known before anyone watches.
        for _ in 0..20 {
            camera.send(world, 0, 1, false);
            world.run(Duration::from_millis(100));
        }
        camera
    }

    /// Sends a picture of an encoding; a simulcast has SSRCs from 1000 on.
    fn send(&mut self, world: &World, encoding: usize, packets: u16, key: bool) {
        self.picture += 1;
        let rid = (self.sequences.len() > 1).then(|| crate::paths::RIDS[encoding]);
        for index in 0..packets {
            let video = Video {
                ssrc: 1000 + encoding as u32,
                rid,
                sequence: self.sequences[encoding],
                timestamp: self.picture * 3000,
                picture_id: self.picture as u16,
                key: key && index == 0,
            };
            let mut payload = video.payload();
            if index > 0 {
                payload[0] &= !0x10;
            }
            payload.resize(PAYLOAD, 0x5a);
            self.client.send_payload(world, video, &payload);
            self.sequences[encoding] += 1;
        }
    }

    /// Key frames that it was asked for since the last call.
    fn asked(&mut self, world: &mut World) -> usize {
        let (_, compounds) = self.client.receive(world);
        let asked = |compound: &Vec<u8>| {
            let plis = packets(compound).flatten().filter(|p| matches!(p, Packet::Pli { .. }));
            plis.count()
        };
        compounds.iter().map(asked).sum()
    }
}

/// What a viewer gets in each of so many milliseconds.
fn listen(world: &mut World, viewer: &mut Client, ms: usize) -> Vec<Vec<Received>> {
    let step = |_| {
        world.turn();
        viewer.media(world)
    };
    (0..ms).map(step).collect()
}

#[track_caller]
fn assert_no_gap(packets: &[Received], ssrc: u32) {
    let numbers = packets.iter().filter(|packet| packet.header.ssrc == ssrc);
    let numbers: Vec<u16> = numbers.map(|packet| packet.header.sequence).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
}

#[test]
fn it_takes_the_time_that_the_pace_gives_it_and_voices_go_first() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 1_000_000);
    let mut camera = Camera::new(&mut world, &[1000]);
    let video = world.consume(&viewer, &camera.source);
    let mut speaker = world.join(CORE);
    let voice = world.produce(&speaker, MediaKind::Audio, &[2000]);
    let voice = world.consume(&viewer, &voice);
    world.turn();
    // 97 kB, of which 32 KiB leave at once and the others at 1.05 Mbit/s.
    camera.send(&world, 0, 80, true);
    let mut heard = Vec::new();
    for sequence in 0..40 {
        let fields = OutgoingHeader {
            marker: false,
            payload_type: SENT_PT,
            sequence,
            timestamp: u32::from(sequence) * 960,
            ssrc: 2000,
        };
        let packet = speaker.sealed(fields, None, &[0x78; 80]);
        world.push(speaker.address, CORE, &packet);
        heard.extend(listen(&mut world, &mut viewer, 20));
    }
    let of = |ssrc: u32| {
        let count = move |packets: &Vec<Received>| {
            packets.iter().filter(|packet| packet.header.ssrc == ssrc).count()
        };
        heard.iter().map(count).collect::<Vec<_>>()
    };
    let (pictures, voices) = (of(video.ssrc), of(voice.ssrc));
    assert!((25..28).contains(&pictures[0]), "{} at once", pictures[0]);
    let last = pictures.iter().rposition(|&count| count > 0).unwrap();
    assert!((450..560).contains(&last), "all of it after {last} ms");
    let most = *pictures[1..].iter().max().unwrap();
    assert!(most <= 2, "{most} in one step");
    let begun = voices.chunks(20).all(|chunk| chunk[0] == 1);
    assert!(begun, "each voice at once");
    let all: Vec<Received> = heard.into_iter().flatten().collect();
    assert_no_gap(&all, video.ssrc);
    assert_eq!(pictures.iter().sum::<usize>(), 80);
    let stats = world.core_stats(CORE);
    let waited = stats.pacer_delays.cumulative();
    assert_eq!(waited.last(), Some(&(80 - pictures[0] as u64)));
    assert_eq!(world.transport_stats(&viewer).pacer_queue_ms, 0);
}

#[test]
fn a_pause_while_it_waits_ends_it_at_once_and_leaves_no_gap() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 1_000_000);
    let mut camera = Camera::new(&mut world, &[1000]);
    let video = world.consume(&viewer, &camera.source);
    world.turn();
    camera.send(&world, 0, 60, true);
    let mut heard: Vec<Received> = listen(&mut world, &mut viewer, 50).concat();
    assert!(world.transport_stats(&viewer).pacer_queue_ms > 100);
    world.command(CORE, Command::PauseConsumer(video.id));
    let paused: Vec<Received> = listen(&mut world, &mut viewer, 500).concat();
    assert!(paused.iter().all(|packet| packet.header.ssrc != video.ssrc));
    world.command(CORE, Command::ResumeConsumer(video.id));
    world.turn();
    camera.send(&world, 0, 3, false);
    camera.send(&world, 0, 20, true);
    heard.extend(listen(&mut world, &mut viewer, 300).concat());
    assert_no_gap(&heard, video.ssrc);
    assert!(heard.len() > 50, "{}", heard.len());
}

#[test]
fn who_is_gone_waits_no_more_and_who_comes_gets_nothing_of_it() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 1_000_000);
    let mut camera = Camera::new(&mut world, &[1000]);
    let video = world.consume(&viewer, &camera.source);
    world.turn();
    camera.send(&world, 0, 60, true);
    listen(&mut world, &mut viewer, 50);
    world.command(CORE, Command::CloseConsumer(video.id));
    let next = world.consume(&viewer, &camera.source);
    assert!(listen(&mut world, &mut viewer, 500).concat().is_empty());
    camera.send(&world, 0, 3, true);
    let heard: Vec<Received> = listen(&mut world, &mut viewer, 50).concat();
    assert_eq!(heard.iter().filter(|packet| packet.header.ssrc == next.ssrc).count(), 3);
}

#[test]
fn a_switch_behind_what_waits_leaves_no_gap() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 2_000_000);
    let mut camera = Camera::new(&mut world, &[1000, 1001]);
    let video = world.consume(&viewer, &camera.source);
    let mut heard = Vec::new();
    // The lower encoding alone, and then both: the higher one is begun behind what waits.
    for frame in 0..90 {
        camera.send(&world, 0, if frame % 10 == 0 { 40 } else { 1 }, frame % 10 == 0);
        if frame > 20 {
            camera.send(&world, 1, if frame % 15 == 0 { 30 } else { 2 }, frame % 15 == 0);
        }
        heard.extend(listen(&mut world, &mut viewer, 33).concat());
    }
    assert_no_gap(&heard, video.ssrc);
    let all = world.core_stats(CORE);
    assert!(all.pacer_delays.cumulative().last() > Some(&50), "much has waited");
    assert_eq!(all.drops.of(DropReason::EgressRate), 0);
    assert_eq!(all.drops.of(DropReason::Paced), 0);
    let switches = world.events.iter().filter(|e| matches!(e, Event::LayersChanged { .. }));
    assert!(switches.count() >= 2);
}

#[test]
fn what_would_wait_too_long_is_left_out_whole_and_asked_for_once() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 2_000_000);
    let mut camera = Camera::new(&mut world, &[1000]);
    let video = world.consume(&viewer, &camera.source);
    world.turn();
    camera.asked(&mut world);
    // 155 kB wait, which takes over half a second.
    camera.send(&world, 0, 155, true);
    let mut heard = listen(&mut world, &mut viewer, 33).concat();
    let (mut sent, mut asked) = (155, 0);
    for _ in 0..60 {
        let is_asked = camera.asked(&mut world) > 0;
        asked += usize::from(is_asked);
        let packets = if is_asked { 10 } else { 1 };
        sent += usize::from(packets);
        camera.send(&world, 0, packets, is_asked);
        heard.extend(listen(&mut world, &mut viewer, 33).concat());
    }
    let media = heard.iter().filter(|packet| packet.header.ssrc == video.ssrc).count();
    let dropped = world.core(CORE).stats().drops.of(DropReason::Paced) as usize;
    assert_eq!((asked, media + dropped), (1, sent), "{dropped} dropped");
    assert!((1..20).contains(&dropped), "{dropped} dropped");
    assert_no_gap(&heard, video.ssrc);
}

#[test]
fn a_core_that_slept_meanwhile_sends_what_waits() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 1_000_000);
    let mut camera = Camera::new(&mut world, &[1000]);
    let video = world.consume(&viewer, &camera.source);
    world.turn();
    camera.send(&world, 0, 60, true);
    let mut heard = listen(&mut world, &mut viewer, 50).concat();
    world.now = world.now + Duration::from_millis(900);
    heard.extend(listen(&mut world, &mut viewer, 300).concat());
    assert_no_gap(&heard, video.ssrc);
    assert_eq!(heard.len(), 60);
    assert_eq!(world.core(CORE).stats().drops.of(DropReason::Paced), 0);
}
