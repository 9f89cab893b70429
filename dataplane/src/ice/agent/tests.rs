//! Talks between a client (`stun-types`) and the agent.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use opencall_wire::stun::{MAX_RESPONSE_LEN, parse_binding_request};

use super::*;
use crate::ice::test_client::{Check, Random};

const UDP: SocketId = SocketId(0);
const UDP6: SocketId = SocketId(1);

/// Priorities as a browser gives its pairs.
const WIFI_PRIORITY: u32 = 0x6e7f_1eff;
const CELL_PRIORITY: u32 = 0x6e7e_1eff;

fn check_of(server: &IceCredentials) -> Check {
    Check::new(&server.ufrag, &server.pwd)
}

fn wifi() -> SocketAddr {
    "198.51.100.7:50000".parse().unwrap()
}

fn cell() -> SocketAddr {
    "203.0.113.9:61000".parse().unwrap()
}

fn third() -> SocketAddr {
    "192.0.2.33:40000".parse().unwrap()
}

fn port(port: u16) -> SocketAddr {
    SocketAddr::new(wifi().ip(), port)
}

fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// A client and an agent that talk. Every request gets a transaction of its own, every answer is
/// read by the client.
struct Talk {
    agent: IceAgent,
    credentials: IceCredentials,
    transactions: u128,
}

impl Talk {
    fn new() -> Self {
        let credentials = IceCredentials::generate(None);
        Talk { agent: IceAgent::new(credentials.clone()), credentials, transactions: 0 }
    }

    /// A plain check with the newest credentials.
    fn check(&self) -> Check {
        check_of(&self.credentials)
    }

    /// Sends a check from `source`; asserts that the client gets an answer of the right kind.
    fn handled(&mut self, at: Time, source: SocketAddr, check: Check) -> Handled {
        self.try_check(at, source, UDP, check).expect("the check is authentic")
    }

    fn try_check(
        &mut self,
        at: Time,
        source: SocketAddr,
        socket: SocketId,
        check: Check,
    ) -> Result<Handled, DropReason> {
        self.transactions += 1;
        let check = check.transaction(self.transactions);
        let bytes = check.bytes();
        let request = parse_binding_request(&bytes)?;
        let mut out = [0; MAX_RESPONSE_LEN];
        let agent = &mut self.agent;
        let handled = agent.handle_binding_request(at, &request, source, socket, &mut out)?;
        let reply = check.read_reply(&out[..handled.response_len], &[]);
        if handled.outcome == Outcome::Rejected {
            assert!(reply.is_err());
        } else {
            assert_eq!(reply, Ok(source), "the client learns its address");
            assert!(agent.is_validated(source, socket));
        }
        Ok(handled)
    }

    /// Sends a check and returns what it changed.
    fn says(&mut self, at: Time, source: SocketAddr, check: Check) -> Outcome {
        self.handled(at, source, check).outcome
    }

    fn plain(&mut self, at: Time, source: SocketAddr) -> Outcome {
        self.says(at, source, self.check())
    }

    fn nominates(&mut self, at: Time, source: SocketAddr) -> Outcome {
        self.says(at, source, self.check().use_candidate())
    }

    fn restart(&mut self) -> Option<String> {
        self.credentials = IceCredentials::generate(None);
        self.agent.restart(self.credentials.clone())
    }

    fn selected(&self) -> Option<SocketAddr> {
        self.agent.selected().map(|(source, _)| source)
    }
}

#[test]
fn a_browser_connects_and_nominates() {
    let mut talk = Talk::new();
    assert_eq!(talk.agent.state(), None);
    assert_eq!(talk.agent.selected(), None);
    assert!(!talk.agent.has_consent());
    assert_eq!(talk.agent.next_timeout(), Time::NEVER);
    assert!(!talk.agent.is_validated(wifi(), UDP));

    // The first valid check opens the way for DTLS.
    assert_eq!(talk.plain(ms(0), wifi()), Outcome::Selected { changed: true });
    assert_eq!(talk.agent.state(), Some(IceState::Connected));
    assert_eq!(talk.agent.selected(), Some((wifi(), UDP)));
    assert!(talk.agent.has_consent());

    // The nomination completes ICE, and every later one is old news.
    assert_eq!(talk.nominates(ms(50), wifi()), Outcome::Selected { changed: false });
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
    for second in 1..60 {
        assert_eq!(talk.nominates(ms(second * 1_000), wifi()), Outcome::Unchanged);
        assert_eq!(talk.agent.handle_timeout(ms(second * 1_000)), None);
    }
}

