//! The handshake as server: which ClientHellos are followed, and when an answer is believed.
//!
//! * Each ClientHello that is answered has an [`Attempt`] of its own. A fresh one (another random)
//!   begins anew without ending what runs: it may be the client, which has lost its state, or
//!   somebody else; the handshake that is authenticated first stays. It waits while the client of
//!   the one before may be about to answer, so that the client does not get two ServerHellos.
//! * In DTLS 1.2 the client's second flight comes in the clear. It goes to the library as a whole,
//!   once its CertificateVerify, which signs everything before it, has been checked. A flight that
//!   does not verify leaves no trace, and the client repeats its own.
//! * In DTLS 1.3 what follows the ClientHello is protected, and the library drops what is forged.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::endpoint::{
    Around, DtlsOutput, Early, Failures, Handshake, Held, Outcome, Role, STRANGER, Verdict, verdict,
};
use super::message::{
    CERTIFICATE, CERTIFICATE_VERIFY, CLIENT_HELLO, CLIENT_KEY_EXCHANGE, SERVER_HELLO, ServerHello,
    Signed, client_random, leaf_certificate,
};
use super::reassembly::Reassembler;
use super::record::{CHANGE_CIPHER_SPEC, DtlsDrop, Fragment, Fragments, Message, Record, Records};
use super::verify::verify;
use super::{HANDSHAKE_TIMEOUT, Settings};

/// ClientHellos that are followed at a time: the client's, one it sent before it lost its state,
/// and two forged ones. Each costs a key exchange and some 10 KiB until one is authenticated.
const MAX_ATTEMPTS: usize = 4;

/// ClientHellos that wait for their turn.
const MAX_WAITING: usize = 4;

/// How long a fresh ClientHello waits after the last sign of life of the handshake before it. A
/// client answers within its round trip, and browsers repeat a ClientHello after 50 ms; longer
/// would keep a client that begins anew waiting.
const FRESH_HELLO_WAIT: Duration = Duration::from_millis(250);

/// Signs of life put a fresh ClientHello off no longer than this, for they may be forged.
const FRESH_HELLO_WAIT_MAX: Duration = Duration::from_secs(1);

/// The first repeat of a ClientHello that is answered at once and not by the flight's own timer,
/// and the wait between later ones, doubling. Less than the 50 ms after which browsers repeat; a
/// flood of repeats must not become a flood of flights.
const REPEAT_WAIT: Duration = Duration::from_millis(40);

/// Messages of one kind and number that are kept until their flight verifies: the client's and one
/// that is forged, of which the newest stay.
const MAX_VARIANTS: usize = 2;

/// What a transcript up to the ClientKeyExchange has room for at first.
const TRANSCRIPT_BYTES: usize = 4096;

/// ClientHellos that the library refused, kept so that their repeats cost nothing.
const MAX_REFUSED: usize = 4;

#[derive(Default)]
pub(super) struct ServerHandshake {
    reassembler: Reassembler,
    /// The one whose ClientHello was heard last stands last.
    attempts: Vec<ServerAttempt>,
    waiting: VecDeque<Message>,
    refused: VecDeque<Message>,
    /// Messages of the client's second flight of DTLS 1.2, the newest last.
    answers: Vec<Message>,
    held: Held,
    early: Early,
    deadline: Option<Instant>,
    failures: Failures,
    established: Option<Box<Attempt>>,
    over: bool,
}

struct ServerAttempt {
    attempt: Attempt,
    hello: Message,
    random: [u8; 32],
    /// Our flight in DTLS 1.2, as the transcript has it.
    flight: Vec<u8>,
    /// We asked for another ClientHello.
    is_retry: bool,
    /// The client's second flight of DTLS 1.2 has been taken.
    answered: bool,
    started: Instant,
    last_sign: Instant,
    repeat_wait: Duration,
    repeated_at: Instant,
}

impl ServerAttempt {
    /// When a fresh ClientHello need wait no longer.
    fn gives_way_at(&self) -> Instant {
        (self.last_sign + FRESH_HELLO_WAIT).min(self.started + FRESH_HELLO_WAIT_MAX)
    }

    fn is_13(&self) -> bool {
        self.attempt.is_13() == Some(true)
    }
}

