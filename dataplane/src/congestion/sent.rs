//! What was sent, by transport-wide sequence number: eight bytes for each packet.
//!
//! The ring holds what feedback may still come for: three seconds of packets, and at least its
//! smallest size. It begins with 256 records when the first packet leaves and doubles, up to 8192,
//! when a record would be overwritten that is younger than that. Records older than a minute are
//! not answered for, so that the time of 32 bits, in microseconds, is never ambiguous.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// Records of the first ring: 2 KiB.
const RECORDS_MIN: usize = 256;
/// Records of the largest: 64 KiB, three seconds of 26 Mbit/s.
const RECORDS_MAX: usize = 8192;
/// A ring that would forget a packet so young grows.
const KEPT_AT_LEAST: Duration = Duration::from_secs(3);
/// Nothing older is answered for.
const HISTORY: Duration = Duration::from_secs(60);

/// Most losses that can be told apart by the period they were reported in.
const PERIODS: u8 = 0x7f;
/// What is known of a packet; [`LOST`] carries the period in its lower bits.
const VACANT: u8 = 0;
const PENDING: u8 = 1;
const ARRIVED: u8 = 2;
const LOST: u8 = 0x80;

#[derive(Debug, Clone, Copy)]
struct Record {
    at_micros: u32,
    bytes: u16,
    /// 0 for none.
    cluster: u8,
    state: u8,
}

const NO_RECORD: Record = Record { at_micros: 0, bytes: 0, cluster: 0, state: VACANT };
const _: () = assert!(size_of::<Record>() == 8);

/// A packet that feedback tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPacket {
    /// When it left.
    pub sent: Time,
    /// Bytes of it, headers and all.
    pub bytes: u32,
    /// The probe it belongs to.
    pub cluster: Option<u8>,
    /// Whether it was reported lost before, in the period at hand.
    pub lost_before: bool,
}

/// What feedback says about a packet, held against what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// News about this packet.
    News(SentPacket),
    /// Said before; or of a packet from before the first one here, which another core sent.
    Known,
    /// Nothing is known of such a packet.
    Unmatched,
}

/// The ring.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    records: Vec<Record>,
    /// Extended number of the oldest record, and the one after the newest.
    first: u64,
    next: u64,
    /// The first one ever.
    born: u64,
    newest_at: Time,
}

impl Sent {
    /// Notes a packet that leaves. Numbers are to follow one another: one that does not come after
    /// the newest is not noted.
    pub fn push(&mut self, now: Time, sequence: u16, bytes: usize, cluster: Option<u8>) {
        if self.records.is_empty() {
            self.records = vec![NO_RECORD; RECORDS_MIN];
            // A cycle up, so that there are numbers before it.
            self.next = u64::from(sequence) + 0x1_0000;
            self.first = self.next;
            self.born = self.next;
        }
        let skipped = sequence.wrapping_sub(self.next as u16);
        if skipped >= 0x8000 {
            return;
        }
        if usize::from(skipped) >= RECORDS_MIN || now.since(self.newest_at) > HISTORY {
            self.next += u64::from(skipped);
            self.first = self.next;
        } else {
            for _ in 0..skipped {
                self.put(now, NO_RECORD);
            }
        }
        self.newest_at = self.newest_at.max(now);
        let record = Record {
            at_micros: micros(self.newest_at),
            bytes: u16::try_from(bytes).unwrap_or(u16::MAX),
            cluster: cluster.unwrap_or(0),
            state: PENDING,
        };
        self.put(now, record);
    }

    /// Takes word that a packet arrived.
    pub fn on_arrived(&mut self, sequence: u16, period: u8) -> Matched {
        self.on_word(sequence, ARRIVED, period)
    }

    /// Takes word that a packet did not arrive; `period` is what [`SentPacket::lost_before`] is
    /// about.
    pub fn on_lost(&mut self, sequence: u16, period: u8) -> Matched {
        self.on_word(sequence, LOST | period & PERIODS, period)
    }

    /// When the newest packet left.
    pub fn newest_at(&self) -> Time {
        self.newest_at
    }

    fn on_word(&mut self, sequence: u16, state: u8, period: u8) -> Matched {
        let behind = (self.next as u16).wrapping_sub(sequence);
        let number = self.next.wrapping_sub(u64::from(behind));
        if self.records.is_empty() || behind != 0 && number < self.born {
            return Matched::Known;
        }
        if behind == 0 || number < self.first {
            return Matched::Unmatched;
        }
        let newest_at = self.newest_at;
        let record = self.record_mut(number);
        let age_micros = micros(newest_at).wrapping_sub(record.at_micros);
        let age = Duration::from_micros(u64::from(age_micros));
        let before = record.state;
        if before == VACANT || age > HISTORY {
            return Matched::Unmatched;
        }
        if before == ARRIVED || before & LOST != 0 && state & LOST != 0 {
            return Matched::Known;
        }
        record.state = state;
        Matched::News(SentPacket {
            sent: newest_at - age,
            bytes: u32::from(record.bytes),
            cluster: (record.cluster != 0).then_some(record.cluster),
            lost_before: before == LOST | period & PERIODS,
        })
    }

