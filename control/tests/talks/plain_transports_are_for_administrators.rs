//! Pipelines without ICE and DTLS: who may make transports for them, how those are connected, and
//! where nothing is ever sent.

use std::net::IpAddr;
use std::time::Duration;

use opencall_control::api::ConsumeMode::OnRequest;
use opencall_control::api::*;
use opencall_control::rtp_parameters::{Kind, RtpParameters};
use opencall_dataplane::ice::CONSENT_TIMEOUT;
use opencall_dataplane::message::{Event, IceState, PlainRemote, SocketId};
use opencall_wire::srtp::Profile;
use serde_json::json;
use zeroize::Zeroizing;

use crate::talk::*;

const SUITE: Profile = Profile::AesCm128HmacSha1_80;

fn administrators() -> Grants {
    Grants { plain_rtp: true, ..Grants::default() }
}

fn options(comedia: bool, rtcp_mux: bool, srtp: Option<Profile>) -> Request {
    Request::CreatePlainTransport(PlainOptions { comedia, rtcp_mux, srtp })
}

fn pipeline(talk: &mut Talk, name: &str) -> SessionId {
    let session = talk.connect_with("room", name, OnRequest, administrators());
    talk.ok(session, join(name));
    session
}

fn plain(talk: &mut Talk, session: SessionId, request: Request) -> PlainTransport {
    match talk.ok(session, request) {
        Response::PlainTransport(transport) => transport,
        _ => panic!("a plain transport was asked for"),
    }
}

fn connection(address: &str, port: u16) -> PlainConnection {
    let ip: IpAddr = address.parse().expect("an address");
    PlainConnection { address: Some((ip, port)), rtcp_port: None, keys: None }
}

fn connect(id: &str, connection: PlainConnection) -> Request {
    Request::ConnectPlainTransport { transport_id: id.to_owned(), connection }
}

fn keys(profile: Profile, len: usize) -> Option<PlainKeys> {
    Some(PlainKeys { profile, key_and_salt: Zeroizing::new(vec![7; len]) })
}

/// As mediasoup-demo's script for ffmpeg says it.
fn opus(ssrc: Option<u32>) -> RtpParameters {
    let encoding = ssrc.map_or(json!({}), |ssrc| json!({"ssrc": ssrc}));
    serde_json::from_value(json!({
        "codecs": [{"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2,
            "parameters": {"sprop-stereo": 1}}],
        "encodings": [encoding],
    }))
    .expect("parameters")
}

