//! How fast a bottleneck sends: at one rate, by a schedule, or as a recorded link did.

use std::time::Duration;

/// Bytes that leave with each opportunity of a trace.
const OPPORTUNITY_BYTES: u64 = 1500;

/// Lines of a file at most: an hour of a trace of 300 Mbit/s is that long.
const LINES_MAX: usize = 100_000_000;

/// The rate of a trace is the mean of so long.
const TRACE_WINDOW: Duration = Duration::from_millis(100);

/// A rate from some moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Since the link's beginning.
    pub from: Duration,
    /// Bits per second; 0 is an outage.
    pub bps: u64,
}

/// How fast a bottleneck sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rate {
    /// At once.
    Unlimited,
    /// In steps, the first of which is at the beginning, and the last of which is no outage.
    Steps(Vec<Step>),
    /// One opportunity to send 1500 bytes in each of these milliseconds, ascending; from the last
    /// one on it begins anew.
    Trace(Vec<u64>),
}

impl Rate {
    /// One that does not change, bits per second.
    pub fn constant(bps: u64) -> Self {
        Rate::Steps(vec![Step { from: Duration::ZERO, bps: bps.max(1) }])
    }

    /// Reads a schedule: lines of seconds and kbit/s, from second 0 on; `#` begins a comment.
    ///
    /// # Errors
    /// Which line is wrong, and how it should be.
    pub fn parse_steps(text: &str) -> Result<Self, String> {
        let mut steps: Vec<Step> = Vec::new();
        for (number, line) in lines(text) {
            let wrong = |what: &str| Err(format!("line {number}, \"{line}\": {what}"));
            let numbers: Vec<Option<f64>> =
                line.split_whitespace().map(|word| word.parse().ok()).collect();
            let &[Some(seconds), Some(kbps)] = &numbers[..] else {
                return wrong("write seconds and kbit/s");
            };
            if !(0.0..=1e7).contains(&seconds) || !(0.0..=1e9).contains(&kbps) {
                return wrong("seconds go up to 10^7, kbit/s to 10^9");
            }
            let step = Step { from: Duration::from_secs_f64(seconds), bps: (kbps * 1e3) as u64 };
            match steps.last() {
                None if seconds > 0.0 => return wrong("the first line is about second 0"),
                Some(last) if step.from <= last.from => return wrong("times must ascend"),
                _ => steps.push(step),
            }
        }
        match steps.last() {
            None => Err("it says no rate; write lines of seconds and kbit/s".to_owned()),
            Some(Step { bps: 0, .. }) => {
                Err("it ends with a rate of 0, and nothing would ever come through".to_owned())
            }
            Some(_) => Ok(Rate::Steps(steps)),
        }
    }

    /// Reads a Mahimahi trace: on each line the millisecond of an opportunity to send 1500 bytes.
    ///
    /// # Errors
    /// Which line is wrong, and how it should be.
    pub fn parse_trace(text: &str) -> Result<Self, String> {
        let mut opportunities: Vec<u64> = Vec::new();
        for (number, line) in lines(text) {
            let Some(at) = line.parse().ok().filter(|at| *at <= 10_000_000_000) else {
                return Err(format!("line {number}, \"{line}\": write one whole millisecond"));
            };
            if opportunities.last().is_some_and(|last| at < *last) {
                return Err(format!("line {number}, \"{line}\": milliseconds must not descend"));
            }
            opportunities.push(at);
        }
        match opportunities.last() {
            None | Some(0) => Err("it ends before its first millisecond".to_owned()),
            Some(_) => Ok(Rate::Trace(opportunities)),
        }
    }

    /// Bits per second at a moment.
    pub fn bps(&self, at: Duration) -> Option<u64> {
        match self {
            Rate::Unlimited => None,
            Rate::Steps(steps) => Some(steps[index_of(steps, at)].bps),
            Rate::Trace(opportunities) => {
                let from = at.saturating_sub(TRACE_WINDOW);
                let count = count_before(opportunities, at) - count_before(opportunities, from);
                let bits = count * OPPORTUNITY_BYTES * 8;
                Some((bits as f64 / (at - from).as_secs_f64().max(1e-3)) as u64)
            }
        }
    }
}

