//! A mixer lists the sources it mixed (the CSRC list of RFC 3550 section 5.1): receivers get the
//! same list, with every packet and every retransmission.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::srtp::Profile;

use crate::world::*;

/// Lists as a mixer sends them: who speaks comes and goes.
fn csrcs(number: u16) -> Vec<u32> {
    let count = [0, 1, 2, 15, 0, 3][usize::from(number) % 6];
    (0..count).map(|csrc| 0xc0de_0000 + csrc).collect()
}

fn video(sequence: u16) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    let key = sequence == 0;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key }
}

fn send(world: &mut World, mixer: &mut Client, numbers: impl Iterator<Item = u16>) {
    for number in numbers {
        mixer.csrcs = csrcs(number);
        mixer.send_video(world, video(number));
        world.turn();
    }
}

#[test]
fn contributing_sources_go_with_the_packet_and_come_with_it_again() {
    for profile in [Profile::AeadAes128Gcm, Profile::AesCm128HmacSha1_80] {
        // At home, and at the far end of a pipe.
        for core in [0, 1] {
            let mut world = World::new(2);
            let mut mixer = world.join_with(CoreId(0), profile);
            let source = world.produce(&mixer, MediaKind::Video, &[1000]);
            let mut hearer = world.join_with(CoreId(core), profile);
            let consumer = world.consume(&hearer, &source);
            world.turn();
            send(&mut world, &mut mixer, 0..12);
            world.turn();
            let media = hearer.media(&mut world);
            assert_eq!(media.len(), 12);
            for (packet, number) in media.iter().zip(0..) {
                assert_eq!(packet.csrcs, csrcs(number), "packet {number}");
                assert_eq!(packet.mid, consumer.mid.as_slice());
                assert!(packet.transport_sequence.is_some());
                // Behind the picture id, which is the consumer's own.
                assert_eq!(packet.payload[5..], video(number).payload()[5..]);
            }
            world.run(Duration::from_millis(20));
            let ask = media.iter().map(|packet| packet.header.sequence);
            hearer.send_rtcp(&world, |writer| writer.nack(9, consumer.ssrc, ask).unwrap());
            world.turn();
            let again = hearer.media(&mut world);
            assert_eq!(again.len(), 12);
            for (rtx, packet) in again.iter().zip(&media) {
                assert_eq!(rtx.csrcs, packet.csrcs);
                assert_eq!(rtx.payload[2..], packet.payload);
            }
        }
    }
}

#[test]
fn what_comes_again_without_rtx_is_the_same_to_the_byte() {
    let mut world = World::new(1);
    let mut mixer = world.join(CoreId(0));
    let source = world.produce(&mixer, MediaKind::Audio, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let mut config = world.consume(&hearer, &source);
    world.command(CoreId(0), Command::CloseConsumer(config.id));
    config.rtx_ssrc = None;
    world.command(CoreId(0), Command::CreateConsumer(Box::new(config.clone())));
    send(&mut world, &mut mixer, 0..12);
    let sent = hearer.raw(&mut world);
    assert_eq!(sent.len(), 12);
    world.run(Duration::from_millis(20));
    hearer.raw(&mut world);
    let ask = sent.iter().map(|packet| u16::from_be_bytes([packet[2], packet[3]]));
    hearer.send_rtcp(&world, |writer| writer.nack(9, config.ssrc, ask).unwrap());
    world.turn();
    assert_eq!(hearer.raw(&mut world), sent);
}

#[test]
fn a_retransmission_names_them_for_its_original_and_padding_stays_padding() {
    let mut world = World::new(1);
    let mut mixer = world.join(CoreId(0));
    let source = world.produce(&mixer, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    send(&mut world, &mut mixer, [0, 2, 3].into_iter());
    assert_eq!(hearer.media(&mut world).len(), 3);
    // RFC 4588 section 4: the list is the original's.
    mixer.csrcs = csrcs(1);
    let fields = OutgoingHeader {
        marker: true,
        payload_type: SENT_RTX_PT,
        sequence: 1,
        timestamp: 3000,
        ssrc: 1001,
    };
    let original = [vec![0, 1], video(1).payload()].concat();
    let repair = mixer.sealed(fields, None, &original);
    let fields = OutgoingHeader {
        payload_type: SENT_PT,
        sequence: 4,
        timestamp: 12_000,
        ssrc: 1000,
        ..fields
    };
    let padded = [video(4).payload(), vec![0, 0, 3]].concat();
    let padded = mixer.sealed_padded(fields, None, &padded);
    for packet in [repair, padded] {
        world.push(mixer.address, CoreId(0), &packet);
        world.turn();
    }
    let media = hearer.media(&mut world);
    assert_eq!(media.len(), 2);
    for (packet, number) in media.iter().zip([1, 4]) {
        assert_eq!(packet.csrcs, csrcs(1));
        assert_eq!(packet.payload[5..], video(number).payload()[5..]);
    }
}
