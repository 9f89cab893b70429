//! Sizes and times of media: frames of an encoder, talk spurts of a voice.
#![forbid(unsafe_code)]

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Frames per second of a camera.
pub const FRAME_RATE: u32 = 30;

/// A key frame is this many times as large as the mean frame; encoders of meetings give 5 to 10.
const KEY_FRAME_FACTOR: f64 = 6.0;

/// Frames over which a key frame is paid back by smaller ones: one second.
const PAY_BACK_FRAMES: f64 = FRAME_RATE as f64;

/// Smallest frame, bytes: a stamp and its headers.
const MIN_FRAME_LEN: f64 = 80.0;

/// Frame sizes of one simulcast layer.
pub struct FrameModel {
    mean_bytes: f64,
    debt_bytes: f64,
    rng: StdRng,
}

impl FrameModel {
    /// A layer of so many bits per second.
    pub fn new(bits_per_second: u32, seed: u64) -> Self {
        FrameModel {
            mean_bytes: f64::from(bits_per_second) / 8.0 / f64::from(FRAME_RATE),
            debt_bytes: 0.0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Bytes of the next frame.
    pub fn next_len(&mut self, is_key: bool) -> usize {
        let wobble = self.rng.random_range(0.7..1.3);
        let wanted = if is_key {
            self.mean_bytes * KEY_FRAME_FACTOR
        } else {
            // Never more than half of a frame goes into paying back, or motion would freeze.
            let back = (self.debt_bytes / PAY_BACK_FRAMES).clamp(0.0, self.mean_bytes / 2.0);
            (self.mean_bytes - back) * wobble
        };
        let len = wanted.max(MIN_FRAME_LEN);
        self.debt_bytes = (self.debt_bytes + len - self.mean_bytes).max(0.0);
        len as usize
    }
}

/// What a microphone sends in one 20 ms tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// A packet of speech: its bytes, and its level below full scale in dB.
    Speech {
        /// Bytes of the frame.
        len: usize,
        /// Level, −dBov.
        level: u8,
    },
    /// A packet of comfort noise.
    Comfort,
    /// Nothing: discontinuous transmission.
    Nothing,
}

/// Ticks of 20 ms between packets of comfort noise: Opus sends one each 400 ms.
const COMFORT_TICKS: u32 = 20;

/// Mean lengths of talk spurts and pauses, ticks: 1.5 s and 2.5 s (ITU-T P.59 has 1.0 and 1.6 for
/// two; in a meeting one listens more).
const TALK_TICKS: f64 = 75.0;
const PAUSE_TICKS: f64 = 125.0;

/// Talk spurts of one voice.
pub struct VoiceModel {
    rng: StdRng,
    talking: bool,
    left: u32,
    since_comfort: u32,
}

impl VoiceModel {
    /// A voice.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let talking = rng.random_bool(TALK_TICKS / (TALK_TICKS + PAUSE_TICKS));
        let left = rng.random_range(1..75);
        VoiceModel { rng, talking, left, since_comfort: 0 }
    }

    /// The next tick.
    pub fn tick(&mut self) -> Voice {
        if self.left == 0 {
            self.talking = !self.talking;
            let mean = if self.talking { TALK_TICKS } else { PAUSE_TICKS };
            // An exponential length: spurts have no memory.
            let uniform: f64 = self.rng.random_range(0.001..1.0);
            self.left = (-uniform.ln() * mean) as u32 + 1;
            self.since_comfort = 0;
        }
        self.left -= 1;
        if self.talking {
            let len = self.rng.random_range(60..110);
            return Voice::Speech { len, level: self.rng.random_range(20..45) };
        }
        self.since_comfort += 1;
        if self.since_comfort % COMFORT_TICKS == 1 { Voice::Comfort } else { Voice::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_keeps_its_rate_with_key_frames_and_without() {
        for (rate, key_every) in [(150_000, 0), (500_000, 300), (1_500_000, 90)] {
            let mut model = FrameModel::new(rate, 1);
            let frames = 3000;
            let is_key = |n: usize| key_every > 0 && n.is_multiple_of(key_every);
            let bytes: usize = (0..frames).map(|n| model.next_len(is_key(n))).sum();
            let actual = bytes as f64 * 8.0 * f64::from(FRAME_RATE) / frames as f64;
            let ratio = actual / f64::from(rate);
            assert!((0.93..1.07).contains(&ratio), "{rate}: {actual}");
        }
    }

    #[test]
    fn a_key_frame_is_larger_than_any_other() {
        let mut model = FrameModel::new(500_000, 2);
        let largest = (0..100).map(|_| model.next_len(false)).max().unwrap();
        assert!(model.next_len(true) > 3 * largest);
    }

    #[test]
    fn a_voice_talks_for_a_part_of_the_time_and_is_nearly_silent_between() {
        let mut voice = VoiceModel::new(3);
        let ticks: Vec<Voice> = (0..100_000).map(|_| voice.tick()).collect();
        let count = |wanted: fn(&Voice) -> bool| ticks.iter().filter(|v| wanted(v)).count();
        let speech = count(|v| matches!(v, Voice::Speech { .. }));
        let comfort = count(|v| *v == Voice::Comfort);
        assert!((30_000..45_000).contains(&speech), "{speech}");
        assert!((2_500..6_000).contains(&comfort), "{comfort}");
    }

    #[test]
    fn the_same_seed_says_the_same() {
        let voice = |seed| {
            let mut voice = VoiceModel::new(seed);
            (0..500).map(|_| voice.tick()).collect::<Vec<_>>()
        };
        assert_eq!(voice(5), voice(5));
        assert_ne!(voice(5), voice(6));
    }
}
