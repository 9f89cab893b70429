//! From ICE and DTLS to keys, and what happens when a connection fails or ends.

use std::net::SocketAddr;
use std::time::Duration;

use opencall_control::TRANSPORT_LOST_GRACE;
use opencall_control::api::ConsumeMode::{self, Automatic, OnRequest};
use opencall_control::api::{CloseReason, Direction, DtlsRole, Request, Response, SessionId};
use opencall_control::dtls::{DtlsDrop, DtlsOutput, Role};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::ice::CONSENT_TIMEOUT;
use opencall_dataplane::message::{Event, IceState, SocketId, TransportId};

use crate::data_channels_carry_messages;
use crate::talk::{Browser, Talk, audio};

fn ice(talk: &mut Talk, transport: TransportId, state: IceState) {
    let remote = ([198, 51, 100, 7], 50_000).into();
    talk.event(0, Event::Ice { transport, state, remote });
}

fn connect(transport_id: &str, browser: &Browser, role: DtlsRole) -> Request {
    let dtls_parameters = browser.parameters(role);
    Request::ConnectTransport { transport_id: transport_id.to_owned(), dtls_parameters }
}

/// A client with one transport, and its browser's side of the handshake.
fn one_transport(talk: &mut Talk, mode: ConsumeMode, role: Role) -> Lone {
    let session = talk.connect("anna", mode);
    let options = talk.transport(session, Direction::Send);
    let (_, transport) = talk.newest_transport();
    let browser = Browser::new(role, &options, talk.origin);
    Lone { session, id: options.id, transport, browser }
}

struct Lone {
    session: SessionId,
    id: String,
    transport: TransportId,
    browser: Browser,
}

fn assert_keys_agree(talk: &Talk, lone: &Lone) {
    let (ours, theirs) = (&talk.keys[&lone.transport], lone.browser.keys.as_ref());
    let theirs = theirs.expect("the browser has keys");
    assert!(ours.local_key == theirs.remote_key && ours.remote_key == theirs.local_key);
    assert!(ours.local_salt == theirs.remote_salt && ours.remote_salt == theirs.local_salt);
}

#[test]
fn options_name_the_cores_addresses() {
    let mut talk = Talk::on_two_cores();
    for (peer, port) in [("anna", 40_000), ("bert", 40_001)] {
        let session = talk.connect(peer, Automatic);
        let options = talk.transport(session, Direction::Send);
        let again = talk.transport(session, Direction::Recv);
        assert_eq!(options.ice_candidates, again.ice_candidates, "one participant, one core");
        let candidates = &options.ice_candidates;
        assert_eq!(candidates[0].address, "192.0.2.1");
        assert_eq!(candidates[1].ip, "2001:db8::1");
        assert!(candidates.iter().all(|c| c.port == port && c.kind == "host"));
        assert!(candidates[0].priority > candidates[1].priority);
        assert!(options.ice_parameters.ice_lite);
        assert_ne!(options.ice_parameters.password, again.ice_parameters.password);
        assert_eq!(options.dtls_parameters.role, DtlsRole::Auto);
    }
}

#[test]
fn fingerprint_first_then_the_handshake() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Client));
    ice(&mut talk, anna.transport, IceState::Connected);
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert_keys_agree(&talk, &anna);
}

#[test]
fn the_handshake_first_then_the_fingerprint() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert!(talk.keys.is_empty(), "nobody has said yet who this is");
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Auto));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert_keys_agree(&talk, &anna);
}

#[test]
fn a_client_that_wants_to_be_the_server_is_called_once_ice_stands() {
    for ice_first in [true, false] {
        let mut talk = Talk::new();
        let mut anna = one_transport(&mut talk, Automatic, Role::Server);
        if ice_first {
            ice(&mut talk, anna.transport, IceState::Connected);
        }
        talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Server));
        assert_eq!(talk.datagrams.contains_key(&anna.transport), ice_first);
        ice(&mut talk, anna.transport, IceState::Completed);
        talk.exchange(&mut anna.browser, 0, anna.transport);
        assert_keys_agree(&talk, &anna);
    }
}

#[test]
fn a_lost_flight_is_sent_again() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Server);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Server));
    ice(&mut talk, anna.transport, IceState::Connected);
    assert!(talk.datagrams.remove(&anna.transport).is_some(), "lost");
    talk.pass(Duration::from_secs(1));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert_keys_agree(&talk, &anna);
}

#[test]
fn a_stranger_gets_no_keys_and_is_given_up_in_time() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    let stranger = one_transport(&mut Talk::new(), Automatic, Role::Client);
    talk.ok(anna.session, connect(&anna.id, &stranger.browser, DtlsRole::Client));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert!(talk.keys.is_empty());
    assert!(talk.closed.is_empty(), "anyone on the path could end the session");
    talk.pass(Duration::from_secs(60));
    assert!(talk.keys.is_empty());
    assert_eq!(talk.closed[&anna.session], CloseReason::TransportLost);
    talk.assert_nothing_is_left();
}

