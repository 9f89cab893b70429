//! Which missing packets to ask for again, and when (generic NACK, RFC 4585 section 6.2.1).
//!
//! Worked trace, round trip 40 ms, one packet every 5 ms, 12 lost:
//!
//! ```text
//! t =  0 ms  11 arrives
//! t = 10 ms  13 arrives: 12 is missing, asked for once 3 newer packets came or 10 ms have passed
//! t = 20 ms  15 arrives, the third newer one: NACK 12; if nothing comes, again after 1.25 · 40 ms
//! t = 65 ms  12 comes back: repaired
//! t = 70 ms  (the time of the second request: nothing is missing, nothing is sent)
//! ```
//!
//! Why wait at all: a packet overtaken on its way would be sent twice. Overtaking is a matter of a
//! few packets or milliseconds, and either limit ends the wait, so that repair on a busy stream
//! starts within a frame.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;
use smallvec::SmallVec;

/// Missing packets remembered for a video encoding. Beyond it a key frame repairs more for less:
/// 512 packets are 600 kB. Each costs 12 bytes.
pub const MAX_MISSING_VIDEO: usize = 512;

/// Missing packets remembered for audio: more than a second of it.
pub const MAX_MISSING_AUDIO: usize = 64;

/// Sequence numbers listed by one [`NackGenerator::poll`]: what one RTCP packet should carry. The
/// rest is due at once, in the next.
pub const MAX_ASKED_PER_POLL: usize = 64;

/// Newer packets after which a missing one is taken for lost; three, as with TCP's fast retransmit.
const REORDER_PACKETS: u8 = 3;

/// The time after which it is taken for lost, on streams too slow to count. Longer delays repair,
/// shorter asks for what is only late.
const REORDER_DELAY: Duration = Duration::from_millis(10);

/// Retries never come faster than this, however short the round trip: the sender's pacer alone
/// takes 5–10 ms. It also holds while the round trip is unknown and given as zero.
const MIN_RETRY: Duration = Duration::from_millis(20);

/// Nor slower: of two requests within the life of a packet one should get through.
const MAX_RETRY: Duration = Duration::from_millis(250);

/// Requests for one packet.
const MAX_REQUESTS: u8 = 10;

/// A packet missing for so long is of no use to any jitter buffer.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A packet this far behind the newest is no longer on the list, whatever its age; half the range
/// of a sequence number is where order would become ambiguous.
const MAX_BEHIND_PACKETS: u16 = 0x4000;

/// Packets before the one that shows a key frame which are asked for all the same: H.264 shows it
/// by each of several packets, and the parameter sets before it may be what is missing.
const KEY_FRAME_LEAD_PACKETS: u64 = 16;

/// What to do when asking no longer helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// Packets are lost for good: only a key frame mends the picture.
    RequestKeyFrame,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NackCounters {
    /// Gaps seen, in packets.
    pub missing: u64,
    /// Sequence numbers asked for, repeats included.
    pub requested: u64,
    /// Polls that listed any.
    pub messages: u64,
    /// Missing packets that came after they were asked for.
    pub repaired: u64,
    /// Missing packets that came unasked: they were only late.
    pub late: u64,
    /// Missing packets given up.
    pub abandoned: u64,
}

/// One missing packet. Times are milliseconds since the origin, wrapping after 49 days, to keep the
/// list small.
#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u16,
    /// Newer packets received when it was found missing, wrapping.
    newer_at: u8,
    requests: u8,
    since_ms: u32,
    next_ms: u32,
}

/// Lists missing packets of one stream to be asked for.
#[derive(Debug)]
pub struct NackGenerator {
    capacity: usize,
    highest: Option<ExtendedSeq>,
    /// Packets received in order, wrapping.
    newer: u8,
    /// Oldest first.
    missing: Vec<Missing>,
    give_up: bool,
    next_due: Time,
    counters: NackCounters,
}

impl NackGenerator {
    /// A generator that remembers at most `capacity` missing packets.
    pub fn new(capacity: usize) -> Self {
        NackGenerator {
            capacity,
            highest: None,
            newer: 0,
            missing: Vec::with_capacity(capacity),
            give_up: false,
            next_due: Time::NEVER,
            counters: NackCounters::default(),
        }
    }

