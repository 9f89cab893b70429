//! A producer of the stage carries the packets of others, one at a time: who consumes it sees one
//! continuous stream, on whichever core.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::Packet;

use crate::world::*;

/// A world of two cores, two senders of which each is on a core of its own, and a viewer on each.
struct Scene {
    world: World,
    senders: [Client; 2],
    sources: [ProducerConfig; 2],
    stage: ProducerConfig,
    viewers: [Client; 2],
    sent: [u16; 2],
}

impl Scene {
    fn new(kind: MediaKind) -> Self {
        let mut world = World::new(2);
        let senders = [0, 1].map(|core| world.join(CoreId(core)));
        let sources = [0, 1].map(|one| world.produce(&senders[one], kind, &[1000 + one as u32]));
        let mut stage = ProducerConfig {
            id: ProducerId(world.id()),
            origin: Origin::Stage,
            home: CoreId(0),
            checkpoint: Default::default(),
            ..sources[0].clone()
        };
        stage.encodings.push(stage.encodings[0].clone());
        world.command(CoreId(0), Command::CreateProducer(Box::new(stage.clone())));
        // The second source reaches the stage's core.
        world.command(CoreId(0), Command::CreateProducer(Box::new(sources[1].clone())));
        let (producer, to) = (sources[1].id, CoreId(0));
        world.command(CoreId(1), Command::OpenPipe { producer, to });
        let viewers = [0, 1].map(|core| {
            let viewer = world.join(CoreId(core));
            world.consume(&viewer, &stage);
            viewer
        });
        Scene { world, senders, sources, stage, viewers, sent: [5_000, 40_000] }
    }

    fn put(&mut self, source: Option<usize>) {
        let source = source.map(|one| self.sources[one].id);
        self.world
            .command(CoreId(0), Command::SetStage { stage: self.stage.id, source, shown: None });
    }

    /// Sends a packet of one, and lets 20 ms pass.
    fn send(&mut self, one: usize, key: bool) {
        let sequence = self.sent[one];
        self.sent[one] += 1;
        let (ssrc, timestamp) = (1000 + one as u32, u32::from(sequence) * 3000);
        let picture_id = sequence & 0x7fff;
        let video = Video { ssrc, rid: None, sequence, timestamp, picture_id, key };
        self.senders[one].send_video(&self.world, video);
        self.world.run(Duration::from_millis(20));
    }

    /// What each viewer got, as the number of the sender's packet.
    fn got(&mut self) -> [Vec<Received>; 2] {
        let Scene { world, viewers: [first, second], .. } = self;
        [first.media(world), second.media(world)]
    }

    fn taken(&mut self) -> Vec<ProducerId> {
        let taken = |event: &Event| match event {
            Event::StageTaken { source, .. } => Some(*source),
            _ => None,
        };
        self.told(taken)
    }

    fn refused(&mut self) -> Vec<ProducerId> {
        let refused = |event: &Event| match event {
            Event::StageRefused { source, .. } => Some(*source),
            _ => None,
        };
        self.told(refused)
    }

    fn told(&mut self, of: impl Fn(&Event) -> Option<ProducerId>) -> Vec<ProducerId> {
        let found = self.world.events.iter().filter_map(of).collect();
        self.world.events.clear();
        found
    }

    fn is_asked_for_key_frame(&mut self, one: usize) -> bool {
        let (_, rtcp) = self.senders[one].receive(&mut self.world);
        let is_pli = |packet: &Packet<'_>| matches!(packet, Packet::Pli { .. });
        rtcp.iter().any(|bytes| {
            opencall_wire::rtcp::packets(bytes).flatten().any(|packet| is_pli(&packet))
        })
    }
}

fn assert_continuous(packets: &[Received]) {
    for pair in packets.windows(2) {
        let [before, after] = [&pair[0], &pair[1]];
        assert_eq!(after.header.sequence, before.header.sequence.wrapping_add(1));
        let later = after.header.timestamp.wrapping_sub(before.header.timestamp);
        assert!((1..90_000).contains(&later), "{later}");
        let picture =
            |packet: &Received| u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff;
        assert_eq!(picture(after), (picture(before) + 1) & 0x7fff);
    }
}

