//! Requests for key frames travel between cores in the rings that media takes: a full one delays
//! them and does not lose them, and a storm of them does not fill one.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};

use crate::world::*;

fn video(ssrc: u32, sequence: u16) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc, rid: None, sequence, timestamp, picture_id: sequence, key: sequence == 0 }
}

fn plis(client: &mut Client, world: &mut World) -> usize {
    let (_, control) = client.receive(world);
    let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
    packets.filter(|packet| matches!(packet, Ok(Packet::Pli { .. }))).count()
}

#[test]
fn a_key_frame_request_outlives_a_full_ring() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(1));
    let consumer = world.consume(&hearer, &source);
    let other = world.produce(&hearer, MediaKind::Video, &[2000]);
    world.consume(&speaker, &other);
    world.run(Duration::from_millis(10)); // the request of the new consumer comes home
    speaker.send_video(&world, video(1000, 0));
    // Longer than the first picture would come again.
    world.run(Duration::from_secs(2));
    speaker.receive(&mut world);

    // Core 0 stalls while media from core 1 fills the ring.
    for sequence in 0..1200 {
        hearer.send_video(&world, video(2000, sequence));
        if sequence % 100 == 99 {
            world.turn_only(CoreId(1));
        }
    }
    let drops = |world: &World| world.core(CoreId(1)).stats().drops.of(DropReason::RingFull);
    assert!(drops(&world) > 0, "the ring is full");
    hearer.send_rtcp(&world, |writer| writer.pli(9, consumer.ssrc).unwrap());
    world.turn_only(CoreId(1));
    world.run(Duration::from_millis(100));
    assert_eq!(plis(&mut speaker, &mut world), 1);
}

#[test]
fn a_storm_of_requests_does_not_fill_a_ring() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(1));
    let consumer = world.consume(&hearer, &source);
    world.run(Duration::from_millis(10)); // the request of the new consumer comes home
    speaker.send_video(&world, video(1000, 0));
    // Longer than the first picture would come again.
    world.run(Duration::from_secs(2));
    speaker.receive(&mut world);
    // Core 0 stalls.
    for _ in 0..2000 {
        hearer.send_rtcp(&world, |writer| writer.pli(9, consumer.ssrc).unwrap());
        world.turn_only(CoreId(1));
    }
    assert_eq!(world.core(CoreId(1)).stats().drops.of(DropReason::RingFull), 0);
    world.run(Duration::from_millis(100));
    assert_eq!(plis(&mut speaker, &mut world), 1, "one answers them all");
}
