//! A list of entries in memory that outlives the process, whole wherever the process is killed.
//!
//! An entry is written behind the last one, its head last of all: one word with its length and its
//! checksum. So it is there or it is not. When much of the list says what no longer holds, what
//! does is written to the other half of the memory, and one word says which half counts:
//!
//! ```text
//! half 0   create 1 | create 2 | close 1 | create 3 | close 3 | 0
//! half 1   create 2 | 0                                            epoch 6 → 7: this one counts
//! ```
//!
//! Checksums are made with the epoch and the place, for what an earlier list left behind is no
//! entry of this one. A killed process leaves its stores in their order: nothing here is for power
//! cuts.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Release};

use opencall_io::shared::{Region, WORD};

/// Words that may say what no longer holds before the list is written anew, beside as many as what
/// did when it was last written: 1 MiB. Fewer would write more often, more keep keys for longer.
const SPARE_WORDS: usize = 128 << 10;

/// Any odd number with bits all over.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a journal is in its region, in words.
#[derive(Debug, Clone)]
pub struct Place {
    /// The word that says which half counts: the lowest bit of the epoch.
    pub epoch: usize,
    /// The halves.
    pub halves: [Range<usize>; 2],
}

/// There is no place for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// See the [module](self).
pub struct Journal {
    region: Region,
    place: Place,
    epoch: u64,
    /// Words of the present half that are in use.
    end: usize,
    /// The same, when it was last written anew.
    live: usize,
    /// Stores that are still made before the process is killed.
    #[cfg(test)]
    pub(super) left: std::cell::Cell<usize>,
}

impl Journal {
    /// The list that is there, each of whose entries `each` is given.
    pub fn open(region: Region, place: Place, mut each: impl FnMut(&[u8])) -> Self {
        let epoch = region.words()[place.epoch].load(Acquire);
        let mut journal = Journal {
            region,
            place,
            epoch,
            end: 0,
            live: 0,
            #[cfg(test)]
            left: std::cell::Cell::new(usize::MAX),
        };
        let mut entry = Vec::new();
        while let Some(end) = journal.read(journal.end, &mut entry) {
            each(&entry);
            journal.end = end;
        }
        // Who was killed before it wiped that has left it to this one.
        journal.discard(journal.half(epoch.wrapping_add(1)));
        journal
    }

    fn half(&self, epoch: u64) -> Range<usize> {
        self.place.halves[(epoch & 1) as usize].clone()
    }

    fn load(&self, half: &Range<usize>, at: usize) -> Option<u64> {
        let index = half.start.checked_add(at).filter(|index| *index < half.end)?;
        Some(self.region.words().get(index)?.load(Acquire))
    }

    fn store(&self, index: usize, value: u64) {
        #[cfg(test)]
        match self.left.get() {
            0 => return,
            left => self.left.set(left - 1),
        }
        if let Some(word) = self.region.words().get(index) {
            word.store(value, Release);
        }
    }

    /// The entry at a place, and where the next one is; `None` at the end.
    fn read(&self, at: usize, entry: &mut Vec<u8>) -> Option<usize> {
        let half = self.half(self.epoch);
        let head = self.load(&half, at)?;
        let length = (head >> 32) as usize;
        let end = at.checked_add(1 + length.div_ceil(WORD))?;
        if length == 0 || end > half.len() {
            return None;
        }
        entry.clear();
        for word in at + 1..end {
            entry.extend(self.load(&half, word)?.to_le_bytes());
        }
        entry.truncate(length);
        (head == head_of(entry, self.epoch, at)).then_some(end)
    }

    /// Writes an entry at a place of a half, and a word after it that is none; returns where that
    /// is.
    fn write(&self, epoch: u64, at: usize, entry: &[u8]) -> Result<usize, Full> {
        let half = self.half(epoch);
        let end = at + 1 + entry.len().div_ceil(WORD);
        if entry.is_empty() || end >= half.len() || u32::try_from(entry.len()).is_err() {
            return Err(Full);
        }
        self.store(half.start + end, 0);
        for (index, chunk) in (half.start + at + 1..).zip(entry.chunks(WORD)) {
            self.store(index, word_of(chunk));
        }
        self.store(half.start + at, head_of(entry, epoch, at));
        Ok(end)
    }