    /// Notes a packet, original or retransmitted. Whether it filled a gap.
    pub fn on_packet(&mut self, now: Time, sequence: ExtendedSeq) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return false;
        };
        if sequence <= highest {
            return self.fill(sequence, highest);
        }
        self.highest = Some(sequence);
        self.newer = self.newer.wrapping_add(1);
        self.drop_far_behind(sequence);
        let gap = sequence.ahead_of(highest) - 1;
        if gap > 0 {
            self.open(now, highest, gap);
        }
        self.notice_overtaken(now);
        false
    }

    /// Writes the numbers to ask for now to `out`, which is cleared first. Call it when
    /// [`NackGenerator::next_timeout`] has come; `rtt` is zero while unknown.
    pub fn poll(
        &mut self,
        now: Time,
        rtt: Duration,
        out: &mut SmallVec<[u16; MAX_ASKED_PER_POLL]>,
    ) -> Option<GiveUp> {
        out.clear();
        let now_ms = now.as_millis() as u32;
        // A quarter more than the round trip: senders ignore requests that come within one.
        let retry_ms = millis((rtt + rtt / 4).clamp(MIN_RETRY, MAX_RETRY));
        let newer = self.newer;
        let counters = &mut self.counters;
        let mut give_up = std::mem::take(&mut self.give_up);
        self.missing.retain_mut(|entry| {
            if !is_due(entry, newer, now_ms) {
                return true;
            }
            let age_ms = now_ms.wrapping_sub(entry.since_ms);
            if entry.requests >= MAX_REQUESTS || age_ms >= millis(MAX_AGE) {
                counters.abandoned += 1;
                give_up = true;
                return false;
            }
            if out.len() == MAX_ASKED_PER_POLL {
                return true;
            }
            out.push(entry.sequence);
            entry.requests += 1;
            entry.next_ms = now_ms.wrapping_add(retry_ms);
            true
        });
        counters.requested += out.len() as u64;
        counters.messages += u64::from(!out.is_empty());
        self.schedule(now);
        give_up.then_some(GiveUp::RequestKeyFrame)
    }

    /// Forgets what lies well before a packet that begins a key frame: nothing needs it any more.
    pub fn on_key_frame(&mut self, first: ExtendedSeq) {
        let Some(highest) = self.highest else { return };
        let behind = highest.ahead_of(first) + KEY_FRAME_LEAD_PACKETS;
        let kept_from = self
            .missing
            .partition_point(|entry| u64::from(behind_of(highest, entry.sequence)) > behind);
        self.counters.abandoned += kept_from as u64;
        self.missing.drain(..kept_from);
        self.give_up = false;
        if self.missing.is_empty() {
            self.next_due = Time::NEVER;
        }
    }

    /// A generator for the source that comes after: nothing is missing of it. The memory of the
    /// list and the counters go over to it.
    pub fn take_over(&mut self) -> Self {
        let mut missing = std::mem::take(&mut self.missing);
        missing.clear();
        NackGenerator {
            capacity: self.capacity,
            highest: None,
            newer: 0,
            missing,
            give_up: false,
            next_due: Time::NEVER,
            counters: self.counters,
        }
    }

    /// Takes everything up to `highest` for received: what is missing is counted from there.
    pub fn resume(&mut self, highest: ExtendedSeq) {
        self.highest = Some(highest);
    }

    /// When to poll next; may lie in the past, for at once.
    pub fn next_timeout(&self) -> Time {
        self.next_due
    }

    /// What happened so far.
    pub fn counters(&self) -> NackCounters {
        self.counters
    }

    /// Takes a late packet off the list.
    fn fill(&mut self, sequence: ExtendedSeq, highest: ExtendedSeq) -> bool {
        let Ok(behind) = u16::try_from(highest.ahead_of(sequence)) else { return false };
        let place =
            self.missing.binary_search_by(|entry| behind.cmp(&behind_of(highest, entry.sequence)));
        let Ok(index) = place else { return false };
        let entry = self.missing.remove(index);
        if entry.requests > 0 {
            self.counters.repaired += 1;
        } else {
            self.counters.late += 1;
        }
        if self.missing.is_empty() && !self.give_up {
            self.next_due = Time::NEVER;
        }
        true
    }

    /// Lists the `gap` numbers after `highest`, or gives up on all when they are too many.
    fn open(&mut self, now: Time, highest: ExtendedSeq, gap: u64) {
        self.counters.missing += gap;
        let room = (self.capacity - self.missing.len()) as u64;
        if gap > room {
            self.counters.abandoned += gap + self.missing.len() as u64;
            self.missing.clear();
            self.give_up = true;
            self.next_due = now;
            return;
        }
        let due = now + REORDER_DELAY;
        let since_ms = now.as_millis() as u32;
        let first = highest.wire().wrapping_add(1);
        self.missing.extend((0..gap as u16).map(|step| Missing {
            sequence: first.wrapping_add(step),
            // The packet that revealed the gap is the first newer one.
            newer_at: self.newer.wrapping_sub(1),
            requests: 0,
            since_ms,
            next_ms: since_ms.wrapping_add(millis(REORDER_DELAY)),
        }));
        self.next_due = self.next_due.min(due);
    }

    /// Moves the next poll to now when enough newer packets have overtaken one not yet asked for.
    fn notice_overtaken(&mut self, now: Time) {
        let newer = self.newer;
        // Those not yet asked for are the latest found, at the end of the list.
        let overtaken = self
            .missing
            .iter()
            .rev()
            .take_while(|entry| entry.requests == 0)
            .any(|entry| is_overtaken(entry, newer));
        if overtaken {
            self.next_due = self.next_due.min(now);
        }
    }

    fn drop_far_behind(&mut self, highest: ExtendedSeq) {
        let far = self
            .missing
            .iter()
            .take_while(|entry| behind_of(highest, entry.sequence) > MAX_BEHIND_PACKETS)
            .count();
        if far > 0 {
            self.counters.abandoned += far as u64;
            self.missing.drain(..far);
            self.give_up = true;
            self.next_due = Time::ZERO;
        }
    }

    /// Finds the next time anything is due after a poll at `now`.
    fn schedule(&mut self, now: Time) {
        let now_ms = now.as_millis() as u32;
        let newer = self.newer;
        let soonest_ms = self
            .missing
            .iter()
            .map(|entry| match is_overtaken(entry, newer) {
                true => 0,
                false => (entry.next_ms.wrapping_sub(now_ms) as i32).max(0),
            })
            .min();
        self.next_due = match soonest_ms {
            None => Time::NEVER,
            Some(wait_ms) => now + Duration::from_millis(wait_ms as u64),
        };
    }
}

