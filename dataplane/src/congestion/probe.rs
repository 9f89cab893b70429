//! When to send a probe and at what rate: a short train of packets, faster than the estimate.
//!
//! At the start 3 and 6 times the first rate, and twice the result as long as it is more than 0.7
//! of what was probed; as long as nobody wants anything yet, again each second for five. Later from
//! time to time while the sender is limited by itself, when more is wanted than before, and once
//! after a large drop that is over. Never while the queue of the path grows or losses lower the
//! rate.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use super::MIN_BPS;

/// First probes, as multiples of the first rate.
const FIRST_SCALES: [f64; 2] = [3.0, 6.0];
/// A further probe is so many times the result of the one before, where that was more than
/// this part of what was probed.
const FURTHER_SCALE: f64 = 2.0;
const FURTHER_THRESHOLD: f64 = 0.7;
/// Results are waited for so long.
const RESULT_TIMEOUT: Duration = Duration::from_secs(1);
/// First probes are repeated for so long, unless something is wanted by then.
const FIRST_PERIOD: Duration = Duration::from_secs(5);

/// Most that is probed where no maximum is known, or nothing is wanted yet: whoever joins is sent
/// so much for the length of a train, and servers have clients by the hundred.
pub const DEFAULT_MAX_PROBE_BPS: f64 = 5_000_000.0;
/// No more than so many times what is wanted is probed.
const WANTED_SCALE: f64 = 2.0;
/// Probes of what is wanted stay below so many times the estimate.
const WANTED_BY_ESTIMATE: f64 = 2.0;
/// While losses limit the rate but let it rise.
const LOSS_LIMITED_SCALE: f64 = 1.5;

/// Limited by itself, a sender probes this often, at so many times the estimate.
const ALR_INTERVAL: Duration = Duration::from_secs(5);
const ALR_SCALE: f64 = 2.0;

/// A drop to less than this is large; when it is over within the time below, this part of what was
/// before is probed, if that could raise the estimate by more than probes are uncertain.
const LARGE_DROP: f64 = 0.66;
const DROP_TIMEOUT: Duration = Duration::from_secs(5);
const DROP_FRACTION: f64 = 0.85;
const UNCERTAINTY: f64 = 0.05;
/// Such probes are so far apart, and only where a region limited by itself ended so recently.
const DROP_INTERVAL: Duration = Duration::from_secs(5);
const ALR_ENDED: Duration = Duration::from_secs(3);

const MIN_PACKETS: u32 = 5;
/// Bytes of one packet.
const PACKET_BYTES_MIN: usize = 200;
const PACKET_BYTES_MAX: usize = 1_200;
/// Length of a train, and least time between two sendings within it.
const LENGTH: Duration = Duration::from_millis(15);
const DELTA: Duration = Duration::from_millis(2);
const FIRST_LENGTH: Duration = Duration::from_millis(100);
const FIRST_DELTA: Duration = Duration::from_millis(20);

/// Probes that wait to be sent: more than two are never wanted at once.
const PENDING_MAX: usize = 5;
/// One that waited so long is worth nothing.
const PENDING_TIMEOUT: Duration = Duration::from_secs(5);

/// A train of packets to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeCluster {
    /// Its name, never 0.
    pub id: u8,
    /// Bits per second to send it at.
    pub target_bps: f64,
    /// It ends when so many packets have left,
    pub min_packets: u32,
    /// and so many bytes.
    pub min_bytes: u32,
    /// Packets within so much time may leave together.
    pub min_delta: Duration,
    /// When it was asked for.
    pub requested: Time,
    /// Whether it is for an upgrade, and dropped when that is not wanted any more.
    pub for_upgrade: bool,
}

impl ProbeCluster {
    /// Bytes of a packet of it on the wire, so that no more is sent than needed: a train that fills
    /// the path makes everything behind it wait.
    pub fn packet_bytes(&self) -> usize {
        let needed = self.min_bytes.div_ceil(self.min_packets.max(1)) as usize;
        needed.clamp(PACKET_BYTES_MIN, PACKET_BYTES_MAX)
    }

