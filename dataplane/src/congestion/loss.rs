//! The rate that losses allow: of some candidates, the one under which what was lost is likeliest.
//!
//! The path is taken to lose a part of everything (inherent loss) and all that is beyond a rate
//! (loss-limited bandwidth). Every quarter of a second of sending makes one observation; fifteen
//! are kept, each weighing 0.9 of the one after it. Candidates are the present rate and some around
//! it, the acknowledged rate and the one from delays; for each, one Newton step fits the inherent
//! loss, and the likeliest wins, with a bias for higher rates that turns around at 30 % loss.
//!
//! After a decrease the rate is held: 300 ms the first time, twice as long each next time, up to a
//! minute, until delays alone limit it again.
#![forbid(unsafe_code)]

use std::sync::LazyLock;
use std::time::Duration;

use opencall_wire::time::Time;

use super::MIN_BPS;

/// Most observations kept.
const OBSERVATIONS_MAX: usize = 15;
/// Candidates: three around the present rate, the acknowledged one, the one from delays.
const CANDIDATES_MAX: usize = 5;

const HOLD_FIRST: Duration = Duration::from_millis(300);
const HOLD_MAX: Duration = Duration::from_secs(60);
/// Probabilities stay so far from 0 and 1.
const PROBABILITY_MARGIN: f64 = 1e-6;

/// The constants of the estimator. The default is what libwebrtc M150 uses.
#[derive(Debug, Clone, PartialEq)]
pub struct LossTuning {
    /// Growth beyond the acknowledged rate.
    pub ramp_up: f64,
    /// The same while less than `hold_threshold` of the held rate is acknowledged.
    pub ramp_up_in_hold: f64,
    /// See `ramp_up_in_hold`.
    pub hold_threshold: f64,
    /// Candidates around the present rate.
    pub factors: [f64; 3],
    /// Bias per kbit/s, and per natural logarithm of it.
    pub bias: f64,
    /// See `bias`.
    pub log_bias: f64,
    /// Loss at which the bias turns around, and over what width.
    pub bias_turns_at: f64,
    /// See `bias_turns_at`.
    pub bias_width: f64,
    /// Bounds of the inherent loss: from this to `inherent_offset` + `inherent_balance_bps` / rate.
    pub inherent_min: f64,
    /// See `inherent_min`.
    pub inherent_balance_bps: f64,
    /// See `inherent_min`.
    pub inherent_offset: f64,
    /// Inherent loss at the start.
    pub inherent_first: f64,
    /// Newton steps and how far each goes.
    pub newton_steps: u32,
    /// See `newton_steps`.
    pub newton_step: f64,
    /// Observations kept, at most fifteen, and how many there must be.
    pub window: usize,
    /// See `window`.
    pub observations_min: u64,
    /// Sending time of one observation.
    pub observation_min: Duration,
    /// Part of the sending rate before in the one now.
    pub sending_rate_smoothing: f64,
    /// Weight of an observation against the one after it, in the likelihood and in the average.
    pub weight: f64,
    /// See `weight`.
    pub average_weight: f64,
    /// The rate is at most `upper_balance_bps` / (loss − `upper_offset`).
    pub upper_balance_bps: f64,
    /// See `upper_balance_bps`.
    pub upper_offset: f64,
    /// The rate is at least this part of the acknowledged one.
    pub lower_bound: f64,
    /// Growth within `increase_window` while losses limit the rate.
    pub increase_max: f64,
    /// See `increase_max`.
    pub increase_window: Duration,
    /// How much longer each hold is than the one before.
    pub hold_factor: f64,
    /// How long padding may fill up to a rate that has risen.
    pub padding: Duration,
    /// No growth while more is lost than inherently.
    pub no_growth_above_inherent: bool,
}

impl Default for LossTuning {
    fn default() -> Self {
        LossTuning {
            ramp_up: 1.5,
            ramp_up_in_hold: 1.2,
            hold_threshold: 1.3,
            factors: [1.02, 1.0, 0.95],
            bias: 0.0002,
            log_bias: 0.02,
            bias_turns_at: 0.2,
            bias_width: 0.002,
            inherent_min: 1e-3,
            inherent_balance_bps: 100_000.0,
            inherent_offset: 0.05,
            inherent_first: 0.01,
            newton_steps: 1,
            newton_step: 0.75,
            window: OBSERVATIONS_MAX,
            observations_min: 3,
            observation_min: Duration::from_millis(250),
            sending_rate_smoothing: 0.0,
            weight: 0.9,
            average_weight: 0.9,
            upper_balance_bps: 100_000.0,
            upper_offset: 0.05,
            lower_bound: 1.0,
            increase_max: 1.3,
            increase_window: Duration::from_millis(300),
            hold_factor: 2.0,
            padding: Duration::from_secs(2),
            no_growth_above_inherent: true,
        }
    }
}

