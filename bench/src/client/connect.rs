//! One transport: connectivity checks, the DTLS handshake, consent.
#![forbid(unsafe_code)]

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Dtls, DtlsCertificate, Output, SrtpProfile};
use opencall_wire::srtp::{KeyingMaterial, Profile};
use opencall_wire::stun::TransactionId;
use opencall_wire::stun::client::{self, Checker};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use zeroize::Zeroizing;

use super::engine::{Command, EngineSender};
use super::messages::{MessagePlan, Messages};
use super::net::Net;
use super::stun::Responder;

/// First wait for the answer to a check; it doubles.
const CHECK_RTO: Duration = Duration::from_millis(100);

/// Checks until a server counts as unreachable: some 25 s.
const MAX_CHECKS: u32 = 8;

/// Consent is asked for this often (RFC 7675: 4 to 6 s).
const CONSENT_INTERVAL: Duration = Duration::from_secs(4);

/// Until there are keys it is asked for more often, as browsers do: a server may answer a check
/// before it knows what to make of it.
const RECHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Shortest wait of a handshake for itself.
const MIN_TIMER: Duration = Duration::from_millis(5);

/// A handshake that takes longer has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// The ICE password of all our transports, for servers that check us; none needs to keep it secret.
pub const OUR_PWD: &str = "nobodykeepsthissecret1";

/// Room for one DTLS record.
const RECORD_LEN: usize = 2048;

/// Our certificate and how DTLS is done, shared by all participants.
#[derive(Clone)]
pub struct DtlsIdentity {
    config: Arc<dimpl::Config>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// The fingerprint for signaling.
    pub fingerprint: String,
}

impl DtlsIdentity {
    /// Makes a certificate.
    ///
    /// # Errors
    /// What the libraries say.
    pub fn new() -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed(Vec::new()).map_err(|e| e.to_string())?;
        let certificate = made.cert.der().to_vec();
        let config = dimpl::Config::builder().mtu(1200).build().map_err(|e| e.to_string())?;
        let fingerprint = fingerprint_of(&certificate);
        let key = made.signing_key.serialize_der();
        Ok(DtlsIdentity { config: Arc::new(config), certificate, key, fingerprint })
    }
}

/// The ICE user name of a transport of ours.
pub fn ufrag_of(transport: u32) -> String {
    format!("bench{transport}")
}

