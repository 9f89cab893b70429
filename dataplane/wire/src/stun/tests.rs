//! The vectors of RFC 5769, and agreement with `stun-types` on good, odd and broken messages.
#![forbid(unsafe_code)]

use stun_types::attribute::{Attribute, AttributeStaticType, Username};
use stun_types::message::{IntegrityAlgorithm, Message};

use super::test_client::{Check, Random, credentials};
use super::*;

/// The password of RFC 5769's vectors.
const RFC_5769_PWD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

const RFC_5769_TRANSACTION: TransactionId =
    TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

/// RFC 5769 section 2.1. Its padding is of spaces, which must not matter.
const RFC_5769_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x10STUN test client\
    \x00\x24\x00\x04\x6e\x00\x01\xff\
    \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
    \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
    \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

/// RFC 5769 section 2.2: the answer over IPv4.
const RFC_5769_RESPONSE_V4: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector \
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";

/// RFC 5769 section 2.3: the answer over IPv6.
const RFC_5769_RESPONSE_V6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector \
    \x00\x20\x00\x14\x00\x02\xa1\x47\
    \x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\
    \x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\
    \x80\x28\x00\x04\xc8\xfb\x0b\x4c";

const UFRAG: &str = "serverufra";

const PWD: &str = "the server's password: 24";

fn keys() -> IntegrityKeys {
    IntegrityKeys::new(PWD)
}

