//! Input: a script of checks, timeouts and restarts for one agent. Each step is a byte that says
//! what it is, and what it takes.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::ice::IceAgent;
use opencall_dataplane::ice::agent::{Handled, MAX_TUPLES, Outcome, Tuple};
use opencall_dataplane::message::{IceCredentials, IceState};
use opencall_io::SocketId;
use opencall_wire::stun::{MAX_RESPONSE_LEN, parse_binding_request};
use opencall_wire::time::Time;

use crate::input::Input;
use crate::stun_message::{BINDING_ERROR, BINDING_REQUEST, Message, attribute, check_answer};

/// Credentials there are: restarts go round them, so that old ones come back.
const CREDENTIALS: u8 = 4;

/// Addresses a client comes from: more than an agent takes.
const SOURCES: u8 = 12;

/// Plays the script; what must be true of an agent is looked at after each step.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut talk = Talk {
        agent: IceAgent::new(credentials(0)),
        now: Time::from_millis(1),
        current: 0,
        transactions: 0,
        used: HashSet::new(),
    };
    while !input.is_empty() {
        match input.below(8) {
            0 => talk.wait(&mut input),
            1 => talk.restart(input.below(CREDENTIALS)),
            2 => talk.forget(source(input.byte())),
            3 => talk.datagram(input.bytes()),
            4 => talk.authentic(source(input.byte())),
            _ => talk.check(&mut input),
        }
        talk.invariants();
    }
}

fn credentials(number: u8) -> IceCredentials {
    IceCredentials { ufrag: format!("ufrag{number}"), pwd: format!("a password, number {number}") }
}

fn source(number: u8) -> Tuple {
    let number = number % SOURCES;
    let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + number / 3));
    (SocketAddr::new(ip, 5000 + u16::from(number)), SocketId(number & 1))
}

struct Talk {
    agent: IceAgent,
    now: Time,
    /// Which credentials are the current ones.
    current: u8,
    transactions: u32,
    /// Those of checks that were good.
    used: HashSet<u32>,
}

/// All that can be seen of an agent.
#[derive(PartialEq, Eq)]
struct View {
    ufrags: Vec<String>,
    tuples: Vec<Tuple>,
    selected: Option<Tuple>,
    destination: Option<Tuple>,
    state: Option<IceState>,
    next_timeout: Time,
}

impl Talk {
    fn view(&self) -> View {
        View {
            ufrags: self.agent.ufrags().map(str::to_owned).collect(),
            tuples: self.agent.tuples().collect(),
            selected: self.agent.selected(),
            destination: self.agent.destination(),
            state: self.agent.state(),
            next_timeout: self.agent.next_timeout(),
        }
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        self.now = self.now + Duration::from_millis(200) * u32::from(input.byte());
        let due = self.agent.next_timeout() <= self.now;
        let before = self.view();
        let expired = self.agent.handle_timeout(self.now);
        assert_eq!(expired, due.then_some(IceState::Disconnected));
        assert_eq!(self.agent.selected(), before.selected);
        assert!(self.agent.next_timeout() > self.now);
        assert_eq!(self.agent.handle_timeout(self.now), None, "once is enough");
    }

    fn restart(&mut self, number: u8) {
        let before = self.view();
        let retired = self.agent.restart(credentials(number));
        self.current = number;
        let after = self.view();
        assert_eq!(after.ufrags[0], credentials(number).ufrag);
        assert!(after.tuples == before.tuples && after.selected == before.selected);
        let gone: Vec<_> = before.ufrags.iter().filter(|u| !after.ufrags.contains(u)).collect();
        assert_eq!(gone, retired.iter().collect::<Vec<_>>());
    }

    fn forget(&mut self, (addr, socket): Tuple) {
        let before = self.view();
        self.agent.forget(addr, socket);
        assert!(!self.agent.is_validated(addr, socket));
        let kept = before.selected.filter(|&selected| selected != (addr, socket));
        assert_eq!(self.agent.selected(), kept);
    }

    /// A packet that only the client can have sent.
    fn authentic(&mut self, (addr, socket): Tuple) {
        let before = self.view();
        let moved = self.agent.prove(addr, socket);
        let after = self.view();
        assert_eq!(self.agent.is_proven(addr, socket), before.tuples.contains(&(addr, socket)));
        assert_eq!(moved, before.selected != after.selected);
        assert!(!moved || after.selected == Some((addr, socket)));
    }

    /// A datagram that nobody signed.
    fn datagram(&mut self, datagram: &[u8]) {
        let Ok(request) = parse_binding_request(datagram) else { return };
        let before = self.view();
        let (addr, socket) = source(0);
        let mut out = [0; MAX_RESPONSE_LEN];
        let result = self.agent.handle_binding_request(self.now, &request, addr, socket, &mut out);
        assert!(result.is_err() && self.view() == before);
    }

