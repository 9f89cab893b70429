//! What went out under each of a consumer's sequence numbers, so that a retransmission is the same
//! packet again.
//!
//! Not packet by packet: between two drops or switches every packet is its source shifted by the
//! same amounts, so one [`Rewrite`] and one difference stand for a whole run of them. Recording a
//! packet then touches one place, the end of the newest run, which lies in the log itself; the
//! older ones lie on the heap, where only a new run or a request looks.
//!
//! Worked trace; source 12 is dropped, 11 comes late:
//!
//! ```text
//! source  10   13            14            11
//! out     10   12            13            11
//! newest  10…10 +0 │ 12…12 +1 │ 12…13 +1   │ 12…13 +1
//! past             │ 10…10 +0 │ 10…10 +0   │ 10…11 +0
//! ```
//!
//! Before 11 came, a request for 11 found nothing: it lies between the runs.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use opencall_wire::rtp::picture_ids::PictureIds;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::ingress::packet::MediaPacket;

/// Runs remembered for video: with every other frame dropped at 30 frames per second, four seconds.
/// Each costs 32 bytes.
const VIDEO_RUNS: usize = 64;

/// Runs remembered for audio, where only a source change begins one.
const AUDIO_RUNS: usize = 8;

/// Runs remembered for audio that repeats itself: packets that repeat and packets that do not are
/// of different runs, and where one of ten is lost on its way in, runs are of ten packets.
const REPEATING_AUDIO_RUNS: usize = 32;

/// Retransmissions remembered, so as not to repeat them within a round trip. Two numbers this far
/// apart share a place, and the older is forgotten: it may be repeated, which costs a packet.
const VIDEO_RESENDS: usize = 128;
const AUDIO_RESENDS: usize = 32;

/// A packet is not sent again sooner, however short the round trip: requests for it may arrive
/// twice in one batch.
const MIN_RESEND_INTERVAL: Duration = Duration::from_millis(10);

/// A measured round trip longer than this is not believed for this purpose: the packet would be of
/// no use any more.
const MAX_RESEND_INTERVAL: Duration = Duration::from_millis(500);

/// How a packet was changed on its way out, apart from its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Added to the source's timestamp.
    pub timestamp_offset: u32,
    /// Added to the source's picture id, modulo 2^15.
    pub picture_id_offset: u16,
    /// Added to the source's TL0PICIDX.
    pub tl0_offset: u8,
    /// Where it came from.
    pub origin: Origin,
}

/// Which encoding a packet came from, and which of the spatial layers inside it (SVC) ends a
/// picture for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin(u8);

/// In place of a layer, of which sound has none and pictures have at most eight.
const REPEATING: u8 = 0xf0;

impl Origin {
    /// Of an encoding, of which this layer ends a picture if it is not the sender's last.
    #[inline]
    pub fn new(encoding: u8, top: Option<u8>) -> Self {
        Origin(encoding & 0x0f | top.map_or(0, |top| (top + 1) << 4))
    }

    /// The same of a packet of sound that also carries the one before it (RFC 2198).
    pub const fn repeating(self) -> Self {
        Origin(self.0 | REPEATING)
    }

    /// Whether the packet also carries the one before it.
    pub const fn is_repeating(self) -> bool {
        self.0 & REPEATING == REPEATING
    }

    /// Index of the encoding.
    pub const fn encoding(self) -> u8 {
        self.0 & 0x0f
    }

    /// Whether the packet is the last of its picture, as it goes out.
    #[inline]
    pub fn is_marked(self, packet: &MediaPacket) -> bool {
        packet.header.marker || self.0 >> 4 == packet.info.spatial + 1 && packet.info.ends_picture
    }
}

impl Rewrite {
    /// Writes the picture id and TL0PICIDX that go out into a payload as it came.
    pub fn patch(&self, source: &PictureIds, payload: &mut [u8]) {
        let picture_id = source.picture_id.map_or(0, |id| id.value);
        let tl0_pic_idx = source.tl0_pic_idx.unwrap_or(0);
        source.patch(
            payload,
            picture_id.wrapping_add(self.picture_id_offset) & 0x7fff,
            tl0_pic_idx.wrapping_add(self.tl0_offset),
        );
    }
}

/// What went out under a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The number that went out.
    pub out: ExtendedSeq,
    /// The source's number, in the encoding that `rewrite` names.
    pub source: ExtendedSeq,
    /// How it was changed.
    pub rewrite: Rewrite,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    last: u64,
    /// Source minus out, wrapping.
    difference: u64,
    rewrite: Rewrite,
}

impl Run {
    /// Stands for nothing, and no packet goes on with it.
    const NONE: Run = Run {
        first: 0,
        last: u64::MAX,
        difference: 0,
        rewrite: Rewrite {
            timestamp_offset: 0,
            picture_id_offset: 0,
            tl0_offset: 0,
            origin: Origin(0),
        },
    };

