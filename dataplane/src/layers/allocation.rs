//! Shares a transport's budget out among its consumers: the best layers that fit.
//!
//! A step is an encoding of a simulcast; of a stream with several spatial layers inside (SVC) it is
//! a pair of a spatial and a temporal layer: the lowest picture in all its frame rates, then each
//! larger picture at half of its frame rate and at all of it. A step that takes no less than the
//! one above it is none.
//!
//! The budget is for all that a client is sent. Voices come first, and are not measured against it:
//! what they take is gone. Then each video gets its lowest layer, higher priority first, as long as
//! there is room; who finds none is left out and gets nothing, for half of every picture is worse
//! than all of some. What is left raises layers, a step at a time.
//!
//! Worked trace of 3 Mbit/s: three voices take 100 kbit/s, three cameras of one encoding 900 each.
//! All fit. A screen of 800 comes: 200 are left, so it is left out until one of the cameras goes.
//! When the voices rise to 350 together, 50 are missing: for so little nobody is left out. At 450
//! the third camera is. It comes back 3 s later at the earliest, and not before there is room for
//! 1080.
//!
//! It is shared out twice: among the encodings that arrive, which is what consumers get; and as if
//! every encoding arrived, which is what their producers should send. A sender that is told so need
//! not encode and upload what nobody takes, and yet starts again when somebody would.
//!
//! Worked trace: a consumer with 3 Mbit/s for one producer of 150, 500 and 1500 kbit/s gets the
//! highest and wants all three. Its client caps it at the lowest: it wants one. The sender stops
//! the two others. The cap goes: of what arrives the lowest is still the best, but if all arrived,
//! the highest would fit. It wants three again, the sender starts them, and with the first key
//! frame it has the highest.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::codec::MediaKind;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::core::Core;
use crate::egress::path::{Budget, Outcome};
use crate::ingress::producer::Producer;
use crate::layers::EncodingIndex;
use crate::layers::selector::InnerLayers;
use crate::message::Layers;
use crate::store::{ConsumerKey, ProducerKey, TransportKey};

/// Encodings of one producer at most (r0–r3); control admits no more.
pub const MAX_ENCODINGS: usize = 4;

/// Steps of one consumer at most: of layers inside an encoding, three spatial and three temporal
/// ones in all their steps, or four and four in fewer.
const MAX_STEPS: usize = 7;

/// By how much of the budget, in percent, what is sent already may exceed it before a consumer is
/// left out or lowered: rates wobble, and coming back costs a key frame.
const STAYING_PERCENT: u64 = 5;

/// A consumer that was left out stays so for so long at least: three looks at the rates. A source
/// whose rate comes and goes would otherwise cost everyone a key frame each second.
const LEFT_OUT_AT_LEAST: Duration = Duration::from_secs(3);

/// The same where the budget is estimated: an estimate that fell too far is soon right again.
const LEFT_OUT_BY_ESTIMATE_AT_LEAST: Duration = Duration::from_secs(1);

/// Consumers of a transport up to which a new encoding is given to it within the turn, so that the
/// key frame it begins with is not missed. With more, that would stall everyone's packets for
/// milliseconds: then it comes at the end of the turn, and a key frame is asked for.
const AT_ONCE_CONSUMERS: usize = 32;

/// What one consumer could get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Weight: higher is served first.
    pub priority: u8,
    /// Bits per second of each step, low to high; 0 where nothing arrives.
    pub rates_bps: [u32; MAX_STEPS],
    /// Highest step its client wants.
    pub cap: u8,
    /// What it gets now.
    pub current: Option<u8>,
    /// Since when there was no room for it, if there was none.
    pub left_out: LeftOut,
    /// Whether it may have a better layer than now: not right after one was too much.
    pub may_rise: bool,
    /// The answer.
    pub chosen: Option<u8>,
}

/// Whether there was room for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// There was, or nobody has looked yet.
    No,
    /// There was none, and it waits.
    Waits,
    /// It may come back.
    MayReturn,
}

