//! Anyone can send anything: what is forged is dropped under its name, and honest media goes on.

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

fn video(sequence: u16, key: bool) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key }
}

/// A tiny generator: the same packets each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }
}

/// Three honest people and a drop counter before and after.
struct Room {
    world: World,
    speaker: Client,
    hearer: Client,
    sequence: u16,
}

impl Room {
    fn new() -> Self {
        let mut world = World::new(1);
        let speaker = world.join(CoreId(0));
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        let hearer = world.join(CoreId(0));
        world.consume(&hearer, &source);
        let mut room = Room { world, speaker, hearer, sequence: 0 };
        room.sequence = 1;
        room.speaker.send_video(&room.world, video(0, true));
        room.world.turn();
        assert_eq!(room.hearer.media(&mut room.world).len(), 1);
        room
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.world.core(CoreId(0)).stats().drops.of(reason)
    }

    /// Pushes one datagram; how much the counter of `reason` rose.
    fn drops_after(&mut self, from: std::net::SocketAddr, bytes: &[u8], reason: DropReason) -> u64 {
        let before = self.drops(reason);
        self.world.push(from, CoreId(0), bytes);
        self.world.turn();
        self.drops(reason) - before
    }

    fn assert_unharmed(&mut self) {
        self.hearer.raw(&mut self.world);
        for _ in 0..3 {
            self.speaker.send_video(&self.world, video(self.sequence, false));
            self.sequence += 1;
            self.world.turn();
        }
        assert_eq!(self.hearer.media(&mut self.world).len(), 3);
    }
}

#[test]
fn datagrams_of_every_first_byte_and_length_from_strangers_and_friends() {
    let mut room = Room::new();
    let mut random = Random(3);
    let stranger = std::net::SocketAddr::from(([203, 0, 113, 9], 9));
    for first in 0..=255_u8 {
        for len in [0, 1, 2, 3, 7, 11, 12, 13, 19, 20, 27, 28, 40, 100, 1200] {
            let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            for from in [stranger, room.speaker.address, room.hearer.address] {
                room.world.push(from, CoreId(0), &bytes);
            }
        }
        room.world.turn();
    }
    room.world.events.clear();
    room.assert_unharmed();
}

#[test]
fn forged_truncated_and_replayed_rtp() {
    let mut room = Room::new();
    let speaker = room.speaker.address;
    let stranger = std::net::SocketAddr::from(([203, 0, 113, 9], 9));
    let fields = opencall_wire::rtp::header::OutgoingHeader {
        marker: false,
        payload_type: SENT_PT,
        sequence: 1,
        timestamp: 0,
        ssrc: 1000,
    };
    let good = room.speaker.sealed(fields, None, &video(1, false).payload());
    room.sequence = 2;

    assert_eq!(room.drops_after(stranger, &good, DropReason::AddressNotValidated), 1);
    let mut forged = good.clone();
    forged[40] ^= 1;
    assert_eq!(room.drops_after(speaker, &forged, DropReason::SrtpAuthFailed), 1);
    for len in 0..good.len() {
        room.world.push(speaker, CoreId(0), &good[..len]);
        room.world.turn();
    }
    assert_eq!(room.drops_after(speaker, &good, DropReason::SrtpReplay), 0, "none was taken");
    assert_eq!(room.drops_after(speaker, &good, DropReason::SrtpReplay), 1, "now it was");

    // Forged SSRCs leave no state: as many as one likes, and a new honest one still gets in.
    for ssrc in 0..2000_u32 {
        let mut forged = good.clone();
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
        room.world.push(speaker, CoreId(0), &forged);
        room.world.turn();
    }
    assert_eq!(room.drops(DropReason::SrtpTooManySsrcs), 0);
    room.assert_unharmed();
}

#[test]
fn forged_rtcp_and_dtls_from_nowhere() {
    let mut room = Room::new();
    let (speaker, stranger) =
        (room.speaker.address, std::net::SocketAddr::from(([203, 0, 113, 9], 9)));
    let rtcp = [0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x80, 0, 0, 1, 1, 2, 3, 4];
    assert_eq!(room.drops_after(stranger, &rtcp, DropReason::AddressNotValidated), 1);
    let rose =
        room.drops_after(speaker, &[&rtcp[..], &[0; 16]].concat(), DropReason::SrtpAuthFailed);
    assert_eq!(rose, 1);

    let hello =
        [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 7];
    assert_eq!(room.drops_after(stranger, &hello, DropReason::AddressNotValidated), 1);
    assert_eq!(passed_dtls(&room), 0);
    room.assert_unharmed();
}

