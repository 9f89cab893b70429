//! One DTLS association.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Instant;

use dimpl::{Dtls, DtlsCertificate, Output, SrtpProfile};
use opencall_dataplane::srtp::{KeyingMaterial, Profile};
use zeroize::Zeroizing;

use super::certificate::PeerFingerprints;
use super::profile_choice::ProfileChoice;
use super::{DtlsContext, DtlsVersion};

/// First size of the buffer records are written to: a flight's datagram. It grows where the
/// library asks for more.
const RECORD_BUFFER_BYTES: usize = 2048;

/// Outputs drained from the library in one go at most. A full flight with certificates is under 20;
/// an endless source would be a defect of the library, and must not stop the control core.
const MAX_OUTPUTS_PER_DRIVE: usize = 256;

/// Which side sends the ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer does.
    Server,
    /// We do.
    Client,
}

/// What an endpoint has to say.
pub enum DtlsOutput {
    /// Send this datagram.
    Datagram(Box<[u8]>),
    /// The handshake is done and the peer is who signaling said.
    Connected(Box<KeyingMaterial>),
    /// The peer has closed the association.
    Closed,
    /// The handshake failed, for the reason given; the endpoint is of no more use.
    Failed(String),
}

/// One DTLS association, sans-IO.
pub struct DtlsEndpoint {
    dtls: Option<Dtls>,
    role: Role,
    choice: Option<ProfileChoice>,
    allowed: Vec<Profile>,
    fingerprints: Option<PeerFingerprints>,
    peer_certificate: Option<Vec<u8>>,
    keys: Option<Box<KeyingMaterial>>,
    handshake_done: bool,
    connected: bool,
    next_timeout: Option<Instant>,
    outputs: VecDeque<DtlsOutput>,
}

impl DtlsEndpoint {
    /// A new endpoint; as a client it has its ClientHello to send at once.
    pub fn new(context: &DtlsContext, role: Role, now: Instant) -> Self {
        let certificate = DtlsCertificate {
            certificate: context.certificate.der.clone(),
            private_key: context.certificate.key_der.clone(),
        };
        let library = context.library.clone();
        let mut dtls = match context.max_version {
            DtlsVersion::Dtls12 => Dtls::new_12(library, certificate, now),
            DtlsVersion::Dtls13 => Dtls::new_auto(library, certificate, now),
        };
        dtls.set_active(role == Role::Client);
        let mut endpoint = DtlsEndpoint {
            dtls: Some(dtls),
            role,
            choice: (role == Role::Server).then(|| ProfileChoice::new(&context.srtp_profiles)),
            allowed: context.srtp_profiles.clone(),
            fingerprints: None,
            peer_certificate: None,
            keys: None,
            handshake_done: false,
            connected: false,
            next_timeout: None,
            outputs: VecDeque::new(),
        };
        endpoint.handle_timeout(now);
        endpoint
    }

    /// Our role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The fingerprints of the peer, from signaling.
    pub fn set_peer_fingerprints(&mut self, fingerprints: PeerFingerprints) {
        self.fingerprints = Some(fingerprints);
        self.release_keys();
    }

