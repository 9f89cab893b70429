//! The handshake as client: which answers to our ClientHello are followed.
//!
//! * A ServerHello of DTLS 1.3 is proven only by what is encrypted after it. Each that comes gets a
//!   copy of our ClientHello and its key to go on with; the one that leads to the announced
//!   certificate stays.
//! * In DTLS 1.2 the server's whole flight comes in the clear. It goes to the library once the
//!   signature of its ServerKeyExchange, which covers both randoms, has been checked with the
//!   announced certificate. What nothing signs before the Finished (the rest of the ServerHello,
//!   the CertificateRequest) could be forged only by who sees the server's flight before we do.
//! * A request to say hello once more is believed only when no ServerHello comes for a while: to a
//!   server that sent none it would look like an attack.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::endpoint::{
    Around, Early, Failures, Handshake, Held, Outcome, Role, STRANGER, Verdict, verdict,
};
use super::message::{
    CERTIFICATE, CERTIFICATE_REQUEST, CLIENT_HELLO, HELLO_VERIFY_REQUEST, SERVER_HELLO,
    SERVER_HELLO_DONE, SERVER_KEY_EXCHANGE, ServerHello, client_random, is_certificate_request,
    key_exchange, leaf_certificate,
};
use super::reassembly::Reassembler;
use super::record::{CHANGE_CIPHER_SPEC, DtlsDrop, Fragments, Message, Record, Records};
use super::server::{keep_newest, messages_of};
use super::verify::verify;
use super::{HANDSHAKE_TIMEOUT, Settings};

/// Answers to our ClientHello that are followed at a time: the server's and three forged ones.
const MAX_ATTEMPTS: usize = 4;

/// How long a request to say hello once more (HelloVerifyRequest, HelloRetryRequest) waits for a
/// ServerHello that contradicts it, which comes within the same round trip.
const RETRY_WAIT: Duration = Duration::from_millis(150);

/// Messages of one kind and number that are kept until a flight verifies.
const MAX_VARIANTS: usize = 2;

/// Highest number of a message in the server's flight: after a request to retry.
const MAX_SEQ: u16 = 5;

pub(super) struct ClientHandshake {
    /// The first one asks: it sends our ClientHello until something comes of it.
    attempts: Vec<ClientAttempt>,
    random: [u8; 32],
    reassembler: Reassembler,
    /// Messages of the server's flight of DTLS 1.2, the newest last.
    answers: Vec<Message>,
    /// A request to say hello once more, and when it may be believed.
    retry: Option<(Message, Instant)>,
    held: Held,
    early: Early,
    deadline: Instant,
    failures: Failures,
    established: Option<Box<Attempt>>,
    over: bool,
}

struct ClientAttempt {
    attempt: Attempt,
    /// The number of the ServerHello it waits for: 1 after a request to retry.
    base: u16,
    /// What it went on with: a ServerHello, or a request to retry.
    answers: Vec<Message>,
    /// It has a ServerHello, or in DTLS 1.2 the whole flight.
    answered: bool,
}

impl ClientAttempt {
    fn is_13(&self) -> bool {
        self.attempt.is_13() == Some(true)
    }
}

