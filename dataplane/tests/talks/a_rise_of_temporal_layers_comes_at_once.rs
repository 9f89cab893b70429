//! A client that wants fewer pictures and then all of them again has all within a second, with
//! every mode that browsers produce, and never one that refers to a picture it did not get.

use std::collections::HashSet;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::header::OutgoingHeader;

use crate::bits::Bits;
use crate::world::*;

/// A template of a dependency structure: spatial and temporal layer, indications for the decode
/// targets, frames referred to.
type Template = (u8, u8, &'static str, &'static [u16]);

/// A mode (AV1 RTP, appendix): its templates, and which of them the frames of a period have. The
/// first templates are those of the key picture, one for each spatial layer.
struct Mode {
    name: &'static str,
    targets: u32,
    templates: &'static [Template],
    key: &'static [usize],
    period: &'static [&'static [usize]],
}

/// As libwebrtc describes them.
const MODES: [Mode; 4] = [
    Mode {
        name: "L1T2",
        targets: 2,
        templates: &[(0, 0, "SS", &[]), (0, 0, "SS", &[2]), (0, 1, "-D", &[1])],
        key: &[0],
        period: &[&[2], &[1]],
    },
    Mode {
        name: "L1T3",
        targets: 3,
        templates: &[
            (0, 0, "SSS", &[]),
            (0, 0, "SSS", &[4]),
            (0, 1, "-DS", &[2]),
            (0, 2, "--D", &[1]),
        ],
        key: &[0],
        period: &[&[3], &[2], &[3], &[1]],
    },
    Mode {
        name: "L2T2",
        targets: 4,
        templates: &[
            (0, 0, "SSSS", &[]),
            (0, 0, "SSRR", &[4]),
            (0, 1, "-D-R", &[2]),
            (1, 0, "--SS", &[1]),
            (1, 0, "--SS", &[4, 1]),
            (1, 1, "---D", &[2, 1]),
        ],
        key: &[0, 3],
        period: &[&[2, 5], &[1, 4]],
    },
    Mode {
        name: "L2T2_KEY",
        targets: 4,
        templates: &[
            (0, 0, "SSSS", &[]),
            (0, 0, "SS--", &[4]),
            (0, 1, "-D--", &[2]),
            (1, 0, "--SS", &[1]),
            (1, 0, "--SS", &[4]),
            (1, 1, "---D", &[2]),
        ],
        key: &[0, 3],
        period: &[&[2, 5], &[1, 4]],
    },
];

impl Mode {
    /// The descriptor of a frame of one packet; the first brings the structure.
    fn descriptor(&self, template: usize, frame: u16, structure: bool) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(0b11, 2).put(template as u32, 6).put(frame.into(), 16);
        if structure {
            bits.put(0b10000, 5).put(0, 6).put(self.targets - 1, 5);
            for pair in self.templates.windows(2) {
                let next = match (pair[1].0 - pair[0].0, pair[1].1 == pair[0].1) {
                    (0, true) => 0,
                    (0, false) => 1,
                    _ => 2,
                };
                bits.put(next, 2);
            }
            bits.put(3, 2);
            for indication in self.templates.iter().flat_map(|template| template.2.chars()) {
                bits.put("-DSR".find(indication).unwrap() as u32, 2);
            }
            for template in self.templates {
                for &reference in template.3 {
                    bits.put(1, 1).put(u32::from(reference) - 1, 4);
                }
                bits.put(0, 1);
            }
            // No chains: ns(targets + 1) of zero has as few bits as that takes; no resolutions.
            bits.put(0, (self.targets + 1).ilog2()).put(0, 1);
        }
        bits.bytes()
    }
}

