//! Outgoing sequence numbers: continuous over drops and source changes.
//!
//! Worked trace: a consumer starts at 7000. Of the low layer it gets 100, 101, 103 (102 is late and
//! comes after), then it moves to the high layer, whose key frame begins at 9000:
//!
//! ```text
//! source   100   101   103   102   | switch(9000)   9000   9001   8999     9003
//! out      7000  7001  7003  7002  |                7004   7005   refused  7007
//! ```
//!
//! 9002 keeps 7006: it is lost so far and may come, or be asked for. A packet dropped on purpose
//! ([`SequenceTranslator::skip`]) leaves no gap, or the client would ask for it.
#![forbid(unsafe_code)]

use opencall_wire::seq::ExtendedSeq;

use super::numbering::Numbering;
use crate::planted::{self, Bug};

/// Words of 64 source numbers over which drops are remembered: 512 packets, about a second of video
/// and as many as a retransmission can be late. It costs 64 bytes per consumer.
const WINDOW_WORDS: usize = 8;

/// A step forward that is a new beginning of the source and not loss, as ingress sees it too. Sent
/// on as it is, a larger one would come near the half range of a 16-bit number, where the client's
/// SRTP loses count of the cycles for good.
const MAX_STEP_PACKETS: u64 = 3000;

/// Maps source sequence numbers to a consumer's own.
#[derive(Debug, Clone)]
#[repr(transparent)]
pub struct SequenceTranslator {
    numbering: Numbering<WINDOW_WORDS>,
}

impl SequenceTranslator {
    /// Bytes of what each packet touches; the memory of drops comes behind.
    pub(super) const HEAD_LEN: usize = Numbering::<WINDOW_WORDS>::HEAD_LEN;

    /// A translator whose first packet goes out as `first_out`, which should be random in its low
    /// 16 bits (RFC 3550 section 5.1).
    pub const fn new(first_out: ExtendedSeq) -> Self {
        SequenceTranslator { numbering: Numbering::new(first_out.0) }
    }

    /// Whether this packet can go on with what went out: the gap before it, if there is one, is
    /// told to the client by its number. If not, only [`SequenceTranslator::switch`] helps.
    #[inline]
    pub const fn reaches(&self, source: ExtendedSeq) -> bool {
        self.numbering.steps_ahead(source.0) < MAX_STEP_PACKETS
    }

    /// Whether this packet of the source that is forwarded is not newer than what went out of it.
    pub const fn has_passed(&self, source: ExtendedSeq) -> bool {
        self.numbering.has_passed(source.0)
    }

    /// The number under which this packet goes out. `None`: it was dropped before, is older than
    /// 512 packets, or belongs to before a switch; it must not be sent.
    pub fn forward(&mut self, source: ExtendedSeq) -> Option<ExtendedSeq> {
        self.numbering.forward(source.0).map(ExtendedSeq)
    }

    /// Leaves this packet out. Without effect when a newer one has gone out already: then its
    /// number stays a gap.
    pub fn skip(&mut self, source: ExtendedSeq) {
        self.numbering.skip(source.0);
    }

    /// Goes on with another source (or the same one after a pause): its packet `first` follows the
    /// last that went out, older ones are refused.
    pub fn switch(&mut self, first: ExtendedSeq) {
        let gap = u64::from(planted::is(Bug::GapAtSwitch));
        self.numbering.switch(first.0 - gap);
    }

    /// The number that the next packet in order will get.
    pub const fn next_out(&self) -> ExtendedSeq {
        ExtendedSeq(self.numbering.next_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_worked_trace() {
        let mut translator = SequenceTranslator::new(ExtendedSeq(7000));
        let mut forward = |source| translator.forward(ExtendedSeq(source)).map(|out| out.0);
        assert_eq!(
            [100, 101, 103, 102].map(&mut forward),
            [Some(7000), Some(7001), Some(7003), Some(7002)]
        );
        translator.switch(ExtendedSeq(9000));
        let mut forward = |source| translator.forward(ExtendedSeq(source)).map(|out| out.0);
        assert_eq!(
            [9000, 9001, 8999, 9003].map(&mut forward),
            [Some(7004), Some(7005), None, Some(7007)]
        );
    }

    #[test]
    fn numbers_on_the_wire_have_no_gap_over_wraps_and_drops() {
        let mut translator = SequenceTranslator::new(ExtendedSeq(0x1_fff0));
        let mut expected = 0xfff0_u16;
        for source in 0x1_ff00..0x2_ff00_u64 {
            if source % 3 == 1 {
                translator.skip(ExtendedSeq(source));
                continue;
            }
            assert_eq!(translator.forward(ExtendedSeq(source)).unwrap().wire(), expected);
            expected = expected.wrapping_add(1);
        }
        assert_eq!(translator.next_out().wire(), expected);
    }

    #[test]
    fn a_gap_is_told_unless_it_is_too_long_for_a_number() {
        let mut translator = SequenceTranslator::new(ExtendedSeq(10));
        assert!(translator.reaches(ExtendedSeq(1_000_000)), "the first may be any");
        translator.forward(ExtendedSeq(1_000));
        assert!(translator.reaches(ExtendedSeq(4_000)));
        assert!(!translator.reaches(ExtendedSeq(4_001)));
        assert_eq!(translator.forward(ExtendedSeq(3_999)), Some(ExtendedSeq(3_009)));
        assert!(translator.reaches(ExtendedSeq(900)), "late packets say so themselves");
    }

    #[test]
    fn a_pause_is_a_switch_to_the_same_source() {
        let mut translator = SequenceTranslator::new(ExtendedSeq(1));
        translator.forward(ExtendedSeq(500));
        translator.switch(ExtendedSeq(900));
        assert_eq!(translator.forward(ExtendedSeq(501)), None);
        assert_eq!(translator.forward(ExtendedSeq(900)), Some(ExtendedSeq(2)));
    }
}
