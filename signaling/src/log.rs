//! The log: one line per event, whatever peers put into ids, paths and headers.
//!
//! Fields are written through `Escaped`, so that no call site has to think of it: a line break or
//! an escape sequence from outside can neither forge a line nor move a terminal's cursor.
#![forbid(unsafe_code)]

use std::fmt::{self, Debug, Write};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// The longest field in the log, bytes: ids and reasons have under 300; a header may have 16 KiB.
const MAX_FIELD_BYTES: usize = 1024;

/// What is logged, and where to.
pub fn subscriber<W>(filter: EnvFilter, writer: W, ansi: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .finish()
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    let mut escaped = Escaped { writer, left: MAX_FIELD_BYTES };
    // An error means that the field is longer than it may be, which is said in its place.
    if write!(escaped, "{value:?}").is_err() && escaped.left == 0 {
        return writer.write_char('…');
    }
    Ok(())
}

/// Passes text on with its control characters escaped, up to a length.
struct Escaped<'a, 'w> {
    writer: &'a mut Writer<'w>,
    left: usize,
}

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left < character.len_utf8() {
                self.left = 0;
                return Err(fmt::Error);
            }
            self.left -= character.len_utf8();
            match is_active(character) {
                true => write!(self.writer, "{}", character.escape_default())?,
                false => self.writer.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// Whether a terminal or a log viewer acts on it instead of showing it: control characters, line
/// and paragraph separators, and marks that change the direction of the text around them.
fn is_active(character: char) -> bool {
    let moves_text = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    character.is_control() || moves_text
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes, without the time.
    fn logged(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(EnvFilter::new("info"), move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.split_once("  INFO ").expect("a time and a level").1.to_owned()
    }

    #[test]
    fn an_ordinary_line_looks_as_ever() {
        let line = logged(|| tracing::info!(room = "r", count = 3, line = %"x", "Jürgen joined"));
        assert_eq!(line, "Jürgen joined room=\"r\" count=3 line=x\n");
    }

    #[test]
    fn no_field_can_forge_a_line_or_move_the_cursor() {
        let id = "a\r\n2026-01-01T00:00:00Z  INFO all is well\u{1b}[2K\u{9b}1A\u{7f}\u{202e}\u{2028}\
                  \u{0}";
        let expected = "a\\r\\n2026-01-01T00:00:00Z  INFO all is well\\u{1b}[2K\\u{9b}1A\\u{7f}\
                        \\u{202e}\\u{2028}\\u{0}";
        assert_eq!(logged(|| tracing::info!("{id}")), format!("{expected}\n"));
        assert_eq!(logged(|| tracing::info!(%id, "x")), format!("x id={expected}\n"));
        let debug = logged(|| tracing::info!(id, other = ?id, "x"));
        assert_eq!(debug.matches('\n').count(), 1, "{debug}");
        assert!(!debug.contains('\u{1b}') && !debug.contains('\u{9b}'), "{debug}");
        let error = io::Error::other(id);
        let error: &(dyn std::error::Error + 'static) = &error;
        assert_eq!(logged(|| tracing::info!(error, "x")).matches('\n').count(), 1);
    }

    #[test]
    fn a_long_field_is_cut() {
        let line = logged(|| tracing::info!(path = %"é".repeat(9_000), after = 1, "x"));
        assert_eq!(line, format!("x path={}… after=1\n", "é".repeat(512)));
    }
}
