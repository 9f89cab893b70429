//! What the media thread counts, second by second, and how seconds add up.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::messages::MessageNews;
use crate::result::{Bucket, Latency};

/// Latencies above count as this: a minute, nanoseconds.
const MAX_LATENCY_NS: u64 = 60_000_000_000;

/// The narrowest bucket of a distribution, nanoseconds, and how much wider the next one is: fine
/// enough for a smooth curve, coarse enough for a small file.
const FIRST_BUCKET_NS: u64 = 1000;
const BUCKET_FACTOR: f64 = 1.15;

/// What happened in one interval.
#[derive(Clone, Default)]
pub struct Tally {
    /// When it ended, nanoseconds on the engine's clock.
    pub at_ns: u64,
    /// Media packets sent.
    pub sent: u64,
    /// Calls to send that failed.
    pub send_errors: u64,
    /// Media packets received.
    pub received: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Media that came twice.
    pub duplicated: u64,
    /// What failed authentication, or is not what was sent.
    pub corrupted: u64,
    /// Media after a later packet.
    pub reordered: u64,
    /// Media that came by retransmission.
    pub retransmitted: u64,
    /// Packets of streams that were not announced yet.
    pub unannounced: u64,
    /// Packets that the server asked us for.
    pub upstream_nacks: u64,
    /// Requests for packets to the server.
    pub downstream_nacks: u64,
    /// Packets newly missed, less those that were missed before and have come after all.
    pub lost: i64,
    /// Streams that are announced, and nothing has come: as it is at the end.
    pub silent: u64,
    /// Frames, voice packets and reports left out because the generator was late for them.
    pub skipped: u64,
    /// How late timers ran: what they sent was sent later, not counted as slower.
    pub lag: Latencies,
    /// From sender to receiver.
    pub latency: Latencies,
    /// Per second and picture, the longest time without a packet.
    pub standstill: Latencies,
    /// What concerns participants on bad links, who are no part of the other figures.
    pub bad: BadTally,
    /// Messages on data channels.
    pub messages: MessageTally,
}

impl Tally {
    /// Adds what happened after this.
    pub fn merge(&mut self, later: &Tally) {
        // Taken apart, so that no new count can be forgotten here.
        let Tally {
            at_ns,
            sent,
            send_errors,
            received,
            bytes,
            duplicated,
            corrupted,
            reordered,
            retransmitted,
            unannounced,
            upstream_nacks,
            downstream_nacks,
            lost,
            silent,
            skipped,
            lag,
            latency,
            standstill,
            bad,
            messages,
        } = later;
        self.at_ns = *at_ns;
        self.sent += sent;
        self.send_errors += send_errors;
        self.received += received;
        self.bytes += bytes;
        self.duplicated += duplicated;
        self.corrupted += corrupted;
        self.reordered += reordered;
        self.retransmitted += retransmitted;
        self.unannounced += unannounced;
        self.upstream_nacks += upstream_nacks;
        self.downstream_nacks += downstream_nacks;
        self.lost += lost;
        self.silent = *silent;
        self.skipped += skipped;
        self.lag.merge(lag);
        self.latency.merge(latency);
        self.standstill.merge(standstill);
        self.bad.merge(bad);
        self.messages.merge(messages);
    }

    /// What was lost: nothing where more came after all than was missed.
    pub fn lost(&self) -> u64 {
        u64::try_from(self.lost).unwrap_or(0)
    }

    /// What was lost of all that should have come, 0 to 1.
    pub fn loss_ratio(&self) -> f64 {
        share(self.lost(), self.received)
    }
}

/// Media from or to participants on bad links.
#[derive(Clone, Default)]
pub struct BadTally {
    /// Packets received.
    pub received: u64,
    /// Packets that came by retransmission.
    pub retransmitted: u64,
    /// Packets newly missed, less those that have come after all.
    pub lost: i64,
    /// Datagrams that found no room in the emulation, since the beginning.
    pub overflowed: u64,
    /// From sender to receiver, with both links.
    pub latency: Latencies,
}

impl BadTally {
    fn merge(&mut self, later: &BadTally) {
        let BadTally { received, retransmitted, lost, overflowed, latency } = later;
        self.received += received;
        self.retransmitted += retransmitted;
        self.lost += lost;
        self.overflowed = *overflowed;
        self.latency.merge(latency);
    }

    /// What was lost.
    pub fn lost(&self) -> u64 {
        u64::try_from(self.lost).unwrap_or(0)
    }

