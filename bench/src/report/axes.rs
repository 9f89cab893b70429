//! Axes: where a value lies between two ends, and which values get a tick.
#![forbid(unsafe_code)]

/// Ticks that an axis aims for; more than these crowd a plot of its size.
const TICKS_WANTED: f64 = 5.0;

/// Ticks that an axis may have at most, whatever its ends.
const TICKS_MAX: usize = 24;

/// Ticks that a plot on a phone has room for.
const TICKS_NARROW: usize = 5;

/// The least value of a logarithmic axis.
const LOG_MIN: f64 = 1e-9;

/// One axis of a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
}

/// A value that is written at an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// The value.
    pub value: f64,
    /// Whether it is written where there is little room, too.
    pub is_major: bool,
}

impl Axis {
    /// From 0 to a round number that is not below `high`.
    pub fn from_zero(high: f64) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let step = step(high);
        // An end that misses by a rounding error is no reason for a step more.
        Axis { low: 0.0, high: (high / step - 1e-9).ceil() * step, is_log: false }
    }

    /// Between two values as they are.
    pub fn between(low: f64, high: f64) -> Self {
        let low = if low.is_finite() { low } else { 0.0 };
        let high = if high.is_finite() && high > low { high } else { low + 1.0 };
        Axis { low, high, is_log: false }
    }

    /// Logarithmic between two values.
    pub fn log(low: f64, high: f64) -> Self {
        let low = if low.is_finite() { low.max(LOG_MIN) } else { LOG_MIN };
        let high = if high.is_finite() && high > low { high } else { low * 10.0 };
        Axis { low, high, is_log: true }
    }

    /// Logarithmic between the next 1, 2 or 5 times a power of ten below `low` and above `high`.
    pub fn log_round(low: f64, high: f64) -> Self {
        let Axis { low, high, .. } = Axis::log(low, high);
        let within = |power: f64, ends: [f64; 4]| ends.map(|end| end * power);
        let below = |v: f64| {
            let power = 10f64.powf(v.log10().floor());
            within(power, [1.0, 2.0, 5.0, 10.0]).into_iter().rfind(|end| *end <= v * 1.001)
        };
        let above = |v: f64| {
            let power = 10f64.powf(v.log10().floor());
            within(power, [1.0, 2.0, 5.0, 10.0]).into_iter().find(|end| *end >= v * 0.999)
        };
        Axis::log(below(low).unwrap_or(low), above(high).unwrap_or(high))
    }

    /// Where a value lies: 0 at the low end, 1 at the high end, never beyond.
    pub fn place(&self, value: f64) -> f64 {
        if value.is_nan() {
            return 0.0;
        }
        let share = if self.is_log {
            (value.max(LOG_MIN) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    /// The values to write at the axis, ascending.
    pub fn ticks(&self) -> Vec<Tick> {
        if self.is_log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<Tick> {
        let step = step(self.high - self.low);
        let first = (self.low / step).ceil();
        let values: Vec<f64> = (0..TICKS_MAX)
            .map(|i| (first + i as f64) * step)
            .take_while(|tick| *tick <= self.high + step * 1e-9)
            .collect();
        let every = values.len().div_ceil(TICKS_NARROW).max(1);
        let tick = |(i, value)| Tick { value, is_major: i % every == 0 };
        values.into_iter().enumerate().map(tick).collect()
    }

    /// Powers of ten; 2 and 5 between them where there are few.
    fn log_ticks(&self) -> Vec<Tick> {
        let decades = (self.high / self.low).log10();
        let between: &[f64] = if decades <= 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let is_short = decades < 1.5;
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let tick = |times: f64, power: i32| Tick {
            value: times * 10f64.powi(power),
            is_major: times == 1.0 || is_short,
        };
        (first..=last)
            .flat_map(|power| between.iter().map(move |times| tick(*times, power)))
            .filter(|tick| tick.value >= self.low * 0.999 && tick.value <= self.high * 1.001)
            .take(TICKS_MAX)
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that a span has about the wanted ticks.
fn step(span: f64) -> f64 {
    let rough = span / TICKS_WANTED;
    let power = 10f64.powf(rough.log10().floor());
    let times = rough / power;
    let nice = match times {
        t if t <= 1.0 => 1.0,
        t if t <= 2.0 => 2.0,
        t if t <= 5.0 => 5.0,
        _ => 10.0,
    };
    nice * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(axis: Axis) -> Vec<f64> {
        axis.ticks().iter().map(|tick| tick.value).collect()
    }

    #[track_caller]
    fn assert_near(found: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= b.abs() * 1e-9 + 1e-12;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(near),
            "{found:?} {expected:?}"
        );
    }

    #[test]
    fn linear_axes_end_at_round_numbers() {
        for (high, ticks) in [
            (97.0, vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
            (1.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (0.001, vec![0.0, 0.0002, 0.0004, 0.0006, 0.0008, 0.001]),
            (42_000.0, vec![0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]),
        ] {
            assert_near(&values(Axis::from_zero(high)), &ticks);
        }
    }

    #[test]
    fn nothing_lies_beyond_an_axis() {
        for axis in [
            Axis::from_zero(10.0),
            Axis::from_zero(0.0),
            Axis::from_zero(f64::NAN),
            Axis::between(3.0, 3.0),
            Axis::log(1.0, 1000.0),
            Axis::log(0.0, 0.0),
            Axis::log_round(f64::NAN, f64::INFINITY),
        ] {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 5.0, 1e12] {
                let place = axis.place(value);
                assert!((0.0..=1.0).contains(&place), "{axis:?} {value} {place}");
            }
            assert!(!axis.ticks().is_empty() && axis.ticks().len() <= TICKS_MAX, "{axis:?}");
        }
    }

    #[test]
    fn a_decade_is_as_long_as_the_next() {
        let axis = Axis::log(1.0, 1000.0);
        assert!((axis.place(10.0) - 1.0 / 3.0).abs() < 1e-12);
        assert!((axis.place(100.0) - 2.0 / 3.0).abs() < 1e-12);
        assert_near(&values(axis), &[1.0, 10.0, 100.0, 1000.0]);
        assert_near(&values(Axis::log(10.0, 100.0)), &[10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn round_ends_of_a_logarithmic_axis_hold_what_is_shown() {
        for (low, high, ends) in [
            (43.0, 168.0, (20.0, 200.0)),
            (20.0, 100.0, (20.0, 100.0)),
            (0.7, 5200.0, (0.5, 10_000.0)),
        ] {
            let axis = Axis::log_round(low, high);
            assert_near(&[axis.low, axis.high], &[ends.0, ends.1]);
        }
    }

    #[test]
    fn a_narrow_plot_keeps_few_ticks_the_first_among_them() {
        for axis in [
            Axis::from_zero(97.0),
            Axis::between(0.0, 22.0),
            Axis::between(0.0, 1800.0),
            Axis::log(10.0, 3000.0),
            Axis::log(20.0, 200.0),
        ] {
            let ticks = axis.ticks();
            let major: Vec<&Tick> = ticks.iter().filter(|tick| tick.is_major).collect();
            assert!((2..=TICKS_NARROW).contains(&major.len()), "{axis:?} {ticks:?}");
        }
    }
}
