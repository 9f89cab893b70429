//! Files of keys, read again when they change.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::jwks::MAX_SET_BYTES;

/// How often a file is looked at, while tokens come. A look costs a system call.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file that is read, bytes.
const MAX_FILE_BYTES: u64 = MAX_SET_BYTES as u64;

/// Turns the bytes of a file into its value, or says what is wrong with them.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// A file, and what it held when it was last good.
pub struct Watched<T> {
    path: PathBuf,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamp: Stamp,
    looked_at: Instant,
}

/// What changes when a file is written or replaced: inode, size, and the time of the last change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl<T> Watched<T> {
    /// Reads the file; the error is one line without the file's name.
    pub fn open(path: &Path, parse: Parse<T>, now: Instant) -> Result<Self, String> {
        let stamp = stamp(path).map_err(|error| error.to_string())?;
        let value = Arc::new(parse(&read(path)?)?);
        let state = Mutex::new(State { value, stamp, looked_at: now });
        Ok(Watched { path: path.to_owned(), parse, state })
    }

    /// What the file holds. One that cannot be read, or holds nonsense, leaves the keys as they
    /// were: half-written files are no reason to lock everyone out.
    pub fn current(&self, now: Instant) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.looked_at) < LOOK_INTERVAL {
            return Arc::clone(&state.value);
        }
        state.looked_at = now;
        match stamp(&self.path) {
            Ok(stamp) if stamp == state.stamp => return Arc::clone(&state.value),
            // Kept before the file is read: what is written meanwhile is seen at the next look.
            Ok(stamp) => state.stamp = stamp,
            // A file that is being replaced is back at the next look.
            Err(_) => return Arc::clone(&state.value),
        }
        match read(&self.path).and_then(|bytes| (self.parse)(&bytes)) {
            Ok(value) => {
                tracing::info!(file = %self.path.display(), "read anew");
                state.value = Arc::new(value);
            }
            Err(reason) => {
                tracing::warn!(file = %self.path.display(), reason, "not taken: the keys stay");
            }
        }
        Arc::clone(&state.value)
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp(metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u32, String> {
        String::from_utf8_lossy(bytes).trim().parse().map_err(|_| "no number".to_owned())
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("opencall-watched-{}", std::process::id()));
        let begin = Instant::now();
        assert!(Watched::open(&path, number, begin).is_err(), "there is no file yet");
        std::fs::write(&path, "1").unwrap();
        let file = Watched::open(&path, number, begin).unwrap_or_else(|error| panic!("{error}"));
        let mut look = 0;
        let mut current = |file: &Watched<u32>| {
            look += 1;
            *file.current(begin + LOOK_INTERVAL * look)
        };
        std::fs::write(&path, "22").unwrap();
        assert_eq!(*file.current(begin), 1, "it is not looked at all the time");
        assert_eq!(current(&file), 22);
        std::fs::write(&path, "not a number").unwrap();
        assert_eq!(current(&file), 22);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(current(&file), 22);
        // Replaced as a whole, as editors and Kubernetes do.
        let other = path.with_extension("new");
        std::fs::write(&other, "333").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(current(&file), 333);
        std::fs::write(&path, "4".repeat(MAX_SET_BYTES + 1)).unwrap();
        assert_eq!(current(&file), 333);
        std::fs::remove_file(&path).unwrap();
    }
}
