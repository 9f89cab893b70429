//! Outgoing RTP timestamps: one continuous clock over switches between the encodings of a producer.
//!
//! Each encoding has a clock with a random origin of its own. Sender reports tie both to the
//! sender's wall clock, and so to each other.
//!
//! Worked trace at 90 kHz. Low layer: report NTP 100.0 s ↔ RTP 50 000; its last frame, RTP 95 000
//! (captured at 100.5), went out as 1 000 000, so the offset is +905 000. High layer: report
//! 100.2 ↔ RTP 700 000; its key frame is RTP 730 000, so captured at 100.2 + 30 000/90 000 =
//! 100.533. On the low clock that is 50 000 + 0.5333 · 90 000 = 98 000, which would go out as
//! 1 003 000: 3000 ticks, one frame, after the last. So 730 000 goes out as 1 003 000.
//!
//! Had the key frame been captured before the last frame sent (a key frame is large and arrives
//! late), it would go out one millisecond after it; that push is not carried into later switches.
#![forbid(unsafe_code)]

use opencall_wire::time::Time;

use crate::sender_clock::SenderClock;

/// By how much at least the first frame of a new source follows the last one sent, as part of a
/// second: 1 ms. Receivers need it to be later; more would put picture and sound apart.
const MIN_STEP_HZ: u32 = 1000;

/// Sender reports that contradict arrival times by more than this many seconds are not believed:
/// some senders' wall clocks jump, or differ between encodings.
const MAX_DISAGREEMENT_S: u64 = 3;

/// Maps source timestamps to a consumer's own.
#[derive(Debug, Clone)]
pub struct TimestampTranslator {
    clock_rate_hz: u32,
    started: bool,
    /// Goes on after its core was replaced, and nothing has gone out since.
    restored: bool,
    /// Source to out, as the clocks say.
    offset: u32,
    /// Added on top while the present source would otherwise step back.
    push: u32,
    /// The highest timestamp out (before the first: the one to start with), and when it went out.
    last: u32,
    last_at: Time,
}

impl TimestampTranslator {
    /// A translator whose first packet goes out as `first_out`, which should be random (RFC 3550
    /// section 5.1).
    pub const fn new(clock_rate_hz: u32, first_out: u32) -> Self {
        TimestampTranslator {
            clock_rate_hz,
            started: false,
            restored: false,
            offset: 0,
            push: 0,
            last: first_out,
            last_at: Time::ZERO,
        }
    }

    /// One that goes on where that of a core before was: what is added to its source's timestamps,
    /// and the highest timestamp that may have gone out, with the time when it may have.
    pub const fn restore(clock_rate_hz: u32, offset: u32, last: u32, last_at: Time) -> Self {
        let (started, restored, push) = (true, true, 0);
        TimestampTranslator { clock_rate_hz, started, restored, offset, push, last, last_at }
    }

    /// The timestamp under which a packet of the present source goes out.
    pub fn forward(&mut self, now: Time, source: u32) -> u32 {
        if !self.started {
            self.started = true;
            self.offset = self.last.wrapping_sub(source);
        }
        let out = source.wrapping_add(self.offset());
        if is_at_or_after(out, self.last) {
            self.last = out;
            self.last_at = now;
        }
        out
    }

    /// Goes on with another source, whose first frame has timestamp `first`. `from` and `to` are
    /// the clocks of the source left and of the new one, where both have sent reports; without
    /// them, or when they cannot be true, arrival times serve.
    pub fn switch(
        &mut self,
        now: Time,
        first: u32,
        from: Option<SenderClock>,
        to: Option<SenderClock>,
    ) {
        let by_reports = self.by_reports(first, from, to);
        self.restored = false;
        self.go_on(now, first, by_reports);
    }

    fn by_reports(
        &self,
        first: u32,
        from: Option<SenderClock>,
        to: Option<SenderClock>,
    ) -> Option<u32> {
        let (from, to) = (from?, to?);
        let captured = to.ntp_at(first, self.clock_rate_hz);
        Some(from.rtp_at(captured, self.clock_rate_hz).wrapping_add(self.offset))
    }

    /// Goes on with the present source after a pause, with the frame of timestamp `first`: its
    /// clock has not stopped, whatever the pause did to arrival times.
    ///
    /// In a core that took over, the highest timestamp that may have gone out is one that did not,
    /// mostly; a source's own clock does not go back, and nothing has to be pushed.
    pub fn resume(&mut self, now: Time, first: u32) {
        let highest = (self.last, self.last_at);
        self.go_on(now, first, Some(first.wrapping_add(self.offset)));
        if std::mem::take(&mut self.restored) && self.push > 0 {
            self.push = 0;
            (self.last, self.last_at) = highest;
        }
    }

    /// Goes on at what the clocks say, if they can be believed.
    fn go_on(&mut self, now: Time, first: u32, by_clocks: Option<u32>) {
        if !self.started {
            return;
        }
        let by_arrival = self.last.wrapping_add(self.ticks_since_last(now));
        let out = by_clocks.filter(|&out| self.agrees(out, by_arrival)).unwrap_or(by_arrival);
        self.offset = out.wrapping_sub(first);
        let earliest = self.last.wrapping_add((self.clock_rate_hz / MIN_STEP_HZ).max(1));
        self.push = if is_at_or_after(out, earliest) { 0 } else { earliest.wrapping_sub(out) };
    }

