//! The identity that a packet carries (MID, RID, repaired RID) overrules the stream that its SSRC
//! had: the SSRC moves to the stream named (RFC 9143 section 9.2, RFC 8852), which goes on with it
//! as with any new SSRC, and nothing more is requested under it for the stream that lost it.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::header::OutgoingHeader;

use crate::world::*;

const FRAME: Duration = Duration::from_millis(33);

/// A sender's position: SSRC, numbers and clock.
struct Encoder {
    ssrc: u32,
    rid: Option<&'static [u8]>,
    sequence: u16,
    timestamp: u32,
    picture_id: u16,
}

impl Encoder {
    fn new(ssrc: u32, rid: Option<&'static [u8]>, sequence: u16) -> Self {
        let timestamp = u32::from(sequence) * 3000;
        Encoder { ssrc, rid, sequence, timestamp, picture_id: sequence & 0x7fff }
    }

    fn next(&mut self, key: bool) -> Video {
        let Encoder { ssrc, rid, sequence, timestamp, picture_id } = *self;
        self.sequence += 1;
        self.timestamp += 3000;
        self.picture_id += 1;
        Video { ssrc, rid, sequence, timestamp, picture_id, key }
    }
}

/// What a sender was asked for and told since the last look: PLIs, SSRCs of NACKs, of report
/// blocks.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    plis: Vec<u32>,
    nacks: Vec<u32>,
    reports: Vec<u32>,
}

fn heard(client: &mut Client, world: &mut World) -> Heard {
    let mut heard = Heard::default();
    for compound in client.receive(world).1 {
        for packet in rtcp::packets(&compound) {
            match packet.unwrap() {
                Packet::Pli { media_ssrc, .. } => heard.plis.push(media_ssrc),
                Packet::Nack(nack) => heard.nacks.push(nack.media_ssrc),
                Packet::ReceiverReport(report) => {
                    heard.reports.extend(report.reports().map(|block| block.ssrc));
                }
                _ => {}
            }
        }
    }
    heard
}

/// Two cameras of one client, and a hearer of both.
struct Room {
    world: World,
    speaker: Client,
    hearer: Client,
    /// The hearer's SSRCs of the two.
    ssrcs: [u32; 2],
}

impl Room {
    fn new(hearers_core: u8) -> Self {
        let mut world = World::new(2);
        let speaker = world.join(CoreId(0));
        let first = world.produce_as(b"0", &speaker, MediaKind::Video, &[0x1000]);
        let second = world.produce_as(b"1", &speaker, MediaKind::Video, &[0x2000]);
        let hearer = world.join(CoreId(hearers_core));
        let ssrcs = [first, second].map(|source| world.consume(&hearer, &source).ssrc);
        world.turn();
        Room { world, speaker, hearer, ssrcs }
    }

    fn send(&mut self, mid: &'static [u8], video: Video) {
        self.speaker.mid = mid;
        self.speaker.send_video(&self.world, video);
        self.world.run(FRAME);
    }

    /// What the hearer got of each camera.
    fn media(&mut self) -> [Vec<Received>; 2] {
        let media = self.hearer.media(&mut self.world);
        self.ssrcs
            .map(|ssrc| media.iter().filter(|packet| packet.header.ssrc == ssrc).cloned().collect())
    }
}

fn assert_one_stream(media: &[Received]) {
    let picture =
        |packet: &Received| u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff;
    for pair in media.windows(2) {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence.wrapping_add(1));
        assert_eq!(picture(&pair[1]), (picture(&pair[0]) + 1) & 0x7fff);
    }
}

#[test]
fn an_ssrc_goes_to_the_mid_that_its_packets_carry() {
    for hearers_core in [0, 1] {
        let mut room = Room::new(hearers_core);
        let (mut one, mut two) =
            (Encoder::new(0x1000, None, 100), Encoder::new(0x2000, None, 5_000));
        for number in 0..6 {
            room.send(b"0", one.next(number == 0));
            room.send(b"1", two.next(number == 0));
        }
        let [mut first, mut second] = room.media();
        assert_eq!((first.len(), second.len()), (6, 6));
        // The last packet before the change, and one that is missing.
        let late = one.next(false);
        one.next(false);
        room.world.run(Duration::from_secs(1));
        heard(&mut room.speaker, &mut room.world);

        // The second camera goes on under the first one's SSRC, its key frame lost.
        for _ in 0..5 {
            room.send(b"1", one.next(false));
        }
        assert_eq!(room.media().map(|media| media.len()), [0, 0], "nobody has what it refers to");
        room.send(b"0", late);
        let drops = &room.world.core(CoreId(0)).stats().drops;
        assert_eq!(drops.of(DropReason::SourceReplaced), 1);
        for number in 0..6 {
            room.send(b"1", one.next(number == 0));
        }
        let [of_first, of_second] = room.media();
        assert_eq!((of_first.len(), of_second.len()), (0, 6));
        second.extend(of_second);
        assert_one_stream(&second);
        room.world.run(Duration::from_secs(2));
        let Heard { plis, nacks, reports } = heard(&mut room.speaker, &mut room.world);
        assert_eq!(plis, [0x1000], "once");
        assert_eq!(nacks, [], "what the first camera missed of it");
        assert!(reports.len() >= 2 && reports.iter().all(|&ssrc| ssrc == 0x1000));
        assert!(reports.len() <= 3, "one block in each report: {reports:?}");

        // The first camera comes back under an SSRC of its own.
        let mut one = Encoder::new(0x3000, None, 30_000);
        room.send(b"0", one.next(false));
        assert_eq!(heard(&mut room.speaker, &mut room.world).plis, [0x3000]);
        for number in 0..6 {
            room.send(b"0", one.next(number == 0));
        }
        let [of_first, of_second] = room.media();
        assert_eq!((of_first.len(), of_second.len()), (6, 0));
        first.extend(of_first);
        assert_one_stream(&first);
    }
}