    /// How long sending it takes.
    pub fn length(&self) -> Duration {
        let packets = self.min_packets as usize * self.packet_bytes();
        let bytes = packets.max(self.min_bytes as usize) as f64;
        Duration::from_secs_f64(bytes * 8.0 / self.target_bps.max(MIN_BPS))
    }
}

impl Default for ProbeCluster {
    fn default() -> Self {
        ProbeCluster {
            id: 1,
            target_bps: MIN_BPS,
            min_packets: MIN_PACKETS,
            min_bytes: 1,
            min_delta: DELTA,
            requested: Time::ZERO,
            for_upgrade: false,
        }
    }
}

/// What limits the estimate, as far as probing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// Delays, which do not grow.
    #[default]
    Delay,
    /// Delays that grow or shrink, a round trip that is too long, losses that lower the rate, or
    /// feedback that does not come: no probes.
    Congestion,
    /// Losses, and the rate rises.
    LossIncreasing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Init,
    Waiting,
    Complete,
}

/// Decides on probes, and keeps those that wait.
#[derive(Debug, Clone)]
pub struct ProbeController {
    state: State,
    limit: Limit,
    start_bps: f64,
    estimate_bps: f64,
    max_bps: f64,
    /// What could be used; `None` until someone said.
    wanted_bps: Option<f64>,
    /// Infinite when no further probe is to follow.
    further_above_bps: f64,
    initiated: Option<Time>,
    first_until: Option<Time>,
    alr_started: Option<Time>,
    alr_ended: Option<Time>,
    dropped: Option<(Time, f64)>,
    probed_after_drop: Option<Time>,
    next_id: u8,
    pending: [Option<ProbeCluster>; PENDING_MAX],
}

impl ProbeController {
    /// Of a transport that starts at so many bits per second.
    pub fn new(start_bps: f64, max_bps: f64) -> Self {
        ProbeController {
            state: State::Init,
            limit: Limit::Delay,
            start_bps,
            estimate_bps: start_bps,
            max_bps: if max_bps.is_finite() { max_bps } else { DEFAULT_MAX_PROBE_BPS },
            wanted_bps: None,
            further_above_bps: f64::INFINITY,
            initiated: None,
            first_until: None,
            alr_started: None,
            alr_ended: None,
            dropped: None,
            probed_after_drop: None,
            next_id: 1,
            pending: [None; PENDING_MAX],
        }
    }

    /// The first probes, when the path is there.
    pub fn start(&mut self, now: Time) {
        if self.state != State::Init {
            return;
        }
        if self.wanted_bps.is_none() {
            self.first_until = Some(now + FIRST_PERIOD);
        }
        let probes = FIRST_SCALES.map(|scale| scale * self.start_bps);
        self.initiate(now, &probes, true);
    }

    /// The oldest probe that waits, which is to be sent now.
    pub fn next(&mut self, now: Time) -> Option<ProbeCluster> {
        for slot in &mut self.pending {
            if slot.is_some_and(|probe| now.since(probe.requested) > PENDING_TIMEOUT) {
                *slot = None;
            }
        }
        let first = self.pending.iter().position(Option::is_some)?;
        let probe = self.pending[first].take();
        self.pending.rotate_left(first + 1);
        probe
    }

    /// Whether a probe waits.
    pub fn has_pending(&self) -> bool {
        self.pending.iter().any(Option::is_some)
    }

    /// Drops what waits: all of it, or only what was for an upgrade.
    pub fn abort(&mut self, only_upgrades: bool) {
        for slot in &mut self.pending {
            *slot = slot.filter(|probe| only_upgrades && !probe.for_upgrade);
        }
    }

    /// When a probe was last decided on.
    pub fn initiated(&self) -> Option<Time> {
        self.initiated
    }

