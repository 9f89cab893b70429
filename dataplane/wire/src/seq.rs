//! Sequence numbers and timestamps beyond their wire width.
//!
//! A 16-bit RTP sequence number wraps every few minutes; everything behind the demux speaks of
//! [`ExtendedSeq`], which never does.
//!
//! Worked trace. The first packet is 0xfffe, taken into cycle 1 so that older ones still have a
//! number:
//!
//! ```text
//! wire    0xfffe   0xffff   0x0001   0x0000   0x0002   0xfffd
//! value   0x1fffe  0x1ffff  0x20001  0x20000  0x20002  0x1fffd
//!                           wrapped  late     ahead    late, from before the wrap
//! ```
#![forbid(unsafe_code)]

/// An unwrapped 16-bit sequence number: the low 16 bits are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ExtendedSeq(pub u64);

impl ExtendedSeq {
    /// The sequence number as it stands on the wire.
    pub const fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The one after.
    pub const fn next(self) -> Self {
        ExtendedSeq(self.0.wrapping_add(1))
    }

    /// How many packets `self` is ahead of `other`; 0 when it is not.
    pub const fn ahead_of(self, other: ExtendedSeq) -> u64 {
        self.0.saturating_sub(other.0)
    }

    /// The number nearest to `self` whose wire form is `wire`.
    pub const fn nearest(self, wire: u16) -> Self {
        let step = wire.wrapping_sub(self.wire()) as i16;
        ExtendedSeq(self.0.saturating_add_signed(step as i64))
    }
}

/// Cycle of the first number: above 0, so that packets older than the first one have a number.
const FIRST_CYCLE: u64 = 0x1_0000;

/// Unwraps 16-bit sequence numbers: each is taken for the number nearest to the highest so far.
#[derive(Debug, Clone)]
pub struct SeqUnwrapper {
    highest: Option<ExtendedSeq>,
    /// The first number of the cycle into which the first one is taken.
    origin: u64,
}

impl Default for SeqUnwrapper {
    fn default() -> Self {
        SeqUnwrapper::new()
    }
}

impl SeqUnwrapper {
    /// One that has seen nothing.
    pub const fn new() -> Self {
        SeqUnwrapper { highest: None, origin: FIRST_CYCLE }
    }

    /// One for numbers that have nothing to do with those so far and lie above them all, also those
    /// that are older than its first.
    pub const fn successor(&self) -> Self {
        match self.highest {
            Some(ExtendedSeq(highest)) => SeqUnwrapper {
                highest: None,
                origin: (highest | 0xffff).wrapping_add(1 + FIRST_CYCLE),
            },
            None => SeqUnwrapper { highest: None, origin: self.origin },
        }
    }

    /// One that goes on where another was.
    pub const fn resume(origin: u64, highest: ExtendedSeq) -> Self {
        SeqUnwrapper { highest: Some(highest), origin }
    }

    /// The first number of the cycle in which the numbers began.
    pub const fn origin(&self) -> u64 {
        self.origin
    }

    /// Unwraps `wire` and remembers it if it is the highest so far.
    pub fn unwrap(&mut self, wire: u16) -> ExtendedSeq {
        let extended = self.peek(wire);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// Unwraps `wire` without remembering it, as for the original number inside a retransmission.
    pub fn peek(&self, wire: u16) -> ExtendedSeq {
        match self.highest {
            Some(highest) => highest.nearest(wire),
            None => ExtendedSeq(self.origin | wire as u64),
        }
    }

    /// Takes `wire` as the start of something new: the next number above all so far, however it
    /// compares on the wire.
    pub fn restart(&mut self, wire: u16) -> ExtendedSeq {
        let extended = match self.highest {
            Some(ExtendedSeq(highest)) => {
                let same_cycle = (highest & !0xffff) | u64::from(wire);
                let above = if same_cycle > highest { 0 } else { 0x1_0000 };
                ExtendedSeq(same_cycle.wrapping_add(above))
            }
            None => ExtendedSeq(FIRST_CYCLE | u64::from(wire)),
        };
        self.highest = Some(extended);
        extended
    }

    /// The highest number so far.
    pub const fn highest(&self) -> Option<ExtendedSeq> {
        self.highest
    }
}

/// Unwraps 32-bit RTP timestamps in the same way. The first stays as it is, one cycle up.
#[derive(Debug, Clone, Default)]
pub struct TimestampUnwrapper {
    highest: Option<u64>,
}

impl TimestampUnwrapper {
    /// One that has seen nothing.
    pub const fn new() -> Self {
        TimestampUnwrapper { highest: None }
    }

