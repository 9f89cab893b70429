//! Bars that lie beside their names and values: a few quantities compared by their lengths.
#![forbid(unsafe_code)]

use super::plot::COLOURS;
use super::text::{self, escape};

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// How long its parts are; the second is drawn lighter.
    pub parts: [f64; 2],
    /// Its value, as it is written.
    pub told: String,
    /// Number of its colour.
    pub colour: usize,
    /// Drawn thin: one of several that another row sums up.
    pub is_minor: bool,
}

/// A card of bars, the longest of which fills its width.
pub fn card(heading: &str, caption: &str, rows: &[Row]) -> String {
    let longest = rows.iter().map(|row| row.parts.map(length).iter().sum()).fold(0.0, f64::max);
    let rows: String = rows.iter().map(|row| html(row, longest)).collect();
    format!(
        "<section class=\"card\"><h2>{}</h2><p class=\"caption\">{}</p>\
         <div class=\"bars\">{rows}</div></section>",
        escape(heading),
        escape(caption)
    )
}

fn html(row: &Row, longest: f64) -> String {
    let minor = if row.is_minor { " minor" } else { "" };
    let part = |(index, part): (usize, &f64)| {
        let share = if longest > 0.0 { length(*part) / longest * 100.0 } else { 0.0 };
        let light = if index > 0 { " class=\"light\"" } else { "" };
        format!("<i{light} style=\"width:{share:.2}%\"></i>")
    };
    let parts: String =
        row.parts.iter().enumerate().filter(|(_, part)| length(**part) > 0.0).map(part).collect();
    format!(
        "<span class=\"name{minor}\">{}</span><div class=\"track c{}{minor}\">{parts}</div>\
         <b class=\"told{minor}\">{}</b>",
        escape(&row.name),
        row.colour % COLOURS,
        escape(&text::keep_units(&row.told))
    )
}

/// What has no length has none to draw.
fn length(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(parts: [f64; 2]) -> Row {
        let name = "a <b>".to_owned();
        Row { name, parts, told: "4 µs".to_owned(), colour: 1, is_minor: false }
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_their_share_of_it() {
        let card = card("heading", "caption", &[row([6.0, 2.0]), row([1.0, 1.0])]);
        for width in ["75.00%", "25.00%", "12.50%"] {
            assert!(card.contains(&format!("width:{width}")), "{width} in {card}");
        }
        assert!(card.contains("a &lt;b&gt;") && card.contains("4\u{a0}µs"), "{card}");
    }

    #[test]
    fn what_is_no_length_is_no_bar() {
        for parts in [[f64::NAN, -1.0], [f64::INFINITY, 0.0], [0.0, 0.0]] {
            let card = card("", "", &[row(parts)]);
            assert!(!card.contains("width:"), "{card}");
        }
    }
}
