//! How much a client can be sent: the least of what delays, losses and the configuration allow.
//!
//! One for each transport. It is told of every packet that leaves with a transport-wide number
//! ([`Estimator::on_sent`]), of feedback ([`Estimator::on_transport_cc`],
//! [`Estimator::on_congestion_feedback`]) and of what could be used
//! ([`Estimator::set_demand`]); it says the rate, and which probes to send
//! ([`Estimator::next_probe`]). It has no clock: whoever has it calls [`Estimator::on_tick`] by
//! [`Estimator::next_wakeup`].
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::rtcp::{CongestionFeedback, TransportCc};
use opencall_wire::time::Time;

use super::acknowledged::Acknowledged;
use super::alr::AlrDetector;
use super::delay::DelayBased;
use super::feedback::{ReceiverClock, Status};
use super::loss::{LossBased, LossReport, LossState};
use super::probe::{Limit, ProbeCluster, ProbeController};
use super::probe_result::ProbeResults;
use super::sent::{Matched, Sent, SentPacket};
use super::upgrade::{Demand, Upgrades};
use super::watch::FeedbackWatch;
use super::{MIN_BPS, Usage};

/// The first rate. Enough for a voice and a picture of 180 lines, and few paths have less.
pub const START_BPS: f64 = 600_000.0;

/// Packets of one feedback that are looked at: as many as can be remembered.
const STATUSES_MAX: usize = 8192;
/// A result of a probe lowers the rate to no less than this part of what is acknowledged.
const PROBE_DROP: f64 = 0.85;

/// So long after a probe for an upgrade delays do not count: it fills the path if the path is no
/// wider than was known, and that is not to cost anything.
const AFTER_UPGRADE_PROBE: Duration = Duration::from_millis(150);

/// Part of the bytes that may be lost without that being a reason not to probe.
const CLEAN: f64 = 0.01;

/// The rate that follows from losses grows to so many times what is acknowledged.
const LOSS_GROWTH: f64 = 1.5;

/// A longer round trip than this lowers the rate to this part each second.
const RTT_LIMIT: Duration = Duration::from_secs(3);
const RTT_DECREASE: f64 = 0.8;
const RTT_STEP: Duration = Duration::from_secs(1);
/// Taken for the round trip until it is known.
const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// What an estimator begins with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// The first rate.
    pub start_bps: f64,
    /// The rate that is never exceeded; infinite for none.
    pub max_bps: f64,
    /// Whether the sender pads up to the estimate while it rises after losses
    /// ([`Estimator::padding_bps`]). Without, probes find what padding would.
    pub pads: bool,
    /// Whether to keep to the reference: to follow a deep fall as slowly as it does, and to take
    /// loss that is not of congestion for such.
    pub as_reference: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { start_bps: START_BPS, max_bps: f64::INFINITY, pads: false, as_reference: false }
    }
}

/// Room for the packets of one feedback, to be shared by all estimators of a thread.
#[derive(Debug, Default)]
pub struct Scratch {
    arrived: Vec<(Time, SentPacket)>,
}

/// The rate has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Bits per second from now on.
    pub target_bps: u64,
}

/// Estimator of one transport.
#[derive(Debug, Clone)]
pub struct Estimator {
    sent: Sent,
    clock: ReceiverClock,
    acknowledged: Acknowledged,
    delay: DelayBased,
    loss: LossBased,
    alr: AlrDetector,
    was_in_alr: bool,
    probes: ProbeController,
    results: ProbeResults,
    upgrades: Upgrades,
    /// Packets that left in this time do not tell of delays.
    deaf: Option<(Time, Time)>,
    watch: FeedbackWatch,
    rtt: Option<Duration>,
    backoff: RttBackoff,
    target_bps: f64,
    /// Of the last probe that raised the rate; the rate, once it is less.
    probed_bps: f64,
    /// Infinite while delays say nothing.
    delay_limit_bps: f64,
    max_bps: f64,
    pads: bool,
    as_reference: bool,
    has_feedback: bool,
    /// Nothing of what is wanted finds room.
    starved: bool,
}

/// What is known of the round trip by transport feedback.
#[derive(Debug, Clone, Copy, Default)]
struct RttBackoff {
    last_sent: Time,
    updated: Option<Time>,
    rtt: Duration,
    lowered_at: Option<Time>,
}

