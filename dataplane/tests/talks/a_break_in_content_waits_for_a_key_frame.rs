//! A sender that goes on under another SSRC, or with other numbers, whose key frame got lost: its
//! inter frames refer to pictures that nobody has. Sent on with numbers that follow those before, a
//! decoder puts them on top of the old pictures, wrongly and without an error. So nothing goes out
//! until a key frame, and that is asked for.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::fanout::links::RING_SLOTS;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};

use crate::world::*;

/// A sender's position: SSRC, numbers and clock.
#[derive(Clone, Copy)]
struct Encoder {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    picture_id: u16,
}

impl Encoder {
    fn frame(&mut self, world: &World, client: &mut Client, key: bool) {
        let Encoder { ssrc, sequence, timestamp, picture_id } = *self;
        let video = Video { ssrc, rid: None, sequence, timestamp, picture_id, key };
        client.send_video(world, video);
        self.sequence = sequence.wrapping_add(1);
        self.timestamp = timestamp.wrapping_add(3000);
        self.picture_id = (picture_id + 1) & 0x7fff;
    }
}

const FIRST: Encoder = Encoder { ssrc: 0x1000, sequence: 100, timestamp: 1_000_000, picture_id: 7 };

fn asked_for(client: &mut Client, world: &mut World) -> Vec<u32> {
    let (_, control) = client.receive(world);
    let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
    packets
        .filter_map(|packet| match packet.unwrap() {
            Packet::Pli { media_ssrc, .. } => Some(media_ssrc),
            _ => None,
        })
        .collect()
}

fn assert_one_stream(media: &[Received]) {
    let picture =
        |packet: &Received| u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff;
    for pair in media.windows(2) {
        let step = pair[1].header.sequence.wrapping_sub(pair[0].header.sequence);
        assert_eq!(step, 1);
        assert_eq!(picture(&pair[1]), (picture(&pair[0]) + 1) & 0x7fff);
        assert_eq!(pair[1].payload[4], pair[0].payload[4].wrapping_add(1), "TL0PICIDX");
        let ticks = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp);
        assert!((1..90_000).contains(&ticks), "timestamps step by {ticks}");
    }
}

#[test]
fn a_break_in_content_waits_for_a_key_frame_and_asks_for_it() {
    let breaks = [
        (
            "another SSRC",
            Encoder { ssrc: 0x2000, sequence: 40_000, timestamp: 3_000_000_000, picture_id: 900 },
        ),
        (
            "a little ahead",
            Encoder { ssrc: 0x2000, sequence: 120, timestamp: 1_060_000, picture_id: 30 },
        ),
        (
            "other numbers",
            Encoder { ssrc: 0x1000, sequence: 20_100, timestamp: 3_000_000_000, picture_id: 900 },
        ),
    ];
    for (name, second) in breaks {
        // At home, and at the far end of a pipe.
        for core in [0, 1] {
            let mut world = World::new(2);
            let mut speaker = world.join(CoreId(0));
            let source = world.produce(&speaker, MediaKind::Video, &[FIRST.ssrc]);
            let mut hearer = world.join(CoreId(core));
            world.consume(&hearer, &source);
            world.turn();
            let mut media = Vec::new();
            let mut encoder = FIRST;
            for number in 0..11 {
                encoder.frame(&world, &mut speaker, number == 0);
                world.run(Duration::from_millis(33));
                media.extend(hearer.media(&mut world));
            }
            assert_eq!(media.len(), 11);
            // The first request is long answered.
            world.run(Duration::from_millis(500));
            asked_for(&mut speaker, &mut world);

            encoder = second;
            for _ in 0..8 {
                encoder.frame(&world, &mut speaker, false);
                world.run(Duration::from_millis(33));
                let more = hearer.media(&mut world);
                assert!(more.is_empty(), "{name}: an inter frame without its key frame goes out");
            }
            assert_eq!(asked_for(&mut speaker, &mut world), [second.ssrc], "{name}: once, at once");
            for number in 0..10 {
                encoder.frame(&world, &mut speaker, number == 0);
                world.run(Duration::from_millis(33));
                media.extend(hearer.media(&mut world));
            }
            assert_eq!(media.len(), 21, "{name}");
            assert_one_stream(&media);
        }
    }
}

