//! Which packets of a stream have come: loss, duplicates and order, by the index in the stamps.
#![forbid(unsafe_code)]

/// Packets that may come late: at 30 frames of 6 packets, some 3 s, longer than any retransmission.
const WINDOW: u64 = 512;

const WORDS: usize = (WINDOW / 64) as usize;

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Later than all before it.
    InOrder,
    /// Missed until now.
    Late,
    /// It was here already.
    Duplicate,
    /// So late that it was counted as lost.
    TooLate,
}

/// The last packets of one stream.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// The first index that is expected, and the one after the highest that came.
    start: u64,
    next: u64,
    bits: [u64; WORDS],
    lost: u64,
}

impl Window {
    /// Expects a stream from `index` on. What was missing before is lost, unless it is taken back.
    pub fn restart(&mut self, index: u64) {
        self.lost += self.missing();
        (self.start, self.next, self.bits) = (index, index, [0; WORDS]);
    }

    /// Counts `count` packets as lost that no index tells of.
    pub fn add_lost(&mut self, count: u64) {
        self.lost += count;
    }

    /// One that was lost came after all, from before the restart.
    pub fn take_back_lost(&mut self) {
        self.lost = self.lost.saturating_sub(1);
    }

    /// Takes a packet.
    pub fn insert(&mut self, index: u64) -> Arrival {
        if index >= self.next {
            self.advance(index);
            self.set(index, true);
            return Arrival::InOrder;
        }
        if index < self.start || self.next - index > WINDOW {
            return Arrival::TooLate;
        }
        if self.has(index) {
            return Arrival::Duplicate;
        }
        self.set(index, true);
        Arrival::Late
    }

    /// Packets that can no longer come.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Packets that are missing and may still come.
    pub fn missing(&self) -> u64 {
        // The bits tell of nothing before the start: they are cleared there.
        let came: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        let from = self.start.max(self.next.saturating_sub(WINDOW));
        (self.next - from).saturating_sub(u64::from(came))
    }

    /// Makes `index` the highest.
    fn advance(&mut self, index: u64) {
        if index - self.next >= WINDOW {
            self.lost += self.missing() + (index - self.next).saturating_sub(WINDOW - 1);
            self.bits = [0; WORDS];
            self.start = index.saturating_sub(WINDOW - 1).max(self.start);
            self.next = index + 1;
            return;
        }
        for fresh in self.next..=index {
            let leaving = fresh.checked_sub(WINDOW).filter(|&old| old >= self.start);
            if leaving.is_some_and(|old| !self.has(old)) {
                self.lost += 1;
            }
            self.set(fresh, false);
        }
        self.next = index + 1;
    }

    fn has(&self, index: u64) -> bool {
        self.bits[(index % WINDOW / 64) as usize] >> (index % 64) & 1 == 1
    }

    fn set(&mut self, index: u64, came: bool) {
        let word = &mut self.bits[(index % WINDOW / 64) as usize];
        *word = *word & !(1 << (index % 64)) | u64::from(came) << (index % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(indexes: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::default();
        for index in indexes {
            window.insert(index);
        }
        window
    }

    #[test]
    fn each_arrival_is_told_apart() {
        let mut window = Window::default();
        window.restart(100);
        let table = [
            (100, Arrival::InOrder),
            (103, Arrival::InOrder),
            (101, Arrival::Late),
            (101, Arrival::Duplicate),
            (99, Arrival::TooLate),
            (700, Arrival::InOrder),
            (102, Arrival::TooLate),
        ];
        for (index, expected) in table {
            assert_eq!(window.insert(index), expected, "{index}");
        }
    }

    #[test]
    fn every_missing_packet_is_counted_once() {
        let table = [
            ("none", after(0..2000), 0),
            ("one of many", after((0..2000).filter(|i| *i != 700)), 1),
            ("each third", after((0..3000).filter(|i| i % 3 != 1)), 1000),
            (
                "the last ones may still come",
                after((0..=600).filter(|i| *i < 590 || *i == 600)),
                10,
            ),
            ("a long gap", after((0..5000).filter(|i| !(1000..4000).contains(i))), 3000),
            ("a gap of a window", after((0..2000).filter(|i| !(1000..1512).contains(i))), 512),
        ];
        for (name, window, expected) in table {
            assert_eq!(window.lost() + window.missing(), expected, "{name}");
        }
    }

    #[test]
    fn a_restart_keeps_what_was_lost_and_expects_nothing_in_between() {
        let mut window = after([0, 1, 3]);
        window.restart(900);
        window.insert(900);
        window.add_lost(2);
        assert_eq!((window.lost(), window.missing()), (3, 0));
    }
}