#[test]
fn a_client_that_nominates_with_its_first_check_is_complete_at_once() {
    let mut talk = Talk::new();
    assert_eq!(talk.nominates(ms(0), wifi()), Outcome::Selected { changed: true });
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
}

#[test]
fn the_first_of_several_paths_is_selected_until_the_client_says_which() {
    let mut talk = Talk::new();
    talk.plain(ms(0), cell());
    assert_eq!(talk.says(ms(5), wifi(), talk.check().priority(u32::MAX)), Outcome::NewTuple);
    assert_eq!(talk.plain(ms(10), wifi()), Outcome::Unchanged);
    assert_eq!(talk.selected(), Some(cell()));
    assert_eq!(talk.nominates(ms(60), wifi()), Outcome::Selected { changed: true });
    assert_eq!(talk.selected(), Some(wifi()));
    assert!(talk.agent.is_validated(cell(), UDP), "the other path stays good to hear from");
}

#[test]
fn after_the_nomination_a_backup_path_does_not_take_over() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    // libwebrtc keeps its backup pairs alive with plain checks.
    assert_eq!(talk.plain(ms(10), cell()), Outcome::NewTuple);
    for tick in 1..40 {
        assert_eq!(talk.plain(ms(tick * 2_500), cell()), Outcome::Unchanged);
        assert_eq!(talk.nominates(ms(tick * 2_500 + 100), wifi()), Outcome::Unchanged);
    }
    assert_eq!(talk.selected(), Some(wifi()));
}

#[test]
fn a_browser_that_moves_to_another_network_and_back_is_followed_at_once() {
    let mut talk = Talk::new();
    let wifi_check = |talk: &Talk| talk.check().priority(WIFI_PRIORITY);
    let cell_check = |talk: &Talk| talk.check().priority(CELL_PRIORITY);
    talk.says(ms(0), wifi(), wifi_check(&talk).use_candidate());
    talk.says(ms(10), cell(), cell_check(&talk));

    // Wi-Fi gets bad; the browser uses the cell pair, though its priority is lower.
    let moved = talk.says(ms(5_000), cell(), cell_check(&talk).use_candidate());
    assert_eq!(moved, Outcome::Selected { changed: true });
    assert_eq!(talk.selected(), Some(cell()));
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
    // The old pair is now the backup.
    assert_eq!(talk.says(ms(5_100), wifi(), wifi_check(&talk)), Outcome::Unchanged);
    assert_eq!(talk.selected(), Some(cell()));

    // Wi-Fi is well again.
    let back = talk.says(ms(9_000), wifi(), wifi_check(&talk).use_candidate());
    assert_eq!(back, Outcome::Selected { changed: true });
    assert_eq!(talk.selected(), Some(wifi()));
}

#[test]
fn moving_back_takes_two_checks_when_the_old_pair_was_never_seen_as_a_backup() {
    let mut talk = Talk::new();
    let cell_check = |talk: &Talk| talk.check().priority(CELL_PRIORITY).use_candidate();
    talk.says(ms(0), cell(), cell_check(&talk));
    talk.says(ms(1_000), wifi(), talk.check().priority(WIFI_PRIORITY).use_candidate());
    assert_eq!(talk.selected(), Some(wifi()));
    // For all we know both are nominated in turn, so the better one stays …
    assert_eq!(talk.says(ms(4_000), cell(), cell_check(&talk)), Outcome::Unchanged);
    // … until only one of them goes on.
    let moved = talk.says(ms(4_500), cell(), cell_check(&talk));
    assert_eq!(moved, Outcome::Selected { changed: true });
    assert_eq!(talk.selected(), Some(cell()));
}

#[test]
fn a_nat_that_gives_the_client_a_new_port_is_followed() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), port(50_000));
    talk.nominates(ms(2_500), port(50_000));
    assert_eq!(talk.nominates(ms(5_000), port(50_001)), Outcome::Selected { changed: true });
    assert_eq!(talk.selected(), Some(port(50_001)));
}

