//! A core dies between the packets of a key frame that come out of order. The next core gets the
//! one that begins it, late, and not those that the first one had: it begins nothing with that, and
//! asks for a key frame that it can have whole.

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtp::header::OutgoingHeader;

use crate::world::*;

const PLI: [u8; 2] = [0x81, 206];

#[test]
fn what_begins_a_picture_that_another_core_had_the_rest_of_begins_nothing() {
    let mut world = World::new(1);
    let (mut speaker, mut viewer) = (world.join(CoreId(0)), world.join(CoreId(0)));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    world.consume(&viewer, &source);
    let video = |sequence, timestamp, picture_id, key| Video {
        ssrc: 1000,
        rid: None,
        sequence,
        timestamp,
        picture_id,
        key,
    };
    speaker.send_video(&world, video(9, 3_000, 4, true));
    world.turn();
    assert_eq!(viewer.media(&mut world).len(), 1);
    // The end of the next key frame comes before its beginning.
    let end = video(11, 6_000, 5, true);
    let mut payload = end.payload();
    payload[0] &= !0x10;
    let fields = OutgoingHeader {
        marker: true,
        payload_type: 96,
        sequence: end.sequence,
        timestamp: end.timestamp,
        ssrc: end.ssrc,
    };
    let end = speaker.sealed(fields, None, &payload);
    world.push(speaker.address, CoreId(0), &end);
    world.turn();
    viewer.media(&mut world);
    world.kill(CoreId(0), 7);
    world.run(std::time::Duration::from_millis(600));
    speaker.receive(&mut world);
    speaker.send_video(&world, video(10, 6_000, 5, true));
    world.run(std::time::Duration::from_millis(600));
    assert_eq!(viewer.media(&mut world).len(), 0, "half a picture");
    let (_, asked) = speaker.receive(&mut world);
    let is_pli = |compound: &Vec<u8>| compound.windows(2).any(|head| head == PLI);
    assert!(asked.iter().any(is_pli), "another one is asked for");
    speaker.send_video(&world, video(12, 60_000, 6, true));
    world.turn();
    assert_eq!(viewer.media(&mut world).len(), 1);
}
