//! A core stalls with commands in hand, and another takes its place; the first one wakes up and
//! does what it was told, by then to no effect: neither does it take numbers from the other one,
//! nor does what it leaves count.

use std::time::Duration;

use opencall_dataplane::checkpoint::RESERVED_PACKETS;
use opencall_dataplane::message::*;
use opencall_io::TxBatch;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

const PACKETS: u16 = 3 * RESERVED_PACKETS as u16;

fn packet(sequence: u16) -> Video {
    let timestamp = u32::from(sequence) * 960;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key: true }
}

/// Sends packets, and counts those that arrive; their numbers rise.
fn pass(world: &mut World, speaker: &mut Client, viewer: &mut Client, from: u16) -> usize {
    let mut received = Vec::new();
    for sequence in from..from + PACKETS {
        speaker.send_video(world, packet(sequence));
        world.turn();
        received.extend(viewer.media(world).into_iter().map(|packet| packet.header.sequence));
    }
    assert!(received.is_sorted_by(|a, b| b.wrapping_sub(*a) as i16 > 0), "{received:?}");
    received.len()
}

#[test]
fn a_consumer_made_too_late_takes_no_numbers_from_the_one_in_use() {
    let mut world = World::new(1);
    let (mut speaker, mut viewer) = (world.join(CoreId(0)), world.join(CoreId(0)));
    let source = world.produce(&speaker, MediaKind::Audio, &[1000]);
    let consumer = world.consume(&viewer, &source);
    assert_eq!(pass(&mut world, &mut speaker, &mut viewer, 0), usize::from(PACKETS));
    let (mut stalled, _) = world.kill(CoreId(0), 7);
    assert_eq!(pass(&mut world, &mut speaker, &mut viewer, PACKETS), usize::from(PACKETS));
    let mut tx = TxBatch::new();
    stalled.command(world.now, Command::CloseConsumer(consumer.id), &mut tx);
    stalled.command(world.now, Command::CreateConsumer(Box::new(consumer)), &mut tx);
    assert_eq!(pass(&mut world, &mut speaker, &mut viewer, 2 * PACKETS), usize::from(PACKETS));
}

#[test]
fn keys_installed_too_late_take_no_numbers_from_reports() {
    let mut world = World::new(1);
    let (mut speaker, keys) = world.invite(CoreId(0), Profile::AeadAes128Gcm, 1_000_000_000);
    let (mut stalled, _) = world.kill(CoreId(0), 7);
    world.enter(&speaker, keys.clone());
    world.produce(&speaker, MediaKind::Audio, &[1000]);
    let (mut tx, transport) = (TxBatch::new(), speaker.transport);
    stalled.command(world.now, Command::InstallSrtp { transport, keys }, &mut tx);
    let mut reports = 0;
    for round in 0..100 {
        speaker.send_video(&world, packet(round));
        speaker.check(&world, false);
        world.run(Duration::from_secs(1));
        reports += speaker.receive(&mut world).1.len();
    }
    assert!(reports > 80, "{reports} reports, of which a core reserves 64 at a time");
}