impl Demand {
    /// Bits per second that a step takes; more to go up or to come back than to stay.
    fn cost(&self, encoding: usize, headroom_percent: u64) -> i128 {
        let rate = i128::from(self.rates_bps[encoding]);
        let rises = self.current.is_some_and(|current| encoding > usize::from(current));
        match rises || self.left_out != LeftOut::No {
            true => rate * i128::from(headroom_percent) / 100,
            false => rate,
        }
    }

    /// Whether an encoding is not more than is sent already.
    fn stays_with(&self, encoding: usize) -> bool {
        self.current.is_some_and(|current| encoding <= usize::from(current))
    }

    /// Its lowest encoding that arrives. Where its client's cap lies below all of those, the lowest
    /// is still a picture.
    fn lowest(&self) -> Option<usize> {
        let lowest = self.choices().next();
        lowest.or_else(|| self.rates_bps.iter().position(|&rate| rate > 0))
    }

    /// The active encodings it may get, low to high.
    fn choices(&self) -> impl Iterator<Item = usize> + '_ {
        let last = usize::from(self.cap).min(MAX_STEPS - 1);
        (0..=last).filter(|&encoding| self.rates_bps[encoding] > 0)
    }

    fn next_above(&self, encoding: u8) -> Option<usize> {
        self.choices().find(|&choice| choice > usize::from(encoding))
    }

    /// Bits per second of what was chosen.
    fn chosen_bps(&self) -> u64 {
        self.chosen.map_or(0, |chosen| u64::from(self.rates_bps[usize::from(chosen)]))
    }

    /// Bits per second that must be free for something better than was chosen, beyond what that
    /// takes; `None` if there is nothing better.
    fn step_bps(&self, headroom_percent: u64) -> Option<u64> {
        let next = match self.chosen {
            Some(chosen) => self.next_above(chosen)?,
            None => self.lowest()?,
        };
        let needed = u64::try_from(self.cost(next, headroom_percent)).unwrap_or(0);
        Some(needed.saturating_sub(self.chosen_bps()))
    }

    /// Whether it gets less than now for lack of room, and not for what arrives or is wanted.
    fn is_lowered(&self) -> bool {
        let (Some(chosen), Some(current)) = (self.chosen, self.current) else { return false };
        chosen < current && self.choices().any(|choice| choice == usize::from(current))
    }

    /// Bits per second that must be free for all that its client wants.
    fn wanted_bps(&self, headroom_percent: u64) -> u64 {
        let best = self.choices().last().or_else(|| self.lowest());
        let needed = best.map_or(0, |best| self.cost(best, headroom_percent));
        u64::try_from(needed).unwrap_or(0)
    }
}

/// What is left of a budget.
struct Left {
    now: i128,
    lasting: i128,
    tolerance: i128,
}

impl Left {
    /// Takes so much of it for a lowest encoding, if that is there now.
    fn take_first(&mut self, cost: i128, stays: bool) -> bool {
        let room = if stays { self.now + self.tolerance } else { self.now };
        if cost <= room {
            self.now -= cost;
            self.lasting -= cost;
        }
        cost <= room
    }

    /// Takes so much of it, if it is there; what is sent already may exceed it a little.
    fn take(&mut self, cost: i128, stays: bool) -> bool {
        let fits = if stays { cost <= self.now + self.tolerance } else { cost <= self.lasting };
        if fits {
            self.now -= cost;
            self.lasting -= cost;
        }
        fits
    }
}

/// Gives every demand its lowest active encoding, in the order given, if it fits; then raises one
/// step at a time, in the same order, while that fits.
fn allocate(budget: Budget, demands: &mut [Demand]) {
    let mut left = Left {
        now: i128::from(budget.now_bps),
        lasting: i128::from(budget.lasting_bps),
        tolerance: i128::from(budget.now_bps * STAYING_PERCENT / 100),
    };
    let headroom_percent = budget.headroom_percent;
    for demand in demands.iter_mut() {
        demand.chosen = None;
        let Some(lowest) = demand.lowest().filter(|_| demand.left_out != LeftOut::Waits) else {
            continue;
        };
        let cost = demand.cost(lowest, headroom_percent);
        if left.take_first(cost, demand.current.is_some()) {
            demand.chosen = Some(lowest as u8);
        }
    }
    let mut raised = true;
    while raised {
        raised = false;
        for demand in demands.iter_mut() {
            let Some(chosen) = demand.chosen else { continue };
            let Some(next) = demand.next_above(chosen) else { continue };
            let stays = demand.stays_with(next);
            let cost = |encoding| demand.cost(encoding, headroom_percent);
            let step = cost(next) - cost(chosen.into());
            if !(stays || demand.may_rise || demand.current.is_none()) || !left.take(step, stays) {
                continue;
            }
            demand.chosen = Some(next as u8);
            raised = true;
        }
    }
}

