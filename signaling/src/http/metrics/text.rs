//! Prometheus's text format, version 0.0.4. Labels are our own words and numbers, so that nothing
//! has to be escaped.
#![forbid(unsafe_code)]

use std::fmt::{Display, Write as _};

use opencall_dataplane::histogram::{Histogram, STEPS_US};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of labels.
pub type Labels<'a> = [(&'static str, &'a dyn Display)];

/// Metrics as they are written.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Begins a counter, whose name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a histogram of seconds.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: self, name }
    }

    /// All that was written.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A metric whose series are being written.
pub struct Family<'a> {
    text: &'a mut Text,
    name: &'static str,
}

impl Family<'_> {
    /// Writes a series.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// Writes the series of a histogram.
    pub fn buckets(&mut self, labels: &Labels<'_>, histogram: &Histogram) -> &mut Self {
        let cumulative = histogram.cumulative();
        let steps = STEPS_US.iter().map(|&step| format!("{}", f64::from(step) / 1e6));
        for (step, count) in steps.chain(["+Inf".to_owned()]).zip(cumulative) {
            self.line("_bucket", labels, Some(&step), count);
        }
        self.line("_sum", labels, None, histogram.sum_seconds());
        self.line("_count", labels, None, cumulative[STEPS_US.len()]);
        self
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, le: Option<&str>, value: impl Display) {
        let out = &mut self.text.0;
        let _ = write!(out, "{}{suffix}", self.name);
        let mut separator = '{';
        for (name, value) in labels {
            let _ = write!(out, "{separator}{name}=\"{value}\"");
            separator = ',';
        }
        if let Some(le) = le {
            let _ = write!(out, "{separator}le=\"{le}\"");
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        let _ = writeln!(out, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn series_are_written_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.counter("a_total", "Things.").sample(&[("core", &0), ("reason", &"x")], 5);
        text.gauge("b", "Now.").sample(&[], 0.5);
        let mut histogram = Histogram::default();
        histogram.note(Duration::from_micros(20), 3);
        text.histogram("c_seconds", "Took.").buckets(&[("core", &1)], &histogram);
        let text = text.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "# HELP a_total Things.",
                "# TYPE a_total counter",
                "a_total{core=\"0\",reason=\"x\"} 5",
                "# HELP b Now.",
                "# TYPE b gauge",
            ]
        );
        assert_eq!(lines[5], "b 0.5");
        assert_eq!(
            lines[8..10],
            [
                "c_seconds_bucket{core=\"1\",le=\"0.00001\"} 0",
                "c_seconds_bucket{core=\"1\",le=\"0.000025\"} 3",
            ]
        );
        let end = &lines[lines.len() - 3..];
        assert_eq!(end[0], "c_seconds_bucket{core=\"1\",le=\"+Inf\"} 3");
        assert_eq!(end[2], "c_seconds_count{core=\"1\"} 3");
    }
}
