//! Numbers and names as people read them, and as HTML takes them.
#![forbid(unsafe_code)]

/// Text for HTML and SVG, in elements and in quoted attributes alike.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in XML, not even as references.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The text with figures and their units kept on one line.
pub fn keep_units(text: &str) -> String {
    ["µs", "ms", "s", "%", "KiB", "MiB", "GiB", "Mbit/s", "min"].iter().fold(
        text.to_owned(),
        |text, unit| {
            let parts: Vec<&str> = text.split(&format!(" {unit}")).collect();
            let mut kept = String::new();
            for (i, part) in parts.iter().enumerate() {
                // Only where a figure stands before and the unit ends there.
                let is_unit = kept.ends_with(|c: char| c.is_ascii_digit())
                    && !part.starts_with(char::is_alphanumeric);
                if i > 0 {
                    kept.push(if is_unit { '\u{a0}' } else { ' ' });
                    kept.push_str(unit);
                }
                kept.push_str(part);
            }
            kept
        },
    )
}

/// Three digits that count: `0.123`, `1.23`, `12.3`, `1 230`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 1000.0 {
        return grouped(value.round());
    }
    let digits = match size {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.995 => 2,
        0.0 => 0,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A whole number in groups of three.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    if value < 0.0 {
        out.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// With k, M or G where it is large; for axes and headlines.
pub fn short(value: f64) -> String {
    for (size, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= size {
            return format!("{}{suffix}", trimmed(value / size));
        }
    }
    trimmed(value)
}

/// A time given in microseconds.
pub fn micros(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} s", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{} ms", trimmed(v / 1e3)),
        v => format!("{} µs", trimmed(v)),
    }
}

/// A share of 1 as percent; one that is not nothing never reads as nothing.
pub fn percent(value: f64) -> String {
    if value > 0.0 && value < 5e-6 {
        return "< 0.001 %".to_owned();
    }
    format!("{} %", trimmed(value * 100.0))
}

/// Bytes in binary units.
pub fn bytes(value: f64) -> String {
    for (size, unit) in
        [(1024.0 * 1024.0 * 1024.0, "GiB"), (1024.0 * 1024.0, "MiB"), (1024.0, "KiB")]
    {
        if value.abs() >= size {
            return format!("{} {unit}", trimmed(value / size));
        }
    }
    format!("{} B", trimmed(value))
}

/// Seconds, as `m:ss` from a minute on.
pub fn seconds(value: f64) -> String {
    if value < 60.0 {
        return format!("{} s", trimmed(value));
    }
    let whole = value.round() as u64;
    format!("{}:{:02} min", whole / 60, whole % 60)
}

/// A time of the calendar in UTC from seconds since 1970.
pub fn utc(unix_s: u64) -> String {
    let days = unix_s / 86_400;
    let (hour, minute) = (unix_s / 3600 % 24, unix_s / 60 % 60);
    // Years of 365.2425 days counted from March, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// At most three digits that count, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = number(value);
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_html_reads_survives() {
        assert_eq!(
            escape("</script><b onload=\"x('&')\">"),
            "&lt;/script&gt;&lt;b onload=&quot;x(&#39;&amp;&#39;)&quot;&gt;"
        );
        assert_eq!(escape("bell\u{7} null\0 line\n"), "bell\u{fffd} null\u{fffd} line\n");
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.2345, "1.23"),
            (12.345, "12.3"),
            (99.97, "100"),
            (1234.5, "1\u{202f}235"),
            (-1_234_567.0, "-1\u{202f}234\u{202f}567"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
        assert_eq!(short(42_000.0), "42k");
        assert_eq!(short(1_250_000.0), "1.25M");
        assert_eq!((micros(85.0), micros(1_250.0)), ("85 µs".into(), "1.25 ms".into()));
        assert_eq!(micros(2e6), "2 s");
        assert_eq!(percent(0.0012), "0.12 %");
        assert_eq!((percent(0.0), percent(1e-7)), ("0 %".into(), "< 0.001 %".into()));
        assert_eq!(bytes(65_536.0), "64 KiB");
        assert_eq!((seconds(20.0), seconds(1805.0)), ("20 s".into(), "30:05 min".into()));
    }

    #[test]
    fn units_stay_with_their_figures() {
        for (text, kept) in [
            ("took 7.97 µs of it, 5 % more", "took 7.97\u{a0}µs of it, 5\u{a0}% more"),
            ("within 62 ms.", "within 62\u{a0}ms."),
            ("4 streams stayed silent", "4 streams stayed silent"),
            ("for 20 s", "for 20\u{a0}s"),
            ("packets sent", "packets sent"),
        ] {
            assert_eq!(keep_units(text), kept);
        }
    }

    #[test]
    fn the_calendar_knows_leap_days() {
        for (unix_s, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_210_100, "2024-02-29 12:35 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(unix_s), text);
        }
    }
}
