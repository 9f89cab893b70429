//! Pipelines speak neither ICE nor DTLS: their address is named to us or learnt once, and whoever
//! else says to be them is dropped under a name.

use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_io::SocketId;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, Packet, SenderInfo};
use opencall_wire::srtp::{OpenContext, Profile, SealContext};
use opencall_wire::time::NtpTime;

use crate::world::*;

const CORE: CoreId = CoreId(0);
const SOCKET: SocketId = SocketId(0);
const SRTP: Option<Profile> = Some(Profile::AesCm128HmacSha1_80);

fn video(sequence: u16) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    let key = sequence == 0;
    Video { ssrc: 1111, rid: None, sequence, timestamp, picture_id: sequence, key }
}

/// Where a client's RTCP comes from, if not from where its RTP does.
fn rtcp_address(client: &Client) -> SocketAddr {
    SocketAddr::new(client.address.ip(), client.address.port() + 1)
}

/// A pipeline whose address is said, or is to be learnt.
fn connect(world: &mut World, srtp: Option<Profile>, comedia: bool, rtcp_mux: bool) -> Client {
    let (mut client, keys) = world.invite(CORE, srtp.unwrap_or(Profile::AeadAes128Gcm), 10_000_000);
    if srtp.is_none() {
        client.seal = SealContext::clear();
        (client.open, client.witness) = (OpenContext::clear(), OpenContext::clear());
    }
    let rtcp = (!rtcp_mux).then(|| (rtcp_address(&client), SOCKET));
    let remote = PlainRemote { rtp: (client.address, SOCKET), rtcp };
    let link = PlainLink {
        remote: (!comedia).then_some(remote),
        rtcp_mux,
        keys: srtp.is_some().then_some(*keys),
    };
    let transport = client.transport;
    world.command(CORE, Command::ConnectPlain { transport, link: Box::new(link) });
    client
}

fn drops(world: &World, reason: DropReason) -> u64 {
    world.core(CORE).stats().drops.of(reason)
}

/// Sends so many packets, and says how many reached the hearer.
fn heard(
    world: &mut World,
    speaker: &mut Client,
    hearer: &mut Client,
    range: std::ops::Range<u16>,
) -> usize {
    for sequence in range {
        speaker.send_video(world, video(sequence));
        world.turn();
    }
    hearer.media(world).len()
}

fn sender_report(writer: &mut rtcp::Writer<'_>) {
    let info =
        SenderInfo { ntp: NtpTime(0xe000_0000 << 32), rtp_timestamp: 0, packets: 1, octets: 9 };
    writer.sender_report(1111, &info, &[]).unwrap();
}

#[test]
fn what_a_named_address_sends_reaches_the_others() {
    for srtp in [None, SRTP] {
        let mut world = World::new(1);
        let mut speaker = connect(&mut world, srtp, false, true);
        let source = world.produce(&speaker, MediaKind::Video, &[1111]);
        let mut hearer = world.join(CORE);
        world.consume(&hearer, &source);
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..5), 5);
        let told = |event: &Event| {
            matches!(event, Event::Ice { transport, state: IceState::Completed, remote }
                if (*transport, *remote) == (speaker.transport, speaker.address))
        };
        assert_eq!(world.events.iter().filter(|event| told(event)).count(), 1);

        // From elsewhere nothing is taken, from there no SSRC that was not announced.
        let packet = speaker.sealed_video(video(5));
        world.push(SocketAddr::from(([203, 0, 113, 9], 9)), CORE, &packet);
        world.turn();
        assert_eq!(drops(&world, DropReason::AddressNotValidated), 1);
        speaker.mid = b"9";
        let stray = speaker.sealed_video(Video { ssrc: 4321, ..video(6) });
        world.push(speaker.address, CORE, &stray);
        world.turn();
        assert_eq!(drops(&world, DropReason::NoProducer), 1);
        assert!(hearer.media(&mut world).is_empty());
    }
}

