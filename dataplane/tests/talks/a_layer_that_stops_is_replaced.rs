//! A sender that stops a layer, as browsers do when their uplink gets worse: who had it gets the
//! next one within 400 ms, though padding still comes under its SSRC. A layer of few pictures, or a
//! pause that all layers make, is no stop.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::header::OutgoingHeader;

use crate::world::*;

const RIDS: [&[u8]; 3] = [b"r0", b"r1", b"r2"];

fn frame(world: &World, client: &mut Client, layer: usize, number: u16, key: bool) {
    let video = Video {
        ssrc: 1000 + layer as u32,
        rid: Some(RIDS[layer]),
        sequence: 500 + number,
        timestamp: 7000 + world.now.as_millis() as u32 * 90,
        picture_id: number,
        key,
    };
    client.send_video(world, video);
}

fn asks_for(control: &[Vec<u8>], ssrc: u32) -> bool {
    control.iter().flat_map(|compound| rtcp::packets(compound)).any(
        |packet| matches!(packet.unwrap(), Packet::Pli { media_ssrc, .. } if media_ssrc == ssrc),
    )
}

/// A packet of nothing but padding (RFC 3550 section 5.1), 224 bytes of it.
fn padding(world: &World, client: &mut Client, layer: usize, sequence: u16) {
    let fields = OutgoingHeader {
        marker: false,
        payload_type: SENT_PT,
        sequence,
        timestamp: 7000,
        ssrc: 1000 + layer as u32,
    };
    let mut payload = vec![0; 224];
    payload[223] = 224;
    let packet = client.sealed_padded(fields, Some(RIDS[layer]), &payload);
    world.push(client.address, CoreId(0), &packet);
}

/// How long the picture of someone stands who watched the highest of three layers when it stopped.
fn darkness(fps: u64, with_padding: bool, core: u8) -> Duration {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000, 1001, 1002]);
    let mut hearer = world.join(CoreId(core));
    world.consume(&hearer, &source);
    world.turn();
    let interval = Duration::from_millis(1000 / fps);
    // The sender answers requests for key frames with the next picture, as a browser would.
    let (mut number, mut key) = (0, [true; 3]);
    for _ in 0..3 * fps {
        for (layer, key) in key.iter_mut().enumerate() {
            frame(&world, &mut speaker, layer, number, std::mem::take(key));
        }
        number += 1;
        world.run(interval);
        let (_, control) = speaker.receive(&mut world);
        key = [1000, 1001, 1002].map(|ssrc| asks_for(&control, ssrc));
    }
    assert!(!hearer.media(&mut world).is_empty());
    world.events.clear();

    let stopped = world.now - interval;
    let mut padded = 500 + number;
    while world.now.since(stopped) < Duration::from_secs(8) {
        for (layer, key) in key.iter_mut().enumerate().take(2) {
            frame(&world, &mut speaker, layer, number, std::mem::take(key));
        }
        number += 1;
        if with_padding {
            for _ in 0..2 {
                padding(&world, &mut speaker, 2, padded);
                padded += 1;
            }
        }
        world.run(interval);
        let (_, control) = speaker.receive(&mut world);
        key[1] = asks_for(&control, 1001);
        if !hearer.media(&mut world).is_empty() {
            break;
        }
    }
    let told = world.events.iter().rev().find_map(|event| match event {
        Event::LayersChanged { layers, .. } => layers.map(|layers| layers.spatial),
        _ => None,
    });
    assert_eq!(told, Some(1));
    world.now.since(stopped)
}

#[test]
fn a_layer_that_stops_is_replaced_within_400_ms() {
    for (fps, with_padding, core) in [
        (30, false, 0),
        (30, false, 1),
        (30, true, 0),
        (30, true, 1),
        (20, false, 0),
        (60, true, 0),
    ] {
        let dark = darkness(fps, with_padding, core);
        assert!(dark <= Duration::from_millis(400), "{fps} fps: the picture stood for {dark:?}");
    }
}

/// Switches of layer, and key frames asked for, while frames of all three layers come at the times
/// given.
fn disturbances(schedule: impl Iterator<Item = [u64; 3]>) -> (usize, usize) {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000, 1001, 1002]);
    let hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let (began, mut asked, mut key) = (world.now, 0, [true; 3]);
    let mut events = Vec::new();
    for (number, times) in schedule.enumerate() {
        for (layer, ms) in times.into_iter().enumerate() {
            let due = began + Duration::from_millis(ms);
            world.run(due.since(world.now));
            frame(&world, &mut speaker, layer, number as u16, std::mem::take(&mut key[layer]));
        }
        world.turn();
        let (_, control) = speaker.receive(&mut world);
        key = [1000, 1001, 1002].map(|ssrc| asks_for(&control, ssrc));
        // With the first pictures the consumer climbs to the highest layer.
        if number > 3 {
            asked += key.iter().filter(|asked| **asked).count();
            events.append(&mut world.events);
        }
        world.events.clear();
    }
    let switched = |event: &&Event| matches!(event, Event::LayersChanged { .. });
    (events.iter().filter(switched).count(), asked)
}

#[test]
fn few_pictures_and_pauses_are_no_stop() {
    // A screen share of one to five frames a second, its layers 15 ms after each other; with a
    // pause of three seconds now and then.
    for interval in [1000, 500, 333, 200] {
        let mut now = 0;
        let schedule = (0..60).map(|number| {
            now += if number % 20 == 19 { 3000 } else { interval };
            [now, now + 15, now + 30]
        });
        assert_eq!(disturbances(schedule), (0, 0), "every {interval} ms");
    }
}