/// What an allocation came to, of what arrives and of what would; `voices_bps` is taken already.
fn outcome(budget: Budget, voices_bps: u64, arriving: &[Demand], supposed: &[Demand]) -> Outcome {
    let Budget { headroom_percent, .. } = budget;
    let sum = |demands: &[Demand], of: fn(&Demand, u64) -> u64| {
        demands.iter().map(|demand| of(demand, headroom_percent)).sum::<u64>()
    };
    let used_bps = voices_bps + sum(arriving, |demand, _| demand.chosen_bps());
    let may_rise = |demand: &&Demand| demand.may_rise && demand.left_out != LeftOut::Waits;
    let next = |demands: &[Demand]| {
        let steps = demands.iter().filter(may_rise).filter_map(|d| d.step_bps(headroom_percent));
        steps.min()
    };
    Outcome {
        down_at_bps: used_bps * 100 / (100 + STAYING_PERCENT),
        up_at_bps: next(arriving).map_or(u64::MAX, |step| used_bps + step),
        wanted_bps: voices_bps + sum(supposed, Demand::wanted_bps),
        upgrade_bps: next(supposed),
        is_starved: arriving.iter().any(|demand| demand.lowest().is_some())
            && arriving.iter().all(|demand| demand.chosen.is_none()),
    }
}

/// What the consumers of a transport could get, one entry each: of what arrives, and if all did.
#[derive(Default)]
struct Demands {
    /// The consumers.
    order: SmallVec<[ConsumerKey; 32]>,
    arriving: SmallVec<[Demand; 32]>,
    supposed: SmallVec<[Demand; 32]>,
    /// Where the steps are layers inside an encoding: which entry's, and which.
    ladders: SmallVec<[(usize, Ladder); 4]>,
    /// What voices take.
    voices_bps: u64,
}

impl Core {
    /// Shares the transport's budget out anew, and asks for the key frames that switches need.
    pub(crate) fn allocate_layers(&mut self, now: Time, key: TransportKey) {
        self.transports[key].allocation_stale = false;
        let mut demands = Demands::default();
        self.note_demands(now, key, &mut demands);
        let ceiling_bps = self.overload.ceiling_bps();
        let budget = self.transports[key].budget(now).without(demands.voices_bps);
        let budget = ceiling_bps.map_or(budget, |bps| budget.capped(bps));
        choose(budget, &mut demands.arriving);
        choose(budget, &mut demands.supposed);
        for (index, &consumer_key) in demands.order.iter().enumerate() {
            let (arriving, mut hoped) = (&demands.arriving[index], demands.supposed[index].chosen);
            let mut chosen = arriving.chosen;
            let consumer = &mut self.consumers[consumer_key];
            if let Some((_, ladder)) = demands.ladders.iter().find(|(of, _)| *of == index) {
                if let Some(step) = chosen {
                    consumer.layers.give_inner(ladder.layers(step));
                }
                // All steps are of the one encoding.
                [chosen, hoped] = [chosen, hoped].map(|step| step.map(|_| 0));
            }
            consumer.rise.on_allocated(now, arriving.current, arriving.is_lowered());
            self.give(now, consumer_key, arriving.lowest().is_some(), chosen, hoped);
        }
        if let Some(path) = &mut self.transports[key].path {
            let Demands { arriving, supposed, voices_bps, .. } = &demands;
            let outcome = outcome(budget, *voices_bps, arriving, supposed);
            // No estimate is above a ceiling: until that changes nothing more is of use.
            let outcome = ceiling_bps.map_or(outcome, |_| outcome.without_rise());
            path.on_allocated(now, outcome);
            self.schedule_path(now, key);
        }
    }