    /// Unwraps `wire`; the result counts ticks and never wraps.
    pub fn unwrap(&mut self, wire: u32) -> u64 {
        let Some(highest) = self.highest else {
            let first = (1 << 32) | u64::from(wire);
            self.highest = Some(first);
            return first;
        };
        let step = wire.wrapping_sub(highest as u32) as i32;
        let extended = highest.saturating_add_signed(i64::from(step));
        self.highest = Some(highest.max(extended));
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_the_worked_trace() {
        let mut unwrapper = SeqUnwrapper::new();
        let trace = [
            (0xfffe, 0x1_fffe),
            (0xffff, 0x1_ffff),
            (0x0001, 0x2_0001),
            (0x0000, 0x2_0000),
            (0x0002, 0x2_0002),
            (0xfffd, 0x1_fffd),
        ];
        for (wire, value) in trace {
            assert_eq!(unwrapper.unwrap(wire), ExtendedSeq(value), "{wire:#06x}");
            assert_eq!(ExtendedSeq(value).wire(), wire);
        }
        assert_eq!(unwrapper.highest(), Some(ExtendedSeq(0x2_0002)));
    }

    #[test]
    fn counts_cycles_for_as_long_as_it_runs() {
        let mut unwrapper = SeqUnwrapper::new();
        for i in 0..300_000_u64 {
            assert_eq!(unwrapper.unwrap(i as u16).0, FIRST_CYCLE + i);
        }
    }

    #[test]
    fn packets_before_the_first_one_have_numbers_too() {
        let mut unwrapper = SeqUnwrapper::new();
        assert_eq!(unwrapper.unwrap(2).0, 0x1_0002);
        assert_eq!(unwrapper.unwrap(0xffff).0, 0xffff);
        assert_eq!(unwrapper.unwrap(0x8002).0, 0x8002, "the farthest back there is");
    }

    #[test]
    fn peeking_changes_nothing() {
        let mut unwrapper = SeqUnwrapper::new();
        unwrapper.unwrap(10);
        assert_eq!(unwrapper.peek(500).0, 0x1_01f4);
        assert_eq!(unwrapper.highest(), Some(ExtendedSeq(0x1_000a)));
    }

    #[test]
    fn a_restart_is_above_everything_before_it() {
        for wire in [0_u16, 99, 100, 101, 0xffff] {
            let mut unwrapper = SeqUnwrapper::new();
            let before = unwrapper.unwrap(100);
            let after = unwrapper.restart(wire);
            assert!(after > before, "{wire}");
            assert_eq!(after.wire(), wire);
            assert_eq!(unwrapper.unwrap(wire.wrapping_add(1)), after.next());
        }
    }

    #[test]
    fn timestamps_wrap_forth_and_back() {
        let mut unwrapper = TimestampUnwrapper::new();
        assert_eq!(unwrapper.unwrap(0xffff_ff00), 0x1_ffff_ff00);
        assert_eq!(unwrapper.unwrap(0x0000_0100), 0x2_0000_0100);
        assert_eq!(unwrapper.unwrap(0xffff_fff0), 0x1_ffff_fff0);
        assert_eq!(unwrapper.unwrap(0x0000_0200), 0x2_0000_0200);
    }
}