#[test]
fn a_client_that_nominates_every_pair_in_turn_makes_nothing_flap() {
    let mut talk = Talk::new();
    let pairs = [(cell(), CELL_PRIORITY), (wifi(), WIFI_PRIORITY), (third(), 1)];
    for round in 0..100 {
        for (index, &(source, priority)) in pairs.iter().enumerate() {
            let at = ms(round * 150 + index as u64 * 50);
            let check = talk.check().priority(priority).use_candidate();
            let outcome = talk.says(at, source, check);
            // In the first round each pair is new, in the second the best one comes out on top.
            assert!(round < 2 || outcome == Outcome::Unchanged, "{source} in round {round}");
        }
    }
    assert_eq!(talk.selected(), Some(wifi()), "the pair of the highest priority");
}

#[test]
fn of_two_renominations_the_higher_holds_in_whatever_order_they_come() {
    let mut talk = Talk::new();
    let nomination = |talk: &Talk, n| talk.check().use_candidate().nomination(n);
    talk.says(ms(0), wifi(), nomination(&talk, 1));
    let moved = talk.says(ms(100), cell(), nomination(&talk, 3));
    assert_eq!(moved, Outcome::Selected { changed: true });
    // Late: the client has thought better of it since.
    assert_eq!(talk.says(ms(110), third(), nomination(&talk, 2)), Outcome::NewTuple);
    assert_eq!(talk.selected(), Some(cell()));
    // A straggler without the counter, of higher priority, counts as its tuple's last.
    let straggler = talk.check().use_candidate().priority(u32::MAX);
    assert_eq!(talk.says(ms(120), wifi(), straggler), Outcome::Unchanged);
    assert_eq!(talk.selected(), Some(cell()));
    // A straggler of the selected tuple's own does not lower what it has.
    talk.says(ms(122), cell(), nomination(&talk, 1));
    assert_eq!(talk.says(ms(124), third(), nomination(&talk, 2)), Outcome::Unchanged);
    // Once it is acknowledged the client leaves the counter out; nothing changes by that.
    assert_eq!(talk.nominates(ms(130), cell()), Outcome::Unchanged);
    // NOMINATION alone nominates, too.
    let alone = talk.check().nomination(4);
    assert_eq!(talk.says(ms(140), wifi(), alone), Outcome::Selected { changed: true });
}

#[test]
fn a_path_that_is_not_nominated_takes_over_from_a_silent_one() {
    let mut talk = Talk::new();
    let silence = SELECTED_SILENCE.as_millis() as u64;
    talk.nominates(ms(0), wifi());
    assert_eq!(talk.plain(ms(silence - 1), cell()), Outcome::NewTuple);
    assert_eq!(talk.plain(ms(silence), cell()), Outcome::Selected { changed: true });
    assert_eq!(talk.selected(), Some(cell()));
    assert_eq!(talk.agent.state(), Some(IceState::Connected), "nobody has nominated this one");
    assert_eq!(talk.nominates(ms(silence + 10), wifi()), Outcome::Selected { changed: true });
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
}

#[test]
fn a_restart_in_the_middle_of_a_call_keeps_media_flowing() {
    let mut talk = Talk::new();
    let old = talk.credentials.clone();
    talk.nominates(ms(0), wifi());

    assert_eq!(talk.restart(), None);
    let ufrags: Vec<_> = talk.agent.ufrags().map(str::to_owned).collect();
    assert_eq!(ufrags, [talk.credentials.ufrag.clone(), old.ufrag.clone()]);
    assert_eq!(talk.selected(), Some(wifi()));

    // The client does not know yet: its checks with the old credentials are good.
    let still = talk.handled(ms(1_000), wifi(), check_of(&old).use_candidate());
    assert_eq!((still.outcome, still.retired_ufrag), (Outcome::Unchanged, None));

    // Its first check with the new ones comes from a new network, and ends the old ones.
    let first = talk.handled(ms(1_100), cell(), talk.check());
    assert_eq!(first.outcome, Outcome::NewTuple);
    assert_eq!(first.retired_ufrag.as_ref(), Some(&old.ufrag));
    assert!(talk.agent.ufrags().eq([talk.credentials.ufrag.as_str()]));
    assert_eq!(
        talk.selected(),
        Some(wifi()),
        "media goes where it went until the client nominates"
    );
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
    assert_eq!(talk.nominates(ms(1_150), cell()), Outcome::Selected { changed: true });

    let late = talk.try_check(ms(1_200), wifi(), UDP, check_of(&old).use_candidate());
    assert_eq!(late, Err(DropReason::StunUnknownUfrag));
    let again = talk.handled(ms(1_300), cell(), talk.check().use_candidate());
    assert_eq!((again.outcome, again.retired_ufrag), (Outcome::Unchanged, None));
}

