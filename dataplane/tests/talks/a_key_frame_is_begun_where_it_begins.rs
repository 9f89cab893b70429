//! A consumer begins with a key frame: with all of it, also when the packet that begins it comes
//! late, and with nothing that only looks like one. Until then the key frame stays asked for.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::header::OutgoingHeader;

use crate::world::*;

const SSRC: u32 = 1000;

/// A sender of one codec, and who receives it.
struct Scene {
    world: World,
    speaker: Client,
    hearer: Client,
    consumer: ConsumerConfig,
}

impl Scene {
    fn new(codec: Codec, rtx: bool) -> Self {
        let mut world = World::new(1);
        let speaker = world.join(CoreId(0));
        let mut source = world.produce(&speaker, MediaKind::Video, &[SSRC]);
        world.command(CoreId(0), Command::CloseProducer(source.id));
        source.payload_types[0].codec = codec;
        world.command(CoreId(0), Command::CreateProducer(Box::new(source.clone())));
        let hearer = world.join(CoreId(0));
        let mut consumer = world.consume(&hearer, &source);
        if !rtx {
            world.command(CoreId(0), Command::CloseConsumer(consumer.id));
            consumer.rtx_ssrc = None;
            world.command(CoreId(0), Command::CreateConsumer(Box::new(consumer.clone())));
        }
        Scene { world, speaker, hearer, consumer }
    }

    /// Sends a packet of the picture with this timestamp; the core does not see it before `turn`.
    fn send(&mut self, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) {
        let fields =
            OutgoingHeader { marker, payload_type: SENT_PT, sequence, timestamp, ssrc: SSRC };
        let packet = self.speaker.sealed(fields, None, payload);
        self.world.push(self.speaker.address, CoreId(0), &packet);
    }

    fn turn(&mut self) {
        self.world.run(Duration::from_millis(5));
    }

    /// What has arrived: numbers of the media stream and payloads, in order of numbers.
    fn received(&mut self) -> Vec<(u16, Vec<u8>)> {
        let media = self.hearer.media(&mut self.world);
        let mut all: Vec<_> = media
            .into_iter()
            .map(|packet| match packet.header.ssrc == self.consumer.ssrc {
                true => (packet.header.sequence, packet.payload),
                false => {
                    let original = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
                    (original, packet.payload[2..].to_vec())
                }
            })
            .collect();
        all.sort();
        all
    }

    /// How often the sender was asked for a key frame since the last call.
    fn asked(&mut self) -> usize {
        let (_, control) = self.speaker.receive(&mut self.world);
        let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
        packets.filter(|packet| matches!(packet, Ok(Packet::Pli { .. }))).count()
    }
}

/// The types of the H.264 NAL units in payloads; a fragmented one counts where it begins.
fn nal_types(packets: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut types = Vec::new();
    for (_, payload) in packets {
        match payload[0] & 0x1f {
            24 => {
                let mut rest = &payload[1..];
                while let [high, low, unit @ ..] = rest {
                    types.push(unit[0] & 0x1f);
                    rest = &unit[usize::from(u16::from_be_bytes([*high, *low]))..];
                }
            }
            28 if payload[1] & 0x80 != 0 => types.push(payload[1] & 0x1f),
            28 => {}
            kind => types.push(kind),
        }
    }
    types
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

const SETS: &str = "78 000d 6742c01fda0280bfe5c05a8083 0004 68ce3c80";
const IDR_START: &str = "7c85888420 0000000000";
const IDR_MIDDLE: &str = "7c05 1111111111";
const IDR_END: &str = "7c45 2222222222";
const SLICE: &str = "41 9a 3333333333";

#[test]
fn parameter_sets_that_come_late_begin_the_key_frame_all_the_same() {
    // Each packet in a turn of its own, and the overtaken one in one turn with who overtook it.
    for (together, rtx) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut scene = Scene::new(Codec::H264, rtx);
        let packets = [(2, IDR_START), (1, SETS), (3, IDR_MIDDLE), (4, IDR_END)];
        for (sequence, payload) in packets {
            scene.send(sequence, 3000, sequence == 4, &hex(payload));
            if !together || sequence != 2 {
                scene.turn();
            }
        }
        for sequence in 5..8 {
            scene.send(sequence, 3000 * u32::from(sequence), true, &hex(SLICE));
            scene.turn();
        }
        let received = scene.received();
        assert_eq!(nal_types(&received), [7, 8, 5, 1, 1, 1], "together: {together}, RTX: {rtx}");
        let numbers: Vec<_> = received.iter().map(|(number, _)| *number).collect();
        let expected: Vec<_> = (0..7).map(|n| numbers[0].wrapping_add(n)).collect();
        assert_eq!(numbers, expected, "without a hole");
    }
}

