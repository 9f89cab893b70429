//! A core dies between a client's last flight of DTLS and the keys that control makes of it. The
//! client has nothing more to send until media comes: the next core knows where it answered, and
//! what nobody knows any more can be proven by feedback on a packet of padding.

use opencall_dataplane::demux::{PacketClass, classify};
use opencall_dataplane::egress::prober::PROBATOR_SSRC;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

const CORE: CoreId = CoreId(0);

fn send(world: &mut World, speaker: &mut Client, sequence: u16) {
    let timestamp = u32::from(sequence) * 960;
    let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: 0, key: true };
    speaker.send_video(world, video);
    world.turn();
}

#[test]
fn a_client_that_answered_the_core_before_is_sent_to() {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Audio, &[1000]);
    let (mut viewer, keys) = world.invite(CORE, Profile::AeadAes128Gcm, 1_000_000_000);
    viewer.check(&world, true);
    viewer.answer_handshake(&world);
    world.turn();
    assert_eq!(viewer.raw(&mut world).len(), 1, "the check is answered");
    world.kill(CORE, 7);
    let transport = viewer.transport;
    world.command(CORE, Command::InstallSrtp { transport, keys });
    world.consume(&viewer, &source);
    send(&mut world, &mut speaker, 1);
    assert_eq!(viewer.media(&mut world).len(), 1, "without a word of the client's");
}

#[test]
fn a_client_that_only_receives_can_prove_where_it_is() {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Audio, &[1000]);
    let (mut viewer, keys) = world.invite(CORE, Profile::AeadAes128Gcm, 1_000_000_000);
    let transport = viewer.transport;
    world.command(CORE, Command::InstallSrtp { transport, keys });
    let feedback = Feedback { transport_cc: true, ..Feedback::default() };
    world.consume_with(&viewer, &source, feedback);
    // No flight of DTLS has come from there, as far as this core knows.
    let check = viewer.check_bytes(true);
    world.push(viewer.address, CORE, &check);
    send(&mut world, &mut speaker, 1);
    let sent = viewer.peek(&world);
    assert!(sent.iter().map(Vec::len).sum::<usize>() <= 3 * check.len(), "it may be a victim's");
    assert!(sent.iter().any(|bytes| classify(bytes) == Ok(PacketClass::Rtp)), "a sample");
    let sample = viewer.media(&mut world).remove(0);
    assert_eq!(sample.header.ssrc, PROBATOR_SSRC);
    let number = sample.transport_sequence.expect("a transport-wide number");
    viewer.send_rtcp(&world, |writer| {
        writer.transport_cc(1, 0, 0, number, 0, &[Some(0)]).unwrap();
    });
    world.turn();
    send(&mut world, &mut speaker, 2);
    let media = viewer.media(&mut world);
    assert!(media.iter().any(|packet| packet.header.ssrc != PROBATOR_SSRC), "media flows");
}

#[test]
fn a_client_that_moved_as_its_core_died_is_followed_with_its_first_packet() {
    moves_as_its_core_dies(false);
}

#[test]
fn a_client_that_moved_with_a_restart_as_its_core_died_is_followed_as_well() {
    moves_as_its_core_dies(true);
}

fn moves_as_its_core_dies(restarts: bool) {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Audio, &[1000]);
    let mut viewer = world.join(CORE);
    world.consume(&viewer, &source);
    if restarts {
        viewer.ice = IceCredentials::generate(Some(CORE));
        let (transport, ice) = (viewer.transport, viewer.ice.clone());
        world.command(CORE, Command::RestartIce { transport, ice });
    }
    viewer.address.set_port(viewer.address.port() + 1);
    viewer.check(&world, true);
    world.turn();
    viewer.raw(&mut world);
    world.kill(CORE, 7);
    send(&mut world, &mut speaker, 1);
    viewer.send_rtcp(&world, |writer| writer.pli(9, 1).unwrap());
    world.turn();
    viewer.raw(&mut world);
    send(&mut world, &mut speaker, 2);
    assert_eq!(viewer.media(&mut world).len(), 1, "it need not say again where it is");
}
