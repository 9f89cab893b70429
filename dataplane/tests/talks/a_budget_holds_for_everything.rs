//! A client is sent what its budget allows, whatever the sources are called and however many layers
//! they have: voices whole, as many videos as fit whole, and no more than a tenth above.

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

const CORE: CoreId = CoreId(0);
const BUDGET_BPS: u32 = 3_000_000;

/// One who sends packets of equal length at equal distances.
struct Source {
    client: Client,
    producer: ProducerConfig,
    ssrc: u32,
    payload_len: usize,
    /// Packets per second.
    rate: u64,
    sent: u16,
}

impl Source {
    fn new(world: &mut World, kind: MediaKind, ssrc: u32, payload_len: usize, rate: u64) -> Self {
        let client = world.join(CORE);
        let producer = world.produce(&client, kind, &[ssrc]);
        Source { client, producer, ssrc, payload_len, rate, sent: 0 }
    }

    /// Sends what is due in the millisecond `ms`.
    fn send(&mut self, world: &World, ms: u64) {
        let due = (ms + 1) * self.rate / 1000;
        while u64::from(self.sent) < due {
            let sequence = self.sent;
            let timestamp = sequence.into();
            let picture_id = sequence;
            let key = sequence.is_multiple_of(64);
            let video = Video { ssrc: self.ssrc, rid: None, sequence, timestamp, picture_id, key };
            let mut payload = video.payload();
            payload.resize(self.payload_len, 0x5a);
            self.client.send_payload(world, video, &payload);
            self.sent += 1;
        }
    }
}

/// What came to a viewer in each millisecond.
#[derive(Default)]
struct Heard {
    bytes: Vec<usize>,
    /// MIDs of the packets of media.
    mids: Vec<Vec<Vec<u8>>>,
}

impl Heard {
    fn listen(&mut self, world: &mut World, viewer: &mut Client) {
        self.bytes.push(viewer.peek(world).iter().map(Vec::len).sum());
        self.mids.push(viewer.media(world).into_iter().map(|packet| packet.mid).collect());
    }

    /// Packets of a consumer from the millisecond `from` on.
    fn packets(&self, consumer: &ConsumerConfig, from: usize) -> u64 {
        let all = self.mids[from..].iter().flatten();
        all.filter(|mid| mid.as_slice() == consumer.mid.as_slice()).count() as u64
    }

    /// Most bits per second in any window of two seconds.
    fn most_bps(&self) -> f64 {
        let windows = self.bytes.windows(2_000).map(|window| window.iter().sum::<usize>());
        windows.max().unwrap() as f64 * 8.0 / 2.0
    }
}

#[test]
fn a_viewer_of_much_gets_some_of_it_whole_and_a_tenth_above_its_budget_at_most() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, BUDGET_BPS);
    // Six videos of one encoding, 2.5 Mbit/s and 500 kbit/s in turns; a voice; a video that says
    // that it is Opus: 13 Mbit/s in all.
    let mut sources: Vec<Source> = (0..6)
        .map(|index| {
            let rate = if index % 2 == 0 { 260 } else { 52 };
            Source::new(&mut world, MediaKind::Video, 1000 + 10 * index, 1150, rate)
        })
        .collect();
    sources.push(Source::new(&mut world, MediaKind::Audio, 2000, 80, 50));
    sources.push(Source::new(&mut world, MediaKind::Audio, 3000, 1150, 400));
    let consumers: Vec<ConsumerConfig> =
        sources.iter().map(|source| world.consume(&viewer, &source.producer)).collect();

    let mut heard = Heard::default();
    for ms in 0..20_000 {
        for source in &mut sources {
            source.send(&world, ms);
        }
        world.turn();
        heard.listen(&mut world, &mut viewer);
    }
    let percent = heard.most_bps() / f64::from(BUDGET_BPS) * 100.0;
    assert!(percent <= 110.0, "{percent:.1} % of the budget");
    assert!(percent > 50.0, "{percent:.1} %: what fits is sent");

    // From the fifth second on everything is settled.
    let share = |index: usize| {
        let due = sources[index].rate * 15;
        heard.packets(&consumers[index], 5_000) as f64 / due as f64
    };
    assert!(share(6) > 0.999, "the voice is whole: {:.3}", share(6));
    for index in 0..6 {
        let share = share(index);
        assert!(share > 0.99 || share == 0.0, "video {index} is whole or not there: {share:.3}");
    }
    let whole = (0..6).filter(|&index| share(index) > 0.99).count();
    assert!(whole >= 2, "{whole} videos");
    let drops = &world.core(CORE).stats().drops;
    assert!(drops.of(DropReason::IngressRate) > 0, "that was no voice");
}