#[test]
fn an_address_is_learnt_once() {
    for srtp in [None, SRTP] {
        let mut world = World::new(1);
        let mut speaker = connect(&mut world, srtp, true, true);
        let source = world.produce(&speaker, MediaKind::Video, &[1111]);
        let mut hearer = world.join(CORE);
        world.consume(&hearer, &source);
        let forger = SocketAddr::from(([203, 0, 113, 9], 9));
        if srtp.is_some() {
            // Who has no keys is not learnt.
            let mut forged = speaker.sealed_video(video(900));
            forged[30] ^= 1;
            world.push(forger, CORE, &forged);
            world.turn();
            assert_eq!(drops(&world, DropReason::SrtpAuthFailed), 1);
        }
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..5), 5);
        assert_eq!(drops(&world, DropReason::PlainElsewhere), 0);
        for sequence in 5..8 {
            let packet = speaker.sealed_video(video(sequence));
            world.push(forger, CORE, &packet);
            world.turn();
        }
        assert_eq!(drops(&world, DropReason::PlainElsewhere), 3);
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 8..9), 1);
        world.run(Duration::from_millis(1_500));
        assert!(!speaker.raw(&mut world).is_empty(), "reports go to who sends");
        assert!(world.wire.iter().all(|(to, _)| *to != forger));
    }
}

#[test]
fn reports_have_a_port_of_their_own_where_they_are_not_multiplexed() {
    for comedia in [false, true] {
        let mut world = World::new(1);
        let mut speaker = connect(&mut world, None, comedia, false);
        let source = world.produce(&speaker, MediaKind::Video, &[1111]);
        let mut hearer = world.join(CORE);
        world.consume(&hearer, &source);
        // ffmpeg's first report comes before its first packet.
        let report = speaker.sealed_rtcp(sender_report);
        world.push(rtcp_address(&speaker), CORE, &report);
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..5), 5);
        world.run(Duration::from_millis(1_500));
        assert!(speaker.raw(&mut world).is_empty(), "no report goes to where RTP comes from");
        let at = rtcp_address(&speaker);
        let received: Vec<_> = world.wire.iter().filter(|(to, _)| *to == at).collect();
        assert!(!received.is_empty());
        for (_, compound) in received {
            assert!(rtcp::packets(compound).all(|packet| packet.is_ok()));
        }
        // It was heard: the hearer is told the sender's clock.
        speaker.send_video(&world, video(5));
        world.run(Duration::from_millis(1_500));
        let (_, compounds) = hearer.receive(&mut world);
        let reports = compounds.iter().flat_map(|compound| rtcp::packets(compound));
        assert!(reports.flatten().any(|packet| matches!(packet, Packet::SenderReport(_))));

        let forger = SocketAddr::from(([203, 0, 113, 9], 9));
        world.push(forger, CORE, &report);
        world.turn();
        let reason = match comedia {
            true => DropReason::PlainElsewhere,
            false => DropReason::AddressNotValidated,
        };
        assert_eq!(drops(&world, reason), 1);
    }
}

#[test]
fn plain_rtp_goes_to_the_address_that_was_named() {
    for srtp in [None, SRTP] {
        let mut world = World::new(1);
        let mut speaker = world.join(CORE);
        let source = world.produce(&speaker, MediaKind::Video, &[1111]);
        let mut hearer = connect(&mut world, srtp, false, true);
        world.consume(&hearer, &source);
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..5), 5);
        // It need not answer for it to go on.
        for second in 0..120 {
            world.run(Duration::from_secs(1));
            speaker.check(&world, true);
            assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 5 + second..6 + second), 1);
        }
        assert!(drops(&world, DropReason::TransportNotReady) == 0);
    }
}

#[test]
fn who_is_silent_is_lost_and_comes_back() {
    let mut world = World::new(1);
    let mut speaker = connect(&mut world, None, true, true);
    let source = world.produce(&speaker, MediaKind::Video, &[1111]);
    let mut hearer = world.join(CORE);
    world.consume(&hearer, &source);
    for second in 0..40 {
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, second..second + 1), 1);
        world.run(Duration::from_secs(1));
        hearer.check(&world, true);
    }
    let states = |world: &World, speaker: &Client| -> Vec<IceState> {
        let of = world.events.iter().filter_map(|event| match event {
            Event::Ice { transport, state, .. } if *transport == speaker.transport => Some(*state),
            _ => None,
        });
        of.collect()
    };
    assert_eq!(states(&world, &speaker), [IceState::Completed], "media renews consent");
    for _ in 0..70 {
        world.run(Duration::from_secs(1));
        hearer.check(&world, true);
    }
    assert_eq!(states(&world, &speaker), [IceState::Completed, IceState::Disconnected]);
    hearer.raw(&mut world);
    // Another pipeline that is let in meanwhile takes nobody's place.
    let mut other = connect(&mut world, None, true, true);
    world.produce(&other, MediaKind::Video, &[2222]);
    other.send_video(&world, Video { ssrc: 2222, ..video(0) });
    world.turn();
    assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 40..42), 2);
    assert_eq!(states(&world, &speaker).last(), Some(&IceState::Completed));
}

