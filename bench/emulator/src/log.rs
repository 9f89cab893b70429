//! What a link was, each 10 ms, whatever those who use it think of it.

use std::time::Duration;

/// Time between two rows.
pub const LOG_INTERVAL: Duration = Duration::from_millis(10);

/// Names of the columns of [`LogRow::csv`].
pub const COLUMNS: &str = "time_ms,rate_kbps,queue_bytes,queue_ms,dropped,lost";

/// A link at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRow {
    /// When.
    pub at: Duration,
    /// Bits per second of the bottleneck; of a trace, in the last 100 ms.
    pub rate_bps: Option<u64>,
    /// Bytes that wait at it.
    pub queue_bytes: u64,
    /// How long until they have left.
    pub queue: Duration,
    /// Packets for which there was no room since the row before, cross traffic included.
    pub dropped: u64,
    /// Packets that were lost for other reasons since then.
    pub lost: u64,
}

impl LogRow {
    /// The row as a line of a table; what is unlimited is empty.
    pub fn csv(&self) -> String {
        let rate = self.rate_bps.map(|bps| format!("{:.3}", bps as f64 / 1e3)).unwrap_or_default();
        let LogRow { at, queue_bytes, queue, dropped, lost, .. } = self;
        let (at_ms, queue_ms) = (at.as_millis(), queue.as_secs_f64() * 1e3);
        format!("{at_ms},{rate},{queue_bytes},{queue_ms:.3},{dropped},{lost}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_as_many_values_as_there_are_columns() {
        let row = LogRow {
            at: Duration::from_millis(1_230),
            rate_bps: Some(1_500_500),
            queue_bytes: 4_500,
            queue: Duration::from_micros(24_001),
            dropped: 3,
            lost: 1,
        };
        assert_eq!(row.csv(), "1230,1500.500,4500,24.001,3,1");
        assert_eq!(LogRow { rate_bps: None, ..row }.csv(), "1230,,4500,24.001,3,1");
        assert_eq!(COLUMNS.split(',').count(), row.csv().split(',').count());
    }
}
