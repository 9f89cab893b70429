//! Sound that repeats itself (RFC 2198): what comes so is Opus to everyone behind, losses on the
//! way in are repaired out of it, and who loses sound on the way out is sent it so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{self, Packet, ReportBlock, SenderInfo};
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::rtp::red::{MAX_REPETITIONS, RedPayload, write_repeating};
use opencall_wire::rtp::test_support::Random;
use opencall_wire::time::NtpTime;
use smallvec::smallvec;

use crate::world::*;

/// Payload type of RED, sent and received.
const RED_PT: u8 = 63;
/// What the hearer calls Opus.
const HEARD_PT: u8 = 111;
const SSRC: u32 = 1000;
/// 20 ms.
const TICKS: u32 = 960;

/// A producer whose client sends Opus and RED of it.
fn speak(world: &mut World, speaker: &Client) -> ProducerConfig {
    let mut config = world.produce(speaker, MediaKind::Audio, &[SSRC]);
    world.command(speaker.core, Command::CloseProducer(config.id));
    let opus = config.payload_types[0];
    let red =
        PayloadTypeMapping { incoming: RED_PT, incoming_rtx: None, codec: Codec::Red, ..opus };
    config.payload_types = smallvec![opus, red];
    world.command(speaker.core, Command::CreateProducer(Box::new(config.clone())));
    config
}

/// A consumer without RTX whose client takes RED.
fn listen(
    world: &mut World,
    hearer: &Client,
    source: &ProducerConfig,
    nack: bool,
) -> ConsumerConfig {
    let mut config = world.consume(hearer, source);
    world.command(hearer.core, Command::CloseConsumer(config.id));
    config.rtx_ssrc = None;
    config.feedback = Feedback { nack, ..Feedback::default() };
    config.payload_types = smallvec![AcceptedPayloadType {
        router: ROUTER_PT,
        sent: HEARD_PT,
        rtx: None,
        red: Some(RED_PT),
    }];
    world.command(hearer.core, Command::CreateConsumer(Box::new(config.clone())));
    config
}

/// The frame of a number: no two are alike.
fn frame(sequence: u16) -> Vec<u8> {
    let len = 40 + usize::from(sequence % 50);
    (0..len).map(|index| (index as u8).wrapping_mul(7) ^ sequence as u8).collect()
}

fn fields(payload_type: u8, sequence: u16) -> OutgoingHeader {
    let timestamp = 5_000 + u32::from(sequence) * TICKS;
    OutgoingHeader { marker: false, payload_type, sequence, timestamp, ssrc: SSRC }
}

/// A packet of RED as it goes over the wire, with the frame before it.
fn red(speaker: &mut Client, sequence: u16) -> Vec<u8> {
    let mut payload = [0; 400];
    let before = frame(sequence.wrapping_sub(1));
    let own = frame(sequence);
    let len = write_repeating(&mut payload, SENT_PT, (TICKS, &before), &own).unwrap();
    speaker.sealed(fields(RED_PT, sequence), None, &payload[..len])
}

fn send_opus(world: &World, speaker: &mut Client, sequence: u16) {
    let packet = speaker.sealed(fields(SENT_PT, sequence), None, &frame(sequence));
    world.push(speaker.address, speaker.core, &packet);
}

