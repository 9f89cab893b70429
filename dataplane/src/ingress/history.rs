//! Packets kept for retransmission: one ring per encoding, shared by all its consumers.
//!
//! Bytes lie in a ring in the order of insertion; an entry never goes round its end. Each entry is
//!
//! ```text
//! ┌──────── header ────────┬─ 2 spare ─┬──────── payload ────────┐
//! ```
//!
//! and the spare bytes take the original sequence number (RFC 4588 section 4), so that a
//! retransmission is sealed out of place straight from here: its plaintext is contiguous.
//!
//! Positions count written bytes and never wrap; an entry is intact while its first byte lies no
//! more than the capacity behind the write position. Nothing is ever evicted by hand.
//!
//! Worked trace, capacity 100, three packets of 40 bytes in all: at positions 0 and 40; the third
//! would cross the end at 100, so it starts at 100 (place 0) and the write position is 140. The
//! first, from 0, is now more than 100 behind: gone. The second, from 40, is still whole.
//!
//! Both rings start small and double while they would overwrite something younger than [`KEEP`],
//! up to their bounds. Measured with 16 bytes of `meta`: an idle producer holds nothing, a voice
//! 11 KiB, a thumbnail of 100 kbit/s 18 KiB, 300 kbit/s 68 KiB, 1 Mbit/s 270 KiB, and from
//! 2.5 Mbit/s on all of 428 KiB.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::mtu::RTP_PACKET_MAX;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

/// How long a packet should stay: receivers give up a second after they miss it, and the request
/// takes its way. Rings grow for this and not beyond it.
pub const KEEP: Duration = Duration::from_millis(1250);

/// Bounds for a video encoding: 512 packets are 1.2 s at 4 Mbit/s.
pub const VIDEO_PACKETS: usize = 512;
/// Bytes for a video encoding: 400 KiB are 1.2 s at 2.7 Mbit/s.
pub const VIDEO_BYTES: usize = 400 << 10;
/// Bounds for audio: 64 packets of 20 ms are 1.3 s.
pub const AUDIO_PACKETS: usize = 64;
/// Bytes for audio: 1.3 s at 200 kbit/s.
pub const AUDIO_BYTES: usize = 32 << 10;

/// Room for the original sequence number of RFC 4588.
pub const SPARE_BYTES: usize = 2;

/// Where rings begin.
const FIRST_PACKETS: usize = 32;
const FIRST_BYTES: usize = 4 << 10;

/// Pieces of the byte ring whose age is known.
const REGIONS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Slot<M> {
    sequence: ExtendedSeq,
    at: Time,
    position: u64,
    header_len: u16,
    payload_len: u16,
    meta: M,
}

impl<M> Slot<M> {
    fn len(&self) -> usize {
        usize::from(self.header_len) + SPARE_BYTES + usize::from(self.payload_len)
    }
}

/// A packet in the history.
#[derive(Debug)]
pub struct StoredPacket<'a, M> {
    /// What was stored with it.
    pub meta: M,
    /// When it was stored.
    pub at: Time,
    /// The RTP header as it was given, extensions included.
    pub header: &'a [u8],
    /// Two spare bytes for the original sequence number, and the payload.
    pub rtx_payload: &'a mut [u8],
}

impl<M> StoredPacket<'_, M> {
    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.rtx_payload[SPARE_BYTES..]
    }
}

/// The last packets of one encoding.
#[derive(Debug)]
pub struct History<M> {
    max_packets: usize,
    max_bytes: usize,
    /// Slot of number n at n modulo the length, a power of two.
    slots: Vec<Option<Slot<M>>>,
    bytes: Vec<u8>,
    /// Where the next byte goes, counted since the beginning.
    head: u64,
    /// When the write position last entered each eighth of the bytes: the age of what the next
    /// round overwrites, without looking for it.
    entered: [Option<Time>; REGIONS],
}

impl<M: Copy> History<M> {
    /// A history of at most `max_packets` packets (rounded up to a power of two) in at most
    /// `max_bytes` bytes. Allocates with the first packet.
    pub fn new(max_packets: usize, max_bytes: usize) -> Self {
        History {
            max_packets: max_packets.max(1).next_power_of_two(),
            max_bytes: max_bytes.max(RTP_PACKET_MAX + SPARE_BYTES),
            slots: Vec::new(),
            bytes: Vec::new(),
            head: 0,
            entered: [None; REGIONS],
        }
    }

