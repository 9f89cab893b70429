//! The flags of recordings.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;
use opencall_recorder::sink::SinkConfig;

use super::{ConfigError, wrong};

/// Bytes of the megabyte that flags count in.
const MEGABYTE: u64 = 1_000_000;

/// Recordings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recordings (begun and ended by the admin API)")]
pub struct RecordingArguments {
    /// Folder for recordings, made if it is not there. Without it nothing can be recorded.
    #[arg(long, env = "OPENCALL_RECORDING_DIR", value_name = "DIR")]
    pub recording_dir: Option<PathBuf>,
    /// Rooms that may be recorded at a time.
    #[arg(long, env = "OPENCALL_RECORDING_LIMIT", value_name = "COUNT", default_value_t = 8)]
    pub recording_limit: usize,
    /// Megabytes that one recording may have; it ends then.
    #[arg(
        long,
        env = "OPENCALL_RECORDING_MAX_SIZE",
        value_name = "MEGABYTES",
        default_value_t = 20_000
    )]
    pub recording_max_size: u64,
    /// Megabytes that stay free on the disk: recordings end before.
    #[arg(
        long,
        env = "OPENCALL_RECORDING_MIN_FREE",
        value_name = "MEGABYTES",
        default_value_t = 1_000
    )]
    pub recording_min_free: u64,
}

/// Where and how much is recorded.
#[derive(Debug, Clone)]
pub struct RecordingsConfig {
    /// For the sink.
    pub sink: SinkConfig,
    /// Rooms at a time.
    pub at_once: usize,
}

impl RecordingArguments {
    /// `None`: nothing can be recorded.
    pub(super) fn read(self) -> Result<Option<RecordingsConfig>, ConfigError> {
        let Some(folder) = self.recording_dir else { return Ok(None) };
        if let Err(error) = std::fs::create_dir_all(&folder) {
            return wrong(format!(
                "--recording-dir {}: {error}; give a folder that this user may write to",
                folder.display()
            ));
        }
        if self.recording_limit == 0 {
            return wrong("--recording-limit is 0: leave --recording-dir out to record nothing");
        }
        let bytes = |megabytes: u64| megabytes.saturating_mul(MEGABYTE);
        let sink = SinkConfig {
            folder,
            max_bytes: bytes(self.recording_max_size),
            min_free: bytes(self.recording_min_free),
        };
        Ok(Some(RecordingsConfig { sink, at_once: self.recording_limit }))
    }
}