    fn is_like(&self, other: &Run) -> bool {
        self.difference == other.difference && self.rewrite == other.rewrite
    }

    /// What is left of it below and above a packet within it that went out in another way.
    fn divided_by(&self, late: &Run) -> Option<[Option<Run>; 2]> {
        let is_inside = self.first <= late.first && late.first <= self.last;
        (is_inside && !self.is_like(late)).then(|| {
            let below = (self.first < late.first).then(|| Run { last: late.first - 1, ..*self });
            let above = (late.first < self.last).then(|| Run { first: late.first + 1, ..*self });
            [below, above]
        })
    }
}

/// Forgets the oldest runs until there is room for so many more; how many it forgets.
fn make_room(runs: &mut VecDeque<Run>, max_runs: usize, more: usize) -> usize {
    let surplus = (runs.len() + more).saturating_sub(max_runs).min(runs.len());
    runs.drain(..surplus);
    surplus
}

#[derive(Debug, Clone, Copy, Default)]
struct Resend {
    sequence: u16,
    used: bool,
    at_ms: u32,
}

/// The log of one consumer.
#[derive(Debug)]
pub struct SentLog {
    /// [`Run::NONE`] before the first packet.
    newest: Run,
    past: Box<Past>,
}

/// What the next packet does not change.
#[derive(Debug)]
struct Past {
    /// All runs but the newest: rising, not overlapping, below it.
    runs: VecDeque<Run>,
    max_runs: usize,
    resends: Box<[Resend]>,
}

impl SentLog {
    /// A log for a video consumer.
    pub fn for_video() -> Self {
        SentLog::new(VIDEO_RUNS, VIDEO_RESENDS)
    }

    /// A log for an audio consumer.
    pub fn for_audio() -> Self {
        SentLog::new(AUDIO_RUNS, AUDIO_RESENDS)
    }

    /// A log for an audio consumer whose packets may repeat those before them.
    pub fn for_repeating_audio() -> Self {
        SentLog::new(REPEATING_AUDIO_RUNS, AUDIO_RESENDS)
    }

    fn new(max_runs: usize, resends: usize) -> Self {
        let past = Past {
            runs: VecDeque::with_capacity(max_runs - 1),
            max_runs: max_runs - 1,
            resends: vec![Resend::default(); resends].into_boxed_slice(),
        };
        SentLog { newest: Run::NONE, past: Box::new(past) }
    }

    /// Notes that `source` went out as `out`.
    #[inline]
    pub fn record(&mut self, out: ExtendedSeq, source: ExtendedSeq, rewrite: Rewrite) {
        let difference = source.0.wrapping_sub(out.0);
        let run = Run { first: out.0, last: out.0, difference, rewrite };
        if out.0 > self.newest.last && self.newest.is_like(&run) {
            self.newest.last = out.0;
        } else {
            self.record_otherwise(run);
        }
    }

    /// Notes a packet that does not go on with the newest run.
    #[cold]
    fn record_otherwise(&mut self, run: Run) {
        if self.is_empty() {
            self.newest = run;
        } else if run.first > self.newest.last {
            let runs = &mut self.past.runs;
            if runs.len() == self.past.max_runs {
                runs.pop_front();
            }
            runs.push_back(std::mem::replace(&mut self.newest, run));
        } else {
            self.record_late(run);
        }
    }

    /// What went out last under the number `wire`.
    pub fn lookup(&self, wire: u16) -> Option<Sent> {
        let highest = self.highest()?.0;
        let behind = (highest as u16).wrapping_sub(wire);
        let out = highest.checked_sub(u64::from(behind))?;
        let mut newest_first = std::iter::once(&self.newest).chain(self.past.runs.iter().rev());
        let run = newest_first.find(|run| run.first <= out)?;
        if out > run.last {
            return None;
        }
        let source = ExtendedSeq(out.wrapping_add(run.difference));
        Some(Sent { out: ExtendedSeq(out), source, rewrite: run.rewrite })
    }

    /// Whether the packet that went out as `wire` may go out again now, and notes that it does: not
    /// twice within a round trip, for then the first repetition is still under way.
    pub fn may_resend(&mut self, wire: u16, now: Time, rtt: Duration) -> bool {
        let interval = rtt.clamp(MIN_RESEND_INTERVAL, MAX_RESEND_INTERVAL);
        let now_ms = now.as_millis() as u32;
        let index = usize::from(wire) % self.past.resends.len();
        let place = &mut self.past.resends[index];
        let age_ms = now_ms.wrapping_sub(place.at_ms);
        if place.used && place.sequence == wire && u128::from(age_ms) < interval.as_millis() {
            return false;
        }
        *place = Resend { sequence: wire, used: true, at_ms: now_ms };
        true
    }

