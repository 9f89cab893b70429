//! When packets with transport-wide sequence numbers arrived, in the form that feedback carries
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! Time is counted in ticks of 250 µs. A message has a reference time in units of 64 ms (256 ticks)
//! and, per received packet, the ticks since the one received before it in order of numbers; the
//! first counts from the reference time.
//!
//! Worked trace: 5 arrives at 130 ms (tick 520), 7 at 131 ms (524), 8 at 130.5 ms (522), 6 not.
//! Reference time 520 / 256 = 2, that is tick 512; deltas: 5: +8, 6: none, 7: +4, 8: −2.
//!
//! A sender may begin its numbers anew. A step forward is believed at once, one back when the
//! numbers go on from there: 20 049 arrives, then 0, which is a stray so far, then 1: from now on 1
//! is the number after 20 049.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::seq::{ExtendedSeq, SeqUnwrapper};
use opencall_wire::time::Time;

/// How often feedback goes out. The sender's estimate follows it: shorter reacts faster and costs a
/// packet each; 100 ms is what senders are tuned for.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Unreported packets after which feedback goes out at once: at high rates it keeps messages small
/// and the estimate fresh.
pub const MAX_UNREPORTED: u32 = 64;

/// Packets, lost ones included, that one message covers at most: two bytes each and their status
/// stay well within a datagram of 1200 bytes.
pub const MAX_RANGE: usize = 256;

/// Numbers remembered: 5 s at 100 packets per second, half a second at 1000. Late packets within it
/// are reported; a jump beyond it begins anew.
const WINDOW: u64 = 512;

/// Numbers in a row, each too old to tell, after which they are those of a sender that began anew,
/// as with RTP numbers.
const OLD_IN_A_ROW: u8 = 2;

/// The same of numbers that arrived already. No number is sent twice, but a network may repeat a
/// packet or two.
const REPEATS_IN_A_ROW: u8 = 4;

/// Length of a tick.
const TICK_NANOS: u64 = 250_000;

/// Ticks of one unit of the reference time, 64 ms.
const REFERENCE_TICKS: i64 = 256;

/// What one feedback message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedbackRange<'a> {
    /// Number of the first packet in `arrivals`.
    pub base_sequence: u16,
    /// Reference time in units of 64 ms, 24 bits with sign.
    pub reference_time_64ms: i32,
    /// Counts messages, wrapping.
    pub feedback_count: u8,
    /// Per packet: ticks of 250 µs since the one received before it (16 bits with sign), or `None`
    /// where none arrived. The last is always received.
    pub arrivals: &'a [Option<i32>],
}

/// Records arrivals of one transport. Takes no memory before the first.
#[derive(Debug, Default)]
pub struct ArrivalRecorder {
    unwrapper: SeqUnwrapper,
    /// Arrival of number n at n % WINDOW, in ticks plus one; 0 where none arrived.
    ticks: Vec<u64>,
    /// The first number not yet reported.
    next: u64,
    unreported: u32,
    /// The number that would go on with the last one that was too old or had arrived already, and
    /// how many such there were in a row.
    probation: Option<(u16, u8)>,
    /// When feedback is due; `None` while there is nothing to report.
    due: Option<Time>,
    /// Up to where the feedback being given goes.
    flush_end: u64,
    feedback_count: u8,
    range: Vec<Option<i32>>,
}

