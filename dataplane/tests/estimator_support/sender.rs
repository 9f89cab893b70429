//! A sender that follows its estimator, over a link in virtual time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use opencall_dataplane::congestion::{Config, Demand, Estimator, ProbeCluster, Scratch};
use opencall_wire::rtcp::{Packet, packets};
use opencall_wire::time::Time;

use super::{Link, Phase, Random, Receiver};

const PACKET_BYTES: usize = 1_200;
const STEP: Duration = Duration::from_micros(250);

struct Probe {
    cluster: ProbeCluster,
    began: Time,
    packets: u32,
    bytes: u32,
}

/// A link and what came out of it, by flow.
pub struct Shared {
    pub link: Link,
    pub arrived: Vec<VecDeque<(u16, Time)>>,
}

/// A sender of as much as it may and wants, up to packets of one size.
pub struct World {
    pub now: Time,
    pub estimator: Estimator,
    pub scratch: Scratch,
    /// Shared by the worlds whose clients are behind it.
    pub link: Rc<RefCell<Shared>>,
    pub flow: usize,
    pub receiver: Receiver,
    pub feedback: VecDeque<(Time, Vec<u8>)>,
    pub random: Random,
    pub feedback_loss: f64,
    /// What is sent when the estimate lets it.
    pub demand_bps: f64,
    /// Part of the estimate that is used at most: layers come in steps.
    pub used: f64,
    /// By how much gaps between packets differ: pictures are not all of one size.
    pub spread: f64,
    pub next_media: Time,
    probe: Option<Probe>,
    pub sequence: u16,
    pub media_bytes: u64,
    pub probe_bytes: u64,
    /// Bytes of media that the link has taken.
    pub taken_bytes: u64,
    /// How much longer its way is than the link, each way.
    pub detour: Duration,
}

impl World {
    pub fn new(config: Config, demand_bps: f64, phases: &[Phase]) -> Self {
        let link = Shared { link: Link::new(1, phases), arrived: vec![VecDeque::new()] };
        World::behind(Rc::new(RefCell::new(link)), 0, Time::ZERO, config, demand_bps)
    }

    /// One more client behind a link.
    pub fn behind(
        link: Rc<RefCell<Shared>>,
        flow: usize,
        now: Time,
        config: Config,
        demand_bps: f64,
    ) -> Self {
        let mut estimator = Estimator::new(config);
        estimator.set_demand(now, Demand { wanted_bps: demand_bps, upgrade_bps: None });
        estimator.start(now);
        World {
            now,
            estimator,
            scratch: Scratch::default(),
            link,
            flow,
            receiver: Receiver::new(60),
            feedback: VecDeque::new(),
            random: Random(2),
            feedback_loss: 0.0,
            demand_bps,
            used: 1.0,
            spread: 0.0,
            next_media: now,
            probe: None,
            sequence: 0,
            media_bytes: 0,
            probe_bytes: 0,
            taken_bytes: 0,
            detour: Duration::ZERO,
        }
    }

    pub fn queued_ms(&self) -> f64 {
        self.link.borrow().link.queued_ms(self.now)
    }

    pub fn kbps(&self) -> f64 {
        self.estimator.target_bps() as f64 / 1e3
    }

    /// Runs until so many seconds; returns the highest estimate meanwhile, kbit/s.
    pub fn run_to(&mut self, seconds: f64) -> f64 {
        let mut highest: f64 = 0.0;
        while self.now.as_nanos() as f64 / 1e9 < seconds {
            self.step();
            highest = highest.max(self.kbps());
        }
        highest
    }

    pub fn step(&mut self) {
        self.now = self.now + STEP;
        let mut shared = self.link.borrow_mut();
        let mut arrived = Vec::new();
        shared.link.poll_all(self.now, &mut arrived);
        for (flow, sequence, at) in arrived {
            shared.arrived[flow].push_back((sequence, at));
        }
        let detour = self.detour;
        let arrived = shared.arrived[self.flow].drain(..);
        self.receiver.on_arrivals(arrived.map(|(sequence, at)| (sequence, at + detour)));
        let phase = shared.link.phase(self.now);
        let rtt_ms =
            2.0 * (phase.delay_ms + detour.as_secs_f64() * 1e3) + shared.link.queued_ms(self.now);
        drop(shared);
        if let Some(bytes) = self.receiver.poll(self.now)
            && self.random.unit() >= self.feedback_loss
        {
            let delay = Duration::from_secs_f64(phase.delay_ms / 1e3) + detour;
            self.feedback.push_back((self.now + delay, bytes));
        }
        while self.feedback.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, bytes) = self.feedback.pop_front().unwrap();
            let Some(Ok(Packet::TransportCc(feedback))) = packets(&bytes).next() else { panic!() };
            self.estimator.on_transport_cc(self.now, &feedback, &mut self.scratch);
            self.estimator.on_rtt(Duration::from_secs_f64(rtt_ms / 1e3));
        }
        if self.estimator.next_wakeup().is_some_and(|at| at <= self.now) {
            self.estimator.on_tick(self.now);
        }
        self.send();
    }

    fn send(&mut self) {
        if self.probe.is_none() {
            let begun = |cluster| Probe { cluster, began: self.now, packets: 0, bytes: 0 };
            self.probe = self.estimator.next_probe(self.now).map(begun);
        }
        while let Some(probe) = &mut self.probe {
            let sent_s = f64::from(probe.bytes) * 8.0 / probe.cluster.target_bps;
            if probe.began + Duration::from_secs_f64(sent_s) > self.now {
                return;
            }
            let (id, cluster) = (probe.cluster.id, probe.cluster);
            let bytes = cluster.packet_bytes();
            probe.packets += 1;
            probe.bytes += bytes as u32;
            if probe.packets >= cluster.min_packets && probe.bytes >= cluster.min_bytes {
                self.probe = None;
                self.next_media = self.next_media.max(self.now);
            }
            self.probe_bytes += bytes as u64;
            self.send_packet(bytes, Some(id));
        }
        let rate_bps = (self.estimator.target_bps() as f64 * self.used).min(self.demand_bps);
        while self.next_media <= self.now {
            let spread = 1.0 + self.spread * (2.0 * self.random.unit() - 1.0);
            let gap = PACKET_BYTES as f64 * 8.0 / rate_bps * spread;
            self.next_media = self.next_media + Duration::from_secs_f64(gap);
            self.media_bytes += PACKET_BYTES as u64;
            self.send_packet(PACKET_BYTES, None);
        }
    }

    fn send_packet(&mut self, bytes: usize, probe: Option<u8>) {
        self.estimator.on_sent(self.now, self.sequence, bytes, probe);
        let mut shared = self.link.borrow_mut();
        let is_taken = shared.link.send_of(self.flow, self.now, self.sequence, bytes);
        self.taken_bytes += if is_taken && probe.is_none() { bytes as u64 } else { 0 };
        self.sequence = self.sequence.wrapping_add(1);
    }
}
