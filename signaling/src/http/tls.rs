//! TLS of the server's own: certificate files, read anew when they change.
#![forbid(unsafe_code)]

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at. New ones are taken when they have not changed between two
/// looks, because a certificate and its key are rarely replaced at the same instant.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// The largest file that is read: chains have a few kilobytes, and a wrong path may be a disk
/// image.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The protocol that is spoken, in ALPN (RFC 7301). WebSockets need it.
const PROTOCOL: &[u8] = b"http/1.1";

/// A certificate with its chain, and its private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate first, then what signed it.
    pub certificate: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// What changes when a file is replaced or written.
#[derive(PartialEq, Eq)]
struct Stamp([(u64, Option<SystemTime>); 2]);

/// TLS with a certificate of our own.
#[derive(Clone)]
pub struct Tls {
    /// Accepts TLS 1.2 and 1.3.
    pub acceptor: TlsAcceptor,
    /// What it shows.
    pub certificate: Arc<Certificate>,
}

/// The certificate in use, and where it came from.
pub struct Certificate {
    files: CertificateFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads the files; the error says what is wrong and what to do, in one line.
    pub fn read(files: CertificateFiles) -> Result<Self, String> {
        let current = RwLock::new(Arc::new(files.read()?));
        let certificate = Arc::new(Certificate { files, current });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| format!("TLS cannot be set up: {error}; please report this"))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(&certificate))));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }
}

impl Certificate {
    /// Takes new files when they come. Never ends.
    pub async fn watch(self: Arc<Self>) {
        let mut used = self.files.stamp();
        let mut seen = self.files.stamp();
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let stamp = self.files.stamp();
            let settled = stamp == seen && stamp != used;
            if settled {
                self.reload();
                used = self.files.stamp();
            }
            seen = stamp;
        }
    }

    fn reload(&self) {
        match self.files.read() {
            Ok(key) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!("took the new TLS certificate {}", self.files.certificate.display());
            }
            Err(error) => tracing::warn!("the old TLS certificate stays in use: {error}"),
        }
    }
}

impl CertificateFiles {
    fn stamp(&self) -> Stamp {
        let stamp = |path: &Path| {
            let metadata = std::fs::metadata(path).ok();
            let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
            (metadata.as_ref().map_or(0, Metadata::len), modified)
        };
        Stamp([stamp(&self.certificate), stamp(&self.key)])
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let certificates = read_file("--tls-cert-file", &self.certificate)?;
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&certificates).collect();
        let wrong_certificate = |what: &str| {
            format!(
                "--tls-cert-file {}: {what}; give a PEM file with the certificate and its chain",
                self.certificate.display()
            )
        };
        let certificates = match certificates {
            Ok(certificates) if certificates.is_empty() => {
                return Err(wrong_certificate("there is no certificate in it"));
            }
            Ok(certificates) => certificates,
            Err(error) => return Err(wrong_certificate(&error.to_string())),
        };
        let wrong_key = |what: &str| format!("--tls-key-file {}: {what}", self.key.display());
        let key = read_file("--tls-key-file", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| match error {
            PemError::NoItemsFound => wrong_key("there is no private key in it; give a PEM file"),
            error => wrong_key(&format!("{error}; give a PEM file with the private key")),
        })?;
        CertifiedKey::from_der(certificates, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong_key(&format!(
                "this key is not that of the certificate in {}; give the files that belong \
                 together",
                self.certificate.display()
            )),
            rustls::Error::InvalidCertificate(_) => wrong_certificate(&error.to_string()),
            error => {
                wrong_key(&format!("{error}; give an unencrypted RSA, ECDSA or Ed25519 key as PEM"))
            }
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read_file(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |what: String| {
        format!("{flag} {}: {what}; check the path and that this user may read it", path.display())
    };
    let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(wrong("this is no PEM file".to_owned()));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

/// Gives each handshake the certificate in use. No `Debug` of the key.
struct Resolver(Arc<Certificate>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