impl Handshake for ClientHandshake {
    fn receive(&mut self, datagram: &[u8], around: &mut Around) {
        if around.fingerprints.is_none() {
            return self.held.keep(datagram, around);
        }
        self.run_timers(around);
        let known = self.answers.len();
        let mut changed = false;
        for record in Records(datagram) {
            match record {
                Ok(Record::Plain(body)) => changed |= self.plain(body, around),
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
        if changed || self.answers.len() > known {
            self.try_flight(around);
        }
    }

    fn release(&mut self, around: &mut Around) {
        for datagram in self.held.take() {
            self.receive(&datagram, around);
        }
    }

    fn advance(&mut self, around: &mut Around) {
        if around.now >= self.deadline {
            self.over = true;
            return;
        }
        self.run_timers(around);
    }
}

impl ClientHandshake {
    pub fn new(around: &mut Around) -> Self {
        let mut attempt = Attempt::new(around.settings, Role::Client, around.now);
        let mut out = VecDeque::new();
        let mut failures = Failures::default();
        let result = attempt.advance(around.now, &mut out);
        let hello = messages_of(&out).into_iter().find(|message| message.kind == CLIENT_HELLO);
        let random = hello.and_then(|hello| client_random(&hello.body));
        let over = result.is_err() || random.is_none();
        if let Err(reason) = result {
            failures.note(&reason);
        }
        around.outputs.append(&mut out);
        ClientHandshake {
            attempts: vec![ClientAttempt { attempt, base: 0, answers: vec![], answered: false }],
            random: random.unwrap_or_default(),
            reassembler: Reassembler::default(),
            answers: Vec::new(),
            retry: None,
            held: Held::default(),
            early: Early::default(),
            deadline: around.now + HANDSHAKE_TIMEOUT,
            failures,
            established: None,
            over,
        }
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        let flights =
            self.running().filter_map(|index| self.attempts[index].attempt.next_timeout());
        let retry = self.retry.as_ref().map(|(_, at)| *at);
        flights.chain(retry).chain([self.deadline]).min()
    }

    pub fn outcome(&mut self) -> Outcome {
        match self.established.take() {
            Some(attempt) => Outcome::Established(attempt),
            None if self.over => Outcome::Failed(self.failures.summary()),
            None => Outcome::Going,
        }
    }

    /// Whose timers run: not that of the one that asks, where others have had an answer.
    fn running(&self) -> std::ops::Range<usize> {
        let first = usize::from(self.attempts.len() > 1);
        first..self.attempts.len()
    }

    /// The fragments of one record; whether a message of the DTLS 1.2 flight came with it.
    fn plain(&mut self, body: &[u8], around: &mut Around) -> bool {
        let mut messages = Vec::new();
        for fragment in Fragments(body) {
            let result = match fragment {
                Ok(fragment) if !has_place(fragment.kind, fragment.seq) => {
                    Err(DtlsDrop::UnexpectedMessage)
                }
                Ok(fragment) => self.reassembler.add(&fragment, &mut messages),
                Err(drop) => Err(drop),
            };
            if let Err(drop) = result {
                around.drops.count(drop);
            }
        }
        messages.into_iter().fold(false, |changed, message| changed | self.message(message, around))
    }

    fn message(&mut self, message: Message, around: &mut Around) -> bool {
        match message.kind {
            HELLO_VERIFY_REQUEST => {
                self.ask_again_later(message, around);
                return false;
            }
            SERVER_HELLO => {
                let Some(hello) = ServerHello::parse(&message.body) else {
                    around.drops.count(DtlsDrop::HelloRefused);
                    return false;
                };
                if hello.is_retry() {
                    self.ask_again_later(message, around);
                    return false;
                }
                if hello.is_13 {
                    self.follow(message, around);
                    return false;
                }
            }
            CERTIFICATE => {
                let announced = leaf_certificate(&message.body).is_some_and(|der| {
                    around.fingerprints.is_some_and(|known| known.match_certificate(der))
                });
                if !announced {
                    self.failures.note(STRANGER);
                    around.drops.count(DtlsDrop::NotAuthentic);
                    return false;
                }
            }
            CERTIFICATE_REQUEST if !is_certificate_request(&message.body) => {
                around.drops.count(DtlsDrop::FragmentMalformed);
                return false;
            }
            _ => {}
        }
        if self.answers.contains(&message) {
            around.drops.count(DtlsDrop::Repeated);
            return false;
        }
        keep_newest(&mut self.answers, message, MAX_VARIANTS);
        true
    }

    fn ask_again_later(&mut self, request: Message, around: &mut Around) {
        let known = self.attempts.iter().any(|one| one.answers.contains(&request));
        if known || self.retry.is_some() || request.seq != 0 {
            return around.drops.count(DtlsDrop::Repeated);
        }
        self.retry = Some((request, around.now + RETRY_WAIT));
    }

    /// A ServerHello of DTLS 1.3.
    fn follow(&mut self, hello: Message, around: &mut Around) {
        if self.attempts.iter().any(|one| one.answers.contains(&hello)) {
            return around.drops.count(DtlsDrop::Repeated);
        }
        let result = match hello.seq {
            0 => self.fork(hello, 0, true, around),
            _ => self.answer_retried(hello, around),
        };
        if let Err(drop) = result {
            around.drops.count(drop);
        }
    }

    /// Goes on with a copy of what asks.
    fn fork(
        &mut self,
        answer: Message,
        base: u16,
        answered: bool,
        around: &mut Around,
    ) -> Result<(), DtlsDrop> {
        if self.attempts.len() > MAX_ATTEMPTS {
            return Err(DtlsDrop::TooManyHellos);
        }
        let asking = self.attempts.first().ok_or(DtlsDrop::UnexpectedMessage)?;
        let mut attempt = asking.attempt.fork().ok_or(DtlsDrop::UnexpectedMessage)?;
        let mut result = attempt.feed(&answer.record(), around.outputs);
        for record in self.early.iter().filter(|_| answered) {
            result = result.and_then(|()| attempt.feed(record, around.outputs));
        }
        if let Err(reason) = result {
            self.failures.note(&reason);
            return Err(DtlsDrop::HelloRefused);
        }
        self.attempts.push(ClientAttempt { attempt, base, answers: vec![answer], answered });
        self.judge(self.attempts.len() - 1, Ok(()), around);
        Ok(())
    }

    /// The ServerHello after a request to retry.
    fn answer_retried(&mut self, hello: Message, around: &mut Around) -> Result<(), DtlsDrop> {
        let waits = |one: &ClientAttempt| one.base == hello.seq && one.is_13() && !one.answered;
        let index = self.attempts.iter().position(waits).ok_or(DtlsDrop::UnexpectedMessage)?;
        let one = &mut self.attempts[index];
        one.answered = true;
        let record = hello.record();
        one.answers.push(hello);
        let mut result = one.attempt.feed(&record, around.outputs);
        for record in self.early.iter() {
            result = result.and_then(|()| one.attempt.feed(record, around.outputs));
        }
        self.judge(index, result, around);
        Ok(())
    }

    /// Answers a request to say hello once more.
    fn ask_again(&mut self, request: Message, around: &mut Around) {
        if self.attempts.iter().any(|one| one.answered) {
            return;
        }
        let forked = self.attempts.first().is_some_and(|one| one.attempt.is_13().is_none());
        if forked {
            if let Err(drop) = self.fork(request, 1, false, around) {
                around.drops.count(drop);
            }
            return;
        }
        // A client of DTLS 1.2 alone has no key yet that a copy would share.
        let Some(one) = self.attempts.first_mut().filter(|one| one.base == 0) else { return };
        one.base = 1;
        let record = request.record();
        one.answers.push(request);
        let result = one.attempt.feed(&record, around.outputs);
        self.judge(0, result, around);
    }

    /// Looks for a whole flight of DTLS 1.2 that the announced certificate has signed.
    fn try_flight(&mut self, around: &mut Around) {
        let mut checked = 0;
        let verified = self.attempts.iter().enumerate().find_map(|(index, one)| {
            if one.answered || one.is_13() {
                return None;
            }
            let (base, random) = (one.base, &self.random);
            let flight =
                verified_flight(&self.answers, base, random, around.settings, &mut checked)?;
            Some((index, flight.map(Clone::clone)))
        });
        let Some((index, flight)) = verified else {
            if checked > 0 {
                around.drops.count(DtlsDrop::NotAuthentic);
            }
            return;
        };
        self.answers.clear();
        self.go_on_with_flight(index, &flight, around);
    }

    /// Goes on with a whole flight of DTLS 1.2; with a copy, if there can be one, for what nothing
    /// has signed in it may still be wrong.
    fn go_on_with_flight(&mut self, index: usize, flight: &[Message; 5], around: &mut Around) {
        let fork = self.attempts.get(index).and_then(|one| one.attempt.fork());
        let mut one = match fork {
            Some(attempt) => {
                ClientAttempt { attempt, base: 0, answers: Vec::new(), answered: true }
            }
            None => self.attempts.remove(index),
        };
        one.answered = true;
        let said = around.outputs.len();
        let mut result = Ok(());
        for message in flight {
            result = result.and_then(|()| one.attempt.feed(&message.record(), around.outputs));
        }
        if result.is_ok() && around.outputs.len() == said {
            result = Err("the server's flight cannot be read".to_owned());
        }
        let result = result.and_then(|()| one.attempt.feed(&CHANGE_CIPHER_SPEC, around.outputs));
        if result.is_ok() {
            // All that it rests on has been signed: no other answer is the server's.
            self.attempts.truncate(1);
            self.retry = None;
            self.early = Early::default();
        }
        self.attempts.push(one);
        self.judge(self.attempts.len() - 1, result, around);
    }

    fn protected(&mut self, record: &[u8], is_13: bool, around: &mut Around) {
        let mut has_keys = false;
        for index in (0..self.attempts.len()).rev() {
            let one = &mut self.attempts[index];
            if !one.answered || one.is_13() != is_13 {
                continue;
            }
            has_keys = true;
            let result = one.attempt.feed(record, around.outputs);
            self.judge(index, result, around);
            if self.established.is_some() {
                return;
            }
        }
        if !has_keys {
            self.early.keep(record, around);
        }
    }

    /// Looks at what has become of an attempt.
    fn judge(&mut self, index: usize, result: Result<(), String>, around: &mut Around) {
        let verdict = verdict(&self.attempts[index].attempt, around);
        match (result, verdict) {
            (Ok(()), Verdict::Going) => return,
            (Ok(()), Verdict::Authentic) => {
                self.established = Some(Box::new(self.attempts.swap_remove(index).attempt));
                return;
            }
            (Ok(()), Verdict::Stranger) => {
                self.failures.note(STRANGER);
                around.drops.count(DtlsDrop::NotAuthentic);
            }
            (Err(reason), _) => self.failures.note(&reason),
        }
        self.attempts.remove(index);
        // Without the one that asks there is nobody left to go on with a server's answer.
        self.over |= self.attempts.is_empty();
    }

    fn run_timers(&mut self, around: &mut Around) {
        if self.retry.as_ref().is_some_and(|(_, at)| *at <= around.now)
            && let Some((request, _)) = self.retry.take()
        {
            self.ask_again(request, around);
        }
        for index in self.running().rev() {
            let result = self.attempts[index].attempt.advance(around.now, around.outputs);
            self.judge(index, result, around);
        }
    }
}

/// Whether a server's handshake has a message of this kind and number in the clear.
fn has_place(kind: u8, seq: u16) -> bool {
    let in_flight = matches!(
        kind,
        SERVER_HELLO
            | HELLO_VERIFY_REQUEST
            | CERTIFICATE
            | SERVER_KEY_EXCHANGE
            | CERTIFICATE_REQUEST
            | SERVER_HELLO_DONE
    );
    in_flight && seq <= MAX_SEQ
}

/// The five messages of a server's flight, if their signature covers our random and theirs.
///
/// Both peers of a call show a certificate (RFC 8827 section 6.5), so a flight without a
/// CertificateRequest is none.
fn verified_flight<'a>(
    answers: &'a [Message],
    base: u16,
    client_random: &[u8; 32],
    settings: &Settings,
    checked: &mut u32,
) -> Option<[&'a Message; 5]> {
    let of = |kind: u8, place: u16| {
        answers.iter().filter(move |message| (message.kind, message.seq) == (kind, base + place))
    };
    // Of what is not signed the newest is taken, for who forges does not know the server's.
    let request = of(CERTIFICATE_REQUEST, 3).next_back()?;
    let done = of(SERVER_HELLO_DONE, 4).rfind(|message| message.body.is_empty())?;
    for hello in of(SERVER_HELLO, 0) {
        let server_random = ServerHello::parse(&hello.body)?.random;
        for certificate in of(CERTIFICATE, 1) {
            let leaf = leaf_certificate(&certificate.body)?;
            for exchange in of(SERVER_KEY_EXCHANGE, 2) {
                let Some((parameters, signed)) = key_exchange(&exchange.body) else { continue };
                let data = [&client_random[..], &server_random, parameters].concat();
                *checked += 1;
                if verify(settings, leaf, &data, &signed) {
                    return Some([hello, certificate, exchange, request, done]);
                }
            }
        }
    }
    None
}
