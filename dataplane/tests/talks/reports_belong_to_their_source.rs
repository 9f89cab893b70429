//! What is known of a source (what its clock shows, what is missing of it) is true of that source
//! alone: sender reports carry the present one's clock or none, and all of one sender's streams
//! carry one wall clock; report blocks count the present one's packets.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet, ReportBlock, SenderInfo};
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::time::{NtpTime, Time};

use crate::world::*;

/// The sender's wall clock is so far ahead of ours.
const AHEAD: Duration = Duration::from_secs(5);

fn wall(at: Time) -> NtpTime {
    NtpTime(0xe000_0000 << 32) + Duration::from_nanos(at.as_nanos()) + AHEAD
}

/// A stream whose frames are captured when they are sent.
struct Stream {
    ssrc: u32,
    sequence: u16,
    rate: u32,
    /// The RTP clock showed 0 here, in ticks before the origin of time.
    origin: u32,
    kind: MediaKind,
}

impl Stream {
    /// One whose clock shows `timestamp` now.
    fn new(world: &World, kind: MediaKind, ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        let rate = if kind == MediaKind::Audio { 48_000 } else { 90_000 };
        let mut stream = Stream { ssrc, sequence, rate, origin: 0, kind };
        stream.origin = timestamp.wrapping_sub(stream.clock(world.now));
        stream
    }

    fn clock(&self, at: Time) -> u32 {
        let ticks = u128::from(at.as_nanos()) * u128::from(self.rate) / 1_000_000_000;
        self.origin.wrapping_add(ticks as u32)
    }

    fn send(&mut self, world: &World, client: &mut Client, key: bool) {
        let (ssrc, sequence, timestamp) = (self.ssrc, self.sequence, self.clock(world.now));
        self.sequence = sequence.wrapping_add(1);
        if self.kind == MediaKind::Video {
            let picture_id = sequence & 0x7fff;
            let video = Video { ssrc, rid: None, sequence, timestamp, picture_id, key };
            client.send_video(world, video);
            return;
        }
        let fields =
            OutgoingHeader { marker: false, payload_type: SENT_PT, sequence, timestamp, ssrc };
        let packet = client.sealed(fields, None, &[7; 80]);
        world.push(client.address, CoreId(0), &packet);
    }

    fn report(&self, world: &World, client: &mut Client) {
        self.report_of(world.now, world, client);
    }

    /// The report that was made at `at`, sent now.
    fn report_of(&self, at: Time, world: &World, client: &mut Client) {
        let info =
            SenderInfo { ntp: wall(at), rtp_timestamp: self.clock(at), packets: 1, octets: 1 };
        let ssrc = self.ssrc;
        client.send_rtcp(world, |writer| writer.sender_report(ssrc, &info, &[]).unwrap());
    }
}

/// Sender reports on `ssrc` among what a client got: wall clock and RTP.
fn reports(control: &[Vec<u8>], ssrc: u32) -> Vec<(NtpTime, u32)> {
    let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
    packets
        .filter_map(|packet| match packet.unwrap() {
            Packet::SenderReport(report) if report.ssrc == ssrc => {
                Some((report.ntp, report.rtp_timestamp))
            }
            _ => None,
        })
        .collect()
}

