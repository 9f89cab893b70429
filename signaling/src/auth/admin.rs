//! Keys of administrators, apart from those of join tokens: whoever mints tokens for meetings need
//! not be able to end them.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::keys::ApiKeys;
use super::watched::Watched;

/// Keys of administrators. No `Debug`: they are secrets.
#[derive(Default)]
pub struct AdminKeys {
    /// Of the command line.
    pub keys: ApiKeys,
    /// Of a file.
    pub file: Option<Watched<ApiKeys>>,
}

impl AdminKeys {
    /// Whether there is none: the admin API is off then.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.file.is_none()
    }

    /// The name of the key whose secret this is. How long it takes tells nothing of the secrets.
    pub fn holder(&self, secret: &str) -> Option<String> {
        let file = self.file.as_ref().map(|file| file.current(Instant::now()));
        let of_file = file.as_ref().and_then(|keys| keys.holder(secret).map(str::to_owned));
        let of_line = self.keys.holder(secret).map(str::to_owned);
        of_line.or(of_file)
    }
}