#[test]
fn a_picture_changes_with_a_key_frame_and_leaves_no_seam() {
    let mut scene = Scene::new(MediaKind::Video);
    scene.put(Some(0));
    scene.world.run(Duration::from_millis(20));
    assert!(scene.is_asked_for_key_frame(0), "at once");
    scene.send(0, false);
    assert!(scene.taken().is_empty());
    scene.send(0, true);
    assert_eq!(scene.taken(), [scene.sources[0].id]);
    scene.send(0, false);
    scene.put(Some(1));
    scene.world.run(Duration::from_millis(20));
    assert!(scene.is_asked_for_key_frame(1), "on another core, too");
    // Until it comes, the one before goes on.
    scene.send(1, false);
    scene.send(0, false);
    scene.send(1, true);
    assert_eq!(scene.taken(), [scene.sources[1].id]);
    scene.send(0, false);
    scene.send(1, false);
    let [here, there] = scene.got();
    for got in [&here, &there] {
        assert_eq!(got.len(), 5, "three of the first, two of the second");
        assert_continuous(got);
    }
    scene.put(None);
    scene.send(1, false);
    assert!(scene.got().iter().all(Vec::is_empty));
}

#[test]
fn a_voice_changes_with_the_next_packet() {
    let mut scene = Scene::new(MediaKind::Audio);
    scene.put(Some(0));
    scene.send(0, false);
    scene.put(Some(1));
    scene.send(0, false);
    scene.send(1, false);
    scene.send(0, false);
    scene.send(1, false);
    for got in scene.got() {
        let numbers: Vec<u16> = got.iter().map(|packet| packet.header.sequence).collect();
        assert_eq!(numbers.len(), 4);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
    }
}

#[test]
fn who_sends_no_key_frame_is_given_up() {
    let mut scene = Scene::new(MediaKind::Video);
    scene.put(Some(0));
    scene.send(0, true);
    scene.put(Some(1));
    scene.taken();
    for _ in 0..110 {
        scene.send(0, false);
    }
    assert_eq!(scene.refused(), [scene.sources[1].id]);
    scene.send(1, true);
    assert!(scene.taken().is_empty());
    let [here, there] = scene.got();
    assert_eq!([here.len(), there.len()], [111, 111]);
    assert_continuous(&here);
}

#[test]
fn a_source_that_closes_leaves_an_empty_stage() {
    let mut scene = Scene::new(MediaKind::Video);
    scene.put(Some(0));
    scene.send(0, true);
    scene.world.command(CoreId(0), Command::CloseProducer(scene.sources[0].id));
    scene.send(0, false);
    scene.put(Some(1));
    scene.send(1, true);
    scene.world.command(CoreId(0), Command::CloseProducer(scene.stage.id));
    scene.send(1, false);
    let [here, there] = scene.got();
    assert_eq!(here.len(), 2);
    assert_continuous(&here);
    assert_continuous(&there);
}

/// Sends 50 frames of two encodings, in a second: of 100 and of 1000 bytes.
fn send_a_second(world: &mut World, sender: &mut Client, sent: &mut u16) {
    for _ in 0..50 {
        for (ssrc, rid, len) in [(1000, b"r0", 100), (1001, b"r1", 1000)] {
            let (sequence, timestamp) = (*sent, u32::from(*sent) * 1800);
            let key = sequence.is_multiple_of(25);
            let picture_id = sequence;
            let video = Video { ssrc, rid: Some(rid), sequence, timestamp, picture_id, key };
            let mut payload = video.payload();
            payload.resize(len, 0x5a);
            sender.send_payload(world, video, &payload);
        }
        *sent += 1;
        world.run(Duration::from_millis(20));
    }
}