/// How far `sequence` is behind `highest` on the wire.
fn behind_of(highest: ExtendedSeq, sequence: u16) -> u16 {
    highest.wire().wrapping_sub(sequence)
}

fn is_overtaken(entry: &Missing, newer: u8) -> bool {
    entry.requests == 0 && newer.wrapping_sub(entry.newer_at) >= REORDER_PACKETS
}

fn is_due(entry: &Missing, newer: u8, now_ms: u32) -> bool {
    is_overtaken(entry, newer) || now_ms.wrapping_sub(entry.next_ms) as i32 >= 0
}

/// A short duration in milliseconds.
const fn millis(duration: Duration) -> u32 {
    duration.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);
    const BASE: u64 = 0x1_0000;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn seq(n: u64) -> ExtendedSeq {
        ExtendedSeq(BASE + n)
    }

    /// Polls as the owner does: only when due.
    fn ask(generator: &mut NackGenerator, ms: u64) -> (Vec<u16>, Option<GiveUp>) {
        let mut out = SmallVec::new();
        if generator.next_timeout() > at(ms) {
            return (Vec::new(), None);
        }
        let give_up = generator.poll(at(ms), RTT, &mut out);
        (out.to_vec(), give_up)
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        generator.on_packet(at(0), seq(11));
        generator.on_packet(at(10), seq(13));
        assert_eq!(generator.next_timeout(), at(20));
        generator.on_packet(at(15), seq(14));
        assert_eq!(ask(&mut generator, 15).0, []);
        generator.on_packet(at(20), seq(15));
        assert_eq!(ask(&mut generator, 20).0, [12]);
        assert_eq!(generator.next_timeout(), at(70));
        assert!(generator.on_packet(at(65), seq(12)));
        assert_eq!(generator.next_timeout(), Time::NEVER);
        let counters = generator.counters();
        assert_eq!((counters.missing, counters.requested, counters.repaired), (1, 1, 1));
    }

    #[test]
    fn the_third_newer_packet_ends_the_wait() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        for (ms, n) in [(0, 1), (1, 3), (2, 4), (3, 5)] {
            generator.on_packet(at(ms), seq(n));
        }
        assert_eq!(ask(&mut generator, 3).0, [2]);
    }

    #[test]
    fn a_packet_only_overtaken_is_not_asked_for() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        for (ms, n) in [(0, 1), (1, 3), (2, 4)] {
            generator.on_packet(at(ms), seq(n));
        }
        assert!(generator.on_packet(at(3), seq(2)));
        assert!(!generator.on_packet(at(3), seq(2)), "once");
        generator.on_packet(at(4), seq(5));
        assert_eq!(generator.next_timeout(), Time::NEVER);
        assert_eq!(generator.counters().late, 1);
    }

    #[test]
    fn asks_ten_times_within_a_second_and_then_for_a_key_frame() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        generator.on_packet(at(0), seq(1));
        generator.on_packet(at(0), seq(3));
        let mut asked = Vec::new();
        for ms in 0..2_000 {
            let (numbers, give_up) = ask(&mut generator, ms);
            asked.extend(numbers.iter().map(|_| ms));
            if give_up.is_some() {
                assert_eq!(ms, 510);
                break;
            }
        }
        assert_eq!(asked, [10, 60, 110, 160, 210, 260, 310, 360, 410, 460]);
        assert_eq!(generator.next_timeout(), Time::NEVER);
        assert_eq!(generator.counters().abandoned, 1);
    }

    #[test]
    fn retries_follow_the_round_trip_within_bounds_and_age_ends_them() {
        for (rtt_ms, retry_ms) in [(0, 20), (1, 20), (100, 125), (3_000, 250)] {
            let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
            generator.on_packet(at(0), seq(1));
            generator.on_packet(at(0), seq(3));
            let mut out = SmallVec::new();
            generator.poll(at(10), Duration::from_millis(rtt_ms), &mut out);
            assert_eq!(generator.next_timeout(), at(10 + retry_ms), "{rtt_ms}");
            let give_up = generator.poll(at(1_000), RTT, &mut out);
            assert_eq!((out.len(), give_up), (0, Some(GiveUp::RequestKeyFrame)));
        }
    }

    #[test]
    fn a_key_frame_makes_older_gaps_irrelevant_but_not_its_parameter_sets() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        for n in [1, 3, 20, 22] {
            generator.on_packet(at(0), seq(n));
        }
        // Missing: 2, 4–19, 21.
        generator.on_key_frame(seq(22));
        assert_eq!(ask(&mut generator, 10).0, (6..=19).chain([21]).collect::<Vec<u16>>());
        for n in 23..=50 {
            generator.on_packet(at(11), seq(n));
        }
        generator.on_key_frame(seq(50));
        assert_eq!(generator.next_timeout(), Time::NEVER);
        assert_eq!(generator.counters().abandoned, 18);
    }

    #[test]
    fn too_many_missing_ask_for_a_key_frame_at_once() {
        let mut generator = NackGenerator::new(MAX_MISSING_AUDIO);
        generator.on_packet(at(0), seq(1));
        generator.on_packet(at(0), seq(3));
        generator.on_packet(at(1), seq(3 + 65));
        assert_eq!(ask(&mut generator, 1), (vec![], Some(GiveUp::RequestKeyFrame)));
        assert_eq!(ask(&mut generator, 100), (vec![], None), "said once");
        generator.on_packet(at(101), seq(70));
        assert_eq!(ask(&mut generator, 111).0, [69], "and life goes on");
    }

    #[test]
    fn a_long_list_is_asked_for_in_portions() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        generator.on_packet(at(0), seq(0));
        generator.on_packet(at(0), seq(101));
        let (first, _) = ask(&mut generator, 10);
        assert_eq!(first, (1..=64).collect::<Vec<u16>>());
        assert_eq!(generator.next_timeout(), at(10));
        let (second, _) = ask(&mut generator, 10);
        assert_eq!(second, (65..=100).collect::<Vec<u16>>());
        assert_eq!(generator.next_timeout(), at(60));
    }

    #[test]
    fn wraps_in_the_middle_of_a_gap() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        generator.on_packet(at(0), ExtendedSeq(0x1_fffd));
        generator.on_packet(at(0), ExtendedSeq(0x2_0002));
        assert_eq!(ask(&mut generator, 10).0, [0xfffe, 0xffff, 0, 1]);
        assert!(generator.on_packet(at(20), ExtendedSeq(0x1_ffff)));
        assert!(generator.on_packet(at(20), ExtendedSeq(0x2_0000)));
        assert_eq!(ask(&mut generator, 60).0, [0xfffe, 1]);
    }

    #[test]
    fn a_list_that_nobody_polls_does_not_grow_stale() {
        let mut generator = NackGenerator::new(MAX_MISSING_VIDEO);
        generator.on_packet(at(0), seq(0));
        generator.on_packet(at(0), seq(2));
        for n in 3..70_000 {
            generator.on_packet(at(n), seq(n));
        }
        assert_eq!(ask(&mut generator, 70_000), (vec![], Some(GiveUp::RequestKeyFrame)));
        let mut next = generator.take_over();
        assert_eq!(next.next_timeout(), Time::NEVER);
        assert_eq!(next.counters(), generator.counters());
        next.on_packet(at(70_000), seq(5));
        assert_eq!(next.next_timeout(), Time::NEVER, "what the other had is not missing here");
    }
}
