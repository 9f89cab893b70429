//! Renumbering with drops: the arithmetic that sequence numbers and picture ids share.
//!
//! Worked trace, starting at out 100:
//!
//! ```text
//! source   10   11   13   14    15    16   12         | switch: next source begins at 700
//! action   fwd  fwd  fwd  drop  drop  fwd  fwd (late) | 700  699      702
//! out      100  101  103  —     —     104  102        | 105  refused  107
//! ```
//!
//! 12 gets the number kept free for it: of the two drops, both lie above it. A packet that is to be
//! dropped after a newer one went out cannot be taken back: its number stays a gap.
#![forbid(unsafe_code)]

use std::mem::offset_of;

/// Maps the rising numbers of a source to rising numbers without gaps where packets were dropped.
/// Remembers drops for the last `64 * WORDS` source numbers; older ones are refused.
///
/// The memory of drops lies behind the rest, and a stream without drops does not touch it.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Numbering<const WORDS: usize> {
    /// One above the highest source number so far.
    end: u64,
    /// The number that `end` will get.
    next_out: u64,
    /// When `end` is here or above, no bit is set in `dropped`.
    clean_from: u64,
    /// The first source number of the present source; [`NOT_STARTED`] before the first source.
    floor: u64,
    /// Bit n % (64 * WORDS): whether source number n, within the window below `end`, was dropped.
    dropped: [u64; WORDS],
}

/// No source number is so high.
const NOT_STARTED: u64 = u64::MAX;

impl<const WORDS: usize> Numbering<WORDS> {
    /// Bytes before the memory of drops.
    pub(super) const HEAD_LEN: usize = offset_of!(Self, dropped);

    const WINDOW: u64 = 64 * WORDS as u64;

    /// One whose first number out is `first_out`.
    pub(super) const fn new(first_out: u64) -> Self {
        Numbering {
            end: 0,
            next_out: first_out,
            clean_from: 0,
            floor: NOT_STARTED,
            dropped: [0; WORDS],
        }
    }

    /// The number under which `source` goes out; `None` when it was dropped, is too old, or belongs
    /// to before a switch.
    #[inline]
    pub(super) fn forward(&mut self, source: u64) -> Option<u64> {
        if !self.has_started() {
            self.switch(source);
        }
        if source < self.end {
            return self.late(source);
        }
        self.advance(source);
        Some(self.next_out.wrapping_sub(1))
    }

    /// Leaves `source` out, if nothing above it has gone out yet.
    pub(super) fn skip(&mut self, source: u64) {
        if !self.has_started() || source < self.end {
            return;
        }
        self.advance(source);
        let (word, bit) = Self::position(source);
        self.dropped[word] |= bit;
        self.clean_from = source + Self::WINDOW + 1;
        self.next_out = self.next_out.wrapping_sub(1);
    }

    /// Goes on with another source, whose first number follows the highest number out.
    pub(super) fn switch(&mut self, first_source: u64) {
        self.floor = first_source;
        self.forget_drops();
        self.end = first_source;
    }

    /// The number that the next in order will get.
    pub(super) const fn next_out(&self) -> u64 {
        self.next_out
    }

    /// How far `source` is above the highest number so far; 0 for the next in order.
    pub(super) const fn steps_ahead(&self, source: u64) -> u64 {
        if self.has_started() { source.saturating_sub(self.end) } else { 0 }
    }

    /// Whether `source` is at or below the highest number so far.
    pub(super) const fn has_passed(&self, source: u64) -> bool {
        self.has_started() && source < self.end
    }

    /// The number at the distance of `source` from the newest, whether or not it is its own.
    pub(super) const fn plain(&self, source: u64) -> u64 {
        self.next_out.wrapping_sub(self.end.wrapping_sub(source))
    }

    const fn has_started(&self) -> bool {
        self.floor != NOT_STARTED
    }

    /// Takes everything up to `source` as due to go out.
    fn advance(&mut self, source: u64) {
        let steps = source - self.end + 1;
        if self.end < self.clean_from {
            self.clear(source, steps);
        }
        self.end = source + 1;
        self.next_out = self.next_out.wrapping_add(steps);
    }

    /// Clears the bits of the `steps` numbers from `end` to `source`.
    fn clear(&mut self, source: u64, steps: u64) {
        if steps >= Self::WINDOW {
            self.forget_drops();
            return;
        }
        for number in self.end..=source {
            let (word, bit) = Self::position(number);
            self.dropped[word] &= !bit;
        }
    }

