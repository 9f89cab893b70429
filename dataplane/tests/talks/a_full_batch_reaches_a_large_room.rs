//! A receive batch of a large room is more than the send arena holds: it leaves in parts, whole and
//! in order.

use opencall_dataplane::message::*;
use opencall_io::TX_ARENA_SIZE;
use opencall_wire::codec::MediaKind;

use crate::world::*;

#[test]
fn a_full_batch_reaches_a_large_room() {
    const PACKETS: u16 = 250;
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearers: Vec<_> = (0..150).map(|_| world.join(CoreId(0))).collect();
    for hearer in &hearers {
        world.consume(hearer, &source);
    }
    for sequence in 0..PACKETS {
        let video = Video {
            ssrc: 1000,
            rid: None,
            sequence,
            timestamp: u32::from(sequence) * 3000,
            picture_id: sequence,
            key: sequence == 0,
        };
        speaker.send_video(&world, video);
    }
    world.turn();

    let bytes: usize = world.wire.iter().map(|(_, datagram)| datagram.len()).sum();
    assert!(bytes > TX_ARENA_SIZE, "{bytes} bytes would have fitted at once");
    for hearer in &mut hearers {
        let numbers: Vec<u16> =
            hearer.media(&mut world).iter().map(|packet| packet.header.sequence).collect();
        assert_eq!(numbers.len(), usize::from(PACKETS));
        assert!(numbers.is_sorted_by(|a, b| a.wrapping_add(1) == *b));
    }
    assert_eq!(world.core(CoreId(0)).stats().drops.iter().count(), 0);
}
