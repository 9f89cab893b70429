//! What a stranger may write from the peer's address, at every point of the handshake, in both
//! versions and to both roles: the handshake ends with keys, at once or when the peer repeats what
//! it sent.

use super::*;

/// Something written from the peer's address; some need to have seen the peer's datagram.
type Forgery = fn(&[u8]) -> Vec<Vec<u8>>;

/// A fragment of a message with another length, number or content than the peer's.
fn oversize_fragment(_: &[u8]) -> Vec<Vec<u8>> {
    let mut reaching_out = wire::forged(11, 1, &[7; 40]);
    reaching_out[14..17].copy_from_slice(&[0, 0, 20]);
    let mut huge = wire::forged(11, 1, &[7; 40]);
    huge[14..17].copy_from_slice(&[0xff, 0xff, 0xff]);
    let mut far = huge.clone();
    far[19..22].copy_from_slice(&[0xff, 0xff, 0xf0]);
    vec![reaching_out, huge, far]
}

/// Every kind of message with every number, and nothing true in it.
fn empty_messages(_: &[u8]) -> Vec<Vec<u8>> {
    let kinds = (0..=25).flat_map(|kind| (0..6).map(move |seq| (kind, seq)));
    kinds.map(|(kind, seq)| wire::forged(kind, seq, &[])).collect()
}

fn messages_of_noise(_: &[u8]) -> Vec<Vec<u8>> {
    let kinds = [1, 2, 3, 11, 12, 13, 15, 16].into_iter();
    let kinds = kinds.flat_map(|kind| (0..6).map(move |seq| (kind, seq)));
    kinds.map(|(kind, seq)| wire::forged(kind, seq, &[0x5a; 90])).collect()
}

/// First pieces of messages as long as the true ones, with other bytes.
fn first_pieces(seen: &[u8]) -> Vec<Vec<u8>> {
    let forged = wire::messages(seen).into_iter().filter(|message| message.body.len() > 8);
    let forged = forged.map(|mut message| {
        let half = message.body.len() / 2;
        message.body.fill(0x77);
        super::super::record::plain_record(&wire::fragment(&message, 0, half))
    });
    forged.collect()
}

fn alerts(_: &[u8]) -> Vec<Vec<u8>> {
    [(1, 0), (2, 0), (2, 40), (2, 10), (1, 90)].map(|(l, d)| wire::alert(l, d)).into()
}

fn other_records(_: &[u8]) -> Vec<Vec<u8>> {
    let header = |content, epoch, length: u8| {
        vec![content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 5, 0, length]
    };
    let mut records = Vec::new();
    for content in 19..=27 {
        for epoch in 0..3 {
            for length in [0, 1, 2, 40] {
                let mut record = header(content, epoch, length);
                record.resize(record.len() + usize::from(length), 1);
                records.push(record);
            }
        }
    }
    // What DTLS 1.3 protects, and what it does not even try to.
    for first in 0x20..0x40 {
        let mut record = vec![first, 0, 1, 0, 40];
        record.resize(60, 9);
        records.push(record);
    }
    records
}

fn the_same_again(seen: &[u8]) -> Vec<Vec<u8>> {
    vec![seen.to_vec(); 8]
}

/// The ClientHello of somebody else.
fn another_client_hello(_: &[u8]) -> Vec<Vec<u8>> {
    let versions = [DtlsVersion::Dtls12, DtlsVersion::Dtls13];
    let mut hellos = versions.map(|version| {
        let stranger = context(version, &ALL);
        let mut client = DtlsEndpoint::new(&stranger, Role::Client, Instant::now());
        Call::drain(&mut client, &mut Heard::default()).remove(0)
    });
    hellos.sort();
    hellos.to_vec()
}

/// The whole answer of another server to another hello.
fn another_servers_flight(_: &[u8]) -> Vec<Vec<u8>> {
    let mut flights = Vec::new();
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let (server, client) = (context(version, &ALL), context(version, &ALL));
        let mut call = Call::new(&server, &client);
        for datagram in Call::drain(&mut call.client, &mut call.at_client) {
            call.server.handle_datagram(&datagram, call.now);
        }
        flights.extend(Call::drain(&mut call.server, &mut call.at_server));
    }
    flights
}

/// A client's second flight of DTLS 1.2, signed by another key.
fn another_clients_flight(_: &[u8]) -> Vec<Vec<u8>> {
    let version = DtlsVersion::Dtls12;
    let (server, client) = (context(version, &ALL), context(version, &ALL));
    let mut call = Call::new(&server, &client);
    for datagram in Call::drain(&mut call.client, &mut call.at_client) {
        call.server.handle_datagram(&datagram, call.now);
    }
    for datagram in Call::drain(&mut call.server, &mut call.at_server) {
        call.client.handle_datagram(&datagram, call.now);
    }
    Call::drain(&mut call.client, &mut call.at_client)
}