#[test]
fn until_the_rates_are_known_the_cap_holds() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, BUDGET_BPS);
    let mut source = Source::new(&mut world, MediaKind::Video, 1000, 1150, 2_000);
    let mut voice = Source::new(&mut world, MediaKind::Audio, 2000, 80, 50);
    world.consume(&viewer, &source.producer);
    let consumer = world.consume(&viewer, &voice.producer);
    let mut heard = Heard::default();
    for ms in 0..4_000 {
        source.send(&world, ms);
        voice.send(&world, ms);
        world.turn();
        heard.listen(&mut world, &mut viewer);
    }
    assert!(heard.most_bps() <= 1.1 * f64::from(BUDGET_BPS), "{}", heard.most_bps());
    assert_eq!(heard.packets(&consumer, 0), 200, "the voice has lost nothing");
    let drops = &world.core(CORE).stats().drops;
    assert!(drops.of(DropReason::Paced) + drops.of(DropReason::EgressRate) > 0);
}

#[test]
fn who_was_left_out_comes_back_with_a_key_frame_when_there_is_room() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, BUDGET_BPS);
    let mut sources: Vec<Source> = (0..2)
        .map(|index| Source::new(&mut world, MediaKind::Video, 1000 + 10 * index, 1150, 200))
        .collect();
    let consumers: Vec<ConsumerConfig> =
        sources.iter().map(|source| world.consume(&viewer, &source.producer)).collect();
    let mut heard = Heard::default();
    for ms in 0..20_000 {
        if ms == 10_000 {
            world.command(CORE, Command::CloseConsumer(consumers[0].id));
        }
        for source in &mut sources {
            source.send(&world, ms);
        }
        world.turn();
        heard.listen(&mut world, &mut viewer);
    }
    let of_second = |from: usize, to: usize| {
        let all = heard.mids[from..to].iter().flatten();
        all.filter(|mid| mid.as_slice() == consumers[1].mid.as_slice()).count()
    };
    assert_eq!(of_second(5_000, 10_000), 0, "one of two fits");
    assert_eq!(of_second(15_000, 20_000), 1_000, "now it does");
}

#[test]
fn a_flood_of_one_source_is_cut_to_what_a_camera_may_send() {
    let mut world = World::new(1);
    let mut viewer = world.join(CORE);
    let mut flood = Source::new(&mut world, MediaKind::Video, 1000, 1150, 6_000);
    let mut camera = Source::new(&mut world, MediaKind::Video, 2000, 1150, 500);
    let of_flood = world.consume(&viewer, &flood.producer);
    let of_camera = world.consume(&viewer, &camera.producer);
    let mut heard = Heard::default();
    for ms in 0..5_000 {
        flood.send(&world, ms);
        camera.send(&world, ms);
        world.turn();
        heard.listen(&mut world, &mut viewer);
    }
    assert_eq!(heard.packets(&of_camera, 0), 2_500, "5 Mbit/s of a camera lose nothing");
    let per_second = heard.packets(&of_flood, 2_000) / 3;
    assert!((2_000..2_700).contains(&per_second), "{per_second} packets/s of 6000");
    assert!(world.core(CORE).stats().drops.of(DropReason::IngressRate) > 5_000);
}

#[test]
fn key_frames_in_one_go_pass_every_bound() {
    let mut world = World::new(1);
    let mut viewer = world.join_with_budget(CORE, 10_000_000);
    let mut camera = world.join(CORE);
    let source = world.produce(&camera, MediaKind::Video, &[1000]);
    world.consume(&viewer, &source);
    // 4 Mbit/s, and each two seconds a key frame of 100 kB at once.
    let (mut sequence, mut received) = (0, 0);
    for frame in 0..240_u32 {
        let key = frame % 60 == 0;
        for packet in 0..if key { 87 } else { 14 } {
            let picture_id = frame as u16;
            let timestamp = frame * 3000;
            let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id, key };
            let mut payload = video.payload();
            payload.resize(1150, 0x5a);
            // Only the first packet begins the frame.
            if packet > 0 {
                payload[0] &= !0x10;
            }
            camera.send_payload(&world, video, &payload);
            sequence += 1;
        }
        for _ in 0..33 {
            world.turn();
            received += viewer.media(&mut world).len();
        }
    }
    assert_eq!(received, usize::from(sequence));
}
