//! OpenSSL's client, which shares no line with our DTLS, shakes hands with an endpoint over
//! loopback: both must have agreed on the profile that we prefer and exported the same keys. It
//! lists AES_CM first, as browsers do, so that the profile choice is at work as well.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use opencall_control::api::DtlsFingerprint;
use opencall_control::dtls::{
    CertificateSource, DtlsConfig, DtlsContext, DtlsEndpoint, DtlsOutput, DtlsVersion,
    PeerFingerprints, Role,
};
use opencall_wire::srtp::{KeyingMaterial, Profile};

/// Bytes exported: enough for the longest profile.
const EXPORTED_BYTES: usize = 2 * (32 + 12);

struct Client {
    directory: std::path::PathBuf,
    fingerprint: DtlsFingerprint,
}

impl Client {
    fn new(name: &str) -> Self {
        let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).expect("a place for two files");
        let key = rcgen::KeyPair::generate().expect("key");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("params");
        let certificate = params.self_signed(&key).expect("certificate");
        std::fs::write(directory.join("cert.pem"), certificate.pem()).expect("written");
        std::fs::write(directory.join("key.pem"), key.serialize_pem()).expect("written");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
        let pairs: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let fingerprint =
            DtlsFingerprint { algorithm: "sha-256".to_owned(), value: pairs.join(":") };
        Client { directory, fingerprint }
    }

    /// Runs the client against a port; its output once it has read the end of its input.
    fn spawn(&self, port: u16, profiles: &str) -> std::process::Child {
        Command::new("openssl")
            .args(["s_client", "-dtls1_2", "-connect", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(self.directory.join("cert.pem"))
            .arg("-key")
            .arg(self.directory.join("key.pem"))
            .args(["-use_srtp", profiles, "-keymatexport", "EXTRACTOR-dtls_srtp"])
            .args(["-keymatexportlen", &EXPORTED_BYTES.to_string(), "-mtu", "512"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed (apt install openssl)")
    }
}

/// Only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Shakes hands; our keys, and what the client printed.
fn handshake(name: &str, preference: &[Profile], profiles: &str) -> (KeyingMaterial, String) {
    let client = Client::new(name);
    let config = DtlsConfig {
        certificate: CertificateSource::Generate,
        max_version: DtlsVersion::Dtls13,
        srtp_profiles: preference.to_vec(),
        seed: None,
    };
    let context = DtlsContext::new(&config).expect("context");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
    let port = socket.local_addr().expect("bound").port();
    let mut child = client.spawn(port, profiles);

    let deadline = Instant::now() + PATIENCE;
    let mut endpoint = DtlsEndpoint::new(&context, Role::Server, Instant::now());
    let fingerprints = PeerFingerprints::parse(std::slice::from_ref(&client.fingerprint));
    endpoint.set_peer_fingerprints(fingerprints.expect("readable"));
    let mut keys = None;
    let mut closed = false;
    let mut remote = None;
    while !closed {
        assert!(Instant::now() < deadline, "no handshake within {PATIENCE:?}");
        let mut datagram = [0; 2048];
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            remote = Some(from);
            endpoint.handle_datagram(&datagram[..length], Instant::now());
        }
        endpoint.handle_timeout(Instant::now());
        while let Some(output) = endpoint.poll_output() {
            match output {
                DtlsOutput::Datagram(bytes) => {
                    socket.send_to(&bytes, remote.expect("it spoke first")).expect("sent");
                }
                DtlsOutput::Connected(material) => {
                    keys = Some(*material);
                    let mut stdin = child.stdin.take().expect("piped");
                    stdin.write_all(b"Q\n").expect("the client listens");
                }
                DtlsOutput::Data(_) => {}
                DtlsOutput::Closed => closed = true,
                DtlsOutput::Failed(reason) => panic!("{reason}"),
            }
        }
    }
    let output = child.wait_with_output().expect("the client ends");
    (keys.expect("keys"), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The keys as the client exported them: client key, server key, client salt, server salt.
fn assert_same_keys(ours: &KeyingMaterial, printed: &str) {
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("Keying material: "));
    let line = line.unwrap_or_else(|| panic!("no keying material in:\n{printed}"));
    let mut expected = String::new();
    for part in [&ours.remote_key, &ours.local_key, &ours.remote_salt, &ours.local_salt] {
        expected.extend(part.iter().map(|byte| format!("{byte:02X}")));
    }
    assert!(line.starts_with(&expected), "the keys differ");
}

#[test]
fn with_aes_cm_listed_first_we_still_get_gcm() {
    let preference = DtlsConfig::default().srtp_profiles;
    let offered = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM";
    let (keys, printed) = handshake("gcm", &preference, offered);
    assert_eq!(keys.profile, Profile::AeadAes128Gcm);
    assert!(printed.contains("SRTP_AEAD_AES_128_GCM"), "{printed}");
    assert_same_keys(&keys, &printed);
}

#[test]
fn a_client_without_gcm_gets_aes_cm() {
    let preference = DtlsConfig::default().srtp_profiles;
    let (keys, printed) = handshake("cm", &preference, "SRTP_AES128_CM_SHA1_80");
    assert_eq!(keys.profile, Profile::AesCm128HmacSha1_80);
    assert_same_keys(&keys, &printed);
}
