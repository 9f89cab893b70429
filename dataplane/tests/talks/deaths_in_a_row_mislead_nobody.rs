//! A core may die before it could say or send what it had begun, and the next one as well. What
//! clients are told of their layers is so all the same, and the numbers of their pictures, some of
//! which have few bits, come no further than the pictures do.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// Time between two pictures of one packet.
const PICTURE: Duration = Duration::from_millis(10);

/// Bytes of a picture's packet: a megabit per second.
const PICTURE_LEN: usize = 1_150;

/// A camera of one encoding and who sees it.
struct Talk {
    world: World,
    speaker: Client,
    hearer: Client,
    consumer: ConsumerConfig,
    sent: u16,
}

impl Talk {
    fn new() -> Self {
        let mut world = World::new(1);
        let speaker = world.join(CORE);
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        let hearer = world.join_with_budget(CORE, 10_000_000);
        let consumer = world.consume(&hearer, &source);
        Talk { world, speaker, hearer, consumer, sent: 0 }
    }

    fn send(&mut self, key: bool) {
        let (sequence, timestamp) = (self.sent, u32::from(self.sent) * 900);
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key };
        let mut payload = video.payload();
        payload.resize(PICTURE_LEN, 0x5a);
        self.speaker.send_payload(&self.world, video, &payload);
        self.sent += 1;
        self.world.run(PICTURE);
    }

    /// What control was told of the layers since the last call.
    fn layers(&mut self) -> Vec<Option<u8>> {
        let news = self.world.events.drain(..).filter_map(|event| match event {
            Event::LayersChanged { consumer, layers } if consumer == self.consumer.id => {
                Some(layers.map(|layers| layers.spatial))
            }
            _ => None,
        });
        news.collect()
    }
}

#[test]
fn who_has_no_room_with_the_next_core_is_told_so() {
    let mut talk = Talk::new();
    for number in 0..200 {
        talk.send(number == 0);
    }
    assert_eq!(talk.layers(), [Some(0)]);
    let outgoing_bitrate =
        |transport, bitrate_bps| Command::SetOutgoingBitrate { transport, bitrate_bps };
    let transport = talk.hearer.transport;
    talk.world.command(CORE, outgoing_bitrate(transport, 200_000));
    talk.world.kill(CORE, 7);
    talk.hearer.media(&mut talk.world);
    for _ in 0..200 {
        talk.send(false);
    }
    assert_eq!(talk.layers(), [None], "no core before could say so");
    talk.world.kill(CORE, 8);
    for _ in 0..200 {
        talk.send(false);
    }
    assert_eq!(talk.layers(), [None], "said again by the next");
    assert!(talk.hearer.media(&mut talk.world).is_empty());

    talk.world.command(CORE, outgoing_bitrate(transport, 10_000_000));
    for number in 0..200 {
        talk.send(number % 50 == 0);
    }
    assert_eq!(talk.layers(), [Some(0)]);
    assert!(!talk.hearer.media(&mut talk.world).is_empty());
}

#[test]
fn picture_numbers_come_no_further_than_pictures_do() {
    let mut talk = Talk::new();
    for number in 0..40 {
        talk.send(number == 0);
    }
    let numbers = |talk: &mut Talk| {
        let media = talk.hearer.media(&mut talk.world);
        let numbers = media.iter().map(|packet| {
            let [high, low, tl0] = packet.payload[2..5] else { panic!("they are three") };
            (u16::from_be_bytes([high, low]) & 0x7fff, tl0)
        });
        numbers.collect::<Vec<_>>()
    };
    let (first_picture, first_tl0) = *numbers(&mut talk).last().unwrap();
    let sent_before = talk.sent;
    let mut heard = Vec::new();
    for death in 0..12 {
        talk.world.kill(CORE, death);
        // Some of them come while the core waits for a key frame.
        for number in 0..6 {
            talk.send(number == 2);
        }
        heard.extend(numbers(&mut talk));
    }
    assert_eq!(heard.len(), 12 * 4);
    let steps = |pair: &[(u16, u8)]| {
        let [(picture, tl0), (next_picture, next_tl0)] = [pair[0], pair[1]];
        (next_picture.wrapping_sub(picture) & 0x7fff, next_tl0.wrapping_sub(tl0))
    };
    for pair in heard.windows(2) {
        let (pictures, levels) = steps(pair);
        assert!((1..=6).contains(&pictures) && (1..=6).contains(&levels), "{pair:?}");
    }
    // A client that has heard none of them takes the last for a step forward.
    let (pictures, levels) = steps(&[(first_picture, first_tl0), *heard.last().unwrap()]);
    assert!(pictures <= talk.sent - sent_before, "{pictures}");
    assert!(u16::from(levels) <= talk.sent - sent_before && levels < 0x80, "{levels}");
}
