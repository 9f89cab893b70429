//! Plots: lines and bars as SVG that stretches, with labels as HTML that does not, so that a plot
//! is readable at any width. Coloured by the page's style sheet.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::axes::Axis;
use super::text::escape;

/// The drawing's own units from edge to edge, both ways.
const FIELD: f64 = 1000.0;

/// Points of a line at most: more cannot be told apart at this width, and a page of a long run
/// would grow with it.
pub const POINTS_MAX: usize = 300;

/// Colours in the style sheet.
pub const COLOURS: usize = 8;

/// Lines that are told of where the pointer is; more would cover the plot.
const TOLD_MAX: usize = 9;

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// As a line.
    Solid,
    /// As a line, the area below filled.
    Filled,
    /// Dashed: shown for comparison.
    Dashed,
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Its one figure, written in the legend.
    pub told: String,
    /// One value for each of the plot's places; what is no number is a gap.
    pub values: Vec<f64>,
    /// Number of its colour.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
}

/// One bar of a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// How high it is.
    pub value: f64,
}

/// A plot with its heading.
#[derive(Debug, Clone)]
pub struct Plot<'a> {
    /// What it shows.
    pub heading: &'a str,
    /// How it is read, in a sentence.
    pub caption: &'a str,
    /// What the axis to the left counts.
    pub y_title: &'a str,
    /// What the axis below counts.
    pub x_title: &'a str,
    /// The axis below.
    pub x: Axis,
    /// The axis to the left.
    pub y: Axis,
    /// How places are written.
    pub x_text: fn(f64) -> String,
    /// How values are written.
    pub y_text: fn(f64) -> String,
    /// Where the values of lines stand, ascending.
    pub places: &'a [f64],
    /// The lines.
    pub lines: &'a [Line],
    /// The bars, ascending, and their colour.
    pub bars: (&'a [Bar], usize),
    /// Stretches that do not count.
    pub shaded: &'a [(f64, f64)],
    /// Upright lines with their names.
    pub marks: &'a [(f64, &'a str)],
    /// Said in the middle of a plot that has nothing to show.
    pub empty: Option<&'a str>,
}

