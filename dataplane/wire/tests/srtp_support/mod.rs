//! Random traffic on which another SRTP implementation has to agree with ours.
//!
//! Both sides seal every packet, and the bytes must be the same; then the packets are delivered
//! out of order, some twice, some damaged, and both sides must open the same ones. A failure
//! names the seed.

use std::collections::HashMap;

use opencall_wire::srtp::{OpenContext, Profile, SealContext};

/// Packets of each kind, per profile.
const PACKETS: usize = 4000;

/// How far a packet can be displaced on its way.
const REORDER_DISTANCE: usize = 40;

/// How many packets lie between two jumps ahead, of just under a quarter round. Two of them fit
/// into the reorder distance, and together they stay below the half round that can be told apart.
const JUMP_EVERY: usize = 25;

const PROFILES: [Profile; 3] =
    [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80];

/// Another implementation, holding one context for each direction of one transport.
pub trait Oracle {
    /// Whether it refuses replayed and damaged packets, and so can be asked about them.
    const JUDGES: bool;

    fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Self;
    fn seal_rtp(&mut self, packet: &[u8]) -> Vec<u8>;
    fn open_rtp(&mut self, packet: &[u8]) -> Option<Vec<u8>>;
    fn seal_rtcp(&mut self, packet: &[u8]) -> Vec<u8>;
    fn open_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>>;
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What the header of an RTP packet says.
struct RtpHeader {
    len: usize,
    ssrc: u32,
    sequence: u16,
}

fn parse_rtp(packet: &[u8]) -> Option<RtpHeader> {
    let mut len = 12 + 4 * usize::from(packet.first()? & 0x0f);
    if packet[0] & 0x10 != 0 {
        let words = packet.get(len + 2..len + 4)?;
        len += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    Some(RtpHeader {
        len,
        ssrc: u32::from_be_bytes(packet.get(8..12)?.try_into().ok()?),
        sequence: u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?),
    })
}

/// A well-formed header extension of any of the three kinds, or none.
fn extension(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    let profile: u16 = match random.below(4) {
        0 => return body,
        1 => {
            for id in 1..=random.below(8) as u8 {
                let len = 1 + random.below(16);
                body.push(id << 4 | (len as u8 - 1));
                body.extend(random.bytes(len));
            }
            0xbede
        }
        2 => {
            for id in 1..=random.below(8) as u8 {
                let len = random.below(40);
                body.extend([id, len as u8]);
                body.extend(random.bytes(len));
            }
            0x1000
        }
        _ => {
            let words = random.below(20);
            body.extend(random.bytes(4 * words));
            0x4321
        }
    };
    body.resize(body.len().next_multiple_of(4), 0);
    let words = (body.len() / 4) as u16;
    [profile.to_be_bytes().as_slice(), &words.to_be_bytes(), &body].concat()
}

fn rtp(random: &mut Random, ssrc: u32, sequence: u16) -> Vec<u8> {
    let extension = extension(random);
    let csrcs = random.below(4) * random.below(6);
    let mut packet = vec![0x80 | u8::from(!extension.is_empty()) << 4 | csrcs as u8];
    packet.push(random.next() as u8);
    packet.extend(sequence.to_be_bytes());
    packet.extend(random.bytes(4));
    packet.extend(ssrc.to_be_bytes());
    packet.extend(random.bytes(4 * csrcs));
    packet.extend(extension);
    let payload_len = if random.below(10) == 0 { random.below(3) } else { random.below(1200) };
    packet.extend(random.bytes(payload_len));
    packet
}

fn rtcp(random: &mut Random, ssrc: u32) -> Vec<u8> {
    let words = 1 + random.below(90);
    let mut packet = vec![0x80 | random.below(32) as u8, 200 + random.below(7) as u8];
    packet.extend((words as u16).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(random.bytes(4 * (words - 1)));
    packet
}

/// The numbers of sealed packets in the order in which they arrive, and the bit that is damaged
/// on the way.
fn deliveries(random: &mut Random, sealed: &[Vec<u8>]) -> Vec<(usize, Option<usize>)> {
    let mut order = Vec::new();
    for (i, packet) in sealed.iter().enumerate() {
        // The first ones come in order, so that both sides start in the same round.
        let late = if i < 100 { 0 } else { random.below(REORDER_DISTANCE) };
        order.push((i + late, i, None));
        match random.below(20) {
            0 => order.push((i + late + random.below(60), i, None)),
            1 => order.push((i, i, Some(random.below(8 * packet.len())))),
            _ => {}
        }
    }
    order.sort_by_key(|&(time, _, _)| time);
    order.into_iter().map(|(_, i, damage)| (i, damage)).collect()
}

/// Runs the traffic of `seed` through both implementations.
pub fn agree_on_rtp<O: Oracle>(seed: u64) {
    for profile in PROFILES {
        let mut random = Random(seed);
        let (key, salt) = (random.bytes(profile.key_len()), random.bytes(profile.salt_len()));
        let mut seal = SealContext::new(profile, &key, &salt).unwrap();
        let mut oracle = O::new(profile, &key, &salt);

        let mut indexes: Vec<u64> =
            [0, 3, 0x7fff, 0x8000, 0xf000, 0xfe00].map(|index| index + 1).to_vec();
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        for i in 0..PACKETS {
            let stream = random.below(indexes.len());
            let step = if i > 200 && i % JUMP_EVERY == 0 { random.below(0x3f00) } else { 1 };
            indexes[stream] += step.max(1) as u64;
            let index = indexes[stream];
            let packet = rtp(&mut random, 0xdead_0000 + stream as u32, index as u16);
            let header_len = parse_rtp(&packet).unwrap().len;
            let mut out = packet[..header_len].to_vec();
            out.resize(packet.len() + seal.rtp_overhead(), 0);
            let len = seal.seal_rtp(index, header_len, &packet[header_len..], &mut out).unwrap();
            assert_eq!(len, out.len());
            let context = format!("seed {seed} {} packet {i} index {index:#x}", profile.name());
            assert_eq!(out, oracle.seal_rtp(&packet), "{context}");
            plain.push((index, packet));
            sealed.push(out);
        }
        assert!(indexes.iter().all(|&index| index > 0x1_0000), "a stream did not wrap");
        deliver_rtp(&mut random, &plain, &sealed, oracle, (profile, &key, &salt), seed);
    }
}

/// Opens what the other implementation sealed, from a number on: the packets before are lost.
pub fn first_packets_are_opened_on_either_side_of_a_wrap<O: Oracle>() {
    for profile in PROFILES {
        for lost in 0..8 {
            let mut random = Random(7);
            let (key, salt) = (random.bytes(profile.key_len()), random.bytes(profile.salt_len()));
            let mut open = OpenContext::new(profile, &key, &salt).unwrap();
            let mut oracle = O::new(profile, &key, &salt);
            for number in 0..16_u16 {
                let plain = rtp(&mut random, 5, 65_532_u16.wrapping_add(number));
                let mut packet = oracle.seal_rtp(&plain);
                if number < lost {
                    continue;
                }
                let header = parse_rtp(&packet).unwrap();
                let opened = open.open_rtp(&mut packet, 5, header.sequence, header.len);
                let len = opened.map(|opened| opened.len);
                assert_eq!(len, Ok(plain.len()), "{} {lost} {number}", profile.name());
                assert_eq!(packet[..plain.len()], plain);
            }
        }
    }
}

fn deliver_rtp<O: Oracle>(
    random: &mut Random,
    plain: &[(u64, Vec<u8>)],
    sealed: &[Vec<u8>],
    mut oracle: O,
    (profile, key, salt): (Profile, &[u8], &[u8]),
    seed: u64,
) {
    let mut open = OpenContext::new(profile, key, salt).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for (i, damage) in deliveries(random, sealed) {
        let context = format!("seed {seed} {} packet {i} damage {damage:?}", profile.name());
        let mut packet = sealed[i].clone();
        if let Some(bit) = damage {
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        let received = packet.clone();
        let header = parse_rtp(&packet);
        let ours = header.and_then(|header| {
            let opened = open.open_rtp(&mut packet, header.ssrc, header.sequence, header.len);
            opened.ok().map(|opened| (opened.index, packet[..opened.len].to_vec()))
        });
        if let Some(ours) = &ours {
            assert!(damage.is_none(), "{context}");
            assert_eq!(*ours, plain[i], "{context}");
            taken += 1;
        } else {
            refused += 1;
        }
        if O::JUDGES || ours.is_some() {
            assert_eq!(ours.map(|(_, packet)| packet), oracle.open_rtp(&received), "{context}");
        }
    }
    assert!(taken > PACKETS * 4 / 5, "{taken} taken");
    assert!(refused > PACKETS / 20, "{refused} refused");
}

/// Runs the reports of `seed` through both implementations.
pub fn agree_on_rtcp<O: Oracle>(seed: u64) {
    for profile in PROFILES {
        let mut random = Random(seed);
        let (key, salt) = (random.bytes(profile.key_len()), random.bytes(profile.salt_len()));
        let mut oracle = O::new(profile, &key, &salt);
        // The oracles count per SSRC and start at one.
        let mut seals = HashMap::new();
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        for i in 0..PACKETS {
            let ssrc = random.below(5) as u32;
            let seal = seals.entry(ssrc).or_insert_with(|| {
                let mut seal = SealContext::new(profile, &key, &salt).unwrap();
                seal.set_rtcp_index(1);
                seal
            });
            let packet = rtcp(&mut random, ssrc);
            let mut out = packet.clone();
            out.resize(packet.len() + seal.rtcp_overhead(), 0);
            assert_eq!(seal.seal_rtcp(&mut out, packet.len()), Ok(out.len()));
            let context = format!("seed {seed} {} packet {i}", profile.name());
            assert_eq!(out, oracle.seal_rtcp(&packet), "{context}");
            plain.push(packet);
            sealed.push(out);
        }
        deliver_rtcp(&mut random, &plain, &sealed, oracle, (profile, &key, &salt), seed);
    }
}

fn deliver_rtcp<O: Oracle>(
    random: &mut Random,
    plain: &[Vec<u8>],
    sealed: &[Vec<u8>],
    mut oracle: O,
    (profile, key, salt): (Profile, &[u8], &[u8]),
    seed: u64,
) {
    let mut open = OpenContext::new(profile, key, salt).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for (i, damage) in deliveries(random, sealed) {
        let context = format!("seed {seed} {} packet {i} damage {damage:?}", profile.name());
        let mut packet = sealed[i].clone();
        if let Some(bit) = damage {
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        let received = packet.clone();
        let ours = open.open_rtcp(&mut packet).ok().map(|len| packet[..len].to_vec());
        if let Some(ours) = &ours {
            assert!(damage.is_none(), "{context}");
            assert_eq!(*ours, plain[i], "{context}");
            taken += 1;
        } else {
            refused += 1;
        }
        if O::JUDGES || ours.is_some() {
            assert_eq!(ours, oracle.open_rtcp(&received), "{context}");
        }
    }
    assert!(taken > PACKETS * 4 / 5, "{taken} taken");
    assert!(refused > PACKETS / 20, "{refused} refused");
}