#[test]
fn packets_of_the_old_source_that_come_late_change_nothing() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[FIRST.ssrc]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let mut encoder = FIRST;
    for number in 0..11 {
        encoder.frame(&world, &mut speaker, number == 0);
        world.run(Duration::from_millis(33));
    }
    let mut late = encoder;
    let mut second =
        Encoder { ssrc: 0x2000, sequence: 40_000, timestamp: 3_000_000_000, picture_id: 900 };
    second.frame(&world, &mut speaker, true);
    world.turn();
    late.frame(&world, &mut speaker, false);
    late.frame(&world, &mut speaker, true);
    world.turn();
    for _ in 0..9 {
        second.frame(&world, &mut speaker, false);
        world.turn();
    }
    let media = hearer.media(&mut world);
    assert_eq!(media.len(), 21);
    assert_one_stream(&media);
    assert_eq!(world.core(CoreId(0)).stats().drops.of(DropReason::SourceReplaced), 2);
}

#[test]
fn a_retransmission_of_the_old_source_is_none_of_the_new() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[FIRST.ssrc]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let mut encoder = FIRST;
    for number in 0..11 {
        encoder.frame(&world, &mut speaker, number == 0);
        world.run(Duration::from_millis(33));
    }
    let mut second = Encoder { ssrc: 0x2000, sequence: 120, timestamp: 77, picture_id: 900 };
    second.frame(&world, &mut speaker, true);
    world.turn();
    hearer.media(&mut world);
    // Number 115 of the old source, which a number of the new one would be before its first.
    let mut payload = 115_u16.to_be_bytes().to_vec();
    let old =
        Video { ssrc: 0x1000, rid: None, sequence: 115, timestamp: 5, picture_id: 22, key: false };
    payload.extend(old.payload());
    let fields = opencall_wire::rtp::header::OutgoingHeader {
        marker: true,
        payload_type: SENT_RTX_PT,
        sequence: 1,
        timestamp: 5,
        ssrc: 0x1001,
    };
    let packet = speaker.sealed(fields, None, &payload);
    world.push(speaker.address, CoreId(0), &packet);
    world.turn();
    assert_eq!(hearer.media(&mut world), []);
    assert_eq!(world.core(CoreId(0)).stats().drops.of(DropReason::UselessRtx), 1);
}

#[test]
fn a_hole_too_long_to_be_told_by_a_number_is_a_break_too() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[FIRST.ssrc]);
    let mut hearer = world.join(CoreId(1));
    world.consume(&hearer, &source);
    world.turn();
    let mut encoder = FIRST;
    for number in 0..11 {
        // The second answers the request, which the first overtook.
        encoder.frame(&world, &mut speaker, number < 6);
        world.turn();
    }
    let mut media = hearer.media(&mut world);
    world.run(Duration::from_millis(500));
    asked_for(&mut speaker, &mut world);
    // The hearer's core stalls until more packets were lost between the cores than a number tells.
    for _ in 0..RING_SLOTS + 3000 {
        encoder.frame(&world, &mut speaker, false);
        world.turn_only(CoreId(0));
    }
    for _ in 0..RING_SLOTS {
        world.turn_only(CoreId(1));
    }
    media.extend(hearer.media(&mut world));
    assert_one_stream(&media);
    let before = media.len();
    world.run(Duration::from_secs(1));
    for _ in 0..5 {
        encoder.frame(&world, &mut speaker, false);
        world.run(Duration::from_millis(33));
    }
    assert_eq!(hearer.media(&mut world), [], "the hole would be invisible");
    assert_eq!(asked_for(&mut speaker, &mut world), [FIRST.ssrc]);
    for number in 0..5 {
        encoder.frame(&world, &mut speaker, number == 0);
        world.run(Duration::from_millis(33));
    }
    media.extend(hearer.media(&mut world));
    assert_eq!(media.len(), before + 5);
}

#[test]
fn a_voice_goes_on_at_once() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Audio, &[0x1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    for (ssrc, first, timestamp) in
        [(0x1000, 500_u16, 0_u32), (0x2000, 9, 1 << 31), (0x2000, 20_000, 5)]
    {
        for number in 0..20_u16 {
            let fields = opencall_wire::rtp::header::OutgoingHeader {
                marker: false,
                payload_type: SENT_PT,
                sequence: first + number,
                timestamp: timestamp.wrapping_add(u32::from(number) * 960),
                ssrc,
            };
            let packet = speaker.sealed(fields, None, &[7; 80]);
            world.push(speaker.address, CoreId(0), &packet);
            world.run(Duration::from_millis(20));
        }
    }
    let media = hearer.media(&mut world);
    assert_eq!(media.len(), 60);
    for pair in media.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        let ticks = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp);
        assert!((1..5_000).contains(&ticks), "timestamps step by {ticks}");
    }
}