    /// Notes what a transport's consumers could get.
    fn note_demands(&mut self, now: Time, key: TransportKey, demands: &mut Demands) {
        let left_out_at_least = match self.transports[key].path {
            Some(_) => LEFT_OUT_BY_ESTIMATE_AT_LEAST,
            None => LEFT_OUT_AT_LEAST,
        };
        for &consumer_key in &self.transports[key].consumers {
            let consumer = &self.consumers[consumer_key];
            if consumer.paused {
                continue;
            }
            let producer = &mut self.producers[consumer.producer];
            let [mut rates_bps, mut supposed_bps] = rates(now, producer);
            if consumer.kind == MediaKind::Audio {
                let times = if consumer.repeats() { 2 } else { 1 };
                demands.voices_bps += times * u64::from(rates_bps[0]);
                continue;
            }
            let preferred = consumer.layers.preferred();
            let mut cap = preferred.map_or(u8::MAX, |preferred| preferred.spatial);
            let mut current = consumer.layers.current().map(|current| current.0);
            let ladder = Ladder::of(now, producer, rates_bps[0], preferred);
            if let Some(ladder) = &ladder {
                (rates_bps, supposed_bps) = (ladder.rates_bps, ladder.rates_bps);
                cap = u8::MAX;
                current = current.map(|_| ladder.step_of(consumer.layers.current_inner()));
            }
            let left_out = match consumer.left_out_since {
                None => LeftOut::No,
                Some(since) if now.since(since) < left_out_at_least => LeftOut::Waits,
                Some(_) => LeftOut::MayReturn,
            };
            let (priority, may_rise) = (consumer.priority, consumer.rise.may_rise(now));
            let demand =
                Demand { priority, rates_bps, cap, current, left_out, may_rise, chosen: None };
            demands.arriving.push(demand);
            demands.supposed.push(Demand { rates_bps: supposed_bps, ..demand });
            if let Some(ladder) = ladder {
                demands.ladders.push((demands.order.len(), ladder));
            }
            demands.order.push(consumer_key);
        }
    }

    /// Gives a consumer what it was allotted of what arrives, and of what would if all did.
    fn give(
        &mut self,
        now: Time,
        key: ConsumerKey,
        arrives: bool,
        chosen: Option<u8>,
        hoped: Option<u8>,
    ) {
        let consumer = &mut self.consumers[key];
        let [chosen, hoped] = [chosen, hoped].map(|encoding| encoding.map(EncodingIndex));
        // What does not arrive fits as well as it would if it did.
        let was_left_out = consumer.left_out_since.is_some();
        let finds_no_room = chosen.is_none() && (arrives || was_left_out && hoped.is_none());
        let has_changed = if finds_no_room {
            consumer.left_out_since.get_or_insert(now);
            consumer.layers.leave_out(hoped)
        } else {
            consumer.left_out_since = None;
            consumer.layers.give(chosen, hoped)
        };
        if has_changed {
            self.refresh_subscription(key);
        }
        if finds_no_room {
            self.report_layers(key);
        }
        if self.consumers[key].waits_for_key_frame() {
            self.request_key_frame_for(now, key);
        }
    }

    /// Changes a transport's budget.
    pub(crate) fn set_outgoing_bitrate(&mut self, now: Time, key: TransportKey, bitrate_bps: u32) {
        let transport = &mut self.transports[key];
        if bitrate_bps > transport.outgoing_bitrate_bps {
            // Who was left out waits for rates to settle, not for a budget that is larger now.
            for &consumer in &transport.consumers {
                let since = &mut self.consumers[consumer].left_out_since;
                *since = since.map(|_| Time::ZERO);
            }
        }
        transport.set_outgoing_bitrate(now, bitrate_bps);
        self.share_out_later(key);
    }

