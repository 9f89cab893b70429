//! A sender that stops its best layer, as browsers do when their uplink gets worse: who had it gets
//! the next one within two seconds.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_dataplane::rtcp::{self, Packet};

use crate::world::*;

const RIDS: [&[u8]; 3] = [b"r0", b"r1", b"r2"];

fn frame(world: &World, client: &mut Client, layer: usize, number: u16, key: bool) {
    let video = Video {
        ssrc: 1000 + layer as u32,
        rid: Some(RIDS[layer]),
        sequence: 500 + number,
        timestamp: 7000 + u32::from(number) * 3000,
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

#[test]
fn a_layer_that_stops_is_replaced_within_two_seconds() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000, 1001, 1002]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let mut number = 0;
    for _ in 0..60 {
        for layer in 0..3 {
            frame(&world, &mut speaker, layer, number, number == 0);
        }
        number += 1;
        world.run(Duration::from_millis(33));
    }
    speaker.receive(&mut world);
    hearer.media(&mut world);

    // The sender answers the request for a key frame of the middle layer, as a browser would.
    let stopped = world.now;
    let mut key = [false; 2];
    let mut came_back = None;
    while world.now.since(stopped) < Duration::from_secs(3) && came_back.is_none() {
        for (layer, key) in key.iter_mut().enumerate() {
            frame(&world, &mut speaker, layer, number, std::mem::take(key));
        }
        number += 1;
        world.run(Duration::from_millis(33));
        let (_, control) = speaker.receive(&mut world);
        key[1] = asks_for(&control, 1001);
        if !hearer.media(&mut world).is_empty() {
            came_back = Some(world.now.since(stopped));
        }
    }
    let dark = came_back.expect("the next layer comes");
    assert!(dark <= Duration::from_millis(2200), "the picture stood for {dark:?}");
    let told = world.events.iter().rev().find_map(|event| match event {
        Event::LayersChanged { layers, .. } => layers.map(|layers| layers.spatial),
        _ => None,
    });
    assert_eq!(told, Some(1));
}
