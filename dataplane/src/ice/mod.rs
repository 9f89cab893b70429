//! ICE-lite (RFC 8445, RFC 8489).
#![forbid(unsafe_code)]

use std::time::Duration;

/// How long a transport may go without a valid check before it counts as disconnected: the 30 s
/// after which consent to send expires (RFC 7675 section 5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