#[test]
fn strangers_cost_nothing_and_take_no_place() {
    let mut world = World::new(1);
    let mut speaker = connect(&mut world, None, true, false);
    let source = world.produce(&speaker, MediaKind::Video, &[1111]);
    let mut hearer = world.join(CORE);
    world.consume(&hearer, &source);
    let before = world.core(CORE).outline();
    let mut packet = speaker.sealed_video(video(700));
    for number in 0..20_000_u32 {
        let ssrc = 0x9000_0000 + number;
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let [a, b, c, d] = number.to_be_bytes();
        world.push(SocketAddr::from(([198, 18 + a, b, c], 1024 + u16::from(d))), CORE, &packet);
        if number % 50 == 0 {
            world.turn();
        }
    }
    world.turn();
    assert_eq!(drops(&world, DropReason::AddressNotValidated), 20_000);
    assert_eq!(world.core(CORE).outline(), before, "nothing is kept of them");
    assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..3), 3);

    // A check of someone else's cannot take the address away, nor can DTLS be spoken from it.
    let (mut thief, _) = world.invite(CORE, Profile::AeadAes128Gcm, 1_000_000);
    thief.address = speaker.address;
    world.run(Duration::from_secs(20));
    thief.check(&world, true);
    world.push(speaker.address, CORE, &DTLS_ANSWER);
    world.turn();
    assert_eq!(drops(&world, DropReason::AddressTaken), 1);
    assert_eq!(drops(&world, DropReason::DtlsUnneeded), 1);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Dtls { .. })));
    hearer.check(&world, true);
    assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 3..6), 3);
}

/// What nothing protects is read as it comes: whoever forges the address may write anything.
#[test]
fn garbage_from_a_pipelines_address_harms_nobody_else() {
    let mut world = World::new(1);
    let mut random = 7_u64;
    let mut speaker = connect(&mut world, None, false, false);
    let source = world.produce(&speaker, MediaKind::Video, &[1111]);
    let mut hearer = connect(&mut world, None, false, true);
    let consumer = world.consume(&hearer, &source);
    let mut other = world.join(CORE);
    let others = world.produce(&other, MediaKind::Video, &[1111]);
    let mut watcher = world.join(CORE);
    world.consume(&watcher, &others);
    assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..3), 3);
    for first in 0..=255_u8 {
        for len in [0, 1, 2, 4, 8, 11, 12, 13, 20, 28, 40, 100, 1400] {
            let draw = |_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as u8
            };
            let mut bytes: Vec<u8> = (0..len).map(draw).collect();
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            let named = [speaker.address, rtcp_address(&speaker), hearer.address];
            for (from, ssrc) in named.into_iter().zip([1111, 1111, consumer.ssrc]) {
                world.push(from, CORE, &bytes);
                for at in [4, 8] {
                    if let Some(place) = bytes.get_mut(at..at + 4) {
                        place.copy_from_slice(&ssrc.to_be_bytes());
                        world.push(from, CORE, &bytes);
                    }
                }
            }
            world.turn();
        }
    }
    assert!(!world.events.iter().any(|event| matches!(event, Event::Dtls { .. })));
    watcher.raw(&mut world);
    assert_eq!(heard(&mut world, &mut other, &mut watcher, 0..5), 5);
}