/// Frames of each second that a client gets who wants temporal layer 0 in the seconds 2 and 3, and
/// all in the others; and whether all could be decoded.
fn frames_per_second(mode: &Mode) -> Vec<usize> {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let mut source = world.produce(&speaker, MediaKind::Video, &[1000]);
    world.command(CoreId(0), Command::CloseProducer(source.id));
    source.payload_types[0].codec = Codec::Av1;
    world.command(CoreId(0), Command::CreateProducer(Box::new(source.clone())));
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let (mut frame, mut sequence, mut got) = (0_u16, 0_u16, HashSet::new());
    let mut counts = Vec::new();
    for picture in 0..7 * 16_usize {
        let second = picture / 16;
        if picture % 16 == 5 && [2, 4].contains(&second) {
            let temporal = (second == 2).then_some(0).or(Some(2));
            let layers = Layers { spatial: 0, temporal };
            let consumer = consumer.id;
            world.command(CoreId(0), Command::SetPreferredLayers { consumer, layers });
        }
        let templates = match picture {
            0 => mode.key,
            n => mode.period[(n - 1) % mode.period.len()],
        };
        for (spatial, &template) in templates.iter().enumerate() {
            let descriptor = mode.descriptor(template, frame, picture == 0 && spatial == 0);
            speaker.extension = Some((DEPENDENCY_DESCRIPTOR, descriptor));
            let fields = OutgoingHeader {
                marker: spatial + 1 == templates.len(),
                payload_type: SENT_PT,
                sequence,
                timestamp: picture as u32 * 5625,
                ssrc: 1000,
            };
            let payload = [0x10, 0x30, (frame >> 8) as u8, frame as u8, template as u8];
            let packet = speaker.sealed(fields, None, &payload);
            world.push(speaker.address, CoreId(0), &packet);
            (frame, sequence) = (frame + 1, sequence + 1);
        }
        world.run(Duration::from_micros(62_500));
        counts.resize(second + 1, 0);
        let media = hearer.media(&mut world);
        for packet in &media {
            let number = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
            let references = mode.templates[usize::from(packet.payload[4])].3;
            let known = references.iter().all(|back| got.contains(&(number - back)));
            assert!(known, "{}: {number} refers to what the client lacks", mode.name);
            got.insert(number);
        }
        counts[second] += usize::from(!media.is_empty());
    }
    counts
}

#[test]
fn all_pictures_are_back_at_once_in_every_mode_with_a_dependency_descriptor() {
    for mode in &MODES {
        let counts = frames_per_second(mode);
        let lowest = 16 / mode.period.len();
        assert_eq!((counts[1], counts[3]), (16, lowest), "{}: {counts:?}", mode.name);
        assert!(counts[4] > 12 - mode.period.len(), "{}: {counts:?}", mode.name);
        assert_eq!(counts[5..], [16, 16], "{}", mode.name);
    }
}

#[test]
fn a_layer_that_nothing_lets_in_is_let_in_by_a_key_frame_after_some_seconds() {
    // AV1 without a descriptor: the layer stands in the OBU's extension, references nowhere.
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let mut source = world.produce(&speaker, MediaKind::Video, &[1000]);
    world.command(CoreId(0), Command::CloseProducer(source.id));
    source.payload_types[0].codec = Codec::Av1;
    world.command(CoreId(0), Command::CreateProducer(Box::new(source.clone())));
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let mut key = true;
    let mut full = None;
    for sequence in 0..300_u16 {
        if [30, 60].contains(&sequence) {
            let layers = Layers { spatial: 0, temporal: (sequence == 30).then_some(0) };
            let consumer = consumer.id;
            world.command(CoreId(0), Command::SetPreferredLayers { consumer, layers });
        }
        let temporal = if key { 0 } else { sequence as u8 % 2 };
        let first = if std::mem::take(&mut key) { 0x18 } else { 0x10 };
        let fields = OutgoingHeader {
            marker: true,
            payload_type: SENT_PT,
            sequence,
            timestamp: u32::from(sequence) * 3000,
            ssrc: 1000,
        };
        let packet = speaker.sealed(fields, None, &[first, 0x34, temporal << 5, 1, 2]);
        world.push(speaker.address, CoreId(0), &packet);
        world.run(Duration::from_millis(33));
        let (_, control) = speaker.receive(&mut world);
        let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
        key = packets.filter(|packet| matches!(packet, Ok(Packet::Pli { .. }))).count() > 0;
        let got = hearer.media(&mut world);
        if sequence > 60 && temporal == 1 && !got.is_empty() {
            full.get_or_insert(sequence);
        }
    }
    assert!(full.is_some_and(|sequence| sequence < 60 + 100), "{full:?}");
}