static M150: LazyLock<LossTuning> = LazyLock::new(LossTuning::default);

/// Ours: where a link loses 20 % and is not full, the reference's rate falls to nothing, for the
/// average is above the 20 % at which it prefers lower rates half of the time (28 kbit/s remain of
/// 4 Mbit/s, and 400 with these). More forgiving constants would flood links that drop what does
/// not fit: at 130 kbit/s of `upper_balance_bps` one of 1 Mbit/s loses 15 % all the time.
static OURS: LazyLock<LossTuning> =
    LazyLock::new(|| LossTuning { bias_turns_at: 0.3, newton_steps: 2, ..LossTuning::default() });

/// What limits the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossState {
    /// Losses do not.
    #[default]
    DelayLimited,
    /// Losses do, and it falls or is held.
    Decreasing,
    /// Losses do, and it rises; padding may fill up to it.
    Increasing,
}

/// One packet of a feedback, as losses see it.
#[derive(Debug, Clone, Copy)]
pub struct LossReport {
    /// When it left.
    pub sent: Time,
    /// Its bytes.
    pub bytes: u32,
    /// Whether it arrived.
    pub arrived: bool,
    /// Whether it was reported lost earlier in the observation at hand
    /// ([`LossBased::period`]).
    pub lost_before: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Observation {
    bytes: f64,
    lost_bytes: f64,
    sending_bps: f64,
}

/// The observation at hand.
#[derive(Debug, Clone, Copy, Default)]
struct Partial {
    bytes: f64,
    lost_bytes: f64,
    first_sent: Option<Time>,
    last_sent: Option<Time>,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    inherent_loss: f64,
    bandwidth_bps: f64,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Option<Time>,
    duration: Duration,
    rate_bps: f64,
}

const NO_HOLD: Hold = Hold { until: None, duration: HOLD_FIRST, rate_bps: f64::INFINITY };

#[derive(Debug, Clone, Copy, Default)]
struct Padding {
    since: Option<Time>,
    rate_bps: f64,
}

/// The constants in use; those that are common need not be carried by every transport.
#[derive(Debug, Clone)]
enum Tuning {
    Ours,
    M150,
    Given(Box<LossTuning>),
}

/// Loss-based estimator (`LossBasedBweV2`).
#[derive(Debug, Clone)]
pub struct LossBased {
    tuning: Tuning,
    observations: [Observation; OBSERVATIONS_MAX],
    count: u64,
    partial: Partial,
    /// Sending time at which the last observation ended.
    ended: Option<Time>,
    best: Option<Channel>,
    average_loss: f64,
    acknowledged_bps: Option<f64>,
    delay_bps: f64,
    max_bps: f64,
    /// Infinite until losses have limited the rate.
    window_limit_bps: f64,
    window_began: Option<Time>,
    hold: Hold,
    padding: Padding,
    rate_bps: f64,
    state: LossState,
}

impl LossBased {
    /// With our constants.
    pub fn new(max_bps: f64) -> Self {
        LossBased {
            tuning: Tuning::Ours,
            observations: [Observation::default(); OBSERVATIONS_MAX],
            count: 0,
            partial: Partial::default(),
            ended: None,
            best: None,
            average_loss: 0.0,
            acknowledged_bps: None,
            delay_bps: f64::INFINITY,
            max_bps,
            window_limit_bps: f64::INFINITY,
            window_began: None,
            hold: NO_HOLD,
            padding: Padding::default(),
            rate_bps: f64::INFINITY,
            state: LossState::DelayLimited,
        }
    }

    /// With other constants.
    pub fn with_tuning(max_bps: f64, tuning: LossTuning) -> Self {
        LossBased { tuning: Tuning::Given(Box::new(tuning)), ..LossBased::new(max_bps) }
    }

    /// With those of libwebrtc M150.
    pub fn as_reference(max_bps: f64) -> Self {
        LossBased { tuning: Tuning::M150, ..LossBased::new(max_bps) }
    }

