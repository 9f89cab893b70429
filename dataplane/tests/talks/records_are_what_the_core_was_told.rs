//! Random commands, of things that exist and that do not: a core that is told the records is the
//! same as the one that was told everything, and the records are no more than what exists.

use opencall_dataplane::message::*;
use opencall_dataplane::records::RecordCounts;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

const SEEDS: u64 = 100;
const STEPS: usize = 150;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { all.get(self.below(all.len())) }
    }
}

struct History {
    world: World,
    dice: Dice,
    clients: Vec<Client>,
    sources: Vec<ProducerConfig>,
    consumers: Vec<ConsumerConfig>,
}

impl History {
    fn new(seed: u64) -> Self {
        let (world, dice) = (World::new(2), Dice(seed | 1));
        let (clients, sources, consumers) = (Vec::new(), Vec::new(), Vec::new());
        History { world, dice, clients, sources, consumers }
    }

    /// Makes something, or does something to what was made, whether or not it is still there.
    fn step(&mut self) {
        let core = CoreId(self.dice.below(2) as u8);
        match self.dice.below(5) {
            0 if self.dice.below(2) == 0 => self.clients.push(self.world.join(core)),
            0 => {
                let profile = Profile::AesCm128HmacSha1_80;
                let (client, keys) = self.world.invite(core, profile, 3_000_000);
                if self.dice.below(2) == 0 {
                    self.world.enter(&client, keys);
                }
                self.clients.push(client);
            }
            1 => self.produce(),
            2 => self.consume(),
            _ => self.change(core),
        }
        self.world.turn();
    }

    fn produce(&mut self) {
        let Some(client) = self.dice.one_of(&self.clients) else { return };
        let number = 10 * self.world.id() as u32;
        let ssrcs = [number, number + 2, number + 4];
        let (kind, ssrcs) = match self.dice.below(2) {
            0 => (MediaKind::Audio, &ssrcs[..1]),
            _ => (MediaKind::Video, &ssrcs[..]),
        };
        self.sources.push(self.world.produce(client, kind, ssrcs));
    }

    fn consume(&mut self) {
        let client = self.dice.one_of(&self.clients);
        let (Some(client), Some(source)) = (client, self.dice.one_of(&self.sources)) else {
            return;
        };
        self.consumers.push(self.world.consume(client, source));
    }

    fn change(&mut self, core: CoreId) {
        let Some(client) = self.dice.one_of(&self.clients) else { return };
        let (transport, home) = (client.transport, client.core);
        let consumer = self.dice.one_of(&self.consumers).map_or(ConsumerId(0), |c| c.id);
        let producer = self.dice.one_of(&self.sources).map_or(ProducerId(0), |p| p.id);
        let layers = Layers { spatial: self.dice.below(3) as u8, temporal: None };
        let number = self.dice.below(1000);
        let command = match self.dice.below(17) {
            0 => Command::CloseTransport(transport),
            1 | 2 => {
                let ice = IceCredentials::generate(Some(home));
                let command = Command::RestartIce { transport, ice: ice.clone() };
                self.world.command(home, command);
                if let Some(client) = self.clients.iter_mut().find(|c| c.transport == transport)
                    && self.dice.below(2) == 0
                {
                    client.ice = ice;
                    client.check(&self.world, true);
                }
                return;
            }
            3 => {
                let bitrate_bps = 100_000 + number as u32;
                return self
                    .world
                    .command(home, Command::SetOutgoingBitrate { transport, bitrate_bps });
            }
            4 => Command::CloseProducer(producer),
            5 => Command::PauseProducer(producer),
            6 => Command::ResumeProducer(producer),
            7 => Command::OpenPipe { producer, to: CoreId(1 - core.0) },
            8 => Command::OpenPipe { producer, to: core },
            9 => Command::ClosePipe { producer, to: CoreId(1 - core.0) },
            10 => Command::CloseConsumer(consumer),
            11 => Command::PauseConsumer(consumer),
            12 => Command::ResumeConsumer(consumer),
            13 => Command::SetPreferredLayers { consumer, layers },
            14 => Command::SetPriority { consumer, priority: number as u8 },
            15 => Command::RequestKeyFrame(consumer),
            _ => Command::SendDtls { transport, datagram: Box::new([22; 40]) },
        };
        self.world.command(core, command);
    }
}

#[test]
fn whatever_was_told() {
    let mut most = RecordCounts::default();
    for seed in 1..=SEEDS {
        let mut history = History::new(seed * 0x9e37_79b9);
        for _ in 0..STEPS {
            history.step();
        }
        for core in [CoreId(0), CoreId(1)] {
            let counts = history.world.records.counts(core);
            let (dead, _) = history.world.kill(core, seed);
            let before = dead.outline();
            assert_eq!(before, history.world.core(core).outline(), "seed {seed}, {core:?}");
            let exist = RecordCounts {
                transports: before.transports.len(),
                producers: before.producers.len(),
                consumers: before.consumers.len(),
            };
            assert_eq!(counts, exist, "seed {seed}, {core:?}");
            most.transports = most.transports.max(exist.transports);
            most.producers = most.producers.max(exist.producers);
            most.consumers = most.consumers.max(exist.consumers);
        }
    }
    assert!(
        most.transports > 8 && most.producers > 12 && most.consumers > 12,
        "too tame: {most:?}"
    );
}
