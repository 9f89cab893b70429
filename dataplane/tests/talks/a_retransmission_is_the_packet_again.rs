//! Loss on either leg: the SFU asks the sender for what it misses, and answers those who ask it.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::rtp::header::OutgoingHeader;
use smallvec::smallvec;

use crate::world::*;

fn video(sequence: u16) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    let key = sequence == 0;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key }
}

fn nacked(control: &[Vec<u8>]) -> Vec<u16> {
    let mut sequences = Vec::new();
    for compound in control {
        for packet in rtcp::packets(compound) {
            if let Packet::Nack(nack) = packet.unwrap() {
                assert_eq!(nack.media_ssrc, 1000);
                sequences.extend(nack.sequences());
            }
        }
    }
    sequences
}

#[test]
fn a_packet_lost_on_the_way_out_comes_again_as_rtx() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    let consumer = world.consume(&hearer, &source);
    for sequence in 0..20 {
        speaker.send_video(&world, video(sequence));
        world.turn();
    }
    let media = hearer.media(&mut world);
    let lost: Vec<_> = [3, 4, 17].iter().map(|&index: &usize| media[index].clone()).collect();
    let ask = lost.iter().map(|packet| packet.header.sequence).collect::<Vec<_>>();
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, ask.iter().copied()).unwrap();
    });
    world.turn();
    let again = hearer.media(&mut world);
    assert_eq!(again.len(), 3);
    for (rtx, packet) in again.iter().zip(&lost) {
        assert_eq!(Some(rtx.header.ssrc), consumer.rtx_ssrc);
        assert_eq!(rtx.header.payload_type, ROUTER_RTX_PT);
        assert_eq!(rtx.header.timestamp, packet.header.timestamp);
        assert_eq!(rtx.mid, packet.mid);
        // RFC 4588 section 4: original sequence number, then the original payload.
        assert_eq!(rtx.payload[..2], packet.header.sequence.to_be_bytes());
        assert_eq!(rtx.payload[2..], packet.payload);
    }
    let numbers: Vec<_> = again.iter().map(|packet| packet.header.sequence).collect();
    assert_eq!(numbers, [numbers[0], numbers[0] + 1, numbers[0] + 2]);

    // Asked again at once: the first answer is still on its way.
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, ask.iter().copied()).unwrap();
    });
    world.turn();
    assert!(hearer.media(&mut world).is_empty());
}

/// Who described itself first knows codecs and extensions by numbers of its own.
#[test]
fn a_client_with_numbers_of_its_own_gets_those_in_media_and_rtx_alike() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let (own, plain, far) = (world.join(CoreId(0)), world.join(CoreId(0)), world.join(CoreId(1)));
    let numbered = |world: &mut World, client: &Client| {
        let mut config = world.consume(client, &source);
        world.command(client.core, Command::CloseConsumer(config.id));
        // What the router calls RTX is the client's VP8.
        config.payload_types = smallvec![AcceptedPayloadType {
            router: ROUTER_PT,
            sent: ROUTER_RTX_PT,
            rtx: Some(35),
            red: None,
        }];
        config.extensions = ExtensionIds::default();
        config.extensions.set(Extension::Mid, TRANSPORT_CC);
        config.extensions.set(Extension::TransportCc, MID);
        world.command(client.core, Command::CreateConsumer(Box::new(config.clone())));
        config
    };
    let consumers = [numbered(&mut world, &own), numbered(&mut world, &far)];
    world.consume(&plain, &source);
    for sequence in 0..6 {
        speaker.send_video(&world, video(sequence));
        world.turn();
        world.turn();
    }
    let mut plain = plain;
    assert!(plain.media(&mut world).iter().all(|of| of.header.payload_type == ROUTER_PT));
    let mut ids = ExtensionIds::default();
    ids.set(Extension::Mid, TRANSPORT_CC);
    for (mut client, consumer) in [own, far].into_iter().zip(consumers) {
        client.ids = ids;
        let media = client.media(&mut world);
        assert_eq!(media.len(), 6);
        let mid = consumer.mid.to_vec();
        for packet in &media {
            assert_eq!((packet.header.payload_type, &packet.mid), (ROUTER_RTX_PT, &mid));
        }
        client.send_rtcp(&world, |writer| {
            writer.nack(9, consumer.ssrc, [media[2].header.sequence].into_iter()).unwrap();
        });
        world.turn();
        let again = client.media(&mut world);
        assert_eq!((again[0].header.payload_type, &again[0].mid), (35, &mid));
        assert_eq!(again[0].payload[2..], media[2].payload);
    }
}

#[test]
fn without_rtx_it_comes_again_to_the_byte() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Audio, &[1000]);
    let hearer = world.join(CoreId(0));
    let mut config = world.consume(&hearer, &source);
    world.command(CoreId(0), Command::CloseConsumer(config.id));
    config.rtx_ssrc = None;
    world.command(CoreId(0), Command::CreateConsumer(Box::new(config.clone())));
    for sequence in 0..5 {
        speaker.send_video(&world, video(sequence));
        world.turn();
    }
    let sent = hearer.raw(&mut world);
    assert_eq!(sent.len(), 5);
    world.run(Duration::from_millis(20));
    hearer.raw(&mut world);
    let sequence = u16::from_be_bytes([sent[2][2], sent[2][3]]);
    let mut hearer = hearer;
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, config.ssrc, [sequence].into_iter()).unwrap();
    });
    world.turn();
    // One SRTP index must never seal two different packets.
    assert_eq!(hearer.raw(&mut world), [sent[2].clone()]);
}

#[test]
fn a_packet_lost_on_the_way_in_is_asked_for_and_its_rtx_goes_on_as_the_original() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    for sequence in [0, 1, 2, 4, 5, 6] {
        speaker.send_video(&world, video(sequence));
        world.turn();
    }
    let got = hearer.media(&mut world);
    assert_eq!(got.len(), 6);
    world.run(Duration::from_millis(60));
    let (_, control) = speaker.receive(&mut world);
    assert_eq!(nacked(&control).first(), Some(&3));

    let fields = OutgoingHeader {
        marker: true,
        payload_type: SENT_RTX_PT,
        sequence: 500,
        timestamp: 9000,
        ssrc: 1001,
    };
    let payload = [&3_u16.to_be_bytes()[..], &video(3).payload()].concat();
    let packet = speaker.sealed(fields, None, &payload);
    world.push(speaker.address, CoreId(0), &packet);
    world.turn();
    let repaired = hearer.media(&mut world);
    assert_eq!(repaired.len(), 1);
    assert_eq!(repaired[0].header.sequence, got[2].header.sequence.wrapping_add(1));
    assert_eq!(repaired[0].payload[5..], video(3).payload()[5..]);

    // Nothing more is asked for, and the same repair twice is dropped.
    world.run(Duration::from_millis(500));
    let (_, control) = speaker.receive(&mut world);
    assert_eq!(nacked(&control), []);
}