    /// Number of the observation at hand, for [`LossReport::lost_before`].
    pub fn period(&self) -> u8 {
        self.count as u8
    }

    /// The rate and what limits it; `None` until there are enough observations.
    pub fn result(&self) -> Option<(f64, LossState)> {
        let ready = self.best.is_some() && self.count >= self.tuning().observations_min;
        ready.then_some((self.rate_bps, self.state))
    }

    /// Loss of the last observations, weighted, without the best and the worst of them.
    pub fn average_loss(&self) -> f64 {
        self.average_loss
    }

    /// The rate that arrived.
    pub fn set_acknowledged(&mut self, acknowledged_bps: f64) {
        self.acknowledged_bps = Some(acknowledged_bps);
    }

    /// The rate that is never exceeded.
    pub fn set_max(&mut self, max_bps: f64) {
        self.max_bps = max_bps;
    }

    /// Sets the rate, when something other than losses tells it.
    pub fn set_rate(&mut self, rate_bps: f64) {
        let inherent_loss =
            self.best.map_or(self.tuning().inherent_first, |best| best.inherent_loss);
        self.best = Some(Channel { inherent_loss, bandwidth_bps: rate_bps });
        self.rate_bps = rate_bps;
        self.state = LossState::DelayLimited;
    }

    /// Takes one packet of the feedback at hand.
    pub fn on_packet(&mut self, report: &LossReport) {
        let partial = &mut self.partial;
        let bytes = f64::from(report.bytes);
        partial.bytes += bytes;
        if !report.arrived {
            partial.lost_bytes += bytes;
        } else if report.lost_before {
            partial.lost_bytes = (partial.lost_bytes - bytes).max(0.0);
        }
        partial.first_sent =
            Some(partial.first_sent.map_or(report.sent, |first| first.min(report.sent)));
        partial.last_sent = partial.last_sent.max(Some(report.sent));
    }

    /// Ends the feedback at hand; `delay_bps` is the rate from delays, infinite if there is none.
    pub fn finish(&mut self, delay_bps: f64, in_alr: bool) {
        self.delay_bps = delay_bps;
        let Some(now) = self.observe() else { return };
        let present = match self.best {
            Some(best) => best,
            None if delay_bps.is_finite() => {
                self.set_rate(delay_bps);
                Channel { inherent_loss: self.tuning().inherent_first, bandwidth_bps: delay_bps }
            }
            None => return,
        };
        let mut candidate = self.likeliest(present, now, in_alr);
        if self.average_loss > candidate.inherent_loss && self.tuning().no_growth_above_inherent {
            candidate.bandwidth_bps = candidate.bandwidth_bps.min(present.bandwidth_bps);
        }
        if self.is_loss_limited() {
            candidate.bandwidth_bps = self.slow_growth(present, candidate, now);
        }
        let upper_bps = candidate.bandwidth_bps.min(self.most_bps());
        let bounded_bps = self.lower_bps().max(upper_bps.min(delay_bps));
        self.best = Some(if bounded_bps < candidate.bandwidth_bps {
            Channel { inherent_loss: 0.0, bandwidth_bps: bounded_bps }
        } else {
            let bandwidth_bps = candidate.bandwidth_bps.max(self.lower_bps());
            Channel { bandwidth_bps, ..candidate }
        });
        self.settle(bounded_bps, now);
    }

    fn tuning(&self) -> &LossTuning {
        match &self.tuning {
            Tuning::Ours => &OURS,
            Tuning::M150 => &M150,
            Tuning::Given(tuning) => tuning,
        }
    }

    fn is_loss_limited(&self) -> bool {
        self.state != LossState::DelayLimited
    }

    /// The least that the rate may be: what is acknowledged arrives, after all.
    fn lower_bps(&self) -> f64 {
        let acknowledged_bps = self.acknowledged_bps.unwrap_or(0.0);
        (self.tuning().lower_bound * acknowledged_bps).max(MIN_BPS)
    }

    /// The most that it may be at the average loss.
    pub fn most_bps(&self) -> f64 {
        let tuning = self.tuning();
        let excess = self.average_loss - tuning.upper_offset;
        if excess > 0.0 { tuning.upper_balance_bps / excess } else { self.max_bps }
    }