#[test]
fn forgers_of_what_is_awaited_are_guests_for_a_packet() {
    let mut world = World::new(1);
    let mut hearer = world.join(CORE);
    let mut speaker = connect(&mut world, SRTP, true, false);
    let source = world.produce(&speaker, MediaKind::Video, &[1111]);
    world.consume(&hearer, &source);
    let before = world.core(CORE).holdings().addresses;
    let mut forged = speaker.sealed_video(video(900));
    forged[30] ^= 1;
    let mut report = speaker.sealed_rtcp(sender_report);
    report[10] ^= 1;
    for number in 0..1_000_u16 {
        let from = SocketAddr::from(([203, 0, 113, 9], 1024 + number));
        world.push(from, CORE, if number % 2 == 0 { &forged } else { &report });
        world.turn();
        assert!(world.core(CORE).holdings().addresses <= before + 1);
    }
    assert_eq!(drops(&world, DropReason::SrtpAuthFailed), 1_000);
    assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..5), 5);

    // The last guest goes with who was awaited, whoever comes in its place.
    world.push(SocketAddr::from(([203, 0, 113, 9], 9)), CORE, &report);
    world.turn();
    world.command(CORE, Command::CloseTransport(speaker.transport));
    assert_eq!(world.core(CORE).holdings().addresses, before);
}

#[test]
fn an_ssrc_that_was_found_can_be_awaited_again() {
    let mut world = World::new(1);
    let mut hearer = world.join(CORE);
    let mut speakers = Vec::new();
    for _ in 0..2 {
        let mut speaker = connect(&mut world, None, true, false);
        let source = world.produce(&speaker, MediaKind::Video, &[1111]);
        world.consume(&hearer, &source);
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..2), 2);
        speakers.push(speaker);
    }
    // The first one's reports are not taken for the second one's.
    let report = speakers[0].sealed_rtcp(sender_report);
    world.push(rtcp_address(&speakers[0]), CORE, &report);
    world.turn();
    assert_eq!(drops(&world, DropReason::PlainElsewhere), 1);
    for speaker in &mut speakers {
        assert_eq!(heard(&mut world, speaker, &mut hearer, 2..4), 2);
        world.command(CORE, Command::CloseTransport(speaker.transport));
    }
    speakers[0].send_video(&world, video(4));
    world.turn();
    assert_eq!(drops(&world, DropReason::AddressNotValidated), 1);
}

#[test]
fn a_core_that_dies_leaves_pipelines_where_they_were() {
    for (srtp, comedia) in [(None, false), (None, true), (SRTP, true)] {
        let mut world = World::new(1);
        let mut speaker = connect(&mut world, srtp, comedia, true);
        let source = world.produce(&speaker, MediaKind::Video, &[1111]);
        let mut hearer = world.join(CORE);
        world.consume(&hearer, &source);
        assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..5), 5);
        world.kill(CORE, 7);
        speaker.send_video(&world, Video { key: true, ..video(5) });
        world.turn();
        let got = heard(&mut world, &mut speaker, &mut hearer, 6..9);
        let drops: Vec<_> = world.core(CORE).stats().drops.iter().collect();
        assert_eq!(got, 4, "{srtp:?} {comedia} {drops:?}");
        world.push(SocketAddr::from(([203, 0, 113, 9], 9)), CORE, &speaker.sealed_video(video(9)));
        world.turn();
        assert!(hearer.media(&mut world).is_empty());
    }
}

#[test]
fn packets_of_a_picture_that_differ_by_bytes_are_all_sent() {
    let mut world = World::new(1);
    let mut speaker = connect(&mut world, None, false, true);
    let source = world.produce(&speaker, MediaKind::Video, &[1111]);
    let mut hearer = world.join(CORE);
    world.consume(&hearer, &source);
    assert_eq!(heard(&mut world, &mut speaker, &mut hearer, 0..1), 1);
    for (sequence, len) in [(1, 500), (2, 500), (3, 501)] {
        let video = Video { timestamp: 9000, ..video(sequence) };
        let mut payload = video.payload();
        payload.resize(len, 7);
        speaker.send_payload(&world, video, &payload);
    }
    world.turn();
    let got = hearer.media(&mut world);
    assert_eq!(got.len(), 3, "{:?}", world.core(CORE).stats().drops.iter().collect::<Vec<_>>());
    assert_eq!(drops(&world, DropReason::Internal), 0);
}
