//! The webhooks that wait for one receiver: those of a room go one after the other, in order; rooms
//! take turns. No clock, no socket: time is an argument.
//!
//! ```text
//! push ──▶ each room's own queue ──▶ ready ──next──▶ an attempt ──done──▶ gone, or back
//!                                      ▲                                  │
//!                                      └── delayed: its answer was no ◀───┘
//! ```
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;

/// What one webhook counts as, besides its own bytes.
const ITEM_BYTES: usize = 64;

/// How much waits, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes in all.
    pub bytes: usize,
    /// Webhooks of one room: a room that floods loses its own.
    pub per_room: usize,
    /// How long one may wait.
    pub max_age: Duration,
    /// From the first failure to the next attempt; each further one doubles it.
    pub min_pause: Duration,
    /// The longest such pause.
    pub max_pause: Duration,
}

impl Bounds {
    fn pause(&self, failures: u32) -> Duration {
        let doubled = 2u32.checked_pow(failures.saturating_sub(1));
        let pause = doubled.and_then(|factor| self.min_pause.checked_mul(factor));
        pause.unwrap_or(self.max_pause).min(self.max_pause)
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is gone: the receiver has taken it, or never will.
    Settled,
    /// The receiver answered that it cannot take it now.
    Failed,
    /// There was no answer.
    Unreachable,
}

/// One attempt to make.
pub struct Job {
    /// The room, by which it comes back.
    pub room: Arc<str>,
    /// What to post.
    pub body: Bytes,
    generation: u64,
    is_probe: bool,
}

/// What to do next.
pub enum Next {
    /// Make this attempt, and say what came of it.
    Send(Job),
    /// Nothing until then, or until something is pushed or done.
    Wait(Option<Instant>),
}

struct Item {
    body: Bytes,
    queued_at: Instant,
}

impl Item {
    fn bytes(&self) -> usize {
        self.body.len() + ITEM_BYTES
    }
}

#[derive(Default)]
struct Room {
    items: VecDeque<Item>,
    /// Attempts in a row that the receiver answered with no.
    failures: u32,
}

/// The webhooks of one receiver.
pub struct Queue {
    bounds: Bounds,
    /// Those with something to send; each is in `ready`, in `delayed` or on its way.
    rooms: HashMap<Arc<str>, Room>,
    ready: VecDeque<Arc<str>>,
    delayed: BTreeSet<(Instant, Arc<str>)>,
    count: usize,
    bytes: usize,
    /// What found no place since something last did.
    lost: u32,
    expired: u64,
    /// Attempts in a row without an answer: then one at a time is made, to see whether it is back.
    unanswered: u32,
    retry_at: Instant,
    probing: bool,
    /// Attempts of one generation that stay without an answer count once.
    generation: u64,
}

impl Queue {
    /// An empty one.
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        Queue {
            bounds,
            rooms: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeSet::new(),
            count: 0,
            bytes: 0,
            lost: 0,
            expired: 0,
            unanswered: 0,
            retry_at: now,
            probing: false,
            generation: 0,
        }
    }

    /// How many wait, those on their way among them.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the receiver does not answer.
    pub fn is_unreachable(&self) -> bool {
        self.unanswered > 0
    }

    /// How many waited too long since this was last asked.
    pub fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    /// So many were lost before they came here.
    pub fn add_lost(&mut self, count: u32) {
        self.lost = self.lost.saturating_add(count);
    }

    /// Adds a webhook, which `body` writes, given how many were lost before it; `false` if there is
    /// no place.
    pub fn push(
        &mut self,
        now: Instant,
        room: &Arc<str>,
        body: impl FnOnce(u32) -> Vec<u8>,
    ) -> bool {
        let of_room = self.rooms.get(room).map_or(0, |room| room.items.len());
        if of_room >= self.bounds.per_room || self.bytes >= self.bounds.bytes {
            self.add_lost(1);
            return false;
        }
        let body = Bytes::from(body(std::mem::take(&mut self.lost)));
        let item = Item { body, queued_at: now };
        self.bytes += item.bytes();
        self.count += 1;
        self.rooms.entry(Arc::clone(room)).or_default().items.push_back(item);
        if of_room == 0 {
            self.ready.push_back(Arc::clone(room));
        }
        true
    }