impl Plot<'_> {
    /// The plot as an element of the page.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<section class=\"card\"><h2>{}</h2><p class=\"caption\">{}</p>",
            escape(self.heading),
            escape(self.caption)
        );
        self.legend(&mut out);
        push(
            &mut out,
            format_args!(
                "<div class=\"plot\"><p class=\"y-title\">{}</p><div class=\"field\">\
                 <svg viewBox=\"0 0 {FIELD} {FIELD}\" preserveAspectRatio=\"none\" role=\"img\" \
                 aria-label=\"{}\">",
                escape(self.y_title),
                escape(&self.description())
            ),
        );
        self.draw(&mut out);
        out.push_str("</svg>");
        self.labels(&mut out);
        self.pointers(&mut out);
        if let Some(empty) = self.empty {
            push(&mut out, format_args!("<p class=\"empty\">{}</p>", escape(empty)));
        }
        push(
            &mut out,
            format_args!("</div><p class=\"x-title\">{}</p></div></section>", escape(self.x_title)),
        );
        out
    }

    /// What is read out in place of the picture.
    fn description(&self) -> String {
        let told: Vec<String> = self
            .lines
            .iter()
            .filter(|line| !line.told.is_empty())
            .map(|line| format!("{} {}", line.name, line.told))
            .collect();
        format!("{}: {}", self.heading, told.join(", "))
    }

    fn legend(&self, out: &mut String) {
        out.push_str("<p class=\"legend\">");
        for line in self.lines {
            let dashed = if line.stroke == Stroke::Dashed { " dashed" } else { "" };
            push(
                out,
                format_args!(
                    "<span class=\"key\"><i class=\"c{}{dashed}\"></i>{} <b>{}</b></span>",
                    line.colour % COLOURS,
                    escape(&line.name),
                    escape(&line.told)
                ),
            );
        }
        if !self.shaded.is_empty() {
            out.push_str("<span class=\"key\"><i class=\"shade\"></i>not counted</span>");
        }
        out.push_str("</p>");
    }

    fn left_of(&self, place: f64) -> f64 {
        self.x.place(place) * FIELD
    }

    fn top_of(&self, value: f64) -> f64 {
        FIELD - self.y.place(value) * FIELD
    }

    fn draw(&self, out: &mut String) {
        for (from, to) in self.shaded {
            let (from, to) = (self.left_of(*from), self.left_of(*to));
            let width = (to - from).max(0.0);
            push(
                out,
                format_args!(
                    r#"<rect class="shade" x="{from:.1}" y="0" width="{width:.1}" height="{FIELD}"/>"#
                ),
            );
        }
        for tick in self.y.ticks() {
            let y = self.top_of(tick.value);
            push(
                out,
                format_args!(r#"<line class="grid" x1="0" y1="{y:.1}" x2="{FIELD}" y2="{y:.1}"/>"#),
            );
        }
        self.draw_bars(out);
        for line in self.lines {
            self.draw_line(out, line);
        }
        for (place, _) in self.marks {
            let x = self.left_of(*place);
            push(
                out,
                format_args!(r#"<line class="mark" x1="{x:.1}" y1="0" x2="{x:.1}" y2="{FIELD}"/>"#),
            );
        }
    }

    fn draw_bars(&self, out: &mut String) {
        let (bars, colour) = self.bars;
        for bar in bars.iter().filter(|bar| bar.value > 0.0) {
            let (from, to) = (self.left_of(bar.from), self.left_of(bar.to));
            let top = self.top_of(bar.value);
            // A hair between neighbours, and never so thin or flat that it is not seen.
            let (width, height) = ((to - from - 1.5).max(1.5), (FIELD - top).max(6.0));
            push(
                out,
                format_args!(
                    r#"<rect class="bar c{}" x="{from:.1}" y="{:.1}" width="{width:.1}" height="{height:.1}"/>"#,
                    colour % COLOURS,
                    FIELD - height
                ),
            );
        }
    }

    fn draw_line(&self, out: &mut String, line: &Line) {
        let points: Vec<(f64, f64)> = self
            .places
            .iter()
            .zip(&line.values)
            .map(|(place, value)| (self.left_of(*place), *value))
            .collect();
        let colour = line.colour % COLOURS;
        for run in points.split(|(_, value)| !value.is_finite()) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let mut path = String::new();
            for (left, value) in run {
                push(&mut path, format_args!("{left:.1},{:.1} ", self.top_of(*value)));
            }
            if line.stroke == Stroke::Filled {
                push(
                    out,
                    format_args!(
                        r#"<polygon class="area c{colour}" points="{:.1},{FIELD} {path}{:.1},{FIELD}"/>"#,
                        first.0, last.0
                    ),
                );
            }
            let dashed = if line.stroke == Stroke::Dashed { " dashed" } else { "" };
            push(
                out,
                format_args!(
                    r#"<polyline class="line c{colour}{dashed}" points="{}"/>"#,
                    path.trim_end()
                ),
            );
        }
    }

    fn labels(&self, out: &mut String) {
        for tick in self.y.ticks() {
            let (top, text) = (self.top_of(tick.value) / 10.0, (self.y_text)(tick.value));
            push(
                out,
                format_args!("<span class=\"y\" style=\"top:{top:.2}%\">{}</span>", escape(&text)),
            );
        }
        for tick in self.x.ticks() {
            let (left, text) = (self.left_of(tick.value) / 10.0, (self.x_text)(tick.value));
            let minor = if tick.is_major { "" } else { " minor" };
            push(
                out,
                format_args!(
                    "<span class=\"x{minor}\" style=\"left:{left:.2}%\">{}</span>",
                    escape(&text)
                ),
            );
        }
        for (index, (place, name)) in self.marks.iter().enumerate() {
            let left = self.left_of(*place) / 10.0;
            let side = if left > 80.0 { " before" } else { "" };
            // Neighbours may stand close: their names take turns in height.
            let top = 2 + index % 4 * 9;
            push(
                out,
                format_args!(
                    "<span class=\"mark{side}\" style=\"left:{left:.2}%;top:{top}%\">{}</span>",
                    escape(name)
                ),
            );
        }
    }

    /// Upright stripes, each of which tells its values when pointed at.
    fn pointers(&self, out: &mut String) {
        out.push_str("<div class=\"pointers\">");
        for (index, place) in self.places.iter().enumerate() {
            let x = self.left_of(*place);
            let before = index.checked_sub(1).and_then(|i| self.places.get(i));
            let after = self.places.get(index + 1);
            let from = before.map_or(x, |before| (self.left_of(*before) + x) / 2.0);
            let to = after.map_or(x, |after| (self.left_of(*after) + x) / 2.0);
            let mut told = (self.x_text)(*place);
            for line in self.lines.iter().take(TOLD_MAX) {
                let Some(value) = line.values.get(index).filter(|v| v.is_finite()) else {
                    continue;
                };
                push(&mut told, format_args!("\n{}: {}", line.name, (self.y_text)(*value)));
            }
            pointer(out, (from, to), &told);
        }
        for bar in self.bars.0.iter().filter(|bar| bar.value > 0.0) {
            let told = format!(
                "{} – {}\n{}",
                (self.x_text)(bar.from),
                (self.x_text)(bar.to),
                (self.y_text)(bar.value)
            );
            pointer(out, (self.left_of(bar.from), self.left_of(bar.to)), &told);
        }
        out.push_str("</div>");
    }
}

