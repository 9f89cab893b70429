//! Transport-wide feedback of a client on what it receives
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::BTreeMap;

use opencall_wire::rtcp;
use opencall_wire::time::Time;

/// Packets that one feedback tells of at most.
const MAX_PACKETS: usize = 400;

/// Arrivals on one transport since the last feedback.
#[derive(Default)]
pub struct Arrivals {
    highest: Option<u64>,
    arrivals: BTreeMap<u64, Time>,
    next: Option<u64>,
    count: u8,
}

impl Arrivals {
    /// A packet with this transport-wide number has arrived.
    pub fn note(&mut self, now: Time, sequence: u16) {
        let highest = *self.highest.get_or_insert(0x10000 | u64::from(sequence));
        let step = sequence.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(step.into());
        self.highest = Some(highest.max(extended));
        if self.next.is_none_or(|next| extended >= next) {
            self.arrivals.entry(extended).or_insert(now);
        }
    }

    /// Writes feedback on what has arrived, if anything has.
    pub fn write(&mut self, writer: &mut rtcp::Writer<'_>) {
        let (Some((&first, &begin)), Some((&last, _))) =
            (self.arrivals.first_key_value(), self.arrivals.last_key_value())
        else {
            return;
        };
        let base = self.next.unwrap_or(first).max(last.saturating_sub(MAX_PACKETS as u64));
        let reference = begin.as_millis() / 64;
        let mut before = reference * 64 * 4;
        let arrivals: Vec<Option<i32>> = (base..=last)
            .map(|sequence| {
                let at = self.arrivals.get(&sequence)?.as_micros() / 250;
                let delta = at as i64 - before as i64;
                before = at;
                Some(delta as i32)
            })
            .collect();
        let reference = (reference & 0x7f_ffff) as i32;
        let _ = writer.transport_cc(1, 0, self.count, base as u16, reference, &arrivals);
        self.count = self.count.wrapping_add(1);
        self.next = Some(last + 1);
        self.arrivals.clear();
    }
}