    /// What was lost of all that should have come, 0 to 1.
    pub fn loss_ratio(&self) -> f64 {
        share(self.lost(), self.received)
    }
}

/// Messages on data channels.
#[derive(Clone, Default)]
pub struct MessageTally {
    /// Messages sent.
    pub sent: u64,
    /// Messages that were due and found no room to be sent.
    pub held_back: u64,
    /// Messages received.
    pub received: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages missing before one that came.
    pub lost: u64,
    /// Messages that are not what was sent, or came twice or out of order.
    pub corrupted: u64,
    /// From sender to receiver.
    pub latency: Latencies,
}

impl MessageTally {
    /// Counts what became of one.
    pub fn note(&mut self, news: MessageNews) {
        match news {
            MessageNews::Sent => self.sent += 1,
            MessageNews::HeldBack => self.held_back += 1,
            MessageNews::Corrupted => self.corrupted += 1,
            MessageNews::Came { lost, bytes, latency_ns } => {
                self.received += 1;
                self.bytes += bytes as u64;
                self.lost += lost;
                self.latency.record(latency_ns);
            }
        }
    }

    fn merge(&mut self, later: &MessageTally) {
        let MessageTally { sent, held_back, received, bytes, lost, corrupted, latency } = later;
        self.sent += sent;
        self.held_back += held_back;
        self.received += received;
        self.bytes += bytes;
        self.lost += lost;
        self.corrupted += corrupted;
        self.latency.merge(latency);
    }
}

fn share(lost: u64, received: u64) -> f64 {
    lost as f64 / (received + lost).max(1) as f64
}

/// A histogram of times in nanoseconds, to 1 %.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // These bounds are right for every call, so the other way is never gone.
        let histogram = Histogram::new_with_bounds(100, MAX_LATENCY_NS, 2);
        Latencies(histogram.unwrap_or_else(|error| panic!("the bounds are constants: {error}")))
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Latencies) {
        // All have the same bounds, so nothing can be left out.
        let _ = self.0.add(&other.0);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentiles in microseconds.
    pub fn percentiles_us(&self) -> Latency {
        let quantile = |q: f64| self.0.value_at_quantile(q) as f64 / 1e3;
        Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }

    /// The distribution, ascending, without empty buckets.
    pub fn buckets(&self) -> Vec<Bucket> {
        let steps = self.0.iter_log(FIRST_BUCKET_NS, BUCKET_FACTOR);
        let bucket = |step: hdrhistogram::iterators::IterationValue<u64>| Bucket {
            up_to_us: step.value_iterated_to() as f64 / 1e3,
            count: step.count_since_last_iteration(),
        };
        steps.map(bucket).filter(|bucket| bucket.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(at_ns: u64, received: u64, lost: i64, latency_us: u64) -> Tally {
        let mut tally = Tally { at_ns, received, lost, silent: at_ns, ..Tally::default() };
        tally.bad = BadTally { received, lost, overflowed: at_ns, ..BadTally::default() };
        tally.latency.record(latency_us * 1000);
        tally
    }

    #[test]
    fn counts_add_up_and_what_is_as_of_the_end_is_the_later_one() {
        let mut sum = tally(1, 10, 4, 100);
        sum.merge(&tally(2, 20, -1, 300));
        assert_eq!((sum.at_ns, sum.received, sum.lost(), sum.silent), (2, 30, 3, 2));
        assert_eq!((sum.bad.received, sum.bad.lost(), sum.bad.overflowed), (30, 3, 2));
        assert_eq!(sum.latency.count(), 2);
        assert!((sum.loss_ratio() - 3.0 / 33.0).abs() < 1e-9);
    }

    #[test]
    fn packets_that_come_after_all_are_no_negative_loss() {
        let late = tally(1, 10, -3, 100);
        assert_eq!((late.lost(), late.loss_ratio(), late.bad.lost()), (0, 0.0, 0));
        assert_eq!(Tally::default().loss_ratio(), 0.0);
    }

    #[test]
    fn percentiles_and_buckets_tell_of_the_same_times() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|us| latencies.record(us * 1000));
        let percentiles = latencies.percentiles_us();
        for (found, expected) in
            [(percentiles.p50, 500.0), (percentiles.p99, 990.0), (percentiles.max, 1000.0)]
        {
            assert!((found / expected - 1.0_f64).abs() < 0.01, "{found} for {expected}");
        }
        let buckets = latencies.buckets();
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 1000);
        assert!(buckets.is_sorted_by(|a, b| a.up_to_us < b.up_to_us));
    }
}
