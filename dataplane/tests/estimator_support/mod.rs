//! A link with one bottleneck, and the client behind it, in virtual time.
#![allow(dead_code, reason = "each test takes what it needs of it")]

pub mod rfc8867;
pub mod sender;

use std::collections::VecDeque;
use std::time::Duration;

use opencall_emulator::Impairment;
use opencall_wire::rtcp::Writer;
use opencall_wire::time::Time;

/// SplitMix64: one seed replays a run.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// What a link is from some moment on.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    pub from_s: f64,
    pub rate_bps: f64,
    pub delay_ms: f64,
    pub loss: f64,
}

struct Queued {
    flow: usize,
    sequence: u16,
    bytes: usize,
    since: Time,
}

/// Drops from the tail; lengths of its queue are times.
pub struct Link {
    pub phases: Vec<Phase>,
    pub queue_ms: f64,
    pub jitter_ms: f64,
    /// Packets that found no place in its queue.
    pub overflown: u64,
    random: Random,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    free_at: Time,
    last_arrival: Time,
    emulated: Option<Emulated>,
}

/// A link of the emulator's, with cross traffic, and what is under way on it.
struct Emulated {
    link: Impairment,
    origin: Time,
    under_way: VecDeque<(usize, u16, Time)>,
}

impl Link {
    /// One of the emulator's, whose time begins at `origin`; `delay_ms` is of the way back.
    pub fn emulated(link: Impairment, origin: Time, delay_ms: f64) -> Self {
        let phase = Phase { from_s: 0.0, rate_bps: f64::INFINITY, delay_ms, loss: 0.0 };
        let under_way = VecDeque::new();
        let emulated = Some(Emulated { link, origin, under_way });
        Link { emulated, ..Link::new(0, &[phase]) }
    }

    /// The emulator's link up to now.
    pub fn emulator(&mut self, now: Time) -> &mut Impairment {
        let emulated = self.emulated.as_mut().expect("it is one of the emulator's");
        emulated.link.advance(now.since(emulated.origin));
        &mut emulated.link
    }

    pub fn new(seed: u64, phases: &[Phase]) -> Self {
        Link {
            phases: phases.to_vec(),
            queue_ms: 300.0,
            jitter_ms: 0.0,
            overflown: 0,
            random: Random(seed),
            queue: VecDeque::new(),
            queued_bytes: 0,
            free_at: Time::ZERO,
            last_arrival: Time::ZERO,
            emulated: None,
        }
    }

    pub fn phase(&self, now: Time) -> Phase {
        let now_s = now.as_nanos() as f64 / 1e9;
        let begun = |phase: &&Phase| phase.from_s <= now_s;
        *self.phases.iter().rev().find(begun).unwrap_or(&self.phases[0])
    }

    pub fn queued_ms(&self, now: Time) -> f64 {
        if let Some(emulated) = &self.emulated {
            return emulated.link.queued(now.since(emulated.origin)).as_secs_f64() * 1e3;
        }
        self.queued_bytes as f64 * 8e3 / self.phase(now).rate_bps
    }

    pub fn send(&mut self, now: Time, sequence: u16, bytes: usize) {
        self.send_of(0, now, sequence, bytes);
    }

    /// A packet of one of several flows; whether it is taken.
    pub fn send_of(&mut self, flow: usize, now: Time, sequence: u16, bytes: usize) -> bool {
        if let Some(Emulated { link, origin, under_way }) = &mut self.emulated {
            let arrival = link.offer(now.since(*origin), bytes).next();
            under_way.extend(arrival.map(|at| (flow, sequence, *origin + at)));
            return arrival.is_some();
        }
        let is_taken = self.queued_ms(now) < self.queue_ms;
        if is_taken {
            self.queue.push_back(Queued { flow, sequence, bytes, since: now });
            self.queued_bytes += bytes;
        } else {
            self.overflown += 1;
        }
        is_taken
    }

    /// Packets whose last bit has left by now, and when they arrive.
    pub fn poll(&mut self, now: Time, arrived: &mut Vec<(u16, Time)>) {
        let mut all = Vec::new();
        self.poll_all(now, &mut all);
        arrived.extend(all.into_iter().map(|(_, sequence, at)| (sequence, at)));
    }

    /// The same, with the flow that each is of.
    pub fn poll_all(&mut self, now: Time, arrived: &mut Vec<(usize, u16, Time)>) {
        if let Some(Emulated { under_way, .. }) = &mut self.emulated {
            while let Some(next) = under_way.pop_front_if(|(_, _, at)| *at <= now) {
                arrived.push(next);
            }
            return;
        }
        while let Some(&Queued { flow, sequence, bytes, since }) = self.queue.front() {
            let begin = self.free_at.max(since);
            let phase = self.phase(begin);
            let done = begin + Duration::from_secs_f64(bytes as f64 * 8.0 / phase.rate_bps);
            if done > now {
                break;
            }
            self.free_at = done;
            self.queue.pop_front();
            self.queued_bytes -= bytes;
            if self.random.unit() < phase.loss {
                continue;
            }
            let delay_ms = phase.delay_ms + self.random.unit() * self.jitter_ms;
            let arrival = done + Duration::from_secs_f64(delay_ms / 1e3);
            self.last_arrival = self.last_arrival.max(arrival);
            arrived.push((flow, sequence, self.last_arrival));
        }
    }
}

/// Writes transport-wide feedback as a browser does.
pub struct Receiver {
    pub interval: Duration,
    arrivals: VecDeque<(u16, Time)>,
    next: Option<u16>,
    due: Time,
    count: u8,
}

impl Receiver {
    pub fn new(interval_ms: u64) -> Self {
        Receiver {
            interval: Duration::from_millis(interval_ms),
            arrivals: VecDeque::new(),
            next: None,
            due: Time::ZERO,
            count: 0,
        }
    }

    pub fn on_arrivals(&mut self, arrivals: impl Iterator<Item = (u16, Time)>) {
        self.arrivals.extend(arrivals);
    }

    /// Feedback that is due, with what it says: base and arrivals.
    pub fn poll(&mut self, now: Time) -> Option<Vec<u8>> {
        if now < self.due {
            return None;
        }
        self.due = now + self.interval;
        let ready = self.arrivals.iter().take_while(|(_, at)| *at <= now).count();
        let arrived: Vec<_> = self.arrivals.drain(..ready).collect();
        let &(first, first_at) = arrived.first()?;
        let &(last, _) = arrived.last()?;
        let base = self.next.unwrap_or(first);
        let mut statuses = vec![None; usize::from(last.wrapping_sub(base)) + 1];
        let ticks = |at: Time| (at.as_micros() / 250) as i64;
        let reference = ticks(first_at) / 256;
        let mut before = reference * 256;
        for &(sequence, at) in &arrived {
            let slot = usize::from(sequence.wrapping_sub(base));
            statuses[slot] = i32::try_from(ticks(at) - before).ok();
            before = ticks(at);
        }
        self.next = Some(last.wrapping_add(1));
        self.count = self.count.wrapping_add(1);
        let mut out = vec![0; 4_096];
        let mut writer = Writer::new(&mut out);
        writer.transport_cc(1, 2, self.count, base, reference as i32, &statuses).unwrap();
        let len = writer.finish();
        out.truncate(len);
        Some(out)
    }
}