#[test]
fn what_comes_repeated_is_opus_to_everyone_and_losses_are_repaired() {
    let mut world = World::new(2);
    let mut speaker = world.join(CoreId(0));
    let source = speak(&mut world, &speaker);
    let mut hearers = [world.join(CoreId(0)), world.join(CoreId(0)), world.join(CoreId(1))];
    world.consume(&hearers[0], &source);
    listen(&mut world, &hearers[1], &source, true);
    world.consume(&hearers[2], &source);
    for sequence in 10..60 {
        let packet = red(&mut speaker, sequence);
        // Single losses, and at 40 two in a row, of which the first is gone.
        if ![13, 21, 22 + 5, 40, 41, 50].contains(&sequence) {
            world.push(speaker.address, speaker.core, &packet);
        }
        world.turn();
        world.turn();
    }
    let (_, asked) = speaker.receive(&mut world);
    let asked = asked.iter().flat_map(|compound| rtcp::packets(compound)).filter_map(|packet| {
        let Packet::Nack(nack) = packet.unwrap() else { return None };
        Some(nack.sequences().collect::<Vec<_>>())
    });
    assert!(asked.flatten().all(|sequence| sequence == 40), "what was repeated is not asked for");
    for (hearer, opus) in hearers.iter_mut().zip([ROUTER_PT, HEARD_PT, ROUTER_PT]) {
        let media = hearer.media(&mut world);
        let first = media[0].header;
        let mut heard = BTreeMap::new();
        for packet in &media {
            let number = packet.header.sequence.wrapping_sub(first.sequence) + 10;
            let elapsed = packet.header.timestamp.wrapping_sub(first.timestamp);
            assert_eq!(packet.header.payload_type, opus);
            assert_eq!(elapsed, u32::from(number - 10) * TICKS, "{number}");
            assert_eq!(packet.payload, frame(number), "{number}");
            assert!(heard.insert(number, ()).is_none(), "{number} comes once");
        }
        assert_eq!(heard.len(), 49);
        assert!(!heard.contains_key(&40), "nobody repeated it");
        let numbers: Vec<u16> = media.iter().map(|packet| packet.header.sequence).collect();
        assert!(numbers.is_sorted(), "a repaired packet comes before the one that repaired it");
    }
}

#[test]
fn a_packet_that_was_repeated_and_comes_late_comes_once() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = speak(&mut world, &speaker);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let mut packets: Vec<_> = (10..20).map(|sequence| red(&mut speaker, sequence)).collect();
    packets.swap(4, 5);
    for packet in &packets {
        world.push(speaker.address, speaker.core, packet);
        world.turn();
    }
    let media = hearer.media(&mut world);
    assert_eq!(media.len(), 10);
    assert!(media.windows(2).all(|two| two[1].header.sequence == two[0].header.sequence + 1));
    assert_eq!(world.core(CoreId(0)).stats().drops.of(DropReason::Duplicate), 1);
}

#[test]
fn forged_repetitions_are_dropped_by_name_and_change_nothing() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = speak(&mut world, &speaker);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let mut random = Random(2198);
    let mut own = 0;
    for sequence in 10..2_000_u16 {
        let mut payload = [0; 400];
        let frames = (frame(sequence - 1), frame(sequence));
        let offset = (TICKS, &frames.0[..]);
        let len = write_repeating(&mut payload, SENT_PT, offset, &frames.1).unwrap();
        let payload = random.mutate(&payload[..len]);
        if payload.is_empty() {
            continue;
        }
        let parsed = RedPayload::parse(&payload);
        own += u64::from(parsed.is_none_or(|red| red.own.payload_type != SENT_PT));
        let packet = speaker.sealed(fields(RED_PT, sequence), None, &payload);
        world.push(speaker.address, speaker.core, &packet);
        world.turn();
    }
    let drops = &world.core(CoreId(0)).stats().drops;
    assert_eq!(drops.of(DropReason::RedMalformed), own);
    assert!(own > 100 && drops.of(DropReason::Internal) == 0, "{own}");
    assert!(hearer.media(&mut world).iter().all(|packet| packet.header.payload_type == ROUTER_PT));
}