    /// What is added to timestamps of the present source.
    pub const fn offset(&self) -> u32 {
        self.offset.wrapping_add(self.push)
    }

    /// The highest timestamp that went out, and when; `None` before the first.
    pub fn last(&self) -> Option<(u32, Time)> {
        self.started.then_some((self.last, self.last_at))
    }

    fn agrees(&self, a: u32, b: u32) -> bool {
        let apart = u64::from((a.wrapping_sub(b) as i32).unsigned_abs());
        apart <= MAX_DISAGREEMENT_S * u64::from(self.clock_rate_hz)
    }

    fn ticks_since_last(&self, now: Time) -> u32 {
        let nanos = now.since(self.last_at).as_nanos();
        (nanos * u128::from(self.clock_rate_hz) / 1_000_000_000) as u32
    }
}

/// Whether `a` is `b` or up to half the range later.
fn is_at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

#[cfg(test)]
mod tests {
    use opencall_wire::time::NtpTime;

    use super::*;

    const RATE: u32 = 90_000;

    fn clock(tenths: u64, rtp: u32) -> SenderClock {
        SenderClock { ntp: NtpTime(((u128::from(tenths) << 32) / 10) as u64), rtp }
    }

    /// A translator in the state of the worked trace: source 95 000 went out as 1 000 000 at 0 ms.
    fn traced() -> TimestampTranslator {
        let mut translator = TimestampTranslator::new(RATE, 1_000_000);
        assert_eq!(translator.forward(Time::ZERO, 95_000), 1_000_000);
        translator
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut translator = traced();
        let now = Time::from_millis(40);
        translator.switch(now, 730_000, Some(clock(1000, 50_000)), Some(clock(1002, 700_000)));
        assert_eq!(translator.forward(now, 730_000), 1_003_000);
        assert_eq!(translator.forward(now, 733_000), 1_006_000);
        assert_eq!(translator.offset(), 1_003_000_u32.wrapping_sub(730_000));
    }

    #[test]
    fn arrival_times_serve_without_reports_or_against_false_ones() {
        let cases = [
            (None, None),
            (Some(clock(1000, 50_000)), None),
            (None, Some(clock(1002, 700_000))),
            (Some(clock(1000, 50_000)), Some(clock(9000, 700_000))),
        ];
        for (from, to) in cases {
            let mut translator = traced();
            let now = Time::from_millis(100);
            translator.switch(now, 730_000, from, to);
            assert_eq!(translator.forward(now, 730_000), 1_009_000);
        }
    }

    #[test]
    fn a_frame_from_the_past_goes_out_a_millisecond_later_and_the_push_is_forgotten() {
        let low = clock(1000, 50_000);
        let high = clock(1002, 700_000);
        let mut translator = traced();
        // Captured at 100.4, but 100.5 went out already: pushed by 9000 + 90.
        let now = Time::from_millis(10);
        translator.switch(now, 718_000, Some(low), Some(high));
        assert_eq!(translator.forward(now, 718_000), 1_000_090);
        assert_eq!(translator.forward(now, 730_000), 1_012_090);
        // Back to the low layer 0.3 s later: 100.8 is 122 000 there, by the first offset.
        let now = Time::from_millis(300);
        translator.switch(now, 122_000, Some(high), Some(low));
        assert_eq!(translator.forward(now, 122_000), 1_027_000);
    }

    #[test]
    fn a_pause_leaves_the_clock_where_it_was() {
        let mut translator = traced();
        let mut resume = |ms: u64, source: u32| {
            translator.resume(Time::from_millis(ms), source);
            translator.forward(Time::from_millis(ms), source)
        };
        assert_eq!(resume(1_400, 185_000), 1_090_000, "captured a second later, and held back");
        assert_eq!(resume(1_400, 180_000), 1_090_090, "of before the pause, sent again");
        assert_eq!(resume(1_433, 188_000), 1_093_000, "that push is forgotten");
        assert_eq!(resume(2_433, 1 << 31), 1_183_000, "the clock has jumped");
    }

    #[test]
    fn never_goes_back_whatever_the_clocks_say() {
        let mut state = 12345_u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let mut translator = TimestampTranslator::new(RATE, 0xffff_f000);
        let mut last = translator.forward(Time::ZERO, 5);
        for i in 1..10_000_u64 {
            let now = Time::from_millis(i * 33);
            let from = (random() % 2 == 0).then(|| clock(u64::from(random()), random()));
            let to = (random() % 2 == 0).then(|| clock(u64::from(random()), random()));
            let first = random();
            translator.switch(now, first, from, to);
            let out = translator.forward(now, first);
            let step = out.wrapping_sub(last);
            assert!((90..RATE * 4).contains(&step), "{step}");
            last = out;
        }
    }

    #[test]
    fn late_packets_keep_their_timestamps_and_do_not_move_the_last() {
        let mut translator = traced();
        translator.forward(Time::from_millis(33), 98_000);
        assert_eq!(translator.forward(Time::from_millis(40), 95_000), 1_000_000);
        assert_eq!(translator.last(), Some((1_003_000, Time::from_millis(33))));
    }

    #[test]
    fn a_switch_before_the_first_packet_means_nothing() {
        let mut translator = TimestampTranslator::new(48_000, 77);
        translator.switch(Time::from_millis(9), 1, None, None);
        assert_eq!(translator.last(), None);
        assert_eq!(translator.forward(Time::from_millis(9), 1), 77);
    }
}