impl ArrivalRecorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        ArrivalRecorder::default()
    }

    /// Notes that the packet with this transport-wide number arrived.
    pub fn on_packet(&mut self, now: Time, transport_seq: u16) {
        if self.ticks.is_empty() {
            self.ticks = vec![0; WINDOW as usize];
            self.range = Vec::with_capacity(MAX_RANGE);
        }
        let Some(highest) = self.unwrapper.highest() else {
            let first = self.unwrapper.unwrap(transport_seq);
            self.next = first.0;
            return self.note(now, first);
        };
        let mut number = self.unwrapper.unwrap(transport_seq);
        let is_old = highest.ahead_of(number) >= WINDOW;
        if number > highest {
            self.advance(highest, number);
        } else if is_old || self.ticks_of(number.0).is_some() {
            let needed = if is_old { OLD_IN_A_ROW } else { REPEATS_IN_A_ROW };
            if !self.begins_anew(transport_seq, needed) {
                return;
            }
            number = self.unwrapper.restart(transport_seq);
            self.forget(number);
        }
        self.probation = None;
        self.next = self.next.min(number.0);
        self.note(now, number);
    }

    /// Whether this is the last of `needed` numbers in a row that nothing can be said of.
    fn begins_anew(&mut self, transport_seq: u16, needed: u8) -> bool {
        let run = match self.probation {
            Some((next, run)) if next == transport_seq => run.saturating_add(1),
            _ => 1,
        };
        self.probation = Some((transport_seq.wrapping_add(1), run));
        run >= needed
    }

    /// Forgets all that arrived; the next message begins with `number`.
    fn forget(&mut self, number: ExtendedSeq) {
        self.ticks.fill(0);
        self.next = number.0;
        self.unreported = 0;
    }

    /// The next feedback message, if one is due. Call it until `None`: several may be.
    pub fn poll(&mut self, now: Time) -> Option<FeedbackRange<'_>> {
        if self.due.is_some_and(|due| now >= due) {
            self.due = None;
            self.unreported = 0;
            self.flush_end = self.unwrapper.highest()?.0 + 1;
        }
        let (first, ticks) =
            (self.next..self.flush_end).find_map(|n| Some((n, self.ticks_of(n)?)))?;
        // Of a gap longer than half a message only its end is told: the sender knows it by then.
        let base = self.next.max(first.saturating_sub(MAX_RANGE as u64 / 2));
        let reference = ticks.div_euclid(REFERENCE_TICKS);
        let last = self.collect(base, reference * REFERENCE_TICKS);
        self.next = last + 1;
        let feedback_count = self.feedback_count;
        self.feedback_count = feedback_count.wrapping_add(1);
        Some(FeedbackRange {
            base_sequence: ExtendedSeq(base).wire(),
            // 24 bits with sign, as the wire has it.
            reference_time_64ms: ((reference as i32) << 8) >> 8,
            feedback_count,
            arrivals: &self.range,
        })
    }

    /// When to poll next.
    pub fn next_timeout(&self) -> Time {
        self.due.unwrap_or(Time::NEVER)
    }

    /// Fills `range` from `base` on: to the end of the flush, to the greatest length, or to a delta
    /// that 16 bits cannot hold. Returns the number of its last packet, always a received one.
    fn collect(&mut self, base: u64, reference_ticks: i64) -> u64 {
        self.range.clear();
        let end = self.flush_end.min(base + MAX_RANGE as u64);
        let (mut previous, mut last) = (reference_ticks, base);
        for number in base..end {
            let Some(ticks) = self.ticks_of(number) else {
                self.range.push(None);
                continue;
            };
            let Ok(delta) = i16::try_from(ticks - previous) else { break };
            self.range.push(Some(i32::from(delta)));
            (previous, last) = (ticks, number);
        }
        self.range.truncate((last - base) as usize + 1);
        last
    }

    /// Moves the window up to `number`, clearing what it newly covers.
    fn advance(&mut self, highest: ExtendedSeq, number: ExtendedSeq) {
        if number.ahead_of(highest) >= WINDOW {
            // Nothing useful can be said of what lies between.
            self.forget(number);
            return;
        }
        for between in highest.0 + 1..number.0 {
            self.ticks[(between % WINDOW) as usize] = 0;
        }
        self.next = self.next.max(number.0.saturating_sub(WINDOW - 1));
    }

    fn note(&mut self, now: Time, number: ExtendedSeq) {
        self.ticks[(number.0 % WINDOW) as usize] = now.as_nanos() / TICK_NANOS + 1;
        self.unreported += 1;
        let soon = if self.unreported >= MAX_UNREPORTED { now } else { now + INTERVAL };
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn ticks_of(&self, number: u64) -> Option<i64> {
        match *self.ticks.get((number % WINDOW) as usize)? {
            0 => None,
            ticks => Some((ticks - 1) as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(us: u64) -> Time {
        Time::from_nanos(us * 1000)
    }

    fn millis(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// All messages due at `now`: base, reference, arrivals.
    fn messages(recorder: &mut ArrivalRecorder, now: Time) -> Vec<(u16, i32, Vec<Option<i32>>)> {
        let mut all = Vec::new();
        while let Some(range) = recorder.poll(now) {
            all.push((range.base_sequence, range.reference_time_64ms, range.arrivals.to_vec()));
        }
        all
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut recorder = ArrivalRecorder::new();
        assert_eq!(recorder.next_timeout(), Time::NEVER);
        recorder.on_packet(millis(130), 5);
        recorder.on_packet(micros(130_500), 8);
        recorder.on_packet(millis(131), 7);
        assert_eq!(recorder.next_timeout(), millis(230));
        assert_eq!(messages(&mut recorder, millis(229)), []);
        assert_eq!(
            messages(&mut recorder, millis(230)),
            [(5, 2, vec![Some(8), None, Some(4), Some(-2)])]
        );
        assert_eq!(recorder.next_timeout(), Time::NEVER);
    }

    #[test]
    fn losses_between_messages_belong_to_the_next_and_late_packets_are_told_again() {
        let mut recorder = ArrivalRecorder::new();
        recorder.on_packet(millis(0), 1);
        messages(&mut recorder, millis(100));
        recorder.on_packet(millis(128), 4);
        assert_eq!(messages(&mut recorder, millis(228)), [(2, 2, vec![None, None, Some(0)])]);
        recorder.on_packet(millis(229), 3);
        assert_eq!(messages(&mut recorder, millis(329)), [(3, 3, vec![Some(148), Some(-404)])]);
    }

    #[test]
    fn duplicates_and_packets_too_old_say_nothing() {
        let mut recorder = ArrivalRecorder::new();
        recorder.on_packet(millis(0), 1000);
        messages(&mut recorder, millis(100));
        recorder.on_packet(millis(101), 1000);
        recorder.on_packet(millis(101), 1000 - 512);
        assert_eq!(recorder.next_timeout(), Time::NEVER);
    }

    #[test]
    fn many_packets_do_not_wait_and_numbers_wrap() {
        let mut recorder = ArrivalRecorder::new();
        for n in 0..64_u16 {
            assert_eq!(recorder.next_timeout() == Time::NEVER, n == 0);
            recorder.on_packet(millis(64), 0xffe0_u16.wrapping_add(n));
        }
        let mut arrivals = vec![Some(0); 64];
        arrivals[0] = Some(0);
        assert_eq!(messages(&mut recorder, millis(64)), [(0xffe0, 1, arrivals)]);
    }

    #[test]
    fn a_delta_beyond_16_bits_begins_another_message() {
        let mut recorder = ArrivalRecorder::new();
        recorder.on_packet(millis(0), 1);
        recorder.on_packet(micros(8_191_750), 2);
        recorder.on_packet(micros(16_383_750), 4);
        // 32 767 ticks fit; 32 768 do not: 16 383.75 ms is tick 65 535, 255 above unit 255.
        assert_eq!(
            messages(&mut recorder, millis(20_000)),
            [(1, 0, vec![Some(0), Some(32_767)]), (3, 255, vec![None, Some(255)]),]
        );
    }

    #[test]
    fn long_ranges_are_split_and_counted() {
        let mut recorder = ArrivalRecorder::new();
        recorder.on_packet(millis(0), 0);
        recorder.on_packet(millis(0), 300);
        recorder.on_packet(millis(0), 511);
        // From 1 to 299 nothing came: only the last 128 of them are told.
        let counts: Vec<_> = std::iter::from_fn(|| {
            let range = recorder.poll(millis(100))?;
            Some((range.feedback_count, range.base_sequence, range.arrivals.len()))
        })
        .collect();
        assert_eq!(counts, [(0, 0, 1), (1, 172, 129), (2, 383, 129)]);
    }

    #[test]
    fn a_jump_begins_anew_and_costs_one_small_message() {
        let mut recorder = ArrivalRecorder::new();
        recorder.on_packet(millis(0), 0);
        recorder.on_packet(millis(1), 30_000);
        recorder.on_packet(millis(2), 30_001);
        assert_eq!(messages(&mut recorder, millis(100)), [(30_000, 0, vec![Some(4), Some(4)])]);
    }

    #[test]
    fn a_sender_that_begins_anew_below_is_followed_after_a_few_packets() {
        // (last before, first after, lost after every so many, packets until it is followed)
        for (last, first, lost_every, until) in [
            (149_u16, 40_100_u16, 1000, 2),
            (20_049, 0, 1000, 2),
            (20_049, 19_000, 7, 2),
            (20_049, 20_040, 1000, 4),
            (1000, 800, 5, 4),
        ] {
            let mut recorder = ArrivalRecorder::new();
            for n in 0..50 {
                recorder.on_packet(millis(1), last - 49 + n);
            }
            // As far back as it remembers, so that numbers were seen.
            for n in 50..400 {
                recorder.on_packet(millis(1), last.wrapping_sub(n));
            }
            messages(&mut recorder, millis(200));
            let mut told = Vec::new();
            for n in (0..200_u16).filter(|n| n % lost_every != lost_every - 1) {
                let now = millis(300 + u64::from(n));
                recorder.on_packet(now, first.wrapping_add(n));
                for (base, _, arrivals) in messages(&mut recorder, now) {
                    let arrived = arrivals.iter().zip(0..).filter(|(ticks, _)| ticks.is_some());
                    told.extend(arrived.map(|(_, at)| base.wrapping_add(at)));
                }
            }
            let from = first.wrapping_add(until - 1);
            assert_eq!(told.first(), Some(&from), "{last}, then {first}");
            assert!(told.len() > 100, "{last}, then {first}: {}", told.len());
        }
    }

    #[test]
    fn a_packet_that_the_network_repeats_is_no_new_beginning() {
        let mut recorder = ArrivalRecorder::new();
        for n in 0..600 {
            recorder.on_packet(millis(n), n as u16);
            for again in [n, n.saturating_sub(1), n.saturating_sub(550)] {
                recorder.on_packet(millis(n), again as u16);
            }
        }
        let all = messages(&mut recorder, millis(700));
        let arrived = all.iter().flat_map(|(_, _, arrivals)| arrivals).flatten().count();
        assert_eq!(arrived, 512);
    }

    #[test]
    fn the_reference_time_wraps_in_24_bits() {
        let mut recorder = ArrivalRecorder::new();
        recorder.on_packet(millis(64 * 0x80_0000), 9);
        let all = messages(&mut recorder, Time::NEVER);
        assert_eq!(all, [(9, -0x80_0000, vec![Some(0)])]);
    }

    #[test]
    fn whatever_arrives_is_reported_at_its_time_within_bounds() {
        let mut state = 99_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut recorder = ArrivalRecorder::new();
        let mut arrived = std::collections::HashMap::new();
        let mut reported = std::collections::HashSet::new();
        let mut count = None;
        for step in 0..200_000_u64 {
            let now = micros(step * 3_000);
            let number = (step as u32).wrapping_add(random(40)) as u16;
            if random(10) > 0 {
                // Numbers come again after a wrap; by then the old arrival is of no interest.
                let fresh = arrived.get(&number).is_none_or(|&(at, _)| step - at > 1000);
                if fresh {
                    arrived.insert(number, (step, now.as_nanos() / TICK_NANOS));
                    reported.remove(&number);
                }
                recorder.on_packet(now, number);
            }
            while let Some(range) = recorder.poll(now) {
                assert!(range.arrivals.len() <= MAX_RANGE);
                assert!(range.arrivals.last().unwrap().is_some());
                let expected = count.map_or(0, |count: u8| count.wrapping_add(1));
                assert_eq!(range.feedback_count, expected);
                count = Some(expected);
                let mut ticks = i64::from(range.reference_time_64ms) * REFERENCE_TICKS;
                for (index, delta) in range.arrivals.iter().enumerate() {
                    let Some(delta) = *delta else { continue };
                    ticks += i64::from(delta);
                    let number = range.base_sequence.wrapping_add(index as u16);
                    assert_eq!(arrived[&number].1 as i64, ticks);
                    reported.insert(number);
                }
            }
        }
        let unreported = arrived.len() - reported.len();
        assert!(unreported <= MAX_UNREPORTED as usize, "{unreported}");
    }
}