impl Handshake for ServerHandshake {
    fn receive(&mut self, datagram: &[u8], around: &mut Around) {
        self.run_timers(around);
        let mut must_wait = false;
        for record in Records(datagram) {
            match record {
                Ok(Record::Plain(body)) => must_wait |= self.plain(body, around),
                Ok(Record::Protected12(_) | Record::Protected13(_))
                    if around.fingerprints.is_none() =>
                {
                    must_wait = true;
                }
                Ok(Record::Protected12(record)) => self.protected(record, false, around),
                Ok(Record::Protected13(record)) => self.protected(record, true, around),
                Ok(Record::ChangeCipherSpec) => {}
                Ok(Record::Alert(description)) => {
                    self.failures.note_alert(description);
                    around.drops.count(DtlsDrop::PlaintextAlert);
                }
                Err(drop) => around.drops.count(drop),
            }
        }
        if must_wait {
            self.held.keep(datagram, around);
        }
    }

    fn release(&mut self, around: &mut Around) {
        for datagram in self.held.take() {
            self.receive(&datagram, around);
        }
    }

    fn advance(&mut self, around: &mut Around) {
        if self.deadline.is_some_and(|deadline| around.now >= deadline) {
            self.over = true;
            return;
        }
        self.run_timers(around);
    }
}

impl ServerHandshake {
    pub fn next_timeout(&self) -> Option<Instant> {
        let newest = self.attempts.last();
        let next = newest.and_then(|newest| match self.waiting.is_empty() {
            true => newest.attempt.next_timeout(),
            false => Some(newest.gives_way_at()),
        });
        [next, self.deadline].into_iter().flatten().min()
    }

    pub fn outcome(&mut self) -> Outcome {
        match self.established.take() {
            Some(attempt) => Outcome::Established(attempt),
            None if self.over => Outcome::Failed(self.failures.summary()),
            None => Outcome::Going,
        }
    }

    /// The fragments of one record; whether they must wait for the fingerprint.
    fn plain(&mut self, body: &[u8], around: &mut Around) -> bool {
        let mut must_wait = false;
        let mut messages = Vec::new();
        for fragment in Fragments(body) {
            let result = match fragment {
                Ok(fragment) if !self.has_use_for(&fragment) => Err(DtlsDrop::UnexpectedMessage),
                Ok(fragment) if fragment.kind != CLIENT_HELLO && around.fingerprints.is_none() => {
                    must_wait = true;
                    Ok(())
                }
                Ok(fragment) => self.reassembler.add(&fragment, &mut messages),
                Err(drop) => Err(drop),
            };
            if let Err(drop) = result {
                around.drops.count(drop);
            }
            for message in messages.drain(..) {
                match message.kind {
                    CLIENT_HELLO => self.hello(message, around),
                    _ => self.answer(message, around),
                }
            }
        }
        must_wait
    }

    /// Whether a message of this kind and number has a place in a handshake that runs.
    fn has_use_for(&self, fragment: &Fragment) -> bool {
        let place = match fragment.kind {
            CLIENT_HELLO => return fragment.seq <= 1,
            CERTIFICATE => 1,
            CLIENT_KEY_EXCHANGE => 2,
            CERTIFICATE_VERIFY => 3,
            _ => return false,
        };
        self.attempts
            .iter()
            .any(|one| !one.is_13() && !one.answered && one.hello.seq + place == fragment.seq)
    }

    fn hello(&mut self, hello: Message, around: &mut Around) {
        if let Some(index) = self.attempts.iter().position(|one| one.hello == hello) {
            return self.repeat(index, around);
        }
        if self.waiting.contains(&hello) || self.refused.contains(&hello) {
            return around.drops.count(DtlsDrop::Repeated);
        }
        let Some(random) = client_random(&hello.body) else {
            return around.drops.count(DtlsDrop::HelloRefused);
        };
        if hello.seq == 1 {
            let asked = |one: &&ServerAttempt| one.is_retry && one.random == random;
            let Some(first) = self.attempts.iter().find(asked).map(|one| one.hello.clone()) else {
                return around.drops.count(DtlsDrop::UnexpectedMessage);
            };
            return self.start(Some(first), hello, random, around);
        }
        let must_wait = self.attempts.last().is_some_and(|one| one.gives_way_at() > around.now);
        if !must_wait {
            self.start(None, hello, random, around);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(hello);
        } else {
            around.drops.count(DtlsDrop::TooManyHellos);
        }
    }

    /// The client has not seen our flight: it is sent again, though not for every repeat. Whose
    /// client asks is the one to go on with.
    fn repeat(&mut self, index: usize, around: &mut Around) {
        around.drops.count(DtlsDrop::Repeated);
        let mut one = self.attempts.remove(index);
        one.last_sign = around.now;
        let mut result = Ok(());
        if !one.answered && around.now >= one.repeated_at + one.repeat_wait {
            one.repeated_at = around.now;
            one.repeat_wait *= 2;
            result = one.attempt.advance(around.now, around.outputs);
            let record = one.hello.record();
            result = result.and_then(|()| one.attempt.feed(&record, around.outputs));
        }
        self.attempts.push(one);
        self.judge(self.attempts.len() - 1, result, around);
    }

