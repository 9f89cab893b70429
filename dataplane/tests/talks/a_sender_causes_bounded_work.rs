//! What takes work of many for one packet is bounded: new beginnings, sender reports, feedback.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::SenderInfo;
use opencall_wire::time::NtpTime;

use crate::world::*;

const CORE: CoreId = CoreId(0);

fn video(ssrc: u32, sequence: u16, key: bool) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc, rid: None, sequence, timestamp, picture_id: sequence & 0x7fff, key }
}

fn drops(world: &World, reason: DropReason) -> u64 {
    world.core(CORE).stats().drops.of(reason)
}

#[test]
fn a_sender_that_always_begins_anew_is_heard_a_few_times_a_second() {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CORE);
    world.consume(&hearer, &source);
    let mut sequence = 1_u16;
    for _ in 0..200 {
        speaker.send_video(&world, video(1000, sequence, true));
        sequence = sequence.wrapping_add(3_001);
        world.run(Duration::from_millis(1));
    }
    let refused = drops(&world, DropReason::RestartFlood);
    let all: Vec<_> = world.core(CORE).stats().drops.iter().collect();
    assert!(refused > 100, "{refused} of 200: {all:?}");
    // A second later it may.
    hearer.raw(&mut world);
    world.run(Duration::from_secs(1));
    for sequence in sequence..sequence + 4 {
        speaker.send_video(&world, video(1000, sequence, true));
    }
    world.run(Duration::from_millis(10));
    assert!(hearer.media(&mut world).len() >= 2, "lower numbers are believed from the second on");
}

#[test]
fn reports_of_one_sender_do_not_fill_the_ring_of_all() {
    let mut world = World::new(2);
    let mut noisy = world.join(CORE);
    let noise = world.produce(&noisy, MediaKind::Video, &[1000]);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[2000]);
    let mut hearer = world.join(CoreId(1));
    for producer in [&noise, &source] {
        world.consume(&hearer, producer);
    }
    for ssrc in [1000, 2000] {
        let sender = if ssrc == 1000 { &mut noisy } else { &mut speaker };
        sender.send_video(&world, video(ssrc, 0, true));
    }
    world.run(Duration::from_millis(100));
    hearer.raw(&mut world);
    for _ in 0..40 {
        noisy.send_rtcp(&world, |writer| {
            let ntp = NtpTime(0xe000_0000 << 32);
            let info = SenderInfo { ntp, rtp_timestamp: 0, packets: 1, octets: 9 };
            (0..40).for_each(|_| writer.sender_report(1000, &info, &[]).unwrap());
        });
    }
    for sequence in 1..20 {
        speaker.send_video(&world, video(2000, sequence, false));
    }
    world.run(Duration::from_millis(20));
    assert_eq!(drops(&world, DropReason::RingFull), 0);
    assert_eq!(hearer.media(&mut world).len(), 19);
}

#[test]
fn one_datagram_brings_a_few_feedbacks() {
    let mut world = World::new(1);
    let hearer = world.join(CORE);
    // 16,382 packets that have not arrived, in two runs.
    let mut feedback = vec![0x8f, 205, 0, 5];
    feedback.extend([0, 0, 0, 9, 0, 0, 0, 0, 0, 0]);
    feedback.extend(16_382_u16.to_be_bytes());
    feedback.extend([0, 0, 1, 0]);
    feedback.extend([0x1f, 0xff, 0x1f, 0xff]);
    let mut hearer = hearer;
    hearer.send_compound(&world, &feedback.repeat(40));
    world.turn();
    assert_eq!(drops(&world, DropReason::FeedbackFlood), 36);
}