    /// Notes a packet that went out under a number below the highest. Runs have gaps; what comes
    /// late into one, and goes out in another way than its neighbours, divides it: what is sent
    /// again under this number has to be this packet, as it was.
    fn record_late(&mut self, run: Run) {
        let out = run.first;
        let Past { runs, max_runs, .. } = &mut *self.past;
        if out >= self.newest.first {
            // Its last has gone out, so that something is left above.
            if let Some([below, Some(above)]) = self.newest.divided_by(&run) {
                self.newest = above;
                make_room(runs, *max_runs, 2);
                runs.extend(below);
                runs.push_back(run);
            }
            return;
        }
        let after = runs.partition_point(|held| held.first <= out);
        if let Some(before) = after.checked_sub(1).and_then(|index| runs.get_mut(index)) {
            if out <= before.last {
                if let Some([below, above]) = before.divided_by(&run) {
                    *before = run;
                    let after = after.saturating_sub(make_room(runs, *max_runs, 2));
                    above.into_iter().for_each(|above| runs.insert(after, above));
                    let at = after.saturating_sub(1);
                    below.into_iter().for_each(|below| runs.insert(at, below));
                }
                return;
            }
            if before.is_like(&run) {
                before.last = out;
                return;
            }
        }
        let next = runs.get_mut(after).unwrap_or(&mut self.newest);
        if next.is_like(&run) {
            next.first = out;
            return;
        }
        if runs.len() < *max_runs {
            runs.insert(after, run);
        } else if after > 0 {
            runs.pop_front();
            runs.insert(after - 1, run);
        }
    }

    /// The highest number that went out.
    pub fn highest(&self) -> Option<ExtendedSeq> {
        (!self.is_empty()).then_some(ExtendedSeq(self.newest.last))
    }