/// Puts the right length and FINGERPRINT onto what a test has changed.
fn mend(message: &mut [u8]) {
    if message.len() < HEADER_LEN + FINGERPRINT_LEN {
        return;
    }
    let length = (message.len() - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let start = message.len() - FINGERPRINT_LEN;
    let fingerprint = fingerprint(&message[..start]);
    message[start..start + 4].copy_from_slice(&[0x80, 0x28, 0, 4]);
    message[start + 4..].copy_from_slice(&fingerprint.to_be_bytes());
}

#[test]
fn the_request_of_rfc_5769_is_read_and_authentic() {
    let request = parse_binding_request(RFC_5769_REQUEST).unwrap();
    assert_eq!((request.ufrag(), request.remote_ufrag()), ("evtj", "h6vY"));
    assert_eq!(request.transaction_id(), RFC_5769_TRANSACTION);
    assert_eq!(request.priority(), Some(0x6e00_01ff));
    assert_eq!(request.role(), Some(ClientRole::Controlled(0x932f_f9b1_5126_3b36)));
    assert!(!request.use_candidate());
    assert_eq!(request.nomination(), None);
    assert_eq!(request.unknown_attributes(), []);
    assert_eq!(request.raw(), RFC_5769_REQUEST);
    assert!(request.is_authentic(&IntegrityKeys::new(RFC_5769_PWD)));
    assert!(!request.is_authentic(&IntegrityKeys::new("VOkJxbRl1RmTxUk/WvJxBT")));
}

#[test]
fn the_answers_of_rfc_5769_are_written_byte_for_byte() {
    let keys = IntegrityKeys::new(RFC_5769_PWD);
    for (expected, mapped) in [
        (RFC_5769_RESPONSE_V4, "192.0.2.1:32853"),
        (RFC_5769_RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let mut out = [0xff; 128];
        let mut writer = Writer::new(&mut out, BINDING_SUCCESS, RFC_5769_TRANSACTION).unwrap();
        // The vectors have a SOFTWARE attribute, padded with a space; we send none.
        writer.bytes(b"\x80\x22\x00\x0btest vector ").unwrap();
        writer.xor_mapped_address(mapped.parse().unwrap(), RFC_5769_TRANSACTION).unwrap();
        let len = writer.finish(Algorithm::Sha1, &keys).unwrap();
        assert_eq!(&out[..len], expected, "{mapped}");
    }
}

#[test]
fn what_another_implementation_writes_is_read_in_full() {
    let check = Check::new(UFRAG, PWD)
        .username("serverufra:cl+/")
        .priority(0x6e7f_00ff)
        .use_candidate()
        .nomination(3)
        .attribute(0xc057, &[0, 1, 0, 10]) // GOOG-NETWORK-INFO: may be ignored, and is
        .bytes();
    let request = parse_binding_request(&check).unwrap();
    assert_eq!((request.ufrag(), request.remote_ufrag()), ("serverufra", "cl+/"));
    assert_eq!(request.priority(), Some(0x6e7f_00ff));
    assert!(request.use_candidate());
    assert_eq!(request.nomination(), Some(3));
    assert_eq!(request.role(), Some(ClientRole::Controlling(7)));
    assert_eq!(request.unknown_attributes(), []);
    assert!(request.is_authentic(&keys()));

    let no_role = Check::new(UFRAG, PWD).without_role().bytes();
    assert_eq!(parse_binding_request(&no_role).unwrap().role(), None);
}

#[test]
fn with_both_integrity_attributes_the_stronger_one_counts() {
    use IntegrityAlgorithm::{Sha1, Sha256};
    for (algorithms, expected) in [
        (&[Sha1][..], Algorithm::Sha1),
        (&[Sha256], Algorithm::Sha256),
        (&[Sha1, Sha256], Algorithm::Sha256),
    ] {
        let mut check = Check::new(UFRAG, PWD).integrity(algorithms).bytes();
        let request = parse_binding_request(&check).unwrap();
        assert_eq!(request.integrity.algorithm, expected);
        assert!(request.is_authentic(&keys()));
        // Spoil the SHA-256 tag where there is one: the other does not save the message.
        let spoiled = check.len() - FINGERPRINT_LEN - 1;
        check[spoiled] ^= 1;
        mend(&mut check);
        assert!(!parse_binding_request(&check).unwrap().is_authentic(&keys()));
    }
}

#[test]
fn what_stands_behind_the_integrity_attribute_is_not_believed() {
    let mut check = Check::new(UFRAG, PWD).bytes();
    let tail = check.split_off(check.len() - FINGERPRINT_LEN);
    check.extend(b"\x00\x25\x00\x00\x00\x24\x00\x04\xff\xff\xff\xff\x7f\xff\x00\x00");
    check.extend(tail);
    mend(&mut check);
    let request = parse_binding_request(&check).unwrap();
    assert!(request.is_authentic(&keys()));
    assert!(!request.use_candidate());
    assert_eq!(request.priority(), None);
    assert_eq!(request.unknown_attributes(), []);
}

#[test]
fn of_repeated_attributes_the_first_counts() {
    let check = Check::new(UFRAG, PWD)
        .attribute(0x0024, &1u32.to_be_bytes())
        .attribute(0x0030, &4u32.to_be_bytes());
    let mut bytes = check.bytes();
    // stun-types writes no attribute twice: insert the second ones by hand, before the integrity.
    let at = bytes.len() - FINGERPRINT_LEN - 24;
    bytes.splice(at..at, *b"\x00\x24\x00\x04\0\0\0\x02\x00\x30\x00\x04\0\0\0\x05");
    mend(&mut bytes);
    let request = parse_binding_request(&bytes).unwrap();
    assert_eq!(request.priority(), Some(1));
    assert_eq!(request.nomination(), Some(4));
}

#[test]
fn attributes_that_must_be_understood_are_named_eight_at_most() {
    let mut check = Check::new(UFRAG, PWD).attribute(0x8fff, b"optional");
    for kind in 0x7000..0x7010 {
        check = check.attribute(kind, b"strange");
    }
    let bytes = check.bytes();
    let request = parse_binding_request(&bytes).unwrap();
    assert!(request.unknown_attributes().iter().copied().eq(0x7000..0x7008));

    let mut out = [0; MAX_RESPONSE_LEN];
    let len = write_error(&request, ErrorCode::UnknownAttribute, &keys(), &mut out).unwrap();
    let asked: Vec<u16> = (0x7000..0x7010).collect();
    assert_eq!(check.read_reply(&out[..len], &asked), Err((420, (0x7000..0x7008).collect())));
}

#[test]
fn no_answer_is_longer_than_promised_and_none_is_cut_short() {
    use IntegrityAlgorithm::{Sha1, Sha256};
    let v4 = "192.0.2.1:1".parse().unwrap();
    let v6 = "[2001:db8::1]:1".parse().unwrap();
    for (algorithm, source, expected) in
        [(Sha1, v4, 64), (Sha1, v6, 76), (Sha256, v4, 76), (Sha256, v6, 88)]
    {
        let mut check = Check::new(UFRAG, PWD).integrity(&[algorithm]);
        for kind in 0x7000..0x7008 {
            check = check.attribute(kind, &[]);
        }
        let bytes = check.bytes();
        let request = parse_binding_request(&bytes).unwrap();
        let mut out = [0; MAX_RESPONSE_LEN];
        assert_eq!(write_success(&request, source, &keys(), &mut out), Some(expected));
        assert_eq!(check.read_reply(&out[..expected], &[]), Ok(source));
        for room in 0..expected {
            assert_eq!(write_success(&request, source, &keys(), &mut out[..room]), None);
        }
        let error = write_error(&request, ErrorCode::UnknownAttribute, &keys(), &mut out);
        assert!(error.is_some_and(|len| len <= MAX_RESPONSE_LEN));
        if algorithm == Sha256 {
            assert_eq!(error, Some(MAX_RESPONSE_LEN));
        }
    }
}

#[test]
fn what_is_no_binding_request_is_unexpected() {
    let good = Check::new(UFRAG, PWD).bytes();
    for (kind, what) in [
        (0x0011u16, "indication"),
        (0x0101, "success"),
        (0x0111, "error"),
        (0x0003, "TURN allocate"),
    ] {
        let mut message = good.clone();
        message[..2].copy_from_slice(&kind.to_be_bytes());
        mend(&mut message);
        let refused = parse_binding_request(&message).err();
        assert_eq!(refused, Some(StunError::Unexpected), "{what}");
    }
}

#[test]
fn what_breaks_the_format_or_lacks_a_part_is_malformed() {
    type Change = fn(&mut Vec<u8>);
    let table: &[(&str, Change)] = &[
        ("no magic cookie", |m| m[4] = 0),
        ("a length that leaves bytes over", |m| m.extend([0; 4])),
        ("a length beyond the end", |m| m[3] += 4),
        ("a length that is no multiple of four", |m| {
            m.insert(HEADER_LEN, 0);
            mend(m);
        }),
        ("a wrong FINGERPRINT", |m| *m.last_mut().unwrap() ^= 1),
        ("no FINGERPRINT", |m| {
            m.truncate(m.len() - FINGERPRINT_LEN);
            let length = (m.len() - HEADER_LEN) as u16;
            m[2..4].copy_from_slice(&length.to_be_bytes());
        }),
        ("a FINGERPRINT that is not the last", |m| {
            m.extend([0; FINGERPRINT_LEN]);
            mend(m);
        }),
        ("an attribute beyond the end", |m| {
            m[HEADER_LEN + 2] = 0xff;
            mend(m);
        }),
        ("no USERNAME", |m| {
            m[HEADER_LEN] = 0x80;
            mend(m);
        }),
        ("a USERNAME without a colon", |m| {
            let colon = m.iter().position(|&b| b == b':').unwrap();
            m[colon] = b'.';
            mend(m);
        }),
        ("a USERNAME that is not UTF-8", |m| {
            m[HEADER_LEN + 4] = 0xff;
            mend(m);
        }),
        ("no integrity attribute", |m| {
            let start = m.len() - FINGERPRINT_LEN - 24;
            m.drain(start..start + 24);
            mend(m);
        }),
        ("a MESSAGE-INTEGRITY of the wrong size", |m| {
            let start = m.len() - FINGERPRINT_LEN - 24;
            m[start + 3] = 16;
            m.drain(start + 4..start + 8);
            mend(m);
        }),
        ("a role of the wrong size", |m| {
            let role = m.windows(2).position(|w| w == [0x80, 0x2a]).unwrap();
            m[role + 3] = 7;
            mend(m);
        }),
        ("nothing but a header", |m| {
            m.truncate(HEADER_LEN);
            m[2..4].fill(0);
        }),
    ];
    for (what, change) in table {
        let mut message = Check::new(UFRAG, PWD).bytes();
        assert!(parse_binding_request(&message).is_ok());
        change(&mut message);
        let refused = parse_binding_request(&message).err();
        assert_eq!(refused, Some(StunError::Malformed), "{what}");
    }
    for sizes in [(0x0024, 5), (0x0024, 3), (0x0025, 1), (0x0030, 0), (0x0030, 8)] {
        let message = Check::new(UFRAG, PWD).attribute(sizes.0, &vec![0; sizes.1]).bytes();
        let refused = parse_binding_request(&message).err();
        assert_eq!(refused, Some(StunError::Malformed), "{sizes:?}");
    }
    let long = format!("{}:{}", "u".repeat(257), "v".repeat(256));
    let message = Check::new(UFRAG, PWD).attribute(0x7fff, &[]).bytes();
    assert!(parse_binding_request(&message).is_ok());
    assert!(split_username(long.as_bytes()).is_err());
    assert!(split_username(&long.as_bytes()[1..]).is_ok());
}

#[test]
fn every_truncation_is_refused() {
    let message = Check::new(UFRAG, PWD).priority(1).use_candidate().bytes();
    for len in 0..message.len() {
        let refused = parse_binding_request(&message[..len]).err();
        assert_eq!(refused, Some(StunError::Malformed), "{len} bytes");
    }
}

/// Half of the mutants get a right length and FINGERPRINT again, so that they come further than the
/// first guard. No mutant may be taken for authentic unless everything its tag covers is intact;
/// and what we take for a request, `stun-types` must, with the same USERNAME and the same verdict.
#[test]
fn a_hundred_thousand_mutants_forge_nothing() {
    use IntegrityAlgorithm::{Sha1, Sha256};
    let originals = [
        Check::new(UFRAG, PWD).priority(9).use_candidate().bytes(),
        Check::new(UFRAG, PWD).nomination(1).attribute(0xc057, b"1234").bytes(),
        Check::new(UFRAG, PWD).integrity(&[Sha256]).bytes(),
        Check::new(UFRAG, PWD).integrity(&[Sha1, Sha256]).bytes(),
    ];
    let keys = keys();
    let mut random = Random(0x1ce);
    let mut parsed = 0;
    let mut authentic = 0;
    for round in 0..100_000 {
        let original = &originals[round % originals.len()];
        let mut mutant = mutate(original, &mut random);
        if random.below(2) == 0 {
            mend(&mut mutant);
        }
        let Ok(request) = parse_binding_request(&mutant) else { continue };
        parsed += 1;
        let ours = request.is_authentic(&keys);
        if ours {
            authentic += 1;
            let covered = request.integrity.covered;
            assert_eq!(covered[4..], original[4..covered.len()], "round {round}");
        }

        let theirs = Message::from_bytes(&mutant).expect("what we can read, others can");
        let username = theirs.raw_attribute(Username::TYPE).expect("and it has a USERNAME");
        assert_eq!(username.get_type(), Username::TYPE);
        let expected = format!("{}:{}", request.ufrag(), request.remote_ufrag());
        assert_eq!(&username.value[..], expected.as_bytes(), "round {round}");
        let verdict = theirs.validate_integrity(&credentials(PWD)).is_ok();
        assert_eq!(ours, verdict, "round {round}: {mutant:02x?}");
    }
    assert!(parsed > 10_000, "the mutants get past the first guards: {parsed}");
    assert!(authentic > 100, "and a few changes do no harm: {authentic}");
}

/// One to three small changes: bits, bytes, words of length fields, cuts and insertions.
fn mutate(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutant = original.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(mutant.len());
        match random.below(6) {
            0 => mutant[at] ^= 1 << random.below(8),
            1 => mutant[at] = random.next() as u8,
            2 => mutant[at] = [0, 1, 3, 4, 0x7f, 0x80, 0xff][random.below(7)],
            3 => mutant.truncate((at + 1).next_multiple_of(4).min(mutant.len())),
            4 => {
                let word = (at & !3).min(mutant.len());
                mutant.splice(word..word, (random.next() as u32).to_be_bytes());
            }
            _ => {
                let word = at & !3;
                mutant.drain(word..(word + 4).min(mutant.len()));
            }
        }
        if mutant.is_empty() {
            mutant.push(0);
        }
    }
    mutant
}

#[test]
fn a_clients_check_is_what_the_other_implementation_reads() {
    let id = RFC_5769_TRANSACTION;
    let check = client::Checker::new(UFRAG, PWD, "client", 7).request(id);
    let read = Message::from_bytes(&check).expect("STUN, its FINGERPRINT right");
    assert_eq!(read.validate_integrity(&credentials(PWD)).ok(), Some(IntegrityAlgorithm::Sha1));
    let username = read.attribute::<Username>().expect("a name");
    assert_eq!(username.username(), format!("{UFRAG}:client"));
    let ours = parse_binding_request(&check).expect("a check");
    assert_eq!((ours.role(), ours.use_candidate()), (Some(ClientRole::Controlling(7)), true));
    assert_eq!(ours.priority(), Some(client::PEER_REFLEXIVE_PRIORITY));
    assert!(ours.is_authentic(&keys()) && ours.unknown_attributes().is_empty());

    let mut answer = [0; MAX_RESPONSE_LEN];
    let source = "192.0.2.1:9".parse().unwrap();
    let len = write_success(&ours, source, &keys(), &mut answer).expect("room");
    assert_eq!(client::success(&answer[..len]), Some(id));
    assert_eq!(client::success(&check), None);
    assert_eq!(client::success(&answer[..19]), None);
    assert_eq!(client::Checker::new(&"u".repeat(600), PWD, "c", 7).request(id), [0; 0]);
}
