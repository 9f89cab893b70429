//! A core with many rooms: each packet is for others than the one before, so what it needs is
//! rarely in a cache, as in production. [`crate::turn`] measures the opposite.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_dataplane::core::{Core, CoreConfig};
use opencall_dataplane::fanout::links;
use opencall_dataplane::message::{
    Command, ConsumerConfig, ConsumerId, EncodingConfig, Origin, ProducerConfig, ProducerId,
    TransportConfig, TransportId,
};
use opencall_io::memory::{MemoryIo, Network};
use opencall_io::{Io, RxBatch, TurnReport, TxBatch, Wait};
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;
use opencall_wire::time::{NtpTime, Time, WallClock};
use smallvec::smallvec;

use crate::stage::{
    CORE, Client, SOURCE_SSRC, Source, client, consumer, credentials, keys, producer,
    server_address,
};
use crate::{Work, Workload};

/// Rooms, and people in each: 3600 consumers.
const ROOMS: usize = 20;
const PEOPLE: usize = 10;

/// Packets that arrive in one turn, each from another sender.
const PACKETS: usize = 16;

/// Time between two turns: 200 people who send 100 packets a second each fill them.
const TURN_INTERVAL: Duration = Duration::from_micros(800);

/// Time between two checks of each connection, well within the 30 s after which nothing is sent.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Connections that check at once: fewer than a receive batch has places.
const CHECKS_AT_ONCE: usize = 200;

const KINDS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

pub(crate) fn workloads() -> Vec<Workload> {
    vec![Workload {
        name: "meeting-20x10",
        unit: "forwarded packet",
        units: (PACKETS * (PEOPLE - 1)) as u64,
        make: || Box::new(Meeting::new()),
    }]
}

/// Rooms on one core. A person has two connections: number 2n is sent on, 2n + 1 received on.
struct Meeting {
    core: Core,
    now: Time,
    rx: RxBatch,
    tx: TxBatch,
    io: MemoryIo,
    network: Network,
    clients: Vec<Client>,
    /// Audio and video of each person.
    sources: Vec<[Source; 2]>,
    checked: Time,
    random: u32,
}

impl Meeting {
    /// All rooms, filled one person at a time in turn, as meetings that begin at the same time are.
    fn new() -> Self {
        let network = Network::new();
        let clock = WallClock { origin: NtpTime(0xe000_0000 << 32) };
        let links = links::connect(1).pop().expect("one core");
        let people = ROOMS * PEOPLE;
        let mut meeting = Meeting {
            core: Core::new(CoreConfig { id: CORE, clock, seed: 7, links }),
            now: Time::from_millis(10_000),
            rx: RxBatch::new(),
            tx: TxBatch::new(),
            io: network.endpoint(&[server_address()]),
            network,
            clients: (0..2 * people).map(|n| client(Profile::AeadAes128Gcm, n)).collect(),
            sources: (0..people)
                .map(|_| KINDS.map(|kind| Source::new(kind, SOURCE_SSRC + 2 * kind as u32)))
                .collect(),
            checked: Time::ZERO,
            random: 1,
        };
        for person in 0..people {
            meeting.join(person);
        }
        meeting.check();
        meeting.prove();
        // A key frame of each video first: consumers wait for it.
        for person in 0..people {
            for kind in KINDS {
                meeting.send(person, kind);
                meeting.turn();
            }
        }
        meeting
    }

    /// One more person: sends to and gets from all who are in the room already.
    fn join(&mut self, person: usize) {
        for number in [2 * person, 2 * person + 1] {
            let id = TransportId(number as u64);
            let ice = credentials(number);
            let config = TransportConfig {
                id,
                ice,
                outgoing_bitrate_bps: 100_000_000,
                data_channels: false,
                owner: 0,
                checkpoint: Default::default(),
            };
            self.command(Command::CreateTransport(Box::new(config)));
            let keys = Box::new(keys(Profile::AeadAes128Gcm, number));
            self.command(Command::InstallSrtp { transport: id, keys });
        }
        for kind in KINDS {
            let ssrc = self.sources[person][kind as usize].ssrc();
            self.command(Command::CreateProducer(Box::new(ProducerConfig {
                id: producer_id(person, kind),
                origin: Origin::Transport(TransportId(2 * person as u64)),
                encodings: smallvec![EncodingConfig {
                    rid: None,
                    ssrc: Some(ssrc),
                    rtx_ssrc: Some(ssrc + 1),
                    max_bitrate_bps: None,
                }],
                ..producer(kind)
            })));
        }
        for other in (person % ROOMS..person).step_by(ROOMS) {
            for kind in KINDS {
                self.watch(person, other, kind);
                self.watch(other, person, kind);
            }
        }
    }

    fn watch(&mut self, watcher: usize, person: usize, kind: MediaKind) {
        let number = (watcher * ROOMS * PEOPLE + person) * 2 + kind as usize;
        self.command(Command::CreateConsumer(Box::new(ConsumerConfig {
            id: ConsumerId(number as u64),
            transport: TransportId(2 * watcher as u64 + 1),
            producer: producer_id(person, kind),
            ..consumer(number)
        })));
    }

    fn command(&mut self, command: Command) {
        self.core.command(self.now, command, &mut self.tx);
    }

    /// Lets all clients check their connections.
    fn check(&mut self) {
        self.checked = self.now;
        for first in (0..self.clients.len()).step_by(CHECKS_AT_ONCE) {
            for client in self.clients.iter().skip(first).take(CHECKS_AT_ONCE) {
                self.network.push(client.address, server_address(), &client.check);
            }
            self.turn();
        }
    }

    /// Lets all clients report, which proves that they are where they check from.
    fn prove(&mut self) {
        for first in (0..self.clients.len()).step_by(CHECKS_AT_ONCE) {
            for client in self.clients.iter_mut().skip(first).take(CHECKS_AT_ONCE) {
                self.network.push(client.address, server_address(), &client.report());
            }
            self.turn();
        }
    }

    /// Lets the next frame of a source arrive, one packet.
    fn send(&mut self, person: usize, kind: MediaKind) {
        let client = &mut self.clients[2 * person];
        let packet = self.sources[person][kind as usize].packet(&mut client.seal, true, true);
        self.network.push(client.address, server_address(), &packet);
    }

    /// Takes the datagrams up that have come, without measuring it.
    fn arrive(&mut self) {
        while self.core.poll_event().is_some() {}
        self.tx.clear();
        self.io.turn(&mut self.tx, &mut self.rx, Wait::Poll).expect("memory is always there");
    }

    fn turn(&mut self) {
        self.arrive();
        self.run();
    }

    /// Any number below `below`.
    fn random(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8) as usize % below
    }
}

impl Work for Meeting {
    fn prepare(&mut self) {
        self.now = self.now + TURN_INTERVAL;
        if self.now.since(self.checked) >= CHECK_INTERVAL {
            self.check();
        }
        for packet in 0..PACKETS {
            let person = self.random(ROOMS * PEOPLE);
            self.send(person, KINDS[packet % 2]);
        }
        self.arrive();
    }

    fn run(&mut self) {
        let mut forget = |tx: &mut TxBatch| {
            tx.clear();
            TurnReport::default()
        };
        let _ = self.core.turn(self.now, &mut self.rx, &mut self.tx, &mut forget);
    }

    fn done(&self) -> u64 {
        self.core.stats().packets_forwarded
    }
}

fn producer_id(person: usize, kind: MediaKind) -> ProducerId {
    ProducerId((2 * person + kind as usize) as u64)
}