fn fingerprint_of(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// What a transport was told about the server.
pub struct Remote {
    /// Where it is.
    pub address: SocketAddrV4,
    /// Its ICE credentials.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
    /// Its certificate's SHA-256 fingerprint.
    pub fingerprint: String,
}

/// One transport, until it is dropped.
pub struct Connection {
    /// Which transport of ours.
    pub transport: u32,
    /// The other side.
    pub remote: Remote,
    /// All transports' socket.
    pub net: Net,
    /// Where what it sends goes instead, on a bad link.
    pub detour: Option<EngineSender>,
    /// What came to this transport and is no media.
    pub inbox: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Answers what the server checks.
    pub responder: Responder,
    /// Messages, where they are sent, and what says that they are to be sent from here.
    pub messages: Option<(Messages, oneshot::Receiver<MessagePlan>)>,
}

impl Connection {
    /// Runs the transport: says the keys or why there are none, then keeps consent until aborted.
    pub async fn run(
        mut self,
        identity: DtlsIdentity,
        keys: oneshot::Sender<Result<KeyingMaterial, String>>,
    ) {
        let ufrag = ufrag_of(self.transport);
        let tie_breaker = u64::from(self.transport) + 1;
        let checker = Checker::new(&self.remote.ufrag, &self.remote.pwd, &ufrag, tie_breaker);
        if let Err(reason) = self.check(&checker).await {
            let _ = keys.send(Err(reason));
            return;
        }
        let mut handshake = Handshake::new(&identity, &self.remote.fingerprint);
        let shaking = self.shake_hands(&checker, &mut handshake);
        let done = timeout(HANDSHAKE_TIMEOUT, shaking).await;
        let result = done.unwrap_or_else(|_| Err("the DTLS handshake takes too long".to_owned()));
        let failed = result.is_err();
        if keys.send(result).is_err() || failed {
            return;
        }
        let end = self.keep_consent(&checker, &mut handshake).await;
        // Who hears of it has left before, or sees that nothing comes.
        drop(end);
    }

    fn send(&self, datagram: &[u8]) {
        if let Some(detour) = &self.detour {
            return detour.send(Command::Send(self.transport, datagram.to_vec()));
        }
        // A full socket buffer is a lost datagram: checks and flights are repeated.
        let _ = self.net.send(self.transport, self.remote.address, datagram, datagram.len());
    }

    /// The next datagram that is no check of the server's; those are answered.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            let datagram = self.inbox.recv().await?;
            match self.responder.answer(&datagram, self.remote.address) {
                Some(answer) => self.send(&answer),
                None => return Some(datagram),
            }
        }
    }

    async fn check(&mut self, checker: &Checker) -> Result<(), String> {
        for attempt in 0..MAX_CHECKS {
            let id = TransactionId(rand::random());
            self.send(&checker.request(id));
            let answered = async {
                while let Some(datagram) = self.receive().await {
                    if client::success(&datagram) == Some(id) {
                        return true;
                    }
                }
                false
            };
            if timeout(CHECK_RTO * 2u32.pow(attempt), answered).await == Ok(true) {
                return Ok(());
            }
        }
        Err(format!("{} does not answer connectivity checks", self.remote.address))
    }

    async fn shake_hands(
        &mut self,
        checker: &Checker,
        handshake: &mut Handshake,
    ) -> Result<KeyingMaterial, String> {
        let mut next_check = tokio::time::Instant::now() + RECHECK_INTERVAL;
        loop {
            for datagram in handshake.drive(Instant::now())? {
                self.send(&datagram);
            }
            if let Some(keys) = handshake.keys.take() {
                return Ok(keys);
            }
            // A timeout that has passed would only be asked for again and again.
            let timer = handshake.timeout.max(Instant::now() + MIN_TIMER);
            tokio::select! {
                datagram = self.receive() => {
                    let datagram = datagram.ok_or("the run is over")?;
                    handshake.take(&datagram)?;
                }
                () = sleep_until(timer.into()) => {}
                () = sleep_until(next_check) => {
                    next_check += RECHECK_INTERVAL;
                    self.send(&checker.request(TransactionId(rand::random())));
                }
            }
        }
    }

    /// Asks for consent, answers flights that the server repeats, and carries messages.
    async fn keep_consent(
        &mut self,
        checker: &Checker,
        handshake: &mut Handshake,
    ) -> Result<(), String> {
        let (mut messages, mut start) = match self.messages.take() {
            Some((messages, start)) => (Some(messages), Some(start)),
            None => (None, None),
        };
        let mut next = tokio::time::Instant::now() + CONSENT_INTERVAL.mul_f64(rand::random());
        loop {
            if let Some(messages) = &mut messages {
                for packet in messages.drive(Instant::now()) {
                    // A few records fit into the library's queue.
                    handshake.send(&packet)?;
                    for datagram in handshake.drive(Instant::now())? {
                        self.send(&datagram);
                    }
                }
            }
            let timer = messages.as_ref().and_then(Messages::next_timeout);
            tokio::select! {
                datagram = self.receive() => {
                    let Some(datagram) = datagram else { return Ok(()) };
                    // A record that is no good is nothing to end a transport for.
                    let repeated = handshake.take(&datagram);
                    let answer = repeated.and_then(|()| handshake.drive(Instant::now()));
                    for datagram in answer.unwrap_or_default() {
                        self.send(&datagram);
                    }
                    for packet in handshake.received.drain(..) {
                        messages.iter_mut().for_each(|messages| messages.take(&packet));
                    }
                }
                () = sleep_until(timer.unwrap_or(next.into_std()).into()), if timer.is_some() => {}
                plan = until_told(&mut start), if start.is_some() => {
                    start = None;
                    if let (Some(messages), Some(plan)) = (&mut messages, plan) {
                        messages.start(plan);
                    }
                }
                () = sleep_until(next) => {
                    next += CONSENT_INTERVAL;
                    self.send(&checker.request(TransactionId(rand::random())));
                }
            }
        }
    }
}