    /// Closes the observation at hand if it is long enough; returns the sending time of its end.
    fn observe(&mut self) -> Option<Time> {
        let partial = self.partial;
        let (first_sent, last_sent) = (partial.first_sent?, partial.last_sent?);
        let began = *self.ended.get_or_insert(first_sent);
        let duration = last_sent.since(began);
        if duration.is_zero() || duration < self.tuning().observation_min {
            // Sending times are those of one feedback in the reference.
            self.partial.first_sent = None;
            self.partial.last_sent = None;
            return None;
        }
        self.ended = Some(last_sent);
        let instant_bps = partial.bytes * 8.0 / duration.as_secs_f64();
        let smoothing = self.tuning().sending_rate_smoothing;
        let sending_bps = match self.count.checked_sub(1) {
            Some(last) => {
                let before_bps = self.observations[self.slot(last)].sending_bps;
                smoothing * before_bps + (1.0 - smoothing) * instant_bps
            }
            None => instant_bps,
        };
        let slot = self.slot(self.count);
        let Partial { bytes, lost_bytes, .. } = partial;
        self.observations[slot] = Observation { bytes, lost_bytes, sending_bps };
        self.count += 1;
        self.partial = Partial::default();
        self.average_loss = self.measure_loss();
        Some(last_sent)
    }

    fn window(&self) -> u64 {
        self.tuning().window.clamp(1, OBSERVATIONS_MAX) as u64
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.window()) as usize
    }

    /// The observations, newest first.
    fn newest_first(&self) -> impl Iterator<Item = &Observation> + Clone {
        let oldest = self.count.saturating_sub(self.window());
        (oldest..self.count).rev().map(|number| &self.observations[self.slot(number)])
    }

    fn measure_loss(&self) -> f64 {
        let mut total = Observation::default();
        let mut worst = Observation::default();
        let mut best = Observation::default();
        let (mut worst_loss, mut best_loss) = (0.0, 1.0);
        // In the order of slots, as the reference does: of equal ones the first is left out.
        let window = self.window();
        for slot in 0..self.count.min(window) {
            let observation = &self.observations[slot as usize];
            let age = (self.count - 1 - slot) % window;
            let weight = self.tuning().average_weight.powi(age as i32);
            let weighed = Observation {
                bytes: weight * observation.bytes,
                lost_bytes: weight * observation.lost_bytes,
                sending_bps: observation.sending_bps,
            };
            total.bytes += weighed.bytes;
            total.lost_bytes += weighed.lost_bytes;
            let loss = observation.loss();
            if self.count > 3 && loss > worst_loss {
                (worst_loss, worst) = (loss, weighed);
            }
            if self.count > 3 && loss < best_loss {
                (best_loss, best) = (loss, weighed);
            }
        }
        // Much sent at once may well lose much: that is no outlier.
        let sudden = 2.0 * self.median_sending_bps() <= worst.sending_bps;
        let rest = total.bytes - worst.bytes - best.bytes;
        if sudden || rest <= 0.0 {
            return total.loss();
        }
        ((total.lost_bytes - worst.lost_bytes - best.lost_bytes) / rest).max(0.0)
    }

    fn median_sending_bps(&self) -> f64 {
        let mut rates = [0.0; OBSERVATIONS_MAX];
        let mut count = 0;
        for observation in self.newest_first().filter(|each| each.sending_bps > 0.0) {
            rates[count] = observation.sending_bps;
            count += 1;
        }
        let rates = &mut rates[..count];
        rates.sort_unstable_by(f64::total_cmp);
        match count {
            0 => 0.0,
            _ if count % 2 == 0 => (rates[count / 2 - 1] + rates[count / 2]) / 2.0,
            _ => rates[count / 2],
        }
    }

    /// The best of the candidates; of equal ones the highest.
    fn likeliest(&self, present: Channel, now: Time, in_alr: bool) -> Channel {
        let mut best = present;
        let mut best_objective = f64::MIN;
        for bandwidth_bps in self.candidates(present, now, in_alr).into_iter().flatten() {
            let mut candidate = Channel { bandwidth_bps, ..present };
            candidate.inherent_loss = self.feasible_loss(&candidate);
            self.fit(&mut candidate);
            let objective = self.objective(&candidate);
            let tied = objective == best_objective && bandwidth_bps > best.bandwidth_bps;
            if objective > best_objective || tied {
                (best_objective, best) = (objective, candidate);
            }
        }
        best
    }

