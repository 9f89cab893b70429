//! One GET over HTTP or HTTPS, bounded in time and size: enough to fetch a JWK Set.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, HOST, USER_AGENT};
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::jwks::MAX_SET_BYTES;
use super::url::SetUrl;

/// From the look-up of the name to the last byte. Providers answer within a second.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest head of an answer, bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Fetches what is at `url`. The error is one sentence. Redirects are not followed: the address of
/// keys is a matter of configuration.
pub async fn fetch(url: &SetUrl) -> Result<Bytes, String> {
    match tokio::time::timeout(TIMEOUT, fetch_in_time(url)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn fetch_in_time(url: &SetUrl) -> Result<Bytes, String> {
    let stream = TcpStream::connect((url.host(), url.port()))
        .await
        .map_err(|error| format!("cannot connect: {error}"))?;
    if !url.is_https() {
        return get(url, TokioIo::new(stream)).await;
    }
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|_| "its host cannot have a certificate".to_owned())?;
    let connector = TlsConnector::from(Arc::new(tls_config()?));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS: {error}; is its issuer among this host's CAs?"))?;
    get(url, TokioIo::new(stream)).await
}

/// Trusts the certificate authorities of the host: those of `SSL_CERT_FILE` or `SSL_CERT_DIR` where
/// they are set, else those that the system has.
fn tls_config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let cure = "install ca-certificates, or set SSL_CERT_FILE";
        return Err(format!("this host has no certificate authorities: {cure}"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn get<S: Read + Write + Unpin + Send + 'static>(
    url: &SetUrl,
    stream: S,
) -> Result<Bytes, String> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(stream)
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("opencall-sfu/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_SET_BYTES).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
    };
    // The connection is driven here, and dropped with the exchange.
    tokio::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}
