//! One DTLS association: a handshake that strangers can neither end nor stall, and what follows.
//!
//! Until a handshake is authenticated anyone on the path may have written what comes in the clear
//! from the client's address. So the library sees a message in the clear only when it is whole and
//! its turn, and, where DTLS 1.2 signs it, when the signature has been checked against the
//! announced fingerprint; where messages contradict each other in what nothing has signed yet, each
//! is followed by an [`Attempt`] of its own until one of them is authenticated.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use opencall_wire::srtp::KeyingMaterial;

use super::attempt::Attempt;
use super::certificate::PeerFingerprints;
use super::client::ClientHandshake;
use super::message::{CERTIFICATE, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE};
use super::record::{DtlsDrop, DtlsDropCounters, Fragments, Message, Record, Records};
use super::server::ServerHandshake;
use super::{DtlsContext, Settings};

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
    /// What the peer sent inside the association: an SCTP packet. Never before [`Self::Connected`].
    Data(Box<[u8]>),
    /// The peer has closed the association.
    Closed,
    /// The handshake failed, for the reason given; the endpoint is of no more use.
    Failed(String),
}

/// One DTLS association, sans-IO.
pub struct DtlsEndpoint {
    settings: Arc<Settings>,
    role: Role,
    fingerprints: Option<PeerFingerprints>,
    phase: Phase,
    /// The last time we were told of.
    now: Instant,
    drops: DtlsDropCounters,
    outputs: VecDeque<DtlsOutput>,
}

enum Phase {
    Server(Box<ServerHandshake>),
    Client(Box<ClientHandshake>),
    Established(Box<Attempt>),
    Over,
}

/// What a handshake may use of its endpoint.
pub(super) struct Around<'a> {
    pub settings: &'a Settings,
    pub fingerprints: Option<&'a PeerFingerprints>,
    pub now: Instant,
    pub drops: &'a mut DtlsDropCounters,
    pub outputs: &'a mut VecDeque<DtlsOutput>,
}

/// What has become of a handshake.
pub(super) enum Outcome {
    Going,
    /// The peer is who signaling said.
    Established(Box<Attempt>),
    /// Nothing will come of it.
    Failed(String),
}

impl DtlsEndpoint {
    /// A new endpoint; as a client it has its ClientHello to send at once.
    pub fn new(context: &DtlsContext, role: Role, now: Instant) -> Self {
        let mut endpoint = DtlsEndpoint {
            settings: context.settings.clone(),
            role,
            fingerprints: None,
            phase: Phase::Over,
            now,
            drops: DtlsDropCounters::default(),
            outputs: VecDeque::new(),
        };
        endpoint.phase = match role {
            Role::Server => Phase::Server(Box::default()),
            Role::Client => Phase::Client(Box::new(ClientHandshake::new(&mut endpoint.around()))),
        };
        endpoint.settle();
        endpoint
    }

    /// Our role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The fingerprints of the peer, from signaling. What needs them has waited.
    pub fn set_peer_fingerprints(&mut self, fingerprints: PeerFingerprints) {
        self.fingerprints = Some(fingerprints);
        self.with_handshake(|handshake, around| handshake.release(around));
    }

