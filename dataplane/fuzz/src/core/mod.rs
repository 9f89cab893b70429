//! Input: two bytes of setting, then a script of packets, commands and turns.
//!
//! The whole sans-IO machine: up to two cores, clients that have passed ICE and DTLS, producers,
//! consumers, pipes. Clients send what nobody should send, authentically; strangers send anything;
//! control does what it does at any moment. What must hold all the while is in the module `client`.
#![forbid(unsafe_code)]

mod client;
mod world;

use std::time::Duration;

use opencall_dataplane::message::{Command, Layers, StatsQuery};

use crate::input::Input;
use world::World;

/// Datagrams sent in one turn at most, so that a script cannot outgrow the batch.
const PER_TURN: usize = 64;

/// Plays the script.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.byte(), input.byte());
    let mut pushed = 0;
    while !input.is_empty() {
        let step = input.below(16);
        match step {
            0..=4 => world.media(&mut input),
            5 => world.raw_media(&mut input),
            6 | 7 => world.feedback(&mut input),
            8 => world.raw_feedback(&mut input),
            9 => world.datagram(input.byte(), input.bytes()),
            10 => world.stranger(&mut input),
            11 => world.check(&mut input),
            12 => command(&mut world, &mut input),
            13 => world.turn(Duration::from_millis(input.u16().into())),
            _ => world.turn(Duration::from_millis(input.byte().into())),
        }
        pushed = if (9..=11).contains(&step) || step < 9 { pushed + 1 } else { 0 };
        if pushed == PER_TURN {
            world.turn(Duration::from_millis(1));
            pushed = 0;
        }
    }
    world.turn(Duration::from_millis(1));
    world.close();
}

/// What control may say at any moment.
fn command(world: &mut World, input: &mut Input<'_>) {
    let (what, which) = (input.below(20), input.byte());
    match what {
        0 => world.tell_consumer(which, Command::PauseConsumer),
        1 => world.tell_consumer(which, Command::ResumeConsumer),
        2 => {
            let spatial = input.byte();
            world.tell_consumer(which, |consumer| Command::SetPreferredLayers {
                consumer,
                layers: Layers { spatial, temporal: (spatial & 1 == 1).then_some(spatial >> 1) },
            });
        }
        3 => {
            let priority = input.byte();
            world.tell_consumer(which, |consumer| Command::SetPriority { consumer, priority });
        }
        4 => world.tell_consumer(which, Command::RequestKeyFrame),
        5 => world.tell_consumer(which, Command::CloseConsumer),
        6 => world.tell_consumer(which, |consumer| Command::QueryStats {
            token: 1,
            of: StatsQuery::Consumer(consumer),
        }),
        7 => world.tell_producer(which, Command::PauseProducer),
        8 => world.tell_producer(which, Command::ResumeProducer),
        9 => world.tell_producer(which, Command::CloseProducer),
        10 => world.tell_producer(which, |producer| Command::QueryStats {
            token: 2,
            of: StatsQuery::Producer(producer),
        }),
        11 => world.close_pipe(which),
        12 => world.produce(which, input.byte()),
        13 | 14 => world.consume(which, input.byte()),
        15 => {
            let bitrate_bps = input.u32();
            world.tell_transport(which, |transport| Command::SetOutgoingBitrate {
                transport,
                bitrate_bps,
            });
        }
        16 => world.restart_ice(which),
        17 => world.rejoin(which),
        18 => world.send_dtls(which, input.bytes()),
        _ => world.tell_transport(which, |transport| Command::QueryStats {
            token: 3,
            of: StatsQuery::Transport(transport),
        }),
    }
}
