//! One run of the DTLS library, and what it has said so far.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Instant;

use dimpl::{Dtls, Output, ProtocolVersion, SrtpProfile};
use opencall_wire::srtp::{KeyingMaterial, Profile};
use zeroize::Zeroizing;

use super::endpoint::{DtlsOutput, Role};
use super::{DtlsVersion, Settings};

/// First size of the buffer records are written to: a flight's datagram. It grows where the
/// library asks for more.
const RECORD_BUFFER_BYTES: usize = 2048;

/// Outputs drained from the library in one go at most. A full flight with certificates is under 20;
/// an endless source would be a defect of the library, and must not stop the control core.
const MAX_OUTPUTS_PER_DRIVE: usize = 256;

/// A handshake that may come to something.
pub(super) struct Attempt {
    dtls: Dtls,
    role: Role,
    certificate: Option<Vec<u8>>,
    keys: Option<Box<KeyingMaterial>>,
    pub done: bool,
    pub closed: bool,
    /// Whether the peer is who signaling said: only then does what it sends inside count.
    established: bool,
    next_timeout: Option<Instant>,
}

impl Attempt {
    /// As server it waits for a ClientHello; as client it has one to send.
    pub fn new(settings: &Settings, role: Role, now: Instant) -> Self {
        let certificate = dimpl::DtlsCertificate {
            certificate: settings.certificate.der.clone(),
            private_key: settings.certificate.key_der.clone(),
        };
        let library = settings.library.clone();
        let mut dtls = match settings.max_version {
            DtlsVersion::Dtls12 => Dtls::new_12(library, certificate, now),
            DtlsVersion::Dtls13 => Dtls::new_auto(library, certificate, now),
        };
        dtls.set_active(role == Role::Client);
        Attempt::of(dtls, role)
    }

    fn of(dtls: Dtls, role: Role) -> Self {
        let (certificate, keys) = (None, None);
        Attempt {
            dtls,
            role,
            certificate,
            keys,
            done: false,
            closed: false,
            established: false,
            next_timeout: None,
        }
    }

    /// A client with the same ClientHello and key, for another answer to it.
    pub fn fork(&self) -> Option<Self> {
        self.dtls.try_clone().map(|dtls| Attempt::of(dtls, self.role))
    }

    /// Whether DTLS 1.3 was agreed on; `None` before that.
    pub fn is_13(&self) -> Option<bool> {
        self.dtls.protocol_version().map(|version| version == ProtocolVersion::DTLS1_3)
    }

    /// When [`Self::advance`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// Time has passed: flights may have to be sent again.
    pub fn advance(&mut self, now: Instant, out: &mut VecDeque<DtlsOutput>) -> Result<(), String> {
        self.dtls.handle_timeout(now).map_err(|error| error.to_string())?;
        self.drive(out)
    }

    /// Records from the peer.
    pub fn feed(&mut self, records: &[u8], out: &mut VecDeque<DtlsOutput>) -> Result<(), String> {
        self.dtls.handle_packet(records).map_err(|error| error.to_string())?;
        self.drive(out)
    }

    /// Says goodbye: a `close_notify` if the handshake is done.
    pub fn close(&mut self, out: &mut VecDeque<DtlsOutput>) {
        if self.dtls.close().is_ok() {
            let _ = self.drive(out);
        }
    }

    /// The peer's certificate in DER, once it has shown one.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Application data to the peer.
    pub fn send(&mut self, data: &[u8], out: &mut VecDeque<DtlsOutput>) -> Result<(), String> {
        self.dtls.send_application_data(data).map_err(|error| error.to_string())?;
        self.drive(out)
    }

    /// The keys, once; the certificate is of no more use then.
    pub fn take_keys(&mut self) -> Option<Box<KeyingMaterial>> {
        self.established = true;
        self.certificate = None;
        self.keys.take()
    }

    /// Takes from the library what it has to say.
    fn drive(&mut self, out: &mut VecDeque<DtlsOutput>) -> Result<(), String> {
        let mut buffer = vec![0; RECORD_BUFFER_BYTES];
        for _ in 0..MAX_OUTPUTS_PER_DRIVE {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => out.push_back(DtlsOutput::Datagram(packet.into())),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    break;
                }
                Output::Connected => self.done = true,
                Output::PeerCert(der) => self.certificate = Some(der.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let keys = split_keys(&material, profile_of(profile)?, self.role);
                    let keys = keys.ok_or("the exported keys have the wrong length")?;
                    self.keys = Some(Box::new(keys));
                }
                Output::CloseNotify => {
                    self.closed = true;
                    break;
                }
                // Before that it may be a stranger's; SCTP sends again what was lost.
                Output::ApplicationData(data) if self.established => {
                    out.push_back(DtlsOutput::Data(data.into()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn profile_of(profile: SrtpProfile) -> Result<Profile, String> {
    match profile {
        SrtpProfile::AEAD_AES_128_GCM => Ok(Profile::AeadAes128Gcm),
        SrtpProfile::AEAD_AES_256_GCM => Ok(Profile::AeadAes256Gcm),
        SrtpProfile::AES128_CM_SHA1_80 => Ok(Profile::AesCm128HmacSha1_80),
        other => Err(format!("the SRTP profile {other} is unknown")),
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
