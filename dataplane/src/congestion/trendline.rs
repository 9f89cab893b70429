//! Whether the queue of the path grows: a line is laid through the last twenty delays.
//!
//! The slope is roughly (sent − capacity) / capacity. Multiplied by the number of samples and a
//! gain it is held against a threshold that follows the noise of the path: it falls quickly where
//! delays are steady, rises slowly where they jitter, and does not move for a leap.
#![forbid(unsafe_code)]

use super::Usage;

/// Samples that the line goes through.
const WINDOW: usize = 20;
/// Part of the old value in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// By how much the slope is scaled before it meets the threshold.
const GAIN: f64 = 4.0;
/// Scaling by the number of samples ends here.
const SAMPLES_SCALED_MAX: f64 = 60.0;
/// Samples are counted no further.
const SAMPLES_MAX: u32 = 1_000;
/// Overuse is only believed after so long.
const OVERUSE_TIME_MS: f64 = 10.0;

const THRESHOLD_FIRST_MS: f64 = 12.5;
const THRESHOLD_MIN_MS: f64 = 6.0;
const THRESHOLD_MAX_MS: f64 = 600.0;
/// How fast the threshold rises towards a trend above it, and falls towards one below.
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// A trend this far above the threshold is a leap of the delay, and is not adapted to.
const LEAP_MS: f64 = 15.0;
/// Longest time that one adaptation counts for.
const ADAPTATION_MAX_MS: f64 = 100.0;

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    arrival_ms: f64,
    delay_ms: f64,
}

/// Judges the trend of the delay.
#[derive(Debug, Clone)]
pub struct Trendline {
    /// A ring: `next` is the oldest once there are twenty.
    samples: [Sample; WINDOW],
    next: usize,
    count: u32,
    first_arrival_ms: f64,
    accumulated_ms: f64,
    smoothed_ms: f64,
    threshold_ms: f64,
    adapted_at_ms: Option<f64>,
    last_trend: f64,
    overusing_ms: Option<f64>,
    overuses: u32,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Trendline {
            samples: [Sample::default(); WINDOW],
            next: 0,
            count: 0,
            first_arrival_ms: 0.0,
            accumulated_ms: 0.0,
            smoothed_ms: 0.0,
            threshold_ms: THRESHOLD_FIRST_MS,
            adapted_at_ms: None,
            last_trend: 0.0,
            overusing_ms: None,
            overuses: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    /// What the last samples say of the path.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the deltas between two groups, of which the second ended at `arrival_ms`.
    pub fn on_deltas(&mut self, arrival_delta_ms: f64, send_delta_ms: f64, arrival_ms: f64) {
        if self.count == 0 {
            self.first_arrival_ms = arrival_ms;
        }
        self.count = (self.count + 1).min(SAMPLES_MAX);
        self.accumulated_ms += arrival_delta_ms - send_delta_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.accumulated_ms;
        self.samples[self.next] =
            Sample { arrival_ms: arrival_ms - self.first_arrival_ms, delay_ms: self.smoothed_ms };
        self.next = (self.next + 1) % WINDOW;
        let full = self.count as usize >= WINDOW;
        let trend = if full { self.slope() } else { None }.unwrap_or(self.last_trend);
        self.judge(trend, send_delta_ms, arrival_ms);
    }

    /// Least squares; `None` when all arrived at once.
    fn slope(&self) -> Option<f64> {
        let count = WINDOW as f64;
        let mean_x = self.samples.iter().map(|sample| sample.arrival_ms).sum::<f64>() / count;
        let mean_y = self.samples.iter().map(|sample| sample.delay_ms).sum::<f64>() / count;
        let (mut numerator, mut denominator) = (0.0, 0.0);
        for sample in &self.samples {
            let x = sample.arrival_ms - mean_x;
            numerator += x * (sample.delay_ms - mean_y);
            denominator += x * x;
        }
        (denominator != 0.0).then(|| numerator / denominator)
    }

    fn judge(&mut self, trend: f64, send_delta_ms: f64, now_ms: f64) {
        if self.count < 2 {
            self.usage = Usage::Normal;
            return;
        }
        let modified_ms = f64::from(self.count).min(SAMPLES_SCALED_MAX) * trend * GAIN;
        if modified_ms > self.threshold_ms {
            // The first time, half of the gap is taken to have been overuse.
            let overusing_ms =
                self.overusing_ms.map_or(send_delta_ms / 2.0, |before| before + send_delta_ms);
            self.overusing_ms = Some(overusing_ms);
            self.overuses += 1;
            let lasting = overusing_ms > OVERUSE_TIME_MS && self.overuses > 1;
            if lasting && trend >= self.last_trend {
                self.overusing_ms = Some(0.0);
                self.overuses = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.overusing_ms = None;
            self.overuses = 0;
            let under = modified_ms < -self.threshold_ms;
            self.usage = if under { Usage::Under } else { Usage::Normal };
        }
        self.last_trend = trend;
        self.adapt_threshold(modified_ms.abs(), now_ms);
    }

    fn adapt_threshold(&mut self, trend_ms: f64, now_ms: f64) {
        let since_ms = now_ms - self.adapted_at_ms.unwrap_or(now_ms);
        self.adapted_at_ms = Some(now_ms);
        if trend_ms > self.threshold_ms + LEAP_MS {
            return;
        }
        let speed = if trend_ms < self.threshold_ms { THRESHOLD_DOWN } else { THRESHOLD_UP };
        let step = speed * (trend_ms - self.threshold_ms) * since_ms.min(ADAPTATION_MAX_MS);
        let adapted = (self.threshold_ms + step).max(THRESHOLD_MIN_MS);
        self.threshold_ms = adapted.min(THRESHOLD_MAX_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the reference's test: 25 packets 20 ms apart, delivered at another pace. Returns what
    /// was judged first, what last, and after how many packets it changed for the first time.
    fn run(pace: f64) -> (Usage, usize) {
        let mut trendline = Trendline::default();
        let mut changed = None;
        let arrival = |index: usize| (987_654_321.0 + 20.0 * pace * index as f64).floor();
        for index in 1..25 {
            let delta = arrival(index) - arrival(index - 1);
            trendline.on_deltas(delta, 20.0, arrival(index));
            if trendline.usage() != Usage::Normal {
                changed = changed.or(Some(index));
            }
        }
        (trendline.usage(), changed.unwrap_or(25))
    }

    #[test]
    fn the_same_pace_is_normal() {
        assert_eq!(run(1.0), (Usage::Normal, 25));
    }

    #[test]
    fn a_tenth_slower_is_overuse() {
        assert_eq!(run(1.1), (Usage::Over, 24));
    }

    #[test]
    fn faster_is_underuse() {
        assert_eq!(run(0.85), (Usage::Under, 20));
    }

    #[test]
    fn no_number_breaks_it() {
        let mut trendline = Trendline::default();
        for (arrival, send, at) in [
            (1e18, -1e18, 1e18),
            (-1e18, 1e18, -1e18),
            (0.0, 0.0, 0.0),
            (f64::MAX, f64::MIN, f64::MAX),
        ] {
            for _ in 0..30 {
                trendline.on_deltas(arrival, send, at);
            }
        }
        assert!((6.0..=600.0).contains(&trendline.threshold_ms));
    }
}
