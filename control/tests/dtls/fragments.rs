//! Fragments that are lost and come again cut elsewhere (RFC 6347 section 4.2.3).

use opencall_control::dtls::CertificateSource;

use crate::call::Call;
use crate::openssl_peer::Identity;
use crate::wire::{CERTIFICATE, Message, take_apart};

/// Where pieces of a message begin and end.
type Pieces<'a> = &'a [(usize, usize)];

/// The bytes of a Certificate message beside the certificate: two lengths.
const AROUND_CERTIFICATE: usize = 6;

/// A handshake in which the certificate arrives first in part, then in other parts.
fn shake_hands(length: usize, peer_is_client: bool, first: Pieces, then: Pieces) {
    let peer = Identity::ecdsa_of_bytes(length - AROUND_CERTIFICATE);
    let mut call = Call::new(CertificateSource::Generate, &peer, peer_is_client, 1400);
    let mut times = 0;
    call.shake_hands(&mut |_, datagram| {
        let (messages, others) = take_apart(datagram);
        let Some(at) = messages.iter().position(|one| one.kind == CERTIFICATE) else {
            return vec![datagram.to_vec()];
        };
        let pieces = if times == 0 { first } else { then };
        times += 1;
        assert_eq!(messages[at].body.len(), length);
        let whole = |one: &Message| one.piece(0, one.body.len());
        let mut arriving: Vec<Vec<u8>> = messages[..at].iter().map(whole).collect();
        arriving.extend(pieces.iter().map(|&(from, to)| messages[at].piece(from, to)));
        arriving.extend(messages[at + 1..].iter().map(whole));
        arriving.push(others);
        arriving
    });
    assert!(times >= 2, "the certificate came once only");
}

#[test]
fn a_certificate_of_293_bytes_repeated_in_other_pieces_arrives() {
    for peer_is_client in [true, false] {
        shake_hands(293, peer_is_client, &[(0, 108)], &[(0, 231), (231, 293)]);
    }
}

#[test]
fn a_certificate_of_293_bytes_repeated_whole_arrives() {
    for peer_is_client in [true, false] {
        shake_hands(293, peer_is_client, &[(0, 108)], &[(0, 293)]);
    }
}

#[test]
fn pieces_that_overlap_within_one_flight_and_between_two_arrive() {
    let table: [(Pieces, Pieces); 4] = [
        (&[(108, 293)], &[(0, 231)]),
        (&[(50, 100), (200, 250)], &[(0, 60), (90, 210), (240, 293)]),
        (&[(0, 1), (292, 293)], &[(0, 292)]),
        (&[], &[(200, 293), (100, 250), (0, 150)]),
    ];
    std::thread::scope(|scope| {
        for (first, then) in table {
            scope.spawn(move || shake_hands(293, true, first, then));
        }
    });
}