    /// Stores a packet; the oldest make room. Not stored, and `false`: what is larger than
    /// [`RTP_PACKET_MAX`], or older than what has its place.
    #[inline]
    pub fn insert(
        &mut self,
        now: Time,
        sequence: ExtendedSeq,
        meta: M,
        header: &[u8],
        payload: &[u8],
    ) -> bool {
        if header.len() + payload.len() > RTP_PACKET_MAX {
            return false;
        }
        let slot = Slot {
            sequence,
            at: now,
            position: 0,
            header_len: header.len() as u16,
            payload_len: payload.len() as u16,
            meta,
        };
        self.make_slots(now, sequence);
        self.make_bytes(now, slot.len());
        let index = self.index(sequence);
        if self.slots[index].is_some_and(|held| held.sequence > sequence) {
            return false;
        }
        let position = self.take(now, slot.len());
        let start = (position % self.bytes.len() as u64) as usize;
        let (to_header, rest) = self.bytes[start..start + slot.len()].split_at_mut(header.len());
        to_header.copy_from_slice(header);
        rest[SPARE_BYTES..].copy_from_slice(payload);
        self.slots[index] = Some(Slot { position, ..slot });
        true
    }

    /// The packet of this number, if it is still here.
    pub fn entry(&mut self, sequence: ExtendedSeq) -> Option<StoredPacket<'_, M>> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.index(sequence)].filter(|slot| slot.sequence == sequence)?;
        if !is_intact(&slot, self.head, self.bytes.len()) {
            return None;
        }
        let start = (slot.position % self.bytes.len() as u64) as usize;
        let entry = &mut self.bytes[start..start + slot.len()];
        let (header, rtx_payload) = entry.split_at_mut(usize::from(slot.header_len));
        Some(StoredPacket { meta: slot.meta, at: slot.at, header, rtx_payload })
    }

    /// Forgets all packets and gives their memory back.
    pub fn clear(&mut self) {
        *self = History::new(self.max_packets, self.max_bytes);
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.slots.len() * size_of::<Option<Slot<M>>>()
    }

    fn index(&self, sequence: ExtendedSeq) -> usize {
        (sequence.0 % self.slots.len() as u64) as usize
    }

    /// Doubles the slots while the place of `sequence` is taken by something that should stay.
    #[inline]
    fn make_slots(&mut self, now: Time, sequence: ExtendedSeq) {
        while self.slots.len() < self.max_packets {
            if !self.slots.is_empty() {
                let held = self.slots[self.index(sequence)];
                let stays =
                    held.is_some_and(|held| held.sequence != sequence && now.since(held.at) < KEEP);
                if !stays {
                    return;
                }
            }
            let len = (self.slots.len() * 2).max(FIRST_PACKETS).min(self.max_packets);
            let old = std::mem::replace(&mut self.slots, vec![None; len]);
            for slot in old.into_iter().flatten() {
                let index = self.index(slot.sequence);
                self.slots[index] = Some(slot);
            }
        }
    }

    /// Doubles the bytes while `len` more would overwrite something that should stay.
    #[inline]
    fn make_bytes(&mut self, now: Time, len: usize) {
        while self.bytes.len() < self.max_bytes {
            if self.bytes.len() >= len && !self.overwrites_young(now, len) {
                return;
            }
            let capacity = (self.bytes.len() * 2).max(FIRST_BYTES).min(self.max_bytes);
            self.grow_bytes(capacity);
        }
    }

    /// Whether `len` more bytes would enter a region that was begun, the round before, too lately.
    fn overwrites_young(&self, now: Time, len: usize) -> bool {
        let capacity = self.bytes.len();
        let position = place(self.head, len, capacity);
        entered_regions(self.head, position, len, capacity)
            .any(|region| self.entered[region].is_some_and(|at| now.since(at) < KEEP))
    }

    /// Takes `len` bytes at the write position; where they start.
    #[inline]
    fn take(&mut self, at: Time, len: usize) -> u64 {
        let capacity = self.bytes.len();
        let position = place(self.head, len, capacity);
        for region in entered_regions(self.head, position, len, capacity) {
            self.entered[region] = Some(at);
        }
        self.head = position + len as u64;
        position
    }

    /// Moves what is intact to a larger ring, oldest first.
    fn grow_bytes(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.bytes, vec![0; capacity]);
        let old_head = std::mem::replace(&mut self.head, 0);
        self.entered = [None; REGIONS];
        let mut intact = Vec::with_capacity(self.slots.len());
        for (index, held) in self.slots.iter_mut().enumerate() {
            match held {
                Some(slot) if is_intact(slot, old_head, old.len()) => {
                    intact.push((slot.position, index));
                }
                _ => *held = None,
            }
        }
        intact.sort_unstable();
        for (old_position, index) in intact {
            let Some(mut slot) = self.slots[index] else { continue };
            slot.position = self.take(slot.at, slot.len());
            let from = (old_position % old.len() as u64) as usize;
            let to = slot.position as usize;
            self.bytes[to..to + slot.len()].copy_from_slice(&old[from..from + slot.len()]);
            self.slots[index] = Some(slot);
        }
    }
}

