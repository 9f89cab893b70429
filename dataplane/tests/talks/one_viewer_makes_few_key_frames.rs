//! A viewer that asks for key frames without end gets its share of them, and nobody else has
//! blurred pictures for it; who asks because it must is answered meanwhile.

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::ingress::key_frame_ledger::{KEY_FRAMES_PER_VIEWER, WINDOW};
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// Time between two checks, within that after which nothing is sent.
const CHECK_INTERVAL_MS: u64 = 10_000;

/// A camera that answers requests with a key frame, some time later.
struct Camera {
    client: Client,
    producer: ProducerConfig,
    sent: u16,
    key_frame_due: Option<u64>,
    /// When it was asked, milliseconds.
    asked: Vec<u64>,
    key_frames: Vec<u64>,
}

impl Camera {
    const ENCODING_MS: u64 = 50;

    fn new(world: &mut World) -> Self {
        let client = world.join(CORE);
        let producer = world.produce(&client, MediaKind::Video, &[1000]);
        let (asked, key_frames) = (Vec::new(), Vec::new());
        Camera { client, producer, sent: 0, key_frame_due: Some(0), asked, key_frames }
    }

    fn turn(&mut self, world: &World, ms: u64) {
        if ms.is_multiple_of(CHECK_INTERVAL_MS) {
            self.client.check(world, true);
        }
        if !ms.is_multiple_of(20) {
            return;
        }
        let key = self.key_frame_due.take_if(|due| ms >= *due).is_some();
        if key {
            self.key_frames.push(ms);
        }
        let sequence = self.sent;
        let timestamp = u32::from(sequence) * 1800;
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key };
        self.client.send_video(world, video);
        self.sent += 1;
    }

    fn listen(&mut self, world: &mut World, ms: u64) {
        for compound in self.client.receive(world).1 {
            for packet in rtcp::packets(&compound) {
                if matches!(packet, Ok(Packet::Pli { .. })) {
                    self.asked.push(ms);
                    self.key_frame_due.get_or_insert(ms + Self::ENCODING_MS);
                }
            }
        }
    }
}

/// Lets a camera and its viewers talk for some time.
fn run(
    world: &mut World,
    camera: &mut Camera,
    ms: std::ops::Range<u64>,
    mut also: impl FnMut(&mut World, u64),
) {
    for at in ms {
        camera.turn(world, at);
        also(world, at);
        world.turn();
        camera.listen(world, at);
    }
}

fn pli(world: &World, viewer: &mut Client, consumer: &ConsumerConfig) {
    viewer.send_rtcp(world, |writer| writer.pli(9, consumer.ssrc).unwrap());
}

#[test]
fn a_viewer_that_asks_without_end_has_its_share() {
    let mut world = World::new(1);
    let mut camera = Camera::new(&mut world);
    let mut bad = world.join(CORE);
    let mut good = world.join(CORE);
    let of_bad = world.consume(&bad, &camera.producer);
    let of_good = world.consume(&good, &camera.producer);
    let seconds = 60;
    let mut answered = 0;
    run(&mut world, &mut camera, 0..seconds * 1000, |world, at| {
        if at.is_multiple_of(CHECK_INTERVAL_MS) {
            [&bad, &good].into_iter().for_each(|viewer| viewer.check(world, true));
        }
        if at % 30 == 0 {
            pli(world, &mut bad, &of_bad);
        }
        if at % 20_000 == 15_000 {
            pli(world, &mut good, &of_good);
            answered += 1;
        }
        bad.raw(world);
        good.raw(world);
    });
    let windows = seconds / WINDOW.as_secs();
    let most = windows * KEY_FRAMES_PER_VIEWER as u64 + answered + 1;
    assert!((camera.asked.len() as u64) <= most, "{} requests", camera.asked.len());
    assert!(world.core(CORE).stats().drops.of(DropReason::KeyFrameBudget) > 100);
    // Who asked because it must was answered at once.
    for asked in (15_000..60_000).step_by(20_000) {
        let next = camera.key_frames.iter().find(|&&at| at >= asked);
        let next = next.expect("the camera hears of it");
        assert!(next - asked <= 500, "asked at {asked}, answered at {next}");
    }
}

#[test]
fn coming_and_going_gives_no_more() {
    let mut world = World::new(1);
    let mut camera = Camera::new(&mut world);
    let bad = world.join(CORE);
    let mut consumer = world.consume(&bad, &camera.producer);
    run(&mut world, &mut camera, 0..30_000, |world, at| {
        if at.is_multiple_of(CHECK_INTERVAL_MS) {
            bad.check(world, true);
        }
        match at % 300 {
            // A consumer more or less, a pause more or less, a request of signaling.
            0 => {
                world.command(CORE, Command::CloseConsumer(consumer.id));
                consumer = ConsumerConfig { id: ConsumerId(world.id()), ..consumer.clone() };
                let config = Box::new(consumer.clone());
                world.command(CORE, Command::CreateConsumer(config));
            }
            100 => world.command(CORE, Command::PauseConsumer(consumer.id)),
            150 => world.command(CORE, Command::ResumeConsumer(consumer.id)),
            250 => world.command(CORE, Command::RequestKeyFrame(consumer.id)),
            _ => {}
        }
        bad.raw(world);
    });
    let caused = camera.key_frames.len();
    assert!(caused <= 4 * KEY_FRAMES_PER_VIEWER, "{caused} key frames in 30 s");
}

#[test]
fn a_crowd_that_joins_is_served() {
    let mut world = World::new(1);
    let mut camera = Camera::new(&mut world);
    run(&mut world, &mut camera, 0..1_000, |_, _| {});
    let mut viewers: Vec<Client> = (0..40).map(|_| world.join(CORE)).collect();
    for viewer in &viewers {
        world.consume(viewer, &camera.producer);
    }
    run(&mut world, &mut camera, 1_000..2_000, |_, _| {});
    for viewer in &mut viewers {
        assert!(!viewer.media(&mut world).is_empty());
    }
}
