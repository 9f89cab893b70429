//! The minutes of a long run, of its measured seconds.
#![forbid(unsafe_code)]

use crate::client::tally::Tally;
use crate::result::{Minute, Second};

/// Measured seconds that make a minute.
const MINUTE_SECONDS: u64 = 60;

/// Whole minutes, and the one that is not over.
#[derive(Default)]
pub(super) struct Minutes {
    whole: Vec<Minute>,
    tally: Tally,
    seconds: u64,
}

impl Minutes {
    /// Adds a measured second.
    pub(super) fn add(&mut self, tally: &Tally, second: &Second) {
        self.tally.merge(tally);
        self.seconds += 1;
        if self.seconds < MINUTE_SECONDS {
            return;
        }
        let minute = std::mem::take(&mut self.tally);
        self.seconds = 0;
        self.whole.push(Minute {
            minute: self.whole.len() as u64 + 1,
            rss_bytes: second.rss_bytes,
            latency_us: minute.latency.percentiles_us(),
            packets_per_s: minute.received as f64 / MINUTE_SECONDS as f64,
            lost: minute.lost(),
        });
    }

    /// Those that are over.
    pub(super) fn finish(self) -> Vec<Minute> {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_that_is_not_over_is_none() {
        let mut minutes = Minutes::default();
        let tally = Tally { received: 30, lost: 1, ..Tally::default() };
        for t in 0..2 * MINUTE_SECONDS + 59 {
            minutes.add(&tally, &Second { rss_bytes: t, ..Second::default() });
        }
        let minutes = minutes.finish();
        let shown: Vec<_> = minutes.iter().map(|m| (m.minute, m.rss_bytes, m.lost)).collect();
        assert_eq!(shown, [(1, 59, 60), (2, 119, 60)]);
        assert_eq!(minutes[1].packets_per_s, 30.0);
    }
}