/// Where an entry of `len` bytes goes: at `head`, or at the start of the next round if it would
/// cross the end.
fn place(head: u64, len: usize, capacity: usize) -> u64 {
    let offset = head % capacity as u64;
    if offset + len as u64 <= capacity as u64 { head } else { head - offset + capacity as u64 }
}

fn is_intact<M>(slot: &Slot<M>, head: u64, capacity: usize) -> bool {
    slot.position + capacity as u64 >= head
}

/// The regions that an entry of `len` bytes at `position` is the first of its round to touch, when
/// the one before it ended at `head`.
fn entered_regions(
    head: u64,
    position: u64,
    len: usize,
    capacity: usize,
) -> impl Iterator<Item = usize> {
    let size = capacity.div_ceil(REGIONS) as u64;
    let round = position - position % capacity as u64;
    let offset = position - round;
    let last = (offset + (len as u64).max(1) - 1) / size;
    // The first region is entered if nothing of this round lies in it yet.
    let begun = head > round && (head - 1 - round) / size >= offset / size;
    let first = offset / size + u64::from(begun);
    (first..=last).map(|region| region as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// A payload that tells its number and length.
    fn payload(n: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (n as u8).wrapping_add(i as u8)).collect()
    }

    fn stored(history: &mut History<u32>, n: u64) -> Option<Vec<u8>> {
        history.entry(ExtendedSeq(n)).map(|packet| packet.payload().to_vec())
    }

    #[test]
    fn gives_back_header_spare_bytes_and_payload() {
        let mut history = History::new(AUDIO_PACKETS, AUDIO_BYTES);
        assert!(history.entry(ExtendedSeq(7)).is_none());
        assert!(history.insert(at(5), ExtendedSeq(7), 42_u32, &[1, 2, 3], &[4, 5]));
        let packet = history.entry(ExtendedSeq(7)).unwrap();
        assert_eq!((packet.meta, packet.at, packet.header), (42, at(5), &[1, 2, 3][..]));
        packet.rtx_payload[..2].copy_from_slice(&[9, 9]);
        assert_eq!(packet.rtx_payload, [9, 9, 4, 5]);
        assert_eq!(stored(&mut history, 7).unwrap(), [4, 5], "the spare bytes are no payload");
        assert!(stored(&mut history, 8).is_none());
        assert!(stored(&mut history, 7 + 32).is_none(), "same slot, other number");
    }

    #[test]
    fn places_follow_the_worked_trace() {
        assert_eq!([place(0, 40, 100), place(40, 40, 100), place(80, 40, 100)], [0, 40, 100]);
        assert_eq!(place(60, 40, 100), 60, "up to the very end");
        let entry = |position| Slot {
            sequence: ExtendedSeq(0),
            at: Time::ZERO,
            position,
            header_len: 12,
            payload_len: 26,
            meta: (),
        };
        assert!(!is_intact(&entry(0), 140, 100));
        assert!(is_intact(&entry(40), 140, 100));
    }

    #[test]
    fn regions_are_entered_once_a_round() {
        let regions =
            |head, position, len| entered_regions(head, position, len, 800).collect::<Vec<_>>();
        assert_eq!(regions(0, 0, 50), [0]);
        assert_eq!(regions(50, 50, 50), [0; 0]);
        assert_eq!(regions(100, 100, 250), [1, 2, 3]);
        assert_eq!(regions(350, 350, 51), [4]);
        assert_eq!(regions(790, 800, 101), [0, 1], "next round, after a piece left free");
        assert_eq!(regions(800, 800, 10), [0], "next round, to the byte");
    }

    #[test]
    fn whatever_is_held_is_whole_and_the_latest_always_is() {
        let mut history = History::new(64, 10_000);
        // Sizes and order without a pattern that fits the ring (a small multiplicative generator).
        let mut state = 0x2545_f491_u32;
        let mut lens = vec![0; 20_000];
        for n in 0..20_000_u64 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let len = (state >> 16) as usize % 1480;
            lens[n as usize] = len;
            let header = payload(n + 1, 12 + (state >> 8) as usize % 8);
            assert!(history.insert(at(n), ExtendedSeq(n), n as u32, &header, &payload(n, len)));
            for back in 0..80.min(n + 1) {
                let number = n - back;
                let Some(packet) = history.entry(ExtendedSeq(number)) else {
                    assert!(back > 4, "six of the largest fit");
                    continue;
                };
                assert_eq!(packet.meta, number as u32);
                assert_eq!(packet.payload(), payload(number, lens[number as usize]));
                assert_eq!(packet.header, payload(number + 1, packet.header.len()));
            }
        }
        assert_eq!(history.bytes.len(), 10_000);
        assert_eq!(history.slots.len(), 64);
    }

    #[test]
    fn late_packets_are_kept_but_never_instead_of_newer_ones() {
        let mut history = History::new(32, 64 << 10);
        for n in [100, 102, 101] {
            assert!(history.insert(at(0), ExtendedSeq(n), 0_u32, &[], &payload(n, 10)));
        }
        assert_eq!(stored(&mut history, 101).unwrap(), payload(101, 10));
        assert!(!history.insert(at(0), ExtendedSeq(101 - 32), 0, &[], &[]));
        assert_eq!(stored(&mut history, 101).unwrap(), payload(101, 10));
    }

    #[test]
    fn sizes_at_the_limits() {
        let mut history = History::new(4, 0);
        const LONGEST: usize = RTP_PACKET_MAX - 12;
        assert!(!history.insert(at(0), ExtendedSeq(1), (), &[0; 12], &[0; LONGEST + 1]));
        assert!(history.insert(at(0), ExtendedSeq(1), (), &[0; 12], &[7; LONGEST]));
        assert_eq!(history.entry(ExtendedSeq(1)).unwrap().payload(), [7; LONGEST]);
        assert!(history.insert(at(0), ExtendedSeq(2), (), &[], &[]));
        assert_eq!(history.entry(ExtendedSeq(2)).unwrap().rtx_payload.len(), 2);
        assert!(history.entry(ExtendedSeq(1)).is_none(), "one of the largest, and no more");
    }

    /// Runs a stream of `pps` packets of `len` bytes for 30 s; the memory it ends with, and the
    /// age in milliseconds of the oldest packet still held.
    fn run(packets: usize, bytes: usize, pps: u64, len: usize) -> (usize, u64) {
        let mut history = History::new(packets, bytes);
        assert_eq!(history.memory_bytes(), 0, "nothing before the first packet");
        let last = pps * 30;
        for n in 0..=last {
            history.insert(at(n * 1000 / pps), ExtendedSeq(n), [0_u64; 2], &[0; 20], &vec![0; len]);
        }
        let oldest = (0..=last).find(|&n| history.entry(ExtendedSeq(n)).is_some()).unwrap();
        (history.memory_bytes(), (last - oldest) * 1000 / pps)
    }

    #[test]
    fn memory_follows_the_rate_and_packets_stay_for_their_time() {
        let slot = size_of::<Option<Slot<[u64; 2]>>>();
        let cases = [
            ("voice", AUDIO_PACKETS, AUDIO_BYTES, 50, 80, (8 << 10) + 64 * slot),
            ("thumbnail", VIDEO_PACKETS, VIDEO_BYTES, 20, 600, (16 << 10) + 32 * slot),
            ("300 kbit/s", VIDEO_PACKETS, VIDEO_BYTES, 40, 940, (64 << 10) + 64 * slot),
            ("1 Mbit/s", VIDEO_PACKETS, VIDEO_BYTES, 110, 1100, (256 << 10) + 256 * slot),
            ("2.5 Mbit/s", VIDEO_PACKETS, VIDEO_BYTES, 280, 1100, (400 << 10) + 512 * slot),
        ];
        for (name, packets, bytes, pps, len, memory) in cases {
            let (held, age_ms) = run(packets, bytes, pps, len);
            assert_eq!(held, memory, "{name}");
            assert!(age_ms >= 1_000, "{name}: {age_ms} ms");
        }
    }

    #[test]
    fn clearing_gives_memory_back() {
        let mut history = History::new(64, 10_000);
        history.insert(at(0), ExtendedSeq(1), (), &[], &[1]);
        history.clear();
        assert_eq!(history.memory_bytes(), 0);
        assert!(history.entry(ExtendedSeq(1)).is_none());
    }
}
