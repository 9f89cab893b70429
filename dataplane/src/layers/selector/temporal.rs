//! Which temporal layers of a stream go to a consumer: those its client wants, from the picture on
//! from which each can be decoded.
//!
//! A layer may be left at any picture. It may be entered again only with a picture that refers to
//! none of those left out, and how that is known differs:
//!
//! * VP8: the Y bit; the picture refers to the lowest layer alone. What comes after it in its layer
//!   refers to it, to lower layers, and to nothing before it in its layer.
//! * VP9 in flexible mode, and dependency descriptors: the distances of all pictures referred to.
//!   The picture is decodable where the oldest of them is newer than the last one left out of its
//!   layer and those below. Each picture says so of itself.
//! * VP9 otherwise: the U bit; after this picture no higher layer refers to pictures before it.
//!
//! Worked trace of L1T3 by distances; the client wants layer 0 only, and all from picture 6 on:
//!
//! ```text
//! picture    0   1   2   3   4   5   6   7   8   9  10
//! layer      0   2   1   2   0   2   1   2   0   2   1
//! oldest     -   0   0   2   0   4   4   6   4   8   8
//! goes out   yes no  no  no  yes no  yes yes yes yes yes
//! ```
//!
//! 6 refers to 4, and the last of its layer left out is 2; 7 refers to 6, and 5 is the last left
//! out.
#![forbid(unsafe_code)]

use opencall_wire::rtp::payload::{PayloadInfo, Reach};

/// No limit: above any temporal layer a codec has.
const ALL: u8 = u8::MAX;

/// Temporal layers told apart; no codec has more.
const LAYERS: usize = 8;

/// Seconds in which a wanted layer could not be entered after which a key frame is worth its price:
/// browsers' patterns let each layer be entered within one.
const HELD_BACK_SECONDS: u8 = 2;

/// So far back no picture refers; what was left out before is forgotten. A quarter of the numbers.
const FAR: u16 = 0x4000;

/// What of a stream's temporal layers goes out.
#[derive(Debug, Clone)]
pub struct TemporalLayers {
    /// The highest that the client wants.
    wanted: u8,
    /// Only the lowest goes out for now, whatever is wanted.
    is_spared: bool,
    /// The highest that may go out now: `wanted` as it was when the present picture began, for no
    /// picture is cut in two.
    limit: u8,
    /// Bit per layer: everything of it went out since it could be entered.
    entered: u8,
    /// Bit per layer: pictures of it were left out, `left_out` being the number of the last.
    has_left_out: u8,
    left_out: [u16; LAYERS],
    /// A wanted picture was left out in this second.
    is_held_back: bool,
    /// Seconds in a row of which that is true.
    held_back_seconds: u8,
}

impl TemporalLayers {
    /// All that the client wants, from the first picture on.
    pub fn new(wanted: Option<u8>) -> Self {
        let wanted = wanted.unwrap_or(ALL);
        TemporalLayers {
            wanted,
            is_spared: false,
            limit: wanted,
            entered: ALL,
            has_left_out: 0,
            left_out: [0; LAYERS],
            is_held_back: false,
            held_back_seconds: 0,
        }
    }

    /// Sets the highest layer that the client wants; `None` is all.
    pub fn want(&mut self, wanted: Option<u8>) {
        self.wanted = wanted.unwrap_or(ALL);
    }

    /// From the next picture on only the lowest layer goes out, or again what the client wants.
    pub fn spare(&mut self, is_spared: bool) {
        self.is_spared = is_spared;
    }

    /// Whether every picture goes out, until the client wants less.
    pub fn takes_all(&self) -> bool {
        self.wanted == ALL && !self.is_spared && self.limit == ALL && self.entered == ALL
    }

    /// To be called once a second: whether only a key frame still helps to enter a wanted layer.
    pub fn needs_key_frame(&mut self) -> bool {
        let is_held_back = std::mem::take(&mut self.is_held_back);
        self.held_back_seconds = if is_held_back { self.held_back_seconds + 1 } else { 0 };
        let needed = self.held_back_seconds == HELD_BACK_SECONDS;
        if needed {
            self.held_back_seconds = 0;
        }
        needed
    }

    /// Whether a packet's picture goes out.
    pub fn takes(&mut self, info: &PayloadInfo) -> bool {
        if info.starts_picture {
            self.limit = if self.is_spared { 0 } else { self.wanted };
            if info.key_frame {
                self.enter_all();
            }
        }
        let layer = info.temporal.min(LAYERS as u8 - 1);
        let takes = layer <= self.limit && (self.has_entered(layer) || self.enter(layer, info));
        if !takes {
            self.leave_out(layer, info);
        } else if info.opens_higher && self.has_entered(layer) {
            self.entered = ALL;
        }
        takes
    }

    fn enter_all(&mut self) {
        self.entered = ALL;
        self.has_left_out = 0;
    }

