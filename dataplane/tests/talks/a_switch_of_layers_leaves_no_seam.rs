//! Simulcast: the best layer that fits, switched at key frames only, and in the receiver's eyes one
//! stream: sequence numbers without a gap, timestamps that go on, picture ids that rise.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};

use crate::world::*;

const RIDS: [&[u8]; 3] = [b"r0", b"r1", b"r2"];

/// Three encoders with nothing in common.
struct Camera {
    codec: Codec,
    sequence: [u16; 3],
    timestamp: [u32; 3],
    picture_id: [u16; 3],
}

impl Camera {
    fn new(codec: Codec) -> Self {
        Camera {
            codec,
            sequence: [100, 40_000, 65_000],
            timestamp: [1, 1 << 31, 7_000_000],
            picture_id: [5, 32_000, 900],
        }
    }

    fn frame(&mut self, world: &World, client: &mut Client, layer: usize, key: bool) {
        let video = Video {
            ssrc: 1000 + layer as u32,
            rid: Some(RIDS[layer]),
            sequence: self.sequence[layer],
            timestamp: self.timestamp[layer],
            picture_id: self.picture_id[layer],
            key,
        };
        let payload = match self.codec {
            Codec::Vp9 => vp9_payload(video.picture_id, key),
            _ => video.payload(),
        };
        client.send_payload(world, video, &payload);
        self.sequence[layer] = self.sequence[layer].wrapping_add(1);
        self.picture_id[layer] = (self.picture_id[layer] + 1) & 0x7fff;
        self.timestamp[layer] = self.timestamp[layer].wrapping_add(3000);
    }
}

/// A whole VP9 picture, non-flexible: I, P, L, B and E, one layer, TL0PICIDX (RFC 9628 section
/// 4.2).
fn vp9_payload(picture_id: u16, key: bool) -> Vec<u8> {
    let [high, low] = (picture_id | 0x8000).to_be_bytes();
    let mut payload = vec![0xac | u8::from(!key) << 6, high, low, 0, picture_id as u8];
    payload.extend(0..100);
    payload
}

/// The picture id and TL0PICIDX of a packet: VP8 has a byte more before them, VP9 one between.
fn picture_ids(codec: Codec, packet: &Received) -> (u16, u8) {
    let (id_at, tl0_at) = if codec == Codec::Vp9 { (1, 4) } else { (2, 4) };
    let id = u16::from_be_bytes([packet.payload[id_at], packet.payload[id_at + 1]]) & 0x7fff;
    (id, packet.payload[tl0_at])
}

fn assert_one_stream(codec: Codec, media: &[Received]) {
    for pair in media.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert_eq!(after.header.sequence, before.header.sequence.wrapping_add(1));
        let ticks = after.header.timestamp.wrapping_sub(before.header.timestamp);
        assert!((1..90_000).contains(&ticks), "timestamps step by {ticks}");
        let ((before_id, _), (after_id, _)) =
            (picture_ids(codec, before), picture_ids(codec, after));
        assert_eq!(after_id, (before_id + 1) & 0x7fff);
        assert_eq!(after.header.ssrc, before.header.ssrc);
    }
}

#[test]
fn a_switch_of_layers_leaves_no_seam() {
    for codec in [Codec::Vp8, Codec::Vp9] {
        let media = switch_layers(codec);
        assert!(media.len() >= 38, "{codec:?}: {}", media.len());
        assert_one_stream(codec, &media);
        for pair in media.windows(2) {
            let [before, after] = [&pair[0], &pair[1]].map(|packet| picture_ids(codec, packet).1);
            assert_eq!(after, before.wrapping_add(1), "{codec:?}: each is of temporal layer 0");
        }
    }
}

/// What a client receives that switches from the highest layer to the lowest and back.
fn switch_layers(codec: Codec) -> Vec<Received> {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let mut source = world.produce(&speaker, MediaKind::Video, &[1000, 1001, 1002]);
    world.command(CoreId(0), Command::CloseProducer(source.id));
    source.payload_types[0].codec = codec;
    world.command(CoreId(0), Command::CreateProducer(Box::new(source.clone())));
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let mut camera = Camera::new(codec);
    let mut media = Vec::new();
    let mut play = |world: &mut World, frames: usize, key: [bool; 3]| {
        for frame in 0..frames {
            for (layer, key) in key.into_iter().enumerate() {
                camera.frame(world, &mut speaker, layer, frame == 0 && key);
            }
            world.run(Duration::from_millis(33));
            media.extend(hearer.media(world));
        }
    };
    play(&mut world, 10, [true; 3]);
    let prefer = |spatial| Command::SetPreferredLayers {
        consumer: consumer.id,
        layers: Layers { spatial, temporal: None },
    };
    world.command(CoreId(0), prefer(0));
    play(&mut world, 10, [false; 3]); // no key frame yet: the old layer goes on
    play(&mut world, 10, [true, false, false]);
    world.command(CoreId(0), prefer(2));
    play(&mut world, 10, [false, false, true]);
    let layers: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::LayersChanged { layers, .. } => layers.map(|layers| layers.spatial),
            _ => None,
        })
        .collect();
    assert_eq!(layers, [2, 0, 2], "every switch is told");
    media
}

/// A VP8 packet of a temporal layer: descriptor with I, L and T (RFC 7741 section 4.2).
fn temporal_payload(picture_id: u16, temporal: u8, sync: bool, key: bool) -> Vec<u8> {
    let [high, low] = (picture_id | 0x8000).to_be_bytes();
    let layer = temporal << 6 | u8::from(sync) << 5;
    vec![0x90, 0xe0, high, low, (picture_id / 4) as u8, layer, u8::from(!key), 1, 2, 3, 4, 5, 6, 7]
}

#[test]
fn fewer_temporal_layers_leave_no_gap_and_come_back_where_the_stream_allows() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let mut number = 0_u16;
    // L1T3: layers 0 2 1 2; the upper ones may be entered in every other round.
    let mut round = |world: &mut World, sync: bool| {
        let mut temporals = Vec::new();
        for temporal in [0, 2, 1, 2] {
            let fields = opencall_wire::rtp::header::OutgoingHeader {
                marker: true,
                payload_type: SENT_PT,
                sequence: number,
                timestamp: u32::from(number) * 3000,
                ssrc: 1000,
            };
            let payload = temporal_payload(number, temporal, sync && temporal > 0, number == 0);
            let packet = speaker.sealed(fields, None, &payload);
            world.push(speaker.address, CoreId(0), &packet);
            world.turn();
            number += 1;
            temporals.extend(hearer.media(world));
        }
        temporals
    };
    let prefer = |temporal| Command::SetPreferredLayers {
        consumer: consumer.id,
        layers: Layers { spatial: 0, temporal },
    };
    let mut all = round(&mut world, true);
    assert_eq!(all.len(), 4);
    world.command(CoreId(0), prefer(Some(0)));
    let lowest = round(&mut world, false);
    assert_eq!(lowest.len(), 1, "every fourth picture");
    world.command(CoreId(0), prefer(None));
    let waiting = round(&mut world, false);
    assert_eq!(waiting.len(), 1, "no way up yet");
    let back = round(&mut world, true);
    assert_eq!(back.len(), 4);
    all.extend([lowest, waiting, back].concat());
    assert_one_stream(Codec::Vp8, &all);
}