/// DTLS that reached control.
fn passed_dtls(room: &Room) -> usize {
    room.world.events.iter().filter(|event| matches!(event, Event::Dtls { .. })).count()
}

/// Once there are keys a ClientHello is of no use, nor are records that no association waits for.
#[test]
fn dtls_that_is_of_no_use_reaches_control_never() {
    let mut room = Room::new();
    let speaker = room.speaker.address;
    let record = |kind: u8, epoch: u8, body: &[u8]| {
        let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, 0, body.len() as u8];
        record.extend_from_slice(body);
        record
    };
    let useless = [
        record(22, 0, &[1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 7]), // ClientHello
        record(22, 0, &[0; 12]),                                 // HelloRequest
        record(21, 0, &[2, 40]),                                 // an alert in the clear
        record(23, 0, &[7; 40]),                                 // data in the clear
        record(23, 3, &[7; 40]),                                 // an epoch without keys
    ];
    for datagram in useless {
        assert_eq!(room.drops_after(speaker, &datagram, DropReason::DtlsUnneeded), 1);
    }
    assert_eq!(passed_dtls(&room), 0);
    room.assert_unharmed();
}

/// What only control can judge: a few hundred a second of it take nothing from a handshake.
#[test]
fn a_flood_of_protected_dtls_leaves_room_and_is_cut_off() {
    let mut room = Room::new();
    let speaker = room.speaker.address;
    let garbage = [&[0x2e, 0, 1, 0, 40][..], &[9; 40]].concat();
    for _ in 0..500 {
        room.world.push(speaker, CoreId(0), &garbage);
        room.world.turn();
    }
    assert_eq!((passed_dtls(&room), room.drops(DropReason::DtlsFlood)), (500, 0));
    for index in 0..3000 {
        room.world.push(speaker, CoreId(0), &garbage);
        // All within the same second.
        if index % 10 == 9 {
            room.world.turn();
        }
    }
    assert!((501..700).contains(&passed_dtls(&room)), "{} passed", passed_dtls(&room));
    assert!(room.drops(DropReason::DtlsFlood) > 2500);
    room.assert_unharmed();
}

/// Data channels have a budget of their own, which handshakes do not share, and it ends too.
#[test]
fn data_channels_pass_in_thousands_and_leave_handshakes_their_share() {
    let mut world = World::new(1);
    world.data_channels = true;
    let client = world.join(CoreId(0));
    let record = [&[0x2e, 0, 1, 0, 40][..], &[9; 40]].concat();
    let (newcomer, _) = world.invite(CoreId(0), client.seal.profile().unwrap(), 1_000_000);
    newcomer.check(&world, true);
    world.turn();
    world.events.clear();
    for index in 0..6_000 {
        world.push(client.address, CoreId(0), &record);
        if index % 30 == 29 {
            world.turn();
        }
    }
    world.turn();
    let passed = |world: &World, transport| {
        let of =
            |event: &&Event| matches!(event, Event::Dtls { transport: t, .. } if *t == transport);
        world.events.iter().filter(of).count()
    };
    let count = passed(&world, client.transport);
    // 30 in each of 200 ms: a burst, and what this time has earned.
    assert!((4_000..4_600).contains(&count), "{count} passed");
    assert!(world.core(CoreId(0)).stats().drops.of(DropReason::DtlsFlood) > 0);
    for _ in 0..64 {
        world.push(newcomer.address, CoreId(0), &record);
        world.turn();
    }
    assert_eq!(passed(&world, newcomer.transport), 64, "a handshake passes");
}

#[test]
fn stun_with_the_wrong_password_is_met_with_silence() {
    let mut room = Room::new();
    let mut impostor = room.world.join(CoreId(0));
    impostor.ice = IceCredentials { ufrag: room.speaker.ice.ufrag.clone(), pwd: "x".repeat(24) };
    impostor.address = std::net::SocketAddr::from(([203, 0, 113, 9], 9));
    impostor.check(&room.world, true);
    room.world.turn();
    assert_eq!(room.drops(DropReason::StunBadIntegrity), 1);
    assert!(impostor.raw(&mut room.world).is_empty());

    impostor.ice.ufrag = "nobody".into();
    impostor.check(&room.world, true);
    room.world.turn();
    assert_eq!(room.drops(DropReason::StunUnknownUfrag), 1);
    assert!(impostor.raw(&mut room.world).is_empty());
    room.assert_unharmed();
}
