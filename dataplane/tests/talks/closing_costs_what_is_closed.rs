//! Who leaves is looked up by what is theirs: closing one of thousands takes as long as closing one
//! of a few, be it transports of a core or viewers of one camera.

use std::time::{Duration, Instant};

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// Connections or viewers beside those that are closed: few, and 32 times as many. A close that
/// looks at all of them takes about so many times as long.
const FEW: usize = 160;
const MANY: usize = 32 * FEW;

/// How much longer closing may take among many. Caches see less of each; a search of all sees 32.
const LONGER_AT_MOST: f64 = 6.0;

/// Closed at once, and how often: the shortest of the times counts, so that nothing else that this
/// machine does is in it.
const CLOSED: usize = 20;
const TIMES: usize = 6;

/// The shortest time that closing some of them takes.
fn shortest(world: &mut World, mut closed: impl FnMut() -> Vec<Command>) -> Duration {
    let times = (0..TIMES).map(|_| {
        let commands = closed();
        let started = Instant::now();
        commands.into_iter().for_each(|command| world.command(CORE, command));
        started.elapsed()
    });
    times.min().unwrap()
}

fn assert_same(few: Duration, many: Duration) {
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    assert!(ratio < LONGER_AT_MOST, "{ratio:.1} times as long: {few:?} and {many:?}");
}

/// How long it takes to close transports of a core that has so many besides.
fn closing_transports(among: usize) -> Duration {
    let mut world = World::new(1);
    let mut clients: Vec<Client> = (0..among + CLOSED * TIMES).map(|_| world.join(CORE)).collect();
    let time = shortest(&mut world, || {
        let leaving = clients.split_off(clients.len() - CLOSED);
        leaving.iter().map(|client| Command::CloseTransport(client.transport)).collect()
    });
    let stats = world.core_stats(CORE);
    assert_eq!(stats.transports, among as u64);
    // Those who stay are still known by their names and addresses, those who left are not.
    clients[0].check(&world, true);
    world.turn();
    assert_eq!(clients[0].raw(&mut world).len(), 1);
    time
}

/// How long it takes to close consumers of a producer that has so many besides.
fn closing_consumers(among: usize) -> Duration {
    let mut world = World::new(1);
    let mut speaker = world.join(CORE);
    let source = world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut viewer = world.join(CORE);
    let mut consumers: Vec<ConsumerConfig> = (0..(among + CLOSED * TIMES) / 40)
        .flat_map(|_| {
            let viewer = world.join(CORE);
            (0..40).map(|_| world.consume(&viewer, &source)).collect::<Vec<_>>()
        })
        .collect();
    world.consume(&viewer, &source);
    let time = shortest(&mut world, || {
        let leaving = consumers.drain(..CLOSED);
        leaving.map(|config| Command::CloseConsumer(config.id)).collect()
    });
    assert_eq!(world.core_stats(CORE).consumers, among as u64 + 1);
    // The last of the list has changed its place in it as the first ones left.
    let video =
        Video { ssrc: 1000, rid: None, sequence: 0, timestamp: 0, picture_id: 0, key: true };
    speaker.send_video(&world, video);
    world.turn();
    assert_eq!(viewer.media(&mut world).len(), 1);
    time
}

#[test]
fn one_transport_of_thousands_closes_as_fast_as_one_of_a_few() {
    assert_same(closing_transports(FEW), closing_transports(MANY));
}

#[test]
fn one_consumer_of_thousands_closes_as_fast_as_one_of_a_few() {
    assert_same(closing_consumers(FEW), closing_consumers(MANY));
}
