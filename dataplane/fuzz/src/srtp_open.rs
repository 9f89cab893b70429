//! Input: profile (1), then a script: packets sealed by the client, delivered whole, again, damaged
//! or forged, and the moments at which the receiving side loses its state.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use opencall_dataplane::drop_reason::DropReason;
use opencall_wire::rtp::RtpHeader;
use opencall_wire::srtp::{MAX_SSRCS, OpenContext, Profile, SealContext};

use crate::input::Input;

const PROFILES: [Profile; 3] =
    [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80];

/// Bytes that sealing adds at most.
const OVERHEAD: usize = 20;

/// Sealed packets kept for later delivery.
const KEPT: usize = 64;

/// Longest payload sealed: what travels in one datagram.
const PAYLOAD: usize = 1500;

/// SSRCs a script goes through at most: twice what the table holds.
const FLOOD: u32 = 2 * MAX_SSRCS as u32;

/// Plays the script: nothing opens but what the client has sealed, and that once.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let profile = PROFILES[usize::from(input.below(3))];
    let mut talk = Talk::new(profile, Keys::of(profile, data));
    while !input.is_empty() {
        match input.below(16) {
            0..=3 => talk.seal_rtp(&mut input),
            4 | 5 => talk.seal_rtcp(&mut input),
            6..=8 => talk.deliver(input.byte()),
            9 | 10 => talk.deliver_damaged(&mut input),
            11 => talk.forge(input.bytes()),
            12 => talk.flood(input.byte()),
            13 => talk.open.retire(ssrc(input.byte())),
            14 => talk.crash(),
            _ => talk.jump(input.byte(), input.u16()),
        }
        assert!(talk.open.ssrcs() <= MAX_SSRCS);
    }
}

fn ssrc(number: u8) -> u32 {
    0x1000_0000 | u32::from(number & 7)
}

#[derive(Clone)]
struct Sealed {
    bytes: Vec<u8>,
    plain: Vec<u8>,
    /// RTP, with its index; else RTCP.
    index: Option<u64>,
}

/// Keys that depend on the whole script. Were they always the same, the fuzzer would learn tags
/// from the comparisons it watches, and put authentic packets where forged ones belong: it has done
/// so.
struct Keys {
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl Keys {
    fn of(profile: Profile, script: &[u8]) -> Self {
        let byte = |place: usize| {
            let mut hasher = DefaultHasher::new();
            (place, script).hash(&mut hasher);
            hasher.finish() as u8
        };
        Keys {
            key: (0..profile.key_len()).map(byte).collect(),
            salt: (100..100 + profile.salt_len()).map(byte).collect(),
        }
    }

    fn open(&self, profile: Profile) -> OpenContext {
        OpenContext::new(profile, &self.key, &self.salt).expect("a key of the right length")
    }

    fn seal(&self, profile: Profile) -> SealContext {
        SealContext::new(profile, &self.key, &self.salt).expect("a key of the right length")
    }
}

struct Talk {
    profile: Profile,
    keys: Keys,
    seal: SealContext,
    open: OpenContext,
    /// Next RTP index of each SSRC.
    next: [u64; 8],
    kept: Vec<Sealed>,
    opened: HashSet<Vec<u8>>,
    flooded: u32,
    /// The table of SSRCs was full at some time, so that some may have been forgotten.
    was_full: bool,
}

impl Talk {
    fn new(profile: Profile, keys: Keys) -> Self {
        Talk {
            profile,
            seal: keys.seal(profile),
            open: keys.open(profile),
            keys,
            next: [1; 8],
            kept: Vec::new(),
            opened: HashSet::new(),
            flooded: 0,
            was_full: false,
        }
    }

    fn seal_rtp(&mut self, input: &mut Input<'_>) {
        let number = input.byte();
        let shape = input.byte();
        let payload = input.bytes();
        let payload = &payload[..payload.len().min(PAYLOAD)];
        let stream = usize::from(number & 7);
        let packet = self.sealed_rtp(ssrc(number), self.next[stream], shape, payload);
        self.next[stream] += 1;
        self.keep(packet);
    }

    /// A packet with CSRCs and an extension block as `shape` says.
    fn sealed_rtp(&mut self, ssrc: u32, index: u64, shape: u8, payload: &[u8]) -> Sealed {
        let mut plain = vec![0x80 | shape & 0x1f, 96];
        plain.extend((index as u16).to_be_bytes());
        plain.extend([0, 0, 0, 1]);
        plain.extend(ssrc.to_be_bytes());
        plain.extend(std::iter::repeat_n(0xcc, usize::from(shape & 0x0f) * 4));
        if shape & 0x10 != 0 {
            let words = usize::from(shape >> 5);
            plain.extend([0xbe, 0xde, 0, words as u8]);
            plain.extend(std::iter::repeat_n(0, words * 4));
        }
        let header_len = plain.len();
        let mut bytes = plain.clone();
        bytes.resize(header_len + payload.len() + OVERHEAD, 0);
        let len = self.seal.seal_rtp(index, header_len, payload, &mut bytes).expect("it seals");
        bytes.truncate(len);
        plain.extend(payload);
        Sealed { bytes, plain, index: Some(index) }
    }

