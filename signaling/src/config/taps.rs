//! The flags of taps.
#![forbid(unsafe_code)]

use clap::Args;

use super::{ConfigError, wrong};
use crate::outgoing::url::HttpUrl;
use crate::taps::Allowed;

/// Programs at most: each address that is asked for is compared with all of them.
const MAX_ALLOWED: usize = 64;

/// Taps.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Taps (voices for programs outside, begun and ended by the admin API)"
)]
pub struct TapArguments {
    /// Program that voices may go to, as wss://HOST[:PORT] (or ws://), with no path. Can be given
    /// several times, or with commas between. Without it voices go nowhere.
    #[arg(long, env = "OPENCALL_TAP_ALLOW", value_name = "ORIGIN", value_delimiter = ',')]
    pub tap_allow: Vec<String>,
    /// Rooms that may be tapped at a time.
    #[arg(long, env = "OPENCALL_TAP_LIMIT", value_name = "COUNT", default_value_t = 8)]
    pub tap_limit: usize,
}

/// Where to and how much is tapped.
#[derive(Clone)]
pub struct TapsConfig {
    /// Where voices may go.
    pub allowed: Allowed,
    /// Rooms at a time.
    pub at_once: usize,
}

impl TapArguments {
    /// `None`: nothing can be tapped.
    pub(super) fn read(self) -> Result<Option<TapsConfig>, ConfigError> {
        if self.tap_allow.is_empty() {
            return Ok(None);
        }
        if self.tap_allow.len() > MAX_ALLOWED {
            return wrong(format!("--tap-allow: {MAX_ALLOWED} programs are the most"));
        }
        if self.tap_limit == 0 {
            return wrong("--tap-limit is 0: leave --tap-allow out to tap nothing");
        }
        let origin = |text: &String| {
            let url = HttpUrl::parse_websocket(text).and_then(|url| match url.target() {
                "/" => Ok(url),
                _ => Err("give scheme, host and port alone".to_owned()),
            });
            url.or_else(|reason| {
                wrong(format!("--tap-allow (OPENCALL_TAP_ALLOW): {text}: {reason}"))
            })
        };
        let origins = self.tap_allow.iter().map(origin).collect::<Result<_, _>>()?;
        Ok(Some(TapsConfig { allowed: Allowed { origins }, at_once: self.tap_limit }))
    }
}
