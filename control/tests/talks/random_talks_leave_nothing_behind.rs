//! Random clients say random things, in any order, with right and wrong ids, while the cores report
//! random events and die. Nothing panics, no core gets a command that it could not obey, a new core
//! is told what the dead one knew, and when all have left nothing is left of them.

use std::time::Duration;

use opencall_control::admin::MuteTarget;
use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use opencall_control::{PlacementPolicy, StageConfig};
use opencall_dataplane::message::*;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use smallvec::SmallVec;

use crate::talk::{
    Talk, audio, capabilities, config, consume, create, join, produce, ready, simulcast,
};

const SEEDS: u64 = 40;
const STEPS: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Transport,
    Producer,
    Consumer,
    DataProducer,
    DataConsumer,
}

fn set_capabilities(codec_hints: Option<Device>) -> Request {
    let rtp_capabilities = capabilities();
    Request::SetRtpCapabilities { rtp_capabilities, display_name: None, codec_hints }
}

/// One random world.
struct Dice {
    rng: StdRng,
    talk: Talk,
    sessions: Vec<SessionId>,
    /// Every id ever seen: whose, of what, and the id.
    ids: Vec<(SessionId, What, String)>,
}

impl Dice {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let policy = match rng.random_range(0..2) {
            0 => PlacementPolicy::Spread,
            _ => PlacementPolicy::Pack { participants_per_core: 2 },
        };
        let mut config = config(rng.random_range(1..4), policy);
        config.limits.consumers_per_peer = 6;
        config.limits.producers_per_peer = 4;
        config.limits.transports_per_peer = 4;
        // Half of the rooms are large soon.
        let from = if rng.random() { 2 } else { 0 };
        config.stage = StageConfig { from, voices: 2, videos: 2 };
        Dice { rng, talk: Talk::with(config), sessions: Vec::new(), ids: Vec::new() }
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() {
            return None;
        }
        Some(all[self.rng.random_range(0..all.len())].clone())
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    /// An id: mostly one that fits, recent ones more often.
    fn id(&mut self, session: SessionId, what: What) -> String {
        let fits = !self.chance(8);
        let any_owner = self.chance(4);
        let ids: Vec<String> = self
            .ids
            .iter()
            .rev()
            .filter(|(owner, kind, _)| !fits || (*kind == what && (any_owner || *owner == session)))
            .take(6)
            .map(|(_, _, id)| id.clone())
            .collect();
        self.one_of(&ids).unwrap_or_default()
    }

