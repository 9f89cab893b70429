//! Sealing and opening.
#![forbid(unsafe_code)]

use std::hint::black_box;

use opencall_wire::rtp::header::FIXED_LEN;
use opencall_wire::srtp::{OpenContext, Profile, SealContext};

use crate::{AUDIO_PACKET_LEN, VIDEO_PACKET_LEN, Work, Workload};

/// Packets of one run.
const PACKETS: u64 = 64;

/// Room for any packet of these workloads with its tag.
const ROOM: usize = 1300;

const SSRC: u32 = 0x1234_5678;

pub(crate) fn workloads() -> Vec<Workload> {
    use Profile::{AeadAes128Gcm, AeadAes256Gcm, AesCm128HmacSha1_80};
    let workload = |name, make| Workload { name, unit: "packet", units: PACKETS, make };
    vec![
        workload("seal-gcm128-video", || seal(AeadAes128Gcm, VIDEO_PACKET_LEN)),
        workload("seal-gcm128-audio", || seal(AeadAes128Gcm, AUDIO_PACKET_LEN)),
        workload("seal-gcm256-video", || seal(AeadAes256Gcm, VIDEO_PACKET_LEN)),
        workload("seal-cm128-video", || seal(AesCm128HmacSha1_80, VIDEO_PACKET_LEN)),
        workload("seal-cm128-audio", || seal(AesCm128HmacSha1_80, AUDIO_PACKET_LEN)),
        workload("open-gcm128-video", || open(AeadAes128Gcm, VIDEO_PACKET_LEN)),
        workload("open-gcm128-audio", || open(AeadAes128Gcm, AUDIO_PACKET_LEN)),
        workload("open-gcm256-video", || open(AeadAes256Gcm, VIDEO_PACKET_LEN)),
        workload("open-cm128-video", || open(AesCm128HmacSha1_80, VIDEO_PACKET_LEN)),
    ]
}

struct Seal {
    context: SealContext,
    payload: Vec<u8>,
    out: Vec<u8>,
    index: u64,
}

struct Open {
    seal: Seal,
    context: OpenContext,
    packets: Vec<Vec<u8>>,
    opened: u64,
}

fn seal(profile: Profile, len: usize) -> Box<dyn Work> {
    Box::new(Seal::new(profile, len))
}

fn open(profile: Profile, len: usize) -> Box<dyn Work> {
    let (key, salt) = keys(profile);
    let context = OpenContext::new(profile, &key, &salt).expect("lengths are the profile's");
    let packets = vec![Vec::with_capacity(ROOM); PACKETS as usize];
    Box::new(Open { seal: Seal::new(profile, len), context, packets, opened: 0 })
}

/// Any key and salt of the right lengths.
fn keys(profile: Profile) -> (Vec<u8>, Vec<u8>) {
    (vec![0x42; profile.key_len()], vec![0x17; profile.salt_len()])
}

impl Seal {
    fn new(profile: Profile, len: usize) -> Self {
        let (key, salt) = keys(profile);
        let context = SealContext::new(profile, &key, &salt).expect("lengths are the profile's");
        let mut out = vec![0; ROOM];
        out[0] = 0x80;
        out[8..FIXED_LEN].copy_from_slice(&SSRC.to_be_bytes());
        Seal { context, payload: vec![0x5a; len - FIXED_LEN], out, index: 0 }
    }

    /// Seals the next packet; its length.
    fn next(&mut self) -> usize {
        self.out[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        let sealed = self.context.seal_rtp(self.index, FIXED_LEN, &self.payload, &mut self.out);
        self.index += 1;
        sealed.expect("header and index agree and there is room")
    }
}

impl Work for Seal {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            black_box(self.next());
        }
    }

    fn done(&self) -> u64 {
        self.index
    }
}

impl Work for Open {
    fn prepare(&mut self) {
        for packet in &mut self.packets {
            let len = self.seal.next();
            packet.clear();
            packet.extend_from_slice(&self.seal.out[..len]);
        }
    }

    fn run(&mut self) {
        for packet in &mut self.packets {
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            let opened = self.context.open_rtp(packet, SSRC, sequence, FIXED_LEN);
            self.opened += u64::from(opened.is_ok());
        }
    }

    fn done(&self) -> u64 {
        self.opened
    }
}
