//! DTLS-SRTP (RFC 5764): one endpoint per transport, DTLS 1.2 and 1.3, both roles.
//!
//! * `certificate` — our certificate, and the client's fingerprints.
//! * `profile_choice` — which SRTP profile we pick from a ClientHello.
//! * [`DtlsEndpoint`] — one association, sans-IO. Keys come out only once the client's certificate
//!   has been checked against the fingerprint that signaling brought; either may come first.
#![forbid(unsafe_code)]

mod certificate;
mod endpoint;
mod profile_choice;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::srtp::Profile;

use crate::api::DtlsFingerprint;
use crate::error::ControlError;

pub use certificate::{CertificateSource, MAX_FINGERPRINTS, PeerFingerprints};
pub use endpoint::{DtlsEndpoint, DtlsOutput, Role};

/// First wait before a flight is sent again. RFC 6347 suggests 1 s; addresses are already proven by
/// ICE, and a lost flight is a second of black screen. Lower than a slow round trip would repeat
/// flights needlessly.
const FLIGHT_RTO: Duration = Duration::from_millis(300);

/// Repeats of a flight, each waiting twice as long as the one before: 300 ms × (2^7 − 1) is about
/// 38 s, what [`HANDSHAKE_TIMEOUT`] allows.
const FLIGHT_RETRIES: usize = 6;

/// A handshake that takes longer has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(40);

/// Bytes of a datagram with handshake records: as media, below any path's MTU.
const DTLS_MTU_BYTES: usize = 1200;

/// The newest protocol version to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtlsVersion {
    /// DTLS 1.2 only (RFC 6347).
    Dtls12,
    /// DTLS 1.3 where the client has it, else 1.2 (RFC 9147).
    #[default]
    Dtls13,
}

/// Settings of all endpoints.
#[derive(Clone)]
pub struct DtlsConfig {
    /// Our certificate.
    pub certificate: CertificateSource,
    /// The newest version.
    pub max_version: DtlsVersion,
    /// SRTP profiles that may be used, the most wanted first.
    pub srtp_profiles: Vec<Profile>,
}

impl Default for DtlsConfig {
    fn default() -> Self {
        DtlsConfig {
            certificate: CertificateSource::Generate,
            max_version: DtlsVersion::default(),
            srtp_profiles: vec![
                Profile::AeadAes128Gcm,
                Profile::AeadAes256Gcm,
                Profile::AesCm128HmacSha1_80,
            ],
        }
    }
}

/// What all endpoints share.
pub struct DtlsContext {
    certificate: certificate::Certificate,
    library: Arc<dimpl::Config>,
    max_version: DtlsVersion,
    srtp_profiles: Vec<Profile>,
}

impl DtlsContext {
    /// Loads or makes the certificate.
    pub fn new(config: &DtlsConfig) -> Result<Self, ControlError> {
        if config.srtp_profiles.is_empty() {
            let reason = "no SRTP profile is allowed: name at least AEAD_AES_128_GCM";
            return Err(ControlError::Config(reason.to_owned()));
        }
        // No cookie exchange: datagrams come only from addresses that answered an ICE check, so it
        // would cost every client a round trip to prove what is known.
        let library = dimpl::Config::builder()
            .with_crypto_provider(profile_choice::crypto_provider())
            .use_server_cookie(false)
            .require_client_certificate(true)
            .mtu(DTLS_MTU_BYTES)
            .flight_start_rto(FLIGHT_RTO)
            .flight_retries(FLIGHT_RETRIES)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .map_err(|error| ControlError::Config(format!("DTLS: {error}")))?;
        Ok(DtlsContext {
            certificate: certificate::Certificate::load(&config.certificate)?,
            library: Arc::new(library),
            max_version: config.max_version,
            srtp_profiles: config.srtp_profiles.clone(),
        })
    }

    /// The SHA-256 fingerprint of our certificate.
    pub fn fingerprint(&self) -> DtlsFingerprint {
        self.certificate.fingerprint()
    }
}
