//! Pictures that wait until the pace of their client lets them leave: which packets of which
//! consumers, in order. The bytes lie in the history, and numbers are given when they leave, so
//! that whatever happens to a consumer meanwhile leaves no gap in its stream.
//!
//! The queue is bounded by the time that it takes to send. A picture that would wait too long does
//! not begin to, and neither does what follows it, up to the next key frame, which is asked for at
//! once and may wait a little longer, as may what goes on with it while it waits: cut behind it, it
//! would have been sent for nothing. What waits already leaves, for it can be decoded.
//!
//! Worked trace of consumers 1 to 3, at a pace of 1 MB/s; K begins a key frame:
//!
//! ```text
//! comes            queue            takes    what is done
//! 1: K, 300 KB     1K               0.30 s   waits
//! 2: K, 300 KB     1K 2K            0.60 s   waits: a key frame
//! 1: 10 KB         1K 2K 1          0.61 s   waits: its key frame does
//! 3: 10 KB         1K 2K 1 3|                cut: a key frame of 3 is asked for
//! 3: 10 KB         1K 2K 1 3|                dropped
//!                  2K 1 3|          0.31 s   1K is gone
//! 3: K, 300 KB     2K 1 3| 3K       0.61 s   waits
//! 1: 10 KB         2K 1 3| 3K 1|             cut
//! ```
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::egress::pace::Pace;
use crate::store::ConsumerKey;

/// Longest that a picture may have to wait. It is that much later than others on screen; what
/// follows has to catch up with it, or a key frame has to come.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The same of a key frame, and of the rest of a picture that has begun: with less, nine key frames
/// that come at once would never be through. Less than what the history keeps.
const KEY_FRAME_WAIT_MAX: Duration = Duration::from_millis(1_000);

/// When so much waits, it leaves a little faster.
const LATE_FROM: Duration = Duration::from_millis(100);

/// When so much waits, only the lowest temporal layer goes out: half the pictures, and no key frame
/// is needed.
const SPARES_FROM: Duration = Duration::from_millis(250);

/// Packets that may wait: 1.2 MB, more than any client is sent in half a second of 15 Mbit/s. Each
/// takes 24 bytes.
const PACKETS_MAX: usize = 1024;

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Number of the packet in its encoding.
    pub sequence: ExtendedSeq,
    /// Its consumer.
    pub consumer: ConsumerKey,
    since_micros: u32,
    /// Bytes that it takes, about.
    pub len: u16,
    /// Its encoding.
    pub encoding: u8,
    /// Not a packet: what comes next of the consumer does not go on with what went out.
    pub is_cut: bool,
    /// It begins a key frame.
    begins: bool,
}

/// A packet that is to wait.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Its consumer.
    pub consumer: ConsumerKey,
    /// Number of the packet in its encoding.
    pub sequence: ExtendedSeq,
    /// Its encoding.
    pub encoding: u8,
    /// Bytes that it takes, about.
    pub len: u16,
    /// RTP timestamp, which tells pictures apart.
    pub timestamp: u32,
    /// Whether a consumer could begin its encoding with it.
    pub begins: bool,
    /// Whether the consumer gets this encoding when nothing waits.
    pub is_current: bool,
}

/// What has become of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits.
    Waits,
    /// The consumer would not get it: another encoding is sent to it.
    NotWanted,
    /// It is dropped, and what follows of this consumer, which needs a key frame.
    Cut,
    /// It is dropped: the consumer waits for its key frame already.
    Dropped,
}

/// What waits of one consumer.
#[derive(Debug, Clone, Copy)]
struct Lane {
    consumer: ConsumerKey,
    entries: u16,
    /// Of these, those that begin a key frame.
    key_frames: u16,
    /// Bit per encoding that it will have when its turn comes.
    encodings: u8,
    is_cut: bool,
    timestamp: Option<u32>,
}

/// The queue of one transport.
#[derive(Debug)]
pub struct Waiting {
    entries: VecDeque<Entry>,
    lanes: Vec<Lane>,
    bytes: usize,
    /// When the next may leave.
    pub due: Time,
}

/// Some numbers after one: which of them wait, up to where the queue was cut.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    waits: [u64; Self::SPAN / 64],
    end: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead { waits: [0; Self::SPAN / 64], end: Self::SPAN }
    }
}

impl Ahead {
    /// So many numbers are told apart: more packets than a key frame has that is caught up with at
    /// once. A client asks for what is beyond.
    pub const SPAN: usize = 256;

