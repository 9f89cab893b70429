//! A client that changes its network is followed as soon as something came from there that only it
//! can have sent: for who sends with the first packet, for who only receives with the feedback on
//! what reaches it there.

use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// A record of DTLS 1.3 that is protected, as far as its header tells.
const PROTECTED: [u8; 40] = {
    let mut record = [0x55; 40];
    record[0] = 0x2c;
    (record[3], record[4]) = (0, 35);
    record
};

fn elsewhere(client: &Client) -> SocketAddr {
    let mut address = client.address;
    address.set_port(6000);
    address
}

fn send(world: &mut World, speaker: &mut Client, sequence: u16) {
    let timestamp = u32::from(sequence) * 3000;
    let key = sequence == 0;
    let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key };
    speaker.send_video(world, video);
    world.turn();
}

fn room(world: &mut World) -> (Client, Client) {
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CORE);
    world.consume(&hearer, &source);
    send(world, &mut speaker, 0);
    assert_eq!(hearer.media(world).len(), 1);
    (speaker, hearer)
}

fn media_to(world: &mut World, address: SocketAddr) -> usize {
    let taken = world.wire.extract_if(.., |(to, _)| *to == address);
    taken.filter(|(_, bytes)| bytes[0] & 0xc0 == 0x80 && bytes[1] & 0x7f == ROUTER_PT).count()
}

fn addresses_of(world: &World, client: &Client) -> Vec<SocketAddr> {
    let remote = |event: &Event| match event {
        Event::Ice { transport, remote, .. } if *transport == client.transport => Some(*remote),
        _ => None,
    };
    world.events.iter().filter_map(remote).collect()
}

#[test]
fn who_sends_is_followed_with_its_first_packet() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer) = room(&mut world);
    let old = speaker.address;
    speaker.address = elsewhere(&speaker);
    speaker.check(&world, true);
    world.turn();
    assert_eq!(addresses_of(&world, &speaker).last(), Some(&old), "not on a check's word");
    send(&mut world, &mut speaker, 1);
    assert_eq!(hearer.media(&mut world).len(), 1);
    assert_eq!(addresses_of(&world, &speaker).last(), Some(&speaker.address));
    // What it is told, it is told there.
    world.wire.clear();
    world.run(Duration::from_secs(2));
    assert!(!speaker.raw(&mut world).is_empty());
    assert_eq!(world.wire.iter().filter(|(to, _)| *to == old).count(), 0);
}

#[test]
fn who_only_receives_is_followed_within_a_round_trip_of_media() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer) = room(&mut world);
    let (old, new) = (hearer.address, elsewhere(&hearer));
    hearer.address = new;
    hearer.check(&world, true);
    world.turn();
    // Media goes on where it went; a sample of it is sent to where the client says that it is.
    for sequence in 1..4 {
        send(&mut world, &mut speaker, sequence);
    }
    assert_eq!(media_to(&mut world, old), 3);
    let samples = media_to(&mut world, new);
    assert!((1..3).contains(&samples), "{samples} samples");

    // Feedback of any kind: here transport-wide feedback, which browsers send on what arrives.
    hearer.send_rtcp(&world, |writer| {
        writer.transport_cc(9, 1, 0, 0, 0, &[Some(1)]).unwrap();
    });
    world.turn();
    for sequence in 4..10 {
        send(&mut world, &mut speaker, sequence);
    }
    assert_eq!((media_to(&mut world, old), media_to(&mut world, new)), (0, 6));
    assert_eq!(addresses_of(&world, &hearer).last(), Some(&new));
}

#[test]
fn a_client_behind_a_dead_address_is_followed_without_a_nomination() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer) = room(&mut world);
    let new = elsewhere(&hearer);
    world.run(Duration::from_secs(13));
    hearer.address = new;
    hearer.check(&world, false);
    hearer.send_rtcp(&world, |writer| writer.receiver_report(9, &[]).unwrap());
    world.turn();
    speaker.check(&world, true);
    send(&mut world, &mut speaker, 1);
    assert_eq!(media_to(&mut world, new), 1);
}

#[test]
fn an_ice_restart_moves_media_with_the_first_feedback() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer) = room(&mut world);
    let (old, new) = (hearer.address, elsewhere(&hearer));
    hearer.ice = IceCredentials::generate(Some(CORE));
    let (transport, ice) = (hearer.transport, hearer.ice.clone());
    world.command(CORE, Command::RestartIce { transport, ice });
    hearer.address = new;
    hearer.check(&world, true);
    world.turn();
    send(&mut world, &mut speaker, 1);
    assert_eq!(media_to(&mut world, old), 1);
    hearer.send_rtcp(&world, |writer| writer.receiver_report(9, &[]).unwrap());
    world.turn();
    send(&mut world, &mut speaker, 2);
    assert!(media_to(&mut world, new) >= 1);
    assert_eq!(media_to(&mut world, old), 0);
}

