//! SVC: of one encoding with several spatial layers inside a client gets those it wants, on any
//! core, as one stream without a gap in which every picture can be decoded and ends.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::dependency_descriptor::DependencyTracker;
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::rtp::vp9::Vp9Descriptor;

use crate::scalability::{Between, Layer, Mode, modes};
use crate::world::*;

/// How a stream tells of its layers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    /// By dependency descriptors, of payloads that nobody can read.
    ByDescriptors,
    /// By VP9's own descriptors: in flexible mode, or not.
    ByVp9 { flexible: bool },
}

/// Milliseconds between two pictures.
const PICTURE_MS: u64 = 40;

/// A sender that makes a key picture when asked, and one client.
struct Call {
    world: World,
    mode: Mode,
    told: Told,
    speaker: Client,
    hearer: Client,
    consumer: ConsumerConfig,
    picture: u16,
    after_key: usize,
    frame: u16,
    sequence: u16,
    key_pictures: usize,
    /// Every frame sent: its layer, and what it refers to.
    frames: HashMap<u16, (Layer, Vec<u16>)>,
    tracker: DependencyTracker,
    got: HashSet<u16>,
    /// Highest number received, and bytes of all.
    highest: Option<u16>,
    bytes: usize,
    active_targets: Option<u32>,
}

/// What a client got of one picture: spatial layers and temporal layer.
type Seen = (Vec<u8>, u8);

impl Call {
    fn new(mode: Mode, told: Told, core: CoreId) -> Self {
        let mut world = World::new(2);
        let speaker = world.join(CoreId(0));
        let mut source = world.produce(&speaker, MediaKind::Video, &[1000]);
        world.command(CoreId(0), Command::CloseProducer(source.id));
        let is_vp9 = told != Told::ByDescriptors;
        source.payload_types[0].codec = if is_vp9 { Codec::Vp9 } else { Codec::Av1 };
        world.command(CoreId(0), Command::CreateProducer(Box::new(source.clone())));
        let hearer = world.join(core);
        let consumer = world.consume(&hearer, &source);
        world.run(Duration::from_millis(20));
        Call {
            world,
            mode,
            told,
            speaker,
            hearer,
            consumer,
            picture: 300,
            after_key: 0,
            frame: 65_500,
            sequence: 65_000,
            key_pictures: 0,
            frames: HashMap::new(),
            tracker: DependencyTracker::default(),
            got: HashSet::new(),
            highest: None,
            bytes: 0,
            active_targets: None,
        }
    }

    fn prefer(&mut self, spatial: u8, temporal: Option<u8>) {
        let layers = Layers { spatial, temporal };
        let consumer = self.consumer.id;
        let core = self.hearer.core;
        self.world.command(core, Command::SetPreferredLayers { consumer, layers });
    }

    /// Sends a picture, each frame in two packets, and returns what the client got of it.
    fn picture(&mut self) -> Seen {
        let layers = self.mode.picture(self.after_key);
        self.key_pictures += usize::from(self.after_key == 0);
        for layer in &layers {
            self.frames.insert(self.frame, (*layer, self.mode.refers(layer, self.frame)));
            self.send(layer, true, layer.spatial + 1 == self.mode.spatial);
            self.send(layer, false, layer.spatial + 1 == self.mode.spatial);
            self.frame = self.frame.wrapping_add(1);
        }
        self.picture += 1;
        self.world.run(Duration::from_millis(PICTURE_MS));
        self.after_key = if self.is_asked() { 0 } else { self.after_key + 1 };
        self.received()
    }