    /// Whether the result of a probe is waited for.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// The rate that is never exceeded. A higher one than before is probed at once.
    pub fn set_max(&mut self, now: Time, max_bps: f64) {
        let max_bps = if max_bps.is_finite() { max_bps } else { DEFAULT_MAX_PROBE_BPS };
        let rises = self.max_bps < max_bps && self.estimate_bps < max_bps;
        self.max_bps = max_bps;
        if self.state == State::Complete && rises {
            self.initiate(now, &[max_bps], false);
        }
    }

    /// What could be used if it were there.
    pub fn set_wanted(&mut self, now: Time, wanted_bps: f64) {
        let probe = self.state == State::Complete
            && self.wanted_bps != Some(wanted_bps)
            && self.estimate_bps < self.max_bps
            && self.estimate_bps < wanted_bps
            && self.alr_started.is_some();
        if wanted_bps > 0.0 {
            self.first_until = Some(now);
        }
        self.wanted_bps = Some(wanted_bps);
        if !probe {
            return;
        }
        let most_bps = WANTED_BY_ESTIMATE * self.estimate_bps;
        let (first_bps, second_bps) = (wanted_bps, 2.0 * wanted_bps);
        if most_bps < first_bps {
            self.initiate(now, &[most_bps], true);
        } else if most_bps.min(second_bps) > first_bps {
            let limited = most_bps < second_bps;
            self.initiate(now, &[first_bps, most_bps.min(second_bps)], limited);
        } else {
            self.initiate(now, &[first_bps], false);
        }
    }

    /// Takes the estimate; a good result of a probe is followed by the next.
    pub fn set_estimate(&mut self, now: Time, estimate_bps: f64, limit: Limit) {
        self.limit = limit;
        if estimate_bps < LARGE_DROP * self.estimate_bps {
            self.dropped = Some((now, self.estimate_bps));
        }
        self.estimate_bps = estimate_bps;
        if self.state == State::Waiting && estimate_bps > self.further_above_bps {
            self.initiate(now, &[FURTHER_SCALE * estimate_bps], true);
        }
    }

    /// When the present region limited by itself began, or that there is none.
    pub fn set_alr_started(&mut self, started: Option<Time>) {
        self.alr_started = started;
    }

    /// Such a region ended now.
    pub fn set_alr_ended(&mut self, now: Time) {
        self.alr_ended = Some(now);
    }

    /// The queue of the path has drained: after a large drop, back to where it was.
    pub fn on_recovered(&mut self, now: Time) {
        let Some((dropped_at, before_bps)) = self.dropped else { return };
        let ended = self.alr_ended.is_some_and(|at| now.since(at) < ALR_ENDED);
        let limited_by_itself = self.alr_started.is_some() || ended;
        let apart = self.probed_after_drop.is_none_or(|at| now.since(at) > DROP_INTERVAL);
        let suggested_bps = DROP_FRACTION * before_bps;
        if self.state == State::Complete
            && limited_by_itself
            && apart
            && (1.0 - UNCERTAINTY) * suggested_bps > self.estimate_bps
            && now.since(dropped_at) < DROP_TIMEOUT
        {
            self.probed_after_drop = Some(now);
            self.initiate(now, &[suggested_bps], false);
        }
    }

    /// Feedback came back after it had failed: back to where the rate was.
    pub fn on_feedback_again(&mut self, now: Time, before_bps: f64) {
        if before_bps > self.estimate_bps {
            self.initiate(now, &[before_bps], true);
        }
    }

    /// A probe for an upgrade; whether it was granted.
    pub fn probe_upgrade(&mut self, now: Time, target_bps: f64) -> bool {
        if self.state != State::Complete || self.limit == Limit::Congestion {
            return false;
        }
        self.initiate(now, &[target_bps], true);
        for probe in self.pending.iter_mut().flatten() {
            probe.for_upgrade |= probe.requested == now;
        }
        true
    }