    fn forget_drops(&mut self) {
        if self.end < self.clean_from {
            self.dropped = [0; WORDS];
            self.clean_from = 0;
        }
    }

    fn late(&self, source: u64) -> Option<u64> {
        let behind = self.end - source;
        if source < self.floor || behind > Self::WINDOW {
            return None;
        }
        let (word, bit) = Self::position(source);
        if self.dropped[word] & bit != 0 {
            return None;
        }
        let kept = behind - self.drops_above(source);
        Some(self.next_out.wrapping_sub(kept))
    }

    /// Drops between `source` and `end`, a word at a time.
    fn drops_above(&self, source: u64) -> u64 {
        let mut count = 0;
        let mut number = source + 1;
        while number < self.end {
            let (word, _) = Self::position(number);
            let low = number % 64;
            let width = (64 - low).min(self.end - number);
            let mask = (u64::MAX >> (64 - width)) << low;
            count += u64::from((self.dropped[word] & mask).count_ones());
            number += width;
        }
        count
    }

    fn position(number: u64) -> (usize, u64) {
        let index = number % Self::WINDOW;
        ((index / 64) as usize, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_worked_trace() {
        let mut numbering = Numbering::<8>::new(100);
        assert_eq!([10, 11, 13].map(|n| numbering.forward(n)), [Some(100), Some(101), Some(103)]);
        numbering.skip(14);
        numbering.skip(15);
        assert_eq!(numbering.forward(16), Some(104));
        assert_eq!(numbering.forward(12), Some(102));
        numbering.switch(700);
        assert_eq!([700, 699, 702].map(|n| numbering.forward(n)), [Some(105), None, Some(107)]);
    }

    #[test]
    fn the_same_number_goes_out_the_same_and_a_dropped_one_never() {
        let mut numbering = Numbering::<8>::new(0);
        numbering.forward(5);
        numbering.skip(6);
        numbering.skip(6);
        assert_eq!(numbering.forward(7), Some(1));
        assert_eq!(numbering.forward(7), Some(1));
        assert_eq!(numbering.forward(6), None);
        numbering.skip(5);
        assert_eq!(numbering.forward(5), Some(0), "too late to drop");
        assert_eq!(numbering.forward(8), Some(2));
    }

    #[test]
    fn drops_before_the_first_packet_and_at_a_switch_leave_no_gap() {
        let mut numbering = Numbering::<8>::new(50);
        numbering.skip(1);
        assert_eq!(numbering.forward(2), Some(50));
        numbering.skip(3);
        numbering.switch(1000);
        numbering.skip(1000);
        assert_eq!(numbering.forward(1001), Some(51));
        assert_eq!(numbering.next_out(), 52);
    }

    #[test]
    fn remembers_exactly_its_window() {
        let mut numbering = Numbering::<2>::new(0);
        numbering.forward(0);
        numbering.skip(1);
        numbering.forward(127);
        assert_eq!(numbering.forward(0), Some(0));
        assert_eq!(numbering.forward(1), None);
        assert_eq!(numbering.forward(2), Some(1));
        numbering.forward(128);
        assert_eq!(numbering.forward(0), None, "128 behind");
        numbering.forward(100_000);
        assert_eq!(numbering.forward(99_999), Some(99_998));
        assert_eq!(numbering.forward(100_000 - 128), None);
    }

    /// The plain model: a number out for each source number in order, counted by walking.
    #[test]
    fn agrees_with_counting_by_hand_under_drops_and_reordering() {
        let mut state = 0x9e37_79b9_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for _ in 0..200 {
            let mut numbering = Numbering::<8>::new(1_000);
            let mut dropped_in_time = Vec::new();
            let (mut highest, mut forwarded) = (5_000_u64, 0);
            numbering.forward(highest);
            for _ in 0..400 {
                let source = (highest + 4).saturating_sub(u64::from(random(8))).max(5_000);
                if random(3) == 0 {
                    numbering.skip(source);
                    if source > highest {
                        dropped_in_time.push(source);
                    }
                } else {
                    let below = dropped_in_time.iter().filter(|&&n| n < source).count() as u64;
                    let wanted = 1_000 + (source - 5_000) - below;
                    let expected = (!dropped_in_time.contains(&source)).then_some(wanted);
                    assert_eq!(numbering.forward(source), expected);
                    forwarded += 1;
                }
                highest = highest.max(source);
            }
            assert!(forwarded > 200);
        }
    }
}
