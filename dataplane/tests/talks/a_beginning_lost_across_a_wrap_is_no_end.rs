//! A sender whose sequence numbers begin just below their wrap, and whose first packets are lost:
//! the first packet to arrive is number 0 in the second round of SRTP's rollover counter, which is
//! not transmitted.

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

fn video(sequence: u16, key: bool) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence & 0x7fff, key }
}

#[test]
fn a_beginning_lost_across_a_wrap_is_no_end() {
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        for (lost, arrives_late) in [(2, false), (2, true), (5, false)] {
            let mut world = World::new(1);
            let mut speaker = world.join_with(CoreId(0), profile);
            let source = world.produce(&speaker, MediaKind::Video, &[1000]);
            let mut hearer = world.join_with(CoreId(0), profile);
            world.consume(&hearer, &source);
            world.turn();
            let number = |step: u16| 65_534_u16.wrapping_add(step);
            let packets: Vec<_> = (0..20)
                .map(|step| speaker.sealed_video(video(number(step), step == lost)))
                .collect();
            for packet in &packets[usize::from(lost)..] {
                world.push(speaker.address, CoreId(0), packet);
                world.turn();
                if arrives_late {
                    // 65535 is of the first round, and before all that was forwarded.
                    world.push(speaker.address, CoreId(0), &packets[1]);
                }
            }
            let media = hearer.media(&mut world);
            assert_eq!(media.len(), 20 - usize::from(lost));
            let drops = &world.core(CoreId(0)).stats().drops;
            assert_eq!(drops.of(DropReason::SrtpAuthFailed), 0);
        }
    }
}

#[test]
fn forged_packets_of_many_ssrcs_cost_the_honest_nothing() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    speaker.send_video(&world, video(1, true));
    world.turn();
    for ssrc in 0..300 {
        let mut forged = speaker.sealed_video(Video { ssrc: 5000 + ssrc, ..video(7, false) });
        *forged.last_mut().unwrap() ^= 1;
        world.push(speaker.address, CoreId(0), &forged);
        world.turn();
    }
    assert_eq!(world.core(CoreId(0)).stats().drops.of(DropReason::SrtpAuthFailed), 300);
    speaker.send_video(&world, video(2, false));
    world.turn();
    assert_eq!(hearer.media(&mut world).len(), 2);
}