#[test]
fn a_restart_begins_a_new_count_of_nominations() {
    let mut talk = Talk::new();
    talk.says(ms(0), wifi(), talk.check().use_candidate().nomination(9));
    talk.restart();
    let first = talk.says(ms(100), cell(), talk.check().use_candidate().nomination(1));
    assert_eq!(first, Outcome::Selected { changed: true });
}

#[test]
fn after_a_restart_the_first_nomination_holds_whatever_was_nominated_before() {
    let mut talk = Talk::new();
    talk.says(ms(0), cell(), talk.check().priority(CELL_PRIORITY).use_candidate());
    talk.says(ms(10), wifi(), talk.check().priority(WIFI_PRIORITY).use_candidate());
    assert_eq!(talk.selected(), Some(wifi()));
    talk.restart();
    let check = talk.check().priority(CELL_PRIORITY).use_candidate();
    assert_eq!(talk.says(ms(20), cell(), check), Outcome::Selected { changed: true });
}

#[test]
fn a_restart_during_a_restart_keeps_the_credentials_in_use() {
    let mut talk = Talk::new();
    let used = talk.credentials.clone();
    talk.nominates(ms(0), wifi());
    talk.restart();
    let never_used = talk.credentials.clone();
    assert_eq!(talk.restart(), Some(never_used.ufrag.clone()));

    let refused = talk.try_check(ms(100), wifi(), UDP, check_of(&never_used));
    assert_eq!(refused, Err(DropReason::StunUnknownUfrag));
    assert_eq!(talk.says(ms(200), wifi(), check_of(&used)), Outcome::Unchanged);
    let done = talk.handled(ms(300), wifi(), talk.check());
    assert_eq!(done.retired_ufrag, Some(used.ufrag));
}

#[test]
fn a_restart_to_a_name_in_use_retires_nobody() {
    let mut talk = Talk::new();
    let first = talk.credentials.clone();
    assert_eq!(talk.agent.restart(first.clone()), None);
    assert!(talk.agent.ufrags().eq([first.ufrag.as_str()]));
    assert_eq!(talk.handled(ms(0), wifi(), check_of(&first)).retired_ufrag, None);

    talk.restart();
    let second = talk.credentials.clone();
    assert_eq!(talk.agent.restart(second.clone()), None);
    assert_eq!(talk.agent.ufrags().count(), 2);
    assert_eq!(talk.agent.restart(first.clone()), Some(second.ufrag));
    assert!(talk.agent.ufrags().eq([first.ufrag.as_str()]));
    assert_eq!(talk.handled(ms(10), wifi(), check_of(&first)).retired_ufrag, None);
}

#[test]
fn a_client_that_claims_to_be_controlled_is_told_to_control() {
    let mut talk = Talk::new();
    for tie_breaker in [0, u64::MAX] {
        let check = talk.check().controlled(tie_breaker).use_candidate().transaction(5);
        let bytes = check.bytes();
        let request = parse_binding_request(&bytes).unwrap();
        let mut out = [0; MAX_RESPONSE_LEN];
        let agent = &mut talk.agent;
        let handled = agent.handle_binding_request(ms(0), &request, wifi(), UDP, &mut out).unwrap();
        assert_eq!(handled.outcome, Outcome::Rejected);
        assert_eq!(check.read_reply(&out[..handled.response_len], &[]), Err((487, vec![])));
    }
    assert!(!talk.agent.is_validated(wifi(), UDP));
    assert_eq!(talk.agent.state(), None);
    // It switches roles and all is well; so it is with a client that claims no role.
    assert_eq!(talk.nominates(ms(50), wifi()), Outcome::Selected { changed: true });
    let no_role = talk.check().without_role();
    assert_eq!(talk.says(ms(60), wifi(), no_role), Outcome::Unchanged);
}

#[test]
fn a_rejected_check_neither_validates_nor_ends_a_restart() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    talk.restart();
    let strange = talk.handled(ms(10), cell(), talk.check().attribute(0x7abc, b"?"));
    assert_eq!((strange.outcome, strange.retired_ufrag), (Outcome::Rejected, None));
    assert!(!talk.agent.is_validated(cell(), UDP));
    assert_eq!(talk.agent.ufrags().count(), 2);
}