    /// Whether a layer and all below it are being sent. The lowest always is.
    fn has_entered(&self, layer: u8) -> bool {
        let below = up_to(layer) & !1;
        self.entered & below == below
    }

    fn enter(&mut self, layer: u8, info: &PayloadInfo) -> bool {
        match info.reach {
            Reach::Unknown => false,
            // Its packets may have been left out before the client wanted it.
            Reach::LowestLayer { number } if number.is_some() && number == self.last(layer) => {
                false
            }
            Reach::LowestLayer { .. } => {
                let began = info.starts_picture || self.entered & bit(layer) != 0;
                self.entered |= if began { bit(layer) } else { 0 };
                began
            }
            Reach::Back { number, oldest } => self.is_decodable(layer, number, oldest),
        }
    }

    /// The last picture of a layer that was left out.
    fn last(&self, layer: u8) -> Option<u16> {
        (self.has_left_out & bit(layer) != 0).then_some(self.left_out[usize::from(layer)])
    }

    /// Whether all that a picture refers to, down to `oldest` before it, went out.
    fn is_decodable(&mut self, layer: u8, number: u16, oldest: u16) -> bool {
        for lower in (1..=layer).filter(|&lower| self.has_left_out & bit(lower) != 0) {
            let distance = number.wrapping_sub(self.left_out[usize::from(lower)]);
            // The same picture, or one older than what was left out.
            if distance == 0 || distance > u16::MAX / 2 || distance <= oldest {
                return false;
            }
        }
        let forgotten = (1..=layer)
            .filter(|&lower| number.wrapping_sub(self.left_out[usize::from(lower)]) >= FAR)
            .fold(0, |bits, lower| bits | bit(lower));
        self.has_left_out &= !forgotten;
        if self.has_left_out == 0 && self.limit == ALL {
            self.entered = ALL;
        }
        true
    }

    fn leave_out(&mut self, layer: u8, info: &PayloadInfo) {
        self.is_held_back |= layer <= self.limit;
        // Higher layers refer to it.
        self.entered &= up_to(layer) >> 1;
        let (Reach::Back { number, .. } | Reach::LowestLayer { number: Some(number) }) = info.reach
        else {
            return;
        };
        let last = &mut self.left_out[usize::from(layer)];
        if self.has_left_out & bit(layer) == 0 || number.wrapping_sub(*last) < u16::MAX / 2 {
            *last = number;
        }
        self.has_left_out |= bit(layer);
    }
}

fn bit(layer: u8) -> u8 {
    1 << layer
}

