//! A sender whose transport-wide numbers jump (it reset its congestion control, or reconnected)
//! gets feedback on the new ones after a few packets, in whichever direction they went: without it,
//! its bitrate falls.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};

use crate::world::*;

#[test]
fn transport_wide_numbers_may_begin_anew() {
    for (before, after) in [(100..150, 40_100..40_600), (20_000..20_050, 0..500_u16)] {
        let mut world = World::new(1);
        let mut speaker = world.join(CoreId(0));
        world.produce(&speaker, MediaKind::Video, &[1000]);
        let mut told = Vec::new();
        for (sequence, number) in (0_u16..).zip(before.clone().chain(after.clone())) {
            speaker.transport_offset = u16::wrapping_sub(number, sequence);
            let timestamp = u32::from(sequence) * 3000;
            let key = sequence == 0;
            let picture_id = sequence;
            let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id, key };
            speaker.send_video(&world, video);
            world.run(Duration::from_millis(5));
            let (_, control) = speaker.receive(&mut world);
            for packet in control.iter().flat_map(|compound| rtcp::packets(compound)) {
                let Packet::TransportCc(feedback) = packet.unwrap() else { continue };
                let arrived = feedback.packets().filter(|(_, delta)| delta.is_some());
                told.extend(arrived.map(|(number, _)| number));
            }
        }
        let first = told.iter().filter(|number| after.contains(number)).min();
        assert!(first.is_some_and(|&first| first < after.start + 5), "{after:?}: {first:?}");
        assert!(told.len() > 500, "{after:?}: {}", told.len());
    }
}