#[test]
fn who_does_not_know_the_password_gets_no_answer() {
    let mut talk = Talk::new();
    let guess = talk.check().pwd("a guess of 22 characters").use_candidate();
    let refused = talk.try_check(ms(0), wifi(), UDP, guess.clone());
    assert_eq!(refused, Err(DropReason::StunBadIntegrity));
    assert_eq!(talk.agent.state(), None);
    assert!(!talk.agent.is_validated(wifi(), UDP));

    // Nor does a guess keep consent alive, move the selected address or name an error.
    talk.nominates(ms(0), wifi());
    let before = talk.agent.next_timeout();
    for check in [guess.clone(), guess.clone().controlled(1), guess.attribute(0x7abc, b"?")] {
        let refused = talk.try_check(ms(100), cell(), UDP, check);
        assert_eq!(refused, Err(DropReason::StunBadIntegrity));
    }
    assert_eq!(talk.agent.next_timeout(), before);
    assert_eq!(talk.selected(), Some(wifi()));

    let elsewhere = talk.check().username("nobody:client");
    assert_eq!(talk.try_check(ms(0), wifi(), UDP, elsewhere), Err(DropReason::StunUnknownUfrag));
}

#[test]
fn an_answer_without_room_changes_nothing() {
    let mut talk = Talk::new();
    let bytes = talk.check().bytes();
    let request = parse_binding_request(&bytes).unwrap();
    let mut out = [0; 63];
    let agent = &mut talk.agent;
    let refused = agent.handle_binding_request(ms(0), &request, wifi(), UDP, &mut out);
    assert_eq!(refused, Err(DropReason::ArenaFull));
    assert_eq!(agent.state(), None);
}

#[test]
fn a_check_seen_from_elsewhere_is_refused_and_one_sent_again_is_answered() {
    let mut talk = Talk::new();
    let check = talk.check().use_candidate().transaction(7);
    let bytes = check.bytes();
    let request = parse_binding_request(&bytes).unwrap();
    let mut out = [0; MAX_RESPONSE_LEN];
    let mut answer = |at, source| {
        let agent = &mut talk.agent;
        agent.handle_binding_request(at, &request, source, UDP, &mut out).map(|h| h.outcome)
    };
    assert_eq!(answer(ms(0), wifi()), Ok(Outcome::Selected { changed: true }));
    assert_eq!(answer(ms(10), wifi()), Ok(Outcome::Unchanged));
    assert_eq!(answer(ms(20), cell()), Err(DropReason::StunReplayed));
    assert!(!talk.agent.is_validated(cell(), UDP));
}

#[test]
fn who_is_not_proven_claims_and_takes_over_once_it_is() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    assert_eq!(talk.agent.destination(), None);
    assert_eq!(talk.agent.claimant(), Some((wifi(), UDP)), "it may be sent a little");
    assert!(!talk.agent.prove(wifi(), UDP), "it was selected already");
    assert_eq!(talk.agent.destination(), Some((wifi(), UDP)));
    assert_eq!(talk.agent.claimant(), None);

    assert_eq!(talk.nominates(ms(100), cell()), Outcome::NewTuple);
    assert_eq!(talk.agent.destination(), Some((wifi(), UDP)), "media goes where it went");
    assert_eq!(talk.agent.claimant(), Some((cell(), UDP)));
    assert!(talk.agent.prove(cell(), UDP));
    assert_eq!(talk.agent.destination(), Some((cell(), UDP)));
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
}

#[test]
fn a_claim_is_over_when_the_client_nominates_where_it_was() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    talk.agent.prove(wifi(), UDP);
    talk.nominates(ms(100), cell());
    talk.nominates(ms(200), wifi());
    assert_eq!(talk.agent.claimant(), None);
    assert!(!talk.agent.prove(cell(), UDP), "it is there, but nobody wants it");
    assert_eq!(talk.selected(), Some(wifi()));
    // Proven as it is now, its next nomination is followed as ever.
    talk.plain(ms(300), cell());
    assert_eq!(talk.nominates(ms(400), cell()), Outcome::Selected { changed: true });
}