    /// One datagram from the peer.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        self.now = now;
        match self.phase {
            Phase::Established(_) => self.handle_established(datagram),
            _ => self.with_handshake(|handshake, around| handshake.receive(datagram, around)),
        }
    }

    /// Time has passed: flights may have to be sent again.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if let Phase::Established(attempt) = &mut self.phase {
            if let Err(reason) = attempt.advance(now, &mut self.outputs) {
                self.end(DtlsOutput::Failed(reason));
            }
            return;
        }
        self.with_handshake(|handshake, around| handshake.advance(around));
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Server(handshake) => handshake.next_timeout(),
            Phase::Client(handshake) => handshake.next_timeout(),
            Phase::Established(attempt) => attempt.next_timeout(),
            Phase::Over => None,
        }
    }

    /// What there is to say; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<DtlsOutput> {
        self.outputs.pop_front()
    }

    /// Adds what was dropped since the last call, by reason.
    pub fn take_drops(&mut self, counters: &mut DtlsDropCounters) {
        counters.take(&mut self.drops);
    }

    /// Sends data inside the association; without one it is dropped.
    pub fn send(&mut self, data: &[u8]) {
        let Phase::Established(attempt) = &mut self.phase else { return };
        if let Err(reason) = attempt.send(data, &mut self.outputs) {
            self.end(DtlsOutput::Failed(reason));
        }
    }

    /// Says goodbye: queues a `close_notify` if the handshake is done.
    pub fn close(&mut self) {
        if let Phase::Established(attempt) = &mut self.phase {
            attempt.close(&mut self.outputs);
        }
        self.phase = Phase::Over;
    }

    /// Once keys are agreed on only what they protect counts.
    fn handle_established(&mut self, datagram: &[u8]) {
        let Phase::Established(attempt) = &mut self.phase else { return };
        let is_13 = attempt.is_13() == Some(true);
        let mut result = attempt.advance(self.now, &mut self.outputs);
        for record in Records(datagram) {
            let bytes = match record {
                Ok(Record::Protected12(bytes)) if !is_13 => bytes,
                Ok(Record::Protected13(bytes)) if is_13 => bytes,
                // Our last flight of DTLS 1.2 has no timer: it is sent again when the client
                // repeats its own. That is all that this may bring about, and not often.
                Ok(Record::Plain(body)) if !is_13 && repeats_last_flight(body) => {
                    let repeat = Message { kind: CLIENT_KEY_EXCHANGE, seq: 0, body: vec![] };
                    let repeat = repeat.record();
                    result = result.and_then(|()| attempt.feed(&repeat, &mut self.outputs));
                    continue;
                }
                Ok(Record::ChangeCipherSpec) => continue,
                Ok(Record::Alert(_)) => {
                    self.drops.count(DtlsDrop::PlaintextAlert);
                    continue;
                }
                Ok(_) => {
                    self.drops.count(DtlsDrop::UnexpectedMessage);
                    continue;
                }
                Err(drop) => {
                    self.drops.count(drop);
                    continue;
                }
            };
            result = result.and_then(|()| attempt.feed(bytes, &mut self.outputs));
        }
        if attempt.closed {
            self.end(DtlsOutput::Closed);
        } else if let Err(reason) = result {
            self.end(DtlsOutput::Failed(reason));
        }
    }

    fn around(&mut self) -> Around<'_> {
        Around {
            settings: &self.settings,
            fingerprints: self.fingerprints.as_ref(),
            now: self.now,
            drops: &mut self.drops,
            outputs: &mut self.outputs,
        }
    }

    fn with_handshake(&mut self, act: impl FnOnce(&mut dyn Handshake, &mut Around)) {
        let mut phase = std::mem::replace(&mut self.phase, Phase::Over);
        match &mut phase {
            Phase::Server(handshake) => act(&mut **handshake, &mut self.around()),
            Phase::Client(handshake) => act(&mut **handshake, &mut self.around()),
            Phase::Established(_) | Phase::Over => {}
        }
        self.phase = phase;
        self.settle();
    }

    /// Hands out the keys once a handshake is authenticated.
    fn settle(&mut self) {
        let outcome = match &mut self.phase {
            Phase::Server(handshake) => handshake.outcome(),
            Phase::Client(handshake) => handshake.outcome(),
            Phase::Established(_) | Phase::Over => return,
        };
        match outcome {
            Outcome::Going => {}
            Outcome::Failed(reason) => self.end(DtlsOutput::Failed(reason)),
            Outcome::Established(mut attempt) => {
                let Some(keys) = attempt.take_keys() else {
                    let reason = "the client offers no SRTP profile that we allow";
                    return self.end(DtlsOutput::Failed(reason.to_owned()));
                };
                if !self.settings.srtp_profiles.contains(&keys.profile) {
                    let name = keys.profile.name();
                    let reason = format!("the client chose {name}, which is not allowed here");
                    return self.end(DtlsOutput::Failed(reason));
                }
                self.outputs.push_back(DtlsOutput::Connected(keys));
                let closed = attempt.closed;
                self.phase = Phase::Established(attempt);
                if closed {
                    self.end(DtlsOutput::Closed);
                }
            }
        }
    }

    fn end(&mut self, last: DtlsOutput) {
        self.phase = Phase::Over;
        self.outputs.push_back(last);
    }
}

