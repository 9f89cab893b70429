//! What a consumer begins or numbers, it sends: without room in the send arena no switch is made,
//! and every number that went out or should have can be asked for again.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::RTP_PACKET_MAX;

use crate::world::*;

const CORE: CoreId = CoreId(0);

fn picture(encoding: usize, sequence: u16, key: bool) -> Video {
    Video {
        ssrc: 1000 + encoding as u32,
        rid: Some([&b"r0"[..], b"r1"][encoding]),
        sequence,
        timestamp: u32::from(sequence) * 3000,
        picture_id: sequence,
        key,
    }
}

#[test]
fn a_switch_waits_until_its_picture_has_room() {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[1000, 1001]);
    let mut hearer = world.join(CORE);
    let consumer = world.consume(&hearer, &source).id;
    for sequence in 0..30 {
        speaker.send_video(&world, picture(0, sequence, sequence == 0));
        world.run(Duration::from_millis(33));
    }
    assert_eq!(hearer.media(&mut world).len(), 30);
    world.events.clear();
    let layers = |world: &mut World| {
        let news = world.events.iter().filter_map(|event| match event {
            Event::LayersChanged { consumer: of, layers } if *of == consumer => *layers,
            _ => None,
        });
        let news: Vec<u8> = news.map(|layers| layers.spatial).collect();
        world.events.clear();
        news
    };

    // The higher encoding begins when there is no room, ...
    speaker.send_video(&world, picture(1, 0, true));
    world.fill_arena = true;
    world.turn();
    assert!(world.core(CORE).stats().drops.of(DropReason::ArenaFull) > 0);
    world.fill_arena = false;
    assert!(layers(&mut world).is_empty(), "nothing has begun");
    // ... so that the lower one goes on, ...
    speaker.send_video(&world, picture(0, 30, false));
    speaker.send_video(&world, picture(1, 1, false));
    world.run(Duration::from_millis(33));
    let after: Vec<u16> = hearer.media(&mut world).iter().map(|p| p.header.sequence).collect();
    assert_eq!(after.len(), 1, "of the lower encoding");
    // ... until the higher one begins again.
    for sequence in 2..5 {
        speaker.send_video(&world, picture(1, sequence, sequence == 2));
        world.run(Duration::from_millis(33));
    }
    let switched: Vec<u16> = hearer.media(&mut world).iter().map(|p| p.header.sequence).collect();
    assert_eq!(layers(&mut world), [1]);
    assert_eq!(switched.len(), 3);
    let numbers = [&after[..], &switched].concat();
    assert!(numbers.is_sorted_by(|a, b| a.wrapping_add(1) == *b), "{numbers:?}");
}

/// Of what is forwarded everything is kept, however long.
#[test]
fn the_longest_packet_that_is_forwarded_can_be_sent_again() {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CORE);
    let config = world.consume(&hearer, &source);
    let video = |sequence, key| Video { rid: None, ..picture(0, sequence, key) };
    speaker.send_video(&world, video(0, true));
    world.turn();
    let first = hearer.media(&mut world)[0].header.sequence;
    // Headers are shorter than 50 bytes here.
    for (sequence, len) in [(1, 1500), (2, RTP_PACKET_MAX - 50)] {
        let mut payload = video(sequence, false).payload();
        payload.resize(len, 7);
        speaker.send_payload(&world, video(sequence, false), &payload);
        world.run(Duration::from_millis(100));
        let sent = hearer.media(&mut world);
        assert_eq!(sent.len(), 1, "{len} bytes");
        let number = first.wrapping_add(sequence);
        hearer.send_rtcp(&world, |writer| {
            writer.nack(1, config.ssrc, [number].into_iter()).unwrap();
        });
        world.run(Duration::from_millis(100));
        let again = hearer.media(&mut world);
        assert_eq!(again.len(), 1, "{len} bytes again");
        assert!(again[0].payload.ends_with(&sent[0].payload[2..]), "{len} bytes, the same");
    }
    assert_eq!(world.core(CORE).stats().drops.of(DropReason::HistoryMiss), 0);
}

/// What is longer is not forwarded at all: dropped where it comes in, by name.
#[test]
fn a_packet_above_the_ceiling_is_dropped_at_the_door() {
    let mut world = World::new(2);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearers = [world.join(CORE), world.join(CoreId(1))];
    for hearer in &hearers {
        world.consume(hearer, &source);
    }
    let video = |sequence, key| Video { rid: None, ..picture(0, sequence, key) };
    for sequence in 0..3 {
        let mut payload = video(sequence, sequence == 0).payload();
        if sequence == 1 {
            payload.resize(RTP_PACKET_MAX, 7);
        }
        speaker.send_payload(&world, video(sequence, sequence == 0), &payload);
        world.run(Duration::from_millis(33));
    }
    assert_eq!(world.core(CORE).stats().drops.of(DropReason::TooLarge), 1);
    for hearer in &mut hearers {
        let numbers: Vec<u16> =
            hearer.media(&mut world).iter().map(|p| p.header.sequence).collect();
        assert_eq!(numbers.len(), 2);
        assert_eq!(numbers[0].wrapping_add(2), numbers[1], "a gap, as for a lost packet");
    }
}