#[test]
fn a_backup_path_replaces_a_dead_one_once_it_is_proven_or_consent_is_over() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    talk.agent.prove(wifi(), UDP);
    let silence = SELECTED_SILENCE.as_millis() as u64;
    assert_eq!(talk.plain(ms(silence), cell()), Outcome::NewTuple);
    assert_eq!(talk.plain(ms(29_999), third()), Outcome::NewTuple);
    assert_eq!(talk.selected(), Some(wifi()));
    assert_eq!(talk.plain(ms(30_000), cell()), Outcome::Selected { changed: true });
    assert_eq!(talk.agent.destination(), None, "nobody is proven to be anywhere");
    assert!(talk.agent.prove(third(), UDP), "who is there is sent to");
    assert_eq!(talk.agent.destination(), Some((third(), UDP)));
}

#[test]
fn a_handshake_proves_the_one_address_that_answered() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    talk.plain(ms(10), cell());
    assert_eq!(talk.agent.prove_by_handshake(), None, "nobody has answered");
    talk.agent.on_dtls(cell(), UDP, 200, false);
    assert_eq!(talk.agent.prove_by_handshake(), None, "anyone can say hello");
    talk.agent.on_dtls(wifi(), UDP, 200, true);
    assert_eq!(talk.agent.prove_by_handshake(), Some((wifi(), UDP)));

    // Of several that answered the selected one is meant, and without it none.
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    for source in [cell(), third()] {
        talk.plain(ms(10), source);
        talk.agent.on_dtls(source, UDP, 200, true);
    }
    assert_eq!(talk.agent.prove_by_handshake(), None);
    talk.agent.on_dtls(wifi(), UDP, 200, true);
    assert_eq!(talk.agent.prove_by_handshake(), Some((wifi(), UDP)));
}

#[test]
fn addresses_that_are_not_proven_go_first() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    talk.plain(ms(1), cell());
    talk.agent.prove(cell(), UDP);
    talk.nominates(ms(2), wifi());
    talk.agent.prove(wifi(), UDP);
    for number in 0..50 {
        talk.plain(ms(10 + u64::from(number)), port(1_000 + number));
    }
    assert!(talk.agent.is_proven(wifi(), UDP) && talk.agent.is_proven(cell(), UDP));
}

#[test]
fn consent_expires_once_and_comes_back_with_the_next_check() {
    let mut talk = Talk::new();
    let timeout = CONSENT_TIMEOUT.as_millis() as u64;
    talk.nominates(ms(1_000), wifi());
    assert_eq!(talk.agent.next_timeout(), ms(1_000 + timeout));
    assert_eq!(talk.agent.handle_timeout(ms(1_000 + timeout - 1)), None);
    assert_eq!(talk.agent.handle_timeout(ms(1_000 + timeout)), Some(IceState::Disconnected));
    assert_eq!(talk.agent.handle_timeout(ms(1_001 + timeout)), None, "said once");
    assert_eq!(talk.agent.next_timeout(), Time::NEVER);
    assert!(!talk.agent.has_consent());
    assert_eq!(talk.selected(), Some(wifi()), "the address that was lost");

    let back = talk.nominates(ms(50_000), wifi());
    assert_eq!(back, Outcome::Selected { changed: false });
    assert_eq!(talk.agent.state(), Some(IceState::Completed));
    assert_eq!(talk.agent.next_timeout(), ms(50_000 + timeout));

    // From elsewhere, and not nominated: it is all there is.
    talk.agent.handle_timeout(ms(50_000 + timeout)).unwrap();
    assert_eq!(talk.plain(ms(90_000), cell()), Outcome::Selected { changed: true });
    assert_eq!(talk.agent.state(), Some(IceState::Connected));
}

#[test]
fn a_check_on_any_path_keeps_the_transport_alive() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    talk.plain(ms(10_000), cell());
    assert_eq!(talk.agent.next_timeout(), ms(10_000) + CONSENT_TIMEOUT);
    // A check that was delayed on its way to us takes nothing back.
    talk.plain(ms(9_000), cell());
    assert_eq!(talk.agent.next_timeout(), ms(10_000) + CONSENT_TIMEOUT);
}