/// What is to be sent; nothing, if that is never said.
async fn until_told(start: &mut Option<oneshot::Receiver<MessagePlan>>) -> Option<MessagePlan> {
    match start {
        Some(start) => start.await.ok(),
        None => None,
    }
}

/// The DTLS client of one transport.
struct Handshake {
    dtls: Dtls,
    expected: String,
    verified: bool,
    connected: bool,
    found: Option<KeyingMaterial>,
    keys: Option<KeyingMaterial>,
    timeout: Instant,
    buffer: Vec<u8>,
    /// What came inside.
    received: Vec<Vec<u8>>,
}

impl Handshake {
    fn new(identity: &DtlsIdentity, expected: &str) -> Self {
        let certificate = DtlsCertificate {
            certificate: identity.certificate.clone(),
            private_key: identity.key.clone(),
        };
        let now = Instant::now();
        let mut dtls = Dtls::new_auto(Arc::clone(&identity.config), certificate, now);
        dtls.set_active(true);
        Handshake {
            dtls,
            expected: expected.to_owned(),
            verified: false,
            connected: false,
            found: None,
            keys: None,
            timeout: now,
            buffer: vec![0; RECORD_LEN],
            received: Vec::new(),
        }
    }

    /// Takes a datagram if it is DTLS (RFC 7983).
    fn take(&mut self, datagram: &[u8]) -> Result<(), String> {
        if !matches!(datagram.first(), Some(20..=63)) {
            return Ok(());
        }
        let result = self.dtls.handle_timeout(Instant::now());
        result.and_then(|()| self.dtls.handle_packet(datagram)).map_err(|e| format!("DTLS: {e}"))
    }

    /// Sends something inside.
    fn send(&mut self, packet: &[u8]) -> Result<(), String> {
        self.dtls.send_application_data(packet).map(drop).map_err(|e| format!("DTLS: {e}"))
    }

    /// Lets time pass; what there is to send.
    fn drive(&mut self, now: Instant) -> Result<Vec<Vec<u8>>, String> {
        self.dtls.handle_timeout(now).map_err(|e| format!("DTLS: {e}"))?;
        let mut datagrams = Vec::new();
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(packet) => datagrams.push(packet.to_vec()),
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => {
                    if fingerprint_of(der) != self.expected {
                        return Err("the server's certificate is not the announced one".to_owned());
                    }
                    self.verified = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    self.found = Some(split_keys(&material, profile)?);
                }
                Output::ApplicationData(data) => self.received.push(data.to_vec()),
                Output::CloseNotify => return Err("the server closed DTLS".to_owned()),
                Output::Timeout(at) => {
                    self.timeout = at;
                    break;
                }
                _ => {}
            }
        }
        if self.connected && self.verified {
            self.keys = self.keys.take().or_else(|| self.found.take());
        }
        Ok(datagrams)
    }
}

/// RFC 5764 section 4.2, as the client sees it.
fn split_keys(material: &[u8], profile: SrtpProfile) -> Result<KeyingMaterial, String> {
    let profile = match profile {
        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::AesCm128HmacSha1_80,
        other => return Err(format!("the SRTP profile {other} is unknown")),
    };
    let mut rest = material;
    let mut take = |len: usize| {
        let (part, after) = rest.split_at_checked(len).ok_or("the keys are too short")?;
        rest = after;
        Ok::<_, String>(Zeroizing::new(part.to_vec()))
    };
    let (local_key, remote_key) = (take(profile.key_len())?, take(profile.key_len())?);
    let (local_salt, remote_salt) = (take(profile.salt_len())?, take(profile.salt_len())?);
    Ok(KeyingMaterial { profile, remote_key, remote_salt, local_key, local_salt })
}
