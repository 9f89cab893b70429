//! Which packet indexes were seen (RFC 3711 section 3.3.2).
#![forbid(unsafe_code)]

const WORD_BITS: u64 = u64::BITS as u64;

/// A bitmap over the newest `64 * WORDS` indexes. Bit `index mod size` belongs to `index`, so that
/// nothing moves when the window does: the usual step clears a single bit.
#[derive(Clone)]
pub(super) struct ReplayWindow<const WORDS: usize> {
    /// One past the highest index seen; zero while none was.
    next: u64,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// How many indexes, up to and including the highest one, are told apart.
    pub(super) const SIZE: u64 = WORDS as u64 * WORD_BITS;

    pub(super) const fn new() -> Self {
        ReplayWindow { next: 0, seen: [0; WORDS] }
    }

    /// A window in which `highest` and everything before it was seen.
    pub(super) const fn all_seen_up_to(highest: u64) -> Self {
        ReplayWindow { next: highest.saturating_add(1), seen: [u64::MAX; WORDS] }
    }

    /// One past the highest index seen.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The highest index seen.
    pub(super) fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Whether `index` is neither seen nor too old to tell.
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        let Some(highest) = self.highest() else { return true };
        let Some(age) = highest.checked_sub(index) else { return true };
        let (word, bit) = Self::position(index);
        age < Self::SIZE && self.seen[word] >> bit & 1 == 0
    }

    /// Marks `index` as seen. Call it for authenticated packets only.
    pub(super) fn accept(&mut self, index: u64) {
        if index >= self.next {
            self.advance_to(index);
        }
        let (word, bit) = Self::position(index);
        self.seen[word] |= 1 << bit;
    }

    /// Makes `index` the highest one and forgets those that it pushes out.
    fn advance_to(&mut self, index: u64) {
        let mut next = self.next;
        self.next = index.saturating_add(1);
        if index - next >= Self::SIZE {
            self.seen = [0; WORDS];
            return;
        }
        while next <= index {
            let (word, bit) = Self::position(next);
            let run = (WORD_BITS - u64::from(bit)).min(index - next + 1);
            self.seen[word] &= !(u64::MAX >> (WORD_BITS - run) << bit);
            next += run;
        }
    }

    /// Word and bit of `index`; the remainder keeps the word below `WORDS`.
    fn position(index: u64) -> (usize, u32) {
        ((index / WORD_BITS % WORDS as u64) as usize, (index % WORD_BITS) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_index_passes_once() {
        let mut window = ReplayWindow::<2>::new();
        for index in [5, 3, 4, 131, 132, 130, 6] {
            assert!(window.is_fresh(index), "{index}");
            window.accept(index);
            assert!(!window.is_fresh(index), "{index}");
        }
    }

    #[test]
    fn the_window_is_exactly_its_size() {
        let mut window = ReplayWindow::<2>::new();
        window.accept(1000);
        assert!(window.is_fresh(1000 - 127));
        assert!(!window.is_fresh(1000 - 128));
        assert!(window.is_fresh(u64::MAX));
    }

    #[test]
    fn a_restored_window_refuses_its_past() {
        let window = ReplayWindow::<2>::all_seen_up_to(70_000);
        assert_eq!(window.highest(), Some(70_000));
        for index in [0, 69_000, 69_990, 70_000] {
            assert!(!window.is_fresh(index), "{index}");
        }
        assert!(window.is_fresh(70_001));
    }

    #[test]
    fn agrees_with_a_set_over_random_steps() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..200 {
            let mut window = ReplayWindow::<4>::new();
            let mut seen = BTreeSet::new();
            let mut base = 1000_u64;
            for _ in 0..500 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                base += [0, 1, 1, 2, 70, 64, 300, 1][(state >> 20) as usize % 8];
                let index = base - state % 300;
                let highest = seen.last().copied().unwrap_or(0);
                let fresh = index + 256 > highest && !seen.contains(&index);
                assert_eq!(window.is_fresh(index), fresh, "round {round} index {index}");
                if fresh {
                    window.accept(index);
                    seen.insert(index);
                }
            }
        }
    }
}