/// A packet of RED that repeats as many as it may, none of which came.
#[test]
fn repetitions_count_as_packets() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = speak(&mut world, &speaker);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let repeats: u16 = MAX_REPETITIONS as u16;
    let mut heard = 0;
    // Ten times as many packets as a voice has, for a second.
    for step in 1..=500_u16 {
        let sequence = step * (repeats + 1);
        let mut payload = Vec::new();
        for back in (1..=u32::from(repeats)).rev() {
            // The clock runs with the numbers, a tick each.
            let head = (back * 10) << 10 | 1;
            payload.push(0x80 | SENT_PT);
            payload.extend_from_slice(&head.to_be_bytes()[1..]);
        }
        payload.push(SENT_PT);
        payload.extend(std::iter::repeat_n(7, usize::from(repeats) + 1));
        let header =
            OutgoingHeader { timestamp: u32::from(sequence) * 10, ..fields(RED_PT, sequence) };
        let packet = speaker.sealed(header, None, &payload);
        world.push(speaker.address, speaker.core, &packet);
        world.run(Duration::from_millis(2));
        heard += hearer.media(&mut world).len();
    }
    let refused = world.core(CoreId(0)).stats().drops.of(DropReason::IngressRate);
    assert!((500..3_000).contains(&heard), "{heard} in a second");
    assert!(refused > 5_000, "{refused}");
}

/// Tells the server what share of 256 the hearer has lost.
fn report(world: &World, hearer: &mut Client, ssrc: u32, fraction_lost: u8) {
    let block = ReportBlock { ssrc, fraction_lost, ..ReportBlock::default() };
    hearer.send_rtcp(world, |writer| writer.receiver_report(9, &[block]).unwrap());
}

/// Lets the speaker speak, 20 ms a frame.
fn talk(world: &mut World, speaker: &mut Client, sequences: std::ops::Range<u16>) {
    for sequence in sequences {
        send_opus(world, speaker, sequence);
        world.run(Duration::from_millis(20));
    }
}

/// A hearer in whose reports of the first six seconds every tenth packet is lost.
fn lossy(world: &mut World, nack: bool) -> (Client, Client, ConsumerConfig) {
    let mut speaker = world.join(CoreId(0));
    let source = speak(world, &speaker);
    let mut hearer = world.join(CoreId(0));
    let consumer = listen(world, &hearer, &source, nack);
    talk(world, &mut speaker, 0..50);
    report(world, &mut hearer, consumer.ssrc, 26);
    talk(world, &mut speaker, 50..300);
    assert!(hearer.media(world).iter().all(|packet| packet.header.payload_type == HEARD_PT));
    report(world, &mut hearer, consumer.ssrc, 26);
    (speaker, hearer, consumer)
}

#[test]
fn who_loses_sound_gets_each_frame_twice_and_no_longer_than_that() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, consumer) = lossy(&mut world, true);
    let rtp_timestamp = fields(SENT_PT, 300).timestamp;
    let info = SenderInfo { ntp: NtpTime(7 << 32), rtp_timestamp, packets: 300, octets: 1 };
    speaker.send_rtcp(&world, |writer| writer.sender_report(SSRC, &info, &[]).unwrap());
    talk(&mut world, &mut speaker, 300..550);
    let (media, control) = hearer.receive(&mut world);
    for (sequence, packet) in (300..).zip(&media) {
        assert_eq!(packet.header.payload_type, RED_PT);
        let red = RedPayload::parse(&packet.payload).unwrap();
        let [before] = red.repetitions() else { panic!("one frame is repeated") };
        assert_eq!((before.payload_type, red.own.payload_type), (HEARD_PT, HEARD_PT));
        assert_eq!(u32::from(before.timestamp_offset), TICKS);
        assert_eq!(packet.payload[before.range()], frame(sequence - 1));
        assert_eq!(packet.payload[red.own.range()], frame(sequence));
    }
    assert_eq!(media.len(), 250);

    // Reports of ours count what was sent.
    let plain: usize = (0..300).map(|sequence| frame(sequence).len()).sum();
    let mut reported = control.iter().flat_map(|compound| rtcp::packets(compound));
    let last = reported.by_ref().filter_map(|packet| match packet.unwrap() {
        Packet::SenderReport(report) if report.ssrc == consumer.ssrc => {
            Some((report.packets, report.octets))
        }
        _ => None,
    });
    let (packets, octets) = last.last().expect("a sender report");
    let repeated = packets as usize - 300;
    let sent: usize = media[..repeated].iter().map(|packet| packet.payload.len()).sum();
    assert_eq!(octets as usize, plain + sent);

    report(&world, &mut hearer, consumer.ssrc, 0);
    talk(&mut world, &mut speaker, 550..560);
    let media = hearer.media(&mut world);
    assert_eq!(media.len(), 10);
    for (sequence, packet) in (550..).zip(&media) {
        assert_eq!(packet.header.payload_type, HEARD_PT);
        assert_eq!(packet.payload, frame(sequence));
    }
}

