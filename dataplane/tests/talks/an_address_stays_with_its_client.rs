//! A client that writes another's address into its checks does not take that one's place; an
//! address that has been silent goes to whoever checks from there, and control hears of it.

use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

fn video(sequence: u16) -> Video {
    let timestamp = u32::from(sequence) * 3000;
    Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key: sequence == 0 }
}

#[test]
fn an_address_stays_with_its_client() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let mut liar = world.join(CoreId(0));

    for (sequence, victim) in [(0, speaker.address), (1, hearer.address)] {
        liar.address = victim;
        liar.check(&world, true);
        world.turn();
        speaker.send_video(&world, video(sequence));
        world.turn();
        assert_eq!(hearer.media(&mut world).len(), 1);
    }
    assert_eq!(world.core(CoreId(0)).stats().drops.of(DropReason::AddressTaken), 2);

    // Silent for longer than any client between its checks: the address was given away.
    world.run(Duration::from_secs(13));
    hearer.raw(&mut world);
    liar.check(&world, true);
    world.turn();
    assert_eq!(hearer.raw(&mut world).len(), 1, "the check is answered");
    let lost = |world: &World| {
        world.events.iter().any(|event| match event {
            Event::Ice { transport, state, .. } => {
                *transport == hearer.transport && *state == IceState::Disconnected
            }
            _ => false,
        })
    };
    assert!(!lost(&world));
    world.run(Duration::from_secs(25));
    assert!(lost(&world), "control hears that the client is gone");
}