    /// An encoding has begun to arrive, or has stopped: its consumers may want it, or need another.
    pub(crate) fn on_encodings_changed(&mut self, now: Time, producer: ProducerKey) {
        let encodings = &self.producers[producer].encodings;
        if encodings.len() < 2 && encodings.iter().all(|e| e.source.layers.is_none()) {
            return;
        }
        for index in 0..self.producers[producer].subscriptions.len() {
            let transport = self.producers[producer].subscriptions[index].transport;
            if self.transports[transport].consumers.len() <= AT_ONCE_CONSUMERS {
                self.allocate_layers(now, transport);
            } else {
                self.share_out_later(transport);
            }
        }
    }

    /// Has a transport's budget shared out in this turn, once for all that asks for it: a client
    /// that joins gets hundreds of consumers at once.
    pub(crate) fn share_out_later(&mut self, key: TransportKey) {
        let stale = &mut self.transports[key].allocation_stale;
        if !std::mem::replace(stale, true) {
            self.turn.stale_allocations.push(key);
        }
    }

    /// Does what [`Core::share_out_later`] noted.
    pub(crate) fn share_out_stale(&mut self, now: Time) {
        while let Some(key) = self.turn.stale_allocations.pop() {
            if self.transports.get(key).is_some_and(|transport| transport.allocation_stale) {
                self.allocate_layers(now, key);
            }
        }
    }
}

/// Bits per second of a producer's encodings: as they arrive, and as if all did.
fn rates(now: Time, producer: &mut Producer) -> [[u32; MAX_STEPS]; 2] {
    let newest = producer.newest_packet();
    let (mut arriving, mut supposed) = ([0; MAX_STEPS], [0; MAX_STEPS]);
    let is_simulcast = producer.encodings.len() > 1;
    let mut below = 0;
    for (index, encoding) in producer.encodings.iter_mut().take(MAX_ENCODINGS).enumerate() {
        arriving[index] = encoding.expected_bps(now, newest, is_simulcast);
        supposed[index] = match arriving[index] {
            // A paused sender sends nothing, whatever is wanted.
            0 if is_simulcast && !producer.paused && index < producer.sent_encodings => {
                encoding.supposed_bps(below)
            }
            bps => bps,
        };
        below = supposed[index];
    }
    [arriving, supposed]
}

/// The steps of a consumer whose producer sends several spatial layers inside one encoding.
#[derive(Debug, Clone)]
struct Ladder {
    /// The temporal layer above which there is none, if its client does not want less.
    last_temporal: Option<u8>,
    steps: SmallVec<[InnerLayers; MAX_STEPS]>,
    rates_bps: [u32; MAX_STEPS],
}

impl Ladder {
    /// Of a producer that takes `total_bps`; `None` where it has no such layers, or nothing
    /// arrives.
    fn of(
        now: Time,
        producer: &mut Producer,
        total_bps: u32,
        preferred: Option<Layers>,
    ) -> Option<Self> {
        let [encoding] = &mut producer.encodings[..] else { return None };
        let announced = encoding.max_bitrate_bps;
        let rates = encoding.source.layers.as_deref_mut().filter(|_| total_bps > 0)?;
        let highest = InnerLayers {
            spatial: rates.spatial_layers().checked_sub(1)?,
            temporal: rates.temporal_layers().saturating_sub(1),
        };
        let steps = Self::steps(highest, preferred);
        let mut ladder = Self::from_rates(steps.map(|step| {
            let bps = rates.bps(now, step.spatial, step.temporal, announced);
            (step, bps)
        }));
        if preferred.and_then(|layers| layers.temporal).is_none() {
            ladder.last_temporal = Some(highest.temporal);
        }
        Some(ladder)
    }

    /// The pairs worth choosing among, low to high, of all up to the highest.
    fn steps(highest: InnerLayers, preferred: Option<Layers>) -> impl Iterator<Item = InnerLayers> {
        let spatial = preferred.map_or(u8::MAX, |layers| layers.spatial).min(highest.spatial);
        let temporal = preferred.and_then(|layers| layers.temporal);
        let temporal = temporal.unwrap_or(u8::MAX).min(highest.temporal);
        let all = 1 + usize::from(temporal) + 2 * usize::from(spatial);
        let half = if all <= MAX_STEPS { temporal.saturating_sub(1) } else { temporal };
        (0..=spatial).flat_map(move |spatial| {
            let lowest = if spatial == 0 { 0 } else { half };
            (lowest..=temporal).map(move |temporal| InnerLayers { spatial, temporal })
        })
    }