    /// Whether the number so many steps after the first waits.
    pub fn has(&self, step: usize) -> bool {
        self.waits.get(step / 64).is_some_and(|word| word >> (step % 64) & 1 == 1)
    }

    /// The steps after the first that are told apart and go on with it: from where the queue was
    /// cut on, only the next key frame does, which may wait as well.
    pub fn steps(&self) -> std::ops::Range<usize> {
        1..self.end
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { entries: VecDeque::new(), lanes: Vec::new(), bytes: 0, due: Time::NEVER }
    }
}

impl Waiting {
    /// Puts a packet behind all others, if it may wait at this pace.
    pub fn offer(&mut self, now: Time, offer: Offer, pace: &Pace) -> Offered {
        let takes = pace.time_of(self.bytes + usize::from(offer.len));
        let is_full = self.entries.len() >= PACKETS_MAX || takes > KEY_FRAME_WAIT_MAX;
        let lane = self.lane(offer.consumer);
        if lane.is_cut && (!offer.begins || is_full) {
            return if offer.begins { Offered::Cut } else { Offered::Dropped };
        }
        let bit = 1 << (offer.encoding & 7);
        if lane.encodings & bit == 0 && !offer.begins && !offer.is_current {
            self.close_empty_lane();
            return Offered::NotWanted;
        }
        let goes_on = lane.timestamp == Some(offer.timestamp);
        let follows_key_frame = offer.begins || lane.key_frames > 0;
        let is_late = takes > WAIT_MAX && !goes_on && !follows_key_frame;
        if is_full || is_late {
            self.cut(now, offer);
            return Offered::Cut;
        }
        lane.is_cut = false;
        lane.encodings |= bit;
        lane.timestamp = Some(offer.timestamp);
        lane.entries += 1;
        lane.key_frames += u16::from(offer.begins);
        self.bytes += usize::from(offer.len);
        self.entries.push_back(Entry::of(now, &offer));
        Offered::Waits
    }

    /// The next to leave.
    pub fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Takes the next: how long it has waited, and whether it was the last of its consumer.
    pub fn pop(&mut self, now: Time) -> Option<(Entry, Duration, bool)> {
        let entry = self.entries.pop_front()?;
        self.bytes -= usize::from(entry.len);
        let lane = self.lanes.iter_mut().find(|lane| lane.consumer == entry.consumer);
        let left = lane.map_or(0, |lane| {
            lane.entries = lane.entries.saturating_sub(1);
            lane.key_frames = lane.key_frames.saturating_sub(entry.begins.into());
            lane.entries
        });
        if left == 0 {
            self.lanes.retain(|lane| lane.consumer != entry.consumer);
        }
        let waited = (now.as_micros() as u32).wrapping_sub(entry.since_micros);
        Some((entry, Duration::from_micros(waited.into()), left == 0))
    }

    /// Forgets a consumer.
    pub fn forget(&mut self, consumer: ConsumerKey) {
        self.lanes.retain(|lane| lane.consumer != consumer);
        self.entries.retain(|entry| entry.consumer != consumer);
        self.bytes = self.entries.iter().map(|entry| usize::from(entry.len)).sum();
    }

    /// Which of the numbers after `first` wait for a consumer.
    pub fn ahead(&self, consumer: ConsumerKey, encoding: u8, first: ExtendedSeq) -> Ahead {
        let mut ahead = Ahead::default();
        for entry in &self.entries {
            let step = entry.sequence.0.wrapping_sub(first.0);
            let is_its = entry.consumer == consumer && entry.encoding == encoding;
            if !is_its || step >= Ahead::SPAN as u64 {
                continue;
            }
            if entry.is_cut {
                ahead.end = ahead.end.min(step as usize);
            } else {
                ahead.waits[step as usize / 64] |= 1 << (step % 64);
            }
        }
        ahead
    }

    /// Whether so much waits that it is to be made good, at some more than the estimate.
    pub fn is_late(&self, pace: &Pace) -> bool {
        pace.time_of(self.bytes) > LATE_FROM
    }

    /// Whether so much waits that only the lowest temporal layer should go out.
    pub fn spares(&self, pace: &Pace) -> bool {
        pace.time_of(self.bytes) > SPARES_FROM
    }