    fn send(&mut self, layer: &Layer, first: bool, is_last: bool) {
        let ends = (first, !first);
        let body = [(self.frame >> 8) as u8, self.frame as u8, 0x5a, 0x5a];
        let body = [&body[..], &vec![layer.spatial; 200 << layer.spatial]].concat();
        let payload = match self.told {
            Told::ByDescriptors => {
                let descriptor = self.mode.descriptor(layer, self.frame, first, !first);
                self.speaker.extension = Some((DEPENDENCY_DESCRIPTOR, descriptor));
                body
            }
            Told::ByVp9 { flexible } => {
                [self.mode.vp9(layer, self.picture, flexible, ends), body].concat()
            }
        };
        let fields = OutgoingHeader {
            marker: is_last && !first,
            payload_type: SENT_PT,
            sequence: self.sequence,
            timestamp: u32::from(self.picture) * 3600,
            ssrc: 1000,
        };
        let packet = self.speaker.sealed(fields, None, &payload);
        self.world.push(self.speaker.address, CoreId(0), &packet);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Whether a key picture was asked for since the last call.
    fn is_asked(&mut self) -> bool {
        let (_, control) = self.speaker.receive(&mut self.world);
        let mut packets = control.iter().flat_map(|compound| rtcp::packets(compound));
        packets.any(|packet| matches!(packet, Ok(Packet::Pli { .. })))
    }

    /// Takes what the client got, and checks it.
    fn received(&mut self) -> Seen {
        let media = self.hearer.media(&mut self.world);
        let (mut spatial, mut temporal) = (Vec::new(), 0);
        let name = format!("{:?} {:?}", self.mode, self.told);
        for (index, packet) in media.iter().enumerate() {
            let next = self.highest.map_or(packet.header.sequence, |n| n.wrapping_add(1));
            assert_eq!(packet.header.sequence, next, "{name}: a gap");
            self.highest = Some(next);
            self.bytes += packet.payload.len();
            let last = index + 1 == media.len();
            assert_eq!(packet.header.marker, last, "{name}: {index} of {}", media.len());
            let frame = self.frame_of(packet);
            let (layer, refers) = &self.frames[&frame];
            for back in refers {
                assert!(self.got.contains(back), "{name}: {frame} refers to {back}");
            }
            self.got.insert(frame);
            temporal = layer.temporal;
            if spatial.last() != Some(&layer.spatial) {
                spatial.push(layer.spatial);
            }
        }
        (spatial, temporal)
    }

    fn frame_of(&mut self, packet: &Received) -> u16 {
        let body = match self.told {
            Told::ByDescriptors => {
                let descriptor = packet.descriptor.as_ref().expect("it is forwarded");
                let found = self.tracker.read(descriptor).expect("it can be read");
                self.active_targets = found.active_decode_targets.or(self.active_targets);
                let number = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
                assert_eq!(found.frame_number, number, "frame numbers stay");
                return number;
            }
            Told::ByVp9 { .. } => {
                let descriptor = Vp9Descriptor::parse(&packet.payload).unwrap();
                &packet.payload[usize::from(descriptor.len)..]
            }
        };
        u16::from_be_bytes([body[0], body[1]])
    }

    /// The best that the client gets after a change of mind and some pictures.
    fn settles(&mut self, spatial: u8, temporal: Option<u8>) -> (u8, usize) {
        self.prefer(spatial, temporal);
        let before = self.key_pictures;
        for _ in 0..16 {
            self.picture();
        }
        let asked = self.key_pictures - before;
        let seen: Vec<Seen> = (0..8).map(|_| self.picture()).collect();
        let seen: Vec<u8> = seen.iter().filter_map(|(layers, _)| layers.last().copied()).collect();
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{:?}: {seen:?}", self.mode);
        (seen[0], asked)
    }

    /// The layers that control was told of, newest last.
    fn told(&mut self) -> Vec<(u8, Option<u8>)> {
        let told = self.world.events.drain(..).filter_map(|event| match event {
            Event::LayersChanged { layers, .. } => layers,
            _ => None,
        });
        told.map(|layers| (layers.spatial, layers.temporal)).collect()
    }
}

const ALL_TOLD: [Told; 3] =
    [Told::ByDescriptors, Told::ByVp9 { flexible: true }, Told::ByVp9 { flexible: false }];

fn walk_through(mode: Mode, told: Told, core: CoreId) {
    let mut call = Call::new(mode, told, core);
    let top = mode.spatial - 1;
    let highest = Some(mode.temporal - 1);
    let name = format!("{mode:?} {told:?}");
    assert_eq!(call.settles(top, None).0, top, "{name}");
    assert_eq!(call.told().last(), Some(&(top, highest)), "{name}");
    call.bytes = 0;
    (0..24).for_each(|_| drop(call.picture()));
    let whole = call.bytes;
    let (layer, asked) = call.settles(0, None);
    let is_nested = mode.between == Between::Always;
    assert_eq!((layer, asked), (0, usize::from(!is_nested)), "{name}: down");
    call.bytes = 0;
    (0..24).for_each(|_| drop(call.picture()));
    assert!(call.bytes * 5 < whole * 3, "{name}: {} of {whole} bytes", call.bytes);
    assert_eq!(call.told().last(), Some(&(0, highest)), "{name}");
    if told == Told::ByDescriptors {
        let all_of_lowest = (1 << mode.temporal) - 1;
        assert_eq!(call.active_targets, Some(all_of_lowest), "{name}");
    }
    assert_eq!(call.settles(top, None), (top, 1), "{name}: up");
    assert_eq!(call.told().last(), Some(&(top, highest)), "{name}");
    if told == Told::ByDescriptors {
        let targets = u32::from(mode.spatial * mode.temporal);
        let all = (1 << targets) - 1;
        let lower = (1 << (targets - u32::from(mode.temporal))) - 1;
        // With `S` it rose through the lower ones, and is told that they go.
        let lost = if mode.between == Between::Never { lower } else { 0 };
        assert_eq!(call.active_targets, Some(all & !lost), "{name}: all again");
    }
}

#[test]
fn a_client_walks_through_the_layers_of_every_mode() {
    for mode in modes() {
        for told in ALL_TOLD {
            walk_through(mode, told, CoreId(0));
        }
    }
}

#[test]
fn on_another_core_the_same() {
    for mode in modes().filter(|mode| mode.spatial == 3 && mode.temporal == 3) {
        for told in ALL_TOLD {
            walk_through(mode, told, CoreId(1));
        }
    }
}

#[test]
fn fewer_temporal_layers_of_a_lower_spatial_one() {
    for mode in modes().filter(|mode| mode.spatial == 3 && mode.temporal == 3) {
        for told in ALL_TOLD {
            let mut call = Call::new(mode, told, CoreId(0));
            assert_eq!(call.settles(1, Some(0)).0, 1, "{mode:?} {told:?}");
            let seen: Vec<Seen> = (0..16).map(|_| call.picture()).collect();
            let came = seen.iter().filter(|(layers, _)| !layers.is_empty());
            assert!(came.clone().all(|&(_, temporal)| temporal == 0), "{mode:?} {told:?}");
            assert_eq!(came.count(), 4, "{mode:?} {told:?}");
            assert_eq!(call.told().last(), Some(&(1, Some(0))));
        }
    }
}

#[test]
fn what_was_left_out_is_not_sent_again() {
    let mode = Mode { spatial: 3, temporal: 1, between: Between::Always };
    let mut call = Call::new(mode, Told::ByDescriptors, CoreId(0));
    call.settles(0, None);
    // Each number that went out, and those round it: the client asks for all.
    let highest = call.highest.unwrap();
    for number in (0..60).map(|back| highest.wrapping_add(10).wrapping_sub(back)) {
        let media = call.consumer.ssrc;
        call.hearer.send_rtcp(&call.world, |writer| {
            writer.nack(1, media, std::iter::once(number)).unwrap();
        });
        call.world.run(Duration::from_millis(2));
    }
    let again = call.hearer.media(&mut call.world);
    assert!(again.len() >= 40, "{}", again.len());
    for packet in &again {
        let original = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
        let (layer, _) = &call.frames[&original];
        assert_eq!(Some(packet.header.ssrc), call.consumer.rtx_ssrc);
        assert_eq!(layer.spatial, 0, "{original}");
        assert!(call.got.contains(&original));
        // The last packet of each frame ends a picture here, also when it is sent again.
        let tracker = &mut call.tracker;
        let found = tracker.read(packet.descriptor.as_ref().unwrap()).unwrap();
        assert_eq!(packet.header.marker, found.ends_frame);
    }
}

#[test]
fn the_budget_gives_as_many_layers_as_fit() {
    let mode = Mode { spatial: 3, temporal: 1, between: Between::AtKeys };
    let mut call = Call::new(mode, Told::ByDescriptors, CoreId(0));
    call.settles(2, None);
    // 25 pictures a second of two packets: 200, 400 and 800 bytes of payload.
    for (bps, layer) in [(250_000, 1), (130_000, 0), (1_000_000, 2)] {
        let transport = call.hearer.transport;
        let command = Command::SetOutgoingBitrate { transport, bitrate_bps: bps };
        call.world.command(CoreId(0), command);
        for _ in 0..100 {
            call.picture();
        }
        let (layers, _) = call.picture();
        assert_eq!(layers.last(), Some(&layer), "{bps} bit/s: {:?}", call.told());
    }
}