    /// Answers a ClientHello; the second of a handshake with the first before it.
    fn start(
        &mut self,
        first: Option<Message>,
        hello: Message,
        random: [u8; 32],
        around: &mut Around,
    ) {
        let mut attempt = Attempt::new(around.settings, Role::Server, around.now);
        let mut out = VecDeque::new();
        let mut result = attempt.advance(around.now, &mut out);
        if let Some(first) = first {
            // The request to retry is the same as before, for it depends on nothing else.
            result = result.and_then(|()| attempt.feed(&first.record(), &mut out));
            out.clear();
        }
        let result = result.and_then(|()| attempt.feed(&hello.record(), &mut out));
        let flight = messages_of(&out);
        if result.is_err() || flight.is_empty() {
            let reason = result.err().unwrap_or("the ClientHello cannot be read".to_owned());
            self.failures.note(&reason);
            around.drops.count(DtlsDrop::HelloRefused);
            self.refused.truncate(MAX_REFUSED - 1);
            self.refused.push_front(hello);
            // A client that cannot be answered is told so in time, as one that falls silent is.
            self.deadline.get_or_insert(around.now + HANDSHAKE_TIMEOUT);
            return;
        }
        around.outputs.append(&mut out);
        let server_hello = flight.iter().find(|message| message.kind == SERVER_HELLO);
        let server_hello = server_hello.and_then(|message| ServerHello::parse(&message.body));
        let mut transcript = Vec::new();
        if attempt.is_13() == Some(false) {
            flight.iter().for_each(|message| message.write(&mut transcript));
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.forget_the_most_silent();
        }
        self.deadline = Some(around.now + HANDSHAKE_TIMEOUT);
        self.attempts.push(ServerAttempt {
            attempt,
            hello,
            random,
            flight: transcript,
            is_retry: server_hello.is_some_and(|hello| hello.is_retry()),
            answered: false,
            started: around.now,
            last_sign: around.now,
            repeat_wait: REPEAT_WAIT,
            repeated_at: around.now,
        });
    }

    fn forget_the_most_silent(&mut self) {
        let signs = self.attempts.iter().map(|one| one.last_sign).enumerate();
        if let Some((index, _)) = signs.min_by_key(|&(_, sign)| sign) {
            self.attempts.remove(index);
        }
    }

    /// A message of the second flight of DTLS 1.2.
    fn answer(&mut self, message: Message, around: &mut Around) {
        if self.answers.contains(&message) {
            return around.drops.count(DtlsDrop::Repeated);
        }
        if message.kind == CERTIFICATE {
            let announced = leaf_certificate(&message.body).is_some_and(|der| {
                around.fingerprints.is_some_and(|known| known.match_certificate(der))
            });
            if !announced {
                self.failures.note(STRANGER);
                return around.drops.count(DtlsDrop::NotAuthentic);
            }
        }
        keep_newest(&mut self.answers, message, MAX_VARIANTS);
        let mut checked = 0;
        let verified = self.attempts.iter().enumerate().find_map(|(index, one)| {
            let flight = verified_flight(one, &self.answers, around.settings, &mut checked)?;
            Some((index, flight.map(Clone::clone)))
        });
        let Some((index, flight)) = verified else {
            if checked > 0 {
                around.drops.count(DtlsDrop::NotAuthentic);
            }
            return;
        };
        // All that it rests on has been signed: nothing else is true.
        let mut one = self.attempts.swap_remove(index);
        self.attempts.clear();
        self.waiting.clear();
        self.answers.clear();
        one.answered = true;
        let mut result = Ok(());
        for message in flight {
            result = result.and_then(|()| one.attempt.feed(&message.record(), around.outputs));
        }
        let mut result =
            result.and_then(|()| one.attempt.feed(&CHANGE_CIPHER_SPEC, around.outputs));
        for record in std::mem::take(&mut self.early).iter() {
            result = result.and_then(|()| one.attempt.feed(record, around.outputs));
        }
        self.attempts.push(one);
        self.judge(0, result, around);
    }

