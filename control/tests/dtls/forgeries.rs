//! What a stranger writes from the client's address into a handshake of OpenSSL's, at each of its
//! points: the handshake ends with the keys of OpenSSL, at once or when it repeats its flight.

use opencall_control::dtls::CertificateSource;

use crate::call::Call;
use crate::openssl_peer::{Identity, Peer};
use crate::wire::{alert, fragment, record, whole, whole_messages};

/// What is written, knowing the datagram it goes with.
type Forgery = fn(&[u8]) -> Vec<Vec<u8>>;

/// Small enough that the client's flight comes in several datagrams.
const MTU: u32 = 320;

/// The first datagrams of a handshake, and whether the forgery comes before them.
const PLACES: [(usize, bool); 7] =
    [(0, true), (0, false), (1, true), (1, false), (2, true), (2, false), (3, false)];

/// One handshake for each place, each with its forgery.
fn every_place(forge: Forgery) {
    at_places(&PLACES, forge);
}

fn at_places(places: &[(usize, bool)], forge: Forgery) {
    std::thread::scope(|scope| {
        for peer_is_client in [true, false] {
            for &(number, before) in places {
                scope.spawn(move || at_place(forge, peer_is_client, number, before));
            }
        }
    });
}

fn at_place(forge: Forgery, peer_is_client: bool, number: usize, before: bool) {
    let peer = Identity::ecdsa();
    let mut call = Call::new(CertificateSource::Generate, &peer, peer_is_client, MTU);
    call.shake_hands(&mut |index, datagram| {
        let mut arriving = vec![datagram.to_vec()];
        if index == number {
            let at = usize::from(!before);
            arriving.splice(at..at, forge(datagram));
        }
        arriving
    });
    // And it lasts: what is forged afterwards does not end it.
    for datagram in forge(&whole(1, 0, &[7; 60])) {
        call.ours.handle_datagram(&datagram, std::time::Instant::now());
        call.drain();
    }
    assert!(!call.closed);
}

#[test]
fn alerts_in_the_clear_end_nothing() {
    every_place(|_| vec![alert(1, 0), alert(2, 0), alert(2, 10), alert(2, 40), alert(1, 90)]);
}

#[test]
fn hello_requests_stop_nothing() {
    every_place(|_| (0..5).map(|seq| whole(0, seq, &[])).collect());
}

#[test]
fn oversize_fragments_stop_nothing() {
    every_place(|_| {
        let kinds = [1, 2, 11, 12, 15, 16];
        let of = |kind: u8| {
            (0..5).flat_map(move |seq| {
                [
                    fragment(kind, seq, 20, 0, &[3; 40]),
                    fragment(kind, seq, 0xff_ffff, 0, &[3; 40]),
                    fragment(kind, seq, 0xff_ffff, 0xff_fff0, &[3; 15]),
                    fragment(kind, seq, 50, 40, &[3; 40]),
                ]
            })
        };
        kinds.into_iter().flat_map(of).collect()
    });
}

/// Not before the client's own: see [`a_fresh_client_hello_begins_anew`].
#[test]
fn an_old_client_hello_ends_nothing() {
    at_places(&PLACES[1..], |_| Peer::new(&Identity::ecdsa(), true, 1200).advance());
}

#[test]
fn the_same_datagram_again_and_again_ends_nothing() {
    every_place(|datagram| vec![datagram.to_vec(); 20]);
}

#[test]
fn messages_of_noise_stop_nothing() {
    every_place(|_| {
        let kinds = [1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 22];
        let of = |kind: u8| (0..5).map(move |seq| whole(kind, seq, &[0x5a; 80]));
        kinds.into_iter().flat_map(of).collect()
    });
}

#[test]
fn pieces_of_the_right_length_with_other_bytes_stop_nothing() {
    every_place(|datagram| {
        let Some((first, _)) = datagram.get(13..25).map(|header| (header[0], header)) else {
            return Vec::new();
        };
        let header = &datagram[13..25];
        let u24 = |at: usize| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]);
        let seq = u16::from_be_bytes([header[4], header[5]]);
        let length = u24(1);
        if datagram[0] != 22 || datagram[3..5] != [0, 0] || length < 20 {
            return Vec::new();
        }
        vec![
            fragment(first, seq, length, 0, &[0x77; 10]),
            fragment(first, seq, length, length - 10, &[0x77; 10]),
        ]
    });
}

#[test]
fn records_of_every_content_and_epoch_end_nothing() {
    every_place(|_| {
        let contents = (18..=27).chain([0x20, 0x2c, 0x2e, 0x2f, 0x3f]);
        let of = |content: u8| {
            (0..3).flat_map(move |epoch| {
                [0, 1, 2, 24, 40].map(|length| record(content, epoch, &vec![1; length]))
            })
        };
        contents.flat_map(of).collect()
    });
}

/// 175 a second were enough to keep a client out; here they come with each of its datagrams.
#[test]
fn a_flood_of_garbage_stops_nothing() {
    every_place(|_| {
        let garbage = |index: usize| {
            let content = [20, 21, 22, 23, 26, 0x2f][index % 6];
            record(content, (index % 2) as u16, &vec![index as u8; 20 + index % 60])
        };
        (0..175).map(garbage).collect()
    });
}

/// Another client, which has another certificate, shakes hands from the same address.
#[test]
fn a_strangers_whole_flight_ends_nothing() {
    every_place(|datagram| {
        // Its messages with their numbers, for the handshake that runs.
        let messages = whole_messages(datagram);
        let stranger = Identity::ecdsa().certificate.to_der().expect("DER");
        let mut list = vec![0];
        list.extend((stranger.len() as u16 + 3).to_be_bytes());
        list.push(0);
        list.extend((stranger.len() as u16).to_be_bytes());
        list.extend(&stranger);
        let mut forged =
            vec![whole(11, 1, &list), whole(16, 2, &[&[65, 4], &[9; 64][..]].concat())];
        forged.push(whole(15, 3, &[&[4, 3, 0, 70], &[9; 70][..]].concat()));
        forged.extend(messages.iter().map(|one| {
            let mut body = one.body.clone();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            whole(one.kind, one.seq, &body)
        }));
        // The client's own ClientHello with another bit could only come from who held it back.
        forged.retain(|datagram| !matches!(datagram[13], 1 | 2 | 13));
        forged
    });
}

/// A client that lost its state begins anew with another random, before it had finished. What
/// answers its first hello it no longer hears.
#[test]
fn a_fresh_client_hello_begins_anew() {
    let peer = Identity::ecdsa();
    let mut call = Call::new(CertificateSource::Generate, &peer, true, 1200);
    let mut lost = Peer::new(&peer, true, 1200);
    for datagram in lost.advance() {
        call.ours.handle_datagram(&datagram, std::time::Instant::now());
    }
    let mut answered = false;
    while let Some(output) = call.ours.poll_output() {
        answered |= matches!(output, opencall_control::dtls::DtlsOutput::Datagram(_));
    }
    assert!(answered);
    call.shake_hands(&mut crate::call::calm);
}