#[test]
fn what_is_sent_again_is_the_same_to_the_byte() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, consumer) = lossy(&mut world, true);
    // Some of it did not come to the server: what follows a gap repeats nothing.
    talk(&mut world, &mut speaker, 300..310);
    talk(&mut world, &mut speaker, 311..320);
    let first = hearer.raw(&mut world);
    let sent: Vec<_> = first.iter().filter(|bytes| bytes[0] >> 6 == 2 && bytes[1] < 192).collect();
    let number = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    assert_eq!(sent.len(), 19);
    let numbers: Vec<u16> = sent.iter().map(|bytes| number(bytes)).collect();
    assert_eq!(sent[10][1] & 0x7f, HEARD_PT, "nothing to repeat");
    assert_eq!(sent[11][1] & 0x7f, RED_PT);
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, numbers.iter().copied()).unwrap();
    });
    world.turn();
    let again = hearer.raw(&mut world);
    assert_eq!(again.len(), sent.len());
    for (again, sent) in again.iter().zip(&sent) {
        assert!(again == *sent, "{}", number(sent));
    }

    // Of what has left the history, one or both, nothing is sent.
    talk(&mut world, &mut speaker, 320..500);
    hearer.raw(&mut world);
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, numbers.iter().copied()).unwrap();
    });
    world.turn();
    assert!(hearer.raw(&mut world).is_empty());
}

/// Two nonces may never be the same for two plaintexts: a packet that comes late, into a gap whose
/// neighbours went out alone, is sent again as it went out.
#[test]
fn what_comes_late_is_sent_again_as_it_was() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, consumer) = lossy(&mut world, true);
    talk(&mut world, &mut speaker, 300..301);
    // 302 and 304 follow gaps and go out alone; then the one in between comes.
    for sequence in [302, 304, 303, 301, 306, 305] {
        talk(&mut world, &mut speaker, sequence..sequence + 1);
    }
    let first = hearer.raw(&mut world);
    let sent: Vec<_> = first.iter().filter(|bytes| bytes[0] >> 6 == 2 && bytes[1] < 192).collect();
    let number = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    let numbers: Vec<u16> = sent.iter().map(|bytes| number(bytes)).collect();
    assert_eq!(sent.len(), 7);
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, numbers.iter().copied()).unwrap();
    });
    world.turn();
    let again = hearer.raw(&mut world);
    assert_eq!(again.len(), sent.len());
    for again in &again {
        let sent = sent.iter().find(|sent| number(sent) == number(again)).expect("one of them");
        assert!(again == *sent, "{}", number(sent));
    }
}

#[test]
fn without_requests_nothing_is_sent_again_under_its_number() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, consumer) = lossy(&mut world, false);
    talk(&mut world, &mut speaker, 300..320);
    let media = hearer.media(&mut world);
    assert_eq!(media[5].header.payload_type, RED_PT);
    hearer.send_rtcp(&world, |writer| {
        writer.nack(9, consumer.ssrc, [media[5].header.sequence].into_iter()).unwrap();
    });
    world.turn();
    assert!(hearer.media(&mut world).is_empty(), "its send time would be another");
}

