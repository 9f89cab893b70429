//! A transport in a call gets a check every few seconds, a core with thousands of them gets
//! thousands a second: reading, authenticating and answering one takes nothing from the heap.

use std::net::SocketAddr;

use opencall_dataplane::ice::IceAgent;
use opencall_dataplane::ice::agent::Outcome;
use opencall_dataplane::message::{CoreId, IceCredentials};
use opencall_io::SocketId;
use opencall_wire::stun::{MAX_RESPONSE_LEN, parse_binding_request};
use opencall_wire::time::Time;
use stun_types::attribute::{RawAttribute, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageWrite, MessageWriteExt, MessageWriteVec,
    ShortTermCredentials,
};

fn allocations_of(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

fn check(server: &IceCredentials) -> Vec<u8> {
    let mut message = Message::builder_request(BINDING, MessageWriteVec::new());
    let username = Username::new(&format!("{}:client", server.ufrag)).unwrap();
    message.add_attribute(&username).unwrap();
    for (kind, value) in [(0x0024, &[0x6e, 0x7f, 0x1e, 0xff][..]), (0x802a, &[7; 8]), (0x25, &[])] {
        message.add_attribute(&RawAttribute::new(kind.into(), value)).unwrap();
    }
    let credentials = ShortTermCredentials::new(server.pwd.clone()).into();
    message.add_message_integrity(&credentials, IntegrityAlgorithm::Sha1).unwrap();
    message.add_fingerprint().unwrap();
    message.finish()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn not_for_the_first_check_of_an_address_nor_for_any_other() {
    let credentials = IceCredentials::generate(Some(CoreId(3)));
    // More addresses than an agent keeps, so that evictions are part of it.
    let sources: Vec<SocketAddr> =
        (1..=20).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
    let checks: Vec<Vec<u8>> = (0..100 * sources.len()).map(|_| check(&credentials)).collect();
    let mut agent = IceAgent::new(credentials);
    let mut out = [0; MAX_RESPONSE_LEN];
    let mut selected = 0;
    let allocations = allocations_of(|| {
        for ((&source, bytes), millis) in sources.iter().cycle().zip(&checks).zip(0..) {
            let now = Time::from_millis(millis);
            let request = parse_binding_request(bytes).unwrap();
            let handled =
                agent.handle_binding_request(now, &request, source, SocketId(0), &mut out).unwrap();
            assert!(handled.response_len > 0);
            selected += usize::from(handled.outcome == Outcome::Selected { changed: true });
        }
    });
    assert!(selected > 0);
    assert_eq!(allocations, 0);
}
