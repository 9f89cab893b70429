//! The flags of pushes.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;

use super::{ConfigError, wrong};
use crate::push::{Address, Allowed};

/// Servers at most: each address that is asked for is compared with all of them.
const MAX_ALLOWED: usize = 64;

/// Pushes.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Pushes (broadcasts by RTMP or SRT, begun and ended by the admin API)"
)]
pub struct PushArguments {
    /// Server that participants may be broadcast to, as rtmps://HOST[:PORT], rtmp://HOST[:PORT] or
    /// srt://HOST:PORT, with no path. Can be given several times, or with commas between. Without
    /// it nothing is broadcast. Needs ffmpeg.
    #[arg(long, env = "OPENCALL_PUSH_ALLOW", value_name = "ORIGIN", value_delimiter = ',')]
    pub push_allow: Vec<String>,
    /// Rooms of which somebody may be broadcast at a time. Each is a process, which encodes
    /// pictures that are not H264.
    #[arg(long, env = "OPENCALL_PUSH_LIMIT", value_name = "COUNT", default_value_t = 4)]
    pub push_limit: usize,
    /// Certificates (PEM) that servers with rtmps are trusted by, in place of the system's.
    #[arg(long, env = "OPENCALL_PUSH_CA", value_name = "FILE")]
    pub push_ca: Option<PathBuf>,
}

/// Where to and how much is pushed.
#[derive(Clone)]
pub struct PushesConfig {
    /// Where pushes may go.
    pub allowed: Allowed,
    /// Rooms at a time.
    pub at_once: usize,
}

impl PushArguments {
    /// `None`: nothing can be pushed.
    pub(super) fn read(self) -> Result<Option<PushesConfig>, ConfigError> {
        if self.push_allow.is_empty() {
            return Ok(None);
        }
        if self.push_allow.len() > MAX_ALLOWED {
            return wrong(format!("--push-allow: {MAX_ALLOWED} servers are the most"));
        }
        if self.push_limit == 0 {
            return wrong("--push-limit is 0: leave --push-allow out to broadcast nothing");
        }
        if let Some(ca) = self.push_ca.as_ref().filter(|ca| std::fs::File::open(ca).is_err()) {
            return wrong(format!("--push-ca: {} cannot be read", ca.display()));
        }
        let origin = |text: &String| {
            Address::parse_origin(text).or_else(|reason| {
                wrong(format!("--push-allow (OPENCALL_PUSH_ALLOW): {text}: {reason}"))
            })
        };
        let origins = self.push_allow.iter().map(origin).collect::<Result<_, _>>()?;
        let allowed = Allowed { origins, ca: self.push_ca };
        Ok(Some(PushesConfig { allowed, at_once: self.push_limit }))
    }
}
