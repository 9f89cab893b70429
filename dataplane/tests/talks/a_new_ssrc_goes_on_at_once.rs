//! A sender that goes on under another SSRC (RFC 8843 section 9.2: same MID) draws its numbers
//! anew: whatever they are, the stream goes on with the first packet.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

#[test]
fn a_new_ssrc_goes_on_at_once() {
    // Behind, the very same, a little ahead, far away.
    for first in [4990, 5010, 5100, 60_000] {
        let mut world = World::new(1);
        let mut speaker = world.join(CoreId(0));
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        let mut hearer = world.join(CoreId(0));
        world.consume(&hearer, &source);
        let mut media = Vec::new();
        for (ssrc, first) in [(1000, 5000), (3000, first)] {
            for number in 0..20_u16 {
                let sequence = first + number;
                let timestamp = ssrc * 1_000_000 + u32::from(number) * 3000;
                let key = number == 0;
                let picture_id = sequence & 0x7fff;
                let video = Video { ssrc, rid: None, sequence, timestamp, picture_id, key };
                speaker.send_video(&world, video);
                world.run(Duration::from_millis(10));
                media.extend(hearer.media(&mut world));
            }
        }
        assert_eq!(media.len(), 40, "from {first}");
        for pair in media.windows(2) {
            let step = pair[1].header.sequence.wrapping_sub(pair[0].header.sequence);
            assert_eq!(step, 1, "from {first}");
            let picture = |packet: &Received| {
                u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff
            };
            assert_eq!(picture(&pair[1]), (picture(&pair[0]) + 1) & 0x7fff, "from {first}");
        }
    }
}