impl Estimator {
    /// Of a transport that has just become ready.
    pub fn new(config: Config) -> Self {
        let start_bps = config.start_bps.clamp(MIN_BPS, 1e9).min(config.max_bps.max(MIN_BPS));
        let mut alr = AlrDetector::default();
        alr.set_estimate(start_bps);
        let max_bps = config.max_bps.max(MIN_BPS);
        let loss = match config.as_reference {
            true => LossBased::as_reference(max_bps),
            false => LossBased::new(max_bps),
        };
        Estimator {
            sent: Sent::default(),
            clock: ReceiverClock::default(),
            acknowledged: Acknowledged::default(),
            delay: DelayBased::new(start_bps),
            loss,
            alr,
            was_in_alr: false,
            probes: ProbeController::new(start_bps, config.max_bps),
            results: ProbeResults::default(),
            upgrades: Upgrades::default(),
            deaf: None,
            watch: FeedbackWatch::default(),
            rtt: None,
            backoff: RttBackoff::default(),
            target_bps: start_bps,
            probed_bps: 0.0,
            delay_limit_bps: f64::INFINITY,
            max_bps,
            pads: config.pads,
            as_reference: config.as_reference,
            has_feedback: false,
            starved: false,
        }
    }

    /// The path is there: first probes follow.
    pub fn start(&mut self, now: Time) {
        self.probes.start(now);
    }

    /// Bits per second that are never exceeded.
    pub fn max_bps(&self) -> u64 {
        self.max_bps as u64
    }

    /// Bits per second that may be sent, all headers counted.
    pub fn target_bps(&self) -> u64 {
        self.capped_bps() as u64
    }

    /// Bits per second that a probe has proven and nothing contradicted since; at most the target.
    pub fn probed_bps(&self) -> u64 {
        self.probed_bps.min(self.capped_bps()) as u64
    }

    /// Bits per second that arrive, if enough packets tell.
    pub fn acknowledged_bps(&self) -> Option<u64> {
        self.acknowledged.rate_bps().map(|bps| bps as u64)
    }

    /// Rate up to which padding helps now: the estimate rises out of losses, and what is not sent
    /// is not known to arrive.
    pub fn padding_bps(&self) -> Option<u64> {
        let rising = self.loss.result().is_some_and(|(_, state)| state == LossState::Increasing);
        (self.pads && rising).then(|| self.target_bps())
    }

    /// Part of the bytes that were lost of late.
    pub fn loss(&self) -> f64 {
        self.loss.average_loss()
    }

    /// Whether feedback stays away, so that the rate was lowered.
    pub fn is_silenced(&self) -> bool {
        self.watch.has_failed()
    }

    /// Whether the client has said of anything that it arrived.
    pub fn has_feedback(&self) -> bool {
        self.has_feedback
    }

    /// When the newest packet left.
    pub fn last_sent(&self) -> Time {
        self.sent.newest_at()
    }

    /// Reports about packets that nobody knows.
    pub fn unmatched(&self) -> u64 {
        self.watch.unmatched()
    }

    /// A packet leaves: its transport-wide number, its bytes on the wire, the probe it is of.
    pub fn on_sent(&mut self, now: Time, sequence: u16, bytes: usize, probe: Option<u8>) {
        self.on_packet(now, sequence, bytes, probe);
        self.on_burst(now, bytes);
    }

    /// The half of [`Self::on_sent`] that each packet needs.
    #[inline]
    pub fn on_packet(&mut self, now: Time, sequence: u16, bytes: usize, probe: Option<u8>) {
        self.sent.push(now, sequence, bytes, probe);
        self.watch.on_sent(now);
    }

    /// The other half, once for packets that leave together: their bytes.
    pub fn on_burst(&mut self, now: Time, bytes: usize) {
        self.alr.on_sent(now, bytes);
        self.backoff.last_sent = now;
        self.backoff.updated = self.backoff.updated.or(Some(now));
    }

    /// Transport-wide feedback that arrived at `now`.
    pub fn on_transport_cc(
        &mut self,
        now: Time,
        feedback: &TransportCc<'_>,
        scratch: &mut Scratch,
    ) -> Option<Update> {
        let statuses = self.clock.transport_cc(now, feedback);
        self.on_feedback(now, statuses, scratch)
    }