    /// Adds an entry, which must not be empty.
    ///
    /// # Errors
    /// It has no place: the list is as it was.
    pub fn append(&mut self, entry: &[u8]) -> Result<(), Full> {
        self.end = self.write(self.epoch, self.end, entry)?;
        Ok(())
    }

    /// Whether so much of the list is old that it should be written anew.
    pub fn is_due(&self) -> bool {
        self.end > 2 * self.live + SPARE_WORDS.min(self.half(self.epoch).len() / 4)
    }

    /// Replaces the list by the entries that `tell` tells.
    ///
    /// # Errors
    /// They have no place: the list is as it was.
    pub fn rewrite(&mut self, tell: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Result<(), Full> {
        let epoch = self.epoch.wrapping_add(1);
        let mut end = Ok(0);
        let new = self.half(epoch);
        self.store(new.start, 0);
        tell(&mut |entry| {
            if let Ok(at) = end {
                end = self.write(epoch, at, entry);
            }
        });
        let Ok(end) = end else {
            self.discard(new);
            return Err(Full);
        };
        self.store(self.place.epoch, epoch);
        let old = self.half(self.epoch);
        (self.epoch, self.end, self.live) = (epoch, end, end);
        self.discard(old);
        Ok(())
    }

    /// What it says that no longer counts is not kept: there are keys in it.
    fn discard(&self, half: Range<usize>) {
        #[cfg(test)]
        if self.left.get() == 0 {
            return;
        }
        self.region.discard(half);
    }
}

fn word_of(chunk: &[u8]) -> u64 {
    let mut bytes = [0; WORD];
    bytes[..chunk.len()].copy_from_slice(chunk);
    u64::from_le_bytes(bytes)
}

/// Length and checksum of an entry at its place.
fn head_of(entry: &[u8], epoch: u64, at: usize) -> u64 {
    let seed = epoch.wrapping_mul(FACTOR) ^ at as u64;
    let mix = |sum: u64, chunk| (sum ^ word_of(chunk)).wrapping_mul(FACTOR).rotate_left(29);
    let sum = entry.chunks(WORD).fold(seed, mix).wrapping_mul(FACTOR);
    (entry.len() as u64) << 32 | sum >> 32
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::atomic::Ordering::Relaxed;

    use opencall_io::shared::create;

    use super::*;

    const PAGE_WORDS: usize = 512;

    /// Memory for a journal with halves of so many pages.
    fn memory(pages: usize) -> (OwnedFd, Place) {
        let half = pages * PAGE_WORDS;
        let halves = [PAGE_WORDS..PAGE_WORDS + half, PAGE_WORDS + half..PAGE_WORDS + 2 * half];
        (create((1 + 2 * pages) * 4096).unwrap(), Place { epoch: 0, halves })
    }

    fn open(memory: &OwnedFd, place: &Place) -> (Journal, Vec<Vec<u8>>) {
        let pages = place.halves[1].end / PAGE_WORDS;
        let region = Region::map(memory.as_fd(), pages * 4096).unwrap();
        let mut entries = Vec::new();
        let journal = Journal::open(region, place.clone(), |entry| entries.push(entry.to_vec()));
        (journal, entries)
    }

    #[test]
    fn an_entry_is_there_or_it_is_not_wherever_the_process_is_killed() {
        let entries = [vec![1], vec![2; 8], vec![3; 31]];
        for stores in 0.. {
            let (memory, place) = memory(1);
            let (mut journal, _) = open(&memory, &place);
            // What an earlier list has left behind begins where the next entry ends, too.
            (0..40).for_each(|_| journal.append(&[9; 8]).unwrap());
            journal.rewrite(|tell| entries.iter().for_each(|entry| tell(entry))).unwrap();
            journal.rewrite(|tell| entries[..2].iter().for_each(|entry| tell(entry))).unwrap();
            journal.left.set(stores);
            journal.append(&entries[2]).unwrap();
            let was_killed = journal.left.get() == 0;
            let (mut next, read) = open(&memory, &place);
            assert!(read == entries[..2] || read == entries, "{stores}: {read:?}");
            assert_eq!(read == entries, stores >= 6, "the head is the last store");
            next.append(&[7]).unwrap();
            assert_eq!(open(&memory, &place).1.last().unwrap(), &[7]);
            if !was_killed {
                return assert!(stores > 6);
            }
        }
    }

    #[test]
    fn a_list_is_the_old_one_or_the_new_one_wherever_the_process_is_killed() {
        let (old, new) = ([vec![1], vec![2; 9]], [vec![2; 9], vec![4; 17], vec![5; 3]]);
        for stores in 0.. {
            let (memory, place) = memory(1);
            let (mut journal, _) = open(&memory, &place);
            old.iter().for_each(|entry| journal.append(entry).unwrap());
            journal.left.set(stores);
            journal.rewrite(|tell| new.iter().for_each(|entry| tell(entry))).unwrap();
            let was_killed = journal.left.get() == 0;
            let (_, read) = open(&memory, &place);
            assert!(read == old || read == new, "{stores}: {read:?}");
            if !was_killed {
                return assert!(read == new && stores > 10);
            }
        }
    }

    #[test]
    fn what_has_no_place_is_refused_and_the_list_stays_as_it_was() {
        let (memory, place) = memory(1);
        let (mut journal, _) = open(&memory, &place);
        let mut count = 0;
        while journal.append(&[6; 100]).is_ok() {
            count += 1;
        }
        assert_eq!(count, (PAGE_WORDS - 1) / 14);
        assert_eq!(journal.append(&[6; 4_000]), Err(Full));
        let many = |tell: &mut dyn FnMut(&[u8])| (0..50).for_each(|_| tell(&[8; 100]));
        assert_eq!(journal.rewrite(many), Err(Full));
        assert_eq!(open(&memory, &place).1, vec![vec![6; 100]; count]);
        assert!(journal.is_due());
        journal.rewrite(|tell| tell(&[6; 100])).unwrap();
        assert!(!journal.is_due());
        assert_eq!(open(&memory, &place).1, [[6; 100]]);
    }

    /// Whether no word of the memory is of the secret, whose bytes are 0x5a.
    fn is_clean(journal: &Journal) -> bool {
        let secret = u64::from_le_bytes([0x5a; 8]);
        journal.region.words().iter().all(|word| word.load(Relaxed) != secret)
    }

    #[test]
    fn what_no_longer_counts_is_wiped() {
        let (memory, place) = memory(2);
        let (mut journal, _) = open(&memory, &place);
        journal.append(&[0x5a; 64]).unwrap();
        journal.rewrite(|_| ()).unwrap();
        assert!(is_clean(&journal));
        let many = |tell: &mut dyn FnMut(&[u8])| (0..99).for_each(|_| tell(&[0x5a; 100]));
        assert_eq!(journal.rewrite(many), Err(Full));
        assert!(is_clean(&journal), "nor what had no place");
    }

    #[test]
    fn what_a_kill_left_behind_is_wiped_by_the_next() {
        // Killed when the new list counts and the old one is not wiped; or just before it counts.
        for is_late in [true, false] {
            let (memory, place) = memory(2);
            let (mut journal, _) = open(&memory, &place);
            let (old, new) = if is_late { (0x5a, 1) } else { (1, 0x5a) };
            journal.append(&[old; 64]).unwrap();
            journal.left.set(if is_late { 12 } else { 11 });
            journal.rewrite(|tell| tell(&[new; 64])).unwrap();
            assert!(!is_clean(&journal) && journal.left.get() == 0, "{is_late}");
            let (journal, read) = open(&memory, &place);
            assert_eq!(read, [[1; 64]], "{is_late}");
            assert!(is_clean(&journal), "{is_late}");
        }
    }

    #[test]
    fn whatever_the_words_are_opening_ends_and_adding_works() {
        let mut dice = 1_u64;
        for _ in 0..200 {
            let (memory, place) = memory(1);
            let region = Region::map(memory.as_fd(), 3 * 4096).unwrap();
            for word in region.words() {
                dice = dice.wrapping_mul(FACTOR).wrapping_add(1);
                // Heads of short entries, mostly.
                word.store(dice >> 24, Relaxed);
            }
            let (mut journal, _) = open(&memory, &place);
            journal.append(&[3; 10]).unwrap();
            assert_eq!(open(&memory, &place).1.last().unwrap(), &[3; 10]);
        }
    }
}