    /// Time passes. `in_alr_bps` is what is to be probed in a region limited by itself, where
    /// something better is known than twice the estimate.
    pub fn on_tick(&mut self, now: Time, in_alr_bps: Option<f64>) {
        let waited = self.initiated.is_none_or(|at| now.since(at) > RESULT_TIMEOUT);
        if self.state == State::Waiting && waited {
            self.complete();
        }
        if self.state != State::Complete {
            return;
        }
        let due = self.initiated.is_none_or(|at| now.since(at) >= RESULT_TIMEOUT);
        if due && self.first_until.is_some_and(|until| until > now) {
            self.initiate(now, &[self.estimate_bps * FIRST_SCALES[0]], true);
        } else if self.alr_probe_due().is_some_and(|due| due <= now) {
            let bps = in_alr_bps.unwrap_or(self.estimate_bps * ALR_SCALE);
            self.initiate(now, &[bps], true);
        }
    }

    /// When [`Self::on_tick`] has something to do, if nothing else happens.
    pub fn next_timeout(&self) -> Option<Time> {
        let result = self.initiated.map(|at| at + RESULT_TIMEOUT + Duration::from_millis(1));
        match self.state {
            State::Init => None,
            State::Waiting => result,
            State::Complete => {
                let first = result.filter(|due| self.first_until.is_some_and(|at| at > *due));
                let alr = self.alr_probe_due();
                first.into_iter().chain(alr).min()
            }
        }
    }

    /// There is none where all that is wanted fits, nor on a path that is full.
    fn alr_probe_due(&self) -> Option<Time> {
        let fits = self.wanted_bps.is_some_and(|wanted| wanted <= self.estimate_bps);
        let is_full = self.limit == Limit::Congestion;
        let started = self.alr_started.filter(|_| !fits && !is_full)?;
        Some(started.max(self.initiated.unwrap_or(Time::ZERO)) + ALR_INTERVAL)
    }

    fn complete(&mut self) {
        self.state = State::Complete;
        self.further_above_bps = f64::INFINITY;
    }

    fn initiate(&mut self, now: Time, rates_bps: &[f64], mut further: bool) {
        // What is wanted first, a voice mostly, says nothing of what will be.
        let begun = self.state != State::Init;
        let wanted_bps = self.wanted_bps.filter(|&bps| begun && bps > 0.0);
        let useful_bps = wanted_bps.map_or(DEFAULT_MAX_PROBE_BPS, |bps| WANTED_SCALE * bps);
        let mut most_bps = self.max_bps.min(useful_bps);
        match self.limit {
            Limit::Congestion => return,
            Limit::LossIncreasing => {
                most_bps = most_bps.min(LOSS_LIMITED_SCALE * self.estimate_bps);
            }
            Limit::Delay => {}
        }
        // The result of a probe below the estimate would only lower it.
        if most_bps <= self.estimate_bps {
            self.complete();
            return;
        }
        let mut last_bps = most_bps;
        for &rate_bps in rates_bps {
            further &= rate_bps < most_bps;
            last_bps = rate_bps.min(most_bps).max(MIN_BPS);
            self.push(now, last_bps);
        }
        self.initiated = Some(now);
        if further {
            self.state = State::Waiting;
            self.further_above_bps = FURTHER_THRESHOLD * last_bps;
        } else {
            self.complete();
        }
    }