#[test]
fn the_first_packet_of_a_vp8_key_frame_may_come_late() {
    let mut scene = Scene::new(Codec::Vp8, true);
    let payload = |n: u8| vec![if n == 1 { 0x10 } else { 0 }, 0, n];
    for (sequence, n) in [(12, 3), (11, 2), (10, 1), (13, 4)] {
        let payload = payload(n);
        scene.send(sequence, 3000, n == 4, &payload);
        scene.turn();
    }
    let received = scene.received();
    let order: Vec<_> = received.iter().map(|(_, payload)| payload[2]).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn an_idr_picture_without_its_parameter_sets_keeps_the_request_up() {
    let mut scene = Scene::new(Codec::H264, true);
    scene.turn();
    assert_eq!(scene.asked(), 1);
    scene.send(2, 3000, false, &hex(IDR_START));
    scene.send(3, 3000, true, &hex(IDR_END));
    for sequence in 4..20 {
        scene.send(sequence, 3000 * u32::from(sequence), true, &hex(SLICE));
        scene.world.run(Duration::from_millis(33));
    }
    assert_eq!(scene.received(), []);
    assert_eq!(scene.asked(), 1, "again after half a second");
    for (sequence, payload) in [(20, SETS), (21, IDR_START), (22, IDR_END)] {
        scene.send(sequence, 90_000, sequence == 22, &hex(payload));
        scene.turn();
    }
    assert_eq!(nal_types(&scene.received()), [7, 8, 5]);
    scene.world.run(Duration::from_secs(2));
    assert_eq!(scene.asked(), 0, "answered");
}

#[test]
fn parameter_sets_before_an_inter_picture_begin_nothing() {
    let mut scene = Scene::new(Codec::H264, true);
    scene.turn();
    scene.asked();
    for (sequence, payload) in [(1, SETS), (2, SLICE)] {
        scene.send(sequence, 3000, sequence == 2, &hex(payload));
        scene.turn();
    }
    for sequence in 3..20 {
        scene.send(sequence, 3000 * u32::from(sequence), true, &hex(SLICE));
        scene.world.run(Duration::from_millis(33));
    }
    let received = scene.received();
    assert!(nal_types(&received).iter().all(|kind| [7, 8].contains(kind)), "{received:?}");
    assert!(scene.asked() >= 1, "the request is made again");
    for (sequence, payload) in [(20, SETS), (21, IDR_START), (22, IDR_END), (23, SLICE)] {
        scene.send(sequence, 90_000 + u32::from(sequence / 23) * 3000, true, &hex(payload));
        scene.turn();
    }
    assert_eq!(nal_types(&scene.received()), [7, 8, 5, 1]);
    // Who follows the stream is not thrown off by sets that are repeated before inter pictures.
    for (sequence, payload) in [(24, SETS), (25, SLICE), (26, SLICE)] {
        scene.send(sequence, 99_000 + u32::from(sequence / 26) * 3000, true, &hex(payload));
        scene.turn();
    }
    assert_eq!(nal_types(&scene.received()), [7, 8, 1, 1]);
}

#[test]
fn a_sequence_header_before_an_inter_frame_of_av1_is_no_key_frame() {
    let mut scene = Scene::new(Codec::Av1, true);
    scene.turn();
    scene.asked();
    let repeated = hex(&format!("20 0c 08 0000002cd59f3fddaf9901 30 30{}", "55".repeat(40)));
    for sequence in 1..20 {
        scene.send(sequence, 3000 * u32::from(sequence), true, &repeated);
        scene.world.run(Duration::from_millis(33));
    }
    assert_eq!(scene.received(), []);
    assert_eq!(scene.asked(), 1, "again after half a second");
    let mut key = repeated.clone();
    key[0] |= 0x08;
    scene.send(20, 90_000, true, &key);
    scene.turn();
    assert_eq!(scene.received().len(), 1);
}
