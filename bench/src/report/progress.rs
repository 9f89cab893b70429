//! What the terminal shows while a scenario runs: one line that is written over on a terminal,
//! a plain line now and then elsewhere.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use super::text;
use crate::result::Second;

/// Between two plain lines, seconds: a log of a long run stays readable.
const PLAIN_EVERY_S: f64 = 5.0;

/// Cells of the bar.
const BAR: usize = 16;

/// Back to the line's start, without a wrap: a line longer than the terminal would leave its rest
/// behind when it is written over. Terminals that do not know the mode ignore it.
const BEGIN: &str = "\r\x1b[?7l";

/// Nothing of the longer line before, and wraps again.
const END: &str = "\x1b[K\x1b[?7h";

/// Shows how a run goes.
#[derive(Debug)]
pub struct Progress<W: Write> {
    out: W,
    is_terminal: bool,
    total_s: Option<f64>,
    last_plain_s: Option<f64>,
    was_measured: bool,
    is_open: bool,
}

impl<W: Write> Progress<W> {
    /// For a run of about `total_s` seconds, where that is known; on a terminal lines are written
    /// over.
    pub fn new(out: W, is_terminal: bool, total_s: Option<f64>) -> Self {
        Progress {
            out,
            is_terminal,
            total_s,
            last_plain_s: None,
            was_measured: false,
            is_open: false,
        }
    }

    /// Shows the second that has just ended.
    ///
    /// # Errors
    /// What writing says.
    pub fn show(&mut self, second: &Second) -> io::Result<()> {
        if self.is_terminal {
            self.is_open = true;
            write!(self.out, "{BEGIN}{}{END}", live_line(second, self.total_s))?;
            return self.out.flush();
        }
        // Who watches a log wants to know at once that it is measured now.
        let is_news = second.measured != self.was_measured;
        self.was_measured = second.measured;
        if !is_news && self.last_plain_s.is_some_and(|last| second.t < last + PLAIN_EVERY_S - 0.5) {
            return Ok(());
        }
        self.last_plain_s = Some(second.t);
        writeln!(self.out, "{}", plain_line(second))?;
        self.out.flush()
    }

    /// Ends the line, so that what follows stands below it.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_open) {
            writeln!(self.out)?;
        }
        self.out.flush()
    }
}

/// One second for a terminal.
pub fn live_line(second: &Second, total_s: Option<f64>) -> String {
    let time = match total_s {
        Some(total) => {
            format!("{} {:>3.0}/{:.0} s", bar(second.t, total), second.t, total.max(second.t))
        }
        None => format!("{:>3.0} s", second.t),
    };
    format!("{time}  {}", words(second))
}

/// One second for a log.
pub fn plain_line(second: &Second) -> String {
    format!("{:6.1} s  {}", second.t, words(second))
}

/// In columns, so that the eye sees what changes.
fn words(second: &Second) -> String {
    format!(
        "{:11}  {:>4} people  {:>5} packets/s  p50 {:>7}  p99 {:>7}  {} lost  \
         CPU: server {:>3} %, load {:>3.0} %",
        // `perf/` begins to look at the first second that says so.
        if second.measured { "measuring" } else { "not counted" },
        second.participants,
        text::short(second.packets_per_s),
        text::micros(second.latency_p50_us),
        text::micros(second.latency_p99_us),
        second.lost,
        server_cpu(second),
        second.generator_cpu * 100.0,
    )
}

/// In percent of one CPU; a dash where no process of the server is known.
fn server_cpu(second: &Second) -> String {
    if second.threads.is_empty() {
        return "–".to_owned();
    }
    let share: f64 = second.threads.iter().map(|thread| thread.user + thread.system).sum();
    format!("{:.0}", share * 100.0)
}

fn bar(t: f64, total_s: f64) -> String {
    let share = if total_s > 0.0 { (t / total_s).clamp(0.0, 1.0) } else { 0.0 };
    let done = (share * BAR as f64).round() as usize;
    format!("[{}{}]", "=".repeat(done), " ".repeat(BAR.saturating_sub(done)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::ThreadCpu;

    fn second(t: f64) -> Second {
        Second {
            t,
            measured: t > 3.5,
            participants: 100,
            packets_per_s: 42_000.0,
            latency_p50_us: 61.0,
            latency_p99_us: 1_250.0,
            threads: vec![ThreadCpu { user: 0.25, system: 0.5, ..ThreadCpu::default() }],
            generator_cpu: 0.6,
            ..Second::default()
        }
    }

    fn shown(is_terminal: bool, seconds: u32) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, is_terminal, Some(20.0));
        for t in 1..=seconds {
            progress.show(&second(f64::from(t))).unwrap();
        }
        progress.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_second_is_one_line() {
        assert_eq!(
            live_line(&second(10.0), Some(20.0)),
            "[========        ]  10/20 s  measuring     100 people    42k packets/s  p50   61 µs  \
             p99 1.25 ms  0 lost  CPU: server  75 %, load  60 %"
        );
        assert!(live_line(&second(30.0), Some(20.0)).contains("]  30/30 s"));
        assert!(live_line(&second(1.0), None).starts_with("  1 s  not counted"));
        let unseen = Second { threads: Vec::new(), ..second(1.0) };
        assert!(plain_line(&unseen).ends_with("CPU: server   – %, load  60 %"));
    }

    #[test]
    fn a_terminal_keeps_one_line() {
        let text = shown(true, 12);
        assert_eq!(text.matches('\r').count(), 12);
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(text.matches("\x1b[?7l").count(), text.matches("\x1b[?7h").count());
    }

    #[test]
    fn a_log_gets_a_plain_line_now_and_then_and_the_first_that_counts() {
        let text = shown(false, 15);
        let starts: Vec<&str> = text.lines().map(|line| line[..21].trim()).collect();
        let expected =
            ["1.0 s  not counted", "4.0 s  measuring", "9.0 s  measuring", "14.0 s  measuring"];
        assert_eq!(starts, expected);
        assert!(!text.contains('\r') && !text.contains('\u{1b}'));
    }

    #[test]
    fn an_absurd_second_is_a_line_still() {
        let absurd = Second { t: 1e9, packets_per_s: f64::MAX, lost: u64::MAX, ..second(1.0) };
        assert_eq!(live_line(&absurd, Some(0.0)).lines().count(), 1);
        assert_eq!(plain_line(&absurd).lines().count(), 1);
    }
}
