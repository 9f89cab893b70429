//! Clients ask for capabilities, transports and tracks in orders of their own. Whatever the order
//! and however the requests of several clients interleave, at the end everyone receives everyone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::talk::{
    Talk, audio, capabilities, config, consume, create, join, produce, ready, simulcast,
};
use opencall_control::PlacementPolicy;

const ORDERS: u64 = 10_000;

/// One thing that a client does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// `join` or `setRtpCapabilities`.
    Enter,
    CreateSend,
    CreateRecv,
    ProduceAudio,
    ProduceVideo,
}

/// A client that sends its requests in an order of its own, and answers what it is told.
struct Person {
    name: &'static str,
    mode: ConsumeMode,
    session: SessionId,
    steps: Vec<Step>,
    done: Vec<Step>,
    send: Option<String>,
    /// What it was told and has not reacted to.
    inbox: VecDeque<Notification>,
    /// Whose tracks it receives, and of which kind.
    receives: BTreeSet<(Arc<str>, &'static str)>,
    produces: BTreeSet<&'static str>,
}

impl Person {
    fn enter(talk: &mut Talk, rng: &mut StdRng, name: &'static str) -> Self {
        let mode = match rng.random_range(0..2) {
            0 => ConsumeMode::Automatic,
            _ => ConsumeMode::OnRequest,
        };
        let mut steps = vec![Step::Enter, Step::CreateRecv];
        // Some only watch.
        if rng.random_range(0..5) > 0 {
            steps.extend([Step::CreateSend, Step::ProduceAudio, Step::ProduceVideo]);
        }
        let session = talk.connect(name, mode);
        Person {
            name,
            mode,
            session,
            steps,
            done: Vec::new(),
            send: None,
            inbox: VecDeque::new(),
            receives: BTreeSet::new(),
            produces: BTreeSet::new(),
        }
    }

    /// Which of its steps it could take now: tracks need a transport and a room.
    fn possible(&self) -> Vec<usize> {
        let produces = |step| matches!(step, Step::ProduceAudio | Step::ProduceVideo);
        let ready = self.send.is_some() && self.done.contains(&Step::Enter);
        let can = |step: &Step| !produces(*step) || ready;
        self.steps.iter().enumerate().filter(|(_, step)| can(step)).map(|(at, _)| at).collect()
    }

    fn is_finished(&self) -> bool {
        self.steps.is_empty() && self.inbox.is_empty()
    }

    fn take_a_step(&mut self, talk: &mut Talk, at: usize) {
        let step = self.steps.remove(at);
        self.done.push(step);
        let request = match step {
            Step::Enter if self.mode == ConsumeMode::Automatic => join(self.name),
            Step::Enter => Request::SetRtpCapabilities {
                rtp_capabilities: capabilities(),
                display_name: None,
                codec_hints: None,
            },
            Step::CreateSend => create(Direction::Send),
            Step::CreateRecv => create(Direction::Recv),
            Step::ProduceAudio => {
                self.produces.insert("audio");
                produce(self.send.as_deref().expect("a transport"), Kind::Audio, audio("0"))
            }
            Step::ProduceVideo => {
                self.produces.insert("video");
                produce(self.send.as_deref().expect("a transport"), Kind::Video, simulcast("1"))
            }
        };
        if let (Step::CreateSend, Response::Transport(options)) =
            (step, talk.ok(self.session, request))
        {
            self.send = Some(options.id);
        }
    }

    /// Reacts to the oldest thing it was told: a client takes what it is offered at once, and asks
    /// for a track only once.
    fn react(&mut self, talk: &mut Talk) {
        match self.inbox.pop_front() {
            Some(Notification::NewConsumer(options)) => {
                talk.ok(self.session, ready(&options.id, true));
                self.receive(options.peer_id, options.kind);
            }
            Some(Notification::NewProducer { peer_id, producer_id, kind, .. }) => {
                let Response::Consumed(_) = talk.ok(self.session, consume(&producer_id)) else {
                    panic!("{} cannot consume", self.name)
                };
                self.receive(peer_id, kind);
            }
            _ => {}
        }
    }

    fn receive(&mut self, peer: Arc<str>, kind: Kind) {
        let kind = if kind == Kind::Audio { "audio" } else { "video" };
        assert!(self.receives.insert((peer, kind)), "{} is offered a track twice", self.name);
    }
}

fn everyone_receives_everyone(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut talk = Talk::with(config(2, PlacementPolicy::Spread));
    let names = ["anna", "bert", "carl"];
    let count = rng.random_range(2..=names.len());
    let mut people: Vec<Person> =
        names[..count].iter().map(|name| Person::enter(&mut talk, &mut rng, name)).collect();
    while let Some(who) = pick(&mut rng, &people) {
        let possible = people[who].possible();
        // Steps and reactions of one client interleave as well.
        if people[who].inbox.is_empty() || (!possible.is_empty() && rng.random_range(0..2) == 0) {
            if let Some(&at) = possible.get(rng.random_range(0..possible.len().max(1))) {
                people[who].take_a_step(&mut talk, at);
            }
        } else {
            people[who].react(&mut talk);
        }
        for person in &mut people {
            person.inbox.extend(talk.news(person.session));
        }
    }
    for person in &people {
        let others = people.iter().filter(|other| other.name != person.name);
        let expected: BTreeSet<(Arc<str>, &str)> = others
            .flat_map(|other| other.produces.iter().map(|kind| (Arc::from(other.name), *kind)))
            .collect();
        assert_eq!(person.receives, expected, "{} after {:?}", person.name, person.done);
    }
    let running = talk.books.iter().flat_map(|books| books.consumers.values());
    assert!(running.clone().all(|(_, paused)| !paused), "a consumer was never started");
    let received: usize = people.iter().map(|person| person.receives.len()).sum();
    assert_eq!(running.count(), received);
}

fn pick(rng: &mut StdRng, people: &[Person]) -> Option<usize> {
    let busy: Vec<usize> = (0..people.len()).filter(|&who| !people[who].is_finished()).collect();
    if busy.is_empty() { None } else { Some(busy[rng.random_range(0..busy.len())]) }
}

#[test]
fn whatever_the_order_everyone_receives_everyone() {
    // A certificate for each control core is the dear part: the threads share the orders.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..ORDERS).step_by(threads as usize) {
                    let result = std::panic::catch_unwind(|| everyone_receives_everyone(seed));
                    assert!(result.is_ok(), "the order of seed {seed}");
                }
            });
        }
    });
}