    fn candidates(
        &self,
        present: Channel,
        now: Time,
        in_alr: bool,
    ) -> [Option<f64>; CANDIDATES_MAX] {
        let around = self.tuning().factors.map(|factor| factor * present.bandwidth_bps);
        // Limited by itself a sender acknowledges little, unless padding fills up.
        let padded = self.padding.since.is_some_and(|at| at + self.tuning().padding >= now);
        let acknowledged_bps = self.acknowledged_bps.filter(|_| !in_alr || padded);
        let delay_bps =
            Some(self.delay_bps).filter(|&bps| bps.is_finite() && bps > present.bandwidth_bps);
        let limited = self.is_loss_limited() && self.window_limit_bps.is_finite();
        let limit_bps = if limited { self.window_limit_bps } else { self.max_bps };
        let most_bps = limit_bps.max(present.bandwidth_bps);
        let [higher, same, lower] = around.map(Some);
        [higher, same, lower, acknowledged_bps, delay_bps].map(|bps| bps.map(|b| b.min(most_bps)))
    }

    /// Growth out of losses follows what is acknowledged, and no faster than the window lets it.
    fn slow_growth(&self, present: Channel, candidate: Channel, now: Time) -> f64 {
        let tuning = self.tuning();
        let mut bps = candidate.bandwidth_bps;
        if self.window_began.is_some_and(|at| at + tuning.increase_window > now) {
            bps = bps.min(self.window_limit_bps);
        }
        let Some(acknowledged_bps) = self.acknowledged_bps else { return bps };
        if !self.rises(present.bandwidth_bps, bps) {
            return bps;
        }
        let held = self.hold.rate_bps.is_finite()
            && acknowledged_bps < tuning.hold_threshold * self.hold.rate_bps;
        let ramp_up = if held { tuning.ramp_up_in_hold } else { tuning.ramp_up };
        bps = present.bandwidth_bps.max(bps.min(ramp_up * acknowledged_bps));
        if self.state == LossState::Decreasing && bps == present.bandwidth_bps {
            // The least growth that ends the decrease, so that padding begins.
            bps += 1.0;
        }
        bps
    }

    fn rises(&self, old_bps: f64, new_bps: f64) -> bool {
        let goes_on = old_bps == new_bps && self.state == LossState::Increasing;
        self.is_loss_limited() && (old_bps < new_bps || goes_on)
    }

    /// Decides what state the bounded rate is of, and keeps the hold.
    fn settle(&mut self, bounded_bps: f64, now: Time) {
        let loss_limits = bounded_bps < self.delay_bps;
        let held = self.hold.until.is_some_and(|until| until > now);
        if self.state == LossState::Decreasing && held && loss_limits {
            self.hold.rate_bps = self.hold.rate_bps.max(self.lower_bps());
            self.rate_bps = self.hold.rate_bps.min(bounded_bps);
            return;
        }
        let loss_limits = loss_limits && bounded_bps < self.max_bps;
        if loss_limits && self.rises(self.rate_bps, bounded_bps) && self.may_rise(bounded_bps, now)
        {
            if bounded_bps > self.padding.rate_bps {
                self.padding = Padding { since: Some(now), rate_bps: bounded_bps };
            }
            self.state = LossState::Increasing;
        } else if loss_limits {
            if self.state != LossState::Decreasing {
                let longer = self.hold.duration.mul_f64(self.tuning().hold_factor);
                self.hold = Hold {
                    until: Some(now + self.hold.duration),
                    duration: longer.min(HOLD_MAX),
                    rate_bps: bounded_bps,
                };
            }
            self.padding = Padding::default();
            self.state = LossState::Decreasing;
        } else {
            self.hold = NO_HOLD;
            self.padding = Padding::default();
            self.state = LossState::DelayLimited;
        }
        self.rate_bps = bounded_bps;
        self.open_window(now);
    }

    /// A rise goes on while its padding lasts or the rate climbs further.
    fn may_rise(&self, bounded_bps: f64, now: Time) -> bool {
        self.state != LossState::Increasing
            || self.padding.since.is_some_and(|at| at + self.tuning().padding >= now)
            || self.padding.rate_bps < bounded_bps
    }

    fn open_window(&mut self, now: Time) {
        let window = self.tuning().increase_window;
        let over = self.window_began.is_none_or(|at| at + window < now);
        if let Some(best) = self.best.filter(|_| self.is_loss_limited() && over) {
            self.window_limit_bps = (best.bandwidth_bps * self.tuning().increase_max).max(MIN_BPS);
            self.window_began = Some(now);
        }
    }

