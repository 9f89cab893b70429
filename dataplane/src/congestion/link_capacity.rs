//! What the link carried when it was last found full: near that rate, growth is cautious.
#![forbid(unsafe_code)]

/// Weight of a new sample.
const WEIGHT: f64 = 0.05;
/// Bounds of the variance, normalised by the rate: 14 and 35 kbit/s of deviation at 500 kbit/s.
const VARIANCE_MIN_KBPS: f64 = 0.4;
const VARIANCE_MAX_KBPS: f64 = 2.5;
/// Deviations that a rate may be off and still be of the same link.
const DEVIATIONS: f64 = 3.0;

/// A smoothed capacity and its deviation.
#[derive(Debug, Clone)]
pub struct LinkCapacity {
    estimate_kbps: Option<f64>,
    variance_kbps: f64,
}

impl Default for LinkCapacity {
    fn default() -> Self {
        LinkCapacity { estimate_kbps: None, variance_kbps: VARIANCE_MIN_KBPS }
    }
}

impl LinkCapacity {
    /// Bits per second of the link, once known.
    pub fn estimate_bps(&self) -> Option<f64> {
        self.estimate_kbps.map(|kbps| kbps * 1e3)
    }

    /// Above this the link must have changed; infinite while nothing is known.
    pub fn upper_bps(&self) -> f64 {
        self.estimate_kbps.map_or(f64::INFINITY, |kbps| (kbps + self.margin_kbps(kbps)) * 1e3)
    }

    /// Below this the link must have changed; 0 while nothing is known.
    pub fn lower_bps(&self) -> f64 {
        let lower = |kbps: f64| ((kbps - self.margin_kbps(kbps)) * 1e3).max(0.0);
        self.estimate_kbps.map_or(0.0, lower)
    }

    /// Forgets the capacity; its variance stays.
    pub fn reset(&mut self) {
        self.estimate_kbps = None;
    }

    /// Takes the rate that arrived when the link was found full.
    pub fn on_overuse(&mut self, acknowledged_bps: f64) {
        let sample_kbps = (acknowledged_bps / 1e3).round();
        let estimate_kbps = self
            .estimate_kbps
            .map_or(sample_kbps, |before| (1.0 - WEIGHT) * before + WEIGHT * sample_kbps);
        self.estimate_kbps = Some(estimate_kbps);
        let error_kbps = estimate_kbps - sample_kbps;
        let sample = error_kbps * error_kbps / estimate_kbps.max(1.0);
        let variance = (1.0 - WEIGHT) * self.variance_kbps + WEIGHT * sample;
        self.variance_kbps = variance.clamp(VARIANCE_MIN_KBPS, VARIANCE_MAX_KBPS);
    }

    fn margin_kbps(&self, estimate_kbps: f64) -> f64 {
        DEVIATIONS * (self.variance_kbps * estimate_kbps).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_of_the_comment() {
        let mut link = LinkCapacity::default();
        assert_eq!((link.lower_bps(), link.upper_bps()), (0.0, f64::INFINITY));
        link.on_overuse(500_000.0);
        assert_eq!(link.estimate_bps(), Some(500_000.0));
        assert!((link.upper_bps() - 542_400.0).abs() < 100.0, "3 × 14 kbit/s above");
        for kbps in [100.0, 900.0].repeat(50) {
            link.on_overuse(kbps * 1e3);
        }
        let estimate = link.estimate_bps().unwrap();
        let margin = (link.upper_bps() - estimate) / 3.0;
        assert!((margin - (2.5 * estimate / 1e3).sqrt() * 1e3).abs() < 1.0, "{margin}");
        link.reset();
        assert_eq!(link.estimate_bps(), None);
    }

    #[test]
    fn a_new_sample_weighs_a_twentieth() {
        let mut link = LinkCapacity::default();
        link.on_overuse(100_000.0);
        link.on_overuse(200_000.0);
        assert_eq!(link.estimate_bps(), Some(105_000.0));
    }
}
