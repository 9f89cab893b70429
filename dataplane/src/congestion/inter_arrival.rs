//! Packets that left together are one group; what counts is how the gaps between groups change.
//!
//! A group spans 5 ms of send time, and everything that arrives in a burst behind it: a link that
//! stops for a moment delivers what it held at once, and that says nothing of its rate.
//!
//! Worked trace, one packet each 20 ms, each delayed by 2 ms more than the one before:
//!
//! ```text
//! sent     0      20     40     60
//! arrived  100    122    144    166
//! deltas   –      –      20/22  20/22     (the group before the newest against the one before it)
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use super::millis_between;

/// Send time that one group spans.
const GROUP_LENGTH: Duration = Duration::from_millis(5);
/// Packets that arrive this close behind another, ahead of their send times, are of its burst.
const BURST_GAP_MS: f64 = 5.0;
/// A burst is no longer than this.
const BURST_LENGTH_MS: f64 = 100.0;
/// When arrival times run so far ahead of ours, the receiver's clock was set.
const CLOCK_JUMP_MS: f64 = 3_000.0;
/// Groups in a row that arrived before the one they were sent after: then all is begun anew.
const REORDERED_GROUPS_MAX: u32 = 3;

/// How much later the last packet of a group was sent, and arrived, than that of the group before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deltas {
    /// Difference of send times.
    pub send_ms: f64,
    /// Difference of arrival times.
    pub arrival_ms: f64,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: Time,
    last_sent: Time,
    first_arrival: Time,
    last_arrival: Time,
    /// When we were told of its last packet.
    told: Time,
}

/// Cuts what was acknowledged into groups.
#[derive(Debug, Clone, Default)]
pub struct InterArrival {
    current: Option<Group>,
    previous: Option<Group>,
    reordered: u32,
}

impl InterArrival {
    /// Takes one packet, in the order of arrival; `told` is when feedback about it came. Returns
    /// the deltas of the last two groups when the packet begins a new one.
    pub fn on_packet(&mut self, sent: Time, arrived: Time, told: Time) -> Option<Deltas> {
        let fresh = Group {
            first_sent: sent,
            last_sent: sent,
            first_arrival: arrived,
            last_arrival: arrived,
            told,
        };
        let Some(current) = &mut self.current else {
            self.current = Some(fresh);
            return None;
        };
        if sent < current.first_sent {
            return None;
        }
        if !current.is_followed_by_new(sent, arrived) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrival = arrived;
            current.told = told;
            return None;
        }
        let finished = *current;
        let deltas = match self.previous {
            Some(previous) => Some(self.compare(&previous, &finished)?),
            None => None,
        };
        self.previous = Some(finished);
        self.current = Some(fresh);
        deltas
    }

    /// `None` when the groups cannot be compared; the packet at hand is then not counted either.
    fn compare(&mut self, previous: &Group, finished: &Group) -> Option<Deltas> {
        let arrival_ms = millis_between(finished.last_arrival, previous.last_arrival);
        let told_ms = millis_between(finished.told, previous.told);
        if arrival_ms - told_ms >= CLOCK_JUMP_MS {
            *self = InterArrival::default();
            return None;
        }
        if arrival_ms < 0.0 {
            self.reordered += 1;
            if self.reordered >= REORDERED_GROUPS_MAX {
                *self = InterArrival::default();
            }
            return None;
        }
        self.reordered = 0;
        let send_ms = millis_between(finished.last_sent, previous.last_sent);
        Some(Deltas { send_ms, arrival_ms })
    }
}

impl Group {
    fn is_followed_by_new(&self, sent: Time, arrived: Time) -> bool {
        !self.holds_burst(sent, arrived) && sent.since(self.first_sent) > GROUP_LENGTH
    }

    fn holds_burst(&self, sent: Time, arrived: Time) -> bool {
        let send_ms = millis_between(sent, self.last_sent);
        if send_ms == 0.0 {
            return true;
        }
        let arrival_ms = millis_between(arrived, self.last_arrival);
        arrival_ms < send_ms
            && arrival_ms <= BURST_GAP_MS
            && millis_between(arrived, self.first_arrival) < BURST_LENGTH_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn feed(groups: &mut InterArrival, packets: &[(u64, u64)]) -> Vec<Option<(f64, f64)>> {
        let deltas = |&(sent, arrived): &(u64, u64)| {
            let deltas = groups.on_packet(at(sent), at(arrived), at(arrived));
            deltas.map(|deltas| (deltas.send_ms, deltas.arrival_ms))
        };
        packets.iter().map(deltas).collect()
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut groups = InterArrival::default();
        let deltas = feed(&mut groups, &[(0, 100), (20, 122), (40, 144), (60, 166)]);
        assert_eq!(deltas, [None, None, Some((20.0, 22.0)), Some((20.0, 22.0))]);
    }

    #[test]
    fn packets_within_five_milliseconds_are_one_group() {
        let mut groups = InterArrival::default();
        let packets = [(0, 100), (5, 106), (20, 122), (25, 128), (40, 144)];
        let deltas = feed(&mut groups, &packets);
        assert_eq!(deltas, [None, None, None, None, Some((20.0, 22.0))]);
    }

    #[test]
    fn what_was_held_up_and_arrives_at_once_is_one_group() {
        let mut groups = InterArrival::default();
        let packets = [(0, 100), (20, 120), (40, 200), (60, 201), (80, 202), (100, 210)];
        let deltas = feed(&mut groups, &packets);
        // 40, 60 and 80 arrive in a burst; they end where its last packet ended.
        assert_eq!(deltas[2..], [Some((20.0, 20.0)), None, None, Some((60.0, 82.0))]);
    }

    #[test]
    fn a_burst_ends_after_a_tenth_of_a_second() {
        let mut groups = InterArrival::default();
        feed(&mut groups, &[(0, 0), (500, 1000)]);
        // Each is sent 10 ms after the one before and arrives 5 ms after it.
        let ended = (1..40)
            .find(|i| groups.on_packet(at(500 + i * 10), at(1000 + i * 5), at(2000)).is_some());
        assert_eq!(ended, Some(20));
    }

    #[test]
    fn a_packet_from_before_the_group_changes_nothing() {
        let mut groups = InterArrival::default();
        let packets = [(0, 100), (20, 120), (10, 125), (40, 140)];
        assert_eq!(feed(&mut groups, &packets)[3], Some((20.0, 20.0)));
    }

    #[test]
    fn three_groups_out_of_order_begin_all_anew() {
        let mut groups = InterArrival::default();
        // What arrives early joins the group before, which then ends before the one before it.
        feed(&mut groups, &[(0, 1000), (20, 1020), (40, 500), (60, 600), (80, 700)]);
        assert_eq!(groups.reordered, 2);
        feed(&mut groups, &[(100, 800)]);
        assert!(groups.reordered == 0 && groups.current.is_none());
    }

    #[test]
    fn a_receivers_clock_that_jumps_begins_all_anew() {
        let mut groups = InterArrival::default();
        groups.on_packet(at(0), at(0), at(0));
        groups.on_packet(at(20), at(20), at(20));
        groups.on_packet(at(40), at(3_041), at(40));
        assert_eq!(groups.on_packet(at(60), at(3_060), at(60)), None);
        assert!(groups.current.is_none());
    }
}
