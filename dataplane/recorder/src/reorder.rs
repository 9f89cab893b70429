//! Brings the packets of one encoding into their order, and waits a while for those that lack: the
//! home core asks the sender for them again.
//!
//! Worked trace, with a wait of 1.5 s:
//!
//! ```text
//! t ms   0    20   40        140        …   1540
//! came   10   11   13        12             15
//! out    10   11             12  13              lost 14 at 3040, then 15
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

/// How long a packet waits for one before it. Senders keep what they sent for about a second; a
/// recording is in no hurry, but what waits is lost when the server is killed.
pub const WAIT: Duration = Duration::from_millis(1_500);

/// Packets that may wait: 1.5 s of 1,000 packets/s.
pub const MAX_PACKETS: usize = 2_048;

/// Bytes that may wait: 1.5 s of 11 Mbit/s. More of them make gaps of loss, never more memory.
pub const MAX_BYTES: usize = 2 << 20;

/// A packet comes at least this far ahead of what is expected where the source began anew: then
/// nothing is missing.
const JUMP: u64 = 0x8000;

/// A packet, without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it came.
    pub arrived: Time,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// The marker of its header.
    pub marker: bool,
    /// Router's payload type.
    pub payload_type: u8,
    /// Number of its source.
    pub source: u16,
    /// The payload.
    pub payload: Box<[u8]>,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Out {
    /// The next packet.
    Packet(Packet),
    /// So many packets before the next one never came.
    Lost(u64),
}

/// The packets of one encoding that wait.
#[derive(Debug)]
pub struct Reorder {
    wait: Duration,
    next: Option<u64>,
    waiting: BTreeMap<u64, Packet>,
    bytes: usize,
    /// The next hole is not waited for: nothing was sent there.
    skip_hole: bool,
}

impl Default for Reorder {
    fn default() -> Self {
        Reorder::waiting(WAIT)
    }
}

impl Reorder {
    /// One in which a packet waits so long for one before it.
    pub fn waiting(wait: Duration) -> Self {
        let waiting = BTreeMap::new();
        Reorder { wait, next: None, waiting, bytes: 0, skip_hole: false }
    }

    /// Whether a packet is the one that is next, while none waits; then it is as if it had been
    /// pushed and popped.
    pub fn pass(&mut self, sequence: ExtendedSeq) -> bool {
        let is_next = self.next == Some(sequence.0) && self.waiting.is_empty();
        if is_next {
            (self.next, self.skip_hole) = (Some(sequence.0.wrapping_add(1)), false);
        }
        is_next
    }

    /// Takes a packet; `false` if it is of no use: late, or a second time.
    pub fn push(&mut self, sequence: ExtendedSeq, packet: Packet) -> bool {
        let next = *self.next.get_or_insert(sequence.0);
        if sequence.0 < next || self.waiting.contains_key(&sequence.0) {
            return false;
        }
        self.bytes += packet.payload.len();
        self.waiting.insert(sequence.0, packet);
        true
    }

    /// What is next, if it is there or has been waited for.
    pub fn pop(&mut self, now: Time) -> Option<Out> {
        let next = self.next?;
        let (&first, packet) = self.waiting.first_key_value()?;
        if first != next {
            let is_full = self.waiting.len() > MAX_PACKETS || self.bytes > MAX_BYTES;
            let lost = first - next;
            if self.skip_hole || lost >= JUMP {
                self.next = Some(first);
            } else if is_full || now.since(packet.arrived) >= self.wait {
                self.next = Some(first);
                return Some(Out::Lost(lost));
            } else {
                return None;
            }
        }
        self.skip_hole = false;
        let (_, packet) = self.waiting.pop_first()?;
        self.bytes -= packet.payload.len();
        self.next = Some(first.wrapping_add(1));
        Some(Out::Packet(packet))
    }

    /// Nothing was sent for a while: the next hole is none.
    pub fn expect_hole(&mut self) {
        self.skip_hole = true;
    }

    /// Whether packets wait for one that is missing.
    pub fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Reorder::waiting(self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ms: u64, byte: u8) -> Packet {
        let arrived = Time::from_millis(ms);
        let payload = Box::new([byte]);
        Packet { arrived, timestamp: 0, marker: false, payload_type: 0, source: 1, payload }
    }

    fn numbers(reorder: &mut Reorder, ms: u64) -> Vec<i64> {
        let out = std::iter::from_fn(|| reorder.pop(Time::from_millis(ms)));
        out.map(|out| match out {
            Out::Packet(packet) => packet.payload[0].into(),
            Out::Lost(lost) => -(lost as i64),
        })
        .collect()
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut reorder = Reorder::default();
        for (ms, number, out) in [
            (0, 10, &[10][..]),
            (20, 11, &[11]),
            (40, 13, &[]),
            (140, 12, &[12, 13]),
            (1540, 15, &[]),
        ] {
            assert!(reorder.push(ExtendedSeq(number), packet(ms, number as u8)));
            assert_eq!(numbers(&mut reorder, ms), out, "at {ms}");
        }
        assert_eq!(numbers(&mut reorder, 3039), [0_i64; 0]);
        assert_eq!(numbers(&mut reorder, 3040), [-1, 15]);
        assert!(!reorder.push(ExtendedSeq(14), packet(3041, 14)), "too late");
        assert!(!reorder.push(ExtendedSeq(15), packet(3041, 15)), "twice");
    }

    #[test]
    fn what_is_next_passes_while_nothing_waits() {
        let mut reorder = Reorder::waiting(Duration::from_millis(100));
        assert!(!reorder.pass(ExtendedSeq(7)), "the first one says where it begins");
        reorder.push(ExtendedSeq(7), packet(0, 7));
        assert_eq!(numbers(&mut reorder, 0), [7]);
        assert!(reorder.pass(ExtendedSeq(8)));
        assert!(!reorder.pass(ExtendedSeq(8)), "twice");
        reorder.push(ExtendedSeq(10), packet(0, 10));
        assert!(!reorder.pass(ExtendedSeq(9)), "another one waits for it");
        assert_eq!(numbers(&mut reorder, 99), [0_i64; 0]);
        assert_eq!(numbers(&mut reorder, 100), [-1, 10]);
        assert!(reorder.pass(ExtendedSeq(11)));
    }

    #[test]
    fn a_flood_behind_a_hole_does_not_grow() {
        let mut reorder = Reorder::default();
        reorder.push(ExtendedSeq(1), packet(0, 0));
        assert_eq!(numbers(&mut reorder, 0), [0]);
        for number in 3..10_000 {
            reorder.push(ExtendedSeq(number), packet(0, 0));
            while reorder.pop(Time::ZERO).is_some() {}
            assert!(reorder.waiting.len() <= MAX_PACKETS + 1);
        }
    }

    #[test]
    fn a_pause_and_a_new_beginning_are_no_loss() {
        let mut reorder = Reorder::default();
        reorder.push(ExtendedSeq(7), packet(0, 7));
        assert_eq!(numbers(&mut reorder, 0), [7]);
        reorder.expect_hole();
        reorder.push(ExtendedSeq(400), packet(9, 40));
        reorder.push(ExtendedSeq(402), packet(9, 42));
        assert_eq!(numbers(&mut reorder, 9), [40], "the second hole is one");
        reorder.push(ExtendedSeq(0x2_0000), packet(10, 1));
        assert_eq!(numbers(&mut reorder, 5_000), [-1, 42, 1]);
    }
}