#[test]
fn alerts_in_the_clear_end_no_session_and_are_counted() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Client));
    let alert: [u8; 15] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let forge = |talk: &mut Talk, transport| {
        talk.event(0, Event::Dtls { transport, unproven: None, datagram: Box::new(alert) });
        assert!(talk.closed.is_empty());
    };
    forge(&mut talk, anna.transport);
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert_keys_agree(&talk, &anna);
    forge(&mut talk, anna.transport);
    assert_eq!(talk.control.dtls_drops().of(DtlsDrop::PlaintextAlert), 2);
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let mut talk = Talk::new();
    let anna = one_transport(&mut talk, Automatic, Role::Server);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Server));
    ice(&mut talk, anna.transport, IceState::Connected);
    talk.pass(Duration::from_secs(60));
    assert_eq!(talk.closed[&anna.session], CloseReason::TransportLost);
}

#[test]
fn goodbye_closes_a_session_that_is_offered_consumers() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    talk.transport(anna.session, Direction::Recv);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Client));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    anna.browser.endpoint.close();
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert_eq!(talk.closed[&anna.session], CloseReason::TransportLost);
}

#[test]
fn goodbye_costs_a_client_that_asks_only_the_transport_unless_it_was_the_last() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, OnRequest, Role::Client);
    talk.transport(anna.session, Direction::Recv);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Client));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    anna.browser.endpoint.close();
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert!(talk.closed.is_empty());
    assert_eq!(talk.control.counts().transports, 1);

    let mut talk = Talk::new();
    let mut bert = one_transport(&mut talk, OnRequest, Role::Client);
    talk.ok(bert.session, connect(&bert.id, &bert.browser, DtlsRole::Client));
    talk.exchange(&mut bert.browser, 0, bert.transport);
    bert.browser.endpoint.close();
    talk.exchange(&mut bert.browser, 0, bert.transport);
    assert_eq!(talk.closed[&bert.session], CloseReason::TransportLost);
    talk.assert_nothing_is_left();
}

#[test]
fn we_say_goodbye_as_well() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Client));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    talk.leave(anna.session);
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert!(anna.browser.closed);
}

#[test]
fn lost_consent_is_told_and_forgiven_for_a_while() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let (_, transport) = talk.newest_transport();
    ice(&mut talk, transport, IceState::Connected);
    assert!(talk.news(anna.session).is_empty());
    ice(&mut talk, transport, IceState::Disconnected);
    assert_eq!(talk.news_texts(anna.session), ["Disconnected"]);
    talk.pass(TRANSPORT_LOST_GRACE - Duration::from_secs(1));
    let request = Request::RestartIce { transport_id: anna.recv.id.clone() };
    let Response::Ice(parameters) = talk.ok(anna.session, request) else { panic!("credentials") };
    assert_ne!(parameters.username_fragment, anna.recv.ice_parameters.username_fragment);
    ice(&mut talk, transport, IceState::Connected);
    assert_eq!(talk.news_texts(anna.session), ["Good"]);
    talk.pass(TRANSPORT_LOST_GRACE * 2);
    assert!(talk.closed.is_empty());
}

#[test]
fn a_transport_that_was_replaced_goes_alone() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let (_, old) = talk.newest_transport();
    ice(&mut talk, old, IceState::Connected);
    talk.transport(anna.session, Direction::Recv);
    let (_, new) = talk.newest_transport();
    ice(&mut talk, old, IceState::Disconnected);
    ice(&mut talk, new, IceState::Connected);
    assert_eq!(talk.control.counts().transports, 3);
    talk.pass(TRANSPORT_LOST_GRACE);
    assert!(talk.closed.is_empty(), "she is there by the new one");
    assert_eq!(talk.control.counts().transports, 2);

    ice(&mut talk, new, IceState::Disconnected);
    talk.pass(TRANSPORT_LOST_GRACE);
    assert_eq!(talk.closed[&anna.session], CloseReason::TransportLost);
    talk.assert_nothing_is_left();
}

#[test]
fn what_was_received_on_a_replaced_transport_comes_on_the_newer() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    let (_, old) = talk.newest_transport();
    ice(&mut talk, old, IceState::Connected);
    let bert = talk.enter("bert", Automatic);
    talk.produce(&bert, Kind::Audio, audio("0"));
    talk.transport(anna.session, Direction::Recv);
    let (_, new) = talk.newest_transport();
    ice(&mut talk, new, IceState::Connected);
    ice(&mut talk, old, IceState::Disconnected);
    talk.news(anna.session);
    talk.pass(TRANSPORT_LOST_GRACE);
    assert!(talk.closed.is_empty());
    let told = talk.news_texts(anna.session);
    assert_eq!(told, ["ConsumerClosed", "NewConsumer bert Audio", "Good"]);
}