fn blocks(control: &[Vec<u8>]) -> Vec<ReportBlock> {
    let packets = control.iter().flat_map(|compound| rtcp::packets(compound));
    packets
        .filter_map(|packet| match packet.unwrap() {
            Packet::ReceiverReport(report) => Some(report.reports().collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// How far a report is from the truth, seconds: `sent_at` is when the frame with `timestamp` was
/// sent.
fn error_s(report: (NtpTime, u32), rate: u32, timestamp: u32, sent_at: Time) -> f64 {
    let (ntp, rtp) = report;
    let ticks = timestamp.wrapping_sub(rtp) as i32;
    let told = ntp.0 as f64 / 4_294_967_296.0 + f64::from(ticks) / f64::from(rate);
    told - wall(sent_at).0 as f64 / 4_294_967_296.0
}

#[test]
fn a_new_source_is_not_reported_by_the_clock_of_the_old() {
    // Another SSRC, and the same with other numbers.
    for (ssrc, sequence) in [(0x2000, 40_000), (0x1000, 20_100)] {
        for core in [0, 1] {
            let mut world = World::new(2);
            let mut speaker = world.join(CoreId(0));
            let source = world.produce(&speaker, MediaKind::Video, &[0x1000]);
            let mut hearer = world.join(CoreId(core));
            let consumer = world.consume(&hearer, &source);
            world.turn();
            let mut stream = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
            stream.send(&world, &mut speaker, true);
            stream.report(&world, &mut speaker);
            for _ in 0..45 {
                world.run(Duration::from_millis(33));
                stream.send(&world, &mut speaker, false);
            }
            let (_, control) = hearer.receive(&mut world);
            assert!(!reports(&control, consumer.ssrc).is_empty());

            stream = Stream::new(&world, MediaKind::Video, ssrc, sequence, 3_000_000_000);
            stream.send(&world, &mut speaker, true);
            for _ in 0..75 {
                world.run(Duration::from_millis(33));
                stream.send(&world, &mut speaker, false);
            }
            let (_, control) = hearer.receive(&mut world);
            assert_eq!(reports(&control, consumer.ssrc), [], "nobody knows this clock yet");

            stream.report(&world, &mut speaker);
            world.run(Duration::from_millis(1100));
            let sent_at = world.now;
            stream.send(&world, &mut speaker, false);
            world.run(Duration::from_millis(3));
            let (media, control) = hearer.receive(&mut world);
            let reported = *reports(&control, consumer.ssrc).last().expect("a report");
            let timestamp = media.last().unwrap().header.timestamp;
            let error = error_s(reported, 90_000, timestamp, sent_at);
            assert!(error.abs() < 0.005, "{ssrc:#x}: {error} s off");
        }
    }
}

#[test]
fn a_report_made_before_a_jump_that_comes_after_it_is_not_believed() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[0x1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let mut stream = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
    stream.send(&world, &mut speaker, true);
    let (late, made) = (Stream::new(&world, MediaKind::Video, 0x1000, 0, 1_000_000), world.now);
    world.run(Duration::from_millis(33));
    // The numbers go on, the clock jumps: by a day, and by three seconds.
    for timestamp in [3_000_000_000, 3_000_270_000_u32] {
        let sequence = stream.sequence;
        stream = Stream::new(&world, MediaKind::Video, 0x1000, sequence, timestamp);
        stream.send(&world, &mut speaker, false);
        world.run(Duration::from_millis(100));
        late.report_of(made, &world, &mut speaker);
        for _ in 0..50 {
            world.run(Duration::from_millis(33));
            stream.send(&world, &mut speaker, false);
        }
        let (_, control) = hearer.receive(&mut world);
        assert_eq!(reports(&control, consumer.ssrc), []);
    }
}

#[test]
fn a_report_that_a_link_held_back_is_not_believed_for_a_clock_that_jumped_back_as_far() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[0x1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let mut stream = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
    stream.send(&world, &mut speaker, true);
    stream.report(&world, &mut speaker);
    world.run(Duration::from_millis(33));
    let (late, made) = (Stream { ..stream }, world.now);
    // Three seconds back, and the report comes two and a half seconds late.
    stream.origin = stream.origin.wrapping_sub(3 * 90_000);
    for _ in 0..75 {
        stream.send(&world, &mut speaker, false);
        world.run(Duration::from_millis(33));
    }
    hearer.receive(&mut world);
    late.report_of(made, &world, &mut speaker);
    for _ in 0..50 {
        stream.send(&world, &mut speaker, false);
        world.run(Duration::from_millis(33));
    }
    let (_, control) = hearer.receive(&mut world);
    assert_eq!(reports(&control, consumer.ssrc), []);
}

#[test]
fn a_late_report_holds_back_no_other() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let voice = world.produce(&speaker, MediaKind::Audio, &[0x3000]);
    let picture = world.produce(&speaker, MediaKind::Video, &[0x1000]);
    let mut hearer = world.join(CoreId(1));
    let voice = world.consume(&hearer, &voice);
    world.consume(&hearer, &picture);
    world.turn();
    let mut audio = Stream::new(&world, MediaKind::Audio, 0x3000, 100, 77);
    let mut video = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
    let begun = world.now;
    for tick in 0..200 {
        audio.send(&world, &mut speaker, false);
        video.send(&world, &mut speaker, tick == 0);
        if tick == 0 {
            audio.report(&world, &mut speaker);
        }
        if tick == 100 {
            video.report_of(begun, &world, &mut speaker);
        }
        world.run(Duration::from_millis(20));
        if tick == 100 {
            hearer.receive(&mut world);
        }
    }
    let (_, control) = hearer.receive(&mut world);
    assert!(!reports(&control, voice.ssrc).is_empty(), "the picture's came two seconds late");
}

#[test]
fn a_packet_of_before_a_jump_does_not_bring_its_clock_back() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[0x1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    let mut stream = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
    stream.send(&world, &mut speaker, true);
    stream.report(&world, &mut speaker);
    let mut late = Stream { ..stream };
    stream.sequence += 1;
    stream.origin = stream.origin.wrapping_add(1 << 31);
    world.run(Duration::from_millis(33));
    for _ in 0..60 {
        // Again and again one of the old, sent again, comes just before the report.
        stream.sequence += 1;
        stream.send(&world, &mut speaker, false);
        world.run(Duration::from_millis(16));
        late.sequence = stream.sequence - 2;
        late.send(&world, &mut speaker, false);
        world.run(Duration::from_millis(17));
        stream.sequence += 1;
    }
    let (_, control) = hearer.receive(&mut world);
    assert_eq!(reports(&control, consumer.ssrc), []);
}

#[test]
fn a_pause_leaves_the_clock_where_it_was() {
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let mut world = World::new(1);
        let mut speaker = world.join(CoreId(0));
        let source = world.produce(&speaker, kind, &[0x1000]);
        let mut hearer = world.join(CoreId(0));
        let consumer = world.consume(&hearer, &source);
        let mut stream = Stream::new(&world, kind, 0x1000, 100, 1_000_000);
        let mut offsets = Vec::new();
        for number in 0..60 {
            match number {
                20 => world.command(CoreId(0), Command::PauseConsumer(consumer.id)),
                40 => world.command(CoreId(0), Command::ResumeConsumer(consumer.id)),
                _ => {}
            }
            let captured = stream.clock(world.now);
            let held_back = 40 * u64::from(number == 40);
            world.run(Duration::from_millis(held_back));
            stream.origin = stream.origin.wrapping_sub(stream.clock(world.now) - captured);
            stream.send(&world, &mut speaker, number % 40 == 0);
            stream.origin = stream.origin.wrapping_add(held_back as u32 * stream.rate / 1000);
            world.run(Duration::from_millis(20 + number % 3));
            let media = hearer.media(&mut world);
            offsets.extend(media.iter().map(|p| p.header.timestamp.wrapping_sub(captured)));
        }
        assert_eq!(offsets.len(), 40);
        assert!(offsets.iter().all(|&offset| offset == offsets[0]), "{kind:?}: {offsets:?}");
    }
}

#[test]
fn voice_and_picture_are_reported_by_one_wall_clock_or_not_at_all() {
    for core in [0, 1] {
        let mut world = World::new(2);
        let mut speaker = world.join(CoreId(0));
        let voice = world.produce(&speaker, MediaKind::Audio, &[0x3000]);
        let picture = world.produce(&speaker, MediaKind::Video, &[0x1000]);
        let mut hearer = world.join(CoreId(core));
        let voice = world.consume(&hearer, &voice);
        let picture = world.consume(&hearer, &picture);
        world.turn();
        let mut audio = Stream::new(&world, MediaKind::Audio, 0x3000, 100, 77);
        let mut video = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
        let (mut heard, mut newest) = (Vec::new(), std::collections::HashMap::new());
        for tick in 0..400 {
            // Sound every 20 ms, a picture every 40; video reports each second, sound after four.
            let sent_at = world.now;
            audio.send(&world, &mut speaker, false);
            if tick % 2 == 0 {
                video.send(&world, &mut speaker, tick == 0);
            }
            if tick % 50 == 0 {
                video.report(&world, &mut speaker);
            }
            if tick % 200 == 199 {
                audio.report(&world, &mut speaker);
            }
            world.run(Duration::from_millis(20));
            let (media, control) = hearer.receive(&mut world);
            newest.extend(media.iter().map(|p| (p.header.ssrc, (p.header.timestamp, sent_at))));
            for (consumer, rate) in [(&voice, 48_000), (&picture, 90_000)] {
                for report in reports(&control, consumer.ssrc) {
                    let (timestamp, sent_at) = newest[&consumer.ssrc];
                    let error = error_s(report, rate, timestamp, sent_at);
                    assert!(error.abs() < 0.005, "{} at {tick}: {error} s off", consumer.ssrc);
                    heard.push((tick, rate));
                }
            }
        }
        let of = |rate| heard.iter().filter(move |(_, r)| *r == rate).map(|(tick, _)| *tick);
        assert!(of(90_000).min().unwrap() < 60, "the picture is reported from the start");
        assert!((199..260).contains(&of(48_000).min().unwrap()), "the sound once it reports");
    }
}

#[test]
fn a_sender_that_sets_its_clock_is_not_reported_by_two() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let voice = world.produce(&speaker, MediaKind::Audio, &[0x3000]);
    let picture = world.produce(&speaker, MediaKind::Video, &[0x1000]);
    let mut hearer = world.join(CoreId(1));
    let voice = world.consume(&hearer, &voice);
    let picture = world.consume(&hearer, &picture);
    world.turn();
    let mut audio = Stream::new(&world, MediaKind::Audio, 0x3000, 100, 77);
    let mut video = Stream::new(&world, MediaKind::Video, 0x1000, 100, 1_000_000);
    let mut set_by = Duration::ZERO;
    for tick in 0..300 {
        audio.send(&world, &mut speaker, false);
        video.send(&world, &mut speaker, tick == 0);
        let report = |client: &mut Client, stream: &Stream, set_by: Duration| {
            let ntp = wall(world.now) + set_by;
            let rtp_timestamp = stream.clock(world.now);
            let info = SenderInfo { ntp, rtp_timestamp, packets: 1, octets: 1 };
            client.send_rtcp(&world, |writer| {
                writer.sender_report(stream.ssrc, &info, &[]).unwrap();
            });
        };
        if tick == 10 {
            report(&mut speaker, &audio, set_by);
        }
        if tick == 100 {
            set_by = Duration::from_secs(40);
        }
        if tick % 50 == 10 {
            report(&mut speaker, &video, set_by);
        }
        world.run(Duration::from_millis(20));
        let (_, control) = hearer.receive(&mut world);
        let (sound, sight) = (reports(&control, voice.ssrc), reports(&control, picture.ssrc));
        if tick < 110 {
            continue;
        }
        assert_eq!(sound, [], "the sound was last reported by the clock as it was before");
        assert!(sight.iter().all(|(ntp, _)| ntp.0 > (wall(world.now) + AHEAD).0), "the new clock");
    }
}

#[test]
fn a_report_block_counts_its_source_alone() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    world.produce(&speaker, MediaKind::Video, &[0x1000]);
    let mut stream = Stream::new(&world, MediaKind::Video, 0x1000, 65_500, 1_000_000);
    stream.report(&world, &mut speaker);
    // One in five lost, each one later than the one before, over a wrap.
    for number in 0..100_u64 {
        if number % 5 == 4 {
            stream.sequence = stream.sequence.wrapping_add(1);
        } else {
            stream.send(&world, &mut speaker, number == 0);
        }
        world.run(Duration::from_millis(20 + number % 7));
    }
    let (_, control) = speaker.receive(&mut world);
    let block = *blocks(&control).last().unwrap();
    assert!(block.cumulative_lost > 5 && block.highest_sequence > 0x1_0000 && block.last_sr != 0);

    let mut stream = Stream::new(&world, MediaKind::Video, 0x2000, 40_000, 3_000_000_000);
    for number in 0..60 {
        stream.send(&world, &mut speaker, number == 0);
        world.run(Duration::from_millis(20));
    }
    let (_, control) = speaker.receive(&mut world);
    let blocks = blocks(&control);
    let block = blocks.last().unwrap();
    assert_eq!(block.ssrc, 0x2000);
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 0));
    assert!((40_000..40_060).contains(&block.highest_sequence), "{}", block.highest_sequence);
    assert_eq!((block.last_sr, block.delay_since_last_sr), (0, 0));
    assert!(block.jitter < 200, "{}", block.jitter);
}
