//! HTTPS and `wss:` of the server's own.

use std::sync::Arc;

use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::Checker;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::ice_tcp::{ended, framed, metrics_of};
use crate::server::{PATIENCE, Server};
use crate::web::{Folder, get_on};

/// A certificate for `localhost`, PEM, with its key.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Certificate and key files, and the flags that name them.
struct Files {
    folder: Folder,
    certificate: String,
}

impl Files {
    fn new(name: &str) -> Self {
        let (certificate, key) = certificate();
        let folder = Folder::new(name);
        folder.write("cert.pem", &certificate);
        folder.write("key.pem", key);
        Files { folder, certificate }
    }

    fn start(&self, flags: &[&str]) -> Server {
        let path = |name: &str| self.folder.0.join(name).to_str().unwrap().to_owned();
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        Server::start_with(&[&tls[..], flags].concat())
    }
}

/// A stream to the server, which must show this certificate.
async fn connect(
    server: &Server,
    certificate: &str,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(server.address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let files = Files::new("tls");
    let server = files.start(&[]);
    for version in [&TLS12, &TLS13] {
        let stream = connect(&server, &files.certificate, version).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (status, head, body) = get_on(stream, "/healthz", "").await;
        assert_eq!(status, 200);
        assert!(head.contains("strict-transport-security: max-age="), "{head}");
        assert!(body.contains("\"status\":\"ok\""), "{body}");
    }
}

#[tokio::test]
async fn web_sockets_go_over_tls_with_a_large_message() {
    use futures_util::{SinkExt, StreamExt};
    let files = Files::new("wss");
    let server = files.start(&[]);
    let stream = connect(&server, &files.certificate, &TLS13).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://localhost/ws", stream).await.unwrap();
    let padding = "x".repeat(60_000);
    let request = json!({"type": "mediasoup:getRouterCapabilities", "id": "1",
                         "data": {"meetingId": "m", "padding": padding}});
    socket.send(Message::text(request.to_string())).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(answer.into_text().unwrap().contains("\"codecs\""));
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_restart_and_a_bad_one_is_not() {
    let files = Files::new("reload");
    let server = files.start(&[]);
    let old = connect(&server, &files.certificate, &TLS13).await.unwrap();
    let (certificate, key) = certificate();
    // The key does not belong to it yet.
    files.folder.write("cert.pem", &certificate);
    let line = server.logged("the old TLS certificate stays in use");
    assert!(line.contains("is not that of the certificate"), "{line}");
    assert!(connect(&server, &files.certificate, &TLS13).await.is_ok());
    assert!(connect(&server, &certificate, &TLS13).await.is_err());
    files.folder.write("key.pem", key);
    server.logged("took the new TLS certificate");
    assert!(connect(&server, &certificate, &TLS13).await.is_ok());
    assert!(connect(&server, &files.certificate, &TLS13).await.is_err());
    // Who is connected stays so.
    assert_eq!(get_on(old, "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn ice_comes_by_the_port_of_https() {
    let files = Files::new("tls-ice");
    let server = files.start(&["--ice-tcp-on-http", "--metrics-listen", "127.0.0.1:0"]);
    let stream = connect(&server, &files.certificate, &TLS13).await.unwrap();
    assert_eq!(get_on(stream, "/healthz", "").await.0, 200);
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    let check =
        Checker::new("ABAAAAAAAAAA", "a password", "client", 7).request(TransactionId([1; 12]));
    plain.write_all(&framed(&check)).await.unwrap();
    ended(&server, metrics_of(&server), "no_core", 1).await;
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_is_gone_in_time() {
    let files = Files::new("handshake");
    let server = files.start(&[]);
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("not closed");
    let closed = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
    let _ = closed.expect("not closed");
    let stream = connect(&server, &files.certificate, &TLS13).await.unwrap();
    let health = get_on(stream, "/healthz", "").await.2;
    assert!(health.contains("\"handshake\":2"), "{health}");
}
