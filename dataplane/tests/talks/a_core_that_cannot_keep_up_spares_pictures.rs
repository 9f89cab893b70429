//! More arrives than a core can read: pictures get smaller within a second and NACKs of them wait,
//! voices go on; afterwards the pictures come back by themselves.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_io::MAX_RX_BATCH;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::time::Time;

use crate::world::*;

const RIDS: [&[u8]; 3] = [b"r0", b"r1", b"r2"];
const FRAME: Duration = Duration::from_millis(40);

/// A meeting of one who speaks, to whom one listens, in pictures of 100, 220 and 880 kbit/s.
struct Meeting {
    world: World,
    speaker: Client,
    hearer: Client,
    picture: ConsumerConfig,
    voice: ConsumerConfig,
    number: u16,
    key: [bool; 3],
}

impl Meeting {
    fn new() -> Self {
        let mut world = World::new(1);
        let speaker = world.join(CoreId(0));
        let video = world.produce(&speaker, MediaKind::Video, &[1000, 1001, 1002]);
        let audio = world.produce_as(b"1", &speaker, MediaKind::Audio, &[2000]);
        let hearer = world.join(CoreId(0));
        let picture = world.consume(&hearer, &video);
        let voice = world.consume(&hearer, &audio);
        world.turn();
        Meeting { world, speaker, hearer, picture, voice, number: 0, key: [true; 3] }
    }

    /// A frame of every layer and a packet of the voice; `flooded` with what fills every batch.
    /// What the listener got of the picture and of the voice.
    fn frame(&mut self, flooded: bool) -> (usize, usize) {
        for (layer, packets) in [(0, 1), (1, 2), (2, 8)] {
            let key = std::mem::take(&mut self.key[layer]);
            for packet in 0..packets {
                let video = Video {
                    ssrc: 1000 + layer as u32,
                    rid: Some(RIDS[layer]),
                    sequence: 500 + self.number * packets + packet,
                    timestamp: 7000 + u32::from(self.number) * 3600,
                    picture_id: self.number,
                    key: key && packet == 0,
                };
                let mut payload = video.payload();
                payload.resize(500, 0x77);
                self.speaker.mid = b"0";
                self.speaker.send_payload(&self.world, video, &payload);
            }
        }
        let voice = OutgoingHeader {
            marker: false,
            payload_type: SENT_PT,
            sequence: 900 + self.number,
            timestamp: 7000 + u32::from(self.number) * 1920,
            ssrc: 2000,
        };
        self.speaker.mid = b"1";
        let packet = self.speaker.sealed(voice, None, &[0x5a; 80]);
        self.world.push(self.speaker.address, CoreId(0), &packet);
        self.number += 1;
        for _ in 0..FRAME.as_millis() {
            for _ in 0..if flooded { MAX_RX_BATCH } else { 0 } {
                self.world.push("192.0.2.66:6".parse().unwrap(), CoreId(0), &[0x80; 12]);
            }
            self.world.run(Duration::from_millis(1));
        }
        let (_, control) = self.speaker.receive(&mut self.world);
        self.key = [1000, 1001, 1002].map(|ssrc| asks_for(&control, ssrc));
        let media = self.hearer.media(&mut self.world);
        let of = |ssrc| media.iter().filter(|packet| packet.header.ssrc == ssrc).count();
        (of(self.picture.ssrc), of(self.voice.ssrc))
    }

    /// The layer that the listener was told of last.
    fn layer(&self) -> Option<u8> {
        self.world.events.iter().rev().find_map(|event| match event {
            Event::LayersChanged { layers, .. } => Some(layers.map(|layers| layers.spatial)),
            _ => None,
        })?
    }

    fn ceiling(&self) -> Option<u64> {
        self.world.events.iter().rev().find_map(|event| match event {
            Event::Overload { ceiling_bps } => Some(*ceiling_bps),
            _ => None,
        })?
    }
}

fn asks_for(control: &[Vec<u8>], ssrc: u32) -> bool {
    control.iter().flat_map(|compound| rtcp::packets(compound)).any(
        |packet| matches!(packet.unwrap(), Packet::Pli { media_ssrc, .. } if media_ssrc == ssrc),
    )
}

#[test]
fn pictures_give_way_and_come_back_and_the_voice_goes_on() {
    let mut meeting = Meeting::new();
    (0..75).for_each(|_| _ = meeting.frame(false));
    assert_eq!((meeting.layer(), meeting.ceiling()), (Some(2), None));

    let flooded_at = meeting.world.now;
    let mut lowered_at = None::<Time>;
    for _ in 0..25 {
        let (_, voices) = meeting.frame(true);
        assert_eq!(voices, 1, "a voice has no gap");
        if meeting.layer() < Some(2) {
            lowered_at.get_or_insert(meeting.world.now);
        }
    }
    let took = lowered_at.expect("a smaller picture").since(flooded_at);
    assert!(took <= Duration::from_millis(500), "{took:?} until the picture gave way");
    assert!(meeting.ceiling().is_some());

    // What is asked for again meanwhile is not sent: it is what keeps a core from catching up.
    let (picture, voice) = (meeting.picture.ssrc, meeting.voice.ssrc);
    meeting.hearer.send_rtcp(&meeting.world, |writer| {
        writer.nack(9, picture, 0..40).unwrap();
        writer.nack(9, voice, 0..1).unwrap();
    });
    meeting.frame(true);
    assert_eq!(meeting.world.core(CoreId(0)).stats().drops.of(DropReason::Overload), 40);

    for _ in 0..10 * 25 {
        meeting.frame(false);
        if meeting.layer() == Some(2) {
            break;
        }
    }
    let recovered = meeting.world.now.since(flooded_at);
    assert_eq!(meeting.layer(), Some(2), "after {recovered:?}");
    (0..20 * 25).for_each(|_| _ = meeting.frame(false));
    assert_eq!((meeting.layer(), meeting.ceiling()), (Some(2), None), "and nothing is left of it");
}
