//! A receiver as libwebrtc has it: puts pictures together from packets, whatever their order, and
//! decodes one if all of it is there and what it refers to was decoded; by TL0PICIDX and picture
//! ids (VP8), by the distances of picture ids (VP9), by sequence numbers without a gap (H.264 and
//! AV1 without descriptors). Otherwise it waits, and asks for a key frame.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use opencall_wire::codec::Codec;
use opencall_wire::time::Time;

use super::packets::{Numbers, Part, assemble, read};
use crate::world::Received;

/// A receiver that decodes nothing for so long asks for a key frame.
const PATIENCE: Duration = Duration::from_millis(400);

/// Packets kept.
const MOST: usize = 600;

struct Packet {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// A picture to be decoded.
pub struct Decodable {
    pub key: bool,
    pub bytes: Vec<u8>,
}

/// Where decoding stands.
struct Decoded {
    /// Sequence number of the newest picture's last packet.
    end: i64,
    /// Ids of the pictures since a key picture.
    ids: VecDeque<u16>,
    /// The newest picture of the lowest temporal layer: its id and TL0PICIDX.
    lowest: (u16, u8),
}

/// Pictures that may be referred to.
const REMEMBERED: usize = 64;

pub struct Receiver {
    codec: Codec,
    packets: BTreeMap<i64, Packet>,
    highest: Option<i64>,
    decoded: Option<Decoded>,
    /// Numbers asked for again.
    asked: BTreeSet<i64>,
    /// When it decoded last, and asked last.
    content_since: Time,
}

impl Receiver {
    pub fn new(codec: Codec, now: Time) -> Self {
        Receiver {
            codec,
            packets: BTreeMap::new(),
            highest: None,
            decoded: None,
            asked: BTreeSet::new(),
            content_since: now,
        }
    }

    /// Takes a packet; returns what can be decoded with it, in order.
    pub fn receive(&mut self, now: Time, packet: &Received) -> Vec<Decodable> {
        if packet.payload.is_empty() {
            return Vec::new();
        }
        let highest = self.highest.unwrap_or(packet.header.sequence.into());
        let step = packet.header.sequence.wrapping_sub(highest as u16) as i16;
        let number = highest + i64::from(step);
        self.highest = Some(highest.max(number));
        if self.decoded.as_ref().is_some_and(|decoded| number <= decoded.end) {
            // Pictures are decoded in their order.
            return Vec::new();
        }
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        let kept = Packet { timestamp, marker, payload: packet.payload.clone() };
        self.packets.insert(number, kept);
        while self.packets.len() > MOST {
            self.packets.pop_first();
        }
        let decodable: Vec<Decodable> = std::iter::from_fn(|| self.next()).collect();
        if !decodable.is_empty() {
            self.content_since = now;
        }
        decodable
    }

    /// The numbers that are missing and were not asked for yet.
    pub fn missing(&mut self) -> Vec<u16> {
        let Some(highest) = self.highest else { return Vec::new() };
        let first = self.decoded.as_ref().map(|decoded| decoded.end + 1);
        let first = first.or(self.packets.keys().next().copied()).unwrap_or(highest);
        let missing = (first.max(highest - 100)..highest)
            .filter(|number| !self.packets.contains_key(number) && self.asked.insert(*number));
        missing.map(|number| number as u16).collect()
    }

    /// Whether to ask for a key frame.
    pub fn is_stuck(&mut self, now: Time) -> bool {
        let stuck = now.since(self.content_since) >= PATIENCE;
        if stuck {
            self.content_since = now;
        }
        stuck
    }

    /// The first whole picture that can be decoded now.
    fn next(&mut self) -> Option<Decodable> {
        let (range, key) = self
            .packets
            .iter()
            .filter(|(_, packet)| packet.marker)
            .find_map(|(&end, _)| self.picture_that_ends_at(end))?;
        let first = &self.packets[range.start()].payload;
        self.on_decoded(*range.end(), read(self.codec, first).numbers, key);
        let payloads = self.packets.range(range.clone()).map(|(_, packet)| &packet.payload[..]);
        let bytes = assemble(self.codec, payloads);
        // What is older than the newest decoded picture is of no use.
        self.packets = self.packets.split_off(&(range.end() + 1));
        Some(Decodable { key, bytes })
    }

    /// The packets of the picture with this marker, and whether it is a key picture, if it is whole
    /// and decodable.
    fn picture_that_ends_at(&self, end: i64) -> Option<(std::ops::RangeInclusive<i64>, bool)> {
        let timestamp = self.packets[&end].timestamp;
        let mut start = end;
        loop {
            let packet = self.packets.get(&start).filter(|packet| packet.timestamp == timestamp)?;
            let part = read(self.codec, &packet.payload);
            if part.key && part.begins {
                return Some((start..=end, true));
            }
            if self.continues(start, &part) {
                return Some((start..=end, false));
            }
            if part.begins {
                return None;
            }
            start -= 1;
        }
    }

    /// Whether a picture that is none by itself, whose first packet this may be, can be decoded.
    fn continues(&self, start: i64, part: &Part<'_>) -> bool {
        let Some(decoded) = &self.decoded else { return false };
        let Some(numbers) = part.numbers else { return decoded.end + 1 == start };
        if !part.begins {
            return false;
        }
        let is_decoded = |id: u16| decoded.ids.contains(&(id & 0x7fff));
        if self.codec == Codec::Vp9 {
            return part
                .distances
                .iter()
                .all(|&back| is_decoded(numbers.picture_id.wrapping_sub(back)));
        }
        let (lowest_id, lowest_tl0) = decoded.lowest;
        if numbers.temporal == 0 {
            return numbers.tl0 == lowest_tl0.wrapping_add(1);
        }
        let since = numbers.picture_id.wrapping_sub(lowest_id) & 0x7fff;
        let has_all = || (1..since).all(|back| is_decoded(numbers.picture_id.wrapping_sub(back)));
        numbers.tl0 == lowest_tl0 && (numbers.sync || has_all())
    }

    fn on_decoded(&mut self, end: i64, numbers: Option<Numbers>, key: bool) {
        let none = Decoded { end, ids: VecDeque::new(), lowest: (0, 0) };
        let before = self.decoded.take().filter(|_| !key);
        let mut decoded = Decoded { end, ..before.unwrap_or(none) };
        if let Some(numbers) = numbers {
            decoded.ids.push_back(numbers.picture_id);
            if decoded.ids.len() > REMEMBERED {
                decoded.ids.pop_front();
            }
            if numbers.temporal == 0 {
                decoded.lowest = (numbers.picture_id, numbers.tl0);
            }
        }
        self.decoded = Some(decoded);
    }
}