    fn request(&mut self, session: SessionId) -> Request {
        let transport = self.id(session, What::Transport);
        let producer = self.id(session, What::Producer);
        let consumer = self.id(session, What::Consumer);
        let mid = "x".repeat(self.rng.random_range(1..4));
        let flag = self.chance(2);
        let direction = if flag { Direction::Send } else { Direction::Recv };
        match self.rng.random_range(0..30) {
            0 | 1 => join("Someone"),
            2 => set_capabilities(self.chance(2).then(Device::default)),
            3..=5 => create(direction),
            6 => Request::ConnectTransport {
                transport_id: transport,
                dtls_parameters: DtlsParameters {
                    role: if flag { DtlsRole::Server } else { DtlsRole::Auto },
                    fingerprints: vec![DtlsFingerprint {
                        algorithm: "sha-256".into(),
                        value: vec!["AB"; 32].join(":"),
                    }],
                },
            },
            7 => Request::RestartIce { transport_id: transport },
            8 | 9 => produce(&transport, Kind::Audio, audio(&mid)),
            10 | 11 => produce(&transport, Kind::Video, simulcast(&mid)),
            12 => Request::CloseProducer { producer_id: producer },
            13 if flag => Request::PauseProducer { producer_id: producer },
            13 => Request::ResumeProducer { producer_id: producer },
            14 | 15 => {
                let all = self.ids.iter().rev().filter(|(_, what, _)| *what == What::Producer);
                let recent: Vec<String> = all.take(6).map(|(_, _, id)| id.clone()).collect();
                consume(&self.one_of(&recent).unwrap_or_default())
            }
            16 => ready(&consumer, !self.chance(4)),
            17 => Request::CloseConsumer { consumer_id: consumer },
            18 if flag => Request::PauseConsumer { consumer_id: consumer },
            18 => Request::ResumeConsumer { consumer_id: consumer },
            19 => {
                Request::SetConsumerPriority { consumer_id: consumer, priority: self.rng.random() }
            }
            22 | 23 => Request::ProduceData {
                transport_id: transport,
                sctp_stream_parameters: SctpStreamParameters {
                    stream_id: self.rng.random_range(0..6),
                    ..Default::default()
                },
                label: mid,
                protocol: String::new(),
                app_data: JsonObject::default(),
            },
            24 => Request::CloseDataProducer {
                data_producer_id: self.id(session, What::DataProducer),
            },
            25 => Request::ConsumeData {
                data_producer_id: self.id(session, What::DataProducer),
                transport_id: flag.then_some(transport),
            },
            26 => Request::DataConsumerReady {
                data_consumer_id: self.id(session, What::DataConsumer),
                accepted: flag,
            },
            27 => Request::CloseDataConsumer {
                data_consumer_id: self.id(session, What::DataConsumer),
            },
            28 | 29 => Request::Host(self.host_action(flag)),
            20 => Request::RequestConsumerKeyFrame { consumer_id: consumer },
            _ => Request::Stats(if flag { StatsOf::Peer } else { StatsOf::Consumer(consumer) }),
        }
    }

    fn host_action(&mut self, flag: bool) -> HostAction {
        let peer_id = format!("peer{}", self.rng.random_range(0..8));
        match self.rng.random_range(0..8) {
            0..3 => {
                let what = MuteTarget::Source(Source::Microphone);
                HostAction::Mute { peer_id, what, muted: flag }
            }
            3 => HostAction::Remove { peer_id },
            4 | 5 => HostAction::Lock { locked: flag, waiting_room: !self.chance(4) },
            6 => HostAction::Admit { peer_id },
            _ => HostAction::Deny { peer_id },
        }
    }

    fn event(&mut self) -> (u8, Event) {
        let core = self.rng.random_range(0..self.talk.books.len()) as u8;
        let transports: Vec<TransportId> =
            self.talk.books.iter().flat_map(|books| books.transports.iter().copied()).collect();
        let transport = self.one_of(&transports).unwrap_or(TransportId(99));
        let producers: Vec<ProducerId> = self.talk.producers.keys().copied().collect();
        let producer = self.one_of(&producers).unwrap_or(ProducerId(99));
        let consumers: Vec<ConsumerId> = self.talk.consumers.keys().copied().collect();
        let consumer = self.one_of(&consumers).unwrap_or(ConsumerId(99));
        let score = self.rng.random_range(0..12);
        let event = match self.rng.random_range(0..10) {
            0 => {
                let states = [IceState::Connected, IceState::Completed, IceState::Disconnected];
                let state = self.one_of(&states).unwrap_or(IceState::Connected);
                Event::Ice { transport, state, remote: ([192, 0, 2, 7], 9).into() }
            }
            1 if self.chance(4) => {
                let mut datagram = vec![0; self.rng.random_range(0..200)];
                self.rng.fill(&mut datagram[..]);
                Event::Dtls { transport, unproven: None, datagram: datagram.into_boxed_slice() }
            }
            1 | 2 => {
                let count = self.rng.random_range(0..6);
                let scores: SmallVec<[(u32, u8); 3]> = (0..count).map(|_| (7, score)).collect();
                Event::ProducerScore { producer, scores }
            }
            3 => Event::ConsumerScore { consumer, score },
            4 => {
                let layers = Layers { spatial: score, temporal: None };
                Event::LayersChanged { consumer, layers: (score > 3).then_some(layers) }
            }
            8 => Event::EncodingsWanted { producer, count: score },
            5 => Event::AudioLevel { producer, levels_dbov: self.rng.random() },
            9 => {
                let carried = self.talk.books[usize::from(core)].carried.iter().next();
                let (stage, source) = carried.map_or((producer, producer), |(a, b)| (*a, *b));
                match score % 2 {
                    0 => Event::StageTaken { stage, source },
                    _ => Event::StageRefused { stage, source },
                }
            }
            _ => match self.talk.queries.pop() {
                Some((_, token, _)) if score > 6 => Event::Stats { token, stats: None },
                Some((_, token, _)) => {
                    let stats = Some(Box::new(Stats::Transport(TransportStats::default())));
                    Event::Stats { token, stats }
                }
                None => Event::Stats { token: self.rng.random(), stats: None },
            },
        };
        (core, event)
    }