    /// RFC 8888 feedback that arrived at `now`; `resolve` finds the transport-wide number of a
    /// packet by SSRC and RTP sequence number.
    pub fn on_congestion_feedback(
        &mut self,
        now: Time,
        feedback: &CongestionFeedback<'_>,
        resolve: impl FnMut(u32, u16) -> Option<u16>,
        scratch: &mut Scratch,
    ) -> Option<Update> {
        let mut clock = self.clock;
        let update = {
            let statuses = clock.congestion_feedback(now, feedback, resolve);
            self.on_feedback(now, statuses, scratch)
        };
        self.clock = clock;
        update
    }

    /// The round trip, as it was just measured.
    pub fn on_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
        self.delay.set_rtt(rtt);
    }

    /// The rate that is never exceeded.
    pub fn set_max(&mut self, now: Time, max_bps: f64) -> Option<Update> {
        let before_bps = self.target_bps();
        self.max_bps = max_bps.max(MIN_BPS);
        self.loss.set_max(self.max_bps);
        self.probes.set_max(now, self.max_bps);
        self.set_target(self.target_bps);
        self.publish(now);
        self.update_since(before_bps)
    }

    /// What the allocation could use.
    pub fn set_demand(&mut self, now: Time, demand: Demand) {
        if self.upgrades.set_demand(demand, self.capped_bps()) {
            self.probes.abort(true);
        }
        self.probes.set_wanted(now, demand.wanted_bps);
    }

    /// Whether nothing of what is wanted finds room, so that hardly anything is sent.
    pub fn set_starved(&mut self, starved: bool) {
        self.starved = starved;
    }

    /// A probe to send now: packets of it are given to [`Estimator::on_sent`] with its id.
    pub fn next_probe(&mut self, now: Time) -> Option<ProbeCluster> {
        let probe = self.probes.next(now)?;
        self.results.expect(&probe);
        if probe.for_upgrade {
            self.deaf = Some((now, now + probe.length() + AFTER_UPGRADE_PROBE));
        }
        Some(probe)
    }

    /// Time passes.
    pub fn on_tick(&mut self, now: Time) -> Option<Update> {
        let before_bps = self.target_bps();
        self.delay.forget_old(now);
        if let Some(part) = self.watch.on_tick(now, self.rtt(), self.target_bps) {
            self.lower(now, part);
        }
        self.update_target(now);
        self.publish(now);
        self.decide_on_probes(now);
        self.update_since(before_bps)
    }

    fn decide_on_probes(&mut self, now: Time) {
        self.probes.set_alr_started(self.alr.started());
        let estimate_bps = self.capped_bps();
        self.probes.on_tick(now, self.upgrades.goal_bps(estimate_bps));
        let busy = self.limit() == Limit::Congestion || self.alr.started().is_some();
        let goal_bps = self.upgrades.on_tick(now, estimate_bps, busy);
        if goal_bps.is_some_and(|bps| self.probes.probe_upgrade(now, bps)) {
            self.upgrades.on_probed(now, estimate_bps);
        }
    }

    /// When [`Estimator::on_tick`] has something to do, or a probe waits.
    pub fn next_wakeup(&self) -> Option<Time> {
        if self.probes.has_pending() {
            return Some(Time::ZERO);
        }
        let timeouts = [
            self.probes.next_timeout(),
            self.upgrades.next_timeout(),
            self.watch.next_timeout(self.rtt()),
        ];
        timeouts.into_iter().flatten().min()
    }

    fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    fn capped_bps(&self) -> f64 {
        self.target_bps.max(MIN_BPS)
    }

    fn update_since(&self, before_bps: u64) -> Option<Update> {
        let target_bps = self.target_bps();
        (target_bps != before_bps).then_some(Update { target_bps })
    }

    fn on_feedback(
        &mut self,
        now: Time,
        statuses: impl Iterator<Item = Status>,
        scratch: &mut Scratch,
    ) -> Option<Update> {
        let before_bps = self.target_bps();
        scratch.arrived.clear();
        let (told, unmatched) = self.match_sent(statuses, scratch);
        if !told && unmatched == 0 {
            return None;
        }
        self.has_feedback |= told;
        let silenced_bps = self.watch.on_feedback(now);
        let arrived = scratch.arrived.len() as u32;
        if told {
            scratch.arrived.sort_unstable_by_key(|&(arrived, packet)| (arrived, packet.sent));
            self.estimate(now, &scratch.arrived);
        }
        if let Some(part) = self.watch.on_reports(now, arrived + unmatched, unmatched) {
            self.lower(now, part);
        }
        self.publish(now);
        if let Some(bps) = silenced_bps {
            self.probes.on_feedback_again(now, bps);
        }
        self.decide_on_probes(now);
        self.update_since(before_bps)
    }

    /// Holds feedback against what was sent: whether any of it is news, and how many of the packets
    /// that arrived nobody knows.
    fn match_sent(
        &mut self,
        statuses: impl Iterator<Item = Status>,
        scratch: &mut Scratch,
    ) -> (bool, u32) {
        let period = self.loss.period();
        let (mut told, mut unmatched) = (false, 0);
        for status in statuses.take(STATUSES_MAX) {
            let matched = match status.arrived {
                Some(_) => self.sent.on_arrived(status.sequence, period),
                None => self.sent.on_lost(status.sequence, period),
            };
            match (matched, status.arrived) {
                (Matched::News(packet), arrived) => {
                    told = true;
                    self.loss.on_packet(&LossReport {
                        sent: packet.sent,
                        bytes: packet.bytes,
                        arrived: arrived.is_some(),
                        lost_before: packet.lost_before,
                    });
                    scratch.arrived.extend(arrived.map(|at| (at, packet)));
                }
                (Matched::Unmatched, Some(_)) => unmatched += 1,
                (Matched::Unmatched, None) | (Matched::Known, _) => {}
            }
        }
        (told, unmatched)
    }

    /// Takes what arrived, in the order of arrival.
    fn estimate(&mut self, now: Time, arrived: &[(Time, SentPacket)]) {
        self.backoff.on_feedback(now, arrived);
        let in_alr = self.alr.started().is_some();
        if self.was_in_alr && !in_alr {
            self.probes.set_alr_ended(now);
        }
        self.was_in_alr = in_alr;
        let mut probe_bps = None;
        for &(at, packet) in arrived {
            self.acknowledged.on_packet(packet.sent, at, packet.bytes);
            let is_deaf = |(from, until)| from <= packet.sent && packet.sent <= until;
            if !self.deaf.is_some_and(is_deaf) {
                self.delay.on_packet(now, packet.sent, at);
            }
            if let Some(cluster) = packet.cluster {
                let result = self.results.on_packet(cluster, packet.sent, at, packet.bytes);
                probe_bps = result.or(probe_bps);
            }
        }
        self.acknowledged.finish();
        let acknowledged_bps = self.acknowledged.rate_bps();
        if let Some(bps) = acknowledged_bps {
            self.loss.set_acknowledged(bps);
        }
        if let (Some(probe), Some(acknowledged)) = (&mut probe_bps, acknowledged_bps) {
            *probe = probe.max((PROBE_DROP * acknowledged).min(self.delay.rate_bps()));
        }
        if !arrived.is_empty() {
            self.follow_delays(now, acknowledged_bps, probe_bps);
        }
        self.loss.finish(self.delay_limit_bps, in_alr);
        self.update_target(now);
    }

    fn follow_delays(&mut self, now: Time, acknowledged_bps: Option<f64>, probe_bps: Option<f64>) {
        let falls = !self.as_reference && self.delay.is_queued();
        let recent_bps = if falls { self.acknowledged.recent_bps() } else { None };
        let arriving_bps = match (acknowledged_bps, recent_bps) {
            (Some(mean), Some(recent)) if self.delay.usage() == Usage::Over => {
                Some(mean.min(recent))
            }
            _ => acknowledged_bps,
        };
        let update = self.delay.finish(now, arriving_bps, probe_bps);
        if let Some(rate_bps) = update.rate_bps {
            self.delay_limit_bps = rate_bps;
            self.set_target(if update.from_probe { rate_bps } else { self.target_bps });
            if update.from_probe {
                self.probed_bps = self.target_bps;
                self.forget_losses(rate_bps);
            }
        }
        if let Some(rate_bps) = self.delay.drain(now, recent_bps) {
            self.delay_limit_bps = rate_bps;
            self.set_target(rate_bps);
        }
        if update.recovered {
            self.publish(now);
            self.probes.set_alr_started(self.alr.started());
            self.probes.on_recovered(now);
        }
    }

    /// A probe has arrived: what followed from losses does not stand against it if these are over,
    /// or let the rate rise while less is sent than may be. It would grow with what is
    /// acknowledged, which is little then.
    fn forget_losses(&mut self, rate_bps: f64) {
        let Some((bps, state)) = self.loss.result().filter(|_| !self.as_reference) else { return };
        let is_held_back = state == LossState::Increasing && self.was_in_alr;
        let rises = self.loss.average_loss() < CLEAN || is_held_back;
        let rate_bps = rate_bps.min(self.loss.most_bps());
        if rises && bps < rate_bps {
            self.loss.set_rate(rate_bps);
        }
    }

    fn update_target(&mut self, now: Time) {
        if self.backoff.is_above_limit() {
            if self.backoff.may_lower(now) {
                self.set_target(self.target_bps * RTT_DECREASE);
            }
        } else if let Some((rate_bps, _)) = self.loss.result() {
            self.set_target(rate_bps);
        } else if self.delay_limit_bps.is_finite() {
            // Losses say nothing yet: delays, and so probes, are trusted.
            self.set_target(self.target_bps.max(self.delay_limit_bps));
        }
    }

    fn set_target(&mut self, bps: f64) {
        self.target_bps = bps.min(self.delay_limit_bps).min(self.max_bps).max(MIN_BPS);
        self.probed_bps = self.probed_bps.min(self.target_bps);
    }

    /// Lowers everything to a part of the rate: feedback has failed.
    fn lower(&mut self, now: Time, part: f64) {
        let rate_bps = (self.capped_bps() * part).max(MIN_BPS);
        self.delay.set_rate(now, rate_bps);
        self.delay_limit_bps = rate_bps;
        self.loss.set_rate(rate_bps);
        self.set_target(rate_bps);
        self.probes.abort(false);
    }

    /// Tells those who follow the rate.
    fn publish(&mut self, now: Time) {
        let estimate_bps = self.capped_bps();
        self.alr.set_estimate(estimate_bps);
        self.probes.set_estimate(now, estimate_bps, self.limit());
    }

    /// While little arrives for want of anything to send, what followed from losses stands still:
    /// it grows to half above what is acknowledged at most.
    fn is_held_back(&self) -> bool {
        let arrives_bps = self.acknowledged.rate_bps().unwrap_or(0.0);
        let is_bound = arrives_bps * LOSS_GROWTH < self.target_bps;
        !self.as_reference && (self.starved || is_bound || self.alr.started().is_some())
    }

    fn limit(&self) -> Limit {
        let congested = self.delay.usage() != Usage::Normal
            || self.backoff.is_above_limit()
            || self.watch.has_failed();
        let is_clean = self.is_held_back() && self.loss.average_loss() < CLEAN;
        match self.loss.result().map(|(_, state)| state) {
            _ if congested => Limit::Congestion,
            Some(_) if is_clean => Limit::Delay,
            Some(LossState::Decreasing) => Limit::Congestion,
            Some(LossState::Increasing) if self.pads => Limit::Congestion,
            Some(LossState::Increasing) => Limit::LossIncreasing,
            Some(LossState::DelayLimited) | None => Limit::Delay,
        }
    }
}

impl RttBackoff {
    /// The shortest round trip among what arrived, without the time that feedback waited for more.
    fn on_feedback(&mut self, now: Time, arrived: &[(Time, SentPacket)]) {
        let Some(&(newest, _)) = arrived.last() else { return };
        let round_trip = |&(at, packet): &(Time, SentPacket)| {
            now.since(packet.sent).saturating_sub(newest.since(at))
        };
        self.rtt = arrived.iter().map(round_trip).min().unwrap_or_default();
        self.updated = Some(now);
    }

    /// What is under way for long counts as a long round trip.
    fn is_above_limit(&self) -> bool {
        let Some(updated) = self.updated else { return false };
        self.last_sent.since(updated) + self.rtt > RTT_LIMIT
    }

    fn may_lower(&mut self, now: Time) -> bool {
        let may = self.lowered_at.is_none_or(|at| now.since(at) >= RTT_STEP);
        if may {
            self.lowered_at = Some(now);
        }
        may
    }
}
