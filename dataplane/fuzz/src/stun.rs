//! Input: how (1), then either one datagram or the attributes of one.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::ice::IceAgent;
use opencall_dataplane::ice::agent::Outcome;
use opencall_dataplane::message::IceCredentials;
use opencall_io::SocketId;
use opencall_wire::stun::{MAX_RESPONSE_LEN, parse_binding_request};
use opencall_wire::time::Time;

use crate::input::Input;
use crate::stun_message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, attribute, check_answer,
};

const UFRAG: &str = "evtj";
const PWD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION_ID: [u8; 12] = *b"fuzzfuzzfuzz";

/// One request, as it came or made good, and an agent that it is meant for.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let rest = input.take(usize::MAX);
    if how & 1 == 0 {
        check_request(rest);
        return;
    }
    let sha256 = how & 2 != 0;
    let kind = if how & 0x0c == 0x0c { u16::from(how) } else { BINDING_REQUEST };
    let mut message = Message::new(kind, TRANSACTION_ID);
    if how & 0x10 == 0 {
        message = message.attribute(attribute::USERNAME, b"evtj:h6vY");
    }
    let mut message = message.raw(rest);
    if how & 0x20 != 0 {
        message = message.integrity(!sha256, PWD);
    }
    let datagram = message.integrity(sha256, PWD).finish();
    check_request(&datagram);
}

fn check_request(datagram: &[u8]) {
    let Ok(request) = parse_binding_request(datagram) else { return };
    assert_eq!(request.raw(), datagram);
    assert_eq!(request.transaction_id().0, datagram[8..20]);
    assert!(request.ufrag().len() + request.remote_ufrag().len() < 513);
    assert!(!request.ufrag().contains(':'));
    let unknown = request.unknown_attributes();
    assert!(unknown.len() <= 8 && unknown.iter().all(|&kind| kind < 0x8000));
    for source in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
        let source = source.parse().expect("an address");
        answer(datagram, source);
    }
}

fn answer(datagram: &[u8], source: SocketAddr) {
    let request = parse_binding_request(datagram).expect("it was good before");
    let credentials = IceCredentials { ufrag: UFRAG.into(), pwd: PWD.into() };
    let mut agent = IceAgent::new(credentials);
    let mut out = [0; MAX_RESPONSE_LEN];
    let now = Time::from_millis(1);
    let result = agent.handle_binding_request(now, &request, source, SocketId(0), &mut out);
    let handled = match result {
        Ok(handled) => handled,
        Err(reason) => {
            let own = request.ufrag() == UFRAG;
            assert!(match reason {
                DropReason::StunUnknownUfrag => !own,
                DropReason::StunBadIntegrity => own,
                _ => false,
            });
            assert!(agent.tuples().next().is_none() && agent.state().is_none());
            return;
        }
    };
    let response = &out[..handled.response_len];
    // The answer says which of the two was checked.
    let sha256 = response[response.len() - 44..][..4] == [0, 0x1c, 0, 0x20];
    let kind = check_answer(response, request.transaction_id().0, sha256, PWD);
    let rejected = handled.outcome == Outcome::Rejected;
    assert_eq!(kind, if rejected { BINDING_ERROR } else { BINDING_SUCCESS });
    assert_eq!(agent.is_validated(source, SocketId(0)), !rejected);
    assert_eq!(agent.selected().is_some(), !rejected);
    for short in [0, 19, handled.response_len - 1] {
        let result =
            agent.handle_binding_request(now, &request, source, SocketId(0), &mut out[..short]);
        assert_eq!(result, Err(DropReason::ArenaFull));
    }
}
