//! Once a meeting runs, forwarding allocates nothing: 100,000 packets, over two cores, with losses
//! asked for and answered, reports and feedback going both ways, the paths of some estimated.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::estimator_support::Receiver;
use crate::world::*;

const SPEAKER_SSRC: u32 = 1000;

struct Hearer {
    client: Client,
    consumer: ConsumerConfig,
    /// Writes transport-wide feedback, if it gives any.
    receiver: Option<Receiver>,
}

/// Sends `packets` packets at 1000 a second, losing one in a hundred; each hearer asks for one in a
/// hundred again. Returns how many packets the cores forwarded.
fn play(
    world: &mut World,
    speaker: &mut Client,
    hearers: &mut [Hearer],
    first: u32,
    packets: u32,
) -> u64 {
    let forwarded = |world: &World| {
        (0..2).map(|c| world.core(CoreId(c)).stats().packets_forwarded).sum::<u64>()
    };
    let before = forwarded(world);
    for number in first..first + packets {
        if number % 100 != 50 {
            let video = Video {
                ssrc: SPEAKER_SSRC,
                rid: None,
                sequence: number as u16,
                timestamp: number / 4 * 3000,
                picture_id: (number / 4) as u16 & 0x7fff,
                key: number % 3000 == 0,
            };
            speaker.send_video(world, video);
        }
        world.turn();
        for Hearer { client: hearer, consumer, receiver } in &mut *hearers {
            let media = hearer.media(world);
            if let Some(receiver) = receiver {
                let numbers = media.iter().filter_map(|packet| packet.transport_sequence);
                receiver.on_arrivals(numbers.map(|number| (number, world.now)));
                if let Some(compound) = receiver.poll(world.now) {
                    hearer.send_compound(world, &compound);
                }
            }
            let Some(packet) = media.first() else { continue };
            if packet.header.sequence % 100 == 7 {
                let lost = packet.header.sequence;
                hearer.send_rtcp(world, |writer| {
                    writer.nack(9, consumer.ssrc, [lost].into_iter()).unwrap();
                });
            }
        }
        speaker.raw(world);
        world.events.clear();
    }
    forwarded(world) - before
}

const NONE: Feedback =
    Feedback { nack: false, pli: false, fir: false, remb: false, transport_cc: false };

#[test]
fn forwarding_takes_nothing_from_the_heap() {
    for profile in [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80] {
        let mut world = World::new(2);
        let mut speaker = world.join_with(CoreId(0), profile);
        let source = world.produce(&speaker, MediaKind::Video, &[SPEAKER_SSRC]);
        let mut hearers: Vec<_> = (0..10)
            .map(|number| {
                let client = world.join_with(CoreId(number % 2), profile);
                // The pipe is opened once per core; consuming again only adds a consumer.
                let gives = number % 3 != 0;
                let feedback = Feedback { nack: true, pli: true, transport_cc: gives, ..NONE };
                let consumer = world.consume_with(&client, &source, feedback);
                Hearer { client, consumer, receiver: gives.then(|| Receiver::new(60)) }
            })
            .collect();
        // Warm-up: buffers and tables find their size.
        play(&mut world, &mut speaker, &mut hearers, 0, 5_000);
        world.run(Duration::from_secs(2));
        world.allocations = 0;
        let forwarded = play(&mut world, &mut speaker, &mut hearers, 5_000, 10_200);
        assert!(forwarded >= 100_000, "{forwarded}");
        for hearer in hearers.iter().filter(|hearer| hearer.receiver.is_some()) {
            let stats = world.transport_stats(&hearer.client);
            assert!(stats.available_outgoing_bps.is_some_and(|bps| bps > 1_000_000));
        }
        assert_eq!(world.allocations, 0, "{profile:?}: {forwarded} packets forwarded");
    }
}

#[test]
fn the_counter_counts() {
    let mut world = World::new(1);
    world.allocations = 0;
    let speaker = world.join(CoreId(0));
    // A DTLS datagram is handed to control in a box of its own.
    world.push(speaker.address, CoreId(0), &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.turn();
    assert!(world.allocations > 0);
}
