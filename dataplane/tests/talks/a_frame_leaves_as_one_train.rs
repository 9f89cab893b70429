//! Encoders cut a frame into packets of nearly equal length, the longer ones last. A byte of
//! padding makes them one GSO train; the client gets the payload as it was.

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

/// Extra payload bytes of each packet of a frame, and what leaves: lengths relative to the first.
const FRAMES: [(&[usize], &[isize]); 4] = [
    (&[0, 0, 1, 1], &[0, 0, 0, 0]),
    // The last segment of a train may be shorter.
    (&[3, 3, 3, 1], &[0, 0, 0, -2]),
    (&[0, 8, 0, 8], &[0, 0, 0, 0]),
    // So much padding costs more than it saves.
    (&[0, 9], &[0, 9]),
];

#[test]
fn a_frame_leaves_as_one_train() {
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        let mut world = World::new(2);
        let mut speaker = world.join_with(CoreId(0), profile);
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        let mut hearers: Vec<_> =
            (0..2).map(|core| world.join_with(CoreId(core), profile)).collect();
        for hearer in &hearers {
            world.consume(hearer, &source);
        }
        let mut sequence = 0;
        for (frame, (extra, relative)) in FRAMES.iter().enumerate() {
            let mut sent = Vec::new();
            for bytes in *extra {
                let video = Video {
                    ssrc: 1000,
                    rid: None,
                    sequence,
                    timestamp: frame as u32 * 3000,
                    picture_id: frame as u16,
                    key: frame == 0,
                };
                let payload = [video.payload(), vec![0xee; *bytes]].concat();
                speaker.send_payload(&world, video, &payload);
                sent.push(payload);
                sequence += 1;
            }
            world.turn();
            world.turn();
            for hearer in &mut hearers {
                let wire: Vec<usize> = hearer.peek(&world).iter().map(Vec::len).collect();
                let media = hearer.media(&mut world);
                assert_eq!(media.len(), sent.len(), "{profile:?} frame {frame}");
                for (packet, payload) in media.iter().zip(&sent) {
                    // All but the picture id, which is the consumer's own.
                    assert_eq!(packet.payload[5..], payload[5..], "{profile:?} frame {frame}");
                }
                let relative_wire: Vec<isize> =
                    wire.iter().map(|len| len.wrapping_sub(wire[0]) as isize).collect();
                assert_eq!(relative_wire, *relative, "{profile:?} frame {frame}");
            }
        }
    }
}
