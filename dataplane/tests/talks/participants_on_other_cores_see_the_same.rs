//! A room over several cores: what one core's participants get, the others' get as well, feedback
//! finds its way home, and a core that does not keep up loses packets by name, without blocking.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::fanout::links::RING_SLOTS;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

fn video(sequence: u16, key: bool) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key }
}

#[test]
fn participants_on_other_cores_see_the_same() {
    let mut world = World::new(3);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearers: Vec<_> = (0..3).map(|core| world.join(CoreId(core))).collect();
    let consumers: Vec<_> = hearers.iter().map(|c| world.consume(c, &source)).collect();
    for sequence in 0..10 {
        speaker.send_video(&world, video(sequence, sequence == 0));
        world.turn();
    }
    world.turn();
    let mut payloads = Vec::new();
    for hearer in &mut hearers {
        let media = hearer.media(&mut world);
        assert_eq!(media.len(), 10);
        payloads.push(media.iter().map(|packet| packet.payload[5..].to_vec()).collect::<Vec<_>>());
    }
    assert!(payloads.iter().all(|other| *other == payloads[0]));
    assert_eq!(world.core(CoreId(0)).stats().packets_piped, 20, "once to each other core");

    // A NACK is answered on the consumer's core, from its own history.
    let consumer = &consumers[2];
    let hearer = &mut hearers[2];
    speaker.send_video(&world, video(10, false));
    world.turn();
    world.turn();
    let lost = hearer.media(&mut world).remove(0);
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, [lost.header.sequence].into_iter()).unwrap();
    });
    world.turn();
    assert_eq!(hearer.media(&mut world)[0].payload[2..], lost.payload);

    // A PLI travels home (once the key frame asked for at first has come).
    speaker.send_video(&world, video(11, true));
    world.run(Duration::from_secs(2));
    speaker.raw(&mut world);
    hearers[1].send_rtcp(&world, |writer| writer.pli(9, consumers[1].ssrc).unwrap());
    world.run(Duration::from_millis(5));
    let (_, control) = speaker.receive(&mut world);
    assert!(control.iter().any(|packet| packet[..2] == [0x81, 206]), "{control:x?}");
}

#[test]
fn a_full_ring_drops_by_name_and_never_blocks() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let hearer = world.join(CoreId(1));
    world.consume(&hearer, &source);
    world.turn();
    let sent = RING_SLOTS as u16 + 50;
    for sequence in 0..sent {
        speaker.send_video(&world, video(sequence, false));
        world.turn_only(CoreId(0));
    }
    let stats = world.core(CoreId(0)).stats();
    assert_eq!(stats.drops.of(DropReason::RingFull), 50);
    assert_eq!(stats.packets_piped, RING_SLOTS as u64);
}
