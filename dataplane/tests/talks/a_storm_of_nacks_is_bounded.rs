//! A client that asks for everything again and again does not make the SFU flood the network:
//! what is sent again is at most what was sent once, and honest requests are answered afterwards.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

fn send(world: &mut World, speaker: &mut Client, numbers: std::ops::Range<u16>) {
    for sequence in numbers {
        let timestamp = u32::from(sequence) * 3000;
        let key = sequence == 0;
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key };
        speaker.send_video(world, video);
        world.turn();
    }
}

fn bytes(datagrams: &[Vec<u8>]) -> usize {
    datagrams.iter().map(Vec::len).sum()
}

#[test]
fn a_storm_of_nacks_at_most_doubles_what_is_sent() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    send(&mut world, &mut speaker, 0..300);
    let sent = hearer.raw(&mut world);
    let media = sent.iter().find(|packet| packet[0] & 0xc0 == 0x80 && packet[1] & 0x7f == 101);
    let first = media.map(|packet| u16::from_be_bytes([packet[2], packet[3]])).unwrap();

    let mut again = 0;
    for _ in 0..50 {
        for _ in 0..20 {
            hearer.send_rtcp(&world, |writer| {
                let asked = (20..280).map(|index| first.wrapping_add(index));
                writer.nack(9, consumer.ssrc, asked).unwrap();
            });
        }
        world.turn();
        again += bytes(&hearer.raw(&mut world));
    }
    assert!(again > 10_000, "an answer there is: {again}");
    assert!(again < bytes(&sent) + (20 << 10), "{again} for {}", bytes(&sent));
    let drops = &world.core(CoreId(0)).stats().drops;
    assert!(drops.of(DropReason::ResendBudget) > 1_000);
    assert!(drops.of(DropReason::NackFlood) > 900, "most are not even looked up");

    // With what is sent next, new requests are good again.
    world.run(Duration::from_secs(1));
    send(&mut world, &mut speaker, 300..340);
    hearer.raw(&mut world);
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, [first.wrapping_add(330)].into_iter()).unwrap();
    });
    world.turn();
    assert_eq!(hearer.media(&mut world).len(), 1);
}

#[test]
fn one_datagram_may_ask_for_as_many_as_a_browser_keeps_on_its_list() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    send(&mut world, &mut speaker, 0..10);
    hearer.raw(&mut world);
    for count in [900, 1_000, 1_001, 4_000] {
        let before = world.core(CoreId(0)).stats().drops.of(DropReason::NackFlood);
        hearer.send_rtcp(&world, |writer| {
            writer.nack(9, consumer.ssrc, 0..count).unwrap();
        });
        world.turn();
        let dropped = world.core(CoreId(0)).stats().drops.of(DropReason::NackFlood) - before;
        assert_eq!(dropped, u64::from(count > 1_000), "{count}");
        world.run(Duration::from_secs(1));
    }
}