#[test]
fn silence_pauses_and_what_does_not_fit_are_not_repeated() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, _) = lossy(&mut world, true);
    talk(&mut world, &mut speaker, 300..302);
    let mut timestamp = 5_000 + 301 * TICKS;
    // Bytes of the frame, ticks since the one before, and whether it repeats that.
    let table = [
        (60, TICKS, true),
        (1, TICKS, true),
        (60, TICKS, false),
        (60, 16_383, true),
        (60, 16_384, false),
        (60, 20 * TICKS, false),
        (1_023, TICKS, true),
        (60, TICKS, true),
        (1_100, TICKS, true),
        (60, TICKS, false),
        (700, TICKS, true),
        (700, TICKS, false),
        (60, TICKS, true),
        (60, 0, false),
    ];
    hearer.media(&mut world);
    for (sequence, (len, ticks, _)) in (302..).zip(table) {
        timestamp += ticks;
        let header = OutgoingHeader { timestamp, ..fields(SENT_PT, sequence) };
        let packet = speaker.sealed(header, None, &vec![sequence as u8; len]);
        world.push(speaker.address, speaker.core, &packet);
        world.run(Duration::from_millis(20));
    }
    let media = hearer.media(&mut world);
    assert_eq!(media.len(), table.len());
    for (index, (packet, (len, _, repeats))) in media.iter().zip(table).enumerate() {
        assert_eq!(packet.header.payload_type == RED_PT, repeats, "{index}");
        let own = match repeats {
            true => RedPayload::parse(&packet.payload).unwrap().own.range(),
            false => 0..packet.payload.len(),
        };
        assert_eq!(packet.payload[own], vec![(302 + index) as u8; len], "{index}");
    }
}

#[test]
fn repetitions_take_nothing_from_the_heap() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, consumer) = lossy(&mut world, true);
    talk(&mut world, &mut speaker, 300..310);
    world.allocations = 0;
    talk(&mut world, &mut speaker, 310..400);
    let media = hearer.media(&mut world);
    hearer.send_rtcp(&world, |writer| {
        let numbers = media[80..].iter().map(|packet| packet.header.sequence);
        writer.nack(9, consumer.ssrc, numbers).unwrap();
    });
    world.turn();
    assert_eq!(hearer.raw(&mut world).len(), 20);
    assert_eq!(world.allocations, 0);
}

/// What the acceptance of repetitions asks of Chromium, of frames: a tenth of the packets is lost.
#[test]
fn of_what_a_lossy_path_loses_a_fifth_is_missing_for_twice_the_bytes() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer, consumer) = lossy(&mut world, false);
    let mut random = Random(11);
    let (mut heard, mut lost, mut bytes, mut plain_bytes) = (BTreeSet::new(), 0_u32, 0, 0);
    for sequence in 300..3_300_u16 {
        send_opus(&world, &mut speaker, sequence);
        world.run(Duration::from_millis(20));
        for datagram in hearer.raw(&mut world) {
            let (media, _) = hearer.opened(datagram.clone());
            let Some(media) = media else { continue };
            bytes += datagram.len();
            plain_bytes += datagram.len() - media.payload.len() + frame(sequence).len();
            if random.one_in(10) {
                lost += 1;
                continue;
            }
            match RedPayload::parse(&media.payload).filter(|_| media.header.payload_type == RED_PT)
            {
                Some(red) => heard.extend(red.repetitions().iter().map(|_| sequence - 1)),
                None => panic!("{sequence} is not repeated"),
            }
            heard.insert(sequence);
        }
        // As Chromium does.
        if sequence % 250 == 0 {
            speaker.check(&world, true);
            hearer.check(&world, true);
            report(&world, &mut hearer, consumer.ssrc, 26);
        }
    }
    let missing = (300..3_300).filter(|sequence| !heard.contains(sequence)).count();
    assert!((200..400).contains(&lost), "{lost}");
    assert!(missing * 5 <= lost as usize, "{missing} of {lost}");
    assert!(bytes * 10 <= plain_bytes * 21, "{bytes} for {plain_bytes}");
}