    fn step(&mut self) {
        let mode = if self.chance(2) { ConsumeMode::Automatic } else { ConsumeMode::OnRequest };
        let recent: Vec<SessionId> = self.sessions.iter().rev().take(10).copied().collect();
        let session = self.one_of(&recent);
        match (self.rng.random_range(0..100), session) {
            (0..3, _) | (_, None) => {
                let peer = format!("peer{}", self.rng.random_range(0..8));
                let room = format!("room{}", self.rng.random_range(0..8) / 7);
                let grants = Grants { admin: self.chance(4), ..Grants::default() };
                let session = self.talk.connect_with(&room, &peer, mode, grants);
                self.sessions.push(session);
            }
            (3, Some(session)) if self.chance(2) => self.talk.leave(session),
            (3, Some(session)) => self.talk.answer_challenge(session),
            (4..15, _) => {
                let (core, event) = self.event();
                self.talk.event(core, event);
            }
            (17, _) => {
                let core = self.rng.random_range(0..self.talk.books.len()) as u8;
                self.talk.replace(core);
            }
            (15..17, _) => {
                let millis = self.rng.random_range(0..3_000);
                self.talk.pass(Duration::from_millis(millis));
            }
            (_, Some(session)) => {
                let request = self.request(session);
                let token = self.talk.send(session, request);
                let answer = self.talk.answer(session, token);
                self.learn(session, answer);
            }
        }
        for session in self.sessions.clone() {
            for news in self.talk.news(session) {
                match news {
                    Notification::NewConsumer(options) => {
                        self.ids.push((session, What::Consumer, options.id));
                    }
                    Notification::NewDataConsumer(options) => {
                        self.ids.push((session, What::DataConsumer, options.id));
                    }
                    _ => {}
                }
            }
        }
    }

    fn learn(&mut self, session: SessionId, answer: Option<Result<Response, RequestError>>) {
        let (what, id) = match answer {
            Some(Ok(Response::Transport(options))) => (What::Transport, options.id),
            Some(Ok(Response::Produced { producer_id })) => (What::Producer, producer_id),
            Some(Ok(Response::Consumed(options))) => (What::Consumer, options.id),
            Some(Ok(Response::ProducedData { data_producer_id })) => {
                (What::DataProducer, data_producer_id)
            }
            Some(Ok(Response::ConsumedData(options))) => (What::DataConsumer, options.id),
            Some(Err(error)) => {
                assert!([400, 403, 404, 429].contains(&error.code) && error.reason.len() > 10);
                return;
            }
            _ => return,
        };
        self.ids.push((session, what, id));
    }
}

#[test]
fn whatever_is_said() {
    let (mut transports, mut consumers, mut pipes) = (0, 0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut dice = Dice::new(seed);
        for _ in 0..STEPS {
            dice.step();
            let counts = dice.talk.control.counts();
            transports = transports.max(counts.transports);
            consumers = consumers.max(counts.consumers);
            pipes = pipes.max(counts.pipes);
        }
        for session in dice.sessions.clone() {
            dice.talk.leave(session);
        }
        dice.talk.assert_nothing_is_left();
    }
    assert!(
        transports > 15 && consumers > 12 && pipes > 3,
        "too tame: {transports} {consumers} {pipes}"
    );
}