    fn from_rates(rates: impl Iterator<Item = (InnerLayers, u32)>) -> Self {
        let mut ladder =
            Ladder { last_temporal: None, steps: SmallVec::new(), rates_bps: [0; MAX_STEPS] };
        for (step, bps) in rates.filter(|&(_, bps)| bps > 0) {
            while let Some(last) = ladder.steps.len().checked_sub(1)
                && ladder.rates_bps[last] >= bps
            {
                ladder.steps.pop();
                ladder.rates_bps[last] = 0;
            }
            if let Some(rate_bps) = ladder.rates_bps.get_mut(ladder.steps.len()) {
                *rate_bps = bps;
                ladder.steps.push(step);
            }
        }
        ladder
    }

    /// The highest step that is within these layers.
    fn step_of(&self, layers: Option<InnerLayers>) -> u8 {
        let Some(InnerLayers { spatial, temporal }) = layers else { return 0 };
        let is_within = |step: &InnerLayers| {
            step.spatial < spatial || step.spatial == spatial && step.temporal <= temporal
        };
        self.steps.iter().rposition(is_within).unwrap_or(0) as u8
    }

    /// The layers of a step. All temporal ones are all that may come: a stream shows how many it
    /// has only picture by picture.
    fn layers(&self, step: u8) -> InnerLayers {
        let step = usize::from(step).min(self.steps.len().saturating_sub(1));
        let mut layers = self.steps.get(step).copied().unwrap_or(InnerLayers::ALL);
        if Some(layers.temporal) == self.last_temporal {
            layers.temporal = InnerLayers::ALL.temporal;
        }
        layers
    }
}