    fn feasible_loss(&self, channel: &Channel) -> f64 {
        let tuning = self.tuning();
        let most = tuning.inherent_offset + tuning.inherent_balance_bps / channel.bandwidth_bps;
        channel.inherent_loss.max(tuning.inherent_min).min(most.min(1.0))
    }

    /// Newton's method on the likelihood, for the inherent loss.
    fn fit(&self, channel: &mut Channel) {
        for _ in 0..self.tuning().newton_steps {
            let (mut first, mut second) = (0.0, 0.0);
            let mut weight = 1.0;
            for observation in self.newest_first() {
                let loss = channel.loss_at(observation.sending_bps);
                let lost = weight * observation.lost_bytes / 1e3;
                let arrived = weight * observation.arrived_bytes() / 1e3;
                first += lost / loss - arrived / (1.0 - loss);
                second -= lost / (loss * loss) + arrived / ((1.0 - loss) * (1.0 - loss));
                weight *= self.tuning().weight;
            }
            if second >= 0.0 {
                second = -1e-6;
            }
            channel.inherent_loss -= self.tuning().newton_step * first / second;
            channel.inherent_loss = self.feasible_loss(channel);
        }
    }

    fn objective(&self, channel: &Channel) -> f64 {
        let bias = self.bias(channel.bandwidth_bps);
        let mut objective = 0.0;
        let mut weight = 1.0;
        for observation in self.newest_first() {
            let loss = channel.loss_at(observation.sending_bps);
            let likelihood = observation.lost_bytes / 1e3 * loss.ln()
                + observation.arrived_bytes() / 1e3 * (1.0 - loss).ln();
            objective += weight * (likelihood + bias * observation.bytes / 1e3);
            weight *= self.tuning().weight;
        }
        objective
    }

    fn bias(&self, bandwidth_bps: f64) -> f64 {
        let tuning = self.tuning();
        let kbps = bandwidth_bps / 1e3;
        let below = tuning.bias_turns_at - self.average_loss;
        let sign = below / (tuning.bias_width + below.abs());
        sign * (tuning.bias * kbps + tuning.log_bias * (1.0 + kbps).ln())
    }
}

impl Observation {
    fn arrived_bytes(&self) -> f64 {
        self.bytes - self.lost_bytes
    }

    fn loss(&self) -> f64 {
        if self.bytes > 0.0 { self.lost_bytes / self.bytes } else { 0.0 }
    }
}