    /// Whether so little waits that all layers may go out again.
    pub fn is_short(&self, pace: &Pace) -> bool {
        pace.time_of(self.bytes) < SPARES_FROM / 2
    }

    /// How long all of it takes to leave at this pace.
    pub fn takes(&self, pace: &Pace) -> Duration {
        pace.time_of(self.bytes)
    }

    /// Packets that wait, and cuts between them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn lane(&mut self, consumer: ConsumerKey) -> &mut Lane {
        let at = self.lanes.iter().position(|lane| lane.consumer == consumer);
        let at = at.unwrap_or_else(|| {
            self.lanes.push(Lane::of(consumer));
            self.lanes.len() - 1
        });
        &mut self.lanes[at]
    }

    /// Takes back a lane that was just made for nothing.
    fn close_empty_lane(&mut self) {
        self.lanes.pop_if(|lane| lane.entries == 0);
    }

    fn cut(&mut self, now: Time, offer: Offer) {
        let lane = self.lane(offer.consumer);
        lane.is_cut = true;
        lane.encodings = 0;
        lane.timestamp = None;
        lane.entries += 1;
        let cut = Entry { len: 0, is_cut: true, begins: false, ..Entry::of(now, &offer) };
        self.entries.push_back(cut);
    }
}

impl Lane {
    fn of(consumer: ConsumerKey) -> Self {
        let (entries, key_frames, encodings) = (0, 0, 0);
        Lane { consumer, entries, key_frames, encodings, is_cut: false, timestamp: None }
    }
}