#[test]
fn only_what_is_authentic_and_names_somebody_moves_an_ssrc() {
    let mut room = Room::new(0);
    let mut one = Encoder::new(0x1000, None, 100);
    room.send(b"0", one.next(true));
    room.speaker.mid = b"1";
    let mut forged = room.speaker.sealed_video(Video { key: true, ..one.next(true) });
    *forged.last_mut().unwrap() ^= 1;
    room.world.push(room.speaker.address, CoreId(0), &forged);
    room.world.turn();
    // A MID of nobody's: what is announced counts.
    room.send(b"7", one.next(false));
    room.send(b"0", one.next(false));
    assert_eq!(room.media().map(|media| media.len()), [3, 0]);
}

#[test]
fn an_announced_ssrc_is_no_longer_what_it_was_heard_as() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    world.produce_as(b"0", &speaker, MediaKind::Video, &[1, 2]);
    let mut layer = Encoder::new(0x4000, Some(b"r0"), 9);
    speaker.send_video(&world, layer.next(true));
    world.turn();
    world.produce_as(b"1", &speaker, MediaKind::Video, &[0x4000]);
    speaker.mid = b"1";
    for _ in 0..10 {
        speaker.send_video(&world, Video { rid: None, ..layer.next(false) });
        world.run(FRAME);
    }
    heard(&mut speaker, &mut world);
    world.run(Duration::from_secs(1));
    assert_eq!(heard(&mut speaker, &mut world).reports, [0x4000], "one stream, one block");
}

/// A simulcast of two encodings whose lower one is heard.
fn simulcast() -> (World, Client, Client) {
    let mut world = World::new(1);
    let speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1, 2]);
    let hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source).id;
    let layers = Layers { spatial: 0, temporal: None };
    world.command(CoreId(0), Command::SetPreferredLayers { consumer, layers });
    world.turn();
    (world, speaker, hearer)
}

#[test]
fn an_ssrc_goes_to_the_rid_that_its_packets_carry() {
    let (mut world, mut speaker, mut hearer) = simulcast();
    let (mut low, mut high) =
        (Encoder::new(0x1000, Some(b"r0"), 100), Encoder::new(0x2000, Some(b"r1"), 9_000));
    for number in 0..5 {
        speaker.send_video(&world, low.next(number == 0));
        speaker.send_video(&world, high.next(number == 0));
        world.run(FRAME);
    }
    let mut media = hearer.media(&mut world);
    assert_eq!(media.len(), 5);
    // The sender swaps them.
    (low.rid, high.rid) = (high.rid, low.rid);
    world.run(Duration::from_secs(1));
    for number in 0..5 {
        speaker.send_video(&world, high.next(number == 0));
        world.run(FRAME);
        speaker.send_video(&world, low.next(number == 0));
        world.run(FRAME);
    }
    let more = hearer.media(&mut world);
    assert_eq!(more.len(), 5);
    for (number, packet) in more.iter().enumerate() {
        let sequence = high.sequence - 5 + number as u16;
        assert_eq!(packet.payload.last(), Some(&(99 ^ sequence as u8)), "of the one that was high");
    }
    media.extend(more);
    assert_one_stream(&media);
}

#[test]
fn a_retransmission_repairs_the_rid_that_it_names() {
    let (mut world, mut speaker, mut hearer) = simulcast();
    let mut low = Encoder::new(0x1000, Some(b"r0"), 100);
    let mut high = Encoder::new(0x2000, Some(b"r1"), 100);
    for (repaired, sequence) in [(b"r1", 1), (b"r0", 2)] {
        let missing = [low.next(sequence == 1), high.next(sequence == 1)];
        let of_low = missing[0];
        for _ in 0..3 {
            for video in [low.next(true), high.next(true)] {
                speaker.send_video(&world, video);
            }
            world.run(FRAME);
        }
        hearer.media(&mut world);
        // One stream of retransmissions, first for the one, then for the other.
        let mut payload = of_low.sequence.to_be_bytes().to_vec();
        payload.extend(of_low.payload());
        let fields = OutgoingHeader {
            marker: true,
            payload_type: SENT_RTX_PT,
            sequence,
            timestamp: of_low.timestamp,
            ssrc: 0x9000,
        };
        speaker.extension = Some((REPAIRED_RID, repaired.to_vec()));
        let packet = speaker.sealed(fields, None, &payload);
        speaker.extension = None;
        world.push(speaker.address, CoreId(0), &packet);
        world.turn();
        let repaired = hearer.media(&mut world);
        // In the first round it is one of the encoding that nobody takes.
        assert_eq!(repaired.len(), usize::from(sequence == 2));
    }
}
