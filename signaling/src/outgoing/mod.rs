//! What this server asks of others: JWK Sets are fetched, webhooks posted, voices handed on. Only
//! to where its configuration says; redirects are not followed.
#![forbid(unsafe_code)]

pub mod url;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{HOST, USER_AGENT};
use axum::http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::url::HttpUrl;

/// The largest head of an answer, bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Within so long a server must have taken a connection and, with https, shaken hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, for one request after the other. Errors are one sentence each.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to the server of `url`.
    pub async fn open(url: &HttpUrl) -> Result<Self, String> {
        match tokio::time::timeout(CONNECT_TIMEOUT, Self::open_in_time(url)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    async fn open_in_time(url: &HttpUrl) -> Result<Self, String> {
        match dial(url).await? {
            Line::Plain(stream) => Self::over(TokioIo::new(stream)).await,
            Line::Tls(stream) => Self::over(TokioIo::new(stream)).await,
        }
    }

    async fn over<S: Read + Write + Unpin + Send + 'static>(stream: S) -> Result<Self, String> {
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| error.to_string())?;
        // What ends it is the error of the request that it ends, or nobody's.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, driver })
    }

    /// Whether another request can be made on it, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Makes a request to `url`: the status, and the body if it has at most so many bytes. Without
    /// a bound in time.
    pub async fn exchange(
        &mut self,
        url: &HttpUrl,
        mut request: Request<Full<Bytes>>,
        max_body_bytes: usize,
    ) -> Result<(StatusCode, Result<Bytes, String>), String> {
        let agent = HeaderValue::from_static(concat!("opencall-sfu/", env!("CARGO_PKG_VERSION")));
        let host = HeaderValue::from_str(url.authority()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, agent);
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), max_body_bytes).collect().await;
        let body = body.map(|body| body.to_bytes()).map_err(|error| error.to_string());
        Ok((status, body))
    }
}

/// A way to another server.
pub enum Line {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted, to who has the certificate.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to the server of an address, without a bound in time. Errors are one sentence each.
pub async fn dial(url: &HttpUrl) -> Result<Line, String> {
    let stream = TcpStream::connect((url.host(), url.port()))
        .await
        .map_err(|error| format!("cannot connect: {error}"))?;
    if !url.is_https() {
        return Ok(Line::Plain(stream));
    }
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|_| "its host cannot have a certificate".to_owned())?;
    let connector = TlsConnector::from(Arc::new(tls_config()?));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS: {error}; is its issuer among this host's CAs?"))?;
    Ok(Line::Tls(Box::new(stream)))
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
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