fn pointer(out: &mut String, (from, to): (f64, f64), told: &str) {
    let side = if from + to > FIELD { " class=\"before\"" } else { "" };
    push(
        out,
        format_args!(
            "<i{side} style=\"left:{:.2}%;width:{:.2}%\"><b>{}</b></i>",
            from / 10.0,
            (to - from).max(1.0) / 10.0,
            escape(told)
        ),
    );
}

/// At most [`POINTS_MAX`] values: the mean of neighbours, or the highest of them where a peak must
/// not get lost. What is no number is left out; where nothing else is, it stays.
pub fn thin(values: &[f64], keep_peaks: bool) -> Vec<f64> {
    if values.len() <= POINTS_MAX {
        return values.to_vec();
    }
    let merge = |chunk: &[f64]| {
        let known: Vec<f64> = chunk.iter().copied().filter(|value| !value.is_nan()).collect();
        match known.is_empty() {
            true => f64::NAN,
            false if keep_peaks => known.into_iter().fold(f64::MIN, f64::max),
            false => known.iter().sum::<f64>() / known.len() as f64,
        }
    };
    values.chunks(values.len().div_ceil(POINTS_MAX)).map(merge).collect()
}

/// Writing into a `String` cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;

    fn plot<'a>(places: &'a [f64], lines: &'a [Line], bars: &'a [Bar]) -> Plot<'a> {
        Plot {
            heading: "a <plot>",
            caption: "how it is read",
            y_title: "things",
            x_title: "time",
            x: Axis::between(0.0, 10.0),
            y: Axis::from_zero(100.0),
            x_text: text::seconds,
            y_text: text::short,
            places,
            lines,
            bars: (bars, 3),
            shaded: &[(0.0, 2.0)],
            marks: &[(5.0, "p<50>")],
            empty: None,
        }
    }

    fn line(name: &str, values: &[f64]) -> Line {
        Line {
            name: name.to_owned(),
            told: "7".to_owned(),
            values: values.to_vec(),
            colour: 9,
            stroke: Stroke::Solid,
        }
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_and_names_are_escaped() {
        let lines = [line("<b>&", &[0.0, 100.0])];
        let html = plot(&[0.0, 10.0], &lines, &[]).html();
        assert!(html.contains(r#"class="line c1" points="0.0,1000.0 1000.0,0.0""#), "{html}");
        assert!(html.contains("&lt;b&gt;&amp;: 100"), "{html}");
        assert!(html.contains("p&lt;50&gt;") && html.contains("a &lt;plot&gt;"), "{html}");
        assert!(!html.contains("<b>&"));
    }

    #[test]
    fn a_gap_parts_a_line() {
        let places = [0.0, 1.0, 2.0, 3.0, 4.0];
        let lines = [line("x", &[1.0, 2.0, f64::NAN, 3.0, 4.0])];
        let html = plot(&places, &lines, &[]).html();
        assert_eq!(html.matches("<polyline").count(), 2, "{html}");
        assert!(!html.contains("NaN"), "{html}");
    }

    #[test]
    fn a_bar_stands_where_it_belongs_and_an_empty_one_is_none() {
        let bar = |from, to, value| Bar { from, to, value };
        let bars = [bar(0.0, 1.0, 50.0), bar(1.0, 2.0, 0.0), bar(2.0, 3.0, f64::NAN)];
        let html = plot(&[], &[], &bars).html();
        assert_eq!(html.matches("class=\"bar c3\" x=\"0.0\" y=\"500.0\"").count(), 1, "{html}");
        assert_eq!(html.matches("class=\"bar").count(), 1, "{html}");
        assert!(html.contains("0 s – 1 s\n50"), "{html}");
    }

    #[test]
    fn a_plot_of_nothing_is_a_plot_still() {
        let empty = Plot { empty: Some("nothing"), ..plot(&[], &[], &[]) };
        let html = empty.html();
        assert!(html.contains("<p class=\"empty\">nothing</p>"), "{html}");
        assert!(html.starts_with("<section") && html.ends_with("</section>"), "{html}");
    }

    #[test]
    fn a_long_run_is_thinned_and_keeps_its_peak() {
        let mut values = vec![1.0; 1800];
        values[777] = 500.0;
        values[778] = f64::NAN;
        assert!(thin(&values, true).len() <= POINTS_MAX);
        assert!(thin(&values, true).contains(&500.0));
        assert!(!thin(&values, false).contains(&500.0));
        assert!(thin(&values, false).iter().all(|value| value.is_finite()));
        assert!(thin(&[f64::NAN; 1800], true).iter().all(|value| value.is_nan()));
        assert_eq!(thin(&[1.0, 2.0], false), [1.0, 2.0]);
    }
}