    fn protected(&mut self, record: &[u8], is_13: bool, around: &mut Around) {
        let mut has_keys = false;
        for index in (0..self.attempts.len()).rev() {
            let one = &mut self.attempts[index];
            if one.is_13() != is_13 || !(is_13 || one.answered) {
                continue;
            }
            has_keys = true;
            let said = around.outputs.len();
            let result = one.attempt.feed(record, around.outputs);
            if around.outputs.len() > said {
                one.last_sign = around.now;
            }
            self.judge(index, result, around);
            if self.established.is_some() {
                return;
            }
        }
        if !has_keys && !is_13 && !self.attempts.is_empty() {
            self.early.keep(record, around);
        } else if !has_keys {
            around.drops.count(DtlsDrop::NoKeys);
        }
    }

    /// Looks at what has become of an attempt.
    fn judge(&mut self, index: usize, result: Result<(), String>, around: &mut Around) {
        let verdict = verdict(&self.attempts[index].attempt, around);
        match (result, verdict) {
            (Ok(()), Verdict::Going) => {}
            (Ok(()), Verdict::Authentic) => {
                self.established = Some(Box::new(self.attempts.swap_remove(index).attempt));
            }
            (Ok(()), Verdict::Stranger) => {
                self.attempts.remove(index);
                self.failures.note(STRANGER);
                around.drops.count(DtlsDrop::NotAuthentic);
            }
            (Err(reason), _) => {
                self.attempts.remove(index);
                self.failures.note(&reason);
            }
        }
    }

    /// Only the last attempt repeats its flight by itself, and only while no fresh ClientHello
    /// waits: who sent that would take the flight for the answer to its own. The others do so when
    /// their client asks.
    fn run_timers(&mut self, around: &mut Around) {
        let last = self.attempts.len().checked_sub(1).filter(|_| self.waiting.is_empty());
        if let Some(index) = last {
            let result = self.attempts[index].attempt.advance(around.now, around.outputs);
            self.judge(index, result, around);
        }
        while self.attempts.last().is_none_or(|one| one.gives_way_at() <= around.now) {
            let Some(hello) = self.waiting.pop_front() else { break };
            let Some(random) = client_random(&hello.body) else { continue };
            self.start(None, hello, random, around);
        }
    }
}

/// Adds a message; of its kind and number the newest `limit` stay.
pub(super) fn keep_newest(messages: &mut Vec<Message>, message: Message, limit: usize) {
    let alike = |one: &Message| (one.kind, one.seq) == (message.kind, message.seq);
    if messages.iter().filter(|one| alike(one)).count() >= limit {
        let oldest = messages.iter().position(alike);
        oldest.map(|index| messages.remove(index));
    }
    messages.push(message);
}

/// The whole messages in the clear in our own datagrams.
pub(super) fn messages_of(out: &VecDeque<DtlsOutput>) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut reassembler = Reassembler::default();
    for output in out {
        let DtlsOutput::Datagram(datagram) = output else { continue };
        for record in Records(datagram) {
            let Ok(Record::Plain(body)) = record else { continue };
            for fragment in Fragments(body).flatten() {
                let _ = reassembler.add(&fragment, &mut messages);
            }
        }
    }
    messages
}

/// Certificate, ClientKeyExchange and CertificateVerify, if there are three whose signature covers
/// this very handshake. The last message is the one that has just come: without it all were tried.
fn verified_flight<'a>(
    one: &ServerAttempt,
    answers: &'a [Message],
    settings: &Settings,
    checked: &mut u32,
) -> Option<[&'a Message; 3]> {
    if one.is_13() || one.answered {
        return None;
    }
    let last = answers.last()?;
    let of = |kind: u8, place: u16| {
        let seq = one.hello.seq + place;
        let may_be = move |message: &&Message| {
            (message.kind, message.seq) == (kind, seq) && (kind != last.kind || *message == last)
        };
        answers.iter().filter(may_be)
    };
    for certificate in of(CERTIFICATE, 1) {
        let leaf = leaf_certificate(&certificate.body)?;
        for key_exchange in of(CLIENT_KEY_EXCHANGE, 2) {
            let mut transcript = Vec::with_capacity(TRANSCRIPT_BYTES);
            one.hello.write(&mut transcript);
            transcript.extend_from_slice(&one.flight);
            certificate.write(&mut transcript);
            key_exchange.write(&mut transcript);
            for signature in of(CERTIFICATE_VERIFY, 3) {
                let Some(signed) = Signed::parse(&signature.body) else { continue };
                *checked += 1;
                if verify(settings, leaf, &transcript, &signed) {
                    return Some([certificate, key_exchange, signature]);
                }
            }
        }
    }
    None
}