#[test]
fn no_ordinary_participant_makes_one() {
    let mut talk = Talk::new();
    let host = Grants { admin: true, identity_proven: true, ..Grants::default() };
    for grants in [Grants::default(), host] {
        let client = talk.enter_with("anna", OnRequest, grants);
        let (code, reason) = talk.refused(client.session, options(true, true, None));
        assert_eq!(code, 403, "{reason}");
        let to = connection("198.51.100.7", 5004);
        let (code, reason) = talk.refused(client.session, connect(&client.recv.id, to));
        assert_eq!(code, 403, "{reason}");
        talk.leave(client.session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn a_pipeline_is_a_participant_like_any_other() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let session = pipeline(&mut talk, "camera");
    let transport = plain(&mut talk, session, options(false, true, None));
    assert_eq!(transport.address, ([192, 0, 2, 1], 40_000).into());
    assert!(transport.keys.is_none());
    let (_, id) = talk.newest_transport();
    assert!(!talk.links.contains_key(&id), "nobody has said where it is");
    talk.ok(session, connect(&transport.id, connection("198.51.100.7", 5004)));
    let remote = PlainRemote { rtp: (([198, 51, 100, 7], 5004).into(), SocketId(0)), rtcp: None };
    assert_eq!(talk.links[&id].remote, Some(remote));
    assert!(talk.links[&id].rtcp_mux && talk.links[&id].keys.is_none());

    talk.news(anna.session);
    talk.ok(session, produce(&transport.id, Kind::Audio, opus(Some(1111))));
    assert_eq!(talk.news_texts(anna.session).len(), 1, "it is offered");

    // When it is silent for too long it has left.
    let remote = ([198, 51, 100, 7], 5004).into();
    for state in [IceState::Completed, IceState::Disconnected] {
        talk.event(0, Event::Ice { transport: id, state, remote });
    }
    talk.pass(CONSENT_TIMEOUT + Duration::from_secs(1));
    assert!(talk.news_texts(anna.session).iter().any(|news| news.contains("PeerClosed")));
    talk.leave(anna.session);
    talk.assert_nothing_is_left();
}

#[test]
fn an_address_is_learnt_where_that_was_asked_for() {
    let mut talk = Talk::new();
    let session = pipeline(&mut talk, "camera");
    let transport = plain(&mut talk, session, options(true, false, None));
    let (_, id) = talk.newest_transport();
    assert_eq!(talk.links[&id].remote, None, "there is nothing more to be said");
    let to = connection("198.51.100.7", 5004);
    assert_eq!(talk.refused(session, connect(&transport.id, to)).0, 403);

    let nameless = produce(&transport.id, Kind::Audio, opus(None));
    assert_eq!(talk.refused(session, nameless).0, 400, "by what should it be known?");
    talk.ok(session, produce(&transport.id, Kind::Audio, opus(Some(1111))));

    // Two who are awaited by one number cannot be told apart; one who was found can.
    let other = pipeline(&mut talk, "other");
    let second = plain(&mut talk, other, options(true, false, None));
    let same = produce(&second.id, Kind::Audio, opus(Some(1111)));
    assert_eq!(talk.refused(other, same.clone()).0, 409);
    let remote = ([198, 51, 100, 7], 5004).into();
    talk.event(0, Event::Ice { transport: id, state: IceState::Completed, remote });
    talk.ok(other, same);

    // Who has no part in it chooses where we would send.
    let consume = |transport: &PlainTransport| Request::Consume {
        producer_id: "1".to_owned(),
        rtp_capabilities: Some(capabilities()),
        transport_id: Some(transport.id.clone()),
        mid: None,
        paused: false,
    };
    assert_eq!(talk.refused(other, consume(&second)).0, 404);
    for session in [session, other] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn it_sends_to_the_address_that_was_named_alone() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", OnRequest);
    let producer = talk.produce(&anna, Kind::Video, simulcast("1"));
    let session = pipeline(&mut talk, "sink");
    let consume = |transport: &PlainTransport| Request::Consume {
        producer_id: producer.clone(),
        rtp_capabilities: Some(capabilities()),
        transport_id: Some(transport.id.clone()),
        mid: None,
        paused: false,
    };
    for srtp in [None, Some(SUITE)] {
        let learnt = plain(&mut talk, session, options(true, true, srtp));
        let (code, reason) = talk.refused(session, consume(&learnt));
        assert_eq!((code, reason.contains("comedia")), (403, true), "{reason}");
    }
    let named = plain(&mut talk, session, options(false, false, None));
    let nowhere = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1", "::", "::ffff:0.0.0.0"];
    for address in nowhere {
        let to = connect(&named.id, connection(address, 5004));
        assert_eq!(talk.refused(session, to).0, 400, "{address}");
    }
    for (address, port) in [("198.51.100.7", 0), ("192.0.2.1", 40_000), ("2001:db8::1", 39_999)] {
        let to = connect(&named.id, connection(address, port));
        assert_eq!(talk.refused(session, to).0, 400, "{address} {port}: our own, with its RTCP");
    }
    let nobody = PlainConnection { address: None, rtcp_port: None, keys: None };
    assert_eq!(talk.refused(session, connect(&named.id, nobody)).0, 400);
    let to = PlainConnection { rtcp_port: Some(6001), ..connection("2001:db8::9", 5004) };
    talk.ok(session, connect(&named.id, to.clone()));
    let (_, id) = talk.newest_transport();
    let remote = talk.links[&id].remote.expect("it was named");
    assert_eq!((remote.rtp.0.port(), remote.rtp.1), (5004, SocketId(1)), "by the socket of IPv6");
    assert_eq!(remote.rtcp.map(|(rtcp, _)| rtcp.port()), Some(6001));
    assert_eq!(talk.refused(session, connect(&named.id, to.clone())).0, 403, "once");
    let other = plain(&mut talk, session, options(false, true, None));
    assert_eq!(talk.refused(session, connect(&other.id, to)).0, 409, "it is another's");

    assert!(matches!(talk.ok(session, consume(&named)), Response::Consumed(_)));
    let back = produce(&named.id, Kind::Audio, opus(Some(1111)));
    assert_eq!(talk.refused(session, back).0, 403, "it receives");
    talk.leave(session);
    talk.leave(anna.session);
    talk.assert_nothing_is_left();
}

#[test]
fn keys_are_those_of_both_sides() {
    let mut talk = Talk::new();
    let session = pipeline(&mut talk, "camera");
    for profile in [SUITE, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm] {
        let transport = plain(&mut talk, session, options(true, true, Some(profile)));
        let (_, id) = talk.newest_transport();
        assert!(!talk.links.contains_key(&id), "its keys are missing");
        let ours = transport.keys.expect("there are keys");
        let len = PlainKeys::len_of(profile);
        assert_eq!((ours.profile, ours.key_and_salt.len()), (profile, len));
        assert!(!format!("{ours:?}").contains('['), "keys are not shown");
        let with = |keys| PlainConnection { address: None, rtcp_port: None, keys };
        let other = if profile == SUITE { Profile::AeadAes128Gcm } else { SUITE };
        let other = keys(other, PlainKeys::len_of(other));
        for wrong in [None, keys(profile, len - 1), keys(profile, len + 1), other] {
            assert_eq!(talk.refused(session, connect(&transport.id, with(wrong))).0, 400);
        }
        talk.ok(session, connect(&transport.id, with(keys(profile, len))));
        let link = talk.links[&id].keys.as_ref().expect("keys");
        assert_eq!([&link.local_key[..], &link.local_salt[..]].concat(), *ours.key_and_salt);
        assert_eq!([&link.remote_key[..], &link.remote_salt[..]].concat(), vec![7; len]);
        assert!(link.open_context().is_ok() && link.seal_context().is_ok());
    }
    let clear = plain(&mut talk, session, options(false, true, None));
    let to = PlainConnection { keys: keys(SUITE, 30), ..connection("198.51.100.7", 5004) };
    assert_eq!(talk.refused(session, connect(&clear.id, to)).0, 400);
    talk.leave(session);
    talk.assert_nothing_is_left();
}
