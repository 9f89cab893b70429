//! Whether a figure grows over a run: memory that comes and never goes, latency that creeps up.
#![forbid(unsafe_code)]

use crate::result::{MemoryTrend, Minute, Second};

/// The part of a run that does not count for a trend: pools fill, caches warm, streams settle.
const WARM_UP_PART: f64 = 1.0 / 3.0;

/// Growth that still counts as flat: a hundredth of what is there, or a megabyte, whichever is
/// more. An allocator gives memory back in pieces of some hundred kilobytes, so less cannot be
/// told.
const FLAT_PART: f64 = 0.01;
const FLAT_BYTES: f64 = (1 << 20) as f64;

/// A 99th percentile that rises by more than this factor from the first third to the last has
/// grown.
const LATENCY_FACTOR: f64 = 1.5;

/// Points that a trend needs.
const MIN_POINTS: usize = 5;

/// The straight line of least squares through points: its value at the first and at the last.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let (&(first, _), &(last, _)) = (points.first()?, points.last()?);
    if points.len() < MIN_POINTS || last <= first {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let above: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = above / below;
    Some((mean_y + slope * (first - mean_x), mean_y + slope * (last - mean_x)))
}

/// The trend of the server's memory after its warm-up; `None` for a run too short to have one.
pub fn memory(seconds: &[Second]) -> Option<MemoryTrend> {
    let measured: Vec<(f64, f64)> = seconds
        .iter()
        .filter(|second| second.measured)
        .map(|second| (second.t, second.rss_bytes as f64))
        .collect();
    let after = (measured.len() as f64 * WARM_UP_PART).ceil() as usize;
    let points = measured.get(after..)?;
    let (first, last) = line(points)?;
    let span_s = points.last()?.0 - points.first()?.0;
    let growth = last - first;
    Some(MemoryTrend {
        warm_up_s: points.first()?.0 - measured.first()?.0,
        span_s,
        first_bytes: first.max(0.0) as u64,
        last_bytes: last.max(0.0) as u64,
        bytes_per_minute: growth / span_s * 60.0,
        is_flat: growth <= (first * FLAT_PART).max(FLAT_BYTES),
    })
}

/// The verdict on memory in words.
pub fn memory_verdict(trend: &MemoryTrend) -> String {
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    format!(
        "memory {}: {:.1} MiB to {:.1} MiB over {:.0} s after {:.0} s of warm-up, {:+.1} KiB a minute",
        if trend.is_flat { "is flat" } else { "GROWS" },
        mib(trend.first_bytes),
        mib(trend.last_bytes),
        trend.span_s,
        trend.warm_up_s,
        trend.bytes_per_minute / 1024.0,
    )
}

/// The verdict on latency in words; `None` for a run too short to have one.
pub fn latency_verdict(minutes: &[Minute]) -> Option<String> {
    let third = minutes.len() / 3;
    let median = |part: &[Minute]| {
        let mut values: Vec<f64> = part.iter().map(|minute| minute.latency_us.p99).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let before = median(minutes.get(..third)?)?;
    let after = median(minutes.get(minutes.len() - third..)?)?;
    let verdict = if after <= before * LATENCY_FACTOR { "is stable" } else { "GROWS" };
    Some(format!(
        "latency {verdict}: p99 of a minute {before:.0} us in the first third, {after:.0} us in the last"
    ))
}

#[cfg(test)]
mod tests {
    use crate::result::Latency;

    use super::*;

    fn seconds(rss: impl Fn(u32) -> f64) -> Vec<Second> {
        let second = |n: u32| Second {
            t: f64::from(n),
            measured: n >= 10,
            rss_bytes: rss(n) as u64,
            ..Second::default()
        };
        (0..130).map(second).collect()
    }

    const MIB: f64 = (1 << 20) as f64;

    #[test]
    fn growth_while_it_warms_up_is_no_growth() {
        let trend = memory(&seconds(|n| 50.0 * MIB + f64::from(n.min(40)) * MIB)).unwrap();
        assert!(trend.is_flat, "{trend:?}");
        assert!((39.0..=41.0).contains(&trend.warm_up_s));
        assert!(memory_verdict(&trend).starts_with("memory is flat"));
    }

    #[test]
    fn a_leak_is_seen_through_noise_and_its_rate_is_told() {
        let noise = |n: u32| f64::from(n * 7919 % 100) * MIB / 50.0;
        let leak = memory(&seconds(|n| 50.0 * MIB + f64::from(n) * MIB / 10.0 + noise(n))).unwrap();
        assert!(!leak.is_flat, "{leak:?}");
        let per_minute = leak.bytes_per_minute / MIB;
        assert!((5.0..7.0).contains(&per_minute), "{per_minute}");
        let none = memory(&seconds(|n| 50.0 * MIB + noise(n))).unwrap();
        assert!(none.is_flat, "{none:?}");
        assert!(memory_verdict(&leak).starts_with("memory GROWS"));
    }

    #[test]
    fn memory_that_shrinks_is_flat_and_a_short_run_has_no_trend() {
        assert!(memory(&seconds(|n| (200 - n) as f64 * MIB)).unwrap().is_flat);
        assert_eq!(memory(&seconds(|_| MIB)[..14]), None);
    }

    fn minutes(p99: impl Fn(u32) -> f64) -> Vec<Minute> {
        let latency = |n| Latency { p99: p99(n), ..Latency::default() };
        (0..9).map(|n| Minute { latency_us: latency(n), ..Minute::default() }).collect()
    }

    #[test]
    fn latency_that_creeps_up_is_told_from_a_single_bad_minute() {
        let verdict = |p99: fn(u32) -> f64| latency_verdict(&minutes(p99)).unwrap();
        assert!(verdict(|n| 100.0 + f64::from(n) * 20.0).starts_with("latency GROWS"));
        assert!(verdict(|n| if n == 8 { 9000.0 } else { 100.0 }).starts_with("latency is stable"));
        assert_eq!(latency_verdict(&minutes(|_| 1.0)[..2]), None);
    }
}
