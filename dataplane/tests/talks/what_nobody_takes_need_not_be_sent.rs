//! Control learns how many layers of a simulcast anyone would take, so that the sender can stop the
//! others; and that somebody would take more again, though it does not arrive.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

const RIDS: [&[u8]; 3] = [b"r0", b"r1", b"r2"];

/// Bytes of a frame of each layer: some 110, 200 and 300 kbit/s.
const LAYER_BYTES: [usize; 3] = [400, 800, 1200];

/// A camera whose sender does as it is told.
struct Camera {
    client: Client,
    number: u16,
}

impl Camera {
    /// Sends so many layers for a while; a layer that was off begins with a key frame.
    fn play(&mut self, world: &mut World, layers: usize, frames: u16) {
        for frame in 0..frames {
            for (layer, rid) in RIDS.iter().enumerate().take(layers) {
                let video = Video {
                    ssrc: 1000 + layer as u32,
                    rid: Some(rid),
                    sequence: 500 + self.number,
                    timestamp: 7000 + u32::from(self.number) * 3000,
                    picture_id: self.number,
                    key: frame == 0,
                };
                let mut payload = video.payload();
                payload.resize(LAYER_BYTES[layer], 0);
                self.client.send_payload(world, video, &payload);
            }
            self.number += 1;
            world.run(Duration::from_millis(33));
        }
    }
}

/// What a core said last of what is wanted, if it said anything since the last question.
fn wanted(world: &mut World) -> Option<u8> {
    let said = world.events.iter().rev().find_map(|event| match event {
        Event::EncodingsWanted { count, .. } => Some(*count),
        _ => None,
    });
    world.events.clear();
    said
}

fn prefer(world: &mut World, consumer: ConsumerId, spatial: u8) {
    let layers = Layers { spatial, temporal: None };
    world.command(CoreId(0), Command::SetPreferredLayers { consumer, layers });
    world.run(Duration::from_millis(10));
}

fn meeting(world: &mut World) -> (Camera, ProducerConfig) {
    let client = world.join(CoreId(0));
    let source = world.produce(&client, MediaKind::Video, &[1000, 1001, 1002]);
    (Camera { client, number: 0 }, source)
}

#[test]
fn a_layer_is_wanted_while_somebody_would_take_it() {
    let mut world = World::new(1);
    let (mut camera, source) = meeting(&mut world);
    let (near, far) = (world.join(CoreId(0)), world.join(CoreId(0)));
    let near_sink = world.consume(&near, &source);
    let far_sink = world.consume(&far, &source);
    camera.play(&mut world, 3, 60);
    assert_eq!(wanted(&mut world), Some(3), "both have room for the best");

    prefer(&mut world, near_sink.id, 0);
    assert_eq!(wanted(&mut world), None, "the other still has it");
    prefer(&mut world, far_sink.id, 1);
    camera.play(&mut world, 3, 1);
    assert_eq!(wanted(&mut world), Some(2), "now both have switched");

    // The sender stops the best layer. Nobody misses it, until somebody would take it again.
    camera.play(&mut world, 2, 90);
    assert_eq!(wanted(&mut world), None);
    prefer(&mut world, far_sink.id, 2);
    assert_eq!(wanted(&mut world), Some(3), "it is wanted before it comes");

    world.command(CoreId(0), Command::PauseConsumer(far_sink.id));
    world.run(Duration::from_millis(10));
    assert_eq!(wanted(&mut world), Some(1), "who is paused takes nothing");
    world.command(CoreId(0), Command::CloseConsumer(near_sink.id));
    world.run(Duration::from_millis(10));
    assert_eq!(wanted(&mut world), Some(0), "nobody is left");
}

#[test]
fn a_layer_that_does_not_fit_is_not_wanted() {
    let mut world = World::new(1);
    let (mut camera, source) = meeting(&mut world);
    let hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let transport = hearer.transport;
    let budget = |world: &mut World, bitrate_bps| {
        world.command(CoreId(0), Command::SetOutgoingBitrate { transport, bitrate_bps });
        world.run(Duration::from_millis(10));
    };
    camera.play(&mut world, 3, 60);
    assert_eq!(wanted(&mut world), Some(3));
    budget(&mut world, 1);
    camera.play(&mut world, 3, 1);
    assert_eq!(wanted(&mut world), Some(0), "there is no room even for the lowest");
    camera.play(&mut world, 0, 90);
    budget(&mut world, 10_000_000);
    assert_eq!(wanted(&mut world), Some(3), "what it took before fits now");
}

/// The first packet of a layer that begins, and the last second of one that stops, measure as next
/// to nothing: that is no reason to take it.
#[test]
fn a_layer_that_begins_or_stops_is_not_cheap() {
    let mut world = World::new(1);
    let (mut camera, source) = meeting(&mut world);
    let hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let (transport, bitrate_bps) = (hearer.transport, 150_000);
    camera.play(&mut world, 3, 60);
    world.command(CoreId(0), Command::SetOutgoingBitrate { transport, bitrate_bps });
    camera.play(&mut world, 3, 60);
    assert_eq!(wanted(&mut world), Some(1));
    for layers in [1, 2, 1, 3, 1] {
        camera.play(&mut world, layers, 75);
        let switched = |event: &Event| matches!(event, Event::LayersChanged { .. });
        assert!(!world.events.iter().any(switched), "with {layers}: {:?}", wanted(&mut world));
        assert_eq!(wanted(&mut world), None, "with {layers}");
    }
}

#[test]
fn of_a_single_stream_nothing_is_said() {
    let mut world = World::new(1);
    let client = world.join(CoreId(0));
    let source = world.produce(&client, MediaKind::Video, &[1000]);
    let hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    world.run(Duration::from_secs(2));
    assert_eq!(wanted(&mut world), None);
}