    /// One datagram from the peer.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        let mut pieces = VecDeque::new();
        match &mut self.choice {
            Some(choice) => choice.rewrite(datagram, &mut pieces),
            None => pieces.push_back(datagram.to_vec()),
        }
        for piece in pieces {
            let Some(dtls) = &mut self.dtls else { return };
            let result = dtls.handle_timeout(now).and_then(|()| dtls.handle_packet(&piece));
            if let Err(error) = result {
                self.fail(error.to_string());
                return;
            }
            self.drive();
        }
    }

    /// Time has passed: flights may have to be sent again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(dtls) = &mut self.dtls else { return };
        if let Err(error) = dtls.handle_timeout(now) {
            self.fail(error.to_string());
            return;
        }
        self.drive();
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// What there is to say; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<DtlsOutput> {
        self.outputs.pop_front()
    }

    /// Says goodbye: queues a `close_notify` if the handshake is done.
    pub fn close(&mut self) {
        let Some(dtls) = &mut self.dtls else { return };
        if dtls.close().is_ok() {
            self.drive();
        }
        self.dtls = None;
        self.next_timeout = None;
    }

    /// Takes from the library what it has to say.
    fn drive(&mut self) {
        let mut buffer = vec![0; RECORD_BUFFER_BYTES];
        for _ in 0..MAX_OUTPUTS_PER_DRIVE {
            let Some(dtls) = &mut self.dtls else { return };
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    self.outputs.push_back(DtlsOutput::Datagram(packet.into()));
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    if self.handshake_done && !self.connected && self.keys.is_none() {
                        self.fail("the client offers no SRTP profile that we allow".to_owned());
                    }
                    return;
                }
                Output::Connected => self.handshake_done = true,
                Output::PeerCert(der) => self.peer_certificate = Some(der.to_vec()),
                Output::KeyingMaterial(material, profile) => self.take_keys(&material, profile),
                Output::CloseNotify => {
                    self.dtls = None;
                    self.next_timeout = None;
                    self.outputs.push_back(DtlsOutput::Closed);
                    return;
                }
                // Nothing runs inside DTLS yet: data channels will.
                Output::ApplicationData(_) => {}
                _ => {}
            }
            if self.handshake_done {
                self.release_keys();
            }
        }
    }

    fn take_keys(&mut self, material: &[u8], profile: SrtpProfile) {
        let profile = match profile {
            SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
            SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
            SrtpProfile::AES128_CM_SHA1_80 => Profile::AesCm128HmacSha1_80,
            other => return self.fail(format!("the SRTP profile {other} is unknown")),
        };
        if !self.allowed.contains(&profile) {
            self.fail(format!("the client chose {}, which is not allowed here", profile.name()));
            return;
        }
        match split_keys(material, profile, self.role) {
            Some(keys) => self.keys = Some(Box::new(keys)),
            None => self.fail("the exported keys have the wrong length".to_owned()),
        }
    }

    /// Hands out the keys when the handshake is done and the certificate is the announced one.
    fn release_keys(&mut self) {
        if !self.handshake_done || self.connected || self.dtls.is_none() {
            return;
        }
        let Some(fingerprints) = &self.fingerprints else { return };
        // The certificate and the keys may follow `Connected` within one drive.
        let Some(certificate) = &self.peer_certificate else { return };
        if !fingerprints.match_certificate(certificate) {
            self.fail("the certificate is not the one whose fingerprint was announced".to_owned());
            return;
        }
        if let Some(keys) = self.keys.take() {
            self.connected = true;
            self.peer_certificate = None;
            self.choice = None;
            self.outputs.push_back(DtlsOutput::Connected(keys));
        }
    }

    fn fail(&mut self, reason: String) {
        self.dtls = None;
        self.keys = None;
        self.next_timeout = None;
        self.outputs.push_back(DtlsOutput::Failed(reason));
    }
}

/// RFC 5764 section 4.2: client key, server key, client salt, server salt.
fn split_keys(material: &[u8], profile: Profile, role: Role) -> Option<KeyingMaterial> {
    let (client_key, rest) = material.split_at_checked(profile.key_len())?;
    let (server_key, rest) = rest.split_at_checked(profile.key_len())?;
    let (client_salt, server_salt) = rest.split_at_checked(profile.salt_len())?;
    if server_salt.len() != profile.salt_len() {
        return None;
    }
    let (local, remote) = match role {
        Role::Client => ((client_key, client_salt), (server_key, server_salt)),
        Role::Server => ((server_key, server_salt), (client_key, client_salt)),
    };
    let secret = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
    Some(KeyingMaterial {
        profile,
        remote_key: secret(remote.0),
        remote_salt: secret(remote.1),
        local_key: secret(local.0),
        local_salt: secret(local.1),
    })
}