impl Channel {
    /// How likely a packet is to be lost at this sending rate.
    fn loss_at(&self, sending_bps: f64) -> f64 {
        let inherent = self.inherent_loss.clamp(0.0, 1.0);
        let beyond = if sending_bps > self.bandwidth_bps {
            (1.0 - inherent) * (sending_bps - self.bandwidth_bps) / sending_bps
        } else {
            0.0
        };
        (inherent + beyond).clamp(PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVATION: Duration = Duration::from_millis(250);
    const KBPS: f64 = 1e3;
    const BYTES: u32 = 15_000;

    /// The constants that the reference's tests use.
    fn tuning() -> LossTuning {
        LossTuning {
            ramp_up: 1.2,
            factors: [1.1, 1.0, 0.95],
            bias: 0.01,
            inherent_balance_bps: 14_000.0,
            inherent_offset: 0.9,
            newton_steps: 2,
            newton_step: 0.4,
            sending_rate_smoothing: 0.01,
            average_weight: 0.97,
            upper_balance_bps: 90_000.0,
            upper_offset: 0.1,
            weight: 0.98,
            observations_min: 1,
            ..LossTuning::default()
        }
    }

    fn short() -> LossTuning {
        LossTuning { observations_min: 1, window: 2, ..LossTuning::default() }
    }

    struct Run {
        loss: LossBased,
        delay_kbps: f64,
        in_alr: bool,
    }

    impl Run {
        fn new(tuning: LossTuning, kbps: Option<f64>) -> Self {
            let mut loss = LossBased::with_tuning(1e9, tuning);
            if let Some(kbps) = kbps {
                loss.set_rate(kbps * KBPS);
            }
            Run { loss, delay_kbps: f64::INFINITY, in_alr: false }
        }

        /// One feedback of packets sent an observation apart, of which the last may be lost.
        fn feed(&mut self, begin: Duration, packets: u32, lost: &[u32]) -> f64 {
            for index in 0..packets {
                self.loss.on_packet(&LossReport {
                    sent: Time::from_millis(1_000) + begin + OBSERVATION * index,
                    bytes: BYTES,
                    arrived: !lost.contains(&index),
                    lost_before: false,
                });
            }
            self.loss.finish(self.delay_kbps * KBPS, self.in_alr);
            self.kbps()
        }

        fn received(&mut self, step: u32) -> f64 {
            self.feed(OBSERVATION * step, 2, &[])
        }

        fn half_lost(&mut self, step: u32) -> f64 {
            self.feed(OBSERVATION * step, 2, &[1])
        }

        fn all_lost(&mut self, step: u32) -> f64 {
            self.feed(OBSERVATION * step, 2, &[0, 1])
        }

        fn acknowledge(&mut self, kbps: f64) {
            self.loss.set_acknowledged(kbps * KBPS);
        }

        fn kbps(&self) -> f64 {
            let rate = self.loss.result().map_or(f64::INFINITY, |(bps, _)| bps / KBPS);
            (rate * 1e3).round() / 1e3
        }

        fn state(&self) -> LossState {
            self.loss.result().map_or(LossState::DelayLimited, |(_, state)| state)
        }
    }

    #[test]
    fn nothing_is_said_before_a_start_and_enough_feedback() {
        let mut run = Run::new(tuning(), None);
        assert_eq!(run.received(0), f64::INFINITY);
        let mut run = Run::new(tuning(), Some(600.0));
        run.loss.on_packet(&LossReport {
            sent: Time::ZERO,
            bytes: BYTES,
            arrived: true,
            lost_before: false,
        });
        run.loss.finish(f64::INFINITY, false);
        assert_eq!(run.loss.result(), None);
        let mut run = Run::new(LossTuning::default(), Some(600.0));
        run.received(0);
        run.received(2);
        assert_eq!(run.loss.result(), None, "three observations are needed");
        run.received(4);
        assert!(run.loss.result().is_some());
    }

    #[test]
    fn without_loss_it_rises_to_the_highest_candidate() {
        let mut run = Run::new(tuning(), Some(600.0));
        assert_eq!(run.received(0), 660.0);
        run.acknowledge(900.0);
        assert_eq!(run.kbps(), 660.0, "only feedback changes it");
        assert!(run.received(2) > 660.0);
    }

    #[test]
    fn all_lost_is_fair_to_tcp() {
        assert_eq!(Run::new(tuning(), Some(600.0)).all_lost(0), 100.0);
    }

    #[test]
    fn never_above_delays_nor_above_the_maximum() {
        let mut run = Run::new(tuning(), Some(600.0));
        assert!(run.received(0) > 600.0);
        run.delay_kbps = 500.0;
        assert_eq!(run.received(2), 500.0);
        let mut run = Run::new(tuning(), Some(1000.0));
        run.loss.set_max(1000.0 * KBPS);
        assert_eq!(run.received(0), 1000.0);
    }

    #[test]
    fn the_acknowledged_rate_in_an_emergency() {
        let mut run = Run::new(tuning(), Some(600.0));
        run.acknowledge(300.0);
        run.half_lost(0);
        assert!(run.all_lost(2) <= 300.0);
    }

    #[test]
    fn the_same_feedback_twice_changes_nothing() {
        let mut run = Run::new(tuning(), Some(600.0));
        run.acknowledge(300.0);
        let first = run.received(0);
        run.acknowledge(1e3);
        assert_eq!(run.received(0), first);
    }

    #[test]
    fn the_upper_bound_decreases_it() {
        let tuning = LossTuning { factors: [1.0; 3], upper_balance_bps: 10_000.0, ..short() };
        let mut run = Run::new(tuning, Some(500.0));
        run.acknowledge(100.0);
        assert_eq!(run.feed(Duration::ZERO, 10, &[9]), 200.0);
        assert_eq!(run.state(), LossState::Decreasing);
    }

    #[test]
    fn the_lower_bound_increases_it() {
        let tuning = LossTuning { factors: [1.0; 3], lower_bound: 10.0, ..short() };
        let mut run = Run::new(tuning, Some(500.0));
        run.acknowledge(1.0);
        run.half_lost(0);
        assert_eq!(run.state(), LossState::Decreasing);
        run.acknowledge(200.0);
        assert_eq!(run.half_lost(2), 2000.0);
        assert_eq!(run.state(), LossState::Increasing);
    }

    #[test]
    fn no_growth_while_more_is_lost_than_inherently() {
        let tuning = LossTuning { factors: [1.2; 3], ..short() };
        let mut run = Run::new(tuning, Some(600.0));
        run.feed(Duration::ZERO, 10, &[9]);
        assert_eq!(run.feed(OBSERVATION, 10, &[9]), 600.0);
    }

    #[test]
    fn it_recovers_to_where_delays_limit_it() {
        let mut run = Run::new(short(), None);
        run.loss.set_max(1000.0 * KBPS);
        run.delay_kbps = 2000.0;
        assert_eq!(run.received(0), 1000.0);
        assert_eq!(run.state(), LossState::DelayLimited);
        assert!(run.half_lost(1) < 1000.0);
        assert_eq!(run.state(), LossState::Decreasing);
        let recovered = (2..1_000).find(|&step| {
            run.received(step);
            run.state() == LossState::DelayLimited
        });
        assert!(recovered.is_some());
        assert_eq!(run.kbps(), 1000.0);
    }

    #[test]
    fn the_held_rate_is_not_below_the_acknowledged_one() {
        let mut run = Run::new(LossTuning { hold_factor: 10.0, ..short() }, Some(2500.0));
        run.half_lost(0);
        assert_eq!(run.state(), LossState::Decreasing);
        run.acknowledge(1000.0);
        assert_eq!(run.half_lost(1), 1000.0);
        assert_eq!(run.state(), LossState::Decreasing);
    }

    #[test]
    fn padding_ends_a_second_after_a_rise_that_stands() {
        let second = Duration::from_secs(1);
        let tuning = LossTuning { padding: second, ramp_up: 2.0, ..short() };
        let mut run = Run::new(tuning, Some(2500.0));
        run.acknowledge(51.0);
        assert_eq!(run.half_lost(0), 51.0);
        assert_eq!(run.state(), LossState::Decreasing);
        run.acknowledge(26.0);
        let until = |run: &mut Run, from: u32, state: LossState| {
            let reached = |&step: &u32| {
                run.received(step);
                run.state() == state
            };
            (from..1_000).find(reached).unwrap()
        };
        let rising = until(&mut run, 1, LossState::Increasing);
        let falling = until(&mut run, rising + 1, LossState::Decreasing);
        assert_eq!(OBSERVATION * (falling - rising - 1), second);
    }

    #[test]
    fn padded_in_alr_it_falls_to_what_is_acknowledged() {
        let padding = Duration::from_secs(1);
        let tuning = LossTuning { padding, upper_balance_bps: 1e7, ..short() };
        let mut run = Run::new(tuning, Some(1000.0));
        run.in_alr = true;
        let lost = (0..100).find(|&step| {
            run.all_lost(step);
            run.state() == LossState::Decreasing
        });
        let from = lost.unwrap() + 1;
        let risen = (from..1_000).find(|&step| {
            run.received(step);
            run.state() == LossState::Increasing
        });
        assert!(run.kbps() > 900.0);
        run.acknowledge(100.0);
        assert_eq!(run.all_lost(risen.unwrap() + 1), 100.0);
        assert_eq!(run.state(), LossState::Decreasing);
    }

    #[test]
    fn one_spike_of_loss_is_left_out_unless_much_was_sent() {
        let mut run = Run::new(short_of(15), Some(500.0));
        run.loss.set_max(1e6 * KBPS);
        for step in 0..4 {
            run.received(step);
        }
        run.half_lost(4);
        assert_eq!(run.loss.average_loss(), 0.0);
        // Thrice the bytes, all lost but one.
        for index in 0..10 {
            run.loss.on_packet(&LossReport {
                sent: Time::from_millis(1_000) + OBSERVATION * 6,
                bytes: BYTES,
                arrived: index == 0,
                lost_before: false,
            });
        }
        run.loss.finish(f64::INFINITY, false);
        assert!(run.loss.average_loss() > 0.4);
    }

    fn short_of(window: usize) -> LossTuning {
        LossTuning { window, ..short() }
    }

    #[test]
    fn a_packet_that_arrives_after_all_is_not_lost() {
        let mut loss = LossBased::new(1e9);
        let sent = Time::from_millis(5);
        let report = LossReport { sent, bytes: 100, arrived: false, lost_before: false };
        loss.on_packet(&report);
        loss.on_packet(&LossReport { arrived: true, lost_before: true, ..report });
        assert_eq!(loss.partial.lost_bytes, 0.0);
    }
}