#[test]
fn consent_that_does_not_come_back_ends_the_session() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let (_, transport) = talk.newest_transport();
    let bert = talk.enter("bert", OnRequest);
    talk.produce(&anna, Kind::Audio, audio("0"));
    ice(&mut talk, transport, IceState::Disconnected);
    talk.news(bert.session);
    talk.pass(TRANSPORT_LOST_GRACE);
    assert_eq!(talk.closed[&anna.session], CloseReason::TransportLost);
    assert_eq!(talk.news_texts(bert.session), ["ProducerClosed", "PeerClosed anna"]);
    talk.leave(bert.session);
    talk.assert_nothing_is_left();
}

#[test]
fn garbage_on_one_transport_leaves_the_others_alone() {
    let mut talk = Talk::new();
    let mut anna = one_transport(&mut talk, Automatic, Role::Client);
    let bert = talk.connect("bert", Automatic);
    talk.transport(bert, Direction::Send);
    let (_, other) = talk.newest_transport();
    for byte in 0..=255u8 {
        let datagram = vec![byte; 60].into_boxed_slice();
        talk.event(0, Event::Dtls { transport: other, unproven: None, datagram });
    }
    talk.ok(anna.session, connect(&anna.id, &anna.browser, DtlsRole::Client));
    talk.exchange(&mut anna.browser, 0, anna.transport);
    assert_keys_agree(&talk, &anna);
}

#[test]
fn a_core_that_dies_with_news_of_a_client_leaves_control_waiting_for_nobody() {
    let mut talk = Talk::new();
    let session = talk.connect("anna", OnRequest);
    talk.transport(session, Direction::Send);
    let (_, transport) = talk.newest_transport();
    ice(&mut talk, transport, IceState::Connected);
    talk.replace(0);
    // The new core knows where the client is.
    ice(&mut talk, transport, IceState::Connected);
    talk.pass(CONSENT_TIMEOUT + TRANSPORT_LOST_GRACE);
    assert!(talk.closed.is_empty());
    // The next one knows of nobody: the one before had found that the client is gone.
    talk.replace(0);
    talk.pass(CONSENT_TIMEOUT + TRANSPORT_LOST_GRACE - Duration::from_secs(1));
    assert!(talk.closed.is_empty(), "it may come back for as long as after any silence");
    talk.pass(Duration::from_secs(1));
    assert_eq!(talk.closed[&session], CloseReason::TransportLost);
    talk.assert_nothing_is_left();
}

#[test]
fn a_client_that_came_back_as_its_core_died_is_kept() {
    let mut talk = Talk::new();
    let session = talk.connect("anna", OnRequest);
    talk.transport(session, Direction::Send);
    let (_, transport) = talk.newest_transport();
    ice(&mut talk, transport, IceState::Connected);
    ice(&mut talk, transport, IceState::Disconnected);
    // What the core had to say of a new check is lost with it.
    talk.replace(0);
    ice(&mut talk, transport, IceState::Connected);
    talk.pass(TRANSPORT_LOST_GRACE * 2);
    assert!(talk.closed.is_empty());
}

/// A client with data channels alone, on another network: what it says is opened, and so it is
/// there.
#[test]
fn data_from_another_address_proves_it_once_it_is_opened() {
    let mut talk = Talk::new();
    let anna = data_channels_carry_messages::enter(&mut talk, "anna", Automatic);
    let (_, mut peer) = data_channels_carry_messages::transport(&mut talk, anna, Direction::Send);
    let transport = peer.transport;
    let tuple = (SocketAddr::from(([203, 0, 113, 9], 7000)), SocketId(0));
    let proofs = |talk: &mut Talk, datagram: &[u8]| {
        talk.commands.clear();
        let datagram = datagram.into();
        talk.event(0, Event::Dtls { transport, unproven: Some(tuple), datagram });
        talk.commands.iter().filter(|command| *command == "ProveTuple").count()
    };
    peer.browser.endpoint.send(&peer.last_sent);
    let Some(DtlsOutput::Datagram(sealed)) = peer.browser.endpoint.poll_output() else {
        panic!("it is sealed")
    };
    let mut forged = sealed.clone();
    forged[sealed.len() - 1] ^= 1;
    assert_eq!(proofs(&mut talk, &forged), 0, "anyone can have sent it");
    assert_eq!(proofs(&mut talk, &sealed), 1);
    assert_eq!(proofs(&mut talk, &sealed), 0, "anyone can repeat it");
}
