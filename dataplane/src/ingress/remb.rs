//! The bitrate to announce by REMB to a producer that knows no transport-wide feedback
//! (draft-alvestrand-rmcat-remb-03): a loss-based controller, as in Google congestion control
//! (draft-ietf-rmcat-gcc-02 section 6).
//!
//! Worked trace, starting at 1 Mbit/s, one step per second:
//!
//! ```text
//! received 900 kbit/s, loss  0 %   → 1 080 000   + 8 %
//! received 1 Mbit/s,   loss  5 %   → 1 080 000   held
//! received 900 kbit/s, loss 25 %   →   945 000   × (1 − 25 % / 2)
//! received 100 kbit/s, loss  0 %   →   945 000   the sender sends little: no reason to announce more
//! ```
#![forbid(unsafe_code)]

/// Announced at first: enough for a medium layer at once.
const START_BPS: u32 = 1_000_000;

/// Never announced less: below it video is of no use, and audio would starve.
const FLOOR_BPS: u32 = 64_000;

/// Never announced more: above any webcam or screen.
const CAP_BPS: u32 = 10_000_000;

/// Loss from which the rate falls, and below which it rises, units of 1/256: 10 % and 2 %.
const HIGH_LOSS: u8 = 26;
const LOW_LOSS: u8 = 5;

/// Growth per step, percent.
const GROWTH_PERCENT: u64 = 108;

/// How far the announcement may grow beyond what is received: half as much again and room for a
/// stream that begins. A sender that does not use its rate has not proved that it can.
const HEADROOM_PERCENT: u64 = 150;
const MARGIN_BPS: u64 = 100_000;

/// The estimate of one transport.
#[derive(Debug, Clone)]
pub struct RembEstimator {
    floor_bps: u32,
    cap_bps: u32,
    bitrate_bps: u32,
}

impl Default for RembEstimator {
    fn default() -> Self {
        RembEstimator::new(FLOOR_BPS, CAP_BPS)
    }
}

impl RembEstimator {
    /// An estimator that stays within the two rates, bits per second.
    pub fn new(floor_bps: u32, cap_bps: u32) -> Self {
        let cap_bps = cap_bps.max(floor_bps);
        RembEstimator { floor_bps, cap_bps, bitrate_bps: START_BPS.clamp(floor_bps, cap_bps) }
    }

    /// The bitrate to announce now, given the rate received and the loss (units of 1/256) of the
    /// last interval. Call it once a second: growth is per call.
    pub fn update(&mut self, received_bps: u32, fraction_lost: u8) -> u32 {
        let present = u64::from(self.bitrate_bps);
        let proved = u64::from(received_bps) * HEADROOM_PERCENT / 100 + MARGIN_BPS;
        let next = if fraction_lost > HIGH_LOSS {
            // What was announced beyond the proved was never tested: fall from what was.
            present.min(proved) * (512 - u64::from(fraction_lost)) / 512
        } else if fraction_lost < LOW_LOSS {
            (present * GROWTH_PERCENT / 100).min(proved).max(present)
        } else {
            present
        };
        let next = u32::try_from(next).unwrap_or(u32::MAX);
        self.bitrate_bps = next.clamp(self.floor_bps, self.cap_bps);
        self.bitrate_bps
    }

    /// The bitrate announced last.
    pub fn bitrate_bps(&self) -> u32 {
        self.bitrate_bps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_worked_trace() {
        let mut estimator = RembEstimator::default();
        let steps = [
            (900_000, 0, 1_080_000),
            (1_000_000, 13, 1_080_000),
            (900_000, 64, 945_000),
            (100_000, 0, 945_000),
        ];
        for (received, lost, announced) in steps {
            assert_eq!(estimator.update(received, lost), announced);
        }
    }

    #[test]
    fn a_sender_that_uses_what_it_is_given_reaches_the_cap() {
        let mut estimator = RembEstimator::default();
        let mut sent = estimator.bitrate_bps();
        let steps = (0..100).take_while(|_| {
            sent = estimator.update(sent, 0);
            sent < CAP_BPS
        });
        assert_eq!(steps.count(), 29, "half a minute");
        assert_eq!(estimator.update(u32::MAX, 0), CAP_BPS);
    }

    #[test]
    fn heavy_loss_falls_to_the_floor_and_not_below() {
        let mut estimator = RembEstimator::new(64_000, 10_000_000);
        let mut sent = estimator.bitrate_bps();
        for _ in 0..40 {
            sent = estimator.update(sent / 2, 128);
        }
        assert_eq!(sent, 64_000);
    }

    #[test]
    fn an_announcement_never_tested_falls_at_once() {
        let mut estimator = RembEstimator::new(64_000, 10_000_000);
        for received in [2_000_000; 20] {
            estimator.update(received, 0);
        }
        assert_eq!(estimator.bitrate_bps(), 3_100_000);
        assert_eq!(estimator.update(400_000, 128), 525_000);
    }

    #[test]
    fn contradictory_bounds_are_survived() {
        assert_eq!(RembEstimator::new(2_000_000, 5).update(0, 255), 2_000_000);
    }
}