#[test]
fn going_to_and_fro_is_told_to_control_once_a_second() {
    let mut world = World::new(1);
    let (mut speaker, mut hearer) = room(&mut world);
    let addresses = [hearer.address, elsewhere(&hearer)];
    world.events.clear();
    let ms = 10_000;
    let mut sent = 0;
    for at in 0..ms {
        // Each check is the first from there that nominates since the other did.
        hearer.address = addresses[at % 2];
        hearer.check(&world, true);
        hearer.send_rtcp(&world, |writer| writer.receiver_report(9, &[]).unwrap());
        hearer.check(&world, false);
        if at % 20 == 0 {
            sent += 1;
            send(&mut world, &mut speaker, sent);
        } else {
            world.turn();
        }
    }
    let media: usize = addresses.iter().map(|&address| media_to(&mut world, address)).sum();
    assert!(media >= usize::from(sent), "nothing is lost by it: {media} of {sent}");
    let told = addresses_of(&world, &hearer).len();
    assert!((1..=ms / 1000 + 4).contains(&told), "{told} events");
    // The last word is the truth.
    world.run(Duration::from_secs(2));
    hearer.address = addresses[0];
    hearer.check(&world, true);
    hearer.check(&world, true);
    world.run(Duration::from_secs(2));
    assert_eq!(addresses_of(&world, &hearer).last(), Some(&addresses[0]));
}

#[test]
fn who_moves_before_its_handshake_is_complete_is_sent_our_last_flight_there() {
    let mut world = World::new(1);
    // We have its last flight, and it has not got ours.
    let mut client = world.join(CORE);
    let (old, new) = (client.address, elsewhere(&client));
    client.address = new;
    client.check(&world, true);
    client.answer_handshake(&world);
    world.turn();
    let sent = client.check_bytes(true).len() + DTLS_ANSWER.len();
    let flight = client_hello(75);
    for _ in 0..10 {
        world.send_dtls(&client, &flight);
    }
    let is_flight = |bytes: &&Vec<u8>| **bytes == flight;
    let to_new = client.raw(&mut world);
    assert!(to_new.contains(&flight), "it cannot prove itself without");
    assert!(to_new.iter().map(Vec::len).sum::<usize>() <= 3 * sent, "and may not be there");
    client.address = old;
    assert_eq!(client.raw(&mut world).iter().filter(is_flight).count(), 10);
}

/// A transport with nothing but data channels: control opens what came from there, and says so.
#[test]
fn who_speaks_in_data_channels_alone_is_followed_by_control_s_word() {
    let mut world = World::new(1);
    let mut client = world.join(CORE);
    let (transport, old, new) = (client.transport, client.address, elsewhere(&client));
    let unproven = |world: &mut World, client: &Client, bytes: &[u8]| {
        world.push(client.address, CORE, bytes);
        world.turn();
        let dtls = world.events.iter().rev().find_map(|event| match event {
            Event::Dtls { transport: of, unproven, .. } if *of == transport => Some(*unproven),
            _ => None,
        });
        dtls.expect("control has it")
    };
    assert_eq!(unproven(&mut world, &client, &PROTECTED), None, "it is known to be there");
    client.address = new;
    client.check(&world, true);
    world.turn();
    let tuple = unproven(&mut world, &client, &PROTECTED).expect("it may be anyone's");
    assert_eq!(tuple.0, new);
    assert_eq!(addresses_of(&world, &client).last(), Some(&old));

    world.command(CORE, Command::ProveTuple { transport, tuple });
    world.turn();
    assert_eq!(addresses_of(&world, &client).last(), Some(&new));
    assert_eq!(unproven(&mut world, &client, &PROTECTED), None);
    world.wire.clear();
    world.send_dtls(&client, &[23; 100]);
    world.turn();
    assert!(!client.raw(&mut world).is_empty(), "and is answered there");

    // What control says late changes nothing of another client's.
    let other = world.join(CORE);
    let (transport, tuple) = (client.transport, (other.address, tuple.1));
    world.command(CORE, Command::ProveTuple { transport, tuple });
    world.turn();
    assert_eq!(addresses_of(&world, &client).last(), Some(&new));
}