/// [`allocate`], higher priority first, whatever the order of the demands.
fn choose(budget: Budget, demands: &mut [Demand]) {
    if demands.is_sorted_by_key(|demand| std::cmp::Reverse(demand.priority)) {
        return allocate(budget, demands);
    }
    let mut indexed: SmallVec<[(usize, Demand); 32]> =
        demands.iter().copied().enumerate().collect();
    indexed.sort_by_key(|(_, demand)| std::cmp::Reverse(demand.priority));
    let mut sorted: SmallVec<[Demand; 32]> = indexed.iter().map(|(_, demand)| *demand).collect();
    allocate(budget, &mut sorted);
    for ((index, _), demand) in indexed.iter().zip(&sorted) {
        demands[*index].chosen = demand.chosen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [u32; MAX_STEPS] = [100_000, 300_000, 900_000, 0, 0, 0, 0];

    fn demand(priority: u8, cap: u8, current: Option<u8>) -> Demand {
        let left_out = LeftOut::No;
        let rates_bps = RATES;
        Demand { priority, rates_bps, cap, current, left_out, may_rise: true, chosen: None }
    }

    fn steps(rates: &[u32]) -> [u32; MAX_STEPS] {
        std::array::from_fn(|step| rates.get(step).copied().unwrap_or(0))
    }

    fn pairs(ladder: &Ladder) -> Vec<(u8, u8)> {
        ladder.steps.iter().map(|step| (step.spatial, step.temporal)).collect()
    }

    #[test]
    fn the_steps_of_layers_inside_an_encoding() {
        let steps = |highest: (u8, u8), preferred: Option<(u8, Option<u8>)>| {
            let highest = InnerLayers { spatial: highest.0, temporal: highest.1 };
            let preferred = preferred.map(|(spatial, temporal)| Layers { spatial, temporal });
            let steps = Ladder::steps(highest, preferred);
            steps.map(|step| (step.spatial, step.temporal)).collect::<Vec<_>>()
        };
        assert_eq!(steps((2, 2), None), [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]);
        assert_eq!(steps((2, 0), None), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(steps((2, 2), Some((1, Some(0)))), [(0, 0), (1, 0)]);
        assert_eq!(steps((2, 2), Some((0, None))), [(0, 0), (0, 1), (0, 2)]);
        let many = steps((3, 3), Some((9, Some(9))));
        assert_eq!(many, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (3, 3)]);
    }

    #[test]
    fn a_step_that_takes_no_less_than_the_one_above_is_none() {
        let of = |rates: &[u32]| {
            let highest = InnerLayers { spatial: 2, temporal: 2 };
            Ladder::from_rates(Ladder::steps(highest, None).zip(rates.iter().copied()))
        };
        let ladder = of(&[50, 80, 100, 90, 150, 0, 400]);
        assert_eq!(pairs(&ladder), [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]);
        assert_eq!(ladder.rates_bps[..6], [50, 80, 90, 150, 400, 0]);
        for (layers, step) in [((0, 0), 0), ((0, 2), 1), ((1, 0), 1), ((1, 3), 3), ((3, 0), 4)] {
            let (spatial, temporal) = layers;
            assert_eq!(ladder.step_of(Some(InnerLayers { spatial, temporal })), step, "{layers:?}");
        }
        assert_eq!(ladder.layers(9), InnerLayers { spatial: 2, temporal: 2 });
        assert_eq!(of(&[]).layers(0), InnerLayers::ALL);
    }

    fn chosen_of(budget: Budget, demands: &[Demand]) -> Vec<Option<u8>> {
        let mut demands = demands.to_vec();
        choose(budget, &mut demands);
        demands.iter().map(|demand| demand.chosen).collect()
    }

    fn chosen(budget_bps: u64, demands: &[Demand]) -> Vec<Option<u8>> {
        chosen_of(Budget::fixed(budget_bps), demands)
    }

    #[test]
    fn the_best_layers_that_fit() {
        let one = |budget| chosen(budget, &[demand(1, 9, None)]);
        assert_eq!(one(1_000_000), [Some(2)]);
        assert_eq!(one(899_999), [Some(1)]);
        assert_eq!(one(250_000), [Some(0)]);
        assert_eq!(one(99_999), [None], "not even the smallest");
    }

    #[test]
    fn steps_are_shared_before_anyone_gets_the_top() {
        let two = [demand(1, 9, None), demand(1, 9, None)];
        assert_eq!(chosen(600_000, &two), [Some(1), Some(1)]);
        assert_eq!(chosen(1_200_000, &two), [Some(2), Some(1)]);
    }

    #[test]
    fn priority_goes_first_and_answers_keep_their_order() {
        let two = [demand(1, 9, None), demand(9, 9, None)];
        assert_eq!(chosen(1_200_000, &two), [Some(1), Some(2)]);
        assert_eq!(chosen(400_000, &two), [Some(0), Some(1)]);
    }

    #[test]
    fn the_clients_cap_and_what_arrives_bound_the_choice() {
        assert_eq!(chosen(9_000_000, &[demand(1, 1, None)]), [Some(1)]);
        let silent_low = Demand { rates_bps: steps(&[0, 300_000]), ..demand(1, 0, None) };
        assert_eq!(chosen(9_000_000, &[silent_low]), [Some(1)]);
        let nothing = Demand { rates_bps: [0; MAX_STEPS], ..demand(1, 9, None) };
        assert_eq!(chosen(9_000_000, &[nothing]), [None]);
    }

    fn single(rate_bps: u32, is_sent: bool) -> Demand {
        Demand { rates_bps: steps(&[rate_bps]), ..demand(1, 9, is_sent.then_some(0)) }
    }

    #[test]
    fn who_finds_no_room_is_left_out_whole() {
        let cameras = [single(900_000, true), single(900_000, true), single(900_000, true)];
        let screen = single(800_000, false);
        let all = [cameras[0], cameras[1], cameras[2], screen];
        assert_eq!(chosen(2_900_000, &all), [Some(0), Some(0), Some(0), None]);
        assert_eq!(chosen(2_000_000, &all), [Some(0), Some(0), None, None]);
        let important = [cameras[0], Demand { priority: 9, ..screen }];
        assert_eq!(chosen(1_000_000, &important), [None, Some(0)]);
        let small_behind = [single(2_000_000, true), single(50_000, false)];
        assert_eq!(chosen(100_000, &small_behind), [None, Some(0)], "the next one may fit");
    }

    #[test]
    fn who_is_sent_stays_a_little_above_the_budget_and_comes_back_with_headroom() {
        let sent = single(1_000_000, true);
        assert_eq!(chosen(960_000, &[sent]), [Some(0)]);
        assert_eq!(chosen(950_000, &[sent]), [None]);
        assert_eq!(chosen(999_999, &[single(1_000_000, false)]), [None]);
        let back = Demand { left_out: LeftOut::MayReturn, ..single(1_000_000, false) };
        assert_eq!(chosen(1_199_999, &[back]), [None]);
        assert_eq!(chosen(1_200_000, &[back]), [Some(0)]);
        let waits = Demand { left_out: LeftOut::Waits, ..back };
        assert_eq!(chosen(9_000_000, &[waits]), [None]);
    }

    #[test]
    fn what_is_sent_stays_by_the_estimate_of_now_and_rises_by_one_that_lasts() {
        let budget = |now_bps, lasting_bps| Budget { now_bps, lasting_bps, headroom_percent: 110 };
        let one = |budget, current| chosen_of(budget, &[demand(1, 9, current)]);
        assert_eq!(one(budget(900_000, 100_000), Some(2)), [Some(2)], "it stays");
        assert_eq!(one(budget(900_000, 100_000), Some(1)), [Some(1)]);
        assert_eq!(one(budget(9_000_000, 989_999), Some(1)), [Some(1)]);
        assert_eq!(one(budget(9_000_000, 990_000), Some(1)), [Some(2)]);
        assert_eq!(one(budget(858_000, 858_000), Some(2)), [Some(2)], "a twentieth too little");
        assert_eq!(one(budget(850_000, 850_000), Some(2)), [Some(1)]);
        assert_eq!(one(budget(9_000_000, 99_999), None), [Some(0)], "a beginning need not last");
        assert_eq!(one(budget(99_999, 99_999), None), [None]);
        let waits = Demand { may_rise: false, ..demand(1, 9, Some(1)) };
        assert_eq!(chosen_of(budget(9_000_000, 9_000_000), &[waits]), [Some(1)]);
    }

    #[test]
    fn thresholds_are_where_the_next_allocation_would_differ() {
        let rates = |demands: &[Demand], bps| {
            let budget = Budget { now_bps: bps, lasting_bps: bps, headroom_percent: 110 };
            let mut demands = demands.to_vec();
            choose(budget, &mut demands);
            let outcome = outcome(budget, 0, &demands, &demands);
            for demand in &mut demands {
                demand.current = demand.chosen;
            }
            (demands, outcome)
        };
        let both = [demand(1, 9, Some(1)), demand(1, 1, Some(1))];
        let (sent, first) = rates(&both, 700_000);
        assert_eq!(first.down_at_bps, 571_428);
        assert_eq!(first.up_at_bps, 300_000 + 990_000);
        assert_eq!(first.wanted_bps, 990_000 + 300_000);
        assert_eq!(first.upgrade_bps, Some(690_000));
        let chosen_at = |bps| rates(&sent, bps).0.iter().map(|d| d.chosen).collect::<Vec<_>>();
        assert_eq!(chosen_at(first.up_at_bps - 1), [Some(1), Some(1)]);
        assert_eq!(chosen_at(first.up_at_bps), [Some(2), Some(1)]);
        assert_eq!(chosen_at(first.down_at_bps + 1), [Some(1), Some(1)]);
        assert_eq!(chosen_at(first.down_at_bps - 1), [Some(1), Some(0)]);
    }

    #[test]
    fn going_up_needs_headroom_and_staying_does_not() {
        assert_eq!(chosen(1_000_000, &[demand(1, 9, Some(2))]), [Some(2)]);
        assert_eq!(chosen(1_000_000, &[demand(1, 9, Some(1))]), [Some(1)]);
        assert_eq!(chosen(1_080_000, &[demand(1, 9, Some(1))]), [Some(2)]);
    }
}