    fn put(&mut self, now: Time, record: Record) {
        if self.next - self.first == self.records.len() as u64 {
            let oldest = self.record_mut(self.first).at_micros;
            let age = Duration::from_micros(u64::from(micros(now).wrapping_sub(oldest)));
            if age < KEPT_AT_LEAST && self.records.len() < RECORDS_MAX {
                self.grow();
            } else {
                self.first += 1;
            }
        }
        let number = self.next;
        *self.record_mut(number) = record;
        self.next += 1;
    }

    /// Doubles the ring. The one allocation after the first, five times at most.
    fn grow(&mut self) {
        let mut records = vec![NO_RECORD; self.records.len() * 2];
        for number in self.first..self.next {
            records[number as usize & (self.records.len() * 2 - 1)] = *self.record_mut(number);
        }
        self.records = records;
    }

    fn record_mut(&mut self, number: u64) -> &mut Record {
        let mask = self.records.len() - 1;
        &mut self.records[number as usize & mask]
    }
}

fn micros(time: Time) -> u32 {
    time.as_micros() as u32
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtp::test_support::Random;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn news(matched: Matched) -> Option<(Time, u32)> {
        match matched {
            Matched::News(packet) => Some((packet.sent, packet.bytes)),
            _ => None,
        }
    }

    #[test]
    fn a_packet_is_found_once() {
        let mut sent = Sent::default();
        assert_eq!(sent.on_arrived(7, 0), Matched::Known, "nothing was sent: not by us");
        sent.push(at(1_000), 65_535, 1200, None);
        sent.push(at(1_005), 0, 100, Some(3));
        let packet =
            SentPacket { sent: at(1_005), bytes: 100, cluster: Some(3), lost_before: false };
        assert_eq!(sent.on_arrived(0, 0), Matched::News(packet));
        assert_eq!(sent.on_arrived(0, 0), Matched::Known);
        assert_eq!(news(sent.on_arrived(65_535, 0)), Some((at(1_000), 1200)));
        assert_eq!(sent.on_arrived(1, 0), Matched::Unmatched, "not sent yet");
        for before in [2, 40_000, 65_534] {
            assert_eq!(sent.on_arrived(before, 0), Matched::Known, "a core before may have");
        }
    }

    #[test]
    fn lost_packets_may_still_arrive() {
        let mut sent = Sent::default();
        for sequence in 1..=2 {
            sent.push(at(0), sequence, 1200, None);
            assert!(news(sent.on_lost(sequence, 5)).is_some());
            assert_eq!(sent.on_lost(sequence, 5), Matched::Known);
        }
        let before = |matched| matches!(matched, Matched::News(packet) if packet.lost_before);
        assert!(before(sent.on_arrived(1, 5)));
        assert!(!before(sent.on_arrived(2, 6)), "lost in another period");
    }

    #[test]
    fn the_ring_grows_with_the_rate_and_no_further_than_it_may() {
        for (packets_per_second, records) in [(50, 256), (200, 1024), (500, 2048), (9_000, 8192)] {
            let mut sent = Sent::default();
            for index in 0..packets_per_second * 10_u64 {
                let now = Time::from_nanos(index * 1_000_000_000 / packets_per_second);
                sent.push(now, index as u16, 1200, None);
            }
            assert_eq!(sent.records.len(), records, "at {packets_per_second}/s");
        }
    }

    #[test]
    fn skipped_numbers_and_long_silences() {
        let mut sent = Sent::default();
        sent.push(at(0), 10, 1, None);
        sent.push(at(1), 13, 2, None);
        assert_eq!(sent.on_arrived(11, 0), Matched::Unmatched);
        assert!(news(sent.on_arrived(10, 0)).is_some());
        sent.push(at(2), 12, 3, None);
        assert_eq!(sent.on_arrived(12, 0), Matched::Unmatched, "numbers never go back");
        sent.push(at(70_000), 14, 4, None);
        assert_eq!(sent.on_arrived(13, 0), Matched::Unmatched, "over a minute old");
        sent.push(at(70_001), 30_000, 5, None);
        assert_eq!(sent.on_arrived(14, 0), Matched::Unmatched);
        assert_eq!(news(sent.on_arrived(30_000, 0)), Some((at(70_001), 5)));
    }

    #[test]
    fn agrees_with_a_map_whatever_happens() {
        let mut random = Random(3);
        for _ in 0..20 {
            let mut sent = Sent::default();
            let mut model = std::collections::HashMap::new();
            let (mut now, mut sequence) = (0, random.bits() as u16);
            for _ in 0..20_000 {
                now += random.below(4_000) as u64;
                let bytes = random.below(1_500);
                let time = Time::from_nanos(now * 1_000);
                sent.push(time, sequence, bytes, None);
                model.insert(sequence, (time, bytes as u32));
                sequence = sequence.wrapping_add(1);
                let asked = sequence.wrapping_sub(random.below(200) as u16 + 1);
                let expected = model.remove(&asked);
                assert_eq!(news(sent.on_arrived(asked, 0)), expected);
            }
        }
    }
}