    /// The next attempt, if there is one to make now.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some((due, _)) = self.delayed.first()
            && *due <= now
            && let Some((_, room)) = self.delayed.pop_first()
        {
            self.ready.push_back(room);
        }
        if self.unanswered > 0 && (self.probing || now < self.retry_at) {
            return Next::Wait((!self.probing).then_some(self.retry_at));
        }
        while let Some(room) = self.ready.pop_front() {
            self.expire(now, &room);
            let front = self.rooms.get(&room).and_then(|room| room.items.front());
            if let Some(body) = front.map(|item| item.body.clone()) {
                self.probing = self.unanswered > 0;
                let (generation, is_probe) = (self.generation, self.probing);
                return Next::Send(Job { room, body, generation, is_probe });
            }
        }
        Next::Wait(self.delayed.first().map(|(due, _)| *due))
    }

    /// Drops what has waited too long in a room.
    fn expire(&mut self, now: Instant, room: &Arc<str>) {
        while let Some(front) = self.rooms.get(room).and_then(|room| room.items.front())
            && now.saturating_duration_since(front.queued_at) > self.bounds.max_age
        {
            self.pop(room);
            self.expired += 1;
        }
    }

    /// Takes the first webhook of a room away.
    fn pop(&mut self, name: &Arc<str>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(item) = room.items.pop_front() {
            self.bytes = self.bytes.saturating_sub(item.bytes());
            self.count = self.count.saturating_sub(1);
        }
        room.failures = 0;
        if room.items.is_empty() {
            self.rooms.remove(name);
        }
    }

    /// What came of an attempt.
    pub fn done(&mut self, now: Instant, job: Job, outcome: &Outcome) {
        self.probing &= !job.is_probe;
        match outcome {
            Outcome::Settled => {
                self.unanswered = 0;
                self.pop(&job.room);
                if self.rooms.contains_key(&job.room) {
                    self.ready.push_back(job.room);
                }
            }
            Outcome::Failed => {
                self.unanswered = 0;
                let Some(room) = self.rooms.get_mut(&job.room) else { return };
                room.failures = room.failures.saturating_add(1);
                let due = now + self.bounds.pause(room.failures);
                self.delayed.insert((due, job.room));
            }
            Outcome::Unreachable => {
                if job.generation == self.generation {
                    self.generation += 1;
                    self.unanswered = self.unanswered.saturating_add(1);
                    self.retry_at = now + self.bounds.pause(self.unanswered);
                }
                self.ready.push_front(job.room);
            }
        }
    }

    /// Pauses are over: little time is left.
    pub fn hurry(&mut self, now: Instant) {
        self.retry_at = now;
        self.ready.extend(std::mem::take(&mut self.delayed).into_iter().map(|(_, room)| room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 10_000,
        per_room: 10,
        max_age: Duration::from_secs(100),
        min_pause: Duration::from_secs(1),
        max_pause: Duration::from_secs(8),
    };

    struct Test {
        queue: Queue,
        begin: Instant,
    }

    impl Test {
        fn new() -> Self {
            let begin = Instant::now();
            Test { queue: Queue::new(BOUNDS, begin), begin }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.begin + Duration::from_secs(seconds)
        }

        /// Queues texts such as `a1`: the first of room `a`.
        fn push(&mut self, seconds: u64, texts: &str) -> Vec<bool> {
            let now = self.at(seconds);
            let push = |text: &str| {
                let room = Arc::from(&text[..1]);
                self.queue.push(now, &room, |lost| format!("{text}-{lost}").into_bytes())
            };
            texts.split(' ').map(push).collect()
        }

        /// All attempts that can be made now.
        fn attempts(&mut self, seconds: u64) -> Vec<Job> {
            let now = self.at(seconds);
            std::iter::from_fn(|| match self.queue.next(now) {
                Next::Send(job) => Some(job),
                Next::Wait(_) => None,
            })
            .collect()
        }

        fn wait(&mut self, seconds: u64) -> Option<u64> {
            let now = self.at(seconds);
            match self.queue.next(now) {
                Next::Send(_) => panic!("an attempt"),
                Next::Wait(due) => due.map(|due| (due - self.begin).as_secs()),
            }
        }

        fn done(&mut self, seconds: u64, jobs: Vec<Job>, outcome: Outcome) {
            let now = self.at(seconds);
            for job in jobs {
                self.queue.done(now, job, &outcome);
            }
        }
    }

    fn texts(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().map(|job| std::str::from_utf8(&job.body).unwrap()).collect()
    }

    #[test]
    fn rooms_take_turns_and_each_keeps_its_order() {
        let mut test = Test::new();
        test.push(0, "a1 a2 b1 a3 c1");
        let mut sent = Vec::new();
        for _ in 0..4 {
            let jobs = test.attempts(0);
            sent.push(texts(&jobs).join(" "));
            test.done(0, jobs, Outcome::Settled);
        }
        assert_eq!(sent, ["a1-0 b1-0 c1-0", "a2-0", "a3-0", ""]);
        assert_eq!((test.queue.len(), test.queue.bytes, test.queue.rooms.len()), (0, 0, 0));
    }

    #[test]
    fn a_room_whose_webhook_fails_waits_longer_each_time_and_holds_up_nobody() {
        let mut test = Test::new();
        test.push(0, "a1 b1 b2");
        let mut jobs = test.attempts(0);
        let b1 = jobs.split_off(1);
        test.done(0, jobs, Outcome::Failed);
        test.done(0, b1, Outcome::Settled);
        let b2 = test.attempts(0);
        assert_eq!(texts(&b2), ["b2-0"]);
        test.done(0, b2, Outcome::Settled);
        let mut now = 0;
        for pause in [1, 2, 4, 8, 8] {
            assert_eq!(test.wait(now), Some(now + pause));
            now += pause;
            let jobs = test.attempts(now);
            assert_eq!(texts(&jobs), ["a1-0"]);
            test.done(now, jobs, Outcome::Failed);
        }
        let jobs = test.attempts(now + 8);
        test.done(now + 8, jobs, Outcome::Settled);
        // Its next one begins without a pause.
        test.push(now + 8, "a2");
        let jobs = test.attempts(now + 8);
        test.done(now + 8, jobs, Outcome::Failed);
        assert_eq!(test.wait(now + 8), Some(now + 9));
    }

    #[test]
    fn a_receiver_that_does_not_answer_is_asked_by_one_attempt_at_a_time() {
        let mut test = Test::new();
        test.push(0, "a1 b1 c1");
        let jobs = test.attempts(0);
        assert_eq!(jobs.len(), 3);
        // Three attempts at once are one failure.
        test.done(0, jobs, Outcome::Unreachable);
        assert!(test.queue.is_unreachable());
        assert_eq!(test.wait(0), Some(1));
        let probe = test.attempts(1);
        assert_eq!(probe.len(), 1);
        assert_eq!(test.wait(9), None, "until the probe is back");
        test.done(9, probe, Outcome::Unreachable);
        assert_eq!(test.wait(9), Some(11));
        let probe = test.attempts(11);
        test.done(11, probe, Outcome::Settled);
        assert!(!test.queue.is_unreachable());
        assert_eq!(test.attempts(11).len(), 2, "nothing is lost, and all go again");
    }

    #[test]
    fn an_answer_that_says_no_is_an_answer() {
        let mut test = Test::new();
        test.push(0, "a1 b1");
        let jobs = test.attempts(0);
        test.done(0, jobs, Outcome::Unreachable);
        let probe = test.attempts(1);
        test.done(1, probe, Outcome::Failed);
        assert_eq!(test.attempts(1).len(), 1, "the other room's");
    }

    #[test]
    fn what_finds_no_place_is_counted_in_the_next_one_that_does() {
        let mut test = Test::new();
        let many: Vec<String> = (0..12).map(|number| format!("a{number}")).collect();
        let taken = test.push(0, &many.join(" "));
        assert_eq!(taken.iter().filter(|taken| **taken).count(), BOUNDS.per_room);
        assert_eq!(test.push(0, "b1"), [true], "another room has a place");
        let jobs = test.attempts(0);
        assert_eq!(texts(&jobs), ["a0-0", "b1-2"]);
        let large = "x".repeat(BOUNDS.bytes);
        test.push(0, &format!("c{large} d1"));
        assert_eq!(test.queue.lost, 1, "no place for anyone");
        test.queue.add_lost(4);
        test.done(0, jobs, Outcome::Settled);
        let jobs = test.attempts(0);
        test.done(0, jobs, Outcome::Settled);
        test.push(0, "e1");
        let jobs = test.attempts(0);
        assert_eq!(texts(&jobs), ["a2-0", "e1-5"]);
    }

    #[test]
    fn what_waited_too_long_is_not_sent() {
        let mut test = Test::new();
        test.push(0, "a1 b1");
        test.push(50, "a2");
        assert_eq!(texts(&test.attempts(101)), ["a2-0"]);
        assert_eq!((test.queue.take_expired(), test.queue.len()), (2, 1));
        assert_eq!(test.queue.rooms.len(), 1);
    }

    #[test]
    fn at_the_end_nothing_waits_for_its_pause() {
        let mut test = Test::new();
        test.push(0, "a1 b1");
        let mut jobs = test.attempts(0);
        let b1 = jobs.split_off(1);
        test.done(0, jobs, Outcome::Failed);
        test.done(0, b1, Outcome::Unreachable);
        let now = test.at(0);
        test.queue.hurry(now);
        let probe = test.attempts(0);
        test.done(0, probe, Outcome::Settled);
        assert_eq!(test.attempts(0).len(), 1);
    }

    /// Whatever happens, each webhook is sent in its room's order, and settled once.
    #[test]
    fn order_holds_through_random_failures() {
        use rand::rngs::StdRng;
        use rand::{RngExt, SeedableRng};

        let mut rng = StdRng::seed_from_u64(7);
        let bounds = Bounds { bytes: usize::MAX, per_room: usize::MAX, ..BOUNDS };
        let mut now = Instant::now();
        let mut queue = Queue::new(Bounds { max_age: Duration::MAX, ..bounds }, now);
        let (mut made, mut settled) = ([0u32; 5], [0u32; 5]);
        let mut flying: Vec<Job> = Vec::new();
        for _ in 0..20_000 {
            now += Duration::from_millis(rng.random_range(0..300));
            let index = rng.random_range(0..made.len());
            if made[index] < 500 {
                let text = made[index].to_string();
                made[index] += 1;
                assert!(queue.push(now, &Arc::from(format!("{index}")), |_| text.into_bytes()));
            }
            while flying.len() < 3
                && let Next::Send(job) = queue.next(now)
            {
                assert!(flying.iter().all(|other| other.room != job.room));
                flying.push(job);
            }
            if flying.is_empty() {
                continue;
            }
            let job = flying.swap_remove(rng.random_range(0..flying.len()));
            let outcomes =
                [Outcome::Settled, Outcome::Settled, Outcome::Failed, Outcome::Unreachable];
            let outcome = &outcomes[rng.random_range(0..outcomes.len())];
            if *outcome == Outcome::Settled {
                let index: usize = job.room.parse().unwrap();
                assert_eq!(std::str::from_utf8(&job.body).unwrap(), settled[index].to_string());
                settled[index] += 1;
            }
            queue.done(now, job, outcome);
        }
        assert_eq!(settled, [500; 5]);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }
}