    /// A check, good or with one thing wrong.
    fn check(&mut self, input: &mut Input<'_>) {
        let (flags, more) = (input.byte(), input.byte());
        let from = source(input.byte());
        // Mostly the current credentials, else others.
        let number = if flags & 1 == 0 { self.current } else { (more >> 6) % CREDENTIALS };
        let (sha256, forged) = (flags & 2 != 0, more & 0x07 == 1);
        // Some come again, perhaps from elsewhere.
        self.transactions += u32::from(more & 0xc7 != 2);
        let mut transaction_id = [7; 12];
        transaction_id[..4].copy_from_slice(&self.transactions.to_be_bytes());
        let username = format!("{}:client", credentials(number).ufrag);
        let mut message = Message::new(BINDING_REQUEST, transaction_id)
            .attribute(attribute::USERNAME, username.as_bytes());
        let role = match flags & 0x0c {
            0x0c => attribute::ICE_CONTROLLED,
            _ => attribute::ICE_CONTROLLING,
        };
        message = message.attribute(role, &[1; 8]);
        if flags & 0x10 != 0 {
            message = message.attribute(attribute::USE_CANDIDATE, &[]);
        }
        if flags & 0x20 != 0 {
            message = message.attribute(attribute::PRIORITY, &input.u32().to_be_bytes());
        }
        if flags & 0x40 != 0 {
            let nomination = u32::from(input.byte());
            message = message.attribute(attribute::NOMINATION, &nomination.to_be_bytes());
        }
        let unknown = flags & 0x80 != 0 && more & 0x38 == 0;
        if unknown {
            message = message.attribute(0x7f00, &[]);
        }
        let pwd = credentials(number).pwd;
        let signed_with = if forged { "a guess" } else { pwd.as_str() };
        let datagram = message.integrity(sha256, signed_with).finish();
        let request = parse_binding_request(&datagram).expect("a good request");
        let before = self.view();
        let mut out = [0; MAX_RESPONSE_LEN];
        let result =
            self.agent.handle_binding_request(self.now, &request, from.0, from.1, &mut out);
        let known = before.ufrags.contains(&credentials(number).ufrag);
        let handled = match result {
            Ok(handled) => handled,
            Err(DropReason::StunReplayed) => {
                assert!(known && !forged);
                assert!(self.used.contains(&self.transactions));
                assert!(self.view() == before);
                return;
            }
            Err(reason) => {
                let want =
                    if known { DropReason::StunBadIntegrity } else { DropReason::StunUnknownUfrag };
                assert!(reason == want && (forged || !known));
                assert!(self.view() == before, "nobody changes what they may not speak to");
                return;
            }
        };
        assert!(known && !forged);
        let answer = &out[..handled.response_len];
        let kind = check_answer(answer, transaction_id, sha256, &pwd);
        let rejected = unknown || role == attribute::ICE_CONTROLLED;
        assert_eq!(kind == BINDING_ERROR, rejected);
        if !rejected {
            self.used.insert(self.transactions);
        }
        self.accepted(&before, &handled, from, rejected);
    }

    fn accepted(&self, before: &View, handled: &Handled, from: Tuple, rejected: bool) {
        if rejected {
            assert!(handled.outcome == Outcome::Rejected && self.view() == *before);
            return;
        }
        let after = self.view();
        assert!(after.tuples.contains(&from));
        assert!(self.agent.has_consent(), "a valid check is consent");
        match handled.outcome {
            Outcome::Rejected => panic!("it was a good check"),
            Outcome::Unchanged => assert!(before.tuples.contains(&from)),
            Outcome::NewTuple => assert!(!before.tuples.contains(&from)),
            Outcome::Selected { changed } => {
                assert_eq!(changed, before.selected != Some(from));
                assert!(!changed || after.selected == Some(from));
            }
        }
        if !matches!(handled.outcome, Outcome::Selected { .. }) {
            assert!(after.selected == before.selected && after.state == before.state);
        }
        if let Some(evicted) = handled.evicted {
            assert!(before.tuples.contains(&evicted) && !after.tuples.contains(&evicted));
            assert_ne!(before.selected, Some(evicted));
        }
        let gone: Vec<_> = before.ufrags.iter().filter(|u| !after.ufrags.contains(u)).collect();
        assert_eq!(gone, handled.retired_ufrag.iter().collect::<Vec<_>>());
    }

    fn invariants(&self) {
        let View { ufrags, tuples, selected, destination, state, next_timeout } = self.view();
        assert!((1..=2).contains(&ufrags.len()) && ufrags.get(1) != Some(&ufrags[0]));
        assert!(tuples.len() <= MAX_TUPLES);
        for (index, tuple) in tuples.iter().enumerate() {
            assert!(!tuples[..index].contains(tuple), "each tuple is there once");
            assert!(self.agent.is_validated(tuple.0, tuple.1));
        }
        assert!(selected.is_none_or(|selected| tuples.contains(&selected)));
        // Media goes nowhere but to who is selected, proven and consents.
        let proven = selected.filter(|selected| self.agent.is_proven(selected.0, selected.1));
        assert_eq!(destination, proven.filter(|_| self.agent.has_consent()));
        let claimant = self.agent.claimant();
        assert!(claimant.is_none_or(|claimant| !self.agent.is_proven(claimant.0, claimant.1)));
        let consent = matches!(state, Some(IceState::Connected | IceState::Completed));
        assert_eq!(self.agent.has_consent(), consent);
        assert_eq!(next_timeout == Time::NEVER, !consent);
    }
}