    fn push(&mut self, now: Time, target_bps: f64) {
        let first = self.first_until.is_some_and(|until| now < until);
        let (length, min_delta) = if first { (FIRST_LENGTH, FIRST_DELTA) } else { (LENGTH, DELTA) };
        let probe = ProbeCluster {
            id: self.next_id,
            target_bps,
            min_packets: MIN_PACKETS,
            min_bytes: (target_bps * length.as_secs_f64() / 8.0) as u32,
            min_delta,
            requested: now,
            for_upgrade: false,
        };
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let free = self.pending.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.pending.rotate_left(1);
            PENDING_MAX - 1
        });
        self.pending[slot] = Some(probe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: f64 = 30_000.0;
    const MAX: f64 = 1_000_000.0;

    struct Run {
        controller: ProbeController,
        now: Time,
    }

    impl Run {
        fn new() -> Self {
            let now = Time::from_millis(100_000);
            Run { controller: ProbeController::new(START, MAX), now }
        }

        /// The first probes, taken.
        fn started() -> Self {
            let mut run = Run::new();
            // Repeating the first probes is a case of its own.
            run.controller.set_wanted(run.now, 0.0);
            run.controller.start(run.now);
            assert_eq!(run.take(), [3.0 * START, 6.0 * START]);
            run
        }

        /// The same, after their result was waited for in vain.
        fn complete() -> Self {
            let mut run = Run::started();
            run.pass(5_000);
            assert_eq!(run.tick(), []);
            run
        }

        fn pass(&mut self, ms: u64) {
            self.now = self.now + Duration::from_millis(ms);
        }

        fn take(&mut self) -> Vec<f64> {
            let next = || self.controller.next(self.now);
            std::iter::from_fn(next).map(|probe| probe.target_bps.round()).collect()
        }

        fn tick(&mut self) -> Vec<f64> {
            self.controller.on_tick(self.now, None);
            self.take()
        }

        fn estimate(&mut self, bps: f64) -> Vec<f64> {
            self.controller.set_estimate(self.now, bps, Limit::Delay);
            self.take()
        }
    }

    #[test]
    fn first_probes_and_their_shape() {
        let mut run = Run::new();
        run.controller.set_wanted(run.now, 0.0);
        run.controller.start(run.now);
        let probe = run.controller.next(run.now).unwrap();
        assert_eq!((probe.min_packets, probe.min_delta), (5, Duration::from_millis(2)));
        assert_eq!(f64::from(probe.min_bytes), (3.0 * START * 0.015 / 8.0).floor());
        run.controller.start(run.now);
        assert_eq!(run.take(), [6.0 * START], "only once");
    }

    #[test]
    fn further_probes_follow_good_results() {
        let mut run = Run::started();
        // More than 0.7 · 6 · 30 000 = 126 000.
        assert_eq!(run.estimate(100_000.0), []);
        assert_eq!(run.estimate(180_000.0), [360_000.0]);
        assert_eq!(run.estimate(260_000.0), [520_000.0]);
        assert_eq!(run.estimate(520_000.0), [MAX]);
        assert_eq!(run.estimate(900_000.0), [], "the maximum was probed");
    }

    #[test]
    fn results_that_come_too_late_are_not_followed() {
        let mut run = Run::complete();
        assert_eq!(run.estimate(180_000.0), []);
    }

    #[test]
    fn first_probes_are_repeated_until_something_is_wanted() {
        let mut run = Run::new();
        run.controller.start(run.now);
        let probe = run.controller.next(run.now).unwrap();
        assert_eq!(probe.min_delta, FIRST_DELTA);
        assert_eq!(f64::from(probe.min_bytes), (3.0 * START * 0.1 / 8.0).floor());
        run.take();
        let mut probed_ms = Vec::new();
        for ms in (100..7_000).step_by(100) {
            run.pass(100);
            if !run.tick().is_empty() {
                probed_ms.push(ms);
            }
        }
        assert_eq!(probed_ms, [1_100, 2_200, 3_300, 4_400]);

        let mut run = Run::new();
        run.controller.start(run.now);
        run.take();
        run.pass(1_100);
        assert_eq!(run.tick().len(), 1);
        run.controller.set_wanted(run.now, 50_000.0);
        run.pass(1_100);
        assert_eq!(run.tick(), []);
    }

    #[test]
    fn no_more_than_twice_what_is_wanted() {
        let mut run = Run::started();
        run.controller.set_wanted(run.now, 150_000.0);
        assert_eq!(run.estimate(180_000.0), [300_000.0]);
        let mut run = Run::started();
        run.controller.set_wanted(run.now, START);
        assert_eq!(run.estimate(180_000.0), [], "there is more than that");
    }

    #[test]
    fn a_higher_maximum_is_probed() {
        let mut run = Run::complete();
        run.controller.set_max(run.now, MAX + 100.0);
        assert_eq!(run.take(), [MAX + 100.0]);
        run.controller.set_max(run.now, MAX);
        assert_eq!(run.take(), []);
    }

    #[test]
    fn what_is_wanted_is_probed_in_alr() {
        let mut run = Run::started();
        run.estimate(MAX - 1.0);
        run.take();
        run.pass(5_000);
        run.tick();
        run.controller.set_alr_started(Some(run.now));
        run.controller.set_wanted(run.now, MAX + 1.0);
        assert_eq!(run.take(), [MAX, MAX]);
        run.controller.set_alr_started(None);
        run.controller.set_wanted(run.now, MAX + 2.0);
        assert_eq!(run.take(), []);
    }

    #[test]
    fn probes_of_what_is_wanted_are_held_by_the_estimate() {
        let mut run = Run::complete();
        run.controller.set_alr_started(Some(run.now));
        run.controller.set_wanted(run.now, MAX);
        assert_eq!(run.take(), [2.0 * START]);
        let followed = run.estimate(1.5 * START);
        assert_eq!(followed, [3.0 * START]);
    }

    #[test]
    fn periodic_probes_in_alr() {
        let mut run = Run::complete();
        run.controller.wanted_bps = None;
        run.estimate(50_000.0);
        run.controller.set_alr_started(Some(run.now));
        run.pass(5_000);
        assert_eq!(run.tick(), [100_000.0]);
        run.pass(4_000);
        assert_eq!(run.tick(), []);
        run.pass(1_000);
        assert_eq!(run.controller.next_timeout(), Some(run.now));
        assert_eq!(run.tick(), [100_000.0]);
        run.pass(5_000);
        run.controller.wanted_bps = Some(40_000.0);
        assert_eq!(run.tick(), [], "all that is wanted fits");
        run.controller.wanted_bps = Some(MAX);
        run.controller.on_tick(run.now, Some(70_000.0));
        assert_eq!(run.take(), [70_000.0]);
    }

    #[test]
    fn back_to_where_it_was_after_a_large_drop() {
        // (region: open, ended long enough ago, drop long enough ago), whether it is probed.
        for (open, ended_ms, dropped_ms, probed) in [
            (true, None, 0, true),
            (false, Some(2_999), 2_999, true),
            (false, Some(3_001), 3_001, false),
            (true, None, 5_001, false),
        ] {
            let mut run = Run::complete();
            run.estimate(50_000.0);
            run.estimate(25_000.0);
            run.controller.set_alr_started(open.then_some(run.now));
            if ended_ms.is_some() {
                run.controller.set_alr_ended(run.now);
            }
            run.pass(dropped_ms);
            run.controller.on_recovered(run.now);
            assert_eq!(!run.take().is_empty(), probed, "{open} {ended_ms:?} {dropped_ms}");
        }
        let mut run = Run::complete();
        run.estimate(50_000.0);
        run.estimate(25_000.0);
        run.controller.set_alr_started(Some(run.now));
        run.controller.on_recovered(run.now);
        assert_eq!(run.take(), [0.85 * 50_000.0]);
    }

    #[test]
    fn congestion_and_losses_hold_probes_back() {
        let mut run = Run::complete();
        run.controller.set_estimate(run.now, START, Limit::Congestion);
        assert!(!run.controller.probe_upgrade(run.now, 2.0 * START));
        run.controller.set_max(run.now, 2.0 * MAX);
        assert_eq!(run.take(), []);
        run.controller.set_estimate(run.now, START, Limit::LossIncreasing);
        assert!(run.controller.probe_upgrade(run.now, 5.0 * START));
        assert_eq!(run.take(), [1.5 * START]);
    }

    #[test]
    fn what_waits_is_bounded_and_may_be_dropped() {
        let mut run = Run::complete();
        for index in 0..300 {
            run.controller.set_max(run.now, MAX + f64::from(index));
        }
        assert_eq!(run.take().len(), PENDING_MAX);
        assert!(run.controller.probe_upgrade(run.now, 50_000.0));
        run.controller.set_max(run.now, 2.0 * MAX);
        run.controller.abort(true);
        assert_eq!(run.take().len(), 0, "asked for in the same turn");
        run.controller.set_max(run.now, 3.0 * MAX);
        run.pass(5_001);
        assert_eq!(run.take(), [], "waited too long");
    }
}