    fn is_empty(&self) -> bool {
        self.newest.last == Run::NONE.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::sequence::SequenceTranslator;

    fn record(log: &mut SentLog, out: u64, source: u64) {
        log.record(ExtendedSeq(out), ExtendedSeq(source), Rewrite::default());
    }

    fn source(log: &SentLog, wire: u16) -> Option<u64> {
        log.lookup(wire).map(|sent| sent.source.0)
    }

    /// Every packet stays what it was, in whatever order and way packets come.
    #[test]
    fn what_comes_late_in_another_way_divides_its_run() {
        let alone = Rewrite::default();
        let other = Rewrite { origin: Origin::default().repeating(), ..alone };
        for late in [&[11][..], &[11, 13], &[13, 11], &[11, 12], &[12, 11, 13], &[11, 13, 12]] {
            for (then, why) in [(false, "in the newest run"), (true, "in one before it")] {
                let mut log = SentLog::for_repeating_audio();
                let mut sent: Vec<(u64, Rewrite)> = vec![(10, alone), (14, alone)];
                if then {
                    sent.push((15, other));
                }
                sent.extend(late.iter().map(|out| (*out, other)));
                for (out, rewrite) in &sent {
                    log.record(ExtendedSeq(*out), ExtendedSeq(*out), *rewrite);
                }
                for (out, rewrite) in sent {
                    let found = log.lookup(out as u16).map(|found| (found.out.0, found.rewrite));
                    assert_eq!(found, Some((out, rewrite)), "{late:?}, {why}");
                }
            }
        }
    }

    #[test]
    fn a_log_that_is_full_forgets_the_oldest_for_what_comes_late() {
        let mut log = SentLog::for_audio();
        let other = Rewrite { origin: Origin::default().repeating(), ..Rewrite::default() };
        // Runs of two with a gap between: 0 2, 10 12, …
        for run in 0..20 {
            for out in [run * 10, run * 10 + 2] {
                log.record(ExtendedSeq(out), ExtendedSeq(out + run), Rewrite::default());
            }
        }
        let capacity = log.past.runs.capacity();
        for run in (12..20).rev() {
            log.record(ExtendedSeq(run * 10 + 1), ExtendedSeq(run * 10 + 1 + run), other);
            let found = log.lookup((run * 10 + 1) as u16);
            assert!(found.is_none_or(|found| found.rewrite == other), "run {run}");
        }
        assert!(log.past.runs.len() <= log.past.max_runs);
        assert_eq!(log.past.runs.capacity(), capacity);
        let firsts: Vec<u64> = log.past.runs.iter().map(|run| run.first).collect();
        assert!(firsts.is_sorted(), "{firsts:?}");
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut log = SentLog::for_video();
        assert_eq!(source(&log, 10), None);
        for (out, from) in [(10, 10), (12, 13), (13, 14)] {
            record(&mut log, out, from);
        }
        assert_eq!(
            [10, 11, 12, 13, 14].map(|n| source(&log, n)),
            [Some(10), None, Some(13), Some(14), None]
        );
        record(&mut log, 11, 11);
        assert_eq!(source(&log, 11), Some(11));
        assert_eq!(log.past.runs.len(), 1);
    }

    #[test]
    fn a_late_packet_may_belong_to_the_run_after_it_or_to_none() {
        // 11 dropped, 12 lost, 13 dropped, 14 sent as 12; then 12 comes and goes out as 11.
        let mut log = SentLog::for_video();
        record(&mut log, 10, 10);
        record(&mut log, 12, 14);
        record(&mut log, 11, 12);
        assert_eq!([10, 11, 12].map(|n| source(&log, n)), [Some(10), Some(12), Some(14)]);
        assert_eq!(log.past.runs.len(), 2);

        // 11 dropped, 12 lost, 13 sent as 12; 12 comes and extends that run downwards.
        let mut log = SentLog::for_video();
        record(&mut log, 10, 10);
        record(&mut log, 12, 13);
        record(&mut log, 11, 12);
        assert_eq!([10, 11, 12].map(|n| source(&log, n)), [Some(10), Some(12), Some(13)]);
        assert_eq!(log.past.runs.len(), 1);
    }

    #[test]
    fn remembers_how_packets_were_changed_on_each_side_of_a_switch() {
        let origin = Origin::new(0, Some(1));
        let low = Rewrite { timestamp_offset: 7, picture_id_offset: 8, tl0_offset: 9, origin };
        let origin = Origin::new(2, None);
        let high = Rewrite { timestamp_offset: 1, origin, ..Rewrite::default() };
        let mut log = SentLog::for_video();
        log.record(ExtendedSeq(0x1_ffff), ExtendedSeq(50), low);
        log.record(ExtendedSeq(0x2_0000), ExtendedSeq(51), high);
        assert_eq!(log.lookup(0xffff).unwrap().rewrite, low);
        let sent = log.lookup(0).unwrap();
        assert_eq!((sent.out.0, sent.source.0, sent.rewrite), (0x2_0000, 51, high));
    }

    #[test]
    fn a_steady_stream_is_one_run_and_many_drops_push_out_the_oldest() {
        let mut log = SentLog::for_audio();
        for n in 0..100_000 {
            record(&mut log, n, n + 5);
        }
        assert_eq!(log.past.runs.len(), 0);

        let capacity = log.past.runs.capacity();
        for n in 0..100 {
            record(&mut log, 100_000 + n, 200_000 + 2 * n);
        }
        assert_eq!((log.past.runs.len(), log.past.runs.capacity()), (AUDIO_RUNS - 1, capacity));
        let newest = 100_099_u64;
        assert_eq!(source(&log, newest as u16), Some(200_198));
        assert_eq!(source(&log, (newest - 7) as u16), Some(200_184));
        assert_eq!(source(&log, (newest - 8) as u16), None);
        // A late one, older than all that is remembered, is not worth a place.
        record(&mut log, newest - 50, 5);
        assert_eq!(source(&log, (newest - 7) as u16), Some(200_184));
        assert_eq!(log.past.runs.capacity(), capacity);
    }

    #[test]
    fn agrees_with_a_plain_list_under_drops_and_reordering() {
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for _ in 0..100 {
            let mut translator = SequenceTranslator::new(ExtendedSeq(0x1_fff0));
            let mut log = SentLog::new(1000, 1);
            let mut plain = std::collections::HashMap::new();
            let mut base = 1_000_u64;
            for step in 0..300 {
                if step % 100 == 99 {
                    base += 10_000;
                    translator.switch(ExtendedSeq(base));
                }
                let from = ExtendedSeq(base + step % 100 + u64::from(random(6)));
                if random(4) == 0 {
                    translator.skip(from);
                } else if let Some(out) = translator.forward(from) {
                    record(&mut log, out.0, from.0);
                    plain.insert(out.wire(), from.0);
                }
            }
            for (wire, from) in plain {
                assert_eq!(source(&log, wire), Some(from));
            }
        }
    }

    #[test]
    fn is_not_resent_within_a_round_trip() {
        let rtt = Duration::from_millis(50);
        let at = Time::from_millis;
        let mut log = SentLog::for_video();
        assert!(log.may_resend(7, at(0), rtt));
        assert!(!log.may_resend(7, at(49), rtt));
        assert!(log.may_resend(8, at(49), rtt));
        assert!(log.may_resend(7, at(50), rtt));
        assert!(!log.may_resend(7, at(59), Duration::ZERO), "the floor");
        assert!(log.may_resend(7, at(60), Duration::ZERO));
        assert!(log.may_resend(7, at(560), Duration::from_secs(9)), "the ceiling");
    }
}
