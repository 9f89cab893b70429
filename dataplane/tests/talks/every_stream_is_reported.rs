//! Reports cover every stream: those we send, however long the names that clients chose (lip-sync
//! hangs on them), and those we receive, also beyond the 31 that one receiver report holds.

use std::collections::HashSet;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet, SenderInfo};
use opencall_wire::time::NtpTime;

use crate::world::*;

/// Bytes of an RTCP datagram at most, but for its SRTCP trailer.
const COMPOUND_MAX: usize = 1200;

#[test]
fn every_stream_is_reported_however_long_the_names() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let mut expected = HashSet::new();
    for index in 0..40 {
        let mut config = world.consume(&hearer, &source);
        world.command(CoreId(0), Command::CloseConsumer(config.id));
        config.cname = if index < 9 { "x".repeat(255) } else { "short".into() };
        world.command(CoreId(0), Command::CreateConsumer(Box::new(config.clone())));
        expected.insert(config.ssrc);
    }
    let video =
        Video { ssrc: 1000, rid: None, sequence: 1, timestamp: 0, picture_id: 1, key: true };
    speaker.send_video(&world, video);
    let info = SenderInfo { ntp: NtpTime(7 << 32), rtp_timestamp: 0, packets: 1, octets: 1 };
    speaker.send_rtcp(&world, |writer| writer.sender_report(1000, &info, &[]).unwrap());
    world.run(Duration::from_millis(1500));
    let (_, control) = hearer.receive(&mut world);
    assert!(control.iter().all(|compound| compound.len() <= COMPOUND_MAX));
    let (mut reported, mut named) = (HashSet::new(), HashSet::new());
    for packet in control.iter().flat_map(|compound| rtcp::packets(compound)) {
        match packet.unwrap() {
            Packet::SenderReport(report) => _ = reported.insert(report.ssrc),
            Packet::Sdes(sdes) => named.extend(sdes.chunks().map(|chunk| chunk.ssrc)),
            _ => {}
        }
    }
    assert_eq!(reported, expected);
    assert_eq!(named, expected);
}

/// A client that sends `streams` streams, one packet of each.
fn many_streams(world: &mut World, streams: u32, remb: bool) -> Client {
    let mut speaker = world.join(CoreId(0));
    for stream in 0..streams {
        let ssrc = 1000 + stream * 2;
        let mut config = world.produce(&speaker, MediaKind::Video, &[ssrc]);
        if remb {
            world.command(CoreId(0), Command::CloseProducer(config.id));
            config.feedback = Feedback { remb: true, ..Feedback::default() };
            world.command(CoreId(0), Command::CreateProducer(Box::new(config)));
        }
        send(world, &mut speaker, ssrc, 1);
    }
    world.turn();
    speaker
}

fn send(world: &World, client: &mut Client, ssrc: u32, sequence: u16) {
    let key = sequence == 1;
    client.send_video(world, Video { ssrc, rid: None, sequence, timestamp: 0, picture_id: 1, key });
}

#[test]
fn every_stream_that_arrives_is_reported() {
    // REMB together with the blocks, beside them, and with as many streams as a transport may have,
    // one more than one can list.
    for (streams, remb) in
        [(1, false), (31, true), (32, false), (49, true), (50, false), (120, true), (256, true)]
    {
        let mut world = World::new(1);
        let mut speaker = many_streams(&mut world, streams, remb);
        world.run(Duration::from_millis(1050));
        let (_, control) = speaker.receive(&mut world);
        assert!(control.iter().all(|compound| compound.len() <= COMPOUND_MAX));
        let (mut reported, mut announced) = (Vec::new(), Vec::new());
        for packet in control.iter().flat_map(|compound| rtcp::packets(compound)) {
            match packet.unwrap() {
                Packet::ReceiverReport(report) => {
                    reported.extend(report.reports().map(|block| block.ssrc));
                }
                Packet::Remb(remb) => announced.push(remb.ssrcs().len()),
                _ => {}
            }
        }
        reported.sort_unstable();
        let all: Vec<u32> = (0..streams).map(|stream| 1000 + stream * 2).collect();
        assert_eq!(reported, all, "each of {streams} streams, and once");
        let listed = if remb { vec![streams.min(255) as usize] } else { vec![] };
        assert_eq!(announced, listed, "{streams} streams");
    }
}

#[test]
fn reports_on_many_streams_take_nothing_from_the_heap() {
    let mut world = World::new(1);
    let speaker = many_streams(&mut world, 120, true);
    world.run(Duration::from_secs(3));
    speaker.raw(&mut world);
    world.allocations = 0;
    world.run(Duration::from_millis(3000));
    assert!(speaker.raw(&mut world).len() >= 9, "three datagrams a second at least");
    assert_eq!(world.allocations, 0);
}