impl Entry {
    fn of(now: Time, offer: &Offer) -> Self {
        let &Offer { sequence, consumer, len, encoding, begins, .. } = offer;
        let since_micros = now.as_micros() as u32;
        Entry { sequence, consumer, since_micros, len, encoding, is_cut: false, begins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::pace::Rate;

    fn key(bits: u32) -> ConsumerKey {
        ConsumerKey::of_test(bits)
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// A megabyte a second.
    fn pace() -> Pace {
        let (budget_bps, estimate_bps) = (1 << 40, Some(7_272_728));
        Pace::new(Rate { budget_bps, estimate_bps, is_confirmed: true, is_late: false })
    }

    /// Offers `packets` packets of 10 KB of one picture; what has become of each.
    fn picture(
        waiting: &mut Waiting,
        now: Time,
        consumer: ConsumerKey,
        timestamp: u32,
        packets: u64,
        is_key: bool,
    ) -> Vec<Offered> {
        let offer = |index: u64| Offer {
            consumer,
            sequence: ExtendedSeq(u64::from(timestamp) * 1_000 + index),
            encoding: 0,
            len: 10_000,
            timestamp,
            begins: is_key && index == 0,
            is_current: true,
        };
        let mut became: Vec<_> =
            (0..packets).map(|index| waiting.offer(now, offer(index), &pace())).collect();
        became.dedup();
        became
    }

    fn leave(waiting: &mut Waiting, packets: usize) -> Vec<(ConsumerKey, bool)> {
        let taken = (0..packets).map_while(|_| waiting.pop(at(0)));
        let mut left: Vec<_> = taken.map(|(entry, ..)| (entry.consumer, entry.is_cut)).collect();
        left.dedup();
        left
    }

    #[test]
    fn follows_the_worked_trace() {
        use Offered::{Cut, Dropped, Waits};
        let waiting = &mut Waiting::default();
        assert_eq!(picture(waiting, at(0), key(1), 1, 30, true), [Waits]);
        assert_eq!(picture(waiting, at(0), key(2), 1, 30, true), [Waits]);
        assert!(waiting.spares(&pace()));
        assert_eq!(picture(waiting, at(0), key(1), 2, 1, false), [Waits]);
        assert_eq!(picture(waiting, at(0), key(3), 1, 1, false), [Cut]);
        assert_eq!(picture(waiting, at(0), key(3), 2, 2, false), [Dropped]);
        assert_eq!(leave(waiting, 30), [(key(1), false)]);
        assert_eq!(picture(waiting, at(0), key(3), 3, 30, true), [Waits]);
        assert_eq!(picture(waiting, at(0), key(1), 3, 1, false), [Cut]);
        let [first, second, third] = [key(1), key(2), key(3)];
        let all = [(second, false), (first, false), (third, true), (third, false), (first, true)];
        assert_eq!(leave(waiting, 63), all);
        assert!(waiting.is_empty() && waiting.lanes.is_empty() && waiting.bytes == 0);
    }

    #[test]
    fn a_picture_that_began_to_wait_waits_whole_up_to_the_last_bound() {
        let waiting = &mut Waiting::default();
        assert_eq!(picture(waiting, at(0), key(1), 1, 70, false), [Offered::Waits]);
        let cut = [Offered::Waits, Offered::Cut, Offered::Dropped];
        assert_eq!(picture(waiting, at(0), key(1), 1, 35, false), cut);
        assert_eq!(picture(waiting, at(0), key(2), 9, 1, true), [Offered::Cut], "nor a key frame");
        assert_eq!(waiting.entries.len(), 102);
        let tiny = Offer {
            consumer: key(3),
            sequence: ExtendedSeq(0),
            encoding: 0,
            len: 1,
            timestamp: 0,
            begins: true,
            is_current: true,
        };
        let waiting = &mut Waiting::default();
        let became: Vec<_> = (0..PACKETS_MAX + 2)
            .map(|_| waiting.offer(at(0), tiny, &pace()))
            .filter(|offered| *offered == Offered::Waits)
            .collect();
        assert_eq!(became.len(), PACKETS_MAX);
        assert!(waiting.entries.len() <= PACKETS_MAX + 1);
    }

    #[test]
    fn an_encoding_that_is_not_sent_waits_from_its_key_frame_on() {
        let waiting = &mut Waiting::default();
        let offer = |sequence, begins| Offer {
            consumer: key(7),
            sequence: ExtendedSeq(sequence),
            encoding: 2,
            len: 1_000,
            timestamp: sequence as u32,
            begins,
            is_current: false,
        };
        assert_eq!(waiting.offer(at(0), offer(1, false), &pace()), Offered::NotWanted);
        assert!(waiting.lanes.is_empty());
        assert_eq!(waiting.offer(at(0), offer(2, true), &pace()), Offered::Waits);
        assert_eq!(waiting.offer(at(0), offer(3, false), &pace()), Offered::Waits);
        let ahead = waiting.ahead(key(7), 2, ExtendedSeq(1));
        let steps: Vec<usize> = (0..300).filter(|&step| ahead.has(step)).collect();
        assert_eq!(steps, [1, 2]);
        assert!(
            !waiting.ahead(key(7), 1, ExtendedSeq(1)).has(1)
                && !waiting.ahead(key(6), 2, ExtendedSeq(1)).has(1)
        );
    }

    #[test]
    fn what_a_client_has_not_got_ends_where_the_queue_was_cut() {
        let waiting = &mut Waiting::default();
        let offer = |sequence, begins| Offer {
            consumer: key(7),
            sequence: ExtendedSeq(sequence),
            encoding: 0,
            len: 1_000,
            timestamp: sequence as u32,
            begins,
            is_current: true,
        };
        for sequence in [10, 11] {
            assert_eq!(waiting.offer(at(0), offer(sequence, false), &pace()), Offered::Waits);
        }
        picture(waiting, at(0), key(1), 1, 60, true);
        assert_eq!(waiting.offer(at(0), offer(13, false), &pace()), Offered::Cut);
        assert_eq!(waiting.offer(at(0), offer(14, true), &pace()), Offered::Waits);
        let ahead = waiting.ahead(key(7), 0, ExtendedSeq(9));
        assert_eq!((ahead.steps(), ahead.has(2)), (1..4, true));
        assert_eq!(waiting.ahead(key(1), 0, ExtendedSeq(9)).steps(), 1..Ahead::SPAN);
    }

    #[test]
    fn what_waits_knows_for_how_long_and_who_is_gone_waits_no_more() {
        let waiting = &mut Waiting::default();
        picture(waiting, at(10), key(1), 1, 1, true);
        picture(waiting, at(20), key(2), 1, 2, true);
        picture(waiting, at(30), key(3), 1, 1, true);
        waiting.forget(key(2));
        assert_eq!(waiting.takes(&pace()).as_millis(), 20);
        let (entry, waited, was_last) = waiting.pop(at(70)).unwrap();
        assert_eq!((entry.consumer, waited.as_millis(), was_last), (key(1), 60, true));
        let (entry, waited, was_last) = waiting.pop(at(70)).unwrap();
        assert_eq!((entry.consumer, waited.as_millis(), was_last), (key(3), 40, true));
        assert_eq!(waiting.pop(at(70)), None);
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 24);
    }
}