#[test]
fn the_same_address_on_two_sockets_is_two_tuples() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), wifi());
    assert!(!talk.agent.is_validated(wifi(), UDP6));
    let other = talk.try_check(ms(10), wifi(), UDP6, talk.check()).unwrap();
    assert_eq!(other.outcome, Outcome::NewTuple);
    let v6: SocketAddr = "[2001:db8::7]:50000".parse().unwrap();
    let moved = talk.try_check(ms(20), v6, UDP6, talk.check().use_candidate()).unwrap();
    assert_eq!(moved.outcome, Outcome::Selected { changed: true });
    assert_eq!(talk.agent.selected(), Some((v6, UDP6)));
}

#[test]
fn the_ninth_tuple_evicts_the_one_checked_least_recently_but_not_the_selected() {
    let mut talk = Talk::new();
    talk.nominates(ms(0), port(1));
    for n in 2..=8 {
        let new = talk.handled(ms(u64::from(n)), port(n), talk.check());
        assert_eq!((new.outcome, new.evicted), (Outcome::NewTuple, None));
    }
    talk.plain(ms(9), port(2));
    let ninth = talk.handled(ms(10), port(9), talk.check());
    assert_eq!(ninth.evicted, Some((port(3), UDP)));
    assert!(!talk.agent.is_validated(port(3), UDP));
    assert_eq!(talk.agent.tuples().count(), MAX_TUPLES);
    assert_eq!(talk.selected(), Some(port(1)));
    // The new one may be selected by the same check that evicts.
    let tenth = talk.handled(ms(11), port(10), talk.check().use_candidate());
    assert_eq!(tenth.outcome, Outcome::Selected { changed: true });
    assert_eq!(tenth.evicted, Some((port(4), UDP)));
    assert_eq!(talk.selected(), Some(port(10)));
}

#[test]
fn a_tuple_is_forgotten_when_its_address_belongs_to_another_client() {
    let mut talk = Talk::new();
    for n in 1..=3 {
        talk.plain(ms(u64::from(n)), port(n));
    }
    talk.nominates(ms(4), port(3));
    talk.agent.forget(port(1), UDP);
    assert!(talk.agent.tuples().all(|tuple| tuple != (port(1), UDP)));
    assert_eq!(talk.selected(), Some(port(3)));
    talk.agent.forget(port(1), UDP);
    talk.agent.forget(port(3), UDP);
    assert_eq!(talk.agent.selected(), None);
    assert_eq!(talk.plain(ms(5), port(2)), Outcome::Selected { changed: true });
}

/// Whatever a client that knows its password does, what the core relies on holds: a state change or
/// a change of the selected tuple is always reported, the table of addresses can be kept in step
/// from what is returned, and bounds hold.
#[test]
fn the_core_can_follow_a_client_that_does_anything() {
    let mut random = Random(0xa6e27);
    let mut talk = Talk::new();
    let mut now = 0;
    let mut table: HashSet<Tuple> = HashSet::new();
    for round in 0..20_000 {
        now += [1, 50, 2_500, 15_000, 31_000][random.below(100).saturating_sub(95)];
        if let Some(state) = talk.agent.handle_timeout(ms(now)) {
            assert_eq!(state, IceState::Disconnected);
        }
        match random.below(200) {
            0 => drop(talk.restart()),
            1 => {
                let source = port(random.below(12) as u16);
                talk.agent.forget(source, UDP);
                table.remove(&(source, UDP));
            }
            _ => {}
        }
        let mut check = talk.check().priority(random.below(4) as u32);
        if random.below(2) == 0 {
            check = check.use_candidate();
        }
        if random.below(8) == 0 {
            check = check.nomination(random.below(5) as u32);
        }
        let source = port(random.below(12) as u16);
        let before = (talk.agent.selected(), talk.agent.state());
        let handled = talk.handled(ms(now), source, check);
        table.retain(|&tuple| Some(tuple) != handled.evicted);
        table.insert((source, UDP));

        let changed = before.0 != talk.agent.selected();
        let moved = before.1 != talk.agent.state();
        let told = matches!(handled.outcome, Outcome::Selected { .. });
        assert_eq!(told, changed || moved, "round {round}");
        if told {
            assert_eq!(handled.outcome, Outcome::Selected { changed });
            assert_eq!(talk.agent.selected(), Some((source, UDP)), "round {round}");
        }
        assert!(talk.agent.has_consent());
        assert_eq!(talk.agent.tuples().collect::<HashSet<_>>(), table, "round {round}");
        assert!(table.len() <= MAX_TUPLES);
    }
}