#[test]
fn what_a_source_takes_is_known_on_all_cores_when_it_begins() {
    let mut world = World::new(2);
    let mut sender = world.join(CoreId(0));
    let source = world.produce(&sender, MediaKind::Video, &[1000, 1001]);
    // Somebody at home takes it already, so that its rates have been measured.
    let other = world.join(CoreId(0));
    world.consume(&other, &source);
    let stage = ProducerConfig {
        id: ProducerId(world.id()),
        origin: Origin::Stage,
        checkpoint: Default::default(),
        ..source.clone()
    };
    world.command(CoreId(0), Command::CreateProducer(Box::new(stage.clone())));
    // 45 kbit/s fit, 400 and more do not.
    let mut viewers = [0, 1].map(|core| world.join_with_budget(CoreId(core), 200_000));
    viewers.iter().for_each(|viewer| drop(world.consume(viewer, &stage)));
    let mut sent = 0;
    for _ in 0..3 {
        send_a_second(&mut world, &mut sender, &mut sent);
    }
    let set = Command::SetStage { stage: stage.id, source: Some(source.id), shown: None };
    world.command(CoreId(0), set);
    send_a_second(&mut world, &mut sender, &mut sent);
    for (core, viewer) in viewers.iter_mut().enumerate() {
        let got = viewer.media(&mut world);
        assert!(got.len() > 20, "core {core}: {}", got.len());
        let large = got.iter().filter(|packet| packet.payload.len() > 500).count();
        assert_eq!(large, 0, "core {core}: of {}", got.len());
    }
}

#[test]
fn a_stage_whose_core_has_ended_goes_on_where_it_is_watched() {
    let mut scene = Scene::new(MediaKind::Video);
    scene.put(Some(1));
    scene.world.run(Duration::from_millis(20));
    scene.send(1, true);
    scene.send(1, false);
    assert_eq!(scene.taken(), [scene.sources[1].id]);
    scene.is_asked_for_key_frame(1);
    let (stage, source) = (scene.stage.id, Some(scene.sources[1].id));
    scene.world.command(CoreId(0), Command::CloseProducer(stage));
    scene.world.command(CoreId(1), Command::MoveStage { stage, home: CoreId(1) });
    scene.world.command(CoreId(1), Command::MoveStage { stage, home: CoreId(1) });
    scene.world.command(CoreId(1), Command::SetStage { stage, source, shown: None });
    // Not so soon after the last one.
    scene.world.run(Duration::from_millis(800));
    assert!(scene.is_asked_for_key_frame(1), "to begin with");
    scene.send(1, false);
    assert!(scene.taken().is_empty());
    scene.send(1, true);
    scene.send(1, false);
    assert_eq!(scene.taken(), [scene.sources[1].id]);
    let [_, there] = scene.got();
    assert_eq!(there.len(), 4, "two from there, two from here");
    assert_continuous(&there);
    // What has a transport is moved by nobody.
    let stage = scene.sources[1].id;
    scene.world.command(CoreId(1), Command::MoveStage { stage, home: CoreId(0) });
    scene.send(1, false);
    assert_eq!(scene.got()[1].len(), 1);
}

#[test]
fn who_is_on_stage_stays_there_when_its_core_dies_while_another_is_awaited() {
    let mut scene = Scene::new(MediaKind::Video);
    scene.put(Some(0));
    scene.world.run(Duration::from_millis(20));
    scene.send(0, true);
    let [first, second] = [0, 1].map(|one| Some(scene.sources[one].id));
    assert_eq!(scene.taken(), first.as_slice());
    let set = Command::SetStage { stage: scene.stage.id, source: second, shown: first };
    scene.world.command(CoreId(0), set);
    scene.send(0, false);
    scene.world.kill(CoreId(0), 7);
    scene.got();
    scene.taken();
    scene.send(0, true);
    scene.send(0, false);
    scene.got().iter().for_each(|got| assert_eq!(got.len(), 2, "of who was there"));
    for _ in 0..110 {
        scene.send(0, false);
    }
    assert_eq!(scene.refused(), second.as_slice(), "nothing came of it");
    scene.got();
    let stays = Command::SetStage { stage: scene.stage.id, source: first, shown: first };
    scene.world.command(CoreId(0), stays);
    scene.world.kill(CoreId(0), 8);
    scene.send(0, true);
    scene.send(1, true);
    let got = scene.got();
    got.iter().for_each(|got| assert_eq!(got.len(), 1, "nobody who was refused"));
    got.iter().for_each(|got| assert_continuous(got));
}