/// Which line is what, without comments and empty ones.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bare = text.lines().take(LINES_MAX).map(|line| line.split('#').next().unwrap_or("").trim());
    (1..).zip(bare).filter(|(_, line)| !line.is_empty())
}

fn index_of(steps: &[Step], at: Duration) -> usize {
    steps.partition_point(|step| step.from <= at).saturating_sub(1)
}

/// The length of a trace, milliseconds.
fn period_ms(opportunities: &[u64]) -> u64 {
    opportunities.last().copied().unwrap_or(1).max(1)
}

/// Opportunities of a trace that are before a moment.
fn count_before(opportunities: &[u64], at: Duration) -> u64 {
    let period = period_ms(opportunities);
    // The one at a fraction of a millisecond past its own is before.
    let Some(last_ms) = (at.as_nanos().div_ceil(1_000_000) as u64).checked_sub(1) else { return 0 };
    let (rounds, rest) = (last_ms / period, last_ms % period);
    let in_round = opportunities.partition_point(|ms| *ms <= rest) as u64;
    rounds * opportunities.len() as u64 + in_round
}

/// A bottleneck's way of sending, one packet after the other.
#[derive(Debug, Clone)]
pub struct Sender {
    rate: Rate,
    /// When the last bit of the newest packet has left.
    free_at: Duration,
    /// Of a trace: how many opportunities were taken or missed, and what the newest has room for.
    taken: u64,
    spare_bytes: u64,
}

impl Sender {
    /// One that has sent nothing.
    pub fn new(rate: Rate) -> Self {
        Sender { rate, free_at: Duration::ZERO, taken: 0, spare_bytes: 0 }
    }

    /// How fast it sends.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// From now on it sends so fast; what was taken leaves as it would have.
    pub fn set_rate(&mut self, rate: Rate) {
        (self.rate, self.taken, self.spare_bytes) = (rate, 0, 0);
    }

    /// When everything that it has taken has left.
    pub fn free_at(&self) -> Duration {
        self.free_at
    }

    /// Takes a packet at `now`, which is not before the last one; when its last bit has left.
    pub fn send(&mut self, now: Duration, bytes: u64) -> Duration {
        let sent_at = match &self.rate {
            Rate::Unlimited => now,
            Rate::Steps(steps) => sent_at(steps, self.free_at.max(now), bytes),
            Rate::Trace(_) => self.take_opportunities(now, bytes),
        };
        self.free_at = self.free_at.max(sent_at);
        self.free_at
    }

    fn take_opportunities(&mut self, now: Duration, mut bytes: u64) -> Duration {
        let Rate::Trace(opportunities) = &self.rate else { return now };
        // What nobody waited for is gone.
        let missed = count_before(opportunities, now);
        if missed >= self.taken && self.free_at < now {
            (self.taken, self.spare_bytes) = (missed, 0);
        }
        while self.spare_bytes < bytes {
            bytes -= self.spare_bytes;
            self.spare_bytes = OPPORTUNITY_BYTES;
            self.taken += 1;
        }
        self.spare_bytes -= bytes;
        let (count, newest) = (opportunities.len() as u64, self.taken.saturating_sub(1));
        let in_round = opportunities[(newest % count) as usize];
        Duration::from_millis(newest / count * period_ms(opportunities) + in_round)
    }
}

