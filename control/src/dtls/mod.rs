//! DTLS-SRTP (RFC 5764): one endpoint per transport, DTLS 1.2 and 1.3, both roles.
//!
//! A datagram's way until keys are agreed on:
//!
//! * `record` — records and fragments, read and checked; what contradicts itself is dropped by
//!   name.
//! * `reassembly` — messages in the clear, put together however they were cut.
//! * `server`, `client` — which messages a handshake follows, and what must verify before it does.
//! * `attempt` — one run of the library, of which there may be several until one is authenticated.
//! * [`DtlsEndpoint`] — one association, sans-IO. Keys come out only once the client's certificate
//!   has been checked against the fingerprint that signaling brought; either may come first.
//!
//! `certificate` has our certificate and the client's fingerprints, `message` what is read in a
//! handshake message, `verify` the signatures of DTLS 1.2.
#![forbid(unsafe_code)]

mod attempt;
mod certificate;
mod client;
mod endpoint;
mod message;
mod reassembly;
mod record;
mod server;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use dimpl::SrtpProfile;
use opencall_wire::srtp::Profile;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::api::DtlsFingerprint;
use crate::error::ControlError;

pub use certificate::{CertificateSource, MAX_FINGERPRINTS, PeerFingerprints};
pub use endpoint::{DtlsEndpoint, DtlsOutput, Role};
pub use record::{DtlsDrop, DtlsDropCounters};

/// First wait before a flight is sent again. RFC 6347 suggests 1 s; addresses are already proven by
/// ICE, and a lost flight is a second of black screen. Lower than a slow round trip would repeat
/// flights needlessly.
const FLIGHT_RTO: Duration = Duration::from_millis(300);

/// Repeats of a flight, each waiting twice as long as the one before, those that the peer asks for
/// by repeating its own among them: more than there is time for, so that forged repeats do not use
/// them up. [`HANDSHAKE_TIMEOUT`] alone ends a handshake.
const FLIGHT_RETRIES: usize = 24;

/// A handshake in which this long no ClientHello led to anything has failed.
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
    /// Seed of what handshakes draw beside keys and signatures, for simulations; else it comes
    /// from the system.
    pub seed: Option<u64>,
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
            seed: None,
        }
    }
}

/// What all endpoints share.
pub struct DtlsContext {
    settings: Arc<Settings>,
}

/// What an endpoint needs of its context.
struct Settings {
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
        let profiles: Vec<SrtpProfile> = config.srtp_profiles.iter().map(library_profile).collect();
        // No cookie exchange: datagrams come only from addresses that answered an ICE check, so it
        // would cost every client a round trip to prove what is known. Where a client has to say
        // hello once more for another reason, two attempts ask it in the same words. No padding:
        // until our ClientHello is answered, ICE lets us send three times what came, and libnice
        // checks twice.
        let mut builder = dimpl::Config::builder();
        if let Some(seed) = config.seed {
            builder = builder.dangerously_set_rng_seed(seed);
        }
        let cookie_secret = match config.seed {
            Some(seed) => StdRng::seed_from_u64(seed).random(),
            None => rand::rng().random(),
        };
        let library = builder
            .use_server_cookie(false)
            .pad_client_hello(false)
            .cookie_secret(cookie_secret)
            .require_client_certificate(true)
            .srtp_profiles(&profiles)
            .mtu(DTLS_MTU_BYTES)
            .flight_start_rto(FLIGHT_RTO)
            .flight_retries(FLIGHT_RETRIES)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .map_err(|error| ControlError::Config(format!("DTLS: {error}")))?;
        let settings = Settings {
            certificate: certificate::Certificate::load(&config.certificate)?,
            library: Arc::new(library),
            max_version: config.max_version,
            srtp_profiles: config.srtp_profiles.clone(),
        };
        Ok(DtlsContext { settings: Arc::new(settings) })
    }

    /// The SHA-256 fingerprint of our certificate.
    pub fn fingerprint(&self) -> DtlsFingerprint {
        self.settings.certificate.fingerprint()
    }
}

fn library_profile(profile: &Profile) -> SrtpProfile {
    match profile {
        Profile::AesCm128HmacSha1_80 => SrtpProfile::AES128_CM_SHA1_80,
        Profile::AeadAes128Gcm => SrtpProfile::AEAD_AES_128_GCM,
        Profile::AeadAes256Gcm => SrtpProfile::AEAD_AES_256_GCM,
    }
}
