//! FIR commands are numbered (RFC 5104 section 4.3.1): a client repeats one until the key frame has
//! arrived, and a repetition that crosses the key frame on the way must not cost another.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// A camera, and someone who looks at it and knows no PLI.
struct Room {
    world: World,
    camera: Client,
    viewer: Client,
    ssrc: u32,
    sent: u16,
    /// Milliseconds since the beginning.
    at: u64,
}

impl Room {
    fn new() -> Self {
        let mut world = World::new(1);
        let camera = world.join(CORE);
        let source = world.produce(&camera, MediaKind::Video, &[1000]);
        let viewer = world.join(CORE);
        let ssrc = world.consume(&viewer, &source).ssrc;
        let mut room = Room { world, camera, viewer, ssrc, sent: 0, at: 0 };
        room.frame(true);
        room.until(2_000);
        room.asked();
        room.at = 0;
        room
    }

    fn until(&mut self, at: u64) {
        while self.at < at {
            self.world.turn();
            self.at += 1;
        }
    }

    fn frame(&mut self, key: bool) {
        let sequence = self.sent;
        let timestamp = u32::from(sequence) * 3000;
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key };
        self.camera.send_video(&self.world, video);
        self.sent += 1;
    }

    fn fir(&mut self, sender: u32, number: u8) {
        let ssrc = self.ssrc;
        self.viewer.send_rtcp(&self.world, |writer| writer.fir(sender, ssrc, number).unwrap());
    }

    /// How often the camera was asked since the last look.
    fn asked(&mut self) -> usize {
        let control = self.camera.receive(&mut self.world).1;
        let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
        packets.filter(|packet| matches!(packet, Ok(Packet::Pli { .. }))).count()
    }
}

#[test]
fn a_request_is_answered_once_however_often_it_is_repeated() {
    let mut room = Room::new();
    room.fir(9, 200);
    room.until(40);
    room.fir(9, 200);
    room.until(80);
    assert_eq!(room.asked(), 1, "the repetition is the same request");
    room.frame(true);
    for at in (100..=380).step_by(40) {
        room.until(at);
        room.fir(9, 200);
    }
    room.until(900);
    assert_eq!(room.asked(), 0, "what was said before the key frame came");
}

#[test]
fn another_number_and_another_sender_ask_and_so_does_what_was_lost() {
    for (sender, number, at) in [(9, 8, 120), (10, 7, 120), (9, 7, 400)] {
        let mut room = Room::new();
        room.fir(9, 7);
        room.until(80);
        room.frame(true);
        room.until(100);
        assert_eq!(room.asked(), 1);
        room.until(at);
        room.fir(sender, number);
        // Less than 300 ms after the first is too soon.
        room.until(450);
        assert_eq!(room.asked(), 1, "{sender} {number}");
    }
}

#[test]
fn a_sender_that_knows_no_pli_gets_the_same_number_until_it_has_answered() {
    let mut world = World::new(1);
    let mut camera = world.join(CORE);
    let mut source = world.produce(&camera, MediaKind::Video, &[1]);
    world.command(CORE, Command::CloseProducer(source.id));
    source.id = ProducerId(77);
    source.feedback = Feedback { fir: true, ..Feedback::default() };
    world.command(CORE, Command::CreateProducer(Box::new(source.clone())));
    let viewer = world.join(CORE);
    world.consume(&viewer, &source);
    let mut numbers = Vec::new();
    for round in 0..3_u16 {
        world.run(Duration::from_millis(1_200));
        let control = camera.receive(&mut world).1;
        for packet in control.iter().flat_map(|compound| rtcp::packets(compound)) {
            if let Ok(Packet::Fir(fir)) = packet {
                numbers.extend(fir.entries().map(|entry| entry.request_number));
            }
        }
        let timestamp = u32::from(round) * 90_000;
        let video = Video {
            ssrc: 1,
            rid: None,
            sequence: round,
            timestamp,
            picture_id: round,
            key: round == 0,
        };
        camera.send_video(&world, video);
        if round == 0 {
            world.turn();
            let restart = [Command::PauseProducer(source.id), Command::ResumeProducer(source.id)];
            restart.into_iter().for_each(|command| world.command(CORE, command));
        }
    }
    assert_eq!(numbers, [1, 1, 1, 2, 2, 2, 2, 2], "repeated every 500 ms");
}