/// When so many bytes have left that begin to at `start`.
fn sent_at(steps: &[Step], start: Duration, bytes: u64) -> Duration {
    let (mut at, mut bits) = (start, bytes as f64 * 8.0);
    let mut index = index_of(steps, at);
    loop {
        let bps = steps[index].bps as f64;
        match steps.get(index + 1) {
            Some(next) if bps * (next.from - at).as_secs_f64() < bits => {
                bits -= bps * (next.from - at).as_secs_f64();
                (at, index) = (next.from, index + 1);
            }
            _ => return at + Duration::from_secs_f64(bits / bps.max(1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_schedule_is_read_and_what_is_wrong_with_it_is_said() {
        let read = Rate::parse_steps("0 1000\n# worse\n\n40.5\t400 # kbit/s\n").unwrap();
        let at = |seconds: f64| read.bps(Duration::from_secs_f64(seconds));
        assert_eq!(
            [at(0.0), at(40.4), at(40.5)],
            [Some(1_000_000), Some(1_000_000), Some(400_000)]
        );
        for (text, error) in [
            ("", "it says no rate"),
            ("1 500", "line 1, \"1 500\": the first line"),
            ("0 500\n0 400", "line 2, \"0 400\": times must ascend"),
            ("0 500 1", "write seconds and kbit/s"),
            ("0 x", "line 1, \"0 x\": write seconds"),
            ("0 -1", "seconds go up to"),
            ("0 nan", "seconds go up to"),
            ("0 500\n3 0", "it ends with a rate of 0"),
        ] {
            let said = Rate::parse_steps(text).unwrap_err();
            assert!(said.contains(error) && !said.contains('\n'), "{text}: {said}");
        }
    }

    #[test]
    fn a_trace_is_read_and_what_is_wrong_with_it_is_said() {
        assert_eq!(Rate::parse_trace("1\n1\n3\n"), Ok(Rate::Trace(vec![1, 1, 3])));
        for (text, error) in [
            ("", "it ends before"),
            ("0", "it ends before"),
            ("3\n2", "line 2, \"2\": milliseconds must not descend"),
            ("1.5", "line 1, \"1.5\": write one whole"),
            ("-1", "write one whole"),
        ] {
            let said = Rate::parse_trace(text).unwrap_err();
            assert!(said.contains(error), "{text}: {said}");
        }
    }

    #[test]
    fn a_packet_on_its_way_meets_a_fall_and_an_outage() {
        let mut sender = Sender::new(Rate::parse_steps("0 8000\n0.001 0\n0.010 800").unwrap());
        // 1000 bytes a millisecond; the second is cut in half by ten milliseconds of nothing.
        assert_eq!(sender.send(Duration::ZERO, 500), MS / 2);
        assert_eq!(sender.send(Duration::ZERO, 1_000), 15 * MS);
        assert_eq!(sender.send(20 * MS, 100), 21 * MS);
    }

    #[test]
    fn a_trace_sends_when_it_did_and_begins_anew() {
        let mut sender = Sender::new(Rate::Trace(vec![2, 2, 5, 10]));
        // Two small ones share the first opportunity, the third takes most of the second.
        let at: Vec<Duration> =
            [700, 700, 1500].iter().map(|bytes| sender.send(MS, *bytes)).collect();
        assert_eq!(at, [2 * MS; 3]);
        // Nobody waited at 5; the next round begins at 10.
        assert_eq!(sender.send(6 * MS, 1500), 10 * MS);
        assert_eq!(sender.send(6 * MS, 1500), 12 * MS);
        assert_eq!(sender.send(13 * MS, 1500), 15 * MS);
        assert_eq!(sender.send(91 * MS, 1500), 92 * MS);
        assert_eq!(sender.send(100 * MS, 1500), 100 * MS);
    }

    #[test]
    fn a_trace_has_the_mean_that_its_lines_have() {
        let rate = Rate::Trace((1..=1_000).filter(|ms| ms % 3 == 0).chain([1_000]).collect());
        let bps = rate.bps(Duration::from_secs(5)).unwrap();
        assert!((3_900_000..4_100_000).contains(&bps), "{bps}");
        let mut sender = Sender::new(rate);
        let mut sent = 0_u32;
        while sender.send(Duration::ZERO, 1500) <= Duration::from_secs(10) {
            sent += 1;
        }
        assert!((3_330..3_350).contains(&sent), "{sent}");
    }
}