    fn seal_rtcp(&mut self, input: &mut Input<'_>) {
        let number = input.byte();
        let body = input.bytes();
        let body = &body[..body.len().min(PAYLOAD)];
        let mut plain = vec![0x80, 201, 0, 1];
        plain.extend(ssrc(number).to_be_bytes());
        plain.extend(body);
        let mut bytes = plain.clone();
        bytes.resize(plain.len() + OVERHEAD, 0);
        let len = self.seal.seal_rtcp(&mut bytes, plain.len()).expect("it seals");
        bytes.truncate(len);
        self.keep(Sealed { bytes, plain, index: None });
    }

    fn keep(&mut self, packet: Sealed) {
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push(packet);
    }

    fn pick(&self, which: u8) -> Option<Sealed> {
        let back = usize::from(which) % self.kept.len().max(1);
        self.kept.iter().rev().nth(back).cloned()
    }

    /// Delivers a packet as it was sealed, for the first time or again.
    fn deliver(&mut self, which: u8) {
        let Some(packet) = self.pick(which) else { return };
        self.deliver_whole(&packet);
    }

    fn deliver_whole(&mut self, packet: &Sealed) {
        let before = self.open.ssrcs();
        match self.receive(&packet.bytes) {
            Ok((plain, index)) => {
                assert!(plain == packet.plain, "it reads as it was written");
                assert_eq!(index, packet.index);
                let first = self.opened.insert(packet.bytes.clone());
                assert!(first || self.was_full, "a packet opens once");
            }
            Err(reason) => {
                assert_eq!(self.open.ssrcs(), before);
                assert!(match reason {
                    // It was seen, or is older than the window.
                    DropReason::SrtpReplay => true,
                    // Its index was guessed wrong: too far from the last one.
                    DropReason::SrtpAuthFailed => packet.index.is_some(),
                    DropReason::SrtpTooManySsrcs => before == MAX_SSRCS,
                    _ => false,
                });
            }
        }
        self.was_full |= self.open.ssrcs() == MAX_SSRCS;
    }

    /// Delivers a packet with bytes changed, missing or added: it must not open.
    fn deliver_damaged(&mut self, input: &mut Input<'_>) {
        let (which, at, with) = (input.byte(), usize::from(input.u16()), input.byte());
        let Some(mut packet) = self.pick(which) else { return };
        match with {
            0 => packet.bytes.truncate(at % packet.bytes.len()),
            1 => packet.bytes.extend(std::iter::repeat_n(0, at % 32 + 1)),
            _ => {
                let at = at % packet.bytes.len();
                packet.bytes[at] ^= with;
            }
        }
        let before = self.state();
        assert!(self.receive(&packet.bytes).is_err(), "what was not sealed does not open");
        assert!(self.state() == before, "and leaves no trace");
    }

    fn forge(&mut self, datagram: &[u8]) {
        let before = self.state();
        assert!(self.receive(datagram).is_err(), "what was not sealed does not open");
        assert!(self.state() == before, "and leaves no trace");
    }

    /// A client that goes through SSRCs.
    fn flood(&mut self, count: u8) {
        for _ in 0..count {
            if self.flooded == FLOOD {
                return;
            }
            self.flooded += 1;
            let packet = self.sealed_rtp(0x2000_0000 + self.flooded, 1, 0, b"x");
            self.deliver_whole(&packet);
        }
    }

    /// The core dies, and another goes on from the checkpoints.
    fn crash(&mut self) {
        let mut open = self.keys.open(self.profile);
        for checkpoint in self.open.checkpoints() {
            open.restore(checkpoint);
        }
        self.open = open;
        let lost = self.seal.rtcp_index();
        self.seal.set_rtcp_index(lost);
        assert_eq!(self.seal.rtcp_index(), lost);
    }

    /// The client goes on elsewhere in the sequence numbers.
    fn jump(&mut self, number: u8, by: u16) {
        self.next[usize::from(number & 7)] += u64::from(by);
    }

    /// What an outsider must not be able to change.
    fn state(&self) -> Vec<(u32, Option<u64>, Option<u32>)> {
        let mut state: Vec<_> =
            self.open.checkpoints().map(|c| (c.ssrc, c.rtp_index, c.rtcp_index)).collect();
        state.sort_unstable();
        state
    }

    /// Opens a datagram as the data plane does.
    fn receive(&mut self, datagram: &[u8]) -> Result<(Vec<u8>, Option<u64>), DropReason> {
        let mut packet = datagram.to_vec();
        if packet.get(1).is_some_and(|kind| (192..224).contains(kind)) {
            let len = self.open.open_rtcp(&mut packet)?;
            packet.truncate(len);
            return Ok((packet, None));
        }
        let header = RtpHeader::parse(&packet).ok_or(DropReason::RtpMalformed)?;
        let header_len = usize::from(header.header_len);
        let opened = self.open.open_rtp(&mut packet, header.ssrc, header.sequence, header_len)?;
        packet.truncate(opened.len);
        Ok((packet, Some(opened.index)))
    }
}
