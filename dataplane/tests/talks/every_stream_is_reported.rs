//! Sender reports carry the CNAME that a client chose, and lip-sync hangs on them: however long the
//! names, every stream gets its report.

use std::collections::HashSet;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_dataplane::rtcp::{self, Packet};

use crate::world::*;

#[test]
fn every_stream_is_reported_however_long_the_names() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let mut expected = HashSet::new();
    for index in 0..12 {
        let mut config = world.consume(&hearer, &source);
        world.command(CoreId(0), Command::CloseConsumer(config.id));
        config.cname = if index < 9 { "x".repeat(255) } else { "short".into() };
        world.command(CoreId(0), Command::CreateConsumer(Box::new(config.clone())));
        expected.insert(config.ssrc);
    }
    let video =
        Video { ssrc: 1000, rid: None, sequence: 1, timestamp: 0, picture_id: 1, key: true };
    speaker.send_video(&world, video);
    world.run(Duration::from_millis(1500));
    let (_, control) = hearer.receive(&mut world);
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