/// The bits of a layer and all below it.
fn up_to(layer: u8) -> u8 {
    u8::MAX >> (LAYERS as u8 - 1 - layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of a pattern: its layer, and the distances of those it refers to.
    type Pattern = &'static [(u8, &'static [u16])];

    /// How pictures of a pattern say what they refer to.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Signal {
        /// VP8: Y where only the last picture of layer 0 is referred to.
        Sync,
        /// Distances, as dependency descriptors and VP9 in flexible mode have them.
        Distances,
        /// VP9: U on every picture, as libwebrtc sets it for its picture groups.
        Up,
    }

    /// The patterns of browsers (libwebrtc): VP8 with two and three layers, the longer patterns
    /// referring to their own layer too; what VP9 and AV1 have with two and three.
    const VP8_L1T2: Pattern = &[(0, &[2]), (1, &[1]), (0, &[2]), (1, &[1, 2])];
    const VP8_L1T2_LONG: Pattern = &[
        (0, &[2]),
        (1, &[1]),
        (0, &[2]),
        (1, &[1, 2]),
        (0, &[2]),
        (1, &[1, 2]),
        (0, &[2]),
        (1, &[1, 2]),
    ];
    const VP8_L1T3: Pattern = &[
        (0, &[4]),
        (2, &[1]),
        (1, &[2]),
        (2, &[3, 1]),
        (0, &[4]),
        (2, &[1, 3]),
        (1, &[2, 4]),
        (2, &[3, 1]),
    ];
    const L1T2: Pattern = &[(0, &[2]), (1, &[1])];
    const L1T3: Pattern = &[(0, &[4]), (2, &[1]), (1, &[2]), (2, &[1])];

    fn info(pattern: Pattern, number: usize, signal: Signal) -> PayloadInfo {
        let (temporal, refers) = pattern[number % pattern.len()];
        let key_frame = number == 0;
        // The last picture of layer 0 before this one.
        let base = (1..=number).find(|back| pattern[(number - back) % pattern.len()].0 == 0);
        let oldest = refers.iter().copied().max().filter(|_| !key_frame).unwrap_or(0);
        let reach = match signal {
            Signal::Distances => Reach::Back { number: number as u16, oldest },
            Signal::Sync
                if temporal > 0 && refers.iter().all(|&r| Some(usize::from(r)) == base) =>
            {
                Reach::LowestLayer { number: Some(number as u16) }
            }
            Signal::Sync | Signal::Up => Reach::Unknown,
        };
        let opens_higher = signal == Signal::Up;
        PayloadInfo {
            key_frame,
            starts_picture: true,
            temporal,
            reach,
            opens_higher,
            ..PayloadInfo::default()
        }
    }

    const CASES: [(Pattern, Signal, usize); 9] = [
        (VP8_L1T2, Signal::Sync, 4),
        (VP8_L1T2_LONG, Signal::Sync, 8),
        (VP8_L1T3, Signal::Sync, 11),
        (L1T2, Signal::Distances, 2),
        (L1T3, Signal::Distances, 4),
        (VP8_L1T3, Signal::Distances, 8),
        (VP8_L1T2_LONG, Signal::Distances, 8),
        (L1T2, Signal::Up, 2),
        (L1T3, Signal::Up, 4),
    ];

    #[test]
    fn follows_the_worked_trace() {
        let mut layers = TemporalLayers::new(Some(0));
        let taken: Vec<usize> = (0..11)
            .filter(|&number| {
                if number == 6 {
                    layers.want(None);
                }
                layers.takes(&info(L1T3, number, Signal::Distances))
            })
            .collect();
        assert_eq!(taken, [0, 4, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn wishes_come_true_within_a_pattern_and_every_picture_sent_can_be_decoded() {
        for (pattern, signal, within) in CASES {
            for from in 0..3 {
                for begins in 40..40 + pattern.len() {
                    let mut layers = TemporalLayers::new(Some(from));
                    let mut sent = std::collections::HashSet::new();
                    for number in 0..200 {
                        if number == begins {
                            layers.want(None);
                        }
                        let info = info(pattern, number, signal);
                        let takes = layers.takes(&info);
                        assert_eq!(layers.takes(&info), takes, "its second packet");
                        let all = number >= begins + within;
                        let wanted = number < begins && info.temporal <= from;
                        let name = format!("{signal:?}, {from}, {begins}: {number}");
                        assert!(takes || !(all || wanted), "{name} is missing");
                        assert!(!takes || number >= begins || info.temporal <= from, "{name}");
                        if takes {
                            let refers = pattern[number % pattern.len()].1;
                            let known = refers.iter().all(|&back| {
                                number == 0 || sent.contains(&number.saturating_sub(back.into()))
                            });
                            assert!(known, "{name} refers to what was left out");
                            sent.insert(number);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_picture_sent_can_be_decoded_however_wishes_change() {
        let mut state = 7_u32;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for (pattern, signal, _) in CASES {
            let mut layers = TemporalLayers::new(None);
            let mut sent = std::collections::VecDeque::new();
            for number in 0..140_000_usize {
                if random(9) == 0 {
                    layers.want((random(4) > 0).then(|| random(3) as u8));
                }
                let info = info(pattern, number, signal);
                if layers.takes_all() || layers.takes(&info) {
                    let refers = pattern[number % pattern.len()].1;
                    let known = refers.iter().all(|&back| {
                        number == 0 || sent.contains(&number.saturating_sub(back.into()))
                    });
                    assert!(known, "{signal:?}: {number}");
                    sent.push_front(number);
                    sent.truncate(16);
                } else {
                    assert_ne!(info.temporal, 0);
                }
            }
        }
    }

    #[test]
    fn a_picture_is_not_cut_in_two() {
        let mut layers = TemporalLayers::new(Some(0));
        layers.takes(&info(L1T2, 0, Signal::Distances));
        let first = info(L1T2, 1, Signal::Distances);
        assert!(!layers.takes(&first));
        layers.want(None);
        let second = PayloadInfo { starts_picture: false, ..first };
        assert!(!layers.takes(&second));

        let mut layers = TemporalLayers::new(None);
        layers.takes(&info(L1T2, 0, Signal::Distances));
        assert!(layers.takes(&first));
        layers.want(Some(0));
        assert!(layers.takes(&second));
        assert!(!layers.takes(&info(L1T2, 3, Signal::Distances)));
    }

    #[test]
    fn what_nobody_says_can_be_entered_takes_a_key_frame_which_is_worth_asking_for() {
        let mut layers = TemporalLayers::new(Some(0));
        let unknown = |temporal, key_frame| PayloadInfo {
            key_frame,
            starts_picture: true,
            temporal,
            ..PayloadInfo::default()
        };
        assert!(layers.takes(&unknown(0, true)));
        assert!(!layers.takes(&unknown(1, false)));
        assert!(!layers.needs_key_frame(), "it was not wanted");
        layers.want(None);
        for second in 1..=4 {
            assert!(!layers.takes(&unknown(1, false)));
            assert_eq!(layers.needs_key_frame(), second % 2 == 0, "{second}");
        }
        assert!(layers.takes(&unknown(0, true)) && layers.takes(&unknown(1, false)));
        assert!(layers.takes_all());
    }
}