/// A handshake of either role.
pub(super) trait Handshake {
    /// One datagram from the peer's address.
    fn receive(&mut self, datagram: &[u8], around: &mut Around);
    /// The fingerprints are known now.
    fn release(&mut self, around: &mut Around);
    /// Time has passed.
    fn advance(&mut self, around: &mut Around);
}

/// Whether a record in the clear is of a client's last flight. The library knows a repeat by its
/// ClientKeyExchange, so it is shown an empty one: any part of the flight may be what arrives.
fn repeats_last_flight(body: &[u8]) -> bool {
    let of_flight = [CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY];
    Fragments(body).flatten().any(|fragment| of_flight.contains(&fragment.kind))
}

/// What a finished attempt is worth.
pub(super) enum Verdict {
    Going,
    /// The certificate is the announced one.
    Authentic,
    /// It is another.
    Stranger,
}

pub(super) fn verdict(attempt: &Attempt, around: &Around) -> Verdict {
    let Some(fingerprints) = around.fingerprints.filter(|_| attempt.done) else {
        return Verdict::Going;
    };
    match attempt.certificate() {
        Some(der) if fingerprints.match_certificate(der) => Verdict::Authentic,
        _ => Verdict::Stranger,
    }
}

pub(super) const STRANGER: &str = "the certificate is not the one whose fingerprint was announced";

/// Protected records that overtook what their keys come from: a server's flight of DTLS 1.3 with a
/// large certificate. Without them the peer repeats its flight, a timeout later.
const MAX_EARLY: usize = 8;

/// Protected records that wait for keys, of which the newest stay.
#[derive(Default)]
pub(super) struct Early(VecDeque<Box<[u8]>>);

impl Early {
    pub fn keep(&mut self, record: &[u8], around: &mut Around) {
        if self.0.len() >= MAX_EARLY {
            self.0.pop_front();
            around.drops.count(DtlsDrop::NoKeys);
        }
        self.0.push_back(record.into());
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|record| &record[..])
    }
}

/// Datagrams that wait for the fingerprint: a flight of DTLS 1.2 with a large certificate, and
/// again. Clients repeat what is lost.
const MAX_HELD: usize = 8;

/// Datagrams that wait for the fingerprint.
#[derive(Default)]
pub(super) struct Held(VecDeque<Box<[u8]>>);

impl Held {
    pub fn keep(&mut self, datagram: &[u8], around: &mut Around) {
        match self.0.len() < MAX_HELD {
            true => self.0.push_back(datagram.into()),
            false => around.drops.count(DtlsDrop::NoKeys),
        }
    }

    pub fn take(&mut self) -> VecDeque<Box<[u8]>> {
        std::mem::take(&mut self.0)
    }
}

/// Why a handshake came to nothing, for people to read.
#[derive(Default)]
pub(super) struct Failures {
    last: Option<String>,
    alert: Option<u8>,
}

impl Failures {
    pub fn note(&mut self, reason: &str) {
        tracing::debug!("a DTLS handshake failed, the client may try again: {reason}");
        self.last = Some(reason.to_owned());
    }

    /// Nothing is done about an alert in the clear, but it may tell the cause.
    pub fn note_alert(&mut self, description: u8) {
        self.alert = Some(description);
    }

    pub fn summary(&self) -> String {
        let alert = self.alert.map(|description| {
            format!("; an alert {description} came in the clear, perhaps from the client")
        });
        let reason = self.last.as_deref().unwrap_or("the handshake was not finished in time");
        reason.to_owned() + alert.as_deref().unwrap_or_default()
    }
}
