//! One of a sender's streams: its SSRC, numbers and clock, and what changes them.

use std::time::Duration;

use opencall_wire::time::Time;

use super::film::CLIP;
use super::random::Random;

/// Encodings of the camera; then come the screen and the microphone.
pub const LAYERS: usize = 3;
pub const SCREEN: usize = 3;
pub const VOICE: usize = 4;

const RIDS: [&[u8]; LAYERS] = [b"r0", b"r1", b"r2"];

/// A stream.
pub struct Track {
    pub mid: &'static [u8],
    pub rid: Option<&'static [u8]>,
    pub rate: u32,
    pub period: Duration,
    pub next_capture: Time,
    pub next_report: Time,
    pub ssrc: u32,
    pub sequence: u16,
    /// What the RTP clock showed at the origin of time.
    origin: u32,
    pub picture_id: u16,
    pub tl0: u8,
    pub rtx_sequence: u16,
    pub number: u32,
    pub era: u32,
    /// Rises with what changes its sequence numbers.
    pub numbering: u32,
    pub key_due: bool,
    pub silent_until: Time,
    /// What is sent before is lost.
    pub lost_until: Time,
}

impl Track {
    pub fn new(number: usize, random: &mut Random, now: Time) -> Self {
        let (rate, period_ms) = match number {
            VOICE => (48_000, 20),
            SCREEN => (90_000, 100),
            _ => (90_000, 66),
        };
        let mut track = Track {
            mid: match number {
                VOICE => b"v",
                SCREEN => b"s",
                _ => b"c",
            },
            rid: RIDS.get(number).copied(),
            rate,
            period: Duration::from_millis(period_ms),
            next_capture: now,
            next_report: now + random.millis(100..1500),
            ssrc: 0x1000 * (number as u32 + 1),
            sequence: 0,
            origin: 0,
            picture_id: 0,
            tl0: 0,
            rtx_sequence: 0,
            number: 0,
            era: 0,
            numbering: 0,
            key_due: false,
            silent_until: Time::ZERO,
            lost_until: Time::ZERO,
        };
        track.draw_numbers(random);
        track
    }

    /// Goes on with the next picture, a key picture if one is due; returns its number.
    pub fn next_number(&mut self) -> u32 {
        if std::mem::take(&mut self.key_due) {
            self.number = self.number.next_multiple_of(CLIP);
        }
        self.number += 1;
        self.number - 1
    }

    fn draw_numbers(&mut self, random: &mut Random) {
        // So low that no number wraps before the server has seen one: it could not know the cycle.
        self.sequence = random.within(0..0x9000) as u16;
        self.origin = random.next() as u32;
        self.picture_id = random.next() as u16 & 0x7fff;
        self.tl0 = random.next() as u8;
        self.rtx_sequence = random.next() as u16;
    }

    pub fn clock(&self, at: Time) -> u32 {
        let ticks = u128::from(at.as_nanos()) * u128::from(self.rate) / 1_000_000_000;
        self.origin.wrapping_add(ticks as u32)
    }

    /// Goes on with the next key picture.
    pub fn skip_to_key(&mut self) {
        self.key_due = true;
    }

    /// Another SSRC, with numbers of its own; its clock may be near that of the one before.
    pub fn change_ssrc(&mut self, random: &mut Random) {
        let near = self.origin.wrapping_add(random.within(0..self.rate.into()) as u32);
        self.draw_numbers(random);
        if random.percent(40) {
            self.origin = near;
        }
        self.ssrc += 4;
        self.era += 1;
        self.numbering += 1;
        self.skip_to_key();
    }

    /// Other sequence numbers, far ahead. Back, or by more than half the range with what is lost,
    /// SRTP would not follow.
    pub fn jump_sequence(&mut self, random: &mut Random) {
        self.sequence = self.sequence.wrapping_add(random.within(4_000..14_000) as u16);
        self.era += 1;
        self.numbering += 1;
    }

    /// The clock shows another time: anything, or some seconds more or less.
    pub fn jump_clock(&mut self, random: &mut Random) {
        let far = match random.within(0..3) {
            0 => random.within(1 << 20..0xfff0_0000) as u32,
            1 => random.within(2..10) as u32 * self.rate,
            _ => 0u32.wrapping_sub(random.within(2..10) as u32 * self.rate),
        };
        self.origin = self.origin.wrapping_add(far);
        self.era += 1;
    }
}
