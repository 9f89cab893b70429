//! Sealing and opening a packet takes nothing from the heap, nor does refusing one or hearing of
//! the SSRCs of an ordinary publisher for the first time. (The cryptographic library's C code has
//! its own way to the heap, which this cannot see; counted once with a preloaded `malloc`, it
//! took nothing either.)

use opencall_wire::srtp::{OpenContext, Profile, SealContext};

fn allocations_of(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

fn rtp_header(ssrc: u32, sequence: u16) -> [u8; 12] {
    let mut header = [0x80, 96, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[8..].copy_from_slice(&ssrc.to_be_bytes());
    header
}

#[test]
fn not_for_any_packet() {
    for profile in [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80] {
        let (key, salt) = ([1; 32], [2; 14]);
        let (key, salt) = (&key[..profile.key_len()], &salt[..profile.salt_len()]);
        let mut seal = SealContext::new(profile, key, salt).unwrap();
        let mut open = OpenContext::new(profile, key, salt).unwrap();
        let (payload, mut packet) = ([7; 1200], [0; 1300]);

        let allocations = allocations_of(|| {
            for i in 0..140_u16 {
                let ssrc = u32::from(i % 13);
                packet[..12].copy_from_slice(&rtp_header(ssrc, i));
                let len = seal.seal_rtp(i.into(), 12, &payload, &mut packet).unwrap();
                let mut forged = packet;
                forged[100] ^= 1;
                assert!(open.open_rtp(&mut forged[..len], ssrc, i, 12).is_err());
                let opened = open.open_rtp(&mut packet[..len], ssrc, i, 12).unwrap();
                assert_eq!((opened.len, opened.index), (1212, i.into()));
                assert!(open.open_rtp(&mut packet[..len], ssrc, i, 12).is_err());

                packet[..8].copy_from_slice(&[0x80, 200, 0, 6, 0, 0, 0, ssrc as u8]);
                let len = seal.seal_rtcp(&mut packet, 28).unwrap();
                assert_eq!(open.open_rtcp(&mut packet[..len]), Ok(28));
            }
        });
        assert_eq!(allocations, 0, "{}", profile.name());
    }
}