const FORGERIES: [(&str, Forgery); 11] = [
    ("alerts", alerts),
    ("oversize fragments", oversize_fragment),
    ("hello requests", |_| vec![wire::forged(0, 0, &[]), wire::forged(0, 1, &[])]),
    ("empty messages", empty_messages),
    ("messages of noise", messages_of_noise),
    ("first pieces", first_pieces),
    ("other records", other_records),
    ("the same again", the_same_again),
    ("another ClientHello", another_client_hello),
    ("another server's flight", another_servers_flight),
    ("another client's flight", another_clients_flight),
];

/// Runs a handshake in which the datagram of this number to one side comes with forgeries.
fn run(version: DtlsVersion, to_server: bool, number: usize, before: bool, forge: Forgery) -> Call {
    let (server, client) = (context(version, &ALL), context(version, &ALL));
    let mut call = Call::new(&server, &client);
    call.server.set_peer_fingerprints(fingerprints_of(&client));
    let mut seen = 0;
    let end = call.now + Duration::from_secs(20);
    while call.now < end && (call.at_server.keys.is_none() || call.at_client.keys.is_none()) {
        let mut ways = [
            (true, Call::drain(&mut call.client, &mut call.at_client)),
            (false, Call::drain(&mut call.server, &mut call.at_server)),
        ];
        for (way, datagrams) in &mut ways {
            for datagram in datagrams.drain(..) {
                let mut bytes = vec![datagram.clone()];
                if *way == to_server {
                    if seen == number {
                        let at = if before { 0 } else { 1 };
                        bytes.splice(at..at, forge(&datagram));
                    }
                    seen += 1;
                }
                let endpoint = if *way { &mut call.server } else { &mut call.client };
                for datagram in bytes {
                    endpoint.handle_datagram(&datagram, call.now);
                }
            }
        }
        call.now += Duration::from_millis(10);
        call.server.handle_timeout(call.now);
        call.client.handle_timeout(call.now);
    }
    call
}

#[test]
fn the_handshake_ends_with_keys_whatever_is_forged_and_when() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for (name, forge) in FORGERIES {
            for to_server in [true, false] {
                for (number, before) in [(0, true), (0, false), (1, true), (1, false)] {
                    let call = run(version, to_server, number, before, forge);
                    let place = (version, name, to_server, number, before);
                    let failed = (&call.at_server.failed, &call.at_client.failed);
                    assert_eq!(failed, (&None, &None), "{place:?}");
                    assert!(call.at_server.keys.is_some(), "{place:?}: no keys at the server");
                    assert!(call.at_client.keys.is_some(), "{place:?}: no keys at the client");
                    assert_keys_agree(&call, Profile::AeadAes128Gcm);
                }
            }
        }
    }
}

/// After the handshake nothing in the clear counts, nor what other keys protect.
#[test]
fn an_association_outlives_whatever_is_forged() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        let (server, client) = (context(version, &ALL), context(version, &ALL));
        let mut call = Call::new(&server, &client);
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        call.exchange();
        for (name, forge) in FORGERIES {
            for datagram in forge(&another_client_hello(&[])[0]) {
                call.server.handle_datagram(&datagram, call.now);
                call.client.handle_datagram(&datagram, call.now);
            }
            call.exchange();
            let ended = [&call.at_server, &call.at_client].map(|h| h.closed || h.failed.is_some());
            assert_eq!(ended, [false; 2], "{version:?} {name}");
        }
        call.client.close();
        call.exchange();
        assert!(call.at_server.closed);
    }
}

#[test]
fn what_is_dropped_is_counted_by_name() {
    let (server, client) = (context(DtlsVersion::Dtls13, &ALL), context(DtlsVersion::Dtls13, &ALL));
    let mut call = Call::new(&server, &client);
    call.server.set_peer_fingerprints(fingerprints_of(&client));
    let table: [(Vec<u8>, DtlsDrop); 8] = [
        (wire::alert(2, 40), DtlsDrop::PlaintextAlert),
        (vec![23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 7], DtlsDrop::PlaintextData),
        (vec![22, 0xfe, 0xfc, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 7], DtlsDrop::RecordMalformed),
        (vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 5, 9, 1, 7], DtlsDrop::RecordMalformed),
        (oversize_fragment(&[]).remove(0), DtlsDrop::FragmentMalformed),
        (wire::forged(0, 0, &[]), DtlsDrop::UnexpectedMessage),
        (wire::forged(1, 0, &[9; 60]), DtlsDrop::HelloRefused),
        ([&[0x2e, 1, 1, 0, 40], &[7; 40][..]].concat(), DtlsDrop::NoKeys),
    ];
    for (datagram, drop) in table {
        call.server.handle_datagram(&datagram, call.now);
        let mut drops = DtlsDropCounters::default();
        call.server.take_drops(&mut drops);
        assert_eq!(drops.iter().collect::<Vec<_>>(), [(drop, 1)], "{datagram:?}");
    }
    call.exchange();
    assert_keys_agree(&call, Profile::AeadAes128Gcm);
}

#[test]
fn the_labels_of_drops_are_unique() {
    let mut labels: Vec<_> = DtlsDrop::ALL.iter().map(|drop| drop.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), DtlsDrop::ALL.len());
}
