//! One speaks, the others hear: each under its own SSRC, numbers and MID, the speaker not at all.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

fn video(sequence: u16, key: bool) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key }
}

#[test]
fn a_packet_reaches_everyone_else() {
    for profile in [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80] {
        let mut world = World::new(1);
        let mut speaker = world.join_with(CoreId(0), profile);
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        let mut hearers: Vec<_> = (0..3).map(|_| world.join_with(CoreId(0), profile)).collect();
        let consumers: Vec<_> = hearers.iter().map(|c| world.consume(c, &source)).collect();
        for sequence in 0..5 {
            speaker.send_video(&world, video(sequence, sequence == 0));
            world.turn();
        }
        for (hearer, consumer) in hearers.iter_mut().zip(&consumers) {
            let media = hearer.media(&mut world);
            assert_eq!(media.len(), 5, "{profile:?}");
            for (number, packet) in media.iter().enumerate() {
                assert_eq!(packet.header.ssrc, consumer.ssrc);
                assert_eq!(packet.header.payload_type, ROUTER_PT);
                assert_eq!(packet.mid, consumer.mid.as_slice());
                assert_eq!(packet.transport_sequence, Some(number as u16));
                let first = media[0].header;
                assert_eq!(packet.header.sequence, first.sequence.wrapping_add(number as u16));
                let ticks = packet.header.timestamp.wrapping_sub(first.timestamp);
                assert_eq!(ticks, 3000 * number as u32);
                // All but the picture id, which is the consumer's own.
                assert_eq!(packet.payload[5..], video(number as u16, number == 0).payload()[5..]);
            }
        }
        assert!(speaker.media(&mut world).is_empty());
        assert_eq!(world.core(CoreId(0)).stats().packets_forwarded, 15);
    }
}

#[test]
fn early_rtp_waits_for_no_one_and_harms_no_one() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    speaker.send_video(&world, video(1, true));
    world.turn();
    assert_eq!(world.core(CoreId(0)).stats().drops.of(DropReason::NoProducer), 1);

    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    speaker.send_video(&world, video(2, true));
    world.turn();
    assert_eq!(hearer.media(&mut world).len(), 1);
}

#[test]
fn a_late_joiner_starts_at_a_key_frame_that_was_asked_for() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    speaker.send_video(&world, video(0, true));
    world.run(Duration::from_secs(1));
    speaker.raw(&mut world);

    let mut late = world.join(CoreId(0));
    world.consume(&late, &source);
    speaker.send_video(&world, video(1, false));
    world.turn();
    assert!(late.media(&mut world).is_empty(), "nothing it could decode");
    let (_, control) = speaker.receive(&mut world);
    assert!(control.iter().any(|packet| packet[..2] == [0x81, 206]), "a PLI: {control:x?}");

    speaker.send_video(&world, video(2, true));
    speaker.send_video(&world, video(3, false));
    world.turn();
    assert_eq!(late.media(&mut world).len(), 2);
}

#[test]
fn a_paused_consumer_gets_nothing_and_resumes_at_a_key_frame_without_a_gap() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    speaker.send_video(&world, video(0, true));
    world.turn();
    let before = hearer.media(&mut world);

    world.command(CoreId(0), Command::PauseConsumer(consumer.id));
    speaker.send_video(&world, video(1, false));
    world.turn();
    assert!(hearer.media(&mut world).is_empty());

    world.command(CoreId(0), Command::ResumeConsumer(consumer.id));
    speaker.send_video(&world, video(2, false));
    speaker.send_video(&world, video(3, true));
    world.turn();
    let after = hearer.media(&mut world);
    assert_eq!(after.len(), 1);
    let next = before[0].header.sequence.wrapping_add(1);
    assert_eq!(after[0].header.sequence, next);
}

#[test]
fn closing_in_any_order_leaves_nothing_behind() {
    let mut world = World::new(1);
    let speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    world.command(CoreId(0), Command::CloseTransport(speaker.transport));
    world.command(CoreId(0), Command::CloseTransport(hearer.transport));
    world.command(CoreId(0), Command::CloseProducer(source.id));
    world.command(CoreId(0), Command::QueryStats { token: 1, of: StatsQuery::Core });
    world.turn();
    let stats = world.events.iter().find_map(|event| match event {
        Event::Stats { stats: Some(stats), .. } => match &**stats {
            Stats::Core(core) => Some(core),
            _ => None,
        },
        _ => None,
    });
    let stats = stats.expect("an answer");
    assert_eq!((stats.transports, stats.producers, stats.consumers), (0, 0, 0));
}
